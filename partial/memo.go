package partial

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"

	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// A Memo remembers what compressed members hold, as a [DigestCache] does, but only as long as its process lives. That
// lets it name members by a message authentication code (GMAC) under a random key that nobody gets to see, which takes
// a quarter of the time of SHA-256. Without the key, two members of one name cannot be made: whatever they are, the
// chance is below 1 in 2^100.
//
// It holds up to 65,536 members, about 10 MB, and forgets those that were not asked for lately. It is safe for concurrent
// use. Share one between all Builds of a process.
type Memo struct {
	mac cipher.AEAD // nil where the program must not use it in this way: names are SHA-256 then

	mu       sync.Mutex
	now, old map[memberName]Digest // what was used since now was begun, and in the time before
}

// memberName stands for the compressed bytes of a member: for one build their SHA-256 or what a [Memo] makes of them.
type memberName [sha256.Size]byte

const (
	maxMemo = 1 << 15 // of now and of old
	// memoChunk is what one code is made over: a buffer that stays in the processor's cache.
	memoChunk = 256 << 10
)

var memoBuffers = sync.Pool{New: func() any { return new([memoChunk]byte) }}

// NewMemo returns an empty memo with a key of its own.
func NewMemo() *Memo {
	m := &Memo{now: make(map[memberName]Digest)}
	var key [32]byte
	rand.Read(key[:]) // never fails
	if block, err := aes.NewCipher(key[:]); err == nil {
		if m.mac, err = cipher.NewGCM(block); err != nil {
			m.mac = nil // GODEBUG=fips140=only refuses nonces that are not random, which nothing here is encrypted under
		}
	}
	return m
}

// name names a member: by its size and the code over the codes of its chunks.
func (m *Memo) name(of *updater.Member) (memberName, error) {
	if m.mac == nil {
		return sumOf(of)
	}
	buf := memoBuffers.Get().(*[memoChunk]byte)
	defer memoBuffers.Put(buf)
	var nonce [12]byte
	// One key and one nonce for many messages would give a reader of the codes the key. Nobody reads them.
	code := func(dst, data []byte, number uint64) []byte {
		binary.BigEndian.PutUint64(nonce[:], number)
		return m.mac.Seal(dst, nonce[:], nil, data)
	}
	codes := make([]byte, 0, 16*(1+of.Size/memoChunk))
	in := of.Section()
	for off := int64(0); off < of.Size; off += memoChunk {
		data := buf[:min(memoChunk, of.Size-off)]
		if err := readAll(in, data, off, of.Name); err != nil {
			return memberName{}, err
		}
		codes = code(codes, data, uint64(off/memoChunk)+1)
	}
	var name memberName
	binary.BigEndian.PutUint64(name[:], uint64(of.Size))
	code(name[16:16], codes, 0)
	return name, nil
}

func (m *Memo) digest(name memberName) (Digest, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.now[name]
	if !ok {
		if d, ok = m.old[name]; ok {
			m.put(name, d)
		}
	}
	return d, ok
}

func (m *Memo) putDigest(name memberName, d Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(name, d)
}

func (m *Memo) put(name memberName, d Digest) {
	if len(m.now) >= maxMemo {
		m.now, m.old = make(map[memberName]Digest), m.now
	}
	m.now[name] = d
}
