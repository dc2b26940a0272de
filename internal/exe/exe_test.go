package exe_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/internal/exe"
	"github.com/senbonzakura/senbonzakura/internal/exe/exetest"
)

// consistent checks what holds of every executable: that references, read one by one, lead to where they were found to
// lead, and are written as they are.
func consistent(tb testing.TB, m *exe.Image, data []byte) (refs [][]exe.Ref) {
	tb.Helper()
	refs, err := m.References(tb.Context(), math.MaxInt)
	if errors.Is(err, exe.ErrTooMuch) {
		return nil
	}
	if err != nil {
		tb.Fatal(err)
	}
	if len(refs) != len(m.Groups()) {
		tb.Fatalf("%d types of references, want %d", len(refs), len(m.Groups()))
	}
	data = data[:m.Size()]
	r := m.Reader()
	written := bytes.Clone(data)
	for _, g := range m.Groups() {
		end := uint32(0)
		for i, ref := range refs[g.Type] {
			if i > 0 && ref.At < refs[g.Type][i-1].At {
				tb.Fatalf("type %d: references out of order at %d", g.Type, ref.At)
			}
			if int(ref.At)+int(g.Width) > len(data) {
				tb.Fatalf("type %d: reference at %d of %d bytes", g.Type, ref.At, len(data))
			}
			target, ok := r.Target(g.Type, ref.At)
			if !ok || target != ref.Target {
				// Pointers in what is not in the file can be in headers, which are left alone.
				if m.Certain() && (ok || g.Type > 1) {
					tb.Fatalf("type %d: reference at %#x leads to %#x, read alone to %#x, %v", g.Type, ref.At, ref.Target, target, ok)
				}
				continue
			}
			if ref.At < end {
				continue
			}
			end = ref.At + uint32(g.Width)
			if !r.Put(written, g.Type, ref.At, ref.Target) || !bytes.Equal(written[ref.At:end], data[ref.At:end]) {
				tb.Fatalf("type %d: reference at %#x is written as % x, was % x", g.Type, ref.At, written[ref.At:end], data[ref.At:end])
			}
		}
	}
	return refs
}

func TestReferences(t *testing.T) {
	t.Parallel()
	for _, kind := range exetest.Kinds {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(20) {
				p := exetest.Random(rand.New(rand.NewPCG(seed, 1)), kind, 2+int(seed)*5)
				p.Trailing = []byte("something behind it")
				data := p.Bytes()
				m := exe.Find(data)
				if m == nil || m.Kind() != kind || !m.Certain() {
					_, err := exe.Parse(kind, data)
					t.Fatalf("seed %d: not found: %v", seed, err)
				}
				if m.Size() != len(data)-len(p.Trailing) {
					t.Fatalf("seed %d: size %d of %d with %d behind it", seed, m.Size(), len(data), len(p.Trailing))
				}
				refs := consistent(t, m, data)
				if len(refs[0]) != len(p.Pointers) || len(refs[1]) != len(p.Pointers) {
					t.Errorf("seed %d: %d relocations and %d pointers, want %d", seed, len(refs[0]), len(refs[1]), len(p.Pointers))
				}
				calls, found := 0, 0
				for _, f := range p.Functions {
					calls += len(f.Parts)
				}
				for _, list := range refs[2:] {
					found += len(list)
				}
				// Random bytes before a call can be taken for another, and hide it.
				if found < calls*9/10 {
					t.Errorf("seed %d: %d branches, want about %d", seed, found, calls)
				}
			}
		})
	}
}

// Where one byte of an executable is wrong it is none, or another; nothing worse.
func TestDamagedExecutables(t *testing.T) {
	t.Parallel()
	for _, kind := range exetest.Kinds {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(7, uint64(kind)))
			whole := exetest.Random(r, kind, 20).Bytes()
			none := 0
			for i := range 1500 {
				data := bytes.Clone(whole)
				at := r.IntN(0x200)
				if i%2 == 0 {
					at = len(data) - 1 - r.IntN(min(len(data), 600))
				}
				data[at] = byte(r.Uint32())
				if i%7 == 0 {
					data = data[:r.IntN(len(data))]
				}
				m := exe.Find(data)
				if m == nil {
					none++
					continue
				}
				consistent(t, m, data)
			}
			if none == 0 || none == 1500 {
				t.Errorf("%d of 1500 are no executables", none)
			}
		})
	}
}

func TestHostileHeaders(t *testing.T) {
	for name, data := range exetest.Hostile() {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
			defer stop()
			for _, k := range exetest.Kinds {
				m, err := exe.Parse(k, data)
				if err != nil {
					if !errors.Is(err, exe.ErrNot) {
						t.Errorf("%v: %v", k, err)
					}
					continue
				}
				if _, err := m.References(ctx, math.MaxInt); err != nil && !errors.Is(err, exe.ErrTooMuch) {
					t.Errorf("%v: %v", k, err)
				}
			}
		})
	}
}

// A section that takes no room in the file but claims the place of the next, as .relro_padding does, makes the file plain
// data for the updater.
func TestRelroPadding(t *testing.T) {
	t.Parallel()
	p := exetest.Random(rand.New(rand.NewPCG(3, 3)), exe.ELFX64, 30)
	p.BSS = 4096
	data := p.Bytes()
	if exe.Find(data) == nil {
		t.Fatal("not found")
	}
	// Section 4 is .bss: let it begin where .data does.
	sections := int(data[40]) | int(data[41])<<8 | int(data[42])<<16
	copy(data[sections+4*64+24:][:8], data[sections+2*64+24:])
	if exe.Find(data) != nil {
		t.Error("found an executable of which two sections are at one place")
	}
	_, err := exe.Parse(exe.ELFX64, data)
	if !errors.Is(err, exe.ErrNot) {
		t.Errorf("got %v", err)
	}
}

// An executable that is one only with what is behind it, as debugging information is, is none: patches are of the executable
// alone.
func TestNotAlone(t *testing.T) {
	t.Parallel()
	data := exetest.Random(rand.New(rand.NewPCG(3, 3)), exe.ELFX64, 30).Bytes()
	// Section 5, the names, has no address: let it stand behind the end.
	section := data[binary.LittleEndian.Uint64(data[40:])+5*64:]
	at, size := binary.LittleEndian.Uint64(section[24:]), binary.LittleEndian.Uint64(section[32:])
	binary.LittleEndian.PutUint64(section[24:], uint64(len(data)))
	whole := append(bytes.Clone(data), data[at:at+size]...)
	if m, err := exe.Parse(exe.ELFX64, whole); err != nil || m.Size() != len(data) {
		t.Fatalf("got %v, want an executable of %d bytes", err, len(data))
	}
	if exe.Find(whole) != nil {
		t.Error("found an executable that needs what is behind it")
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	for _, kind := range exetest.Kinds {
		data := exetest.Random(rand.New(rand.NewPCG(3, 3)), kind, 3000).Bytes()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		m := exe.Find(data)
		if _, err := m.References(ctx, math.MaxInt); !errors.Is(err, context.Canceled) {
			t.Errorf("%v: got %v", kind, err)
		}
	}
}

func FuzzExecutable(f *testing.F) {
	for _, k := range exetest.Kinds {
		p := exetest.Random(rand.New(rand.NewPCG(9, uint64(k))), k, 4)
		f.Add(p.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, k := range exetest.Kinds {
			m, err := exe.Parse(k, data)
			if err != nil {
				if !errors.Is(err, exe.ErrNot) {
					t.Fatal(err)
				}
				continue
			}
			if m.Size() > len(data) {
				t.Fatalf("size %d of %d", m.Size(), len(data))
			}
			consistent(t, m, data)
		}
	})
}

// FuzzInstruction reads bytes as a reference of each type and writes them again: what can be read has to come out as it
// was.
func FuzzInstruction(f *testing.F) {
	programs := make(map[exe.Kind][]byte)
	for _, k := range exetest.Kinds {
		programs[k] = exetest.Random(rand.New(rand.NewPCG(9, uint64(k))), k, 40).Bytes()
	}
	for i, w := range []uint32{0xeb000001, 0xfa000001, 0xfb000003, 0xd001, 0xe7fe, 0xf800f000, 0xe800f000, 0x8000f001, 0x94000001, 0x54000020, 0x36000020, 0xb4ffffe0} {
		f.Add(w, uint16(i), uint32(0x10))
	}
	f.Fuzz(func(t *testing.T, w uint32, at uint16, old uint32) {
		for _, k := range exetest.Kinds {
			data := bytes.Clone(programs[k])
			m := exe.Find(data)
			place := 0x400 + int(at)%256
			copy(data[place:], []byte{byte(w), byte(w >> 8), byte(w >> 16), byte(w >> 24)})
			r := m.Reader()
			for _, g := range m.Groups()[2:] {
				body := data[place:][:g.Width]
				before := bytes.Clone(body)
				target, ok := r.Target(g.Type, uint32(place))
				if !ok {
					continue
				}
				if m.Mixes(g.Type) {
					other := []byte{byte(old), byte(old >> 8), byte(old >> 16), byte(old >> 24)}
					mixed := make([]byte, g.Width)
					m.Mix(g.Type, mixed, other, body)
					copy(body, mixed)
				}
				if !r.Put(data, g.Type, uint32(place), target) || !bytes.Equal(body, before) {
					t.Fatalf("%v, type %d: % x, which leads to %#x, is written as % x", k, g.Type, before, target, body)
				}
			}
		}
	})
}

func ExampleFind() {
	data := exetest.Random(rand.New(rand.NewPCG(1, 1)), exe.PE64, 10).Bytes()
	m := exe.Find(data)
	refs, err := m.References(context.Background(), math.MaxInt)
	if err != nil {
		panic(err)
	}
	at := slices.IndexFunc(refs[2], func(r exe.Ref) bool { return data[r.At-1] == 0xe8 })
	fmt.Println(m.Kind(), m.Size() == len(data), at >= 0)
	// Output: Px64 true true
}
