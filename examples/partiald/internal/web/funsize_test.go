package web_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job/jobtest"
)

func funsizeForm(from, to string, change ...string) string {
	v := url.Values{
		"mar_from": {"https://example.org/from.mar"}, "sha_from": {from}, "mar_to": {"https://example.org/to.mar"}, "sha_to": {to},
		"channel_id": {"firefox-mozilla-release"}, "product_version": {"153.0"},
	}
	for i := 0; i < len(change); i += 2 {
		v.Del(change[i])
		if change[i+1] != "" {
			v.Set(change[i], change[i+1])
		}
	}
	return v.Encode()
}

// TestFunsize holds the answers of funsize's last version, and of that of 2014.
func TestFunsize(t *testing.T) {
	t.Parallel()
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	for _, prefix := range []string{"", "/v1", "/latest"} {
		t.Run("prefix "+prefix, func(t *testing.T) {
			s := open(t, everything)
			id := hashA + "-" + hashB
			is := func(r reply, status int, body string) {
				t.Helper()
				r.want(status)
				if got := strings.TrimSpace(r.body); got != body || r.Header.Get("Content-Type") != "application/json" {
					t.Errorf("got %q (%s), want %q", got, r.Header.Get("Content-Type"), body)
				}
			}
			get := prefix + "/partial/" + id
			is(s.do("GET", get, ""), 404, `{"result":"Partial with identifier `+id+` not found"}`)
			s.do("HEAD", get, "").want(404)
			is(s.do("POST", prefix+"/partial", funsizeForm(hashA, hashB), form...), 202, `{"result":"/partial/`+id+`"}`)
			is(s.do("POST", prefix+"/partial", funsizeForm(hashA, hashB), form...), 201, `{"result":"/partial/`+id+`"}`)
			is(s.do("GET", get, ""), 202, `{"result":"wait"}`)
			if r := s.do("HEAD", get, "").want(202); r.Header.Get("Content-Type") != "application/json" {
				t.Errorf("HEAD: %v", r.Header)
			}
			page, err := s.svc.History(t.Context(), job.Filter{})
			if err != nil || len(page.Jobs) != 1 {
				t.Fatalf("%d jobs, %v", len(page.Jobs), err)
			}
			st := page.Jobs[0]
			if sp := st.Spec; sp.Channel != "firefox-mozilla-release" || sp.ProductVersion != "153.0" || sp.From.SHA512 != hashA || sp.To.URLs[0] != "https://example.org/to.mar" {
				t.Errorf("asked for %+v", sp)
			}
			s.svc.Fail(st.ID, &job.Error{Code: job.CodeFetch, Message: "404"})
			if prefix == "/v1" {
				s.do("GET", get, "").want(204)
			} else {
				is(s.do("GET", get, ""), 404, `{"result":"Partial with identifier `+id+` not found"}`)
			}
			is(s.do("POST", prefix+"/partial", funsizeForm(hashA, hashB), form...), 201, `{"result":"/partial/`+id+`"}`)
			s.svc.Finish(st.ID, jobtest.Output{Partial: []byte("partial")})
			r := s.do("GET", get, "").want(200)
			if r.body != "partial" || r.Header.Get("ETag") == "" || r.Header.Get("Content-Type") != "application/octet-stream" {
				t.Errorf("got %q %v", r.body, r.Header)
			}
			s.do("GET", prefix+"/partial/"+strings.ToUpper(id), "").want(200)
			if r := s.do("HEAD", get, "").want(200); r.ContentLength != 7 || r.Header.Get("Content-Type") != "application/json" {
				t.Errorf("HEAD: %v", r.Header)
			}
			s.do("DELETE", "/api/v1/partials/"+st.ID, "").want(200)
			s.do("GET", get, "").want(404)

			// The fields of 2014 come without channel and version; bodies may be multipart.
			old := url.Values{"mar_from": {"https://example.org/a"}, "mar_from_hash": {hashB}, "mar_to": {"https://example.org/b"}, "mar_to_hash": {hashC}}
			is(s.do("POST", prefix+"/partial", old.Encode(), form...), 202, `{"result":"/partial/`+hashB+"-"+hashC+`"}`)
			multi := "--b\r\n"
			for k, v := range old {
				multi += "Content-Disposition: form-data; name=\"" + k + "\"\r\n\r\n" + v[0] + "\r\n--b\r\n"
			}
			multi = strings.TrimSuffix(multi, "\r\n") + "--\r\n"
			is(s.do("POST", prefix+"/partial", multi, "Content-Type", "multipart/form-data; boundary=b"), 201, `{"result":"/partial/`+hashB+"-"+hashC+`"}`)

			for _, field := range []string{"mar_from", "sha_from", "mar_to", "sha_to", "channel_id", "product_version"} {
				r := s.do("POST", prefix+"/partial", funsizeForm(hashA, hashB, field, ""), form...).want(400)
				if !strings.Contains(r.body, field) {
					t.Errorf("without %s: %s", field, r.body)
				}
			}
			s.do("POST", prefix+"/partial", funsizeForm("abc", hashB), form...).want(400)
			s.do("POST", prefix+"/partial", funsizeForm(hashA, hashB, "mar_from", "ftp://x"), form...).want(400)
			s.do("POST", prefix+"/partial", "{}").want(400)
			s.do("GET", prefix+"/partial/nonsense", "").want(404)
			is(s.do("GET", prefix+"/cache/aa/bb", ""), 404, `{"result":"Patch with identifier aa-bb not found"}`)
			s.do("POST", prefix+"/cache", "x").want(403)
			s.svc.Break(&job.Error{Code: job.CodeStore, Message: "full"})
			is(s.do("POST", prefix+"/partial", funsizeForm(hashA, hashB), form...), 500, `{"result":"Error while processing request `+s.srv.URL+prefix+`/partial"}`)
			s.svc.Break(&job.Error{Code: job.CodeUnavailable, Message: "away"})
			if r := s.do("POST", prefix+"/partial", funsizeForm(hashA, hashB), form...).want(503); r.Header.Get("Retry-After") == "" {
				t.Error("503 without Retry-After")
			}
		})
	}
	s := open(t, everything)
	s.do("GET", "/v2/partial/x", "").want(410)
	s.do("POST", "/0.9/partial", "").want(410)
}

// TestFunsizeChoosesBest: one pair of hashes may have several jobs.
func TestFunsizeChoosesBest(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	done := s.submit(hashA, hashB, `,"locale":"de"`)
	s.svc.Finish(done.ID, jobtest.Output{Partial: []byte("done")})
	for i := range 150 { // newer ones, on more than one page
		failed := s.submit(hashA, hashB, `,"labels":{"n":"`+strings.Repeat("x", i+1)+`"}`)
		s.svc.Fail(failed.ID, &job.Error{Code: job.CodeFetch, Message: "404"})
	}
	if got := s.do("GET", "/partial/"+hashA+"-"+hashB, "").want(200).body; got != "done" {
		t.Errorf("got %q", got)
	}
	s.do("GET", "/partial/"+hashA+"-"+hashC, "").want(404)

	// What was asked for here comes before what others made of the same pair, and the newest of it first.
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	for _, channel := range []string{"beta", "release"} {
		s.do("POST", "/partial", funsizeForm(hashA, hashB, "channel_id", channel), form...).want(202)
		s.do("GET", "/partial/"+hashA+"-"+hashB, "").want(202)
		page, err := s.svc.History(t.Context(), job.Filter{Limit: 1})
		if err != nil || page.Jobs[0].Spec.Channel != channel {
			t.Fatalf("got %+v, %v", page, err)
		}
		s.svc.Finish(page.Jobs[0].ID, jobtest.Output{Partial: []byte(channel)})
		if got := s.do("GET", "/partial/"+hashA+"-"+hashB, "").want(200).body; got != channel {
			t.Errorf("got %q, want %q", got, channel)
		}
	}
}
