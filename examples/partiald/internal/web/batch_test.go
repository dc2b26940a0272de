package web_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job/jobtest"
)

// A release with a locale more and one less than the release before: these are named, the rest goes on, can be cancelled, tried
// again, and fetched as one.
func TestWholeBatch(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	side := func(letter string, locales ...string) string {
		var builds []string
		for i, l := range locales {
			hash := strings.Repeat(letter, 120) + fmt.Sprintf("%08d", i)
			builds = append(builds, fmt.Sprintf(`{"urls":["https://example.org/%s"],"sha512":%q,"platform":"linux","locale":%q}`, l, hash, l))
		}
		return "[" + strings.Join(builds, ",") + "]"
	}
	var b job.Batch
	s.do("POST", "/api/v1/batches", `{"matrix":{"from":`+side("a", "de", "fr", "gone")+`,"to":`+side("b", "de", "new", "fr")+`}}`).want(202).decode(&b)
	if len(b.Jobs) != 2 || fmt.Sprint(b.Unmatched) != "[{matrix.from[2] linux gone} {matrix.to[1] linux new}]" {
		t.Fatalf("%d jobs, unmatched %v", len(b.Jobs), b.Unmatched)
	}
	at, page := "/api/v1/batches/"+b.ID, "/batches/"+b.ID
	b.Unmatched = nil
	s.do("GET", at, "").want(200).decode(&b)
	if fmt.Sprint(b.Unmatched) != "[{matrix.from[2] linux gone} {matrix.to[1] linux new}]" {
		t.Errorf("unmatched later: %v", b.Unmatched)
	}
	s.do("GET", page, "").want(200).has("2 without a partner", `<th scope="row">gone</th><td>linux</td><td><code>matrix.from[2]</code>`, "Cancel what has not ended (2)")
	s.do("GET", at+"/manifest", "").problem(409, job.CodeNotReady)
	s.do("GET", at+"/partials.zip", "").problem(409, job.CodeNotReady)
	s.do("DELETE", at, "").want(200).decode(&b)
	if !b.Done || b.Counts[job.Cancelled] != 2 {
		t.Errorf("cancelled: %v", b.Counts)
	}
	s.do("GET", at+"/partials.zip", "").problem(404, job.CodeNotFound)
	b.Counts = nil
	s.do("POST", at+"/retry", "").want(202).decode(&b)
	if b.Done || b.Counts[job.Queued] != 2 {
		t.Errorf("tried again: %v", b.Counts)
	}
	for i, st := range b.Jobs {
		doc, err := json.Marshal(senbonzakura.Provenance{Labels: map[string]string{"mar": fmt.Sprint("partial", i)}, Locale: st.Spec.Locale})
		if err != nil {
			t.Fatal(err)
		}
		s.svc.Finish(st.ID, jobtest.Output{Partial: []byte("bytes of " + st.Spec.Locale), Provenance: doc})
	}
	var list []senbonzakura.Submission
	s.do("GET", at+"/manifest", "").want(200).decode(&list)
	if len(list) != 2 || list[0].Locale != "de" || list[1].Locale != "fr" {
		t.Errorf("manifest: %+v", list)
	}
	body := s.do("GET", at+"/partials.zip", "").want(200).body
	z, err := zip.NewReader(bytes.NewReader([]byte(body)), int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if f.Name == "manifest.json" {
			if err := json.Unmarshal(data, &list); err != nil || len(list) != 2 {
				t.Errorf("manifest in the archive: %d, %v", len(list), err)
			}
			continue
		}
		got = append(got, string(data))
	}
	if fmt.Sprint(got) != "[bytes of de bytes of fr]" {
		t.Errorf("archive has %q", got)
	}
	// The same on the page, without JavaScript.
	press := func(what, to string) {
		t.Helper()
		if r := s.do("POST", page+"/"+what, "", formHeader...).want(303); r.Header.Get("Location") != page {
			t.Errorf("%s leads to %q", what, r.Header.Get("Location"))
		}
		s.do("GET", page, "").want(200).has(to)
	}
	r := s.do("GET", page, "").want(200).has("Download all (2)", at+"/partials.zip", at+`/manifest" download="manifest.json"`)
	if strings.Contains(r.body, `id="retry"`) || strings.Contains(r.body, `id="cancel"`) {
		t.Errorf("buttons that do nothing\n%s", r.body)
	}
	s.svc.Lose(b.Jobs[0].ID)
	r = s.do("GET", at+"/partials.zip", "").want(404)
	r.problem(404, job.CodeNotFound)
	s.do("GET", at+"/partials.zip", "", "Accept", "text/html,*/*;q=0.8").want(404).has(
		"Of the 2 partials 1 are not here any more, such as that of job "+b.Jobs[0].ID, `action="`+page+`/retry"`, "Make what is missing again")
	press("retry", "1 of 2 have ended")
	press("cancel", "Try again what was not made (1)")
	s.do("GET", "/api/v1/jobs/"+b.Jobs[1].ID, "").want(200).has(`"state":"done"`)
	press("retry", "Cancel what has not ended (1)")
	s.svc.Fail(b.Jobs[0].ID, &job.Error{Code: job.CodeRefused, Message: "never"})
	if r := s.do("GET", page, "").want(200); strings.Contains(r.body, `id="retry"`) {
		t.Error("trying again is offered where it cannot help")
	}
	press("retry", "2 of 2 have ended")
	s.do("POST", "/batches/x/retry", "", formHeader...).want(404)

	// Another one's business is nobody's: roles hold here as elsewhere.
	g := open(t, guarded())
	for _, what := range []string{"retry", "cancel"} {
		g.do("POST", page+"/"+what, "", append(bearer(readToken), formHeader...)...).want(403)
	}
	g.do("DELETE", at, "", bearer(readToken)...).problem(403, "forbidden")
	g.do("POST", at+"/retry", "", bearer(readToken)...).problem(403, "forbidden")
	g.do("GET", at+"/partials.zip", "").problem(401, "unauthorized")
}
