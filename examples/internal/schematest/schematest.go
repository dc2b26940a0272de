// Package schematest makes the schemas in docs/schemas of the types that programs print with --json, for tests that compare
// them with those that are there, and real output with them.
package schematest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/senbonzakura/senbonzakura/internal/layering"
	"github.com/senbonzakura/senbonzakura/internal/testkit/schema"
)

// A Schema is what a command prints.
type Schema struct {
	File               string // where it is published
	Title, Description string
	Values             []any // one of each type
	// Foreign are values whose form is somebody else's: keys need not be in snake_case, and pointers may be null.
	Foreign []any
}

var snake = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// Check fails the test where the published schema is not what the types, and the comments of their fields, say, and where a key
// is not in snake_case. With update it is published anew.
func (p Schema) Check(t *testing.T, update bool) {
	t.Helper()
	made := open(p.make(t))
	var foreign []string
	for _, v := range p.Foreign {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			foreign = append(foreign, name)
		}
	}
	schema.Walk(made, func(s *jsonschema.Schema) {
		for key := range s.Properties {
			if !snake.MatchString(key) && !slices.Contains(foreign, key) {
				t.Errorf("%s: %q is not in snake_case", p.Title, key)
			}
		}
	})
	text, err := json.MarshalIndent(made, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	if update {
		if err := os.MkdirAll(filepath.Dir(p.File), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p.File, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(p.File); err != nil {
		t.Error(err)
	} else if !bytes.Equal(got, text) {
		t.Errorf("%s is not what the command's types say: go test -run TestSchemas -update, here", p.File)
	}
}

// make makes the schema of the types, with what their fields' comments say.
func (p Schema) make(t *testing.T) *jsonschema.Schema {
	t.Helper()
	s := &jsonschema.Schema{Schema: "https://json-schema.org/draft/2020-12/schema", Title: p.Title, Description: p.Description}
	for _, v := range p.Values {
		typ := reflect.TypeOf(v)
		one, err := jsonschema.ForType(typ, &jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
			reflect.TypeFor[time.Time](): {Type: "string", Format: "date-time"},
		}})
		if err != nil {
			t.Fatalf("%s: %v", p.Title, err)
		}
		p.inWords(t, one, typ)
		s.OneOf = append(s.OneOf, one)
	}
	return s
}

// inWords takes out null, which is never printed but where others print it, and puts in what comments say.
func (p Schema) inWords(t *testing.T, s *jsonschema.Schema, typ reflect.Type) {
	t.Helper()
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if len(s.Types) > 0 {
		s.Types = slices.DeleteFunc(s.Types, func(kind string) bool { return kind == "null" })
		if len(s.Types) == 1 {
			s.Type, s.Types = s.Types[0], nil
		}
	}
	switch typ.Kind() {
	case reflect.Slice, reflect.Array:
		if s.Items != nil {
			p.inWords(t, s.Items, typ.Elem())
		}
	case reflect.Map:
		if s.AdditionalProperties != nil {
			p.inWords(t, s.AdditionalProperties, typ.Elem())
		}
	case reflect.Struct:
		foreign := slices.ContainsFunc(p.Foreign, func(v any) bool { return reflect.TypeOf(v) == typ })
		for _, f := range reflect.VisibleFields(typ) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			property := s.Properties[name]
			if property == nil {
				continue
			}
			p.inWords(t, property, f.Type)
			if foreign && f.Type.Kind() == reflect.Pointer && property.Type != "" {
				property.Type, property.Types = "", []string{"null", property.Type}
			}
			owner := typ
			if len(f.Index) > 1 {
				owner = typ.FieldByIndex(f.Index[:len(f.Index)-1]).Type
			}
			if property.Description == "" {
				property.Description = cmp.Or(fieldComment(t, owner, f.Name), f.Tag.Get("doc"))
			}
		}
	}
}

var comments = map[string]map[string]string{} // by package, then Type.Field

// fieldComment is what the source says of a field.
func fieldComment(t *testing.T, typ reflect.Type, field string) string {
	t.Helper()
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	path, inside := strings.CutPrefix(typ.PkgPath(), layering.Module+"/")
	if typ.PkgPath() == "main" { // the program whose test this is
		dir, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		path, inside = "examples/"+filepath.Base(dir), true
	}
	if !inside {
		return ""
	}
	if comments[path] == nil {
		comments[path] = map[string]string{}
		sources, err := filepath.Glob(filepath.Join("../..", filepath.FromSlash(path), "*.go"))
		if err != nil || len(sources) == 0 {
			t.Fatalf("no source of %s: %v", path, err)
		}
		for _, name := range sources {
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				spec, ok := n.(*ast.TypeSpec)
				if !ok {
					return true
				}
				if body, ok := spec.Type.(*ast.StructType); ok {
					for _, f := range body.Fields.List {
						for _, id := range f.Names {
							text := f.Doc.Text()
							if text == "" {
								text = f.Comment.Text()
							}
							comments[path][spec.Name.Name+"."+id.Name] = strings.Join(strings.Fields(text), " ")
						}
					}
				}
				return true
			})
		}
	}
	return comments[path][typ.Name()+"."+field]
}

// open lets a schema take fields that it does not name, which later versions may add.
func open(s *jsonschema.Schema) *jsonschema.Schema {
	s = s.CloneSchemas()
	schema.Walk(s, func(s *jsonschema.Schema) {
		if s.Properties != nil {
			s.AdditionalProperties = nil
		}
	})
	return s
}
