package verify

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// group puts the tests that are not a plain pass together by their cause and explains each group.
func (r *Report) group() {
	r.Groups = nil
	u := newUniverse(r.Tests)
	byKey := map[string]int{}
	for i := range r.Tests {
		t := &r.Tests[i]
		t.Group = 0
		if t.Result == Pass && len(t.Reasons) == 0 {
			continue
		}
		key := string(t.Result) + "\x00" + causeKey(t)
		at, ok := byKey[key]
		if !ok {
			at = len(r.Groups)
			byKey[key] = at
			code := Unknown
			if len(t.Reasons) > 0 {
				code = t.Reasons[0].Code
			}
			r.Groups = append(r.Groups, Group{Code: code, Result: t.Result, first: i})
		}
		r.Groups[at].indices = append(r.Groups[at].indices, i)
	}
	slices.SortStableFunc(r.Groups, func(a, b Group) int {
		if c := slices.Index(results, a.Result) - slices.Index(results, b.Result); c != 0 {
			return c
		}
		return len(b.indices) - len(a.indices)
	})
	for i := range r.Groups {
		g := &r.Groups[i]
		g.ID, g.Tests = i+1, len(g.indices)
		for _, t := range g.indices {
			r.Tests[t].Group = g.ID
		}
		g.Title = g.Code.title()
		if words := statusTitle(&r.Tests[g.first]); words != "" {
			g.Title = words
		}
		if g.Result == Known {
			g.Title = "expected: " + g.Title
		}
		g.What = what(&r.Tests[g.first], g.indices, r.Tests)
		if u.work > maxWork {
			g.Members = u.brief(r.Tests, g.indices)
			continue
		}
		g.Members = u.describe(r.Tests, g.indices)
		g.Beside = u.beside(r.Tests, g)
		g.Cause, g.Next = u.explain(r, g)
		if address := r.Tests[g.first].MAR; strings.Contains(address, "://") && strings.Contains(g.Next, marName(address)) && !strings.Contains(g.Next, address) {
			g.MAR = address
		}
	}
}

// maxWork is how many places of the matrix of tests are looked at to explain causes, so that ten thousand causes cost no
// more than linear time; the causes behind get a short description.
const maxWork = 20_000_000

// brief names the first of some tests.
func (u *universe) brief(tests []Test, indices []int) string {
	c := u.cell(&tests[indices[0]])
	said := c.release + "  " + c.locale + "  " + c.patchType
	if len(u.platforms) > 1 {
		said = c.platform + "  " + said
	}
	if len(indices) > 1 {
		said += "  and " + count(len(indices)-1, "more test")
	}
	return said
}

// causeKey is what tests with one cause have in common.
func causeKey(t *Test) string {
	if len(t.Reasons) == 0 {
		return string(Unknown)
	}
	reason := &t.Reasons[0]
	key := []string{string(reason.Code)}
	switch reason.Code {
	case TreeDiffers, ExecutableBit:
		if len(reason.Files) > 0 {
			first := slices.MinFunc(reason.Files, func(a, b FileDiff) int { return strings.Compare(a.Path+a.Kind, b.Path+b.Kind) })
			key = append(key, first.Path, first.Kind)
		}
	case ApplyFailed, UpdaterCrashed:
		key = append(key, reason.UpdaterStatus)
	case WrongMetadata, FrameworkMissing, UnpackFailed, ChannelMismatch, VersionDowngrade, SetupTrouble, FormatMismatch, MARFinding:
		key = append(key, reason.Detail)
	case MARMissing, InstallerMissing, UpdaterMissing, UpdateXMLUnavailable, NetworkTrouble:
		key = append(key, fmt.Sprint(reason.HTTPStatus), host(reason.Detail))
	case Unknown:
		key = append(key, first(reason.Detail, 80))
	}
	if t.Known != "" {
		key = append(key, t.Known)
	}
	return strings.Join(key, "\x00")
}

// host finds the host of the first address in a text.
func host(text string) string {
	_, rest, ok := strings.Cut(text, "://")
	if !ok {
		return ""
	}
	if end := strings.IndexAny(rest, "/ :?"); end >= 0 {
		rest = rest[:end]
	}
	return rest
}

// title says what happened, for people.
func (c Code) title() string {
	switch c {
	case MARMissing:
		return "the MAR is not there"
	case WrongSize:
		return "the MAR has another size than update.xml says"
	case WrongHash:
		return "the MAR has another hash than update.xml says"
	case WrongMetadata:
		return "update.xml names another build"
	case NoUpdateOffered:
		return "no update is offered"
	case UpdateXMLUnavailable:
		return "the update server has no answer"
	case PatchTypeMissing:
		return "update.xml does not offer this kind of update"
	case UpdaterMissing:
		return "there is no updater to run"
	case InstallerMissing:
		return "an installer is not there"
	case UnpackFailed:
		return "an installer cannot be unpacked"
	case ApplyFailed:
		return "the updater refuses or fails"
	case UpdaterCrashed:
		return "the updater dies at work"
	case UpdaterNotStarted:
		return "the updater cannot be started"
	case UpdaterDied:
		return "the updater dies when all is done"
	case TreeDiffers:
		return "the updated tree is not the installed one"
	case FrameworkMissing:
		return "a framework is gone after the update"
	case PartialLarger:
		return "the partial is larger than the complete"
	case PartialEqual:
		return "the partial is as large as the complete"
	case WasInterrupted:
		return "interrupted: how these ended is not known"
	case WasNotRun:
		return "not run"
	case Unreadable:
		return "unreadable: the log does not say how these ended"
	case FormatMismatch:
		return "FROM's updater cannot read the MAR"
	case ExecutableBit:
		return "a file is executable where it should not be, or the other way round"
	case SignatureMissing:
		return "the MAR is not signed"
	case SignatureWrongKey:
		return "the MAR is signed with another key"
	case ChannelMismatch:
		return "the MAR's channel is not accepted"
	case VersionDowngrade:
		return "the MAR is older than the installation"
	case ApplierDisagrees:
		return "the real updater and ours come to different ends"
	case URLNotHTTPS:
		return "the MAR's address is not https"
	case RedirectLoop:
		return "the MAR's address redirects without an end"
	case HostNotAllowed:
		return "the MAR is on a host that was not expected"
	case NetworkTrouble:
		return "could not be tested: network"
	case SetupTrouble:
		return "could not be tested: something is missing here"
	case DamagedMAR:
		return "the MAR cannot be read"
	case RefusedByClient:
		return "the client would refuse the MAR"
	case MARFinding:
		return "a check of the MAR found something"
	}
	return "failed, and the log does not say why"
}

// statusTitle says what happened where the updater's error number says it better than the code.
func statusTitle(t *Test) string {
	if len(t.Reasons) == 0 || t.Reasons[0].Code != ApplyFailed {
		return ""
	}
	switch t.Reasons[0].UpdaterStatus {
	case "failed: 2", "failed: 4":
		return "the " + t.PatchType + " does not fit what users have"
	case "failed: 19":
		return SignatureWrongKey.title()
	case "failed: 22":
		return ChannelMismatch.title()
	case "failed: 23":
		return VersionDowngrade.title()
	}
	return ""
}

// what says what the tests of a group share.
func what(t *Test, indices []int, tests []Test) string {
	if len(t.Reasons) == 0 {
		return ""
	}
	reason := &t.Reasons[0]
	switch reason.Code {
	case TreeDiffers, ExecutableBit:
		same := true
		for _, i := range indices {
			same = same && len(tests[i].Reasons) > 0 && sameFiles(tests[i].Reasons[0].Files, reason.Files)
		}
		if !same && len(reason.Files) > 0 {
			return reason.Files[0].Path + " and others"
		}
		return describeOr(reason)
	case MARMissing, InstallerMissing, UpdaterMissing, UpdateXMLUnavailable, NetworkTrouble, WrongSize, WrongHash:
		if len(indices) > 1 {
			said := fmt.Sprintf("%d addresses", addresses(indices, tests))
			if addresses(indices, tests) == 1 {
				said = reason.Detail
			} else if reason.HTTPStatus != 0 {
				said = fmt.Sprintf("HTTP %d, %s", reason.HTTPStatus, said)
			} else if reason.Code == WrongSize || reason.Code == WrongHash {
				said = ""
			}
			return said
		}
	}
	return reason.Detail
}

func describeOr(reason *Reason) string {
	if len(reason.Files) > 0 {
		return describeDiffs(reason.Files)
	}
	return reason.Detail
}

func addresses(indices []int, tests []Test) int {
	seen := map[string]bool{}
	for _, i := range indices {
		if len(tests[i].Reasons) > 0 {
			seen[tests[i].Reasons[0].Detail] = true
		}
	}
	return len(seen)
}

func sameFiles(a, b []FileDiff) bool {
	return slices.EqualFunc(a, b, func(x, y FileDiff) bool { return x.Path == y.Path && x.Kind == y.Kind })
}

// universe is all tests, to say which of them a group is.
type universe struct {
	releases, locales, platforms []string
	label                        map[string]string // release and build ID to what people call it
	tests                        map[cell][]int
	results                      []Test
	work                         int // places that were looked at
}

// cell is a place in the matrix of releases, locales, platforms and patch types.
type cell struct{ release, locale, platform, patchType string }

func newUniverse(tests []Test) *universe {
	u := &universe{label: map[string]string{}, tests: map[cell][]int{}, results: tests}
	builds := map[string]map[string]bool{}
	locales, platforms := map[string]bool{}, map[string]bool{}
	for i := range tests {
		t := &tests[i]
		if builds[t.Release] == nil {
			builds[t.Release] = map[string]bool{}
		}
		builds[t.Release][t.BuildID] = true
		locales[t.Locale], platforms[t.Platform] = true, true
	}
	seen := map[string]bool{}
	for i := range tests {
		t := &tests[i]
		label := t.Release
		if len(builds[t.Release]) > 1 {
			label = fmt.Sprintf("%s (%s)", t.Release, t.BuildID)
		}
		u.label[t.Release+"\x00"+t.BuildID] = label
		if !seen[label] {
			seen[label] = true
			u.releases = append(u.releases, label)
		}
		c := u.cell(t)
		u.tests[c] = append(u.tests[c], i)
	}
	u.locales, u.platforms = sortedKeys(locales), sortedKeys(platforms)
	slices.SortFunc(u.releases, newestFirst)
	return u
}

func (u *universe) cell(t *Test) cell {
	return cell{u.label[t.Release+"\x00"+t.BuildID], t.Locale, t.Platform, t.PatchType}
}

// span is the smallest box around some tests.
type span struct{ releases, locales, platforms, types []string }

func (u *universe) span(tests []Test, indices []int) span {
	var sets [4]map[string]bool
	for i := range sets {
		sets[i] = map[string]bool{}
	}
	for _, i := range indices {
		c := u.cell(&tests[i])
		for k, v := range []string{c.release, c.locale, c.platform, c.patchType} {
			sets[k][v] = true
		}
	}
	s := span{sortedKeys(sets[0]), sortedKeys(sets[1]), sortedKeys(sets[2]), sortedKeys(sets[3])}
	slices.SortFunc(s.releases, newestFirst)
	return s
}

// within lists the tests inside a box; an empty side of it is every value.
func (u *universe) within(s span) []int {
	var list []int
	or := func(some, all []string) []string {
		if len(some) == 0 {
			return all
		}
		return some
	}
	types := or(s.types, []string{"complete", "partial"})
	box := [3][]string{or(s.releases, u.releases), or(s.locales, u.locales), or(s.platforms, u.platforms)}
	if places := float64(len(box[0])) * float64(len(box[1])) * float64(len(box[2])) * float64(len(types)); places > float64(len(u.results)) {
		return u.scan(box, types)
	}
	u.work += len(box[0]) * len(box[1]) * len(box[2]) * len(types)
	for _, release := range box[0] {
		for _, locale := range box[1] {
			for _, platform := range box[2] {
				for _, patchType := range types {
					list = append(list, u.tests[cell{release, locale, platform, patchType}]...)
				}
			}
		}
	}
	return list
}

// scan is within for a box with more places than there are tests.
func (u *universe) scan(box [3][]string, types []string) []int {
	u.work += len(u.results)
	var sets [4]map[string]bool
	for i, values := range [][]string{box[0], box[1], box[2], types} {
		sets[i] = make(map[string]bool, len(values))
		for _, v := range values {
			sets[i][v] = true
		}
	}
	var list []int
	for i := range u.results {
		c := u.cell(&u.results[i])
		if sets[0][c.release] && sets[1][c.locale] && sets[2][c.platform] && sets[3][c.patchType] {
			list = append(list, i)
		}
	}
	return list
}

// localesOf lists the locales of tests.
func (u *universe) localesOf(indices []int) []string {
	set := map[string]bool{}
	for _, i := range indices {
		set[u.results[i].Locale] = true
	}
	return sortedKeys(set)
}

// describe says which tests these are in as few words as can be.
func (u *universe) describe(tests []Test, indices []int) string {
	s := u.span(tests, indices)
	var words []string
	if len(u.platforms) > 1 {
		words = append(words, some(s.platforms, u.platforms, "platform", 2))
	}
	words = append(words, some(s.releases, u.releases, "release", 3))
	around := u.localesOf(u.within(span{s.releases, nil, s.platforms, s.types}))
	words = append(words, some(s.locales, around, "locale", 5))
	switch len(s.types) {
	case 1:
		words = append(words, s.types[0])
	case 2:
		words = append(words, "complete and partial")
	}
	said := strings.Join(words, "  ")
	if all := len(u.within(s)); all > len(indices) {
		said += fmt.Sprintf("  (%d of these %s)", len(indices), count(all, "test"))
	}
	return said
}

// some names the members of a set of all: by name, as all, as all but some, or by number.
func some(members, all []string, noun string, most int) string {
	switch {
	case len(members) == 0:
		return "no " + noun
	case len(members) == 1 && (len(all) == 1 || noun != "locale"):
		return members[0]
	case len(members) == len(all):
		return "all " + count(len(all), noun)
	case len(all)-len(members) <= 2 && len(all) > 4:
		return "all but " + strings.Join(minus(all, members), " and ")
	case len(members) <= most:
		return strings.Join(members, ", ")
	}
	return fmt.Sprintf("%d of %s", len(members), count(len(all), noun))
}

func minus(all, members []string) []string {
	var rest []string
	set := make(map[string]bool, len(members))
	for _, v := range members {
		set[v] = true
	}
	for _, v := range all {
		if !set[v] {
			rest = append(rest, v)
		}
	}
	return rest
}

// passing says whether there are tests among these and all of them passed.
func (u *universe) passing(indices []int) bool {
	for _, i := range indices {
		if r := u.results[i].Result; r != Pass && r != Warn {
			return false
		}
	}
	return len(indices) > 0
}

// beside says what passes next to a group: that is what the trouble is not.
func (u *universe) beside(tests []Test, g *Group) string {
	if g.Result == NotRun || g.Result == Known {
		return ""
	}
	s := u.span(tests, g.indices)
	var said []string
	if len(s.types) == 1 {
		other := "complete"
		if s.types[0] == "complete" {
			other = "partial"
		}
		if u.passing(u.within(span{s.releases, s.locales, s.platforms, []string{other}})) {
			if len(g.indices) == 1 {
				said = append(said, "its "+other+" passes")
			} else {
				said = append(said, "their "+other+"s pass")
			}
		}
	}
	var rest []string
	tested := 0
	for _, release := range minus(u.releases, s.releases) {
		there := u.within(span{[]string{release}, s.locales, s.platforms, s.types})
		if len(there) > 0 {
			tested++
		}
		if u.passing(there) {
			rest = append(rest, release)
		}
	}
	if len(rest) > 0 && len(s.types) == 1 {
		which := strings.Join(rest, ", ")
		switch {
		case len(rest) > 1 && len(rest) == tested:
			which = "the other releases"
		case len(rest) > 3:
			which = count(len(rest), "other release")
		}
		said = append(said, fmt.Sprintf("the %ss from %s pass", s.types[0], which))
	}
	around := u.localesOf(u.within(span{s.releases, nil, s.platforms, s.types}))
	if others := minus(around, s.locales); len(others) > 0 {
		if u.passing(u.within(span{s.releases, others, s.platforms, s.types})) {
			if len(others) == 1 {
				said = append(said, others[0]+" passes")
			} else {
				said = append(said, "the other "+count(len(others), "locale")+" pass")
			}
		}
	}
	return strings.Join(said, ", ")
}

// marName is the name of a MAR's file.
func marName(address string) string { return path.Base(strings.SplitN(address, "?", 2)[0]) }

// explain says what is likely behind a group and what to do now.
func (u *universe) explain(r *Report, g *Group) (cause, next string) {
	t := &r.Tests[g.first]
	if len(t.Reasons) == 0 {
		return "", ""
	}
	reason := &t.Reasons[0]
	s := u.span(r.Tests, g.indices)
	partials := len(s.types) == 1 && s.types[0] == "partial"
	completes := len(s.types) == 1 && s.types[0] == "complete"
	around := u.localesOf(u.within(span{s.releases, nil, s.platforms, s.types}))
	everyLocale := len(s.locales) == len(around) && len(around) > 1
	everything := len(g.indices) == len(r.Tests) && len(g.indices) > 1
	oneLocale := len(s.locales) == 1 && len(around) > 1
	name := "MAR"
	if t.MAR != "" {
		name = shellWord(marName(t.MAR))
	}
	prove := fmt.Sprintf("marctl prove FROM.mar %s TO.mar", name)
	look := ""
	if t.MAR != "" && strings.Contains(t.MAR, "://") {
		look = "curl -sIL " + shellWord(t.MAR)
	}
	ask := ""
	if t.Request != "" {
		ask = "curl -s " + shellWord(t.Request)
	}
	switch reason.Code {
	case TreeDiffers:
		return treeCause(reason.Files, u, s, partials, completes), iff(partials, prove, iff(completes, "compare the complete MAR with TO's installer: marctl extract "+name+" DIR", prove))
	case ExecutableBit:
		return "the MAR's entry carries another mode than TO has: packaging without the executable bit", "marctl list " + name
	case ApplyFailed:
		switch reason.UpdaterStatus {
		case "failed: 2", "failed: 4":
			next = prove
			switch {
			case partials && everyLocale:
				cause = fmt.Sprintf("the partials from %s were made from other bytes than its users have (a build made again, or signed after the partials were made): make them again from the published completes",
					strings.Join(s.releases, ", "))
			case partials && oneLocale:
				cause = fmt.Sprintf("only %s: what users of this locale have is not what the partial was made from", s.locales[0])
			default:
				cause = "what users have is not what the partial was made from"
			}
			return cause, next
		case "failed: 19":
			cause = "this MAR is signed with another key than FROM's updater has"
			if everything || len(g.indices) > 1 && everyLocale {
				cause = "the MARs are signed with another key than FROM's updater has, or override_certs is forgotten in the configuration"
			}
			return cause, "marctl verify " + name + " --key KEY"
		case "failed: 22":
			return "the channel in the MAR is not among those that FROM accepts: the MAR was made with another channel, or mar_channel_IDs in the configuration is wrong", "marctl info " + name
		case "failed: 23":
			return "the version in the MAR is lower than FROM's", "marctl info " + name
		case "failed: 39", "failed: 41", "failed: 5", "failed: 15", "failed: 21":
			return "the MAR is not made for this updater, or it is damaged", "marctl lint " + name
		}
		return statusWords(reason.UpdaterStatus), "marctl lint " + name
	case UpdaterCrashed:
		return "the updater itself is broken, or the MAR has what makes it crash", "marctl lint " + name
	case UpdaterNotStarted:
		return "the updater package is for another architecture, or has no updater that runs here", "look at updater_package in the configuration"
	case UpdaterDied:
		return "the update is right, and users see a crash at its end", "run this FROM's updater by hand"
	case UpdaterMissing:
		return "updater_package in the configuration names a wrong or missing package", "look at updater_package in the configuration"
	case MARMissing:
		switch {
		case len(g.indices) == 1:
			cause = "one file was not uploaded"
		case everything || everyLocale && len(s.releases) == len(u.releases):
			cause = "the MARs are not pushed yet"
		default:
			cause = "these files were not uploaded"
		}
		return cause, look
	case InstallerMissing:
		return "the configuration names an installer that is not there: a wrong path, a locale that this release does not have, or an expired build", "look at from and to in the configuration"
	case UnpackFailed:
		return "the installer is damaged, or of a kind that cannot be unpacked here", ""
	case WrongSize, WrongHash:
		cause = "the MAR was made or signed again after it was submitted to the update server, or another file was submitted"
		return cause, look
	case WrongMetadata:
		switch {
		case everything:
			cause = "the configuration expects another build than the update server offers: a stale configuration, or the channel points to another release"
		case oneLocale:
			cause = fmt.Sprintf("only %s: this locale's entry was submitted from another build", s.locales[0])
		default:
			cause = "these entries were submitted from another build"
		}
		return cause, ask
	case NoUpdateOffered:
		switch {
		case everything:
			cause = "the update server has no rule for this channel, or it points to nothing"
		case everyLocale:
			cause = fmt.Sprintf("no rule of the update server matches %s on this channel: a watershed, a throttle without force=1, or a missing rule", strings.Join(s.releases, ", "))
		case oneLocale:
			cause = fmt.Sprintf("only %s: this locale is missing in the release's data on the update server", s.locales[0])
		default:
			cause = "these locales are missing in the release's data on the update server"
		}
		return cause, ask
	case UpdateXMLUnavailable:
		return "the update server does not answer this request", ask
	case PatchTypeMissing:
		if partials {
			return "no partial from this build was submitted: it was not made, or the update server's data does not name this FROM", ask
		}
		return "the release's data lacks this patch", ask
	case FrameworkMissing:
		return "the update removes what must stay: the framework is in removed-files or precomplete", "marctl extract " + name + " DIR"
	case PartialLarger:
		return "this partial is no gain: do not offer it", ""
	case PartialEqual:
		return "the complete is offered as partial, or this partial is no gain", look
	case WasInterrupted:
		if strings.HasPrefix(reason.Detail, scriptEnded) {
			return "the script stopped at what this test needs, and will again: what follows it never ran",
				"look at platform, from and updater_package of this build in the configuration"
		}
		return "the task ended in the middle: a time limit, or a lost machine", "run these again"
	case WasNotRun:
		return "the task ended before them", "run these again"
	case Unreadable:
		return "several tests printed into this log at a time, or lines of it are lost", "run these again, or read the log of each alone"
	case NetworkTrouble:
		return "this says nothing about the update", "run these again: --again failed"
	case SignatureMissing:
		return "the MAR was put up before it was signed", "marctl verify " + name + " --key KEY"
	case SignatureWrongKey:
		if everything {
			return "all MARs are signed with another key than these clients have", "marctl verify " + name + " --key KEY"
		}
		return "this MAR is signed with another key than the client of FROM has", "marctl verify " + name + " --key KEY"
	case ChannelMismatch, VersionDowngrade:
		return "the product information in the MAR is that of another channel or version", "marctl info " + name
	case FormatMismatch:
		return "the MAR is made for newer clients: this FROM needs an update on the way (a watershed) or a MAR of its own", "marctl plan"
	case DamagedMAR, MARFinding:
		return "", "marctl lint " + name
	}
	return "", ""
}

// shellWord makes a word of a shell of what a log or a server says: the command is there to be copied.
func shellWord(s string) string {
	for _, c := range s {
		plain := c == '-' || c == '_' || c == '.' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !plain {
			return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
		}
	}
	if strings.HasPrefix(s, "-") {
		return "./" + s
	}
	return s
}

func iff(condition bool, yes, no string) string {
	if condition {
		return yes
	}
	return no
}

// treeCause says what is likely behind differing trees.
func treeCause(files []FileDiff, u *universe, s span, partials, completes bool) string {
	channel, signed, precomplete, other := 0, 0, 0, 0
	for _, f := range files {
		base := path.Base(f.Path)
		switch {
		case strings.HasSuffix(f.Kind, "directory"):
		case base == "channel-prefs.js" || base == "update-settings.ini":
			channel++
		case base == "precomplete":
			precomplete++
		case base == "CodeResources" || strings.HasSuffix(base, ".sig") || strings.HasSuffix(base, ".chk") || strings.Contains(f.Path, "_CodeSignature/"):
			signed++
		default:
			other++
		}
	}
	switch {
	case channel > 0 && other+signed+precomplete == 0:
		return "the files that carry the channel: precomplete removes what the MAR adds only where it is absent (add-if-not), or the channel differs"
	case precomplete > 0 && other+signed+channel == 0:
		return "only the list of files that packaging writes differs (precomplete): the MAR and the installer were packaged apart"
	case signed > 0 && other+channel+precomplete == 0:
		return "only signatures differ: the build was signed again after the MAR was made"
	case partials:
		if u.passing(u.within(span{s.releases, s.locales, s.platforms, []string{"complete"}})) {
			return "the complete gives the right tree: the partial itself is wrong"
		}
		return "the partial itself is wrong, or TO's installer is of another build"
	case completes:
		return "the complete MAR and TO's installer are not the same build"
	}
	return "complete and partial agree against TO's installer: it is of another build than the MARs"
}
