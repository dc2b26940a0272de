package senbonzakura

import (
	"slices"
	"sync"
	"time"
)

// An Observer is told what a [Generator] does, for metrics; who waits for one update wants the progress of
// [Generator.Generate] instead. Each function may be nil. They may be called from several goroutines at once and must
// return soon. What happens in the cache is told by [cache.LayeredOptions].
type Observer struct {
	// Step is called when a step of a job is over, also where the job failed then. took is the time on the clock from the first
	// [Event] of the step to the first one of a later step, or to the end of the job. What was not done is not told:
	// StepFetching where both completes were in the cache, everything where the update was. Equal requests at one time are
	// one job.
	Step func(step Step, took time.Duration)
	// Answered is called once at the end of each call of Generate, GenerateTo and Make.
	Answered func(Answer)
}

// An Answer is how a call ended.
type Answer struct {
	// Took is how long the call took on the clock, waiting included.
	Took time.Duration
	// Cached says that the update was there already.
	Cached bool
	// Size and Complete are the bytes of the update and of TO, the complete update that it replaces; 0 with an error. The
	// difference is what one client saves.
	Size, Complete int64
	// Err is what the call returned; [FaultOf] makes a label of it.
	Err error
}

// observe tells how a call ended.
func (g *Generator) observe(began time.Time, result **Result, err *error) {
	if g.opts.Observe.Answered == nil {
		return
	}
	a := Answer{Took: time.Since(began), Err: *err}
	if r := *result; r != nil && *err == nil {
		a.Cached, a.Size, a.Complete = r.Cached, r.Size, r.Provenance.To.Size
	}
	g.opts.Observe.Answered(a)
}

// stepOrder is that of the steps.
var stepOrder = []Step{StepFetching, StepUnpacking, StepDiffing, StepPacking, StepVerifying, StepSigning, StepStoring}

// steps measures how long each step of a job takes. Steps overlap; the latest one counts.
type steps struct {
	tell func(Step, time.Duration)

	mu    sync.Mutex
	now   Step // "" before the first
	since time.Time
}

// at takes notice of an event.
func (s *steps) at(step Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == "" || slices.Index(stepOrder, step) > slices.Index(stepOrder, s.now) {
		s.over()
		s.now, s.since = step, time.Now()
	}
}

// end says that the job is over. It may begin again.
func (s *steps) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over()
	s.now = ""
}

func (s *steps) over() {
	if s.now != "" && s.tell != nil {
		s.tell(s.now, time.Since(s.since))
	}
}
