package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"slices"
	"strings"
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
}

// caller is who asks.
type caller struct {
	name  string
	roles []Role
}

func (c *caller) may(r Role) bool {
	if slices.Contains(c.roles, r) {
		return true
	}
	switch r {
	case RoleRead:
		return len(c.roles) > 0
	case RoleEdit:
		return slices.Contains(c.roles, RolePublish)
	}
	return false
}

// who finds out who asks: the owner of a token, or, on this machine and not through a proxy, anybody, who may do everything. Nobody is
// nil.
func (s *Server) who(r *http.Request) *caller {
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		sum := sha256.Sum256([]byte(bearer))
		given := hex.EncodeToString(sum[:])
		var found *caller
		for _, t := range s.opts.Tokens {
			if subtle.ConstantTimeCompare([]byte(given), []byte(strings.ToLower(t.SHA256))) == 1 {
				found = &caller{t.Name, t.Roles}
			}
		}
		return found
	}
	if s.local(r) {
		return &caller{"local", Roles()}
	}
	return nil
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
