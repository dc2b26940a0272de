package fetch

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Error is what [Client.Fetch] returns when no URL gave the file. It unwraps to the last error of each URL, so
// that [errors.As] finds a *StatusError, *SizeError, *DigestError, *StallError, *DeadlineError, *AddressError or
// *NotAllowedError. No text of it holds a URL's user, password, query or fragment; what names resolved to is in it, but
// not in what [Public] makes of it.
type Error struct {
	Tries []Try // one for each URL that was tried, in order
}

// Try says what happened with one URL.
type Try struct {
	URL      string // without credentials
	Attempts int    // how many times it was asked; 0 when it was refused before
	Resumed  int    // how many of these went on where the one before ended
	Bytes    int64  // received in all
	Err      error  // how the last attempt ended
}

// Permanent says that asking the same URL again will not mend how it ended: a status such as 404, an encoding that was not
// asked for, a wrong hash, a refused address.
func (t *Try) Permanent() bool { return t.Err != nil && permanent(t.Err) }

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("fetch ")
	for i, t := range e.Tries {
		if i > 0 {
			b.WriteString("; then ")
		}
		b.WriteString(t.URL)
		switch t.Attempts {
		case 0:
			b.WriteString(" (not asked)")
		case 1:
			b.WriteString(" (1 attempt)")
		default:
			fmt.Fprintf(&b, " (%d attempts)", t.Attempts)
		}
		fmt.Fprintf(&b, ": %v", t.Err)
	}
	return b.String()
}

// Unwrap returns the last error of each URL.
func (e *Error) Unwrap() []error {
	errs := make([]error, len(e.Tries))
	for i, t := range e.Tries {
		errs[i] = t.Err
	}
	return errs
}

// StatusError is an answer that is not the file.
type StatusError struct {
	Code       int           // HTTP status
	RetryAfter time.Duration // how long the server asks to wait; zero when it does not
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("status %d %s", e.Code, http.StatusText(e.Code))
	if e.RetryAfter > 0 {
		s += fmt.Sprintf(", to be asked again after %v", e.RetryAfter)
	}
	return strings.TrimSpace(s)
}

// temporary says whether asking again may help.
func (e *StatusError) temporary() bool {
	switch e.Code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests,
		http.StatusRequestedRangeNotSatisfiable:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	}
	return e.Code >= 500
}

// SizeError is a file that is longer or shorter than it must be.
type SizeError struct {
	Want  int64 // bytes; the limit if Limit is set
	Got   int64 // bytes, announced or received; where the file is too long, maybe only those up to there
	Limit bool  // no size was given, and the largest allowed is exceeded
}

func (e *SizeError) Error() string {
	if e.Limit {
		return fmt.Sprintf("%d bytes or more, at most %d are allowed", e.Got, e.Want)
	}
	return fmt.Sprintf("%d bytes, want %d", e.Got, e.Want)
}

// DigestError is a file that is not the one that was asked for.
type DigestError struct {
	Algorithm Algorithm // of both sums
	Want, Got []byte    // the sums
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("%s is %x, want %x", e.Algorithm, e.Got, e.Want)
}

// StallError is a server that sends nothing, or too slowly.
type StallError struct {
	After time.Duration // the limit that was exceeded
	Bytes int64         // received within that time
}

func (e *StallError) Error() string {
	if e.Bytes == 0 {
		return fmt.Sprintf("stalled: no byte in %v", e.After)
	}
	return fmt.Sprintf("stalled: only %d bytes in %v", e.Bytes, e.After)
}

// DeadlineError is a download that took too long, over all attempts and URLs. Asking the same servers again is unlikely to
// help.
type DeadlineError struct {
	After time.Duration // Options.Deadline
}

func (e *DeadlineError) Error() string {
	return fmt.Sprintf("not complete after %v of downloading", e.After)
}

// AddressError is a connection that was refused because of the address it leads to.
type AddressError struct {
	Host    string // as the URL says
	Address string // what it resolved to, with the port
	Hop     int    // how many redirects led to it
	Reason  string // for people
	Port    bool   // it is the port alone that is not allowed
}

func (e *AddressError) Error() string {
	return fmt.Sprintf("%sconnection to %s (%s) is refused: %s", after(e.Hop), e.Host, e.Address, e.Reason)
}

// after says which redirect something came after.
func after(hop int) string {
	if hop == 0 {
		return ""
	}
	return fmt.Sprintf("redirect %d: ", hop)
}

// public is the text without what the host's name resolved to.
func (e *AddressError) public() string {
	at, _, err := net.SplitHostPort(e.Address)
	number := isNumber(e.Host) || err == nil && at == e.Host
	switch {
	case number && e.Hop > 0: // which a server said, not who gave the URL
		return fmt.Sprintf("redirect %d does not lead to where it is allowed to", e.Hop)
	case number, e.Port:
		return fmt.Sprintf("%sconnection to %s is refused: %s", after(e.Hop), e.Host, e.Reason)
	}
	return fmt.Sprintf("%s%s does not lead to a public address", after(e.Hop), e.Host)
}

// isNumber says whether a host is an address.
func isNumber(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// Public returns the text of an error of this package, or of one that has such errors in it, for somebody who gave the
// URL but need not know the network that it was asked from: without the addresses that names resolved to, those of this
// machine, that of the name server, and those to which a server redirected. Addresses that are in the URL stay.
func Public(err error) string {
	text := err.Error()
	private(err, func(found, instead string) { text = strings.ReplaceAll(text, found, instead) })
	return text
}

// private tells about every text in an error that has addresses in it, and what can be said instead, from the outside to
// the inside.
func private(err error, tell func(found, instead string)) {
	switch e := err.(type) { //nolint:errorlint // every error of the tree is looked at
	case *AddressError:
		tell(e.Error(), e.public())
	case *NotAllowedError:
		if u, err := url.Parse(e.URL); e.Hop > 0 && (err != nil || isNumber(u.Hostname())) {
			tell(e.Error(), after(e.Hop)+string(e.Reason))
		}
	case *net.OpError:
		bare := *e
		bare.Source, bare.Addr = nil, nil
		tell(e.Error(), bare.Error())
	case *net.DNSError:
		bare := *e
		bare.Server = ""
		tell(e.Error(), bare.Error())
	case *scrubbed:
		for _, p := range e.private {
			tell(p[0], p[1])
		}
	}
	switch e := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			private(inner, tell)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			private(inner, tell)
		}
	}
}

// NotAllowedError is a URL that the client may not ask.
type NotAllowedError struct {
	URL    string // without credentials
	Hop    int    // how many redirects led to it
	Reason Reason // one of the Reason constants
}

// Reason says why a URL is not allowed.
type Reason string

// The reasons.
const (
	ReasonScheme    Reason = "scheme is not allowed"
	ReasonInsecure  Reason = "http is not allowed, only https"
	ReasonDowngrade Reason = "redirect from https to http"
	ReasonRedirects Reason = "too many redirects"
	ReasonLoop      Reason = "redirects go in a circle"
	ReasonPrefix    Reason = "not below an allowed prefix"
	ReasonFile      Reason = "files are not allowed"
	ReasonMalformed Reason = "malformed URL"
)

func (e *NotAllowedError) Error() string {
	if e.Hop > 0 {
		return fmt.Sprintf("redirect %d to %s: %s", e.Hop, e.URL, e.Reason)
	}
	return string(e.Reason)
}

// ErrStore says, with errors.Is, that a file could not be stored while it was fetched: this machine's disk is to blame and
// no server.
var ErrStore = errors.New("store what was fetched")

// localError is a failure of this machine's disk: no other URL can help.
type localError struct{ err error }

func (e *localError) Error() string        { return ErrStore.Error() + ": " + e.err.Error() }
func (e *localError) Unwrap() error        { return e.err }
func (e *localError) Is(target error) bool { return target == ErrStore }

// permanentError is one that asking the same URL again will not mend.
type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

func permanent(err error) bool {
	var (
		status     *StatusError
		size       *SizeError
		digest     *DigestError
		address    *AddressError
		notAllowed *NotAllowedError
		local      *localError
		marked     *permanentError
		deadline   *DeadlineError
	)
	switch {
	case errors.As(err, &marked):
		return true
	case errors.As(err, &status):
		return !status.temporary()
	case errors.As(err, &size):
		return size.Limit || size.Got > size.Want
	}
	return errors.As(err, &digest) || errors.As(err, &address) || errors.As(err, &notAllowed) ||
		errors.As(err, &local) || errors.As(err, &deadline)
}
