package aus

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// AllowList says from which hosts updates may come, host by host. A host that is not listed is forbidden.
type AllowList []AllowedHost

// AllowedHost is one host. It has products, or paths with products.
type AllowedHost struct {
	// Host is the authority as it stands in addresses: with the port where they have one.
	Host     string
	Products []string      // that may come from it, at any path; with Paths empty
	Paths    []AllowedPath // where the host has rules by path, in their order
}

// AllowedPath allows the addresses of a host whose whole path matches an expression. The first that matches decides.
type AllowedPath struct {
	Pattern  string   // regular expression that has to match the whole path
	Products []string // that may come from such paths
}

// MarshalJSON writes the form that Balrog's configuration has.
func (l AllowList) MarshalJSON() ([]byte, error) {
	texts := func(products []string) value {
		v := value{kind: list}
		for _, s := range products {
			v.items = append(v.items, value{kind: text, text: s})
		}
		return v
	}
	v := value{kind: object}
	for _, h := range l {
		m := member{key: h.Host, value: texts(h.Products)}
		if h.Paths != nil {
			m.value = value{kind: object}
			for _, p := range h.Paths {
				m.value.members = append(m.value.members, member{p.Pattern, texts(p.Products)})
			}
		}
		v.members = append(v.members, m)
	}
	return v.appendJSON(nil, jsonStyle{}), nil
}

// UnmarshalJSON reads the form that Balrog's configuration has: {host: [product, …]} or {host: {pattern: [product, …]}}.
func (l *AllowList) UnmarshalJSON(data []byte) error {
	v, err := parseValue(string(data), Limits{})
	if err != nil {
		return err
	}
	*l = nil
	if v.kind == null {
		return nil
	}
	if v.kind != object {
		return fmt.Errorf("%w: an allow list is an object of hosts", ErrFormat)
	}
	for _, m := range v.members {
		h := AllowedHost{Host: m.key}
		switch m.value.kind {
		case list:
			h.Products = textsOf(&m.value)
		case object:
			h.Paths = []AllowedPath{}
			for _, p := range m.value.members {
				h.Paths = append(h.Paths, AllowedPath{p.key, textsOf(&p.value)})
			}
		default:
			return fmt.Errorf("%w: host %q: want a list of products or an object of paths", ErrFormat, m.key)
		}
		*l = append(*l, h)
	}
	return nil
}

func textsOf(v *value) []string {
	var texts []string
	for _, item := range v.items {
		texts = append(texts, item.scalar().text)
	}
	return texts
}

// hosts is a compiled allow list.
type hosts map[string]*allowedHost

type allowedHost struct {
	products []string
	paths    []allowedPath
	byPath   bool
}

type allowedPath struct {
	re       *regexp.Regexp // nil where the pattern is none
	products []string
}

func compileHosts(l AllowList, report func(Problem)) hosts {
	compiled := hosts{}
	for _, h := range l {
		c := &allowedHost{products: h.Products, byPath: h.Paths != nil}
		for _, p := range h.Paths {
			re, err := regexp.Compile(`\A(?:` + p.Pattern + `)\z`)
			if err != nil {
				report(Problem{Severity: SeverityError, Path: "allowlist." + h.Host, Message: fmt.Sprintf("%q is no regular expression: %v", p.Pattern, err)})
			}
			c.paths = append(c.paths, allowedPath{re, p.Products})
		}
		compiled[h.Host] = c
	}
	return compiled
}

// allow says whether a product's updates may come from an address.
func (h hosts) allow(url, product string) bool {
	authority, path := splitAddress(url)
	host := h[authority]
	if host == nil {
		return false
	}
	if !host.byPath {
		return slices.Contains(host.products, product)
	}
	for _, p := range host.paths {
		if p.re != nil && p.re.MatchString(path) {
			return slices.Contains(p.products, product)
		}
	}
	return false
}

// splitAddress returns authority and path of an address, as texts.
func splitAddress(url string) (authority, path string) {
	if scheme, rest, ok := strings.Cut(url, ":"); ok && schemeText(scheme) {
		url = rest
	}
	if rest, ok := strings.CutPrefix(url, "//"); ok {
		end := strings.IndexAny(rest, "/?#")
		if end < 0 {
			end = len(rest)
		}
		authority, url = rest[:end], rest[end:]
	}
	if end := strings.IndexAny(url, "?#"); end >= 0 {
		url = url[:end]
	}
	// Parameters of the last segment are no part of the path.
	if i := strings.IndexByte(url[strings.LastIndexByte(url, '/')+1:], ';'); i >= 0 {
		url = url[:strings.LastIndexByte(url, '/')+1+i]
	}
	return authority, url
}

func schemeText(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		other := c >= '0' && c <= '9' || c == '+' || c == '-' || c == '.'
		if !letter && (i == 0 || !other) {
			return false
		}
	}
	return s != ""
}
