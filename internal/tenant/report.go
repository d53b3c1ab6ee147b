// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// maxMessage bounds what a message says of a value, in bytes; what follows is where the value comes from.
const maxMessage = 600

// reportErrors reports what is wrong with the fields of a document, each at its line. class is nil
// where there is none.
func (l *loader) reportErrors(doc *document, class *class, tenant string, errs field.ErrorList) {
	slices.SortStableFunc(errs, func(a, b *field.Error) int { return cmp.Compare(a.Field, b.Field) })
	told := map[string]bool{}
	for i, err := range errs {
		if i == maxFindings {
			l.report(doc.file, doc.line, tenant, "", v1alpha1.InvalidDefinitionReason, fmt.Sprintf("and %d mistakes more", len(errs)-i))
			return
		}
		line, value, complete := doc.root.find(err.Field)
		message := describe(err)
		if err.Type == field.ErrorTypeTypeInvalid && complete && value.kind == yaml.ScalarNode && value.misread() {
			message += fmt.Sprintf(" (YAML reads %s as a boolean: quote it if it is text)", value.text)
		}
		if class != nil {
			message += class.contribution(err.Field, value, complete)
		}
		if line == 0 {
			line = doc.line
		}
		if key := err.Field + "\n" + message; !told[key] {
			told[key] = true
			l.report(doc.file, line, tenant, err.Field, v1alpha1.InvalidDefinitionReason, message)
		}
	}
}

// misread tells whether YAML takes for a boolean what a person may have meant as text.
func (n *node) misread() bool {
	_, is := n.scalar.(bool)
	return is && n.text != "true" && n.text != "false"
}

// contribution says what part a class has in a value: all of it, or some fields of an object.
func (c *class) contribution(path string, own *node, complete bool) string {
	inSpec, ok := strings.CutPrefix(path, "spec.")
	if !ok {
		return ""
	}
	line, value, inClass := c.spec.find(inSpec)
	at := place(c.doc.file, line)
	switch {
	case !inClass:
		return ""
	case !complete:
		return fmt.Sprintf(" (the value comes from TenantClass %s at %s)", c.doc.name(), at)
	case own.index != nil && value.index != nil:
		return fmt.Sprintf(" (merged with TenantClass %s at %s; null removes a field that comes from there)", c.doc.name(), at)
	default:
		return ""
	}
}

// Describe words errors of fields, in the cluster as offline.
func Describe(errs field.ErrorList) string {
	texts := make([]string, 0, len(errs))
	for _, err := range errs {
		if text := err.Field + ": " + describe(err); !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, "; ")
}

// describe words an error of a field: what was found and what was expected.
func describe(err *field.Error) string {
	message := ""
	switch err.Type {
	case field.ErrorTypeForbidden:
		message = err.Detail
	case field.ErrorTypeTypeInvalid:
		message = strings.ReplaceAll(err.Detail, err.Field+" in body ", "")
	case field.ErrorTypeRequired:
		message = "missing: set it"
		if err.Detail != "" {
			message = "missing: " + err.Detail
		}
	default:
		message = strings.ReplaceAll(err.ErrorBody(), err.Field+" in body ", "")
		message = strings.TrimPrefix(message, field.ErrorTypeInvalid.String()+": ")
	}
	return shorten(message, maxMessage)
}

// Bounded cuts the texts of a problem to what the status of a TenantRepository takes. They hold what
// others wrote: a path, a key and a name may be as long as the file lets them.
func Bounded(p v1alpha1.Problem) v1alpha1.Problem {
	file, line := p.File, ""
	if i := strings.LastIndexByte(file, ':'); i >= 0 && len(file)-i <= 8 {
		file, line = file[:i], file[i:]
	}
	p.File = shorten(file, v1alpha1.MaxProblemText-len(line)) + line
	p.Tenant = shorten(p.Tenant, v1alpha1.MaxProblemText)
	p.Field = shorten(p.Field, v1alpha1.MaxProblemText)
	p.Message = shorten(p.Message, v1alpha1.MaxProblemMessage)
	return p
}

// shorten cuts a text that has more than so many bytes, at a character, and puts … at its end.
func shorten(s string, most int) string {
	const mark = "…"
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most-len(mark)], "") + mark
}

// DescribeProblem is "file:line: field: message", as far as these are known.
func DescribeProblem(p v1alpha1.Problem) string {
	parts := slices.DeleteFunc([]string{p.File, p.Field, p.Message}, func(part string) bool { return part == "" })
	return strings.Join(parts, ": ")
}
