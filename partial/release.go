package partial

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/senbonzakura/senbonzakura/partial/updater"

	"github.com/senbonzakura/senbonzakura/internal/version"
	"github.com/senbonzakura/senbonzakura/mar"
)

// normalMode is the mode that packaging gives to a file.
func normalMode(executable bool) fs.FileMode {
	if executable {
		return 0o755
	}
	return 0o644
}

// sumOf returns the SHA-256 of the compressed bytes.
func sumOf(m *updater.Member) (memberName, error) {
	var out memberName
	h := sha256.New()
	n, err := io.Copy(h, m.Section())
	if err == nil && n < m.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return out, fmt.Errorf("read %q: %w", m.Name, err)
	}
	h.Sum(out[:0])
	return out, nil
}

// readAll reads exactly len(p) bytes of a member's.
func readAll(in io.ReaderAt, p []byte, off int64, name string) error {
	n, err := in.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %q: %w", name, err)
}

// sameBytes reports whether two members are stored as the same bytes.
func sameBytes(ctx context.Context, a, b *updater.Member) (bool, error) {
	if a.Size != b.Size {
		return false, nil
	}
	const chunk = 64 << 10
	n := min(a.Size, chunk)
	bufA, bufB := make([]byte, n), make([]byte, n)
	ra, rb := a.Section(), b.Section()
	for off := int64(0); off < a.Size; off += chunk {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n := min(a.Size-off, chunk)
		if _, err := io.ReadFull(ra, bufA[:n]); err != nil {
			return false, fmt.Errorf("read %q: %w", a.Name, err)
		}
		if _, err := io.ReadFull(rb, bufB[:n]); err != nil {
			return false, fmt.Errorf("read %q: %w", b.Name, err)
		}
		if !bytes.Equal(bufA[:n], bufB[:n]) {
			return false, nil
		}
	}
	return true, nil
}

// A release is a complete update seen as a tree.
type release struct {
	what  string // "FROM" or "TO", for messages
	mar   *mar.Reader
	files map[string]*updater.Member
	names []string // keys of files, sorted in reverse
	lim   updater.Limits
	// manifest is what the newest one says
	manifest completeManifest
	// left out of the tree: files named like manifests in a directory
	excluded []string
	// empty are directories without files, of a tree that the update was packed of
	empty []string
}

// openRelease reads the list of files of a complete update. scripts leaves out what the packaging scripts do.
func openRelease(what string, r *mar.Reader, lim updater.Limits, scripts bool) (*release, error) {
	rel := &release{what: what, mar: r, files: make(map[string]*updater.Member), lim: lim}
	for _, f := range r.Files() {
		switch {
		case rel.files[f.Name] != nil:
			return nil, &InputError{what, fmt.Errorf("two entries are named %q", f.Name)}
		case updater.IsManifestName(f.Name) && f.Name == baseName(f.Name):
			continue
		case updater.IsManifestName(f.Name) && scripts:
			rel.excluded = append(rel.excluded, f.Name)
			continue
		}
		rel.files[f.Name] = updater.MemberOf(f)
		rel.names = append(rel.names, f.Name)
	}
	reverse(rel.names)
	reverse(rel.excluded)
	for v := updater.ManifestV3; v >= updater.ManifestV1; v-- {
		f := r.Lookup(v.Name())
		if f == nil {
			continue
		}
		text, err := rel.text(updater.MemberOf(f))
		if err != nil {
			return nil, &InputError{what, err}
		}
		var isPartial bool
		if rel.manifest, isPartial = readManifest(f.Name, text); isPartial {
			return nil, &InputError{what, fmt.Errorf("it is not a complete update: its %s says partial", f.Name)}
		}
		break
	}
	return rel, nil
}

func baseName(name string) string {
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '/' {
			return name[i+1:]
		}
	}
	return name
}

// text decompresses a small file: a manifest, a list.
func (r *release) text(m *updater.Member) ([]byte, error) {
	return m.Content(context.Background(), updater.Limits{Member: min(r.lim.Member, updater.ManifestLimit), Ratio: r.lim.Ratio})
}

// first returns the content of the first file that exists, or nil where none does.
func (r *release) first(names ...string) ([]byte, error) {
	for _, n := range names {
		if m := r.files[n]; m != nil {
			text, err := r.text(m)
			if err != nil {
				return nil, &InputError{r.what, err}
			}
			return text, nil
		}
	}
	return nil, nil
}

// identity reads what a release calls itself.
func (r *release) identity() (ReleaseInfo, error) {
	info := ReleaseInfo{Size: r.mar.Size(), Files: len(r.files)}
	text, err := r.first("application.ini", "Contents/Resources/application.ini")
	if err != nil {
		return info, err
	}
	app := version.ParseIni(text)["App"]
	info.Name, info.Version, info.BuildID = app["Name"], app["Version"], app["BuildID"]
	if p, ok := r.mar.Product(); ok {
		info.Channel = p.Channel
		if info.Version == "" {
			info.Version = p.Version
		}
	}
	return info, nil
}

// A memoryTree is the tree of a complete update.
type memoryTree struct {
	files map[string]*updater.Member
	dirs  map[string]bool
	text  func(m *updater.Member) ([]byte, error)
}

func newMemoryTree(files map[string]*updater.Member, text func(m *updater.Member) ([]byte, error)) *memoryTree {
	t := &memoryTree{files: files, dirs: map[string]bool{".": true}, text: text}
	for name := range files {
		for d := path.Dir(name); d != "." && d != "/"; d = path.Dir(d) {
			t.dirs[d] = true
		}
	}
	return t
}

func (t *memoryTree) Stat(p string) (updater.NodeKind, error) {
	switch {
	case t.files[p] != nil:
		return updater.NodeFile, nil
	case t.dirs[p]:
		return updater.NodeDir, nil
	}
	return updater.NodeNone, nil
}

func (t *memoryTree) Below(p string) ([]string, error) {
	under := func(n string) bool { return p == "." || strings.HasPrefix(n, p+"/") }
	var names []string
	for n := range t.files {
		if under(n) {
			names = append(names, n)
		}
	}
	reverse(names)
	var dirs []string
	for d := range t.dirs {
		if d != "." && under(d) {
			dirs = append(dirs, d+"/")
		}
	}
	reverse(dirs)
	return append(names, dirs...), nil
}

func (t *memoryTree) Read(p string) ([]byte, error) { return t.text(t.files[p]) }
