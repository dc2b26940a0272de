package mar

import (
	"bytes"
	"crypto"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// The tests in this file hold Mozilla's own archives against what Mozilla's own tests say about them.

func TestLibmarRead(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		layout     Layout
		files      []string
		product    bool
		signatures int
	}{
		{"0_sized", LayoutSections, []string{"0_sized_file"}, true, 0},
		{"1_byte", LayoutSections, []string{"1_byte_file"}, true, 0},
		{"binary_data", LayoutSections, []string{"binary_data_file"}, true, 0},
		{"multiple_file", LayoutSections, []string{"0_sized_file", "1_byte_file", "binary_data_file"}, true, 0},
		{"no_pib", LayoutOriginal, []string{"binary_data_file"}, false, 0},
		{"signed_pib", LayoutSections, []string{"binary_data_file"}, true, 1},
		{"signed_pib_with_mycert2", LayoutSections, []string{"binary_data_file"}, true, 1},
		{"signed_no_pib", LayoutNoSections, []string{"binary_data_file"}, false, 1},
		{"multiple_signed_pib", LayoutSections, []string{"binary_data_file"}, true, 3},
		{"multiple_signed_pib_2", LayoutSections, []string{"binary_data_file"}, true, 3},
		{"multiple_signed_no_pib", LayoutNoSections, []string{"binary_data_file"}, false, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := parse(t, shared(t, "libmar", tt.name+".mar"))
			if r.Layout() != tt.layout {
				t.Errorf("got layout %v, want %v", r.Layout(), tt.layout)
			}
			var names []string
			for _, f := range r.Files() {
				names = append(names, f.Name)
				if want := shared(t, "libmar", f.Name); !bytes.Equal(content(t, f), want) {
					t.Errorf("content of %s differs", f.Name)
				}
				if r.Lookup(f.Name) != f {
					t.Errorf("Lookup(%q) does not find the entry", f.Name)
				}
			}
			if slices.Sort(names); !slices.Equal(names, tt.files) {
				t.Errorf("got files %q, want %q", names, tt.files)
			}
			p, ok := r.Product()
			if ok != tt.product || ok && p.Channel == "" {
				t.Errorf("got product %v, %v, want %v", p, ok, tt.product)
			}
			if n := len(r.Signatures()); n != tt.signatures {
				t.Errorf("got %d signatures, want %d", n, tt.signatures)
			}
			if r.Lookup("no such file") != nil {
				t.Error("Lookup finds what is not there")
			}
		})
	}
}

func TestLibmarOverlap(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(testkit.Shared(t, "testdata", "libmar"), "manipulated_*.mar"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, path := range files {
		name := filepath.Base(path)
		if name == "manipulated_signed.mar" {
			continue
		}
		n++
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := shared(t, "libmar", name)
			_, err := NewReader(bytes.NewReader(data), int64(len(data)), nil)
			var fe *FormatError
			if !errors.Is(err, ErrFormat) || !errors.As(err, &fe) || fe.Code != CodeOverlap {
				t.Errorf("got %v, want an overlap", err)
			}
			if r := parse(t, data, CodeOverlap); len(r.Files()) < 2 {
				t.Errorf("got %d files with the overlap allowed", len(r.Files()))
			}
		})
	}
	if n != 8 {
		t.Errorf("got %d manipulated files, want 8", n)
	}
}

func TestLibmarWrite(t *testing.T) {
	t.Parallel()
	for name, files := range map[string][]string{
		"0_sized":       {"0_sized_file"},
		"1_byte":        {"1_byte_file"},
		"binary_data":   {"binary_data_file"},
		"multiple_file": {"0_sized_file", "1_byte_file", "binary_data_file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &Archive{Product: &Product{Channel: "@MAR_CHANNEL_ID@", Version: "13.0a1"}}
			want := shared(t, "libmar", name+".mar")
			order := files
			if name == "multiple_file" {
				order = nil
				for _, f := range parse(t, want).Files() {
					order = append(order, f.Name)
				}
			}
			for _, f := range order {
				a.Entries = append(a.Entries, BytesEntry(f, 0o666, shared(t, "libmar", f)))
			}
			if got := write(t, a); !bytes.Equal(got, want) {
				t.Errorf("bytes differ:\ngot  %x\nwant %x", got, want)
			}
			if a.Size() != int64(len(want)) {
				t.Errorf("got size %d, want %d", a.Size(), len(want))
			}
		})
	}
}

// signers makes signers of the signature files of Mozilla's tests.
func signers(t *testing.T, sigs, certs []string) []Signer {
	t.Helper()
	out := make([]Signer, len(sigs))
	for i, name := range sigs {
		sig, err := DecodeSignature(shared(t, "libmar", name))
		if err != nil {
			t.Fatal(err)
		}
		out[i] = fixedSigner{info: SignerInfo{Algorithm: RSAPKCS1SHA384, PublicKey: key(t, "libmar", certs[i]), SignatureSize: 512}, sig: sig}
	}
	return out
}

var (
	oneSig    = []string{"signed_pib_mar.signature.0"}
	threeSigs = []string{"multiple_signed_pib_mar.sig.0", "multiple_signed_pib_mar.sig.1", "multiple_signed_pib_mar.sig.2"}
	certFiles = []string{"mycert.der", "mycert2.der", "mycert3.der"}
)

func TestLibmarSign(t *testing.T) {
	t.Parallel()
	unsigned := shared(t, "libmar", "binary_data.mar")
	for _, tt := range []struct {
		name, want string
		sigs       []string
	}{
		{"one", "signed_pib.mar", oneSig},
		{"three", "multiple_signed_pib.mar", threeSigs},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want := shared(t, "libmar", tt.want)
			var got bytes.Buffer
			a := parse(t, unsigned).Archive()
			s := signers(t, tt.sigs, certFiles)
			n, err := a.WriteSigned(t.Context(), &got, s...)
			if err != nil {
				t.Fatal(err)
			}
			if n != int64(got.Len()) || a.Size(s...) != n {
				t.Errorf("got count %d and size %d of %d bytes", n, a.Size(s...), got.Len())
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Error("archive: bytes differ")
			}
			got.Reset()
			if _, err := parse(t, unsigned).WriteSigned(t.Context(), &got, s...); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Error("edit: bytes differ")
			}
			strip := parse(t, want).Strip()
			if stripped := write(t, strip); !bytes.Equal(stripped, unsigned) || strip.Size() != int64(len(unsigned)) {
				t.Error("stripping does not give the unsigned archive")
			}
			if again := write(t, parse(t, want).Archive()); !bytes.Equal(again, unsigned) {
				t.Error("writing anew does not give the unsigned archive")
			}
		})
	}
}

// The archives without product information come from the original layout; signing converts it.
func TestLibmarSignOriginal(t *testing.T) {
	t.Parallel()
	original := shared(t, "libmar", "no_pib.mar")
	mode := bytes.LastIndex(original, []byte{0, 0, 0x01, 0xb4})
	original[mode+3] = 0xb6 // the signed ones were made of a file with mode 0666
	for name, certs := range map[string][]string{"signed_no_pib.mar": certFiles[:1], "multiple_signed_no_pib.mar": certFiles} {
		want := shared(t, "libmar", name)
		r := parse(t, want)
		s := make([]Signer, len(certs))
		for i, sig := range r.Signatures() {
			s[i] = fixedSigner{info: SignerInfo{Algorithm: sig.Algorithm, PublicKey: key(t, "libmar", certs[i]), SignatureSize: len(sig.Bytes)}, sig: sig.Bytes}
		}
		var got bytes.Buffer
		if _, err := parse(t, original).Archive().WriteSigned(t.Context(), &got, s...); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s: archive: bytes differ", name)
		}
		got.Reset()
		if _, err := parse(t, original).WriteSigned(t.Context(), &got, s...); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s: edit: bytes differ", name)
		}
		// Stripping keeps the converted layout, as Mozilla's tool does: no signatures, no sections.
		stripped := parse(t, write(t, r.Strip()))
		if stripped.Layout() != LayoutNoSections || len(stripped.Signatures()) != 0 || stripped.Size() != int64(len(original)+12) {
			t.Errorf("%s: stripped to layout %v, %d signatures, %d bytes", name, stripped.Layout(), len(stripped.Signatures()), stripped.Size())
		}
	}
	if got := write(t, parse(t, original).Archive()); !bytes.Equal(got, original) {
		t.Error("original layout: bytes differ")
	}
}

func TestLibmarVerify(t *testing.T) {
	t.Parallel()
	keys := map[rune]crypto.PublicKey{'1': key(t, "libmar", "mycert.der"), '2': key(t, "libmar", "mycert2.der"), '3': key(t, "libmar", "mycert3.der")}
	good := map[string]string{
		"signed_pib": "1", "signed_no_pib": "1", "signed_pib_with_mycert2": "2", "multiple_signed_pib": "123",
		"multiple_signed_no_pib": "123", "multiple_signed_pib_2": "113", "manipulated_signed": "none",
		"binary_data": "none", "no_pib": "none", "0_sized": "none", "1_byte": "none", "multiple_file": "none",
	}
	for name, want := range good {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := shared(t, "libmar", name+".mar")
			var allow []Code
			if name == "manipulated_signed" { // the attacker's editor added a line end
				if _, err := NewReader(bytes.NewReader(data), int64(len(data)), nil); !errors.Is(err, ErrFormat) {
					t.Errorf("strict: got %v, want ErrFormat", err)
				}
				allow = []Code{CodeTrailing, CodeSize}
			}
			r := parse(t, data, allow...)
			for _, order := range orders("123", 4) {
				var ks []crypto.PublicKey
				for _, c := range order {
					ks = append(ks, keys[c])
				}
				err := r.Verify(t.Context(), ks...)
				if order == want && err != nil {
					t.Errorf("keys %s: %v", order, err)
				}
				if order != want && !errors.Is(err, ErrSignature) {
					t.Errorf("keys %s: got %v, want ErrSignature", order, err)
				}
				if errors.Is(err, ErrUnsigned) != (len(r.Signatures()) == 0) {
					t.Errorf("keys %s: got %v with %d signatures", order, err, len(r.Signatures()))
				}
				if len(order) > 2 { // enough for the following, which take time
					continue
				}
				_, anyErr := r.VerifyAny(t.Context(), ks...)
				if wantAny := want != "none" && strings.ContainsAny(order, want); (anyErr == nil) != wantAny {
					t.Errorf("VerifyAny with keys %s: got %v, want %v", order, anyErr, wantAny)
				}
				_, updErr := r.VerifyUpdater(t.Context(), ks...)
				if wantUpd := len(want) == 1 && strings.Contains(order, want); (updErr == nil) != wantUpd {
					t.Errorf("VerifyUpdater with keys %s: got %v, want %v", order, updErr, wantUpd)
				}
			}
			if err := r.Verify(t.Context()); !errors.Is(err, ErrKey) {
				t.Errorf("no keys: got %v, want ErrKey", err)
			}
		})
	}
}

// orders returns every sequence of 1 to n of the letters.
func orders(letters string, n int) []string {
	out, last := []string{}, []string{""}
	for range n {
		var next []string
		for _, s := range last {
			for _, c := range letters {
				next = append(next, s+string(c))
			}
		}
		out, last = append(out, next...), next
	}
	return out
}

func TestLibmarSignatureFiles(t *testing.T) {
	t.Parallel()
	r := parse(t, shared(t, "libmar", "multiple_signed_pib.mar"))
	for i, name := range threeSigs {
		text, err := r.ExtractSignature(i)
		if err != nil {
			t.Fatal(err)
		}
		if want := shared(t, "libmar", name); !bytes.Equal(text, want) {
			t.Errorf("signature %d: got %q, want %q", i, text, want)
		}
	}
	one := shared(t, "libmar", "signed_pib.mar")
	edit, err := parse(t, one).ImportSignature(0, shared(t, "libmar", "signed_pib_mar.signature.mycert2"))
	if err != nil {
		t.Fatal(err)
	}
	if got := write(t, edit); !bytes.Equal(got, shared(t, "libmar", "signed_pib_with_mycert2.mar")) {
		t.Error("importing mycert2's signature: bytes differ")
	}
}

func TestUpdaterArchives(t *testing.T) {
	t.Parallel()
	cert := key(t, "libmar", "mycert.der")
	files, err := filepath.Glob(filepath.Join(testkit.Shared(t, "testdata", "updater"), "*.mar"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 5 {
		t.Errorf("got %d archives, want 5", len(files))
	}
	for _, path := range files {
		r, err := OpenFile(path, nil)
		if err != nil {
			t.Error(err)
			continue
		}
		defer r.Close()
		if err := r.Verify(t.Context(), cert); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if k, err := r.VerifyUpdater(t.Context(), key(t, "libmar", "mycert2.der"), cert); err != nil || k != 1 {
			t.Errorf("%s: got key %d, %v", path, k, err)
		}
		p, ok := r.Product()
		if !ok || p.Channel != "xpcshell-test" || p.Version != "*" && filepath.Base(path) != "old_version.mar" {
			t.Errorf("%s: got product %v, %v", path, p, ok)
		}
		manifest := "updatev3.manifest"
		if filepath.Base(path) == "old_version.mar" {
			manifest = "0_sized_file" // has no manifest at all
		}
		if _, err := fs.Stat(r, manifest); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestMardorArchives(t *testing.T) {
	t.Parallel()
	bz2 := parse(t, shared(t, "mardor", "test-bz2.mar"))
	if err := bz2.Verify(t.Context(), key(t, "mardor", "test.pubkey")); err != nil {
		t.Error(err)
	}
	if a := bz2.Signatures()[0].Algorithm; a != RSAPKCS1SHA1 {
		t.Errorf("got algorithm %v", a)
	}
	if _, err := bz2.VerifyUpdater(t.Context(), key(t, "mardor", "test.pubkey")); !errors.Is(err, ErrSignature) {
		t.Errorf("an updater accepts SHA-1: %v", err)
	}
	xz := parse(t, shared(t, "mardor", "test-xz.mar"))
	if len(xz.Signatures()) != 0 || len(xz.Files()) == 0 {
		t.Errorf("got %d signatures, %d files", len(xz.Signatures()), len(xz.Files()))
	}
	for name, r := range map[string]*Reader{"bz2": bz2, "xz": xz} {
		if got := write(t, r.Strip()); len(got) == 0 {
			t.Errorf("%s: nothing written", name)
		}
		for _, f := range r.Files() {
			content(t, f)
		}
	}
	if got := write(t, xz.Archive()); !bytes.Equal(got, shared(t, "mardor", "test-xz.mar")) {
		t.Error("writing the unsigned archive anew: bytes differ")
	}
}

func TestPackagingArchives(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"update-packaging-from.complete.mar", "update-packaging-to.complete.mar", "update-packaging-partial.mar"} {
		data := shared(t, "packaging", name)
		r := parse(t, data)
		if got := write(t, r.Archive()); !bytes.Equal(got, data) {
			t.Errorf("%s: writing anew: bytes differ", name)
		}
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	for file, name := range map[string]string{
		"release_primary.der": "release-primary", "release_secondary.der": "release-secondary",
		"release.pubkey": "release-primary", "nightly.pubkey": "nightly-primary", "dep1.pubkey": "dep-primary",
		"nightly_aurora_level3_primary.der":   "nightly-primary",
		"nightly_aurora_level3_secondary.der": "nightly-secondary",
		"dep1.der":                            "dep-primary", "dep2.der": "dep-secondary", "autograph_stage.pem": "autograph-stage",
		"sha1/dep1.der": "sha1-dep-primary", "sha1/dep2.der": "sha1-dep-secondary",
		"sha1/release_primary.der": "sha1-release-primary", "sha1/release_secondary.der": "sha1-release-secondary",
	} {
		k, err := BuiltinKey(name)
		if err != nil {
			t.Fatal(err)
		}
		want := key(t, "certs", filepath.FromSlash(file))
		if eq, ok := k.(interface{ Equal(crypto.PublicKey) bool }); !ok || !eq.Equal(want) {
			t.Errorf("built-in key %s is not the one of %s", name, file)
		}
	}
	if got := len(BuiltinKeys()); got != 11 {
		t.Errorf("got %d built-in keys", got)
	}
	if _, err := BuiltinKey("../keys"); !errors.Is(err, ErrKey) {
		t.Errorf("got %v, want ErrKey", err)
	}
}
