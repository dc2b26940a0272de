// Package config has the configuration of partiald: one TOML file, the environment over it, and defaults under it that
// make a service for one machine without any file. What is wrong is reported together, what cannot be read and what
// cannot be used, each problem with its key and the place it comes from.
//
//	defaults  <  file (--config)  <  environment (PARTIALD_SECTION_KEY)  <  flags
//
// docs/partiald.toml documents every key.
package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/senbonzakura/senbonzakura"
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

	read reading
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

// Plugin is a program to start as a plugin.
type Plugin struct {
	Command string   `toml:"command"`
	SHA256  string   `toml:"sha256"`
	Args    []string `toml:"args"`
	Env     []string `toml:"env"`
	Secrets []string `toml:"secrets"`
	Timeout Duration `toml:"timeout"`
}

// Storage is where artifacts are kept beside the cache.
type Storage struct {
	Plugin
	Prefix   string   `toml:"prefix"`
	Presign  Duration `toml:"presign"`
	SealFile string   `toml:"seal_file"`
}

// Signing is who signs what.
type Signing struct {
	Policy  string       `toml:"policy"`
	Journal string       `toml:"journal"`
	Plugins []SignPlugin `toml:"plugins"`
	Keys    []Key        `toml:"keys"`
	Trust   []string     `toml:"trust"`
	// ClientKeys are built into the installed clients.
	ClientKeys []string `toml:"client_keys"`
	Require    []string `toml:"require"`
}

// SignPlugin is a signing plugin.
type SignPlugin struct {
	Name string `toml:"name"`
	Plugin
}

// Key is a key of a signing plugin.
type Key struct {
	Name      string `toml:"name"`
	Plugin    string `toml:"plugin"`
	ID        string `toml:"id"`
	PublicKey string `toml:"public_key"`
	Place     string `toml:"place"`
	NotBefore string `toml:"not_before"`
	NotAfter  string `toml:"not_after"`
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
	return &Config{
		Server:  Server{Listen: "127.0.0.1:8080", ProxyHeader: "X-Forwarded-For", StopTimeout: Duration{10 * time.Second}},
		Workers: Workers{Downloads: 128, MaxMemory: 1 << 30, Attempts: 5, RetryDelay: Duration{15 * time.Second}, JobTimeout: Duration{2 * time.Hour}},
		Queue: Queue{
			Prefix: "partiald", Limit: 10000,
			AckWait: Duration{30 * time.Second}, Timeout: Duration{5 * time.Second}, Requeue: Duration{30 * time.Second},
		},
		Cache:   Cache{Memory: 64 << 20, Completes: 20 << 30, Patches: 10 << 30, Partials: 20 << 30, Reports: 1 << 30},
		Fetch:   Fetch{MaxSize: 2 << 30, Attempts: 6, Stall: Duration{30 * time.Second}, MinRate: 32 << 10, Deadline: Duration{time.Hour}, PerHost: 4},
		Storage: Storage{Plugin: Plugin{Timeout: Duration{30 * time.Second}}, Prefix: "partiald/", Presign: Duration{15 * time.Minute}},
		Signing: Signing{Require: require()},
		Auth:    Auth{Rate: 1200, Failures: 20, Ban: Duration{15 * time.Minute}},
		Limits:  Limits{Upload: 500 << 20, UploadRate: 4 << 10, Uploads: 64, UploadsEach: 8, Batch: 1000, Wait: Duration{5 * time.Minute}},
		Log:     Log{Format: "auto", Level: "info"},
	}
}

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
		c.note(key, "--dev")
	}
}

func (c *Config) note(key, origin string) {
	if c.read.origins == nil {
		c.read.origins = map[string]string{}
	}
	c.read.origins[key] = origin
}

// Set replaces a key by what a flag says.
func (c *Config) Set(key, value, flag string) error {
	l, ok := c.leaves()[key]
	if !ok {
		return fmt.Errorf("there is no key %s", key)
	}
	if err := l.set(value); err != nil {
		return &Error{Problems: []Problem{{Key: key, Origin: flag, Message: err.Error()}}}
	}
	c.note(key, flag)
	return nil
}

// Origin says where a key was set: a line of the file, a variable, a flag; "" for the default.
func (c *Config) Origin(key string) string { return c.read.origins[key] }

// fill gives keys their values that depend on this machine.
func (k *checker) fill() {
	c := k.c
	if c.Name == "" {
		name, err := os.Hostname()
		if err != nil {
			k.add("name", "this machine has no name (%s): set one", err)
		}
		c.Name = name
	}
	if c.Data == "" {
		dir, err := userDir("STATE_DIRECTORY", "XDG_STATE_HOME", ".local/state")
		if err != nil {
			k.add("data", "no directory by default (%s): set one", err)
		}
		c.Data = dir
	}
	if c.Cache.Dir == "" {
		if c.read.origins["data"] != "" {
			c.Cache.Dir = filepath.Join(c.Data, "cache")
		} else if dir, err := userDir("CACHE_DIRECTORY", "XDG_CACHE_HOME", ".cache"); err == nil {
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

// userDir returns the directory that systemd names, else one below the user's.
func userDir(systemd, xdg, below string) (string, error) {
	if dir, _, _ := strings.Cut(os.Getenv(systemd), ":"); filepath.IsAbs(dir) { // the first, where the unit names several
		return dir, nil
	}
	if dir := os.Getenv(xdg); filepath.IsAbs(dir) {
		return filepath.Join(dir, "partiald"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, below, "partiald"), nil
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
