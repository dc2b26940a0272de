package fetch_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// TestBroken breaks a download at many offsets, at servers that resume, that cannot, and whose file changes
// meanwhile.
func TestBroken(t *testing.T) {
	offsets := testkit.Count(64, 64, 1000)
	data, old := content(6, 256<<10), content(7, 256<<10)
	modes := []string{"range", "no range", "changed ETag", "changed unnoticed"}
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			var twice, most int64
			for i := range offsets {
				cut := i * len(data) / offsets
				o := newOrigin(t, data)
				o.cut = func(request int) int {
					if request == 1 {
						return cut
					}
					return -1
				}
				o.noRange = mode == "no range"
				handler := http.Handler(o)
				if strings.HasPrefix(mode, "changed") {
					// The first answer is of another file; what is wanted comes afterwards.
					before := newOrigin(t, old)
					before.etag = func(int) string { return `"old"` }
					before.cut = o.cut
					o.cut = nil
					if mode == "changed unnoticed" { // the server forgot to change the tag: only the hash tells
						o.etag = before.etag
					}
					var requests atomic.Int64
					handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if requests.Add(1) == 1 {
							before.ServeHTTP(w, r)
						} else {
							o.ServeHTTP(w, r)
						}
					})
				}
				s := httptest.NewServer(handler)
				var received, last int64
				mustFetch(t, client(t, nil), fetch.Request{
					URLs: []string{s.URL}, Hashes: []fetch.Hash{sum512(data)},
					Progress: func(done, _ int64) {
						if done < last {
							last = 0
						}
						received += done - last
						last = done
					},
				}, data)
				s.Close()
				o.Close()
				again := received - int64(len(data))
				twice += again
				most = max(most, again)
				if mode == "range" && again > int64(len(data))/20 {
					t.Errorf("cut at %d: %d of %d bytes were read twice", cut, again, len(data))
				}
			}
			t.Logf("%d offsets: 0 wrong files, %d bytes read twice, at most %d of one file of %d", offsets, twice, most, len(data))
		})
	}
}

// TestSlow asks servers that send nothing, too little or too much.
func TestSlow(t *testing.T) {
	const stall = 400 * time.Millisecond
	flush := func(w http.ResponseWriter) { http.NewResponseController(w).Flush() }
	tests := []struct {
		name    string
		size    int64
		handler http.HandlerFunc
		check   func(err error) bool
	}{
		{"silent", 0, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, isStall(0)},
		{"0 B/s", 0, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000000")
			flush(w)
			<-r.Context().Done()
		}, isStall(0)},
		{"stops", 0, func(w http.ResponseWriter, r *http.Request) {
			w.Write(make([]byte, 100_000))
			flush(w)
			<-r.Context().Done()
		}, isStall(-1)},
		{"slow", 0, func(w http.ResponseWriter, r *http.Request) { // 1 B/s where the stall limit is 30 s
			tick := time.NewTicker(stall / 30)
			defer tick.Stop()
			for r.Context().Err() == nil {
				w.Write([]byte{1})
				flush(w)
				select {
				case <-tick.C:
				case <-r.Context().Done():
				}
			}
		}, isStall(-1)},
		{"endless", 0, endless, isSize(true)},
		{"endless, size known", 5 << 20, endless, isSize(false)},
		{"10 GiB declared", 0, declare10GiB, isSize(true)},
		{"10 GiB declared, size known", 5 << 20, declare10GiB, isSize(false)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(tt.handler)
			defer s.Close()
			c := client(t, func(o *fetch.Options) {
				o.Stall, o.Attempts, o.MaxSize = stall, 1, 64<<20
			})
			var before, now runtime.MemStats
			runtime.ReadMemStats(&before)
			var peak uint64
			var calls int
			start := time.Now()
			_, err := c.Fetch(t.Context(), fetch.Request{
				URLs: []string{s.URL}, Size: tt.size, Hashes: []fetch.Hash{sum512(nil)},
				Progress: func(_, _ int64) {
					if calls++; calls%256 == 0 {
						runtime.ReadMemStats(&now)
						peak = max(peak, now.HeapAlloc)
					}
				},
			})
			took := time.Since(start)
			c.Close()
			if !tt.check(err) {
				t.Errorf("got %v", err)
			}
			if isStall(-1)(err) && took > stall+time.Second {
				t.Errorf("took %v, want at most %v + 1 s", took, stall)
			}
			if peak > before.HeapAlloc+32<<20 {
				t.Errorf("heap grew from %d to %d bytes", before.HeapAlloc, peak)
			}
			t.Logf("%v after %v", err, took.Round(time.Millisecond))
		})
	}
}

func endless(w http.ResponseWriter, _ *http.Request) {
	p := make([]byte, 1<<20)
	for {
		if _, err := w.Write(p); err != nil {
			return
		}
	}
}

func declare10GiB(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", fmt.Sprint(int64(10)<<30))
	endless(w, r)
}

func isStall(bytes int64) func(error) bool {
	return func(err error) bool {
		var s *fetch.StallError
		return errors.As(err, &s) && (bytes < 0 || s.Bytes == bytes)
	}
}

func isSize(limit bool) func(error) bool {
	return func(err error) bool {
		var s *fetch.SizeError
		return errors.As(err, &s) && s.Limit == limit && s.Got > s.Want
	}
}

// TestMismatch serves files that are not the ones asked for.
func TestMismatch(t *testing.T) {
	data := content(8, 20_000)
	mutations := []struct {
		name string
		make func() []byte
	}{
		{"first bit", func() []byte { b := content(8, 20_000); b[0] ^= 1; return b }},
		{"last bit", func() []byte { b := content(8, 20_000); b[len(b)-1] ^= 0x80; return b }},
		{"cut", func() []byte { return data[:len(data)-1] }},
		{"longer", func() []byte { return append(content(8, 20_000), 0) }},
		{"another file", func() []byte { return content(9, 20_000) }},
	}
	cases := 0
	for _, algorithm := range []fetch.Algorithm{fetch.SHA512, fetch.SHA384, fetch.SHA256, fetch.SHA1} {
		want := hashOf(algorithm, data)
		for _, m := range mutations {
			cases++
			wrong := m.make()
			o := newOrigin(t, wrong)
			c := client(t, nil) // sees to it that nothing is left
			f, err := c.Fetch(t.Context(), fetch.Request{URLs: []string{o.URL, o.URL + "/mirror"}, Hashes: []fetch.Hash{want}})
			var digest *fetch.DigestError
			if f != nil || !errors.As(err, &digest) || digest.Algorithm != algorithm {
				t.Errorf("%s, %s: got %v, want a *DigestError", algorithm, m.name, err)
				continue
			}
			for _, sum := range [][]byte{want.Sum, hashOf(algorithm, wrong).Sum} {
				if !strings.Contains(err.Error(), hex.EncodeToString(sum)) {
					t.Errorf("%s, %s: %v does not hold %x", algorithm, m.name, err, sum)
				}
			}
			if n := o.requests.Load(); n != 2 {
				t.Errorf("%s, %s: %d requests for two URLs", algorithm, m.name, n)
			}
		}
	}
	t.Logf("%d wrong files, 0 handed out, each URL asked once", cases)
}

// TestRedirects sends the client where it must not go.
func TestRedirects(t *testing.T) {
	data := content(10, 1000)
	var plain, secure *httptest.Server
	var outside atomic.Int64
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := func(where string) { w.Header().Set("Location", where); w.WriteHeader(http.StatusFound) }
		var n int
		switch {
		case r.URL.Path == "/pub/file" || r.URL.Path == "/file":
			if r.URL.Path == "/file" {
				outside.Add(1)
			}
			w.Write(data)
		case r.URL.Path == "/pub/loop1":
			to("/pub/loop1")
		case r.URL.Path == "/pub/loop2":
			to("/pub/loop3")
		case r.URL.Path == "/pub/loop3":
			to("/pub/loop2")
		case sscanf(r.URL.Path, "/pub/hops/%d", &n):
			if n == 1 {
				to("/pub/file")
			} else {
				to(fmt.Sprintf("/pub/hops/%d", n-1))
			}
		case sscanf(r.URL.Path, "/pub/endless/%d", &n):
			to(fmt.Sprintf("/pub/endless/%d", n+1))
		case r.URL.Path == "/pub/nowhere":
			w.WriteHeader(http.StatusFound)
		case r.URL.Path == "/pub/to":
			to(r.URL.Query().Get("where"))
		default:
			http.NotFound(w, r)
		}
	})
	plain = httptest.NewServer(handler)
	secure = httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	pool := x509.NewCertPool()
	pool.AddCert(secure.Certificate())
	to := func(base *httptest.Server, where string) string {
		return base.URL + "/pub/to?where=" + url.QueryEscape(where)
	}
	other := strings.Replace(plain.URL, "127.0.0.1", "localhost", 1)
	notAllowed := func(r fetch.Reason) func(error) bool {
		return func(err error) bool {
			var n *fetch.NotAllowedError
			return errors.As(err, &n) && n.Reason == r
		}
	}
	refused := func(err error) bool {
		var a *fetch.AddressError
		return errors.As(err, &a)
	}
	status := func(err error) bool {
		var s *fetch.StatusError
		return errors.As(err, &s)
	}
	tests := []struct {
		name, url string
		ok        func(error) bool
	}{
		{"to itself", plain.URL + "/pub/loop1", notAllowed(fetch.ReasonLoop)},
		{"circle", plain.URL + "/pub/loop2", notAllowed(fetch.ReasonLoop)},
		{"6 hops", plain.URL + "/pub/hops/6", notAllowed(fetch.ReasonRedirects)},
		{"endless", plain.URL + "/pub/endless/1", notAllowed(fetch.ReasonRedirects)},
		{"https to http", to(secure, plain.URL+"/pub/file"), notAllowed(fetch.ReasonDowngrade)},
		{"https to http on the second hop", to(secure, to(secure, plain.URL+"/pub/file")), notAllowed(fetch.ReasonDowngrade)},
		{"private address", to(plain, "http://10.0.0.1/pub/file"), refused},
		{"metadata service", to(plain, "http://169.254.169.254/latest/meta-data/"), refused},
		{"mapped address", to(plain, "http://[::ffff:10.0.0.1]/"), refused},
		{"file", to(plain, "file:///etc/passwd"), notAllowed(fetch.ReasonScheme)},
		{"ftp", to(plain, "ftp://example.com/file"), notAllowed(fetch.ReasonScheme)},
		{"opener's scheme", to(plain, "test://bucket/file"), notAllowed(fetch.ReasonScheme)},
		{"no location", plain.URL + "/pub/nowhere", status},
		{"malformed location", to(plain, "http://[::1"), status},
		{"no host", to(plain, "http:///x"), notAllowed(fetch.ReasonMalformed)},
		{"opaque", to(plain, "http:x"), notAllowed(fetch.ReasonMalformed)},
	}
	for _, tt := range tests {
		c := client(t, func(o *fetch.Options) {
			o.TLS = &tls.Config{RootCAs: pool}
			o.Files = true
			o.Openers = map[string]fetch.Opener{"test": nil}
			o.Openers["test"] = openerFunc(func(context.Context, *url.URL, fetch.Position) (*fetch.Object, error) {
				t.Error("a redirect reached an opener")
				return nil, errors.ErrUnsupported
			})
		})
		_, err := c.Fetch(t.Context(), fetch.Request{URLs: []string{tt.url}, Hashes: []fetch.Hash{sum512(data)}})
		var all *fetch.Error
		if !tt.ok(err) || !errors.As(err, &all) || all.Tries[0].Attempts != 1 {
			t.Errorf("%s: got %v", tt.name, err)
		}
	}
	bounded := []struct{ name, url string }{
		{"other path", to(plain, "/file")},
		{"dot segments", to(plain, "/pub/../file")},
		{"escaped dot segments", to(plain, "/pub/%2e%2e/file")},
		{"escaped slash", to(plain, "/pub/..%2ffile")},
		{"other host", to(plain, other+"/pub/file")},
		{"prefix without boundary", to(plain, "/publicity")},
	}
	for _, tt := range bounded {
		c := client(t, func(o *fetch.Options) { o.Prefixes = []string{plain.URL + "/pub"} })
		_, err := c.Fetch(t.Context(), fetch.Request{URLs: []string{tt.url}, Hashes: []fetch.Hash{sum512(data)}})
		if !notAllowed(fetch.ReasonPrefix)(err) {
			t.Errorf("%s: got %v", tt.name, err)
		}
	}
	if n := outside.Load(); n != 0 {
		t.Errorf("%d requests outside the prefix", n)
	}
	// What is allowed still works.
	mustFetch(t, client(t, nil), fetch.Request{URLs: []string{plain.URL + "/pub/hops/5"}, Hashes: []fetch.Hash{sum512(data)}}, data)
	c := client(t, func(o *fetch.Options) {
		o.TLS = &tls.Config{RootCAs: pool}
		o.Prefixes = []string{plain.URL + "/pub/", secure.URL + "/pub/"}
	})
	mustFetch(t, c, fetch.Request{URLs: []string{to(plain, secure.URL+"/pub/file")}, Hashes: []fetch.Hash{sum512(data)}}, data)
	t.Logf("%d cases refused", len(tests)+len(bounded))
}

type openerFunc func(context.Context, *url.URL, fetch.Position) (*fetch.Object, error)

func (f openerFunc) Open(ctx context.Context, u *url.URL, p fetch.Position) (*fetch.Object, error) {
	return f(ctx, u, p)
}

func sscanf(s, format string, n *int) bool {
	m, err := fmt.Sscanf(s, format, n)
	return m == 1 && err == nil
}

// TestPrivateAddresses tries to reach this machine and private networks in every spelling: as the URL's host, as
// a redirect's, and through a name server that lies. A canary counts connections.
func TestPrivateAddresses(t *testing.T) {
	canary, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	var connections atomic.Int64
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := canary.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			http.ReadRequest(bufio.NewReader(conn))
			io.WriteString(conn, "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")
			conn.Close()
		}
	})
	defer accepting.Wait()
	defer canary.Close()
	port := canary.Addr().(*net.TCPAddr).Port

	// The redirector stands on an address of its own, the only one that is allowed.
	listener, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skipf("no second loopback address: %v", err)
	}
	redirector := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", r.URL.Query().Get("to"))
		w.WriteHeader(http.StatusTemporaryRedirect)
	})}}
	redirector.Start()
	defer redirector.Close()

	spellings := []struct{ host, address string }{ // the address is what a system's resolver may make of the host
		{"127.0.0.1", "127.0.0.1"},
		{"127.0.0.1.", "127.0.0.1"},
		{"127.1", "127.0.0.1"},
		{"127.0.1", "127.0.0.1"},
		{"2130706433", "127.0.0.1"},
		{"0x7f000001", "127.0.0.1"},
		{"0x7f.1", "127.0.0.1"},
		{"0177.0.0.1", "127.0.0.1"},
		{"017700000001", "127.0.0.1"},
		{"localhost", "127.0.0.1"},
		{"LOCALHOST.", "127.0.0.1"},
		{"１２７.0.0.1", "127.0.0.1"},
		{"example.com@127.0.0.1", "127.0.0.1"},
		{"127.255.255.254", "127.255.255.254"},
		{"[::1]", "::1"},
		{"[0:0:0:0:0:0:0:1]", "::1"},
		{"[::ffff:127.0.0.1]", "::ffff:127.0.0.1"},
		{"[::ffff:7f00:1]", "::ffff:127.0.0.1"},
		{"[::127.0.0.1]", "::127.0.0.1"},
		{"0.0.0.0", "0.0.0.0"},
		{"0", "0.0.0.0"},
		{"[::]", "::"},
		{"10.0.0.1", "10.0.0.1"},
		{"172.16.0.1", "172.16.0.1"},
		{"172.31.255.255", "172.31.255.255"},
		{"192.168.0.1", "192.168.0.1"},
		{"169.254.169.254", "169.254.169.254"},
		{"[fe80::1]", "fe80::1"},
		{"[fe80::1%25lo]", "fe80::1"},
		{"[fd00::1]", "fd00::1"},
		{"[64:ff9b::7f00:1]", "64:ff9b::7f00:1"},
		{"[2002:7f00:1::]", "2002:7f00:1::"},
		{"[2001:db8::1]", "2001:db8::1"},
		{"100.64.0.1", "100.64.0.1"},
		{"198.18.0.1", "198.18.0.1"},
		{"192.0.2.1", "192.0.2.1"},
		{"224.0.0.1", "224.0.0.1"},
		{"240.0.0.1", "240.0.0.1"},
		{"255.255.255.255", "255.255.255.255"},
	}
	names := make(map[string]netip.Addr)
	for i, s := range spellings {
		ip := netip.MustParseAddr(s.address)
		names[strings.ToLower(strings.TrimSuffix(s.host, "."))] = ip
		names[fmt.Sprintf("rebind-%d.example.com", i)] = ip
	}
	resolver := fakeResolver(names)
	c := client(t, func(o *fetch.Options) {
		o.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
		o.Ports = []uint16{80, uint16(port)}
		o.Resolver = resolver
		o.Stall = 2 * time.Second
		o.Attempts = 2
	})
	system := client(t, func(o *fetch.Options) { // what this machine's resolver makes of them
		o.Ports, o.Attempts = []uint16{uint16(port)}, 2
		o.AllowNetworks = nil
	})
	cases, unresolved := 0, 0
	for i, s := range spellings {
		for way, u := range map[string]string{
			"direct":   fmt.Sprintf("http://%s:%d/", s.host, port),
			"redirect": redirector.URL + "/?to=" + url.QueryEscape(fmt.Sprintf("http://%s:%d/", s.host, port)),
			"system":   fmt.Sprintf("http://%s:%d/", s.host, port),
			"rebind":   fmt.Sprintf("http://rebind-%d.example.com:%d/", i, port),
		} {
			cases++
			by := c
			if way == "system" {
				by = system
			}
			_, err := by.Fetch(t.Context(), fetch.Request{URLs: []string{u}, Hashes: []fetch.Hash{sum512(nil)}})
			var address *fetch.AddressError
			var all *fetch.Error
			var dns *net.DNSError
			switch {
			case !errors.As(err, &all) || all.Tries[0].Attempts != 1:
				t.Errorf("%s, %s: got %v, want one attempt", s.host, way, err)
			case errors.As(err, &dns) && dns.IsNotFound && way != "rebind": // a resolver that does not know such numbers
				unresolved++
			case !errors.As(err, &address):
				t.Errorf("%s, %s: got %v, want an *AddressError", s.host, way, err)
			}
		}
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections reached the canary", n)
	}
	t.Logf("%d spellings × {direct, redirect, rebind, system's resolver} = %d requests, %d of them not even resolved: %d connections reached the canary",
		len(spellings), cases, unresolved, connections.Load())

	// The canary would have noticed: with loopback allowed, the same name leads to it.
	allowed := client(t, func(o *fetch.Options) { o.Resolver = resolver; o.Attempts = 1 })
	mustFetch(t, allowed, fetch.Request{URLs: []string{fmt.Sprintf("http://rebind-0.example.com:%d/", port)}, Hashes: []fetch.Hash{sum512(nil)}}, nil)
	if connections.Load() != 1 {
		t.Errorf("control: %d connections, want 1", connections.Load())
	}
	allowed.Close()
}

// fakeResolver answers every name that it knows, whatever is appended to it, and no other.
func fakeResolver(names map[string]netip.Addr) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() { // ends with the client's connection
			defer server.Close()
			for {
				var length [2]byte
				if _, err := io.ReadFull(server, length[:]); err != nil {
					return
				}
				query := make([]byte, binary.BigEndian.Uint16(length[:]))
				if _, err := io.ReadFull(server, query); err != nil {
					return
				}
				reply := answerDNS(query, names)
				if _, err := server.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
					return
				}
			}
		}()
		return client, nil
	}}
}

// answerDNS makes the reply to a query with one question (RFC 1035, section 4).
func answerDNS(query []byte, names map[string]netip.Addr) []byte {
	var labels []string
	at := 12
	for query[at] != 0 {
		n := int(query[at])
		labels = append(labels, string(query[at+1:at+1+n]))
		at += 1 + n
	}
	end := at + 5
	kind := binary.BigEndian.Uint16(query[at+1:])
	var ip netip.Addr
	for i := range labels { // without the search domains of this machine
		if a, ok := names[strings.ToLower(strings.Join(labels[:len(labels)-i], "."))]; ok {
			ip = a
		}
	}
	var data []byte
	switch {
	case ip.Is4() && kind == 1, ip.Is6() && kind == 28:
		data = ip.AsSlice()
	}
	reply := append([]byte(nil), query[:end]...)
	flags := uint16(0x8180)
	if !ip.IsValid() {
		flags |= 3 // no such name
	}
	binary.BigEndian.PutUint16(reply[2:], flags)
	binary.BigEndian.PutUint64(reply[4:], 0x0001_0000_0000_0000) // one question
	if data != nil {
		binary.BigEndian.PutUint16(reply[6:], 1)
		reply = append(reply, 0xc0, 12) // the question's name
		reply = binary.BigEndian.AppendUint16(reply, kind)
		reply = append(reply, 0, 1, 0, 0, 0, 0) // class IN, 0 s
		reply = binary.BigEndian.AppendUint16(reply, uint16(len(data)))
		reply = append(reply, data...)
	}
	return reply
}

// A deadline ends a download that is never slow enough to be given up; what it waits for its turn does not count.
func TestDeadline(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 3 * 20 { // three seconds in all
			select {
			case <-time.After(50 * time.Millisecond):
			case <-r.Context().Done():
				return
			}
			if r.URL.Path == "/short" {
				return
			}
			_, _ = w.Write([]byte("some bytes"))
			_ = http.NewResponseController(w).Flush()
		}
	}))
	t.Cleanup(srv.Close)
	client, err := fetch.New(&fetch.Options{
		Insecure: true, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Deadline: time.Second, MinRate: -1, PerHost: 1, Attempts: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	hash := []fetch.Hash{{Algorithm: fetch.SHA256, Sum: make([]byte, 32)}}
	first := make(chan error, 1)
	go func() {
		_, err := client.Fetch(t.Context(), fetch.Request{URLs: []string{srv.URL + "/long", srv.URL + "/short"}, Hashes: hash})
		first <- err
	}()
	time.Sleep(200 * time.Millisecond)
	// This one waits for its turn longer than it has left afterwards.
	_, err = client.Fetch(t.Context(), fetch.Request{URLs: []string{srv.URL + "/long"}, Hashes: hash})
	var deadline *fetch.DeadlineError
	var failed *fetch.Error
	if !errors.As(err, &deadline) || !errors.As(err, &failed) || failed.Tries[0].Bytes < 100 {
		t.Errorf("the second: %v", err)
	}
	if err := <-first; !errors.As(err, &deadline) || deadline.After != time.Second || !errors.As(err, &failed) || len(failed.Tries) != 1 {
		t.Errorf("the first: %v, want a DeadlineError for one URL", err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		t.Error("it is taken for the end of the caller's context")
	}
}
