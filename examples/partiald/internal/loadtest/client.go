package loadtest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// TargetError says why a target is none.
type TargetError struct{ Target, Reason string }

func (e *TargetError) Error() string { return fmt.Sprintf("target %q: %s", e.Target, e.Reason) }

// Target reads the address of a service. One that is not on this machine must be named a second time, the same, so that
// nobody puts a load on somebody else's by a slip. The error is a [*TargetError].
func Target(address, again string) (*url.URL, error) {
	wrong := func(format string, args ...any) (*url.URL, error) {
		return nil, &TargetError{address, fmt.Sprintf(format, args...)}
	}
	u, err := url.Parse(strings.TrimSuffix(address, "/"))
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return wrong("not an address such as \"http://127.0.0.1:8080\"")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return wrong("an address without user, query and fragment is wanted; a token comes by a file")
	case again != "" && strings.TrimSuffix(again, "/") != strings.TrimSuffix(address, "/"):
		return wrong("named a second time as %q, which is not the same", again)
	case again == "" && !loopback(u.Hostname()):
		return wrong("not on this machine: name it a second time if you mean it and may do so")
	}
	return u, nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.Unmap().IsLoopback()
}

// client speaks to the target.
type client struct {
	base  string
	token string
	http  *http.Client
}

// newClient returns a client that goes nowhere but to the target: it follows no redirects, uses no proxy, and where the
// target is on this machine connects to no other, whatever a name leads to.
func newClient(target *url.URL, token string) *client {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	if loopback(target.Hostname()) {
		dialer.Control = func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil || !at.Addr().Unmap().IsLoopback() {
				return fmt.Errorf("%s is not on this machine", address)
			}
			return nil
		}
	}
	transport := &http.Transport{
		DialContext: dialer.DialContext, MaxIdleConnsPerHost: 10_000, IdleConnTimeout: 30 * time.Second, DisableCompression: true,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	return &client{
		base: target.String(), token: token,
		http: &http.Client{
			Transport: transport, Timeout: requestTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// requestTimeout bounds a request: as long as a job may be waited for, and a bit.
const requestTimeout = 6 * time.Minute

func (c *client) header() http.Header {
	h := http.Header{"User-Agent": {"partiald-loadtest"}}
	if c.token != "" {
		h.Set("Authorization", "Bearer "+c.token)
	}
	return h
}

// maxAnswer bounds what is read of an answer that is not a partial.
const maxAnswer = 64 << 20

// do sends a request once and returns the answer's status and body.
func (c *client) do(ctx context.Context, method, path, kind string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header = c.header()
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	return res.StatusCode, data, err
}

// statusError is an answer that is not what was wanted.
type statusError struct {
	path   string
	status int
	body   string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s answers %d %s: %s", e.path, e.status, http.StatusText(e.status), e.body)
}

// passing says whether a status may be another one later.
func passing(status int) bool { return status == http.StatusTooManyRequests || status >= 500 }

// sure sends a request again and again until it is answered with one of the wanted statuses, for a target may be under
// attack. What asking again cannot mend ends it at once. Between two there is a pause.
func (c *client) sure(ctx context.Context, patience time.Duration, method, path, kind string, body []byte, want ...int) ([]byte, error) {
	deadline := time.Now().Add(patience)
	for {
		status, data, err := c.do(ctx, method, path, kind, body)
		if err == nil {
			for _, w := range want {
				if status == w {
					return data, nil
				}
			}
			err = &statusError{path, status, problemText(data)}
			if !passing(status) {
				return nil, err
			}
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if time.Now().After(deadline) {
			return nil, err
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// problemText is what a problem says, in one line.
func problemText(data []byte) string {
	var p struct{ Code, Title, Detail string }
	if json.Unmarshal(data, &p) == nil && p.Code+p.Detail != "" {
		return p.Code + ": " + cmp.Or(p.Detail, p.Title)
	}
	s := strings.Join(strings.Fields(string(data[:min(len(data), 300)])), " ")
	return strings.ToValidUTF8(s, "")
}

// Vitals is how the target's process stands at a moment.
type Vitals struct {
	At         float64 `json:"at"`   // seconds after the beginning
	RSS        float64 `json:"rss"`  // bytes of resident memory
	Heap       float64 `json:"heap"` // bytes in use when garbage was collected last
	CPU        float64 `json:"cpu"`  // seconds of processors used since the beginning
	FDs        float64 `json:"fds"`  // open file descriptors
	Goroutines float64 `json:"goroutines"`
	Waiting    float64 `json:"waiting"` // jobs
	Running    float64 `json:"running"` // jobs
}

// errNoMetrics says that the target has none to show us.
var errNoMetrics = errors.New("the target shows no metrics")

// vitals asks for the metrics. faults are those that the target injected into itself, by kind.
func (c *client) vitals(ctx context.Context) (v Vitals, faults map[string]float64, panics float64, err error) {
	status, data, err := c.do(ctx, http.MethodGet, "/metrics", "", nil)
	if err != nil {
		return v, nil, 0, err
	}
	if status != http.StatusOK {
		return v, nil, 0, fmt.Errorf("%w: %w", errNoMetrics, &statusError{"/metrics", status, problemText(data)})
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(data))
	if err != nil {
		return v, nil, 0, fmt.Errorf("%w: %w", errNoMetrics, err)
	}
	faults = map[string]float64{}
	get := func(name, label, value string) float64 {
		sum := 0.0
		for _, m := range families[name].GetMetric() {
			match := label == ""
			for _, l := range m.GetLabel() {
				match = match || l.GetName() == label && l.GetValue() == value
			}
			if match {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue()
			}
		}
		return sum
	}
	v = Vitals{
		RSS: get("process_resident_memory_bytes", "", ""), Heap: get("go_gc_heap_live_bytes", "", ""), CPU: get("process_cpu_seconds_total", "", ""),
		FDs: get("process_open_fds", "", ""), Goroutines: get("go_goroutines", "", ""),
		Waiting: get("partiald_queue_jobs", "state", "waiting"), Running: get("partiald_queue_jobs", "state", "running"),
	}
	for _, m := range families["partiald_chaos_faults_total"].GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == "fault" && m.GetCounter().GetValue() > 0 {
				faults[l.GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	return v, faults, get("partiald_http_panics_total", "", ""), nil
}
