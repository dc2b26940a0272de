// Package balrogapi is the administration API of Mozilla's update server Balrog, for scripts that speak it: releases of version 2,
// rules, scheduled changes, emergency shutoffs, pins, and what version 1 reads. Answers, errors and their words are
// Balrog's, as values, but where what Balrog does is a fault:
//
//   - Setting the write protection of a release asks for the action set, lifting it for unset (Balrog swaps them, quirk 25).
//   - A scheduled update of a rule changes the columns that are named (Balrog empties the others, quirk 27).
//   - What could not be served is refused (Balrog takes it, quirk 28).
//   - Nobody enacts a scheduled change before its time.
//   - Nothing is answered with 500.
//
// Written is one change a request, as a draft that is published in the same call; a scheduled change is a draft with a
// time, which the server publishes by itself. Writes of releases by version 1, users, permissions and required
// sign-offs are left out: those are configuration here, and the answer names the key.
package balrogapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
)

// Prefix is what the paths of the API begin with.
const Prefix = "/api"

// Bounds of a request.
const (
	maxBody  = 80 << 20 // bytes
	maxDepth = 64       // nesting of objects and lists; the blobs of releases have 8
)

// Core is the server whose state is read and changed. It must be safe for concurrent use.
type Core interface {
	// Now is the time that holds for scheduled changes.
	Now() time.Time
	// State is what is published, Snapshot the same for clients.
	State() *state.State
	Snapshot() *aus.Snapshot
	// Policy says which changes people must agree to.
	Policy() state.Policy
	// AllowList says from which hosts the releases of a state may come.
	AllowList(*state.State) aus.AllowList
	// Write must publish the operations that make returns for the state that they are published on; make may be called several times. An
	// error of make is returned as it is. None returned is nothing published.
	Write(ctx context.Context, author, comment string, make func(*state.State) ([]state.Operation, error)) (Written, error)
	// Schedule must keep the draft that make returns; one with a number is an open draft that is rewritten. No other change happens
	// meanwhile.
	Schedule(ctx context.Context, make func(now *state.State, pending []book.Draft) (book.Draft, error)) (book.Draft, error)
	// PublishDraft must publish a draft whose time has come (else book.ErrEarly), and to which people have agreed (else [*state.SignOffError]).
	PublishDraft(ctx context.Context, id int64, author string) (book.Snapshot, error)
	// SignOff must note that somebody agrees to a draft with a hash.
	SignOff(ctx context.Context, id int64, hash, name, role string) error
}

// Written is what became of a write.
type Written struct {
	Before, After *state.State
	Changes       []state.Changed
}

// Options are what the API is made of; Core, Book and Who are required.
type Options struct {
	Core Core
	Book *book.Book
	// Who says who asks; nil is nobody.
	Who func(*http.Request) *Caller
	// Token says whether a client's name and secret are those of a token, which the secret then is.
	Token func(name, secret string) bool
	// Open lets everybody read, as Balrog does; else that needs a caller who may.
	Open bool
	Log  *slog.Logger
}

// Caller is who asks.
type Caller struct {
	Name        string
	Permissions map[string]Permission // by Balrog's names; none is nobody
	Roles       []string              // in which the caller may agree to changes
	System      bool                  // a program, which agrees to nothing
	Read        bool                  // may read
}

// Permission limits what its holder may do. Empty lists limit nothing.
type Permission struct {
	Products []string `toml:"products"`
	Actions  []string `toml:"actions"`
}

// Permissions are those that Balrog knows, with the actions that each may be limited to.
func Permissions() map[string][]string {
	writes := []string{"create", "modify", "delete"}
	return map[string][]string{
		"admin": nil, "emergency_shutoff": writes, "release": writes, "release_locale": writes, "release_read_only": {"set", "unset"},
		"rule": writes, "pinnable_release": writes, "scheduled_change": {"enact"},
	}
}

// may says whether the caller may do something with a product; "" is all products at once.
func (c *Caller) may(permission, action, product string) bool {
	fits := func(p Permission) bool { return len(p.Products) == 0 || slices.Contains(p.Products, product) }
	if p, ok := c.Permissions["admin"]; ok && fits(p) {
		return true
	}
	p, ok := c.Permissions[permission]
	return ok && fits(p) && (len(p.Actions) == 0 || slices.Contains(p.Actions, action))
}

// Notes are what an answer does otherwise than Balrog. They are for who compares both.
type Notes struct {
	Mended []string // the faults of Balrog that the request met, by number or name
}

type notesKey struct{}

// WithNotes returns a context for a request whose notes are wanted.
func WithNotes(ctx context.Context, n *Notes) context.Context {
	return context.WithValue(ctx, notesKey{}, n)
}

// API answers requests. It is safe for concurrent use.
type API struct {
	opts Options
	mux  *http.ServeMux
}

// New makes the API.
func New(opts Options) *API {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	a := &API{opts: opts, mux: http.NewServeMux()}
	for _, r := range a.routes() {
		a.mux.HandleFunc(r.Method+" "+Prefix+r.Path, func(w http.ResponseWriter, req *http.Request) { a.answer(w, req, r) })
	}
	return a
}

// Route is one operation, for documents.
type Route struct {
	Method, Path string // the path behind Prefix, with {names}
	ID, Summary  string
	Query        []string // names of parameters
	Body         bool     // takes a JSON object
	Public       bool     // needs no token

	serve func(*call) (any, error)
}

// Routes returns every operation.
func (a *API) Routes() []Route { return a.routes() }

// call is one request that is being answered.
type call struct {
	*API
	*http.Request
	ctx    context.Context
	caller *Caller
	body   map[string]any
	header http.Header
}

// note notes a fault of Balrog's that the answer does not have.
func (c *call) note(fault string) {
	if n, ok := c.ctx.Value(notesKey{}).(*Notes); ok && !slices.Contains(n.Mended, fault) {
		n.Mended = append(n.Mended, fault)
	}
}

// problem is an error as Balrog answers it.
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Detail    string `json:"detail"`
	Status    int    `json:"status"`
	Exception any    `json:"exception,omitempty"`
}

func (p *problem) Error() string { return p.Detail }

func problemOf(status int, title, detail string, exception any) *problem {
	return &problem{"about:blank", title, detail, status, exception}
}

func badRequest(detail string) *problem {
	return problemOf(http.StatusBadRequest, "Bad Request", detail, nil)
}

func unknownError(exception any) *problem {
	return problemOf(http.StatusBadRequest, "Bad Request", "Unknown error", exception)
}

func denied(format string, args ...any) *problem {
	return problemOf(http.StatusForbidden, "Forbidden", "Permission Denied", fmt.Sprintf(format, args...))
}

func signOffRequired(exception string) *problem {
	return problemOf(http.StatusBadRequest, "Bad Request", "Signoff Required", exception)
}

func outdated(method string) *problem {
	return problemOf(http.StatusBadRequest, "Bad Request", "OutdatedDataError", "Couldn't perform the request "+method+
		". Outdated Data Version. old_data_version doesn't match current data_version")
}

func pendingChange(method, why string) *problem {
	return problemOf(http.StatusBadRequest, "Bad Request", "ChangeScheduledError", "Couldn't perform the request "+method+
		" due a conflict with a scheduled change. "+why)
}

// leftOut is the answer to what is configuration here.
func leftOut(what, key string) *problem {
	return problemOf(http.StatusForbidden, "Forbidden", what+" are not changed here: they are the key "+key+" of ausd's configuration", nil)
}

// status is a body with a status other than 200.
type status struct {
	code int
	body any
}

// ServeHTTP answers a request for a path below [Prefix].
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, pattern := a.mux.Handler(r); pattern == "" {
		path := strings.TrimPrefix(r.URL.Path, Prefix)
		allowed := a.allowed(r)
		switch {
		case configured(path) != nil:
			a.send(w, configured(path))
		case len(allowed) > 0:
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			a.send(w, problemOf(http.StatusMethodNotAllowed, "Method Not Allowed", "The method is not allowed for the requested URL.", nil))
		default:
			a.send(w, problemOf(http.StatusNotFound, "Not Found", "The requested URL was not found on the server.", nil))
		}
		return
	}
	a.mux.ServeHTTP(w, r)
}

// allowed returns the methods that a path has.
func (a *API) allowed(r *http.Request) []string {
	var list []string
	for _, m := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = m
		if _, pattern := a.mux.Handler(other); pattern != "" {
			list = append(list, m)
		}
	}
	return list
}

// configured is the answer for a path of what is configuration here; nil is another path.
func configured(path string) *problem {
	for _, p := range []struct{ prefix, what, key string }{
		{"/users", "Users and their permissions", "tokens"},
		{"/permissions", "Permissions", "tokens"},
		{"/scheduled_changes/permissions", "Permissions", "tokens"},
		{"/required_signoffs", "Required sign-offs", "sign_offs"},
		{"/scheduled_changes/required_signoffs", "Required sign-offs", "sign_offs"},
	} {
		if path == p.prefix || strings.HasPrefix(path, p.prefix+"/") {
			return leftOut(p.what, p.key)
		}
	}
	return nil
}

// answer serves one operation.
func (a *API) answer(w http.ResponseWriter, req *http.Request, r Route) {
	c := &call{API: a, Request: req, ctx: req.Context(), caller: a.opts.Who(req), header: w.Header()}
	if err := c.admit(w, &r); err != nil {
		a.send(w, err)
		return
	}
	body, err := r.serve(c)
	if err != nil {
		a.send(w, c.explain(err))
		return
	}
	a.send(w, body)
}

// admit looks at who asks, and reads the body.
func (c *call) admit(w http.ResponseWriter, r *Route) error {
	reads := r.Method == http.MethodGet
	switch {
	case r.Public || reads && c.opts.Open:
	case c.caller == nil:
		w.Header().Set("WWW-Authenticate", "Bearer")
		return problemOf(http.StatusUnauthorized, "Forbidden", "PermissionDeniedError", "Permission denied to perform the request. auth required")
	case reads && !c.caller.Read, !reads && len(c.caller.Permissions) == 0:
		return problemOf(http.StatusForbidden, "Forbidden", "Authorization Required", nil)
	}
	if !r.Body {
		return nil
	}
	if c.ContentLength > maxBody {
		return tooLarge()
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, c.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return tooLarge()
	case err != nil:
		return badRequest("the body cannot be read")
	case len(bytes.TrimSpace(data)) == 0:
		c.body = map[string]any{}
		return nil
	}
	c.body, err = decode(data)
	return err
}

func tooLarge() *problem {
	return problemOf(http.StatusRequestEntityTooLarge, "Request Entity Too Large", fmt.Sprintf("want at most %d bytes", maxBody), nil)
}

// decode reads a JSON object that is not nested too deeply.
func decode(data []byte) (map[string]any, error) {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch b := data[i]; {
		case quoted && b == '\\':
			i++
		case b == '"':
			quoted = !quoted
		case quoted:
		case b == '{' || b == '[':
			if depth++; depth > maxDepth {
				return nil, badRequest(fmt.Sprintf("the body is nested deeper than %d", maxDepth))
			}
		case b == '}' || b == ']':
			depth--
		}
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, badRequest("the body is not JSON: " + err.Error())
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, badRequest("the body is more than one JSON value")
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, badRequest(repr(v) + " is not of type 'object'")
	}
	return m, nil
}

// explain turns an error into an answer.
func (c *call) explain(err error) *problem {
	var p *problem
	var scheduled *state.ScheduledError
	var refused interface{ Reasons() []string }
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &scheduled) && len(scheduled.Columns) > 0:
		return problemOf(http.StatusBadRequest, "Bad Request", "UpdateMergeError", "Couldn't perform the request "+c.Method+
			" due to merge error. Is there a scheduled change that conflicts with yours?")
	case scheduled != nil:
		return pendingChange(c.Method, "Cannot delete rows that have changes scheduled.")
	case errors.Is(err, state.ErrSignOff):
		return signOffRequired("No Signoffs given")
	case errors.Is(err, state.ErrConflict):
		return outdated(c.Method)
	case errors.As(err, &refused):
		c.note("28")
		return problemOf(http.StatusBadRequest, "Bad Request", "This cannot be served", refused.Reasons())
	case errors.Is(err, state.ErrObject), errors.Is(err, aus.ErrFormat), errors.Is(err, aus.ErrLimit):
		return badRequest(err.Error())
	case errors.Is(err, book.ErrEarly):
		c.note("early enact")
		return problemOf(http.StatusBadRequest, "Bad Request", "Too early", "Nobody enacts a scheduled change before its time")
	case errors.Is(err, book.ErrClosedDraft), errors.Is(err, book.ErrBehind):
		return outdated(c.Method)
	case errors.Is(err, book.ErrNotFound):
		return problemOf(http.StatusNotFound, "Not Found", "There is nothing of this name", nil)
	case errors.Is(err, context.Canceled):
		return problemOf(http.StatusServiceUnavailable, "Service Unavailable", "the client has gone away", nil)
	}
	c.opts.Log.Error("answer a request of Balrog's API", "error", err)
	return problemOf(http.StatusServiceUnavailable, "Service Unavailable", "this failed; the log of the server says why", nil)
}

// send writes an answer: a problem, an empty body for nil, else JSON.
func (a *API) send(w http.ResponseWriter, v any) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	code := http.StatusOK
	kind := "application/json"
	switch s := v.(type) {
	case *problem:
		code, kind = s.Status, "application/problem+json"
	case status:
		code, v = s.code, s.body
	case raw:
		h.Set("Content-Type", s.kind)
		w.WriteHeader(s.code)
		_, _ = w.Write(s.body) // a client that has gone away
		return
	}
	if v == nil {
		w.WriteHeader(code)
		return
	}
	text, err := json.Marshal(v)
	if err != nil {
		a.opts.Log.Error("write an answer of Balrog's API", "error", err)
		http.Error(w, "this answer cannot be written; the log of the server says why", http.StatusServiceUnavailable)
		return
	}
	h.Set("Content-Type", kind)
	w.WriteHeader(code)
	_, _ = w.Write(append(text, '\n')) // a client that has gone away
}

// raw is an answer that is there as it is sent.
type raw struct {
	code int
	kind string
	body []byte
}

// repr writes a value as Python does, for Balrog's messages, cut where it is long.
func repr(v any) string {
	s := pythonText(v)
	if len(s) > 400 {
		s = strings.ToValidUTF8(s[:400], "") + "…"
	}
	return s
}

func pythonText(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case json.Number:
		return v.String()
	case string:
		quote := "'"
		if strings.Contains(v, "'") && !strings.Contains(v, `"`) {
			quote = `"`
		}
		r := strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`)
		text := r.Replace(v)
		if quote == "'" {
			text = strings.ReplaceAll(text, "'", `\'`)
		}
		return quote + text + quote
	}
	text, err := json.Marshal(v)
	if err != nil {
		return "?"
	}
	return string(text)
}

// text returns a text of the body that must be there; what is of another type is a problem.
func (c *call) text(key string) (string, error) {
	v, ok := c.body[key]
	if !ok {
		return "", badRequest("'" + key + "' is a required property")
	}
	s, ok := v.(string)
	if !ok {
		return "", badRequest(key + ": " + repr(v) + " is not of type 'string'")
	}
	return s, nil
}

// integer returns a whole number of the body; missing is one that is not there.
func (c *call) integer(key string) (n int64, missing bool, err error) {
	v, ok := c.body[key]
	if !ok || v == nil {
		return 0, true, nil
	}
	if n, ok := whole(v); ok {
		return n, false, nil
	}
	return 0, false, badRequest(key + ": " + repr(v) + " is not of type 'integer'")
}

// required is integer, of what must be there.
func (c *call) required(key string) (int64, error) {
	n, missing, err := c.integer(key)
	if err == nil && missing {
		err = badRequest("'" + key + "' is a required property")
	}
	return n, err
}

// whole reads a whole number, or a text of one.
func whole(v any) (int64, bool) {
	var s string
	switch v := v.(type) {
	case json.Number:
		s = v.String()
	case string:
		s = strings.TrimSpace(v)
	default:
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// maxWhen is the last time that a change may be scheduled for, in milliseconds: the end of the year 9999.
const maxWhen = 253402300799999

// when returns the time that a change is scheduled for; the zero time is none.
func (c *call) when() (time.Time, error) {
	ms, missing, err := c.integer("when")
	if err != nil || missing {
		return time.Time{}, err
	}
	t := time.UnixMilli(ms).UTC()
	if ms > maxWhen || !t.After(c.opts.Core.Now()) {
		if ms > maxWhen {
			return t, badRequest("when: want milliseconds since 1970, before the year 10000")
		}
		return t, badRequest("Changes may not be scheduled in the past")
	}
	return t, nil
}

// queryVersion returns the data_version of the address.
func (c *call) queryVersion() (int64, error) {
	text := c.URL.Query().Get("data_version")
	if text == "" {
		return 0, badRequest("Missing query parameter 'data_version'")
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, badRequest("Wrong type, expected 'integer' for query parameter 'data_version'")
	}
	return n, nil
}

// comment is what the history says of a write.
func (c *call) comment() string {
	return c.Method + " " + strings.TrimPrefix(c.URL.Path, Prefix)
}

// milliseconds is a time as Balrog writes it; null is none.
func milliseconds(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMilli()
}

// paged returns page and limit of the address, and the part of n things that they choose.
func (c *call) paged(n, limit int) (from, to int, err error) {
	page := 1
	for _, p := range []struct {
		name string
		to   *int
	}{{"page", &page}, {"limit", &limit}} {
		text := c.URL.Query().Get(p.name)
		if text == "" {
			continue
		}
		v, err := strconv.Atoi(text)
		if err != nil || v < 1 {
			return 0, 0, badRequest(p.name + ": want a whole number from 1 on")
		}
		*p.to = v
	}
	limit = min(limit, 1000)
	from = n
	if page-1 <= n/limit {
		from = min(n, (page-1)*limit)
	}
	return from, min(n, from+limit), nil
}
