// Package schema checks, for tests, that what is printed is what a published JSON Schema says, and has no key that the
// schema does not name. The schemas themselves let such keys pass: later versions may add some.
package schema

import (
	"encoding/json"
	"os"

	"github.com/google/jsonschema-go/jsonschema"
)

// Schema is a published schema, made strict. Safe for concurrent use.
type Schema struct{ resolved *jsonschema.Resolved }

// Read reads a schema from a file. def names one of its definitions to check against, "" is the whole.
func Read(name, def string) (*Schema, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, err
	}
	Walk(&s, func(s *jsonschema.Schema) {
		if s.Properties != nil && s.AdditionalProperties == nil {
			s.AdditionalProperties = &jsonschema.Schema{Not: &jsonschema.Schema{}}
		}
	})
	if def != "" {
		s.OneOf, s.Ref = nil, "#/$defs/"+def
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		return nil, err
	}
	return &Schema{resolved}, nil
}

// Check says where a JSON text is not what the schema says.
func (s *Schema) Check(text []byte) error {
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	return s.resolved.Validate(v)
}

// Walk visits a schema and those in it.
func Walk(s *jsonschema.Schema, visit func(*jsonschema.Schema)) {
	if s == nil {
		return
	}
	visit(s)
	for _, p := range s.Properties {
		Walk(p, visit)
	}
	for _, p := range s.Defs {
		Walk(p, visit)
	}
	for _, p := range s.OneOf {
		Walk(p, visit)
	}
	Walk(s.Items, visit)
	Walk(s.AdditionalProperties, visit)
}
