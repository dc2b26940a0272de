package partial

import (
	"errors"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial/internal/updatetest"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// Manifests of version 1 are neither made nor read: who asks for one is refused, and a complete that has no other is none.
func TestOldestManifests(t *testing.T) {
	t.Parallel()
	from, to := releases(t, updatetest.Tree{"a": updatetest.File("1")}, updatetest.Tree{"a": updatetest.File("2")})
	recipe := fastRecipe(RulesStrict)
	recipe.Manifests = []updater.ManifestVersion{updater.ManifestV1}
	if _, _, err := Build(t.Context(), from, to, recipe, nil); err == nil || !strings.Contains(err.Error(), "manifest version 1") {
		t.Errorf("asked for: %v", err)
	}
	if _, _, err := Pack(t.Context(), updatetest.Tree{"a": updatetest.File("1")}.FS(), PackOptions{Manifests: []updater.ManifestVersion{updater.ManifestV1}}); err == nil || !strings.Contains(err.Error(), "manifest version 1") {
		t.Errorf("packed: %v", err)
	}
	old := updatetest.Write(t, &mar.Archive{Entries: []mar.Entry{
		mar.BytesEntry("update.manifest", 0o644, updatetest.Compress(t, []byte("add \"a\"\n"))), mar.BytesEntry("a", 0o644, updatetest.Compress(t, []byte("1"))),
	}})
	var refused *RefusedError
	if _, _, err := Build(t.Context(), old, to, fastRecipe(RulesStrict), nil); !errors.As(err, &refused) || refused.Findings[0].Check != updater.CheckManifests || refused.Findings[0].WayOut == "" {
		t.Errorf("a FROM with a manifest of version 1 alone: %v", err)
	}
}
