package mar

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// TestAgreesWithMozilla has Mozilla's own reader judge damaged archives: what a strict reader accepts, `mar -T` must
// accept, and list with the same names, sizes, modes and product information. The other way round there is no such
// promise: a strict reader refuses what Mozilla's wrongly accepts.
func TestAgreesWithMozilla(t *testing.T) {
	program := os.Getenv("SENBON_MAR")
	if program == "" {
		t.Skip("SENBON_MAR does not name Mozilla's mar program")
	}
	var seeds [][]byte
	for _, layout := range []Layout{LayoutSections, LayoutNoSections, LayoutOriginal} {
		a := valid()
		a.layout = layout
		seeds = append(seeds, a.bytes())
	}
	for _, h := range hostiles() {
		if len(h.data) < 1<<16 {
			seeds = append(seeds, h.data)
		}
	}
	real, err := filepath.Glob(filepath.Join(testkit.Shared(t, "testdata", "libmar"), "*.mar"))
	if err != nil || len(real) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, name := range real {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		seeds = append(seeds, data)
	}
	const seed = 20261120
	rng := rand.New(rand.NewPCG(seed, 0))
	path := filepath.Join(t.TempDir(), "one.mar")
	accepted, both, count := 0, 0, testkit.Count(2_000, 10_000, 200_000)
	for i := range count {
		data := seeds[i%len(seeds)]
		if i >= len(seeds) {
			data = damage(rng, data)
		}
		r, err := NewReader(bytes.NewReader(data), int64(len(data)), nil)
		if err != nil && i%8 != 0 { // some of the others as well, to see what Mozilla's says of them
			continue
		}
		if e := os.WriteFile(path, data, 0o600); e != nil {
			t.Fatal(e)
		}
		listed, e := exec.CommandContext(t.Context(), program, "-T", path).CombinedOutput()
		if err != nil {
			if e == nil && !bytes.Contains(listed, []byte("ERROR")) {
				both++
			}
			continue
		}
		accepted++
		if e != nil {
			t.Errorf("file %d: Mozilla's reader ends with %v: %s\n%x", i, e, listed, data)
			continue
		}
		if got, want := mozillaSays(listed, r.Layout()), weSay(r); got != want {
			t.Errorf("file %d: Mozilla's reader says\n%s\nthis one\n%s\n%x", i, got, want, data)
		}
	}
	t.Logf("%d archives, %d accepted and the same; of one in eight of the others Mozilla's reader lists %d", count, accepted, both)
	if accepted < count/40 {
		t.Errorf("%d of %d archives accepted: too few to compare", accepted, count)
	}
}

// damage changes an archive in one to three places, mostly in its header and index.
func damage(rng *rand.Rand, data []byte) []byte {
	data = slices.Clone(data)
	for range 1 + rng.IntN(3) {
		if len(data) < 8 {
			return data
		}
		at := rng.IntN(len(data))
		switch rng.IntN(3) {
		case 0:
			at = rng.IntN(min(len(data), 160))
		case 1:
			at = len(data) - 1 - rng.IntN(min(len(data), 160))
		}
		switch rng.IntN(6) {
		case 0:
			data[at] ^= 1 << rng.IntN(8)
		case 1:
			data[at] = byte(rng.Uint32())
		case 2:
			if at = min(at, len(data)-4); at >= 0 {
				values := []uint32{0, 1, 2, 8, 9, 12, 16, 0o644, uint32(len(data)), uint32(at), 1<<31 - 1, 1 << 31, 1<<32 - 1}
				be.PutUint32(data[at:], values[rng.IntN(len(values))])
			}
		case 3:
			data = data[:at]
		case 4:
			data = slices.Insert(data, at, make([]byte, 1+rng.IntN(8))...)
		case 5: // what the index and the header say moves a little, so that much of it stays plausible
			if at = min(at, len(data)-4); at >= 0 {
				be.PutUint32(data[at:], be.Uint32(data[at:])+uint32(rng.IntN(9))-4)
			}
		}
	}
	return data
}

// mozillaSays brings the output of `mar -T` into the form of weSay. In the two older layouts Mozilla's reader takes
// contents for sections (it compares a position's address with a position), so there what it finds does not count.
func mozillaSays(out []byte, layout Layout) string {
	var product, files []string
	listing := false
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "ERROR"):
			files = append(files, line)
		case listing:
			files = append(files, line)
		case line == "SIZE\tMODE\tNAME":
			listing = true
		case strings.HasPrefix(line, "    - ") && layout == LayoutSections:
			product = append(product, line)
		}
	}
	slices.Sort(files) // they come in the order of a hash table
	return strings.Join(append(product, files...), "\n")
}

func weSay(r *Reader) string {
	var product, files []string
	if p, ok := r.Product(); ok {
		product = append(product, "    - MAR channel name: "+p.Channel, "    - Product version: "+p.Version)
	}
	for _, f := range r.Files() {
		files = append(files, fmt.Sprintf("%d\t0%o\t%s", f.Size, f.Mode, f.Name))
	}
	slices.Sort(files)
	return strings.Join(append(product, files...), "\n")
}
