// Command transit is the transit engine of HashiCorp Vault by itself, in memory, behind as much of Vault's HTTP interface as
// signer-vault needs. The engine is Vault's own code; who may ask is not: the token is "root".
//
//	transit ADDRESS
package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/builtin/logical/transit"
	"github.com/hashicorp/vault/sdk/logical"
)

func main() {
	slog.Error("it ended", "error", run())
	os.Exit(1)
}

func run() error {
	storage := &logical.InmemStorage{}
	engine, err := transit.Factory(context.Background(), &logical.BackendConfig{
		StorageView: storage, Logger: hclog.NewNullLogger(), System: logical.TestSystemView(),
	})
	if err != nil {
		return err
	}
	http.HandleFunc("/v1/transit/{path...}", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Vault-Token") != "root" {
			answer(w, http.StatusForbidden, map[string]any{"errors": []string{"permission denied"}})
			return
		}
		request := &logical.Request{Operation: logical.ReadOperation, Path: r.PathValue("path"), Storage: storage, Data: map[string]any{}}
		if r.Method != http.MethodGet {
			request.Operation = logical.UpdateOperation
			if err := json.NewDecoder(r.Body).Decode(&request.Data); err != nil {
				answer(w, http.StatusBadRequest, map[string]any{"errors": []string{err.Error()}})
				return
			}
		}
		response, err := engine.HandleRequest(r.Context(), request)
		switch {
		case err != nil:
			answer(w, http.StatusBadRequest, map[string]any{"errors": []string{err.Error()}})
		case response.IsError():
			answer(w, http.StatusBadRequest, map[string]any{"errors": []string{response.Error().Error()}})
		case response == nil:
			answer(w, http.StatusNotFound, map[string]any{"errors": []string{}})
		default:
			answer(w, http.StatusOK, map[string]any{"data": response.Data})
		}
	})
	return http.ListenAndServe(os.Args[1], nil) //nolint:gosec // it lives as long as one test
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(value); err != nil {
		slog.Error("answer", "error", err)
	}
}
