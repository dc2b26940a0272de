package zucchini

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/senbonzakura/senbonzakura/internal/exe"
)

// The container, version 2.0. All numbers are little-endian.
const (
	magic         = "Zucc"
	major         = 2
	minor         = 0
	headerSize    = 28
	elementHeader = 22
	noOp          = "NoOp"
	version       = 1 // of every type of element
	// maxSize is the size from which on files are refused: offsets of 32 bits have to leave room for addresses.
	maxSize = math.MaxInt32
)

// streams is how many lists of numbers an element has before those of its pools.
const streams = 7

var streamNames = [streams]string{"src_skip", "dst_skip", "copy_count", "extra_data", "raw_delta_skip", "raw_delta_diff", "reference_delta"}

const (
	srcSkip = iota
	dstSkip
	copyCount
	extraData
	rawDeltaSkip
	rawDeltaDiff
	referenceDelta
)

// Header is what stands at the start of a patch. The numbers are as the patch declares them.
type Header struct {
	// Major and Minor are the version of the format. Major is 2.
	Major uint16 `json:"major"`
	Minor uint16 `json:"minor"`
	// OldSize and OldCRC are the size of the old file in bytes and its CRC-32 as in zip and hash/crc32; NewSize and NewCRC
	// are those of the new file.
	OldSize uint32 `json:"old_size"`
	OldCRC  uint32 `json:"old_crc"`
	NewSize uint32 `json:"new_size"`
	NewCRC  uint32 `json:"new_crc"`
	// Elements is the number of elements.
	Elements uint32 `json:"elements"`
}

// IsPatch reports whether data, of which a patch's first four bytes are enough, begins like a Zucchini patch.
func IsPatch(data []byte) bool { return len(data) >= len(magic) && string(data[:len(magic)]) == magic }

// ParseHeader reads the first 28 bytes of a patch. It returns a *PatchError.
func ParseHeader(b []byte) (Header, error) {
	switch {
	case len(b) < headerSize:
		return Header{}, malformed(len(b), "patch ends too early")
	case !IsPatch(b):
		return Header{}, malformed(0, "magic %q, want %q", b[:4], magic)
	}
	h := Header{Major: binary.LittleEndian.Uint16(b[4:]), Minor: binary.LittleEndian.Uint16(b[6:])}
	for i, p := range []*uint32{&h.OldSize, &h.OldCRC, &h.NewSize, &h.NewCRC, &h.Elements} {
		*p = binary.LittleEndian.Uint32(b[8+4*i:])
	}
	if h.Major != major {
		return Header{}, malformed(4, "version %d.%d, want %d", h.Major, h.Minor, major)
	}
	return h, nil
}

// equivalence is a part of an element that is made from old bytes. Offsets count from the start of the element's
// regions.
type equivalence struct{ src, dst, size uint32 }

// element is a part of a patch.
type element struct {
	index        int
	oldAt, oldN  uint32
	newAt, newN  uint32
	plain        bool // no executable
	alien        bool // of a type that the updater knows by name only
	kind         exe.Kind
	pairs        []equivalence
	stream       [streams][]byte
	pools        [exe.Pools][]byte
	count        int  // of pools, also of those that mean nothing
	left         bool // there are numbers that belong to no equivalence
	loose        bool // the last equivalence is the end of the list for the updater
	offset, size int  // in the patch
}

// name returns the four characters that name the element's type.
func (e *element) name() string {
	switch {
	case e.plain:
		return noOp
	case e.alien:
		return "alien"
	}
	return e.kind.String()
}

// cursor is a place in a patch.
type cursor struct {
	data []byte
	at   int
	e    *element
}

func (c *cursor) take(n uint32, what string) ([]byte, error) {
	if uint64(n) > uint64(len(c.data)-c.at) {
		return nil, c.e.fault(c.at, "%s of %d bytes, %d are left", what, n, len(c.data)-c.at)
	}
	b := c.data[c.at:][:n:n]
	c.at += int(n)
	return b, nil
}

func (c *cursor) uint32(what string) (uint32, error) {
	b, err := c.take(4, what)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

// buffer takes a size and so many bytes.
func (c *cursor) buffer(what string) ([]byte, error) {
	n, err := c.uint32("size of " + what)
	if err != nil {
		return nil, err
	}
	return c.take(n, what)
}

// parse reads a whole patch, of which the elements keep parts. It checks what the updater checks before it looks at the old
// file.
func parse(patch []byte, limits Limits) (Header, []*element, error) {
	h, err := ParseHeader(patch)
	if err != nil {
		return Header{}, nil, err
	}
	c := &cursor{data: patch, at: headerSize}
	var elements []*element
	end := uint32(0)
	for i := range h.Elements {
		e, err := c.element(int(i))
		if err != nil {
			return Header{}, nil, err
		}
		switch {
		case e.newAt != end:
			return Header{}, nil, e.fault(e.offset+8, "new bytes from %d, want %d", e.newAt, end)
		case e.newN > h.NewSize-end:
			return Header{}, nil, e.fault(e.offset+12, "%d new bytes, %d are left", e.newN, h.NewSize-end)
		case e.oldAt > h.OldSize || e.oldN > h.OldSize-e.oldAt:
			return Header{}, nil, e.fault(e.offset, "old bytes from %d to %d of a file of %d", e.oldAt, uint64(e.oldAt)+uint64(e.oldN), h.OldSize)
		}
		end += e.newN
		elements = append(elements, e)
	}
	if end != h.NewSize {
		return Header{}, nil, malformed(24, "elements make %d bytes of a new file of %d", end, h.NewSize)
	}
	if c.at != len(patch) {
		return Header{}, nil, malformed(c.at, "%d bytes behind the last element", len(patch)-c.at)
	}
	if n := limits.newSize(); int64(h.NewSize) > n {
		return Header{}, nil, &PatchError{Err: ErrTooLarge, Detail: fmt.Sprintf("new file of %d bytes, the limit is %d", h.NewSize, n), Element: -1, Offset: 16}
	}
	return h, elements, nil
}

// element reads the next element.
func (c *cursor) element(index int) (*element, error) {
	e := &element{index: index, offset: c.at}
	c.e = e
	head, err := c.take(elementHeader, "header")
	if err != nil {
		return nil, err
	}
	for i, p := range []*uint32{&e.oldAt, &e.oldN, &e.newAt, &e.newN} {
		*p = binary.LittleEndian.Uint32(head[4*i:])
	}
	name, want := string(head[16:20]), uint16(version)
	switch kind, ok := exe.KindOf(name); {
	case name == noOp:
		e.plain = true
	case name == "DEX " || name == "ZTF ":
		e.alien, want = true, math.MaxUint16
	case !ok:
		return nil, e.fault(e.offset+16, "type %q", name)
	default:
		e.kind = kind
	}
	if v := binary.LittleEndian.Uint16(head[20:]); v != want {
		return nil, e.fault(e.offset+20, "version %d of type %s, want %d", v, name, want)
	}
	if e.oldN == 0 || e.newN == 0 {
		return nil, e.fault(e.offset, "%d old and %d new bytes", e.oldN, e.newN)
	}
	for i, what := range streamNames {
		if e.stream[i], err = c.buffer(what); err != nil {
			return nil, err
		}
	}
	n, err := c.uint32("number of pools")
	if err != nil {
		return nil, err
	}
	var seen [256]bool
	for range n {
		tag, err := c.take(1, "pool")
		if err != nil {
			return nil, err
		}
		if tag[0] == 255 || seen[tag[0]] {
			return nil, e.fault(c.at-1, "pool %d is there twice, or cannot be", tag[0])
		}
		seen[tag[0]] = true
		b, err := c.buffer("pool")
		if err != nil {
			return nil, err
		}
		if int(tag[0]) < len(e.pools) {
			e.pools[tag[0]] = b
		}
		e.count++
	}
	e.size = c.at - e.offset
	return e, e.equivalences()
}

// equivalences reads the three lists that say which bytes come from where. They end with the first list that does, or with
// a number that leads below zero or over 32 bits; what is wrong with a last one shows only when the patch is applied.
func (e *element) equivalences() error {
	src, dst, size := e.stream[srcSkip], e.stream[dstSkip], e.stream[copyCount]
	n := min(len(src), len(dst), len(size))
	if n < 1<<16 {
		e.pairs = make([]equivalence, 0, n)
	}
	nextSrc, nextDst := int64(0), int64(0)
	total := uint64(0)
	for len(src) > 0 && len(dst) > 0 && len(size) > 0 {
		length, ok := uvarint(&size)
		if !ok {
			break
		}
		skip, ok := varint(&src)
		if !ok {
			break
		}
		from := nextSrc + int64(skip)
		if from < 0 || from+int64(length) > math.MaxUint32 {
			break
		}
		gap, ok := uvarint(&dst)
		if !ok {
			break
		}
		to := nextDst + int64(gap)
		if to > math.MaxUint32 {
			e.loose = true
			break
		}
		nextSrc, nextDst = from+int64(length), to+int64(length)
		switch {
		case from >= int64(e.oldN) || nextSrc > int64(e.oldN):
			return e.fault(e.offset, "equivalence %d takes old bytes from %d to %d of %d", len(e.pairs), from, nextSrc, e.oldN)
		case to >= int64(e.newN) || nextDst > int64(e.newN):
			return e.fault(e.offset, "equivalence %d makes new bytes from %d to %d of %d", len(e.pairs), to, nextDst, e.newN)
		}
		total += uint64(length)
		e.pairs = append(e.pairs, equivalence{uint32(from), uint32(to), length})
	}
	e.left = len(src) > 0 || len(dst) > 0 || len(size) > 0
	if total += uint64(len(e.stream[extraData])); total != uint64(e.newN) {
		return e.fault(e.offset, "equivalences and extra data make %d bytes of %d", total, e.newN)
	}
	return nil
}

func (h Header) append(b []byte) []byte {
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint16(b, h.Major)
	b = binary.LittleEndian.AppendUint16(b, h.Minor)
	for _, v := range []uint32{h.OldSize, h.OldCRC, h.NewSize, h.NewCRC, h.Elements} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

// pieces calls write for each part of the element as it stands in a patch. Its equivalences stand in the lists already.
func (e *element) pieces(write func(b []byte) error) error {
	head := make([]byte, 0, elementHeader+4)
	for _, v := range []uint32{e.oldAt, e.oldN, e.newAt, e.newN} {
		head = binary.LittleEndian.AppendUint32(head, v)
	}
	head = append(head, e.name()...)
	head = binary.LittleEndian.AppendUint16(head, version)
	for _, s := range e.stream {
		if err := write(binary.LittleEndian.AppendUint32(head, uint32(len(s)))); err != nil {
			return err
		}
		if err := write(s); err != nil {
			return err
		}
		head = head[:0]
	}
	pools := 0
	if !e.plain {
		pools = exe.Pools
	}
	if err := write(binary.LittleEndian.AppendUint32(nil, uint32(pools))); err != nil {
		return err
	}
	for tag, p := range e.pools[:pools] {
		if err := write(binary.LittleEndian.AppendUint32([]byte{byte(tag)}, uint32(len(p)))); err != nil {
			return err
		}
		if err := write(p); err != nil {
			return err
		}
	}
	return nil
}

// length returns the size of the element in a patch.
func (e *element) length() int64 {
	n := int64(0)
	_ = e.pieces(func(b []byte) error {
		n += int64(len(b))
		return nil
	})
	return n
}
