package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/inspect"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
)

// AddedPartial is what adding a partial update came to.
type AddedPartial struct {
	From     aus.Build     `json:"from"`
	To       aus.Build     `json:"to"`
	URL      string        `json:"url"`
	Size     int64         `json:"size"`
	Snapshot book.Snapshot `json:"snapshot"`
}

// localBuild is a build whose complete update is here.
type localBuild struct {
	aus.Build
	file string
}

// AddPartial offers a partial update that was uploaded, made elsewhere. What it leads from is found by the checksums that
// its patches have of the old files, among the complete updates that are here; what it leads to by applying it.
// It is offered if it turns the one into the other, and is signed where that is. allowed is asked for the product; nil allows all.
func (s *Server) AddPartial(ctx context.Context, author, sha512 string, allowed func(product string) error) (AddedPartial, error) {
	f, err := s.book.File(ctx, strings.ToLower(sha512))
	if err != nil {
		return AddedPartial{}, err
	}
	update, err := mar.OpenFile(s.filePath(fileName(f.SHA512)), nil)
	if err != nil {
		return AddedPartial{}, fmt.Errorf("%w: %w", ErrFile, err)
	}
	defer update.Close()
	expected, err := inspect.ReadOld(update.Reader)
	if err != nil {
		return AddedPartial{}, fmt.Errorf("%w: %w", ErrInput, err)
	}
	builds := s.localBuilds()
	for _, from := range builds {
		old, err := mar.OpenFile(from.file, nil)
		if err != nil {
			continue // it was removed meanwhile
		}
		fits, err := inspect.Fits(old.Reader, expected)
		if err == nil && fits {
			for _, to := range builds {
				if to.Hash == from.Hash || to.Product != from.Product || to.Target != from.Target || to.Locale != from.Locale {
					continue
				}
				if p, ok := update.Product(); ok && p.Version != to.Version {
					continue
				}
				if err = turns(ctx, old.Reader, update.Reader, to.file); err == nil {
					old.Close()
					return s.publishPartial(ctx, author, f, from.Build, to.Build, allowed)
				}
				if !errors.Is(err, partial.ErrDifferent) {
					s.log.Warn("a partial update does not lead to a build", "sha512", f.SHA512, "from", from.Release, "to", to.Release, "error", err)
				}
			}
		}
		old.Close()
		if ctx.Err() != nil {
			return AddedPartial{}, ctx.Err()
		}
	}
	return AddedPartial{}, fmt.Errorf("%w: the partial update leads from none of the %d complete updates that are here to another one", ErrInput, len(builds))
}

// localBuilds are the builds whose complete updates are here, each once.
func (s *Server) localBuilds() []localBuild {
	var list []localBuild
	seen := map[string]bool{}
	for _, o := range s.State().List(state.Release) {
		for _, b := range o.Release().Builds() {
			file := s.filePath(fileName(b.Hash))
			if !strings.EqualFold(b.HashFunction, "sha512") || seen[strings.ToLower(b.Hash)] || len(b.Hash) != 128 || strings.Trim(strings.ToLower(b.Hash), "0123456789abcdef") != "" {
				continue
			}
			if _, err := os.Stat(file); err == nil {
				seen[strings.ToLower(b.Hash)] = true
				list = append(list, localBuild{b, file})
			}
		}
	}
	return list
}

// turns is an error unless an update turns one complete update into another one, and is signed if that is.
func turns(ctx context.Context, from, update *mar.Reader, to string) error {
	target, err := mar.OpenFile(to, nil)
	if err != nil {
		return err
	}
	defer target.Close()
	if len(target.Signatures()) > 0 && len(update.Signatures()) == 0 {
		return fmt.Errorf("%w: the complete update is signed, the partial is not", ErrInput)
	}
	return partial.Verify(ctx, from, update, target.Reader, nil)
}

// publishPartial offers a partial update that is proved.
func (s *Server) publishPartial(ctx context.Context, author string, f book.File, from, to aus.Build, allowed func(string) error) (AddedPartial, error) {
	if allowed != nil {
		if err := allowed(to.Product); err != nil {
			return AddedPartial{}, err
		}
	}
	m := aus.MadePartial{From: strings.ToLower(from.Hash), To: strings.ToLower(to.Hash), URL: s.fileURL(f), Size: f.Size, Hash: f.SHA512, HashFunction: to.HashFunction}
	body, err := json.Marshal(m)
	if err != nil {
		return AddedPartial{}, err
	}
	added := AddedPartial{From: from, To: to, URL: m.URL, Size: f.Size}
	s.publishing.Lock()
	defer s.publishing.Unlock()
	op := state.Operation{Ref: state.Ref{Kind: state.Made, Key: state.MadeKey(m.From, m.To)}, Body: body}
	if o := s.State().Get(op.Ref); o != nil {
		op.Before = o.Hash
	}
	added.Snapshot, err = s.commit(ctx, publication{
		author: author, comment: fmt.Sprintf("add the partial update %s to %s for %s, %s", from.Release, to.Release, to.Target, to.Locale), operations: []state.Operation{op}, own: true,
	})
	if errors.Is(err, ErrNothing) {
		added.Snapshot, err = s.current.Load().head, nil
	}
	return added, err
}
