package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	goplugin "github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// exitGrace is how long a plugin may take to end after its standard input has ended.
const exitGrace = time.Second

// windowSize is the flow control window of a connection, in bytes: enough for eight chunks under way.
const windowSize = 8 * ChunkSize

// instance is one start of a plugin: a process and the connection to it, or (see Local) a connection alone.
type instance struct {
	conn    *grpc.ClientConn
	exited  <-chan struct{} // closed when the process has ended
	state   func() string   // how it ended; call after exited
	pid     int
	kill    func()        // ends it at once
	stop    func()        // ends it and cleans up; returns when nothing is left; any number of times
	suspect atomic.Bool   // a call ran out of time or broke: ping before the next one
	gone    chan struct{} // closed after stop has cleaned up behind an exit
}

func (i *instance) dead() bool {
	select {
	case <-i.exited:
		return true
	default:
		return false
	}
}

// ping asks the health service.
func (i *instance) ping(ctx context.Context) error {
	reply, err := healthpb.NewHealthClient(i.conn).Check(ctx, &healthpb.HealthCheckRequest{Service: plugin.GRPCServiceName})
	if err != nil {
		return err
	}
	if s := reply.GetStatus(); s != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("health status is %v", s)
	}
	return nil
}

// shim is the plugin type that go-plugin asks for; it hands out the connection.
type shim struct {
	plugin.NetRPCUnsupportedPlugin
	register func(grpc.ServiceRegistrar) // plugin's side only
}

func (s *shim) GRPCServer(_ *plugin.GRPCBroker, server *grpc.Server) error {
	s.register(server)
	return nil
}

func (s *shim) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}

// dialOptions are what the host sets on a connection.
func dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
		grpc.WithMaxHeaderListSize(maxHeader),
		grpc.WithInitialWindowSize(windowSize),
		grpc.WithInitialConnWindowSize(windowSize),
		grpc.WithIdleTimeout(0),
		grpc.WithDisableServiceConfig(),
		grpc.WithChainStreamInterceptor(fence),
	}
}

// fence keeps go-plugin's own streams within bounds. The broker, through which a plugin could open channels
// back into the host, is not used: it is never started. The stream of what the plugin prints is optional, and
// go-plugin leaks a connection unless its failure says so.
func fence(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	switch method {
	case "/plugin.GRPCBroker/StartStream":
		return nil, status.Error(codes.Unimplemented, "no broker")
	case "/plugin.GRPCStdio/StreamStdio":
		s, err := next(ctx, desc, cc, method, opts...)
		if err != nil {
			return nil, status.Error(codes.Unavailable, "no stdio")
		}
		return s, nil
	}
	return next(ctx, desc, cc, method, opts...)
}

// launch starts a process and waits for its first healthy answer, within ctx. dir is made for it and removed
// when it is gone.
func launch(ctx context.Context, t *thread, cfg Config, kind Kind, h *home, dir string, log *slog.Logger) (_ *instance, err error) {
	if err := h.check(cfg.SHA256); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start plugin: %w", err)
	}
	tlsConfig, certificate, err := clientTLS()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start plugin: %w", err), os.RemoveAll(dir))
	}
	r := newRunner(t, cfg, kind, h.binary, dir, log)
	sets := make(map[int]plugin.PluginSet)
	for _, v := range kind.Versions {
		sets[v] = plugin.PluginSet{kind.Name: &shim{}}
	}
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  plugin.HandshakeConfig{MagicCookieKey: CookieVariable, MagicCookieValue: kind.Name},
		VersionedPlugins: sets,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		TLSConfig:        tlsConfig,
		SkipHostEnv:      true,
		StartTimeout:     cfg.StartTimeout + time.Minute, // ctx ends it
		Logger:           hclog.New(&hclog.LoggerOptions{Level: hclog.Off}),
		SyncStdout:       r.out,
		SyncStderr:       r.err,
		GRPCDialOptions:  dialOptions(),
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: dir},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, _ string) (goplugin.Runner, error) {
			r.cmd.Env = append(r.cmd.Env, cmd.Env...)
			r.cmd.Env = append(r.cmd.Env, plugin.EnvUnixSocketDir+"="+dir, "PLUGIN_CLIENT_CERT="+certificate)
			return r, nil
		},
	})
	type result struct {
		conn *grpc.ClientConn
		err  error
	}
	connected := make(chan result, 1)
	go func() {
		protocol, err := client.Client()
		if err != nil {
			connected <- result{err: err}
			return
		}
		raw, err := protocol.Dispense(kind.Name)
		conn, _ := raw.(*grpc.ClientConn)
		connected <- result{conn: conn, err: err}
	}()

	i := &instance{exited: r.exited, state: r.state, kill: r.kill, gone: make(chan struct{})}
	i.stop = sync.OnceFunc(func() {
		if i.conn != nil {
			_ = i.conn.Close() // else the plugin waits for our end of its streams
		}
		r.stop(exitGrace)
		client.Kill() // the process is gone: this ends go-plugin's goroutines
		if err := os.RemoveAll(dir); err != nil {
			log.Warn("plugin's temporary directory stays", "error", err)
		}
	})
	var res result
	select {
	case res = <-connected:
	case <-ctx.Done():
		r.kill()
		res = <-connected
	}
	started := r.started()
	if res.err == nil {
		i.conn, i.pid = res.conn, r.pid
		if res.err = i.ping(ctx); res.err == nil {
			return i, nil
		}
		res.err = fmt.Errorf("health check: %w", res.err)
	}
	if !started {
		return nil, errors.Join(res.err, os.RemoveAll(dir))
	}
	r.kill()
	i.stop()
	err = res.err
	if p := r.handshakeErr.Load(); p != nil {
		err = *p
	}
	switch {
	case ctx.Err() != nil:
		err = fmt.Errorf("start plugin: no healthy answer in time: %w%s", errors.Join(ErrTimeout, context.Cause(ctx)), r.said())
	case r.handshakeErr.Load() != nil:
		err = fmt.Errorf("start plugin: %w%s", err, r.said())
	default:
		err = fmt.Errorf("start plugin: %w: %w; process: %s", ErrHandshake, err, r.state())
	}
	return nil, err
}

// launchDir names the directory of the n-th start.
func launchDir(h *home, n int) string { return filepath.Join(h.path, fmt.Sprint(n)) }
