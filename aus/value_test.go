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

// What a patch says is the same packed as it was, in the document's words and in others.
func TestPacked(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`"https://dl.example/x.mar"`, `"https:\/\/dl.example\/x.mar"`, `"\u00fc\n"`, `"ü"`, `""`, `null`, `true`, `false`, `0`, `-0`, `50000000`, `1.50`, `1e3`, `1E400`, `[1, "a"]`, `{"a": null}`,
	} {
		document := `{"schema_version": 9, "platforms": {"p": {"locales": {"l": {"completes": [{"from": ` + text + `, "fileUrl": ` + text + `, "x": 1}, {"hashValue": ` + text + `}, 3], "partials": [{"filesize":` + text + `}]}}}}}`
		v, err := parseValue(document, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		r := newAppRelease(&v, 9, document)
		l := r.platforms[0].locales[0]
		one, err := parseValue(text, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		want := one.scalar()
		for _, tt := range []struct{ got, want patch }{
			{r.patch(&l.completes[0]), patch{from: want, url: want, isObject: true}},
			{r.patch(&l.completes[1]), patch{hash: want, isObject: true}},
			{r.patch(&l.completes[2]), patch{}},
			{r.patch(&l.partials[0]), patch{size: want, isObject: true}},
		} {
			if tt.got != tt.want {
				t.Errorf("%s: %+v, want %+v", text, tt.got, tt.want)
			}
		}
	}
}
