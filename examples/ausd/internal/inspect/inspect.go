// Package inspect reads off a complete update what an update server has to know about it, and names what it cannot read
// with a default.
package inspect

import (
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"

	"github.com/senbonzakura/senbonzakura/internal/member"
	"github.com/senbonzakura/senbonzakura/internal/names"
	"github.com/senbonzakura/senbonzakura/internal/program"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/toolchain"
)

// ErrIncomplete says that a file does not tell what cannot be guessed: product, version or build ID.
var ErrIncomplete = errors.New("inspect: not a complete update of an application")

// Build is what a complete update says about its build.
type Build struct {
	Product     string   `json:"product"`
	Version     string   `json:"version"`
	BuildID     string   `json:"build_id"`
	MARChannels []string `json:"mar_channels,omitempty"`
	Channel     string   `json:"channel"` // the update channel that its clients ask with
	Target      string   `json:"target"`
	Aliases     []string `json:"aliases,omitempty"` // other targets that clients of this build ask with
	Locale      string   `json:"locale"`
	Signed      bool     `json:"signed"`
	Partial     bool     `json:"partial,omitempty"` // it is a partial update, which tells nothing of the above
	// Defaults names the fields that the file does not tell.
	Defaults []string `json:"defaults,omitempty"`
}

// maxText bounds the small files that are read whole, in bytes.
const maxText = 1 << 20

// Read reads a complete update. Of a partial one it says no more than that. Fields that it does not tell have a default: locale en-US, channel release, and the target of
// Linux on x86-64; Defaults names them. Without product, version or build ID it is ErrIncomplete.
func Read(r *mar.Reader) (Build, error) {
	if IsPartial(r) {
		return Build{Signed: len(r.Signatures()) > 0, Partial: true}, nil
	}
	tb, err := toolchain.ReadBuild(r)
	if err != nil {
		return Build{}, err
	}
	b := Build{Product: tb.Product, Version: tb.Version, BuildID: tb.BuildID, MARChannels: tb.Channels, Signed: len(r.Signatures()) > 0}
	var missing []string
	for _, f := range []struct{ name, value string }{{"product", b.Product}, {"version", b.Version}, {"build ID", b.BuildID}} {
		if f.value == "" {
			missing = append(missing, f.name)
		}
	}
	if len(missing) > 0 {
		return Build{}, fmt.Errorf("%w: its application.ini has no %s", ErrIncomplete, strings.Join(missing, ", "))
	}
	for _, f := range r.Files() {
		switch path.Base(f.Name) {
		case "channel-prefs.js":
			if m := channelPref.FindSubmatch(head(f, maxText)); m != nil {
				b.Channel = string(m[1])
			}
		case "update.locale":
			if b.Locale == "" {
				b.Locale = strings.TrimSpace(string(head(f, 100)))
			}
		}
	}
	b.Target, b.Aliases = target(r)
	for _, f := range []struct {
		field       *string
		name, value string
	}{{&b.Locale, "locale", "en-US"}, {&b.Channel, "channel", "release"}, {&b.Target, "target", "Linux_x86_64-gcc3"}} {
		if *f.field == "" {
			*f.field = f.value
			b.Defaults = append(b.Defaults, f.name)
		}
	}
	return b, nil
}

var channelPref = regexp.MustCompile(`pref\(\s*"app\.update\.channel"\s*,\s*"([^"\n]{1,75})"`)

// head returns at most n bytes from the begin of a member, or nil where it cannot be read.
func head(f *mar.File, n int) []byte {
	magic := make([]byte, member.HeadSize)
	k, err := f.Section().ReadAt(magic, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil
	}
	var r io.Reader = f.Section()
	if format, ok := member.Sniff(magic[:k]); ok {
		c, err := format.NewReader(f.Section(), member.Limits{})
		if err != nil {
			return nil
		}
		defer c.Close()
		r = c
	}
	data := make([]byte, n)
	k, err = io.ReadFull(r, data)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil
	}
	return data[:k]
}

// targets are what clients of the usual builds ask with: the first is the platform of releases, the others are its aliases.
var targets = map[string][]string{
	names.Linux + "-x86_64":               {"Linux_x86_64-gcc3"},
	names.Linux + "-x86":                  {"Linux_x86-gcc3"},
	names.Linux + "-aarch64":              {"Linux_aarch64-gcc3"},
	names.Windows + "-x86_64":             {"WINNT_x86_64-msvc", "WINNT_x86_64-msvc-x64"},
	names.Windows + "-x86":                {"WINNT_x86-msvc", "WINNT_x86-msvc-x86", "WINNT_x86-msvc-x64"},
	names.Windows + "-aarch64":            {"WINNT_aarch64-msvc-aarch64"},
	names.MacOS + "-x86_64":               {"Darwin_x86_64-gcc3"},
	names.MacOS + "-aarch64":              {"Darwin_aarch64-gcc3"},
	names.MacOS + "-" + program.Universal: {"Darwin_x86_64-gcc3-u-i386-x86_64", "Darwin_x86_64-gcc3", "Darwin_aarch64-gcc3"},
}

// TargetOf is what clients of the usual builds for a platform ask with, by the platform's name in releases and tasks (linux64, win64-aarch64,
// macosx64, …) or as it is where it is a build target already; "" is not known.
func TargetOf(platform string) string {
	if strings.Contains(platform, "-gcc3") || strings.Contains(platform, "-msvc") {
		return platform
	}
	low := strings.ToLower(platform)
	arch := "x86"
	switch {
	case strings.Contains(low, "aarch64") || strings.Contains(low, "arm64"):
		arch = "aarch64"
	case strings.Contains(low, "64"):
		arch = "x86_64"
	}
	system := ""
	switch {
	case strings.HasPrefix(low, "linux"):
		system = names.Linux
	case strings.HasPrefix(low, "win"):
		system = names.Windows
	case strings.HasPrefix(low, "mac"):
		system, arch = names.MacOS, program.Universal
	}
	if t := targets[system+"-"+arch]; t != nil {
		return t[0]
	}
	return ""
}

// maxPrograms bounds how many programs are looked at.
const maxPrograms = 20

// target returns what the programs of an update run on, of those that most of them run on.
func target(r *mar.Reader) (name string, aliases []string) {
	counts := map[string]int{}
	best, looked := "", 0
	for _, f := range r.Files() {
		if !program.Likely(f.Name, mar.Executable(f.Mode)) {
			continue
		}
		if looked++; looked > maxPrograms {
			break
		}
		begin := head(f, program.ArchBytes)
		system, arch := program.System(begin), program.Arch(begin)
		if system == "" || arch == "" {
			continue
		}
		on := system + "-" + arch
		if counts[on]++; counts[on] > counts[best] {
			best = on
		}
	}
	if t := targets[best]; t != nil {
		return t[0], t[1:]
	}
	return "", nil
}
