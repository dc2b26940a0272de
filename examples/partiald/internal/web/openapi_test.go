package web_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job/jobtest"
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
	if old := s.do("GET", "/openapi-3.0.json", "").want(200); !strings.Contains(old.body, `"openapi":"3.0`) {
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
			got := s.do(strings.ToUpper(method), target, "")
			status := got.Status[:3]
			if op.Responses[status] == nil {
				t.Errorf("%s %s: answers %s, which the document does not have", method, path, status)
			}
		}
	}
	if op := doc.Paths["/api/v1/partials"]["post"]; op.RequestBody.Content["application/json"].Example == nil || len(op.Parameters) != 2 {
		t.Errorf("createPartial: %+v", op)
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

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// clientProgram makes a partial with the generated client.
const clientProgram = `package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"example.org/client/api"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	c, err := api.NewClientWithResponses(os.Args[1])
	if err != nil {
		return err
	}
	var sources []api.Source
	for _, content := range []string{"old", "new"} {
		up, err := c.UploadWithBodyWithResponse(ctx, "application/octet-stream", strings.NewReader(content))
		if err != nil {
			return err
		}
		if up.JSON201 == nil {
			return fmt.Errorf("upload: %s %s", up.Status(), up.Body)
		}
		sources = append(sources, api.Source{Sha512: &up.JSON201.Sha512})
	}
	wait := "wait=20"
	made, err := c.CreatePartialWithResponse(ctx, &api.CreatePartialParams{Prefer: &wait}, api.Spec{From: sources[0], To: sources[1]})
	if err != nil {
		return err
	}
	if made.JSON200 == nil {
		return fmt.Errorf("create: %s %s", made.Status(), made.Body)
	}
	report, err := c.GetReportWithResponse(ctx, made.JSON200.Id)
	if err != nil || report.JSON200 == nil || !report.JSON200.Verified {
		return fmt.Errorf("report: %v %+v", err, report)
	}
	file, err := c.DownloadPartialWithResponse(ctx, made.JSON200.Id)
	if err != nil {
		return err
	}
	none, err := c.GetJobWithResponse(ctx, "x", &api.GetJobParams{})
	if err != nil {
		return err
	}
	if none.ApplicationproblemJSON404 == nil || none.ApplicationproblemJSON404.Code != "not-found" {
		return fmt.Errorf("no problem: %s %s", none.Status(), none.Body)
	}
	_, err = os.Stdout.Write(file.Body)
	return err
}
`

// TestGeneratedClient makes a partial with a client that oapi-codegen made of the served document.
func TestGeneratedClient(t *testing.T) {
	if testkit.Count(0, 1, 1) == 0 {
		t.Skip("generating and compiling a client takes several seconds of CPU (SENBON_GATE=1)")
	}
	generator, err := exec.LookPath("oapi-codegen")
	if err != nil {
		t.Skip("no oapi-codegen: go install github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2")
	}
	_, _, out := realPartial(t)
	svc := jobtest.New()
	svc.OnSubmit = func(st job.Status) { svc.Finish(st.ID, out) }
	s := openWith(t, svc, everything)
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "api"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"openapi.json": s.do("GET", "/openapi.json", "").want(200).body,
		"main.go":      clientProgram,
		"go.mod":       "module example.org/client\n\ngo 1.26\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		var stderr strings.Builder
		cmd.Stderr = &stderr
		data, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.String())
		}
		return data
	}
	run(generator, "-generate", "types,client", "-package", "api", "-o", "api/client.go", "openapi.json")
	run("go", "mod", "tidy")
	if got := run("go", "run", ".", s.srv.URL); string(got) != string(out.Partial) {
		t.Errorf("the client has %d bytes, want %d", len(got), len(out.Partial))
	}
}
