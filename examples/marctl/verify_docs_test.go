package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/examples/internal/doctest"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// The commands in docs/verify.md, and the examples of verify-updates, are run as they stand there, in a directory that has what they name and against a server that
// offers nothing; its configurations are read.
func TestVerifyDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/verify.md")
	if err != nil {
		t.Fatal(err)
	}
	shared := testkit.Shared(t, "testdata", "update-verify")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `<?xml version="1.0"?><updates></updates>`)
	}))
	defer server.Close()
	t.Setenv("GITHUB_STEP_SUMMARY", "")
	t.Chdir(t.TempDir())
	log, err := os.ReadFile(filepath.Join(shared, "14-hundreds-two-failures.log"))
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, content string) {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("live_backing.log", string(log))
	for _, name := range []string{"01-all-pass", "02-partial-does-not-apply"} {
		part, err := os.ReadFile(filepath.Join(shared, name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		write("logs/"+name+".log", string(part))
		write("new/"+name+".log", string(part))
	}
	const line = `release="153.5.1" product="Firefox" platform="Linux_x86_64-gcc3" build_id="20261019143936" locales="de hr" channel="esr-localtest"`
	write("update-verify.cfg", line+` aus_server="`+server.URL+`"`)
	write("history.json", `[{"product": "Firefox", "version": "153.5.1", "build_id": "20261019143936", "platform": "Linux_x86_64-gcc3", "locale": "de"},
		{"product": "Firefox", "version": "153.6.0", "build_id": "20261123143936", "platform": "Linux_x86_64-gcc3", "locale": "de"}]`)
	write("release_history.json", `{"Linux_x86_64-gcc3": {"de": {"target.partial-1.mar": {"buildid": "20261019143936", "previousVersion": "153.5.1", "previousBuildNumber": 1,
		"product": "firefox", "mar_url": "`+server.URL+`/from.mar"}}}}`)
	write("firefox/updater", "#!/bin/sh\n")
	if err := os.Chmod("firefox/updater", 0o755); err != nil {
		t.Fatal(err)
	}
	write("known.toml", "[[known]]\nreason = \"bug 1\"\ncode = \"tree-differs\"\nexpires = 2099-01-31\n")
	call := func(args ...string) (int, string) {
		var out strings.Builder
		code := run(t.Context(), args, strings.NewReader(string(log)), &out, &out)
		return code, out.String()
	}
	for _, results := range []string{"results.jsonl", "yesterday.jsonl", "old.jsonl"} {
		if code, said := call("verify-updates", "--log", "live_backing.log", "--jsonl", results); code != exitNo {
			t.Fatalf("%d: %s", code, said)
		}
	}
	blocks := regexp.MustCompile("(?ms)^```toml\n(.*?)^```").FindAllSubmatch(text, -1)
	for i, b := range blocks {
		name := fmt.Sprintf("block%d.toml", i)
		write(name, string(b[1]))
		var err error
		switch {
		case strings.Contains(string(b[1]), "[[test]]"):
			_, _, err = readPlan(name, &verifyRunFlags{})
		case strings.Contains(string(b[1]), "[[rule]]"):
			_, err = readVerifyRules(name)
		case strings.Contains(string(b[1]), "[[known]]"):
			_, err = readExpected(name)
		}
		if err != nil {
			t.Errorf("%v: %s", err, b[1])
		}
	}
	lines := doctest.Lines(string(text), "marctl")
	for _, line := range doctest.Examples((&app{color: "auto"}).root()) {
		if strings.Contains(line, "marctl verify-updates") {
			lines = append(lines, line)
		}
	}
	if len(lines) < 20 || len(blocks) < 2 {
		t.Fatalf("%d commands and %d configurations found", len(lines), len(blocks))
	}
	for _, line := range lines {
		commands, err := doctest.Parse(strings.ReplaceAll(line, "https://aus.example.org", server.URL))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range commands {
			if c.Words[0] != "marctl" {
				continue
			}
			code, said := call(c.Words[1:]...)
			if code != exitDone && code != exitNo || !strings.Contains(said, "update verify") && !strings.Contains(said, `"schema"`) && !strings.Contains(said, "FROM") {
				t.Errorf("%s: exit code %d: %s", line, code, said)
			}
		}
	}
	for _, flag := range regexp.MustCompile("`--[a-z-]+").FindAllString(string(text), -1) {
		flag = strings.TrimPrefix(flag, "`--")
		if (&app{}).verifyUpdatesCommand().Flags().Lookup(flag) == nil && (&app{}).planCommand().Flags().Lookup(flag) == nil && flag != "json" {
			t.Errorf("--%s is no flag of verify-updates or plan", flag)
		}
	}
}

// What a report says to do next can be done: its commands, files and flags are those of marctl.
func TestNextCommands(t *testing.T) {
	logs, err := filepath.Glob(filepath.Join(testkit.Shared(t, "testdata", "update-verify"), "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	next := regexp.MustCompile(`(?m)next: (?:.*: )?marctl (.*)$`)
	seen := map[string]bool{}
	for _, log := range logs {
		var out strings.Builder
		run(t.Context(), []string{"verify-updates", "--log", log}, strings.NewReader(""), &out, &out)
		for _, m := range next.FindAllStringSubmatch(out.String(), -1) {
			cmd, args, err := (&app{}).root().Find(strings.Fields(m[1]))
			if err == nil {
				err = cmd.ParseFlags(args)
			}
			if err == nil {
				err = cmd.ValidateArgs(cmd.Flags().Args())
			}
			if err != nil || !cmd.Runnable() {
				t.Errorf("%s: marctl %s: %v", filepath.Base(log), m[1], err)
			}
			seen[cmd.Name()] = true
		}
	}
	if len(seen) < 5 {
		t.Errorf("only %v are named: is the report's form another?", seen)
	}
}
