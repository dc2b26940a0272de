package engine_test

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/engine"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// TestDamage damages the files of the queue while it is stopped. Every job is done all the same, with the right bytes,
// whatever was lost. (F16)
func TestDamage(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	spec := o.spec(t, "damage")
	// What is right.
	n := open(t, setting{dir: t.TempDir()})
	want := n.wait(n.submit(spec).ID).Result
	n.close()

	flip := func(t *testing.T, name string, data []byte) {
		t.Helper()
		data[len(data)/2] ^= 0x10
		write(t, name, data)
	}
	inRecord := func(offset int) func(t *testing.T, name string, data []byte) {
		return func(t *testing.T, name string, data []byte) {
			t.Helper()
			at := 0
			for at < len(data)/2 { // a record begins with its length, then comes its number
				at += int(binary.LittleEndian.Uint32(data[at:]) &^ (1 << 31))
			}
			data[at+offset] ^= 0x10
			write(t, name, data)
		}
	}
	tests := []struct {
		name   string
		files  string // part of the names
		damage func(t *testing.T, name string, data []byte)
	}{ // of which the first seven always run
		{"jobs flipped", "partiald-jobs/msgs/*.blk", flip},
		{"jobs cut", "partiald-jobs/msgs/*.blk", func(t *testing.T, name string, data []byte) { t.Helper(); write(t, name, data[:len(data)/2]) }},
		{"length of a job flipped", "partiald-jobs/msgs/*.blk", inRecord(2)},
		{"number of a job flipped", "partiald-jobs/msgs/*.blk", inRecord(8)},
		{"number of a state flipped", "KV_partiald-state/msgs/*.blk", inRecord(10)},
		{"everything cut", "*/msgs/*.blk", func(t *testing.T, name string, data []byte) { t.Helper(); write(t, name, data[:len(data)/2]) }},
		{"states flipped", "KV_partiald-state/msgs/*.blk", flip},
		{"jobs deleted", "partiald-jobs/msgs/*.blk", func(t *testing.T, name string, _ []byte) { t.Helper(); remove(t, name) }},
		{"states cut", "KV_partiald-state/msgs/*.blk", func(t *testing.T, name string, data []byte) { t.Helper(); write(t, name, data[:len(data)/2]) }},
		{"states deleted", "KV_partiald-state/msgs/*.blk", func(t *testing.T, name string, _ []byte) { t.Helper(); remove(t, name) }},
		{"indexes flipped", "*/msgs/index.db", flip},
		{"consumers flipped", "partiald-jobs/obs/p0/o.dat", flip},
		{"descriptions deleted", "*/meta.inf", func(t *testing.T, name string, _ []byte) { t.Helper(); remove(t, name) }},
		{"descriptions flipped", "*/meta.inf", flip},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if i >= 7 {
				testkit.Long(t, "there are a few like it")
			}
			t.Parallel()
			spec := spec
			s := setting{dir: t.TempDir(), options: func(o *engine.Options) { o.Slots = -1; o.RequeueEvery = time.Hour }}
			n := open(t, s)
			var ids []string
			for i := range 8 {
				spec.Labels = map[string]string{"n": fmt.Sprint(i)}
				ids = append(ids, n.submit(spec).ID)
			}
			n.close()
			damaged := 0
			err := filepath.WalkDir(filepath.Join(s.dir, "queue"), func(name string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				_, rest, _ := strings.Cut(name, "/streams/")
				if ok, err := filepath.Match(tt.files, rest); err != nil || !ok {
					return err
				}
				data, err := os.ReadFile(name)
				if err == nil && len(data) > 0 {
					damaged++
					tt.damage(t, name, data)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if damaged == 0 {
				t.Fatal("nothing was damaged: the files have other names")
			}
			s.options = nil
			n = open(t, s)
			start := time.Now()
			for _, id := range ids {
				got := n.wait(id)
				if got.State != job.Done || got.Result.SHA512 != want.SHA512 {
					t.Errorf("%s, %v, %+v", got.State, got.Error, got.Result)
				}
				n.bytes(id)
			}
			t.Logf("%d files damaged, all jobs done after %v", damaged, time.Since(start))
		})
	}
}

// TestDamageWhileRunning damages the files of the queue under a server that works, when the queue has nothing of them in
// memory any more. Every job is done within a minute, and the server goes on.
func TestDamageWhileRunning(t *testing.T) {
	t.Parallel()
	if testkit.Count(0, 1, 1) == 0 {
		t.Skip("half a minute of waiting: set SENBON_GATE=1 to run it")
	}
	for name, damage := range map[string]func(t *testing.T, name string, data []byte){
		"flipped": func(t *testing.T, name string, data []byte) {
			t.Helper()
			data[len(data)/2] ^= 0x10
			write(t, name, data)
		},
		"cut":     func(t *testing.T, name string, data []byte) { t.Helper(); write(t, name, data[:len(data)/2]) },
		"deleted": func(t *testing.T, name string, _ []byte) { t.Helper(); remove(t, name) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			s := setting{dir: t.TempDir(), options: func(o *engine.Options) { o.Slots, o.RequeueEvery = 1, 0 }}
			n := open(t, s)
			spec := o.spec(t, "damage")
			arrived, release := o.hold(t)
			var ids []string
			for i := range 8 {
				spec.Labels = map[string]string{"n": fmt.Sprint(i)}
				ids = append(ids, n.submit(spec).ID)
			}
			<-arrived
			<-time.After(12 * time.Second) // NATS forgets what nobody used for 10 s
			files, err := filepath.Glob(filepath.Join(s.dir, "queue/jetstream/*/streams/*/msgs/*.blk"))
			if err != nil || len(files) < 2 {
				t.Fatalf("files %v, %v", files, err)
			}
			for _, name := range files {
				data, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				damage(t, name, data)
			}
			release()
			start := time.Now()
			for _, id := range ids {
				if got := n.wait(id); got.State != job.Done {
					t.Errorf("%s, %v", got.State, got.Error)
				}
				n.bytes(id)
			}
			t.Logf("all jobs done after %v", time.Since(start))
			healthy(t, n)
			spec.Labels = map[string]string{"n": "another"}
			if got := n.wait(n.submit(spec).ID); got.State != job.Done {
				t.Errorf("another: %s, %v", got.State, got.Error)
			}
			empty(t, n)
		})
	}
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}
