package web

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// Codes of what goes wrong before the service is asked.
const (
	codeUnauthorized job.Code = "unauthorized"
	codeForbidden    job.Code = job.CodeForbidden
	codeBanned       job.Code = "banned"
	codeRate         job.Code = "rate-limited"
	codeMethod       job.Code = "method-not-allowed"
	codeNotAccept    job.Code = "not-acceptable"
	codeMediaType    job.Code = "unsupported-media-type"
	codeSyntax       job.Code = "bad-syntax"
	codeHeaders      job.Code = "headers-too-large"
	codeTimeout      job.Code = "timeout"
	codeMisdirected  job.Code = "misdirected"
	codeCrossOrigin  job.Code = "cross-origin"
	codeGone         job.Code = "client-gone"
	codeRange        job.Code = "range-not-satisfiable"
	codePrecondition job.Code = "precondition-failed"
)

// codeInfo is what is the same for every problem of a code.
type codeInfo struct {
	Code   job.Code
	Status int
	Title  string
	Advice string // the way out
}

// codes is the table behind problems and the page that explains them.
var codes = []codeInfo{
	{job.CodeRequest, 422, "A field cannot be used", "Correct the field and send the request again."},
	{codeSyntax, 400, "The request cannot be read", "Send well-formed UTF-8 JSON."},
	{codeMediaType, 415, "This kind of content is not taken", "Send Content-Type: application/json, and a complete update as application/octet-stream."},
	{codeNotAccept, 406, "There is no such representation", "Accept application/json, or leave Accept out."},
	{codeMethod, 405, "The method is not allowed here", "Use a method that the Allow header names."},
	{job.CodeTooLarge, 413, "Too large", "A request has at most 64 KiB, a batch 4 MiB; the limit for uploads is in the service's configuration."},
	{codeHeaders, 431, "Too many header fields", "Send at most 100 header fields of 32 KiB together."},
	{codeTimeout, 408, "The request came too slowly", "Send it again over a better connection."},
	{codeMisdirected, 421, "This service is not called by that name", "Use a host name that the configuration lists."},
	{codeCrossOrigin, 403, "Sent by another web site", "Send it from the service's own pages, or without a browser."},
	{codeUnauthorized, 401, "A token is needed", "Send Authorization: Bearer TOKEN, or log in on the page."},
	{codeForbidden, 403, "Not allowed for this caller", "Use a token with the role that is named; what the configuration has to allow, an operator can change."},
	{codeBanned, 403, "This address is banned for a while", "Wait until the time in Retry-After, or ask an operator to lift the ban."},
	{codeRate, 429, "Too many requests", "Wait for the seconds in Retry-After. Watch a job by its events instead of asking again and again."},
	{job.CodeQuota, 429, "The quota is used up", "Wait for the seconds in Retry-After, or ask for a larger quota."},
	{job.CodeQueueFull, 429, "The queue is full", "Send the same request again after the seconds in Retry-After."},
	{job.CodeConflict, 409, "Contradicts what is known", "See what the job or the upload is before asking again."},
	{job.CodeDigest, 409, "The bytes have other hashes", "Correct the hash, or the address that it belongs to; what was fetched is named in the detail."},
	{job.CodeNotReady, 409, "The job is not done", "Watch the job by its events, or ask with Prefer: wait=N."},
	{job.CodeInvalidMAR, 422, "Not a MAR file that can be used", "Give a complete update, as it was released."},
	{job.CodeRefused, 422, "There can be no such partial", "Choose another pair of versions. An operator may be able to leave a check out, where that is safe."},
	{job.CodeFetch, 424, "A complete update could not be fetched", "Check the address from the service's network, or upload the file; then try the job again."},
	{job.CodeNotFound, 404, "Not there", "Check the address; what was purged has to be asked for again."},
	{job.CodeCancelled, 410, "The job was cancelled", "Ask for the partial again to have it queued again."},
	{job.CodeUnavailable, 503, "The service cannot answer now", "Send the same request again after the seconds in Retry-After."},
	{job.CodeSigning, 502, "Signing failed", "Try the job again; if it fails again, an operator has to look after the signer."},
	{job.CodeStore, 507, "The result could not be stored", "Try the job again once an operator has made room or mended the storage."},
	{job.CodeAttempts, 500, "Every attempt ended without an answer", "Read the job's log and tell an operator; trying again starts from the beginning."},
	{job.CodeInternal, 500, "Something is wrong in the service", "Tell an operator the request ID; the log has the reason under it."},
	{codeRange, 416, "The range is not in the file", "Ask for a range within the size that Content-Range names."},
	{codePrecondition, 412, "A condition does not hold", "Leave out If-Match or If-Unmodified-Since, or ask for the file from its beginning."},
}

// infoOf returns what is known about a code; an unknown one is internal.
func infoOf(c job.Code) codeInfo {
	for _, i := range codes {
		if i.Code == c {
			return i
		}
	}
	return infoOf(job.CodeInternal)
}

// FieldProblem is what is wrong with one field of a request.
type FieldProblem struct {
	Field   string `json:"field" doc:"The field, as in from.sha512." example:"from.sha512"`
	Message string `json:"message" example:"expected string to match pattern ^[0-9a-fA-F]{128}$"`
}

// Problem is an error as RFC 9457 has it.
type Problem struct { //nolint:errname // the name that RFC 9457 has for it, and that of the schema
	Type       string         `json:"type" doc:"Where the kind of problem is explained; relative to the service." example:"/problems#fetch-failed"`
	Title      string         `json:"title" doc:"The same for every problem of a code." example:"A complete update could not be fetched"`
	Status     int            `json:"status" doc:"The HTTP status." example:"424"`
	Detail     string         `json:"detail" doc:"What is wrong this time." example:"https://example.org/a.mar: 404 Not Found"`
	Code       job.Code       `json:"code" doc:"What kind of problem it is; never changes its meaning." example:"fetch-failed"`
	Advice     string         `json:"advice" doc:"The way out." example:"Check the address from the service's network, or upload the file; then try the job again."`
	Field      string         `json:"field,omitempty" doc:"The first field that is wrong." example:"from.urls"`
	Errors     []FieldProblem `json:"errors,omitempty" doc:"All fields that are wrong."`
	Fault      job.Fault      `json:"fault,omitempty" enum:"caller,origin,service" doc:"Whose it is: of the request, of the server that has the complete updates, or of this service."`
	Retryable  bool           `json:"retryable" doc:"The same request may work later."`
	RetryAfter int            `json:"retry_after,omitempty" doc:"Seconds, as in the header Retry-After."`
	Job        string         `json:"job,omitempty" doc:"ID of the job that failed."`
	RequestID  string         `json:"request_id,omitempty" doc:"Under which the service's log has this request."`

	headers http.Header
}

func (p *Problem) Error() string { return fmt.Sprintf("%s: %s", p.Code, p.Detail) }

// GetStatus returns the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders returns the headers that belong to it.
func (p *Problem) GetHeaders() http.Header { return p.headers }

// ContentType makes JSON a problem's.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

func (p *Problem) header(key, value string) *Problem {
	if p.headers == nil {
		p.headers = http.Header{}
	}
	p.headers.Set(key, value)
	return p
}

func problem(code job.Code, format string, args ...any) *Problem {
	i := infoOf(code)
	return &Problem{
		Type: "/problems#" + string(i.Code), Title: i.Title, Status: i.Status, Code: i.Code, Advice: i.Advice, Fault: i.Code.Fault(),
		Detail: strings.ToValidUTF8(fmt.Sprintf(format, args...), "�"),
	}
}

// in names the field that is wrong.
func (p *Problem) in(field string) *Problem {
	p.Field, p.Errors = field, []FieldProblem{{field, p.Detail}}
	return p
}

// after sets when to come back; a problem of 429 or 503 always says it.
func (p *Problem) after(d time.Duration) *Problem {
	p.Retryable = true
	p.RetryAfter = max(1, int(math.Ceil(min(d, 24*time.Hour).Seconds())))
	return p.header("Retry-After", strconv.Itoa(p.RetryAfter))
}

// problemOf turns any error into a problem. Only a job.Error is shown to the caller; everything else is internal, and
// the caller gets the request ID to ask with.
func problemOf(ctx context.Context, err error) *Problem {
	var p *Problem
	var e *job.Error
	switch {
	case errors.As(err, &p):
	case errors.As(err, &e):
		p = problem(e.Code, "%s", e.Message)
		p.Field, p.Retryable, p.Fault = e.Field, e.Retryable, e.Whose()
		if in := infoFrom(ctx); in != nil && e.Cause != nil {
			in.failed(e.Cause)
		}
		if e.Field != "" {
			p.Errors = []FieldProblem{{e.Field, e.Message}}
		}
		switch {
		case e.RetryAfter > 0:
			p = p.after(e.RetryAfter)
		case p.Status == http.StatusTooManyRequests, p.Status == http.StatusServiceUnavailable:
			p = p.after(5 * time.Second)
		}
	case errors.Is(err, context.DeadlineExceeded):
		p = problem(job.CodeUnavailable, "the service took too long to answer").after(5 * time.Second)
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		p = problem(job.CodeUnavailable, "the request was given up").after(time.Second)
	default:
		p = problem(job.CodeInternal, "an unexpected error; the log has it under the request ID")
		if in := infoFrom(ctx); in != nil {
			in.failed(err)
		}
	}
	if in := infoFrom(ctx); in != nil {
		p.RequestID = in.ID
		in.code = p.Code
	}
	return p
}

// jobProblem is the problem of a job that ended without a result.
func jobProblem(st job.Status) *Problem {
	var p *Problem
	switch {
	case st.Error != nil:
		p = problemOf(context.Background(), st.Error)
	case st.State == job.Cancelled:
		p = problem(job.CodeCancelled, "the job was cancelled")
	default:
		p = problem(job.CodeInternal, "the job %s without a reason", st.State)
	}
	p.Job = st.ID
	return p.header("Location", "/api/v1/jobs/"+st.ID)
}

// writeProblem answers with an error.
func writeProblem(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(r.Context(), err)
	for k, v := range p.headers {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	// What was said about a file is not true of the problem.
	for _, name := range []string{"Content-Length", "Content-Disposition", "ETag", "Last-Modified", "Repr-Digest", "Digest"} {
		w.Header().Del(name)
	}
	writeJSON(w, p.Status, p)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	if w.Header().Get("Cache-Control") == "" {
		w.Header().Set("Cache-Control", "no-store")
	}
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // the client is gone; nobody is left to tell
}

// missing returns the property that huma says is not there; it names the object that should have it as the place.
func missing(message string) (name string, ok bool) {
	before, after, _ := strings.Cut(validation.MsgExpectedRequiredProperty, "%s")
	if name, ok = strings.CutPrefix(message, before); !ok {
		return "", false
	}
	return strings.CutSuffix(name, after)
}

// explain turns what huma found wrong with a request into a problem.
func explain(ctx huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	code := job.CodeRequest
	switch m.Status {
	case 400:
		code = codeSyntax
	case 404:
		code = job.CodeNotFound
	case 406:
		code = codeNotAccept
	case 408:
		code = codeTimeout
	case 413:
		code = job.CodeTooLarge
	case 415:
		code = codeMediaType
	case 500:
		code = job.CodeInternal
	}
	p := problem(code, "%s", m.Detail)
	p.Status = m.Status
	for _, e := range m.Errors {
		field := e.Location
		for _, prefix := range []string{"body.", "query.", "path.", "header."} {
			field = strings.TrimPrefix(field, prefix)
		}
		message := e.Message
		if name, ok := missing(message); ok {
			if message = "is required"; field == "body" {
				field = name
			} else {
				field += "." + name
			}
		}
		p.Errors = append(p.Errors, FieldProblem{strings.ToValidUTF8(field, "�"), strings.ToValidUTF8(message, "�")})
		if len(p.Errors) == 20 {
			break
		}
	}
	if len(p.Errors) > 0 {
		p.Field = p.Errors[0].Field
		p.Detail = p.Errors[0].Field + ": " + p.Errors[0].Message
	}
	if in := infoFrom(ctx.Context()); in != nil {
		p.RequestID = in.ID
		in.code = p.Code
		if code == job.CodeInternal {
			in.failed(errors.New(cmp.Or(m.Detail, "unknown")))
			p.Detail = "an unexpected error; the log has it under the request ID"
		}
	}
	return p, nil
}
