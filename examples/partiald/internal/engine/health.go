package engine

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/plugins"
)

// healthTimeout bounds a check.
const healthTimeout = 5 * time.Second

// Health implements [job.Service].
func (e *Engine) Health(ctx context.Context) []job.Health {
	type check struct {
		name string
		run  func(context.Context) error
	}
	checks := []check{{"queue", e.q.Ping}, {"ledger", e.l.Ping}, {"cache", e.probe}}
	if s := e.o.Storage; s != nil {
		checks = append(checks, check{"storage", func(ctx context.Context) error {
			_, err := s.Client.Stat(ctx, s.Tier.ObjectName(cache.NewKey(KindDocs, "probe")))
			if errors.Is(err, plugins.ErrNotFound) {
				return nil
			}
			return err
		}})
	}
	for _, s := range e.o.Signers {
		if s.Check != nil {
			checks = append(checks, check{"signer " + s.Name, s.Check})
		}
	}
	list := make([]job.Health, len(checks))
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() {
			start := time.Now()
			// One that hangs, on a disk for example, is not begun a second time.
			done := e.checks.DoChan(c.name, func() (any, error) {
				ctx, cancel := context.WithTimeout(e.ctx, healthTimeout)
				defer cancel()
				return nil, c.run(ctx)
			})
			var err error
			select {
			case r := <-done:
				err = r.Err
			case <-ctx.Done():
				err = ctx.Err() // whether the check notices or not
			}
			list[i] = job.Health{Name: c.name, OK: err == nil, Took: time.Since(start)}
			if err != nil {
				list[i].Error = err.Error()
			}
		})
	}
	wg.Wait()
	return list
}

// probe writes to the disk and reads it back.
func (e *Engine) probe(ctx context.Context) error {
	text := []byte("probe of " + e.o.Server + " " + rand.Text()) // another one for each, else one would remove what another looks for
	key := cache.NewKey(KindDocs, string(text))
	if _, err := e.o.Disk.Put(ctx, key, bytes.NewReader(text)); err != nil {
		return err
	}
	entry, err := e.o.Disk.Get(ctx, key)
	if err != nil {
		return err
	}
	defer entry.Close()
	if got, err := io.ReadAll(entry.Reader()); err != nil || !bytes.Equal(got, text) {
		return errors.Join(errors.New("what was written is not what is read"), err)
	}
	_, err = e.o.Disk.Purge(ctx, cache.Filter{Key: &key})
	return err
}
