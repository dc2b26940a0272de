package verify

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Log is one log to read. Open is called once; what it gives is closed. A log that is packed with gzip is unpacked.
type Log struct {
	Name string // for people: a file's name
	Open func() (io.ReadCloser, error)
}

// ReadOptions say how to read logs. The zero value is good for everything.
type ReadOptions struct {
	MaxTests    int // more tests than that are an error; 0: 2,000,000
	MaxEvidence int // bytes of evidence kept over all tests, beyond which only places are kept; 0: 16 MiB
}

// ErrTooMany says that there are more tests than ReadOptions.MaxTests.
var ErrTooMany = errors.New("too many tests")

// Read reads logs of update verify of all generations, of final verification and of the runner in Rust, in any
// mixture: chunks of one run, several runs in one file, summaries of differences beside them. Memory grows with the
// tests, not with the bytes. What is no such log, or cannot be read, is listed in the report as a file that could not be
// made out, and keeps the report from passing. The error is that of the logs where none of them can be read, of ctx, or
// [ErrTooMany].
func Read(ctx context.Context, logs []Log, opts *ReadOptions) (*Report, error) {
	r := &reader{ctx: ctx, names: map[string]string{}, report: &Report{Source: "log", Complete: true}, maxTests: 2_000_000, evidence: 16 << 20}
	if opts != nil && opts.MaxTests > 0 {
		r.maxTests = opts.MaxTests
	}
	if opts != nil && opts.MaxEvidence > 0 {
		r.evidence = opts.MaxEvidence
	}
	var unread []error
	for _, log := range logs {
		err := r.log(log)
		if failed := (&unreadError{}); errors.As(err, &failed) {
			unread = append(unread, err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", log.Name, err)
		}
	}
	if len(unread) > 0 && len(unread) == len(logs) {
		return nil, errors.Join(unread...)
	}
	r.end()
	return r.report, nil
}

// reader reads logs one behind the other.
type reader struct {
	ctx      context.Context //nolint:containedctx // lives as long as one call of Read
	report   *Report
	names    map[string]string // every string once
	maxTests int
	evidence int
	chunks   map[string]map[int]bool // of how many to which ones there are

	file     string
	line     int
	format   string // of the file
	complete bool   // of the file
	trouble  []string
	words    []string // the CI's own words about the end

	seg   *segment
	block *block
	final *final
	rust  *rust
	diffs []Test // out of summaries of differences

	scanning   bool // behind the tests: everything is repeated
	catching   bool // the plan is printed
	plan       bool // behind its "command: output:"
	planLine   Line // what holds from line to line
	planNumber int
	planBad    bool
	verifying  bool // in the output of verify.sh that chunked-verify.py started
	nChunks    int
	chunk      int
}

// segment is one task: a plan, if there is one, and the tests behind it.
type segment struct {
	plan       []Test
	slots      map[Identity][]int // pair to its tests in the plan, in order
	taken      []bool             // of plan
	results    []Test
	index      map[Identity]int // to results
	seen       map[Identity]int // blocks of a pair
	last       map[Identity]int // pair to the result that came last
	mode       string
	chunked    bool // by chunked-verify.py, which prints when it is done
	failsSaid  int
	scanned    bool
	verdict    string
	line       int    // in which it begins
	told       []bool // of results: the scripts name the test where they say how it ended
	mixed      int    // first line from which on tests may be mixed up; 0: none are
	mixedAt    int    // the line that shows it
	openAtEnd  bool
	pairsBegun map[Identity]bool // pairs whose last test did not end
}

func (r *reader) intern(s string) string {
	if known, ok := r.names[s]; ok {
		return known
	}
	s = strings.Clone(s)
	if len(r.names) < 1<<20 {
		r.names[s] = s
	}
	return s
}

// unreadError is a log of which nothing can be read.
type unreadError struct {
	name string
	err  error
}

func (e *unreadError) Error() string { return e.name + ": " + e.err.Error() }
func (e *unreadError) Unwrap() error { return e.err }

// unread lists a log of which nothing can be read.
func (r *reader) unread(name string, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err // the name is said already
	}
	trouble := clean([]byte("cannot be read: "+err.Error()), maxEvidenceLine)
	r.report.Files = append(r.report.Files, File{Name: name, Format: "unknown", Trouble: trouble})
	r.report.Notes = append(r.report.Notes, name+": "+trouble)
	r.report.Complete = false
	return &unreadError{name, err}
}

// log reads one file.
func (r *reader) log(log Log) (err error) {
	in, err := log.Open()
	if err != nil {
		return r.unread(log.Name, err)
	}
	defer in.Close()
	var content io.Reader
	buffered := bufio.NewReader(in)
	if magic, _ := buffered.Peek(2); len(magic) == 2 && magic[0] == 0x1f && magic[1] == 0x8b {
		unpacked, err := gzip.NewReader(buffered)
		if err != nil {
			return r.unread(log.Name, err)
		}
		content = unpacked
	} else {
		content = buffered
	}
	r.file, r.line, r.format, r.complete, r.trouble, r.words = r.intern(log.Name), 0, "", true, nil, nil
	r.scanning, r.catching, r.verifying, r.nChunks, r.chunk = false, false, false, 0, 0
	lines := newLineReader(content)
	ended := true
	for {
		line, whole, err := lines.next()
		if err != nil {
			break
		}
		r.line++
		ended = whole
		if r.line&0xfff == 0 && r.ctx.Err() != nil {
			return r.ctx.Err()
		}
		if err := r.take(line, whole); err != nil {
			return err
		}
	}
	if err := lines.failed(); err != nil { // what there is counts
		trouble := "cannot be read to its end: " + err.Error()
		if errors.Is(err, io.ErrUnexpectedEOF) {
			trouble = "the packed log is cut"
		}
		r.complete = false
		r.troubled(clean([]byte(trouble), maxEvidenceLine))
	}
	if !ended {
		r.words = append(r.words, "its last line is cut")
	}
	return r.endFile()
}

// troubled notes what is wrong with a file.
func (r *reader) troubled(texts ...string) {
	const most = 20
	for _, text := range texts {
		if len(r.trouble) < most && !slices.Contains(r.trouble, text) {
			r.trouble = append(r.trouble, text)
		}
	}
}

// endFile closes what is open in a file.
func (r *reader) endFile() error {
	err := errors.Join(r.endSegment(true), r.endFinal(), r.endRust())
	if r.format == "" {
		r.format, r.complete = "unknown", false
		r.troubled("no log of update verify")
		r.report.Notes = append(r.report.Notes, r.file+": no log of update verify that is known here; nothing was read from it")
	}
	if !r.complete && len(r.words) > 0 {
		r.troubled(r.words...)
	}
	if !r.complete {
		r.report.Complete = false
	}
	r.report.Files = append(r.report.Files, File{
		Name: r.file, Lines: r.line, Format: r.format, Complete: r.complete, Trouble: strings.Join(r.trouble, "; "),
	})
	return err
}

// take takes in one line. whole says that it has its line feed.
func (r *reader) take(raw []byte, whole bool) error {
	text, by := strip(raw)
	switch by {
	case fromWorker:
		if bytes.Contains(text, []byte("imeout")) || bytes.Contains(text, []byte("kill")) || bytes.Contains(text, []byte("nsuccessful")) {
			if len(r.words) < 5 {
				r.words = append(r.words, clean(text, maxEvidenceLine))
			}
		}
		return nil
	case fromOther:
		return nil
	case fromRust:
		return r.rustLine(text, whole)
	}
	if r.rust != nil && r.rust.in != nil {
		return r.rustLine(text, whole)
	}
	if r.final != nil || len(text) > 30 && text[0] >= 'A' && bytes.Contains(text, []byte(":  Command called: ")) {
		if rest, ok := stripDate(text); ok || r.final == nil {
			return r.finalLine(rest, whole)
		}
		if !r.final.ends(text) {
			return r.finalLine(text, whole)
		}
		if err := r.endFinal(); err != nil {
			return err
		}
	}
	if len(text) == 0 {
		return nil
	}
	switch text[0] {
	case 'c':
		if rest, ok := bytes.CutPrefix(text, []byte("command: ")); ok {
			return r.command(rest, whole)
		}
	case '+':
		if r.block == nil {
			r.trace(text)
		}
	}
	if r.catching {
		r.planText(text, whole)
		return nil
	}
	switch text[0] {
	case 'U':
		switch {
		case bytes.HasPrefix(text, []byte("Using  ")):
			if r.scanning {
				return nil
			}
			return r.using(text[len("Using  "):], whole)
		case bytes.HasPrefix(text, []byte("Using config file ")), bytes.HasPrefix(text, []byte("Using default config file ")):
			if r.verifying && r.seg != nil && r.block == nil {
				return nil
			}
			if err := r.endSegment(false); err != nil {
				return err
			}
			r.begin()
			return nil
		}
	case 'S':
		if bytes.HasPrefix(text, []byte("Scanning log for failures")) {
			r.scanning = true
			if r.seg != nil {
				r.seg.scanned = true
			}
			return r.close(true)
		}
	case 'T':
		if r.scanning && bytes.HasPrefix(text, []byte("This run has ")) && r.seg != nil {
			r.seg.verdict, _, _ = strings.Cut(clean(text, 100), ",")
		}
	case 'A':
		if r.scanning && bytes.HasPrefix(text, []byte("All is well")) && r.seg != nil {
			r.seg.verdict = "All is well"
		}
	case 'F':
		if rest, ok := bytes.CutPrefix(text, []byte("Found diffs for ")); ok && r.block == nil && !r.scanning {
			return r.diffSummary(rest)
		}
	}
	if r.scanning {
		return nil
	}
	if len(r.diffs) > 0 && r.format == formatDiffs && r.block != nil {
		r.block.read(text, r.line)
		return nil
	}
	if rest, ok := failToken(text); ok {
		return r.fail(rest)
	}
	if r.block == nil {
		return nil
	}
	switch {
	case bytes.HasPrefix(text, []byte("WARN: ")):
		return r.warn(text[len("WARN: "):])
	case bytes.HasPrefix(text, []byte("SUCCESS: ")):
		r.success(text[len("SUCCESS: "):])
		return nil
	}
	if r.block.url != "" && bytes.HasPrefix(text, []byte("<update")) && r.report.To.BuildID == "" {
		r.block.answer(text)
	}
	if (r.report.To == Build{}) && bytes.Contains(text, []byte("<update ")) {
		r.report.To = Build{Version: attribute(text, "displayVersion"), BuildID: attribute(text, "buildID")}
		if r.report.To.Version == "" {
			r.report.To.Version = attribute(text, "appVersion")
		}
	}
	r.block.read(text, r.line)
	return nil
}

// failToken finds the scripts' word for a failure: at the front of a line, or, for the newer word, anywhere, as a
// program that died may have left half a line before it.
func failToken(text []byte) ([]byte, bool) {
	if len(text) > 6 && text[0] == 'F' && string(text[:6]) == "FAIL: " {
		return text[6:], true
	}
	const word = "TEST-UNEXPECTED-FAIL:"
	if at := bytes.Index(text, []byte(word)); at >= 0 {
		return bytes.TrimPrefix(text[at+len(word):], []byte(" ")), true
	}
	return nil, false
}

// trace takes in a line of the trace of chunked-verify.sh: the chunk, once for the file.
func (r *reader) trace(text []byte) {
	if v, ok := bytes.CutPrefix(text, []byte("+ chunks=")); ok {
		r.nChunks, _ = strconv.Atoi(clean(v, 10))
	}
	if v, ok := bytes.CutPrefix(text, []byte("+ thisChunk=")); ok {
		r.chunk, _ = strconv.Atoi(clean(v, 10))
	}
}

// command takes in what chunked-verify.py says about the commands that it runs.
func (r *reader) command(text []byte, whole bool) error {
	switch {
	case bytes.HasPrefix(text, []byte("START")):
		r.catching, r.scanning, r.verifying = false, false, false
		return r.close(false)
	case bytes.HasPrefix(text, []byte("cat ")):
		if err := r.endSegment(false); err != nil {
			return err
		}
		r.begin()
		r.seg.chunked = true
		r.catching, r.plan, r.planLine, r.planNumber, r.planBad = true, false, Line{}, 0, false
	case bytes.HasPrefix(text, []byte("bash verify.sh ")):
		if r.seg == nil {
			r.begin()
		}
		r.seg.chunked, r.verifying = true, true
		for _, word := range bytes.Fields(text) {
			if len(word) == 2 && word[0] == '-' {
				r.seg.mode = string(word)
			}
		}
		r.applyMode()
	case bytes.HasPrefix(text, []byte("output:")):
		r.plan = true
	case bytes.HasPrefix(text, []byte("ERROR")):
		if r.block != nil {
			if r.block.ended == "" {
				r.block.ended = "the script's exit code says so"
			}
			return r.close(false)
		}
	case bytes.HasPrefix(text, []byte("END")):
		r.catching = false
		if r.verifying && whole {
			return r.close(true)
		}
	}
	return nil
}

// begin opens a segment.
func (r *reader) begin() {
	if r.format == "" {
		r.format = "update verify"
	}
	r.scanning = false
	r.seg = &segment{
		line:  r.line,
		slots: map[Identity][]int{}, index: map[Identity]int{}, seen: map[Identity]int{}, last: map[Identity]int{}, pairsBegun: map[Identity]bool{},
	}
}

// planText takes in a line of the plan as it is printed.
func (r *reader) planText(text []byte, whole bool) {
	if !r.plan || !whole {
		return
	}
	r.planNumber++
	line, _, ok, err := parseConfigLine(strings.ToValidUTF8(string(text), "\uFFFD"), r.planNumber, &r.planLine)
	if err != nil {
		if !r.planBad {
			r.planBad = true
			r.complete = false
			r.troubled(fmt.Sprintf("line %d: the plan cannot be read: %v", r.line, err))
		}
		return
	}
	if !ok {
		return
	}
	if r.report.To == (Build{}) && (line.ToDisplayVersion != "" || line.ToAppVersion != "" || line.ToBuildID != "") {
		r.report.To = Build{Version: line.ToDisplayVersion, BuildID: line.ToBuildID}
		if r.report.To.Version == "" {
			r.report.To.Version = line.ToAppVersion
		}
	}
	for _, t := range line.Tests() {
		if len(r.report.Tests)+len(r.seg.plan) > r.maxTests {
			return // noticed where tests are added
		}
		t.Identity = r.internAll(t.Identity)
		r.seg.slots[t.pair()] = append(r.seg.slots[t.pair()], len(r.seg.plan))
		r.seg.plan = append(r.seg.plan, t)
	}
	r.seg.taken = append(r.seg.taken, make([]bool, len(r.seg.plan)-len(r.seg.taken))...)
}

func (r *reader) internAll(id Identity) Identity {
	return Identity{
		r.intern(id.Product), r.intern(id.Release), r.intern(id.BuildID), r.intern(id.Platform),
		r.intern(id.Locale), r.intern(id.Channel), r.intern(id.PatchType),
	}
}

// applyMode sets the kinds of tests that the scripts' mode makes.
func (r *reader) applyMode() {
	var kind string
	switch r.seg.mode {
	case "-m":
		kind = KindMARs
	case "-t":
		kind = KindTestOnly
	default:
		return
	}
	for i := range r.seg.plan {
		r.seg.plan[i].Kind = kind
	}
}

// maxWord bounds a part of a test's name, in bytes.
const maxWord = 200

// requestIdentity reads the test's identity off the address of its update request.
func requestIdentity(address string) (Identity, bool) {
	_, path, ok := strings.Cut(address, "/update/")
	if !ok {
		return Identity{}, false
	}
	path, _, _ = strings.Cut(path, "?")
	parts := strings.Split(path, "/")
	if len(parts) < 8 || len(parts[0]) != 1 {
		return Identity{}, false
	}
	for i, part := range parts[:7] {
		if plain, err := url.PathUnescape(part); err == nil {
			parts[i] = plain
		}
		if parts[i] == "" || len(parts[i]) > maxWord {
			return Identity{}, false
		}
	}
	return Identity{Product: parts[1], Release: parts[2], BuildID: parts[3], Platform: parts[4], Locale: parts[5], Channel: parts[6]}, true
}

// using begins a test, or asks again.
func (r *reader) using(rest []byte, whole bool) error {
	address := clean(bytes.TrimSpace(rest), 4096)
	if b := r.block; b != nil && b.url == address && b.empties == b.tries && !b.failLines && b.failed == "" {
		b.tries++
		return nil
	}
	if err := r.close(true); err != nil {
		return err
	}
	id, ok := requestIdentity(address)
	if !ok || !whole {
		return nil // cut in the middle: it says only that the test before has ended
	}
	if r.seg == nil {
		r.begin()
	}
	r.block = &block{id: r.internAll(id), url: address, line: r.line, tries: 1, stage: "asking for update.xml"}
	return nil
}

// close ends the open test. closed says that the log says so.
func (r *reader) close(closed bool) error {
	b := r.block
	if b == nil {
		return nil
	}
	r.block = nil
	if r.format == formatDiffs {
		return r.closeDiff(b)
	}
	if r.seg == nil {
		r.begin()
	}
	seg := r.seg
	pair := b.id.pair()
	t := Test{Identity: b.id, File: r.file, Line: b.line}
	slot := -1
	for _, i := range seg.slots[pair] {
		if seg.taken[i] || b.bracketType != "" && seg.plan[i].PatchType != b.bracketType {
			continue
		}
		slot = i
		break
	}
	switch {
	case slot >= 0:
		seg.taken[slot] = true
		t.PatchType, t.Kind = seg.plan[slot].PatchType, seg.plan[slot].Kind
	default:
		t.PatchType, t.Kind = b.guessType(seg.seen[pair]), b.guessKind(seg.mode)
	}
	seg.seen[pair]++
	if b.bracketType != "" {
		t.PatchType = b.bracketType
	}
	t.PatchType = r.intern(t.PatchType)
	t.Result, t.Reasons = b.outcome(t.Kind, closed)
	switch {
	case closed && t.Result == Error: // where its end is, nothing says
		seg.mix(b.line, r.line)
	case b.twice:
		from := seg.line
		if n := len(seg.results); n > 0 {
			from = seg.results[n-1].Line
		}
		seg.mix(from, r.line)
	}
	if t.Result == Interrupted {
		seg.pairsBegun[pair] = true
	}
	if t.Result != Pass || len(t.Reasons) > 0 {
		t.MAR, t.Request = b.patches[t.PatchType], b.url
		if t.MAR == "" {
			t.MAR = b.marURL
		}
	}
	if closed && b.sizeFail > 0 {
		r.size(seg, &t, PartialLarger, b.sizeFail)
	}
	if closed && b.sizeEq > 0 {
		r.size(seg, &t, PartialEqual, b.sizeEq)
	}
	for i := range t.Reasons {
		r.budget(t.Reasons[i].Evidence)
	}
	if len(r.report.Tests)+len(seg.results) >= r.maxTests {
		return fmt.Errorf("%w: more than %d", ErrTooMany, r.maxTests)
	}
	seg.last[pair] = len(seg.results)
	seg.index[t.Identity] = len(seg.results)
	seg.results = append(seg.results, t)
	seg.told = append(seg.told, b.bracketType != "" && (b.failed != "" || b.warned != ""))
	return nil
}

// mix notes that the lines of several tests may be mixed up from a line on: those that ran side by side print as they come.
func (seg *segment) mix(from, at int) {
	if seg.mixed == 0 || from < seg.mixed {
		seg.mixed = from
	}
	if seg.mixedAt == 0 {
		seg.mixedAt = at
	}
}

// budget takes away the text of evidence when there is too much of it, and says which file it is from.
func (r *reader) budget(e *Evidence) {
	if e == nil {
		return
	}
	e.File = r.file
	size := 0
	for _, line := range e.Text {
		size += len(line) + 32
	}
	if r.evidence -= size; r.evidence < 0 {
		r.evidence, e.Text = 0, nil
	}
}

// size files a finding about the sizes of a pair under its partial.
func (r *reader) size(seg *segment, t *Test, code Code, line int) {
	partial := t
	if t.PatchType != "partial" {
		id := t.Identity
		id.PatchType = "partial"
		i, ok := seg.index[id]
		if !ok {
			return
		}
		partial = &seg.results[i]
	}
	detail := "the partial is as large as the complete"
	result := Warn
	if code == PartialLarger {
		detail, result = "the partial is larger than the complete", Fail
	}
	partial.Reasons = append(partial.Reasons, Reason{Code: code, Detail: detail, Evidence: &Evidence{File: r.file, Line: line, Lines: 1}})
	if partial.Result == Pass || partial.Result == Warn {
		partial.Result = result
	}
}

func (b *block) guessType(before int) string {
	switch {
	case b.updateType == "complete" || b.updateType == "partial":
		return b.updateType
	case b.marType != "":
		return b.marType
	case before > 0:
		return "partial"
	}
	return "complete"
}

func (b *block) guessKind(mode string) string {
	switch {
	case mode == "-m":
		return KindMARs
	case mode == "-t" || b.testing:
		return KindTestOnly
	case b.foundUpdater || b.updaterMissing || b.comparing || b.updateType != "" || b.written != "" || b.installer != "" || b.updaterPackage:
		return KindFull
	}
	return KindQuick
}

// bracket cuts "[RELEASE LOCALE TYPE] " off the front.
func bracket(text string) (release, locale, patchType, rest string, ok bool) {
	if !strings.HasPrefix(text, "[") {
		return "", "", "", text, false
	}
	inside, rest, found := strings.Cut(text[1:], "] ")
	words := strings.Fields(inside)
	if !found || len(words) != 3 {
		return "", "", "", text, false
	}
	return words[0], words[1], words[2], rest, true
}

// decides are the fronts of lines that decide a test.
var decides = []string{"download_mars returned", "download_builds returned", "check_updates returned", "couldn't download updater package", "partial updates are "}

// fail takes in a line that says FAIL.
func (r *reader) fail(rest []byte) error {
	text := clean(rest, 4*maxEvidenceLine)
	release, locale, patchType, said, bracketed := bracket(text)
	b := r.block
	deciding := bracketed
	for _, front := range decides {
		deciding = deciding || strings.HasPrefix(said, front)
	}
	if !deciding {
		if b != nil {
			b.failLine(rest, r.line)
		} else if r.seg != nil {
			r.seg.failsSaid++
		}
		return nil
	}
	if r.seg == nil {
		r.begin()
	}
	sizes := strings.HasPrefix(said, "partial updates are ")
	if b == nil || bracketed && (b.id.Release != release || b.id.Locale != locale) {
		r.stray(Fail, release, locale, patchType, text)
		return nil
	}
	if sizes {
		b.sizeFail = r.line
		return nil
	}
	if bracketed {
		b.bracketType = patchType
	}
	if strings.HasPrefix(said, "couldn't download updater package") {
		b.updaterPackage = true
	}
	b.failed = text
	b.say(rest, r.line)
	return nil
}

// of lists the tests that a bracket can mean, the last one first.
func (seg *segment) of(release, locale, patchType string) []int {
	var list []int
	for i := len(seg.results) - 1; i >= 0; i-- {
		if t := &seg.results[i]; t.Release == release && t.Locale == locale && t.PatchType == patchType {
			list = append(list, i)
		}
	}
	return list
}

// stray files what names another test than the open one: a failure, or a warning. The lines of several tests are mixed up
// here, so what passed by silence from its begin on cannot be believed.
func (r *reader) stray(result Result, release, locale, patchType, text string) {
	seg := r.seg
	if result == Fail {
		seg.failsSaid++
	}
	sizes := strings.Contains(text, "] partial updates are ")
	if sizes {
		patchType = "partial"
	}
	list := seg.of(release, locale, patchType)
	if len(list) == 0 {
		seg.mix(seg.line, r.line)
		return
	}
	seg.mix(seg.results[list[len(list)-1]].Line, r.line)
	reason := Reason{Code: Unknown, Detail: text, Evidence: &Evidence{File: r.file, Line: r.line, Lines: 1, Text: []string{clean([]byte(text), maxEvidenceLine)}}}
	switch {
	case sizes && result == Fail:
		reason.Code = PartialLarger
	case sizes:
		reason.Code = PartialEqual
	}
	if len(list) > 1 { // builds of one version
		result, reason.Code = Error, Unreadable
		reason.Detail = "one of several builds of this version: " + text
	}
	for _, i := range list {
		t := &seg.results[i]
		if t.Result == Fail || t.Result == result {
			continue
		}
		t.Result, t.Reasons = result, append([]Reason{reason}, t.Reasons...)
		seg.told[i] = true
	}
}

// warn takes in a line that says WARN.
func (r *reader) warn(rest []byte) error {
	text := clean(rest, 4*maxEvidenceLine)
	release, locale, patchType, said, bracketed := bracket(text)
	b := r.block
	if bracketed && (b.id.Release != release || b.id.Locale != locale) {
		r.stray(Warn, release, locale, patchType, text)
		return nil
	}
	switch {
	case strings.HasPrefix(said, "partial updates are "):
		b.sizeEq = r.line
	case strings.HasPrefix(said, "check_updates returned warning"):
		if bracketed {
			b.bracketType = patchType
		}
		b.warned = text
		b.say(rest, r.line)
	default:
		b.residual = false
		b.say(rest, r.line)
	}
	return nil
}

// success takes in a line that says SUCCESS, which is no more than that the sizes of a pair were compared. That of another
// pair shows that tests are mixed up.
func (r *reader) success(rest []byte) {
	release, locale, patchType, _, ok := bracket(clean(rest, 4*maxEvidenceLine))
	b := r.block
	if !ok || r.seg == nil || b.id.Release == release && b.id.Locale == locale {
		return
	}
	from := r.seg.line
	if list := r.seg.of(release, locale, patchType); len(list) > 0 {
		from = r.seg.results[list[len(list)-1]].Line
	}
	r.seg.mix(from, r.line)
}

// endSegment files the tests of a task. atEnd says that the file ends here.
func (r *reader) endSegment(atEnd bool) error {
	seg := r.seg
	if seg == nil {
		if r.block != nil {
			return r.close(true)
		}
		return nil
	}
	bare := !seg.chunked
	if r.block != nil {
		b := r.block
		seg.openAtEnd = true
		// verify.sh alone prints nothing at its end: the last test ends with the log, if it says how it ended.
		said := b.noDifferences || b.failed != "" || b.guessKind(seg.mode) != KindFull && b.sawMAR
		if err := r.close(bare && said && b.stage != "applying"); err != nil {
			return err
		}
	}
	r.seg = nil
	if len(seg.plan) == 0 && len(seg.results) == 0 {
		if seg.chunked {
			r.complete = false
			r.troubled("the log ends before the first test")
		}
		return nil
	}
	seg.unfinishedPairs()
	r.unmix(seg)
	failures := 0
	for i := range seg.results {
		if seg.results[i].Result.bad() {
			failures++
		}
	}
	switch {
	case bare:
		if said := fmt.Sprintf("%s: a log of verify.sh alone has no closing line; if it was cut behind its last test, that cannot be seen", r.file); len(r.report.Notes) == 0 || r.report.Notes[len(r.report.Notes)-1] != said {
			r.report.Notes = append(r.report.Notes, said)
		}
	case !seg.scanned:
		r.complete = false
		r.troubled("the log ends without its summary")
	case strings.HasPrefix(seg.verdict, "This run has failed") && failures == 0:
		r.complete = false
		r.troubled("the scripts say that the run has failed, and no test is seen that did")
	}
	if r.chunk > 0 && r.nChunks > 1 {
		r.noteChunk(seg)
	}
	r.fileTests(seg)
	if len(r.report.Tests) > r.maxTests {
		return fmt.Errorf("%w: more than %d", ErrTooMany, r.maxTests)
	}
	return nil
}

// unfinishedPairs takes back passes of partials whose size is compared only at the end of the pair, which is not there.
func (seg *segment) unfinishedPairs() {
	for pair, slots := range seg.slots {
		partial := -1
		for n, i := range slots {
			if seg.plan[i].PatchType == "partial" {
				partial = n
			}
		}
		if partial < 0 || partial == len(slots)-1 {
			continue
		}
		id := seg.plan[slots[partial]].Identity
		i, ok := seg.index[id]
		if !ok || seg.results[i].Result != Pass && seg.results[i].Result != Warn {
			continue
		}
		if seg.seen[pair] < len(slots) || seg.pairsBegun[pair] {
			seg.results[i].Result = Interrupted
			seg.results[i].Reasons = append(seg.results[i].Reasons, Reason{
				Code: WasInterrupted, Detail: "the log ends before the size of this partial is compared with that of the complete",
			})
		}
	}
}

// unmix takes back what passed by silence where the lines of several tests are mixed up. What the scripts say with the name
// of a test is kept.
func (r *reader) unmix(seg *segment) {
	if seg.mixed == 0 {
		return
	}
	unread := 0
	for i := range seg.results {
		t := &seg.results[i]
		if t.Line < seg.mixed {
			continue
		}
		switch {
		case t.Result == Pass, t.Result == Warn && !seg.told[i]:
			t.Result = Error
			t.Reasons = append([]Reason{{
				Code: Unreadable, Detail: "the lines of several tests are mixed up here, and none with its name says how this one ended",
				Evidence: &Evidence{File: r.file, Line: seg.mixedAt, Lines: 1},
			}}, t.Reasons...)
			unread++
		case t.Result == Error:
			unread++
		}
	}
	if unread > 1 { // else one test alone has no end
		r.troubled(fmt.Sprintf("line %d: the lines of several tests are mixed up; how %s ended cannot be read", seg.mixedAt, count(unread, "test")))
	}
}

// noteChunk remembers which chunks there are.
func (r *reader) noteChunk(seg *segment) {
	platform := ""
	if len(seg.plan) > 0 {
		platform = seg.plan[0].Platform + " " + seg.plan[0].Channel
	} else if len(seg.results) > 0 {
		platform = seg.results[0].Platform + " " + seg.results[0].Channel
	}
	key := fmt.Sprintf("%d\x00%s", r.nChunks, platform)
	if r.chunks == nil {
		r.chunks = map[string]map[int]bool{}
	}
	if r.chunks[key] == nil {
		r.chunks[key] = map[int]bool{}
	}
	r.chunks[key][r.chunk] = true
}

// fileTests appends the tests of a task to the report: first those of its plan, in its order.
func (r *reader) fileTests(seg *segment) {
	used := make([]bool, len(seg.results))
	for i := range seg.plan {
		t := seg.plan[i]
		if at, ok := seg.index[t.Identity]; ok && !used[at] {
			used[at] = true
			r.report.Tests = append(r.report.Tests, seg.results[at])
			continue
		}
		t.File = r.file
		t.Result = NotRun
		detail := "the log has nothing about it"
		if !seg.scanned {
			detail = "the log ends before it"
		}
		t.Reasons = []Reason{{Code: WasNotRun, Detail: detail}}
		r.report.Tests = append(r.report.Tests, t)
	}
	for i := range seg.results {
		if !used[i] {
			r.report.Tests = append(r.report.Tests, seg.results[i])
		}
	}
}

const formatDiffs = "summary of differences"

// diffSummary begins a part of a summary of differences, which the scripts write beside their log.
func (r *reader) diffSummary(rest []byte) error {
	if err := r.close(true); err != nil {
		return err
	}
	if r.format == "" {
		r.format = formatDiffs
	}
	if r.format != formatDiffs {
		return nil
	}
	patchType, address, ok := strings.Cut(clean(rest, 4096), " update from ")
	id, good := requestIdentity(strings.TrimSpace(address))
	if !ok || !good || patchType != "complete" && patchType != "partial" {
		return nil
	}
	r.block = &block{id: r.internAll(id), url: address, line: r.line, bracketType: patchType}
	return nil
}

func (r *reader) closeDiff(b *block) error {
	b.settle()
	b.differs = true
	t := Test{Identity: b.id, Kind: KindFull, Result: Fail, File: r.file, Line: b.line, Reasons: []Reason{b.reason()}}
	t.PatchType = r.intern(b.bracketType)
	r.budget(t.Reasons[0].Evidence)
	if len(r.diffs) >= r.maxTests {
		return fmt.Errorf("%w: more than %d", ErrTooMany, r.maxTests)
	}
	r.diffs = append(r.diffs, t)
	return nil
}

// end finishes the report.
func (r *reader) end() {
	failed := map[Identity]bool{}
	seen := map[Identity]int{}
	for i := range r.report.Tests {
		t := &r.report.Tests[i]
		seen[t.Identity]++
		if t.Result.bad() || t.Result == Warn {
			failed[t.Identity] = true
		}
	}
	for _, t := range r.diffs {
		if !failed[t.Identity] {
			r.report.Tests = append(r.report.Tests, t)
			seen[t.Identity]++
		}
	}
	if len(r.diffs) > 0 && len(r.diffs) == len(r.report.Tests) {
		r.report.Complete = false
		r.report.Notes = append(r.report.Notes, "summaries of differences name failures only: what passed, and whether all ran, is in the logs beside them")
	}
	twice := 0
	for _, n := range seen {
		if n > 1 {
			twice++
		}
	}
	if twice > 0 {
		r.report.Notes = append(r.report.Notes, count(twice, "test")+" stand in more than one place of the logs; each of their results is listed and counted")
	}
	for _, key := range sortedKeys2(r.chunks) {
		number, platform, _ := strings.Cut(key, "\x00")
		total, _ := strconv.Atoi(number)
		var gone []string
		for i := 1; i <= total && len(gone) <= 20; i++ {
			if !r.chunks[key][i] {
				gone = append(gone, strconv.Itoa(i))
			}
		}
		if len(gone) > 0 {
			r.report.Notes = append(r.report.Notes, fmt.Sprintf("%s: the logs hold %d of %d chunks; nothing is known about the tests of chunk %s",
				platform, len(r.chunks[key]), total, strings.Join(gone, ", ")))
		}
	}
	for _, f := range r.report.Files {
		if f.Trouble != "" && f.Format != "unknown" {
			r.report.Notes = append(r.report.Notes, f.Name+": "+f.Trouble)
		}
	}
	if len(r.report.Tests) == 0 {
		r.report.Complete = false
	}
	r.report.finish()
}

func sortedKeys2(m map[string]map[int]bool) []string {
	keys := map[string]bool{}
	for k := range m {
		keys[k] = true
	}
	return sortedKeys(keys)
}
