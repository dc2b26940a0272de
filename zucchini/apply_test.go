package zucchini

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// raw is a patch of which every number can be wrong.
type raw struct {
	old, new []byte
	header   map[int]uint32 // by offset; the others are right
	elements []rawElement
	tail     []byte
}

type rawElement struct {
	oldAt, oldN, newAt, newN uint32
	name                     string
	version                  uint16
	streams                  [streams][]byte
	pools                    []rawPool
	poolCount                int // if not that of pools
}

type rawPool struct {
	tag  byte
	data []byte
}

func (r raw) bytes() []byte {
	le := binary.LittleEndian
	b := []byte("Zucc\x02\x00\x00\x00")
	for i, v := range []uint32{uint32(len(r.old)), crc32.ChecksumIEEE(r.old), uint32(len(r.new)), crc32.ChecksumIEEE(r.new), uint32(len(r.elements))} {
		if w, ok := r.header[8+4*i]; ok {
			v = w
		}
		b = le.AppendUint32(b, v)
	}
	for _, e := range r.elements {
		for _, v := range []uint32{e.oldAt, e.oldN, e.newAt, e.newN} {
			b = le.AppendUint32(b, v)
		}
		b = le.AppendUint16(append(b, e.name...), e.version)
		for _, s := range e.streams {
			b = append(le.AppendUint32(b, uint32(len(s))), s...)
		}
		n := len(e.pools)
		if e.poolCount != 0 {
			n = e.poolCount
		}
		b = le.AppendUint32(b, uint32(n))
		for _, p := range e.pools {
			b = append(le.AppendUint32(append(b, p.tag), uint32(len(p.data))), p.data...)
		}
	}
	return append(b, r.tail...)
}

func unsigned(list ...uint32) (b []byte) {
	for _, v := range list {
		b = appendUvarint(b, v)
	}
	return b
}

func signed(list ...int32) (b []byte) {
	for _, v := range list {
		b = appendVarint(b, v)
	}
	return b
}

// simple turns "0123456789abcdef" into "xy2345z9a": 2 bytes of its own, 4 from offset 2, one of its own, 2 of which one
// differs.
func simple() raw {
	return raw{
		old: []byte("0123456789abcdef"), new: []byte("xy2345z9A"),
		elements: []rawElement{{
			oldN: 16, newN: 9, name: noOp, version: 1, streams: [streams][]byte{
				srcSkip: signed(2, 3), dstSkip: unsigned(2, 1), copyCount: unsigned(4, 2), extraData: []byte("xyz"),
				rawDeltaSkip: unsigned(5), rawDeltaDiff: {0xe0},
			},
		}},
	}
}

func TestHostilePatches(t *testing.T) {
	with := func(f func(r *raw, e *rawElement)) []byte {
		r := simple()
		r.header = map[int]uint32{}
		f(&r, &r.elements[0])
		return r.bytes()
	}
	set := func(at int, v uint32) []byte { return with(func(r *raw, _ *rawElement) { r.header[at] = v }) }
	stream := func(i int, b []byte) []byte { return with(func(_ *raw, e *rawElement) { e.streams[i] = b }) }
	big := []byte{0xff, 0xff, 0xff, 0xff, 0x0f}
	cases := []struct {
		name  string
		patch []byte
		want  error // nil: none
		code  int
		loose bool // fine where lenient
	}{
		{"right", simple().bytes(), nil, 0, false},
		{"nothing", nil, ErrFormat, 6, false},
		{"another magic", append([]byte("Zucx"), simple().bytes()[4:]...), ErrFormat, 6, false},
		{"MBDIFF10", append([]byte("MBDIFF10"), make([]byte, 100)...), ErrFormat, 6, false},
		{"major 1", append([]byte("Zucc\x01"), simple().bytes()[5:]...), ErrFormat, 6, false},
		{"minor 9", append([]byte("Zucc\x02\x00\x09"), simple().bytes()[7:]...), nil, 0, false},
		{"old size", set(8, 17), ErrOldSize, 2, false},
		{"old size 0", set(8, 0), ErrFormat, 6, false}, // the element reaches out of it
		{"old checksum", set(12, 1), ErrOldCRC, 4, false},
		{"new size", set(16, 10), ErrFormat, 6, false},
		{"new size 2^32-1", set(16, math.MaxUint32), ErrFormat, 6, false},
		{"new checksum", set(20, 1), ErrNewCRC, 4, false},
		{"no elements", set(24, 0), ErrFormat, 6, false},
		{"2^32-1 elements", set(24, math.MaxUint32), ErrFormat, 6, false},
		{"a byte behind", with(func(r *raw, _ *rawElement) { r.tail = []byte{0} }), ErrFormat, 6, false},
		{"empty new file", raw{old: []byte("0123456789abcdef")}.bytes(), ErrEmpty, 7, false},
		{"old bytes behind the end", with(func(_ *raw, e *rawElement) { e.oldAt = 1 }), ErrFormat, 6, false},
		{"no old bytes", with(func(_ *raw, e *rawElement) { e.oldN = 0 }), ErrFormat, 6, false},
		{"old bytes up to 2^32", with(func(_ *raw, e *rawElement) { e.oldAt, e.oldN = 16, math.MaxUint32-15 }), ErrFormat, 6, false},
		{"new bytes from 1", with(func(_ *raw, e *rawElement) { e.newAt = 1 }), ErrFormat, 6, false},
		{"more new bytes", with(func(_ *raw, e *rawElement) { e.newN = 10 }), ErrFormat, 6, false},
		{"unknown type", with(func(_ *raw, e *rawElement) { e.name = "Pxxx" }), ErrFormat, 6, false},
		{"Android", with(func(_ *raw, e *rawElement) { e.name, e.version = "DEX ", 65535 }), ErrElement, 41, false},
		{"version 2", with(func(_ *raw, e *rawElement) { e.version = 2 }), ErrFormat, 6, false},
		{"no executable", with(func(_ *raw, e *rawElement) { e.name = "Ex64" }), ErrElement, 41, false},
		{"pool twice", with(func(_ *raw, e *rawElement) { e.pools = []rawPool{{1, nil}, {1, nil}} }), ErrFormat, 6, false},
		{"pool 255", with(func(_ *raw, e *rawElement) { e.pools = []rawPool{{255, nil}} }), ErrFormat, 6, false},
		{"pools of what has none", with(func(_ *raw, e *rawElement) { e.pools = []rawPool{{7, big}, {1, []byte{0x80}}} }), nil, 0, false},
		{"2^32-1 pools", with(func(_ *raw, e *rawElement) { e.poolCount = -1 }), ErrFormat, 6, false},
		{"stream of 2^32-1 bytes", append(simple().bytes()[:headerSize+elementHeader], 0xff, 0xff, 0xff, 0xff), ErrFormat, 6, false},
		{"copies from below zero", stream(srcSkip, signed(-1, 3)), ErrFormat, 6, false},
		{"copies from behind the end", stream(srcSkip, signed(13, 3)), ErrFormat, 6, false},
		{"copies to behind the end", stream(dstSkip, unsigned(2, 2)), ErrFormat, 6, false},
		{"copies 2^32-1 bytes", stream(copyCount, append(unsigned(4), big...)), ErrFormat, 6, false},
		{"copies from 2^32-1", stream(srcSkip, signed(2, math.MaxInt32)), ErrFormat, 6, false},
		{"one number more", stream(srcSkip, signed(2, 3, 0)), ErrElement, 41, false},
		{"half a number more", stream(copyCount, append(unsigned(4, 2), 0x80)), ErrElement, 41, false},
		{"a number of six bytes", stream(dstSkip, append(unsigned(2, 1), 0x80, 0x80, 0x80, 0x80, 0x80, 0)), ErrElement, 41, false},
		{"an equivalence that goes over 4 GiB", with(func(_ *raw, e *rawElement) {
			e.streams[srcSkip], e.streams[dstSkip], e.streams[copyCount] = signed(2, 3, 0), append(unsigned(2, 1), big...), unsigned(4, 2, 0)
		}), ErrLoose, 0, true},
		{"no extra data", stream(extraData, nil), ErrFormat, 6, false},
		{"extra data too long", stream(extraData, []byte("xyz!")), ErrFormat, 6, false},
		{"difference behind the end", stream(rawDeltaSkip, unsigned(6)), ErrElement, 41, false},
		{"difference over 4 GiB", with(func(_ *raw, e *rawElement) {
			e.streams[rawDeltaSkip], e.streams[rawDeltaDiff] = append(unsigned(5), big...), []byte{0xe0, 1}
		}), ErrElement, 41, false},
		{"difference of zero at the end", with(func(_ *raw, e *rawElement) {
			e.streams[rawDeltaSkip], e.streams[rawDeltaDiff] = unsigned(5, 0), []byte{0xe0, 0}
		}), ErrLoose, 0, true},
		{"difference of zero before another", with(func(_ *raw, e *rawElement) {
			e.streams[rawDeltaSkip], e.streams[rawDeltaDiff] = unsigned(0, 4), []byte{0, 0xe0}
		}), ErrElement, 41, false},
		{"more skips than differences", stream(rawDeltaSkip, unsigned(5, 0)), ErrElement, 41, false},
		{"more differences than skips", stream(rawDeltaDiff, []byte{0xe0, 1}), ErrElement, 41, false},
		{"references of what has none", stream(referenceDelta, []byte{0}), ErrElement, 41, false},
	}
	old := simple().old
	var before, after runtime.MemStats
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, lenient := range []bool{false, true} {
				runtime.ReadMemStats(&before)
				got, err := Apply(t.Context(), nil, old, c.patch, &ApplyOptions{Lenient: lenient})
				runtime.ReadMemStats(&after)
				if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
					t.Errorf("allocated %d bytes", used)
				}
				if c.want == nil || lenient && c.loose {
					if err != nil || string(got) != "xy2345z9A" {
						t.Errorf("lenient %v: got %q, %v", lenient, got, err)
					}
					continue
				}
				if !errors.Is(err, c.want) || UpdaterCode(err) != c.code {
					t.Errorf("lenient %v: got %q, %v (%d), want %v (%d)", lenient, got, err, UpdaterCode(err), c.want, c.code)
				}
			}
		})
	}
}

// A patch cut anywhere is refused with the updater's number for a patch that it cannot read.
func TestTruncated(t *testing.T) {
	t.Parallel()
	whole := simple().bytes()
	for n := range whole {
		_, err := Apply(t.Context(), nil, simple().old, whole[:n], &ApplyOptions{Lenient: true})
		if !errors.Is(err, ErrFormat) || UpdaterCode(err) != codeRead {
			t.Errorf("%d bytes: got %v (%d)", n, err, UpdaterCode(err))
		}
	}
}

func TestLimit(t *testing.T) {
	t.Parallel()
	r := simple()
	if _, err := Apply(t.Context(), nil, r.old, r.bytes(), &ApplyOptions{Limits: Limits{New: 8}}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want %v", err, ErrTooLarge)
	}
	if _, err := Inspect(t.Context(), r.bytes(), &InspectOptions{Limits: Limits{New: 8}}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want %v", err, ErrTooLarge)
	}
	if _, err := Apply(t.Context(), nil, r.old, r.bytes(), &ApplyOptions{Limits: Limits{New: 9}}); err != nil {
		t.Error(err)
	}
}

// The result goes where the caller has room, and nowhere else.
func TestRoom(t *testing.T) {
	t.Parallel()
	r := simple()
	room := bytes.Repeat([]byte{0xaa}, 20)
	got, err := Apply(t.Context(), room[:3], r.old, r.bytes(), nil)
	if err != nil || string(got) != "xy2345z9A" || &got[0] != &room[0] {
		t.Errorf("got %q, %v", got, err)
	}
	if !bytes.Equal(room[9:], bytes.Repeat([]byte{0xaa}, 11)) {
		t.Errorf("behind the result: % x", room[9:])
	}
}

func FuzzApply(f *testing.F) {
	f.Add(simple().old, simple().bytes())
	names, _ := filepath.Glob(filepath.Join(os.Getenv("SENBON_SHARED"), "testdata", "zucchini-vectors", "pairs", "*tiny*.zucc"))
	for _, name := range names {
		v := vector{filepath.Base(name[:len(name)-len(".zucc")]), filepath.Dir(name)}
		f.Add(v.old(f), v.patch(f))
	}
	f.Fuzz(func(t *testing.T, old, patch []byte) {
		if len(patch) >= headerSize {
			// Get past the checksum.
			patch = bytes.Clone(patch)
			binary.LittleEndian.PutUint32(patch[8:], uint32(len(old)))
			binary.LittleEndian.PutUint32(patch[12:], crc32.ChecksumIEEE(old))
		}
		limits := Limits{New: 1 << 20}
		got, err := Apply(t.Context(), nil, old, patch, &ApplyOptions{Limits: limits})
		lenient, lenientErr := Apply(t.Context(), nil, old, patch, &ApplyOptions{Limits: limits, Lenient: true})
		var p *PatchError
		for _, err := range []error{err, lenientErr} {
			if err != nil && !errors.As(err, &p) {
				t.Fatalf("error of another type: %v", err)
			}
		}
		if err == nil && (lenientErr != nil || !bytes.Equal(got, lenient)) {
			t.Fatalf("strict accepts, lenient gives %v", lenientErr)
		}
		info, infoErr := Inspect(t.Context(), patch, &InspectOptions{Limits: limits})
		if errors.Is(err, ErrFormat) != errors.Is(infoErr, ErrFormat) {
			t.Fatalf("Apply: %v, Inspect: %v", err, infoErr)
		}
		if err == nil {
			made := int64(0)
			for _, e := range info.Parts {
				made += e.Copied + e.Extra
			}
			if made != int64(len(got)) {
				t.Fatalf("Inspect says %d bytes, there are %d", made, len(got))
			}
		}
	})
}
