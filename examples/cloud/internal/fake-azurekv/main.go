// Command fake-azurekv speaks as much of the protocol of Azure Key Vault as signer-azurekv needs, over TLS: a challenge for a
// token, the token of a managed identity, one key with one version, and RS384 signatures by it.
//
//	fake-azurekv CERTIFICATE
//
// It writes the certificate that it can be trusted by, and prints its address.
package main

import (
	"crypto"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/cloud/internal/fake"
)

const token = "token-of-the-fake"

func main() { fake.Main(serve) }

func serve(key *rsa.PrivateKey) error {
	mux := http.NewServeMux()
	server := httptest.NewTLSServer(mux)
	text := base64.RawURLEncoding.EncodeToString
	// guarded is for who has a token; others are told where to get one.
	guarded := func(do http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer "+token {
				w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.microsoftonline.com/tenant", resource="https://vault.azure.net"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			do(w, r)
		}
	}
	mux.HandleFunc("GET /token", func(w http.ResponseWriter, _ *http.Request) {
		fake.Answer(w, map[string]any{"access_token": token, "expires_on": fmt.Sprint(time.Now().Add(time.Hour).Unix()), "token_type": "Bearer", "resource": "https://vault.azure.net"})
	})
	mux.HandleFunc("GET /keys/release/{version...}", guarded(func(w http.ResponseWriter, _ *http.Request) {
		fake.Answer(w, map[string]any{"key": map[string]any{
			"kid": server.URL + "/keys/release/v1", "kty": "RSA", "n": text(key.N.Bytes()), "e": text(big.NewInt(int64(key.E)).Bytes()),
		}})
	}))
	mux.HandleFunc("POST /keys/release/v1/sign", guarded(func(w http.ResponseWriter, r *http.Request) {
		var request struct{ Alg, Value string }
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil || request.Alg != "RS384" {
			http.Error(w, "want RS384", http.StatusBadRequest)
			return
		}
		digest, err := base64.RawURLEncoding.DecodeString(request.Value)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA384, digest)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fake.Answer(w, map[string]any{"kid": server.URL + "/keys/release/v1", "value": text(signature)})
	}))
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(os.Args[1], certificate, 0o600); err != nil {
		return err
	}
	fmt.Println(server.URL)
	select {}
}
