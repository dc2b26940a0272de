package partial

import "sync"

// Steps of Build, Pack, Verify and Apply, as they stand in events.
const (
	StepCompare  = "compare"  // finding out which files changed
	StepDiff     = "diff"     // making patches
	StepCompress = "compress" // compressing whole files, in Build the manifests: the update is put together
	StepVerify   = "verify"   // proving the result
	StepStage    = "stage"    // preparing files beside the tree
	StepCommit   = "commit"   // putting them in place
)

// An Event says how far a job has come. Done and Total count bytes of the files concerned: as they are stored, which is
// compressed, in StepCompare and StepStage, and uncompressed in the others, but for StepCommit, where they count files.
type Event struct {
	Step  string `json:"step"`
	File  string `json:"file,omitempty"` // the file that was just worked on
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
}

// progress counts what is done of one step. A nil callback makes it silent. It is safe for concurrent use.
type progress struct {
	step  string
	total int64
	call  func(Event)

	mu   sync.Mutex
	done int64
}

func newProgress(step string, total int64, call func(Event)) *progress {
	p := &progress{step: step, total: total, call: call}
	p.add("", 0)
	return p
}

func (p *progress) add(file string, n int64) {
	if p.call == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	p.call(Event{Step: p.step, File: file, Done: p.done, Total: p.total})
}
