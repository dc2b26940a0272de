package cache_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// content returns n bytes that follow from the seed and do not repeat.
func content(seed string, n int) []byte {
	var key [32]byte
	copy(key[:], seed)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b) // never fails
	return b
}

// named returns a key and the only value that is right for it.
func named(kind cache.Kind, name string) (cache.Key, []byte) {
	k := cache.NewKey(kind, name)
	return k, content(name, int(k.Sum[0])<<9+int(k.Sum[1])) // up to 128 KiB
}

func init() {
	children["writer"] = writerChild
	children["sharer"] = sharerChild
}

func childCommand(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), testkit.FastExit, childVariable+"="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

// writerChild writes until it is killed, in all three ways, and says what was acknowledged: names of its own once,
// and a few common ones again and again.
func writerChild(args []string) error {
	ctx := context.Background()
	d, err := cache.OpenDisk(ctx, args[0], nil)
	if err != nil {
		return err
	}
	l := cache.NewLayered([]cache.Store{d}, nil)
	fmt.Println("ready")
	for i := 0; ; i++ {
		name := fmt.Sprintf("%s-%d", args[1], i)
		if i >= 8 {
			name = fmt.Sprintf("common-%d", i%16)
		}
		k, data := named(cache.Patches, name)
		switch i % 3 {
		case 0:
			if _, err := d.Put(ctx, k, bytes.NewReader(data)); err != nil {
				return err
			}
		case 1:
			e, err := l.GetOrFill(ctx, k, func(_ context.Context, w io.Writer) error {
				for p := data; len(p) > 0; {
					n := min(len(p), 7000)
					if _, err := w.Write(p[:n]); err != nil {
						return err
					}
					p = p[n:]
				}
				return nil
			})
			if err != nil {
				return err
			}
			e.Close()
		case 2:
			file := filepath.Join(d.TempDir(), "adopt")
			if err := os.WriteFile(file, data, 0o600); err != nil {
				return err
			}
			e, err := adoptEither(ctx, d, k, file, data, i)
			if err != nil {
				return err
			}
			e.Close()
		}
		fmt.Println("ack", name)
	}
}

// TestKill kills processes at random moments while they write into one directory.
func TestKill(t *testing.T) {
	t.Parallel()
	kills, together := testkit.Count(60, 300, 10_000), 4
	dir := t.TempDir()
	d := openDisk(t, dir, nil)
	rng := rand.New(rand.NewPCG(1, uint64(kills)))
	acked, temps := make(map[string]bool), 0
	for killed := 0; killed < kills; killed += together {
		var wg sync.WaitGroup
		var mu sync.Mutex
		for i := range together {
			wait := time.Duration(rng.Int64N(int64(8 * time.Millisecond)))
			wg.Go(func() {
				cmd := childCommand(t.Context(), "writer", dir, strconv.Itoa(killed+i))
				out, err := cmd.StdoutPipe()
				if err == nil {
					err = cmd.Start()
				}
				if err != nil {
					t.Error(err)
					return
				}
				lines := bufio.NewScanner(out)
				if !lines.Scan() {
					t.Error("a child did not start")
				}
				timer := time.AfterFunc(wait, func() { cmd.Process.Kill() })
				defer timer.Stop()
				for lines.Scan() {
					if name, ok := strings.CutPrefix(lines.Text(), "ack "); ok {
						mu.Lock()
						acked[name] = true
						mu.Unlock()
					}
				}
				if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != -1 {
					t.Errorf("a child ended by itself: %v", cmd.ProcessState)
				}
			})
		}
		wg.Wait()
		temps += countTemps(t, dir, d)
		next := openDisk(t, dir, nil) // sweeps
		if n := countTemps(t, dir, d, next); n != 0 {
			t.Fatalf("%d temporary files are left after %d kills", n, killed+together)
		}
		d.Close()
		d = next
		if t.Failed() {
			return
		}
	}
	for name := range acked {
		k, want := named(cache.Patches, name)
		e, err := d.Get(t.Context(), k)
		if err != nil {
			t.Errorf("%s was acknowledged: %v", name, err)
			continue
		}
		if got, err := io.ReadAll(e.Reader()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: wrong bytes, %v", name, err)
		}
		e.Close()
	}
	report, err := d.Verify(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Damaged)+len(report.Strangers) > 0 {
		t.Errorf("%d damaged entries, %d strange files", len(report.Damaged), len(report.Strangers))
	}
	if temps == 0 {
		t.Error("no kill hit a write: this test shows nothing")
	}
	t.Logf("%d kills; %d acknowledged values intact, %d entries verified, 0 wrong; %d temporary files swept", kills, len(acked), report.Checked.Entries, temps)
}

// countTemps counts temporary files, without the directories of the disks given.
func countTemps(t *testing.T, dir string, open ...*cache.Disk) int {
	t.Helper()
	owners, err := os.ReadDir(filepath.Join(dir, "tmp"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, o := range owners {
		name, ours := filepath.Join(dir, "tmp", o.Name()), false
		for _, d := range open {
			ours = ours || d.TempDir() == name
		}
		files, _ := os.ReadDir(name)
		for _, f := range files {
			if !ours && f.Name() != "lock" {
				n++
			}
		}
		if !ours && len(open) == 2 {
			n++ // the directory itself should be gone
		}
	}
	return n
}

const (
	shareLimit = 2 << 20
	shareItem  = 256 << 10
)

func shareOptions() *cache.DiskOptions {
	return &cache.DiskOptions{Limits: map[cache.Kind]cache.Limit{
		cache.Patches:  {Bytes: shareLimit, Item: shareItem},
		cache.Partials: {Bytes: shareLimit / 2},
	}}
}

// sharerChild does random things to a directory that others use at the same time.
func sharerChild(args []string) error {
	ctx := context.Background()
	ops, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	seed, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return err
	}
	d, err := cache.OpenDisk(ctx, args[0], shareOptions())
	if err != nil {
		return err
	}
	defer func() { d.Close() }()
	rng := rand.New(rand.NewPCG(seed, 2))
	var puts, hits, misses, full int
	for range ops {
		kind := []cache.Kind{cache.Patches, cache.Partials}[rng.IntN(2)]
		name := fmt.Sprintf("shared-%d", rng.IntN(60))
		k, want := named(kind, name)
		switch n := rng.IntN(100); {
		case n < 40:
			if _, err := d.Put(ctx, k, bytes.NewReader(want)); errors.Is(err, cache.ErrNoSpace) {
				full++
			} else if err != nil {
				return err
			}
			puts++
		case n < 96:
			e, err := d.Get(ctx, k)
			if errors.Is(err, cache.ErrMiss) && !errors.Is(err, cache.ErrCorrupt) {
				misses++
				continue
			}
			if err != nil {
				return err
			}
			got, err := io.ReadAll(e.Reader())
			e.Close()
			if err != nil || !bytes.Equal(got, want) {
				return fmt.Errorf("wrong bytes: %w", err)
			}
			hits++
		case n < 98:
			if _, err := d.Purge(ctx, cache.Filter{Key: &k}); err != nil {
				return err
			}
		default: // leave and come back
			d.Close()
			if d, err = cache.OpenDisk(ctx, args[0], shareOptions()); err != nil {
				return err
			}
		}
	}
	fmt.Println(puts, hits, misses, full)
	return nil
}

// TestShared lets 4 processes use one directory at a time and watches its size.
func TestShared(t *testing.T) {
	t.Parallel()
	ops := testkit.Count(400, 1000, 20_000)
	dir := t.TempDir()
	d := openDisk(t, dir, shareOptions())
	var wg sync.WaitGroup
	var mu sync.Mutex
	var puts, hits, misses, full int
	done := make(chan struct{})
	for i := range 4 {
		wg.Go(func() {
			out, err := childCommand(t.Context(), "sharer", dir, strconv.Itoa(i), strconv.Itoa(ops)).Output()
			if err != nil {
				t.Errorf("process %d: %v", i, err)
				return
			}
			var p, h, m, f int
			if _, err := fmt.Sscan(string(out), &p, &h, &m, &f); err != nil {
				t.Errorf("process %d said %q", i, out)
			}
			mu.Lock()
			defer mu.Unlock()
			puts, hits, misses, full = puts+p, hits+h, misses+m, full+f
		})
	}
	go func() { wg.Wait(); close(done) }()
	var most int64
	looks := 0
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for running := true; running; looks++ {
		select {
		case <-done:
			running = false
		case <-tick.C:
		}
		most = max(most, sizeOf(t, dir, cache.Patches))
	}
	if limit := int64(shareLimit + 4*shareItem); most > limit {
		t.Errorf("the directory took %d bytes, want at most %d", most, limit)
	}
	for _, kind := range []cache.Kind{cache.Patches, cache.Partials} {
		reserved, err := d.Reserved(t.Context(), kind)
		if err != nil {
			t.Fatal(err)
		}
		if now := sizeOf(t, dir, kind); reserved < now {
			t.Errorf("%s: accounts say %d bytes, there are %d", kind, reserved, now)
		}
	}
	report, err := d.Verify(t.Context(), nil)
	if err != nil || len(report.Damaged)+len(report.Strangers) > 0 {
		t.Errorf("Verify: %+v, %v", report, err)
	}
	if hits == 0 || puts == 0 {
		t.Error("nothing happened")
	}
	t.Logf("4 processes × %d operations: %d puts (%d found no room), %d hits, %d misses, 0 wrong; at most %d bytes of %d in %d looks",
		ops, puts, full, hits, misses, most, shareLimit, looks)
}

// sizeOf adds up what a kind takes, entries being written included, in blocks of 4 KiB. A file that is renamed
// while we look may count twice.
func sizeOf(t *testing.T, dir string, kind cache.Kind) int64 {
	t.Helper()
	var sum int64
	for _, top := range []string{filepath.Join(dir, "tmp"), filepath.Join(dir, "v1", string(kind))} {
		filepath.WalkDir(top, func(name string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || strings.HasPrefix(name, filepath.Join(dir, "tmp")) && !strings.HasPrefix(filepath.Base(name), string(kind)+".") {
				return nil //nolint:nilerr // files vanish while we look
			}
			if st, err := e.Info(); err == nil {
				sum += (st.Size() + 4095) / 4096 * 4096
			}
			return nil
		})
	}
	return sum
}

// adoptEither adopts a file that holds data in one of the two ways: by turns, as i goes up.
func adoptEither(ctx context.Context, d *cache.Disk, k cache.Key, file string, data []byte, i int) (*cache.Entry, error) {
	if i%2 == 0 {
		return d.Adopt(ctx, k, file)
	}
	return d.AdoptHashed(ctx, k, file, sha512.Sum512(data))
}
