package verify

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// Limits of what is kept of one test while it is read.
const (
	maxEvidence     = 40  // lines
	maxEvidenceLine = 300 // bytes
	maxDiffs        = 200 // differences of one tree
	maxPath         = 1024
)

// block is a test while its lines are read.
type block struct {
	id          Identity // without the patch type
	url         string
	line        int
	tries       int // how often update.xml was asked for
	empties     int // how often it was empty
	answered    bool
	patches     map[string]string // patch type to the MAR's address, out of update.xml
	bracketType string
	updateType  string // out of the updater's log
	marType     string // out of the MAR's name
	marURL      string // the MAR that was fetched
	sawMAR      bool
	http        int    // the last HTTP status of 400 and above
	lastURL     string // the last address that was fetched
	stage       string
	ended       string // why the script ended itself in this test

	failed, warned   string // the line that decides
	failLines        bool   // any line that says FAIL
	noUpdate         bool
	metadata         string
	patchMissing     bool
	marDownload      string // address that could not be downloaded
	size, hash       [2]string
	wrongSize        bool
	wrongHash        bool
	testing          bool // mode -t
	status           int  // of mode -t
	installer        string
	updaterPackage   bool
	updaterMissing   bool
	foundUpdater     bool
	unpack           string
	died             string // how the updater died
	notExecutable    bool
	statusSaid       bool
	updaterStatus    string // "update status was not successful: S"
	written          string // the last status that the updater's log says
	at               string // the last file that the updater worked on
	refused          string // the updater's words before it failed
	framework        string
	comparing        bool
	newer            bool // says a line that scripts before 2018 do not print
	noDifferences    bool
	differs          bool // the comparison's end says so
	pending          string
	list             string // kind of the paths that are listed now
	diffs            []FileDiff
	comparerExit     string
	evidence         []string
	evidenceFrom     int
	evidenceTo       int
	residual         bool
	sizeFail, sizeEq int // lines that say so about the pair
	seen             struct{ calls, updaters, comparisons, ends, types int }
	twice            bool // something is there twice that a test has once: lines of another are among its own
}

// once counts what a test has once.
func (b *block) once(n *int) {
	if *n++; *n > 1 {
		b.twice = true
	}
}

// say keeps a line as evidence.
func (b *block) say(text []byte, line int) {
	if b.evidenceFrom == 0 {
		b.evidenceFrom = line
	}
	b.evidenceTo = line
	if len(b.evidence) < maxEvidence {
		b.evidence = append(b.evidence, clean(text, maxEvidenceLine))
	}
}

// clean makes text that can be shown: valid UTF-8, of at most n bytes.
func clean(text []byte, n int) string {
	if len(text) > n {
		text = text[:n]
	}
	return strings.ToValidUTF8(string(text), "\uFFFD")
}

func (b *block) diff(path, kind string) {
	if len(b.diffs) < maxDiffs {
		b.diffs = append(b.diffs, FileDiff{Path: clean([]byte(path), maxPath), Kind: kind})
	}
}

// settle counts a difference that nothing has explained.
func (b *block) settle() {
	if b.pending != "" {
		b.diff(b.pending, "content")
		b.pending = ""
	}
}

// read takes in one line of the test. It leaves alone what decides: that is the reader's.
func (b *block) read(text []byte, line int) {
	if len(text) == 0 {
		return
	}
	if b.residual {
		switch text[0] {
		case ' ', '+', '-', '@', '\\', '<', '>', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			b.say(text, line)
			return
		}
		b.residual = false
	}
	if b.list != "" {
		if path, ok := bytes.CutPrefix(text, []byte("  ")); ok && text[0] == ' ' {
			b.diff(string(path), b.list)
			b.say(text, line)
			return
		}
		b.list = ""
	}
	switch text[0] {
	case 'P', 'E', 'F', 'b', 's', 'f', 'U', 'W', 'L', '#':
		if b.updaterLog(text, line) {
			return
		}
	}
	has := func(prefix string) bool { return len(text) >= len(prefix) && string(text[:len(prefix)]) == prefix }
	after := func(prefix string) string { return clean(text[len(prefix):], 4*maxEvidenceLine) }
	switch text[0] {
	case ' ', '<':
		trimmed := bytes.TrimLeft(text, " \t")
		switch {
		case bytes.HasPrefix(trimmed, []byte("<update")), bytes.HasPrefix(trimmed, []byte("<patch")), bytes.HasPrefix(trimmed, []byte("<?xml")):
			b.answer(trimmed)
		case bytes.HasPrefix(trimmed, []byte("HTTP/")):
			b.httpStatus(trimmed, line)
		}
	case 'R', 'D':
		switch {
		case has("Retrieving '"):
			b.fetch(after("Retrieving '"))
		case has("Downloading '"):
			b.fetch(after("Downloading '"))
		case has("Directories only in "):
			b.only(text[len("Directories only in "):], " directory")
			b.say(text, line)
		case has("Difference found in "):
			b.settle()
			b.pending = after("Difference found in ")
		}
	case 'E':
		switch {
		case has("Empty response, sleeping"):
			b.empties++
		case has("ERROR "):
			if status, err := strconv.Atoi(strings.TrimSuffix(firstField(after("ERROR ")), ":")); err == nil && status >= 400 && status < 600 {
				b.http = status
				b.say(text, line)
			}
		case has("ERROR: "):
			b.refused = clean(text, maxEvidenceLine)
			b.say(text, line)
		}
	case 'H':
		if has("HTTP/") {
			b.httpStatus(text, line)
		}
	case 'T':
		switch {
		case has("Testing URL"):
			b.testing, b.status = true, 0
		case has("Transforms removed all differences"):
			b.pending = ""
		}
	case 'I':
		if has("Ignoring difference in ") {
			b.pending = ""
		}
	case 'C':
		switch {
		case has("Could not download "):
			b.marDownload = b.lastURL
			b.say(text, line)
		case has("Couldn't find updater binary"):
			b.updaterMissing = true
			b.say(text, line)
		case has("Couldn't detect updater platform"), has("Couldn't find .app package"):
			b.ended = clean(text, maxEvidenceLine)
			b.say(text, line)
		case has("Comparing "):
			b.comparing, b.stage = true, "comparing"
			b.newer = true
			b.once(&b.seen.comparisons)
		case has("Calling updater:"):
			b.newer = true
			b.once(&b.seen.calls)
			b.stage = "applying"
		case has("Contents of "):
			b.say(text, line)
		}
	case 'U':
		switch {
		case has("Unknown package type for file:"), has("Unknown platform to unpack:"):
			b.ended = clean(text, maxEvidenceLine)
			b.say(text, line)
		case has("Using v"):
			b.newer = true
		case has("UnicodeDecodeError:"):
			b.say(text, line)
		}
	case 'o':
		if has("override_certs is ") {
			b.newer = true
		}
	case 'F':
		switch {
		case has("Found updater at"):
			b.foundUpdater = true
			b.once(&b.seen.updaters)
		case has("FAILED: cannot unpack_build"):
			b.unpack = clean(text, maxEvidenceLine)
			b.say(text, line)
		case has("Files only in "):
			b.only(text[len("Files only in "):], "")
			b.say(text, line)
		case has("Files ") && bytes.HasSuffix(text, []byte(" differ")):
			b.differing(string(text[len("Files "):len(text)-len(" differ")]), line, text)
		}
	case 'B':
		if has("Binary files ") && bytes.HasSuffix(text, []byte(" differ")) {
			b.differing(string(text[len("Binary files "):len(text)-len(" differ")]), line, text)
		}
	case 'O':
		if has("Only in ") {
			dir, name, ok := strings.Cut(after("Only in "), ": ")
			if ok {
				kind := "extra"
				if strings.HasPrefix(dir, "target") {
					kind = "missing"
				}
				b.diff(inTree(dir+"/"+name), kind)
				b.say(text, line)
			}
		}
	case 'd':
		if has("diff -r ") {
			old, _, _ := strings.Cut(after("diff -r "), " target/")
			b.diff(inTree(old), "content")
			b.say(text, line)
			b.residual = true
		}
	case 'N':
		if has("No differences found") {
			b.noDifferences = true
			b.once(&b.seen.ends)
		}
	case 'c':
		if has("cat: update/update.") {
			b.say(text, line)
		}
	}
	if before, ok := bytes.CutSuffix(text, []byte(" still differs after transforms, residual diff:")); ok {
		b.pending = ""
		b.diff(string(before), "content")
		b.say(text, line)
		b.residual = true
		return
	}
	if bytes.Contains(text, []byte(": line ")) {
		b.death(text, line)
	}
}

// updaterLog takes in a line of the updater's log.
func (b *block) updaterLog(text []byte, line int) bool {
	has := func(prefix string) bool { return len(text) >= len(prefix) && string(text[:len(prefix)]) == prefix }
	switch text[0] {
	case 'P', 'E':
		if !has("PREPARE ") && !has("EXECUTE ") {
			return false
		}
		if b.refused == "" {
			if at := bytes.LastIndexByte(text, ' '); at > 0 {
				b.at = clean(text[at+1:], maxPath)
			}
		}
		b.stage = "applying"
	case 'F':
		return has("FINISH ")
	case 'b':
		return has("backup_")
	case 's':
		if !has("succeeded") {
			return false
		}
		b.written = "succeeded"
	case 'f':
		if !has("failed: ") {
			return false
		}
		b.written = clean(text, 100)
		b.say(text, line)
	case 'U':
		if !has("UPDATE TYPE ") {
			return false
		}
		b.updateType = clean(text[len("UPDATE TYPE "):], 20)
		b.once(&b.seen.types)
	case 'W':
		if !has("Writing status to file: ") {
			return false
		}
		b.stage = "applying"
		b.written = clean(text[len("Writing status to file: "):], 100)
	case 'L':
		if !has("LoadSourceFile") {
			return false
		}
		if b.refused == "" {
			b.refused = clean(text, maxEvidenceLine)
		}
		b.say(text, line)
	case '#':
		if !has("### execution failed") {
			return false
		}
		b.say(text, line)
	}
	return true
}

func firstField(s string) string {
	s, _, _ = strings.Cut(s, " ")
	return s
}

// inTree cuts the tree's own name ("source/firefox/") off a path.
func inTree(path string) string {
	for range 2 {
		if _, rest, ok := strings.Cut(path, "/"); ok {
			path = rest
		}
	}
	return path
}

func (b *block) differing(both string, line int, text []byte) {
	first, _, _ := strings.Cut(both, " and ")
	b.diff(inTree(first), "content")
	b.say(text, line)
}

// only begins a list of what is in one tree.
func (b *block) only(tree []byte, what string) {
	b.settle()
	b.list = "extra" + what
	if bytes.HasPrefix(tree, []byte("target")) {
		b.list = "missing" + what
	}
}

func (b *block) fetch(rest string) {
	address, _, _ := strings.Cut(rest, "'")
	b.lastURL, b.http = address, 0
	path, _, _ := strings.Cut(address, "?")
	switch {
	case strings.HasSuffix(path, ".xml"):
		b.stage = "asking for update.xml"
	case strings.HasSuffix(path, ".mar"):
		b.sawMAR, b.stage = true, "fetching the MAR"
		if b.marURL != "" && b.marURL != address {
			b.twice = true
		}
		b.marURL = address
		for _, t := range []string{"partial", "complete"} {
			if strings.Contains(path[strings.LastIndexByte(path, '/')+1:], "."+t) {
				b.marType = t
			}
		}
	default:
		b.stage = "fetching the installers"
	}
}

func (b *block) httpStatus(text []byte, line int) {
	_, rest, _ := strings.Cut(clean(text, 100), " ")
	status, err := strconv.Atoi(firstField(rest))
	if err != nil {
		return
	}
	if b.testing {
		b.status = status
	}
	if status >= 400 {
		b.http = status
		b.say(text, line)
	}
}

// answer takes in a line of update.xml.
func (b *block) answer(text []byte) {
	b.answered = true
	for len(text) > 0 {
		at := bytes.Index(text, []byte("<patch "))
		if at < 0 {
			return
		}
		text = text[at+len("<patch "):]
		element, rest, _ := bytes.Cut(text, []byte(">"))
		kind, address := attribute(element, "type"), attribute(element, "URL")
		if (kind == "complete" || kind == "partial") && address != "" {
			if b.patches == nil {
				b.patches = map[string]string{}
			}
			b.patches[kind] = address
		}
		text = rest
	}
}

// attribute returns the value of an attribute of an element of update.xml as a log shows it.
func attribute(element []byte, name string) string {
	for at := 0; ; {
		i := bytes.Index(element[at:], []byte(name+`="`))
		if i < 0 {
			return ""
		}
		i += at
		if i == 0 || element[i-1] == ' ' || element[i-1] == '\t' {
			value, _, _ := bytes.Cut(element[i+len(name)+2:], []byte(`"`))
			return strings.ReplaceAll(clean(value, 2048), "&amp;", "&")
		}
		at = i + 1
	}
}

// deaths are the shell's words about a process that a signal ended.
var deaths = []string{"Segmentation fault", "Aborted", "Bus error", "Illegal instruction", "Killed", "Floating point exception", "Trace/breakpoint trap", "Terminated"}

// death notices the shell's word that the updater died or could not be started.
func (b *block) death(text []byte, line int) {
	if !bytes.Contains(text, []byte("updater")) {
		return
	}
	for _, how := range deaths {
		if bytes.Contains(text, []byte(how)) {
			b.died = how
			b.say(text, line)
			return
		}
	}
	if bytes.Contains(text, []byte("cannot execute")) || bytes.Contains(text, []byte("Exec format error")) ||
		bytes.Contains(text, []byte("Permission denied")) || bytes.Contains(text, []byte("No such file or directory")) {
		b.notExecutable = true
		b.say(text, line)
	}
}

// failLine takes in a line behind "FAIL: " that is not the last word on the test.
func (b *block) failLine(text []byte, line int) {
	b.failLines = true
	b.list, b.residual = "", false
	said := clean(text, 2*maxEvidenceLine)
	b.say(text, line)
	cut := func(prefix string) (string, bool) { return strings.CutPrefix(said, prefix) }
	switch {
	case strings.HasPrefix(said, "no <update/> found"):
		b.noUpdate = true
	case strings.HasPrefix(said, "expected "):
		b.metadata = strings.TrimPrefix(said, "expected ")
	case strings.HasPrefix(said, "no ") && strings.Contains(said, " update found for "):
		b.patchMissing = true
	case strings.HasSuffix(said, " wrong size"):
		b.wrongSize = true
	case strings.HasSuffix(said, " wrong hash"):
		b.wrongHash = true
	case strings.HasPrefix(said, "Could not download "):
		_, b.installer, _ = strings.Cut(said, " from ")
	case strings.HasPrefix(said, "no dir in "), strings.HasPrefix(said, "couldn't cd to "):
		b.unpack = said
	case strings.HasPrefix(said, "update status was not succe"):
		_, status, _ := strings.Cut(said, ": ")
		b.statusSaid, b.updaterStatus = true, strings.TrimSpace(status)
	case strings.Contains(said, "framework doesn't exist after update"):
		b.framework, _, _ = strings.Cut(said, " ")
	case strings.HasPrefix(said, "differences found after update"), strings.HasPrefix(said, "binary files found in diff"):
		b.differs = true
	default:
		if v, ok := cut("update.xml size: "); ok {
			b.size[0] = v
		} else if v, ok := cut("actual size: "); ok {
			b.size[1] = v
		} else if v, ok := cut("update.xml hash: "); ok {
			b.hash[0] = v
		} else if v, ok := cut("actual hash: "); ok {
			b.hash[1] = v
		} else if v, ok := cut("unknown error from diff: "); ok {
			b.comparerExit = v
		} else if v, ok := cut("unknown error from grep: "); ok {
			b.comparerExit = v + " of grep"
		}
	}
}

// outcome is the result of the block. closed says that the log goes on behind the test.
func (b *block) outcome(kind string, closed bool) (Result, []Reason) {
	b.settle()
	if b.failed != "" || b.failLines {
		return Fail, []Reason{b.reason()}
	}
	if b.ended != "" {
		return Interrupted, []Reason{{Code: WasInterrupted, Detail: scriptEnded + b.ended, Evidence: b.proof()}}
	}
	if b.warned != "" {
		r := b.reason()
		if r.Code == Unknown {
			r.Detail = b.warned
		}
		return Warn, []Reason{r}
	}
	if !closed {
		detail := "the log ends inside this test"
		if b.stage != "" {
			detail += ", while " + b.stage
		}
		return Interrupted, []Reason{{Code: WasInterrupted, Detail: detail}}
	}
	switch kind {
	case KindTestOnly:
		if b.status == 0 {
			return Error, []Reason{{Code: Unreadable, Detail: "the log shows no answer to the question for the MAR's headers"}}
		}
		if b.status >= 400 {
			return Fail, []Reason{{Code: MARMissing, HTTPStatus: b.status, Detail: fmt.Sprintf("HTTP %d for the MAR", b.status), Evidence: b.proof()}}
		}
		return Pass, nil
	case KindFull:
		if b.updaterMissing {
			return Fail, []Reason{{
				Code: UpdaterMissing, Evidence: b.proof(),
				Detail: "no updater in the updater package: the scripts skip the test without a word, nothing was proved",
			}}
		}
		old := !b.newer && !b.comparing && b.foundUpdater && b.written == "succeeded" && len(b.diffs) == 0
		if !b.noDifferences && !old {
			return Error, []Reason{{Code: Unreadable, Detail: "the log does not say how this test ended", Evidence: b.proof()}}
		}
		if b.died != "" {
			return Pass, []Reason{{
				Code: UpdaterDied, Detail: b.died + " at its end, but the status is \"succeeded\" and the tree is right; the scripts do not look at how the updater ends",
				Evidence: b.proof(),
			}}
		}
		return Pass, nil
	default:
		if !b.sawMAR {
			return Error, []Reason{{Code: Unreadable, Detail: "the log does not say that the MAR was looked at", Evidence: b.proof()}}
		}
		return Pass, nil
	}
}

// reason says why the block failed.
func (b *block) reason() Reason {
	r := Reason{Evidence: b.proof(), HTTPStatus: b.http}
	missing := func(what, address string) {
		r.Detail = what + " cannot be fetched"
		if b.http != 0 {
			r.Detail = fmt.Sprintf("HTTP %d for %s", b.http, what)
		}
		if address != "" {
			r.Detail += ": " + address
		}
	}
	switch {
	case b.noUpdate && (b.empties > 0 || b.answered):
		r.Code, r.Detail = NoUpdateOffered, "the update server answers with an empty <updates>"
	case b.noUpdate:
		r.Code = UpdateXMLUnavailable
		missing("update.xml", b.url)
	case b.metadata != "":
		r.Code = WrongMetadata
		if what, rest, ok := strings.Cut(b.metadata, " "); ok {
			if want, got, ok := strings.Cut(rest, " does not match actual "); ok {
				r.Detail = fmt.Sprintf("%s %s, expected %s", what, got, want)
				break
			}
		}
		r.Detail = b.metadata
	case b.patchMissing:
		r.Code, r.Detail = PatchTypeMissing, "update.xml has no patch of this type"
	case b.marDownload != "" || b.wrongSize && b.size[1] == "0":
		r.Code = MARMissing
		missing("the MAR", b.marDownload)
	case b.wrongSize:
		r.Code, r.Detail = WrongSize, fmt.Sprintf("the MAR has %s bytes, update.xml says %s", b.size[1], b.size[0])
	case b.wrongHash:
		r.Code, r.Detail = WrongHash, fmt.Sprintf("the MAR's hash is %s…, update.xml says %s…", first(b.hash[1], 16), first(b.hash[0], 16))
	case b.updaterPackage:
		r.Code = UpdaterMissing
		missing("the updater package", b.lastURL)
	case b.installer != "":
		r.Code = InstallerMissing
		missing("an installer", b.installer)
	case b.unpack != "":
		r.Code, r.Detail = UnpackFailed, b.unpack
	case b.framework != "":
		r.Code, r.Detail, r.At = FrameworkMissing, b.framework+" is gone after the update", b.framework
	case b.statusSaid && b.updaterStatus == "" && b.died == "":
		r.Code, r.Detail = UpdaterNotStarted, "the updater wrote no status"
		if b.notExecutable {
			r.Detail = "the updater is no program for this machine"
		}
	case b.statusSaid && !strings.HasPrefix(b.updaterStatus, "failed"):
		r.Code, r.UpdaterStatus = UpdaterCrashed, b.updaterStatus
		r.Detail = fmt.Sprintf("the updater ended in the middle: the status is %q", b.updaterStatus)
		if b.died != "" {
			r.Detail = fmt.Sprintf("%s: the status is %q", b.died, b.updaterStatus)
		}
	case b.statusSaid:
		r.Code, r.UpdaterStatus = ApplyFailed, b.updaterStatus
		r.Detail = "the updater says " + b.updaterStatus
		if words := statusWords(b.updaterStatus); words != "" {
			r.Detail += ": " + words
		}
		if b.refused != "" && b.at != "" && strings.HasPrefix(b.refused, "LoadSourceFile") {
			r.At = b.at
		}
	case len(b.diffs) > 0:
		r.Code, r.Files = TreeDiffers, b.diffs
		r.Detail = describeDiffs(b.diffs)
		if b.comparerExit == "1" {
			r.Detail += "; the scripts' comparison died of a binary file there, what follows was not compared"
		}
	case b.differs:
		r.Code = TreeDiffers
	case b.comparerExit == "3":
		r.Code, r.Detail = UnpackFailed, "a tree to compare is not there"
	case b.comparerExit != "":
		r.Code, r.Detail = TreeDiffers, "the scripts' comparison died with exit code "+b.comparerExit
	default:
		r.Code, r.Detail = Unknown, b.failed
	}
	if r.HTTPStatus != 0 && r.Code != MARMissing && r.Code != UpdateXMLUnavailable && r.Code != InstallerMissing && r.Code != UpdaterMissing {
		r.HTTPStatus = 0
	}
	return r
}

func first(s string, n int) string {
	return s[:min(n, len(s))]
}

// proof gives the lines that were kept.
func (b *block) proof() *Evidence {
	if b.evidenceFrom == 0 {
		return nil
	}
	return &Evidence{Line: b.evidenceFrom, Lines: b.evidenceTo - b.evidenceFrom + 1, Text: b.evidence}
}

// describeDiffs says in a few words what differs.
func describeDiffs(diffs []FileDiff) string {
	words := map[string]string{
		"content": "differs", "missing": "is missing", "extra": "is there and should not be", "mode": "has another mode",
		"missing directory": "is missing", "extra directory": "is there and should not be",
	}
	first := diffs[0]
	for _, d := range diffs { // a directory's files say more than the directory
		if !strings.HasSuffix(d.Kind, "directory") {
			first = d
			break
		}
	}
	said := first.Path + " " + words[first.Kind]
	if len(diffs) > 1 {
		said += fmt.Sprintf(", and %s more", count(len(diffs)-1, "difference"))
	}
	return said
}

// statusWords explains the updater's error numbers (updatererrors.h of Gecko's updater).
func statusWords(status string) string {
	number, ok := strings.CutPrefix(status, "failed: ")
	if !ok {
		return ""
	}
	n, err := strconv.Atoi(strings.TrimSpace(number))
	if err != nil {
		return ""
	}
	switch n {
	case 1:
		return "the manifest is empty"
	case 2:
		return "a file that is to be patched has another size than the partial was made for"
	case 4:
		return "a file that is to be patched has other content than the partial was made for"
	case 5:
		return "the manifest cannot be read"
	case 6:
		return "a file cannot be read"
	case 7:
		return "a file cannot be written"
	case 15:
		return "the manifest has an instruction that this updater does not know"
	case 16, 17, 18:
		return "the certificate in the updater cannot be used"
	case 19:
		return "the MAR is signed by none of the updater's keys"
	case 20:
		return "the MAR cannot be opened"
	case 21:
		return "the MAR says no product, channel and version"
	case 22:
		return "the MAR's channel is not one that this installation accepts"
	case 23:
		return "the MAR is older than the installation"
	case 38:
		return "update-settings.ini cannot be read"
	case 39:
		return "a compressed file of the MAR cannot be unpacked"
	case 41:
		return "a patch cannot be applied"
	case 42:
		return "a file cannot be renamed, removed or created"
	}
	if n >= 61 && n <= 70 {
		return "a file cannot be written"
	}
	return ""
}

// scriptEnded is what is said where the script gave up by itself, before the words that it ended with.
const scriptEnded = "the script ends itself: "
