package main

import (
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

var (
	packFormats = memberFormats()
	packLayouts = []mar.Layout{mar.LayoutSections, mar.LayoutNoSections, mar.LayoutOriginal}
)

// memberFormats are the names of the formats of members.
func memberFormats() []string {
	var list []string
	for _, f := range updater.MemberFormats() {
		list = append(list, string(f))
	}
	return list
}

// packFlags are the flags of pack that say which clients the update is for.
type packFlags struct {
	recipeFlags
	level, platform, compression, layout string
	manifests                            []string
	skipLinks                            bool
}

func (f *packFlags) options() (partial.PackOptions, error) {
	platform, err := parsePlatform(f.platform)
	if err != nil {
		return partial.PackOptions{}, err
	}
	opts := partial.PackOptions{Arch: f.arch, Platform: string(platform), Product: f.product(mar.Product{}), SkipLinks: f.skipLinks}
	opts.Compression.Format = updater.MemberFormat(f.compression)
	if opts.Compression.Format == updater.FormatXZ {
		opts.Compression.Files = partial.XZ{Level: partial.Level(f.level)}
	}
	for _, text := range f.manifests {
		n, err := strconv.Atoi(text)
		if v := updater.ManifestVersion(n); err != nil || v != updater.ManifestV2 && v != updater.ManifestV3 || slices.Contains(opts.Manifests, v) {
			return opts, usagef("--manifest %q: want 2, 3, or both", strings.Join(f.manifests, ","))
		}
		opts.Manifests = append(opts.Manifests, updater.ManifestVersion(n))
	}
	opts.Layout = packLayouts[slices.IndexFunc(packLayouts, func(l mar.Layout) bool { return l.String() == f.layout })]
	if opts.Product != nil && opts.Layout != mar.LayoutSections {
		return opts, usagef("--layout %s has no place for --channel and --product-version", f.layout)
	}
	return opts, nil
}

func layoutNames() []string {
	names := make([]string, 0, len(packLayouts))
	for _, l := range packLayouts {
		names = append(names, l.String())
	}
	return names
}

// packResult is what pack prints as JSON.
type packResult struct {
	File     string            `json:"file"`
	Size     int64             `json:"size"` // bytes
	Findings []partial.Finding `json:"findings"`
}

func (a *app) packCommand() *cobra.Command {
	var f packFlags
	cmd := &cobra.Command{
		Use:   "pack DIR OUT",
		Short: "Make a complete update of an installation",
		Long: `pack makes a complete update of the installation in DIR, by the rules of Mozilla's packaging: manifest,
instructions for the user's own settings, removed-files, and precomplete, which is made where it is absent. Members are
compressed with xz, behind the branch filter of the architecture. What is left out or repaired is listed.

For clients before Firefox 56: --compression bzip2, which reads no xz. Older ones still read updatev2.manifest
(--manifest 2,3 writes both) and containers without product information (--layout).`,
		Example: `  marctl pack firefox/ firefox-153.6.0.complete.mar --channel release --product-version 153.6.0
  marctl pack --compression bzip2 --manifest 2,3 -H release -V 45.0 firefox/ firefox-45.0.complete.mar`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts, err := f.options()
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("level") && opts.Compression.Format != updater.FormatXZ {
				return usagef("--level goes with xz alone")
			}
			p := a.newProgress("pack")
			defer p.end()
			opts.Workers = a.workers
			opts.Progress = func(e partial.Event) { p.set(string(e.Step), e.Done, e.Total) }
			archive, report, err := packDirectory(cmd.Context(), args[0], opts)
			p.end()
			if err != nil {
				return named(args[0], err)
			}
			var n int64
			err = a.writeFile(cmd.Context(), args[1], func(w io.Writer) (err error) {
				n, err = archive.WriteTo(w)
				return err
			})
			if err != nil {
				return err
			}
			return a.summary(packResult{args[1], n, report.Findings}, func(w *printer) {
				w.findings(report.Findings)
				w.printf("%s: %d bytes\n", args[1], n)
			})
		},
	}
	f.add(cmd, "clients refuse an update without channel and version")
	flags := cmd.Flags()
	choice(cmd, &f.level, "level", string(partial.Level6), "how hard to compress with xz", levelNames...)
	flags.StringVar(&f.platform, "platform", "", "whose names are good: linux, windows, macos or a name that begins like one (default: by the files)")
	known(cmd, "platform", "linux", "windows", "macos")
	choice(cmd, &f.compression, "compression", string(updater.FormatXZ), "of members", packFormats...)
	choice(cmd, &f.layout, "layout", mar.LayoutSections.String(), "form of the container", layoutNames()...)
	flags.StringSliceVar(&f.manifests, "manifest", []string{"3"}, "versions of the manifest to write, in this order: 2, 3")
	known(cmd, "manifest", "2", "3", "2,3")
	flags.BoolVar(&f.skipLinks, "skip-links", false, "leave symbolic links and other files that are not regular out, instead of refusing them")
	takes(cmd, tree, writes)
	return cmd
}
