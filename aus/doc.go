// Package aus decides which update a client gets: the application update service of Gecko products, as a library.
//
// A client asks with one address that says what it is:
//
//	/update/6/PRODUCT/VERSION/BUILDID/TARGET/LOCALE/CHANNEL/OSVERSION/CAPABILITIES/DISTRIBUTION/DISTVERSION/update.xml
//
// and is answered with XML that offers at most one complete and one partial update:
//
//	query ──► shutoff? ──► rules: the highest priority of those that match
//	                            │ mapping, or fallback mapping: by background rate, force or rollout
//	                            ▼
//	                       release ──► newer than the client? pinned? ──► <update> with its <patch> lines
//
// [Compile] turns rules, releases, pins, shutoffs and an allow list of hosts into a [Snapshot], once, and says everything
// that is wrong with them. A snapshot is immutable: servers swap it atomically, and any number of goroutines ask
// it. [Snapshot.Answer] answers a query with bytes and the reason for them, [Snapshot.Explain] says of each rule which
// column did not match, and [Snapshot.Respond] answers whole requests, Balrog's read-only API included.
//
// Rules, releases (which Balrog calls blobs), addresses and answers are those of Mozilla's Balrog, whose documents can
// be used as they are; a release is read by [NewRelease] and validated by [Validate]. Answers are Balrog's byte for byte, but for
// what is a fault there: what is a 500 in Balrog is an error of Compile and no update here, and some
// comparisons are mended. Each of these is a [Quirk], and an answer names those that the query met, so that an answer
// without any is the same as Balrog's. [Snapshot.Strict] imitates Balrog, faults included, for tests and for comparing
// the two. The facts were observed on Balrog 3.121; package replay, below this one, compares recorded answers.
//
// # What is not supported
//
// MySQL's collation: product, build target and distribution version are compared byte by byte, as Balrog does on SQLite.
// The antivirus program's parameters that would set other fields of a query through "force". Regular expressions of
// allow lists that Go's syntax does not have; Compile names them. Content signatures, which are the server's business.
package aus
