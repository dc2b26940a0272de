// Package queuetest runs NATS servers as processes of their own for tests: the test's program starts itself again.
package queuetest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"
)

const variable = "PARTIALD_NATS_SERVER"

// config is what a server is started with.
type config struct {
	Name, Dir   string
	Port        int
	ClusterPort int
	Routes      []int
}

// Main makes this process a server if it was started as one, and returns otherwise. Call it first in TestMain.
func Main() {
	text := os.Getenv(variable)
	if text == "" {
		return
	}
	if err := run(text); err != nil {
		fmt.Fprintln(os.Stderr, "nats:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(text string) error {
	var c config
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	o := &server.Options{
		ServerName: c.Name, Host: "127.0.0.1", Port: c.Port, JetStream: true, StoreDir: c.Dir, SyncAlways: true,
		NoSigs: true, NoLog: true, JetStreamMaxMemory: 256 << 20, DisableShortFirstPing: true,
	}
	if c.ClusterPort != 0 {
		o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: c.ClusterPort, PoolSize: -1}
		for _, port := range c.Routes {
			o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", port)})
		}
	}
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	go s.Start()
	if !s.ReadyForConnections(30 * time.Second) {
		return fmt.Errorf("not ready")
	}
	fmt.Println("ready")
	// Whoever started it holds the other end: its death ends this process, too.
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	s.Shutdown()
	return nil
}

// Node is a server that runs in a process of its own.
type Node struct {
	config
	cmd *exec.Cmd
	in  interface{ Close() error }
}

// Name is what it is called in the cluster.
func (n *Node) Name() string { return n.config.Name }

// URL is its address for clients.
func (n *Node) URL() string { return fmt.Sprintf("nats://127.0.0.1:%d", n.Port) }

// Start starts a server that ends with the test, and returns its address.
func Start(tb testing.TB) string {
	tb.Helper()
	n := &Node{config: config{Name: "external", Dir: tb.TempDir(), Port: ports(tb, 1)[0]}}
	tb.Cleanup(n.Kill)
	n.Run(tb)
	return n.URL()
}

// Cluster starts a cluster of servers that end with the test, or a single one.
func Cluster(tb testing.TB, size int) []*Node {
	tb.Helper()
	p := ports(tb, 2*size)
	nodes := make([]*Node, size)
	for i := range nodes {
		nodes[i] = &Node{config: config{Name: fmt.Sprintf("n%d", i), Dir: tb.TempDir(), Port: p[i]}}
		if size > 1 {
			nodes[i].ClusterPort, nodes[i].Routes = p[size+i], p[size:]
		}
		tb.Cleanup(nodes[i].Kill)
		nodes[i].Run(tb)
	}
	return nodes
}

// URLs are the addresses of all nodes.
func URLs(nodes []*Node) (urls []string) {
	for _, n := range nodes {
		urls = append(urls, n.URL())
	}
	return urls
}

// Run starts the server, again after it was killed, and waits until it takes connections.
func (n *Node) Run(tb testing.TB) {
	tb.Helper()
	text, err := json.Marshal(n.config)
	if err != nil {
		tb.Fatal(err)
	}
	n.cmd = exec.CommandContext(context.Background(), os.Args[0])
	n.cmd.Env = append(os.Environ(), variable+"="+string(text))
	n.cmd.Stderr = os.Stderr
	in, err := n.cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	n.in = in
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); strings.TrimSpace(line) != "ready" {
		tb.Fatalf("NATS server %s says %q: %v", n.Name(), line, err)
	}
}

// Kill kills the server by SIGKILL. Killing it again does nothing.
func (n *Node) Kill() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
	_ = n.in.Close()
	n.cmd = nil
}

// ports returns free ports of this machine.
func ports(tb testing.TB, n int) []int {
	tb.Helper()
	var ports []int
	for range n {
		l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		defer l.Close() //nolint:errcheck // it only reserved the port
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// Ports returns free ports of this machine, for clusters of embedded engines.
func Ports(tb testing.TB, n int) []int {
	tb.Helper()
	return ports(tb, n)
}

// NotOurs are goroutines that are no leaks of ours: the client (1.55.0) begins one with each value that it puts into a
// bucket of objects, which waits for ever where the value was there before the goroutine had begun.
func NotOurs() goleak.Option {
	return goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect")
}
