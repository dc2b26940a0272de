package senbonzakura

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/senbonzakura/senbonzakura/toolchain"
)

var update = flag.Bool("update", false, "rewrite golden files")

// golden compares a text with testdata/golden/name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// general replaces, in JSON that was decoded, what depends on encoders, ports and time.
func general(key string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = general(k, v[k])
		}
		return v
	case []any:
		for i := range v {
			v[i] = general(key, v[i])
		}
		return v
	case float64:
		return "a number"
	case string:
		switch {
		case (key == "recipe" || key == "recipe_id") && strings.Contains(v, "xz"):
			return "an ID"
		case regexp.MustCompile("^[0-9a-f]{128}$").MatchString(v):
			return "512 bits"
		case regexp.MustCompile("^[0-9a-f]{64}$").MatchString(v):
			return "256 bits"
		}
		if key == "why" {
			return regexp.MustCompile(`\d+( bytes|$)`).ReplaceAllString(v, "N$1")
		}
		return regexp.MustCompile(`http://[0-9.:]+/`).ReplaceAllString(v, "http://origin/")
	}
	return v
}

// What stands in provenance is read by other programs: no field may go or change its kind unnoticed.
func TestProvenanceIsAsBefore(t *testing.T) {
	o := newOrigin(t)
	from, to := release(t, "Firefox", "140.1", "de"), release(t, "Firefox", "140.2", "de")
	g := newGenerator(t, "")
	a := o.source("from.mar", from)
	a.URLs[0] = strings.Replace(a.URLs[0], "http://", "http://user:secret@", 1) + "?token=secret"
	res, err := g.Generate(t.Context(), Request{
		From: a, To: o.source("to.mar", to), Locale: "de", Channels: []string{"test"}, Skip: []Check{CheckWatershed},
		Labels: map[string]string{"update_number": "1"},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	text, err := json.Marshal(res.Provenance)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "secret") {
		t.Error("provenance has the URL's credentials")
	}
	var decoded any
	if err := json.Unmarshal(text, &decoded); err != nil {
		t.Fatal(err)
	}
	pretty, err := json.MarshalIndent(general("", decoded), "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "provenance.json", string(pretty)+"\n")
}

// The fields and kinds of values of Mozilla's manifest.json, all of them.
func TestSubmission(t *testing.T) {
	p := &Provenance{
		From: Input{URL: "https://host/from.mar", Size: 1, SHA512: "aa", Build: toolchain.Build{
			Product: "Firefox", Version: "140.1", BuildID: "20260101000000", Platform: "linux",
		}},
		To: Input{URL: "https://host/to.mar", Size: 2, SHA512: "bb", Build: toolchain.Build{
			Product: "Firefox Nightly", Version: "140.2", BuildID: "20260201000000", Platform: "linux",
			SourceRepository: "https://hg.example.org/releases/mozilla-release", SourceStamp: "cc",
		}},
		Output: Output{Size: 3, SHA512: "dd", Channel: "firefox-mozilla-release", Version: "140.2"},
		Locale: "de",
		Labels: map[string]string{
			"mar": "target-140.1.partial.mar", "update_number": "1", "previousVersion": "140.1", "previousBuildNumber": "2",
			"toVersion": "140.2", "toBuildNumber": "3", "unknown": "stays in the provenance alone",
		},
	}
	text, err := json.MarshalIndent(p.Submission(), "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "submission.json", string(text)+"\n")

	p.Labels = map[string]string{"branch": "try", "platform": "linux64", "locale": "en-US"}
	if s := p.Submission(); s.Branch != "try" || s.Platform != "linux64" || s.Locale != "en-US" || s.UpdateNumber != "" {
		t.Errorf("submission %+v: labels replace what the completes say", s)
	}
}
