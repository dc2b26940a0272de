package fetch

import (
	"strings"
	"testing"
)

// FuzzRedact looks for a password, a token and a fragment in what is left of URLs.
func FuzzRedact(f *testing.F) {
	for _, s := range [][3]string{
		{"https", "example.com", "/x"}, {"s3", "bucket", ""}, {"file", "", "/a/b"}, {"http", "[::1]:80", "/%2f"}, {"x+y", "h", "?a=b"},
	} {
		f.Add(s[0], s[1], s[2])
	}
	const user, password, token, fragment = "hiddenuser", "hiddenpassword", "hiddentoken", "hiddenfragment"
	f.Fuzz(func(t *testing.T, scheme, host, path string) {
		for _, w := range []string{user, password, token, fragment} {
			if strings.Contains(scheme+host+path, w) {
				return
			}
		}
		raw := scheme + "://" + user + ":" + password + "@" + host + path + "?sig=" + token + "#" + fragment
		u, err := parse(raw)
		if err != nil || u.Scheme == "file" || u.User == nil || u.RawQuery == "" {
			return // a path, or parts that are no user and query for anybody
		}
		if pass, _ := u.User.Password(); pass != password || !strings.Contains(u.RawQuery, token) {
			return
		}
		text := redact(u)
		for _, w := range []string{user, password, token, fragment} {
			if strings.Contains(text, w) {
				t.Errorf("%q becomes %q", raw, text)
			}
		}
	})
}
