// Package tools lets external programs, an mbsdiff or an xz, stand behind the interfaces of package partial.
//
// A [Tool] is pinned by the SHA-256 of its bytes; [Fetcher] gets it by address into a cache. A [Differ] and a
// [Compressor] run it without the caller's environment, in a private directory and with a deadline, and what it makes
// is applied, or unpacked, and compared before it is used.
package tools

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/senbonzakura/senbonzakura/internal/member"
	"github.com/senbonzakura/senbonzakura/internal/stream"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// Errors of external tools. Test with errors.Is.
var (
	// ErrDigest says that a program is not the one that was pinned.
	ErrDigest = errors.New("tools: program has another digest than pinned")
	// ErrTool says that a program failed, ran too long, or made something wrong.
	ErrTool = errors.New("tools: program failed")
)

// Tool is an external program, pinned by the SHA-256 of its bytes. A tool is never run by a name that is looked up
// in PATH, and never if its bytes changed since it was pinned.
type Tool struct {
	// Name is for people and for recipe IDs: "mbsdiff".
	Name string `json:"name" toml:"name"`
	// Path is where the program is. Empty for a tool that has to be fetched first.
	Path string `json:"path,omitempty" toml:"path"`
	// URL is where the program can be fetched from.
	URL string `json:"url,omitempty" toml:"url"`
	// SHA256 is the digest of the program in hexadecimal.
	SHA256 string `json:"sha256" toml:"sha256"`
	// Args are the program's arguments; {old}, {new}, {patch}, {in} and {out} stand for paths. Empty means
	// "{old} {new} {patch}" for a differ and "{in}" with the result on standard output for a compressor.
	Args []string `json:"args,omitempty" toml:"args"`
	// Timeout ends a run that takes longer. 0 means one hour.
	Timeout time.Duration `json:"timeout,omitempty" toml:"timeout"`
	// MaxOutput is the largest result in bytes that is taken. 0 means 2 GiB.
	MaxOutput int64 `json:"max_output,omitempty" toml:"max_output"`

	open func() (io.ReadCloser, error) // where a fetched program is read from; nil means Path
}

// source opens the program.
func (t Tool) source() (io.ReadCloser, error) {
	if t.open != nil {
		return t.open()
	}
	if t.Path == "" {
		return nil, fmt.Errorf("%w: %s has neither a path nor was it fetched", ErrTool, t.Name)
	}
	return os.Open(t.Path)
}

// Pin returns the tool for the program at path with the digest that it has now.
func Pin(name, path string, args ...string) (Tool, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Tool{}, err
	}
	digest, err := fileDigest(path)
	if err != nil {
		return Tool{}, err
	}
	return Tool{Name: name, Path: path, SHA256: digest, Args: args}, nil
}

// ID names the tool, its bytes and its arguments: all that can change what it makes.
func (t Tool) ID() string {
	id := t.Name + "@sha256:" + strings.ToLower(t.SHA256)
	if len(t.Args) > 0 {
		sum := sha256.Sum256([]byte(strings.Join(t.Args, "\x00")))
		id += "+args:" + hex.EncodeToString(sum[:8])
	}
	return id
}

// Check reads the program and returns [ErrDigest] where it is not the pinned one.
func (t Tool) Check() error {
	f, err := t.source()
	if err != nil {
		return err
	}
	digest, err := readDigest(f)
	if err != nil {
		return err
	}
	if !strings.EqualFold(digest, t.SHA256) {
		return fmt.Errorf("%w: %s %s has SHA-256 %s, pinned is %s", ErrDigest, t.Name, t.Path, digest, t.SHA256)
	}
	return nil
}

func fileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	return readDigest(f)
}

func readDigest(f io.ReadCloser) (string, error) {
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// run copies the program into the private directory dir while hashing it, so that what runs is what was checked,
// and runs it there: with an empty environment but for the C locale, no standard input, and a deadline.
func (t Tool) run(ctx context.Context, dir string, args []string, stdout io.Writer) error {
	program := filepath.Join(dir, "program")
	if err := t.copyTo(program); err != nil {
		return err
	}
	timeout := t.Timeout
	if timeout <= 0 {
		timeout = time.Hour
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("took longer than %v", timeout))
	defer cancel()
	var stderr tail
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "HOME=" + dir, "TMPDIR=" + dir}
	cmd.Stdout = stdout
	cmd.Stderr = &stderr
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		if text := stderr.String(); text != "" {
			return fmt.Errorf("%w: %s: %w: %s", ErrTool, t.Name, err, text)
		}
		return fmt.Errorf("%w: %s: %w", ErrTool, t.Name, err)
	}
	return nil
}

func (t Tool) copyTo(program string) error {
	in, err := t.source()
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(program, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o700)
	if err != nil {
		return err
	}
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, sum), in)
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); !strings.EqualFold(got, t.SHA256) {
		return fmt.Errorf("%w: %s %s has SHA-256 %s, pinned is %s", ErrDigest, t.Name, t.Path, got, t.SHA256)
	}
	return nil
}

func (t Tool) maxOutput() int64 {
	if t.MaxOutput > 0 {
		return t.MaxOutput
	}
	return 1<<31 - 1
}

// expand replaces the place holders of arguments.
func expand(args []string, paths map[string]string) []string {
	out := slices.Clone(args)
	for i := range out {
		for name, path := range paths {
			out[i] = strings.ReplaceAll(out[i], "{"+name+"}", path)
		}
	}
	return out
}

// tail keeps the last kilobyte of what a program says.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if extra := len(t.b) - 1024; extra > 0 {
		t.b = append(t.b[:0], t.b[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return strings.Join(strings.Fields(string(t.b)), " ") }

// Differ is an external program that makes patches, called as mbsdiff is: PROGRAM OLD NEW PATCH. It is a
// partial.Differ. Every patch is applied and compared with the new file before it is handed on. Safe for concurrent
// use.
type Differ struct {
	Tool Tool // the program that makes patches
	// Patches names the format of the patches, one of updater.PatchFormats; "" means updater.PatchMBDIFF10.
	Patches string
}

// ID names the program, its digest, and the format of its patches where that is not MBDIFF10.
func (d Differ) ID() string {
	id := "external:" + d.Tool.ID()
	if d.Patches != "" && d.Patches != updater.PatchMBDIFF10 {
		id += "/" + d.Patches
	}
	return id
}

// Format names the format of the patches.
func (d Differ) Format() string { return cmp.Or(d.Patches, updater.PatchMBDIFF10) }

// Diff runs the program on old and new in a private directory and writes the patch. It returns [ErrTool] when the
// program fails, takes too long or makes a patch that does not turn old into new, and [ErrDigest] when it is not
// the pinned one.
func (d Differ) Diff(ctx context.Context, patch io.Writer, old, new []byte) error {
	dir, err := os.MkdirTemp("", "senbonzakura-tool-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	paths := map[string]string{}
	for name, data := range map[string][]byte{"old": old, "new": new, "patch": nil} {
		paths[name] = filepath.Join(dir, name)
		if data != nil || name != "patch" {
			if err := os.WriteFile(paths[name], data, 0o600); err != nil {
				return err
			}
		}
	}
	args := d.Tool.Args
	if len(args) == 0 {
		args = []string{"{old}", "{new}", "{patch}"}
	}
	if err := d.Tool.run(ctx, dir, expand(args, paths), io.Discard); err != nil {
		return err
	}
	f, err := os.Open(paths["patch"])
	if err != nil {
		return fmt.Errorf("%w: %s made no patch", ErrTool, d.Tool.Name)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() > d.Tool.maxOutput() {
		return fmt.Errorf("%w: %s made a patch of %d bytes, more than %d", ErrTool, d.Tool.Name, info.Size(), d.Tool.maxOutput())
	}
	format, ok := updater.PatchFormatNamed(d.Format())
	if !ok {
		return fmt.Errorf("%w: %s makes patches of format %q, which no updater applies", ErrTool, d.Tool.Name, d.Format())
	}
	got, err := updater.PatchBytes(ctx, format, old, f, updater.PatchOptions{Limit: int64(len(new))})
	if err != nil {
		return fmt.Errorf("%w: %s made a patch that does not apply: %w", ErrTool, d.Tool.Name, err)
	}
	if at := mismatch(got, new); at >= 0 {
		return fmt.Errorf("%w: %s made a patch whose result differs from the new file at offset %d", ErrTool, d.Tool.Name, at)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(patch, f)
	return err
}

// mismatch returns the offset of the first byte in which two files differ, also where one ends, or -1.
func mismatch(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// Compressor is an external program that compresses members, called as "xz -c FILE" is: the path of the input as
// argument, the result on standard output. It is a partial.Compressor. Every result is decompressed and compared with
// what went in before it is handed on. Safe for concurrent use.
type Compressor struct {
	Tool Tool // the program that compresses
	// Files are the arguments for whole files and manifests, Patches those for patches, both for the architecture
	// in question; nil means the tool's Args.
	Files, Patches func(arch string) []string
}

// ID names the program, its digest and its arguments.
func (c Compressor) ID() string {
	id := "external:" + c.Tool.ID()
	for _, args := range []func(string) []string{c.Files, c.Patches} {
		if args != nil {
			for _, arch := range partial.Architectures() {
				id += fmt.Sprintf("%q", args(arch))
			}
		}
		id += ";"
	}
	return id
}

// NewWriter returns a writer that collects what is written and runs the program in Close. Close returns [ErrTool] when
// the program fails or makes something that does not decompress to what was written.
//
// The program is ended when ctx ends.
func (c Compressor) NewWriter(ctx context.Context, w io.Writer, content partial.Content) (io.WriteCloser, error) {
	dir, err := os.MkdirTemp("", "senbonzakura-tool-")
	if err != nil {
		return nil, err
	}
	f, err := os.Create(filepath.Join(dir, "in"))
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	args := c.Tool.Args
	choose := c.Files
	if content.Kind == partial.ContentPatch {
		choose = c.Patches
	}
	if choose != nil {
		args = choose(content.Arch)
	}
	if len(args) == 0 {
		args = []string{"{in}"}
	}
	return &toolWriter{ctx: ctx, tool: c.Tool, args: args, dir: dir, in: f, out: w, sum: sha256.New()}, nil
}

type toolWriter struct {
	ctx  context.Context //nolint:containedctx // lives as long as one member is compressed
	tool Tool
	args []string
	dir  string
	in   *os.File
	out  io.Writer
	sum  hash.Hash
	size int64
}

func (t *toolWriter) Write(p []byte) (int, error) {
	if err := t.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := t.in.Write(p)
	t.sum.Write(p[:n])
	t.size += int64(n)
	return n, err
}

func (t *toolWriter) Close() error {
	defer os.RemoveAll(t.dir)
	if err := t.in.Close(); err != nil {
		return err
	}
	if err := t.ctx.Err(); err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(t.dir, "out"))
	if err != nil {
		return err
	}
	defer out.Close()
	limited := &limitedWriter{w: out, left: t.tool.maxOutput()}
	args := expand(t.args, map[string]string{"in": t.in.Name()})
	if err := t.tool.run(t.ctx, t.dir, args, limited); err != nil {
		return err
	}
	if err := t.check(out); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrTool, t.tool.Name, err)
	}
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(t.out, out)
	return err
}

// check decompresses what the program made and compares it with what went in.
func (t *toolWriter) check(out *os.File) error {
	info, err := out.Stat()
	if err != nil {
		return err
	}
	r, err := member.Open(out, info.Size(), member.Limits{Output: max(t.size, 1), Ratio: -1})
	if err != nil {
		return fmt.Errorf("result: %w", err)
	}
	defer r.Close()
	sum := sha256.New()
	size, err := stream.Copy(t.ctx, sum, r)
	if err != nil {
		return fmt.Errorf("result does not decompress: %w", err)
	}
	if size != t.size || !bytes.Equal(sum.Sum(nil), t.sum.Sum(nil)) {
		return fmt.Errorf("result decompresses to %d other bytes than the %d that went in", size, t.size)
	}
	return nil
}

// limitedWriter fails when more than left bytes are written.
type limitedWriter struct {
	w    io.Writer
	left int64
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > l.left {
		return 0, errors.New("result is larger than allowed")
	}
	n, err := l.w.Write(p)
	l.left -= int64(n)
	return n, err
}
