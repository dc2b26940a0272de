package lzma

const (
	// parseMax is how many positions one parse looks at before it commits.
	parseMax = 4096

	backLiteral = 1<<32 - 1
)

// A step is one symbol: a literal (back is backLiteral, length 1), a repeated distance
// (back 0 to 3; back 0 with length 1 is a short rep) or a match (back is 4 + distance).
type step struct {
	back, length uint32
}

// A node is the cheapest known way to a position. It may come over more than one symbol:
// a first one of length - 1 - tail bytes (back; none at all if that length is 0), then a
// literal, then a match of tail bytes at the distance of the first. tail is 0 for a way of
// one symbol.
type node struct {
	back   uint32
	length uint32
	tail   uint32
	state  uint32
	reps   [4]uint32
}

// parser plans symbols: from a position, the cheapest way through all that is reachable,
// until all ways meet in one position.
type parser struct {
	path []step
	next int // first step of path that is not encoded yet

	lens  lenPrices // of matches
	reps  lenPrices
	dists distPrices
	slots uint32 // how many distance slots the dictionary needs

	matchUses, alignUses int
	outdoneBy            uint32

	repLen [4]uint32 // of the node that is being expanded

	price [parseMax + 3*maxMatch]uint32
	node  [parseMax + 3*maxMatch]node
}

// restart forgets the plan, and prices that come from models that were reset.
func (p *parser) restart(e *Encoder) {
	p.path, p.next = p.path[:0], 0
	p.slots = min(distSlot(e.dict-1)+1, slotCount)
	p.matchUses, p.alignUses = 0, 0
	p.lens.left, p.reps.left = [maxPosSts]int{}, [maxPosSts]int{}
}

// used counts a symbol at a position with these bits.
func (p *parser) used(s step, ps uint32) {
	switch {
	case s.back == backLiteral || s.length == 1:
	case s.back < 4:
		p.reps.left[ps]--
	default:
		p.lens.left[ps]--
		p.matchUses--
		if s.back-4 >= fullDists {
			p.alignUses--
		}
	}
}

// reprice brings price tables up to date where they have been used often enough.
func (e *Encoder) reprice() {
	p := &e.parser
	if p.matchUses <= 0 {
		p.matchUses = distUses
		p.dists.update(&e.models, p.slots)
	}
	if p.alignUses <= 0 {
		p.alignUses = alignUses
		p.dists.updateAlign(&e.models)
	}
	for ps := range 1 << e.pb {
		if p.lens.left[ps] <= 0 {
			p.lens.update(&e.models.matchLen, ps, e.nice)
		}
		if p.reps.left[ps] <= 0 {
			p.reps.update(&e.models.repLen, ps, e.nice)
		}
	}
}

// repPrice is the price of naming repeated distance k, without its length.
func (m *encModels) repPrice(k, state, ps uint32) uint32 {
	if k == 0 {
		return price0(m.isRepG0[state]) + price1(m.isRep0Long[state][ps])
	}
	price := price1(m.isRepG0[state])
	if k == 1 {
		return price + price0(m.isRepG1[state])
	}
	return price + price1(m.isRepG1[state]) + priceBit(m.isRepG2[state], k-2)
}

// parse plans the next symbols from e.pos on and enters everything they cover into the
// finder.
func (e *Encoder) parse() {
	e.reprice()
	p := &e.parser
	p.path, p.next = p.path[:0], 0
	p.price[0] = 0
	p.node[0] = node{state: e.state, reps: e.reps}
	size := uint32(len(e.buf))
	end := uint32(0)
	for cur := uint32(0); ; {
		i := e.pos + cur
		if cur > 0 && (cur == end || cur >= parseMax) {
			p.trace(cur)
			return
		}
		avail := size - i
		open := e.runs.isOpen(i)
		// Bytes until the end of the run that i is in or begins, if not many more than a
		// match can have.
		rest := uint32(0)
		if !open || i+1 < size && !e.runs.isOpen(i+1) {
			rest = e.runs.next(i+1, min(size, i+2*maxMatch)) - i
		}
		if open || cur == 0 || !p.outdone(cur, min(cur+rest, end)) {
			if cur > 0 {
				p.arrive(cur)
			}
			e.enter(i)
			e.head = i + 1
			var matches []match
			if rest > maxMatch {
				// Too far away to matter, perhaps megabytes: do not look for it again
				// and again.
			} else if rest > 0 {
				e.enterRunEnd(i + rest)
			} else {
				e.enterShort(i)
				matches = e.finder.find(e.buf, i, e.base+i)
			}
			top := min(avail, e.nice)
			k := e.repLengths(&p.node[cur], i, top)
			// A match of the nice length ends the parse: nothing is expected to beat it.
			if top >= 5 {
				long := step{}
				if p.repLen[k] >= top {
					long = step{k, equalLen(e.buf, i, i-p.node[cur].reps[k]-1, top, min(avail, maxMatch))}
				} else if m := len(matches); m > 0 && matches[m-1].length >= top {
					d := matches[m-1].dist
					long = step{d + 4, equalLen(e.buf, i, i-d-1, top, min(avail, maxMatch))}
				} else if rest >= top && !open {
					long = step{4, min(rest, maxMatch)}
				}
				if long.length > 0 {
					p.trace(cur)
					p.path = append(p.path, long)
					e.enter(i + long.length)
					return
				}
			}
			end = e.expand(cur, end, matches, rest, open)
		}
		for cur++; p.price[cur] == priceInf; cur++ {
		}
	}
}

// outdone says whether a position in a run, cur, is not worth going on from: another one
// nearer to the run's end, which is at stop, is reached for less. From there the same bytes
// can be matched, only not with the same lengths, which is what the difference allows for.
func (p *parser) outdone(cur, stop uint32) bool {
	limit := p.price[cur]
	if limit < p.outdoneBy {
		return false
	}
	limit -= p.outdoneBy
	for _, price := range p.price[cur+1 : stop+1] {
		if price <= limit {
			return true
		}
	}
	return false
}

// enter enters positions before i.
func (e *Encoder) enter(i uint32) {
	size := uint32(len(e.buf))
	for e.head < i {
		h := e.runs.next(e.head, i)
		if h == i {
			e.head = i
			return
		}
		if h+1 < size && !e.runs.isOpen(h+1) {
			e.enterRunEnd(e.runs.next(h+1, size))
		} else {
			e.enterShort(h)
			e.finder.enter(e.buf, h, e.base+h, false)
		}
		e.head = h + 1
	}
}

// enterShort enters i as the end of a run if it is one of two bytes or more. No position in
// such a run needs it, but longer runs do.
func (e *Encoder) enterShort(i uint32) {
	if i < 2 || e.buf[i-2] != e.buf[i-1] || e.buf[i-1] == e.buf[i] || e.base+i <= e.ends.last {
		return
	}
	s := i - 2
	for s > 0 && s+maxMatch > i && e.buf[s-1] == e.buf[s] {
		s--
	}
	e.ends.enter(e.buf, i, e.base+i, i-s)
}

// enterRunEnd looks up candidates for the run that ends at i, unless it did before.
func (e *Encoder) enterRunEnd(i uint32) {
	if e.ends.at == e.base+i || e.base+i <= e.ends.last {
		return
	}
	n := min(i-e.runs.start(i-1), maxMatch)
	e.ends.find(e.buf, i, e.base+i, n, &e.parser.dists)
}

// repLengths works out how long a match at each of n's repeated distances would be, up to
// top, where it is longer than at those before it; 0 where it is not. It returns which is
// the longest.
func (e *Encoder) repLengths(n *node, i, top uint32) (longest uint32) {
	p, buf := &e.parser, e.buf
	best := uint32(0)
	for k, d := range n.reps {
		p.repLen[k] = 0
		if d >= i || best >= top || buf[i-d-1+best] != buf[i+best] {
			continue
		}
		if l := equalLen(buf, i, i-d-1, 0, top); l > best {
			p.repLen[k], best, longest = l, l, uint32(k)
		}
	}
	return longest
}

// trace turns the nodes that lead to cur into path.
func (p *parser) trace(cur uint32) {
	for cur > 0 {
		n := &p.node[cur]
		first := n.length
		if n.tail > 0 {
			p.path = append(p.path, step{0, n.tail}, step{backLiteral, 1})
			first -= n.tail + 1
		}
		if first > 0 {
			p.path = append(p.path, step{n.back, first})
		}
		cur -= n.length
	}
	for i, j := 0, len(p.path)-1; i < j; i, j = i+1, j-1 {
		p.path[i], p.path[j] = p.path[j], p.path[i]
	}
}

// arrive works out state and repeated distances at cur from where its way comes from.
func (p *parser) arrive(cur uint32) {
	n := &p.node[cur]
	from := &p.node[cur-n.length]
	st := from.state
	n.reps = from.reps
	first := n.length
	if n.tail > 0 {
		first -= n.tail + 1
	}
	if first > 0 {
		switch {
		case n.back == backLiteral:
			st = uint32(stateLiteral[st])
		case n.back >= 4:
			st = uint32(stateMatch[st])
			n.reps = [4]uint32{n.back - 4, from.reps[0], from.reps[1], from.reps[2]}
		case first == 1:
			st = uint32(stateShortRep[st])
		default:
			st = uint32(stateRep[st])
			d := n.reps[n.back]
			for k := n.back; k > 0; k-- {
				n.reps[k] = n.reps[k-1]
			}
			n.reps[0] = d
		}
	}
	if n.tail > 0 {
		st = uint32(stateRep[stateLiteral[st]])
	}
	n.state = st
}

// grow makes positions up to to reachable, at no known price yet.
func (p *parser) grow(end, to uint32) uint32 {
	for end < to {
		end++
		p.price[end] = priceInf
	}
	return end
}

func (p *parser) set(at, price, back, length, tail uint32) {
	p.price[at] = price
	n := &p.node[at]
	n.back, n.length, n.tail = back, length, tail
}

// relax offers a match from cur on of every length from lo to hi, at base + lens. All of them
// matter: the encoder settles on a few lengths that become cheap because it uses them, and a
// match that is shorter than it could be lets the next one have such a length. With only the
// ends of matches and of runs, and lengths cheaper than all longer ones, a patch is one per
// cent larger.
func (p *parser) relax(cur, lo, hi, base, back uint32, lens *[maxMatch + 1]uint32) {
	// Slices of one length, so that the loop needs no checks.
	l := lens[lo : hi+1]
	known := p.price[cur+lo:][:len(l)]
	for k, price := range l {
		if price += base; price < known[k] {
			known[k] = price
			n := lo + uint32(k)
			at := &p.node[cur+n]
			at.back, at.length, at.tail = back, n, 0
		}
	}
}

// relaxMatch is relax for a match at dist, whose price depends on the shortest lengths. It
// returns the price of the longest one.
func (p *parser) relaxMatch(cur, lo, hi, base, dist, ps uint32) uint32 {
	lens := &p.lens.price[ps]
	for ; lo <= hi && lo < minMatch+lenStates-1; lo++ {
		if price := base + lens[lo] + p.dists.of(dist, lo); price < p.price[cur+lo] {
			p.set(cur+lo, price, dist+4, lo, 0)
		}
	}
	base += p.dists.of(dist, hi)
	if lo <= hi {
		p.relax(cur, lo, hi, base, dist+4, lens)
	}
	return base + lens[hi]
}

// expand prices every symbol that may stand at cur. rest is the number of bytes until the
// end of the run that cur is in or, if open, begins; 0 if there is none.
func (e *Encoder) expand(cur, end uint32, matches []match, rest uint32, open bool) uint32 {
	p, m, buf := &e.parser, &e.models, e.buf
	i := e.pos + cur
	avail := uint32(len(buf)) - i
	here := &p.node[cur]
	st, ps := here.state, i&(1<<e.pb-1)
	base := p.price[cur]
	match := base + price1(m.isMatch[st][ps])
	rep := match + price1(m.isRep[st])
	match += price0(m.isRep[st])

	if open || rest <= 2 {
		b := buf[i]
		var mb byte
		hasRep := here.reps[0] < i
		if hasRep {
			mb = buf[i-here.reps[0]-1]
		}
		lit := base + price0(m.isMatch[st][ps])
		probs := e.literalProbs(i, e.prev(i))
		if st < firstMatchState {
			lit += priceLiteral(probs, b)
		} else {
			lit += priceMatched(probs, b, mb)
		}
		end = p.grow(end, cur+1)
		best := false
		if lit < p.price[cur+1] {
			p.set(cur+1, lit, backLiteral, 1, 0)
			best = true
		}
		if hasRep && mb == b {
			short := rep + price0(m.isRepG0[st]) + price0(m.isRep0Long[st][ps])
			if short < p.price[cur+1] {
				p.set(cur+1, short, 0, 1, 0)
			}
		} else if hasRep && !best && avail > 2 {
			// If the literal is the best way to the next position, this is found there.
			if l := equalLen(buf, i+1, i-here.reps[0], 0, min(avail-1, e.nice)); l >= 2 {
				price := lit + e.tailPrice(uint32(stateLiteral[st]), ps+1, l)
				end = p.grow(end, cur+1+l)
				if price < p.price[cur+1+l] {
					p.set(cur+1+l, price, backLiteral, 1+l, l)
				}
			}
		}
	}
	if avail < 2 {
		return end
	}
	shortest, longest := uint32(2), uint32(1)
	for k, d := range here.reps {
		// The first ones are cheaper: the others are of use for what is longer.
		l := p.repLen[k]
		if l < minMatch {
			continue
		}
		end = p.grow(end, cur+l)
		base := rep + m.repPrice(uint32(k), st, ps)
		p.relax(cur, max(longest+1, minMatch), l, base, uint32(k), &p.reps.price[ps])
		longest = l
		if k == 0 {
			shortest = l + 1
		}
		end = e.thenLiteral(cur, end, base+p.reps.price[ps][l], uint32(stateRep[st]), uint32(k), d, l)
	}
	if rest > 0 {
		return e.bridges(cur, end, rest, match, open)
	}
	if len(matches) == 0 || matches[len(matches)-1].length < shortest {
		return end
	}
	end = p.grow(end, cur+matches[len(matches)-1].length)
	for _, mt := range matches {
		if mt.length < shortest {
			continue
		}
		price := p.relaxMatch(cur, shortest, mt.length, match, mt.dist, ps)
		end = e.thenLiteral(cur, end, price, uint32(stateMatch[st]), mt.dist+4, mt.dist, mt.length)
		shortest = mt.length + 1
	}
	return end
}

// bridges prices matches from cur, n bytes before the end of a run. base is the price of
// saying that it is a match.
func (e *Encoder) bridges(cur, end, n, base uint32, open bool) uint32 {
	p := &e.parser
	i := e.pos + cur
	ps := i & (1<<e.pb - 1)
	if n >= e.nice {
		return end
	}
	if !open && n >= 2 && (p.repLen[0] < n || e.extreme) {
		end = p.grow(end, cur+n)
		p.relaxMatch(cur, 2, n, base, 0, ps)
	}
	limit := min(uint32(len(e.buf))-i, e.nice)
	longest := max(n, 1)
	for f := range e.ends.found {
		c := &e.ends.found[f]
		if c.before < n || n+c.length <= longest {
			continue
		}
		l := min(n+c.length, limit)
		if l <= longest {
			break
		}
		end = p.grow(end, cur+l)
		price := p.relaxMatch(cur, longest+1, l, base, c.dist, ps)
		if e.extreme {
			end = e.thenLiteral(cur, end, price, uint32(stateMatch[p.node[cur].state]), c.dist+4, c.dist, l)
		}
		longest = l
	}
	return end
}

// tailPrice is the price of a match of length l at the last distance in state st.
func (e *Encoder) tailPrice(st, ps, l uint32) uint32 {
	m := &e.models
	ps &= 1<<e.pb - 1
	return price1(m.isMatch[st][ps]) + price1(m.isRep[st]) + m.repPrice(0, st, ps) + e.parser.reps.price[ps][l]
}

// thenLiteral tries, behind a match of length l at distance d that leads to state st, a
// literal and then the same distance again.
func (e *Encoder) thenLiteral(cur, end, price, st, back, d, l uint32) uint32 {
	p, buf := &e.parser, e.buf
	i := e.pos + cur + l
	avail := uint32(len(buf)) - i
	if avail < 3 {
		return end
	}
	n := equalLen(buf, i+1, i-d, 0, min(avail-1, e.nice))
	if n < 2 {
		return end
	}
	ps := i & (1<<e.pb - 1)
	price += price0(e.models.isMatch[st][ps]) +
		priceMatched(e.literalProbs(i, buf[i-1]), buf[i], buf[i-d-1]) +
		e.tailPrice(uint32(stateLiteral[st]), ps+1, n)
	at := cur + l + 1 + n
	end = p.grow(end, at)
	if price < p.price[at] {
		p.set(at, price, back, l+1+n, n)
	}
	return end
}
