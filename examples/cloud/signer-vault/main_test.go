package main

import (
	"strings"
	"testing"

	vault "github.com/hashicorp/vault/api"

	"github.com/senbonzakura/senbonzakura/examples/cloud/internal/standin"
	"github.com/senbonzakura/senbonzakura/plugins/signing"
	"github.com/senbonzakura/senbonzakura/plugins/signing/signingtest"
)

func TestMain(m *testing.M) { standin.Main(m, main) }

func TestConformance(t *testing.T) {
	address := standin.Address(t)
	standin.Start(t, false, nil, standin.Program(t, "SENBON_TRANSIT", "transit", "it from internal/transit"), address)
	standin.Wait(t, "http://"+address)
	client, err := vault.NewClient(&vault.Config{Address: "http://" + address})
	if err != nil {
		t.Fatal(err)
	}
	client.SetToken("root")
	if _, err := client.Logical().WriteWithContext(t.Context(), "transit/keys/mar", map[string]any{"type": "rsa-4096"}); err != nil {
		t.Fatal(err)
	}
	cfg := standin.Plugin(t, []string{"release=mar"}, "VAULT_ADDR=http://"+address)
	cfg.Secrets = standin.Secret("VAULT_TOKEN_FD", "root")
	signingtest.CheckBinary(t.Context(), cfg, &signingtest.Options{Key: "release"}).Apply(t)

	cfg.Secrets = standin.Secret("VAULT_TOKEN_FD", "stranger")
	if _, err := signing.Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "denied") {
		t.Errorf("with another token: got %v", err)
	}
}
