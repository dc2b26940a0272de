//go:build unix

package plugins

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-plugin"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// The test binary is also every plugin and every host of these tests: it looks at its environment first.
const (
	modeEnv = "SENBON_TEST_PLUGIN" // what kind of plugin to be
	hostEnv = "SENBON_TEST_HOST"   // be a host that starts a plugin and waits to be killed
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(modeEnv); mode != "" {
		pluginMain(mode)
	}
	if os.Getenv(hostEnv) != "" {
		hostMain()
	}
	goleak.VerifyTestMain(m)
}

var echoKind = Kind{Name: "echo", Versions: []int{1}}

// pluginMain is the main of a test plugin; mode says how it misbehaves before it serves.
func pluginMain(mode string) {
	switch mode {
	case "crash-at-start":
		fmt.Fprintln(os.Stderr, "cannot open key: no such file")
		os.Exit(4)
	case "silent":
		testkit.Hang()
	case "garbage":
		fmt.Println("hello, I am starting")
		testkit.Hang()
	case "garbage-long":
		fmt.Print(strings.Repeat("x", 1<<20))
		testkit.Hang()
	case "wrong-protocol":
		fmt.Println("1|99|unix|/tmp/x|grpc|")
		testkit.Hang()
	case "netrpc":
		fmt.Println("1|1|unix|/tmp/x|netrpc|")
		testkit.Hang()
	case "elsewhere":
		fmt.Println("1|1|tcp|127.0.0.1:22|grpc|")
		testkit.Hang()
	case "outside":
		fmt.Println("1|1|unix|/run/docker.sock|grpc|")
		testkit.Hang()
	case "unbounded":
		plugin.Serve(&plugin.ServeConfig{
			HandshakeConfig:  plugin.HandshakeConfig{MagicCookieKey: CookieVariable, MagicCookieValue: echoKind.Name},
			VersionedPlugins: map[int]plugin.PluginSet{1: {"echo": &shim{register: func(r grpc.ServiceRegistrar) { registerEcho(r, &echo{}) }}}},
			GRPCServer:       plugin.DefaultGRPCServer,
		})
		os.Exit(0)
	case "grandchild":
		leaveGrandchild()
	}
	Serve(echoKind, func(ctx context.Context) (*echo, error) {
		fmt.Println("printed before the handshake")
		if path := os.Getenv("SENBON_TEST_FD"); path != "" {
			fd, err := strconv.Atoi(path)
			if err != nil {
				return nil, err
			}
			var b bytes.Buffer
			if _, err := b.ReadFrom(os.NewFile(uintptr(fd), "secret")); err != nil {
				return nil, err
			}
			return &echo{secret: b.String()}, nil
		}
		if mode == "open-fails" {
			return nil, errors.New("no token in slot 3")
		}
		return openEcho(ctx)
	}, registerEcho)
}

func openEcho(context.Context) (*echo, error) { return &echo{}, nil }

// echo is the backend of the test plugin: each request says what to do.
type echo struct{ secret string }

// Close leaves a mark, so that a test can tell a clean end from a kill.
func (e *echo) Close() error {
	if mark := os.Getenv("SENBON_TEST_MARK"); mark != "" {
		return os.WriteFile(mark, []byte("closed"), 0o600)
	}
	return nil
}

func (e *echo) do(ctx context.Context, request string) (string, error) {
	verb, rest, _ := strings.Cut(request, ":")
	switch verb {
	case "say":
		return rest, nil
	case "secret":
		return e.secret, nil
	case "env":
		return strings.Join(os.Environ(), "\x00"), nil
	case "crash":
		os.Exit(7)
	case "crash-after":
		time.AfterFunc(5*time.Millisecond, func() { os.Exit(7) })
		return rest, nil
	case "panic":
		go func() { panic("boom") }()
		testkit.Hang()
	case "panic-call":
		panic("boom in a call")
	case "hang":
		testkit.Hang()
	case "freeze":
		freeze()
		testkit.Hang()
	case "oversize":
		return strings.Repeat("x", MaxMessage+1), nil
	case "header":
		return rest, grpc.SetTrailer(ctx, metadata.Pairs("filler", strings.Repeat("x", 2*maxHeader)))
	case "garbage-stdout":
		fmt.Println("garbage")
		return rest, nil
	case "flood":
		line := bytes.Repeat([]byte("flood "), 1<<10)
		for range 4 << 10 { // 24 MB, no newline
			os.NewFile(2, "stderr").Write(line)
		}
		return rest, nil
	case "flood-lines":
		line := bytes.Repeat([]byte("flood\n"), 1<<10)
		for range 256 {
			os.NewFile(2, "stderr").Write(line)
		}
		return rest, nil
	case "log":
		slog.Warn(rest, "key", "value", "n", 3)
		return rest, nil
	case "raw":
		os.NewFile(2, "stderr").WriteString(rest + "\n")
		return rest, nil
	case "slow":
		select {
		case <-time.After(time.Hour):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	case "fail":
		return "", &Error{Reason: Reason(rest), Message: "as asked", RetryAfter: 3 * time.Second}
	case "status":
		return "", status.Error(codes.NotFound, "in the words of gRPC")
	}
	return "", fmt.Errorf("what is %q: %w", verb, ErrInvalid)
}

type echoServer interface {
	do(ctx context.Context, request string) (string, error)
}

func registerEcho(r grpc.ServiceRegistrar, e *echo) {
	r.RegisterService(&grpc.ServiceDesc{
		ServiceName: "test.Echo",
		HandlerType: (*echoServer)(nil),
		Methods: []grpc.MethodDesc{{
			MethodName: "Do",
			Handler: func(srv any, ctx context.Context, dec func(any) error, next grpc.UnaryServerInterceptor) (any, error) {
				in := &wrapperspb.StringValue{}
				if err := dec(in); err != nil {
					return nil, err
				}
				do := func(ctx context.Context, req any) (any, error) {
					s, err := srv.(echoServer).do(ctx, req.(*wrapperspb.StringValue).GetValue())
					return wrapperspb.String(s), err
				}
				if next == nil {
					return do(ctx, in)
				}
				return next(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/test.Echo/Do"}, do)
			},
		}},
		Streams: []grpc.StreamDesc{{
			StreamName:    "Count",
			ServerStreams: true,
			Handler: func(_ any, s grpc.ServerStream) error {
				in := &wrapperspb.StringValue{}
				if err := s.RecvMsg(in); err != nil {
					return err
				}
				n, err := strconv.Atoi(in.GetValue())
				if err != nil {
					return fmt.Errorf("%q: %w", in.GetValue(), ErrInvalid)
				}
				for i := range n {
					if err := s.SendMsg(wrapperspb.String(strconv.Itoa(i))); err != nil {
						return err
					}
				}
				if n == 3 {
					<-s.Context().Done() // three messages, and then silence
				}
				return nil
			},
		}},
	}, e)
}

// call makes one request of a test plugin.
func call(ctx context.Context, p *Process, request string) (string, error) {
	c, err := p.Dispense(ctx)
	if err != nil {
		return "", err
	}
	out := &wrapperspb.StringValue{}
	err = c.Invoke(ctx, "/test.Echo/Do", wrapperspb.String(request), out)
	return out.GetValue(), err
}

// config returns a configuration that runs the test binary as a plugin.
func config(tb testing.TB, mode string) Config {
	tb.Helper()
	path, sum := self(tb)
	return Config{
		Path: path, SHA256: sum, Dir: shortDir(tb),
		Env:          []string{testkit.FastExit, modeEnv + "=" + mode},
		StartTimeout: 20 * time.Second,
		Restart:      RestartPolicy{Max: 1000, MinPause: time.Millisecond, MaxPause: 2 * time.Millisecond},
		Logger:       slog.New(slog.NewTextHandler(testWriter{tb}, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

var self = func() func(tb testing.TB) (string, string) {
	var once sync.Once
	var path, sum string
	var err error
	return func(tb testing.TB) (string, string) {
		tb.Helper()
		once.Do(func() {
			if path, err = os.Executable(); err == nil {
				sum, err = Sum(path)
			}
		})
		if err != nil {
			tb.Fatal(err)
		}
		return path, sum
	}
}()

// shortDir makes a directory whose path leaves room for a socket's.
func shortDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "sbt") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		left, err := os.ReadDir(dir)
		if err != nil {
			tb.Error(err)
		}
		for _, e := range left {
			tb.Errorf("left behind: %s", e.Name())
		}
		os.RemoveAll(dir)
	})
	return dir
}

func start(tb testing.TB, cfg Config) *Process {
	tb.Helper()
	p, err := Start(tb.Context(), cfg, echoKind)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.Close(); err != nil {
			tb.Error(err)
		}
	})
	return p
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%.300s", bytes.TrimSpace(p))
	return len(p), nil
}

// hostMain starts a plugin, says its number, and waits to be killed.
func hostMain() {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	sum, err := Sum(path)
	if err != nil {
		panic(err)
	}
	p, err := Start(context.Background(), Config{Path: path, SHA256: sum, Dir: os.Getenv(hostEnv), Env: []string{testkit.FastExit, modeEnv + "=good"}}, echoKind)
	if err != nil {
		panic(err)
	}
	fmt.Println(p.PID())
	testkit.Hang()
}
