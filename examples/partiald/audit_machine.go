package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/internal/signers"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/config"
)

const (
	oldKey      = 2 * 365 * 24 * time.Hour
	certWarning = 30 * 24 * time.Hour
	slowSync    = 50 * time.Millisecond
	leastFree   = 1 << 30 // bytes that ledger and queue should have
	leastFiles  = 4096    // descriptors
)

// exposure looks who may reach the service and what it may reach.
func (u *auditor) exposure(context.Context) {
	c := u.c
	switch {
	case c.Loopback():
		u.good("reach", "only this machine can reach it (%s)", c.Server.Listen)
	case c.Auth.Anonymous == config.RoleOperate || c.Auth.Anonymous == config.RoleSubmit:
		u.find(bad, "callers without a token", "set auth.anonymous to \"read\" or \"none\", and give tokens", "others than this machine can reach it, and whoever comes %s", may(c.Auth.Anonymous))
	default:
		u.good("callers without a token", "%s; %d tokens", may(c.Auth.Anonymous), len(c.Auth.Tokens))
	}
	if !c.Loopback() && c.Server.TLSCertificate == "" && len(c.Server.TrustedProxies) == 0 {
		u.find(better, "encryption", "set server.tls_certificate, or put it behind a proxy and name that in server.trusted_proxies", "tokens and updates travel in the clear")
	}
	if c.Fetch.Insecure {
		u.find(better, "fetch.insecure", "leave it out in production", "completes may come by http: whoever is on the way can keep them back, though not change them")
	}
	if len(c.Fetch.PrivateNetworks) > 0 {
		u.find(better, "fetch.private_networks", "keep it as small as it can be", "callers can have the service ask addresses in %s", strings.Join(c.Fetch.PrivateNetworks, ", "))
	}
	if len(c.Fetch.Allow) == 0 {
		u.find(better, "fetch.allow", "name the origins that your completes are on", "completes may come from any public host")
	} else {
		u.good("fetch.allow", "only %s", strings.Join(masked(c.Fetch.Allow), ", "))
	}
	if len(c.Signing.Keys) > 0 && len(c.Signing.Trust) == 0 {
		u.find(better, "signing.trust", "name the keys that your complete updates are signed with", "what is signed comes from completes whose own signatures nobody checks")
	}
	if len(c.Auth.Skip) > 0 {
		u.find(better, "auth.skip", "take it out when the exception is over", "operators may leave out checks: %s", strings.Join(c.Auth.Skip, ", "))
	}
	if c.Auth.Rate == 0 {
		u.find(better, "auth.rate", "set it", "one address may ask as often as it likes")
	}
	if u.a.chaos != "" {
		u.find(bad, "--chaos", "", "faults are injected")
	}
}

// keys looks at keys, certificates and secrets, and their ages.
func (u *auditor) keys(context.Context) {
	c := u.c
	for i := range c.Signing.Keys {
		u.publicKey("signing key "+c.Signing.Keys[i].Called(), c.Signing.Keys[i].PublicKey)
	}
	for _, name := range c.Signing.Trust {
		u.publicKey("trusted key "+filepath.Base(name), name)
	}
	if c.Server.TLSCertificate != "" {
		u.certificate("server.tls_certificate", c.Server.TLSCertificate)
	}
	if c.Queue.TLSCertificate != "" {
		u.certificate("queue.tls_certificate", c.Queue.TLSCertificate)
	}
	secrets := map[string]string{
		"server.tls_key": c.Server.TLSKey, "queue.tls_key": c.Queue.TLSKey, "queue.cluster_secret_file": c.Queue.ClusterSecretFile,
		"ledger.postgres_file": c.Ledger.PostgresFile, "storage.seal_file": c.Storage.SealFile, "queue.credentials": c.Queue.Credentials,
	}
	for i := range c.Auth.Tokens {
		secrets[fmt.Sprintf("auth.tokens[%d].token_file", i)] = c.Auth.Tokens[i].TokenFile
	}
	for _, list := range slices.Concat([]signers.Plugin{c.Storage.Plugin}, pluginsOf(c)) {
		for _, s := range list.Secrets {
			if name, file, ok := strings.Cut(s, "="); ok {
				secrets["secret "+name] = file
			}
		}
	}
	names := make([]string, 0, len(secrets))
	for name, file := range secrets {
		if file != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		u.secret(name, secrets[name])
	}
	if len(names) == 0 && len(c.Signing.Keys)+len(c.Signing.Trust) == 0 && c.Server.TLSCertificate == "" {
		u.unchecked("keys", "none is configured: partials are not signed, and completes may be signed by anybody")
	}
}

func pluginsOf(c *config.Config) []signers.Plugin {
	var out []signers.Plugin
	for i := range c.Signing.Plugins {
		out = append(out, c.Signing.Plugins[i].Plugin)
	}
	return out
}

// publicKey looks at the size of a key and the age of its file.
func (u *auditor) publicKey(what, name string) {
	key, err := signers.PublicKey(name)
	if u.errorOf(what, "put the public key there, as PEM", err) {
		return
	}
	size := "of a kind that is not known here"
	switch key := key.(type) {
	case *rsa.PublicKey:
		size = fmt.Sprintf("RSA with %d bits", key.N.BitLen())
		if key.N.BitLen() < 2048 {
			u.find(bad, what, "make one with 4096 bits", "%s: too short", size)
			return
		}
	case *ecdsa.PublicKey:
		size = "ECDSA " + key.Curve.Params().Name
	case ed25519.PublicKey:
		size = "Ed25519"
	}
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		u.good(what, "%s, built in", size)
		return
	}
	if u.errorOf(what, "", err) {
		return
	}
	age := u.now.Sub(info.ModTime())
	if age > oldKey {
		u.find(better, what, "plan its successor", "%s; its file is %s old", size, days(age))
		return
	}
	u.good(what, "%s; its file is %s old", size, days(age))
	if data, err := os.ReadFile(name); err == nil && bytes.Contains(data, []byte("CERTIFICATE")) {
		u.certificate(what, name)
	}
}

func days(d time.Duration) string {
	switch n := int(d / (24 * time.Hour)); n {
	case 0:
		return "less than a day"
	case 1:
		return "1 day"
	default:
		return fmt.Sprintf("%d days", n)
	}
}

// certificate looks when a certificate ends.
func (u *auditor) certificate(what, name string) {
	data, err := os.ReadFile(name)
	if u.errorOf(what, "", err) {
		return
	}
	block, _ := pem.Decode(data)
	if block == nil {
		u.find(bad, what, "", "%s has no PEM block", name)
		return
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if u.errorOf(what, "", err) {
		return
	}
	left := cert.NotAfter.Sub(u.now)
	switch {
	case left < 0:
		u.find(bad, what, "renew it: the file is read again by itself", "ended on %s", cert.NotAfter.Format(time.DateOnly))
	case cert.NotBefore.After(u.now):
		u.find(bad, what, "look at the clock", "begins on %s", cert.NotBefore.Format(time.DateOnly))
	case left < certWarning:
		u.find(better, what, "renew it: the file is read again by itself", "ends in %s", days(left))
	default:
		u.good(what, "good for %s yet", days(left))
	}
}

// secret looks who can read a file.
func (u *auditor) secret(what, name string) {
	info, err := os.Stat(name)
	if u.errorOf(what, "", err) {
		return
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o007 != 0 {
		u.find(bad, what, "chmod 0600 "+name, "everybody on the machine can read %s (mode %o)", name, info.Mode().Perm())
		return
	}
	u.good(what, "mode %o, %s old", info.Mode().Perm(), days(u.now.Sub(info.ModTime())))
}

// limits compares what is configured with what the machine has.
func (u *auditor) limits(context.Context) {
	c := u.c
	m := machine()
	need := int64(c.Workers.MaxMemory) + int64(c.Cache.Memory) + memoryBeside
	switch {
	case m.memory == 0:
		u.unchecked("memory", "this machine does not say how much it has; the service takes about %s", config.Size(need))
	case need > m.memory*9/10:
		u.find(bad, "memory", "lower workers.max_memory, or give it more", "the service may take %s, and there are %s", size(need), size(m.memory))
	default:
		u.good("memory", "the service may take %s of %s", size(need), size(m.memory))
	}
	switch {
	case m.files == 0:
		u.unchecked("descriptors", "this machine does not say how many a process may have")
	case m.files < leastFiles:
		u.find(better, "descriptors", "LimitNOFILE=65536 in the unit, or ulimit -n", "a process may have %d, here and now", m.files)
	default:
		u.good("descriptors", "a process may have %d, here and now", m.files)
	}
	cpus := runtime.NumCPU()
	if c.Workers.Slots > cpus {
		u.find(better, "workers.slots", "as many as processors at most", "%d jobs at a time on %d processors", c.Workers.Slots, cpus)
	} else {
		u.good("workers.slots", "%d jobs at a time on %d processors", c.Workers.Slots, cpus)
	}
	if c.Shared() && max(1, c.Queue.Replicas) < 3 {
		u.find(better, "queue.replicas", "three servers, and 3 of each thing", "%d: one server that is lost takes the queue with it; the ledger puts back what was not finished", max(1, c.Queue.Replicas))
	}
}

// size writes bytes so that people can compare them.
func size(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%.0f GiB", float64(n)/(1<<30))
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
}

// disk looks whether there is room, and whether what is written is safe.
func (u *auditor) disk(context.Context) {
	c := u.c
	limit := int64(c.Cache.Completes) + int64(c.Cache.Patches) + int64(c.Cache.Partials) + 3*int64(c.Cache.Reports)
	for _, d := range []struct {
		what, dir string
		cache     bool
	}{{"data", c.Data, false}, {"cache.dir", c.Cache.Dir, true}} {
		dir := existing(d.dir)
		free, err := freeBytes(dir)
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			u.unchecked(d.what+", room", "this machine does not say how much there is")
		case err != nil:
			u.errorOf(d.what+", room", "", err)
		case d.cache:
			used := dirSize(d.dir)
			if free+used < limit {
				u.find(better, d.what+", room", "lower the limits in [cache], or give it a larger disk", "the cache may grow to %s, and there are %s for it: room is made in time, but jobs wait for it", size(limit), size(free+used))
			} else {
				u.good(d.what+", room", "the cache may grow to %s, and there are %s for it", size(limit), size(free+used))
			}
		case free < leastFree:
			u.find(bad, d.what+", room", "give it room", "%s left for ledger and queue", size(free))
		default:
			u.good(d.what+", room", "%s left", size(free))
		}
		if dir != d.dir {
			u.unchecked(d.what+", writing", "%s is not there yet: it is made at the first start", d.dir)
			continue
		}
		took, err := syncTime(d.dir)
		switch {
		case err != nil:
			u.find(bad, d.what+", writing", "the service's user must own "+d.dir, "%v", err)
		case took > slowSync:
			u.find(better, d.what+", writing", "a faster disk for "+d.dir, "to make a write safe takes %s: each job waits for several", took.Round(time.Millisecond))
		default:
			u.good(d.what+", writing", "to make a write safe takes %s", took.Round(time.Microsecond*10))
		}
	}
}

// existing is the directory itself, or the nearest one above that is there.
func existing(dir string) string {
	for {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return dir
		}
		dir = up
	}
}

// dirSize is about what the files in a directory take.
func dirSize(dir string) int64 {
	var total int64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error { // what cannot be seen is not counted
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				total += info.Size()
			}
		}
		return nil
	})
	return total
}

// syncTime is how long it takes to make a small write safe: the middle of seven.
func syncTime(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, ".audit-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, 4096)
	if _, err := io.ReadFull(rand.Reader, block); err != nil {
		return 0, err
	}
	var took []time.Duration
	for range 7 {
		begin := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// clock asks the machine whether its clock is kept right.
func (u *auditor) clock(context.Context) {
	synced, off, err := clockState()
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		u.unchecked("time", "this machine does not say whether its clock is kept right")
	case err != nil:
		u.unchecked("time", "%v", err)
	case !synced:
		u.find(better, "time", "run chrony, ntpd or systemd-timesyncd", "nothing keeps the clock right: times in the history may be wrong, though no lease depends on them")
	default:
		u.good("time", "the clock is kept right, to about %s", off.Round(time.Microsecond))
	}
}

// hardware is what a machine says of itself; 0 where it does not.
type hardware struct{ memory, files int64 }
