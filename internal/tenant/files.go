// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

const (
	// maxFileSize bounds one file, in bytes.
	maxFileSize = 1 << 20

	// maxFiles bounds the files that are read.
	maxFiles = 5000

	// maxDocuments bounds the documents of one file that are read.
	maxDocuments = 1000

	// maxAllDocuments bounds the documents that are read, up to the end of the file that exceeds it.
	maxAllDocuments = 20_000
)

// document is one YAML document of a file.
type document struct {
	file     string
	line     int // of its first field
	root     *node
	findings []finding
	oversize bool // root holds too much to be expanded and judged
}

// directory checks that name is a directory that is reached without a symbolic link.
func directory(fsys fs.FS, name string) error {
	if !fs.ValidPath(name) {
		return fmt.Errorf("path %q leaves the source or is no relative path: name a directory within it", name)
	}
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			continue
		}
		part := name[:i]
		info, err := fs.Lstat(fsys, part)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("path %q is not in the source: %w", part, err)
		case err != nil:
			return fmt.Errorf("reading path %q: %w", part, err)
		case info.Mode()&fs.ModeSymlink != 0:
			return fmt.Errorf("path %q is a symbolic link: name the directory itself", part)
		case !info.IsDir():
			return fmt.Errorf("path %q is a file: name a directory of tenant files", part)
		}
	}
	return nil
}

// list returns the YAML files below a directory in order of their paths. Names that begin with a
// dot are left out, and what is neither a file nor a directory is a problem.
func (l *loader) list(root string) ([]string, error) {
	var files []string
	left := 0
	err := fs.WalkDir(l.fsys, root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && name == root:
			return fmt.Errorf("reading path %q: %w", root, err)
		case err != nil:
			l.unread(name, fmt.Sprintf("cannot be read: %v", err))
			return nil
		case name != root && strings.HasPrefix(path.Base(name), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return nil
		case d.Type()&fs.ModeSymlink != 0:
			l.unread(name, "is a symbolic link, which is not followed: put the file itself here")
			return nil
		case !d.Type().IsRegular():
			l.unread(name, "is not a regular file (a submodule, perhaps), which is not followed: put the files themselves here")
			return nil
		case !isYAML(name) && isYAML(strings.ToLower(strings.TrimSpace(name))):
			l.malformed(name, 1, "is not read: its name must end in .yaml or .yml")
			return nil
		case !isYAML(name):
			return nil
		case len(files) == maxFiles:
			left++
			return nil
		}
		files = append(files, name)
		return nil
	})
	if left > 0 {
		l.unread(root, fmt.Sprintf("holds %d YAML files, and only the first %d in order of their paths are read: "+
			"use several TenantRepositories", len(files)+left, maxFiles))
	}
	return files, err
}

func isYAML(name string) bool {
	ext := path.Ext(name)
	return ext == ".yaml" || ext == ".yml"
}

// read returns the documents of a file.
func (l *loader) read(name string) []document {
	data, err := l.content(name)
	if err != nil {
		l.report(name, 1, "", "", v1alpha1.MalformedFileReason, err.Error())
		l.problems[len(l.problems)-1].unread = true
		return nil
	}
	l.noteMentions(name, data)
	return l.parse(name, data)
}

// parse returns the documents of a file's text. A file with a mistake in its YAML defines nothing, not even
// in the documents before that: what is half written is not taken.
func (l *loader) parse(name string, data []byte) []document {
	if line, message := checkText(data); message != "" {
		l.malformed(name, line, message)
		return nil
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))

	var docs []document
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var in yaml.Node
		err := decoder.Decode(&in)
		if errors.Is(err, io.EOF) {
			return docs
		}
		if err != nil {
			line, message := syntaxError(err, data)
			l.malformed(name, line, message)
			return nil
		}
		if len(docs) == maxDocuments {
			l.malformed(name, in.Line, fmt.Sprintf("more than %d documents in one file: split it", maxDocuments))
			return nil
		}
		if doc, ok := convertDocument(name, &in); ok {
			docs = append(docs, doc)
		}
	}
}

// noteMentions notes which tenants that exist a file speaks of.
func (l *loader) noteMentions(file string, data []byte) {
	if len(l.existing) == 0 {
		return
	}
	data = bytes.ReplaceAll(data, []byte{0}, nil) // so that UTF-16 is read too
	for _, word := range bytes.FieldsFunc(data, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
	}) {
		if name := string(bytes.Trim(word, "-")); l.existing[name] {
			if l.mentions[file] == nil {
				l.mentions[file] = map[string]bool{}
			}
			l.mentions[file][name] = true
		}
	}
}

// content reads a file that is not too large.
func (l *loader) content(name string) ([]byte, error) {
	tooLarge := func(size int64) error {
		return fmt.Errorf("is %d bytes large, and %d (1 MiB) is the limit: split it", size, maxFileSize)
	}
	f, err := l.fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	if info.Size() > maxFileSize {
		return nil, tooLarge(info.Size())
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	if len(data) > maxFileSize {
		return nil, tooLarge(int64(len(data)))
	}
	return data, nil
}

// checkText says what keeps data from being UTF-8 text.
func checkText(data []byte) (line int, message string) {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return 1, "is UTF-16: save it as UTF-8"
	}
	lineOf := func(at int) int { return 1 + bytes.Count(data[:at], []byte("\n")) }
	if at := bytes.IndexByte(data, 0); at >= 0 {
		return lineOf(at), "holds a NUL byte: this is no text file, or it was damaged"
	}
	if utf8.Valid(data) {
		return 0, ""
	}
	for at := 0; ; {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size <= 1 {
			return lineOf(at), fmt.Sprintf("holds the byte 0x%02x, which is not UTF-8: save it as UTF-8", data[at])
		}
		at += size
	}
}

var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)

// syntaxError takes yaml.v3's message apart.
func syntaxError(err error, data []byte) (line int, message string) {
	line, message = 1, err.Error()
	if m := yamlError.FindStringSubmatch(message); m != nil {
		message = m[2]
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
			// Of yaml.v3's two kinds of error, the parser's count lines from 0.
			if strings.HasPrefix(message, "did not find expected") {
				line++
			}
		}
	}
	message = "is not YAML: " + message
	lines := bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
	line = min(line, len(lines))
	for i, text := range lines {
		if bytes.HasPrefix(bytes.TrimLeft(text, " "), []byte("\t")) && i+1 <= line+1 {
			return i + 1, message + "; this line is indented with a tab, YAML takes only spaces"
		}
	}
	return line, message
}

// convertDocument makes a document of yaml.v3's; ok is false for an empty one.
func convertDocument(file string, in *yaml.Node) (doc document, ok bool) {
	if in.Kind == yaml.DocumentNode {
		in = in.Content[0]
	}
	if in.Kind == yaml.ScalarNode && in.ShortTag() == "!!null" {
		return document{}, false
	}
	doc = document{file: file, line: in.Line}
	c := &converter{seen: map[*yaml.Node]*node{}}
	doc.root = c.convert(in, "", 0)
	doc.findings, doc.oversize = c.findings, c.oversize
	switch {
	case doc.root.kind != yaml.MappingNode:
		doc.findings = append(doc.findings, finding{doc.line, "", "the document is not a mapping: expected apiVersion, kind, metadata and spec"})
	case doc.root.size > maxValues:
		doc.findings = append(doc.findings, finding{doc.line, "", fmt.Sprintf("the document holds more than %d values when its aliases are expanded", maxValues)})
		doc.oversize = true
	}
	return doc, true
}
