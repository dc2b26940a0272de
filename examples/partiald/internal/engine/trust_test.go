package engine_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/engine"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/testrelease"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/web"
	"github.com/senbonzakura/senbonzakura/mar"
)

// roleTokens are callers of every role; "" is one without a token.
var roleTokens = map[string]string{
	"": "", "read": "token-of-the-reader-1234", "submit": "token-of-the-submitter-1234", "operate": "token-of-the-operator-1234",
}

// outside serves an engine as partiald does, with a token for every role.
func outside(t *testing.T, n *node) (ask func(role, method, path string, body any) (int, []byte)) {
	t.Helper()
	opts := web.Options{Logger: slog.New(slog.DiscardHandler)}
	all := []web.Role{web.RoleRead, web.RoleSubmit, web.RoleOperate}
	for i, role := range all {
		opts.Tokens = append(opts.Tokens, web.Token{Name: string(role), Secret: roleTokens[string(role)], Roles: all[:i+1]})
	}
	h, err := web.New(n.Engine, opts)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return func(role, method, path string, body any) (int, []byte) {
		t.Helper()
		data, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		if token := roleTokens[role]; token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		out, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, out
	}
}

// signed returns a complete update with a signature.
func signed(t *testing.T, data []byte, s mar.Signer) []byte {
	t.Helper()
	r, err := mar.NewReader(bytes.NewReader(data), int64(len(data)), nil)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := r.Archive().WriteSigned(t.Context(), &out, s); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestNothingUnprovedIsSigned asks in every role to leave out every check, of servers with and without trusted keys, with
// and without a signer, that let operators leave out nothing, or all that can be allowed.
func TestNothingUnprovedIsSigned(t *testing.T) {
	t.Parallel()
	releaseKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	release, err := mar.CryptoSigner(releaseKey, mar.RSAPKCS1SHA384)
	if err != nil {
		t.Fatal(err)
	}
	skips := [][]string{nil, {"everything"}, {"downgrade", "verify"}}
	for _, c := range senbonzakura.Checks() {
		skips = append(skips, []string{string(c)})
	}
	required := senbonzakura.DefaultRequirements()
	for i := range 16 {
		trust, signs, allows, genuine := i&1 != 0, i&2 != 0, i&4 != 0, i&8 != 0
		t.Run(fmt.Sprintf("trust=%v/signer=%v/allows=%v/genuine=%v", trust, signs, allows, genuine), func(t *testing.T) {
			t.Parallel()
			var allowed []senbonzakura.Check
			n := open(t, setting{dir: t.TempDir(), options: func(o *engine.Options) {
				if trust {
					o.Keys = []crypto.PublicKey{&releaseKey.PublicKey}
				}
				if signs {
					o.Signers = []engine.Signer{signer(t)}
				}
				for _, c := range senbonzakura.Checks() {
					if allows && job.SkipForbidden(c, required, signs) == "" {
						allowed = append(allowed, c)
					}
				}
				o.Skip = allowed
			}})
			if slices.Contains(allowed, senbonzakura.CheckSignatures) || signs && slices.Contains(allowed, senbonzakura.CheckVerify) {
				t.Fatalf("operators may leave out %q", allowed)
			}
			ask, o := outside(t, n), newOrigin(t)
			from, to := testrelease.Complete(t, "140.1", "x"), testrelease.Complete(t, "140.2", "x")
			if genuine {
				from, to = signed(t, from, release), signed(t, to, release)
			}
			for _, role := range []string{"", "read", "submit", "operate"} {
				for _, skip := range skips {
					spec := job.Spec{From: o.source(from), To: o.source(to), Skip: skip}
					want := http.StatusAccepted
					switch {
					case role == "":
						want = http.StatusUnauthorized
					case role == "read":
						want = http.StatusForbidden
					case len(skip) == 0:
					case role != "operate":
						want = http.StatusForbidden
					case skip[0] == "everything":
						want = http.StatusUnprocessableEntity
					default:
						for _, c := range skip {
							if !slices.Contains(allowed, senbonzakura.Check(c)) {
								want = http.StatusForbidden
							}
						}
					}
					status, body := ask(role, "POST", "/api/v1/partials", spec)
					switch {
					case status == http.StatusOK && want == http.StatusAccepted: // it is done already
						status = want
					case trust && !genuine && strings.Contains(string(body), `check \"signatures\" failed`): // taken, and ended already
						status = http.StatusAccepted
					}
					if status != want {
						t.Errorf("%s leaves out %q: got %d, want %d: %s", role, skip, status, want, body)
						continue
					}
					if len(skip) > 0 && status == http.StatusForbidden && role != "read" {
						for _, word := range []string{"operate", "auth.skip", `"field":"skip`} {
							if !strings.Contains(string(body), word) {
								t.Errorf("%s leaves out %q: the answer does not say %s: %s", role, skip, word, body)
							}
						}
					}
					batch, _ := ask(role, "POST", "/api/v1/batches", web.BatchRequest{Specs: []job.Spec{spec}})
					if (batch < 300) != (want < 300) {
						t.Errorf("%s leaves out %q in a batch: got %d, want as %d", role, skip, batch, want)
					}
					if want >= 300 {
						continue
					}
					id, err := n.Check(spec, job.Asker{Operator: true})
					if err != nil {
						t.Fatal(err)
					}
					st := n.wait(id)
					if st.State == job.Done != (!trust || genuine) {
						t.Errorf("%s leaves out %q: %s, %v", role, skip, st.State, st.Error)
					}
					if st.State != job.Done {
						continue
					}
					n.look(spec, st, signs)
				}
			}
			actions, err := n.Actions(t.Context(), job.Filter{})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range allowed {
				if !slices.ContainsFunc(actions, func(a job.Action) bool {
					return a.Who.Name == "operate" && strings.Contains(a.Detail, "leaves out the checks "+string(c))
				}) {
					t.Errorf("the actions do not say that %s was left out", c)
				}
			}
		})
	}
}

// look says what is wrong with a job that is done.
func (n *node) look(spec job.Spec, st job.Status, signs bool) {
	n.t.Helper()
	doc, err := n.Provenance(n.t.Context(), st.ID)
	if err != nil {
		n.t.Fatal(err)
	}
	var p senbonzakura.Provenance
	if err := json.Unmarshal(doc, &p); err != nil {
		n.t.Fatal(err)
	}
	if got := fmt.Sprint(p.Skipped); got != fmt.Sprint(spec.Skip) {
		n.t.Errorf("provenance says that %s was left out, want %q", got, spec.Skip)
	}
	if (len(st.Result.SignedBy) > 0) != signs {
		n.t.Errorf("left out %q: signed by %q", spec.Skip, st.Result.SignedBy)
	}
	if !signs {
		return
	}
	if !p.Report.Verified || !slices.Contains(p.Checked, senbonzakura.CheckVerify) || !slices.Contains(p.Checked, senbonzakura.CheckProduct) {
		n.t.Errorf("signed, but verified: %v, checked: %q", p.Report.Verified, p.Checked)
	}
	if fmt.Sprint(p.Required) != fmt.Sprint(senbonzakura.DefaultRequirements()) {
		n.t.Errorf("provenance says that %q held", p.Required)
	}
}

// TestSignedProduct asks for other channels and versions than TO's, with and without a signer.
func TestSignedProduct(t *testing.T) {
	t.Parallel()
	for _, signs := range []bool{false, true} {
		n := open(t, setting{dir: t.TempDir(), options: func(o *engine.Options) {
			if signs {
				o.Signers = []engine.Signer{signer(t)}
			}
		}})
		o := newOrigin(t)
		good := o.spec(t, "x")
		for _, tt := range []struct {
			name, field string
			change      func(*job.Spec)
		}{
			{"as they are", "", func(*job.Spec) {}},
			{"said as they are", "", func(s *job.Spec) { s.Channel, s.ProductVersion = "test", "140.2" }}, // as clients of funsize do
			{"older", "", func(s *job.Spec) { s.ProductVersion = "140.1" }},
			{"newer", "product_version", func(s *job.Spec) { s.ProductVersion = "140.2.1" }},
			{"far newer", "product_version", func(s *job.Spec) { s.ProductVersion = "999.0" }},
			{"another channel", "channel", func(s *job.Spec) { s.Channel = "release" }},
			{"one channel more", "channel", func(s *job.Spec) { s.Channel = "test,release" }},
			{"with a recipe", "product_version", func(s *job.Spec) { s.Recipe, s.Channel, s.ProductVersion = "default", "test", "999.0" }},
		} {
			spec := good
			tt.change(&spec)
			st := n.wait(n.submit(spec).ID)
			if !signs || tt.field == "" {
				if st.State != job.Done {
					t.Errorf("%s, signer %v: %s, %v", tt.name, signs, st.State, st.Error)
				} else {
					n.look(spec, st, signs)
				}
				continue
			}
			if st.State != job.Failed || st.Error.Code != job.CodeRefused || st.Error.Field != tt.field || !strings.Contains(st.Error.Message, "signing.require") {
				t.Errorf("%s: %s, %v", tt.name, st.State, st.Error)
			}
		}
	}
}

// TestRetryOfSkipped has a submitter try again what an operator asked for.
func TestRetryOfSkipped(t *testing.T) {
	t.Parallel()
	n := open(t, setting{dir: t.TempDir(), options: func(o *engine.Options) {
		o.Slots, o.Skip = -1, []senbonzakura.Check{senbonzakura.CheckDowngrade}
	}})
	ask := outside(t, n)
	spec := newOrigin(t).spec(t, "x")
	spec.Skip = []string{"downgrade"}
	if status, body := ask("operate", "POST", "/api/v1/partials", spec); status != http.StatusAccepted {
		t.Fatalf("%d: %s", status, body)
	}
	id, err := n.Check(spec, job.Asker{Operator: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Cancel(t.Context(), id, alice); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		role string
		want int
	}{{"read", http.StatusForbidden}, {"submit", http.StatusForbidden}, {"operate", http.StatusAccepted}} {
		if status, body := ask(tt.role, "POST", "/api/v1/jobs/"+id+"/retry", nil); status != tt.want {
			t.Errorf("%s: got %d, want %d: %s", tt.role, status, tt.want, body)
		}
	}
}
