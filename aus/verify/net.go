package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// httpError is an answer that is not what was asked for.
type httpError struct {
	url    string
	status int
	after  time.Duration
}

func (e *httpError) Error() string { return fmt.Sprintf("HTTP %d for %s", e.status, e.url) }

// temporary says whether asking again may help.
func (e *httpError) temporary() bool {
	return e.status >= 500 || e.status == http.StatusRequestTimeout || e.status == http.StatusTooManyRequests
}

// getter asks servers for what has no hash: answers of update servers, and installers. It asks again with growing random
// waits, and keeps to a few requests at a time per host.
type getter struct {
	client   *http.Client
	attempts int
	wait     time.Duration
	patience time.Duration // for an answer of an update server, and for each 64 KiB of an installer
	perHost  int

	mu    sync.Mutex
	hosts map[string]chan struct{}
}

func newGetter(client *http.Client) *getter {
	if client == nil {
		client = &http.Client{
			Timeout: 30 * time.Minute,
			Transport: &http.Transport{
				Proxy: http.ProxyFromEnvironment, ResponseHeaderTimeout: time.Minute, TLSHandshakeTimeout: 30 * time.Second,
				IdleConnTimeout: 30 * time.Second, ForceAttemptHTTP2: true,
			},
			CheckRedirect: func(req *http.Request, via []*http.Request) error {
				if len(via) > 5 {
					return errors.New("too many redirects")
				}
				if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
					return errors.New("redirect from https to " + req.URL.Scheme)
				}
				return nil
			},
		}
	}
	return &getter{client: client, attempts: 4, wait: 500 * time.Millisecond, patience: time.Minute, perHost: 4, hosts: map[string]chan struct{}{}}
}

// enter waits for a place at a host.
func (g *getter) enter(ctx context.Context, host string) (leave func(), err error) {
	g.mu.Lock()
	places := g.hosts[host]
	if places == nil {
		places = make(chan struct{}, g.perHost)
		g.hosts[host] = places
	}
	g.mu.Unlock()
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// get asks for an address, until it answers or there is no sense in it, and hands the body over, with its size or -1, maybe
// several times.
func (g *getter) get(ctx context.Context, address string, take func(body io.Reader, size int64) error) error {
	var last error
	for attempt := range g.attempts {
		if attempt > 0 {
			wait := time.Duration(rand.Int64N(int64(g.wait) << attempt))
			var failed *httpError
			if errors.As(last, &failed) && failed.after > wait {
				wait = min(failed.after, time.Minute)
			}
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		last = g.once(ctx, address, take)
		if last == nil || ctx.Err() != nil {
			return last
		}
		var failed *httpError
		var final *finalError
		if errors.As(last, &failed) && !failed.temporary() || errors.As(last, &final) {
			return last
		}
	}
	return last
}

// finalError is one that asking again does not mend.
type finalError struct{ error }

func (e *finalError) Unwrap() error { return e.error }

func (g *getter) once(ctx context.Context, address string, take func(body io.Reader, size int64) error) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return &finalError{err}
	}
	req.Header.Set("User-Agent", "senbonzakura")
	leave, err := g.enter(ctx, req.URL.Host)
	if err != nil {
		return err
	}
	defer leave()
	slow := fmt.Errorf("%s: less than %d KiB in %v", req.URL.Host, patientBytes>>10, g.patience)
	limited, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	timer := time.AfterFunc(g.patience, func() { stop(slow) })
	defer timer.Stop()
	defer func() {
		if err != nil && ctx.Err() == nil && context.Cause(limited) == slow { //nolint:errorlint // the very one
			err = slow
		}
	}()
	resp, err := g.client.Do(req.WithContext(limited))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		failed := &httpError{url: address, status: resp.StatusCode}
		if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
			failed.after = time.Duration(min(seconds, 3600)) * time.Second
		}
		return failed
	}
	return take(&patientReader{resp.Body, timer, g.patience, 0}, resp.ContentLength)
}

// patientBytes must come in the time of patience.
const patientBytes = 64 << 10

// patientReader lets the timer begin anew as often as enough has come.
type patientReader struct {
	r        io.Reader
	timer    *time.Timer
	patience time.Duration
	got      int
}

func (p *patientReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if p.got += n; p.got >= patientBytes {
		p.got = 0
		p.timer.Reset(p.patience)
	}
	return n, err
}

// text fetches something small.
func (g *getter) text(ctx context.Context, address string) ([]byte, error) {
	if name, ok := localName(address); ok {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, maxAnswer+1))
	}
	var text []byte
	err := g.get(ctx, address, func(body io.Reader, _ int64) error {
		var err error
		text, err = io.ReadAll(io.LimitReader(body, maxAnswer+1))
		return err
	})
	return text, err
}

// localName says whether an address is a file here.
func localName(address string) (string, bool) {
	if name, ok := strings.CutPrefix(address, "file://"); ok {
		return name, true
	}
	return address, !strings.Contains(address, "://")
}

// maxInstaller is how large an installer may be.
const maxInstaller int64 = 2 << 30

// file fetches an installer: into memory if it begins with front, for which there are buffers, else into a file of dir.
func (g *getter) file(ctx context.Context, address, dir, front string, memory *buffers) (got received, err error) {
	setup := func(err error) error { return &finalError{fmt.Errorf("%w: %w", errSetup, err)} }
	f, err := os.CreateTemp(dir, "own-*")
	if err != nil {
		return received{}, setup(err)
	}
	defer func() {
		f.Close()
		if got.file == "" {
			os.Remove(f.Name())
		}
	}()
	err = g.get(ctx, address, func(body io.Reader, size int64) error {
		memory.put(got.data)
		got = received{}
		head := make([]byte, len(front))
		n, err := io.ReadFull(body, head)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		if string(head[:n]) == front {
			if got.data = memory.get(size); got.data != nil {
				_, err = io.ReadFull(body, got.data[copy(got.data, head):])
				return err
			}
		}
		if err := f.Truncate(0); err != nil {
			return setup(err)
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return setup(err)
		}
		h := crc32.New(castagnoli)
		got.size, err = copyAll(io.MultiWriter(f, h), io.MultiReader(bytes.NewReader(head[:n]), io.LimitReader(body, maxInstaller)))
		got.sum = h.Sum32()
		switch {
		case got.size > maxInstaller:
			return &finalError{fmt.Errorf("%s has more than %d bytes", address, maxInstaller)}
		case localTrouble(err):
			return setup(err)
		}
		return err
	})
	if err != nil {
		memory.put(got.data)
		return received{}, err
	}
	if got.data != nil {
		return got, nil
	}
	if err := f.Close(); err != nil {
		return received{}, setup(err)
	}
	got.file = filepath.Base(f.Name())
	return got, nil
}

// received is an installer that was fetched: in memory, or a file.
type received struct {
	data []byte
	file string // its name in the directory
	size int64
	sum  uint32
}
