package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/plugins"
)

func TestMain(m *testing.M) {
	// The test binary stands for marctl itself, for those who say so and where a command starts itself: bench does, which
	// would else run all tests, and those bench.
	if os.Getenv("MARCTL_RUN") != "" || len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	testscript.Main(m, map[string]func(){
		"marctl": func() { os.Exit(runChecked(os.Args[1:])) },
	})
}

// TestScripts runs the command lines in testdata/script. Scripts whose name starts with "shared" need Mozilla's own
// files.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: setUp, RequireExplicitExec: true, Cmds: commands})
}

// TestPluginScripts runs real plugins, built here.
func TestPluginScripts(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("the scripts want a shell")
	}
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", dir, "../signer-pem", "../storage-dir")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the plugins: %v\n%s", err, said)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/plugin",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("SIGNER", filepath.Join(dir, "signer-pem"))
			env.Setenv("STORAGE", filepath.Join(dir, "storage-dir"))
			env.Setenv("LIBRARY", testkit.Root(t))
			for _, name := range []string{"GOCACHE", "GOMODCACHE"} {
				value, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
				if err != nil {
					return err
				}
				env.Setenv(name, strings.TrimSpace(string(value)))
			}
			return setUp(env)
		},
		Cmds: commands,
	})
}

// The tutorial for authors shows what marctl plugin new writes.
func TestTutorialIsNewPlugin(t *testing.T) {
	t.Parallel()
	tutorial, err := os.ReadFile(filepath.Join(testkit.Root(t), "plugins", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"main.go", "main_test.go"} {
		text, err := newPluginFiles.ReadFile("newplugin/signing/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(tutorial), "```go\n"+string(text)+"```\n") {
			t.Errorf("plugins/README.md does not show newplugin/signing/%s as it is", file)
		}
	}
}

func TestSharedScripts(t *testing.T) {
	t.Parallel()
	shared := testkit.Shared(t, "testdata")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/shared",
		RequireExplicitExec: true,
		Cmds:                commands,
		Setup: func(env *testscript.Env) error {
			env.Setenv("TESTDATA", shared)
			env.Setenv("CORPUS", filepath.Join(filepath.Dir(shared), "corpus"))
			return setUp(env)
		},
	})
}

// An interrupt says what is there: nothing, but for many updates how many.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	request := filepath.Join(dir, "request.json")
	text := `{"partials": [{"from": {"url": "a"}, "to": {"url": "b"}, "out": "{n}.mar", "matrix": {"n": ["1", "2"]}}]}`
	if err := os.WriteFile(request, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for want, args := range map[string][]string{
		"marctl: interrupted: 0 of 2 partial updates are written": {"partial", "--request", request, "--cache", filepath.Join(dir, "cache")},
		"marctl: interrupted: nothing was written\n":              {"diff", "main.go", "main_test.go", filepath.Join(dir, "out")},
	} {
		var stdout, stderr strings.Builder
		if code := run(ctx, args, strings.NewReader(""), &stdout, &stderr); code != exitInterrupted || !strings.HasPrefix(stderr.String(), want) {
			t.Errorf("%q: exit code %d, said %q, want %q", args, code, stderr.String(), want)
		}
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) > 2 {
		t.Errorf("%v is left, %v", list, err)
	}
}

// setUp gives every script keys, and its files over HTTP at $URL.
func setUp(env *testscript.Env) error {
	name, value, _ := strings.Cut(testkit.FastExit, "=")
	env.Setenv(name, value)
	schemas, err := filepath.Abs(schemaDir)
	if err != nil {
		return err
	}
	env.Setenv(schemaVariable, schemas)
	server := httptest.NewServer(http.FileServer(http.Dir(env.WorkDir)))
	env.Defer(server.Close)
	env.Setenv("URL", server.URL)
	return makeKeys(env)
}

// makeKeys gives every script a fresh key pair: key.pem and key.pub.
func makeKeys(env *testscript.Env) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{
		"key.pem": {Type: "PRIVATE KEY", Bytes: private},
		"key.pub": {Type: "PUBLIC KEY", Bytes: public},
	} {
		if err := os.WriteFile(filepath.Join(env.WorkDir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// commands are what scripts can do beside testscript's own: "envsubst FILE" replaces ${NAME} in a file, "for-each-writer
// OUT WHY" runs commands that write one file and wants each to fail with that reason, before it does its work,
// "plugin-examples N" runs the N examples of help that are about plugins, and "attach PLUGIN FILE ENV..." starts a plugin
// in debug mode and waits for it.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"for-each-writer": func(ts *testscript.TestScript, _ bool, args []string) {
		for _, words := range [][]string{
			{"partial", "old.mar", "new.mar", args[0]},
			{"partial", "--report", args[0], "old.mar", "new.mar", "x.mar"},
			{"partial", "--cache", "cache", "old.mar", "new.mar", args[0]},
			{"pack", "--channel", "c", "--product-version", "1", "old", args[0]},
			{"diff", "old/app.txt", "new/app.txt", args[0]},
			{"bench", "--differ", "default", "--out", args[0], "old/app.txt", "new/app.txt"},
			{"strip", "old.mar", args[0]},
			{"xz", "old/app.txt", args[0]},
		} {
			if strings.HasPrefix(args[0], "nodir") && words[1] == "--cache" {
				continue // which makes directories
			}
			err := ts.Exec("marctl", words...)
			if err == nil {
				ts.Fatalf("marctl %q worked", words)
			}
			if said := ts.ReadFile("stderr"); !strings.Contains(said, args[1]) {
				ts.Fatalf("marctl %q: said %q, want %q", words, said, args[1])
			}
		}
	},
	"plugin-examples": func(ts *testscript.TestScript, _ bool, args []string) {
		ran := 0
		var walk func(cmd *cobra.Command)
		walk = func(cmd *cobra.Command) {
			for line := range strings.Lines(cmd.Example) {
				if strings.Contains(line, "plugin") {
					ts.Check(ts.Exec("sh", "-e", "-c", line))
					ran++
				}
			}
			for _, sub := range cmd.Commands() {
				walk(sub)
			}
		}
		walk((&app{color: "auto"}).root())
		if want := args[0]; want != strconv.Itoa(ran) {
			ts.Fatalf("%d examples, want %s", ran, want)
		}
	},
	"attach": func(ts *testscript.TestScript, _ bool, args []string) {
		cmd := exec.Command(ts.MkAbs(args[0]))
		cmd.Dir = ts.MkAbs(".")
		cmd.Env = append(args[2:], plugins.DebugVariable+"="+args[1], "TMPDIR="+os.TempDir(), testkit.FastExit)
		said, err := cmd.StderrPipe()
		ts.Check(err)
		ts.Check(cmd.Start())
		ts.Defer(func() {
			_ = cmd.Process.Signal(os.Interrupt)
			_, _ = io.Copy(io.Discard, said)
			ts.Check(cmd.Wait())
		})
		for lines := bufio.NewScanner(said); lines.Scan() && !strings.Contains(lines.Text(), "--plugin-attach"); {
		}
	},
	"envsubst": func(ts *testscript.TestScript, _ bool, args []string) {
		for _, name := range args {
			text := os.Expand(ts.ReadFile(name), ts.Getenv)
			ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
		}
	},
}
