package job

import (
	"fmt"
	"slices"

	"github.com/senbonzakura/senbonzakura"
)

// SkipForbidden says why operators cannot be allowed to leave out a check; "" if they can. signed says that there are
// signers, so that the requirements hold.
func SkipForbidden(c senbonzakura.Check, require []senbonzakura.Requirement, signed bool) string {
	switch {
	case !slices.Contains(senbonzakura.Checks(), c):
		return fmt.Sprintf("no check is called %q (checks: %q)", string(c), senbonzakura.Checks())
	case c == senbonzakura.CheckSignatures:
		return "what is trusted is a matter of the configuration: no request can leave out signatures"
	case signed:
		for _, r := range require {
			if r.Needs(c) {
				return fmt.Sprintf("without the check %q nothing could be signed: %q is required", string(c), string(r))
			}
		}
	}
	return ""
}
