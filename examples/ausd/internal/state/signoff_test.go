package state

import (
	"fmt"
	"testing"
)

func TestPolicy(t *testing.T) {
	t.Parallel()
	p := Policy{
		{"Fox", "release", map[string]int{"releng": 2}}, {"Fox", "beta", map[string]int{"releng": 1, "relman": 1}}, {"Bird", "release", map[string]int{"birds": 1}},
	}
	none := New(nil)
	s := New([]*Object{
		object(t, Rule, "1", `{"rule_id": 1, "product": "Fox", "channel": "release", "mapping": "R", "fallbackMapping": "F"}`),
		object(t, Release, "R", `{"product": "Fox", "blob": {"schema_version": 9}, "data_version": 1}`),
		object(t, Release, "F", `{"product": "Fox", "blob": {"schema_version": 4000, "blobs": ["Inner"]}, "data_version": 1, "read_only": true}`),
		object(t, Release, "Inner", `{"product": "Fox", "blob": {"schema_version": 9}, "data_version": 1}`),
		object(t, Release, "Alone", `{"product": "Fox", "blob": {"schema_version": 9}, "data_version": 1}`),
		object(t, Pin, "Bird/release/9.", `{"product": "Bird", "channel": "release", "version": "9.", "mapping": "Alone"}`),
		object(t, Shutoff, "1", `{"id": 1, "product": "Fox", "channel": "beta"}`),
	})
	rule := func(columns string) *Object { return object(t, Rule, "9", `{"rule_id": 9`+columns+`}`) }
	release := func(name, more string) *Object {
		return object(t, Release, name, `{"product": "Fox", "data_version": 2`+more+`}`)
	}
	for _, tt := range []struct {
		name          string
		before, after *Object
		want          string
	}{
		{"of both channels", nil, rule(`, "product": "Fox"`), "map[releng:2 relman:1]"},
		{"of every product", nil, rule(`, "channel": "release"`), "map[birds:1 releng:2]"},
		{"of everything", nil, rule(``), "map[birds:1 releng:2 relman:1]"},
		{"by a pattern", nil, rule(`, "product": "Fox", "channel": "b*"`), "map[releng:1 relman:1]"},
		{"of another channel", nil, rule(`, "product": "Fox", "channel": "nightly"`), "map[]"},
		{"of another product", nil, rule(`, "product": "Cat", "channel": "release"`), "map[]"},
		{"that leaves a channel", rule(`, "product": "Fox", "channel": "beta"`), rule(`, "product": "Fox", "channel": "nightly"`), "map[releng:1 relman:1]"},
		{"a release that is mapped", s.Get(Ref{Release, "R"}), release("R", `, "blob": {"schema_version": 9, "x": 1}`), "map[releng:2]"},
		{"a release that is protected", s.Get(Ref{Release, "R"}), release("R", `, "blob": {"schema_version": 9}, "read_only": true`), "map[]"},
		{"a release that is not any more", s.Get(Ref{Release, "F"}), release("F", `, "blob": {"schema_version": 4000, "blobs": ["Inner"]}`), "map[releng:2 relman:1]"},
		{"a release in a mapped one", s.Get(Ref{Release, "Inner"}), release("Inner", `, "blob": {"schema_version": 9, "x": 1}`), "map[releng:2]"},
		{"a release that is pinned", s.Get(Ref{Release, "Alone"}), nil, "map[birds:1]"},
		{"a new release", nil, release("N", `, "blob": {"schema_version": 9}`), "map[]"},
		{"a pin", nil, object(t, Pin, "Fox/beta/9.", `{"product": "Fox", "channel": "beta", "version": "9.", "mapping": "R"}`), "map[releng:1 relman:1]"},
		{"to shut off", nil, object(t, Shutoff, "2", `{"id": 2, "product": "Fox", "channel": "release"}`), "map[]"},
		{"to shut off and give another", nil, object(t, Shutoff, "2", `{"id": 2, "product": "Fox", "channel": "release", "instead": "R"}`), "map[releng:2]"},
		{"to lift", s.Get(Ref{Shutoff, "1"}), nil, "map[releng:1 relman:1]"},
		{"a host", nil, object(t, Host, "h", `{"products": ["Bird", "Cat"]}`), "map[birds:1]"},
		{"a host with paths", nil, object(t, Host, "h", `{"paths": [{"Pattern": "/x", "Products": ["Fox"]}]}`), "map[releng:2 relman:1]"},
		{"a partial", nil, object(t, Made, "a/b", `{"from": "a", "to": "b"}`), "map[birds:1 releng:2 relman:1]"},
	} {
		o := tt.after
		if o == nil {
			o = tt.before
		}
		if got := fmt.Sprint(p.Required(s, s, []Changed{{o.Ref, tt.before, tt.after}})); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	if got := Policy(nil).Required(none, none, []Changed{{Ref{Rule, "9"}, nil, rule("")}}); len(got) != 0 {
		t.Errorf("without a policy: %v", got)
	}
}

func TestBlob(t *testing.T) {
	t.Parallel()
	o := object(t, Release, "R", `{"product": "Fox", "data_version": 3, "asset_versions": {"w": {"de": 4}}, "blob": {"name": "R", "platforms": {"w": {"OS": 1, "locales": {"de": {"a": 1}, "fr": {"a": 1}}}, "v": {"alias": "w"}, "e": {"locales": {}}}}}`)
	document, err := DecodeDocument([]byte(o.Release().Document()))
	if err != nil {
		t.Fatal(err)
	}
	b := SplitBlob(document)
	if hash(o.Body()) != o.Hash {
		t.Errorf("it is kept as what it is not: %s", o.Body())
	}
	if len(b.Assets) != 2 || o.AssetVersion("w", "de") != 4 || o.AssetVersion("w", "fr") != 1 || o.AssetVersion("x", "y") != 1 {
		t.Errorf("%+v", b)
	}
	b.Assets[Asset{"w", "en-US"}] = map[string]any{"a": "2"}
	whole, err := marshal(b.Document())
	if want := `{"name":"R","platforms":{"e":{},"v":{"alias":"w"},"w":{"OS":1,"locales":{"de":{"a":1},"en-US":{"a":"2"},"fr":{"a":1}}}}}`; err != nil || string(whole) != want {
		t.Errorf("%v: %s, want %s", err, whole, want)
	}
	for _, tt := range []struct{ document, want string }{
		{o.Release().Document(), "map[w:map[de:4]]"},
		{`{"platforms": {"w": {"locales": {"de": {"a": 2}, "fr": {"a": 1}}}}}`, "map[w:map[de:5]]"},
		{`{"platforms": {"w": {"locales": {"fr": {"a": 2}}}}}`, "map[w:map[fr:2]]"},
		{`{}`, "map[]"},
		{`{"platforms": {"w": {"locales": {"de": {"a": 1}, "fr": {"a": 1}, "it": {}}}}}`, "map[w:map[de:4]]"},
	} {
		if got, err := CountAssets(o, []byte(tt.document)); err != nil || fmt.Sprint(got) != tt.want {
			t.Errorf("%s: %v, %v, want %s", tt.document, got, err, tt.want)
		}
	}
	if o.AssetVersion("w", "de") != 4 {
		t.Error("counting has changed the object")
	}
}

func TestMergeColumns(t *testing.T) {
	t.Parallel()
	const base = `{"a": 1, "b": 2, "data_version": 5}`
	for _, tt := range []struct{ name, mine, theirs, want, columns string }{
		{"apart", `{"a": 2, "b": 2, "data_version": 6}`, `{"a": 1, "b": 3, "data_version": 6}`, `{"a":2,"b":3,"data_version":7}`, "[]"},
		{"alike", `{"a": 2, "b": 2, "data_version": 6}`, `{"a": 2, "b": 2, "data_version": 6}`, ``, "[a]"},
		{"both", `{"a": 2, "b": 4, "data_version": 6}`, `{"a": 3, "b": 5, "data_version": 6}`, ``, "[a b]"},
		{"new", `{"a": 1, "b": 2, "c": null, "data_version": 6}`, `{"a": 1, "b": 2, "d": 4, "data_version": 6}`, `{"a":1,"b":2,"d":4,"data_version":7}`, "[]"},
	} {
		got, columns, err := MergeColumns([]byte(base), []byte(tt.mine), []byte(tt.theirs))
		if err != nil || string(got) != tt.want || fmt.Sprint(columns) != tt.columns {
			t.Errorf("%s: %s, %v, %v; want %s, %s", tt.name, got, columns, err, tt.want, tt.columns)
		}
	}
}
