// Command storage-gcs is a storage plugin for a bucket of Google Cloud Storage.
//
//	storage-gcs [-prefix PREFIX] [-endpoint URL] BUCKET
//
// Credentials come from where Google's tools look for them: give the plugin GOOGLE_APPLICATION_CREDENTIALS with --plugin-env, or
// run it where there is a service account. With -endpoint it asks an emulator, without credentials.
//
// Objects are bare bytes with their SHA-256 in the metadata. What is sent last makes the object, after all was read and is right.
package main

import (
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"

	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"
	gcs "google.golang.org/api/storage/v1"

	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/storage"
)

const (
	chunkSize = 8 << 20  // bytes that are in memory: what is larger goes up in several requests
	hashKey   = "sha256" // name of the metadata
)

func main() { storage.Serve(open) }

func open(ctx context.Context) (storage.Backend, error) {
	prefix := flag.String("prefix", "", "begins the name of every object in the bucket")
	endpoint := flag.String("endpoint", "", "address of an emulator")
	flag.Parse()
	if flag.NArg() != 1 {
		return nil, errors.New("usage: storage-gcs [-prefix PREFIX] [-endpoint URL] BUCKET")
	}
	var options []option.ClientOption
	if *endpoint != "" {
		options = append(options, option.WithEndpoint(*endpoint+"/storage/v1/"), option.WithoutAuthentication())
	}
	service, err := gcs.NewService(ctx, options...)
	if err != nil {
		return nil, err
	}
	return &backend{service.Objects, flag.Arg(0), *prefix}, nil
}

type backend struct {
	objects        *gcs.ObjectsService
	bucket, prefix string
}

func (b *backend) Info(context.Context) (storage.Info, error) {
	return storage.Info{Name: "storage-gcs", Version: "1.0"}, nil
}

func (b *backend) Stat(ctx context.Context, name string) (storage.Object, error) {
	o, _, err := b.find(ctx, name)
	return o, err
}

// find describes an object, and says which generation of it that is.
func (b *backend) find(ctx context.Context, name string) (storage.Object, int64, error) {
	there, err := b.objects.Get(b.bucket, b.prefix+name).Context(ctx).Do()
	if err != nil {
		return storage.Object{}, 0, explain(err)
	}
	o := storage.Object{Name: name, Size: int64(there.Size)}
	sum, err := hex.DecodeString(there.Metadata[hashKey])
	if err != nil || len(sum) != len(o.SHA256) {
		return o, 0, fmt.Errorf("object %s has no SHA-256 in its metadata: %w", name, plugins.ErrCorrupt)
	}
	copy(o.SHA256[:], sum)
	return o, there.Generation, nil
}

func (b *backend) Get(ctx context.Context, name string, offset, length int64) (storage.Object, io.ReadCloser, error) {
	o, generation, err := b.find(ctx, name)
	switch {
	case err != nil:
		return o, nil, err
	case o.Size == 0 && offset == 0:
		return o, http.NoBody, nil
	case offset >= o.Size:
		return o, nil, fmt.Errorf("object %s has %d bytes: %w", name, o.Size, plugins.ErrInvalid)
	}
	call := b.objects.Get(b.bucket, b.prefix+name).Generation(generation).Context(ctx)
	if length == 0 || length > o.Size-offset {
		length = o.Size - offset
	}
	call.Header().Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	answer, err := call.Download()
	if err != nil {
		return o, nil, explain(err)
	}
	return o, answer.Body, nil
}

func (b *backend) PutIfAbsent(ctx context.Context, o storage.Object, r io.Reader) (storage.Object, bool, error) {
	if there, err := b.Stat(ctx, o.Name); !errors.Is(err, plugins.ErrNotFound) {
		return there, false, err
	}
	in := &source{Reader: r}
	what := &gcs.Object{Name: b.prefix + o.Name, Metadata: map[string]string{hashKey: hex.EncodeToString(o.SHA256[:])}}
	_, err := b.objects.Insert(b.bucket, what).
		IfGenerationMatch(0). // only where there is none
		Media(in, googleapi.ChunkSize(chunkSize), googleapi.ContentType("application/octet-stream")).Context(ctx).Do()
	if in.err != nil {
		return o, false, in.err
	}
	if status(err) == http.StatusPreconditionFailed {
		there, err := b.Stat(ctx, o.Name)
		return there, false, err
	}
	return o, err == nil, explain(err)
}

// source remembers why it could not be read, which is lost on the way through HTTP.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

func (b *backend) Delete(ctx context.Context, name string) error {
	if err := b.objects.Delete(b.bucket, b.prefix+name).Context(ctx).Do(); status(err) != http.StatusNotFound {
		return explain(err)
	}
	return nil
}

// List leaves out objects whose names cannot name one here. The cursor is the service's.
func (b *backend) List(ctx context.Context, prefix, cursor string, limit int) ([]storage.Object, string, error) {
	for {
		page, err := b.objects.List(b.bucket).Prefix(b.prefix+prefix).PageToken(cursor).MaxResults(int64(limit)).
			Fields("nextPageToken", "items(name,size)").Context(ctx).Do()
		if err != nil {
			return nil, "", explain(err)
		}
		var objects []storage.Object
		for _, item := range page.Items {
			name := strings.TrimPrefix(item.Name, b.prefix)
			if storage.CheckName(name) == nil {
				objects = append(objects, storage.Object{Name: name, Size: int64(item.Size)})
			}
		}
		if cursor = page.NextPageToken; cursor == "" || len(objects) > 0 {
			return objects, cursor, nil
		}
	}
}

// status returns that of the service's answer; 0 where there was none.
func status(err error) int {
	var refused *googleapi.Error
	if errors.As(err, &refused) {
		return refused.Code
	}
	return 0
}

// explain says in the plugin protocol's words why the service did not do it.
func explain(err error) error { return plugins.FromStatus(status(err), err) }
