// Package state has what an update server is made of, as objects that are named by what they contain: rules, releases,
// pins, shutoffs, allowed hosts and made partials. A state is immutable; a change of it is a list of operations, each with
// what it found, so that two changes of one object meet as a conflict, or are merged.
package state

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/senbonzakura/senbonzakura/aus"
)

// Kind says what an object is.
type Kind string

// The kinds. Keys are: the rule's number, the release's name, PRODUCT/CHANNEL/VERSION of a pin, the shutoff's number, the host,
// and FROM/TO of a made partial, by their hashes.
const (
	Rule    Kind = "rule"
	Release Kind = "release"
	Pin     Kind = "pin"
	Shutoff Kind = "shutoff"
	Host    Kind = "host"
	Made    Kind = "made"
)

// Kinds returns all kinds.
func Kinds() []Kind { return []Kind{Rule, Release, Pin, Shutoff, Host, Made} }

// Ref names an object.
type Ref struct {
	Kind Kind   `json:"kind"`
	Key  string `json:"key"`
}

func (r Ref) String() string { return string(r.Kind) + " " + r.Key }

// Object is one object. Hash is the SHA-256 of its body in hexadecimal.
type Object struct {
	Ref
	Hash string

	body   []byte        // nil of a release, which has its document
	assets AssetVersions // of a release

	rule    *aus.Rule
	release *aus.Release
	pin     *aus.Pin
	shutoff *aus.Shutoff
	host    *HostBody
	made    *aus.MadePartial
}

// ReleaseBody is the body of a release: its document, and what Balrog keeps beside it.
type ReleaseBody struct { // its keys are sorted, as they are in what is hashed
	// Assets are the data versions of locales that are not 1. Balrog counts those of each locale; DataVersion is that of the rest.
	Assets      AssetVersions   `json:"asset_versions,omitempty"`
	Blob        json.RawMessage `json:"blob"`
	DataVersion int64           `json:"data_version"`
	Product     string          `json:"product"`
	ReadOnly    bool            `json:"read_only"`
}

// AssetVersions are data versions by platform and locale.
type AssetVersions map[string]map[string]int64

// HostBody is the body of an allowed host, as in Balrog's configuration: products, or paths with products.
type HostBody struct {
	Products []string          `json:"products,omitempty"`
	Paths    []aus.AllowedPath `json:"paths,omitempty"`
}

// Errors that callers branch on.
var (
	// ErrObject says that a body is not that of its kind, or not of its key.
	ErrObject = errors.New("state: invalid object")
	// ErrConflict says that an object is not what an operation found. The error is a [*ConflictError].
	ErrConflict = errors.New("state: conflict")
)

// ConflictError says which objects have changed since.
type ConflictError struct {
	Refs  []Ref
	Paths []string // what both changed, where the bodies could not be merged
}

func (e *ConflictError) Error() string {
	var names []string
	for _, r := range e.Refs {
		names = append(names, r.String())
	}
	s := "changed by somebody else meanwhile: " + strings.Join(names, ", ")
	if len(e.Paths) > 0 {
		s += " (both changed " + strings.Join(e.Paths, ", ") + ")"
	}
	return s
}

// Is makes errors.Is(err, ErrConflict) true.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// maxBody bounds an object's body in bytes.
const maxBody = 64 << 20

// NewObject makes an object of a body.
func NewObject(ref Ref, body []byte) (*Object, error) {
	if len(body) > maxBody {
		return nil, fmt.Errorf("%w: %s: larger than %d bytes", ErrObject, ref, maxBody)
	}
	if !utf8.ValidString(ref.Key) || strings.ContainsRune(ref.Key, 0) {
		return nil, fmt.Errorf("%w: %s %q: not every database takes this name", ErrObject, ref.Kind, ref.Key)
	}
	canonical, err := canonicalJSON(body, ref.Kind == Release)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrObject, ref, err)
	}
	return newObject(ref, canonical)
}

// Load makes an object of what [Object.Body] returned for one with this hash. Another body is ErrObject.
func Load(ref Ref, body []byte, want string) (*Object, error) {
	if got := hash(body); got != want {
		return nil, fmt.Errorf("%w: %s is damaged: its hash is %s, want %s", ErrObject, ref, got, want)
	}
	if r, ok := splitRelease(body); ok && ref.Kind == Release {
		return newRelease(ref, &r, want)
	}
	return newObject(ref, body)
}

// What is before and behind the document in the body of a release whose locales have no versions of their own.
const (
	beforeDocument = `{"blob":`
	behindDocument = `,"data_version":`
)

// splitRelease reads a body that [Object.Body] made, without looking at the document in it. Others, and those with versions of locales,
// it leaves to those who read everything.
func splitRelease(body []byte) (r ReleaseBody, ok bool) {
	end := bytes.LastIndex(body, []byte(behindDocument)) // what is behind it has no such text, quotes are escaped there
	if end < len(beforeDocument) || !bytes.HasPrefix(body, []byte(beforeDocument)) {
		return r, false
	}
	if err := json.Unmarshal(slices.Concat([]byte("{"), body[end+1:]), &r); err != nil {
		return r, false
	}
	_, tail := r.around()
	r.Blob = body[len(beforeDocument):end]
	return r, bytes.Equal(body[end:], tail)
}

// around is what is before and behind the document in the body of a release.
func (r *ReleaseBody) around() (head, tail []byte) {
	text, err := marshal(ReleaseBody{Assets: r.Assets, Blob: json.RawMessage("0"), DataVersion: r.DataVersion, Product: r.Product, ReadOnly: r.ReadOnly})
	if err != nil {
		panic(err) // it was read from JSON
	}
	at := bytes.LastIndex(text, []byte("0"+behindDocument))
	return text[:at], text[at+1:]
}

// newRelease makes the object of a release whose hash is known, or "".
func newRelease(ref Ref, r *ReleaseBody, known string) (*Object, error) {
	bad := func(err error) (*Object, error) { return nil, fmt.Errorf("%w: %s: %w", ErrObject, ref, err) }
	switch {
	case ref.Key == "":
		return bad(errors.New("a release needs a name"))
	case r.DataVersion < 1:
		return bad(errors.New("data_version is 1 or larger"))
	}
	release, err := aus.NewRelease(ref.Key, r.Product, r.Blob, &aus.ReleaseOptions{DataVersion: r.DataVersion, ReadOnly: r.ReadOnly})
	if err != nil {
		return bad(err)
	}
	o := &Object{Ref: ref, Hash: known, release: release, assets: r.Assets}
	if known == "" {
		o.Hash = hash(o.Body())
	}
	return o, nil
}

// newObject makes an object of a canonical body.
func newObject(ref Ref, canonical []byte) (*Object, error) {
	bad := func(err error) (*Object, error) { return nil, fmt.Errorf("%w: %s: %w", ErrObject, ref, err) }
	var err error
	o := &Object{Ref: ref, body: canonical, Hash: hash(canonical)}
	strict := func(to any) error {
		d := json.NewDecoder(bytes.NewReader(canonical))
		d.DisallowUnknownFields()
		return d.Decode(to)
	}
	key := ref.Key
	switch ref.Kind {
	case Rule:
		o.rule = new(aus.Rule)
		err = strict(o.rule)
		key = strconv.FormatInt(o.rule.ID, 10)
		if err == nil && o.rule.ID <= 0 {
			err = errors.New("a rule's number is 1 or larger")
		}
	case Release:
		var r ReleaseBody
		if err := strict(&r); err != nil {
			return bad(err)
		}
		return newRelease(ref, &r, "") // what is kept has every field, what came may have left some out
	case Pin:
		o.pin = new(aus.Pin)
		err = strict(o.pin)
		key = PinKey(o.pin)
	case Shutoff:
		o.shutoff = new(aus.Shutoff)
		err = strict(o.shutoff)
		key = strconv.FormatInt(o.shutoff.ID, 10)
		if err == nil && o.shutoff.ID <= 0 {
			err = errors.New("a shutoff's number is 1 or larger")
		}
	case Host:
		o.host = new(HostBody)
		err = strict(o.host)
		if err == nil && (o.host.Products == nil) == (o.host.Paths == nil) {
			err = errors.New("want products, or paths with products")
		}
	case Made:
		o.made = new(aus.MadePartial)
		err = strict(o.made)
		key = MadeKey(o.made.From, o.made.To)
	default:
		err = errors.New("there is no such kind")
	}
	if err != nil {
		return bad(err)
	}
	if key != ref.Key {
		return bad(fmt.Errorf("the body is that of %q", key))
	}
	return o, nil
}

// Body returns the object's body as canonical JSON: without blanks, keys sorted but for those of a release's document.
func (o *Object) Body() []byte {
	if o.release == nil {
		return o.body
	}
	r := ReleaseBody{DataVersion: o.release.DataVersion(), Product: o.release.Product(), ReadOnly: o.release.ReadOnly(), Assets: o.assets}
	head, tail := r.around()
	return slices.Concat(head, []byte(o.release.Document()), tail)
}

// PinKey is the key of a pin.
func PinKey(p *aus.Pin) string { return p.Product + "/" + p.Channel + "/" + p.Version }

// MadeKey is the key of a made partial.
func MadeKey(from, to string) string { return strings.ToLower(from) + "/" + strings.ToLower(to) }

// Rule returns the rule that the object is, or nil; so do the others. They must not be changed.
func (o *Object) Rule() *aus.Rule { return o.rule }

// Release returns the release that the object is, or nil.
func (o *Object) Release() *aus.Release { return o.release }

// Pin returns the pin that the object is, or nil.
func (o *Object) Pin() *aus.Pin { return o.pin }

// Shutoff returns the shutoff that the object is, or nil.
func (o *Object) Shutoff() *aus.Shutoff { return o.shutoff }

// Made returns the made partial that the object is, or nil.
func (o *Object) Made() *aus.MadePartial { return o.made }

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// canonicalJSON writes a document without blanks, keys sorted. keepBlob leaves the value of "blob" in its own order, which
// clients of Balrog's API see.
func canonicalJSON(body []byte, keepBlob bool) ([]byte, error) {
	var v any
	if keepBlob {
		var m map[string]json.RawMessage
		if err := json.Unmarshal(body, &m); err != nil {
			return nil, err
		}
		v = m
	} else {
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			return nil, err
		}
		if d.More() {
			return nil, errors.New("more than one value")
		}
	}
	return marshal(v)
}

// marshal is json.Marshal without escapes for HTML.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// State is a set of objects. It is immutable and safe for concurrent use.
type State struct {
	objects map[Ref]*Object
}

// New makes a state of objects.
func New(objects []*Object) *State {
	s := &State{objects: make(map[Ref]*Object, len(objects))}
	for _, o := range objects {
		s.objects[o.Ref] = o
	}
	return s
}

// Get returns an object, or nil.
func (s *State) Get(r Ref) *Object { return s.objects[r] }

// Len returns how many objects of a kind there are.
func (s *State) Len(k Kind) int {
	n := 0
	for r := range s.objects {
		if r.Kind == k {
			n++
		}
	}
	return n
}

// List returns the objects of a kind by their keys; numbers come in their order.
func (s *State) List(k Kind) []*Object {
	var list []*Object
	for r, o := range s.objects {
		if r.Kind == k {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b *Object) int { return compareKeys(a.Key, b.Key) })
	return list
}

func compareKeys(a, b string) int {
	if n, ok := number(a); ok {
		if m, ok := number(b); ok {
			return cmp.Compare(n, m)
		}
	}
	return strings.Compare(a, b)
}

// number reads a key that is a number. Most others are seen to be none by their first byte.
func number(key string) (int64, bool) {
	if key == "" || key[0] < '0' || key[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(key, 10, 64)
	return n, err == nil
}

// NewKey stands for the number of a rule or shutoff that gets one when it is published.
const NewKey = "new"

// Number gives numbers to new rules and shutoffs, from first on and none that an object has. What needs none stays as it is.
func (s *State) Number(operations []Operation, first func(Kind) (int64, error)) ([]Operation, error) {
	next := map[Kind]int64{}
	numbered := operations
	for i, op := range operations {
		if op.Key != NewKey || op.Kind != Rule && op.Kind != Shutoff {
			continue
		}
		if next[op.Kind] == 0 {
			n, err := first(op.Kind)
			if err != nil {
				return nil, err
			}
			next[op.Kind] = max(n, s.NextNumber(op.Kind))
			numbered = slices.Clone(operations)
		}
		var body map[string]json.RawMessage
		if err := json.Unmarshal(op.Body, &body); err != nil || body == nil {
			return nil, fmt.Errorf("%w: %s: its body is no JSON object", ErrObject, op.Ref)
		}
		field := "rule_id"
		if op.Kind == Shutoff {
			field = "id"
		}
		op.Key = strconv.FormatInt(next[op.Kind], 10)
		body[field] = json.RawMessage(op.Key)
		text, err := marshal(body)
		if err != nil {
			return nil, err
		}
		op.Body = text
		next[op.Kind]++
		numbered[i] = op
	}
	return numbered, nil
}

// NextNumber returns a number that no object of the kind has: one more than the largest.
func (s *State) NextNumber(k Kind) int64 {
	var largest int64
	for r := range s.objects {
		if r.Kind != k {
			continue
		}
		if n, ok := number(r.Key); ok {
			largest = max(largest, n)
		}
	}
	return largest + 1
}

// Hash is what the state is named by: that of all its objects.
func (s *State) Hash() string {
	refs := slices.SortedFunc(maps.Keys(s.objects), func(a, b Ref) int {
		if a.Kind != b.Kind {
			return strings.Compare(string(a.Kind), string(b.Kind))
		}
		return strings.Compare(a.Key, b.Key)
	})
	h := sha256.New()
	for _, r := range refs {
		h.Write(fmt.Appendf(nil, "%s %q %s\n", r.Kind, r.Key, s.objects[r].Hash))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Operation changes one object.
type Operation struct {
	Ref
	// Before is the hash of the object as it was when the operation was made; "" is no object.
	Before string `json:"before"`
	// Body is the object's new body; nil removes it.
	Body json.RawMessage `json:"body,omitempty"`
}

// Changed is what an operation came to.
type Changed struct {
	Ref
	Before, After *Object // nil is none
}

// Apply makes a new state. An object that was changed since an operation was made is a [*ConflictError].
func (s *State) Apply(operations []Operation) (*State, []Changed, error) {
	next := &State{objects: maps.Clone(s.objects)}
	if next.objects == nil {
		next.objects = map[Ref]*Object{}
	}
	var conflict ConflictError
	var changes []Changed
	for _, op := range operations {
		was := next.objects[op.Ref]
		if was == nil && op.Before != "" || was != nil && was.Hash != op.Before {
			conflict.Refs = append(conflict.Refs, op.Ref)
			continue
		}
		if op.Body == nil {
			if was != nil {
				delete(next.objects, op.Ref)
				changes = append(changes, Changed{op.Ref, was, nil})
			}
			continue
		}
		o, err := NewObject(op.Ref, op.Body)
		if err != nil {
			return nil, nil, err
		}
		if was != nil && was.Hash == o.Hash {
			continue
		}
		next.objects[op.Ref] = o
		changes = append(changes, Changed{op.Ref, was, o})
	}
	if len(conflict.Refs) > 0 {
		return nil, nil, &conflict
	}
	return next, changes, nil
}

// Rebase turns operations that were made on older objects into operations on this state: bodies are merged, key by key.
// find returns an object's body by its hash. What two people changed differently is a [*ConflictError] with its paths.
func (s *State) Rebase(operations []Operation, find func(hash string) ([]byte, error)) ([]Operation, error) {
	var rebased []Operation
	for _, op := range operations {
		now := s.objects[op.Ref]
		switch {
		case now == nil && op.Before == "" || now != nil && now.Hash == op.Before:
			rebased = append(rebased, op)
			continue
		case now == nil && op.Body == nil:
			continue // removed by both
		case now == nil || op.Body == nil || op.Before == "":
			return nil, &ConflictError{Refs: []Ref{op.Ref}}
		}
		base, err := find(op.Before)
		if err != nil {
			return nil, err
		}
		merged, paths, err := merge(base, op.Body, now.Body())
		if err != nil {
			return nil, err
		}
		if len(paths) > 0 {
			return nil, &ConflictError{Refs: []Ref{op.Ref}, Paths: paths}
		}
		rebased = append(rebased, Operation{op.Ref, now.Hash, merged})
	}
	return rebased, nil
}

// Difference returns the operations that turn a state into another one, without made partials.
func (s *State) Difference(to *State) []Operation {
	var operations []Operation
	for _, k := range Kinds() {
		if k == Made {
			continue
		}
		for _, o := range s.List(k) {
			if to.objects[o.Ref] == nil {
				operations = append(operations, Operation{Ref: o.Ref, Before: o.Hash})
			}
		}
		for _, o := range to.List(k) {
			was := s.objects[o.Ref]
			switch {
			case was == nil:
				operations = append(operations, Operation{o.Ref, "", o.Body()})
			case was.Hash != o.Hash:
				operations = append(operations, Operation{o.Ref, was.Hash, o.Body()})
			}
		}
	}
	return operations
}

// Config is what the state is compiled from. own is the host from which the server's own files come, which is allowed for
// every product; "" is none.
func (s *State) Config(own string) aus.Config {
	c := aus.Config{AllowList: s.AllowList(own)}
	for _, o := range s.List(Rule) {
		c.Rules = append(c.Rules, *o.rule)
	}
	for _, o := range s.List(Release) {
		c.Releases = append(c.Releases, o.release)
	}
	for _, o := range s.List(Pin) {
		c.Pins = append(c.Pins, *o.pin)
	}
	for _, o := range s.List(Shutoff) {
		c.Shutoffs = append(c.Shutoffs, *o.shutoff)
	}
	for _, o := range s.List(Made) {
		c.Made = append(c.Made, *o.made)
	}
	return c
}

// AllowList says from which hosts updates may come; own is as for Config.
func (s *State) AllowList(own string) aus.AllowList {
	var list aus.AllowList
	for _, o := range s.List(Host) {
		if o.Key != own {
			list = append(list, aus.AllowedHost{Host: o.Key, Products: o.host.Products, Paths: o.host.Paths})
		}
	}
	if own == "" {
		return list
	}
	products := map[string]bool{}
	for _, o := range s.objects {
		switch {
		case o.rule != nil && o.rule.Product != nil:
			products[*o.rule.Product] = true
		case o.release != nil:
			products[o.release.Product()] = true
		}
	}
	return append(list, aus.AllowedHost{Host: own, Products: slices.Sorted(maps.Keys(products))})
}
