package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/storage"
	"github.com/senbonzakura/senbonzakura/plugins/storage/storagetest"
)

// beEnv makes the test binary the plugin.
const beEnv = "SENBON_TEST_BE_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(beEnv) != "" {
		main()
	}
	os.Exit(m.Run())
}

func config(t *testing.T, args ...string) plugins.Config {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sum, err := plugins.Sum(path)
	if err != nil {
		t.Fatal(err)
	}
	return plugins.Config{Path: path, SHA256: sum, Args: args, Env: []string{testkit.FastExit, beEnv + "=1"}, StartTimeout: 20 * time.Second}
}

func TestConformance(t *testing.T) {
	storagetest.CheckBinary(t.Context(), config(t, t.TempDir()), nil).Apply(t)
}

func TestBadArguments(t *testing.T) {
	for text, args := range map[string][]string{"usage": nil, "no such file": {"/absent"}} {
		if _, err := storage.Start(t.Context(), config(t, args...)); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: got %v, want %q", args, err, text)
		}
	}
}
