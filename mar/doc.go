// Package mar reads, writes, signs, verifies and lints MAR archives, the container of updates for Firefox,
// Thunderbird and everything else built on Gecko.
//
// An archive is a header, the contents of its entries, and an index. All numbers are big-endian:
//
//	 0 ┌──────────────────────────────┐
//	   │ "MAR1"                       │
//	 4 │ index offset             u32 ┼──────────────┐
//	 8 │ size of the whole file   u64 │ absent in    │
//	16 │ number of signatures     u32 │ the layout   │
//	20 ├──────────────────────────────┤ of 2005      │
//	   │ signature: algorithm     u32 │              │
//	   │            length        u32 │ up to 8      │
//	   │            bytes             │              │
//	   ├──────────────────────────────┤              │
//	   │ number of sections       u32 │              │
//	   │ section: size + 8        u32 │ 1 = product  │
//	   │          id              u32 │ information: │
//	   │          bytes               │ "channel\0   │
//	   ├──────────────────────────────┤  version\0"  │
//	┌─►│ contents, back to back       │              │
//	│  │ ...                          │              │
//	│  ├──────────────────────────────┤◄─────────────┘
//	│  │ size of what follows     u32 │
//	└──┼ entry: offset            u32 │
//	   │        length            u32 │
//	   │        flags             u32 │ permission bits
//	   │        name\0                │ path with slashes
//	   └──────────────────────────────┘
//
// Three layouts are in use and all are read and written: the one above; the same without sections, where
// contents start right behind the signatures; and the original of 2005, where they start at offset 8. Nothing
// in the file says which it is; where the contents start does.
//
// Each signature covers everything but the bytes of the signatures, so their number and lengths are decided
// before the first is made.
//
// Contents are bytes: in a real update each is an xz stream, and the entry updatev3.manifest says what to do
// with the others. Neither compression nor manifests are this package's business; package partial knows them.
//
// # What is refused
//
// Archives are read from anywhere and believed nowhere, a valid signature included. A [Reader] is strict: it
// refuses what Mozilla's writers never produce and what two readers could understand in two ways. Refused are
// names that are not plain relative paths (absolute, with empty, "." or ".." elements, backslashes, drive
// letters, control characters, not UTF-8), two entries with one name, a name that is a directory in another,
// contents that share bytes with each other, with the header or the index, flags other than permission bits, a
// wrong total size, bytes behind the index, an archive without entries, malformed product information, and
// everything over the [Limits]. Gaps between contents and contents in any order are accepted.
//
// [ReaderOptions] loosen this, problem by problem. [Lint] lists all problems of an archive, and what updaters
// and other readers do about them. An [Archive] that a strict reader would refuse is not written.
//
// # What is not supported
//
// Archives of 4 GiB and more, which the format cannot express; keys other than RSA of 2048 to 16384 bits.
// Names that differ in Unicode normalization only are different names here, but not on macOS.
package mar
