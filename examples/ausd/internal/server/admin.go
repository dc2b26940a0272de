package server

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/inspect"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/replicate"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
)

type callerKey struct{}

func callerFrom(ctx context.Context) *caller {
	c, _ := ctx.Value(callerKey{}).(*caller)
	return c
}

// maxChange bounds the body of a change, in bytes.
const maxChange = 80 << 20

// metaRole is under which an operation's role stands in its metadata; with metaWhole it must be one without limits.
const (
	metaRole  = "role"
	metaWhole = "whole"
)

func op(method, path, id, summary, description string, role Role, statuses ...int) huma.Operation {
	return huma.Operation{
		Method: method, Path: path, OperationID: id, Summary: summary, Description: description,
		Metadata: map[string]any{metaRole: role}, Security: []map[string][]string{{"bearer": {}}, {}},
		MaxBodyBytes: maxChange, Errors: append(statuses, http.StatusUnauthorized, http.StatusForbidden),
	}
}

// whole lets only those do an operation whose role has no limits.
func whole(o huma.Operation) huma.Operation {
	o.Metadata[metaWhole] = true
	return o
}

// adminRoutes adds the server's own API to a mux.
func (s *Server) adminRoutes(mux *http.ServeMux) huma.API {
	config := huma.DefaultConfig("ausd", "1")
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "/admin/v1/openapi", "", ""
	config.CreateHooks = nil // no links to schemas in answers
	config.Info.Description = "What clients are answered from, and how it is changed. A change is a list of operations on objects; " +
		"it is published whole or kept as a draft. Errors are RFC 9457 problems."
	config.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"bearer": {Type: "http", Scheme: "bearer"}}
	api := humago.New(mux, config)
	api.UseMiddleware(func(ctx huma.Context, next func(huma.Context)) {
		r, _ := humago.Unwrap(ctx)
		role, _ := ctx.Operation().Metadata[metaRole].(Role)
		c := s.who(r)
		switch {
		case c == nil:
			ctx.SetHeader("WWW-Authenticate", "Bearer")
			_ = huma.WriteErr(api, ctx, http.StatusUnauthorized, "say who you are: a token, or ask from the server's own machine")
			return
		case !c.has(role), (role == RoleReplicate || ctx.Operation().Metadata[metaWhole] != nil) && !c.may(role):
			_ = huma.WriteErr(api, ctx, http.StatusForbidden, fmt.Sprintf("this needs the role %q", string(role)))
			return
		}
		ctx.SetHeader("Cache-Control", "no-store")
		next(huma.WithValue(ctx, callerKey{}, c))
	})
	huma.Register(api, whole(op("GET", "/admin/v1/status", "status", "What is published, and what is wrong with it", "", RoleRead)), s.getStatus)
	huma.Register(api, op("GET", "/admin/v1/explain", "explain", "What a client gets, and why", "", RoleRead, 404, 422), s.getExplain)
	huma.Register(api, op("GET", "/admin/v1/objects/{kind}", "listObjects", "All objects of a kind", "", RoleRead, 404), s.listObjects)
	huma.Register(api, op("GET", "/admin/v1/objects/{kind}/{key}", "getObject", "One object", "The key of a pin or made partial is percent-encoded.", RoleRead, 404), s.getObject)
	huma.Register(api, op("POST", "/admin/v1/changes", "change", "Change objects", "Publishes the operations as one snapshot, or keeps them as a draft. "+
		"What others changed meanwhile is merged; 409 where it cannot be, 422 where the result could not be served.", RoleEdit, 409, 422), s.postChange)
	huma.Register(api, op("GET", "/admin/v1/drafts", "listDrafts", "Open drafts", "", RoleRead), s.listDrafts)
	huma.Register(api, op("GET", "/admin/v1/drafts/{id}", "getDraft", "One draft", "", RoleRead, 404), s.getDraft)
	huma.Register(api, op("POST", "/admin/v1/drafts/{id}/publish", "publishDraft", "Publish a draft", "", RolePublish, 404, 409, 422), s.postPublish)
	huma.Register(api, op("DELETE", "/admin/v1/drafts/{id}", "withdrawDraft", "Withdraw a draft", "", RoleEdit, 404, 409), s.deleteDraft)
	huma.Register(api, op("POST", "/admin/v1/drafts/{id}/rebase", "rebaseDraft", "Make a draft one of the present state", "Merges what others changed since; 409 where it cannot be. "+
		"Sign-offs of what the draft was do not count for what it becomes.", RoleEdit, 404, 409, 422), s.postRebase)
	huma.Register(api, op("POST", "/admin/v1/drafts/{id}/signoffs", "signOff", "Agree to a draft", "Signs the hash of its operations, by which they name every object that they touch as it was. "+
		"The sign-off counts while the draft and these objects are unchanged.", RoleRead, 404, 409, 422), s.postSignOff)
	huma.Register(api, op("DELETE", "/admin/v1/drafts/{id}/signoffs", "revokeSignOff", "Take one's sign-off back", "", RoleRead, 404, 409), s.deleteSignOff)
	huma.Register(api, op("GET", "/admin/v1/drafts/{id}/preview", "previewDraft", "What publishing a draft would do to clients", "", RoleRead, 404, 409, 422), s.getPreview)
	huma.Register(api, op("POST", "/admin/v1/preview", "preview", "What a change would do to clients", "Nothing is published or kept.", RoleRead, 409, 422), s.postPreview)
	huma.Register(api, whole(op("POST", "/admin/v1/revert", "revert", "Publish what an earlier snapshot had", "", RolePublish, 404, 409, 422)), s.postRevert)
	huma.Register(api, whole(op("GET", "/admin/v1/history", "history", "Who published what", "Newest first. With format=csv as a table.", RoleRead, 422)), s.getHistory)
	huma.Register(api, whole(op("GET", "/admin/v1/history/{seq}", "changesOf", "What one snapshot changed", "", RoleRead, 404)), s.getChanges)
	huma.Register(api, op("POST", "/admin/v1/shutoffs", "shutOff", "Stop updates at once", "", RoleShutoff, 422), s.postShutoff)
	huma.Register(api, op("DELETE", "/admin/v1/shutoffs/{id}", "lift", "End a shutoff", "", RoleShutoff, 404), s.deleteShutoff)
	huma.Register(api, whole(op("GET", "/admin/v1/demand", "demand", "Which partials clients could use, and what became of them", "", RoleRead)), s.getDemand)
	huma.Register(api, whole(op("GET", "/admin/v1/counts", "counts", "What clients asked and were answered since the start", "", RoleRead)), s.getCounts)
	upload := op("PUT", "/admin/v1/files/{name}", "upload", "Upload a complete update", "The body is the MAR file. Says what the file tells about its build, and what it does not.", RoleEdit, 413, 422)
	upload.MaxBodyBytes, upload.BodyReadTimeout = -1, -1
	huma.Register(api, upload, s.putFile)
	huma.Register(api, op("POST", "/admin/v1/builds", "addBuild", "Offer an uploaded complete update", "Makes its release, or adds to it, and lets the rule of its product and channel lead there if it is newer.", RolePublish, 404, 409, 422), s.postBuild)
	huma.Register(api, op("POST", "/admin/v1/partials", "addPartial", "Offer an uploaded partial update", "What it leads from is found by its patches' checksums among the complete updates that are here, what it leads to by applying it.", RolePublish, 404, 422), s.postPartial)
	huma.Register(api, whole(op("POST", "/admin/v1/gc", "collect", "Remove files that nothing leads to", "Keeps what snapshots of the last days name, what was added in them, and the newest.", RolePublish)), s.postCollect)
	s.replicaRoutes(api)
	return api
}

// schemaName names the schema of a type; packages have types of the same names.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	if t.PkgPath() == reflect.TypeFor[inspect.Build]().PkgPath() {
		name = "Inspected" + name
	}
	return name
}

// problemOf turns an error into what the API answers.
func (s *Server) problemOf(err error) error {
	var refused *RefusedError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrReplica):
		return huma.Error409Conflict("this server is a replica: ask " + s.opts.Replica.URL.String())
	case errors.Is(err, book.ErrNotFound):
		return huma.Error404NotFound("there is nothing of this name")
	case errors.Is(err, state.ErrConflict), errors.Is(err, book.ErrClosedDraft), errors.Is(err, book.ErrBehind), errors.Is(err, state.ErrSignOff), errors.Is(err, state.ErrScheduled):
		return huma.Error409Conflict(err.Error())
	case errors.As(err, &refused):
		details := []error{}
		for _, p := range refused.Problems {
			details = append(details, &huma.ErrorDetail{Message: p.String(), Location: place(p)})
		}
		return huma.Error422UnprocessableEntity("this cannot be served", details...)
	case errors.Is(err, errProducts):
		return huma.Error403Forbidden(err.Error())
	case errors.Is(err, state.ErrObject), errors.Is(err, ErrNothing), errors.Is(err, book.ErrEarly), errors.Is(err, ErrInput), errors.Is(err, ErrFile), errors.Is(err, inspect.ErrIncomplete):
		return huma.Error422UnprocessableEntity(err.Error())
	case errors.Is(err, context.Canceled):
		return huma.Error503ServiceUnavailable("the client has gone away")
	case senbonzakura.FaultOf(err) == senbonzakura.FaultCaller:
		return huma.Error422UnprocessableEntity(err.Error())
	}
	s.log.Error("answer a request", "error", err)
	return huma.Error503ServiceUnavailable("this failed; the log of the server says why")
}

func place(p aus.Problem) string {
	switch {
	case p.Rule != 0:
		return fmt.Sprintf("rule %d %s", p.Rule, p.Path)
	case p.Release != "":
		return "release " + p.Release + " " + p.Path
	}
	return p.Path
}

type output[T any] struct{ Body T }

func out[T any](body T) *output[T] { return &output[T]{body} }

// statusBody is what is published.
type statusBody struct {
	Snapshot book.Snapshot  `json:"snapshot"`
	Objects  map[string]int `json:"objects"`
	Problems []aus.Problem  `json:"problems"`
	URL      string         `json:"url"`
	Key      string         `json:"public_key" doc:"by which replicas know this server"`
	Replica  *replicaBody   `json:"replica,omitempty" doc:"of which server this one is a replica, and how it stands"`
	Replicas []asked        `json:"replicas,omitempty" doc:"that have asked since the start"`
}

// replicaBody is how a replica stands.
type replicaBody struct {
	Of      string    `json:"of"`
	Contact time.Time `json:"contact,omitzero" doc:"when the server said last what is published"`
	Expires time.Time `json:"expires,omitzero" doc:"when what it signed last expires"`
	Alarm   string    `json:"alarm,omitempty"`
	Failure string    `json:"failure,omitempty" doc:"why it cannot be asked at the moment"`
}

func (s *Server) getStatus(context.Context, *struct{}) (*output[statusBody], error) {
	now := s.current.Load()
	b := statusBody{Snapshot: now.head, Objects: map[string]int{}, Problems: append([]aus.Problem{}, now.problems...), URL: s.opts.URL.String(), Key: replicate.KeyText(s.PublicKey()), Replicas: s.replicas.list()}
	if s.opts.Replica != nil {
		st := s.replica.status()
		b.Replica = &replicaBody{s.opts.Replica.URL.String(), st.contact, st.statement.Expires, st.alarm(time.Now()), st.failure}
	}
	for _, k := range state.Kinds() {
		b.Objects[string(k)] = now.state.Len(k)
	}
	return out(b), nil
}

// at finds what was published at a time or under a number; "" is now.
func (s *Server) at(ctx context.Context, at string) (*published, error) {
	now := s.current.Load()
	if at == "" {
		return now, nil
	}
	var head book.Snapshot
	if seq, err := strconv.ParseInt(at, 10, 64); err == nil {
		if head, err = s.book.Snapshot(ctx, seq); err != nil {
			return nil, s.problemOf(err)
		}
	} else {
		t, err := time.Parse(time.RFC3339, at)
		if err != nil {
			return nil, huma.Error422UnprocessableEntity("at: want the number of a snapshot, or a time like 2026-11-30T12:00:00Z")
		}
		if head, err = s.book.SnapshotAt(ctx, t); err != nil {
			return nil, s.problemOf(err)
		}
	}
	if head.Seq == now.head.Seq {
		return now, nil
	}
	st, err := s.book.State(ctx, head.Seq, now.state)
	if err != nil {
		return nil, s.problemOf(err)
	}
	snapshot, problems := aus.Compile(st.Config(s.own))
	return newPublished(head, st, snapshot, problems), nil
}

// Explanation is what a client gets, and why.
type Explanation struct {
	Snapshot int64            `json:"snapshot"`
	Outcome  aus.Outcome      `json:"outcome"`
	Status   int              `json:"status"`
	Body     string           `json:"body"`
	Rule     int64            `json:"rule,omitempty"`
	Release  string           `json:"release,omitempty"`
	Complete bool             `json:"complete"`
	Partial  bool             `json:"partial"`
	Quirks   []string         `json:"quirks,omitempty"`
	Shutoff  *aus.Shutoff     `json:"shutoff,omitempty"`
	Rules    []consideredBody `json:"rules"`
}

type consideredBody struct {
	Rule    int64  `json:"rule"`
	Column  string `json:"column,omitempty" doc:"the first column that does not match"`
	Decides bool   `json:"decides"`
}

func explain(p *published, q aus.Query, env aus.Env) Explanation {
	x := p.snapshot.Explain(q, env)
	b := Explanation{
		Snapshot: p.head.Seq, Outcome: x.Answer.Outcome, Status: x.Answer.Status, Body: string(x.Answer.Body), Release: x.Answer.Release,
		Complete: x.Answer.Complete, Partial: x.Answer.Partial, Shutoff: x.Answer.Shutoff, Rules: []consideredBody{},
	}
	if x.Answer.Rule != nil {
		b.Rule = x.Answer.Rule.ID
	}
	for _, quirk := range x.Answer.Quirks.List() {
		b.Quirks = append(b.Quirks, quirk.String())
	}
	for _, c := range x.Rules {
		b.Rules = append(b.Rules, consideredBody{c.Rule.ID, string(c.Column), c.Decides})
	}
	return b
}

func (s *Server) getExplain(ctx context.Context, in *struct {
	URL       string `query:"url" required:"true" doc:"address of the client's request"`
	UserAgent string `query:"user_agent"`
	Dice      int    `query:"dice" minimum:"0" maximum:"99" doc:"what the die of a throttled rule shows"`
	At        string `query:"at" doc:"number of a snapshot, or a time"`
},
) (*output[Explanation], error) {
	q, ok := aus.ParseURL(in.URL, http.Header{"User-Agent": {in.UserAgent}})
	if !ok {
		return nil, huma.Error422UnprocessableEntity("url: this is no address of a client's request")
	}
	if !callerFrom(ctx).may(RoleRead, q.Product) {
		return nil, s.problemOf(errProducts)
	}
	p, err := s.at(ctx, in.At)
	if err != nil {
		return nil, err
	}
	return out(explain(p, q, aus.Env{Dice: func() int { return in.Dice }})), nil
}

// objectBody is one object.
type objectBody struct {
	Kind state.Kind      `json:"kind"`
	Key  string          `json:"key"`
	Hash string          `json:"hash"`
	Body json.RawMessage `json:"body,omitempty"`
}

func kindOf(s string) (state.Kind, error) {
	if k := state.Kind(s); slices.Contains(state.Kinds(), k) {
		return k, nil
	}
	return "", huma.Error404NotFound("there is no such kind of object")
}

func (s *Server) listObjects(ctx context.Context, in *struct {
	Kind   string `path:"kind"`
	At     string `query:"at" doc:"number of a snapshot, or a time"`
	Bodies bool   `query:"bodies" doc:"with their bodies"`
},
) (*output[[]objectBody], error) {
	k, err := kindOf(in.Kind)
	if err != nil {
		return nil, err
	}
	p, err := s.at(ctx, in.At)
	if err != nil {
		return nil, err
	}
	list := []objectBody{}
	for _, o := range p.state.List(k) {
		if !callerFrom(ctx).may(RoleRead, o.Products()...) {
			continue
		}
		b := objectBody{Kind: o.Kind, Key: o.Key, Hash: o.Hash}
		if in.Bodies {
			b.Body = o.Body()
		}
		list = append(list, b)
	}
	return out(list), nil
}

func (s *Server) getObject(ctx context.Context, in *struct {
	Kind string `path:"kind"`
	Key  string `path:"key"`
	At   string `query:"at" doc:"number of a snapshot, or a time"`
},
) (*output[objectBody], error) {
	k, err := kindOf(in.Kind)
	if err != nil {
		return nil, err
	}
	p, err := s.at(ctx, in.At)
	if err != nil {
		return nil, err
	}
	o := p.state.Get(state.Ref{Kind: k, Key: in.Key})
	if o == nil || !callerFrom(ctx).may(RoleRead, o.Products()...) {
		return nil, huma.Error404NotFound("there is nothing of this name")
	}
	return out(objectBody{o.Kind, o.Key, o.Hash, o.Body()}), nil
}

// changeBody is what is to change.
type changeBody struct {
	Comment    string          `json:"comment" minLength:"1" maxLength:"1000"`
	Draft      bool            `json:"draft,omitempty" doc:"keep it as a draft instead of publishing it"`
	Scheduled  time.Time       `json:"scheduled,omitzero" doc:"of a draft: when it is published by itself"`
	Operations []operationBody `json:"operations" minItems:"1" maxItems:"100000"`
}

type operationBody struct {
	Kind   string          `json:"kind" enum:"rule,release,pin,shutoff,host,made"`
	Key    string          `json:"key" minLength:"1" maxLength:"500"`
	Before *string         `json:"before,omitempty" doc:"hash of the object that the change was made on, \"\" for none; what is there now if it is left out"`
	Body   json.RawMessage `json:"body,omitempty" doc:"the new body; left out it removes the object"`
}

// operations fills in what clients leave out: what is there now, and data versions.
func (s *Server) operations(list []operationBody) ([]state.Operation, error) {
	now := s.current.Load().state
	var operations []state.Operation
	for _, o := range list {
		ref := state.Ref{Kind: state.Kind(o.Kind), Key: o.Key}
		was := now.Get(ref)
		operation := state.Operation{Ref: ref}
		if was != nil {
			operation.Before = was.Hash
		}
		if o.Before != nil {
			operation.Before = *o.Before
		}
		if len(o.Body) > 0 && string(o.Body) != "null" {
			body, err := withVersion(o.Body, ref.Kind, was)
			if err != nil {
				return nil, huma.Error422UnprocessableEntity(ref.String() + ": " + err.Error())
			}
			operation.Body = body
		}
		operations = append(operations, operation)
	}
	return operations, nil
}

// withVersion counts an object's data version on, where it has one, and those of a release's locales.
func withVersion(body json.RawMessage, k state.Kind, was *state.Object) (json.RawMessage, error) {
	if k == state.Host || k == state.Made {
		return body, nil
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(body, &m); err != nil || m == nil {
		return nil, errors.New("its body is no JSON object")
	}
	if k == state.Release {
		delete(m, "asset_versions")
	}
	version := int64(1)
	if was != nil {
		var old struct {
			DataVersion int64           `json:"data_version"`
			Assets      json.RawMessage `json:"asset_versions"`
		}
		if err := json.Unmarshal(was.Body(), &old); err != nil {
			return nil, err
		}
		// What is as it was stays as it was.
		m["data_version"] = json.RawMessage(strconv.FormatInt(old.DataVersion, 10))
		if old.Assets != nil {
			m["asset_versions"] = old.Assets
		}
		same, err := json.Marshal(m)
		if err != nil {
			return nil, err
		}
		if o, err := state.NewObject(was.Ref, same); err == nil && o.Hash == was.Hash {
			return same, nil
		}
		version = old.DataVersion + 1
		if k == state.Release {
			assets, err := state.CountAssets(was, m["blob"])
			if err != nil {
				return nil, err
			}
			delete(m, "asset_versions")
			if assets != nil {
				if m["asset_versions"], err = json.Marshal(assets); err != nil {
					return nil, err
				}
			}
		}
	}
	m["data_version"] = json.RawMessage(strconv.FormatInt(version, 10))
	return json.Marshal(m)
}

// changedBody is what became of a change.
type changedBody struct {
	Snapshot *book.Snapshot `json:"snapshot,omitempty"`
	Draft    *book.Draft    `json:"draft,omitempty"`
}

func (s *Server) postChange(ctx context.Context, in *struct{ Body changeBody }) (*output[changedBody], error) {
	c := callerFrom(ctx)
	operations, err := s.operations(in.Body.Operations)
	if err != nil {
		return nil, err
	}
	now := s.current.Load().state
	if in.Body.Draft {
		switch {
		case !c.mayChange(RoleEdit, now, operations):
			return nil, s.problemOf(errProducts)
		case !in.Body.Scheduled.IsZero() && !c.mayChange(RolePublish, now, operations):
			return nil, huma.Error403Forbidden(fmt.Sprintf("to schedule needs the role %q", string(RolePublish)))
		}
		d, err := s.Draft(ctx, c.Name, in.Body.Comment, operations, in.Body.Scheduled)
		if err != nil {
			return nil, s.problemOf(err)
		}
		return out(changedBody{Draft: &d}), nil
	}
	if !c.has(RolePublish) {
		return nil, huma.Error403Forbidden(fmt.Sprintf("this needs the role %q; make it a draft", string(RolePublish)))
	}
	if !c.mayChange(RolePublish, now, operations) {
		return nil, s.problemOf(errProducts)
	}
	if !in.Body.Scheduled.IsZero() {
		return nil, huma.Error422UnprocessableEntity("scheduled goes with draft")
	}
	head, err := s.Publish(ctx, c.Name, in.Body.Comment, operations)
	if err != nil {
		return nil, s.problemOf(err)
	}
	return out(changedBody{Snapshot: &head}), nil
}

// errProducts says that a role is limited to other products.
var errProducts = errors.New("your role is limited to other products")

// draftBody is a draft, and who must agree to it.
type draftBody struct {
	book.Draft
	Required map[string]int `json:"required_sign_offs,omitempty" doc:"how many people of which role must agree"`
	Missing  map[string]int `json:"missing_sign_offs,omitempty" doc:"of these, who has not"`
	Changed  []state.Ref    `json:"changed,omitempty" doc:"objects that have changed since the draft was made; while there are some, sign-offs do not count"`
	Problem  string         `json:"problem,omitempty" doc:"why it could not be published"`
}

// draft reads a draft for somebody who has a role for what it changes.
func (s *Server) draft(ctx context.Context, id int64, role Role) (book.Draft, error) {
	d, err := s.book.Draft(ctx, id)
	if err == nil && !callerFrom(ctx).mayChange(role, s.current.Load().state, d.Operations) {
		err = errProducts
	}
	return d, err
}

func (s *Server) withSignOffs(ctx context.Context, d book.Draft) draftBody {
	b := draftBody{Draft: d}
	var err error
	if b.Required, b.Missing, b.Changed, err = s.SignOffsOf(ctx, &d); err != nil {
		b.Problem = err.Error()
	}
	return b
}

func (s *Server) listDrafts(ctx context.Context, _ *struct{}) (*output[[]draftBody], error) {
	list, err := s.book.Drafts(ctx)
	if err != nil {
		return nil, s.problemOf(err)
	}
	body := []draftBody{}
	for _, d := range list {
		if callerFrom(ctx).mayChange(RoleRead, s.current.Load().state, d.Operations) {
			body = append(body, s.withSignOffs(ctx, d))
		}
	}
	return out(body), nil
}

type draftInput struct {
	ID int64 `path:"id"`
}

func (s *Server) getDraft(ctx context.Context, in *draftInput) (*output[draftBody], error) {
	d, err := s.draft(ctx, in.ID, RoleRead)
	if err != nil {
		return nil, s.problemOf(err)
	}
	return out(s.withSignOffs(ctx, d)), nil
}

func (s *Server) postPublish(ctx context.Context, in *draftInput) (*output[book.Snapshot], error) {
	if _, err := s.draft(ctx, in.ID, RolePublish); err != nil {
		return nil, s.problemOf(err)
	}
	head, err := s.PublishDraft(ctx, in.ID, callerFrom(ctx).Name)
	return out(head), s.problemOf(err)
}

func (s *Server) postRebase(ctx context.Context, in *draftInput) (*output[draftBody], error) {
	if _, err := s.draft(ctx, in.ID, RoleEdit); err != nil {
		return nil, s.problemOf(err)
	}
	d, err := s.RebaseDraft(ctx, in.ID)
	if err != nil {
		return nil, s.problemOf(err)
	}
	return out(s.withSignOffs(ctx, d)), nil
}

// signOffBody is what somebody agrees to, and as whom.
type signOffBody struct {
	Hash string `json:"hash" minLength:"64" maxLength:"64" doc:"that of the draft as it was read"`
	Role string `json:"role" minLength:"1" maxLength:"50"`
}

func (s *Server) postSignOff(ctx context.Context, in *struct {
	ID   int64 `path:"id"`
	Body signOffBody
},
) (*output[draftBody], error) {
	if _, err := s.draft(ctx, in.ID, RoleRead); err != nil {
		return nil, s.problemOf(err)
	}
	d, err := s.signOffBy(ctx, callerFrom(ctx), in.ID, in.Body)
	if err != nil {
		return nil, err
	}
	return out(s.withSignOffs(ctx, d)), nil
}

// signOffBy signs a draft off as one of the caller's roles.
func (s *Server) signOffBy(ctx context.Context, c *caller, id int64, b signOffBody) (book.Draft, error) {
	switch {
	case c.System:
		return book.Draft{}, huma.Error403Forbidden("programs agree to nothing")
	case !slices.Contains(c.SignOffRoles, b.Role):
		return book.Draft{}, huma.Error403Forbidden(fmt.Sprintf("you do not sign as %q", b.Role))
	}
	if err := s.SignOff(ctx, id, b.Hash, c.Name, b.Role); err != nil {
		return book.Draft{}, s.problemOf(err)
	}
	d, err := s.book.Draft(ctx, id)
	return d, s.problemOf(err)
}

func (s *Server) deleteSignOff(ctx context.Context, in *draftInput) (*output[draftBody], error) {
	d, err := s.book.Draft(ctx, in.ID)
	if err == nil {
		err = s.book.RevokeSignOff(ctx, in.ID, d.Hash, callerFrom(ctx).Name)
	}
	if err == nil {
		d, err = s.book.Draft(ctx, in.ID)
	}
	if err != nil {
		return nil, s.problemOf(err)
	}
	return out(s.withSignOffs(ctx, d)), nil
}

func (s *Server) deleteDraft(ctx context.Context, in *draftInput) (*struct{}, error) {
	if _, err := s.draft(ctx, in.ID, RoleEdit); err != nil {
		return nil, s.problemOf(err)
	}
	return nil, s.problemOf(s.book.Withdraw(ctx, in.ID))
}

func (s *Server) getPreview(ctx context.Context, in *draftInput) (*output[Preview], error) {
	d, err := s.draft(ctx, in.ID, RoleRead)
	if err != nil {
		return nil, s.problemOf(err)
	}
	p, err := s.Preview(ctx, d.Operations)
	return out(p), s.problemOf(err)
}

func (s *Server) postPreview(ctx context.Context, in *struct{ Body changeBody }) (*output[Preview], error) {
	operations, err := s.operations(in.Body.Operations)
	if err != nil {
		return nil, err
	}
	p, err := s.Preview(ctx, operations)
	return out(p), s.problemOf(err)
}

// revertedBody is the snapshot that was published, or a draft.
type revertedBody struct {
	book.Snapshot
	Kept *book.Draft `json:"kept,omitempty" doc:"the draft, where it was asked for one; then nothing is published"`
}

func (s *Server) postRevert(ctx context.Context, in *struct {
	Body struct {
		To      int64  `json:"to" minimum:"0" doc:"number of the snapshot"`
		Comment string `json:"comment,omitempty" maxLength:"1000"`
		Draft   bool   `json:"draft,omitempty" doc:"keep it as a draft, for which people can agree"`
	}
},
) (*output[revertedBody], error) {
	if in.Body.Draft {
		operations, comment, err := s.reverting(ctx, in.Body.To, in.Body.Comment)
		if err != nil {
			return nil, s.problemOf(err)
		}
		d, err := s.Draft(ctx, callerFrom(ctx).Name, comment, operations, time.Time{})
		return out(revertedBody{s.current.Load().head, &d}), s.problemOf(err)
	}
	head, err := s.Revert(ctx, callerFrom(ctx).Name, in.Body.To, in.Body.Comment)
	return out(revertedBody{Snapshot: head}), s.problemOf(err)
}

func (s *Server) getHistory(ctx context.Context, in *struct {
	Before int64  `query:"before" minimum:"0" doc:"only snapshots before this number"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"50"`
	Q      string `query:"q" doc:"words that must all be there: of author, comment or a changed object's name"`
	Format string `query:"format" enum:"json,csv" default:"json"`
},
) (*huma.StreamResponse, error) {
	words := strings.Fields(in.Q)
	if len(words) > 8 {
		return nil, huma.Error422UnprocessableEntity("q: at most 8 words")
	}
	list, err := s.book.History(ctx, in.Before, in.Limit, words...)
	if err != nil {
		return nil, s.problemOf(err)
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		if in.Format == "csv" {
			ctx.SetHeader("Content-Type", "text/csv; charset=utf-8")
			_ = writeHistory(ctx.BodyWriter(), list) // a client that has gone away
			return
		}
		ctx.SetHeader("Content-Type", "application/json")
		_ = json.NewEncoder(ctx.BodyWriter()).Encode(list)
	}}, nil
}

func writeHistory(w io.Writer, list []book.Snapshot) error {
	c := csv.NewWriter(w)
	_ = c.Write([]string{"snapshot", "at", "author", "comment", "draft", "hash"}) // the error stays until Error
	for _, h := range list {
		draft := ""
		if h.Draft != 0 {
			draft = strconv.FormatInt(h.Draft, 10)
		}
		_ = c.Write([]string{strconv.FormatInt(h.Seq, 10), h.At.Format(time.RFC3339), plainCell(h.Author), plainCell(h.Comment), draft, h.Hash})
	}
	c.Flush()
	return c.Error()
}

// plainCell keeps spreadsheets from taking a text for a formula.
func plainCell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

// changesBody is what one snapshot changed.
type changesBody struct {
	Snapshot book.Snapshot `json:"snapshot"`
	Changes  []book.Change `json:"changes"`
}

func (s *Server) getChanges(ctx context.Context, in *struct {
	Seq int64 `path:"seq"`
},
) (*output[changesBody], error) {
	head, err := s.book.Snapshot(ctx, in.Seq)
	if err != nil {
		return nil, s.problemOf(err)
	}
	changes, err := s.book.Changes(ctx, in.Seq)
	return out(changesBody{head, changes}), s.problemOf(err)
}

// shutoffBody is what is shut off.
type shutoffBody struct {
	Product string            `json:"product,omitempty" doc:"every product if it is left out"`
	Channel string            `json:"channel,omitempty" doc:"every channel if it is left out"`
	Only    map[string]string `json:"only,omitempty" doc:"further columns of a rule that the client must match"`
	Comment string            `json:"comment" minLength:"1" maxLength:"500" doc:"why"`
	Expires time.Time         `json:"expires,omitzero" doc:"when it ends by itself"`
	Instead string            `json:"instead,omitempty" doc:"release that clients get meanwhile"`
}

type shutoffDone struct {
	Shutoff  aus.Shutoff   `json:"shutoff"`
	Snapshot book.Snapshot `json:"snapshot"`
}

func (s *Server) postShutoff(ctx context.Context, in *struct{ Body shutoffBody }) (*output[shutoffDone], error) {
	f := aus.Shutoff{Product: in.Body.Product, Channel: in.Body.Channel, Comment: in.Body.Comment, Expires: in.Body.Expires, Instead: in.Body.Instead}
	if len(in.Body.Only) > 0 {
		only, err := columns(in.Body.Only)
		if err != nil {
			return nil, huma.Error422UnprocessableEntity(err.Error())
		}
		f.Only = only
	}
	if !callerFrom(ctx).may(RoleShutoff, productsOf(f.Product)...) {
		return nil, s.problemOf(errProducts)
	}
	if !f.Expires.IsZero() && !f.Expires.After(s.now()) {
		return nil, huma.Error422UnprocessableEntity("expires: that is in the past")
	}
	f, head, err := s.ShutOff(ctx, callerFrom(ctx).Name, f)
	return out(shutoffDone{f, head}), s.problemOf(err)
}

// columns makes a rule of columns that clients are matched by.
func columns(m map[string]string) (*aus.Rule, error) {
	var r aus.Rule
	for name, v := range m {
		fields := map[string]**string{
			"buildTarget": &r.BuildTarget, "version": &r.Version, "buildID": &r.BuildID, "locale": &r.Locale, "osVersion": &r.OSVersion, "memory": &r.Memory,
			"instructionSet": &r.InstructionSet, "distribution": &r.Distribution, "distVersion": &r.DistVersion, "headerArchitecture": &r.HeaderArchitecture,
		}
		f := fields[name]
		if f == nil {
			return nil, fmt.Errorf("only: there is no column %q that a shutoff can have", name)
		}
		*f = &v
	}
	return &r, nil
}

// productsOf is a product as a list; "" is every product.
func productsOf(product string) []string {
	if product == "" {
		return nil
	}
	return []string{product}
}

func (s *Server) deleteShutoff(ctx context.Context, in *struct {
	ID int64 `path:"id"`
},
) (*output[book.Snapshot], error) {
	if o := s.current.Load().state.Get(state.Ref{Kind: state.Shutoff, Key: strconv.FormatInt(in.ID, 10)}); o != nil && !callerFrom(ctx).may(RoleShutoff, o.Products()...) {
		return nil, s.problemOf(errProducts)
	}
	head, err := s.Lift(ctx, callerFrom(ctx).Name, in.ID)
	return out(head), s.problemOf(err)
}

// demandBody is one partial that clients could use.
type demandBody struct {
	From    aus.Build `json:"from"`
	To      aus.Build `json:"to"`
	Clients int64     `json:"clients" doc:"answers without it"`
	State   string    `json:"state" enum:"wanted,working,made,withheld,failed"`
	Reason  string    `json:"reason,omitempty"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
}

func (s *Server) getDemand(ctx context.Context, in *struct {
	Limit int `query:"limit" minimum:"1" maximum:"1000" default:"100"`
},
) (*output[[]demandBody], error) {
	list, err := s.book.Demands(ctx, in.Limit)
	if err != nil {
		return nil, s.problemOf(err)
	}
	body := []demandBody{}
	for _, d := range list {
		body = append(body, demandBody{d.From, d.To, d.N, d.State, d.Reason, d.First, d.Last})
	}
	return out(body), nil
}

// countsBody is what clients asked and were answered.
type countsBody struct {
	Outcomes map[string]int64 `json:"outcomes"`
	Quirks   map[string]int64 `json:"quirks" doc:"answers that Balrog may have given otherwise"`
	Partials int64            `json:"partials" doc:"updates with a partial"`
	Versions []versionBody    `json:"versions" doc:"queries by version, the most first"`
}

type versionBody struct {
	Product string `json:"product"`
	Channel string `json:"channel"`
	Version string `json:"version"`
	N       int64  `json:"n"`
}

func (s *Server) readCounts() countsBody {
	b := countsBody{Outcomes: map[string]int64{}, Quirks: map[string]int64{}, Partials: s.counts.partials.Load(), Versions: []versionBody{}}
	s.counts.outcomes.Range(func(k, v any) bool {
		b.Outcomes[string(k.(aus.Outcome))] = v.(interface{ Load() int64 }).Load()
		return true
	})
	s.counts.quirks.Range(func(k, v any) bool {
		b.Quirks[k.(aus.Quirk).String()] = v.(interface{ Load() int64 }).Load()
		return true
	})
	for k, n := range s.counts.versions.snapshot() {
		b.Versions = append(b.Versions, versionBody{k.Product, k.Channel, k.Version, n})
	}
	slices.SortFunc(b.Versions, func(x, y versionBody) int {
		if x.N != y.N {
			return int(max(-1, min(1, y.N-x.N)))
		}
		return strings.Compare(x.Product+x.Channel+x.Version, y.Product+y.Channel+y.Version)
	})
	b.Versions = b.Versions[:min(len(b.Versions), 200)]
	return b
}

func (s *Server) getCounts(context.Context, *struct{}) (*output[countsBody], error) {
	return out(s.readCounts()), nil
}

// uploadedBody is what a file tells.
type uploadedBody struct {
	SHA512 string        `json:"sha512"`
	Size   int64         `json:"size"`
	URL    string        `json:"url"`
	Build  inspect.Build `json:"build"`
}

// uploadInput hands the body on unread.
type uploadInput struct {
	Name string `path:"name"`
	body io.Reader
}

// Resolve keeps the body.
func (in *uploadInput) Resolve(ctx huma.Context) []error {
	in.body = ctx.BodyReader()
	return nil
}

func (s *Server) putFile(ctx context.Context, in *uploadInput) (*output[uploadedBody], error) {
	f, b, err := s.Upload(ctx, in.Name, in.body)
	if err != nil {
		return nil, s.problemOf(err)
	}
	return out(uploadedBody{f.SHA512, f.Size, s.fileURL(f), b}), nil
}

func (s *Server) postBuild(ctx context.Context, in *struct{ Body Addition }) (*output[Added], error) {
	in.Body.allowed = mayPublish(ctx)
	a, err := s.Add(ctx, callerFrom(ctx).Name, in.Body)
	return out(a), s.problemOf(err)
}

// mayPublish is an error for products that the caller may not publish.
func mayPublish(ctx context.Context) func(product string) error {
	return func(product string) error {
		if !callerFrom(ctx).may(RolePublish, product) {
			return errProducts
		}
		return nil
	}
}

func (s *Server) postPartial(ctx context.Context, in *struct {
	Body struct {
		SHA512 string `json:"sha512" minLength:"128" maxLength:"128"`
	}
},
) (*output[AddedPartial], error) {
	a, err := s.AddPartial(ctx, callerFrom(ctx).Name, in.Body.SHA512, mayPublish(ctx))
	return out(a), s.problemOf(err)
}

// collectBody says what is kept.
type collectBody struct {
	Days   *int `json:"days,omitempty" minimum:"0" maximum:"3650" doc:"what snapshots of so many days name is kept; default 30"`
	Newest *int `json:"newest,omitempty" minimum:"0" doc:"so many of the newest files are kept; default 10"`
	DryRun bool `json:"dry_run,omitempty" doc:"only say what would be removed"`
}

func (s *Server) postCollect(ctx context.Context, in *struct{ Body collectBody }) (*output[Garbage], error) {
	days, newest := gcDays, gcNewest
	if in.Body.Days != nil {
		days = *in.Body.Days
	}
	if in.Body.Newest != nil {
		newest = *in.Body.Newest
	}
	g, err := s.Collect(ctx, days, newest, in.Body.DryRun)
	return out(g), s.problemOf(err)
}
