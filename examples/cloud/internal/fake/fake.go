// Package fake is what the small imitations of key services have in common.
package fake

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
)

// Main serves with a new key until the process is ended.
func Main(serve func(key *rsa.PrivateKey) error) {
	key, err := rsa.GenerateKey(rand.Reader, 4096)
	if err == nil {
		err = serve(key)
	}
	slog.Error("it ended", "error", err)
	os.Exit(1)
}

// Answer answers with JSON.
func Answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(value); err != nil {
		slog.Error("answer", "error", err)
	}
}
