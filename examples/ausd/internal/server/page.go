package server

import (
	"bytes"
	"cmp"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
)

//go:embed page
var pageFiles embed.FS

var templates = template.Must(template.ParseFS(pageFiles, "page/page.html"))

// pagePolicy lets pages load nothing from elsewhere and stand in nobody's frame.
const pagePolicy = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

var pageNames = []struct{ path, name string }{
	{"/", "What does a client get?"},
	{"/ui/rules", "Rules"},
	{"/ui/releases", "Releases"},
	{"/ui/drafts", "Drafts"},
	{"/ui/demand", "Demand"},
	{"/ui/adoption", "Adoption"},
	{"/ui/shutoffs", "Shutoffs"},
	{"/ui/history", "History"},
}

type pageData struct {
	Title, Failed, Said string
	Pages               []pageLink
	Body                any
}

type pageLink struct {
	Path, Name string
	Current    bool
}

func (s *Server) pageRoutes(mux *http.ServeMux) {
	page := func(pattern string, role Role, serve func(w http.ResponseWriter, r *http.Request, c *caller)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			c := s.who(r)
			if c == nil || !c.may(role) { // limited roles see no pages
				s.show(w, http.StatusForbidden, "problem", "/", pageData{Title: "Not from here", Failed: "These pages are for who sits at the server's own machine. From elsewhere use the API with a token."})
				return
			}
			serve(w, r, c)
		})
	}
	mux.HandleFunc("GET /ui/style.css", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=300")
		http.ServeFileFS(w, r, pageFiles, "page/style.css")
	})
	page("GET /{$}", RoleRead, s.clientPage)
	page("GET /ui/rules", RoleRead, s.rulesPage)
	page("GET /ui/releases", RoleRead, s.releasesPage)
	page("GET /ui/drafts", RoleRead, s.draftsPage)
	page("GET /ui/drafts/{id}", RoleRead, s.draftPage)
	page("POST /ui/drafts/{id}/signoffs", RoleRead, s.signOffForm)
	for action, do := range map[string]struct {
		role Role
		do   func(r *http.Request, id int64, c *caller) error
	}{
		"publish": {RolePublish, func(r *http.Request, id int64, c *caller) error {
			_, err := s.PublishDraft(r.Context(), id, c.Name)
			return err
		}},
		"rebase": {RoleEdit, func(r *http.Request, id int64, _ *caller) error {
			_, err := s.RebaseDraft(r.Context(), id)
			return err
		}},
		"withdraw": {RoleEdit, func(r *http.Request, id int64, _ *caller) error { return s.book.Withdraw(r.Context(), id) }},
	} {
		page("POST /ui/drafts/{id}/"+action, do.role, func(w http.ResponseWriter, r *http.Request, c *caller) {
			id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
			if err == nil {
				err = do.do(r, id, c)
			}
			s.back(w, r, "/ui/drafts", err)
		})
	}
	page("GET /ui/demand", RoleRead, s.demandPage)
	page("GET /ui/adoption", RoleRead, s.adoptionPage)
	page("GET /ui/shutoffs", RoleRead, s.shutoffsPage)
	page("GET /ui/history", RoleRead, s.historyPage)
	page("POST /ui/shutoffs", RoleShutoff, s.shutoffForm)
	page("POST /ui/shutoffs/{id}/lift", RoleShutoff, func(w http.ResponseWriter, r *http.Request, c *caller) {
		id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
		if err == nil {
			_, err = s.Lift(r.Context(), c.Name, id)
		}
		s.back(w, r, "/ui/shutoffs", err)
	})
	page("POST /ui/history/{seq}/revert", RolePublish, func(w http.ResponseWriter, r *http.Request, c *caller) {
		seq, err := strconv.ParseInt(r.PathValue("seq"), 10, 64)
		if err == nil {
			_, err = s.Revert(r.Context(), c.Name, seq, "")
		}
		s.back(w, r, "/ui/history", err)
	})
}

// back sends a browser back to a page behind a form, or says why it failed.
func (s *Server) back(w http.ResponseWriter, r *http.Request, to string, err error) {
	if err == nil {
		http.Redirect(w, r, to, http.StatusSeeOther)
		return
	}
	status, text := http.StatusUnprocessableEntity, err.Error()
	var known interface{ GetStatus() int }
	if !errors.As(err, &known) { // what comes from the API is a problem already
		err = s.problemOf(err)
	}
	if errors.As(err, &known) {
		status = known.GetStatus()
	}
	s.show(w, status, "problem", to, pageData{Title: "That did not work", Failed: text})
}

// show writes a page.
func (s *Server) show(w http.ResponseWriter, status int, name, current string, d pageData) {
	for _, p := range pageNames {
		d.Pages = append(d.Pages, pageLink{p.path, p.name, p.path == current})
		if d.Title == "" && p.path == current {
			d.Title = p.name
		}
	}
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, d); err != nil {
		s.log.Error("write a page", "page", name, "error", err)
		http.Error(w, "this page cannot be shown; the log of the server says why", http.StatusServiceUnavailable)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = b.WriteTo(w) // a browser that has gone away
}

type knownClient struct{ Name, Link string }

type clientBody struct {
	Seq                 int64
	At, Author, Comment string
	Query               aus.Query
	Dice                int
	Known               []knownClient
	URL                 string
	Result              *Explanation
	Problems            []string
	Outcomes            map[string]int64
	Partials            int64
	Replicas            []replicaRow
	Alarm               string // of a replica
}

// replicaRow is what the page says of a replica.
type replicaRow struct {
	Name, When string
	Seq        int64
	Behind     bool
}

// clientURL is the address that a client asks with.
func clientURL(q *aus.Query) string {
	var b strings.Builder
	b.WriteString("/update/6")
	for _, f := range []string{q.Product, q.Version, q.BuildID, q.BuildTarget, q.Locale, q.Channel, q.OSVersion, "NA", "default", "default"} {
		b.WriteString("/" + url.PathEscape(f))
	}
	return b.String() + "/update.xml"
}

func (s *Server) clientPage(w http.ResponseWriter, r *http.Request, _ *caller) {
	now := s.current.Load()
	v := r.URL.Query()
	counts := s.readCounts()
	body := clientBody{
		Seq: now.head.Seq, At: when(now.head.At), Author: now.head.Author, Comment: now.head.Comment, Outcomes: counts.Outcomes, Partials: counts.Partials,
		Query: aus.Query{
			Product: v.Get("product"), Version: v.Get("version"), BuildID: v.Get("build_id"), BuildTarget: v.Get("target"),
			Locale: v.Get("locale"), Channel: v.Get("channel"), OSVersion: v.Get("os"),
		},
	}
	if body.Query.OSVersion == "" {
		body.Query.OSVersion = "Linux 6.1"
	}
	body.Dice, _ = strconv.Atoi(v.Get("dice")) // 0 where it is none
	body.Dice = max(0, min(99, body.Dice))
	for i, p := range now.problems {
		if i == 20 {
			body.Problems = append(body.Problems, fmt.Sprintf("and %d more", len(now.problems)-i))
			break
		}
		body.Problems = append(body.Problems, p.String())
	}
	for _, r := range s.replicas.list() {
		body.Replicas = append(body.Replicas, replicaRow{r.Name, when(r.Seen), r.Seq, r.Seq < now.head.Seq})
	}
	if s.opts.Replica != nil {
		st := s.replica.status()
		body.Alarm = cmp.Or(st.alarm(s.now()), st.failure, "none")
	}
	body.Known = s.knownClients(now)
	if v.Get("product") != "" {
		body.URL = clientURL(&body.Query)
		q, ok := aus.ParseURL(body.URL, nil)
		if !ok {
			s.show(w, http.StatusUnprocessableEntity, "client", "/", pageData{Failed: "Every field needs a value.", Body: body})
			return
		}
		x := explain(now, q, aus.Env{Dice: func() int { return body.Dice }})
		body.Result = &x
	}
	s.show(w, http.StatusOK, "client", "/", pageData{Body: body})
}

// knownClients are links to clients of the builds that are there, each with the channel of a rule of its product.
func (s *Server) knownClients(now *published) []knownClient {
	const most = 12
	channel := map[string]string{}
	for _, rule := range now.snapshot.Rules() {
		if rule.Product != nil && rule.Channel != nil && channel[*rule.Product] == "" {
			channel[*rule.Product] = strings.TrimSuffix(*rule.Channel, "*")
		}
	}
	var list []knownClient
	for _, o := range now.state.List(state.Release) {
		for _, b := range o.Release().Builds() {
			if len(list) == most {
				return list
			}
			c := channel[b.Product]
			if c == "" {
				c = "release"
			}
			q := url.Values{"product": {b.Product}, "version": {b.Version}, "build_id": {b.BuildID}, "target": {b.Target}, "locale": {b.Locale}, "channel": {c}, "os": {"Linux 6.1"}}
			list = append(list, knownClient{b.Product + " " + b.Version + " " + b.Locale, "/?" + q.Encode()})
		}
	}
	return list
}

func when(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

type ruleText struct {
	ID            int64
	Text, Comment string
}

func (s *Server) rulesPage(w http.ResponseWriter, _ *http.Request, _ *caller) {
	var list []ruleText
	for _, o := range s.current.Load().state.List(state.Rule) {
		r := o.Rule()
		t := ruleText{ID: r.ID, Text: sentence(r)}
		if r.Comment != nil {
			t.Comment = *r.Comment
		}
		list = append(list, t)
	}
	s.show(w, http.StatusOK, "rules", "/ui/rules", pageData{Body: list})
}

// sentence says in words what a rule does.
func sentence(r *aus.Rule) string {
	text := func(s *string, none string) string {
		if s == nil || *s == "" {
			return none
		}
		return *s
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Clients of %s", text(r.Product, "every product"))
	for _, c := range []struct {
		words string
		value *string
	}{
		{"on channel", r.Channel},
		{"of version", r.Version},
		{"with build ID", r.BuildID},
		{"for", r.BuildTarget},
		{"in", r.Locale},
		{"on", r.OSVersion},
		{"with memory", r.Memory},
		{"with", r.InstructionSet},
		{"of distribution", r.Distribution},
		{"of distribution version", r.DistVersion},
		{"on the architecture", r.HeaderArchitecture},
	} {
		if c.value != nil {
			fmt.Fprintf(&b, " %s %s", c.words, *c.value)
		}
	}
	for _, f := range []struct {
		name  string
		value *bool
	}{{"mig64", r.Mig64}, {"JAWS", r.JAWS}} {
		if f.value != nil {
			fmt.Fprintf(&b, " with %s %v", f.name, *f.value)
		}
	}
	fmt.Fprintf(&b, " get %s", text(r.Mapping, "no update"))
	if r.BackgroundRate != nil && *r.BackgroundRate < 100 {
		fmt.Fprintf(&b, " for %d %% of them, the others %s", *r.BackgroundRate, text(r.FallbackMapping, "no update"))
	}
	for _, stage := range r.Rollout {
		fmt.Fprintf(&b, "; from %s for %d %%", when(stage.At), stage.Rate)
	}
	if r.Priority != nil {
		fmt.Fprintf(&b, " (priority %d)", *r.Priority)
	}
	return b.String()
}

type releaseRow struct {
	Name, Target, Locale, Size string
	Partials                   []partialRow
}

type partialRow struct{ From, Size, Saved string }

// releasesBody is what the page says of releases.
type releasesBody struct {
	Rows     []releaseRow
	Partials int // that were made
	Saved    string
}

// less says how much smaller something is than something else.
func less(n, than int64) string {
	return fmt.Sprintf("%.1f %%", 100-100*float64(n)/float64(max(1, than)))
}

// maxRows bounds what one page shows.
const maxRows = 500

func (s *Server) releasesPage(w http.ResponseWriter, _ *http.Request, _ *caller) {
	now := s.current.Load()
	byTo := map[string][]*aus.MadePartial{}
	for _, o := range now.state.List(state.Made) {
		byTo[o.Made().To] = append(byTo[o.Made().To], o.Made())
	}
	names := map[string]string{}
	var rows []releaseRow
	var partials, completes int64
	n := 0
	releases := now.state.List(state.Release)
	for _, o := range releases {
		for _, b := range o.Release().Builds() {
			names[strings.ToLower(b.Hash)] = b.Release
		}
	}
	for i := len(releases) - 1; i >= 0; i-- {
		for _, b := range releases[i].Release().Builds() {
			row := releaseRow{Name: b.Release, Target: b.Target, Locale: b.Locale, Size: bytesText(b.Size)}
			for _, m := range byTo[strings.ToLower(b.Hash)] {
				row.Partials = append(row.Partials, partialRow{names[m.From], bytesText(m.Size), less(m.Size, b.Size)})
				partials, completes, n = partials+m.Size, completes+b.Size, n+1
			}
			if len(rows) < maxRows {
				rows = append(rows, row)
			}
		}
	}
	s.show(w, http.StatusOK, "releases", "/ui/releases", pageData{Body: releasesBody{rows, n, less(partials, completes)}})
}

// bytesText writes a size for people.
func bytesText(n int64) string {
	switch {
	case n >= 1_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%d B", n)
}

func (s *Server) demandPage(w http.ResponseWriter, r *http.Request, _ *caller) {
	list, err := s.book.Demands(r.Context(), maxRows)
	if err != nil {
		s.back(w, r, "/ui/demand", err)
		return
	}
	now := s.current.Load().state
	rows := make([]demandRow, 0, len(list))
	for _, d := range list {
		row := demandRow{Demand: d, When: when(d.Last)}
		if o := now.Get(state.Ref{Kind: state.Made, Key: state.MadeKey(d.From.Hash, d.To.Hash)}); o != nil {
			row.Size, row.Saved, row.URL = bytesText(o.Made().Size), less(o.Made().Size, d.To.Size), o.Made().URL
		}
		rows = append(rows, row)
	}
	s.show(w, http.StatusOK, "demand", "/ui/demand", pageData{Body: rows})
}

// demandRow is a wanted partial, and what was made for it.
type demandRow struct {
	book.Demand
	When, Size, Saved, URL string
}

// adoptionRow is one version among the clients of its product and channel.
type adoptionRow struct {
	Version string
	N       int64
	Share   int // percent
}

type adoptionGroup struct {
	Product, Channel string
	N                int64
	Rows             []adoptionRow
}

// adoptionPage says which versions clients have, by their queries alone: those of each product and channel, the newest version first.
func (s *Server) adoptionPage(w http.ResponseWriter, _ *http.Request, _ *caller) {
	groups := map[versionKey]*adoptionGroup{}
	for k, n := range s.counts.versions.snapshot() {
		of := versionKey{Product: k.Product, Channel: k.Channel}
		if groups[of] == nil {
			groups[of] = &adoptionGroup{Product: k.Product, Channel: k.Channel}
		}
		g := groups[of]
		g.N += n
		g.Rows = append(g.Rows, adoptionRow{Version: k.Version, N: n})
	}
	list := slices.SortedFunc(maps.Values(groups), func(a, b *adoptionGroup) int {
		return cmp.Or(cmp.Compare(b.N, a.N), strings.Compare(a.Product+" "+a.Channel, b.Product+" "+b.Channel))
	})
	list = list[:min(len(list), maxGroups)]
	for _, g := range list {
		slices.SortFunc(g.Rows, func(a, b adoptionRow) int {
			return cmp.Or(aus.CompareVersions(b.Version, a.Version), strings.Compare(b.Version, a.Version))
		})
		for i := range g.Rows {
			g.Rows[i].Share = int((100*g.Rows[i].N + g.N/2) / g.N)
		}
		g.Rows = g.Rows[:min(len(g.Rows), maxRows)]
	}
	s.show(w, http.StatusOK, "adoption", "/ui/adoption", pageData{Body: list})
}

// maxGroups bounds how many products and channels the page of adoption shows.
const maxGroups = 50

type shutoffRow struct {
	ID                  int64
	Who, Comment, Until string
}

func (s *Server) shutoffsPage(w http.ResponseWriter, _ *http.Request, _ *caller) {
	var rows []shutoffRow
	for _, o := range s.current.Load().state.List(state.Shutoff) {
		f := o.Shutoff()
		only := aus.Rule{}
		if f.Only != nil {
			only = *f.Only
		}
		if f.Product != "" {
			only.Product = &f.Product
		}
		if f.Channel != "" {
			only.Channel = &f.Channel
		}
		if f.Instead != "" {
			only.Mapping = &f.Instead
		}
		until := when(f.Expires)
		if !f.Expires.IsZero() && !f.Expires.After(s.now()) {
			until = "ended " + until
		}
		rows = append(rows, shutoffRow{f.ID, sentence(&only), f.Comment, until})
	}
	s.show(w, http.StatusOK, "shutoffs", "/ui/shutoffs", pageData{Body: rows})
}

func (s *Server) shutoffForm(w http.ResponseWriter, r *http.Request, c *caller) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	f := aus.Shutoff{Product: r.PostFormValue("product"), Channel: r.PostFormValue("channel"), Comment: r.PostFormValue("comment"), Instead: r.PostFormValue("instead")}
	var only aus.Rule
	for _, column := range []struct {
		name string
		to   **string
	}{{"version", &only.Version}, {"target", &only.BuildTarget}, {"os", &only.OSVersion}} {
		if v := r.PostFormValue(column.name); v != "" {
			*column.to = &v
			f.Only = &only
		}
	}
	var err error
	if hours := r.PostFormValue("hours"); hours != "" {
		n, bad := strconv.Atoi(hours)
		if bad != nil || n < 1 || n > 8760 {
			err = fmt.Errorf("%w: hours: want 1 to 8760", ErrInput)
		}
		f.Expires = s.now().Add(time.Duration(n) * time.Hour).UTC().Truncate(time.Second)
	}
	if f.Comment == "" {
		err = fmt.Errorf("%w: say why", ErrInput)
	}
	if err == nil {
		_, _, err = s.ShutOff(r.Context(), c.Name, f)
	}
	s.back(w, r, "/ui/shutoffs", err)
}

type historyRow struct {
	Seq                   int64
	When, Author, Comment string
	Changes               []string
}

type historyBody struct {
	Q    string
	Head int64
	List []historyRow
}

func (s *Server) historyPage(w http.ResponseWriter, r *http.Request, _ *caller) {
	body := historyBody{Q: r.URL.Query().Get("q"), Head: s.current.Load().head.Seq}
	words := strings.Fields(body.Q)
	list, err := s.book.History(r.Context(), 0, 50, words[:min(8, len(words))]...)
	if err != nil {
		s.back(w, r, "/ui/history", err)
		return
	}
	for _, h := range list {
		row := historyRow{Seq: h.Seq, When: when(h.At), Author: h.Author, Comment: h.Comment}
		changes, err := s.book.Changes(r.Context(), h.Seq)
		if err != nil {
			s.back(w, r, "/ui/history", err)
			return
		}
		for i, c := range changes {
			if i == 5 {
				row.Changes = append(row.Changes, fmt.Sprintf("and %d more", len(changes)-i))
				break
			}
			what := "changed"
			if c.Before == "" {
				what = "new"
			} else if c.After == "" {
				what = "removed"
			}
			key := c.Key
			if c.Kind == state.Made && len(key) > 20 {
				key = key[:20] + "…"
			}
			row.Changes = append(row.Changes, fmt.Sprintf("%s %s: %s", c.Kind, key, what))
		}
		body.List = append(body.List, row)
	}
	s.show(w, http.StatusOK, "history", "/ui/history", pageData{Body: body})
}

type draftRow struct {
	ID                         int64
	Who, When, Comment         string
	Scheduled, Reason, Problem string
	Hash                       string
	Changes                    []string
	Required                   []neededRow
	Signed                     []string
	Stale                      []string
	Ready                      bool // nothing keeps it from being published
}

type neededRow struct {
	Role          string
	Needed, There int
}

// draftRow is what the pages say of a draft.
func (s *Server) draftRow(r *http.Request, d *book.Draft) draftRow {
	b := s.withSignOffs(r.Context(), *d)
	row := draftRow{ID: d.ID, Who: d.Author, When: when(d.Created), Comment: d.Comment, Reason: d.Reason, Problem: b.Problem, Hash: d.Hash}
	if !d.Scheduled.IsZero() {
		row.Scheduled = when(d.Scheduled)
	}
	for i, op := range d.Operations {
		if i == 20 {
			row.Changes = append(row.Changes, fmt.Sprintf("and %d more", len(d.Operations)-i))
			break
		}
		what := "changed"
		if op.Before == "" {
			what = "new"
		} else if op.Body == nil {
			what = "removed"
		}
		row.Changes = append(row.Changes, fmt.Sprintf("%s: %s", op.Ref, what))
	}
	for _, role := range slices.Sorted(maps.Keys(b.Required)) {
		row.Required = append(row.Required, neededRow{role, b.Required[role], b.Required[role] - b.Missing[role]})
	}
	for _, given := range d.SignOffs {
		row.Signed = append(row.Signed, given.Name+" as "+given.Role+", "+when(given.At))
	}
	for _, ref := range b.Changed {
		row.Stale = append(row.Stale, ref.String())
	}
	row.Ready = d.State == book.DraftOpen && b.Problem == "" && len(b.Missing) == 0 && (len(b.Required) == 0 || len(b.Changed) == 0) && !d.Scheduled.After(s.now())
	return row
}

func (s *Server) draftsPage(w http.ResponseWriter, r *http.Request, _ *caller) {
	list, err := s.book.Drafts(r.Context())
	if err != nil {
		s.back(w, r, "/ui/drafts", err)
		return
	}
	var rows []draftRow
	for i := range list[:min(len(list), maxRows)] {
		rows = append(rows, s.draftRow(r, &list[i]))
	}
	s.show(w, http.StatusOK, "drafts", "/ui/drafts", pageData{Body: rows})
}

type draftPageBody struct {
	Draft   draftRow
	Preview Preview
	Failed  string
	Roles   []string
}

func (s *Server) draftPage(w http.ResponseWriter, r *http.Request, _ *caller) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		err = book.ErrNotFound
	}
	var d book.Draft
	if err == nil {
		d, err = s.book.Draft(r.Context(), id)
	}
	if err == nil && d.State != book.DraftOpen {
		err = fmt.Errorf("%w: it is %s", book.ErrClosedDraft, d.State)
	}
	if err != nil {
		s.back(w, r, "/ui/drafts", err)
		return
	}
	body := draftPageBody{Draft: s.draftRow(r, &d)}
	if body.Preview, err = s.Preview(r.Context(), d.Operations); err != nil {
		body.Failed = err.Error()
	}
	for _, n := range body.Draft.Required {
		body.Roles = append(body.Roles, n.Role)
	}
	s.show(w, http.StatusOK, "draft", "/ui/drafts", pageData{Title: fmt.Sprintf("Draft %d", id), Body: body})
}

// signOffForm signs a draft off for the owner of the token in the form: who sits here is not known otherwise.
func (s *Server) signOffForm(w http.ResponseWriter, r *http.Request, _ *caller) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		err = book.ErrNotFound
	}
	c := s.owner(r.PostFormValue("token"))
	if err == nil && c == nil {
		err = fmt.Errorf("%w: this is nobody's token", ErrInput)
	}
	if err == nil && r.PostFormValue("revoke") != "" {
		err = s.book.RevokeSignOff(r.Context(), id, r.PostFormValue("hash"), c.Name)
	} else if err == nil {
		_, err = s.signOffBy(r.Context(), c, id, signOffBody{Hash: r.PostFormValue("hash"), Role: r.PostFormValue("role")})
	}
	s.back(w, r, "/ui/drafts", err)
}
