package exe

import (
	"cmp"
	"encoding/binary"
	"slices"
	"sort"
)

func le16(b []byte, at uint32) uint16 { return binary.LittleEndian.Uint16(b[at:]) }
func le32(b []byte, at uint32) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
func le64(b []byte, at uint32) uint64 { return binary.LittleEndian.Uint64(b[at:]) }

// unit is a stretch of the file and where it stands in memory. It may be longer there: the rest is dangling.
type unit struct {
	at, size    uint32 // in the file
	rva, length uint32 // in memory, size <= length
}

// translator turns offsets into addresses and back. All its numbers are below Bound.
type translator struct {
	byRVA []unit
	byAt  []unit
	fake  uint32 // fake offsets are addresses plus this; no offset in the file is as large
	tied  bool   // several units start at one place of the file, and their order decides
}

func inside(begin, size, bound uint64) bool { return begin < bound && size <= bound-begin }
func fits(begin, size, bound uint64) bool   { return begin <= bound && size <= bound-begin }

// fewUnits is how many units the sort of the updater's library leaves in order where they tie.
const fewUnits = 16

// newTranslator fails where the units contradict each other.
func newTranslator(units []unit) (translator, error) {
	list := make([]unit, 0, len(units))
	for _, u := range units {
		if !inside(uint64(u.at), uint64(u.size), Bound) || !inside(uint64(u.rva), uint64(u.length), Bound) {
			return translator{}, not("a section ends behind 2 GiB")
		}
		if u.length == 0 {
			continue
		}
		u.size = min(u.size, u.length)
		list = append(list, u)
	}
	slices.SortStableFunc(list, func(a, b unit) int {
		return cmp.Or(cmp.Compare(a.rva, b.rva), cmp.Compare(a.length, b.length), cmp.Compare(a.at, b.at), cmp.Compare(a.size, b.size))
	})
	list = slices.Compact(list)
	merged := list[:0]
	for _, fast := range list {
		if n := len(merged); n > 0 && merged[n-1].rva+merged[n-1].length >= fast.rva {
			slow := &merged[n-1]
			same := fast.at >= slow.at && fast.at-slow.at == fast.rva-slow.rva
			dangling := fast.length > fast.size && fast.at+fast.size < slow.at+slow.size ||
				slow.length > slow.size && slow.at+slow.size < fast.at+fast.size
			if same && !dangling {
				slow.length = max(slow.rva+slow.length, fast.rva+fast.length) - slow.rva
				slow.size = max(slow.at+slow.size, fast.at+fast.size) - slow.at
				continue
			}
			if slow.rva+slow.length > fast.rva {
				return translator{}, not("sections overlap in memory in different ways")
			}
		}
		merged = append(merged, fast)
	}
	t := translator{byRVA: merged, byAt: slices.Clone(merged)}
	slices.SortStableFunc(t.byAt, func(a, b unit) int { return cmp.Compare(a.at, b.at) })
	end := uint32(0)
	for i, u := range t.byAt {
		if i > 0 {
			before := t.byAt[i-1]
			if u.at < before.at+before.size {
				return translator{}, not("sections overlap in the file")
			}
			t.tied = t.tied || u.at == before.at && u.size != before.size && len(merged) > fewUnits
		}
		t.fake = max(t.fake, u.at+u.size)
		end = max(end, u.rva+u.length)
	}
	if !inside(uint64(t.fake), uint64(end), Bound) {
		return translator{}, not("no room for offsets of memory that is not in the file")
	}
	return t, nil
}

// finder finds offsets and addresses, the faster the closer they are to those before. Not safe for concurrent use.
type finder struct {
	t           *translator
	byRVA, byAt unit // found last
}

func (t *translator) finder() finder { return finder{t: t} }

// offset returns the offset of an address, a fake one where it is not in the file.
func (f *finder) offset(rva uint32) (uint32, bool) {
	if rva-f.byRVA.rva >= f.byRVA.length { // also where there is none yet
		i := sort.Search(len(f.t.byRVA), func(i int) bool { return f.t.byRVA[i].rva > rva }) - 1
		if i < 0 || rva-f.t.byRVA[i].rva >= f.t.byRVA[i].length {
			return 0, false
		}
		f.byRVA = f.t.byRVA[i]
	}
	if d := rva - f.byRVA.rva; d < f.byRVA.size {
		return f.byRVA.at + d, true
	}
	return f.t.fake + rva, true
}

// rva returns the address of an offset, or invalid.
func (f *finder) rva(at uint32) uint32 {
	if at >= f.t.fake {
		r := at - f.t.fake
		i := sort.Search(len(f.t.byRVA), func(i int) bool { return f.t.byRVA[i].rva > r }) - 1
		if i < 0 {
			return invalid
		}
		if u := f.t.byRVA[i]; r-u.rva < u.length && r-u.rva >= u.size {
			return r
		}
		return invalid
	}
	if at-f.byAt.at >= f.byAt.size {
		i := sort.Search(len(f.t.byAt), func(i int) bool { return f.t.byAt[i].at > at }) - 1
		if i < 0 || at-f.t.byAt[i].at >= f.t.byAt[i].size {
			return invalid
		}
		f.byAt = f.t.byAt[i]
	}
	return f.byAt.rva + (at - f.byAt.at)
}
