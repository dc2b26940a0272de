package senbonzakura_test

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/mar"
)

// service makes partial updates for who asks by HTTP.
type service struct {
	generator *senbonzakura.Generator
	made      atomic.Int64 // bytes; a counter of the metrics
	failed    map[senbonzakura.Fault]*atomic.Int64
}

// newService has all that it needs handed in, so that tests can hand in something else.
func newService(store *cache.Layered, client *fetch.Client) (*service, error) {
	s := &service{failed: map[senbonzakura.Fault]*atomic.Int64{}}
	for _, f := range senbonzakura.Faults() {
		s.failed[f] = &atomic.Int64{}
	}
	var err error
	s.generator, err = senbonzakura.New(senbonzakura.Options{
		Fetch: client, Cache: store,
		Observe: senbonzakura.Observer{Answered: func(a senbonzakura.Answer) {
			if count := s.failed[senbonzakura.FaultOf(a.Err)]; count != nil {
				count.Add(1)
			} else if a.Err == nil && !a.Cached {
				s.made.Add(a.Size)
			}
		}},
	})
	return s, err
}

// ServeHTTP answers a POST of two addresses, each with its SHA-512, with the update.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		From struct{ URL, SHA512 string }
		To   struct{ URL, SHA512 string }
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	from, errFrom := fetch.ParseHash("sha512:" + asked.From.SHA512)
	to, errTo := fetch.ParseHash("sha512:" + asked.To.SHA512)
	if err := errors.Join(errFrom, errTo); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	// The job ends with the request, unless others wait for the same.
	result, err := s.generator.Generate(r.Context(), senbonzakura.Request{
		From: senbonzakura.Source{URLs: []string{asked.From.URL}, Hashes: []fetch.Hash{from}},
		To:   senbonzakura.Source{URLs: []string{asked.To.URL}, Hashes: []fetch.Hash{to}},
	}, nil)
	switch senbonzakura.FaultOf(err) {
	case senbonzakura.FaultCaller:
		http.Error(w, fetch.Public(err), http.StatusUnprocessableEntity)
		return
	case senbonzakura.FaultOrigin:
		http.Error(w, fetch.Public(err), http.StatusBadGateway)
		return
	case senbonzakura.FaultService:
		http.Error(w, "not now; the log says why", http.StatusServiceUnavailable)
		return
	}
	if err != nil {
		return // nobody is there any more
	}
	defer result.Close()
	update := result.Open()
	defer update.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", fmt.Sprintf("%q", fmt.Sprintf("%x", result.SHA256)))
	http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(update, 0, update.Size()))
}

// A whole service: it answers by HTTP, says whose a failure is, and counts for its metrics.
func Example_service() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	releases := httptest.NewServer(http.FileServer(http.Dir(dir))) // stands for where releases are published
	defer releases.Close()
	source := map[string]string{}
	for _, version := range []string{"1.0", "1.1"} {
		name := filepath.Join(dir, version+".mar")
		if err := complete(ctx, name, version); err != nil {
			fmt.Println(err)
			return
		}
		data, err := os.ReadFile(name)
		if err != nil {
			fmt.Println(err)
			return
		}
		source[version] = fmt.Sprintf(`{"url": "%s/%s.mar", "sha512": "%x"}`, releases.URL, version, sha512.Sum512(data))
	}

	disk, err := cache.OpenDisk(ctx, filepath.Join(dir, "cache"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer disk.Close()
	store := cache.NewLayered([]cache.Store{disk}, nil)
	defer store.Close()
	client, err := fetch.New(&fetch.Options{
		Dir: store.TempDir(), Insecure: true, Attempts: 1, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	s, err := newService(store, client)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.generator.Close()
	server := httptest.NewServer(s)
	defer server.Close()

	gone := fmt.Sprintf(`{"url": "%s/0.9.mar", "sha512": "%x"}`, releases.URL, sha512.Sum512([]byte("nobody has it")))
	for _, pair := range [][2]string{
		{source["1.0"], source["1.1"]},
		{source["1.0"], source["1.1"]},
		{source["1.1"], source["1.0"]}, // updaters take no older version
		{gone, source["1.1"]},
	} {
		answer, err := http.Post(server.URL, "application/json", strings.NewReader(`{"from": `+pair[0]+`, "to": `+pair[1]+`}`))
		if err != nil {
			fmt.Println(err)
			return
		}
		data, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil {
			fmt.Println(err)
			return
		}
		if answer.StatusCode != http.StatusOK {
			fmt.Println(answer.Status)
			continue
		}
		update, err := mar.NewReader(bytes.NewReader(data), int64(len(data)), nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		product, _ := update.Product()
		fmt.Println(answer.Status, "an update to", product.Version)
	}
	fmt.Println("made:", s.made.Load() > 0, "failed:", s.failed[senbonzakura.FaultCaller].Load(), s.failed[senbonzakura.FaultOrigin].Load(), s.failed[senbonzakura.FaultService].Load())
	// Output:
	// 200 OK an update to 1.1
	// 200 OK an update to 1.1
	// 422 Unprocessable Entity
	// 502 Bad Gateway
	// made: true failed: 1 1 0
}
