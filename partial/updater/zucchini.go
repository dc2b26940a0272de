package updater

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/senbonzakura/senbonzakura/zucchini"
)

// zucc is Zucchini, which newer updaters apply beside MBDIFF10.
type zucc struct{}

func (zucc) Name() string { return PatchZucchini }

func (zucc) Sniff(head []byte) bool { return zucchini.IsPatch(head) }

func (zucc) limits(opts PatchOptions) zucchini.Limits { return zucchini.Limits{New: opts.Limit} }

// Apply needs the old and the new file in memory, since references can lead anywhere.
func (f zucc) Apply(ctx context.Context, dst io.WriterAt, old io.ReaderAt, oldSize int64, patch io.Reader, opts PatchOptions) (int64, error) {
	b, err := zucchini.ReadPatch(ctx, patch, f.limits(opts))
	if err != nil {
		return 0, err
	}
	h, err := zucchini.ParseHeader(b)
	if err != nil {
		return 0, err
	}
	var data []byte
	if oldSize == int64(h.OldSize) { // another one is refused below
		data = make([]byte, oldSize)
		if n, err := old.ReadAt(data, 0); int64(n) < oldSize {
			return 0, &zucchini.PatchError{Err: fmt.Errorf("read old file: %w", err), Element: -1, Offset: -1, Code: int(CodeRead)}
		}
	}
	got, err := f.apply(ctx, data, b, opts)
	if err != nil {
		return 0, err
	}
	n, err := dst.WriteAt(got, 0)
	if err != nil {
		return 0, &zucchini.PatchError{Err: fmt.Errorf("write new file: %w", err), Element: -1, Offset: -1, Code: int(CodeWrite)}
	}
	return int64(n), nil
}

func (f zucc) ApplyBytes(ctx context.Context, old []byte, patch io.Reader, opts PatchOptions) ([]byte, error) {
	b, err := zucchini.ReadPatch(ctx, patch, f.limits(opts))
	if err != nil {
		return nil, err
	}
	return f.apply(ctx, old, b, opts)
}

func (f zucc) apply(ctx context.Context, old, patch []byte, opts PatchOptions) ([]byte, error) {
	return zucchini.Apply(ctx, nil, old, patch, &zucchini.ApplyOptions{Lenient: opts.Lenient, Limits: f.limits(opts)})
}

func (zucc) Code(err error) Code {
	var pe *zucchini.PatchError
	switch {
	case errors.Is(err, zucchini.ErrCrash):
		return CodeCrash
	case !errors.As(err, &pe):
		return CodePatchFormat
	}
	return Code(pe.Code)
}

func (f zucc) Inspect(ctx context.Context, patch io.Reader) (*PatchInfo, error) {
	b, err := zucchini.ReadPatch(ctx, patch, zucchini.Limits{})
	if err != nil {
		return nil, err
	}
	info, err := zucchini.Inspect(ctx, b, nil)
	if err != nil {
		return nil, err
	}
	out := &PatchInfo{Format: f.Name(), OldSize: int64(info.OldSize), NewSize: int64(info.NewSize), Detail: info}
	for _, p := range info.Parts {
		text := fmt.Sprintf("%d bytes from %d, of old ones from %d: %d copied in %d stretches, %d of them differ; %d new",
			p.NewSize, p.NewOffset, p.OldOffset, p.Copied, p.Equivalences, p.Differences, p.Extra)
		if p.References > 0 {
			text += fmt.Sprintf("; %d references, %d corrected", p.References, p.Corrected)
		}
		out.Parts = append(out.Parts, PatchPart{p.Type, p.PatchSize, text})
	}
	return out, nil
}
