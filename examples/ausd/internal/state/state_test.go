package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func object(t *testing.T, kind Kind, key, body string) *Object {
	t.Helper()
	o, err := NewObject(Ref{kind, key}, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestObjects(t *testing.T) {
	t.Parallel()
	a := object(t, Rule, "1", `{"rule_id": 1,  "product": "Fox", "comment": "<&>"}`)
	b := object(t, Rule, "1", "{\"comment\":\"<&>\",\n\"product\":\"Fox\",\"rule_id\":1}")
	if a.Hash != b.Hash || string(a.Body()) != `{"comment":"<&>","product":"Fox","rule_id":1}` {
		t.Errorf("two ways of writing one rule: %s, %s", a.Body(), b.Body())
	}
	r := object(t, Release, "R", `{"read_only": true, "product": "Fox", "blob": {"z": 1, "a": "<"}, "data_version": 3}`)
	if string(r.Body()) != `{"blob":{"z":1,"a":"<"},"data_version":3,"product":"Fox","read_only":true}` || r.Hash != hash(r.Body()) {
		t.Errorf("release: %s, hash %s, want %s", r.Body(), r.Hash, hash(r.Body()))
	}
	// What is kept is what is hashed, also where a field was left out.
	for _, body := range []string{
		`{"product": "Fox", "blob": {"a": "\u003c"}, "data_version": 1}`, `{"product": "Fox", "blob": {}, "data_version": 1, "asset_versions": {}}`,
		`{"product": ",\"data_version\":", "blob": {"a": ",\"data_version\":", "data_version": {"x": 1, "data_version": 2}}, "data_version": 2, "read_only": true}`,
		`{"product": "Fox", "blob": {}, "data_version": 1, "asset_versions": {"p": {"blob": 2, "data_version": 3}}}`,
	} {
		o := object(t, Release, "R", body)
		again, err := Load(o.Ref, o.Body(), o.Hash)
		if err != nil || again.Hash != o.Hash || !bytes.Equal(again.Body(), o.Body()) || hash(again.Body()) != again.Hash {
			t.Errorf("%s is kept as %s: %v", body, o.Body(), err)
		}
	}
	// What is not in the form in which it is kept is read as well, or refused.
	for body, want := range map[string]string{
		`{"blob":{},"data_version":2,"product":"Fox"}`:                                             `{"blob":{},"data_version":2,"product":"Fox","read_only":false}`,
		`{"blob":{},"data_version":2,"product":"Fox","read_only":false,"colour":1}`:                "",
		`{"blob":1,"data_version":1,"blob":{},"data_version":2,"product":"Fox","read_only":false}`: "",
		`{"blob":{,"data_version":2,"product":"Fox","read_only":false}`:                            "",
		`{"blob":{},"data_version":0,"product":"Fox","read_only":false}`:                           "",
	} {
		o, err := Load(Ref{Release, "R"}, []byte(body), hash([]byte(body)))
		switch {
		case want == "" && !errors.Is(err, ErrObject):
			t.Errorf("%s: %v, want ErrObject", body, err)
		case want != "" && (err != nil || string(o.Body()) != want):
			t.Errorf("%s: %v, %v, want %s", body, o, err, want)
		}
	}
	for _, tt := range []struct {
		kind      Kind
		key, body string
	}{
		{Rule, "1", `{"rule_id": 2}`},
		{Rule, "0", `{"rule_id": 0}`},
		{Rule, "1", `{"rule_id": 1, "colour": 1}`},
		{Rule, "1", `{"rule_id": "1"}`},
		{Rule, "1", `{"rule_id": 1} {}`},
		{Rule, "1", ``},
		{Release, "", `{"product": "Fox", "blob": {}, "data_version": 1}`},
		{Release, "R", `{"product": "Fox", "blob": {}, "data_version": 0}`},
		{Release, "R", `{"product": "Fox", "data_version": 1}`},
		{Release, "R", `[]`},
		{Pin, "Fox/release/9.", `{"product": "Fox", "channel": "beta", "version": "9."}`},
		{Shutoff, "1", `{"id": 0, "product": "Fox"}`},
		{Host, "h", `{}`},
		{Host, "h", `{"products": [], "paths": []}`},
		{Made, "a/b", `{"from": "a", "to": "c"}`},
		{"user", "x", `{}`},
	} {
		if _, err := NewObject(Ref{tt.kind, tt.key}, []byte(tt.body)); !errors.Is(err, ErrObject) {
			t.Errorf("%s %q %s: %v, want ErrObject", tt.kind, tt.key, tt.body, err)
		}
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	one := object(t, Rule, "1", `{"rule_id": 1}`)
	s := New([]*Object{one, object(t, Rule, "10", `{"rule_id": 10}`), object(t, Rule, "9", `{"rule_id": 9}`)})
	before := s.Hash()
	next, changes, err := s.Apply([]Operation{
		{one.Ref, one.Hash, []byte(`{"rule_id": 1, "comment": "x"}`)},
		{Ref{Rule, "2"}, "", []byte(`{"rule_id": 2}`)},
		{Ref{Rule, "9"}, s.Get(Ref{Rule, "9"}).Hash, nil},
	})
	if err != nil || len(changes) != 3 || next.Len(Rule) != 3 || s.Len(Rule) != 3 || s.Hash() != before || next.Hash() == before {
		t.Fatalf("%v, %d changes, %d rules", err, len(changes), next.Len(Rule))
	}
	var keys []string
	for _, o := range next.List(Rule) {
		keys = append(keys, o.Key)
	}
	if fmt.Sprint(keys) != "[1 2 10]" || next.NextNumber(Rule) != 11 {
		t.Errorf("rules %v, next %d", keys, next.NextNumber(Rule))
	}
	back, _, err := next.Apply(next.Difference(s))
	if err != nil || back.Hash() != before {
		t.Errorf("there and back: %v, hash %s, want %s", err, back.Hash(), before)
	}
	var conflict *ConflictError
	for name, op := range map[string]Operation{
		"new, but it is there": {one.Ref, "", []byte(`{"rule_id": 1}`)},
		"of another hash":      {one.Ref, "x", nil},
		"that is not there":    {Ref{Rule, "7"}, "x", nil},
	} {
		if _, _, err := s.Apply([]Operation{op}); !errors.As(err, &conflict) || !errors.Is(err, ErrConflict) {
			t.Errorf("%s: %v, want a conflict", name, err)
		}
	}
	if _, changes, err := s.Apply([]Operation{{one.Ref, one.Hash, one.Body()}, {Ref{Rule, "7"}, "", nil}}); err != nil || len(changes) != 0 {
		t.Errorf("nothing: %v, %d changes", err, len(changes))
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	const base = `{"a": 1, "b": {"c": 2, "d": [1]}, "data_version": 5}`
	for _, tt := range []struct{ name, mine, theirs, want, paths string }{
		{"apart", `{"a": 2, "b": {"c": 2, "d": [1]}, "data_version": 6}`, `{"a": 1, "b": {"c": 3, "d": [1]}, "data_version": 6}`, `{"a":2,"b":{"c":3,"d":[1]},"data_version":7}`, ""},
		{"alike", `{"a": 2, "b": {"c": 2, "d": [1]}, "data_version": 6}`, `{"a": 2, "b": {"c": 2, "d": [1]}, "data_version": 6}`, `{"a":2,"b":{"c":2,"d":[1]},"data_version":6}`, ""},
		{"both one scalar", `{"a": 2, "b": {"c": 2, "d": [1]}, "data_version": 6}`, `{"a": 3, "b": {"c": 2, "d": [1]}, "data_version": 6}`, "", "a"},
		{"deep", `{"a": 1, "b": {"c": 7, "d": [2]}, "data_version": 6}`, `{"a": 1, "b": {"c": 8, "d": [3]}, "data_version": 6}`, "", "b.c b.d"},
		{"removed and kept", `{"b": {"c": 2, "d": [1]}, "data_version": 6}`, `{"a": 1, "b": {"c": 3, "d": [1]}, "data_version": 6}`, `{"b":{"c":3,"d":[1]},"data_version":7}`, ""},
		{"removed and changed", `{"b": {"c": 2, "d": [1]}, "data_version": 6}`, `{"a": 9, "b": {"c": 2, "d": [1]}, "data_version": 6}`, "", "a"},
		{"null and left out", `{"a": 1, "x": null, "b": {"c": 2, "d": [1]}, "data_version": 6}`, `{"a": 1, "x": 5, "b": {"c": 2, "d": [1]}, "data_version": 6}`, `{"a":1,"b":{"c":2,"d":[1]},"data_version":6,"x":5}`, ""},
		{"both add", `{"a": 1, "b": {"c": 2, "d": [1]}, "x": 1, "data_version": 6}`, `{"a": 1, "b": {"c": 2, "d": [1]}, "y": 2, "data_version": 6}`, `{"a":1,"b":{"c":2,"d":[1]},"data_version":7,"x":1,"y":2}`, ""},
		{"both add one", `{"a": 1, "b": {"c": 2, "d": [1]}, "x": 1, "data_version": 6}`, `{"a": 1, "b": {"c": 2, "d": [1]}, "x": 2, "data_version": 6}`, "", "x"},
	} {
		got, paths, err := merge([]byte(base), []byte(tt.mine), []byte(tt.theirs))
		if err != nil || string(got) != tt.want || strings.Join(paths, " ") != tt.paths {
			t.Errorf("%s: %s, %v, %v; want %s, %s", tt.name, got, paths, err, tt.want, tt.paths)
		}
	}
}

func TestRebase(t *testing.T) {
	t.Parallel()
	base := object(t, Rule, "1", `{"rule_id": 1, "data_version": 1}`)
	now := object(t, Rule, "1", `{"rule_id": 1, "comment": "theirs", "data_version": 2}`)
	s := New([]*Object{now})
	find := func(hash string) ([]byte, error) {
		if hash == base.Hash {
			return base.Body(), nil
		}
		return nil, errors.New("there is no such object")
	}
	ops, err := s.Rebase([]Operation{{base.Ref, base.Hash, []byte(`{"rule_id": 1, "product": "Fox", "data_version": 2}`)}}, find)
	if err != nil || len(ops) != 1 || ops[0].Before != now.Hash || string(ops[0].Body) != `{"comment":"theirs","data_version":3,"product":"Fox","rule_id":1}` {
		t.Errorf("merged: %v %s", err, ops)
	}
	for name, op := range map[string]Operation{
		"removing what was changed":      {base.Ref, base.Hash, nil},
		"changing what was changed":      {base.Ref, base.Hash, []byte(`{"rule_id": 1, "comment": "mine", "data_version": 2}`)},
		"making what somebody made":      {base.Ref, "", []byte(`{"rule_id": 1}`)},
		"changing what somebody removed": {Ref{Rule, "2"}, "x", []byte(`{"rule_id": 2}`)},
	} {
		if _, err := s.Rebase([]Operation{op}, find); !errors.Is(err, ErrConflict) {
			t.Errorf("%s: %v, want a conflict", name, err)
		}
	}
	if ops, err := s.Rebase([]Operation{{Ref{Rule, "2"}, "x", nil}}, find); err != nil || len(ops) != 0 {
		t.Errorf("removing what is gone: %v, %v", ops, err)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	s := New([]*Object{
		object(t, Rule, "1", `{"rule_id": 1, "product": "Bird"}`),
		object(t, Release, "R", `{"product": "Fox", "blob": {}, "data_version": 1}`),
		object(t, Host, "dl.example", `{"products": ["Fox"]}`),
		object(t, Host, "own.example", `{"products": ["Other"]}`),
		object(t, Pin, "Fox/release/9.", `{"product": "Fox", "channel": "release", "version": "9."}`),
		object(t, Shutoff, "1", `{"id": 1, "product": "Fox"}`),
		object(t, Made, "a/b", `{"from": "A", "to": "b"}`),
	})
	c := s.Config("own.example")
	allow, err := json.Marshal(c.AllowList)
	if err != nil || len(c.Rules) != 1 || len(c.Releases) != 1 || len(c.Pins) != 1 || len(c.Shutoffs) != 1 || len(c.Made) != 1 || string(allow) != `{"dl.example":["Fox"],"own.example":["Bird","Fox"]}` {
		t.Errorf("%v: %s; %+v", err, allow, c)
	}
}
