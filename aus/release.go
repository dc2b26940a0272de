package aus

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Schema is the kind of a release, the schema_version of its document.
type Schema int

// The schemas. 1 to 6, 8 and 9 are releases of an application; there is no 7.
const (
	SchemaUnknown      Schema = 0
	SchemaDesupport    Schema = 50    // tells clients that their system gets no updates any more
	SchemaGMP          Schema = 1000  // media plugins
	SchemaSuperblob    Schema = 4000  // answers of several products or releases in one
	SchemaSystemAddons Schema = 5000  // add-ons that belong to the product
	SchemaGuardian     Schema = 10000 // answered as JSON, for Mozilla's VPN
)

// App says whether the schema is one of an application's releases.
func (s Schema) App() bool { return s >= 1 && s <= 9 && s != 7 }

// Release is one release: what Balrog calls a blob, with its name. It is immutable and safe for concurrent use; many
// snapshots may share it.
type Release struct {
	name        string
	product     string
	document    string
	dataVersion int64
	readOnly    bool

	schema    Schema
	app       *appRelease
	addons    *addons
	superblob *superblob
	desupport *desupport
	guardian  *guardian
}

// ReleaseOptions say what Balrog keeps beside a release's document.
type ReleaseOptions struct {
	DataVersion int64  // default 1
	ReadOnly    bool   // whether Balrog's API refuses changes; answers do not depend on it
	Limits      Limits // that the document must keep to
}

// NewRelease reads the document of a release. Only what is not JSON, or over the limits, is an error ([ErrFormat],
// [ErrLimit]); whether it is a good release is for [Validate] and [Compile] to say.
func NewRelease(name, product string, document []byte, opts *ReleaseOptions) (*Release, error) {
	if opts == nil {
		opts = &ReleaseOptions{}
	}
	r := &Release{name: name, product: product, document: string(document), dataVersion: opts.DataVersion, readOnly: opts.ReadOnly}
	if r.dataVersion == 0 {
		r.dataVersion = 1
	}
	v, err := parseValue(r.document, opts.Limits)
	if err != nil {
		return nil, fmt.Errorf("release %q: %w", name, err)
	}
	r.schema = schemaOf(&v)
	switch {
	case r.schema.App():
		if len(r.document) > maxPacked {
			return nil, fmt.Errorf("%w: release %q has %d bytes, want at most %d", ErrLimit, name, len(r.document), maxPacked)
		}
		r.app = newAppRelease(&v, r.schema, r.document)
	case r.schema == SchemaGMP:
		r.addons = newAddons(&v, "vendors")
	case r.schema == SchemaSystemAddons:
		r.addons = newAddons(&v, "addons")
	case r.schema == SchemaSuperblob:
		r.superblob = newSuperblob(&v)
	case r.schema == SchemaDesupport:
		r.desupport = &desupport{v.get("detailsUrl").scalar(), v.get("displayVersion").scalar()}
	case r.schema == SchemaGuardian:
		r.guardian = newGuardian(&v)
	}
	return r, nil
}

// Name returns the name by which rules name the release.
func (r *Release) Name() string { return r.name }

// Product returns the product that the release belongs to.
func (r *Release) Product() string { return r.product }

// Schema returns the kind of the release, or SchemaUnknown.
func (r *Release) Schema() Schema { return r.schema }

// Parts returns the names of the releases that one of [SchemaSuperblob] consists of.
func (r *Release) Parts() []string {
	if r.superblob == nil {
		return nil
	}
	return slices.Clone(r.superblob.releases)
}

// Document returns the JSON text that the release was made of.
func (r *Release) Document() string { return r.document }

// DataVersion returns the number that Balrog counts changes with.
func (r *Release) DataVersion() int64 { return r.dataVersion }

// ReadOnly says whether the release may be changed.
func (r *Release) ReadOnly() bool { return r.readOnly }

func schemaOf(v *value) Schema {
	s := v.get("schema_version")
	if s.kind != number {
		return SchemaUnknown
	}
	f, err := strconv.ParseFloat(s.text, 64)
	if err != nil {
		return SchemaUnknown
	}
	for _, known := range []Schema{1, 2, 3, 4, 5, 6, 8, 9, SchemaDesupport, SchemaGMP, SchemaSuperblob, SchemaSystemAddons, SchemaGuardian} {
		if f == float64(known) {
			return known
		}
	}
	return SchemaUnknown
}

// appRelease is a release of an application, of any schema.
type appRelease struct {
	schema       Schema
	hashFunction scalar
	versions     versions
	parsed       version // of versions.release, where that is filled
	special      bool    // oldVersionSpecialCases
	attributes   []attribute
	updateLine   []lineGroup
	fileURLs     []fileURL // by channel
	ftpFilenames names
	bouncer      names
	hasPlatforms bool
	platforms    []platform // by name
	document     string
	more         string // what patches say in other words than the document's
}

// versions are the versions of a release, or of a locale in it.
type versions struct {
	release  scalar // appVersion, or extv of schema 1
	display  scalar // displayVersion, or appv of schema 1
	platform scalar
}

// attribute is an optional attribute of the update line.
type attribute struct {
	name  string
	value scalar
	url   bool // %LOCALE% is replaced
}

// lineGroup is one group of schema 9's updateLine.
type lineGroup struct {
	hasConditions, hasFields bool
	unknown                  bool // there is a condition that does not exist
	channels                 []*channelPattern
	locales                  []string
	versions                 [][]versionPart
	buildIDs                 []buildIDPattern
	set                      [4]bool // which of the four are there
	fields                   []attribute
}

// fileURL is where a channel's files are.
type fileURL struct {
	channel string
	url     scalar // schemas 1 to 3
	// completes and partials are addresses by the name of the release that they update from, of schemas 4 and later.
	completes, partials []namedText
	filled              bool
}

// names are file names by kind (schemas 1 and 2), or by kind and release (schema 3).
type names struct {
	complete, partial   scalar
	completes, partials []namedText
}

type namedText struct {
	name string
	text scalar
}

// platform is one platform of a release.
type platform struct {
	name                      string
	alias                     scalar // the platform whose entry holds
	buildID, osFTP, osBouncer scalar
	locales                   []locale // by name
}

// locale is one locale of a platform.
type locale struct {
	name                string
	buildID             scalar
	versions            versions
	parsed              *version // of versions.release, where that is filled
	osUpdate            bool
	completes, partials []packedPatch
}

// packedPatch is a patch without pointers: there are millions in a large snapshot, and a garbage collector that follows
// them takes its time from clients.
type packedPatch struct {
	from, size, hash, url, proof packed
	isObject                     bool
}

// packed is a scalar by its place in the document, or behind it in what is said in other words.
type packed struct {
	at, n uint32
	kind  kind
}

// maxPacked bounds documents, in bytes, so that places fit: JSON in other words is at most six times as long.
const maxPacked = 512 << 20

// packer packs what the patches of a release say.
type packer struct {
	document string
	more     []byte
}

func (p *packer) scalar(v *value) packed {
	s := v.scalar()
	switch {
	case s.kind == absent || s.kind == null:
		return packed{kind: s.kind}
	case v.place > 0 && s.text == v.text:
		return packed{uint32(v.place - 1), uint32(len(s.text)), s.kind} //nolint:gosec // of a document of at most maxPacked bytes
	}
	at := len(p.document) + len(p.more)
	p.more = append(p.more, s.text...)
	return packed{uint32(at), uint32(len(s.text)), s.kind} //nolint:gosec // see maxPacked
}

func (r *appRelease) unpack(p packed) scalar {
	switch {
	case p.kind == null:
		return scalar{"None", null}
	case int(p.at) < len(r.document):
		return scalar{r.document[p.at : p.at+p.n], p.kind}
	}
	at := int(p.at) - len(r.document)
	return scalar{r.more[at : at+int(p.n)], p.kind}
}

// patch returns what a patch of the release says.
func (r *appRelease) patch(p *packedPatch) patch {
	return patch{r.unpack(p.from), r.unpack(p.size), r.unpack(p.hash), r.unpack(p.url), r.unpack(p.proof), p.isObject}
}

// patch is one update file that is offered.
type patch struct {
	from     scalar
	size     scalar
	hash     scalar
	url      scalar
	proof    scalar // binTransInclusionProof
	isObject bool
}

func newAppRelease(v *value, schema Schema, document string) *appRelease {
	pack := &packer{document: document}
	r := &appRelease{
		schema:       schema,
		document:     document,
		hashFunction: v.get("hashFunction").scalar(),
		versions:     newVersions(v, schema),
		special:      schema == 1 && v.get("oldVersionSpecialCases").truthy(),
		ftpFilenames: newNames(v.get("ftpFilenames")),
		bouncer:      newNames(v.get("bouncerProducts")),
	}
	r.parsed = parseVersion(r.versions.release.text)
	for _, a := range attributesOf(schema) {
		if s := v.get(a.key); s.kind != absent {
			r.attributes = append(r.attributes, attribute{a.name, s.scalar(), a.url})
		}
	}
	if schema == 9 {
		for i := range v.get("updateLine").items {
			r.updateLine = append(r.updateLine, newLineGroup(&v.get("updateLine").items[i]))
		}
	}
	for _, m := range v.get("fileUrls").members {
		f := fileURL{channel: m.key, url: m.value.scalar(), filled: m.value.truthy()}
		f.completes, f.partials = namedTexts(m.value.get("completes")), namedTexts(m.value.get("partials"))
		if m.value.kind == object {
			f.url = scalar{}
		}
		r.fileURLs = append(r.fileURLs, f)
	}
	platforms := v.get("platforms")
	// Balrog's tables drop an empty object, so that it comes back as none.
	r.hasPlatforms = len(platforms.members) > 0
	for _, m := range platforms.members {
		p := platform{
			name: m.key, alias: m.value.get("alias").scalar(), buildID: m.value.get("buildID").scalar(),
			osFTP: m.value.get("OS_FTP").scalar(), osBouncer: m.value.get("OS_BOUNCER").scalar(),
		}
		for _, m := range m.value.get("locales").members {
			l := locale{
				name: m.key, buildID: m.value.get("buildID").scalar(), versions: newVersions(&m.value, schema),
				osUpdate: schema != 9 && m.value.get("isOSUpdate").truthy(),
			}
			if l.versions.release.filled() {
				parsed := parseVersion(l.versions.release.text)
				l.parsed = &parsed
			}
			if schema < 3 {
				l.completes, l.partials = pack.single(m.value.get("complete")), pack.single(m.value.get("partial"))
			} else {
				l.completes, l.partials = pack.patches(m.value.get("completes")), pack.patches(m.value.get("partials"))
			}
			p.locales = append(p.locales, l)
		}
		slices.SortFunc(p.locales, func(a, b locale) int { return strings.Compare(a.name, b.name) })
		r.platforms = append(r.platforms, p)
	}
	slices.SortFunc(r.platforms, func(a, b platform) int { return strings.Compare(a.name, b.name) })
	r.more = string(pack.more)
	return r
}

func newVersions(v *value, schema Schema) versions {
	if schema == 1 {
		return versions{release: v.get("extv").scalar(), display: v.get("appv").scalar()}
	}
	return versions{v.get("appVersion").scalar(), v.get("displayVersion").scalar(), v.get("platformVersion").scalar()}
}

type attributeKey struct {
	key, name string
	url       bool
}

// attributesOf lists the optional attributes of the update line of a schema in their order, but for isOSUpdate, which
// belongs behind licenseURL.
func attributesOf(schema Schema) []attributeKey {
	keys := []attributeKey{{"detailsUrl", "detailsURL", true}, {"licenseUrl", "licenseURL", true}}
	switch schema {
	case 1:
		return keys
	case 9:
		return nil
	}
	if schema < 6 {
		keys = append(keys, attributeKey{"billboardURL", "billboardURL", true})
	}
	for _, name := range []string{"showPrompt", "showNeverForVersion", "actions", "openURL", "notificationURL", "alertURL"} {
		keys = append(keys, attributeKey{name, name, strings.HasSuffix(name, "URL")})
	}
	if schema >= 5 {
		keys = append(keys, attributeKey{"promptWaitTime", "promptWaitTime", false})
	}
	if schema == 8 {
		for _, name := range []string{"binTransMerkleRoot", "binTransCertificate", "binTransSCTList"} {
			keys = append(keys, attributeKey{name, name, false})
		}
	}
	return keys
}

// lineURLs are the fields of schema 9's updateLine in which %LOCALE% is replaced.
var lineURLs = []string{"openURL", "notificationURL", "alertURL", "detailsURL"}

// lineFields are the fields of schema 9's updateLine that are printed.
var lineFields = []string{
	"type", "detailsURL", "actions", "openURL", "notificationURL", "alertURL", "showPrompt", "showNeverForVersion",
	"promptWaitTime", "disableBITS", "disableBackgroundUpdates",
}

func newLineGroup(v *value) lineGroup {
	g := lineGroup{hasConditions: v.has("for"), hasFields: v.has("fields")}
	for _, m := range v.get("for").members {
		for _, item := range m.value.items {
			s := item.scalar().text
			switch m.key {
			case "locales":
				g.locales = append(g.locales, s)
			case "channels":
				g.channels = append(g.channels, newChannelPattern(s))
			case "versions":
				g.versions = append(g.versions, compileVersions(s, func(Severity, Quirk, string) {}, nil))
			case "buildIDs":
				g.buildIDs = append(g.buildIDs, newBuildIDPattern(s))
			}
		}
		switch m.key {
		case "locales":
			g.set[0] = true
		case "channels":
			g.set[1] = true
		case "versions":
			g.set[2] = true
		case "buildIDs":
			g.set[3] = true
		default:
			g.unknown = true
		}
	}
	for _, m := range v.get("fields").members {
		g.fields = append(g.fields, attribute{m.key, m.value.scalar(), slices.Contains(lineURLs, m.key)})
	}
	return g
}

func newNames(v *value) names {
	n := names{completes: namedTexts(v.get("completes")), partials: namedTexts(v.get("partials"))}
	if c := v.get("complete"); c.kind != object && c.kind != list {
		n.complete = c.scalar()
	}
	if p := v.get("partial"); p.kind != object && p.kind != list {
		n.partial = p.scalar()
	}
	return n
}

func namedTexts(v *value) []namedText {
	var list []namedText
	for _, m := range v.members {
		list = append(list, namedText{m.key, m.value.scalar()})
	}
	return list
}

func findText(list []namedText, name string) scalar {
	for i := range list {
		if list[i].name == name {
			return list[i].text
		}
	}
	return scalar{}
}

func (p *packer) single(v *value) []packedPatch {
	if v.kind == absent {
		return nil
	}
	return []packedPatch{p.patch(v)}
}

func (p *packer) patches(v *value) []packedPatch {
	if len(v.items) == 0 {
		return nil
	}
	list := make([]packedPatch, 0, len(v.items))
	for i := range v.items {
		list = append(list, p.patch(&v.items[i]))
	}
	return list
}

func (p *packer) patch(v *value) packedPatch {
	return packedPatch{
		from: p.scalar(v.get("from")), size: p.scalar(v.get("filesize")), hash: p.scalar(v.get("hashValue")),
		url: p.scalar(v.get("fileUrl")), proof: p.scalar(v.get("binTransInclusionProof")), isObject: v.kind == object,
	}
}

// platform returns the entry of a platform by its name, without following an alias.
func (r *appRelease) platform(name string) *platform {
	i, ok := slices.BinarySearchFunc(r.platforms, name, func(p platform, name string) int { return strings.Compare(p.name, name) })
	if !ok {
		return nil
	}
	return &r.platforms[i]
}

// resolve follows an alias once. resolved is the name that the entry was looked for under; p is nil where there is no
// such entry, and known tells whether the name itself is there.
func (r *appRelease) resolve(name string) (p *platform, resolved string, known bool) {
	p = r.platform(name)
	if p == nil {
		return nil, name, false
	}
	if p.alias.kind == absent {
		return p, name, true
	}
	return r.platform(p.alias.text), p.alias.text, true
}

func (p *platform) locale(name string) *locale {
	i, ok := slices.BinarySearchFunc(p.locales, name, func(l locale, name string) int { return strings.Compare(l.name, name) })
	if !ok {
		return nil
	}
	return &p.locales[i]
}

// addons is what gmp and system add-on releases offer.
type addons struct {
	hashFunction scalar
	uninstall    bool
	has          bool    // the release has the key at all
	vendors      []addon // by name
}

type addon struct {
	name         string
	version      scalar
	hasPlatforms bool
	platforms    []addonFile // by name
}

type addonFile struct {
	platform, alias string
	isAlias         bool
	size, hash, url scalar
	mirrors         []string
}

func newAddons(v *value, key string) *addons {
	a := &addons{hashFunction: v.get("hashFunction").scalar(), uninstall: v.get("uninstall").truthy(), has: v.has(key)}
	for _, m := range v.get(key).members {
		one := addon{name: m.key, version: m.value.get("version").scalar(), hasPlatforms: m.value.has("platforms")}
		for _, m := range m.value.get("platforms").members {
			f := addonFile{
				platform: m.key, isAlias: m.value.has("alias"), alias: m.value.get("alias").scalar().text,
				size: m.value.get("filesize").scalar(), hash: m.value.get("hashValue").scalar(), url: m.value.get("fileUrl").scalar(),
			}
			for _, mirror := range m.value.get("mirrorUrls").items {
				f.mirrors = append(f.mirrors, mirror.scalar().text)
			}
			one.platforms = append(one.platforms, f)
		}
		slices.SortFunc(one.platforms, func(a, b addonFile) int { return strings.Compare(a.platform, b.platform) })
		a.vendors = append(a.vendors, one)
	}
	slices.SortFunc(a.vendors, func(a, b addon) int { return strings.Compare(a.name, b.name) })
	return a
}

func (a *addon) file(platform string) *addonFile {
	i, ok := slices.BinarySearchFunc(a.platforms, platform, func(f addonFile, name string) int { return strings.Compare(f.platform, name) })
	if !ok {
		return nil
	}
	return &a.platforms[i]
}

// superblob names what it gathers.
type superblob struct {
	products, releases []string
}

func newSuperblob(v *value) *superblob {
	s := &superblob{}
	for _, item := range v.get("products").items {
		s.products = append(s.products, item.scalar().text)
	}
	for _, item := range v.get("blobs").items {
		s.releases = append(s.releases, item.scalar().text)
	}
	return s
}

type desupport struct{ detailsURL, displayVersion scalar }

// guardian is a release that is answered as JSON.
type guardian struct {
	version      scalar
	loose        []looseItem
	required     scalar
	hashFunction scalar
	platforms    []guardianFile
}

type guardianFile struct {
	platform  string
	url, hash scalar
}

func newGuardian(v *value) *guardian {
	g := &guardian{version: v.get("version").scalar(), required: v.get("required").scalar(), hashFunction: v.get("hashFunction").scalar()}
	g.loose = parseLoose(g.version.text)
	for _, m := range v.get("platforms").members {
		g.platforms = append(g.platforms, guardianFile{m.key, m.value.get("fileUrl").scalar(), m.value.get("hashValue").scalar()})
	}
	return g
}

func (g *guardian) file(platform string) *guardianFile {
	for i := range g.platforms {
		if g.platforms[i].platform == platform {
			return &g.platforms[i]
		}
	}
	return nil
}
