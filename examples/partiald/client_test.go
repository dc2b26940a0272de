package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/testrelease"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// clientProgram makes a partial with the generated client.
const clientProgram = `package main

import (
	"context"
	"fmt"
	"os"

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
	for _, name := range os.Args[2:] {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		up, err := c.UploadWithBodyWithResponse(ctx, "application/octet-stream", file)
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
	n := newNode(t)
	n.start()
	dir := t.TempDir()
	from, to := testrelease.Complete(t, "152.0", ""), testrelease.Complete(t, "153.0", "")
	if err := os.Mkdir(filepath.Join(dir, "api"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"openapi.json": n.get("/openapi.json"),
		"main.go":      []byte(clientProgram),
		"go.mod":       []byte("module example.org/client\n\ngo 1.26\n"),
		"from.mar":     from,
		"to.mar":       to,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
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
	proves(t, from, run("go", "run", ".", "http://"+n.addr, "from.mar", "to.mar"), to)
}
