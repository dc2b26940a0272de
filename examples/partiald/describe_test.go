package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What is configured is described, in three forms, and no secret is in any.
func TestDescribe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	const secret = "hunter2hunter2"
	everything := write("everything.toml", `
name = "alpha"
data = "/srv/data"
[server]
listen = "0.0.0.0:8080"
public_url = "https://partials.example.com"
trusted_proxies = ["10.0.0.0/24"]
[queue]
urls = ["nats://user:`+secret+`@nats1.example.com:4222", "tls://nats2.example.com:4222"]
replicas = 3
[ledger]
postgres = "postgres://user:`+secret+`@db.example.com/partials?sslpassword=`+secret+`"
[fetch]
allow = ["https://user:`+secret+`@archive.example.com/pub/"]
proxy = "http://user:`+secret+`@proxy.example.com:3128"
[storage]
command = "/usr/local/bin/storage-s3"
sha256 = "`+strings.Repeat("0", 64)+`"
args = ["-key", "`+secret+`"]
env = ["AWS_SECRET=`+secret+`"]
seal_file = "/etc/seal"
[signing]
trust = ["/etc/keys/mozilla.pem"]
policy = "/etc/policy.json"
[[signing.plugins]]
name = "hsm \"one\" <b>"
command = "/usr/local/bin/signer"
sha256 = "`+strings.Repeat("0", 64)+`"
args = ["`+secret+`"]
[[signing.keys]]
plugin = "hsm \"one\" <b>"
id = "release"
public_key = "/etc/release.pem"
[[auth.tokens]]
name = "bot"
role = "submit"
hash = "sha256:`+strings.Repeat("1", 64)+`"
`)
	alone := write("alone.toml", "data = \"/srv/data\"\n[ledger]\npostgres = \"host=db.example.com dbname=partials password="+secret+"\"\n")
	for name, args := range map[string][]string{"text": nil, "mermaid": {"--mermaid"}, "markdown": {"--markdown"}} {
		out, errs, code := partiald(t, nil, append([]string{"describe", "--config", everything}, args...)...)
		if code != 0 {
			t.Errorf("%s: exit code %d, %s", name, code, errs)
		}
		for _, want := range []string{"nats1.example.com", "archive.example.com/pub/", "storage-s3", "0.0.0.0:8080", "db.example.com/partials", "journal", "store"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %s in\n%s", name, want, out)
			}
		}
		for _, bad := range []string{secret, strings.Repeat("1", 64), "user:"} {
			if strings.Contains(out, bad) {
				t.Errorf("%s: a secret (%s) is in\n%s", name, bad, out)
			}
		}
		if name != "text" {
			mermaidHolds(t, out)
		}
		out, errs, code = partiald(t, []string{"PARTIALD_NAME=beta"}, append([]string{"describe", "--config", alone}, args...)...)
		if code != 0 || strings.Contains(out, secret) || !strings.Contains(out, "db.example.com/partials") || strings.Contains(out, "storage plugin") {
			t.Errorf("%s: exit code %d, %s\n%s", name, code, errs, out)
		}
	}
	if _, errs, code := partiald(t, nil, "describe", "--mermaid", "--markdown"); code != 2 || errs == "" {
		t.Errorf("both forms: exit code %d, %s", code, errs)
	}
}

// mermaidHolds looks whether every line of a flow chart has one of the forms that are used, and leads to a known part.
func mermaidHolds(t *testing.T, out string) {
	t.Helper()
	if _, rest, ok := strings.Cut(out, "```mermaid\n"); ok {
		out, _, _ = strings.Cut(rest, "```")
	}
	label := `"[^"]*"`
	node := regexp.MustCompile(`^    (\w+)(\[` + label + `\]|\[\(` + label + `\)\])$`)
	edge := regexp.MustCompile(`^  (\w+) -->(?:\|` + label + `\|)? (\w+)$`)
	other := regexp.MustCompile(`^(flowchart LR|  subgraph \w+ \[` + label + `\]|  end)$`)
	known := map[string]bool{}
	edges := 0
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		if m := node.FindStringSubmatch(line); m != nil {
			known[m[1]] = true
		} else if m := edge.FindStringSubmatch(line); m != nil {
			edges++
			if !known[m[1]] || !known[m[2]] {
				t.Errorf("an arrow to what is not there: %s", line)
			}
		} else if !other.MatchString(line) {
			t.Errorf("not a line of a flow chart: %s", line)
		}
	}
	if len(known) < 5 || edges < 4 {
		t.Errorf("%d parts and %d arrows in\n%s", len(known), edges, out)
	}
}
