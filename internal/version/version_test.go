package version

import (
	"fmt"
	"testing"
)

func TestCompareOrder(t *testing.T) {
	// Each group sorts before the next; versions of one group are equal.
	groups := [][]string{
		{"-1"},
		{"0", "", "0.0", "99999999999"},
		{"1.-1"},
		{"1.0-3"},
		{"1.0a1b", "1.0a1b.0"},
		{"1.0a1"},
		{"1.0b1"},
		{"1.pre1"},
		{"1", "1.", "1.0", "1.0.0"},
		{"1.1a"},
		{"1.1aa"},
		{"1.1ab"},
		{"1.1b"},
		{"1.1c"},
		{"1.1pre", "1.1pre0", "1.0+"},
		{"1.1pre1a"},
		{"1.1pre1aa"},
		{"1.1pre1b"},
		{"1.1pre1"},
		{"1.1pre2"},
		{"1.1pre10a"},
		{"1.1pre10"},
		{"1.1.-1"},
		{"1.1", "1.1.0", "1.1.00"},
		{"1.10"},
		{"1.*"},
		{"1.*.1"},
		{"2.0"},
		{"12.0a1"},
		{"12.0"},
		{"153.5.1esr"},
		{"153.5.1"},
		{"153.6.0esr"},
		{"153.6"},
		{"*"},
	}
	for i, group := range groups {
		for j, other := range groups {
			want := compareNumbers(int32(i), int32(j))
			for _, a := range group {
				for _, b := range other {
					if got := Compare(a, b); got != want {
						t.Errorf("Compare(%q, %q) = %d, want %d", a, b, got, want)
					}
				}
			}
		}
	}
}

func TestParseIni(t *testing.T) {
	ini := ParseIni([]byte("\ufeff; head\r\n[App]\r\nVersion = 1\nVersion=153.6.0\r\nBuildID=20260601\rName=a\u00a0\nVendor=x\nVendor=\n" +
		"[Other]\nx\n#y=1\nVersion=2\n[App]\nID=late\n"))
	for _, tt := range []struct{ section, key, want string }{
		{"App", "Version", "153.6.0"}, // the last one counts
		{"App", "BuildID", "20260601"},
		{"App", "Name", "a\u00a0"}, // no blank here
		{"App", "Vendor", ""},
		{"App", "ID", "late"},
		{"Other", "Version", "2"},
		{"Other", "y", ""},
		{"None", "Version", ""},
	} {
		if got := ini.Get(tt.section, tt.key); got != tt.want {
			t.Errorf("Get(%q, %q) = %q, want %q", tt.section, tt.key, got, tt.want)
		}
	}
}

func FuzzCompare(f *testing.F) {
	f.Add("1.0+", "1.1pre", "1.*")
	f.Add("12.0a1", "12.0", "1.0-3")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		ab, ba := Compare(a, b), Compare(b, a)
		if ab != -ba {
			t.Errorf("Compare(%q, %q) = %d, the other way round %d", a, b, ab, ba)
		}
		if Compare(a, a) != 0 {
			t.Errorf("Compare(%q, itself) != 0", a)
		}
		if bc := Compare(b, c); ab < 0 && bc < 0 && Compare(a, c) >= 0 {
			t.Errorf("%q < %q < %q, but not %q < %q", a, b, c, a, c)
		}
	})
}

func ExampleCompare() {
	fmt.Println(Compare("12.0a1", "12.0"), Compare("1.0+", "1.1pre"), Compare("153.10", "153.9"))
	// Output: -1 0 1
}
