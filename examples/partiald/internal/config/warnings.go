package config

import "fmt"

// Warnings returns what can be used and is likely not what somebody wants, each with its key and place. The configuration
// must be finished.
func (c *Config) Warnings() []Problem {
	var out []Problem
	warn := func(key, format string, args ...any) {
		p := Problem{Key: key, Message: fmt.Sprintf(format, args...)}
		c.read.Place(&p)
		out = append(out, p)
	}
	const lost = "a server that is lost takes along what it has of the queue, and jobs come back only from the ledger"
	q := &c.Queue
	switch {
	case !c.Shared():
	case q.Replicas == 1:
		warn("queue.replicas", "there is one copy of everything: %s; 3 need three servers", lost)
	case !c.Embedded() && len(q.URLs) < 3 && q.Replicas == 0:
		warn("queue.urls", "names %d of the servers: with fewer than three in the cluster there is one copy of everything, and %s", len(q.URLs), lost)
	case c.Embedded() && q.ClusterListen != "" && others(q)+1 < 3:
		warn("queue.cluster_routes", "make a cluster of %d servers: with fewer than three none may be missing", others(q)+1)
	}
	return out
}

// others counts the servers of the cluster beside this one.
func others(q *Queue) int {
	n := 0
	for _, route := range q.ClusterRoutes {
		if route != q.ClusterListen {
			n++
		}
	}
	return n
}
