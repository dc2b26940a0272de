package lzma

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"unsafe"

	ulzma "github.com/ulikunitz/xz/lzma"
)

// Parts of a size that a test can have many of.
const (
	testWeight = 8000
	testLength = 6 * partStep
)

func newTestParallel(tb testing.TB, w io.Writer, o ParallelOptions) *Parallel {
	tb.Helper()
	p, err := NewParallel(w, o)
	if err != nil {
		tb.Fatal(err)
	}
	p.weight, p.length = testWeight, testLength
	return p
}

// strewn is zeros with bytes strewn in, n of them for each 64.
func strewn(size, n int) []byte {
	r := rand.New(rand.NewPCG(uint64(size), uint64(n)))
	b := make([]byte, size)
	for range size / 64 * n {
		b[r.IntN(size)] = byte(r.IntN(1 << r.IntN(9)))
	}
	return b
}

// patchLike has stretches of each kind, which change within parts and at their very ends.
func patchLike() []byte {
	b := mixed(40_000, 11)
	b = append(b, strewn(3*testLength, 3)...)
	b = append(b, make([]byte, 5*testLength/2)...)
	b = append(b, strewn(2*testLength, 40)...)
	r := rand.New(rand.NewPCG(3, 3))
	for range 20_000 { // will be stored
		b = append(b, byte(r.Uint32()))
	}
	return append(b, mixed(20_001, 12)...)
}

// encodeParallel writes data in pieces of that size. Properties change where a part ends as well as elsewhere.
func encodeParallel(tb testing.TB, data []byte, o ParallelOptions, piece int) []byte {
	tb.Helper()
	var out bytes.Buffer
	p := newTestParallel(tb, &out, o)
	write := func(b []byte) {
		for len(b) > 0 {
			n, err := p.Write(b[:min(piece, len(b))])
			if err != nil {
				tb.Fatal(err)
			}
			b = b[n:]
		}
	}
	at := 0
	for k, to := range []int{0, 10_000, 10_000, 40_000 &^ (partStep - 1), 40_000 + 2*testLength, 40_000 + 5*testLength, len(data)} {
		to = min(to, len(data))
		write(data[at:to])
		at = to
		var err error
		if k%2 == 0 {
			err = p.ChooseProps(Props{LC: 3}, Props{LC: 0, LP: 4, PB: 4}, Props{LC: 4})
		} else {
			err = p.SetProps(2, 2, 2)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	for range 2 {
		if err := p.Close(); err != nil {
			tb.Fatal(err)
		}
	}
	return out.Bytes()
}

// chunks counts the chunks of an LZMA2 stream, and those that have new properties or begin anew.
func chunks(tb testing.TB, packed []byte) (all, fresh int) {
	tb.Helper()
	for packed[0] != 0 {
		n := 3
		if packed[0] < 0x80 {
			n += int(binary.BigEndian.Uint16(packed[1:])) + 1
		} else {
			n = 5 + int(binary.BigEndian.Uint16(packed[3:])) + 1
			if packed[0] >= 0xC0 {
				n++
				fresh++
			}
		}
		all++
		packed = packed[n:]
	}
	return all, fresh
}

// Whatever the number of workers, the size known beforehand and the writes, the bytes are the same, and every decoder
// makes the content of them.
func TestParallel(t *testing.T) {
	t.Parallel()
	data := patchLike()
	for _, n := range []int{0, 1, 63, 10_001, 40_000, len(data)} {
		o := EncoderOptions{DictSize: 1 << 16, LC: 1, PB: 1, NiceLen: 64, Depth: 8}
		want := encodeParallel(t, data[:n], ParallelOptions{EncoderOptions: o, Workers: 1}, 1<<20)
		decodeBoth(t, want, data[:n], 1<<16)
		theirs, err := ulzma.Reader2Config{DictCap: 1 << 16}.NewReader2(bytes.NewReader(want))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(theirs); err != nil || !bytes.Equal(got, data[:n]) {
			t.Errorf("another decoder gives %d bytes and %v, want %d", len(got), err, n)
		}
		if all, fresh := chunks(t, want); n == len(data) && (all < n/testLength || fresh > all/2) {
			t.Errorf("%d bytes have %d chunks, %d of them with new properties: not the parts that they should have", n, all, fresh)
		}
		for _, c := range []struct {
			workers, piece int
			size           int64
		}{{1, 1000, int64(n)}, {2, 4096, int64(n)}, {5, 100_001, 7}, {3, 1, int64(2 * n)}} {
			if c.piece == 1 && n == len(data) {
				c.piece = 13
			}
			got := encodeParallel(t, data[:n], ParallelOptions{EncoderOptions: o, Workers: c.workers, Size: c.size}, c.piece)
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes, %+v: another stream", n, c)
			}
		}
	}
}

// One part is what an Encoder makes: also where a match has a distance that could be repeated, and where a block of other
// content keeps the properties, which need not be named again.
func TestParallelIsEncoder(t *testing.T) {
	t.Parallel()
	o := EncoderOptions{DictSize: 1 << 16, LC: 3}
	r := rand.New(rand.NewPCG(5, 5))
	var table []byte // small numbers between zeros, and some that rise
	for i := range testLength / 4 {
		table = append(table, byte(r.IntN(1<<r.IntN(4))), 0, 0, byte(i>>8))
	}
	same, other := Props{LC: o.LC}, Props{LC: 2, PB: 2}
	for _, data := range [][]byte{strewn(testLength, 5), table} {
		for _, props := range []Props{same, other} {
			at := len(data) / 3
			var out, want bytes.Buffer
			p, err := NewParallel(&out, ParallelOptions{EncoderOptions: o, Workers: 1})
			if err != nil {
				t.Fatal(err)
			}
			e, err := NewEncoder(&want, o)
			if err != nil {
				t.Fatal(err)
			}
			for k, b := range [][]byte{data[:at], data[at:]} {
				if k > 0 {
					err = errors.Join(p.SetProps(props.LC, props.LP, props.PB),
						e.SetProps(4, 0, 0), e.SetProps(props.LC, props.LP, props.PB))
				}
				_, err1 := p.Write(b)
				_, err2 := e.Write(b)
				if err = errors.Join(err, err1, err2); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(p.Close(), e.Close()); err != nil {
				t.Fatal(err)
			}
			if props == same && out.Len()+1 != want.Len() || props == other && !bytes.Equal(out.Bytes(), want.Bytes()) {
				t.Errorf("%+v: got %d bytes, an Encoder makes %d", props, out.Len(), want.Len())
			}
			decodeBoth(t, out.Bytes(), data, o.DictSize)
		}
	}
}

func TestParallelOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []ParallelOptions{{}, {Workers: -1}, {Workers: 1, EncoderOptions: EncoderOptions{LC: 5}}} {
		if _, err := NewParallel(io.Discard, o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
	p := newTestParallel(t, io.Discard, ParallelOptions{Workers: 1})
	for _, bad := range [][]Props{nil, {{LC: 5}}, {{}, {PB: -1}}} {
		if err := p.ChooseProps(bad...); err == nil {
			t.Errorf("ChooseProps(%v): no error", bad)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Write([]byte{1}); err == nil {
		t.Error("Write after Close: no error")
	}
	if err := p.SetProps(0, 0, 0); err == nil {
		t.Error("SetProps after Close: no error")
	}
}

// brokenAfter fails from the n-th write on.
type brokenAfter struct {
	n   int
	err error
}

func (b *brokenAfter) Write(p []byte) (int, error) {
	if b.n--; b.n < 0 {
		return 0, b.err
	}
	return len(p), nil
}

// Whichever write fails, the error comes out, and again from every later call, and nothing is left running.
func TestParallelWriteError(t *testing.T) {
	t.Parallel()
	data := patchLike()
	full := errors.New("full")
	for n := 0; ; n++ {
		p := newTestParallel(t, &brokenAfter{n, full}, ParallelOptions{EncoderOptions: EncoderOptions{DictSize: 1 << 16, NiceLen: 16, Depth: 2}, Workers: 2})
		_, _ = p.Write(data)
		err := p.Close()
		if err == nil {
			if n < 10 {
				t.Errorf("only %d writes", n)
			}
			return
		}
		again := p.Close()
		_, written := p.Write(data)
		if !errors.Is(err, full) || !errors.Is(again, full) || !errors.Is(written, full) {
			t.Fatalf("failing write %d: got %v, again %v, Write %v; want %v", n, err, again, written, full)
		}
		if p.queue != nil || p.cur != nil {
			t.Fatal("something is left")
		}
	}
}

// A Parallel that is stopped says so from its next call on, also where parts are under work.
func TestParallelStop(t *testing.T) {
	t.Parallel()
	data := patchLike()
	for _, at := range []int{0, 1, 40_000, len(data)} {
		var stop atomic.Bool
		var out bytes.Buffer
		p := newTestParallel(t, &out, ParallelOptions{EncoderOptions: EncoderOptions{DictSize: 1 << 16}, Workers: 3, Stop: &stop})
		if _, err := p.Write(data[:at]); err != nil {
			t.Fatal(err)
		}
		stop.Store(true)
		_, written := p.Write(data[at:])
		if at == len(data) {
			written = ErrStopped // there was nothing to write
		}
		closed := p.Close()
		if !errors.Is(written, ErrStopped) || !errors.Is(closed, ErrStopped) {
			t.Errorf("stopped at %d: Write says %v, Close %v, want %v", at, written, closed, ErrStopped)
		}
	}
	// A part under work ends without being finished.
	var stop atomic.Bool
	e, err := NewEncoder(nil, EncoderOptions{DictSize: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	stop.Store(true)
	e.stop = &stop
	c := &part{buf: data, blocks: []propsAt{{choices: []Props{{}}}}}
	if err := e.part(c); !errors.Is(err, ErrStopped) || c.packed.Len() > 0 {
		t.Errorf("a part that is stopped: got %v and %d bytes", err, c.packed.Len())
	}
}

// What encoders and buffers hold after a patch is within what ParallelMemory says, and not far from it.
func TestParallelMemory(t *testing.T) {
	t.Parallel()
	data := strewn(3<<19, 8)
	o := EncoderOptions{DictSize: 1 << 18, LC: 3, NiceLen: 32, Depth: 2}
	const workers = 2
	p, err := NewParallel(io.Discard, ParallelOptions{EncoderOptions: o, Workers: workers, Size: int64(len(data))})
	if err != nil {
		t.Fatal(err)
	}
	p.weight = 1 << 16 // several parts, each larger than the dictionary
	if _, err := p.Write(data); err != nil {
		t.Fatal(err)
	}
	used := cap(p.cur.buf) + workers*int(planMemory(int64(len(data)))) // plans are not kept
	for range workers {
		w := <-p.idle
		e := w.enc
		used += 4*(len(e.finder.hash2)+len(e.finder.hash3)+len(e.finder.hash4)) + 12*len(e.finder.ring)
		for _, r := range e.ends.trees {
			used += 4*len(r.heads) + 16*len(r.ring)
		}
		used += int(unsafe.Sizeof(*e)) + cap(w.buf) + chunkPacked
		defer func() { p.idle <- w }()
	}
	declared := ParallelMemory(o, workers, int64(len(data)))
	if int64(used) > declared || int64(used) < declared/2 {
		t.Errorf("%d bytes are held, %d declared", used, declared)
	}
}
