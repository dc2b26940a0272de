package web

import (
	"archive/zip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// Unmatched is a build of a matrix for which the other side has none of the same platform and locale.
type Unmatched struct {
	Field    string `json:"field" doc:"Where it stands in the request." example:"matrix.from[3]"`
	Platform string `json:"platform,omitempty"`
	Locale   string `json:"locale,omitempty"`
}

// batchAnswerBody is a batch, with what of its request made no partial.
type batchAnswerBody struct {
	job.Batch
	Unmatched []Unmatched `json:"unmatched,omitempty" doc:"Builds of the matrix without a partner, which are left out. Only in the answer to the request itself."`
}

// each does something with some jobs of a batch. A job that has come to another state meanwhile is left alone.
func (s *server) each(ctx context.Context, id string, which func(job.State) bool, do func(context.Context, string, job.Asker) (job.Status, error), cost bool) (job.Batch, error) {
	b, err := s.batch(ctx, id)
	if err != nil {
		return b, err
	}
	var ids []string
	for _, st := range b.Jobs {
		if which(st.State) {
			ids = append(ids, st.ID)
		}
	}
	if cost && len(ids) > 0 {
		if err := s.accepting(); err != nil {
			return b, err
		}
		if err := s.quota(ctx, len(ids)); err != nil {
			return b, err
		}
	}
	for _, id := range ids {
		if _, err := s.change(ctx, id, do); err != nil && !errors.Is(err, &job.Error{Code: job.CodeConflict}) {
			return b, err
		}
	}
	infoFrom(ctx).job = ""
	return s.batch(ctx, id)
}

func (s *server) retryBatch(ctx context.Context, in *batchIDIn) (*batchOut, error) {
	b, err := s.each(ctx, in.ID, func(st job.State) bool { return st == job.Failed || st == job.Cancelled }, s.svc.Retry, true)
	if err != nil {
		return nil, fail(ctx, err)
	}
	return batchAnswer(b), nil
}

func (s *server) cancelBatch(ctx context.Context, in *batchIDIn) (*batchOut, error) {
	b, err := s.each(ctx, in.ID, func(st job.State) bool { return !st.Final() }, s.svc.Cancel, false)
	if err != nil {
		return nil, fail(ctx, err)
	}
	out := batchAnswer(b)
	out.Status, out.Location = http.StatusOK, ""
	return out, nil
}

// finished returns a batch of which all jobs are in a final state.
func (s *server) finished(ctx context.Context, id string) (job.Batch, error) {
	infoFrom(ctx).job = ""
	b, err := s.batch(ctx, id)
	if err == nil && !b.Done {
		err = problem(job.CodeNotReady, "not all of the %d jobs have ended", len(b.Jobs)).after(5 * time.Second)
	}
	return b, err
}

// submissions are the entries of the manifest, one for each job that is done, in the order of the batch.
func (s *server) submissions(ctx context.Context, b job.Batch) ([]senbonzakura.Submission, error) {
	list := []senbonzakura.Submission{}
	for _, st := range b.Jobs {
		if st.State != job.Done {
			continue
		}
		limited, cancel := call(ctx)
		doc, err := s.svc.Provenance(limited, st.ID)
		cancel()
		if err != nil {
			return nil, err
		}
		var p senbonzakura.Provenance
		if err := json.Unmarshal(doc, &p); err != nil {
			return nil, err
		}
		list = append(list, p.Submission())
	}
	return list, nil
}

func (s *server) batchManifest(ctx context.Context, in *batchIDIn) (*documentOut, error) {
	b, err := s.finished(ctx, in.ID)
	if err != nil {
		return nil, fail(ctx, err)
	}
	list, err := s.submissions(ctx, b)
	if err != nil {
		return nil, fail(ctx, err)
	}
	body, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return nil, fail(ctx, err)
	}
	return &documentOut{ContentType: "application/json", Body: body}, nil
}

// batchFiles answers with all partials of a batch and their manifest in one archive, as they are read.
func (s *server) batchFiles(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	b, err := s.finished(r.Context(), id)
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	list, err := s.submissions(r.Context(), b)
	if err == nil && len(list) == 0 {
		err = problem(job.CodeNotFound, "none of the %d jobs made a partial", len(b.Jobs))
	}
	var manifest []byte
	if err == nil {
		manifest, err = json.MarshalIndent(list, "", "  ")
	}
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/zip")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": "partials-" + id[:12] + ".zip"}))
	z := zip.NewWriter(w)
	taken := map[string]bool{}
	for _, st := range b.Jobs {
		if st.State != job.Done {
			continue
		}
		if err := s.addFile(r.Context(), z, st.ID, taken); err != nil {
			// The status is out: an archive that ends here is none, and the client sees that.
			infoFrom(r.Context()).failed(fmt.Errorf("batch %s: %w", id, err))
			panic(http.ErrAbortHandler)
		}
	}
	f, err := z.Create("manifest.json")
	if err == nil {
		_, err = f.Write(manifest)
	}
	if err = errors.Join(err, z.Close()); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// addFile adds a partial to an archive, under a name of its own.
func (s *server) addFile(ctx context.Context, z *zip.Writer, id string, taken map[string]bool) error {
	a, err := s.svc.Artifact(ctx, id)
	if err != nil {
		return err
	}
	if a.Closer != nil {
		defer a.Close()
	}
	name := a.Name
	if name == "" || taken[name] || name == "manifest.json" {
		name = id[:12] + "-" + name
	}
	taken[name] = true
	f, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store, Modified: a.Made}) // it cannot be made smaller
	if err != nil {
		return err
	}
	_, err = io.Copy(f, io.NewSectionReader(a, 0, a.Size))
	return err
}
