package updater

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/senbonzakura/senbonzakura/internal/names"
	"github.com/senbonzakura/senbonzakura/internal/program"
)

// A Platform is an operating system that an updater runs on, in the one spelling that everything here compares by.
type Platform string

// The platforms. The zero value means that it is not known.
const (
	Linux   Platform = names.Linux
	Windows Platform = names.Windows
	MacOS   Platform = names.MacOS
)

// ParsePlatform reads the name of a platform in any spelling of the field, without regard to case: what begins with
// "linux" is Linux; "win", "winnt" and what continues them, Windows; "mac", "darwin", "osx" and what continues
// them, macOS. So Linux_x86_64-gcc3, linux64-aarch64, WINNT_x86-msvc, win64, Darwin_aarch64-gcc3 and macosx64 are
// all understood. ok is false for every other name, and for "".
func ParsePlatform(name string) (p Platform, ok bool) {
	name = strings.ToLower(name)
	for _, spelling := range [...]struct {
		prefix string
		is     Platform
	}{{"linux", Linux}, {"win", Windows}, {"mac", MacOS}, {"darwin", MacOS}, {"osx", MacOS}} {
		if strings.HasPrefix(name, spelling.prefix) {
			return spelling.is, true
		}
	}
	return "", false
}

// maxPlatformFiles bounds how many programs are looked at to tell a platform by them: the smallest ones, since a
// compressed one has to be unpacked from its start.
const maxPlatformFiles = 15

// platformByNames tells a platform by names that only one has.
func platformByNames(list []string) Platform {
	windows := false
	for _, n := range list {
		if strings.HasPrefix(n, "Contents/MacOS/") || strings.Contains(n, ".app/Contents/MacOS/") {
			return MacOS
		}
		ext := strings.ToLower(path.Ext(n))
		windows = windows || ext == ".exe" || ext == ".dll"
	}
	if windows {
		return Windows
	}
	return ""
}

// platformOf tells a platform by the magic of executables, by majority, else by names. size returns how large a file is as
// it is stored, head its first bytes, fewer than asked for where it ends before. A tie says nothing.
func platformOf(list []string, executable func(name string) bool, size func(name string) int64, head func(name string) ([]byte, error)) (p Platform, how string, err error) {
	var candidates []string
	for _, n := range list {
		if program.Likely(n, executable(n)) {
			candidates = append(candidates, n)
		}
	}
	slices.SortStableFunc(candidates, func(a, b string) int { return cmp.Compare(size(a), size(b)) })
	votes := map[Platform]int{}
	seen := 0
	for _, n := range candidates {
		data, err := head(n)
		if err != nil {
			return "", "", err
		}
		is := Platform(program.System(data))
		if is == "" {
			continue
		}
		votes[is]++
		if seen++; seen == maxPlatformFiles || votes[is] > maxPlatformFiles/2 {
			break
		}
	}
	best, most, tie := Platform(""), 0, false
	for _, is := range [...]Platform{Linux, Windows, MacOS} {
		switch n := votes[is]; {
		case n > most:
			best, most, tie = is, n, false
		case n == most && n > 0:
			tie = true
		}
	}
	switch {
	case best != "" && !tie:
		return best, "by the executables' first bytes", nil
	case tie:
		return "", "executables of several platforms", nil
	}
	if p := platformByNames(list); p != "" {
		return p, "by names of files", nil
	}
	return "", "no executables tell", nil
}
