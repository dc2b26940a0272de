// Command storage-azblob is a storage plugin for a container of Azure Blob Storage.
//
//	storage-azblob [-prefix PREFIX] https://ACCOUNT.blob.core.windows.net/CONTAINER
//	storage-azblob [-prefix PREFIX] CONTAINER
//
// With an address, credentials come from where Azure's tools look for them: the environment that the host passes on, or a
// managed identity. With a name alone, the account and its key are in a connection string, which is read from the file descriptor
// whose number CONNECTION_FD holds: the host fills it with plugins.Config.Secrets.
//
// Objects are block blobs with their SHA-256 in the metadata. Blocks of an upload that is cut off are removed by Azure after a week.
package main

import (
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/storage"
)

const (
	blockSize = 8 << 20  // bytes; the largest object has 50,000 blocks
	hashKey   = "sha256" // name of the metadata
)

func main() { storage.Serve(open) }

func open(context.Context) (storage.Backend, error) {
	prefix := flag.String("prefix", "", "begins the name of every blob")
	flag.Parse()
	if flag.NArg() != 1 {
		return nil, errors.New("usage: storage-azblob [-prefix PREFIX] ADDRESS")
	}
	options := &container.ClientOptions{}
	options.Retry = policy.RetryOptions{MaxRetries: -1} // the host asks again
	connection, err := plugins.ReadSecret("CONNECTION_FD")
	if err != nil {
		return nil, err
	}
	var client *container.Client
	if connection != nil {
		client, err = container.NewClientFromConnectionString(string(connection), flag.Arg(0), options)
	} else {
		var credential *azidentity.DefaultAzureCredential
		if credential, err = azidentity.NewDefaultAzureCredential(nil); err == nil {
			client, err = container.NewClient(flag.Arg(0), credential, options)
		}
	}
	if err != nil {
		return nil, err
	}
	return &backend{client, *prefix}, nil
}

type backend struct {
	container *container.Client
	prefix    string
}

func (b *backend) blob(name string) *blockblob.Client {
	return b.container.NewBlockBlobClient(b.prefix + name)
}

func (b *backend) Info(context.Context) (storage.Info, error) {
	return storage.Info{Name: "storage-azblob", Version: "1.0"}, nil
}

// object describes an object from what Azure says about it.
func object(name string, size int64, metadata map[string]*string) (storage.Object, error) {
	o := storage.Object{Name: name, Size: size}
	for key, value := range metadata {
		if strings.EqualFold(key, hashKey) && value != nil && len(*value) == 2*len(o.SHA256) {
			if _, err := hex.Decode(o.SHA256[:], []byte(*value)); err == nil {
				return o, nil
			}
		}
	}
	return o, fmt.Errorf("object %s has no SHA-256 in its metadata: %w", name, plugins.ErrCorrupt)
}

func (b *backend) Stat(ctx context.Context, name string) (storage.Object, error) {
	out, err := b.blob(name).GetProperties(ctx, nil)
	if err != nil {
		return storage.Object{}, explain(err)
	}
	return object(name, *out.ContentLength, out.Metadata)
}

func (b *backend) Get(ctx context.Context, name string, offset, length int64) (storage.Object, io.ReadCloser, error) {
	out, err := b.blob(name).DownloadStream(ctx, &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: offset, Count: length}})
	if bloberror.HasCode(err, bloberror.InvalidRange) {
		if offset > 0 {
			return storage.Object{}, nil, fmt.Errorf("object %s: %w: %w", name, plugins.ErrInvalid, err)
		}
		out, err = b.blob(name).DownloadStream(ctx, nil) // of an empty object
	}
	if err != nil {
		return storage.Object{}, nil, explain(err)
	}
	size := *out.ContentLength
	if out.ContentRange != nil { // "bytes 0-9/100"
		_, total, _ := strings.Cut(*out.ContentRange, "/")
		if size, err = strconv.ParseInt(total, 10, 64); err != nil {
			return storage.Object{}, nil, errors.Join(err, out.Body.Close())
		}
	}
	o, err := object(name, size, out.Metadata)
	if err != nil {
		return storage.Object{}, nil, errors.Join(err, out.Body.Close())
	}
	return o, out.Body, nil
}

// PutIfAbsent uploads blocks, which nobody sees; the list of them makes the object, unless there is one by then.
func (b *backend) PutIfAbsent(ctx context.Context, o storage.Object, r io.Reader) (storage.Object, bool, error) {
	if there, err := b.Stat(ctx, o.Name); !errors.Is(err, plugins.ErrNotFound) {
		return there, false, err
	}
	absent := &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)}}
	metadata := map[string]*string{hashKey: to.Ptr(hex.EncodeToString(o.SHA256[:]))}
	_, err := b.blob(o.Name).UploadStream(ctx, r, &blockblob.UploadStreamOptions{
		BlockSize: blockSize, Concurrency: 3, AccessConditions: absent, Metadata: metadata,
	})
	if bloberror.HasCode(err, bloberror.BlobAlreadyExists, bloberror.ConditionNotMet) {
		there, err := b.Stat(ctx, o.Name)
		return there, false, err
	}
	return o, err == nil, explain(err)
}

func (b *backend) Delete(ctx context.Context, name string) error {
	_, err := b.blob(name).Delete(ctx, nil)
	if bloberror.HasCode(err, bloberror.BlobNotFound) {
		return nil
	}
	return explain(err)
}

// List leaves out blobs whose names cannot name an object.
func (b *backend) List(ctx context.Context, prefix, cursor string, limit int) ([]storage.Object, string, error) {
	for {
		in := &container.ListBlobsFlatOptions{Prefix: to.Ptr(b.prefix + prefix), MaxResults: to.Ptr(int32(limit))}
		if cursor != "" {
			in.Marker = &cursor
		}
		page, err := b.container.NewListBlobsFlatPager(in).NextPage(ctx)
		if err != nil {
			return nil, "", explain(err)
		}
		var objects []storage.Object
		for _, item := range page.Segment.BlobItems {
			name := strings.TrimPrefix(*item.Name, b.prefix)
			if storage.CheckName(name) == nil {
				objects = append(objects, storage.Object{Name: name, Size: *item.Properties.ContentLength})
			}
		}
		cursor = ""
		if page.NextMarker != nil {
			cursor = *page.NextMarker
		}
		if cursor == "" || len(objects) > 0 {
			return objects, cursor, nil
		}
	}
}

// explain says in the plugin protocol's words why Azure did not do it.
func explain(err error) error {
	var refused *azcore.ResponseError
	status := 0
	if errors.As(err, &refused) {
		status = refused.StatusCode
	}
	return plugins.FromStatus(status, err)
}
