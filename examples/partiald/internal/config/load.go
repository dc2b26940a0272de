package config

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// EnvPrefix begins the names of all variables that are read: PARTIALD_SERVER_LISTEN is server.listen.
const EnvPrefix = "PARTIALD_"

// Problem is something that is wrong with the configuration.
type Problem struct {
	Key     string // as in "server.listen"; "" where a file as a whole cannot be used
	Origin  string // "partiald.toml:12", "PARTIALD_SERVER_LISTEN", "--listen", or "" for a default
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

func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Load reads a file ("" for none) and variables, as os.Environ has them, over the defaults. What flags change comes
// after it, and then [Config.Finish]. The error is an [*Error].
func Load(file string, environ []string) (*Config, error) {
	c := Default()
	var problems []Problem
	if file != "" {
		problems = c.read(file)
	}
	problems = append(problems, c.overlay(environ)...)
	if len(problems) > 0 {
		return nil, &Error{problems}
	}
	return c, nil
}

// Finish fills in what depends on the machine and says everything that is wrong, in an [*Error].
func (c *Config) Finish() error {
	problems := c.fill()
	problems = append(problems, c.check()...)
	if len(problems) == 0 {
		return nil
	}
	for i := range problems {
		if problems[i].Origin == "" {
			problems[i].Origin = c.origins[problems[i].Key]
		}
	}
	return &Error{problems}
}

// At names the place of a key in a problem that is found later, such as a server that does not answer.
func (c *Config) At(key string, err error) error {
	return &Error{[]Problem{{Key: key, Origin: c.origins[key], Message: err.Error()}}}
}

const maxFile = 4 << 20

func (c *Config) read(file string) []Problem {
	data, err := readSmall(file, maxFile)
	if err != nil {
		return []Problem{{Origin: "--config", Message: err.Error()}}
	}
	name := filepath.Base(file)
	if problems := bareSpans(name, data); len(problems) > 0 {
		return problems
	}
	decoder := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	err = decoder.Decode(c)
	var wrong *toml.DecodeError
	var unknown *toml.StrictMissingError
	switch {
	case errors.As(err, &unknown):
		var problems []Problem
		for i := range unknown.Errors {
			e := &unknown.Errors[i]
			p := located(name, data, e)
			p.Message = "unknown key" + c.suggest(e.Key())
			if !slices.Contains(problems, p) { // the library names some twice
				problems = append(problems, p)
			}
		}
		return problems
	case errors.As(err, &wrong):
		p := located(name, data, wrong)
		p.Message = explain(wrong)
		return []Problem{p}
	case err != nil:
		return []Problem{{Origin: name, Message: err.Error()}}
	}
	for key, line := range positions(data) {
		c.note(key, name+":"+strconv.Itoa(line))
	}
	return nil
}

// located says where in a file something is wrong, and shows it.
func located(name string, data []byte, e *toml.DecodeError) Problem {
	row, col := e.Position()
	return shown(name, data, strings.Join(e.Key(), "."), row, col)
}

func shown(name string, data []byte, key string, row, col int) Problem {
	p := Problem{Key: key, Origin: fmt.Sprintf("%s:%d", name, row)}
	lines := strings.Split(string(data), "\n")
	if row >= 1 && row <= len(lines) {
		line := strings.TrimRight(lines[row-1], "\r")
		col = min(max(col, 1), len(line)+1)
		indent := strings.Map(func(r rune) rune {
			if r == '\t' {
				return r
			}
			return ' '
		}, line[:col-1])
		number := strconv.Itoa(row)
		p.Snippet = fmt.Sprintf("  %s | %s\n  %s | %s^", number, line, strings.Repeat(" ", len(number)), indent)
	}
	return p
}

var (
	decodeInto = regexp.MustCompile(`^(?:toml: )?cannot decode TOML (\w+) into`)
	wanted     = map[reflect.Kind]string{
		reflect.String: `a text in quotes`, reflect.Int: "a whole number", reflect.Bool: "true or false", reflect.Slice: "a list in brackets",
	}
)

// explain says in words of the file, not of the program, what is wrong with a value.
func explain(e *toml.DecodeError) string {
	message := strings.TrimPrefix(e.Error(), "toml: ")
	m := decodeInto.FindStringSubmatch(message)
	if m == nil {
		return message
	}
	is := "is " + article(m[1])
	if t := typeOf(e.Key()); t != nil {
		return is + ", want " + want(t)
	}
	return is + ", which cannot stand here"
}

func article(noun string) string {
	noun = strings.ToLower(noun)
	if strings.ContainsAny(noun[:1], "aeiou") {
		return "an " + noun
	}
	return "a " + noun
}

// suggest names the known key that an unknown one looks like.
func (c *Config) suggest(key []string) string {
	if len(key) == 0 {
		return ""
	}
	at := strings.Join(key, ".")
	known := c.leaves()
	for other := range known { // a key that stands in another section
		if section, last, _ := cutLast(other); last == key[len(key)-1] && other != at {
			return fmt.Sprintf(" (there is %s in [%s])", last, section)
		}
	}
	best, distance := "", 3
	for other := range known {
		if d := edits(at, other); d < distance || d == distance && best != "" && other < best {
			best, distance = other, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", best)
}

func cutLast(key string) (section, last string, ok bool) {
	i := strings.LastIndexByte(key, '.')
	if i < 0 {
		return "", key, false
	}
	return key[:i], key[i+1:], true
}

// edits is how many letters must be put in, taken out or changed.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := corner
			if a[i] != b[j] {
				cost++
			}
			corner = row[j+1]
			row[j+1] = min(cost, row[j]+1, corner+1)
		}
	}
	return row[len(b)]
}

// assignment is a key with its value in a file.
type assignment struct {
	key    string // list tables have their number: auth.tokens[1].role
	row    int    // of the key
	column int    // of the value
	value  unstable.Kind
}

// assignments lists what a file sets, as far as it can be parsed.
func assignments(data []byte) []assignment {
	var list []assignment
	var p unstable.Parser
	p.Reset(data)
	section := ""
	counts := map[string]int{}
	for p.NextExpression() {
		e := p.Expression()
		var parts []string
		a := assignment{row: 1}
		for it := e.Key(); it.Next(); {
			n := it.Node()
			parts = append(parts, strings.ToLower(string(n.Data)))
			a.row = bytes.Count(data[:n.Raw.Offset], []byte("\n")) + 1
		}
		key := strings.Join(parts, ".")
		switch e.Kind {
		case unstable.Table:
			section = key + "."
		case unstable.ArrayTable:
			section = fmt.Sprintf("%s[%d].", key, counts[key])
			if counts[key]++; counts[key] == 1 {
				a.key = key
				list = append(list, a)
			}
		case unstable.KeyValue:
			a.key, a.value = section+key, e.Value().Kind
			a.column = 1
			if at := int(e.Value().Raw.Offset); at <= len(data) && at > 0 {
				a.column = at - bytes.LastIndexByte(data[:at], '\n')
			}
			list = append(list, a)
		}
	}
	return list
}

// positions returns the line of every key in a file.
func positions(data []byte) map[string]int {
	lines := map[string]int{}
	for _, a := range assignments(data) {
		lines[a.key] = a.row
	}
	return lines
}

var listNumber = regexp.MustCompile(`\[\d+\]`)

// bareSpans finds time spans without quotes, of which the decoder does not say where they are.
func bareSpans(name string, data []byte) []Problem {
	var problems []Problem
	for _, a := range assignments(data) {
		key := listNumber.ReplaceAllString(a.key, "")
		if t := typeOf(strings.Split(key, ".")); t == reflect.TypeFor[Duration]() && a.value != unstable.String && a.value != unstable.Invalid {
			p := shown(name, data, a.key, a.row, a.column)
			p.Message = "is " + article(a.value.String()) + ", want " + want(t)
			problems = append(problems, p)
		}
	}
	return problems
}

// typeOf returns the type of a key, also of those within list tables; nil where there is no such key.
func typeOf(key []string) reflect.Type {
	t := reflect.TypeFor[Config]()
	for _, name := range key {
		if t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct || t == reflect.TypeFor[Duration]() {
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
func (c *Config) leaves() map[string]leaf {
	all := map[string]leaf{}
	eachLeaf(reflect.ValueOf(c).Elem(), "", func(key string, v reflect.Value) { all[key] = leaf{v} })
	return all
}

// eachLeaf calls visit for every field that has a value of its own, in the order of the file.
func eachLeaf(v reflect.Value, prefix string, visit func(key string, v reflect.Value)) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name := field.Tag.Get("toml")
		switch {
		case field.Anonymous:
			eachLeaf(v.Field(i), prefix, visit)
		case name == "":
		case field.Type.Kind() == reflect.Struct && !isText(v.Field(i)):
			eachLeaf(v.Field(i), prefix+name+".", visit)
		default:
			visit(prefix+name, v.Field(i))
		}
	}
}

func isText(v reflect.Value) bool {
	_, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
	return ok
}

// isTables says whether a key is a list of tables.
func isTables(v reflect.Value) bool {
	return v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct
}

// want says what a key of a type takes.
func want(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Duration]():
		return `a time span in quotes, such as "30s"`
	case reflect.TypeFor[Size]():
		return `a size in quotes, such as "20GB"`
	}
	switch {
	case t.Kind() == reflect.Struct:
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
		if isTables(l.v) {
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
func (c *Config) overlay(environ []string) []Problem {
	byName := map[string]string{}
	leaves := c.leaves()
	for key := range leaves {
		byName[EnvPrefix+strings.ToUpper(strings.ReplaceAll(key, ".", "_"))] = key
	}
	var problems []Problem
	values := map[string]string{} // of names that stand there twice, the last, as everywhere
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		values[name] = value
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := values[name]
		if !strings.HasPrefix(name, EnvPrefix) || name == EnvPrefix+"CONFIG" || name == EnvPrefix+"TOKEN" {
			continue
		}
		key, ok := byName[name]
		if !ok {
			problems = append(problems, Problem{Origin: name, Message: "no key has this variable"})
			continue
		}
		if err := leaves[key].set(value); err != nil {
			problems = append(problems, Problem{Key: key, Origin: name, Message: err.Error()})
			continue
		}
		c.note(key, name)
	}
	return problems
}

// readSmall reads a file that must not be larger than limit bytes.
func readSmall(name string, limit int64) ([]byte, error) {
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
