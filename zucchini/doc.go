// Package zucchini makes, applies and inspects binary patches in the format Zucchini, version 2.0, which Mozilla's
// updater applies beside MBDIFF10 since Firefox 144 and in 140's later extended support releases. The format is
// that of Chromium's component of the same name.
//
// A program that has grown by a byte differs from the one before in every call over that byte. A Zucchini patch
// says what moved where, finds the calls, pointers and relocations in the old program, and corrects them as that
// demands; what it has to say on top of that is little. Such patches of executables are half as large as others,
// where the references are found: in programs for Windows (x86 and x86-64), and for Linux (ELF for x86, x86-64,
// AArch64 and ARM) unless they have a section named .relro_padding, as newer versions of the linker lld give them.
// All other files are bytes, of which patches are about as large as in MBDIFF10, and smaller where the files are
// large and nearly the same.
//
// A patch. All numbers are unsigned, 32-bit unless said otherwise, least significant byte first:
//
//	byte  0   5A 75 63 63   "Zucc"
//	byte  4   02 00   major version        byte  6   00 00   minor version
//	byte  8   size of the old file         byte 12   its checksum: CRC-32 as in zip
//	byte 16   size of the new file         byte 20   its checksum
//	byte 24   number of elements           byte 28   elements
//
// An element makes the next bytes of the new file from some part of the old one:
//
//	byte  0   offset in the old file       byte  4   bytes of it
//	byte  8   offset in the new file       byte 12   bytes of it
//	byte 16   "NoOp", or the kind of executable that both are from the first byte to the last:
//	          "Px86", "Px64", "Ex86", "Ex64", "EA32", "EA64"
//	byte 20   01 00   version of the kind
//	byte 22   seven lists, each a size in bytes and numbers of 1 to 5 bytes or, where marked so, plain bytes:
//	          src_skip  dst_skip  copy_count    stretches of old bytes that are copied
//	          extra_data (bytes)                what is between them
//	          raw_delta_skip  raw_delta_diff (bytes)    copied bytes that are changed
//	          reference_delta                   references that lead elsewhere than is to be expected
//	          number of pools, and for each a byte, its number, and a list of targets that are new
//
// How the element is applied:
//
//	old   ..[  copied   ]......[   copied  ]....        the references found in old, where copied
//	             │                   │
//	             ▼ + differences     ▼                     lead to old offsets, which are translated
//	new   [      copied   ][ extra ][   copied  ]       as what is copied, and written to new
//
// References are named by their place in the sorted list of all targets, and only the distance to the expected one
// is in the patch. Both sides have to find the same references: see what Apply does where they would not.
//
// Nothing in a patch is compressed: in an update the whole patch is one xz stream.
//
// Not supported: files of 2 GiB and more, and the kinds of Android (DEX) and of Chromium's tests (ZTF), which Mozilla's
// updater does not know either.
package zucchini
