package match

import "context"

// anchor is where an alignment is worth looking at: from a position of the new file on.
type anchor struct {
	at     int32
	offset int32
}

// scanner follows one alignment greedily to find anchors. Not safe for concurrent use.
type scanner struct {
	*index
	words [2]*numeric // by words 4 and 8 bytes apart
	new   []byte      // a part of the new file
	base  int         // where that begins: positions here count from there
	dense bool        // whether all bytes of the new file are counted, not one in eight
	stats *stats
}

// matches returns how many of the next 32 bytes of new at i agree with the old ones at o.
func matches(new []byte, i int, old []byte, o int) int {
	if o < 0 || o+32 > len(old) || i+32 > len(new) {
		n := 0
		for k := range 32 {
			if i+k < len(new) && o+k >= 0 && o+k < len(old) && new[i+k] == old[o+k] {
				n++
			}
		}
		return n
	}
	a, b := new[i:i+32], old[o:o+32]
	return zeroBytes(load64(a, 0)^load64(b, 0)) + zeroBytes(load64(a, 8)^load64(b, 8)) +
		zeroBytes(load64(a, 16)^load64(b, 16)) + zeroBytes(load64(a, 24)^load64(b, 24))
}

// run returns the differences at i, at most maxRun of them up to the first equal byte, and their
// number. The caller makes sure that one byte exists at both places.
func run(new []byte, i int, old []byte, o int) (w uint32, n int) {
	for n < maxRun && i+n < len(new) && o+n < len(old) {
		d := new[i+n] - old[o+n]
		if d == 0 {
			break
		}
		w |= uint32(d) << (8 * n)
		n++
	}
	return w, n
}

// scan collects anchors in [from, to), by following one alignment as long as it is good and looking
// for others where it is not.
func (s *scanner) scan(ctx context.Context, from, to int) ([]anchor, error) {
	var out []anchor
	off := s.base
	polled := from
	counted, told, hit := from, from-remind, from
	wordOff := int32(literal)
	for i := from; i < to; {
		if i-polled > 1<<16 {
			polled = i
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
		o := i + off
		if o >= 0 && o < len(s.old) {
			n := equalLen(s.new[i:to], s.old[o:])
			if n >= 16 && i >= told+remind {
				// The parse may have left this alignment since.
				told = i
				out = append(out, anchor{int32(i), int32(off)})
			}
			i += n
			if n >= 16 || i >= to {
				hit = i
				continue
			}
			o += n
		}
		m := matches(s.new, i, s.old, o)
		if m >= fairMatches && i >= counted {
			w, n := run(s.new, i, s.old, o)
			s.stats.runs[runHash(w, n, s.stats.shift)]++
			counted = i + n
			if m >= goodMatches {
				i += n
				continue
			}
		}
		if m >= goodMatches || m >= fairMatches && i&3 != 0 {
			i++
			continue
		}
		if i&3 == 0 {
			for _, x := range s.words {
				if at := x.search(s.new, i, o); at >= 0 && int32(at-i) != wordOff {
					wordOff = int32(at - i)
					out = append(out, anchor{int32(i), wordOff})
				}
			}
		}
		at, l := s.search(s.new, i, o)
		if l < minAnchor || at-i == off {
			// Where nothing has been found for long, look at fewer places; odd distances reach
			// every position of the index in the end.
			i += 1 + 2*min(3, (i-hit)>>12)
			continue
		}
		hit = i
		back := equalLenBack(s.new[max(from, i-maxBack):i], s.old[:at])
		out = append(out, anchor{int32(i - back), int32(at - i)})
		here := 0
		for k := range min(l, 64) {
			if o+k >= 0 && o+k < len(s.old) && s.new[i+k] == s.old[o+k] {
				here++
			}
		}
		if min(l, 64) > here+4 {
			off = at - i
			told = i
			i += l
			continue
		}
		i++
	}
	prev := byte(0)
	for i := from; i < to; i++ {
		if s.dense || ((i+s.base)>>13)&7 == 0 {
			s.stats.pairs[uint32(prev)<<8|uint32(s.new[i])]++
			prev = s.new[i]
		}
	}
	return out, nil
}

// parser finds the cheapest way through one chunk after the other. Not safe for concurrent use.
type parser struct {
	old, new []byte // new is a part of the new file, which begins at base: positions count from there
	base     int
	model    *model
	// What it costs to go to another alignment, and from bytes that are not from the old file to one.
	costSwitch, costResume int32
	lanes                  []lane
	nodes                  []node
	recent                 [32]int32 // alignments used last, a ring
	recents                int
}

// lane is one alignment of old and new bytes that is followed: the cheapest way to make what is
// behind with this alignment in use at the end.
type lane struct {
	offset int32 // old position less new position, or literal
	cost   int32 // in 1/costUnit bits
	start  int32 // since where this alignment is in use
	paid   int32 // up to where differences are in cost
	parent int32 // node of what was in use before; -1 for nothing
	node   int32 // node of this use, once another lane needs it as parent; else -1
	useful int32 // up to where it has been worth following
}

// node is one use of an alignment on a way.
type node struct {
	start, offset, parent int32
}

// parse returns the segments of [from, to).
func (s *parser) parse(ctx context.Context, anchors []anchor, fixed []stretch, from, to int) ([]segment, error) {
	s.nodes = s.nodes[:0]
	s.recents = 0
	s.lanes = append(s.lanes[:0], lane{offset: literal, start: int32(from), parent: -1, node: -1, cost: costLiteral})
	s.addLane(int32(s.base), from, from+2*lead, true)
	best := 0
	new, old := s.new, s.old
	polled, retried := from, from
	for i := from; i < to; {
		if i-polled > 1<<16 {
			polled = i
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			s.rebase()
		}
		for len(fixed) > 0 && fixed[0].to <= i+s.base {
			fixed = fixed[1:]
		}
		end := to
		if len(fixed) > 0 {
			f := fixed[0].moved(s.base)
			if i >= f.from {
				best = s.force(f.offset, best, i)
				s.skip(best, min(f.to, to))
				best = 1
				i = min(f.to, to)
				continue
			}
			end = min(to, f.from)
		}
		for len(anchors) > 0 && int(anchors[0].at)-lead <= i {
			s.addLane(anchors[0].offset, i, i+2*lead, false)
			anchors = anchors[1:]
			best = s.best()
		}
		off := s.lanes[best].offset
		o := i + int(off)
		if off != literal && o >= 0 && o < len(old) {
			if n := equalLen(new[i:end], old[o:]); n >= 64 {
				// Nothing else can be better at the end of this.
				s.skip(best, i+n)
				best = 1
				i += n
				continue
			}
		}
		if i >= retried+retryEvery {
			retried = i
			s.lanes[best].useful = max(s.lanes[best].useful, int32(i))
			s.retry(i, off)
		}
		s.step(i, best)
		best = s.best()
		i++
	}
	return s.trace(best), nil
}

// retry follows alignments again that were used before where the current one is poor.
func (s *parser) retry(i int, off int32) {
	m := 0
	if off != literal {
		if s.recents == 0 || s.recent[(s.recents-1)%len(s.recent)] != off {
			s.remember(off)
		}
		if m = matches(s.new, i, s.old, i+int(off)); m >= retryBelow {
			return
		}
	}
	m = max(m, retryFrom-1)
	again := off
	for _, r := range s.recent[:min(s.recents, len(s.recent))] {
		if n := matches(s.new, i, s.old, i+int(r)); n > m {
			m, again = n, r
		}
	}
	if again != off {
		s.addLane(again, i, i, false)
	}
}

func (s *parser) remember(off int32) {
	for _, r := range s.recent[:min(s.recents, len(s.recent))] {
		if r == off {
			return
		}
	}
	s.recent[s.recents%len(s.recent)] = off
	s.recents++
}

func (s *parser) best() int {
	b := 0
	for i := range s.lanes {
		if s.lanes[i].cost < s.lanes[b].cost {
			b = i
		}
	}
	return b
}

// rebase keeps costs small.
func (s *parser) rebase() {
	low := s.lanes[s.best()].cost
	for i := range s.lanes {
		s.lanes[i].cost -= low
	}
}

// use returns the node of the current use of lane b.
func (s *parser) use(b int) int32 {
	l := &s.lanes[b]
	if l.node < 0 {
		l.node = int32(len(s.nodes))
		s.nodes = append(s.nodes, node{l.start, l.offset, l.parent})
	}
	return l.node
}

// addLane follows an alignment from position i on, if it is not followed yet, in place of the one
// that was useful the longest time ago if there are too many. It may be of use up to position until.
// First is whether nothing was in use before.
func (s *parser) addLane(off int32, i, until int, first bool) {
	b := s.best()
	worst := -1
	for k := range s.lanes {
		l := &s.lanes[k]
		if l.offset == off {
			l.useful = max(l.useful, int32(until))
			return
		}
		if k == 0 || k == b {
			continue
		}
		if worst < 0 || l.useful < s.lanes[worst].useful || l.useful == s.lanes[worst].useful && l.cost > s.lanes[worst].cost {
			worst = k
		}
	}
	l := lane{offset: off, start: int32(i), node: -1, useful: int32(until), parent: -1, cost: s.costResume}
	if !first {
		l.parent = s.use(b)
		l.cost = s.lanes[b].cost + s.costSwitch
	}
	if len(s.lanes) < maxLanes {
		s.lanes = append(s.lanes, l)
	} else if worst >= 0 {
		s.lanes[worst] = l
	}
}

// force makes lane offset the only one at position i, and returns its number.
func (s *parser) force(offset int32, best, i int) int {
	if s.lanes[best].offset == offset {
		return best
	}
	parent := s.use(best)
	cost := s.lanes[best].cost
	s.lanes = append(s.lanes[:1], lane{offset: offset, start: int32(i), node: -1, parent: parent, cost: cost, paid: int32(i)})
	return 1
}

// step adds the byte at i to every lane.
func (s *parser) step(i, best int) {
	base := s.lanes[best].cost
	enter := base + s.costSwitch
	if s.lanes[best].offset == literal {
		enter = base + s.costResume
	}
	for k := 1; k < len(s.lanes); k++ {
		l := &s.lanes[k]
		if l.cost > enter {
			if int(l.useful)+laneReach < i {
				last := len(s.lanes) - 1
				if best != last && best != k {
					s.lanes[k] = s.lanes[last]
					s.lanes = s.lanes[:last]
					k--
					continue
				}
			}
			l.parent = s.use(best)
			l.cost = enter
			l.start = int32(i)
			l.node = -1
			l.paid = int32(i)
		}
		o := i + int(l.offset)
		if uint(o) >= uint(len(s.old)) {
			l.cost += 1 << 16
			continue
		}
		if s.new[i] != s.old[o] && int(l.paid) <= i {
			s.differ(l, i, o)
		}
	}
	l := &s.lanes[0]
	if l.cost > base+costLiteral {
		l.parent = s.use(best)
		l.cost = base + costLiteral
		l.start = int32(i)
		l.node = -1
	}
	prev := byte(0)
	if i > 0 {
		prev = s.new[i-1]
	}
	l.cost += int32(s.model.pairs[uint32(prev)<<8|uint32(s.new[i])])
}

// differ adds the run of differences at i to a lane.
func (s *parser) differ(l *lane, i, o int) {
	w, n := run(s.new, i, s.old, o)
	l.paid = int32(i + n)
	switch s.relation(w, n, i, o) {
	case relationSame:
		l.cost += costRepeat
	case relationNear:
		l.cost += costNear
	default:
		l.cost += costGap + int32(s.model.runs[runHash(w, n, s.model.shift)])
	}
}

// What a run of differences has to do with those 4 or 8 bytes before.
const (
	relationNone = iota
	relationNear // each is one more, one less or the same
	relationSame
)

func (s *parser) relation(w uint32, n, i, o int) int {
	if i < 8 || o < 8 {
		return relationNone
	}
	var not4, not8, far4, far8 byte
	for k := range n {
		d := byte(w >> (8 * k))
		x4 := d - (s.new[i+k-4] - s.old[o+k-4])
		x8 := d - (s.new[i+k-8] - s.old[o+k-8])
		not4, not8 = not4|x4, not8|x8
		far4, far8 = far4|(x4+1), far8|(x8+1)
	}
	switch {
	case not4 == 0 || not8 == 0:
		return relationSame
	case far4 <= 3 || far8 <= 3:
		return relationNear
	}
	return relationNone
}

// learn counts what the segments of [from, to) are made of.
func (s *parser) learn(segments []segment, to int, seen *stats) {
	for k, g := range segments {
		if g.offset == literal {
			continue
		}
		end := to
		if k+1 < len(segments) {
			end = int(segments[k+1].start)
		}
		for i := int(g.start); i < end; {
			o := i + int(g.offset)
			i += equalLen(s.new[i:end], s.old[o:])
			if i >= end {
				break
			}
			o = i + int(g.offset)
			w, n := run(s.new, i, s.old, o)
			if s.relation(w, n, i, o) == relationNone {
				seen.runs[runHash(w, n, seen.shift)]++
			}
			i += n
		}
	}
}

// skip goes on at position i, up to where the best lane is better than any other.
func (s *parser) skip(best, i int) {
	b := s.lanes[best]
	b.useful = int32(i)
	b.paid = int32(i)
	s.lanes = append(s.lanes[:1], b)
	s.lanes[0] = lane{offset: literal, cost: b.cost + costLiteral, start: int32(i), parent: s.use(1), node: -1}
}

// trace returns the segments of the way that ends in lane b.
func (s *parser) trace(b int) []segment {
	var out []segment
	for n := s.use(b); n >= 0; n = s.nodes[n].parent {
		out = append(out, segment{s.nodes[n].start, s.nodes[n].offset})
	}
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	// A use that was left before it had a byte.
	k := 0
	for i, x := range out {
		if i+1 < len(out) && out[i+1].start == x.start {
			continue
		}
		if k > 0 && out[k-1].offset == x.offset {
			continue
		}
		out[k] = x
		k++
	}
	return out[:k]
}
