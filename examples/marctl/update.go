package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/internal/stream"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
	"github.com/senbonzakura/senbonzakura/toolchain"
)

func (a *app) updateCommands() []*cobra.Command {
	return []*cobra.Command{a.partialCommand(), a.proveCommand(), a.applyCommand(), a.packCommand(), a.verifyUpdatesCommand()}
}

// architectures are what --arch takes.
var architectures = partial.Architectures()

// recipeFlags are the flags of commands that make updates.
type recipeFlags struct {
	recipe, arch            string
	channel, productVersion string
	force, formats          []string
}

// add adds the flags; otherwise says what holds without a channel or a version.
func (f *recipeFlags) add(cmd *cobra.Command, otherwise string) {
	flags := cmd.Flags()
	choice(cmd, &f.arch, "arch", "x86_64", "architecture of the product", architectures...)
	flags.StringVarP(&f.channel, "channel", "H", "", "MAR channel of the update ("+otherwise+")")
	flags.StringVarP(&f.productVersion, "product-version", "V", "", "version of the update ("+otherwise+")")
	freeText(cmd, "channel", "product-version")
}

// must is for calls that fail only if this program is wrong.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// product returns the product block of an update into to.
func (f *recipeFlags) product(to mar.Product) *mar.Product {
	if f.channel != "" {
		to.Channel = f.channel
	}
	if f.productVersion != "" {
		to.Version = f.productVersion
	}
	if to == (mar.Product{}) {
		return nil
	}
	return &to
}

func (a *app) partialCommand() *cobra.Command {
	var f recipeFlags
	var one single
	var noVerify, allowDowngrade bool
	var sources sourceFlags
	var client clientFlags
	var requestName string
	var jobs int
	p := &one.pair
	cmd := &cobra.Command{
		Use:   "partial FROM TO OUT",
		Short: "Make the partial update that turns FROM into TO, proved",
		Long: `partial makes the partial update between two complete updates: MAR files, addresses with their hashes, or
directories that hold an installation. Before the result is written it is asked whether FROM's updater takes it; then it is
applied to FROM, in memory, and compared with TO. What could not be checked is listed.

What FROM's updater reads and refuses is read off FROM, and for known products follows from its version; --platform,
--gecko, --client-version and --client-verifies say what neither tells. Recipe "auto" makes the smallest update that it takes,
repairs what Mozilla's packaging scripts get wrong and refuses what cannot be repaired. Recipe "mozilla" makes the
manifest, entries and patches that make_incremental_update.sh and mbsdiff make; what clients would fail on is listed as
findings, and ends marctl with exit code 1, writing nothing, unless --allow-findings is given.

Files are read where they are, and nothing is written but OUT. With addresses, or with --cache, everything on the way is
kept in a cache. --request makes many updates: a JSON file with an array "partials" of {"from": {"url", "sha512", "size"},
"to": …, "out"} and, in each, optionally "matrix": {"locale": ["de", "fr"]}, whose {locale} is replaced in every text;
"sums" names files like SHA512SUMS that give the hashes. Running it again goes on where it stopped.`,
		Example: `  marctl partial 153.5.1.complete.mar 153.6.0.complete.mar out.partial.mar
  marctl partial --recipe mozilla --allow-findings from.mar to.mar out.mar
  marctl partial --json --channel release --product-version 153.6.0 from/ to/ out.mar | jq .report.saved
  marctl partial --formats mbdiff10 from.mar to.mar out.mar
  marctl partial --arch aarch64 --force Contents/Resources/defaults.js from.mar to.mar out.mar
  marctl partial https://host/from.mar https://host/to.mar out.mar --from-sha512 HEX --to-sha512 HEX
  marctl partial --request release.json --jobs 4 --manifest manifest.json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if requestName != "" {
				return noArgs(cmd, args)
			}
			return cobra.ExactArgs(3)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if requestName != "" {
				if err := refuseFlags(cmd, "does not go with --request: say it in the file", "arch", "channel", "product-version", "recipe",
					"formats", "force", "no-verify", "allow-findings", "allow-downgrade", "from-sha512", "to-sha512", "skip", "key", "report",
					"tools", "differ-tool", "xz-tool", "platform", "trust", "gecko", "client-version", "client-verifies"); err != nil {
					return err
				}
				pairs, err := readRequests(requestName)
				if err != nil {
					return err
				}
				return a.generateAll(cmd.Context(), &sources, pairs, jobs, requestName, one.manifest)
			}
			if err := refuseFlags(cmd, "goes with --request", "jobs"); err != nil {
				return err
			}
			p.From.URL, p.To.URL, p.Out = args[0], args[1], args[2]
			for i, s := range []pairSource{p.From, p.To} {
				if isURL(s.URL) && s.SHA512 == "" {
					return usagef("%s comes from a URL: give its hash with --%s-sha512", s.URL, []string{"from", "to"}[i])
				}
			}
			opts, err := client.options()
			if err != nil {
				return err
			}
			for _, name := range f.formats {
				if !slices.Contains(partial.PatchFormats(), name) {
					return usagef("--formats %q: want some of %s%s", name, strings.Join(partial.PatchFormats(), ", "), didYouMean(name, partial.PatchFormats()))
				}
			}
			p.Client, p.Trust, p.Skip, p.Formats = opts.Client, opts.Trust, client.skip, f.formats
			p.Force, p.Channel, p.ProductVersion = f.force, f.channel, f.productVersion
			if cmd.Flags().Changed("recipe") {
				p.Recipe = f.recipe
			}
			if cmd.Flags().Changed("arch") {
				p.Arch = f.arch
			}
			if allowDowngrade {
				p.Skip = append(p.Skip, string(updater.CheckDowngrade))
			}
			if noVerify {
				p.Skip = append(p.Skip, string(updater.CheckVerify))
			}
			return a.generateSingle(cmd.Context(), &sources, &one)
		},
	}
	f.add(cmd, "default: that of TO")
	client.add(cmd)
	flags := cmd.Flags()
	choice(cmd, &f.recipe, "recipe", "auto", "what FROM's updater takes (auto), the same without the product's own rules (default), or what Mozilla's scripts make", "auto", "default", "mozilla")
	flags.StringSliceVar(&f.formats, "formats", nil, "formats that patches may be in, of which each file gets the smallest: "+strings.Join(partial.PatchFormats(), ", ")+" (default: those that FROM's updater is known to apply)")
	flags.StringArrayVarP(&f.force, "force", "f", nil, "path that goes in whole even if it did not change (repeatable)")
	flags.BoolVar(&noVerify, "no-verify", false, "leave out the proof that the update turns FROM into TO")
	flags.BoolVar(&p.AllowFindings, "allow-findings", false, "write the update although clients may fail on it")
	flags.BoolVar(&allowDowngrade, "allow-downgrade", false, "let TO be older than FROM")
	flags.StringVar(&p.From.SHA512, "from-sha512", "", "SHA-512 of FROM in hexadecimal")
	flags.StringVar(&p.To.SHA512, "to-sha512", "", "SHA-512 of TO in hexadecimal")
	freeText(cmd, "from-sha512", "to-sha512", "force")
	flags.StringArrayVarP(&p.Keys, "key", "k", nil, "FROM and TO must be signed by this key or another one given (repeatable)")
	flags.StringVar(&requestName, "request", "", "JSON file that names many partial updates")
	flags.IntVar(&jobs, "jobs", 2, "how many updates of --request to make at once")
	flags.StringVar(&one.manifest, "manifest", "", "write manifest.json as Mozilla's submitters read it")
	sources.add(cmd)
	one.tools.add(cmd)
	flags.StringVar(&one.report, "report", "", "write the report, file by file, as JSON into this file")
	takes(cmd, source, source, writes)
	flagTakes(cmd, reads, "request")
	flagTakes(cmd, writes, "report", "manifest")
	keyFlag(cmd, "key")
	knownList(cmd, "formats", partial.PatchFormats()...)
	return cmd
}

func namedRecipe(name string) (partial.Recipe, error) {
	switch name {
	case "default":
		return partial.DefaultRecipe(), nil
	case "mozilla":
		return partial.MozillaRecipe(), nil
	}
	return partial.Recipe{}, usagef("recipe %q: want auto, default or mozilla", name)
}

// buildError says which file an error of a build is about, and puts the reasons of a refusal one behind the other.
func buildError(err error, from, to string) error {
	message := err.Error()
	message = strings.Replace(message, "FROM: ", "FROM "+from+": ", 1)
	message = strings.Replace(message, "TO: ", "TO "+to+": ", 1)
	if message != err.Error() {
		return errors.New(message)
	}
	return err
}

func (a *app) writeReport(ctx context.Context, name string, report *partial.Report) error {
	return a.writeJSON(ctx, name, report)
}

// partialResult is what partial prints as JSON.
type partialResult struct {
	File    string           `json:"file"`
	Written bool             `json:"written"` // there is an update in File
	Cached  bool             `json:"cached"`
	Checks  updater.Verdicts `json:"checks"`
	Report  *partial.Report  `json:"report"`
}

// partialDone prints what was made, or why nothing was, of which there is a report.
func (a *app) partialDone(out string, made *senbonzakura.Result, written bool) error {
	report, p := made.Report, made.Provenance
	return a.summary(partialResult{out, written, made.Cached, p.Checks, report}, func(w *printer) {
		if !written {
			w.findings(report.Findings)
			return
		}
		w.findings(slices.DeleteFunc(slices.Clone(report.Findings), func(f partial.Finding) bool { // checks say them again
			return f.Severity == partial.Warning && slices.ContainsFunc(p.Checks.Warnings(), func(v updater.Verdict) bool { return v.Check == f.Check })
		}))
		w.verdicts(p.Checks)
		counts := map[partial.Action]int{}
		for _, file := range report.Files {
			counts[file.Action]++
		}
		w.printf("%s: %d bytes, %.1f %% of the complete update\n", out, p.Output.Size, 100*float64(p.Output.Size)/float64(max(report.Complete, 1)))
		proved := w.good("proved")
		if !report.Verified {
			proved = w.bad("NOT proved")
		}
		if made.Cached {
			proved += ", from the cache"
		}
		w.printf("%d files patched%s, %d added, %d removed, %d unchanged; %s; %v\n",
			counts[partial.ActionPatch], formatCounts(report), counts[partial.ActionAdd], counts[partial.ActionRemove], counts[partial.ActionSame],
			proved, report.Elapsed.Round(10*time.Millisecond))
	})
}

// openComplete opens a complete update, which may be a directory that holds an installation: it is packed into a temporary
// file then, which nobody sees.
func (a *app) openComplete(ctx context.Context, name string) (r *mar.FileReader, err error) {
	if info, err := os.Stat(name); err != nil || !info.IsDir() {
		return openMAR(name, nil)
	}
	archive, _, err := packDirectory(ctx, name, partial.PackOptions{
		Arch: "x86_64", Compression: partial.Compression{Files: partial.XZ{Level: partial.LevelFast}}, Workers: a.workers,
	})
	if err != nil {
		return nil, named(name, err)
	}
	f, err := os.CreateTemp("", "marctl-*.mar")
	if err != nil {
		return nil, err
	}
	a.temporary = append(a.temporary, f.Name())
	_, err = archive.WriteTo(stream.NewWriter(ctx, f))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, named(name, err)
	}
	return openMAR(f.Name(), nil)
}

// formatCounts says how many patches are in which format, where a recipe had a choice.
func formatCounts(report *partial.Report) string {
	counts, chosen := map[string]int{}, false
	for _, file := range report.Files {
		if file.Format != "" {
			counts[file.Format]++
			chosen = chosen || len(file.Candidates) > 0
		}
	}
	if !chosen {
		return ""
	}
	var parts []string
	for _, format := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[format], format))
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// packDirectory makes a complete update of a directory.
func packDirectory(ctx context.Context, dir string, opts partial.PackOptions) (*mar.Archive, *partial.Report, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, err
	}
	archive, report, err := partial.Pack(ctx, root.FS(), opts)
	if err != nil {
		root.Close()
		return nil, nil, err
	}
	return archive, report, root.Close()
}

func (a *app) proveCommand() *cobra.Command {
	var sources sourceFlags
	var client clientFlags
	var keys []string
	cmd := &cobra.Command{
		Use:   "prove FROM PARTIAL TO",
		Short: "Prove that FROM's updater takes a partial update, and that it turns FROM into TO",
		Long: `prove asks whether FROM's updater takes a partial update, whoever made it: its signature (with --key, the key
that is built into FROM), channel and version, and the formats that it reads. Then it applies the update to FROM in
memory, as that updater would, and compares names, bytes and executable bits with TO. FROM and TO may also be directories
that hold an installation. The exit code is 1 where the
updater refuses it or where they differ, and every difference is listed with the offset of the first byte. What could not be
checked is said, with the reason.`,
		Example: `  marctl prove from.complete.mar update.partial.mar to.complete.mar
  marctl prove /opt/firefox-153.5.1 update.partial.mar /opt/firefox-153.6.0
  marctl prove --key release.der from.mar update.mar to.mar
  marctl prove --json from.mar update.mar to.mar | jq .differences`,
		Args: cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			readers := make([]*mar.Reader, len(args))
			for i, name := range args {
				open := a.openComplete
				if i == 1 {
					open = func(_ context.Context, name string) (*mar.FileReader, error) { return openMAR(name, nil) }
				}
				r, err := open(cmd.Context(), name)
				if err != nil {
					return err
				}
				defer r.Close()
				readers[i] = r.Reader
			}
			set, err := sources.toolchain()
			if err != nil {
				return err
			}
			opts := &partial.VerifyOptions{Workers: a.workers}
			if opts.Client, opts.Skip, err = client.clientOf(set, readers[0], readers[2]); err != nil {
				return buildError(err, args[0], args[2])
			}
			if opts.Keys, err = publicKeys(keys); err != nil {
				return err
			}
			p := a.newProgress("prove")
			defer p.end()
			opts.Progress = func(e partial.Event) { p.set(string(e.Step), e.Done, e.Total) }
			proof, err := partial.Prove(cmd.Context(), readers[0], readers[1], readers[2], opts)
			p.end()
			if err != nil {
				if errors.Is(err, partial.ErrInput) {
					return buildError(err, args[0], args[2])
				}
				return named(args[1], err)
			}
			same := len(proof.Differences) == 0
			taken := proof.Checks.Err() == nil
			err = a.print(proveResult{same, taken, proof}, func(w *printer) {
				w.verdicts(slices.DeleteFunc(slices.Clone(proof.Checks), func(v updater.Verdict) bool { return v.Check == updater.CheckVerify }))
				for _, d := range proof.Expected {
					w.printf("meant to differ: %s\n", d)
				}
				for _, d := range proof.Differences {
					w.printf("%s %s\n", w.bad("DIFFERS:"), d)
				}
				if same {
					w.printf("%s: %d files (%d patched, %d added, %d removed, %d left as they were)\n",
						w.good("same"), proof.Files, proof.Patched, proof.Added, proof.Removed, proof.Same)
				}
			})
			if err == nil && (!same || !taken) {
				return errAnswerNo
			}
			return err
		},
	}
	client.add(cmd)
	takes(cmd, source, reads, source)
	cmd.Flags().StringArrayVarP(&keys, "key", "k", nil, "key that is built into FROM's updater, of which one must have signed the update (repeatable)")
	cmd.Flags().StringArrayVar(&sources.rules, "rules", nil, "TOML file with the rules of a product (repeatable)")
	flagTakes(cmd, reads, "rules")
	keyFlag(cmd, "key")
	return cmd
}

// proveResult is what prove prints as JSON.
type proveResult struct {
	Same  bool `json:"same"`
	Taken bool `json:"taken"` // no check fails
	*partial.Proof
}

func (a *app) applyCommand() *cobra.Command {
	var client clientFlags
	var keys []string
	cmd := &cobra.Command{
		Use:   "apply UPDATE DIR",
		Short: "Apply a complete or partial update to an installation",
		Long: `apply does what the updater does to the installation in DIR, all or nothing: after a failure the tree is
the old one, and after a kill another apply finishes or takes back what was begun. An update that the installation's
updater would refuse, as far as its files tell, is refused: --skip leaves a check out.`,
		Example: `  marctl apply update.partial.mar /opt/firefox
  marctl apply --skip client-channel update.partial.mar /opt/firefox`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			said, err := client.options()
			if err != nil {
				return err
			}
			r, err := openMAR(args[0], nil)
			if err != nil {
				return err
			}
			defer r.Close()
			root, err := os.OpenRoot(args[1])
			if err != nil {
				return err
			}
			defer root.Close()
			opts := &updater.ApplyOptions{Skip: said.Skip}
			if opts.Keys, err = publicKeys(keys); err != nil {
				return err
			}
			build, err := toolchain.ReadTree(root.FS())
			if err != nil {
				return named(args[1], err)
			}
			if opts.Client, err = toolchain.DefaultSet().Client(build, build, said); err != nil {
				return err
			}
			verdicts, err := opts.Client.CheckMAR(cmd.Context(), r.Reader, opts.Keys...)
			if err != nil {
				return named(args[0], err)
			}
			p := a.newProgress("apply")
			defer p.end()
			opts.Progress = func(e updater.Event) { p.set(string(e.Step), e.Done, e.Total) }
			err = updater.Apply(cmd.Context(), root, r.Reader, opts)
			p.end()
			if err != nil {
				return named(args[0], err)
			}
			verdicts = verdicts.Skip(opts.Skip...)
			return a.summary(applyResult{args[0], args[1], true, verdicts}, func(w *printer) {
				w.verdicts(verdicts.Warnings())
				w.printf("%s applied to %s\n", args[0], args[1])
			})
		},
	}
	client.add(cmd)
	cmd.Flags().StringArrayVarP(&keys, "key", "k", nil, "key that is built into the installation's updater, of which one must have signed the update (repeatable)")
	takes(cmd, reads, changes)
	keyFlag(cmd, "key")
	return cmd
}

// applyResult is what apply prints as JSON.
type applyResult struct {
	Update  string           `json:"update"`
	Dir     string           `json:"dir"`
	Applied bool             `json:"applied"`
	Checks  updater.Verdicts `json:"checks"`
}
