package xz

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/iotest"
)

func TestUpdaterAccepts(t *testing.T) {
	t.Parallel()
	member := pack(t, sample(3000), WriterOptions{Filter: X86})
	block := stored([]byte("hello"))
	with := func(filters ...filterSpec) []byte {
		return container{blocks: []part{stored([]byte("hello"), filters...)}}.bytes()
	}
	dict := func(b byte) []byte {
		p := stored([]byte("hello"))
		p.filters = []filterSpec{lzma2(b)}
		return container{blocks: []part{p}}.bytes()
	}
	join := func(p ...[]byte) []byte { return bytes.Join(p, nil) }
	sized := block
	sized.flags, sized.packed = 0xC0, uint64(len(block.data))
	wrong := sized
	wrong.packed++
	for _, c := range []struct {
		name   string
		packed []byte
		kind   error
		why    string // in the error
	}{
		{"x86", member, nil, ""},
		{"no filter", with(), nil, ""},
		{"arm", with(filterSpec{ARM.id(), nil}), nil, ""},
		{"no bytes", pack(t, nil, WriterOptions{}), nil, ""},
		{"crc32", pack(t, sample(10), WriterOptions{Check: CRC32}), nil, ""},
		{"no check", pack(t, sample(10), WriterOptions{Check: CheckNone}), nil, ""},
		{"two blocks", container{blocks: []part{block, block}}.bytes(), nil, ""},
		{"two blocks with other filters", container{blocks: []part{block, stored([]byte("x"), filterSpec{4, nil})}}.bytes(), nil, ""},
		{"sizes in the block header", container{blocks: []part{sized}}.bytes(), nil, ""},
		{"64 MiB", dict(28), nil, ""},
		{"properties change", pack(t, sample(9000), WriterOptions{Level: Best, Blocks: []Block{{100, 0, 4, 4}, {9, 4, 0, 0}}}), nil, ""},

		{"96 MiB", dict(29), ErrRefused, "64 MiB"},
		{"sha256", pack(t, sample(10), WriterOptions{Check: SHA256}), ErrRefused, "SHA-256"},
		{"armthumb", with(filterSpec{ARMThumb.id(), nil}), ErrRefused, "armthumb"},
		{"arm64", with(filterSpec{ARM64.id(), nil}), ErrRefused, "arm64"},
		{"powerpc", with(filterSpec{PowerPC.id(), nil}), ErrRefused, "powerpc"},
		{"ia64", with(filterSpec{IA64.id(), nil}), ErrRefused, "ia64"},
		{"sparc", with(filterSpec{SPARC.id(), nil}), ErrRefused, "sparc"},
		{"delta", with(filterSpec{idDelta, []byte{3}}), ErrRefused, "delta"},
		{"two filters", with(filterSpec{4, nil}, filterSpec{4, nil}), ErrRefused, "more than one filter"},
		{"start offset 0, but named", with(filterSpec{4, []byte{0, 0, 0, 0}}), ErrRefused, "start offset"},
		{"second block has delta", container{blocks: []part{block, stored([]byte("x"), filterSpec{idDelta, []byte{0}})}}.bytes(), ErrRefused, "delta"},
		{"second stream", join(member, member), ErrRefused, "second stream"},
		{"padding", join(member, make([]byte, 4)), ErrRefused, "behind the stream"},
		{"a byte behind", join(member, []byte{7}), ErrRefused, "behind the stream"},

		{"start offset 256", with(filterSpec{4, []byte{0, 1, 0, 0}}), ErrUnsupported, ""},
		{"nothing", nil, ErrFormat, ""},
		{"raw", []byte("some text that is not compressed"), ErrFormat, ""},
		{"bzip2", []byte("BZh91AY&SYabcdefghijk"), ErrFormat, ""},
		{"wrong size in the block header", container{blocks: []part{wrong}}.bytes(), ErrCorrupt, ""},
		{"chunk order", container{blocks: []part{{filters: block.filters, data: []byte{2, 0, 0, 'x', 0}}}}.bytes(), ErrCorrupt, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := UpdaterAccepts(bytes.NewReader(c.packed))
			if !errors.Is(err, c.kind) {
				t.Fatalf("got %v, want %v", err, c.kind)
			}
			if c.why != "" && !strings.Contains(err.Error(), c.why) {
				t.Errorf("got %q, which does not say %q", err, c.why)
			}
			if again := UpdaterAccepts(iotest.OneByteReader(bytes.NewReader(c.packed))); !errors.Is(again, c.kind) {
				t.Errorf("byte by byte: %v", again)
			}
			// What is accepted or refused is valid; the rest is not.
			if _, err := readAll(c.packed, &Limits{Dict: 1 << 30}); (err == nil) != (c.kind == nil || errors.Is(c.kind, ErrRefused) && c.name != "a byte behind") {
				t.Errorf("a Reader says %v", err)
			}
		})
	}
}

// What xz makes where Mozilla's scripts call it is accepted.
func TestUpdaterAcceptsScripts(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"-7e", "--x86", "--lzma2", "--check=crc64", "-c"}, // full files
		{"-7e", "--lzma2", "--check=crc64", "-c"},          // patches
		{"-9", "-e", "-c"}, {"-7", "-e", "-c"}, // patches of the zucchini script
	} {
		packed := program(t, sample(50_000), append(args, "-T1")...)
		if err := UpdaterAccepts(bytes.NewReader(packed)); err != nil {
			t.Errorf("xz %q: %v", args, err)
		}
	}
}
