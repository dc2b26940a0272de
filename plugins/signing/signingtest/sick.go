package signingtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/signing"
)

// Mode is a way in which a sick backend misbehaves when it is asked to sign.
type Mode string

// The modes. Those that end the process need a process of their own: never use them with Local.
const (
	Healthy     Mode = ""
	CrashBefore Mode = "crash-before" // ends the process without an answer
	CrashAfter  Mode = "crash-after"  // answers, then ends the process
	Panic       Mode = "panic"        // panics in a goroutine of its own
	PanicInCall Mode = "panic-in-call"
	Hang        Mode = "hang"      // never answers, whatever the context says
	Late        Mode = "late"      // answers correctly, after the deadline
	Flood       Mode = "flood"     // writes 16 MiB without a newline to its log first
	LogBomb     Mode = "log-bomb"  // writes log lines that are JSON of the wrong types
	Print       Mode = "print"     // prints garbage to standard output
	Oversize    Mode = "oversize"  // answers with 5 MiB
	Flipped     Mode = "flipped"   // one bit of the signature is wrong
	OtherKey    Mode = "other-key" // a signature by another key
	OtherDigest Mode = "other-digest"
	Short       Mode = "short" // one byte is missing
	Long        Mode = "long"  // one byte too many
	Zero        Mode = "zero"  // all bytes are zero
	Empty       Mode = "empty"
	Lying       Mode = "lying" // reports success without having signed: the digest, padded
	Denying     Mode = "denying"
)

// BadSignatures lists the modes that answer with something that is no signature of the digest by the key.
func BadSignatures() []Mode {
	return []Mode{Flipped, OtherKey, OtherDigest, Short, Long, Zero, Empty, Lying}
}

// Faults lists the modes that fail in some other way.
func Faults() []Mode {
	return []Mode{CrashBefore, CrashAfter, Panic, PanicInCall, Hang, Late, Flood, LogBomb, Print, Oversize, Denying}
}

// Sick returns a backend that does what b does, but misbehaves in Sign when the request's key ID ends with
// "!" and a mode, for example "release!flipped"; the part before is the key. So one process can be sick in one
// call and healthy in the next.
func Sick(b signing.Backend) signing.Backend { return &sick{b} }

type sick struct{ signing.Backend }

// Keys lists each key once more for each mode.
func (s *sick) Keys(ctx context.Context) ([]signing.Key, error) {
	keys, err := s.Backend.Keys(ctx)
	if err != nil {
		return nil, err
	}
	out := keys
	for _, k := range keys {
		for _, m := range append(BadSignatures(), Faults()...) {
			k.ID = strings.SplitN(k.ID, "!", 2)[0] + "!" + string(m)
			out = append(out, k)
		}
	}
	return out, nil
}

func (s *sick) Sign(ctx context.Context, r signing.Request) ([]byte, error) {
	id, mode, _ := strings.Cut(r.KeyID, "!")
	r.KeyID = id
	stderr := os.NewFile(2, "stderr") // os.Stderr is a pipe by now
	switch Mode(mode) {
	case CrashBefore:
		os.Exit(9)
	case Panic:
		go func() { panic("sick in a goroutine") }()
		select {}
	case PanicInCall:
		panic("sick")
	case Hang:
		select {}
	case Flood:
		block := bytes.Repeat([]byte("flood"), 1<<18)
		for range 13 {
			if _, err := stderr.Write(block); err != nil {
				return nil, err
			}
		}
	case LogBomb:
		if _, err := fmt.Fprintln(stderr, `{"@message":1,"@level":[],"@timestamp":{},"level":2,"msg":{"a":[]}}`); err != nil {
			return nil, err
		}
	case Print:
		fmt.Println("1|1|unix|/garbage|grpc|")
	case Oversize:
		return make([]byte, 5<<20), nil
	case Denying:
		return nil, fmt.Errorf("not today: %w", plugins.ErrDenied)
	}
	sig, err := s.Backend.Sign(ctx, r)
	if err != nil {
		return nil, err
	}
	switch Mode(mode) {
	case CrashAfter:
		time.AfterFunc(time.Millisecond, func() { os.Exit(9) })
	case Late:
		<-ctx.Done()
		return sig, nil
	case Flipped:
		sig[len(sig)/2] ^= 1
	case OtherKey:
		return otherKey(r, len(sig))
	case OtherDigest:
		sum := sha512.Sum384(r.Digest)
		r.Digest = sum[:r.Algorithm.Hash().Size()]
		return s.Backend.Sign(ctx, r)
	case Short:
		sig = sig[:len(sig)-1]
	case Long:
		sig = append(sig, 0)
	case Zero:
		clear(sig)
	case Empty:
		sig = nil
	case Lying:
		clear(sig)
		copy(sig, r.Digest)
	}
	return sig, nil
}

// otherKey signs with a key that is made on the spot.
func otherKey(r signing.Request, size int) ([]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, size*8)
	if err != nil {
		return nil, err
	}
	return key.Sign(rand.Reader, r.Digest, r.Algorithm.Hash())
}
