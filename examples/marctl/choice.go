package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/senbonzakura/senbonzakura/examples/internal/words"
)

// oneOf is a flag's value that must be one of a list.
type oneOf struct {
	p    *string
	list []string
}

func (o *oneOf) String() string { return *o.p }
func (*oneOf) Type() string     { return "string" }

func (o *oneOf) Set(s string) error {
	if !slices.Contains(o.list, s) {
		return wantOneOf(s, o.list)
	}
	*o.p = s
	return nil
}

// someOf is a flag's value of which each, repeated or between commas, must be one of a list.
type someOf struct {
	p    *[]string
	list []string
}

func (o *someOf) String() string           { return strings.Join(*o.p, ",") }
func (*someOf) Type() string               { return "strings" }
func (o *someOf) Append(s string) error    { return o.Set(s) }
func (o *someOf) GetSlice() []string       { return *o.p }
func (o *someOf) Replace(s []string) error { *o.p = s; return nil }

func (o *someOf) Set(s string) error {
	for word := range strings.SplitSeq(s, ",") {
		if !slices.Contains(o.list, word) {
			return wantOneOf(word, o.list)
		}
		*o.p = append(*o.p, word)
	}
	return nil
}

func wantOneOf(s string, list []string) error {
	return fmt.Errorf("want one of %s%s", strings.Join(list, ", "), didYouMean(s, list))
}

// choice adds a flag whose value is one of values, which shells complete and help lists.
func choice(cmd *cobra.Command, p *string, name, byDefault, usage string, values ...string) {
	*p = byDefault
	flags := cmd.Flags()
	if cmd.Use == "marctl" {
		flags = cmd.PersistentFlags()
	}
	flags.Var(&oneOf{p, values}, name, usage+": "+strings.Join(values, ", "))
	known(cmd, name, values...)
}

// choices adds a flag that can be repeated, each of whose values is one of values.
func choices(cmd *cobra.Command, p *[]string, name, usage string, values ...string) {
	cmd.Flags().Var(&someOf{p, values}, name, usage+": "+strings.Join(values, ", ")+" (repeatable)")
	knownList(cmd, name, values...)
}

// knownList says which values of a flag shells complete, also behind a comma.
func knownList(cmd *cobra.Command, name string, values ...string) {
	must(cmd.RegisterFlagCompletionFunc(name, func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		before := typed[:strings.LastIndex(typed, ",")+1] // shells take what begins with what is there
		var list []string
		for _, v := range values {
			list = append(list, before+v)
		}
		return list, cobra.ShellCompDirectiveNoFileComp
	}))
}

// known says which values of a flag shells complete.
func known(cmd *cobra.Command, name string, values ...string) {
	must(cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)))
}

// freeText says of flags that their values are words that nobody can know: shells complete nothing there, also no file.
func freeText(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		known(cmd, name)
	}
}

// flagError words what pflag refuses.
func flagError(cmd *cobra.Command, err error) error {
	var absent *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &absent) && len(absent.GetSpecifiedShortnames()) == 0:
		var names []string
		add := func(f *pflag.Flag) { names = append(names, f.Name) }
		cmd.Flags().VisitAll(add)
		cmd.InheritedFlags().VisitAll(add)
		name := absent.GetSpecifiedName()
		return usagef("unknown flag: --%s%s", name, strings.Replace(didYouMean(name, names), `"`, `"--`, 1))
	case errors.As(err, &invalid):
		why := invalid.Unwrap()
		switch invalid.GetFlag().Value.Type() { // which Go reads, and refuses in its words
		case "int":
			why = errors.New("want a number")
		case "duration":
			why = errors.New("want a time such as 90s, 10m or 1h30m")
		case "bool":
			why = errors.New("want true or false")
		}
		return usagef("--%s %q: %w", invalid.GetFlag().Name, invalid.GetValue(), why)
	}
	return usageError{err}
}

// didYouMean returns a remark that names what is nearest to a word, or "" where nothing is near.
func didYouMean(word string, list []string) string {
	best, least := "", max(len(word)/3, 2)+1
	for _, candidate := range list {
		d := words.Distance(strings.ToLower(word), strings.ToLower(candidate))
		if len(word) > 1 && strings.HasPrefix(candidate, word) {
			d = min(d, 1)
		}
		if d < least && d < len(candidate) {
			best, least = candidate, d
		}
	}
	if best == "" || best == word {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}
