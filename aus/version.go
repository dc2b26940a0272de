package aus

import (
	"slices"
	"strconv"
	"strings"

	toolkit "github.com/senbonzakura/senbonzakura/internal/version"
)

// version is a product version, read once in every way in which it is compared: by the grammar of Balrog
// for Gecko products, by that for the products of [looseProduct], and, where the first refuses it, as Gecko's toolkit
// orders versions.
type version struct {
	text    string
	valid   bool // the grammar for Gecko products takes it
	glob    bool // it is a glob of that grammar: N.* or N.M.*
	star    bool // it has a "*" anywhere
	numbers [3]uint64
	parts   int // how many numbers count: 3, or 1 or 2 of a glob
	tag     byte
	tagged  uint64
}

// parseVersion reads a version. It never fails: valid says whether Balrog takes it.
func parseVersion(s string) version {
	v := version{text: s, star: strings.Contains(s, "*"), parts: 3}
	grammar := strings.TrimSuffix(s, "\n") // Python's "$" matches before a final newline
	dots := strings.Count(grammar, ".")
	first, _, _ := strings.Cut(grammar, ".")
	number, ok := digits(first)
	if !ok {
		return v
	}
	switch {
	case (dots == 1 || dots == 2) && number > 4 && strings.HasSuffix(grammar, ".*"):
		v.glob = true
		v.parts = dots
		v.valid = v.readNumbers(strings.TrimSuffix(grammar, ".*"), dots, nil)
	case (dots == 1 || dots == 2) && number > 4:
		v.valid = v.readNumbers(grammar, dots+1, modernTag)
	case dots == 1 || dots == 2:
		v.valid = v.readNumbers(grammar, dots+1, oldTag)
	case dots == 3:
		// N.N.D.N: the third is one digit and does not count.
		fields := strings.SplitN(grammar, ".", 4)
		if len(fields[2]) == 1 && fields[2][0] >= '0' && fields[2][0] <= '9' {
			v.valid = v.readNumbers(fields[0]+"."+fields[1]+"."+fields[3], 3, oldTag)
		}
	}
	return v
}

// readNumbers reads n numbers; the last may be followed by a tag where tag is not nil.
func (v *version) readNumbers(s string, n int, tag func(letters string) bool) bool {
	for i := range n {
		field, rest, more := strings.Cut(s, ".")
		if more != (i < n-1) {
			return false
		}
		s = rest
		end := 0
		for end < len(field) && field[end] >= '0' && field[end] <= '9' {
			end++
		}
		number, ok := digits(field[:end])
		if !ok {
			return false
		}
		v.numbers[i] = number
		field = field[end:]
		if field == "" {
			continue
		}
		if i < n-1 || tag == nil {
			return false
		}
		end = strings.IndexFunc(field, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') })
		if end < 1 || !tag(field[:end]) {
			return false
		}
		if v.tagged, ok = digits(field[end:]); !ok {
			return false
		}
		v.tag = field[0]
	}
	return true
}

func modernTag(letters string) bool { return letters == "a" }
func oldTag(string) bool            { return true }

// digits reads a decimal number; what does not fit counts as the largest number that does.
func digits(s string) (uint64, bool) {
	if s == "" {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, _ := strconv.ParseUint(s, 10, 64) // too large a number comes back as the largest
	return n, true
}

// compare orders two valid versions: numbers, then no tag behind a tag, then letter and number of the tag. A glob is
// compared as far as its numbers go.
func (v *version) compare(w *version) int {
	n := min(v.parts, w.parts)
	for i := range n {
		if c := compareNumbers(v.numbers[i], w.numbers[i]); c != 0 {
			return c
		}
	}
	if n < 3 {
		return 0
	}
	switch {
	case v.tag == w.tag:
		return compareNumbers(v.tagged, w.tagged)
	case v.tag == 0:
		return 1
	case w.tag == 0 || v.tag < w.tag:
		return -1
	}
	return 1
}

func compareNumbers(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// canonical is the text that globs are compared with: a patch number of 0 is left out, a tag is one letter.
func (v *version) canonical() string {
	s := strconv.FormatUint(v.numbers[0], 10) + "." + strconv.FormatUint(v.numbers[1], 10)
	if v.numbers[2] != 0 {
		s += "." + strconv.FormatUint(v.numbers[2], 10)
	}
	if v.tag != 0 {
		s += string(v.tag) + strconv.FormatUint(v.tagged, 10)
	}
	return s
}

// matches says whether a valid version matches the glob g.
func (v *version) matches(g *version) bool {
	if v.tag == 0 && v.parts == 3 {
		same := true
		for i := range g.parts {
			same = same && v.numbers[i] == g.numbers[i]
		}
		if same {
			return true
		}
	}
	if v.glob {
		return strings.HasPrefix(v.text, strings.TrimSuffix(g.text, "*"))
	}
	return strings.HasPrefix(v.canonical(), strings.TrimSuffix(g.text, "*"))
}

// order compares two versions that are no globs as this package does by default: as Balrog where its grammar takes
// both, else as Gecko's toolkit.
func (v *version) order(w *version) int {
	if v.valid && w.valid {
		return v.compare(w)
	}
	return toolkit.Compare(v.text, w.text)
}

// looseProduct says whether versions of a product are compared part by part, without a grammar.
func looseProduct(product string) bool { return product == "FirefoxVPN" || product == "Guardian" }

// looseItem is one part of a loose version.
type looseItem struct {
	text   string // "" for a number
	number uint64
}

// parseLoose splits a version into runs of digits, runs of small letters and what lies between; dots are left out.
func parseLoose(s string) []looseItem {
	class := func(c byte) int {
		switch {
		case c >= '0' && c <= '9':
			return 1
		case c >= 'a' && c <= 'z':
			return 2
		case c == '.':
			return 3
		}
		return 4
	}
	var items []looseItem
	for i := 0; i < len(s); {
		j := i + 1
		for k := class(s[i]); j < len(s) && class(s[j]) == k && k != 3; j++ {
		}
		switch class(s[i]) {
		case 1:
			n, _ := digits(s[i:j])
			items = append(items, looseItem{number: n})
		case 2, 4:
			items = append(items, looseItem{text: s[i:j]})
		}
		i = j
	}
	return items
}

// compareLoose orders two loose versions. comparable is false where a number meets a text: they differ, but neither is
// less.
func compareLoose(a, b []looseItem) (c int, comparable bool) {
	for i := range min(len(a), len(b)) {
		switch {
		case a[i] == b[i]:
		case (a[i].text == "") != (b[i].text == ""):
			return 0, false
		case a[i].text != "":
			return strings.Compare(a[i].text, b[i].text), true
		default:
			return compareNumbers(a[i].number, b[i].number), true
		}
	}
	return len(a) - len(b), true
}

func equalLoose(a, b []looseItem) bool { return slices.Equal(a, b) }

// operator is how a column's pattern compares.
type operator uint8

const (
	noOperator operator = iota // Balrog answers 500
	glob
	equal
	less
	lessEqual
	greater
	greaterEqual
)

// splitOperator reads the operator of a pattern. operand is the longest run of letters, digits, "_" and "." behind it, which is
// all that Balrog looks at; full is everything behind it, without blanks around.
func splitOperator(pattern string) (op operator, operand, full string) {
	if strings.HasSuffix(pattern, "*") {
		return glob, pattern, pattern
	}
	if pattern != "" && wordByte(pattern[0]) {
		return equal, pattern, pattern
	}
	for _, o := range []struct {
		sign string
		op   operator
	}{{">=", greaterEqual}, {"<=", lessEqual}, {">", greater}, {"<", less}} {
		rest, ok := strings.CutPrefix(pattern, o.sign)
		if !ok {
			continue
		}
		n := 0
		for n < len(rest) && (wordByte(rest[n]) || rest[n] == '.') {
			n++
		}
		if n > 0 {
			return o.op, rest[:n], strings.TrimSpace(rest)
		}
	}
	return noOperator, "", ""
}

// wordByte says whether a byte belongs to a word; everything outside ASCII does.
func wordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// holds says whether an order of client and operand fits the operator.
func (op operator) holds(c int) bool {
	switch op {
	case equal:
		return c == 0
	case less:
		return c < 0
	case lessEqual:
		return c <= 0
	case greater:
		return c > 0
	case greaterEqual:
		return c >= 0
	}
	return false
}
