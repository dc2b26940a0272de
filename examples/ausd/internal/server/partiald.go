package server

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// Partiald is a partiald that makes the partials in the server's place.
type Partiald struct {
	URL   *url.URL
	Token string // of its role submit; "" is none
	// Patience is the longest time between two tries while it does not answer; 0 means a minute.
	Patience time.Duration
}

// What is asked of a partiald, and how long.
const (
	jobWait      = 50 * time.Second // for the end of a job, at a time
	jobGrace     = 30 * time.Second // beyond the wait
	orderFirst   = 500 * time.Millisecond
	orderMost    = time.Minute
	maxJob       = 4 << 20
	maxTold      = 64 << 20 // of provenance
	pathJobs     = "/api/v1/jobs/"
	jobDone      = "done"
	jobFailed    = "failed"
	jobCancelled = "cancelled"
)

// job is what a partiald says of one.
type job struct {
	ID     string `json:"id"`
	State  string `json:"state"`
	Result *struct {
		SHA512 string `json:"sha512"`
		Size   int64  `json:"size"`
	} `json:"result"`
	Error *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// jobSource is a complete update as a partiald is told of it.
type jobSource struct {
	URLs   []string `json:"urls,omitempty"`
	SHA512 string   `json:"sha512,omitempty"`
	SHA256 string   `json:"sha256,omitempty"`
	Size   int64    `json:"size,omitempty"`
}

// refusedError is an answer that asking again does not change.
type refusedError struct {
	status int
	text   string
}

func (e *refusedError) Error() string { return e.text }

// orderOne has a partial made by the partiald, looks at it as far as its completes are here, and keeps it among the files.
func (s *Server) orderOne(ctx context.Context, d book.Demand) (m made, settled, reason string) {
	fail := func(err error) (made, string, string) {
		return made{}, book.Failed, fmt.Sprintf("%s: %s", s.opts.Partiald.URL.Redacted(), err)
	}
	start := time.Now()
	j, err := s.orderJob(ctx, d)
	if err != nil {
		return fail(err)
	}
	switch {
	case j.State != jobDone && j.Error != nil:
		return fail(errors.New(j.Error.Message))
	case j.State != jobDone || j.Result == nil:
		return fail(fmt.Errorf("job %s is %s", j.ID, j.State))
	case j.Result.Size >= d.To.Size:
		return made{}, book.Withheld, fmt.Sprintf("it has %d bytes, the complete update %d", j.Result.Size, d.To.Size)
	}
	var told senbonzakura.Provenance
	if err := s.askPartiald(ctx, http.MethodGet, "/api/v1/partials/"+j.ID+"/provenance", nil, func(_ int, r io.Reader) error {
		return json.NewDecoder(io.LimitReader(r, maxTold)).Decode(&told)
	}); err != nil {
		return fail(err)
	}
	var f book.File
	if err := s.askPartiald(ctx, http.MethodGet, "/api/v1/partials/"+j.ID, nil, func(_ int, r io.Reader) (err error) {
		f, err = s.keep(ctx, partialName(d), strings.ToLower(j.Result.SHA512), r, nil)
		return err
	}); err != nil {
		return fail(err)
	}
	if why := s.mayOffer(ctx, d, f, &told); why != "" {
		return made{}, book.Withheld, why
	}
	s.log.Info("had a partial made", "by", s.opts.Partiald.URL.Redacted(), "job", j.ID, "from", d.From.Release, "to", d.To.Release, "target", d.To.Target, "locale", d.To.Locale,
		"bytes", f.Size, "complete", d.To.Size, "took", time.Since(start).Round(time.Millisecond))
	return s.offer(d, f)
}

// mayOffer says why a partial that was made elsewhere may not be offered, "" where it may: it is proved here if both completes are here, else the
// partiald must have proved it, and it is signed where TO's complete is.
func (s *Server) mayOffer(ctx context.Context, d book.Demand, f book.File, told *senbonzakura.Provenance) string {
	update, err := mar.OpenFile(s.filePath(fileName(f.SHA512)), nil)
	if err != nil {
		return err.Error()
	}
	defer update.Close()
	proved, signed := false, false
	for _, c := range told.Checks {
		proved = proved || c.Check == updater.CheckVerify && c.Answer == updater.Holds
	}
	if c := told.To.Build.Client; c != nil {
		signed = c.Signature != 0
	}
	if !strings.EqualFold(told.Output.SHA512, f.SHA512) {
		return "what the partiald says is of another update"
	}
	if to := s.here(d.To); to != "" {
		signed = signedFile(to)
		if from := s.here(d.From); from != "" {
			old, err := mar.OpenFile(from, nil)
			if err != nil {
				return err.Error()
			}
			defer old.Close()
			if err := turns(ctx, old.Reader, update.Reader, to); errors.Is(err, partial.ErrDifferent) || errors.Is(err, ErrInput) {
				return "it does not lead to the complete update: " + err.Error()
			} else if err != nil {
				return err.Error()
			}
			proved = true
		}
	}
	switch {
	case !proved:
		return "it is not proved"
	case signed && len(update.Signatures()) == 0:
		return "the complete update is signed, and the partial is not"
	}
	return ""
}

// here returns the file of a build's complete update; "" is not here.
func (s *Server) here(b aus.Build) string {
	if name := fileName(b.Hash); strings.EqualFold(b.HashFunction, "sha512") {
		if _, err := s.files.Stat(name); err == nil {
			return s.filePath(name)
		}
	}
	return ""
}

// orderJob orders a partial and waits until it is made, or cannot be. Completes that are here are uploaded if the partiald has not got them; the others
// it fetches itself. While it does not answer, it is asked again.
func (s *Server) orderJob(ctx context.Context, d book.Demand) (job, error) {
	from, to := s.jobSource(d.From), s.jobSource(d.To)
	order, err := json.Marshal(map[string]any{"from": from, "to": to, "product": d.To.Product, "locale": d.To.Locale})
	if err != nil {
		return job{}, err
	}
	var j job
	read := func(_ int, r io.Reader) error { return json.NewDecoder(io.LimitReader(r, maxJob)).Decode(&j) }
	err = s.askPartiald(ctx, http.MethodPost, "/api/v1/partials", order, read)
	var refused *refusedError
	if errors.As(err, &refused) && refused.status == http.StatusConflict && (len(from.URLs) == 0 || len(to.URLs) == 0) {
		for _, b := range []aus.Build{d.From, d.To} {
			if err := s.uploadComplete(ctx, b); err != nil {
				return j, err
			}
		}
		err = s.askPartiald(ctx, http.MethodPost, "/api/v1/partials", order, read)
	}
	for err == nil && j.State != jobDone && j.State != jobFailed && j.State != jobCancelled {
		err = s.askPartiald(ctx, http.MethodGet, pathJobs+url.PathEscape(j.ID), nil, read)
	}
	return j, err
}

// jobSource is a build's complete update: one that is here is known by its hash alone.
func (s *Server) jobSource(b aus.Build) jobSource {
	src := jobSource{Size: b.Size}
	if strings.EqualFold(b.HashFunction, "sha512") {
		src.SHA512 = b.Hash
	} else {
		src.SHA256 = b.Hash
	}
	if s.here(b) == "" {
		src.URLs = []string{b.URL}
	}
	return src
}

// uploadComplete gives a complete update that is here to the partiald.
func (s *Server) uploadComplete(ctx context.Context, b aus.Build) error {
	file := s.here(b)
	if file == "" {
		return nil
	}
	_, err := s.tryPartiald(ctx, func() error {
		f, err := os.Open(file)
		if err != nil {
			return backoff.Permanent(err)
		}
		defer f.Close()
		return s.askOnce(ctx, http.MethodPost, "/api/v1/uploads?sha512="+strings.ToLower(b.Hash), "application/octet-stream", f, b.Size, func(int, io.Reader) error { return nil })
	})
	return err
}

// askPartiald asks, again and again while there is no answer; read gets a good one.
func (s *Server) askPartiald(ctx context.Context, method, path string, body []byte, read func(status int, r io.Reader) error) error {
	_, err := s.tryPartiald(ctx, func() error {
		return s.askOnce(ctx, method, path, "application/json", bytes.NewReader(body), int64(len(body)), read)
	})
	return err
}

// tryPartiald does something until it is done, or is refused.
func (s *Server) tryPartiald(ctx context.Context, do func() error) (struct{}, error) {
	most := cmp.Or(s.opts.Partiald.Patience, orderMost)
	waits := &backoff.ExponentialBackOff{InitialInterval: min(orderFirst, most), MaxInterval: most, Multiplier: 2, RandomizationFactor: 0.5}
	return backoff.Retry(ctx, func() (struct{}, error) {
		err := do()
		var refused *refusedError
		if errors.As(err, &refused) || errors.Is(err, ErrFile) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(waits), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, _ time.Duration) {
		s.log.Warn("ask the partiald", "url", s.opts.Partiald.URL.Redacted(), "error", err)
	}))
}

// askOnce sends one request.
func (s *Server) askOnce(ctx context.Context, method, path, kind string, body io.Reader, size int64, read func(status int, r io.Reader) error) error {
	if !strings.HasPrefix(path, "/api/v1/uploads") && !strings.HasPrefix(path, "/api/v1/partials/") {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, jobWait+jobGrace)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(s.opts.Partiald.URL.String(), "/")+path, body)
	if err != nil {
		return backoff.Permanent(err)
	}
	req.ContentLength = size
	if strings.HasPrefix(path, pathJobs) {
		req.Header.Set("Prefer", fmt.Sprintf("wait=%d", int(jobWait/time.Second)))
	}
	if size > 0 {
		req.Header.Set("Content-Type", kind)
	}
	if t := s.opts.Partiald.Token; t != "" {
		req.Header.Set("Authorization", "Bearer "+t)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode < 300 {
		return read(res.StatusCode, res.Body)
	}
	said, err := io.ReadAll(io.LimitReader(res.Body, maxJob))
	if err != nil {
		return err
	}
	var problem struct {
		Detail string `json:"detail"`
		Title  string `json:"title"`
	}
	text := res.Status
	if json.Unmarshal(said, &problem) == nil && cmp.Or(problem.Detail, problem.Title) != "" {
		text += ": " + cmp.Or(problem.Detail, problem.Title)
	}
	switch res.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return errors.New(text)
	}
	return &refusedError{res.StatusCode, text}
}
