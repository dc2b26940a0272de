// Package standin runs, for the tests of these plugins, the programs that stand in for the services.
package standin

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/plugins"
)

// beEnv makes a test binary the plugin.
const beEnv = "SENBON_TEST_BE_PLUGIN"

// Main is the TestMain of a plugin whose main function is given.
func Main(m *testing.M, plugin func()) {
	if os.Getenv(beEnv) != "" {
		plugin()
	}
	os.Exit(m.Run())
}

// Plugin returns the configuration that runs the test binary as the plugin.
func Plugin(t *testing.T, args []string, env ...string) plugins.Config {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sum, err := plugins.Sum(path)
	if err != nil {
		t.Fatal(err)
	}
	return plugins.Config{Path: path, SHA256: sum, Args: args, Env: append(env, beEnv+"=1"), StartTimeout: 20 * time.Second, CallTimeout: 20 * time.Second}
}

// Secret is a secret of a plugin.
func Secret(env, value string) []plugins.Secret {
	return []plugins.Secret{{Env: env, Value: func() ([]byte, error) { return []byte(value), nil }}}
}

// Program returns the path of a program: the value of an environment variable, or what the path has. The test is skipped
// where there is none.
func Program(t *testing.T, variable, name, from string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if value := os.Getenv(variable); value != "" {
		path, err = value, nil
	}
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Skipf("%s is not here: get %s, and set %s to it", name, from, variable)
	}
	return path
}

// Build builds a program of this module.
func Build(t *testing.T, directory string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(directory))
	if said, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, directory).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", directory, err, said)
	}
	return path
}

// Address returns an address of this machine on which nobody listens.
func Address(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return address
}

// Start runs a program until the test is over, and returns what it prints first, if first is true.
func Start(t *testing.T, first bool, env []string, program string, args ...string) string {
	t.Helper()
	var said bytes.Buffer
	cmd := exec.Command(program, args...) //nolint:noctx // its life is the test's
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	line := ""
	if first {
		if line, err = lines.ReadString('\n'); err != nil {
			_ = cmd.Wait()
			t.Fatalf("%s: %v\n%.2000s", program, err, said.String())
		}
	}
	printed := make(chan struct{})
	var rest bytes.Buffer
	go func() {
		defer close(printed)
		_, _ = rest.ReadFrom(lines)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-printed
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s printed: %.3000s\nand said: %.3000s", program, rest.String(), said.String())
		}
	})
	return strings.TrimSpace(line)
}

// Wait waits until a server answers, whatever it says.
func Wait(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // node on a busy machine
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(req)
		if err == nil {
			answer.Body.Close()
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the server does not start: %v", err)
		}
	}
}
