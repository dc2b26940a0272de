package replay

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

func TestStrict(t *testing.T) {
	t.Parallel()
	files, _ := filepath.Glob(filepath.Join(testkit.Shared(t, "testdata", "balrog"), "*.json"))
	n, bad := 0, 0
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		documents, _, err := Read(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range documents {
			for _, r := range d.Run(true) {
				n++
				if len(r.Differences) > 0 {
					bad++
					if bad < 40 {
						t.Errorf("%s: %s: %s", filepath.Base(name), d.Title, r.String())
					}
				}
			}
		}
	}
	t.Log(n, bad)
}
