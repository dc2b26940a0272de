package web

import (
	"cmp"
	"context"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

type jobData struct {
	Subject      string
	Job          job.Status
	Course       string
	Steps        []step
	Running      bool
	Began        time.Time // of the present step
	ProgressText string
	Reason       string // why it is where it is
	Attempts     []attemptRow
	MayCancel    bool
	MayRetry     bool // and it can help
	MayAgain     bool
	MayChange    bool
	MayPurge     bool
	Problem      *Problem
	FailedAt     string // the step in which it failed
	Whose        string // whose fault it is
	Result       *job.Result
	Purged       bool
	Lost         bool // done, but its bytes are not here any more
	Report       *reportData
	Facts        []fact
}

// Mono says whether a fact is a hash or an address.
func (jobData) Mono(text string) bool {
	return strings.Contains(text, "://") || len(text) >= 64 && !strings.Contains(text, " ")
}

type step struct {
	Name  string
	Class string // past, now, failed or ""
	Took  string
	Since time.Time // of the present step, for a clock
}

type fact struct {
	Name  string
	Lines []string
}

type attemptRow struct {
	job.Attempt
	Took  string
	How   string
	Whose string
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
		MayRetry:  (st.State == job.Failed && helps(st.Error) || st.State == job.Cancelled) && c.may(RoleSubmit),
		MayAgain:  c.may(RoleSubmit),
		MayChange: st.State.Final() && c.may(RoleSubmit),
	}
	now := time.Now()
	d.MayPurge = st.State == job.Done && !d.Purged && c.may(RoleOperate)
	d.Steps, d.Course, d.Reason = course(st, now, s.opts.Signs)
	d.Attempts = attempts(st, now)
	if st.State != job.Done {
		d.Result = nil
	}
	if n := len(st.Changes); d.Running && n > 0 {
		d.Began = st.Changes[n-1].At
		d.ProgressText = progressText(st.Progress, now.Sub(d.Began))
	}
	if st.State == job.Failed {
		d.Problem = jobProblem(st)
		d.FailedAt, d.Whose = failedAt(st), whose(st.Error)
	}
	if st.State == job.Done && !d.Purged {
		s.addResult(r.Context(), &d)
	}
	if st.State == job.Failed {
		s.addRefusal(r.Context(), &d)
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

// addResult adds what is shown of a job that is done: its report, and whether its bytes are still there. Both are extras:
// the page is of use without them.
func (s *server) addResult(ctx context.Context, d *jobData) {
	ctx, cancel := call(ctx)
	defer cancel()
	there, err := s.svc.Present(ctx, d.Job.ID)
	d.Lost = err == nil && !there
	key := d.Job.ID
	if d.Job.Result != nil {
		key += d.Job.Result.SHA512
	}
	if d.Report = s.fragments.get(key); d.Report != nil {
		return
	}
	doc, err := s.svc.Provenance(ctx, d.Job.ID)
	if err != nil || len(doc) == 0 {
		return
	}
	if report, err := readProvenance(doc); err == nil {
		s.fragments.put(key, report)
		d.Report = report
	}
}

// addRefusal adds the report of what was refused, or not proved, where there is one.
func (s *server) addRefusal(ctx context.Context, d *jobData) {
	ctx, cancel := call(ctx)
	defer cancel()
	key := fmt.Sprint(d.Job.ID, " refused ", d.Job.Attempt)
	if d.Report = s.fragments.get(key); d.Report != nil {
		return
	}
	doc, err := s.svc.Report(ctx, d.Job.ID)
	if err != nil || len(doc) == 0 {
		return
	}
	if report, err := readRefusal(doc); err == nil {
		s.fragments.put(key, report)
		d.Report = report
	}
}

// helps says whether trying the same again can help: at once, or once what is wrong elsewhere is mended.
func helps(e *job.Error) bool { return e == nil || e.Retryable || e.Whose() != job.FaultCaller }

// lasted is how long the last attempt of a job took that ended without a result; 0 where that is not known.
func lasted(st job.Status) time.Duration {
	if n := len(st.Attempts); st.State.Final() && n > 0 && !st.Attempts[n-1].Ended.IsZero() {
		return max(0, st.Attempts[n-1].Ended.Sub(st.Attempts[n-1].Begun))
	}
	return 0
}

// whose says in words whose fault a failure is, and what that means.
func whose(e *job.Error) string {
	if e == nil {
		return ""
	}
	switch e.Whose() {
	case job.FaultOrigin:
		return "The fault is the origin's: the server that has the complete updates, or what it has there."
	case job.FaultService:
		return "The fault is this service's, or of something that it needs. Its operators find it in the log under the job's ID."
	}
	return "The fault is the request's: it cannot be met as it is, however often it is tried."
}

// failedAt is the step in which the last attempt failed.
func failedAt(st job.Status) string {
	if n := len(st.Attempts); n > 0 && st.Attempts[n-1].Step != "" {
		return stepName(st.Attempts[n-1].Step)
	}
	if n := len(st.Changes); n > 1 {
		return stepName(st.Changes[n-2].State)
	}
	return ""
}

// stepName says what is done in a state: proving is a part of diffing, not a step of its own.
func stepName(s job.State) string {
	switch s {
	case job.Queued:
		return "waiting"
	case job.Diffing:
		return "diffing and proving"
	}
	return string(s)
}

// progressText says how far a step is, how fast, and how long it takes yet if it goes on like that.
func progressText(p job.Progress, since time.Duration) string {
	var parts []string
	if p.Total > 0 {
		parts = append(parts, humanBytes(p.Done)+" of "+humanBytes(p.Total))
	} else if p.Done > 0 {
		parts = append(parts, humanBytes(p.Done))
	}
	if rate := float64(p.Done) / since.Seconds(); since > time.Second && p.Done > 0 {
		parts = append(parts, humanBytes(int64(rate))+"/s")
		if left := p.Total - p.Done; p.Total > 0 && left > 0 && rate > 0 {
			parts = append(parts, "about "+took(time.Duration(float64(left)/rate*float64(time.Second)))+" left")
		}
	}
	if p.File != "" {
		parts = append(parts, name(p.File))
	}
	return strings.Join(parts, " · ")
}

// attempts are those of a job, the last one first.
func attempts(st job.Status, now time.Time) []attemptRow {
	var out []attemptRow
	for _, a := range slices.Backward(st.Attempts) {
		row := attemptRow{Attempt: a}
		end := a.Ended
		if end.IsZero() {
			end = now
		}
		row.Took = took(max(0, end.Sub(a.Begun)))
		switch a.Outcome {
		case job.AttemptDone:
			row.How = "done"
		case job.AttemptFailed:
			row.How = "failed while " + stepName(a.Step)
			if a.Error != nil {
				row.How, row.Whose = row.How+": "+name(a.Error.Message), whoseWord(a.Error)
			}
		case job.AttemptHandedBack:
			row.How = "handed back: its server was stopped"
		case job.AttemptLost:
			row.How = "lost: its server fell silent"
		case job.AttemptCancelled:
			row.How = "cancelled"
		default:
			row.How = "under work"
		}
		out = append(out, row)
	}
	return out
}

func whoseWord(e *job.Error) string {
	return map[job.Fault]string{job.FaultCaller: "the request's", job.FaultOrigin: "the origin's", job.FaultService: "the service's"}[e.Whose()]
}

// course is the way of a job through its states: those of the last attempt, with the time that each took. Steps that are
// not taken are not shown: a proof of its own, and signing where nothing signs.
func course(st job.Status, now time.Time, signs bool) (steps []step, title, reason string) {
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
		sp := step{Name: stepName(state)}
		i, ok := at[state]
		i--
		switch {
		case !ok && (st.State == job.Done || state == job.Verifying || state == job.Signing && !signs):
			continue // it was not needed, or will not be
		case !ok:
		case state == job.Done:
			sp.Class, sp.Took = "past", mine[i].At.UTC().Format("15:04:05")
		case i+1 < len(mine) && mine[i+1].State == job.Failed:
			sp.Class, sp.Took = "failed", took(mine[i+1].At.Sub(mine[i].At))
		case i+1 < len(mine):
			sp.Class, sp.Took = "past", took(mine[i+1].At.Sub(mine[i].At))
		case !st.State.Final():
			sp.Class, sp.Took, sp.Since = "now", took(max(0, now.Sub(mine[i].At))), mine[i].At
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
		if st.Next != nil {
			title = fmt.Sprintf("Attempt %d of %d comes next", st.Next.Try, st.Next.Of)
		}
	}
	if n := len(mine); n > 0 && st.State != job.Failed && st.Next == nil { // else the list of attempts says it
		reason = mine[n-1].Reason
	}
	return steps, title, reason
}

// since is a time span that goes on: a clock where there is JavaScript.
func since(t time.Time, text string) template.HTML {
	if t.IsZero() {
		return template.HTML(template.HTMLEscapeString(text)) //nolint:gosec // escaped
	}
	// The layout has digits and signs of its own alone.
	return template.HTML(`<span data-since="` + t.UTC().Format(time.RFC3339Nano) + `">` + template.HTMLEscapeString(text) + `</span>`) //nolint:gosec // see above
}

// until is a time that comes, as a clock that counts down.
func until(t time.Time) template.HTML {
	left := time.Until(t)
	text := "now"
	if left > 0 {
		text = "in " + took(left)
	}
	return template.HTML(`<span data-until="` + t.UTC().Format(time.RFC3339Nano) + `">` + text + `</span>`) //nolint:gosec // digits and signs
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
			lines = append(lines, strings.TrimPrefix(s.Name+", uploaded", ", "))
		}
		return append(lines, s.SHA512, s.SHA256)
	}
	sp := st.Spec
	add("From", source(sp.From)...)
	add("To", source(sp.To)...)
	if a := st.About; a != nil && a.FromBuild+a.ToBuild != "" {
		add("Builds", cmp.Or(a.FromBuild, "?")+" → "+cmp.Or(a.ToBuild, "?"))
	}
	add("Product", sp.Product)
	add("Platform", strings.TrimSpace(sp.Platform+" "+sp.Arch))
	add("Locale", sp.Locale)
	add("Channel", sp.Channel)
	add("Version", sp.ProductVersion)
	add("Recipe", sp.Recipe)
	add("Sent whole", sp.Force...)
	add("Allowed channels", strings.Join(sp.Channels, ", "))
	add("Patch formats", strings.Join(sp.Formats, ", "))
	add("Trusted", sp.Trust)
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
