package aus

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// conflicts looks for two groups of updateLine that set one field for one client.
func (c *checker) conflicts(v *value) {
	groups := v.get("updateLine").items
	texts := make([]string, len(groups))
	for i := range groups {
		texts[i] = string(groups[i].appendJSON(nil, jsonStyle{sorted: true}))
	}
	for i := range groups {
		for j := i + 1; j < len(groups); j++ {
			if texts[i] == texts[j] {
				continue
			}
			var shared []string
			for _, m := range groups[i].get("fields").members {
				if groups[j].get("fields").has(m.key) {
					shared = append(shared, m.key)
				}
			}
			if len(shared) == 0 {
				continue
			}
			both, err := overlap(groups[i].get("for"), groups[j].get("for"), c.opts.Strict)
			if err != nil {
				c.report(fmt.Sprintf("updateLine[%d], [%d]", i, j), "%v", err)
			} else if both {
				c.report(fmt.Sprintf("updateLine[%d], [%d]", i, j), "both set %s for some clients", strings.Join(shared, ", "))
			}
		}
	}
}

// overlap says whether the conditions of two groups can hold together.
func overlap(a, b *value, strict bool) (bool, error) {
	for _, condition := range []struct {
		key     string
		overlap func(a, b string) (bool, error)
	}{
		{"channels", overlapChannels},
		{"locales", func(a, b string) (bool, error) { return a == b, nil }},
		{"versions", choose(strict, strictVersions, overlapVersions)},
		{"buildIDs", choose(strict, strictBuildIDs, overlapBuildIDs)},
	} {
		if !a.has(condition.key) || !b.has(condition.key) {
			continue
		}
		some := false
		for _, x := range a.get(condition.key).items {
			for _, y := range b.get(condition.key).items {
				both, err := condition.overlap(x.text, y.text)
				if err != nil {
					return false, err
				}
				some = some || both
			}
		}
		if !some {
			return false, nil
		}
	}
	return true, nil
}

func choose[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

func overlapChannels(a, b string) (bool, error) {
	one := func(pattern, channel string) bool {
		p := newChannelPattern(pattern)
		channel = strings.TrimSuffix(channel, "*")
		match, _ := p.balrog(channel)
		if !match {
			match, _ = p.balrog(fallbackChannel(channel))
		}
		return match
	}
	return a == b || one(a, b) || one(b, a), nil
}

// Balrog looks whether the nearest version inside one range satisfies the other; two of one value without operators are
// a conflict, two others without operators end in an error of its own.

var errPlain = errors.New("two conditions without operators that differ, which Balrog fails on")

func strictVersions(a, b string) (bool, error) {
	return strictOverlap(a, b, nearVersion, func(op operator, a, b string) (bool, error) {
		v, w := parseVersion(a), parseVersion(b)
		if !v.valid || !w.valid {
			return false, errors.New(badVersion(a + " or " + b))
		}
		if op == glob {
			return v.matches(&w), nil
		}
		return op.holds(v.compare(&w)), nil
	}, true)
}

func strictBuildIDs(a, b string) (bool, error) {
	return strictOverlap(a, b, nearBuildID, func(op operator, a, b string) (bool, error) {
		return op.holds(strings.Compare(a, b)), nil
	}, false)
}

func strictOverlap(a, b string, near func(op operator, operand string) (string, error), holds func(op operator, a, b string) (bool, error), mixed bool) (bool, error) {
	opA, _, valueA := splitOperator(a)
	opB, _, valueB := splitOperator(b)
	plainA, plainB := opA == equal || opA == glob, opB == equal || opB == glob
	switch {
	case plainA && plainB:
		if a == b {
			return true, nil
		}
		return false, errPlain
	case (plainA || plainB) && !mixed:
		return false, errPlain
	case plainA:
		return holds(opB, valueA, valueB)
	case plainB:
		return holds(opA, valueB, valueA)
	}
	nearA, err := near(opA, valueA)
	if err != nil {
		return false, err
	}
	nearB, err := near(opB, valueB)
	if err != nil {
		return false, err
	}
	both, err := holds(opB, nearA, valueB)
	if both || err != nil {
		return both, err
	}
	return holds(opA, nearB, valueA)
}

// nearVersion is the version that Balrog takes for the nearest inside a range: it counts the last number up or down,
// borrowing from the one before.
func nearVersion(op operator, s string) (string, error) {
	if op == lessEqual || op == greaterEqual {
		return s, nil
	}
	var numbers []int
	for field := range strings.SplitSeq(s, ".") {
		n, err := strconv.Atoi(field)
		if err != nil {
			return "", err
		}
		numbers = append(numbers, n)
	}
	if op == greater {
		numbers[len(numbers)-1]++
	} else {
		i := len(numbers) - 1
		for i >= 0 && numbers[i] == 0 {
			numbers[i] = 999
			i--
		}
		if i < 0 {
			return "", fmt.Errorf("there is no version before %s", s)
		}
		numbers[i]--
	}
	fields := make([]string, len(numbers))
	for i, n := range numbers {
		fields[i] = strconv.Itoa(n)
	}
	return strings.Join(fields, "."), nil
}

func nearBuildID(op operator, s string) (string, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return "", err
	}
	switch op {
	case less:
		n--
	case greater:
		n++
	}
	return strconv.FormatInt(n, 10), nil
}

// bound is one end of a range of versions; nil is no bound.
type bound struct {
	version *version
	open    bool // the bound itself is outside
}

type versionRange struct{ low, high bound }

// rangesOf returns the ranges of a condition on versions.
func rangesOf(s string) []versionRange {
	var ranges []versionRange
	for field := range strings.SplitSeq(s, ",") {
		op, _, full := splitOperator(field)
		v := parseVersion(full)
		switch op {
		case glob:
			// Tags of the first version belong to N.* but not to N.M.*; none of the version behind it does.
			low := version{valid: v.valid, numbers: v.numbers, parts: 3}
			high := low
			high.numbers[v.parts-1]++
			high.tag = 1 // before every letter
			if v.parts == 1 {
				low.tag = 1
			}
			ranges = append(ranges, versionRange{bound{version: &low}, bound{&high, true}})
		case equal:
			ranges = append(ranges, versionRange{bound{version: &v}, bound{version: &v}})
		case less, lessEqual:
			ranges = append(ranges, versionRange{high: bound{&v, op == less}})
		case greater, greaterEqual:
			ranges = append(ranges, versionRange{low: bound{&v, op == greater}})
		}
	}
	return ranges
}

// overlapVersions says whether there can be a version that fits both conditions.
func overlapVersions(a, b string) (bool, error) {
	for _, x := range rangesOf(a) {
		for _, y := range rangesOf(b) {
			low, high := x.low, x.high
			if c, ok := compareBounds(y.low, low); !ok && low.version == nil || ok && (c > 0 || c == 0 && y.low.open) {
				low = y.low
			}
			if c, ok := compareBounds(y.high, high); !ok && high.version == nil || ok && (c < 0 || c == 0 && y.high.open) {
				high = y.high
			}
			if c, ok := compareBounds(low, high); !ok || c < 0 || c == 0 && !low.open && !high.open {
				return true, nil
			}
		}
	}
	return false, nil
}

// compareBounds orders two bounds; ok is false where one of them is none.
func compareBounds(a, b bound) (c int, ok bool) {
	if a.version == nil || b.version == nil {
		return 0, false
	}
	return a.version.compare(b.version), true
}

// overlapBuildIDs says whether there can be a build ID that fits both conditions.
func overlapBuildIDs(a, b string) (bool, error) {
	lowA, highA := buildIDRange(a)
	lowB, highB := buildIDRange(b)
	return max(lowA, lowB) <= min(highA, highB), nil
}

// buildIDRange returns the first and the last number that fit a condition; there are none where the first is the larger.
func buildIDRange(s string) (low, high uint64) {
	op, operand, _ := splitOperator(s)
	n, _ := digits(operand)
	low, high = 0, math.MaxUint64
	switch op {
	case equal:
		return n, n
	case lessEqual:
		high = n
	case greaterEqual:
		low = n
	case less:
		if n == 0 {
			return 1, 0
		}
		high = n - 1
	case greater:
		if n == math.MaxUint64 {
			return 1, 0
		}
		low = n + 1
	}
	return low, high
}
