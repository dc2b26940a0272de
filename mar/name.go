package mar

import (
	"io/fs"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/senbonzakura/senbonzakura/internal/names"
)

// nameProblem says why a name is not one that this package reads or writes, or "" where it is.
func nameProblem(name string) string {
	if name == "" {
		return "name is empty"
	}
	if names.Control(name) {
		return "name contains a control character"
	}
	if strings.ContainsRune(name, '\\') {
		return "name contains a backslash, which separates directories on Windows"
	}
	if len(name) >= 2 && name[1] == ':' && (name[0]|0x20 >= 'a' && name[0]|0x20 <= 'z') {
		return "name starts with a drive letter"
	}
	if !utf8.ValidString(name) {
		return "name is not valid UTF-8"
	}
	if name[0] == '/' {
		return "name is an absolute path"
	}
	if name == "." || !fs.ValidPath(name) {
		return `name has an empty, "." or ".." element`
	}
	return ""
}

// compareUnder orders name against everything below directory dir: -1 where it sorts before dir+"/", 0 where
// it is below dir, 1 where it sorts behind all that is. dir "." is everything.
func compareUnder(name, dir string) int {
	if dir == "." {
		return 0
	}
	if c := strings.Compare(name[:min(len(name), len(dir))], dir); c != 0 {
		return c
	}
	switch {
	case len(name) == len(dir) || name[len(dir)] < '/':
		return -1
	case name[len(dir)] > '/':
		return 1
	}
	return 0
}

// under returns the first of the sorted files below directory dir, and whether there is one.
func under(sorted []*File, dir string) (int, bool) {
	i, _ := slices.BinarySearchFunc(sorted, dir, func(f *File, d string) int {
		c := compareUnder(f.Name, d)
		if c == 0 {
			return 1 // go left: the first one is wanted
		}
		return c
	})
	return i, i < len(sorted) && compareUnder(sorted[i].Name, dir) == 0
}
