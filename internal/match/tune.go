package match

// What the search looks at and when it looks.
const (
	// lookAt is how many places of a bucket are looked at: those nearest to where the new file's
	// bytes are expected.
	lookAt = 8
	// maxLook bounds the length at which candidates are compared; longer ones count as equally good.
	maxLook = 4096
	// goodMatches of the next 32 bytes that agree keep an alignment without looking for another,
	// fairMatches with looking at every fourth byte only.
	goodMatches = 28
	fairMatches = 18
	// minAnchor is the least number of equal bytes that makes an alignment a candidate.
	minAnchor = 10
	// maxBack is how many bytes a stretch is followed backwards.
	maxBack = 1024
	// maxLanes is how many alignments are followed at the same time, laneReach after how many bytes
	// one is left that was not useful.
	maxLanes  = 12
	laneReach = 512
)

// What the parse expects steps and bytes to cost after compression. The unit is a sixteenth of a bit.
const (
	costUnit    = 16
	costSwitch  = 44 * costUnit // to another alignment
	costLiteral = 12 * costUnit // to bytes that are not from the old file
	costResume  = 40 * costUnit // from there to an alignment
	costByte    = 7 * costUnit  // such a byte
	costRun     = 14 * costUnit // the first byte that differs after equal ones
	costNext    = 8 * costUnit  // one more
	costRepeat  = 1 * costUnit  // a difference as 4 or 8 bytes before
)
