// Command storage-hello is a storage plugin that keeps objects in a directory: put your store in its place.
//
//	storage-hello DIRECTORY
package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/senbonzakura/senbonzakura/plugins/storage"
)

func main() { storage.Serve(open) }

// open runs once, at the start. Its error ends the plugin and is shown to whoever started it.
func open(context.Context) (storage.Backend, error) {
	if len(os.Args) != 2 {
		return nil, errors.New("usage: storage-hello DIRECTORY")
	}
	return openStore(os.Args[1])
}

func openStore(directory string) (*store, error) {
	root, err := os.OpenRoot(directory)
	if err != nil {
		return nil, err
	}
	dir, err := storage.NewDir(root)
	if err != nil {
		return nil, err
	}
	return &store{dir}, nil
}

// store keeps the objects. Names, sizes and chunks are checked before its methods see them. Several calls come at a time.
type store struct {
	dir *storage.Dir // your client instead
}

// Close is called at the end.
func (s *store) Close() error { return s.dir.Close() }

// Info says what the plugin is. It must not block.
func (s *store) Info(context.Context) (storage.Info, error) {
	return storage.Info{Name: "storage-hello", Version: "0.1"}, nil
}

// Stat describes an object: plugins.ErrNotFound when there is none.
func (s *store) Stat(ctx context.Context, name string) (storage.Object, error) {
	return s.dir.Stat(ctx, name)
}

// Get opens an object, or length bytes of it from offset; a length of 0 means to the end. The description is of all of it.
func (s *store) Get(ctx context.Context, name string, offset, length int64) (storage.Object, io.ReadCloser, error) {
	return s.dir.Get(ctx, name, offset, length)
}

// PutIfAbsent stores an object unless there is one of that name, and says which is there then and whether it is new. The
// object becomes visible as a whole, after the reader has said io.EOF, or not at all; of several writers one wins.
func (s *store) PutIfAbsent(ctx context.Context, o storage.Object, r io.Reader) (storage.Object, bool, error) {
	return s.dir.PutIfAbsent(ctx, o, r)
}

// Delete removes an object. It is no error when there is none.
func (s *store) Delete(ctx context.Context, name string) error {
	return s.dir.Delete(ctx, name)
}

// List returns a page of the objects whose names begin with prefix, in the order of the names' bytes, and where the next
// page begins; "" after the last one.
func (s *store) List(ctx context.Context, prefix, cursor string, limit int) ([]storage.Object, string, error) {
	return s.dir.List(ctx, prefix, cursor, limit)
}
