package bsdiff

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// slow is mbsdiff (or bsdiff 4.3) written down without regard to cost: the reference that fast code is
// compared with.
func slow(old, new []byte, sc scoring) []Triple {
	n, m := len(old), len(new)
	suffixes := make([]int, 0, n+1)
	for i := 0; i <= n; i++ {
		suffixes = append(suffixes, i)
	}
	sort.Slice(suffixes, func(a, b int) bool { return bytes.Compare(old[suffixes[a]:], old[suffixes[b]:]) < 0 })
	same := func(a, b []byte) int {
		i := 0
		for i < len(a) && i < len(b) && a[i] == b[i] {
			i++
		}
		return i
	}
	search := func(j int) (int, int) {
		st, en := 0, n
		for en-st >= 2 {
			mid := st + (en-st)/2
			s := old[suffixes[mid]:]
			k := min(len(s), m-j)
			if bytes.Compare(s[:k], new[j:j+k]) < 0 {
				st = mid
			} else {
				en = mid
			}
		}
		a, b := same(old[suffixes[st]:], new[j:]), same(old[suffixes[en]:], new[j:])
		if a > b {
			return a, suffixes[st]
		}
		return b, suffixes[en]
	}
	gain, loss := int(sc.gain), int(sc.loss)
	var out []Triple
	scan, length, pos, lastScan, lastPos, lastOffset := 0, 0, 0, 0, 0, 0
	for scan < m {
		oldscore := 0
		scan += length
		for k := scan; scan < m; scan++ {
			length, pos = search(scan)
			for ; k < scan+length; k++ {
				if k+lastOffset < n && old[k+lastOffset] == new[k] {
					oldscore++
				}
			}
			if length == oldscore && length != 0 || length > oldscore+sc.margin {
				break
			}
			if scan+lastOffset < n && old[scan+lastOffset] == new[scan] {
				oldscore--
			}
		}
		if length == oldscore && scan != m {
			continue
		}
		lenf, s, best := 0, 0, 0
		for i := 0; lastScan+i < scan && lastPos+i < n; {
			if old[lastPos+i] == new[lastScan+i] {
				s++
			}
			i++
			if v := gain*s - loss*i; v > best {
				best, lenf = v, i
			}
		}
		lenb := 0
		if scan < m {
			s, best = 0, 0
			for i := 1; scan >= lastScan+i && pos >= i; i++ {
				if old[pos-i] == new[scan-i] {
					s++
				}
				if v := gain*s - loss*i; v > best {
					best, lenb = v, i
				}
			}
		}
		if lastScan+lenf > scan-lenb {
			overlap := lastScan + lenf - (scan - lenb)
			s, best = 0, 0
			lens := 0
			for i := range overlap {
				if new[lastScan+lenf-overlap+i] == old[lastPos+lenf-overlap+i] {
					s++
				}
				if new[scan-lenb+i] == old[pos-lenb+i] {
					s--
				}
				if s > best {
					best, lens = s, i+1
				}
			}
			lenf += lens - overlap
			lenb -= lens
		}
		out = append(out, Triple{Add: int32(lenf), Copy: int32(scan - lenb - (lastScan + lenf)), Seek: int32(pos - lenb - (lastPos + lenf))})
		lastScan, lastPos, lastOffset = scan-lenb, pos-lenb, pos-scan
	}
	return out
}

// slowPatch is the patch that mbsdiff writes.
func slowPatch(old, new []byte) []byte {
	var control, difference, extra []byte
	oldPos, newPos := 0, 0
	for _, t := range slow(old, new, scoringMB) {
		control = binary.BigEndian.AppendUint32(control, uint32(t.Add))
		control = binary.BigEndian.AppendUint32(control, uint32(t.Copy))
		control = binary.BigEndian.AppendUint32(control, uint32(t.Seek))
		for i := range int(t.Add) {
			difference = append(difference, new[newPos+i]-old[oldPos+i])
		}
		newPos += int(t.Add)
		extra = append(extra, new[newPos:newPos+int(t.Copy)]...)
		newPos += int(t.Copy)
		oldPos += int(t.Add) + int(t.Seek)
	}
	patch := []byte("MBDIFF10")
	for _, v := range []int{len(old), int(slowChecksum(old)), len(new), len(control), len(difference), len(extra)} {
		patch = binary.BigEndian.AppendUint32(patch, uint32(v))
	}
	return append(append(append(patch, control...), difference...), extra...)
}

// randomPair makes two related files. Some are random, some periodic, some runs of few letters.
func randomPair(r *rand.Rand, size int) (old, new []byte) {
	letters := 1 + r.IntN([]int{1, 2, 3, 4, 16, 256}[r.IntN(6)])
	text := func(n int) []byte {
		b := make([]byte, n)
		period := n + 1
		if r.IntN(3) == 0 {
			period = 1 + r.IntN(20)
		}
		for i := range b {
			if i >= period {
				b[i] = b[i-period]
				if r.IntN(60) == 0 && period%2 == 0 {
					b[i]++
				}
			} else {
				b[i] = byte(r.IntN(letters))
			}
		}
		return b
	}
	old = text(r.IntN(size))
	switch r.IntN(8) {
	case 0:
		return old, text(r.IntN(size))
	case 1:
		return old, bytes.Repeat(old, 1+r.IntN(3))
	}
	for len(new) < size && r.IntN(12) != 0 {
		if len(old) > 0 && r.IntN(4) != 0 {
			from := r.IntN(len(old))
			part := bytes.Clone(old[from : from+r.IntN(len(old)-from+1)])
			for k := r.IntN(1 + len(part)/10); k > 0; k-- {
				part[r.IntN(len(part))] += byte(1 + r.IntN(3))
			}
			new = append(new, part...)
		} else {
			new = append(new, text(r.IntN(30))...)
		}
	}
	return old, new
}

func diff(tb testing.TB, o Options, old, new []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := New(o).Diff(tb.Context(), &b, old, new); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestCompatibleIsMbsdiff(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob(filepath.Join(testkit.Shared(t, "testdata", "mbsdiff"), "*.patch"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no patches found: %v", err)
	}
	for _, name := range names {
		base := strings.TrimSuffix(name, ".patch")
		old, new, want := read(t, base+".old"), read(t, base+".new"), read(t, name)
		if got := diff(t, Options{Match: Compatible}, old, new); !bytes.Equal(got, want) {
			t.Errorf("%s: patch of %d bytes differs from mbsdiff's of %d at byte %d", filepath.Base(base), len(got), len(want), commonPrefix(got, want))
		}
		if got := slowPatch(old, new); len(new) < 10000 && !bytes.Equal(got, want) {
			t.Errorf("%s: the reference differs from mbsdiff", filepath.Base(base))
		}
	}
}

func read(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// Searches that start with the tables for costly files find the same as those that start without, and both
// what the reference finds.
func TestDeepSearch(t *testing.T) {
	t.Parallel()
	for seed := range uint64(testkit.Count(102, 200, 1000)) {
		r := rand.New(rand.NewPCG(seed, 3))
		size := 300
		if seed%20 == 0 {
			size = 3000
		}
		old, new := randomPair(r, size)
		for _, sc := range []scoring{scoringMB, scoringBS} {
			want := slow(old, new, sc)
			for _, allowance := range []int64{-1, 1 << 62} {
				width := 1 + int(seed%2)
				if seed == 101 {
					width = 3 // 64 MB
				}
				ix, err := newIndexWidth(t.Context(), old, new, width)
				if err != nil {
					t.Fatal(err)
				}
				ix.allowance = allowance
				if len(old) == 0 {
					ix.allowance = 0
				}
				s := &scanner{ctx: t.Context(), scoring: sc, ix: ix, new: new, own: newFinder(ix)}
				got, err := s.scan(func(_, _ int64) {})
				if err != nil {
					t.Fatal(err)
				}
				if deep := s.own.deep != nil; len(old) > 0 && len(new) > 0 && deep != (allowance < 0) {
					t.Fatalf("allowance %d, tables used: %v", allowance, deep)
				}
				if !slices.Equal(got, want) {
					t.Fatalf("seed %d (%d to %d bytes), margin %d, width %d, allowance %d: got %v, want %v", seed, len(old), len(new), sc.margin, width, allowance, got, want)
				}
			}
		}
	}
}

func TestCompatibleIsReference(t *testing.T) {
	t.Parallel()
	for seed := range uint64(testkit.Count(1000, 2000, 2000)) {
		r := rand.New(rand.NewPCG(seed, 1))
		size := 400
		if seed%20 == 0 {
			size = 3000
		}
		old, new := randomPair(r, size)
		got := diff(t, Options{Match: Compatible, Workers: 1}, old, new)
		if want := slowPatch(old, new); !bytes.Equal(got, want) {
			t.Fatalf("seed %d (%d to %d bytes): patch differs from the reference's at byte %d of %d", seed, len(old), len(new), commonPrefix(got, want), len(want))
		}
	}
}
