package balrogapi

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
)

// shutoffRow is a shutoff as Balrog writes it.
func shutoffRow(f *aus.Shutoff) map[string]any {
	row := map[string]any{"product": f.Product, "channel": f.Channel, "comment": nil, "data_version": f.DataVersion}
	if f.Comment != "" {
		row["comment"] = f.Comment
	}
	return row
}

// plainShutoffs are those that Balrog could have: of one product and channel, and of no further columns.
func plainShutoffs(st *state.State) []*state.Object {
	var list []*state.Object
	for _, o := range st.List(state.Shutoff) {
		if f := o.Shutoff(); f.Product != "" && f.Channel != "" && f.Only == nil {
			list = append(list, o)
		}
	}
	return list
}

func findShutoff(st *state.State, product, channel string) *state.Object {
	for _, o := range plainShutoffs(st) {
		if f := o.Shutoff(); f.Product == product && f.Channel == channel {
			return o
		}
	}
	return nil
}

func (c *call) mayShutoff(action, words, product string) error {
	if !c.caller.may("emergency_shutoff", action, product) {
		return denied("%s is not allowed to %s updates for product %s", c.caller.Name, words, product)
	}
	return nil
}

func (c *call) getShutoffs() (any, error) {
	rows := []any{}
	for _, o := range plainShutoffs(c.opts.Core.State()) {
		rows = append(rows, shutoffRow(o.Shutoff()))
	}
	return map[string]any{"count": len(rows), "shutoffs": rows}, nil
}

func noShutoff() *problem {
	return problemOf(http.StatusNotFound, "Not Found", "Shutoff wasn't found", "Shutoff does not exist")
}

func (c *call) getShutoff() (any, error) {
	o := findShutoff(c.opts.Core.State(), c.PathValue("product"), c.PathValue("channel"))
	if o == nil {
		return nil, noShutoff()
	}
	return shutoffRow(o.Shutoff()), nil
}

func (c *call) postShutoff() (any, error) {
	f := aus.Shutoff{DataVersion: 1}
	for _, p := range []struct {
		key string
		to  *string
	}{{"product", &f.Product}, {"channel", &f.Channel}} {
		text, err := c.text(p.key)
		if err != nil {
			return nil, err
		}
		if text == "" || len(text) > 75 {
			return nil, badRequest(p.key + ": " + repr(text) + " has not 1 to 75 characters")
		}
		*p.to = text
	}
	if v := c.body["comment"]; v != nil {
		text, ok := v.(string)
		if !ok || len(text) > 500 {
			return nil, badRequest("comment: " + repr(v) + " is not of type 'string' with at most 500 characters")
		}
		f.Comment = text
	}
	if err := c.mayShutoff("create", "shut off", f.Product); err != nil {
		return nil, err
	}
	w, err := c.opts.Core.Write(c.ctx, c.caller.Name, c.comment(), func(st *state.State) ([]state.Operation, error) {
		if findShutoff(st, f.Product, f.Channel) != nil {
			return nil, problemOf(http.StatusBadRequest, "Bad Request", "Invalid Emergency shutoff data", "Emergency shutoff for product/channel already exists.")
		}
		body, err := json.Marshal(f)
		return []state.Operation{{Ref: state.Ref{Kind: state.Shutoff, Key: state.NewKey}, Body: body}}, err
	})
	if err != nil {
		return nil, err
	}
	return status{http.StatusCreated, shutoffRow(w.Changes[0].After.Shutoff())}, nil
}

func (c *call) deleteShutoff() (any, error) {
	version, err := c.queryVersion()
	if err != nil {
		return nil, err
	}
	_, err = c.opts.Core.Write(c.ctx, c.caller.Name, c.comment(), func(st *state.State) ([]state.Operation, error) {
		o := findShutoff(st, c.PathValue("product"), c.PathValue("channel"))
		if o == nil {
			return nil, noShutoff()
		}
		if err := c.mayShutoff("delete", "restore", o.Shutoff().Product); err != nil {
			return nil, err
		}
		if version != o.Shutoff().DataVersion {
			return nil, outdated(c.Method)
		}
		return []state.Operation{{Ref: o.Ref, Before: o.Hash}}, nil
	})
	return nil, err
}

// shutoffChange makes the operation of a scheduled end of a shutoff.
func (c *call) shutoffChange(st *state.State, pending []book.Draft) ([]state.Operation, error) {
	product, err := c.text("product")
	if err != nil {
		return nil, err
	}
	channel, err := c.text("channel")
	if err != nil {
		return nil, err
	}
	version, err := c.required("data_version")
	if err != nil {
		return nil, err
	}
	if err := c.mayShutoff("delete", "restore", product); err != nil {
		return nil, err
	}
	o := findShutoff(st, product, channel)
	if o == nil {
		return nil, noShutoff()
	}
	if err := c.free(o.Ref, pending); err != nil {
		return nil, err
	}
	if version != o.Shutoff().DataVersion {
		return nil, outdated(c.Method)
	}
	return []state.Operation{{Ref: o.Ref, Before: o.Hash}}, nil
}

// pinVersion is what clients can pin themselves to: one or two numbers without leading zeros, each with a point.
var pinVersion = regexp.MustCompile(`^(0|[1-9][0-9]*)\.((0|[1-9][0-9]*)\.)?$`)

// pin reads a pin from the body.
func (c *call) pin() (aus.Pin, error) {
	var p aus.Pin
	for _, f := range []struct {
		key string
		to  *string
	}{{"product", &p.Product}, {"channel", &p.Channel}, {"version", &p.Version}} {
		text, err := c.text(f.key)
		if err != nil {
			return p, err
		}
		if text == "" || len(text) > 75 || strings.Contains(text, "/") {
			return p, badRequest(f.key + ": " + repr(text) + " has not 1 to 75 characters other than /")
		}
		*f.to = text
	}
	return p, nil
}

// pinOperation sets a pin to a release.
func (c *call) pinOperation(st *state.State, p aus.Pin) (state.Operation, error) {
	ref := state.Ref{Kind: state.Pin, Key: state.PinKey(&p)}
	op := state.Operation{Ref: ref}
	o := st.Get(ref)
	action := "create"
	p.DataVersion = 1
	if o != nil {
		action = "modify"
		op.Before, p.DataVersion = o.Hash, o.Pin().DataVersion+1
	}
	if !c.caller.may("pinnable_release", action, p.Product) {
		return op, denied("%s is not allowed to %s pinnable releases for product %s", c.caller.Name, action, p.Product)
	}
	if !pinVersion.MatchString(p.Version) {
		c.note("28")
		return op, badRequest("version: " + repr(p.Version) + " is nothing that a client can be pinned to")
	}
	body, err := json.Marshal(p)
	op.Body = body
	return op, err
}

// releaseVersion is the version that a release's document names.
func releaseVersion(o *state.Object) string {
	var d struct {
		AppVersion string `json:"appVersion"`
		Extv       string `json:"extv"`
	}
	if err := json.Unmarshal([]byte(o.Release().Document()), &d); err != nil {
		return ""
	}
	if d.AppVersion == "" {
		return d.Extv
	}
	return d.AppVersion
}

func (c *call) putPinnable() (any, error) {
	p, err := c.pin()
	if err != nil {
		return nil, err
	}
	when, err := c.when()
	if err != nil {
		return nil, err
	}
	p.Mapping = c.PathValue("name")
	newer := false
	make := func(st *state.State) (state.Operation, error) {
		r, err := c.release(st, "Not Found")
		if err != nil {
			return state.Operation{}, err
		}
		op, err := c.pinOperation(st, p)
		if err != nil {
			return op, err
		}
		newer = false
		if o := st.Get(op.Ref); o != nil {
			other := st.Get(state.Ref{Kind: state.Release, Key: o.Pin().Mapping})
			newer = other != nil && aus.CompareVersions(releaseVersion(other), releaseVersion(r)) > 0
		}
		return op, nil
	}
	notSet := map[string]any{"pin_not_set": true, "reason": "existing_pin_is_newer"}
	if !when.IsZero() {
		d, err := c.opts.Core.Schedule(c.ctx, func(st *state.State, pending []book.Draft) (book.Draft, error) {
			op, err := make(st)
			if err == nil {
				err = c.free(op.Ref, pending)
			}
			if err == nil && newer {
				err = errNewerPin
			}
			if err != nil {
				return book.Draft{}, err
			}
			kind := "insert"
			if op.Before != "" {
				kind = "update"
			}
			operations := []state.Operation{op}
			d := c.newSchedule(tablePins, kind, when, operations, c.autoSignOff(st, operations))
			d.Change.Revise(1, c.opts.Core.Now(), c.caller.Name, when, op.Body)
			return d, nil
		})
		if newer {
			return notSet, nil
		}
		if err != nil {
			return nil, err
		}
		return map[string]any{".": leaf(&d, state.Asset{})}, nil
	}
	w, err := c.opts.Core.Write(c.ctx, c.caller.Name, c.comment(), func(st *state.State) ([]state.Operation, error) {
		op, err := make(st)
		if err != nil || newer {
			return nil, err
		}
		return []state.Operation{op}, nil
	})
	switch {
	case err != nil:
		return nil, err
	case newer:
		return notSet, nil
	}
	return map[string]any{".": w.Changes[0].After.Pin().DataVersion}, nil
}

// errNewerPin ends the scheduling of a pin that is not set.
var errNewerPin = problemOf(http.StatusConflict, "Conflict", "the present pin is newer", nil)

// pinChange makes the operation of a scheduled change of a pin.
func (c *call) pinChange(st *state.State, pending []book.Draft, kind string) ([]state.Operation, error) {
	p, err := c.pin()
	if err != nil {
		return nil, err
	}
	ref := state.Ref{Kind: state.Pin, Key: state.PinKey(&p)}
	if err := c.free(ref, pending); err != nil {
		return nil, err
	}
	o := st.Get(ref)
	if kind == "insert" {
		if o != nil {
			return nil, badRequest("Cannot insert a pin that is there")
		}
	} else {
		version, err := c.required("data_version")
		switch {
		case err != nil:
			return nil, err
		case o == nil:
			return nil, problemOf(http.StatusNotFound, "Not Found", "Pin does not exist", nil)
		case version != o.Pin().DataVersion:
			return nil, outdated(c.Method)
		}
	}
	if kind == "delete" {
		if !c.caller.may("pinnable_release", "delete", p.Product) {
			return nil, denied("%s is not allowed to delete pinnable releases for product %s", c.caller.Name, p.Product)
		}
		return []state.Operation{{Ref: ref, Before: o.Hash}}, nil
	}
	if p.Mapping, err = c.text("mapping"); err != nil {
		return nil, err
	}
	if st.Get(state.Ref{Kind: state.Release, Key: p.Mapping}) == nil {
		return nil, badRequest("Invalid mapping value. No release name found in DB")
	}
	op, err := c.pinOperation(st, p)
	return []state.Operation{op}, err
}

func (c *call) getPin() (any, error) {
	p := aus.Pin{Product: c.PathValue("product"), Channel: c.PathValue("channel"), Version: c.PathValue("version")}
	o := c.opts.Core.State().Get(state.Ref{Kind: state.Pin, Key: state.PinKey(&p)})
	if o == nil {
		return nil, problemOf(http.StatusNotFound, "Not Found", "Pin does not exist", nil)
	}
	return o.Pin(), nil
}

// readV1 answers what version 1 of the API reads as the public side does.
func (c *call) readV1() (any, error) {
	url := "/api/v1" + strings.TrimPrefix(c.URL.EscapedPath(), Prefix)
	if c.URL.RawQuery != "" {
		url += "?" + c.URL.RawQuery
	}
	r := c.opts.Core.Snapshot().Respond(aus.Request{Method: http.MethodGet, URL: url, Header: c.Header}, aus.Env{Now: c.opts.Core.Now()})
	if v := r.Header.Get("X-Data-Version"); v != "" {
		c.header.Set("X-Data-Version", v)
	}
	return raw{r.Status, r.Header.Get("Content-Type"), r.Body}, nil
}

// writeV1 refuses to write releases by version 1 of the API.
func (c *call) writeV1() (any, error) {
	return nil, problemOf(http.StatusForbidden, "Forbidden", "Releases are not written by version 1 of the API here: use /v2/releases", nil)
}

// getToken answers a token of the configuration to who knows it: OAuth's client credentials.
func (c *call) postToken() (any, error) {
	fail := func(code int, text string) (any, error) {
		return status{code, map[string]any{"error": text}}, nil
	}
	get := func(key string) string {
		s, _ := c.body[key].(string)
		return s
	}
	if grant := get("grant_type"); grant != "client_credentials" {
		return fail(http.StatusBadRequest, "unsupported_grant_type")
	}
	name, secret := get("client_id"), get("client_secret")
	if user, password, ok := c.BasicAuth(); ok && name == "" {
		name, secret = user, password
	}
	if !c.opts.Token(name, secret) {
		return fail(http.StatusUnauthorized, "invalid_client")
	}
	return map[string]any{"access_token": secret, "token_type": "Bearer", "expires_in": 86400}, nil
}

// getCSRF answers scripts that ask for a token against requests of other pages first. There are no cookies here, so that none is needed.
func (c *call) getCSRF() (any, error) {
	c.header.Set("X-Csrf-Token", "none")
	return nil, nil //nolint:nilnil // an empty body
}

// routes are all operations.
func (a *API) routes() []Route {
	get, post, put, remove := http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	version := []string{"data_version"}
	pages := []string{"page", "limit"}
	return []Route{
		{get, "/csrf_token", "balrogToken", "Nothing, for scripts that ask for it", nil, false, true, (*call).getCSRF},

		{get, "/v2/releases", "balrogReleases", "All releases", []string{"names_only"}, false, false, (*call).getReleases},
		{get, "/v2/releases/{name}", "balrogRelease", "A release, its data versions, and what is scheduled for it", nil, false, false, (*call).getRelease},
		{put, "/v2/releases/{name}", "balrogSetRelease", "Make a release, or write it anew", nil, true, false, (*call).putRelease},
		{post, "/v2/releases/{name}", "balrogMergeRelease", "Write parts of a release", nil, true, false, (*call).postRelease},
		{remove, "/v2/releases/{name}", "balrogDeleteRelease", "Remove a release that nothing leads to", nil, false, false, (*call).deleteRelease},
		{get, "/v2/releases/{name}/data_versions", "balrogDataVersions", "The data versions of a release", nil, false, false, (*call).getDataVersions},
		{get, "/v2/releases/{name}/{path}/data_version", "balrogDataVersion", "The data version of a part of a release", nil, false, false, (*call).getDataVersion},
		{put, "/v2/releases/{name}/read_only", "balrogReadOnly", "Protect a release from changes, or end that", nil, true, false, (*call).putReadOnly},
		{put, "/v2/releases/{name}/pinnable", "balrogPinnable", "Let clients pin themselves to a release", nil, true, false, (*call).putPinnable},
		{put, "/v2/releases/{name}/signoff", "balrogSignOffRelease", "Agree to what is scheduled for a release", nil, true, false, (*call).putReleaseSignOff},
		{remove, "/v2/releases/{name}/signoff", "balrogRevokeRelease", "Take that back", []string{"username"}, false, false, (*call).deleteReleaseSignOff},
		{post, "/v2/releases/{name}/enact", "balrogEnactRelease", "Enact what is scheduled for a release, once its time has come", nil, true, false, (*call).postReleaseEnact},
		{get, "/v2/pins/{product}/{channel}/{version}", "balrogPin", "Where a pin leads", nil, false, false, (*call).getPin},

		{get, "/rules", "balrogRules", "All rules, now or at a time", []string{"product", "timestamp"}, false, false, (*call).getRules},
		{post, "/rules", "balrogAddRule", "Make a rule", nil, true, false, (*call).postRule},
		{get, "/rules/history", "balrogRulesHistory", "How rules have changed", append([]string{"product", "channel", "changed_by", "timestamp_from", "timestamp_to"}, pages...), false, false, (*call).getRulesHistory},
		{get, "/rules/columns/{column}", "balrogRuleColumn", "Which values a column has", nil, false, false, (*call).getRuleColumn},
		{get, "/rules/{id}", "balrogRule", "A rule, by number or alias", nil, false, false, (*call).getRule},
		{put, "/rules/{id}", "balrogPutRule", "Change columns of a rule", nil, true, false, (*call).putRule},
		{post, "/rules/{id}", "balrogPostRule", "Change columns of a rule", nil, true, false, (*call).putRule},
		{remove, "/rules/{id}", "balrogDeleteRule", "Remove a rule", version, false, false, (*call).deleteRule},
		{get, "/rules/{id}/{revisions}", "balrogRuleRevisions", "How a rule has changed", pages, false, false, revisions((*call).getRuleRevisions)},
		{post, "/rules/{id}/{revisions}", "balrogRevertRule", "Make a rule as it was", nil, true, false, revisions((*call).revertRule)},

		{get, "/emergency_shutoff", "balrogShutoffs", "What is shut off", nil, false, false, (*call).getShutoffs},
		{post, "/emergency_shutoff", "balrogShutOff", "Shut off", nil, true, false, (*call).postShutoff},
		{get, "/emergency_shutoff/{product}/{channel}", "balrogShutoff", "One shutoff", nil, false, false, (*call).getShutoff},
		{remove, "/emergency_shutoff/{product}/{channel}", "balrogLift", "End a shutoff", version, false, false, (*call).deleteShutoff},

		{get, "/scheduled_changes/{table}", "balrogScheduled", "What is scheduled", []string{"all"}, false, false, (*call).getScheduled},
		{post, "/scheduled_changes/{table}", "balrogSchedule", "Schedule a change", nil, true, false, (*call).postScheduled},
		{get, "/scheduled_changes/{table}/{id}", "balrogScheduledOne", "One scheduled change", nil, false, false, (*call).getScheduledOne},
		{post, "/scheduled_changes/{table}/{id}", "balrogReschedule", "Change a scheduled change", nil, true, false, (*call).postScheduledOne},
		{remove, "/scheduled_changes/{table}/{id}", "balrogUnschedule", "Withdraw a scheduled change", version, false, false, (*call).deleteScheduled},
		{get, "/scheduled_changes/{table}/{id}/revisions", "balrogScheduledRevisions", "How a scheduled change has changed", pages, false, false, (*call).getScheduledRevisions},
		{post, "/scheduled_changes/{table}/{id}/signoffs", "balrogSignOff", "Agree to a scheduled change", nil, true, false, (*call).postSignOff},
		{remove, "/scheduled_changes/{table}/{id}/signoffs", "balrogRevoke", "Take that back", []string{"username"}, false, false, (*call).deleteSignOff},
		{post, "/scheduled_changes/{table}/{id}/enact", "balrogEnact", "Enact a scheduled change, once its time has come", nil, true, false, (*call).postEnact},

		{get, "/releases", "balrogReleases1", "All releases, by version 1", []string{"product", "name_prefix", "names_only"}, false, false, (*call).readV1},
		{post, "/releases", "balrogAddRelease1", "Not there", nil, true, false, (*call).writeV1},
		{get, "/releases/columns/{column}", "balrogReleaseColumn", "Which values a column has", nil, false, false, (*call).getReleaseColumn},
		{get, "/releases/{name}", "balrogRelease1", "The document of a release, by version 1", []string{"pretty"}, false, false, (*call).readV1},
		{put, "/releases/{name}", "balrogPutRelease1", "Not there", nil, true, false, (*call).writeV1},
		{post, "/releases/{name}", "balrogPostRelease1", "Not there", nil, true, false, (*call).writeV1},
		{remove, "/releases/{name}", "balrogDeleteRelease1", "Not there", nil, false, false, (*call).writeV1},
		{put, "/releases/{name}/read_only", "balrogReadOnly1", "Not there", nil, true, false, (*call).writeV1},
		{get, "/releases/{name}/builds/{platform}/{locale}", "balrogBuild1", "One locale of a release, by version 1", nil, false, false, (*call).readV1},
		{put, "/releases/{name}/builds/{platform}/{locale}", "balrogPutBuild1", "Not there", nil, true, false, (*call).writeV1},
	}
}

// revisions serves a path whose last part says so; the pattern would else be at odds with that of columns.
func revisions(serve func(*call) (any, error)) func(*call) (any, error) {
	return func(c *call) (any, error) {
		if c.PathValue("revisions") != "revisions" {
			return nil, problemOf(http.StatusNotFound, "Not Found", "The requested URL was not found on the server.", nil)
		}
		return serve(c)
	}
}

// Token answers requests for a token, which come to a path of their own and in two forms.
func (a *API) Token(w http.ResponseWriter, r *http.Request) {
	c := &call{API: a, Request: r, ctx: r.Context(), header: w.Header()}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		if err := r.ParseForm(); err != nil {
			a.send(w, badRequest("the form cannot be read"))
			return
		}
		c.body = map[string]any{}
		for k := range r.PostForm {
			c.body[k] = r.PostForm.Get(k)
		}
	} else if err := c.admit(w, &Route{Public: true, Body: true}); err != nil {
		a.send(w, err)
		return
	}
	body, err := c.postToken()
	if err != nil {
		a.send(w, c.explain(err))
		return
	}
	a.send(w, body)
}
