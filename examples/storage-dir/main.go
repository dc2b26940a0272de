// Command storage-dir is a storage plugin that keeps objects in a directory.
//
//	storage-dir DIRECTORY
//
// The directory must exist and be on a local file system with hard links. Any number of hosts on the machine
// may use it at once.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/senbonzakura/senbonzakura/plugins/storage"
)

func main() { storage.Serve(open) }

func open(context.Context) (storage.Backend, error) {
	if len(os.Args) != 2 {
		return nil, errors.New("usage: storage-dir DIRECTORY")
	}
	root, err := os.OpenRoot(os.Args[1])
	if err != nil {
		return nil, err
	}
	return storage.NewDir(root)
}
