package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
)

// builds is where programs are built; TestMain removes it.
var builds = sync.OnceValues(func() (dir string, err error) {
	dir, err = os.MkdirTemp("", "partiald-plugins-")
	remove = dir
	return dir, err
})

// built builds each program once, when the first test needs it, so that none waits for what others need.
var built = map[string]func() (string, error){
	"storage-dir": building("storage-dir"), "signer-pem": building("signer-pem"), "marctl": building("marctl"),
}

func building(name string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		dir, err := builds()
		if err != nil {
			return "", err
		}
		path := filepath.Join(dir, name)
		said, err := exec.CommandContext(context.Background(), "go", "build", "-ldflags=-s -w", "-o", path, "../"+name).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("%w: %s", err, said)
		}
		return path, nil
	})
}

// pluginBinary returns the path of a plugin and its SHA-256.
func pluginBinary(tb testing.TB, name string) (path, sum string) {
	tb.Helper()
	if runtime.GOOS == "windows" {
		tb.Skip("plugins are started on Unix here")
	}
	path, err := built[name]()
	if err != nil {
		tb.Fatalf("build %s: %v", name, err)
	}
	return path, sha256File(tb, path)
}

// Everything that can be missing at the start must end it within five seconds, with exit code 2 and the key's name.
func TestBrokenConfigurations(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() }) // after the tests below, which run at the same time
	closed := "127.0.0.1:" + freePort(t)
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	text := file("text", "x", 0o600)
	script := file("script", "#!/bin/sh\nexit 3\n", 0o700)
	scriptSum := sha256File(t, script)
	stuff := filepath.Join(dir, "stuff")
	if err := os.Mkdir(stuff, 0o700); err != nil {
		t.Fatal(err)
	}
	file("stuff/photo.jpg", "x", 0o600)
	store, storeSum := pluginBinary(t, "storage-dir")
	signer, signerSum := pluginBinary(t, "signer-pem")
	keys := filepath.Join(dir, "keys")
	if err := os.Mkdir(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	public := writeKey(t, keys, "release")
	other := writeKey(t, filepath.Join(dir), "other")
	policy := file("policy.json", `{"rules": [{"key": "release", "channels": ["*"]}]}`, 0o600)
	signing := func(id, public string) string {
		return fmt.Sprintf("[signing]\npolicy = %q\n[[signing.plugins]]\nname = \"pem\"\ncommand = %q\nsha256 = %q\nargs = [\"release=%s/release.pem\"]\n"+
			"[[signing.keys]]\nname = \"release\"\nplugin = \"pem\"\nid = %q\npublic_key = %q\n", policy, signer, signerSum, keys, id, public)
	}
	noData := filepath.Join(text, "below")
	hash := "sha256:" + strings.Repeat("0", 64)

	for i, tt := range []struct {
		name, toml string
		env        []string
		want       []string // in what it says; the first is the key
	}{
		{"config file missing", "", []string{"PARTIALD_CONFIG=" + dir + "/none.toml"}, []string{"--config", "none.toml: no such file"}},
		{"config file is a directory", "", []string{"PARTIALD_CONFIG=" + dir}, []string{"--config", "is not a file"}},
		{"unknown key", "[queue]\nlimt = 3\n", nil, []string{"queue.limt", "partiald.toml:2:", "did you mean queue.limit?", "limt = 3\n", "^"}},
		{"unknown section", "[quue]\nlimit = 3\n", nil, []string{"quue", "partiald.toml:1:", "^"}},
		{"unknown variable", "", []string{"PARTIALD_QUEUE_LIMT=3"}, []string{"PARTIALD_QUEUE_LIMT"}},
		{"wrong type", "[queue]\nlimit = \"three\"\n", nil, []string{"queue.limit", "partiald.toml:2:", "want a whole number", "^"}},
		{"bad time span", "[queue]\nack_wait = \"soon\"\n", nil, []string{"queue.ack_wait", "time span"}},
		{"bad size", "[cache]\nmemory = \"lots\"\n", nil, []string{"cache.memory", "size"}},
		{"no TOML", "listen: 8080\n", nil, []string{"partiald.toml:1:"}},
		{"address nonsense", "", []string{"PARTIALD_SERVER_LISTEN=here"}, []string{"server.listen", "HOST:PORT"}},
		{"port taken", "", []string{"PARTIALD_SERVER_LISTEN=" + taken.Addr().String()}, []string{"server.listen", "address already in use"}},
		{"address of another machine", "", []string{"PARTIALD_SERVER_LISTEN=192.0.2.1:80", "PARTIALD_AUTH_ANONYMOUS=read"}, []string{"server.listen", "cannot assign"}},
		{"open to all without tokens", "", []string{"PARTIALD_SERVER_LISTEN=0.0.0.0:0"}, []string{"auth.tokens"}},
		{"data below a file", "", []string{"PARTIALD_DATA=" + noData}, []string{"data", "cannot be made"}},
		{"cache in a directory of something else", "", []string{"PARTIALD_CACHE_DIR=" + stuff}, []string{"cache.dir", "stuff"}},
		{"ledger is no database", "", []string{"PARTIALD_LEDGER_SQLITE=" + file("ledger.db", strings.Repeat("no database ", 100), 0o600)}, []string{"ledger.sqlite", "ledger.db"}},
		{"postgres does not run", "", []string{"PARTIALD_LEDGER_POSTGRES=postgres://u:hidden@" + closed + "/x"}, []string{"ledger.postgres", "refused"}},
		{"postgres says nothing", "", []string{"PARTIALD_LEDGER_POSTGRES=postgres://u:hidden@" + silent.Addr().String() + "/x"}, []string{"ledger.postgres"}},
		{"queue does not run", "[queue]\nurls = [\"nats://u:hidden@" + closed + "\"]\nobjects = true\n", nil, []string{"queue.urls"}},
		{"queue says nothing", "[queue]\nurls = [\"nats://u:hidden@" + silent.Addr().String() + "\"]\nobjects = true\n", nil, []string{"queue.urls"}},
		{"queue without a shared store", "[queue]\nurls = [\"nats://" + closed + "\"]\n", nil, []string{"storage.command"}},
		{"port of the cluster taken", "[queue]\ncluster_listen = \"" + taken.Addr().String() + "\"\ncluster_routes = [\"127.0.0.1:1\"]\nobjects = true\n", nil, []string{"queue.cluster_listen", "address already in use"}},
		{"queue directory below a file", "", []string{"PARTIALD_QUEUE_DIR=" + noData}, []string{"queue.dir"}},
		{"storage plugin missing", "[storage]\ncommand = \"" + dir + "/none\"\nsha256 = \"" + scriptSum + "\"\n", nil, []string{"storage.command", "none"}},
		{"storage plugin of another checksum", "[storage]\ncommand = \"" + script + "\"\nsha256 = \"" + strings.Repeat("0", 64) + "\"\n", nil, []string{"storage.sha256", "another checksum"}},
		{"storage plugin that is none", "[storage]\ncommand = \"" + script + "\"\nsha256 = \"" + scriptSum + "\"\n", nil, []string{"storage.command"}},
		{"store missing", "[storage]\ncommand = \"" + store + "\"\nsha256 = \"" + storeSum + "\"\nargs = [\"" + noData + "\"]\n", nil, []string{"storage.command"}},
		{"signing key that the plugin does not have", signing("nightly", public), nil, []string{"signing.keys[0].id", "nightly"}},
		{"signing key with another public key", signing("release", other), nil, []string{"signing.keys[0].id"}},
		{"public key missing", signing("release", dir+"/none.pem"), nil, []string{"signing.keys[0].public_key", "none.pem"}},
		{"policy without the key", "[signing]\npolicy = \"" + file("p2", `{"rules": [{"key": "nightly", "channels": ["*"]}]}`, 0o600) + "\"\n[[signing.keys]]\nid = \"release\"\nplugin = \"pem\"\npublic_key = \"release-primary\"\n", nil, []string{"signing.policy", "no rule lets key"}},
		{"bad network", "[server]\ntrusted_proxies = [\"10.0.0.0/99\"]\n", nil, []string{"server.trusted_proxies"}},
		{"bad token hash", "[[auth.tokens]]\nname = \"a\"\nrole = \"read\"\nhash = \"sha256:12\"\n", nil, []string{"auth.tokens[0].hash"}},
		{"token twice", strings.Repeat("[[auth.tokens]]\nname = \"a\"\nrole = \"read\"\nhash = \""+hash+"\"\n", 2), nil, []string{"auth.tokens[1].name"}},
		{"certificate missing", "[server]\ntls_certificate = \"/none/c\"\ntls_key = \"/none/k\"\n", nil, []string{"server.tls_certificate"}},
		{"rules that are none", "[toolchain]\nrules = [\"" + text + "\"]\n", nil, []string{"toolchain.rules"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			environ := append([]string{
				"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home, "PARTIALD_DATA=" + filepath.Join(home, "data"), "PARTIALD_SERVER_LISTEN=127.0.0.1:0",
			}, tt.env...)
			var args []string
			if tt.toml != "" {
				name := filepath.Join(home, "partiald.toml")
				if err := os.WriteFile(name, []byte(tt.toml), 0o600); err != nil {
					t.Fatal(err)
				}
				args = []string{"--config", name}
			}
			var stderr bytes.Buffer
			var code int
			begin := time.Now()
			if strict() || i%9 == 0 { // the others save the start of a process
				ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
				defer cancel()
				cmd := exec.CommandContext(ctx, "partiald", args...)
				cmd.Env, cmd.Stderr = environ, &stderr
				code = exitCode(cmd.Run())
			} else {
				code = run(args, environ, io.Discard, &stderr)
			}
			if took := time.Since(begin); took > patience(5*time.Second) {
				t.Errorf("it took %v", took)
			}
			if code != cli.ExitUsage {
				t.Errorf("exit code %d, want %d", code, cli.ExitUsage)
			}
			for _, want := range tt.want {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("it does not say %q:\n%s", want, stderr.String())
				}
			}
			if strings.Contains(stderr.String(), "hidden") {
				t.Errorf("it says a password:\n%s", stderr.String())
			}
		})
	}
}
