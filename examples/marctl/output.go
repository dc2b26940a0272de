package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"text/tabwriter"

	"golang.org/x/term"
)

// failure is what commands print as JSON where they fail, or where one of several files cannot be had.
type failure struct {
	Error string `json:"error"`
	// Code is the exit code that it leads to.
	Code int `json:"code"`
	// File is the file concerned, where a command takes several.
	File string `json:"file,omitempty"`
}

// answers is where results go: to standard output, unless a file goes there.
func (a *app) answers() io.Writer {
	if a.bytesOut {
		return a.stderr
	}
	return a.stdout
}

// encode prints v as one line of JSON.
func (a *app) encode(v any) error {
	text, err := marshal(v)
	if err != nil {
		return err
	}
	_, err = io.WriteString(a.answers(), a.shown(string(text)))
	return err
}

// writeJSON writes v as indented JSON into a file.
func (a *app) writeJSON(ctx context.Context, name string, v any) error {
	line, err := marshal(v)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := json.Indent(&text, line, "", "  "); err != nil {
		return err
	}
	return a.writeFile(ctx, name, func(w io.Writer) error {
		_, err := io.WriteString(w, a.shown(text.String()))
		return err
	})
}

// marshal returns v as one line of JSON, in which lists are never null.
func marshal(v any) ([]byte, error) {
	whole := reflect.New(reflect.TypeOf(v))
	whole.Elem().Set(reflect.ValueOf(v))
	noNulls(whole.Elem())
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	err := enc.Encode(whole.Interface())
	return text.Bytes(), err
}

// noNulls puts empty lists and maps where there are none, in all that v holds.
func noNulls(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			noNulls(v.Elem())
		}
	case reflect.Interface:
		if !v.IsNil() && v.Elem().Kind() == reflect.Pointer {
			noNulls(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				noNulls(v.Field(i))
			}
		}
	case reflect.Slice:
		if v.IsNil() && v.CanSet() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		}
		for i := range v.Len() {
			noNulls(v.Index(i))
		}
	case reflect.Map:
		if v.IsNil() && v.CanSet() {
			v.Set(reflect.MakeMap(v.Type()))
		}
	default:
	}
}

// print gives the result of a command: as JSON when that was asked for, else as text makes it.
func (a *app) print(v any, text func(w *printer)) error {
	if a.json {
		return a.encode(v)
	}
	p := a.printerTo(a.answers())
	text(p)
	return p.err
}

// summary is print for commands whose real output is a file: --quiet silences the text.
func (a *app) summary(v any, text func(w *printer)) error {
	if a.quiet && !a.json {
		return nil
	}
	return a.print(v, text)
}

// each prints a list as JSON, a line for each of it, or as text makes it.
func each[T any](a *app, list []T, text func(w *printer)) error {
	if !a.json {
		return a.print(list, text)
	}
	for _, v := range list {
		if err := a.encode(v); err != nil {
			return err
		}
	}
	return nil
}

// printer writes text and keeps the first error.
type printer struct {
	w     io.Writer
	app   *app
	color bool
	err   error
}

func (a *app) printerTo(w io.Writer) *printer {
	return &printer{w: w, app: a, color: a.colored(w)}
}

// colored reports whether colours go to w: to terminals, unless NO_COLOR says otherwise (https://no-color.org).
func (a *app) colored(w io.Writer) bool {
	if a.color != "auto" {
		return a.color == "always"
	}
	f, ok := w.(*os.File)
	return ok && isTerminal(f) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// bad, good and warning colour a word.
func (p *printer) bad(text string) string     { return p.in("31", text) }
func (p *printer) good(text string) string    { return p.in("32", text) }
func (p *printer) warning(text string) string { return p.in("33", text) }

func (p *printer) in(colour, text string) string {
	if !p.color {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = io.WriteString(p.w, p.app.shown(fmt.Sprintf(format, args...)))
	}
}

func (p *printer) println(args ...any) {
	p.printf("%s", fmt.Sprintln(args...))
}

// table writes rows with aligned columns. Only the last one can have colours.
func (p *printer) table(rows func(row func(cells ...any))) {
	tw := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	lines := &printer{w: tw, app: p.app, err: p.err}
	rows(func(cells ...any) {
		for i, cell := range cells {
			if i > 0 {
				lines.printf("\t")
			}
			lines.printf("%v", cell)
		}
		lines.println()
	})
	if p.err = lines.err; p.err == nil {
		p.err = tw.Flush()
	}
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// missing says that one of several files cannot be had, so that the others are not held up by it. With one alone, and where
// the command was told to stop, it returns the error.
func (a *app) missing(ctx context.Context, name string, err error, of int) error {
	if of < 2 || ctx.Err() != nil {
		return err
	}
	if a.json {
		if err := a.encode(failure{plainWords(err, err.Error()), exitNo, name}); err != nil {
			return err
		}
	}
	p := a.printerTo(a.stderr)
	p.printf("%s %s\n", p.bad("marctl:"), plainWords(err, named(name, err).Error()))
	return p.err
}
