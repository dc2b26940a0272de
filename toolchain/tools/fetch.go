package tools

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/fetch"
)

// Fetcher gets external tools by URL and digest and keeps them in a cache. Safe for concurrent use.
type Fetcher struct {
	// Client fetches what the cache does not have.
	Client *fetch.Client
	// Cache keeps programs as values of kind cache.Tools.
	Cache *cache.Layered
}

// Resolve returns the tool ready to run: from its path where it has one, else from the cache, else fetched from its
// URL. The program's SHA-256 is compared in each case, and again whenever it runs; another one gives [ErrDigest], or
// the *fetch.Error of the download.
func (f Fetcher) Resolve(ctx context.Context, tool Tool) (Tool, error) {
	if tool.Path != "" {
		return tool, tool.Check()
	}
	sum, err := hex.DecodeString(tool.SHA256)
	if err != nil || len(sum) != 32 {
		return tool, fmt.Errorf("%w: %s: sha256 = %q, want 64 hexadecimal digits", ErrDigest, tool.Name, tool.SHA256)
	}
	if tool.URL == "" {
		return tool, fmt.Errorf("%w: %s has neither a path nor a URL", ErrTool, tool.Name)
	}
	key := cache.NewKey(cache.Tools, strings.ToLower(tool.SHA256))
	entry, err := f.Cache.GetOrFill(ctx, key, func(ctx context.Context, w io.Writer) error {
		file, err := f.Client.Fetch(ctx, fetch.Request{
			URLs: []string{tool.URL}, Hashes: []fetch.Hash{{Algorithm: fetch.SHA256, Sum: sum}},
		})
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.Copy(w, file.Reader())
		return err
	})
	if err != nil {
		return tool, fmt.Errorf("fetch tool %s: %w", tool.Name, err)
	}
	entry.Close()
	tool.open = func() (io.ReadCloser, error) {
		entry, err := f.Cache.Get(context.WithoutCancel(ctx), key)
		if err != nil {
			return nil, fmt.Errorf("tool %s: %w", tool.Name, err)
		}
		return struct {
			io.Reader
			io.Closer
		}{entry.Reader(), entry}, nil
	}
	return tool, tool.Check()
}

// Copy is Resolve for programs that are to outlive the cache: the tool that it returns holds the program in memory.
func (f Fetcher) Copy(ctx context.Context, tool Tool) (Tool, error) {
	tool, err := f.Resolve(ctx, tool)
	if err != nil || tool.open == nil {
		return tool, err
	}
	in, err := tool.open()
	if err != nil {
		return tool, err
	}
	defer in.Close()
	program, err := io.ReadAll(in)
	if err != nil {
		return tool, fmt.Errorf("tool %s: %w", tool.Name, err)
	}
	tool.open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(program)), nil }
	return tool, nil
}
