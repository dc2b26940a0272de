package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
)

// AssetVersion returns the data version of one locale of a release.
func (o *Object) AssetVersion(platform, locale string) int64 {
	if n := o.assets[platform][locale]; n > 0 {
		return n
	}
	return 1
}

// clone copies the versions.
func (a AssetVersions) clone() AssetVersions {
	next := make(AssetVersions, len(a)+1)
	for p, locales := range a {
		next[p] = maps.Clone(locales)
	}
	return next
}

// set notes a version; 1 is what is not noted.
func (a AssetVersions) set(platform, locale string, n int64) {
	if n > 1 {
		if a[platform] == nil {
			a[platform] = map[string]int64{}
		}
		a[platform][locale] = n
		return
	}
	delete(a[platform], locale)
	if len(a[platform]) == 0 {
		delete(a, platform)
	}
}

// Blob is the document of a release taken apart as Balrog keeps it: a base, and an asset for each locale of each platform.
type Blob struct {
	Base   map[string]any
	Assets map[Asset]any
}

// Asset names one locale of a platform.
type Asset struct{ Platform, Locale string }

// Path is how Balrog names an asset.
func (a Asset) Path() string { return ".platforms." + a.Platform + ".locales." + a.Locale }

// DecodeDocument reads a JSON object with its numbers as they are written.
func DecodeDocument(document []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(document))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrObject, err)
	}
	return m, nil
}

// SplitBlob takes a document apart, which it changes.
func SplitBlob(document map[string]any) Blob {
	b := Blob{document, map[Asset]any{}}
	platforms, _ := document["platforms"].(map[string]any)
	for p, v := range platforms {
		platform, _ := v.(map[string]any)
		locales, ok := platform["locales"].(map[string]any)
		if !ok {
			continue
		}
		for l, asset := range locales {
			b.Assets[Asset{p, l}] = asset
		}
		delete(platform, "locales")
	}
	return b
}

// Document puts a blob together again, in a copy.
func (b Blob) Document() map[string]any {
	document, _ := clone(b.Base).(map[string]any)
	if document == nil {
		document = map[string]any{}
	}
	child := func(m map[string]any, key string) map[string]any {
		c, ok := m[key].(map[string]any)
		if !ok {
			c = map[string]any{}
			m[key] = c
		}
		return c
	}
	for a, v := range b.Assets {
		child(child(child(document, "platforms"), a.Platform), "locales")[a.Locale] = v
	}
	return document
}

// clone copies the objects of a document; what is in lists is shared.
func clone(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	c := make(map[string]any, len(m))
	for k, v := range m {
		c[k] = clone(v)
	}
	return c
}

// CountAssets returns the data versions of a release's locales after its document becomes another one: those of changed locales are
// counted on. was may be nil.
func CountAssets(was *Object, document []byte) (AssetVersions, error) {
	if was == nil {
		return nil, nil
	}
	next, err := DecodeDocument(document)
	if err != nil {
		return nil, err
	}
	old, err := DecodeDocument([]byte(was.release.Document()))
	if err != nil {
		return nil, err
	}
	before, after := SplitBlob(old), SplitBlob(next)
	versions := was.assets.clone()
	for a, v := range before.Assets {
		now, ok := after.Assets[a]
		switch {
		case !ok:
			versions.set(a.Platform, a.Locale, 1)
		case !reflect.DeepEqual(v, now):
			versions.set(a.Platform, a.Locale, was.AssetVersion(a.Platform, a.Locale)+1)
		}
	}
	if len(versions) == 0 {
		return nil, nil
	}
	return versions, nil
}
