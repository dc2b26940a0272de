package tools

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/bsdiff"
	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/partial"
)

// TestMain turns the test binary into an external tool where its first argument says so.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "tool-") {
		os.Exit(actAsTool(os.Args[1], os.Args[2:]))
	}
	os.Exit(m.Run())
}

func actAsTool(mode string, args []string) int {
	switch mode {
	case "tool-fail":
		os.Stderr.WriteString("no such luck\n")
		return 3
	case "tool-hang":
		testkit.Hang()
	case "tool-environment":
		if len(os.Environ()) > 4 || os.Getenv("SECRET") != "" {
			return 4
		}
	}
	data := make([][]byte, 2)
	for i := range data {
		var err error
		if data[i], err = os.ReadFile(args[i]); err != nil {
			return 5
		}
	}
	var patch bytes.Buffer
	if err := bsdiff.New(bsdiff.Options{}).Diff(context.Background(), &patch, data[0], data[1]); err != nil {
		return 6
	}
	if mode == "tool-wrong" {
		patch.Bytes()[patch.Len()-1] ^= 1
	}
	if mode == "tool-nothing" {
		return 0
	}
	if err := os.WriteFile(args[2], patch.Bytes(), 0o600); err != nil {
		return 7
	}
	return 0
}

// testTool pins this test binary as a differ of the given behaviour.
func testTool(t *testing.T, mode string) Tool {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tool, err := Pin("mbsdiff", self, mode, "{old}", "{new}", "{patch}")
	if err != nil {
		t.Fatal(err)
	}
	return tool
}

func TestExternalDiffer(t *testing.T) {
	t.Setenv("SECRET", "must not reach the tool")
	old, changed := bytes.Repeat([]byte("some old text "), 100), bytes.Repeat([]byte("some new text "), 100)
	for _, mode := range []string{"tool-good", "tool-environment"} {
		var patch bytes.Buffer
		if err := (Differ{Tool: testTool(t, mode)}).Diff(t.Context(), &patch, old, changed); err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		got, err := bsdiff.PatchBytes(t.Context(), nil, old, &patch, nil)
		if err != nil || !bytes.Equal(got, changed) {
			t.Errorf("%s: patch gives %d bytes, %v, want the new file", mode, len(got), err)
		}
	}
	for mode, says := range map[string]string{
		"tool-fail": "no such luck", "tool-wrong": "differs from the new file", "tool-nothing": "made no patch",
		"tool-hang": "took longer",
	} {
		tool := testTool(t, mode)
		if mode == "tool-hang" {
			tool.Timeout = 200 * time.Millisecond
		}
		var patch bytes.Buffer
		err := (Differ{Tool: tool}).Diff(t.Context(), &patch, old, changed)
		if !errors.Is(err, ErrTool) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want ErrTool that says %q", mode, err, says)
		}
		if patch.Len() > 0 {
			t.Errorf("%s: %d bytes of a bad patch were handed on", mode, patch.Len())
		}
	}
}

// A program that compresses is ended with the context, long before its own time is over.
func TestExternalCompressorIsEnded(t *testing.T) {
	tool := testTool(t, "tool-hang")
	ctx, cancel := context.WithCancel(t.Context())
	w, err := Compressor{Tool: tool}.NewWriter(ctx, io.Discard, partial.Content{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, cancel)
	start := time.Now()
	if err := w.Close(); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	if _, err := os.Stat(w.(*toolWriter).dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the program's directory is left: %v", err)
	}
}

func TestToolIsPinned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tool")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexit 0\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	tool, err := Pin("tool", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := tool.Check(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := tool.Check(); !errors.Is(err, ErrDigest) {
		t.Errorf("Check of a changed program: %v, want ErrDigest", err)
	}
	if err := (Differ{Tool: tool}).Diff(t.Context(), io.Discard, nil, nil); !errors.Is(err, ErrDigest) {
		t.Errorf("Diff with a changed program: %v, want ErrDigest", err)
	}
	other := tool
	other.Args = []string{"-x"}
	if other.ID() == tool.ID() {
		t.Error("arguments are not part of the ID")
	}
}

func TestExternalCompressor(t *testing.T) {
	path, err := exec.LookPath("xz")
	if err != nil {
		t.Skip("program xz not found")
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		t.Fatal(err)
	}
	tool, err := Pin("xz", path, "-c", "-6", "--check=crc64", "{in}")
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("to be compressed "), 1000)
	good := Compressor{Tool: tool}
	var out bytes.Buffer
	w, err := good.NewWriter(t.Context(), &out, partial.Content{Kind: partial.ContentFile, Size: int64(len(data)), Arch: "x86_64"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if out.Len() == 0 || out.Len() >= len(data) {
		t.Errorf("%d bytes compressed to %d", len(data), out.Len())
	}
	// A program that makes something else is found out.
	tool.Args = []string{"-c", "{in}.nosuch"}
	bad := Compressor{Tool: tool}
	if w, err = bad.NewWriter(t.Context(), io.Discard, partial.Content{}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); !errors.Is(err, ErrTool) {
		t.Errorf("got %v, want ErrTool", err)
	}
}

func TestFetcher(t *testing.T) {
	path := filepath.Join(t.TempDir(), "differ")
	if err := os.WriteFile(path, []byte("#!/bin/sh\ncat /nosuch\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	pinned, err := Pin("differ", path)
	if err != nil {
		t.Fatal(err)
	}
	client, err := fetch.New(&fetch.Options{Files: true, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	disk, err := cache.OpenDisk(t.Context(), filepath.Join(t.TempDir(), "cache"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	layered := cache.NewLayered([]cache.Store{disk}, nil)
	defer layered.Close()
	fetcher := Fetcher{Client: client, Cache: layered}

	wanted := Tool{Name: "differ", URL: path, SHA256: pinned.SHA256}
	if _, err := fetcher.Resolve(t.Context(), wanted); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	tool, err := fetcher.Resolve(t.Context(), wanted)
	if err != nil {
		t.Fatalf("from the cache: %v", err)
	}
	err = (Differ{Tool: tool}).Diff(t.Context(), io.Discard, []byte("a"), []byte("b"))
	if !errors.Is(err, ErrTool) || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("got %v, want the program's own complaint", err)
	}
	if tool.ID() != wanted.ID() {
		t.Errorf("the ID depends on where the program is: %s, %s", tool.ID(), wanted.ID())
	}
	wanted.SHA256 = strings.Repeat("0", 64)
	if _, err := fetcher.Resolve(t.Context(), wanted); err == nil {
		t.Error("a program that cannot be had was resolved")
	}
	if _, err := fetcher.Resolve(t.Context(), Tool{Name: "x", SHA256: pinned.SHA256}); !errors.Is(err, ErrTool) {
		t.Errorf("without path and URL: %v, want ErrTool", err)
	}
}
