package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"golang.org/x/sync/errgroup"

	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/storage"
)

const (
	partSize      = 16 << 20 // bytes; S3 takes parts from 5 MiB, and 10,000 of them
	partsAtOnce   = 3        // so that a put takes at most 64 MiB of memory
	abortTimeout  = 10 * time.Second
	hashKey       = "sha256" // name of the metadata
	conflictTries = 5        // while another writer of the same name is at work
)

// backend keeps objects in a bucket.
type backend struct {
	client  *s3.Client
	presign *s3.PresignClient
	bucket  *string
	prefix  string
}

func (b *backend) key(name string) *string { return aws.String(b.prefix + name) }

func (b *backend) Info(context.Context) (storage.Info, error) {
	return storage.Info{Name: "storage-s3", Version: "1.0"}, nil
}

// object describes an object from what S3 says about it.
func object(name string, size int64, metadata map[string]string) (storage.Object, error) {
	o := storage.Object{Name: name, Size: size}
	sum, err := hex.DecodeString(metadata[hashKey])
	if err != nil || len(sum) != len(o.SHA256) {
		return o, fmt.Errorf("object %s has no SHA-256 in its metadata: %w", name, plugins.ErrCorrupt)
	}
	copy(o.SHA256[:], sum)
	return o, nil
}

func (b *backend) Stat(ctx context.Context, name string) (storage.Object, error) {
	out, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b.bucket, Key: b.key(name)})
	if err != nil {
		return storage.Object{}, explain("look for object "+name, err)
	}
	return object(name, aws.ToInt64(out.ContentLength), out.Metadata)
}

func (b *backend) Get(ctx context.Context, name string, offset, length int64) (storage.Object, io.ReadCloser, error) {
	in := &s3.GetObjectInput{Bucket: b.bucket, Key: b.key(name)}
	switch {
	case length > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	case offset > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", offset))
	}
	out, err := b.client.GetObject(ctx, in)
	if code(err) == "InvalidRange" && offset == 0 { // of an empty object
		in.Range = nil
		out, err = b.client.GetObject(ctx, in)
	}
	if err != nil {
		return storage.Object{}, nil, explain("get object "+name, err)
	}
	size := aws.ToInt64(out.ContentLength)
	if r := aws.ToString(out.ContentRange); r != "" { // "bytes 0-9/100"
		_, total, _ := strings.Cut(r, "/")
		if size, err = strconv.ParseInt(total, 10, 64); err != nil {
			return storage.Object{}, nil, errors.Join(fmt.Errorf("get object %s: range %q", name, r), out.Body.Close())
		}
	}
	o, err := object(name, size, out.Metadata)
	if err != nil {
		return storage.Object{}, nil, errors.Join(err, out.Body.Close())
	}
	return o, out.Body, nil
}

func (b *backend) PutIfAbsent(ctx context.Context, o storage.Object, r io.Reader) (storage.Object, bool, error) {
	if there, err := b.Stat(ctx, o.Name); !errors.Is(err, plugins.ErrNotFound) {
		return there, false, err
	}
	commit := b.putWhole
	if o.Size > partSize {
		commit = b.putParts
	}
	err := commit(ctx, o, r)
	if c := code(err); c == "PreconditionFailed" || c == "ConditionalRequestConflict" {
		there, err := b.Stat(ctx, o.Name)
		return there, false, err
	}
	if err != nil {
		return storage.Object{}, false, explain("put object "+o.Name, err)
	}
	return o, true, nil
}

// metadata is what is stored beside the bytes.
func metadata(o storage.Object) map[string]string {
	return map[string]string{hashKey: hex.EncodeToString(o.SHA256[:])}
}

func (b *backend) putWhole(ctx context.Context, o storage.Object, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return b.commit(ctx, func() error {
		_, err := b.client.PutObject(ctx, &s3.PutObjectInput{
			Bucket: b.bucket, Key: b.key(o.Name), Body: bytes.NewReader(data), ContentLength: &o.Size,
			IfNoneMatch: aws.String("*"), Metadata: metadata(o),
		})
		return err
	})
}

func (b *backend) putParts(ctx context.Context, o storage.Object, r io.Reader) (err error) {
	up, err := b.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: b.bucket, Key: b.key(o.Name), Metadata: metadata(o)})
	if err != nil {
		return err
	}
	defer func() {
		if err == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
		defer cancel()
		_, aerr := b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: b.bucket, Key: b.key(o.Name), UploadId: up.UploadId})
		if aerr != nil && code(aerr) != "NoSuchUpload" {
			err = errors.Join(err, aerr)
		}
	}()
	// Parts that are under way when ctx ends are left to arrive before the upload is aborted: one that arrives behind
	// that stays, as the beginning of an upload that nobody knows of.
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(abortTimeout/2, stop) })()

	parts := make([]types.CompletedPart, (o.Size+partSize-1)/partSize)
	group, failed := errgroup.WithContext(ctx)
	group.SetLimit(partsAtOnce)
	for i := range parts {
		if failed.Err() != nil {
			break
		}
		part := make([]byte, min(partSize, o.Size-int64(i)*partSize))
		if _, err = io.ReadFull(r, part); err != nil {
			break
		}
		group.Go(func() error {
			number := aws.Int32(int32(i + 1))
			out, err := b.client.UploadPart(sending, &s3.UploadPartInput{
				Bucket: b.bucket, Key: b.key(o.Name), UploadId: up.UploadId, PartNumber: number, Body: bytes.NewReader(part),
			})
			if err == nil {
				parts[i] = types.CompletedPart{PartNumber: number, ETag: out.ETag}
			}
			return err
		})
	}
	if err == nil && failed.Err() == nil {
		// Only the end of the reader says that the bytes were right.
		if _, err = io.ReadFull(r, make([]byte, 1)); errors.Is(err, io.EOF) {
			err = nil
		}
	}
	if err = errors.Join(err, group.Wait(), ctx.Err()); err != nil {
		return err
	}
	return b.commit(ctx, func() error {
		_, err := b.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: b.bucket, Key: b.key(o.Name), UploadId: up.UploadId, IfNoneMatch: aws.String("*"),
			MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		})
		return err
	})
}

// commit makes the request that makes an object visible. S3 may answer that another one for the same name is
// under way, which says nothing about who will win.
func (b *backend) commit(ctx context.Context, request func() error) error {
	for try := 1; ; try++ {
		err := request()
		if code(err) != "ConditionalRequestConflict" || try == conflictTries {
			return err
		}
		timer := time.NewTimer(time.Duration(try) * 100 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

func (b *backend) Delete(ctx context.Context, name string) error {
	_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b.bucket, Key: b.key(name)})
	if err = explain("delete object "+name, err); errors.Is(err, plugins.ErrNotFound) {
		return nil
	}
	return err
}

// List leaves out keys that cannot name an object. The cursor is the last key that was looked at.
func (b *backend) List(ctx context.Context, prefix, cursor string, limit int) ([]storage.Object, string, error) {
	for {
		in := &s3.ListObjectsV2Input{Bucket: b.bucket, Prefix: b.key(prefix), MaxKeys: aws.Int32(int32(limit))}
		if cursor != "" {
			in.StartAfter = b.key(cursor)
		}
		out, err := b.client.ListObjectsV2(ctx, in)
		if err != nil {
			return nil, "", explain("list objects", err)
		}
		var objects []storage.Object
		for _, c := range out.Contents {
			cursor = strings.TrimPrefix(aws.ToString(c.Key), b.prefix)
			if storage.CheckName(cursor) == nil {
				objects = append(objects, storage.Object{Name: cursor, Size: aws.ToInt64(c.Size)})
			}
		}
		if !aws.ToBool(out.IsTruncated) {
			return objects, "", nil
		}
		if len(objects) > 0 {
			return objects, cursor, nil
		}
	}
}

func (b *backend) Presign(ctx context.Context, name string, ttl time.Duration) (string, time.Time, error) {
	until := time.Now().Add(ttl)
	req, err := b.presign.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: b.bucket, Key: b.key(name)}, s3.WithPresignExpires(ttl))
	if err != nil {
		return "", time.Time{}, explain("presign object "+name, err)
	}
	return req.URL, until, nil
}

// code returns S3's name for an error, or "".
func code(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return ""
}

// explain gives an error its reason.
func explain(doing string, err error) error {
	if err == nil || errors.Is(err, plugins.ErrCorrupt) || errors.Is(err, plugins.ErrInvalid) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	reason := plugins.ErrInternal
	var answered interface{ HTTPStatusCode() int }
	status := 0
	if errors.As(err, &answered) {
		status = answered.HTTPStatusCode()
	}
	switch c := code(err); {
	case c == "SlowDown", status == http.StatusTooManyRequests:
		reason = plugins.ErrThrottled
	case status == http.StatusNotFound:
		reason = plugins.ErrNotFound
	case status == http.StatusForbidden, status == http.StatusUnauthorized:
		reason = plugins.ErrDenied
	case status == http.StatusRequestedRangeNotSatisfiable, status == http.StatusConflict: // a name below another's
		reason = plugins.ErrInvalid
	case status == 0, status >= 500: // no answer, or none that helps
		reason = plugins.ErrUnavailable
	}
	return fmt.Errorf("%s: %w: %w", doing, reason, err)
}
