package server

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/inspect"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
	"github.com/senbonzakura/senbonzakura/internal/atomicfile"
	"github.com/senbonzakura/senbonzakura/mar"
)

// ErrFile says that a file is not one that the server serves: no MAR file, too large, or of another name.
var ErrFile = errors.New("server: not a file that is served")

// fileName is the name of a file on disk.
func fileName(sha512 string) string { return strings.ToLower(sha512) + ".mar" }

func (s *Server) filePath(name string) string { return filepath.Join(s.opts.Dir, "files", name) }

// fileURL is where clients get a file.
func (s *Server) fileURL(f book.File) string {
	return s.opts.URL.JoinPath("files", f.SHA512[:32], f.Name).String()
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+@-]{0,199}$`)

// keep stores a MAR file under its hash, which must begin with begin, and notes it. The file is there, whole and synced, when
// this returns.
func (s *Server) keep(ctx context.Context, name, begin string, r io.Reader, build json.RawMessage) (book.File, error) {
	if !plainName.MatchString(name) {
		return book.File{}, fmt.Errorf("%w: %q is no plain file name", ErrFile, name)
	}
	temporary := s.filePath("upload-" + strconv.FormatInt(time.Now().UnixNano(), 36))
	defer os.Remove(temporary)
	h := sha512.New()
	var n int64
	err := atomicfile.Write(ctx, temporary, 0o600, func(w io.Writer) (err error) {
		n, err = io.Copy(io.MultiWriter(w, h), io.LimitReader(r, mar.MaxFileSize+1))
		return err
	})
	if err != nil {
		return book.File{}, err
	}
	if n > mar.MaxFileSize {
		return book.File{}, fmt.Errorf("%w: larger than %d bytes, which no updater takes", ErrFile, mar.MaxFileSize)
	}
	check, err := mar.OpenFile(temporary, nil)
	if err != nil {
		return book.File{}, fmt.Errorf("%w: %w", ErrFile, err)
	}
	check.Close()
	f := book.File{SHA512: hex.EncodeToString(h.Sum(nil)), Name: name, Size: n, Added: s.now(), Build: build}
	if !strings.HasPrefix(f.SHA512, begin) {
		return book.File{}, fmt.Errorf("%w: its hash is %s, want %s…", ErrFile, f.SHA512, begin)
	}
	if err := os.Rename(temporary, s.filePath(fileName(f.SHA512))); err != nil {
		return book.File{}, err
	}
	if err := s.book.AddFile(ctx, f); err != nil {
		return book.File{}, err
	}
	return s.book.File(ctx, f.SHA512)
}

// Upload stores a complete update and says what it is.
func (s *Server) Upload(ctx context.Context, name string, r io.Reader) (book.File, inspect.Build, error) {
	if s.opts.Replica != nil {
		return book.File{}, inspect.Build{}, ErrReplica
	}
	f, err := s.keep(ctx, name, "", r, nil)
	if err != nil {
		return f, inspect.Build{}, err
	}
	b, err := s.inspectFile(fileName(f.SHA512))
	return f, b, err
}

// Addition says what an added complete update is offered as. Empty fields are what the file tells.
type Addition struct {
	SHA512  string   `json:"sha512"`
	Product string   `json:"product,omitempty"`
	Channel string   `json:"channel,omitempty"`
	Target  string   `json:"target,omitempty"`
	Aliases []string `json:"aliases,omitempty"`
	Locale  string   `json:"locale,omitempty"`
	// NoRule leaves the rules as they are: the release is there, but nothing leads to it.
	NoRule bool `json:"no_rule,omitempty"`

	allowed func(product string) error // an error where the caller may not offer a product; nil allows all
}

// Added is what adding came to.
type Added struct {
	Release  string        `json:"release"`
	Build    inspect.Build `json:"build"`
	URL      string        `json:"url"`
	Rule     int64         `json:"rule,omitempty"` // that leads to the release
	Draft    int64         `json:"draft,omitempty" doc:"that waits until people have agreed; nothing is published before"`
	Snapshot book.Snapshot `json:"snapshot"`
}

// Add makes a release of a complete update that was uploaded, or adds its platform and locale to the release that is
// there, and lets the rule of its product and channel lead to it, if it is newer than where the rule leads now.
// Where people must agree it becomes a draft.
func (s *Server) Add(ctx context.Context, author string, a Addition) (Added, error) {
	f, err := s.book.File(ctx, strings.ToLower(a.SHA512))
	if err != nil {
		return Added{}, err
	}
	b, err := s.inspectFile(fileName(f.SHA512))
	if err != nil {
		return Added{}, fmt.Errorf("%w: %w", ErrFile, err)
	}
	if b.Partial {
		return Added{}, fmt.Errorf("%w: this is a partial update", ErrFile)
	}
	for _, o := range []struct {
		field *string
		with  string
	}{{&b.Product, a.Product}, {&b.Channel, a.Channel}, {&b.Target, a.Target}, {&b.Locale, a.Locale}} {
		if o.with != "" {
			*o.field = o.with
		}
	}
	if a.Target != "" {
		b.Aliases = a.Aliases
	}
	if a.allowed != nil {
		if err := a.allowed(b.Product); err != nil {
			return Added{}, err
		}
	}
	for {
		added := Added{Release: b.Product + "-" + b.Version + "-" + b.BuildID, Build: b, URL: s.fileURL(f)}
		now := s.current.Load()
		operations, err := releaseOperations(now.state, &added, f)
		if err != nil {
			return Added{}, err
		}
		if !a.NoRule {
			rule, err := ruleOperation(now.state, &added)
			if err != nil {
				return Added{}, err
			}
			operations = append(operations, rule...)
		}
		comment := fmt.Sprintf("add %s for %s, %s", added.Release, b.Target, b.Locale)
		added.Snapshot, err = s.Publish(ctx, author, comment, operations)
		switch {
		case errors.Is(err, state.ErrConflict):
			continue // somebody else published meanwhile
		case errors.Is(err, ErrNothing):
			added.Snapshot = now.head
			return added, nil
		case errors.Is(err, state.ErrSignOff):
			d, err := s.Draft(ctx, author, comment, operations, time.Time{})
			added.Draft, added.Snapshot = d.ID, now.head
			return added, err
		}
		return added, err
	}
}

// releaseOperations puts a build into its release.
func releaseOperations(st *state.State, a *Added, f book.File) ([]state.Operation, error) {
	ref := state.Ref{Kind: state.Release, Key: a.Release}
	before := ""
	document := map[string]any{
		"name": a.Release, "product": a.Build.Product, "schema_version": 9, "hashFunction": "sha512", "appVersion": a.Build.Version, "displayVersion": a.Build.Version,
	}
	if o := st.Get(ref); o != nil {
		before = o.Hash
		if err := json.Unmarshal([]byte(o.Release().Document()), &document); err != nil {
			return nil, err
		}
	}
	child := func(m map[string]any, key string) map[string]any {
		c, ok := m[key].(map[string]any)
		if !ok {
			c = map[string]any{}
			m[key] = c
		}
		return c
	}
	platforms := child(document, "platforms")
	locales := child(child(platforms, a.Build.Target), "locales")
	locale := child(locales, a.Build.Locale)
	locale["buildID"] = a.Build.BuildID
	locale["completes"] = []any{map[string]any{"from": "*", "filesize": f.Size, "hashValue": f.SHA512, "fileUrl": a.URL}}
	for _, alias := range a.Build.Aliases {
		if platforms[alias] == nil {
			platforms[alias] = map[string]any{"alias": a.Build.Target}
		}
	}
	blob, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	was := st.Get(ref)
	body, err := json.Marshal(state.ReleaseBody{Blob: blob, Product: a.Build.Product, ReadOnly: was != nil && was.Release().ReadOnly()})
	if err != nil {
		return nil, err
	}
	if body, err = withVersion(body, state.Release, was); err != nil {
		return nil, err
	}
	if was != nil {
		if same, err := state.NewObject(ref, body); err == nil && same.Hash == was.Hash {
			return nil, nil // it is there already
		}
	}
	return []state.Operation{{Ref: ref, Before: before, Body: body}}, nil
}

// ruleOperation lets the rule of a product and channel lead to a release: the one whose columns are those two alone.
func ruleOperation(st *state.State, a *Added) ([]state.Operation, error) {
	for _, o := range st.List(state.Rule) {
		r := *o.Rule()
		if !plainRule(&r, a.Build.Product, a.Build.Channel) {
			continue
		}
		a.Rule = r.ID
		if r.Mapping != nil {
			if *r.Mapping == a.Release {
				return nil, nil
			}
			if old := st.Get(state.Ref{Kind: state.Release, Key: *r.Mapping}); old != nil && !newer(a, old.Release()) {
				a.Rule = 0
				return nil, nil
			}
		}
		r.Mapping = &a.Release
		r.DataVersion++
		body, err := json.Marshal(r)
		return []state.Operation{{Ref: o.Ref, Before: o.Hash, Body: body}}, err
	}
	hundred, minor := int64(100), "minor"
	r := aus.Rule{
		ID: st.NextNumber(state.Rule), Priority: &hundred, BackgroundRate: &hundred, UpdateType: &minor,
		Product: &a.Build.Product, Channel: &a.Build.Channel, Mapping: &a.Release, DataVersion: 1,
	}
	a.Rule = r.ID
	body, err := json.Marshal(r)
	return []state.Operation{{Ref: state.Ref{Kind: state.Rule, Key: strconv.FormatInt(r.ID, 10)}, Body: body}}, err
}

func plainRule(r *aus.Rule, product, channel string) bool {
	return r.Product != nil && *r.Product == product && r.Channel != nil && *r.Channel == channel && r.Version == nil && r.BuildTarget == nil &&
		r.BuildID == nil && r.Locale == nil && r.OSVersion == nil && r.Memory == nil && r.InstructionSet == nil && r.JAWS == nil && r.Mig64 == nil &&
		r.Distribution == nil && r.DistVersion == nil && r.HeaderArchitecture == nil
}

// newer says whether what is added is a later build than a release.
func newer(a *Added, old *aus.Release) bool {
	builds := old.Builds()
	if len(builds) == 0 {
		return true
	}
	if c := aus.CompareVersions(a.Build.Version, builds[0].Version); c != 0 {
		return c > 0
	}
	return a.Build.BuildID > builds[0].BuildID
}

// serveFile serves /files/BEGIN-OF-HASH/NAME, with ranges; what is there never changes.
func (s *Server) serveFile(w http.ResponseWriter, r *http.Request) {
	begin, name := r.PathValue("hash"), r.PathValue("name")
	if len(begin) != 32 || strings.Trim(begin, "0123456789abcdef") != "" || r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.NotFound(w, r)
		return
	}
	sum, err := s.book.FileBegin(r.Context(), begin, name)
	if s.opts.Replica != nil && errors.Is(err, book.ErrNotFound) && plainName.MatchString(name) {
		if sum, err = s.fetchFile(r.Context(), begin, name); errors.Is(err, errBusy) {
			w.Header().Set("Retry-After", "5")
		}
	}
	if err != nil {
		if !errors.Is(err, book.ErrNotFound) {
			s.log.Error("look for a file", "error", err)
			http.Error(w, "the file cannot be read at the moment", http.StatusServiceUnavailable)
			return
		}
		http.NotFound(w, r)
		return
	}
	f, err := s.files.Open(fileName(sum))
	if err != nil {
		s.log.Error("open a file", "sha512", sum, "error", err)
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("ETag", `"`+sum[:64]+`"`)
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Time{}, f)
}
