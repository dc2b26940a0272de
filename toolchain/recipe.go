package toolchain

import (
	"fmt"
	"slices"

	"github.com/senbonzakura/senbonzakura/partial/updater"

	"github.com/senbonzakura/senbonzakura/partial"
)

// applyEra makes a recipe one whose updates the updaters of an era apply.
func applyEra(recipe *partial.Recipe, era Era, rules *Rules) error {
	recipe.Manifests = nil
	for _, m := range era.Manifests {
		switch m {
		case 2:
			recipe.Manifests = append(recipe.Manifests, updater.ManifestV2)
		case 3:
			recipe.Manifests = append(recipe.Manifests, updater.ManifestV3)
		}
	}
	slices.Sort(recipe.Manifests)
	switch era.Compression {
	case CompressionBzip2:
		recipe.Compression = partial.Compression{Format: updater.FormatBzip2, Patches: partial.Bzip2{}, Files: partial.Bzip2{}}
	case CompressionXZ:
		recipe.Compression.Format = updater.FormatXZ
	default:
		return fmt.Errorf("%w: compression %q", ErrRules, era.Compression)
	}
	if rules != nil {
		if arch, ok := rules.Arch[recipe.Arch]; ok {
			recipe.Arch = arch
		}
	}
	return nil
}
