package partial

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/senbonzakura/senbonzakura/partial/internal/updatetest"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// memos are both ways to name members.
func memos() map[string]*Memo {
	plain := NewMemo()
	plain.mac = nil
	return map[string]*Memo{"code": NewMemo(), "SHA-256": plain}
}

// Members have one name if they are the same bytes, wherever these differ, and however they are cut into chunks.
func TestMemoNames(t *testing.T) {
	t.Parallel()
	long := make([]byte, 2*memoChunk+100)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(long) // never fails
	changed := func(at int) []byte {
		c := slices.Clone(long)
		c[at] ^= 1
		return c
	}
	swapped := slices.Concat(long[memoChunk:2*memoChunk], long[:memoChunk], long[2*memoChunk:])
	different := [][]byte{
		{},
		{0},
		{0, 0},
		make([]byte, 16), make([]byte, memoChunk), make([]byte, memoChunk+1), make([]byte, 2*memoChunk),
		long, long[:memoChunk], long[:memoChunk-1], long[:len(long)-1], long[1:], swapped,
		changed(0), changed(memoChunk - 1), changed(memoChunk), changed(2*memoChunk + 50), changed(len(long) - 1),
	}
	for how, memo := range memos() {
		seen := map[memberName]int{}
		for i, data := range different {
			var names [2]memberName
			for j := range names {
				var err error
				if names[j], err = memo.name(updater.NewMember(fmt.Sprint("name", j), 0o644, slices.Clone(data))); err != nil {
					t.Fatal(err)
				}
			}
			if names[0] != names[1] {
				t.Errorf("%s: equal members have the names %x and %x", how, names[0], names[1])
			}
			if first, ok := seen[names[0]]; ok {
				t.Errorf("%s: members %d and %d have one name", how, first, i)
			}
			seen[names[0]] = i
		}
	}
	a, errA := NewMemo().name(updater.NewMember("x", 0o644, long))
	b, errB := NewMemo().name(updater.NewMember("x", 0o644, long))
	if a == b || errA != nil || errB != nil {
		t.Errorf("two memos name a member %x and %x (%v, %v), want a key for each", a, b, errA, errB)
	}
}

// A member that ends before its size says so has no name.
func TestMemoReadsAll(t *testing.T) {
	t.Parallel()
	for how, memo := range memos() {
		m := updater.NewMember("short", 0o644, []byte("text"))
		m.Size++
		if name, err := memo.name(m); err == nil {
			t.Errorf("%s: a member that is cut is named %x", how, name)
		}
	}
}

// What the memo says about a member is believed, under the name of its bytes, and was put there by the build before.
func TestMemoIsUsed(t *testing.T) {
	t.Parallel()
	from, to := releases(t, updatetest.Tree{"f": updatetest.File(noisy(20_000))}, updatetest.Tree{"f": updatetest.File(noisy(20_000) + "x"), "new": updatetest.File("n")})
	r := fastRecipe(RulesStrict)
	for how, memo := range memos() {
		opts := &BuildOptions{Patches: newTestCache(), Memo: memo}
		build(t, from, to, r, opts)
		name, err := memo.name(updater.MemberOf(to.Lookup("f")))
		if err != nil {
			t.Fatal(err)
		}
		content := noisy(20_000) + "x"
		if got, ok := memo.digest(name); !ok || got != (Digest{sha256.Sum256([]byte(content)), int64(len(content))}) {
			t.Errorf("%s: the memo has %v, %v of a member", how, got, ok)
		}
		old, err := memo.name(updater.MemberOf(from.Lookup("f")))
		if err != nil {
			t.Fatal(err)
		}
		was, _ := memo.digest(old)
		memo.putDigest(name, was) // which is not true
		_, rep, err := Build(t.Context(), from, to, r, opts)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range rep.Files {
			if f.Path == "f" && f.Action != ActionSame {
				t.Errorf("%s: %+v, want a file that the memo says is the same", how, f)
			}
		}
	}
	if _, _, err := Build(t.Context(), from, to, r, &BuildOptions{Memo: NewMemo(), Digests: newTestCache()}); err == nil {
		t.Error("a memo and a cache of digests: no error")
	}
}

// What is asked for stays, however many others come; what is not is forgotten, so that the memo does not grow.
func TestMemoForgets(t *testing.T) {
	t.Parallel()
	m := NewMemo()
	name := func(i int) memberName { return memberName{byte(i), byte(i >> 8), byte(i >> 16)} }
	for i := range 4 * maxMemo {
		m.putDigest(name(i), Digest{Size: int64(i)})
		if i%1000 == 0 {
			if d, ok := m.digest(name(7)); i > 7 && (!ok || d.Size != 7) {
				t.Fatalf("a member in use is forgotten after %d others", i)
			}
		}
	}
	if n := len(m.now) + len(m.old); n > 2*maxMemo {
		t.Errorf("%d members are remembered, want %d at most", n, 2*maxMemo)
	}
	if _, ok := m.digest(name(8)); ok {
		t.Errorf("a member that nobody asked for is remembered after %d others", 4*maxMemo)
	}
}

func BenchmarkMemo(b *testing.B) {
	data := make([]byte, 8<<20)
	for how, memo := range memos() {
		b.Run("name="+how, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := memo.name(updater.NewMember("x", 0o644, data)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
