//go:build unix

package pgtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Server is a PostgreSQL server that listens on a socket in a directory of its own, and nowhere else.
type Server struct {
	dir  string
	bin  string
	cred *syscall.Credential
	cmd  *exec.Cmd
	mu   sync.Mutex
}

// Found says whether there is a PostgreSQL.
func Found() bool { return len(programs()) > 0 }

// programs returns the initdb of every installed PostgreSQL.
func programs() []string {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		panic(err) // the pattern is ours
	}
	if path, err := exec.LookPath("initdb"); err == nil && len(found) == 0 {
		found = append(found, path)
	}
	return slices.DeleteFunc(found, func(initdb string) bool {
		_, err := os.Stat(filepath.Join(filepath.Dir(initdb), "postgres"))
		return err != nil
	})
}

// Postgres starts a server for a test, which is skipped where there is no PostgreSQL (Debian: postgresql-15). As root,
// who must not run it, it runs as postgres or nobody. The server ends with the test.
func Postgres(tb testing.TB) *Server {
	tb.Helper()
	s := &Server{}
	found := programs()
	if len(found) == 0 {
		tb.Skip("no PostgreSQL: install postgresql-15, or put its initdb and postgres into the PATH")
	}
	var err error
	s.bin = filepath.Dir(found[len(found)-1])
	// Not the test's directory, whose name may be too long for a socket and whose parents are the test's user's alone.
	if s.dir, err = os.MkdirTemp("", "pg"); err != nil { //nolint:usetesting // see above
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(s.dir) })
	if os.Geteuid() == 0 {
		s.become(tb)
	}
	data := filepath.Join(s.dir, "data")
	if out, err := s.command("initdb", "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions").
		CombinedOutput(); err != nil {
		tb.Fatalf("initdb: %v\n%s", err, out)
	}
	s.start(tb)
	tb.Cleanup(func() { s.Kill() })
	return s
}

// become finds a user to run the server as.
func (s *Server) become(tb testing.TB) {
	tb.Helper()
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 != nil || err2 != nil {
			continue
		}
		if err := os.Chown(s.dir, int(uid), int(gid)); err != nil {
			tb.Skipf("PostgreSQL cannot run as %s: %v", name, err)
		}
		s.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return
	}
	tb.Skip("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "PATH=" + os.Getenv("PATH")}
	if s.cred != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	}
	return cmd
}

// start starts the server and waits until it answers.
func (s *Server) start(tb testing.TB) {
	tb.Helper()
	var out bytes.Buffer
	s.cmd = s.command("postgres", "-D", filepath.Join(s.dir, "data"), "-k", s.dir, "-c", "listen_addresses=", "-c", "max_connections=50",
		"-c", "shared_buffers=16MB", "-c", "recovery_init_sync_method=syncfs")
	s.cmd.Stderr = &out
	if err := s.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := run(s.Address(), "SELECT 1")
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.Kill()
			tb.Fatalf("PostgreSQL does not answer: %v\n%s", err, out.String())
		}
		<-time.After(20 * time.Millisecond)
	}
}

// run runs a statement in a database.
func run(address, statement string) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

func (s *Server) dsn(database string) string {
	return "postgres:///" + database + "?user=tester&host=" + url.QueryEscape(s.dir)
}

// Kill ends the server by SIGQUIT, which is its word for at once, without anything being put in order.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGQUIT)
	_ = s.cmd.Wait()
	s.cmd = nil
}

// Restart kills the server and starts it again.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	s.Kill()
	s.start(tb)
}

// Database makes an empty database and returns its address.
func (s *Server) Database(tb testing.TB) string {
	tb.Helper()
	return Database(tb, s.Address())
}

// Address is that of the database that every server has, for [Database] in another process.
func (s *Server) Address() string { return s.dsn("postgres") }

// Database makes an empty database on the server of an address and returns its address.
func Database(tb testing.TB, address string) string {
	tb.Helper()
	u, err := url.Parse(address)
	if err != nil {
		tb.Fatal(err)
	}
	name := "test" + strings.ToLower(rand.Text())
	if err := run(address, "CREATE DATABASE "+name); err != nil {
		tb.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}
