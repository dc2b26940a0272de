// Package updater is what Gecko's updater does: it reads manifests, works out what each instruction does to a tree, and
// applies an update to a directory, with the updater's own error numbers.
//
// An update is a MAR with one manifest and the items that its instructions name:
//
//	update.mar
//	  updatev3.manifest     type "partial"
//	                        patch "libxul.so.patch" "libxul.so"     an item, applied to an installed file
//	                        add "omni.ja"                           an item, written whole
//	                        remove "old.txt"
//	  libxul.so.patch       compressed, as every item is
//	  omni.ja
//
// [ParseManifest] reads the list as the updater does, quirks included. [Simulate] says what becomes of each path of a
// [Tree], in terms of what there is, without reading any content: tools that prove an update compare that with what
// should be there. [Apply] changes a directory, all or nothing.
//
// What the updater would fail with is an [*UpdateError] with its number, or [CodeCrash]. Where the updater would not
// notice that the result is wrong, the code is 0, and only this package refuses.
//
// # Where it is not the updater
//
// What 600 made-up updates come to is known from Mozilla's updater (ESR 140), and is the same here, tree and number, but for
// two kinds:
//
//   - The updater crashes (12 of them: a manifest or an item that is not there, a type without a word). Here that is an
//     error with CodeCrash, and nothing is changed; the updater leaves whatever it was doing.
//   - The updater fails and leaves something behind: directories that it made, files that it did not put back (11 of the 314 that fail).
//     Here the tree is what it was.
//
// Beyond those, three kinds of updates that would succeed are refused, with code 0: a file where there is a directory that
// is not empty, which would stay behind under another name; a patch that contradicts itself; and what is over a limit.
//
// # Not supported
//
// Patches of other formats than MBDIFF10 and Zucchini.
package updater
