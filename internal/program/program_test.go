package program

import (
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/names"
)

func TestLikely(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		executable bool
		want       bool
	}{
		{"firefox", true, true},
		{"firefox", false, false},
		{"libxul.so", false, true},
		{"XUL.DLL", false, true},
		{"a/b.dylib", false, true},
		{"run.sh", true, false},
		{"a.exe/readme", false, false},
		{"omni.ja", true, false},
		{"", true, true},
	} {
		if got := Likely(tt.name, tt.executable); got != tt.want {
			t.Errorf("Likely(%q, %v) = %v, want %v", tt.name, tt.executable, got, tt.want)
		}
	}
}

func with(begin string, at int, more string) []byte {
	b := make([]byte, 300)
	copy(b, begin)
	copy(b[at:], more)
	return b
}

func TestSystemAndArch(t *testing.T) {
	t.Parallel()
	pe := func(machine string) []byte {
		b := with("MZ", 0x80, "PE\x00\x00"+machine)
		b[0x3c] = 0x80
		return b
	}
	far := pe("\x64\x86")
	far[0x3f] = 0xff // where no file has anything
	for _, tt := range []struct {
		name         string
		head         []byte
		system, arch string
	}{
		{"ELF x86-64", with("\x7fELF\x02\x01", 18, "\x3e\x00"), names.Linux, "x86_64"},
		{"ELF x86", with("\x7fELF\x01\x01", 18, "\x03\x00"), names.Linux, "x86"},
		{"ELF arm64", with("\x7fELF\x02\x01", 18, "\xb7\x00"), names.Linux, "aarch64"},
		{"ELF big-endian", with("\x7fELF\x02\x02", 18, "\x00\x15"), names.Linux, ""},
		{"ELF cut", []byte("\x7fELF"), names.Linux, ""},
		{"PE x86-64", pe("\x64\x86"), names.Windows, "x86_64"},
		{"PE arm64", pe("\x64\xaa"), names.Windows, "aarch64"},
		{"PE that points behind its end", far, names.Windows, ""},
		{"MZ alone", []byte("MZ"), names.Windows, ""},
		{"Mach-O arm64", with("\xcf\xfa\xed\xfe", 4, "\x0c\x00\x00\x01"), names.MacOS, "aarch64"},
		{"Mach-O 32 bits", with("\xce\xfa\xed\xfe", 4, "\x07\x00\x00\x00"), names.MacOS, ""},
		{"universal", with("\xca\xfe\xba\xbe", 4, "\x00\x00\x00\x02"), names.MacOS, Universal},
		{"Java class", with("\xca\xfe\xba\xbe", 4, "\x00\x00\x00\x34"), "", ""},
		{"script", with("#!/bin/sh", 0, ""), "", ""},
		{"nothing", nil, "", ""},
	} {
		if system, arch := System(tt.head), Arch(tt.head); system != tt.system || arch != tt.arch {
			t.Errorf("%s: %q %q, want %q %q", tt.name, system, arch, tt.system, tt.arch)
		}
	}
}
