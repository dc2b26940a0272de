// Package queue has the jobs of partiald that wait or are under work, and what its servers tell each other, on NATS
// JetStream: embedded in the process without any port, embedded and joined with the other servers to a cluster, or an
// engine that is there already.
package queue

import (
	"crypto/tls"
	"log/slog"
	"time"
)

// Options say which queue. Dir or URLs is required.
type Options struct {
	// Server is the name of this server, unique among those that share the queue.
	Server string
	// Prefix begins the names of all streams, buckets and subjects; "" means "partiald". Services with different
	// prefixes share an engine without seeing each other.
	Prefix string

	// Dir is where the embedded engine keeps its files.
	Dir string
	// Lazy lets the embedded engine acknowledge before files are synced, every two minutes. Faster, and a power cut
	// costs what came since; the ledger then queues it again.
	Lazy bool
	// Listen is an address for NATS clients of the embedded engine, as "127.0.0.1:4222"; "" means that there is none.
	Listen string
	// Cluster joins the embedded engine with others.
	Cluster *Cluster

	// URLs are those of an external engine; Dir is not used then.
	URLs []string
	// Credentials is a file of NATS credentials for it, and TLS its configuration of TLS; both may be left out.
	Credentials string
	TLS         *tls.Config

	// Replicas is how many copies there are of everything; 0 means 1, or 3 in a cluster of at least three.
	Replicas int
	// Limit is the largest number of jobs that wait or are under work; 0 means 10,000.
	Limit int
	// AckWait is how long a worker may be silent before its job is given to another; 0 means 30 s.
	AckWait time.Duration
	// Timeout bounds every request to the engine; 0 means 5 s.
	Timeout time.Duration
	// Objects makes a bucket for artifacts, for clusters without a storage plugin.
	Objects bool
	// Log receives what happens; nil discards it.
	Log *slog.Logger
}

// Cluster says how embedded engines find each other.
type Cluster struct {
	// Name is the same on all of them; "" means the queue's prefix.
	Name string
	// Listen is the address for the others, as "10.0.0.1:6222".
	Listen string
	// Routes are the others' addresses, as "10.0.0.2:6222". The own one may be among them.
	Routes []string
	// Secret is what they know each other by; "" lets everybody in who reaches Listen.
	Secret string
	// TLS, if not nil, protects the connections; it must have a certificate and the CAs of both directions.
	TLS *tls.Config
}

// Queue is an open queue. It is safe for concurrent use.
type Queue struct {
	o Options
}
