package web

import (
	"context"
	"fmt"
	"html/template"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/internal/chain"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/plot"
)

func bytesAxis() plot.Axis {
	return plot.Axis{Bytes: true, Label: func(v float64) string { return humanBytes(int64(v)) }}
}

func timeAxis() plot.Axis {
	return plot.Axis{Label: func(v float64) string { return seconds(v) }}
}

// maxColumns is how many partials the picture of sizes shows.
const maxColumns = 30

// sizes shows partials beside their completes, the newest on the right; nothing where there is nothing to compare.
func sizes(jobs []job.Status) template.HTML {
	var cols []plot.Column
	for _, st := range jobs {
		if st.Result == nil || st.State != job.Done || len(cols) == maxColumns {
			continue
		}
		label := st.Result.ToVersion
		if st.Spec.Locale != "" {
			label = strings.TrimSpace(label + " " + st.Spec.Locale)
		}
		cols = append(cols, plot.Column{
			Label: plain(chain.Cut(label, 16)), Title: subject(st) + ": " + humanBytes(st.Result.Size) + " instead of " + humanBytes(st.Result.Complete),
			Values: []float64{float64(st.Result.Size), float64(st.Result.Complete)},
		})
	}
	if len(cols) < 2 {
		return ""
	}
	slices.Reverse(cols)
	return plot.Columns{
		Label: fmt.Sprintf("Sizes of the last %d partials beside those of their complete updates; the table below has the numbers.", len(cols)),
		Width: 960, Height: 210, Y: bytesAxis(), Columns: cols, Classes: []string{"s0", "whole"},
	}.SVG()
}

// dayData is what happened in the last 24 hours.
type dayData struct {
	Done, Failed, Cancelled int
	Jobs, Times             template.HTML
	Hours                   []hour
	Cut                     bool // there were more jobs than are looked at
}

type hour struct {
	From         time.Time
	Done, Failed int
	Took, Waited float64 // seconds, half took less
	took, waited []float64
}

const (
	dayFor   = 30 * time.Second // how old the picture may be
	dayPages = 5                // of 1000 jobs
)

// daily keeps what happened lately for a moment, as the ledger is asked for much of it.
type daily struct {
	mu   sync.Mutex
	at   time.Time
	last *dayData
}

// get returns nil where the ledger does not answer: the page is of use without it.
func (d *daily) get(ctx context.Context, svc job.Service) *dayData {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); d.last == nil || now.Sub(d.at) > dayFor {
		last, err := readDay(ctx, svc, now)
		if err != nil {
			return nil
		}
		d.at, d.last = now, last
	}
	return d.last
}

func readDay(ctx context.Context, svc job.Service, now time.Time) (*dayData, error) {
	d := &dayData{Hours: make([]hour, 24)}
	first := now.UTC().Truncate(time.Hour).Add(-23 * time.Hour)
	for i := range d.Hours {
		d.Hours[i].From = first.Add(time.Duration(i) * time.Hour)
	}
	f := job.Filter{Since: first, Limit: 1000}
	for page := 0; ; page++ {
		if page == dayPages {
			d.Cut = true
			break
		}
		p, err := svc.History(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, st := range p.Jobs {
			d.add(st, first)
		}
		if f.Cursor = p.Next; f.Cursor == "" {
			break
		}
	}
	for i := range d.Hours {
		h := &d.Hours[i]
		h.Took, h.Waited = middle(h.took), middle(h.waited)
	}
	if d.Done+d.Failed == 0 {
		return d, nil
	}
	d.draw()
	return d, nil
}

func middle(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	sort.Float64s(v)
	return v[len(v)/2]
}

// add counts a job in the hour in which it ended.
func (d *dayData) add(st job.Status, first time.Time) {
	i := int(st.Updated.Sub(first) / time.Hour)
	if !st.State.Final() || st.Updated.Before(first) || i >= len(d.Hours) {
		return
	}
	h := &d.Hours[i]
	switch st.State {
	case job.Done:
		d.Done++
		h.Done++
		if r := st.Result; r != nil && !r.Cached {
			h.took = append(h.took, r.Elapsed.Seconds())
		}
	case job.Failed:
		d.Failed++
		h.Failed++
	default:
		d.Cancelled++
	}
	if n := len(st.Attempts); n > 0 && st.Attempts[0].Number == 1 {
		h.waited = append(h.waited, max(0, st.Attempts[0].Begun.Sub(st.Created).Seconds()))
	}
}

func (d *dayData) draw() {
	var jobs, times []plot.Column
	for _, h := range d.Hours {
		label := h.From.Format("15:04")
		jobs = append(jobs, plot.Column{
			Label: label, Values: []float64{float64(h.Done), float64(h.Failed)},
			Title: fmt.Sprintf("from %s UTC: %d done, %d failed", label, h.Done, h.Failed),
		})
		times = append(times, plot.Column{
			Label: label, Values: []float64{h.Took, h.Waited},
			Title: fmt.Sprintf("from %s UTC: half were made within %s, half waited less than %s", label, seconds(h.Took), seconds(h.Waited)),
		})
	}
	const w, h = 470, 200
	d.Jobs = plot.Columns{
		Label: fmt.Sprintf("Jobs that ended in the last day, hour by hour: %d done, %d failed.", d.Done, d.Failed),
		Width: w, Height: h, Columns: jobs, Stacked: true, Classes: []string{"s3", "bad"},
	}.SVG()
	d.Times = plot.Columns{
		Label: "How long jobs took and waited in the last day, hour by hour, in the middle.",
		Width: w, Height: h, Columns: times, Y: timeAxis(), Classes: []string{"s0", "s1"},
	}.SVG()
}

// grid shows a batch by locale and platform.
type grid struct {
	Platforms []string
	Rows      []gridRow
}

type gridRow struct {
	Locale string
	Cells  [][]job.Status // by platform
}

// maxGrid is how many cells a grid may have at most: more is no picture any more.
const maxGrid = 3000

// gridOf puts jobs into a grid; nil where they are of one locale and platform, or do not say.
func gridOf(jobs []job.Status) *grid {
	locale := func(st job.Status) string { return chain.Cut(st.Spec.Locale, 40) }
	platform := func(st job.Status) string { return chain.Cut(st.Spec.Platform, 40) }
	var locales, platforms []string
	for _, st := range jobs {
		locales, platforms = append(locales, locale(st)), append(platforms, platform(st))
	}
	slices.Sort(locales)
	slices.Sort(platforms)
	locales, platforms = slices.Compact(locales), slices.Compact(platforms)
	if n := len(locales) * len(platforms); n < 2 || n > maxGrid {
		return nil
	}
	g := &grid{Platforms: platforms}
	row := map[string]int{}
	for i, l := range locales {
		row[l] = i
		g.Rows = append(g.Rows, gridRow{l, make([][]job.Status, len(platforms))})
	}
	for _, st := range jobs {
		c, _ := slices.BinarySearch(platforms, platform(st))
		cells := g.Rows[row[locale(st)]].Cells
		cells[c] = append(cells[c], st)
	}
	return g
}
