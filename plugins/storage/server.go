package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/internal/storagepb"
)

// maxTTL bounds how long a presigned address may be asked to work: what S3 allows.
const maxTTL = 7 * 24 * time.Hour

// server shows a Backend to the wire.
type server struct {
	storagepb.UnimplementedStorageServer
	backend Backend
}

func (s *server) Info(ctx context.Context, _ *storagepb.InfoRequest) (*storagepb.InfoResponse, error) {
	info, err := s.backend.Info(ctx)
	if err != nil {
		return nil, err
	}
	if _, ok := s.backend.(Presigner); ok && !slices.Contains(info.Capabilities, CapabilityPresign) {
		info.Capabilities = append(slices.Clip(info.Capabilities), CapabilityPresign)
	}
	return &storagepb.InfoResponse{Name: info.Name, Version: info.Version, Capabilities: info.Capabilities}, nil
}

func (s *server) Stat(ctx context.Context, in *storagepb.StatRequest) (*storagepb.StatResponse, error) {
	if err := CheckName(in.GetName()); err != nil {
		return nil, err
	}
	o, err := s.backend.Stat(ctx, in.GetName())
	if err != nil {
		return nil, err
	}
	return &storagepb.StatResponse{Object: objectToWire(o)}, nil
}

func (s *server) Get(in *storagepb.GetRequest, stream grpc.ServerStreamingServer[storagepb.GetResponse]) (err error) {
	if err := CheckName(in.GetName()); err != nil {
		return err
	}
	if in.GetOffset() < 0 || in.GetLength() < 0 {
		return fmt.Errorf("offset %d, length %d: %w", in.GetOffset(), in.GetLength(), plugins.ErrInvalid)
	}
	o, r, err := s.backend.Get(stream.Context(), in.GetName(), in.GetOffset(), in.GetLength())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	size, err := partSize(o, in.GetOffset(), in.GetLength())
	if err != nil {
		return err
	}
	if err := stream.Send(&storagepb.GetResponse{Part: &storagepb.GetResponse_Object{Object: objectToWire(o)}}); err != nil {
		return err
	}
	buf := make([]byte, plugins.ChunkSize)
	for left := size; left > 0; {
		n, err := io.ReadFull(r, buf[:min(left, int64(len(buf)))])
		if err != nil {
			return fmt.Errorf("object %s: %d bytes before the end: %w: %w", o.Name, left-int64(n), plugins.ErrCorrupt, err)
		}
		if err := stream.Send(&storagepb.GetResponse{Part: &storagepb.GetResponse_Chunk{Chunk: buf[:n]}}); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

func (s *server) PutIfAbsent(stream grpc.ClientStreamingServer[storagepb.PutIfAbsentRequest, storagepb.PutIfAbsentResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return fmt.Errorf("read header: %w", plugins.ErrInvalid)
	}
	if first.GetObject() == nil {
		return fmt.Errorf("the first message is no header: %w", plugins.ErrInvalid)
	}
	o, err := objectFromWire(first.GetObject(), true)
	if err != nil {
		return err
	}
	r := newVerifier(o, o.Size, true, func() ([]byte, error) {
		m, err := stream.Recv()
		if err != nil {
			return nil, err // io.EOF after the last chunk, else the host gave up
		}
		return chunk(m.GetChunk())
	})
	there, created, err := s.backend.PutIfAbsent(stream.Context(), o, r)
	if err == nil && created && !errors.Is(r.err, io.EOF) {
		err = fmt.Errorf("object %s was stored without having been read to its end: %w", o.Name, plugins.ErrInternal)
	}
	if err != nil {
		return err
	}
	return stream.SendAndClose(&storagepb.PutIfAbsentResponse{Created: created, Object: objectToWire(there)})
}

// chunk checks one chunk of a stream.
func chunk(b []byte) ([]byte, error) {
	if len(b) == 0 || len(b) > plugins.ChunkSize {
		return nil, fmt.Errorf("message with %d bytes of content, possible are 1 to %d: %w", len(b), plugins.ChunkSize, plugins.ErrInvalid)
	}
	return b, nil
}

func (s *server) Delete(ctx context.Context, in *storagepb.DeleteRequest) (*storagepb.DeleteResponse, error) {
	if err := CheckName(in.GetName()); err != nil {
		return nil, err
	}
	return &storagepb.DeleteResponse{}, s.backend.Delete(ctx, in.GetName())
}

func (s *server) List(ctx context.Context, in *storagepb.ListRequest) (*storagepb.ListResponse, error) {
	if in.GetLimit() < 1 || in.GetLimit() > MaxList || len(in.GetPrefix()) > MaxName || len(in.GetCursor()) > maxCursor {
		return nil, fmt.Errorf("list with limit %d, prefix of %d and cursor of %d bytes: %w", in.GetLimit(), len(in.GetPrefix()), len(in.GetCursor()), plugins.ErrInvalid)
	}
	if err := checkChars(in.GetPrefix()); err != nil {
		return nil, err
	}
	objects, next, err := s.backend.List(ctx, in.GetPrefix(), in.GetCursor(), int(in.GetLimit()))
	if err != nil {
		return nil, err
	}
	reply := &storagepb.ListResponse{NextCursor: next}
	for _, o := range objects {
		reply.Objects = append(reply.Objects, objectToWire(o))
	}
	return reply, nil
}

func (s *server) Presign(ctx context.Context, in *storagepb.PresignRequest) (*storagepb.PresignResponse, error) {
	p, ok := s.backend.(Presigner)
	if !ok {
		return nil, fmt.Errorf("no addresses for others: %w", plugins.ErrUnsupported)
	}
	if err := CheckName(in.GetName()); err != nil {
		return nil, err
	}
	if in.GetTtlSeconds() < 1 || in.GetTtlSeconds() > int64(maxTTL/time.Second) {
		return nil, fmt.Errorf("address for %d s, possible are 1 s to %v: %w", in.GetTtlSeconds(), maxTTL, plugins.ErrInvalid)
	}
	url, until, err := p.Presign(ctx, in.GetName(), time.Duration(in.GetTtlSeconds())*time.Second)
	if err != nil {
		return nil, err
	}
	return &storagepb.PresignResponse{Url: url, Expires: until.Unix()}, nil
}
