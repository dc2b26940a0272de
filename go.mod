module github.com/senbonzakura/senbonzakura

go 1.26.0

require github.com/ulikunitz/xz v0.5.17

require github.com/dsnet/compress v0.0.1

require golang.org/x/sync v0.24.0
