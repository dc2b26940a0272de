package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// What is misspelt is answered with what is near, with exit code 2; what is like nothing is not.
func TestDidYouMean(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"partail a b c":                 `did you mean "partial"?`,
		"signature ad x":                `did you mean "add"?`,
		"list --alow size x":            `did you mean "--allow"?`,
		"partial --formats mbdif a b c": `did you mean "mbdiff10"?`,
		"pack --level besst x y":        `did you mean "best"?`,
		"partial --skip verfy a b c":    `did you mean "verify"?`,
		"pack --layout section x y":     `did you mean "sections"?`,
		"help partail":                  `did you mean "partial"?`,
		"help signature ad":             `did you mean "add"?`,
		"qqqqqq":                        "",
		"help qqqqqq":                   "",
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), strings.Fields(args), strings.NewReader(""), &out, &errs)
		if said := errs.String(); code != exitUsage || !strings.Contains(said, want) || want == "" && strings.Contains(said, "did you mean") {
			t.Errorf("%s: exit code %d, said %q", args, code, said)
		}
	}
}

// What is called wrongly is refused in the words of people who call, before anything is done.
func TestCalledWrongly(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // where it fails, nobody's cache is purged
	if err := os.WriteFile("a", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"list"}, "want FILE, got 0 arguments"},
		{[]string{"list", "a", "--workers", "x"}, `--workers "x": want a number`},
		{[]string{"list", "a", "--workers", "-1"}, "--workers -1: want nothing below 0"},
		{[]string{"list", "a", "--json=x"}, `--json "x": want true or false`},
		{[]string{"cache", "purge", "--cache", ".", "--age", "1 day"}, `--age "1 day": want a time such as`},
		{[]string{"cache", "purge", "--cache", ".", "--age", "-720h"}, "--age -720h0m0s: want nothing below 0"},
		{[]string{"plugin", "info", "a", "--sha256", "00"}, `--sha256 "00": want 64 hexadecimal digits`},
		{[]string{"strip", "a", ""}, "OUT is empty"},
		{[]string{"strip", "", "b"}, "FILE is empty"},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), c.args, strings.NewReader(""), &out, &errs)
		if said := errs.String(); code != exitUsage || !strings.Contains(said, c.want) {
			t.Errorf("%q: exit code %d, said %q", c.args, code, said)
		}
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"verify", "a", "--key", "relese-primary"}, strings.NewReader(""), &out, &errs); code != exitNo || !strings.Contains(errs.String(), `did you mean "release-primary"?`) {
		t.Errorf("exit code %d, said %q", code, errs.String())
	}
	errs.Reset()
	if code := run(t.Context(), []string{"plugin", "info", "--plugin-attach", "a"}, strings.NewReader(""), &out, &errs); code != exitNo || strings.Count(errs.String(), "debug mode") != 1 {
		t.Errorf("exit code %d, said %q", code, errs.String())
	}
	if code := run(t.Context(), []string{"plugin", "check", "--help"}, strings.NewReader(""), &out, &errs); code != exitDone || !strings.Contains(out.String(), "longest time for one call (default 10s)") {
		t.Errorf("exit code %d, printed %q", code, out.String())
	}
	if code := run(t.Context(), []string{"man", "-"}, strings.NewReader(""), &out, &errs); code != exitDone || !strings.Contains(out.String(), ".TH") {
		t.Errorf("man -: exit code %d, said %q", code, out.String())
	}
	if list, err := os.ReadDir("."); err != nil || len(list) != 1 {
		t.Errorf("left behind: %v, %v", list, err)
	}
}

// A flag that takes several values between commas completes each of them.
func TestCompleteLists(t *testing.T) {
	t.Parallel()
	for flag, want := range map[string]string{"--formats": "mbdiff10,zucchini", "--skip": "mbdiff10,verify"} {
		var out, errs bytes.Buffer
		run(t.Context(), []string{"__complete", "partial", flag, "mbdiff10,"}, strings.NewReader(""), &out, &errs)
		if !strings.Contains(out.String(), want+"\n") {
			t.Errorf("%s: got %q", flag, out.String())
		}
	}
}

// An interrupt is called one in JSON too.
func TestInterruptedJSON(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	name := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(name, []byte("what is there"), 0o600); err != nil {
		t.Fatal(err)
	}
	code := run(ctx, []string{"--json", "diff", name, name, name + ".patch"}, strings.NewReader(""), &out, &errs)
	if want := `{"error":"interrupted: nothing was written","code":130}` + "\n"; code != exitInterrupted || out.String() != want {
		t.Errorf("exit code %d, printed %q, want %q", code, out.String(), want)
	}
}

// Manual pages are accepted by mandoc, have every flag and say the exit status.
func TestManualPages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var out bytes.Buffer
	if code := run(t.Context(), []string{"man", dir}, strings.NewReader(""), &out, &out); code != exitDone {
		t.Fatal(out.String())
	}
	for _, cmd := range commandsOf(t) {
		page, err := os.ReadFile(filepath.Join(dir, manName(cmd)+".1"))
		if err != nil {
			t.Error(err)
			continue
		}
		text := strings.ReplaceAll(string(page), `\-`, "-")
		for _, want := range []string{"EXIT STATUS", "130 interrupted"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s does not say %q", manName(cmd), want)
			}
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && !strings.Contains(text, "--"+f.Name) {
				t.Errorf("%s lacks --%s", manName(cmd), f.Name)
			}
		})
	}
	mandoc, err := exec.LookPath("mandoc")
	if err != nil {
		t.Skip("mandoc is not installed (Debian: apt-get install mandoc)")
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil || len(pages) < 30 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	said, err := exec.CommandContext(t.Context(), mandoc, append([]string{"-Tlint", "-Wwarning"}, pages...)...).CombinedOutput()
	if err != nil || len(said) > 0 {
		t.Errorf("mandoc: %v\n%.2000s", err, said)
	}
}

// Lists of hashes are read as all tools write them, and mistakes name the file and the line.
func TestSums(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sum := strings.Repeat("ab", 64)
	name := filepath.Join(dir, "SHA512SUMS")
	text := "\ufeff" + sum + "  ./a.mar\n" + sum + " *dir/b.mar\r\nSHA512 (c d.mar) = " + sum + "\n" + sum + " sha512 123 e.mar\n" + sum + "  f g.mar\n# remark\n\n"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	if err := readSums(name, sums); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a.mar", "dir/b.mar", "c d.mar", "e.mar", "f g.mar"} {
		if sums[want] != sum {
			t.Errorf("%s is not in %v", want, sums)
		}
	}
	for _, bad := range []string{"xyz a.mar\n", "abc\n"} {
		if err := os.WriteFile(name, []byte("\n"+bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := readSums(name, sums); err == nil || !strings.Contains(err.Error(), "SHA512SUMS:2:") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
	if err := readSums(dir, sums); err == nil || !strings.Contains(err.Error(), "a directory") {
		t.Errorf("a directory: got %v", err)
	}
}

// A line of progress names the step, the rate and the time that is left; without a terminal one comes at each tick and none
// for what is over before.
func TestProgress(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	s := &step{what: "diffing", detail: "libxul.so", begin: begin, done: 30e6, total: 120e6}
	if got, want := s.line(begin.Add(10*time.Second), false), "diffing  25 %  30.0 of 120.0 MB  3.0 MB/s  about 30s left  libxul.so"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := (&step{what: "tests", begin: begin, done: 3, total: 4}).line(begin.Add(3*time.Second), true), "tests  75 %  3 of 4  about 1s left"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	var out bytes.Buffer
	p := (&progress{steps: map[string]*step{}}).start(&out, "unpacking", time.Millisecond)
	for _, what := range []string{"unpacking", "diffing"} { // a step that is done does not keep the next from being shown
		for done := range int64(11) {
			p.set(what, done, 10)
		}
		time.Sleep(30 * time.Millisecond)
	}
	p.end()
	p.end()
	p.set("later", 1, 2)
	if said := out.String(); !regexp.MustCompile(`(?s)unpacking  100 %.*diffing  100 %`).MatchString(said) || strings.Contains(said, "later") {
		t.Errorf("said %q", said)
	}
	out.Reset()
	quick := (&app{stderr: &out}).newProgress("quick")
	quick.set("quick", 1, 2)
	quick.end()
	rare := (&app{stderr: &out}).progressEvery("tests", time.Minute)
	rare.end()
	if quick.every != progressInLog || rare.every != time.Minute {
		t.Errorf("a line comes every %v and %v", quick.every, rare.every)
	}
	if out.Len() > 0 {
		t.Errorf("said %q", out.String())
	}
}

// Colours are for terminals, or where they are asked for.
func TestColors(t *testing.T) {
	t.Parallel()
	for flag, want := range map[string]bool{"--color=always": true, "--color=never": false, "--color=auto": false} {
		var out, errs bytes.Buffer
		run(t.Context(), []string{"list", "nosuch.mar", flag}, strings.NewReader(""), &out, &errs)
		if got := strings.Contains(errs.String(), "\x1b["); got != want {
			t.Errorf("%s: %q", flag, errs.String())
		}
	}
}

// Ways out are flags where there is one for it.
func TestWaysOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	for name, version := range map[string]string{"old": "140.0", "older": "139.0", "new": "140.1"} {
		if err := errors.Join(os.Mkdir(file(name), 0o755),
			os.WriteFile(file(name+"/application.ini"), []byte("[App]\nName=Firefox\nVersion="+version+"\nBuildID=20260101000000\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink("application.ini", file("old/link")), os.WriteFile(file("cut.json"), []byte(`{"partials": [`), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		want  string
		words []string
	}{
		{"leave such files out with --skip-links", []string{"pack", file("old"), file("x.mar"), "--channel", "c", "--product-version", "1"}},
		{"or allow it with --allow-downgrade", []string{"partial", file("new"), file("older"), file("x.mar"), "--channel", "c", "--product-version", "1"}},
		{"cut.json: it ends before the request", []string{"partial", "--request", file("cut.json")}},
	} {
		var said strings.Builder
		if code := run(t.Context(), tt.words, strings.NewReader(""), io.Discard, &said); code == exitDone || !strings.Contains(said.String(), tt.want) {
			t.Errorf("%q: exit code %d: %s, want %q", tt.words, code, said.String(), tt.want)
		}
	}
}
