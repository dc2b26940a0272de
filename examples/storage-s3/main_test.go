package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/storage"
	"github.com/senbonzakura/senbonzakura/plugins/storage/storagetest"
)

// beEnv makes the test binary the plugin.
const beEnv = "SENBON_TEST_BE_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(beEnv) != "" {
		main()
	}
	os.Exit(m.Run())
}

// gateway starts a real S3 server over a directory, makes a bucket, and returns a plugin for it and a client.
func gateway(tb testing.TB, args ...string) (plugins.Config, *s3.Client) {
	tb.Helper()
	program := os.Getenv("SENBON_VERSITYGW")
	if program == "" {
		tb.Skip("versitygw not found: build github.com/versity/versitygw/cmd/versitygw and set SENBON_VERSITYGW to it")
	}
	if _, err := os.Stat(program); err != nil {
		tb.Skipf("versitygw not found: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	dir := tb.TempDir()
	var said bytes.Buffer
	server := exec.Command(program, "--port", address, "--access", "alice", "--secret", "open-sesame", "posix", dir)
	server.Stdout, server.Stderr = &said, &said
	if err := server.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		if tb.Failed() {
			tb.Logf("server: %.5000s", said.String())
		}
	})
	client := s3.New(s3.Options{
		BaseEndpoint: aws.String("http://" + address), UsePathStyle: true, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider("alice", "open-sesame", ""),
	})
	ctx, cancel := context.WithTimeout(tb.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err = client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("updates")}); err == nil {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tb.Fatalf("the server does not start: %v", err)
		}
	}
	return plugin(tb, "http://"+address, args...), client
}

// plugin returns this plugin for a service at an address.
func plugin(tb testing.TB, endpoint string, args ...string) plugins.Config {
	tb.Helper()
	path, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	sum, err := plugins.Sum(path)
	if err != nil {
		tb.Fatal(err)
	}
	return plugins.Config{
		Path: path, SHA256: sum, StartTimeout: 20 * time.Second,
		Args:    append([]string{"-bucket", "updates", "-endpoint", endpoint, "-path-style"}, args...),
		Env:     []string{testkit.FastExit, beEnv + "=1", "AWS_ACCESS_KEY_ID=alice"},
		Secrets: []plugins.Secret{{Env: "AWS_SECRET_FD", Value: func() ([]byte, error) { return []byte("open-sesame"), nil }}},
		Restart: plugins.RestartPolicy{Max: 100, MinPause: time.Millisecond},
	}
}

func start(tb testing.TB, cfg plugins.Config) *storage.Client {
	tb.Helper()
	c, err := storage.Start(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

func sample(name string, size int) (storage.Object, []byte) {
	b := bytes.Repeat([]byte(name+"."), size/(len(name)+1)+1)[:size]
	return storage.Object{Name: name, Size: int64(size), SHA256: sha256.Sum256(b)}, b
}

func opener(b []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

// TestConformance runs the kit with an object that goes up in parts, with and without a prefix and the SDK's own
// checksums.
func TestConformance(t *testing.T) {
	t.Parallel()
	size := int64(40 << 20) // five parts
	if testkit.Race {
		size = 20 << 20
	}
	for name, args := range map[string][]string{"plain": nil, "prefix": {"-prefix", "team/a/", "-old-checksums"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, client := gateway(t, args...)
			r := storagetest.CheckBinary(t.Context(), cfg, &storagetest.Options{Size: size})
			r.Apply(t)
			for _, res := range r.Results {
				if res.Rule == "T16" && res.Status != "passed" {
					t.Errorf("presign: %s", res.Status)
				}
			}
			uploads(t, client, 0)
		})
	}
}

// uploads checks how many uploads are under way.
func uploads(t *testing.T, client *s3.Client, want int) {
	t.Helper()
	out, err := client.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String("updates")})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Uploads) != want {
		t.Errorf("%d uploads are under way, want %d", len(out.Uploads), want)
	}
}

// TestRaceInParts has several writers race with objects that go up in parts.
func TestRaceInParts(t *testing.T) {
	t.Parallel()
	cfg, client := gateway(t)
	c := start(t, cfg)
	const racers = 4
	won := make([]bool, racers)
	var wg sync.WaitGroup
	for i := range racers {
		o, b := sample(fmt.Sprintf("racer-%d", i), partSize+1000+i)
		o.Name = "race"
		wg.Go(func() {
			var err error
			if _, won[i], err = c.PutIfAbsent(t.Context(), o, opener(b)); err != nil && !errors.Is(err, plugins.ErrExists) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	winners := 0
	for _, w := range won {
		if w {
			winners++
		}
	}
	if winners != 1 {
		t.Errorf("%d winners", winners)
	}
	uploads(t, client, 0)
}

// TestInterrupted ends an upload in parts in every way: the source fails, the host gives up, the bytes are
// wrong, the plugin dies.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	cfg, client := gateway(t)
	c := start(t, cfg)
	o, b := sample("interrupted", 2*partSize+100)
	absent := func(t *testing.T) {
		t.Helper()
		if _, err := c.Stat(t.Context(), o.Name); !errors.Is(err, plugins.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	}
	half := len(b) * 3 / 4
	t.Run("source fails", func(t *testing.T) {
		failing := func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(b[:half]), readerFunc(func([]byte) (int, error) { return 0, io.ErrNoProgress }))), nil
		}
		if _, _, err := c.PutIfAbsent(t.Context(), o, failing); !errors.Is(err, io.ErrNoProgress) {
			t.Errorf("got %v", err)
		}
		absent(t)
	})
	t.Run("host gives up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		giving := func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(b[:half]), readerFunc(func([]byte) (int, error) { cancel(); return 0, ctx.Err() }))), nil
		}
		if _, _, err := c.PutIfAbsent(ctx, o, giving); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		absent(t)
	})
	t.Run("wrong bytes", func(t *testing.T) {
		wrong := bytes.Clone(b)
		wrong[len(wrong)-1] ^= 1
		if _, _, err := c.PutIfAbsent(t.Context(), o, opener(wrong)); !errors.Is(err, plugins.ErrCorrupt) {
			t.Errorf("got %v", err)
		}
		absent(t)
	})
	waitUploads(t, client, 0) // they were all aborted, maybe a moment later
	t.Run("plugin dies", func(t *testing.T) {
		dying := func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(b[:half]), readerFunc(func([]byte) (int, error) {
				p, err := os.FindProcess(c.Process().PID())
				if err == nil {
					_ = p.Kill()
				}
				return 0, io.EOF
			}), bytes.NewReader(b[half:]))), nil
		}
		if _, _, err := c.PutIfAbsent(t.Context(), o, dying); !errors.Is(err, plugins.ErrStopped) {
			t.Errorf("got %v", err)
		}
		absent(t)
	})
	if _, created, err := c.PutIfAbsent(t.Context(), o, opener(b)); err != nil || !created {
		t.Errorf("afterwards: created is %v, %v", created, err)
	}
	r, err := c.Get(t.Context(), o.Name, &storage.GetOptions{Want: &o})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, b) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// waitUploads waits until there are so many uploads under way, but not for long.
func waitUploads(t *testing.T, client *s3.Client, want int) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); <-tick.C {
		out, err := client.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String("updates")})
		if err == nil && len(out.Uploads) == want {
			return
		}
	}
	uploads(t, client, want)
}

// TestStrangers meets objects that somebody else has put into the bucket.
func TestStrangers(t *testing.T) {
	t.Parallel()
	cfg, client := gateway(t)
	c := start(t, cfg)
	for _, key := range []string{"plain", "with space", "good"} {
		in := &s3.PutObjectInput{Bucket: aws.String("updates"), Key: aws.String(key), Body: strings.NewReader("x")}
		if key == "good" {
			in.Metadata = map[string]string{"sha256": fmt.Sprintf("%x", sha256.Sum256([]byte("x")))}
		}
		if _, err := client.PutObject(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Stat(t.Context(), "plain"); !errors.Is(err, plugins.ErrCorrupt) {
		t.Errorf("object without a hash: got %v, want ErrCorrupt", err)
	}
	if _, err := c.Stat(t.Context(), "good"); err != nil {
		t.Error(err)
	}
	var names []string
	for o, err := range c.All(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, o.Name)
	}
	if got := strings.Join(names, " "); got != "good plain" {
		t.Errorf("list is %q, want good plain", got)
	}
}

// TestDown counts the requests of a host to a service that is down: the host asks three times, and the SDK not on its own.
func TestDown(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	c := start(t, plugin(t, server.URL))
	if _, err := c.Stat(t.Context(), "x"); !errors.Is(err, plugins.ErrUnavailable) || asked.Load() != 3 {
		t.Errorf("asked %d times, %v, want 3 times and ErrUnavailable", asked.Load(), err)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	cfg, _ := gateway(t)
	wrong := cfg
	wrong.Secrets = []plugins.Secret{{Env: "AWS_SECRET_FD", Value: func() ([]byte, error) { return []byte("wrong"), nil }}}
	if _, err := start(t, wrong).Stat(t.Context(), "x"); !errors.Is(err, plugins.ErrDenied) {
		t.Errorf("wrong secret: got %v, want ErrDenied", err)
	}
	nobody := cfg
	nobody.Args = []string{"-bucket", "updates", "-endpoint", "http://127.0.0.1:1", "-path-style"}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := start(t, nobody).Stat(ctx, "x"); !errors.Is(err, plugins.ErrUnavailable) && !errors.Is(err, plugins.ErrTimeout) {
		t.Errorf("nobody there: got %v, want ErrUnavailable", err)
	}
	bad := cfg
	bad.Args = nil
	if _, err := storage.Start(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "usage") {
		t.Errorf("no bucket: got %v, want usage", err)
	}
}
