package main

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// commandsOf returns every command of marctl that does something.
func commandsOf(t *testing.T) []*cobra.Command {
	t.Helper()
	var all []*cobra.Command
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.RunE != nil && cmd.Name() != "help" && cmd.Name() != "completion" {
			all = append(all, cmd)
		}
		for _, sub := range cmd.Commands() {
			if sub.Name() != "completion" && sub.Name() != "help" {
				walk(sub)
			}
		}
	}
	walk((&app{color: "auto"}).root())
	if len(all) < 25 {
		t.Fatalf("%d commands", len(all))
	}
	return all
}

// Every command says what each argument and each flag is: a file and what is done with it, one of values that shells complete,
// or words that nobody can know.
func TestEveryFlagAndArgumentIsDeclared(t *testing.T) {
	t.Parallel()
	for _, cmd := range commandsOf(t) {
		for i, word := range argumentWords(cmd) {
			if word != "argument" && argumentUse(cmd, i) == noFile && len(cmd.ValidArgs) == 0 {
				t.Errorf("%s: %s is not declared", cmd.CommandPath(), word)
			}
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !strings.HasPrefix(f.Value.Type(), "string") || flagUse(f) != noFile {
				return
			}
			if _, ok := cmd.GetFlagCompletionFunc(f.Name); !ok {
				t.Errorf("%s: --%s is neither a file, nor completed, nor free text", cmd.CommandPath(), f.Name)
			}
		})
	}
}

// Every command that writes refuses to write what it reads, whatever the name, and nothing is changed by it.
func TestNothingIsLostByASlip(t *testing.T) {
	t.Parallel()
	tried := 0
	for _, cmd := range commandsOf(t) {
		words := argumentWords(cmd)
		var outs, ins []string // arguments by number, flags by name
		for i := range words {
			switch argumentUse(cmd, i) {
			case writes:
				outs = append(outs, string(rune('0'+i)))
			case reads, source:
				ins = append(ins, string(rune('0'+i)))
			default:
			}
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			switch flagUse(f) {
			case writes, appends:
				outs = append(outs, f.Name)
			case reads, source:
				if f.Name != "plugin-secret" && f.Name != "request" {
					ins = append(ins, f.Name)
				}
			default:
			}
		})
		for _, out := range outs {
			for _, other := range append(ins, outs...) {
				if other == out {
					continue
				}
				for _, by := range []string{"name", "path", "symlink", "hardlink"} {
					slip(t, cmd, out, other, by)
					tried++
				}
			}
		}
	}
	if tried < 200 {
		t.Errorf("only %d slips were tried", tried)
	}
}

// slip calls a command with one file as output and as something else.
func slip(t *testing.T, cmd *cobra.Command, out, other, by string) {
	t.Helper()
	dir := t.TempDir()
	precious := filepath.Join(dir, "precious")
	content := []byte("precious " + cmd.CommandPath())
	if err := os.WriteFile(precious, content, 0o600); err != nil {
		t.Fatal(err)
	}
	again := filepath.Join(dir, "again")
	switch by {
	case "name":
		again = precious
	case "path":
		again = filepath.Join(dir, "..", filepath.Base(dir), ".", "precious")
	case "symlink":
		if os.Symlink(precious, again) != nil {
			return
		}
	case "hardlink":
		if os.Link(precious, again) != nil {
			return
		}
	}
	args := strings.Fields(cmd.CommandPath())[1:]
	words := argumentWords(cmd)
	if fields := strings.Fields(cmd.Use); len(fields) == 1 {
		words = nil
	}
	for i := range words {
		n := string(rune('0' + i))
		value := filepath.Join(dir, "file"+n)
		if argumentUse(cmd, i) == text && words[i] == "INDEX" {
			value = "0"
		}
		if n == out {
			value = again
		}
		if n == other {
			value = precious
		}
		args = append(args, value)
	}
	for flag, value := range map[string]string{out: again, other: precious} {
		if len(flag) > 1 {
			args = append(args, "--"+flag, value)
		}
	}
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, strings.NewReader(""), &stdout, &stderr)
	said := stderr.String()
	if code != exitUsage || !strings.Contains(said, "is also") && !strings.Contains(said, "are the same file") {
		t.Errorf("%s, %s: exit code %d, said %q", strings.Join(args, " "), by, code, said)
	}
	if got, err := os.ReadFile(precious); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%s: the file is %q, %v", strings.Join(args, " "), got, err)
	}
}

// An output in a directory that is read with all that is in it would be read the next time.
func TestOutputInsideInput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sub := filepath.Join(dir, "tree", "sub")
	if err := os.MkdirAll(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(sub, link); err != nil {
		t.Skip(err)
	}
	tree := filepath.Join(dir, "tree")
	for _, out := range []string{filepath.Join(tree, "x.mar"), filepath.Join(sub, "x.mar"), filepath.Join(link, "x.mar")} {
		for _, args := range [][]string{{"pack", tree, out}, {"partial", tree, dir, out}, {"partial", "a", tree, out}} {
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), args, strings.NewReader(""), &stdout, &stderr); code != exitUsage || !strings.Contains(stderr.String(), "inside") {
				t.Errorf("%v: exit code %d, said %q", args, code, stderr.String())
			}
		}
	}
	if list, err := os.ReadDir(sub); err != nil || len(list) != 0 {
		t.Errorf("got %v, %v", list, err)
	}
}

// A file may be "-" everywhere, and nothing but the file goes to standard output then.
func TestDash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	call := func(stdin []byte, want int, args ...string) (stdout, stderr []byte) {
		t.Helper()
		var out, errs bytes.Buffer
		if code := run(t.Context(), args, bytes.NewReader(stdin), &out, &errs); code != want {
			t.Fatalf("marctl %q: exit code %d, want %d: %s", args, code, want, errs.String())
		}
		return out.Bytes(), errs.Bytes()
	}
	for name, text := range map[string]string{"tree/a.txt": "one", "tree/application.ini": "[App]\nName=Test\nVersion=1.0\n", "old": "one two three", "new": "one two and three"} {
		if err := os.MkdirAll(filepath.Dir(at(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	archive, _ := call(nil, exitDone, "pack", "--level", "fast", "-H", "chan", "-V", "1.0", at("tree"), "-")
	if !bytes.HasPrefix(archive, []byte("MAR1")) {
		t.Fatalf("pack wrote %.20q", archive)
	}
	if err := os.WriteFile(at("a.mar"), archive, 0o644); err != nil {
		t.Fatal(err)
	}
	patch, _ := call(nil, exitDone, "diff", at("old"), at("new"), "-")
	for _, c := range []struct {
		stdin []byte
		args  []string
		want  string // a file that standard output must be; "" where it is a text
	}{
		{archive, []string{"list", "-"}, ""},
		{archive, []string{"list", "--json", "-"}, ""},
		{archive, []string{"info", "-"}, ""},
		{archive, []string{"info", "refresh", "-", "-", "-V", "1.0"}, "a.mar"},
		{archive, []string{"info", "refresh", "--json", "-", "-", "-V", "1.0"}, "a.mar"},
		{archive, []string{"strip", "-", "-"}, "a.mar"},
		{archive, []string{"digest", "-"}, ""},
		{archive, []string{"lint", "--fast", "-"}, ""},
		{archive, []string{"prove", "-", at("a.mar"), at("a.mar"), "--skip", "downgrade"}, ""},
		{archive, []string{"extract", "-", "-", "a.txt"}, "tree/a.txt"},
		{patch, []string{"patch", at("old"), "-", "-"}, "new"},
		{patch, []string{"inspect", "-"}, ""},
		{patch, []string{"xz", "-", "-"}, ""},
	} {
		want := exitDone
		if c.args[0] == "prove" {
			want = exitNo // a complete is no partial update that leads to itself without a word: what counts is that it is read
		}
		var out, errs bytes.Buffer
		code := run(t.Context(), c.args, bytes.NewReader(c.stdin), &out, &errs)
		if code != want && c.args[0] != "prove" && c.args[0] != "lint" {
			t.Errorf("marctl %q: exit code %d: %s", c.args, code, errs.String())
		}
		if strings.Contains(out.String()+errs.String(), "marctl-stdin") {
			t.Errorf("marctl %q shows the temporary file: %s%s", c.args, out.String(), errs.String())
		}
		if c.want == "" {
			continue
		}
		if content, err := os.ReadFile(at(c.want)); err != nil || !bytes.Equal(out.Bytes(), content) {
			t.Errorf("marctl %q: standard output is %d bytes, want the %d of %s, %v", c.args, out.Len(), len(content), c.want, err)
		}
	}
	for _, args := range [][]string{{"diff", "-", "-", at("x")}, {"partial", "-", "-", at("x")}, {"digest", at("a.mar"), "--reserve", "-", "--json"}} {
		var out, errs bytes.Buffer
		code := run(t.Context(), args, strings.NewReader(""), &out, &errs)
		if args[0] == "digest" {
			if code != exitDone || !bytes.HasPrefix(out.Bytes(), []byte("MAR1")) || !strings.HasPrefix(errs.String(), `{"file":`) {
				t.Errorf("%q: exit code %d, %.20q, %q", args, code, out.String(), errs.String())
			}
			continue
		}
		if code != exitUsage || !strings.Contains(errs.String(), "standard input can be one thing only") {
			t.Errorf("%q: exit code %d, said %q", args, code, errs.String())
		}
	}
}

// The standard streams may be files that are named as well.
func TestRedirected(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "x")
	if err := os.WriteFile(name, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, c := range []struct {
		in   io.Reader
		out  io.Writer
		args []string
	}{
		{strings.NewReader(""), f, []string{"xz", name, "-"}},
		{f, io.Discard, []string{"xz", "-", name}},
	} {
		if code := run(t.Context(), c.args, c.in, c.out, io.Discard); code != exitUsage {
			t.Errorf("%q: exit code %d", c.args, code)
		}
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != "precious" {
		t.Errorf("got %q, %v", got, err)
	}
}

// What extract --raw writes, create makes the same file of, whatever the modes.
func TestRawRoundTrip(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("there are no modes there")
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.MkdirAll(at("in/dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	names := []string{"dir/b", "a", "c"}
	for i, mode := range []fs.FileMode{0o640, 0o600, 0o775} {
		if err := os.WriteFile(at("in/"+names[i]), []byte(names[i]), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(at("in/"+names[i]), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		append([]string{"create", "-H", "c", "-V", "1", "-C", at("in"), at("one.mar")}, names...),
		{"extract", "--raw", at("one.mar"), at("out")},
		append([]string{"create", "-H", "c", "-V", "1", "-C", at("out"), at("two.mar")}, names...),
	} {
		var out bytes.Buffer
		if code := run(t.Context(), args, strings.NewReader(""), &out, &out); code != exitDone {
			t.Fatalf("%q: %s", args, out.String())
		}
	}
	one, errOne := os.ReadFile(at("one.mar"))
	two, errTwo := os.ReadFile(at("two.mar"))
	if errOne != nil || errTwo != nil || !bytes.Equal(one, two) {
		t.Errorf("the files differ, %v, %v", errOne, errTwo)
	}
}
