// Command fake-gcpkms speaks as much of the protocol of Google Cloud KMS as signer-gcpkms needs: the public key of one key
// version, and raw PKCS #1 signatures by it. It prints its address.
package main

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"

	"github.com/senbonzakura/senbonzakura/examples/cloud/internal/fake"
)

// keyVersion is the only key.
const keyVersion = "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"

func main() { fake.Main(serve) }

func serve(key *rsa.PrivateKey) error {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	public := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	http.HandleFunc("GET /v1/"+keyVersion+"/publicKey", func(w http.ResponseWriter, _ *http.Request) {
		fake.Answer(w, map[string]any{"pem": public, "algorithm": "RSA_SIGN_RAW_PKCS1_4096", "name": keyVersion})
	})
	http.HandleFunc("POST /v1/{call...}", func(w http.ResponseWriter, r *http.Request) {
		var request struct{ Data []byte }
		if r.PathValue("call") != keyVersion+":asymmetricSign" || json.NewDecoder(r.Body).Decode(&request) != nil {
			http.NotFound(w, r)
			return
		}
		// Raw: what is signed is padded, and nothing said about a hash.
		signature, err := rsa.SignPKCS1v15(nil, key, crypto.Hash(0), request.Data)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fake.Answer(w, map[string]any{"signature": signature, "name": keyVersion})
	})
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", listener.Addr())
	return http.Serve(listener, nil) //nolint:gosec // it lives as long as one test
}
