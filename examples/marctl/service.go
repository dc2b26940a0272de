package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
	"github.com/senbonzakura/senbonzakura/toolchain"
	"github.com/senbonzakura/senbonzakura/toolchain/tools"
)

func (a *app) serviceCommands() []*cobra.Command {
	return []*cobra.Command{a.planCommand(), a.cacheCommand(), a.toolsCommand(), a.pluginCommand()}
}

func (a *app) planCommand() *cobra.Command {
	var f sourceFlags
	var inspect []string
	var tests planTests
	cmd := &cobra.Command{
		Use:   "plan [HISTORY.json]",
		Short: "Say which partial updates are possible in a history of builds, and how each must be made",
		Long: `plan reads a JSON array of builds ({"product", "version", "build_id", "platform", "arch", "locale"}) and
prints every pair from an older to a newer one: the recipe that FROM's updater needs, or why there can be no such
update and the hops to make instead. --mar reads builds off complete updates.

--tests writes the configuration of update verify for it, which verify-updates runs: from every older build of a platform
and locale to the newest one, or to the watershed that it must pass. Platforms are then the build targets of update
requests (Linux_x86_64-gcc3), and %version%, %build_id%, %platform% and %locale% stand for what they say in paths.`,
		Example: `  marctl plan history.json
  marctl plan --mar 153.5.1.mar --mar 153.6.0.mar
  marctl plan --rules icefox.toml --json history.json | jq 'select(.refused)'
  marctl plan history.json --tests tests.toml --channel release-localtest --aus https://aus.example \
    --server https://archive.example --from '/%version%/%locale%.tar.xz' --to '/%version%/%locale%.tar.xz'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var history []toolchain.Build
			if len(args) == 0 && len(inspect) == 0 {
				return usagef("give a history, or complete updates with --mar")
			}
			if tests.file == "" {
				if err := refuseFlags(cmd, "goes with --tests", planTestFlags...); err != nil {
					return err
				}
			}
			if len(args) == 1 {
				data, err := readSmall(args[0], 64<<20)
				if err != nil {
					return err
				}
				if err := json.Unmarshal(data, &history); err != nil {
					return named(args[0], err)
				}
			}
			incomplete := false
			for _, name := range inspect {
				build, err := readBuild(name)
				if err != nil {
					if err := a.missing(cmd.Context(), name, err, len(inspect)); err != nil {
						return err
					}
					incomplete = true
					continue
				}
				history = append(history, build)
			}
			tests.fill(history)
			set, err := f.toolchain()
			if err != nil {
				return err
			}
			pairs := set.Plan(history)
			if tests.file != "" {
				if err := a.writePlanTests(cmd.Context(), &tests, pairs); err != nil {
					return err
				}
			}
			err = each(a, pairs, func(w *printer) {
				w.table(func(row func(...any)) {
					row("FROM", "TO", "PLATFORM", "LOCALE", "HOW")
					for _, p := range pairs {
						how := p.Refused
						if how == "" {
							how = fmt.Sprintf("%v, signed with %v, patches %v", p.Client.Members.Value[0], p.Client.Signature.Value, p.Client.Patches.Value)
						}
						row(p.From.Version, p.To.Version, dash(p.From.Platform), dash(p.From.Locale), how)
					}
				})
			})
			if err == nil && incomplete {
				return errAnswerNo
			}
			return err
		},
	}
	cmd.Flags().StringArrayVar(&inspect, "mar", nil, "complete update to read a build off (repeatable)")
	cmd.Flags().StringArrayVar(&f.rules, "rules", nil, "TOML file with the rules of a product (repeatable)")
	tests.add(cmd)
	takes(cmd, reads)
	flagTakes(cmd, reads, "mar", "rules")
	flagTakes(cmd, writes, "tests")
	return cmd
}

func readBuild(name string) (toolchain.Build, error) {
	r, err := openMAR(name, nil)
	if err != nil {
		return toolchain.Build{}, err
	}
	defer r.Close()
	build, err := toolchain.ReadBuild(r.Reader)
	if err == nil {
		err = completeUpdate(r.Reader)
	}
	if err != nil {
		return build, named(name, err)
	}
	return build, nil
}

// completeUpdate returns an error for an update whose manifest says that it is a partial one, which is no build.
func completeUpdate(r *mar.Reader) error {
	for _, v := range []updater.ManifestVersion{updater.ManifestV3, updater.ManifestV2} {
		f := r.Lookup(v.Name())
		if f == nil {
			continue
		}
		text, err := updater.MemberOf(f).Content(context.Background(), updater.Limits{Member: updater.ManifestLimit})
		if err != nil {
			return err
		}
		if m, err := updater.ParseManifest(text); err == nil && m.Type == "partial" {
			return fmt.Errorf("it is not a complete update: its %s says partial", f.Name)
		}
		break
	}
	return nil
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (a *app) cacheCommand() *cobra.Command {
	var dir string
	open := func(ctx context.Context) (*cache.Disk, error) {
		if dir == "" {
			var err error
			if dir, err = defaultCacheDir(); err != nil {
				return nil, err
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "version")); err != nil { // which every cache has

			if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("%s: there is no cache, since there is no such directory", dir)
			}
			return nil, fmt.Errorf("%s: not a cache: say which directory is one with --cache", dir)
		}
		return openCache(ctx, dir)
	}
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "Look after the cache of completes, patches, partials and tools",
		Example: `  marctl cache stats
  marctl cache verify --cache /var/cache/senbonzakura
  marctl cache purge --kind patches --age 720h`,
	}
	cmd.PersistentFlags().StringVar(&dir, "cache", "", "the cache's directory (default: the user's cache directory)")
	flagTakes(cmd, changes, "cache")
	cmd.AddCommand(a.cacheStats(open), a.cacheVerify(open), a.cachePurge(open))
	return cmd
}

// cacheStatsResult is what cache stats prints as JSON.
type cacheStatsResult struct {
	Kinds map[cache.Kind]cache.Usage `json:"kinds"`
}

func (a *app) cacheStats(open func(context.Context) (*cache.Disk, error)) *cobra.Command {
	return &cobra.Command{
		Use:     "stats",
		Short:   "Say what the cache holds",
		Example: "  marctl cache stats --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			disk, err := open(cmd.Context())
			if err != nil {
				return err
			}
			defer disk.Close()
			stats, err := disk.Stats(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(cacheStatsResult{stats.Kinds}, func(w *printer) {
				w.table(func(row func(...any)) {
					row("KIND", "ENTRIES", "SIZE")
					for _, kind := range sortedKinds(stats.Kinds) {
						row(kind, stats.Kinds[kind].Entries, size(stats.Kinds[kind].Bytes))
					}
				})
			})
		},
	}
}

// cacheVerifyResult is what cache verify prints as JSON.
type cacheVerifyResult struct {
	Checked   cache.Usage `json:"checked"`
	Damaged   []string    `json:"damaged"`   // a key and what is wrong, each
	Strangers []string    `json:"strangers"` // files that are no entries
}

func (a *app) cacheVerify(open func(context.Context) (*cache.Disk, error)) *cobra.Command {
	return &cobra.Command{
		Use:     "verify",
		Short:   "Read every entry and compare it with its hash; damaged ones are moved away",
		Example: "  marctl cache verify",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			disk, err := open(cmd.Context())
			if err != nil {
				return err
			}
			defer disk.Close()
			p := a.newProgress("verify")
			defer p.end()
			report, err := disk.Verify(cmd.Context(), func(done, total cache.Usage) { p.set("verify", done.Bytes, total.Bytes) })
			p.end()
			if err != nil {
				return err
			}
			damaged := make([]string, len(report.Damaged))
			for i, d := range report.Damaged {
				damaged[i] = fmt.Sprintf("%s: %v", d.Key, d.Err)
			}
			err = a.print(cacheVerifyResult{report.Checked, damaged, report.Strangers}, func(w *printer) {
				for _, d := range damaged {
					w.printf("%s %s\n", w.bad("DAMAGED:"), d)
				}
				for _, s := range report.Strangers {
					w.printf("not an entry: %s\n", s)
				}
				w.printf("%d entries, %s, %d damaged\n", report.Checked.Entries, size(report.Checked.Bytes), len(damaged))
			})
			if err == nil && len(damaged) > 0 {
				return errAnswerNo
			}
			return err
		},
	}
}

func (a *app) cachePurge(open func(context.Context) (*cache.Disk, error)) *cobra.Command {
	var key, kind string
	var age time.Duration
	var all bool
	cmd := &cobra.Command{
		Use:   "purge",
		Short: "Remove entries by key, kind or age",
		Example: `  marctl cache purge --age 720h
  marctl cache purge --kind partials
  marctl cache purge --all`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter := cache.Filter{Kind: cache.Kind(kind), Age: age}
			if key != "" {
				k, err := cache.ParseKey(key)
				if err != nil {
					return usageError{err}
				}
				filter.Key = &k
			}
			if filter == (cache.Filter{}) && !all {
				return usagef("say what to remove: --key, --kind, --age or --all")
			}
			disk, err := open(cmd.Context())
			if err != nil {
				return err
			}
			defer disk.Close()
			removed, err := disk.Purge(cmd.Context(), filter)
			if err != nil {
				return err
			}
			return a.summary(removed, func(w *printer) {
				w.printf("%d entries removed, %s\n", removed.Entries, size(removed.Bytes))
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&key, "key", "", "the entry with this key, as partials/0123…")
	freeText(cmd, "key")
	choice(cmd, &kind, "kind", "", "entries of this kind", "completes", "patches", "partials", "reports", "tools")
	flags.DurationVar(&age, "age", 0, "entries that were not used for this long")
	flags.BoolVar(&all, "all", false, "everything")
	return cmd
}

func sortedKinds(kinds map[cache.Kind]cache.Usage) []cache.Kind {
	var names []cache.Kind
	for _, kind := range []cache.Kind{cache.Completes, cache.Patches, cache.Partials, "reports", cache.Tools} {
		if _, ok := kinds[kind]; ok {
			names = append(names, kind)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) { // those of other programs
		if !slices.Contains(names, kind) {
			names = append(names, kind)
		}
	}
	return names
}

// toolsFile is what --file of the tools command takes.
type toolsFile struct {
	Tools []tools.Tool `toml:"tool"`
}

func readTools(file string) ([]tools.Tool, error) {
	var list toolsFile
	err := readTOML(file, &list)
	return list.Tools, err
}

// readTOML reads a small file into a value that has a field for each key; others are refused.
func readTOML(file string, v any) error {
	data, err := readSmall(file, 64<<20)
	if err != nil {
		return err
	}
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(v); err != nil {
		var strict *toml.StrictMissingError
		if errors.As(err, &strict) {
			line, _ := strict.Errors[0].Position()
			err = fmt.Errorf("line %d: unknown key %q", line, strings.Join(strict.Errors[0].Key(), "."))
		}
		return named(file, err)
	}
	return nil
}

// toolFlags replace parts of a recipe by external programs.
type toolFlags struct{ file, differ, compressor string }

func (f *toolFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.file, "tools", "", "TOML file that lists external programs (see marctl tools)")
	cmd.Flags().StringVar(&f.differ, "differ-tool", "", "make patches with this program of --tools")
	cmd.Flags().StringVar(&f.compressor, "xz-tool", "", "compress with this program of --tools")
	flagTakes(cmd, reads, "tools")
	for _, name := range []string{"differ-tool", "xz-tool"} {
		must(cmd.RegisterFlagCompletionFunc(name, func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			list, _ := readTools(f.file) // nothing to complete without a list
			names := make([]string, len(list))
			for i, t := range list {
				names[i] = t.Name
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		}))
	}
}

// recipe puts the named programs into the recipe of a request, where there are any.
func (f *toolFlags) recipe(ctx context.Context, sources *sourceFlags, r *senbonzakura.Request) error {
	recipe := partial.DefaultRecipe()
	if r.Recipe != nil {
		recipe = *r.Recipe
	}
	if err := f.replace(ctx, sources, &recipe); err != nil {
		return err
	}
	if f.differ != "" || f.compressor != "" {
		r.Recipe = &recipe
	}
	return nil
}

// replace puts the named programs into a recipe.
func (f *toolFlags) replace(ctx context.Context, sources *sourceFlags, recipe *partial.Recipe) error {
	if f.differ == "" && f.compressor == "" {
		if f.file != "" {
			return usagef("--tools goes with --differ-tool or --xz-tool, which name a program of it")
		}
		return nil
	}
	if f.file == "" {
		return usagef("--differ-tool and --xz-tool need --tools")
	}
	list, err := readTools(f.file)
	if err != nil {
		return err
	}
	find := func(name string) (tools.Tool, error) {
		i := slices.IndexFunc(list, func(t tools.Tool) bool { return t.Name == name })
		if i < 0 {
			return tools.Tool{}, fmt.Errorf("%s: no tool is called %q", f.file, name)
		}
		if list[i].Path != "" {
			return list[i], list[i].Check()
		}
		s, err := sources.open(ctx, true)
		if err != nil {
			return tools.Tool{}, err
		}
		defer func() { _ = s.close() }() // what it fetched stays in the cache; the program is read from there below
		return tools.Fetcher{Client: s.client, Cache: s.cache}.Copy(ctx, list[i])
	}
	if f.differ != "" {
		tool, err := find(f.differ)
		if err != nil {
			return err
		}
		recipe.Differ = tools.Differ{Tool: tool}
	}
	if f.compressor != "" {
		tool, err := find(f.compressor)
		if err != nil {
			return err
		}
		recipe.Compression.Patches = tools.Compressor{Tool: tool}
	}
	return nil
}

// toolResult is what tools check and tools fetch print as JSON for each tool.
type toolResult struct {
	Name  string `json:"name"`
	ID    string `json:"id"` // that it has in recipes
	Error string `json:"error,omitempty"`
}

func (a *app) toolsCommand() *cobra.Command {
	var file string
	var f sourceFlags
	read := func() ([]tools.Tool, error) {
		if file == "" {
			return nil, usagef("give a list of tools with --file")
		}
		return readTools(file)
	}
	cmd := &cobra.Command{
		Use:   "tools",
		Short: "List, pin, fetch and check external programs (an mbsdiff, an xz)",
		Long: `External programs can stand in for marctl's own differ and compressor. They are pinned by SHA-256, fetched
into the cache by URL, and what they make is checked. A list of tools is a TOML file:

  [[tool]]
  name = "mbsdiff"
  url = "https://host/mbsdiff"
  sha256 = "…"`,
		Example: `  marctl tools pin mbsdiff /usr/bin/mbsdiff >> tools.toml
  marctl tools list --file tools.toml
  marctl tools fetch --file tools.toml
  marctl tools check --file tools.toml`,
	}
	cmd.PersistentFlags().StringVar(&file, "file", "", "TOML file that lists the tools")
	flagTakes(cmd, reads, "file")
	resolve := func(cmd *cobra.Command, _ []string) error {
		list, err := read()
		if err != nil {
			return err
		}
		s, err := f.open(cmd.Context(), true)
		if err != nil {
			return err
		}
		fetcher := tools.Fetcher{Client: s.client, Cache: s.cache}
		var results []toolResult
		bad := false
		for _, t := range list {
			r := toolResult{Name: t.Name, ID: t.ID()}
			if _, err := fetcher.Resolve(cmd.Context(), t); err != nil {
				r.Error, bad = err.Error(), true
			}
			results = append(results, r)
		}
		err = each(a, results, func(w *printer) {
			for _, r := range results {
				if r.Error != "" {
					w.printf("%s: %s: %s\n", r.Name, w.bad("BAD"), r.Error)
				} else {
					w.printf("%s: %s, %s\n", r.Name, w.good("good"), r.ID)
				}
			}
		})
		if err = errors.Join(err, s.close()); err == nil && bad {
			return errAnswerNo
		}
		return err
	}
	fetchCmd := &cobra.Command{
		Use: "fetch", Short: "Fetch the tools into the cache and check them",
		Example: "  marctl tools fetch --file tools.toml", Args: noArgs, RunE: resolve,
	}
	checkCmd := &cobra.Command{
		Use: "check", Short: "Check that each tool is the pinned one (fetching it if it is not here)",
		Example: "  marctl tools check --file tools.toml", Args: noArgs, RunE: resolve,
	}
	f.add(fetchCmd)
	f.add(checkCmd)
	cmd.AddCommand(a.toolsList(read), a.toolsPin(), fetchCmd, checkCmd)
	return cmd
}

func (a *app) toolsList(read func() ([]tools.Tool, error)) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the tools of a file, with the ID that each has in recipes",
		Example: "  marctl tools list --file tools.toml",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			list, err := read()
			if err != nil {
				return err
			}
			return each(a, list, func(w *printer) {
				w.table(func(row func(...any)) {
					row("NAME", "WHERE", "ID")
					for _, t := range list {
						where := t.Path
						if where == "" {
							where = t.URL
						}
						row(t.Name, dash(where), t.ID())
					}
				})
			})
		},
	}
}

func (a *app) toolsPin() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "pin NAME PROGRAM [ARG…]",
		Short:   "Print the entry for a program as it is now",
		Example: `  marctl tools pin mbsdiff /usr/bin/mbsdiff '{old}' '{new}' '{patch}' >> tools.toml`,
		Args:    cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			program, err := exec.LookPath(args[1])
			if err != nil {
				return err
			}
			if program, err = filepath.EvalSymlinks(program); err != nil {
				return err
			}
			tool, err := tools.Pin(args[0], program, args[2:]...)
			if err != nil {
				return err
			}
			text, err := toml.Marshal(toolsFile{[]tools.Tool{tool}})
			if err != nil {
				return err
			}
			return a.print(tool, func(w *printer) { w.printf("%s", text) })
		},
	}
	takes(cmd, text, other, text)
	return cmd
}
