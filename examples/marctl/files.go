package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/senbonzakura/senbonzakura/internal/atomicfile"
	"github.com/senbonzakura/senbonzakura/internal/stream"
)

// A use says what a command does with the file or directory that an argument or a flag names. Every command declares it
// for each of them, and all that follows from it is done in one place, [app.prepare], before the command runs.
type use string

const (
	reads   use = "reads"   // a file, or "-" for standard input
	source  use = "source"  // a complete update: a file, "-", an address, or a directory with all that is in it
	tree    use = "tree"    // a directory that is read with all that is in it
	finds   use = "finds"   // a directory or pattern of which some files are read: the command itself keeps outputs apart
	streams use = "streams" // as reads, but the command itself reads standard input, which may be long
	writes  use = "writes"  // a file that is replaced, or "-" for standard output
	appends use = "appends" // a file to which something is added
	changes use = "changes" // a directory in which files are made or changed
	other   use = "other"   // a file that the command itself keeps apart from what it writes: a program, a name in a directory
	text    use = "text"    // no file: a name, a number, a digest
	noFile  use = ""        // not declared
)

// place says whether a use is of a file or directory that [app.prepare] looks after.
func (u use) place() bool { return u != noFile && u != text && u != other }

const useAnnotation = "marctl-use"

// takes declares what a command does with its arguments, in order; the last stands for all that follow.
func takes(cmd *cobra.Command, uses ...use) {
	words := make([]string, len(uses))
	for i, u := range uses {
		words[i] = string(u)
	}
	if cmd.Annotations == nil {
		cmd.Annotations = map[string]string{}
	}
	cmd.Annotations[useAnnotation] = strings.Join(words, ",")
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		switch argumentUse(cmd, len(args)) {
		case tree, changes:
			return nil, cobra.ShellCompDirectiveFilterDirs
		case text, noFile:
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveDefault
	}
}

// argumentUse returns what a command does with its argument i.
func argumentUse(cmd *cobra.Command, i int) use {
	declared, ok := cmd.Annotations[useAnnotation]
	if !ok {
		return noFile
	}
	uses := strings.Split(declared, ",")
	return use(uses[min(i, len(uses)-1)])
}

// flagTakes declares what a command does with the files that flags name.
func flagTakes(cmd *cobra.Command, u use, names ...string) {
	for _, name := range names {
		flags := cmd.Flags()
		if flags.Lookup(name) == nil {
			flags = cmd.PersistentFlags()
		}
		must(flags.SetAnnotation(name, useAnnotation, []string{string(u)}))
		if u == tree || u == changes {
			must(flags.SetAnnotation(name, cobra.BashCompSubdirsInDir, []string{}))
		}
	}
}

func flagUse(f *pflag.Flag) use {
	if declared := f.Annotations[useAnnotation]; len(declared) == 1 {
		return use(declared[0])
	}
	return noFile
}

// A place is a file or directory that a command line names.
type place struct {
	what string // as the usage line calls it: "OUT", "--report"
	name string
	use  use
	// makesDir says that the directory of an output is made where it is missing.
	makesDir bool
}

func (p place) input() bool { return p.use != writes && p.use != appends && p.use != changes }

// prepare does for every command what the files of its command line need: standard input is put where it can be read from
// anywhere, nothing that is read is written as well, and what cannot be written is said before the work is done. It returns
// the arguments.
func (a *app) prepare(cmd *cobra.Command, args []string) ([]string, error) {
	var places []place
	words := argumentWords(cmd)
	for i, arg := range args {
		if u := argumentUse(cmd, i); u.place() {
			places = append(places, place{what: words[min(i, len(words)-1)], name: arg, use: u})
		}
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		u := flagUse(f)
		if !u.place() || !f.Changed {
			return
		}
		for _, name := range flagValues(f) {
			if u == reads && strings.Contains(name, "=") && f.Name == "plugin-secret" {
				_, name, _ = strings.Cut(name, "=")
			}
			places = append(places, place{what: "--" + f.Name, name: name, use: u})
		}
	})
	for _, p := range places {
		if p.name == "" {
			return nil, usagef("%s is empty", p.what)
		}
	}
	if err := notNegative(cmd); err != nil {
		return nil, err
	}
	if err := a.keepApart(places); err != nil {
		return nil, err
	}
	args = append([]string{}, args...)
	for i := range args {
		if u := argumentUse(cmd, i); args[i] == "-" && (u == reads || u == source) {
			name, err := a.standardInput(cmd.Context())
			if err != nil {
				return nil, err
			}
			args[i] = name
		}
	}
	var err error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		u := flagUse(f)
		if err != nil || !f.Changed || u != reads && u != source {
			return
		}
		values, changed := flagValues(f), false
		for i := range values {
			if values[i] == "-" && err == nil {
				values[i], err = a.standardInput(cmd.Context())
				changed = true
			}
		}
		if err != nil || !changed {
			return
		}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			err = list.Replace(values)
		} else {
			err = f.Value.Set(values[0])
		}
	})
	return args, err
}

// notNegative refuses times and counts below nothing: purge would take "not used for -1h" for everything.
func notNegative(cmd *cobra.Command) error {
	var err error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		number := f.Value.Type() == "int" && f.Name != "partials" || f.Value.Type() == "duration"
		if number && strings.HasPrefix(f.Value.String(), "-") && err == nil {
			err = usagef("--%s %s: want nothing below 0", f.Name, f.Value)
		}
	})
	return err
}

// argumentWords returns what the usage line calls the arguments.
func argumentWords(cmd *cobra.Command) []string {
	words := strings.Fields(cmd.Use)[1:]
	for i := range words {
		if strings.HasPrefix(words[i], "-") || words[i] == "|" { // flags follow
			words = words[:i]
			break
		}
		words[i] = strings.Trim(words[i], "[]….")
	}
	return append(words, "argument")[:max(len(words), 1)]
}

func flagValues(f *pflag.Flag) []string {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return list.GetSlice()
	}
	if f.Value.String() == "" {
		return nil
	}
	return []string{f.Value.String()}
}

// keepApart refuses what would lose something by a slip: an output that is an input or lies in a directory that is read
// whole, two outputs that are one file, by whatever names; and a standard stream that is asked for twice. Then it says what
// cannot be written.
func (a *app) keepApart(places []place) error {
	stdin, stdout := "", ""
	for _, p := range places {
		if p.name != "-" {
			continue
		}
		one, stream := &stdin, "input"
		switch p.use {
		case writes:
			one, stream = &stdout, "output"
		case appends, changes, tree, finds:
			continue
		default:
		}
		if *one != "" {
			return usagef("standard %s can be one thing only: %s and %s are both -", stream, *one, p.what)
		}
		*one = p.what
	}
	a.bytesOut = stdout != ""
	var files []*identity
	var dirs []place
	for _, p := range places {
		id := a.identify(p)
		if id.dir && (p.use == tree || p.use == source) {
			dirs = append(dirs, p)
		}
		files = append(files, id)
	}
	byKey := map[string][]*identity{}
	for _, f := range files {
		byKey[f.key] = append(byKey[f.key], f)
	}
	for _, out := range files {
		if out.use != writes && out.use != appends {
			continue
		}
		for _, other := range byKey[out.key] {
			switch {
			case other == out || !out.same(other) || out.use == appends && other.use == appends:
			case other.use == writes || other.use == appends:
				return usagef("%s and %s are the same file, %s", out.what, other.what, out.name)
			case other.input():
				lost := other.name
				if lost == "-" {
					lost = out.name
				}
				return usagef("%s is also %s: %s would be lost; give another name", out.what, other.what, lost)
			}
		}
		for _, dir := range dirs {
			if out.name != "-" && inside(out.name, dir.name) {
				return usagef("%s would be inside %s, which is read with all that is in it: %s; give another place", out.what, dir.what, out.name)
			}
		}
	}
	for _, p := range places {
		if p.use == writes {
			if _, err := os.Stat(filepath.Dir(p.name)); p.makesDir && errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err := checkOutput(p.name); err != nil {
				return err
			}
		}
	}
	return nil
}

// An identity says which file a place means, so that many can be compared: those with the same key may be the same.
type identity struct {
	place
	key  string
	info fs.FileInfo // nil where there is nothing yet
	dir  bool
}

func (a *app) identify(p place) *identity {
	id := &identity{place: p}
	var err error
	switch {
	case isURL(p.name):
		id.key = "address " + p.what
		return id
	case p.name != "-":
		id.info, err = os.Stat(p.name)
	case p.use == writes:
		id.info, err = regular(a.stdout)
	default:
		id.info, err = regular(a.stdin)
	}
	switch {
	case err == nil:
		id.dir = id.info.IsDir()
		id.key = fmt.Sprintf("there %d %d", id.info.Size(), id.info.ModTime().UnixNano())
	case p.name == "-":
		id.key, id.info = "stream "+p.what, nil
	default:
		id.info = nil
		dir, base := filepath.Dir(p.name), filepath.Base(p.name)
		if followed, err := filepath.EvalSymlinks(dir); err == nil {
			dir = followed
		}
		if full, err := filepath.Abs(dir); err == nil {
			dir = full
		}
		if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
			base = strings.ToLower(base)
		}
		id.key = "new " + filepath.Join(dir, base)
	}
	return id
}

// same reports whether two of the same key are one file.
func (id *identity) same(other *identity) bool {
	if id.info == nil || other.info == nil {
		return id.info == nil && other.info == nil
	}
	return !id.dir && os.SameFile(id.info, other.info)
}

// regular returns what a stream is if it is a regular file.
func regular(stream any) (fs.FileInfo, error) {
	f, ok := stream.(*os.File)
	if !ok {
		return nil, fs.ErrNotExist
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	return info, err
}

// inside reports whether a file is, or would be made, in a directory or below it.
func inside(name, dir string) bool {
	top, err := os.Stat(dir)
	if err != nil || !top.IsDir() {
		return false
	}
	if followed, err := filepath.EvalSymlinks(name); err == nil {
		name = followed
	}
	at, err := filepath.Abs(filepath.Dir(name))
	if err != nil {
		return false
	}
	if followed, err := filepath.EvalSymlinks(at); err == nil {
		at = followed
	}
	for {
		if info, err := os.Stat(at); err == nil && os.SameFile(info, top) {
			return true
		}
		up := filepath.Dir(at)
		if up == at {
			return false
		}
		at = up
	}
}

// stdinName is what messages call standard input.
const stdinName = "standard input"

// standardInput copies standard input into a temporary file, which [app.end] removes, and returns its name: MAR files and
// patches are not read from the beginning to the end.
func (a *app) standardInput(ctx context.Context) (string, error) {
	f, err := os.CreateTemp("", "marctl-stdin-*")
	if err != nil {
		return "", err
	}
	a.spooled = f.Name()
	a.temporary = append(a.temporary, a.spooled)
	copied := make(chan error, 1)
	go func() { // which a terminal can keep waiting for ever
		_, err := io.Copy(stream.NewWriter(ctx, f), a.stdin)
		copied <- errors.Join(err, f.Close())
	}()
	select {
	case err := <-copied:
		if err != nil {
			return "", named(stdinName, err)
		}
		return a.spooled, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// end removes what only the command itself needed.
func (a *app) end() {
	for _, name := range a.temporary {
		os.Remove(name)
	}
}

// shown puts what the user said in the place of the name of the temporary file with standard input.
func (a *app) shown(text string) string {
	if a == nil || a.spooled == "" {
		return text
	}
	return strings.ReplaceAll(text, a.spooled, stdinName)
}

// writeFile writes a result so that nobody ever sees half of it; "-" is standard output.
func (a *app) writeFile(ctx context.Context, name string, write func(w io.Writer) error) error {
	if name == "-" {
		var whole bytes.Buffer // nothing is printed unless all of it could be made
		if err := write(&whole); err != nil {
			return err
		}
		_, err := whole.WriteTo(a.stdout)
		return err
	}
	var content error // what could not be made says itself which file is at fault
	err := atomicfile.Write(ctx, name, 0o644, func(w io.Writer) error {
		content = write(w)
		return content
	})
	if err != nil && content == nil {
		return named(name, err)
	}
	return err
}

// checkOutput returns why writeFile will not write there, before much work is done in vain.
func checkOutput(name string) error {
	if name == "-" {
		return nil
	}
	if err := atomicfile.Check(name); err != nil {
		return named(name, err)
	}
	return nil
}

// appendFile adds to a file that others have written to as well.
func appendFile(name string, write func(io.Writer) error) error {
	out, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if err := errors.Join(write(out), out.Close()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
