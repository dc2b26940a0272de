package updater

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/senbonzakura/senbonzakura/internal/program"
	"github.com/senbonzakura/senbonzakura/internal/version"
	"github.com/senbonzakura/senbonzakura/mar"
)

// maxSmall bounds, in bytes, the ini files that are read; real ones have about a thousand.
const maxSmall = 1 << 20

// resources is where an application for macOS keeps what stands at the root elsewhere.
const resources = "Contents/Resources/"

// SettingsFile is the name of the file that holds the channels that a client accepts.
const SettingsFile = "update-settings.ini"

// An Identity is what a release says of itself.
type Identity struct {
	// Product, Version and BuildID are those of application.ini.
	Product, Version, BuildID string
	// SourceRepository and SourceStamp name the source that it was built from.
	SourceRepository, SourceStamp string
	// Milestone is the version of Gecko in platform.ini.
	Milestone string
	// MAR is its product block; zero for a directory or where there is none.
	MAR mar.Product
	// Platform and Locale are those of who asks for an update, in events of the whole job.
	Platform, Locale string
}

// ReadComplete reads off a complete update what it says of itself and of the client that it installs: it applied, or
// will have to apply, updates of this style. Ini files and settings are looked for at the root and in
// Contents/Resources/, nowhere else. Of the claims Gecko is platform.ini's Milestone; for products whose Gecko has the
// application's version, package toolchain falls back to that.
//
// The error is that of reading: what is damaged is not taken for absent.
func ReadComplete(r *mar.Reader) (Identity, Claims, error) {
	files := map[string]*mar.File{}
	var names []string
	for _, f := range r.Files() {
		if files[f.Name] == nil {
			files[f.Name] = f
			names = append(names, f.Name)
		}
	}
	slices.Sort(names)
	t := source{
		names:      names,
		executable: func(name string) bool { return mar.Executable(files[name].Mode) },
		size:       func(name string) int64 { return files[name].Size },
		read: func(name string, limit int64) ([]byte, bool, error) {
			f := files[name]
			if f == nil {
				return nil, false, nil
			}
			data, more, err := readMember(f, limit)
			if err != nil {
				return nil, true, fmt.Errorf("read %q: %w", name, err)
			}
			if more && limit > program.SystemBytes {
				return nil, true, fmt.Errorf("read %q: %w: more than %d bytes", name, ErrLimit, limit)
			}
			return data, true, nil
		},
	}
	id, claims, err := t.inspect()
	if err != nil {
		return id, claims, err
	}
	if p, ok := r.Product(); ok {
		id.MAR = p
		if p.Version != "" && !strings.Contains(p.Version, "*") {
			claims.Version, claims.Notes["version"] = p.Version, "the product block of FROM"
		}
	}
	for _, v := range []ManifestVersion{ManifestV1, ManifestV2, ManifestV3} {
		if files[v.Name()] != nil {
			claims.Manifests = append(claims.Manifests, v)
		}
	}
	if claims.Members, err = memberFormats(names, files); err != nil {
		return id, claims, err
	}
	claims.signatures(r.Signatures())
	return id, claims, nil
}

// signatures notes what a complete's signatures say.
func (c *Claims) signatures(list []mar.Signature) {
	if len(list) == 0 {
		c.Notes["verifies"] = "FROM's complete is not signed"
		return
	}
	yes := true
	c.Verifies, c.Notes["verifies"] = &yes, "FROM's complete is signed"
	for _, s := range list[1:] {
		if s.Algorithm != list[0].Algorithm {
			c.Notes["signature"] = "FROM's complete has signatures of several algorithms"
			return
		}
	}
	c.Signature = list[0].Algorithm
}

// memberFormats returns the formats of members, the most frequent first.
func memberFormats(names []string, files map[string]*mar.File) ([]MemberFormat, error) {
	count := map[MemberFormat]int{}
	for _, n := range names {
		format, err := MemberOf(files[n]).Format()
		if err != nil {
			return nil, err
		}
		if format != "" {
			count[format]++
		}
	}
	var list []MemberFormat
	for _, f := range MemberFormats() {
		if count[f] > 0 {
			list = append(list, f)
		}
	}
	slices.SortStableFunc(list, func(a, b MemberFormat) int { return count[b] - count[a] })
	return list, nil
}

// readMember decompresses up to limit bytes of an entry, and says whether there are more.
func readMember(f *mar.File, limit int64) (data []byte, more bool, err error) {
	r, err := MemberOf(f).Open(Limits{}.WithDefaults())
	if err != nil {
		return nil, false, err
	}
	defer r.Close()
	var buf bytes.Buffer
	if _, err := io.Copy(&buf, io.LimitReader(r, limit+1)); err != nil {
		return nil, false, err
	}
	if int64(buf.Len()) > limit {
		return buf.Bytes()[:limit], true, nil
	}
	return buf.Bytes(), false, nil
}

// ReadTree reads off an installation what [ReadComplete] reads off a complete update, but for what only an archive has:
// how members are compressed, which manifests there are, and signatures. tree must not be left through links: use
// os.Root's FS.
func ReadTree(tree fs.FS) (Identity, Claims, error) {
	modes, sizes := map[string]fs.FileMode{}, map[string]int64{}
	var names []string
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		names, modes[name], sizes[name] = append(names, name), info.Mode(), info.Size()
		return nil
	})
	if err != nil {
		return Identity{}, Claims{}, err
	}
	slices.Sort(names)
	t := source{
		names:      names,
		executable: func(name string) bool { return mar.Executable(modes[name]) },
		size:       func(name string) int64 { return sizes[name] },
		read: func(name string, limit int64) ([]byte, bool, error) {
			if _, ok := modes[name]; !ok {
				return nil, false, nil
			}
			f, err := tree.Open(name)
			if err != nil {
				return nil, true, err
			}
			defer f.Close() //nolint:errcheck // only read
			data, err := io.ReadAll(io.LimitReader(f, limit+1))
			switch {
			case err != nil:
				return nil, true, err
			case int64(len(data)) <= limit:
				return data, true, nil
			case limit > program.SystemBytes:
				return nil, true, fmt.Errorf("read %q: %w: more than %d bytes", name, ErrLimit, limit)
			}
			return data[:limit], true, nil
		},
	}
	id, claims, err := t.inspect()
	if err == nil {
		claims.Notes["members"] = "a directory: a complete update of it is made here"
		claims.Notes["verifies"] = "a directory does not tell"
	}
	return id, claims, err
}

// A source is a release as a list of files.
type source struct {
	names      []string // sorted
	executable func(name string) bool
	size       func(name string) int64 // as stored
	// read returns up to limit bytes of a file and whether it is there.
	read func(name string, limit int64) (data []byte, ok bool, err error)
}

// ini reads the ini file of a name, at the root or in Contents/Resources/.
func (t *source) ini(name string) (version.Ini, string, error) {
	for _, n := range []string{name, resources + name} {
		data, ok, err := t.read(n, maxSmall)
		if err != nil {
			return nil, "", err
		}
		if ok {
			return version.ParseIni(data), n, nil
		}
	}
	return nil, "", nil
}

func (t *source) inspect() (Identity, Claims, error) {
	claims := Claims{Notes: map[string]string{}}
	app, _, err := t.ini("application.ini")
	if err != nil {
		return Identity{}, claims, err
	}
	platform, _, err := t.ini("platform.ini")
	if err != nil {
		return Identity{}, claims, err
	}
	id := Identity{
		Product: app.Get("App", "Name"), Version: app.Get("App", "Version"), BuildID: app.Get("App", "BuildID"),
		SourceRepository: cmp.Or(app.Get("App", "SourceRepository"), platform.Get("Build", "SourceRepository")),
		SourceStamp:      cmp.Or(app.Get("App", "SourceStamp"), platform.Get("Build", "SourceStamp")),
		Milestone:        platform.Get("Build", "Milestone"),
	}
	claims.Product = id.Product
	if claims.Version = id.Version; claims.Version != "" {
		claims.Notes["version"] = "application.ini"
	}
	if claims.Gecko = id.Milestone; claims.Gecko != "" {
		claims.Notes["gecko"] = "platform.ini's Milestone"
	}
	bundle := slices.ContainsFunc(t.names, func(n string) bool { return strings.HasPrefix(n, "Contents/MacOS/") })
	claims.Bundle = &bundle
	var how string
	claims.Platform, how, err = platformOf(t.names, t.executable, t.size, func(name string) ([]byte, error) {
		data, _, err := t.read(name, program.SystemBytes)
		return data, err
	})
	if err != nil {
		return id, claims, err
	}
	claims.Notes["platform"] = how
	return id, claims, t.settings(&claims)
}

// settings reads the channels that the client accepts.
func (t *source) settings(claims *Claims) error {
	if slices.ContainsFunc(t.names, func(n string) bool { return strings.Contains("/"+n, "/UpdateSettings.framework/") }) {
		claims.Notes["channels"] = "they are compiled into UpdateSettings.framework"
		return nil
	}
	ini, name, err := t.ini(SettingsFile)
	switch {
	case err != nil:
		return err
	case name == "":
		claims.Notes["channels"] = "FROM has no " + SettingsFile
		return nil
	}
	claims.Settings = name
	section, ok := ini["Settings"]
	value, there := section["ACCEPTED_MAR_CHANNEL_IDS"]
	if !ok || !there {
		claims.Notes["channels"] = name + " has no ACCEPTED_MAR_CHANNEL_IDS"
		return nil
	}
	claims.Channels, claims.Notes["channels"] = acceptedChannels(value), name
	return nil
}

// maxChannelList is how many bytes of the list of channels the updater looks at.
const maxChannelList = 511

// channelSeparators stand between the channels of a list.
const channelSeparators = " ,\t"

// listable says whether a channel can be one of a list.
func listable(channel string) bool {
	return channel != "" && !strings.ContainsAny(channel, channelSeparators)
}

// acceptedChannels splits a list of channels as the updater does.
func acceptedChannels(list string) []string {
	if len(list) > maxChannelList {
		list = list[:maxChannelList]
	}
	channels := strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(channelSeparators, r) })
	if channels == nil {
		channels = []string{} // known: it takes any
	}
	return channels
}

// ClientOf returns the client that a complete update installs, by what the complete shows and what the caller says,
// which may be nothing. It knows no rules: those are in package toolchain. The error is a [*ContradictionError] where the
// complete contradicts itself, or that of reading.
func ClientOf(complete *mar.Reader, caller Claims) (*Client, error) {
	_, shown, err := ReadComplete(complete)
	if err != nil {
		return nil, err
	}
	return NewClient(caller, shown, Claims{}, TrustNeither)
}

// ClientOfTree is [ClientOf] for an installation: see [ReadTree].
func ClientOfTree(tree fs.FS, caller Claims) (*Client, error) {
	_, shown, err := ReadTree(tree)
	if err != nil {
		return nil, err
	}
	return NewClient(caller, shown, Claims{}, TrustNeither)
}

// SettingsName reports whether a path is one where a client looks for its own settings.
func SettingsName(name string) bool { return name == SettingsFile || name == resources+SettingsFile }
