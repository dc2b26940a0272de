package verify

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// interleaved mixes the lines of texts, each in its order, in runs of a few lines.
func interleaved(rnd *rand.Rand, texts ...[]byte) []byte {
	var lines [][][]byte
	for _, text := range texts {
		lines = append(lines, bytes.SplitAfter(text, []byte("\n")))
	}
	longest := 1 + rnd.IntN(20)
	var out bytes.Buffer
	for len(lines) > 0 {
		i := rnd.IntN(len(lines))
		n := min(1+rnd.IntN(longest), len(lines[i]))
		for _, line := range lines[i][:n] {
			out.Write(line)
		}
		if lines[i] = lines[i][n:]; len(lines[i]) == 0 {
			lines = slices.Delete(lines, i, i+1)
		}
	}
	return out.Bytes()
}

// verifying gives the part of a log in which verify.sh speaks.
func verifying(text []byte) []byte {
	from := bytes.Index(text, []byte("Using  "))
	to := bytes.LastIndex(text, []byte("command: END"))
	if from < 0 || to < from {
		return nil
	}
	from = bytes.LastIndexByte(text[:from], '\n') + 1
	return text[from : bytes.LastIndexByte(text[:to], '\n')+1]
}

// Tests that ran side by side and print into one log: what the scripts say with a test's name is read, what cannot be told
// is unreadable, and nothing passes that did not pass in its own log, also where that was cut.
func TestInterleaved(t *testing.T) {
	t.Parallel()
	var parts [][]byte
	for _, s := range samples(t) {
		if part := verifying(s.text); part != nil && len(part) < 1<<20 {
			parts = append(parts, bare(part))
		}
	}
	if len(parts) < 15 {
		t.Fatalf("%d logs", len(parts))
	}
	passed, failed, unreadable := 0, 0, 0
	for seed := range uint64(testkit.Count(60, 600, 6000)) {
		rnd := rand.New(rand.NewPCG(seed, 15))
		var texts [][]byte
		for i := range 2 + rnd.IntN(3) {
			text := bytes.ReplaceAll(parts[rnd.IntN(len(parts))], []byte("/2026"), fmt.Appendf(nil, "/2%d26", 1+i)) // each tests other builds
			if rnd.IntN(2) == 0 {
				text = text[:bytes.LastIndexByte(text[:rnd.IntN(len(text))], '\n')+1]
			}
			texts = append(texts, text)
		}
		alone := map[Identity]Result{}
		for _, text := range texts {
			for _, test := range read(t, slices.Concat([]byte("Using config file x\n"), text)).Tests {
				alone[test.Identity] = test.Result
			}
		}
		var before []byte // tests before, one behind the other
		if seed%2 == 0 {
			before = bytes.ReplaceAll(parts[rnd.IntN(len(parts))], []byte("/2026"), []byte("/2926"))
			for _, test := range read(t, slices.Concat([]byte("Using config file x\n"), before)).Tests {
				if alone[test.Identity] = test.Result; test.Result == Interrupted {
					before = nil // its last test ends where the next begins, or does not
					break
				}
			}
		}
		report := read(t, slices.Concat([]byte("Using config file x\n"), before, interleaved(rnd, texts...)))
		for _, test := range report.Tests {
			switch test.Result {
			case Pass:
				passed++
				if alone[test.Identity] != Pass {
					t.Errorf("seed %d: %v passes; alone it is %q", seed, test.Identity, alone[test.Identity])
				}
			case Fail:
				failed++
			case Error:
				unreadable++
				if test.Reasons[0].Code != Unreadable {
					t.Errorf("seed %d: %v: %+v", seed, test.Identity, test.Reasons)
				}
			}
		}
	}
	t.Logf("%d passes, %d failures and %d that cannot be read", passed, failed, unreadable)
	if passed == 0 || failed == 0 || unreadable == 0 {
		t.Error("nothing is told")
	}
}
