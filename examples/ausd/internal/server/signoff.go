package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
)

// ownAuthor is the server itself; no token has this name.
const ownAuthor = "ausd"

// required says who must agree to changes. To partials that the server itself made and proved nobody has to.
func (s *Server) required(now, next *state.State, changes []state.Changed, own bool) map[string]int {
	if own {
		changes = slices.DeleteFunc(slices.Clone(changes), func(c state.Changed) bool { return c.Kind == state.Made })
	}
	return s.opts.Policy.Required(now, next, changes)
}

// signed is a [*state.SignOffError] where people have not agreed to changes; draft may be nil.
func (s *Server) signed(now, next *state.State, changes []state.Changed, draft *book.Draft) error {
	required := s.required(now, next, changes, draft != nil && draft.Author == ownAuthor)
	if len(required) == 0 {
		return nil
	}
	e := &state.SignOffError{Required: required, Missing: maps.Clone(required)}
	if draft != nil {
		e.Changed = stale(now, draft)
		for _, given := range draft.SignOffs {
			if e.Missing[given.Role]--; e.Missing[given.Role] <= 0 {
				delete(e.Missing, given.Role)
			}
		}
	}
	if len(e.Missing) == 0 && len(e.Changed) == 0 {
		return nil
	}
	return e
}

// stale returns the objects that a draft touches and that have changed since it was made.
func stale(now *state.State, draft *book.Draft) []state.Ref {
	var list []state.Ref
	for _, op := range draft.Operations {
		before := ""
		if o := now.Get(op.Ref); o != nil {
			before = o.Hash
		}
		if before != op.Before {
			list = append(list, op.Ref)
		}
	}
	return list
}

// SignOffsOf returns what publishing a draft needs, and what is missing of it; nothing is missing where it may be published.
func (s *Server) SignOffsOf(ctx context.Context, d *book.Draft) (required, missing map[string]int, changed []state.Ref, err error) {
	now := s.current.Load()
	if d.State != book.DraftOpen || len(s.opts.Policy) == 0 {
		return nil, nil, nil, nil
	}
	next, changes, err := s.apply(ctx, now, d.Operations, d.Change != nil)
	if errors.Is(err, ErrNothing) {
		return nil, nil, nil, nil
	}
	if err != nil {
		return nil, nil, stale(now.state, d), err
	}
	var e *state.SignOffError
	if errors.As(s.signed(now.state, next, changes, d), &e) {
		return e.Required, e.Missing, e.Changed, nil
	}
	return s.required(now.state, next, changes, d.Author == ownAuthor), nil, nil, nil
}

// SignOff notes that somebody agrees, in a role that he has, to an open draft that has this hash. Who has agreed in one role cannot agree in another
// one, too.
func (s *Server) SignOff(ctx context.Context, id int64, hash, name, role string) error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	d, err := s.book.Draft(ctx, id)
	if err != nil {
		return err
	}
	for _, given := range d.SignOffs {
		if given.Name == name && given.Role != role {
			return fmt.Errorf("%w: %s has signed as %s, and nobody signs in two roles", ErrInput, name, given.Role)
		}
	}
	return s.book.SignOff(ctx, id, hash, book.SignOff{Name: name, Role: role, At: s.now()})
}
