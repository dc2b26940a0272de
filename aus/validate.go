package aus

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ErrInvalid says that a release's document breaks the rules of its schema. The error is a [*ValidationError].
var ErrInvalid = errors.New("aus: invalid release")

// A Check names one of the steps in which a release's document is validated.
type Check string

// The steps, in their order.
const (
	CheckSchema   Check = "schema"   // keys and kinds of values
	CheckDomains  Check = "domains"  // an address on a host that is not allowed
	CheckHashes   Check = "hashes"   // a hash whose length is not that of its function
	CheckConflict Check = "conflict" // two groups of updateLine that set one field for one client
)

// ValidationError says what is wrong with a release's document: everything that the first step found that found something.
type ValidationError struct {
	Check    Check    // the first check that failed
	Messages []string // each with the path of the value
	// Balrog are the messages in its words, where they are known, else as in Messages.
	Balrog []string
}

func (e *ValidationError) Error() string {
	return fmt.Sprintf("aus: invalid release: %s: %s", e.Check, strings.Join(e.Messages, "; "))
}

// Is makes errors.Is(err, ErrInvalid) true.
func (e *ValidationError) Is(target error) bool { return target == ErrInvalid }

// ValidateOptions say what a document is validated for.
type ValidateOptions struct {
	Product   string    // which the release is saved for
	AllowList AllowList // hosts that the document may name
	// Strict imitates Balrog: it looks at the length of hashes in gmp releases only, refuses some groups of
	// updateLine that cannot both apply, and takes others that can.
	Strict bool
	// AnyHash looks at the length of hashes in gmp releases only, as Balrog does, and is else not strict.
	AnyHash bool
	Limits  Limits // that the document must keep to
}

// Validate says whether a document may be saved as a release. The error is a [*ValidationError], or matches [ErrFormat] or
// [ErrLimit]. What a release needs beyond its schema to be served depends on others, and is for [Compile] to say.
func Validate(document []byte, opts ValidateOptions) error {
	v, err := parseValue(string(document), opts.Limits)
	if err != nil {
		return err
	}
	c := &checker{opts: &opts}
	c.schema(&v)
	if c.failed(CheckSchema) {
		return c.err()
	}
	c.domains(&v)
	if c.failed(CheckDomains) {
		return c.err()
	}
	schema := schemaOf(&v)
	if schema == SchemaGMP || !opts.Strict && !opts.AnyHash {
		c.hashes(&v)
	}
	if c.failed(CheckHashes) {
		return c.err()
	}
	if schema == 9 {
		c.conflicts(&v)
	}
	if c.failed(CheckConflict) {
		return c.err()
	}
	return nil
}

type checker struct {
	opts     *ValidateOptions
	check    Check
	messages []string
	balrog   []string
}

// maxMessages is how many messages one error has at most.
const maxMessages = 100

func (c *checker) report(path, format string, args ...any) {
	if len(c.messages) < maxMessages {
		if path == "" {
			path = "document"
		}
		c.messages = append(c.messages, path+": "+fmt.Sprintf(format, args...))
		c.balrog = append(c.balrog, c.messages[len(c.messages)-1])
	}
}

// reportAs reports something that Balrog says in other words.
func (c *checker) reportAs(balrog, path, format string, args ...any) {
	n := len(c.messages)
	if c.report(path, format, args...); len(c.messages) > n {
		c.balrog[n] = balrog
	}
}

func (c *checker) failed(check Check) bool {
	c.check = check
	return len(c.messages) > 0
}

func (c *checker) err() error { return &ValidationError{c.check, c.messages, c.balrog} }

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// shape checks one value.
type shape func(c *checker, v *value, path string)

var kindNames = [...]string{"nothing", "null", "a boolean", "a number", "a text", "a list", "an object"}

func ofKind(k kind) shape {
	return func(c *checker, v *value, path string) {
		if v.kind != k {
			c.report(path, "want %s, got %s", kindNames[k], kindNames[v.kind])
		}
	}
}

var (
	isText    = ofKind(text)
	isBoolean = ofKind(boolean)
	isNumber  = ofKind(number)
)

// isName is a text of 1 to 100 characters.
func isName(c *checker, v *value, path string) {
	isText(c, v, path)
	if n := len([]rune(v.text)); v.kind == text && (n == 0 || n > 100) {
		c.report(path, "want 1 to 100 characters, got %d", n)
	}
}

// isDigits is a number, or a text of digits.
func isDigits(c *checker, v *value, path string) {
	if v.kind != number && (v.kind != text || v.text != "" && !allDigits(v.text)) {
		c.report(path, "want a number, or digits in quotes")
	}
}

// fields is an object of known keys.
func fields(required []string, known map[string]shape) shape {
	return func(c *checker, v *value, path string) {
		if v.kind != object {
			c.report(path, "want an object, got %s", kindNames[v.kind])
			return
		}
		for _, key := range required {
			if !v.has(key) {
				c.reportAs("'"+key+"' is a required property", path, "%s is missing", key)
			}
		}
		for i := range v.members {
			m := &v.members[i]
			check, ok := known[m.key]
			if !ok {
				c.reportAs("Additional properties are not allowed ('"+m.key+"' was unexpected)", path, "there is no key %q here", m.key)
				continue
			}
			check(c, &m.value, join(path, m.key))
		}
	}
}

// each is an object of any keys with one kind of value.
func each(check shape) shape {
	return func(c *checker, v *value, path string) {
		if v.kind != object {
			c.report(path, "want an object, got %s", kindNames[v.kind])
			return
		}
		for i := range v.members {
			check(c, &v.members[i].value, join(path, v.members[i].key))
		}
	}
}

// listOf is a list of one kind of value.
func listOf(check shape) shape {
	return func(c *checker, v *value, path string) {
		if v.kind != list {
			c.report(path, "want a list, got %s", kindNames[v.kind])
			return
		}
		for i := range v.items {
			check(c, &v.items[i], path+"["+strconv.Itoa(i)+"]")
		}
	}
}

// oneOf is one of these texts.
func oneOf(texts ...string) shape {
	return func(c *checker, v *value, path string) {
		if v.kind != text || !slices.Contains(texts, v.text) {
			c.report(path, "want one of %s", strings.Join(texts, ", "))
		}
	}
}

func isTrue(c *checker, v *value, path string) {
	if v.kind != boolean || v.text != "true" {
		c.report(path, "want true; leave it out otherwise")
	}
}

func anything(*checker, *value, string) {}

// aliasOr takes any object that has the key alias.
func aliasOr(check shape) shape {
	return func(c *checker, v *value, path string) {
		if v.kind == object && v.has("alias") {
			isText(c, v.get("alias"), join(path, "alias"))
			return
		}
		check(c, v, path)
	}
}

// schema checks keys and kinds.
func (c *checker) schema(v *value) {
	if v.kind != object {
		c.report("", "want an object, got %s", kindNames[v.kind])
		return
	}
	if !v.has("schema_version") {
		c.reportAs("schema_version is not set", "", "schema_version is missing")
		return
	}
	s := schemaOf(v)
	switch {
	case s.App():
		appShape(s)(c, v, "")
	case s == SchemaDesupport:
		fields([]string{"name", "schema_version", "detailsUrl", "displayVersion"}, map[string]shape{
			"name": isName, "product": isName, "schema_version": anything, "detailsUrl": isText, "displayVersion": isText,
		})(c, v, "")
	case s == SchemaGMP:
		fields([]string{"name", "schema_version", "hashFunction", "vendors"}, map[string]shape{
			"name": isName, "product": isName, "schema_version": anything, "hashFunction": isText, "vendors": each(addonShape(true)),
		})(c, v, "")
	case s == SchemaSystemAddons:
		fields([]string{"name", "schema_version"}, map[string]shape{
			"name": isName, "product": isName, "schema_version": anything, "hashFunction": isText, "uninstall": isBoolean, "addons": each(addonShape(false)),
		})(c, v, "")
		if v.has("uninstall") == v.has("addons") {
			c.report("", "want either uninstall or addons")
		}
	case s == SchemaSuperblob:
		fields([]string{"name", "schema_version"}, map[string]shape{
			"name": isName, "product": isName, "schema_version": anything, "products": listOf(isName), "blobs": listOf(isName),
		})(c, v, "")
		if v.has("products") == v.has("blobs") {
			c.report("", "want either products or blobs")
		}
	case s == SchemaGuardian:
		fields([]string{"name", "product", "schema_version", "platforms", "version", "hashFunction"}, map[string]shape{
			"name": isName, "product": isName, "schema_version": anything, "version": isText, "hashFunction": isText, "required": isBoolean,
			"platforms": each(fields([]string{"fileUrl", "hashValue"}, map[string]shape{"fileUrl": isText, "hashValue": isText})),
		})(c, v, "")
	default:
		c.reportAs("schema_version is unknown", "schema_version", "there is no schema %s", v.get("schema_version").scalar().text)
	}
}

func addonShape(mirrors bool) shape {
	file := map[string]shape{"filesize": isNumber, "hashValue": isText, "fileUrl": isText}
	if mirrors {
		file["mirrorUrls"] = listOf(isText)
	}
	return fields([]string{"version"}, map[string]shape{
		"version":   isText,
		"platforms": each(aliasOr(fields([]string{"filesize", "hashValue", "fileUrl"}, file))),
	})
}

// appShape is the shape of an application's release.
func appShape(s Schema) shape {
	top := map[string]shape{"name": isName, "product": isName, "schema_version": anything, "hashFunction": isText}
	add := func(check shape, keys ...string) {
		for _, key := range keys {
			top[key] = check
		}
	}
	switch s {
	case 1:
		add(isText, "extv", "appv", "detailsUrl", "licenseUrl")
		add(isBoolean, "fakePartials", "oldVersionSpecialCases")
	case 9:
		add(isText, "appVersion", "displayVersion", "binTransMerkleRoot", "binTransCertificate", "binTransSCTList")
		top["updateLine"] = listOf(lineShape())
	default:
		add(isText, "appVersion", "displayVersion", "detailsUrl", "actions", "openURL", "notificationURL", "alertURL")
		add(isBoolean, "showPrompt", "showNeverForVersion")
		if s < 6 {
			add(isText, "platformVersion", "licenseUrl", "billboardURL")
		}
		if s >= 5 {
			add(isNumber, "promptWaitTime")
		}
		if s == 8 {
			add(isText, "binTransMerkleRoot", "binTransCertificate", "binTransSCTList")
		}
	}
	file := map[string]shape{"filesize": isDigits, "from": isText, "hashValue": isText, "fileUrl": isText}
	required := []string{"filesize", "from", "hashValue"}
	if s == 8 || s == 9 {
		file["binTransInclusionProof"] = isText
	}
	if s == 8 {
		required = append(required, "binTransInclusionProof")
	}
	patch := fields(required, file)
	loc := map[string]shape{"buildID": isDigits}
	if s == 1 {
		loc["appv"], loc["extv"] = isText, isText
	} else {
		loc["appVersion"], loc["displayVersion"] = isText, isText
		if s != 9 {
			loc["isOSUpdate"] = isBoolean
		}
		if s < 6 {
			loc["platformVersion"] = isText
		}
	}
	switch {
	case s < 3:
		loc["partial"] = patch
		loc["complete"] = func(c *checker, v *value, path string) {
			patch(c, v, path)
			if from := v.get("from"); from.kind == text && from.text != "*" {
				c.report(join(path, "from"), `want "*"`)
			}
		}
		two := fields(nil, map[string]shape{"partial": isText, "complete": isText})
		top["fileUrls"], top["ftpFilenames"], top["bouncerProducts"] = each(isText), two, two
	default:
		loc["partials"], loc["completes"] = listOf(patch), listOf(patch)
		byFrom := fields(nil, map[string]shape{"partials": each(isText), "completes": each(isText)})
		if s == 3 {
			top["fileUrls"], top["ftpFilenames"], top["bouncerProducts"] = each(isText), byFrom, byFrom
		} else {
			top["fileUrls"] = each(byFrom)
		}
	}
	top["platforms"] = each(aliasOr(fields(nil, map[string]shape{
		"buildID": isDigits, "OS_BOUNCER": isText, "OS_FTP": isText, "locales": each(fields(nil, loc)),
	})))
	return fields([]string{"name", "schema_version", "hashFunction"}, top)
}

// lineShape is the shape of a group of updateLine.
func lineShape() shape {
	version := func(c *checker, v *value, path string) {
		isText(c, v, path)
		if v.kind == text && !versionCondition(v.text) {
			c.report(path, "%q is no version, nor a list of versions without operators", v.text)
		}
	}
	buildID := func(c *checker, v *value, path string) {
		isText(c, v, path)
		if _, operand, full := splitOperator(v.text); v.kind == text && (operand != full || !allDigits(operand)) {
			c.report(path, "%q is no build ID", v.text)
		}
	}
	return fields([]string{"for", "fields"}, map[string]shape{
		"for": fields(nil, map[string]shape{
			"locales": listOf(isText), "channels": listOf(isText), "versions": listOf(version), "buildIDs": listOf(buildID),
		}),
		"fields": fields(nil, map[string]shape{
			"type": oneOf("minor", "major"), "detailsURL": isText, "actions": isText, "openURL": isText, "notificationURL": isText,
			"alertURL": isText, "showPrompt": isBoolean, "showNeverForVersion": isBoolean, "promptWaitTime": isNumber,
			"disableBITS": isTrue, "disableBackgroundUpdates": isTrue,
		}),
	})
}

// ValidVersions says whether a text may be a rule's version to Balrog: one with an operator or a wildcard or without, or a list of
// versions without operators. Rules may have others here, which are ordered as the toolkit orders them.
func ValidVersions(s string) bool { return versionCondition(s) }

// versionCondition says whether a text may be a condition on versions.
func versionCondition(s string) bool {
	if strings.Contains(s, ",") {
		for field := range strings.SplitSeq(s, ",") {
			op, _, full := splitOperator(field)
			if v := parseVersion(full); op != equal && op != glob || !v.valid {
				return false
			}
		}
		return true
	}
	op, _, full := splitOperator(s)
	v := parseVersion(full)
	return op != noOperator && v.valid
}

// eachAddress calls f with each address that an update may come from.
func eachAddress(v *value, f func(path string, address *value)) {
	s := schemaOf(v)
	files := func(path string, v *value) {
		if v.kind == list {
			for i := range v.items {
				f(path+"["+strconv.Itoa(i)+"].fileUrl", v.items[i].get("fileUrl"))
			}
			return
		}
		f(join(path, "fileUrl"), v.get("fileUrl"))
	}
	switch {
	case s.App():
		for _, m := range v.get("fileUrls").members {
			path := "fileUrls." + m.key
			f(path, &m.value)
			for _, kind := range []string{"completes", "partials"} {
				for _, m := range m.value.get(kind).members {
					f(path+"."+kind+"."+m.key, &m.value)
				}
			}
		}
		for _, p := range v.get("platforms").members {
			for _, l := range p.value.get("locales").members {
				path := "platforms." + p.key + ".locales." + l.key
				for _, kind := range []string{"complete", "completes", "partial", "partials"} {
					files(join(path, kind), l.value.get(kind))
				}
			}
		}
	case s == SchemaGMP || s == SchemaSystemAddons:
		key := "vendors"
		if s == SchemaSystemAddons {
			key = "addons"
		}
		for _, m := range v.get(key).members {
			for _, p := range m.value.get("platforms").members {
				path := key + "." + m.key + ".platforms." + p.key
				files(path, &p.value)
				for i := range p.value.get("mirrorUrls").items {
					f(path+".mirrorUrls", &p.value.get("mirrorUrls").items[i])
				}
			}
		}
	case s == SchemaGuardian:
		for _, p := range v.get("platforms").members {
			files("platforms."+p.key, &p.value)
		}
	}
}

func (c *checker) domains(v *value) {
	allowed := compileHosts(c.opts.AllowList, func(p Problem) { c.report(p.Path, "%s", p.Message) })
	eachAddress(v, func(path string, address *value) {
		if address.kind == text && !allowed.allow(address.text, c.opts.Product) {
			c.report(path, "%q is on a host that is not allowed for %s", address.text, c.opts.Product)
		}
	})
}

// hashLengths are the lengths of hashes in hexadecimal.
var hashLengths = map[string]int{"md5": 32, "sha1": 40, "sha256": 64, "sha384": 96, "sha512": 128}

func (c *checker) hashes(v *value) {
	function := v.get("hashFunction")
	if function.kind == absent {
		return
	}
	name := strings.ToLower(function.text)
	length, ok := hashLengths[name]
	if schemaOf(v) == SchemaGMP && length < 64 {
		ok = false
	}
	if !ok {
		c.report("hashFunction", "%q is no known function", function.text)
		return
	}
	eachHash(v, func(path string, hash *value) {
		if hash.kind == text && len(hash.text) != length {
			c.report(path, "a hash of %d characters, want %d of %s", len(hash.text), length, name)
		}
	})
}

// eachHash calls f with each hash of a document.
func eachHash(v *value, f func(path string, hash *value)) {
	var walk func(v *value, path string)
	walk = func(v *value, path string) {
		for i := range v.members {
			m := &v.members[i]
			if m.key == "hashValue" {
				f(join(path, m.key), &m.value)
				continue
			}
			walk(&m.value, join(path, m.key))
		}
		for i := range v.items {
			walk(&v.items[i], path+"["+strconv.Itoa(i)+"]")
		}
	}
	walk(v, "")
}
