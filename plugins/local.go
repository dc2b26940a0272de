package plugins

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"

	"github.com/hashicorp/go-plugin"
)

// Local serves a plugin's services in this process, over memory instead of a socket, with the same limits and
// the same errors on both sides. It is for tests of plugins, and for hosts that bring a backend of their own:
// nothing protects the host from it.
func Local(name string, register func(grpc.ServiceRegistrar)) (*Process, error) {
	cfg, err := Config{Path: name, SHA256: fmt.Sprintf("%064d", 0)}.withDefaults()
	if err != nil {
		return nil, err
	}
	cfg.Restart.Max = -1
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(serverOptions()...)
	status := health.NewServer()
	status.SetServingStatus(plugin.GRPCServiceName, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(server, status)
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
	p := newProcess(name, cfg, cfg.Logger)
	i := &instance{conn: conn, exited: exited, state: func() string { return "closed" }, gone: make(chan struct{})}
	i.kill = server.Stop
	i.stop = sync.OnceFunc(func() {
		_ = conn.Close()
		forced := time.AfterFunc(shutdownGrace, server.Stop)
		server.GracefulStop()
		forced.Stop()
		<-exited
	})
	p.current = i
	p.waiting.Go(func() { p.watch(i) })
	return p, nil
}
