package updater

import (
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/partial/internal/updatetest"
)

const foreignDir = "SENBON_TEST_FOREIGN_DIR"

// Apply on other systems: this test's program, built for them, runs in an emulator, where Debian has one.
func TestApplyElsewhere(t *testing.T) {
	if testkit.Count(0, 1, 1) == 0 {
		t.Skip("builds the test for other systems, which takes minutes: set SENBON_GATE=1 to run it")
	}
	for _, tt := range []struct {
		os, arch  string
		emulators []string
		packages  string
	}{
		{"windows", "amd64", []string{"wine64", "/usr/lib/wine/wine64", "wine"}, "wine64"},
		{"linux", "arm64", []string{"qemu-aarch64-static", "qemu-aarch64"}, "qemu-user-static"},
	} {
		t.Run(tt.os+"-"+tt.arch, func(t *testing.T) {
			emulator := ""
			for _, name := range tt.emulators {
				if p, err := exec.LookPath(name); err == nil {
					emulator = p
					break
				}
			}
			if emulator == "" {
				t.Skipf("no emulator for it is installed (Debian: %s)", tt.packages)
			}
			dir := t.TempDir()
			program := filepath.Join(dir, "updater.test.exe")
			build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", program, ".")
			build.Env = append(os.Environ(), "GOOS="+tt.os, "GOARCH="+tt.arch, "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			from, to, _ := killCase(t)
			tree := filepath.Join(dir, "tree")
			from.Write(t, tree)
			run := func(args ...string) (string, error) {
				c := exec.CommandContext(t.Context(), emulator, args...)
				c.Env = append(os.Environ(), foreignDir+"="+tree, "WINEPREFIX="+filepath.Join(dir, "wine"), "WINEDEBUG=-all")
				out, err := c.CombinedOutput()
				return string(out), err
			}
			if tt.os == "windows" {
				if out, err := run("wineboot", "-i"); err != nil {
					t.Skipf("wine does not start: %v\n%s", err, out)
				}
				if err := randomNumbers(filepath.Join(dir, "wine", "drive_c", "windows", "system32", "bcryptprimitives.dll")); err != nil {
					t.Fatal(err)
				}
			}
			out, err := run(program, "-test.run=^TestApplyHere$", "-test.v")
			if err != nil || !strings.Contains(out, "applied") {
				t.Fatalf("%v\n%s", err, out)
			}
			got := updatetest.Look(t, tree)
			if tt.os == "windows" { // there are no executable bits
				for _, s := range []updatetest.Tree{got, to} {
					for n, v := range s {
						if v != "" {
							s[n] = "-" + v[1:]
						}
					}
				}
			}
			if diff := updatetest.DiffSnapshots(got, to); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestApplyHere is what TestApplyElsewhere runs elsewhere.
func TestApplyHere(t *testing.T) {
	dir := os.Getenv(foreignDir)
	if dir == "" {
		t.Skip("only runs in an emulator, for another test")
	}
	_, _, update := killCase(t)
	root := updatetest.OpenRoot(t, dir)
	// one that fails half way is undone; then the update is applied, and does not fit a second time
	for _, trigger := range []string{"patched", "new/x", "room"} {
		fsys := &lateFault{faultFS: faultFS{filesystem: rootFS{root}, at: -1}, trigger: trigger, then: -1}
		if err := apply(t.Context(), fsys, update, nil); !errors.Is(err, errFault) {
			t.Fatalf("%s: got %v", trigger, err)
		}
	}
	if err := Apply(t.Context(), root, update, nil); err != nil {
		t.Fatal(err)
	}
	var ue *UpdateError
	if err := Apply(t.Context(), root, update, nil); !errors.As(err, &ue) {
		t.Fatalf("once more: got %v", err)
	}
	t.Log("applied")
}

// randomNumbers makes the library in which programs made by Go look for random numbers, where Wine has none (before 9): its
// one function is another name of one that Wine has.
func randomNumbers(name string) error {
	if _, err := os.Stat(name); err == nil {
		return nil
	}
	const base = 0x1000 // where the only section goes
	le := binary.LittleEndian
	library, function, forward := "bcryptprimitives.dll\x00", "ProcessPrng\x00", "advapi32.SystemFunction036\x00"
	texts := uint32(base + 40 + 3*4) // behind the directory and its three tables of one entry each
	functionAt := texts + uint32(len(library))
	forwardAt := functionAt + uint32(len(function))
	var section []byte
	for _, v := range []uint32{0, 0, 0, texts, 1, 1, 1, base + 40, base + 44, base + 48} { // export directory
		section = le.AppendUint32(section, v)
	}
	section = le.AppendUint32(section, forwardAt)
	section = le.AppendUint32(section, functionAt)
	section = le.AppendUint32(section, 0) // ordinal, and nothing
	section = append(section, library+function+forward...)

	file := make([]byte, 0x400)
	copy(file, "MZ")
	le.PutUint32(file[0x3C:], 0x40)
	header := []byte("PE\x00\x00")
	add16 := func(list ...uint16) {
		for _, v := range list {
			header = le.AppendUint16(header, v)
		}
	}
	add32 := func(list ...uint32) {
		for _, v := range list {
			header = le.AppendUint32(header, v)
		}
	}
	add16(0x8664, 1)
	add32(0, 0, 0)
	add16(240, 0x2022)                   // optional header; a library
	add16(0x20B, 0)                      // PE32+
	add32(0x200, 0, 0, 0, base)          // sizes, no entry point
	add32(0x8000_0000, 1, 0x1000, 0x200) // base (64 bits), alignments
	add16(6, 0, 0, 0, 6, 0)              // versions
	add32(0, 0x2000, 0x200, 0)           // sizes of image and headers
	add16(2, 0x160)                      // subsystem, properties
	add32(1<<20, 0, 0x1000, 0, 1<<20, 0, 0x1000, 0, 0, 16)
	add32(base, uint32(len(section))) // the export directory is the first of 16
	header = append(header, make([]byte, 15*8)...)
	header = append(header, ".rdata\x00\x00"...)
	add32(uint32(len(section)), base, 0x200, 0x200, 0, 0, 0, 0x4000_0040)
	copy(file[0x40:], header)
	copy(file[0x200:], section)
	return os.WriteFile(name, file, 0o600)
}
