package balrogapi

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
)

// protectionDelay is how far ahead the end of a write protection is scheduled where people must agree to it.
const protectionDelay = 30 * time.Second

func noRelease(title string) *problem {
	return problemOf(http.StatusNotFound, title, "Release does not exist", nil)
}

func readOnly(what string) *problem {
	return problemOf(http.StatusBadRequest, "Bad Request", "Read only", "Cannot "+what+" a Release that is marked as read-only")
}

// releaseRef is the release of the address.
func (c *call) releaseRef() state.Ref {
	return state.Ref{Kind: state.Release, Key: c.PathValue("name")}
}

// release returns the release of the address.
func (c *call) release(st *state.State, title string) (*state.Object, error) {
	if o := st.Get(c.releaseRef()); o != nil {
		return o, nil
	}
	return nil, noRelease(title)
}

// blobOf takes the document of a release apart.
func blobOf(o *state.Object) (state.Blob, error) {
	document, err := state.DecodeDocument([]byte(o.Release().Document()))
	if err != nil {
		return state.Blob{}, err
	}
	return state.SplitBlob(document), nil
}

// tree is an answer that has something for each part of a release.
type tree map[string]any

// set puts something at a part; the zero asset is the base.
func (t tree) set(a state.Asset, v any) {
	if a == (state.Asset{}) {
		t["."] = v
		return
	}
	child := func(t tree, key string) tree {
		c, ok := t[key].(tree)
		if !ok {
			c = tree{}
			t[key] = c
		}
		return c
	}
	child(child(child(t, "platforms"), a.Platform), "locales")[a.Locale] = v
}

// versionsOf writes the data versions of a release.
func versionsOf(o *state.Object, b state.Blob) tree {
	t := tree{".": o.Release().DataVersion()}
	for a := range b.Assets {
		t.set(a, o.AssetVersion(a.Platform, a.Locale))
	}
	return t
}

// oldVersion reads the version of a part from old_data_versions.
func (c *call) oldVersion(a state.Asset) (int64, error) {
	old, _ := c.body["old_data_versions"].(map[string]any)
	path := "."
	v, ok := old["."]
	if a != (state.Asset{}) {
		path = a.Path()
		child := func(m map[string]any, key string) map[string]any {
			c, _ := m[key].(map[string]any)
			return c
		}
		v, ok = child(child(child(old, "platforms"), a.Platform), "locales")[a.Locale]
	}
	if !ok {
		return 0, unknownError("Missing data_version for " + path)
	}
	n, ok := whole(v)
	if !ok {
		return 0, badRequest("old_data_versions: " + path + ": " + repr(v) + " is not of type 'integer'")
	}
	return n, nil
}

// write is what becomes of a release.
type write struct {
	object   *state.Object // as it was; nil is none
	product  string
	blob     state.Blob
	changed  []part
	readOnly bool
}

// part is a part of a release that changes.
type part struct {
	state.Asset
	kind string // insert, update or delete
}

// body makes the body of the release, with the versions of what changes counted on.
func (w *write) body() ([]byte, error) {
	document, err := json.Marshal(w.blob.Document())
	if err != nil {
		return nil, err
	}
	b := state.ReleaseBody{Blob: document, DataVersion: 1, Product: w.product, ReadOnly: w.readOnly}
	if w.object != nil {
		b.DataVersion = w.object.Release().DataVersion()
		if slices.ContainsFunc(w.changed, func(p part) bool { return p.Asset == state.Asset{} }) {
			b.DataVersion++
		}
		if b.Assets, err = state.CountAssets(w.object, document); err != nil {
			return nil, err
		}
	}
	return json.Marshal(b)
}

// operation changes the release.
func (w *write) operation(ref state.Ref) (state.Operation, error) {
	op := state.Operation{Ref: ref}
	if w.object != nil {
		op.Before = w.object.Hash
	}
	body, err := w.body()
	op.Body = body
	return op, err
}

// versions are the new data versions of what changes.
func (w *write) versions() tree {
	t := tree{}
	for _, p := range w.changed {
		switch {
		case p.kind == "delete":
		case p.kind == "insert":
			t.set(p.Asset, 1)
		case p.Asset == state.Asset{}:
			t.set(p.Asset, w.object.Release().DataVersion()+1)
		default:
			t.set(p.Asset, w.object.AssetVersion(p.Platform, p.Locale)+1)
		}
	}
	return t
}

// check is an error where a release cannot be saved.
func (c *call) check(st *state.State, w *write) error {
	document := w.blob.Document()
	text, err := json.Marshal(document)
	if err != nil {
		return err
	}
	err = aus.Validate(text, aus.ValidateOptions{Product: w.product, AllowList: c.opts.Core.AllowList(st), AnyHash: true})
	var invalid *aus.ValidationError
	switch {
	case errors.As(err, &invalid) && invalid.Check == aus.CheckDomains:
		return unknownError("Blob contains forbidden domain(s)")
	case errors.As(err, &invalid):
		return problemOf(http.StatusBadRequest, "Bad Request", "Invalid Blob", invalid.Balrog)
	case err != nil:
		return err
	}
	if name := document["name"]; name != c.PathValue("name") {
		c.note("28")
		return problemOf(http.StatusBadRequest, "Bad Request", "Invalid Blob",
			[]string{"name in database (" + c.PathValue("name") + ") does not match name in blob (" + strings.Trim(repr(name), "'") + ")"})
	}
	for p, v := range platformsOf(document) {
		platform, _ := v.(map[string]any)
		if alias, ok := platform["alias"].(string); ok {
			if _, ok := platformsOf(document)[alias]; !ok {
				c.note("28")
				return problemOf(http.StatusBadRequest, "Bad Request", "Invalid Blob", []string{"platform " + p + " is an alias of " + alias + ", which is not there"})
			}
		}
	}
	return nil
}

func platformsOf(document map[string]any) map[string]any {
	p, _ := document["platforms"].(map[string]any)
	return p
}

func (c *call) mayRelease(action string, products ...string) error {
	for _, p := range products {
		if !c.caller.may("release", action, p) {
			if p == "" {
				p = "None"
			}
			return denied("%s is not allowed to %s %s releases", c.caller.Name, action, p)
		}
	}
	return nil
}

// blob returns the document of the request.
func (c *call) blob() (state.Blob, error) {
	v, ok := c.body["blob"]
	if !ok {
		return state.Blob{}, badRequest("'blob' is a required property")
	}
	m, ok := v.(map[string]any)
	if !ok {
		return state.Blob{}, badRequest("blob: " + repr(v) + " is not of type 'object'")
	}
	text, err := json.Marshal(m) // taking it apart changes it, and this may happen more than once
	if err != nil {
		return state.Blob{}, err
	}
	document, err := state.DecodeDocument(text)
	if err != nil {
		return state.Blob{}, err
	}
	return state.SplitBlob(document), nil
}

// ready is an error where an existing part may not be written with the versions of the request.
func (c *call) ready(w *write, p part) error {
	if p.kind == "insert" {
		return nil
	}
	old, err := c.oldVersion(p.Asset)
	if err != nil {
		return err
	}
	now := w.object.Release().DataVersion()
	if p.Asset != (state.Asset{}) {
		now = w.object.AssetVersion(p.Platform, p.Locale)
	}
	if old != now {
		return outdated(c.Method)
	}
	return nil
}

// direct is an error where a release cannot be written at once because people must agree.
func (c *call) direct(st *state.State, w *write, when time.Time) error {
	if when.IsZero() && w.object != nil && len(c.opts.Core.Policy().OfRelease(st, w.object.Key)) > 0 {
		return signOffRequired("Signoff is required, cannot update Release directly")
	}
	return nil
}

// newWrite begins a write of the release of the address; verb is what a message says.
func (c *call) newWrite(o *state.Object, verb string) (*write, error) {
	w := &write{object: o, product: o.Release().Product()}
	if product, ok := c.body["product"].(string); ok && product != "" {
		w.product = product
	}
	if err := c.mayRelease("modify", o.Release().Product(), w.product); err != nil {
		return nil, err
	}
	if o.Release().ReadOnly() {
		return nil, readOnly(verb)
	}
	return w, nil
}

// setWrite is a write of the whole release: what is not in the new document is removed.
func (c *call) setWrite(st *state.State, when time.Time) (*write, error) {
	blob, err := c.blob()
	if err != nil {
		return nil, err
	}
	o := st.Get(c.releaseRef())
	if o == nil {
		w := &write{blob: blob, changed: []part{{kind: "insert"}}}
		if product, ok := c.body["product"].(string); ok {
			w.product = product
		}
		if err := c.mayRelease("create", w.product); err != nil {
			return nil, err
		}
		for a := range blob.Assets {
			w.changed = append(w.changed, part{a, "insert"})
		}
		if err := c.check(st, w); err != nil {
			return nil, err
		}
		if w.product == "" {
			return nil, badRequest("'product' is a required property")
		}
		return w, nil
	}
	w, err := c.newWrite(o, "overwrite")
	if err != nil {
		return nil, err
	}
	if err := c.direct(st, w, when); err != nil {
		return nil, err
	}
	old, err := blobOf(o)
	if err != nil {
		return nil, err
	}
	w.blob = blob
	if !reflect.DeepEqual(old.Base, blob.Base) || w.product != o.Release().Product() {
		w.changed = append(w.changed, part{kind: "update"})
	}
	for a, v := range blob.Assets {
		was, ok := old.Assets[a]
		switch {
		case !ok:
			w.changed = append(w.changed, part{a, "insert"})
		case !reflect.DeepEqual(was, v):
			w.changed = append(w.changed, part{a, "update"})
		}
	}
	for a := range old.Assets {
		if _, ok := blob.Assets[a]; !ok {
			w.changed = append(w.changed, part{a, "delete"})
		}
	}
	for _, p := range w.changed {
		if err := c.ready(w, p); err != nil {
			return nil, err
		}
	}
	if len(w.changed) == 0 {
		return w, nil
	}
	return w, c.check(st, w)
}

// mergeWrite is a write of parts of a release. on is its document that they are merged into; the zero blob is the present one.
func (c *call) mergeWrite(st *state.State, when time.Time, on *state.Blob) (*write, error) {
	blob, err := c.blob()
	if err != nil {
		return nil, err
	}
	o, err := c.release(st, "Missing")
	if err != nil {
		return nil, err
	}
	w, err := c.newWrite(o, "update")
	if err != nil {
		return nil, err
	}
	if err := c.direct(st, w, when); err != nil {
		return nil, err
	}
	now, err := blobOf(o)
	if err != nil {
		return nil, err
	}
	if on == nil {
		on = &now
	}
	w.blob = state.Blob{Base: on.Base, Assets: maps.Clone(on.Assets)}
	note := func(a state.Asset, kind string, was, v any) error {
		if reflect.DeepEqual(was, v) {
			return nil
		}
		w.changed = append(w.changed, part{a, kind})
		return nil
	}
	if withoutEmpty(blob.Base) != nil || w.product != o.Release().Product() {
		if err := c.ready(w, part{kind: "update"}); err != nil {
			return nil, err
		}
		base, _ := merged(on.Base, withoutEmpty(blob.Base)).(map[string]any)
		w.blob.Base = base
		var was any = on.Base
		if w.product != o.Release().Product() {
			was = nil
		}
		if err := note(state.Asset{}, "update", was, base); err != nil {
			return nil, err
		}
	}
	for a, v := range blob.Assets {
		was, ok := on.Assets[a]
		kind := "update"
		if _, now := now.Assets[a]; !now {
			kind = "insert"
		}
		if err := c.ready(w, part{a, kind}); err != nil {
			return nil, err
		}
		if ok {
			v = merged(was, v)
		}
		w.blob.Assets[a] = v
		if err := note(a, kind, was, v); err != nil {
			return nil, err
		}
	}
	if len(w.changed) == 0 {
		return w, nil
	}
	return w, c.check(st, w)
}

// merged puts the keys of one document into a copy of another one, object by object.
func merged(old, v any) any {
	o, okOld := old.(map[string]any)
	n, okNew := v.(map[string]any)
	if v == nil && okOld {
		return old
	}
	if !okOld || !okNew {
		return v
	}
	m := maps.Clone(o)
	for k, v := range n {
		if was, ok := m[k]; ok {
			v = merged(was, v)
		}
		m[k] = v
	}
	return m
}

// withoutEmpty is a document without its empty objects; nil is nothing.
func withoutEmpty(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	kept := map[string]any{}
	for k, v := range m {
		if v := withoutEmpty(v); v != nil {
			kept[k] = v
		}
	}
	if len(kept) == 0 {
		return nil
	}
	return kept
}

// publishWrite publishes or schedules what make returns.
func (c *call) publishWrite(when time.Time, make func(st *state.State, on *state.Blob) (*write, error)) (any, error) {
	if !when.IsZero() {
		return c.scheduleWrite(when, make)
	}
	var done *write
	_, err := c.opts.Core.Write(c.ctx, c.caller.Name, c.comment(), func(st *state.State) ([]state.Operation, error) {
		w, err := make(st, nil)
		if err != nil {
			return nil, err
		}
		if done = w; len(w.changed) == 0 {
			return nil, nil
		}
		op, err := w.operation(c.releaseRef())
		return []state.Operation{op}, err
	})
	if err != nil {
		return nil, err
	}
	return done.versions(), nil
}

// scheduleWrite schedules what make returns: a further change of a release goes into the one that is scheduled for it.
func (c *call) scheduleWrite(when time.Time, make func(st *state.State, on *state.Blob) (*write, error)) (any, error) {
	var done *write
	d, err := c.opts.Core.Schedule(c.ctx, func(st *state.State, pending []book.Draft) (book.Draft, error) {
		var on *state.Blob
		var d book.Draft
		for i := range pending {
			if pending[i].Operations[0].Ref != c.releaseRef() {
				continue
			}
			d = pending[i]
			o, err := c.after(d.Operations[0])
			if err != nil {
				return d, err
			}
			if o == nil || c.Method == http.MethodPut {
				return d, pendingChange(c.Method, "Cannot schedule a change for a row with one already scheduled")
			}
			blob, err := blobOf(o)
			if err != nil {
				return d, err
			}
			on = &blob
		}
		w, err := make(st, on)
		if err != nil {
			return d, err
		}
		if len(w.changed) == 0 {
			return d, badRequest("Nothing changes")
		}
		done = w
		op, err := w.operation(c.releaseRef())
		if err != nil {
			return d, err
		}
		if d.ID == 0 {
			kind := "update"
			if w.object == nil {
				kind = "insert"
			}
			d = c.newSchedule(tableReleases, kind, when, []state.Operation{op}, nil)
		}
		d.Operations, d.Scheduled = []state.Operation{op}, when
		d.SignOffs = c.autoSignOff(st, d.Operations)
		for _, p := range w.changed {
			d.Change.Touch(p.Platform, p.Locale, p.kind)
		}
		return d, nil
	})
	if err != nil {
		return nil, err
	}
	t := tree{}
	for _, p := range done.changed {
		t.set(p.Asset, leaf(&d, p.Asset))
	}
	return t, nil
}

// leaf is what an answer says of a part that is scheduled.
func leaf(d *book.Draft, a state.Asset) map[string]any {
	l := map[string]any{"sc_id": d.ID, "when": milliseconds(d.Scheduled), "signoffs": signers(d), "change_type": d.Change.Type, "data_version": d.Version}
	for _, p := range d.Change.Parts {
		if p.Platform == a.Platform && p.Locale == a.Locale {
			l["change_type"], l["data_version"] = p.Type, p.Version
		}
	}
	return l
}

func (c *call) putRelease() (any, error) {
	when, err := c.when()
	if err != nil {
		return nil, err
	}
	return c.publishWrite(when, func(st *state.State, _ *state.Blob) (*write, error) { return c.setWrite(st, when) })
}

func (c *call) postRelease() (any, error) {
	when, err := c.when()
	if err != nil {
		return nil, err
	}
	return c.publishWrite(when, func(st *state.State, on *state.Blob) (*write, error) { return c.mergeWrite(st, when, on) })
}

func (c *call) deleteRelease() (any, error) {
	_, err := c.opts.Core.Write(c.ctx, c.caller.Name, c.comment(), func(st *state.State) ([]state.Operation, error) {
		o, err := c.release(st, "Not Found")
		if err != nil {
			return nil, err
		}
		if err := c.mayRelease("delete", o.Release().Product()); err != nil {
			return nil, err
		}
		for _, rule := range st.List(state.Rule) {
			if r := rule.Rule(); value(r.Mapping) == o.Key || value(r.FallbackMapping) == o.Key {
				return nil, unknownError("Cannot delete release that is mapped to")
			}
		}
		for _, pin := range st.List(state.Pin) {
			if pin.Pin().Mapping == o.Key {
				return nil, unknownError("Cannot delete release that is pinnable")
			}
		}
		if o.Release().ReadOnly() {
			return nil, readOnly("delete")
		}
		return []state.Operation{{Ref: o.Ref, Before: o.Hash}}, nil
	})
	return nil, err
}

// pendingOf returns the open scheduled change of an object; nil is none.
func (c *call) pendingOf(ref state.Ref) (*book.Draft, error) {
	drafts, err := c.opts.Book.ScheduledChanges(c.ctx, false)
	if err != nil {
		return nil, err
	}
	for i := range drafts {
		if drafts[i].Operations[0].Ref == ref {
			return &drafts[i], nil
		}
	}
	return nil, nil //nolint:nilnil // there is none, and that is no error
}

func (c *call) getRelease() (any, error) {
	o := c.opts.Core.State().Get(c.releaseRef())
	d, err := c.pendingOf(c.releaseRef())
	if err != nil {
		return nil, err
	}
	if o == nil && d == nil {
		return nil, noRelease("Not Found")
	}
	body := map[string]any{"blob": map[string]any{}, "data_versions": tree{}, "sc_blob": map[string]any{}, "sc_data_versions": tree{}}
	if o != nil {
		b, err := blobOf(o)
		if err != nil {
			return nil, err
		}
		body["blob"], body["data_versions"] = json.RawMessage(o.Release().Document()), versionsOf(o, b)
	}
	if d == nil {
		return body, nil
	}
	after, err := c.after(d.Operations[0])
	if err != nil || after == nil {
		return body, err
	}
	versions := tree{}
	for _, p := range d.Change.Parts {
		versions.set(state.Asset{Platform: p.Platform, Locale: p.Locale}, p.Version)
	}
	body["sc_blob"], body["sc_data_versions"] = json.RawMessage(after.Release().Document()), versions
	return body, nil
}

func (c *call) getDataVersions() (any, error) {
	o, err := c.release(c.opts.Core.State(), "Not Found")
	if err != nil {
		return nil, err
	}
	b, err := blobOf(o)
	return map[string]any{"data_versions": versionsOf(o, b)}, err
}

func (c *call) getDataVersion() (any, error) {
	o, err := c.release(c.opts.Core.State(), "Not Found")
	if err != nil {
		return nil, err
	}
	b, err := blobOf(o)
	if err != nil {
		return nil, err
	}
	path := c.PathValue("path")
	if path == "." {
		return map[string]any{"data_version": o.Release().DataVersion()}, nil
	}
	for a := range b.Assets {
		if a.Path() == path {
			return map[string]any{"data_version": o.AssetVersion(a.Platform, a.Locale)}, nil
		}
	}
	return nil, noRelease("Not Found")
}

func (c *call) getReleases() (any, error) {
	st := c.opts.Core.State()
	releases := st.List(state.Release)
	if only := c.URL.Query().Get("names_only"); only != "" && only != "0" && !strings.EqualFold(only, "false") {
		names := []string{}
		for _, o := range releases {
			names = append(names, o.Key)
		}
		return names, nil
	}
	info := map[string]map[string]any{}
	for _, o := range st.List(state.Rule) {
		r := o.Rule()
		for _, name := range []string{value(r.Mapping), value(r.FallbackMapping)} {
			if info[name] == nil {
				info[name] = map[string]any{}
			}
			info[name][o.Key] = map[string]any{"product": r.Product, "channel": r.Channel}
		}
	}
	drafts, err := c.opts.Book.ScheduledChanges(c.ctx, false)
	if err != nil {
		return nil, err
	}
	scheduled := map[string][]any{}
	for i := range drafts {
		if drafts[i].Change.Table != tableReleases {
			continue
		}
		rows, err := c.partRows(&drafts[i])
		if err != nil {
			return nil, err
		}
		scheduled[drafts[i].Operations[0].Key] = rows
	}
	policy := c.opts.Core.Policy()
	list := []any{}
	for _, o := range releases {
		row := map[string]any{
			"name": o.Key, "product": o.Release().Product(), "data_version": o.Release().DataVersion(), "read_only": o.Release().ReadOnly(),
			"rule_info": map[string]any{}, "scheduled_changes": []any{}, "product_required_signoffs": policy.OfProduct(o.Release().Product()),
			"required_signoffs": map[string]int{},
		}
		if rules := info[o.Key]; rules != nil {
			row["rule_info"], row["required_signoffs"] = rules, policy.OfRelease(st, o.Key)
		}
		if s := scheduled[o.Key]; s != nil {
			row["scheduled_changes"] = s
		}
		list = append(list, row)
	}
	return map[string]any{"releases": list}, nil
}

// partRows writes each part of a scheduled change of a release.
func (c *call) partRows(d *book.Draft) ([]any, error) {
	before, err := c.object(d)
	if err != nil {
		return nil, err
	}
	common, err := c.columns(tableReleases, d.Operations[0], before)
	if err != nil {
		return nil, err
	}
	rows := []any{}
	for _, p := range d.Change.Parts {
		row := maps.Clone(common)
		if p.Platform != "" {
			row["path"] = state.Asset{Platform: p.Platform, Locale: p.Locale}.Path()
			row["data_version"] = nil
			if before != nil && p.Type != "insert" {
				row["data_version"] = before.AssetVersion(p.Platform, p.Locale)
			}
		}
		maps.Copy(row, map[string]any{
			"sc_id": d.ID, "sc_data_version": p.Version, "scheduled_by": d.Author, "change_type": p.Type, "complete": false,
			"when": milliseconds(d.Scheduled), "signoffs": signers(d),
		})
		rows = append(rows, row)
	}
	return rows, nil
}

func (c *call) putReadOnly() (any, error) {
	protect, ok := c.body["read_only"].(bool)
	if !ok {
		return nil, badRequest("read_only: " + repr(c.body["read_only"]) + " is not of type 'boolean'")
	}
	version, err := c.required("old_data_version")
	if err != nil {
		return nil, err
	}
	make := func(st *state.State) (state.Operation, error) {
		o, err := c.release(st, "Missing")
		if err != nil {
			return state.Operation{}, err
		}
		action, other := "set", "unset"
		if !protect {
			action, other = other, action
		}
		product := o.Release().Product()
		allowed := c.caller.may("release_read_only", action, product)
		if allowed != c.caller.may("release_read_only", other, product) {
			c.note("25")
		}
		if !allowed {
			return state.Operation{}, denied("%s is not allow to %s read_only for %s releeases", c.caller.Name, action, product)
		}
		if version != o.Release().DataVersion() {
			return state.Operation{}, outdated(c.Method)
		}
		var body state.ReleaseBody
		if err := json.Unmarshal(o.Body(), &body); err != nil {
			return state.Operation{}, err
		}
		body.ReadOnly = protect
		body.DataVersion++
		text, err := json.Marshal(body)
		return state.Operation{Ref: o.Ref, Before: o.Hash, Body: text}, err
	}
	o, err := c.release(c.opts.Core.State(), "Missing")
	if err != nil {
		return nil, err
	}
	if o.Release().ReadOnly() && !protect && len(c.opts.Core.Policy().OfProduct(o.Release().Product())) > 0 {
		d, err := c.opts.Core.Schedule(c.ctx, func(st *state.State, pending []book.Draft) (book.Draft, error) {
			op, err := make(st)
			if err == nil {
				err = c.free(op.Ref, pending)
			}
			d := c.newSchedule(tableReleases, "update", c.opts.Core.Now().Add(protectionDelay), []state.Operation{op}, nil)
			d.Change.Touch("", "", "update")
			return d, err
		})
		if err != nil {
			return nil, err
		}
		return map[string]any{".": leaf(&d, state.Asset{})}, nil
	}
	_, err = c.opts.Core.Write(c.ctx, c.caller.Name, c.comment(), func(st *state.State) ([]state.Operation, error) {
		op, err := make(st)
		return []state.Operation{op}, err
	})
	return map[string]any{".": version + 1}, err
}

// releaseDraft returns the scheduled change of the release of the address.
func (c *call) releaseDraft() (*book.Draft, error) {
	d, err := c.pendingOf(c.releaseRef())
	if err == nil && d == nil {
		err = problemOf(http.StatusNotFound, "Missing", "Release has no scheduled changes", nil)
	}
	return d, err
}

func (c *call) putReleaseSignOff() (any, error) {
	d, err := c.releaseDraft()
	if err != nil {
		return nil, err
	}
	return nil, c.signOff(d)
}

func (c *call) deleteReleaseSignOff() (any, error) {
	d, err := c.releaseDraft()
	if err != nil {
		return nil, err
	}
	return nil, c.revoke(d)
}

func (c *call) postReleaseEnact() (any, error) {
	d, err := c.releaseDraft()
	if err != nil {
		return nil, err
	}
	return nil, c.enact(d)
}

// getReleaseColumn answers which values a column of the releases has.
func (c *call) getReleaseColumn() (any, error) {
	column := map[string]func(*state.Object) any{
		"name":         func(o *state.Object) any { return o.Key },
		"product":      func(o *state.Object) any { return o.Release().Product() },
		"data_version": func(o *state.Object) any { return o.Release().DataVersion() },
		"read_only":    func(o *state.Object) any { return o.Release().ReadOnly() },
	}[c.PathValue("column")]
	if column == nil {
		return nil, problemOf(http.StatusNotFound, "Not Found", "Release column was not found", "Requested column does not exist")
	}
	values := []any{}
	for _, o := range c.opts.Core.State().List(state.Release) {
		values = append(values, column(o))
	}
	return distinct(c.PathValue("column"), values), nil
}
