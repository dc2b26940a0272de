// Package sha512pair computes the SHA-512 of files that come in at the same time, such as the two completes of an update,
// two at a time: on processors with AVX-512 that takes half of the time of one after the other, because one stream alone
// leaves most of such a processor idle. What the sum of a file is does not depend on the others.
//
// One file alone, and every file on other processors, is hashed by crypto/sha512, which also holds the state and makes
// the sum.
package sha512pair

import (
	"context"
	"crypto/sha512"
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime"
	"slices"
	"sync"
)

const (
	// parcel is how many bytes are hashed at a time. Those of two files fit into the cache that a core has for itself.
	parcel = 128 << 10
	// maxLag is how many bytes of a file may wait for those of another one. It is what a disk's cache is sure to hold,
	// and takes some 30 ms where the other one does not come.
	maxLag = 16 << 20
)

// A Group is what files have in common that are hashed together. The zero value is ready for use, by several goroutines
// at once.
type Group struct {
	mu     sync.Mutex
	change sync.Cond // of any stream that was busy; its L is set with the first stream
	open   []*Stream
}

// A Stream computes the SHA-512 of a file that grows. It is to be used by one goroutine, and must be closed. It hashes
// what the file holds, by reading it, some time after it was told that it is there.
type Stream struct {
	g *Group
	r io.ReaderAt

	// Guarded by g.mu. Who finds busy false and sets it has h until it sets it back.
	busy         bool
	yielded      int   // how often it let others run, so that they can come to be hashed with it
	there, taken int64 // bytes that are in the file, and of these in h
	err          error // of reading
	h            hash.Hash
}

// New returns a stream over what will be in r, from its start.
func (g *Group) New(r io.ReaderAt) *Stream {
	s := &Stream{g: g, r: r, h: sha512.New()}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.change.L = &g.mu
	g.open = append(g.open, s)
	return s
}

// Grown says that there are n more bytes, all of which can be read.
func (s *Stream) Grown(n int64) {
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	s.there += n
	for !s.busy && s.err == nil && s.there-s.taken >= parcel {
		// Others may come to hash this one with theirs, unless they are far behind.
		if len(s.g.open) == 1 && s.yield(1) {
			continue
		}
		if !s.step(paired && len(s.g.open) > 1 && s.there-s.taken < maxLag) {
			return
		}
	}
}

// Sum returns the SHA-512 of all bytes that are there, or the error of reading them.
func (s *Stream) Sum() ([sha512.Size]byte, error) {
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	for {
		switch {
		case s.busy:
			s.g.change.Wait()
		case s.err != nil:
			return [sha512.Size]byte{}, s.err
		case s.taken == s.there:
			return [sha512.Size]byte(s.h.Sum(nil)), nil
		default:
			if s.there-s.taken < parcel || !s.yield(2) {
				s.step(false)
			}
		}
	}
}

// yield lets other goroutines run, up to a number of times: where there are more of them than processors, one that is
// about to have the partner of this stream may be waiting for that. g.mu is held, but not meanwhile.
func (s *Stream) yield(times int) bool {
	if !paired || s.yielded >= times {
		return false
	}
	s.yielded++
	s.g.mu.Unlock()
	defer s.g.mu.Lock()
	runtime.Gosched()
	return true
}

// Reset starts again, with a file that is empty.
func (s *Stream) Reset() {
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	s.rest()
	s.there, s.taken, s.err = 0, 0, nil
	s.h.Reset()
}

// Close ends the use of the file. Later calls do nothing.
func (s *Stream) Close() {
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	s.rest()
	s.there = s.taken
	if i := slices.Index(s.g.open, s); i >= 0 {
		s.g.open = slices.Delete(s.g.open, i, i+1)
	}
}

// rest waits until nobody hashes the stream. g.mu is held.
func (s *Stream) rest() {
	for s.busy {
		s.g.change.Wait()
	}
}

// step hashes the next parcel of a stream that is not busy, with one of another stream if there is one; if not, only if
// it need not wait for another. It says whether it did. g.mu is held, but not meanwhile.
func (s *Stream) step(wait bool) bool {
	n := min(s.there-s.taken, parcel)
	var other *Stream
	for _, o := range s.g.open {
		if paired && o != s && !o.busy && o.err == nil && n == parcel && o.there-o.taken >= parcel {
			other = o
			break
		}
	}
	if other == nil && wait {
		return false
	}
	both := []*Stream{s}
	if other != nil {
		both = append(both, other)
	}
	for _, b := range both {
		b.busy = true
	}
	hashNext(s.g, both, n)
	return true
}

// hashNext hashes the next n bytes of one or two streams that are marked as busy. g.mu is held, but not meanwhile.
func hashNext(g *Group, both []*Stream, n int64) {
	var data [2][]byte
	var errs [2]error
	read := false // all of it
	g.mu.Unlock()
	defer func() { // also when a reader panics
		g.mu.Lock()
		for i, s := range both {
			s.busy = false
			s.err = errs[i]
			if read {
				s.taken += n
			}
		}
		g.change.Broadcast()
	}()
	for i, s := range both {
		buf := buffers.Get().(*[parcel]byte)
		defer buffers.Put(buf)
		data[i] = buf[:n]
		errs[i] = s.read(data[i])
	}
	if read = errs[0] == nil && errs[1] == nil; !read {
		return
	}
	if len(both) == 1 {
		both[0].h.Write(data[0])
	} else {
		hashPair(both[0].h, both[1].h, data[0], data[1])
	}
}

var buffers = sync.Pool{New: func() any { return new([parcel]byte) }}

func (s *Stream) read(p []byte) error {
	n, err := s.r.ReadAt(p, s.taken)
	switch {
	case n == len(p):
		return nil
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read back what is hashed: %w", err)
}

// Sum returns the SHA-512 of the first n bytes of r. It ends with ctx. The error of reading matches
// io.ErrUnexpectedEOF where there are less.
func (g *Group) Sum(ctx context.Context, r io.ReaderAt, n int64) ([sha512.Size]byte, error) {
	s := g.New(r)
	defer s.Close()
	for done := int64(0); done < n; done += parcel {
		if err := ctx.Err(); err != nil {
			return [sha512.Size]byte{}, context.Cause(ctx)
		}
		s.Grown(min(parcel, n-done))
	}
	return s.Sum()
}

// hashPair writes p to a and q, which is as long, to b.
func hashPair(a, b hash.Hash, p, q []byte) {
	if !hashTogether(a, b, p, q) {
		a.Write(p)
		b.Write(q)
	}
}

// The state of a SHA-512 as the standard library gives it out and takes it back.
const (
	stateMagic = "sha\x07"
	stateWords = len(stateMagic)        // where the eight words are
	stateCount = stateWords + 8*8 + 128 // where the number of bytes that went in is, behind what waits for a full block
	stateSize  = stateCount + 8
)

// A state is what crypto/sha512 knows between two blocks.
type state [stateSize]byte

// load takes the state out of a hash. It says no to what it does not know, and in the middle of a block.
func (s *state) load(h hash.Hash) bool {
	from, ok := h.(encoding.BinaryAppender)
	if !ok {
		return false
	}
	b, err := from.AppendBinary(s[:0])
	return err == nil && len(b) == stateSize && &b[0] == &s[0] && string(b[:stateWords]) == stateMagic &&
		binary.BigEndian.Uint64(s[stateCount:])%sha512.BlockSize == 0
}

func (s *state) word(i int) uint64 { return binary.BigEndian.Uint64(s[stateWords+8*i:]) }

// store puts a state of which n more bytes are hashed, and the words are these, into a hash.
func (s *state) store(h hash.Hash, words func(i int) uint64, n int) bool {
	for i := range 8 {
		binary.BigEndian.PutUint64(s[stateWords+8*i:], words(i))
	}
	binary.BigEndian.PutUint64(s[stateCount:], binary.BigEndian.Uint64(s[stateCount:])+uint64(n))
	to, ok := h.(encoding.BinaryUnmarshaler)
	return ok && to.UnmarshalBinary(s[:]) == nil
}
