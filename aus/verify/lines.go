package verify

import (
	"bytes"
	"errors"
	"io"
)

// maxLine is how much of a line is looked at. The longest that say something are lines of a configuration with a
// hundred locales and answers of the update server, of a few kilobytes.
const maxLine = 64 << 10

// lineReader gives the lines of a log without their ends. Of a longer line than maxLine the front is given.
type lineReader struct {
	r      io.Reader
	buf    []byte
	pos, n int
	err    error
	line   []byte // of a line that lies across two buffers
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: r, buf: make([]byte, 64<<10)}
}

// next returns the next line, which is good until the call after, and whether it was ended by a line feed. The error
// is io.EOF behind the last line.
func (l *lineReader) next() (line []byte, ended bool, err error) {
	l.line = l.line[:0]
	split := false
	for {
		if l.pos == l.n {
			if l.err != nil {
				if split && len(l.line) > 0 {
					return trimCR(l.line), false, nil
				}
				return nil, false, l.err
			}
			l.pos = 0
			l.n, l.err = l.r.Read(l.buf)
			continue
		}
		at := bytes.IndexByte(l.buf[l.pos:l.n], '\n')
		if at < 0 {
			l.keep(l.buf[l.pos:l.n])
			l.pos, split = l.n, true
			continue
		}
		part := l.buf[l.pos : l.pos+at]
		l.pos += at + 1
		if !split {
			return trimCR(part[:min(len(part), maxLine)]), true, nil
		}
		l.keep(part)
		return trimCR(l.line), true, nil
	}
}

func (l *lineReader) keep(part []byte) {
	l.line = append(l.line, part[:min(len(part), maxLine-len(l.line))]...)
}

// failed is the error that ended the lines, unless it was the end of the input.
func (l *lineReader) failed() error {
	if errors.Is(l.err, io.EOF) {
		return nil
	}
	return l.err
}

func trimCR(line []byte) []byte {
	for len(line) > 0 && line[len(line)-1] == '\r' {
		line = line[:len(line)-1]
	}
	return line
}

// source says who wrote a line.
type source int

const (
	fromTask   source = iota // the task, or nothing says another
	fromWorker               // the CI's own words about the task
	fromOther                // the CI's caches, checkouts and the like
	fromRust                 // the runner of update verify that is written in Rust
)

// strip takes off what a CI and a terminal put around a line: its name and time, the level of a logger, colours.
func strip(line []byte) (text []byte, by source) {
	if bytes.IndexByte(line, 0x1b) >= 0 {
		line = stripColours(line)
	}
	for range 4 {
		if len(line) < 8 {
			return line, by
		}
		c := line[0]
		switch {
		case c == '[':
			rest, who, ok := stripBracket(line)
			if !ok {
				return line, by
			}
			if who != fromTask {
				by = who
			}
			line = rest
		case c >= '0' && c <= '9':
			rest, ok := stripTime(line)
			if !ok {
				return line, by
			}
			line = rest
		default:
			return line, by
		}
	}
	return line, by
}

func stripColours(line []byte) []byte {
	out := make([]byte, 0, len(line))
	for i := 0; i < len(line); i++ {
		if line[i] != 0x1b {
			out = append(out, line[i])
			continue
		}
		if i+1 < len(line) && line[i+1] == '[' {
			for i += 2; i < len(line) && (line[i] < 0x40 || line[i] > 0x7e); i++ {
			}
		}
	}
	return out
}

// stripBracket takes off "[task 2026-11-30T21:41:16.489Z] ", "[taskcluster:error] ", "[2026-11-30T21:41:16Z] ",
// "[21:41:16] " and the head of a line of Rust's env_logger.
func stripBracket(line []byte) (rest []byte, who source, ok bool) {
	const longest = 120
	end := bytes.IndexByte(line[:min(len(line), longest)], ']')
	if end < 0 {
		return nil, 0, false
	}
	inside := line[1:end]
	rest = line[end+1:]
	if len(rest) > 0 && (rest[0] == ' ' || rest[0] == '\t') {
		rest = rest[1:]
	}
	name, after, _ := bytes.Cut(inside, []byte(" "))
	if string(name) == "taskcluster:error" || string(name) == "taskcluster:warn" {
		return rest, fromWorker, true
	}
	if len(name) == 0 {
		return nil, 0, false
	}
	if clock(name) {
		switch {
		case len(after) == 0:
			return rest, fromTask, true
		case bytes.Contains(after, []byte("marannon")):
			return rest, fromRust, true
		case bytes.HasPrefix(after, []byte("INFO ")), bytes.HasPrefix(after, []byte("ERROR ")), bytes.HasPrefix(after, []byte("WARN ")):
			return rest, fromOther, true
		}
		if clock(after) { // "[2026-11-30 21:41:16.489]"
			return rest, fromTask, true
		}
		return nil, 0, false
	}
	if !clock(after) {
		return nil, 0, false
	}
	switch string(name) {
	case "task":
		return rest, fromTask, true
	case "taskcluster":
		return rest, fromWorker, true
	}
	return rest, fromOther, true
}

// clock says whether b begins like a time of day or a date of this century.
func clock(b []byte) bool {
	digit := func(i int) bool { return i < len(b) && b[i] >= '0' && b[i] <= '9' }
	if digit(0) && digit(1) && len(b) >= 8 && b[2] == ':' && digit(3) && digit(4) && b[5] == ':' {
		return true
	}
	return len(b) >= 10 && b[0] == '2' && b[1] == '0' && digit(2) && digit(3) && b[4] == '-' && digit(5) && digit(6) && b[7] == '-'
}

// stripTime takes off a date and a time of day with what belongs to it: a zone, the ":" of the updater's own log, the
// level of mozharness ("21:41:16     INFO -  ").
func stripTime(line []byte) (rest []byte, ok bool) {
	digit := func(i int) bool { return i < len(line) && line[i] >= '0' && line[i] <= '9' }
	i := 0
	if len(line) > 11 && line[4] == '-' && line[7] == '-' && digit(0) && digit(1) && digit(2) && digit(3) && digit(5) && digit(6) &&
		digit(8) && digit(9) && (line[10] == 'T' || line[10] == ' ') {
		i = 11
	}
	timeOfDay := digit(i) && digit(i+1) && i+8 <= len(line) && line[i+2] == ':' && digit(i+3) && digit(i+4) && line[i+5] == ':' && digit(i+6) && digit(i+7)
	if !timeOfDay {
		return nil, false
	}
	i += 8
	if i < len(line) && (line[i] == '.' || line[i] == ',') && digit(i+1) {
		for i++; digit(i); i++ {
		}
	}
	switch {
	case i < len(line) && line[i] == 'Z':
		i++
	case i+5 <= len(line) && (line[i] == '+' || line[i] == '-') && digit(i+1) && digit(i+2) && digit(i+3) && digit(i+4):
		i += 5
	case i+6 <= len(line) && (line[i] == '+' || line[i] == '-') && digit(i+1) && digit(i+2) && line[i+3] == ':' && digit(i+4) && digit(i+5):
		i += 6
	}
	if i < len(line) && line[i] == ':' {
		i++
	}
	if i == len(line) {
		return line[i:], true
	}
	if line[i] != ' ' && line[i] != '\t' {
		return nil, false
	}
	rest = line[i+1:]
	level := bytes.TrimLeft(rest, " ")
	for _, name := range []string{"INFO - ", "DEBUG - ", "WARNING - ", "ERROR - ", "CRITICAL - ", "FATAL - "} {
		if len(level) >= len(name) && string(level[:len(name)]) == name {
			rest = level[len(name):]
			if len(rest) > 0 && rest[0] == ' ' {
				rest = rest[1:]
			}
			break
		}
	}
	return rest, true
}

// stripDate takes off what final verification puts in front of every line: the date as the machine's language writes
// it, a colon and two blanks.
func stripDate(line []byte) (rest []byte, ok bool) {
	const longest = 80
	at := bytes.Index(line[:min(len(line), longest)], []byte(":  "))
	if at < 0 {
		return nil, false
	}
	for i := 0; i+8 <= at; i++ {
		if clock(line[i:at]) {
			return line[at+3:], true
		}
	}
	return nil, false
}
