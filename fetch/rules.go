package fetch

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"code.dny.dev/ssrf"
)

// parse turns what a user wrote into a URL; a path becomes a file URL.
func parse(raw string) (*url.URL, error) {
	if !hasScheme(raw) {
		if raw == "" || strings.ContainsRune(raw, 0) {
			return nil, errors.New("empty")
		}
		abs, err := filepath.Abs(raw)
		if err != nil {
			return nil, err
		}
		return &url.URL{Scheme: "file", Path: filepath.ToSlash(abs)}, nil
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("does not parse") // the parser's error quotes the URL
	}
	return u, nil
}

// hasScheme tells URLs from paths. One letter before the colon is a drive.
func hasScheme(raw string) bool {
	scheme, _, ok := strings.Cut(raw, ":")
	if !ok || len(scheme) < 2 {
		return false
	}
	for i, c := range strings.ToLower(scheme) {
		switch {
		case c >= 'a' && c <= 'z':
		case i > 0 && (c >= '0' && c <= '9' || strings.ContainsRune("+-.", c)):
		default:
			return false
		}
	}
	return true
}

// redact returns a URL for logs and errors: without user, password, fragment and the values of the query.
func redact(u *url.URL) string {
	if u == nil {
		return "(malformed URL)"
	}
	c := *u
	c.User, c.Fragment, c.RawFragment = nil, "", ""
	if c.RawQuery != "" {
		c.RawQuery = "…"
	}
	if c.Opaque != "" {
		c.Opaque = "…"
	}
	if c.Scheme == "file" && c.Host == "" {
		return c.Path
	}
	// String would escape the ellipsis of the query no more than any other.
	return c.String()
}

// secrets returns the texts of a URL that must not appear anywhere.
func secrets(u *url.URL) []string {
	var found []string
	add := func(s string) {
		if len(s) >= 3 { // shorter ones would cross out innocent text
			found = append(found, s)
			if e := url.QueryEscape(s); e != s {
				found = append(found, e)
			}
			if e := url.PathEscape(s); e != s {
				found = append(found, e)
			}
		}
	}
	if u.User != nil {
		add(u.User.Username())
		p, _ := u.User.Password()
		add(p)
		if s := u.User.String(); len(s) >= 3 {
			found = append(found, s)
		}
	}
	if u.RawQuery != "" {
		add(u.RawQuery)
		for _, pair := range strings.Split(u.RawQuery, "&") {
			_, v, _ := strings.Cut(pair, "=")
			if len(v) >= 6 {
				found = append(found, v)
				if dec, err := url.QueryUnescape(v); err == nil {
					add(dec)
				}
			}
		}
	}
	if len(u.Fragment) >= 6 {
		add(u.Fragment)
	}
	return found
}

// scrubbed is an error whose text had secrets in it. It does not unwrap: what is inside would print them.
type scrubbed struct {
	text    string
	is      func(error) bool
	private [][2]string // what private tells about it
}

func (e *scrubbed) Error() string        { return e.text }
func (e *scrubbed) Is(target error) bool { return e.is(target) }

func scrub(err error, words []string) error {
	clean := func(text string) string {
		for _, w := range words {
			text = strings.ReplaceAll(text, w, "…")
		}
		return text
	}
	text := err.Error()
	if clean(text) == text {
		return err
	}
	// A server may repeat what it was sent, in where it redirects to above all.
	var notAllowed *NotAllowedError
	var address *AddressError
	switch {
	case errors.As(err, &notAllowed):
		return &NotAllowedError{URL: clean(notAllowed.URL), Hop: notAllowed.Hop, Reason: notAllowed.Reason}
	case errors.As(err, &address):
		return &AddressError{Host: clean(address.Host), Address: address.Address, Hop: address.Hop, Reason: address.Reason, Port: address.Port}
	}
	s := &scrubbed{text: clean(text), is: func(target error) bool { return errors.Is(err, target) }}
	private(err, func(found, instead string) { s.private = append(s.private, [2]string{clean(found), clean(instead)}) })
	return s
}

// prefix is one entry of the allow-list.
type prefix struct{ scheme, host, path string }

func parsePrefix(raw string) (prefix, error) {
	u, err := parse(raw)
	if err != nil {
		return prefix{}, fmt.Errorf("prefix: %w", err)
	}
	p := prefix{strings.ToLower(u.Scheme), canonicalHost(u), u.Path}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" || p.host == "" && p.scheme != "file" {
		return prefix{}, fmt.Errorf("prefix %s: want scheme://host/path and nothing else", redact(u))
	}
	if clean, ok := cleanPath(u); !ok {
		return prefix{}, fmt.Errorf("prefix %s: path is ambiguous", redact(u))
	} else if p.path = clean; p.path == "" {
		p.path = "/"
	}
	return p, nil
}

func (p prefix) allows(u *url.URL) bool {
	clean, ok := cleanPath(u)
	if !ok || strings.ToLower(u.Scheme) != p.scheme || canonicalHost(u) != p.host {
		return false
	}
	if clean == "" {
		clean = "/"
	}
	return clean == p.path || strings.HasPrefix(clean, strings.TrimSuffix(p.path, "/")+"/")
}

// cleanPath returns the path of a URL when there is only one way to read it: no dot segments, no empty ones, no
// escaped or backward slashes.
func cleanPath(u *url.URL) (string, bool) {
	p := u.Path
	if u.Opaque != "" || strings.ContainsAny(p, "\\\x00") {
		return "", false
	}
	lower := strings.ToLower(u.EscapedPath())
	if strings.Contains(lower, "%2f") || strings.Contains(lower, "%5c") || strings.Contains(lower, "%25") {
		return "", false
	}
	if p == "" || p == "/" {
		return p, true
	}
	return p, path.Clean(p) == strings.TrimSuffix(p, "/")
}

// canonicalHost returns host:port in lower case, the port of the scheme filled in.
func canonicalHost(u *url.URL) string {
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if host == "" {
		return ""
	}
	port := u.Port()
	if port == "" {
		switch strings.ToLower(u.Scheme) {
		case "https":
			port = "443"
		case "http":
			port = "80"
		}
	}
	return net.JoinHostPort(host, port)
}

// allowed says whether a URL may be asked after hop redirects, the last of them from one with scheme from.
func (c *Client) allowed(u *url.URL, hop int, from string) error {
	refuse := func(r Reason) error { return &NotAllowedError{URL: redact(u), Hop: hop, Reason: r} }
	scheme := strings.ToLower(u.Scheme)
	switch _, injected := c.openers[scheme]; {
	case u.Opaque != "":
		return refuse(ReasonMalformed)
	case scheme == "https", scheme == "http":
		switch {
		case u.Hostname() == "":
			return refuse(ReasonMalformed)
		case scheme == "http" && from == "https":
			return refuse(ReasonDowngrade)
		case scheme == "http" && !c.o.Insecure:
			return refuse(ReasonInsecure)
		}
	case hop > 0:
		return refuse(ReasonScheme) // a server does not choose how it is asked
	case scheme == "file":
		if !c.o.Files {
			return refuse(ReasonFile)
		}
		if u.Host != "" && u.Host != "localhost" || !path.IsAbs(u.Path) && !filepath.IsAbs(filepath.FromSlash(u.Path)) {
			return refuse(ReasonMalformed)
		}
	case !injected:
		return refuse(ReasonScheme)
	}
	if len(c.prefixes) == 0 {
		return nil
	}
	for _, p := range c.prefixes {
		if p.allows(u) {
			return nil
		}
	}
	return refuse(ReasonPrefix)
}

// guard decides about addresses when a connection is about to be made, after names were resolved.
type guard struct {
	public  *ssrf.Guardian
	allowed []netip.Prefix
}

func newGuard(o *Options) *guard {
	ports := o.Ports
	if len(ports) == 0 {
		ports = []uint16{443, 80}
	}
	return &guard{ssrf.New(ssrf.WithPorts(ports...)), o.AllowNetworks}
}

// control is for net.Dialer: address is numeric.
func (g *guard) control(network, address string, raw syscall.RawConn) error {
	if ap, err := netip.ParseAddrPort(address); err == nil && strings.HasPrefix(network, "tcp") {
		for _, p := range g.allowed {
			if p.Contains(ap.Addr().WithZone("")) {
				return nil
			}
		}
	}
	if err := g.public.Safe(network, address, raw); err != nil {
		return &AddressError{Address: address, Reason: err.Error(), Port: errors.Is(err, ssrf.ErrProhibitedPort)}
	}
	return nil
}

// literal refuses a URL whose host is a number, for when a proxy makes the connections.
func (g *guard) literal(u *url.URL) error {
	ip, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		// Numbers in other spellings: no public host's name ends in a digit.
		last := u.Hostname()
		last = strings.TrimSuffix(last, ".")
		last = last[strings.LastIndexByte(last, '.')+1:]
		if strings.EqualFold(last, "localhost") || last != "" && (last[len(last)-1] >= '0' && last[len(last)-1] <= '9') {
			return &AddressError{Host: u.Hostname(), Address: u.Host, Reason: "numeric or local host behind a proxy"}
		}
		return nil
	}
	_, port, _ := net.SplitHostPort(canonicalHost(u))
	network := "tcp4"
	if ip.Is6() {
		network = "tcp6"
	}
	err = g.control(network, net.JoinHostPort(ip.String(), port), nil)
	var refused *AddressError
	if errors.As(err, &refused) {
		refused.Host = u.Hostname()
	}
	return err
}
