// Package config has the configuration of partiald: one TOML file, the environment over it, and defaults under it that
// make a service for one machine without any file. What is wrong is reported together, what cannot be read and what
// cannot be used, each problem with its key and the place it comes from.
//
//	defaults  <  file (--config)  <  environment (PARTIALD_SECTION_KEY)  <  flags
//
// docs/partiald.toml documents every key.
package config

import (
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/examples/internal/settings"
	"github.com/senbonzakura/senbonzakura/examples/internal/signers"
)

// What keys hold, and what may be wrong with them.
type (
	// Duration is a time span.
	Duration = settings.Duration
	// Size is a number of bytes.
	Size = settings.Size
	// Secret is a value that is never printed.
	Secret = settings.Secret
	// Problem is something that is wrong.
	Problem = settings.Problem
	// Error is all that is wrong.
	Error = settings.Error
)

// Config is the whole configuration. The zero value is not usable: begin with [Default] or [Load].
type Config struct {
	Name      string    `toml:"name"`
	Data      string    `toml:"data"`
	Server    Server    `toml:"server"`
	Workers   Workers   `toml:"workers"`
	Queue     Queue     `toml:"queue"`
	Ledger    Ledger    `toml:"ledger"`
	Cache     Cache     `toml:"cache"`
	Fetch     Fetch     `toml:"fetch"`
	Toolchain Toolchain `toml:"toolchain"`
	Storage   Storage   `toml:"storage"`
	Signing   Signing   `toml:"signing"`
	Auth      Auth      `toml:"auth"`
	Limits    Limits    `toml:"limits"`
	Log       Log       `toml:"log"`

	read *settings.Reader
}

// Server is how the service is reached.
type Server struct {
	Listen         string   `toml:"listen"`
	PublicURL      string   `toml:"public_url"`
	TrustedProxies []string `toml:"trusted_proxies"`
	ProxyHeader    string   `toml:"proxy_header"`
	TLSCertificate string   `toml:"tls_certificate"`
	TLSKey         string   `toml:"tls_key"`
	StopTimeout    Duration `toml:"stop_timeout"`
}

// Workers is how much is worked on at a time.
type Workers struct {
	Slots      int      `toml:"slots"`
	Downloads  int      `toml:"downloads"`
	PerCaller  int      `toml:"per_caller"`
	Files      int      `toml:"files"`
	MaxMemory  Size     `toml:"max_memory"`
	Attempts   int      `toml:"attempts"`
	RetryDelay Duration `toml:"retry_delay"`
	JobTimeout Duration `toml:"job_timeout"`
}

// Queue is the embedded NATS server or the cluster to use instead.
type Queue struct {
	URLs              []string `toml:"urls"`
	Credentials       string   `toml:"credentials"`
	Dir               string   `toml:"dir"`
	Lazy              bool     `toml:"lazy"`
	Listen            string   `toml:"listen"`
	ClusterListen     string   `toml:"cluster_listen"`
	ClusterRoutes     []string `toml:"cluster_routes"`
	ClusterSecret     Secret   `toml:"cluster_secret"`
	ClusterSecretFile string   `toml:"cluster_secret_file"`
	TLSCA             string   `toml:"tls_ca"`
	TLSCertificate    string   `toml:"tls_certificate"`
	TLSKey            string   `toml:"tls_key"`
	Prefix            string   `toml:"prefix"`
	Replicas          int      `toml:"replicas"`
	Objects           bool     `toml:"objects"`
	Limit             int      `toml:"limit"`
	PerCaller         int      `toml:"per_caller"`
	AckWait           Duration `toml:"ack_wait"`
	Timeout           Duration `toml:"timeout"`
	Requeue           Duration `toml:"requeue"`
}

// Ledger is where the history is.
type Ledger struct {
	SQLite       string `toml:"sqlite"`
	Postgres     Secret `toml:"postgres"`
	PostgresFile string `toml:"postgres_file"`
}

// Cache is what is kept on this machine.
type Cache struct {
	Dir       string   `toml:"dir"`
	Memory    Size     `toml:"memory"`
	Completes Size     `toml:"completes"`
	Patches   Size     `toml:"patches"`
	Partials  Size     `toml:"partials"`
	Reports   Size     `toml:"reports"`
	Age       Duration `toml:"age"`
}

// Fetch is what may be downloaded and how stubbornly.
type Fetch struct {
	Allow           []string `toml:"allow"`
	Insecure        bool     `toml:"insecure"`
	PrivateNetworks []string `toml:"private_networks"`
	Ports           []int    `toml:"ports"`
	Proxy           string   `toml:"proxy"`
	MaxSize         Size     `toml:"max_size"`
	Attempts        int      `toml:"attempts"`
	Stall           Duration `toml:"stall"`
	MinRate         Size     `toml:"min_rate"`
	Deadline        Duration `toml:"deadline"`
	PerHost         int      `toml:"per_host"`
}

// Toolchain is which rules select how an update is made.
type Toolchain struct {
	Rules []string `toml:"rules"`
	Trust string   `toml:"trust"`
	// Formats are those that patches may be in, for requests that do not say.
	Formats []string `toml:"formats"`
}

// Storage is where artifacts are kept beside the cache.
type Storage struct {
	signers.Plugin
	Prefix   string   `toml:"prefix"`
	Presign  Duration `toml:"presign"`
	SealFile string   `toml:"seal_file"`
}

// Signing is who signs what.
type Signing struct {
	signers.Config
	Trust []string `toml:"trust"`
	// ClientKeys are built into the installed clients.
	ClientKeys []string `toml:"client_keys"`
	Require    []string `toml:"require"`
}

// Auth is who may do what, and how often.
type Auth struct {
	Anonymous string   `toml:"anonymous"`
	Tokens    []Token  `toml:"tokens"`
	Quota     int      `toml:"quota"`
	Rate      int      `toml:"rate"`
	Failures  int      `toml:"failures"`
	Ban       Duration `toml:"ban"`
	Skip      []string `toml:"skip"`
}

// Token is somebody who may call the API.
type Token struct {
	Name      string `toml:"name"`
	Role      string `toml:"role"`
	Hash      string `toml:"hash"`
	TokenFile string `toml:"token_file"`
	Quota     int    `toml:"quota"`
}

// Limits bound what requests may cost.
type Limits struct {
	Upload      Size     `toml:"upload"`
	UploadRate  Size     `toml:"upload_rate"`
	Uploads     int      `toml:"uploads"`
	UploadsEach int      `toml:"uploads_each"`
	Batch       int      `toml:"batch"`
	Wait        Duration `toml:"wait"`
}

// Log is what is logged and how.
type Log struct {
	Format string `toml:"format"`
	Level  string `toml:"level"`
}

// Roles, from the least to the most.
const (
	RoleNone    = "none"
	RoleRead    = "read"
	RoleSubmit  = "submit"
	RoleOperate = "operate"
)

// Default returns what holds without a file: loopback only, everything else on this machine. Values that depend on the
// machine are empty; [Load] fills them in.
func Default() *Config {
	c := &Config{
		Server:  Server{Listen: "127.0.0.1:8080", ProxyHeader: "X-Forwarded-For", StopTimeout: Duration{Duration: 10 * time.Second}},
		Workers: Workers{Downloads: 128, MaxMemory: 1 << 30, Attempts: 5, RetryDelay: Duration{Duration: 15 * time.Second}, JobTimeout: Duration{Duration: 2 * time.Hour}},
		Queue: Queue{
			Prefix: "partiald", Limit: 10000,
			AckWait: Duration{Duration: 30 * time.Second}, Timeout: Duration{Duration: 5 * time.Second}, Requeue: Duration{Duration: 30 * time.Second},
		},
		Cache:   Cache{Memory: 64 << 20, Completes: 20 << 30, Patches: 10 << 30, Partials: 20 << 30, Reports: 1 << 30},
		Fetch:   Fetch{MaxSize: 2 << 30, Attempts: 6, Stall: Duration{Duration: 30 * time.Second}, MinRate: 32 << 10, Deadline: Duration{Duration: time.Hour}, PerHost: 4},
		Storage: Storage{Plugin: signers.Plugin{Timeout: Duration{Duration: 30 * time.Second}}, Prefix: "partiald/", Presign: Duration{Duration: 15 * time.Minute}},
		Signing: Signing{Require: require()},
		Auth:    Auth{Rate: 1200, Failures: 20, Ban: Duration{Duration: 15 * time.Minute}},
		Limits:  Limits{Upload: 500 << 20, UploadRate: 4 << 10, Uploads: 64, UploadsEach: 8, Batch: 1000, Wait: Duration{Duration: 5 * time.Minute}},
		Log:     Log{Format: "auto", Level: "info"},
	}
	c.read = settings.New(c, func() any { return Default() }, settings.Options{Prefix: "PARTIALD_"})
	return c
}

// Load reads a file ("" for none) and variables, as os.Environ has them, over the defaults. What flags change comes
// after it, and then [Config.Finish], which says everything that is wrong.
func Load(file string, environ []string) *Config {
	c := Default()
	c.read.Load(file, environ)
	return c
}

// Unreadable says what of file and environment cannot be read, in an [*Error], for those who do not care whether the
// rest can be used. [Config.Finish] says it as well.
func (c *Config) Unreadable() error { return c.read.Unreadable() }

// Fill fills in what depends on the machine, for those who do not care whether everything can be used. The error, an
// [*Error], says what cannot be read, and which directories there are not.
func (c *Config) Fill() error {
	k := c.checker()
	k.fill()
	return c.read.All(k.Problems)
}

// Finish fills in what depends on the machine and says everything that is wrong, in an [*Error]: what cannot be read and
// what cannot be used, in the order of the file. What only follows from a value that could not be read is left out.
func (c *Config) Finish() error {
	k := c.checker()
	k.fill()
	k.check()
	return c.read.All(k.Problems)
}

// At names the place of a key in a problem that is found later, such as a server that does not answer.
func (c *Config) At(key string, err error) error { return c.read.At(key, err) }

// Set replaces a key by what a flag says.
func (c *Config) Set(key, value, flag string) error { return c.read.Set(key, value, flag) }

// Origin says where a key was set: a line of the file, a variable, a flag; "" for the default.
func (c *Config) Origin(key string) string { return c.read.Origin(key) }

// Print writes the configuration that holds as TOML. Secrets are masked, and where a value is not the default a comment
// says where it was set.
func (c *Config) Print(w io.Writer) error { return c.read.Print(w) }

// require is what must hold before something is signed, by default.
func require() []string {
	var names []string
	for _, r := range senbonzakura.DefaultRequirements() {
		names = append(names, string(r))
	}
	return names
}

// Requirements is what must hold before something is signed; never nil.
func (c *Config) Requirements() []senbonzakura.Requirement {
	list := make([]senbonzakura.Requirement, 0, len(c.Signing.Require))
	for _, name := range c.Signing.Require {
		list = append(list, senbonzakura.Requirement(name))
	}
	return list
}

// Skippable are the checks that operators may leave out.
func (c *Config) Skippable() []senbonzakura.Check {
	var list []senbonzakura.Check
	for _, name := range c.Auth.Skip {
		list = append(list, senbonzakura.Check(name))
	}
	return list
}

// Dev loosens what stands in the way of trying things out on one's own machine.
func (c *Config) Dev() {
	c.Fetch.Insecure = true
	c.Fetch.PrivateNetworks = append(c.Fetch.PrivateNetworks, "127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
	c.Log.Level = "debug"
	for _, key := range []string{"fetch.insecure", "fetch.private_networks", "log.level"} {
		c.read.Note(key, "--dev")
	}
}

// fill gives keys their values that depend on this machine.
func (k *checker) fill() {
	c := k.c
	if c.Name == "" {
		name, err := os.Hostname()
		if err != nil {
			k.Add("name", "this machine has no name (%s): set one", err)
		}
		c.Name = name
	}
	if c.Data == "" {
		dir, err := settings.UserDir("partiald", "STATE_DIRECTORY", "XDG_STATE_HOME", ".local/state")
		if err != nil {
			k.Add("data", "no directory by default (%s): set one", err)
		}
		c.Data = dir
	}
	if c.Cache.Dir == "" {
		if c.Origin("data") != "" {
			c.Cache.Dir = filepath.Join(c.Data, "cache")
		} else if dir, err := settings.UserDir("partiald", "CACHE_DIRECTORY", "XDG_CACHE_HOME", ".cache"); err == nil {
			c.Cache.Dir = dir
		} else if c.Data != "" {
			c.Cache.Dir = filepath.Join(c.Data, "cache")
		}
	}
	if c.Queue.Dir == "" {
		c.Queue.Dir = filepath.Join(c.Data, "queue")
	}
	if c.Ledger.SQLite == "" {
		c.Ledger.SQLite = filepath.Join(c.Data, "ledger.db")
	}
	if c.Signing.Journal == "" && len(c.Signing.Keys) > 0 {
		c.Signing.Journal = filepath.Join(c.Data, "signing.journal")
	}
	if c.Workers.Slots == 0 {
		c.Workers.Slots = max(1, runtime.NumCPU()/2)
	}
	if c.Auth.Anonymous == "" {
		c.Auth.Anonymous = RoleNone
		if c.Loopback() && len(c.Auth.Tokens) == 0 {
			c.Auth.Anonymous = RoleOperate
		}
	}
}

// Loopback says whether only this machine can reach the service: it listens to nobody else, and is not said to be behind
// a proxy or to have a name elsewhere.
func (c *Config) Loopback() bool {
	if !loopback(c.Server.Listen) || len(c.Server.TrustedProxies) > 0 {
		return false
	}
	u, err := url.Parse(c.Server.PublicURL)
	return err != nil || u.Host == "" || loopback(net.JoinHostPort(u.Hostname(), "0")) // what is no address is refused elsewhere
}

func loopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// Shared says whether other servers take jobs from the same queue.
func (c *Config) Shared() bool {
	return !c.Embedded() || c.Queue.ClusterListen != "" || c.Queue.Listen != ""
}

// Embedded says whether the queue runs in this process.
func (c *Config) Embedded() bool { return len(c.Queue.URLs) == 0 }
