package updater

import "github.com/senbonzakura/senbonzakura/internal/progress"

// Steps of Apply, as they stand in events.
const (
	StepStage  = "stage"  // preparing files beside the tree
	StepCommit = "commit" // putting them in place
)

// An Event says how far a job has come. Done and Total count bytes of the files concerned, but for StepCommit, where they
// count files; in StepStage as they are stored, which is compressed.
type Event struct {
	Step  string `json:"step"`
	File  string `json:"file,omitempty"` // the file that was just worked on
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
}

// counter returns a counter that reports one step.
func counter(step string, call func(Event)) *progress.Counter {
	if call == nil {
		return progress.New(nil)
	}
	return progress.New(func(file string, done, total int64) {
		call(Event{Step: step, File: file, Done: done, Total: total})
	})
}
