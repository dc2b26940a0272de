package web

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/senbonzakura/senbonzakura/examples/internal/chain"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// byteRoutes adds what is not JSON: downloads, uploads, events and logs. The document has them all the same.
func (s *server) byteRoutes(api huma.API) {
	schemas := api.OpenAPI().Components.Schemas
	binary := &huma.Schema{Type: "string", Format: "binary"}
	text := &huma.Schema{Type: "string"}
	id := &huma.Param{
		Name: "id", In: "path", Required: true, Description: "ID of a job.", Schema: &huma.Schema{Type: "string"},
		Example: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
	}
	header := func(description string) *huma.Param {
		return &huma.Param{Schema: &huma.Schema{Type: "string"}, Description: description}
	}
	digests := map[string]*huma.Param{
		"ETag":                header("The SHA-256 in quotes."),
		"Repr-Digest":         header("SHA-256 and SHA-512 (RFC 9530)."),
		"Digest":              header("SHA-256 and SHA-512 (RFC 3230)."),
		"Content-Disposition": header("The name to save it as."),
	}
	add := func(o huma.Operation, h http.HandlerFunc) {
		for status, r := range o.Responses {
			if r.Ref == "" && r.Description == "" {
				r.Description = status
			}
		}
		api.OpenAPI().AddOperation(&o)
		role, _ := o.Metadata[metaRole].(Role)
		s.handle(o.Method+" "+o.Path, access{role: role}, h)
	}

	get := op("GET", "/api/v1/partials/{id}", "downloadPartial", "The partial itself",
		"Ranges and conditional requests work; the bytes under an ID never change. Where the service is configured so, the "+
			"answer is a redirect to the storage, but not that of HEAD.", RoleRead, append(endings, 412, 416)...)
	get.Parameters = []*huma.Param{id}
	get.Responses["200"] = &huma.Response{
		Description: "The bytes.", Headers: digests,
		Content: map[string]*huma.MediaType{"application/octet-stream": {Schema: binary}},
	}
	get.Responses["206"] = &huma.Response{
		Description: "A part of the bytes.", Content: map[string]*huma.MediaType{"application/octet-stream": {Schema: binary}},
	}
	get.Responses["302"] = &huma.Response{
		Description: "Where the storage has it.", Headers: map[string]*huma.Param{"Location": header("Presigned; valid for a while.")},
	}
	get.Responses["304"] = &huma.Response{Description: "The client has it."}
	add(get, func(w http.ResponseWriter, r *http.Request) { s.download(w, r, r.PathValue("id")) })

	events := op("GET", "/api/v1/jobs/{id}/events", "watchJob", "Events of a job (SSE)",
		"An event \"status\" with the job as JSON, now and whenever it changes, to the end of the job.", RoleRead, 404, 406)
	events.Parameters = []*huma.Param{id}
	events.Responses["200"] = &huma.Response{
		Description: "Server-sent events; the data of each is a Status.",
		Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: text}},
	}
	add(events, s.watch)

	log := op("GET", "/api/v1/jobs/{id}/log", "getJobLog", "The log of a job, lines of JSON", "", RoleRead, 404)
	log.Parameters = []*huma.Param{id}
	log.Responses["200"] = &huma.Response{
		Description: "The log as far as it is.", Content: map[string]*huma.MediaType{"application/x-ndjson": {Schema: text}},
	}
	add(log, s.jobLog)

	files := op("GET", "/api/v1/batches/{id}/partials.zip", "downloadBatch", "All partials of a batch and their manifest.json in one archive",
		"All jobs have to be in a final state; those that are done are in it.", RoleRead, endings...)
	files.Parameters = []*huma.Param{{
		Name: "id", In: "path", Required: true, Description: "ID of a batch.", Schema: &huma.Schema{Type: "string"}, Example: id.Example,
	}}
	files.Responses["200"] = &huma.Response{Description: "The archive.", Content: map[string]*huma.MediaType{"application/zip": {Schema: binary}}}
	add(files, s.batchFiles)

	up := op("POST", "/api/v1/uploads", "upload", "Upload a complete update",
		"For a source without addresses. The body is the file itself. What Repr-Digest, Content-Digest or the query say of its hash is compared.", RoleSubmit, 408, 409, 507)
	for _, p := range []struct{ in, name, text string }{
		{"header", "Repr-Digest", "RFC 9530: sha-512 and sha-256 are compared."},
		{"header", "Content-Digest", "The same."},
		{"query", "sha512", "SHA-512 of the file, in hexadecimal."},
		{"query", "sha256", "SHA-256 of the file, in hexadecimal."},
	} {
		up.Parameters = append(up.Parameters, &huma.Param{Name: p.name, In: p.in, Description: p.text, Schema: &huma.Schema{Type: "string"}})
	}
	up.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/octet-stream": {Schema: binary}}}
	up.Responses["201"] = okResponse("It is kept; name it by its hash.", schemas.Schema(reflect.TypeFor[job.Upload](), true, "Upload"))
	add(up, s.receive)
}

// download answers with the bytes of a partial.
func (s *server) download(w http.ResponseWriter, r *http.Request, id string) {
	infoFrom(r.Context()).job = id
	if !isID(id) {
		writeProblem(w, r, noJob(chain.Cut(id, 80)))
		return
	}
	a, err := s.svc.Artifact(r.Context(), id)
	if err != nil {
		s.notThere(w, r, s.ended(r.Context(), id, err), "/jobs/"+id+"/again", "Make it again")
		return
	}
	if a.Closer != nil {
		defer a.Close()
	}
	s.send(w, r, a, octets)
}

// notThere answers a download that cannot be had. People get a page; if the bytes are gone it has a button that has them
// made again.
func (s *server) notThere(w http.ResponseWriter, r *http.Request, err error, action, button string) {
	p := problemOf(r.Context(), err)
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		writeProblem(w, r, p)
		return
	}
	d := problemData{Problem: p}
	if p.Code == job.CodeNotFound && p.Retryable && infoFrom(r.Context()).caller.may(RoleSubmit) {
		d.Action, d.Button = action, button
	}
	s.showProblem(w, r, d)
}

const octets = "application/octet-stream"

// send answers with an artifact of a kind of content, or where it is.
func (s *server) send(w http.ResponseWriter, r *http.Request, a *job.Artifact, kind string) {
	h := w.Header()
	h.Set("ETag", `"`+a.SHA256+`"`)
	h.Set("Cache-Control", "private, max-age=31536000, immutable")
	if len(s.anon.roles) > 0 {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	sum256, err1 := hex.DecodeString(a.SHA256)
	sum512, err2 := hex.DecodeString(a.SHA512)
	if err1 == nil && err2 == nil {
		b256, b512 := base64.StdEncoding.EncodeToString(sum256), base64.StdEncoding.EncodeToString(sum512)
		h.Set("Repr-Digest", "sha-256=:"+b256+":, sha-512=:"+b512+":")
		h.Set("Digest", "sha-256="+b256+",sha-512="+b512)
	}
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": a.Name}))
	h.Set("Content-Type", kind)
	if a.Location != "" && s.opts.Redirect && r.Method != http.MethodHead { // a presigned address is for GET alone
		if match := r.Header.Get("If-None-Match"); match != "" && etagMatch(match, h.Get("ETag")) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Cache-Control", "no-store") // the address will not work for long
		h.Del("Content-Type")
		http.Redirect(w, r, a.Location, http.StatusFound)
		return
	}
	http.ServeContent(&rangeWriter{ResponseWriter: w, r: r}, r, "", a.Made, io.NewSectionReader(a, 0, a.Size))
}

// rangeWriter makes a problem of what http.ServeContent says about a range that is not there, or a condition that does
// not hold.
type rangeWriter struct {
	http.ResponseWriter
	r       *http.Request
	swallow bool
}

func (w *rangeWriter) WriteHeader(status int) {
	var p *Problem
	switch status {
	case http.StatusRequestedRangeNotSatisfiable:
		p = problem(codeRange, "%.100q is not within the file", w.r.Header.Get("Range")).in("Range")
	case http.StatusPreconditionFailed:
		p = problem(codePrecondition, "the file is %s, made %s", w.Header().Get("ETag"), w.Header().Get("Last-Modified"))
	default:
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.swallow = true
	writeProblem(w.ResponseWriter, w.r, p)
}

func (w *rangeWriter) Write(p []byte) (int, error) {
	if w.swallow {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

// ReadFrom keeps the large buffers of the writer below.
func (w *rangeWriter) ReadFrom(r io.Reader) (int64, error) { return io.Copy(w.ResponseWriter, r) }

// etagMatch says whether If-None-Match has the tag.
func etagMatch(header, tag string) bool {
	for t := range strings.SplitSeq(header, ",") {
		if t = strings.TrimSpace(t); t == "*" || strings.TrimPrefix(t, "W/") == tag {
			return true
		}
	}
	return false
}

// jobLog answers with the log of a job as it is now.
func (s *server) jobLog(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	infoFrom(r.Context()).job = id
	if !isID(id) {
		writeProblem(w, r, noJob(id))
		return
	}
	log, err := s.svc.Log(r.Context(), id)
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	defer log.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = io.Copy(w, log) // the status is out; the client sees a short answer at most
}

// receive takes an upload.
func (s *server) receive(w http.ResponseWriter, r *http.Request) {
	if err := s.accepting(); err != nil {
		writeProblem(w, r, err)
		return
	}
	if kind, _, err := mime.ParseMediaType(cmp.Or(r.Header.Get("Content-Type"), "application/octet-stream")); err != nil || kind != "application/octet-stream" {
		writeProblem(w, r, problem(codeMediaType, "an upload is application/octet-stream, not %.100q", r.Header.Get("Content-Type")))
		return
	}
	if s.opts.MaxUpload > 0 && r.ContentLength > s.opts.MaxUpload {
		w.Header().Set("Connection", "close") // nobody will read it
		writeProblem(w, r, problem(job.CodeTooLarge, "the upload has %d bytes; at most %d are taken", r.ContentLength, s.opts.MaxUpload).in("body"))
		return
	}
	body, err := promises(r)
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	end, err := s.begin(r.Context())
	if err != nil {
		w.Header().Set("Connection", "close") // nobody will read it
		writeProblem(w, r, err)
		return
	}
	defer end()
	s.upload(r)
	body.r = r.Body
	u, err := s.svc.Upload(r.Context(), body, asker(r.Context()))
	if body.wrong != nil {
		err = body.wrong
	}
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	writeJSON(w, http.StatusCreated, u)
}
