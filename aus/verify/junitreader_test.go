package verify

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// junitReader counts what junitparser (python3-junitparser of Debian, junitparser of PyPI) reads.
const junitReader = `
import json, sys, junitparser
got = {"Tests": 0, "Fail": 0, "Error": 0, "Skipped": 0, "Named": set(), "Text": 0}
file = junitparser.JUnitXml.fromfile(sys.argv[1])
for suite in file:
    said = (suite.tests, suite.failures, suite.errors, suite.skipped)
    cases = list(suite)
    seen = [len(cases), 0, 0, 0]
    for case in cases:
        got["Named"].add((case.classname, case.name))
        for result in case.result:
            for i, kind in enumerate([junitparser.Failure, junitparser.Error, junitparser.Skipped]):
                if isinstance(result, kind):
                    seen[i + 1] += 1
                    got["Text"] = max(got["Text"], len(result.text or ""))
    if said != tuple(seen):
        sys.exit("a suite says %r and has %r" % (said, seen))
    for i, key in enumerate(["Tests", "Fail", "Error", "Skipped"]):
        got[key] += seen[i]
got["Named"] = len(got["Named"])
json.dump(got, sys.stdout)
`

// JUnit files are read by a reader that others wrote: every sample, and ten thousand failures.
func TestJUnitReader(t *testing.T) {
	t.Parallel()
	python := ""
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(t.Context(), name, "-c", "import junitparser").Run() == nil {
			python = name
			break
		}
	}
	if python == "" {
		t.Skip("no Python with junitparser is installed (apt-get install python3-junitparser)")
	}
	reports := map[string]*Report{"many": tenThousand(t)}
	for _, s := range samples(t) {
		if s.name == "14-hundreds-two-failures" || s.name == "11-task-killed" || s.name == "20-final-verification" {
			reports[s.name] = read(t, s.text)
		}
	}
	for name, report := range reports {
		file := filepath.Join(t.TempDir(), "junit.xml")
		f, err := os.Create(file)
		if err == nil {
			err = report.WriteJUnit(f)
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		said, err := exec.CommandContext(t.Context(), python, "-c", junitReader, file).Output()
		if err != nil {
			t.Errorf("%s: %v: %s", name, err, said)
			continue
		}
		var got struct{ Tests, Fail, Error, Skipped, Named, Text int }
		if err := json.Unmarshal(said, &got); err != nil {
			t.Fatal(err)
		}
		want := report.Totals()
		if got.Tests != want.Tests || got.Named != want.Tests || got.Fail != want.Fail || got.Error != want.Error+want.Interrupted || got.Skipped != want.NotRun+want.Known {
			t.Errorf("%s: read %+v, want %+v", name, got, want)
		}
		if got.Text == 0 && want.Fail > 0 {
			t.Errorf("%s: no failure says why", name)
		}
	}
}
