package toolchain

import (
	"cmp"
	"io/fs"
	"strings"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// Build is one release of a product as far as updates are concerned.
type Build struct {
	// Product is the application's name, as application.ini has it.
	Product string `json:"product,omitempty"`
	// Version is the application's version, in Gecko's order.
	Version string `json:"version,omitempty"`
	// BuildID is the time of the build as 14 digits.
	BuildID string `json:"build_id,omitempty"`
	// Platform is the operating system, in any spelling that updater.ParsePlatform reads, as far as the caller knows it.
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
	// Gecko is the version of the Gecko that it was built from, where that is not the application's own.
	Gecko string `json:"gecko,omitempty"`
	// Client is what its complete update shows of its updater; nil where none was at hand.
	Client *updater.Claims `json:"client,omitempty"`
}

// ReadBuild reads what a complete update says about its build: application.ini and platform.ini, the product block,
// and what it shows of its updater. Fields that it does not tell stay empty; a file that cannot be read is an error.
func ReadBuild(complete *mar.Reader) (Build, error) {
	id, client, err := updater.ReadComplete(complete)
	return buildOf(id, client), err
}

// ReadTree is [ReadBuild] for an installation in a directory: use os.Root's FS. How the members of its updates are
// compressed, and which manifests it looks for, a directory does not show.
func ReadTree(tree fs.FS) (Build, error) {
	id, client, err := updater.ReadTree(tree)
	return buildOf(id, client), err
}

func buildOf(id updater.Identity, client updater.Claims) Build {
	b := Build{
		Product: id.Product, Version: cmp.Or(id.Version, id.MAR.Version), BuildID: id.BuildID, Gecko: id.Milestone,
		SourceRepository: id.SourceRepository, SourceStamp: id.SourceStamp, Client: &client,
	}
	for channel := range strings.SplitSeq(id.MAR.Channel, ",") {
		if channel = strings.TrimSpace(channel); channel != "" {
			b.Channels = append(b.Channels, channel)
		}
	}
	return b
}
