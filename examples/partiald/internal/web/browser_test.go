package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job/jobtest"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/web"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
)

// realPartial makes a partial update of two small releases, with its report.
func realPartial(t *testing.T) (from, to []byte, out jobtest.Output) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	content := func(n int) []byte {
		p := make([]byte, n)
		for i := range p {
			p[i] = "etaoinshrdlucmfw \n"[random.IntN(18)]
		}
		return p
	}
	old, young := fstest.MapFS{}, fstest.MapFS{}
	put := func(name string, n, changed int) {
		a := content(n)
		b := bytes.Clone(a)
		for range changed {
			b[random.IntN(n)] ^= 1
		}
		old[name] = &fstest.MapFile{Data: a, Mode: 0o644}
		young[name] = &fstest.MapFile{Data: b, Mode: 0o644}
	}
	put("libxul.so", 60_000, 900)
	put("omni.ja", 30_000, 300)
	put("browser/omni.ja", 28_000, 120)
	put("browser/features/formautofill@mozilla.org.xpi", 9_000, 60)
	put("firefox", 4_000, 9)
	put("application.ini", 700, 8)
	put("platform.ini", 300, 3)
	put("defaults/pref/channel-prefs.js", 300, 0)
	put("dependentlibs.list", 200, 0)
	old["browser/features/screenshots@mozilla.org.xpi"] = &fstest.MapFile{Data: content(5000), Mode: 0o644}
	young["browser/features/newtab@mozilla.org.xpi"] = &fstest.MapFile{Data: content(11_000), Mode: 0o644}
	pack := func(version string, tree fstest.MapFS) []byte {
		archive, _, err := partial.Pack(t.Context(), tree, partial.PackOptions{
			Product: &mar.Product{Channel: "example", Version: version}, Arch: "x86_64",
		})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := archive.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	from, to = pack("152.0", old), pack("153.0", young)
	open := func(data []byte) *mar.Reader {
		r, err := mar.NewReader(bytes.NewReader(data), int64(len(data)), nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	archive, report, err := partial.Build(t.Context(), open(from), open(to), partial.DefaultRecipe(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := archive.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	doc, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	return from, to, jobtest.Output{
		Partial: b.Bytes(), Complete: int64(len(to)), Report: doc, Provenance: job.Document(`{"recipe":"default"}`),
	}
}

// browser is a Chromium with one tab, without and with JavaScript.
type browser struct {
	t   *testing.T
	ctx context.Context
	axe string
	dir string // for screenshots
}

func openBrowser(t *testing.T) *browser {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser takes several seconds (-short)")
	}
	if raceEnabled {
		t.Skip("a browser and the race detector take too long together")
	}
	b := &browser{t: t}
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("no Chromium: apt-get install chromium fonts-dejavu-core")
	}
	if b.dir = os.Getenv("SENBON_SCREENSHOTS"); b.dir == "" {
		if f := flag.Lookup("test.artifacts"); f != nil && f.Value.String() == "true" {
			b.dir = t.ArtifactDir()
		}
	} else if err := os.MkdirAll(b.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox,
		chromedp.Flag("disable-gpu", true), chromedp.Flag("hide-scrollbars", true))
	alloc, cancel := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), opts...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	b.ctx = ctx
	b.do(chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
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

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// eval returns the value of an expression in the page.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// until waits for an expression to be true.
func (b *browser) until(expression string) {
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

func (b *browser) script(on bool) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
		return err
	})
}

func (b *browser) scheme(name string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"}},
		})
		return err
	})
}

// shot keeps a picture of the whole page, where they are asked for.
func (b *browser) shot(name string) {
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

// loadAxe finds axe-core, which checks pages for what keeps people out.
func (b *browser) loadAxe() {
	b.t.Helper()
	places := []string{os.Getenv("SENBON_AXE")}
	if places[0] == "" {
		places[0] = "node_modules/axe-core/axe.min.js"
		if root, err := exec.CommandContext(b.t.Context(), "npm", "root", "--global").Output(); err == nil {
			places = append(places, filepath.Join(strings.TrimSpace(string(root)), "axe-core", "axe.min.js"))
		}
	}
	for _, p := range places {
		data, err := os.ReadFile(p)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			b.t.Fatal(err)
		}
		b.axe = string(data)
		return
	}
	b.t.Skip("no axe-core: npm install --global axe-core@4.14.1, or SENBON_AXE=…/axe.min.js")
}

type violation struct {
	ID    string `json:"id"`
	Help  string `json:"help"`
	Nodes []struct {
		HTML    string `json:"html"`
		Summary string `json:"failureSummary"`
	} `json:"nodes"`
}

// accessible fails for everything that axe-core finds, and for what the page itself complains about.
func (b *browser) accessible(name, options string) {
	b.t.Helper()
	if !eval[bool](b, "typeof axe === 'object'") {
		eval[any](b, b.axe+";null")
	}
	found := eval[[]violation](b, `axe.run(document, {resultTypes: ["violations"], ...`+options+`}).then((r) => r.violations)`)
	for _, v := range found {
		for _, n := range v.Nodes {
			b.t.Errorf("%s: %s: %s\n%s\n%s", name, v.ID, v.Help, n.HTML, n.Summary)
		}
	}
	for _, wrong := range eval[[]string](b, "window.wrongs") {
		b.t.Errorf("%s: %s", name, wrong)
	}
	if wide := eval[float64](b, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); wide > 0 {
		b.t.Errorf("%s: the page is %v pixels wider than the window", name, wide)
	}
}

// furnish puts jobs of all kinds into the service and returns the pages that show them.
func furnish(t *testing.T, s *site) map[string]string {
	t.Helper()
	_, _, out := realPartial(t)
	ask := func(locale string, n int) job.Status {
		t.Helper()
		body := fmt.Sprintf(`{"from":{"urls":["https://archive.example.org/pub/firefox/releases/152.0/update/linux-x86_64/%s/firefox-152.0.complete.mar"],"sha512":"%0128x"},
			"to":{"urls":["https://archive.example.org/pub/firefox/releases/153.0/update/linux-x86_64/%s/firefox-153.0.complete.mar"],"sha512":"%0128x"},
			"product":"firefox","platform":"linux-x86_64","locale":%q,"labels":{"build":"7"}}`, locale, n, locale, n+1000, locale)
		return s.do("POST", "/api/v1/partials", body).want(202).job()
	}
	through := func(id string, to job.State) {
		for _, st := range job.States()[1:] {
			s.svc.Move(id, st, job.Progress{Total: -1})
			if st == to {
				return
			}
		}
	}
	done := ask("en-US", 1)
	through(done.ID, job.Storing)
	s.svc.Finish(done.ID, out)
	failed := ask("de", 2)
	through(failed.ID, job.Fetching)
	s.svc.Fail(failed.ID, &job.Error{
		Code: job.CodeFetch, Retryable: true,
		Message: "https://archive.example.org/pub/firefox/releases/152.0/update/linux-x86_64/de/firefox-152.0.complete.mar: 404 Not Found, after 5 tries",
	})
	running := ask("fr", 3)
	through(running.ID, job.Diffing)
	s.svc.Move(running.ID, job.Diffing, job.Progress{File: "browser/omni.ja", Done: 31 << 20, Total: 88 << 20})
	queued := ask("ja", 4)
	cancelled := ask("it", 5)
	s.do("DELETE", "/api/v1/jobs/"+cancelled.ID, "").want(200)
	purged := ask("pl", 6)
	s.svc.Finish(purged.ID, out)
	s.do("DELETE", "/api/v1/partials/"+purged.ID, "").want(200)
	var batch job.Batch
	s.do("POST", "/api/v1/batches", `{"matrix":{"from":[
		{"urls":["https://archive.example.org/151.0.complete.mar"],"sha512":"`+hashA+`"},{"urls":["https://archive.example.org/152.0.complete.mar"],"sha512":"`+hashB+`"}],
		"to":[{"urls":["https://archive.example.org/153.0.complete.mar"],"sha512":"`+hashC+`"}]},"settings":{"product":"firefox"}}`).want(202).decode(&batch)
	s.svc.Finish(batch.Jobs[0].ID, out)
	s.do("POST", "/api/v1/bans", `{"address":"192.0.2.7","seconds":3600,"reason":"too many requests"}`).want(200)
	return map[string]string{
		"home": "/", "home-open": "/?product=firefox&skip=downgrade", "history": "/history", "history-none": "/history?q=nothing",
		"queue": "/queue", "api": "/api", "problems": "/problems", "login": "/login", "missing": "/nothing",
		"batch": "/batches/" + batch.ID, "batch-new": "/batches/new",
		"job-done": "/jobs/" + done.ID, "job-failed": "/jobs/" + failed.ID, "job-running": "/jobs/" + running.ID,
		"job-queued": "/jobs/" + queued.ID, "job-cancelled": "/jobs/" + cancelled.ID, "job-purged": "/jobs/" + purged.ID,
		"log": "/jobs/" + done.ID + "/log",
	}
}

// TestAccessible has every page checked by axe-core, in light and dark, on a desk and on a phone.
func TestAccessible(t *testing.T) {
	b := openBrowser(t)
	b.loadAxe()
	s := open(t, everything)
	pages := furnish(t, s)
	for name, path := range pages {
		b.do(b.scheme("light"), chromedp.EmulateViewport(1280, 900), chromedp.Navigate(s.srv.URL+path))
		b.accessible(name, "{}")
		b.shot(name + "-light")
		b.do(b.scheme("dark"))
		b.accessible(name+" in dark", `{runOnly: ["color-contrast", "link-in-text-block"]}`)
		b.shot(name + "-dark")
		b.do(b.scheme("light"), chromedp.EmulateViewport(390, 844))
		b.accessible(name+" on a phone", `{runOnly: ["scrollable-region-focusable", "target-size"]}`)
		b.shot(name + "-phone")
	}
}

// TestFormErrors looks at the form when something is wrong in it.
func TestFormErrors(t *testing.T) {
	b := openBrowser(t)
	b.loadAxe()
	s := open(t, everything)
	b.do(b.scheme("light"), chromedp.EmulateViewport(1280, 900), chromedp.Navigate(s.srv.URL+"/"),
		chromedp.SendKeys("#from_url", "https://example.org/a.mar"), chromedp.SendKeys("#from_hash", "abc"),
		chromedp.Click("main form button"))
	b.until(`document.querySelector("[role=alert]") !== null`)
	b.accessible("wrong form", "{}")
	b.shot("home-wrong")
	for field, want := range map[string]string{"from_hash": "128", "to_url": "choose a file"} {
		if got := eval[string](b, fmt.Sprintf(`document.getElementById(document.getElementById(%q).getAttribute("aria-describedby")).innerText`, field)); !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q in it", field, got, want)
		}
	}
	if got := eval[string](b, `document.getElementById("from_url").value`); got != "https://example.org/a.mar" {
		t.Errorf("the form forgot the address: %q", got)
	}
}

// TestMakePartial is the way of a newcomer: two files into the form, the partial out, with and without JavaScript.
func TestMakePartial(t *testing.T) {
	from, to, out := realPartial(t)
	dir := t.TempDir()
	for name, data := range map[string][]byte{"from.mar": from, "to.mar": to} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := openBrowser(t)
	b.do(b.scheme("light"), chromedp.EmulateViewport(1280, 900))
	for _, script := range []bool{true, false} {
		t.Run(fmt.Sprintf("script=%v", script), func(t *testing.T) {
			b.t = t
			svc := jobtest.New()
			asked := make(chan job.Status, 1)
			svc.OnSubmit = func(st job.Status) { asked <- st }
			s := openWith(t, svc, web.Options{Anonymous: web.Roles(), Logger: slog.New(slog.DiscardHandler)})
			b.do(b.script(script), chromedp.Navigate(s.srv.URL+"/"),
				chromedp.SetUploadFiles("#from_file", []string{filepath.Join(dir, "from.mar")}),
				chromedp.SetUploadFiles("#to_file", []string{filepath.Join(dir, "to.mar")}),
				chromedp.Click("main form button"))
			st := <-asked
			for name, data := range map[string][]byte{st.Spec.From.SHA512: from, st.Spec.To.SHA512: to} {
				if !bytes.Equal(svc.Uploaded(name), data) {
					t.Errorf("the service has other bytes than the file")
				}
			}
			b.until(`location.pathname.startsWith("/jobs/") && document.querySelector(".state.queued") !== null`)
			if script {
				eval[any](b, `window.same = "yes"; null`)
			}
			svc.Move(st.ID, job.Diffing, job.Progress{File: "omni.ja", Done: 25, Total: 100})
			b.until(`document.querySelector(".state.diffing, .state.running")?.innerText === "diffing"`)
			if script {
				svc.Move(st.ID, job.Diffing, job.Progress{File: "omni.ja", Done: 75, Total: 100})
				b.until(`document.getElementById("progress").value === 75`)
				b.until(`document.getElementById("says").innerText.includes("75 %")`)
			}
			svc.Finish(st.ID, out)
			b.until(`document.querySelector("a[download]") !== null`)
			if script && eval[string](b, `window.same`) != "yes" {
				t.Error("the page was loaded anew instead of kept up to date")
			}
			href := eval[string](b, `document.querySelector("a[download]").getAttribute("href")`)
			if got := s.do("GET", href, "").want(200).body; got != string(out.Partial) {
				t.Errorf("downloaded %d bytes, want %d", len(got), len(out.Partial))
			}
			b.shot(fmt.Sprintf("made-script-%v", script))
		})
	}
}
