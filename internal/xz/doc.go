// Package xz reads and writes the xz container as update archives use it.
//
// A stream is
//
//	FD 37 7A 58 5A 00  flags(2)  CRC32(4)            header: the flags name the check
//	block*                                           header, LZMA2 data, padding to 4 bytes, check
//	00  count  (unpadded size, plain size)*  pad  CRC32(4)   index: one record per block
//	CRC32(4)  backward size(4)  flags(2)  59 5A      footer
//
// and a block's header names up to four filters, the last of which is LZMA2:
//
//	size(1)  flags(1)  [packed size]  [plain size]  (id, length of properties, properties)*  zeros  CRC32(4)
//
// Everything the format has is read: all checks (none, CRC32, CRC64, SHA-256), the filters for x86, PowerPC,
// IA-64, ARM, ARM-Thumb, SPARC and ARM64 code, delta, several blocks, several streams, and padding between
// them. A start offset of a code filter other than 0 is not supported. Nothing is believed: what a header claims is
// compared with Limits before a decoder exists, memory grows with the data that is really there, and all checks
// are verified.
//
// What is written is one stream of one block, headers as the xz program writes them with one thread.
// UpdaterAccepts says whether Mozilla's updater, whose decoder takes less than the format allows, can unpack a
// member.
package xz
