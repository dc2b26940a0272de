package inspect

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/senbonzakura/senbonzakura/bsdiff"
	"github.com/senbonzakura/senbonzakura/internal/member"
	"github.com/senbonzakura/senbonzakura/mar"
)

// ErrNoPatches says that a partial update patches nothing, so that it does not tell what it was made from.
var ErrNoPatches = errors.New("inspect: the partial update has no patch that names the file it is for")

const patchSuffix = ".patch"

// IsPartial says whether a MAR file is a partial update: one that patches files.
func IsPartial(r *mar.Reader) bool {
	return slices.ContainsFunc(r.Files(), func(f *mar.File) bool { return strings.HasSuffix(f.Name, patchSuffix) })
}

// Old is what a partial update expects of a file that it patches, as the patch says.
type Old struct {
	Name string
	Size int64
	CRC  uint32 // as package bsdiff has it

	cost int64
}

// ReadOld reads off a partial update which files it patches. One that says this of no file is ErrNoPatches.
func ReadOld(r *mar.Reader) ([]Old, error) {
	var list []Old
	for _, f := range r.Files() {
		name, ok := strings.CutSuffix(f.Name, patchSuffix)
		if !ok {
			continue
		}
		h, err := bsdiff.ParseHeader(head(f, 32))
		if err != nil || h.Format != bsdiff.MBDIFF10 {
			continue // of another kind, which has no such checksum
		}
		list = append(list, Old{Name: name, Size: h.OldSize, CRC: h.OldCRC})
	}
	if len(list) == 0 {
		return nil, ErrNoPatches
	}
	return list, nil
}

// Fits says whether a complete update has the files that a partial one expects.
func Fits(complete *mar.Reader, expected []Old) (bool, error) {
	expected = slices.Clone(expected)
	for i := range expected {
		f := complete.Lookup(expected[i].Name)
		if f == nil {
			return false, nil
		}
		expected[i].cost = f.Section().Size()
	}
	// What is quick to read often tells.
	slices.SortFunc(expected, func(a, b Old) int { return cmp.Compare(a.cost, b.cost) })
	for _, o := range expected {
		size, crc, err := checksum(complete.Lookup(o.Name), o.Size)
		if err != nil {
			return false, fmt.Errorf("%s: %w", o.Name, err)
		}
		if size != o.Size || crc != o.CRC {
			return false, nil
		}
	}
	return true, nil
}

// checksum reads a member, but no more than a byte beyond what is expected.
func checksum(f *mar.File, expected int64) (size int64, crc uint32, err error) {
	magic := make([]byte, member.HeadSize)
	k, err := f.Section().ReadAt(magic, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, 0, err
	}
	var r io.Reader = f.Section()
	if format, ok := member.Sniff(magic[:k]); ok {
		c, err := format.NewReader(f.Section(), member.Limits{})
		if err != nil {
			return 0, 0, err
		}
		defer c.Close()
		r = c
	}
	r = io.LimitReader(r, expected+1)
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		size += int64(n)
		crc = bsdiff.UpdateChecksum(crc, buf[:n])
		if errors.Is(err, io.EOF) {
			return size, crc, nil
		}
		if err != nil {
			return 0, 0, err
		}
	}
}
