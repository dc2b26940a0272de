package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/internal/storagepb"
)

// Client is the host's end of a storage plugin. It checks everything that the plugin says or sends: names,
// sizes, order, and the hash of every whole object. Requests that may be made again are repeated as
// plugins.Retry says. Close it. Safe for concurrent use.
type Client struct {
	process *plugins.Process
}

// Start starts a storage plugin and waits until it answers.
func Start(ctx context.Context, cfg plugins.Config) (*Client, error) {
	p, err := plugins.Start(ctx, cfg, Kind())
	if err != nil {
		return nil, err
	}
	c := &Client{process: p}
	if _, err := c.Info(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Local serves a backend within this process, without the protection of a process of its own: for tests, and
// for stores that the host has itself.
func Local(b Backend) (*Client, error) {
	p, err := plugins.Local("storage", func(r grpc.ServiceRegistrar) { register(r, b) })
	if err != nil {
		return nil, err
	}
	return &Client{process: p}, nil
}

// Process returns the plugin's process, to ping it or to learn its number.
func (c *Client) Process() *plugins.Process { return c.process }

// Close ends the plugin. See plugins.Process.Close.
func (c *Client) Close() error { return c.process.Close() }

// call makes one request, again if need be.
func (c *Client) call(ctx context.Context, f func(w storagepb.StorageClient) error) error {
	return plugins.Retry(ctx, func() error { return c.once(ctx, f) })
}

// once makes one request, for who repeats more than this one where it fails.
func (c *Client) once(ctx context.Context, f func(w storagepb.StorageClient) error) error {
	conn, err := c.process.Dispense(ctx)
	if err != nil {
		return err
	}
	return f(storagepb.NewStorageClient(conn))
}

// Info asks the plugin what it is.
func (c *Client) Info(ctx context.Context) (Info, error) {
	var reply *storagepb.InfoResponse
	err := c.call(ctx, func(w storagepb.StorageClient) (err error) {
		reply, err = w.Info(ctx, &storagepb.InfoRequest{})
		return err
	})
	if err != nil {
		return Info{}, err
	}
	if len(reply.GetCapabilities()) > maxText {
		return Info{}, plugins.BadAnswer("%d capabilities", len(reply.GetCapabilities()))
	}
	for _, s := range append([]string{reply.GetName(), reply.GetVersion()}, reply.GetCapabilities()...) {
		if len(s) > maxText || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
			return Info{}, plugins.BadAnswer("name, version or capability %.120q is not up to %d characters of printable ASCII", s, maxText)
		}
	}
	return Info{Name: reply.GetName(), Version: reply.GetVersion(), Capabilities: reply.GetCapabilities()}, nil
}

// object checks an object that the plugin describes.
func object(in *storagepb.Object, name string) (Object, error) {
	o, err := objectFromWire(in, true)
	if err != nil {
		return Object{}, plugins.BadAnswer("%v", err)
	}
	if o.Name != name {
		return Object{}, plugins.BadAnswer("asked for object %s, it answers for %s", name, o.Name)
	}
	return o, nil
}

// Stat describes an object. It returns plugins.ErrNotFound when there is none.
func (c *Client) Stat(ctx context.Context, name string) (Object, error) {
	if err := CheckName(name); err != nil {
		return Object{}, err
	}
	var o Object
	err := c.call(ctx, func(w storagepb.StorageClient) error {
		reply, err := w.Stat(ctx, &storagepb.StatRequest{Name: name})
		if err != nil {
			return err
		}
		o, err = object(reply.GetObject(), name)
		return err
	})
	return o, err
}

// GetOptions says which part of an object is wanted. The zero value wants all of it.
type GetOptions struct {
	// Offset is where to begin, Length how many bytes to read; a Length of 0 means: to the end.
	Offset, Length int64
	// Want is what the object must be. When it is nil the plugin's word is taken for what the hash should be.
	Want *Object
}

// Reader reads an object, or a part of one. It returns io.EOF only after the announced number of bytes and, if
// the whole object was asked for, when their hash is the object's; else plugins.ErrCorrupt. It must be closed.
// Not safe for concurrent use.
type Reader struct {
	object Object
	v      *verifier
	cancel context.CancelFunc
}

// Object returns the whole object, as the plugin describes it and Want confirms it.
func (r *Reader) Object() Object { return r.object }

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) { return r.v.Read(p) }

// Close ends the transfer. Closing it again does nothing.
func (r *Reader) Close() error {
	r.cancel()
	return nil
}

// Get opens an object for reading. It returns plugins.ErrNotFound when there is none, plugins.ErrInvalid for a
// part that begins behind its end, and plugins.ErrCorrupt when it is not what is wanted. The transfer ends with
// ctx.
func (c *Client) Get(ctx context.Context, name string, opts *GetOptions) (*Reader, error) {
	if opts == nil {
		opts = &GetOptions{}
	}
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if opts.Offset < 0 || opts.Length < 0 {
		return nil, fmt.Errorf("object %s: offset %d, length %d: %w", name, opts.Offset, opts.Length, plugins.ErrInvalid)
	}
	var r *Reader
	err := c.call(ctx, func(w storagepb.StorageClient) (err error) {
		r, err = open(ctx, w, name, opts)
		return err
	})
	return r, err
}

// getOnce is Get of a whole object, asked for once.
func (c *Client) getOnce(ctx context.Context, name string) (*Reader, error) {
	var r *Reader
	err := c.once(ctx, func(w storagepb.StorageClient) (err error) {
		r, err = open(ctx, w, name, &GetOptions{})
		return err
	})
	return r, err
}

func open(ctx context.Context, w storagepb.StorageClient, name string, opts *GetOptions) (_ *Reader, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		if err != nil {
			cancel()
		}
	}()
	stream, err := w.Get(ctx, &storagepb.GetRequest{Name: name, Offset: opts.Offset, Length: opts.Length})
	if err != nil {
		return nil, err
	}
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil, plugins.BadAnswer("object %s: an empty stream", name)
	}
	if err != nil {
		return nil, err
	}
	o, err := object(first.GetObject(), name)
	if err != nil {
		return nil, err
	}
	if w := opts.Want; w != nil && (w.Size != o.Size || w.SHA256 != o.SHA256) {
		return nil, fmt.Errorf("object %s: has %d bytes with SHA-256 %x, wanted are %d with %x: %w", name, o.Size, o.SHA256, w.Size, w.SHA256, plugins.ErrCorrupt)
	}
	size, err := partSize(o, opts.Offset, opts.Length)
	if err != nil {
		return nil, plugins.BadAnswer("%v", err)
	}
	r := &Reader{object: o, cancel: cancel}
	r.v = newVerifier(o, size, size == o.Size, func() ([]byte, error) {
		m, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		b, err := chunk(m.GetChunk())
		if err != nil {
			return nil, plugins.BadAnswer("object %s: %v", name, err)
		}
		return b, nil
	})
	return r, nil
}

// PutIfAbsent stores an object whose bytes open yields, unless there is one of that name, and returns the one
// that is there then and whether it is new. open may be called again after a failure that passes. When the
// bytes are not o's, nothing is stored and the error matches plugins.ErrCorrupt. When the object that was there
// already is another one, the error matches plugins.ErrExists.
func (c *Client) PutIfAbsent(ctx context.Context, o Object, open func() (io.ReadCloser, error)) (Object, bool, error) {
	if err := CheckName(o.Name); err != nil {
		return Object{}, false, err
	}
	if o.Size < 0 {
		return Object{}, false, fmt.Errorf("object %s: size %d: %w", o.Name, o.Size, plugins.ErrInvalid)
	}
	var there Object
	var created bool
	err := c.call(ctx, func(w storagepb.StorageClient) (err error) {
		there, created, err = put(ctx, w, o, open)
		return err
	})
	if err != nil {
		return Object{}, false, err
	}
	if there.Size != o.Size || there.SHA256 != o.SHA256 {
		if created {
			return Object{}, false, plugins.BadAnswer("object %s: sent SHA-256 %x, stored is %x", o.Name, o.SHA256, there.SHA256)
		}
		return there, false, &plugins.Error{Reason: plugins.ReasonExists, Message: fmt.Sprintf("object %s is there already with other content", o.Name)}
	}
	return there, created, nil
}

func put(ctx context.Context, w storagepb.StorageClient, o Object, open func() (io.ReadCloser, error)) (Object, bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // whatever is still under way when this returns is thrown away by the plugin
	src, err := open()
	if err != nil {
		return Object{}, false, fmt.Errorf("object %s: open source: %w", o.Name, err)
	}
	defer func() { _ = src.Close() }()
	stream, err := w.PutIfAbsent(ctx)
	if err != nil {
		return Object{}, false, err
	}
	header := objectToWire(o)
	header.Sha256 = o.SHA256[:]
	err = stream.Send(&storagepb.PutIfAbsentRequest{Part: &storagepb.PutIfAbsentRequest_Object{Object: header}})
	buf := make([]byte, plugins.ChunkSize)
	var rerr error
	for err == nil && rerr == nil {
		var n int
		n, rerr = io.ReadFull(src, buf)
		if n > 0 {
			err = stream.Send(&storagepb.PutIfAbsentRequest{Part: &storagepb.PutIfAbsentRequest_Chunk{Chunk: buf[:n]}})
		}
	}
	if err == nil && !errors.Is(rerr, io.EOF) && !errors.Is(rerr, io.ErrUnexpectedEOF) {
		return Object{}, false, fmt.Errorf("object %s: read source: %w", o.Name, rerr)
	}
	reply, err := stream.CloseAndRecv() // where Send failed, this knows why, or the plugin answered early
	if err != nil {
		return Object{}, false, err
	}
	there, err := object(reply.GetObject(), o.Name)
	return there, reply.GetCreated(), err
}

// Delete removes an object. It returns nil when there is none.
func (c *Client) Delete(ctx context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	return c.call(ctx, func(w storagepb.StorageClient) error {
		_, err := w.Delete(ctx, &storagepb.DeleteRequest{Name: name})
		return err
	})
}

// List returns a page of the objects whose names begin with prefix: see Backend.List. A page that is not in
// order, or not below the prefix, is an error.
func (c *Client) List(ctx context.Context, prefix, cursor string, limit int) ([]Object, string, error) {
	var reply *storagepb.ListResponse
	err := c.call(ctx, func(w storagepb.StorageClient) (err error) {
		reply, err = w.List(ctx, &storagepb.ListRequest{Prefix: prefix, Cursor: cursor, Limit: int32(limit)})
		return err
	})
	if err != nil {
		return nil, "", err
	}
	if len(reply.GetObjects()) > limit || len(reply.GetNextCursor()) > maxCursor {
		return nil, "", plugins.BadAnswer("list: %d objects and a cursor of %d bytes", len(reply.GetObjects()), len(reply.GetNextCursor()))
	}
	if reply.GetNextCursor() != "" && (len(reply.GetObjects()) == 0 || reply.GetNextCursor() == cursor) {
		return nil, "", plugins.BadAnswer("list: a page that leads nowhere")
	}
	var objects []Object
	for i, in := range reply.GetObjects() {
		o, err := objectFromWire(in, false)
		if err != nil {
			return nil, "", plugins.BadAnswer("list: %v", err)
		}
		if !strings.HasPrefix(o.Name, prefix) || i > 0 && o.Name <= objects[i-1].Name {
			return nil, "", plugins.BadAnswer("list of %q: object %s is not below it, or not in order", prefix, o.Name)
		}
		objects = append(objects, o)
	}
	return objects, reply.GetNextCursor(), nil
}

// All lists all objects whose names begin with prefix, page by page. It ends with the first error.
func (c *Client) All(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		last := ""
		for cursor := ""; ; {
			page, next, err := c.List(ctx, prefix, cursor, MaxList)
			if err == nil && len(page) > 0 && last != "" && page[0].Name <= last {
				err = plugins.BadAnswer("list of %q: object %s comes again", prefix, page[0].Name)
			}
			if err != nil {
				yield(Object{}, err)
				return
			}
			for _, o := range page {
				if !yield(o, nil) {
					return
				}
				last = o.Name
			}
			if cursor = next; cursor == "" {
				return
			}
		}
	}
}

// Presign returns an address from which anybody can read the object for about ttl, and until when it works. It
// returns plugins.ErrUnsupported where the plugin has no such thing.
func (c *Client) Presign(ctx context.Context, name string, ttl time.Duration) (string, time.Time, error) {
	if err := CheckName(name); err != nil {
		return "", time.Time{}, err
	}
	var reply *storagepb.PresignResponse
	err := c.call(ctx, func(w storagepb.StorageClient) (err error) {
		reply, err = w.Presign(ctx, &storagepb.PresignRequest{Name: name, TtlSeconds: int64(ttl / time.Second)})
		return err
	})
	if err != nil {
		return "", time.Time{}, err
	}
	u, err := url.Parse(reply.GetUrl())
	if err != nil || len(reply.GetUrl()) > maxURL || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		return "", time.Time{}, plugins.BadAnswer("%.200q is no address", reply.GetUrl())
	}
	return reply.GetUrl(), time.Unix(reply.GetExpires(), 0).UTC(), nil
}

// Raw gives access to the plugin past the checks of Client, for tools that examine plugins.
func (c *Client) Raw() Raw { return Raw{c} }

// Raw makes requests that Client would refuse to make.
type Raw struct{ c *Client }

// Stat asks for an object of any name.
func (r Raw) Stat(ctx context.Context, name string) error {
	return r.c.call(ctx, func(w storagepb.StorageClient) error {
		_, err := w.Stat(ctx, &storagepb.StatRequest{Name: name})
		return err
	})
}

// Delete deletes an object of any name.
func (r Raw) Delete(ctx context.Context, name string) error {
	return r.c.call(ctx, func(w storagepb.StorageClient) error {
		_, err := w.Delete(ctx, &storagepb.DeleteRequest{Name: name})
		return err
	})
}
