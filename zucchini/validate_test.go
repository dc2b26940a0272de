package zucchini

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/exe"
)

// validate applies a patch by the words of the format, without any of the package's code but for the finding of references,
// and says which of the rules that a patch has to obey for the updater it breaks. It is slow and simple.
func validate(tb testing.TB, old, patch, want []byte) (broken []string) {
	tb.Helper()
	say := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	v := &validator{b: patch}
	if string(v.bytes(4)) != "Zucc" || v.u16() != 2 || v.u16() != 0 {
		return []string{"header"}
	}
	oldSize, oldCRC, newSize, newCRC, count := v.u32(), v.u32(), v.u32(), v.u32(), v.u32()
	if int(oldSize) != len(old) || crc32.ChecksumIEEE(old) != oldCRC || int(newSize) != len(want) || crc32.ChecksumIEEE(want) != newCRC {
		say("sizes or checksums")
	}
	if oldSize >= math.MaxInt32 || newSize >= math.MaxInt32 || oldSize == 0 || newSize == 0 {
		say("too large or empty")
	}
	var out []byte
	for k := range count {
		oldAt, oldN, newAt, newN := v.u32(), v.u32(), v.u32(), v.u32()
		name := string(v.bytes(4))
		if v.u16() != 1 || oldN == 0 || newN == 0 || int(newAt) != len(out) || int64(newAt)+int64(newN) > int64(newSize) || int64(oldAt)+int64(oldN) > int64(oldSize) {
			say("element %d: regions", k)
			return broken
		}
		var lists [7][]byte
		for i := range lists {
			lists[i] = v.bytes(v.u32())
		}
		pools := make(map[byte][]byte)
		tags := []byte{}
		for range v.u32() {
			tag := v.bytes(1)[0]
			pools[tag] = v.bytes(v.u32())
			tags = append(tags, tag)
		}
		if v.bad {
			return append(broken, fmt.Sprintf("element %d: cut off", k))
		}
		kind, isExe := exe.KindOf(name)
		if isExe && !slices.Equal(tags, []byte{0, 1, 2}) || !isExe && (name != "NoOp" || len(tags) > 0) {
			say("element %d: pools %v of %q", k, tags, name)
		}
		src := old[oldAt:][:oldN]
		made, pairs, problem := validateCopy(src, int(newN), lists)
		if problem != "" {
			say("element %d: %s", k, problem)
			return broken
		}
		if isExe {
			for _, p := range validateReferences(tb, kind, src, made, pairs, lists[6], pools) {
				say("element %d: %s", k, p)
			}
		} else if len(lists[6]) > 0 {
			say("element %d: references", k)
		}
		out = append(out, made...)
	}
	if len(v.b) > 0 {
		say("%d bytes behind the end", len(v.b))
	}
	if !bytes.Equal(out, want) {
		say("makes something else")
	}
	return broken
}

type validator struct {
	b   []byte
	bad bool
}

func (v *validator) bytes(n uint32) []byte {
	if uint64(n) > uint64(len(v.b)) {
		v.bad, v.b = true, nil
		return make([]byte, min(n, 22))
	}
	b := v.b[:n]
	v.b = v.b[n:]
	return b
}

func (v *validator) u16() uint16 { return binary.LittleEndian.Uint16(v.bytes(2)) }
func (v *validator) u32() uint32 { return binary.LittleEndian.Uint32(v.bytes(4)) }

// numbers reads a list; every number has to be in its shortest form.
func numbers(b []byte) ([]int64, string) {
	var out []int64
	for len(b) > 0 {
		u, n := binary.Uvarint(b)
		if n <= 0 || n > 5 || u > math.MaxUint32 || n > 1 && b[n-1] == 0 {
			return nil, "number that is not well formed"
		}
		out = append(out, int64(u))
		b = b[n:]
	}
	return out, ""
}

func zigzag(list []int64) {
	for i, u := range list {
		if list[i] = u >> 1; u&1 != 0 {
			list[i] = ^list[i]
		}
	}
}

type validPair struct{ src, dst, size int64 }

func validateCopy(old []byte, newN int, lists [7][]byte) (made []byte, pairs []validPair, problem string) {
	var n [7][]int64
	for _, i := range []int{srcSkip, dstSkip, copyCount, rawDeltaSkip, referenceDelta} {
		if n[i], problem = numbers(lists[i]); problem != "" {
			return nil, nil, streamNames[i] + ": " + problem
		}
	}
	zigzag(n[srcSkip])
	if len(n[srcSkip]) != len(n[dstSkip]) || len(n[srcSkip]) != len(n[copyCount]) || len(n[rawDeltaSkip]) != len(lists[rawDeltaDiff]) {
		return nil, nil, "lists of different lengths"
	}
	made = make([]byte, newN)
	var where []int // of each copied byte
	extra := lists[extraData]
	var s, d int64
	for i, size := range n[copyCount] {
		gap := n[dstSkip][i]
		s += n[srcSkip][i]
		if s < 0 || size <= 0 || s+size > int64(len(old)) || d+gap+size > int64(newN) || gap > int64(len(extra)) {
			return nil, nil, fmt.Sprintf("equivalence %d", i)
		}
		copy(made[d:], extra[:gap])
		extra, d = extra[gap:], d+gap
		copy(made[d:], old[s:s+size])
		pairs = append(pairs, validPair{s, d, size})
		for k := range size {
			where = append(where, int(d+k))
		}
		s, d = s+size, d+size
	}
	if int64(len(extra)) != int64(newN)-d {
		return nil, nil, "extra data"
	}
	copy(made[d:], extra)
	at := -1
	for i, skip := range n[rawDeltaSkip] {
		at += int(skip) + 1
		if at >= len(where) || lists[rawDeltaDiff][i] == 0 {
			return nil, nil, "difference"
		}
		made[where[at]] += lists[rawDeltaDiff][i]
	}
	return made, pairs, ""
}

func validateReferences(tb testing.TB, kind exe.Kind, old, made []byte, pairs []validPair, deltaBytes []byte, pools map[byte][]byte) (broken []string) {
	tb.Helper()
	say := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	a, errA := exe.Parse(kind, old)
	b, errB := exe.Parse(kind, bytes.Clone(made))
	if errA != nil || errB != nil || a.Size() != len(old) || b.Size() != len(made) || !a.Certain() || !b.Certain() {
		return []string{fmt.Sprintf("no such executable: %v, %v", errA, errB)}
	}
	refs, err := a.References(tb.Context(), math.MaxInt)
	if err != nil {
		return []string{err.Error()}
	}
	deltas, _ := numbers(deltaBytes)
	zigzag(deltas)
	kept := validPrune(pairs)
	extend := func(o int64) int64 {
		if o >= int64(len(old)) {
			return min(int64(len(made))+o-int64(len(old)), exe.Bound-1)
		}
		best, distance := -1, int64(math.MaxInt64)
		for i, p := range kept { // nearest, the first of two; its end is one byte behind it
			var d int64
			switch {
			case o < p.src:
				d = p.src - o
			case o >= p.src+p.size:
				d = o - (p.src + p.size)
				if d >= 0 && i+1 < len(kept) && d == kept[i+1].src-o {
					d++ // equal distances go to the block behind
				}
			}
			if d < distance {
				best, distance = i, d
			}
		}
		return min(max(o+kept[best].dst-kept[best].src, 0), int64(len(made))-1)
	}
	r := b.Reader()
	for pool := range byte(3) {
		list, problem := numbers(pools[pool])
		if problem != "" {
			say("pool %d: %s", pool, problem)
		}
		targets := make(map[int64]bool)
		next := int64(0)
		for _, skip := range list {
			targets[next+skip] = true
			next += skip + 1
		}
		for _, g := range a.Groups() {
			if g.Pool != pool {
				continue
			}
			for _, ref := range refs[g.Type] {
				for _, p := range kept {
					if t := int64(ref.Target); t >= p.src && t < p.src+p.size {
						targets[t-p.src+p.dst] = true
					}
				}
			}
		}
		sorted := make([]int64, 0, len(targets))
		for t := range targets {
			sorted = append(sorted, t)
		}
		slices.Sort(sorted)
		for _, g := range a.Groups() {
			if g.Pool != pool {
				continue
			}
			width := int64(g.Width)
			for i, p := range pairs {
				// bodies have 8 bytes at most
				first, _ := slices.BinarySearchFunc(refs[g.Type], p.src-8, func(r exe.Ref, at int64) int { return cmp.Compare(int64(r.At), at) })
				for _, ref := range refs[g.Type][first:] {
					at := int64(ref.At)
					if at >= p.src+p.size {
						break
					}
					inside := at >= p.src && at+width <= p.src+p.size
					if !inside && at+width > p.src && at < p.src+p.size {
						say("an edge of equivalence %d is in the reference of type %d at %d", i, g.Type, at)
					}
					if !inside {
						continue
					}
					if len(deltas) == 0 {
						return append(broken, "too few reference deltas")
					}
					key, distance := int64(0), int64(math.MaxInt64)
					est := extend(int64(ref.Target))
					near, _ := slices.BinarySearch(sorted, est)
					for k := max(near-1, 0); k < min(near+1, len(sorted)); k++ {
						if d := max(sorted[k]-est, est-sorted[k]); d < distance {
							key, distance = int64(k), d
						}
					}
					key += deltas[0]
					deltas = deltas[1:]
					if key < 0 || key >= int64(len(sorted)) {
						return append(broken, fmt.Sprintf("key %d of %d", key, len(sorted)))
					}
					if !r.Put(made, g.Type, uint32(at-p.src+p.dst), uint32(sorted[key])) {
						say("reference of type %d at %d cannot be written", g.Type, at-p.src+p.dst)
					}
				}
			}
		}
	}
	if len(deltas) > 0 {
		say("%d reference deltas too many", len(deltas))
	}
	return broken
}

// validPrune leaves each old byte to one of the equivalences, as the format demands.
func validPrune(pairs []validPair) []validPair {
	list := slices.Clone(pairs)
	slices.SortStableFunc(list, func(a, b validPair) int {
		switch {
		case a.src != b.src:
			return int(a.src - b.src)
		case a.size != b.size:
			return int(b.size - a.size)
		}
		return int(a.dst - b.dst)
	})
next:
	for c := 0; c < len(list); c++ {
		if list[c].size == 0 {
			continue
		}
		end := list[c].src + list[c].size
		for n := c + 1; n < len(list) && list[n].src < end; n++ {
			if list[n].size > list[c].size {
				list[c].size = list[n].src - list[c].src
				for k := c + 1; k < n; k++ {
					list[k].size = 0
				}
				c = n - 1
				continue next
			}
		}
		for n := c + 1; n < len(list) && list[n].src < end; n++ {
			cut := min(list[n].size, end-list[n].src)
			list[n] = validPair{end, list[n].dst + cut, list[n].size - cut}
		}
	}
	return slices.DeleteFunc(list, func(p validPair) bool { return p.size == 0 })
}
