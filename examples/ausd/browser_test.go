package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/senbonzakura/senbonzakura/examples/internal/webtest"
)

// TestBrowser looks at every page with a real browser and axe-core: wide and narrow, light and dark; and stops an update and lets it
// go on with the forms, without JavaScript.
func TestBrowser(t *testing.T) {
	t.Parallel()
	b := webtest.OpenWithAxe(t)
	p := startProcess(t, t.TempDir())
	defer p.kill(t)
	blob := `{"name": "Fox-91.0", "schema_version": 9, "hashFunction": "sha512", "appVersion": "91.0", "displayVersion": "91.0", "platforms": {"Linux_x86_64-gcc3": {"locales": {"de": {"buildID": "20250401000000",
		"completes": [{"from": "*", "filesize": 50000000, "hashValue": "` + strings.Repeat("ab", 64) + `", "fileUrl": "https://dl.example/91.0.complete.mar"}]}}}}}`
	if code, err := p.call(t, http.MethodPost, "/admin/v1/changes", map[string]any{"comment": "begin", "operations": []any{
		map[string]any{"kind": "host", "key": "dl.example", "body": map[string]any{"products": []string{"Fox"}}},
		map[string]any{"kind": "release", "key": "Fox-91.0", "body": map[string]any{"product": "Fox", "read_only": false, "blob": jsonText(blob)}},
		map[string]any{"kind": "rule", "key": "1", "body": map[string]any{"rule_id": 1, "priority": 100, "backgroundRate": 25, "update_type": "minor", "product": "Fox", "channel": "release*", "version": "<91.0", "mapping": "Fox-91.0", "comment": "slowly"}},
	}}, nil); err != nil || code != http.StatusOK {
		t.Fatalf("seed: %d, %v", code, err)
	}
	if code, err := p.call(t, http.MethodPost, "/admin/v1/changes", map[string]any{"comment": "for all", "draft": true, "operations": []any{
		map[string]any{"kind": "rule", "key": "1", "body": map[string]any{"rule_id": 1, "priority": 100, "backgroundRate": 100, "update_type": "minor", "product": "Fox", "mapping": "Fox-91.0"}},
	}}, nil); err != nil || code != http.StatusOK {
		t.Fatalf("draft: %d, %v", code, err)
	}
	const form = "/?product=Fox&version=90.0&build_id=20240101000000&target=Linux_x86_64-gcc3&locale=de&channel=release&os=Linux"
	pages := map[string]string{"client": form, "rules": "/ui/rules", "releases": "/ui/releases", "drafts": "/ui/drafts", "draft": "/ui/drafts/1", "demand": "/ui/demand", "adoption": "/ui/adoption", "shutoffs": "/ui/shutoffs", "history": "/ui/history"}
	b.Do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate(p.url+"/ui/shutoffs"),
		chromedp.SendKeys(`input[name=product]`, "Fox"), chromedp.SendKeys(`input[name=comment]`, "it crashes"), chromedp.Click("main form button"))
	b.Until(`document.body.innerText.includes("it crashes")`)
	for name, path := range pages {
		b.Do(b.Scheme("light"), chromedp.EmulateViewport(1280, 900), chromedp.Navigate(p.url+path))
		b.Accessible(name, "{}")
		b.Shot(name)
		b.Do(b.Scheme("dark"))
		b.Accessible(name+" in dark", `{runOnly: ["color-contrast", "link-in-text-block"]}`)
		b.Shot(name + "-dark")
		b.Do(b.Scheme("light"), chromedp.EmulateViewport(360, 740), chromedp.Navigate(p.url+path))
		b.Accessible(name+" on a phone", `{runOnly: ["scrollable-region-focusable", "target-size"]}`)
		b.Shot(name + "-phone")
	}
	b.Do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate(p.url+form))
	if got := webtest.Eval[string](b, `document.querySelector("h2").innerText`); got != "It gets no update: shutoff" {
		t.Errorf("shut off, the page says %q", got)
	}
	b.Do(chromedp.Navigate(p.url+"/ui/shutoffs"), chromedp.Click(`button[aria-label="Lift shutoff 1"]`))
	b.Until(`document.body.innerText.includes("None.")`)
	b.Do(chromedp.Navigate(p.url + form))
	if got := webtest.Eval[string](b, `document.querySelector("h2").innerText`); got != "It gets Fox-91.0, as a complete update alone" {
		t.Errorf("lifted, the page says %q", got)
	}
}

// jsonText is JSON that is there already.
type jsonText string

// MarshalJSON returns it.
func (s jsonText) MarshalJSON() ([]byte, error) { return []byte(s), nil }
