package toolchain

import (
	"fmt"
	"time"

	"github.com/senbonzakura/senbonzakura/internal/version"
)

// Compare orders two product versions as Gecko does (the order by which its updater refuses a downgrade) and
// returns -1, 0 or +1. A version is a list of parts separated by dots; each part is up to four pieces,
// <number><text><number><text>. A missing text sorts behind any text, so 12.0a1 comes before 12.0; a missing
// part is 0; "*" alone is larger than any number; 1.0+ equals 1.1pre. Safe for concurrent use.
func Compare(a, b string) int { return version.Compare(a, b) }

// ParseBuildID returns the time that a build ID names, in UTC: 14 digits YYYYMMDDhhmmss, or 10 digits
// YYYYMMDDhh as builds before 2009 have them.
func ParseBuildID(id string) (time.Time, error) {
	layout := "20060102150405"
	if len(id) == 10 {
		layout = "2006010215"
	}
	t, err := time.ParseInLocation(layout, id, time.UTC)
	if err != nil || len(id) != len(layout) {
		return time.Time{}, fmt.Errorf("build ID %q: want 14 digits YYYYMMDDhhmmss or 10 digits YYYYMMDDhh", id)
	}
	return t, nil
}
