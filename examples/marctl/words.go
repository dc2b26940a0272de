package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"
)

// plainWords puts what is wrong with a file into the words of the file, where a reader of JSON or TOML said it in those of Go.
func plainWords(err error, message string) string {
	var typed *json.UnmarshalTypeError
	if errors.As(err, &typed) {
		where := ""
		if typed.Field != "" {
			where = typed.Field + ": "
		}
		said := fmt.Sprintf("%sgot %s up to byte %d, want %s", where, article(typed.Value), typed.Offset, wanted(typed.Type))
		message = strings.Replace(message, typed.Error(), said, 1)
	}
	var unread *toml.DecodeError
	if errors.As(err, &unread) {
		line, _ := unread.Position()
		said := strings.TrimPrefix(unread.Error(), "toml: ")
		if m := goTypes.FindStringSubmatch(said); m != nil {
			said = "got " + article(m[1]) + ", which is not what belongs here"
		}
		message = strings.Replace(message, unread.Error(), fmt.Sprintf("line %d: %s", line, said), 1)
	}
	return waysOut.Replace(message)
}

// waysOut say with flags what the library says with its own words.
var waysOut = strings.NewReplacer(
	"or leave such files out)", "or leave such files out with --skip-links)",
	"or leave out the check downgrade)", "or allow it with --allow-downgrade)",
	"or allow the downgrade)", "or allow it with --allow-downgrade)",
	"(let Pack make ", "(let marctl pack make ",
	"(set the channel of the update)", "(give it with --channel)",
	"(name the client's version of Gecko, or its patch formats)", "(give its version of Gecko with --gecko, or say with --formats what it applies)",
	"use the strict rules", "take another --recipe than mozilla",
)

// goTypes are the words in which a reader of TOML names its own types.
var goTypes = regexp.MustCompile(`cannot (?:decode|store|convert) (?:TOML |a )?([a-z0-9-]+).* (?:into|in|to) .*`)

// wanted names a type of Go as people name it who write JSON.
func wanted(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	}
	return "a number"
}

// article names a value of a file, with what a reader says behind its kind.
func article(value string) string {
	kind, rest, _ := strings.Cut(value, " ")
	if rest != "" {
		rest = " " + rest
	}
	switch kind {
	case "array":
		return "a list" + rest
	case "object":
		return "an object" + rest
	case "bool":
		return "true or false" + rest
	}
	if strings.ContainsAny(kind[:1], "aeiou") {
		return "an " + kind + rest
	}
	return "a " + kind + rest
}

// noArgs refuses arguments, in the words of a command that takes none.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s takes no arguments: got %q", strings.TrimPrefix(cmd.CommandPath(), "marctl "), args[0])
	}
	return nil
}
