package verify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// schemaNode is as much of JSON Schema as the schema of the results uses.
type schemaNode struct {
	Ref        string                 `json:"$ref"`
	Type       string                 `json:"type"`
	Const      any                    `json:"const"`
	Enum       []any                  `json:"enum"`
	Required   []string               `json:"required"`
	Properties map[string]*schemaNode `json:"properties"`
	Additional *schemaNode            `json:"additionalProperties"`
	Items      *schemaNode            `json:"items"`
	MaxItems   int                    `json:"maxItems"`
	Defs       map[string]*schemaNode `json:"$defs"`
}

// check says where a value is not what the schema says; keys that it does not name are wrong, too.
func (s *schemaNode) check(root *schemaNode, at string, v any) (wrong []string) {
	if s.Ref != "" {
		return root.Defs[strings.TrimPrefix(s.Ref, "#/$defs/")].check(root, at, v)
	}
	if s.Const != nil && s.Const != v || s.Enum != nil && !slices.Contains(s.Enum, v) {
		return []string{fmt.Sprintf("%s: %v is not allowed", at, v)}
	}
	kinds := map[string]bool{}
	switch v := v.(type) {
	case string:
		kinds["string"] = true
	case bool:
		kinds["boolean"] = true
	case float64:
		kinds["integer"] = v == float64(int64(v))
	case []any:
		kinds["array"] = true
		if s.MaxItems > 0 && len(v) > s.MaxItems {
			wrong = append(wrong, at+": too many")
		}
		for i, item := range v {
			if s.Items != nil {
				wrong = append(wrong, s.Items.check(root, fmt.Sprintf("%s[%d]", at, i), item)...)
			}
		}
	case map[string]any:
		kinds["object"] = true
		for _, key := range s.Required {
			if _, ok := v[key]; !ok {
				wrong = append(wrong, at+"."+key+" is missing")
			}
		}
		for key, item := range v {
			of := s.Properties[key]
			if of == nil {
				of = s.Additional
			}
			if of == nil {
				wrong = append(wrong, at+"."+key+" is not in the schema")
				continue
			}
			wrong = append(wrong, of.check(root, at+"."+key, item)...)
		}
	}
	if s.Type != "" && !kinds[s.Type] {
		wrong = append(wrong, fmt.Sprintf("%s: %T, want %s", at, v, s.Type))
	}
	return wrong
}

// Every line of the results of every sample is what the schema says.
func TestSchema(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/verify-updates.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema schemaNode
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	reports := map[string]*Report{"many failures": many(t, 100)}
	r := smallRelease(t, 3, 5, 1)
	r.plant()
	if reports["run"], err = Run(t.Context(), r.config(), r.options(t)); err != nil {
		t.Fatal(err)
	}
	for _, s := range samples(t) {
		reports[s.name] = read(t, s.text)
	}
	for name, report := range reports {
		var b bytes.Buffer
		if err := report.WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
		lines := bytes.Split(bytes.TrimSpace(b.Bytes()), []byte("\n"))
		for i, line := range lines {
			kind := "test"
			switch i {
			case 0:
				kind = "run"
			case len(lines) - 1:
				kind = "totals"
			}
			var v any
			if err := json.Unmarshal(line, &v); err != nil {
				t.Fatal(err)
			}
			if wrong := schema.Defs[kind].check(&schema, kind, v); len(wrong) > 0 {
				t.Errorf("%s, line %d: %q", name, i+1, wrong)
			}
		}
	}
}
