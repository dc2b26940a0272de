// Package storage keeps objects in places that plugins know: a directory, S3 and its cousins, whatever a team
// has. A storage plugin is a process that stores and returns bytes by name.
//
// For authors of plugins: implement Backend and call Serve. Names, sizes, hashes and chunks have been checked
// before a method of yours is called. The tutorial is plugins/README.md, the wire contract plugins/PROTOCOL.md,
// the conformance kit storage/storagetest. Dir is a Backend over a directory, and a model.
//
// For programs that store: Start gives a Client, and NewTier makes it a tier of cache.Layered:
//
//	        ┌────────────────────── host ──────────────────────┐      ┌── plugin ──┐
//	cache ──► Tier: spool, hash ──► Client: 512 KiB chunks ─────┼─gRPC─┼─► Backend  │
//	      ◄── Entry, verified   ◄── size and hash compared    ◄─┼──────┼──          │
//	        └───────────────────────────────────────────────────┘      └────────────┘
//
// Objects are written once: PutIfAbsent never replaces one, and of many writers exactly one wins, in the whole
// world. That is the only lock there is between machines.
package storage
