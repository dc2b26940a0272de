package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
)

// merge applies to theirs what mine changed of base: objects key by key, everything else as a whole. paths are those that both
// changed, and differently. The data version counts on from theirs.
func merge(base, mine, theirs []byte) (merged json.RawMessage, paths []string, err error) {
	var documents [3]any
	for i, b := range [][]byte{base, mine, theirs} {
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		if err := d.Decode(&documents[i]); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrObject, err)
		}
		if m, ok := documents[i].(map[string]any); ok { // a column that is null is one that is left out
			maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
		}
	}
	version := next(documents[2])
	result := mergeValue(documents[0], documents[1], documents[2], "", &paths)
	if len(paths) > 0 {
		slices.Sort(paths)
		return nil, paths, nil
	}
	if m, ok := result.(map[string]any); ok && version != "" && !reflect.DeepEqual(result, documents[2]) {
		m["data_version"] = version
	}
	text, err := json.Marshal(result)
	if err != nil {
		return nil, nil, err
	}
	return text, nil, nil
}

// MergeColumns applies to theirs what mine changed of base, column by column, as Balrog merges rows: columns are those
// that both changed, be it alike.
func MergeColumns(base, mine, theirs []byte) (merged json.RawMessage, columns []string, err error) {
	var rows [3]map[string]any
	for i, b := range [][]byte{base, mine, theirs} {
		if rows[i], err = DecodeDocument(b); err != nil {
			return nil, nil, err
		}
	}
	keys := map[string]bool{}
	for _, r := range rows {
		for k := range r {
			keys[k] = true
		}
	}
	version := next(rows[2])
	for k := range keys {
		if k == "data_version" || reflect.DeepEqual(rows[0][k], rows[1][k]) {
			continue
		}
		if !reflect.DeepEqual(rows[0][k], rows[2][k]) {
			columns = append(columns, k)
			continue
		}
		rows[2][k] = rows[1][k]
	}
	if len(columns) > 0 {
		slices.Sort(columns)
		return nil, columns, nil
	}
	if version != "" {
		rows[2]["data_version"] = version
	}
	merged, err = marshal(rows[2])
	return merged, nil, err
}

// Merge applies to theirs what mine changed of base, key by key. paths are those that both changed, and differently.
func Merge(base, mine, theirs []byte) (merged json.RawMessage, paths []string, err error) {
	return merge(base, mine, theirs)
}

// none stands for a key that is not there.
type none struct{}

func mergeValue(base, mine, theirs any, path string, conflicts *[]string) any {
	switch {
	case reflect.DeepEqual(mine, theirs), reflect.DeepEqual(mine, base):
		return theirs
	case reflect.DeepEqual(theirs, base):
		return mine
	}
	m, okMine := mine.(map[string]any)
	t, okTheirs := theirs.(map[string]any)
	if !okMine || !okTheirs {
		if path == "data_version" {
			return theirs
		}
		*conflicts = append(*conflicts, path)
		return theirs
	}
	b, _ := base.(map[string]any) // none where both made the object
	keys := map[string]bool{}
	for _, o := range []map[string]any{b, m, t} {
		for k := range o {
			keys[k] = true
		}
	}
	get := func(o map[string]any, k string) any {
		if v, ok := o[k]; ok {
			return v
		}
		return none{}
	}
	result := map[string]any{}
	for k := range keys {
		at := k
		if path != "" {
			at = path + "." + k
		}
		v := mergeValue(get(b, k), get(m, k), get(t, k), at, conflicts)
		if _, ok := v.(none); !ok {
			result[k] = v
		}
	}
	return result
}

// next returns what follows the data version of a document, or "" where it has none.
func next(document any) json.Number {
	m, ok := document.(map[string]any)
	if !ok {
		return ""
	}
	n, ok := m["data_version"].(json.Number)
	if !ok {
		return ""
	}
	i, err := n.Int64()
	if err != nil {
		return ""
	}
	return json.Number(strconv.FormatInt(i+1, 10))
}
