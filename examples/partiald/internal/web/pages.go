package web

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/internal/chain"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/sample"
)

//go:embed templates static
var files embed.FS

// pages are the templates and what they refer to.
type pages struct {
	templates map[string]*template.Template
	assets    map[string]asset  // by the name under /static/
	names     map[string]string // from the file's name to that
}

type asset struct {
	kind string
	data []byte
}

// view is what every page has.
type view struct {
	Title, Subject string
	Nav            []navItem
	Who            visitor
	State          job.State
	Events         string // address of the events that keep the page up to date
	Renew          int    // seconds after which it is not, 0 for never
	Now            int64  // of this server, in milliseconds since 1970: clocks of browsers differ
	Version        string
	Data           any
}

type navItem struct {
	Name, Path string
	Here       bool
}

type visitor struct {
	Name  string
	Token bool // logged in
	Login bool // there is something to log in for
}

// loadPages reads templates and assets. The name of an asset has its hash, so that browsers may keep it for ever.
func loadPages() (*pages, error) {
	p := &pages{templates: map[string]*template.Template{}, assets: map[string]asset{}, names: map[string]string{}}
	static, err := fs.ReadDir(files, "static")
	if err != nil {
		return nil, err
	}
	kinds := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	for _, f := range static {
		data, err := files.ReadFile("static/" + f.Name())
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(data)
		ext := path.Ext(f.Name())
		name := strings.TrimSuffix(f.Name(), ext) + "." + hex.EncodeToString(sum[:6]) + ext
		p.assets[name] = asset{kinds[ext], data}
		p.names[f.Name()] = "/static/" + name
	}
	funcs := template.FuncMap{
		"asset": func(name string) string { return p.names[name] },
		"bytes": humanBytes, "percent": percent, "took": took, "lasted": lasted, "when": when, "short": short, "subject": subject,
		"running": func(s job.State) bool { return s.Valid() && !s.Final() && s != job.Queued },
		"join":    func(list []string) string { return strings.Join(list, ", ") },
		"bar":     bar,
		"marked":  marked, "sentence": sentence, "advice": advice,
		"since": since, "until": until, "plain": plain, "secs": seconds, "mark": stateMark, "labels": labels,
	}
	layout, err := template.New("layout.html").Funcs(funcs).ParseFS(files, "templates/layout.html")
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		base := strings.TrimSuffix(path.Base(name), ".html")
		if base == "layout" {
			continue
		}
		t, err := layout.Clone()
		if err != nil {
			return nil, err
		}
		if p.templates[base], err = t.ParseFS(files, name); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// pageRoutes adds the pages.
func (s *server) pageRoutes() error {
	var err error
	if s.pages, err = loadPages(); err != nil {
		return fmt.Errorf("web: pages: %w", err)
	}
	add := func(pattern string, role Role, h http.HandlerFunc) {
		s.handle(pattern, access{role: role, page: true}, h)
	}
	add("GET /{$}", RoleRead, s.homePage)
	add("POST /jobs", RoleSubmit, s.postJob)
	add("GET /jobs/{id}", RoleRead, s.jobPage)
	add("GET /jobs/{id}/log", RoleRead, s.logPage)
	add("POST /jobs/{id}/cancel", RoleSubmit, s.postChange(s.svc.Cancel))
	add("POST /jobs/{id}/retry", RoleSubmit, s.postRetry)
	add("POST /jobs/{id}/again", RoleSubmit, s.postAgain)
	add("POST /sample", RoleSubmit, s.postSample)
	add("GET /health", RoleRead, s.healthPage)
	add("POST /jobs/{id}/purge", RoleOperate, s.postPurge)
	add("GET /history", RoleRead, s.historyPage)
	add("GET /batches/new", RoleSubmit, s.batchNewPage)
	add("POST /batches", RoleSubmit, s.postBatch)
	add("GET /batches/{id}", RoleRead, s.batchPage)
	add("POST /batches/{id}/retry", RoleSubmit, s.postRetryBatch)
	add("POST /batches/{id}/cancel", RoleSubmit, s.postCancelBatch)
	add("GET /queue", RoleRead, s.queuePage)
	add("POST /bans", RoleOperate, s.postBan)
	add("POST /bans/lift", RoleOperate, s.postUnban)
	add("GET /login", "", s.loginPage)
	add("POST /login", "", s.postLogin)
	add("POST /logout", "", s.postLogout)
	add("GET /problems", "", s.problemsPage)
	add("GET /api", "", s.apiPage)
	s.handle("GET /static/{name}", access{free: true}, s.static)
	s.handle("GET /favicon.ico", access{free: true}, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, s.pages.names["favicon.svg"], http.StatusMovedPermanently)
	})
	return nil
}

func (s *server) static(w http.ResponseWriter, r *http.Request) {
	a, ok := s.pages.assets[r.PathValue("name")]
	if !ok {
		writeProblem(w, r, problem(job.CodeNotFound, "there is nothing at %.200q", r.URL.Path))
		return
	}
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.data))
}

// buffers are for pages, which are written when they are whole.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// show writes a page.
func (s *server) show(w http.ResponseWriter, r *http.Request, status int, name string, v view) {
	in := infoFrom(r.Context())
	v.Who = visitor{Name: in.caller.name, Token: in.caller.token, Login: len(s.callers) > 0}
	v.Version, v.Now = cmp.Or(s.opts.Version.Version, "dev"), time.Now().UnixMilli()
	v.Subject = cmp.Or(v.Subject, v.Title)
	for _, n := range []navItem{{"New", "/", false}, {"History", "/history", false}, {"Queue", "/queue", false}, {"API", "/api", false}} {
		n.Here = r.URL.Path == n.Path && status == http.StatusOK
		v.Nav = append(v.Nav, n)
	}
	b, _ := buffers.Get().(*bytes.Buffer)
	b.Reset()
	defer buffers.Put(b)
	if err := s.pages.templates[name].Execute(b, v); err != nil {
		in.failed(fmt.Errorf("page %s: %w", name, err))
		writeProblem(w, r, problem(job.CodeInternal, "the page cannot be shown; the log has the reason under the request ID"))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Cookie")
	w.WriteHeader(status)
	_, _ = w.Write(visible(b.Bytes()))
}

// problemPage is an error for people. Who lacks a token is asked for it.
func (s *server) problemPage(w http.ResponseWriter, r *http.Request, p *Problem) {
	if p.Code == codeUnauthorized && r.Method == http.MethodGet && len(s.callers) > 0 && r.URL.Path != "/login" {
		http.Redirect(w, r, "/login?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
		return
	}
	s.showProblem(w, r, problemData{Problem: p})
}

// problemData is an error with the way out, where that is a button.
type problemData struct {
	Problem        *Problem
	Action, Button string
}

func (s *server) showProblem(w http.ResponseWriter, r *http.Request, d problemData) {
	for k, v := range d.Problem.headers {
		w.Header()[k] = v
	}
	s.show(w, r, d.Problem.Status, "problem", view{Title: d.Problem.Title, Data: d})
}

// failPage answers with any error as a page.
func (s *server) failPage(w http.ResponseWriter, r *http.Request, err error) {
	s.problemPage(w, r, problemOf(r.Context(), err))
}

// formValues reads a form that has no files.
func formValues(w http.ResponseWriter, r *http.Request, limit int64) error {
	r.Body = http.MaxBytesReader(w, r.Body, limit)
	return bodyError(r.ParseForm())
}

// jobTable is a list of jobs on a page.
type jobTable struct {
	Label string
	Jobs  []job.Status
}

// side is one of the two updates in the form.
type side struct {
	Name, Legend, Hint, Example string
	URL, Hash, File             string
	WrongURL, WrongHash, Kept   string
}

type textField struct{ Name, Label, Hint, Value, Wrong string }

type choice struct {
	Value, Name string
	Chosen      bool
}

type homeData struct {
	May                        bool
	Problem                    *Problem
	Sides                      []side
	Texts                      []textField
	Recipes, Priorities, Skips []choice
	Force                      string
	Open                       bool
	Sample                     bool
	Again                      string // the job that is asked for again with changes
	Recent                     bool
	Table                      jobTable
}

// skips are the checks that the form may offer to leave out. The proof and signatures are never among them.
var skips = []choice{
	{Value: "channels", Name: "channels"},
	{Value: "product", Name: "same product and platform"},
	{Value: "downgrade", Name: "no downgrade"},
	{Value: "watershed", Name: "watersheds"},
}

// homeForm fills the form with what was sent, or with nothing.
func homeForm(v url.Values, p *Problem, kept map[string]job.Upload) homeData {
	wrong := map[string]string{}
	if p != nil {
		for _, e := range p.Errors {
			wrong[e.Field] = e.Message
		}
	}
	// find returns what is wrong with a field of the specification, or with what is below it.
	find := func(fields ...string) string {
		for _, f := range fields {
			for _, k := range slices.Sorted(mapsKeys(wrong)) {
				if k == f || strings.HasPrefix(k, f+"[") {
					return wrong[k]
				}
			}
		}
		return ""
	}
	d := homeData{May: true, Problem: p, Force: v.Get("force")}
	for _, sd := range []side{
		{Name: "from", Legend: "From", Hint: "the complete update of the old version", Example: "firefox-152.0"},
		{Name: "to", Legend: "To", Hint: "the complete update of the new version", Example: "firefox-153.0"},
	} {
		sd.URL, sd.Hash = v.Get(sd.Name+"_url"), v.Get(sd.Name+"_hash")
		sd.WrongURL = find(sd.Name+".urls", sd.Name)
		sd.WrongHash = find(sd.Name+".sha512", sd.Name+".sha256")
		sd.File = v.Get(sd.Name + "_name")
		if u, ok := kept[sd.Name]; ok {
			sd.Hash = u.SHA512
			sd.Kept = cmp.Or(name(sd.File), "The file") + " was uploaded (" + humanBytes(u.Size) + "); it need not be sent again."
		} else if sd.File != "" && sd.URL == "" && sd.Hash != "" {
			sd.Kept = name(sd.File) + " was uploaded; it need not be sent again."
		}
		d.Sides = append(d.Sides, sd)
	}
	for _, t := range []textField{
		{Name: "product", Label: "Product", Hint: "Where the files do not say."},
		{Name: "platform", Label: "Platform", Hint: "Such as linux-x86_64."},
		{Name: "arch", Label: "Architecture", Hint: "Decides about branch filters; x86_64 if empty."},
		{Name: "locale", Label: "Locale", Hint: "Such as en-US."},
		{Name: "channel", Label: "MAR channel", Hint: "That of TO if empty; of several, the one that FROM accepts."},
		{Name: "product_version", Label: "Product version", Hint: "That of TO if empty."},
		{Name: "channels", Label: "Allowed channels", Hint: "MAR channels that TO may be for; any if empty."},
		{Name: "formats", Label: "Patch formats", Hint: "mbdiff10, zucchini; those that FROM's updater is known to apply if empty."},
		{Name: "trust", Label: "Trust", Hint: "complete or version, where FROM's file and its version contradict each other."},
	} {
		t.Value, t.Wrong = v.Get(t.Name), find(t.Name)
		d.Open = d.Open || t.Value != "" || t.Wrong != ""
		d.Texts = append(d.Texts, t)
	}
	for _, c := range []choice{
		{Value: "", Name: "automatic"},
		{Value: "default", Name: "default"},
		{Value: "mozilla", Name: "as Mozilla's scripts"},
	} {
		c.Chosen = v.Get("recipe") == c.Value
		d.Recipes = append(d.Recipes, c)
	}
	for n := range 10 {
		c := choice{Value: fmt.Sprint(n), Name: fmt.Sprint(n), Chosen: v.Get("priority") == fmt.Sprint(n)}
		if n == 0 {
			c.Name = "0 – normal"
		}
		d.Priorities = append(d.Priorities, c)
	}
	for _, c := range skips { // showHome takes away what this caller may not leave out
		c.Chosen = slices.Contains(v["skip"], c.Value)
		d.Skips = append(d.Skips, c)
	}
	d.Open = d.Open || len(v["skip"]) > 0 || d.Force != "" || v.Get("recipe") != "" || !slices.Contains([]string{"", "0"}, v.Get("priority"))
	return d
}

func (s *server) homePage(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	id := q.Get("again")
	if id == "" {
		s.showHome(w, r, http.StatusOK, homeForm(q, nil, nil))
		return
	}
	st, err := s.status(r.Context(), id)
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	d := homeForm(formOf(st.Spec), nil, nil)
	d.Again = id
	s.showHome(w, r, http.StatusOK, d)
}

// formOf fills the form with what was asked for before.
func formOf(sp job.Spec) url.Values {
	v := url.Values{}
	set := func(name string, values ...string) {
		if text := strings.Join(values, " "); text != "" {
			v.Set(name, text)
		}
	}
	for name, src := range map[string]job.Source{"from": sp.From, "to": sp.To} {
		set(name+"_url", src.URLs...)
		set(name+"_hash", cmp.Or(src.SHA512, src.SHA256))
		set(name+"_name", src.Name)
	}
	set("product", sp.Product)
	set("platform", sp.Platform)
	set("arch", sp.Arch)
	set("locale", sp.Locale)
	set("channel", sp.Channel)
	set("product_version", sp.ProductVersion)
	set("channels", sp.Channels...)
	set("formats", sp.Formats...)
	set("trust", sp.Trust)
	set("force", strings.Join(sp.Force, "\n"))
	if sp.Recipe != "auto" {
		set("recipe", sp.Recipe)
	}
	if sp.Priority > 0 {
		set("priority", fmt.Sprint(sp.Priority))
	}
	v["skip"] = sp.Skip
	return v
}

// postSample makes two versions of a small product on the spot and asks for the partial between them.
func (s *server) postSample(w http.ResponseWriter, r *http.Request) {
	st, err := s.sample(r.Context())
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	http.Redirect(w, r, "/jobs/"+st.ID, http.StatusSeeOther)
}

// sampleSize is that of the sample in bytes, before it is packed: enough for every step to be seen, little enough to be
// over soon.
const sampleSize = 2 << 20

func (s *server) sample(ctx context.Context) (job.Status, error) {
	if !s.opts.Sample {
		return job.Status{}, problem(job.CodeNotFound, "this service signs, or wants signatures: a sample has none")
	}
	if err := s.accepting(); err != nil {
		return job.Status{}, err
	}
	// Every sample is one of its own, so that something is made; the same within a minute, whoever asks again and again.
	seed := time.Now().UTC().Format("2006-01-02 15:04")
	spec := job.Spec{Locale: "en-US", Platform: "linux-x86_64", Labels: map[string]string{"sample": seed}}
	for version, src := range map[string]*job.Source{"1.0": &spec.From, "2.0": &spec.To} {
		data, err := s.samples.get(ctx, seed, version)
		if err != nil {
			return job.Status{}, err
		}
		u, err := s.svc.Upload(ctx, bytes.NewReader(data), asker(ctx))
		if err != nil {
			return job.Status{}, err
		}
		src.SHA512, src.Size, src.Name = u.SHA512, u.Size, "sample-"+version+".complete.mar"
	}
	return s.submit(ctx, spec)
}

// samples makes each sample once at a time, and keeps the latest pair.
type samples struct {
	mu   sync.Mutex
	seed string
	made map[string][]byte
}

func (s *samples) get(ctx context.Context, seed, version string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seed != seed {
		s.seed, s.made = seed, map[string][]byte{}
	}
	if data := s.made[version]; data != nil {
		return data, nil
	}
	data, err := sample.Complete(ctx, seed, version, sampleSize)
	if err == nil {
		s.made[version] = data
	}
	return data, err
}

// healthPage says in words what works and what does not.
func (s *server) healthPage(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := call(r.Context())
	defer cancel()
	d := healthData{Operator: infoFrom(r.Context()).caller.may(RoleOperate), Ready: s.svc.Ready()}
	for _, h := range s.svc.Health(ctx) {
		kind, _, _ := strings.Cut(h.Name, " ")
		row := healthRow{Health: h, What: healthWords[kind][0], Then: healthWords[kind][1]}
		if !d.Operator {
			row.Error = "" // it may name machines
		}
		d.Rows = append(d.Rows, row)
		d.Broken = d.Broken || !h.OK
	}
	s.show(w, r, http.StatusOK, "health", view{Title: "Health", Renew: 10, Data: d})
}

type healthData struct {
	Operator, Ready, Broken bool
	Rows                    []healthRow
}

type healthRow struct {
	job.Health
	What, Then string
}

// healthWords say what something is for, and what is so while it does not answer.
var healthWords = map[string][2]string{
	"queue":   {"which jobs wait, and who works on what", "New jobs are taken and wait; what is there is handed out."},
	"ledger":  {"who asked for what, and what became of it", "Nothing new is taken: it could not be written down."},
	"cache":   {"what was fetched and made, on this server's disk", "Nothing can be fetched or made on this server."},
	"storage": {"what was made, for all servers", "What the cache has is handed out; jobs wait for their attempts."},
	"signer":  {"signs what was proved", "Jobs cannot end: nothing unsigned is stored."},
}

func (s *server) showHome(w http.ResponseWriter, r *http.Request, status int, d homeData) {
	in := infoFrom(r.Context())
	d.May = in.caller.may(RoleSubmit)
	d.Sample = s.opts.Sample && d.May
	d.Skips = slices.DeleteFunc(d.Skips, func(c choice) bool {
		return !in.caller.may(RoleOperate) || !slices.Contains(s.opts.Skip, c.Value)
	})
	if in.caller.may(RoleRead) {
		ctx, cancel := call(r.Context())
		defer cancel()
		// A list that cannot be had is no reason to show no form.
		if page, err := s.svc.History(ctx, job.Filter{Limit: 5}); err == nil {
			d.Table = jobTable{"Latest jobs", page.Jobs}
			d.Recent = len(page.Jobs) > 0
		}
	}
	s.show(w, r, status, "home", view{Title: "Make a partial update", Data: d})
}

// mark leads from the top of the form to a field that is wrong.
type mark struct{ ID, Name, Message string }

// marked lists the fields of the form that are wrong.
func marked(p *Problem) []mark {
	var out []mark
	for _, e := range p.Errors {
		base, _, _ := strings.Cut(e.Field, "[")
		which, part, _ := strings.Cut(base, ".")
		m := mark{ID: base, Name: strings.ReplaceAll(base, "_", " "), Message: e.Message}
		if which == "from" || which == "to" {
			m.ID, m.Name = which+"_url", "address of "+strings.ToUpper(which)
			if part == "sha512" || part == "sha256" {
				m.ID, m.Name = which+"_hash", "hash of "+strings.ToUpper(which)
			}
		}
		out = append(out, m)
	}
	return out
}

// advice is the way out for people: they have a clock instead of a header.
func advice(p *Problem) string {
	if p.RetryAfter > 0 {
		return "Try again in " + took(time.Duration(p.RetryAfter)*time.Second) + "."
	}
	return p.Advice
}

// sent is a form with files.
type sent struct {
	values  url.Values
	uploads map[string]job.Upload // "from", "to"
}

// readForm reads the form of the home page. Files go to the service as they come in, and nowhere else.
func (s *server) readForm(w http.ResponseWriter, r *http.Request) (sent, error) {
	f := sent{values: url.Values{}, uploads: map[string]job.Upload{}}
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
		err := formValues(w, r, maxBody)
		f.values = r.PostForm
		return f, err
	}
	s.upload(r)
	parts, err := r.MultipartReader()
	if err != nil {
		return f, problem(codeSyntax, "the form cannot be read: %v", err)
	}
	left := int64(maxBody)
	for n := 0; ; n++ {
		part, err := parts.NextPart()
		if err == io.EOF {
			return f, nil
		}
		if err != nil {
			return f, bodyError(err)
		}
		name := part.FormName()
		which, isFile := strings.CutSuffix(name, "_file")
		switch {
		case n > 100:
			return f, problem(job.CodeTooLarge, "the form has more than 100 fields")
		case isFile && (which == "from" || which == "to") && part.FileName() != "":
			if err := s.accepting(); err != nil {
				return f, err
			}
			if _, twice := f.uploads[which]; twice {
				return f, problem(job.CodeRequest, "the form has two files for %s", strings.ToUpper(which)).in(which + ".urls")
			}
			end, err := s.begin(r.Context())
			if err != nil {
				return f, err
			}
			u, err := s.svc.Upload(r.Context(), part, asker(r.Context()))
			end()
			if err != nil {
				var e *job.Error
				if errors.As(err, &e) {
					e := *e
					e.Field = which + ".urls"
					err = &e
				}
				return f, err
			}
			f.uploads[which] = u
			f.values.Set(which+"_name", chain.Cut(strings.ToValidUTF8(path.Base(strings.ReplaceAll(part.FileName(), "\\", "/")), "�"), 255))
		case isFile: // nothing was chosen
		default:
			value, err := io.ReadAll(io.LimitReader(part, left+1))
			if err != nil {
				return f, bodyError(err)
			}
			if left -= int64(len(value)); left < 0 {
				return f, problem(job.CodeTooLarge, "the form has more than 64 KiB of text")
			}
			f.values.Add(name, string(value))
		}
	}
}

// spec makes a request of the form.
func (f *sent) spec() (job.Spec, error) {
	var spec job.Spec
	var wrong []FieldProblem
	bad := func(field, text string) { wrong = append(wrong, FieldProblem{field, text}) }
	for _, k := range slices.Sorted(mapsKeys(f.values)) {
		for _, v := range f.values[k] {
			if strings.ToValidUTF8(v, "") != v {
				bad(k, "This is not UTF-8.")
			}
		}
	}
	get := func(name string) string { return strings.TrimSpace(f.values.Get(name)) }
	for _, sd := range []struct {
		name string
		src  *job.Source
	}{{"from", &spec.From}, {"to", &spec.To}} {
		sd.src.URLs = strings.Fields(get(sd.name + "_url"))
		hash := strings.ToLower(get(sd.name + "_hash"))
		switch {
		case hash == "":
		case hexDigits.MatchString(hash) && len(hash) == 128:
			sd.src.SHA512 = hash
		case hexDigits.MatchString(hash):
			sd.src.SHA256 = hash
		default:
			bad(sd.name+".sha512", "A SHA-512 has 128 hexadecimal digits, a SHA-256 has 64.")
		}
		u, uploaded := f.uploads[sd.name]
		if len(sd.src.URLs) == 0 {
			sd.src.Name = chain.Cut(get(sd.name+"_name"), 255)
		}
		switch {
		case uploaded:
			if hash != "" && hash != u.SHA512 && hash != u.SHA256 {
				bad(sd.name+".sha512", "The uploaded file has another hash; its SHA-512 is "+u.SHA512+".")
			}
			sd.src.SHA512, sd.src.SHA256, sd.src.Size = u.SHA512, "", u.Size
		case len(sd.src.URLs) == 0 && hash == "":
			bad(sd.name+".urls", "Give an address and a hash, or choose a file.")
		case hash == "":
			bad(sd.name+".sha512", "The hash is needed with an address.")
		}
	}
	spec.Product, spec.Platform, spec.Arch, spec.Locale = get("product"), get("platform"), get("arch"), get("locale")
	spec.Channel, spec.ProductVersion, spec.Recipe = get("channel"), get("product_version"), get("recipe")
	spec.Trust = get("trust")
	words := func(name string) []string {
		return strings.FieldsFunc(get(name), func(c rune) bool { return c == ',' || c == ' ' })
	}
	spec.Channels, spec.Formats = words("channels"), words("formats")
	for line := range strings.Lines(f.values.Get("force")) {
		if line = strings.TrimSpace(line); line != "" {
			spec.Force = append(spec.Force, line)
		}
	}
	spec.Skip = f.values["skip"]
	if p := get("priority"); p != "" {
		if len(p) != 1 || p[0] < '0' || p[0] > '9' {
			bad("priority", "The priority is 0 to 9.")
		} else {
			spec.Priority = int(p[0] - '0')
		}
	}
	if len(wrong) > 0 {
		p := problem(job.CodeRequest, "The form is not complete yet.")
		p.Field, p.Errors = wrong[0].Field, wrong
		p.Advice = "Correct what is marked and send the form again."
		return spec, p
	}
	return spec, nil
}

func (s *server) postJob(w http.ResponseWriter, r *http.Request) {
	f, err := s.readForm(w, r)
	var st job.Status
	if err == nil {
		var spec job.Spec
		if spec, err = f.spec(); err == nil {
			st, err = s.submit(r.Context(), spec)
		}
	}
	if err != nil {
		// A browser shows the answer only if it could send all of the form.
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, 1<<30))
		p := problemOf(r.Context(), err)
		for k, v := range p.headers {
			w.Header()[k] = v
		}
		s.showHome(w, r, p.Status, homeForm(f.values, p, f.uploads))
		return
	}
	http.Redirect(w, r, "/jobs/"+st.ID, http.StatusSeeOther)
}

func (s *server) postChange(do func(context.Context, string, job.Asker) (job.Status, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		st, err := s.change(r.Context(), r.PathValue("id"), do)
		if err != nil {
			s.failPage(w, r, err)
			return
		}
		http.Redirect(w, r, "/jobs/"+st.ID, http.StatusSeeOther)
	}
}

func (s *server) postRetry(w http.ResponseWriter, r *http.Request) {
	if err := errors.Join(s.accepting(), s.quota(r.Context(), 1)); err != nil {
		s.failPage(w, r, err)
		return
	}
	s.postChange(s.svc.Retry)(w, r)
}

// postAgain has a partial made again that is not here any more, as it was asked for: with the passwords in its addresses, which
// nobody is shown. One that is here after all is shown.
func (s *server) postAgain(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	err := errors.Join(s.accepting(), s.quota(r.Context(), 1))
	if err == nil {
		_, err = s.change(r.Context(), id, s.svc.Retry)
	}
	if err != nil && !errors.Is(err, &job.Error{Code: job.CodeConflict}) {
		s.failPage(w, r, err)
		return
	}
	http.Redirect(w, r, "/jobs/"+id, http.StatusSeeOther)
}

func (s *server) postPurge(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !isID(id) {
		s.failPage(w, r, noJob(id))
		return
	}
	if _, err := s.purge(r.Context(), id, time.Time{}); err != nil {
		s.failPage(w, r, err)
		return
	}
	http.Redirect(w, r, "/jobs/"+id, http.StatusSeeOther)
}

type historyData struct {
	Query                  url.Values
	Sizes                  template.HTML // partial against complete
	States                 []choice
	Problem                *Problem
	Table                  jobTable
	Searched               bool
	First, Next, CSV, JSON string
}

func (s *server) historyPage(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	for k := range q {
		for i, v := range q[k] {
			q[k][i] = strings.ToValidUTF8(chain.Cut(v, 300), "�")
		}
	}
	f := job.Filter{
		State: job.State(q.Get("state")), Product: q.Get("product"), Locale: strings.TrimSpace(q.Get("locale")),
		Who: strings.TrimSpace(q.Get("who")), Text: strings.TrimSpace(q.Get("q")), Label: label(q.Get("label")), Batch: q.Get("batch"), Limit: 50, Cursor: q.Get("cursor"),
	}
	d := historyData{Query: q}
	var err error
	f.Since, err = day(q.Get("since"), 0)
	if err == nil {
		f.Until, err = day(q.Get("until"), 1)
	}
	for _, st := range job.States() {
		d.States = append(d.States, choice{Value: string(st), Chosen: st == f.State})
	}
	ctx, cancel := call(r.Context())
	defer cancel()
	status := http.StatusOK
	var page job.Page
	if err != nil {
		err = problem(job.CodeRequest, "%v", err)
	} else if f.State != "" && !f.State.Valid() {
		err = problem(job.CodeRequest, "there is no state %q", f.State)
	} else {
		page, err = s.svc.History(ctx, f)
	}
	if err != nil {
		d.Problem = problemOf(r.Context(), err)
		status = d.Problem.Status
	}
	d.Table = jobTable{"Jobs", page.Jobs}
	d.Sizes = sizes(page.Jobs)
	base := url.Values{}
	for k, v := range map[string]string{"state": string(f.State), "product": f.Product, "locale": f.Locale, "who": f.Who, "q": f.Text, "label": f.Label, "batch": f.Batch, "since": q.Get("since"), "until": q.Get("until")} {
		if v != "" {
			base.Set(k, v)
			d.Searched = true
		}
	}
	link := func(path string, more ...string) string {
		q := url.Values{}
		for k, v := range base {
			q[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			q.Set(more[i], more[i+1])
		}
		return strings.TrimSuffix(path+"?"+q.Encode(), "?")
	}
	if f.Cursor != "" {
		d.First = link("/history")
	}
	if page.Next != "" {
		d.Next = link("/history", "cursor", page.Next)
	}
	for k, t := range map[string]time.Time{"since": f.Since, "until": f.Until} { // programs say the second
		if base.Del(k); !t.IsZero() {
			base.Set(k, t.Format(time.RFC3339))
		}
	}
	d.CSV, d.JSON = link("/api/v1/history", "format", "csv", "limit", "1000"), link("/api/v1/history")
	s.show(w, r, status, "history", view{Title: "History", Data: d})
}

// label reads a label as people write it: as it stands in the table, too.
func label(text string) string {
	name, value, ok := strings.Cut(strings.TrimSpace(text), ": ")
	if ok && !strings.Contains(name, "=") {
		return name + "=" + value
	}
	return strings.TrimSpace(text)
}

// day reads a date, so many days later, in UTC. Nothing is no date.
func day(text string, later int) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return t, fmt.Errorf("%.20q is not a date such as 2026-01-31", text)
	}
	return t.AddDate(0, 0, later), nil
}

// maxRows is how many jobs of a batch its page shows; the history has all of them.
const maxRows = 300

type batchData struct {
	More     int // that are not shown
	Batch    job.Batch
	State    job.State
	Ended    int
	Counts   []stateCount
	Complete int64
	Size     int64
	Saved    float64
	Grid     *grid
	Table    jobTable
	// How many jobs the buttons are about; 0 where there is none to press.
	MayRetry, MayCancel int
	Made                int // partials that can be downloaded
}

type stateCount struct {
	State job.State
	N     int
}

func (s *server) batchPage(w http.ResponseWriter, r *http.Request) {
	b, err := s.batch(r.Context(), r.PathValue("id"))
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	d := batchData{Batch: b, State: job.Queued, Grid: gridOf(b.Jobs), Table: jobTable{"Partials of the batch", b.Jobs}}
	v := view{Title: fmt.Sprintf("Batch of %d partials", len(b.Jobs)), Renew: 3}
	if len(b.Jobs) > maxRows {
		// What somebody may have to look after comes first.
		order := map[job.State]int{job.Failed: 0, job.Cancelled: 1, job.Queued: 3, job.Done: 4}
		rank := func(st job.Status) int {
			if n, ok := order[st.State]; ok {
				return n
			}
			return 2
		}
		rows := slices.SortedStableFunc(slices.Values(b.Jobs), func(x, y job.Status) int { return cmp.Compare(rank(x), rank(y)) })
		d.Table.Jobs, d.More, v.Renew = rows[:maxRows], len(rows)-maxRows, 10
	}
	for _, st := range job.States() {
		n := b.Counts[st]
		if n == 0 {
			continue
		}
		d.Counts = append(d.Counts, stateCount{st, n})
		if st.Final() {
			d.Ended += n
		} else if st != job.Queued {
			d.State = st
		}
	}
	may := infoFrom(r.Context()).caller.may(RoleSubmit)
	for _, j := range b.Jobs {
		switch {
		case !may:
		case !j.State.Final():
			d.MayCancel++
		case j.State == job.Cancelled, j.State == job.Failed && helps(j.Error):
			d.MayRetry++
		}
		if made(j) {
			d.Made++
		}
		if j.Result != nil {
			d.Size += j.Result.Size
			d.Complete += j.Result.Complete
		}
	}
	if d.Complete > 0 {
		d.Saved = 1 - float64(d.Size)/float64(d.Complete)
	}
	if b.Done {
		v.Renew, d.State = 0, job.Done
		if b.Counts[job.Failed] > 0 {
			d.State = job.Failed
		}
	}
	v.Data = d
	s.show(w, r, http.StatusOK, "batch", v)
}

// stateMark is the sign of a state in a grid.
func stateMark(s job.State) string {
	switch s {
	case job.Done:
		return "✓"
	case job.Failed:
		return "✗"
	case job.Cancelled:
		return "⊘"
	case job.Queued:
		return "…"
	}
	return "▸"
}

type batchNewData struct {
	Problem                 *Problem
	Lines, Product, Channel string
}

func (s *server) batchNewPage(w http.ResponseWriter, r *http.Request) {
	s.show(w, r, http.StatusOK, "batchnew", view{Title: "Many at once", Data: batchNewData{}})
}

func (s *server) postBatch(w http.ResponseWriter, r *http.Request) {
	var d batchNewData
	err := formValues(w, r, maxBatchBody)
	if err == nil {
		d = batchNewData{Lines: r.PostForm.Get("lines"), Product: r.PostForm.Get("product"), Channel: r.PostForm.Get("channel")}
		var specs []job.Spec
		var lines []int
		if specs, lines, err = parseLines(d); err == nil {
			var b job.Batch
			if b, err = s.submitBatch(r.Context(), &BatchRequest{Specs: specs}); err == nil {
				http.Redirect(w, r, "/batches/"+b.ID, http.StatusSeeOther)
				return
			}
			var own *job.Error
			if errors.As(err, &own) {
				if i, field, ok := ofSpec(own.Field); ok && i < len(lines) {
					err = problem(own.Code, "line %d: %s: %s", lines[i], field, own.Message)
				}
			}
		}
	}
	d.Problem = problemOf(r.Context(), err)
	for k, v := range d.Problem.headers {
		w.Header()[k] = v
	}
	s.show(w, r, d.Problem.Status, "batchnew", view{Title: "Many at once", Data: d})
}

// parseLines reads the form for many partials. lines has the number of each one's line.
func parseLines(d batchNewData) (specs []job.Spec, lines []int, err error) {
	n := 0
	for line := range strings.Lines(d.Lines) {
		n++
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) < 4 || len(f) > 6 {
			return nil, nil, problem(job.CodeRequest, "line %d has %d words; it needs four to six", n, len(f))
		}
		spec := job.Spec{Product: strings.TrimSpace(d.Product), Channel: strings.TrimSpace(d.Channel)}
		if spec.From, err = hashOf(fmt.Sprintf("line %d: the second word", n), f[1], f[0]); err == nil {
			spec.To, err = hashOf(fmt.Sprintf("line %d: the fourth word", n), f[3], f[2])
		}
		if err != nil {
			return nil, nil, err
		}
		if len(f) > 4 {
			spec.Locale = f[4]
		}
		if len(f) > 5 {
			spec.Platform = f[5]
		}
		lines = append(lines, n)
		if specs = append(specs, spec); len(specs) > 10000 {
			return nil, nil, problem(job.CodeRequest, "more than 10000 partials; send several batches")
		}
	}
	return specs, lines, nil
}

type queueData struct {
	Problem  *Problem
	Queue    *job.Queue
	Day      *dayData
	Operator bool
	Bans     []job.Ban
	Actions  []job.Action
}

func (s *server) queuePage(w http.ResponseWriter, r *http.Request) {
	s.showQueue(w, r, nil)
}

func (s *server) showQueue(w http.ResponseWriter, r *http.Request, failed error) {
	ctx, cancel := call(r.Context())
	defer cancel()
	d := queueData{Operator: infoFrom(r.Context()).caller.may(RoleOperate)}
	q, err := s.svc.Queue(ctx)
	if err == nil {
		d.Queue = &q
	}
	if infoFrom(r.Context()).caller.may(RoleRead) {
		d.Day = s.day.get(ctx, s.svc)
	}
	if d.Operator {
		var err1, err2 error
		d.Bans, err1 = s.svc.Bans(ctx)
		d.Actions, err2 = s.svc.Actions(ctx, job.Filter{Limit: 20})
		err = cmp.Or(err, err1, err2)
	}
	status := http.StatusOK
	if err = cmp.Or(failed, err); err != nil {
		d.Problem = problemOf(r.Context(), err)
		status = d.Problem.Status
	}
	s.show(w, r, status, "queue", view{Title: "Queue and workers", Renew: 5, Data: d})
}

func (s *server) postBan(w http.ResponseWriter, r *http.Request) {
	err := formValues(w, r, maxBody)
	if err == nil {
		var hours int
		if _, scanErr := fmt.Sscanf(r.PostForm.Get("hours"), "%d", &hours); scanErr != nil || hours < 1 || hours > 8760 {
			err = problem(job.CodeRequest, "the hours are a number from 1 to 8760")
		} else {
			in := &banIn{BanRequest{strings.TrimSpace(r.PostForm.Get("address")), hours * 3600, chain.Cut(r.PostForm.Get("reason"), 300)}}
			_, err = s.ban(r.Context(), in)
		}
	}
	s.afterQueue(w, r, err)
}

func (s *server) postUnban(w http.ResponseWriter, r *http.Request) {
	err := formValues(w, r, maxBody)
	if err == nil {
		_, err = s.unban(r.Context(), &unban{r.PostForm.Get("address")})
	}
	s.afterQueue(w, r, err)
}

func (s *server) afterQueue(w http.ResponseWriter, r *http.Request, err error) {
	if err != nil {
		s.showQueue(w, r, err)
		return
	}
	http.Redirect(w, r, "/queue", http.StatusSeeOther)
}

type logData struct {
	ID    string
	Slow  []shownFile // files that took longest
	Lines []logLine
	Cut   bool
}

type logLine struct{ Time, Level, Text string }

const maxLogLines = 1000

func (s *server) logPage(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	st, err := s.status(r.Context(), id)
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	log, err := s.svc.Log(r.Context(), id)
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	defer log.Close()
	data, err := io.ReadAll(io.LimitReader(log, 8<<20))
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	d := logData{ID: id}
	for line := range bytes.Lines(data) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			d.Lines = append(d.Lines, parseLogLine(line))
		}
	}
	if n := len(d.Lines); n > maxLogLines {
		d.Lines, d.Cut = d.Lines[n-maxLogLines:], true
	}
	if st.State == job.Done {
		d.Slow = s.slowest(r.Context(), id)
	}
	v := view{Title: "Log of " + short(id), Data: d}
	if !st.State.Final() {
		v.Renew = 3
	}
	s.show(w, r, http.StatusOK, "log", v)
}

// slowest are the files whose patches took longest, of those that took any time.
func (s *server) slowest(ctx context.Context, id string) []shownFile {
	ctx, cancel := call(ctx)
	defer cancel()
	doc, err := s.svc.Report(ctx, id)
	var r shown
	if err != nil || json.Unmarshal(doc, &r) != nil {
		return nil // an extra
	}
	list := slices.DeleteFunc(r.Files, func(f shownFile) bool { return f.Seconds < 0.0005 })
	slices.SortStableFunc(list, func(a, b shownFile) int { return cmp.Compare(b.Seconds, a.Seconds) })
	return list[:min(len(list), 50)]
}

// parseLogLine makes a line of JSON readable; what is none stays as it is.
func parseLogLine(line []byte) logLine {
	var m map[string]any
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.UseNumber()
	if dec.Decode(&m) != nil {
		return logLine{Text: strings.ToValidUTF8(string(line), "�")}
	}
	take := func(k string) string {
		text, _ := m[k].(string)
		delete(m, k)
		return text
	}
	l := logLine{Time: take("time"), Level: strings.ToLower(take("level"))}
	if t, err := time.Parse(time.RFC3339Nano, l.Time); err == nil {
		l.Time = t.UTC().Format("15:04:05.000")
	}
	text := []string{take("msg")}
	for _, k := range slices.Sorted(mapsKeys(m)) {
		if k == "job" {
			continue // all lines have it
		}
		if v, ok := m[k].(string); ok {
			text = append(text, name(k+"="+v))
		} else if v, err := json.Marshal(m[k]); err == nil {
			text = append(text, name(k+"="+string(v)))
		}
	}
	l.Text = strings.Join(text, "  ")
	return l
}

type loginData struct {
	Next    string
	Problem *Problem
}

// localPath keeps to addresses of this service: whoever logs in is sent nowhere else.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}

func (s *server) loginPage(w http.ResponseWriter, r *http.Request) {
	s.show(w, r, http.StatusOK, "login", view{Title: "Log in", Data: loginData{Next: localPath(r.URL.Query().Get("next"))}})
}

func (s *server) postLogin(w http.ResponseWriter, r *http.Request) {
	in := infoFrom(r.Context())
	if err := formValues(w, r, maxBody); err != nil {
		s.failPage(w, r, err)
		return
	}
	next := localPath(r.PostForm.Get("next"))
	token := strings.TrimSpace(r.PostForm.Get("token"))
	if s.find(token) == nil {
		s.offend(r, in, "wrong tokens")
		p := problem(codeUnauthorized, "The token is not known.")
		p.Advice = "Look whether all of it was pasted."
		s.show(w, r, p.Status, "login", view{Title: "Log in", Data: loginData{next, problemOf(r.Context(), p)}})
		return
	}
	setCookie(w, in, token)
	http.Redirect(w, r, next, http.StatusSeeOther)
}

func (s *server) postLogout(w http.ResponseWriter, r *http.Request) {
	clearCookies(w)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (s *server) problemsPage(w http.ResponseWriter, r *http.Request) {
	s.show(w, r, http.StatusOK, "problems", view{Title: "Problems", Data: codes})
}

type apiData struct {
	Base   string
	Token  bool
	Groups []apiGroup
}

type apiGroup struct {
	Name, Title string
	Operations  []apiOperation
}

type apiOperation struct {
	Method, Path, Summary string
	Role                  Role
}

func (s *server) apiPage(w http.ResponseWriter, r *http.Request) {
	scheme := "http://"
	if infoFrom(r.Context()).Secure {
		scheme = "https://"
	}
	s.show(w, r, http.StatusOK, "api", view{Title: "API", Data: apiData{scheme + r.Host, len(s.callers) > 0, s.operations}})
}
