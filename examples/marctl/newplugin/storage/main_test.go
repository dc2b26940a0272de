// A test of the store without a process: marctl plugin check tries the program.
package main

import (
	"testing"

	"github.com/senbonzakura/senbonzakura/plugins/storage/storagetest"
)

func TestConformance(t *testing.T) {
	s, err := openStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	storagetest.Run(t, s, nil)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
