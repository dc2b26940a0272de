package main

import (
	"path/filepath"
	"testing"

	"github.com/senbonzakura/senbonzakura/examples/cloud/internal/standin"
	"github.com/senbonzakura/senbonzakura/plugins/signing/signingtest"
)

func TestMain(m *testing.M) { standin.Main(m, main) }

func TestConformance(t *testing.T) {
	certificate := filepath.Join(t.TempDir(), "fake.pem")
	vault := standin.Start(t, true, nil, standin.Build(t, "../internal/fake-azurekv"), certificate)
	cfg := standin.Plugin(t, []string{"-emulator", "release=" + vault + "/keys/release"},
		"SSL_CERT_FILE="+certificate, "IDENTITY_ENDPOINT="+vault+"/token", "IDENTITY_HEADER=x")
	signingtest.CheckBinary(t.Context(), cfg, &signingtest.Options{Key: "release"}).Apply(t)
}
