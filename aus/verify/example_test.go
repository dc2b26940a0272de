package verify_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/senbonzakura/senbonzakura/aus/verify"
)

// A log of the scripts, with one update that does not lead to the new build.
const exampleLog = `command: START
command: cat /tmp/chunk
command: output:
release="153.0" product="Firefox" platform="Linux_x86_64-gcc3" build_id="20260420111213" locales="de fr" channel="release" from="/a" to="/b" to_display_version="153.6.0"
command: END (0.01s elapsed)
command: START
command: bash verify.sh -c /tmp/chunk
command: output:
Using config file /tmp/chunk
Using  https://aus.example.org/update/3/Firefox/153.0/20260420111213/Linux_x86_64-gcc3/de/release/default/default/default/update.xml?force=1
Comparing source/firefox with target/firefox...
No differences found
Using  https://aus.example.org/update/3/Firefox/153.0/20260420111213/Linux_x86_64-gcc3/fr/release/default/default/default/update.xml?force=1
Comparing source/firefox with target/firefox...
Files only in target/firefox:
  precomplete
TEST-UNEXPECTED-FAIL: differences found after update
TEST-UNEXPECTED-FAIL: [153.0 fr complete] check_updates returned failure for Linux_x86_64-gcc3 a vs. b: 1
command: END (1.00s elapsed)
Scanning log for failures and warnings
`

func ExampleRead() {
	report, err := verify.Read(context.Background(), []verify.Log{{
		Name: "chunk.log",
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(exampleLog)), nil },
	}}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, g := range report.Groups {
		fmt.Printf("%s: %s: %s\n", g.Members, g.Title, g.What)
	}
	fmt.Println("passed:", report.Passed(false))
	// Output:
	// 153.0  fr  complete: the updated tree is not the installed one: precomplete is missing
	// passed: false
}

func ExampleReport_WriteText() {
	report, err := verify.Read(context.Background(), []verify.Log{{
		Name: "chunk.log",
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(exampleLog)), nil },
	}}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := report.WriteText(os.Stdout, &verify.TextOptions{Width: 80}); err != nil {
		fmt.Println(err)
	}
	// Output:
	// update verify  Firefox 153.6.0  Linux_x86_64-gcc3  release  2 tests in 1 log, 20 lines
	//
	//   FAILED   1 of 2        passed 1   warned 0   not run 0
	//
	//   1  the updated tree is not the installed one                            1 test
	//      153.0 -> 153.6.0  fr  complete
	//        precomplete   is missing
	//      de passes -> only the list of files that packaging writes differs
	//      (precomplete): the MAR and the installer were packaged apart
	//      next: compare the complete MAR with TO's installer: marctl extract MAR DIR
	//      chunk.log:15
	//
	//   passed  153.0     2 locales   complete 1 of 2
}

func ExampleReadConfig() {
	lines, warnings, err := verify.ReadConfig(strings.NewReader(
		`release="153.0" product="Firefox" platform="Linux_x86_64-gcc3" build_id="20260420111213" locales="de fr" channel="release"`))
	fmt.Println(len(lines), len(lines[0].Tests()), warnings, err)
	_, _, err = verify.ReadConfig(strings.NewReader(`release="$(whoami)"`))
	fmt.Println(err)
	// Output:
	// 1 2 [] <nil>
	// line 1: '$' in the value of release: a configuration is read, never run
}
