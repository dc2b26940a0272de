package server

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/replicate"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
	"github.com/senbonzakura/senbonzakura/internal/atomicfile"
)

// Replica says of which server a server is a replica.
type Replica struct {
	URL   *url.URL          // of the server
	Key   ed25519.PublicKey // that it signs with
	Token string            // of the role replicate
	Retry time.Duration     // the longest time between two tries while the server cannot be reached; 0 means 5 s
}

// ErrReplica says that something can only be done on the server that this one is a replica of.
var ErrReplica = errors.New("server: this is a replica")

// replica is what a replica knows of its server. The zero value knows nothing.
type replica struct {
	client *http.Client
	files  singleflight.Group
	turns  chan struct{} // as many files may be fetched at a time

	mu    sync.Mutex
	state replicaStatus
	kept  *published // what its book has
}

// replicaStatus is how a replica stands.
type replicaStatus struct {
	statement replicate.Statement // the last one that was taken
	contact   time.Time           // when the server answered last, with something that holds
	failure   string              // why it does not; "" is that it does
}

func (r *replica) status() replicaStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

func (r *replica) note(change func(*replicaStatus)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.state)
}

// alarm says what is wrong, "" where nothing is.
func (st *replicaStatus) alarm(now time.Time) string {
	switch {
	case st.statement.Time.IsZero():
		return "nothing is known of the server yet: " + cmp.Or(st.failure, "it was not reached")
	case !st.statement.Expires.After(now):
		return fmt.Sprintf("what the server signed last has expired at %s: %s", st.statement.Expires.Format(time.RFC3339), cmp.Or(st.failure, "it was not reached"))
	}
	return ""
}

// How a replica asks.
const (
	pollWait    = 50 * time.Second
	pollGrace   = 20 * time.Second // beyond the wait
	retryFirst  = 250 * time.Millisecond
	retryMost   = 5 * time.Second
	maxHead     = 1 << 20
	maxListing  = 256 << 20
	maxLine     = 64<<20 + 1
	fileTurns   = 4
	statementIn = "statement.json"
)

// openReplica reads what the replica had when it stopped.
func (s *Server) openReplica(now *published) error {
	s.replica.client = &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, ResponseHeaderTimeout: pollWait + pollGrace, IdleConnTimeout: 2 * time.Minute, MaxIdleConnsPerHost: 4,
	}}
	s.replica.turns = make(chan struct{}, fileTurns)
	s.replica.kept = now
	text, err := os.ReadFile(filepath.Join(s.opts.Dir, statementIn))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var signed replicate.Signed
	if err := json.Unmarshal(text, &signed); err != nil {
		return fmt.Errorf("%s: %w", statementIn, err)
	}
	st, err := signed.Open(s.opts.Replica.Key)
	if err != nil {
		return fmt.Errorf("%s: %w: is the public key still that of the server? Else begin with an empty data directory", statementIn, err)
	}
	s.replica.note(func(r *replicaStatus) { r.statement = st })
	return nil
}

// follow takes over what the server publishes, until ctx ends.
func (s *Server) follow(ctx context.Context) {
	first := min(retryFirst, cmp.Or(s.opts.Replica.Retry, retryMost))
	wait := first
	for ctx.Err() == nil {
		err := s.followOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			wait = first
			continue
		}
		s.replica.note(func(r *replicaStatus) { r.failure = err.Error() })
		s.log.Error("follow the server", "server", s.opts.Replica.URL.String(), "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
		wait = min(2*wait, cmp.Or(s.opts.Replica.Retry, retryMost))
	}
}

// followOnce waits for what the server publishes next, and takes it over.
func (s *Server) followOnce(ctx context.Context) error {
	last := s.replica.status().statement
	now := s.current.Load()
	q := url.Values{}
	if !last.Time.IsZero() {
		q.Set("after", strconv.FormatInt(now.head.Seq, 10))
		q.Set("time", last.Time.Format(time.RFC3339Nano))
		q.Set("wait", strconv.Itoa(int(pollWait/time.Second)))
	}
	var head headBody
	err := s.askServer(ctx, http.MethodGet, "/admin/v1/replicate/head?"+q.Encode(), nil, func(r io.Reader) error {
		return json.NewDecoder(io.LimitReader(r, maxHead)).Decode(&head)
	})
	if err != nil {
		return err
	}
	st, err := head.Open(s.opts.Replica.Key)
	if err != nil {
		return err
	}
	if err := st.After(last, time.Now()); err != nil {
		return err
	}
	if st.URL != s.base {
		return fmt.Errorf("the server is reached by clients under %s, this replica under %s: give both the same url", st.URL, s.base)
	}
	if err := s.takeSecret(ctx, head.ClientSecret); err != nil {
		return err
	}
	if st.Sequence != now.head.Seq || st.Hash != now.head.Hash && st.Sequence > 0 {
		if err := s.takeOver(ctx, now, st); err != nil {
			return err
		}
	}
	s.replica.note(func(r *replicaStatus) { r.statement, r.contact, r.failure = st, time.Now(), "" })
	s.log.Debug("the server has said what is published", "snapshot", st.Sequence, "expires", st.Expires)
	if st == last {
		return nil
	}
	return s.keepStatement(ctx, head.Signed)
}

// keepStatement writes the statement down that holds, so that no older one is taken after a restart either.
func (s *Server) keepStatement(ctx context.Context, signed replicate.Signed) error {
	text, err := json.Marshal(signed)
	if err != nil {
		return err
	}
	return atomicfile.Write(ctx, filepath.Join(s.opts.Dir, statementIn), 0o600, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// takeSecret makes clients stay on the side of a throttled rule whichever server answers them.
func (s *Server) takeSecret(ctx context.Context, text string) error {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != secretSize {
		return errors.New("the server's secret is none")
	}
	if bytes.Equal(b, *s.secret.Load()) {
		return nil
	}
	if err := writeSecret(ctx, filepath.Join(s.opts.Dir, secretName), b); err != nil {
		return err
	}
	s.secret.Store(&b)
	return nil
}

// takeOver fetches what the replica lacks of a snapshot, compares all of it with the statement, and answers from it.
func (s *Server) takeOver(ctx context.Context, now *published, st replicate.Statement) error {
	next, err := s.fetchState(ctx, now.state, now.head.Seq, st)
	if err == nil && next.Hash() != st.Hash && now.head.Seq > 0 { // what is here may be of another server's past
		next, err = s.fetchState(ctx, now.state, 0, st)
	}
	if err != nil {
		return err
	}
	if got := next.Hash(); got != st.Hash {
		return fmt.Errorf("snapshot %d of the server is not what it signed: its hash is %s, want %s", st.Sequence, got, st.Hash)
	}
	snapshot, problems := aus.Compile(next.Config(s.own))
	head := book.Snapshot{Seq: st.Sequence, Hash: st.Hash, At: st.Published, Author: st.Author, Comment: st.Comment}
	p := newPublished(head, next, snapshot, problems)
	s.install(p)
	s.log.Info("took over", "snapshot", head.Seq, "behind", time.Since(st.Published).Round(time.Millisecond))
	if s.opts.Purge != nil {
		s.done.Go(func() { s.opts.Purge(context.WithoutCancel(ctx), head) })
	}
	// Clients are answered from it already: a full disk keeps no shutoff from them.
	kept := s.replica.kept
	if _, err := s.book.Publish(ctx, book.Publication{
		After: kept.head.Seq, Seq: head.Seq, At: head.At, Hash: head.Hash, Author: head.Author, Comment: head.Comment, Changes: kept.state.Changes(next),
	}, time.Now()); err != nil {
		return fmt.Errorf("keep snapshot %d: %w", head.Seq, err)
	}
	s.replica.kept = p
	return nil
}

// fetchState makes the server's state of one's own of number from, or of all that the server lists where from is 0.
func (s *Server) fetchState(ctx context.Context, own *state.State, from int64, st replicate.Statement) (*state.State, error) {
	var d replicate.Difference
	err := s.askServer(ctx, http.MethodGet, fmt.Sprintf("/admin/v1/replicate/difference?from=%d&to=%d", from, st.Sequence), nil, func(r io.Reader) error {
		return json.NewDecoder(io.LimitReader(r, maxListing)).Decode(&d)
	})
	if err != nil {
		return nil, err
	}
	base := own
	if from == 0 {
		base = state.New(nil)
	}
	var objects []*state.Object
	var gone []state.Ref
	var lacking []replicate.Entry
	for _, e := range d.Entries {
		ref := state.Ref{Kind: state.Kind(e.Kind), Key: e.Key}
		if e.Hash == "" {
			gone = append(gone, ref)
			continue
		}
		if o := own.Get(ref); o != nil && o.Hash == e.Hash {
			objects = append(objects, o)
			continue
		}
		if body, err := s.book.Object(ctx, e.Hash); err == nil {
			if o, err := state.Load(ref, body, e.Hash); err == nil {
				objects = append(objects, o)
				continue
			}
		}
		lacking = append(lacking, e)
	}
	for len(lacking) > 0 {
		n := min(len(lacking), maxObjects)
		some, err := s.fetchObjects(ctx, lacking[:n])
		if err != nil {
			return nil, err
		}
		objects, lacking = append(objects, some...), lacking[n:]
	}
	return base.Replace(objects, gone), nil
}

// fetchObjects fetches objects and looks whether they are what they are called.
func (s *Server) fetchObjects(ctx context.Context, entries []replicate.Entry) (objects []*state.Object, err error) {
	hashes := make([]string, len(entries))
	for i, e := range entries {
		hashes[i] = e.Hash
	}
	err = s.askServer(ctx, http.MethodPost, "/admin/v1/replicate/objects", map[string]any{"hashes": hashes}, func(r io.Reader) error {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, maxLine)
		for _, e := range entries {
			if !lines.Scan() {
				return cmp.Or(lines.Err(), io.ErrUnexpectedEOF)
			}
			o, err := state.Load(state.Ref{Kind: state.Kind(e.Kind), Key: e.Key}, bytes.Clone(lines.Bytes()), e.Hash)
			if err != nil {
				return err
			}
			objects = append(objects, o)
		}
		return nil
	})
	return objects, err
}

// askServer asks the server of a replica; read gets the body of a good answer.
func (s *Server) askServer(ctx context.Context, method, path string, body any, read func(io.Reader) error) error {
	var r io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(s.opts.Replica.URL.String(), "/")+path, r)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+s.opts.Replica.Token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := s.replica.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%w: %s", book.ErrNotFound, req.URL.Redacted())
	case res.StatusCode >= 300:
		said, _ := io.ReadAll(io.LimitReader(res.Body, 500)) // what there is of it
		return fmt.Errorf("%s answers %s: %s", req.URL.Redacted(), res.Status, strings.TrimSpace(string(said)))
	case read == nil:
		return nil
	}
	return read(res.Body)
}

// fetchFile fetches a file that the server offers and this replica has not, and returns its hash.
func (s *Server) fetchFile(ctx context.Context, begin, name string) (string, error) {
	sum, err, _ := s.replica.files.Do(begin+"/"+name, func() (any, error) {
		select {
		case s.replica.turns <- struct{}{}:
			defer func() { <-s.replica.turns }()
		default:
			return "", errBusy
		}
		var f book.File
		err := s.askServer(context.WithoutCancel(ctx), http.MethodGet, "/files/"+begin+"/"+url.PathEscape(name), nil, func(r io.Reader) (err error) {
			f, err = s.keep(context.WithoutCancel(ctx), name, begin, r, nil)
			return err
		})
		return f.SHA512, err
	})
	if err != nil {
		return "", err
	}
	return sum.(string), nil
}

// errBusy says that enough files are being fetched.
var errBusy = errors.New("server: enough files are being fetched")

// report tells the server which partials clients of this replica could have used.
func (s *Server) report(ctx context.Context, list []wantedBody) error {
	return s.askServer(ctx, http.MethodPost, "/admin/v1/replicate/demand", list, nil)
}
