package web_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job/jobtest"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/web"
	"github.com/senbonzakura/senbonzakura/partial"
)

// largeReport is a report of as many files as Firefox has.
func largeReport(tb testing.TB) job.Document {
	tb.Helper()
	r := partial.Report{Verified: true}
	for i := range 260 {
		f := partial.FileReport{Path: fmt.Sprintf("browser/features/part%03d/file%d@mozilla.org.xpi", i/10, i), Size: int64(1000 + 37*i), FullSize: int64(9000 + 811*i), Action: partial.ActionPatch, Why: "the patch is smaller than the whole file"}
		switch {
		case i%29 == 0:
			f.Action, f.Size = partial.ActionAdd, f.FullSize
		case i%31 == 0:
			f.Action = partial.ActionRemove
		}
		r.Files = append(r.Files, f)
	}
	r.From.Version, r.To.Version, r.To.Name = "152.0", "153.0", "Firefox"
	doc, err := json.Marshal(&r)
	if err != nil {
		tb.Fatal(err)
	}
	return doc
}

// BenchmarkJobPage is the page of a job that is done, with a report of 260 files. distinct has every page about another
// job, as when a crawler or a whole team looks at a release.
func BenchmarkJobPage(b *testing.B) {
	svc := jobtest.New()
	doc := slices.Concat(job.Document(`{"report":`), largeReport(b), job.Document("}"))
	var ids []string
	for i := range 400 {
		spec := job.Spec{Product: "firefox", From: job.Source{URLs: []string{"https://archive.example.org/152.0.complete.mar"}, SHA512: fmt.Sprintf("%0128x", i+1)}, To: job.Source{URLs: []string{"https://archive.example.org/153.0.complete.mar"}, SHA512: fmt.Sprintf("%0128x", i+5000)}}
		st, _, err := svc.Submit(b.Context(), spec, job.Asker{Name: "x"})
		if err != nil {
			b.Fatal(err)
		}
		svc.Finish(st.ID, jobtest.Output{Partial: []byte("x"), Complete: 100, Provenance: doc})
		ids = append(ids, st.ID)
	}
	h, err := web.New(svc, web.Options{Anonymous: web.Roles(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	for _, distinct := range []bool{false, true} {
		b.Run(fmt.Sprintf("distinct=%v", distinct), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				id := ids[0]
				if distinct {
					id = ids[i%len(ids)]
					i++
				}
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/jobs/"+id, nil))
				if w.Code != http.StatusOK {
					b.Fatal(w.Code)
				}
				b.SetBytes(int64(w.Body.Len()))
			}
		})
	}
}
