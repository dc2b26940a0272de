package plugins

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strings"
	"time"
)

// Limits of the wire, both for what the host takes and for what a plugin built with Serve takes.
const (
	// MaxMessage is the size of the largest message, in bytes. It is gRPC's own default, so that plugins in
	// other languages need no setting.
	MaxMessage = 4 << 20
	// ChunkSize is how much of an object one message of a stream carries, in bytes; the last may be smaller.
	ChunkSize = 512 << 10
	// maxHeader bounds the metadata of one answer, in bytes.
	maxHeader = 64 << 10
	// maxBinary bounds the size of a plugin's binary, in bytes.
	maxBinary = 1 << 30
	// maxSecret bounds one secret, in bytes: it has to fit into a pipe that nobody reads yet.
	maxSecret = 16 << 10
)

// Kind is what a plugin is asked to be, and the protocol majors that the host speaks.
type Kind struct {
	// Name is what the plugin finds in its environment, for example "signing".
	Name string
	// Versions are the protocol majors that this side speaks.
	Versions []int
}

// Config says which binary to run and how. Path and SHA256 are required, or Attach alone; the zero value of everything
// else is a safe default.
type Config struct {
	// Path is the plugin's executable. It is copied when the process is started the first time; later changes
	// of the file have no effect.
	Path string
	// SHA256 is the hash that the executable must have, in hexadecimal. Sum computes it.
	SHA256 string
	// Args are the arguments of the command line, without the program's name. Other users can see them: no
	// secrets.
	Args []string
	// Env are "NAME=value" pairs. They are the whole environment of the plugin, but for TMPDIR and what the
	// protocol needs: nothing is inherited from the host.
	Env []string
	// Secrets are handed to the plugin through pipes, once per start. Not supported on Windows.
	Secrets []Secret
	// Dir is where the private directory is made; empty means the system's directory for temporary files.
	// Programs must be executable there.
	Dir string
	// StartTimeout bounds the time from starting the process to its first healthy answer. Zero means 10 s.
	StartTimeout time.Duration
	// CallTimeout bounds each call whose context has no earlier deadline, and each single message of a
	// stream. Zero means 30 s.
	CallTimeout time.Duration
	// Restart says how often a process that ended is started again.
	Restart RestartPolicy
	// Attach is for authors who look for a fault: the file that a plugin in debug mode has written (DebugVariable). The
	// plugin is used as it runs, maybe in a debugger, and neither checked, started nor ended: Path, SHA256, Args, Env,
	// Secrets, Dir and Restart must be empty. A StartTimeout and a CallTimeout of zero mean a day then. When the plugin
	// has ended, the next call attaches to the one that has written the file anew.
	Attach string
	// Logger takes what the plugin logs and what happens to its process; nil discards it. What a plugin logs
	// is untrusted: it arrives bounded in length and rate, as attributes of known names.
	Logger *slog.Logger
}

// Secret is something that must not be seen in an environment or on a command line: a passphrase, a token.
type Secret struct {
	// Env is the name of the environment variable that tells the plugin the number of the file descriptor
	// from which the secret can be read, to its end.
	Env string
	// Value returns the secret, at most 16 KiB. It is called at each start, from any goroutine.
	Value func() ([]byte, error)
}

// RestartPolicy says what happens after a process ended by itself, or could not be started. The zero value
// means 5 starts within a minute, with pauses from 100 ms growing to 5 s.
type RestartPolicy struct {
	// Max is the number of failures within Window after which no more start is tried until the oldest of
	// them is older than Window: calls fail at once with ErrStopped. A negative Max means: never restart.
	Max int
	// Window is the time in which failures are counted.
	Window time.Duration
	// MinPause and MaxPause bound the pause before a start; it doubles with each failure in a row.
	MinPause, MaxPause time.Duration
}

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Attach != "" && (c.Path != "" || c.SHA256 != "" || c.Dir != "" || len(c.Args)+len(c.Env)+len(c.Secrets) > 0 || c.Restart != (RestartPolicy{})):
		return c, errors.New("plugin config: a plugin that is attached to is not started: no path, SHA-256, arguments, environment, secrets, directory or restarts")
	case c.Attach != "":
		setDefault(&c.StartTimeout, debugPatience)
		setDefault(&c.CallTimeout, debugPatience)
		c.Restart = RestartPolicy{Max: math.MaxInt, MaxPause: 100 * time.Millisecond}
	case c.Path == "":
		return c, errors.New("plugin config: no path")
	case c.SHA256 == "":
		return c, errors.New("plugin config: no SHA-256: a plugin runs only when its checksum is pinned")
	}
	if sum, err := hex.DecodeString(c.SHA256); c.Attach == "" && (err != nil || len(sum) != 32) {
		return c, fmt.Errorf("plugin config: SHA-256 %q is not 64 hexadecimal digits", c.SHA256)
	}
	c.SHA256 = strings.ToLower(c.SHA256)
	for _, kv := range c.Env {
		if name, _, ok := strings.Cut(kv, "="); !ok || name == "" || strings.ContainsRune(kv, 0) {
			return c, fmt.Errorf("plugin config: environment entry %q is not NAME=value", kv)
		}
	}
	for _, s := range c.Secrets {
		if s.Env == "" || strings.ContainsAny(s.Env, "=\x00") || s.Value == nil {
			return c, fmt.Errorf("plugin config: secret %q needs a variable's name and a value", s.Env)
		}
	}
	if c.StartTimeout < 0 || c.CallTimeout < 0 || c.Restart.Window < 0 || c.Restart.MinPause < 0 || c.Restart.MaxPause < 0 {
		return c, errors.New("plugin config: negative duration")
	}
	setDefault(&c.StartTimeout, 10*time.Second)
	setDefault(&c.CallTimeout, 30*time.Second)
	setDefault(&c.Restart.Window, time.Minute)
	setDefault(&c.Restart.MinPause, 100*time.Millisecond)
	setDefault(&c.Restart.MaxPause, max(5*time.Second, c.Restart.MinPause))
	setDefault(&c.Restart.Max, 5)
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError + 1}))
	}
	return c, nil
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
