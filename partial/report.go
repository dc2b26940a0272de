package partial

import (
	"slices"
	"time"

	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// A ReleaseInfo says what a complete update calls itself.
type ReleaseInfo struct {
	Name    string `json:"name,omitempty"`     // from application.ini
	Version string `json:"version,omitempty"`  // from application.ini, else from the MAR
	BuildID string `json:"build_id,omitempty"` // from application.ini
	Channel string `json:"channel,omitempty"`  // from the MAR
	Size    int64  `json:"size"`               // bytes of the MAR
	Files   int    `json:"files"`              // how many, without manifests
}

// An Action says what was done with a file.
type Action string

// The actions, with those of the manifest spelled as there.
const (
	ActionSame     Action = "same"   // nothing: the file is the same
	ActionPatch    Action = "patch"  // a patch (patch, patch-if)
	ActionAdd      Action = "add"    // the whole file (add, add-if, add-if-not)
	ActionRemove   Action = "remove" // removed
	ActionLeftOut  Action = "left out"
	ActionManifest Action = "manifest"
)

// A FileReport says what was done with one file and why.
type FileReport struct {
	Path   string `json:"path"`   // in the installation, with slashes
	Action Action `json:"action"` // what was done with it
	Why    string `json:"why"`    // for people
	// Instruction is the line of the manifest, "" where there is none.
	Instruction string `json:"instruction,omitempty"`
	// OldSize and NewSize are the file's bytes in FROM and TO, decompressed; -1 where it is not there, 0 also where
	// nothing needed to know.
	OldSize int64 `json:"old_size"`
	NewSize int64 `json:"new_size"`
	// FullSize is the compressed size of the whole file, Size what it takes in the update: of the patch, of the
	// whole file, or 0.
	FullSize int64 `json:"full_size"`
	Size     int64 `json:"size"`
	// Format is that of the patch, "" where there is none. Candidates are the ways in which it was made, or could have been,
	// where the recipe has several: of those that were tried the smallest is taken.
	Format     string      `json:"format,omitempty"`
	Candidates []Candidate `json:"candidates,omitempty"`
	// Recompressed says that TO's own member could not be taken.
	Recompressed bool `json:"recompressed,omitempty"`
	// Cached says that the patch, or that there is none, came from the cache.
	Cached bool `json:"cached,omitempty"`
	// SharedWith is another path with the same old and new content, for which the patch was made.
	SharedWith string `json:"shared_with,omitempty"`
	// Seconds is the time that making and proving the patch took.
	Seconds float64 `json:"seconds"`
}

// A Report says what Build or Pack did. Everything but the times is the same for the same inputs, recipe and
// options.
type Report struct {
	Recipe   string `json:"recipe"`    // its name
	RecipeID string `json:"recipe_id"` // everything of it that decides about bytes
	// Rules are those of the recipe.
	Rules Rules       `json:"rules,omitempty"`
	From  ReleaseInfo `json:"from"` // the complete update of the old version
	To    ReleaseInfo `json:"to"`   // that of the new one
	// Files has one entry for each file of FROM and TO and for each manifest, in the order of the manifest, and
	// then those that take no instruction.
	Files    []FileReport `json:"files"`
	Findings []Finding    `json:"findings,omitempty"` // what is wrong with the inputs, or must be known of them
	// EmptyDirectories are those of the tree that Pack left out, each with those in it.
	EmptyDirectories []string `json:"empty_directories,omitempty"`
	// Verified says that the update was proved to turn FROM into TO, but for what Proof.Expected lists.
	Verified bool   `json:"verified"`
	Proof    *Proof `json:"proof,omitempty"` // how the update was proved; nil where it was not
	// Client is FROM's updater as the update was made for it, each fact with its source; of Pack there is none.
	Client *updater.Client `json:"client,omitempty"`
	// Checks are what the client's checks, and the proof, come to.
	Checks updater.Verdicts `json:"checks,omitempty"`
	// Failure is what clients would fail with, where rules of the scripts let it pass.
	Failure string `json:"failure,omitempty"`
	// Size is the bytes of the unsigned archive; Complete those of TO's; Saved is the share of Complete that clients
	// need not download, from 0 to 1.
	Size     int64         `json:"size"`
	Complete int64         `json:"complete"`
	Saved    float64       `json:"saved"`
	Cache    CacheStats    `json:"cache"`      // how often patches were found
	Elapsed  time.Duration `json:"elapsed_ns"` // time on the clock, as nanoseconds
}

// Broken returns the findings because of which the update should not be shipped.
func (r *Report) Broken() []Finding { return findings(r.Findings).broken() }

// merged puts later verdicts in the place of earlier ones of the same check, and the others behind; all in the order of
// updater.Checks.
func merged(earlier, later updater.Verdicts) updater.Verdicts {
	out := slices.Clone(earlier)
	for _, v := range later {
		at := slices.IndexFunc(out, func(e updater.Verdict) bool { return e.Check == v.Check })
		switch {
		case at < 0:
			out = append(out, v)
		case out[at].Answer == updater.NotChecked || out[at].Answer == updater.Holds:
			out[at] = v
		}
	}
	order := updater.Checks()
	slices.SortStableFunc(out, func(a, b updater.Verdict) int { return slices.Index(order, a.Check) - slices.Index(order, b.Check) })
	return out
}
