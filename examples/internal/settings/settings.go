// Package settings reads the configuration of a service into a struct: one TOML file, the environment over it, flags over
// that, and under all of it the defaults. What is wrong is reported together, each problem with its key and the place it
// comes from, and a line that looks like a known key is told which.
//
//	defaults  <  file (--config)  <  environment (PREFIX_SECTION_KEY)  <  flags
//
// The struct has a field with the tag `toml` for each key; sections are structs in it, lists of tables slices of structs.
// A field whose type reads text ([Duration], [Size], [Secret]) is one value.
package settings

import (
	"bytes"
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/senbonzakura/senbonzakura/examples/internal/words"
)

// Problem is something that is wrong with the configuration.
type Problem struct {
	Key     string // as in "server.listen"; "" where a file as a whole cannot be used
	Origin  string // "partiald.toml:12", "PARTIALD_SERVER_LISTEN", "--listen", or "" for a default
	Line    int    // of the file; 0 where it is not about one
	Message string
	Snippet string // the line and a caret below it, where there is one
}

func (p Problem) String() string {
	var b strings.Builder
	for _, part := range []string{p.Origin, p.Key} {
		if part != "" {
			b.WriteString(part + ": ")
		}
	}
	b.WriteString(p.Message)
	if p.Snippet != "" {
		b.WriteString("\n" + p.Snippet)
	}
	return b.String()
}

// Error is all that is wrong.
type Error struct{ Problems []Problem }

func (e *Error) Error() string { return strings.Join(e.Lines(), "\n") }

// Lines returns the problems, each as a line of its own.
func (e *Error) Lines() []string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return lines
}

// Options say how a service is configured.
type Options struct {
	// Prefix begins the names of all variables that are read: with "PARTIALD_", PARTIALD_SERVER_LISTEN is server.listen.
	Prefix string
	// Ignore are variables with the prefix that are no keys, without it, besides CONFIG and TOKEN.
	Ignore []string
}

// Reader reads a configuration, and knows of each key where it was set. It is not safe for concurrent use.
type Reader struct {
	target   any // pointer to the struct
	defaults func() any
	opts     Options

	origins  map[string]string // where a key that is not the default was set
	file     *source
	problems []Problem       // all that could not be read
	unread   map[string]bool // keys that somebody meant to set, and failed; with a section all that is in it
	torn     bool            // the file could not be read to its end: nobody knows what else it would have set
}

// New returns a reader into target, a pointer to a struct that has the defaults. defaults returns another one.
func New(target any, defaults func() any, opts Options) *Reader {
	return &Reader{target: target, defaults: defaults, opts: opts}
}

// Load reads a file ("" for none) and variables, as os.Environ has them, over the defaults. What flags change comes
// after it ([Reader.Set]), and then [Reader.All], which says everything that is wrong.
func (c *Reader) Load(file string, environ []string) {
	if file != "" {
		c.readFile(file)
	}
	c.overlay(environ)
}

// Note notes where a key was set by other means.
func (c *Reader) Note(key, origin string) {
	if c.origins == nil {
		c.origins = map[string]string{}
	}
	c.origins[key] = origin
}

// Set replaces a key by what a flag says.
func (c *Reader) Set(key, value, flag string) error {
	l, ok := c.leaves()[key]
	if !ok {
		return fmt.Errorf("there is no key %s", key)
	}
	if err := l.set(value); err != nil {
		return &Error{Problems: []Problem{{Key: key, Origin: flag, Message: err.Error()}}}
	}
	c.Note(key, flag)
	return nil
}

// Origin says where a key was set: a line of the file, a variable, a flag; "" for the default.
func (c *Reader) Origin(key string) string { return c.origins[key] }

// Problems are all that could not be read.
func (c *Reader) Problems() []Problem { return c.problems }

// Unreadable says what of file and environment cannot be read, in an [*Error], for those who do not care whether the
// rest can be used.
func (c *Reader) Unreadable() error {
	if len(c.problems) == 0 {
		return nil
	}
	return &Error{c.problems}
}

// All returns what could not be read and what was found to be wrong, in the order of the file; nil where that is nothing.
func (c *Reader) All(found []Problem) error {
	problems := slices.Concat(c.problems, found)
	if len(problems) == 0 {
		return nil
	}
	for i := range problems {
		c.Place(&problems[i])
	}
	line := func(p Problem) int { return cmp.Or(p.Line, math.MaxInt) }
	slices.SortStableFunc(problems, func(a, b Problem) int { return cmp.Compare(line(a), line(b)) })
	return &Error{problems}
}

// At names the place of a key in a problem that is found later, such as a server that does not answer.
func (c *Reader) At(key string, err error) error {
	p := Problem{Key: key, Message: err.Error()}
	c.Place(&p)
	return &Error{[]Problem{p}}
}

// Place says where the key of a problem was set: for one that is missing in a list table, where that begins.
func (c *Reader) Place(p *Problem) {
	if p.Origin != "" {
		return
	}
	key := p.Key
	if i := strings.LastIndexByte(key, ']'); c.origins[key] == "" && i >= 0 {
		key = key[:i+1]
	}
	p.Origin = c.origins[key]
	if f := c.file; f != nil {
		if at, ok := f.at[key]; ok && p.Origin == f.origin(at.row) {
			p.Line, p.Snippet = at.row, f.show(at.row, at.column)
		}
	}
}

// Known says whether a key has the value that it was meant to have: where that could not be read, what would follow
// from the default is not worth saying.
func (c *Reader) Known(key string) bool {
	r := c
	if r.origins[key] != "" {
		t := c.typeOf(key)
		return !r.torn || t == nil || !IsTables(reflect.New(t).Elem()) // of which there may have been more
	}
	for at := key; at != ""; at = parent(at) {
		if r.unread[at] {
			return false
		}
	}
	return !r.torn
}

// parent returns what a key is in: of "auth.tokens[1].role" it is "auth.tokens[1]", then "auth.tokens", then "auth".
func parent(key string) string {
	if i := strings.LastIndexAny(key, ".["); i >= 0 {
		return key[:i]
	}
	return ""
}

// wrong notes something that cannot be read.
func (c *Reader) wrong(p Problem) {
	c.problems = append(c.problems, p)
	if p.Key != "" {
		c.unknown(p.Key)
	}
}

// unknown notes that somebody meant to set a key.
func (c *Reader) unknown(key string) {
	if c.unread == nil {
		c.unread = map[string]bool{}
	}
	c.unread[key] = true
}

// source is a configuration file.
type source struct {
	name    string
	data    []byte
	at      map[string]place // of what it sets
	secrets []string         // names of keys whose values are not shown
}

type place struct{ row, column int }

func (f *source) origin(row int) string { return f.name + ":" + strconv.Itoa(row) }

// problem is one at a place of the file.
func (f *source) problem(key, message string, row, column int) Problem {
	return Problem{Key: key, Origin: f.origin(row), Line: row, Message: message, Snippet: f.show(row, column)}
}

// show returns a line of the file with a caret below a column.
func (f *source) show(row, column int) string {
	lines := strings.Split(string(f.data), "\n")
	if row < 1 || row > len(lines) {
		return ""
	}
	line := f.concealed(strings.TrimRight(lines[row-1], "\r"))
	indent := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, line[:min(max(column, 1), len(line)+1)-1])
	number := strconv.Itoa(row)
	return fmt.Sprintf("  %s | %s\n  %s | %s^", number, line, strings.Repeat(" ", len(number)), indent)
}

var userInfo = regexp.MustCompile(`://[^\s"']*@`)

// concealed is a line of the file without what must stay in it: problems end up in logs and tickets.
func (f *source) concealed(line string) string {
	before, value, ok := strings.Cut(line, "=")
	_, name, _ := cutLast(strings.ToLower(strings.TrimSpace(before)))
	switch {
	case !ok || strings.HasSuffix(name, "_file") || slices.Contains([]string{"tls_key", "public_key"}, name):
	case isSecret(name) || nearest(name, f.secrets) != "":
		gap := value[:len(value)-len(strings.TrimLeft(value, " \t"))]
		return before + "=" + gap + "…"
	}
	return userInfo.ReplaceAllString(line, "://…@")
}

// MaxFile is how large a file may be, in bytes.
const MaxFile = 4 << 20

func (c *Reader) readFile(file string) {
	data, err := ReadSmall(file, MaxFile)
	if err != nil {
		c.torn = true
		c.wrong(Problem{Origin: "--config", Message: err.Error()})
		return
	}
	c.Data(filepath.Base(file), data)
}

// Data reads all that can be read of a file that is called name. What cannot is taken out, and the rest read again, to its end.
func (c *Reader) Data(name string, data []byte) {
	f := &source{name: name, data: data, at: map[string]place{}, secrets: c.secrets()}
	c.file = f
	rest := bytes.Clone(data)
	for {
		list, torn := c.assignments(rest)
		if torn != nil {
			if !c.torn { // else it is about what was cut off
				c.torn = true
				c.wrong(f.problem("", torn.message, torn.row, torn.column))
			}
			rest = upTo(rest, torn.row)
			continue
		}
		if c.bare(rest, list) {
			continue
		}
		next := c.defaults()
		err := toml.NewDecoder(bytes.NewReader(rest)).DisallowUnknownFields().Decode(next)
		var extra *toml.StrictMissingError
		var wrong *toml.DecodeError
		switch {
		case errors.As(err, &extra): // all else was taken
		case errors.As(err, &wrong):
			row, column := wrong.Position()
			if i := atRow(list, row); i >= 0 {
				c.wrong(f.problem(list[i].key, c.explain(wrong, list[i]), row, column))
				erase(rest, list, i)
				continue
			}
			fallthrough
		case err != nil: // of which it is not known where it is
			c.torn = true
			c.wrong(Problem{Origin: f.name, Message: err.Error()})
			return
		}
		take(reflect.ValueOf(c.target).Elem(), reflect.ValueOf(next).Elem())
		for _, a := range list {
			c.Note(a.key, f.origin(a.row))
			f.at[a.key] = place{a.row, a.column}
		}
		if extra != nil {
			c.extras(extra, list)
		}
		return
	}
}

// secrets are the names of keys that hold secrets, and of those that have environments.
func (c *Reader) secrets() []string {
	names := []string{"env"}
	EachLeaf(reflect.ValueOf(c.defaults()).Elem(), "", func(key string, v reflect.Value) {
		if _, name, _ := cutLast(key); v.Type() == reflect.TypeFor[Secret]() {
			names = append(names, name)
		}
	})
	return names
}

// take copies what can be configured.
func take(to, from reflect.Value) {
	for i := range to.NumField() {
		if to.Type().Field(i).IsExported() {
			to.Field(i).Set(from.Field(i))
		}
	}
}

// bare takes out values that ought to be in quotes and are not, and says whether there were any: the decoder takes numbers
// for sizes, and does not say where a time span is.
func (c *Reader) bare(data []byte, list []assignment) (found bool) {
	for i, a := range list {
		t := c.typeOf(a.key)
		if a.table || a.value == unstable.String || t == nil || !isText(reflect.New(t).Elem()) {
			continue
		}
		found = true
		c.wrong(c.file.problem(a.key, "is "+article(a.value.String())+", want "+want(t), a.row, a.column))
		erase(data, list, i)
	}
	return found
}

// extras notes the keys of a file that there are not.
func (c *Reader) extras(extra *toml.StrictMissingError, list []assignment) {
	for i := range extra.Errors {
		e := &extra.Errors[i]
		row, column := e.Position()
		key := strings.Join(e.Key(), ".")
		if at := atRow(list, row); at >= 0 && listNumber.ReplaceAllString(list[at].key, "") == key {
			key = list[at].key
		}
		meant, hint := c.suggest(key)
		p := c.file.problem(key, "unknown key"+hint, row, column)
		if slices.Contains(c.problems, p) { // the library names some twice
			continue
		}
		c.wrong(p)
		for _, m := range meant {
			c.unknown(m)
		}
	}
}

// upTo returns the lines before a row, and always less than all of data.
func upTo(data []byte, row int) []byte {
	end := 0
	for range row - 1 {
		i := bytes.IndexByte(data[end:], '\n')
		if i < 0 {
			break
		}
		end += i + 1
	}
	if end == len(data) {
		end = bytes.LastIndexByte(data[:max(end-1, 0)], '\n') + 1
	}
	return data[:end]
}

// erase makes an assignment blank, or a table with all that is in it. Everything else stays in its place.
func erase(data []byte, list []assignment, i int) {
	from, to := list[i].row, math.MaxInt
	for _, a := range list[i+1:] {
		if !list[i].table || a.table {
			to = a.row
			break
		}
	}
	row := 1
	for at, c := range data {
		switch {
		case c == '\n':
			row++
		case row >= from && row < to:
			data[at] = ' '
		}
	}
}

var (
	decodeInto = regexp.MustCompile(`^(?:toml: )?cannot decode TOML (\w+) into`)
	wanted     = map[reflect.Kind]string{
		reflect.String: `a text in quotes`, reflect.Int: "a whole number", reflect.Bool: "true or false", reflect.Slice: "a list in brackets",
	}
)

// explain says in words of the file, not of the program, what is wrong with what stands at a place.
func (c *Reader) explain(e *toml.DecodeError, at assignment) string {
	message := strings.TrimPrefix(e.Error(), "toml: ")
	var is string
	switch m := decodeInto.FindStringSubmatch(message); {
	case m != nil:
		is = article(m[1])
	case strings.HasPrefix(message, "cannot store a") && at.value == unstable.ArrayTable:
		is = "a list of tables"
	case strings.HasPrefix(message, "cannot store a"):
		is = "a table"
	default:
		return message
	}
	t := c.typeOf(at.key)
	switch {
	case t == nil:
		return "is " + is + ", which cannot stand here"
	case at.value == unstable.Array && t.Kind() == reflect.Slice && !IsTables(reflect.New(t).Elem()):
		return "has " + is + " in it, want " + want(t.Elem())
	case at.value == unstable.Array && t.Kind() == reflect.Slice, at.value == unstable.InlineTable && t.Kind() == reflect.Struct:
		return "has " + is + " in it, which cannot stand here"
	}
	return "is " + is + ", want " + want(t)
}

func article(noun string) string {
	noun = strings.ToLower(noun)
	if strings.ContainsAny(noun[:1], "aeiou") {
		return "an " + noun
	}
	return "a " + noun
}

// suggest names the known keys that an unknown one looks like, and says that.
func (c *Reader) suggest(key string) (meant []string, hint string) {
	section, last, _ := cutLast(key)
	plain := listNumber.ReplaceAllString(section, "")
	var like, places []string
	c.eachKey(func(other string, inTables bool) {
		in, name, _ := cutLast(other)
		if inTables && in != plain {
			return
		}
		if like = append(like, other); in != "" {
			like = append(like, in)
		}
		if name != last || in == plain {
			return
		}
		if meant = append(meant, other); in == "" { // it stands in another section
			places = append(places, "at the top")
		} else {
			places = append(places, "in ["+in+"]")
		}
	})
	if len(meant) > 0 {
		return meant, fmt.Sprintf(" (there is %s %s)", last, strings.Join(places, " and "))
	}
	best := nearest(listNumber.ReplaceAllString(key, ""), like)
	if best == "" {
		return nil, ""
	}
	if in, name, ok := cutLast(best); ok && in == plain {
		best = section + "." + name
	}
	return []string{best}, fmt.Sprintf(" (did you mean %s?)", best)
}

// nearest returns the first of those that are most like a name, "" where none is.
func nearest(name string, known []string) string {
	best, distance := "", 3
	for _, other := range known {
		if d := words.Distance(name, other); d < distance {
			best, distance = other, d
		}
	}
	return best
}

// eachKey calls visit for every key, in the order of the file, and says which are those of list tables.
func (c *Reader) eachKey(visit func(key string, inTables bool)) {
	EachLeaf(reflect.ValueOf(c.defaults()).Elem(), "", func(key string, v reflect.Value) {
		visit(key, false)
		if IsTables(v) {
			EachLeaf(reflect.New(v.Type().Elem()).Elem(), key+".", func(key string, _ reflect.Value) { visit(key, true) })
		}
	})
}

func cutLast(key string) (section, last string, ok bool) {
	i := strings.LastIndexByte(key, '.')
	if i < 0 {
		return "", key, false
	}
	return key[:i], key[i+1:], true
}

// assignment is a key with its value in a file, or the head of a table.
type assignment struct {
	key    string // list tables have their number: auth.tokens[1].role
	row    int
	column int           // of the value, or of the key of a table
	value  unstable.Kind // also unstable.Table and unstable.ArrayTable
	table  bool
}

// tear is where a file is no TOML any more.
type tear struct {
	message     string
	row, column int
}

// assignments lists what a file sets, as far as it can be parsed.
func (c *Reader) assignments(data []byte) ([]assignment, *tear) {
	var list []assignment
	var p unstable.Parser
	p.Reset(data)
	section := ""
	counts := map[string]int{}
	for p.NextExpression() {
		e := p.Expression()
		var parts []string
		var start, end int
		for it := e.Key(); it.Next(); {
			n := it.Node()
			if parts == nil {
				start = int(n.Raw.Offset)
			}
			end = int(n.Raw.Offset + n.Raw.Length)
			parts = append(parts, strings.ToLower(string(n.Data)))
		}
		if parts == nil {
			continue
		}
		a := assignment{key: strings.Join(parts, "."), row: bytes.Count(data[:start], []byte("\n")) + 1, value: e.Kind, table: true}
		if e.Kind == unstable.KeyValue {
			a.key, a.value, a.table = section+a.key, e.Value().Kind, false
			start = end + bytes.IndexByte(data[end:], '=') + 1
			start = len(data) - len(bytes.TrimLeft(data[start:], " \t"))
		}
		a.column = start - bytes.LastIndexByte(data[:start], '\n')
		if t := c.typeOf(a.key); a.table && (t == nil && e.Kind == unstable.ArrayTable || t != nil && t.Kind() == reflect.Slice) {
			if counts[a.key] == 0 {
				list = append(list, a)
			}
			counts[a.key]++
			a.key = fmt.Sprintf("%s[%d]", a.key, counts[a.key]-1)
		}
		if a.table {
			section = a.key + "."
		}
		list = append(list, a)
	}
	err := p.Error()
	if err == nil {
		return list, nil
	}
	t := &tear{err.Error(), 1, 1}
	var at *unstable.ParserError
	if errors.As(err, &at) {
		start := p.Shape(p.Range(at.Highlight)).Start
		t.row, t.column = start.Line, start.Column
	}
	return list, t
}

// atRow returns the number of the assignment that a row belongs to, or -1.
func atRow(list []assignment, row int) int {
	found := -1
	for i, a := range list {
		if a.row <= row {
			found = i
		}
	}
	return found
}

var listNumber = regexp.MustCompile(`\[\d+\]`)

// typeOf returns the type of a key, also of those within list tables; nil where there is no such key.
func (c *Reader) typeOf(key string) reflect.Type {
	t := reflect.TypeOf(c.target).Elem()
	for _, name := range strings.Split(listNumber.ReplaceAllString(key, ""), ".") {
		if t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() == reflect.Map { // whose keys can be called anything
			t = t.Elem()
			continue
		}
		if t.Kind() != reflect.Struct || isText(reflect.New(t).Elem()) {
			return nil
		}
		found := false
		for _, field := range reflect.VisibleFields(t) {
			if field.Tag.Get("toml") == name && !field.Anonymous {
				t, found = field.Type, true
				break
			}
		}
		if !found {
			return nil
		}
	}
	return t
}

// leaf is one key with a value of its own.
type leaf struct{ v reflect.Value }

// leaves returns all keys but those within list tables.
func (c *Reader) leaves() map[string]leaf {
	all := map[string]leaf{}
	EachLeaf(reflect.ValueOf(c.target).Elem(), "", func(key string, v reflect.Value) { all[key] = leaf{v} })
	return all
}

// EachLeaf calls visit for every field that has a value of its own, in the order of the file.
func EachLeaf(v reflect.Value, prefix string, visit func(key string, v reflect.Value)) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name := field.Tag.Get("toml")
		switch {
		case field.Anonymous:
			EachLeaf(v.Field(i), prefix, visit)
		case name == "":
		case field.Type.Kind() == reflect.Struct && !isText(v.Field(i)):
			EachLeaf(v.Field(i), prefix+name+".", visit)
		default:
			visit(prefix+name, v.Field(i))
		}
	}
}

func isText(v reflect.Value) bool {
	_, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
	return ok
}

// IsTables says whether a key is a list of tables.
func IsTables(v reflect.Value) bool {
	return v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct
}

// want says what a key of a type takes.
func want(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Duration]():
		return `a time span in quotes, such as "30s"`
	case reflect.TypeFor[Size]():
		return `a size in quotes, such as "20GB"`
	case reflect.TypeFor[Secret]():
		return wanted[reflect.String]
	}
	switch {
	case t.Kind() == reflect.Struct, t.Kind() == reflect.Map:
		return "a table"
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		return "tables in double brackets"
	}
	if words, ok := wanted[t.Kind()]; ok {
		return words
	}
	return "something else"
}

// set takes a value as environment and flags have it; lists are separated by commas.
func (l leaf) set(s string) error {
	if text, ok := l.v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return text.UnmarshalText([]byte(s))
	}
	switch l.v.Kind() {
	case reflect.String:
		l.v.SetString(s)
	case reflect.Bool:
		b, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("%q is not true or false", s)
		}
		l.v.SetBool(b)
	case reflect.Int:
		n, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", s)
		}
		l.v.SetInt(int64(n))
	case reflect.Slice:
		if IsTables(l.v) {
			return errors.New("can only be set in a file")
		}
		list := reflect.MakeSlice(l.v.Type(), 0, 0)
		for item := range strings.SplitSeq(s, ",") {
			if item = strings.TrimSpace(item); item == "" {
				continue
			}
			element := reflect.New(l.v.Type().Elem()).Elem()
			if err := (leaf{element}).set(item); err != nil {
				return err
			}
			list = reflect.Append(list, element)
		}
		l.v.Set(list)
	default:
		return errors.New("can only be set in a file")
	}
	return nil
}

// overlay takes variables over what the file says.
func (c *Reader) overlay(environ []string) {
	byName := map[string]string{}
	leaves := c.leaves()
	for key := range leaves {
		byName[c.Env(key)] = key
	}
	values := map[string]string{} // of names that stand there twice, the last, as everywhere
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		values[name] = value
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := values[name]
		rest, ours := strings.CutPrefix(name, c.opts.Prefix)
		if !ours || rest == "CONFIG" || rest == "TOKEN" || slices.Contains(c.opts.Ignore, rest) {
			continue
		}
		key, ok := byName[name]
		if !ok {
			p := Problem{Origin: name, Message: "no key has this variable"}
			if near := nearest(name, slices.Sorted(maps.Keys(byName))); near != "" {
				p.Message += fmt.Sprintf(" (did you mean %s?)", near)
				c.unknown(byName[near])
			}
			c.wrong(p)
			continue
		}
		if err := leaves[key].set(value); err != nil {
			c.wrong(Problem{Key: key, Origin: name, Message: err.Error()})
			delete(c.origins, key)
			continue
		}
		c.Note(key, name)
	}
}

// ReadSmall reads a file that must not be larger than limit bytes.
func ReadSmall(name string, limit int64) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() && info.Mode()&os.ModeNamedPipe == 0 {
		return nil, fmt.Errorf("%s is not a file", name)
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are read", name, info.Size(), limit)
	}
	return os.ReadFile(name)
}
