package engine_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/engine"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// What a request says of the client decides: it stands in the report with its source, and what such a client refuses is not
// made. That it does not verify, which leaves checks out, only operators may say.
func TestClientOfRequest(t *testing.T) {
	t.Parallel()
	n, o := open(t, setting{dir: t.TempDir()}), newOrigin(t)
	ask := outside(t, n)
	base := o.spec(t, "x")
	yes, no := true, false
	plain, err := n.Check(base, job.Asker{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		client job.ClientFacts
		role   string
		want   int
		fails  string // of the job, where it is taken
		field  string // where it is not
	}{
		{"what fits", job.ClientFacts{Version: "140.1", Gecko: "140.1", Verifies: &yes, Channels: []string{"test", "other"}, Members: []string{"xz"}, Manifests: []int{3}, Patches: []string{"mbdiff10"}, Drafts: &no}, "submit", http.StatusAccepted, "", ""},
		{"newer than TO", job.ClientFacts{Version: "141.0", Verifies: &yes}, "submit", http.StatusAccepted, "does not go back", ""},
		{"other channels", job.ClientFacts{Channels: []string{"other"}, Verifies: &yes}, "submit", http.StatusAccepted, "accepts [", ""},
		{"does not verify", job.ClientFacts{Version: "141.0", Verifies: &no}, "submit", http.StatusForbidden, "", "client.verifies"},
		{"does not verify, says an operator", job.ClientFacts{Version: "141.0", Verifies: &no}, "operate", http.StatusAccepted, "", ""},
		{"a version of two lines", job.ClientFacts{Version: "1\n2"}, "submit", http.StatusUnprocessableEntity, "", "client.version"},
		{"no channel", job.ClientFacts{Channels: []string{""}}, "submit", http.StatusUnprocessableEntity, "", "client.channels[0]"},
		{"no such format", job.ClientFacts{Members: []string{"xz", "zip"}}, "submit", http.StatusUnprocessableEntity, "", "client.members[1]"},
		{"a format twice", job.ClientFacts{Members: []string{"xz", "xz"}}, "submit", http.StatusUnprocessableEntity, "", "client.members[1]"},
		{"no such manifest", job.ClientFacts{Manifests: []int{4}}, "submit", http.StatusUnprocessableEntity, "", "client.manifests[0]"},
		{"no such patch", job.ClientFacts{Patches: []string{"courgette"}}, "submit", http.StatusUnprocessableEntity, "", "client.patches[0]"},
	} {
		spec := base
		spec.Client = &tt.client
		status, body := ask(tt.role, "POST", "/api/v1/partials", spec)
		if status == http.StatusOK {
			status = http.StatusAccepted // done already
		}
		if status != tt.want && (tt.fails == "" || status < 400) || tt.field != "" && !strings.Contains(string(body), `"field":"`+tt.field+`"`) {
			t.Errorf("%s: got %d, %s, want %d", tt.name, status, body, tt.want)
		}
		if tt.want != http.StatusAccepted {
			continue
		}
		id, err := n.Check(spec, job.Asker{Operator: true})
		if err != nil || id == plain {
			t.Fatalf("%s: %v, or the job is that of a request that says nothing", tt.name, err)
		}
		st := n.wait(id)
		if tt.fails != "" {
			if st.State != job.Failed || !strings.Contains(st.Error.Message, tt.fails) || st.Error.Whose() != job.FaultCaller {
				t.Errorf("%s: %s, %v, want a refusal that says %q", tt.name, st.State, st.Error, tt.fails)
			}
			continue
		}
		p := n.provenance(t, id)
		c := p.Report.Client
		if st.State != job.Done || c == nil || c.Version.Source != updater.SourceCaller || c.Verifies.Source != updater.SourceCaller || c.Verifies.Value != *tt.client.Verifies {
			t.Errorf("%s: %s, client %+v", tt.name, st.State, c)
		}
		if len(p.Checks) != len(senbonzakura.Checks()) {
			t.Errorf("%s: %d verdicts, want one of each of the %d checks: %v", tt.name, len(p.Checks), len(senbonzakura.Checks()), p.Checks)
		}
	}
	actions, err := n.Actions(t.Context(), job.Filter{})
	if err != nil || !slices.ContainsFunc(actions, func(a job.Action) bool {
		return a.Who.Name == "operate" && strings.Contains(a.Detail, "do not verify")
	}) {
		t.Errorf("the actions do not say who said that clients do not verify: %v, %v", actions, err)
	}
}

// The formats of patches are those that the request names, else those of the configuration, else those that the client is
// known to apply. What is no format, or leaves the recipe no choice, is refused by the field.
func TestFormatsOfRequest(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	both := []string{updater.PatchMBDIFF10, updater.PatchZucchini}
	for _, configured := range [][]string{nil, {updater.PatchZucchini}} {
		unsaid := configured
		if unsaid == nil {
			unsaid = both
		}
		n := open(t, setting{dir: t.TempDir(), options: func(o *engine.Options) { o.Formats = configured }})
		ask := outside(t, n)
		for _, tt := range []struct {
			name, recipe string
			formats      []string
			want         []string // of all patches together
		}{
			{"nothing said", "", nil, unsaid},
			{"one", "", []string{updater.PatchMBDIFF10}, []string{updater.PatchMBDIFF10}},
			{"the other", "", []string{updater.PatchZucchini}, []string{updater.PatchZucchini}},
			{"recipe of the scripts", "mozilla", nil, []string{updater.PatchMBDIFF10}},
			{"no format", "", []string{"courgette"}, nil},
			{"no choice", "mozilla", []string{updater.PatchZucchini}, nil},
		} {
			spec := o.spec(t, "x")
			spec.Recipe, spec.Formats = tt.recipe, tt.formats
			spec.Client = &job.ClientFacts{Patches: both}
			status, body := ask("submit", "POST", "/api/v1/partials", spec)
			if tt.want == nil {
				if status != http.StatusUnprocessableEntity || !strings.Contains(string(body), `"field":"formats"`) {
					t.Errorf("%v: %s: got %d, %s", configured, tt.name, status, body)
				}
				continue
			}
			id, err := n.Check(spec, job.Asker{})
			if err != nil || status >= 300 {
				t.Fatalf("%v: %s: %d, %s, %v", configured, tt.name, status, body, err)
			}
			st := n.wait(id)
			if st.State != job.Done {
				t.Fatalf("%v: %s: %s, %v", configured, tt.name, st.State, st.Error)
			}
			var got []string
			for _, f := range n.provenance(t, id).Report.Files {
				if f.Format != "" {
					got = append(got, f.Format)
				}
			}
			slices.Sort(got)
			if got = slices.Compact(got); !slices.Equal(got, tt.want) {
				t.Errorf("%v: %s: patches in %v, want %v", configured, tt.name, got, tt.want)
			}
		}
	}
}

// A key that clients do not have signs nothing.
func TestClientKeys(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	mine := signer(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, keys := range map[string][]crypto.PublicKey{"theirs": {key.Public(), mine.Info().PublicKey}, "not theirs": {key.Public()}} {
		n := open(t, setting{dir: t.TempDir(), options: func(o *engine.Options) {
			o.Signers, o.ClientKeys = []engine.Signer{mine}, keys
		}})
		st := n.wait(n.submit(o.spec(t, "x")).ID)
		if name == "not theirs" {
			if st.State != job.Failed || !strings.Contains(st.Error.Message, "client-signature") {
				t.Errorf("%s: %s, %v", name, st.State, st.Error)
			}
			continue
		}
		if st.State != job.Done {
			t.Fatalf("%s: %s, %v", name, st.State, st.Error)
		}
		if p := n.provenance(t, st.ID); !slices.Contains(p.Checked, senbonzakura.CheckClientSignature) {
			t.Errorf("%s: checked are %v", name, p.Checked)
		}
	}
}

// provenance returns that of a job that is done.
func (n *node) provenance(t *testing.T, id string) (p senbonzakura.Provenance) {
	t.Helper()
	doc, err := n.Provenance(t.Context(), id)
	if err == nil {
		err = json.Unmarshal(doc, &p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What was found where an update was refused is kept: with the API, with the attempt's number, after a restart, and not
// with a later failure of another kind.
func TestRefusalKept(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	dir := t.TempDir()
	n := open(t, setting{dir: dir})
	yes := true
	spec := o.spec(t, "x")
	spec.Client = &job.ClientFacts{Version: "141.0", Verifies: &yes} // newer than TO
	st := n.wait(n.submit(spec).ID)
	if st.State != job.Failed || st.Error.Code != job.CodeRefused {
		t.Fatalf("%s, %v, want a refusal", st.State, st.Error)
	}
	check := func(when string) {
		t.Helper()
		status, body := outside(t, n)("read", "GET", "/api/v1/partials/"+st.ID+"/report", nil)
		var report partial.Report
		if err := json.Unmarshal(body, &report); status != http.StatusOK || err != nil {
			t.Fatalf("%s: %d, %v: %s", when, status, err, body)
		}
		if report.Client == nil || report.Client.Version.Value != "141.0" || !slices.ContainsFunc(report.Checks, func(v updater.Verdict) bool {
			return v.Answer == updater.Fails && strings.Contains(st.Error.Message, v.Reason)
		}) || report.Verified {
			t.Errorf("%s: client %+v, checks %+v, the job says %v", when, report.Client, report.Checks, st.Error)
		}
		if _, page := outside(t, n)("read", "GET", "/jobs/"+st.ID, nil); !strings.Contains(string(page), "The installed updater, as it was taken to be") || !strings.Contains(string(page), `class="state failed">fails<`) {
			t.Errorf("%s: the page does not say what the checks came to:\n%s", when, page)
		}
	}
	check("at once")
	if status, body := outside(t, n)("read", "GET", "/api/v1/partials/"+st.ID+"/provenance", nil); status != http.StatusUnprocessableEntity {
		t.Errorf("provenance of nothing: %d, %s", status, body)
	}
	n.close()
	n = open(t, setting{dir: dir})
	check("after a restart")

	// It fails in another way now: the report before is not that of this attempt.
	if _, err := n.layers.Purge(t.Context(), cache.Filter{Kind: cache.Completes}); err != nil {
		t.Fatal(err)
	}
	o.intercept(func(w http.ResponseWriter, r *http.Request) bool { http.NotFound(w, r); return true })
	if _, err := n.Retry(t.Context(), st.ID, alice); err != nil {
		t.Fatal(err)
	}
	if again := n.wait(st.ID); again.State != job.Failed || again.Error.Code != job.CodeFetch {
		t.Fatalf("%s, %v, want a failure of the origin", again.State, again.Error)
	}
	if doc, err := n.Report(t.Context(), st.ID); err == nil {
		t.Errorf("a report of an attempt before: %s", doc)
	}
}
