package engine_test

import (
	"bytes"
	"context"
	"encoding/json"
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
		{"storage plugin, wrapped as text", func() error { return fmt.Errorf("lstat /srv/tattle/%d: %w", 7, syscall.ENOSPC) }, nil, job.CodeStore},
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
			b, err := n.SubmitBatch(t.Context(), []job.Spec{spec}, nil, alice)
			if err != nil {
				t.Fatal(err)
			}
			n.wait(id)
			paths := append(everyGet(t, ask, id, b.ID), "/api/v1/history?format=csv", "/__heartbeat__", "/__lbheartbeat__", "/__version__", "/metrics", "/", "/?again="+id,
				"/history", "/history?batch="+b.ID, "/queue", "/health", "/jobs/"+id, "/jobs/"+id+"/log", "/batches/"+b.ID, "/batches/new", "/login", "/problems", "/api",
				"/partial/"+spec.From.SHA512+"-"+spec.To.SHA512, "/v1/partial/"+spec.From.SHA512+"-"+spec.To.SHA512)
			for _, role := range []string{"", "read", "submit"} {
				for _, path := range paths {
					status, body := ask(role, "GET", path, nil)
					if status == http.StatusNotFound && !strings.Contains(path, "/partial") && !strings.Contains(path, "/batches/") {
						t.Errorf("%s: %d", path, status)
					}
					if at := bytes.Index(body, []byte(secret)); at >= 0 {
						t.Errorf("%s learns from %s: …%s…", role, path, body[max(0, at-200):min(len(body), at+100)])
					}
				}
				for path, body := range map[string]any{
					"/api/v1/partials": spec, "/api/v1/partials:check": spec, "/api/v1/batches": map[string]any{"specs": []job.Spec{spec}},
					"/api/v1/jobs/" + id + "/retry": nil, "/api/v1/batches/" + b.ID + "/retry": nil, "/jobs/" + id + "/retry": nil, "/jobs/" + id + "/again": nil,
					"/batches/" + b.ID + "/retry": nil, "/api/v1/uploads": nil,
				} {
					if status, body := ask(role, "POST", path, body); bytes.Contains(body, []byte(secret)) {
						t.Errorf("%s learns from asking again at %s, %d: %s", role, path, status, body)
					}
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

// everyGet returns the addresses of everything in the API that is got, of a job and a batch, but for what only operators get.
func everyGet(t *testing.T, ask func(role, method, path string, body any) (int, []byte), id, batch string) []string {
	t.Helper()
	var doc struct {
		Paths map[string]map[string]any
	}
	if _, body := ask("", "GET", "/openapi.json", nil); json.Unmarshal(body, &doc) != nil || len(doc.Paths) < 15 {
		t.Fatalf("the document has %d paths", len(doc.Paths))
	}
	var out []string
	for path, operations := range doc.Paths {
		if operations["get"] == nil || path == "/api/v1/actions" || path == "/api/v1/bans" {
			continue
		}
		what := id
		if strings.Contains(path, "/batches/") {
			what = batch
		}
		out = append(out, strings.ReplaceAll(path, "{id}", what))
	}
	return out
}

// badSigner fails.
type badSigner struct {
	mar.Signer
	err func() error
}

func (s badSigner) Sign(context.Context, []byte) ([]byte, error) { return nil, s.err() }
