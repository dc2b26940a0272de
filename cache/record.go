package cache

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"time"
)

// An entry's file is the value, then one record of recordSize bytes that says what the value must be. Numbers
// are big-endian.
//
//	offset  bytes
//	0       8      magic "SnbzEnt\n"
//	8       2      version, 1
//	10      2      flags: 1 = negative, the value is the reason of a failure; 2 = known by its SHA-512
//	12      4      0
//	16      16     kind, padded with zeros
//	32      32     sum of the key
//	64      8      size of the value
//	72      32     SHA-256 of the value, with flag 2 the first half of its SHA-512
//	104     8      stored at, seconds since 1970
//	112     8      forgotten at, seconds since 1970 (negative entries), else 0
//	120     4      0
//	124     4      CRC-32C of the 124 bytes before
//
// It stands at the end and not at the start so that a verified file of any length is adopted by appending to it
// and renaming it, without copying.
const (
	recordMagic   = "SnbzEnt\n"
	recordVersion = 1
	recordSize    = 128
	kindSize      = 16

	flagNegative = 1
	flagLong     = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type record struct {
	info     Info     // without hashes
	sum      [32]byte // of the value
	long     bool     // sum is the first half of a SHA-512
	negative bool
	stored   time.Time
	expires  time.Time // of negative entries
}

func (r *record) append(b []byte) []byte {
	start := len(b)
	b = append(b, recordMagic...)
	b = binary.BigEndian.AppendUint16(b, recordVersion)
	var flags uint16
	var expires int64
	if r.negative {
		flags, expires = flagNegative, r.expires.Unix()
	}
	if r.long {
		flags |= flagLong
	}
	b = binary.BigEndian.AppendUint16(b, flags)
	b = append(b, 0, 0, 0, 0)
	var kind [kindSize]byte
	copy(kind[:], r.info.Key.Kind)
	b = append(b, kind[:]...)
	b = append(b, r.info.Key.Sum[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.info.Size))
	b = append(b, r.sum[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.stored.Unix()))
	b = binary.BigEndian.AppendUint64(b, uint64(expires))
	b = append(b, 0, 0, 0, 0)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// digest computes the hash that a value is known by.
type digest struct {
	hash.Hash
	long bool // SHA-512
}

func newDigest(long bool) digest {
	if long {
		return digest{sha512.New(), true}
	}
	return digest{sha256.New(), false}
}

// String names the hash.
func (d digest) String() string {
	if d.long {
		return "SHA-512"
	}
	return "SHA-256"
}

// fill puts the hash of what was written into a description.
func (d digest) fill(i *Info) {
	if d.long {
		d.Sum(i.SHA512[:0])
	} else {
		d.Sum(i.SHA256[:0])
	}
}

// short returns what a record holds of the hash in a description.
func (i *Info) short() [32]byte {
	if i.byLong() {
		return [32]byte(i.SHA512[:32])
	}
	return i.SHA256
}

// parseRecord checks everything that can be checked without the value: total is the size of the file.
func parseRecord(b []byte, total int64) (record, error) {
	var r record
	switch {
	case len(b) != recordSize:
		return r, fmt.Errorf("%w: record is cut", ErrCorrupt)
	case string(b[:8]) != recordMagic:
		return r, fmt.Errorf("%w: no record at the end", ErrCorrupt)
	case crc32.Checksum(b[:124], castagnoli) != binary.BigEndian.Uint32(b[124:]):
		return r, fmt.Errorf("%w: record's checksum differs", ErrCorrupt)
	case binary.BigEndian.Uint16(b[8:]) != recordVersion:
		return r, fmt.Errorf("%w: record has version %d", ErrCorrupt, binary.BigEndian.Uint16(b[8:]))
	}
	flags := binary.BigEndian.Uint16(b[10:])
	if flags&^(flagNegative|flagLong) != 0 {
		return r, fmt.Errorf("%w: record has flags %#x", ErrCorrupt, flags)
	}
	r.info.Key.Kind = Kind(bytes.TrimRight(b[16:32], "\x00"))
	copy(r.info.Key.Sum[:], b[32:])
	size := binary.BigEndian.Uint64(b[64:])
	if total < recordSize || size != uint64(total-recordSize) {
		return r, fmt.Errorf("%w: %d bytes where the record says %d", ErrCorrupt, total-recordSize, size)
	}
	r.info.Size = int64(size)
	copy(r.sum[:], b[72:])
	r.long = flags&flagLong != 0
	r.stored = time.Unix(int64(binary.BigEndian.Uint64(b[104:])), 0)
	if r.negative = flags&flagNegative != 0; r.negative {
		r.expires = time.Unix(int64(binary.BigEndian.Uint64(b[112:])), 0)
	}
	return r, nil
}
