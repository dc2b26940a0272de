package engine

import (
	"sync"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// orders keeps what the jobs come to that this server took, until they end: a request is looked at, and its key computed,
// once. Where another server works on a job, or this one was started since, that one looks at it again.
type orders struct {
	mu   sync.Mutex
	m    map[string]kept
	size int
}

type kept struct {
	round job.Change // by which the job was asked for
	order *senbonzakura.Order
	size  int
}

// maxOrders bounds, in bytes by record.size, what is kept.
const maxOrders = 16 << 20

// add keeps the order of a round that begins.
func (o *orders) add(r *record, order *senbonzakura.Order) {
	round, ok := r.round()
	if !ok {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.size -= o.m[r.ID].size
	k := kept{round, order, r.size()}
	if o.size += k.size; o.size > maxOrders || o.m == nil {
		o.m, o.size = map[string]kept{}, k.size
	}
	o.m[r.ID] = k
}

// get returns the order of a record's round; nil where it is not here, or is that of another round, whose addresses may be
// others.
func (o *orders) get(r *record) *senbonzakura.Order {
	round, ok := r.round()
	o.mu.Lock()
	defer o.mu.Unlock()
	k := o.m[r.ID]
	if !ok || k.round.Seq != round.Seq || k.round.Server != round.Server || !k.round.At.Equal(round.At) {
		return nil
	}
	return k.order
}

// remove forgets the order of a job that has ended.
func (o *orders) remove(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.size -= o.m[id].size
	delete(o.m, id)
}
