package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/senbonzakura/senbonzakura/examples/cloud/internal/standin"
	"github.com/senbonzakura/senbonzakura/plugins/storage/storagetest"
)

func TestMain(m *testing.M) { standin.Main(m, main) }

func TestConformance(t *testing.T) {
	program := standin.Program(t, "SENBON_REGISTRY", "docker-registry", "docker-registry from Debian")
	address := standin.Address(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	text := "version: 0.1\nlog: {level: warn}\nstorage: {filesystem: {rootdirectory: " + dir + "}, delete: {enabled: true}}\nhttp: {addr: '" + address + "'}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	standin.Start(t, false, nil, program, "serve", config)
	standin.Wait(t, "http://"+address+"/v2/")
	cfg := standin.Plugin(t, []string{"-plain-http", address + "/team/updates"})
	storagetest.CheckBinary(t.Context(), cfg, nil).Apply(t)
}
