package mar_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"github.com/senbonzakura/senbonzakura/mar"
)

func fatal(err error) {
	if err != nil {
		slog.Error(err.Error())
		os.Exit(1)
	}
}

// Describe an archive, then write it.
func ExampleArchive_WriteTo() {
	a := &mar.Archive{
		Product: &mar.Product{Channel: "firefox-mozilla-release", Version: "140.0"},
		Entries: []mar.Entry{
			mar.BytesEntry("updatev3.manifest", 0o644, []byte("…")),
			mar.BytesEntry("firefox/application.ini", 0o644, []byte("…")),
		},
	}
	var out bytes.Buffer
	n, err := a.WriteTo(&out)
	fatal(err)
	fmt.Println(n, "bytes, planned were", a.Size())
	fmt.Printf("%q\n", out.Bytes()[:4])
	// Output:
	// 204 bytes, planned were 204
	// "MAR1"
}

// Read an archive, entry by entry or as a file system.
func ExampleNewReader() {
	var file bytes.Buffer
	_, err := (&mar.Archive{
		Product: &mar.Product{Channel: "firefox-mozilla-esr", Version: "140.0"},
		Entries: []mar.Entry{
			mar.BytesEntry("updatev3.manifest", 0o644, []byte("type \"complete\"\n")),
			mar.BytesEntry("browser/omni.ja", 0o644, []byte("omnibus")),
			mar.BytesEntry("firefox", 0o755, []byte("ELF")),
		},
	}).WriteTo(&file)
	fatal(err)

	r, err := mar.NewReader(bytes.NewReader(file.Bytes()), int64(file.Len()), nil)
	fatal(err)
	if p, ok := r.Product(); ok {
		fmt.Println(p.Channel, p.Version)
	}
	for _, f := range r.Files() {
		content, err := io.ReadAll(f.Section())
		fatal(err)
		fmt.Printf("%o %d %s %q\n", f.Mode, f.Size, f.Name, content)
	}
	names, err := fs.Glob(r, "*/*.ja")
	fatal(err)
	fmt.Println(names)
	// Output:
	// firefox-mozilla-esr 140.0
	// 644 16 updatev3.manifest "type \"complete\"\n"
	// 644 7 browser/omni.ja "omnibus"
	// 755 3 firefox "ELF"
	// [browser/omni.ja]
}

// Sign an archive with a key at hand, and verify the result as an updater would.
func ExampleArchive_WriteSigned() {
	ctx := context.Background()
	key, err := rsa.GenerateKey(rand.Reader, 2048) // updaters need 4096
	fatal(err)
	signer, err := mar.CryptoSigner(key, mar.RSAPKCS1SHA384)
	fatal(err)

	a := &mar.Archive{
		Product: &mar.Product{Channel: "release", Version: "1.0"},
		Entries: []mar.Entry{mar.BytesEntry("updatev3.manifest", 0o644, []byte("…"))},
	}
	var file bytes.Buffer
	_, err = a.WriteSigned(ctx, &file, signer)
	fatal(err)

	r, err := mar.NewReader(bytes.NewReader(file.Bytes()), int64(file.Len()), nil)
	fatal(err)
	fmt.Println(len(r.Signatures()), r.Signatures()[0].Algorithm)
	fmt.Println(r.Verify(ctx, key.Public()))

	release, err := mar.BuiltinKey("release-primary")
	fatal(err)
	fmt.Println(r.Verify(ctx, release))
	// Output:
	// 1 rsa-pkcs1-sha384
	// <nil>
	// mar: signature 0: does not verify with key 0
}

// Sign an archive again, with another key: everything but its signatures stays as it is.
func ExampleEdit_WriteSigned() {
	ctx := context.Background()
	var signers [2]mar.Signer
	var keys [2]*rsa.PrivateKey
	for i := range keys {
		var err error
		keys[i], err = rsa.GenerateKey(rand.Reader, 2048) // updaters need 4096
		fatal(err)
		signers[i], err = mar.CryptoSigner(keys[i], mar.RSAPKCS1SHA384)
		fatal(err)
	}
	a := &mar.Archive{Entries: []mar.Entry{mar.BytesEntry("updatev3.manifest", 0o644, []byte("…"))}}
	var before, after bytes.Buffer
	_, err := a.WriteSigned(ctx, &before, signers[0])
	fatal(err)

	r, err := mar.NewReader(bytes.NewReader(before.Bytes()), int64(before.Len()), nil)
	fatal(err)
	_, err = r.Strip().WriteSigned(ctx, &after, signers[1])
	fatal(err)

	r, err = mar.NewReader(bytes.NewReader(after.Bytes()), int64(after.Len()), nil)
	fatal(err)
	fmt.Println(len(r.Signatures()), r.Verify(ctx, keys[1].Public()))
	// Output:
	// 1 <nil>
}

// Have an archive signed by a service that gets the digest only, and put the signature in later.
func ExampleArchive_WriteReserved() {
	ctx := context.Background()
	a := &mar.Archive{Entries: []mar.Entry{mar.BytesEntry("updatev3.manifest", 0o644, []byte("…"))}}
	info := mar.SignerInfo{Algorithm: mar.RSAPKCS1SHA384, SignatureSize: 512}

	var reserved bytes.Buffer
	_, err := a.WriteReserved(ctx, &reserved, info)
	fatal(err)
	digests, err := a.Digest(ctx, info)
	fatal(err)
	fmt.Printf("%d bytes to sign\n", len(digests[0]))

	signature := bytes.Repeat([]byte{0xab}, 512) // what the service answers
	r, err := mar.NewReader(bytes.NewReader(reserved.Bytes()), int64(reserved.Len()), nil)
	fatal(err)
	edit, err := r.ReplaceSignature(0, signature)
	fatal(err)
	n, err := edit.WriteTo(io.Discard)
	fatal(err)
	fmt.Println(n == int64(reserved.Len()))
	// Output:
	// 48 bytes to sign
	// true
}

// List everything that readers or updaters would stumble over.
func ExampleLint() {
	var file bytes.Buffer
	_, err := (&mar.Archive{Entries: []mar.Entry{
		mar.BytesEntry("readme", 0o644, nil),
		mar.BytesEntry("README", 0o644, []byte("…")),
	}}).WriteTo(&file)
	fatal(err)
	for _, p := range mar.Lint(bytes.NewReader(file.Bytes()), int64(file.Len()), &mar.LintOptions{
		Ignore: []mar.Code{mar.CodeUnsigned}, // to be signed later
	}) {
		fmt.Println(p)
	}
	// Output:
	// offset 31: entry "readme": entry has no bytes: updaters end with error 40 (empty-file, updater)
	// offset 27: no updatev3.manifest: updaters crash (no-manifest, updater)
	// offset 31: entry "readme": name differs in case only from "README" (case, others)
	// offset 24: no product information: updaters end with error 21 (no-product, updater)
}
