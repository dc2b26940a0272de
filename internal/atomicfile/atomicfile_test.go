package atomicfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	for _, want := range []string{"first", "second, longer"} {
		err := Write(t.Context(), path, 0o644, func(w io.Writer) error {
			_, err := io.WriteString(w, want)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
	onlyTarget(t, path)
}

func TestWriteLeavesTheOldFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	err := Write(t.Context(), path, 0o644, func(w io.Writer) error {
		if _, err := w.Write(make([]byte, 1<<20)); err != nil {
			t.Error(err)
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("got error %v, want the callback's", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = Write(ctx, path, 0o644, func(w io.Writer) error {
		cancel()
		_, err := w.Write(make([]byte, 1<<20))
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("got %d bytes, want the old file", len(got))
	}
	onlyTarget(t, path)
}

// What is no regular file is not replaced, and found before anything is made.
func TestWriteRefuses(t *testing.T) {
	dir := t.TempDir()
	refused := map[string]error{dir: syscall.EISDIR, filepath.Join(dir, "absent/out"): fs.ErrNotExist}
	if device := filepath.Join(dir, "device"); os.Symlink(os.DevNull, device) == nil {
		refused[device] = nil // for another reason
	}
	for path, want := range refused {
		for name, err := range map[string]error{
			"Check": Check(path),
			"Write": Write(t.Context(), path, 0o644, func(io.Writer) error {
				t.Errorf("%s: content was asked for", path)
				return errors.New("not so far")
			}),
		} {
			if err == nil || want != nil && !errors.Is(err, want) {
				t.Errorf("%s of %s: got %v, want an error that matches %v", name, path, err, want)
			}
		}
	}
	for _, path := range []string{filepath.Join(dir, "out"), "new-in-this-directory"} {
		if err := Check(path); err != nil {
			t.Error(err)
		}
	}
}

// A file that takes the place of another has its mode, the link that led to it stays one, and its name may be as long as
// names can be.
func TestWriteKeeps(t *testing.T) {
	dir := t.TempDir()
	name := strings.Repeat("n", 253) + "é"
	target := filepath.Join(dir, name)
	if err := os.WriteFile(target, []byte("old"), 0o600); err != nil {
		t.Skip("no such long names here: ", err)
	}
	if err := os.Chmod(target, 0o666); err != nil {
		t.Fatal(err)
	}
	link, nowhere := filepath.Join(t.TempDir(), "link"), filepath.Join(t.TempDir(), "nowhere")
	if err := errors.Join(os.Symlink(target, link), os.Symlink(filepath.Join(dir, "absent"), nowhere)); err != nil {
		t.Skip("no links here: ", err)
	}
	write := func(w io.Writer) error {
		_, err := io.WriteString(w, "new")
		return err
	}
	if err := Write(t.Context(), link, 0o644, write); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info, err)
	}
	if got, err := os.ReadFile(target); err != nil || string(got) != "new" {
		t.Errorf("got %q, %v", got, err)
	}
	if info, err := os.Stat(target); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o666 {
		t.Errorf("got mode %v, %v, want that of the file before", info.Mode(), err)
	}
	if err := Write(t.Context(), nowhere, 0o644, write); err == nil {
		t.Error("written through a link that leads nowhere")
	}
	loop := filepath.Join(t.TempDir(), "loop")
	if err := os.Symlink("loop", loop); err != nil {
		t.Fatal(err)
	}
	if err := Check(loop); err == nil || strings.Contains(err.Error(), "EvalSymlinks") {
		t.Errorf("a link to itself: got %v", err)
	}
	onlyTarget(t, target)
}

// A link to a pipe without a name, as /dev/stdout may be one, is no link that leads nowhere.
func TestCheckPipe(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has /proc/self/fd")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := Check(fmt.Sprintf("/proc/self/fd/%d", w.Fd())); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("got %v", err)
	}
}

func onlyTarget(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("directory holds %v, want only the target", entries)
	}
}
