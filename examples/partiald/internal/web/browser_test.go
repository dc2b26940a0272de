package web_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/examples/internal/webtest"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job/jobtest"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/web"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
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
	put("libxul.so", 20_000, 300)
	put("omni.ja", 10_000, 100)
	put("browser/omni.ja", 9_000, 40)
	put("browser/features/formautofill@mozilla.org.xpi", 3_000, 20)
	put("firefox", 4_000, 9)
	put("application.ini", 700, 8)
	put("platform.ini", 300, 3)
	put("defaults/pref/channel-prefs.js", 300, 0)
	put("dependentlibs.list", 200, 0)
	old["browser/features/screenshots@mozilla.org.xpi"] = &fstest.MapFile{Data: content(1500), Mode: 0o644}
	young["browser/features/newtab@mozilla.org.xpi"] = &fstest.MapFile{Data: content(3500), Mode: 0o644}
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
	provenance, err := json.Marshal(senbonzakura.Provenance{Recipe: report.RecipeID, Report: report, Checks: report.Checks.Skip(updater.CheckDowngrade)})
	if err != nil {
		t.Fatal(err)
	}
	return from, to, jobtest.Output{
		Partial: b.Bytes(), Complete: int64(len(to)), Report: doc, Provenance: provenance,
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
	gone := &job.Error{Code: job.CodeFetch, Retryable: true, Message: "https://archive.example.org/de/firefox-152.0.complete.mar: 503 Service Unavailable"}
	begun := time.Now().UTC().Add(-time.Hour)
	s.svc.Edit(failed.ID, func(st *job.Status) {
		st.By = "relbot"
		for i := range 5 {
			at := begun.Add(time.Duration(i) * time.Minute)
			st.Attempts = append(st.Attempts, job.Attempt{Number: i + 1, Server: "test", Begun: at, Ended: at.Add(20 * time.Second), Step: job.Fetching, Outcome: job.AttemptFailed, Error: gone})
		}
		st.Attempts[2].Outcome, st.Attempts[2].Error = job.AttemptHandedBack, nil
	})
	s.svc.Fail(failed.ID, &job.Error{
		Code: job.CodeFetch, Retryable: true,
		Message: "https://archive.example.org/pub/firefox/releases/152.0/update/linux-x86_64/de/firefox-152.0.complete.mar: 404 Not Found, after 5 tries",
	})
	running := ask("fr", 3)
	through(running.ID, job.Diffing)
	s.svc.Move(running.ID, job.Diffing, job.Progress{File: "browser/omni.ja", Done: 31 << 20, Total: 88 << 20})
	queued := ask("ja", 4)
	refused := ask("tr", 7)
	through(refused.ID, job.Diffing)
	s.svc.Refuse(refused.ID, &job.Error{Code: job.CodeRefused, Message: "1.0 is no way to 2.0: a watershed lies between"}, docOf(t, partial.Report{
		Findings: []partial.Finding{
			{Kind: partial.KindSize, Severity: partial.Note, Message: "the update is larger than the complete"},
			{Kind: partial.KindName, Severity: partial.Broken, Path: "a<b>\u202e.txt", Message: "clients would crash here", WayOut: "leave the file out"},
		},
		Checks: updater.Verdicts{{Check: updater.CheckClientChannel, Answer: updater.Fails, Reason: "it accepts other channels", WayOut: "ask for another channel"}},
	}))
	waiting := ask("ko", 8)
	s.svc.Edit(waiting.ID, func(st *job.Status) {
		st.Next = &job.Next{At: time.Now().Add(time.Hour), Try: 2, Of: 5}
		st.Attempts = []job.Attempt{{Number: 1, Server: "test", Begun: begun, Ended: begun.Add(time.Second), Step: job.Fetching, Outcome: job.AttemptFailed, Error: gone}}
	})
	lost := ask("sv", 9)
	s.svc.Finish(lost.ID, out)
	s.svc.Lose(lost.ID)
	var locales job.Batch
	s.do("POST", "/api/v1/batches", matrix()).want(202).decode(&locales)
	s.svc.Finish(locales.Jobs[0].ID, out)
	s.svc.Move(locales.Jobs[1].ID, job.Diffing, job.Progress{Total: -1})
	s.svc.Fail(locales.Jobs[2].ID, gone)
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
		"log": "/jobs/" + done.ID + "/log", "job-refused": "/jobs/" + refused.ID, "job-waiting": "/jobs/" + waiting.ID,
		"job-lost": "/jobs/" + lost.ID, "batch-grid": "/batches/" + locales.ID, "again": "/?again=" + refused.ID, "health": "/health",
	}
}

func docOf(tb testing.TB, v any) job.Document {
	tb.Helper()
	doc, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return doc
}

// matrix asks for four locales on two platforms.
func matrix() string {
	var from, to []string
	for i, locale := range []string{"de", "fr", "ja", "pl"} {
		for k, platform := range []string{"linux-x86_64", "win64"} {
			build := func(n int) string {
				return fmt.Sprintf(`{"urls":["https://archive.example.org/%s/%s/%d.complete.mar"],"sha512":"%0128x","locale":%q,"platform":%q}`, platform, locale, n, 100*n+10*i+k, locale, platform)
			}
			from, to = append(from, build(152)), append(to, build(153))
		}
	}
	return `{"matrix":{"from":[` + strings.Join(from, ",") + `],"to":[` + strings.Join(to, ",") + `]},"settings":{"product":"firefox"}}`
}

// TestAccessible has every page checked by axe-core, in light and dark, on a desk and on a phone.
func TestAccessible(t *testing.T) {
	t.Parallel()
	b := webtest.OpenWithAxe(t)
	s := open(t, everything)
	pages := furnish(t, s)
	if testkit.Count(0, 1, 1) == 0 { // all of them take half a minute
		maps.DeleteFunc(pages, func(name, _ string) bool {
			return !slices.Contains([]string{"home-open", "job-done", "job-failed", "history", "queue", "batch-grid"}, name)
		})
	}
	for name, path := range pages {
		b.Do(b.Scheme("light"), chromedp.EmulateViewport(1280, 900), chromedp.Navigate(s.srv.URL+path))
		b.Accessible(name, "{}")
		b.Shot(name + "-light")
		b.Do(b.Scheme("dark"))
		b.Accessible(name+" in dark", `{runOnly: ["color-contrast", "link-in-text-block"]}`)
		b.Shot(name + "-dark")
		b.Do(b.Scheme("light"), chromedp.EmulateViewport(390, 844))
		b.Accessible(name+" on a phone", `{runOnly: ["scrollable-region-focusable", "target-size"]}`)
		b.Shot(name + "-phone")
	}
}

// TestFormErrors looks at the form when something is wrong in it.
func TestFormErrors(t *testing.T) {
	t.Parallel()
	b := webtest.OpenWithAxe(t)
	s := open(t, everything)
	b.Do(b.Scheme("light"), chromedp.EmulateViewport(1280, 900), chromedp.Navigate(s.srv.URL+"/"),
		chromedp.SendKeys("#from_url", "https://example.org/a.mar"), chromedp.SendKeys("#from_hash", "abc"),
		chromedp.Click("main form button"))
	b.Until(`document.querySelector("[role=alert]") !== null`)
	b.Accessible("wrong form", "{}")
	b.Shot("home-wrong")
	for field, want := range map[string]string{"from_hash": "128", "to_url": "choose a file"} {
		if got := webtest.Eval[string](b, fmt.Sprintf(`document.getElementById(document.getElementById(%q).getAttribute("aria-describedby")).innerText`, field)); !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q in it", field, got, want)
		}
	}
	if got := webtest.Eval[string](b, `document.getElementById("from_url").value`); got != "https://example.org/a.mar" {
		t.Errorf("the form forgot the address: %q", got)
	}
}

// TestMakePartial is the way of a newcomer: two files into the form, the partial out, with and without JavaScript.
func TestMakePartial(t *testing.T) {
	t.Parallel()
	b := webtest.Open(t)
	from, to, out := realPartial(t)
	dir := t.TempDir()
	for name, data := range map[string][]byte{"from.mar": from, "to.mar": to} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.Do(b.Scheme("light"), chromedp.EmulateViewport(1280, 900))
	for _, script := range []bool{true, false} {
		t.Run(fmt.Sprintf("script=%v", script), func(t *testing.T) {
			b := b.For(t)
			svc := jobtest.New()
			asked := make(chan job.Status, 1)
			svc.OnSubmit = func(st job.Status) { asked <- st }
			s := openWith(t, svc, web.Options{Anonymous: web.Roles(), Logger: slog.New(slog.DiscardHandler)})
			b.Do(b.Script(script), chromedp.Navigate(s.srv.URL+"/"),
				chromedp.SetUploadFiles("#from_file", []string{filepath.Join(dir, "from.mar")}),
				chromedp.SetUploadFiles("#to_file", []string{filepath.Join(dir, "to.mar")}),
				chromedp.Click("main form button"))
			st := <-asked
			for name, data := range map[string][]byte{st.Spec.From.SHA512: from, st.Spec.To.SHA512: to} {
				if !bytes.Equal(svc.Uploaded(name), data) {
					t.Errorf("the service has other bytes than the file")
				}
			}
			if script {
				b.Until(`location.pathname.startsWith("/jobs/") && document.querySelector(".state.queued") !== null`)
				webtest.Eval[any](b, `window.same = "yes"; document.querySelector("main a[href$='/log']").focus(); null`)
			}
			svc.Move(st.ID, job.Diffing, job.Progress{File: "omni.ja", Done: 25, Total: 100})
			b.Until(`document.querySelector(".state.diffing, .state.running")?.innerText === "diffing"`)
			if script {
				svc.Move(st.ID, job.Diffing, job.Progress{File: "omni.ja", Done: 75, Total: 100})
				if got := webtest.Eval[string](b, `document.activeElement.innerText`); got != "Log" {
					t.Errorf("the focus went to %q with the new state", got)
				}
				b.Until(`document.getElementById("progress").value === 75`)
				b.Until(`document.getElementById("says").innerText.includes("75 %")`)
			}
			svc.Finish(st.ID, out)
			b.Until(`document.querySelector("a.button[href^='/api/v1/partials/']") !== null`)
			if script && webtest.Eval[string](b, `window.same`) != "yes" {
				t.Error("the page was loaded anew instead of kept up to date")
			}
			href := webtest.Eval[string](b, `document.querySelector("a.button[href^='/api/v1/partials/']").getAttribute("href")`)
			if got := s.do("GET", href, "").want(200).body; got != string(out.Partial) {
				t.Errorf("downloaded %d bytes, want %d", len(got), len(out.Partial))
			}
			b.Shot(fmt.Sprintf("made-script-%v", script))
		})
	}
}
