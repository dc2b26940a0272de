package verify

import (
	"bufio"
	"encoding/json"
	"io"
)

// WriteErrorSummary writes the report as the error summary that Treeherder reads: lines of JSON, one for each group of
// tests, for each test that failed and for the results of the groups.
func (r *Report) WriteErrorSummary(w io.Writer) error {
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	line := 0
	put := func(v any) error {
		line++
		return enc.Encode(v)
	}
	groups := map[string]string{}
	var order []string
	for i := range r.Tests {
		t := &r.Tests[i]
		name := t.Release + " " + t.Platform
		if _, ok := groups[name]; !ok {
			order = append(order, name)
			groups[name] = "OK"
		}
		if t.Result.bad() {
			groups[name] = "ERROR"
		}
	}
	if err := put(struct {
		Action string              `json:"action"`
		Line   int                 `json:"line"`
		Groups map[string][]string `json:"groups"`
	}{"test_groups", line, map[string][]string{"update-verify": orEmpty(order)}}); err != nil {
		return err
	}
	for i := range r.Tests {
		t := &r.Tests[i]
		if !t.Result.bad() {
			continue
		}
		status := "FAIL"
		switch t.Result {
		case Error:
			status = "ERROR"
		case Interrupted:
			status = "TIMEOUT"
		case NotRun:
			status = "NOTRUN"
		}
		code := Unknown
		if len(t.Reasons) > 0 {
			code = t.Reasons[0].Code
		}
		if err := put(struct {
			Action    string   `json:"action"`
			Line      int      `json:"line"`
			Test      string   `json:"test"`
			Subtest   *string  `json:"subtest"`
			Group     string   `json:"group"`
			Status    string   `json:"status"`
			Expected  string   `json:"expected"`
			Message   string   `json:"message"`
			Stack     *string  `json:"stack"`
			Modifiers string   `json:"modifiers"`
			Known     []string `json:"known_intermittent"`
		}{
			"test_result", line, t.Release + "/" + t.BuildID + "/" + t.Platform + "/" + t.Locale + "/" + t.PatchType, nil, t.Release + " " + t.Platform,
			status, "PASS", string(code) + ": " + t.message(), nil, "",
			[]string{},
		}); err != nil {
			return err
		}
	}
	for _, name := range order {
		if err := put(struct {
			Action   string `json:"action"`
			Line     int    `json:"line"`
			Group    string `json:"group"`
			Status   string `json:"status"`
			Duration int    `json:"duration"`
		}{"group_result", line, name, groups[name], 0}); err != nil {
			return err
		}
	}
	return out.Flush()
}

// WriteErrorLines writes the failures as lines that Treeherder finds in a log: one a test up to fifty, then one a group.
func (r *Report) WriteErrorLines(w io.Writer) error {
	const most = 50
	out := bufio.NewWriter(w)
	n := 0
	for i := range r.Tests {
		if r.Tests[i].Result.bad() {
			n++
		}
	}
	if n <= most {
		for i := range r.Tests {
			if t := &r.Tests[i]; t.Result.bad() {
				put(out, "TEST-UNEXPECTED-FAIL | %s | %s\n", t.Identity, t.message())
			}
		}
		return out.Flush()
	}
	for i := range r.Groups {
		if g := &r.Groups[i]; g.Result.bad() {
			put(out, "TEST-UNEXPECTED-FAIL | %s | %s: %s\n", printable(g.Members), printable(g.Title), count(g.Tests, "test"))
		}
	}
	return out.Flush()
}
