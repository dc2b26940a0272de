package web_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/examples/internal/openapitest"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// document is as much of OpenAPI as the tests need.
type document struct {
	OpenAPI string
	Paths   map[string]map[string]struct {
		OperationID string
		Summary     string
		Security    []map[string]any
		Parameters  []struct{ Name, In string }
		RequestBody struct {
			Content map[string]struct{ Example any }
		}
		Responses map[string]any
	}
	Components struct {
		Schemas         map[string]json.RawMessage
		SecuritySchemes map[string]any
	}
}

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	r := s.do("GET", "/openapi.json", "").want(200)
	if r.Header.Get("Content-Type") != "application/openapi+json" {
		t.Errorf("%v", r.Header)
	}
	var doc document
	r.decode(&doc)
	if doc.OpenAPI != "3.1.0" || doc.Components.SecuritySchemes["bearer"] == nil {
		t.Errorf("got %q, %v", doc.OpenAPI, doc.Components.SecuritySchemes)
	}
	if y := s.do("GET", "/openapi.yaml", "").want(200); !strings.Contains(y.body, "openapi: 3.1.0") {
		t.Errorf("YAML: %.200s", y.body)
	}
	if old := s.do("GET", "/openapi-3.0.json", "").want(200); !strings.Contains(old.body, `"openapi": "3.0`) || strings.Contains(old.body, "contentMediaType") {
		t.Errorf("3.0: %.200s", old.body)
	}
	ids := map[string]bool{}
	var operations []string
	for path, methods := range doc.Paths {
		for method, op := range methods {
			operations = append(operations, strings.ToUpper(method)+" "+path)
			if op.OperationID == "" || ids[op.OperationID] || op.Summary == "" || len(op.Security) == 0 {
				t.Errorf("%s %s: %+v", method, path, op)
			}
			ids[op.OperationID] = true
			for status, response := range op.Responses {
				if status >= "400" && !strings.Contains(jsonOf(t, response), "#/components/responses/Problem") {
					t.Errorf("%s %s: %s is no problem", method, path, status)
				}
			}
			for _, part := range strings.Split(path, "/") {
				name := strings.Trim(part, "{}")
				if name == part {
					continue
				}
				if !slices.ContainsFunc(op.Parameters, func(p struct{ Name, In string }) bool { return p.Name == name && p.In == "path" }) {
					t.Errorf("%s %s: no parameter %s", method, path, name)
				}
			}
			// What the document names is there, and nothing else than what it says.
			target := strings.NewReplacer("{id}", nobody, "{address}", "192.0.2.1").Replace(path)
			for _, header := range [][]string{nil, {"Accept", "image/png"}, {"Prefer", "wait=x"}} {
				got := s.do(strings.ToUpper(method), target, "", header...)
				status := got.Status[:3]
				if op.Responses[status] == nil {
					t.Errorf("%s %s %v: answers %s, which the document does not have", method, path, header, status)
				}
			}
		}
	}
	if op := doc.Paths["/api/v1/partials"]["post"]; op.RequestBody.Content["application/json"].Example == nil || len(op.Parameters) != 2 {
		t.Errorf("createPartial: %+v", op)
	}
	// A job that failed is answered with its problem wherever its result is asked for.
	for _, path := range []string{"/api/v1/partials/{id}", "/api/v1/partials/{id}/report", "/api/v1/partials/{id}/provenance"} {
		for _, status := range []string{"409", "410", "422", "424", "507"} {
			if doc.Paths[path]["get"].Responses[status] == nil {
				t.Errorf("GET %s: the document does not have %s", path, status)
			}
		}
	}
	for _, name := range []string{"ErrorModel", "ErrorDetail"} {
		if doc.Components.Schemas[name] != nil {
			t.Errorf("nothing uses %s", name)
		}
	}
	if !strings.Contains(string(doc.Components.Schemas["Status"]), `"verifying"`) {
		t.Errorf("the states are not listed: %s", doc.Components.Schemas["Status"])
	}
	slices.Sort(operations)
	for _, want := range []string{
		"GET /api/v1/partials/{id}", "GET /api/v1/jobs/{id}/events", "GET /api/v1/jobs/{id}/log", "POST /api/v1/uploads", "POST /api/v1/partials:check",
	} {
		if _, ok := slices.BinarySearch(operations, want); !ok {
			t.Errorf("the document has no %s", want)
		}
	}
}

// The documents are ones by the rules of their versions, as JSON and as YAML, and what the service answers is what the newer
// one says: every GET, of jobs in every state, and what is asked for.
func TestOpenAPIHolds(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	pages := furnish(t, s)
	for _, path := range []string{"/openapi.json", "/openapi.yaml", "/openapi-3.0.json"} {
		openapitest.Valid(t, []byte(s.do("GET", path, "").want(200).body))
	}
	r := s.do("GET", "/openapi.json", "").want(200)
	var doc document
	r.decode(&doc)
	api := openapitest.New(t, []byte(r.body))
	answered := 0
	ask := func(method, path, body string, header ...string) {
		t.Helper()
		r := s.do(method, path, body, header...)
		switch r.Header.Get("Content-Type") { // what is no JSON document is bytes, or text, and the document says no more of it
		case "application/x-ndjson", "application/zip", "application/octet-stream":
		default:
			api.Answer(t, r.Response, []byte(body), []byte(r.body))
			answered++
		}
	}
	ids := []string{nobody, "x"}
	for _, page := range pages {
		for _, prefix := range []string{"/jobs/", "/batches/"} {
			if id, ok := strings.CutPrefix(page, prefix); ok && !strings.Contains(id, "/") && id != "new" {
				ids = append(ids, id)
			}
		}
	}
	for path, methods := range doc.Paths {
		if _, ok := methods["get"]; !ok || strings.HasSuffix(path, "/events") {
			continue
		}
		for _, id := range ids {
			ask("GET", strings.NewReplacer("{id}", id, "{address}", "192.0.2.1").Replace(path), "")
			if !strings.Contains(path, "{id}") {
				break
			}
		}
	}
	ask("POST", "/api/v1/partials:check", spec(hashA, hashC))
	ask("POST", "/api/v1/partials", spec(hashA, hashC))
	ask("POST", "/api/v1/partials", `{"from":{}}`)
	ask("POST", "/api/v1/batches", matrix())
	ask("POST", "/api/v1/bans", `{"address":"192.0.2.9","seconds":60,"reason":"x"}`)
	ask("DELETE", "/api/v1/bans/192.0.2.9", "")
	ask("DELETE", "/api/v1/jobs/"+nobody, "")
	ask("POST", "/api/v1/purge", `{"before":"2020-01-01T00:00:00Z"}`)
	ask("GET", "/api/v1/history?state=failed&limit=2", "")
	ask("GET", "/api/v1/history?limit=x", "")
	if answered < 60 {
		t.Errorf("only %d answers were compared", answered)
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestChecksAreDocumented: the manual explains every check.
func TestChecksAreDocumented(t *testing.T) {
	t.Parallel()
	manual, err := os.ReadFile(filepath.Join(testkit.Root(t), "docs", "api.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| ").FindAllStringSubmatch(string(manual), -1)
	var documented []senbonzakura.Check
	for _, row := range rows {
		documented = append(documented, senbonzakura.Check(row[1]))
	}
	for _, c := range senbonzakura.Checks() {
		if !slices.Contains(documented, c) {
			t.Errorf("docs/api.md has no line for the check %s", c)
		}
	}
}

// TestCodesAreDocumented: the page and the manual know every code.
func TestCodesAreDocumented(t *testing.T) {
	t.Parallel()
	manual, err := os.ReadFile(filepath.Join(testkit.Root(t), "docs", "api.md"))
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, everything)
	codes := regexp.MustCompile(`<tr id="([a-z-]+)">`).FindAllStringSubmatch(s.do("GET", "/problems", "").want(200).body, -1)
	if len(codes) < 25 {
		t.Errorf("only %d codes on the page", len(codes))
	}
	for _, c := range codes {
		if !strings.Contains(string(manual), "`"+c[1]+"`") {
			t.Errorf("docs/api.md does not say what %s is", c[1])
		}
	}
}
