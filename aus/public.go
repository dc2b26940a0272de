package aus

import (
	"cmp"
	"html"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Request is one request to the public side of an update server.
type Request struct {
	Method string // GET, HEAD, …
	// URL is path and query as they came, percent-encoded.
	URL string
	// Base is scheme and host of the server, "https://aus.example"; redirects need it.
	Base   string
	Header http.Header // of the request; User-Agent counts
	// Into is where the headers of the answer go; nil is a new map.
	Into http.Header
}

// Response is the answer to a request. Body is empty for HEAD, where Content-Length says how long it would be.
type Response struct {
	Status int         // of HTTP
	Header http.Header // Into, or a new map
	Body   []byte
	// Query and Answer are there where the request was one for updates.
	Query  *Query
	Answer *Answer
	// Quirks are those of Balrog's that the request met, those of the answer included.
	Quirks Quirks
}

const (
	cacheUpdates   = "public, max-age=90"
	cacheHeartbeat = "public, max-age=60"
	cacheNever     = "no-cache"
	cachePrivate   = "private, no-store"

	serverFault = "The server encountered an internal error and was unable to complete your request. " +
		"Either the server is overloaded or there is an error in the application."
	notFound = "The requested URL was not found on the server. " +
		"If you entered the URL manually please check your spelling and try again."
	methodNotAllowed = "The method is not allowed for the requested URL."
)

// The headers that every answer has. Their slices are shared and full, so that appending to one copies it.
var (
	headerCache     = []string{cacheUpdates}
	headerTransport = []string{"max-age=31536000;"}
	headerSniff     = []string{"nosniff"}
	headerPolicy    = []string{"default-src 'none'; frame-ancestors 'none'"}
	headerUnknown   = []string{"unknown"}
	headerXML       = []string{typeXML}
)

// Respond answers a request to the public side: updates in every form of address, and the read-only API of what the
// snapshot knows. It never answers 500. Where a die or the client's name decided, the answer must not be cached and says so.
func (s *Snapshot) Respond(r Request, env Env) Response { return respond(s, r, env, false) }

// Respond answers a request as Balrog does.
func (s Strict) Respond(r Request, env Env) Response { return respond(s.s, r, env, true) }

type responder struct {
	s      *Snapshot
	r      *Request
	strict bool
	pairs  []pair
	out    Response
}

func respond(s *Snapshot, r Request, env Env, strict bool) Response {
	path, query := splitURL(r.URL)
	w := &responder{s: s, r: &r, strict: strict, pairs: parsePairs(query), out: Response{Header: r.Into}}
	if w.out.Header == nil {
		w.out.Header = make(http.Header, 12)
	}
	h := w.out.Header
	h["Cache-Control"] = headerCache
	h["Strict-Transport-Security"] = headerTransport
	h["X-Content-Type-Options"] = headerSniff
	h["Content-Security-Policy"] = headerPolicy
	w.path(decodePath(path), query, env)
	h["Content-Length"] = []string{strconv.Itoa(len(w.out.Body))}
	if r.Method == http.MethodHead {
		w.out.Body = nil
	}
	return w.out
}

func (w *responder) send(status int, contentType string, body []byte) {
	w.out.Status, w.out.Body = status, body
	if contentType == typeXML {
		w.out.Header["Content-Type"] = headerXML
		return
	}
	w.out.Header["Content-Type"] = []string{contentType}
}

func (w *responder) problem(status int, title, detail, exception string) {
	w.send(status, typeProblem, problem(status, title, detail, exception))
}

// problem is a problem document; title "" is null.
func problem(status int, title, detail, exception string) []byte {
	v := value{kind: object}
	v.members = append(v.members, member{"detail", value{kind: text, text: detail}})
	if exception != "" {
		v.members = append(v.members, member{"exception", value{kind: text, text: exception}})
	}
	t := value{kind: null}
	if title != "" {
		t = value{kind: text, text: title}
	}
	v.members = append(v.members, member{"status", value{kind: number, text: strconv.Itoa(status)}}, member{"title", t},
		member{"type", value{kind: text, text: "about:blank"}})
	return append(v.appendJSON(nil, jsonStyle{indent: 2}), '\n')
}

// page is what a path leads to.
type page struct {
	allowed []string // parameters
	serve   func()
}

// path finds the page of a decoded path and serves it.
func (w *responder) path(path, query string, env Env) {
	p, ok := w.find(path, env)
	if !ok && strings.Contains(path, "//") {
		merged := path
		for strings.Contains(merged, "//") {
			merged = strings.ReplaceAll(merged, "//", "/")
		}
		if _, ok := w.find(merged, env); ok {
			w.redirect(merged, query)
			return
		}
	}
	switch {
	case !ok && strings.HasPrefix(path, "/update"):
		w.send(http.StatusOK, typeXML, []byte(xmlEmpty))
		return
	case !ok:
		w.send(http.StatusNotFound, typeText, []byte(notFound))
		return
	}
	switch w.r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		w.send(http.StatusOK, typeHTML, nil)
		w.out.Header.Set("Allow", "GET, HEAD, OPTIONS")
		return
	default:
		w.problem(http.StatusMethodNotAllowed, "Method Not Allowed", methodNotAllowed, "")
		w.out.Header.Set("Allow", "GET, HEAD, OPTIONS")
		return
	}
	var extra []string
	for _, q := range w.pairs {
		if !slices.Contains(p.allowed, q.name) && !slices.Contains(extra, q.name) {
			extra = append(extra, q.name)
		}
	}
	if len(extra) > 0 {
		w.out.Quirks.add(QuirkExtraParameters)
		if w.strict {
			w.problem(http.StatusBadRequest, "", "Extra query parameter(s) "+strings.Join(extra, ", ")+" not in spec", "")
			return
		}
	}
	p.serve()
}

// redirect sends the client to the path without empty segments.
func (w *responder) redirect(path, query string) {
	var b strings.Builder
	b.WriteString(w.r.Base)
	for i := range len(path) {
		c := path[i]
		if wordByte(c) && c < 0x80 || strings.IndexByte("-._~!$&'()*+,/:;=@", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte("0123456789ABCDEF"[c>>4])
			b.WriteByte("0123456789ABCDEF"[c&15])
		}
	}
	if query != "" {
		b.WriteString("?" + query)
	}
	location := b.String()
	text := html.EscapeString(location)
	w.send(http.StatusPermanentRedirect, typeHTML, []byte("<!doctype html>\n<html lang=en>\n<title>Redirecting...</title>\n<h1>Redirecting...</h1>\n"+
		"<p>You should be redirected automatically to the target URL: <a href=\""+text+"\">"+text+"</a>. If not, click the link.\n"))
	w.out.Header.Set("Location", location)
}

// find returns the page of a path.
func (w *responder) find(path string, env Env) (page, bool) {
	if r, ok := parsePath(path); ok {
		return page{r.allowed, func() { w.update(&r, env) }}, true
	}
	static := func(contentType, cache, body string) (page, bool) {
		return page{serve: func() {
			w.send(http.StatusOK, contentType, []byte(body))
			w.out.Header.Set("Cache-Control", cache)
		}}, true
	}
	switch path {
	case "/__lbheartbeat__":
		return static(typeHTML, cacheNever, "OK!")
	case "/__heartbeat__":
		return static(typeHTML, cacheHeartbeat, strconv.Itoa(len(w.s.rules)))
	case "/__version__":
		return static(typeJSON, cacheUpdates, "{\"version\":\"unknown\"}\n")
	case "/robots.txt":
		return static(typeText, cacheNever, "User-agent: *\nDisallow: /\n")
	case "/contribute.json":
		return static(typeJSON, cacheNever, "{\"name\": \"ausd\"}\n")
	case "/debug/api.yml":
		return page{serve: func() { w.send(http.StatusNotFound, typeHTML, nil) }}, true
	}
	rest, ok := strings.CutPrefix(path, "/api/v1/")
	if !ok {
		return page{}, false
	}
	return w.findAPI(strings.Split(rest, "/"))
}

// update answers a query for updates.
func (w *responder) update(r *route, env Env) {
	if pin, ok := last(w.pairs, "pin"); ok && pin == "" && r.knows("pin") {
		w.problem(http.StatusBadRequest, "Bad Request", "'' is too short: pin needs a version like 102. or 102.3.", "")
		return
	}
	r.fill(w.pairs, w.r.URL, w.r.Header.Get("User-Agent"))
	var a Answer
	if w.strict {
		a = w.s.Strict().Answer(r.query, env)
	} else {
		a = w.s.Answer(r.query, env)
	}
	w.out.Query, w.out.Answer, w.out.Quirks = &r.query, &a, w.out.Quirks|a.Quirks
	w.send(a.Status, a.ContentType, a.Body)
	if a.Random && !w.strict {
		w.out.Header.Set("Cache-Control", cachePrivate)
	}
	if a.Status != http.StatusOK {
		return
	}
	id, version := headerUnknown, headerUnknown
	if a.Rule != nil {
		id, version = []string{strconv.FormatInt(a.Rule.ID, 10)}, []string{strconv.FormatInt(a.Rule.DataVersion, 10)}
	}
	w.out.Header["Rule-Id"] = id
	w.out.Header["Rule-Data-Version"] = version
}

// findAPI returns a page of the read-only API.
func (w *responder) findAPI(s []string) (page, bool) {
	if slices.Contains(s, "") {
		return page{}, false
	}
	of := func(serve func(), allowed ...string) (page, bool) { return page{allowed, serve}, true }
	switch {
	case s[0] == "rules" && len(s) == 1:
		return of(w.listRules, "product")
	case s[0] == "rules" && len(s) == 2 && (allDigits(s[1]) || aliasText(s[1])):
		return of(func() { w.rule(s[1]) })
	case s[0] == "rules" && len(s) == 3 && s[2] == "revisions" && allDigits(s[1]):
		return of(func() { w.revisions(s[1]) }, "page", "limit")
	case s[0] == "releases" && len(s) == 1:
		return of(w.listReleases, "product", "name_prefix", "names_only")
	case s[0] == "releases" && len(s) == 2:
		return of(func() { w.release(s[1]) }, "pretty")
	case s[0] == "releases" && len(s) == 5 && s[2] == "builds":
		return of(func() { w.build(s[1], s[3], s[4]) })
	case s[0] == "emergency_shutoff" && len(s) == 1:
		return of(w.listShutoffs)
	case s[0] == "emergency_shutoff" && len(s) == 3:
		return of(func() { w.shutoff(s[1], s[2]) })
	case s[0] == "pins" && len(s) == 4:
		return of(func() { w.pin(s[1], s[2], s[3]) }, "pretty")
	}
	return page{}, false
}

// aliasText says whether a text can be the alias of a rule.
func aliasText(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c != '-' && (c < '0' || c > '9')) {
			return false
		}
	}
	return s != ""
}

func textOf(s *string) value {
	if s == nil {
		return value{kind: null}
	}
	return value{kind: text, text: *s}
}

func numberOf(n *int64) value {
	if n == nil {
		return value{kind: null}
	}
	return intOf(*n)
}

func intOf(n int64) value { return value{kind: number, text: strconv.FormatInt(n, 10)} }

func boolOf(b *bool) value {
	if b == nil {
		return value{kind: null}
	}
	return value{kind: boolean, text: strconv.FormatBool(*b)}
}

// columns returns a rule as the API gives it.
func (r *Rule) columns() value {
	return value{kind: object, members: []member{
		{"rule_id", intOf(r.ID)},
		{"alias", textOf(r.Alias)},
		{"priority", numberOf(r.Priority)},
		{"mapping", textOf(r.Mapping)},
		{"fallbackMapping", textOf(r.FallbackMapping)},
		{"backgroundRate", numberOf(r.BackgroundRate)},
		{"update_type", textOf(r.UpdateType)},
		{"product", textOf(r.Product)},
		{"version", textOf(r.Version)},
		{"channel", textOf(r.Channel)},
		{"buildTarget", textOf(r.BuildTarget)},
		{"buildID", textOf(r.BuildID)},
		{"locale", textOf(r.Locale)},
		{"osVersion", textOf(r.OSVersion)},
		{"memory", textOf(r.Memory)},
		{"instructionSet", textOf(r.InstructionSet)},
		{"jaws", boolOf(r.JAWS)},
		{"mig64", boolOf(r.Mig64)},
		{"distribution", textOf(r.Distribution)},
		{"distVersion", textOf(r.DistVersion)},
		{"headerArchitecture", textOf(r.HeaderArchitecture)},
		{"comment", textOf(r.Comment)},
		{"data_version", intOf(r.DataVersion)},
	}}
}

// sendSorted sends a list with its length, without blanks.
func (w *responder) sendSorted(v value) {
	w.send(http.StatusOK, typeJSON, append(v.appendJSON(nil, jsonStyle{sorted: true, compact: true}), '\n'))
}

func countOf(key string, items []value) value {
	return value{kind: object, members: []member{{"count", intOf(int64(len(items)))}, {key, value{kind: list, items: items}}}}
}

func (w *responder) listRules() {
	product, filter := last(w.pairs, "product")
	rules := slices.Clone(w.s.rules)
	first := func(s *string) string { // NULL comes before every text
		if s == nil {
			return ""
		}
		return "\x00" + *s
	}
	slices.SortStableFunc(rules, func(a, b *compiledRule) int {
		ap, bp := int64(-1<<62), int64(-1<<62)
		if a.Priority != nil {
			ap = *a.Priority
		}
		if b.Priority != nil {
			bp = *b.Priority
		}
		return cmp.Or(cmp.Compare(ap, bp), strings.Compare(first(a.Version), first(b.Version)), strings.Compare(first(a.Mapping), first(b.Mapping)))
	})
	items := []value{}
	for _, r := range rules {
		if !filter || r.Product != nil && *r.Product == product {
			items = append(items, r.columns())
		}
	}
	w.sendSorted(countOf("rules", items))
}

func (w *responder) rule(name string) {
	for _, r := range w.s.rules {
		if strconv.FormatInt(r.ID, 10) == name || r.Alias != nil && *r.Alias == name {
			v := r.columns()
			w.send(http.StatusOK, typeJSON, v.appendJSON(nil, jsonStyle{}))
			w.out.Header.Set("X-Data-Version", strconv.FormatInt(r.DataVersion, 10))
			return
		}
	}
	w.problem(http.StatusNotFound, "Not Found", "Requested rule wasn't found", "Requested rule does not exist")
}

// revisions answers that a rule has no history: a snapshot has none.
func (w *responder) revisions(id string) {
	for _, name := range []string{"page", "limit"} {
		if s, ok := last(w.pairs, name); ok {
			if n, ok := parseInt(s); !ok || n < 1 {
				w.problem(http.StatusBadRequest, "Bad Request", name+": want a whole number from 1 on", "")
				return
			}
		}
	}
	for _, r := range w.s.rules {
		if strconv.FormatInt(r.ID, 10) == id {
			w.sendSorted(countOf("rules", nil))
			return
		}
	}
	w.send(http.StatusNotFound, typeHTML, []byte("Requested rule does not exist"))
}

func (w *responder) listReleases() {
	product, byProduct := last(w.pairs, "product")
	prefix, _ := last(w.pairs, "name_prefix")
	namesOnly, _ := last(w.pairs, "names_only")
	var releases []*Release
	for _, r := range w.s.releases {
		if (!byProduct || r.product == product) && strings.HasPrefix(r.name, prefix) {
			releases = append(releases, r)
		}
	}
	slices.SortFunc(releases, func(a, b *Release) int { return strings.Compare(a.name, b.name) })
	items := []value{}
	if namesOnly != "" {
		for _, r := range releases {
			items = append(items, value{kind: text, text: r.name})
		}
		w.sendSorted(value{kind: object, members: []member{{"names", value{kind: list, items: items}}}})
		return
	}
	info := map[string][]member{}
	for _, r := range w.s.rules {
		about := member{strconv.FormatInt(r.ID, 10), value{kind: object, members: []member{{"channel", textOf(r.Channel)}, {"product", textOf(r.Product)}}}}
		if filled(r.Mapping) {
			info[*r.Mapping] = append(info[*r.Mapping], about)
		}
		if filled(r.FallbackMapping) && (r.Mapping == nil || *r.Mapping != *r.FallbackMapping) {
			info[*r.FallbackMapping] = append(info[*r.FallbackMapping], about)
		}
	}
	for _, r := range releases {
		items = append(items, value{kind: object, members: []member{
			{"data_version", intOf(r.dataVersion)},
			{"name", value{kind: text, text: r.name}},
			{"product", value{kind: text, text: r.product}},
			{"product_required_signoffs", value{kind: object}},
			{"read_only", boolOf(&r.readOnly)},
			{"required_signoffs", value{kind: object}},
			{"rule_info", value{kind: object, members: info[r.name]}},
			{"scheduled_changes", value{kind: list}},
		}})
	}
	w.sendSorted(value{kind: object, members: []member{{"releases", value{kind: list, items: items}}}})
}

// pretty is how a document is written: with line ends where the client asks for them.
func (w *responder) pretty() jsonStyle {
	style := jsonStyle{sorted: true}
	if s, _ := last(w.pairs, "pretty"); s != "" && s != "false" && s != "0" {
		style.indent = 4
	}
	return style
}

func (w *responder) release(name string) {
	r := w.s.releases[name]
	if r == nil {
		w.problem(http.StatusNotFound, "Not Found", "Release name: "+name+" not found", "")
		return
	}
	v, err := parseValue(r.document, Limits{Size: len(r.document) + 1, Depth: 1 << 20})
	if err != nil { // it was read before
		v = value{kind: null}
	}
	w.send(http.StatusOK, typeJSON, v.appendJSON(nil, w.pretty()))
	w.out.Header.Set("X-Data-Version", strconv.FormatInt(r.dataVersion, 10))
}

func (w *responder) build(name, platform, locale string) {
	r := w.s.releases[name]
	if r == nil {
		w.problem(http.StatusNotFound, "Not Found", `["Couldn't find locale identified by: `+name+", "+platform+", "+locale+`"]`, "")
		return
	}
	v, err := parseValue(r.document, Limits{Size: len(r.document) + 1, Depth: 1 << 20})
	if err != nil { // it was read before
		v = value{kind: null}
	}
	found := v.get("platforms").get(platform).get("locales").get(locale)
	if found.kind == absent {
		w.out.Quirks.add(QuirkBuildNull)
		if !w.strict {
			w.problem(http.StatusNotFound, "Not Found", "Release "+name+" has no locale "+locale+" of platform "+platform, "")
			return
		}
	}
	w.send(http.StatusOK, typeJSON, found.appendJSON(nil, jsonStyle{}))
	w.out.Header.Set("X-Data-Version", strconv.FormatInt(r.dataVersion, 10))
}

func (f *Shutoff) columns() value {
	return value{kind: object, members: []member{
		{"product", value{kind: text, text: f.Product}},
		{"channel", value{kind: text, text: f.Channel}},
		{"comment", value{kind: text, text: f.Comment}},
		{"data_version", intOf(f.DataVersion)},
	}}
}

func (w *responder) listShutoffs() {
	items := []value{}
	for i := range w.s.config.Shutoffs {
		items = append(items, w.s.config.Shutoffs[i].columns())
	}
	w.sendSorted(countOf("shutoffs", items))
}

func (w *responder) shutoff(product, channel string) {
	for i := range w.s.config.Shutoffs {
		if f := &w.s.config.Shutoffs[i]; f.Product == product && f.Channel == channel {
			v := f.columns()
			w.send(http.StatusOK, typeJSON, v.appendJSON(nil, jsonStyle{}))
			w.out.Header.Set("X-Data-Version", strconv.FormatInt(f.DataVersion, 10))
			return
		}
	}
	w.problem(http.StatusNotFound, "Not Found", "Requested emergency shutoff wasn't found", "Requested shutoff does not exist")
}

func (w *responder) pin(product, channel, version string) {
	for _, p := range w.s.config.Pins {
		if p.Product != product || p.Channel != channel || p.Version != version {
			continue
		}
		v := value{kind: object, members: []member{
			{"channel", value{kind: text, text: p.Channel}},
			{"data_version", intOf(p.DataVersion)},
			{"mapping", value{kind: text, text: p.Mapping}},
			{"product", value{kind: text, text: p.Product}},
			{"version", value{kind: text, text: p.Version}},
		}}
		w.send(http.StatusOK, typeJSON, v.appendJSON(nil, w.pretty()))
		return
	}
	quote := func(s string) string { return "'" + s + "'" }
	w.problem(http.StatusNotFound, "Not Found", "Pin for Product="+quote(product)+", Channel="+quote(channel)+", Version="+quote(version)+" not found", "")
}
