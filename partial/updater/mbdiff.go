package updater

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/senbonzakura/senbonzakura/bsdiff"
)

// mbdiff is MBDIFF10, which every updater applies.
type mbdiff struct{}

func (mbdiff) Name() string { return PatchMBDIFF10 }

func (mbdiff) Sniff(head []byte) bool { return bytes.HasPrefix(head, []byte(bsdiff.MBDIFF10.String())) }

func (mbdiff) options(opts PatchOptions) *bsdiff.PatchOptions {
	return &bsdiff.PatchOptions{Lenient: opts.Lenient, Limits: bsdiff.Limits{New: opts.Limit}}
}

func (f mbdiff) Apply(ctx context.Context, dst io.WriterAt, old io.ReaderAt, oldSize int64, patch io.Reader, opts PatchOptions) (int64, error) {
	return bsdiff.PatchTo(ctx, dst, old, oldSize, patch, f.options(opts))
}

func (f mbdiff) ApplyBytes(ctx context.Context, old []byte, patch io.Reader, opts PatchOptions) ([]byte, error) {
	return bsdiff.PatchBytes(ctx, nil, old, patch, f.options(opts))
}

func (mbdiff) Code(err error) Code {
	var pe *bsdiff.PatchError
	if !errors.As(err, &pe) {
		return CodePatchFormat
	}
	return Code(bsdiff.UpdaterCode(err))
}

func (f mbdiff) Inspect(ctx context.Context, patch io.Reader) (*PatchInfo, error) {
	info, err := bsdiff.Inspect(ctx, patch, nil)
	if err != nil {
		return nil, err
	}
	out := &PatchInfo{Format: f.Name(), OldSize: info.OldSize, NewSize: info.NewSize, Detail: info}
	for _, p := range info.Parts() {
		out.Parts = append(out.Parts, PatchPart(p))
	}
	return out, nil
}
