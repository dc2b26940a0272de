// Package sample makes complete updates of a small product on the spot: for people who want to see the service work and
// have no release at hand, for load tests, and for drills. Two versions differ as releases do: most of a file stays, code
// moves a little, one file goes and another one comes.
package sample

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing/fstest"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
)

// Channel is the MAR channel of all samples, and Product their name.
const (
	Channel = "sample"
	Product = "Sample"
)

// Sizes, in bytes, of what a version has before it is packed.
const (
	MinSize = 4 << 10
	MaxSize = 256 << 20
)

// Complete packs a version of about size bytes, which is a number from [MinSize] to [MaxSize] and cut to that. Versions
// of one seed are releases of one product, those of different seeds have nothing in common. Equal arguments give equal
// bytes. The error is the context's, or says that the version cannot be written into a MAR file.
func Complete(ctx context.Context, seed, version string, size int) ([]byte, error) {
	size = min(max(size, MinSize), MaxSize)
	tree := fstest.MapFS{
		"application.ini": text("[App]\nVendor=Senbonzakura\nName=" + Product + "\nVersion=" + version +
			"\nBuildID=" + buildID(version) + "\nID={2c9b2a1e-7c1f-4b57-9c41-5a4d3f0e7b60}\n"),
		"update-settings.ini":                       text("[Settings]\nACCEPTED_MAR_CHANNEL_IDS=" + Channel + "\n"),
		"defaults/pref/channel-prefs.js":            text("pref(\"app.update.channel\", \"" + Channel + "\");\n"),
		"licence.txt":                               text(prose(seed, "", "licence", size/40)),
		"locale/strings.properties":                 text(prose(seed, version, "strings", size/25)),
		"features/only-in-" + version + ".xpi":      {Data: code(seed+version, version, "feature", size/300), Mode: 0o644},
		"icons/default.png":                         {Data: noise(seed, "icon", size/60), Mode: 0o644},
		"sample":                                    {Data: code(seed, version, "program", size*45/100), Mode: 0o755},
		"libcore.so":                                {Data: code(seed, version, "library", size*30/100), Mode: 0o755},
		"resources.ja":                              text(prose(seed, version, "resources", size*14/100)),
		"chrome/icons/" + seedName(seed) + ".theme": text(prose(seed, "", "theme", size/80)),
	}
	archive, _, err := partial.Pack(ctx, tree, partial.PackOptions{
		Arch: "x86_64", Product: &mar.Product{Channel: Channel, Version: version},
		Compression: partial.Compression{Files: partial.XZ{Level: partial.LevelFast}},
	})
	if err != nil {
		return nil, fmt.Errorf("sample: %w", err)
	}
	var out bytes.Buffer
	if _, err := archive.WriteTo(&out); err != nil {
		return nil, fmt.Errorf("sample: %w", err)
	}
	return out.Bytes(), nil
}

func text(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s), Mode: 0o644} }

// stream returns random numbers that depend on all of the words.
func stream(words ...string) *rand.Rand {
	sum := sha256.Sum256([]byte(strings.Join(words, "\x00")))
	return rand.New(rand.NewChaCha8(sum))
}

func seedName(seed string) string {
	sum := sha256.Sum256([]byte(seed))
	return fmt.Sprintf("%x", sum[:3])
}

// buildID is a number of fourteen digits that looks like a date, as products have it.
func buildID(version string) string {
	r := stream("build", version)
	return fmt.Sprintf("2026%02d%02d%02d%02d%02d", 1+r.IntN(12), 1+r.IntN(28), r.IntN(24), r.IntN(60), r.IntN(60))
}

// code looks like machine code to those who compress and compare: few kinds of words, and addresses of what lies
// elsewhere. A version moves everything behind one place by a few words, and changes a word here and there.
func code(seed, version, name string, size int) []byte {
	r := stream("code", seed, name)
	words := make([]uint32, max(16, size/4))
	kinds := [...]uint32{0x48890000, 0xe8000000, 0x0f1f0000, 0x8b450000, 0xc3000000, 0x74000000}
	for i := range words {
		words[i] = kinds[r.IntN(len(kinds))] | uint32(r.IntN(1<<12)) //nolint:gosec // less than 4096
	}
	if version != "" {
		v := stream("edit", seed, name, version)
		for range 1 + len(words)/900 {
			words[v.IntN(len(words))] ^= 1 << v.IntN(24)
		}
		at, more := v.IntN(len(words)), make([]uint32, 1+v.IntN(40))
		for i := range more {
			more[i] = v.Uint32()
		}
		words = append(words[:at:at], append(more, words[at:]...)...)
	}
	out := make([]byte, 0, 4*len(words))
	for _, w := range words {
		out = binary.LittleEndian.AppendUint32(out, w)
	}
	return out
}

// prose is text that compresses as text does; a version changes some of its lines.
func prose(seed, version, name string, size int) string {
	r := stream("prose", seed, name)
	words := strings.Fields("update client server version release branch partial complete channel locale window button menu " +
		"search page tab history download profile settings network signature manifest file patch build test error message")
	var b strings.Builder
	for n := 0; b.Len() < size; n++ {
		fmt.Fprintf(&b, "%s.%04d = ", name, n)
		for range 4 + r.IntN(8) {
			b.WriteString(words[r.IntN(len(words))])
			b.WriteByte(' ')
		}
		if version != "" && n%37 == 0 {
			b.WriteString(version)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// noise cannot be compressed.
func noise(seed, name string, size int) []byte {
	r := stream("noise", seed, name)
	out := make([]byte, 0, size+8)
	for len(out) < size {
		out = binary.LittleEndian.AppendUint64(out, r.Uint64())
	}
	return out
}
