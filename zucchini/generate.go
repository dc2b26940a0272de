package zucchini

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/senbonzakura/senbonzakura/internal/exe"
	"github.com/senbonzakura/senbonzakura/internal/lzma"
	"github.com/senbonzakura/senbonzakura/internal/match"
)

// generation makes one element.
//
// Executables are matched as if references were the names of what they lead to: two calls of one function look alike
// wherever they stand. In a first round, in which nothing is known, all references look alike; it says which old
// target a new one comes from, and so what they are called in the second.
type generation struct {
	e         *element
	old, new  []byte
	workers   int
	progress  func(done, total int64)
	a, b      *exe.Image // nil for bytes
	from, to  [][]exe.Ref
	structure *match.Structure
	guide     *match.Guide
	names     [][]uint32 // of what the references in to lead to, nil for none
	buf       []byte     // of the size of the larger file
}

// errUnsuitable means that an executable is better taken as bytes.
var errUnsuitable = errors.New("executable with references that overlap or are uncertain")

// A try is one way to make an element.
type try struct {
	rounds     int  // of an executable
	switchBits int  // what the search takes going on elsewhere to cost, in bits
	literals   int  // what part of its entropy, in 64ths, it takes a new byte to cost
	free       bool // whether it does without the files' structure
}

// ordinary is how large elements are made. What suits small ones differs from file to file, and they are made in several
// ways, of which the one that compresses best is kept.
var (
	ordinary = []try{{2, 44, 46, false}}
	several  = []try{{3, 24, 46, false}, {3, 44, 46, false}}
	many     = []try{
		{3, 24, 46, false},
		{3, 44, 46, false},
		{3, 80, 46, false},
		{3, 24, 64, false},
		{3, 24, 46, true},
		{3, 44, 46, true},
		{3, 80, 46, true},
		{3, 24, 64, true},
	}
)

// The sizes of what is small and of what is tiny.
const (
	smallNew = 1 << 20
	tinyNew  = 1 << 17
)

func (g *generation) tries() []try {
	switch {
	case len(g.new) > smallNew:
		return ordinary
	case len(g.new) > tinyNew:
		return several
	case g.structure == nil:
		return many[:len(many)/2]
	}
	return many
}

// choose makes the element in each way and keeps the best.
func (g *generation) choose(ctx context.Context, way func(t try, progress func(done, total int64)) ([]equivalence, error)) error {
	var best *element
	smallest := 0
	tries := g.tries()
	whole := *g.e
	for i, t := range tries {
		var progress func(done, total int64)
		if g.progress != nil {
			progress = func(done, total int64) {
				g.progress(done+int64(i)*total, int64(len(tries))*total)
			}
		}
		list, err := way(t, progress)
		if err != nil {
			return err
		}
		if i == len(tries)-1 {
			g.found()
		}
		made := whole
		g.e = &made
		if err := g.emit(ctx, list); err != nil {
			return err
		}
		if len(tries) == 1 {
			best = &made
			break
		}
		size, err := compressed(&made)
		if err != nil {
			return err
		}
		if best == nil || size < smallest {
			best, smallest = &made, size
		}
	}
	g.e = best
	return nil
}

// tryDict is the largest dictionary with which patches are compressed to compare them.
const tryDict = 1 << 21

// compressed returns about how many bytes are left of an element in an update.
func compressed(e *element) (int, error) {
	var n counter
	enc, err := lzma.NewEncoder(&n, lzma.EncoderOptions{DictSize: int(min(max(e.length(), 1<<12), tryDict)), LC: 3, NiceLen: 273})
	if err == nil {
		err = e.pieces(func(b []byte) error {
			_, err := enc.Write(b)
			return err
		})
	}
	if err == nil {
		err = enc.Close()
	}
	if err != nil {
		return 0, fmt.Errorf("zucchini: %w", err)
	}
	return int(n), nil
}

// counter is a writer that counts.
type counter int

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

// plain makes the element of bytes.
func (g *generation) plain(ctx context.Context) error {
	if err := g.look(ctx); err != nil {
		return err
	}
	return g.choose(ctx, func(t try, progress func(done, total int64)) ([]equivalence, error) {
		return g.steps(ctx, g.old, match.Whole(g.new), t, progress)
	})
}

// look finds out what the files have in common by their structure.
func (g *generation) look(ctx context.Context) (err error) {
	if g.structure, err = match.NewStructure(ctx, g.old, g.new, g.workers); err != nil {
		return fmt.Errorf("zucchini: %w", err)
	}
	g.guide = new(match.Guide)
	return nil
}

// steps finds what one view has in common with another.
func (g *generation) steps(ctx context.Context, old []byte, new match.View, t try, progress func(done, total int64)) ([]equivalence, error) {
	s := g.structure
	if t.free {
		s = nil
	}
	triples, err := g.guide.Steps(ctx, old, new, s, match.Options{Workers: g.workers, Progress: progress, SwitchBits: t.switchBits, LiteralScale: t.literals})
	if err != nil {
		return nil, fmt.Errorf("zucchini: %w", err)
	}
	return pieces(triples), nil
}

// found frees the memory of what found equivalences.
func (g *generation) found() { g.structure, g.guide, g.to, g.names = nil, nil, nil, nil }

// executable makes the element of an executable, or returns errUnsuitable.
func (g *generation) executable(ctx context.Context) error {
	if !g.a.Certain() || !g.b.Certain() {
		return errUnsuitable
	}
	var err error
	if g.from, err = g.a.References(ctx, mostReferences(len(g.old))); err != nil {
		return unsuitable(err)
	}
	if g.to, err = g.b.References(ctx, mostReferences(len(g.new))); err != nil {
		return unsuitable(err)
	}
	if overlap(g.a.Groups(), g.from) || overlap(g.b.Groups(), g.to) {
		return errUnsuitable
	}
	if err := g.look(ctx); err != nil {
		return err
	}
	g.names = make([][]uint32, len(g.to))
	for kind, refs := range g.to {
		g.names[kind] = make([]uint32, len(refs))
	}
	old := g.buf[:len(g.old)]
	copy(old, g.old)
	new := match.View{Size: len(g.new), Read: g.masked}
	return g.choose(ctx, func(t try, progress func(done, total int64)) (list []equivalence, err error) {
		for round := range t.rounds {
			g.name(old, round > 0, list)
			part := progress
			if progress != nil {
				part = func(done, total int64) { progress(done+int64(round)*total, int64(t.rounds)*total) }
			}
			if list, err = g.steps(ctx, old, new, t, part); err != nil {
				return nil, err
			}
		}
		return g.legal(list), nil
	})
}

// mostReferences is how many references an executable of n bytes may have to be worth it, for the sake of memory. Large
// ones have one in 15 to 50 bytes.
func mostReferences(n int) int { return n/24 + 1<<20 }

func unsuitable(err error) error {
	if errors.Is(err, exe.ErrTooMuch) {
		return errUnsuitable
	}
	return err
}

// pieces returns what is copied, in the order of the new file.
func pieces(triples []match.Triple) []equivalence {
	out := make([]equivalence, 0, len(triples))
	src, dst := int64(0), uint32(0)
	for _, t := range triples {
		if t.Add > 0 {
			out = append(out, equivalence{uint32(src), dst, uint32(t.Add)})
		}
		src += int64(t.Add) + int64(t.Seek)
		dst += uint32(t.Add + t.Copy)
	}
	return out
}

// overlap reports whether bytes belong to several references.
func overlap(groups []exe.Group, refs [][]exe.Ref) bool {
	w := newWalk(groups, refs)
	w.seek(0)
	end := uint32(0)
	for {
		kind, r, ok := w.next()
		if !ok {
			return false
		}
		if r.At < end {
			return true
		}
		end = r.At + w.widths[kind]
	}
}

// walk visits references of all types in the order of their places.
type walk struct {
	refs   [][]exe.Ref
	widths []uint32
	at     []int // of each type, the next
}

func newWalk(groups []exe.Group, refs [][]exe.Ref) *walk {
	w := &walk{refs: refs, widths: make([]uint32, len(groups)), at: make([]int, len(groups))}
	for _, g := range groups {
		w.widths[g.Type] = uint32(g.Width)
	}
	return w
}

// seek goes to the first reference of each type whose body ends behind a place.
func (w *walk) seek(place uint32) {
	for kind, refs := range w.refs {
		i := w.at[kind]
		behind := func(i int) bool { return refs[i].At+w.widths[kind] > place }
		if i < len(refs) && !behind(i) && (i+1 == len(refs) || behind(i+1)) {
			w.at[kind] = i + 1
			continue
		}
		if i < len(refs) && behind(i) && (i == 0 || !behind(i-1)) || i == len(refs) && i > 0 && !behind(i-1) {
			continue
		}
		w.at[kind], _ = slices.BinarySearchFunc(refs, place, func(r exe.Ref, place uint32) int {
			if r.At+w.widths[kind] > place {
				return 1
			}
			return -1
		})
	}
}

// next returns the next reference, its type, and whether there is one.
func (w *walk) next() (kind uint8, r exe.Ref, ok bool) {
	for k, refs := range w.refs {
		if i := w.at[k]; i < len(refs) && (!ok || refs[i].At < r.At) {
			kind, r, ok = uint8(k), refs[i], true
		}
	}
	if ok {
		w.at[kind]++
	}
	return kind, r, ok
}

// name writes names in place of the old file's references, and finds those of the new one's.
func (g *generation) name(old []byte, named bool, list []equivalence) {
	oldN, newN := uint32(len(g.old)), uint32(len(g.new))
	for _, group := range g.a.Groups() {
		pool := uint32(group.Pool)
		width := uint32(group.Width)
		for _, r := range g.from[group.Type] {
			name := uint32(0)
			if named {
				name = nameOf(r.Target, oldN, pool)
			}
			g.a.Mask(group.Type, old[r.At:][:width], name)
		}
		names := g.names[group.Type]
		if !named {
			clear(names)
			continue
		}
		k := 0
		for i, r := range g.to[group.Type] {
			names[i] = nameOf(r.Target, newN, pool)
			if r.Target < newN {
				if k = covering(list, r.Target, k); k >= 0 {
					names[i] = nameOf(r.Target-list[k].dst+list[k].src, oldN, pool)
				} else {
					names[i] = nameOf(r.Target, newN, pool+exe.Pools)
				}
			}
		}
	}
}

// masked reads a part of the new file with names in place of references; of those that reach out of it, it does not
// matter what there is.
func (g *generation) masked(b []byte, at int) {
	copy(b, g.new[at:])
	end := uint32(at + len(b))
	for _, group := range g.b.Groups() {
		refs, names := g.to[group.Type], g.names[group.Type]
		width := uint32(group.Width)
		for i := firstAt(refs, uint32(at)); i < len(refs) && refs[i].At+width <= end; i++ {
			g.b.Mask(group.Type, b[refs[i].At-uint32(at):][:width], names[i])
		}
	}
}

// nameOf is the name of an offset: a hash, never zero in its lowest bits. Memory that is not in the file counts from
// the file's end.
func nameOf(o, n, pool uint32) uint32 {
	if o >= n {
		o, pool = o-n, pool+2*exe.Pools
	}
	h := (uint64(o) + uint64(pool)<<32 + 1) * 0x9e3779b97f4a7c15
	h = (h ^ h>>32) * 0xd6e8feb86659fd93
	return uint32(h>>32) | 1
}

// covering returns the index of the equivalence that makes a new offset, or -1. hint is where to look first.
func covering(list []equivalence, o uint32, hint int) int {
	if hint >= 0 && hint < len(list) && o-list[hint].dst < list[hint].size {
		return hint
	}
	i, found := slices.BinarySearchFunc(list, o, func(p equivalence, o uint32) int { return cmp.Compare(p.dst, o) })
	if !found {
		i--
	}
	if i < 0 || o-list[i].dst >= list[i].size {
		return -1
	}
	return i
}

// legal cuts equivalences so that no edge is inside the body of an old reference, and that each old reference in one can
// be expressed where it is in the new file. What is cut out becomes extra data.
func (g *generation) legal(list []equivalence) []equivalence {
	out := make([]equivalence, 0, len(list))
	w := newWalk(g.a.Groups(), g.from)
	at := g.b.Reader()
	for _, p := range list {
		begin, end := p.src, p.src+p.size
		w.seek(begin)
		add := func(to uint32) {
			if to > begin {
				out = append(out, equivalence{begin, begin - p.src + p.dst, to - begin})
			}
		}
		for {
			kind, r, ok := w.next()
			if !ok || r.At >= end {
				break
			}
			width := w.widths[kind]
			if r.At >= begin && r.At+width <= end {
				if _, fine := at.Target(kind, r.At-p.src+p.dst); fine {
					continue
				}
			}
			add(min(r.At, end)) // nothing where the body begins before the equivalence
			begin = min(r.At+width, end)
		}
		add(end)
	}
	return out
}

// emit fills the element's streams.
func (g *generation) emit(ctx context.Context, list []equivalence) error {
	e := g.e
	e.pairs = list
	var src, dst, done uint32
	s := &e.stream
	extra := e.newN
	for _, p := range list {
		extra -= p.size
	}
	s[extraData] = make([]byte, 0, extra)
	for _, p := range list {
		s[srcSkip] = appendVarint(s[srcSkip], int32(p.src-src))
		s[dstSkip] = appendUvarint(s[dstSkip], p.dst-dst)
		s[copyCount] = appendUvarint(s[copyCount], p.size)
		s[extraData] = append(s[extraData], g.new[done:p.dst]...)
		src, dst = p.src+p.size, p.dst+p.size
		done = dst
	}
	s[extraData] = append(s[extraData], g.new[done:]...)
	skips, diffs := 0, 0
	err := g.differences(ctx, func(skip uint32, _ byte) {
		skips += (bits.Len32(skip|1) + 6) / 7
		diffs++
	})
	if err != nil {
		return err
	}
	s[rawDeltaSkip], s[rawDeltaDiff] = make([]byte, 0, skips), make([]byte, 0, diffs)
	err = g.differences(ctx, func(skip uint32, diff byte) {
		s[rawDeltaSkip] = appendUvarint(s[rawDeltaSkip], skip)
		s[rawDeltaDiff] = append(s[rawDeltaDiff], diff)
	})
	if err != nil {
		return err
	}
	if g.a == nil {
		return nil
	}
	m := newMapper(e.pairs, e.oldN, e.newN)
	for pool := range uint8(exe.Pools) {
		if err := g.references(ctx, m, pool); err != nil {
			return err
		}
	}
	return nil
}

// differences visits the bytes that are copied and changed, with the number of copied bytes since the last one. Bodies of
// references are not, but for what is in them beside where they lead to.
func (g *generation) differences(ctx context.Context, visit func(skip uint32, diff byte)) error {
	skip := uint32(0)
	compare := func(old, new []byte) {
		for len(old) > 0 {
			n := commonPrefix(old, new)
			skip += uint32(n)
			if n == len(old) {
				return
			}
			visit(skip, new[n]-old[n])
			skip = 0
			old, new = old[n+1:], new[n+1:]
		}
	}
	var w *walk
	if g.a != nil {
		w = newWalk(g.a.Groups(), g.from)
	}
	var mixed [8]byte
	for i, p := range g.e.pairs {
		if i%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		old, new := g.old[p.src:][:p.size], g.new[p.dst:][:p.size]
		at := uint32(0)
		if w != nil {
			w.seek(p.src)
			for {
				kind, r, ok := w.next()
				if !ok || r.At >= p.src+p.size {
					break
				}
				body := r.At - p.src
				compare(old[at:body], new[at:body])
				at = body + w.widths[kind]
				if g.a.Mixes(kind) {
					m := mixed[:w.widths[kind]]
					g.a.Mix(kind, m, old[body:at], new[body:at])
					compare(old[body:at], m)
				} else {
					skip += w.widths[kind]
				}
			}
		}
		compare(old[at:], new[at:])
	}
	return nil
}

// references writes where the references of a pool lead to.
func (g *generation) references(ctx context.Context, m *mapper, pool uint8) error {
	e := g.e
	var lists [][]exe.Ref
	for _, group := range g.a.Groups() {
		if group.Pool == pool {
			lists = append(lists, g.from[group.Type])
		}
	}
	olds := newTargetSet(e.oldN, lists...)
	known := m.project(olds)
	at := g.b.Reader()
	most := 0
	for _, l := range lists {
		most += len(l)
	}
	wanted := make([]exe.Ref, 0, most) // where each leads to; its place is that of the old one's target
	for _, group := range g.a.Groups() {
		if group.Pool != pool {
			continue
		}
		refs := g.from[group.Type]
		i := 0
		for _, p := range e.pairs {
			if err := ctx.Err(); err != nil {
				return err
			}
			if i >= len(refs) || refs[i].At < p.src || i > 0 && refs[i-1].At >= p.src {
				i = firstAt(refs, p.src)
			}
			for ; i < len(refs) && refs[i].At < p.src+p.size; i++ {
				target, ok := at.Target(group.Type, refs[i].At-p.src+p.dst)
				if !ok {
					return fmt.Errorf("zucchini: the reference at old byte %d cannot be expressed", refs[i].At)
				}
				wanted = append(wanted, exe.Ref{At: refs[i].Target, Target: target})
			}
		}
	}
	news := newTargetSet(e.newN, wanted)
	var fresh []uint32 // wanted targets that are not known
	k := 0
	add := func(o uint32) {
		for k < len(known) && known[k] < o {
			k++
		}
		if k == len(known) || known[k] != o {
			fresh = append(fresh, o)
		}
	}
	news.each(0, news.n, add)
	for _, o := range news.high {
		add(o)
	}
	next := uint32(0)
	for _, o := range fresh {
		e.pools[pool] = appendUvarint(e.pools[pool], o-next)
		next = o + 1
	}
	targets := union(known, fresh)
	near := m.keys(olds, targets)
	// The keys of the wanted targets, by their ranks.
	keys := make([]uint32, 0, news.size())
	k = 0
	key := func(o uint32) {
		for targets[k] < o {
			k++
		}
		keys = append(keys, uint32(k))
	}
	news.each(0, news.n, key)
	for _, o := range news.high {
		key(o)
	}
	s := &e.stream
	for _, w := range wanted {
		s[referenceDelta] = appendVarint(s[referenceDelta], int32(keys[news.rank(w.Target)]-near[olds.rank(w.At)]))
	}
	return nil
}
