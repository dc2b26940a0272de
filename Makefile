# Everyday targets; .ci/run is the whole check.
.PHONY: quickstart test race lint fuzz long generate bench ci

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

# Fault injection, soak and full-size inputs: see CONTRIBUTING.md for what each variable adds.
long:
	SENBON_LONG=1 go test -timeout 3h ./...

generate:
	go generate ./...

bench:
	go test -run '^$$' -bench . -benchmem ./mar ./bsdiff ./internal/... ./partial/...

ci:
	.ci/run
