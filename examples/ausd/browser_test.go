package main

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/senbonzakura/senbonzakura/examples/internal/webtest"
)

// TestBrowser looks at every page with a real browser and axe-core: wide and narrow, light and dark; and stops an update and lets it
// go on with the forms, without JavaScript.
func TestBrowser(t *testing.T) {
	t.Parallel()
	b := webtest.OpenWithAxe(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "ausd.toml")
	sum := sha256.Sum256([]byte("ann's token"))
	if err := os.WriteFile(config, fmt.Appendf(nil, `
[[tokens]]
name = "ann"
sha256 = "%x"
roles = ["read"]
sign_off_roles = ["releng"]
[[sign_offs]]
product = "Owl"
channel = "release"
roles = { releng = 1 }
`, sum), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, t.TempDir(), "--config", config)
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
	if code, err := p.call(t, http.MethodPost, "/admin/v1/changes", map[string]any{"comment": "owls, too", "draft": true, "operations": []any{
		map[string]any{"kind": "rule", "key": "new", "body": map[string]any{"priority": 90, "backgroundRate": 100, "update_type": "minor", "product": "Owl", "channel": "release", "mapping": "Fox-91.0"}},
	}}, nil); err != nil || code != http.StatusOK {
		t.Fatalf("draft with sign-offs: %d, %v", code, err)
	}
	// Something to see on the pages of demand, releases and adoption: a partial that was made, and clients of two versions.
	older, newer := filepath.Join(dir, "1.mar"), filepath.Join(dir, "2.mar")
	pack(t, older, "1.0", "20240101000000")
	pack(t, newer, "2.0", "20250101000000")
	if code, said := tool("add", "--server", p.url, "--product", "Wolf", "--target", "Linux_x86_64-gcc3", older, newer); code != 0 {
		t.Fatal(said)
	}
	deadline := time.After(2 * time.Minute)
	for begun, made := p.log.wait(), false; !made; begun = p.log.wait() {
		for _, version := range []string{"1.0/20240101000000", "1.0/20240101000000", "2.0/20250101000000"} {
			a, err := ask(t.Context(), newClient(), p.url+"/update/3/Wolf/"+version+"/Linux_x86_64-gcc3/en-US/release/Linux/default/default/update.xml", "")
			if err != nil {
				t.Fatal(err)
			}
			made = made || strings.Contains(string(a.Body), `type="partial"`)
		}
		if made {
			break
		}
		select {
		case <-begun:
		case <-deadline:
			t.Fatalf("no partial is made: %s", p.log)
		}
	}
	const form = "/?product=Fox&version=90.0&build_id=20240101000000&target=Linux_x86_64-gcc3&locale=de&channel=release&os=Linux"
	pages := map[string]string{"client": form, "rules": "/ui/rules", "releases": "/ui/releases", "drafts": "/ui/drafts", "draft": "/ui/drafts/1", "signoffs": "/ui/drafts/2", "demand": "/ui/demand", "adoption": "/ui/adoption", "shutoffs": "/ui/shutoffs", "history": "/ui/history"}
	b.Do(b.Script(false)) // of the pages; what the test asks of them runs all the same
	b.Do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate(p.url+"/ui/shutoffs"),
		chromedp.SendKeys(`input[name=product]`, "Fox"), chromedp.SendKeys(`input[name=comment]`, "it crashes"), chromedp.Click("main form button"))
	b.Until(`document.body.innerText.includes("it crashes")`)
	for name, path := range pages {
		b.Do(b.Scheme("light"), chromedp.EmulateViewport(1280, 900), chromedp.Navigate(p.url+path))
		b.Shot(name)
		b.Do(b.Scheme("dark"))
		b.Shot(name + "-dark")
		b.Do(b.Scheme("light"), chromedp.EmulateViewport(360, 740), chromedp.Navigate(p.url+path))
		b.Shot(name + "-phone")
		if beside := webtest.Eval[int](b, `[...document.querySelectorAll("main *")].filter((e) => e.getBoundingClientRect().right > innerWidth).length`); beside > 0 {
			t.Errorf("%s: %d elements are beside the screen of a phone", name, beside)
		}
		b.Do(b.Script(true)) // axe needs it
		b.Accessible(name+" on a phone", `{runOnly: ["scrollable-region-focusable", "target-size"]}`)
		b.Do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate(p.url+path))
		b.Accessible(name, "{}")
		b.Do(b.Scheme("dark"))
		b.Accessible(name+" in dark", `{runOnly: ["color-contrast", "link-in-text-block"]}`)
		b.Do(b.Script(false))
	}
	b.Do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate(p.url+"/ui/drafts/2"), chromedp.SendKeys(`input[name=token]`, "ann's token"), chromedp.Click("form.fields button"))
	b.Until(`document.body.innerText.includes("releng: 1 of 1")`)
	b.Do(chromedp.Navigate(p.url + form))
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
