// Package testrelease makes complete updates of a small product, for tests.
package testrelease

import (
	"bytes"
	"testing"
	"testing/fstest"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
)

// Complete packs one version of a product on the channel "test". Between two versions one file changes so little that a
// patch is much smaller than the file, two change altogether, and one comes for another that goes. Other salts give
// archives of other hashes, and more, which ends the file that is patched, other patches. Equal arguments give equal
// bytes.
func Complete(tb testing.TB, version, salt string, more ...byte) []byte {
	tb.Helper()
	large := make([]byte, 20_000, 20_000+len(more))
	for i := range large { // not compressible
		large[i] = byte(i*i>>3 ^ i>>5)
	}
	copy(large[len(large)/2:], "but for this: version "+version)
	tree := fstest.MapFS{
		"application.ini":     {Data: []byte("[App]\nName=Firefox\nVersion=" + version + "\nBuildID=20260101000000\n")},
		"libxul.so":           {Data: append(large, more...), Mode: 0o755},
		"locale.txt":          {Data: []byte("locale " + salt + " of " + version)},
		"only-" + version:     {Data: []byte("x")},
		"update-settings.ini": {Data: []byte("[Settings]\nACCEPTED_MAR_CHANNEL_IDS=test\n")},
	}
	archive, _, err := partial.Pack(tb.Context(), tree, partial.PackOptions{
		Arch: "x86_64", Product: &mar.Product{Channel: "test", Version: version},
		Compression: partial.Compression{Files: partial.XZ{Level: partial.LevelFast}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := archive.WriteTo(&out); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}
