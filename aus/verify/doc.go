// Package verify answers the question of update verify: do the clients that are out there get the new release, and do
// they survive it?
//
// Update verify is the last gate of a release. Every old build asks the update server what it would get, fetches it,
// applies it and must end up as the newest build. Mozilla's scripts for it print thousands of lines, say a pass by
// silence and repeat every failure at the end. [Read] reads the logs of all generations of these scripts and gives
// back one [Report]: every test that there was or should have been, what became of it, and the failures put together
// by their cause.
//
// A test is one update path of one kind: product, release, build ID, platform, locale, channel and patch type.
// Its result is never better than what is known: a test that the plan names and no line speaks of is [NotRun], one in
// whose middle the log ends is [Interrupted], and one whose end cannot be made out is an [Error]. Only [Pass], [Warn]
// and [Known] let a report pass.
//
// A report is written as text for a terminal, as lines of JSON (from which it can be read again), as JUnit XML, as
// Markdown for a job's summary, as one page of HTML and as Treeherder's error summary.
package verify
