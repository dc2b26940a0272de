package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/engine"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/plugins"
)

// A complete update that is damaged, or that cannot be read, is blamed on whoever it came from: on the caller where its bytes
// are what the hash says, on this service where they were damaged in its cache or its disk fails, and tried again then.
func TestJudgeDamage(t *testing.T) {
	t.Parallel()
	corrupt := fmt.Errorf("%w: SHA-512 is 01, was 02 when it was opened", cache.ErrCorrupt)
	format := fmt.Errorf("read index: %w", mar.ErrFormat)
	content := &mar.ContentError{Name: "libxul.so", Declared: 5, Got: 3}
	disk := &fs.PathError{Op: "read", Path: "/var/cache/x", Err: syscall.EIO}
	for _, tt := range []struct {
		name  string
		err   error
		code  job.Code
		fault job.Fault
		field string
		tries int
	}{
		{"damaged in the cache, FROM", &senbonzakura.InputError{Input: "FROM", Err: corrupt}, job.CodeUnavailable, job.FaultService, "", 5},
		{"damaged in the cache, TO, found while it was read", &senbonzakura.InputError{Input: "TO", Err: errors.Join(corrupt, format)}, job.CodeUnavailable, job.FaultService, "", 5},
		{"damaged where what is made is kept", engine.KeepError(corrupt), job.CodeStore, job.FaultService, "", 5},
		{"no MAR, FROM", &senbonzakura.InputError{Input: "FROM", Err: format}, job.CodeInvalidMAR, job.FaultCaller, "from", 1},
		{"a member of TO", &partial.InputError{Input: "TO", Err: content}, job.CodeInvalidMAR, job.FaultCaller, "to", 1},
		{"the disk", &senbonzakura.InputError{Input: "FROM", Err: disk}, job.CodeUnavailable, job.FaultService, "", 5},
		{"no room", &senbonzakura.InputError{Input: "FROM", Err: cache.ErrNoSpace}, job.CodeStore, job.FaultService, "", 5},
		{"cut off", &senbonzakura.InputError{Input: "FROM", Err: context.DeadlineExceeded}, job.CodeInternal, job.FaultService, "", 2},
	} {
		got, tries := engine.Judge(tt.err)
		if got.Code != tt.code || got.Whose() != tt.fault || got.Fault != tt.fault || got.Field != tt.field || tries != tt.tries || got.Retryable != (tries == 5) {
			t.Errorf("%s: got %+v, %d tries, want %s, %s, %q, %d", tt.name, got, tries, tt.code, tt.fault, tt.field, tt.tries)
		}
		if strings.Contains(got.Message, "/var/") {
			t.Errorf("%s: a path in %q", tt.name, got.Message)
		}
	}
}

// What plugins say, and where files are, is not in what callers are told, also where it came into the texts of other errors.
func TestJudgeTellsNoSecrets(t *testing.T) {
	t.Parallel()
	denied := &plugins.Error{Reason: plugins.ReasonDenied, Message: "bucket tattle-bucket, key /srv/tattle/key"}
	for _, err := range []error{
		engine.KeepError(fmt.Errorf("put: %s: %w", denied.Message, denied)),
		engine.KeepError(errors.Join(&plugins.Error{Reason: plugins.ReasonUnavailable, Message: "busy"}, denied, errors.New(denied.Message))),
		engine.KeepError(fmt.Errorf("link /srv/tattle: %w", &os.LinkError{Op: "rename", Old: "/srv/tattle/a", New: `C:\tattle\b`, Err: syscall.ENOSPC})),
		&mar.SignError{Err: fmt.Errorf("slot: %s: %w", denied.Message, denied)},
		fmt.Errorf("open /srv/tattle/x: %w", syscall.EIO),
		errors.New(`cannot read "/srv/tattle/x"`),
	} {
		if got, _ := engine.Judge(err); strings.Contains(got.Message, "tattle") || got.Whose() != job.FaultService {
			t.Errorf("%v is told as %s, %q", err, got.Code, got.Message)
		}
	}
}
