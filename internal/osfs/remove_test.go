package osfs

import (
	"errors"
	"io/fs"
	"os"
	"testing"
)

func TestRemoveIn(t *testing.T) {
	t.Parallel()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	defer func() { // what is left cannot be removed by package testing where package os cannot
		for _, n := range []string{"d/f", "d", "f"} {
			RemoveIn(root, n) // most are gone
		}
	}()
	if err := root.Mkdir("d", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"f", "d/f"} {
		if err := root.WriteFile(n, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := RemoveIn(root, "d"); err == nil {
		t.Error("a directory that is not empty was removed")
	}
	for _, n := range []string{"f", "d/f", "d"} {
		if err := RemoveIn(root, n); err != nil {
			t.Error(err)
		}
		if _, err := root.Lstat(n); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", n, err)
		}
		if err := RemoveIn(root, n); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s, once more: got %v, want that it is not there", n, err)
		}
	}
}
