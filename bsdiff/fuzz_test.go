package bsdiff

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// FuzzPatch applies hostile patches. All ways must agree, and what is accepted must be what the patch
// declares; what the strict way accepts the lenient one makes the same of.
func FuzzPatch(f *testing.F) {
	for i, c := range hostile() {
		// Decompressing is slow: a few of those are enough.
		if len(c.patch) < 10_000 && !strings.Contains(c.name, "bomb") && (!strings.HasPrefix(c.name, "bs:") || i%5 == 0) {
			f.Add(hostileOld, c.patch)
		}
	}
	f.Add(hostileOld, rawMB{triples: [][3]uint32{{8, 2, neg(3)}, {4, 1, 1}}, diff: make([]byte, 12), extra: []byte("xyz")}.bytes())
	f.Add(hostileOld, rawBS{steps: [][3]uint64{{8, 2, minus | 3}, {4, 1, 1}}, diff: make([]byte, 12), extra: []byte("xyz")}.bytes())
	for _, seed := range realSeeds() {
		f.Add(seed.old, seed.patch)
	}
	f.Fuzz(func(t *testing.T, old, patch []byte) {
		if len(patch) >= headerSize && string(patch[:8]) == magicMB && len(old) == int(patch[8])<<24|int(patch[9])<<16|int(patch[10])<<8|int(patch[11]) {
			// Get past the checksum.
			patch = bytes.Clone(patch)
			sum := Checksum(old)
			patch[12], patch[13], patch[14], patch[15] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
		}
		var results [2][]byte
		var failures [2]error
		for k, lenient := range []bool{false, true} {
			o := &PatchOptions{Lenient: lenient, Limits: Limits{New: 1 << 20, Control: 1 << 20}}
			for i, way := range ways {
				got, err := way.apply(t, old, patch, o)
				if i == 0 {
					results[k], failures[k] = bytes.Clone(got), err
					continue
				}
				if (err == nil) != (failures[k] == nil) {
					t.Fatalf("lenient %v: %s: %v, %s: %v", lenient, ways[0].name, failures[k], way.name, err)
				}
				if err == nil && !bytes.Equal(got, results[k]) {
					t.Fatalf("lenient %v: %s and %s differ", lenient, ways[0].name, way.name)
				}
			}
		}
		var pe *PatchError
		for _, err := range failures {
			if err != nil && !errors.As(err, &pe) {
				t.Fatalf("error of another type: %v", err)
			}
		}
		if failures[0] == nil {
			if failures[1] != nil || !bytes.Equal(results[0], results[1]) {
				t.Fatalf("strict accepts, lenient gives %v", failures[1])
			}
			h, err := ParseHeader(patch)
			if err != nil || h.NewSize != int64(len(results[0])) {
				t.Fatalf("accepted a result of %d bytes where %d are declared (%v)", len(results[0]), h.NewSize, err)
			}
		}
		info, err := Inspect(t.Context(), bytes.NewReader(patch), &InspectOptions{Limits: Limits{New: 1 << 20, Control: 1 << 20}})
		if failures[0] == nil && (err != nil || info.Added+info.Copied != int64(len(results[0])) || info.UnusedDifference != 0 || info.UnusedExtra != 0) {
			t.Fatalf("accepted a patch that Inspect calls %+v, %v", info, err)
		}
	})
}

// FuzzDiff makes patches of both kinds and formats; they must give the new file back, and compatible ones be those
// of the reference.
func FuzzDiff(f *testing.F) {
	f.Add([]byte(""), []byte(""))
	f.Add([]byte("banana"), []byte("bananabanana"))
	f.Add([]byte("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), []byte("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabaaaaaaaaa"))
	f.Add([]byte("abaababaabaababaababaabaababaabaab"), []byte("abaababaabaababaabaabaababaababaabaab"))
	for _, seed := range realSeeds() {
		f.Add(seed.old, seed.new)
	}
	f.Fuzz(func(t *testing.T, old, new []byte) {
		if len(old) > 4000 || len(new) > 4000 {
			t.Skip("too much for the reference")
		}
		options := []Options{{}, {Match: Compatible}}
		if len(new)%32 == 1 { // the compressor is slow
			options = append(options, Options{Format: BSDIFF40}, Options{Match: Compatible, Format: BSDIFF40})
		}
		for _, o := range options {
			patch := diff(t, o, old, new)
			got, err := PatchBytes(t.Context(), nil, old, bytes.NewReader(patch), nil)
			if err != nil || !bytes.Equal(got, new) {
				t.Fatalf("%v, %v: got %q, %v", o.Match, o.Format, got, err)
			}
			if o.Match == Compatible && o.Format == MBDIFF10 {
				if want := slowPatch(old, new); !bytes.Equal(patch, want) {
					t.Fatalf("patch differs from mbsdiff's at byte %d of %d", commonPrefix(patch, want), len(want))
				}
			}
		}
		for _, sc := range []scoring{scoringMB, scoringBS} {
			ix, err := newIndex(t.Context(), old, new)
			if err != nil {
				t.Fatal(err)
			}
			if len(old) > 0 {
				ix.allowance = -1
			}
			s := &scanner{ctx: t.Context(), scoring: sc, ix: ix, new: new, own: newFinder(ix)}
			got, err := s.scan(func(_, _ int64) {})
			if want := slow(old, new, sc); err != nil || !slices.Equal(got, want) {
				t.Fatalf("with tables: got %v, %v, want %v", got, err, want)
			}
		}
	})
}

type realSeed struct{ old, new, patch []byte }

// realSeeds are files that mbsdiff made patches of, where they are present.
func realSeeds() []realSeed {
	var seeds []realSeed
	names, _ := filepath.Glob(filepath.Join(os.Getenv("SENBON_SHARED"), "testdata", "mbsdiff", "r*.patch"))
	for i, name := range names {
		base := name[:len(name)-len("patch")]
		old, err1 := os.ReadFile(base + "old")
		new, err2 := os.ReadFile(base + "new")
		patch, err3 := os.ReadFile(name)
		if i%8 == 0 && errors.Join(err1, err2, err3) == nil {
			seeds = append(seeds, realSeed{old, new, patch})
		}
	}
	return seeds
}
