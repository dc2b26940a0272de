package engine_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/engine"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/testrelease"
	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
)

// packed is the complete update of some files.
func packed(t *testing.T, product *mar.Product, files map[string]string) []byte {
	t.Helper()
	tree := fstest.MapFS{}
	for name, text := range files {
		tree[name] = &fstest.MapFile{Data: []byte(text)}
	}
	archive, _, err := partial.Pack(t.Context(), tree, partial.PackOptions{
		Arch: "x86_64", Product: product, Compression: partial.Compression{Files: partial.XZ{Level: partial.LevelFast}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := archive.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestBadInputIsNever500 gives the generator completes that are damaged at every place of some distance, and others that are
// wrong in every way that comes to mind: what comes of it is a partial, or an error that is the caller's to mend.
func TestBadInputIsNever500(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	client, err := fetch.New(&fetch.Options{Insecure: true, Attempts: 1, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	g, err := senbonzakura.New(senbonzakura.Options{Fetch: client, Cache: cache.NewLayered(nil, &cache.LayeredOptions{SpoolDir: t.TempDir()})})
	if err != nil {
		t.Fatal(err)
	}
	from, to := testrelease.Complete(t, "140.1", "x"), testrelease.Complete(t, "140.2", "x")
	source := func(data []byte) senbonzakura.Source {
		s := o.source(data)
		sum := sha512.Sum512(data)
		return senbonzakura.Source{URLs: s.URLs, Size: s.Size, Hashes: []fetch.Hash{{Algorithm: fetch.SHA512, Sum: sum[:]}}}
	}
	product := &mar.Product{Channel: "test", Version: "140.2"}
	ini := "[App]\nName=Firefox\nVersion=140.2\nBuildID=20260101000000\n"
	settings := "[Settings]\nACCEPTED_MAR_CHANNEL_IDS=test\n"
	type input struct {
		name string
		data []byte
	}
	inputs := []input{
		{"empty", nil},
		{"text", []byte("not a MAR")},
		{"the beginning of one", to[:4]},
		{"half", to[:len(to)/2]},
		{"all but a byte", to[:len(to)-1]},
		{"a byte more", append(bytes.Clone(to), 0)},
		{"zeros", make([]byte, 4096)},
		{"no files", packed(t, product, map[string]string{})},
		{"no application.ini", packed(t, product, map[string]string{"a": "b", "update-settings.ini": settings})},
		{"odd application.ini", packed(t, product, map[string]string{"application.ini": "\x00[[[App\nName", "update-settings.ini": settings})},
		{"no version", packed(t, product, map[string]string{"application.ini": "[App]\nName=Firefox\n", "update-settings.ini": settings})},
		{"odd version", packed(t, product, map[string]string{"application.ini": strings.Replace(ini, "140.2", "a.b.c…", 1), "update-settings.ini": settings})},
		{"no settings", packed(t, product, map[string]string{"application.ini": ini})},
		{"no product block", packed(t, nil, map[string]string{"application.ini": ini, "update-settings.ini": settings})},
		{"another product", packed(t, product, map[string]string{"application.ini": strings.Replace(ini, "Firefox", "Thunderbird", 1), "update-settings.ini": settings})},
		{"an unknown product", packed(t, product, map[string]string{"application.ini": strings.Replace(ini, "Firefox", "Nobody", 1), "update-settings.ini": settings})},
		{"far older", packed(t, product, map[string]string{"application.ini": strings.Replace(ini, "140.2", "3.6", 1), "update-settings.ini": settings})},
		{"far newer", packed(t, product, map[string]string{"application.ini": strings.Replace(ini, "140.2", "999.0", 1), "update-settings.ini": settings})},
	}
	step := len(to) / testkit.Count(60, 400, 2000)
	for at := 0; at < len(to); at += step {
		flipped := bytes.Clone(to)
		flipped[at] ^= 0x41
		inputs = append(inputs, input{fmt.Sprintf("byte %d is another", at), flipped})
	}
	kinds := map[job.Code]int{}
	for _, in := range inputs {
		for _, side := range []string{"FROM", "TO"} {
			r := senbonzakura.Request{From: source(from), To: source(in.data)}
			if side == "FROM" {
				r.From, r.To = source(in.data), source(to)
			}
			if bytes.Equal(in.data, from) || bytes.Equal(in.data, to) {
				continue
			}
			for _, recipe := range []*partial.Recipe{nil, ptr(partial.DefaultRecipe())} {
				r.Recipe = recipe
				res, err := g.Generate(t.Context(), r, nil)
				if err == nil {
					kinds["done"]++
					res.Close()
					continue
				}
				e, _ := engine.Judge(err)
				kinds[e.Code]++
				if !slices.Contains([]job.Code{job.CodeInvalidMAR, job.CodeRefused, job.CodeDigest, job.CodeRequest}, e.Code) || e.Whose() != job.FaultCaller && e.Code != job.CodeDigest {
					t.Errorf("%s, %s: %s (%s), from %T: %v", side, in.name, e.Code, e.Whose(), errors.Unwrap(err), err)
				}
			}
		}
	}
	t.Logf("%v", kinds)
	if kinds[job.CodeInvalidMAR] == 0 || kinds[job.CodeRefused] == 0 || kinds["done"] == 0 {
		t.Errorf("not every kind came up: %v", kinds)
	}
}

func ptr[T any](v T) *T { return &v }

// TestContradictions has requests that say something else of a complete than what is here already.
func TestContradictions(t *testing.T) {
	t.Parallel()
	n, o := open(t, setting{dir: t.TempDir()}), newOrigin(t)
	good := o.spec(t, "x")
	if s := n.wait(n.submit(good).ID); s.State != job.Done {
		t.Fatalf("%s, %v", s.State, s.Error)
	}
	wrong := sha256.Sum256([]byte("something else"))
	for _, tt := range []struct {
		name, field string
		change      func(*job.Spec)
	}{
		{"hash of FROM", "from.sha256", func(s *job.Spec) { s.From.SHA256 = hex.EncodeToString(wrong[:]) }},
		{"hash of TO", "to.sha256", func(s *job.Spec) { s.To.SHA256 = hex.EncodeToString(wrong[:]) }},
		{"size of FROM", "from.size", func(s *job.Spec) { s.From.Size++ }},
		{"size of TO", "to.size", func(s *job.Spec) { s.To.Size-- }},
	} {
		for _, salt := range []string{"", "another job of the same completes"} {
			spec := good
			spec.Labels = map[string]string{"salt": salt + tt.name}
			tt.change(&spec)
			s := n.wait(n.submit(spec).ID)
			if s.State != job.Failed || s.Error.Code != job.CodeDigest || s.Error.Field != tt.field || s.Error.Whose() != job.FaultCaller || len(s.Attempts) != 1 {
				t.Errorf("%s: %s, %v, field %q, %d attempts", tt.name, s.State, s.Error, s.Error.Field, len(s.Attempts))
			}
		}
	}
}

// TestPermanentAnswers has an origin whose answers will be the same tomorrow: the job ends at once, as the origin's fault,
// and the log has every address.
func TestPermanentAnswers(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	var asked atomic.Int64
	o.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		switch r.URL.Path {
		case "/404":
			http.NotFound(w, r)
		case "/410":
			w.WriteHeader(http.StatusGone)
		case "/gzip":
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte("x"))
		case "/503":
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			return false
		}
		asked.Add(1)
		return true
	})
	for _, tt := range []struct {
		path     string
		attempts int
		text     string
	}{{"/404", 1, "status 404"}, {"/410", 1, "status 410"}, {"/gzip", 1, "content encoding"}, {"/503", 3, "status 503"}} {
		t.Run(tt.path, func(t *testing.T) {
			var log safeBuffer
			n := open(t, setting{dir: t.TempDir(), options: func(o *engine.Options) {
				o.Attempts, o.RetryDelay, o.Fetch.Attempts = 3, 1, 1
				o.Log = slog.New(slog.NewTextHandler(&log, nil))
			}})
			spec := o.spec(t, "x")
			first := spec.From.URLs[0] + "-not-there"
			spec.From.URLs = []string{first, o.URL + tt.path}
			s := n.wait(n.submit(spec).ID)
			if s.State != job.Failed || s.Error.Code != job.CodeFetch || s.Error.Whose() != job.FaultOrigin || len(s.Attempts) != tt.attempts || !strings.Contains(s.Error.Message, tt.text) {
				t.Errorf("%s, %v, %d attempts, want %d", s.State, s.Error, len(s.Attempts), tt.attempts)
			}
			for _, u := range spec.From.URLs {
				if got := strings.Count(log.String(), "url="+u+" "); got < tt.attempts {
					t.Errorf("the log has %s %d times, want %d:\n%s", u, got, tt.attempts, log.String())
				}
			}
		})
	}
}
