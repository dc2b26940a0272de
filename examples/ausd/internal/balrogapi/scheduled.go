package balrogapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
)

// The tables that changes are scheduled for.
const (
	tableRules    = "rules"
	tableReleases = "releases"
	tablePins     = "pinnable_releases"
	tableShutoffs = "emergency_shutoff"
)

// table returns the table of the address.
func (c *call) table() (string, error) {
	t := c.PathValue("table")
	if p := configured("/scheduled_changes/" + t); p != nil {
		return "", p
	}
	if !slices.Contains([]string{tableRules, tableReleases, tablePins, tableShutoffs}, t) {
		return "", problemOf(http.StatusNotFound, "Not Found", "The requested URL was not found on the server.", nil)
	}
	return t, nil
}

// object is the row that a draft changes, as it was; nil is none.
func (c *call) object(d *book.Draft) (*state.Object, error) {
	op := d.Operations[0]
	if op.Before == "" {
		return nil, nil //nolint:nilnil // there is none, and that is no error
	}
	if o := c.opts.Core.State().Get(op.Ref); o != nil && o.Hash == op.Before {
		return o, nil
	}
	body, err := c.opts.Book.Object(c.ctx, op.Before)
	if err != nil {
		return nil, err
	}
	return state.Load(op.Ref, body, op.Before)
}

// after is the row that a draft makes of it; nil is none.
func (c *call) after(op state.Operation) (*state.Object, error) {
	if op.Body == nil {
		return nil, nil //nolint:nilnil // it is removed
	}
	numbered, err := c.opts.Core.State().Number([]state.Operation{op}, func(state.Kind) (int64, error) { return 1, nil })
	if err != nil {
		return nil, err
	}
	return state.NewObject(numbered[0].Ref, numbered[0].Body)
}

// columns writes the row of a scheduled change: what the object becomes, with the data version that it has; of a removal the key alone.
func (c *call) columns(table string, op state.Operation, before *state.Object) (map[string]any, error) {
	o, err := c.after(op)
	if err != nil {
		return nil, err
	}
	var version any
	if before != nil {
		version = dataVersion(before)
	}
	var row map[string]any
	switch table {
	case tableRules:
		r := aus.Rule{}
		if o != nil {
			r = *o.Rule()
		}
		text, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		if row, err = decode(text); err != nil {
			return nil, err
		}
		row["rule_id"] = nil
		if before != nil {
			row["rule_id"] = before.Rule().ID
		}
		for _, k := range []string{"telemetry_product", "telemetry_channel", "telemetry_uptake"} {
			row[k] = nil
		}
	case tableShutoffs:
		f := before.Shutoff()
		row = map[string]any{"product": f.Product, "channel": f.Channel, "comment": nil}
	case tablePins:
		p := aus.Pin{}
		if before != nil {
			p = *before.Pin()
		}
		row = map[string]any{"mapping": nil}
		if o != nil {
			p = *o.Pin()
			row["mapping"] = p.Mapping
		}
		row["product"], row["channel"], row["version"] = p.Product, p.Channel, p.Version
	case tableReleases:
		r := before
		if o != nil {
			r = o
		}
		row = map[string]any{"name": op.Key, "product": r.Release().Product(), "read_only": r.Release().ReadOnly()}
	}
	row["data_version"] = version
	return row, nil
}

func dataVersion(o *state.Object) int64 {
	switch {
	case o.Rule() != nil:
		return o.Rule().DataVersion
	case o.Release() != nil:
		return o.Release().DataVersion()
	case o.Pin() != nil:
		return o.Pin().DataVersion
	case o.Shutoff() != nil:
		return o.Shutoff().DataVersion
	}
	return 0
}

// signers writes who has agreed, and as what.
func signers(d *book.Draft) map[string]string {
	m := map[string]string{}
	for _, s := range d.SignOffs {
		m[s.Name] = s.Role
	}
	return m
}

// changesOf returns what operations do to a state.
func changesOf(st *state.State, operations []state.Operation) (*state.State, []state.Changed, error) {
	numbered, err := st.Number(operations, func(state.Kind) (int64, error) { return 1, nil })
	if err != nil {
		return nil, nil, err
	}
	return st.Apply(numbered)
}

// requiredFor returns who must agree to operations; nobody where they cannot be applied.
func (c *call) requiredFor(st *state.State, operations []state.Operation) map[string]int {
	next, changes, err := changesOf(st, operations)
	if err != nil {
		return map[string]int{}
	}
	if required := c.opts.Core.Policy().Required(st, next, changes); required != nil {
		return required
	}
	return map[string]int{}
}

// autoSignOff is the caller's sign-off of what he schedules: in the role that he has of those that are asked for, if it is one.
func (c *call) autoSignOff(st *state.State, operations []state.Operation) []book.SignOff {
	if c.caller.System {
		return nil
	}
	var roles []string
	for role := range c.requiredFor(st, operations) {
		if slices.Contains(c.caller.Roles, role) {
			roles = append(roles, role)
		}
	}
	if len(roles) != 1 {
		return nil
	}
	return []book.SignOff{{Name: c.caller.Name, Role: roles[0], At: c.opts.Core.Now()}}
}

// complete says whether a draft is published, and its version is that of Balrog's row.
func complete(d *book.Draft) (version int64, done bool) {
	if d.State == book.DraftPublished {
		return d.Version + 1, true
	}
	return d.Version, false
}

// scheduledRow writes a scheduled change.
func (c *call) scheduledRow(d *book.Draft) (map[string]any, error) {
	before, err := c.object(d)
	if err != nil {
		return nil, err
	}
	row, err := c.columns(d.Change.Table, d.Operations[0], before)
	if err != nil {
		return nil, err
	}
	version, done := complete(d)
	required := map[string]int{}
	if !done {
		required = c.requiredFor(c.opts.Core.State(), d.Operations)
	}
	maps.Copy(row, map[string]any{
		"sc_id": d.ID, "sc_data_version": version, "scheduled_by": d.Author, "change_type": d.Change.Type, "complete": done,
		"when": milliseconds(d.Scheduled), "signoffs": signers(d), "required_signoffs": required,
	})
	return row, nil
}

// scheduledRevisions writes how a scheduled change has changed, the newest first.
func (c *call) scheduledRevisions(d *book.Draft) ([]map[string]any, error) {
	before, err := c.object(d)
	if err != nil {
		return nil, err
	}
	revisions := slices.Clone(d.Change.Revisions)
	version, done := complete(d)
	if done {
		head, err := c.opts.Book.PublishedBy(c.ctx, d.ID)
		if err != nil {
			return nil, err
		}
		revisions = append(revisions, book.ScheduledRevision{Version: version, At: head.At, By: d.Author, Scheduled: d.Scheduled, Body: d.Operations[0].Body})
	}
	rows := []map[string]any{}
	for i, v := range slices.Backward(revisions) {
		op := d.Operations[0]
		op.Body = v.Body
		row, err := c.columns(d.Change.Table, op, before)
		if err != nil {
			return nil, err
		}
		maps.Copy(row, map[string]any{
			"sc_id": d.ID, "sc_data_version": v.Version, "scheduled_by": d.Author, "change_type": d.Change.Type, "complete": done && i == len(revisions)-1,
			"when": milliseconds(v.Scheduled), "change_id": changeID(d.ID, v.Version), "changed_by": v.By, "timestamp": v.At.UnixMilli(),
		})
		rows = append(rows, row)
	}
	return rows, nil
}

// changeID is a number of one revision of a scheduled change that no other one has.
func changeID(draft, version int64) int64 { return draft<<20 | version&(1<<20-1) }

func (c *call) getScheduled() (any, error) {
	table, err := c.table()
	if err != nil {
		return nil, err
	}
	all := c.URL.Query().Get("all")
	drafts, err := c.opts.Book.ScheduledChanges(c.ctx, all != "" && all != "0" && all != "false")
	if err != nil {
		return nil, err
	}
	rows := []map[string]any{}
	for i := range drafts {
		if drafts[i].Change.Table != table {
			continue
		}
		row, err := c.scheduledRow(&drafts[i])
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return map[string]any{"count": len(rows), "scheduled_changes": rows}, nil
}

// scheduled returns the scheduled change of the address.
func (c *call) scheduled() (book.Draft, error) {
	table, err := c.table()
	if err != nil {
		return book.Draft{}, err
	}
	id, err := strconv.ParseInt(c.PathValue("id"), 10, 64)
	if err == nil {
		var d book.Draft
		if d, err = c.opts.Book.Draft(c.ctx, id); err == nil && d.Change != nil && d.Change.Table == table && d.State != book.DraftWithdrawn {
			return d, nil
		}
		if err != nil && !errors.Is(err, book.ErrNotFound) {
			return book.Draft{}, err
		}
	}
	return book.Draft{}, problemOf(http.StatusNotFound, "Not Found", "Scheduled change does not exist", nil)
}

func (c *call) getScheduledOne() (any, error) {
	d, err := c.scheduled()
	if err != nil {
		return nil, err
	}
	row, err := c.scheduledRow(&d)
	return map[string]any{"scheduled_change": row}, err
}

func (c *call) getScheduledRevisions() (any, error) {
	d, err := c.scheduled()
	if err != nil {
		return nil, err
	}
	rows, err := c.scheduledRevisions(&d)
	if err != nil {
		return nil, err
	}
	from, to, err := c.paged(len(rows), 10)
	if err != nil {
		return nil, err
	}
	return map[string]any{"count": len(rows), "revisions": rows[from:to]}, nil
}

// newSchedule makes a draft of a scheduled change. ref may stand for a new object.
func (c *call) newSchedule(table, kind string, when time.Time, operations []state.Operation, signOffs []book.SignOff) book.Draft {
	d := book.Draft{
		Version: 1, Author: c.caller.Name, Comment: c.comment(), Scheduled: when, Operations: operations, SignOffs: signOffs,
		Change: &book.ScheduledChange{Table: table, Type: kind},
	}
	return d
}

// free is an error where a change of an object is scheduled already.
func (c *call) free(ref state.Ref, pending []book.Draft) error {
	for i := range pending {
		if pending[i].Operations[0].Ref == ref && ref.Key != state.NewKey {
			return pendingChange(c.Method, "Cannot schedule a change for a row with one already scheduled")
		}
	}
	return nil
}

func (c *call) postScheduled() (any, error) {
	table, err := c.table()
	if err != nil {
		return nil, err
	}
	types := []string{"insert", "update", "delete"}
	switch table {
	case tableReleases:
		return nil, problemOf(http.StatusForbidden, "Forbidden", "Releases are not written by version 1 of the API here: use /v2/releases with \"when\"", nil)
	case tableShutoffs:
		types = types[2:]
	}
	kind, err := c.text("change_type")
	if err != nil {
		return nil, err
	}
	if !slices.Contains(types, kind) {
		list := ""
		for i, t := range types {
			if i > 0 {
				list += ", "
			}
			list += "'" + t + "'"
		}
		return nil, badRequest("change_type: " + repr(kind) + " is not one of [" + list + "]")
	}
	for _, k := range []string{"telemetry_product", "telemetry_channel", "telemetry_uptake"} {
		if c.body[k] != nil {
			return nil, badRequest(k + ": there is no telemetry here")
		}
	}
	when, err := c.when()
	if err != nil {
		return nil, err
	}
	if when.IsZero() {
		return nil, badRequest("'when' cannot be set to null when scheduling a new change for a " + map[string]string{
			tableRules: "Rule", tableShutoffs: "Emergency Shutoff", tablePins: "Pinnable Release",
		}[table])
	}
	d, err := c.opts.Core.Schedule(c.ctx, func(st *state.State, pending []book.Draft) (book.Draft, error) {
		var operations []state.Operation
		var err error
		switch table {
		case tableRules:
			operations, err = c.ruleChange(st, pending, kind)
		case tableShutoffs:
			operations, err = c.shutoffChange(st, pending)
		case tablePins:
			operations, err = c.pinChange(st, pending, kind)
		}
		if err != nil {
			return book.Draft{}, err
		}
		d := c.newSchedule(table, kind, when, operations, c.autoSignOff(st, operations))
		d.Change.Revise(1, c.opts.Core.Now(), c.caller.Name, when, operations[0].Body)
		return d, nil
	})
	if err != nil {
		return nil, err
	}
	return map[string]any{"sc_id": d.ID, "signoffs": signers(&d)}, nil
}

// ruleChange makes the operation of a scheduled change of a rule.
func (c *call) ruleChange(st *state.State, pending []book.Draft, kind string) ([]state.Operation, error) {
	r := aus.Rule{DataVersion: 1}
	if kind == "insert" {
		if err := insertable(c.body); err != nil {
			return nil, err
		}
		if err := fill(c.body, &r); err != nil {
			return nil, err
		}
		if err := c.mayRule("create", "create new", r.Product); err != nil {
			return nil, err
		}
		if err := checkRule(st, &r, true); err != nil {
			return nil, err
		}
		return ruleOperation(nil, &r)
	}
	id, err := c.required("rule_id")
	if err != nil {
		return nil, err
	}
	version, err := c.required("data_version")
	if err != nil {
		return nil, err
	}
	o, err := findRule(st, strconv.FormatInt(id, 10))
	if err != nil {
		return nil, err
	}
	if err := c.free(o.Ref, pending); err != nil {
		return nil, err
	}
	if kind == "delete" {
		return c.removeRule(o, version)
	}
	c.noteLeftOut(o.Rule())
	return c.modifyRule(st, o, version)
}

// noteLeftOut notes that a body leaves columns out that the rule has, which Balrog would empty.
func (c *call) noteLeftOut(r *aus.Rule) {
	for _, column := range textColumns {
		if _, ok := c.body[column.name]; !ok && *column.field(r) != nil {
			c.note("27")
		}
	}
	for name, has := range map[string]bool{"priority": r.Priority != nil, "backgroundRate": r.BackgroundRate != nil, "jaws": r.JAWS != nil, "mig64": r.Mig64 != nil} {
		if _, ok := c.body[name]; !ok && has {
			c.note("27")
		}
	}
}

// postScheduledOne changes a scheduled change.
func (c *call) postScheduledOne() (any, error) {
	d, err := c.scheduled()
	if err != nil {
		return nil, err
	}
	version, err := c.required("sc_data_version")
	if err != nil {
		return nil, err
	}
	if d.State == book.DraftPublished {
		return nil, unknownError("Scheduled change already completed. Cannot update now.")
	}
	when, err := c.when()
	if err != nil {
		return nil, err
	}
	d, err = c.opts.Core.Schedule(c.ctx, func(st *state.State, _ []book.Draft) (book.Draft, error) {
		d, err := c.scheduled()
		if err != nil {
			return d, err
		}
		if version != d.Version {
			return d, outdated(c.Method)
		}
		if !when.IsZero() {
			d.Scheduled = when
		}
		op, err := c.changeScheduled(st, &d)
		if err != nil {
			return d, err
		}
		own := slices.DeleteFunc(d.SignOffs, func(s book.SignOff) bool { return s.Name != c.caller.Name })
		d.Operations = []state.Operation{op}
		if len(own) == 0 {
			own = c.autoSignOff(st, d.Operations)
		}
		d.SignOffs = own
		d.Change.Revise(d.Version+1, c.opts.Core.Now(), c.caller.Name, d.Scheduled, op.Body)
		return d, nil
	})
	if err != nil {
		return nil, err
	}
	return map[string]any{"new_data_version": d.Version, "signoffs": signers(&d)}, nil
}

// changeScheduled is the operation of a scheduled change with the columns of a body.
func (c *call) changeScheduled(st *state.State, d *book.Draft) (state.Operation, error) {
	op := d.Operations[0]
	o, err := c.after(op)
	if err != nil {
		return op, err
	}
	before, err := c.object(d)
	if err != nil {
		return op, err
	}
	switch {
	case d.Change.Table == tableReleases:
		return op, problemOf(http.StatusForbidden, "Forbidden", "Releases are not written by version 1 of the API here: use /v2/releases with \"when\"", nil)
	case o == nil || d.Change.Table != tableRules:
		return op, c.mayObject(before, o, d.Change.Type)
	}
	r := *o.Rule()
	if before == nil {
		r.ID = 0
	}
	products := []*string{r.Product}
	if err := fill(c.body, &r); err != nil {
		return op, err
	}
	action, words := "modify", "modify"
	if before == nil {
		action, words = "create", "create new"
	} else {
		products = append(products, before.Rule().Product)
	}
	if err := c.mayRule(action, words, append(products, r.Product)...); err != nil {
		return op, err
	}
	_, mapping := c.body["mapping"]
	if err := checkRule(st, &r, mapping); err != nil {
		return op, err
	}
	op.Body, err = json.Marshal(r)
	return op, err
}

// mayObject is an error unless the caller may do with an object what a scheduled change does.
func (c *call) mayObject(before, after *state.Object, kind string) error {
	permission := map[state.Kind]string{state.Rule: "rule", state.Release: "release", state.Pin: "pinnable_release", state.Shutoff: "emergency_shutoff"}
	action := map[string]string{"insert": "create", "update": "modify", "delete": "delete"}[kind]
	for _, o := range []*state.Object{before, after} {
		if o == nil {
			continue
		}
		product := ""
		if p := o.Products(); len(p) > 0 {
			product = p[0]
		}
		if !c.caller.may(permission[o.Kind], action, product) {
			return denied("%s is not allowed to %s %s for product %s", c.caller.Name, action, o.Kind, product)
		}
	}
	return nil
}

func (c *call) deleteScheduled() (any, error) {
	version, err := c.queryVersion()
	if err != nil {
		return nil, err
	}
	d, err := c.scheduled()
	if err != nil {
		return nil, err
	}
	if d.State == book.DraftPublished {
		return nil, unknownError("Scheduled change already completed. Cannot delete now.")
	}
	before, err := c.object(&d)
	if err != nil {
		return nil, err
	}
	after, err := c.after(d.Operations[0])
	if err != nil {
		return nil, err
	}
	if err := c.mayObject(before, after, d.Change.Type); err != nil {
		return nil, err
	}
	if version != d.Version {
		return nil, outdated(c.Method)
	}
	return map[string]any{}, c.opts.Book.Withdraw(c.ctx, d.ID)
}

func (c *call) postSignOff() (any, error) {
	d, err := c.scheduled()
	if err != nil {
		return nil, err
	}
	return map[string]any{}, c.signOff(&d)
}

// signOff signs a draft as the role of the body.
func (c *call) signOff(d *book.Draft) error {
	role, err := c.text("role")
	if err != nil {
		return err
	}
	switch {
	case c.caller.System:
		return denied("System account cannot signoff")
	case !slices.Contains(c.caller.Roles, role):
		return denied("%s cannot signoff with role '%s'", c.caller.Name, role)
	case d.State == book.DraftPublished:
		return unknownError("Scheduled change already completed. Cannot signoff now.")
	}
	for _, s := range d.SignOffs {
		if s.Name == c.caller.Name && s.Role != role {
			return denied("Cannot signoff with a second role")
		}
	}
	return c.opts.Core.SignOff(c.ctx, d.ID, d.Hash, c.caller.Name, role)
}

func (c *call) deleteSignOff() (any, error) {
	d, err := c.scheduled()
	if err != nil {
		return nil, err
	}
	return map[string]any{}, c.revoke(&d)
}

// revoke takes the sign-off back of the caller, or of whom the address names, if they share the role.
func (c *call) revoke(d *book.Draft) error {
	name := c.URL.Query().Get("username")
	if name == "" {
		name = c.caller.Name
	}
	i := slices.IndexFunc(d.SignOffs, func(s book.SignOff) bool { return s.Name == name })
	if i < 0 {
		c.note("500")
		return problemOf(http.StatusNotFound, "Not Found", "There is no sign-off of "+name, nil)
	}
	if name != c.caller.Name && !slices.Contains(c.caller.Roles, d.SignOffs[i].Role) {
		return denied("Cannot revoke a signoff made by someone in a group you do not belong to")
	}
	return c.opts.Book.RevokeSignOff(c.ctx, d.ID, d.Hash, name)
}

func (c *call) postEnact() (any, error) {
	d, err := c.scheduled()
	if err != nil {
		c.note("500")
		return nil, err
	}
	return map[string]any{}, c.enact(&d)
}

// enact publishes a scheduled change.
func (c *call) enact(d *book.Draft) error {
	before, err := c.object(d)
	if err != nil {
		return err
	}
	after, err := c.after(d.Operations[0])
	if err != nil {
		return err
	}
	for _, o := range []*state.Object{before, after} {
		if o == nil {
			continue
		}
		product := ""
		if p := o.Products(); len(p) > 0 {
			product = p[0]
		}
		if !c.caller.may("scheduled_change", "enact", product) {
			return denied("('%%s is not allowed to enact scheduled changes', %s)", repr(c.caller.Name))
		}
	}
	if d.State == book.DraftPublished {
		return unknownError("Scheduled change already completed. Cannot enact now.")
	}
	required := c.requiredFor(c.opts.Core.State(), d.Operations)
	for _, s := range d.SignOffs {
		required[s.Role]--
	}
	for _, role := range slices.Sorted(maps.Keys(required)) {
		if required[role] > 0 {
			return signOffRequired("Not enough signoffs for role '" + role + "'")
		}
	}
	_, err = c.opts.Core.PublishDraft(c.ctx, d.ID, c.caller.Name)
	var missing *state.SignOffError
	if errors.As(err, &missing) {
		return signOffRequired(fmt.Sprintf("Not enough signoffs: %v", missing))
	}
	return err
}
