package bsdiff

import (
	"math/rand/v2"
	"testing"
)

// slowChecksum is the definition, bit by bit.
func slowChecksum(data []byte) uint32 {
	crc := ^uint32(0)
	for _, b := range data {
		crc ^= uint32(b) << 24
		for range 8 {
			if crc>>31 == 1 {
				crc = crc<<1 ^ 0x04C11DB7
			} else {
				crc <<= 1
			}
		}
	}
	return ^crc
}

func TestChecksum(t *testing.T) {
	t.Parallel()
	if got, want := Checksum([]byte("123456789")), uint32(0xFC891918); got != want {
		t.Errorf("got %08x, want %08x", got, want)
	}
	if got := Checksum(nil); got != 0 {
		t.Errorf("checksum of nothing: got %08x, want 0", got)
	}
	r := rand.New(rand.NewPCG(1, 1))
	data := make([]byte, 20_000)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	for range 300 {
		from := r.IntN(len(data))
		to := from + r.IntN(len(data)-from+1)
		if r.IntN(2) == 0 {
			to = min(to, from+r.IntN(40))
		}
		part := data[from:to]
		want := slowChecksum(part)
		if got := Checksum(part); got != want {
			t.Fatalf("%d bytes: got %08x, want %08x", len(part), got, want)
		}
		at := r.IntN(len(part) + 1)
		if got := UpdateChecksum(Checksum(part[:at]), part[at:]); got != want {
			t.Fatalf("%d bytes in two parts: got %08x, want %08x", len(part), got, want)
		}
	}
}

func BenchmarkChecksum(b *testing.B) {
	data := make([]byte, 1<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		Checksum(data)
	}
}
