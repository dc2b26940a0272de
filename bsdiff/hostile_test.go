package bsdiff

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/bzip2"
)

var hostileOld = []byte("0123456789abcdef")

// rawMB is an MBDIFF10 patch of which every number can be wrong. Fields of the header that are not given are
// right.
type rawMB struct {
	magic   string
	header  map[int]uint32 // by offset
	triples [][3]uint32
	diff    []byte
	extra   []byte
	tail    []byte
}

func (r rawMB) bytes() []byte {
	size := uint32(0)
	var control []byte
	for _, t := range r.triples {
		for _, v := range t {
			control = binary.BigEndian.AppendUint32(control, v)
		}
		size += t[0] + t[1]
	}
	if r.magic == "" {
		r.magic = magicMB
	}
	b := []byte(r.magic)
	for i, v := range []uint32{uint32(len(hostileOld)), Checksum(hostileOld), size, uint32(len(control)), uint32(len(r.diff)), uint32(len(r.extra))} {
		if w, ok := r.header[8+4*i]; ok {
			v = w
		}
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return bytes.Join([][]byte{b, control, r.diff, r.extra, r.tail}, nil)
}

// rawBS is the same for BSDIFF40.
type rawBS struct {
	header  map[int]uint64
	steps   [][3]uint64
	diff    []byte
	extra   []byte
	tail    []byte
	replace map[int][]byte // blocks as they stand in the file
}

const minus = 1 << 63

func (r rawBS) bytes() []byte {
	var control []byte
	size := uint64(0)
	for _, s := range r.steps {
		for _, v := range s {
			control = binary.LittleEndian.AppendUint64(control, v)
		}
		size += s[0] + s[1]
	}
	blocks := [3][]byte{pack(control), pack(r.diff), pack(r.extra)}
	for i, b := range r.replace {
		blocks[i] = b
	}
	b := []byte(magicBS)
	for i, v := range []uint64{uint64(len(blocks[0])), uint64(len(blocks[1])), size} {
		if w, ok := r.header[8+8*i]; ok {
			v = w
		}
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return bytes.Join([][]byte{b, blocks[0], blocks[1], blocks[2], r.tail}, nil)
}

func pack(b []byte) []byte {
	var out bytes.Buffer
	z, err := bzip2.NewWriter(&out)
	if err != nil {
		panic(err)
	}
	z.Write(b)
	z.Close()
	return out.Bytes()
}

func neg(v int32) uint32 { return uint32(-v) }

var zeros = make([]byte, 64)

// hostile are patches that must be refused, each with the reason and the updater's error number.
func hostile() []hostileCase {
	good := rawMB{triples: [][3]uint32{{8, 2, neg(3)}, {4, 1, 1}}, diff: make([]byte, 12), extra: []byte("xyz")}
	with := func(f func(r *rawMB)) []byte {
		r := good
		r.header = map[int]uint32{}
		r.triples = append([][3]uint32(nil), good.triples...)
		f(&r)
		return r.bytes()
	}
	set := func(offset int, v uint32) []byte { return with(func(r *rawMB) { r.header[offset] = v }) }
	step := func(i, k int, v uint32) []byte {
		return with(func(r *rawMB) { r.triples[i][k] = v; r.header[16] = 15 })
	}
	goodBS := rawBS{steps: [][3]uint64{{8, 2, minus | 3}, {4, 1, 1}}, diff: make([]byte, 12), extra: []byte("xyz")}
	withBS := func(f func(r *rawBS)) []byte {
		r := goodBS
		r.header = map[int]uint64{}
		r.replace = map[int][]byte{}
		r.steps = append([][3]uint64(nil), goodBS.steps...)
		f(&r)
		return r.bytes()
	}
	setBS := func(offset int, v uint64) []byte { return withBS(func(r *rawBS) { r.header[offset] = v }) }
	stepBS := func(i, k int, v uint64) []byte {
		return withBS(func(r *rawBS) { r.steps[i][k] = v; r.header[24] = 15 })
	}
	zlibSum := func() uint32 { // of the right polynomial, but in the other order of bits
		return 0x757B5A3E
	}
	small := &PatchOptions{Limits: Limits{New: 14, Control: 1 << 20}}
	return []hostileCase{
		// The header.
		{"nothing", nil, ErrFormat, 6, nil, nil},
		{"one byte", []byte("M"), ErrFormat, 6, nil, nil},
		{"header cut by a byte", good.bytes()[:31], ErrFormat, 6, nil, nil},
		{"another magic", with(func(r *rawMB) { r.magic = "MBDIFF11" }), ErrFormat, 41, nil, nil},
		{"magic in small letters", with(func(r *rawMB) { r.magic = "mbdiff10" }), ErrFormat, 41, nil, nil},
		{"no magic", with(func(r *rawMB) { r.magic = "\x00\x00\x00\x00\x00\x00\x00\x00" }), ErrFormat, 41, nil, nil},
		{"a zucchini patch", append([]byte("Zucc\x02\x00\x00\x00"), zeros...), ErrFormat, 41, nil, nil},
		{"an xz file", append([]byte("\xFD7zXZ\x00\x00\x04"), zeros...), ErrFormat, 41, nil, nil},
		{"a bzip2 file", append([]byte("BZh91AY&SY"), zeros...), ErrFormat, 41, nil, nil},
		{"another flavour of bsdiff", append([]byte("ENDSLEY/BSDIFF43"), zeros...), ErrFormat, 41, nil, nil},
		{"old file one byte longer", set(8, 17), ErrOldSize, 2, nil, nil},
		{"old file one byte shorter", set(8, 15), ErrOldSize, 2, nil, nil},
		{"old file empty", set(8, 0), ErrOldSize, 2, nil, nil},
		{"old file of 2^31", set(8, 1<<31), ErrOldSize, 2, nil, nil},
		{"old file of 2^32-1", set(8, math.MaxUint32), ErrOldSize, 2, nil, nil},
		{"checksum with a bit flipped", set(12, Checksum(hostileOld)^1), ErrOldCRC, 4, nil, nil},
		{"checksum zero", set(12, 0), ErrOldCRC, 4, nil, nil},
		{"checksum of zip", set(12, zlibSum()), ErrOldCRC, 4, nil, nil},
		{"checksum complemented", set(12, ^Checksum(hostileOld)), ErrOldCRC, 4, nil, nil},
		{"wrong size and wrong checksum", with(func(r *rawMB) { r.header[8], r.header[12] = 1, 1 }), ErrOldSize, 2, nil, nil},
		// Sizes of blocks.
		{"control block of 25", set(20, 25), ErrFormat, 41, nil, nil},
		{"control block of 11", set(20, 11), ErrFormat, 41, nil, nil},
		{"control block of 2^32-1", set(20, math.MaxUint32), ErrFormat, 41, nil, nil},
		{"control block of 2^32-4, whole triples", set(20, math.MaxUint32-3), ErrTooLarge, 41, nil, nil},
		{"control block of 2^31-8", set(20, math.MaxInt32-7), ErrTooLarge, 41, nil, nil},
		{"control block of 2^30, not there", set(20, 1<<30/12*12), nil, 0, nil, nil},
		{"difference block of 2^32-1", set(24, math.MaxUint32), ErrTooLarge, 41, nil, nil},
		{"difference block of 2^31", set(24, 1<<31), ErrTooLarge, 41, nil, nil},
		{"difference block of 2^30, not there", set(24, 1<<30), nil, 0, nil, nil},
		{"extra block of 2^32-1", set(28, math.MaxUint32), ErrTooLarge, 41, nil, nil},
		{"blocks that add up to 2^32", with(func(r *rawMB) { r.header[24], r.header[28] = 1<<31, 1<<31-32-24 }), ErrTooLarge, 41, nil, nil},
		{"blocks that add up to 2^31", set(28, math.MaxInt32-32-24-12+1), ErrTooLarge, 41, nil, nil},
		{"control block reaches into the next", set(20, 36), nil, 0, nil, nil},
		{"difference block one byte longer", set(24, 13), nil, 0, nil, nil},
		{"extra block one byte longer", set(28, 4), nil, 0, nil, nil},
		{"a byte behind the end", with(func(r *rawMB) { r.tail = []byte{0} }), ErrFormat, 41, nil, nil},
		{"a megabyte behind the end", with(func(r *rawMB) { r.tail = make([]byte, 1<<20) }), ErrFormat, 41, nil, nil},
		// Steps. The first are the patterns of CVE-2014-9862: negative lengths.
		{"adds -2^31", step(0, 0, 1<<31), ErrFormat, 41, nil, nil},
		{"adds -1", step(0, 0, math.MaxUint32), ErrFormat, 41, nil, nil},
		{"copies -2^31", step(0, 1, 1<<31), ErrFormat, 41, nil, nil},
		{"copies -1", step(0, 1, math.MaxUint32), ErrFormat, 41, nil, nil},
		{"second step adds -1", step(1, 0, math.MaxUint32), ErrFormat, 41, nil, nil},
		{"adds and copies 2^31, together 0", with(func(r *rawMB) { r.triples[0] = [3]uint32{1 << 31, 1 << 31, 0} }), ErrFormat, 41, nil, nil},
		// CVE-2020-14315: a length that is fine by itself but runs over in the sum with what is there.
		{"second step adds up to 2^32", step(1, 0, math.MaxUint32-9), ErrFormat, 41, nil, nil},
		{"second step copies up to 2^32", step(1, 1, math.MaxUint32-13), ErrFormat, 41, nil, nil},
		{"second step adds up to 2^31", step(1, 0, math.MaxInt32-9), ErrFormat, 41, nil, nil},
		{"adds 2^31-1", step(0, 0, math.MaxInt32), ErrFormat, 41, nil, nil},
		{"copies 2^31-1", step(0, 1, math.MaxInt32), ErrFormat, 41, nil, nil},
		{"adds one more than the old file has", with(func(r *rawMB) { r.triples[0] = [3]uint32{17, 0, 0}; r.diff = zeros[:21] }), ErrFormat, 41, nil, nil},
		{"adds one more than the difference block has", with(func(r *rawMB) { r.triples[0] = [3]uint32{9, 2, neg(3)} }), ErrFormat, 41, nil, nil},
		{"second step adds one more than the old file has", with(func(r *rawMB) { r.triples = [][3]uint32{{8, 0, 4}, {5, 3, 0}}; r.diff = zeros[:13] }), ErrFormat, 41, nil, nil},
		{"copies one more than the extra block has", with(func(r *rawMB) { r.triples[1][1] = 2 }), ErrFormat, 41, nil, nil},
		{"moves before the start", step(0, 2, neg(9)), ErrFormat, 41, nil, nil},
		{"moves behind the end", step(0, 2, 9), ErrFormat, 41, nil, nil},
		{"moves by -2^31", step(0, 2, 1<<31), ErrFormat, 41, nil, nil},
		{"moves by 2^31-1", step(0, 2, math.MaxInt32), ErrFormat, 41, nil, nil},
		{"last step moves before the start", step(1, 2, neg(10)), ErrFormat, 41, nil, nil},
		{"last step moves behind the end", step(1, 2, 8), ErrFormat, 41, nil, nil},
		{"an empty step moves behind the end", with(func(r *rawMB) { r.triples = append(r.triples, [3]uint32{0, 0, 100}) }), ErrFormat, 41, nil, nil},
		// What the updater accepts: result is what it makes of it.
		{"new file declared one byte shorter", set(16, 14), ErrCorrupt, 0, nil, []byte("01234567xy5678z")},
		{"new file declared empty", set(16, 0), ErrCorrupt, 0, nil, []byte("01234567xy5678z")},
		{"new file declared one byte longer", set(16, 16), ErrCorrupt, 0, nil, []byte("01234567xy5678z\x00")},
		{"new file declared much longer", set(16, 300_000), ErrCorrupt, 0, nil, append([]byte("01234567xy5678z"), make([]byte, 300_000-15)...)},
		{"new file of 2^31", set(16, 1<<31), ErrTooLarge, 0, nil, nil},
		{"new file of 2^32-1", set(16, math.MaxUint32), ErrTooLarge, 0, nil, nil},
		{"a byte of difference unused", with(func(r *rawMB) { r.diff = zeros[:13] }), ErrCorrupt, 0, nil, []byte("01234567xy5678z")},
		{"a byte of extra unused", with(func(r *rawMB) { r.extra = []byte("xyz!") }), ErrCorrupt, 0, nil, []byte("01234567xy5678z")},
		{"no steps", with(func(r *rawMB) { r.triples = nil; r.header[16] = 3 }), ErrCorrupt, 0, nil, []byte("\x00\x00\x00")},
		{"last step missing", with(func(r *rawMB) { r.triples = r.triples[:1]; r.header[16] = 15 }), ErrCorrupt, 0, nil, []byte("01234567xy\x00\x00\x00\x00\x00")},
		{"last step read as difference", set(20, 12), nil, 0, nil, nil},
		// Limits.
		{"new file over the limit", good.bytes(), ErrTooLarge, 0, small, nil},
		{"new file over the limit, declared smaller", set(16, 14), ErrTooLarge, 0, small, nil},
		{"control block over the limit", good.bytes(), ErrTooLarge, 0, &PatchOptions{Limits: Limits{Control: 12}}, nil},

		// BSDIFF40, which the updater does not know at all.
		{"bs: control block of -1", setBS(8, minus|1), ErrFormat, 41, nil, nil},
		{"bs: difference block of -1", setBS(16, minus|1), ErrFormat, 41, nil, nil},
		{"bs: new file of -1", setBS(24, minus|1), ErrFormat, 41, nil, nil},
		{"bs: new file of -2^63+1", setBS(24, math.MaxUint64), ErrFormat, 41, nil, nil},
		{"bs: control block of 2^63-1", setBS(8, math.MaxInt64), ErrTooLarge, 41, nil, nil},
		{"bs: difference block of 2^62", setBS(16, 1<<62), ErrTooLarge, 41, nil, nil},
		{"bs: new file of 2^31", setBS(24, 1<<31), ErrTooLarge, 41, nil, nil},
		{"bs: new file of 2^63-1", setBS(24, math.MaxInt64), ErrTooLarge, 41, nil, nil},
		{"bs: control block longer than the patch", setBS(8, 200<<20), ErrFormat, 41, nil, nil},
		{"bs: difference block longer than the patch", setBS(16, 1<<30), ErrFormat, 41, nil, nil},
		{"bs: header only", goodBS.bytes()[:32], ErrFormat, 41, nil, nil},
		{"bs: control block is not bzip2", withBS(func(r *rawBS) { r.replace[0] = zeros }), ErrFormat, 41, nil, nil},
		{"bs: difference block is not bzip2", withBS(func(r *rawBS) { r.replace[1] = zeros }), ErrFormat, 41, nil, nil},
		{"bs: extra block is not bzip2", withBS(func(r *rawBS) { r.replace[2] = zeros }), ErrFormat, 41, nil, nil},
		{"bs: control block cut", withBS(func(r *rawBS) { r.replace[0] = pack(zeros[:48])[:20] }), ErrFormat, 41, nil, nil},
		{"bs: control block with a bit flipped", withBS(func(r *rawBS) { b := pack(zeros[:48]); b[11] ^= 1; r.replace[0] = b }), ErrFormat, 41, nil, nil},
		{"bs: no steps", withBS(func(r *rawBS) { r.steps = nil; r.header[24] = 15 }), ErrFormat, 41, nil, nil},
		{"bs: part of a step", withBS(func(r *rawBS) { r.replace[0] = pack(zeros[:23]) }), ErrFormat, 41, nil, nil},
		{"bs: adds -1", stepBS(0, 0, minus|1), ErrFormat, 41, nil, nil},
		{"bs: adds -2^63+1", stepBS(0, 0, math.MaxUint64), ErrFormat, 41, nil, nil},
		{"bs: copies -1", stepBS(0, 1, minus|1), ErrFormat, 41, nil, nil},
		{"bs: adds 2^63-1", stepBS(0, 0, math.MaxInt64), ErrFormat, 41, nil, nil},
		{"bs: copies 2^63-1", stepBS(0, 1, math.MaxInt64), ErrFormat, 41, nil, nil},
		{"bs: second step adds up to 2^63", stepBS(1, 0, math.MaxInt64-9), ErrFormat, 41, nil, nil},
		{"bs: adds more than the new file has", stepBS(0, 0, 16), ErrFormat, 41, nil, nil},
		{"bs: moves by -2^62", stepBS(0, 2, minus|1<<62), ErrFormat, 41, nil, nil},
		{"bs: moves by 2^63-1", stepBS(0, 2, math.MaxInt64), ErrFormat, 41, nil, nil},
		{"bs: moves before the start", stepBS(0, 2, minus|10), ErrFormat, 41, nil, []byte("01234567xy\x00\x0001z")},
		{"bs: adds behind the end", stepBS(0, 2, 6), ErrFormat, 41, nil, []byte("01234567xyef\x00\x00z")},
		{"bs: difference block short", withBS(func(r *rawBS) { r.diff = zeros[:11] }), ErrFormat, 41, nil, nil},
		{"bs: extra block short", withBS(func(r *rawBS) { r.extra = []byte("xy") }), ErrFormat, 41, nil, nil},
		{"bs: steps unused", withBS(func(r *rawBS) { r.steps = append(r.steps, [3]uint64{0, 0, 1}) }), ErrCorrupt, 41, nil, []byte("01234567xy5678z")},
		{"bs: difference unused", withBS(func(r *rawBS) { r.diff = zeros[:13] }), ErrCorrupt, 41, nil, []byte("01234567xy5678z")},
		{"bs: extra unused", withBS(func(r *rawBS) { r.extra = []byte("xyz!") }), ErrCorrupt, 41, nil, []byte("01234567xy5678z")},
		{"bs: bytes behind the end", withBS(func(r *rawBS) { r.tail = []byte("garbage") }), ErrFormat, 41, nil, []byte("01234567xy5678z")},
		{"bs: bomb of 1.3 million empty steps", withBS(func(r *rawBS) { r.replace[0] = pack(make([]byte, 32<<20)) }), ErrTooLarge, 41, small, nil},
		{"bs: bomb in the difference block", withBS(func(r *rawBS) { r.replace[1] = pack(make([]byte, 32<<20)) }), ErrCorrupt, 41, nil, []byte("01234567xy5678z")},
		{"bs: new file over the limit", goodBS.bytes(), ErrTooLarge, 41, small, nil},
	}
}

type hostileCase struct {
	name  string
	patch []byte
	want  error // nil: ErrFormat where the size is found wrong, or something else of our errors
	code  int
	opts  *PatchOptions
	// lenient is what comes out where the updater (for BSDIFF40 bspatch) is satisfied, nil where it is not.
	lenient []byte
}

func TestHostile(t *testing.T) {
	cases := hostile()
	if len(cases) < 60 {
		t.Fatalf("only %d cases", len(cases))
	}
	var before, after runtime.MemStats
	for _, c := range cases {
		for _, way := range ways {
			t.Run(c.name+"/"+way.name, func(t *testing.T) {
				runtime.ReadMemStats(&before)
				got, err := way.apply(t, hostileOld, c.patch, c.opts)
				runtime.ReadMemStats(&after)
				if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
					t.Errorf("allocated %d bytes", used)
				}
				var pe *PatchError
				if !errors.As(err, &pe) {
					t.Fatalf("got %q, %v; want a *PatchError", got, err)
				}
				if c.want == nil {
					if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrCorrupt) {
						t.Errorf("got %v, want one of the package's errors", err)
					}
				} else {
					if !errors.Is(err, c.want) {
						t.Errorf("got %v, want %v", err, c.want)
					}
					if got := UpdaterCode(err); got != c.code {
						t.Errorf("%v: got the updater's number %d, want %d", err, got, c.code)
					}
				}
				if c.opts != nil {
					return
				}
				got, err = way.apply(t, hostileOld, c.patch, &PatchOptions{Lenient: true})
				switch {
				case c.lenient != nil && (err != nil || !bytes.Equal(got, c.lenient)):
					t.Errorf("lenient: got %.40q, %v; want %.40q", got, err, c.lenient)
				case c.lenient == nil && c.want != nil && err == nil:
					t.Errorf("lenient: got %.40q, want an error", got)
				}
			})
		}
	}
	t.Logf("%d patches", len(cases))
}

// A patch cut anywhere is refused, and the updater would refuse it: below 32 bytes with 6, above with 41.
func TestTruncated(t *testing.T) {
	t.Parallel()
	whole := rawMB{triples: [][3]uint32{{8, 2, neg(3)}, {4, 1, 1}}, diff: make([]byte, 12), extra: []byte("xyz")}.bytes()
	for _, way := range ways {
		if got, err := way.apply(t, hostileOld, whole, nil); err != nil || string(got) != "01234567xy5678z" {
			t.Fatalf("%s: got %q, %v", way.name, got, err)
		}
		for n := range whole {
			for _, o := range []*PatchOptions{nil, {Lenient: true}} {
				_, err := way.apply(t, hostileOld, whole[:n], o)
				want := 41
				if n < 32 {
					want = 6
				}
				if !errors.Is(err, ErrFormat) || UpdaterCode(err) != want {
					t.Errorf("%s, %d bytes: got %v (%d), want %v (%d)", way.name, n, err, UpdaterCode(err), ErrFormat, want)
				}
			}
		}
	}
	packed := rawBS{steps: [][3]uint64{{8, 2, minus | 3}, {4, 1, 1}}, diff: make([]byte, 12), extra: []byte("xyz")}.bytes()
	for _, way := range ways {
		for n := range packed {
			if _, err := way.apply(t, hostileOld, packed[:n], nil); !errors.Is(err, ErrFormat) {
				t.Errorf("bs: %s, %d bytes: got %v, want %v", way.name, n, err, ErrFormat)
			}
		}
	}
}

// Steps that do nothing are allowed: the updater walks over them.
func TestEmptySteps(t *testing.T) {
	t.Parallel()
	r := rawMB{triples: make([][3]uint32, 100_000), extra: []byte("x")}
	r.triples = append(r.triples, [3]uint32{0, 1, 16})
	for _, way := range ways {
		if way.name == "one byte" {
			continue
		}
		if got, err := way.apply(t, hostileOld, r.bytes(), nil); err != nil || string(got) != "x" {
			t.Errorf("%s: got %q, %v", way.name, got, err)
		}
	}
}

type brokenReaderAt struct{ err error }

func (b brokenReaderAt) ReadAt([]byte, int64) (int, error) { return 0, b.err }

type brokenWriter struct{ err error }

func (b brokenWriter) Write([]byte) (int, error)          { return 0, b.err }
func (b brokenWriter) WriteAt([]byte, int64) (int, error) { return 0, b.err }

func TestBrokenFiles(t *testing.T) {
	t.Parallel()
	whole := rawMB{triples: [][3]uint32{{8, 2, neg(3)}, {4, 1, 1}}, diff: make([]byte, 12), extra: []byte("xyz")}.bytes()
	broken := errors.New("broken disk")
	old := bytes.NewReader(hostileOld)
	check := func(what string, err error, code int) {
		t.Helper()
		if !errors.Is(err, broken) || UpdaterCode(err) != code {
			t.Errorf("%s: got %v (%d), want %v (%d)", what, err, UpdaterCode(err), broken, code)
		}
	}
	_, err := Patch(t.Context(), io.Discard, brokenReaderAt{broken}, 16, bytes.NewReader(whole), nil)
	check("old", err, 6)
	_, err = Patch(t.Context(), brokenWriter{broken}, old, 16, bytes.NewReader(whole), nil)
	check("new", err, 7)
	_, err = PatchTo(t.Context(), brokenWriter{broken}, old, 16, bytes.NewReader(whole), nil)
	check("new", err, 7)
	for n := range whole {
		patch := io.MultiReader(bytes.NewReader(whole[:n]), &failing{broken})
		_, err = Patch(t.Context(), io.Discard, old, 16, patch, nil)
		check(fmt.Sprintf("patch at %d", n), err, 6)
		patch = io.MultiReader(bytes.NewReader(whole[:n]), &failing{broken})
		_, err = PatchBytes(t.Context(), nil, hostileOld, patch, nil)
		check(fmt.Sprintf("patch at %d", n), err, 6)
	}
	// A reader that verifies what it read says so in place of the end.
	_, err = PatchBytes(t.Context(), nil, hostileOld, io.MultiReader(bytes.NewReader(whole), &failing{broken}), nil)
	check("end of the patch", err, 6)
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }
