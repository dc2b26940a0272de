package queue

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// distrust removes the engine's summaries of streams in whose files records are not in order: the engine then reads and
// verifies these themselves. It believes a summary to which the end of the last file fits, and later follows the numbers of
// records before it has verified them. Of one flipped bit in a number it takes all the memory there is, at every start.
func distrust(dir string) error {
	streams, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "*", "msgs"))
	if err != nil {
		return err
	}
	for _, stream := range streams {
		blocks, err := filepath.Glob(filepath.Join(stream, "*.blk"))
		if err != nil {
			return err
		}
		if slices.ContainsFunc(blocks, func(name string) bool { return !ordered(name) }) {
			if err := os.Remove(filepath.Join(stream, "index.db")); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// ordered says whether a file looks like records whose numbers grow. Should a later version of the engine have files of
// another kind, it says no, which costs time at the start and nothing else.
func ordered(name string) bool {
	const (
		header    = 22 // length, number, time, length of the subject
		checksum  = 8
		headers   = 1 << 31       // bit of the length: there are headers
		removed   = 1<<63 | 1<<62 // bits of the number: it is about what was removed
		maxRecord = 32 << 20      // of NATS
		maxGap    = 1 << 24       // it fills gaps in a moment
	)
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<16)
	for last := uint64(0); ; {
		h, err := r.Peek(header)
		if err != nil {
			return err == io.EOF && len(h) == 0
		}
		size, number := binary.LittleEndian.Uint32(h)&^headers, binary.LittleEndian.Uint64(h[4:])
		if size < header+checksum || size > maxRecord {
			return false
		}
		if _, err := r.Discard(int(size)); err != nil {
			return false
		}
		if number&removed != 0 {
			continue
		}
		if last > 0 && (number <= last || number-last > maxGap) {
			return false
		}
		last = number
	}
}

// salvage looks whether everything that the engine counts can be read, and makes anew where that is not so. It is for an
// engine that nobody else uses, at its start.
func (q *Queue) salvage(ctx context.Context, h handles) (handles, error) {
	ctx, cancel := context.WithTimeout(ctx, q.o.StartTimeout)
	defer cancel()
	h, err := q.salvageState(ctx, h)
	if err != nil {
		return h, fmt.Errorf("bucket state: %w", err)
	}
	h, err = q.salvageJobs(ctx, h)
	if err != nil {
		return h, fmt.Errorf("stream of jobs: %w", err)
	}
	return h, nil
}

// salvageJobs makes the stream of jobs anew, empty, where a message cannot be read: it would be counted for ever, and
// never delivered. The ledger puts back what was in it.
func (q *Queue) salvageJobs(ctx context.Context, h handles) (handles, error) {
	info, err := h.jobs.Info(ctx, jetstream.WithSubjectFilter(">"))
	if err != nil {
		return h, err
	}
	lost := info.State.Msgs != uint64(len(info.State.Subjects))
	for subject := range info.State.Subjects {
		if _, err := h.jobs.GetLastMsgForSubject(ctx, subject); errors.Is(err, jetstream.ErrMsgNotFound) {
			lost = true
			break
		} else if err != nil {
			return h, err
		}
	}
	if !lost {
		return h, nil
	}
	q.o.Log.WarnContext(ctx, "queue: the stream of jobs is damaged and made anew", "jobs", info.State.Msgs)
	if err := q.js.DeleteStream(ctx, q.o.Prefix+"-jobs"); err != nil {
		return h, err
	}
	return q.setUp(ctx, true)
}

// salvageState looks whether all values of the bucket of states can be read and, where some cannot, makes the bucket anew with
// those that can. A value that was damaged on the disk is one that the engine counts, in all or under its subject, but
// cannot read; see readable.
func (q *Queue) salvageState(ctx context.Context, h handles) (handles, error) {
	name := "KV_" + q.o.Prefix + "-state"
	stream, err := q.js.Stream(ctx, name)
	if err != nil {
		return h, err
	}
	counted := stream.CachedInfo().State.Msgs
	if counted == 0 {
		return h, nil
	}
	c, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true})
	if err != nil {
		return h, err
	}
	defer func() { _ = stream.DeleteConsumer(ctx, c.CachedInfo().Name) }() // else it goes by itself
	var values []*nats.Msg
	read, subjects := uint64(0), map[string]uint64{}
	for {
		batch, err := c.FetchNoWait(500)
		if err != nil {
			return h, err
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
			return h, err
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
		return h, err
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
		return h, err
	}
	if h, err = q.setUp(ctx, true); err != nil {
		return h, err
	}
	for _, v := range values {
		if _, err := q.js.PublishMsg(ctx, v); err != nil {
			return h, err
		}
	}
	return h, nil
}
