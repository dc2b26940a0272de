package replicate

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestStatement(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	at := func(seq int64, hash string, when time.Time) Statement {
		return Statement{Sequence: seq, Hash: hash, Time: when, Expires: when.Add(Valid)}
	}
	last := at(5, "a", now.Add(-time.Hour))
	for _, tt := range []struct {
		name string
		s    Statement
		want error
	}{
		{"the next", at(6, "b", now), nil},
		{"signed anew", at(5, "a", now), nil},
		{"the same again", last, nil},
		{"an older number", at(4, "c", now), ErrOlder},
		{"an earlier signature of the same", at(5, "a", now.Add(-2*time.Hour)), ErrOlder},
		{"another one of the same number", at(5, "b", now), ErrOlder},
		{"expired", at(6, "b", now.Add(-Valid)), ErrExpired},
		{"of the future", at(6, "b", now.Add(Skew+time.Second)), ErrExpired},
		{"a little ahead", at(6, "b", now.Add(Skew-time.Second)), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			signed, err := Sign(private, tt.s)
			if err != nil {
				t.Fatal(err)
			}
			s, err := signed.Open(public)
			if err != nil || s != tt.s {
				t.Fatalf("%+v, %v", s, err)
			}
			if err := s.After(last, now); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			for i := range signed.Statement { // no byte of it can be changed
				bad := Signed{append([]byte{}, signed.Statement...), signed.Signature}
				bad.Statement[i] ^= 1
				if _, err := bad.Open(public); !errors.Is(err, ErrSignature) {
					t.Fatalf("byte %d changed: %v", i, err)
				}
			}
		})
	}
	other, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := Sign(private, at(6, "b", now))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signed.Open(other); !errors.Is(err, ErrSignature) {
		t.Errorf("another key: %v", err)
	}
	if _, err := signed.Open(nil); !errors.Is(err, ErrSignature) {
		t.Errorf("no key: %v", err)
	}
	for _, text := range []string{`{}`, `[]`, `{"sequence": -1, "time": "2026-12-01T12:00:00Z", "expires": "2026-12-01T13:00:00Z"}`, `{"sequence": 1, "time": "2026-12-01T12:00:00Z", "expires": "2026-12-01T12:00:00Z"}`} {
		s := Signed{[]byte(text), ed25519.Sign(private, []byte(context+text))}
		if _, err := s.Open(public); !errors.Is(err, ErrStatement) {
			t.Errorf("%s: %v", text, err)
		}
	}
	text := KeyText(public)
	if key, err := ParseKey(text); err != nil || !key.Equal(public) {
		t.Errorf("%v, %v", key, err)
	}
	for _, bad := range []string{"", text[1:], text[:len(text)-4], strings.TrimPrefix(text, keyBegin), text + "AAAA"} {
		if _, err := ParseKey(bad); !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
