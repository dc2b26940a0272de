package web

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Role is something that a caller may do.
type Role string

// The roles. Submit and operate include read.
const (
	RoleRead    Role = "read"    // see jobs, history and queue, and download partials
	RoleSubmit  Role = "submit"  // ask for partials, upload, cancel, try again
	RoleOperate Role = "operate" // purge, ban, see who did what
)

// Roles returns all roles.
func Roles() []Role { return []Role{RoleRead, RoleSubmit, RoleOperate} }

// Limit is how many of something there may be in a window of time. The zero Limit is none.
type Limit struct {
	Count  int
	Window time.Duration
}

func (l Limit) on() bool { return l.Count > 0 }

// Token lets one caller in.
type Token struct {
	// Name says who it is, in the ledger and in the logs: letters, digits, ".", "_" and "-".
	Name string
	// Secret is the token itself, SHA256 its SHA-256 in hexadecimal. One of the two is required; SHA256 keeps the
	// token out of the configuration. A token should have at least 128 bits that nobody can guess.
	Secret, SHA256 string
	Roles          []Role
	// Quota limits how many partials the caller may ask for, over all servers.
	Quota Limit
}

// Version is what /__version__ answers.
type Version struct {
	Source  string `json:"source"`  // address of the repository
	Version string `json:"version"` // of the service
	Commit  string `json:"commit"`
	Build   string `json:"build"` // address of what built it
}

// Options are for [New]. The zero value lets everybody do nothing: give Tokens or Anonymous.
type Options struct {
	Tokens []Token
	// Anonymous is what callers without a token may do; AnonymousQuota how many partials each of their addresses may
	// ask for.
	Anonymous      []Role
	AnonymousQuota Limit

	// Rate limits the requests of one token and, of those without one that is known, of one client address, over all
	// servers; they are counted in lumps of 2 %. An IPv6 address counts with its /64.
	Rate Limit
	// BanAfter is how many wrong tokens are too many; the address is banned for BanFor then (0 means 10 minutes). Loopback
	// and TrustedProxies are never banned by themselves, and callers with a token that is known are let in all the same.
	BanAfter Limit
	BanFor   time.Duration

	// TrustedProxies may say on whose behalf they ask, in ProxyHeader: X-Forwarded-For (the default) or Forwarded.
	TrustedProxies []netip.Prefix
	ProxyHeader    string
	// Hosts are the host names (without port) by which the service may be called; none means any. On a loopback
	// address without tokens this keeps web pages of others out (DNS rebinding).
	Hosts []string

	// MaxUpload is the most bytes of an upload, to refuse early what says that it is larger; the Service has the last
	// word. 0 means that only the Service decides.
	MaxUpload int64
	// UploadRate is how many bytes of an upload have to come in a second, on average over Stall; 0 means 4 KiB, less than 0
	// any number. Uploads is how many are taken at a time, UploadsEach how many of one caller; 0 means 64 and 8.
	UploadRate           int64
	Uploads, UploadsEach int
	// BodyTime is how long a request's body may take to arrive, but for uploads; Stall how long an upload, a download
	// or a stream of events may stand still before it is given up. 0 means 30 seconds and a minute.
	BodyTime, Stall time.Duration
	// MaxWait is the longest that "Prefer: wait=N" is honoured; 0 means a minute.
	MaxWait time.Duration
	// MaxHeld is how many streams of events and waiting requests one client address may have at a time; 0 means 1000.
	MaxHeld int
	// HealthAge is how old the answer of /__heartbeat__ may be; 0 means a second.
	HealthAge time.Duration
	// Skip are the checks that operators may leave out, for the form; the Service has the last word.
	Skip []string
	// Signs says that partials are signed: then the page of a job has that step.
	Signs bool
	// Sample offers to make a partial of a small release that is made on the spot. It is of no use where signatures are
	// wanted of the complete updates, which it does not have.
	Sample bool
	// Redirect sends downloads to where the storage has them (302) instead of passing the bytes on.
	Redirect bool

	Version  Version
	Registry *prometheus.Registry // for /metrics; nil means an own one
	Logger   *slog.Logger         // nil means slog.Default()
}

// OptionError says which option cannot be used.
type OptionError struct {
	Field  string // as in "Tokens[2].SHA256"
	Reason string
}

func (e *OptionError) Error() string { return fmt.Sprintf("web: %s: %s", e.Field, e.Reason) }

var tokenName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// caller is who asks.
type caller struct {
	name  string
	hash  [sha256.Size]byte // of the token
	roles []Role
	quota Limit
	token bool // came with one
}

// may says whether the caller has the role, or one that includes it.
func (c *caller) may(r Role) bool {
	return r == "" || slices.Contains(c.roles, r) || r == RoleRead && len(c.roles) > 0
}

// check fills in defaults and returns the callers that have a token.
func (o *Options) check() ([]*caller, error) {
	checkRoles := func(field string, roles []Role) error {
		for i, r := range roles {
			if !slices.Contains(Roles(), r) {
				return &OptionError{fmt.Sprintf("%s[%d]", field, i), fmt.Sprintf("there is no role %q: read, submit, operate", r)}
			}
		}
		return nil
	}
	checkLimit := func(field string, l Limit) error {
		if l.Count < 0 || l.Window < 0 || (l.Count > 0) != (l.Window > 0) {
			return &OptionError{field, "needs a count and a window, or neither"}
		}
		return nil
	}
	if err := checkRoles("Anonymous", o.Anonymous); err != nil {
		return nil, err
	}
	for field, l := range map[string]Limit{"AnonymousQuota": o.AnonymousQuota, "Rate": o.Rate, "BanAfter": o.BanAfter} {
		if err := checkLimit(field, l); err != nil {
			return nil, err
		}
	}
	callers := make([]*caller, 0, len(o.Tokens))
	for i, t := range o.Tokens {
		field := fmt.Sprintf("Tokens[%d]", i)
		if !tokenName.MatchString(t.Name) || t.Name == anonymous {
			return nil, &OptionError{field + ".Name", fmt.Sprintf("%q is no name: letters, digits, \".\", \"_\" and \"-\", and not %q", t.Name, anonymous)}
		}
		c := &caller{name: t.Name, roles: t.Roles, quota: t.Quota, token: true}
		switch {
		case (t.Secret == "") == (t.SHA256 == ""):
			return nil, &OptionError{field, "needs the token or its SHA-256, not both"}
		case t.Secret != "":
			if len(t.Secret) < 16 {
				return nil, &OptionError{field + ".Secret", "is shorter than 16 characters; make one with: openssl rand -hex 24"}
			}
			c.hash = sha256.Sum256([]byte(t.Secret))
		default:
			sum, err := hex.DecodeString(t.SHA256)
			if err != nil || len(sum) != sha256.Size {
				return nil, &OptionError{field + ".SHA256", "is not 64 hexadecimal digits; make it with: printf %s TOKEN | sha256sum"}
			}
			copy(c.hash[:], sum)
		}
		if len(t.Roles) == 0 {
			return nil, &OptionError{field + ".Roles", "has no role: read, submit, operate"}
		}
		if err := checkRoles(field+".Roles", t.Roles); err != nil {
			return nil, err
		}
		if err := checkLimit(field+".Quota", t.Quota); err != nil {
			return nil, err
		}
		for j, other := range callers {
			if other.name == c.name {
				return nil, &OptionError{field + ".Name", fmt.Sprintf("%q is that of Tokens[%d], too", t.Name, j)}
			}
			if other.hash == c.hash {
				return nil, &OptionError{field, fmt.Sprintf("is the same token as Tokens[%d]", j)}
			}
		}
		callers = append(callers, c)
	}
	switch http.CanonicalHeaderKey(o.ProxyHeader) {
	case "":
		o.ProxyHeader = headerXFF
	case headerXFF, headerForwarded:
		o.ProxyHeader = http.CanonicalHeaderKey(o.ProxyHeader)
	default:
		return nil, &OptionError{"ProxyHeader", fmt.Sprintf("%q: X-Forwarded-For or Forwarded", o.ProxyHeader)}
	}
	for i, h := range o.Hosts {
		if h == "" || strings.ContainsAny(h, "/@ ") {
			return nil, &OptionError{fmt.Sprintf("Hosts[%d]", i), fmt.Sprintf("%q is no host name", h)}
		}
	}
	if o.MaxUpload < 0 || o.MaxWait < 0 || o.BanFor < 0 || o.BodyTime < 0 || o.Stall < 0 || o.MaxHeld < 0 || o.HealthAge < 0 {
		return nil, &OptionError{"MaxUpload, MaxWait, BanFor, BodyTime, Stall, MaxHeld, HealthAge", "cannot be negative"}
	}
	if o.Uploads < 0 || o.UploadsEach < 0 {
		return nil, &OptionError{"Uploads, UploadsEach", "cannot be negative"}
	}
	o.UploadRate, o.Uploads, o.UploadsEach = cmp.Or(o.UploadRate, 4<<10), cmp.Or(o.Uploads, 64), cmp.Or(o.UploadsEach, 8)
	o.MaxHeld, o.HealthAge = cmp.Or(o.MaxHeld, 1000), cmp.Or(o.HealthAge, time.Second)
	o.BodyTime, o.Stall = cmp.Or(o.BodyTime, 30*time.Second), cmp.Or(o.Stall, time.Minute)
	if o.BanFor == 0 {
		o.BanFor = 10 * time.Minute
	}
	if o.MaxWait == 0 {
		o.MaxWait = time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	return callers, nil
}
