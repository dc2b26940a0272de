// Command signer-hello is a signing plugin whose keys are the files NAME.pem in a directory.
package main

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/plugins/signing"
)

func main() { signing.Serve(open) }

// open runs once, at the start. Its error ends the plugin and is shown to whoever started it.
func open(context.Context) (signing.Backend, error) {
	dir := os.Getenv("KEY_DIR")
	files, err := fs.Glob(os.DirFS(dir), "*.pem")
	if err != nil {
		return nil, err
	}
	var keys []signing.HeldKey
	for _, file := range files {
		data, err := fs.ReadFile(os.DirFS(dir), file)
		if err != nil {
			return nil, err
		}
		private, err := signing.ParsePrivateKey(data, nil)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		keys = append(keys, signing.HeldKey{
			Key:    signing.Key{ID: strings.TrimSuffix(file, ".pem"), Algorithm: mar.RSAPKCS1SHA384},
			Signer: private, // any crypto.Signer: what your HSM's or cloud's library gives you
		})
	}
	slog.Info("keys loaded", "count", len(keys))
	return signing.NewKeyring(signing.Info{Name: "signer-hello", Version: "0.1"}, keys...)
}
