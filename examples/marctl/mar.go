package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/internal/bzip2"
	"github.com/senbonzakura/senbonzakura/internal/stream"
	"github.com/senbonzakura/senbonzakura/internal/xz"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

func (a *app) marCommands() []*cobra.Command {
	return []*cobra.Command{a.listCommand(), a.extractCommand(), a.createCommand(), a.infoCommand(), a.lintCommand()}
}

// allowFlag adds --allow, which loosens the reader.
func allowFlag(cmd *cobra.Command, allow *[]string) {
	choices(cmd, allow, "allow", "kinds of problems to accept when reading, as lint names them", allowed()...)
}

// allowed returns the names of the problems that readers can accept.
func allowed() []string {
	names := make([]string, 0, len(looseCodes))
	for _, code := range looseCodes {
		names = append(names, string(code))
	}
	return names
}

// looseCodes are the problems that [mar.ReaderOptions] can allow.
var looseCodes = []mar.Code{
	mar.CodeSize, mar.CodeTrailing, mar.CodeEmpty, mar.CodeProduct, mar.CodeOverlap, mar.CodeName, mar.CodeDuplicate, mar.CodeConflict, mar.CodeMode,
}

func readerOptions(allow []string) *mar.ReaderOptions {
	opts := &mar.ReaderOptions{}
	for _, code := range allow {
		opts.Allow = append(opts.Allow, mar.Code(code))
	}
	return opts
}

type signatureInfo struct {
	Algorithm uint32 `json:"algorithm"` // its number in the file
	Name      string `json:"name"`      // of the algorithm
	Size      int    `json:"size"`      // bytes
}

type entryInfo struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`   // bytes as they are stored
	Mode   string `json:"mode"`   // four octal digits
	Offset int64  `json:"offset"` // where the bytes are in the file
	Format string `json:"format"` // how they are compressed: xz, bzip2, or raw
}

// marInfo is what info prints as JSON.
type marInfo struct {
	File       string          `json:"file"`
	Size       int64           `json:"size"`   // bytes
	Layout     string          `json:"layout"` // of the container: sections, no-sections or original
	Product    *mar.Product    `json:"product,omitempty"`
	Signatures []signatureInfo `json:"signatures"`
}

// listResult is what list prints as JSON.
type listResult struct {
	marInfo
	Entries []entryInfo `json:"entries"`
}

func describe(name string, r *mar.Reader) marInfo {
	info := marInfo{File: name, Size: r.Size(), Layout: r.Layout().String(), Signatures: []signatureInfo{}}
	if product, ok := r.Product(); ok {
		info.Product = &product
	}
	for _, s := range r.Signatures() {
		info.Signatures = append(info.Signatures, signatureInfo{uint32(s.Algorithm), s.Algorithm.String(), len(s.Bytes)})
	}
	return info
}

func (i *marInfo) head(w *printer) {
	w.printf("%s: %s, layout %s\n", i.File, size(i.Size), i.Layout)
	if i.Product != nil {
		w.printf("channel %q, version %q\n", i.Product.Channel, i.Product.Version)
	} else {
		w.println("no product information")
	}
	if len(i.Signatures) == 0 {
		w.println("not signed")
	}
	for n, s := range i.Signatures {
		w.printf("signature %d: %s, %d bytes\n", n, s.Name, s.Size)
	}
}

func (a *app) listCommand() *cobra.Command {
	var allow []string
	cmd := &cobra.Command{
		Use:     "list FILE",
		Aliases: []string{"ls"},
		Short:   "List the entries of a MAR file",
		Example: `  marctl list update.mar
  marctl list --json update.mar | jq '.entries[].name'`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := openMAR(args[0], readerOptions(allow))
			if err != nil {
				return err
			}
			defer r.Close()
			info := listResult{marInfo: describe(args[0], r.Reader)}
			for _, f := range r.Files() {
				format, err := memberFormat(f)
				if err != nil {
					return named(args[0], err)
				}
				info.Entries = append(info.Entries, entryInfo{f.Name, f.Size, fmt.Sprintf("%04o", uint32(f.Mode)), f.Offset, format})
			}
			return a.print(info, func(w *printer) {
				info.head(w)
				w.table(func(row func(...any)) {
					row("MODE", "SIZE", "FORMAT", "NAME")
					for _, e := range info.Entries {
						row(e.Mode, e.Size, e.Format, e.Name)
					}
				})
			})
		},
	}
	allowFlag(cmd, &allow)
	takes(cmd, reads)
	return cmd
}

func (a *app) extractCommand() *cobra.Command {
	var raw bool
	var allow []string
	cmd := &cobra.Command{
		Use:   "extract FILE DIR [NAME…]",
		Short: "Write the entries of a MAR file into a directory, decompressed",
		Long: `extract writes the entries of a MAR file into a directory, which is made if it is absent. Nothing is
written outside of it, whatever the names in the file say, and no existing file is replaced. With names only
those entries are written. With "-" as the directory, one entry goes to standard output.`,
		Example: `  marctl extract update.mar update/
  marctl extract --raw update.mar update/ updatev3.manifest
  marctl extract update.mar - updatev3.manifest`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			a.bytesOut = args[1] == "-"
			r, err := openMAR(args[0], readerOptions(allow))
			if err != nil {
				return err
			}
			defer r.Close()
			for _, name := range args[2:] {
				if r.Lookup(name) == nil {
					return fmt.Errorf("%s: no entry %q (see marctl list)", args[0], name)
				}
			}
			p := a.newProgress("extract")
			defer p.end()
			if args[1] == "-" {
				if len(args) != 3 {
					return usagef("one NAME goes to standard output")
				}
				f := r.Lookup(args[2])
				return a.writeFile(cmd.Context(), "-", func(w io.Writer) error { return copyEntry(cmd.Context(), w, f, raw) })
			}
			written, err := a.extract(cmd.Context(), r.Reader, args[1], args[2:], raw, p)
			if err != nil {
				return named(args[0], err)
			}
			return a.summary(extractResult{written.files, written.bytes, args[1]}, func(w *printer) {
				w.printf("%d files, %s written to %s\n", written.files, size(written.bytes), args[1])
			})
		},
	}
	cmd.Flags().BoolVar(&raw, "raw", false, "write the stored bytes without decompressing them, with the modes of the file: create gives it back")
	allowFlag(cmd, &allow)
	takes(cmd, reads, changes, text)
	return cmd
}

// extractResult is what extract prints as JSON.
type extractResult struct {
	Files int    `json:"files"`
	Bytes int64  `json:"bytes"` // that were written
	Dir   string `json:"dir"`
}

type extracted struct {
	files int
	bytes int64
}

// extract writes the entries into dir and takes back what it wrote if one of them cannot be had, so that a damaged
// archive or an interrupt leaves nothing behind.
func (a *app) extract(ctx context.Context, r *mar.Reader, dir string, names []string, raw bool, p *progress) (done extracted, err error) {
	made := false
	if err := os.Mkdir(dir, 0o755); err == nil {
		made = true
	} else if !errors.Is(err, fs.ErrExist) {
		return done, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return done, err
	}
	defer root.Close()
	var undo []string
	defer func() {
		if err == nil {
			return
		}
		for _, name := range slices.Backward(undo) {
			root.Remove(name)
		}
		if made {
			os.Remove(dir)
		}
	}()
	var total, sofar int64
	files := slices.DeleteFunc(r.Files(), func(f *mar.File) bool { return len(names) > 0 && !slices.Contains(names, f.Name) })
	for _, f := range files {
		total += f.Size
	}
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		p.set(f.Name, sofar, total)
		n, err := extractFile(ctx, root, f, raw, &undo)
		if err != nil {
			return done, err
		}
		done.files++
		done.bytes += n
		sofar += f.Size
	}
	return done, nil
}

// extractFile writes one entry; undo lists what was made, in order.
func extractFile(ctx context.Context, root *os.Root, f *mar.File, raw bool, undo *[]string) (int64, error) {
	if !fs.ValidPath(f.Name) || f.Name == "." {
		return 0, fmt.Errorf("entry %q: its name is not a plain relative path, so it is not written", f.Name)
	}
	dir := ""
	for part := range strings.SplitSeq(filepath.ToSlash(filepath.Dir(filepath.FromSlash(f.Name))), "/") {
		if part == "." {
			break
		}
		dir = filepath.Join(dir, part)
		switch err := root.Mkdir(dir, 0o755); {
		case err == nil:
			*undo = append(*undo, dir)
		case !errors.Is(err, fs.ErrExist):
			return 0, fmt.Errorf("%s: %w", root.Name(), err)
		}
	}
	name := filepath.FromSlash(f.Name)
	out, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", root.Name(), err)
	}
	*undo = append(*undo, name)
	n := counter{w: out}
	if err := copyEntry(ctx, &n, f, raw); err != nil {
		out.Close()
		return n.n, err
	}
	if err := out.Close(); err != nil {
		return n.n, err
	}
	switch {
	case raw:
		return n.n, root.Chmod(name, f.Mode.Perm())
	case mar.Executable(f.Mode):
		return n.n, root.Chmod(name, 0o755)
	}
	return n.n, root.Chmod(name, 0o644)
}

// copyEntry writes an entry as it is stored, or decompressed.
func copyEntry(ctx context.Context, w io.Writer, f *mar.File, raw bool) error {
	open := openMember
	if raw {
		open = func(f *mar.File) (io.ReadCloser, error) { return f.Open() }
	}
	in, err := open(f)
	if err != nil {
		return fmt.Errorf("entry %q: %w", f.Name, err)
	}
	defer in.Close()
	if _, err := io.Copy(stream.NewWriter(ctx, w), in); err != nil {
		return fmt.Errorf("entry %q: %w", f.Name, err)
	}
	return nil
}

func (a *app) createCommand() *cobra.Command {
	var channel, productVersion, dir, compression, filter string
	var exact bool
	cmd := &cobra.Command{
		Use:   "create OUT FILE…",
		Short: "Make a MAR file of files as they are, in the order given",
		Long: `create stores files in the order given, as they are, or compressed as members of updates are with --compression: the
counterpart of "mar -c". To make a complete update of a tree use pack.`,
		Example: `  marctl create --compression xz --filter x86 out.mar libxul.so
  marctl create --channel release --product-version 153.6.0 -C dir out.mar updatev3.manifest a.txt`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if compression != "xz" {
				if err := refuseFlags(cmd, "goes with --compression xz", "filter"); err != nil {
					return err
				}
			}
			archive := &mar.Archive{ExactProduct: exact}
			if channel != "" || productVersion != "" {
				archive.Product = &mar.Product{Channel: channel, Version: productVersion}
			}
			inputs := []place{{what: "OUT", name: args[0], use: writes}}
			for _, name := range args[1:] {
				inputs = append(inputs, place{what: "FILE", name: filepath.Join(dir, name), use: reads})
			}
			if err := a.keepApart(inputs); err != nil {
				return err
			}
			for _, name := range args[1:] {
				entry, err := a.fileEntry(cmd.Context(), dir, name, compression, filter)
				if err != nil {
					return err
				}
				archive.Entries = append(archive.Entries, entry)
			}
			var n int64
			err := a.writeFile(cmd.Context(), args[0], func(w io.Writer) (err error) {
				n, err = archive.WriteTo(w)
				return err
			})
			if err != nil {
				return err
			}
			return a.wrote(args[0], n)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&dir, "directory", "C", ".", "where the files are; names are relative to it")
	flags.StringVarP(&channel, "channel", "H", "", "MAR channel of the product block")
	flags.StringVarP(&productVersion, "product-version", "V", "", "version of the product block")
	freeText(cmd, "channel", "product-version")
	flags.BoolVar(&exact, "exact-product", false, "make the product block as short as it can be, not padded to 104 bytes")
	choice(cmd, &compression, "compression", "none", "of the files", "none", "xz", "bzip2")
	choice(cmd, &filter, "filter", "none", "branch filter of xz", "none", "x86")
	takes(cmd, writes, other) // names in --directory, which RunE keeps apart
	flagTakes(cmd, finds, "directory")
	return cmd
}

// wroteResult is what commands print as JSON that make one file.
type wroteResult struct {
	File string `json:"file"`
	Size int64  `json:"size"` // bytes
}

// wrote is the summary of commands that make one file.
func (a *app) wrote(name string, n int64) error {
	if name == "-" && !a.json {
		return nil // whoever reads the bytes sees how many there are
	}
	return a.summary(wroteResult{name, n}, func(w *printer) { w.printf("%s: %d bytes\n", name, n) })
}

func (a *app) fileEntry(ctx context.Context, dir, name, compression, filter string) (mar.Entry, error) {
	if name == "-" {
		return mar.Entry{}, usagef("an entry needs a name, and standard input has none: give a file")
	}
	file := filepath.Join(dir, name)
	info, err := os.Stat(file)
	if err != nil {
		return mar.Entry{}, err
	}
	if !info.Mode().IsRegular() {
		return mar.Entry{}, fmt.Errorf("%s: not a regular file", file)
	}
	size := info.Size()
	if compression != "none" {
		if file, size, err = a.compressed(ctx, file, compression, filter); err != nil {
			return mar.Entry{}, named(name, err)
		}
	}
	return mar.Entry{
		Header: mar.Header{Name: filepath.ToSlash(name), Size: size, Mode: info.Mode().Perm()},
		Open:   func() (io.ReadCloser, error) { return os.Open(file) },
	}, nil
}

// compressed compresses a file into a temporary one and returns its name and size in bytes.
func (a *app) compressed(ctx context.Context, file, compression, filter string) (string, int64, error) {
	in, err := os.Open(file)
	if err != nil {
		return "", 0, err
	}
	defer in.Close()
	out, err := os.CreateTemp("", "marctl-*.member")
	if err != nil {
		return "", 0, err
	}
	a.temporary = append(a.temporary, out.Name())
	n := counter{w: stream.NewWriter(ctx, out)}
	var z io.WriteCloser
	if compression == "bzip2" {
		z, err = bzip2.NewWriter(&n)
	} else {
		opts := &xz.WriterOptions{Level: xz.Level6}
		if filter == "x86" {
			opts.Filter = xz.X86
		}
		z, err = xz.NewWriter(&n, opts)
	}
	if err == nil {
		if _, err = io.Copy(z, in); err == nil {
			err = z.Close()
		}
	}
	return out.Name(), n.n, errors.Join(err, out.Close())
}

func (a *app) infoCommand() *cobra.Command {
	show := func(cmd *cobra.Command, args []string) error {
		r, err := openMAR(args[0], nil)
		if err != nil {
			return err
		}
		defer r.Close()
		info := describe(args[0], r.Reader)
		return a.print(info, func(w *printer) { info.head(w) })
	}
	cmd := &cobra.Command{
		Use:   "info FILE",
		Short: "Show or refresh the product block of a MAR file",
		Example: `  marctl info update.mar
  marctl info refresh update.mar out.mar --channel release --product-version 153.6.0`,
		Args: cobra.ExactArgs(1),
		RunE: show,
	}
	showCmd := &cobra.Command{
		Use:     "show FILE",
		Short:   "Show product block, layout and signatures",
		Example: "  marctl info show --json update.mar",
		Args:    cobra.ExactArgs(1),
		RunE:    show,
	}
	takes(cmd, reads)
	takes(showCmd, reads)
	cmd.AddCommand(showCmd)
	var channel, productVersion string
	refresh := &cobra.Command{
		Use:   "refresh FILE OUT",
		Short: "Write a copy with another channel or version in the product block",
		Long: `refresh writes a copy of a MAR file in which only the product block changed. A signed file is
refused, since its signatures would not verify any more: strip it first.`,
		Example: "  marctl info refresh update.mar out.mar --product-version 153.6.1",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("channel") && !cmd.Flags().Changed("product-version") {
				return usagef("nothing to change: give --channel, --product-version or both")
			}
			r, err := openMAR(args[0], nil)
			if err != nil {
				return err
			}
			defer r.Close()
			product, _ := r.Product()
			if cmd.Flags().Changed("channel") {
				product.Channel = channel
			}
			if cmd.Flags().Changed("product-version") {
				product.Version = productVersion
			}
			edited, err := r.WithProduct(product)
			if err != nil {
				return named(args[0], err)
			}
			return a.edit(cmd.Context(), args[0], args[1], edited.WriteTo)
		},
	}
	refresh.Flags().StringVarP(&channel, "channel", "H", "", "MAR channel to write")
	refresh.Flags().StringVarP(&productVersion, "product-version", "V", "", "version to write")
	freeText(refresh, "channel", "product-version")
	takes(refresh, reads, writes)
	cmd.AddCommand(refresh)
	return cmd
}

// edit writes a changed copy of the MAR file in to out.
func (a *app) edit(ctx context.Context, in, out string, write func(w io.Writer) (int64, error)) error {
	var n int64
	err := a.writeFile(ctx, out, func(w io.Writer) (err error) {
		if n, err = write(w); err != nil {
			return named(in, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return a.wrote(out, n)
}

func (a *app) lintCommand() *cobra.Command {
	var fast bool
	cmd := &cobra.Command{
		Use:   "lint FILE…",
		Short: "Say everything that readers or updaters would refuse or lose",
		Long: `lint reports every problem of a MAR file, not the first: what readers refuse, what the updater refuses
or crashes on, and what other readers lose. It opens the manifests and every member: damage, formats, filters, checks and
dictionaries that the updater does not have, and streams of which it would leave out a part, each with the updater's error
number. So it names a channel that no client with a list of channels takes, a precomplete that takes the client's settings
away, and names that are others on Windows or one on macOS. --fast does not decompress members, and sees no damage in their data. The exit code is 1 where there is a problem.`,
		Example: `  marctl lint update.mar
  marctl lint --fast update.mar
  marctl lint --json *.mar`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			bad := false
			for _, name := range args {
				problems, err := a.lintFile(cmd.Context(), name, fast)
				if err != nil {
					if err := a.missing(cmd.Context(), name, err, len(args)); err != nil {
						return err
					}
					bad = true
					continue
				}
				bad = bad || len(problems) > 0
				err = a.print(lintResult{name, problems}, func(w *printer) {
					for _, p := range problems {
						w.printf("%s: %s\n", name, p)
					}
					if len(problems) == 0 && !a.quiet {
						w.printf("%s: %s\n", name, w.good("no problems"))
					}
				})
				if err != nil {
					return err
				}
			}
			if bad {
				return errAnswerNo
			}
			return nil
		},
	}
	takes(cmd, reads)
	cmd.Flags().BoolVar(&fast, "fast", false, "do not decompress the members")
	return cmd
}

// lintResult is what lint prints as JSON for each file.
type lintResult struct {
	File     string        `json:"file"`
	Problems []mar.Problem `json:"problems"`
}

func (a *app) lintFile(ctx context.Context, name string, fast bool) ([]mar.Problem, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", name)
	}
	problems := mar.Lint(f, info.Size(), nil)
	r, err := mar.NewReader(f, info.Size(), &mar.ReaderOptions{Allow: looseCodes})
	if err != nil {
		return problems, nil // said already: members cannot be found in it
	}
	inside, err := updater.Lint(ctx, r, &updater.LintOptions{Fast: fast, Workers: a.workers, Limits: updater.Limits{Member: maxMember}})
	if err != nil {
		return nil, named(name, err)
	}
	for _, e := range inside {
		if e.Path == updater.ManifestV3.Name() && e.Code == updater.CodeCrash && e.Line == 0 {
			continue // said already
		}
		text := *e
		text.Path = "" // stands in the problem
		p := mar.Problem{Code: "manifest", Name: e.Path, Detail: text.Error(), Updater: true}
		if entry := r.Lookup(e.Path); entry != nil {
			p.Offset = entry.Offset
		}
		if e.Op == "" && e.Line == 0 && e.Code != updater.CodeCrash && e.Code != updater.CodeNoActions {
			p.Code = "member"
		}
		if slices.Contains([]updater.Code{updater.CodeChannel, updater.CodeDowngrade, updater.CodeSettings}, e.Code) {
			p.Code = "client"
		}
		problems = append(problems, p)
	}
	return problems, nil
}
