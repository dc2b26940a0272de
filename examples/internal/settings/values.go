package settings

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Duration is a time span, written as "90s", "1h30m" or "7d".
type Duration struct{ time.Duration }

// UnmarshalText reads what a person wrote.
func (d *Duration) UnmarshalText(text []byte) error {
	s := string(text)
	var days time.Duration
	if n, rest, ok := strings.Cut(s, "d"); ok {
		count, err := strconv.ParseUint(n, 10, 16)
		if err != nil {
			return fmt.Errorf("%q is not a time span such as \"30s\", \"15m\", \"2h\" or \"7d\"", s)
		}
		if days, s = time.Duration(count)*24*time.Hour, rest; s == "" {
			s = "0s"
		}
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a time span such as \"30s\", \"15m\", \"2h\" or \"7d\"", string(text))
	}
	d.Duration = days + v
	return nil
}

// MarshalText writes it as it can be read.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String writes whole days as such, and no zeros behind.
func (d Duration) String() string {
	const day = 24 * time.Hour
	if d.Duration >= day && d.Duration%day == 0 {
		return strconv.FormatInt(int64(d.Duration/day), 10) + "d"
	}
	s := d.Duration.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Size is a number of bytes, written as "512MB" or "20GB". Units are powers of 1024, with or without an i.
type Size int64

var units = []struct {
	name  string
	bytes int64
}{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"KB", 1 << 10}, {"B", 1}}

// UnmarshalText reads what a person wrote.
func (b *Size) UnmarshalText(text []byte) error {
	s := strings.ToUpper(strings.ReplaceAll(string(text), " ", ""))
	s = strings.Replace(s, "IB", "B", 1)
	for _, u := range units {
		n, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(n, 64)
		if err != nil || !(v >= 0 && v*float64(u.bytes) <= 1<<62) {
			break
		}
		*b = Size(v * float64(u.bytes))
		return nil
	}
	if s == "0" {
		*b = 0
		return nil
	}
	return fmt.Errorf("%q is not a size such as \"512MB\" or \"20GB\"", string(text))
}

// MarshalText writes it as it can be read.
func (b Size) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

func (b Size) String() string {
	for _, u := range units {
		if int64(b) >= u.bytes && int64(b)%u.bytes == 0 {
			return strconv.FormatInt(int64(b)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}

// Secret is a value that is never printed.
type Secret string

const masked = "(secret)"

// MarshalText hides it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes it as it is.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = Secret(text)
	return nil
}

// String hides it.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return masked
}

// GoString hides it from %#v.
func (s Secret) GoString() string { return s.String() }

// Reveal returns it.
func (s Secret) Reveal() string { return string(s) }
