package engine

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"syscall"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/examples/internal/database"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue"
	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/toolchain"
)

// verdict is what an attempt's error means.
type verdict struct {
	err *job.Error
	// tries is how many attempts may end like this before the job has failed; 1 means that there is no sense in another.
	tries int
}

// once makes a verdict without another attempt.
func once(code job.Code, err error) verdict { return verdict{told(code, err), 1} }

// judge maps the error of an attempt. attempts is how many there are for what may pass.
func judge(err error, attempts int) verdict {
	v := judgeWhole(err, attempts)
	v.err.Message = cut(v.err.Message, maxMessage)
	v.err.Fault = v.err.Whose()
	if v.err.Code == job.CodeFetch || v.err.Code == job.CodeDigest { // which can be the caller's or the origin's
		v.err.Fault = cmp.Or(senbonzakura.FaultOf(err), v.err.Fault)
	}
	if v.err.Field == "" {
		v.err.Field = fieldOf(v.err.Code, err)
	}
	return v
}

// fieldOf names the field of the request that has to be another one for the same not to happen again; "" where that is
// not in the caller's hands.
func fieldOf(code job.Code, err error) string {
	var (
		made   *senbonzakura.InputError
		read   *partial.InputError
		digest *fetch.DigestError
		size   *fetch.SizeError
		side   string
	)
	switch {
	case errors.As(err, &made):
		side = strings.ToLower(made.Input)
	case errors.As(err, &read):
		side = strings.ToLower(read.Input)
	default:
		return ""
	}
	switch code {
	case job.CodeFetch:
		return side + ".urls"
	case job.CodeDigest:
		if errors.As(err, &digest) {
			return side + "." + string(digest.Algorithm)
		} else if errors.As(err, &size) {
			return side + ".size"
		}
		return side
	case job.CodeInvalidMAR, job.CodeConflict, job.CodeRefused:
		return side
	}
	return ""
}

func judgeWhole(err error, attempts int) verdict {
	again := func(code job.Code) verdict {
		v := verdict{told(code, err), attempts}
		v.err.Retryable = true
		return v
	}
	var (
		own     *job.Error
		check   *senbonzakura.CheckError
		require *senbonzakura.RequirementError
		signing *mar.SignError
		fetched *fetch.Error
		refused *partial.RefusedError
		panicky *cache.PanicError
		storing *keepError
		digest  *fetch.DigestError
		size    *fetch.SizeError
	)
	switch {
	case errors.As(err, &own):
		c := *own
		return verdict{&c, 1}
	case errors.Is(err, senbonzakura.ErrRequest):
		var bad *job.Error
		errors.As(requestError(err), &bad)
		return verdict{bad, 1}
	case errors.As(err, &signing):
		for _, passing := range []error{
			plugins.ErrStopped, plugins.ErrThrottled, plugins.ErrUnavailable, plugins.ErrTimeout, context.DeadlineExceeded,
		} {
			if errors.Is(err, passing) {
				return again(job.CodeSigning)
			}
		}
		return once(job.CodeSigning, err)
	case errors.Is(err, mar.ErrSigner):
		return once(job.CodeSigning, err)
	case errors.As(err, &require):
		v := once(job.CodeRefused, err)
		v.err.Message += " (signing.require in the service's configuration)"
		v.err.Field = fields[require.Field]
		return v
	case errors.As(err, &check):
		return once(job.CodeRefused, err)
	case errors.As(err, &refused), errors.Is(err, toolchain.ErrProduct), errors.Is(err, toolchain.ErrContradiction),
		errors.Is(err, toolchain.ErrWatershed), errors.Is(err, toolchain.ErrDowngrade):
		return once(job.CodeRefused, err)
	case errors.Is(err, fetch.ErrStore):
		return again(job.CodeStore)
	case errors.As(err, &fetched):
		return judgeFetch(err, fetched, attempts)
	case errors.As(err, &panicky):
		// Most likely it comes again. The trace is in the log, not in what callers see.
		return verdict{job.Errorf(job.CodeInternal, "a fault in the program: see the job's log"), 2}
	case errors.As(err, &digest), errors.As(err, &size):
		// What is here already by one of its hashes has not the others, or another size: the request contradicts itself.
		return once(job.CodeDigest, err)
	case errors.Is(err, cache.ErrCorrupt) && !errors.As(err, &storing):
		// A file of the cache was damaged after it was compared with its hash: that is nobody's fault but our disk's.
		v := again(job.CodeUnavailable)
		v.err.Message, v.err.Field = "a complete update was damaged in the cache while it was read; it is fetched again", ""
		return v
	case errors.Is(err, mar.ErrFormat), isContent(err), aboutInput(err):
		return once(job.CodeInvalidMAR, err)
	case errors.Is(err, cache.ErrNoSpace), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return again(job.CodeStore)
	case errors.Is(err, cache.ErrTooLarge):
		return once(job.CodeStore, err)
	case errors.As(err, &storing):
		return again(job.CodeStore)
	case errors.Is(err, context.DeadlineExceeded):
		return verdict{job.Errorf(job.CodeInternal, "took longer than a job may"), 2}
	case errors.Is(err, queue.ErrUnavailable), errors.Is(err, plugins.ErrUnavailable), errors.Is(err, syscall.EIO):
		return again(job.CodeUnavailable)
	}
	return once(job.CodeInternal, err)
}

// aboutInput says whether an error that names an input is about what is in it, and not about how it could be read here.
func aboutInput(err error) bool {
	var made *senbonzakura.InputError
	var file *fs.PathError
	if !errors.Is(err, partial.ErrInput) && !errors.As(err, &made) {
		return false
	}
	for _, ours := range []error{
		syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, context.DeadlineExceeded, context.Canceled,
		cache.ErrNoSpace, cache.ErrClosed, cache.ErrTooLarge, plugins.ErrUnavailable, queue.ErrUnavailable,
	} {
		if errors.Is(err, ours) {
			return false
		}
	}
	return !errors.As(err, &file)
}

// isContent says whether members of the completes cannot be read.
func isContent(err error) bool {
	var content *mar.ContentError
	return errors.As(err, &content)
}

// judgeFetch maps the error of a download by how each URL ended: what is worth trying again decides first.
func judgeFetch(err error, fetched *fetch.Error, attempts int) verdict {
	code, tries, key := job.CodeFetch, 1, ""
	for _, t := range fetched.Tries {
		var (
			status  *fetch.StatusError
			digest  *fetch.DigestError
			size    *fetch.SizeError
			address *fetch.AddressError
			refused *fetch.NotAllowedError
		)
		switch {
		case strings.HasPrefix(t.URL, uploadScheme+":") && errors.Is(t.Err, fs.ErrNotExist):
			return verdict{job.Errorf(job.CodeConflict, "the upload that is to be used is gone: upload it again, or give URLs"), 1}
		case errors.As(t.Err, &size) && size.Limit:
			key = "fetch.max_size"
		case errors.As(t.Err, &digest), errors.As(t.Err, &size):
			code, tries = job.CodeDigest, max(tries, 2) // it may have been a cache on the way
		case errors.As(t.Err, &address):
			if key = "fetch.private_networks"; address.Port {
				key = "fetch.ports"
			}
		case errors.As(t.Err, &refused), errors.Is(t.Err, fs.ErrNotExist), errors.Is(t.Err, fs.ErrPermission):
		case errors.As(t.Err, &status) && status.Code < 500 && status.Code != http.StatusRequestTimeout &&
			status.Code != http.StatusTooManyRequests && status.Code != http.StatusTooEarly:
		case t.Permanent(): // an encoding that was not asked for, a certificate that is none, a name that nobody has
		default:
			tries = attempts
		}
	}
	v := verdict{told(code, err), tries}
	if key != "" {
		v.err.Message += " (" + key + " in the service's configuration says what else is allowed)"
	}
	v.err.Retryable = tries > 2
	return v
}

// outward turns an error of queue or ledger into one for callers.
func outward(err error) error {
	var own *job.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, queue.ErrUnavailable):
		return err
	}
	if errors.Is(err, database.ErrNoSpace) {
		return storeError(err)
	}
	what := "something that the service needs"
	if errors.Is(err, queue.ErrUnavailable) {
		what = "the queue"
	}
	return &job.Error{Code: job.CodeUnavailable, Message: what + " does not answer", Retryable: true, RetryAfter: retryUnavailable, Cause: err}
}
