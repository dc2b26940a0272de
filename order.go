package senbonzakura

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/internal/stream"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/toolchain"
)

// An Order is a request that was looked at: it can be used, and what it asks for has a name. It holds nothing open and
// may be made any number of times, also by several goroutines. It belongs to the generator that it comes from.
type Order struct {
	request Request
	key     cache.Key
	local   [2]*local // FROM and TO, where they are opened in place
}

// Key names the update that is asked for: equal requests have equal keys.
func (o *Order) Key() cache.Key { return o.key }

// Order looks at a request, without making anything. The error is a [*RequestError]; sources that are files have no name
// before they are read, and are for [Generator.Generate] and [Generator.GenerateTo].
func (g *Generator) Order(r Request) (*Order, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	if r.AllowFindings {
		return nil, &RequestError{"AllowFindings", "what clients may fail on is not stored: see GenerateTo"}
	}
	for field, s := range map[string]*Source{"From": &r.From, "To": &r.To} {
		if s.identity() == "" {
			return nil, &RequestError{field + ".Hashes", "a file without hash has no name yet"}
		}
	}
	return g.order(r, [2]*local{}), nil
}

// order names what a request asks for. opened are the sources that were opened in place.
func (g *Generator) order(r Request, opened [2]*local) *Order {
	selection := g.opts.Toolchain.ID()
	if r.Recipe != nil { // the rules still decide about the client and about watersheds
		selection += " recipe " + r.with(*r.Recipe).ID()
	}
	names := [2]string{r.From.identity(), r.To.identity()}
	for i, l := range opened { // which a complete update does not hold, and some recipes look at
		if empty := l.empty(); len(empty) > 0 {
			names[i] += "\x00empty\x00" + strings.Join(empty, "\x00")
		}
	}
	return &Order{request: r, key: r.key(names[0], names[1], selection, &g.opts)}
}

// prepare looks at a request whose sources may be files and directories. release closes them.
func (g *Generator) prepare(ctx context.Context, r Request) (o *Order, release func(), err error) {
	if err := r.check(); err != nil {
		return nil, nil, err
	}
	var opened [2]*local
	release = func() {
		for _, l := range opened {
			if l != nil {
				l.close()
			}
		}
	}
	for i, s := range []*Source{&r.From, &r.To} {
		if s.File == "" {
			continue
		}
		if info, err := os.Stat(s.File); err == nil && !info.IsDir() && g.opts.Cache != nil && s.identity() != "" {
			continue // it goes into the cache, which compares it
		}
		l, err := g.openLocal(ctx, s, i == 0, &r)
		if err == nil {
			opened[i] = l
			if l.sum == nil {
				err = l.verify(ctx, s)
			}
		}
		if err != nil {
			release()
			return nil, nil, &InputError{Input: []string{"FROM", "TO"}[i], Err: err}
		}
		if !slices.ContainsFunc(s.Hashes, func(h fetch.Hash) bool { return h.Algorithm == fetch.SHA512 }) {
			s.Hashes = append(slices.Clone(s.Hashes), fetch.Hash{Algorithm: fetch.SHA512, Sum: l.sum})
		}
	}
	o = g.order(r, opened)
	for i, l := range opened {
		if l != nil && (g.opts.Cache == nil || l.build != nil) {
			o.local[i] = l
		}
	}
	return o, release, nil
}

// A local is a complete update on this machine that is read where it is.
type local struct {
	name   string
	file   *os.File
	info   os.FileInfo
	sum    []byte // SHA-512
	build  *toolchain.Build
	report *partial.Report // of packing a directory
	remove bool
}

// openLocal opens a file in place, or packs a directory into a temporary file. from says that it is FROM, whose members do
// not go into the update: it is packed fast.
func (g *Generator) openLocal(ctx context.Context, s *Source, from bool, r *Request) (*local, error) {
	f, err := os.Open(s.File)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		f.Close()
		return g.packLocal(ctx, s, from, r)
	}
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file and no directory", s.File)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &local{name: s.File, file: f, info: info}, nil
}

// packLocal makes a complete update of a directory.
func (g *Generator) packLocal(ctx context.Context, s *Source, from bool, r *Request) (*local, error) {
	if len(s.Hashes) > 0 || s.Size > 0 {
		return nil, errors.New("a directory has no hash and no size to compare")
	}
	root, err := os.OpenRoot(s.File)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	build, err := toolchain.ReadTree(root.FS())
	if err != nil {
		return nil, err
	}
	level := partial.Level6
	if from {
		level = partial.LevelFast
	}
	arch := r.Arch
	if arch == "" && r.Recipe != nil {
		arch = r.Recipe.Arch
	}
	archive, report, err := partial.Pack(ctx, root.FS(), partial.PackOptions{
		Arch: cmp.Or(arch, "x86_64"), Compression: partial.Compression{Files: partial.XZ{Level: level}}, Workers: g.opts.Workers, Memory: g.memory,
	})
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(g.store.TempDir(), "senbonzakura-*.mar")
	if err != nil {
		return nil, err
	}
	l := &local{name: s.File, file: f, build: &build, report: report, remove: true}
	sum := sha512.New()
	if _, err = archive.WriteTo(stream.NewWriter(ctx, io.MultiWriter(f, sum))); err == nil {
		l.info, err = f.Stat()
	}
	if err != nil {
		l.close()
		return nil, err
	}
	l.sum = sum.Sum(nil)
	return l, nil
}

// empty returns the directories without files of a directory that was packed.
func (l *local) empty() []string {
	if l == nil || l.report == nil {
		return nil
	}
	return l.report.EmptyDirectories
}

// verify hashes a file and compares it with what its source says.
func (l *local) verify(ctx context.Context, s *Source) error {
	if s.Size > 0 && s.Size != l.info.Size() {
		return &fetch.SizeError{Want: s.Size, Got: l.info.Size()}
	}
	sums := map[fetch.Algorithm]hash.Hash{fetch.SHA512: sha512.New()}
	all := []io.Writer{sums[fetch.SHA512]}
	for _, h := range s.Hashes {
		if sums[h.Algorithm] == nil {
			w := h.Algorithm.New()
			if w == nil {
				return fmt.Errorf("unknown algorithm %q", string(h.Algorithm))
			}
			sums[h.Algorithm] = w
			all = append(all, w)
		}
	}
	if _, err := stream.Copy(ctx, io.MultiWriter(all...), io.NewSectionReader(l.file, 0, l.info.Size())); err != nil {
		return err
	}
	for _, h := range s.Hashes {
		if got := sums[h.Algorithm].Sum(nil); !bytes.Equal(got, h.Sum) {
			return &fetch.DigestError{Algorithm: h.Algorithm, Want: bytes.Clone(h.Sum), Got: got}
		}
	}
	l.sum = sums[fetch.SHA512].Sum(nil)
	return nil
}

// ErrChanged says that a file changed while it was read. It comes in an [*InputError].
var ErrChanged = errors.New("the file changed while it was read")

// unchanged says whether the file is still the one that was opened: size, time of the last change, and place on the disk.
func (l *local) unchanged() error {
	if l.remove {
		return nil // ours
	}
	now, err := os.Stat(l.name)
	if err != nil {
		return err
	}
	if now.Size() != l.info.Size() || !now.ModTime().Equal(l.info.ModTime()) || !os.SameFile(now, l.info) {
		return ErrChanged
	}
	return nil
}

func (l *local) close() {
	l.file.Close()
	if l.remove {
		os.Remove(l.file.Name())
	}
}

// input is what provenance says of it.
func (l *local) input(s *Source) Input {
	in := Input{URL: l.name, Size: l.info.Size(), SHA512: hex.EncodeToString(l.sum)}
	for _, h := range s.Hashes {
		if h.Algorithm == fetch.SHA256 {
			in.SHA256 = hex.EncodeToString(h.Sum)
		}
	}
	return in
}

// GenerateTo is [Generator.Generate] for who wants the update once, in a file of their own: it is written to w. With a
// cache that is a copy of what the cache keeps. Without one nothing else is written: files are read where they are, and
// the error is an [*InputError] with [ErrChanged] where one is not the same at the end. Then, as with any
// error, what w got must be dropped.
//
// It is also the only way to an update with findings that clients may fail on, which recipe mozilla lets pass: with
// Request.AllowFindings it is made, and neither signed nor stored.
//
// There is nothing to open or to close in the result. Where the error is a refusal, or a proof that failed, it has the
// report and nothing else; with other errors it is nil.
func (g *Generator) GenerateTo(ctx context.Context, w io.Writer, r Request, progress func(Event)) (result *Result, err error) {
	defer g.observe(time.Now(), &result, &err)
	if err := g.open(); err != nil {
		return nil, err
	}
	if r.AllowFindings && len(g.opts.Signers) > 0 {
		return nil, &RequestError{"AllowFindings", "does not go with signers: what clients may fail on is not signed"}
	}
	o, release, err := g.prepare(ctx, r)
	if err != nil {
		return nil, err
	}
	defer release()
	if g.opts.Cache != nil && !r.AllowFindings {
		result, err := g.answer(ctx, o, progress)
		if err != nil {
			return result, err
		}
		_, err = stream.Copy(ctx, w, result.entry.Reader())
		result.Close()
		result.entry = nil
		return result, err
	}
	p, err := g.make(ctx, o, g.newJob(progress), w)
	if p == nil {
		return nil, err
	}
	result = &Result{Key: o.key, Size: p.Output.Size, Report: p.Report, Provenance: p}
	for text, sum := range map[string][]byte{p.Output.SHA512: result.SHA512[:], p.Output.SHA256: result.SHA256[:]} {
		if decoded, decodeErr := hex.DecodeString(text); decodeErr == nil {
			copy(sum, decoded)
		}
	}
	return result, err
}

// side is one of the two completes while an update is made.
type side struct {
	input  Input
	reader *mar.Reader
	local  *local
	entry  *cache.Entry // nil for a local file
	close  func()
}
