// Command marctl works with MAR files, the container of Mozilla's updates: it lists, extracts, makes, signs,
// verifies and lints them, makes binary patches, and turns two complete updates into a proved partial one.
//
//	marctl partial from.complete.mar to.complete.mar out.partial.mar
//	marctl prove   from.complete.mar out.partial.mar to.complete.mar
//
// "marctl help" lists the commands; every command has --help with examples and --json. The exit code is 0 when
// what was asked is done, 1 when the answer is no or something failed, 2 when marctl was called wrongly, and 130 when it was
// interrupted.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
