package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
)

// Publish publishes operations as one snapshot: what others changed since they were made is merged. A state that could
// not be served is a [*RefusedError], what cannot be merged a [*state.ConflictError]; then nothing has changed.
func (s *Server) Publish(ctx context.Context, author, comment string, operations []state.Operation) (book.Snapshot, error) {
	return s.publish(ctx, author, comment, 0, operations)
}

func (s *Server) publish(ctx context.Context, author, comment string, draft int64, operations []state.Operation) (book.Snapshot, error) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	now := s.current.Load()
	next, changes, err := s.apply(ctx, now, operations)
	if err != nil {
		return book.Snapshot{}, err
	}
	snapshot, problems := aus.Compile(next.Config(s.own))
	if refused := errorsOf(problems); len(refused) > 0 {
		return book.Snapshot{}, &RefusedError{refused}
	}
	head, err := s.book.Publish(ctx, book.Publication{
		After: now.head.Seq, Hash: next.Hash(), Author: author, Comment: comment, Draft: draft, Changes: changes,
	}, time.Now())
	if err != nil {
		return book.Snapshot{}, err
	}
	s.install(newPublished(head, next, snapshot, problems))
	s.log.Info("published", "snapshot", head.Seq, "author", author, "comment", comment, "changes", len(changes))
	s.order(changes)
	if s.opts.Purge != nil {
		s.done.Go(func() { s.opts.Purge(context.WithoutCancel(ctx), head) })
	}
	return head, nil
}

// apply makes the next state, and validates what changes.
func (s *Server) apply(ctx context.Context, now *published, operations []state.Operation) (*state.State, []state.Changed, error) {
	if s.opts.Replica != nil {
		return nil, nil, ErrReplica
	}
	rebased, err := now.state.Rebase(operations, func(hash string) ([]byte, error) { return s.book.Object(ctx, hash) })
	if err != nil {
		return nil, nil, err
	}
	next, changes, err := now.state.Apply(rebased)
	if err != nil {
		return nil, nil, err
	}
	if len(changes) == 0 {
		return nil, nil, ErrNothing
	}
	var allowed aus.AllowList
	for _, c := range changes {
		if c.Before != nil && c.Before.Release() != nil && c.Before.Release().ReadOnly() && (c.After == nil || c.After.Release().ReadOnly()) {
			return nil, nil, &RefusedError{[]aus.Problem{{Severity: aus.SeverityError, Release: c.Key, Message: "it is read-only"}}}
		}
		if c.After == nil || c.After.Release() == nil {
			continue
		}
		if allowed == nil {
			allowed = next.Config(s.own).AllowList
		}
		r := c.After.Release()
		err := aus.Validate([]byte(r.Document()), aus.ValidateOptions{Product: r.Product(), AllowList: allowed})
		var invalid *aus.ValidationError
		switch {
		case errors.As(err, &invalid):
			var problems []aus.Problem
			for _, m := range invalid.Messages {
				problems = append(problems, aus.Problem{Severity: aus.SeverityError, Release: c.Key, Message: m})
			}
			return nil, nil, &RefusedError{problems}
		case err != nil:
			return nil, nil, err
		}
	}
	return next, changes, nil
}

func errorsOf(problems []aus.Problem) []aus.Problem {
	var list []aus.Problem
	for _, p := range problems {
		if p.Severity == aus.SeverityError {
			list = append(list, p)
		}
	}
	return list
}

// Draft keeps operations for later; when is when they are published by themselves, the zero time is never. They are
// tried on the present state, so that what cannot be served is refused at once.
func (s *Server) Draft(ctx context.Context, author, comment string, operations []state.Operation, when time.Time) (book.Draft, error) {
	next, _, err := s.apply(ctx, s.current.Load(), operations)
	if err != nil {
		return book.Draft{}, err
	}
	if _, problems := aus.Compile(next.Config(s.own)); aus.Errors(problems) > 0 {
		return book.Draft{}, &RefusedError{errorsOf(problems)}
	}
	id, err := s.book.SaveDraft(ctx, book.Draft{Created: time.Now(), Author: author, Comment: comment, Scheduled: when, Operations: operations})
	if err != nil {
		return book.Draft{}, err
	}
	return s.book.Draft(ctx, id)
}

// PublishDraft publishes a draft. One that is scheduled waits for its time.
func (s *Server) PublishDraft(ctx context.Context, id int64, author string) (book.Snapshot, error) {
	d, err := s.book.Draft(ctx, id)
	switch {
	case err != nil:
		return book.Snapshot{}, err
	case d.State != book.DraftOpen:
		return book.Snapshot{}, fmt.Errorf("%w: it is %s", book.ErrClosedDraft, d.State)
	case d.Scheduled.After(time.Now()):
		return book.Snapshot{}, &RefusedError{[]aus.Problem{{Severity: aus.SeverityError, Message: "the draft is scheduled for " + d.Scheduled.Format(time.RFC3339) + ", and nobody publishes it earlier"}}}
	}
	if d.Author != author {
		author += " for " + d.Author
	}
	return s.publish(ctx, author, d.Comment, id, d.Operations)
}

// publishScheduled publishes drafts when their time has come.
func (s *Server) publishScheduled(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		drafts, err := s.book.Drafts(ctx)
		if err != nil {
			s.log.Error("read drafts", "error", err)
			continue
		}
		for _, d := range drafts {
			if d.Scheduled.IsZero() || d.Scheduled.After(time.Now()) {
				continue
			}
			if _, err := s.publish(ctx, d.Author, d.Comment, d.ID, d.Operations); err != nil && ctx.Err() == nil {
				s.log.Error("publish a scheduled draft", "draft", d.ID, "error", err)
				if err := s.book.Unschedule(ctx, d.ID, err.Error()); err != nil {
					s.log.Error("note why a draft was not published", "draft", d.ID, "error", err)
				}
			}
		}
	}
}

// Revert publishes what an earlier snapshot had; made partials stay.
func (s *Server) Revert(ctx context.Context, author string, seq int64, comment string) (book.Snapshot, error) {
	if _, err := s.book.Snapshot(ctx, seq); seq != 0 && err != nil {
		return book.Snapshot{}, err
	}
	now := s.current.Load()
	old, err := s.book.State(ctx, seq, now.state)
	if err != nil {
		return book.Snapshot{}, err
	}
	if comment == "" {
		comment = fmt.Sprintf("revert to snapshot %d", seq)
	}
	return s.Publish(ctx, author, comment, now.state.Difference(old))
}

// ShutOff stops updates at once. Its number is given.
func (s *Server) ShutOff(ctx context.Context, author string, f aus.Shutoff) (aus.Shutoff, book.Snapshot, error) {
	for {
		now := s.current.Load().state
		f.ID, f.DataVersion = now.NextNumber(state.Shutoff), 1
		if f.Only != nil {
			f.Only.ID = 0
		}
		body, err := json.Marshal(f)
		if err != nil {
			return f, book.Snapshot{}, err
		}
		head, err := s.Publish(ctx, author, "shut off: "+f.Comment, []state.Operation{{Ref: state.Ref{Kind: state.Shutoff, Key: strconv.FormatInt(f.ID, 10)}, Body: body}})
		if errors.Is(err, state.ErrConflict) { // somebody else took the number
			continue
		}
		return f, head, err
	}
}

// Lift ends a shutoff.
func (s *Server) Lift(ctx context.Context, author string, id int64) (book.Snapshot, error) {
	ref := state.Ref{Kind: state.Shutoff, Key: strconv.FormatInt(id, 10)}
	o := s.current.Load().state.Get(ref)
	if o == nil {
		return book.Snapshot{}, book.ErrNotFound
	}
	return s.Publish(ctx, author, "lift: "+o.Shutoff().Comment, []state.Operation{{Ref: ref, Before: o.Hash}})
}

// order asks for the partials of the products whose releases or rules changed.
func (s *Server) order(changes []state.Changed) {
	var products []string
	for _, c := range changes {
		for _, o := range []*state.Object{c.Before, c.After} {
			var product string
			switch {
			case o == nil:
				continue
			case o.Release() != nil:
				product = o.Release().Product()
			case o.Rule() != nil && o.Rule().Product != nil:
				product = *o.Rule().Product
			default:
				continue
			}
			if !slices.Contains(products, product) {
				products = append(products, product)
			}
		}
	}
	if len(products) == 0 || s.opts.Builds < 0 {
		return
	}
	select {
	case s.ordering <- products:
	default: // what clients ask for is ordered by them
	}
}
