package verify

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Schema names the form of the results as JSON lines. Within it fields are only added.
const Schema = "verify-updates/1"

// ErrResults matches every error about the text of results.
var ErrResults = errors.New("bad results")

// header is the first of the lines.
type header struct {
	Schema    string   `json:"schema"`
	Product   string   `json:"product"`
	To        Build    `json:"to"`
	Platforms []string `json:"platforms"`
	Channels  []string `json:"channels"`
	Source    string   `json:"source"`
	Files     []File   `json:"files"`
}

// footer is the last of the lines.
type footer struct {
	Totals   *Totals   `json:"totals"`
	Passed   bool      `json:"passed"`
	Complete bool      `json:"complete"`
	Groups   []Group   `json:"groups"`
	Rules    []RuleUse `json:"rules,omitempty"`
	Notes    []string  `json:"notes"`
}

// WriteJSON writes the report as lines of JSON: the run, every test, the totals with the groups. A file without the
// last line was cut.
func (r *Report) WriteJSON(w io.Writer) error {
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(header{Schema, r.Product, r.To, orEmpty(r.Platforms), orEmpty(r.Channels), r.Source, orEmpty(r.Files)}); err != nil {
		return err
	}
	for i := range r.Tests {
		if err := enc.Encode(&r.Tests[i]); err != nil {
			return err
		}
	}
	totals := r.Totals()
	if err := enc.Encode(footer{&totals, r.Passed(false), r.Complete, orEmpty(r.Groups), r.Rules, orEmpty(r.Notes)}); err != nil {
		return err
	}
	return out.Flush()
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// ReadResults reads what [Report.WriteJSON] wrote. Results without their last line are those of a run that did not
// come to its end: the report is then not complete. Errors match [ErrResults].
func ReadResults(r io.Reader) (*Report, error) {
	const longest, most = 16 << 20, 2_000_000
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 0, 64<<10), longest)
	report := &Report{}
	ended := false
	for line := 1; in.Scan(); line++ {
		text := bytes.TrimSpace(in.Bytes())
		if len(text) == 0 {
			continue
		}
		bad := func(err error) (*Report, error) { return nil, fmt.Errorf("%w: line %d: %w", ErrResults, line, err) }
		switch {
		case line == 1:
			var h header
			if err := json.Unmarshal(text, &h); err != nil {
				return bad(err)
			}
			if h.Schema != Schema {
				return bad(fmt.Errorf("schema %q, want %q", h.Schema, Schema))
			}
			report.Product, report.To, report.Source, report.Files = h.Product, h.To, h.Source, h.Files
		case ended:
			return bad(errors.New("lines behind the totals"))
		case bytes.HasPrefix(text, []byte(`{"totals"`)):
			var f footer
			if err := json.Unmarshal(text, &f); err != nil {
				return bad(err)
			}
			report.Complete, report.Notes, report.Rules = f.Complete, f.Notes, f.Rules
			ended = true
		default:
			var t Test
			if err := json.Unmarshal(text, &t); err != nil {
				return bad(err)
			}
			if !known(t.Result) {
				return bad(fmt.Errorf("result %q", t.Result))
			}
			if len(report.Tests) == most {
				return bad(ErrTooMany)
			}
			report.Tests = append(report.Tests, t)
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrResults, err)
	}
	if report.Source == "" {
		return nil, fmt.Errorf("%w: empty", ErrResults)
	}
	if !ended {
		report.Notes = append(report.Notes, "these results end before their totals: the run did not come to its end")
	}
	report.finish()
	return report, nil
}

func known(r Result) bool {
	for _, result := range results {
		if r == result {
			return true
		}
	}
	return false
}
