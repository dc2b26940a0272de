// Package partial makes and proves updates of Gecko products: the rules around the files of a MAR.
//
// A complete update holds every file of a release, each compressed, and a manifest that lists them. A partial
// update turns exactly one release into another: per file it holds nothing (unchanged), a patch, or the whole
// file, and its manifest says what to do with each:
//
//	FROM.mar (complete)      TO.mar (complete)          partial.mar
//	  updatev3.manifest        updatev3.manifest          updatev3.manifest   type "partial"
//	  libxul.so       ─┐       libxul.so       ─┬─ diff ─▶ libxul.so.patch     patch "libxul.so.patch" "libxul.so"
//	  omni.ja          │       omni.ja         ─┼─ as is ▶ omni.ja             add "omni.ja"
//	  old.txt          │                        │                             remove "old.txt"
//	                   └── applied and compared ┘
//
// Pack makes a complete update from a tree, Build a partial one from two complete ones, and Verify proves in memory
// that a partial turns FROM into TO. Package [github.com/senbonzakura/senbonzakura/partial/updater] knows what the
// installed updater does with it, and applies one to a directory.
//
// # What is promised
//
// The updater checks neither the result nor the length of a patch, and crashes on some manifests. So Build
// refuses inputs that would give an update that clients fail on, with the reason and a way out (*RefusedError), and
// by default proves what it made, on the very bytes that will be written, before anyone sees it. Members that go
// in whole are TO's own compressed bytes. The same inputs and Recipe give the same bytes on every machine and for
// any number of workers.
//
// # Recipes
//
// MozillaRecipe does what Mozilla's make_incremental_update.sh does: the same manifest text, entries, order and
// decisions between patch and whole file, and mbsdiff's bytes in the patches. What those scripts get wrong it gets
// wrong as well, and lists it in the report. DefaultRecipe makes smaller updates, which every updater since Firefox
// 56 applies, and repairs or refuses what the scripts get wrong.
//
// # Memory and caches
//
// What changed is found by comparing compressed members; only those that changed are unpacked, each once, the largest
// first, as many at a time as [Memory] has room for what they declare. A program that makes updates for several requests
// shares one Memory between them.
//
// A release of many locales shares its large files. [PatchCache] keeps patches by the content of both files, and
// [Memo] or [DigestCache] what compressed members hold, so that a pair of files that was seen before is neither unpacked
// nor diffed nor applied: its patch was proved when it was made, and unproved ones are not kept. Names, modes, order and
// everything else about the update are proved each time.
//
// # Not supported
//
// Symbolic links and empty directories, which no MAR can hold; renames: a file at a new path goes in whole.
package partial
