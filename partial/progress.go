package partial

import (
	"github.com/senbonzakura/senbonzakura/internal/progress"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// Step is a step of a job.
type Step = updater.Step

// Steps of Build, Pack and Verify; those of Apply are [updater.StepStaging] and [updater.StepCommitting].
const (
	StepUnpacking Step = "unpacking" // finding out which files changed; bytes are counted as they are stored, compressed
	StepDiffing   Step = "diffing"   // making patches
	StepPacking   Step = "packing"   // compressing whole files, in Build the manifests: the update is put together
	StepVerifying Step = "verifying" // proving the result
)

// An Event says how far a job has come.
type Event = updater.Event

// newCounter returns a counter that reports one step.
func newCounter(step Step, call func(Event)) *progress.Counter {
	if call == nil {
		return progress.New(nil)
	}
	return progress.New(func(file string, done, total int64) {
		call(Event{Step: step, File: file, Done: done, Total: total})
	})
}
