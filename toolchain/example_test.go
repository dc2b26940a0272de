package toolchain_test

import (
	"errors"
	"fmt"

	"github.com/senbonzakura/senbonzakura/toolchain"
)

func ExampleSet_Select() {
	set := toolchain.DefaultSet()
	sel, err := set.Select(
		toolchain.Build{Product: "Firefox", Version: "153.5.1", Platform: "linux"},
		toolchain.Build{Product: "Firefox", Version: "153.6.0", Platform: "linux"},
		nil,
	)
	fmt.Println(sel.Client.Patches.Value, sel.Client.Signature.Value, err)

	_, err = set.Select(
		toolchain.Build{Product: "Firefox", Version: "50.0", Platform: "linux"},
		toolchain.Build{Product: "Firefox", Version: "60.0", Platform: "linux"},
		nil,
	)
	var crossed *toolchain.WatershedError
	if errors.As(err, &crossed) {
		fmt.Println("first to", crossed.Hops[0].Version)
	}
	// Output:
	// [mbdiff10 zucchini] rsa-pkcs1-sha384 <nil>
	// first to 57.0.4
}

// A fork has version numbers of its own: its rules are data. Eras go by the version of Gecko, watersheds by the fork's.
func ExampleParseRules() {
	rules, err := toolchain.ParseRules([]byte(`
product = "Icefox"

[[era]]
since = "0"
compression = "xz"
manifests = [3]
signature = "sha384"
patches = ["mbdiff10"]

[[era]]
since = "144.0"
patches = ["mbdiff10", "zucchini"]

[[watershed]]
version = "5.0"
reason = "profiles are converted"
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	set, err := toolchain.NewSet(append(toolchain.BuiltinRules(), rules), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = set.Select(
		toolchain.Build{Product: "Icefox", Version: "4.2"},
		toolchain.Build{Product: "Icefox", Version: "7.1"},
		nil,
	)
	fmt.Println(err)
	// Output: no direct update from 4.2 to 7.1: go 4.2 → 5.0 → 7.1 (5.0: profiles are converted)
}

func ExampleCompare() {
	fmt.Println(toolchain.Compare("12.0a1", "12.0"), toolchain.Compare("1.0+", "1.1pre"), toolchain.Compare("153.*", "153.6"))
	// Output: -1 0 1
}
