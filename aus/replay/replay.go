// Package replay asks an update server's rules what a recorded client asked, and compares the answers.
//
// A document holds rules, releases, pins, shutoffs and an allow list, the queries of clients and the answers that a
// server gave to them:
//
//	[{"title": "…", "rules": [{"product": "Firefox", "mapping": "Firefox-91.0"}], "releases": {"Firefox-91.0": {…}},
//	  "allowlist": {"dl.example": ["Firefox"]},
//	  "queries": ["/update/3/…/update.xml", {"path": "…", "ua": "…", "dice": 60, "method": "HEAD", "headers": ["Allow"]}],
//	  "answers": [{"status": 200, "content_type": "text/xml; charset=utf-8", "body": "…", "rule_id": "1"}, …]}]
//
// Missing columns of a rule are NULL, but priority and backgroundRate are 100, update_type minor, data_version 1 and rule_id
// the place in the list. A document of one blob with a verdict, {"title", "blob", "product", "allowlist", "answer":
// {"valid": true}}, is compared with what package aus says of the blob.
package replay

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/senbonzakura/senbonzakura/aus"
)

// ErrDocument says that a file is no list of documents.
var ErrDocument = errors.New("replay: invalid document")

// maxFile is how large a file of documents may be, in bytes.
const maxFile = 256 << 20

// Base is the scheme and host that recorded servers answered under.
const Base = "http://aus.example"

// Document is one state of a server with what was asked of it, or one blob with a verdict.
type Document struct {
	Title   string     // for people
	Config  aus.Config // what the server had
	Queries []Query    // what it was asked
	Answers []Answer   // what it answered, one for each query

	// Blob is there in documents with a verdict, which have no queries.
	Blob    json.RawMessage
	Product string  // that the blob was to be saved for
	Verdict Verdict // what the server said of the blob
}

// Query is one recorded request.
type Query struct {
	Path      string   // with the query behind "?"
	UserAgent string   // header User-Agent
	Dice      int      // what every roll of this request shows
	Method    string   // default GET
	Headers   []string // headers that were recorded
}

// UnmarshalJSON reads a path, or an object.
func (q *Query) UnmarshalJSON(data []byte) error {
	if err := json.Unmarshal(data, &q.Path); err == nil {
		return nil
	}
	var o struct {
		Path    string   `json:"path"`
		UA      string   `json:"ua"`
		Dice    int      `json:"dice"`
		Method  string   `json:"method"`
		Headers []string `json:"headers"`
	}
	if err := json.Unmarshal(data, &o); err != nil {
		return err
	}
	*q = Query{o.Path, o.UA, o.Dice, o.Method, o.Headers}
	return nil
}

// Answer is one recorded answer.
type Answer struct {
	Status          int                `json:"status"`            // of HTTP
	ContentType     string             `json:"content_type"`      // header Content-Type
	Body            string             `json:"body"`              // as text
	RuleID          *string            `json:"rule_id"`           // header Rule-ID; nil is none
	RuleDataVersion *string            `json:"rule_data_version"` // header Rule-Data-Version; nil is none
	Location        *string            `json:"location"`          // of a redirect; nil is none
	Headers         map[string]*string `json:"headers"`           // those that the query names; nil is one that was not there
	Error           string             `json:"error"`             // of status 500: the exception
	Detail          string             `json:"detail"`            // and its text
	Unstable        bool               `json:"unstable"`          // the server answers now this, now that
}

// Verdict is what a server said when a blob was saved.
type Verdict struct {
	Valid     bool            `json:"valid"`     // the blob was taken
	Message   string          `json:"message"`   // why not
	Exception string          `json:"exception"` // name of the exception, where there was one
	Errors    json.RawMessage `json:"errors"`    // a list of texts, or a text
}

type rawDocument struct {
	Title    string                     `json:"title"`
	Rules    []json.RawMessage          `json:"rules"`
	Releases map[string]json.RawMessage `json:"releases"`
	Products map[string]string          `json:"products"`
	Pins     []aus.Pin                  `json:"pins"`
	Shutoffs []aus.Shutoff              `json:"shutoffs"`
	Allow    aus.AllowList              `json:"allowlist"`
	Special  []string                   `json:"special_force_hosts"`
	Queries  []Query                    `json:"queries"`
	Answers  []Answer                   `json:"answers"`
	Blob     json.RawMessage            `json:"blob"`
	Product  string                     `json:"product"`
	Answer   Verdict                    `json:"answer"`
}

// Read reads a file of documents. Documents of other kinds than those that the package describes are left out; skipped says how many.
func Read(r io.Reader) (documents []Document, skipped int, err error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, 0, err
	}
	if len(data) > maxFile {
		return nil, 0, fmt.Errorf("%w: larger than %d bytes", ErrDocument, maxFile)
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	for _, one := range raw {
		var kind struct{ Queries, Blob json.RawMessage }
		var d rawDocument
		if err := json.Unmarshal(one, &kind); err != nil {
			return nil, 0, fmt.Errorf("%w: %w", ErrDocument, err)
		}
		if kind.Blob == nil && kind.Queries == nil {
			skipped++
			continue
		}
		if err := json.Unmarshal(one, &d); err != nil {
			return nil, 0, fmt.Errorf("%w: %w", ErrDocument, err)
		}
		document, err := d.document()
		if err != nil {
			return nil, 0, fmt.Errorf("%w: %q: %w", ErrDocument, d.Title, err)
		}
		documents = append(documents, document)
	}
	return documents, skipped, nil
}

func (d *rawDocument) document() (Document, error) {
	document := Document{
		Title: d.Title, Queries: d.Queries, Answers: d.Answers, Blob: d.Blob, Product: d.Product, Verdict: d.Answer,
		Config: aus.Config{Pins: d.Pins, Shutoffs: d.Shutoffs, AllowList: d.Allow, SpecialForceHosts: d.Special},
	}
	if len(d.Queries) != len(d.Answers) {
		return Document{}, fmt.Errorf("%d queries, %d answers", len(d.Queries), len(d.Answers))
	}
	for i, raw := range d.Rules {
		hundred, minor := int64(100), "minor"
		rate := hundred
		rule := aus.Rule{ID: int64(i + 1), Priority: &hundred, BackgroundRate: &rate, UpdateType: &minor, DataVersion: 1}
		if err := json.Unmarshal(raw, &rule); err != nil {
			return Document{}, err
		}
		document.Config.Rules = append(document.Config.Rules, rule)
	}
	for i := range document.Config.Pins {
		document.Config.Pins[i].DataVersion = max(1, document.Config.Pins[i].DataVersion)
	}
	for i := range document.Config.Shutoffs {
		document.Config.Shutoffs[i].DataVersion = max(1, document.Config.Shutoffs[i].DataVersion)
	}
	names := make([]string, 0, len(d.Releases))
	for name := range d.Releases {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		product, ok := d.Products[name]
		if !ok {
			product = "Firefox"
		}
		release, err := aus.NewRelease(name, product, d.Releases[name], nil)
		if err != nil {
			return Document{}, err
		}
		document.Config.Releases = append(document.Config.Releases, release)
	}
	return document, nil
}

// Result is what one query's answer was compared to.
type Result struct {
	Query    Query        // what was asked
	Recorded Answer       // what the server answered then
	Got      aus.Response // what is answered here
	// Differences says in what the answers differ; there are none in answers that the recording server itself gives now this
	// way, now that.
	Differences []string
	// Allowed says why a difference is no fault: "" where it is one.
	Allowed string
}

// Judge validates a document's blob and compares what comes out with the recorded verdict: whether it is valid, and in a strict
// run also which step refused it. Any other run may refuse a blob for its hashes, and judges conflicts in updateLine by itself;
// allowed says where that is the difference.
func (d *Document) Judge(strict bool) (difference, allowed string) {
	err := aus.Validate(d.Blob, aus.ValidateOptions{Product: d.Product, AllowList: d.Config.AllowList, Strict: strict})
	var invalid *aus.ValidationError
	if err != nil && !errors.As(err, &invalid) {
		return err.Error(), ""
	}
	var check, want aus.Check
	if invalid != nil {
		check = invalid.Check
	}
	if !d.Verdict.Valid {
		want = d.Verdict.check()
	}
	switch {
	case check == want:
		return "", ""
	case invalid == nil:
		difference = fmt.Sprintf("it is valid, want it refused for its %s: %s", want, d.Verdict.Message)
	case d.Verdict.Valid:
		difference = fmt.Sprintf("it is refused, want it valid: %v", invalid)
	default:
		difference = fmt.Sprintf("it is refused for its %s, want %s: %s", check, want, d.Verdict.Message)
	}
	if !strict {
		switch {
		case check == aus.CheckHashes:
			allowed = "length of hashes"
		case want == aus.CheckConflict || check == aus.CheckConflict:
			allowed = aus.QuirkConflicts.String()
		}
	}
	return difference, allowed
}

// check is the step that a recorded refusal comes from, by its message.
func (v *Verdict) check() aus.Check {
	switch {
	case v.Message == "'for'" || v.Message == "Invalid Blob" || strings.HasPrefix(v.Message, "Invalid blob!"):
		return aus.CheckSchema
	case strings.Contains(v.Message, "forbidden domain"):
		return aus.CheckDomains
	case strings.Contains(v.Message, "hashValue length") || v.Message == "'md5'":
		return aus.CheckHashes
	}
	return aus.CheckConflict
}

// Run asks every query of a document, and compares the answers. A strict run imitates Balrog: answers that are a 500
// there must be one here; all others must be equal. Any other run may differ where the answer names a quirk of Balrog's, and
// must never answer 500.
func (d *Document) Run(strict bool) []Result {
	snapshot, _ := aus.Compile(d.Config)
	results := make([]Result, 0, len(d.Queries))
	for i, q := range d.Queries {
		results = append(results, run(snapshot, q, d.Answers[i], strict))
	}
	return results
}

func run(snapshot *aus.Snapshot, q Query, want Answer, strict bool) Result {
	method := q.Method
	if method == "" {
		method = http.MethodGet
	}
	request := aus.Request{Method: method, URL: q.Path, Base: Base, Header: http.Header{"User-Agent": {q.UserAgent}}}
	env := aus.Env{Dice: func() int { return q.Dice }}
	r := Result{Query: q, Recorded: want}
	if strict {
		r.Got = snapshot.Strict().Respond(request, env)
	} else {
		r.Got = snapshot.Respond(request, env)
	}
	switch {
	case !strict && r.Got.Status >= 500:
		r.Differences = []string{fmt.Sprintf("status %d, which must never be", r.Got.Status)}
		return r
	case want.Unstable:
		return r
	}
	r.compare()
	if len(r.Differences) > 0 && !strict && r.Got.Quirks != 0 {
		r.Allowed = r.Got.Quirks.String()
	}
	return r
}

// byType are the paths whose bodies are a matter of the server, so that only status and type are compared.
var byType = []string{"/__version__", "/__heartbeat__", "/robots.txt", "/contribute.json"}

func (r *Result) compare() {
	want, got := &r.Recorded, &r.Got
	if got.Status != want.Status {
		r.Differences = append(r.Differences, fmt.Sprintf("status %d, want %d", got.Status, want.Status))
	}
	if t := got.Header.Get("Content-Type"); t != want.ContentType {
		r.Differences = append(r.Differences, fmt.Sprintf("type %q, want %q", t, want.ContentType))
	}
	path, _, _ := strings.Cut(r.Query.Path, "?")
	loose := slices.Contains(byType, path) || strings.Contains(want.Body, "Failed validating")
	if body := string(got.Body); body != want.Body && !loose {
		r.Differences = append(r.Differences, fmt.Sprintf("body %q, want %q", body, want.Body))
	}
	header := func(name string, want *string) {
		values := got.Header.Values(name)
		switch {
		case want == nil && len(values) > 0:
			r.Differences = append(r.Differences, fmt.Sprintf("%s %q, want none", name, values[0]))
		case want != nil && len(values) == 0:
			r.Differences = append(r.Differences, fmt.Sprintf("no %s, want %q", name, *want))
		case want != nil && name == "Allow":
			if !sameSet(values[0], *want) {
				r.Differences = append(r.Differences, fmt.Sprintf("%s %q, want %q", name, values[0], *want))
			}
		case want != nil && values[0] != *want:
			r.Differences = append(r.Differences, fmt.Sprintf("%s %q, want %q", name, values[0], *want))
		}
	}
	header("Rule-Id", want.RuleID)
	header("Rule-Data-Version", want.RuleDataVersion)
	header("Location", want.Location)
	names := make([]string, 0, len(want.Headers))
	for name := range want.Headers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if name == "Content-Length" && loose {
			continue
		}
		header(name, want.Headers[name])
	}
}

// sameSet compares lists with commas between.
func sameSet(a, b string) bool {
	split := func(s string) []string {
		list := strings.Split(strings.ReplaceAll(s, " ", ""), ",")
		slices.Sort(list)
		return list
	}
	return slices.Equal(split(a), split(b))
}

// String says what was asked and in what the answers differ, in one line each.
func (r *Result) String() string {
	var b strings.Builder
	if r.Query.Method != "" {
		b.WriteString(r.Query.Method + " ")
	}
	b.WriteString(r.Query.Path)
	if r.Query.Dice != 0 {
		b.WriteString(" (dice " + strconv.Itoa(r.Query.Dice) + ")")
	}
	for _, d := range r.Differences {
		b.WriteString("\n    " + d)
	}
	if r.Got.Answer != nil && r.Got.Answer.Fault != "" {
		b.WriteString("\n    fault: " + r.Got.Answer.Fault)
	}
	if r.Recorded.Error != "" {
		b.WriteString("\n    recorded: " + r.Recorded.Error + ": " + r.Recorded.Detail)
	}
	return b.String()
}
