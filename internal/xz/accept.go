package xz

import (
	"bufio"
	"errors"
	"io"

	"github.com/senbonzakura/senbonzakura/internal/lzma"
)

// updaterDict is the largest dictionary that the updater allocates.
const updaterDict = 64 << 20

// UpdaterAccepts returns nil if Mozilla's updater unpacks the xz member that r holds, all of it: one stream,
// nothing behind it, a check it knows (none, CRC32, CRC64), LZMA2 with a dictionary of at most 64 MiB, and at
// most one filter before it, which is x86 or ARM without a start offset. Else it returns an *Error whose kind
// is ErrRefused with the reason, ErrFormat or ErrCorrupt for what no decoder takes, or the error of reading r.
//
// Bytes behind the stream are silently ignored by the updater, a second stream among them, so that a file
// would be cut off without an error: they are refused here.
//
// It reads all of r but decodes nothing: whether the data and its checks are right, only reading tells.
func UpdaterAccepts(r io.Reader) error {
	in := &input{Reader: bufio.NewReaderSize(r, 64<<10)}
	err := walkStream(in, func(c Check, h *blockHeader) string {
		if c == SHA256 {
			return "the check is SHA-256; it knows CRC32, CRC64 and none"
		}
		if h == nil {
			return ""
		}
		return h.refused()
	})
	if err != nil {
		return err
	}
	end := in.off
	switch head, err := in.Peek(len(headerMagic)); {
	case len(head) == 0 && errors.Is(err, io.EOF):
		return nil
	case err != nil && !errors.Is(err, io.EOF):
		return broken(end, "rest", err)
	case Sniff(head):
		return failure(end, ErrRefused, "a second stream follows, which it would silently leave out")
	default:
		return failure(end, ErrRefused, "bytes follow behind the stream, which it would silently leave out")
	}
}

// walkStream reads one stream, header to footer, without decoding it, and checks everything but the data and its
// checks. It asks refuse about the stream header, and then about each block header, whether to go on.
func walkStream(in *input, refuse func(Check, *blockHeader) string) error {
	var b [edgeSize]byte
	start := in.off
	if _, err := io.ReadFull(in, b[:]); err != nil {
		return broken(start, "stream header", err)
	}
	check, err := parseHeader(b[:], start)
	if err != nil {
		return err
	}
	if why := refuse(check, nil); why != "" {
		return failure(start, ErrRefused, "%s", why)
	}
	var seen ledger
	for {
		start := in.off
		h, n, err := readBlockHeader(in)
		if err != nil {
			return err
		}
		if h == nil {
			return readTail(in, &seen, check)
		}
		if why := refuse(check, h); why != "" {
			return failure(start, ErrRefused, "%s", why)
		}
		packed, plain, err := lzma.Walk(in.Reader)
		in.off += packed
		if err != nil {
			return broken(start, "block", err)
		}
		if err := h.sizes(start, packed, plain); err != nil {
			return err
		}
		var buf [3 + 32]byte
		pad := int(padding(packed))
		end := buf[:pad+check.size()]
		if _, err := io.ReadFull(in, end); err != nil {
			return broken(start, "check of the block", err)
		}
		if err := zeroPadding(start, end[:pad]); err != nil {
			return err
		}
		seen.add(record{int64(n) + packed + int64(check.size()), plain})
	}
}

// refused says why the updater does not take a block, or "".
func (h *blockHeader) refused() string {
	if h.dict > updaterDict {
		return "the dictionary is larger than 64 MiB"
	}
	if len(h.filters) > 2 {
		return "more than one filter stands before LZMA2"
	}
	if len(h.filters) == 2 {
		f := h.filters[0]
		switch kind := filterByID(f.id); {
		case f.id == idDelta:
			return "it has no delta filter"
		case kind != X86 && kind != ARM:
			return "it has no " + kind.String() + " filter, only x86 and arm"
		case len(f.props) != 0:
			return "the filter has a start offset"
		}
	}
	return ""
}
