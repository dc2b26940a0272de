package main

import (
	"testing"

	"github.com/senbonzakura/senbonzakura/examples/cloud/internal/standin"
	"github.com/senbonzakura/senbonzakura/plugins/signing/signingtest"
)

func TestMain(m *testing.M) { standin.Main(m, main) }

func TestConformance(t *testing.T) {
	endpoint := standin.Start(t, true, nil, standin.Build(t, "../internal/fake-gcpkms"))
	cfg := standin.Plugin(t, []string{"-endpoint", endpoint, "release=projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"})
	signingtest.CheckBinary(t.Context(), cfg, &signingtest.Options{Key: "release"}).Apply(t)
}
