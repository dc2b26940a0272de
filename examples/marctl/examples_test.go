package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/examples/internal/doctest"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// examplesElsewhere says which commands the script sign (plugin-examples) and TestVerifyDocs run.
var examplesElsewhere = regexp.MustCompile(`plugin|verify-updates`)

// examplesSayNo are those whose answer about the files of this test is no.
var examplesSayNo = []string{
	"marctl verify out.mar --key release-primary", // which is Mozilla's
	"marctl verify update.mar --key release-primary",
	"marctl verify update.mar --key mycert.der", // it is not signed
	"marctl lint out.mar", "marctl lint update.mar", "marctl lint --fast update.mar", "marctl lint --json *.mar",
	"marctl verify update.mar --updater --key release-primary --key release-secondary",
}

// shown are commands of marctl that help and documents show.
func shown(t *testing.T) (lines []string) {
	t.Helper()
	lines = doctest.Examples((&app{color: "auto"}).root())
	for _, name := range []string{"README.md", "docs/engine.md"} {
		text, err := os.ReadFile(filepath.Join("../..", name))
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, doctest.Lines(string(text), "marctl")...)
	}
	return lines
}

// Every example of help, and every command of README.md and docs/engine.md, is run as it stands there, in a directory that
// has the files that it names. What stands for others' machines and directories is replaced by some here.
func TestExamples(t *testing.T) {
	lines := shown(t)
	home := t.TempDir()
	for _, name := range []string{"HOME", "XDG_CACHE_HOME", "LocalAppData"} {
		t.Setenv(name, home)
	}
	made := examplesDirectory(t)
	server := httptest.NewServer(http.FileServer(http.Dir(made)))
	defer server.Close()
	var sums []any
	for _, name := range []string{"from.mar", "to.mar"} {
		data, err := os.ReadFile(filepath.Join(made, name))
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, fmt.Sprintf("%x", sha512.Sum512(data)))
	}
	ran := 0
	if code := run(t.Context(), []string{"partial", filepath.Join(made, "from.mar"), filepath.Join(made, "to.mar"), filepath.Join(t.TempDir(), "x"), "--cache", filepath.Join(home, "senbonzakura")}, strings.NewReader(""), io.Discard, io.Discard); code != exitDone {
		t.Fatalf("exit code %d", code)
	}
	for _, line := range lines {
		if examplesElsewhere.MatchString(line) || strings.HasPrefix(line, "marctl bench") && testkit.Count(0, 1, 1) == 0 { // nine seconds
			continue
		}
		dir := testkit.MemoryDir(t)
		if err := os.CopyFS(dir, os.DirFS(made)); err != nil {
			t.Fatal(err)
		}
		t.Chdir(dir)
		here := strings.NewReplacer("/opt/", "opt/", "/var/cache", home, "/usr/local/share/man/", "man/", "/usr/bin/mbsdiff", "./mydiff").Replace(line)
		if strings.Contains(here, "HEX") {
			here = fmt.Sprintf(strings.NewReplacer("HEX", "%s", "https://host", server.URL).Replace(here)+" --allow-http --allow-private", sums...)
		}
		commands, err := doctest.Parse(here)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range commands {
			if c.Words[0] != "marctl" {
				continue
			}
			var out, said strings.Builder
			want, code := exitDone, run(t.Context(), c.Words[1:], strings.NewReader(""), &out, &said)
			if slices.Contains(examplesSayNo, line) {
				want = exitNo
			}
			if code != want || code == exitDone && said.Len() > 0 && strings.Contains(said.String(), "marctl: ") && !strings.Contains(said.String(), "warning") {
				t.Errorf("%s: exit code %d, want %d; said %s%s", line, code, want, said.String(), out.String())
			}
			if c.Piped && strings.Contains(line, "| jq") {
				for dec := json.NewDecoder(strings.NewReader(out.String())); ; {
					var v any
					if err := dec.Decode(&v); errors.Is(err, io.EOF) {
						break
					} else if err != nil {
						t.Errorf("%s: not JSON: %v", line, err)
						break
					}
				}
			}
			ran++
		}
	}
	if ran < 75 {
		t.Errorf("only %d examples", ran)
	}
}

// examplesDirectory returns a directory with all files that examples name.
func examplesDirectory(t *testing.T) string {
	t.Helper()
	dir := testkit.MemoryDir(t)
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), mode)); err != nil {
			t.Fatal(err)
		}
	}
	call := func(words ...string) {
		t.Helper()
		var said strings.Builder
		for i, w := range words {
			if base, ok := strings.CutPrefix(w, "@"); ok {
				words[i] = filepath.Join(dir, filepath.FromSlash(base))
			}
		}
		if code := run(context.Background(), words, strings.NewReader(""), &said, &said); code != exitDone {
			t.Fatalf("%q: exit code %d: %s", words, code, said.String())
		}
	}
	alias := func(from string, names ...string) {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dir, from))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			write(n, string(data), 0o644)
		}
	}
	for _, tree := range []string{"from", "to", "firefox", "opt/firefox", "opt/firefox-153.5.1", "opt/firefox-153.6.0"} {
		version := "153.5.1"
		if tree == "to" || tree == "opt/firefox-153.6.0" {
			version = "153.6.0"
		}
		write(tree+"/application.ini", "[App]\nVendor=Mozilla\nName=Firefox\nVersion="+version+"\nBuildID=202601010000"+strings.ReplaceAll(version[4:], ".", "0")+"\n", 0o644)
		write(tree+"/update-settings.ini", "[Settings]\nACCEPTED_MAR_CHANNEL_IDS=release\n", 0o644)
		write(tree+"/app.txt", strings.Repeat("a line of "+version+" and what stays\n", 200), 0o644)
		write(tree+"/browser/defaults.js", "// as it was", 0o644)
		write(tree+"/Contents/Resources/defaults.js", "// "+version, 0o644)
	}
	text := strings.Repeat("what both have\n", 100)
	write("old", text+"old", 0o644)
	write("new", text+"new", 0o644)
	alias("old", "OLD", "DIR/a.old", "libxul.so.old", "xul.dll.old", "corpus/a.old", "dir/updatev3.manifest", "dir/a.txt")
	alias("new", "NEW", "DIR/a.new", "libxul.so.new", "xul.dll.new", "corpus/a.new", "libxul.so")
	call("pack", "@from", "@from.mar", "--channel", "release", "--product-version", "153.5.1", "--level", "fast")
	call("pack", "@to", "@to.mar", "--channel", "release", "--product-version", "153.6.0", "--level", "fast")
	call("partial", "@from.mar", "@to.mar", "@update.mar")
	alias("from.mar", "153.5.1.complete.mar", "153.5.1.mar", "from.complete.mar")
	alias("to.mar", "153.6.0.complete.mar", "153.6.0.mar", "to.complete.mar")
	alias("update.mar", "out.mar", "out.partial.mar", "update.partial.mar", "unsigned.mar")
	call("extract", "--raw", "@update.mar", "@raw", "updatev3.manifest")
	alias("raw/updatev3.manifest", "member")
	call("diff", "@old", "@new", "@patch")
	alias("patch", "libxul.so.patch")
	keys(t, write)
	call("sign", "@update.mar", "@signed.mar", "--pem", "@release.pem")
	signature := strings.Repeat("s", 512) // as long as one of an updater's key
	write("sig.bin", signature, 0o644)
	write("sig.b64", base64.StdEncoding.EncodeToString([]byte(signature)), 0o644)
	call("digest", "@unsigned.mar", "--reserve", "@reserved.mar")
	write("history.json", `[{"product": "Firefox", "version": "153.5.1", "build_id": "20261019143936", "platform": "Linux_x86_64-gcc3", "locale": "de"},
		{"product": "Firefox", "version": "153.6.0", "build_id": "20261123143936", "platform": "Linux_x86_64-gcc3", "locale": "de"}]`, 0o644)
	write("icefox.toml", "product = \"Icefox\"\n\n[[era]]\nsince = \"0\"\ncompression = \"xz\"\nmanifests = [3]\nsignature = \"sha384\"\npatches = [\"mbdiff10\"]\n", 0o644)
	write("release.json", `{"partials": [{"from": {"url": "from.mar"}, "to": {"url": "to.mar"}, "out": "made.mar"}]}`, 0o644)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	write("mydiff", "#!/bin/sh\nexec '"+self+"' diff \"$1\" \"$2\" \"$3\"\n", 0o755)
	write("mypatch", "#!/bin/sh\nexec '"+self+"' patch \"$1\" \"$2\" \"$3\"\n", 0o755)
	var pin strings.Builder
	if code := run(context.Background(), []string{"tools", "pin", "mbsdiff", filepath.Join(dir, "mydiff")}, strings.NewReader(""), &pin, io.Discard); code != exitDone {
		t.Fatalf("exit code %d", code)
	}
	write("tools.toml", pin.String(), 0o644)
	return dir
}

// keys writes a private key, and its public one under the names that examples have for it.
func keys(t *testing.T, write func(name, text string, mode os.FileMode)) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	write("release.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), 0o600)
	write("release.der", string(public), 0o644)
	write("mycert.der", string(public), 0o644)
}
