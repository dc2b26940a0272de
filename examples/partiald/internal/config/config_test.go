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
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/pelletier/go-toml/v2"

	"github.com/senbonzakura/senbonzakura/examples/internal/settings"
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
	c := Load(file, append(environ, "PARTIALD_DATA="+dir, "HOME="+dir))
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
	c := Load(name, nil)
	if err := c.Unreadable(); err != nil {
		t.Fatal(err)
	}
	same := cmpopts.IgnoreUnexported(Config{})
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
	full := Load(all, nil)
	if err := full.Unreadable(); err != nil {
		t.Fatalf("with the examples: %v", err)
	}
	settings.EachLeaf(reflect.ValueOf(full).Elem(), "", func(key string, v reflect.Value) {
		if full.Origin(key) == "" {
			t.Errorf("docs/partiald.toml does not have %s", key)
		}
		if settings.IsTables(v) {
			for i := range v.Len() {
				settings.EachLeaf(v.Index(i), "", func(k string, _ reflect.Value) {
					if at := settings.Number(key, i, k); full.Origin(at) == "" {
						t.Errorf("docs/partiald.toml does not have %s", at)
					}
				})
			}
		}
	})
}

// emptyLists makes nil of lists without elements.
func emptyLists(v reflect.Value) {
	settings.EachLeaf(v, "", func(_ string, v reflect.Value) {
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
	c := Load("", nil)
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
	c := Load("", nil)
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
		{"unknown section", "[sevrer]\nlisten = \"x\"\n", nil, []string{"partiald.toml:1: sevrer: unknown key (did you mean server?)"}},
		{"unknown key of the top in a section", "[log]\ndata = \"/x\"\n", nil, []string{"log.data: unknown key (there is data at the top)"}},
		{"unknown key of several sections", "[cache]\nlisten = \"x\"\n", nil, []string{"cache.listen: unknown key (there is listen in [server] and in [queue])"}},
		{"unknown variable, nearly", "", []string{"PARTIALD_QUEUE_LIMT=x"}, []string{"PARTIALD_QUEUE_LIMT: no key has this variable (did you mean PARTIALD_QUEUE_LIMIT?)"}},
		{"two unknown keys", "[log]\na = 1\nb = 2\n", nil, []string{"log.a: unknown key", "log.b: unknown key"}},
		{"file and environment", "[log]\na = 1\n", []string{"PARTIALD_LOG_B=1"}, []string{"log.a: unknown key", "PARTIALD_LOG_B: no key"}},
		{"unknown key in a list", "[[auth.tokens]]\nnam = \"x\"\n", nil, []string{"partiald.toml:2: auth.tokens[0].nam: unknown key (did you mean auth.tokens[0].name?)"}},
		{"number for a text", "[server]\nlisten = 8080\n", nil, []string{"partiald.toml:2: server.listen: is an integer, want a text in quotes\n  2 | listen = 8080\n    |          ^"}},
		{"text for a number", "[queue]\n\nlimit = \"5\"\n", nil, []string{"partiald.toml:3: queue.limit: is a string, want a whole number"}},
		{"text for a list", "[fetch]\nallow = \"https://a/\"\n", nil, []string{"fetch.allow: is a string, want a list in brackets"}},
		{"text for a boolean", "[fetch]\ninsecure = \"yes\"\n", nil, []string{"fetch.insecure: is a string, want true or false"}},
		{"table for a list of tables", "[auth]\ntokens = 3\n", nil, []string{"auth.tokens: is an integer, want tables in double brackets"}},
		{"number for a duration", "[queue]\nack_wait = 30\n", nil, []string{"partiald.toml:2: queue.ack_wait: is an integer, want a time span in quotes, such as \"30s\"\n  2 | ack_wait = 30\n    |            ^"}},
		{"number for a size", "[cache]\nmemory = -5\n", nil, []string{"partiald.toml:2: cache.memory: is an integer, want a size in quotes, such as \"20GB\"\n  2 | memory = -5\n    |          ^"}},
		{"number for a secret", "[queue]\ncluster_secret = 5\n", nil, []string{"queue.cluster_secret: is an integer, want a text in quotes\n  2 | cluster_secret = …\n    |                  ^"}},
		{"list for a duration", "[queue]\nack_wait = [\n3]\n", nil, []string{"partiald.toml:2: queue.ack_wait: is an array, want a time span in quotes, such as \"30s\"\n  2 | ack_wait = [\n    |            ^"}},
		{"number in a list", "[fetch]\nallow = [\"https://a/\", 3]\n", nil, []string{"partiald.toml:2: fetch.allow: has an integer in it, want a text in quotes\n  2 | allow = [\"https://a/\", 3]\n    |                        ^"}},
		{"number in an inline table", "storage = {prefix = 3}\n", nil, []string{"partiald.toml:1: storage: has an integer in it, which cannot stand here"}},
		{"table for a text", "[log.level]\nx = 1\n", nil, []string{"partiald.toml:1: log.level: is a table, want a text in quotes"}},
		{"list of tables for a table", "[[server]]\nlisten = \"x\"\n", nil, []string{"partiald.toml:1: server: is a list of tables, want a table"}},
		{"table twice", "[log]\n[log]\nlevel = \"x\"\n", nil, []string{"partiald.toml:2: log: table log already exists"}},
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
		{"signatures left out", "[auth]\nskip = [\"signatures\"]\n", nil, []string{"auth.skip: what is trusted is a matter of the configuration"}},
		{"unknown check left out", "[auth]\nskip = [\"luck\"]\n", nil, []string{"auth.skip: no check is called \"luck\""}},
		{"unknown requirement", "[signing]\nrequire = [\"luck\"]\n", nil, []string{"signing.require: \"luck\" is none of"}},
		{"signatures without trust", "[signing]\nrequire = [\"signatures\"]\n", nil, []string{"signing.require: \"signatures\" needs keys"}},
		{
			"proof left out and required", "[auth]\nskip = [\"verify\"]\n[[signing.keys]]\nid = \"k\"\nplugin = \"hsm\"\npublic_key = \"release-primary\"\n", nil,
			[]string{"auth.skip: without the check \"verify\" nothing could be signed", "signing.keys[0].plugin", "signing.policy"},
		},
		{"no signing plugin", "[[signing.keys]]\nid = \"k\"\nplugin = \"hsm\"\npublic_key = \"release-primary\"\n", nil, []string{"partiald.toml:3: signing.keys[0].plugin: \"hsm\" is not the name of one of signing.plugins", "signing.policy: is missing"}},
		{"no public key", "[[signing.keys]]\nid = \"k\"\nplugin = \"hsm\"\n", nil, []string{"signing.keys[0].public_key: is missing"}},
		{
			"validity of keys", "[[signing.keys]]\nid = \"k\"\nplugin = \"hsm\"\npublic_key = \"release-primary\"\nnot_before = \"soon\"\n" +
				"[[signing.keys]]\nid = \"k\"\nplugin = \"hsm\"\npublic_key = \"release-primary\"\nnot_before = \"2026-02-01\"\nnot_after = \"2026-01-01\"\n", nil,
			[]string{"signing.keys[0].not_before: \"soon\" is neither a day", "signing.keys[1].not_after: 2026-01-01 is not after not_before"},
		},
		{"no trusted key", "[signing]\ntrust = [\"release-tertiary\"]\n", nil, []string{"partiald.toml:2: signing.trust: stat release-tertiary"}},
		{"no rules", "[toolchain]\nrules = [\"/nowhere.toml\"]\n", nil, []string{"toolchain.rules: stat /nowhere.toml"}},
		{"bad rules", "[toolchain]\nrules = [\"" + exists + "\"]\n", nil, []string{"toolchain.rules: " + exists}},
		{"bad format", "[toolchain]\nformats = [\"zucchini\", \"courgette\"]\n", nil, []string{"partiald.toml:2: toolchain.formats: \"courgette\" is no patch format"}},
		{"bad trust", "[toolchain]\ntrust = \"both\"\n", nil, []string{"partiald.toml:2: toolchain.trust: \"both\" is neither complete nor version"}},
		{"bad role", "[[auth.tokens]]\nname = \"a\"\nrole = \"root\"\nhash = \"sha256:" + strings.Repeat("0", 64) + "\"\n", nil, []string{"partiald.toml:3: auth.tokens[0].role: \"root\" is none of"}},
		{"bad hash", "[[auth.tokens]]\nname = \"a\"\nrole = \"read\"\nhash = \"secret\"\n", nil, []string{"auth.tokens[0].hash: is not sha256: and 64"}},
		{"no hash", "[log]\n[[auth.tokens]]\nname = \"a\"\nrole = \"read\"\n", nil, []string{"partiald.toml:2: auth.tokens[0].hash: is missing (\"partiald token\" makes one), as is token_file\n  2 | [[auth.tokens]]\n    |   ^"}},
		{"no role", "[[auth.tokens]]\nname = \"a\"\nhash = \"sha256:" + strings.Repeat("0", 64) + "\"\n", nil, []string{"auth.tokens[0].role: is missing: read, submit or operate"}},
		{"no name", "[[auth.tokens]]\nrole = \"read\"\nhash = \"sha256:" + strings.Repeat("0", 64) + "\"\n", nil, []string{"auth.tokens[0].name: is missing"}},
		{"short token", "[[auth.tokens]]\nname = \"a\"\nrole = \"read\"\ntoken_file = \"" + exists + "\"\n", nil, []string{"auth.tokens[0].token_file: the token in " + exists + " is shorter"}},
		{"name twice", strings.Repeat("[[auth.tokens]]\nname = \"a\"\nrole = \"read\"\nhash = \"sha256:"+strings.Repeat("0", 64)+"\"\n", 2), nil, []string{"partiald.toml:6: auth.tokens[1].name: \"a\" is taken"}},
		{"token twice", "[[auth.tokens]]\nname = \"a\"\nrole = \"read\"\nhash = \"sha256:" + strings.Repeat("0", 64) + "\"\n[[auth.tokens]]\nname = \"b\"\nrole = \"read\"\nhash = \"sha256:" + strings.Repeat("0", 64) + "\"\n", nil, []string{"partiald.toml:8: auth.tokens[1].hash: is that of auth.tokens[0].name, too"}},
		{"proxies that are everybody", "[server]\ntrusted_proxies = [\"::/0\"]\n[auth]\nanonymous = \"read\"\n", nil, []string{"server.trusted_proxies: ::/0 is everybody"}},
		{"name without a name", "[server]\npublic_url = \"https://:443\"\n", nil, []string{"server.public_url: \"https://:443\" is not an address"}},
		{"ambiguous prefix", "[fetch]\nallow = [\"https://a/../b\"]\n", nil, []string{"fetch.allow: fetch: prefix https://a/../b: path is ambiguous"}},
		{"prefix of another scheme", "[fetch]\nallow = [\"ftp://a/b\"]\n", nil, []string{"fetch.allow: \"ftp://a/b\" is not the beginning"}},
		{"little cache", "[cache]\nmemory = \"1B\"\ncompletes = \"0\"\npatches = \"1KB\"\npartials = \"1KB\"\nreports = \"1KB\"\n", nil, []string{"cache.memory: 1B is too little: at least 1MB", "cache.completes: 0B is too little", "cache.patches: 1KB", "cache.partials: 1KB", "cache.reports: 1KB"}},
		{"bad DSN", "[ledger]\npostgres = \"nonsense\"\n", nil, []string{"ledger.postgres: cannot parse `nonsense`"}},
		{"ledger that is a directory", "[ledger]\nsqlite = \"" + filepath.Dir(exists) + "\"\n", nil, []string{"ledger.sqlite: " + filepath.Dir(exists) + " is not a file"}},
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

// One look says everything: what cannot be read, what cannot be used, and what is wrong with the environment, in the
// order of the file.
func TestAllProblems(t *testing.T) {
	t.Parallel()
	const text = `[server]
listen = 8080
public_url = "updates"
[workers]
attempts = 0

	[queue]
ack_wait = 30
limit = "many"
timeout = "1ms"
[cache]
dri = "/x"
completes = "much"
[[auth.tokens]]
name = "a b"
role = 3
`
	_, err := load(t, text, "PARTIALD_LOG_LEVEL=loud", "PARTIALD_LOG_FROMAT=json", "PARTIALD_LIMITS_BATCH=x", "PARTIALD_CACHE_PATCHES=x")
	want := `partiald.toml:2: server.listen: is an integer, want a text in quotes
  2 | listen = 8080
    |          ^
partiald.toml:3: server.public_url: "updates" is not an address such as "https://updates.example.com"
  3 | public_url = "updates"
    |              ^
partiald.toml:5: workers.attempts: 0 is not between 1 and 100
  5 | attempts = 0
    |            ^
partiald.toml:8: queue.ack_wait: is an integer, want a time span in quotes, such as "30s"
  8 | ack_wait = 30
    |            ^
partiald.toml:9: queue.limit: is a string, want a whole number
  9 | limit = "many"
    |         ^
partiald.toml:10: queue.timeout: 1ms is too short: at least 100ms
  10 | timeout = "1ms"
     |           ^
partiald.toml:12: cache.dri: unknown key (did you mean cache.dir?)
  12 | dri = "/x"
     | ^
partiald.toml:13: cache.completes: "much" is not a size such as "512MB" or "20GB"
  13 | completes = "much"
     |             ^
partiald.toml:14: auth.tokens[0].hash: is missing ("partiald token" makes one), as is token_file
  14 | [[auth.tokens]]
     |   ^
partiald.toml:15: auth.tokens[0].name: "a b" is not 1 to 64 letters, digits, ".", "_" and "-"
  15 | name = "a b"
     |        ^
partiald.toml:16: auth.tokens[0].role: is an integer, want a text in quotes
  16 | role = 3
     |        ^
PARTIALD_CACHE_PATCHES: cache.patches: "x" is not a size such as "512MB" or "20GB"
PARTIALD_LIMITS_BATCH: limits.batch: "x" is not a whole number
PARTIALD_LOG_FROMAT: no key has this variable (did you mean PARTIALD_LOG_FORMAT?)
PARTIALD_LOG_LEVEL: log.level: "loud" is none of debug, info, warn, error`
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What only follows from a value that could not be read is not said. Each case is a file, and the keys that problems are
// about: no others.
func TestNoFollowingProblems(t *testing.T) {
	t.Parallel()
	exists := filepath.Join(t.TempDir(), "exists")
	if err := os.WriteFile(exists, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	hash := `hash = "sha256:` + strings.Repeat("0", 64) + `"`
	for _, tt := range []struct {
		name, text string
		environ    []string
		want       []string
	}{
		{"data", "data = 3\n", []string{"PARTIALD_DATA="}, []string{"data"}},
		{"data that cannot be", "data = \"" + exists + "/x\"\n", []string{"PARTIALD_DATA=" + exists + "/x"}, []string{"data"}},
		{"TLS of the server", "[server]\ntls_key = 3\ntls_certificate = \"/c\"\n", nil, []string{"server.tls_key"}},
		{"which queue", "[queue]\nurls = 3\ncredentials = \"/x\"\ncluster_routes = [\"a:1\"]\nreplicas = 3\n", nil, []string{"queue.urls"}},
		{"whether there is a cluster", "[queue]\ncluster_listen = 3\ncluster_routes = [\"a:1\"]\nreplicas = 3\n", nil, []string{"queue.cluster_listen"}},
		{"where the others are", "[queue]\ncluster_listen = \"127.0.0.1:1\"\ncluster_routes = 3\nobjects = true\n", nil, []string{"queue.cluster_routes"}},
		{"secret of the cluster", "[queue]\ncluster_listen = \":1\"\ncluster_routes = [\"a:1\"]\nobjects = true\ncluster_secret_file = 3\n", nil, []string{"queue.cluster_secret_file"}},
		{"TLS of the queue", "[queue]\ntls_ca = 3\ntls_certificate = \"/c\"\ntls_key = \"/k\"\n", nil, []string{"queue.tls_ca"}},
		{"shared store", "[queue]\nurls = [\"nats://q\"]\nobjects = \"true\"\n", nil, []string{"queue.objects"}},
		{"which ledger", "[ledger]\npostgres = 3\nsqlite = \"" + exists + "/x/ledger\"\n", nil, []string{"ledger.postgres"}},
		{"http", "[fetch]\ninsecure = \"yes\"\nallow = [\"http://a/\"]\n", nil, []string{"fetch.insecure"}},
		{"what a proxy may", "[fetch]\nallow = \"https://a/\"\nproxy = \"http://p:1\"\n", nil, []string{"fetch.allow"}},
		{"whether there is a store", "[storage]\ncommand = 3\nsha256 = \"0\"\npresign = \"1m\"\nprefix = \"x\"\n", nil, []string{"storage.command", "storage.prefix"}},
		{"name that is nearly right", "[storage]\ncomand = \"x\"\nsha256 = \"0\"\n", nil, []string{"storage.comand"}},
		{"variable that is nearly right", "[storage]\nsha256 = \"0\"\n", []string{"PARTIALD_STORAGE_COMAND=x"}, []string{""}},
		{"section that is nearly right", "[storag]\ncommand = \"x\"\n", []string{"PARTIALD_STORAGE_SHA256=0"}, []string{"storag"}},
		{"key in a wrong section", "[cache]\ncommand = \"x\"\n[storage]\nsha256 = \"0\"\n", nil, []string{"cache.command"}},
		{"names of signers", "[[signing.plugins]]\nname = 3\ncommand = \"" + exists + "\"\nsha256 = \"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881\"\n" +
			"[[signing.keys]]\nid = \"k\"\nplugin = \"hsm\"\npublic_key = \"release-primary\"\n[signing]\npolicy = 3\n", nil, []string{"signing.plugins[0].name", "signing.policy"}},
		{"tokens", "[server]\nlisten = \":1\"\n[auth]\ntokens = 3\n", nil, []string{"auth.tokens"}},
		{"who may come", "[server]\nlisten = \":1\"\n[auth]\nanonymous = 3\n", nil, []string{"auth.anonymous"}},
		{"file of a token", "[[auth.tokens]]\nname = \"a\"\nrole = \"read\"\ntoken_file = 3\n", nil, []string{"auth.tokens[0].token_file"}},
		{"the environment knows better", "[log]\nlevel = 3\n", []string{"PARTIALD_LOG_LEVEL=loud"}, []string{"log.level", "log.level"}},
		{"the environment is wrong about it", "[log]\nformat = \"xml\"\n[workers]\nattempts = 0\n", []string{"PARTIALD_WORKERS_ATTEMPTS=x"}, []string{"log.format", "workers.attempts"}},
		{"torn", "[log]\nformat = \"xml\"\nlevel = loud\n[server]\nlisten = 3\n", []string{"PARTIALD_SERVER_LISTEN=:1", "PARTIALD_LIMITS_BATCH=0"}, []string{"log.format", "", "limits.batch"}},
		{"torn after a wrong type", "[log]\nlevel = 3\nformat = [\n  \"a\",\n  b\n", nil, []string{"log.level", ""}},
		{"torn after a number for a text", "[queue]\nack_wait = 3\n=\n", nil, []string{"queue.ack_wait", ""}},
		{"several numbers for texts", "[queue]\nack_wait = 3\ntimeout = 4\n[cache]\nmemory = 3\n[log]\nlevel = 3", nil, []string{"queue.ack_wait", "queue.timeout", "cache.memory", "log.level"}},
		{
			"torn among list tables", "[signing]\npolicy = \"\"\n[[signing.plugins]]\nname = \"a\"\ncommand = \"/nowhere\"\n[[signing.keys]]\nid = \"k\"\nplugin = \"b\"\npublic_key = \"release-primary\"\n[[signing.plugins]\n", nil,
			[]string{"signing.policy", "signing.plugins[0].command", ""},
		},
		{"all of a table", "[log]\nlevel = \"info\"\n[[auth.tokens]]\nname = \"a\"\nrole = \"read\"\n" + hash + "\n[log]\nformat = 3\n[limits]\nbatch = 0\n", nil, []string{"log", "limits.batch"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			environ := tt.environ
			file := filepath.Join(t.TempDir(), "partiald.toml")
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			var got []string
			err := Load(file, environ).Finish()
			for _, p := range problems(t, err) {
				got = append(got, p.Key)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("problems with other keys (-want +got):\n%s\n%v", diff, err)
			}
		})
	}
}

// Problems show the line, but no secret that stands in it.
func TestSnippetsHideSecrets(t *testing.T) {
	t.Parallel()
	_, err := load(t, `[queue]
urls = ["http://u:hidden@q", "nats://u:hid/den@q"]
cluster_secret = "hidden
[ledger]
`)
	_, err2 := load(t, `[ledger]
postgress = "postgres://u:hidden@db/x"
[queue]
cluster_secre = "hidden"
[storage]
command = "/nowhere"
env = [
  "S3_SECRET=hidden", 3,
]
[[auth.tokens]]
nam = "x"
token_fil = "/run/token"
`)
	for _, err := range []error{err, err2} {
		if err == nil || strings.Contains(err.Error(), "hidden") || strings.Contains(err.Error(), "hid/den") {
			t.Errorf("a secret is in\n%v", err)
		}
	}
	for _, want := range []string{"urls = [\"http://…@q\", \"nats://…@q\"]\n", "cluster_secret = …\n"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
	for _, want := range []string{"postgress = …\n", "cluster_secre = …\n", "\"S3_SECRET=…\n"} {
		if !strings.Contains(err2.Error(), want) {
			t.Errorf("no %q in\n%v", want, err2)
		}
	}
}

// Whatever stands in a file, reading it comes to an end, and finds fault with what the decoder does not take. Each problem
// is in a line that there is.
func FuzzFile(f *testing.F) {
	for _, text := range []string{
		"", "[log]\nlevel = \"info\"\n", "[log]\r\nlevel = 3\r\n[log]\n", "[[auth.tokens]]\nname = 3\n[[auth.tokens]]\nrole = 1\n", "a = [\n1,\n",
		"storage = {command = 3}\n", "[queue]\nack_wait = 30\nlimit = \"x\"\n=\n", "log.level.x = 3\n", "\"a.b\" = 1\n'' = 2\n", "[auth.tokens]\nx = 1\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4<<10 {
			t.Skip() // it takes as many rounds as there are faults
		}
		c := Default()
		c.read.Data("f.toml", data)
		_ = c.Finish()
		if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(Default()); err != nil && c.Unreadable() == nil {
			t.Errorf("the decoder says %v, and no problem is found", err)
		}
		for _, p := range c.read.Problems() {
			if lines := bytes.Count(data, []byte("\n")) + 1; p.Line < 0 || p.Line > lines || (p.Line > 0) != (p.Snippet != "") {
				t.Errorf("line %d of %d, %q", p.Line, lines, p.Snippet)
			}
		}
	})
}

func TestUnreadableFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, settings.MaxFile+1); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{filepath.Join(dir, "none"): "no such file", dir: "is not a file", big: "at most 4194304"} {
		if err := Load(name, nil).Finish(); err == nil || !strings.Contains(err.Error(), "--config: ") || !strings.Contains(err.Error(), want) {
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
	d := Load(again, nil)
	if err := d.Unreadable(); err != nil {
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
		c := Load(filepath.Join(deploy, name), nil)
		if err := c.Unreadable(); err != nil {
			t.Fatal(err)
		}
		for line, dir := range map[string]string{"StateDirectory=": c.Data, "CacheDirectory=": c.Cache.Dir} {
			if below, ok := strings.CutPrefix(dir, map[string]string{"StateDirectory=": "/var/lib/", "CacheDirectory=": "/var/cache/"}[line]); !ok || !strings.Contains(string(unit), "\n"+line+below+"\n") {
				t.Errorf("%s: %q is not the unit's %s", name, dir, line)
			}
		}
	}
}

// The documented file can be used as it is; what is likely not wanted is warned of.
func TestWarnings(t *testing.T) {
	t.Parallel()
	finish := func(file, text string) *Config {
		t.Helper()
		if text != "" {
			file = filepath.Join(t.TempDir(), "partiald.toml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c := Load(file, nil)
		if err := c.Set("data", t.TempDir(), "--data"); err != nil {
			t.Fatal(err)
		}
		if err := c.Finish(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, tt := range []struct{ name, file, text, want string }{
		{"documented", filepath.Join(testkit.Root(t), "docs", "partiald.toml"), "", ""},
		{"one server named", "", "[queue]\nurls = [\"nats://a:4222\"]\nobjects = true\n", "partiald.toml:2: queue.urls: names 1 of the servers"},
		{"three servers named", "", "[queue]\nurls = [\"nats://a:4222\", \"nats://b:4222\", \"nats://c:4222\"]\nobjects = true\n", ""},
		{"one copy", "", "[queue]\nurls = [\"nats://a:4222\"]\nobjects = true\nreplicas = 1\n", "partiald.toml:4: queue.replicas: there is one copy"},
		{"two in a cluster", "", "[queue]\ncluster_listen = \"127.0.0.1:6222\"\ncluster_routes = [\"127.0.0.1:6223\"]\nobjects = true\n", "queue.cluster_routes: make a cluster of 2"},
	} {
		warnings := finish(tt.file, tt.text).Warnings()
		if tt.want == "" && len(warnings) > 0 || tt.want != "" && (len(warnings) != 1 || !strings.Contains(fmt.Sprint(warnings[0]), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, warnings, tt.want)
		}
	}
}
