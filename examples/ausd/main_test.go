package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/plugins/signing"
)

func TestMain(m *testing.M) {
	if os.Getenv(beSigner) != "" {
		signing.Serve(serveKeys)
	}
	if os.Getenv("SENBON_TEST_BE_AUSD") != "" { // the program itself, for tests that kill it
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	testscript.Main(m, map[string]func(){
		"ausd": func() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs the command lines in testdata/script.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true, Setup: setUp})
}

// TestSharedScripts runs those that need recorded answers of a real server.
func TestSharedScripts(t *testing.T) {
	t.Parallel()
	shared := testkit.Shared(t, "testdata", "balrog")
	testscript.Run(t, testscript.Params{Dir: "testdata/shared", RequireExplicitExec: true, Setup: func(env *testscript.Env) error {
		for _, name := range []string{"17-random.json", "16-validate.json", "20-admin.json"} {
			if err := os.Symlink(filepath.Join(shared, name), filepath.Join(env.WorkDir, name)); err != nil {
				return err
			}
		}
		return setUp(env)
	}})
}

// The configuration that is shipped holds.
func TestDeploy(t *testing.T) {
	t.Parallel()
	c := loadConfig(filepath.Join("deploy", "ausd.toml"), nil)
	c.Data = t.TempDir()
	o, err := c.options(io.Discard)
	if err != nil || o.URL.String() != "https://aus.example.org" || len(o.TrustedProxies) != 1 {
		t.Errorf("%+v, %v", o, err)
	}
}

func setUp(env *testscript.Env) error {
	env.Setenv("GORACE", "atexit_sleep_ms=0")
	return nil
}
