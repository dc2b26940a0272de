package signers

import (
	"slices"
	"testing"
)

// Keys of one place make one signature together.
func TestPlaces(t *testing.T) {
	s := &Config{Keys: []Key{{ID: "a"}, {ID: "b", Place: "x", NotAfter: "2026-02-01"}, {ID: "c"}, {ID: "d", Place: "x", NotBefore: "2026-01-01"}}}
	var got []string
	for _, place := range s.Places() {
		names := ""
		for _, k := range place {
			names += k.ID
		}
		got = append(got, names)
	}
	if want := []string{"a", "bd", "c"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	from, until, err := s.Keys[1].Window()
	if err != nil || !from.IsZero() || until.Month() != 2 {
		t.Errorf("got %v, %v, %v", from, until, err)
	}
}
