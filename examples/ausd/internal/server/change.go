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
// not be served is a [*RefusedError], what cannot be merged a [*state.ConflictError], what people must agree to first a [*state.SignOffError]; then nothing has changed.
func (s *Server) Publish(ctx context.Context, author, comment string, operations []state.Operation) (book.Snapshot, error) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	return s.commit(ctx, publication{author: author, comment: comment, operations: operations})
}

// publishOwn publishes what the server itself made.
func (s *Server) publishOwn(ctx context.Context, comment string, operations []state.Operation) (book.Snapshot, error) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	return s.commit(ctx, publication{author: ownAuthor, comment: comment, operations: operations, own: true})
}

// publication is what is published together.
type publication struct {
	author, comment string
	draft           *book.Draft // nil is none
	operations      []state.Operation
	own             bool // nobody has to agree: it is what the server made, or begins with
	balrog          bool // it comes from Balrog's API, whose scheduled changes it must not contradict
}

// commit publishes a change. The lock is held.
func (s *Server) commit(ctx context.Context, c publication) (book.Snapshot, error) {
	now := s.current.Load()
	next, changes, err := s.apply(ctx, now, c.operations, c.balrog || c.draft != nil && c.draft.Change != nil)
	if err != nil {
		return book.Snapshot{}, err
	}
	if !c.own {
		if err := s.signed(now.state, next, changes, c.draft); err != nil {
			return book.Snapshot{}, err
		}
	}
	snapshot, problems := aus.Compile(next.Config(s.own))
	if refused := errorsOf(problems); len(refused) > 0 {
		return book.Snapshot{}, &RefusedError{refused}
	}
	p := book.Publication{After: now.head.Seq, Hash: next.Hash(), Author: c.author, Comment: c.comment, Changes: changes}
	if c.draft != nil {
		p.Draft = c.draft.ID
	}
	if p.Drafts, err = s.mergeScheduled(ctx, changes, &c); err != nil {
		return book.Snapshot{}, err
	}
	head, err := s.book.Publish(ctx, p, s.now())
	if err != nil {
		return book.Snapshot{}, err
	}
	s.install(newPublished(head, next, snapshot, problems))
	s.log.Info("published", "snapshot", head.Seq, "author", c.author, "comment", c.comment, "changes", len(changes))
	s.order(changes)
	if s.opts.Purge != nil {
		s.done.Go(func() { s.opts.Purge(context.WithoutCancel(ctx), head) })
	}
	return head, nil
}

// number gives numbers to what is new; none is given twice, also where its first owner is gone.
func (s *Server) number(ctx context.Context, now *state.State, operations []state.Operation) ([]state.Operation, error) {
	return now.Number(operations, func(k state.Kind) (int64, error) {
		n, err := s.book.LastNumber(ctx, k)
		return n + 1, err
	})
}

// apply makes the next state, and validates what changes. balrog takes hashes of any length, as Balrog does.
func (s *Server) apply(ctx context.Context, now *published, operations []state.Operation, balrog bool) (*state.State, []state.Changed, error) {
	if s.opts.Replica != nil {
		return nil, nil, ErrReplica
	}
	rebased, err := s.number(ctx, now.state, operations)
	if err != nil {
		return nil, nil, err
	}
	rebased, err = now.state.Rebase(rebased, func(hash string) ([]byte, error) { return s.book.Object(ctx, hash) })
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
		if c.Before != nil && protected(c) {
			return nil, nil, &RefusedError{[]aus.Problem{{Severity: aus.SeverityError, Release: c.Key, Message: "it is read-only"}}}
		}
		if c.After == nil || c.After.Release() == nil {
			continue
		}
		if allowed == nil {
			allowed = next.AllowList(s.own)
		}
		r := c.After.Release()
		err := aus.Validate([]byte(r.Document()), aus.ValidateOptions{Product: r.Product(), AllowList: allowed, AnyHash: balrog})
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

// protected says whether a change is one of a read-only release, other than that this ends.
func protected(c state.Changed) bool {
	was := c.Before.Release()
	if was == nil || !was.ReadOnly() {
		return false
	}
	return c.After == nil || c.After.Release().ReadOnly() || c.After.Release().Document() != was.Document() || c.After.Release().Product() != was.Product()
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
	return s.saveDraft(ctx, book.Draft{Author: author, Comment: comment, Scheduled: when, Operations: operations})
}

func (s *Server) saveDraft(ctx context.Context, d book.Draft) (book.Draft, error) {
	if err := s.try(ctx, d.Operations, d.Change != nil); err != nil {
		return book.Draft{}, err
	}
	d.Created = s.now()
	id, err := s.book.SaveDraft(ctx, d)
	if err != nil {
		return book.Draft{}, err
	}
	return s.book.Draft(ctx, id)
}

// try is an error where operations could not be published now, but for sign-offs.
func (s *Server) try(ctx context.Context, operations []state.Operation, balrog bool) error {
	next, _, err := s.apply(ctx, s.current.Load(), operations, balrog)
	if err != nil {
		return err
	}
	if _, problems := aus.Compile(next.Config(s.own)); aus.Errors(problems) > 0 {
		return &RefusedError{errorsOf(problems)}
	}
	return nil
}

// PublishDraft publishes a draft. One that is scheduled waits for its time ([book.ErrEarly]), and one that people must agree to for them.
func (s *Server) PublishDraft(ctx context.Context, id int64, author string) (book.Snapshot, error) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	d, err := s.book.Draft(ctx, id)
	switch {
	case err != nil:
		return book.Snapshot{}, err
	case d.State != book.DraftOpen:
		return book.Snapshot{}, fmt.Errorf("%w: it is %s", book.ErrClosedDraft, d.State)
	case d.Scheduled.After(s.now()):
		return book.Snapshot{}, fmt.Errorf("%w: the draft is scheduled for %s, and nobody publishes it earlier", book.ErrEarly, d.Scheduled.Format(time.RFC3339))
	}
	if d.Author != author {
		author += " for " + d.Author
	}
	if d.Change != nil {
		author = d.Author // as in Balrog
	}
	return s.commit(ctx, publication{author: author, comment: d.Comment, draft: &d, operations: d.Operations})
}

// RebaseDraft rewrites a draft as one of the present state: what others changed since is merged. Its sign-offs are those of what it was, and count no more
// if it changes.
func (s *Server) RebaseDraft(ctx context.Context, id int64) (book.Draft, error) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	d, err := s.book.Draft(ctx, id)
	if err != nil {
		return book.Draft{}, err
	}
	operations, err := s.current.Load().state.Rebase(d.Operations, func(hash string) ([]byte, error) { return s.book.Object(ctx, hash) })
	if err != nil {
		return book.Draft{}, err
	}
	if err := s.try(ctx, operations, d.Change != nil); err != nil {
		return book.Draft{}, err
	}
	d.Operations, d.SignOffs = operations, nil
	if d.Change != nil && len(operations) == 1 {
		d.Change.Revise(d.Version+1, s.now(), d.Author, d.Scheduled, operations[0].Body)
	}
	if err := s.book.UpdateDraft(ctx, d); err != nil {
		return book.Draft{}, err
	}
	return s.book.Draft(ctx, id)
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
			s.PublishDue(ctx)
		}
	}
}

// PublishDue publishes the drafts whose time has come, as the server does every second by itself. A draft that people have not agreed to waits for them; another
// one that cannot be published is noted as such, and not tried again.
func (s *Server) PublishDue(ctx context.Context) {
	drafts, err := s.book.Drafts(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.log.Error("read drafts", "error", err)
		}
		return
	}
	slices.SortStableFunc(drafts, func(a, b book.Draft) int { return a.Scheduled.Compare(b.Scheduled) })
	for _, d := range drafts {
		if d.Scheduled.IsZero() || d.Scheduled.After(s.now()) {
			continue
		}
		_, err := s.PublishDraft(ctx, d.ID, d.Author)
		if err == nil || errors.Is(err, state.ErrSignOff) || errors.Is(err, book.ErrClosedDraft) || ctx.Err() != nil {
			continue
		}
		if err := s.book.Unschedule(ctx, d.ID, err.Error()); err != nil {
			s.log.Error("note why a draft was not published", "draft", d.ID, "error", err)
		}
		s.log.Error("publish a scheduled draft", "draft", d.ID, "error", err)
	}
}

// Revert publishes what an earlier snapshot had; made partials stay.
func (s *Server) Revert(ctx context.Context, author string, seq int64, comment string) (book.Snapshot, error) {
	operations, comment, err := s.reverting(ctx, seq, comment)
	if err != nil {
		return book.Snapshot{}, err
	}
	return s.Publish(ctx, author, comment, operations)
}

// reverting returns what leads back to an earlier snapshot, and a comment where there is none.
func (s *Server) reverting(ctx context.Context, seq int64, comment string) ([]state.Operation, string, error) {
	if _, err := s.book.Snapshot(ctx, seq); seq != 0 && err != nil {
		return nil, "", err
	}
	now := s.current.Load()
	old, err := s.book.State(ctx, seq, now.state)
	if err != nil {
		return nil, "", err
	}
	if comment == "" {
		comment = fmt.Sprintf("revert to snapshot %d", seq)
	}
	return now.state.Difference(old), comment, nil
}

// ShutOff stops updates at once. Its number is given.
func (s *Server) ShutOff(ctx context.Context, author string, f aus.Shutoff) (aus.Shutoff, book.Snapshot, error) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	if f.Only != nil {
		f.Only.ID = 0
	}
	f.ID, f.DataVersion = 0, 1
	body, err := json.Marshal(f)
	if err != nil {
		return f, book.Snapshot{}, err
	}
	operations, err := s.number(ctx, s.current.Load().state, []state.Operation{{Ref: state.Ref{Kind: state.Shutoff, Key: state.NewKey}, Body: body}})
	if err != nil {
		return f, book.Snapshot{}, err
	}
	if f.ID, err = strconv.ParseInt(operations[0].Key, 10, 64); err != nil {
		return f, book.Snapshot{}, err
	}
	head, err := s.commit(ctx, publication{author: author, comment: "shut off: " + f.Comment, operations: operations})
	return f, head, err
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
