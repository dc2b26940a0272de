package signing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Outcome is what a Record tells.
type Outcome string

// The outcomes. Each request that passes the policy has a record Asked and then one of Signed and Failed; an
// Asked alone means that the host died in between. Refused stands for itself.
const (
	Asked   Outcome = "asked"
	Signed  Outcome = "signed"
	Failed  Outcome = "failed"
	Refused Outcome = "refused"
)

// Record is one line of a journal.
type Record struct {
	Time    time.Time `json:"time"`    // when the line was written, in UTC
	Request string    `json:"request"` // its ID, the same in all lines about it
	Outcome Outcome   `json:"outcome"` // what became of it
	// Plugin, Key and KeyID say who was asked: the plugin's name, the KeyRef's and the plugin's own for it.
	Plugin string `json:"plugin"`
	Key    string `json:"key"`
	KeyID  string `json:"key_id"`
	// Fingerprint of the configured public key.
	Fingerprint string `json:"fingerprint"`
	Algorithm   string `json:"algorithm"` // of the signature
	// Channel and Version are the archive's product information.
	Channel string `json:"channel,omitempty"`
	Version string `json:"version,omitempty"`
	// Digest that was to be signed, and SHA-256 of the signature, in hexadecimal.
	Digest    string `json:"digest,omitempty"`
	Signature string `json:"signature_sha256,omitempty"` // SHA-256 of it
	Error     string `json:"error,omitempty"`            // why there is no signature
}

// Journal keeps a record of all signing.
type Journal interface {
	// Record must keep the record for good before it returns nil. When it fails for an Asked record the
	// plugin is not asked, and for a Signed one the signature is not used. It may be called from several
	// goroutines.
	Record(ctx context.Context, r Record) error
}

// FileJournal appends records to a file, one line of JSON each, and has each on the disk before it goes on.
// Several processes may write to one file on a local file system. Safe for concurrent use.
type FileJournal struct {
	mu sync.Mutex
	f  *os.File
}

// OpenJournal opens a journal for appending, and makes it where there is none.
func OpenJournal(name string) (*FileJournal, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	// The file's name must last as well. A system that cannot sync directories says so with an error.
	if dir, err := os.Open(filepath.Dir(name)); err == nil {
		_ = dir.Sync()
		dir.Close()
	}
	return &FileJournal{f: f}, nil
}

// Record implements Journal.
func (j *FileJournal) Record(_ context.Context, r Record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.f.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if err := j.f.Sync(); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// Close closes the file.
func (j *FileJournal) Close() error {
	if err := j.f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close journal: %w", err)
	}
	return nil
}
