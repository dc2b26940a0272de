# Everyday targets; .ci/run is the whole check.
.PHONY: quickstart test gate soak race lint fuzz generate bench ci

quickstart:
	go run ./examples/quickstart

test:
	go test ./...

race:
	go test -race ./...

lint:
	.ci/run install format lint

fuzz:
	.ci/run fuzz

# What is promised: the counts of faults, kills and generated trees that the documentation names. Some minutes.
gate:
	SENBON_GATE=1 go test -count=1 -timeout 30m ./...

# More of the same, linear time on large inputs and full-size ones: hours. See CONTRIBUTING.md for what each variable adds.
soak:
	SENBON_LONG=1 go test -count=1 -timeout 5h ./...

generate:
	go generate ./...

bench:
	go test -run '^$$' -bench . -benchmem ./mar ./bsdiff ./internal/... ./partial/...

ci:
	.ci/run
