package plugins

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// ReadSecret reads, in a plugin, what the host hands over as Config.Secrets: the environment variable env holds
// the number of a file descriptor, which is read to its end and closed. A line break at the end is cut off. It
// returns nil when there is no such variable.
func ReadSecret(env string) ([]byte, error) {
	text := os.Getenv(env)
	if text == "" {
		return nil, nil
	}
	fd, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("read secret: %s=%q is not a file descriptor", env, text)
	}
	f := os.NewFile(uintptr(fd), env)
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return nil, fmt.Errorf("read secret %s: %w", env, err)
	}
	if len(b) > maxSecret {
		return nil, fmt.Errorf("read secret %s: more than %d bytes", env, maxSecret)
	}
	return bytes.TrimRight(b, "\r\n"), nil
}

// Run runs, in a plugin, another program: without a shell, with input as its standard input, and returns what
// it prints, at most limit bytes. The program ends with ctx, and with the plugin (on Linux also where the
// plugin is killed). A status other than 0 is an error that holds the end of what it said on standard error.
func Run(ctx context.Context, input []byte, limit int, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = bytes.NewReader(input)
	out, said := &bounded{limit: limit}, &bounded{limit: maxErrorText, last: true}
	cmd.Stdout, cmd.Stderr = out, said
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	dieWithHost(cmd.SysProcAttr)
	// The kernel means the death of the thread that forks, so this one has to stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("run %s: %w", name, ctx.Err())
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("run %s: %w: %w", name, ErrUnavailable, err)
	case err != nil:
		return nil, fmt.Errorf("run %s: %w: %s", name, err, clean(said.buf.String(), maxErrorText))
	case out.over:
		return nil, fmt.Errorf("run %s: it printed more than %d bytes", name, limit)
	}
	return out.buf.Bytes(), nil
}

// FromStatus gives an error of a service that is spoken to by HTTP the reason that goes with the status of its answer: 404 is
// ErrNotFound, 401 and 403 are ErrDenied, 429 is ErrThrottled; no answer, which is 0, and all from 500 are ErrUnavailable, so
// that the host asks again. An error that has a reason already, or comes from a context, stays as it is, and so does nil.
func FromStatus(status int, err error) error {
	if err == nil || reasonOf(err) != ReasonInternal {
		return err
	}
	reason := ErrInternal
	switch {
	case status == http.StatusNotFound:
		reason = ErrNotFound
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		reason = ErrDenied
	case status == http.StatusTooManyRequests:
		reason = ErrThrottled
	case status == 0, status >= http.StatusInternalServerError:
		reason = ErrUnavailable
	}
	return fmt.Errorf("%w: %w", reason, err)
}

// bounded keeps the first, or the last, bytes that are written to it.
type bounded struct {
	buf   bytes.Buffer
	limit int
	last  bool
	over  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	n := len(p)
	if b.last {
		b.buf.Write(p)
		if extra := b.buf.Len() - b.limit; extra > 0 {
			b.buf.Next(extra)
		}
		return n, nil
	}
	if room := b.limit - b.buf.Len(); len(p) > room {
		p, b.over = p[:room], true
	}
	b.buf.Write(p)
	return n, nil
}
