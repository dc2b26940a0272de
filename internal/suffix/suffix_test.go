package suffix

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// naive sorts the suffixes by comparing them.
func naive(text []byte) []int32 {
	sa := make([]int32, len(text))
	for i := range sa {
		sa[i] = int32(i)
	}
	slices.SortFunc(sa, func(a, b int32) int { return bytes.Compare(text[a:], text[b:]) })
	return sa
}

// check verifies in linear time that sa is the suffix array of text: a permutation in which
// neighbours are in order by first symbol, then by the order of what follows it.
func check(t *testing.T, sa []int32, text []byte) {
	t.Helper()
	rank := make([]int32, len(text)+1)
	rank[len(text)] = -1
	for i := range text {
		rank[i] = -2
	}
	for i, p := range sa {
		if p < 0 || int(p) >= len(text) || rank[p] != -2 {
			t.Fatalf("entry %d, %d, is outside of the text or a repetition", i, p)
		}
		rank[p] = int32(i)
	}
	for i := 1; i < len(sa); i++ {
		a, b := sa[i-1], sa[i]
		if text[a] > text[b] || text[a] == text[b] && rank[a+1] > rank[b+1] {
			t.Fatalf("entries %d and %d are in the wrong order", i-1, i)
		}
	}
}

func TestSortSmall(t *testing.T) {
	t.Parallel()
	// Every text of up to 9 letters of an alphabet of 3, and of up to 12 letters of 2.
	for _, c := range []struct{ letters, length int }{{3, 9}, {2, 12}} {
		for n := range c.length + 1 {
			total := 1
			for range n {
				total *= c.letters
			}
			for x := range total {
				text := make([]byte, n)
				for i, y := 0, x; i < n; i++ {
					text[i] = byte('a' + y%c.letters)
					y /= c.letters
				}
				sa := make([]int32, n)
				for i := range sa {
					sa[i] = -77
				}
				Sort(sa, text)
				if want := naive(text); !slices.Equal(sa, want) {
					t.Fatalf("Sort(%q): got %v, want %v", text, sa, want)
				}
			}
		}
	}
}

// samples are texts of about n bytes of very different kinds.
func samples(n int) map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, n)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	few := make([]byte, n)
	for i := range few {
		few[i] = byte(r.IntN(3))
	}
	fibonacci := []byte("ab")
	for prev := []byte("a"); len(fibonacci) < n; {
		prev, fibonacci = fibonacci, append(bytes.Clone(fibonacci), prev...)
	}
	words := make([]byte, 0, n)
	for len(words) < n {
		words = fmt.Appendf(words, "%d,", r.IntN(1000))
	}
	descending := make([]byte, n)
	for i := range descending {
		descending[i] = byte(255 - i*256/n)
	}
	return map[string][]byte{
		"zeros":      make([]byte, n),
		"periodic":   bytes.Repeat([]byte("abcabcabd"), n/9),
		"random":     random,
		"few":        few,
		"fibonacci":  fibonacci,
		"words":      words,
		"twice":      append(bytes.Clone(random[:n/2]), random[:n/2]...),
		"descending": descending,
	}
}

func TestSortKinds(t *testing.T) {
	t.Parallel()
	for name, text := range samples(200_000) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sa := make([]int32, len(text))
			Sort(sa, text)
			check(t, sa, text)
		})
	}
}

func TestSortRefusesWrongLength(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("Sort with an array that is too short: got no panic, want one")
		}
	}()
	Sort(make([]int32, 2), []byte("abc"))
}

// TestSortLinear compares the time per byte of the hardest kinds of text at two sizes.
func TestSortLinear(t *testing.T) {
	testkit.Long(t, "sorts 32 MB of each kind of text")
	for name := range samples(10) {
		took := func(n int) time.Duration {
			text := samples(n)[name]
			sa := make([]int32, len(text))
			start := time.Now()
			Sort(sa, text)
			d := time.Since(start)
			check(t, sa, text)
			return d
		}
		small, large := took(4<<20), took(32<<20)
		t.Logf("%s: 4 MiB %v, 32 MiB %v", name, small, large)
		if large > 8*8*small+time.Second {
			t.Errorf("%s: 8 times the bytes took %v, against %v", name, large, small)
		}
	}
}

func FuzzSort(f *testing.F) {
	for _, text := range samples(300) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		sa := make([]int32, len(text))
		Sort(sa, text)
		check(t, sa, text)
	})
}

func ExampleSort() {
	text := []byte("banana")
	sa := make([]int32, len(text))
	Sort(sa, text)
	for _, p := range sa {
		fmt.Println(p, string(text[p:]))
	}
	// Output:
	// 5 a
	// 3 ana
	// 1 anana
	// 0 banana
	// 4 na
	// 2 nana
}

func BenchmarkSort(b *testing.B) {
	for _, name := range []string{"zeros", "periodic", "random", "few", "words"} {
		text := samples(4 << 20)[name]
		sa := make([]int32, len(text))
		b.Run("input="+name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				Sort(sa, text)
			}
		})
	}
}
