package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Opener opens the URLs of a scheme that this package does not know, such as s3:. It must be safe for concurrent
// use.
type Opener interface {
	// Open returns the object, from an offset on where it can. The client's rules about schemes and prefixes
	// were applied before. An error is taken as one that may go away, unless it matches fs.ErrNotExist or
	// fs.ErrPermission, is one of this package's types that are not, or came from Permanent. Open must return
	// soon after ctx has ended, as must reads of the body.
	Open(ctx context.Context, u *url.URL, from Position) (*Object, error)
}

// Position says where an [Opener] should go on.
type Position struct {
	Offset    int64  // bytes that are there already
	Validator string // that of the object whose bytes they are; "" when Offset is 0
}

// Object is an open object.
type Object struct {
	Body io.ReadCloser
	// Offset is where Body starts: that of the Position if the object still is the one with that Validator,
	// else 0.
	Offset int64
	// Size is the size of the whole object in bytes, or -1.
	Size int64
	// Validator changes whenever the object does. With "" a broken download starts again from the beginning.
	Validator string
}

// Permanent marks an error of an [Opener] as one that asking again will not mend.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

// open opens a URL that was found to be allowed. What it returns must be closed.
func (c *Client) open(ctx context.Context, u *url.URL, from Position, w *watchdog) (*Object, error) {
	scheme := strings.ToLower(u.Scheme)
	switch scheme {
	case "https", "http":
		return c.openHTTP(ctx, u, from, w)
	case "file":
		return openFile(u, from)
	}
	host := canonicalHost(u)
	if err := c.hosts.acquire(ctx, host); err != nil {
		return nil, err
	}
	w.arm()
	o, err := c.openers[scheme].Open(ctx, u, from)
	if err != nil {
		c.hosts.release(host)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			err = Permanent(err)
		}
		return nil, err
	}
	if o.Offset != 0 && (o.Offset != from.Offset || o.Validator != from.Validator) {
		o.Body.Close()
		c.hosts.release(host)
		return nil, Permanent(fmt.Errorf("opener of %s goes on at %d with %q, asked for %d with %q",
			scheme, o.Offset, o.Validator, from.Offset, from.Validator))
	}
	released := *o
	released.Body = &slotBody{ReadCloser: o.Body, release: func() { c.hosts.release(host) }}
	return &released, nil
}

// slotBody gives the host's slot back when it is closed.
type slotBody struct {
	io.ReadCloser
	release func()
}

func (b *slotBody) Close() error {
	err := b.ReadCloser.Close()
	if b.release != nil {
		b.release()
		b.release = nil
	}
	return err
}

func openFile(u *url.URL, from Position) (*Object, error) {
	name := filepath.FromSlash(u.Path)
	st, err := os.Stat(name)
	if err != nil {
		return nil, Permanent(err)
	}
	if !st.Mode().IsRegular() { // to open a pipe would wait for its other end
		return nil, Permanent(fmt.Errorf("%s is not a regular file", u.Path))
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, Permanent(err)
	}
	o := &Object{Body: f}
	if st, err = f.Stat(); err == nil {
		o.Size, o.Validator = st.Size(), fmt.Sprintf("%d %d", st.Size(), st.ModTime().UnixNano())
		if from.Offset > 0 && from.Validator == o.Validator {
			o.Offset, err = f.Seek(from.Offset, io.SeekStart)
		}
	}
	if err != nil {
		f.Close()
		return nil, Permanent(err)
	}
	return o, nil
}

const (
	maxRedirects = 5
	maxHeader    = 64 << 10
)

// openHTTP asks for a URL and follows redirects, each of which must be allowed.
func (c *Client) openHTTP(ctx context.Context, u *url.URL, from Position, w *watchdog) (*Object, error) {
	seen := map[string]bool{}
	for hop := 0; ; hop++ {
		seen[u.String()] = true
		if c.o.Proxy != nil {
			if err := c.guard.literal(u); err != nil {
				return nil, dialError(err, u, hop)
			}
		}
		host := canonicalHost(u)
		w.disarm() // waiting for a slot is not the server's fault
		if err := c.hosts.acquire(ctx, host); err != nil {
			return nil, err
		}
		w.arm()
		resp, err := c.ask(ctx, u, from)
		if err != nil {
			c.hosts.release(host)
			return nil, scrub(dialError(err, u, hop), secrets(u))
		}
		resp.Body = &slotBody{ReadCloser: resp.Body, release: func() { c.hosts.release(host) }}
		next, err := redirect(resp, u)
		if err == nil && next == nil {
			o, err := answer(resp, from)
			if err != nil {
				resp.Body.Close()
			}
			return o, err
		}
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // so that the connection can be used again
		resp.Body.Close()
		switch {
		case err != nil:
			return nil, err
		case hop == maxRedirects:
			return nil, &NotAllowedError{URL: redact(next), Hop: hop + 1, Reason: ReasonRedirects}
		case seen[next.String()]:
			return nil, &NotAllowedError{URL: redact(next), Hop: hop + 1, Reason: ReasonLoop}
		}
		if err := c.allowed(next, hop+1, strings.ToLower(u.Scheme)); err != nil {
			return nil, err
		}
		u = next
	}
}

func (c *Client) ask(ctx context.Context, u *url.URL, from Position) (*http.Response, error) {
	plain := *u
	plain.User, plain.Fragment, plain.RawFragment = nil, "", ""
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, plain.String(), nil)
	if err != nil {
		return nil, Permanent(errors.New("malformed URL")) // the error quotes it
	}
	if u.User != nil {
		password, _ := u.User.Password()
		req.SetBasicAuth(u.User.Username(), password)
	}
	req.Header.Set("User-Agent", c.o.UserAgent)
	req.Header.Set("Accept", "*/*")
	req.Header.Set("Accept-Encoding", "identity") // the hash is over what the server has
	if from.Offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from.Offset))
		req.Header.Set("If-Range", from.Validator)
	}
	return c.transport.RoundTrip(req)
}

// dialError names what went wrong before there was an answer.
func dialError(err error, u *url.URL, hop int) error {
	var refused *AddressError
	var certificate *tls.CertificateVerificationError
	var noTLS tls.RecordHeaderError
	var dns *net.DNSError
	switch {
	case errors.As(err, &refused):
		return &AddressError{Host: u.Hostname(), Address: refused.Address, Hop: hop, Reason: refused.Reason, Port: refused.Port}
	case errors.As(err, &certificate), errors.As(err, &noTLS):
		return Permanent(err)
	case errors.As(err, &dns) && dns.IsNotFound:
		return Permanent(err)
	}
	return err
}

// redirect returns where a response leads to, or nil when it is not a redirect.
func redirect(resp *http.Response, u *url.URL) (*url.URL, error) {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect,
		http.StatusPermanentRedirect:
	default:
		return nil, nil
	}
	location := resp.Header.Get("Location")
	if location == "" {
		return nil, Permanent(fmt.Errorf("%w without a location", &StatusError{Code: resp.StatusCode}))
	}
	next, err := u.Parse(location)
	if err != nil {
		return nil, Permanent(fmt.Errorf("%w to a malformed location", &StatusError{Code: resp.StatusCode}))
	}
	next.Fragment, next.RawFragment = "", ""
	return next, nil
}

// answer makes an Object of a response that is no redirect.
func answer(resp *http.Response, from Position) (*Object, error) {
	if e := resp.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return nil, Permanent(fmt.Errorf("content encoding %.40q was not asked for", e))
	}
	o := &Object{Body: resp.Body, Size: -1, Validator: validator(resp.Header)}
	switch resp.StatusCode {
	case http.StatusOK:
		o.Size = resp.ContentLength
		return o, nil
	case http.StatusPartialContent:
		first, size, err := contentRange(resp.Header.Get("Content-Range"))
		if err != nil || from.Offset == 0 {
			return nil, Permanent(fmt.Errorf("unexpected partial content, range %.60q", resp.Header.Get("Content-Range")))
		}
		if first != from.Offset || o.Validator != "" && o.Validator != from.Validator {
			return nil, errChanged
		}
		o.Offset, o.Size, o.Validator = first, size, from.Validator
		return o, nil
	case http.StatusRequestedRangeNotSatisfiable:
		return nil, errChanged // shorter than it was
	}
	return nil, &StatusError{Code: resp.StatusCode, RetryAfter: retryAfter(resp.Header, time.Now())}
}

// errChanged: the object is not the one whose first bytes we have.
var errChanged = errors.New("it changed while it was being fetched")

// validator returns what If-Range takes: a strong entity tag, else the date of the last change.
func validator(h http.Header) string {
	if tag := h.Get("ETag"); len(tag) >= 2 && tag[0] == '"' && tag[len(tag)-1] == '"' {
		return tag
	}
	if t := h.Get("Last-Modified"); t != "" {
		if _, err := http.ParseTime(t); err == nil {
			return t
		}
	}
	return ""
}

// contentRange parses "bytes first-last/size"; size is -1 for "*".
func contentRange(s string) (first, size int64, err error) {
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, total, ok2 := strings.Cut(rest, "/")
	a, b, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, errors.New("malformed")
	}
	first, err1 := strconv.ParseInt(a, 10, 64)
	last, err2 := strconv.ParseInt(b, 10, 64)
	size = -1
	var err3 error
	if total != "*" {
		size, err3 = strconv.ParseInt(total, 10, 64)
	}
	if err := errors.Join(err1, err2, err3); err != nil {
		return 0, 0, err
	}
	if first < 0 || last < first || size >= 0 && last != size-1 {
		return 0, 0, errors.New("out of order, or not to the end")
	}
	return first, size, nil
}

// retryAfter reads both forms of Retry-After: seconds, and a date, which is compared with the server's own clock
// where it tells.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if s, err := strconv.ParseInt(v, 10, 64); err == nil {
		const longest = 365 * 24 * 3600
		return time.Duration(min(max(s, 0), longest)) * time.Second
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return max(0, at.Sub(now))
}
