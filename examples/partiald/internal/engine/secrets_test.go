package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/engine"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/storage"
)

// tattler is a storage whose errors say more than callers may know.
type tattler struct {
	storage.Backend
	err func() error
}

func (s tattler) PutIfAbsent(context.Context, storage.Object, io.Reader) (storage.Object, bool, error) {
	return storage.Object{}, false, s.err()
}

func (s tattler) Stat(context.Context, string) (storage.Object, error) {
	return storage.Object{}, s.err()
}

// TestSecretsOfTheMachine has storage and signers fail with errors that name files, hosts and keys, and looks for these in
// every answer to every role but operate, which sees those of the health checks.
func TestSecretsOfTheMachine(t *testing.T) {
	t.Parallel()
	const secret = "tattle"
	for _, tt := range []struct {
		name     string
		storage  func() error
		signer   func() error
		wantCode job.Code
	}{
		{"storage plugin", func() error {
			return &plugins.Error{Reason: plugins.ReasonDenied, Message: "bucket tattle-bucket on tattle.internal: key /srv/tattle/key"}
		}, nil, job.CodeStore},
		{"storage plugin, no such file", func() error { return &fs.PathError{Op: "open", Path: "/srv/tattle/x", Err: syscall.EACCES} }, nil, job.CodeStore},
		{"signer", nil, func() error {
			return &plugins.Error{Reason: plugins.ReasonDenied, Message: "slot tattle of /usr/lib/tattle.so", Cause: errors.New("PIN in /etc/tattle/pin")}
		}, job.CodeSigning},
		{"signer, wrapped as text", nil, func() error { return fmt.Errorf("read %s: %w", "/etc/tattle/pin", syscall.EIO) }, job.CodeSigning},
		{"signer with a file", nil, func() error { return &fs.PathError{Op: "open", Path: "/etc/tattle dir/pin", Err: syscall.EACCES} }, job.CodeSigning},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "tattle-data")
			o := newOrigin(t)
			s := setting{dir: dir, options: func(o *engine.Options) {
				o.Attempts, o.RetryDelay = 2, time.Millisecond
				if tt.signer != nil {
					own := signer(t)
					own.Signer = badSigner{own.Signer, tt.signer}
					own.Check = func(context.Context) error { return tt.signer() }
					o.Signers = []engine.Signer{own}
				}
			}}
			if tt.storage != nil {
				s.storage = tattler{directory(t), tt.storage}
			}
			n := open(t, s)
			ask := outside(t, n)
			spec := o.spec(t, "x")
			st := n.wait(n.submit(spec).ID)
			if st.State != job.Failed || st.Error.Code != tt.wantCode {
				t.Fatalf("%s, %v", st.State, st.Error)
			}
			id := st.ID
			paths := []string{
				"/api/v1/jobs/" + id, "/api/v1/jobs/" + id + "/events", "/api/v1/jobs/" + id + "/log", "/api/v1/partials/" + id, "/api/v1/partials/" + id + "/report",
				"/api/v1/partials/" + id + "/provenance", "/api/v1/history", "/api/v1/history?format=csv", "/api/v1/queue", "/__heartbeat__",
				"/metrics", "/", "/history", "/queue", "/jobs/" + id, "/jobs/" + id + "/log",
			}
			for _, role := range []string{"", "read", "submit"} {
				for _, path := range paths {
					status, body := ask(role, "GET", path, nil)
					if status == http.StatusNotFound {
						t.Errorf("%s: %d", path, status)
					}
					if at := bytes.Index(body, []byte(secret)); at >= 0 {
						t.Errorf("%s learns from %s: …%s…", role, path, body[max(0, at-200):min(len(body), at+100)])
					}
				}
				if status, body := ask(role, "POST", "/api/v1/partials", spec); bytes.Contains(body, []byte(secret)) {
					t.Errorf("%s learns from asking again, %d: %s", role, status, body)
				}
			}
			if _, err := n.Upload(t.Context(), bytes.NewReader(o.file(t, spec.From)), alice); tt.storage != nil && (err == nil || strings.Contains(err.Error(), secret)) {
				t.Errorf("an upload says %v", err)
			}
			if _, body := ask("operate", "GET", "/__heartbeat__", nil); !bytes.Contains(body, []byte(secret)) {
				t.Errorf("operators do not see why: %s", body)
			}
		})
	}
}

// badSigner fails.
type badSigner struct {
	mar.Signer
	err func() error
}

func (s badSigner) Sign(context.Context, []byte) ([]byte, error) { return nil, s.err() }
