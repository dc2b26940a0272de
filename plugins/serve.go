package plugins

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
)

// shutdownGrace is how long a plugin finishes its calls after the host has gone or said so; it is below
// exitGrace, so that a plugin that works can end by itself.
const shutdownGrace = 700 * time.Millisecond

// Serve is the whole main of a plugin: it opens the backend, registers its services on a gRPC server, and
// serves until the host closes the plugin or dies. It never returns: the process ends with status 0, or with
// status 1 and the reason on standard error when open fails or when the program was not started by a host.
//
// Serve owns standard output from its beginning: what is printed there goes to standard error, from where the
// host logs it, as it does with everything that goes through the default slog logger. The packages signing
// and storage wrap Serve with a type for each kind; call it directly only for a kind of your own.
//
// If what open returns has a method Close() error, it is called at the end.
//
// Where DebugVariable is set and no host has started the program, it serves hosts that attach to it.
func Serve[B any](kind Kind, open func(ctx context.Context) (B, error), register func(grpc.ServiceRegistrar, B)) {
	os.Exit(serve(kind, open, register))
}

func serve[B any](kind Kind, open func(ctx context.Context) (B, error), register func(grpc.ServiceRegistrar, B)) int {
	if got := os.Getenv(CookieVariable); got != kind.Name {
		if got == "" {
			if file := os.Getenv(DebugVariable); file != "" {
				return serveDebug(kind, file, open, register)
			}
			_, _ = fmt.Fprintf(os.Stderr, "This program is a %s plugin of Senbonzakura. It is started by the program that uses it, not by hand;\nto try it, run the conformance check: see plugins/README.md. To run it in a debugger, set %s to the name of a\nfile that it may write.\n", kind.Name, DebugVariable)
		} else {
			_, _ = fmt.Fprintf(os.Stderr, "this is a %s plugin, but the host wants a %q plugin\n", kind.Name, clean(got, 40))
		}
		return 1
	}
	stderr := os.Stderr
	stdout, err := ownStdout()
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return 1
	}
	os.Stdout = stderr
	slog.SetDefault(slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: slog.LevelDebug})))

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	host := make(chan struct{}) // closed when the host is gone
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // the host never writes: this ends with the host's end of the pipe
		close(host)
	}()
	var (
		mu     sync.Mutex
		server *grpc.Server
	)
	go func() {
		<-host
		cancel()
		time.AfterFunc(shutdownGrace, func() { os.Exit(3) }) // a call hangs, or Close does
		mu.Lock()
		s := server
		mu.Unlock()
		if s != nil {
			s.GracefulStop()
		}
	}()

	backend, err := open(ctx)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return 1
	}
	sets := make(map[int]plugin.PluginSet)
	for _, v := range kind.Versions {
		sets[v] = plugin.PluginSet{kind.Name: &shim{register: func(r grpc.ServiceRegistrar) { register(r, backend) }}}
	}
	os.Stdout = stdout // go-plugin prints the handshake to it and then puts a pipe in its place
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  plugin.HandshakeConfig{MagicCookieKey: CookieVariable, MagicCookieValue: kind.Name},
		VersionedPlugins: sets,
		Logger:           hclog.New(&hclog.LoggerOptions{Level: hclog.Off}),
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			s := grpc.NewServer(append(opts, serverOptions()...)...)
			mu.Lock()
			server = s
			mu.Unlock()
			return s
		},
	})
	closeBackend(backend)
	return 0
}

// closeBackend ends a backend, where it wants to know.
func closeBackend(backend any) {
	if c, ok := backend.(io.Closer); ok {
		if err := c.Close(); err != nil {
			slog.Error("close plugin", "error", err)
		}
	}
}

// healthy makes the health service that says that all is well.
func healthy() healthpb.HealthServer {
	s := health.NewServer()
	s.SetServingStatus(plugin.GRPCServiceName, healthpb.HealthCheckResponse_SERVING)
	return s
}

// serverOptions are what the plugin's side sets on a server.
func serverOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxSendMsgSize(MaxMessage),
		grpc.MaxHeaderListSize(maxHeader),
		grpc.InitialWindowSize(windowSize),
		grpc.InitialConnWindowSize(windowSize),
		grpc.ChainUnaryInterceptor(serveUnary),
		grpc.ChainStreamInterceptor(serveStream),
	}
}

func serveUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (reply any, err error) {
	defer func() {
		err = answer(recover(), info.FullMethod, err, func(md metadata.MD) { _ = grpc.SetTrailer(ctx, md) })
	}()
	return next(ctx, req)
}

func serveStream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer func() { err = answer(recover(), info.FullMethod, err, s.SetTrailer) }()
	return next(srv, s)
}

// answer makes the status of a call: of the error it returned, or of the panic it ended with.
func answer(panicked any, method string, err error, trailer func(metadata.MD)) error {
	if panicked != nil {
		slog.Error("panic in a call", "method", method, "panic", fmt.Sprint(panicked), "stack", string(debug.Stack()))
		err = &Error{Reason: ReasonInternal, Message: fmt.Sprintf("panic: %v", panicked)}
	}
	if err == nil {
		return nil
	}
	md, st := toWire(err)
	if md != nil {
		trailer(md)
	}
	return st
}
