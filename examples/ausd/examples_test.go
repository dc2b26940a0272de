package main

import (
	"bytes"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/inspect"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/server"
	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
	"github.com/senbonzakura/senbonzakura/examples/internal/doctest"
	"github.com/senbonzakura/senbonzakura/examples/internal/schematest"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/internal/testkit/schema"
)

var update = flag.Bool("update", false, "write the schemas in docs/schemas anew")

// printed is what each command prints with --json: one of these.
var printed = map[string][]any{
	"add":     {[]offered{}, []inspect.Build{}},
	"backup":  {backupResult{}},
	"check":   {checkResult{}},
	"compare": {comparison{}},
	"explain": {explained{}, server.Explanation{}},
	"export":  {exported{}},
	"gc":      {gcResult{}},
	"import":  {imported{}},
	"key":     {keyResult{}},
	"make":    {[]madePartial{}},
	"preview": {server.Preview{}},
	"probe":   {[]probed{}},
	"replay":  {replayResult{}},
	"restore": {restored{}},
	"token":   {tokenResult{}},
}

func schemaFile(command string) string {
	return filepath.Join("../../docs/schemas", "ausd-"+command+".schema.json")
}

// There is a schema for every command, which says what the command prints.
func TestSchemas(t *testing.T) {
	for _, cmd := range (&app{}).root().Commands() {
		values, ok := printed[cmd.Name()]
		if !ok {
			t.Errorf("%s has no schema", cmd.Name())
			continue
		}
		schematest.Schema{
			File: schemaFile(cmd.Name()), Title: "ausd " + cmd.Name() + " --json", Description: "The value on standard output. Fields are only added.",
			Values: append(values, cli.Failure{}), Foreign: []any{aus.Rule{}},
		}.Check(t, *update)
	}
	if files, err := filepath.Glob(schemaFile("*")); err != nil || len(files) != len(printed) {
		t.Errorf("%d schemas, %d commands, %v", len(files), len(printed), err)
	}
}

// Every example of help, and every command of the documents, is run as it stands there, in a directory that has the files that
// it names and beside a server. What stands for others' machines and directories is replaced by some here. Each is run
// again for JSON, which has to be what the schema says.
func TestExamples(t *testing.T) {
	lines := doctest.Examples((&app{}).root())
	for _, name := range []string{"docs/ausd.md", "docs/updates.md"} {
		text, err := os.ReadFile(filepath.Join(testkit.Root(t), filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		document := strings.ReplaceAll(string(text), "go run ./examples/ausd", "ausd")
		lines = append(lines, doctest.Lines(document, "ausd")...)
	}
	schemas := map[string]*schema.Schema{}
	for name := range printed {
		var err error
		if schemas[name], err = schema.Read(schemaFile(name), ""); err != nil {
			t.Fatal(err)
		}
	}
	dir := testkit.MemoryDir(t)
	p := startProcess(t, filepath.Join(dir, "running"))
	defer p.kill(t)
	examplesDirectory(t, dir, p)
	t.Setenv("AUSD_URL", p.url)
	t.Setenv("XDG_STATE_HOME", dir)
	if err := os.Symlink("running", filepath.Join(dir, "ausd")); err != nil { // its data directory is that of who says nothing
		t.Fatal(err)
	}
	t.Chdir(dir)
	const client = "20240301000000/Linux/de/release/Linux%206/default/default"
	replace := strings.NewReplacer("/srv/", "srv/", "/backup/", "backup/", "/var/lib/", "lib/", "/etc/", "etc/", "https://aus5.mozilla.org", p.url,
		"https://aus.example.org", p.url, "https://new.example.org", p.url, "http://127.0.0.1:8090", p.url, "…", client, "$URL", p.url+"/update/3/Fox/90.0/"+client+"/update.xml",
		"~/.local/state", ".")
	seen := map[string]int{}
	for _, line := range lines {
		commands, err := doctest.Parse(replace.Replace(line))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range commands {
			if c.Words[0] != "ausd" || len(c.Words) == 1 || strings.HasPrefix(c.Words[1], "-") { // which serves: TestStop, script serve
				continue
			}
			var out, said strings.Builder
			want := cli.ExitDone
			if slices.Contains(sayNo, line) {
				want = cli.ExitNo
			}
			if code := run(c.Words[1:], &out, &said); code != want {
				t.Errorf("%s: exit code %d, want %d: %s%s", line, code, want, said.String(), out.String())
				continue
			}
			name := c.Words[1]
			if seen[name]++; name == "backup" { // whose copy is there now
				c.Words = append(c.Words[:2:2], "again.db")
			}
			if name == "restore" { // which puts nothing over a book
				c.Words = append(c.Words[:2:2], "--data", "again", c.Words[len(c.Words)-1])
			}
			out.Reset()
			said.Reset()
			run(append(c.Words[1:], "--json"), &out, &said)
			if err := schemas[name].Check([]byte(out.String())); err != nil || strings.HasPrefix(out.String(), "{\n  \"error\"") {
				t.Errorf("%s --json: %v: %s%s", line, err, out.String(), said.String())
			}
			// What is wrong is said in the same form.
			out.Reset()
			said.Reset()
			if code := run([]string{name, "--json", "--nosuch"}, &out, &said); code != cli.ExitUsage || schemas[name].Check([]byte(out.String())) != nil {
				t.Errorf("%s --json --nosuch: exit code %d: %s", name, code, out.String())
			}
		}
	}
	for name := range printed {
		if seen[name] == 0 {
			t.Errorf("%s has no example that was run", name)
		}
	}
}

// sayNo are the examples whose answer about the files of this test is no.
var sayNo = []string{
	"ausd preview --to rules.json", // which have nothing for Fox, of which files were added before
}

// examplesDirectory makes all files that examples name, and drafts on the server.
func examplesDirectory(t *testing.T, dir string, p *process) {
	t.Helper()
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"srv", "backup", "lib"} {
		write(name+"/x", "")
	}
	for _, script := range []string{"tools", "replay"} {
		archive, err := txtar.ParseFile(filepath.Join("testdata", "script", script+".txtar"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			f.Data = bytes.ReplaceAll(f.Data, []byte("Fox"), []byte("Kit")) // the files that are added are of Fox
			switch f.Name {
			case "rules.json":
				write("rules.json", string(f.Data))
				write("main.json", string(f.Data))
			case "throttled.json":
				write("branch.json", string(f.Data))
			case "good.txt":
				write("expectations.txt", string(f.Data))
			case "asked.txt":
				write("queries.txt", string(f.Data))
			case "good.json":
				write("recorded.json", string(f.Data))
				write("recorded/good.json", string(f.Data))
			}
		}
	}
	write("access.log", `10.0.0.1 - - [01/Dec/2026:12:00:00 +0000] "GET /update/3/Kit/90.0/20240301000000/Linux/de/release/L/d/d/update.xml HTTP/1.1" 200 42 "-" "-"`+"\n")
	for name, version := range map[string]string{"old": "1.0", "new": "2.0", "firefox-153.5.1": "153.5.1", "firefox-153.6.0": "153.6.0", "firefox.de": "153.6.0"} {
		pack(t, filepath.Join(dir, name+".complete.mar"), version, fmt.Sprintf("2026%010d", len(version)*100+int(version[0]+version[len(version)-1])))
	}
	sum := func(s string) string { return fmt.Sprintf("%x", sha512.Sum512([]byte(s))) }
	manifest, err := json.Marshal([]senbonzakura.Submission{{
		AppName: "Owl", Version: "92.0", Platform: "linux64", Locale: "de", PreviousVersion: "91.0",
		FromMAR: "https://dl.example.org/91.mar", FromSize: 1000, FromHash: sum("from"), FromBuildID: "20240101000000",
		ToMAR: "https://dl.example.org/92.mar", ToSize: 2000, ToHash: sum("to"), ToBuildID: "20240201000000",
		MAR: "ab.partial.mar", Size: 300, Hash: sum("partial"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	write("manifest.json", string(manifest))
	if code := run([]string{"import", "--server", p.url, filepath.Join(dir, "rules.json")}, os.Stderr, os.Stderr); code != cli.ExitDone {
		t.Fatalf("exit code %d", code)
	}
	for n := range 7 {
		var done map[string]any
		if code, err := p.call(t, http.MethodPost, "/admin/v1/changes", map[string]any{"comment": "a draft", "draft": true, "operations": []any{
			map[string]any{"kind": "rule", "key": "9", "body": map[string]any{"rule_id": 9, "priority": n, "backgroundRate": 100, "update_type": "minor", "product": "Kit", "channel": "draft", "mapping": "Kit-91.0"}},
		}}, &done); err != nil || code != http.StatusOK {
			t.Fatalf("%d %v: %v", code, err, done)
		}
	}
}
