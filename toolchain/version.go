package toolchain

import "github.com/senbonzakura/senbonzakura/internal/version"

// Compare orders two product versions as Gecko does (the order by which its updater refuses a downgrade) and
// returns -1, 0 or +1. A version is a list of parts separated by dots; each part is up to four pieces,
// <number><text><number><text>. A missing text sorts behind any text, so 12.0a1 comes before 12.0; a missing
// part is 0; "*" alone is larger than any number; 1.0+ equals 1.1pre. Safe for concurrent use.
func Compare(a, b string) int { return version.Compare(a, b) }
