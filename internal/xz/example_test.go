package xz_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/senbonzakura/senbonzakura/internal/xz"
)

// compress makes a member of an update.
func compress(content string, opts *xz.WriterOptions) []byte {
	var buf bytes.Buffer
	w, err := xz.NewWriter(&buf, opts)
	if err != nil {
		slog.Error("compress", "err", err)
		return nil
	}
	if _, err := io.WriteString(w, content); err != nil {
		slog.Error("compress", "err", err)
	}
	if err := w.Close(); err != nil {
		slog.Error("compress", "err", err)
	}
	return buf.Bytes()
}

func ExampleNewReader() {
	member := compress(strings.Repeat("the same again, ", 1000), &xz.WriterOptions{Filter: xz.X86})
	r, err := xz.NewReader(bytes.NewReader(member), &xz.Limits{Output: 1 << 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	n, err := io.Copy(io.Discard, r)
	fmt.Println(n, err)
	// Output: 16000 <nil>
}

func ExampleDecompress() {
	member := compress(strings.Repeat("the same again, ", 1000), nil)
	content, err := xz.Decompress(nil, member, nil)
	fmt.Println(len(content), err)

	_, err = xz.Decompress(nil, member, &xz.Limits{Output: 1000})
	fmt.Println(errors.Is(err, xz.ErrLimit), err)
	// Output:
	// 16000 <nil>
	// true xz: offset 0: limit exceeded: the index promises 16000 bytes, more output than allowed
}

func ExampleUpdaterAccepts() {
	member := compress("content", nil)
	fmt.Println(xz.UpdaterAccepts(bytes.NewReader(member)))

	twice := append(member, member...)
	fmt.Println(xz.UpdaterAccepts(bytes.NewReader(twice)))

	arm64 := compress("content", &xz.WriterOptions{Filter: xz.ARM64})
	fmt.Println(xz.UpdaterAccepts(bytes.NewReader(arm64)))
	// Output:
	// <nil>
	// xz: offset 64: the updater refuses it: a second stream follows, which it would silently leave out
	// xz: offset 12: the updater refuses it: it has no arm64 filter, only x86 and arm
}

func ExampleWriterOptions_ID() {
	fmt.Println(xz.WriterOptions{}.ID())
	// Output: xz/ulikunitz-0.5.17:fast/none/crc64/8388608
}
