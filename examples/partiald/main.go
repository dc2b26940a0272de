// Command partiald is a service that makes partial updates: an HTTP API, a page, a queue that many servers can share,
// and a book of everything that was asked for.
//
//	partiald                                 on this machine alone, page at http://127.0.0.1:8080/
//	partiald --config /etc/partiald.toml     as configured (docs/partiald.toml has every key)
//	partiald --check-config …                says everything that is wrong
//
// The exit code is 0 after a graceful stop, 1 when something failed, and 2 when it was called wrongly or the
// configuration cannot be used; then the message names the key. The first SIGTERM or interrupt stops gracefully, the
// second at once.
package main

import "os"

func main() {
	os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
