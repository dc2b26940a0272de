package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/bsdiff"
	"github.com/senbonzakura/senbonzakura/internal/member"
	"github.com/senbonzakura/senbonzakura/internal/xz"
	"github.com/senbonzakura/senbonzakura/partial/updater"
	"github.com/senbonzakura/senbonzakura/zucchini"
)

func (a *app) patchCommands() []*cobra.Command {
	return []*cobra.Command{a.diffCommand(), a.patchCommand(), a.inspectCommand(), a.xzCommand(), a.benchCommand()}
}

// maxPatchInput is the size in bytes from which on files cannot be diffed: MBDIFF10 has 32-bit numbers.
const maxPatchInput = 1<<31 - 1

// readWhole reads a file that a diff needs in memory.
func readWhole(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", name)
	}
	if info.Size() > maxPatchInput {
		return nil, fmt.Errorf("%s: %d bytes, patches end at 2 GiB", name, info.Size())
	}
	return os.ReadFile(name)
}

func (a *app) diffCommand() *cobra.Command {
	var match, format string
	var compress bool
	cmd := &cobra.Command{
		Use:   "diff OLD NEW PATCH",
		Short: "Make a binary patch that turns one file into another",
		Long: `diff makes a patch in MBDIFF10, the format of Mozilla's updates, in Zucchini, which newer updaters apply as
well, or in BSDIFF40. The default matching makes the smallest patches; compatible makes the very bytes that mbsdiff
makes. Zucchini suits executables, of Windows above all; zucchini-plain takes them as bytes. Patches of both are not
compressed by themselves: --xz does that, as it is stored in an update.`,
		Example: `  marctl diff libxul.so.old libxul.so.new libxul.so.patch --xz
  marctl diff --match compatible old new patch
  marctl diff --format zucchini xul.dll.old xul.dll.new xul.dll.patch --xz
  marctl diff --format bsdiff40 old new patch`,
		Args: cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			p := a.newProgress("diff")
			defer p.end()
			progress := func(done, total int64) { p.set("diff", done, total) }
			opts := bsdiff.Options{Workers: a.workers, Progress: progress}
			var differ interface {
				Diff(ctx context.Context, patch io.Writer, old, new []byte) error
			}
			if match == "compatible" {
				opts.Match = bsdiff.Compatible
			}
			switch format {
			case "bsdiff40":
				opts.Format = bsdiff.BSDIFF40
			case "zucchini", "zucchini-plain":
				if cmd.Flags().Changed("match") {
					return usagef("--match does not go with --format %s", format)
				}
				differ = zucchini.New(zucchini.Options{Plain: format == "zucchini-plain", Workers: a.workers, Progress: progress})
			}
			if differ == nil {
				differ = bsdiff.New(opts)
			}
			if compress && opts.Format == bsdiff.BSDIFF40 {
				return usagef("--xz makes no sense for bsdiff40, which is compressed by itself")
			}
			// What is in use are lists of bytes and numbers, which the collector does not look into: to be asked often
			// costs it little.
			defer debug.SetGCPercent(debug.SetGCPercent(5))
			oldData, err := readWhole(args[0])
			if err != nil {
				return err
			}
			newData, err := readWhole(args[1])
			if err != nil {
				return err
			}
			var n counter
			err = a.writeFile(cmd.Context(), args[2], func(w io.Writer) error {
				n.w = w
				out := io.WriteCloser(nopCloser{&n})
				if compress {
					if out, err = xz.NewWriter(&n, &xz.WriterOptions{Level: xz.Best, Patch: true}); err != nil {
						return err
					}
				}
				if err := differ.Diff(cmd.Context(), out, oldData, newData); err != nil {
					return err
				}
				return out.Close()
			})
			if err != nil {
				return err
			}
			p.end()
			return a.wrote(args[2], n.n)
		},
	}
	takes(cmd, reads, reads, writes)
	choice(cmd, &match, "match", "default", "matching", "default", "compatible")
	choice(cmd, &format, "format", "mbdiff10", "format", "mbdiff10", "zucchini", "zucchini-plain", "bsdiff40")
	cmd.Flags().BoolVar(&compress, "xz", false, "compress the patch as updates store it")
	return cmd
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// openPatch opens a patch file and unpacks it where it is compressed as in an update.
func openPatch(name string) (io.ReadCloser, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	head := make([]byte, 6)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		f.Close()
		return nil, err
	}
	if strings.HasPrefix(string(head[:n]), "MAR1") {
		f.Close()
		return nil, fmt.Errorf("%s: a MAR file, not a patch: marctl extract --raw takes out what is in it", name)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	in, err := member.Open(f, info.Size(), member.Limits{Output: 3 * maxPatchInput})
	switch {
	case errors.Is(err, member.ErrUnknown):
		return f, nil
	case err != nil:
		f.Close()
		return nil, named(name, err)
	}
	return unpacked{in, f}, nil
}

type unpacked struct {
	io.ReadCloser
	file *os.File
}

func (u unpacked) Close() error {
	err := u.ReadCloser.Close()
	if closeErr := u.file.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (a *app) patchCommand() *cobra.Command {
	var lenient bool
	cmd := &cobra.Command{
		Use:   "patch OLD PATCH NEW",
		Short: "Apply a binary patch, plain or compressed with xz",
		Long: `patch applies a patch of either format. It refuses what Mozilla's updater refuses, and what the updater
takes although it is wrong: results that are shorter or longer than the patch declares, and unused bytes. With
--lenient the latter is done as the updater does it.`,
		Example: `  marctl patch old libxul.so.patch new`,
		Args:    cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			old, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer old.Close()
			info, err := old.Stat()
			if err != nil {
				return err
			}
			if !info.Mode().IsRegular() {
				return fmt.Errorf("%s: not a regular file", args[0])
			}
			patch, err := openPatch(args[1])
			if err != nil {
				return err
			}
			defer patch.Close()
			var n int64
			err = a.writeFile(cmd.Context(), args[2], func(w io.Writer) (err error) {
				n, err = applyPatch(cmd.Context(), w, old, info.Size(), patch, lenient)
				if err != nil {
					return named(args[1], err)
				}
				return nil
			})
			if err != nil {
				return err
			}
			return a.wrote(args[2], n)
		},
	}
	takes(cmd, reads, reads, writes)
	cmd.Flags().BoolVar(&lenient, "lenient", false, "do what the updater does with wrong results instead of refusing them")
	return cmd
}

// readPatch returns a patch from its start on, and its format: nil for those of package bsdiff, of which the updater applies
// one, and for what is none, of which that package says so.
func readPatch(in io.Reader) (updater.PatchFormat, io.Reader, error) {
	head := make([]byte, updater.PatchHeadSize)
	var n int
	var err error
	if f, ok := in.(*os.File); ok { // left where it is: seeking in it saves memory
		n, err = f.ReadAt(head, 0)
	} else {
		n, err = io.ReadFull(in, head)
		in = io.MultiReader(bytes.NewReader(head[:n]), in)
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, nil, err
	}
	if f, err := updater.SniffPatch(head[:n]); err == nil && f.Name() != updater.PatchMBDIFF10 {
		return f, in, nil
	}
	return nil, in, nil // what is no patch at all is said by who reads it as MBDIFF10
}

// applyPatch applies a patch of any format.
func applyPatch(ctx context.Context, w io.Writer, old io.ReaderAt, oldSize int64, patch io.Reader, lenient bool) (int64, error) {
	format, patch, err := readPatch(patch)
	if err != nil {
		return 0, err
	}
	if format == nil {
		n, err := bsdiff.Patch(ctx, w, old, oldSize, patch, &bsdiff.PatchOptions{Lenient: lenient})
		return n, withUpdaterCode(err, updater.Code(bsdiff.UpdaterCode(err)))
	}
	if oldSize > maxPatchInput {
		return 0, fmt.Errorf("the old file has %d bytes, patches end at 2 GiB", oldSize)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(5)) // as in diff
	data := make([]byte, oldSize)
	if _, err := io.ReadFull(io.NewSectionReader(old, 0, oldSize), data); err != nil {
		return 0, err
	}
	got, err := updater.PatchBytes(ctx, format, data, patch, updater.PatchOptions{Lenient: lenient})
	if err != nil {
		return 0, withUpdaterCode(err, format.Code(err))
	}
	n, err := w.Write(got)
	return int64(n), err
}

// withUpdaterCode adds the number that Mozilla's updater would report for the same failure.
func withUpdaterCode(err error, code updater.Code) error {
	switch {
	case err == nil || code == 0:
		return err
	case code == updater.CodeCrash:
		return fmt.Errorf("%w (the updater crashes)", err)
	}
	return fmt.Errorf("%w (the updater fails with error %d)", err, code)
}

func (a *app) inspectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect PATCH",
		Short: "Say what is in a patch: triples, bytes per block, share of zeros",
		Example: `  marctl inspect libxul.so.patch
  marctl inspect --json libxul.so.patch`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			patch, err := openPatch(args[0])
			if err != nil {
				return err
			}
			defer patch.Close()
			format, in, err := readPatch(patch)
			if err != nil {
				return named(args[0], err)
			}
			if format != nil {
				return a.inspectOther(cmd.Context(), args[0], format, in)
			}
			info, err := bsdiff.Inspect(cmd.Context(), in, nil)
			if err != nil {
				return withUpdaterCode(named(args[0], err), updater.Code(bsdiff.UpdaterCode(err)))
			}
			return a.print(inspectResult{File: args[0], Format: strings.ToLower(info.Format.String()), BSDiff: info}, func(w *printer) {
				w.printf("%s: %s, %d → %d bytes\n", args[0], info.Format, info.OldSize, info.NewSize)
				if info.Format == bsdiff.MBDIFF10 {
					w.printf("checksum of the old file %08x\n", info.OldCRC)
				}
				w.table(func(row func(...any)) {
					for _, p := range info.Parts() {
						row(p.Name, p.Bytes, p.Text)
					}
				})
			})
		},
	}
	takes(cmd, reads)
	return cmd
}

// inspectResult is what inspect prints as JSON: the format, and what its package says of the patch.
type inspectResult struct {
	File     string         `json:"file"`
	Format   string         `json:"format"` // mbdiff10, bsdiff40 or zucchini
	BSDiff   *bsdiff.Info   `json:"bsdiff,omitempty"`
	Zucchini *zucchini.Info `json:"zucchini,omitempty"`
}

// inspectOther describes a patch in the words of its format.
func (a *app) inspectOther(ctx context.Context, name string, format updater.PatchFormat, in io.Reader) error {
	info, err := format.Inspect(ctx, in)
	if err != nil {
		return withUpdaterCode(named(name, err), format.Code(err))
	}
	result := inspectResult{File: name, Format: info.Format}
	switch detail := info.Detail.(type) {
	case *zucchini.Info:
		result.Zucchini = detail
	case *bsdiff.Info:
		result.BSDiff = detail
	}
	return a.print(result, func(w *printer) {
		w.printf("%s: %s, %d → %d bytes\n", name, info.Format, info.OldSize, info.NewSize)
		w.table(func(row func(...any)) {
			for _, p := range info.Parts {
				row(p.Name, p.Bytes, p.Text)
			}
		})
	})
}

func (a *app) xzCommand() *cobra.Command {
	var decompress, check, patch bool
	var level, filter string
	cmd := &cobra.Command{
		Use:   "xz FILE OUT",
		Short: "Compress or decompress a file as members of updates are",
		Long: `xz compresses a file as a member of an update: one xz stream with CRC-64, with a branch filter where
--filter names one. --decompress does the reverse for xz and bzip2; --check says whether an installed updater would
take the file (exit code 1 and the reason where it would not).`,
		Example: `  marctl xz --level 6 --filter x86 libxul.so libxul.so.xz
  marctl xz --decompress member out
  marctl xz --check member`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if check {
				if err := refuseFlags(cmd, "does not go with --check", "decompress", "level", "filter", "patch"); err != nil {
					return err
				}
				return a.checkMember(args)
			}
			if len(args) != 2 {
				return usagef("want FILE and OUT")
			}
			if decompress {
				if err := refuseFlags(cmd, "does not go with --decompress", "level", "filter", "patch"); err != nil {
					return err
				}
				return a.decompress(cmd.Context(), args[0], args[1])
			}
			opts := &xz.WriterOptions{Level: xz.Level(level), Patch: patch}
			if filter == "x86" {
				opts.Filter = xz.X86
			}
			in, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			var n counter
			err = a.writeFile(cmd.Context(), args[1], func(w io.Writer) error {
				n.w = w
				z, err := xz.NewWriter(&n, opts)
				if err != nil {
					return err
				}
				if _, err := io.Copy(z, in); err != nil {
					return named(args[0], err)
				}
				return z.Close()
			})
			if err != nil {
				return err
			}
			return a.wrote(args[1], n.n)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&decompress, "decompress", "d", false, "decompress xz or bzip2")
	flags.BoolVar(&check, "check", false, "would an installed updater take this member?")
	choice(cmd, &level, "level", string(xz.Level6), "how hard to try", levelNames...)
	flags.BoolVar(&patch, "patch", false, "the file is an MBDIFF10 patch: suit the encoder to each of its blocks (not with --filter)")
	choice(cmd, &filter, "filter", "none", "branch filter, of those that updaters take", "none", "x86")
	takes(cmd, reads, writes)
	return cmd
}

func (a *app) decompress(ctx context.Context, name, out string) error {
	in, err := openPatch(name)
	if err != nil {
		return err
	}
	defer in.Close()
	if _, plain := in.(*os.File); plain {
		return fmt.Errorf("%s: compressed with neither xz nor bzip2", name)
	}
	var n counter
	err = a.writeFile(ctx, out, func(w io.Writer) error {
		n.w = w
		if _, err := io.Copy(&n, in); err != nil {
			return named(name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return a.wrote(out, n.n)
}

// checkResult is what xz --check prints as JSON.
type checkResult struct {
	File    string `json:"file"`
	Accepts bool   `json:"accepts"` // an installed updater takes it
	Reason  string `json:"reason,omitempty"`
}

func (a *app) checkMember(args []string) error {
	if len(args) != 1 {
		return usagef("--check wants one FILE")
	}
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	refused := xz.UpdaterAccepts(f)
	result := checkResult{File: args[0], Accepts: refused == nil}
	if refused != nil {
		result.Reason = refused.Error()
	}
	err = a.print(result, func(w *printer) {
		if refused == nil {
			w.printf("%s: an installed updater %s it\n", args[0], w.good("takes"))
		} else {
			w.printf("%s: an installed updater %s it: %v\n", args[0], w.bad("refuses"), refused)
		}
	})
	if err == nil && refused != nil {
		err = errAnswerNo
	}
	return err
}
