// Package plugins runs plugin processes: programs that hold keys or keep objects, written by anybody in any
// language, started and watched by the program that uses them.
//
// A plugin is a child process that speaks gRPC over a private Unix socket with mutual TLS. The wire contract
// is PROTOCOL.md beside this file, and README.md is the tutorial for authors. What a plugin does is the
// business of the packages signing and storage above this one; here live the process and the calls:
//
//	Start ──► private copy of the binary, checked against its SHA-256
//	          own environment, own temporary directory, mutual TLS, gRPC only
//	Dispense ► a connection to a process that lives: a dead or stuck one is replaced, with growing pauses,
//	           and not for ever (RestartPolicy)
//	calls ──► a deadline on each, messages of at most MaxMessage bytes, errors from a closed set (Reason)
//	Close ──► no process, socket or file is left; neither when the host is killed
//
// The host trusts nothing that a plugin says: a plugin that crashes, hangs, floods or lies costs the call that
// met it and nothing else. A plugin is not in a sandbox, however: it runs with the rights of the host's user
// and can read that user's files. Pin the checksum of binaries you trust, and use the operating system to
// confine those you do not.
//
// Plugins run on Linux and macOS. On Windows the package builds and starts plugins over loopback TCP, but a
// host that is killed there relies on the plugin to notice (it does when it uses Serve).
package plugins

//go:generate ./internal/generate.sh
