// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"fmt"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	crd "github.com/digihunch/korthweb/config/crd"
)

// schema judges values of one shape as the apiserver would.
type schema struct {
	structural *structuralschema.Structural
	openapi    validation.SchemaValidator
	cel        *cel.Validator
}

// schemas of a whole Tenant, and of the spec of a TenantClass. Compiling the CEL rules takes tens of
// milliseconds, so it happens once, on first use.
var schemas = sync.OnceValue(func() (s struct{ tenant, class schema }) {
	props := readProps(crd.TenantFile)
	s.tenant = newSchema(props, true)
	s.class = newSchema(classProps(props), false)
	return s
})

// repositorySchema is that of a TenantRepository.
var repositorySchema = sync.OnceValue(func() schema { return newSchema(readProps(crd.TenantRepositoryFile), true) })

// readProps returns the schema of a kind in its embedded CustomResourceDefinition. That it is there
// and sound is a property of the binary, so anything else is a panic.
func readProps(file string) *apiextensions.JSONSchemaProps {
	data, err := crd.Bases.ReadFile(file)
	if err != nil {
		panic(fmt.Sprintf("embedded CustomResourceDefinition: %v", err))
	}
	definition := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.Unmarshal(data, definition); err != nil {
		panic(fmt.Sprintf("embedded CustomResourceDefinition: %v", err))
	}
	props := &apiextensions.JSONSchemaProps{}
	v1 := definition.Spec.Versions[0].Schema.OpenAPIV3Schema
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v1, props, nil); err != nil {
		panic(fmt.Sprintf("embedded CustomResourceDefinition: %v", err))
	}
	return props
}

// classProps returns the schema of a TenantClass's spec: that of a Tenant's, where nothing is
// required, and without the rules that compare the fields of an object, since a class holds only
// some of them. The resolved tenant is judged by all rules.
func classProps(tenant *apiextensions.JSONSchemaProps) *apiextensions.JSONSchemaProps {
	spec := tenant.Properties["spec"]
	class := spec.DeepCopy()
	for _, name := range tenantOnlyFields {
		delete(class.Properties, name)
	}
	relax(class)
	return class
}

func relax(props *apiextensions.JSONSchemaProps) {
	// The entries of a list are replaced as a whole, so they are complete in a class too.
	if props.Type != "object" {
		return
	}
	props.Required = nil
	props.XValidations = nil
	for name, property := range props.Properties {
		relax(&property)
		props.Properties[name] = property
	}
}

func newSchema(props *apiextensions.JSONSchemaProps, root bool) schema {
	structural, err := structuralschema.NewStructural(props)
	if err != nil {
		panic(fmt.Sprintf("embedded CustomResourceDefinition: %v", err))
	}
	openapi, _, err := validation.NewSchemaValidator(props)
	if err != nil {
		panic(fmt.Sprintf("embedded CustomResourceDefinition: %v", err))
	}
	return schema{
		structural: structural,
		openapi:    openapi,
		cel:        cel.NewValidator(structural, root, celconfig.PerCallLimit),
	}
}
