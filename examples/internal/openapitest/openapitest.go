// Package openapitest compares OpenAPI documents with their specification, and what a service answers with its document.
package openapitest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/errors"
)

// Valid reports every rule of its version of OpenAPI that a document breaks.
func Valid(tb testing.TB, document []byte) {
	tb.Helper()
	if v := open(tb, document); v != nil {
		_, problems := v.ValidateDocument()
		for _, p := range problems {
			tb.Errorf("the document is none: %s", explain(p))
		}
	}
}

// A Document is one that answers are compared with. It is not safe for concurrent use.
type Document struct{ v validator.Validator }

// New reads a document.
func New(tb testing.TB, document []byte) *Document {
	tb.Helper()
	return &Document{open(tb, document)}
}

// Answer reports where a request or what it was answered, whose bodies were read already, is not as the document says. A request
// that was refused may be anything.
func (d *Document) Answer(tb testing.TB, res *http.Response, sent, body []byte) {
	tb.Helper()
	req := res.Request.Clone(tb.Context())
	req.Body = io.NopCloser(bytes.NewReader(sent))
	got := *res
	got.Body = io.NopCloser(bytes.NewReader(body))
	var problems []*errors.ValidationError
	if res.StatusCode < 400 {
		_, problems = d.v.ValidateHttpRequestSync(req)
		req.Body = io.NopCloser(bytes.NewReader(sent))
	}
	_, more := d.v.ValidateHttpResponse(req, &got)
	for _, p := range append(problems, more...) {
		tb.Errorf("%s %s, answered with %s: %s\n%.500s", req.Method, req.URL, res.Status, explain(p), body)
	}
}

func open(tb testing.TB, document []byte) validator.Validator {
	tb.Helper()
	doc, err := libopenapi.NewDocument(document)
	if err != nil {
		tb.Fatal(err)
	}
	v, errs := validator.NewValidator(doc)
	for _, err := range errs {
		tb.Fatal(err)
	}
	return v
}

func explain(p *errors.ValidationError) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", p.Message, p.Reason)
	for _, s := range p.SchemaValidationErrors {
		fmt.Fprintf(&b, "; %s: %s", s.FieldPath, s.Reason)
	}
	return b.String()
}
