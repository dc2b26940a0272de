package lzma

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"sync/atomic"
)

// Where a Parallel ends a part. The positions depend on the content alone, so that the same content gives
// the same bytes whoever compresses it.
const (
	// partStep is what every part but the last is a multiple of. It is one of 64, so that positions
	// in a part have the context bits that they have in the stream.
	partStep = 4 << 10
	// partWeight is how many bytes other than zero make a part. A part is planned with fresh models, which costs
	// a little at its beginning.
	partWeight = 1500 << 10
	// MaxPart is the length at which a part ends in any case, for the sake of memory. Where little is
	// in a part, little is lost by its end.
	MaxPart = 32 << 20
	// partContext is how many bytes a part knows of the one before it. The byte before is context
	// for a literal; a whole dictionary of them would be worth 0.03 %.
	partContext = 64
)

// ErrStopped is returned by a Parallel that was told to stop.
var ErrStopped = errors.New("lzma: encoder was stopped")

// ParallelOptions are the settings of a Parallel. Workers, Size and Stop do not change the bytes it writes.
type ParallelOptions struct {
	EncoderOptions
	// Workers is how many parts are compressed at a time, at least 1.
	Workers int
	// Size is how many bytes will be written, if that is known: it saves memory.
	Size int64
	// Stop, if not nil, makes calls of Write and Close, also those under way, fail soon with ErrStopped when it
	// becomes true.
	Stop *atomic.Bool
}

// A Parallel compresses to a sequence of LZMA2 chunks as an Encoder does, but in parts that
// end after so many bytes other than zero: several at a time, each by an encoder of its own
// which refers to nothing in the parts before. Its plan is then encoded with the models of the part
// before, unless that has other properties. The bytes it writes depend on the EncoderOptions, the content, and on where
// SetProps and ChooseProps were called.
//
// It holds at most one part more than it has workers, and an encoder for each worker. A Parallel
// is not safe for concurrent use. One that is not closed comes to an end when the parts under work
// are finished.
type Parallel struct {
	w      io.Writer
	o      ParallelOptions
	err    error
	rest   int64       // of Size, not yet given a buffer
	cur    *part       // to which is written
	queue  []*part     // under work or finished, in order, not yet written to w
	before *part       // the last one given to a worker
	coder  coder       // of whom all parts before are done
	idle   chan worker // those who have nothing to do
	closed bool

	weight, length int // partWeight and MaxPart, but in tests
}

// A part is a stretch of the content, and what becomes of it.
type part struct {
	buf    []byte // the end of the part before, then the content
	known  int    // how much of buf that is
	blocks []propsAt
	weight int

	packed bytes.Buffer
	err    error
	done   chan struct{}
}

// propsAt says which properties buf has from a place on: one of several.
type propsAt struct {
	at      int
	choices []Props
	fresh   bool   // what comes is of another kind than what was before: models begin anew
	props   Props  // the choice
	plan    []step // the symbols, see coder.follow
}

// A worker is an encoder and a buffer, both nil until they are needed.
type worker struct {
	enc *Encoder
	buf []byte
}

// NewParallel returns an encoder that writes raw LZMA2 chunks to w.
func NewParallel(w io.Writer, o ParallelOptions) (*Parallel, error) {
	if o.Workers < 1 {
		return nil, fmt.Errorf("lzma: %d workers", o.Workers)
	}
	if err := o.fill(); err != nil {
		return nil, err
	}
	if o.Stop == nil {
		o.Stop = new(atomic.Bool)
	}
	p := &Parallel{w: w, o: o, rest: o.Size, idle: make(chan worker, o.Workers), weight: partWeight, length: MaxPart}
	for range o.Workers {
		p.idle <- worker{}
	}
	p.cur = p.newPart(nil, []Props{{o.LC, o.LP, o.PB}})
	p.coder = coder{needDict: true, needProps: true, needState: true}
	p.coder.rc.out = make([]byte, 0, chunkPacked)
	return p, nil
}

// ParallelMemory returns how many bytes a Parallel holds at most for a patch of n bytes.
func ParallelMemory(o EncoderOptions, workers int, n int64) int64 {
	parts := min(int64(workers), n/partWeight+1)
	// The trees of a patch, of which a part is zeros, and hash tables, for each byte of the dictionary; prices, plans,
	// models and what comes out.
	return parts*(14*int64(o.DictSize)+2<<20+planMemory(n)) + min(n, (parts+1)*MaxPart)
}

// planMemory returns how many bytes the plan of a part takes at most: two symbols for each byte other than zero, in a list
// that grows.
func planMemory(n int64) int64 { return 20 * min(n, partWeight) }

// newPart begins a part, in a buffer that may be used again.
func (p *Parallel) newPart(buf []byte, choices []Props) *part {
	n := int(min(max(p.rest, 0), int64(p.length))) + partContext
	p.rest -= int64(n)
	if cap(buf) < n {
		buf = make([]byte, 0, n)
	}
	return &part{buf: buf[:0], blocks: []propsAt{{choices: choices}}, done: make(chan struct{})}
}

// Write compresses b. It keeps no reference to b.
func (p *Parallel) Write(b []byte) (int, error) {
	n := 0
	for p.ok() && n < len(b) {
		c := p.cur
		at := (len(c.buf) - c.known) % partStep
		k := min(len(b)-n, partStep-at)
		c.buf = append(c.buf, b[n:n+k]...)
		n += k
		if at+k < partStep {
			continue
		}
		c.weight += nonzero(c.buf[len(c.buf)-partStep:])
		if c.weight >= p.weight || len(c.buf)-c.known >= p.length {
			p.cut()
		}
	}
	return n, p.err
}

// ok reports whether nothing has failed yet.
func (p *Parallel) ok() bool {
	if p.err == nil && p.o.Stop.Load() {
		p.err = ErrStopped
	}
	return p.err == nil
}

// nonzero counts bytes, of which there must be a multiple of 8, that are not zero.
func nonzero(b []byte) int {
	const low = 0x7f7f7f7f7f7f7f7f
	n := 0
	for ; len(b) >= 8; b = b[8:] {
		x := binary.LittleEndian.Uint64(b)
		n += bits.OnesCount64((x&low + low | x) &^ low)
	}
	return n
}

// cut hands out the current part and begins another one.
func (p *Parallel) cut() {
	c := p.cur
	choices := c.blocks[len(c.blocks)-1].choices
	buf := p.start(c)
	p.cur = p.newPart(buf, choices)
	p.cur.buf = append(p.cur.buf, c.buf[len(c.buf)-partContext:]...)
	p.cur.known, p.cur.blocks[0].at = partContext, partContext
	p.collect(false)
}

// start waits for a worker and has it compress the part. It returns the buffer of the part
// that the worker had before.
func (p *Parallel) start(c *part) []byte {
	w := <-p.idle
	free := w.buf
	w.buf = c.buf
	p.queue = append(p.queue, c)
	before := p.before
	p.before = c
	go func() {
		defer func() { p.idle <- w }()
		defer close(c.done)
		if w.enc == nil {
			// What the options may lack was found by NewParallel.
			w.enc, _ = NewEncoder(nil, p.o.EncoderOptions)
			w.enc.stop = p.o.Stop
		}
		c.err = w.enc.part(c)
		if before != nil {
			if <-before.done; before.err != nil {
				c.err = before.err
			}
		}
		if c.err == nil {
			c.err = p.coder.follow(c)
		}
		c.blocks = nil
	}()
	return free
}

// collect writes finished parts, in order; if all is set, it waits for each.
func (p *Parallel) collect(all bool) {
	for len(p.queue) > 0 && p.err == nil {
		c := p.queue[0]
		if !all {
			select {
			case <-c.done:
			default:
				return
			}
		}
		<-c.done
		if p.err = c.err; p.err == nil {
			if _, err := p.w.Write(c.packed.Bytes()); err != nil {
				p.err = fmt.Errorf("lzma: write part: %w", err)
			}
		}
		p.queue = p.queue[1:]
	}
}

// SetProps is like that of Encoder.
func (p *Parallel) SetProps(lc, lp, pb int) error { return p.ChooseProps(Props{lc, lp, pb}) }

// ChooseProps is like that of Encoder, but every part makes its own choice.
func (p *Parallel) ChooseProps(choices ...Props) error {
	if !p.ok() {
		return p.err
	}
	if err := validChoices(choices); err != nil {
		return err
	}
	c := p.cur
	if last := &c.blocks[len(c.blocks)-1]; last.at == len(c.buf) {
		last.choices = choices
		last.fresh = true
	} else {
		c.blocks = append(c.blocks, propsAt{at: len(c.buf), choices: choices, fresh: true})
	}
	return nil
}

// Close writes what is left and the end marker. It does not close the underlying writer. It
// returns when all that was under work has come to an end. Closing twice is fine.
func (p *Parallel) Close() error {
	if p.closed {
		if errors.Is(p.err, errClosed) {
			return nil
		}
		return p.err
	}
	p.closed = true
	if p.ok() && len(p.cur.buf) > p.cur.known {
		p.start(p.cur)
	}
	p.collect(true)
	if p.err != nil {
		p.o.Stop.Store(true)
	}
	for range p.o.Workers { // wait for all, also after an error
		<-p.idle
	}
	p.cur, p.queue = nil, nil
	if p.err == nil {
		_, p.err = p.w.Write([]byte{0})
	}
	err := p.err
	if err == nil {
		p.err = errClosed
	}
	return err
}
