// Package version orders product versions as Gecko does, and reads the small ini files that carry them.
//
// A version is a list of parts separated by dots. Each part is up to four pieces, <number><text><number><text>,
// compared one after the other: numbers by value, texts byte by byte. A missing text sorts behind any text, so
// 12.0a1 comes before 12.0; a missing part is 0, so 1 equals 1.0; "*" alone is larger than any number; and a
// number directly followed by "+" is the next number's "pre", so 1.0+ equals 1.1pre. A number that does not fit
// into 32 bits counts as 0. This is the order by which the updater refuses a downgrade.
package version

import "strings"

// Compare returns -1, 0 or +1 as a sorts before, equal to or behind b. Every string is a version; what cannot be
// read as a number counts as 0. Safe for concurrent use.
func Compare(a, b string) int {
	moreA, moreB := true, true
	for moreA || moreB {
		var pa, pb part
		pa, a, moreA = next(a, moreA)
		pb, b, moreB = next(b, moreB)
		if c := pa.compare(pb); c != 0 {
			return c
		}
	}
	return 0
}

// part is one part of a version. A text that is absent differs from one that is empty: an empty one stands
// where a sign directly follows the first number.
type part struct {
	first    int32
	text     string
	hasText  bool
	second   int32
	extra    string
	hasExtra bool
}

// next parses the first part of v and returns what follows its dot; more says whether there was a dot.
func next(v string, present bool) (p part, rest string, more bool) {
	if !present {
		return part{}, "", false
	}
	v, rest, more = strings.Cut(v, ".")
	if v == "*" {
		return part{first: 1<<31 - 1}, rest, more
	}
	p.first, v = number(v)
	switch {
	case v == "":
	case v[0] == '+':
		p.first++
		p.text, p.hasText = "pre", true
	default:
		p.hasText = true
		at := strings.IndexAny(v, "0123456789+-")
		if at < 0 {
			p.text = v
			break
		}
		p.text = v[:at]
		p.second, p.extra = number(v[at:])
		p.hasExtra = p.extra != ""
	}
	return p, rest, more
}

func (p part) compare(q part) int {
	if c := compareNumbers(p.first, q.first); c != 0 {
		return c
	}
	if c := compareTexts(p.text, p.hasText, q.text, q.hasText); c != 0 {
		return c
	}
	if c := compareNumbers(p.second, q.second); c != 0 {
		return c
	}
	return compareTexts(p.extra, p.hasExtra, q.extra, q.hasExtra)
}

func compareNumbers(a, b int32) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func compareTexts(a string, hasA bool, b string, hasB bool) int {
	switch {
	case hasA && hasB:
		return strings.Compare(a, b)
	case hasA:
		return -1
	case hasB:
		return 1
	}
	return 0
}

// number reads a decimal number as C's strtol does: blanks, one sign, digits. Without digits nothing is consumed.
func number(s string) (int32, string) {
	i := 0
	for i < len(s) && strings.IndexByte(" \t\n\v\f\r", s[i]) >= 0 {
		i++
	}
	negative := false
	if i < len(s) && (s[i] == '+' || s[i] == '-') {
		negative = s[i] == '-'
		i++
	}
	start, value, fits := i, int64(0), true
	for ; i < len(s) && s[i] >= '0' && s[i] <= '9'; i++ {
		value = value*10 + int64(s[i]-'0')
		if value > 1<<31 {
			fits, value = false, 1<<31
		}
	}
	if i == start {
		return 0, s
	}
	if negative {
		value = -value
	}
	if !fits || value > 1<<31-1 || value < -1<<31 {
		value = 0
	}
	return int32(value), s[i:]
}

// Ini is what application.ini and platform.ini hold: values by section and key, both as written.
type Ini map[string]map[string]string

// ParseIni reads an ini file as Gecko does: "[Section]" lines and "key=value" lines, which end at CR or LF; blanks and
// tabs around either are dropped, and so is a UTF-8 mark at the start; lines that start with ";" or "#" and lines of
// any other shape are skipped. Of a key that a section has several times the last value counts, even an empty one.
func ParseIni(data []byte) Ini {
	ini, section := Ini{}, ""
	text := strings.TrimPrefix(string(data), "\ufeff")
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\r' || r == '\n' }) {
		line = strings.Trim(line, blanks)
		if line == "" || line[0] == ';' || line[0] == '#' {
			continue
		}
		if line[0] == '[' && line[len(line)-1] == ']' {
			section = line[1 : len(line)-1]
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		if ini[section] == nil {
			ini[section] = map[string]string{}
		}
		ini[section][strings.Trim(key, blanks)] = strings.Trim(value, blanks)
	}
	return ini
}

// blanks of the reader; Unicode has others, which it takes for text.
const blanks = " \t"

// Get returns the value of a key in a section, or "".
func (i Ini) Get(section, key string) string { return i[section][key] }
