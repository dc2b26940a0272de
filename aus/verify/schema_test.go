package verify

import (
	"bytes"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/testkit/schema"
)

// Every line of the results of every sample is what the schema says.
func TestSchema(t *testing.T) {
	t.Parallel()
	kinds := map[string]*schema.Schema{}
	for _, kind := range []string{"run", "test", "totals"} {
		var err error
		if kinds[kind], err = schema.Read("../../docs/verify-updates.schema.json", kind); err != nil {
			t.Fatal(err)
		}
	}
	reports := map[string]*Report{"many failures": many(t, 100)}
	r := smallRelease(t, 3, 5, 1)
	r.plant()
	report, err := Run(t.Context(), r.config(), r.options(t))
	if err != nil {
		t.Fatal(err)
	}
	reports["run"] = report
	for _, s := range samples(t) {
		reports[s.name] = read(t, s.text)
	}
	for name, report := range reports {
		var b bytes.Buffer
		if err := report.WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
		lines := bytes.Split(bytes.TrimSpace(b.Bytes()), []byte("\n"))
		for i, line := range lines {
			kind := "test"
			switch i {
			case 0:
				kind = "run"
			case len(lines) - 1:
				kind = "totals"
			}
			if err := kinds[kind].Check(line); err != nil {
				t.Errorf("%s, line %d: %v", name, i+1, err)
			}
		}
	}
}
