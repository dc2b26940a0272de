package xz

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
)

// However the data is cut into writes, the file is the same.
func TestWriterDeterministic(t *testing.T) {
	t.Parallel()
	in := append(patchHead(1000, 15_000, 2000), sample(20_000)...)
	for _, o := range []WriterOptions{
		{Level: Fast, Filter: X86},
		{Level: Level6, DictSize: 1 << 16, Filter: IA64, Check: SHA256},
		{Level: Best, DictSize: 1 << 16},
		{Level: Best, DictSize: 1 << 16, Patch: true},
		{Level: Best, DictSize: 1 << 16, Blocks: []Block{{100, 4, 0, 0}, {0, 0, 0, 0}, {9, 0, 4, 0}}},
	} {
		t.Run(o.ID(), func(t *testing.T) {
			t.Parallel()
			want := pack(t, in, o)
			mustRead(t, want, in)
			for _, piece := range []int{1, 31, 33, 1000, 4096} {
				if piece == 1 && o.Level == Fast {
					continue // slow
				}
				var got bytes.Buffer
				w, err := NewWriter(&got, &o)
				if err != nil {
					t.Fatal(err)
				}
				for rest := in; len(rest) > 0; {
					n, err := w.Write(rest[:min(piece, len(rest))])
					if err != nil {
						t.Fatal(err)
					}
					rest = rest[n:]
					if n, err := w.Write(nil); n != 0 || err != nil {
						t.Fatal(n, err)
					}
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got.Bytes(), want) {
					t.Errorf("in pieces of %d it is another file", piece)
				}
			}
		})
	}
}

// The first MiB is held back: around its end, nothing must be lost, and the cuts still must not matter.
func TestWriterHolds(t *testing.T) {
	t.Parallel()
	in := append(patchHead(1000, 900_000, 100_000), make([]byte, 1<<20+50_000)...)
	r := rand.New(rand.NewPCG(5, 6))
	for i := patchHeader; i < len(in); i += 1 + r.IntN(2000) {
		in[i] = byte(r.Uint32())
	}
	for _, o := range []WriterOptions{
		{Level: Fast, Filter: X86}, {Level: Level6, DictSize: 1 << 17}, {Level: Best, Patch: true, DictSize: 2 << 20},
	} {
		for _, n := range []int{maxHeld, maxHeld + 1, len(in)} {
			if o.Level == Best && n != maxHeld+1 || o.Level == Fast && n != len(in) || o.Level == Level6 && n == len(in) {
				continue // slow
			}
			want := pack(t, in[:n], o)
			mustRead(t, want, in[:n])
			if got, dict := want[edgeSize:], dictByte(int64(o.filled().DictSize)); bytes.IndexByte(got[:8], dict) < 0 {
				t.Errorf("%s, %d bytes: the block header % x does not name the dictionary", o.ID(), n, got[:12])
			}
			var got bytes.Buffer
			w, err := NewWriter(&got, &o)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range [][]byte{in[:100], in[100 : maxHeld-1], in[maxHeld-1 : n]} {
				if k, err := w.Write(p); k != len(p) || err != nil {
					t.Fatal(k, err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("%s, %d bytes: cut otherwise, it is another file", o.ID(), n)
			}
		}
	}
}

// What is small costs little, whatever the dictionary: archives have many small members.
func TestWriterSmall(t *testing.T) {
	for _, l := range []Level{Best, Level6} {
		n := allocated(func() { pack(t, []byte("a small member"), WriterOptions{Level: l, DictSize: 64 << 20}) })
		if n > 4<<20 {
			t.Errorf("level %s allocates %d bytes", l, n)
		}
	}
}

// The names in ID stand for bytes: who changes these must change the name of the encoder.
func TestWriterGolden(t *testing.T) {
	t.Parallel()
	in := append(patchHead(1000, 50_000, 7000), sample(300_000)...)
	// Parts end by what is in them, in the difference block, and by their length.
	parts := append(patchHead(1000, 2<<20, 40<<20), sample(40_000)...)
	parts = append(append(parts, bytes.Repeat([]byte{1}, 2<<20)...), make([]byte, 40<<20)...)
	for _, c := range []struct {
		in   []byte
		o    WriterOptions
		id   string
		want string
	}{
		{in, WriterOptions{}, "xz/ulikunitz-0.5.17:fast/none/crc64/8388608", "c7c18833885fbcd6"},
		{in, WriterOptions{Level: Level6}, "xz/lzma-2:6/none/crc64/8388608", "77814c311dfb377b"},
		{in, WriterOptions{Level: Level6, Filter: X86}, "xz/lzma-2:6/x86/crc64/8388608", "6ec0ad443a07c455"},
		{in, WriterOptions{Level: Best, Patch: true}, "xz/lzma-2:best/none/crc64/8388608/patch:222,choice-5", "3c34b57f86d2b221"},
		{in, WriterOptions{Level: Extreme, Patch: true}, "xz/lzma-2:extreme/none/crc64/8388608/patch:222,choice-5", "0ab715bf425de384"},
		{parts, WriterOptions{Level: Best, Patch: true}, "xz/lzma-2:best/none/crc64/8388608/patch:222,choice-5", "319e996fcf7cf26e"},
	} {
		if id := c.o.ID(); id != c.id {
			t.Errorf("the name is %q, want %q", id, c.id)
		}
		if got := fmt.Sprintf("%.8x", sha256.Sum256(pack(t, c.in, c.o))); got != c.want {
			t.Errorf("%s: the file's hash begins with %s, want %s", c.id, got, c.want)
		}
	}
}

func TestWriterID(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for i, o := range []WriterOptions{
		{},
		{Level: Best},
		{Level: Level6},
		{Level: Extreme},
		{Level: Best, Filter: X86},
		{Level: Best, Check: CRC32},
		{Level: Best, DictSize: 1 << 20},
		{Level: Best, Patch: true},
		{Level: Best, Blocks: []Block{{1, 3, 0, 2}}},
		{Level: Best, Blocks: []Block{{1, 3, 0, 2}, {2, 3, 0, 2}}},
		{Level: Best, Blocks: []Block{{1, 3, 1, 2}}},
	} {
		if j, ok := seen[o.ID()]; ok {
			t.Errorf("options %d and %d are both %s", i, j, o.ID())
		}
		seen[o.ID()] = i
	}
	for _, same := range [][2]WriterOptions{
		{{}, {Level: Fast, DictSize: 8 << 20}},
		{{Level: Best, DictSize: 5 << 20}, {Level: Best, DictSize: 6 << 20}}, // 5 MiB cannot be said
		{{DictSize: 4 << 10}, {DictSize: 256 << 10}},
	} {
		if same[0].ID() != same[1].ID() {
			t.Errorf("%s and %s write the same", same[0].ID(), same[1].ID())
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]WriterOptions{
		"level":                  {Level: "7"},
		"filter":                 {Filter: ARM64 + 1},
		"check":                  {Check: CheckNone + 1},
		"dictionary too small":   {DictSize: 4095},
		"dictionary too large":   {DictSize: 64<<20 + 1},
		"dictionary below 0":     {DictSize: -1},
		"patch with filter":      {Level: Best, Patch: true, Filter: X86},
		"blocks with filter":     {Level: Best, Blocks: []Block{{1, 3, 0, 2}}, Filter: X86},
		"blocks with patch":      {Level: Best, Blocks: []Block{{1, 3, 0, 2}}, Patch: true},
		"blocks with level fast": {Blocks: []Block{{1, 3, 0, 2}}},
		"block of size -1":       {Level: Best, Blocks: []Block{{-1, 3, 0, 2}}},
		"lc + lp":                {Level: Best, Blocks: []Block{{1, 3, 2, 2}}},
		"workers below 0":        {Level: Best, Patch: true, Workers: -1},
		"pb":                     {Level: Best, Blocks: []Block{{1, 3, 0, 5}}},
	} {
		var buf bytes.Buffer
		if _, err := NewWriter(&buf, &o); err == nil || buf.Len() > 0 {
			t.Errorf("%s: got %v and %d bytes", name, err, buf.Len())
		}
	}
}

func TestWriterClose(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	w, err := NewWriter(&buf, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	mustRead(t, buf.Bytes(), nil)
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("Write after Close succeeds")
	}
}

// Stop ends calls that come after it, whatever is compressed, and again every later one.
func TestWriterStop(t *testing.T) {
	t.Parallel()
	in := append(patchHead(1000, 1<<20, 100_000), make([]byte, 1<<20+100_000)...)
	for _, o := range []WriterOptions{{Level: Fast}, {Level: Level6}, {Level: Best, Patch: true, Workers: 2}} {
		for _, n := range []int{0, 100, len(in) - 1} { // before and after something is held, and compressed
			w, err := NewWriter(io.Discard, &o)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(in[:n]); err != nil {
				t.Fatal(err)
			}
			w.Stop()
			_, written := w.Write(in[n:])
			closed, again := w.Close(), w.Close()
			if !errors.Is(written, ErrStopped) || !errors.Is(closed, ErrStopped) || !errors.Is(again, ErrStopped) {
				t.Errorf("%s, after %d bytes: Write says %v, Close %v and %v", o.ID(), n, written, closed, again)
			}
		}
		w, err := NewWriter(io.Discard, &o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(in); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if w.Stop(); w.Close() != nil {
			t.Errorf("%s: Stop after Close matters", o.ID())
		}
	}
}

// failing fails from the n-th write on; short accepts one byte less without saying why.
type failing struct {
	n     int
	err   error
	short bool
}

func (f *failing) Write(p []byte) (int, error) {
	if f.n--; f.n < 0 {
		if f.short {
			return len(p) - 1, nil
		}
		return 0, f.err
	}
	return len(p), nil
}

// Whichever write fails, the error comes out, and again from every later call.
func TestWriterFaults(t *testing.T) {
	t.Parallel()
	in := sample(20_000)
	failed := errors.New("failed")
	for _, o := range []WriterOptions{
		{Level: Fast}, {Level: Level6, DictSize: 1 << 16, Filter: X86}, {Level: Best, DictSize: 1 << 16, Patch: true},
	} {
		for _, short := range []bool{false, true} {
			want := failed
			if short {
				want = io.ErrShortWrite
			}
			n := 0
			for ; ; n++ {
				out := &failing{n: n, err: failed, short: short}
				w, err := NewWriter(out, &o)
				if err == nil {
					_, err = w.Write(in)
					closed := w.Close()
					if err != nil && !errors.Is(closed, want) {
						t.Fatalf("Close after an error gives %v", closed)
					}
					err = closed
				}
				if out.n >= 0 {
					if err != nil {
						t.Fatal(err)
					}
					break
				}
				if !errors.Is(err, want) {
					t.Fatalf("%s: write %d fails: got %v, want %v", o.ID(), n, err, want)
				}
			}
			if n < 5 {
				t.Errorf("%s: only %d writes", o.ID(), n)
			}
		}
	}
}

func patchHead(control, difference, extra uint32) []byte {
	b := append([]byte("MBDIFF10"), make([]byte, 12)...)
	for _, n := range []uint32{control, difference, extra} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

// propertiesOf returns where in the plain data which properties begin to hold.
func propertiesOf(t *testing.T, packed []byte) (starts []int, props []byte) {
	t.Helper()
	b := packed[24:]
	at := 0
	for b[0] != 0 {
		plain, size := int(binary.BigEndian.Uint16(b[1:]))+1, 3
		if b[0] < 0x80 {
			size += plain
		} else {
			plain += int(b[0]&0x1F) << 16
			size = 5 + int(binary.BigEndian.Uint16(b[3:])) + 1
			if b[0] >= 0xC0 {
				if len(props) == 0 || props[len(props)-1] != b[5] {
					starts, props = append(starts, at), append(props, b[5])
				}
				size++
			}
		}
		at += plain
		b = b[size:]
	}
	return starts, props
}

// Each block of a patch is compressed with its own properties; what is no patch is not.
func TestWriterPatch(t *testing.T) {
	t.Parallel()
	code := func(lc, lp, pb byte) byte { return (pb*5+lp)*9 + lc }
	body := sample(30_000)
	control, difference, extra := code(2, 2, 2), code(3, 0, 0), code(4, 0, 0)
	usual := code(3, 0, 2)
	for _, c := range []struct {
		name   string
		level  Level
		in     []byte
		starts []int
		props  []byte
	}{
		{"patch", Best, append(patchHead(10_000, 15_000, 5000), body...), []int{0, 10_032, 25_032}, []byte{control, difference, extra}},
		{"at level extreme", Extreme, append(patchHead(10_000, 15_000, 5000), body...), []int{0, 10_032, 25_032}, []byte{control, difference, extra}},
		{"at level 6", Level6, append(patchHead(10_000, 15_000, 5000), body...), []int{0, 10_032, 25_032}, []byte{control, difference, extra}},
		{"without extra block", Best, append(patchHead(10_000, 20_000, 0), body...), []int{0, 10_032}, []byte{control, difference}},
		{"without difference block", Best, append(patchHead(10_000, 0, 20_000), body...), []int{0, 10_032}, []byte{control, extra}},
		{"with more behind", Best, append(patchHead(10_000, 10_000, 5000), body...), []int{0, 10_032, 20_032, 25_032}, []byte{control, difference, extra, usual}},
		{"cut off", Best, append(patchHead(1<<31, 1<<31, 1<<32-1), body...), []int{0}, []byte{control}},
		{"no patch", Best, append([]byte("MBDIFF11"), prose(30_000)...), []int{0}, []byte{usual}},
		{"short", Best, []byte("MBDIFF10 and then nothing much"), nil, nil},
		{"at level fast", Fast, append(patchHead(10_000, 15_000, 5000), body...), []int{0}, []byte{usual}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			packed := pack(t, c.in, WriterOptions{Level: c.level, DictSize: 1 << 16, Patch: true})
			mustRead(t, packed, c.in)
			if c.props == nil {
				return
			}
			starts, props := propertiesOf(t, packed)
			if !slices.Equal(starts, c.starts) || !bytes.Equal(props, c.props) {
				t.Errorf("properties %d begin at %d, want %d at %d", props, starts, c.props, c.starts)
			}
		})
	}
}

// What is small gets the properties that suit it better.
func TestWriterTries(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in []byte
		pb int
	}{"code": {sample(30_000), 0}, "prose": {prose(30_000), 2}} {
		o := WriterOptions{Level: Level6, Check: CRC32}
		got := pack(t, c.in, o)
		size := map[int]int{}
		for _, pb := range []int{0, 2} {
			o.Blocks = []Block{{int64(len(c.in)), 3, 0, pb}}
			size[pb] = len(pack(t, c.in, o))
		}
		if len(got) != size[c.pb] || size[c.pb] >= size[2-c.pb] {
			t.Errorf("%s: got %d bytes, want the least of %v, for pb=%d", name, len(got), size, c.pb)
		}
		mustRead(t, got, c.in)
	}
}

// prose is words of four bytes, new ones and runs of old ones, which position bits suit.
func prose(n int) []byte {
	r := rand.New(rand.NewPCG(8, 9))
	var b []byte
	for len(b) < n {
		if len(b) > 64 && r.IntN(2) == 0 {
			from, words := r.IntN(len(b)/4-8)*4, 1+r.IntN(8)
			b = append(b, b[from:from+4*words]...)
		} else {
			b = append(b, byte('a'+r.IntN(26)), byte('a'+r.IntN(26)), byte('a'+r.IntN(26)), ' ')
		}
	}
	return b[:n]
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte{}, uint8(0), uint8(0), uint8(0))
	f.Add(sample(500), uint8(1), uint8(2), uint8(1))
	f.Add(append(patchHead(10, 20, 30), sample(60)...), uint8(2), uint8(0), uint8(0))
	f.Fuzz(func(t *testing.T, in []byte, level, filter, check uint8) {
		o := WriterOptions{
			Level:    []Level{Best, Level6, Best, Best}[level%4],
			Filter:   Filter(filter % uint8(len(filterNames))),
			Check:    Check(check % 4),
			DictSize: 1 << 16,
		}
		o.Patch = level%4 == 2 && o.Filter == None
		packed := pack(t, in, o)
		mustRead(t, packed, in)
		refused := o.Check == SHA256 || len(in) > 0 && o.Filter != None && o.Filter != X86 && o.Filter != ARM
		if err := UpdaterAccepts(bytes.NewReader(packed)); errors.Is(err, ErrRefused) != refused {
			t.Fatalf("UpdaterAccepts says %v to %s", err, o.ID())
		}
	})
}

// zucchiniPatch makes a patch of elements, each so many bytes in each of its lists, and pools.
func zucchiniPatch(r *rand.Rand, sizes []int, elements, pools int) []byte {
	le := binary.LittleEndian
	b := append([]byte("Zucc\x02\x00\x00\x00"), make([]byte, 16)...)
	b = le.AppendUint32(b, uint32(elements))
	list := func(n, kind int) {
		b = le.AppendUint32(b, uint32(n))
		for i := range n {
			switch kind {
			case zucchiniExtra:
				b = append(b, "mov rax, rbx; call 1234\n"[i%24]^byte(r.IntN(40)/39))
			case zucchiniDiff:
				b = append(b, byte(r.IntN(3)))
			default:
				b = append(b, byte(r.IntN(12)))
			}
		}
	}
	for range elements {
		b = append(b, make([]byte, zucchiniElement)...)
		for i := range zucchiniLists {
			list(sizes[i], i)
		}
		b = le.AppendUint32(b, uint32(pools))
		for p := range pools {
			b = append(b, byte(p))
			list(sizes[zucchiniLists+p], 0)
		}
	}
	return b
}

// The outline finds every list of a Zucchini patch, however the patch is written, and what lies is stored as well as
// anything.
func TestWriterZucchini(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	sizes := []int{9000, 20, 8192, 30000, 20000, 20000, 0, 1, 9000, 0}
	patch := zucchiniPatch(r, sizes, 2, 3)
	o := new(outline)
	at, changes := int64(0), 0
	for {
		n, props := o.next()
		if n < 0 {
			break
		}
		if props != nil {
			changes++
		}
		for k := int64(0); k < n; k += 3 {
			o.see(patch[at+k : min(at+k+3, at+n)])
		}
		at += n
	}
	if at != int64(len(patch)) || changes != 2*6 {
		t.Errorf("the outline ends at %d of %d after %d changes of the properties", at, len(patch), changes)
	}
	zeros := zucchiniPatch(r, make([]int, 10), 3, 0)
	o, at = new(outline), 0
	for n, _ := o.next(); n >= 0; n, _ = o.next() {
		o.see(zeros[at : at+n])
		at += n
	}
	if at != int64(len(zeros)) {
		t.Errorf("the outline of empty lists ends at %d of %d", at, len(zeros))
	}
	compress := func(in []byte, o WriterOptions, piece int) []byte {
		t.Helper()
		var out bytes.Buffer
		z, err := NewWriter(&out, &o)
		if err != nil {
			t.Fatal(err)
		}
		for b := in; len(b) > 0; {
			n := min(piece, len(b))
			if _, err := z.Write(b[:n]); err != nil {
				t.Fatal(err)
			}
			b = b[n:]
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := Decompress(nil, out.Bytes(), nil)
		if err != nil || !bytes.Equal(got, in) {
			t.Fatalf("got %d bytes, %v", len(got), err)
		}
		return out.Bytes()
	}
	suited := compress(patch, WriterOptions{Level: Best, Patch: true}, 1<<20)
	if !bytes.Equal(suited, compress(patch, WriterOptions{Level: Best, Patch: true}, 1001)) {
		t.Error("other bytes where the patch comes in pieces")
	}
	starts, props := propertiesOf(t, suited)
	const numbers = 1 // lc 1, lp 0, pb 0
	first := zucchiniHeader + zucchiniElement + 4
	skips := first + sizes[0] + sizes[1] + sizes[2] + sizes[3] + 4*4
	for _, at := range []int{first, skips} { // src_skip, raw_delta_skip
		if i := slices.Index(starts, at); i < 0 || props[i] != numbers {
			t.Errorf("the list at %d has not the properties of numbers: %d begin at %d", at, props, starts)
		}
	}
	long := bytes.Join([][]byte{patch, make([]byte, maxHeld)}, nil) // more than is held back, and behind the end
	for i, lie := range [][]byte{patch[:len(patch)-7], long, long[:maxHeld+100]} {
		for k := range 2 {
			b := bytes.Clone(lie)
			if k > 0 {
				b[r.IntN(len(patch)-7)] ^= 0x80
			}
			if out := compress(b, WriterOptions{Level: Best, Patch: true}, 1<<16); len(out) == 0 {
				t.Errorf("lie %d: nothing", i)
			}
		}
	}
}
