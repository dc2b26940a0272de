package server

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/balrogapi"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
)

// mergeScheduled returns the scheduled changes of Balrog's API that touch what is changed, rewritten as changes of what
// becomes of it. Where both change one column that is a [*state.ScheduledError], if the change comes from Balrog's API; the
// others come first, and the scheduled one fails when its time has come. Drafts of people are left alone.
func (s *Server) mergeScheduled(ctx context.Context, changes []state.Changed, c *publication) ([]book.Draft, error) {
	pending, err := s.book.ScheduledChanges(ctx, false)
	if err != nil {
		return nil, err
	}
	var rewritten []book.Draft
	for _, d := range pending {
		if c.draft != nil && c.draft.ID == d.ID || len(d.Operations) != 1 {
			continue
		}
		op := d.Operations[0]
		i := slices.IndexFunc(changes, func(c state.Changed) bool { return c.Ref == op.Ref })
		if i < 0 {
			continue
		}
		before, after := changes[i].Before, changes[i].After
		if before == nil || before.Hash != op.Before {
			continue // it was in the way of somebody before
		}
		if after == nil {
			if c.balrog {
				return nil, &state.ScheduledError{Draft: d.ID, Ref: op.Ref, Columns: nil}
			}
			continue
		}
		if op.Body != nil {
			merge := state.MergeColumns
			if op.Kind == state.Release {
				merge = state.Merge
			}
			merged, columns, err := merge(before.Body(), op.Body, after.Body())
			if err != nil {
				return nil, err
			}
			if len(columns) > 0 {
				if c.balrog {
					return nil, &state.ScheduledError{Draft: d.ID, Ref: op.Ref, Columns: columns}
				}
				continue
			}
			op.Body = merged
		}
		op.Before = after.Hash
		d.Operations = []state.Operation{op}
		d.SignOffs = nil
		d.Change.Revise(d.Version+1, s.now(), c.author, d.Scheduled, op.Body)
		rewritten = append(rewritten, d)
	}
	return rewritten, nil
}

// maxComment bounds the comment of a snapshot that many writes share, in bytes.
const maxComment = 500

// writes are those that wait for a publication. Who publishes takes those of the same author along.
type writes struct {
	mu      sync.Mutex
	waiting []*pendingWrite
}

type pendingWrite struct {
	author, comment string
	make            func(*state.State) ([]state.Operation, error)
	done            bool
	result          balrogapi.Written
	err             error
}

// Write publishes what make returns for the present state. Writes of one author that wait together share a snapshot, and each sees
// what those before it change; two that change one object share none, unless it is a release. What one
// of them does wrong is its own error. make may be called several times.
func (s *Server) Write(ctx context.Context, author, comment string, make func(*state.State) ([]state.Operation, error)) (balrogapi.Written, error) {
	w := &pendingWrite{author: author, comment: comment, make: make}
	s.writing.mu.Lock()
	s.writing.waiting = append(s.writing.waiting, w)
	s.writing.mu.Unlock()
	s.log.Debug("a write waits to be published", "author", author, "comment", comment)
	s.publishing.Lock()
	defer s.publishing.Unlock()
	for !w.done {
		s.writeTogether(context.WithoutCancel(ctx), w)
	}
	return w.result, w.err
}

// writeTogether publishes a write with those that wait of the same author. The lock is held.
func (s *Server) writeTogether(ctx context.Context, first *pendingWrite) {
	s.writing.mu.Lock()
	var batch, rest []*pendingWrite
	for _, w := range s.writing.waiting {
		if w.author == first.author {
			batch = append(batch, w)
		} else {
			rest = append(rest, w)
		}
	}
	s.writing.waiting = rest
	s.writing.mu.Unlock()
	later := s.writeBatch(ctx, batch)
	s.writing.mu.Lock()
	s.writing.waiting = append(later, s.writing.waiting...)
	s.writing.mu.Unlock()
}

// writeBatch publishes writes as one snapshot, or each alone where that fails. It returns those that must wait for another one.
func (s *Server) writeBatch(ctx context.Context, batch []*pendingWrite) (later []*pendingWrite) {
	start := s.current.Load().state
	chain := start
	touched := map[state.Ref]bool{}
	var order []state.Ref
	var taken []*pendingWrite
	var comments []string
	for _, w := range batch {
		w.result, w.err = balrogapi.Written{}, nil
		next, changes, err := s.tryWrite(ctx, chain, w)
		switch {
		case err != nil || len(changes) == 0:
			w.done, w.err = true, err
			w.result = balrogapi.Written{Before: chain, After: chain}
			continue
		case slices.ContainsFunc(changes, func(c state.Changed) bool { return touched[c.Ref] && c.Kind != state.Release }):
			later = append(later, w)
			continue
		}
		for _, c := range changes {
			if !touched[c.Ref] {
				touched[c.Ref] = true
				order = append(order, c.Ref)
			}
		}
		w.result = balrogapi.Written{Before: chain, After: next, Changes: changes}
		chain = next
		taken = append(taken, w)
		comments = append(comments, w.comment)
	}
	if len(taken) == 0 {
		return later
	}
	var operations []state.Operation
	for _, ref := range order {
		op := state.Operation{Ref: ref}
		if o := start.Get(ref); o != nil {
			op.Before = o.Hash
		}
		if o := chain.Get(ref); o != nil {
			op.Body = o.Body()
		}
		operations = append(operations, op)
	}
	comment := strings.Join(comments, "; ")
	if len(comment) > maxComment {
		comment = strings.ToValidUTF8(comment[:maxComment], "") + "…"
	}
	_, err := s.commit(ctx, publication{author: taken[0].author, comment: comment, operations: operations, balrog: true})
	if errors.Is(err, ErrNothing) { // they undo each other
		err = nil
	}
	if err != nil && len(taken) > 1 {
		for _, w := range taken {
			s.writeBatch(ctx, []*pendingWrite{w})
		}
		return later
	}
	for _, w := range taken {
		w.done, w.err = true, err
	}
	return later
}

// tryWrite makes a write's operations and applies them, alone.
func (s *Server) tryWrite(ctx context.Context, on *state.State, w *pendingWrite) (*state.State, []state.Changed, error) {
	operations, err := w.make(on)
	if err != nil || len(operations) == 0 {
		return on, nil, err
	}
	if operations, err = s.number(ctx, on, operations); err != nil {
		return nil, nil, err
	}
	next, changes, err := on.Apply(operations)
	if err != nil {
		return nil, nil, err
	}
	return next, changes, s.signed(on, next, changes, nil)
}

// The rest is what Balrog's API needs of the server.

// Now is the time.
func (s *Server) Now() time.Time { return s.now() }

// State is what is published.
func (s *Server) State() *state.State { return s.current.Load().state }

// Snapshot is what clients are answered from.
func (s *Server) Snapshot() *aus.Snapshot { return s.current.Load().snapshot }

// Policy says which changes need people to agree.
func (s *Server) Policy() state.Policy { return s.opts.Policy }

// AllowList says from which hosts updates may come.
func (s *Server) AllowList(st *state.State) aus.AllowList { return st.AllowList(s.own) }

// Schedule keeps what make returns, which gets the present state and the scheduled changes that are open.
func (s *Server) Schedule(ctx context.Context, make func(*state.State, []book.Draft) (book.Draft, error)) (book.Draft, error) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	pending, err := s.book.ScheduledChanges(ctx, false)
	if err != nil {
		return book.Draft{}, err
	}
	d, err := make(s.State(), pending)
	if err != nil {
		return book.Draft{}, err
	}
	if d.ID == 0 {
		return s.saveDraft(ctx, d)
	}
	if err := s.try(ctx, d.Operations, true); err != nil {
		return book.Draft{}, err
	}
	if err := s.book.UpdateDraft(ctx, d); err != nil {
		return book.Draft{}, err
	}
	return s.book.Draft(ctx, d.ID)
}
