package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/senbonzakura/senbonzakura/toolchain"
)

// PlanOptions say what a plan of updates does not know: who asks, and where things are.
type PlanOptions struct {
	// Channel is the update channel that requests name. It must be there.
	Channel string
	// AUSServer is the update server, FTPServerFrom and FTPServerTo are those of installers and complete updates: addresses, or
	// directories.
	AUSServer, FTPServerFrom, FTPServerTo string
	// From and To are the paths of FROM and TO behind their servers. %version%, %build_id% and %platform% are those of the
	// build, %locale% is filled in later. Without From only offers and MARs are tested; with it To must be there.
	From, To string
	// Partials is for how many of the newest releases there are partials; 0 means for all for which one can be made, a
	// negative number for none.
	Partials int
}

// Plan makes the tests of a release: of the newest build of every product, platform and locale, from each older one, as
// a toolchain's plan says which updates there can be (see [toolchain.Set.Plan]). A build behind a watershed is tested with the
// update to the watershed. The second result says what is left out, and why. Builds must name their product, version, build
// ID, locale, and as platform the build target of their requests; the error for one that does not, or for options that
// lack something, matches [ErrConfig].
func Plan(pairs []toolchain.Pair, opts PlanOptions) ([]Line, []string, error) {
	switch {
	case opts.Channel == "":
		return nil, nil, fmt.Errorf("%w: no update channel", ErrConfig)
	case opts.From != "" && opts.To == "":
		return nil, nil, fmt.Errorf("%w: FROM is said, and TO is not", ErrConfig)
	}
	type group struct{ product, platform, locale string }
	newest := map[group]toolchain.Build{}
	groupOf := func(b *toolchain.Build) group { return group{b.Product, b.Platform, b.Locale} }
	newer := func(a, b *toolchain.Build) bool { return compareBuilds(a, b) > 0 }
	for i := range pairs {
		for _, b := range []*toolchain.Build{&pairs[i].From, &pairs[i].To} {
			if b.Product == "" || b.Version == "" || b.BuildID == "" || b.Locale == "" || b.Platform == "" {
				return nil, nil, fmt.Errorf("%w: a build names no product, version, build ID, platform or locale: %+q", ErrConfig, []string{b.Product, b.Version, b.BuildID, b.Platform, b.Locale})
			}
			if !strings.Contains(b.Platform, "-") {
				return nil, nil, fmt.Errorf("%w: %s %s: platform %q: want the build target of update requests, as in Linux_x86_64-gcc3", ErrConfig, b.Product, b.Version, b.Platform)
			}
		}
		if best, ok := newest[groupOf(&pairs[i].To)]; !ok || newer(&pairs[i].To, &best) {
			newest[groupOf(&pairs[i].To)] = pairs[i].To
		}
	}
	// What the newest is from each, or the first hop to it.
	var chosen []*toolchain.Pair
	var left []string
	for i := range pairs {
		pair := &pairs[i]
		if to := newest[groupOf(&pair.To)]; compareBuilds(&pair.To, &to) != 0 {
			continue
		}
		if pair.Refused == "" {
			chosen = append(chosen, pair)
			continue
		}
		hop := slices.IndexFunc(pairs, func(p toolchain.Pair) bool {
			return len(pair.Hops) > 0 && p.Refused == "" && groupOf(&p.From) == groupOf(&pair.From) && compareBuilds(&p.From, &pair.From) == 0 && p.To.Version == pair.Hops[0]
		})
		said := fmt.Sprintf("%s %s %s %s: ", pair.From.Product, pair.From.Version, pair.From.Platform, pair.From.Locale)
		if hop < 0 {
			left = append(left, said+"not tested: "+pair.Refused)
			continue
		}
		left = append(left, said+"tested with the update to "+pair.Hops[0]+": "+pair.Refused)
		chosen = append(chosen, &pairs[hop])
	}
	slices.SortStableFunc(chosen, func(a, b *toolchain.Pair) int { return compareBuilds(&b.From, &a.From) })
	ranks := map[[2]string][]string{} // product and platform to versions and build IDs, the newest first
	var lines []Line
	for _, pair := range chosen {
		from, to := &pair.From, &pair.To
		rankKey, build := [2]string{from.Product, from.Platform}, from.Version+" "+from.BuildID
		if !slices.Contains(ranks[rankKey], build) {
			ranks[rankKey] = append(ranks[rankKey], build)
		}
		rank := slices.Index(ranks[rankKey], build)
		same := slices.IndexFunc(lines, func(l Line) bool {
			return l.Product == from.Product && l.Platform == from.Platform && l.Release == from.Version && l.BuildID == from.BuildID && l.ToBuildID == to.BuildID
		})
		if same < 0 {
			same = len(lines)
			l := Line{
				Number: same + 1, Release: from.Version, Product: from.Product, Platform: from.Platform, BuildID: from.BuildID, Channel: opts.Channel,
				PatchTypes: []string{"complete"}, AUSServer: opts.AUSServer, FTPServerFrom: opts.FTPServerFrom, FTPServerTo: opts.FTPServerTo,
				From: pathOf(opts.From, from), ToBuildID: to.BuildID, ToAppVersion: to.Version,
			}
			if l.From != "" {
				l.To = pathOf(opts.To, to)
			}
			if opts.Partials == 0 || rank < opts.Partials {
				l.PatchTypes = []string{"complete", "partial"}
			}
			lines = append(lines, l)
		}
		if !slices.Contains(lines[same].Locales, from.Locale) {
			lines[same].Locales = append(lines[same].Locales, from.Locale)
		}
	}
	for i := range lines {
		slices.Sort(lines[i].Locales)
	}
	return lines, left, nil
}

func compareBuilds(a, b *toolchain.Build) int {
	if c := toolchain.Compare(a.Version, b.Version); c != 0 {
		return c
	}
	return strings.Compare(a.BuildID, b.BuildID)
}

// pathOf fills in what is known of a build.
func pathOf(form string, b *toolchain.Build) string {
	return strings.NewReplacer("%version%", b.Version, "%build_id%", b.BuildID, "%platform%", b.Platform).Replace(form)
}

// HistoryOptions say what a release history does not: who asks, and what TO is.
type HistoryOptions struct {
	// Channel is the update channel that requests name. It must be there.
	Channel string
	// AUSServer is the update server.
	AUSServer string
	// To is the address of TO, with %locale% and %platform% for what they say; "" is the complete update that is offered.
	To string
	// ToBuildID and ToAppVersion are what update.xml must say, where they are not "".
	ToBuildID, ToAppVersion string
}

// ReadHistory makes the tests of a release out of the parameter release_history of Mozilla's tasks: for each platform and locale
// the builds from which partials are made, with the addresses of their complete updates. Errors match [ErrConfig].
func ReadHistory(r io.Reader, opts HistoryOptions) ([]Line, error) {
	const longest = 64 << 20
	var history map[string]map[string]map[string]struct {
		BuildID  string `json:"buildid"`
		MAR      string `json:"mar_url"`
		Version  string `json:"previousVersion"`
		Product  string `json:"product"`
		BuildNum any    `json:"previousBuildNumber"`
	}
	in := &io.LimitedReader{R: r, N: longest + 1}
	if err := json.NewDecoder(in).Decode(&history); err != nil {
		return nil, fmt.Errorf("%w: no release history: %w", ErrConfig, err)
	}
	if in.N <= 0 {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrConfig, longest)
	}
	if opts.Channel == "" {
		return nil, fmt.Errorf("%w: no update channel", ErrConfig)
	}
	split := func(address string) (server, path string, err error) { // what stands for a locale is no part of an address yet
		scheme, rest, ok := strings.Cut(address, "://")
		host, path, slash := strings.Cut(rest, "/")
		if !ok || scheme == "" || host == "" || !slash {
			return "", "", fmt.Errorf("%w: %q is no address", ErrConfig, short(address, 200))
		}
		return scheme + "://" + host, "/" + path, nil
	}
	var lines []Line
	for _, platform := range slices.Sorted(maps.Keys(history)) {
		for _, locale := range slices.Sorted(maps.Keys(history[platform])) {
			builds := history[platform][locale]
			for _, artifact := range slices.Sorted(maps.Keys(builds)) {
				b := builds[artifact]
				if len(lines) == maxConfigLines {
					return nil, fmt.Errorf("%w: more than %d builds", ErrConfig, maxConfigLines)
				}
				l := Line{
					Number: len(lines) + 1, Release: b.Version, Product: b.Product, Platform: platform, BuildID: b.BuildID, Locales: []string{locale},
					Channel: opts.Channel, PatchTypes: []string{"complete", "partial"}, AUSServer: opts.AUSServer,
					ToBuildID: opts.ToBuildID, ToAppVersion: opts.ToAppVersion,
				}
				if l.Product == strings.ToLower(l.Product) && l.Product != "" { // tasks have the name in small letters, requests the product's own
					l.Product = strings.ToUpper(l.Product[:1]) + l.Product[1:]
				}
				var err error
				if l.FTPServerFrom, l.From, err = split(b.MAR); err != nil {
					return nil, err
				}
				if opts.To != "" {
					if l.FTPServerTo, l.To, err = split(strings.ReplaceAll(opts.To, "%platform%", platform)); err != nil {
						return nil, err
					}
				}
				if err := l.check(); err != nil {
					return nil, fmt.Errorf("%s %s %s: %w", platform, locale, artifact, err)
				}
				lines = append(lines, l)
			}
		}
	}
	return lines, nil
}

// WritePlan writes a configuration of our own as JSON, which [ReadPlan] reads.
func WritePlan(w io.Writer, lines []Line) error {
	if lines == nil {
		return errors.New("no tests")
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(lines)
}
