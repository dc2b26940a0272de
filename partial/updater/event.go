package updater

import "github.com/senbonzakura/senbonzakura/internal/progress"

// Step is a step of a job: of Apply, of Build and Pack in package partial, or of the whole job in package senbonzakura.
type Step string

// Steps of Apply.
const (
	StepStaging    Step = "staging"    // preparing files beside the tree
	StepCommitting Step = "committing" // putting them in place
)

// An Event says how far a job has come. Done and Total count bytes of the files concerned, but for StepCommitting, where they
// count files; in StepStaging as they are stored, which is compressed.
type Event struct {
	Step  Step   `json:"step"`           // what is being done
	File  string `json:"file,omitempty"` // the file that was just worked on
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
	// From and To are what the completes say of themselves, in the first event of a whole job after both were read; nil
	// else.
	From *Identity `json:"-"`
	To   *Identity `json:"-"`
}

// counter returns a counter that reports one step.
func counter(step Step, call func(Event)) *progress.Counter {
	if call == nil {
		return progress.New(nil)
	}
	return progress.New(func(file string, done, total int64) {
		call(Event{Step: step, File: file, Done: done, Total: total})
	})
}
