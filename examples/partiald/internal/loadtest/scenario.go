// Package loadtest puts a running partiald under load, as a scenario says, and reports how it stood: latencies, errors,
// the memory of the target, and whether everything that was asked for is there and right at the end. Reports can be
// compared, which says what became slower beyond noise.
//
// Requests come at fixed rates, whether the target keeps up or not (an open loop), and a latency counts from the moment
// at which its request was due. So a target that stands still for a second shows in a second's worth of latencies, not
// in one. Requests are sent with github.com/tsenart/vegeta.
//
//	scenario ──► completes made on the spot ──► uploaded, or served from here
//	         ──► loads side by side ──► answers checked ──► settled: every job done, every partial proved
//	         ──► Report ──► JSON, page with plots, comparison
package loadtest

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/config"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/sample"
)

// Kind is what a load asks for.
type Kind string

// The kinds.
const (
	Status   Kind = "status"   // GET the status of a job that is done
	Ask      Kind = "ask"      // POST a request for a partial that is there
	Download Kind = "download" // GET a partial; its bytes are compared with its hash
	Page     Kind = "page"     // GET the page of a job that is done
	New      Kind = "new"      // POST a request for a partial that was never made, waiting for its end
	Watch    Kind = "watch"    // GET the events of a job that is under work, to their end
	Upload   Kind = "upload"   // POST a complete update that was never uploaded
)

// Kinds returns all kinds.
func Kinds() []Kind { return []Kind{Status, Ask, Download, Page, New, Watch, Upload} }

// Scenario is what a load test does. It is read from TOML, see [Parse].
type Scenario struct {
	Name  string      `toml:"-" json:"name"` // of the file, without its ending
	About string      `toml:"about" json:"about,omitempty"`
	Size  config.Size `toml:"size" json:"size"` // of a complete update before it is packed, in bytes
	Load  []Load      `toml:"load" json:"load"`
}

// Load is requests of one kind at one rate.
type Load struct {
	Kind     Kind            `toml:"kind" json:"kind"`
	Rate     float64         `toml:"rate" json:"rate"` // requests a second
	Start    config.Duration `toml:"start" json:"start,omitzero"`
	Duration config.Duration `toml:"duration" json:"duration"`
	PerJob   int             `toml:"per_job" json:"per_job,omitempty"` // watch: how many watch each job
	Size     config.Size     `toml:"size" json:"size,omitempty"`       // upload: of what is uploaded, before it is packed
}

// What a scenario may ask for. A load test is bounded in requests, in time, and in what it leaves on the target.
const (
	maxLoads    = 20
	maxRate     = 50_000
	maxDuration = 2 * time.Hour
	maxRequests = 10_000_000
	maxNew      = 20_000
	maxUploaded = 8 << 30
)

// ScenarioError says what is wrong with a scenario.
type ScenarioError struct{ Name, Reason string }

func (e *ScenarioError) Error() string { return fmt.Sprintf("scenario %s: %s", e.Name, e.Reason) }

//go:embed scenarios/*.toml
var files embed.FS

// Builtin returns the scenarios that come with the program, by name.
func Builtin() ([]Scenario, error) {
	names, err := fs.Glob(files, "scenarios/*.toml")
	if err != nil {
		return nil, err
	}
	var out []Scenario
	for _, name := range names {
		data, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		s, err := Parse(strings.TrimSuffix(path.Base(name), ".toml"), data)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// Parse reads a scenario. The error is a [*ScenarioError], which has the line where the text cannot be read.
func Parse(name string, data []byte) (Scenario, error) {
	s := Scenario{Name: name, Size: 64 << 10}
	wrong := func(format string, args ...any) (Scenario, error) {
		return Scenario{}, &ScenarioError{name, fmt.Sprintf(format, args...)}
	}
	if len(data) > 1<<20 {
		return wrong("has %d bytes, more than a MiB", len(data))
	}
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&s); err != nil {
		var strict *toml.StrictMissingError
		var decode *toml.DecodeError
		switch {
		case errors.As(err, &strict):
			return wrong("has a key that is not known:\n%s", strict.String())
		case errors.As(err, &decode):
			return wrong("cannot be read:\n%s", decode.String())
		}
		return wrong("cannot be read: %v", err)
	}
	s.Name = name
	return s, s.check()
}

// check says what is wrong with a scenario, with defaults filled in.
func (s *Scenario) check() error {
	wrong := func(format string, args ...any) error { return &ScenarioError{s.Name, fmt.Sprintf(format, args...)} }
	if len(s.Load) == 0 || len(s.Load) > maxLoads {
		return wrong("has %d loads, want 1 to %d", len(s.Load), maxLoads)
	}
	if s.Size < sample.MinSize || s.Size > sample.MaxSize {
		return wrong("size is %s, want %s to %s", s.Size, config.Size(sample.MinSize), config.Size(sample.MaxSize))
	}
	var requests, fresh, uploaded float64
	for i := range s.Load {
		l := &s.Load[i]
		at := func(format string, args ...any) error { return wrong("load %d: %s", i+1, fmt.Sprintf(format, args...)) }
		switch {
		case !slices.Contains(Kinds(), l.Kind):
			return at("kind is %q, want one of %v", l.Kind, Kinds())
		case !(l.Rate >= 0.01 && l.Rate <= maxRate):
			return at("rate is %v requests a second, want 0.01 to %d", l.Rate, maxRate)
		case l.Duration.Duration <= 0 || l.Start.Duration+l.Duration.Duration > maxDuration:
			return at("ends after %v, want more than 0 and at most %v", l.Start.Duration+l.Duration.Duration, maxDuration)
		case l.PerJob != 0 && l.Kind != Watch:
			return at("per_job is for watch alone")
		case l.PerJob < 0 || l.PerJob > 1000:
			return at("per_job is %d, want 1 to 1000", l.PerJob)
		case l.Size != 0 && l.Kind != Upload:
			return at("size is for upload alone; the scenario has its own")
		case l.Size != 0 && (l.Size < sample.MinSize || l.Size > sample.MaxSize):
			return at("size is %s, want %s to %s", l.Size, config.Size(sample.MinSize), config.Size(sample.MaxSize))
		}
		if l.Kind == Watch && l.PerJob == 0 {
			l.PerJob = 10
		}
		if l.Kind == Upload && l.Size == 0 {
			l.Size = 1 << 20
		}
		n := l.requests()
		requests += n
		fresh += float64(l.jobs())
		if l.Kind == Upload {
			uploaded += n * float64(l.Size)
		}
	}
	switch {
	case requests > maxRequests:
		return wrong("makes %.0f requests, more than %d", requests, maxRequests)
	case fresh > maxNew:
		return wrong("makes %.0f new partials, more than %d", fresh, maxNew)
	case uploaded > maxUploaded:
		return wrong("uploads %s, more than %s", config.Size(uploaded), config.Size(maxUploaded))
	}
	return nil
}

// requests is how many a load makes.
func (l *Load) requests() float64 { return math.Ceil(l.Rate * l.Duration.Seconds()) }

// jobs is how many new partials a load needs.
func (l *Load) jobs() int {
	switch l.Kind {
	case New:
		return int(l.requests())
	case Watch:
		return int(l.requests())/l.PerJob + 1
	}
	return 0
}

// Scale returns the scenario with other rates and times: both are factors, 1 changes nothing. The error is a
// [*ScenarioError] where the result asks for too much.
func (s Scenario) Scale(rate, duration float64) (Scenario, error) {
	s.Load = slices.Clone(s.Load)
	for i := range s.Load {
		l := &s.Load[i]
		l.Rate *= rate
		l.Start.Duration = time.Duration(float64(l.Start.Duration) * duration)
		l.Duration.Duration = time.Duration(float64(l.Duration.Duration) * duration)
	}
	return s, s.check()
}
