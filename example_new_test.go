package senbonzakura_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/mar"
)

// A generator that fetches, keeps what it fetched and made, and signs: what a release service is made of.
func ExampleNew() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	server := httptest.NewServer(http.FileServer(http.Dir(dir))) // stands for where releases are published
	defer server.Close()
	var sources []senbonzakura.Source
	for _, version := range []string{"1.0", "1.1"} {
		name := filepath.Join(dir, version+".mar")
		if err := complete(ctx, name, version); err != nil {
			fmt.Println(err)
			return
		}
		data, err := os.ReadFile(name)
		if err != nil {
			fmt.Println(err)
			return
		}
		sum := sha512.Sum512(data) // published with the release; fetch.ParseHash reads it as text
		sources = append(sources, senbonzakura.Source{
			URLs:   []string{server.URL + "/" + version + ".mar"},
			Hashes: []fetch.Hash{{Algorithm: fetch.SHA512, Sum: sum[:]}},
		})
	}

	disk, err := cache.OpenDisk(ctx, filepath.Join(dir, "cache"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer disk.Close()
	store := cache.NewLayered([]cache.Store{disk}, nil)
	defer store.Close()
	client, err := fetch.New(&fetch.Options{
		Dir: store.TempDir(), // so that completes move into the cache without a copy
		// For releases on https at a public address nothing else is needed.
		Insecure: true, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	// Updaters need RSA-4096. Keys in an HSM or at a service: package plugins/signing.
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		fmt.Println(err)
		return
	}
	signer, err := mar.CryptoSigner(key, mar.RSAPKCS1SHA384)
	if err != nil {
		fmt.Println(err)
		return
	}
	generator, err := senbonzakura.New(senbonzakura.Options{Fetch: client, Cache: store, Signers: []mar.Signer{signer}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer generator.Close()

	result, err := generator.Generate(ctx, senbonzakura.Request{From: sources[0], To: sources[1]}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer result.Close()
	update := result.Open()
	defer update.Close()
	var out bytes.Buffer // a file
	if _, err := out.ReadFrom(update.Reader()); err != nil {
		fmt.Println(err)
		return
	}
	r, err := mar.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len()), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = r.VerifyUpdater(ctx, key.Public())
	fmt.Println("proved:", result.Report.Verified, "signature:", err)
	// Output: proved: true signature: <nil>
}
