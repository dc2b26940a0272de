package balrogapi

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
)

// textColumn is a column of a rule that holds a text, with the most characters that Balrog's table takes.
type textColumn struct {
	name   string
	most   int
	field  func(*aus.Rule) **string
	blanks bool // blanks count for nothing anywhere in it
}

var textColumns = []textColumn{
	{"alias", 50, func(r *aus.Rule) **string { return &r.Alias }, false},
	{"mapping", 100, func(r *aus.Rule) **string { return &r.Mapping }, false},
	{"fallbackMapping", 100, func(r *aus.Rule) **string { return &r.FallbackMapping }, false},
	{"update_type", 15, func(r *aus.Rule) **string { return &r.UpdateType }, false},
	{"product", 15, func(r *aus.Rule) **string { return &r.Product }, false},
	{"version", 75, func(r *aus.Rule) **string { return &r.Version }, false},
	{"channel", 75, func(r *aus.Rule) **string { return &r.Channel }, false},
	{"buildTarget", 75, func(r *aus.Rule) **string { return &r.BuildTarget }, false},
	{"buildID", 20, func(r *aus.Rule) **string { return &r.BuildID }, false},
	{"locale", 200, func(r *aus.Rule) **string { return &r.Locale }, true},
	{"osVersion", 1000, func(r *aus.Rule) **string { return &r.OSVersion }, false},
	{"memory", 100, func(r *aus.Rule) **string { return &r.Memory }, false},
	{"instructionSet", 1000, func(r *aus.Rule) **string { return &r.InstructionSet }, false},
	{"distribution", 2000, func(r *aus.Rule) **string { return &r.Distribution }, true},
	{"distVersion", 100, func(r *aus.Rule) **string { return &r.DistVersion }, false},
	{"headerArchitecture", 10, func(r *aus.Rule) **string { return &r.HeaderArchitecture }, false},
	{"comment", 500, func(r *aus.Rule) **string { return &r.Comment }, false},
}

var (
	aliasPattern = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9-]*$`)
	// Versions that Balrog does not know, but the toolkit orders: "90.0b3", "<=128.5.0esr".
	otherVersion   = regexp.MustCompile(`^(>=|<=|>|<)?[0-9][0-9A-Za-z.+-]*$`)
	buildIDPattern = regexp.MustCompile(`^(>=|<=|>|<)?[0-9]+$`)
)

// fill puts the columns of a body into a rule.
func fill(body map[string]any, r *aus.Rule) error {
	for _, c := range textColumns {
		v, ok := body[c.name]
		if !ok {
			continue
		}
		bad := func(format string, args ...any) error {
			return badRequest(c.name + ": " + fmt.Sprintf(format, args...))
		}
		if v == nil && c.name != "update_type" {
			*c.field(r) = nil
			continue
		}
		s, ok := v.(string)
		switch {
		case !ok && c.name == "update_type":
			return bad("%s is not of type 'string'", repr(v))
		case !ok:
			return bad("%s is not of type 'string', 'null'", repr(v))
		case utf8.RuneCountInString(s) > c.most:
			return bad("%s is too long", repr(v))
		case strings.IndexFunc(s, func(r rune) bool { return r > 127 }) >= 0:
			return badRequest("value must be ascii " + c.name + ": " + repr(v) + " is not a 'ascii'")
		case strings.IndexFunc(s, func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 127 }) >= 0:
			return bad("%s has control characters", repr(v))
		}
		s = strings.TrimSpace(s)
		if c.blanks {
			s = strings.Join(strings.Fields(s), "")
		}
		if s == "" && c.name != "update_type" {
			*c.field(r) = nil
			continue
		}
		switch c.name {
		case "update_type":
			if s != "minor" && s != "major" {
				return bad("%s is not one of ['major', 'minor']", repr(v))
			}
		case "alias":
			if !aliasPattern.MatchString(s) {
				return bad("%s does not match '(^[a-zA-Z][a-zA-Z0-9-]*$|^$)'", repr(v))
			}
		case "version":
			if err := checkVersion(s); err != nil {
				return err
			}
		case "buildID":
			if !buildIDPattern.MatchString(s) {
				return badRequest("Invalid input for buildID: must be an integer. buildID: " + repr(v) + " is not a 'buildID'")
			}
		}
		*c.field(r) = &s
	}
	for _, c := range []struct {
		name string
		most int64
		to   **int64
	}{{"priority", -1, &r.Priority}, {"backgroundRate", 100, &r.BackgroundRate}} {
		v, ok := body[c.name]
		if !ok {
			continue
		}
		if v == nil {
			*c.to = nil
			continue
		}
		n, ok := whole(v)
		is := c.name + ": " + repr(v) + " is not a '" + c.name + "'"
		switch {
		case !ok:
			return badRequest("Invalid input for " + c.name + ". Not an integer. " + is)
		case n < 0:
			return badRequest(c.name + " field value should be an integer >= 0 " + is)
		case c.most >= 0 && n > c.most:
			return badRequest(fmt.Sprintf("%s field value should be an integer <= %d %s", c.name, c.most, is))
		case n > 1<<31-1:
			return badRequest(fmt.Sprintf("%s field value should be an integer <= %d %s", c.name, 1<<31-1, is))
		}
		*c.to = &n
	}
	for _, c := range []struct {
		name string
		to   **bool
	}{{"jaws", &r.JAWS}, {"mig64", &r.Mig64}} {
		v, ok := body[c.name]
		if !ok {
			continue
		}
		switch v := v.(type) {
		case nil:
			*c.to = nil
		case bool:
			*c.to = &v
		default:
			return badRequest(c.name + ": " + repr(v) + " is not of type 'boolean', 'null'")
		}
	}
	return nil
}

func checkVersion(s string) error {
	if aus.ValidVersions(s) {
		return nil
	}
	is := ". version: " + repr(s) + " is not a 'version'"
	if !strings.Contains(s, ",") {
		if otherVersion.MatchString(s) {
			return nil
		}
		return badRequest("Invalid input for " + s + " . No Operator or Match found" + is)
	}
	for field := range strings.SplitSeq(s, ",") {
		if strings.ContainsAny(field, "<>=") {
			return badRequest("Invalid input for " + s + " .Relational Operators are not allowed when providing a list of versions" + is)
		}
		if !aus.ValidVersions(field) && !otherVersion.MatchString(field) {
			return badRequest("Invalid input for " + s + " . No Operator or Match found" + is)
		}
	}
	return nil
}

// insertable looks whether a body has what a new rule needs.
func insertable(body map[string]any) error {
	for _, key := range []string{"update_type", "backgroundRate", "priority"} {
		if _, ok := body[key]; !ok {
			return badRequest("'" + key + "' is a required property")
		}
	}
	return nil
}

// checkRule looks at what a rule says of other objects. mapping says whether its mapping is among what is changed.
func checkRule(st *state.State, r *aus.Rule, mapping bool) error {
	if mapping && r.Mapping == nil {
		return badRequest("mapping value cannot be set to null/empty")
	}
	for _, m := range []struct {
		name string
		to   *string
	}{{"mapping", r.Mapping}, {"fallbackMapping", r.FallbackMapping}} {
		if m.to != nil && st.Get(state.Ref{Kind: state.Release, Key: *m.to}) == nil {
			return badRequest("Invalid " + m.name + " value. No release name found in DB")
		}
	}
	if r.Alias == nil {
		return nil
	}
	for _, o := range st.List(state.Rule) {
		if other := o.Rule(); other.ID != r.ID && other.Alias != nil && *other.Alias == *r.Alias {
			return badRequest("Rule with alias exists.")
		}
	}
	return nil
}

// findRule returns a rule by number or alias.
func findRule(st *state.State, name string) (*state.Object, error) {
	if o := st.Get(state.Ref{Kind: state.Rule, Key: name}); o != nil {
		return o, nil
	}
	for _, o := range st.List(state.Rule) {
		if alias := o.Rule().Alias; alias != nil && *alias == name {
			return o, nil
		}
	}
	return nil, problemOf(http.StatusNotFound, "Not Found", "Requested rule wasn't found", "Requested rule does not exist")
}

// productText is a product for messages.
func productText(p *string) string {
	if p == nil {
		return "None"
	}
	return *p
}

func value(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

// mayRule is an error unless the caller may do something with the rules of some products.
func (c *call) mayRule(action, words string, products ...*string) error {
	for _, p := range products {
		if !c.caller.may("rule", action, value(p)) {
			return denied("%s is not allowed to %s rules for product %s", c.caller.Name, words, productText(p))
		}
	}
	return nil
}

func ruleOperation(before *state.Object, r *aus.Rule) ([]state.Operation, error) {
	op := state.Operation{Ref: state.Ref{Kind: state.Rule, Key: state.NewKey}}
	if before != nil {
		op.Ref, op.Before = before.Ref, before.Hash
	}
	body, err := json.Marshal(r)
	op.Body = body
	return []state.Operation{op}, err
}

func (c *call) postRule() (any, error) {
	if err := insertable(c.body); err != nil {
		return nil, err
	}
	r := aus.Rule{DataVersion: 1}
	if err := fill(c.body, &r); err != nil {
		return nil, err
	}
	if err := c.mayRule("create", "create new", r.Product); err != nil {
		return nil, err
	}
	if _, ok := c.body["rule_id"]; ok {
		return nil, unknownError("Cannot set autoincrement primary key 'rule_id' on insert")
	}
	w, err := c.opts.Core.Write(c.ctx, c.caller.Name, c.comment(), func(st *state.State) ([]state.Operation, error) {
		if err := checkRule(st, &r, true); err != nil {
			return nil, err
		}
		return ruleOperation(nil, &r)
	})
	if err != nil {
		return nil, err
	}
	for _, change := range w.Changes {
		return change.After.Rule().ID, nil
	}
	return nil, state.ErrConflict // a write that changes nothing is none of a new rule
}

// modifyRule makes the operation of what the body says of a rule.
func (c *call) modifyRule(st *state.State, o *state.Object, version int64) ([]state.Operation, error) {
	r := *o.Rule()
	if err := fill(c.body, &r); err != nil {
		return nil, err
	}
	if err := c.mayRule("modify", "modify", o.Rule().Product, r.Product); err != nil {
		return nil, err
	}
	_, mapping := c.body["mapping"]
	if err := checkRule(st, &r, mapping); err != nil {
		return nil, err
	}
	if version != r.DataVersion {
		return nil, outdated(c.Method)
	}
	r.DataVersion++
	return ruleOperation(o, &r)
}

// removeRule makes the operation that removes a rule.
func (c *call) removeRule(o *state.Object, version int64) ([]state.Operation, error) {
	if err := c.mayRule("delete", "delete", o.Rule().Product); err != nil {
		return nil, err
	}
	if version != o.Rule().DataVersion {
		return nil, outdated(c.Method)
	}
	return []state.Operation{{Ref: o.Ref, Before: o.Hash}}, nil
}

func (c *call) putRule() (any, error) {
	version, err := c.required("data_version")
	if err != nil {
		return nil, err
	}
	if err := fill(c.body, &aus.Rule{}); err != nil {
		return nil, err
	}
	w, err := c.opts.Core.Write(c.ctx, c.caller.Name, c.comment(), func(st *state.State) ([]state.Operation, error) {
		o, err := findRule(st, c.PathValue("id"))
		if err != nil {
			return nil, err
		}
		return c.modifyRule(st, o, version)
	})
	if err != nil {
		return nil, err
	}
	return map[string]any{"new_data_version": w.Changes[0].After.Rule().DataVersion}, nil
}

func (c *call) deleteRule() (any, error) {
	version, err := c.queryVersion()
	if err != nil {
		return nil, err
	}
	_, err = c.opts.Core.Write(c.ctx, c.caller.Name, c.comment(), func(st *state.State) ([]state.Operation, error) {
		o, err := findRule(st, c.PathValue("id"))
		if err != nil {
			return nil, err
		}
		return c.removeRule(o, version)
	})
	return nil, err
}

// ruleRow is a rule as Balrog's API writes it, with what a revision has besides.
type ruleRow struct {
	aus.Rule
	ChangeID  int64  `json:"change_id,omitempty"`
	ChangedBy string `json:"changed_by,omitempty"`
	Timestamp int64  `json:"timestamp,omitempty"`
}

func rulesBody(rows []ruleRow) map[string]any {
	order := func(s *string) string { // NULL comes before every text
		if s == nil {
			return ""
		}
		return "\x00" + *s
	}
	priority := func(p *int64) int64 {
		if p == nil {
			return -1
		}
		return *p
	}
	slices.SortStableFunc(rows, func(a, b ruleRow) int {
		return cmp.Or(cmp.Compare(priority(a.Priority), priority(b.Priority)), strings.Compare(order(a.Version), order(b.Version)),
			strings.Compare(order(a.Mapping), order(b.Mapping)), cmp.Compare(a.ID, b.ID))
	})
	return map[string]any{"count": len(rows), "rules": rows}
}

func (c *call) getRules() (any, error) {
	q := c.URL.Query()
	product, byProduct := q.Get("product"), q.Has("product")
	rows := []ruleRow{}
	if q.Has("timestamp") {
		if byProduct {
			return nil, badRequest("Cannot query with a timestamp and a product at the same time")
		}
		ms, err := strconv.ParseInt(q.Get("timestamp"), 10, 64)
		if err != nil {
			return nil, badRequest("Wrong type, expected 'integer' for query parameter 'timestamp'")
		}
		at, err := c.opts.Book.SnapshotAt(c.ctx, time.UnixMilli(ms))
		if err != nil {
			return rulesBody(rows), ignoreNotFound(err)
		}
		revisions, err := c.opts.Book.Revisions(c.ctx, state.Rule, "", at.Seq, maxRevisions)
		if err != nil {
			return nil, err
		}
		if rows, err = c.revisionRows(revisions); err != nil {
			return nil, err
		}
		return rulesBody(rows), nil
	}
	for _, o := range c.opts.Core.State().List(state.Rule) {
		if r := o.Rule(); !byProduct || r.Product != nil && *r.Product == product {
			rows = append(rows, ruleRow{Rule: *r})
		}
	}
	return rulesBody(rows), nil
}

func (c *call) getRule() (any, error) {
	o, err := findRule(c.opts.Core.State(), c.PathValue("id"))
	if err != nil {
		return nil, err
	}
	c.header.Set("X-Data-Version", strconv.FormatInt(o.Rule().DataVersion, 10))
	return o.Rule(), nil
}

// maxRevisions bounds how many revisions are looked at, the newest ones.
const maxRevisions = 20_000

// revisionRows reads the rules of revisions.
func (c *call) revisionRows(revisions []book.Revision) ([]ruleRow, error) {
	rows := []ruleRow{}
	for _, v := range revisions {
		body, err := c.opts.Book.Object(c.ctx, v.Hash)
		if err != nil {
			return nil, err
		}
		row := ruleRow{ChangeID: v.Snapshot.Seq, ChangedBy: v.Snapshot.Author, Timestamp: v.Snapshot.At.UnixMilli()}
		if err := json.Unmarshal(body, &row.Rule); err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func ignoreNotFound(err error) error {
	if errors.Is(err, book.ErrNotFound) {
		return nil
	}
	return err
}

func (c *call) getRuleRevisions() (any, error) {
	o, err := findRule(c.opts.Core.State(), c.PathValue("id"))
	if err != nil {
		return nil, err
	}
	revisions, err := c.opts.Book.Revisions(c.ctx, state.Rule, o.Key, 0, maxRevisions)
	if err != nil {
		return nil, err
	}
	from, to, err := c.paged(len(revisions), 10)
	if err != nil {
		return nil, err
	}
	rows, err := c.revisionRows(revisions[from:to])
	return map[string]any{"count": len(revisions), "rules": rows}, err
}

func (c *call) revertRule() (any, error) {
	id, err := c.required("change_id")
	if err != nil {
		return nil, err
	}
	_, err = c.opts.Core.Write(c.ctx, c.caller.Name, c.comment(), func(st *state.State) ([]state.Operation, error) {
		o, err := findRule(st, c.PathValue("id"))
		if err != nil {
			return nil, err
		}
		revisions, err := c.opts.Book.Revisions(c.ctx, state.Rule, o.Key, id, 1)
		if err != nil {
			return nil, err
		}
		if len(revisions) == 0 || revisions[0].Snapshot.Seq != id {
			return nil, badRequest(fmt.Sprintf("Invalid change_id : %d passed in the request body", id))
		}
		rows, err := c.revisionRows(revisions)
		if err != nil {
			return nil, err
		}
		r := rows[0].Rule
		if err := c.mayRule("modify", "modify", o.Rule().Product, r.Product); err != nil {
			return nil, err
		}
		if err := checkRule(st, &r, false); err != nil {
			return nil, err
		}
		r.DataVersion = o.Rule().DataVersion + 1
		return ruleOperation(o, &r)
	})
	return "Excellent!", err
}

// getRulesHistory answers how rules and their scheduled changes have changed.
func (c *call) getRulesHistory() (any, error) {
	q := c.URL.Query()
	between := map[string]int64{"timestamp_from": 0, "timestamp_to": maxWhen}
	for name := range between {
		if text := q.Get(name); text != "" {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return nil, badRequest("Wrong type, expected 'integer' for query parameter '" + name + "'")
			}
			between[name] = n
		}
	}
	fits := func(ms int64, by string, product, channel *string) bool {
		return ms >= between["timestamp_from"] && ms <= between["timestamp_to"] && (!q.Has("changed_by") || q.Get("changed_by") == by) &&
			(!q.Has("product") || value(product) == q.Get("product")) && (!q.Has("channel") || value(channel) == q.Get("channel"))
	}
	revisions, err := c.opts.Book.Revisions(c.ctx, state.Rule, "", 0, maxRevisions)
	if err != nil {
		return nil, err
	}
	all, err := c.revisionRows(revisions)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(r ruleRow) bool { return !fits(r.Timestamp, r.ChangedBy, r.Product, r.Channel) })
	from, to, err := c.paged(len(all), 10)
	if err != nil {
		return nil, err
	}
	drafts, err := c.opts.Book.ScheduledChanges(c.ctx, true)
	if err != nil {
		return nil, err
	}
	scheduled := []map[string]any{}
	for _, d := range drafts {
		if d.Change.Table != "rules" {
			continue
		}
		rows, err := c.scheduledRevisions(&d)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			text := func(key string) *string {
				s, ok := row[key].(string)
				if !ok {
					return nil
				}
				return &s
			}
			if ms, _ := row["timestamp"].(int64); fits(ms, value(text("changed_by")), text("product"), text("channel")) {
				scheduled = append(scheduled, row)
			}
		}
	}
	slices.SortStableFunc(scheduled, func(a, b map[string]any) int {
		x, _ := a["timestamp"].(int64)
		y, _ := b["timestamp"].(int64)
		return cmp.Compare(y, x)
	})
	begin, end, err := c.paged(len(scheduled), 10)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"Rules":                  map[string]any{"count": len(all), "revisions": all[from:to]},
		"Rules scheduled change": map[string]any{"count": len(scheduled), "revisions": scheduled[begin:end]},
	}, nil
}

// getColumn answers which values a column has.
func (c *call) getRuleColumn() (any, error) {
	name := c.PathValue("column")
	rows := []any{}
	for _, o := range c.opts.Core.State().List(state.Rule) {
		var row map[string]any
		if err := json.Unmarshal(o.Body(), &row); err != nil {
			return nil, err
		}
		rows = append(rows, row[name])
	}
	var template map[string]any
	text, err := json.Marshal(aus.Rule{})
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &template); err != nil {
		return nil, err
	}
	if _, ok := template[name]; !ok {
		return nil, problemOf(http.StatusNotFound, "Not Found", "Rule column was not found", "Requested column does not exist")
	}
	return distinct(name, rows), nil
}

// distinct is the answer to which values a column has.
func distinct(name string, values []any) map[string]any {
	seen := map[string]any{}
	for _, v := range values {
		if v != nil {
			seen[fmt.Sprint(v)] = v
		}
	}
	list := []any{}
	keys := make([]string, 0, len(seen))
	for k := range seen {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		list = append(list, seen[k])
	}
	return map[string]any{"count": len(list), name: list}
}
