package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/senbonzakura/senbonzakura/examples/internal/chain"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// funsizeRoutes are those of Mozilla's funsize (2014 and 2015), whose clients keep working:
//
//	POST /partial                  201 known already, 202 accepted, 400 a field is missing or wrong
//	GET, HEAD /partial/<from>-<to> 200 the bytes, 202 not yet, 404 never asked for, or failed
//
// with /v1 and /latest before it, too. Patches of single files, /cache, were for its own workers only: no outsider ever
// got another answer than these.
func (s *server) funsizeRoutes() {
	for _, prefix := range []string{"", "/v1", "/latest"} {
		s.handle("POST "+prefix+"/partial", access{role: RoleSubmit, plain: funsizeProblem}, s.funsizePost)
		s.handle("GET "+prefix+"/partial/{id}", access{role: RoleRead, plain: funsizeProblem}, s.funsizeGet)
		s.handle("POST "+prefix+"/cache", access{plain: funsizeProblem}, func(w http.ResponseWriter, _ *http.Request) {
			result(w, http.StatusForbidden, "Patches are not taken from outside")
		})
		s.handle("GET "+prefix+"/cache/{from}/{to}", access{role: RoleRead, plain: funsizeProblem}, func(w http.ResponseWriter, r *http.Request) {
			result(w, http.StatusNotFound, fmt.Sprintf("Patch with identifier %s-%s not found", r.PathValue("from"), r.PathValue("to")))
		})
	}
}

var oldPath = regexp.MustCompile(`^/v?[0-9][0-9.]*/(partial|cache)(/|$)`)

// oldFunsize answers 410 for versions of the API that are not spoken.
func (s *server) oldFunsize(w http.ResponseWriter, r *http.Request) bool {
	if !oldPath.MatchString(r.URL.Path) {
		return false
	}
	result(w, http.StatusGone, "This version of the API is not supported; use /v1 or /latest")
	return true
}

func result(w http.ResponseWriter, status int, text string) {
	writeJSON(w, status, map[string]string{"result": strings.ToValidUTF8(text, "�")})
}

// funsizeProblem keeps to the bodies that the clients know, with headers that they may use.
func funsizeProblem(w http.ResponseWriter, r *http.Request, p *Problem) {
	for k, v := range p.headers {
		w.Header()[k] = v
	}
	switch {
	case p.Code == job.CodeRequest || p.Code == codeSyntax || p.Code == codeMediaType:
		result(w, http.StatusBadRequest, p.Detail)
	case p.Status >= 500 && p.Status != http.StatusServiceUnavailable:
		result(w, http.StatusInternalServerError, "Error while processing request "+requestURL(r))
	default:
		result(w, p.Status, p.Detail)
	}
}

func requestURL(r *http.Request) string {
	scheme := "http://"
	if infoFrom(r.Context()).Secure {
		scheme = "https://"
	}
	return scheme + r.Host + r.URL.RequestURI()
}

// hashOf puts a hash where it belongs by its length: clients of 2015 send SHA-512.
func hashOf(field, hash, url string) (job.Source, error) {
	src := job.Source{URLs: []string{url}}
	switch len(hash) {
	case 128:
		src.SHA512 = strings.ToLower(hash)
	case 64:
		src.SHA256 = strings.ToLower(hash)
	default:
		e := job.Errorf(job.CodeRequest, "%s is neither a SHA-512 nor a SHA-256 in hexadecimal", field)
		e.Field = field
		return src, e
	}
	return src, nil
}

func (s *server) funsizePost(w http.ResponseWriter, r *http.Request) {
	refuse := func(err error) { funsizeProblem(w, r, problemOf(r.Context(), err)) }
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		refuse(bodyError(err))
		return
	}
	if err := r.ParseMultipartForm(maxBody); err != nil && !errors.Is(err, http.ErrNotMultipart) {
		refuse(bodyError(err))
		return
	}
	if r.MultipartForm != nil {
		defer func() { _ = r.MultipartForm.RemoveAll() }() // nothing this small is on disk
	}
	get := func(names ...string) string {
		for _, n := range names {
			if v := r.PostForm.Get(n); v != "" {
				return v
			}
		}
		return ""
	}
	var spec job.Spec
	fromURL, toURL := get("mar_from"), get("mar_to")
	fromHash, toHash := get("sha_from", "mar_from_hash"), get("sha_to", "mar_to_hash")
	spec.Channel, spec.ProductVersion = get("channel_id"), get("product_version")
	required := []struct{ name, value string }{{"mar_from", fromURL}, {"sha_from", fromHash}, {"mar_to", toURL}, {"sha_to", toHash}}
	if get("mar_from_hash") == "" { // the fields of 2014 came without these two
		required = append(required, struct{ name, value string }{"channel_id", spec.Channel},
			struct{ name, value string }{"product_version", spec.ProductVersion})
	}
	for _, f := range required {
		if f.value == "" {
			refuse(problem(job.CodeRequest, "Parameters could not be validated: %s is missing", f.name))
			return
		}
	}
	var err error
	if spec.From, err = hashOf("sha_from", fromHash, fromURL); err == nil {
		spec.To, err = hashOf("sha_to", toHash, toURL)
	}
	if err != nil {
		refuse(err)
		return
	}
	if err := s.accepting(); err != nil {
		refuse(err)
		return
	}
	if err := s.quota(r.Context(), 1); err != nil {
		refuse(err)
		return
	}
	ctx, cancel := call(r.Context())
	defer cancel()
	st, created, err := s.svc.Submit(ctx, spec, asker(r.Context()))
	if err != nil {
		refuse(err)
		return
	}
	infoFrom(r.Context()).job = st.ID
	status := http.StatusCreated
	if created {
		status = http.StatusAccepted
	}
	result(w, status, "/partial/"+strings.ToLower(fromHash)+"-"+strings.ToLower(toHash))
}

var hexDigits = regexp.MustCompile(`^([0-9a-fA-F]{128}|[0-9a-fA-F]{64})$`)

func (s *server) funsizeGet(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	missing := func() {
		result(w, http.StatusNotFound, fmt.Sprintf("Partial with identifier %s not found", chain.Cut(id, 300)))
	}
	from, to, _ := strings.Cut(strings.ToLower(id), "-")
	if !hexDigits.MatchString(from) || !hexDigits.MatchString(to) {
		missing()
		return
	}
	st, err := s.byHashes(r.Context(), from, to)
	switch {
	case err != nil:
		funsizeProblem(w, r, problemOf(r.Context(), err))
		return
	case st == nil:
		missing()
		return
	case st.State == job.Failed || st.State == job.Cancelled:
		if strings.HasPrefix(r.URL.Path, "/v1/") { // as the API of 2014 had it for what was aborted or invalid
			w.WriteHeader(http.StatusNoContent)
			return
		}
		missing()
		return
	case st.State != job.Done:
		infoFrom(r.Context()).job = st.ID
		result(w, http.StatusAccepted, "wait")
		return
	}
	infoFrom(r.Context()).job = st.ID
	a, err := s.svc.Artifact(r.Context(), st.ID)
	if err != nil {
		if p := problemOf(r.Context(), err); p.Code == job.CodeNotFound { // purged
			missing()
		} else {
			funsizeProblem(w, r, p)
		}
		return
	}
	if a.Closer != nil {
		defer a.Close()
	}
	kind := octets
	if r.Method == http.MethodHead { // as funsize said it
		kind = "application/json"
	}
	s.send(w, r, a, kind)
}

// byHashes finds the job of a pair of hashes, which is all that an identifier of funsize says: the newest that its API
// can have asked for and that did not fail; else one that is done, under work, or failed. It returns nil if there is none.
func (s *server) byHashes(ctx context.Context, from, to string) (*job.Status, error) {
	ctx, cancel := call(ctx)
	defer cancel()
	rank := func(st *job.Status) int {
		switch {
		case st == nil:
			return 0
		case st.State == job.Failed || st.State == job.Cancelled:
			return 1
		case likeFunsize(st.Spec):
			return 4
		case st.State == job.Done:
			return 3
		}
		return 2
	}
	var best *job.Status
	filter := job.Filter{From: from, To: to, Limit: 100}
	for range 10 { // pages; one pair of hashes has few jobs
		page, err := s.svc.History(ctx, filter)
		if err != nil {
			return nil, err
		}
		for i := range page.Jobs {
			if st := &page.Jobs[i]; rank(st) > rank(best) {
				best = st
			}
		}
		if page.Next == "" || rank(best) == 4 {
			break
		}
		filter.Cursor = page.Next
	}
	return best, nil
}

// likeFunsize says whether a request has only what the API of funsize can ask for.
func likeFunsize(s job.Spec) bool {
	return s.Product == "" && s.Platform == "" && s.Locale == "" && len(s.Formats) == 0 && len(s.Force) == 0 && len(s.Channels) == 0 &&
		len(s.Skip) == 0 && len(s.Labels) == 0 && s.Client == nil && s.Trust == ""
}
