package aus

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// kind says what a JSON value is.
type kind uint8

const (
	absent kind = iota // there is no such key
	null
	boolean
	number
	text
	list
	object
)

// value is one JSON value. Objects keep the order of their keys; a key that comes twice has its last value, at its
// first place.
type value struct {
	kind    kind
	text    string // of a text; of a number as written; "true" or "false"
	place   int    // where the text begins in the document, plus 1; 0 where it is no part of it
	items   []value
	members []member
}

type member struct {
	key   string
	value value
}

// get returns the value of a key; the zero value where there is none or v is no object.
func (v *value) get(key string) *value {
	for i := range v.members {
		if v.members[i].key == key {
			return &v.members[i].value
		}
	}
	return &value{}
}

func (v *value) has(key string) bool { return v.get(key).kind != absent }

// truthy is Python's idea of what counts as true.
func (v *value) truthy() bool {
	switch v.kind {
	case boolean:
		return v.text == "true"
	case number:
		f, err := strconv.ParseFloat(v.text, 64)
		return err != nil || f != 0
	case text:
		return v.text != ""
	case list:
		return len(v.items) > 0
	case object:
		return len(v.members) > 0
	}
	return false
}

// scalar is a value that is printed: kind absent, null, boolean, number or text, and the text that is printed.
type scalar struct {
	text string
	kind kind
}

// scalar returns how the value is printed. Lists and objects are printed as their JSON text.
func (v *value) scalar() scalar {
	switch v.kind {
	case null:
		return scalar{"None", null}
	case number:
		return scalar{printNumber(v.text), number}
	case list, object:
		return scalar{string(v.appendJSON(nil, jsonStyle{})), text}
	}
	return scalar{v.text, v.kind}
}

// or returns the scalar if its key is there, else other.
func (s scalar) or(other scalar) scalar {
	if s.kind != absent {
		return s
	}
	return other
}

// filled says whether the scalar counts as true.
func (s scalar) filled() bool {
	switch s.kind {
	case text:
		return s.text != ""
	case boolean:
		return s.text == "true"
	case number:
		return s.text != "0" && s.text != "0.0"
	}
	return false
}

// printNumber prints a JSON number as Python does: whole numbers as they are, others in the shortest form that reads
// back the same, with a point or an exponent.
func printNumber(s string) string {
	if !strings.ContainsAny(s, ".eE") {
		if s == "-0" {
			return "0"
		}
		return s
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && math.IsInf(f, 0) {
		if f < 0 {
			return "-inf"
		}
		return "inf"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
		return mantissa + "e" + exponent
	}
	s = strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// Limits bound what a document may hold. A zero field means the default.
type Limits struct {
	Size  int // length of a document in bytes, default 64 MiB; the largest known is under 10 MiB
	Depth int // nesting of objects and lists, default 32; releases have 8
}

func (l Limits) withDefaults() (Limits, error) {
	if l.Size < 0 || l.Depth < 0 {
		return l, fmt.Errorf("aus: negative limit in %+v", l)
	}
	if l.Size == 0 {
		l.Size = 64 << 20
	}
	if l.Depth == 0 {
		l.Depth = 32
	}
	return l, nil
}

// parseValue reads one JSON document. Texts without escapes are parts of the document, so that what is kept of it
// takes no second copy.
func parseValue(document string, limits Limits) (value, error) {
	limits, err := limits.withDefaults()
	if err != nil {
		return value{}, err
	}
	if len(document) > limits.Size {
		return value{}, fmt.Errorf("%w: document of %d bytes, want at most %d", ErrLimit, len(document), limits.Size)
	}
	if !utf8.ValidString(document) {
		return value{}, fmt.Errorf("%w: not UTF-8", ErrFormat)
	}
	p := parser{text: document, depth: limits.Depth}
	v, err := p.value(0)
	if err == nil {
		if p.blank(); p.at < len(p.text) {
			err = fmt.Errorf("%w: more than one value", ErrFormat)
		}
	}
	if errors.Is(err, ErrLimit) {
		return value{}, err
	}
	// The parser takes some texts that are no JSON; what it makes of those that are is right.
	if bytes := []byte(document); err != nil || !json.Valid(bytes) {
		var raw json.RawMessage
		if said := json.Unmarshal(bytes, &raw); said != nil {
			err = fmt.Errorf("%w: %w", ErrFormat, said)
		}
		return value{}, err
	}
	return v, nil
}

// parser reads JSON text, several times as fast as the tokens of encoding/json. Of text that is valid it makes what it says; of other text
// it makes anything, or an error.
type parser struct {
	text  string
	at    int
	depth int // the most
}

func (p *parser) bad() error {
	return fmt.Errorf("%w: unexpected text at byte %d", ErrFormat, p.at)
}

// blank goes on to the next byte that is none.
func (p *parser) blank() {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// next says whether the next byte is c, and goes on behind it.
func (p *parser) next(c byte) bool {
	p.blank()
	if p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *parser) value(depth int) (value, error) {
	if depth > p.depth {
		return value{}, fmt.Errorf("%w: nested deeper than %d", ErrLimit, p.depth)
	}
	p.blank()
	if p.at == len(p.text) {
		return value{}, p.bad()
	}
	switch p.text[p.at] {
	case '{':
		p.at++
		return p.object(depth)
	case '[':
		p.at++
		return p.list(depth)
	case '"':
		start := p.at + 1
		s, err := p.string()
		v := value{kind: text, text: s}
		if p.at == start+len(s)+1 { // else it has escapes
			v.place = start + 1
		}
		return v, err
	}
	start := p.at
	for p.at < len(p.text) && strings.IndexByte(" \t\n\r,:]}", p.text[p.at]) < 0 {
		p.at++
	}
	switch s := p.text[start:p.at]; s {
	case "":
		return value{}, p.bad()
	case "null":
		return value{kind: null}, nil
	case "true", "false":
		return value{kind: boolean, text: s}, nil
	default:
		return value{kind: number, text: s, place: start + 1}, nil
	}
}

// string reads a text, which is part of the document where it has no escapes.
func (p *parser) string() (string, error) {
	start := p.at + 1
	for i := start; i < len(p.text); i++ {
		switch p.text[i] {
		case '"':
			p.at = i + 1
			return p.text[start:i], nil
		case '\\':
			return p.escaped(start - 1)
		}
	}
	return "", p.bad()
}

// escaped reads a text with escapes that begins at a byte.
func (p *parser) escaped(start int) (string, error) {
	for i := start + 1; i < len(p.text); i++ {
		switch p.text[i] {
		case '"':
			p.at = i + 1
			var s string
			if err := json.Unmarshal([]byte(p.text[start:p.at]), &s); err != nil {
				return "", p.bad()
			}
			return s, nil
		case '\\':
			i++
		}
	}
	return "", p.bad()
}

func (p *parser) list(depth int) (value, error) {
	v := value{kind: list}
	if p.next(']') {
		return v, nil
	}
	for {
		item, err := p.value(depth + 1)
		if err != nil {
			return value{}, err
		}
		v.items = append(v.items, item)
		if p.next(']') {
			return v, nil
		}
		if !p.next(',') {
			return value{}, p.bad()
		}
	}
}

func (p *parser) object(depth int) (value, error) {
	v := value{kind: object}
	if p.next('}') {
		return v, nil
	}
	var places map[string]int // built where a scan of the keys would be slow
	for {
		if p.blank(); p.at == len(p.text) || p.text[p.at] != '"' {
			return value{}, p.bad()
		}
		key, err := p.string()
		if err != nil {
			return value{}, err
		}
		if !p.next(':') {
			return value{}, p.bad()
		}
		item, err := p.value(depth + 1)
		if err != nil {
			return value{}, err
		}
		at := -1
		if places != nil {
			if i, ok := places[key]; ok {
				at = i
			}
		} else {
			at = slices.IndexFunc(v.members, func(m member) bool { return m.key == key })
		}
		if at >= 0 {
			v.members[at].value = item
		} else {
			v.members = append(v.members, member{key, item})
			if places != nil {
				places[key] = len(v.members) - 1
			} else if len(v.members) > 32 {
				places = make(map[string]int, 64)
				for i, m := range v.members {
					places[m.key] = i
				}
			}
		}
		if p.next('}') {
			return v, nil
		}
		if !p.next(',') {
			return value{}, p.bad()
		}
	}
}

// jsonStyle says how JSON is written. The zero value is ", " and ": " on one line, keys in their order.
type jsonStyle struct {
	sorted  bool
	compact bool
	indent  int // spaces per level; 0 is one line
}

// appendJSON writes the value as Python's json module does: everything outside ASCII as \uXXXX.
func (v *value) appendJSON(b []byte, style jsonStyle) []byte { return v.appendAt(b, style, 0) }

func (v *value) appendAt(b []byte, style jsonStyle, level int) []byte {
	newline := func(b []byte, level int) []byte {
		if style.indent > 0 {
			b = append(b, '\n')
			for range level * style.indent {
				b = append(b, ' ')
			}
		}
		return b
	}
	comma := func(b []byte) []byte {
		b = append(b, ',')
		if style.indent == 0 && !style.compact {
			b = append(b, ' ')
		}
		return b
	}
	switch v.kind {
	case absent, null:
		return append(b, "null"...)
	case boolean:
		return append(b, v.text...)
	case number:
		return append(b, printNumber(v.text)...)
	case text:
		return appendText(b, v.text)
	case list:
		if len(v.items) == 0 {
			return append(b, "[]"...)
		}
		b = append(b, '[')
		for i := range v.items {
			if i > 0 {
				b = comma(b)
			}
			b = newline(b, level+1)
			b = v.items[i].appendAt(b, style, level+1)
		}
		return append(newline(b, level), ']')
	case object:
		if len(v.members) == 0 {
			return append(b, "{}"...)
		}
		members := v.members
		if style.sorted {
			members = slices.Clone(members)
			slices.SortStableFunc(members, func(a, b member) int { return strings.Compare(a.key, b.key) })
		}
		b = append(b, '{')
		for i := range members {
			if i > 0 {
				b = comma(b)
			}
			b = newline(b, level+1)
			b = appendText(b, members[i].key)
			b = append(b, ':')
			if !style.compact {
				b = append(b, ' ')
			}
			b = members[i].value.appendAt(b, style, level+1)
		}
		return append(newline(b, level), '}')
	}
	return b
}

const hex = "0123456789abcdef"

// appendText writes a JSON text in ASCII.
func appendText(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, '\\', 'n')
		case r == '\r':
			b = append(b, '\\', 'r')
		case r == '\t':
			b = append(b, '\\', 't')
		case r == '\b':
			b = append(b, '\\', 'b')
		case r == '\f':
			b = append(b, '\\', 'f')
		case r >= ' ' && r <= '~' || r == 0x7f:
			b = append(b, byte(r))
		case r > 0xffff:
			r -= 0x10000
			b = appendUnit(appendUnit(b, 0xd800+r>>10), 0xdc00+r&0x3ff)
		default:
			b = appendUnit(b, r)
		}
	}
	return append(b, '"')
}

func appendUnit(b []byte, r rune) []byte {
	return append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}
