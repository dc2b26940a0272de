package server

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/replicate"
)

// statements is what a server signs statements with, for its replicas.
type statements struct {
	key ed25519.PrivateKey

	mu     sync.Mutex
	last   replicate.Statement
	signed replicate.Signed
}

// keyName is the file of the key that statements are signed with.
const keyName = "replication.key"

// Key returns the key with which the server of a data directory signs for its replicas; it is made once.
func Key(ctx context.Context, dir string) (ed25519.PrivateKey, error) {
	seed, err := secret(ctx, filepath.Join(dir, keyName))
	if err != nil {
		return nil, err
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// PublicKey is what replicas know the server by.
func (s *Server) PublicKey() ed25519.PublicKey { return s.signing.key.Public().(ed25519.PublicKey) }

// statement signs what is published, anew where the last signature is an hour old.
func (s *Server) statement(p *published) (replicate.Statement, replicate.Signed, error) {
	s.signing.mu.Lock()
	defer s.signing.mu.Unlock()
	now := time.Now().UTC().Truncate(time.Millisecond)
	last := s.signing.last
	if last.Sequence == p.head.Seq && last.Hash == p.head.Hash && now.Sub(last.Time) < replicate.Renew && !last.Time.After(now) && s.signing.signed.Signature != nil {
		return last, s.signing.signed, nil
	}
	next := replicate.Statement{
		Sequence: p.head.Seq, Hash: p.head.Hash, Time: now, Expires: now.Add(replicate.Valid), URL: s.base,
		Published: p.head.At, Author: p.head.Author, Comment: p.head.Comment,
	}
	signed, err := replicate.Sign(s.signing.key, next)
	if err != nil {
		return next, signed, err
	}
	s.signing.last, s.signing.signed = next, signed
	return next, signed, nil
}

// asked is a replica that has asked, by the name of its token.
type asked struct {
	Name string    `json:"name" doc:"of its token"`
	Seen time.Time `json:"seen" doc:"when it asked last"`
	Seq  int64     `json:"snapshot" doc:"that it had then; -1 is none"`
}

// askers are the replicas that have asked since the start.
type askers struct {
	mu sync.Mutex
	m  map[string]asked
}

// note notes that a replica asks, and what it has. There are as many as tokens.
func (a *askers) note(name string, seq int64, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.m == nil {
		a.m = map[string]asked{}
	}
	a.m[name] = asked{name, now.UTC(), seq}
}

func (a *askers) list() []asked {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.SortedFunc(maps.Values(a.m), func(x, y asked) int { return strings.Compare(x.Name, y.Name) })
}

// replicaRoutes adds what replicas ask.
func (s *Server) replicaRoutes(api huma.API) {
	huma.Register(api, op("GET", "/admin/v1/replicate/head", "replicateHead", "What is published, signed", "Answers when something else is published than the replica has, when the signature is due to be renewed, or when the wait is over.", RoleReplicate), s.getHead)
	huma.Register(api, op("GET", "/admin/v1/replicate/difference", "replicateDifference", "What changed between two snapshots", "", RoleReplicate, 404, 422), s.getDifference)
	huma.Register(api, op("POST", "/admin/v1/replicate/objects", "replicateObjects", "Objects by their hashes", "The bodies, in the order that was asked for, each in a line of its own.", RoleReplicate, 404), s.postObjects)
	huma.Register(api, op("POST", "/admin/v1/replicate/demand", "replicateDemand", "Which clients of a replica could have used a partial", "", RoleReplicate), s.postDemand)
}

// headBody is what a replica learns.
type headBody struct {
	replicate.Signed
	ClientSecret string `json:"client_secret" doc:"tells clients apart in throttled rules, in hexadecimal"`
}

func (s *Server) getHead(ctx context.Context, in *struct {
	After int64     `query:"after" minimum:"-1" default:"-1" doc:"number of the snapshot that the replica has"`
	Time  time.Time `query:"time" doc:"of the statement that it has"`
	Wait  int       `query:"wait" minimum:"0" maximum:"60" doc:"how many seconds to wait for a later one"`
},
) (*output[headBody], error) {
	if c := callerFrom(ctx); c != nil {
		s.replicas.note(c.Name, in.After, s.now())
		s.log.Debug("a replica asks", "token", c.Name, "snapshot", in.After)
	}
	end := time.NewTimer(time.Duration(in.Wait) * time.Second)
	defer end.Stop()
	for {
		p := s.current.Load()
		st, signed, err := s.statement(p)
		if err != nil {
			return nil, s.problemOf(err)
		}
		body := out(headBody{signed, hex.EncodeToString(*s.secret.Load())})
		if st.Sequence != in.After || st.Time.After(in.Time) {
			return body, nil
		}
		due := time.NewTimer(time.Until(st.Time.Add(replicate.Renew)))
		select {
		case <-p.replaced:
		case <-due.C:
		case <-end.C:
			return body, nil
		case <-ctx.Done():
			return nil, s.problemOf(ctx.Err())
		case <-s.lifetime.Done():
			return body, nil
		}
		due.Stop()
	}
}

func (s *Server) getDifference(ctx context.Context, in *struct {
	From int64 `query:"from" minimum:"0"`
	To   int64 `query:"to" minimum:"0"`
},
) (*output[replicate.Difference], error) {
	if in.From > in.To {
		return nil, huma.Error422UnprocessableEntity("from is later than to")
	}
	if in.To > s.current.Load().head.Seq {
		return nil, huma.Error404NotFound("there is no such snapshot")
	}
	entries, err := s.book.Difference(ctx, in.From, in.To)
	return out(replicate.Difference{From: in.From, To: in.To, Entries: entries}), s.problemOf(err)
}

// maxObjects is how many objects a replica asks for at a time.
const maxObjects = 256

func (s *Server) postObjects(ctx context.Context, in *struct {
	Body struct {
		Hashes []string `json:"hashes" minItems:"1" maxItems:"256"`
	}
},
) (*huma.StreamResponse, error) {
	// The first is read before anything is sent, so that most of what may fail has a status.
	first, err := s.book.Object(ctx, in.Body.Hashes[0])
	if err != nil {
		return nil, s.problemOf(err)
	}
	return &huma.StreamResponse{Body: func(c huma.Context) {
		c.SetHeader("Content-Type", "application/x-ndjson")
		w := c.BodyWriter()
		for i, hash := range in.Body.Hashes {
			body := first
			if i > 0 {
				if body, err = s.book.Object(ctx, hash); err != nil {
					if !errors.Is(err, book.ErrNotFound) {
						s.log.Error("read an object for a replica", "error", err)
					}
					panic(http.ErrAbortHandler) // what is cut short is seen to be
				}
			}
			if _, err := w.Write(append(body, '\n')); err != nil {
				return // the replica has gone away
			}
		}
	}}, nil
}

// wantedBody is a partial that clients of a replica could have used.
type wantedBody struct {
	Release string `json:"release" doc:"that they got"`
	Product string `json:"product"`
	BuildID string `json:"build_id"`
	Target  string `json:"target"`
	Locale  string `json:"locale"`
	N       int64  `json:"n" minimum:"1" doc:"how many"`
}

func (s *Server) postDemand(ctx context.Context, in *struct {
	Body []wantedBody `maxItems:"10000"`
},
) (*struct{}, error) {
	snapshot := s.current.Load().snapshot
	for _, w := range in.Body {
		q := aus.Query{Product: w.Product, BuildID: w.BuildID, BuildTarget: w.Target, Locale: w.Locale}
		from, to, ok := couldUse(snapshot, q, w.Release)
		if !ok {
			continue // what is published has changed since
		}
		if err := s.book.Want(ctx, from, to, w.N, time.Now()); err != nil {
			return nil, s.problemOf(err)
		}
	}
	s.log.Debug("noted what clients of a replica could use", "partials", len(in.Body))
	s.wake()
	return nil, nil
}

// couldUse says between which builds a client could have used a partial that got a release.
func couldUse(snapshot *aus.Snapshot, q aus.Query, release string) (from, to aus.Build, ok bool) {
	if from, ok = snapshot.BuildOf(q); !ok {
		return from, to, false
	}
	r := snapshot.Release(release)
	if r == nil {
		return from, to, false
	}
	to, ok = r.BuildFor(q)
	return from, to, ok && from.Hash != to.Hash && strings.EqualFold(from.HashFunction, to.HashFunction)
}

// heartbeat says how the server is: its snapshot, and as a replica what is wrong with what it knows of the server.
func (s *Server) heartbeat(w io.Writer) {
	_, _ = fmt.Fprintf(w, "snapshot %d\n", s.current.Load().head.Seq) // who asked has gone away
	if s.opts.Replica == nil {
		return
	}
	st := s.replica.status()
	_, _ = fmt.Fprintf(w, "replica of %s\n", s.opts.Replica.URL)
	if alarm := st.alarm(time.Now()); alarm != "" {
		_, _ = fmt.Fprintf(w, "alarm: %s\n", alarm)
	}
}
