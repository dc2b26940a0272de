package cache_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// childVariable says which of the children below this process is, when a test has started it.
const childVariable = "SENBON_CACHE_CHILD"

var children = map[string]func(args []string) error{}

// TestMain runs the tests in memory where it can: they make and remove many small files, and what is to survive a
// power cut is tested apart.
func TestMain(m *testing.M) {
	if child, ok := children[os.Getenv(childVariable)]; ok {
		if err := child(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	testkit.InMemory()
	goleak.VerifyTestMain(m)
}
