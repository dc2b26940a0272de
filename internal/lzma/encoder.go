package lzma

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

// Limits of one LZMA2 chunk.
const (
	chunkPlain  = 2 << 20 // bytes of content in a compressed chunk
	chunkPacked = 1 << 16 // bytes of a compressed chunk, and of content in a stored one

	// What one symbol can need at most: 4 bits with a model for what it is, at most 11
	// bits each where the model is badly wrong, up to 10 bits of length, 6+26+4 of
	// distance. 48 bytes are more than that comes to.
	symbolMax = 48
)

// MaxDictSize is the largest dictionary the encoder takes, which is also the largest that
// Mozilla's updater accepts.
const MaxDictSize = 64 << 20

// EncoderOptions are the settings of an Encoder. All of them change the bytes it writes.
// The zero value is valid.
type EncoderOptions struct {
	// DictSize is how far back a match may reach, in bytes; 0 is 8 MiB, more than
	// MaxDictSize is refused. A decoder must be told at least this size. It need not be
	// larger than the content.
	DictSize int
	// LC, LP and PB are the literal context bits, literal position bits and position
	// bits, LC+LP at most 4 and PB at most 4. Zero means zero: xz's default is 3, 0, 2.
	LC, LP, PB int
	// NiceLen is the match length from which on a match is taken without looking for
	// anything better, 5 to 273; 0 is 273.
	NiceLen int
	// Depth is how many candidates the match finder looks at for a position; 0 is
	// derived from NiceLen.
	Depth int
	// MinRun is the length from which on equal bytes are a run that is passed over, at least
	// 4; 0 is 4, which suits patches. In machine code, and more so in tables and fonts, the
	// inside of short runs is worth a look.
	MinRun int
	// Extreme looks at more ways through runs of one byte. It makes patches a quarter of a
	// per cent smaller and takes a third longer.
	Extreme bool
}

var (
	errClosed = errors.New("lzma: encoder is closed")
	errProps  = errors.New("lzma: lc, lp and pb are out of range")
)

// An Encoder compresses to a sequence of LZMA2 chunks. It keeps a window of one and a half
// dictionaries and writes to the underlying writer chunk by chunk. The bytes it writes
// depend on its options, on the content and on where SetProps was called, and on nothing
// else: not on how the content was cut into Writes.
//
// An Encoder is not safe for concurrent use.
type Encoder struct {
	coder

	head    uint32 // index in buf of the next byte to enter into the finder
	base    uint32 // position of buf[0] in the finder's tables
	dict    uint32
	keep    uint32 // capacity of buf when it is at its largest
	nice    uint32
	extreme bool
	finder  *finder
	runs    runMap
	ends    *runEnds

	choices []Props  // other properties that what comes may have; see ChooseProps
	trial   *Encoder // of samples, to make that choice

	parser parser
	plan   *[]step // if not nil, where symbols go instead of into chunks; see coder.follow

	stop *atomic.Bool // if not nil, true ends the work with ErrStopped
}

// NewEncoder returns an encoder that writes raw LZMA2 chunks to w.
func NewEncoder(w io.Writer, o EncoderOptions) (*Encoder, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	e := &Encoder{
		coder:   coder{w: w},
		dict:    uint32(o.DictSize),
		nice:    uint32(o.NiceLen),
		extreme: o.Extreme,
		runs:    runMap{min: uint32(o.MinRun)},
		finder:  newFinder(uint32(o.DictSize), uint32(o.NiceLen), o.Depth),
		ends:    newRunEnds(uint32(o.DictSize), o.Depth),
	}
	e.keep = window(e.dict)
	e.base = e.dict + 1
	e.parser.outdoneBy = 4 << priceShift
	if e.extreme {
		e.parser.outdoneBy = 6 << priceShift
	}
	e.rc.out = make([]byte, 0, chunkPacked)
	e.setProps(Props{o.LC, o.LP, o.PB})
	e.needDict, e.needProps, e.needState = true, true, true
	return e, nil
}

// fill puts the defaults in place of zeros and returns an error for what is out of range.
func (o *EncoderOptions) fill() error {
	if o.DictSize == 0 {
		o.DictSize = 8 << 20
	}
	if o.DictSize < 0 || o.DictSize > MaxDictSize {
		return fmt.Errorf("lzma: dictionary of %d bytes: at most %d", o.DictSize, MaxDictSize)
	}
	o.DictSize = max(o.DictSize, 4096)
	if o.NiceLen == 0 {
		o.NiceLen = maxMatch
	}
	if o.NiceLen < 5 || o.NiceLen > maxMatch {
		return fmt.Errorf("lzma: nice length %d: 5 to %d", o.NiceLen, maxMatch)
	}
	if o.Depth == 0 {
		o.Depth = 16 + o.NiceLen/2
	}
	if o.Depth < 0 {
		return fmt.Errorf("lzma: depth %d is negative", o.Depth)
	}
	if o.MinRun == 0 {
		o.MinRun = minRun
	}
	if o.MinRun < minRun || o.MinRun > maxMatch {
		return fmt.Errorf("lzma: shortest run %d: %d to %d", o.MinRun, minRun, maxMatch)
	}
	if !validProps(o.LC, o.LP, o.PB) {
		return errProps
	}
	return nil
}

func validProps(lc, lp, pb int) bool {
	return lc >= 0 && lp >= 0 && lc+lp <= 4 && pb >= 0 && pb <= 4
}

// lookahead is how many bytes must stand behind a position for it to be encoded as it would
// be if all of the content were there already: a whole parse with its longest match.
const lookahead = parseMax + 3*maxMatch

// Write compresses p. It keeps no reference to p.
func (e *Encoder) Write(p []byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	n := 0
	for len(p) > 0 {
		room := int(e.keep) - len(e.buf)
		if room == 0 {
			if e.encode(uint32(len(e.buf)) - lookahead); e.err != nil {
				return n, e.err
			}
			e.slide()
			continue
		}
		k := min(room, len(p))
		e.buf = append(e.buf, p[:k]...)
		p = p[k:]
		n += k
	}
	return n, nil
}

// slide drops from the window what is out of reach.
func (e *Encoder) slide() {
	if e.pos <= e.dict {
		return
	}
	// Some bytes more than the dictionary stay, so that a literal's context and the
	// position's place in a word need no special case.
	drop := min(e.pos-e.dict, e.start) &^ 63
	n := copy(e.buf, e.buf[drop:])
	e.buf = e.buf[:n]
	e.runs.drop(drop)
	e.pos -= drop
	e.head -= drop
	e.start -= drop
	e.base += drop
	e.rebase()
}

// rebase lowers all positions in the tables before they become too large.
func (e *Encoder) rebase() {
	if e.base >= 1<<31 {
		sub := e.base - e.dict - 1
		e.finder.rebase(sub)
		e.ends.rebase(sub)
		e.base -= sub
	}
}

// SetProps ends what was written so far and sets lc, lp and pb for what follows. The
// dictionary is kept; the models start anew, which costs some hundred bytes.
func (e *Encoder) SetProps(lc, lp, pb int) error {
	if e.err != nil {
		return e.err
	}
	if !validProps(lc, lp, pb) {
		return errProps
	}
	if e.finish(); e.err != nil {
		return e.err
	}
	e.choices = nil
	e.setProps(Props{lc, lp, pb})
	return nil
}

// Props are the properties of LZMA2 data that a block may have of its own: literal context
// bits, literal position bits and position bits.
type Props struct{ LC, LP, PB int }

// Of how much content ChooseProps makes its choice, and in how many pieces it looks at that.
const (
	sampleSize   = 1 << 18
	samplePieces = 8
)

// ChooseProps is SetProps with one of several choices: the one by which a sample of what is
// written next becomes smallest. The sample is taken from all over what the window has room
// for, so it is a good one for half a dictionary. An earlier choice is preferred unless a
// later one is better by more than 0.4 %.
func (e *Encoder) ChooseProps(choices ...Props) error {
	if e.err != nil {
		return e.err
	}
	if err := validChoices(choices); err != nil {
		return err
	}
	if err := e.SetProps(choices[0].LC, choices[0].LP, choices[0].PB); err != nil {
		return err
	}
	e.slide()
	e.choices = choices[1:]
	return nil
}

func validChoices(choices []Props) error {
	for _, c := range choices {
		if !validProps(c.LC, c.LP, c.PB) {
			return errProps
		}
	}
	if len(choices) == 0 {
		return errProps
	}
	return nil
}

// choose makes the choice of ChooseProps.
func (e *Encoder) choose() error {
	// Pieces begin and end where all position bits are 0.
	from := (e.pos + 15) &^ 15
	if from >= uint32(len(e.buf)) {
		return nil
	}
	content := e.buf[from:]
	sample := content
	if len(content) > sampleSize {
		const piece = sampleSize / samplePieces
		sample = make([]byte, 0, sampleSize)
		for k := range samplePieces {
			at := (len(content) - piece) / (samplePieces - 1) * k &^ 15
			sample = append(sample, content[at:at+piece]...)
		}
	}
	best := 0
	for k, c := range append([]Props{{int(e.lc), int(e.lp), int(e.pb)}}, e.choices...) {
		var size counter
		o := EncoderOptions{DictSize: len(sample), LC: c.LC, LP: c.LP, PB: c.PB, NiceLen: 64, Depth: 16}
		if e.trial == nil {
			t, err := NewEncoder(nil, o)
			if err != nil {
				return err
			}
			e.trial = t
		}
		t := e.trial
		if err := t.reset(&size, o); err != nil {
			return err
		}
		if _, err := t.Write(sample); err != nil {
			return err
		}
		if err := t.end(); err != nil {
			return err
		}
		if k == 0 || int(size) < best-best/256 {
			best = int(size)
			e.setProps(c)
		}
	}
	return nil
}

type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// Close writes what is left and the end marker. It does not close the underlying writer.
// Closing twice is fine.
func (e *Encoder) Close() error {
	if errors.Is(e.err, errClosed) {
		return nil
	}
	err := e.end()
	if err == nil {
		e.err = errClosed
	}
	e.buf, e.finder, e.ends, e.runs, e.trial = nil, nil, nil, runMap{}, nil
	return err
}

// end writes what is left and the end marker.
func (e *Encoder) end() error {
	if e.err == nil {
		e.finish()
	}
	if e.err == nil {
		_, e.err = e.w.Write([]byte{0})
	}
	return e.err
}

// reset makes the encoder one that NewEncoder would return, except that NiceLen, Depth, MinRun and Extreme stay what they
// were. It is much cheaper for small dictionaries: nothing is got nor cleared, as what the tables know moves out of reach.
func (e *Encoder) reset(w io.Writer, o EncoderOptions) error {
	if err := o.fill(); err != nil {
		return err
	}
	e.dict = uint32(o.DictSize)
	e.leave()
	e.finder.resize(e.dict)
	e.ends.resize(e.dict)
	e.keep = window(e.dict)
	e.buf = e.buf[:0]
	e.begin(w, 0)
	e.setProps(Props{o.LC, o.LP, o.PB})
	e.needDict = true
	return nil
}

// leave moves what the tables know out of reach.
func (e *Encoder) leave() {
	e.base += uint32(len(e.buf)) + e.dict + 1
	e.rebase()
}

// begin starts anew at buf[pos].
func (e *Encoder) begin(w io.Writer, pos uint32) {
	e.err, e.w = nil, w
	e.pos, e.start, e.head = pos, pos, pos
	e.runs = runMap{min: e.runs.min, open: e.runs.open[:0]}
	e.parser.path, e.parser.next = nil, 0
	e.choices = nil
	e.needProps, e.needState = true, true
}

// window returns the capacity of buf when it is at its largest.
func window(dict uint32) uint32 { return max(dict, chunkPlain) + max(dict/2, 1<<18) + lookahead }

// part plans the symbols of a part of a Parallel, whatever the encoder did before.
func (e *Encoder) part(c *part) error {
	e.leave()
	e.begin(nil, uint32(c.known))
	for k, b := range c.blocks {
		e.setProps(b.choices[0])
		e.needState = e.needState || b.fresh
		e.choices = b.choices[1:]
		e.plan = &c.blocks[k].plan
		e.buf = c.buf
		if k+1 < len(c.blocks) {
			e.buf = c.buf[:c.blocks[k+1].at]
		}
		if e.finish(); e.err != nil {
			return e.err
		}
		c.blocks[k].props = Props{int(e.lc), int(e.lp), int(e.pb)}
	}
	return nil
}

// finish encodes all that was written and ends the open chunk.
func (e *Encoder) finish() {
	if e.encode(uint32(len(e.buf))); e.pos > e.start {
		e.closeChunk()
	}
}

// closeChunk ends the open chunk.
func (e *Encoder) closeChunk() {
	if e.plan != nil {
		e.start = e.pos
		return
	}
	e.endChunk(e.head)
}

// encode encodes everything before buf[end], and writes the chunks that become full. The
// last symbol before end may reach beyond it, except when end is the end of buf.
func (e *Encoder) encode(end uint32) {
	if len(e.choices) > 0 {
		e.err = e.choose()
		e.choices = nil
	}
	e.runs.scan(e.buf)
	for e.pos < end && e.err == nil {
		if e.pos == e.start {
			e.beginChunk()
		}
		for e.pos < end && e.pos-e.start <= chunkPlain-maxMatch && e.rc.size() <= chunkPacked-symbolMax {
			if e.parser.next == len(e.parser.path) {
				if e.stop != nil && e.stop.Load() {
					e.err = ErrStopped
					return
				}
				e.parse()
			}
			s := e.parser.path[e.parser.next]
			e.parser.next++
			if e.plan != nil {
				*e.plan = append(*e.plan, e.planned(s))
			}
			e.parser.used(s, e.pos&(1<<e.pb-1))
			e.symbol(s)
			e.pos += s.length
		}
		if e.pos < end {
			e.closeChunk()
		}
	}
}

func (e *Encoder) beginChunk() {
	fresh := e.needState
	e.coder.beginChunk()
	if e.plan != nil {
		e.needState = false // what is known lasts to the end of the block
	}
	if fresh {
		e.parser.restart(e)
	}
}
