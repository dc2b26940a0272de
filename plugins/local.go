package plugins

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"
)

// Local serves a plugin's services in this process, over memory instead of a socket, with the same limits and
// the same errors on both sides. It is for tests of plugins, and for hosts that bring a backend of their own:
// nothing protects the host from it. A server that does not answer for too long is ended and another one begun, as a
// process is; register is called for each.
func Local(name string, register func(grpc.ServiceRegistrar)) (*Process, error) {
	cfg, err := Config{Path: name, SHA256: fmt.Sprintf("%064d", 0)}.withDefaults()
	if err != nil {
		return nil, err
	}
	p := newProcess(name, cfg, cfg.Logger)
	p.start = func(context.Context, int) (*instance, error) { return serveHere(name, register) }
	if _, err := p.live(context.Background()); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// serveHere begins a server in this process, and returns it as if it were one of its own.
func serveHere(name string, register func(grpc.ServiceRegistrar)) (*instance, error) {
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(serverOptions()...)
	healthpb.RegisterHealthServer(server, healthy())
	register(server)
	dial := append(dialOptions(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	conn, err := grpc.NewClient("passthrough:local", dial...)
	if err != nil {
		return nil, fmt.Errorf("plugin %s: %w", name, err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = server.Serve(listener) // ends with Stop
	}()
	i := &instance{conn: conn, exited: exited, state: func() string { return "closed" }, gone: make(chan struct{})}
	i.kill = server.Stop
	i.stop = sync.OnceFunc(func() {
		_ = conn.Close()
		forced := time.AfterFunc(shutdownGrace, server.Stop)
		server.GracefulStop()
		forced.Stop()
		<-exited
	})
	return i, nil
}
