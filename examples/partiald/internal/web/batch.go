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

	"golang.org/x/sync/errgroup"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// again says whether a job of a batch may be tried again: it failed, was cancelled, or its partial is not here any more.
func (s *server) again(ctx context.Context, st job.Status) bool {
	if st.State != job.Done {
		return st.State.Final()
	}
	return s.lost(ctx, st)
}

// made says whether a job has a partial, which nobody removed on purpose.
func made(st job.Status) bool { return st.State == job.Done && st.Purged.IsZero() }

// lost says whether the partial of a job is not here any more.
func (s *server) lost(ctx context.Context, st job.Status) bool {
	if !made(st) {
		return false
	}
	ctx, cancel := call(ctx)
	defer cancel()
	there, err := s.svc.Present(ctx, st.ID)
	return err == nil && !there
}

// running says whether a job of a batch may be cancelled.
func running(_ context.Context, st job.Status) bool { return !st.State.Final() }

// each does something with some jobs of a batch. A job that has come to another state meanwhile is left alone.
func (s *server) each(ctx context.Context, id string, which func(context.Context, job.Status) bool, do func(context.Context, string, job.Asker) (job.Status, error), cost bool) (job.Batch, error) {
	b, err := s.batch(ctx, id)
	if err != nil {
		return b, err
	}
	var ids []string
	for _, st := range b.Jobs {
		if which(ctx, st) {
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
	who := asker(ctx)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(16) // each is durable when it returns, and several together take as long as one
	for _, id := range ids {
		group.Go(func() error {
			limited, cancel := call(groupCtx)
			defer cancel()
			if _, err := do(limited, id, who); err != nil && !errors.Is(err, &job.Error{Code: job.CodeConflict}) {
				return err
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return b, err
	}
	return s.batch(ctx, id)
}

func (s *server) retryBatch(ctx context.Context, in *batchIDIn) (*batchOut, error) {
	b, err := s.each(ctx, in.ID, s.again, s.svc.Retry, true)
	if err != nil {
		return nil, fail(ctx, err)
	}
	return batchAnswer(b), nil
}

func (s *server) cancelBatch(ctx context.Context, in *batchIDIn) (*batchOut, error) {
	b, err := s.each(ctx, in.ID, running, s.svc.Cancel, false)
	if err != nil {
		return nil, fail(ctx, err)
	}
	out := batchAnswer(b)
	out.Status, out.Location = http.StatusOK, ""
	return out, nil
}

// postRetryBatch and postCancelBatch are the buttons of a batch's page.
func (s *server) postRetryBatch(w http.ResponseWriter, r *http.Request) {
	s.postEach(w, r, func(ctx context.Context, st job.Status) bool {
		return s.again(ctx, st) && (st.State != job.Failed || helps(st.Error))
	}, s.svc.Retry, true)
}

func (s *server) postCancelBatch(w http.ResponseWriter, r *http.Request) {
	s.postEach(w, r, running, s.svc.Cancel, false)
}

func (s *server) postEach(w http.ResponseWriter, r *http.Request, which func(context.Context, job.Status) bool, do func(context.Context, string, job.Asker) (job.Status, error), cost bool) {
	b, err := s.each(r.Context(), r.PathValue("id"), which, do, cost)
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	http.Redirect(w, r, "/batches/"+b.ID, http.StatusSeeOther)
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

// whole says which partials of a batch are not here any more.
func (s *server) whole(ctx context.Context, b job.Batch) error {
	var missing []string
	for _, st := range b.Jobs {
		if s.lost(ctx, st) {
			missing = append(missing, st.ID)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return &job.Error{
		Code: job.CodeNotFound, Retryable: true,
		Message: fmt.Sprintf("of the %d partials %d are not here any more, such as that of job %s; trying the batch again makes them again", b.Counts[job.Done], len(missing), missing[0]),
	}
}

// submissions are the entries of the manifest, one for each job that is done, in the order of the batch.
func (s *server) submissions(ctx context.Context, b job.Batch) ([]senbonzakura.Submission, error) {
	// Each takes reading a report, of which there may be very many: those who ask at one time take turns.
	select {
	case s.wholes <- struct{}{}:
		defer func() { <-s.wholes }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	list := []senbonzakura.Submission{}
	for _, st := range b.Jobs {
		if !made(st) {
			continue
		}
		limited, cancel := call(ctx)
		doc, err := s.svc.Provenance(limited, st.ID)
		cancel()
		if err != nil {
			return nil, err
		}
		var p struct {
			senbonzakura.Provenance
			Report json.RawMessage `json:"report"` // is not needed, and most of it
		}
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
	refuse := func(err error) { s.notThere(w, r, err, "/batches/"+id+"/retry", "Make what is missing again") }
	b, err := s.finished(r.Context(), id)
	if err == nil {
		err = s.whole(r.Context(), b)
	}
	if err != nil {
		refuse(err)
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
		refuse(err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/zip")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": "partials-" + id[:12] + ".zip"}))
	z := zip.NewWriter(w)
	taken := map[string]bool{}
	for _, st := range b.Jobs {
		if !made(st) {
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
