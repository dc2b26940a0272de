package verify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/senbonzakura/senbonzakura/internal/version"
)

// Result is what became of a test.
type Result string

// The results of a test, as they are written.
const (
	Pass        Result = "pass"        // proved as far as the kind of the test goes
	Warn        Result = "warn"        // passed, with something that wants a look
	Fail        Result = "fail"        // the update does not do what it should
	Error       Result = "error"       // could not be tested: network, unpacking, a tool, or a log that does not say
	Interrupted Result = "interrupted" // began, and has no end
	NotRun      Result = "not-run"     // planned, and never began
	Known       Result = "known"       // failed as a list of expected failures says
)

// results in the order in which people want to see them.
var results = []Result{Fail, Error, Interrupted, NotRun, Warn, Known, Pass}

// bad says whether a result makes the whole a failure.
func (r Result) bad() bool {
	return r != Pass && r != Warn && r != Known
}

// Code names a reason.
type Code string

// The reasons for what is not a plain pass.
const (
	MARMissing           Code = "mar-missing"                // the MAR is not where update.xml says
	WrongSize            Code = "wrong-size"                 // the MAR has another size than update.xml says
	WrongHash            Code = "wrong-hash"                 // the MAR has another hash than update.xml says
	WrongMetadata        Code = "wrong-metadata"             // update.xml names another build or version
	NoUpdateOffered      Code = "no-update-offered"          // update.xml is empty
	UpdateXMLUnavailable Code = "update-xml-unavailable"     // there is no update.xml, or it is none
	PatchTypeMissing     Code = "patch-type-missing"         // update.xml has no patch of this type
	UpdaterMissing       Code = "updater-missing"            // no updater to run: the scripts skip the test in silence
	InstallerMissing     Code = "installer-missing"          // FROM or TO is not where the plan says
	UnpackFailed         Code = "unpack-failed"              // FROM or TO cannot be unpacked
	ApplyFailed          Code = "apply-failed"               // the updater refused or failed: see the updater status
	UpdaterCrashed       Code = "updater-crashed"            // the updater died at work
	UpdaterNotStarted    Code = "updater-not-started"        // the updater never wrote a status
	UpdaterDied          Code = "updater-died-after-success" // it died when all was done; the scripts do not look
	TreeDiffers          Code = "tree-differs"               // the updated installation is not TO
	FrameworkMissing     Code = "framework-missing"          // macOS: a framework that carries the channel is gone
	PartialLarger        Code = "partial-larger"             // the partial is larger than the complete
	PartialEqual         Code = "partial-equal"              // the partial is as large as the complete
	WasInterrupted       Code = "interrupted"                // the log or the run ends inside the test
	WasNotRun            Code = "not-run"                    // the test never began
	Unknown              Code = "unknown"                    // it is not said why
	Unreadable           Code = "unreadable"                 // the log does not say how the test ended, or not in a way that can be believed
	FormatMismatch       Code = "format-mismatch"            // FROM's updater cannot read the MAR at all
	ExecutableBit        Code = "executable-bit"             // right bytes, wrong mode
	SignatureMissing     Code = "signature-missing"          // the MAR is not signed
	SignatureWrongKey    Code = "signature-wrong-key"        // the MAR is signed by none of the keys of FROM
	ChannelMismatch      Code = "channel-mismatch"           // FROM does not accept the MAR's channel
	VersionDowngrade     Code = "version-downgrade"          // the MAR is older than FROM
	ApplierDisagrees     Code = "applier-disagrees"          // the real updater and ours come to different ends
	RedirectLoop         Code = "redirect-loop"              // redirects go in a circle, or on and on
	URLNotHTTPS          Code = "url-not-https"              // the MAR's address is one that clients do not take
	NetworkTrouble       Code = "network"                    // a server could not be reached: says nothing of the update
	SetupTrouble         Code = "setup"                      // something that the test needs is not here
	DamagedMAR           Code = "damaged-mar"                // the MAR cannot be read
	RefusedByClient      Code = "refused-by-client"          // FROM's client would refuse the MAR for another reason
	HostNotAllowed       Code = "host-not-allowed"           // the MAR's address is on a host that was not expected
	MARFinding           Code = "mar-finding"                // a check of the MAR found something that clients can fail on
)

// Kinds of tests.
const (
	KindFull     = "full"      // the MAR is applied to FROM and compared with TO
	KindQuick    = "quick"     // update.xml and the MAR only
	KindMARs     = "mars-only" // the scripts' mode -m: every test is a quick one
	KindTestOnly = "test-only" // the scripts' mode -t: the MAR's headers only
	KindFinal    = "final"     // final verification: the MAR's size only
)

// Identity is what tells tests apart.
type Identity struct {
	Product   string `json:"product,omitempty"` // name, as the request spells it
	Release   string `json:"release"`           // version of FROM as its request names it
	BuildID   string `json:"build_id"`          // of FROM
	Platform  string `json:"platform"`          // build target
	Locale    string `json:"locale"`            // "en-US"
	Channel   string `json:"channel,omitempty"` // update channel
	PatchType string `json:"patch_type"`        // "complete" or "partial"
}

// String is the identity in one line.
func (id Identity) String() string {
	return strings.Join([]string{id.Product, id.Release, id.BuildID, id.Platform, id.Locale, id.PatchType}, "/")
}

// pair is the identity of both patch types.
func (id Identity) pair() Identity {
	id.PatchType = ""
	return id
}

// Test is one test and what became of it.
type Test struct {
	Identity
	Kind      string           `json:"kind"`                // one of the Kind constants
	Result    Result           `json:"result"`              // how it ended
	Group     int              `json:"group,omitempty"`     // the Group with this ID says why; 0: none
	Reasons   []Reason         `json:"reasons"`             // why, or what there is to say beside a pass
	Known     string           `json:"known,omitempty"`     // why a Known failure is expected
	MAR       string           `json:"mar,omitempty"`       // address of the MAR, where the test did not simply pass
	Request   string           `json:"request,omitempty"`   // address of update.xml, likewise
	File      string           `json:"file,omitempty"`      // log that the test was read from
	Line      int              `json:"line,omitempty"`      // line of it in which the test begins
	Proved    []string         `json:"proved,omitempty"`    // by a run: what was checked and holds
	Unchecked []string         `json:"unchecked,omitempty"` // and what could not be checked
	Explained map[string]int   `json:"explained,omitempty"` // differences that rules explain, by the rule
	Steps     map[string]int64 `json:"steps,omitempty"`     // milliseconds that the steps took
}

// remark says whether a test passed with something to say.
func (t *Test) remark() bool {
	return t.Result == Pass && len(t.Reasons) > 0
}

// Reason is why a test is not a plain pass.
type Reason struct {
	Code          Code       `json:"code"`                     // what kind of failure it is
	Detail        string     `json:"detail,omitempty"`         // in words
	UpdaterStatus string     `json:"updater_status,omitempty"` // what the updater wrote: "failed: 4"
	HTTPStatus    int        `json:"http_status,omitempty"`    // what a server answered; 0 where that is not it
	At            string     `json:"at,omitempty"`             // file of the update that was worked on
	Files         []FileDiff `json:"files,omitempty"`          // that differ
	Evidence      *Evidence  `json:"evidence,omitempty"`       // where the log shows it
}

// FileDiff is one difference between the updated tree and TO's.
type FileDiff struct {
	Path   string `json:"path"`             // below the installation, with slashes
	Kind   string `json:"kind"`             // "content", "missing", "extra", "missing directory", "extra directory", "mode"
	Offset *int64 `json:"offset,omitempty"` // first byte that differs
}

// Evidence is where it stands, and the lines that say it.
type Evidence struct {
	File  string   `json:"file,omitempty"`  // name of the log
	Line  int      `json:"line,omitempty"`  // first line, from 1
	Lines int      `json:"lines,omitempty"` // how many lines
	Text  []string `json:"text,omitempty"`  // at most 40 lines of at most 300 bytes
}

// Build is the release that updates lead to.
type Build struct {
	Version string `json:"version,omitempty"`  // of the application
	BuildID string `json:"build_id,omitempty"` // 14 digits
}

// Group is what tests with one cause have in common.
type Group struct {
	ID      int    `json:"id"`               // from 1
	Code    Code   `json:"code"`             // that all its tests have
	Result  Result `json:"result"`           // that all its tests have
	Title   string `json:"title"`            // what happened
	What    string `json:"what,omitempty"`   // the difference, the status or the address that all share
	Members string `json:"members"`          // the smallest description of the tests
	Beside  string `json:"beside,omitempty"` // what passes beside them
	Cause   string `json:"cause,omitempty"`  // what is likely behind it
	Next    string `json:"next,omitempty"`   // what to do now
	MAR     string `json:"mar,omitempty"`    // address of the MAR of which Next has the name only
	Tests   int    `json:"tests"`            // how many
	first   int    // index of a test that stands for all
	indices []int  // of all its tests
}

// Totals counts tests by their result.
type Totals struct {
	Tests       int `json:"tests"`       // all; the others but Remarks add up to it
	Pass        int `json:"pass"`        // that passed
	Fail        int `json:"fail"`        // that failed
	Warn        int `json:"warn"`        // that the scripts only warn of
	Error       int `json:"error"`       // that could not be made
	Interrupted int `json:"interrupted"` // that have no end
	NotRun      int `json:"not_run"`     // that were planned and have no beginning
	Known       int `json:"known"`       // failures that were expected
	Remarks     int `json:"remarks"`     // passes that have something to say
}

// File is a log that was read.
type File struct {
	Name     string `json:"name"`              // as it was given
	Lines    int    `json:"lines"`             // how many were read
	Format   string `json:"format"`            // "update verify", "final verification", "update-verify tests in Rust", "summary of differences", "unknown"
	Complete bool   `json:"complete"`          // the log has its end
	Trouble  string `json:"trouble,omitempty"` // why not, or what else is wrong with it
}

// Report is the outcome of reading logs, or of a run. It is safe for concurrent use as long as nobody changes it.
type Report struct {
	Product   string    // name
	To        Build     // the build that was tested
	Platforms []string  // build targets, sorted
	Channels  []string  // update channels, sorted
	Source    string    // "log" or "run"
	Files     []File    // logs that were read
	Tests     []Test    // in the order in which they stand
	Groups    []Group   // tests with one cause, by result, the largest first
	Notes     []string  // what a reader must know beside the tests
	Rules     []RuleUse // rules about expected differences, and what became of each
	Complete  bool      // nothing is missing that should be there
}

// RuleUse counts how often a rule explained a difference.
type RuleUse struct {
	Rule    string `json:"rule"`              // name of the rule
	Reason  string `json:"reason,omitempty"`  // why the difference is expected
	Used    int    `json:"used"`              // how many differences it explained
	Expired string `json:"expired,omitempty"` // the day on which it ended; "" where it holds
}

// Totals counts the tests.
func (r *Report) Totals() Totals {
	var t Totals
	t.Tests = len(r.Tests)
	for i := range r.Tests {
		switch r.Tests[i].Result {
		case Pass:
			t.Pass++
			if r.Tests[i].remark() {
				t.Remarks++
			}
		case Fail:
			t.Fail++
		case Warn:
			t.Warn++
		case Error:
			t.Error++
		case Interrupted:
			t.Interrupted++
		case NotRun:
			t.NotRun++
		case Known:
			t.Known++
		}
	}
	return t
}

// Passed says whether the release may go out as far as this report can tell: there are tests, nothing is missing, and
// none of them is worse than a warning. With warnings, a warning or a remark is a failure as well.
func (r *Report) Passed(warnings bool) bool {
	t := r.Totals()
	return r.Complete && t.Tests > 0 && t.Fail+t.Error+t.Interrupted+t.NotRun == 0 && (!warnings || t.Warn+t.Remarks == 0)
}

// finish fills in what follows from the tests.
func (r *Report) finish() {
	platforms, channels := map[string]bool{}, map[string]bool{}
	for i := range r.Tests {
		t := &r.Tests[i]
		platforms[t.Platform] = true
		channels[t.Channel] = true
		if r.Product == "" {
			r.Product = t.Product
		}
		if t.Reasons == nil {
			t.Reasons = []Reason{}
		}
	}
	r.Platforms, r.Channels = sortedKeys(platforms), sortedKeys(channels)
	r.group()
}

func sortedKeys(m map[string]bool) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		if k != "" {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// Filter keeps the tests that keep says, and groups them anew. Totals, groups and notes are then about these.
func (r *Report) Filter(keep func(*Test) bool) *Report {
	out := *r
	out.Tests = nil
	for i := range r.Tests {
		if keep(&r.Tests[i]) {
			out.Tests = append(out.Tests, r.Tests[i])
		}
	}
	if len(out.Tests) == 0 && len(r.Tests) > 0 {
		out.Notes = append(slices.Clone(r.Notes), fmt.Sprintf("none of the %s is among those that were asked for", count(len(r.Tests), "test")))
	}
	out.finish()
	return &out
}

// count gives a number with its noun: "1 test", "2 tests", "31,103 lines".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return thousands(n) + " " + noun + "s"
}

func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// newestFirst orders versions, and what stands behind them in words for people.
func newestFirst(a, b string) int {
	return cmp.Or(version.Compare(b, a), strings.Compare(b, a))
}
