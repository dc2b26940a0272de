package partial_test

import (
	"testing"

	"github.com/senbonzakura/senbonzakura/partial/difftest"
)

// The example's differ keeps the contract, as what is copied should.
func TestExampleDiffer(t *testing.T) {
	t.Parallel()
	difftest.Run(t, whole{})
}
