package partial

import (
	"github.com/senbonzakura/senbonzakura/internal/progress"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// Steps of Build, Pack and Verify, as they stand in events; those of Apply are [updater.StepStage] and
// [updater.StepCommit].
const (
	StepCompare  = "compare"  // finding out which files changed; bytes are counted as they are stored, compressed
	StepDiff     = "diff"     // making patches
	StepCompress = "compress" // compressing whole files, in Build the manifests: the update is put together
	StepVerify   = "verify"   // proving the result
)

// An Event says how far a job has come.
type Event = updater.Event

// newCounter returns a counter that reports one step.
func newCounter(step string, call func(Event)) *progress.Counter {
	if call == nil {
		return progress.New(nil)
	}
	return progress.New(func(file string, done, total int64) {
		call(Event{Step: step, File: file, Done: done, Total: total})
	})
}
