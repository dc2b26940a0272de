package aus

import (
	"net/http"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Form is the kind of address by which a client asks; it decides which fields a query has.
type Form uint8

// The forms of addresses. A field that a form lacks is not part of the query, whatever its value.
const (
	FormNone  Form = iota
	Form1          // /update/1/PRODUCT/VERSION/BUILDID/TARGET/LOCALE/CHANNEL/update.xml
	Form2          // … CHANNEL/OSVERSION/update.xml
	Form3          // … CHANNEL/OSVERSION/DISTRIBUTION/DISTVERSION/update.xml
	Form4          // … DISTVERSION/PLATFORMVERSION/update.xml
	Form5          // … DISTVERSION/IMEI/update.xml
	Form6          // … CHANNEL/OSVERSION/CAPABILITIES/DISTRIBUTION/DISTVERSION/update.xml
	FormJSON1      // /json/1/PRODUCT/VERSION/TARGET/CHANNEL/update.json
	FormJSON2      // /json/2/PRODUCT/VERSION/TARGET/CHANNEL/OSVERSION/update.json
)

// JSON says whether the form is answered with JSON.
func (f Form) JSON() bool { return f == FormJSON1 || f == FormJSON2 }

// distributions says whether a query of this form has distribution and distVersion.
func (f Form) distributions() bool { return f >= Form3 && f <= Form6 }

// Force is what a client asks of a throttled rule.
type Force int8

// The values of the parameter force.
const (
	NoForce       Force = iota
	ForceMain           // force=1: the rule's mapping, whatever its rate
	ForceFallback       // force=-1: the rule's fallback mapping
)

// Flag is a yes, a no, or neither.
type Flag uint8

// The values of a flag.
const (
	Unknown Flag = iota
	No
	Yes
)

func flagOf(b bool) Flag {
	if b {
		return Yes
	}
	return No
}

// Query is what one client says about itself. [ParseURL] makes one of an address; who makes one by hand sets Form,
// which says which fields count.
type Query struct {
	Form        Form
	Product     string // name, as all up to OSVersion are spelled by the client
	Version     string // of the application
	BuildID     string // usually 14 digits
	BuildTarget string // "Linux_x86_64-gcc3"
	Locale      string // "en-US"
	Channel     string // update channel: "release"
	OSVersion   string // "Windows_NT 10.0.0.0"

	// InstructionSet, Memory and JAWS come from the system capabilities of Form6. InstructionSetUnknown says
	// that the client sent capabilities that do not tell it.
	InstructionSet        string
	InstructionSetUnknown bool
	Memory                int64 // megabytes; counts with MemoryKnown
	MemoryKnown           bool
	JAWS                  Flag

	Distribution string // name of a partner's build; "default" is none
	DistVersion  string // its version
	// HeaderArchitecture is "PPC" or "Intel", from the User-Agent; no part of JSON queries.
	HeaderArchitecture string

	Force  Force  // whether the user asked by hand, and what that leaves out
	Mig64  Flag   // whether a 32-bit client may go over to 64 bits
	Pin    string // counts with HasPin
	HasPin bool
}

// complete says whether the query has build ID, target and locale, which JSON queries lack.
func (q *Query) complete() bool { return !q.Form.JSON() && q.Form != FormNone }

// pair is one name and value of a query string.
type pair struct{ name, value string }

// route is what a path was recognised as.
type route struct {
	query   Query
	caps    string // the capabilities before they were made ASCII
	allowed []string
}

var (
	parametersAll   = []string{"avast", "force", "mig64", "pin"}
	parametersNoPin = []string{"avast", "force", "mig64"}
	parametersForce = []string{"force"}
)

// ParseURL reads the address of a client's request: the path and query as they came, percent-encoded, with or without
// scheme and host. Of the header only User-Agent counts. ok is false where the path is none of the forms; parameters
// that a form does not know are ignored. It never fails on what a client sends in a field: what cannot be right matches
// nothing. Source of the forms: the public API of Mozilla's Balrog.
func ParseURL(url string, header http.Header) (q Query, ok bool) {
	path, query := splitURL(url)
	r, ok := parsePath(decodePath(path))
	if !ok {
		return Query{}, false
	}
	r.fill(parsePairs(query), url, header.Get("User-Agent"))
	return r.query, true
}

// splitURL cuts scheme, host and fragment off, and the rest at the first "?".
func splitURL(url string) (path, query string) {
	url, _, _ = strings.Cut(url, "#")
	if i := strings.Index(url, "://"); i > 0 && !strings.ContainsAny(url[:i], "/?") {
		url = url[i+3:]
		if i := strings.IndexAny(url, "/?"); i >= 0 {
			url = url[i:]
		} else {
			url = ""
		}
	}
	path, query, _ = strings.Cut(url, "?")
	return path, query
}

// decodePath decodes percent signs before the path is split; what is not UTF-8 becomes U+FFFD, and slashes at the
// begin count as one.
func decodePath(path string) string {
	path = unescape(path, false)
	if strings.HasPrefix(path, "//") {
		path = "/" + strings.TrimLeft(path, "/")
	}
	return path
}

// unescape decodes %XX, and "+" as a blank where plus is set. A percent sign that begins no escape stays.
func unescape(s string, plus bool) string {
	if strings.IndexByte(s, '%') >= 0 || plus && strings.IndexByte(s, '+') >= 0 {
		b := make([]byte, 0, len(s))
		for i := 0; i < len(s); i++ {
			switch {
			case s[i] == '%' && i+2 < len(s) && unhex(s[i+1]) >= 0 && unhex(s[i+2]) >= 0:
				b = append(b, byte(unhex(s[i+1])<<4|unhex(s[i+2])))
				i += 2
			case s[i] == '+' && plus:
				b = append(b, ' ')
			default:
				b = append(b, s[i])
			}
		}
		s = string(b)
	}
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		b.WriteRune(r) // U+FFFD for each byte that is no UTF-8
	}
	return b.String()
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// maxSegments is more than any form has.
const maxSegments = 16

// parsePath recognises a decoded path.
func parsePath(path string) (r route, ok bool) {
	var buffer [maxSegments]string
	s := buffer[:0]
	rest, rooted := strings.CutPrefix(path, "/")
	for more := rooted; more; {
		var field string
		field, rest, more = strings.Cut(rest, "/")
		if field == "" || len(s) == maxSegments {
			return route{}, false
		}
		s = append(s, field)
	}
	if len(s) < 7 {
		return route{}, false
	}
	q := &r.query
	switch {
	case s[0] == "json" && s[len(s)-1] == "update.json":
		switch {
		case s[1] == "1" && len(s) == 7:
			q.Form = FormJSON1
		case s[1] == "2" && len(s) == 8:
			q.Form, q.OSVersion = FormJSON2, s[6]
		default:
			return route{}, false
		}
		q.Product, q.Version, q.BuildTarget, q.Channel = s[2], s[3], s[4], s[5]
		r.allowed = parametersForce
		return r, true
	case s[0] != "update" || s[len(s)-1] != "update.xml" || len(s[1]) != 1:
		return route{}, false
	}
	form, want := Form(s[1][0]-'0'), 0
	switch form {
	case Form1:
		want = 9
	case Form2:
		want = 10
	case Form3:
		want = 12
	case Form4, Form5, Form6:
		want = 13
	}
	if len(s) != want {
		return route{}, false
	}
	q.Form, q.Product, q.Version, q.BuildID, q.BuildTarget, q.Locale, q.Channel = form, s[2], s[3], s[4], s[5], s[6], s[7]
	r.allowed = parametersAll
	switch form {
	case Form2:
		q.OSVersion = s[8]
		r.allowed = parametersNoPin
	case Form3:
		q.OSVersion, q.Distribution, q.DistVersion = s[8], s[9], s[10]
		if v, ok := strings.CutSuffix(q.Version, "esrpre"); ok && v != "" {
			q.Version = v
		}
	case Form4, Form5:
		q.OSVersion, q.Distribution, q.DistVersion = s[8], s[9], s[10]
	case Form6:
		q.OSVersion, r.caps, q.Distribution, q.DistVersion = s[8], s[9], s[10], s[11]
	}
	return r, true
}

// parsePairs splits a query string.
func parsePairs(query string) []pair {
	var pairs []pair
	for query != "" {
		var field string
		field, query, _ = strings.Cut(query, "&")
		if field == "" {
			continue
		}
		name, v, _ := strings.Cut(field, "=")
		pairs = append(pairs, pair{unescape(name, true), unescape(v, true)})
	}
	return pairs
}

// last returns the last value of a name.
func last(pairs []pair, name string) (string, bool) {
	for i := len(pairs) - 1; i >= 0; i-- {
		if pairs[i].name == name {
			return pairs[i].value, true
		}
	}
	return "", false
}

// knows says whether the route takes a parameter.
func (r *route) knows(name string) bool {
	for _, n := range r.allowed {
		if n == name {
			return true
		}
	}
	return false
}

// fill sets what comes from parameters and header, and brings the fields into the form in which they are compared.
func (r *route) fill(pairs []pair, url, agent string) {
	q := &r.query
	force, _ := last(pairs, "force")
	if q.Form.JSON() {
		q.Force = parseForce(force)
		return
	}
	force = ascii(force)
	if strings.Contains(force, "avast") {
		force = cutAvast(force)
	}
	q.Force = parseForce(force)
	if mig64, ok := last(pairs, "mig64"); ok {
		q.Mig64 = flagOf(mig64 == "1")
	}
	if pin, ok := last(pairs, "pin"); ok && r.knows("pin") {
		q.Pin, q.HasPin = ascii(pin), true
	}
	for _, field := range []*string{
		&q.Product, &q.Version, &q.BuildID, &q.BuildTarget, &q.Locale, &q.Channel, &q.OSVersion,
		&q.Distribution, &q.DistVersion,
	} {
		*field = ascii(*field)
	}
	if strings.Contains(q.Locale, "x86 ") {
		q.Locale = strings.ReplaceAll(q.Locale, "x86 ", "")
	}
	if urlVersion(url) == "1" {
		q.OSVersion = ""
	}
	if q.Form == Form6 {
		q.parseCapabilities(r.caps)
	}
	q.HeaderArchitecture = "Intel"
	if strings.HasPrefix(q.BuildTarget, "Darwin") && strings.Contains(agent, "PPC") {
		q.HeaderArchitecture = "PPC"
	}
}

func parseForce(s string) Force {
	switch s {
	case "1":
		return ForceMain
	case "-1":
		return ForceFallback
	}
	return NoForce
}

// cutAvast undoes what one antivirus program does to addresses: it appends "?avast=1" to the value of force.
func cutAvast(force string) string {
	if left, _, ok := strings.Cut(force, "?"); ok {
		return left
	}
	if left, right, ok := strings.Cut(force, "%3F"); ok {
		if _, v, ok := strings.Cut(right, "="); ok {
			if _, ok := parseInt(v); ok {
				return left
			}
		}
	}
	return force
}

// urlVersion returns the digits of the last "/update/DIGITS/" of the whole address that is followed by ".xml".
func urlVersion(url string) string {
	end := strings.LastIndex(url, ".xml")
	if end < 0 {
		return ""
	}
	url = url[:end]
	for {
		i := strings.LastIndex(url, "/update/")
		if i < 0 {
			return ""
		}
		n := i + len("/update/")
		for n < len(url) && url[n] >= '0' && url[n] <= '9' {
			n++
		}
		if n > i+len("/update/") && n < len(url) && url[n] == '/' {
			return url[i+len("/update/") : n]
		}
		url = url[:i]
	}
}

// ascii replaces each character outside ASCII by "?".
func ascii(s string) string {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return strings.Map(func(r rune) rune {
				if r >= utf8.RuneSelf {
					return '?'
				}
				return r
			}, s)
		}
	}
	return s
}

// parseCapabilities reads the system capabilities: "ISET:SSE3,MEM:8192,JAWS:0", or the older "SSE3" and "SSE3,8192".
func (q *Query) parseCapabilities(s string) {
	if strings.HasPrefix(s, "ISET:") {
		for field := range strings.SplitSeq(s, ",") {
			key, v, ok := strings.Cut(field, ":")
			if !ok {
				continue
			}
			switch key {
			case "ISET":
				q.InstructionSet = v
			case "MEM":
				q.Memory, q.MemoryKnown = parseInt(v)
			case "JAWS":
				q.JAWS = Unknown
				if n, ok := parseInt(v); ok {
					q.JAWS = flagOf(n != 0)
				}
			}
		}
		return
	}
	set, rest, more := strings.Cut(s, ",")
	if !more {
		q.InstructionSet = set
		return
	}
	if strings.Contains(rest, ",") {
		q.InstructionSetUnknown = true
		return
	}
	q.InstructionSet = set
	q.Memory, q.MemoryKnown = parseInt(rest)
}

// parseInt reads a whole number as Python's int does: blanks around, one sign, single underscores between digits, decimal
// digits of any script. What does not fit into 64 bits counts as the nearest number that does.
func parseInt(s string) (int64, bool) {
	s = strings.TrimFunc(s, unicode.IsSpace)
	negative := false
	if s != "" && (s[0] == '+' || s[0] == '-') {
		negative = s[0] == '-'
		s = s[1:]
	}
	var plain []byte
	underscore := true // none may come first
	for _, r := range s {
		if r == '_' {
			if underscore {
				return 0, false
			}
			underscore = true
			continue
		}
		d, ok := decimal(r)
		if !ok {
			return 0, false
		}
		plain = append(plain, d)
		underscore = false
	}
	if underscore {
		return 0, false
	}
	n, err := strconv.ParseInt(string(plain), 10, 64) // the largest where it does not fit
	if err != nil && len(plain) == 0 {
		return 0, false
	}
	if negative {
		n = -n
	}
	return n, true
}

// decimal returns the digit that a character of any script stands for.
func decimal(r rune) (byte, bool) {
	if r >= '0' && r <= '9' {
		return byte(r), true
	}
	if !unicode.Is(unicode.Nd, r) {
		return 0, false
	}
	// Decimal digits come in runs of ten, and runs may touch: count back to the start of the range.
	for _, t := range unicode.Nd.R16 {
		if rune(t.Lo) <= r && r <= rune(t.Hi) {
			return '0' + byte((r-rune(t.Lo))%10), true
		}
	}
	for _, t := range unicode.Nd.R32 {
		if rune(t.Lo) <= r && r <= rune(t.Hi) {
			return '0' + byte((r-rune(t.Lo))%10), true
		}
	}
	return 0, false
}
