package plugins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/senbonzakura/senbonzakura/internal/atomicfile"
)

// DebugVariable names the environment variable that makes a plugin that uses Serve run without a host, in a debugger or
// not: it serves on a socket of its own and writes into the file that the variable names how to reach it, for
// Config.Attach. Only the same user can open the socket. The plugin runs until it gets an interrupt, and any number of
// hosts, one after the other or together, may use it.
const DebugVariable = "SENBONZAKURA_DEBUG"

// debugPatience is how long a host waits for a plugin that may stand at a breakpoint.
const debugPatience = 24 * time.Hour

// attachment is that file: PROTOCOL.md section 2.7.
type attachment struct {
	Kind     string `json:"kind"`
	Protocol int    `json:"protocol"`
	Socket   string `json:"socket"`
}

// serveDebug is Serve for a plugin that its author has started.
func serveDebug[B any](kind Kind, file string, open func(ctx context.Context) (B, error), register func(grpc.ServiceRegistrar, B)) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(os.Stderr, format+"\n", args...) }
	backend, err := open(ctx)
	if err != nil {
		say("%v", err)
		return 1
	}
	defer closeBackend(backend)
	dir, err := os.MkdirTemp("", "sbd") // for its owner alone
	if err != nil {
		say("%v", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	socket := filepath.Join(dir, "plugin.sock")
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		say("%v", err)
		return 1
	}
	server := grpc.NewServer(serverOptions()...)
	healthpb.RegisterHealthServer(server, healthy())
	register(server, backend)
	if err := writeAttachment(ctx, file, attachment{Kind: kind.Name, Protocol: slices.Max(kind.Versions), Socket: socket}); err != nil {
		say("%v", errors.Join(err, listener.Close()))
		return 1
	}
	defer func() { _ = os.Remove(file) }()
	say("%s plugin, process %d, in debug mode. Attach to it with\n\n    marctl plugin check %[1]s --plugin-attach %[3]s\n\nAn interrupt ends it.", kind.Name, os.Getpid(), file)
	go func() {
		<-ctx.Done()
		forced := time.AfterFunc(shutdownGrace, server.Stop)
		defer forced.Stop()
		server.GracefulStop()
	}()
	if err := server.Serve(listener); err != nil {
		say("%v", err)
		return 1
	}
	return 0
}

func writeAttachment(ctx context.Context, file string, a attachment) error {
	return atomicfile.Write(ctx, file, 0o600, func(w io.Writer) error { return json.NewEncoder(w).Encode(a) })
}

// startAttached is Start for a plugin that runs already.
func startAttached(ctx context.Context, cfg Config, kind Kind) (*Process, error) {
	name := filepath.Base(cfg.Attach)
	p := newProcess(name, cfg, cfg.Logger.With("plugin", name))
	p.start = func(ctx context.Context, _ int) (*instance, error) { return attach(ctx, cfg.Attach, kind) }
	if _, err := p.live(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("plugin %s: %w", name, err), p.Close())
	}
	return p, nil
}

// attach connects to a plugin in debug mode.
func attach(ctx context.Context, file string, kind Kind) (*instance, error) {
	a, err := readAttachment(file, kind)
	if err != nil {
		return nil, fmt.Errorf("attach to plugin: %w", err)
	}
	conn, err := grpc.NewClient("passthrough:attached", append(dialOptions(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", a.Socket)
		}))...)
	if err != nil {
		return nil, fmt.Errorf("attach to plugin: %w", err)
	}
	exited := make(chan struct{})
	i := &instance{conn: conn, exited: exited, gone: make(chan struct{})}
	i.state = func() string { return "the plugin that was attached to has ended" }
	i.kill = func() { _ = conn.Close() } // it is not ours to end
	i.stop = sync.OnceFunc(func() {
		_ = conn.Close()
		<-exited
	})
	if err := i.ping(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("attach to plugin: %w: nobody answers at the socket that %s names: %w", ErrHandshake, file, err)
	}
	go func() {
		defer close(exited)
		for conn.GetState() == connectivity.Ready {
			conn.WaitForStateChange(context.Background(), connectivity.Ready) // ends with Close
		}
	}()
	return i, nil
}

func readAttachment(file string, kind Kind) (attachment, error) {
	var a attachment
	data, err := os.ReadFile(file)
	if err != nil {
		return a, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	if err := json.Unmarshal(data, &a); err != nil {
		return a, fmt.Errorf("%w: %s is not the file of a plugin in debug mode: %w", ErrHandshake, file, err)
	}
	switch {
	case a.Kind != kind.Name:
		return a, fmt.Errorf("%w: %s is of a %q plugin, not a %s plugin", ErrHandshake, file, clean(a.Kind, 40), kind.Name)
	case !slices.Contains(kind.Versions, a.Protocol):
		return a, fmt.Errorf("%w: the plugin speaks %s protocol %d, this host speaks %v", ErrHandshake, kind.Name, a.Protocol, kind.Versions)
	case !filepath.IsAbs(a.Socket):
		return a, fmt.Errorf("%w: %s names no socket", ErrHandshake, file)
	}
	return a, nil
}
