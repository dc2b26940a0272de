package aus

import (
	"slices"
	"strconv"
	"strings"
)

// xml writes the answer of the release that was picked.
func (e *evaluation) xml(p *picked) []byte {
	b := make([]byte, 0, 1536) // most answers fit
	b = append(b, xmlHead...)
	switch r := p.release; {
	case r.app != nil:
		b = e.updateLine(b, p)
		if e.stopped() {
			return nil
		}
		before := len(b)
		b = e.patches(b, r, p.product)
		if len(b) == before && !e.stopped() {
			e.quirks.add(QuirkNoPatch)
			if !e.strict {
				e.none(e.noPatch())
			}
		}
		b = append(b, "    </update>\n"...)
	case r.addons != nil:
		b = e.addons(b, r, p.product)
	case r.superblob != nil:
		b = append(b, "    <addons>\n"...)
		b = e.superblob(b, p)
		b = append(b, "    </addons>\n"...)
	case r.desupport != nil:
		b = e.desupport(b, r.desupport, p.updateType)
	case r.guardian != nil:
		e.bad("Wrong blob type")
	}
	if e.stopped() {
		return nil
	}
	if a := p.release.app; a != nil && p.release.name == "Firefox-mozilla-central-nightly-latest" &&
		(e.q.BuildID == "20190103220533" || e.q.BuildID == "20190104093221") {
		e.quirks.add(QuirkSquash)
		if e.strict {
			return []byte(strings.NewReplacer("\n", "", "    ", "").Replace(string(append(b, "</updates>"...))))
		}
	}
	return append(b, "</updates>"...)
}

// attr writes ` name="value"`.
func (e *evaluation) attr(b []byte, name, v string) []byte {
	b = append(b, ' ')
	b = append(b, name...)
	b = append(b, '=', '"')
	b = e.escape(b, v)
	return append(b, '"')
}

// escape writes a value. "&" is escaped where it does not begin "&amp;", which is how releases are written; of the rest Balrog
// escapes nothing.
func (e *evaluation) escape(b []byte, s string) []byte {
	start := 0
	for i := 0; i < len(s); i++ {
		var with string
		switch c := s[i]; {
		case c == '&':
			if strings.HasPrefix(s[i+1:], "amp;") {
				continue
			}
			with = "&amp;"
		case c == '"':
			with = "&quot;"
		case c == '<':
			with = "&lt;"
		case c == '>':
			with = "&gt;"
		case c < ' ' && c != '\t' && c != '\n' && c != '\r':
			with = "\uFFFD" // XML cannot hold it
		case c < ' ':
			with = "&#" + string('0'+c/10) + string('0'+c%10) + ";"
		default:
			continue
		}
		if with != "&amp;" {
			e.quirks.add(QuirkEscaping)
			if e.strict {
				continue
			}
		}
		b = append(b, s[start:i]...)
		b = append(b, with...)
		start = i + 1
	}
	return append(b, s[start:]...)
}

// localised replaces %LOCALE% and %locale%.
func (e *evaluation) localised(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	return replaceBoth(s, "LOCALE", e.q.locale())
}

func replaceBoth(s, name, with string) string {
	s = strings.ReplaceAll(s, "%"+name+"%", with)
	return strings.ReplaceAll(s, "%"+strings.ToLower(name)+"%", with)
}

// updateLine writes the <update> line of an application's release.
func (e *evaluation) updateLine(b []byte, p *picked) []byte {
	r := p.release.app
	id, ok := e.buildID(r, e.q.BuildTarget)
	if !ok {
		return b
	}
	platform, _, _ := r.resolve(e.q.BuildTarget)
	l := platform.locale(e.q.Locale)
	display := l.versions.display.or(r.versions.display).or(scalar{"None", null}).text
	release := l.versions.release.or(r.versions.release).or(scalar{"None", null}).text
	if r.schema == 9 {
		return e.updateLine9(b, p, display, release, id.text)
	}
	b = append(b, "    <update"...)
	b = e.attr(b, "type", p.updateType)
	if r.schema == 1 {
		appv, extv, printExtv := e.special(r, display, release)
		b = e.attr(b, "version", appv)
		if printExtv {
			b = e.attr(b, "extensionVersion", extv)
		}
	} else {
		b = e.attr(b, "displayVersion", display)
		b = e.attr(b, "appVersion", release)
		b = e.attr(b, "platformVersion", l.versions.platform.or(r.versions.platform).or(scalar{"None", null}).text)
	}
	b = e.attr(b, "buildID", id.text)
	attributes := r.attributes
	for len(attributes) > 0 && (attributes[0].name == "detailsURL" || attributes[0].name == "licenseURL") {
		b = e.attribute(b, &attributes[0])
		attributes = attributes[1:]
	}
	if r.schema != 1 && l.osUpdate {
		b = e.attr(b, "isOSUpdate", "true")
	}
	for i := range attributes {
		b = e.attribute(b, &attributes[i])
	}
	return append(b, ">\n"...)
}

func (e *evaluation) attribute(b []byte, a *attribute) []byte {
	if a.url {
		return e.attr(b, a.name, e.localised(a.value.text))
	}
	return e.attr(b, a.name, a.value.text)
}

// special is what releases of schema 1 tell clients before 4.0 about themselves, if they are told to.
func (e *evaluation) special(r *appRelease, appv, extv string) (string, string, bool) {
	if !r.special || !e.version.valid {
		return appv, extv, true
	}
	from := func(s string) bool {
		v := parseVersion(s)
		return e.version.compare(&v) >= 0
	}
	switch {
	case from("4.0") || !from("2.0"):
		return appv, extv, true
	case from("3.6"):
		return appv, e.q.Version, true
	case from("3.5"):
		return appv, extv, false
	}
	return e.q.Version, extv, false
}

// updateLine9 writes the line of schema 9: attributes by their names, set by the groups of updateLine in their order.
func (e *evaluation) updateLine9(b []byte, p *picked, display, release, id string) []byte {
	attributes := make([]attribute, 0, 16)
	attributes = append(attributes,
		attribute{"appVersion", scalar{release, text}, false},
		attribute{"displayVersion", scalar{display, text}, false},
		attribute{"buildID", scalar{id, text}, false},
		attribute{"type", scalar{p.updateType, text}, false},
	)
	for i := range p.release.app.updateLine {
		g := &p.release.app.updateLine[i]
		if !g.hasConditions {
			if !e.fault(QuirkIncomplete, "a group of updateLine without for") {
				return b
			}
			continue
		}
		if !e.groupHolds(g, p.product) {
			if e.failure != nil {
				return b
			}
			continue
		}
		if !g.hasFields {
			if !e.fault(QuirkIncomplete, "a group of updateLine without fields") {
				return b
			}
			continue
		}
		for _, f := range g.fields {
			if !slices.Contains(lineFields, f.name) {
				continue
			}
			at := slices.IndexFunc(attributes, func(a attribute) bool { return a.name == f.name })
			if at < 0 {
				attributes = append(attributes, f)
			} else {
				attributes[at] = f
			}
		}
	}
	slices.SortFunc(attributes, func(a, b attribute) int { return strings.Compare(a.name, b.name) })
	b = append(b, "    <update"...)
	for i := range attributes {
		b = e.attribute(b, &attributes[i])
	}
	return append(b, ">\n"...)
}

// groupHolds says whether all conditions of a group hold.
func (e *evaluation) groupHolds(g *lineGroup, product string) bool {
	if g.unknown {
		return false
	}
	if g.set[0] && !slices.Contains(g.locales, e.q.Locale) {
		return false
	}
	any := func(n int, holds func(i int) bool) bool {
		for i := range n {
			if holds(i) {
				return true
			}
			if e.failure != nil {
				return false
			}
		}
		return false
	}
	return (!g.set[1] || any(len(g.channels), func(i int) bool { return e.matchChannel(g.channels[i]) })) &&
		(!g.set[2] || any(len(g.versions), func(i int) bool { return e.matchVersion(g.versions[i], product) })) &&
		(!g.set[3] || any(len(g.buildIDs), func(i int) bool { return e.matchBuildID(&g.buildIDs[i]) }))
}

// patches writes the <patch> lines of an application's release: the complete, then the partial.
func (e *evaluation) patches(b []byte, r *Release, product string) []byte {
	app := r.app
	if !app.hasPlatforms {
		if e.fault(QuirkEmptyPlatforms, "a release without platforms") {
			e.none(OutcomeUnknownPlatform)
		}
		return b
	}
	p, resolved, known := app.resolve(e.q.BuildTarget)
	if !known {
		e.badOr(QuirkUnknownPlatform, OutcomeUnknownPlatform, "Can't find platform '%s' "+e.q.BuildTarget)
		return b
	}
	var l *locale
	if p != nil {
		l = p.locale(e.q.Locale)
	}
	if l == nil {
		e.badOr(QuirkUnknownLocale, OutcomeUnknownLocale, "Can't find locale '%s' in '%s' "+e.q.Locale+" "+e.q.BuildTarget)
		return b
	}
	w := patchWriter{e, r, p, resolved, product}
	b, e.complete = w.first(b, "complete", l.completes)
	if e.stopped() {
		return b
	}
	b, e.partial = w.first(b, "partial", l.partials)
	if !e.partial && !e.strict && !e.stopped() {
		b, e.partial = w.made(b, l)
	}
	return b
}

// noPatch says why there is no patch.
func (e *evaluation) noPatch() Outcome {
	if e.forbidden {
		return OutcomeForbidden
	}
	return OutcomeNoPatch
}

// patchWriter writes the patches of one platform of a release.
type patchWriter struct {
	e        *evaluation
	release  *Release
	platform *platform
	resolved string // the platform's name
	product  string
}

// first writes the first patch of a list that is for the client.
func (w *patchWriter) first(b []byte, kind string, list []packedPatch) ([]byte, bool) {
	e, app := w.e, w.release.app
	for i := range list {
		unpacked := app.patch(&list[i])
		p := &unpacked
		if !p.isObject || p.from.kind == absent {
			if !e.fault(QuirkIncomplete, "a "+kind+" without from") {
				return b, false
			}
			continue
		}
		if p.from.text != "*" {
			from := e.s.releases[p.from.text]
			if from == nil || !w.isFrom(from) {
				if e.failure != nil {
					return b, false
				}
				continue
			}
		}
		url, ok := w.url(kind, p)
		if e.stopped() {
			return b, false
		}
		if !ok {
			continue
		}
		if !e.s.hosts.allow(url, w.product) {
			e.forbidden = true
			continue
		}
		if p.hash.kind == absent || p.size.kind == absent || app.hashFunction.kind == absent {
			if !e.fault(QuirkIncomplete, "a "+kind+" without hash or size") {
				return b, false
			}
			continue
		}
		b = e.patch(b, kind, url, app.hashFunction.text, p.hash.text, p.size.text)
		if p.proof.kind != absent && (app.schema == 8 || app.schema == 9) {
			b = e.attr(b, "binTransInclusionProof", p.proof.text)
		}
		return append(b, "/>\n"...), true
	}
	return b, false
}

func (e *evaluation) patch(b []byte, kind, url, hashFunction, hash, size string) []byte {
	b = append(b, "        <patch"...)
	b = e.attr(b, "type", kind)
	b = e.attr(b, "URL", url)
	b = e.attr(b, "hashFunction", hashFunction)
	b = e.attr(b, "hashValue", hash)
	return e.attr(b, "size", size)
}

// made writes a partial that no release names.
func (w *patchWriter) made(b []byte, l *locale) ([]byte, bool) {
	for _, m := range w.e.s.made[l] {
		if m.buildID == w.e.q.BuildID && w.e.s.hosts.allow(m.partial.URL, w.product) {
			b = w.e.patch(b, "partial", m.partial.URL, m.partial.HashFunction, m.partial.Hash, strconv.FormatInt(m.partial.Size, 10))
			return append(b, "/>\n"...), true
		}
	}
	return b, false
}

// isFrom says whether the client has a build of a release: whether, on the client's platform or one that is the same,
// the build ID is the client's.
func (w *patchWriter) isFrom(from *Release) bool {
	e := w.e
	if from.app == nil {
		return false
	}
	if !from.app.hasPlatforms {
		e.fault(QuirkEmptyPlatforms, "a release without platforms")
		return false
	}
	known := false // Balrog has the build ID of an earlier name
	try := func(name string) bool {
		if from.app.platform(name) == nil {
			return false
		}
		p, _, _ := from.app.resolve(name)
		var id scalar
		if p != nil {
			if l := p.locale(e.q.Locale); l != nil {
				id = buildIDOf(p, l)
			}
		}
		if id.kind == absent {
			if !known {
				e.fault(QuirkFromLocale, "release "+from.name+" has no build for the locale")
			}
			return false
		}
		known = true
		if id.kind != text {
			if id.text == e.q.BuildID {
				e.quirks.add(QuirkBuildIDNumber)
			}
			return !e.strict && id.text == e.q.BuildID
		}
		return id.text == e.q.BuildID
	}
	if try(e.q.BuildTarget) {
		return true
	}
	if e.failure != nil {
		return false
	}
	if w.resolved != e.q.BuildTarget && try(w.resolved) {
		return true
	}
	for i := range w.release.app.platforms {
		p := &w.release.app.platforms[i]
		if e.failure != nil {
			return false
		}
		if p.name != e.q.BuildTarget && p.alias.kind == text && p.alias.text == w.resolved && try(p.name) {
			return true
		}
	}
	return false
}

// url returns the address of a patch. ok is false where there is none, which passes over a partial.
func (w *patchWriter) url(kind string, p *patch) (url string, ok bool) {
	e, app := w.e, w.release.app
	if p.url.kind != absent {
		return e.force(p.url.text), true
	}
	var filename, product string
	if app.schema < 4 {
		f := app.channelURL(e.q.Channel)
		if f == nil {
			f = app.channelURL(e.fallback)
		}
		if f == nil || f.url.kind == absent {
			if e.fault(QuirkClientFault, "no fileUrls for channel "+e.q.Channel) {
				e.none(OutcomeNoAddress)
			}
			return "", false
		}
		url = f.url.text
		filename, product = app.name(&app.ftpFilenames, kind, p), app.name(&app.bouncer, kind, p)
	} else {
		block := app.block(e.q.Channel, e.fallback)
		var found scalar
		if block != nil && kind == "complete" {
			found = findText(block.completes, p.from.text)
		} else if block != nil {
			found = findText(block.partials, p.from.text)
		}
		if found.kind == absent {
			if kind == "complete" && e.fault(QuirkClientFault, "no address of the complete for channel "+e.q.Channel) {
				e.none(OutcomeNoAddress)
			}
			return "", false
		}
		url = found.text
	}
	if w.platform.osFTP.kind != text || w.platform.osBouncer.kind != text {
		if !e.fault(QuirkReplacement, "platform "+w.resolved+" without OS_FTP or OS_BOUNCER") {
			return "", false
		}
		lower := strings.ToLower(url)
		if w.platform.osFTP.kind != text && strings.Contains(lower, "%os_ftp%") ||
			w.platform.osBouncer.kind != text && strings.Contains(lower, "%os_bouncer%") {
			if kind == "complete" {
				e.none(OutcomeIncomplete)
			}
			return "", false
		}
	}
	if strings.Contains(url, "%") {
		replace := [][2]string{{"LOCALE", e.q.Locale}, {"OS_FTP", w.platform.osFTP.text}}
		if app.schema < 4 {
			replace = append(replace, [2]string{"FILENAME", filename}, [2]string{"PRODUCT", product})
		}
		replace = append(replace, [2]string{"OS_BOUNCER", w.platform.osBouncer.text})
		for _, r := range replace {
			url = strings.ReplaceAll(url, "%"+r[0]+"%", r[1])
		}
		for _, r := range replace {
			url = strings.ReplaceAll(url, "%"+strings.ToLower(r[0])+"%", r[1])
		}
	}
	return e.force(url), true
}

func (r *appRelease) channelURL(channel string) *fileURL {
	for i := range r.fileURLs {
		if r.fileURLs[i].channel == channel {
			return &r.fileURLs[i]
		}
	}
	return nil
}

// block is the first entry of fileUrls, of channel, fallback channel and "*", that is there and not empty.
func (r *appRelease) block(channel, fallback string) *fileURL {
	for _, name := range []string{channel, fallback, "*"} {
		if f := r.channelURL(name); f != nil && f.filled {
			return f
		}
	}
	return nil
}

// name is the file name, or the name of the bouncer's product, of a patch of schemas 1 to 3.
func (r *appRelease) name(n *names, kind string, p *patch) string {
	switch {
	case r.schema == 3 && kind == "complete":
		return findText(n.completes, p.from.text).text
	case r.schema == 3:
		return findText(n.partials, p.from.text).text
	case kind == "complete":
		return n.complete.text
	}
	return n.partial.text
}

// force tells hosts that want to know how the client asked.
func (e *evaluation) force(url string) string {
	if e.q.Force == NoForce {
		return url
	}
	for _, prefix := range e.s.config.SpecialForceHosts {
		if strings.HasPrefix(url, prefix) {
			parameter := "force=1"
			if e.q.Force == ForceFallback {
				parameter = "force=-1"
			}
			if strings.Contains(url, "?") {
				return url + "&" + parameter
			}
			return url + "?" + parameter
		}
	}
	return url
}

// addons writes what a gmp or system add-on release has for the client, with the lines around it.
func (e *evaluation) addons(b []byte, r *Release, product string) []byte {
	const open, end = "    <addons>\n", "    </addons>\n"
	if r.schema == SchemaGMP {
		b = append(b, open...)
		b = e.addonLines(b, r, product)
		return append(b, end...)
	}
	before := len(b)
	b = append(b, open...)
	inner := len(b)
	b = e.addonLines(b, r, product)
	if len(b) == inner && !r.addons.uninstall {
		return append(b[:before], "\n\n"...)
	}
	return append(b, end...)
}

// addonLines writes the <addon> lines alone.
func (e *evaluation) addonLines(b []byte, r *Release, product string) []byte {
	gmp := r.schema == SchemaGMP
	for i := range r.addons.vendors {
		v := &r.addons.vendors[i]
		if !v.hasPlatforms {
			if !e.fault(QuirkIncomplete, v.name+" without platforms") {
				return b
			}
			continue
		}
		f := v.file(e.q.BuildTarget)
		if f == nil {
			f = v.file("default")
		}
		if f == nil {
			continue
		}
		if f.isAlias {
			alias := f.alias
			if f = v.file(alias); f == nil {
				if gmp {
					e.quirks.add(QuirkMessage)
					if e.strict {
						e.bad("No platform '%s' in vendor '%s' " + alias + " " + v.name)
					} else {
						e.bad("No platform '" + alias + "' in vendor '" + v.name + "'")
					}
					return b
				}
				if !e.fault(QuirkIncomplete, "an alias to nothing in "+v.name) {
					return b
				}
				continue
			}
		}
		if f.url.kind == absent || f.hash.kind == absent || f.size.kind == absent || v.version.kind == absent || r.addons.hashFunction.kind == absent {
			if !e.fault(QuirkIncomplete, v.name+" without address, hash, size or version") {
				return b
			}
			continue
		}
		url := e.force(f.url.text)
		if !e.s.hosts.allow(url, product) {
			continue
		}
		e.complete = true
		b = append(b, "        <addon"...)
		b = e.attr(b, "id", v.name)
		b = e.attr(b, "URL", url)
		b = e.attr(b, "hashFunction", r.addons.hashFunction.text)
		b = e.attr(b, "hashValue", f.hash.text)
		b = e.attr(b, "size", f.size.text)
		b = e.attr(b, "version", v.version.text)
		mirrors := 0
		for _, m := range f.mirrors {
			if !gmp || !e.s.hosts.allow(m, product) {
				continue
			}
			if mirrors++; mirrors == 1 {
				b = append(b, ">\n"...)
			}
			b = append(b, "            <mirror"...)
			b = e.attr(b, "URL", m)
			b = append(b, "/>\n"...)
		}
		if mirrors > 0 {
			b = append(b, "        </addon>\n"...)
		} else {
			b = append(b, "/>\n"...)
		}
	}
	return b
}

// superblob writes the lines of what a superblob gathers.
func (e *evaluation) superblob(b []byte, p *picked) []byte {
	s := p.release.superblob
	if len(s.products) == 0 && len(s.releases) == 0 {
		if e.fault(QuirkIncomplete, "a superblob of nothing") {
			e.none(OutcomeIncomplete)
		}
		return b
	}
	for _, product := range s.products {
		sub := e.pick(product)
		if e.failure != nil {
			return b
		}
		if e.outcome != "" {
			e.outcome = "" // this product has nothing, the others may
			continue
		}
		b = e.inner(b, sub.release, product, sub.updateType)
		if e.failure != nil {
			return b
		}
	}
	if len(s.products) > 0 {
		return b
	}
	for _, name := range s.releases {
		r := e.s.releases[name]
		if r == nil {
			if !e.fault(QuirkMapping, "there is no release "+name) {
				return b
			}
			continue
		}
		b = e.inner(b, r, r.product, p.updateType)
		if e.failure != nil {
			return b
		}
	}
	return b
}

// inner writes the lines of one release inside a superblob; what is wrong with it leaves it out.
func (e *evaluation) inner(b []byte, r *Release, product, updateType string) []byte {
	before := len(b)
	complete, partial := e.complete, e.partial
	switch {
	case r.app != nil:
		b = e.patches(b, r, product)
	case r.addons != nil:
		b = e.addonLines(b, r, product)
	case r.desupport != nil:
		b = e.desupport(b, r.desupport, updateType)
	case r.guardian != nil:
		e.bad("Wrong blob type")
	default:
		e.fault(QuirkIncomplete, "a superblob inside another, or a release of an unknown schema")
	}
	if e.outcome != "" {
		e.outcome = ""
		e.complete, e.partial = complete, partial
		return b[:before]
	}
	e.complete, e.partial = e.complete || complete, e.partial || partial
	return b
}

// desupport writes the line that tells a client that its system gets no updates any more.
func (e *evaluation) desupport(b []byte, d *desupport, updateType string) []byte {
	if d.detailsURL.kind == absent || d.displayVersion.kind == absent {
		if e.fault(QuirkIncomplete, "no detailsUrl or displayVersion") {
			e.none(OutcomeIncomplete)
		}
		return b
	}
	url := d.detailsURL.text
	if strings.Contains(url, "%") {
		os, _, _ := strings.Cut(e.q.BuildTarget, "_")
		for _, name := range []string{"%LOCALE%", "%VERSION%", "%OS%"} {
			url = replaceOne(url, name, e.q.locale(), e.q.Version, os)
		}
		for _, name := range []string{"%locale%", "%version%", "%os%"} {
			url = replaceOne(url, name, e.q.locale(), e.q.Version, os)
		}
	}
	b = append(b, "\n    <update"...)
	b = e.attr(b, "type", updateType)
	b = e.attr(b, "unsupported", "true")
	b = e.attr(b, "detailsURL", url)
	b = e.attr(b, "displayVersion", d.displayVersion.text)
	return append(b, ">\n</update>\n"...)
}

func replaceOne(s, name, locale, version, os string) string {
	with := os
	switch strings.ToLower(name) {
	case "%locale%":
		with = locale
	case "%version%":
		with = version
	}
	return strings.ReplaceAll(s, name, with)
}

// json writes the answer to a JSON query.
func (e *evaluation) json(r *Release) []byte {
	g := r.guardian
	if g == nil {
		if e.fault(QuirkClientFault, "the release cannot be given as JSON") {
			e.none(OutcomeWrongKind)
		}
		return nil
	}
	f := g.file(e.q.BuildTarget)
	required := g.required
	if required.kind == absent {
		if !e.fault(QuirkIncomplete, "no required") {
			return nil
		}
		required = scalar{"false", boolean}
	}
	if f.url.kind == absent || f.hash.kind == absent || g.version.kind == absent || g.hashFunction.kind == absent {
		if e.fault(QuirkIncomplete, "no version, address or hash") {
			e.none(OutcomeIncomplete)
		}
		return nil
	}
	if !e.s.hosts.allow(f.url.text, e.q.Product) {
		return []byte("{}")
	}
	e.complete = true
	b := append([]byte(nil), `{"version": `...)
	b = g.version.appendJSON(b)
	b = append(b, `, "url": `...)
	b = f.url.appendJSON(b)
	b = append(b, `, "required": `...)
	b = required.appendJSON(b)
	b = append(b, `, "hashFunction": `...)
	b = g.hashFunction.appendJSON(b)
	b = append(b, `, "hashValue": `...)
	b = f.hash.appendJSON(b)
	return append(b, '}')
}

func (s scalar) appendJSON(b []byte) []byte {
	v := value{kind: s.kind, text: s.text}
	return v.appendJSON(b, jsonStyle{})
}
