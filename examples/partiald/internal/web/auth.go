package web

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// cookieName holds the token of somebody who logged in on the page. With TLS it is cookieSecure, which browsers send
// back to this host over TLS only, and take from no other host.
const (
	cookieName   = "partiald"
	cookieSecure = "__Host-partiald"
	cookieAge    = 12 * time.Hour
)

// find returns who has a token. All tokens are compared in full, so that time tells nothing.
func (s *server) find(token string) *caller {
	sum := sha256.Sum256([]byte(token))
	var found *caller
	for _, c := range s.callers {
		if subtle.ConstantTimeCompare(sum[:], c.hash[:]) == 1 {
			found = c
		}
	}
	return found
}

// presented returns the token that a request comes with.
func presented(r *http.Request, in *info) (token string, cookie bool) {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "bearer") {
		return strings.TrimSpace(token), false
	}
	name := cookieName
	if in.Secure { // where the other one may be from anybody in the same domain
		name = cookieSecure
	}
	if c, err := r.Cookie(name); err == nil && c.Value != "" {
		return c.Value, true
	}
	return "", false
}

// admit says whether somebody may ask at all: bans and the rate limit. Who has a token that is known is counted by it, and
// not kept out because of an address: whole fleets share one.
func (s *server) admit(r *http.Request, in *info) *Problem {
	var c *caller
	token, _ := presented(r, in)
	if token != "" {
		c = s.find(token)
	}
	key := in.Addr
	if c != nil {
		key = "token:" + c.name
	} else if ban, ok := s.svc.Banned(in.Addr); ok {
		// Where everybody here may operate, somebody has to be able to lift the ban.
		if token != "" || !in.Local || !s.anon.may(RoleOperate) {
			s.metrics.refused.WithLabelValues(string(codeBanned)).Inc()
			p := problem(codeBanned, "banned until %s: %s", ban.Until.UTC().Format(time.RFC3339), ban.Reason).after(time.Until(ban.Until))
			p.Retryable = false
			return p
		}
	}
	if ok, after := s.rate.add(r.Context(), key); !ok {
		s.metrics.refused.WithLabelValues(string(codeRate)).Inc()
		return problem(codeRate, "more than %d requests in %s", s.opts.Rate.Count, s.opts.Rate.Window).after(after)
	}
	return nil
}

// offend counts an authentication that failed, and bans the address from which too many come.
func (s *server) offend(r *http.Request, in *info, what string) {
	if !s.opts.BanAfter.on() || in.Local {
		return
	}
	if ok, _ := s.offence.add(r.Context(), in.Addr); ok {
		return
	}
	if _, banned := s.svc.Banned(in.Addr); banned {
		return // an operator who is let in all the same: it is in the ledger already
	}
	ctx, cancel := call(context.WithoutCancel(r.Context()))
	defer cancel()
	ban := job.Ban{Address: in.Addr, Until: time.Now().Add(s.opts.BanFor), Reason: what, By: "partiald"}
	who := job.Asker{Name: "partiald", Address: in.Addr, RequestID: in.ID}
	if err := s.svc.Ban(ctx, ban, who); err != nil {
		s.log.LogAttrs(ctx, slog.LevelError, "ban", slog.String("address", in.Addr), slog.Any("error", err))
		return
	}
	s.log.LogAttrs(ctx, slog.LevelWarn, "banned", slog.String("address", in.Addr), slog.String("reason", what),
		slog.Time("until", ban.Until), slog.String("request_id", in.ID))
}

// authorize finds out who asks and whether the route is for them.
func (s *server) authorize(w http.ResponseWriter, r *http.Request, in *info) *Problem {
	token, cookie := presented(r, in)
	if token != "" {
		c := s.find(token)
		switch {
		case c != nil:
			in.caller = c
		case cookie: // one that was taken out of the configuration since
			s.offend(r, in, "wrong tokens")
			clearCookies(w)
		default:
			s.metrics.refused.WithLabelValues(string(codeUnauthorized)).Inc()
			s.offend(r, in, "wrong tokens")
			return problem(codeUnauthorized, "the token is not known").header("WWW-Authenticate", `Bearer realm="partiald", error="invalid_token"`)
		}
	} else if r.Header.Get("Authorization") != "" {
		return problem(codeUnauthorized, "the Authorization header has no bearer token").header("WWW-Authenticate", `Bearer realm="partiald", error="invalid_request"`)
	}
	if in.caller.may(in.access.role) {
		return nil
	}
	if in.caller.token {
		s.metrics.refused.WithLabelValues(string(codeForbidden)).Inc()
		return problem(codeForbidden, "%s has not the role %s", in.caller.name, in.access.role)
	}
	s.metrics.refused.WithLabelValues(string(codeUnauthorized)).Inc()
	return problem(codeUnauthorized, "this needs a token with the role %s", in.access.role).header("WWW-Authenticate", `Bearer realm="partiald"`)
}

// quota counts n partials that are asked for against the caller's quota.
func (s *server) quota(ctx context.Context, n int) error {
	in := infoFrom(ctx)
	c := in.caller
	if !c.quota.on() {
		return nil
	}
	key := "quota:" + c.name
	if !c.token {
		key += ":" + in.Addr
	}
	ctx, cancel := call(ctx)
	defer cancel()
	ok, after, err := s.svc.Take(ctx, key, n, c.quota.Count, c.quota.Window)
	if err != nil {
		return err
	}
	if !ok {
		return problem(job.CodeQuota, "%s may ask for %d partials in %s", c.name, c.quota.Count, c.quota.Window).after(after)
	}
	return nil
}

// accepting refuses new work once a graceful stop began.
func (s *server) accepting() error {
	if s.svc.Ready() {
		return nil
	}
	return problem(job.CodeUnavailable, "this server is stopping; another one answers").after(2 * time.Second)
}

func setCookie(w http.ResponseWriter, in *info, token string) {
	c := &http.Cookie{
		Name: cookieName, Value: token, Path: "/", MaxAge: int(cookieAge / time.Second),
		HttpOnly: true, SameSite: http.SameSiteStrictMode,
	}
	if in.Secure {
		c.Name, c.Secure = cookieSecure, true
	}
	http.SetCookie(w, c)
}

func clearCookies(w http.ResponseWriter) {
	for _, name := range []string{cookieName, cookieSecure} {
		http.SetCookie(w, &http.Cookie{
			Name: name, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: name == cookieSecure,
		})
	}
}

// counter counts events of keys against a limit over all servers. To ask the service once for many events it counts
// in lumps of 2 % of the limit; a key that was over the limit is not asked for again before its time.
type counter struct {
	svc    job.Service
	prefix string
	limit  Limit
	lump   int

	mu   sync.Mutex
	keys map[string]*tally
	rest time.Time // the service did not answer and is not asked before then
}

type tally struct {
	pending int
	until   time.Time // refused until then
	seen    time.Time
}

// maxTallies bounds what is remembered; see sweep.
const maxTallies = 20_000

func newCounter(svc job.Service, prefix string, limit Limit) *counter {
	return &counter{svc: svc, prefix: prefix, limit: limit, lump: max(1, limit.Count/50), keys: map[string]*tally{}}
}

// add counts one event and says whether it is within the limit. A service that does not answer refuses nobody here:
// it will say so itself.
func (c *counter) add(ctx context.Context, key string) (ok bool, after time.Duration) {
	if !c.limit.on() {
		return true, 0
	}
	now := time.Now()
	c.mu.Lock()
	t := c.keys[key]
	if t == nil {
		c.sweep(now)
		t = &tally{}
		c.keys[key] = t
	}
	t.seen = now
	if wait := t.until.Sub(now); wait > 0 {
		c.mu.Unlock()
		return false, wait
	}
	t.pending++
	n := t.pending
	if n < c.lump || now.Before(c.rest) {
		c.mu.Unlock()
		return true, 0
	}
	t.pending = 0
	c.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	ok, after, err := c.svc.Take(ctx, c.prefix+key, n, c.limit.Count, c.limit.Window)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.rest = time.Now().Add(5 * time.Second)
		return true, 0
	}
	if ok {
		return true, 0
	}
	after = min(max(after, time.Second), c.limit.Window)
	t.until = time.Now().Add(after)
	return false, after
}

// sweep forgets keys that nobody came with for a window, and if that is not enough, all.
func (c *counter) sweep(now time.Time) {
	if len(c.keys) < maxTallies {
		return
	}
	for k, t := range c.keys {
		if now.Sub(t.seen) > c.limit.Window {
			delete(c.keys, k)
		}
	}
	if len(c.keys) >= maxTallies {
		clear(c.keys)
	}
}

// preferWait reads "Prefer: wait=N" (RFC 7240).
func preferWait(prefer string, most time.Duration) (time.Duration, error) {
	for p := range strings.SplitSeq(prefer, ",") {
		p, _, _ = strings.Cut(p, ";")
		k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		if !strings.EqualFold(strings.TrimSpace(k), "wait") {
			continue // what is not known is left alone
		}
		n, err := strconv.Atoi(strings.Trim(strings.TrimSpace(v), `"`))
		if err != nil || n < 0 {
			e := job.Errorf(job.CodeRequest, "wait is a number of seconds, not %.40q", v)
			e.Field = "Prefer"
			return 0, e
		}
		if n > int(most/time.Second) {
			return most, nil
		}
		return time.Duration(n) * time.Second, nil
	}
	return 0, nil
}

// isJSON says whether a Content-Type is JSON in UTF-8.
func isJSON(contentType string) bool {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "application/json" && !strings.HasSuffix(kind, "+json") {
		return false
	}
	charset := params["charset"]
	return charset == "" || strings.EqualFold(charset, "utf-8")
}

// accepts says whether an Accept header takes one of the kinds. None at all takes everything.
func accepts(header string, kinds ...string) bool {
	if strings.TrimSpace(header) == "" {
		return true
	}
	for part := range strings.SplitSeq(header, ",") {
		kind, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		if q, err := strconv.ParseFloat(params["q"], 64); err == nil && q == 0 {
			continue
		}
		if kind == "*/*" || slices.Contains(kinds, kind) {
			return true
		}
		if group, ok := strings.CutSuffix(kind, "/*"); ok {
			for _, k := range kinds {
				if strings.HasPrefix(k, group+"/") {
					return true
				}
			}
		}
	}
	return false
}
