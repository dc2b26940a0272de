package fetch_test

import (
	"bytes"
	"crypto/sha256"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/senbonzakura/senbonzakura/fetch"
)

// countedConn counts what is read.
type countedConn struct {
	net.Conn
	n *atomic.Int64
}

func (c countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// A program can put its own hands around every connection.
func TestConn(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("x"), 100_000)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) }))
	defer srv.Close()
	var read atomic.Int64
	c, err := fetch.New(&fetch.Options{
		Insecure: true, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Dir: t.TempDir(),
		Conn: func(conn net.Conn) net.Conn { return countedConn{conn, &read} },
	})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	f, err := c.Fetch(t.Context(), fetch.Request{URLs: []string{srv.URL}, Hashes: []fetch.Hash{{Algorithm: fetch.SHA256, Sum: sum[:]}}})
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if read.Load() < int64(len(data)) {
		t.Errorf("%d bytes came by the program's connection, want all of %d", read.Load(), len(data))
	}
}
