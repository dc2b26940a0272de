package config

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/examples/internal/database"
	"github.com/senbonzakura/senbonzakura/examples/internal/settings"
	"github.com/senbonzakura/senbonzakura/examples/internal/signers"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/toolchain"
)

// checker collects problems.
type checker struct {
	settings.Checker
	c     *Config
	below bool // directories can be made below that of the data
}

func (c *Config) checker() *checker { return &checker{Checker: settings.Checker{Reader: c.read}, c: c} }

// check says what is wrong, without changing anything and without asking the network. Files that are named are read.
func (k *checker) check() {
	c := k.c
	if strings.ContainsFunc(c.Name, func(r rune) bool { return r <= ' ' || r > '~' || r == '*' || r == '>' }) || len(c.Name) > 128 {
		k.Add("name", "%q is not 1 to 128 characters of printable ASCII without spaces, * and >", c.Name)
	}
	k.below = k.Known("data") && k.Directory("data", c.Data)
	k.own("cache.dir", c.Cache.Dir)
	k.cache()
	k.server()
	k.workers()
	k.queue()
	k.ledger()
	k.fetch()
	_, err := c.RuleSet()
	if wrong := (*trustError)(nil); errors.As(err, &wrong) {
		k.Add("toolchain.trust", "%q is neither complete nor version", c.Toolchain.Trust)
	} else {
		k.Try("toolchain.rules", err)
	}
	for _, f := range c.Toolchain.Formats {
		if !slices.Contains(partial.PatchFormats(), f) {
			k.Add("toolchain.formats", "%q is no patch format: want some of %q", f, partial.PatchFormats())
		}
	}
	k.storage()
	k.signing()
	k.auth()
	k.limits()
	if !slices.Contains([]string{"auto", "text", "json", "mozlog"}, c.Log.Format) {
		k.Add("log.format", "%q is none of auto, text, json, mozlog", c.Log.Format)
	}
	_, err = c.LogLevel()
	k.Try("log.level", err)
}

func (k *checker) cache() {
	c := &k.c.Cache
	if c.Memory != 0 {
		k.large("cache.memory", c.Memory)
	}
	k.large("cache.completes", c.Completes)
	k.large("cache.patches", c.Patches)
	k.large("cache.partials", c.Partials)
	k.large("cache.reports", c.Reports)
}

// large says whether a size is at least 1 MB: less is a slip.
func (k *checker) large(key string, size Size) {
	if size < 1<<20 {
		k.Add(key, "%s is too little: at least 1MB", size)
	}
}

// own looks at a directory that is in the data directory where nobody says otherwise: there it is no news that it cannot
// be made where that cannot be.
func (k *checker) own(key, dir string) {
	inData := strings.HasPrefix(dir+string(filepath.Separator), filepath.Clean(k.c.Data)+string(filepath.Separator))
	if k.below || !inData || k.c.Origin(key) != "" {
		k.Directory(key, dir)
	}
}

// MakeDirectories makes those that are not there yet, for their owner alone.
func (c *Config) MakeDirectories() error {
	dirs := map[string]string{"data": c.Data, "cache.dir": c.Cache.Dir}
	if c.Embedded() {
		dirs["queue.dir"] = c.Queue.Dir
	}
	if dsn, err := c.PostgresDSN(); err == nil && dsn == "" {
		dirs["ledger.sqlite"] = filepath.Dir(c.Ledger.SQLite)
	}
	if c.Signing.Journal != "" {
		dirs["signing.journal"] = filepath.Dir(c.Signing.Journal)
	}
	for _, key := range slices.Sorted(maps.Keys(dirs)) {
		if err := os.MkdirAll(dirs[key], 0o700); err != nil {
			return c.At(key, err)
		}
	}
	return nil
}

func (k *checker) server() {
	s := &k.c.Server
	if err := hostPort(s.Listen); err != nil {
		k.Try("server.listen", err)
	}
	if s.PublicURL != "" {
		u, err := url.Parse(s.PublicURL)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || strings.Trim(u.Path, "/") != "" {
			k.Add("server.public_url", "%q is not an address such as \"https://updates.example.com\"", s.PublicURL)
		}
	}
	proxies, err := prefixes(s.TrustedProxies)
	k.Try("server.trusted_proxies", err)
	for _, p := range proxies {
		if p.Bits() == 0 {
			k.Add("server.trusted_proxies", "%s is everybody: then anyone could say who asks, and nobody is banned", p)
		}
	}
	if s.ProxyHeader != "X-Forwarded-For" && s.ProxyHeader != "Forwarded" {
		k.Add("server.proxy_header", "%q is neither X-Forwarded-For nor Forwarded", s.ProxyHeader)
	}
	switch {
	case s.TLSCertificate == "" && s.TLSKey == "":
	case s.TLSCertificate == "":
		k.Add("server.tls_certificate", "is missing, but server.tls_key is there")
	case s.TLSKey == "":
		k.Add("server.tls_key", "is missing, but server.tls_certificate is there")
	default:
		if _, err := tls.LoadX509KeyPair(s.TLSCertificate, s.TLSKey); err != nil {
			k.Add("server.tls_certificate", "cannot be used with server.tls_key: %s", err)
		}
	}
}

func hostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT, such as \"127.0.0.1:8080\" or \":8080\"", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q is not a port from 0 to 65535", port)
	} else if n == 0 && host == "" {
		return fmt.Errorf("%q: port 0 needs an address", s)
	}
	return nil
}

func (k *checker) workers() {
	w := &k.c.Workers
	k.Between("workers.slots", w.Slots, -1, 1024)
	k.Between("workers.downloads", w.Downloads, 1, 10_000)
	k.Between("workers.per_caller", w.PerCaller, 0, 20_000)
	k.Between("workers.files", w.Files, 0, 1024)
	k.Between("workers.attempts", w.Attempts, 1, 100)
	if w.MaxMemory < 64<<20 {
		k.Add("workers.max_memory", "%s is too little: at least 64MB", w.MaxMemory)
	}
	k.AtLeast("workers.retry_delay", w.RetryDelay, "10ms")
	k.AtLeast("workers.job_timeout", w.JobTimeout, "1m")
}

func (k *checker) queue() {
	q := &k.c.Queue
	for _, raw := range q.URLs {
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
			k.Add("queue.urls", "%q is not an address such as \"nats://queue-1:4222\"", redacted(raw))
		}
	}
	switch {
	case !k.Known("queue.urls"): // so it is not known which queue the other keys are about
	case k.c.Embedded():
		k.embedded()
	default:
		for _, other := range []struct {
			key string
			set bool
		}{
			{"queue.listen", q.Listen != ""},
			{"queue.cluster_listen", q.ClusterListen != ""},
			{"queue.cluster_routes", len(q.ClusterRoutes) > 0},
			{"queue.lazy", q.Lazy},
		} {
			if other.set {
				k.Add(other.key, "is about the embedded queue, but queue.urls names another")
			}
		}
		if q.Credentials != "" {
			_, err := settings.ReadSmall(q.Credentials, 1<<20)
			k.Try("queue.credentials", err)
		}
	}
	if k.c.Shared() && k.c.Storage.Command == "" && !q.Objects && k.Known("queue.objects") {
		k.Add("storage.command", "is missing: servers that share a queue need a store that they share, too (or set queue.objects = true)")
	}
	if k.Known("queue.urls", "queue.tls_ca", "queue.tls_certificate", "queue.tls_key") {
		_, err := k.c.QueueTLS()
		k.Try("queue.tls_certificate", err)
	}
	if !slices.Contains([]int{0, 1, 3, 5}, q.Replicas) {
		k.Add("queue.replicas", "%d is none of 0 (automatic), 1, 3 and 5", q.Replicas)
	}
	if q.Prefix == "" || strings.ContainsFunc(q.Prefix, func(r rune) bool {
		return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) {
		k.Add("queue.prefix", "%q is not made of letters, digits, - and _", q.Prefix)
	}
	k.Between("queue.limit", q.Limit, 1, 1_000_000)
	k.Between("queue.per_caller", q.PerCaller, 0, 1_000_000)
	k.AtLeast("queue.ack_wait", q.AckWait, "1s")
	k.AtLeast("queue.timeout", q.Timeout, "100ms")
	k.AtLeast("queue.requeue", q.Requeue, "1s")
}

// embedded checks what is about the queue in this process.
func (k *checker) embedded() {
	q := &k.c.Queue
	if q.Credentials != "" {
		k.Add("queue.credentials", "is for the queue that queue.urls names, and there is none")
	}
	k.own("queue.dir", q.Dir)
	if q.Listen != "" {
		k.Try("queue.listen", hostPort(q.Listen))
		if hostPort(q.Listen) == nil && !loopback(q.Listen) {
			k.Add("queue.listen", "%s is reached by others, and whoever reaches it can do everything: only 127.0.0.1 and ::1", q.Listen)
		}
	}
	if q.ClusterListen == "" {
		if !k.Known("queue.cluster_listen") {
			return
		}
		if len(q.ClusterRoutes) > 0 {
			k.Add("queue.cluster_routes", "needs queue.cluster_listen")
		}
		if q.Replicas > 1 {
			k.Add("queue.replicas", "%d copies need a cluster (queue.cluster_listen or queue.urls)", q.Replicas)
		}
		return
	}
	k.Try("queue.cluster_listen", hostPort(q.ClusterListen))
	if !slices.ContainsFunc(q.ClusterRoutes, func(route string) bool { return route != q.ClusterListen }) {
		k.Add("queue.cluster_routes", "is missing: where are the other servers?")
	}
	for _, route := range q.ClusterRoutes {
		if err := hostPort(route); err != nil {
			k.Add("queue.cluster_routes", "%q is not HOST:PORT, such as \"queue-2:6222\"", route)
		}
	}
	if q.ClusterSecret != "" && q.ClusterSecretFile != "" {
		k.Add("queue.cluster_secret_file", "and queue.cluster_secret exclude each other")
	}
	value, err := k.c.ClusterSecret()
	switch {
	case err != nil:
		k.Try("queue.cluster_secret_file", err)
	case !k.Known("queue.cluster_secret_file"):
	case value == "" && !loopback(q.ClusterListen):
		k.Add("queue.cluster_secret", "is missing: without one whoever reaches %s can join the cluster", q.ClusterListen)
	}
}

// ClusterSecret is what servers with an embedded queue know each other by.
func (c *Config) ClusterSecret() (string, error) {
	return settings.SecretOf(c.Queue.ClusterSecret, c.Queue.ClusterSecretFile)
}

// QueueTLS is for the connections to the queue, or among the servers of the embedded one; nil where there is none.
func (c *Config) QueueTLS() (*tls.Config, error) {
	q := &c.Queue
	if q.TLSCA == "" && q.TLSCertificate == "" && q.TLSKey == "" {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if q.TLSCA != "" {
		data, err := settings.ReadSmall(q.TLSCA, 1<<20)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("%s (queue.tls_ca) has no certificate in PEM", q.TLSCA)
		}
		cfg.ClientCAs, cfg.ClientAuth = cfg.RootCAs, tls.RequireAndVerifyClientCert
	}
	if q.TLSCertificate != "" || q.TLSKey != "" {
		certificate, err := tls.LoadX509KeyPair(q.TLSCertificate, q.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("with queue.tls_key: %w", err)
		}
		cfg.Certificates = []tls.Certificate{certificate}
	}
	if c.Embedded() && (q.TLSCA == "" || q.TLSCertificate == "") {
		return nil, errors.New("a cluster needs queue.tls_ca, queue.tls_certificate and queue.tls_key, all of them")
	}
	return cfg, nil
}

func redacted(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(an address that cannot be parsed)"
	}
	return u.Redacted()
}

// PostgresDSN returns how to connect to PostgreSQL; "" means SQLite.
func (c *Config) PostgresDSN() (string, error) {
	return settings.SecretOf(c.Ledger.Postgres, c.Ledger.PostgresFile)
}

func (k *checker) ledger() {
	l := &k.c.Ledger
	if !k.Known("ledger.postgres", "ledger.postgres_file") {
		return // so it is not known whether it is a file
	}
	if l.Postgres != "" && l.PostgresFile != "" {
		k.Add("ledger.postgres_file", "and ledger.postgres exclude each other")
	}
	dsn, err := k.c.PostgresDSN()
	if err != nil {
		k.Try("ledger.postgres_file", err)
		return
	}
	if dsn != "" {
		if k.c.Origin("ledger.sqlite") != "" {
			k.Add("ledger.sqlite", "and %s exclude each other", k.c.PostgresKey())
		}
		k.Try(k.c.PostgresKey(), database.CheckDSN(dsn))
		return
	}
	if info, err := os.Stat(l.SQLite); err == nil && !info.Mode().IsRegular() {
		k.Add("ledger.sqlite", "%s is not a file", l.SQLite)
		return
	}
	k.own("ledger.sqlite", filepath.Dir(l.SQLite))
}

// PostgresKey is the key that says how to connect to PostgreSQL.
func (c *Config) PostgresKey() string {
	if c.Ledger.PostgresFile != "" {
		return "ledger.postgres_file"
	}
	return "ledger.postgres"
}

func (k *checker) fetch() {
	f := &k.c.Fetch
	for _, prefix := range f.Allow {
		u, err := url.Parse(prefix)
		switch {
		case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
			k.Add("fetch.allow", "%q is not the beginning of an address, such as \"https://archive.mozilla.org/pub/\"", redacted(prefix))
		case u.Scheme == "http" && !f.Insecure && k.Known("fetch.insecure"):
			k.Add("fetch.allow", "%q needs fetch.insecure = true", prefix)
		default:
			_, err := fetch.New(&fetch.Options{Prefixes: []string{prefix}, Insecure: true})
			k.Try("fetch.allow", err)
		}
	}
	_, err := prefixes(f.PrivateNetworks)
	k.Try("fetch.private_networks", err)
	for _, port := range f.Ports {
		k.Between("fetch.ports", port, 1, 65535)
	}
	if f.Proxy != "" {
		u, err := url.Parse(f.Proxy)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" {
			k.Add("fetch.proxy", "%q is not an address such as \"http://proxy:3128\"", redacted(f.Proxy))
		} else if len(f.Allow) == 0 && k.Known("fetch.allow") {
			k.Add("fetch.proxy", "needs fetch.allow: behind a proxy addresses cannot be checked")
		}
	}
	k.Between("fetch.attempts", f.Attempts, 1, 100)
	k.Between("fetch.per_host", f.PerHost, 1, 1000)
	k.AtLeast("fetch.stall", f.Stall, "1s")
	k.AtLeast("fetch.deadline", f.Deadline, "10s")
	if f.MinRate > 1<<30 {
		k.Add("fetch.min_rate", "%s in a second is more than any server sends", f.MinRate)
	}
	k.large("fetch.max_size", f.MaxSize)
}

func prefixes(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			addr, err := netip.ParseAddr(s)
			if err != nil {
				return nil, fmt.Errorf("%q is neither an address nor a network such as \"10.0.0.0/8\"", s)
			}
			p = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())
		}
		out = append(out, p)
	}
	return out, nil
}

// TrustedProxies returns the networks whose X-Forwarded-For is believed.
func (c *Config) TrustedProxies() ([]netip.Prefix, error) { return prefixes(c.Server.TrustedProxies) }

// PrivateNetworks returns the networks that may be fetched from although they are not public.
func (c *Config) PrivateNetworks() ([]netip.Prefix, error) { return prefixes(c.Fetch.PrivateNetworks) }

// Seal returns the secret that what is stored is sealed with; nil where there is none.
func (c *Config) Seal() ([]byte, error) {
	if c.Storage.SealFile == "" {
		return nil, nil
	}
	s, err := settings.SecretOf("", c.Storage.SealFile)
	if err == nil && len(s) < minSeal {
		err = fmt.Errorf("%s has %d characters, at least %d are needed", c.Storage.SealFile, len(s), minSeal)
	}
	return []byte(s), err
}

const minSeal = 32

// trustError says that toolchain.trust is at fault, not the rules.
type trustError struct{ error }

// RuleSet returns the built-in rules and those of the configured files. Products without rules are judged by their
// complete updates alone.
func (c *Config) RuleSet() (*toolchain.Set, error) {
	rules := toolchain.BuiltinRules()
	for _, name := range c.Toolchain.Rules {
		data, err := settings.ReadSmall(name, 1<<20)
		if err != nil {
			return nil, err
		}
		r, err := toolchain.ParseRules(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		rules = append(rules, r)
	}
	opts := &toolchain.SetOptions{AnyProduct: true}
	if err := opts.Trust.UnmarshalText([]byte(c.Toolchain.Trust)); err != nil {
		return nil, &trustError{err}
	}
	return toolchain.NewSet(rules, opts)
}

func (k *checker) storage() {
	s := &k.c.Storage
	switch {
	case s.Command != "":
		s.Check(&k.Checker, "storage.")
	case k.Known("storage.command"):
		if s.Presign.Duration > 0 && s.Presign != Default().Storage.Presign {
			k.Add("storage.presign", "needs a plugin (storage.command)")
		}
		if s.SHA256 != "" {
			k.Add("storage.command", "is missing, but storage.sha256 is there")
		}
		return
	}
	_, err := k.c.Seal()
	k.Try("storage.seal_file", err)
	if s.Prefix != "" && (!strings.HasSuffix(s.Prefix, "/") || strings.HasPrefix(s.Prefix, "/") || strings.Contains(s.Prefix, "//")) {
		k.Add("storage.prefix", "%q is not \"\" or names that each end with a slash, such as \"partiald/\"", s.Prefix)
	}
}

func (k *checker) signing() {
	s := &k.c.Signing
	s.Check(&k.Checker)
	if len(s.Plugins) > 0 && len(s.Keys) == 0 {
		k.Add("signing.keys", "is missing: plugins alone sign nothing")
	}
	for _, name := range s.Trust {
		_, err := signers.PublicKey(name)
		k.Try("signing.trust", err)
	}
	for _, name := range s.ClientKeys {
		_, err := signers.PublicKey(name)
		k.Try("signing.client_keys", err)
	}
	for _, r := range k.c.Requirements() {
		switch {
		case !slices.Contains(senbonzakura.Requirements(), r):
			k.Add("signing.require", "%q is none of %q", string(r), senbonzakura.Requirements())
		case r.Needs(senbonzakura.CheckSignatures) && len(s.Trust) == 0 && k.Known("signing.trust"):
			k.Add("signing.require", "%q needs keys to check signatures with (signing.trust)", string(r))
		}
	}
}

var tokenName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

func (k *checker) auth() {
	a := &k.c.Auth
	roles := []string{RoleRead, RoleSubmit, RoleOperate}
	if !slices.Contains(roles, a.Anonymous) && a.Anonymous != RoleNone {
		k.Add("auth.anonymous", "%q is none of none, read, submit, operate", a.Anonymous)
	}
	names, sums := map[string]bool{"anonymous": true}, map[[sha256.Size]byte]int{}
	for i := range a.Tokens {
		t := &a.Tokens[i]
		at := settings.Number("auth.tokens", i, "")
		switch {
		case t.Name == "":
			k.Add(at+"name", "is missing: it says in the history who asked")
		case !tokenName.MatchString(t.Name):
			k.Add(at+"name", "%q is not 1 to 64 letters, digits, \".\", \"_\" and \"-\"", t.Name)
		case names[t.Name]:
			k.Add(at+"name", "%q is taken", t.Name)
		}
		names[t.Name] = true
		switch {
		case t.Role == "":
			k.Add(at+"role", "is missing: read, submit or operate")
		case !slices.Contains(roles, t.Role):
			k.Add(at+"role", "%q is none of read, submit, operate", t.Role)
		}
		if t.Quota < 0 {
			k.Add(at+"quota", "%d is less than 0", t.Quota)
		}
		key := at + "hash"
		if t.TokenFile != "" {
			key = at + "token_file"
		}
		sum, err := t.Sum()
		other, twice := sums[sum]
		switch {
		case err != nil && !k.Known(at+"hash", at+"token_file"):
		case err != nil:
			k.Try(key, err)
		case twice:
			k.Add(key, "is that of %s, too", settings.Number("auth.tokens", other, "name"))
		default:
			sums[sum] = i
		}
	}
	if !k.c.Loopback() && a.Anonymous == RoleNone && len(a.Tokens) == 0 && k.Known("auth.anonymous") && hostPort(k.c.Server.Listen) == nil {
		by := k.c.Server.Listen
		if loopback(by) {
			by += " through a proxy (server.public_url, server.trusted_proxies)"
		}
		k.Add("auth.tokens", "is missing: others can reach %s, so say who may do what (\"partiald token\" makes one), or set auth.anonymous", by)
	}
	if k.Known("signing.require", "signing.keys") {
		for _, c := range k.c.Skippable() {
			if why := job.SkipForbidden(c, k.c.Requirements(), len(k.c.Signing.Keys) > 0); why != "" {
				k.Add("auth.skip", "%s", why)
			}
		}
	}
	k.Between("auth.quota", a.Quota, 0, 1_000_000_000)
	k.Between("auth.rate", a.Rate, 0, 1_000_000_000)
	k.Between("auth.failures", a.Failures, 0, 1_000_000)
	if a.Failures > 0 {
		k.AtLeast("auth.ban", a.Ban, "1s")
	}
}

const hashPrefix = "sha256:"

// HashToken is what the configuration keeps of a token.
func HashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hashPrefix + hex.EncodeToString(sum[:])
}

// MinToken is how short a token may be.
const MinToken = 20

// Sum returns the SHA-256 of the token.
func (t *Token) Sum() ([sha256.Size]byte, error) {
	var sum [sha256.Size]byte
	switch {
	case t.Hash == "" && t.TokenFile == "":
		return sum, errors.New("is missing (\"partiald token\" makes one), as is token_file")
	case t.Hash != "" && t.TokenFile != "":
		return sum, errors.New("and hash exclude each other")
	case t.TokenFile != "":
		token, err := settings.SecretOf("", t.TokenFile)
		if err != nil {
			return sum, err
		}
		if len(token) < MinToken {
			return sum, fmt.Errorf("the token in %s is shorter than %d characters", t.TokenFile, MinToken)
		}
		return sha256.Sum256([]byte(token)), nil
	}
	digits, ok := strings.CutPrefix(t.Hash, hashPrefix)
	raw, err := hex.DecodeString(digits)
	if !ok || err != nil || len(raw) != len(sum) {
		return sum, fmt.Errorf("is not %s and 64 hexadecimal digits (\"partiald token\" makes one)", hashPrefix)
	}
	return [sha256.Size]byte(raw), nil
}

func (k *checker) limits() {
	l := &k.c.Limits
	k.large("limits.upload", l.Upload)
	k.Between("limits.uploads", l.Uploads, 1, 10_000)
	k.Between("limits.uploads_each", l.UploadsEach, 1, 10_000)
	if l.UploadRate > 1<<30 {
		k.Add("limits.upload_rate", "%s in a second is more than any client sends", l.UploadRate)
	}
	k.Between("limits.batch", l.Batch, 1, 10_000)
	k.AtLeast("limits.wait", l.Wait, "1s")
	k.AtLeast("server.stop_timeout", k.c.Server.StopTimeout, "1s")
}

// LogLevel returns from which level on lines are logged.
func (c *Config) LogLevel() (slog.Level, error) {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[c.Log.Level]
	if !ok {
		return 0, fmt.Errorf("%q is none of debug, info, warn, error", c.Log.Level)
	}
	return level, nil
}
