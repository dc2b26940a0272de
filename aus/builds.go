package aus

import (
	"cmp"
	"slices"
	"strconv"
)

// Build is one build of a product that a snapshot knows: a platform and locale of a release whose complete update has an
// address, a size and a hash.
type Build struct {
	Release      string `json:"release"`       // name of the release
	Product      string `json:"product"`       // name, as queries spell it
	Version      string `json:"version"`       // of the application, as the release says
	BuildID      string `json:"build_id"`      // 14 digits
	Target       string `json:"target"`        // build target of the platform, aliases included
	Locale       string `json:"locale"`        // "en-US"
	HashFunction string `json:"hash_function"` // that of Hash: "sha512"
	Hash         string `json:"hash"`          // of the complete update
	Size         int64  `json:"size"`          // bytes
	URL          string `json:"url"`           // of the complete update
}

// build returns the build of a locale, if its complete update is known. Addresses that depend on the channel do not count.
func (r *Release) build(p *platform, l *locale) (Build, bool) {
	id := buildIDOf(p, l)
	version := l.versions.release.or(r.app.versions.release)
	if id.kind != text && id.kind != number || !version.filled() {
		return Build{}, false
	}
	for i := range l.completes {
		c := r.app.patch(&l.completes[i])
		size, err := strconv.ParseInt(c.size.text, 10, 64)
		if c.from.text != "*" || c.hash.kind != text || c.url.kind != text || err != nil {
			continue
		}
		return Build{
			Release: r.name, Product: r.product, Version: version.text, BuildID: id.text, Target: p.name, Locale: l.name,
			HashFunction: r.app.hashFunction.text, Hash: c.hash.text, Size: size, URL: c.url.text,
		}, true
	}
	return Build{}, false
}

// Builds returns the builds of a release, by target and locale.
func (r *Release) Builds() []Build {
	if r.app == nil {
		return nil
	}
	var builds []Build
	for i := range r.app.platforms {
		p := &r.app.platforms[i]
		for j := range p.locales {
			if b, ok := r.build(p, &p.locales[j]); ok {
				builds = append(builds, b)
			}
		}
	}
	return builds
}

// BuildFor returns the build of a release for a client's platform and locale.
func (r *Release) BuildFor(q Query) (Build, bool) {
	if r.app == nil {
		return Build{}, false
	}
	p, _, _ := r.app.resolve(q.BuildTarget)
	if p == nil {
		return Build{}, false
	}
	l := p.locale(q.Locale)
	if l == nil {
		return Build{}, false
	}
	return r.build(p, l)
}

// BuildOf returns the build that a client has, if it is known: that of its product, build ID, target and locale.
func (s *Snapshot) BuildOf(q Query) (Build, bool) {
	for _, r := range s.byBuildID[q.BuildID] {
		if r.product != q.Product {
			continue
		}
		if b, ok := r.BuildFor(q); ok && b.BuildID == q.BuildID {
			return b, true
		}
	}
	return Build{}, false
}

// Before returns at most n builds that clients of a build's product, target and locale may have and that are older, the newest
// first; of the releases that among takes, or of all if it is nil.
func (s *Snapshot) Before(b Build, n int, among func(release string) bool) []Build {
	var older []Build
	version := parseVersion(b.Version)
	for _, r := range s.config.Releases {
		if r.product != b.Product || r.name == b.Release || r.app == nil || among != nil && !among(r.name) {
			continue
		}
		o, ok := r.BuildFor(Query{BuildTarget: b.Target, Locale: b.Locale})
		if !ok || o.Hash == b.Hash {
			continue
		}
		v := parseVersion(o.Version)
		if c := v.order(&version); c < 0 || c == 0 && compareBuildIDs(o.BuildID, b.BuildID) < 0 {
			older = append(older, o)
		}
	}
	slices.SortStableFunc(older, func(x, y Build) int {
		v, w := parseVersion(x.Version), parseVersion(y.Version)
		return cmp.Or(w.order(&v), compareBuildIDs(y.BuildID, x.BuildID))
	})
	return older[:min(n, len(older))]
}

// indexBuilds notes which releases have which build IDs.
func (s *Snapshot) indexBuilds() {
	s.byBuildID = map[string][]*Release{}
	for _, r := range s.config.Releases {
		if r.app == nil || s.releases[r.name] != r {
			continue
		}
		last := ""
		add := func(id scalar) {
			if id.kind != text && id.kind != number || id.text == last {
				return
			}
			last = id.text
			if list := s.byBuildID[id.text]; len(list) == 0 || list[len(list)-1] != r {
				s.byBuildID[id.text] = append(list, r)
			}
		}
		for i := range r.app.platforms {
			p := &r.app.platforms[i]
			for j := range p.locales {
				add(buildIDOf(p, &p.locales[j]))
			}
		}
	}
}

// CompareVersions orders two versions as answers do: by Balrog's grammar where it takes both, else as Gecko's toolkit. It
// returns a negative number, 0, or a positive one.
func CompareVersions(a, b string) int {
	v, w := parseVersion(a), parseVersion(b)
	return v.order(&w)
}
