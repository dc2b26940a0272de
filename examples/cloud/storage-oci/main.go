// Command storage-oci is a storage plugin for a repository of an OCI registry.
//
//	storage-oci [-plain-http] REGISTRY/REPOSITORY
//
// USER and the file descriptor whose number PASSWORD_FD holds, which the host fills with plugins.Config.Secrets, say who asks.
//
// An object is a manifest with one layer: the object's bytes, which the registry checks against their SHA-256. The manifest's tag is
// made from the object's name, and its annotations hold the name. Deleting needs a registry that deletes manifests.
//
// Registries have no request that fails where a tag is there. This process lets one of its writers of a name win; against
// writers elsewhere only a registry whose tags are immutable protects, which then refuses the later one. Without it, let one host write.
package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/storage"
)

const (
	artifactType = "application/vnd.senbonzakura.object.v1"
	listAtOnce   = 8 // manifests that are read at a time
)

func main() { storage.Serve(open) }

func open(context.Context) (storage.Backend, error) {
	plain := flag.Bool("plain-http", false, "the registry is spoken to without TLS")
	flag.Parse()
	if flag.NArg() != 1 {
		return nil, errors.New("usage: storage-oci [-plain-http] REGISTRY/REPOSITORY")
	}
	repository, err := remote.NewRepository(flag.Arg(0))
	if err != nil {
		return nil, err
	}
	password, err := plugins.ReadSecret("PASSWORD_FD")
	if err != nil {
		return nil, err
	}
	repository.PlainHTTP = *plain
	repository.Client = &auth.Client{
		Cache:      auth.NewCache(),
		Credential: auth.StaticCredential(repository.Reference.Registry, auth.Credential{Username: os.Getenv("USER"), Password: string(password)}),
	}
	return &backend{repository: repository}, nil
}

type backend struct {
	repository *remote.Repository
	commit     sync.Mutex // from looking for a tag to setting it
}

func (b *backend) Info(context.Context) (storage.Info, error) {
	return storage.Info{Name: "storage-oci", Version: "1.0"}, nil
}

// A tag has up to 128 of a name's characters, but no slash: an underscore escapes it, and itself. Of longer names there is the
// hash.
var (
	escape   = strings.NewReplacer("/", "_.", "_", "__")
	unescape = strings.NewReplacer("_.", "/", "__", "_")
)

func tagOf(name string) string {
	if tag := "n" + escape.Replace(name); len(tag) <= 128 {
		return tag
	}
	return fmt.Sprintf("h%x", sha256.Sum256([]byte(name)))
}

// find reads the manifest behind a tag.
func (b *backend) find(ctx context.Context, tag string) (storage.Object, ocispec.Descriptor, ocispec.Manifest, error) {
	var o storage.Object
	var manifest ocispec.Manifest
	at, body, err := b.repository.FetchReference(ctx, tag)
	if err != nil {
		return o, at, manifest, explain(err)
	}
	data, err := content.ReadAll(body, at)
	if err = errors.Join(err, body.Close()); err == nil {
		err = json.Unmarshal(data, &manifest)
	}
	if err != nil {
		return o, at, manifest, explain(err)
	}
	if manifest.ArtifactType != artifactType || len(manifest.Layers) != 1 {
		return o, at, manifest, fmt.Errorf("tag %s is no object's: %w", tag, plugins.ErrCorrupt)
	}
	layer := manifest.Layers[0]
	o = storage.Object{Name: layer.Annotations[ocispec.AnnotationTitle], Size: layer.Size}
	if n, err := hex.Decode(o.SHA256[:], []byte(layer.Digest.Encoded())); err != nil || n != len(o.SHA256) || tagOf(o.Name) != tag {
		return o, at, manifest, fmt.Errorf("tag %s is no object's: %w", tag, plugins.ErrCorrupt)
	}
	return o, at, manifest, nil
}

func (b *backend) Stat(ctx context.Context, name string) (storage.Object, error) {
	o, _, _, err := b.find(ctx, tagOf(name))
	return o, err
}

func (b *backend) Get(ctx context.Context, name string, offset, _ int64) (storage.Object, io.ReadCloser, error) {
	o, _, manifest, err := b.find(ctx, tagOf(name))
	if err != nil {
		return o, nil, err
	}
	if offset > 0 && offset >= o.Size {
		return o, nil, fmt.Errorf("object %s has %d bytes: %w", name, o.Size, plugins.ErrInvalid)
	}
	body, err := b.repository.Blobs().Fetch(ctx, manifest.Layers[0])
	if err != nil {
		return o, nil, explain(err)
	}
	if seeker, ok := body.(io.Seeker); ok { // the registry gives parts
		_, err = seeker.Seek(offset, io.SeekStart)
	} else {
		_, err = io.CopyN(io.Discard, body, offset)
	}
	if err != nil {
		return o, nil, explain(errors.Join(err, body.Close()))
	}
	return o, body, nil
}

func (b *backend) PutIfAbsent(ctx context.Context, o storage.Object, r io.Reader) (storage.Object, bool, error) {
	if there, err := b.Stat(ctx, o.Name); !errors.Is(err, plugins.ErrNotFound) {
		return there, false, err
	}
	layer := ocispec.Descriptor{
		MediaType: "application/octet-stream", Digest: digest.NewDigestFromBytes(digest.SHA256, o.SHA256[:]), Size: o.Size,
		Annotations: map[string]string{ocispec.AnnotationTitle: o.Name},
	}
	in := &source{Reader: r}
	if err := b.repository.Blobs().Push(ctx, layer, in); err != nil {
		return o, false, explain(cmp.Or(in.err, err))
	}
	if _, err := io.ReadFull(in, make([]byte, 1)); !errors.Is(err, io.EOF) { // only its end says that the bytes were right
		return o, false, err
	}
	// All manifests have the same empty configuration. Pushed again, it is away for a moment.
	config := ocispec.DescriptorEmptyJSON
	there, err := b.repository.Blobs().Exists(ctx, config)
	if err == nil && !there {
		err = b.repository.Blobs().Push(ctx, config, bytes.NewReader(config.Data))
	}
	if err != nil {
		return o, false, explain(err)
	}
	manifest, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType,
		Config: config, Layers: []ocispec.Descriptor{layer},
	})
	if err != nil {
		return o, false, err
	}
	b.commit.Lock()
	defer b.commit.Unlock()
	if there, err := b.Stat(ctx, o.Name); !errors.Is(err, plugins.ErrNotFound) {
		return there, false, err
	}
	at := content.NewDescriptorFromBytes(ocispec.MediaTypeImageManifest, manifest)
	if err := b.repository.PushReference(ctx, at, bytes.NewReader(manifest), tagOf(o.Name)); err != nil {
		if there, found := b.Stat(ctx, o.Name); found == nil { // a tag that cannot be changed was set elsewhere
			return there, false, nil
		}
		return o, false, explain(err)
	}
	return o, true, nil
}

// source remembers why it could not be read, which is lost on the way through HTTP.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

func (b *backend) Delete(ctx context.Context, name string) error {
	_, at, _, err := b.find(ctx, tagOf(name))
	if err == nil {
		err = explain(b.repository.Delete(ctx, at))
	}
	if errors.Is(err, plugins.ErrNotFound) {
		return nil
	}
	return err
}

// List reads all tags for each page, and the manifests of those on it. The cursor is the last name of the page before.
func (b *backend) List(ctx context.Context, prefix, cursor string, limit int) ([]storage.Object, string, error) {
	var names []string
	err := b.repository.Tags(ctx, "", func(tags []string) error {
		for _, tag := range tags {
			name := unescape.Replace(strings.TrimPrefix(tag, "n"))
			if tag[0] == 'h' {
				o, _, _, err := b.find(ctx, tag)
				if errors.Is(err, plugins.ErrNotFound) || errors.Is(err, plugins.ErrCorrupt) {
					continue
				}
				if err != nil {
					return err
				}
				name = o.Name
			}
			if storage.CheckName(name) == nil && tagOf(name) == tag && strings.HasPrefix(name, prefix) && name > cursor {
				names = append(names, name)
			}
		}
		return nil
	})
	if err = explain(err); err != nil {
		if errors.Is(err, plugins.ErrNotFound) { // there is no repository before the first object
			return nil, "", nil
		}
		return nil, "", err
	}
	slices.Sort(names)
	next := ""
	if len(names) > limit {
		names = names[:limit]
		next = names[limit-1]
	}
	objects := make([]storage.Object, len(names))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(listAtOnce)
	for i, name := range names {
		group.Go(func() (err error) {
			objects[i], err = b.Stat(ctx, name)
			if errors.Is(err, plugins.ErrNotFound) || errors.Is(err, plugins.ErrCorrupt) { // deleted by now, or somebody else's
				return nil
			}
			return err
		})
	}
	err = group.Wait()
	objects = slices.DeleteFunc(objects, func(o storage.Object) bool { return o.Name == "" })
	return objects, next, err
}

// blobUnknown says that a registry does not see a blob of a manifest while somebody else pushes the same, which passes.
func blobUnknown(e errcode.Error) bool { return e.Code == errcode.ErrorCodeManifestBlobUnknown }

// explain says in the plugin protocol's words why the registry did not do it.
func explain(err error) error {
	var refused *errcode.ErrorResponse
	switch {
	case errors.Is(err, errdef.ErrNotFound):
		return fmt.Errorf("%w: %w", plugins.ErrNotFound, err)
	case errors.As(err, &refused) && slices.ContainsFunc(refused.Errors, blobUnknown):
		return fmt.Errorf("%w: %w", plugins.ErrUnavailable, err)
	case errors.As(err, &refused):
		return plugins.FromStatus(refused.StatusCode, err)
	}
	return plugins.FromStatus(0, err)
}
