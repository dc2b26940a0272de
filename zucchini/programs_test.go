package zucchini

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// A target is what the Go toolchain builds programs for, and what the parts of patches for them are called. Those for
// ARM64 in the format of Windows are read as ones for x86-64. Go's own linker makes ELF files that the updater's applier does
// not take for executables: the names of the sections are behind all that counts. Laid out as by other linkers they are.
type target struct {
	os, arch, kind string
	otherwise      bool // laid out
}

var targets = []target{
	{"linux", "amd64", "Ex64", true},
	{"windows", "386", "Px86", false},
	{"linux", "arm64", "EA64", true},
	{"windows", "amd64", "Px64", false},
	{"linux", "386", "Ex86", true},
	{"windows", "arm64", "Px64", false},
	{"linux", "amd64", noOp, false},
}

// laidOut returns an ELF file with its table of sections at the end, as other linkers put it, and with only one section that
// takes no room in the file at a place.
func laidOut(tb testing.TB, file []byte) []byte {
	tb.Helper()
	f, err := elf.NewFile(bytes.NewReader(file))
	if err != nil {
		tb.Fatal(err)
	}
	le := binary.LittleEndian
	out := append(bytes.Clone(file), make([]byte, -len(file)&7)...)
	header, address, table := 40, 12, uint64(le.Uint32(file[32:]))
	if f.Class == elf.ELFCLASS64 {
		header, address, table = 64, 16, le.Uint64(file[40:])
	}
	at := len(out)
	out = append(out, file[table:][:header*len(f.Sections)]...)
	for i, s := range f.Sections {
		if s.Name == ".noptrbss" {
			clear(out[at+i*header+address:][:header/8])
		}
	}
	if f.Class == elf.ELFCLASS64 {
		le.PutUint64(out[40:], uint64(at))
	} else {
		le.PutUint32(out[32:], uint32(at))
	}
	return out
}

// source returns a program of functions that call each other, in a version: from one to the next changed functions differ.
func source(functions, version, changed int) []byte {
	var b bytes.Buffer
	b.WriteString("package main\n\nimport \"os\"\n\nvar table = [...]func(int) int{")
	for i := range functions {
		fmt.Fprintf(&b, "f%d, ", i)
	}
	b.WriteString("}\n\nfunc main() {\n\tn := len(os.Args)\n\tfor _, f := range table {\n\t\tn = f(n)\n\t}\n\tos.Exit(n & 1)\n}\n")
	r := rand.New(rand.NewPCG(1, 1))
	changes := make([]int, functions) // of each function, its version
	for v := 1; v <= version; v++ {
		for range changed {
			changes[rand.New(rand.NewPCG(uint64(v), uint64(len(changes)))).IntN(functions)] = v
			changes[r.IntN(functions)] = v
		}
	}
	for i, v := range changes {
		r := rand.New(rand.NewPCG(uint64(i), uint64(v)))
		fmt.Fprintf(&b, "\n//go:noinline\nfunc f%d(n int) int {\n", i)
		for range 1 + r.IntN(12) {
			switch r.IntN(4) {
			case 0:
				fmt.Fprintf(&b, "\tn += %d\n", r.IntN(1<<20))
			case 1:
				fmt.Fprintf(&b, "\tif n&%d == 1 {\n\t\tprintln(\"%x\", n)\n\t}\n", r.IntN(64), r.Uint64())
			case 2:
				fmt.Fprintf(&b, "\tfor i := range n & %d {\n\t\tn ^= i << %d\n\t}\n", r.IntN(64), r.IntN(9))
			default:
				if i+1 < functions {
					fmt.Fprintf(&b, "\tif n == %d {\n\t\tn = f%d(n)\n\t}\n", r.IntN(1<<20), i+1+r.IntN(functions-i-1))
				}
			}
		}
		b.WriteString("\treturn n\n}\n")
	}
	return b.Bytes()
}

// build makes programs for a target, one for each source.
func (g target) build(t *testing.T, sources [][]byte) (out [][]byte) {
	t.Helper()
	dir := t.TempDir()
	for i, s := range sources {
		name := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(name+".go", s, 0o600); err != nil {
			t.Fatal(err)
		}
		build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", name, name+".go")
		build.Env = append(os.Environ(), "GOOS="+g.os, "GOARCH="+g.arch, "CGO_ENABLED=0", "GOFLAGS=")
		if said, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build for %s/%s: %v\n%s", g.os, g.arch, err, said)
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if g.otherwise {
			b = laidOut(t, b)
		}
		out = append(out, b)
	}
	return out
}

// pairs returns pairs of a target's programs: other versions of each other, cut off, put into each other, and several in one
// file.
func (g target) pairs(r *rand.Rand, programs [][]byte) []pairOf {
	var out []pairOf
	add := func(what string, old, new []byte, kinds string) {
		out = append(out, pairOf{fmt.Sprintf("%d: %s", len(out), what), old, new, kinds})
	}
	any := func() []byte { return programs[r.IntN(len(programs))] }
	junk := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.IntN(128)) // no magic of ELF by chance
		}
		return b
	}
	for i := range programs[1:] {
		add("the next version", programs[i], programs[i+1], g.kind)
		add("the version before", programs[i+1], programs[i], g.kind)
	}
	for i := range len(programs) * 2 {
		a, b := any(), any()
		switch i % 8 {
		case 0:
			add("the old one cut off", a[:r.IntN(len(a)-1)+1], b, "")
		case 1:
			add("the new one cut off", a, b[:r.IntN(len(b)-1)+1], "")
		case 2: // the size stays, the headers are the first one's
			at, n := r.IntN(len(b)/2), r.IntN(len(b)/2)
			spliced := slices.Clone(b)
			copy(spliced[at:at+n], a[min(at, len(a)):])
			add("a part of another one in it", a, spliced, "")
		case 3:
			at := r.IntN(min(len(a), len(b)))
			add("the beginning of one and the end of another", b, slices.Concat(a[:at], b[at:]), "")
		case 4:
			add("with something behind", slices.Concat(a, junk(300)), slices.Concat(b, junk(500)), "")
		case 5:
			add("with something before", slices.Concat(junk(5000), a), slices.Concat(junk(64), b), "")
		case 6:
			add("two in one file", slices.Concat(a, junk(100), b), slices.Concat(b, junk(90), any()), "")
		default:
			add("three of one", a, slices.Concat(any(), any(), junk(1), any()), "")
		}
	}
	return out
}

// Patches of real programs, and of what can become of such files, are valid, make the new file, and are the same with any
// number of workers. The reference's zucchini, where the variable SENBON_ZUCCHINI names it, applies them, and ours its.
func TestPrograms(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no Go toolchain here")
	}
	functions, versions := testkit.Count(0, 200, 300), testkit.Count(0, 12, 32)
	if versions == 0 {
		t.Skip("building and comparing hundreds of programs takes an hour: set SENBON_GATE=1")
	}
	var sources [][]byte
	for v := range versions {
		sources = append(sources, source(functions+v/2, v, 1<<(v%6)))
	}
	var count, theirs atomic.Int64
	t.Cleanup(func() { t.Logf("%d pairs, %d of them also with the reference's program", count.Load(), theirs.Load()) })
	for _, g := range targets {
		t.Run(g.os+" "+g.arch+" "+g.kind, func(t *testing.T) {
			t.Parallel()
			programs := g.build(t, sources)
			for _, p := range g.pairs(rand.New(rand.NewPCG(uint64(len(programs)), uint64(len(g.kind)))), programs) {
				count.Add(1)
				if tryProgram(t, p) {
					theirs.Add(1)
				}
			}
		})
	}
}

// tryProgram makes a patch of a pair and reports whether the reference's program took part.
func tryProgram(t *testing.T, p pairOf) bool {
	t.Helper()
	patch := diff(t, Options{Workers: 1}, p.old, p.new)
	for _, workers := range []int{2, 8} {
		if !bytes.Equal(patch, diff(t, Options{Workers: workers}, p.old, p.new)) {
			t.Errorf("%s: another patch with %d workers", p.name, workers)
		}
	}
	got, err := Apply(t.Context(), nil, p.old, patch, nil)
	if err != nil || !bytes.Equal(got, p.new) {
		t.Errorf("%s: %v", p.name, err)
	}
	for _, broken := range validate(t, p.old, patch, p.new) {
		t.Errorf("%s: %s", p.name, broken)
	}
	info, err := Inspect(t.Context(), patch, nil)
	if err != nil || p.kinds != "" && (len(info.Parts) != 1 || info.Parts[0].Type != p.kinds || (info.Parts[0].References == 0) != (p.kinds == noOp)) {
		t.Errorf("%s: got %+v, %v, want one element %q", p.name, info, err, p.kinds)
	}
	reference := os.Getenv("SENBON_ZUCCHINI")
	if reference == "" {
		return false
	}
	dir, err := os.MkdirTemp("", "zucchini") //nolint:usetesting // hundreds of large ones until the test ends
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, b := range map[string][]byte{"old": p.old, "new": p.new, "ours": patch} {
		if err := os.WriteFile(path(name), b, 0o600); err != nil {
			t.Error(err)
		}
	}
	run := func(args ...string) error {
		said, err := exec.CommandContext(t.Context(), reference, args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", args[0], err, said)
		}
		return nil
	}
	if err = run("-apply", path("old"), path("ours"), path("made")); err == nil {
		if got, err = os.ReadFile(path("made")); err == nil && !bytes.Equal(got, p.new) {
			err = errors.New("it makes something else")
		}
	}
	if err != nil {
		t.Errorf("%s: our patch, applied by the reference: %v", p.name, err)
	}
	if err = run("-gen", path("old"), path("new"), path("theirs")); err == nil {
		if patch, err = os.ReadFile(path("theirs")); err == nil {
			got, err = Apply(t.Context(), nil, p.old, patch, nil)
		}
	}
	if err != nil || !bytes.Equal(got, p.new) {
		t.Errorf("%s: the reference's patch, applied by us: %v", p.name, err)
	}
	return true
}
