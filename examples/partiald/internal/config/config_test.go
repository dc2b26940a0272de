package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// load writes a file and loads it, with all directories in a temporary one.
func load(t *testing.T, text string, environ ...string) (*Config, error) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "partiald.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file, append(environ, "PARTIALD_DATA="+dir, "HOME="+dir))
	if err != nil {
		return nil, err
	}
	return c, c.Finish()
}

func problems(t *testing.T, err error) []Problem {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error", err)
	}
	return e.Problems
}

// The documented file must say what holds without it, and leave no key out.
func TestDocumentedFile(t *testing.T) {
	t.Parallel()
	name := filepath.Join(testkit.Root(t), "docs", "partiald.toml")
	c, err := Load(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	same := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".origins" }, cmp.Ignore())
	want := Default()
	emptyLists(reflect.ValueOf(want).Elem())
	emptyLists(reflect.ValueOf(c).Elem())
	if diff := cmp.Diff(want, c, same); diff != "" {
		t.Errorf("docs/partiald.toml has other values than the defaults (-default +file):\n%s", diff)
	}

	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	all := filepath.Join(t.TempDir(), "all.toml")
	if err := os.WriteFile(all, regexp.MustCompile(`(?m)^#([a-z\[])`).ReplaceAll(data, []byte("$1")), 0o600); err != nil {
		t.Fatal(err)
	}
	full, err := Load(all, nil)
	if err != nil {
		t.Fatalf("with the examples: %v", err)
	}
	eachLeaf(reflect.ValueOf(full).Elem(), "", func(key string, v reflect.Value) {
		if full.Origin(key) == "" {
			t.Errorf("docs/partiald.toml does not have %s", key)
		}
		if isTables(v) {
			for i := range v.Len() {
				eachLeaf(v.Index(i), "", func(k string, _ reflect.Value) {
					if at := number(key, i, k); full.Origin(at) == "" {
						t.Errorf("docs/partiald.toml does not have %s", at)
					}
				})
			}
		}
	})
}

// emptyLists makes nil of lists without elements.
func emptyLists(v reflect.Value) {
	eachLeaf(v, "", func(_ string, v reflect.Value) {
		if v.Kind() == reflect.Slice && v.Len() == 0 {
			v.SetZero()
		}
	})
}

func TestWithoutFile(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"STATE_DIRECTORY", "CACHE_DIRECTORY", "XDG_STATE_HOME", "XDG_CACHE_HOME"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", dir)
	c, err := Load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Finish(); err != nil {
		t.Fatal(err)
	}
	if c.Data != filepath.Join(dir, ".local/state/partiald") || c.Cache.Dir != filepath.Join(dir, ".cache/partiald") {
		t.Errorf("data %s, cache %s", c.Data, c.Cache.Dir)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("looking at the configuration made %v, %v", entries, err)
	}
	if err := c.MakeDirectories(); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(c.Data); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	if !c.Loopback() || !c.Embedded() || c.Shared() || c.Auth.Anonymous != RoleOperate || c.Workers.Slots < 1 {
		t.Errorf("got %+v", c)
	}
	if dsn, err := c.PostgresDSN(); dsn != "" || err != nil {
		t.Errorf("PostgreSQL %q, %v", dsn, err)
	}
}

func TestDirectoriesOfSystemd(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", "")
	t.Setenv("STATE_DIRECTORY", dir+"/state:"+dir+"/other")
	t.Setenv("CACHE_DIRECTORY", dir+"/cache")
	c, err := Load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Finish(); err != nil {
		t.Fatal(err)
	}
	if c.Data != dir+"/state" || c.Cache.Dir != dir+"/cache" || c.Ledger.SQLite != dir+"/state/ledger.db" {
		t.Errorf("data %s, cache %s, ledger %s", c.Data, c.Cache.Dir, c.Ledger.SQLite)
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	c, err := load(t, "[server]\nlisten = \"127.0.0.1:1\"\n[cache]\nage = \"1h\"\n",
		"PARTIALD_SERVER_LISTEN=127.0.0.1:2", "PARTIALD_CACHE_COMPLETES=1.5GB", "PARTIALD_FETCH_INSECURE=true",
		"PARTIALD_FETCH_ALLOW=https://a.example/x/, http://b.example/", "PARTIALD_FETCH_PORTS=443,8443",
		"PARTIALD_QUEUE_LIMIT=7", "PARTIALD_CONFIG=/nowhere", "UNRELATED=1")
	if err != nil {
		t.Fatal(err)
	}
	if c.Server.Listen != "127.0.0.1:2" || c.Cache.Completes != 3<<29 || !c.Fetch.Insecure || c.Queue.Limit != 7 {
		t.Errorf("got %+v", c)
	}
	if want := []string{"https://a.example/x/", "http://b.example/"}; !slices.Equal(c.Fetch.Allow, want) {
		t.Errorf("allow: got %q, want %q", c.Fetch.Allow, want)
	}
	if want := []int{443, 8443}; !slices.Equal(c.Fetch.Ports, want) {
		t.Errorf("ports: got %v, want %v", c.Fetch.Ports, want)
	}
	if got := c.Origin("server.listen"); got != "PARTIALD_SERVER_LISTEN" {
		t.Errorf("server.listen comes from %q", got)
	}
	if got := c.Origin("cache.age"); got != "partiald.toml:4" {
		t.Errorf("cache.age comes from %q", got)
	}
	if err := c.Set("server.listen", "127.0.0.1:3", "--listen"); err != nil || c.Origin("server.listen") != "--listen" {
		t.Errorf("flag: %v, %q", err, c.Origin("server.listen"))
	}
}

// Each case is a file, and what must be said about it: the place, the key and some words.
func TestProblems(t *testing.T) {
	t.Parallel()
	exists := filepath.Join(t.TempDir(), "exists")
	if err := os.WriteFile(exists, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, text string
		environ    []string
		want       []string
	}{
		{"unknown key", "[cache]\ndri = \"/x\"\n", nil, []string{"partiald.toml:2: cache.dri: unknown key (did you mean cache.dir?)\n  2 | dri = \"/x\"\n    | ^"}},
		{"unknown key, behind a tab", "[cache]\n\tdri = \"/x\"\n", nil, []string{"  2 | \tdri = \"/x\"\n    | \t^"}},
		{"unknown key in a wrong section", "[server]\nack_wait = \"3s\"\n", nil, []string{"server.ack_wait: unknown key (there is ack_wait in [queue])"}},
		{"unknown section", "[sevrer]\nlisten = \"x\"\n", nil, []string{"partiald.toml:1: sevrer", "unknown key"}},
		{"two unknown keys", "[log]\na = 1\nb = 2\n", nil, []string{"log.a: unknown key", "log.b: unknown key"}},
		{"file and environment", "[log]\na = 1\n", []string{"PARTIALD_LOG_B=1"}, []string{"log.a: unknown key", "PARTIALD_LOG_B: no key"}},
		{"unknown key in a list", "[[auth.tokens]]\nnam = \"x\"\n", nil, []string{"partiald.toml:2: auth.tokens.nam: unknown key"}},
		{"number for a text", "[server]\nlisten = 8080\n", nil, []string{"partiald.toml:2: server.listen: is an integer, want a text in quotes\n  2 | listen = 8080\n    |          ^"}},
		{"text for a number", "[queue]\n\nlimit = \"5\"\n", nil, []string{"partiald.toml:3: queue.limit: is a string, want a whole number"}},
		{"text for a list", "[fetch]\nallow = \"https://a/\"\n", nil, []string{"fetch.allow: is a string, want a list in brackets"}},
		{"text for a boolean", "[fetch]\ninsecure = \"yes\"\n", nil, []string{"fetch.insecure: is a string, want true or false"}},
		{"table for a list of tables", "[auth]\ntokens = 3\n", nil, []string{"auth.tokens: is an integer, want tables in double brackets"}},
		{"number for a duration", "[queue]\nack_wait = 30\n", nil, []string{"partiald.toml:2: queue.ack_wait: is an integer, want a time span in quotes, such as \"30s\"\n  2 | ack_wait = 30\n    |            ^"}},
		{"bad duration", "[queue]\nack_wait = \"half an hour\"\n", nil, []string{"partiald.toml:2: queue.ack_wait: \"half an hour\" is not a time span"}},
		{"bad size", "[cache]\nmemory = \"much\"\n", nil, []string{"partiald.toml:2: cache.memory: \"much\" is not a size"}},
		{"no TOML", "server listen\n", nil, []string{"partiald.toml:1: "}},
		{"twice", "[log]\nlevel = \"info\"\nlevel = \"warn\"\n", nil, []string{"partiald.toml:3: ", "level"}},
		{"unknown variable", "", []string{"PARTIALD_SERVER_LISTNE=x"}, []string{"PARTIALD_SERVER_LISTNE: no key has this variable"}},
		{"bad variable", "", []string{"PARTIALD_QUEUE_LIMIT=x"}, []string{"PARTIALD_QUEUE_LIMIT: queue.limit: \"x\" is not a whole number"}},
		{"variable for tables", "", []string{"PARTIALD_AUTH_TOKENS=x"}, []string{"PARTIALD_AUTH_TOKENS: auth.tokens: can only be set in a file"}},
		{"bad listen", "[server]\nlisten = \"8080\"\n", nil, []string{"partiald.toml:2: server.listen: \"8080\" is not HOST:PORT"}},
		{"bad port", "", []string{"PARTIALD_SERVER_LISTEN=127.0.0.1:99999"}, []string{"PARTIALD_SERVER_LISTEN: server.listen: \"99999\" is not a port"}},
		{"open to all", "[server]\nlisten = \":8080\"\n", nil, []string{"auth.tokens: is missing: others can reach :8080"}},
		{"bad network", "[server]\ntrusted_proxies = [\"10.0.0.0/33\"]\n", nil, []string{"server.trusted_proxies: \"10.0.0.0/33\" is neither"}},
		{"bad networks", "[fetch]\nprivate_networks = [\"intranet\"]\n", nil, []string{"fetch.private_networks: \"intranet\" is neither"}},
		{"half of TLS", "[server]\ntls_key = \"/x\"\n", nil, []string{"server.tls_certificate: is missing"}},
		{"no certificate", "[server]\ntls_key = \"/nowhere/k\"\ntls_certificate = \"/nowhere/c\"\n", nil, []string{"partiald.toml:3: server.tls_certificate: cannot be used"}},
		{"open proxy", "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n", nil, []string{"auth.tokens: is missing: others can reach 127.0.0.1:8080 through a proxy"}},
		{"open name", "[server]\npublic_url = \"https://updates.example.com\"\n", nil, []string{"auth.tokens: is missing"}},
		{"bad public URL", "[server]\npublic_url = \"updates.example.com\"\n", nil, []string{"server.public_url: \"updates.example.com\" is not an address"}},
		{"directory that cannot be", "[cache]\ndir = \"" + exists + "/x\"\n", nil, []string{"partiald.toml:2: cache.dir: cannot be made"}},
		{"both queues", "[queue]\nurls = [\"nats://q:4222\"]\ncluster_listen = \":6222\"\nobjects = true\n", nil, []string{"partiald.toml:3: queue.cluster_listen: is about the embedded queue"}},
		{"bad queue", "[queue]\nurls = [\"http://u:hidden@q\"]\nobjects = true\n", nil, []string{"queue.urls: \"http://u:xxxxx@q\" is not an address"}},
		{"shared queue without shared store", "[queue]\nurls = [\"nats://q:4222\"]\n", nil, []string{"storage.command: is missing: servers that share a queue"}},
		{"open cluster", "[queue]\ncluster_listen = \":6222\"\nobjects = true\n", nil, []string{"queue.cluster_secret: is missing"}},
		{"queue open to others", "[queue]\nlisten = \"0.0.0.0:4222\"\n", nil, []string{"queue.listen: 0.0.0.0:4222 is reached by others"}},
		{"no credentials", "[queue]\nurls = [\"nats://q:4222\"]\nobjects = true\ncredentials = \"/nowhere\"\n", nil, []string{"partiald.toml:4: queue.credentials: stat /nowhere: no such file"}},
		{"two ledgers", "[ledger]\npostgres = \"postgres://x\"\nsqlite = \"/tmp/l\"\n", nil, []string{"ledger.sqlite: and ledger.postgres exclude each other"}},
		{"no DSN", "[ledger]\npostgres_file = \"/nowhere\"\n", nil, []string{"ledger.postgres_file: stat /nowhere"}},
		{"no plugin", "[storage]\ncommand = \"/nowhere/plugin\"\nsha256 = \"00\"\n", nil, []string{"partiald.toml:2: storage.command: ", "open /nowhere/plugin: no such file"}},
		{"no checksum", "[storage]\ncommand = \"" + exists + "\"\n", nil, []string{"storage.sha256: is missing: if you trust " + exists + " as it is now, it is 2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"}},
		{"wrong checksum", "[storage]\ncommand = \"" + exists + "\"\nsha256 = \"00\"\n", nil, []string{"partiald.toml:3: storage.sha256: " + exists + " has another checksum"}},
		{"no secret", "[storage]\ncommand = \"" + exists + "\"\nsha256 = \"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881\"\nsecrets = [\"PIN=/nowhere\"]\n", nil, []string{"storage.secrets: stat /nowhere"}},
		{"no signing plugin", "[[signing.keys]]\nid = \"k\"\nplugin = \"hsm\"\npublic_key = \"release-primary\"\n", nil, []string{"partiald.toml:3: signing.keys[0].plugin: \"hsm\" is not the name of one of signing.plugins", "signing.policy: is missing"}},
		{"no public key", "[[signing.keys]]\nid = \"k\"\nplugin = \"hsm\"\n", nil, []string{"signing.keys[0].public_key: is missing"}},
		{"no trusted key", "[signing]\ntrust = [\"release-tertiary\"]\n", nil, []string{"partiald.toml:2: signing.trust: stat release-tertiary"}},
		{"no rules", "[toolchain]\nrules = [\"/nowhere.toml\"]\n", nil, []string{"toolchain.rules: stat /nowhere.toml"}},
		{"bad rules", "[toolchain]\nrules = [\"" + exists + "\"]\n", nil, []string{"toolchain.rules: " + exists}},
		{"bad role", "[[auth.tokens]]\nname = \"a\"\nrole = \"root\"\nhash = \"sha256:" + strings.Repeat("0", 64) + "\"\n", nil, []string{"partiald.toml:3: auth.tokens[0].role: \"root\" is none of"}},
		{"bad hash", "[[auth.tokens]]\nname = \"a\"\nrole = \"read\"\nhash = \"secret\"\n", nil, []string{"auth.tokens[0].hash: is not sha256: and 64"}},
		{"no hash", "[[auth.tokens]]\nname = \"a\"\nrole = \"read\"\n", nil, []string{"auth.tokens[0].hash: is missing"}},
		{"short token", "[[auth.tokens]]\nname = \"a\"\nrole = \"read\"\ntoken_file = \"" + exists + "\"\n", nil, []string{"auth.tokens[0].token_file: the token in " + exists + " is shorter"}},
		{"name twice", strings.Repeat("[[auth.tokens]]\nname = \"a\"\nrole = \"read\"\nhash = \"sha256:"+strings.Repeat("0", 64)+"\"\n", 2), nil, []string{"partiald.toml:6: auth.tokens[1].name: \"a\" is taken"}},
		{"bad anonymous", "[auth]\nanonymous = \"all\"\n", nil, []string{"auth.anonymous: \"all\" is none of"}},
		{"bad log", "[log]\nformat = \"xml\"\nlevel = \"loud\"\n", nil, []string{"partiald.toml:2: log.format: \"xml\" is none", "partiald.toml:3: log.level: \"loud\" is none"}},
		{"proxy without prefixes", "[fetch]\nproxy = \"http://proxy:3128\"\n", nil, []string{"fetch.proxy: needs fetch.allow"}},
		{"too little", "[workers]\nmax_memory = \"1MB\"\nattempts = 0\n[limits]\nupload = \"1B\"\n", nil, []string{"workers.max_memory: 1MB is too little", "workers.attempts: 0 is not between 1 and 100", "limits.upload: 1B is too little"}},
		{"cluster of one", "[queue]\ncluster_listen = \"127.0.0.1:6222\"\ncluster_routes = [\"127.0.0.1:6222\"]\nobjects = true\n", nil, []string{"queue.cluster_routes: is missing"}},
		{"replicas alone", "[queue]\nreplicas = 3\n", nil, []string{"queue.replicas: 3 copies need a cluster"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := load(t, tt.text, tt.environ...)
			if err == nil {
				t.Fatal("no problem was found")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got\n%v\nwant it to have\n%s", err, want)
				}
			}
			if strings.Contains(err.Error(), "hidden") {
				t.Errorf("a password is in %v", err)
			}
			if len(problems(t, err)) == 0 {
				t.Error("the error names no problem")
			}
		})
	}
}

func TestUnreadableFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, maxFile+1); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{filepath.Join(dir, "none"): "no such file", dir: "is not a file", big: "at most 4194304"} {
		if _, err := Load(name, nil); err == nil || !strings.Contains(err.Error(), "--config: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
}

func TestPrint(t *testing.T) {
	t.Parallel()
	dsn := filepath.Join(t.TempDir(), "dsn")
	if err := os.WriteFile(dsn, []byte("postgres://u:hidden@db/x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`
[queue]
urls = ["nats://u:hidden@q:4222"]
objects = true
ack_wait = "90s"
[ledger]
postgres_file = %q
[storage]
env = ["S3_SECRET_KEY=hidden", "S3_REGION=eu"]
[[auth.tokens]]
name = "bot"
role = "read"
hash = "sha256:%064x"
[cache]
completes = "7GB"
`, dsn, 1)
	c, err := load(t, text, "PARTIALD_QUEUE_CLUSTER_SECRET=hidden", "PARTIALD_CACHE_PATCHES=0.5GB")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.PostgresDSN(); err != nil || got != "postgres://u:hidden@db/x" {
		t.Errorf("DSN %q, %v", got, err)
	}
	var out bytes.Buffer
	if err := c.Print(&out); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "hidden") || strings.Contains(fmt.Sprintf("%v %+v %#v", c.Queue, c.Queue, c.Queue.ClusterSecret), "=hidden") {
		t.Errorf("a secret is printed:\n%s", out.String())
	}
	for _, want := range []string{
		`urls = ["nats://u:xxxxx@q:4222"] # partiald.toml:3`, `ack_wait = "1m30s" # partiald.toml:5`,
		`completes = "7GB" # partiald.toml:15`, `patches = "512MB" # PARTIALD_CACHE_PATCHES`, `cluster_secret = "(secret)" # PARTIALD_QUEUE_CLUSTER_SECRET`,
		`env = ["S3_SECRET_KEY=(secret)", "S3_REGION=eu"]`, "[[auth.tokens]]\nname = \"bot\" # partiald.toml:11\nrole = \"read\"",
		"limit = 10000\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	// What is printed can be read again.
	again := filepath.Join(t.TempDir(), "again.toml")
	if err := os.WriteFile(again, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Load(again, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d.Cache != c.Cache || d.Auth.Tokens[0] != c.Auth.Tokens[0] || d.Limits != c.Limits {
		t.Errorf("read again: %+v, want %+v", d, c)
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"30s": 30 * time.Second, "7d": 7 * 24 * time.Hour, "1d12h": 36 * time.Hour, "0s": 0, "1h30m": 90 * time.Minute} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || d.Duration != want {
			t.Errorf("%s: got %v, %v, want %v", text, d, err, want)
		}
		var again Duration
		if err := again.UnmarshalText([]byte(d.String())); err != nil || again != d {
			t.Errorf("%s printed as %s reads as %v, %v", text, d, again, err)
		}
	}
	for _, text := range []string{"", "5", "d", "-1s", "-1d", "1d-1h", "1w", "99999999d"} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken as %v", text, d)
		}
	}
	for text, want := range map[string]Size{"20GB": 20 << 30, "512 MiB": 512 << 20, "1.5kb": 1536, "7B": 7, "0": 0, "2TB": 2 << 40} {
		var b Size
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want {
			t.Errorf("%s: got %d, %v, want %d", text, int64(b), err, int64(want))
		}
		var again Size
		if err := again.UnmarshalText([]byte(b.String())); err != nil || again != b {
			t.Errorf("%s printed as %s reads as %d, %v", text, b, int64(again), err)
		}
	}
	for _, text := range []string{"", "5", "GB", "-1GB", "1e99GB", "NaNGB", "5XB"} {
		var b Size
		if err := b.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken as %d", text, int64(b))
		}
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	token := strings.Repeat("t", MinToken)
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := (&Token{TokenFile: file}).Sum()
	if err != nil {
		t.Fatal(err)
	}
	b, err := (&Token{Hash: HashToken(token)}).Sum()
	if err != nil || a != b {
		t.Errorf("file and hash differ: %x, %x, %v", a, b, err)
	}
}

// TestDeployed: what an operator calls beside the service ("partiald backup") finds the directories of the unit.
func TestDeployed(t *testing.T) {
	t.Parallel()
	deploy := filepath.Join(testkit.Root(t), "examples", "partiald", "deploy")
	unit, err := os.ReadFile(filepath.Join(deploy, "partiald.service"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"partiald.toml", "cluster/partiald.toml"} {
		c, err := Load(filepath.Join(deploy, name), nil)
		if err != nil {
			t.Fatal(err)
		}
		for line, dir := range map[string]string{"StateDirectory=": c.Data, "CacheDirectory=": c.Cache.Dir} {
			if below, ok := strings.CutPrefix(dir, map[string]string{"StateDirectory=": "/var/lib/", "CacheDirectory=": "/var/cache/"}[line]); !ok || !strings.Contains(string(unit), "\n"+line+below+"\n") {
				t.Errorf("%s: %q is not the unit's %s", name, dir, line)
			}
		}
	}
}
