package verify

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing/fstest"

	"github.com/senbonzakura/senbonzakura/internal/bomb"
	"github.com/senbonzakura/senbonzakura/internal/bzip2"
	"github.com/senbonzakura/senbonzakura/internal/xz"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial/updater"
	"github.com/senbonzakura/senbonzakura/toolchain"
)

// Limits of an installation that is unpacked.
const (
	maxTreeFiles = 200_000
	maxTreeFile  = 1 << 30
	maxTreeBytes = 8 << 30
)

// errSetup says that something which the work needs is not here, or not as it should be.
var errSetup = errors.New("trouble of this machine")

// digest is the SHA-256 of a file's content.
type digest [sha256.Size]byte

// treeFile is one file of an installation.
type treeFile struct {
	sum        digest
	size       int64
	executable bool
}

// tree is an installation: FROM as users have it, or TO as its installer gives it. It implements updater.Tree.
type tree struct {
	name   string
	files  map[string]treeFile
	dirs   map[string]bool
	open   func(ctx context.Context, name string) ([]byte, error)
	mar    *archive // where it is a complete update
	adding map[string]updater.Instruction
	build  func() (toolchain.Build, error) // what it shows of its updater
}

func (t *tree) add(name string, f treeFile) error {
	if !fs.ValidPath(name) || name == "." {
		return fmt.Errorf("%s: %q is no path inside a tree", t.name, short(name, 100))
	}
	if len(t.files) >= maxTreeFiles {
		return fmt.Errorf("%s: more than %d files", t.name, maxTreeFiles)
	}
	t.files[name] = f
	for dir := path.Dir(name); dir != "." && !t.dirs[dir]; dir = path.Dir(dir) {
		t.dirs[dir] = true
	}
	return nil
}

// Stat implements updater.Tree.
func (t *tree) Stat(p string) (updater.NodeKind, error) {
	p = path.Clean(p)
	if _, ok := t.files[p]; ok {
		return updater.NodeFile, nil
	}
	if p == "." || t.dirs[p] {
		return updater.NodeDir, nil
	}
	return updater.NodeNone, nil
}

// Below implements updater.Tree.
func (t *tree) Below(p string) ([]string, error) {
	front := path.Clean(p) + "/"
	if front == "./" {
		front = ""
	}
	var list []string
	for name := range t.files {
		if strings.HasPrefix(name, front) {
			list = append(list, name)
		}
	}
	for name := range t.dirs {
		if strings.HasPrefix(name, front) {
			list = append(list, name+"/")
		}
	}
	// Children come before their parents: what is behind in the alphabet first, as a directory is the front of what it holds.
	slices.SortFunc(list, func(a, b string) int { return strings.Compare(b, a) })
	return list, nil
}

// Read implements updater.Tree.
func (t *tree) Read(p string) ([]byte, error) {
	return t.open(context.Background(), path.Clean(p))
}

// treeOfMAR is the installation that a complete update makes.
func treeOfMAR(ctx context.Context, a *archive, known *contents) (*tree, error) {
	t := &tree{
		name: a.name, files: map[string]treeFile{}, dirs: map[string]bool{}, mar: a, adding: map[string]updater.Instruction{},
		build: func() (toolchain.Build, error) { return toolchain.ReadBuild(a.Reader) },
	}
	var text []byte
	newest := -1
	for _, f := range a.Files() {
		e := a.entries[f.Name]
		if updater.IsManifestName(f.Name) {
			if n := slices.Index(manifestNames, f.Name); n > newest {
				newest = n
				var err error
				if text, err = e.Content(ctx, updater.Limits{Member: updater.ManifestLimit}.WithDefaults()); err != nil {
					return nil, err
				}
			}
			continue
		}
		sum, size, err := known.of(ctx, e)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", f.Name, err)
		}
		if err := t.add(f.Name, treeFile{sum, size, e.Executable()}); err != nil {
			return nil, err
		}
	}
	if newest >= 0 {
		man, err := updater.ParseManifest(text)
		if err != nil {
			return nil, err
		}
		for _, ins := range man.Instructions {
			if ins.Op == updater.OpAddIf || ins.Op == updater.OpAddIfNot {
				t.adding[path.Clean(ins.Path)] = ins
			}
		}
	}
	t.open = func(ctx context.Context, name string) ([]byte, error) {
		e := a.entries[name]
		if e == nil || updater.IsManifestName(name) {
			return nil, fs.ErrNotExist
		}
		return e.Content(ctx, limits)
	}
	return t, nil
}

// manifestNames are the names of manifests, oldest first.
var manifestNames = []string{updater.ManifestV1.Name(), updater.ManifestV2.Name(), updater.ManifestV3.Name()}

// store keeps the files of unpacked installers by their digest, each once.
type store struct{ dir string }

func (s store) name(sum digest) string {
	return filepath.Join(s.dir, fmt.Sprintf("%x", sum[:1]), fmt.Sprintf("%x", sum))
}

// put keeps what r holds.
func (s store) put(r io.Reader) (digest, int64, error) {
	setup := func(err error) error { return fmt.Errorf("%w: %w", errSetup, err) }
	tmp, err := os.CreateTemp(s.dir, "part-*")
	if err != nil {
		return digest{}, 0, setup(err)
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	h := sha256.New()
	size, err := copyAll(io.MultiWriter(tmp, h), io.LimitReader(r, maxTreeFile+1))
	if localTrouble(err) {
		return digest{}, 0, setup(err)
	}
	if err != nil {
		return digest{}, 0, err
	}
	if size > maxTreeFile {
		return digest{}, 0, fmt.Errorf("a file has more than %d bytes", maxTreeFile)
	}
	if err := tmp.Close(); err != nil {
		return digest{}, 0, setup(err)
	}
	var sum digest
	h.Sum(sum[:0])
	name := s.name(sum)
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.Rename(tmp.Name(), name)); err != nil {
		return digest{}, 0, setup(err)
	}
	return sum, size, nil
}

func (s store) get(sum digest) ([]byte, error) {
	data, err := os.ReadFile(s.name(sum))
	if err == nil && sha256.Sum256(data) != [sha256.Size]byte(sum) {
		err = errors.New("a file of the work directory was changed")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSetup, err)
	}
	return data, nil
}

// treeOf opens an installer or a complete update that is a file, which the work directory has as kept, or has not.
func (r *runner) treeOf(ctx context.Context, file, kept, name string) (*tree, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 64<<10)
	head, err := in.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var unpacked io.ReadCloser
	limits := &xz.Limits{Output: maxTreeBytes, Ratio: -1}
	switch {
	case bytes.HasPrefix(head, []byte("MAR1")):
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		a, err := newArchive(name, &wholeFile{lazyFile{file, &r.keeper.open}, info.Size(), kept})
		if err != nil {
			return nil, err
		}
		return treeOfMAR(ctx, a, r.prover.known)
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		zr, err := gzip.NewReader(in)
		if err != nil {
			return nil, err
		}
		unpacked = zr
	case bytes.HasPrefix(head, []byte("BZh")):
		unpacked = bzip2.NewReader(in, bomb.Limits{Output: maxTreeBytes, Ratio: -1})
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		if unpacked, err = xz.NewReader(in, limits); err != nil {
			return nil, err
		}
	case bytes.HasPrefix(head, []byte("MZ")), bytes.HasPrefix(head, []byte("7z\xbc\xaf\x27\x1c")), strings.HasSuffix(name, ".dmg"), strings.HasSuffix(name, ".exe"):
		return treeBy7z(ctx, file, name, r.store)
	default:
		return nil, fmt.Errorf("%s is no complete update and no installer of a kind that is known", name)
	}
	defer unpacked.Close()
	return treeOfTar(ctx, unpacked, name, r.store)
}

// newTree begins a tree whose files are in the store.
func newTree(name string, s store) *tree {
	t := &tree{name: name, files: map[string]treeFile{}, dirs: map[string]bool{}, adding: map[string]updater.Instruction{}}
	t.open = func(_ context.Context, p string) ([]byte, error) {
		f, ok := t.files[p]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return s.get(f.sum)
	}
	t.build = func() (toolchain.Build, error) {
		small, err := t.small()
		if err != nil {
			return toolchain.Build{}, err
		}
		return toolchain.ReadTree(small)
	}
	return t
}

// small is the tree with what is looked at to know a client: whole small files, and the front of others.
func (t *tree) small() (fs.FS, error) {
	m := fstest.MapFS{}
	for name, f := range t.files {
		mode := fs.FileMode(0o644)
		if f.executable {
			mode = 0o755
		}
		file := &fstest.MapFile{Mode: mode}
		if f.size <= 64<<10 || updater.SettingsName(name) || strings.HasSuffix(name, ".ini") {
			data, err := t.open(context.Background(), name)
			if err != nil {
				return nil, err
			}
			file.Data = data
		}
		m[name] = file
	}
	return m, nil
}

// treeOfTar unpacks an archive whose only entry at the top is the installation's directory.
func treeOfTar(ctx context.Context, r io.Reader, name string, s store) (*tree, error) {
	t := newTree(name, s)
	in := tar.NewReader(r)
	var total int64
	for entries := 0; ; entries++ {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if entries > 2*maxTreeFiles {
			return nil, fmt.Errorf("%s: more than %d entries", name, 2*maxTreeFiles)
		}
		p := path.Clean(strings.TrimPrefix(h.Name, "./"))
		_, inside, ok := strings.Cut(p, "/")
		var content io.Reader
		switch h.Typeflag {
		case tar.TypeReg:
			if total += h.Size; h.Size > maxTreeFile || total > maxTreeBytes {
				return nil, fmt.Errorf("%s: too large", name)
			}
			content = in
		case tar.TypeSymlink:
			content = strings.NewReader("symbolic link to " + h.Linkname)
		case tar.TypeLink:
			return nil, fmt.Errorf("%s: %q is a hard link", name, short(h.Name, 100))
		default:
			continue
		}
		if !ok {
			return nil, fmt.Errorf("%s: %q is not in the installation's directory", name, short(h.Name, 100))
		}
		sum, size, err := s.put(content)
		if err != nil {
			return nil, err
		}
		if err := t.add(inside, treeFile{sum, size, mar.Executable(h.FileInfo().Mode())}); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// treeBy7z unpacks what only 7-Zip can: installers for Windows and disk images.
func treeBy7z(ctx context.Context, file, name string, s store) (*tree, error) {
	var program string
	for _, candidate := range []string{"7zz", "7z", "7za"} {
		if found, err := exec.LookPath(candidate); err == nil {
			program = found
			break
		}
	}
	if program == "" {
		return nil, fmt.Errorf("%w: %s can only be unpacked with 7-Zip (7zz, 7z or 7za), which is not installed", errSetup, name)
	}
	dir, err := os.MkdirTemp(s.dir, "unpack-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	whole, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, "x", "-y", "-bd", "-o"+dir, whole)
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s cannot be unpacked: %w: %s", name, err, short(strings.TrimSpace(string(said)), 500))
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	top, err := installationIn(root.FS())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	t := newTree(name, s)
	var total int64
	err = eachFile(root, top, func(inside string, info fs.FileInfo, content io.Reader) error {
		if total += info.Size(); total > maxTreeBytes {
			return fmt.Errorf("%s: too large", name)
		}
		sum, size, err := s.put(content)
		if err != nil {
			return err
		}
		return t.add(inside, treeFile{sum, size, mar.Executable(info.Mode())})
	})
	return t, err
}

// eachFile hands over every regular file below a directory, with its path from there.
func eachFile(root *os.Root, top string, take func(inside string, info fs.FileInfo, content io.Reader) error) error {
	return fs.WalkDir(root.FS(), top, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		f, err := root.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		return take(strings.TrimPrefix(p, top+"/"), info, f)
	})
}

// installationIn finds the installation in what an installer was unpacked to: "core" or "bin" of Windows, the only
// application of a disk image, or the only directory.
func installationIn(dir fs.FS) (string, error) {
	for _, name := range []string{"core", "bin"} {
		if info, err := fs.Stat(dir, name); err == nil && info.IsDir() {
			return name, nil
		}
	}
	var apps, dirs []string
	top, err := fs.ReadDir(dir, ".")
	if err != nil {
		return "", err
	}
	for _, d := range top {
		if !d.IsDir() || strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "[") {
			continue
		}
		dirs = append(dirs, d.Name())
		if strings.HasSuffix(d.Name(), ".app") {
			apps = append(apps, d.Name())
			continue
		}
		below, err := fs.ReadDir(dir, d.Name())
		if err != nil {
			return "", err
		}
		for _, e := range below {
			if e.IsDir() && strings.HasSuffix(e.Name(), ".app") {
				apps = append(apps, d.Name()+"/"+e.Name())
			}
		}
	}
	switch {
	case len(apps) == 1:
		return apps[0], nil
	case len(apps) == 0 && len(dirs) == 1:
		return dirs[0], nil
	case len(apps) == 0 && len(dirs) == 0:
		return ".", nil
	}
	return "", errors.New("what is unpacked holds no installation, or several")
}
