package updater_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/senbonzakura/senbonzakura/internal/member"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial/internal/updatetest"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

const (
	elf   = "\x7fELF\x02\x01\x01\x00"
	pe    = "MZ\x90\x00\x03\x00\x00\x00"
	macho = "\xcf\xfa\xed\xfe\x07\x00\x00\x01"
	fat   = "\xca\xfe\xba\xbe\x00\x00\x00\x02"
	class = "\xca\xfe\xba\xbe\x00\x00\x00\x34"
)

// complete makes a complete update of files, whose names begin with "+" where they are executable.
func complete(tb testing.TB, product *mar.Product, pack func(testing.TB, []byte) []byte, files map[string]string) *mar.Reader {
	tb.Helper()
	a := &mar.Archive{Product: product}
	for _, n := range slices.Sorted(maps.Keys(files)) {
		name, executable := strings.CutPrefix(n, "+")
		mode := fs.FileMode(0o644)
		if executable {
			mode = 0o755
		}
		a.Entries = append(a.Entries, mar.BytesEntry(name, mode, pack(tb, []byte(files[n]))))
	}
	return updatetest.Write(tb, a)
}

func bzip2(tb testing.TB, data []byte) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w, err := member.Bzip2{}.Writer("").NewWriter(tb.Context(), &buf, member.Content{})
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

func ini(name, version, milestone string) map[string]string {
	files := map[string]string{
		"updatev3.manifest": "type \"complete\"\nadd \"application.ini\"\n",
		"application.ini":   fmt.Sprintf("[App]\nName=%s\nVersion=%s\nBuildID=20260101000000\n", name, version),
	}
	if milestone != "" {
		files["platform.ini"] = "[Build]\nMilestone=" + milestone + "\n"
	}
	return files
}

// Products number their MARs, applications and Gecko in their own ways.
func TestClientVersions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name           string
		files          map[string]string
		mar            string
		caller         updater.Claims
		version, gecko string
		source         updater.Source
	}{
		{"firefox", ini("Firefox", "153.5.1", "153.5.1"), "153.5.1", updater.Claims{}, "153.5.1", "153.5.1", updater.SourceComplete},
		{"esr", ini("Firefox", "140.12.0", "140.12.0"), "140.12.0esr", updater.Claims{}, "140.12.0esr", "140.12.0", updater.SourceComplete},
		{"tor", ini("Firefox", "140.5.0", "140.5.0"), "15.0.2", updater.Claims{}, "15.0.2", "140.5.0", updater.SourceComplete},
		{"waterfox", ini("Waterfox", "6.6.4", "140.3.1"), "6.6.4", updater.Claims{}, "6.6.4", "140.3.1", updater.SourceComplete},
		{"zen", ini("Zen", "1.17.6b", "145.0.1"), "1.17.6b", updater.Claims{}, "1.17.6b", "145.0.1", updater.SourceComplete},
		{"any version in the product block", ini("Firefox", "12.0", ""), "*", updater.Claims{}, "12.0", "", updater.SourceComplete},
		{"part of it is any", ini("Firefox", "12.0", ""), "12.*", updater.Claims{}, "12.0", "", updater.SourceComplete},
		{"the caller knows better", ini("Firefox", "12.0", "12.0"), "12.0", updater.Claims{Version: "13", Gecko: "14"}, "13", "14", updater.SourceCaller},
		{"version twice", map[string]string{"application.ini": "[App]\nVersion=1\nVersion=2\n"}, "*", updater.Claims{}, "2", "", updater.SourceComplete},
		{"macOS", map[string]string{
			"Contents/Resources/application.ini": "[App]\nVersion=3\n", "Contents/Resources/platform.ini": "[Build]\nMilestone=4\n",
		}, "*", updater.Claims{}, "3", "4", updater.SourceComplete},
		{"somewhere else", map[string]string{"browser/application.ini": "[App]\nVersion=3\n", "x": "y"}, "*", updater.Claims{}, "", "", updater.SourceDefault},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := complete(t, &mar.Product{Channel: "c", Version: tt.mar}, updatetest.Compress, tt.files)
			c, err := updater.ClientOf(r, tt.caller)
			if err != nil {
				t.Fatal(err)
			}
			if c.Version.Value != tt.version || c.Gecko.Value != tt.gecko || c.Version.Source != tt.source || c.Version.Known != (tt.version != "") || c.Gecko.Known != (tt.gecko != "") {
				t.Errorf("got version %+v, gecko %+v, want %q and %q of %s", c.Version, c.Gecko, tt.version, tt.gecko, tt.source)
			}
		})
	}
}

func TestClientPlatform(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  updater.Platform
	}{
		{"ELF", map[string]string{"libxul.so": elf, "+firefox": "#!/bin/sh\n", "a.txt": pe}, updater.Linux},
		{"PE", map[string]string{"xul.dll": pe, "firefox.exe": pe}, updater.Windows},
		{"Mach-O", map[string]string{"+Contents/MacOS/firefox": macho, "+Contents/MacOS/other": fat}, updater.MacOS},
		{"a program without suffix", map[string]string{"+firefox": elf}, updater.Linux},
		{"the majority", map[string]string{"a.so": elf, "b.so": elf, "tool.exe": pe}, updater.Linux},
		{"a tie", map[string]string{"a.so": elf, "tool.exe": pe}, ""},
		{"names", map[string]string{"firefox.exe": "x", "a.so": "x"}, updater.Windows},
		{"a bundle by name", map[string]string{"Contents/MacOS/firefox": "x", "a.exe": "x"}, updater.MacOS},
		{"a Java class is none", map[string]string{"+main": class}, ""},
		{"nothing", map[string]string{"readme.txt": "hello", "empty.so": ""}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := updater.ClientOf(complete(t, nil, updatetest.Compress, tt.files), updater.Claims{})
			if err != nil {
				t.Fatal(err)
			}
			if c.Platform.Value != tt.want || c.Platform.Known != (tt.want != "") {
				t.Errorf("complete: got %+v, want %q", c.Platform, tt.want)
			}
			tree := fstest.MapFS{}
			for n, data := range tt.files {
				name, executable := strings.CutPrefix(n, "+")
				mode := fs.FileMode(0o644)
				if executable {
					mode = 0o755
				}
				tree[name] = &fstest.MapFile{Data: []byte(data), Mode: mode}
			}
			if c, err = updater.ClientOfTree(tree, updater.Claims{}); err != nil {
				t.Fatal(err)
			}
			if c.Platform.Value != tt.want {
				t.Errorf("directory: got %+v, want %q", c.Platform, tt.want)
			}
		})
	}
}

func TestParsePlatform(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]updater.Platform{
		"linux": updater.Linux, "Linux_x86_64-gcc3": updater.Linux, "linux64-aarch64": updater.Linux, "linux-i686": updater.Linux,
		"win": updater.Windows, "win32": updater.Windows, "WINNT_x86-msvc-x64": updater.Windows, "Windows": updater.Windows,
		"mac": updater.MacOS, "macosx64": updater.MacOS, "macos": updater.MacOS, "osx": updater.MacOS, "Darwin_aarch64-gcc3": updater.MacOS,
		"": "", "android": "", "xlinux": "", "solaris": "",
	} {
		if got, ok := updater.ParsePlatform(name); got != want || ok != (want != "") {
			t.Errorf("%q: got %q, %v, want %q", name, got, ok, want)
		}
	}
}

func TestClientChannels(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  []string
		known bool
	}{
		{"one", map[string]string{"update-settings.ini": "[Settings]\nACCEPTED_MAR_CHANNEL_IDS=a-b\n"}, []string{"a-b"}, true},
		{"list", map[string]string{"update-settings.ini": "; c\n[Settings]\nACCEPTED_MAR_CHANNEL_IDS=a, b\tc ,,d\n"}, []string{"a", "b", "c", "d"}, true},
		{"any", map[string]string{"update-settings.ini": "[Settings]\nACCEPTED_MAR_CHANNEL_IDS=\n"}, []string{}, true},
		{"no key", map[string]string{"update-settings.ini": "[Settings]\nX=\n"}, nil, false},
		{"other section", map[string]string{"update-settings.ini": "[Other]\nACCEPTED_MAR_CHANNEL_IDS=a\n"}, nil, false},
		{"absent", map[string]string{"a": ""}, nil, false},
		{"elsewhere", map[string]string{"browser/update-settings.ini": "[Settings]\nACCEPTED_MAR_CHANNEL_IDS=a\n"}, nil, false},
		{"macOS", map[string]string{"Contents/Resources/update-settings.ini": "[Settings]\nACCEPTED_MAR_CHANNEL_IDS=a\n"}, []string{"a"}, true},
		{"framework", map[string]string{
			"Contents/Resources/update-settings.ini": "[Settings]\nACCEPTED_MAR_CHANNEL_IDS=a\n", "Contents/MacOS/updater.app/Contents/Frameworks/UpdateSettings.framework/UpdateSettings": "x",
		}, nil, false},
		{"the rest of a long list", map[string]string{
			"update-settings.ini": "[Settings]\nACCEPTED_MAR_CHANNEL_IDS=" + strings.Repeat("x", 509) + ",abc\n",
		}, []string{strings.Repeat("x", 509), "a"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := updater.ClientOf(complete(t, nil, updatetest.Compress, tt.files), updater.Claims{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, c.Channels.Value); diff != "" || c.Channels.Known != tt.known {
				t.Errorf("got %+v, want known %v\n%s", c.Channels, tt.known, diff)
			}
			if !c.Channels.Known && c.Channels.Note == "" {
				t.Error("not known, and no reason")
			}
		})
	}
}

func TestClientContradictions(t *testing.T) {
	t.Parallel()
	sha1, sha384 := mar.RSAPKCS1SHA1, mar.RSAPKCS1SHA384
	old := updater.Claims{Members: []updater.MemberFormat{updater.FormatBzip2}, Manifests: []updater.ManifestVersion{2}, Signature: sha1}
	current := updater.Claims{Members: []updater.MemberFormat{updater.FormatXZ}, Manifests: []updater.ManifestVersion{3}, Signature: sha384, Gecko: "140.0"}
	mixed := updater.Claims{Members: []updater.MemberFormat{updater.FormatXZ, updater.FormatBzip2}}
	only := func(c updater.Claims, fact string) updater.Claims {
		out := updater.Claims{}
		switch fact {
		case "members":
			out.Members = c.Members
		case "manifests":
			out.Manifests = c.Manifests
		case "signature":
			out.Signature = c.Signature
		}
		return out
	}
	for _, fact := range []string{"members", "manifests", "signature"} {
		_, err := updater.NewClient(updater.Claims{Gecko: "140.0"}, only(old, fact), current, updater.TrustNeither)
		var contradiction *updater.ContradictionError
		if !errors.Is(err, updater.ErrContradiction) || !errors.As(err, &contradiction) || contradiction.Fact != fact {
			t.Fatalf("%s: got %v", fact, err)
		}
		for _, text := range []string{"--trust", "140.0", contradiction.Complete, contradiction.Rule} {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %q does not say %q", fact, err, text)
			}
		}
		for trust, want := range map[updater.Trust]updater.Claims{updater.TrustComplete: old, updater.TrustVersion: current} {
			c, err := updater.NewClient(updater.Claims{}, only(old, fact), current, trust)
			if err != nil {
				t.Fatal(err)
			}
			got := updater.Claims{Members: c.Members.Value, Manifests: c.Manifests.Value, Signature: c.Signature.Value}
			if diff := cmp.Diff(only(want, fact), only(got, fact)); diff != "" {
				t.Errorf("%s, trust %v: %s", fact, trust, diff)
			}
		}
		c, err := updater.NewClient(only(old, fact), only(current, fact), current, updater.TrustNeither)
		if err != nil {
			t.Errorf("%s: what the caller says settles it: %v", fact, err)
		} else if got := (updater.Claims{Members: c.Members.Value, Manifests: c.Manifests.Value, Signature: c.Signature.Value}); !cmp.Equal(only(got, fact), only(old, fact)) {
			t.Errorf("%s: got %+v", fact, got)
		}
	}

	if _, err := updater.NewClient(updater.Claims{}, mixed, updater.Claims{}, updater.TrustVersion); !errors.Is(err, updater.ErrContradiction) {
		t.Errorf("mixed, no rules: got %v", err)
	}
	if _, err := updater.NewClient(updater.Claims{}, mixed, current, updater.TrustNeither); !errors.Is(err, updater.ErrContradiction) {
		t.Errorf("mixed: got %v", err)
	}
	c, err := updater.NewClient(updater.Claims{}, mixed, current, updater.TrustVersion)
	if err != nil || !c.Reads(updater.FormatXZ) || c.Reads(updater.FormatBzip2) {
		t.Errorf("mixed, trust version: got %+v, %v", c, err)
	}
	c, err = updater.NewClient(updater.Claims{}, mixed, current, updater.TrustComplete)
	if err != nil || !c.Reads(updater.FormatXZ) || !c.Reads(updater.FormatBzip2) {
		t.Errorf("mixed, trust complete: got %+v, %v", c, err)
	}
	c, err = updater.NewClient(updater.Claims{}, updater.Claims{Manifests: []updater.ManifestVersion{2, 3}}, current, updater.TrustNeither)
	if err != nil || c.Manifest() != updater.ManifestV3 {
		t.Errorf("manifests that overlap are none: got %+v, %v", c, err)
	}
}

func TestClientDefaults(t *testing.T) {
	t.Parallel()
	c, err := updater.NewClient(updater.Claims{}, updater.Claims{}, updater.Claims{}, updater.TrustNeither)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Reads(updater.FormatXZ) || c.Manifest() != updater.ManifestV3 || c.Signature.Value != mar.RSAPKCS1SHA384 || !c.Applies(updater.PatchMBDIFF10) || c.Applies(updater.PatchZucchini) {
		t.Errorf("got %+v", c)
	}
	for fact, known := range map[string]bool{
		"members": c.Members.Known, "manifests": c.Manifests.Known, "signature": c.Signature.Known, "patches": c.Patches.Known,
		"verifies": c.Verifies.Known, "channels": c.Channels.Known, "version": c.Version.Known, "drafts": c.Drafts.Known, "bundle": c.Bundle.Known,
	} {
		if known {
			t.Errorf("%s is known", fact)
		}
	}
	for gecko, known := range map[string]bool{"140.12.0": true, "141.0a1": false, "153.0": false} {
		c, err := updater.NewClient(updater.Claims{Gecko: gecko}, updater.Claims{}, updater.Claims{}, updater.TrustNeither)
		if err != nil || c.Drafts.Known != known || c.Drafts.Value {
			t.Errorf("drafts of %s: got %+v, %v", gecko, c.Drafts, err)
		}
	}
	if c, err = updater.ClientOf(complete(t, nil, bzip2, map[string]string{"updatev2.manifest": "", "a": "x"}), updater.Claims{}); err != nil {
		t.Fatal(err)
	}
	if c.Reads(updater.FormatXZ) || c.Manifest() != updater.ManifestV2 || c.Members.Source != updater.SourceComplete || !c.Members.Known {
		t.Errorf("got %+v", c)
	}
}

func TestClientChecks(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	verifying := updater.Claims{Version: "2.0", Verifies: &yes, Channels: []string{"a", "b"}, Signature: mar.RSAPKCS1SHA384}
	with := func(c updater.Claims, change func(*updater.Claims)) updater.Claims { change(&c); return c }
	good := &mar.Product{Channel: "a", Version: "2.1"}
	sha1, sha384 := mar.RSAPKCS1SHA1, mar.RSAPKCS1SHA384
	for _, tt := range []struct {
		name   string
		client updater.Claims
		offer  updater.Offer
		check  updater.Check
		want   updater.Answer
		code   updater.Code
		warns  bool
	}{
		{"unsigned is not checked", verifying, updater.Offer{Product: good}, updater.CheckClientSignature, updater.NotChecked, 0, false},
		{"no key", verifying, updater.Offer{Product: good, Signatures: []mar.Algorithm{sha384}}, updater.CheckClientSignature, updater.NotChecked, 0, false},
		{"by its key", verifying, updater.Offer{Product: good, Signatures: []mar.Algorithm{sha384}, Verify: func() error { return nil }}, updater.CheckClientSignature, updater.Holds, 0, false},
		{"by another key", verifying, updater.Offer{Product: good, Signatures: []mar.Algorithm{sha384}, Verify: func() error { return mar.ErrSignature }}, updater.CheckClientSignature, updater.Fails, 19, false},
		{"two signatures", verifying, updater.Offer{Product: good, Signatures: []mar.Algorithm{sha384, sha384}}, updater.CheckClientSignature, updater.Fails, 19, false},
		{"wrong algorithm", verifying, updater.Offer{Product: good, Signatures: []mar.Algorithm{sha1}}, updater.CheckClientSignature, updater.Fails, 19, false},
		{"its algorithm unknown", with(verifying, func(c *updater.Claims) { c.Signature = 0 }), updater.Offer{Product: good, Signatures: []mar.Algorithm{sha1}}, updater.CheckClientSignature, updater.NotChecked, 0, false},
		{"old client", with(verifying, func(c *updater.Claims) { c.Signature = sha1 }), updater.Offer{Product: good, Signatures: []mar.Algorithm{sha1}}, updater.CheckClientSignature, updater.NotChecked, 0, false},
		{"no product block", verifying, updater.Offer{}, updater.CheckProductBlock, updater.Fails, 21, false},
		{"product block", verifying, updater.Offer{Product: good}, updater.CheckProductBlock, updater.Holds, 0, false},
		{"channel", verifying, updater.Offer{Product: good}, updater.CheckClientChannel, updater.Holds, 0, false},
		{"other channel", verifying, updater.Offer{Product: &mar.Product{Channel: "c", Version: "3"}}, updater.CheckClientChannel, updater.Fails, 22, false},
		{"two channels are none", verifying, updater.Offer{Product: &mar.Product{Channel: "a,b", Version: "3"}}, updater.CheckClientChannel, updater.Fails, 22, false},
		{"empty channel", verifying, updater.Offer{Product: &mar.Product{Version: "3"}}, updater.CheckClientChannel, updater.Fails, 22, false},
		{"takes any channel", with(verifying, func(c *updater.Claims) { c.Channels = []string{} }), updater.Offer{Product: &mar.Product{Channel: "a,b"}}, updater.CheckClientChannel, updater.Holds, 0, false},
		{"channels unknown", with(verifying, func(c *updater.Claims) { c.Channels = nil }), updater.Offer{Product: good}, updater.CheckClientChannel, updater.NotChecked, 0, false},
		{"older", verifying, updater.Offer{Product: &mar.Product{Channel: "a", Version: "1.9"}}, updater.CheckDowngrade, updater.Fails, 23, false},
		{"equal", verifying, updater.Offer{Product: &mar.Product{Channel: "a", Version: "2"}}, updater.CheckDowngrade, updater.Holds, 0, false},
		{"any version", verifying, updater.Offer{Product: &mar.Product{Channel: "a", Version: "*"}}, updater.CheckDowngrade, updater.Holds, 0, false},
		{"own version unknown", with(verifying, func(c *updater.Claims) { c.Version = "" }), updater.Offer{Product: good}, updater.CheckDowngrade, updater.NotChecked, 0, false},
		{"perhaps verifies", with(verifying, func(c *updater.Claims) { c.Verifies = nil }), updater.Offer{Product: &mar.Product{Channel: "c"}}, updater.CheckClientChannel, updater.NotChecked, 22, true},
		{"perhaps verifies, older", with(verifying, func(c *updater.Claims) { c.Verifies = nil }), updater.Offer{Product: &mar.Product{Channel: "a"}}, updater.CheckDowngrade, updater.NotChecked, 23, true},
		{"perhaps verifies, fits", with(verifying, func(c *updater.Claims) { c.Verifies = nil }), updater.Offer{Product: good}, updater.CheckClientChannel, updater.Holds, 0, false},
		{"does not verify", with(verifying, func(c *updater.Claims) { c.Verifies = &no }), updater.Offer{Product: &mar.Product{Channel: "c"}}, updater.CheckClientChannel, updater.Holds, 0, false},
		{"does not verify signatures", with(verifying, func(c *updater.Claims) { c.Verifies = &no }), updater.Offer{Signatures: []mar.Algorithm{sha1, sha1}}, updater.CheckClientSignature, updater.Holds, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := updater.NewClient(tt.client, updater.Claims{}, updater.Claims{}, updater.TrustNeither)
			if err != nil {
				t.Fatal(err)
			}
			list := c.Check(tt.offer)
			at := slices.IndexFunc(list, func(v updater.Verdict) bool { return v.Check == tt.check })
			if at < 0 {
				t.Fatalf("no verdict on %s in %v", tt.check, list)
			}
			v := list[at]
			if v.Answer != tt.want || v.Code != tt.code || v.Warning != tt.warns {
				t.Errorf("got %+v, want %s, code %d, warning %v", v, tt.want, tt.code, tt.warns)
			}
			if v.Answer != updater.Holds && v.Reason == "" {
				t.Errorf("%+v has no reason", v)
			}
			if err := (updater.Verdicts{v}).Err(); (err != nil) != (tt.want == updater.Fails) || err != nil && !errors.Is(err, updater.ErrClient) {
				t.Errorf("error %v", err)
			}
			if err := (updater.Verdicts{v}).Skip(tt.check).Err(); err != nil {
				t.Errorf("skipped: error %v", err)
			}
		})
	}
}

// What the real updater, with signatures checked, made of the updates in client-checks.
func TestClientLikeUpdater(t *testing.T) {
	t.Parallel()
	certificate, err := os.ReadFile(testkit.Shared(t, "testdata/libmar/mycert.der"))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(certificate)
	if err != nil {
		t.Fatal(err)
	}
	from := updatetest.Open(t, "testdata/client-checks/from.mar")
	c, err := updater.ClientOf(from, updater.Claims{})
	if err != nil {
		t.Fatal(err)
	}
	if !c.Verifies.Known || !c.Verifies.Value || c.Platform.Value != updater.Linux || c.Settings.Value != updater.SettingsFile {
		t.Errorf("got %+v", c)
	}
	for name, code := range map[string]updater.Code{"good": 0, "badchannel": 22, "downgrade": 23, "badsig": 19, "wrongfrom": 0, "wrongtree": 0, "wrongmode": 0} {
		list, err := c.CheckMAR(t.Context(), updatetest.Open(t, "testdata/client-checks/"+name+".partial.mar"), cert.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		failed := list.Failed()
		if code == 0 && len(failed) > 0 || code != 0 && (len(failed) != 1 || failed[0].Code != code) {
			t.Errorf("%s: got %v, want code %d", name, list, code)
		}
		if code == 0 && slices.ContainsFunc(list, func(v updater.Verdict) bool { return v.Answer != updater.Holds }) {
			t.Errorf("%s: not all hold: %v", name, list)
		}
	}
}

func TestChannelFor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		accepted []string
		to, want string
		fails    bool
	}{
		{"a single one", nil, "x", "x", false},
		{"a single one, whatever FROM accepts", []string{"y"}, "x", "x", false},
		{"none", nil, "", "", false},
		{"the only one that FROM accepts", []string{"b", "c"}, "a, b", "b", false},
		{"two of them", []string{"a", "b"}, "a,b", "", true},
		{"none of them", []string{"c"}, "a,b", "", true},
		{"FROM takes any", []string{}, "a,b", "", true},
		{"not known", nil, "a,b", "", true},
		{"one of them twice", nil, "a,a", "a", false},
	} {
		c, err := updater.NewClient(updater.Claims{Channels: tt.accepted}, updater.Claims{}, updater.Claims{}, updater.TrustNeither)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.ChannelFor(tt.to)
		if got != tt.want || (err != nil) != tt.fails || err != nil && !strings.Contains(err.Error(), "--channel") {
			t.Errorf("%s: got %q, %v", tt.name, got, err)
		}
	}
}

// Damage in what is looked at is an error, never taken for absent.
func TestClientDamage(t *testing.T) {
	t.Parallel()
	good := updatetest.Compress(t, []byte("[App]\nVersion=1\n"+strings.Repeat("x", 500)))
	for _, name := range []string{"application.ini", "platform.ini", "update-settings.ini", "lib.so"} {
		bad := bytes.Clone(good)
		bad[len(bad)/2] ^= 0xff
		r := updatetest.Write(t, &mar.Archive{Entries: []mar.Entry{mar.BytesEntry(name, 0o644, bad[:len(bad)/2])}})
		if _, err := updater.ClientOf(r, updater.Claims{}); err == nil && name != "lib.so" || err != nil && !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	big := updatetest.Compress(t, make([]byte, 2<<20))
	r := updatetest.Write(t, &mar.Archive{Entries: []mar.Entry{mar.BytesEntry("application.ini", 0o644, big)}})
	if _, err := updater.ClientOf(r, updater.Claims{}); !errors.Is(err, updater.ErrLimit) {
		t.Errorf("a large application.ini: got %v", err)
	}
}

func FuzzClientOf(f *testing.F) {
	f.Add([]byte("[Settings]\nACCEPTED_MAR_CHANNEL_IDS=a,b\n"), []byte("[App]\nVersion=1\n"), []byte(elf))
	f.Fuzz(func(t *testing.T, settings, app, program []byte) {
		r := updatetest.Write(t, &mar.Archive{Entries: []mar.Entry{
			mar.BytesEntry("update-settings.ini", 0o644, settings), mar.BytesEntry("application.ini", 0o644, app), mar.BytesEntry("x.so", 0o644, program),
		}})
		c, err := updater.ClientOf(r, updater.Claims{})
		if err != nil {
			return
		}
		for _, channel := range c.Channels.Value {
			if takes, known := c.Accepts(channel); !takes || !known {
				t.Errorf("%q is in the list and not accepted", channel)
			}
		}
		for _, v := range c.Check(updater.Offer{}) {
			if v.Answer != updater.Holds && v.Reason == "" {
				t.Errorf("%+v has no reason", v)
			}
		}
	})
}
