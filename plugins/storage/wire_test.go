package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/internal/storagepb"
)

// liar answers what a test wants, past everything that Serve checks.
type liar struct {
	storagepb.UnimplementedStorageServer
	stat    *storagepb.Object
	get     []*storagepb.GetResponse
	endless bool
	put     *storagepb.PutIfAbsentResponse
	list    *storagepb.ListResponse
	presign *storagepb.PresignResponse
}

func (l *liar) Stat(context.Context, *storagepb.StatRequest) (*storagepb.StatResponse, error) {
	return &storagepb.StatResponse{Object: l.stat}, nil
}

func (l *liar) Get(_ *storagepb.GetRequest, s grpc.ServerStreamingServer[storagepb.GetResponse]) error {
	for _, m := range l.get {
		if err := s.Send(m); err != nil {
			return err
		}
	}
	for l.endless {
		if err := s.Send(l.get[len(l.get)-1]); err != nil {
			return err
		}
	}
	return nil
}

func (l *liar) PutIfAbsent(s grpc.ClientStreamingServer[storagepb.PutIfAbsentRequest, storagepb.PutIfAbsentResponse]) error {
	return s.SendAndClose(l.put)
}

func (l *liar) List(context.Context, *storagepb.ListRequest) (*storagepb.ListResponse, error) {
	return l.list, nil
}

func (l *liar) Presign(context.Context, *storagepb.PresignRequest) (*storagepb.PresignResponse, error) {
	return l.presign, nil
}

func lie(t *testing.T, l *liar) *Client {
	t.Helper()
	p, err := plugins.Local("liar", func(r grpc.ServiceRegistrar) { storagepb.RegisterStorageServer(r, l) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return &Client{process: p}
}

func wireObject(name string, b []byte) *storagepb.Object {
	sum := sha256.Sum256(b)
	return &storagepb.Object{Name: name, Size: int64(len(b)), Sha256: sum[:]}
}

func header(o *storagepb.Object) *storagepb.GetResponse {
	return &storagepb.GetResponse{Part: &storagepb.GetResponse_Object{Object: o}}
}

func chunkOf(b []byte) *storagepb.GetResponse {
	return &storagepb.GetResponse{Part: &storagepb.GetResponse_Chunk{Chunk: b}}
}

func TestGetLies(t *testing.T) {
	body := []byte("the object's bytes")
	o := wireObject("name", body)
	change := func(f func(o *storagepb.Object)) *storagepb.GetResponse {
		c := proto.CloneOf(o)
		f(c)
		return header(c)
	}
	huge := make([]byte, plugins.ChunkSize+1)
	tests := []struct {
		name string
		l    liar
		want error
	}{
		{"nothing", liar{}, plugins.ErrAnswer},
		{"no header", liar{get: []*storagepb.GetResponse{chunkOf(body)}}, plugins.ErrAnswer},
		{"empty message", liar{get: []*storagepb.GetResponse{{}}}, plugins.ErrAnswer},
		{"other name", liar{get: []*storagepb.GetResponse{header(wireObject("other", body)), chunkOf(body)}}, plugins.ErrAnswer},
		{"negative size", liar{get: []*storagepb.GetResponse{change(func(o *storagepb.Object) { o.Size = -1 })}}, plugins.ErrAnswer},
		{"short hash", liar{get: []*storagepb.GetResponse{change(func(o *storagepb.Object) { o.Sha256 = o.Sha256[:31] })}}, plugins.ErrAnswer},
		{"no hash", liar{get: []*storagepb.GetResponse{change(func(o *storagepb.Object) { o.Sha256 = nil })}}, plugins.ErrAnswer},
		{"two headers", liar{get: []*storagepb.GetResponse{header(o), header(o), chunkOf(body)}}, plugins.ErrAnswer},
		{"empty chunk", liar{get: []*storagepb.GetResponse{header(o), chunkOf(nil), chunkOf(body)}}, plugins.ErrAnswer},
		{"huge chunk", liar{get: []*storagepb.GetResponse{header(wireObject("name", huge)), chunkOf(huge)}}, plugins.ErrAnswer},
		{"short", liar{get: []*storagepb.GetResponse{header(o), chunkOf(body[1:])}}, plugins.ErrCorrupt},
		{"long", liar{get: []*storagepb.GetResponse{header(o), chunkOf(body), chunkOf([]byte("x"))}}, plugins.ErrCorrupt},
		{"endless", liar{endless: true, get: []*storagepb.GetResponse{header(o), chunkOf(body)}}, plugins.ErrCorrupt},
		{"other bytes", liar{get: []*storagepb.GetResponse{header(o), chunkOf(bytes.ToUpper(body))}}, plugins.ErrCorrupt},
		{"oversize message", liar{get: []*storagepb.GetResponse{header(o), chunkOf(make([]byte, plugins.MaxMessage))}}, plugins.ErrLimit},
		{"right", liar{get: []*storagepb.GetResponse{header(o), chunkOf(body[:3]), chunkOf(body[3:])}}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := lie(t, &tt.l).Get(t.Context(), "name", nil)
			if err == nil {
				var b []byte
				b, err = io.ReadAll(r)
				r.Close()
				if err == nil && !bytes.Equal(b, body) {
					t.Errorf("got %q", b)
				}
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	c := lie(t, &liar{get: []*storagepb.GetResponse{header(o), chunkOf(body)}})
	want := Object{Name: "name", Size: int64(len(body)), SHA256: sha256.Sum256([]byte("wanted"))}
	if _, err := c.Get(t.Context(), "name", &GetOptions{Want: &want}); !errors.Is(err, plugins.ErrCorrupt) {
		t.Errorf("consistent, but not what is wanted: got %v, want ErrCorrupt", err)
	}
	if _, err := c.Get(t.Context(), "name", &GetOptions{Offset: 100}); !errors.Is(err, plugins.ErrAnswer) {
		t.Errorf("part behind the end: got %v, want ErrAnswer", err)
	}
}

func TestOtherLies(t *testing.T) {
	a, b := wireObject("p/a", nil), wireObject("p/b", nil)
	tests := []struct {
		name string
		l    liar
		call func(ctx context.Context, c *Client) error
	}{
		{"stat: nothing", liar{}, func(ctx context.Context, c *Client) error { _, err := c.Stat(ctx, "p/a"); return err }},
		{"stat: other", liar{stat: b}, func(ctx context.Context, c *Client) error { _, err := c.Stat(ctx, "p/a"); return err }},
		{"stat: name", liar{stat: &storagepb.Object{Name: "../a"}}, func(ctx context.Context, c *Client) error { _, err := c.Stat(ctx, "p/a"); return err }},
		{"list: order", liar{list: &storagepb.ListResponse{Objects: []*storagepb.Object{b, a}}}, listed},
		{"list: twice", liar{list: &storagepb.ListResponse{Objects: []*storagepb.Object{a, a}}}, listed},
		{"list: prefix", liar{list: &storagepb.ListResponse{Objects: []*storagepb.Object{wireObject("q", nil)}}}, listed},
		{"list: too many", liar{list: &storagepb.ListResponse{Objects: slices.Repeat([]*storagepb.Object{a}, 1001)}}, listed},
		{"list: empty page that goes on", liar{list: &storagepb.ListResponse{NextCursor: "x"}}, listed},
		{"list: for ever", liar{list: &storagepb.ListResponse{Objects: []*storagepb.Object{a}, NextCursor: "x"}}, listed},
		{"list: long cursor", liar{list: &storagepb.ListResponse{Objects: []*storagepb.Object{a}, NextCursor: strings.Repeat("x", 2000)}}, listed},
		{"list: bad name", liar{list: &storagepb.ListResponse{Objects: []*storagepb.Object{{Name: "p/a b"}}}}, listed},
		{"presign: nothing", liar{presign: &storagepb.PresignResponse{}}, presigned},
		{"presign: script", liar{presign: &storagepb.PresignResponse{Url: "javascript:alert(1)"}}, presigned},
		{"presign: file", liar{presign: &storagepb.PresignResponse{Url: "file:///etc/passwd"}}, presigned},
		{"presign: password", liar{presign: &storagepb.PresignResponse{Url: "https://user:pw@host/x"}}, presigned},
		{"presign: long", liar{presign: &storagepb.PresignResponse{Url: "https://host/" + strings.Repeat("x", 9000)}}, presigned},
		{"put: other stored", liar{put: &storagepb.PutIfAbsentResponse{Created: true, Object: wireObject("p/a", []byte("x"))}}, stored},
		{"put: other name", liar{put: &storagepb.PutIfAbsentResponse{Created: true, Object: b}}, stored},
		{"put: nothing", liar{put: &storagepb.PutIfAbsentResponse{Created: true}}, stored},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.call(t.Context(), lie(t, &tt.l)); !errors.Is(err, plugins.ErrAnswer) {
				t.Errorf("got %v, want ErrAnswer", err)
			}
		})
	}
}

func listed(ctx context.Context, c *Client) error {
	for _, err := range c.All(ctx, "p/") {
		if err != nil {
			return err
		}
	}
	return nil
}

func presigned(ctx context.Context, c *Client) error {
	_, _, err := c.Presign(ctx, "p/a", time.Minute)
	return err
}

func stored(ctx context.Context, c *Client) error {
	o := Object{Name: "p/a", Size: 3, SHA256: sha256.Sum256([]byte("abc"))}
	_, _, err := c.PutIfAbsent(ctx, o, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("abc")), nil })
	return err
}

// TestVerifier reads what is announced in pieces of any size, and every way in which it is not that.
func TestVerifier(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789"), 100)
	o := Object{Name: "o", Size: int64(len(body)), SHA256: sha256.Sum256(body)}
	pieces := func(b []byte, n int, end error) func() ([]byte, error) {
		return func() ([]byte, error) {
			if len(b) == 0 {
				return nil, end
			}
			p := b[:min(n, len(b))]
			b = b[len(p):]
			return p, nil
		}
	}
	for n := 1; n <= len(body)+1; n += 37 {
		if err := iotest.TestReader(newVerifier(o, o.Size, true, pieces(body, n, io.EOF)), body); err != nil {
			t.Errorf("pieces of %d: %v", n, err)
		}
	}
	for cut := range len(body) {
		if _, err := io.ReadAll(newVerifier(o, o.Size, true, pieces(body[:cut], 100, io.EOF))); !errors.Is(err, plugins.ErrCorrupt) {
			t.Fatalf("cut at %d: got %v, want ErrCorrupt", cut, err)
		}
	}
	if _, err := io.ReadAll(newVerifier(o, o.Size, true, pieces(body[:500], 100, io.ErrNoProgress))); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("failure: got %v, want it", err)
	}
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"", "a", "a/b", "../a", "a//b", "a~", "ä", ".", "..."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if CheckName(name) != nil {
			return
		}
		if len(name) > MaxName || strings.HasPrefix(name, "/") || strings.Contains("/"+name+"/", "/../") || strings.ContainsAny(name, "~\\ \x00") {
			t.Errorf("%q was accepted", name)
		}
	})
}
