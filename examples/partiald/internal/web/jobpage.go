package web

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/partial"
)

// maxFiles is how many files the page shows; the report has all of them.
const maxFiles = 300

type jobData struct {
	Subject      string
	Job          job.Status
	Course       string
	Steps        []step
	Running      bool
	ProgressText string
	Told         string
	MayCancel    bool
	MayRetry     bool
	MayAgain     bool
	MayPurge     bool
	Problem      *Problem
	Result       *job.Result
	Purged       bool
	Report       *reportData
	Facts        []fact
}

// Mono says whether a fact is a hash or an address.
func (jobData) Mono(text string) bool {
	return strings.Contains(text, "://") || len(text) >= 64 && !strings.Contains(text, " ")
}

type step struct {
	Name  job.State
	Class string // past, now, failed or ""
	Took  string
}

type fact struct {
	Name  string
	Lines []string
}

type reportData struct {
	Name     string // what the releases call themselves
	Title    string // their versions
	Summary  string
	Verified bool
	Findings []string
	Files    []fileRow
	More     int
}

type fileRow struct {
	Path, Action, Why  string
	Size, Whole, Saved int64
	WholeBar, PartBar  int64
}

func (s *server) jobPage(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	st, err := s.status(r.Context(), id)
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	c := infoFrom(r.Context()).caller
	d := jobData{
		Subject: subject(st), Job: st, Result: st.Result, Purged: !st.Purged.IsZero(),
		Running:   !st.State.Final() && st.State != job.Queued,
		MayCancel: !st.State.Final() && c.may(RoleSubmit),
		MayRetry:  (st.State == job.Failed || st.State == job.Cancelled) && c.may(RoleSubmit),
		MayAgain:  c.may(RoleSubmit),
	}
	d.MayPurge = st.State == job.Done && !d.Purged && c.may(RoleOperate)
	d.Steps, d.Course, d.Told = course(st, time.Now())
	if st.State != job.Done {
		d.Result = nil
	}
	if p := st.Progress; d.Running {
		if p.Total > 0 {
			d.ProgressText = humanBytes(p.Done) + " of " + humanBytes(p.Total)
		}
		if p.File != "" {
			d.ProgressText = strings.TrimPrefix(d.ProgressText+" · "+p.File, " · ")
		}
	}
	if st.State == job.Failed {
		d.Problem = jobProblem(st)
	}
	if st.State == job.Done && !d.Purged {
		ctx, cancel := call(r.Context())
		defer cancel()
		// The report is an extra: the page is of use without it.
		if doc, err := s.svc.Report(ctx, id); err == nil && len(doc) > 0 {
			var report partial.Report
			if err := json.Unmarshal(doc, &report); err == nil {
				d.Report = readReport(&report)
			}
		}
	}
	d.Facts = facts(st)
	if d.Report != nil && d.Report.Title != "" {
		d.Subject = about(cmp.Or(d.Report.Name, st.Spec.Product), d.Report.Title, st.Spec)
	}
	v := view{Title: d.Subject, Subject: d.Subject, State: st.State, Data: d}
	if !st.State.Final() {
		v.Renew, v.Events = 3, "/api/v1/jobs/"+id+"/events"
	}
	s.show(w, r, http.StatusOK, "job", v)
}

// course is the way of a job through its states: those of the last attempt, with the time that each took.
func course(st job.Status, now time.Time) (steps []step, title, told string) {
	var mine []job.Change
	for _, c := range slices.Backward(st.Changes) {
		mine = append(mine, c)
		if c.State == job.Queued {
			break
		}
	}
	slices.Reverse(mine)
	at := map[job.State]int{}
	for i, c := range mine {
		at[c.State] = i + 1
	}
	all := job.States()
	for _, state := range all[:slices.Index(all, job.Done)+1] {
		sp := step{Name: state}
		i, ok := at[state]
		i--
		switch {
		case !ok && st.State == job.Done:
			continue // it was not needed
		case !ok:
		case state == job.Done:
			sp.Class, sp.Took = "past", mine[i].At.UTC().Format("15:04:05")
		case i+1 < len(mine) && mine[i+1].State == job.Failed:
			sp.Class, sp.Took = "failed", took(mine[i+1].At.Sub(mine[i].At))
		case i+1 < len(mine):
			sp.Class, sp.Took = "past", took(mine[i+1].At.Sub(mine[i].At))
		case !st.State.Final():
			sp.Class, sp.Took = "now", took(max(0, now.Sub(mine[i].At)))
		}
		steps = append(steps, sp)
	}
	title = "Progress"
	switch st.State {
	case job.Done:
		title = "Done"
	case job.Failed:
		title = "Failed"
	case job.Cancelled:
		title = "Cancelled"
	case job.Queued:
		title = "Waiting for a worker"
	}
	var parts []string
	if !st.Created.IsZero() {
		parts = append(parts, "Asked for at "+st.Created.UTC().Format("2006-01-02 15:04:05")+" UTC")
	}
	if st.Attempt > 1 {
		parts = append(parts, fmt.Sprintf("attempt %d", st.Attempt))
	}
	if st.Server != "" && st.State != job.Queued {
		parts = append(parts, "on "+st.Server)
	}
	if n := len(mine); n > 0 && mine[n-1].Reason != "" && st.State != job.Failed {
		parts = append(parts, mine[n-1].Reason)
	}
	return steps, title, strings.Join(parts, ", ")
}

// facts are what was asked for.
func facts(st job.Status) []fact {
	var out []fact
	add := func(name string, lines ...string) {
		lines = slices.DeleteFunc(lines, func(l string) bool { return l == "" })
		if len(lines) > 0 {
			out = append(out, fact{name, lines})
		}
	}
	source := func(s job.Source) []string {
		lines := slices.Clone(s.URLs)
		if len(s.URLs) == 0 {
			lines = append(lines, "uploaded")
		}
		return append(lines, s.SHA512, s.SHA256)
	}
	sp := st.Spec
	add("From", source(sp.From)...)
	add("To", source(sp.To)...)
	add("Product", sp.Product)
	add("Platform", strings.TrimSpace(sp.Platform+" "+sp.Arch))
	add("Locale", sp.Locale)
	add("Channel", sp.Channel)
	add("Version", sp.ProductVersion)
	add("Recipe", sp.Recipe)
	add("Sent whole", sp.Force...)
	add("Allowed channels", strings.Join(sp.Channels, ", "))
	add("Checks left out", strings.Join(sp.Skip, ", "))
	if sp.Priority > 0 {
		add("Priority", fmt.Sprint(sp.Priority))
	}
	labels := make([]string, 0, len(sp.Labels))
	for _, k := range slices.Sorted(mapsKeys(sp.Labels)) {
		labels = append(labels, k+": "+sp.Labels[k])
	}
	add("Labels", labels...)
	return out
}

// readReport is what people want to know of a report: what changed, the largest first.
func readReport(r *partial.Report) *reportData {
	d := &reportData{Verified: r.Verified}
	if r.From.Version != "" && r.To.Version != "" {
		d.Name, d.Title = r.To.Name, r.From.Version+" → "+r.To.Version
		if r.From.Version == r.To.Version && r.From.BuildID != r.To.BuildID {
			d.Title += ", build " + r.From.BuildID + " → " + r.To.BuildID
		}
	}
	n := map[partial.Action]int{}
	var most int64
	for _, f := range r.Files {
		n[f.Action]++
		row := fileRow{Path: f.Path, Why: f.Why, Size: f.Size}
		switch f.Action {
		case partial.ActionPatch:
			row.Action, row.Whole = "patched", f.FullSize
		case partial.ActionAdd:
			row.Action, row.Whole = "added", f.FullSize
		case partial.ActionRemove:
			row.Action = "removed"
		default:
			continue
		}
		row.Saved = max(0, row.Whole-row.Size)
		most = max(most, row.Whole, row.Size)
		d.Files = append(d.Files, row)
	}
	slices.SortStableFunc(d.Files, func(a, b fileRow) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(b.Whole, a.Whole), strings.Compare(a.Path, b.Path))
	})
	if len(d.Files) > maxFiles {
		d.More = len(d.Files) - maxFiles
		d.Files = d.Files[:maxFiles]
	}
	for i := range d.Files {
		f := &d.Files[i]
		f.WholeBar, f.PartBar = bar(f.Whole, most), bar(f.Size, most)
	}
	d.Summary = fmt.Sprintf("%d patched, %d added, %d removed, %d unchanged.",
		n[partial.ActionPatch], n[partial.ActionAdd], n[partial.ActionRemove], n[partial.ActionSame])
	if out := n[partial.ActionLeftOut]; out > 0 {
		d.Summary = strings.TrimSuffix(d.Summary, ".") + fmt.Sprintf(", %d left out.", out)
	}
	if r.Failure != "" {
		d.Findings = append(d.Findings, r.Failure)
	}
	return d
}
