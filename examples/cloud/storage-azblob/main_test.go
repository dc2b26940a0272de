package main

import (
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/senbonzakura/senbonzakura/examples/cloud/internal/standin"
	"github.com/senbonzakura/senbonzakura/plugins/storage/storagetest"
)

func TestMain(m *testing.M) { standin.Main(m, main) }

func TestConformance(t *testing.T) {
	program := standin.Program(t, "SENBON_AZURITE", "azurite-blob", "azurite from npm")
	address := standin.Address(t)
	host, port, _ := strings.Cut(address, ":")
	standin.Start(t, false, []string{"AZURITE_ACCOUNTS=alice:b3BlbiBzZXNhbWU="}, program,
		"--blobHost", host, "--blobPort", port, "--location", t.TempDir(), "--skipApiVersionCheck", "--silent", "--disableTelemetry")
	standin.Wait(t, "http://"+address)
	connection := "DefaultEndpointsProtocol=http;AccountName=alice;AccountKey=b3BlbiBzZXNhbWU=;BlobEndpoint=http://" + address + "/alice;"
	client, err := container.NewClientFromConnectionString(connection, "updates", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	cfg := standin.Plugin(t, []string{"-prefix", "team/", "updates"})
	cfg.Secrets = standin.Secret("CONNECTION_FD", connection)
	storagetest.CheckBinary(t.Context(), cfg, nil).Apply(t)
}
