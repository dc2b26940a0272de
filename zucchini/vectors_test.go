package zucchini

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/internal/xz"
)

// readFile reads a file, which may be compressed with xz.
func readFile(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	if !strings.HasSuffix(path, ".xz") {
		return b
	}
	z, err := xz.NewReader(bytes.NewReader(b), nil)
	if err != nil {
		tb.Fatal(err)
	}
	defer z.Close()
	if b, err = io.ReadAll(z); err != nil {
		tb.Fatal(err)
	}
	return b
}

type vector struct{ name, dir string }

func (v vector) old(tb testing.TB) []byte {
	tb.Helper()
	return readFile(tb, filepath.Join(v.dir, v.name+".old.xz"))
}

func (v vector) new(tb testing.TB) []byte {
	tb.Helper()
	return readFile(tb, filepath.Join(v.dir, v.name+".new.xz"))
}

func (v vector) patch(tb testing.TB) []byte {
	tb.Helper()
	return readFile(tb, filepath.Join(v.dir, v.name+".zucc"))
}

// vectors are the pairs of files with the patches of the reference generator.
func vectors(tb testing.TB) []vector {
	tb.Helper()
	dir := testkit.Shared(tb, "testdata", "zucchini-vectors", "pairs")
	names, err := filepath.Glob(filepath.Join(dir, "*.zucc"))
	if err != nil || len(names) == 0 {
		tb.Fatalf("no pairs in %s (%v)", dir, err)
	}
	var out []vector
	for _, n := range names {
		out = append(out, vector{strings.TrimSuffix(filepath.Base(n), ".zucc"), dir})
	}
	return out
}

// The applier makes the new file of every pair from the reference generator's patch.
func TestVectors(t *testing.T) {
	t.Parallel()
	list := vectors(t)
	for _, v := range list {
		old, new, patch := v.old(t), v.new(t), v.patch(t)
		got, err := Apply(t.Context(), nil, old, patch, nil)
		if err != nil || !bytes.Equal(got, new) {
			t.Errorf("%s: got %d bytes, %v", v.name, len(got), err)
		}
	}
	t.Logf("%d pairs", len(list))
}

// damaged is a damaged patch, with what became of it.
type damaged struct {
	ID          int      `json:"id"`
	Pair        string   `json:"pair"`
	Damage      string   `json:"damage"`
	Edits       [][]any  `json:"edits"`
	Truncate    *int     `json:"truncate"`
	OldEdits    [][]any  `json:"old_edits"`
	OldTruncate *int     `json:"old_truncate"`
	Reference   *verdict `json:"reference"`
	Updater     struct {
		Status string `json:"status"`
	} `json:"updater"`
}

type verdict struct {
	Verdict string   `json:"verdict"`
	Code    int      `json:"code"`
	Size    int      `json:"out_size"`
	CRC     string   `json:"out_crc"`
	Log     []string `json:"log"`
}

func edited(tb testing.TB, b []byte, edits [][]any, truncate *int) []byte {
	tb.Helper()
	b = bytes.Clone(b)
	for _, e := range edits {
		at := int(e[0].(float64))
		with, err := hex.DecodeString(e[1].(string))
		if err != nil {
			tb.Fatal(err)
		}
		n := len(with)
		if len(e) > 2 {
			n = int(e[2].(float64))
		}
		b = bytes.Join([][]byte{b[:at], with, b[at+n:]}, nil)
	}
	if truncate != nil {
		b = b[:*truncate]
	}
	return b
}

// Every damaged patch ends as with the reference applier, and has the number of the real updater.
func TestDamagedVectors(t *testing.T) {
	t.Parallel()
	f, err := os.Open(testkit.Shared(t, "testdata", "zucchini-vectors", "damaged.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := testkit.Shared(t, "testdata", "zucchini-vectors", "pairs")
	files := make(map[string][2][]byte)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<24)
	type job struct {
		d     damaged
		files [2][]byte
	}
	jobs := make(chan job)
	var wg sync.WaitGroup
	var mu sync.Mutex
	count, stricter := 0, map[string]int{}
	for range 2 {
		wg.Go(func() {
			var buf []byte
			for j := range jobs {
				old := edited(t, j.files[0], j.d.OldEdits, j.d.OldTruncate)
				patch := edited(t, j.files[1], j.d.Edits, j.d.Truncate)
				got, err := Apply(t.Context(), buf, old, patch, &ApplyOptions{Lenient: true})
				if err == nil {
					buf = got
				}
				if problem := j.d.compare(got, err); problem != "" {
					t.Errorf("%d: %s: %s: %s (reference: %v)", j.d.ID, j.d.Pair, j.d.Damage, problem, j.d.Reference)
				}
				strict, strictErr := Apply(t.Context(), nil, old, patch, nil)
				mu.Lock()
				count++
				switch {
				case errors.Is(strictErr, ErrLoose):
					stricter[j.d.Reference.Verdict]++
					if err == nil && UpdaterCode(strictErr) != 0 {
						t.Errorf("%d: loose, but with the number %d", j.d.ID, UpdaterCode(strictErr))
					}
				case (err == nil) != (strictErr == nil) || err == nil && !bytes.Equal(strict, got) || err != nil && err.Error() != strictErr.Error():
					t.Errorf("%d: strict: %v, lenient: %v", j.d.ID, strictErr, err)
				}
				mu.Unlock()
			}
		})
	}
	for lines.Scan() {
		var d damaged
		if err := json.Unmarshal(lines.Bytes(), &d); err != nil {
			t.Fatal(err)
		}
		if testkit.Count(1, 2, 2) == 1 && d.ID%4 != 0 {
			continue
		}
		if files[d.Pair][1] == nil {
			v := vector{d.Pair, dir}
			files[d.Pair] = [2][]byte{v.old(t), v.patch(t)}
		}
		jobs <- job{d, files[d.Pair]}
	}
	close(jobs)
	wg.Wait()
	if err := lines.Err(); err != nil || count < 1000 {
		t.Fatalf("%d patches, %v", count, err)
	}
	t.Logf("%d patches; refused only where strict, by the reference's verdict: %v", count, stricter)
}

// compare says what is different from the reference.
func (d *damaged) compare(got []byte, err error) string {
	switch r := d.Reference; r.Verdict {
	case "ok":
		if err != nil {
			return err.Error()
		}
		if crc := fmt.Sprintf("%08x", crc32.ChecksumIEEE(got)); len(got) != r.Size || crc != r.CRC {
			return fmt.Sprintf("got %d bytes with checksum %s", len(got), crc)
		}
	case "crash":
		if !errors.Is(err, ErrCrash) || UpdaterCode(err) != 0 {
			return fmt.Sprintf("got %d bytes, %v", len(got), err)
		}
	default:
		var p *PatchError
		if !errors.As(err, &p) {
			return fmt.Sprintf("got %d bytes, %v", len(got), err)
		}
		if status := fmt.Sprintf("failed: %d", UpdaterCode(err)); status != d.Updater.Status {
			return fmt.Sprintf("got %v, %q, want %q", err, status, d.Updater.Status)
		}
	}
	return ""
}
