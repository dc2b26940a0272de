package conformance

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/senbonzakura/senbonzakura/plugins"
)

// callTimeout is the longest time of one call of a kit, where the plugin's configuration does not say another.
const callTimeout = 10 * time.Second

// Patience returns a configuration with what a kit needs of it: a plugin that hangs is found within seconds, and one
// that dies is started again for each rule. One to which the kit is attached may be in a debugger: it has all the time.
func (r *Report) Patience(cfg plugins.Config) plugins.Config {
	if cfg.Attach != "" {
		r.Limit = 24 * time.Hour
		return cfg
	}
	cfg.CallTimeout = cmp.Or(cfg.CallTimeout, callTimeout)
	if cfg.Restart == (plugins.RestartPolicy{}) {
		cfg.Restart = plugins.RestartPolicy{Max: 1000, MinPause: time.Millisecond}
	}
	return cfg
}

// Process tries the rules for every plugin process on a binary and adds the results to the report. Their
// numbers begin with P. cfg is as for plugins.Start; the plugin is started several times. When the last rule is
// through, nothing of the plugin is left. A plugin to which the kit is attached is not started: the rules are skipped.
func (r *Report) Process(ctx context.Context, cfg plugins.Config, kind plugins.Kind) {
	if cfg.Attach != "" {
		r.Try(ctx, "P", "2", "the process: how it starts and ends", func(context.Context) error {
			return Skip("attached to a plugin that runs already")
		})
		return
	}
	r.Try(ctx, "P1", "2.1", "started by hand, it says what it is and ends with a status other than 0", func(ctx context.Context) error {
		return byHand(ctx, cfg)
	})
	r.Try(ctx, "P2", "2.2", "it announces itself within the start timeout and its health service answers", func(ctx context.Context) error {
		p, err := plugins.Start(ctx, cfg, kind)
		if err != nil {
			r.Stop("the plugin did not start in P2")
			return err
		}
		return errors.Join(p.Ping(ctx), p.Close())
	})
	r.Try(ctx, "P3", "2.5", "it ends by itself within a second when its standard input ends", func(ctx context.Context) error {
		p, err := plugins.Start(ctx, cfg, kind)
		if err != nil {
			return err
		}
		begin := time.Now()
		err = p.Close()
		if took := time.Since(begin); took > 950*time.Millisecond {
			return fmt.Errorf("it had to be killed after %v", took.Round(time.Millisecond))
		}
		return err
	})
	r.Try(ctx, "P4", "2.2", "asked for a protocol major it does not speak, it does not pretend to", func(ctx context.Context) error {
		p, err := plugins.Start(ctx, cfg, plugins.Kind{Name: kind.Name, Versions: []int{1 << 20}})
		if err == nil {
			return errors.Join(errors.New("it claims to speak major 1048576"), p.Close())
		}
		if errors.Is(err, plugins.ErrTimeout) {
			return fmt.Errorf("it should announce what it speaks, or end: %s", err) //nolint:errorlint // other rules go on
		}
		return nil
	})
	r.Try(ctx, "P5", "2.3", "a connection without the host's certificate is refused", func(ctx context.Context) error {
		return stranger(ctx, cfg, kind)
	})
	r.Try(ctx, "P6", "2.5", "killed, it starts again and works", func(ctx context.Context) error {
		p, err := plugins.Start(ctx, cfg, kind)
		if err != nil {
			return err
		}
		for range 3 {
			if err = Kill(p); err != nil {
				break
			}
			// The first ping may still meet the dead process.
			if err = p.Ping(ctx); err != nil {
				err = p.Ping(ctx)
			}
			if err != nil {
				break
			}
		}
		return errors.Join(err, p.Close())
	})
	r.Try(ctx, "P7", "2.4", "it answers many calls at once", func(ctx context.Context) error {
		p, err := plugins.Start(ctx, cfg, kind)
		if err != nil {
			return err
		}
		errs := make([]error, 50)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { errs[i] = p.Ping(ctx) })
		}
		wg.Wait()
		return errors.Join(append(errs, p.Close())...)
	})
	r.Try(ctx, "P8", "2.5", "nothing is left of it: no process, no file in its directory", func(ctx context.Context) error {
		dir, err := os.MkdirTemp(shortBase(cfg.Dir), "sbc")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		cfg := cfg
		cfg.Dir = dir
		p, err := plugins.Start(ctx, cfg, kind)
		if err != nil {
			return err
		}
		if err := p.Close(); err != nil {
			return err
		}
		left, err := os.ReadDir(dir)
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("%d files are left", len(left))
		}
		return err
	})
}

// Kill ends a plugin's process as nobody can catch (kill -9). It returns a Skip when there is none that could be killed:
// the plugin is served in this process, or was not started by it.
func Kill(p *plugins.Process) error {
	pid := p.PID()
	if pid == 0 {
		return Skip("there is no process of its own to kill")
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return process.Kill()
}

// firstLines returns how a program's output begins.
func firstLines(output []byte) string {
	const most, longest = 4, 300
	if len(bytes.TrimSpace(output)) == 0 {
		return "nothing"
	}
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	for i, line := range lines[:min(len(lines), most)] {
		lines[i] = fmt.Sprintf("%.*q", longest, strings.TrimSpace(line))
	}
	if len(lines) > most {
		lines = append(lines[:most], "…")
	}
	return strings.Join(lines, " / ")
}

// byHand starts the binary as a curious user would.
func byHand(ctx context.Context, cfg plugins.Config) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, cfg.Args...)
	cmd.Env = cfg.Env
	cmd.WaitDelay = time.Second
	said, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("it was still running after 5 s; it said: %s", firstLines(said))
	case err == nil:
		return fmt.Errorf("it ended with status 0; it said: %s", firstLines(said))
	case !errors.As(err, &exit):
		return err
	case len(strings.TrimSpace(string(said))) == 0:
		return errors.New("it said nothing")
	}
	return nil
}

// shortBase returns where temporary directories are made, short enough that sockets can be made in them: /tmp where the
// system's own place for temporary files is too deep, as in macOS.
func shortBase(dir string) string {
	const longest = 40
	if dir == "" {
		dir = os.TempDir()
		if len(dir) > longest && runtime.GOOS != "windows" {
			dir = "/tmp"
		}
	}
	return dir
}

// stranger starts the binary, and connects to it as somebody who is not the host.
func stranger(ctx context.Context, cfg plugins.Config, kind plugins.Kind) error {
	if runtime.GOOS == "windows" {
		return Skip("not tried on Windows")
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	dir, err := os.MkdirTemp(shortBase(cfg.Dir), "sbc")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return err
	}
	host, err := plugins.NewCertificate()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, cfg.Args...)
	cmd.Env = append(append([]string{}, cfg.Env...), plugins.CookieVariable+"="+kind.Name, "TMPDIR="+dir, "PLUGIN_UNIX_SOCKET_DIR="+dir,
		fmt.Sprintf("PLUGIN_PROTOCOL_VERSIONS=%d", kind.Versions[0]),
		"PLUGIN_CLIENT_CERT="+string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: host.Certificate[0]})))
	for _, s := range cfg.Secrets {
		value, err := s.Value()
		if err != nil {
			return err
		}
		rd, wr, err := os.Pipe()
		if err != nil {
			return err
		}
		defer rd.Close()
		if _, err := wr.Write(value); err != nil {
			return errors.Join(err, wr.Close())
		}
		wr.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, rd)
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d", s.Env, 2+len(cmd.ExtraFiles)))
	}
	cmd.WaitDelay = time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		stdin.Close()
		cancel()
		_ = cmd.Wait() // killed, if it does not go by itself
	}()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return fmt.Errorf("read handshake: %w", err)
	}
	parts := strings.Split(strings.TrimSpace(line), "|")
	if len(parts) < 6 {
		return fmt.Errorf("handshake %q has too few parts", line)
	}
	other, err := plugins.NewCertificate()
	if err != nil {
		return err
	}
	for _, certificates := range [][]tls.Certificate{nil, {other}} {
		err := talk(ctx, parts[3], certificates)
		if err == nil {
			return fmt.Errorf("a client with %d certificates of its own got through", len(certificates))
		}
	}
	if err := talk(ctx, parts[3], []tls.Certificate{host}); err != nil {
		return fmt.Errorf("the host's certificate was refused as well: %w", err)
	}
	return nil
}

// talk begins an HTTP/2 connection and waits for the first byte of the answer.
func talk(ctx context.Context, socket string, certificates []tls.Certificate) error {
	raw, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	defer func() { _ = raw.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := raw.SetDeadline(deadline); err != nil {
			return err
		}
	}
	conn := tls.Client(raw, &tls.Config{
		Certificates:       certificates,
		InsecureSkipVerify: true, // whose certificate it is, is not the question here
		NextProtos:         []string{"h2"},
		ServerName:         "localhost",
		MinVersion:         tls.VersionTLS12,
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}
