package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/examples/internal/database"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue"
	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/plugins"
)

// partialKey is where a job's partial is: the job's ID is the key's sum.
func partialKey(id string) (k cache.Key) {
	k.Kind = cache.Partials
	sum, _ := hex.DecodeString(id)
	copy(k.Sum[:], sum)
	return k
}

func docKey(id string) cache.Key { return cache.NewKey(KindDocs, id, "provenance") }

// refusalKey is where the report of an attempt is that made nothing: its update was refused, or not proved.
func refusalKey(id string, attempt int) cache.Key {
	return cache.NewKey(KindDocs, id, "refusal", strconv.Itoa(attempt))
}

// put stores a value that is in memory.
func (e *Engine) put(ctx context.Context, k cache.Key, value []byte) error {
	_, err := e.cache.Put(ctx, k, bytes.NewReader(value))
	return err
}

// keepError is that of the store in which what jobs make is kept.
type keepError struct{ err error }

func (e *keepError) Error() string { return "store: " + e.err.Error() }
func (e *keepError) Unwrap() error { return e.err }

// keep makes sure that a value is where nothing is evicted or lost with a server: in the storage, else in the queue's
// bucket, else on this server's disk. A cache alone would say nothing where that fails.
func (e *Engine) keep(ctx context.Context, k cache.Key, value io.Reader) error {
	var home cache.Store
	var there bool
	var err error
	switch store := e.q.Store(); {
	case e.o.Storage != nil:
		home = e.o.Storage.Tier
		if _, err = e.o.Storage.Client.Stat(ctx, e.o.Storage.Tier.ObjectName(k)); errors.Is(err, plugins.ErrNotFound) {
			err = nil
		} else {
			there = err == nil
		}
	case store != nil:
		home = store
		there, err = e.q.Has(ctx, k)
	default:
		home = e.o.Disk
		if entry, missing := home.Get(ctx, k); missing == nil {
			entry.Close()
			there = true
		}
	}
	if err == nil && !there {
		_, err = home.Put(ctx, k, value)
	}
	if err != nil && ctx.Err() == nil {
		return &keepError{err}
	}
	return err
}

// fileName is what a partial is saved as.
func fileName(id string, s *job.Spec, p *senbonzakura.Provenance) string {
	if name := path.Base(strings.ReplaceAll(s.Labels["mar"], "\\", "/")); name != "." && name != "/" && !strings.ContainsFunc(name, odd) {
		return name
	}
	from, to := p.From.Build, p.To.Build
	if to.Product != "" && from.Version != "" && to.Version != "" && from.Version != to.Version {
		parts := []string{to.Product, from.Version, to.Version}
		for _, more := range []string{p.Locale, to.Platform} {
			if more != "" {
				parts = append(parts, more)
			}
		}
		if name := strings.ToLower(strings.Join(parts, "-")) + ".partial.mar"; !strings.ContainsFunc(name, odd) && len(name) < 128 {
			return name
		}
	}
	return "partial-" + id[:16] + ".mar"
}

func odd(r rune) bool {
	return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+", r)
}

// there says whether the partial of a job that is done still is. What was there a moment ago is not looked for again.
func (e *Engine) there(ctx context.Context, r *record) bool {
	if e.present.has(r.ID) {
		return true
	}
	entry, err := e.open(ctx, r)
	if err != nil {
		return false
	}
	entry.Close()
	return true
}

// open opens a partial and compares it with what the job's result says.
func (e *Engine) open(ctx context.Context, r *record) (*cache.Entry, error) {
	key := partialKey(r.ID)
	entry, err := e.cache.Get(ctx, key)
	if err != nil {
		e.present.remove(r.ID)
		return nil, err
	}
	if sum := entry.SHA256(); r.Result == nil || hex.EncodeToString(sum[:]) != r.Result.SHA256 {
		entry.Close()
		e.present.remove(r.ID)
		_, err := e.purgeLocal(ctx, r.ID, r)
		return nil, errors.Join(fmt.Errorf("%w: SHA-256 is %x", cache.ErrCorrupt, sum), err)
	}
	e.present.add(r.ID)
	return entry, nil
}

// done returns a job that is done.
func (e *Engine) done(ctx context.Context, id string) (record, error) {
	if !validID(id) {
		return record{}, notFound(id)
	}
	r, _, err := e.find(ctx, id)
	switch {
	case err != nil:
		return r, err
	case r.State == job.Failed && r.Error != nil:
		return r, &job.Error{Code: job.CodeNotReady, Message: "the job has failed: " + r.Error.Message}
	case r.State != job.Done || r.Result == nil:
		return r, &job.Error{Code: job.CodeNotReady, Message: fmt.Sprintf("the job is %s", r.State), Retryable: !r.State.Final()}
	case !r.Purged.IsZero():
		return r, gone("was purged")
	}
	return r, nil
}

func gone(why string) error {
	return &job.Error{Code: job.CodeNotFound, Message: "the partial " + why + ": submit the job again to have it made again", Retryable: true}
}

// absent tells what is gone from what cannot be had now, because the storage does not answer.
func (e *Engine) absent(ctx context.Context, key cache.Key, why string) error {
	if e.o.Storage == nil {
		return gone(why)
	}
	ctx, cancel := context.WithTimeout(ctx, presignWithin)
	defer cancel()
	if _, err := e.o.Storage.Client.Stat(ctx, e.o.Storage.Tier.ObjectName(key)); err != nil && !errors.Is(err, plugins.ErrNotFound) {
		return &job.Error{Code: job.CodeUnavailable, Message: "the store does not answer", Retryable: true, RetryAfter: retryUnavailable}
	}
	return gone(why)
}

// Artifact implements [job.Service].
func (e *Engine) Artifact(ctx context.Context, id string) (*job.Artifact, error) {
	r, err := e.done(ctx, id)
	if err != nil {
		return nil, err
	}
	a := &job.Artifact{
		ID: id, Size: r.Result.Size, SHA512: r.Result.SHA512, SHA256: r.Result.SHA256, Name: r.Result.Name, Made: r.Updated,
	}
	if a.Location = e.presign(ctx, id); a.Location != "" {
		// Most callers go there. The bytes are opened for those who do not.
		lazy := &lazyEntry{open: func() (*cache.Entry, error) { return e.open(context.WithoutCancel(ctx), &r) }}
		a.ReaderAt, a.Closer = lazy, lazy
		return a, nil
	}
	entry, err := e.open(ctx, &r)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, e.absent(ctx, partialKey(id), "is not in the store any more")
	}
	a.ReaderAt, a.Closer = entry, entry
	return a, nil
}

// presignWithin is how long a download waits for an address in the storage; after that the bytes come from here, where
// the cache has them.
const presignWithin = 2 * time.Second

// presign returns an address of a partial in the storage, or "" where that cannot be had.
func (e *Engine) presign(ctx context.Context, id string) string {
	if e.o.Storage == nil || e.o.PresignFor < 0 {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, presignWithin)
	defer cancel()
	key := partialKey(id)
	stored := "stored\x00" + id
	if !e.present.has(stored) {
		if _, err := e.o.Storage.Client.Stat(ctx, e.o.Storage.Tier.ObjectName(key)); err != nil {
			return ""
		}
		e.present.add(stored)
	}
	address, _, err := e.o.Storage.Tier.Presign(ctx, key, e.o.PresignFor)
	if err != nil {
		return "" // most plugins cannot
	}
	return address
}

// lazyEntry opens an entry when it is read.
type lazyEntry struct {
	open  func() (*cache.Entry, error)
	mu    sync.Mutex
	entry *cache.Entry
	err   error
}

func (l *lazyEntry) ReadAt(p []byte, off int64) (int, error) {
	l.mu.Lock()
	if l.entry == nil && l.err == nil {
		l.entry, l.err = l.open()
	}
	entry, err := l.entry, l.err
	l.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return entry.ReadAt(p, off)
}

func (l *lazyEntry) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = fs.ErrClosed
	if l.entry == nil {
		return nil
	}
	return l.entry.Close()
}

// Provenance implements [job.Service].
func (e *Engine) Provenance(ctx context.Context, id string) (job.Document, error) {
	if _, err := e.done(ctx, id); err != nil {
		return nil, err
	}
	entry, err := e.cache.Get(ctx, docKey(id))
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, e.absent(ctx, docKey(id), "is there, but not what belongs to it")
	}
	defer entry.Close()
	doc, err := io.ReadAll(entry.Reader())
	return doc, outward(err)
}

// Report implements [job.Service].
func (e *Engine) Report(ctx context.Context, id string) (job.Document, error) {
	if doc, err := e.refusal(ctx, id); doc != nil || err != nil {
		return doc, err
	}
	doc, err := e.Provenance(ctx, id)
	if err != nil {
		return nil, err
	}
	var p struct {
		Report job.Document `json:"report"`
	}
	if err := json.Unmarshal(doc, &p); err != nil {
		return nil, outward(err)
	}
	return p.Report, nil
}

// refusal is the report of a job's last attempt where its update was refused, or not proved; nil where there is none.
func (e *Engine) refusal(ctx context.Context, id string) (job.Document, error) {
	if !validID(id) {
		return nil, notFound(id)
	}
	r, _, err := e.find(ctx, id)
	if err != nil || r.State != job.Failed {
		return nil, err
	}
	entry, err := e.cache.Get(ctx, refusalKey(id, r.Attempt))
	if err != nil {
		return nil, ctx.Err() // the error of the job says enough without
	}
	defer entry.Close()
	doc, err := io.ReadAll(entry.Reader())
	return doc, outward(err)
}

// Uploads are reached by the fetch client as upload://store/sha512/<hex>.
const (
	uploadScheme = "upload"
	uploadPrefix = uploadScheme + "://store/"
)

func uploadURL(h fetch.Hash) string {
	return uploadPrefix + string(h.Algorithm) + "/" + hex.EncodeToString(h.Sum)
}

// uploadValue is what the entry of an upload says, one for each hash.
type uploadValue struct {
	SHA512 string
	Size   int64
}

func uploadKey(identity string) cache.Key { return cache.NewKey(kindUploads, identity) }

// sharedUploadKey is where an upload is in the queue's bucket, which has no other completes.
func sharedUploadKey(identity string) cache.Key {
	return cache.NewKey(kindUploads, identity, "content")
}

// completeKey is the generator's for a complete of an identity, "sha512:<hex>".
func completeKey(identity string) cache.Key { return cache.NewKey(cache.Completes, identity) }

// uploaded says whether a source without URLs is there: uploaded, or fetched for another job.
func (e *Engine) uploaded(ctx context.Context, s *job.Source) bool {
	identity := "sha512:" + s.SHA512
	if s.SHA512 == "" {
		identity = "sha256:" + s.SHA256
	}
	for _, key := range []cache.Key{uploadKey(identity), completeKey(identity)} {
		if entry, err := e.cache.Get(ctx, key); err == nil {
			entry.Close()
			return true
		}
	}
	return false
}

// uploads opens what was uploaded. It implements fetch.Opener.
type uploads struct{ e *Engine }

// Open implements fetch.Opener.
func (u uploads) Open(ctx context.Context, address *url.URL, from fetch.Position) (*fetch.Object, error) {
	alg, sum, _ := strings.Cut(strings.TrimPrefix(address.Path, "/"), "/")
	identity := alg + ":" + sum
	if entry, err := u.e.cache.Get(ctx, uploadKey(identity)); err == nil {
		var v uploadValue
		if json.NewDecoder(entry.Reader()).Decode(&v) == nil {
			identity = "sha512:" + v.SHA512
		}
		entry.Close()
	}
	entry, err := u.e.cache.Get(ctx, completeKey(identity))
	if store := u.e.q.Store(); err != nil && store != nil && ctx.Err() == nil {
		entry, err = store.Get(ctx, sharedUploadKey(identity))
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%s: %w", identity, fs.ErrNotExist)
	}
	if from.Validator != identity || from.Offset > entry.Size() {
		from.Offset = 0
	}
	return &fetch.Object{
		Body: struct {
			io.Reader
			io.Closer
		}{io.NewSectionReader(entry, from.Offset, entry.Size()-from.Offset), entry},
		Offset: from.Offset, Size: entry.Size(), Validator: identity,
	}, nil
}

// Upload implements [job.Service].
func (e *Engine) Upload(ctx context.Context, r io.Reader, who job.Asker) (job.Upload, error) {
	if !e.Ready() {
		return job.Upload{}, errDraining
	}
	file, err := os.CreateTemp(e.o.Disk.TempDir(), "upload-*")
	if err != nil {
		return job.Upload{}, storeError(err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	sum512, sum256 := sha512.New(), sha256.New()
	size, err := io.Copy(&failing{io.MultiWriter(file, sum512, sum256)}, io.LimitReader(r, e.o.UploadLimit+1))
	var write *writeError
	switch {
	case ctx.Err() != nil:
		return job.Upload{}, ctx.Err()
	case errors.As(err, &write):
		return job.Upload{}, storeError(write.err)
	case errors.As(err, new(*job.Error)):
		return job.Upload{}, err
	case err != nil:
		return job.Upload{}, job.Errorf(job.CodeRequest, "the upload ended early, after %d bytes: %s", size, public(err))
	case size > e.o.UploadLimit:
		return job.Upload{}, job.Errorf(job.CodeTooLarge, "longer than %d bytes, which is the limit here", e.o.UploadLimit)
	}
	if _, err := mar.NewReader(file, size, nil); err != nil {
		return job.Upload{}, job.Errorf(job.CodeInvalidMAR, "the upload is not a MAR file: %v", err)
	}
	u := job.Upload{SHA512: hex.EncodeToString(sum512.Sum(nil)), SHA256: hex.EncodeToString(sum256.Sum(nil)), Size: size}
	entry, err := e.cache.GetOrFill(ctx, completeKey("sha512:"+u.SHA512), func(ctx context.Context, w io.Writer) error {
		if adopter, ok := w.(cache.Adopter); ok && adopter.Adopt(file.Name()) == nil {
			return nil
		}
		_, err := io.Copy(w, io.NewSectionReader(file, 0, size))
		return err
	})
	if err != nil {
		return u, storeError(err)
	}
	defer entry.Close()
	content := completeKey("sha512:" + u.SHA512)
	if e.o.Storage == nil && e.q.Store() != nil {
		content = sharedUploadKey("sha512:" + u.SHA512)
	}
	if err := e.keep(ctx, content, entry.Reader()); err != nil {
		return u, storeError(err)
	}
	value, err := json.Marshal(uploadValue{u.SHA512, size})
	if err != nil {
		return u, outward(err)
	}
	for _, identity := range []string{"sha512:" + u.SHA512, "sha256:" + u.SHA256} {
		key := uploadKey(identity)
		if err := errors.Join(e.put(ctx, key, value), e.keep(ctx, key, bytes.NewReader(value))); err != nil {
			return u, storeError(err)
		}
	}
	e.log.InfoContext(ctx, "upload", "sha512", u.SHA512, "size", size, "who", who.Name)
	return u, e.act(ctx, who, "upload", "", fmt.Sprintf("%d bytes, SHA-512 %s", size, u.SHA512))
}

// failing tells errors of writing from those of reading.
type failing struct{ w io.Writer }

type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

func (f *failing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err != nil {
		err = &writeError{err}
	}
	return n, err
}

func storeError(err error) error {
	message := "it cannot be stored"
	if errors.Is(err, cache.ErrNoSpace) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, database.ErrNoSpace) {
		message += ": there is no space left"
	}
	return &job.Error{Code: job.CodeStore, Message: message, Retryable: true, RetryAfter: retryFull, Cause: err}
}

// keys are those of everything that belongs to a job.
func (e *Engine) keys(id string, r *record) []cache.Key {
	keys := []cache.Key{partialKey(id), senbonzakura.ReportKey(partialKey(id)), docKey(id)}
	for _, c := range r.Changes {
		if c.State == job.Fetching {
			keys = append(keys, attemptLogKey(id, c.Attempt, c.Server), refusalKey(id, c.Attempt))
		}
	}
	return keys
}

// purgeLocal removes what belongs to a job from this server, and says whether the partial was there.
func (e *Engine) purgeLocal(ctx context.Context, id string, r *record) (bool, error) {
	found := false
	var failed error
	for _, key := range e.keys(id, r) {
		usage, err := e.cache.Purge(ctx, cache.Filter{Key: &key})
		failed = errors.Join(failed, err)
		found = found || key.Kind == cache.Partials && usage.Entries > 0
	}
	return found, failed
}

// Purge implements [job.Service].
func (e *Engine) Purge(ctx context.Context, id string, before time.Time, who job.Asker) (int, error) {
	if id != "" {
		if !validID(id) {
			return 0, notFound(id)
		}
		removed, err := e.purge(ctx, id, who)
		if err != nil {
			return 0, err
		}
		n := 0
		if removed {
			n = 1
		}
		return n, e.act(ctx, who, "purge", id, "")
	}
	if before.IsZero() {
		return 0, refuse("before", "say which job, or before when")
	}
	n := 0
	for cursor := ""; ; {
		page, err := e.l.History(ctx, job.Filter{State: job.Done, Until: before, Limit: 500, Cursor: cursor})
		if err != nil {
			return n, outward(err)
		}
		for _, s := range page.Jobs {
			if s.Updated.After(before) || !s.Purged.IsZero() {
				continue
			}
			removed, err := e.purge(ctx, s.ID, who)
			if err != nil && !errors.Is(err, &job.Error{Code: job.CodeConflict}) { // it is being made again
				return n, err
			}
			if removed {
				n++
			}
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	return n, e.act(ctx, who, "purge", "", fmt.Sprintf("%d made before %s", n, before.UTC().Format(time.RFC3339)))
}

// purge removes what belongs to one job, here, in the storage and, as they hear of it, on the other servers.
func (e *Engine) purge(ctx context.Context, id string, who job.Asker) (removed bool, err error) {
	r, revision, err := e.find(ctx, id)
	if err != nil {
		return false, err
	}
	if !r.State.Final() {
		return false, job.Errorf(job.CodeConflict, "the job is %s: cancel it first", r.State)
	}
	e.present.remove(id)
	e.present.remove("stored\x00" + id)
	removed, err = e.purgeLocal(ctx, id, &r)
	for _, key := range e.keys(id, &r) {
		err = errors.Join(err, e.q.Forget(ctx, key))
		if s := e.o.Storage; s != nil && err == nil { // one that failed once would fail for each key
			name := s.Tier.ObjectName(key)
			if _, statErr := s.Client.Stat(ctx, name); key.Kind == cache.Partials && statErr == nil {
				removed = true
			}
			if err = ignoreMissing(s.Client.Delete(ctx, name)); err == nil {
				err = ignoreMissing(s.Client.Delete(ctx, name+".seal"))
			}
		}
	}
	if err != nil {
		return removed, &job.Error{
			Code: job.CodeUnavailable, Retryable: true, RetryAfter: retryFull,
			Message: fmt.Sprintf("not everything that belongs to the job could be removed; purge it again: %v", err),
		}
	}
	// Now that nobody can get it from the storage any more the others remove their copies.
	for try := 0; r.State == job.Done; try++ {
		next := r
		next.Purged = e.now()
		next.step(job.Done, next.Purged, e.o.Server, "purged by "+who.Name)
		if _, err = e.save(ctx, &next, revision); err == nil {
			break
		}
		if !errors.Is(err, queue.ErrConflict) || try == maxTries {
			return removed, outward(err)
		}
		now, newer, err := e.load(ctx, id)
		switch {
		case errors.Is(err, queue.ErrNotFound):
			revision = newer
		case err != nil:
			return removed, outward(err)
		case !now.State.Final():
			return removed, job.Errorf(job.CodeConflict, "the job is %s: it is being made again", now.State)
		default:
			r, revision = now, newer
		}
	}
	return removed, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, plugins.ErrNotFound) {
		return nil
	}
	return err
}
