package match

// What the search looks at and when it looks.
const (
	// lookAt is how many places of a bucket are looked at: those nearest to where the new file's
	// bytes are expected.
	lookAt = 64
	// maxLook bounds the length at which candidates are compared; longer ones count as equally good.
	maxLook = 4096
	// goodMatches of the next 32 bytes that agree keep an alignment without looking for another,
	// fairMatches with looking at every fourth byte only.
	goodMatches = 32
	fairMatches = 26
	// minAnchor is the least number of equal bytes that makes an alignment a candidate.
	minAnchor = 8
	// maxBack is how many bytes a stretch is followed backwards.
	maxBack = 1024
	// remind is after how many bytes an alignment that goes on is named again.
	remind = 256
	// joinedBack is the longest stretch that may get the alignment of the one behind it; it is looked at each time that this
	// is tried.
	joinedBack = 1 << 16
	// lead is how many bytes before its stretch an alignment is followed.
	lead = 32
	// maxLanes is how many alignments are followed at the same time, laneReach after how many bytes
	// one is left that was not useful.
	maxLanes  = 12
	laneReach = 512
	// retryEvery is after how many bytes the alignments used last are looked at again where the
	// current one agrees in fewer than retryBelow of 32 bytes; retryFrom is what makes one a
	// candidate.
	retryEvery = 16
	retryBelow = 24
	retryFrom  = 12
	// denseNew is the size up to which all bytes of a new file are counted to say what a byte costs.
	denseNew = 1 << 19
	// passes is how often the cheapest way is looked for.
	passes = 2
	// litScale is what part of its entropy, in 64ths, a byte costs that is not from the old file:
	// the compressor finds longer repetitions than the model that says the entropy.
	litScale = 46
)

// What the parse expects steps and bytes to cost after compression. The unit is a sixteenth of a bit.
const (
	costUnit    = 16
	costSwitch  = 44 * costUnit // to another alignment
	costLiteral = 10 * costUnit // to bytes that are not from the old file
	costResume  = 40 * costUnit // from there to an alignment
	costGap     = 9 * costUnit  // the equal bytes before a run of differences
	costRepeat  = 1 * costUnit  // a run of differences as 4 or 8 bytes before
	costNear    = 9 * costUnit  // one that is nearly so, for carries go from byte to byte
)
