// Command storage-s3 is a storage plugin for Amazon S3 and what speaks like it.
//
//	storage-s3 -bucket BUCKET [-prefix PREFIX] [-region REGION] [-endpoint URL] [-path-style] [-old-checksums]
//
// Credentials are found as by every AWS program: from the environment that the host passes on, from files, or
// from the machine's role. The environment variable AWS_SECRET_FD may hold the number of a file descriptor from
// which the secret access key is read, as filled by plugins.Config.Secrets; AWS_ACCESS_KEY_ID says whose it is.
//
// Objects are bare bytes with their SHA-256 in the metadata, so that presigned addresses and web servers can
// hand them out. What is larger than 16 MiB goes up in parts. An upload that is cut off by the death of the
// process leaves its parts: have the bucket expire incomplete uploads. -old-checksums is for services that do not
// know the checksums that the SDK sends by itself.
package main

import (
	"context"
	"errors"
	"flag"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/storage"
)

func main() { storage.Serve(open) }

func open(ctx context.Context) (storage.Backend, error) {
	flags := flag.NewFlagSet("storage-s3", flag.ContinueOnError)
	bucket := flags.String("bucket", "", "name of the bucket")
	prefix := flags.String("prefix", "", "begins the key of every object")
	region := flags.String("region", "us-east-1", "region of the bucket")
	endpoint := flags.String("endpoint", "", "address of the service, where it is not Amazon's")
	pathStyle := flags.Bool("path-style", false, "put the bucket into the path instead of the host's name")
	oldChecksums := flags.Bool("old-checksums", false, "send checksums only where they are required")
	if err := flags.Parse(os.Args[1:]); err != nil {
		return nil, err
	}
	if *bucket == "" || flags.NArg() > 0 {
		return nil, errors.New("usage: storage-s3 -bucket BUCKET [-prefix PREFIX] …")
	}
	options := []func(*config.LoadOptions) error{config.WithRegion(*region)}
	secret, err := plugins.ReadSecret("AWS_SECRET_FD")
	if err != nil {
		return nil, err
	}
	if secret != nil {
		options = append(options, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(os.Getenv("AWS_ACCESS_KEY_ID"), string(secret), "")))
	}
	if *oldChecksums {
		options = append(options, config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
			config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, err
	}
	client := s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.UsePathStyle = *pathStyle
		o.Retryer = aws.NopRetryer{} // the host asks again, and knows how often
		if *endpoint != "" {
			o.BaseEndpoint = endpoint
		}
	})
	return &backend{client: client, presign: s3.NewPresignClient(client), bucket: bucket, prefix: *prefix}, nil
}
