package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/balrogapi"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
)

type balrogCaller struct{}

// WithBalrogCaller returns a context for a request of Balrog's API that somebody makes who needs no token; nil is nobody.
func WithBalrogCaller(ctx context.Context, c *balrogapi.Caller) context.Context {
	return context.WithValue(ctx, balrogCaller{}, c)
}

// Balrog is Balrog's API of the server.
func (s *Server) Balrog() *balrogapi.API { return s.balrog }

func (s *Server) balrogAPI() *balrogapi.API {
	return balrogapi.New(balrogapi.Options{
		Core: s, Book: s.book, Open: s.opts.OpenBalrog, Log: s.log,
		Who: func(r *http.Request) *balrogapi.Caller {
			if c, ok := r.Context().Value(balrogCaller{}).(*balrogapi.Caller); ok {
				return c
			}
			if c := s.who(r); c != nil {
				return c.balrog()
			}
			return nil
		},
		Token: func(name, secret string) bool {
			sum := sha256.Sum256([]byte(secret))
			given := hex.EncodeToString(sum[:])
			found := 0
			for _, t := range s.opts.Tokens {
				found |= subtle.ConstantTimeCompare([]byte(given), []byte(strings.ToLower(t.SHA256))) & subtle.ConstantTimeCompare([]byte(name), []byte(t.Name))
			}
			return found == 1
		},
	})
}

// ownBalrog is Balrog's API, which a replica only reads by.
func (s *Server) ownBalrog() http.Handler {
	if s.opts.Replica == nil {
		return s.balrog
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			s.balrog.ServeHTTP(w, r)
			return
		}
		http.Error(w, "this server is a replica: ask "+s.opts.Replica.URL.String(), http.StatusConflict)
	})
}

var pathParameter = regexp.MustCompile(`\{([a-z]+)\}`)

// describeBalrog adds Balrog's API to a description.
func (s *Server) describeBalrog(o *huma.OpenAPI) {
	text := &huma.Schema{Type: huma.TypeString}
	answer := func(description string) *huma.Response {
		return &huma.Response{Description: description, Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{}}}}
	}
	body := func(media ...string) *huma.RequestBody {
		b := &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{}}
		for _, m := range media {
			b.Content[m] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}}
		}
		return b
	}
	o.AddOperation(&huma.Operation{
		Method: http.MethodPost, Path: "/oauth/token", OperationID: "balrogAccessToken", Summary: "A token for its name and secret", Tags: []string{"balrog"},
		RequestBody: body("application/json", "application/x-www-form-urlencoded"), Responses: map[string]*huma.Response{"200": answer("The token"), "default": answer("OAuth's error")},
	})
	for _, r := range s.balrog.Routes() {
		r.Path = strings.Replace(r.Path, "{revisions}", "revisions", 1)
		op := &huma.Operation{
			Method: r.Method, Path: balrogapi.Prefix + r.Path, OperationID: r.ID, Summary: r.Summary, Tags: []string{"balrog"},
			Description: "As in Mozilla's Balrog.", Security: []map[string][]string{{"bearer": {}}, {}},
			Responses: map[string]*huma.Response{"200": answer("As in Balrog"), "default": {
				Description: "A problem, as in Balrog", Content: map[string]*huma.MediaType{"application/problem+json": {Schema: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}}},
			}},
		}
		for _, m := range pathParameter.FindAllStringSubmatch(r.Path, -1) {
			op.Parameters = append(op.Parameters, &huma.Param{Name: m[1], In: "path", Required: true, Schema: text})
		}
		for _, name := range r.Query {
			op.Parameters = append(op.Parameters, &huma.Param{Name: name, In: "query", Schema: text})
		}
		if r.Body {
			op.RequestBody = body("application/json")
		}
		o.AddOperation(op)
	}
}

// Seed publishes operations of a server that is new, which nobody has to agree to: where something was published before, that is an error.
func (s *Server) Seed(ctx context.Context, comment string, operations []state.Operation) error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	if head := s.current.Load().head; head.Seq != 0 {
		return fmt.Errorf("%w: snapshot %d is published already", ErrInput, head.Seq)
	}
	_, err := s.commit(ctx, publication{author: ownAuthor, comment: comment, operations: operations, own: true})
	return err
}
