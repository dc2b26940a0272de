package spelling

import (
	"fmt"
	"slices"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/names"
)

func TestKey(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		one  []string // platforms on which they are one name
		d    Difference
	}{
		{"a", "A", []string{names.Windows, names.MacOS, ""}, Case},
		{"é", "É", []string{names.Windows, names.MacOS, ""}, Case},
		{"caf\u00e9", "cafe\u0301", []string{names.MacOS, ""}, Normalization},
		{"caf\u00e9", "CAFE\u0301", []string{names.MacOS, ""}, Both},
		{"a", "b", nil, Both},
		{"a/x", "a\\x", nil, Both},
	} {
		for _, p := range []string{names.Linux, names.Windows, names.MacOS, ""} {
			if got := Key(tt.a, p) == Key(tt.b, p); got != slices.Contains(tt.one, p) {
				t.Errorf("%q and %q on %q: one name %v", tt.a, tt.b, p, got)
			}
		}
		if got := Between(tt.a, tt.b); got != tt.d {
			t.Errorf("%q and %q differ %v, want %v", tt.a, tt.b, got, tt.d)
		}
	}
}

func TestCollisions(t *testing.T) {
	t.Parallel()
	var got []string
	Collisions([]string{"a", "b", "A", "caf\u00e9", "cafe\u0301", "b2"}, "", func(name, other string, d Difference) {
		got = append(got, fmt.Sprintf("%+q %+q %v, %s", name, other, d, d.Places()))
	})
	want := []string{`"A" "a" only in case, Windows and macOS`, `"cafe\u0301" "caf\u00e9" only in its Unicode normalisation, macOS`}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
