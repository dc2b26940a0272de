package match

import "context"

// searcher finds the segments of one chunk after the other. Not safe for concurrent use.
type searcher struct {
	*index
	new     []byte
	anchors []found
	lanes   []lane
	nodes   []node
}

func newSearcher(x *index, new []byte) *searcher { return &searcher{index: x, new: new} }

// lane is one alignment of old and new bytes that is followed: the cheapest way to make what is
// behind with this alignment in use at the end.
type lane struct {
	offset int32 // old position less new position, or literal
	cost   int32 // in 1/costUnit bits
	start  int32 // since where this alignment is in use
	parent int32 // node of what was in use before; -1 for nothing
	node   int32 // node of this use, once another lane needs it as parent; else -1
	useful int32 // up to where it has been worth following
}

// node is one use of an alignment on a way.
type node struct {
	start, offset, parent int32
}

func (s *searcher) chunk(ctx context.Context, from, to int) ([]segment, error) {
	if err := s.findAnchors(ctx, from, to); err != nil {
		return nil, err
	}
	return s.parse(ctx, from, to)
}

// matches returns how many of the next 32 bytes of new at i agree with the old ones at o.
func (s *searcher) matches(i, o int) int {
	if o < 0 || o+32 > len(s.old) || i+32 > len(s.new) {
		n := 0
		for k := range 32 {
			if i+k < len(s.new) && o+k >= 0 && o+k < len(s.old) && s.new[i+k] == s.old[o+k] {
				n++
			}
		}
		return n
	}
	a, b := s.new[i:i+32], s.old[o:o+32]
	return zeroBytes(load64(a, 0)^load64(b, 0)) + zeroBytes(load64(a, 8)^load64(b, 8)) +
		zeroBytes(load64(a, 16)^load64(b, 16)) + zeroBytes(load64(a, 24)^load64(b, 24))
}

// findAnchors collects stretches of equal bytes that start in [from, to), by following one
// alignment as long as it is good and looking for others where it is not.
func (s *searcher) findAnchors(ctx context.Context, from, to int) error {
	s.anchors = s.anchors[:0]
	off := 0
	polled := from
	for i := from; i < to; {
		if i-polled > 1<<18 {
			polled = i
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		o := i + off
		if o >= 0 && o < len(s.old) {
			if n := equalLen(s.new[i:], s.old[o:]); n >= 16 {
				s.anchors = append(s.anchors, found{i, o, n})
				i += n
				continue
			}
		}
		m := s.matches(i, o)
		if m >= goodMatches {
			i += 4
			continue
		}
		if m >= fairMatches && i&3 != 0 {
			i++
			continue
		}
		at, l := s.search(s.new, i, o)
		if l < minAnchor {
			i++
			continue
		}
		if at-i != off {
			back := equalLenBack(s.new[max(from, i-maxBack):i], s.old[:at])
			s.anchors = append(s.anchors, found{i - back, at - back, l + back})
			here := 0
			for k := range min(l, 64) {
				if o+k >= 0 && o+k < len(s.old) && s.new[i+k] == s.old[o+k] {
					here++
				}
			}
			if min(l, 64) > here+4 {
				off = at - i
				i += l
				continue
			}
		}
		i++
	}
	return nil
}

func (s *searcher) parse(ctx context.Context, from, to int) ([]segment, error) {
	s.nodes = s.nodes[:0]
	s.lanes = append(s.lanes[:0], lane{offset: literal, start: int32(from), parent: -1, node: -1, cost: costLiteral})
	s.addLane(0, from, true)
	best := 0
	a := 0
	new, old := s.new, s.old
	polled := from
	for i := from; i < to; {
		if i-polled > 1<<16 {
			polled = i
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			s.rebase()
		}
		for a < len(s.anchors) && s.anchors[a].new <= i {
			f := s.anchors[a]
			s.addLane(f.old-f.new, i, false)
			a++
			best = s.best()
		}
		// Eight bytes at a time while every lane agrees.
		l := &s.lanes[best]
		if l.offset != literal {
			if o := i + int(l.offset); o >= 0 && o < len(old) {
				n := equalLen(new[i:to], old[o:])
				if n >= 64 {
					// Nothing else can be better at the end of this.
					n &^= 7
					s.skip(best, i, n)
					best = s.best()
					i += n
					continue
				}
			}
		}
		s.step(i, best)
		best = s.best()
		i++
	}
	return s.trace(best, from), nil
}

func (s *searcher) best() int {
	b := 0
	for i := range s.lanes {
		if s.lanes[i].cost < s.lanes[b].cost {
			b = i
		}
	}
	return b
}

// rebase keeps costs small.
func (s *searcher) rebase() {
	low := s.lanes[s.best()].cost
	for i := range s.lanes {
		s.lanes[i].cost -= low
	}
}

// use returns the node of the current use of lane b.
func (s *searcher) use(b int) int32 {
	l := &s.lanes[b]
	if l.node < 0 {
		l.node = int32(len(s.nodes))
		s.nodes = append(s.nodes, node{l.start, l.offset, l.parent})
	}
	return l.node
}

// addLane follows an alignment from position i on, if it is not followed yet.
func (s *searcher) addLane(off, i int, first bool) {
	worst := -1
	for k := range s.lanes {
		l := &s.lanes[k]
		if l.offset == int32(off) {
			l.useful = int32(i)
			return
		}
		if l.offset != literal && (worst < 0 || l.cost > s.lanes[worst].cost) {
			worst = k
		}
	}
	b := s.best()
	l := lane{offset: int32(off), start: int32(i), node: -1, useful: int32(i), parent: -1, cost: costResume}
	if !first {
		l.parent = s.use(b)
		l.cost = s.lanes[b].cost + costSwitch
	}
	if len(s.lanes) < maxLanes {
		s.lanes = append(s.lanes, l)
	} else if worst != b {
		s.lanes[worst] = l
	}
}

// step adds the byte at i to every lane.
func (s *searcher) step(i, best int) {
	base := s.lanes[best].cost
	from := s.lanes[best].offset
	for k := 0; k < len(s.lanes); k++ {
		l := &s.lanes[k]
		enter := base + costSwitch
		if l.offset == literal {
			enter = base + costLiteral
		} else if from == literal {
			enter = base + costResume
		}
		if l.cost > enter {
			if int(l.useful)+laneReach < i && l.offset != literal {
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
		}
		if l.offset == literal {
			l.cost += costByte
			continue
		}
		l.cost += s.byteCost(i, int(l.offset))
	}
}

func (s *searcher) byteCost(i, off int) int32 {
	o := i + off
	if o < 0 || o >= len(s.old) {
		return 1 << 20
	}
	d := s.new[i] - s.old[o]
	if d == 0 {
		return 0
	}
	if i < 8 || o < 8 {
		return costNext
	}
	if d == s.new[i-4]-s.old[o-4] || d == s.new[i-8]-s.old[o-8] {
		return costRepeat
	}
	if s.new[i-1] != s.old[o-1] {
		return costNext
	}
	return costRun
}

// skip adds n bytes that are equal in the best lane to every lane.
func (s *searcher) skip(best, i, n int) {
	b := s.lanes[best]
	b.useful = int32(i + n)
	lit := s.lanes[0]
	s.lanes = append(s.lanes[:0], lit, b)
	s.lanes[0].cost = b.cost + costLiteral
	s.lanes[0].start = int32(i + n)
	s.lanes[0].parent = s.use(1)
	s.lanes[0].node = -1
}

// trace returns the segments of the way that ends in lane b.
func (s *searcher) trace(b, from int) []segment {
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
