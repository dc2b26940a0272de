package queue

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// salvage looks whether all values of the bucket of states can be read and, where some cannot, makes the bucket anew with
// those that can. It is for an engine that nobody else uses. A value that was damaged on the disk is one that the engine
// counts, in all or under its subject, but cannot read: to replace it, it looks for it for ever, and answers nobody
// meanwhile.
func (q *Queue) salvage(ctx context.Context, h handles) (handles, error) {
	name := "KV_" + q.o.Prefix + "-state"
	ctx, cancel := context.WithTimeout(ctx, q.o.StartTimeout)
	defer cancel()
	stream, err := q.js.Stream(ctx, name)
	if err != nil {
		return h, fmt.Errorf("bucket state: %w", err)
	}
	counted := stream.CachedInfo().State.Msgs
	if counted == 0 {
		return h, nil
	}
	c, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true})
	if err != nil {
		return h, fmt.Errorf("bucket state: %w", err)
	}
	defer func() { _ = stream.DeleteConsumer(ctx, c.CachedInfo().Name) }() // else it goes by itself
	var values []*nats.Msg
	read, subjects := uint64(0), map[string]uint64{}
	for {
		batch, err := c.FetchNoWait(500)
		if err != nil {
			return h, fmt.Errorf("bucket state: %w", err)
		}
		got := 0
		for m := range batch.Messages() {
			got++
			subjects[m.Subject()]++
			if _, ok := unseal(m.Data()); !ok {
				continue // a mark that something was removed, or damaged
			}
			v := &nats.Msg{Subject: m.Subject(), Data: m.Data(), Header: nats.Header{}}
			if life := m.Headers().Get(jetstream.MsgTTLHeader); life != "" {
				v.Header.Set(jetstream.MsgTTLHeader, life)
			}
			values = append(values, v)
		}
		if err := batch.Error(); err != nil {
			return h, fmt.Errorf("bucket state: %w", err)
		}
		if read += uint64(got); got == 0 {
			break
		}
		if ctx.Err() != nil {
			return h, ctx.Err()
		}
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(">"))
	if err != nil {
		return h, fmt.Errorf("bucket state: %w", err)
	}
	lost := read < counted
	for subject, n := range info.State.Subjects { // less may be counted than was read: values expire
		lost = lost || n > subjects[subject]
	}
	if !lost {
		return h, nil
	}
	q.o.Log.WarnContext(ctx, "queue: the bucket of states is damaged and made anew", "values", counted, "readable", read)
	if err := q.js.DeleteStream(ctx, name); err != nil {
		return h, fmt.Errorf("bucket state: %w", err)
	}
	if h, err = q.setUp(ctx, true); err != nil {
		return h, err
	}
	for _, v := range values {
		if _, err := q.js.PublishMsg(ctx, v); err != nil {
			return h, fmt.Errorf("bucket state: %w", err)
		}
	}
	return h, nil
}
