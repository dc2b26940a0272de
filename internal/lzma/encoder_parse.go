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

func (p *parser) usedMatch(ps, dist uint32) {
	p.lens.left[ps]--
	p.matchUses--
	if dist >= fullDists {
		p.alignUses--
	}
}

func (p *parser) usedRep(ps uint32) { p.reps.left[ps]-- }

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
	end := uint32(0)
	cur := uint32(0)
	for {
		if cur > 0 {
			if cur == end || cur >= parseMax {
				p.trace(cur)
				return
			}
			p.arrive(cur)
		}
		i := e.pos + cur
		avail := uint32(len(e.buf)) - i
		matches := e.finder.find(e.buf, i, e.base+i, avail)
		e.head = i + 1
		n := &p.node[cur]
		// A match of the nice length ends the parse: nothing is expected to beat it.
		if top := min(avail, e.nice); top >= 5 {
			long := step{}
			if k, l := e.longestRep(n, i, top); l >= top {
				long = step{back: k, length: equalLen(e.buf, i, i-n.reps[k]-1, l, min(avail, maxMatch))}
			} else if len(matches) > 0 && matches[len(matches)-1].length >= top {
				d := matches[len(matches)-1].dist
				long = step{back: d + 4, length: equalLen(e.buf, i, i-d-1, top, min(avail, maxMatch))}
			}
			if long.length > 0 {
				p.trace(cur)
				p.path = append(p.path, long)
				for e.head < i+long.length {
					e.finder.skip(e.buf, e.head, e.base+e.head, uint32(len(e.buf))-e.head)
					e.head++
				}
				return
			}
		}
		end = e.expand(cur, end, matches)
		cur++
	}
}

func (e *Encoder) longestRep(n *node, i, top uint32) (k, length uint32) {
	for j, d := range n.reps {
		if d >= i || d >= e.dict {
			continue
		}
		if l := equalLen(e.buf, i, i-d-1, 0, top); l > length {
			k, length = uint32(j), l
		}
	}
	return k, length
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

// expand prices every symbol that may stand at cur.
func (e *Encoder) expand(cur, end uint32, matches []match) uint32 {
	p, m, buf := &e.parser, &e.models, e.buf
	i := e.pos + cur
	avail := uint32(len(buf)) - i
	here := &p.node[cur]
	st, ps := here.state, i&(1<<e.pb-1)
	base := p.price[cur]
	b := buf[i]
	var mb byte
	hasRep0 := here.reps[0] < i
	if hasRep0 {
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
	literalIsBest := false
	if lit < p.price[cur+1] {
		p.set(cur+1, lit, backLiteral, 1, 0)
		literalIsBest = true
	}
	match := base + price1(m.isMatch[st][ps])
	rep := match + price1(m.isRep[st])
	if hasRep0 && mb == b {
		short := rep + price0(m.isRepG0[st]) + price0(m.isRep0Long[st][ps])
		if short < p.price[cur+1] {
			p.set(cur+1, short, 0, 1, 0)
			literalIsBest = false
		}
	}
	if avail < 2 {
		return end
	}
	top := min(avail, e.nice)
	if !literalIsBest && hasRep0 && mb != b {
		d := here.reps[0]
		if l := equalLen(buf, i+1, i-d, 0, min(avail-1, e.nice)); l >= 2 {
			price := lit + e.tailPrice(uint32(stateLiteral[st]), ps+1, l)
			end = p.grow(end, cur+1+l)
			if price < p.price[cur+1+l] {
				p.set(cur+1+l, price, backLiteral, 1+l, l)
			}
		}
	}

	shortest := uint32(2)
	for k, d := range here.reps {
		if d >= i || d >= e.dict {
			continue
		}
		l := equalLen(buf, i, i-d-1, 0, top)
		if l < 2 {
			continue
		}
		end = p.grow(end, cur+l)
		base := rep + m.repPrice(uint32(k), st, ps)
		lp := &p.reps.price[ps]
		for n := l; n >= 2; n-- {
			if price := base + lp[n]; price < p.price[cur+n] {
				p.set(cur+n, price, uint32(k), n, 0)
			}
		}
		if k == 0 {
			shortest = l + 1
		}
		end = e.thenLiteral(cur, end, base+lp[l], uint32(stateRep[st]), uint32(k), d, l)
	}
	if len(matches) == 0 || matches[len(matches)-1].length < shortest {
		return end
	}
	end = p.grow(end, cur+matches[len(matches)-1].length)
	base = match + price0(m.isRep[st])
	lp := &p.lens.price[ps]
	n := shortest
	for _, mt := range matches {
		if mt.length < shortest {
			continue
		}
		var price uint32
		for ; n <= mt.length; n++ {
			price = base + lp[n] + p.dists.of(mt.dist, n)
			if price < p.price[cur+n] {
				p.set(cur+n, price, mt.dist+4, n, 0)
			}
		}
		end = e.thenLiteral(cur, end, price, uint32(stateMatch[st]), mt.dist+4, mt.dist, mt.length)
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
