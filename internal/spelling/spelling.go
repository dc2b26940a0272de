// Package spelling says which names of files are one on a platform, although they are spelled in two ways. Windows does not
// look at case; macOS neither at case nor at Unicode normalisation: é may be one rune, or an e with an accent behind it.
//
// Package names has what needs no tables of Unicode. Everything is safe for concurrent use.
package spelling

import (
	"golang.org/x/text/unicode/norm"

	"github.com/senbonzakura/senbonzakura/internal/names"
)

// Key returns a text that is the same for all spellings of a path that are one name on a platform of package names; for ""
// those of any platform count.
func Key(name, platform string) string {
	switch platform {
	case names.Linux:
		return name
	case names.Windows:
		return names.Fold(name)
	}
	if names.ASCII(name) {
		return names.Fold(name)
	}
	return norm.NFD.String(names.Fold(norm.NFD.String(name)))
}

// A Difference says in what two names differ that are one on some platform.
type Difference int

// The differences.
const (
	Case Difference = iota // on Windows and macOS they are one
	Normalization
	Both
)

// Between returns in what two names with one Key differ.
func Between(a, b string) Difference {
	switch {
	case names.Fold(a) == names.Fold(b):
		return Case
	case norm.NFD.String(a) == norm.NFD.String(b):
		return Normalization
	}
	return Both
}

// String returns "only in case" and the like, as the end of a sentence.
func (d Difference) String() string {
	switch d {
	case Case:
		return "only in case"
	case Normalization:
		return "only in its Unicode normalisation"
	}
	return "only in case and Unicode normalisation"
}

// Places are the platforms on which such names are one.
func (d Difference) Places() string {
	if d == Case {
		return "Windows and macOS"
	}
	return "macOS"
}

// Collisions calls report for each name of a list that is one with another before it.
func Collisions(list []string, platform string, report func(name, other string, d Difference)) {
	seen := make(map[string]string, len(list))
	for _, n := range list {
		key := Key(n, platform)
		if other, ok := seen[key]; ok {
			report(n, other, Between(n, other))
			continue
		}
		seen[key] = n
	}
}
