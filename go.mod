module github.com/senbonzakura/senbonzakura

go 1.26
