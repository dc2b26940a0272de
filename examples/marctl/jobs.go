package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
	"github.com/senbonzakura/senbonzakura/toolchain"
)

// sourceFlags say where updates may be fetched from and where they are kept.
type sourceFlags struct {
	cacheDir     string
	allowHTTP    bool
	allowPrivate bool
	prefixes     []string
	rules        []string
}

func (f *sourceFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.cacheDir, "cache", "", "directory that keeps completes, patches and partials (default for URLs: the user's cache directory)")
	flags.BoolVar(&f.allowHTTP, "allow-http", false, "fetch by http too")
	flags.BoolVar(&f.allowPrivate, "allow-private", false, "fetch from private addresses and this machine too")
	flags.StringArrayVar(&f.prefixes, "allow-prefix", nil, "fetch only what is below this URL (repeatable)")
	freeText(cmd, "allow-prefix")
	flags.StringArrayVar(&f.rules, "rules", nil, "TOML file with the rules of a product, beside those built in (repeatable)")
	flagTakes(cmd, reads, "rules")
	flagTakes(cmd, changes, "cache")
}

// defaultCacheDir is where caches are kept when nobody says.
func defaultCacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("%w: say where with --cache", err)
	}
	return filepath.Join(dir, "senbonzakura"), nil
}

// service is what commands that fetch and cache need. close ends it.
type service struct {
	client *fetch.Client
	disk   *cache.Disk
	cache  *cache.Layered
	set    *toolchain.Set
}

// open opens the cache, and a client that fetches. Where neither addresses nor a cache are asked for, only the rules are
// read.
func (f *sourceFlags) open(ctx context.Context, cached bool) (*service, error) {
	opts := &fetch.Options{Insecure: f.allowHTTP, Prefixes: f.prefixes, Files: true}
	if f.allowPrivate {
		opts.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	}
	set, err := f.toolchain()
	if err != nil {
		return nil, err
	}
	dir := f.cacheDir
	if dir == "" && !cached {
		return &service{set: set}, nil
	}
	if dir == "" {
		if dir, err = defaultCacheDir(); err != nil {
			return nil, err
		}
	}
	disk, err := openCache(ctx, dir)
	if err != nil {
		return nil, err
	}
	opts.Dir = disk.TempDir()
	client, err := fetch.New(opts)
	if err != nil {
		return nil, errors.Join(err, disk.Close())
	}
	return &service{client, disk, cache.NewLayered([]cache.Store{disk}, nil), set}, nil
}

func openCache(ctx context.Context, dir string) (*cache.Disk, error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, err
	}
	disk, err := cache.OpenDisk(ctx, dir, nil)
	if err != nil {
		return nil, fmt.Errorf("cache %w", named(dir, err))
	}
	return disk, nil
}

func (f *sourceFlags) toolchain() (*toolchain.Set, error) {
	rules := toolchain.BuiltinRules()
	for _, name := range f.rules {
		data, err := readSmall(name, 1<<20)
		if err != nil {
			return nil, err
		}
		r, err := toolchain.ParseRules(data)
		if err != nil {
			return nil, named(name, err)
		}
		rules = append(rules, r)
	}
	return toolchain.NewSet(rules, &toolchain.SetOptions{AnyProduct: true})
}

func (s *service) close() error {
	if s.disk == nil {
		return nil
	}
	return errors.Join(s.cache.Close(), s.disk.Close(), s.client.Close())
}

// isURL reports whether a name is an address, not a path.
func isURL(name string) bool {
	u, err := url.Parse(name)
	return err == nil && u.Host != "" && len(u.Scheme) > 1
}

// pairSource is one complete update in a request file.
type pairSource struct {
	URL    string   `json:"url,omitempty"`
	URLs   []string `json:"urls,omitempty"` // alternates, tried after url
	SHA512 string   `json:"sha512,omitempty"`
	SHA256 string   `json:"sha256,omitempty"`
	Hash   string   `json:"hash,omitempty"` // "algorithm:hex", or hex whose length says which
	Size   int64    `json:"size,omitempty"`
}

// pair is one partial update in a request file.
type pair struct {
	From           pairSource          `json:"from"`
	To             pairSource          `json:"to"`
	Out            string              `json:"out"`
	Product        string              `json:"product,omitempty"`
	Platform       string              `json:"platform,omitempty"`
	Arch           string              `json:"arch,omitempty"`
	Locale         string              `json:"locale,omitempty"`
	Channel        string              `json:"channel,omitempty"`
	ProductVersion string              `json:"product_version,omitempty"`
	Recipe         string              `json:"recipe,omitempty"`  // default or mozilla; empty: what FROM's updater understands
	Formats        []string            `json:"formats,omitempty"` // of patches; empty: those that FROM's updater is known to apply
	Force          []string            `json:"force,omitempty"`
	Channels       []string            `json:"channels,omitempty"` // MAR channels that TO may be for
	Keys           []string            `json:"keys,omitempty"`     // FROM and TO must be signed by one of these
	Skip           []string            `json:"skip,omitempty"`     // checks to leave out
	Client         updater.Claims      `json:"client,omitzero"`    // what is known of FROM's updater
	Trust          updater.Trust       `json:"trust,omitempty"`    // complete or version
	AllowFindings  bool                `json:"allow_findings,omitempty"`
	Labels         map[string]string   `json:"labels,omitempty"`
	Matrix         map[string][]string `json:"matrix,omitempty"` // {name} in every text above stands for each value in turn
}

// requestFile is what --request takes.
type requestFile struct {
	// Sums are files like the SHA512SUMS of a release: a hash and a path in each line. They give the hashes of
	// sources that have none, by the longest path that the URL ends with.
	Sums     []string `json:"sums,omitempty"`
	Partials []pair   `json:"partials"`
}

// readRequests reads a request file and multiplies its matrices out.
func readRequests(name string) ([]pair, error) {
	data, err := readSmall(name, 64<<20)
	if err != nil {
		return nil, err
	}
	var file requestFile
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&file); errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: it ends before the request does", name)
	} else if err != nil {
		return nil, fmt.Errorf("%s: offset %d: %w", name, dec.InputOffset(), err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: offset %d: something stands behind the request", name, dec.InputOffset())
	}
	sums := map[string]string{}
	for _, s := range file.Sums {
		if !filepath.IsAbs(s) {
			s = filepath.Join(filepath.Dir(name), s)
		}
		if err := readSums(s, sums); err != nil {
			return nil, err
		}
	}
	var pairs []pair
	outs := map[string]bool{}
	for i, p := range file.Partials {
		for _, p := range p.multiply() {
			if p.Out == "" {
				return nil, fmt.Errorf("%s: partials[%d]: out is missing", name, i)
			}
			if outs[p.Out] {
				return nil, fmt.Errorf("%s: partials[%d]: %s is written twice: a matrix variable is missing in out", name, i, p.Out)
			}
			outs[p.Out] = true
			for _, s := range []*pairSource{&p.From, &p.To} {
				s.lookUp(sums)
			}
			pairs = append(pairs, p)
		}
	}
	if len(pairs) == 0 {
		return nil, fmt.Errorf("%s: no partials", name)
	}
	return pairs, nil
}

// multiply returns a pair for each combination of the matrix's values, in the order of the variables' names.
func (p pair) multiply() []pair {
	matrix := p.Matrix
	p.Matrix = nil
	pairs := []pair{p}
	for _, variable := range slices.Sorted(maps.Keys(matrix)) {
		var more []pair
		for _, p := range pairs {
			for _, value := range matrix[variable] {
				more = append(more, p.substitute(variable, value))
			}
		}
		pairs = more
	}
	return pairs
}

func (p pair) substitute(variable, value string) pair {
	replace := func(s *string) { *s = strings.ReplaceAll(*s, "{"+variable+"}", value) }
	for _, s := range []*string{
		&p.Out, &p.Product, &p.Platform, &p.Arch, &p.Locale, &p.Channel, &p.ProductVersion, &p.From.URL, &p.To.URL,
		&p.From.SHA512, &p.To.SHA512, &p.From.SHA256, &p.To.SHA256, &p.From.Hash, &p.To.Hash,
	} {
		replace(s)
	}
	for _, list := range []*[]string{&p.From.URLs, &p.To.URLs, &p.Force, &p.Channels} {
		*list = slices.Clone(*list)
		for i := range *list {
			replace(&(*list)[i])
		}
	}
	labels := map[string]string{}
	for name, text := range p.Labels {
		replace(&text)
		labels[name] = text
	}
	p.Labels = labels
	return p
}

// bsdSum is a line of a list of hashes as BSD writes it: "SHA512 (path) = hash".
var bsdSum = regexp.MustCompile(`^[A-Za-z0-9-]+ \((.+)\) = ([0-9A-Fa-f]+)$`)

// readSums reads lines of a hash and a path, as sha512sum writes them, Mozilla's SHA512SUMS and checksums, or BSD.
func readSums(name string, sums map[string]string) error {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return fmt.Errorf("%s: a directory, want a file such as SHA512SUMS", name)
	}
	data, err := readSmall(name, 64<<20)
	if err != nil {
		return fmt.Errorf("sums: %w", err)
	}
	line := 0
	for text := range strings.Lines(strings.TrimPrefix(string(data), "\ufeff")) {
		line++
		text = strings.TrimSpace(text)
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		var sum, file string
		if bsd := bsdSum.FindStringSubmatch(text); bsd != nil {
			sum, file = bsd[2], bsd[1]
		} else {
			fields := strings.Fields(text)
			if len(fields) < 2 {
				return fmt.Errorf("%s:%d: want a hash and a path", name, line)
			}
			sum, file = fields[0], fields[len(fields)-1]
			if len(fields) != 4 || !strings.HasPrefix(fields[1], "sha") && fields[1] != "md5" { // else algorithm and size come first
				file = strings.TrimSpace(strings.TrimPrefix(text, sum)) // which may have spaces
			}
			file = strings.TrimPrefix(file, "*")
		}
		if _, err := fetch.ParseHash(sum); err != nil {
			return fmt.Errorf("%s:%d: %w", name, line, err)
		}
		sums[strings.TrimPrefix(path.Clean(file), "/")] = sum
	}
	return nil
}

// lookUp finds the hash of a source without one.
func (s *pairSource) lookUp(sums map[string]string) {
	if s.SHA512 != "" || s.SHA256 != "" || s.Hash != "" {
		return
	}
	name := s.URL
	if u, err := url.Parse(s.URL); err == nil && u.Host != "" {
		name = u.Path
	}
	for name = strings.TrimPrefix(path.Clean(filepath.ToSlash(name)), "/"); name != ""; {
		if sum, ok := sums[name]; ok {
			s.Hash = sum
			return
		}
		_, rest, ok := strings.Cut(name, "/")
		if !ok {
			return
		}
		name = rest
	}
}

func (s *pairSource) source() (senbonzakura.Source, error) {
	out := senbonzakura.Source{Size: s.Size}
	for _, u := range append([]string{s.URL}, s.URLs...) {
		if u == "" {
			continue
		}
		if !isURL(u) {
			out.File = u
			continue
		}
		out.URLs = append(out.URLs, u)
	}
	for prefix, sum := range map[string]string{"sha512:": s.SHA512, "sha256:": s.SHA256, "": s.Hash} {
		if sum == "" {
			continue
		}
		h, err := fetch.ParseHash(prefix + sum)
		if err != nil {
			return out, err
		}
		out.Hashes = append(out.Hashes, h)
	}
	return out, nil
}

func (p *pair) request() (senbonzakura.Request, error) {
	r := senbonzakura.Request{
		Product: p.Product, Platform: p.Platform, Arch: p.Arch, Locale: p.Locale, Channel: p.Channel,
		ProductVersion: p.ProductVersion, Formats: p.Formats, Force: p.Force, Channels: p.Channels, Labels: p.Labels,
		Client: p.Client, Trust: p.Trust, AllowFindings: p.AllowFindings,
	}
	var err error
	if r.From, err = p.From.source(); err != nil {
		return r, fmt.Errorf("from: %w", err)
	}
	if r.To, err = p.To.source(); err != nil {
		return r, fmt.Errorf("to: %w", err)
	}
	for _, c := range p.Skip {
		r.Skip = append(r.Skip, senbonzakura.Check(c))
	}
	if r.Keys, err = publicKeys(p.Keys); err != nil {
		return r, err
	}
	if p.Recipe != "" && p.Recipe != "auto" {
		recipe, err := namedRecipe(p.Recipe)
		if err != nil {
			return r, err
		}
		r.Recipe = &recipe
	}
	return r, nil
}

// pairResult is what came of one pair: a line of JSON of partial --request.
type pairResult struct {
	Out      string `json:"out"`
	Size     int64  `json:"size,omitempty"`
	Complete int64  `json:"complete,omitempty"`
	SHA512   string `json:"sha512,omitempty"`
	Cached   bool   `json:"cached"`
	Error    string `json:"error,omitempty"`
	// Findings and Checks are what was found and checked, with a refusal as well.
	Findings []partial.Finding `json:"findings"`
	Checks   updater.Verdicts  `json:"checks"`

	submission senbonzakura.Submission
}

// generate makes all pairs and writes them. It returns an error if any of them failed, after all of them were tried.
func (a *app) generate(ctx context.Context, f *sourceFlags, pairs []pair, jobs int) (results []pairResult, err error) {
	s, err := f.open(ctx, true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	g, err := senbonzakura.New(senbonzakura.Options{Fetch: s.client, Cache: s.cache, Toolchain: s.set, Workers: a.workers})
	if err != nil {
		return nil, err
	}
	defer g.Close()

	p := a.newProgress("partials")
	defer p.end()
	var mu sync.Mutex
	done := 0
	results = make([]pairResult, len(pairs))
	var group errgroup.Group
	group.SetLimit(max(jobs, 1))
	for i := range pairs {
		group.Go(func() error {
			results[i] = a.generateOne(ctx, g, &pairs[i], func(e senbonzakura.Event) {
				mu.Lock()
				what := string(e.Step)
				if len(pairs) > 1 {
					what = fmt.Sprintf("%d/%d %s %s", done, len(pairs), filepath.Base(pairs[i].Out), e.Step)
				}
				mu.Unlock()
				p.detailed(what, e.File, e.Done, e.Total)
			})
			mu.Lock()
			done++
			mu.Unlock()
			return nil
		})
	}
	_ = group.Wait() // the functions return no errors: each pair's stands in its result
	return results, ctx.Err()
}

func (a *app) generateOne(ctx context.Context, g *senbonzakura.Generator, p *pair, progress func(senbonzakura.Event)) pairResult {
	result := pairResult{Out: p.Out}
	err := func() error {
		request, err := p.request()
		if err != nil {
			return err
		}
		if dir := filepath.Dir(p.Out); p.Out != "-" {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		var made *senbonzakura.Result
		err = a.writeFile(ctx, p.Out, func(w io.Writer) (err error) {
			made, err = g.GenerateTo(ctx, w, request, progress)
			return err
		})
		if made != nil {
			result.Findings = made.Report.Findings
		}
		if err != nil {
			return err
		}
		provenance := made.Provenance
		result.Checks, result.Size, result.Complete, result.Cached = provenance.Checks, made.Size, provenance.To.Size, made.Cached
		result.SHA512 = provenance.Output.SHA512
		result.submission = submission(provenance, p)
		return nil
	}()
	if err != nil {
		result.Error = err.Error()
	}
	return result
}

// submission has the fields that submitters read; the update's name is that of the file.
func submission(provenance *senbonzakura.Provenance, p *pair) senbonzakura.Submission {
	if p.Labels["mar"] == "" {
		named := *provenance
		named.Labels = maps.Clone(named.Labels)
		if named.Labels == nil {
			named.Labels = map[string]string{}
		}
		named.Labels["mar"] = filepath.Base(p.Out)
		provenance = &named
	}
	return provenance.Submission()
}

// writeManifest writes a file with the fields that Mozilla's submitters read.
func (a *app) writeManifest(ctx context.Context, name string, submissions []senbonzakura.Submission) error {
	return a.writeJSON(ctx, name, submissions)
}

// single is one partial update with all that a command line can say about it.
type single struct {
	pair             pair
	tools            toolFlags
	report, manifest string
}

// generateSingle makes one update, and writes it and what else is asked for.
func (a *app) generateSingle(ctx context.Context, f *sourceFlags, one *single) (err error) {
	p := &one.pair
	request, err := p.request()
	if err != nil {
		return err
	}
	if err := one.tools.recipe(ctx, f, &request); err != nil {
		return err
	}
	s, err := f.open(ctx, isURL(p.From.URL) || isURL(p.To.URL))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	g, err := senbonzakura.New(senbonzakura.Options{Fetch: s.client, Cache: s.cache, Toolchain: s.set, Workers: a.workers})
	if err != nil {
		return err
	}
	defer g.Close()
	bar := a.newProgress("partial")
	defer bar.end()
	var made *senbonzakura.Result
	err = a.writeFile(ctx, p.Out, func(w io.Writer) (err error) {
		made, err = g.GenerateTo(ctx, w, request, func(e senbonzakura.Event) { bar.detailed(string(e.Step), e.File, e.Done, e.Total) })
		return err
	})
	bar.end()
	if made == nil {
		return buildError(err, p.From.URL, p.To.URL)
	}
	if one.report != "" {
		if err := a.writeReport(ctx, one.report, made.Report); err != nil {
			return err
		}
	}
	if err != nil {
		printed := a.partialDone(p.Out, made, false)
		if broken := made.Report.Broken(); len(broken) > 0 && made.Report.Rules == partial.RulesScripts {
			err = errors.New("nothing written: clients would fail on the update (--allow-findings writes it all the same)")
		}
		return errors.Join(printed, buildError(err, p.From.URL, p.To.URL))
	}
	if one.manifest != "" {
		if err := a.writeManifest(ctx, one.manifest, []senbonzakura.Submission{submission(made.Provenance, p)}); err != nil {
			return err
		}
	}
	return a.partialDone(p.Out, made, true)
}

// generateAll runs the pairs of a command and prints what came of them. A file with the fields that Mozilla's
// submitters read is written where manifest names one.
func (a *app) generateAll(ctx context.Context, f *sourceFlags, pairs []pair, jobs int, request, manifest string) error {
	if err := a.keepApart(requestPlaces(pairs, request, manifest)); err != nil {
		return err
	}
	results, err := a.generate(ctx, f, pairs, jobs)
	if ctx.Err() != nil && len(pairs) > 1 {
		written := 0
		for _, r := range results {
			if r.Error == "" {
				written++
			}
		}
		return fmt.Errorf("%s: %d of %d partial updates are written, the same command goes on with the others: %w",
			interrupted, written, len(pairs), ctx.Err())
	}
	if err != nil {
		return err
	}
	var failed int
	submissions := []senbonzakura.Submission{}
	for _, r := range results {
		if r.Error != "" {
			failed++
			continue
		}
		submissions = append(submissions, r.submission)
	}
	if manifest != "" {
		if err := a.writeManifest(ctx, manifest, submissions); err != nil {
			return err
		}
	}
	if a.quiet && !a.json {
		p := a.printerTo(a.stderr)
		for _, r := range results {
			if r.Error != "" {
				p.printf("%s: %s: %s\n", r.Out, p.bad("FAILED"), r.Error)
			}
		}
	} else if err := each(a, results, func(w *printer) {
		w.table(func(row func(...any)) {
			for _, r := range results {
				from := ""
				if r.Cached {
					from = "from the cache"
				}
				if r.Error != "" {
					row(r.Out, "FAILED", r.Error)
				} else {
					row(r.Out, fmt.Sprintf("%d bytes", r.Size), fmt.Sprintf("%.1f %% of the complete update", 100*float64(r.Size)/float64(max(r.Complete, 1))), from)
				}
			}
		})
		for _, r := range results {
			for _, f := range r.Findings {
				w.printf("%s: %s: %s\n", r.Out, f.Severity, f)
			}
		}
	}); err != nil {
		return err
	}
	if failed == 1 && len(results) == 1 {
		return errors.New(results[0].Error)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d partial updates failed", failed, len(results))
	}
	return nil
}

// requestPlaces are the files of a request: no update takes the place of what another one is made of.
func requestPlaces(pairs []pair, request, manifest string) []place {
	places := []place{{what: "--request", name: request, use: reads}}
	if manifest != "" {
		places = append(places, place{what: "--manifest", name: manifest, use: writes})
	}
	seen := map[string]bool{}
	for i, p := range pairs {
		for side, s := range map[string]pairSource{"from": p.From, "to": p.To} {
			for _, name := range append([]string{s.URL}, s.URLs...) {
				if name != "" && !isURL(name) && !seen[name] {
					seen[name] = true
					places = append(places, place{what: fmt.Sprintf("%s of partials[%d]", side, i), name: name, use: source})
				}
			}
		}
		if p.Out != "" {
			places = append(places, place{what: fmt.Sprintf("out of partials[%d]", i), name: p.Out, use: writes, makesDir: true})
		}
	}
	return places
}

// levelNames are what --level takes.
var levelNames = []string{string(partial.LevelFast), string(partial.Level6), string(partial.LevelBest), string(partial.LevelExtreme)}
