// Package doctest finds the commands that documents and help texts show, for tests that run them.
package doctest

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

// A Command is one program of a line, as a shell would call it.
type Command struct {
	Line  string   // that it stands in
	Env   []string // variables that are set for it: "NAME=value"
	Words []string // the program and its arguments, without quotes
	// Out is the file that its standard output goes to, "" is none; Append says that it is added to what is there.
	Out    string
	Append bool
	// Piped says that its standard output goes to the next program, Fed that its standard input is that of the one before.
	Piped, Fed bool
}

// What stands before and behind a command: variables, a comment in documents, in help also words that are set off by blanks.
var (
	comment     = regexp.MustCompile(`\s+# .*$`)
	variable    = regexp.MustCompile(`^[A-Z_]+=\S* `)
	explanation = regexp.MustCompile(`\s\s+[^-\s'"{\\$|&>./].*$`)
)

// Lines returns the commands that a document shows and that call one of the programs, one a line. They are set in by four
// blanks; a line that ends with a backslash, or within quotes, goes on; "$ " in front and comments behind are dropped.
func Lines(document string, programs ...string) []string {
	return find(document, "    ", comment, programs)
}

func find(text, front string, behind *regexp.Regexp, programs []string) (lines []string) {
	var open string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if open == "" {
			rest, ok := strings.CutPrefix(line, front)
			rest = strings.TrimPrefix(rest, "$ ")
			if !ok || !starts(rest, programs) {
				continue
			}
			line = rest
		}
		line, goesOn := strings.CutSuffix(line, `\`)
		open += behind.ReplaceAllString(strings.TrimSpace(line), "")
		if goesOn || strings.Count(open, "'")%2 == 1 {
			open += " "
			continue
		}
		lines, open = append(lines, open), ""
	}
	return lines
}

// starts says whether a line calls one of the programs, at its beginning or behind a pipe.
func starts(line string, programs []string) bool {
	for variable.MatchString(line) {
		_, line, _ = strings.Cut(line, " ")
	}
	for _, p := range programs {
		if line == p || strings.HasPrefix(line, p+" ") || strings.Contains(line, "| "+p+" ") {
			return true
		}
	}
	return false
}

// Examples returns the examples of a program's help, of all its commands.
func Examples(root *cobra.Command) (lines []string) {
	lines = find(root.Example, "  ", explanation, []string{root.Root().Name()})
	for _, sub := range root.Commands() {
		lines = append(lines, Examples(sub)...)
	}
	return lines
}

// Parse takes a line apart. It knows quotes, "|", "&&", "&", ">", ">>" and patterns of files, which stand for those that are
// in the directory of the process; variables are left alone.
func Parse(line string) ([]Command, error) {
	var commands []Command
	c := Command{Line: line}
	var word strings.Builder
	var inWord, pattern bool
	var into *string
	end := func() {
		if !inWord {
			return
		}
		text := word.String()
		found, err := filepath.Glob(text)
		switch {
		case into != nil:
			*into, into = text, nil
		case pattern && err == nil && len(found) > 0:
			c.Words = append(c.Words, found...)
		case len(c.Words) == 0 && variable.MatchString(text+" "):
			c.Env = append(c.Env, text)
		default:
			c.Words = append(c.Words, text)
		}
		word.Reset()
		inWord, pattern = false, false
	}
	next := func(piped bool) {
		end()
		c.Piped = piped
		if len(c.Words) > 0 {
			commands = append(commands, c)
		}
		c = Command{Line: line, Fed: piped}
	}
	for i := 0; i < len(line); i++ {
		switch b := line[i]; b {
		case ' ':
			end()
		case '\'', '"':
			n := strings.IndexByte(line[i+1:], b)
			if n < 0 {
				return nil, fmt.Errorf("%s: an open quote", line)
			}
			word.WriteString(line[i+1 : i+1+n])
			inWord = true
			i += n + 1
		case '|':
			next(true)
		case '&':
			next(false)
		case '>':
			end()
			c.Append = strings.HasPrefix(line[i:], ">>")
			if c.Append {
				i++
			}
			into = &c.Out
		default:
			if b == '*' || b == '?' {
				pattern = true
			}
			word.WriteByte(b)
			inWord = true
		}
	}
	next(false)
	return commands, nil
}
