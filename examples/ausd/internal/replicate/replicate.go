// Package replicate is what an update server and its replicas say to each other about what is published: a statement, signed
// with a key that only the server has, that names the published snapshot by number and hash.
//
// A replica trusts the statement alone. What it is made of comes over any road and is compared with the hash, and a statement that is
// older than the last one, or has expired, changes nothing: who can stand between the two can neither put back an older state nor
// keep a replica at one without its noticing.
package replicate

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// How long things hold.
const (
	// Renew is after how long a server signs anew what has not changed.
	Renew = time.Hour
	// Valid is how long a statement holds: a replica misses two before it says so.
	Valid = 3 * Renew
	// Skew is how far a server's clock may be ahead of a replica's.
	Skew = 5 * time.Minute
)

// Errors that callers branch on.
var (
	// ErrSignature says that a statement is not signed with the server's key.
	ErrSignature = errors.New("replicate: not signed by the server")
	// ErrStatement says that a statement is signed, and still none.
	ErrStatement = errors.New("replicate: not a statement")
	// ErrOlder says that a later statement is known already.
	ErrOlder = errors.New("replicate: a later statement is known")
	// ErrExpired says that a statement has expired, or is of the future.
	ErrExpired = errors.New("replicate: the statement does not hold now")
	// ErrKey says that a text is no public key.
	ErrKey = errors.New("replicate: not a public key")
)

// Statement says what is published. Sequence always grows, also where an older state is published again.
type Statement struct {
	Sequence int64     `json:"sequence"`
	Hash     string    `json:"hash"`
	Time     time.Time `json:"time"`
	Expires  time.Time `json:"expires"`
	// URL is under which clients reach the server and its replicas.
	URL string `json:"url"`
	// Published, Author and Comment are of the snapshot.
	Published time.Time `json:"published"`
	Author    string    `json:"author"`
	Comment   string    `json:"comment"`
}

// Signed is a statement as it travels.
type Signed struct {
	Statement []byte `json:"statement"` // JSON; exactly these bytes are signed
	Signature []byte `json:"signature"`
}

// context keeps a signature from being taken for one of something else.
const context = "ausd statement 1\n"

// Sign signs a statement.
func Sign(key ed25519.PrivateKey, s Statement) (Signed, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return Signed{}, err
	}
	return Signed{text, ed25519.Sign(key, append([]byte(context), text...))}, nil
}

// Open checks who signed a statement, and nothing else.
func (s Signed) Open(key ed25519.PublicKey) (Statement, error) {
	var st Statement
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, append([]byte(context), s.Statement...), s.Signature) {
		return st, ErrSignature
	}
	if err := json.Unmarshal(s.Statement, &st); err != nil || st.Sequence < 0 || st.Time.IsZero() || !st.Expires.After(st.Time) {
		return Statement{}, fmt.Errorf("%w: %s", ErrStatement, s.Statement)
	}
	return st, nil
}

// After says whether a statement may follow another one, the zero one at first, at a time.
func (s Statement) After(last Statement, now time.Time) error {
	switch {
	case s.Sequence < last.Sequence, s.Sequence == last.Sequence && (s.Hash != last.Hash && last.Hash != "" || s.Time.Before(last.Time)):
		return fmt.Errorf("%w: this one is number %d of %s, that one %d of %s", ErrOlder, s.Sequence, s.Time.Format(time.RFC3339), last.Sequence, last.Time.Format(time.RFC3339))
	case !s.Expires.After(now), s.Time.After(now.Add(Skew)):
		return fmt.Errorf("%w: it holds from %s to %s", ErrExpired, s.Time.Format(time.RFC3339), s.Expires.Format(time.RFC3339))
	}
	return nil
}

// keyBegin tells a public key from other texts.
const keyBegin = "ed25519:"

// KeyText is a public key as configurations have it.
func KeyText(key ed25519.PublicKey) string { return keyBegin + base64.StdEncoding.EncodeToString(key) }

// ParseKey reads what [KeyText] wrote.
func ParseKey(text string) (ed25519.PublicKey, error) {
	encoded, ok := strings.CutPrefix(text, keyBegin)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%w: %q: want %s and 44 characters", ErrKey, text, keyBegin)
	}
	return key, nil
}

// Entry names an object of a snapshot by its hash; "" is one that is there no more.
type Entry struct {
	Kind string `json:"kind"`
	Key  string `json:"key"`
	Hash string `json:"hash"`
}

// Difference is what changed between two snapshots.
type Difference struct {
	From    int64   `json:"from"`
	To      int64   `json:"to"`
	Entries []Entry `json:"entries"`
}
