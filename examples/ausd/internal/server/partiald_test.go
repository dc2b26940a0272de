package server

import (
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
	"github.com/senbonzakura/senbonzakura/fetch"
)

// standIn answers as partiald does, as far as a server asks.
type standIn struct {
	*httptest.Server
	t         *testing.T
	generator *senbonzakura.Generator
	dir       string

	mu         sync.Mutex
	away       int // how many requests are answered with 503 first
	uploads    int
	partial    []byte
	provenance senbonzakura.Provenance
	failure    string                // of jobs
	change     func(p []byte) []byte // what is given out in place of the partial
	unproved   bool
}

func newStandIn(t *testing.T) *standIn {
	t.Helper()
	p := &standIn{t: t, dir: t.TempDir()}
	var err error
	if p.generator, err = senbonzakura.New(senbonzakura.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.generator.Close(); err != nil {
			t.Error(err)
		}
	})
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/uploads", p.upload)
	mux.HandleFunc("POST /api/v1/partials", p.order)
	mux.HandleFunc("GET /api/v1/jobs/j1", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Prefer") != "wait=50" {
			t.Errorf("asked for a job with Prefer %q", r.Header.Get("Prefer"))
		}
		p.reply(w, p.job())
	})
	mux.HandleFunc("GET /api/v1/partials/j1", func(w http.ResponseWriter, _ *http.Request) {
		data := p.partial
		if p.change != nil {
			data = p.change(data)
		}
		if _, err := w.Write(data); err != nil {
			t.Error(err)
		}
	})
	mux.HandleFunc("GET /api/v1/partials/j1/provenance", func(w http.ResponseWriter, _ *http.Request) {
		told := p.provenance
		if p.unproved {
			told.Checks = nil
		}
		p.reply(w, told)
	})
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch {
		case r.Header.Get("Authorization") != "Bearer secret":
			http.Error(w, `{"detail": "who are you?"}`, http.StatusUnauthorized)
		case p.away > 0:
			p.away--
			http.Error(w, `{"detail": "stopping"}`, http.StatusServiceUnavailable)
		default:
			mux.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *standIn) reply(w http.ResponseWriter, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		p.t.Error(err)
	}
}

func (p *standIn) upload(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		p.t.Error(err)
	}
	sum := sha512.Sum512(data)
	if name := hex.EncodeToString(sum[:]); name != r.URL.Query().Get("sha512") {
		p.t.Errorf("an upload of %s is called %s", name, r.URL.Query().Get("sha512"))
	} else if err := os.WriteFile(filepath.Join(p.dir, name), data, 0o600); err != nil {
		p.t.Error(err)
	}
	p.uploads++
	w.WriteHeader(http.StatusCreated)
}

func (p *standIn) order(w http.ResponseWriter, r *http.Request) {
	var order struct{ From, To jobSource }
	if err := json.NewDecoder(r.Body).Decode(&order); err != nil {
		p.t.Error(err)
	}
	sources := make([]senbonzakura.Source, 2)
	for i, side := range []jobSource{order.From, order.To} {
		file := filepath.Join(p.dir, side.SHA512)
		if _, err := os.Stat(file); err != nil || len(side.URLs) > 0 {
			w.WriteHeader(http.StatusConflict)
			p.reply(w, map[string]string{"detail": "nothing with this hash was uploaded"})
			return
		}
		sum, err := hex.DecodeString(side.SHA512)
		if err != nil {
			p.t.Error(err)
		}
		sources[i] = senbonzakura.Source{File: file, Size: side.Size, Hashes: []fetch.Hash{{Algorithm: fetch.SHA512, Sum: sum}}}
	}
	result, err := p.generator.Generate(r.Context(), senbonzakura.Request{From: sources[0], To: sources[1]}, nil)
	if err != nil {
		p.t.Error(err)
		return
	}
	defer result.Close()
	entry := result.Open()
	defer entry.Close()
	if p.partial, err = io.ReadAll(entry.Reader()); err != nil {
		p.t.Error(err)
	}
	p.provenance = *result.Provenance
	w.WriteHeader(http.StatusAccepted)
	p.reply(w, map[string]string{"id": "j1", "state": "queued"})
}

func (p *standIn) job() any {
	if p.failure != "" {
		return map[string]any{"id": "j1", "state": "failed", "error": map[string]string{"message": p.failure}}
	}
	sum := sha512.Sum512(p.partial)
	return map[string]any{"id": "j1", "state": "done", "result": map[string]any{"sha512": hex.EncodeToString(sum[:]), "size": len(p.partial)}}
}

// A partiald makes the partials in place of the server, which looks at what it gets.
func TestPartiald(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		lie           func(*standIn)
		state, reason string
	}{
		"good":                    {func(*standIn) {}, book.Made, ""},
		"away for a while":        {func(p *standIn) { p.away = 3 }, book.Made, ""},
		"not proved there":        {func(p *standIn) { p.unproved = true }, book.Made, ""}, // it is proved here
		"fails":                   {func(p *standIn) { p.failure = "no such thing" }, book.Failed, "no such thing"},
		"other bytes than it has": {func(p *standIn) { p.change = func(b []byte) []byte { return append([]byte("x"), b[1:]...) } }, book.Failed, "not a file that is served"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newStandIn(t)
			tt.lie(p)
			u, err := url.Parse(p.URL)
			if err != nil {
				t.Fatal(err)
			}
			s := start(t, t.TempDir(), func(o *Options) {
				o.Partiald = &Partiald{URL: u, Token: "secret", Patience: time.Millisecond}
			})
			s.add(complete(t, "1.0", "20240101000000", nil), Addition{Channel: "release"})
			added := s.add(complete(t, "2.0", "20250101000000", nil), Addition{Channel: "release"})
			var list []book.Demand
			eventually(t, "settled", func() bool {
				list, err = s.book.Demands(t.Context(), 10)
				return err == nil && len(list) == 1 && list[0].State != book.Wanted && list[0].State != book.Working
			})
			if list[0].State != tt.state || !strings.Contains(list[0].Reason, tt.reason) {
				t.Fatalf("it is %s: %q, want %s: %q", list[0].State, list[0].Reason, tt.state, tt.reason)
			}
			var body string
			s.call("GET", fmt.Sprintf("/update/3/Fox/1.0/20240101000000/%s/de/release/Linux/default/default/update.xml", added.Build.Target), nil, &body)
			if got := strings.Contains(body, `type="partial"`); got != (tt.state == book.Made) {
				t.Errorf("a client gets %s", body)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.uploads != 2 {
				t.Errorf("%d uploads, want both completes once", p.uploads)
			}
		})
	}
}

// What was made elsewhere and is of another pair, or unsigned where the complete is signed, is withheld.
func TestPartialdLies(t *testing.T) {
	t.Parallel()
	p := newStandIn(t)
	u, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, t.TempDir(), func(o *Options) {
		o.Partiald, o.Builds = &Partiald{URL: u, Token: "secret", Patience: time.Millisecond}, -1
	})
	one := s.add(complete(t, "1.0", "20240101000000", nil), Addition{})
	two := s.add(complete(t, "2.0", "20250101000000", nil), Addition{})
	signed := s.add(complete(t, "3.0", "20260101000000", key(t)), Addition{})
	build := func(a Added) book.Demand {
		return book.Demand{To: s.State().Get(state.Ref{Kind: state.Release, Key: a.Release}).Release().Builds()[0]}
	}
	pair := func(from, to Added) book.Demand { return book.Demand{From: build(from).To, To: build(to).To} }
	if _, is, reason := s.orderOne(t.Context(), pair(one, two)); is != book.Made {
		t.Fatalf("%s: %s", is, reason)
	}
	other, told := p.partial, p.provenance
	if _, is, reason := s.orderOne(t.Context(), pair(one, signed)); is != book.Withheld || !strings.Contains(reason, "signed, the partial is not") {
		t.Errorf("an unsigned partial of a signed complete: %s: %s", is, reason)
	}
	// The update of another pair; and completes that are not here.
	f, err := s.keep(t.Context(), "x.mar", "", strings.NewReader(string(other)), nil)
	if err != nil {
		t.Fatal(err)
	}
	told.Output.SHA512 = f.SHA512
	if why := s.mayOffer(t.Context(), pair(two, one), f, &told); !strings.Contains(why, "has another checksum") {
		t.Errorf("the update of another pair: %q", why)
	}
	far := pair(one, two)
	far.From.Hash, far.To.Hash = strings.Repeat("0", 128), strings.Repeat("1", 128) // not here
	if why := s.mayOffer(t.Context(), far, f, &told); why != "" {
		t.Errorf("proved there: %q", why)
	}
	told.Checks = nil
	if why := s.mayOffer(t.Context(), far, f, &told); why != "it is not proved" {
		t.Errorf("proved nowhere: %q", why)
	}
}
