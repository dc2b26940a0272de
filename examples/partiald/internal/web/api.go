package web

import (
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/examples/internal/chain"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/partial"
)

// The answers and bodies of the API. huma makes the OpenAPI document from them.
type (
	// WaitHeaders are those of requests that may wait.
	WaitHeaders struct {
		Prefer         string `header:"Prefer" maxLength:"200" doc:"wait=N waits up to N seconds for the end." example:"wait=30"`
		IdempotencyKey string `header:"Idempotency-Key" maxLength:"255" doc:"Taken, but not needed: equal requests are one job anyway."`
	}
	createIn struct {
		WaitHeaders
		Body job.Spec
	}
	jobOut struct {
		Status            int
		Location          string `header:"Location" doc:"The job."`
		RetryAfter        string `header:"Retry-After" doc:"Seconds after which looking again makes sense, while the job is not done."`
		PreferenceApplied string `header:"Preference-Applied"`
		Body              job.Status
	}
	checkIn struct {
		Body job.Spec
	}
	checked struct {
		ID string `json:"id" doc:"ID that the job would have."`
	}
	checkOut struct{ Body checked }
	// JobID names a job in the path.
	JobID struct {
		ID string `path:"id" maxLength:"200" doc:"ID of a job." example:"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"`
	}
	waitIn struct {
		JobID
		Prefer string `header:"Prefer" maxLength:"200" doc:"wait=N waits up to N seconds for the end." example:"wait=30"`
	}

	// Build is one complete update in a matrix.
	Build struct {
		job.Source
		Platform string `json:"platform,omitempty" maxLength:"128"`
		Locale   string `json:"locale,omitempty" maxLength:"64"`
	}
	// Matrix asks for every old build with every new one of the same platform and locale.
	Matrix struct {
		From []Build `json:"from" minItems:"1" maxItems:"10000" doc:"Complete updates of the old versions."`
		To   []Build `json:"to" minItems:"1" maxItems:"10000" doc:"Complete updates of the new version."`
	}
	// Settings are what the jobs of a matrix have in common.
	Settings struct {
		Product        string            `json:"product,omitempty" maxLength:"64"`
		Arch           string            `json:"arch,omitempty" maxLength:"32"`
		Channel        string            `json:"channel,omitempty" maxLength:"63"`
		ProductVersion string            `json:"product_version,omitempty" maxLength:"31"`
		Formats        []string          `json:"formats,omitempty" maxItems:"8" doc:"As in a Spec."`
		Force          []string          `json:"force,omitempty" maxItems:"1000"`
		Channels       []string          `json:"channels,omitempty" maxItems:"64"`
		Recipe         string            `json:"recipe,omitempty" enum:"auto,default,mozilla"`
		Skip           []string          `json:"skip,omitempty" maxItems:"16" doc:"Checks to leave out; as in a Spec."`
		Trust          string            `json:"trust,omitempty" enum:"complete,version" doc:"As in a Spec."`
		Client         *job.ClientFacts  `json:"client,omitempty" doc:"As in a Spec."`
		Labels         map[string]string `json:"labels,omitempty"`
		Priority       int               `json:"priority,omitempty" minimum:"0" maximum:"9"`
	}
	// BatchRequest asks for many partials: those listed, those of a matrix, or both.
	BatchRequest struct {
		Specs    []job.Spec `json:"specs,omitempty" maxItems:"10000" doc:"Partials, one by one."`
		Matrix   *Matrix    `json:"matrix,omitempty" doc:"Every old build with every new one of the same platform and locale."`
		Settings *Settings  `json:"settings,omitempty" doc:"For all partials of the matrix."`
	}
	batchIn struct {
		WaitHeaders
		Body BatchRequest
	}
	batchOut struct {
		Status            int
		Location          string `header:"Location"`
		PreferenceApplied string `header:"Preference-Applied"`
		Body              job.Batch
	}
	batchIDIn struct {
		ID string `path:"id" maxLength:"200" doc:"ID of a batch."`
	}
	documentOut struct {
		ContentType string `header:"Content-Type"`
		Cache       string `header:"Cache-Control"`
		Body        []byte
	}

	historyIn struct {
		State   string    `query:"state" maxLength:"20" doc:"Only jobs in this state." enum:"queued,fetching,unpacking,diffing,packing,verifying,signing,storing,done,failed,cancelled"`
		Product string    `query:"product" maxLength:"64"`
		Locale  string    `query:"locale" maxLength:"64"`
		Who     string    `query:"who" maxLength:"64" doc:"Name of who asked."`
		Text    string    `query:"q" maxLength:"300" doc:"In the job's ID, hashes, addresses, versions or labels."`
		Label   string    `query:"label" maxLength:"300" doc:"A label's name, or name=value."`
		Since   time.Time `query:"since" doc:"Asked for at this time or later."`
		Until   time.Time `query:"until" doc:"Asked for before this time."`
		Batch   string    `query:"batch" maxLength:"200" doc:"Only jobs of this batch."`
		Limit   int       `query:"limit" minimum:"1" maximum:"1000" default:"100"`
		Cursor  string    `query:"cursor" maxLength:"500" doc:"From next of the page before."`
		Format  string    `query:"format" enum:"json,csv" doc:"csv answers as text/csv; so does Accept: text/csv."`
		Accept  string    `header:"Accept" hidden:"true"`
	}
	historyOut struct {
		ContentType string `header:"Content-Type"`
		Disposition string `header:"Content-Disposition"`
		Link        string `header:"Link" doc:"rel=next is the page after this one."`
		Body        any
	}
	actionsOut struct {
		Body struct {
			Actions []job.Action `json:"actions"`
		}
	}
	actionsIn struct {
		Who   string    `query:"who" maxLength:"64"`
		Text  string    `query:"q" maxLength:"300"`
		Since time.Time `query:"since"`
		Until time.Time `query:"until"`
		Limit int       `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}
	queueOut struct{ Body job.Queue }
	bansOut  struct {
		Body struct {
			Bans []job.Ban `json:"bans"`
		}
	}
	// BanRequest keeps an address out.
	BanRequest struct {
		Address string `json:"address" maxLength:"100" doc:"IP address, or a network of IPv6 addresses up to /64." example:"192.0.2.7"`
		Seconds int    `json:"seconds" minimum:"1" maximum:"31536000" doc:"For how long." example:"3600"`
		Reason  string `json:"reason,omitempty" maxLength:"300"`
	}
	banIn  struct{ Body BanRequest }
	banOut struct{ Body job.Ban }
	unban  struct {
		Address string `path:"address" maxLength:"200" doc:"As in the list of bans, with / as %2F."`
	}
	// PurgeRequest removes what is old.
	PurgeRequest struct {
		Before time.Time `json:"before" doc:"Partials that were made before this time are removed."`
	}
	purgeIn struct{ Body PurgeRequest }
	purged  struct {
		Removed int `json:"removed" doc:"How many partials were removed."`
	}
	purgeOut struct{ Body purged }
)

// adapter connects huma to the routes of the server.
type adapter struct{ s *server }

func (a adapter) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.s.mux.ServeHTTP(w, r) }

func (a adapter) Handle(op *huma.Operation, next func(huma.Context)) {
	role, _ := op.Metadata[metaRole].(Role)
	limit, _ := op.Metadata[metaBody].(int64)
	kinds := []string{"application/json", "application/problem+json"}
	if more, ok := op.Metadata[metaKinds].([]string); ok {
		kinds = append(kinds, more...)
	}
	s := a.s
	s.handle(op.Method+" "+op.Path, access{role: role}, func(w http.ResponseWriter, r *http.Request) {
		if !accepts(r.Header.Get("Accept"), kinds...) {
			writeProblem(w, r, problem(codeNotAccept, "this is %s", kinds[0]))
			return
		}
		if limit > 0 {
			if limit > maxBody && r.ContentLength != 0 && (r.ContentLength < 0 || r.ContentLength > maxBody) {
				select {
				case s.large <- struct{}{}:
					defer func() { <-s.large }()
				case <-r.Context().Done():
					return
				}
			}
			if err := jsonBody(w, r, limit); err != nil {
				writeProblem(w, r, err)
				return
			}
		}
		if id := r.PathValue("id"); isID(id) {
			infoFrom(r.Context()).job = id
		}
		w.Header().Set("Cache-Control", "no-store")
		next(humago.NewContext(op, r, w))
	})
}

const (
	metaRole  = "role"
	metaBody  = "body"
	metaKinds = "kinds"
)

// endings are the statuses of a job that ended without a result, or has not ended yet.
var endings = []int{404, 409, 410, 422, 424, 500, 502, 507}

// op describes an operation; statuses are those of its problems beside those that any request may meet.
func op(method, path, id, summary, description string, role Role, statuses ...int) huma.Operation {
	o := huma.Operation{
		Method: method, Path: path, OperationID: id, Summary: summary, Description: description,
		Tags:            []string{tagOf(path)},
		Metadata:        map[string]any{metaRole: role},
		Security:        []map[string][]string{{"bearer": {}}, {}},
		MaxBodyBytes:    -1, // jsonBody has looked at it
		BodyReadTimeout: -1,
		Responses:       map[string]*huma.Response{},
	}
	if method == http.MethodPost && !strings.HasSuffix(path, "/retry") {
		o.Metadata[metaBody] = int64(maxBody)
		statuses = append(statuses, 400, 408, 413, 415, 422)
	}
	for _, status := range slices.Concat(statuses, []int{401, 403, 406, 421, 429, 431, 500, 503}) {
		o.Responses[strconv.Itoa(status)] = &huma.Response{Ref: "#/components/responses/Problem"}
	}
	return o
}

func tagOf(path string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(path, "/api/v1/"), "/")
	name, _, _ = strings.Cut(name, ":")
	switch name {
	case "partials", "jobs", "batches", "uploads", "history":
		return name
	}
	return "operation"
}

// schemaName names the schema of a type; packages of the library have types of the same names as ours.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	if path.Base(t.PkgPath()) == "toolchain" {
		name = "Toolchain" + name
	}
	return name
}

// apiRoutes adds the API and makes its document.
func (s *server) apiRoutes() {
	schemas := huma.NewMapRegistry("#/components/schemas/", schemaName)
	problemSchema := schemas.Schema(reflect.TypeFor[Problem](), true, "Problem")
	api := huma.NewAPI(huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:   "partiald",
				Version: cmp.Or(s.opts.Version.Version, "dev"),
				Description: "Makes partial updates of Gecko-based products: ask for one by the addresses and hashes of two " +
					"complete updates, watch the job, download the result. Equal requests are one job. Errors are " +
					"RFC 9457 problems; /problems explains each code.",
			},
			Servers: []*huma.Server{{URL: "/", Description: "This server"}},
			Tags: []*huma.Tag{
				{Name: "partials", Description: "Ask for partials and download them."},
				{Name: "jobs", Description: "Watch and control the making of a partial."},
				{Name: "batches", Description: "Many partials at once."},
				{Name: "uploads", Description: "Complete updates that cannot be fetched."},
				{Name: "history", Description: "What was asked for before."},
				{Name: "operation", Description: "For those who keep the service running."},
			},
			Components: &huma.Components{
				Schemas: schemas,
				Responses: map[string]*huma.Response{"Problem": {
					Description: "A problem (RFC 9457).",
					Headers: map[string]*huma.Param{
						"Retry-After": {Schema: &huma.Schema{Type: "integer"}, Description: "Seconds after which the same request may work."},
					},
					Content: map[string]*huma.MediaType{"application/problem+json": {Schema: problemSchema}},
				}},
				SecuritySchemes: map[string]*huma.SecurityScheme{"bearer": {
					Type: "http", Scheme: "bearer", Description: "A token from the service's configuration, where it has some.",
				}},
			},
		},
		Formats:       map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{explain},
	}, adapter{s})
	schemas.Schema(reflect.TypeFor[job.Spec](), true, "Spec").PrecomputeMessages()

	create := op("POST", "/api/v1/partials", "createPartial", "Ask for a partial",
		"Answers 202 while the job is not done, and 200 once it is. One that failed or was cancelled is queued again. "+
			"With Prefer: wait=N it answers when the job ends, with a problem if it failed.", RoleSubmit, endings...)
	create.DefaultStatus = http.StatusAccepted
	create.Responses["200"] = okResponse("The partial is there.", schemas.Schema(reflect.TypeFor[job.Status](), true, "Status"))
	huma.Register(api, create, s.createPartial)
	huma.Register(api, op("POST", "/api/v1/partials:check", "checkPartial", "Check a request without asking for anything", "", RoleRead), s.checkPartial)
	batch := op("POST", "/api/v1/batches", "createBatch", "Ask for many partials",
		"All of them or, if one cannot be asked for, none. Equal batches are one. At most 4 MiB, and as many partials as the service is configured for, which is never more than 10000.", RoleSubmit, 404, 409)
	batch.DefaultStatus = http.StatusAccepted
	batch.Metadata[metaBody] = int64(maxBatchBody)
	batch.Responses["200"] = okResponse("All of its jobs are in a final state.", schemas.Schema(reflect.TypeFor[job.Batch](), true, "Batch"))
	huma.Register(api, batch, s.createBatch)
	huma.Register(api, op("GET", "/api/v1/batches/{id}", "getBatch", "A batch and its jobs", "", RoleRead, 404), s.getBatch)

	again := op("POST", "/api/v1/batches/{id}/retry", "retryBatch", "Try again what failed or was cancelled in a batch, and what is not here any more", "", RoleSubmit, 404)
	again.DefaultStatus = http.StatusAccepted
	again.Responses["200"] = okResponse("There was nothing to try again, and all of its jobs are in a final state.", schemas.Schema(reflect.TypeFor[job.Batch](), true, "Batch"))
	huma.Register(api, again, s.retryBatch)
	huma.Register(api, op("DELETE", "/api/v1/batches/{id}", "cancelBatch", "Cancel all jobs of a batch that wait or are under work", "", RoleSubmit, 404), s.cancelBatch)
	huma.Register(api, documented(op("GET", "/api/v1/batches/{id}/manifest", "getBatchManifest", "One manifest.json for all partials of a batch",
		"As Mozilla's partial-update task writes it: an array with an object for each job that is done. All jobs have to be in a final state.", RoleRead, endings...),
		schemas.Schema(reflect.TypeFor[[]senbonzakura.Submission](), true, "Manifest")), s.batchManifest)

	huma.Register(api, op("GET", "/api/v1/jobs/{id}", "getJob", "All that is known about a job", "With Prefer: wait=N it answers when the job ends, or after N seconds.", RoleRead, 404, 422), s.getJob)
	huma.Register(api, op("DELETE", "/api/v1/jobs/{id}", "cancelJob", "Cancel a job", "", RoleSubmit, 404, 409), s.cancelJob)
	retry := op("POST", "/api/v1/jobs/{id}/retry", "retryJob", "Try a job again that failed or was cancelled", "", RoleSubmit, 404, 409)
	retry.DefaultStatus = http.StatusAccepted
	huma.Register(api, retry, s.retryJob)
	huma.Register(api, documented(op("GET", "/api/v1/partials/{id}/report", "getReport", "What was done with every file, and why", "Also of a job that failed since its update was refused, or not proved.", RoleRead, endings...),
		schemas.Schema(reflect.TypeFor[partial.Report](), true, "Report")), s.document(s.svc.Report))
	huma.Register(api, documented(op("GET", "/api/v1/partials/{id}/provenance", "getProvenance", "Where a partial comes from: inputs, checks, recipe, output", "", RoleRead, endings...),
		schemas.Schema(reflect.TypeFor[senbonzakura.Provenance](), true, "Provenance")), s.document(s.svc.Provenance))
	huma.Register(api, op("DELETE", "/api/v1/partials/{id}", "purgePartial", "Remove a partial and what belongs to it", "", RoleOperate, 404, 409), s.purgePartial)
	huma.Register(api, op("POST", "/api/v1/purge", "purgePartials", "Remove old partials", "", RoleOperate), s.purgePartials)

	history := op("GET", "/api/v1/history", "getHistory", "Jobs, newest first", "", RoleRead, 422)
	history.Metadata[metaKinds] = []string{"text/csv"}
	history.Responses["200"] = okResponse("One page.", schemas.Schema(reflect.TypeFor[job.Page](), true, "Page"))
	history.Responses["200"].Content["text/csv"] = &huma.MediaType{Schema: &huma.Schema{Type: "string"}}
	huma.Register(api, history, s.history)
	huma.Register(api, op("GET", "/api/v1/actions", "getActions", "What people did to the service", "", RoleOperate, 422), s.actions)
	huma.Register(api, op("GET", "/api/v1/queue", "getQueue", "What waits and who works", "", RoleRead), s.queue)
	huma.Register(api, op("GET", "/api/v1/bans", "getBans", "Addresses that are kept out", "", RoleOperate), s.bans)
	huma.Register(api, op("POST", "/api/v1/bans", "createBan", "Keep an address out", "", RoleOperate, 409), s.ban)
	huma.Register(api, op("DELETE", "/api/v1/bans/{address}", "deleteBan", "Let an address in again", "", RoleOperate, 404, 422), s.unban)

	s.byteRoutes(api)
	illustrate(api.OpenAPI())
	s.operations = groups(api.OpenAPI())
	s.serveDocument(api.OpenAPI())
}

func okResponse(description string, schema *huma.Schema) *huma.Response {
	return &huma.Response{Description: description, Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}}
}

func documented(o huma.Operation, schema *huma.Schema) huma.Operation {
	o.Responses["200"] = okResponse("The document.", schema)
	return o
}

// fail makes an error that huma writes as our problem.
func fail(ctx context.Context, err error) error { return problemOf(ctx, err) }

// answer fills in what goes with a status.
func answer(ctx context.Context, st job.Status, waited time.Duration) *jobOut {
	infoFrom(ctx).job = st.ID
	out := &jobOut{Status: http.StatusOK, Location: "/api/v1/jobs/" + st.ID, Body: st}
	if !st.State.Final() {
		out.Status, out.RetryAfter = http.StatusAccepted, "2"
	}
	out.PreferenceApplied = applied(waited)
	return out
}

// applied says how long a request was ready to wait.
func applied(wait time.Duration) string {
	if wait == 0 {
		return ""
	}
	return "wait=" + strconv.Itoa(int(wait/time.Second))
}

// submit asks for one partial, after quota and the rest.
func (s *server) submit(ctx context.Context, spec job.Spec) (job.Status, error) {
	if err := s.accepting(); err != nil {
		return job.Status{}, err
	}
	if err := s.quota(ctx, 1); err != nil {
		return job.Status{}, err
	}
	ctx2, cancel := call(ctx)
	defer cancel()
	st, _, err := s.svc.Submit(ctx2, spec, asker(ctx))
	if err == nil {
		infoFrom(ctx).job = st.ID
	}
	return st, err
}

func (s *server) createPartial(ctx context.Context, in *createIn) (*jobOut, error) {
	wait, err := preferWait(in.Prefer, s.opts.MaxWait)
	if err != nil {
		return nil, fail(ctx, err)
	}
	st, err := s.submit(ctx, in.Body)
	if err != nil {
		return nil, fail(ctx, err)
	}
	if wait > 0 && !st.State.Final() {
		if waited, err := s.wait(ctx, st.ID, wait); err != nil {
			return nil, fail(ctx, err)
		} else if waited.ID != "" {
			st = waited
		}
	}
	if st.State == job.Failed || st.State == job.Cancelled {
		return nil, fail(ctx, jobProblem(st))
	}
	return answer(ctx, st, wait), nil
}

func (s *server) checkPartial(ctx context.Context, in *checkIn) (*checkOut, error) {
	id, err := s.svc.Check(in.Body, asker(ctx))
	if err != nil {
		return nil, fail(ctx, err)
	}
	return &checkOut{checked{id}}, nil
}

// pair is which builds of a matrix make one of its partials.
type pair struct{ from, to int }

// specs returns all that a batch asks for: those listed, then those of the pairs.
func (b *BatchRequest) specs() ([]job.Spec, []pair, error) {
	bad := func(field, format string, args ...any) error {
		e := job.Errorf(job.CodeRequest, format, args...)
		e.Field = field
		return e
	}
	specs := b.Specs
	if b.Matrix == nil {
		if b.Settings != nil {
			return nil, nil, bad("settings", "are for a matrix; a listed partial has its own")
		}
		if len(specs) == 0 {
			return nil, nil, bad("specs", "the batch asks for nothing: give specs or a matrix")
		}
		return specs, nil, nil
	}
	set := cmp.Or(b.Settings, &Settings{})
	type key struct{ platform, locale string }
	to := map[key][]int{}
	for i, t := range b.Matrix.To {
		k := key{t.Platform, t.Locale}
		to[k] = append(to[k], i)
	}
	var pairs []pair
	for i, f := range b.Matrix.From {
		targets := to[key{f.Platform, f.Locale}]
		if len(targets) == 0 {
			continue // see unmatched
		}
		for _, at := range targets {
			t := b.Matrix.To[at]
			if len(specs) >= 10000 {
				return nil, nil, bad("matrix", "asks for more than 10000 partials; send several batches")
			}
			pairs = append(pairs, pair{i, at})
			specs = append(specs, job.Spec{
				From: f.Source, To: t.Source, Platform: f.Platform, Locale: f.Locale,
				Product: set.Product, Arch: set.Arch, Channel: set.Channel, ProductVersion: set.ProductVersion, Formats: set.Formats, Force: set.Force, Trust: set.Trust, Client: set.Client,
				Channels: set.Channels, Recipe: set.Recipe, Skip: set.Skip, Labels: set.Labels, Priority: set.Priority,
			})
		}
	}
	if len(pairs) == 0 {
		return nil, nil, bad("matrix", "no build of matrix.from has one in matrix.to of the same platform and locale, as in: platform %q, locale %q", b.Matrix.From[0].Platform, b.Matrix.From[0].Locale)
	}
	return specs, pairs, nil
}

// unmatched lists the builds of the matrix that make no partial: a new locale has no old build, one that is gone no new one.
func (b *BatchRequest) unmatched() []job.Unmatched {
	if b.Matrix == nil {
		return nil
	}
	type key struct{ platform, locale string }
	var out []job.Unmatched
	for _, side := range []struct {
		name         string
		these, those []Build
	}{{"from", b.Matrix.From, b.Matrix.To}, {"to", b.Matrix.To, b.Matrix.From}} {
		others := map[key]bool{}
		for _, o := range side.those {
			others[key{o.Platform, o.Locale}] = true
		}
		for i, x := range side.these {
			if !others[key{x.Platform, x.Locale}] {
				out = append(out, job.Unmatched{Field: fmt.Sprintf("matrix.%s[%d]", side.name, i), Platform: x.Platform, Locale: x.Locale})
			}
		}
	}
	return out
}

var specField = regexp.MustCompile(`^specs\[([0-9]+)\]\.?(.*)$`)

// ofSpec takes the number of a spec out of the name of a field.
func ofSpec(field string) (i int, rest string, ok bool) {
	m := specField.FindStringSubmatch(field)
	if m == nil {
		return 0, "", false
	}
	i, err := strconv.Atoi(m[1])
	return i, m[2], err == nil
}

// place is where in the request the field of a spec stands that a pair made.
func (b *BatchRequest) place(field string, pairs []pair) string {
	i, rest, ok := ofSpec(field)
	if i -= len(b.Specs); !ok || i < 0 || i >= len(pairs) {
		return field
	}
	side, more, _ := strings.Cut(rest, ".")
	switch side {
	case "from":
		side = fmt.Sprintf("matrix.from[%d]", pairs[i].from)
	case "to":
		side = fmt.Sprintf("matrix.to[%d]", pairs[i].to)
	case "platform", "locale":
		return fmt.Sprintf("matrix.from[%d].%s", pairs[i].from, side)
	default:
		return "settings." + rest
	}
	return strings.TrimSuffix(side+"."+more, ".")
}

// submitBatch asks for many partials.
func (s *server) submitBatch(ctx context.Context, req *BatchRequest) (job.Batch, error) {
	specs, pairs, err := req.specs()
	if err != nil {
		return job.Batch{}, err
	}
	if err := s.accepting(); err != nil {
		return job.Batch{}, err
	}
	if err := s.quota(ctx, len(specs)); err != nil {
		return job.Batch{}, err
	}
	// Each of up to 10000 jobs is durable when this returns.
	long, cancel := context.WithTimeout(ctx, 4*callTimeout)
	defer cancel()
	b, err := s.svc.SubmitBatch(long, specs, req.unmatched(), asker(ctx))
	var own *job.Error
	if errors.As(err, &own) {
		c := *own
		c.Field = req.place(c.Field, pairs)
		err = &c
	}
	return b, err
}

func (s *server) createBatch(ctx context.Context, in *batchIn) (*batchOut, error) {
	wait, err := preferWait(in.Prefer, s.opts.MaxWait)
	if err != nil {
		return nil, fail(ctx, err)
	}
	b, err := s.submitBatch(ctx, &in.Body)
	if err != nil {
		return nil, fail(ctx, err)
	}
	if wait > 0 && !b.Done {
		if b, err = s.waitBatch(ctx, b, wait); err != nil {
			return nil, fail(ctx, err)
		}
	}
	out := batchAnswer(b)
	out.PreferenceApplied = applied(wait)
	return out, nil
}

// waitBatch returns a batch once all of its jobs are final, or after d. One is waited for after the other: the end comes
// with the last of them in any order.
func (s *server) waitBatch(ctx context.Context, b job.Batch, d time.Duration) (job.Batch, error) {
	end := time.Now().Add(d)
	for i := range b.Jobs {
		if b.Jobs[i].State.Final() {
			continue
		}
		st, err := s.wait(ctx, b.Jobs[i].ID, time.Until(end))
		if err != nil {
			return b, err
		}
		if !st.State.Final() { // waited enough, or the service stops
			break
		}
	}
	return s.batch(ctx, b.ID)
}

func batchAnswer(b job.Batch) *batchOut {
	out := &batchOut{Status: http.StatusOK, Location: "/api/v1/batches/" + b.ID, Body: b}
	if !b.Done {
		out.Status = http.StatusAccepted
	}
	return out
}

func (s *server) batch(ctx context.Context, id string) (job.Batch, error) {
	if !isID(id) {
		return job.Batch{}, problem(job.CodeNotFound, "there is no batch %.80q", id)
	}
	ctx, cancel := call(ctx)
	defer cancel()
	return s.svc.Batch(ctx, id)
}

func (s *server) getBatch(ctx context.Context, in *batchIDIn) (*batchOut, error) {
	infoFrom(ctx).job = ""
	b, err := s.batch(ctx, in.ID)
	if err != nil {
		return nil, fail(ctx, err)
	}
	out := batchAnswer(b)
	out.Status, out.Location = http.StatusOK, ""
	return out, nil
}

// status asks for a job.
func (s *server) status(ctx context.Context, id string) (job.Status, error) {
	if !isID(id) {
		return job.Status{}, noJob(id)
	}
	infoFrom(ctx).job = id
	ctx, cancel := call(ctx)
	defer cancel()
	return s.svc.Status(ctx, id)
}

func (s *server) getJob(ctx context.Context, in *waitIn) (*jobOut, error) {
	wait, err := preferWait(in.Prefer, s.opts.MaxWait)
	if err != nil {
		return nil, fail(ctx, err)
	}
	st, err := s.status(ctx, in.ID)
	if err != nil {
		return nil, fail(ctx, err)
	}
	if wait > 0 && !st.State.Final() {
		if waited, err := s.wait(ctx, in.ID, wait); err != nil {
			return nil, fail(ctx, err)
		} else if waited.ID != "" {
			st = waited
		}
	}
	out := answer(ctx, st, wait)
	out.Status, out.Location = http.StatusOK, ""
	return out, nil
}

func (s *server) cancelJob(ctx context.Context, in *JobID) (*jobOut, error) {
	st, err := s.change(ctx, in.ID, s.svc.Cancel)
	if err != nil {
		return nil, fail(ctx, err)
	}
	out := answer(ctx, st, 0)
	out.Status, out.Location = http.StatusOK, ""
	return out, nil
}

func (s *server) retryJob(ctx context.Context, in *JobID) (*jobOut, error) {
	if err := s.accepting(); err != nil {
		return nil, fail(ctx, err)
	}
	if err := s.quota(ctx, 1); err != nil {
		return nil, fail(ctx, err)
	}
	st, err := s.change(ctx, in.ID, s.svc.Retry)
	if err != nil {
		return nil, fail(ctx, err)
	}
	return answer(ctx, st, 0), nil
}

// change cancels or retries.
func (s *server) change(ctx context.Context, id string, do func(context.Context, string, job.Asker) (job.Status, error)) (job.Status, error) {
	if !isID(id) {
		return job.Status{}, noJob(id)
	}
	infoFrom(ctx).job = id
	limited, cancel := call(ctx)
	defer cancel()
	return do(limited, id, asker(ctx))
}

// document answers with what was stored as JSON.
func (s *server) document(get func(context.Context, string) (job.Document, error)) func(context.Context, *JobID) (*documentOut, error) {
	return func(ctx context.Context, in *JobID) (*documentOut, error) {
		if !isID(in.ID) {
			return nil, fail(ctx, noJob(in.ID))
		}
		limited, cancel := call(ctx)
		defer cancel()
		doc, err := get(limited, in.ID)
		if err != nil {
			return nil, fail(ctx, s.ended(ctx, in.ID, err))
		}
		return &documentOut{ContentType: "application/json", Body: doc}, nil
	}
}

// ended tells a job that is not done yet from one that never will be.
func (s *server) ended(ctx context.Context, id string, err error) error {
	if !errors.Is(err, &job.Error{Code: job.CodeNotReady}) {
		return err
	}
	st, err2 := s.status(ctx, id)
	if err2 == nil && (st.State == job.Failed || st.State == job.Cancelled) {
		return jobProblem(st)
	}
	p := problemOf(ctx, err)
	p.Job = id
	return p.after(2 * time.Second)
}

func (s *server) purgePartial(ctx context.Context, in *JobID) (*purgeOut, error) {
	if !isID(in.ID) {
		return nil, fail(ctx, noJob(in.ID))
	}
	return s.purge(ctx, in.ID, time.Time{})
}

func (s *server) purgePartials(ctx context.Context, in *purgeIn) (*purgeOut, error) {
	if in.Body.Before.IsZero() || in.Body.Before.After(time.Now()) {
		e := job.Errorf(job.CodeRequest, "has to be a time in the past")
		e.Field = "before"
		return nil, fail(ctx, e)
	}
	return s.purge(ctx, "", in.Body.Before)
}

func (s *server) purge(ctx context.Context, id string, before time.Time) (*purgeOut, error) {
	limited, cancel := context.WithTimeout(ctx, 4*callTimeout)
	defer cancel()
	n, err := s.svc.Purge(limited, id, before, asker(ctx))
	if err != nil {
		return nil, fail(ctx, err)
	}
	return &purgeOut{purged{n}}, nil
}

func (in *historyIn) filter() job.Filter {
	return job.Filter{
		State: job.State(in.State), Product: in.Product, Locale: in.Locale, Who: in.Who, Text: in.Text, Label: in.Label,
		Since: in.Since, Until: in.Until, Batch: in.Batch, Limit: in.Limit, Cursor: in.Cursor,
	}
}

func (s *server) history(ctx context.Context, in *historyIn) (*historyOut, error) {
	limited, cancel := call(ctx)
	defer cancel()
	page, err := s.svc.History(limited, in.filter())
	if err != nil {
		return nil, fail(ctx, err)
	}
	if page.Jobs == nil {
		page.Jobs = []job.Status{}
	}
	out := &historyOut{Body: page}
	if page.Next != "" {
		out.Link = fmt.Sprintf("</api/v1/history?%s>; rel=\"next\"", in.next(page.Next))
	}
	csv := strings.Contains(in.Accept, "text/csv") && !accepts(in.Accept, "application/json")
	if in.Format == "csv" || in.Format == "" && csv {
		out.ContentType = "text/csv; charset=utf-8"
		out.Disposition = `attachment; filename="history.csv"`
		out.Body = historyCSV(page.Jobs)
	}
	return out, nil
}

// next returns the query of the page after this one.
func (in *historyIn) next(cursor string) string {
	q := url.Values{}
	for k, v := range map[string]string{
		"state": in.State, "product": in.Product, "locale": in.Locale, "who": in.Who, "q": in.Text, "label": in.Label, "batch": in.Batch,
		"format": in.Format, "cursor": cursor,
	} {
		if v != "" {
			q.Set(k, v)
		}
	}
	for k, t := range map[string]time.Time{"since": in.Since, "until": in.Until} {
		if !t.IsZero() {
			q.Set(k, t.Format(time.RFC3339Nano))
		}
	}
	if in.Limit != 0 {
		q.Set("limit", strconv.Itoa(in.Limit))
	}
	return q.Encode()
}

// csvMore are the columns that came later: as a table, who asked, how long it took, and what it is about.
func csvMore(j job.Status) []string {
	var took, from, to string
	if r := j.Result; r != nil {
		took, from, to = strconv.FormatFloat(r.Elapsed.Seconds(), 'f', 3, 64), r.FromVersion, r.ToVersion
	} else if d := lasted(j); d > 0 {
		took = strconv.FormatFloat(d.Seconds(), 'f', 3, 64)
	}
	if a := j.About; a != nil {
		from, to = cmp.Or(from, a.FromVersion), cmp.Or(to, a.ToVersion)
	}
	var labels []string
	for _, k := range slices.Sorted(mapsKeys(j.Spec.Labels)) {
		labels = append(labels, k+"="+j.Spec.Labels[k])
	}
	return []string{j.By, took, from, to, strings.Join(labels, " "), unmarked(subject(j))}
}

// historyCSV is a page as a table.
func historyCSV(jobs []job.Status) []byte {
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write([]string{
		"id", "state", "created", "updated", "attempt", "server", "product", "platform", "locale", "channel", "product_version",
		"from_sha512", "from_sha256", "to_sha512", "to_sha256", "size", "complete", "saved", "sha512", "cached", "error_code", "error",
		"by", "took_seconds", "from_version", "to_version", "labels", "title",
	})
	for _, j := range jobs {
		row := []string{
			j.ID, string(j.State), j.Created.UTC().Format(time.RFC3339Nano), j.Updated.UTC().Format(time.RFC3339Nano),
			strconv.Itoa(j.Attempt), j.Server, j.Spec.Product, j.Spec.Platform, j.Spec.Locale, j.Spec.Channel, j.Spec.ProductVersion,
			j.Spec.From.SHA512, j.Spec.From.SHA256, j.Spec.To.SHA512, j.Spec.To.SHA256,
		}
		if r := j.Result; r != nil {
			row = append(row, strconv.FormatInt(r.Size, 10), strconv.FormatInt(r.Complete, 10),
				strconv.FormatFloat(r.Saved, 'f', 4, 64), r.SHA512, strconv.FormatBool(r.Cached))
		} else {
			row = append(row, "", "", "", "", "")
		}
		if e := j.Error; e != nil {
			row = append(row, string(e.Code), e.Message)
		} else {
			row = append(row, "", "")
		}
		row = append(row, csvMore(j)...)
		for i, cell := range row {
			row[i] = plain(cell)
			// A spreadsheet would take these for formulas.
			if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
				row[i] = "'" + row[i]
			}
		}
		_ = w.Write(row)
	}
	w.Flush() // into memory: cannot fail
	return []byte(b.String())
}

func (s *server) actions(ctx context.Context, in *actionsIn) (*actionsOut, error) {
	ctx2, cancel := call(ctx)
	defer cancel()
	actions, err := s.svc.Actions(ctx2, job.Filter{Who: in.Who, Text: in.Text, Since: in.Since, Until: in.Until, Limit: in.Limit})
	if err != nil {
		return nil, fail(ctx, err)
	}
	out := &actionsOut{}
	out.Body.Actions = append([]job.Action{}, actions...)
	return out, nil
}

func (s *server) queue(ctx context.Context, _ *struct{}) (*queueOut, error) {
	ctx2, cancel := call(ctx)
	defer cancel()
	q, err := s.svc.Queue(ctx2)
	if err != nil {
		return nil, fail(ctx, err)
	}
	if q.Workers == nil {
		q.Workers = []job.Worker{}
	}
	return &queueOut{q}, nil
}

func (s *server) bans(ctx context.Context, _ *struct{}) (*bansOut, error) {
	ctx2, cancel := call(ctx)
	defer cancel()
	bans, err := s.svc.Bans(ctx2)
	if err != nil {
		return nil, fail(ctx, err)
	}
	out := &bansOut{}
	out.Body.Bans = append([]job.Ban{}, bans...)
	return out, nil
}

// banAddress returns an address as it is counted and banned.
func banAddress(text string) (string, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return chain.Canonical(a), nil
	}
	if p, err := netip.ParsePrefix(text); err == nil && (p.Addr().Is6() && p.Bits() == 64 || p.IsSingleIP()) {
		return chain.Canonical(p.Addr()), nil
	}
	e := job.Errorf(job.CodeRequest, "%.60q is neither an IP address nor an IPv6 network of /64", text)
	e.Field = "address"
	return "", e
}

func (s *server) ban(ctx context.Context, in *banIn) (*banOut, error) {
	addr, err := banAddress(in.Body.Address)
	if err != nil {
		return nil, fail(ctx, err)
	}
	who := asker(ctx)
	ban := job.Ban{
		Address: addr, Until: time.Now().Add(time.Duration(in.Body.Seconds) * time.Second).UTC(),
		Reason: cmp.Or(in.Body.Reason, "by an operator"), By: who.Name,
	}
	limited, cancel := call(ctx)
	defer cancel()
	if err := s.svc.Ban(limited, ban, who); err != nil {
		return nil, fail(ctx, err)
	}
	return &banOut{ban}, nil
}

func (s *server) unban(ctx context.Context, in *unban) (*struct{}, error) {
	addr, err := banAddress(in.Address)
	if err != nil {
		return nil, fail(ctx, err)
	}
	limited, cancel := call(ctx)
	defer cancel()
	if err := s.svc.Unban(limited, addr, asker(ctx)); err != nil {
		return nil, fail(ctx, err)
	}
	return nil, nil
}

// illustrate adds to the document what the types do not say: examples, and the states by name.
func illustrate(doc *huma.OpenAPI) {
	source := func(version string) map[string]any {
		return map[string]any{
			"urls":   []string{"https://archive.example.org/firefox-" + version + ".complete.mar"},
			"sha512": strings.Repeat("0123456789abcdef", 8),
		}
	}
	from, to := source("152.0"), source("153.0")
	spec := map[string]any{"from": from, "to": to, "locale": "de", "labels": map[string]string{"build": "7"}}
	for path, example := range map[string]any{
		"/api/v1/partials":       spec,
		"/api/v1/partials:check": spec,
		"/api/v1/batches": map[string]any{
			"matrix":   map[string]any{"from": []any{source("151.0"), from}, "to": []any{to}},
			"settings": map[string]any{"product": "firefox"},
		},
		"/api/v1/bans":  map[string]any{"address": "192.0.2.7", "seconds": 3600, "reason": "a loop"},
		"/api/v1/purge": map[string]any{"before": "2026-01-01T00:00:00Z"},
	} {
		doc.Paths[path].Post.RequestBody.Content["application/json"].Example = example
	}
	for _, unused := range []string{"ErrorModel", "ErrorDetail"} { // huma's own problems, which ours stand for
		delete(doc.Components.Schemas.Map(), unused)
	}
	states := make([]any, 0, len(job.States()))
	for _, st := range job.States() {
		states = append(states, string(st))
	}
	for _, name := range []string{"Status", "Change"} {
		doc.Components.Schemas.Map()[name].Properties["state"].Enum = states
	}
}

// groups lists the operations by their tags.
func groups(doc *huma.OpenAPI) []apiGroup {
	var out []apiGroup
	for _, tag := range doc.Tags {
		g := apiGroup{Name: tag.Name, Title: tag.Description}
		for _, p := range slices.Sorted(mapsKeys(doc.Paths)) {
			item := doc.Paths[p]
			for _, o := range []*huma.Operation{item.Get, item.Post, item.Delete} {
				if o == nil || o.Tags[0] != tag.Name {
					continue
				}
				role, _ := o.Metadata[metaRole].(Role)
				g.Operations = append(g.Operations, apiOperation{o.Method, o.Path, o.Summary, role})
			}
		}
		out = append(out, g)
	}
	return out
}

// older is the document in OpenAPI 3.0. What huma makes of it still has a word of 3.1.
func older(doc *huma.OpenAPI) ([]byte, error) {
	text, err := doc.Downgrade()
	if err != nil {
		return nil, err
	}
	var old any
	if err := json.Unmarshal(text, &old); err != nil {
		return nil, err
	}
	var clean func(any)
	clean = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if v["format"] == "binary" {
				delete(v, "contentMediaType")
			}
			for _, below := range v {
				clean(below)
			}
		case []any:
			for _, below := range v {
				clean(below)
			}
		}
	}
	clean(old)
	return json.MarshalIndent(old, "", "  ")
}

// serveDocument answers with the OpenAPI document, whose forms are made when one is asked for first.
func (s *server) serveDocument(doc *huma.OpenAPI) {
	forms := sync.OnceValues(func() (map[string][]byte, error) {
		js, err := json.MarshalIndent(doc, "", "  ")
		if err != nil {
			return nil, err
		}
		yaml, err := doc.YAML()
		if err != nil {
			return nil, err
		}
		old, err := older(doc)
		return map[string][]byte{"/openapi.json": js, "/openapi.yaml": yaml, "/openapi-3.0.json": old}, err
	})
	for path, kind := range map[string]string{
		"/openapi.json": "application/openapi+json", "/openapi.yaml": "application/openapi+yaml", "/openapi-3.0.json": "application/openapi+json",
	} {
		s.handle("GET "+path, access{}, func(w http.ResponseWriter, r *http.Request) {
			made, err := forms()
			if err != nil {
				writeProblem(w, r, fmt.Errorf("web: OpenAPI document: %w", err))
				return
			}
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Cache-Control", "no-cache")
			_, _ = w.Write(made[path])
		})
	}
}
