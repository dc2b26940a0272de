package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
	"github.com/senbonzakura/senbonzakura/examples/internal/doctest"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/testrelease"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// Every example of help, and every command of the documents, is run as it stands there, beside a server. What stands for
// others' machines and directories is replaced by some here; loads last a hundredth of their time, and are left out in quick runs. What would serve has its
// configuration checked instead.
func TestExamples(t *testing.T) {
	lines := doctest.Examples((&app{}).root())
	for _, name := range []string{"README.md", "docs/deploy.md", "docs/operations.md", "docs/ilities.md"} {
		text, err := os.ReadFile(filepath.Join(testkit.Root(t), filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, doctest.Lines(strings.ReplaceAll(string(text), "go run ./examples/partiald", "partiald"), "partiald")...)
	}
	dir := testkit.MemoryDir(t)
	t.Chdir(dir)
	if err := errors.Join(os.MkdirAll("etc/partiald", 0o755), os.Mkdir("backup", 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"partiald.toml", "etc/partiald/partiald.toml"} {
		writeFile(t, dir, name, "")
	}
	n := newNode(t)
	n.start()
	prometheus := httptest.NewServer(http.NotFoundHandler())
	defer prometheus.Close()
	replace := strings.NewReplacer("/etc/", "etc/", "/backup/", "backup/", "/tmp/try", "try", "$(date +%F)", "today", "http://127.0.0.1:9090", prometheus.URL,
		"http://127.0.0.1:8080", "http://"+n.addr, "https://updates.example.com", "http://"+n.addr)
	ran := map[string]int{}
	for _, line := range lines {
		commands, err := doctest.Parse(replace.Replace(line))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range commands {
			if c.Words[0] != "partiald" {
				continue
			}
			args, name, codes := c.Words[1:], "", []int{cli.ExitDone}
			if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
				name = args[0]
			}
			switch name {
			case "", "run":
				if args = args[len(strings.Fields(name)):]; !slices.Contains(args, "--check-config") {
					args = append(args, "--check-config")
				}
			case "loadtest":
				if !slices.Contains(args, "--list") && testkit.Count(0, 1, 1) == 0 { // 25 seconds in all
					continue
				}
				args = append(args, "--time", "0.01", "--rate", "0.2", "--noise", "99", "--errors", "1")
			case "healthcheck":
				if len(args) == 1 {
					args = append(args, "http://"+n.addr)
				}
			case "audit":
				args, codes = append(args, "--quick"), append(codes, cli.ExitNo) // there is much to find here; TestAuditDrill restores
			case "backup":
				os.RemoveAll("backup/partiald-today")
			}
			ran[name]++
			if code, said, failed := command(t, append(n.env, c.Env...), args...); !slices.Contains(codes, code) {
				t.Errorf("%s (%q): exit code %d: %s%s", line, args, code, failed, said)
			}
		}
	}
	for _, cmd := range (&app{}).root().Commands() {
		if ran[cmd.Name()] == 0 {
			t.Errorf("%s has no example that was run", cmd.Name())
		}
	}
}

// The documents' requests by curl are sent as they stand there; the addresses and hashes that they leave open are those of two
// releases here.
func TestCurl(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("no curl")
	}
	dir := t.TempDir()
	n, o := newNode(t), newOrigin(t)
	n.start()
	old := testrelease.Complete(t, "152.0", "")
	from, to := o.source("from", old), o.source("to", testrelease.Complete(t, "153.0", ""))
	writeFile(t, dir, "old.complete.mar", string(old))
	id := n.finish(n.accept(job.Spec{From: from, To: to}).ID, time.Minute).ID
	open := regexp.MustCompile(`"https://…[^"]*"|"…"`)
	sent := 0
	for _, name := range []string{"README.md", "docs/api.md"} {
		text, err := os.ReadFile(filepath.Join(testkit.Root(t), filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range doctest.Lines(string(text), "curl") {
			values := []string{from.URLs[0], from.SHA512, to.URLs[0], to.SHA512}
			here := open.ReplaceAllStringFunc(strings.NewReplacer("http://127.0.0.1:8080", "http://"+n.addr, "/ID/", "/"+id+"/").Replace(line), func(string) string {
				v := values[0]
				values = values[1:]
				return strconv.Quote(v)
			})
			commands, err := doctest.Parse(here)
			if err != nil || len(commands) != 1 {
				t.Fatalf("%s: %v", line, err)
			}
			cmd := exec.CommandContext(t.Context(), "curl", append(commands[0].Words[1:], "--fail-with-body", "-sS")...)
			cmd.Dir = dir
			if said, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(said), id) && !strings.Contains(string(said), from.SHA512) {
				t.Errorf("%s: %v: %s", line, err, said)
			}
			sent++
		}
	}
	if sent != 4 {
		t.Errorf("%d requests, want 4", sent)
	}
}
