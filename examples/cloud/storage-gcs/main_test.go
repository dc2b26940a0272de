package main

import (
	"strings"
	"testing"

	"google.golang.org/api/option"
	gcs "google.golang.org/api/storage/v1"

	"github.com/senbonzakura/senbonzakura/examples/cloud/internal/standin"
	"github.com/senbonzakura/senbonzakura/plugins/storage/storagetest"
)

func TestMain(m *testing.M) { standin.Main(m, main) }

func TestConformance(t *testing.T) {
	program := standin.Program(t, "SENBON_FAKE_GCS", "fake-gcs-server", "github.com/fsouza/fake-gcs-server")
	address := standin.Address(t)
	host, port, _ := strings.Cut(address, ":")
	standin.Start(t, false, nil, program, "-scheme", "http", "-host", host, "-port", port, "-backend", "memory", "-data", t.TempDir())
	standin.Wait(t, "http://"+address+"/storage/v1/b")
	service, err := gcs.NewService(t.Context(), option.WithEndpoint("http://"+address+"/storage/v1/"), option.WithoutAuthentication())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := service.Buckets.Insert("project", &gcs.Bucket{Name: "updates"}).Do(); err != nil {
		t.Fatal(err)
	}
	cfg := standin.Plugin(t, []string{"-endpoint", "http://" + address, "-prefix", "team/", "updates"})
	storagetest.CheckBinary(t.Context(), cfg, nil).Apply(t)
}
