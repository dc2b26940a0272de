package web_test

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job/jobtest"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/web"
)

var formHeader = []string{"Content-Type", "application/x-www-form-urlencoded", "Accept", "text/html"}

// has fails for every text that is not in the page.
func (r reply) has(texts ...string) reply {
	r.t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.body, text) {
			r.t.Errorf("%s: no %q\n%s", r.Request.URL, text, r.body)
		}
	}
	return r
}

// TestPages asks for every page of the browser tests, without a browser.
func TestPages(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	pages := furnish(t, s)
	inline := regexp.MustCompile(`(?i)\sstyle=|\son[a-z]+=|<style|javascript:|<script(>| [^>]*>[^<])`)
	for name, path := range pages {
		status := 200
		if name == "missing" {
			status = 404
		}
		r := s.do("GET", path, "", "Accept", "text/html").want(status)
		if r.Header.Get("Content-Type") != "text/html; charset=utf-8" || r.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v", path, r.Header)
		}
		if bad := inline.FindString(r.body); bad != "" {
			t.Errorf("%s: the policy forbids %q", path, bad)
		}
		if strings.Contains(r.body, "ZgotmplZ") || strings.Contains(r.body, "%!") {
			t.Errorf("%s: a template went wrong\n%s", path, r.body)
		}
		running := strings.Contains(r.body, `<noscript><meta http-equiv="refresh"`)
		if want := map[string]bool{"job-running": true, "job-queued": true, "batch": true, "queue": true, "health": true, "job-waiting": true, "batch-grid": true}[name]; running != want {
			t.Errorf("%s: refreshed: %v, want %v", path, running, want)
		}
		for _, m := range regexp.MustCompile(`(?:href|src)="(/[^"#]*)"`).FindAllStringSubmatch(r.body, -1) {
			if got := s.do("GET", strings.ReplaceAll(m[1], "&amp;", "&"), ""); got.StatusCode >= 400 && !strings.Contains(m[1], strings.TrimPrefix(pages["job-lost"], "/jobs/")) {
				t.Errorf("%s leads to %s: %s", path, m[1], got.Status)
			}
		}
	}
	s.do("GET", pages["job-done"], "").has("<h1>firefox 152.0 → 153.0, en-US, linux-x86_64</h1>", "Download the partial", "libxul.so", "patched", "removed", "Remove the file", "<rect class=\"part\"")
	s.do("GET", pages["job-failed"], "").has("A complete update could not be fetched", "404 Not Found", "or upload the file", "Try again", "/problems#fetch-failed")
	s.do("GET", pages["job-running"], "").has(`<progress id="progress" max="92274688" value="32505856">`, "31.0 MiB of 88.0 MiB", " · browser/omni.ja</p>", "/events", "Cancel")
	s.do("GET", pages["job-cancelled"], "").has("Cancelled", "Try again", "by anonymous")
	s.do("GET", pages["job-purged"], "").has("The file was removed", "Make it again")
	s.do("GET", pages["batch"], "").has("1 of 2 have ended")
	s.do("GET", pages["log"], "").has("state=storing", "What each file took", "libxul.so")
	s.do("GET", pages["job-done"], "").has("What the partial is made of", `class="plot treemap"`, "MBDIFF10", "diffing and proving")
	s.do("GET", pages["job-done"], "").has("Applied to the old version, it gives the new one", `<span class="state done">holds</span>`, `<span class="state queued">not checked</span>`,
		`An operator left it out.</span></th><td><span class="state cancelled">skipped</span>`, "The installed updater, as it was taken to be", "read in the old version&#39;s complete update", "assumed: as current updaters do", "updatev3.manifest", "rsa-pkcs1-sha384", `<th scope="row">Gecko</th><td class="any">not known<br><span class="small soft">nobody says`)
	s.do("GET", pages["job-failed"], "").has("Failed while <b>fetching</b>", "The fault is the origin", "What to do:", "Ask again with changes", "by relbot", "handed back", `<th scope="row" class="num">5</th>`)
	r := s.do("GET", pages["job-refused"], "").has("Failed while <b>diffing and proving</b>", "The fault is the request", "Trying the same again does not help", "Ask again with changes")
	if strings.Contains(r.body, `id="retry"`) {
		t.Error("trying again is offered where it cannot help")
	}
	r.has("What was found", "clients would crash here", "Leave the file out.", "It accepts other channels.", `<span class="state failed">fails</span>`, "Report as JSON")
	if broken, note := strings.Index(r.body, "clients would crash"), strings.Index(r.body, "larger than the complete"); broken > note || strings.Contains(r.body, "a<b>") || strings.Contains(r.body, "\u202e") {
		t.Errorf("what breaks clients does not stand first, or names are not shown as what they are\n%s", r.body)
	}
	s.do("GET", pages["job-waiting"], "").has("Attempt 2 of 5 comes next", `<span data-until="`, ">in 5", "503 Service Unavailable", "the origin&#39;s")
	s.do("GET", pages["job-lost"], "").has("The file is not here any more", "Make it again")
	s.do("GET", pages["again"], "").has("firefox-152.0.complete.mar", "Filled in as", `value="linux-x86_64"`, `value="tr"`)
	s.do("GET", pages["batch-grid"], "").has("By locale and platform", `<a class="cell done"`, `<a class="cell failed"`, `<a class="cell diffing"`, `<th scope="col">win64</th>`)
	s.do("GET", pages["health"], "").has("All is well")
	s.do("GET", pages["history"], "").has("Partials beside their complete updates", ">build: 7</span>", "<svg class=\"plot\"", `class="get"`)
	s.do("GET", pages["queue"], "").has("The last day", "Jobs that ended")
	s.do("GET", "/", "").has("Try it with a sample")
	s.do("GET", "/problems", "").has("queue-full", "digest-mismatch")
	s.do("GET", "/api", "").has("/api/v1/partials:check", "curl -sS "+s.srv.URL+"/api/v1/partials")
	s.do("GET", "/favicon.ico", "").want(301)
	s.do("GET", "/jobs/x", "", "Accept", "text/html").want(404).has("There is no job", "Request ID")
	s.do("GET", "/batches/x", "", "Accept", "text/html").want(404)
	s.do("GET", "/jobs/"+nobody+"/log", "").want(404)
	s.do("GET", "/static/app.css", "").want(404)
}

// What an origin will not answer otherwise by itself can be tried again once it was mended; how long it took is not only
// known of what was made.
func TestPageOfMissingComplete(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	st := s.submit(hashA, hashB, "")
	begun := time.Now().UTC().Add(-time.Minute)
	s.svc.Edit(st.ID, func(st *job.Status) {
		st.Attempts = []job.Attempt{{Number: 1, Begun: begun, Ended: begun.Add(2500 * time.Millisecond), Step: job.Fetching, Outcome: job.AttemptFailed}}
	})
	s.svc.Fail(st.ID, &job.Error{Code: job.CodeFetch, Message: "refused: 404 Not Found"})
	r := s.do("GET", "/jobs/"+st.ID, "").want(200).has(`id="retry"`, "Refused: 404 Not Found.", "The fault is the origin")
	if strings.Contains(r.body, "does not help") {
		t.Errorf("it says at once to try again and that this does not help\n%s", r.body)
	}
	s.do("GET", "/history", "").want(200).has(`<td class="num wide">2.5 s</td>`)
	s.do("GET", "/api/v1/history?format=csv", "").want(200).has(",2.500,")
}

func TestPageHistory(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	for i := range 60 {
		s.submit(hashA, fmt.Sprintf("%0128d", i), fmt.Sprintf(`,"labels":{"<b>":"n%d"}`, i))
	}
	r := s.do("GET", "/history", "").want(200)
	if n := strings.Count(r.body, `<th scope="row">`); n != 50 {
		t.Errorf("%d jobs on the page, want 50", n)
	}
	next := regexp.MustCompile(`href="(/history\?cursor=[^"]*)"`).FindStringSubmatch(r.body)
	if next == nil {
		t.Fatalf("no next page\n%s", r.body)
	}
	r = s.do("GET", next[1], "").want(200).has(`<a href="/history">Newest</a>`)
	if n := strings.Count(r.body, `<th scope="row">`); n != 10 || strings.Contains(r.body, "Older") {
		t.Errorf("%d jobs on the last page, want 10", n)
	}
	s.do("GET", "/history?q=n7&state=queued&who=anonymous", "").want(200).has(`value="n7"`, "<option selected>queued</option>")
	s.do("GET", "/history?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E", "").want(200).has("Nothing matches", "&lt;script&gt;")
	s.do("GET", "/history?label=%3Cb%3E%3A+n7", "").want(200).has(`value="&lt;b&gt;: n7"`, "&lt;b&gt;: n7</span>", "/api/v1/history?format=csv&amp;label=%3Cb%3E%3Dn7&amp;limit=1000")
	if r := s.do("GET", "/api/v1/history?label=%3Cb%3E%3Dn7", "").want(200); strings.Count(r.body, `"created"`) != 1 {
		t.Errorf("by label: %s", r.body)
	}
	s.do("GET", "/history?q=%ff", "").want(200)
	s.do("GET", "/history?state=nonsense", "").want(422).has("A field cannot be used")
	s.do("GET", "/history?cursor=nonsense", "").want(422)
	s.svc.Break(job.Errorf(job.CodeUnavailable, "the ledger is away"))
	s.do("GET", "/history", "").want(503).has("The ledger is away.")
	s.do("GET", "/queue", "").want(503).has("The ledger is away.")
	s.do("GET", "/", "").want(200).has("Make the partial")
}

// form is a form with files as browsers send it.
func form(t *testing.T, fields ...string) (body, contentType string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(fields); i += 2 {
		var part io.Writer
		var err error
		if strings.HasSuffix(fields[i], "_file") {
			name := fields[i] + ".mar"
			if fields[i+1] == "" {
				name = ""
			}
			if other, ok := strings.CutPrefix(fields[i+1], "@"); ok { // the file's name
				name = other
			}
			part, err = w.CreateFormFile(fields[i], name)
		} else {
			part, err = w.CreateFormField(fields[i])
		}
		if err == nil {
			_, err = io.WriteString(part, fields[i+1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String(), w.FormDataContentType()
}

func TestPageForm(t *testing.T) {
	t.Parallel()
	s := open(t, web.Options{Anonymous: web.Roles()})
	s.svc.MaxUpload = 100_000
	post := func(status int, fields ...string) reply {
		t.Helper()
		body, ct := form(t, fields...)
		return s.do("POST", "/jobs", body, "Content-Type", ct).want(status)
	}
	made := func(r reply) job.Spec {
		t.Helper()
		st := s.do("GET", "/api/v1"+r.Header.Get("Location"), "").want(200).job()
		return st.Spec
	}
	sp := made(post(303, "from_url", " https://example.org/a.mar ", "from_hash", strings.ToUpper(hashA), "from_file", "",
		"to_url", "https://example.org/b.mar https://mirror.example/b.mar", "to_hash", hashB[:64], "to_file", "",
		"product", "firefox", "platform", "linux", "arch", "x86", "locale", "de", "channel", "release", "product_version", "2",
		"channels", "a, b", "force", "x\r\n y \r\n\r\n", "skip", "downgrade", "skip", "product", "recipe", "mozilla", "priority", "7"))
	want := job.Spec{
		From:    job.Source{URLs: []string{"https://example.org/a.mar"}, SHA512: hashA},
		To:      job.Source{URLs: []string{"https://example.org/b.mar", "https://mirror.example/b.mar"}, SHA256: hashB[:64]},
		Product: "firefox", Platform: "linux", Arch: "x86", Locale: "de", Channel: "release", ProductVersion: "2",
		Channels: []string{"a", "b"}, Force: []string{"x", "y"}, Skip: []string{"downgrade", "product"}, Recipe: "mozilla", Priority: 7,
	}
	if fmt.Sprint(sp) != fmt.Sprint(want) {
		t.Errorf("got  %+v\nwant %+v", sp, want)
	}
	sp = made(post(303, "from_file", "old", "to_url", "https://example.org/b.mar", "to_hash", hashB, "to_file", ""))
	if string(s.svc.Uploaded(sp.From.SHA512)) != "old" || sp.From.Size != 3 || len(sp.From.URLs) != 0 {
		t.Errorf("got %+v", sp.From)
	}
	// What may not be left out is not offered, and never the proof nor signatures.
	for _, tt := range []struct {
		opts web.Options
		want []string
	}{
		{web.Options{Anonymous: web.Roles(), Skip: []string{"downgrade", "verify", "signatures"}}, []string{"downgrade"}},
		{web.Options{Anonymous: web.Roles()}, nil},
		{web.Options{Anonymous: []web.Role{web.RoleRead, web.RoleSubmit}, Skip: []string{"downgrade"}}, nil},
	} {
		page := open(t, tt.opts).do("GET", "/", "").want(200).body
		var got []string
		for _, m := range regexp.MustCompile(`name="skip" value="(\w+)"`).FindAllStringSubmatch(page, -1) {
			got = append(got, m[1])
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("skip %q: the form offers to leave out %q, want %q", tt.opts.Skip, got, tt.want)
		}
	}
	// The form works without files, too.
	s.do("POST", "/jobs", url.Values{"from_hash": {hashA}, "to_hash": {hashC}}.Encode(), formHeader...).want(303)

	// What is wrong is said where it is, and what was right is kept.
	post(422, "from_url", "https://example.org/a.mar", "from_hash", hashA, "priority", "4", "force", "path").
		has("Give an address and a hash, or choose a file.", `value="`+hashA+`"`, `<option value="4" selected>`, ">path</textarea>", `href="#to_url"`)
	post(422, "from_url", "https://example.org/a.mar", "to_hash", "xyz").has("The hash is needed with an address.", "128 hexadecimal digits")
	post(422, "from_url", "ftp://example.org/a.mar", "from_hash", hashA, "to_hash", hashB).has("is no address of HTTP")
	// An upload is not asked for twice.
	r := post(422, "from_file", "old", "to_file", "").has("need not be sent again")
	if hash := regexp.MustCompile(`id="from_hash"[^>]*value="([0-9a-f]{128})"`).FindStringSubmatch(r.body); hash == nil || string(s.svc.Uploaded(hash[1])) != "old" {
		t.Errorf("the form has no hash of the upload\n%s", r.body)
	}
	post(422, "from_hash", hashA, "from_file", "old", "to_hash", hashB).has("The uploaded file has another hash")
	post(413, "from_file", strings.Repeat("x", 200_000), "to_hash", hashB).has("The upload is larger than 100000 bytes.")
	post(422, "from_file", "old", "from_file", "other", "to_hash", hashB).has("The form has two files for FROM.")
	post(413, "force", strings.Repeat("x", 70_000)).has("more than 64 KiB")
	post(422, "from_hash", hashA, "to_hash", hashB, "locale", "\xff").has("not UTF-8")
	post(422, "from_hash", hashA, "to_hash", hashB, "priority", "x").has("The priority is 0 to 9.")
	var many []string
	for i := range 150 {
		many = append(many, fmt.Sprint("f", i), "")
	}
	post(413, many...).has("more than 100 fields")
	s.svc.Stop()
	if r := post(503, "from_file", "x", "to_hash", hashB); r.Header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
}

func TestPageActions(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	st := s.submit(hashA, hashB)
	post := func(status int, path string, fields ...string) reply {
		t.Helper()
		v := url.Values{}
		for i := 0; i < len(fields); i += 2 {
			v.Set(fields[i], fields[i+1])
		}
		return s.do("POST", path, v.Encode(), formHeader...).want(status)
	}
	page := "/jobs/" + st.ID
	if got := post(303, page+"/cancel").Header.Get("Location"); got != page {
		t.Errorf("sent to %q", got)
	}
	post(303, page+"/retry")
	post(409, page+"/retry").has("Contradicts what is known")
	s.svc.Finish(st.ID, jobtest.Output{Partial: []byte("p")})
	post(303, page+"/purge")
	s.do("GET", "/api/v1/partials/"+st.ID, "").problem(404, job.CodeNotFound)
	post(303, page+"/again")
	for _, what := range []string{"cancel", "retry", "again", "purge"} {
		post(404, "/jobs/x/"+what)
		post(404, "/jobs/"+nobody+"/"+what)
	}
	post(303, "/bans", "address", "192.0.2.9", "hours", "2", "reason", "<b>loud</b>")
	s.do("GET", "/queue", "").has("192.0.2.9", "&lt;b&gt;loud", "Who did what")
	post(422, "/bans", "address", "x", "hours", "2").has("neither an IP address")
	post(422, "/bans", "address", "192.0.2.9", "hours", "many").has("from 1 to 8760")
	post(303, "/bans/lift", "address", "192.0.2.9")
	post(404, "/bans/lift", "address", "192.0.2.9")

	line := "https://example.org/a.mar " + hashA + " https://example.org/b.mar " + hashB
	r := post(303, "/batches", "lines", "# all of them\n\n"+line+"\n"+line+" de linux\n", "product", "firefox")
	s.do("GET", r.Header.Get("Location"), "").has("2 partials", "firefox a → b, de, linux")
	post(422, "/batches", "lines", line+"\nhttps://example.org/a.mar\n").has("Line 2 has 1 words", line)
	post(422, "/batches", "lines", "a b c d").has("line 1: the second word")
	post(422, "/batches", "lines", line+"\n\nftp://x/a "+hashA+" https://x/b "+hashB).has("ine 3: from.urls[0]:")
	post(422, "/batches", "lines", "").has("asks for nothing")

	var lines strings.Builder
	for i := range 350 {
		fmt.Fprintf(&lines, "https://example.org/a.mar %0128x https://example.org/b.mar %s\n", i, hashB)
	}
	large := post(303, "/batches", "lines", lines.String()).Header.Get("Location")
	page350, err := s.svc.History(t.Context(), job.Filter{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	s.svc.Fail(page350.Jobs[0].ID, &job.Error{Code: job.CodeFetch, Message: "404"}) // the last line
	r = s.do("GET", large, "").has("1 of 350 have ended", "50 more are in the", "fetch-failed", `content="10"`)
	if n := strings.Count(r.body, `<th scope="row">`); n != 300 {
		t.Errorf("%d rows, want 300", n)
	}
	s.do("GET", strings.Replace(large, "/batches/", "/history?batch=", 1), "").has("one batch", `<input type="hidden" name="batch"`, "batch="+large[len("/batches/"):])
	s.svc.Stop()
	post(503, "/batches", "lines", line)
	post(503, page+"/retry")
}

// TestLiveJobPage: steps of a job that was tried twice.
func TestLiveJobPage(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	st := s.submit(hashA, hashB)
	s.svc.Move(st.ID, job.Fetching, job.Progress{Total: -1})
	s.svc.Fail(st.ID, &job.Error{Code: job.CodeFetch, Message: "timeout"})
	r := s.do("GET", "/jobs/"+st.ID, "").has(`<li class="failed"><b>fetching</b>`)
	if strings.Contains(r.body, "<progress") {
		t.Error("a failed job makes progress")
	}
	s.do("POST", "/api/v1/jobs/"+st.ID+"/retry", "").want(202)
	r = s.do("GET", "/jobs/"+st.ID, "").has("Waiting for a worker", `<li class="now" aria-current="step"><b>waiting</b><span><span data-since="`)
	if strings.Contains(r.body, `class="failed"`) {
		t.Error("the steps are those of the attempt before")
	}
	if !regexp.MustCompile(`Asked for by anonymous, <time datetime="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ">\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC</time>`).MatchString(r.body) {
		t.Errorf("who asked and when is not on the page\n%s", r.body)
	}
}

// Dates select whole days, and what is no date is said to be none.
func TestHistoryDates(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	st := s.submit(hashA, hashB, "")
	today := time.Now().UTC().Format(time.DateOnly)
	s.do("GET", "/history?since="+today+"&until="+today, "").want(200).has("/jobs/"+st.ID, "since="+today+"T00%3A00%3A00Z", `type="date" value="`+today+`"`)
	s.do("GET", "/history?until=2020-01-01", "").want(200).has("Nothing matches")
	s.do("GET", "/history?since=2999-01-01", "").want(200).has("Nothing matches")
	s.do("GET", "/history?since=yesterday", "").want(422).has("is not a date")
}

// A sample is made, uploaded and asked for, once however often the button is pressed; not where signatures are wanted.
func TestSample(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	r := s.do("POST", "/sample", "", formHeader...).want(303)
	id := strings.TrimPrefix(r.Header.Get("Location"), "/jobs/")
	st := s.do("GET", "/api/v1/jobs/"+id, "").job()
	if st.Spec.From.Name != "sample-1.0.complete.mar" || len(s.svc.Uploaded(st.Spec.From.SHA512)) < 100<<10 || len(s.svc.Uploaded(st.Spec.To.SHA512)) < 100<<10 {
		t.Errorf("%+v", st.Spec)
	}
	s.do("GET", "/jobs/"+id, "").want(200).has("<h1>sample-1.0 → sample-2.0, en-US, linux-x86_64</h1>", "sample-1.0.complete.mar, uploaded")
	none := everything
	none.Sample = false
	s = open(t, none)
	s.do("POST", "/sample", "", formHeader...).want(404)
	if r := s.do("GET", "/", ""); strings.Contains(r.body, "sample") {
		t.Error("a sample is offered where it cannot be made")
	}
	reader := everything
	reader.Anonymous = []web.Role{web.RoleRead}
	s = open(t, reader)
	s.do("POST", "/sample", "", formHeader...).want(401)
}

// What is uploaded keeps its name, also when the form comes back, and names cannot play tricks.
func TestUploadNames(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	body, kind := form(t, "from_file", "@C:/builds/old\u202egnp.mar", "to_url", "https://example.org/new.mar")
	r := s.do("POST", "/jobs", body, "Content-Type", kind, "Accept", "text/html").want(422).has("old[U&#43;202E]gnp.mar was uploaded (", `name="from_name" value="old`)
	hash := regexp.MustCompile(`id="from_hash" name="from_hash" value="([0-9a-f]{128})"`).FindStringSubmatch(r.body)
	if hash == nil {
		t.Fatal("no hash")
	}
	again := url.Values{"from_hash": {hash[1]}, "from_name": {"old\u202egnp.mar"}, "to_url": {"https://example.org/new.mar"}, "to_hash": {hashB}}
	r = s.do("POST", "/jobs", again.Encode(), formHeader...).want(303)
	s.do("GET", r.Header.Get("Location"), "").want(200).has("<h1>old[U&#43;202E]gnp → new</h1>")
}

// A page that many look at is the same for all, and that of another job is another.
func TestFragments(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	a, b := s.submit(hashA, hashB, ""), s.submit(hashA, hashC, "")
	for i, st := range []job.Status{a, b} {
		s.svc.Finish(st.ID, jobtest.Output{Partial: []byte("x"), Complete: 100, Provenance: job.Document(fmt.Sprintf(`{"report":{"verified":true,"files":[{"path":"<file%d>","action":"patch","size":%d,"full_size":9}]}}`, i, i+3))})
	}
	for range 3 {
		for i, st := range []job.Status{a, b} {
			r := s.do("GET", "/jobs/"+st.ID, "").want(200).has(fmt.Sprintf("&lt;file%d&gt;", i), fmt.Sprintf("%d bytes", i+3))
			if strings.Contains(r.body, fmt.Sprintf("&lt;file%d&gt;", 1-i)) {
				t.Error("the files of another job")
			}
		}
	}
	z := s.submit(hashB, hashC, "")
	s.svc.Finish(z.ID, jobtest.Output{Partial: []byte("x"), Complete: 100, Provenance: job.Document(`{"report":{"recipe_id":"differ=x/MBDIFF10","files":[` +
		`{"path":"a.dll","action":"patch","size":7,"full_size":9,"format":"zucchini"},{"path":"b","action":"patch","size":5,"full_size":9,"format":"mbdiff10"},{"path":"c","action":"patch","size":3,"full_size":9}]}}`)})
	s.do("GET", "/jobs/"+z.ID, "").want(200).has("Zucchini patches (1, 7 bytes)", "patches (2, 8 bytes)", "a.dll: patched, Zucchini, 7 bytes", "b: patched, MBDIFF10", "c: patched, MBDIFF10")
	if n := s.svc.Calls("Provenance"); n != 3 {
		t.Errorf("the reports of three jobs were read %d times", n)
	}
}
