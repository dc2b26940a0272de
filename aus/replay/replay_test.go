package replay_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/aus/replay"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// recorded returns the documents that were recorded with a real server.
func recorded(t *testing.T) map[string][]replay.Document {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(testkit.Shared(t, "testdata", "balrog"), "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	all := map[string][]replay.Document{}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		documents, skipped, err := replay.Read(f)
		f.Close()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if skipped > 0 && !strings.HasPrefix(filepath.Base(name), "20-") {
			t.Errorf("%s: %d documents are left out", name, skipped)
		}
		all[filepath.Base(name)] = documents
	}
	return all
}

// Every answer of the real server is given again, its faults included, and each of these faults is a problem that Compile
// names, but for what only depends on the client (rows 18 and 29 of the quirks).
func TestStrict(t *testing.T) {
	t.Parallel()
	answers, faults := 0, 0
	for name, documents := range recorded(t) {
		for _, d := range documents {
			_, problems := aus.Compile(d.Config)
			var named aus.Quirks
			for _, p := range problems {
				named |= 1 << p.Quirk
			}
			for _, r := range d.Run(true) {
				answers++
				if len(r.Differences) > 0 {
					t.Errorf("%s: %s: %s", name, d.Title, r.String())
				}
				if r.Got.Status != 500 {
					continue
				}
				faults++
				q := r.Got.Answer.Quirks
				if !q.Has(aus.QuirkFromLocale) && !q.Has(aus.QuirkClientFault) && q&named == 0 {
					t.Errorf("%s: %s: %s: Compile does not say that %s (%v)", name, d.Title, r.Query.Path, r.Got.Answer.Fault, problems)
				}
			}
		}
	}
	if answers != 3663 || faults == 0 {
		t.Errorf("%d answers of which %d faults, want 3663", answers, faults)
	}
}

// By default every difference comes with the quirk that it is for, and there is never a 500.
func TestDefault(t *testing.T) {
	t.Parallel()
	same, allowed := 0, 0
	for name, documents := range recorded(t) {
		for _, d := range documents {
			for _, r := range d.Run(false) {
				switch {
				case len(r.Differences) == 0:
					same++
				case r.Allowed == "":
					t.Errorf("%s: %s: %s", name, d.Title, r.String())
				default:
					allowed++
				}
			}
		}
	}
	t.Logf("%d equal, %d different for a quirk", same, allowed)
	if same < 3000 {
		t.Errorf("%d answers are equal, want at least 3000", same)
	}
}

// The real server's verdict on each blob, and the step that refuses it. By default two things are judged otherwise.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	documents := recorded(t)["16-validate.json"]
	if len(documents) != 311 {
		t.Fatalf("%d blobs, want 311", len(documents))
	}
	var hashes, conflicts []string
	for _, d := range documents {
		if difference, _ := d.Judge(true); difference != "" {
			t.Errorf("%s: %s", d.Title, difference)
		}
		switch difference, allowed := d.Judge(false); {
		case difference == "":
		case allowed == "length of hashes":
			hashes = append(hashes, d.Title)
		case allowed == aus.QuirkConflicts.String():
			conflicts = append(conflicts, d.Title)
		default:
			t.Errorf("%s: %s", d.Title, difference)
		}
		// With hashes of the right length only conflicts are judged otherwise.
		long := strings.ReplaceAll(string(d.Blob), `"ab12c4"`, `"`+strings.Repeat("ab12", 32)+`"`)
		long = strings.ReplaceAll(long, `"ab12p34"`, `"`+strings.Repeat("ab12", 32)+`"`)
		d.Blob = []byte(long)
		if difference, allowed := d.Judge(false); difference != "" && allowed == aus.QuirkConflicts.String() && strings.HasPrefix(d.Title, "updateLine") {
			conflicts = append(conflicts, d.Title)
		}
	}
	slices.Sort(conflicts)
	want := []string{
		"updateLine buildIDs 100 and 101", "updateLine buildIDs <100 and >1000", "updateLine buildIDs <100 and >=100",
		"updateLine versions 10.0 and 11.0", "updateLine versions <10.0.1 and >10.0",
	}
	if got := slices.Compact(conflicts); !slices.Equal(got, want) {
		t.Errorf("conflicts that are judged otherwise: %q, want %q", got, want)
	}
	t.Logf("refused for their hashes: %d", len(hashes))
}

const document = `[{"title": "small", "allowlist": {"dl.example": ["Fox"]},
	"releases": {"V": {"name": "V", "schema_version": 10000, "version": "2.0", "required": true, "hashFunction": "sha512", "platforms": {"win": {"fileUrl": "https://dl.example/v", "hashValue": "00"}}}},
	"rules": [{"product": "Fox", "mapping": "V"}, {"product": "Bird", "mapping": "V", "backgroundRate": null}],
	"queries": ["/json/1/Fox/1.0/win/release/update.json", {"path": "/json/1/Bird/1.0/win/release/update.json", "dice": 3}, "/nothing"],
	"answers": [
		{"status": 200, "content_type": "application/json", "rule_id": "1", "rule_data_version": "1",
		 "body": "{\"version\": \"2.0\", \"url\": \"https://dl.example/v\", \"required\": true, \"hashFunction\": \"sha512\", \"hashValue\": \"00\"}"},
		{"status": 500, "content_type": "application/problem+json", "body": "BODY", "error": "TypeError", "detail": "x"},
		{"status": 404, "content_type": "text/plain; charset=utf-8", "headers": {"Cache-Control": "public, max-age=90", "Location": null},
		 "body": "The requested URL was not found on the server. If you entered the URL manually please check your spelling and try again."}]},
	{"title": "a blob", "product": "Fox", "allowlist": {}, "blob": {"name": "x"}, "answer": {"valid": false, "message": "Invalid Blob", "errors": []}},
	{"title": "of another kind", "steps": [], "answers": [{"body": {}}]}]`

func TestDocument(t *testing.T) {
	t.Parallel()
	fault := `{\n  \"detail\": \"The server encountered an internal error and was unable to complete your request. Either the server is overloaded or there is an error in the application.\",\n  \"status\": 500,\n  \"title\": \"Internal Server Error\",\n  \"type\": \"about:blank\"\n}\n`
	good := strings.Replace(document, "BODY", fault, 1)
	for _, tt := range []struct {
		name, text        string
		strict, byDefault string // the differences, joined
	}{
		{"as it is", good, "", "allowed Q4"},
		{"another body", strings.Replace(good, `\"required\": true`, `\"required\": 1`, 1), "body", "body allowed Q4"},
		{"another status", strings.Replace(good, `"status": 404`, `"status": 410`, 1), "status 404, want 410", "allowed Q4 status 404, want 410"},
		{"another rule", strings.Replace(good, `"rule_id": "1"`, `"rule_id": "2"`, 1), `Rule-Id "1", want "2"`, `Rule-Id "1", want "2" allowed Q4`},
		{"another header", strings.Replace(good, `max-age=90`, `max-age=60`, 1), `Cache-Control "public, max-age=90", want "public, max-age=60"`, `allowed Q4 Cache-Control "public, max-age=90", want "public, max-age=60"`},
		{"no type", strings.Replace(good, `text/plain`, `text/html`, 1), "type", "allowed Q4 type"},
		{"unstable", strings.Replace(good, `"status": 404`, `"unstable": true, "status": 410`, 1), "", "allowed Q4"},
	} {
		documents, skipped, err := replay.Read(strings.NewReader(tt.text))
		if err != nil || len(documents) != 2 || skipped != 1 {
			t.Fatalf("%s: %d documents, %d left out, %v", tt.name, len(documents), skipped, err)
		}
		for _, strict := range []bool{true, false} {
			var got []string
			for _, r := range documents[0].Run(strict) {
				for _, d := range r.Differences {
					if r.Allowed != "" {
						d = "allowed " + r.Allowed
					}
					if kind, _, _ := strings.Cut(d, " "); kind == "body" || kind == "type" {
						d = kind
					}
					if !slices.Contains(got, d) {
						got = append(got, d)
					}
				}
			}
			want := tt.strict
			if !strict {
				want = tt.byDefault
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%s, strict %v: %q, want %q", tt.name, strict, got, want)
			}
			if difference, _ := documents[1].Judge(strict); difference != "" {
				t.Errorf("blob: %s", difference)
			}
		}
	}
}

func TestReadBroken(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "{}", "[1]", `[{"queries": ["/x"], "answers": []}]`, `[{"queries": [5], "answers": [{}]}]`,
		`[{"queries": [], "answers": [], "rules": [{"rule_id": "x"}]}]`, `[{"queries": [], "answers": [], "allowlist": {"h": 1}}]`,
	} {
		if _, _, err := replay.Read(strings.NewReader(text)); !errors.Is(err, replay.ErrDocument) {
			t.Errorf("%s: %v, want ErrDocument", text, err)
		}
	}
}
