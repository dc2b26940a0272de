package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/config"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/engine"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/sample"
	"github.com/senbonzakura/senbonzakura/mar"
)

const (
	pluginsFor = time.Minute
	drillFor   = 10 * time.Minute
	drillTries = 5 // jobs that are looked at for one that can be made again
)

var quiet = slog.New(slog.DiscardHandler)

// plugins starts every plugin as the service would, and writes something into the store and reads it back.
func (u *auditor) plugins(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, pluginsFor)
	defer cancel()
	dir, err := os.MkdirTemp(u.o.scratch, "partiald-audit-")
	if u.errorOf("scratch directory", "give another one with --scratch", err) {
		return
	}
	defer os.RemoveAll(dir)
	c := *u.c
	if c.Signing.Journal != "" {
		c.Signing.Journal = filepath.Join(dir, "signing.journal") // nothing is signed: the real one stays as it is
	}
	p, m := &parts{}, newMetrics(cli.ThisBuild(), c.Name)
	defer func() { _ = p.Close() }() // of what was only looked at
	if len(c.Signing.Keys) == 0 {
		u.unchecked("signing", "no key is configured: partials are not signed")
	} else if key, err := p.openSigning(ctx, &c, quiet, m); !u.errorOf("signing, "+key, "see the plugin's own log", err) {
		for _, s := range p.signers {
			err := s.Check(ctx)
			if !u.errorOf("signer "+s.Name, "see the plugin's own log", err) {
				u.good("signer "+s.Name, "its plugin starts, answers, and has the key of the public key that is configured")
			}
		}
		u.unchecked("signing", "whether the keys sign: that would be one signature more in their books")
	}
	if c.Storage.Command == "" {
		u.unchecked("store", "no storage plugin is configured: what is made is in this server's cache alone")
		return
	}
	key, err := p.openStorage(ctx, &c, quiet, m)
	if u.errorOf("store, "+key, "see the plugin's own log", err) {
		return
	}
	took, err := roundTrip(ctx, p.storage)
	if !u.errorOf("store, round trip", "look at the store's rights: put, get, list and delete are needed", err) {
		u.good("store, round trip", "written, read, compared and removed in %s", took.Round(time.Millisecond))
	}
}

// roundTrip writes something into the store, reads it, compares it, and removes it.
func roundTrip(ctx context.Context, s *engine.Storage) (time.Duration, error) {
	begin := time.Now()
	text := []byte("audit of partiald " + rand.Text())
	key := cache.NewKey(engine.KindDocs, "audit", string(text))
	if _, err := s.Tier.Put(ctx, key, bytes.NewReader(text)); err != nil {
		return 0, fmt.Errorf("put: %w", err)
	}
	entry, err := s.Tier.Get(ctx, key)
	if err != nil {
		return 0, fmt.Errorf("get: %w", err)
	}
	got, err := io.ReadAll(entry.Reader())
	entry.Close()
	if err != nil || !bytes.Equal(got, text) {
		return 0, errors.Join(errors.New("what is read is not what was written"), err)
	}
	if err := s.Client.Delete(ctx, s.Tier.ObjectName(key)); err != nil {
		return 0, fmt.Errorf("delete: %w", err)
	}
	return time.Since(begin), nil
}

// running asks the running service, if there is one.
func (u *auditor) running(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	address := local(u.c)
	said, err := ask(ctx, address+"/__version__", true)
	if err != nil {
		u.unchecked("answer", "no service answers at %s: %v", address, err)
		return
	}
	var version struct{ Version, Commit string }
	b := cli.ThisBuild()
	switch {
	case json.Unmarshal([]byte(said), &version) != nil || version.Version == "":
		u.find(bad, "version", "is it partiald that listens there?", "%s answers with %.100q", address, said)
		return
	case version.Version != b.Version || version.Commit != b.Commit:
		u.find(better, "version", "restart the service, or audit with its own program", "%s runs, this is %s", version.Version+" "+version.Commit, b.Version+" "+b.Commit)
	default:
		u.good("version", "%s runs", version.Version)
	}
	if _, err := ask(ctx, address+"/__heartbeat__", true); err != nil {
		u.find(bad, "health", "see docs/operations.md, \"When X fails\"", "%v", err)
	} else {
		u.good("health", "queue, ledger, cache, store and signers answer")
	}
}

// drill makes a backup, restores it, and makes a partial again.
func (u *auditor) drill(ctx context.Context) {
	if u.o.quick {
		u.unchecked("all of it", "--quick")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, drillFor)
	defer cancel()
	dir, err := os.MkdirTemp(u.o.scratch, "partiald-audit-")
	if u.errorOf("scratch directory", "give another one with --scratch", err) {
		return
	}
	defer os.RemoveAll(dir)
	dsn, err := u.c.PostgresDSN()
	if u.errorOf("ledger", "", err) {
		return
	}
	var done []job.Status
	if _, err := os.Stat(u.c.Ledger.SQLite); dsn == "" && errors.Is(err, fs.ErrNotExist) {
		u.unchecked("history", "there is no ledger yet: the service was never started")
	} else if dsn != "" {
		done = u.restorePostgres(ctx, dir, dsn)
	} else {
		done = u.restore(ctx, dir)
	}
	u.remake(ctx, dir, done)
}

// scratch is the configuration of a service of its own in a directory, which nobody reaches, and which signs nothing.
func (u *auditor) scratch(dir string) (*config.Config, error) {
	c := *u.c
	c.Name, c.Data = "audit", dir
	c.Server.Listen, c.Server.PublicURL, c.Server.TLSCertificate, c.Server.TLSKey, c.Server.TrustedProxies = "127.0.0.1:0", "", "", "", nil
	c.Queue = config.Default().Queue
	c.Queue.Dir, c.Queue.Lazy = filepath.Join(dir, "queue"), true
	c.Ledger = config.Ledger{SQLite: filepath.Join(dir, "ledger.db")}
	c.Cache.Dir, c.Cache.Memory = filepath.Join(dir, "cache"), 0
	c.Storage, c.Signing = config.Default().Storage, config.Signing{}
	c.Workers.Slots = 1
	return &c, os.MkdirAll(dir, 0o700)
}

// restore makes a backup and a service of it, which works on nothing, and compares the histories. It returns the latest
// jobs that are done.
func (u *auditor) restore(ctx context.Context, dir string) (done []job.Status) {
	backup := filepath.Join(dir, "backup")
	silent := &app{environ: u.a.environ, stdout: io.Discard, stderr: io.Discard}
	if u.errorOf("backup", "", silent.backup(ctx, u.c, backup)) {
		return nil
	}
	want, err := countJobs(ctx, "sqlite", "file:"+(&url.URL{Path: filepath.Join(backup, "ledger.db")}).EscapedPath()+"?mode=ro")
	if u.errorOf("backup", "", err) {
		return nil
	}
	c, err := u.scratch(filepath.Join(dir, "restored"))
	if err == nil {
		err = os.Rename(filepath.Join(backup, "ledger.db"), c.Ledger.SQLite)
	}
	if u.errorOf("restore", "", err) {
		return nil
	}
	return u.compare(ctx, c, want)
}

// compare starts a service of its own with a ledger that was restored, which works on nothing, and compares the history with
// how many jobs the ledger has in each state. It returns the latest jobs that are done.
func (u *auditor) compare(ctx context.Context, c *config.Config, want map[job.State]int) (done []job.Status) {
	c.Workers.Slots = -1 // what was not finished stays so
	silent := &app{environ: u.a.environ, stdout: io.Discard, stderr: io.Discard}
	s, err := start(ctx, silent, c, quiet)
	if u.errorOf("restore", "", err) {
		return nil
	}
	defer func() { _ = s.close() }() // a copy of a copy
	got := map[job.State]int{}
	f := job.Filter{Limit: 1000}
	for {
		page, err := s.engine.History(ctx, f)
		if u.errorOf("history", "", err) {
			return nil
		}
		for _, st := range page.Jobs {
			got[st.State]++
			if st.State == job.Done && st.Result != nil && st.Purged.IsZero() && len(done) < drillTries {
				done = append(done, st)
			}
		}
		if f.Cursor = page.Next; f.Cursor == "" {
			break
		}
	}
	total := sum(got)
	if total != sum(want) || got[job.Done] != want[job.Done] || got[job.Failed] != want[job.Failed] {
		u.find(bad, "history", "keep the backups you have, and report this", "%v were written down, and %v are there after the restore", want, got)
		return done
	}
	u.good("history", "backed up, restored and whole: %d jobs, %d of them done", total, got[job.Done])
	return done
}

func sum(counts map[job.State]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// countJobs counts the jobs of a ledger by state.
func countJobs(ctx context.Context, driver, dsn string) (map[job.State]int, error) {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }() // only read
	rows, err := db.QueryContext(ctx, "SELECT state, count(*) FROM jobs GROUP BY state")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // only read
	out := map[job.State]int{}
	for rows.Next() {
		var state job.State
		var n int
		if err := rows.Scan(&state, &n); err != nil {
			return nil, err
		}
		out[state] = n
	}
	return out, rows.Err()
}

// remake makes a partial again, in a service that has nothing, and compares.
func (u *auditor) remake(ctx context.Context, dir string, done []job.Status) {
	c, err := u.scratch(filepath.Join(dir, "again"))
	if u.errorOf("a partial again", "", err) {
		return
	}
	s, err := start(ctx, &app{environ: u.a.environ, stdout: io.Discard, stderr: io.Discard}, c, quiet)
	if u.errorOf("a partial again", "", err) {
		return
	}
	defer func() { _ = s.close() }() // scratch
	live, err := u.liveCache(ctx)
	if err != nil && len(done) > 0 {
		u.unchecked("a partial again", "the cache of the service cannot be read by this user: %v", err)
		done = nil
	}
	if live != nil {
		defer live.Close()
	}
	why := "no partial is in the history yet"
	for _, st := range done {
		same, err := again(ctx, s.engine, live, st)
		switch {
		case errors.Is(err, errAbsent):
			why = err.Error()
			continue
		case u.errorOf("a partial again", "", err):
			return
		case !same:
			u.find(bad, "a partial again", "keep both files, and report this", "job %s was made again and has other bytes", st.ID)
			return
		}
		u.good("a partial again", "job %s was made again from its completes: the same bytes", st.ID[:12])
		return
	}
	u.unchecked("a partial again", "%s", why)
	if err := remakeSample(ctx, s.engine); !u.errorOf("a sample", "", err) {
		u.good("a sample", "a small release was made on the spot, and a partial of it made and proved")
	}
}

func (u *auditor) liveCache(ctx context.Context) (*cache.Disk, error) {
	if _, err := os.Stat(u.c.Cache.Dir); err != nil {
		return nil, err
	}
	return cache.OpenDisk(ctx, u.c.Cache.Dir, nil)
}

// errAbsent says that something that is needed is not in the cache any more.
var errAbsent = errors.New("of the latest partials the completes are not in the cache any more")

// again makes a partial again that was made before, and says whether it is the same, but for its signatures.
func again(ctx context.Context, e *engine.Engine, live *cache.Disk, st job.Status) (bool, error) {
	spec := st.Spec
	for _, src := range []*job.Source{&spec.From, &spec.To} {
		identity := "sha512:" + src.SHA512
		if src.SHA512 == "" {
			identity = "sha256:" + src.SHA256
		}
		entry, err := live.Get(ctx, cache.NewKey(cache.Completes, identity))
		if err != nil {
			return false, errAbsent
		}
		up, err := e.Upload(ctx, entry.Reader(), job.Asker{Name: "audit"})
		entry.Close()
		if err != nil {
			return false, err
		}
		*src = job.Source{SHA512: up.SHA512, Size: up.Size}
	}
	result, update, err := submitAndRead(ctx, e, spec)
	if err != nil {
		return false, err
	}
	if result.SHA512 == st.Result.SHA512 {
		return true, nil
	}
	if len(st.Result.SignedBy) == 0 {
		return false, nil
	}
	// It was signed then and is not now: the rest must be the same.
	var key cache.Key
	key.Kind = cache.Partials
	sum, err := hex.DecodeString(st.ID)
	if err != nil || copy(key.Sum[:], sum) != len(key.Sum) {
		return false, fmt.Errorf("%.80q is not the ID of a job", st.ID)
	}
	entry, err := live.Get(ctx, key)
	if err != nil {
		return false, errAbsent
	}
	defer entry.Close()
	signed, err := mar.NewReader(entry, entry.Size(), nil)
	if err != nil {
		return false, err
	}
	var bare bytes.Buffer
	if _, err := signed.Strip().WriteTo(&bare); err != nil {
		return false, err
	}
	unsigned, err := mar.NewReader(bytes.NewReader(update), int64(len(update)), nil)
	if err != nil {
		return false, err
	}
	var plain bytes.Buffer
	if _, err := unsigned.Strip().WriteTo(&plain); err != nil {
		return false, err
	}
	return bytes.Equal(bare.Bytes(), plain.Bytes()), nil
}

// submitAndRead has a partial made and returns it.
func submitAndRead(ctx context.Context, e *engine.Engine, spec job.Spec) (*job.Result, []byte, error) {
	st, _, err := e.Submit(ctx, spec, job.Asker{Name: "audit", Operator: true})
	if err != nil {
		return nil, nil, err
	}
	updates, err := e.Watch(ctx, st.ID)
	if err != nil {
		return nil, nil, err
	}
	for st = range updates {
		if st.State.Final() {
			break
		}
	}
	if st.State != job.Done || st.Result == nil {
		if st.Error != nil {
			return nil, nil, st.Error
		}
		return nil, nil, fmt.Errorf("the job is %s", st.State)
	}
	artifact, err := e.Artifact(ctx, st.ID)
	if err != nil {
		return nil, nil, err
	}
	defer artifact.Close()
	data, err := io.ReadAll(io.NewSectionReader(artifact, 0, artifact.Size))
	return st.Result, data, err
}

func remakeSample(ctx context.Context, e *engine.Engine) error {
	var spec job.Spec
	for version, src := range map[string]*job.Source{"1.0": &spec.From, "2.0": &spec.To} {
		data, err := sample.Complete(ctx, "audit", version, 256<<10)
		if err != nil {
			return err
		}
		up, err := e.Upload(ctx, bytes.NewReader(data), job.Asker{Name: "audit"})
		if err != nil {
			return err
		}
		*src = job.Source{SHA512: up.SHA512, Size: up.Size}
	}
	_, _, err := submitAndRead(ctx, e, spec)
	return err
}
