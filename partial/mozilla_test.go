package partial

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/bsdiff"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial/internal/updatetest"
)

// A filePair is one file in two releases.
type filePair struct {
	name     string
	old, new []byte
}

// seededPairs returns n files as releases have them, of 16 bytes to 64 KiB, from ones of which hardly a byte changed to ones
// that were written again: what a patch is smaller for, what it is not, and much that is close.
func seededPairs(n int) []filePair {
	r := rand.New(rand.NewPCG(20261130, 13))
	words := make([]string, 400)
	for i := range words {
		for range 2 + r.IntN(9) {
			words[i] += string(rune('a' + r.IntN(26)))
		}
	}
	make1 := func(kind, size int) []byte {
		var b bytes.Buffer
		for b.Len() < size {
			switch kind {
			case 0: // prose
				b.WriteString(words[r.IntN(len(words))])
				b.WriteByte(" \n,."[r.IntN(4)])
			case 1: // settings
				fmt.Fprintf(&b, "%s.%s=%d\n", words[r.IntN(60)], words[r.IntN(60)], r.IntN(1000))
			case 2: // machine code: calls, and a few favourite bytes
				b.Write([]byte{0xe8, byte(r.IntN(256)), byte(r.IntN(32)), 0, 0})
				b.Write([]byte{0x48, 0x8b, byte(0x40 + r.IntN(8)), byte(8 * r.IntN(16))}[:1+r.IntN(4)])
			default: // compressed already
				b.Write(updatetest.Noise(r, 64))
			}
		}
		return b.Bytes()[:size]
	}
	pairs := make([]filePair, n)
	for i := range pairs {
		kind := r.IntN(4)
		old := make1(kind, 16<<r.IntN(13)+r.IntN(16))
		// the share of the file that is written again
		share := []float64{0.001, 0.02, 0.1, 0.3, 0.6, 0.9, 1}[r.IntN(7)]
		piece := max(1, len(old)/16)
		var out []byte
		for at := 0; at < len(old); at += piece {
			end := min(len(old), at+piece)
			if r.Float64() < share {
				out = append(out, make1(kind, end-at)...)
			} else {
				out = append(out, old[at:end]...)
			}
		}
		for range 1 + r.IntN(3) {
			out = updatetest.Edited(r, out)
		}
		if len(out) == 0 || bytes.Equal(out, old) {
			out = append(out, 'x')
		}
		pairs[i] = filePair{fmt.Sprintf("f%04d", i), old, out}
	}
	return pairs
}

// xzFiles compresses files with the xz program as the scripts do: preset 6, CRC64, one thread, and the filter of x86 where it
// is asked for.
func xzFiles(tb testing.TB, files map[string][]byte, filter bool) map[string][]byte {
	tb.Helper()
	program, err := exec.LookPath("xz")
	if err != nil {
		tb.Skip("no xz program, which the scripts decide by: ", err)
	}
	dir := tb.TempDir()
	args := []string{"--compress", "--threads=1", "--check=crc64"}
	if filter {
		args = append(args, "--x86")
	}
	args = append(args, "--lzma2=preset=6", "--")
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			tb.Fatal(err)
		}
		args = append(args, name)
	}
	cmd := exec.CommandContext(tb.Context(), program, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "XZ_OPT=", "XZ_DEFAULTS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("xz: %v: %s", err, out)
	}
	packed := make(map[string][]byte, len(files))
	for name := range files {
		if packed[name], err = os.ReadFile(filepath.Join(dir, name+".xz")); err != nil {
			tb.Fatal(err)
		}
	}
	return packed
}

// The recipe of the scripts takes a patch where they do: where what `xz` makes of mbsdiff's patch is smaller than what
// it makes of the file. Its own encoder gives patches of other sizes, so that close ones may come out otherwise.
func TestMozillaRecipeDecidesAsTheScripts(t *testing.T) {
	t.Parallel()
	count, least := 100, 95
	if os.Getenv("SENBON_GATE") != "" || os.Getenv("SENBON_LONG") != "" {
		count, least = 1000, 98
	}
	pairs := seededPairs(count)
	news, patches := make(map[string][]byte), make(map[string][]byte)
	differ := bsdiff.New(bsdiff.Options{Match: bsdiff.Compatible})
	for _, p := range pairs {
		var b bytes.Buffer
		if err := differ.Diff(context.Background(), &b, p.old, p.new); err != nil {
			t.Fatal(err)
		}
		news[p.name], patches[p.name] = p.new, b.Bytes()
	}
	whole, patched := xzFiles(t, news, true), xzFiles(t, patches, false)

	release := func(member func(p filePair) []byte) *mar.Reader {
		a := &mar.Archive{Product: updatetest.TestProduct, Entries: []mar.Entry{mar.BytesEntry("precomplete", 0o644, updatetest.Compress(t, []byte(pp)))}}
		for _, p := range pairs {
			a.Entries = append(a.Entries, mar.BytesEntry(p.name, 0o644, member(p)))
		}
		return updatetest.Write(t, a)
	}
	from := release(func(p filePair) []byte { return updatetest.Compress(t, p.old) })
	to := release(func(p filePair) []byte { return whole[p.name] })
	_, rep, err := Build(t.Context(), from, to, MozillaRecipe(), &BuildOptions{NoVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	took := make(map[string]FileReport)
	for _, f := range rep.Files {
		took[f.Path] = f
	}
	agree, byPatch := 0, 0
	var others []string
	for _, p := range pairs {
		want := ActionAdd
		if len(patched[p.name]) < len(whole[p.name]) {
			want = ActionPatch
			byPatch++
		}
		got := took[p.name]
		if got.Action == want {
			agree++
			continue
		}
		others = append(others, fmt.Sprintf("%s (%d to %d bytes): the scripts %s it: patch %d, whole %d; here the whole has %d, what is taken %d",
			p.name, len(p.old), len(p.new), want, len(patched[p.name]), len(whole[p.name]), got.FullSize, got.Size))
	}
	t.Logf("%d of %d as the scripts, which patch %d; the others:\n%s", agree, len(pairs), byPatch, strings.Join(others, "\n"))
	if agree*100 < least*len(pairs) {
		t.Errorf("only %d of %d decisions are those of the scripts", agree, len(pairs))
	}
	if byPatch < len(pairs)/5 || byPatch > len(pairs)*4/5 {
		t.Errorf("%d of %d patched: the pairs do not tell", byPatch, len(pairs))
	}
}
