#!/bin/sh
# Generates the Go code of the plugin protocols into the directories of their .proto files, with the pinned
# versions of the generators. With -check it generates into a temporary directory and fails on a difference.
#
# It needs protoc (Debian: protobuf-compiler) and Go; the generators are built by Go.
set -eu
cd "$(dirname "$0")"
protoc_gen_go=google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
protoc_gen_go_grpc=google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2

command -v protoc >/dev/null || { echo "generate: protoc not found: install protobuf-compiler" >&2; exit 2; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
GOBIN="$tmp/bin" go install "$protoc_gen_go"
GOBIN="$tmp/bin" go install "$protoc_gen_go_grpc"
out=.
[ "${1:-}" != -check ] || { out="$tmp/out"; mkdir "$out"; }
for proto in signingpb/signing.proto storagepb/storage.proto; do
	PATH="$tmp/bin:$PATH" protoc --go_out="$out" --go_opt=paths=source_relative \
		--go-grpc_out="$out" --go-grpc_opt=paths=source_relative "$proto"
done
# The header names the version of protoc, which may differ from machine to machine; nothing else does.
for f in "$out"/*pb/*.pb.go; do
	sed -i.bak -e '/^\/\/ [-\t ]*protoc  *v[0-9.]*$/d' "$f"
	rm "$f.bak"
done
if [ "$out" != . ]; then
	for f in *pb/*.pb.go; do
		cmp "$f" "$out/$f" || { echo "generate: $f is not current: run plugins/internal/generate.sh" >&2; exit 1; }
	done
fi
