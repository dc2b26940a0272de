package verify

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ErrConfig matches every error about the text of a configuration.
var ErrConfig = errors.New("bad configuration")

// ConfigError says which line of a configuration cannot be taken, and why.
type ConfigError struct {
	Line int    // from 1
	Text string // what is wrong, for people
}

// Error says the line and the trouble.
func (e *ConfigError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Text) }

// Is makes every ConfigError match [ErrConfig].
func (e *ConfigError) Is(target error) bool { return target == ErrConfig }

// Line is one line of a configuration of update verify: builds of one release that are tested alike.
type Line struct {
	Number           int      `json:"-"`                    // in the file, from 1
	Release          string   `json:"release"`              // version of FROM as its request names it
	Product          string   `json:"product"`              // name, as the request spells it
	Platform         string   `json:"platform"`             // build target of the request
	BuildID          string   `json:"build_id"`             // of FROM
	Locales          []string `json:"locales"`              // that are tested; one test for each and each of PatchTypes
	Channel          string   `json:"channel"`              // update channel of the request
	PatchTypes       []string `json:"patch_types"`          // default: complete
	From             string   `json:"from,omitempty"`       // path of FROM behind FTPServerFrom; empty: a quick test
	To               string   `json:"to,omitempty"`         // path of TO behind FTPServerTo
	AUSServer        string   `json:"aus_server,omitempty"` // scheme and host of the update server
	FTPServerFrom    string   `json:"ftp_server_from,omitempty"`
	FTPServerTo      string   `json:"ftp_server_to,omitempty"`
	MARChannelIDs    string   `json:"mar_channel_IDs,omitempty"`    // what FROM is made to accept before the update, with commas between
	ToBuildID        string   `json:"to_build_id,omitempty"`        // that update.xml has to offer
	ToAppVersion     string   `json:"to_app_version,omitempty"`     // that update.xml has to offer
	ToDisplayVersion string   `json:"to_display_version,omitempty"` // that update.xml has to offer
	UpdaterPackage   string   `json:"updater_package,omitempty"`    // installer that holds the updater to run
	OverrideCerts    string   `json:"override_certs,omitempty"`     // "dep", "nightly" or "release": certificates to put into that updater
}

// Limits of a configuration: those of Mozilla have at most 3,057 lines of about 1,500 bytes.
const (
	maxConfigLines = 200_000
	maxConfigLine  = 1 << 20
)

// ReadConfig reads a configuration in the form of Mozilla's scripts: in each line, assignments of a shell, which are
// read and never run. What is not reset at every line holds until it is set again: the servers, TO, and what
// update.xml must say. The second result are warnings about keys that nothing knows. Errors match [ErrConfig].
func ReadConfig(r io.Reader) ([]Line, []string, error) {
	var lines []Line
	var warnings []string
	var lasting Line
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 0, 64<<10), maxConfigLine)
	number := 1
	for ; in.Scan(); number++ {
		line, unknown, ok, err := parseConfigLine(in.Text(), number, &lasting)
		if err != nil {
			return nil, nil, err
		}
		for _, key := range unknown {
			if len(warnings) < 100 {
				warnings = append(warnings, fmt.Sprintf("line %d: unknown key %q", number, key))
			}
		}
		if !ok {
			continue
		}
		if len(lines) == maxConfigLines {
			return nil, nil, &ConfigError{number, fmt.Sprintf("more than %d lines", maxConfigLines)}
		}
		lines = append(lines, line)
	}
	if err := in.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return nil, nil, &ConfigError{number, fmt.Sprintf("a line is longer than %d bytes", maxConfigLine)}
		}
		return nil, nil, err
	}
	return lines, warnings, nil
}

// ReadPlan reads a configuration of our own: a JSON array of objects with the keys of [Line], in which every line says
// everything. Errors match [ErrConfig].
func ReadPlan(r io.Reader) ([]Line, error) {
	const longest = 256 << 20
	in := &io.LimitedReader{R: r, N: longest + 1}
	dec := json.NewDecoder(in)
	dec.DisallowUnknownFields()
	var lines []Line
	switch err := dec.Decode(&lines); {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%w: it is empty", ErrConfig)
	case in.N <= 0:
		return nil, fmt.Errorf("%w: more than %d bytes", ErrConfig, longest)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something stands behind the list, at byte %d", ErrConfig, dec.InputOffset())
	}
	if len(lines) > maxConfigLines {
		return nil, fmt.Errorf("%w: more than %d lines", ErrConfig, maxConfigLines)
	}
	for i := range lines {
		l := &lines[i]
		l.Number = i + 1
		if len(l.PatchTypes) == 0 {
			l.PatchTypes = []string{"complete"}
		}
		if err := l.check(); err != nil {
			return nil, err
		}
	}
	return lines, nil
}

// check says what is missing or wrong in a line.
func (l *Line) check() error {
	for _, t := range l.PatchTypes {
		if t != "complete" && t != "partial" {
			return &ConfigError{l.Number, fmt.Sprintf("patch type %q: want complete or partial", t)}
		}
	}
	for _, need := range []struct{ key, value string }{
		{"release", l.Release},
		{"product", l.Product},
		{"platform", l.Platform},
		{"build_id", l.BuildID},
		{"locales", strings.Join(l.Locales, " ")},
		{"channel", l.Channel},
	} {
		if need.value == "" {
			return &ConfigError{l.Number, need.key + " is missing"}
		}
	}
	return nil
}

// parseConfigLine reads one line; ok is false where it holds nothing. lasting keeps what the lines before have set.
func parseConfigLine(text string, number int, lasting *Line) (line Line, unknown []string, ok bool, err error) {
	text = strings.TrimSpace(text)
	if text == "" || text[0] == '#' {
		return Line{}, nil, false, nil
	}
	line = *lasting
	line.Number = number
	line.PatchTypes = []string{"complete"}
	seen := map[string]bool{}
	for text != "" {
		key, value, rest, err := assignment(text, number)
		if err != nil {
			return Line{}, nil, false, err
		}
		text = strings.TrimLeft(rest, " \t")
		if seen[key] {
			return Line{}, nil, false, &ConfigError{number, fmt.Sprintf("%q is there twice", key)}
		}
		seen[key] = true
		if value == "" {
			continue
		}
		if set := line.field(key); set != nil {
			*set = value
			switch key {
			case "aus_server", "ftp_server_from", "ftp_server_to", "to", "to_build_id", "to_app_version", "to_display_version", "override_certs":
				*lasting.field(key) = value
			}
			continue
		}
		switch key {
		case "locales":
			line.Locales = strings.Fields(value)
		case "patch_types":
			line.PatchTypes = strings.Fields(value)
		case "ftp_server":
			line.FTPServerFrom, line.FTPServerTo = value, value
			lasting.FTPServerFrom, lasting.FTPServerTo = value, value
		default:
			unknown = append(unknown, key)
		}
	}
	if err := line.check(); err != nil {
		return Line{}, nil, false, err
	}
	return line, unknown, true, nil
}

// field returns the field of a key whose value is one string, or nil.
func (l *Line) field(key string) *string {
	switch key {
	case "release":
		return &l.Release
	case "product":
		return &l.Product
	case "platform":
		return &l.Platform
	case "build_id":
		return &l.BuildID
	case "channel":
		return &l.Channel
	case "from":
		return &l.From
	case "to":
		return &l.To
	case "aus_server":
		return &l.AUSServer
	case "ftp_server_from":
		return &l.FTPServerFrom
	case "ftp_server_to":
		return &l.FTPServerTo
	case "mar_channel_IDs":
		return &l.MARChannelIDs
	case "to_build_id":
		return &l.ToBuildID
	case "to_app_version":
		return &l.ToAppVersion
	case "to_display_version":
		return &l.ToDisplayVersion
	case "updater_package":
		return &l.UpdaterPackage
	case "override_certs":
		return &l.OverrideCerts
	}
	return nil
}

// assignment cuts key=value off the front of text. What a shell would run or expand is refused.
func assignment(text string, number int) (key, value, rest string, err error) {
	bad := func(format string, args ...any) (string, string, string, error) {
		return "", "", "", &ConfigError{number, fmt.Sprintf(format, args...)}
	}
	n := strings.IndexByte(text, '=')
	if n <= 0 {
		return bad("want key=value, got %q", short(text, 40))
	}
	key = text[:n]
	for i := range len(key) {
		if c := key[i]; c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return bad("%q is no key", short(key, 40))
		}
	}
	rest = text[n+1:]
	switch {
	case rest == "":
	case rest[0] == '"' || rest[0] == '\'':
		end := strings.IndexByte(rest[1:], rest[0])
		if end < 0 {
			return bad("the quotation mark behind %s has no end", key)
		}
		value, rest = rest[1:1+end], rest[end+2:]
		if rest != "" && rest[0] != ' ' && rest[0] != '\t' {
			return bad("%q follows the value of %s", short(rest, 20), key)
		}
	default:
		if end := strings.IndexAny(rest, " \t"); end >= 0 {
			value, rest = rest[:end], rest[end:]
		} else {
			value, rest = rest, ""
		}
		if strings.ContainsAny(value, `"'`) {
			return bad("a quotation mark in the middle of the value of %s", key)
		}
	}
	if at := strings.IndexAny(value, "$`;&|<>\\"); at >= 0 {
		return bad("%q in the value of %s: a configuration is read, never run", value[at], key)
	}
	return key, value, rest, nil
}

// short cuts s to about n bytes.
func short(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// Tests lists the tests of a line, in its order: for each locale every patch type.
func (l *Line) Tests() []Test {
	kind := KindQuick
	if l.From != "" {
		kind = KindFull
	}
	tests := make([]Test, 0, len(l.Locales)*len(l.PatchTypes))
	for _, locale := range l.Locales {
		for _, patchType := range l.PatchTypes {
			tests = append(tests, Test{
				Identity: Identity{l.Product, l.Release, l.BuildID, l.Platform, locale, l.Channel, patchType},
				Kind:     kind, Result: NotRun,
			})
		}
	}
	return tests
}

// Chunk gives the lines of chunk i of n (from 1), cut as the scripts cut them: the full tests and the quick tests are
// each listed build by build with their locales sorted and split into n runs of nearly equal length, the first ones
// longer. Both patch types of a locale stay together. n and i that name no chunk give none.
func Chunk(lines []Line, n, i int) []Line {
	if n < 1 || i < 1 || i > n {
		return nil
	}
	type entry struct {
		line   int
		locale string
	}
	var full, quick []entry
	for at := range lines {
		list := &quick
		if lines[at].From != "" {
			list = &full
		}
		for _, locale := range slices.Sorted(slices.Values(lines[at].Locales)) {
			*list = append(*list, entry{at, locale})
		}
	}
	var out []Line
	for _, list := range [][]entry{full, quick} {
		size, longer := len(list)/n, len(list)%n
		start := (i-1)*size + min(i-1, longer)
		end := start + size
		if i <= longer {
			end++
		}
		last := -1
		for _, e := range list[start:end] {
			if e.line != last {
				line := lines[e.line]
				line.Locales = nil
				out = append(out, line)
				last = e.line
			}
			out[len(out)-1].Locales = append(out[len(out)-1].Locales, e.locale)
		}
	}
	return out
}
