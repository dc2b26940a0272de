module github.com/senbonzakura/senbonzakura

go 1.26.0

require github.com/ulikunitz/xz v0.5.17

require github.com/dsnet/compress v0.0.1

require (
	github.com/dgraph-io/ristretto/v2 v2.4.2
	github.com/google/go-cmp v0.7.0
	golang.org/x/sync v0.24.0
	golang.org/x/sys v0.36.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/dustin/go-humanize v1.0.1 // indirect
)
