// Package bsdiff makes, applies and inspects binary patches in MBDIFF10, the format of Mozilla's updater, and in
// BSDIFF40, that of the programs bsdiff and bspatch.
//
// An MBDIFF10 patch. All numbers are unsigned 32-bit, most significant byte first, but for seek, which is signed:
//
//	byte  0   4D 42 44 49 46 46 31 30   "MBDIFF10"
//	byte  8   size of the old file      byte 12   its checksum: CRC-32 as in bzip2, see Checksum
//	byte 16   size of the new file      byte 20   size of the control block, a multiple of 12
//	byte 24   size of the difference block        byte 28   size of the extra block
//	byte 32   control block: steps of {add, copy, seek}
//	          difference block
//	          extra block, and the end
//
// One step of a patch:
//
//	old file    . . . [ add bytes ]───── seek, may be negative ─────▶[ the next step's ] . . .
//	                        + byte by byte, modulo 256
//	difference  . . . [ add bytes ] . . .
//	                        =
//	new file    . . . [ add bytes ][ copy bytes ] . . .
//	                                      =
//	extra       . . .              [ copy bytes ] . . .
//
// Nothing in it is compressed: in an update the whole patch is one xz stream. There is no checksum of the new
// file, and the updater does not even compare its size with the patch: see [PatchOptions] for what it lets
// pass and [Patch] does not.
//
// A BSDIFF40 patch has little-endian 64-bit numbers with a sign bit, no old size or checksum, and compresses its
// three blocks with bzip2, each by itself.
//
// Not supported: files and patches of 2 GiB and more, patches in which the old and new file are one (in place), and
// the other formats that go by the name of bsdiff (BSDIFF4x of FreeBSD's ports, ENDSLEY/BSDIFF43, BSDF2).
package bsdiff
