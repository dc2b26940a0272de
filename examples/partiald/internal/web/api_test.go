package web_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job/jobtest"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/web"
)

var nobody = strings.Repeat("0", 64)

func TestCreatePartial(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	r := s.do("POST", "/api/v1/partials", spec(hashA, hashB, `,"priority":3`), "Idempotency-Key", "once", "Content-Type", "application/json; charset=utf-8").want(202)
	st := r.job()
	if st.State != job.Queued || len(st.ID) != 64 || st.Spec.Priority != 3 {
		t.Errorf("got %+v", st)
	}
	if got := r.Header.Get("Location"); got != "/api/v1/jobs/"+st.ID {
		t.Errorf("Location %q", got)
	}
	if r.Header.Get("Retry-After") == "" {
		t.Error("202 without Retry-After")
	}
	if again := s.do("POST", "/api/v1/partials", spec(hashA, hashB)).want(202).job(); again.ID != st.ID {
		t.Errorf("an equal request is job %s, want %s", again.ID, st.ID)
	}
	s.svc.Finish(st.ID, jobtest.Output{Partial: []byte("partial")})
	if got := s.do("POST", "/api/v1/partials", spec(hashA, hashB)).want(200).job(); got.Result == nil || got.State != job.Done {
		t.Errorf("got %+v", got)
	}
	var c struct{ ID string }
	s.do("POST", "/api/v1/partials:check", spec(hashA, hashB)).want(200).decode(&c)
	if c.ID != st.ID {
		t.Errorf("checked: job %s, want %s", c.ID, st.ID)
	}
	p := s.do("POST", "/api/v1/partials:check", `{"from":{},"to":{"sha512":"`+hashA+`"}}`).problem(422, job.CodeRequest)
	if p.Field != "from.sha512" {
		t.Errorf("field %q", p.Field)
	}
	// A field that is not there is named as one that is wrong.
	for body, field := range map[string]string{
		`{"to":{"sha512":"` + hashA + `"}}`:           "from",
		`{"from":{"sha512":"` + hashA + `"},"two":1}`: "to",
		`{`: "body",
		`{"labels":{"x":"` + strings.Repeat("x", 70<<10) + `"}}`: "body",
	} {
		r := s.do("POST", "/api/v1/partials:check", body)
		var p web.Problem
		if r.decode(&p); p.Field != field || len(p.Errors) == 0 || p.Errors[0].Field != field {
			t.Errorf("%.60s: got %q %+v, want %q", body, p.Field, p.Errors, field)
		}
	}
	actions, err := s.svc.Actions(t.Context(), job.Filter{Text: "submit"})
	if err != nil || len(actions) != 3 {
		t.Fatalf("got %d actions, want 3: %v", len(actions), err)
	}
	if who := actions[0].Who; who.Name != "anonymous" || who.Address != "127.0.0.1" || who.RequestID == "" {
		t.Errorf("asked by %+v", who)
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	svc := jobtest.New()
	s := openWith(t, svc, everything)
	svc.OnSubmit = func(st job.Status) {
		svc.Move(st.ID, job.Diffing, job.Progress{Total: 10})
		switch st.Spec.Locale {
		case "good":
			svc.Finish(st.ID, jobtest.Output{Partial: []byte("p")})
		case "bad":
			svc.Fail(st.ID, &job.Error{Code: job.CodeFetch, Message: "404 Not Found", Retryable: true})
		}
	}
	r := s.do("POST", "/api/v1/partials", spec(hashA, hashB, `,"locale":"good"`), "Prefer", "respond-async, wait=10").want(200)
	if r.job().Result == nil || r.Header.Get("Preference-Applied") != "wait=10" {
		t.Errorf("got %s %v", r.body, r.Header)
	}
	r = s.do("POST", "/api/v1/partials", spec(hashA, hashB, `,"locale":"bad"`), "Prefer", "wait=10")
	p := r.problem(424, job.CodeFetch)
	if p.Job == "" || !p.Retryable || r.Header.Get("Location") != "/api/v1/jobs/"+p.Job {
		t.Errorf("got %+v, %v", p, r.Header)
	}
	// A download of what failed says why, not only that it is not there.
	s.do("GET", "/api/v1/partials/"+p.Job, "").problem(424, job.CodeFetch)
	s.do("GET", "/api/v1/partials/"+p.Job+"/report", "").problem(424, job.CodeFetch)
	st := s.do("POST", "/api/v1/partials", spec(hashA, hashB, `,"locale":"slow"`), "Prefer", "wait=1").want(202).job()
	if st.State != job.Diffing {
		t.Errorf("got %s after the wait, want what it was then", st.State)
	}
	if got := s.do("GET", "/api/v1/jobs/"+st.ID, "", "Prefer", "wait=1").want(200).job(); got.State != job.Diffing {
		t.Errorf("got %s", got.State)
	}
	if p := s.do("GET", "/api/v1/jobs/"+st.ID, "", "Prefer", "wait=soon").problem(422, job.CodeRequest); p.Field != "Prefer" {
		t.Errorf("field %q", p.Field)
	}
	go svc.Finish(st.ID, jobtest.Output{Partial: []byte("p")})
	if got := s.do("GET", "/api/v1/jobs/"+st.ID, "", "Prefer", "wait=10").want(200).job(); got.State != job.Done {
		t.Errorf("got %s", got.State)
	}
}

func TestDownload(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	data := strings.Repeat("a partial update, ", 5000)
	st := s.submit(hashA, hashB)
	path := "/api/v1/partials/" + st.ID
	if p := s.do("GET", path, "").problem(409, job.CodeNotReady); p.RetryAfter == 0 || p.Job != st.ID {
		t.Errorf("got %+v", p)
	}
	s.svc.Finish(st.ID, jobtest.Output{
		Partial: []byte(data), Location: "https://storage.example/x?signature=1",
		Report: job.Document(`{"verified":true}`), Provenance: job.Document(`{"recipe":"r"}`),
	})
	r := s.do("GET", path, "").want(200)
	sum256, sum512 := sha256.Sum256([]byte(data)), sha512.Sum512([]byte(data))
	b256, b512 := base64.StdEncoding.EncodeToString(sum256[:]), base64.StdEncoding.EncodeToString(sum512[:])
	tag := fmt.Sprintf(`"%x"`, sum256)
	for k, want := range map[string]string{
		"ETag": tag, "Repr-Digest": "sha-256=:" + b256 + ":, sha-512=:" + b512 + ":", "Digest": "sha-256=" + b256 + ",sha-512=" + b512,
		"Content-Length": fmt.Sprint(len(data)), "Content-Type": "application/octet-stream", "Accept-Ranges": "bytes",
		"Cache-Control": "public, max-age=31536000, immutable", "Content-Disposition": "attachment; filename=test.partial.mar",
	} {
		if got := r.Header.Get(k); got != want {
			t.Errorf("%s: got %q, want %q", k, got, want)
		}
	}
	if r.body != data {
		t.Error("other bytes")
	}
	if r := s.do("HEAD", path, "").want(200); r.body != "" || r.Header.Get("ETag") != tag || r.ContentLength != int64(len(data)) {
		t.Errorf("HEAD: %v", r.Header)
	}
	if r := s.do("GET", path, "", "Range", "bytes=10-19").want(206); r.body != data[10:20] || r.Header.Get("Content-Range") != fmt.Sprintf("bytes 10-19/%d", len(data)) {
		t.Errorf("range: %q %v", r.body, r.Header)
	}
	if r := s.do("GET", path, "", "Range", "bytes=10-19", "If-Range", `"other"`).want(200); r.body != data {
		t.Error("If-Range of something else got a part")
	}
	s.do("GET", path, "", "If-None-Match", tag).want(304)
	s.do("GET", path, "", "If-None-Match", `"other"`).want(200)
	failed := s.do("GET", path, "", "If-Match", `"other"`)
	failed.problem(412, "precondition-failed")
	beyond := s.do("GET", path, "", "Range", fmt.Sprintf("bytes=%d-", len(data)))
	beyond.problem(416, "range-not-satisfiable")
	if got := beyond.Header.Get("Content-Range"); got != fmt.Sprintf("bytes */%d", len(data)) {
		t.Errorf("Content-Range %q", got)
	}
	for _, r := range []reply{failed, beyond} {
		for _, name := range []string{"Repr-Digest", "Digest", "ETag", "Content-Disposition", "Last-Modified"} {
			if got := r.Header.Get(name); got != "" {
				t.Errorf("%s: the problem has %s of the file: %s", r.Status, name, got)
			}
		}
	}
	if got := s.do("GET", path+"/report", "").want(200); got.body != `{"verified":true}` || got.Header.Get("Content-Type") != "application/json" {
		t.Errorf("report: %q", got.body)
	}
	if got := s.do("GET", path+"/provenance", "").want(200).body; got != `{"recipe":"r"}` {
		t.Errorf("provenance: %q", got)
	}
	if got := s.do("GET", "/api/v1/jobs/"+st.ID+"/log", "").want(200); !strings.Contains(got.body, `"state"`) || got.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("log: %q", got.body)
	}

	// With Redirect it is where the storage has it.
	redirect := openWith(t, s.svc, web.Options{Anonymous: web.Roles(), Redirect: true})
	r = redirect.do("GET", path, "").want(302)
	if r.Header.Get("Location") != "https://storage.example/x?signature=1" || r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("got %v", r.Header)
	}
	redirect.do("GET", path, "", "If-None-Match", tag).want(304)
	// A presigned address is for GET alone.
	if r := redirect.do("HEAD", path, "").want(200); r.Header.Get("ETag") != tag || r.ContentLength != int64(len(data)) {
		t.Errorf("HEAD with Redirect: %v", r.Header)
	}

	// What was purged is not there, and may be made again.
	var removed struct{ Removed int }
	s.do("DELETE", path, "").want(200).decode(&removed)
	if removed.Removed != 1 {
		t.Errorf("removed %d", removed.Removed)
	}
	if p := s.do("GET", path, "").problem(404, job.CodeNotFound); !p.Retryable {
		t.Error("a purged partial can be asked for again")
	}
}

func TestPurge(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	for i := range 3 {
		s.svc.Finish(s.submit(hashA, fmt.Sprintf("%0128d", i)).ID, jobtest.Output{Partial: []byte("p")})
	}
	var removed struct{ Removed int }
	s.do("POST", "/api/v1/purge", fmt.Sprintf(`{"before":%q}`, time.Now().UTC().Format(time.RFC3339Nano))).want(200).decode(&removed)
	if removed.Removed != 3 {
		t.Errorf("removed %d, want 3", removed.Removed)
	}
	s.do("POST", "/api/v1/purge", `{"before":"2199-01-01T00:00:00Z"}`).problem(422, job.CodeRequest)
	s.do("POST", "/api/v1/purge", `{}`).problem(422, job.CodeRequest)
	s.do("DELETE", "/api/v1/partials/"+nobody, "").problem(404, job.CodeNotFound)
}

func TestCancelAndRetry(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	st := s.submit(hashA, hashB)
	if got := s.do("DELETE", "/api/v1/jobs/"+st.ID, "").want(200).job(); got.State != job.Cancelled {
		t.Errorf("got %s", got.State)
	}
	s.do("DELETE", "/api/v1/jobs/"+st.ID, "").want(200) // it is
	s.do("GET", "/api/v1/partials/"+st.ID, "").problem(410, job.CodeCancelled)
	r := s.do("POST", "/api/v1/jobs/"+st.ID+"/retry", "").want(202)
	if got := r.job(); got.State != job.Queued || r.Header.Get("Location") != "/api/v1/jobs/"+st.ID {
		t.Errorf("got %s, %v", got.State, r.Header)
	}
	s.do("POST", "/api/v1/jobs/"+st.ID+"/retry", "").problem(409, job.CodeConflict)
	s.do("DELETE", "/api/v1/jobs/"+nobody, "").problem(404, job.CodeNotFound)
	s.do("POST", "/api/v1/jobs/"+nobody+"/retry", "").problem(404, job.CodeNotFound)
}

func TestBatch(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	var b job.Batch
	r := s.do("POST", "/api/v1/batches", `{"specs":[`+spec(hashA, hashB)+`,`+spec(hashA, hashC)+`]}`).want(202)
	r.decode(&b)
	if len(b.Jobs) != 2 || b.Counts[job.Queued] != 2 || r.Header.Get("Location") != "/api/v1/batches/"+b.ID {
		t.Errorf("got %+v", b)
	}
	for _, j := range b.Jobs {
		s.svc.Finish(j.ID, jobtest.Output{Partial: []byte("p")})
	}
	s.do("POST", "/api/v1/batches", `{"specs":[`+spec(hashA, hashB)+`,`+spec(hashA, hashC)+`]}`).want(200)
	s.do("GET", "/api/v1/batches/"+b.ID, "").want(200).decode(&b)
	if !b.Done || b.Counts[job.Done] != 2 {
		t.Errorf("got %+v", b)
	}
	// Every old build with the new one of its platform and locale.
	build := func(name, hash, platform, locale string) string {
		return fmt.Sprintf(`{"urls":["https://example.org/%s.mar"],"sha512":%q,"platform":%q,"locale":%q}`, name, hash, platform, locale)
	}
	matrix := `{"matrix":{"from":[` + strings.Join([]string{
		build("151-de", hashA, "linux", "de"), build("152-de", hashB, "linux", "de"), build("152-fr", hashB, "linux", "fr"),
	}, ",") + `],"to":[` + build("153-de", hashC, "linux", "de") + `,` + build("153-fr", hashC, "linux", "fr") +
		`]},"settings":{"product":"firefox","priority":2,"labels":{"release":"153"}}}`
	b = job.Batch{}
	s.do("POST", "/api/v1/batches", matrix, "Prefer", "wait=0").want(202).decode(&b)
	var got []string
	for _, j := range b.Jobs {
		sp := j.Spec
		got = append(got, sp.From.URLs[0][20:]+">"+sp.To.URLs[0][20:]+" "+sp.Locale+sp.Platform+sp.Product+sp.Labels["release"]+fmt.Sprint(sp.Priority))
	}
	want := "151-de.mar>153-de.mar delinuxfirefox1532 152-de.mar>153-de.mar delinuxfirefox1532 152-fr.mar>153-fr.mar frlinuxfirefox1532"
	if strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", strings.Join(got, " "), want)
	}
	for name, body := range map[string]string{
		"matrix":               `{"matrix":{"from":[` + build("a", hashA, "mac", "de") + `],"to":[` + build("b", hashB, "linux", "de") + `]}}`,
		"specs":                `{}`,
		"settings":             `{"specs":[` + spec(hashA, hashB) + `],"settings":{"product":"x"}}`,
		"specs[0].from.sha512": `{"specs":[{"from":{},"to":{}}]}`,
		"matrix.to[1].sha512": `{"specs":[` + spec(hashA, hashB) + `],"matrix":{"from":[` + build("a", hashA, "linux", "de") + `],"to":[` +
			build("b", hashB, "mac", "de") + `,{"platform":"linux","locale":"de"}]}}`,
		"matrix.to": `{"matrix":{"from":[` + build("a", hashA, "mac", "de") + `],"to":[]}}`,
	} {
		if p := s.do("POST", "/api/v1/batches", body).problem(422, job.CodeRequest); p.Field != name {
			t.Errorf("field %q, want %q", p.Field, name)
		}
	}
	s.do("GET", "/api/v1/batches/"+nobody, "").problem(404, job.CodeNotFound)
	s.do("GET", "/api/v1/batches/x", "").problem(404, job.CodeNotFound)
	// 4 MiB are for batches only.
	big := `{"specs":[` + spec(hashA, hashB, `,"labels":{"x":"`+strings.Repeat("x", 100_000)+`"}`) + `]}`
	s.do("POST", "/api/v1/batches", big).want(202)
}

// TestBatchWait: who waits for a batch watches its jobs and is told at once. They end one by one, as they are watched.
func TestBatchWait(t *testing.T) {
	svc := jobtest.New()
	watched := make(chan struct{}, 10)
	svc.Watched = func(n int) {
		if n > 0 {
			watched <- struct{}{}
		}
	}
	s := openWith(t, svc, everything)
	body := `{"specs":[` + spec(hashA, hashB) + `,` + spec(hashA, hashC) + `]}`
	var b job.Batch
	s.do("POST", "/api/v1/batches", body, "Prefer", "wait=1").want(202).decode(&b)
	<-watched
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, j := range b.Jobs {
			<-watched
			svc.Finish(j.ID, jobtest.Output{Partial: []byte("p")})
		}
	}()
	waited := s.do("POST", "/api/v1/batches", body, "Prefer", "wait=20").want(200)
	if waited.decode(&b); waited.Header.Get("Preference-Applied") != "wait=20" {
		t.Errorf("Preference-Applied is %q", waited.Header.Get("Preference-Applied"))
	}
	if <-done; !b.Done || b.Counts[job.Done] != 2 {
		t.Errorf("got %+v", b)
	}
}

func TestUpload(t *testing.T) {
	t.Parallel()
	s := open(t, web.Options{Anonymous: web.Roles(), MaxUpload: 1 << 20})
	s.svc.MaxUpload = 1 << 20
	data := strings.Repeat("MAR1", 10_000)
	var u job.Upload
	s.do("POST", "/api/v1/uploads", data, "Content-Type", "application/octet-stream").want(201).decode(&u)
	if u.Size != int64(len(data)) || string(s.svc.Uploaded(u.SHA512)) != data {
		t.Errorf("got %+v", u)
	}
	s.do("POST", "/api/v1/uploads", data, "Content-Type", "text/plain").problem(415, "unsupported-media-type")
	s.do("POST", "/api/v1/uploads", strings.Repeat("x", 1<<20+1), "Content-Type", "application/octet-stream").problem(413, job.CodeTooLarge)
	// Without a length it is found out on the way.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.srv.URL+"/api/v1/uploads", &endless{left: 3 << 20})
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := s.srv.Client().Do(req)
	if err == nil { // the server may also hang up before all was sent
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("got %s", resp.Status)
		}
	}
	if got := metric(t, s, "partiald_http_upload_bytes_total"); got < float64(len(data)) {
		t.Errorf("metric says %v bytes", got)
	}
}

type endless struct{ left int }

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, errors.New("sent all")
	}
	n := min(len(p), e.left)
	e.left -= n
	return n, nil
}

func TestHistory(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	var ids []string
	for i := range 5 {
		ids = append(ids, s.submit(hashA, fmt.Sprintf("%0128d", i), fmt.Sprintf(`,"product":"=cmd","locale":"l%d"`, i)).ID)
	}
	s.svc.Finish(ids[0], jobtest.Output{Partial: []byte("p")})
	s.svc.Fail(ids[1], &job.Error{Code: job.CodeInvalidMAR, Message: "not a MAR"})
	page := func(query string) (p job.Page, r reply) {
		t.Helper()
		r = s.do("GET", "/api/v1/history"+query, "").want(200)
		r.decode(&p)
		return p, r
	}
	if p, _ := page(""); len(p.Jobs) != 5 || p.Jobs[0].ID != ids[4] || p.Next != "" {
		t.Errorf("got %d jobs, next %q", len(p.Jobs), p.Next)
	}
	if p, _ := page("?state=failed&locale=l1&product=%3Dcmd&who=anonymous&q=" + ids[1][:10] + "&since=2020-01-01T00:00:00Z&until=2199-01-01T00:00:00Z"); len(p.Jobs) != 1 || p.Jobs[0].ID != ids[1] {
		t.Errorf("got %+v", p)
	}
	if p, r := page("?q=nothing"); len(p.Jobs) != 0 || !strings.Contains(r.body, `"jobs":[]`) {
		t.Errorf("got %s", r.body)
	}
	seen := 0
	next := "?limit=2"
	for next != "" {
		p, r := page(next)
		seen += len(p.Jobs)
		if next = ""; p.Next != "" {
			link := r.Header.Get("Link")
			if !strings.HasPrefix(link, "</api/v1/history?") || !strings.HasSuffix(link, `>; rel="next"`) {
				t.Fatalf("Link %q", link)
			}
			next = link[len("</api/v1/history"):strings.Index(link, ">")]
		}
	}
	if seen != 5 {
		t.Errorf("%d jobs on all pages, want 5", seen)
	}
	for _, r := range []reply{s.do("GET", "/api/v1/history?format=csv", ""), s.do("GET", "/api/v1/history", "", "Accept", "text/csv")} {
		r.want(200)
		rows, err := csv.NewReader(strings.NewReader(r.body)).ReadAll()
		if err != nil || len(rows) != 6 || r.Header.Get("Content-Type") != "text/csv; charset=utf-8" {
			t.Fatalf("%d rows, %v, %q\n%s", len(rows), err, r.Header.Get("Content-Type"), r.body)
		}
		if rows[1][6] != "'=cmd" {
			t.Errorf("a formula: %q", rows[1][6])
		}
		if rows[4][20] != "invalid-mar" || rows[5][15] != "1" {
			t.Errorf("rows %q %q", rows[4], rows[5])
		}
	}
	for query, field := range map[string]string{
		"limit=0": "limit", "limit=1001": "limit", "limit=x": "limit", "state=x": "state", "since=yesterday": "since", "format=xml": "format", "cursor=x": "cursor",
	} {
		if p := s.do("GET", "/api/v1/history?"+query, "").problem(422, job.CodeRequest); p.Field != field {
			t.Errorf("%s: field %q", query, p.Field)
		}
	}
}

func TestOperators(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	st := s.submit(hashA, hashB)
	var q job.Queue
	s.do("GET", "/api/v1/queue", "").want(200).decode(&q)
	if q.Waiting != 1 || len(q.Workers) != 1 {
		t.Errorf("got %+v", q)
	}
	var b job.Ban
	s.do("POST", "/api/v1/bans", `{"address":"2001:db8::7","seconds":60}`).want(200).decode(&b)
	if b.Address != "2001:db8::/64" || b.By != "anonymous" || time.Until(b.Until) > time.Minute {
		t.Errorf("got %+v", b)
	}
	var bans struct{ Bans []job.Ban }
	s.do("GET", "/api/v1/bans", "").want(200).decode(&bans)
	if len(bans.Bans) != 1 {
		t.Errorf("got %+v", bans)
	}
	s.do("DELETE", "/api/v1/bans/2001:db8::%2F64", "").want(204)
	s.do("DELETE", "/api/v1/bans/2001:db8::7", "").problem(404, job.CodeNotFound)
	s.do("POST", "/api/v1/bans", `{"address":"10.0.0.0/8","seconds":60}`).problem(422, job.CodeRequest)
	var actions struct{ Actions []job.Action }
	s.do("GET", "/api/v1/actions?limit=2", "").want(200).decode(&actions)
	if len(actions.Actions) != 2 || actions.Actions[0].What != "unban" {
		t.Errorf("got %+v", actions)
	}
	actions.Actions = nil
	s.do("GET", "/api/v1/actions?q="+st.ID+"&who=anonymous", "").want(200).decode(&actions)
	if len(actions.Actions) != 1 || actions.Actions[0].What != "submit" {
		t.Errorf("got %+v", actions)
	}
}

// TestCodes has every code of the service become its status.
func TestCodes(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	id := s.submit(hashA, hashB).ID
	for code, status := range map[job.Code]int{
		job.CodeRequest: 422, job.CodeConflict: 409, job.CodeTooLarge: 413, job.CodeInvalidMAR: 422, job.CodeRefused: 422,
		job.CodeFetch: 424, job.CodeDigest: 409, job.CodeNotFound: 404, job.CodeNotReady: 409, job.CodeQueueFull: 429,
		job.CodeQuota: 429, job.CodeUnavailable: 503, job.CodeSigning: 502, job.CodeStore: 507, job.CodeCancelled: 410,
		job.CodeAttempts: 500, job.CodeInternal: 500,
	} {
		s.svc.Break(&job.Error{Code: code, Message: "told so", Field: "from.sha512", Retryable: true, RetryAfter: 90 * time.Second})
		for _, r := range []reply{
			s.do("POST", "/api/v1/partials", spec(hashA, hashB)), s.do("GET", "/api/v1/jobs/"+id, ""), s.do("GET", "/api/v1/jobs/"+id+"/events", ""),
			s.do("GET", "/api/v1/jobs/"+id+"/log", ""), s.do("GET", "/api/v1/history", ""), s.do("DELETE", "/api/v1/partials/"+id, ""),
		} {
			p := r.problem(status, code)
			if p.Detail != "told so" || p.Field != "from.sha512" || !p.Retryable || p.RetryAfter != 90 || r.Header.Get("Retry-After") != "90" {
				t.Errorf("%s: got %+v", code, p)
			}
		}
	}
	// What is no error of the service is not shown to the caller, but logged.
	s.svc.Break(errors.New("dial tcp 10.1.2.3: password=secret"))
	p := s.do("GET", "/api/v1/jobs/"+id, "").problem(500, job.CodeInternal)
	if strings.Contains(p.Detail, "secret") {
		t.Errorf("the caller sees %q", p.Detail)
	}
	if !strings.Contains(s.logs.String(), "10.1.2.3") || !strings.Contains(s.logs.String(), p.RequestID) {
		t.Error("the log has neither reason nor request ID")
	}
	s.svc.Break(&job.Error{Code: job.CodeUnavailable, Message: "the ledger does not answer", Cause: errors.New("dial tcp 10.0.0.7:5432")})
	r := s.do("GET", "/api/v1/queue", "")
	if p := r.problem(503, job.CodeUnavailable); p.Detail != "the ledger does not answer" || strings.Contains(r.body, "10.0.0.7") {
		t.Errorf("got %s", r.body)
	}
	if log := s.logs.String(); !strings.Contains(log, `"error":"dial tcp 10.0.0.7:5432"`) {
		t.Errorf("the log does not have the cause:\n%s", log)
	}
	s.svc.Break(nil)
	s.svc.Limit = 1
	if p := s.do("POST", "/api/v1/partials", spec(hashB, hashC)).problem(429, job.CodeQueueFull); p.RetryAfter != 7 {
		t.Errorf("got %+v", p)
	}
}

func TestStopping(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	st := s.submit(hashA, hashB)
	s.svc.Stop()
	s.do("POST", "/api/v1/partials", spec(hashA, hashC)).problem(503, job.CodeUnavailable)
	s.do("POST", "/api/v1/batches", `{"specs":[`+spec(hashA, hashC)+`]}`).problem(503, job.CodeUnavailable)
	s.do("POST", "/api/v1/uploads", "x", "Content-Type", "application/octet-stream").problem(503, job.CodeUnavailable)
	s.do("POST", "/api/v1/jobs/"+st.ID+"/retry", "").problem(503, job.CodeUnavailable)
	s.do("GET", "/__lbheartbeat__", "").problem(503, job.CodeUnavailable)
	s.do("GET", "/api/v1/jobs/"+st.ID, "").want(200)
}

func TestOps(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	s := open(t, web.Options{
		Tokens: []web.Token{
			{Name: "monitor", Secret: "monitor-monitor-monitor", Roles: []web.Role{web.RoleRead}},
			{Name: "op", Secret: "operator-operator-operator", Roles: web.Roles()},
		},
		Version: web.Version{Source: "https://example.org/x", Version: "1.2.3", Commit: "abc", Build: "https://example.org/1"}, Registry: reg,
		HealthAge: 1,
	})
	bearer := []string{"Authorization", "Bearer monitor-monitor-monitor"}
	if got := s.do("GET", "/__lbheartbeat__", "").want(200).body; !strings.Contains(got, "ok") {
		t.Errorf("got %q", got)
	}
	s.do("GET", "/__heartbeat__", "").want(200)
	s.svc.SetHealth(job.Health{Name: "queue", OK: true}, job.Health{Name: "ledger", Error: "disk /srv/x is full"})
	if got := s.do("GET", "/__heartbeat__", "").want(503).body; !strings.Contains(got, `"ledger"`) || strings.Contains(got, "/srv/x") {
		t.Errorf("strangers see %s", got)
	}
	if got := s.do("GET", "/__heartbeat__", "", bearer...).want(503).body; strings.Contains(got, "/srv/x") {
		t.Errorf("readers see %s", got)
	}
	if got := s.do("GET", "/__heartbeat__", "", "Authorization", "Bearer operator-operator-operator").want(503).body; !strings.Contains(got, "/srv/x") {
		t.Errorf("operators see %s", got)
	}
	var v map[string]string
	s.do("GET", "/__version__", "").want(200).decode(&v)
	if fmt.Sprint(v) != "map[build:https://example.org/1 commit:abc source:https://example.org/x version:1.2.3]" {
		t.Errorf("got %v", v)
	}
	s.do("GET", "/metrics", "").problem(401, "unauthorized")
	body := s.do("GET", "/metrics", "", bearer...).want(200).body
	for _, want := range []string{
		`partiald_http_request_duration_seconds_count{code="200",method="GET",route="/__version__"} 1`,
		`partiald_http_request_duration_seconds_count{code="503",method="GET",route="/__heartbeat__"} 3`,
		`partiald_http_refused_total{code="unauthorized"} 1`, "partiald_http_requests_in_flight 1", "partiald_http_event_streams 0",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics have no %s\n%s", want, body)
		}
	}
	if _, err := web.New(s.svc, web.Options{Registry: reg}); err == nil {
		t.Error("the same metrics twice in one registry")
	}
}

// Anybody may ask how the service is, which costs more than an answer: they share one.
func TestHeartbeatsAreShared(t *testing.T) {
	t.Parallel()
	o := everything
	o.HealthAge = time.Hour
	s := open(t, o)
	s.svc.SetHealth(job.Health{Name: "ledger", OK: true})
	s.do("GET", "/__heartbeat__", "").want(200)
	s.svc.SetHealth(job.Health{Name: "ledger", Error: "gone"})
	s.do("GET", "/__heartbeat__", "").want(200)
}

func metric(t *testing.T, s *site, name string) float64 {
	t.Helper()
	for line := range strings.Lines(s.do("GET", "/metrics", "").want(200).body) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			var f float64
			if _, err := fmt.Sscan(v, &f); err != nil {
				t.Fatal(err)
			}
			return f
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestPanic(t *testing.T) {
	t.Parallel()
	svc := jobtest.New()
	svc.OnSubmit = func(job.Status) { panic("broken") }
	s := openWith(t, svc, everything)
	p := s.do("POST", "/api/v1/partials", spec(hashA, hashB), "X-Request-ID", "my-request-1").problem(500, job.CodeInternal)
	if p.RequestID != "my-request-1" || strings.Contains(p.Detail, "broken") {
		t.Errorf("got %+v", p)
	}
	if !strings.Contains(s.logs.String(), "broken") || !strings.Contains(s.logs.String(), "api_test.go") {
		t.Error("the log has no reason or no stack")
	}
	if got := s.do("POST", "/jobs", "from_hash="+hashA+"&to_hash="+hashC, "Content-Type", "application/x-www-form-urlencoded", "Accept", "text/html").want(500).body; !strings.Contains(got, "request ID") {
		t.Errorf("no page: %s", got)
	}
	s.do("GET", "/__version__", "").want(200)
	if got := metric(t, s, "partiald_http_panics_total"); got != 2 {
		t.Errorf("metric says %v panics", got)
	}
}

func TestRequestIDAndLog(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	st := s.submit(hashA, hashB)
	for _, id := range []string{"", "short", "with space in it", "<script>alert(1)</script>", strings.Repeat("x", 200), "new\tline-------"} {
		got := s.do("GET", "/api/v1/jobs/"+st.ID, "", "X-Request-ID", id).want(200).Header.Get("X-Request-Id")
		if got == id || len(got) < 16 {
			t.Errorf("%q became %q", id, got)
		}
	}
	s.logs.Reset()
	if got := s.do("GET", "/api/v1/jobs/"+st.ID+"?secret=1", "", "X-Request-ID", "trace-0123456789", "User-Agent", "probe/1").want(200).Header.Get("X-Request-Id"); got != "trace-0123456789" {
		t.Errorf("got %q", got)
	}
	var line map[string]any
	if err := json.Unmarshal(s.logs.Bytes(), &line); err != nil {
		t.Fatalf("%v\n%s", err, s.logs)
	}
	for k, want := range map[string]any{
		"request_id": "trace-0123456789", "method": "GET", "path": "/api/v1/jobs/" + st.ID, "status": 200.0, "job": st.ID,
		"remote": "127.0.0.1", "who": "anonymous", "agent": "probe/1", "level": "INFO",
	} {
		if line[k] != want {
			t.Errorf("%s: got %v, want %v", k, line[k], want)
		}
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	for _, path := range []string{"/", "/api/v1/queue", "/nothing", "/static/x", "/openapi.json", "/metrics"} {
		r := s.do("GET", path, "")
		for k, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin",
			"Content-Security-Policy":      "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
			"Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
		} {
			if got := r.Header.Get(k); got != want {
				t.Errorf("%s: %s: got %q, want %q", path, k, got, want)
			}
		}
		if r.Header.Get("Strict-Transport-Security") != "" {
			t.Errorf("%s: promises TLS without any", path)
		}
	}
}

func TestClientAddress(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	tests := []struct {
		name, header, value, want string
		proxies                   []netip.Prefix
	}{
		{"nothing said", "X-Forwarded-For", "", "127.0.0.1", proxies},
		{"not trusted", "X-Forwarded-For", "192.0.2.1", "127.0.0.1", nil},
		{"one", "X-Forwarded-For", "192.0.2.1", "192.0.2.1", proxies},
		{"written by the client", "X-Forwarded-For", "6.6.6.6, 192.0.2.1", "192.0.2.1", proxies},
		{"through two of ours", "X-Forwarded-For", "6.6.6.6, 192.0.2.1, 10.1.1.1", "192.0.2.1", proxies},
		{"IPv6 counts with its network", "X-Forwarded-For", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", proxies},
		{"with a port", "X-Forwarded-For", "192.0.2.1:4711", "192.0.2.1", proxies},
		{"mapped", "X-Forwarded-For", "::ffff:192.0.2.1", "192.0.2.1", proxies},
		{"nonsense", "X-Forwarded-For", "unknown", "127.0.0.1", proxies},
		{"nonsense farther away", "X-Forwarded-For", "unknown, 10.1.1.1", "10.1.1.1", proxies},
		{"other header", "Forwarded", "for=192.0.2.1", "127.0.0.1", proxies},
		{"standard header", "Forwarded!", `for=6.6.6.6;proto=https, for="[2001:db8::1]:4711";by=10.0.0.1`, "2001:db8::/64", proxies},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := web.Options{Anonymous: web.Roles(), TrustedProxies: tt.proxies}
			header, forwarded := strings.CutSuffix(tt.header, "!")
			if forwarded {
				o.ProxyHeader = "forwarded"
			}
			s := open(t, o)
			s.do("POST", "/api/v1/partials", spec(hashA, hashB), header, tt.value).want(202)
			actions, err := s.svc.Actions(t.Context(), job.Filter{})
			if err != nil {
				t.Fatal(err)
			}
			if got := actions[0].Who.Address; got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	good := web.Token{Name: "a", Secret: "0123456789abcdef", Roles: []web.Role{web.RoleRead}}
	with := func(change func(*web.Token)) web.Options {
		tok := good
		change(&tok)
		return web.Options{Tokens: []web.Token{tok}}
	}
	for field, o := range map[string]web.Options{
		"Tokens[0].Name":     with(func(t *web.Token) { t.Name = "anonymous" }),
		"Tokens[0].Roles":    with(func(t *web.Token) { t.Roles = nil }),
		"Tokens[0].Roles[0]": with(func(t *web.Token) { t.Roles = []web.Role{"root"} }),
		"Tokens[0].Secret":   with(func(t *web.Token) { t.Secret = "short" }),
		"Tokens[0]":          with(func(t *web.Token) { t.Secret = "" }),
		"Tokens[0].SHA256":   with(func(t *web.Token) { t.Secret, t.SHA256 = "", "abc" }),
		"Tokens[0].Quota":    with(func(t *web.Token) { t.Quota = web.Limit{Count: 1} }),
		"Tokens[1].Name":     {Tokens: []web.Token{good, {Name: "a", Secret: "fedcba9876543210", Roles: good.Roles}}},
		"Tokens[1]":          {Tokens: []web.Token{good, {Name: "b", Secret: good.Secret, Roles: good.Roles}}},
		"Anonymous[0]":       {Anonymous: []web.Role{"x"}},
		"AnonymousQuota":     {AnonymousQuota: web.Limit{Window: time.Second}},
		"Rate":               {Rate: web.Limit{Count: -1, Window: time.Second}},
		"BanAfter":           {BanAfter: web.Limit{Count: 1}},
		"ProxyHeader":        {ProxyHeader: "X-Real-IP"},
		"Hosts[0]":           {Hosts: []string{"http://x/"}},
		"MaxUpload, MaxWait, BanFor, BodyTime, Stall, MaxHeld, HealthAge": {MaxWait: -1},
	} {
		_, err := web.New(jobtest.New(), o)
		var wrong *web.OptionError
		if !errors.As(err, &wrong) || wrong.Field != field {
			t.Errorf("%s: got %v", field, err)
		}
	}
}
