package lzma

// The LZMA probability models, as the encoder keeps them.
//
// LZMA codes every decision as a bit with an adaptive probability. A probability is an
// 11 bit number, the chance of a 0 bit in 1/2048; after each bit it moves by 1/32 of the
// distance to certainty.
const (
	probBits  = 11
	probInit  = 1 << (probBits - 1)
	probMove  = 5
	rangeTop  = 1 << 24
	minMatch  = 2   // shortest match LZMA can name
	maxMatch  = 273 // longest: 2 + 8 + 8 + 256 - 1
	numStates = 12
	maxPosSts = 16 // 1 << maximum pb

	slotCount   = 64
	alignBits   = 4
	alignSize   = 1 << alignBits
	slotModels  = 14  // distance slots from here on have direct bits
	fullDists   = 128 // distances below have a model for every bit
	lenStates   = 4
	literalSize = 0x300 // probabilities of one literal context
)

// How the state (what the last few symbols were) moves on. States below 7 mean that the
// last symbol was a literal.
var (
	stateLiteral  = [16]uint8{0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 4, 5}
	stateMatch    = [16]uint8{7, 7, 7, 7, 7, 7, 7, 10, 10, 10, 10, 10}
	stateRep      = [16]uint8{8, 8, 8, 8, 8, 8, 8, 11, 11, 11, 11, 11}
	stateShortRep = [16]uint8{9, 9, 9, 9, 9, 9, 9, 11, 11, 11, 11, 11}
)

const firstMatchState = 7

type lenModel struct {
	choice, choice2 uint16
	low, mid        [maxPosSts][8]uint16
	high            [256]uint16
}

type encModels struct {
	isMatch    [numStates][maxPosSts]uint16
	isRep0Long [numStates][maxPosSts]uint16
	isRep      [numStates]uint16
	isRepG0    [numStates]uint16
	isRepG1    [numStates]uint16
	isRepG2    [numStates]uint16
	slot       [lenStates][slotCount]uint16
	special    [fullDists]uint16
	align      [alignSize]uint16
	matchLen   lenModel
	repLen     lenModel
	// literal holds literalSize probabilities for each of the 1<<(lc+lp) contexts;
	// lc+lp is at most 4 in LZMA2.
	literal [literalSize << 4]uint16
}

func resetProbs(p []uint16) {
	for i := range p {
		p[i] = probInit
	}
}

func (l *lenModel) reset() {
	l.choice, l.choice2 = probInit, probInit
	for i := range l.low {
		resetProbs(l.low[i][:])
		resetProbs(l.mid[i][:])
	}
	resetProbs(l.high[:])
}

func (m *encModels) reset(lclp int) {
	for i := range m.isMatch {
		resetProbs(m.isMatch[i][:])
		resetProbs(m.isRep0Long[i][:])
	}
	resetProbs(m.isRep[:])
	resetProbs(m.isRepG0[:])
	resetProbs(m.isRepG1[:])
	resetProbs(m.isRepG2[:])
	for i := range m.slot {
		resetProbs(m.slot[i][:])
	}
	resetProbs(m.special[:])
	resetProbs(m.align[:])
	m.matchLen.reset()
	m.repLen.reset()
	resetProbs(m.literal[:literalSize<<lclp])
}
