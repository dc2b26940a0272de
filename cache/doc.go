// Package cache remembers what was expensive to get or to make: complete updates, patches of single files, partial
// updates and tools.
//
// Values are immutable and named by what made them: a [Key] is a hash over everything that has an influence on the
// bytes. So nothing is ever updated or becomes stale, any value may be dropped at any time, and it does
// not matter which of two equal writers wins. What is handed out is verified: its hash was compared since it left
// memory, or it is a miss. That is SHA-256, but SHA-512 for files that were adopted with it.
//
// [Memory] is a lossy tier in memory, [Disk] one in a directory. [Layered] puts
// tiers on top of each other, and its [Layered.GetOrFill] makes a value once, however many ask for it at the same time.
//
// # What is atomic, what is durable
//
// An entry on disk appears whole or not at all, whatever happens: it is written to a temporary file and renamed. When
// [Disk.Put] has returned nil the entry is also durable: file and directory have been synced, and
// neither kill -9 nor a power cut loses it. If a write fails in the middle, or the process dies, nobody will see
// anything of it; what is left of it is removed when the directory is opened next.
//
// A damaged entry (bits flipped, cut, swapped with another one, owned by another user) is found by Get before the first
// byte is handed out. It is moved to the directory "bad", where the last few are kept for a look, and counts as a miss.
//
// # What can be shared
//
// Any number of processes of one user on one machine may use one directory at a time: they share the limits, and
// each sees the others' entries. Locks are advisory file locks, so the directory must be on a local file system, not on
// NFS or SMB.
//
// [Disk] is made for Unix systems and tested on Linux. It compiles elsewhere.
//
// # The directory
//
//	CACHEDIR.TAG          lets backup programs leave the directory out
//	version               the layout's version
//	lock                  locked while space is reserved or entries are removed, for microseconds
//	usage                 what each kind takes, in blocks of 4 KiB; counted again when it is missing
//	v1/<kind>/ab/ab12…    the entries, by the key's sum; the record at the end of each says what it must be
//	tmp/<id>/             temporary files of one open Disk, which holds the lock in it as long as it lives
//	bad/                  the last damaged entries
//
// Space is reserved before it is written to: with a limit reached, the entries of the kind that were not used for
// longest go first, by modification time, which is set when an entry is used, at most once an hour.
package cache
