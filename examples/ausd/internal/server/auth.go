package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/balrogapi"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
)

// Role is what a token may do.
type Role string

// The roles. Each has what stands before it, but for shutoff, which stands alone besides read.
const (
	RoleRead    Role = "read"    // see everything
	RoleEdit    Role = "edit"    // make drafts and upload
	RoleShutoff Role = "shutoff" // stop updates at once, and lift that
	RolePublish Role = "publish" // publish, revert
	// RoleReplicate is that of replicas: to be told everything, and to say what clients lack.
	RoleReplicate Role = "replicate"
)

// Roles returns all roles.
func Roles() []Role { return []Role{RoleRead, RoleEdit, RoleShutoff, RolePublish, RoleReplicate} }

// Token lets somebody do things from anywhere.
type Token struct {
	Name   string
	SHA256 string // of the token, in hexadecimal
	Roles  []Role
	// Products limits roles to products; a role that is not there has no limit.
	Products map[Role][]string
	// SignOffRoles are those in which its owner may agree to changes.
	SignOffRoles []string
	// System is a program, which agrees to nothing.
	System bool
	// Balrog says what its owner may do in Balrog's API; nil is what the roles say.
	Balrog map[string]balrogapi.Permission
}

// caller is who asks.
type caller struct {
	Token
}

// has says whether the caller has a role, be it limited.
func (c *caller) has(r Role) bool {
	return slices.ContainsFunc(c.Roles, func(held Role) bool { return held.includes(r) })
}

// includes says whether who has a role has another one by it.
func (r Role) includes(other Role) bool {
	return r == other || other == RoleRead || other == RoleEdit && r == RolePublish
}

// may says whether the caller has a role for all of some products; none is every product.
func (c *caller) may(r Role, products ...string) bool {
	for _, held := range c.Roles {
		if !held.includes(r) {
			continue
		}
		limit, limited := c.Products[held]
		if !limited {
			return true
		}
		if len(products) > 0 && !slices.ContainsFunc(products, func(p string) bool { return !slices.Contains(limit, p) }) {
			return true
		}
	}
	return false
}

// mayChange says whether the caller has a role for everything that operations change, before and after.
func (c *caller) mayChange(r Role, now *state.State, operations []state.Operation) bool {
	if c.may(r) {
		return true
	}
	for _, op := range operations {
		if was := now.Get(op.Ref); was != nil && !c.may(r, was.Products()...) {
			return false
		}
		if op.Body == nil {
			continue
		}
		ref := op.Ref
		if numbered, err := now.Number([]state.Operation{op}, func(state.Kind) (int64, error) { return 1, nil }); err == nil {
			ref, op = numbered[0].Ref, numbered[0]
		}
		o, err := state.NewObject(ref, op.Body)
		if err != nil || !c.may(r, o.Products()...) {
			return false
		}
	}
	return true
}

// balrog is the caller as Balrog's API sees him: with the permissions of his token, else those that his roles come to.
func (c *caller) balrog() *balrogapi.Caller {
	b := &balrogapi.Caller{Name: c.Name, System: c.System, Roles: c.SignOffRoles, Permissions: c.Balrog, Read: c.may(RoleRead)}
	if b.Permissions != nil {
		return b
	}
	b.Permissions = map[string]balrogapi.Permission{}
	if c.has(RolePublish) {
		b.Permissions["admin"] = balrogapi.Permission{Products: c.Products[RolePublish]}
	}
	if c.has(RoleShutoff) {
		b.Permissions["emergency_shutoff"] = balrogapi.Permission{Products: c.Products[RoleShutoff]}
	}
	return b
}

// who finds out who asks: the owner of a token, or, on this machine and not through a proxy, anybody, who may do everything. Nobody is
// nil.
func (s *Server) who(r *http.Request) *caller {
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return s.owner(bearer)
	}
	if s.local(r) {
		return &caller{Token{Name: "local", Roles: Roles()}}
	}
	return nil
}

// owner returns whose token a text is, or nil.
func (s *Server) owner(bearer string) *caller {
	sum := sha256.Sum256([]byte(bearer))
	given := hex.EncodeToString(sum[:])
	var found *caller
	for _, t := range s.opts.Tokens {
		if subtle.ConstantTimeCompare([]byte(given), []byte(strings.ToLower(t.SHA256))) == 1 {
			found = &caller{t}
		}
	}
	return found
}

// local says whether a request comes from this machine: the address of the connection is a loopback one, nobody passed it on, and it
// was addressed to a name of this machine, so that no page of another host can have sent it here.
func (s *Server) local(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return false
	}
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Forwarded", "Via"} {
		if r.Header.Get(name) != "" {
			return false
		}
	}
	name := r.Host
	if h, _, err := net.SplitHostPort(r.Host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	ip := net.ParseIP(name)
	return name == "localhost" || ip != nil && ip.IsLoopback()
}
