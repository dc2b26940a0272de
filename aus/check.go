package aus

import (
	"fmt"
	"slices"
	"strings"
)

// check looks for what is wrong with what rules, pins and shutoffs lead to.
func (s *Snapshot) check(report func(Problem)) {
	products := s.checkMappings(report)
	names := make([]string, 0, len(products))
	for name := range products {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if r := s.releases[name]; r != nil {
			f := &findings{s: s, r: r, products: products[name], report: report}
			f.release()
			f.flush()
		}
	}
	s.checkShadows(report)
}

// checkMappings looks whether every name leads to a release. It returns the releases that something leads to, each with the
// products whose clients get it.
func (s *Snapshot) checkMappings(report func(Problem)) map[string][]string {
	products := map[string][]string{}
	// reach follows a name; "" as product stands for every product.
	var reach func(name, product string)
	reach = func(name, product string) {
		r := s.releases[name]
		if r == nil {
			return
		}
		if product == "" {
			product = r.product
		}
		if slices.Contains(products[name], product) {
			return
		}
		products[name] = append(products[name], product)
		if r.superblob != nil {
			for _, inner := range r.superblob.releases {
				if r := s.releases[inner]; r != nil {
					reach(inner, r.product)
				}
			}
		}
	}
	missing := func(p Problem, name string) {
		p.Severity, p.Quirk, p.Message = SeverityError, QuirkMapping, fmt.Sprintf("there is no release %q", name)
		report(p)
	}
	aliases := map[string]bool{}
	for _, r := range s.rules {
		product := ""
		if r.Product != nil {
			product = *r.Product
		}
		for _, m := range []struct {
			path string
			name *string
		}{{"mapping", r.Mapping}, {"fallbackMapping", r.FallbackMapping}} {
			if !filled(m.name) {
				continue
			}
			if s.releases[*m.name] == nil {
				missing(Problem{Rule: r.ID, Path: m.path}, *m.name)
			}
			reach(*m.name, product)
		}
		if filled(r.Alias) {
			if aliases[*r.Alias] {
				report(Problem{Severity: SeverityError, Rule: r.ID, Path: "alias", Message: fmt.Sprintf("there is another rule called %q", *r.Alias)})
			}
			aliases[*r.Alias] = true
		}
	}
	for _, p := range s.config.Pins {
		path := "pins." + p.Product + "." + p.Channel + "." + p.Version
		if s.releases[p.Mapping] == nil {
			missing(Problem{Path: path}, p.Mapping)
		}
		if numbers, ok := parsePin(p.Version); !ok {
			report(Problem{Severity: SeverityWarning, Path: path, Message: "no client can ask for this version"})
		} else if canonical := (&evaluation{q: &Query{Pin: p.Version}}).canonicalPin(); canonical != p.Version {
			report(Problem{Severity: SeverityWarning, Path: path, Message: fmt.Sprintf("no client can ask for this version: it is %s of %d numbers", canonical, len(numbers))})
		}
		reach(p.Mapping, p.Product)
	}
	for i := range s.config.Shutoffs {
		f := &s.config.Shutoffs[i]
		if f.Instead == "" {
			continue
		}
		if s.releases[f.Instead] == nil {
			missing(Problem{Path: "shutoffs." + f.Product + "." + f.Channel + ".instead"}, f.Instead)
		}
		reach(f.Instead, f.Product)
	}
	return products
}

// checkShadows looks for rules that never decide, because another one always comes first.
func (s *Snapshot) checkShadows(report func(Problem)) {
	const most = 2000 // rules of one product that are compared with each other
	for product, c := range s.byProduct {
		rules := c.rules
		if len(rules) > most {
			continue
		}
		for _, r := range rules {
			if r.Product == nil || *r.Product != product {
				continue
			}
			for _, other := range rules {
				if other != r && (other.priority > r.priority || other.priority == r.priority && other.ID < r.ID) && other.covers(r) {
					report(Problem{Severity: SeverityWarning, Rule: r.ID, Path: "priority", Message: fmt.Sprintf("it never decides: rule %d comes first and matches all of its clients", other.ID)})
					break
				}
			}
		}
	}
	slices.SortStableFunc(s.problems, func(a, b Problem) int { return int(a.Rule - b.Rule) })
}

// covers says whether a rule matches every client that another one matches, as far as equal columns tell.
func (r *compiledRule) covers(o *compiledRule) bool {
	text := func(a, b *string) bool { return a == nil || b != nil && *a == *b }
	flag := func(a, b *bool) bool { return a == nil || b != nil && *a == *b }
	return text(r.Product, o.Product) && text(r.Version, o.Version) && text(r.Channel, o.Channel) &&
		text(r.BuildTarget, o.BuildTarget) && text(r.BuildID, o.BuildID) && text(r.Locale, o.Locale) && text(r.OSVersion, o.OSVersion) &&
		text(r.Memory, o.Memory) && text(r.InstructionSet, o.InstructionSet) && text(r.Distribution, o.Distribution) &&
		text(r.DistVersion, o.DistVersion) && text(r.HeaderArchitecture, o.HeaderArchitecture) && flag(r.JAWS, o.JAWS) && flag(r.Mig64, o.Mig64)
}

// findings gathers what is wrong with one release: each kind once, with its first place and how often it is there.
type findings struct {
	s        *Snapshot
	r        *Release
	products []string
	report   func(Problem)
	kinds    []finding
}

type finding struct {
	key     string
	problem Problem
	n       int
}

// add notes a problem; what is of one kind has one key.
func (f *findings) add(key string, severity Severity, quirk Quirk, path, format string, args ...any) {
	for i := range f.kinds {
		if f.kinds[i].key == key {
			f.kinds[i].n++
			return
		}
	}
	f.kinds = append(f.kinds, finding{key, Problem{
		Severity: severity, Release: f.r.name, Path: path, Quirk: quirk, Message: fmt.Sprintf(format, args...),
	}, 1})
}

func (f *findings) flush() {
	for _, k := range f.kinds {
		if k.n > 1 {
			k.problem.Message += fmt.Sprintf(" (and %d more)", k.n-1)
		}
		f.report(k.problem)
	}
}

func (f *findings) release() {
	switch r := f.r; {
	case r.app != nil:
		f.app(r.app)
	case r.addons != nil:
		f.addons(r.addons)
	case r.superblob != nil:
		f.superblob(r.superblob)
	case r.desupport != nil:
		if r.desupport.detailsURL.kind == absent || r.desupport.displayVersion.kind == absent {
			f.add("incomplete", SeverityError, QuirkIncomplete, "", "want detailsUrl and displayVersion")
		}
		f.characters("detailsUrl", r.desupport.detailsURL)
		f.characters("displayVersion", r.desupport.displayVersion)
	case r.guardian != nil:
		f.guardian(r.guardian)
	default:
		f.add("schema", SeverityError, QuirkMapping, "schema_version", "there is no such schema")
	}
}

// characters looks for what XML cannot hold, or holds only escaped.
func (f *findings) characters(path string, s scalar) {
	for i := range len(s.text) {
		switch c := s.text[i]; {
		case c < ' ':
			f.add("control", SeverityError, QuirkEscaping, path, "there is a control character in %q", s.text)
			return
		case c == '"' || c == '<' || c == '>':
			f.add("escaping", SeverityWarning, QuirkEscaping, path, "%q needs escaping in XML, which Balrog does not do", s.text)
			return
		}
	}
}

func (f *findings) host(path, url string) {
	for _, product := range f.products {
		if !f.s.hosts.allow(url, product) {
			authority, _ := splitAddress(url)
			f.add("host "+authority+" "+product, SeverityWarning, 0, path, "%q is not allowed for %s, so that it is not offered", url, product)
		}
	}
}

func (f *findings) hash(path, function string, hash scalar) {
	if n, ok := hashLengths[strings.ToLower(function)]; ok && len(hash.text) != n {
		f.add("hash", SeverityWarning, 0, path, "a hash of %d characters, want %d of %s", len(hash.text), n, function)
	} else if !ok {
		f.add("function", SeverityWarning, 0, "hashFunction", "%q is no known function", function)
	}
}

func (f *findings) version(path string, s scalar) {
	v := parseVersion(s.text)
	switch {
	case v.star:
		f.add("glob", SeverityWarning, QuirkVersionGlob, path, "%q has a wildcard, so that no client gets it", s.text)
	case !v.valid:
		f.add("grammar", SeverityWarning, QuirkVersionGrammar, path, "%q is not a version to Balrog, which answers 400", s.text)
	}
}

func (f *findings) app(r *appRelease) {
	if !r.hasPlatforms {
		f.add("platforms", SeverityError, QuirkEmptyPlatforms, "platforms", "there are none")
		return
	}
	if r.versions.release.filled() {
		f.version("appVersion", r.versions.release)
	}
	if r.hashFunction.kind == absent {
		f.add("incomplete", SeverityError, QuirkIncomplete, "hashFunction", "it is missing")
	}
	for _, a := range r.attributes {
		f.characters(a.name, a.value)
	}
	f.characters("hashFunction", r.hashFunction)
	f.characters("displayVersion", r.versions.display)
	f.updateLine(r)
	for i := range r.platforms {
		f.platform(r, &r.platforms[i])
	}
}

func (f *findings) updateLine(r *appRelease) {
	for i, g := range r.updateLine {
		path := fmt.Sprintf("updateLine[%d]", i)
		if !g.hasConditions || !g.hasFields {
			f.add("line", SeverityError, QuirkIncomplete, path, "want for and fields")
		}
		if g.unknown {
			f.add("condition", SeverityWarning, 0, path+".for", "there is a condition that does not exist, so that the group never applies")
		}
		for _, c := range g.channels {
			if c.glob && c.active {
				f.add("channel "+c.text, SeverityError, QuirkChannelRegexp, path+".for.channels", "%q is a regular expression to Balrog", c.text)
			} else if c.short && c.glob {
				f.add("channel "+c.text, SeverityWarning, QuirkShortGlob, path+".for.channels", "%q: Balrog matches nothing with so short a pattern", c.text)
			}
		}
		for _, parts := range g.versions {
			for _, p := range parts {
				if p.op == noOperator || p.op == glob && !p.version.valid {
					f.add("versions", SeverityError, QuirkRuleColumn, path+".for.versions", "%q is no condition on versions", p.pattern)
				} else if !p.full.valid {
					f.add("versions", SeverityWarning, QuirkVersionGrammar, path+".for.versions", "%q is not a version to Balrog, which answers 400", p.pattern)
				}
			}
		}
		for _, p := range g.buildIDs {
			if p.op == noOperator {
				f.add("buildIDs", SeverityError, QuirkRuleColumn, path+".for.buildIDs", "a condition without operator or number")
			}
		}
		for _, a := range g.fields {
			f.characters(path+".fields."+a.name, a.value)
		}
	}
	if len(r.updateLine) > 1 {
		if v, err := parseValue(f.r.document, Limits{Size: len(f.r.document) + 1, Depth: 1 << 20}); err == nil {
			c := &checker{opts: &ValidateOptions{}}
			c.conflicts(&v)
			for _, m := range c.messages {
				f.add("conflict", SeverityWarning, QuirkConflicts, "updateLine", "%s", m)
			}
		}
	}
}

func (f *findings) platform(r *appRelease, p *platform) {
	path := "platforms." + p.name
	if p.alias.kind != absent {
		if target := r.platform(p.alias.text); target == nil {
			f.add("alias", SeverityWarning, QuirkUnknownLocale, path, "an alias to %q, which is not there", p.alias.text)
		} else if target.alias.kind != absent {
			f.add("alias", SeverityWarning, QuirkUnknownLocale, path, "an alias to another alias, which is not followed")
		}
		return
	}
	for i := range p.locales {
		l := &p.locales[i]
		path := path + ".locales." + l.name
		version := l.versions.release.or(r.versions.release)
		switch {
		case !version.filled():
			f.add("version", SeverityWarning, 0, path, "no version, so that no client gets it")
		case l.versions.release.kind != absent:
			f.version(path+".appVersion", version)
		}
		f.characters(path+".displayVersion", l.versions.display)
		switch id := buildIDOf(p, l); id.kind {
		case absent:
			f.add("buildID", SeverityWarning, 0, path, "no build ID")
		case text:
			f.characters(path+".buildID", id)
		default:
			f.add("number", SeverityWarning, QuirkBuildIDNumber, path+".buildID", "%s is no text; Balrog never finds it in from, and answers 500 to clients of the same version", id.text)
		}
		whole := false
		for j := range l.completes {
			u := r.patch(&l.completes[j])
			whole = whole || u.from.text == "*"
			f.patch(r, p, l, "complete", path+".completes", &u)
		}
		for j := range l.partials {
			u := r.patch(&l.partials[j])
			f.patch(r, p, l, "partial", path+".partials", &u)
		}
		if !whole {
			f.add("complete", SeverityWarning, QuirkNoPatch, path, "no complete update")
		}
	}
}

func (f *findings) patch(r *appRelease, p *platform, l *locale, kind, path string, u *patch) {
	if !u.isObject || u.from.kind == absent || u.hash.kind == absent || u.size.kind == absent {
		f.add("entry", SeverityError, QuirkIncomplete, path, "want from, hashValue and filesize")
		return
	}
	f.hash(path+".hashValue", r.hashFunction.text, u.hash)
	f.characters(path+".hashValue", u.hash)
	f.characters(path+".fileUrl", u.url)
	f.characters(path+".filesize", u.size)
	if u.from.text != "*" {
		f.from(r, p, l, path, u.from.text)
	}
	if u.url.kind != absent {
		f.host(path+".fileUrl", u.url.text)
		return
	}
	if len(r.fileURLs) == 0 {
		if kind == "complete" || r.schema < 4 {
			f.add("fileUrls", SeverityWarning, QuirkClientFault, path, "no fileUrl and no fileUrls, so that Balrog answers 500")
		}
		return
	}
	if r.schema >= 4 && (r.channelURL("*") == nil || !r.channelURL("*").filled) || r.schema < 4 {
		f.add("channels", SeverityWarning, QuirkClientFault, "fileUrls", "no addresses for channels that are not listed, so that Balrog answers 500 to their clients")
	}
	if p.osFTP.kind != text || p.osBouncer.kind != text {
		f.add("os", SeverityWarning, QuirkReplacement, "platforms."+p.name, "no OS_FTP or no OS_BOUNCER, so that Balrog answers 500")
	}
	for i := range r.fileURLs {
		b := &r.fileURLs[i]
		url := b.url
		if r.schema >= 4 {
			list := b.partials
			if kind == "complete" {
				list = b.completes
			}
			if url = findText(list, u.from.text); url.kind == absent && kind == "complete" && b.filled {
				f.add("address", SeverityWarning, QuirkClientFault, "fileUrls."+b.channel, "no address of the complete, so that Balrog answers 500")
			}
		}
		if url.kind == text {
			f.host("fileUrls."+b.channel, url.text)
			f.characters("fileUrls."+b.channel, url)
		}
	}
}

// from looks whether clients of the release that a partial is from can be recognised.
func (f *findings) from(r *appRelease, p *platform, l *locale, path, name string) {
	from := f.s.releases[name]
	switch {
	case from == nil:
		f.add("from "+name, SeverityWarning, 0, path, "from %q, which is not there, so that it is never offered", name)
		return
	case from.app == nil:
		f.add("from "+name, SeverityWarning, 0, path, "from %q, which is no release of an application", name)
		return
	case !from.app.hasPlatforms:
		f.add("from "+name, SeverityWarning, QuirkEmptyPlatforms, path, "from %q, which has no platforms", name)
		return
	}
	known := false
	names := []string{p.name}
	for i := range r.platforms {
		if a := r.platforms[i].alias; a.kind == text && a.text == p.name {
			names = append(names, r.platforms[i].name)
		}
	}
	for _, name := range names {
		if from.app.platform(name) == nil {
			continue
		}
		t, _, _ := from.app.resolve(name)
		if t != nil {
			if fl := t.locale(l.name); fl != nil && buildIDOf(t, fl).kind != absent {
				known = true
				continue
			}
		}
		f.add("from-locale "+from.name, SeverityWarning, QuirkFromLocale, path, "from %q, which has %s, but no build of %s for it", from.name, name, l.name)
	}
	if !known {
		f.add("from-platform "+from.name, SeverityWarning, QuirkFromLocale, path, "from %q, which has no build for %s of %s", from.name, l.name, p.name)
	}
}

func (f *findings) addons(a *addons) {
	gmp := f.r.schema == SchemaGMP
	for i := range a.vendors {
		v := &a.vendors[i]
		if !v.hasPlatforms {
			f.add("platforms", SeverityError, QuirkIncomplete, v.name, "no platforms")
			continue
		}
		f.characters(v.name, scalar{v.name, text})
		f.characters(v.name+".version", v.version)
		for j := range v.platforms {
			p := &v.platforms[j]
			path := v.name + ".platforms." + p.platform
			if p.isAlias {
				if v.file(p.alias) == nil {
					severity, quirk := SeverityError, QuirkIncomplete
					if gmp {
						severity, quirk = SeverityWarning, QuirkMessage // Balrog answers 400
					}
					f.add("alias", severity, quirk, path, "an alias to %q, which is not there", p.alias)
				}
				continue
			}
			if p.url.kind == absent || p.hash.kind == absent || p.size.kind == absent || v.version.kind == absent || a.hashFunction.kind == absent {
				f.add("entry", SeverityError, QuirkIncomplete, path, "want fileUrl, hashValue, filesize, version and hashFunction")
				continue
			}
			f.hash(path+".hashValue", a.hashFunction.text, p.hash)
			f.host(path+".fileUrl", p.url.text)
			f.characters(path+".fileUrl", p.url)
			for _, m := range p.mirrors {
				f.host(path+".mirrorUrls", m)
			}
		}
	}
}

func (f *findings) superblob(s *superblob) {
	if len(s.products) == 0 && len(s.releases) == 0 {
		f.add("empty", SeverityError, QuirkIncomplete, "", "it names neither products nor releases")
	}
	for _, name := range s.releases {
		switch r := f.s.releases[name]; {
		case r == nil:
			f.add("missing", SeverityError, QuirkMapping, "blobs", "there is no release %q", name)
		case r.superblob != nil || r.schema == SchemaUnknown || r.guardian != nil:
			f.add("nested", SeverityError, QuirkIncomplete, "blobs", "%q cannot be part of a superblob", name)
		}
	}
	for _, product := range s.products {
		for _, rule := range f.s.candidates(product).rules {
			for _, name := range []*string{rule.Mapping, rule.FallbackMapping} {
				if filled(name) && f.s.releases[*name] != nil && (f.s.releases[*name].superblob != nil || f.s.releases[*name].guardian != nil) {
					f.add("nested", SeverityError, QuirkIncomplete, "products", "%q leads to %q, which cannot be part of a superblob", product, *name)
				}
			}
		}
	}
}

func (f *findings) guardian(g *guardian) {
	if g.required.kind == absent {
		f.add("required", SeverityError, QuirkIncomplete, "required", "it is missing; clients are told false")
	}
	if g.version.kind == absent || g.hashFunction.kind == absent || len(g.platforms) == 0 {
		f.add("incomplete", SeverityError, QuirkIncomplete, "", "want version, hashFunction and platforms")
	}
	for i := range g.platforms {
		p := &g.platforms[i]
		path := "platforms." + p.platform
		if p.url.kind == absent || p.hash.kind == absent {
			f.add("incomplete", SeverityError, QuirkIncomplete, path, "want fileUrl and hashValue")
			continue
		}
		f.host(path+".fileUrl", p.url.text)
		f.hash(path+".hashValue", g.hashFunction.text, p.hash)
	}
}
