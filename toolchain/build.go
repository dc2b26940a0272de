package toolchain

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/senbonzakura/senbonzakura/internal/version"
	"github.com/senbonzakura/senbonzakura/internal/xz"
	"github.com/senbonzakura/senbonzakura/mar"
)

// Build is one release of a product as far as updates are concerned.
type Build struct {
	// Product is the application's name, as application.ini has it.
	Product string `json:"product,omitempty"`
	// Version is the application's version, in Gecko's order.
	Version string `json:"version,omitempty"`
	// BuildID is the time of the build as 14 digits.
	BuildID string `json:"build_id,omitempty"`
	// Platform is the operating system, for watersheds: "win", "linux" or "mac" and what follows.
	Platform string `json:"platform,omitempty"`
	// Arch is the architecture as recipes name it: x86, x86_64, aarch64, macos-x86_64-aarch64.
	Arch string `json:"arch,omitempty"`
	// Channels are the MAR channels of its product block, which may list several separated by commas.
	Channels []string `json:"channels,omitempty"`
	// SourceRepository and SourceStamp name the source that it was built from.
	SourceRepository string `json:"source_repository,omitempty"`
	SourceStamp      string `json:"source_stamp,omitempty"`
	// Locale is the language of the build where it names one.
	Locale string `json:"locale,omitempty"`
	// Capabilities are what can be read off its complete update; nil where none was at hand.
	Capabilities *Capabilities `json:"capabilities,omitempty"`
}

// Capabilities are what can be read off a complete update about the updater of its build: it applied, or will have
// to apply, updates of this style. They outrank guesses by version.
type Capabilities struct {
	// Compression of the members: "xz" or "bzip2"; empty where it has none of either.
	Compression string `json:"compression,omitempty"`
	// Manifests are the versions of the manifests it carries.
	Manifests []int `json:"manifests,omitempty"`
	// Signatures are the algorithms it is signed with; empty for an unsigned file.
	Signatures []mar.Algorithm `json:"signatures,omitempty"`
}

// maxIni bounds the ini files that ReadBuild decompresses, in bytes; real ones have about a thousand.
const maxIni = 1 << 20

// ReadBuild reads what a complete update says about its build: application.ini and platform.ini, the product block,
// and the style of its members. Fields that it does not tell stay empty; a file that cannot be read is an error.
func ReadBuild(complete *mar.Reader) (Build, error) {
	var b Build
	app, err := readIni(complete, "application.ini")
	if err != nil {
		return b, err
	}
	platform, err := readIni(complete, "platform.ini")
	if err != nil {
		return b, err
	}
	b.Product = app.Get("App", "Name")
	b.Version = app.Get("App", "Version")
	b.BuildID = app.Get("App", "BuildID")
	b.SourceRepository = first(app.Get("App", "SourceRepository"), platform.Get("Build", "SourceRepository"))
	b.SourceStamp = first(app.Get("App", "SourceStamp"), platform.Get("Build", "SourceStamp"))
	if product, ok := complete.Product(); ok {
		for channel := range strings.SplitSeq(product.Channel, ",") {
			if channel = strings.TrimSpace(channel); channel != "" {
				b.Channels = append(b.Channels, channel)
			}
		}
		b.Version = first(b.Version, product.Version)
	}
	caps, err := readCapabilities(complete)
	if err != nil {
		return b, err
	}
	b.Capabilities = &caps
	return b, nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// readIni returns the ini file of that name that is nearest to the root, or an empty one where there is none.
func readIni(r *mar.Reader, name string) (version.Ini, error) {
	var found *mar.File
	for _, f := range r.Files() {
		if path.Base(f.Name) == name && (found == nil || strings.Count(f.Name, "/") < strings.Count(found.Name, "/")) {
			found = f
		}
	}
	if found == nil {
		return nil, nil
	}
	data, err := readMember(found, maxIni)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", found.Name, err)
	}
	return version.ParseIni(data), nil
}

func readMember(f *mar.File, limit int64) ([]byte, error) {
	head := make([]byte, 6)
	n, err := f.Section().ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var r io.Reader
	switch xz.Sniff(head[:n]) {
	case xz.FormatXZ:
		x, err := xz.NewReader(f.Section(), &xz.Limits{Output: limit})
		if err != nil {
			return nil, err
		}
		defer x.Close()
		r = x
	case xz.FormatBzip2:
		bz := xz.NewBzip2Reader(f.Section(), &xz.Limits{Output: limit})
		defer bz.Close()
		r = bz
	default:
		r = f.Section()
	}
	var data bytes.Buffer
	if _, err := io.Copy(&data, io.LimitReader(r, limit+1)); err != nil {
		return nil, err
	}
	if int64(data.Len()) > limit {
		return nil, fmt.Errorf("larger than %d bytes", limit)
	}
	return data.Bytes(), nil
}

func readCapabilities(r *mar.Reader) (Capabilities, error) {
	var caps Capabilities
	for _, s := range r.Signatures() {
		if !slices.Contains(caps.Signatures, s.Algorithm) {
			caps.Signatures = append(caps.Signatures, s.Algorithm)
		}
	}
	formats := map[xz.Format]string{xz.FormatXZ: CompressionXZ, xz.FormatBzip2: CompressionBzip2}
	var firstName string
	for _, f := range r.Files() {
		switch f.Name {
		case "updatev2.manifest":
			caps.Manifests = append(caps.Manifests, 2)
		case "updatev3.manifest":
			caps.Manifests = append(caps.Manifests, 3)
		}
		head := make([]byte, 6)
		n, err := f.Section().ReadAt(head, 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return caps, fmt.Errorf("read %s: %w", f.Name, err)
		}
		name, ok := formats[xz.Sniff(head[:n])]
		switch {
		case !ok:
		case caps.Compression == "":
			caps.Compression, firstName = name, f.Name
		case caps.Compression != name:
			return caps, fmt.Errorf("%w: member %s is %s, member %s is %s", ErrContradiction, firstName, caps.Compression, f.Name, name)
		}
	}
	slices.Sort(caps.Manifests)
	return caps, nil
}
