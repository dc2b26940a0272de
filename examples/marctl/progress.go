package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// progress shows how far a job is: the step, the rate and the time that is left. On a terminal that is one line that
// changes; elsewhere a line every ten seconds, so that a log of short work has none. Safe for concurrent use.
type progress struct {
	w        io.Writer // nil: silent
	terminal bool
	every    time.Duration
	counts   bool // things are counted, not bytes
	stop     chan struct{}
	ended    sync.WaitGroup

	mu    sync.Mutex
	steps map[string]*step
	now   *step
	drawn bool
}

// A step is how far one step of the job is.
type step struct {
	what        string
	detail      string
	begin       time.Time
	done, total int64
}

const (
	progressOnTerminal = 200 * time.Millisecond
	progressInLog      = 10 * time.Second
)

func (a *app) newProgress(what string) *progress { return a.progressEvery(what, progressInLog) }

// progressEvery shows a line as often as it says, where standard error is no terminal.
func (a *app) progressEvery(what string, every time.Duration) *progress {
	p := &progress{steps: map[string]*step{}}
	if a.quiet {
		return p
	}
	f, ok := a.stderr.(*os.File)
	if p.terminal = ok && isTerminal(f) && os.Getenv("TERM") != "dumb"; p.terminal {
		every = progressOnTerminal
	}
	return p.start(a.stderr, what, every)
}

// start shows the progress until it ends.
func (p *progress) start(w io.Writer, what string, every time.Duration) *progress {
	p.w, p.every, p.stop = w, every, make(chan struct{})
	p.set(what, 0, 0)
	p.ended.Go(func() {
		tick := time.NewTicker(p.every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.draw()
			case <-p.stop:
				return
			}
		}
	})
	return p
}

// set says how far a step is; a total of 0 or less means that nobody knows.
func (p *progress) set(what string, done, total int64) { p.detailed(what, "", done, total) }

// detailed is set with a remark, such as the file that is worked on.
func (p *progress) detailed(what, detail string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w == nil {
		return
	}
	s := p.steps[what]
	if s == nil {
		s = &step{what: what, begin: time.Now()}
		p.steps[what] = s
	}
	if total > 0 {
		s.done, s.total = min(done, total), total
	}
	s.detail, p.now = detail, s
}

// draw writes the line.
func (p *progress) draw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w == nil {
		return
	}
	line := p.now.line(time.Now(), p.counts)
	out := &printer{w: p.w}
	if !p.terminal {
		out.printf("%s\n", line)
		return
	}
	if f, ok := p.w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 1 {
			if runes := []rune(line); len(runes) >= width {
				line = string(runes[:width-1])
			}
		}
	}
	p.drawn = true
	out.printf("\r\x1b[K%s", line)
}

// line says how far a step is: "diffing  45 %  123.4 of 270.1 MB  12.3 MB/s  about 11s left  libxul.so".
func (s *step) line(now time.Time, counts bool) string {
	parts := []string{s.what}
	elapsed := now.Sub(s.begin)
	if s.total > 0 {
		parts = append(parts, fmt.Sprintf("%d %%", 100*s.done/s.total))
		rate := float64(s.done) / max(elapsed.Seconds(), 1e-3)
		if counts {
			parts = append(parts, fmt.Sprintf("%d of %d", s.done, s.total))
		} else {
			parts = append(parts, fmt.Sprintf("%.1f of %.1f MB", float64(s.done)/1e6, float64(s.total)/1e6), fmt.Sprintf("%.1f MB/s", rate/1e6))
		}
		if s.done > 0 && s.done < s.total {
			left := time.Duration(float64(s.total-s.done) / rate * float64(time.Second))
			parts = append(parts, fmt.Sprintf("about %v left", left.Round(time.Second)))
		}
	}
	if s.total <= 0 || s.done == 0 {
		parts = append(parts, fmt.Sprintf("since %v", elapsed.Round(time.Second)))
	}
	if s.detail != "" {
		parts = append(parts, s.detail)
	}
	return strings.Join(parts, "  ")
}

// end removes the line. A second call does nothing.
func (p *progress) end() {
	p.mu.Lock()
	w := p.w
	p.w = nil
	p.mu.Unlock()
	if w == nil {
		return
	}
	close(p.stop)
	p.ended.Wait()
	if p.drawn {
		(&printer{w: w}).printf("\r\x1b[K")
	}
}
