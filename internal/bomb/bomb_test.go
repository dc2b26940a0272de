package bomb

import "testing"

func TestTooMuch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		lim           Limits
		packed, plain int64
		bad           bool
	}{
		{"nothing", Limits{}, 0, 0, false},
		{"small, whatever the ratio", Limits{}, 0, Grace, false},
		{"behind the grace, by ratio", Limits{}, 1000, Grace + 1, true},
		{"large enough for the ratio", Limits{}, Grace / DefaultRatio, Grace + 1, false},
		{"default output", Limits{Ratio: -1}, 0, DefaultOutput + 1, true},
		{"output", Limits{Output: 10}, 100, 11, true},
		{"output reached", Limits{Output: 10}, 100, 10, false},
		{"no limits", Limits{Output: -1, Ratio: -1}, 0, 1 << 62, false},
	} {
		if why := c.lim.Bounds().TooMuch(c.packed, c.plain); (why != "") != c.bad {
			t.Errorf("%s: got %q", c.name, why)
		}
	}
}
