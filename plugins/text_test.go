//go:build unix

package plugins

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"
)

// FuzzLog writes what a plugin may write: the log must stay one line per record, valid text, and bounded.
func FuzzLog(f *testing.F) {
	for _, line := range []string{
		"plain", "[WARN] plain", `{"@message":1}`, `{"msg":"hello","level":"ERROR","a":{"b":[1,2,3]}}`, `{"@message":"x","@level":2,"@timestamp":[]}`,
		"{", "\x00\xff\x1b[31m", "panic: boom", strings.Repeat("x", 3*maxLine), "a\nb\nc\n\n\n", `{"a":"\u0000\u202e"}`,
	} {
		f.Add([]byte(line), 7)
	}
	f.Fuzz(func(t *testing.T, b []byte, piece int) {
		var out bytes.Buffer
		w := newLogWriter(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), "stderr")
		if piece <= 0 {
			piece = 1
		}
		for rest := b; len(rest) > 0; {
			n := min(piece, len(rest))
			if got, err := w.Write(rest[:n]); got != n || err != nil {
				t.Fatalf("Write returned %d, %v", got, err)
			}
			rest = rest[n:]
		}
		w.close()
		lines := bytes.Count(b, []byte("\n")) + 1
		if got := bytes.Count(out.Bytes(), []byte("\n")); got > lines+1 {
			t.Errorf("%d lines became %d", lines, got)
		}
		if !utf8.Valid(out.Bytes()) || bytes.ContainsAny(out.Bytes(), "\x00\x1b") {
			t.Errorf("log holds %q", out.Bytes())
		}
		if len(w.said()) > (keptLines+1)*(keptText+8) {
			t.Errorf("what it said is %d bytes", len(w.said()))
		}
	})
}

// TestSaid keeps the first lines and the last ones for error messages.
func TestSaid(t *testing.T) {
	w := newLogWriter(slog.New(slog.DiscardHandler), "stderr")
	for i := range keptLines {
		fmt.Fprintf(w, "line %d\n", i)
	}
	if got := w.said(); strings.Contains(got, "…") || strings.Count(got, "line") != keptLines {
		t.Errorf("got %q, want all lines", got)
	}
	for i := range 100 {
		fmt.Fprintf(w, "line %d\n", keptLines+i)
	}
	const want = "line 0 / line 1 / line 2 / line 3 / … / line 104 / line 105 / line 106 / line 107"
	if got := w.said(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLogRate(t *testing.T) {
	var out bytes.Buffer
	w := newLogWriter(slog.New(slog.NewTextHandler(&out, nil)), "stderr")
	now := time.Now()
	w.now = func() time.Time { return now }
	w.last = now
	for range 10 * lineBurst {
		fmt.Fprintln(w, "again")
	}
	if got := strings.Count(out.String(), "msg=again"); got != lineBurst {
		t.Errorf("got %d lines at once, want %d", got, lineBurst)
	}
	now = now.Add(time.Second)
	for range lineBurst {
		fmt.Fprintln(w, "later")
	}
	if got := strings.Count(out.String(), "msg=later"); got != lineRate {
		t.Errorf("got %d lines in the next second, want %d", got, lineRate)
	}
	if !strings.Contains(out.String(), fmt.Sprintf("lines=%d", 9*lineBurst)) {
		t.Error("nobody is told what was dropped")
	}
}

func TestLogLongLine(t *testing.T) {
	var out bytes.Buffer
	w := newLogWriter(slog.New(slog.NewTextHandler(&out, nil)), "stderr")
	for range 100 {
		fmt.Fprint(w, strings.Repeat("x", maxLine/2))
	}
	fmt.Fprintln(w, "\nnext")
	if out.Len() > 2*maxLine || !strings.Contains(out.String(), "said.cut=true") || !strings.Contains(out.String(), "msg=next") {
		t.Errorf("log has %d bytes: %.200s", out.Len(), out.String())
	}
}

// socketIn makes a socket for handshakes to name.
func socketIn(tb testing.TB) (dir, path string) {
	tb.Helper()
	dir, err := os.MkdirTemp("", "sbt") //nolint:usetesting // TempDir is too long for a socket
	if err != nil {
		tb.Fatal(err)
	}
	path = filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		l.Close()
		os.RemoveAll(dir)
	})
	return dir, path
}

func TestHandshake(t *testing.T) {
	dir, socket := socketIn(t)
	cert, err := NewCertificate()
	if err != nil {
		t.Fatal(err)
	}
	c := base64.RawStdEncoding.EncodeToString(cert.Certificate[0])
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(socket, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, line string
		ok         bool
	}{
		{"good", "1|1|unix|" + socket + "|grpc|" + c, true},
		{"more parts", "1|1|unix|" + socket + "|grpc|" + c + "|false", true},
		{"carriage return", "1|1|unix|" + socket + "|grpc|" + c + "\r", true},
		{"empty", "", false},
		{"core protocol", "2|1|unix|" + socket + "|grpc|" + c, false},
		{"protocol", "1|3|unix|" + socket + "|grpc|" + c, false},
		{"not a number", "1|one|unix|" + socket + "|grpc|" + c, false},
		{"tcp", "1|1|tcp|127.0.0.1:1234|grpc|" + c, false},
		{"netrpc", "1|1|unix|" + socket + "|netrpc|" + c, false},
		{"no certificate", "1|1|unix|" + socket + "|grpc|", false},
		{"no certificate part", "1|1|unix|" + socket + "|grpc", false},
		{"bad base64", "1|1|unix|" + socket + "|grpc|!" + c, false},
		{"bad certificate", "1|1|unix|" + socket + "|grpc|" + c[:400], false},
		{"other directory", "1|1|unix|/run/s|grpc|" + c, false},
		{"dot dot", "1|1|unix|" + dir + "/../" + filepath.Base(dir) + "/s|grpc|" + c, false},
		{"absent", "1|1|unix|" + dir + "/absent|grpc|" + c, false},
		{"file", "1|1|unix|" + dir + "/file|grpc|" + c, false},
		{"link", "1|1|unix|" + dir + "/link|grpc|" + c, false},
		{"long", strings.Repeat("x", maxHandshake+1), false},
	}
	for _, tt := range tests {
		for name, r := range map[string]io.Reader{"whole": strings.NewReader(tt.line + "\n"), "bytes": iotest.OneByteReader(strings.NewReader(tt.line + "\n"))} {
			t.Run(tt.name+" "+name, func(t *testing.T) {
				got, err := readHandshake(bufio.NewReaderSize(r, maxHandshake), echoKind, dir)
				if tt.ok && (err != nil || got != strings.TrimSuffix(tt.line, "\r")) {
					t.Errorf("got %q, %v", got, err)
				}
				if !tt.ok && !errors.Is(err, ErrHandshake) {
					t.Errorf("got %v, want ErrHandshake", err)
				}
			})
		}
	}
}

func FuzzHandshake(f *testing.F) {
	dir, socket := socketIn(f)
	cert, err := NewCertificate()
	if err != nil {
		f.Fatal(err)
	}
	f.Add("1|1|unix|" + socket + "|grpc|" + base64.RawStdEncoding.EncodeToString(cert.Certificate[0]))
	f.Add("1|1|tcp|127.0.0.1:80|grpc|")
	f.Add("||||||||")
	f.Fuzz(func(t *testing.T, line string) {
		got, err := readHandshake(bufio.NewReaderSize(strings.NewReader(line), maxHandshake), echoKind, dir)
		if err == nil && !strings.HasPrefix(got, "1|1|unix|"+socket+"|grpc|") {
			t.Errorf("accepted %q", got)
		}
	})
}
