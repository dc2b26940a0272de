package signing_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/signing/signingtest"
)

// TestTutorial builds the programs of plugins/README.md, word for word, and checks the plugin among them.
func TestTutorial(t *testing.T) {
	t.Parallel()
	gotool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("go not found: the tutorial's programs cannot be built")
	}
	root := testkit.Root(t)
	text, err := os.ReadFile(filepath.Join(root, "plugins", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(text, -1)
	if len(blocks) != 3 {
		t.Fatalf("the tutorial has %d programs, want the plugin, its test and a host", len(blocks))
	}
	// The programs are laid over the module as directories that do not exist.
	dir := t.TempDir()
	overlay := map[string]map[string]string{"Replace": {}}
	for i, name := range []string{"tutorial-plugin/main.go", "tutorial-plugin/main_test.go", "tutorial-host/main.go"} {
		file := filepath.Join(dir, fmt.Sprintf("%d.go", i))
		if err := os.WriteFile(file, blocks[i][1], 0o600); err != nil {
			t.Fatal(err)
		}
		overlay["Replace"][filepath.Join(root, "examples", name)] = file
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	overlayFile := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlayFile, b, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command(gotool, args...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	plugin := filepath.Join(dir, "signer-hello")
	// Only the plugin is linked; its test and the host are compiled.
	run("build", "-ldflags=-s -w", "-overlay", overlayFile, "-o", plugin, "./examples/tutorial-plugin")
	run("list", "-test", "-export", "-overlay", overlayFile, "./examples/tutorial-plugin")
	run("build", "-overlay", overlayFile, "-o", os.DevNull, "./examples/tutorial-host")

	keys := filepath.Join(dir, "keys")
	if err := os.Mkdir(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: derFromRSA(t, testKey())})
	if err := os.WriteFile(filepath.Join(keys, "release.pem"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	sum, err := plugins.Sum(plugin)
	if err != nil {
		t.Fatal(err)
	}
	signingtest.CheckBinary(t.Context(), plugins.Config{
		Path: plugin, SHA256: sum, Env: []string{"KEY_DIR=" + keys}, StartTimeout: 20 * time.Second,
	}, &signingtest.Options{Key: "release", PublicKey: testKey().Public()}).Apply(t)
}
