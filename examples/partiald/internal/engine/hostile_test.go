package engine_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/engine"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// TestHostileSubmitter puts into every field of a request, and into some that there are not, what does not belong there: nothing
// is signed but what TO says of itself, and nothing that goes wrong is the service's fault.
func TestHostileSubmitter(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	n := open(t, setting{dir: t.TempDir(), options: func(o *engine.Options) {
		o.Signers = []engine.Signer{signer(t)}
		o.Skip = []senbonzakura.Check{senbonzakura.CheckDowngrade, senbonzakura.CheckWatershed}
	}})
	ask := outside(t, n)
	good := o.spec(t, "x")
	base, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(base, &m); err != nil {
		t.Fatal(err)
	}
	bad := []any{"", "..", "/etc/passwd", "\u202e", strings.Repeat("x", 5000), "release,test", "test", "999.0", "140.2\x00", -1, 1e300, true, nil, []any{}, []any{"../../x", ""}, []any{"verify"}, []any{"VERIFY"}, []any{"signatures", "verify"}, map[string]any{"a": "b"}, map[string]any{"mar": "../../x", "platform": "x"}}
	fields := []string{"product", "platform", "arch", "locale", "channel", "product_version", "force", "channels", "recipe", "skip", "labels", "trust", "client", "priority", "unknown", "Skip", "from", "to", "id", "state"}
	for _, f := range fields {
		for _, v := range bad {
			c := map[string]any{}
			for k, x := range m {
				c[k] = x
			}
			c[f] = v
			status, body := ask("submit", "POST", "/api/v1/partials", c)
			if status >= 500 {
				t.Errorf("%s is %.40v: %d, %s", f, v, status, body)
			}
			if status >= 300 {
				continue
			}
			var s job.Status
			if err := json.Unmarshal(body, &s); err != nil {
				t.Fatal(err)
			}
			s = n.wait(s.ID)
			if s.State == job.Failed && s.Error.Whose() != job.FaultCaller {
				t.Errorf("%s is %.40v: %v, which is of the %s", f, v, s.Error, s.Error.Whose())
			}
			if s.State != job.Done {
				continue
			}
			doc, err := n.Provenance(t.Context(), s.ID)
			if err != nil {
				t.Fatal(err)
			}
			var p senbonzakura.Provenance
			if err := json.Unmarshal(doc, &p); err != nil {
				t.Fatal(err)
			}
			if p.Output.Channel != "test" || p.Output.Version != "140.2" || len(p.Skipped) > 0 || !p.Report.Verified {
				t.Errorf("%s is %.40v: signed for %q, version %q, %q left out", f, v, p.Output.Channel, p.Output.Version, p.Skipped)
			}
		}
	}
}
