package cache

import (
	"sync/atomic"
	"time"
)

// Usage counts entries and the bytes of their values.
type Usage struct {
	Entries int64 `json:"entries"` // how many
	Bytes   int64 `json:"bytes"`   // what their values have together
}

// Stats says what a tier did since it was opened, and what it holds now.
type Stats struct {
	Hits      int64 `json:"hits"`      // values handed out
	Misses    int64 `json:"misses"`    // including damage and expired failures
	Negatives int64 `json:"negatives"` // remembered failures handed out
	Puts      int64 `json:"puts"`      // values taken in
	Dropped   int64 `json:"dropped"`   // values that a lossy tier did not keep
	Evictions int64 `json:"evictions"` // values removed to make room
	Corrupt   int64 `json:"corrupt"`   // damaged entries found
	Errors    int64 `json:"errors"`    // calls that failed for another reason

	// Kinds says what is held, by kind. On disk it counts what every process put there.
	Kinds map[Kind]Usage `json:"kinds"`
}

type counters struct {
	hits, misses, negatives, puts, evictions, corrupt, errors atomic.Int64
}

func (c *counters) snapshot() Stats {
	return Stats{
		Hits: c.hits.Load(), Misses: c.misses.Load(), Negatives: c.negatives.Load(), Puts: c.puts.Load(),
		Evictions: c.evictions.Load(), Corrupt: c.corrupt.Load(), Errors: c.errors.Load(),
	}
}

// Filter chooses entries. Conditions that are set must all hold; the zero Filter chooses everything.
type Filter struct {
	Key  *Key          // this entry only
	Kind Kind          // entries of this kind
	Age  time.Duration // entries not used for at least this long (on disk, use is noted to the hour)
}

func (f Filter) matches(k Key, unused time.Duration) bool {
	return (f.Key == nil || *f.Key == k) && (f.Kind == "" || f.Kind == k.Kind) && (f.Age <= 0 || unused >= f.Age)
}
