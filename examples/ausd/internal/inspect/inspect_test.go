package inspect

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"testing/fstest"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
)

func pack(t *testing.T, tree fstest.MapFS) *mar.Reader {
	t.Helper()
	archive, _, err := partial.Pack(t.Context(), tree, partial.PackOptions{Product: &mar.Product{Channel: "c1,c2", Version: "90.0"}})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := archive.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	r, err := mar.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func binary(begin string, at int, more string) []byte {
	b := make([]byte, 300)
	copy(b, begin)
	copy(b[at:], more)
	return b
}

func TestRead(t *testing.T) {
	t.Parallel()
	const ini = "[App]\nName=Fox\nVersion=90.0\nBuildID=20240101000000\n"
	pe := binary("MZ", 0x80, "PE\x00\x00\x64\xaa")
	pe[0x3c] = 0x80
	for _, tt := range []struct {
		name string
		file string
		data []byte
		want string
	}{
		{"Linux x86-64", "libxul.so", binary("\x7fELF\x02\x01", 18, "\x3e\x00"), "Linux_x86_64-gcc3 []"},
		{"Linux x86", "libxul.so", binary("\x7fELF\x01\x01", 18, "\x03\x00"), "Linux_x86-gcc3 []"},
		{"Linux arm64", "firefox", binary("\x7fELF\x02\x01", 18, "\xb7\x00"), "Linux_aarch64-gcc3 []"},
		{"Windows arm64", "xul.dll", pe, "WINNT_aarch64-msvc-aarch64 []"},
		{"macOS", "Contents/MacOS/XUL", binary("\xca\xfe\xba\xbe", 4, "\x00\x00\x00\x02"), "Darwin_x86_64-gcc3-u-i386-x86_64 [Darwin_x86_64-gcc3 Darwin_aarch64-gcc3]"},
		{"macOS arm64", "XUL", binary("\xcf\xfa\xed\xfe", 4, "\x0c\x00\x00\x01"), "Darwin_aarch64-gcc3 []"},
		{"a script does not count", "run.sh", binary("\x7fELF\x02\x01", 18, "\xb7\x00"), "Linux_x86_64-gcc3 [] by default"},
		{"nothing known", "firefox", binary("#!/bin/sh", 0, ""), "Linux_x86_64-gcc3 [] by default"},
	} {
		b, err := Read(pack(t, fstest.MapFS{
			"application.ini": {Data: []byte(ini)}, tt.file: {Data: tt.data, Mode: 0o755}, "update.locale": {Data: []byte("fr\n")},
			"defaults/pref/channel-prefs.js": {Data: []byte("// a comment\npref(\"app.update.channel\", \"nightly\");\n")},
		}))
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		got := fmt.Sprint(b.Target, " ", b.Aliases)
		if len(b.Defaults) > 0 {
			got += " by default"
		}
		if got != tt.want || b.Product != "Fox" || b.Version != "90.0" || b.BuildID != "20240101000000" || b.Locale != "fr" || b.Channel != "nightly" || fmt.Sprint(b.MARChannels) != "[c1 c2]" || b.Signed {
			t.Errorf("%s: %+v, want %s", tt.name, b, tt.want)
		}
	}
	b, err := Read(pack(t, fstest.MapFS{"application.ini": {Data: []byte(ini)}}))
	if err != nil || fmt.Sprint(b.Defaults) != "[locale channel target]" || b.Locale != "en-US" || b.Channel != "release" {
		t.Errorf("of the least: %+v, %v", b, err)
	}
	if _, err := Read(pack(t, fstest.MapFS{"x": {Data: []byte("x")}})); !errors.Is(err, ErrIncomplete) {
		t.Errorf("of nothing: %v, want ErrIncomplete", err)
	}
}
