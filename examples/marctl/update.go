package main

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/senbonzakura/senbonzakura/partial/updater"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
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
	force                   []string
}

// add adds the flags; otherwise says what holds without a channel or a version.
func (f *recipeFlags) add(cmd *cobra.Command, otherwise string) {
	flags := cmd.Flags()
	flags.StringVar(&f.arch, "arch", "x86_64", "architecture of the product: "+strings.Join(architectures, ", "))
	flags.StringVarP(&f.channel, "channel", "H", "", "MAR channel of the update ("+otherwise+")")
	flags.StringVarP(&f.productVersion, "product-version", "V", "", "version of the update ("+otherwise+")")
	must(cmd.RegisterFlagCompletionFunc("arch", cobra.FixedCompletions(architectures, cobra.ShellCompDirectiveNoFileComp)))
}

// must is for calls that fail only if this program is wrong.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (f *recipeFlags) check() error {
	if !slices.Contains(architectures, f.arch) {
		return usagef("--arch %q: want one of %s", f.arch, strings.Join(architectures, ", "))
	}
	return nil
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
	var noVerify, allowFindings, allowDowngrade bool
	var reportFile string
	var sources sourceFlags
	var p pair
	var requestName, manifest string
	var jobs int
	var tools toolFlags
	cmd := &cobra.Command{
		Use:   "partial FROM TO OUT",
		Short: "Make the partial update that turns FROM into TO, proved",
		Long: `partial makes the partial update between two complete updates (MAR files, or directories that hold an
installation). Before the result is written it is applied to FROM, in memory, and compared with TO.

Recipe "default" makes the smallest update that every updater since Firefox 56 applies, repairs what Mozilla's
packaging scripts get wrong and refuses what cannot be repaired. Recipe "mozilla" makes the manifest, entries and
patches that make_incremental_update.sh and mbsdiff make; what clients would fail on is listed as findings, and ends
marctl with exit code 1, writing nothing, unless --allow-findings is given.

FROM and TO may be addresses, with their hashes; then, or with --cache, everything on the way is kept in a cache, and
the recipe is what FROM's updater understands unless --recipe says otherwise. --request makes many updates: a JSON file
with an array "partials" of {"from": {"url", "sha512", "size"}, "to": …, "out"} and, in each, optionally "matrix":
{"locale": ["de", "fr"]}, whose {locale} is replaced in every text; "sums" names files like SHA512SUMS that give the
hashes. Running it again goes on where it stopped.`,
		Example: `  marctl partial 153.5.1.complete.mar 153.6.0.complete.mar out.partial.mar
  marctl partial --recipe mozilla --allow-findings from.mar to.mar out.mar
  marctl partial --json --channel release --product-version 153.6.0 from/ to/ out.mar | jq .report.saved
  marctl partial --arch aarch64 --force Contents/Resources/defaults.js from.mar to.mar out.mar
  marctl partial https://host/from.mar https://host/to.mar out.mar --from-sha512 HEX --to-sha512 HEX
  marctl partial --request release.json --jobs 4 --manifest manifest.json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if requestName != "" {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(3)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if requestName != "" {
				if err := refuseFlags(cmd, "does not go with --request: say it in the file", "arch", "channel", "product-version", "recipe",
					"force", "no-verify", "allow-findings", "allow-downgrade", "from-sha512", "to-sha512", "skip", "key", "report",
					"tools", "differ-tool", "xz-tool"); err != nil {
					return err
				}
				pairs, err := readRequests(requestName)
				if err != nil {
					return err
				}
				return a.generateAll(cmd.Context(), &sources, pairs, jobs, manifest)
			}
			if err := refuseFlags(cmd, "goes with --request", "jobs"); err != nil {
				return err
			}
			if isURL(args[0]) || isURL(args[1]) || sources.cacheDir != "" || manifest != "" {
				if err := refuseFlags(cmd, "goes with files and without --cache and --manifest",
					"no-verify", "allow-findings", "report", "tools", "differ-tool", "xz-tool"); err != nil {
					return err
				}
				p.From.URL, p.To.URL, p.Out = args[0], args[1], args[2]
				for i, s := range []pairSource{p.From, p.To} {
					if isURL(s.URL) && s.SHA512 == "" {
						return usagef("%s comes from a URL: give its hash with --%s-sha512", s.URL, []string{"from", "to"}[i])
					}
				}
				p.Force, p.Channel, p.ProductVersion = f.force, f.channel, f.productVersion
				if cmd.Flags().Changed("recipe") {
					p.Recipe = f.recipe
				}
				if cmd.Flags().Changed("arch") {
					p.Arch = f.arch
				}
				if allowDowngrade {
					p.Skip = append(p.Skip, "downgrade")
				}
				return a.generateAll(cmd.Context(), &sources, []pair{p}, 1, manifest)
			}
			if err := refuseFlags(cmd, "goes with URLs or with --cache", "from-sha512", "to-sha512", "skip", "key", "rules"); err != nil {
				return err
			}
			for _, out := range []string{args[2], reportFile} {
				if out != "" {
					if err := checkOutput(out); err != nil {
						return err
					}
				}
			}
			recipe, err := namedRecipe(f.recipe)
			if err != nil {
				return err
			}
			recipe.Arch, recipe.Force = f.arch, f.force
			if err := tools.replace(cmd.Context(), &sources, &recipe); err != nil {
				return err
			}
			bar := a.newProgress("partial")
			defer bar.end()
			progress := func(e partial.Event) { bar.set(string(e.Step), e.Done, e.Total) }
			from, err := a.openUpdate(cmd.Context(), args[0], partial.LevelFast, f.arch, progress)
			if err != nil {
				return err
			}
			defer from.close()
			to, err := a.openUpdate(cmd.Context(), args[1], partial.Level6, f.arch, progress)
			if err != nil {
				return err
			}
			defer to.close()
			product, _ := to.Product()
			recipe.Product = f.product(product)
			var skipped []updater.Check
			if allowDowngrade {
				skipped = append(skipped, updater.CheckDowngrade)
			}
			archive, report, err := partial.Build(cmd.Context(), from.Reader, to.Reader, recipe, &partial.BuildOptions{
				Workers: a.workers, NoVerify: noVerify, Skip: skipped, Progress: progress,
			})
			bar.end()
			if err != nil {
				return buildError(err, args[0], args[1])
			}
			broken := report.Broken()
			if len(broken) == 0 || allowFindings {
				err := a.writeFile(cmd.Context(), args[2], func(w io.Writer) error {
					_, err := archive.WriteTo(w)
					return err
				})
				if err != nil {
					return err
				}
				if reportFile != "" {
					if err := a.writeReport(cmd.Context(), reportFile, report); err != nil {
						return err
					}
				}
			}
			return a.partialDone(args[2], report, len(broken) > 0 && !allowFindings)
		},
	}
	f.add(cmd, "default: that of TO")
	flags := cmd.Flags()
	flags.StringVar(&f.recipe, "recipe", "default", "default or mozilla")
	flags.StringArrayVarP(&f.force, "force", "f", nil, "path that goes in whole even if it did not change (repeatable)")
	flags.BoolVar(&noVerify, "no-verify", false, "leave out the proof that the update turns FROM into TO")
	flags.BoolVar(&allowFindings, "allow-findings", false, "write the update although clients may fail on it")
	flags.BoolVar(&allowDowngrade, "allow-downgrade", false, "let TO be older than FROM")
	flags.StringVar(&p.From.SHA512, "from-sha512", "", "SHA-512 of FROM in hexadecimal (with URLs or --cache)")
	flags.StringVar(&p.To.SHA512, "to-sha512", "", "SHA-512 of TO in hexadecimal (with URLs or --cache)")
	flags.StringArrayVar(&p.Skip, "skip", nil, "check to leave out: signatures, channels, product, downgrade, watershed, verify (repeatable; with URLs or --cache)")
	flags.StringArrayVarP(&p.Keys, "key", "k", nil, "FROM and TO must be signed by this key or another one given (repeatable; with URLs or --cache)")
	flags.StringVar(&requestName, "request", "", "JSON file that names many partial updates")
	flags.IntVar(&jobs, "jobs", 2, "how many updates of --request to make at once")
	flags.StringVar(&manifest, "manifest", "", "write manifest.json as Mozilla's submitters read it (with URLs, --cache or --request)")
	sources.add(cmd)
	tools.add(cmd)
	flags.StringVar(&reportFile, "report", "", "write the report, file by file, as JSON into this file")
	must(cmd.RegisterFlagCompletionFunc("recipe", cobra.FixedCompletions([]string{"default", "mozilla"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func namedRecipe(name string) (partial.Recipe, error) {
	switch name {
	case "default":
		return partial.DefaultRecipe(), nil
	case "mozilla":
		return partial.MozillaRecipe(), nil
	}
	return partial.Recipe{}, usagef("--recipe %q: want default or mozilla", name)
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
	return a.writeFile(ctx, name, func(w io.Writer) error {
		b := &app{stdout: w}
		return b.encode(report)
	})
}

// partialDone prints what was made, and ends with exit code 1 where nothing was written because of findings.
func (a *app) partialDone(out string, report *partial.Report, refused bool) error {
	result := struct {
		File    string          `json:"file,omitempty"`
		Written bool            `json:"written"`
		Report  *partial.Report `json:"report"`
	}{out, !refused, report}
	err := a.summary(result, func(w *printer) {
		for _, f := range report.Findings {
			w.printf("%s: %s\n", f.Severity, f)
		}
		if refused {
			w.printf("nothing written: clients would fail on the update (--allow-findings writes it all the same)\n")
			return
		}
		counts := map[partial.Action]int{}
		for _, file := range report.Files {
			counts[file.Action]++
		}
		w.printf("%s: %d bytes, %.1f %% of the complete update\n", out, report.Size, 100*(1-report.Saved))
		proved := "proved"
		if !report.Verified {
			proved = "NOT proved"
		}
		w.printf("%d files patched, %d added, %d removed, %d unchanged; %s; %v\n",
			counts[partial.ActionPatch], counts[partial.ActionAdd], counts[partial.ActionRemove], counts[partial.ActionSame],
			proved, report.Elapsed.Round(10*time.Millisecond))
	})
	if err == nil && refused {
		return errAnswerNo
	}
	return err
}

// update is an open complete update. One made of a directory is a temporary file.
type update struct {
	*mar.Reader
	close func()
}

// openUpdate opens a complete update: a MAR file, or a directory that is packed first.
func (a *app) openUpdate(ctx context.Context, name string, level partial.Level, arch string, progress func(partial.Event)) (*update, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		r, err := openMAR(name, nil)
		if err != nil {
			return nil, err
		}
		return &update{r.Reader, func() { r.Close() }}, nil
	}
	archive, _, err := packDirectory(ctx, name, partial.PackOptions{
		Arch: arch, Compression: partial.Compression{Files: partial.XZ{Level: level}}, Workers: a.workers, Progress: progress,
	})
	if err != nil {
		return nil, named(name, err)
	}
	f, err := os.CreateTemp("", "marctl-*.mar")
	if err != nil {
		return nil, err
	}
	remove := func() {
		f.Close()
		os.Remove(f.Name())
	}
	n, err := archive.WriteTo(contextWriter{ctx, f})
	if err == nil {
		var r *mar.Reader
		if r, err = mar.NewReader(f, n, nil); err == nil {
			return &update{r, remove}, nil
		}
	}
	remove()
	return nil, named(name, err)
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
	return &cobra.Command{
		Use:   "prove FROM PARTIAL TO",
		Short: "Prove that a partial update turns FROM into TO",
		Long: `prove applies a partial update, whoever made it, to FROM in memory, as the updater would, and compares
names, bytes and executable bits with TO. The exit code is 1 where they differ, and every difference is listed with
the offset of the first byte.`,
		Example: `  marctl prove from.complete.mar update.partial.mar to.complete.mar
  marctl prove --json from.mar update.mar to.mar | jq .differences`,
		Args: cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			readers := make([]*mar.Reader, len(args))
			for i, name := range args {
				r, err := openMAR(name, nil)
				if err != nil {
					return err
				}
				defer r.Close()
				readers[i] = r.Reader
			}
			p := a.newProgress("prove")
			defer p.end()
			proof, err := partial.Prove(cmd.Context(), readers[0], readers[1], readers[2], &partial.VerifyOptions{
				Workers: a.workers, Progress: func(e partial.Event) { p.set(string(e.Step), e.Done, e.Total) },
			})
			p.end()
			if err != nil {
				if errors.Is(err, partial.ErrInput) {
					return buildError(err, args[0], args[2])
				}
				return named(args[1], err)
			}
			same := len(proof.Differences) == 0
			err = a.print(struct {
				Same bool `json:"same"`
				*partial.Proof
			}{same, proof}, func(w *printer) {
				for _, d := range proof.Expected {
					w.printf("meant to differ: %s\n", d)
				}
				for _, d := range proof.Differences {
					w.printf("DIFFERS: %s\n", d)
				}
				if same {
					w.printf("same: %d files (%d patched, %d added, %d removed, %d left as they were)\n",
						proof.Files, proof.Patched, proof.Added, proof.Removed, proof.Same)
				}
			})
			if err == nil && !same {
				return errAnswerNo
			}
			return err
		},
	}
}

func (a *app) applyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "apply UPDATE DIR",
		Short: "Apply a complete or partial update to an installation",
		Long: `apply does what the updater does to the installation in DIR, all or nothing: after a failure the tree is
the old one, and after a kill another apply finishes or takes back what was begun.`,
		Example: `  marctl apply update.partial.mar /opt/firefox`,
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
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
			p := a.newProgress("apply")
			defer p.end()
			err = updater.Apply(cmd.Context(), root, r.Reader, &updater.ApplyOptions{
				Progress: func(e partial.Event) { p.set(string(e.Step), e.Done, e.Total) },
			})
			p.end()
			if err != nil {
				return named(args[0], err)
			}
			return a.summary(struct {
				Update  string `json:"update"`
				Dir     string `json:"dir"`
				Applied bool   `json:"applied"`
			}{args[0], args[1], true}, func(w *printer) { w.printf("%s applied to %s\n", args[0], args[1]) })
		},
	}
}
