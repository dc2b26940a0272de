package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/examples/internal/schematest"
	"github.com/senbonzakura/senbonzakura/internal/testkit/schema"
	"github.com/senbonzakura/senbonzakura/plugins/conformance"
	"github.com/senbonzakura/senbonzakura/toolchain"
	"github.com/senbonzakura/senbonzakura/toolchain/tools"
)

var update = flag.Bool("update", false, "write the schemas in docs/schemas anew")

// printed is what each command prints with --json: one of these a line. verify-updates has a schema of its own.
var printed = map[string][]any{
	"apply":             {applyResult{}},
	"bench":             {measurement{}},
	"cache purge":       {cache.Usage{}},
	"cache stats":       {cacheStatsResult{}},
	"cache verify":      {cacheVerifyResult{}},
	"create":            {wroteResult{}},
	"diff":              {wroteResult{}},
	"digest":            {digestResult{}},
	"extract":           {extractResult{}},
	"info refresh":      {wroteResult{}},
	"info show":         {marInfo{}},
	"inspect":           {inspectResult{}},
	"lint":              {lintResult{}},
	"list":              {listResult{}},
	"man":               {manResult{}},
	"pack":              {packResult{}},
	"partial":           {partialResult{}, pairResult{}},
	"patch":             {wroteResult{}},
	"plan":              {toolchain.Pair{}},
	"plugin check":      {conformance.Report{}},
	"plugin info":       {pluginAnswer{}},
	"plugin new":        {newPluginAnswer{}},
	"prove":             {proveResult{}},
	"sign":              {wroteResult{}},
	"signature add":     {wroteResult{}},
	"signature extract": {wroteResult{}},
	"signature import":  {wroteResult{}},
	"strip":             {wroteResult{}},
	"tools check":       {toolResult{}},
	"tools fetch":       {toolResult{}},
	"tools list":        {tools.Tool{}},
	"tools pin":         {tools.Tool{}},
	"verify":            {verifyResult{}},
	"version":           {versionResult{}},
	"xz":                {wroteResult{}, checkResult{}},
}

const schemaDir = "../../docs/schemas"

// schemaVariable says where the schemas are to those who run elsewhere.
const schemaVariable = "MARCTL_SCHEMAS"

func schemaFile(command string) string {
	return filepath.Join(cmp.Or(os.Getenv(schemaVariable), schemaDir), "marctl-"+strings.ReplaceAll(command, " ", "-")+".schema.json")
}

// commandName is the name of a command without that of the program.
func commandName(cmd *cobra.Command) string { return strings.TrimPrefix(cmd.CommandPath(), "marctl ") }

// There is a schema for every command, which says what the command prints, in snake_case.
func TestSchemas(t *testing.T) {
	names := map[string]bool{}
	for _, cmd := range commandsOf(t) {
		name := commandName(cmd)
		if cmd.HasSubCommands() || name == "verify-updates" {
			continue
		}
		names[name] = true
		values, ok := printed[name]
		if !ok {
			t.Errorf("%s has no schema", name)
			continue
		}
		schematest.Schema{
			File: schemaFile(name), Title: "marctl " + name + " --json", Description: "One line of standard output. Fields are only added.",
			Values: append(values, failure{}),
		}.Check(t, *update)
	}
	for name := range printed {
		if !names[name] {
			t.Errorf("%s is no command", name)
		}
	}
	files, err := filepath.Glob(filepath.Join(schemaDir, "marctl-*.json"))
	if err != nil || len(files) != len(printed) {
		t.Errorf("%d schemas, %d commands, %v", len(files), len(printed), err)
	}
}

// schemaBreaches says which lines of an output are not what the command's schema says; keys that it does not name are
// wrong, too.
func schemaBreaches(command string, output []byte) (wrong []string, lines int) {
	published, err := schema.Read(schemaFile(command), "")
	if err != nil {
		return []string{err.Error()}, 0
	}
	for line := range bytes.Lines(output) {
		if err := published.Check(line); err != nil {
			wrong = append(wrong, fmt.Sprintf("%v: %s", err, line))
		}
		lines++
	}
	return wrong, lines
}

// Every command is run with --json: what it prints, results and errors, is what its schema says. The plugin commands are run
// with plugins by a script.
func TestPrintedJSON(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(names ...string) []string {
		for i, name := range names {
			if base, ok := strings.CutPrefix(name, "@"); ok {
				names[i] = filepath.Join(dir, filepath.FromSlash(base))
			}
		}
		return names
	}
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for name, version := range map[string]string{"old": "140.0", "new": "140.1"} {
		write(name+"/application.ini", "[App]\nVendor=Mozilla\nName=Firefox\nVersion="+version+"\nBuildID=2026010100000"+version[4:]+"\n")
		write(name+"/app.txt", strings.Repeat("a line of "+version+" and what stays\n", 200))
	}
	write("new/added.txt", "added")
	write("old/removed.txt", "removed")
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
	write("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	write("key.pub", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})))
	write("notes.txt", "no MAR")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sum := func(name string) string {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%x", sha512.Sum512(data))
	}
	seen := map[string]int{}
	call := func(words ...string) {
		t.Helper()
		words = at(words...)
		cmd, _, err := (&app{}).root().Find(words)
		if err != nil {
			t.Fatal(err)
		}
		var out, said bytes.Buffer
		code := run(t.Context(), append(words, "--json"), strings.NewReader(""), &out, &said)
		wrong, lines := schemaBreaches(commandName(cmd), out.Bytes())
		if len(wrong) > 0 || lines == 0 {
			t.Errorf("%q: %d lines, exit code %d, %s\n%s", words, lines, code, said.Bytes(), strings.Join(wrong, "\n"))
		}
		if !bytes.HasPrefix(out.Bytes(), []byte(`{"error"`)) {
			seen[commandName(cmd)] += lines
		}
	}
	chan1 := []string{"--level", "fast", "--channel", "chan", "--product-version"}
	call(append([]string{"pack", "@old", "@old.mar"}, append(chan1, "140.0")...)...)
	call(append([]string{"pack", "@new", "@new.mar"}, append(chan1, "140.1")...)...)
	call("partial", "@old.mar", "@new.mar", "@update.mar", "--cache", "@cache")
	call("partial", "@new.mar", "@old.mar", "@down.mar")
	write("request.json", strings.ReplaceAll(`{"partials": [{"from": {"url": "DIR/old.mar", "hash": "`+sum("old.mar")+`"}, "to": {"url": "DIR/new.mar", "hash": "`+sum("new.mar")+`"}, "out": "DIR/made.mar"},
		{"from": {"url": "DIR/none.mar", "hash": "`+sum("old.mar")+`"}, "to": {"url": "DIR/new.mar", "hash": "`+sum("new.mar")+`"}, "out": "DIR/never.mar"}]}`, "DIR", filepath.ToSlash(dir)))
	call("partial", "--request", "@request.json", "--cache", "@cache")
	call("prove", "@old.mar", "@update.mar", "@new.mar")
	call("prove", "@old.mar", "@update.mar", "@old.mar")
	call("apply", "@update.mar", "@old")
	call("apply", "@update.mar", "@old")
	call("create", "-H", "chan", "-V", "1.0", "-C", "@new", "@plain.mar", "app.txt")
	call("extract", "@new.mar", "@out")
	call("info", "show", "@new.mar")
	call("info", "refresh", "@new.mar", "--product-version", "1.2", "@refreshed.mar")
	call("list", "@new.mar")
	call("lint", "@new.mar", "@plain.mar", "@none.mar")
	call("sign", "@plain.mar", "@signed.mar", "--pem", "@key.pem")
	call("info", "show", "@signed.mar")
	call("verify", "@signed.mar", "--key", "@key.pub")
	call("verify", "@plain.mar", "--key", "@key.pub")
	call("strip", "@signed.mar", "@stripped.mar")
	call("digest", "@signed.mar")
	call("signature", "extract", "@signed.mar", "0", "@signature")
	call("signature", "import", "@signed.mar", "0", "@signature", "@imported.mar")
	call("signature", "add", "@stripped.mar", "@signature", "@added.mar")
	call("diff", "@out/app.txt", "@new/added.txt", "@a.patch")
	call("patch", "@out/app.txt", "@a.patch", "@patched")
	call("inspect", "@a.patch")
	call("inspect", "@notes.txt")
	call("xz", "@out/app.txt", "@app.xz")
	call("xz", "--check", "@app.xz")
	call("xz", "--check", "@notes.txt")
	call("bench", "--differ", "default", "@out/app.txt", "@new/added.txt")
	call("cache", "stats", "--cache", "@cache")
	call("cache", "verify", "--cache", "@cache")
	call("cache", "purge", "--cache", "@cache", "--all")
	call("plan", "--mar", "@old.mar", "--mar", "@new.mar", "--mar", "@none.mar")
	call("plan", "--mar", "@old.mar", "--mar", "@new.mar")
	call("tools", "pin", "self", self, "{old}", "{new}", "{patch}")
	var text bytes.Buffer
	if code := run(t.Context(), []string{"tools", "pin", "self", self, "{old}", "{new}", "{patch}"}, strings.NewReader(""), &text, &text); code != exitDone {
		t.Fatal(text.String())
	}
	write("tools.toml", text.String())
	call("tools", "list", "--file", "@tools.toml")
	call("tools", "check", "--file", "@tools.toml", "--cache", "@cache")
	call("tools", "fetch", "--file", "@tools.toml", "--cache", "@cache")
	call("man", "@man")
	call("version")
	for name := range printed {
		if seen[name] == 0 && !strings.HasPrefix(name, "plugin ") {
			t.Errorf("%s printed no result", name)
		}
	}
}

// runChecked is marctl in scripts: what it prints with --json must be what the schema of the command says.
func runChecked(args []string) int {
	cmd, _, err := (&app{}).root().Find(args)
	if err != nil || !slices.Contains(args, "--json") || commandName(cmd) == "verify-updates" || commandName(cmd) == "marctl" {
		return run(context.Background(), args, os.Stdin, os.Stdout, os.Stderr)
	}
	var out bytes.Buffer
	code := run(context.Background(), args, os.Stdin, io.MultiWriter(os.Stdout, &out), os.Stderr)
	if bytes.HasPrefix(out.Bytes(), []byte("{")) { // else a file went there
		if wrong, _ := schemaBreaches(commandName(cmd), out.Bytes()); len(wrong) > 0 {
			fmt.Fprintf(os.Stderr, "NOT WHAT THE SCHEMA SAYS: %s\n", strings.Join(wrong, "\n"))
			return 99
		}
	}
	return code
}
