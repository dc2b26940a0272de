package queue

import (
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// keyName makes any text the last part of a key.
func keyName(text string) string {
	return base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString([]byte(text))
}

// Key makes a key of a kind, "job" for example, and any name.
func Key(kind, name string) string { return kind + "." + keyName(name) }

// name is the inverse of Key.
func name(key string) (string, bool) {
	_, text, ok := strings.Cut(key, ".")
	b, err := base32.HexEncoding.WithPadding(base32.NoPadding).DecodeString(text)
	return string(b), ok && err == nil
}

// Get returns a value and its revision, or ErrNotFound.
func (q *Queue) Get(ctx context.Context, key string) (value []byte, revision uint64, err error) {
	return q.get(ctx, q.state, key)
}

// GetLive is Get for what is in memory only.
func (q *Queue) GetLive(ctx context.Context, key string) (value []byte, revision uint64, err error) {
	return q.get(ctx, q.live, key)
}

func (q *Queue) get(ctx context.Context, kv jetstream.KeyValue, key string) ([]byte, uint64, error) {
	ctx, cancel := q.request(ctx)
	defer cancel()
	e, err := kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) { // deleted ones included
		if err := q.sound(ctx, kv, key); err != nil {
			return nil, 0, err
		}
		return nil, 0, fmt.Errorf("%s: %w", key, ErrNotFound)
	}
	if err != nil {
		return nil, 0, unavailable("get "+key, err)
	}
	value, ok := unseal(e.Value())
	if !ok {
		return nil, e.Revision(), fmt.Errorf("%s: %w: it is damaged", key, ErrNotFound)
	}
	return value, e.Revision(), nil
}

// Put sets a value if its revision is still the given one, 0 for one that was not there, and returns the new revision;
// else ErrConflict. After ErrUnavailable it may or may not be set. The value goes after a time, rounded to seconds; 0
// means never.
func (q *Queue) Put(ctx context.Context, key string, value []byte, revision uint64, life time.Duration) (uint64, error) {
	return q.swap(ctx, q.state, key, value, revision, life)
}

func putError(key string, err error) error {
	var api *jetstream.APIError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrKeyExists):
		return fmt.Errorf("%s: %w", key, ErrConflict)
	case errors.As(err, &api) && (api.ErrorCode == codeWrongLastSequence || api.ErrorCode == codeWrongLastSequenceInFlight):
		return fmt.Errorf("%s: %w", key, ErrConflict)
	}
	return unavailable("put "+key, err)
}

// Set sets a value, whatever there was. It goes after a time; 0 means never.
func (q *Queue) Set(ctx context.Context, key string, value []byte, life time.Duration) error {
	_, err := q.set(ctx, q.state, key, value, life)
	return err
}

// Delete removes a value; one that is not there is fine.
func (q *Queue) Delete(ctx context.Context, key string) error {
	ctx, cancel := q.request(ctx)
	defer cancel()
	if err := q.sound(ctx, q.state, key); err != nil {
		return err
	}
	return putError(key, q.state.Purge(ctx, key))
}

// PutLive is Set for what is in memory only. It goes after a time.
func (q *Queue) PutLive(ctx context.Context, key string, value []byte, life time.Duration) error {
	_, err := q.set(ctx, q.live, key, value, life)
	return err
}

// SwapLive is Put for what is in memory only.
func (q *Queue) SwapLive(ctx context.Context, key string, value []byte, revision uint64, life time.Duration) (uint64, error) {
	return q.swap(ctx, q.live, key, value, revision, life)
}

func (q *Queue) swap(ctx context.Context, kv jetstream.KeyValue, key string, value []byte, revision uint64, life time.Duration) (uint64, error) {
	if revision > 0 {
		return q.set(ctx, kv, key, value, life, jetstream.WithExpectLastSequencePerSubject(revision))
	}
	ctx, cancel := q.request(ctx)
	defer cancel()
	if err := q.sound(ctx, kv, key); err != nil {
		return 0, err
	}
	var options []jetstream.KVCreateOpt
	if life > 0 {
		options = append(options, jetstream.KeyTTL(seconds(life)))
	}
	now, err := kv.Create(ctx, key, seal(value), options...)
	return now, putError(key, err)
}

// set publishes a value itself, as the client's own method cannot have it go after a time.
func (q *Queue) set(ctx context.Context, kv jetstream.KeyValue, key string, value []byte, life time.Duration, more ...jetstream.PublishOpt) (uint64, error) {
	ctx, cancel := q.request(ctx)
	defer cancel()
	if len(more) == 0 {
		if err := q.sound(ctx, kv, key); err != nil {
			return 0, err
		}
	} else if err := q.whole(); kv == q.state && err != nil { // the engine compares, so it reads the value itself
		return 0, err
	}
	if life > 0 {
		more = append(more, jetstream.WithMsgTTL(seconds(life)))
	}
	ack, err := q.js.Publish(ctx, "$KV."+kv.Bucket()+"."+key, seal(value), more...)
	if err != nil {
		return 0, putError(key, err)
	}
	return ack.Sequence, nil
}

func seconds(d time.Duration) time.Duration { return max(d.Round(time.Second), time.Second) }

// Update is a value that was set, or removed.
type Update struct {
	Name     string // as given to Key
	Value    []byte // nil if it was removed, has gone, or is damaged
	Revision uint64
}

// Watch calls changed for every value of a kind as it is set or removed, until ctx ends; with all, first for those that
// are there, and then ready, which may be nil. Some may be left out when the engine was not there meanwhile. It returns
// when the watch is set up or, with an error, cannot be.
func (q *Queue) Watch(ctx context.Context, kind string, all bool, ready func(), changed func(Update)) (wait func(), err error) {
	return q.watch(ctx, q.state, kind, all, ready, changed)
}

// WatchLive is Watch for what is in memory only.
func (q *Queue) WatchLive(ctx context.Context, kind string, all bool, ready func(), changed func(Update)) (wait func(), err error) {
	return q.watch(ctx, q.live, kind, all, ready, changed)
}

func (q *Queue) watch(ctx context.Context, kv jetstream.KeyValue, kind string, all bool, ready func(), changed func(Update)) (func(), error) {
	var options []jetstream.WatchOpt
	if !all {
		options = append(options, jetstream.UpdatesOnly())
	}
	w, err := kv.Watch(ctx, kind+".*", options...)
	if err != nil {
		return nil, unavailable("watch "+kind, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer w.Stop() //nolint:errcheck // the connection may be gone already
		for {
			select {
			case <-ctx.Done():
				return
			case e, ok := <-w.Updates():
				if !ok {
					return
				}
				if e == nil {
					if ready != nil {
						ready()
					}
					continue
				}
				name, ok := name(e.Key())
				if !ok {
					continue
				}
				u := Update{Name: name, Revision: e.Revision()}
				if e.Operation() == jetstream.KeyValuePut {
					if value, ok := unseal(e.Value()); ok {
						u.Value = value
					}
				}
				changed(u)
			}
		}
	}()
	return func() { <-done }, nil
}
