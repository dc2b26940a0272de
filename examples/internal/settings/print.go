package settings

import (
	"encoding"
	"fmt"
	"io"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Print writes the configuration that holds as TOML. Secrets are masked, and where a value is not the default a comment
// says where it was set.
func (c *Reader) Print(w io.Writer) error {
	var b strings.Builder
	section := ""
	var tables strings.Builder
	EachLeaf(reflect.ValueOf(c.target).Elem(), "", func(key string, v reflect.Value) {
		at, name, _ := cutLast(key)
		if at != section {
			b.WriteString(tables.String())
			tables.Reset()
			section = at
			fmt.Fprintf(&b, "\n[%s]\n", at)
		}
		if IsTables(v) {
			for i := range v.Len() {
				fmt.Fprintf(&tables, "\n[[%s]]\n", key)
				EachLeaf(v.Index(i), "", func(k string, v reflect.Value) {
					tables.WriteString(line(k, v, c.origins[fmt.Sprintf("%s[%d].%s", key, i, k)]))
				})
			}
			return
		}
		b.WriteString(line(name, v, c.origins[key]))
	})
	b.WriteString(tables.String())
	_, err := io.WriteString(w, strings.TrimPrefix(b.String(), "\n"))
	return err
}

func line(name string, v reflect.Value, origin string) string {
	s := name + " = " + literal(v)
	if name == "secrets" { // names of files, not what is in them
		s = name + " = [" + strings.Join(quoteAll(v.Interface().([]string)), ", ") + "]"
	}
	if origin != "" {
		s += " # " + origin
	}
	return s + "\n"
}

func literal(v reflect.Value) string {
	if text, ok := v.Interface().(encoding.TextMarshaler); ok {
		s, err := text.MarshalText()
		if err != nil {
			return quote(err.Error())
		}
		return quote(string(s))
	}
	switch v.Kind() {
	case reflect.String:
		return quote(maskURL(v.String()))
	case reflect.Slice:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = literal(v.Index(i))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case reflect.Map:
		var items []string
		entries := mapOf(v)
		for _, k := range slices.Sorted(maps.Keys(entries)) {
			items = append(items, quote(k)+" = "+literal(entries[k]))
		}
		return "{" + strings.Join(items, ", ") + "}"
	case reflect.Struct:
		var items []string
		EachLeaf(v, "", func(key string, v reflect.Value) {
			if !v.IsZero() {
				items = append(items, key+" = "+literal(v))
			}
		})
		return "{" + strings.Join(items, ", ") + "}"
	default:
		return fmt.Sprint(v.Interface())
	}
}

func mapOf(v reflect.Value) map[string]reflect.Value {
	m := map[string]reflect.Value{}
	for it := v.MapRange(); it.Next(); {
		m[it.Key().String()] = it.Value()
	}
	return m
}

func quoteAll(list []string) []string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = quote(s)
	}
	return quoted
}

// quote writes a basic string of TOML.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			b.WriteString(`\u` + fmt.Sprintf("%04x", r))
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// maskURL hides a password in an address, and what an assignment for a plugin's environment holds where its name says
// that it is a secret.
func maskURL(s string) string {
	if name, _, ok := strings.Cut(s, "="); ok && !strings.Contains(name, "/") {
		if isSecret(name) {
			return name + "=" + masked
		}
	}
	if !strings.Contains(s, "://") {
		return s
	}
	u, err := url.Parse(s)
	if err != nil || u.User == nil {
		return s
	}
	return u.Redacted()
}

// isSecret says whether something that is called so holds a secret, as far as its name tells.
func isSecret(name string) bool {
	return slices.ContainsFunc([]string{"SECRET", "TOKEN", "PASS", "KEY", "PIN", "CREDENTIAL"}, func(word string) bool {
		return strings.Contains(strings.ToUpper(name), word)
	})
}

// Env is the name of a key's variable.
func (c *Reader) Env(key string) string {
	return c.opts.Prefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// Number is a key within a list table, as problems and positions name it.
func Number(key string, i int, name string) string {
	return key + "[" + strconv.Itoa(i) + "]." + name
}
