package main

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/senbonzakura/senbonzakura/examples/cloud/internal/standin"
	"github.com/senbonzakura/senbonzakura/plugins/signing/signingtest"
)

func TestMain(m *testing.M) { standin.Main(m, main) }

func TestConformance(t *testing.T) {
	program := standin.Program(t, "SENBON_LOCAL_KMS", "local-kms", "github.com/nsmithuk/local-kms")
	address := standin.Address(t)
	_, port, _ := strings.Cut(address, ":")
	standin.Start(t, false, []string{"PORT=" + port, "KMS_DATA_PATH=" + t.TempDir()}, program)
	standin.Wait(t, "http://"+address)
	env := map[string]string{
		"AWS_REGION": "eu-west-2", "AWS_ENDPOINT_URL_KMS": "http://" + address, "AWS_ACCESS_KEY_ID": "alice", "AWS_SECRET_ACCESS_KEY": "open-sesame",
	}
	var pairs []string
	for name, value := range env {
		t.Setenv(name, value)
		pairs = append(pairs, name+"="+value)
	}
	settings, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key, err := kms.NewFromConfig(settings).CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: types.KeySpecRsa4096, KeyUsage: types.KeyUsageTypeSignVerify})
	if err != nil {
		t.Fatal(err)
	}
	cfg := standin.Plugin(t, []string{"release=" + *key.KeyMetadata.Arn}, pairs...)
	signingtest.CheckBinary(t.Context(), cfg, &signingtest.Options{Key: "release"}).Apply(t)
}
