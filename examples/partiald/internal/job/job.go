// Package job has the words that all parts of partiald share: what a job is asked to do, the states it goes through,
// what is known about it, and the interface between those who do the work and those who speak to the outside.
package job

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/senbonzakura/senbonzakura"
)

// State is where a job stands.
type State string

// The states, in the order in which they come. Queued comes again when a job is tried again. The last three are final.
const (
	Queued    State = "queued"
	Fetching  State = "fetching"
	Unpacking State = "unpacking"
	Diffing   State = "diffing"
	Packing   State = "packing"
	Verifying State = "verifying"
	Signing   State = "signing"
	Storing   State = "storing"
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// States returns all states in order.
func States() []State {
	return []State{Queued, Fetching, Unpacking, Diffing, Packing, Verifying, Signing, Storing, Done, Failed, Cancelled}
}

// Final says that nothing comes after the state unless someone asks again.
func (s State) Final() bool { return s == Done || s == Failed || s == Cancelled }

// Valid says that it is one of [States].
func (s State) Valid() bool { return slices.Contains(States(), s) }

// Source says which complete update is meant.
type Source struct {
	// URLs are where it can be fetched, tried in this order. None means that it was uploaded before.
	URLs []string `json:"urls,omitempty" doc:"Where it can be fetched, tried in this order. Leave it out for an upload."`
	// SHA512 and SHA256 are what its bytes hash to, in hexadecimal; one is required, both may be given.
	SHA512 string `json:"sha512,omitempty" pattern:"^[0-9a-fA-F]{128}$" doc:"SHA-512 of its bytes, in hexadecimal."`
	SHA256 string `json:"sha256,omitempty" pattern:"^[0-9a-fA-F]{64}$" doc:"SHA-256 of its bytes, in hexadecimal, where SHA-512 is not known."`
	// Name is what people call the file; nothing depends on it.
	Name string `json:"name,omitempty" maxLength:"255" doc:"What people call the file, such as its name when it was uploaded. Nothing depends on it."`
	// Size is in bytes; 0 means that it is not known.
	Size int64 `json:"size,omitempty" minimum:"0" doc:"Its size in bytes, if known."`
}

// Spec is what a job is asked to do. Everything in it but URLs, sizes and the priority is part of the job's identity.
type Spec struct {
	From           Source            `json:"from" doc:"The complete update of the old version."`
	To             Source            `json:"to" doc:"The complete update of the new version."`
	Product        string            `json:"product,omitempty" maxLength:"64" doc:"Product, where the completes do not say."`
	Platform       string            `json:"platform,omitempty" maxLength:"128" doc:"Linux, Windows or macOS, by a name that begins like one (linux-x86_64, win64, WINNT_x86-msvc, macosx64, Darwin…); default: by the executables."`
	Arch           string            `json:"arch,omitempty" maxLength:"32" doc:"Architecture; decides about the branch filter. Default: x86_64."`
	Locale         string            `json:"locale,omitempty" maxLength:"64"`
	Channel        string            `json:"channel,omitempty" maxLength:"63" doc:"MAR channel of the partial; default: that of TO, or of several the only one that FROM accepts."`
	ProductVersion string            `json:"product_version,omitempty" maxLength:"31" doc:"Product version of the partial; default: that of TO."`
	Formats        []string          `json:"formats,omitempty" maxItems:"8" doc:"Formats that patches may be in (mbdiff10, zucchini), of which each file gets the smallest. Default: toolchain.formats of the configuration, else those that FROM's updater is known to apply. Not with recipe mozilla."`
	Force          []string          `json:"force,omitempty" maxItems:"1000" doc:"Paths that go in whole even if they did not change."`
	Channels       []string          `json:"channels,omitempty" maxItems:"64" doc:"MAR channels that TO may be for; default: any."`
	Recipe         string            `json:"recipe,omitempty" enum:"auto,default,mozilla" doc:"How it is made: auto (what the old version's updater needs, the default), default, mozilla (the rules and patches of Mozilla's scripts)."`
	Skip           []string          `json:"skip,omitempty" maxItems:"16" doc:"Checks to leave out, such as downgrade or watershed. Needs the role operate, and the checks to be listed in the service's configuration (auth.skip): 403 otherwise."`
	Trust          string            `json:"trust,omitempty" enum:"complete,version" doc:"What counts where FROM's complete update and the rules for its version contradict each other; default: toolchain.trust of the configuration, else it is an error."`
	Client         *ClientFacts      `json:"client,omitempty" doc:"What is known of FROM's updater; it outranks what FROM's complete update shows and what rules say."`
	Labels         map[string]string `json:"labels,omitempty" doc:"Taken over into the provenance."`
	// Priority is 0 (normal) to 9 (first).
	Priority int `json:"priority,omitempty" minimum:"0" maximum:"9" doc:"0 (normal) to 9 (first)."`
	// Keys is the version of the keys by which jobs have their IDs; 0 stands for those before there was a number.
	Keys int `json:"keys,omitempty" doc:"Set by the service: by which version of its keys the job has its ID."`
}

// ClientFacts are what a caller knows of FROM's updater. What is left out is found out: from FROM's complete update, else by rules.
type ClientFacts struct {
	Version   string   `json:"version,omitempty" maxLength:"64" doc:"Its own version, below which it takes no update; default: that of FROM's product block, else of its application.ini."`
	Gecko     string   `json:"gecko,omitempty" maxLength:"64" doc:"Version of the Gecko that it was built from, by which rules go; default: platform.ini's Milestone."`
	Verifies  *bool    `json:"verifies,omitempty" doc:"Whether it verifies signature, channel and version; default: yes where FROM is signed, else not known. That it does not leaves out these checks, and takes the role operate."`
	Channels  []string `json:"channels,omitempty" maxItems:"64" doc:"MAR channels that it accepts; default: those of FROM's update-settings.ini."`
	Members   []string `json:"members,omitempty" maxItems:"8" doc:"Formats of members that it unpacks, the usual one first: xz, bzip2."`
	Manifests []int    `json:"manifests,omitempty" maxItems:"3" doc:"Versions of the manifest that it looks for: 2, 3."`
	Patches   []string `json:"patches,omitempty" maxItems:"8" doc:"Patch formats that it applies: mbdiff10, zucchini."`
	Drafts    *bool    `json:"drafts,omitempty" doc:"Whether it writes every file beside its place before it replaces any."`
}

// Keys is the present version of the keys by which jobs have their IDs: that of the generator's keys of updates.
const Keys = 3

// Asker is who asked for something.
type Asker struct {
	Name      string `json:"name"`                 // of the token, or "anonymous"
	Address   string `json:"address,omitempty"`    // client address, after trusted proxies
	RequestID string `json:"request_id,omitempty"` // of the request that asked
	// Operator says that the caller has the role operate: only then may a spec leave out checks. It is not kept.
	Operator bool `json:"-"`
	// Token says that the caller has one. It is not kept.
	Token bool `json:"-"`
}

// Account is whose share what is asked for counts against: the name of the token, or the address where there is none.
func (a Asker) Account() string {
	if a.Token || a.Address == "" {
		return a.Name
	}
	return a.Name + " " + a.Address
}

// Progress is how far the present step is, in bytes; Total is -1 while it is not known.
type Progress struct {
	File  string `json:"file,omitempty"`
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
	// Waiting says that both completes are here, and that the job waits for its turn to be computed.
	Waiting bool `json:"waiting,omitempty"`
}

// Change is one step in a job's life.
type Change struct {
	// Seq counts the changes of one job from 1, over all attempts and servers.
	Seq     int64     `json:"seq"`
	State   State     `json:"state"`
	At      time.Time `json:"at"`
	Attempt int       `json:"attempt"`
	Server  string    `json:"server,omitempty"` // name of the server on which it happened
	Reason  string    `json:"reason,omitempty"`
}

// Result is what came of a job that is done.
type Result struct {
	Name     string        `json:"name"`     // to save it as
	Size     int64         `json:"size"`     // bytes of the partial
	Complete int64         `json:"complete"` // bytes of TO's complete
	SHA512   string        `json:"sha512"`
	SHA256   string        `json:"sha256"`
	Saved    float64       `json:"saved"`  // share of Complete that clients need not download, 0 to 1
	Cached   bool          `json:"cached"` // it was there already
	SignedBy []string      `json:"signed_by,omitempty"`
	Elapsed  time.Duration `json:"elapsed_ns"` // of the attempt that made it
	// Product, FromVersion and ToVersion are what the completes say, where they do.
	Product     string `json:"product,omitempty"`
	FromVersion string `json:"from_version,omitempty"`
	ToVersion   string `json:"to_version,omitempty"`
}

// An Outcome is how an attempt ended.
type Outcome string

// The outcomes.
const (
	AttemptDone       Outcome = "done"
	AttemptFailed     Outcome = "failed"      // it has an error
	AttemptHandedBack Outcome = "handed-back" // its server was stopped: another attempt goes on
	AttemptLost       Outcome = "lost"        // its server fell silent
	AttemptCancelled  Outcome = "cancelled"
)

// Attempt is one run of a job.
type Attempt struct {
	Number int       `json:"number"`
	Server string    `json:"server,omitempty"`
	Begun  time.Time `json:"begun"`
	Ended  time.Time `json:"ended,omitzero"` // zero while it runs
	// Step is the one in which it ended.
	Step    State   `json:"step,omitempty"`
	Outcome Outcome `json:"outcome,omitempty" enum:"done,failed,handed-back,lost,cancelled"` // "" while it runs
	Error   *Error  `json:"error,omitempty"`
}

// Next is the attempt that follows one that failed.
type Next struct {
	At  time.Time `json:"at"`  // not before this time
	Try int       `json:"try"` // which one it will be, of those that count
	Of  int       `json:"of"`  // how many there are at most for such a failure
}

// About is what the completes say of themselves.
type About struct {
	Product     string `json:"product,omitempty"`
	FromVersion string `json:"from_version,omitempty"`
	ToVersion   string `json:"to_version,omitempty"`
	FromBuild   string `json:"from_build,omitempty"` // build IDs
	ToBuild     string `json:"to_build,omitempty"`
	Platform    string `json:"platform,omitempty"`
	Locale      string `json:"locale,omitempty"`
}

// Status is all that is known about a job.
type Status struct {
	ID       string    `json:"id"`
	Spec     Spec      `json:"spec"` // addresses without credentials
	State    State     `json:"state"`
	Attempt  int       `json:"attempt"`
	Progress Progress  `json:"progress"`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
	Server   string    `json:"server,omitempty"` // that works or worked on it
	Result   *Result   `json:"result,omitempty"`
	Error    *Error    `json:"error,omitempty"`
	Changes  []Change  `json:"changes,omitempty"`
	// By is the name of who asked for it first.
	By string `json:"by,omitempty"`
	// About is known as soon as both completes were read.
	About *About `json:"about,omitempty"`
	// Attempts are the latest, the last one at the end, of all times that it was asked for.
	Attempts []Attempt `json:"attempts,omitempty"`
	// Next is there while the job waits after a failure.
	Next *Next `json:"next,omitempty"`
	// Purged is when its artifact was removed; zero if it was not.
	Purged time.Time `json:"purged,omitzero"`
}

// Code says what kind of error it is.
type Code string

// The codes, with the HTTP status that belongs to them.
const (
	CodeRequest     Code = "bad-request"       // 422: a field cannot be used
	CodeConflict    Code = "conflict"          // 409: contradicts what is known, or the state does not allow it
	CodeTooLarge    Code = "too-large"         // 413
	CodeInvalidMAR  Code = "invalid-mar"       // 422: FROM or TO is not a MAR file that can be used
	CodeRefused     Code = "refused"           // 422: there can be no such partial (watershed, downgrade, channel, what updaters would mishandle)
	CodeFetch       Code = "fetch-failed"      // 424
	CodeDigest      Code = "digest-mismatch"   // 409: what was fetched or uploaded has other hashes
	CodeNotFound    Code = "not-found"         // 404
	CodeNotReady    Code = "not-ready"         // 409: the job is not done
	CodeQueueFull   Code = "queue-full"        // 429
	CodeForbidden   Code = "forbidden"         // 403: not for this caller, or not with this configuration
	CodeQuota       Code = "quota"             // 429
	CodeUnavailable Code = "unavailable"       // 503: queue, ledger or store does not answer
	CodeSigning     Code = "signing-failed"    // 502
	CodeStore       Code = "store-failed"      // 507
	CodeCancelled   Code = "cancelled"         // 410
	CodeAttempts    Code = "too-many-attempts" // 500: every worker that tried it died
	CodeInternal    Code = "internal"          // 500
)

// A Fault says whose a failure is: see [senbonzakura.FaultOf].
type Fault = senbonzakura.Fault

// The faults.
const (
	FaultCaller  = senbonzakura.FaultCaller
	FaultOrigin  = senbonzakura.FaultOrigin
	FaultService = senbonzakura.FaultService
)

// Codes returns all codes that a job or a request to the [Service] can fail with.
func Codes() []Code {
	return []Code{
		CodeRequest, CodeConflict, CodeTooLarge, CodeInvalidMAR, CodeRefused, CodeFetch, CodeDigest, CodeNotFound, CodeNotReady,
		CodeQueueFull, CodeForbidden, CodeQuota, CodeUnavailable, CodeSigning, CodeStore, CodeCancelled, CodeAttempts, CodeInternal,
	}
}

// Fault says whose a failure with this code usually is; an [Error] may know better.
func (c Code) Fault() Fault {
	switch c {
	case CodeFetch, CodeDigest:
		return FaultOrigin
	case CodeUnavailable, CodeSigning, CodeStore, CodeAttempts, CodeInternal, CodeQueueFull:
		return FaultService
	}
	return FaultCaller
}

// Error is a failure that callers see. It never has credentials in it.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	// Field names what is wrong in a request, as in "from.sha512".
	Field string `json:"field,omitempty"`
	// Fault says whose it is; "" means that of the code.
	Fault Fault `json:"fault,omitempty"`
	// Retryable says that the same request may work later.
	Retryable bool `json:"retryable"`
	// RetryAfter says when, where that is known.
	RetryAfter time.Duration `json:"retry_after_ns,omitempty"`
	// Cause is for the log: callers do not see it, because it may name machines.
	Cause error `json:"-"`
}

func (e *Error) Error() string {
	if e.Field != "" {
		return fmt.Sprintf("%s: %s: %s", e.Code, e.Field, e.Message)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

// Whose says whose the failure is, also to [senbonzakura.FaultOf].
func (e *Error) Whose() Fault {
	if e.Fault != "" {
		return e.Fault
	}
	return e.Code.Fault()
}

// Is makes errors.Is(err, &Error{Code: c}) compare codes.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Errorf returns an Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Action is something that a person did to the service: submit, retry, cancel, purge, ban, unban, drain.
type Action struct {
	ID     int64     `json:"id"`
	At     time.Time `json:"at"`
	Server string    `json:"server"`
	Who    Asker     `json:"who"`
	What   string    `json:"what"`
	Job    string    `json:"job,omitempty"`
	Detail string    `json:"detail,omitempty"`
}

// Filter selects from the history. Zero fields select everything.
type Filter struct {
	State        State
	Product      string
	Locale       string
	Who          string // name of the asker
	Text         string // in the job's ID, hashes, addresses, versions or labels
	Label        string // "name" or "name=value" of a label, without regard to case
	From, To     string // a hash of the complete update
	Since, Until time.Time
	Batch        string
	Limit        int // 0 means 100; at most 1000
	Cursor       string
}

// Page is one page of jobs, newest first; Next is the cursor of the page after it, "" at the end.
type Page struct {
	Jobs []Status `json:"jobs"`
	Next string   `json:"next,omitempty"`
}

// Batch is a set of jobs that were asked for together.
type Batch struct {
	ID      string        `json:"id"`
	Created time.Time     `json:"created"`
	Jobs    []Status      `json:"jobs"`
	Counts  map[State]int `json:"counts"`
	Done    bool          `json:"done"` // all of its jobs are in a final state
	// Unmatched are builds of the latest request for it that made no job.
	Unmatched []Unmatched `json:"unmatched,omitempty" doc:"Builds of the matrix without a partner, which are left out: the first 1000."`
}

// Unmatched is a build of a matrix for which the other side has none of the same platform and locale.
type Unmatched struct {
	Field    string `json:"field" doc:"Where it stands in the request." example:"matrix.from[3]"`
	Platform string `json:"platform,omitempty"`
	Locale   string `json:"locale,omitempty"`
}

// MaxUnmatched is how many of them a batch keeps.
const MaxUnmatched = 1000

// Upload is a complete update that was uploaded.
type Upload struct {
	SHA512 string `json:"sha512"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// Worker is a server that works on jobs.
type Worker struct {
	Server  string    `json:"server"`
	Slots   int       `json:"slots"`
	Jobs    []string  `json:"jobs"` // IDs of those under work
	Seen    time.Time `json:"seen"`
	Version string    `json:"version,omitempty"`
}

// Queue says what waits and who works.
type Queue struct {
	Waiting int `json:"waiting"`
	Running int `json:"running"`
	Dead    int `json:"dead"` // gave up after too many attempts, of those not asked for again
	Limit   int `json:"limit"`
	// Oldest is since when the job waits that has waited longest; zero where none does.
	Oldest  time.Time `json:"oldest,omitzero"`
	Workers []Worker  `json:"workers"`
}

// Ban keeps an address out until a time.
type Ban struct {
	Address string    `json:"address"`
	Until   time.Time `json:"until"`
	Reason  string    `json:"reason"`
	By      string    `json:"by"`
}

// Health is the state of one thing that the service needs.
type Health struct {
	Name  string        `json:"name"` // "queue", "ledger", "cache", "storage", "signer …"
	OK    bool          `json:"ok"`
	Error string        `json:"error,omitempty"`
	Took  time.Duration `json:"took_ns"`
}

// Document is a JSON document as it was stored.
type Document = json.RawMessage
