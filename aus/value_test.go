package aus

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// plain is a value as encoding/json gives it.
func (v *value) plain() any {
	switch v.kind {
	case boolean:
		return v.text == "true"
	case number:
		return json.Number(v.text)
	case text:
		return v.text
	case list:
		items := []any{}
		for i := range v.items {
			items = append(items, v.items[i].plain())
		}
		return items
	case object:
		members := map[string]any{}
		for i := range v.members {
			members[v.members[i].key] = v.members[i].value.plain()
		}
		return members
	}
	return nil
}

// The parser takes what encoding/json takes, and makes of it what that makes.
func FuzzParseValue(f *testing.F) {
	for _, s := range []string{
		``, ` `, `null`, `true `, "\t-1.5e+3", `"a\"\\\u00e9\ud83d\ude00\ud83d\n"`, `[]`, `[ ]`, `{ }`, `[1,2,]`, `[1 2]`, `{"a":1,"b":[{}],"a":2}`, `{"a"}`, `{"a":}`, `{a:1}`, `{"a":1 "b":2}`,
		`truefalse`, `01`, `1.`, `+1`, `nul`, `"a`, `"a\`, `"\x"`, "\"\x01\"", `{"a":1}}`, `]`, `,`, `[1]x`, "\ufeff1", `"\"`, `{"\u0061":1,"a":2}`,
		"{" + strings.Repeat(`"k":1,`, 40) + strings.Repeat(`"l\u0000":"x",`, 3) + `"end":null}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := parseValue(s, Limits{Depth: 1000})
		if errors.Is(err, ErrLimit) {
			return
		}
		d := json.NewDecoder(bytes.NewReader([]byte(s)))
		d.UseNumber()
		var want any
		valid := json.Valid([]byte(s)) && d.Decode(&want) == nil
		if got := err == nil; got != (valid && strings.ToValidUTF8(s, "") == s) {
			t.Fatalf("%q: %v, valid %v", s, err, valid)
		}
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("%q: %v is no ErrFormat", s, err)
			}
			return
		}
		if diff := cmp.Diff(want, v.plain()); diff != "" {
			t.Errorf("%q: %s", s, diff)
		}
	})
}
