// Package toolchain decides how a partial update must be made so that the updater of the *old* version can apply
// it, and which updates must not be made at all.
//
// What an updater understands changed over the years: bzip2 members and SHA-1 signatures until Firefox 55, xz and
// SHA-384 from 56 on, manifests of version 2 and 3, Zucchini patches beside MBDIFF10 from about 140. Some releases
// are watersheds that every older build must pass through. [Rules] hold that as data, per product; [Set.Select]
// applies them to a pair of builds and returns a recipe for package partial. What can be read off FROM's complete
// update ([ReadBuild]) outranks what its version suggests, since forks number their versions as they like.
//
// External programs that stand behind the same interfaces as this module's own code are in package tools below.
package toolchain
