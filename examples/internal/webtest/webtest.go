// Package webtest looks at the pages of a service with a real browser, and with axe-core, which finds what keeps people
// out. Tests that use it are skipped, saying what is missing, where there is no Chromium.
package webtest

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// Browser is a Chromium with one tab. It is not safe for concurrent use.
type Browser struct {
	t   testing.TB
	ctx context.Context
	axe string
	dir string // for screenshots
}

// Open starts a browser that ends with the test. Pictures are kept in $SENBON_SCREENSHOTS, or with -artifacts.
func Open(tb testing.TB) *Browser {
	tb.Helper()
	if testing.Short() {
		tb.Skip("a browser takes several seconds (-short)")
	}
	if raceEnabled {
		tb.Skip("a browser and the race detector take too long together")
	}
	b := &Browser{t: tb}
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		tb.Skip("no Chromium: apt-get install chromium fonts-dejavu-core")
	}
	if b.dir = os.Getenv("SENBON_SCREENSHOTS"); b.dir == "" {
		if f := flag.Lookup("test.artifacts"); f != nil && f.Value.String() == "true" {
			b.dir = tb.ArtifactDir()
		}
	} else if err := os.MkdirAll(b.dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox,
		chromedp.Flag("disable-gpu", true), chromedp.Flag("hide-scrollbars", true))
	alloc, cancel := chromedp.NewExecAllocator(context.WithoutCancel(tb.Context()), opts...)
	tb.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(alloc)
	tb.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	tb.Cleanup(cancel)
	b.ctx = ctx
	b.Do(chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
			Source: `window.wrongs = [];
			addEventListener("securitypolicyviolation", (e) => wrongs.push("policy: " + e.violatedDirective + " " + e.blockedURI));
			addEventListener("error", (e) => wrongs.push("error: " + (e.message || e.target.outerHTML)), true);
			addEventListener("unhandledrejection", (e) => wrongs.push("rejection: " + e.reason));`,
		})
		return err
	}))
	return b
}

// For returns the same browser, failing another test.
func (b *Browser) For(tb testing.TB) *Browser {
	tb.Helper()
	c := *b
	c.t = tb
	return &c
}

// Do runs steps that must not fail.
func (b *Browser) Do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// Eval returns the value of an expression in the page.
func Eval[T any](b *Browser, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// Until waits for an expression to be true.
func (b *Browser) Until(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 15*time.Second)
	defer cancel()
	for {
		v, err := chromedp.Run(ctx, chromedp.Evaluate[bool](expression))
		if err == nil && v {
			return
		}
		select {
		case <-ctx.Done():
			text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body.innerText"))
			b.t.Fatalf("%s: never true; the page shows\n%s", expression, text)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Script switches JavaScript of pages on or off.
func (b *Browser) Script(on bool) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
		return err
	})
}

// Scheme sets what the system prefers: light or dark.
func (b *Browser) Scheme(name string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"}},
		})
		return err
	})
}

// Shot keeps a picture of the whole page, where they are asked for.
func (b *Browser) Shot(name string) {
	b.t.Helper()
	if b.dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// OpenWithAxe starts a browser as Open does, for tests that call Accessible; without axe-core they are skipped.
func OpenWithAxe(tb testing.TB) *Browser {
	tb.Helper()
	axe := findAxe(tb)
	b := Open(tb)
	b.axe = axe
	return b
}

func findAxe(tb testing.TB) string {
	tb.Helper()
	places := []string{os.Getenv("SENBON_AXE")}
	if places[0] == "" {
		places[0] = "node_modules/axe-core/axe.min.js"
		if root := npmRoot(); root != "" {
			places = append(places, filepath.Join(root, "axe-core", "axe.min.js"))
		}
	}
	for _, p := range places {
		data, err := os.ReadFile(p)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			tb.Fatal(err)
		}
		return string(data)
	}
	tb.Skip("no axe-core: npm install --global axe-core@4.14.1, or SENBON_AXE=…/axe.min.js")
	return ""
}

// npmRoot is where npm installs what is for everybody, "" where there is no npm. It takes half a second to say so.
var npmRoot = sync.OnceValue(func() string {
	root, err := exec.CommandContext(context.Background(), "npm", "root", "--global").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(root))
})

type violation struct {
	ID    string `json:"id"`
	Help  string `json:"help"`
	Nodes []struct {
		HTML    string `json:"html"`
		Summary string `json:"failureSummary"`
	} `json:"nodes"`
}

// Accessible fails for everything that axe-core finds, and for what the page itself complains about.
func (b *Browser) Accessible(name, options string) {
	b.t.Helper()
	if !Eval[bool](b, "typeof axe === 'object'") {
		Eval[any](b, b.axe+";null")
	}
	found := Eval[[]violation](b, `axe.run(document, {resultTypes: ["violations"], ...`+options+`}).then((r) => r.violations)`)
	for _, v := range found {
		for _, n := range v.Nodes {
			b.t.Errorf("%s: %s: %s\n%s\n%s", name, v.ID, v.Help, n.HTML, n.Summary)
		}
	}
	for _, wrong := range Eval[[]string](b, "window.wrongs") {
		b.t.Errorf("%s: %s", name, wrong)
	}
	if wide := Eval[float64](b, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); wide > 0 {
		b.t.Errorf("%s: the page is %v pixels wider than the window", name, wide)
	}
}
