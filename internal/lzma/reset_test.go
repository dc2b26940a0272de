package lzma

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// An encoder that was used writes what a new one writes, whatever its dictionary was before, and also where its positions
// become too large and are lowered.
func TestReset(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	words := make([][]byte, 200)
	for i := range words {
		words[i] = binary.BigEndian.AppendUint64(nil, r.Uint64())[:2+r.IntN(6)]
	}
	content := func(n int) []byte {
		var b []byte
		for len(b) < n {
			switch r.IntN(4) {
			case 0:
				b = append(b, make([]byte, r.IntN(600))...)
			case 1:
				b = append(b, byte(r.Uint32()))
			case 2:
				b = append(b, bytes.Repeat([]byte{byte(r.IntN(3))}, 2+r.IntN(100))...)
			default:
				b = append(b, words[r.IntN(len(words))]...)
			}
		}
		return b[:n]
	}
	used, err := NewEncoder(nil, EncoderOptions{NiceLen: 64, Depth: 16, DictSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	lowered := 0
	for i := range 150 {
		o := EncoderOptions{NiceLen: 64, Depth: 16, DictSize: 4096 << r.IntN(7), LC: r.IntN(4), PB: r.IntN(3)}
		data := content(r.IntN(3 * o.DictSize))
		if r.IntN(3) == 0 {
			data = content(r.IntN(5000))
		}
		if i%10 == 9 { // as if it had seen that much
			used.finder.rebaseUp(1<<31 - used.base)
			used.ends.rebaseUp(1<<31 - used.base)
			used.base = 1 << 31
			lowered++
		}
		var got, want bytes.Buffer
		fresh, err := NewEncoder(&want, o)
		if err != nil {
			t.Fatal(err)
		}
		if err := used.reset(&got, o); err != nil {
			t.Fatal(err)
		}
		if used.base >= 1<<31 {
			t.Fatalf("base is %d after a reset", used.base)
		}
		for _, known := range [][]uint32{used.finder.hash2, used.finder.hash3[:cap(used.finder.hash3)]} {
			for _, pos := range known {
				if used.base-pos <= used.dict || pos >= used.base {
					t.Fatalf("use %d: the tables know position %d, that of the window is %d", i, pos, used.base)
				}
			}
		}
		for _, e := range []*Encoder{fresh, used} {
			cut := len(data) / 3
			if _, err := e.Write(data[:cut]); err != nil {
				t.Fatal(err)
			}
			if err := e.SetProps(o.PB, 2, 1); err != nil {
				t.Fatal(err)
			}
			if _, err := e.Write(data[cut:]); err != nil {
				t.Fatal(err)
			}
			if err := e.end(); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Fatalf("use %d, dictionary %d, %d bytes: got %d bytes, a new encoder writes %d", i, o.DictSize, len(data), got.Len(), want.Len())
		}
	}
	if lowered < 10 {
		t.Error("positions were hardly ever lowered")
	}
}

// rebaseUp raises all positions in the tables, as if so much had come before.
func (f *finder) rebaseUp(by uint32) {
	for _, t := range [][]uint32{f.hash2, f.hash3[:cap(f.hash3)]} {
		for i := range t {
			t[i] += by
		}
	}
	f.tree.rebaseUp(by)
}

func (r *runEnds) rebaseUp(by uint32) {
	for k := range r.trees {
		r.trees[k].rebaseUp(by)
	}
	r.last, r.at = r.last+by, r.at+by
}

func (t *tree) rebaseUp(by uint32) {
	for i := range t.ring {
		t.ring[i].pos += by
	}
}
