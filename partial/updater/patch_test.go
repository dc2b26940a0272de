package updater

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/bsdiff"
	"github.com/senbonzakura/senbonzakura/partial/internal/updatetest"
)

// A literal patch is "LIT" and the new file: a format that has nothing but what it must.
type literal struct{ hole bool }

func (literal) Name() string           { return "LIT" }
func (literal) Sniff(head []byte) bool { return bytes.HasPrefix(head, []byte("LIT")) }
func (literal) Code(error) Code        { return CodePatchFormat }

func (l literal) Apply(_ context.Context, dst io.WriterAt, _ io.ReaderAt, _ int64, patch io.Reader, _ PatchOptions) (int64, error) {
	data, err := io.ReadAll(patch)
	if err != nil {
		return 0, err
	}
	size := int64(len(data) - 3)
	for i := size - 1; i >= 0; i-- { // from the end, as a format may
		if _, err := dst.WriteAt(data[3+i:4+i], i); err != nil {
			return 0, err
		}
	}
	if l.hole {
		size++
	}
	return size, nil
}

func (literal) Inspect(context.Context, io.Reader) (*PatchInfo, error) {
	return nil, errors.ErrUnsupported
}

// A format that only writes to a file is applied in memory as well; what it does not write is no part of the new file.
func TestPatchBytesOfAnyFormat(t *testing.T) {
	t.Parallel()
	for _, want := range []string{"", "x", strings.Repeat("some bytes ", 1000)} {
		got, err := PatchBytes(t.Context(), literal{}, nil, strings.NewReader("LIT"+want), PatchOptions{})
		if err != nil || string(got) != want {
			t.Errorf("got %d bytes, %v, want %d", len(got), err, len(want))
		}
	}
	if got, err := PatchBytes(t.Context(), literal{hole: true}, nil, strings.NewReader("LITx"), PatchOptions{}); err == nil {
		t.Errorf("got %q although one byte was not written", got)
	}
}

func TestSniffPatch(t *testing.T) {
	t.Parallel()
	for _, f := range PatchFormats() {
		if got, ok := PatchFormatNamed(f.Name()); !ok || got != f {
			t.Errorf("%s: PatchFormatNamed gives %v, %v", f.Name(), got, ok)
		}
	}
	if f, err := SniffPatch([]byte("MBDIFF10" + strings.Repeat("x", 24))); err != nil || f.Name() != PatchMBDIFF10 {
		t.Errorf("got %v, %v", f, err)
	}
	for head, code := range map[string]Code{strings.Repeat("x", 32): CodePatchFormat, "BSDIFF40" + strings.Repeat("x", 24): CodePatchFormat, "": CodeRead, "MBDIFF": CodeRead} {
		_, err := SniffPatch([]byte(head))
		var ue *UpdateError
		if !errors.Is(err, ErrPatchFormat) || !errors.As(err, &ue) || ue.Code != code {
			t.Errorf("%q: got %v, want ErrPatchFormat with code %d", head, err, code)
		}
	}
}

// Whatever is wrong with a patch is an *UpdateError that names it, and has the updater's number.
func TestApplyPatch(t *testing.T) {
	t.Parallel()
	old, changed := []byte(strings.Repeat("old text ", 500)), []byte(strings.Repeat("new text ", 500))
	var b bytes.Buffer
	if err := bsdiff.New(bsdiff.Options{}).Diff(t.Context(), &b, old, changed); err != nil {
		t.Fatal(err)
	}
	patch := b.Bytes()
	ins := Instruction{Op: OpPatch, Item: "p", Path: "f", Line: 7}
	member := func(data []byte) *Member { return NewMember("p", 0o644, updatetest.Compress(t, data)) }
	got, err := ApplyPatch(t.Context(), old, member(patch), ins, Limits{})
	if err != nil || !bytes.Equal(got, changed) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	if f, err := member(patch).PatchFormat(t.Context()); err != nil || f.Name() != PatchMBDIFF10 {
		t.Errorf("PatchFormat gives %v, %v", f, err)
	}
	if f, err := member([]byte("none")).PatchFormat(t.Context()); !errors.Is(err, ErrPatchFormat) {
		t.Errorf("PatchFormat of no patch gives %v, %v", f, err)
	}
	whole := updatetest.Compress(t, patch)
	for _, tt := range []struct {
		name string
		old  []byte
		m    *Member
		lim  Limits
		is   error
		code Code
	}{
		{"another size", old[1:], member(patch), Limits{}, bsdiff.ErrOldSize, CodeSourceSize},
		{"another content", bytes.Repeat([]byte("x"), len(old)), member(patch), Limits{}, bsdiff.ErrOldCRC, CodeSourceCRC},
		{"cut off patch", old, member(patch[:40]), Limits{}, bsdiff.ErrFormat, CodePatchFormat},
		{"no patch", old, member(bytes.Repeat([]byte("x"), 99)), Limits{}, ErrPatchFormat, CodePatchFormat},
		{"cut off member", old, NewMember("p", 0o644, whole[:len(whole)/2]), Limits{}, ErrMember, CodeXZ},
		{"not compressed", old, NewMember("p", 0o644, patch), Limits{}, ErrMember, CodeXZ},
		{"new file over the limit", old, member(patch), Limits{Member: 1000}, bsdiff.ErrTooLarge, 0},
	} {
		_, err := ApplyPatch(t.Context(), tt.old, tt.m, ins, tt.lim)
		var ue *UpdateError
		if !errors.As(err, &ue) || ue.Code != tt.code || ue.Line != 7 || ue.Path != "f" || !strings.Contains(err.Error(), `"p"`) {
			t.Errorf("%s: got %v, want code %d", tt.name, err, tt.code)
		}
		if tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.is)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ApplyPatch(ctx, old, member(patch), ins, Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}
