package verify

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
)

// Rule is a difference between the updated tree and TO that is expected. Exactly one of Ignore, KeepExtra, Drop
// and Replace says what is done about it; a difference counts as explained only if nothing of it is left then.
type Rule struct {
	Name     string // by which the report calls it
	Reason   string // why the difference is no fault
	Path     string // path of the file, with * and ? as in path.Match
	Channels string // front of the update channel, in which alone the rule holds; several between commas; "" all

	Ignore    bool      // the content, of files that both have
	KeepExtra bool      // the updated tree has the file and TO has not
	Drop      string    // lines with this front, on Side
	Replace   [2]string // text by text, on Side
	Side      string    // "updated", "to", or "both"
	Expires   time.Time // from when on it explains nothing; zero: built in, for good
}

// ErrRule matches every error about a rule.
var ErrRule = errors.New("bad rule")

// check says what is wrong with a rule of a caller, who must say why and until when it holds.
func (r *Rule) check() error {
	kinds := 0
	for _, on := range []bool{r.Ignore, r.KeepExtra, r.Drop != "", r.Replace != [2]string{}} {
		if on {
			kinds++
		}
	}
	_, err := path.Match(r.Path, "")
	switch {
	case r.Name == "" || r.Reason == "" || r.Path == "":
		return fmt.Errorf("%w: name, reason and path must be there", ErrRule)
	case err != nil:
		return fmt.Errorf("%w: %s: path %q: %w", ErrRule, r.Name, r.Path, err)
	case kinds != 1:
		return fmt.Errorf("%w: %s: want one of ignore, keep-extra, drop and replace", ErrRule, r.Name)
	case (r.Drop != "" || r.Replace != [2]string{}) && r.Side != "updated" && r.Side != "to" && r.Side != "both":
		return fmt.Errorf("%w: %s: side %q: want updated, to or both", ErrRule, r.Name, r.Side)
	case r.Replace != [2]string{} && r.Replace[0] == "":
		return fmt.Errorf("%w: %s: nothing cannot be replaced", ErrRule, r.Name)
	case r.Expires.IsZero():
		return fmt.Errorf("%w: %s: it must say when it expires", ErrRule, r.Name)
	}
	return nil
}

// builtinRules are those that the scripts' comparison has (transforms, IGNORE_FILES and ignore_missing of
// compare-directories.py), said as data.
func builtinRules() []Rule {
	var rules []Rule
	for _, dir := range []string{"", "Contents/Resources/"} {
		prefs, settings := dir+"defaults/pref/channel-prefs.js", dir+"update-settings.ini"
		rules = append(rules,
			Rule{
				Name: "channel-prefs-line", Path: prefs, Drop: `//@line 6 "`, Side: "updated", Channels: "aurora,beta,release,esr",
				Reason: "old builds carry a comment of the preprocessor, and users keep their file",
			},
			Rule{
				Name: "channel-prefs-comment", Path: prefs, Drop: "//", Side: "both", Channels: "aurora,beta,release,esr,nightly",
				Reason: "a comment was added in 70.0, and users keep their file",
			},
			Rule{
				Name: "channel-prefs-candidate", Path: prefs, Replace: [2]string{`"release"`, `"beta"`}, Side: "both", Channels: "beta",
				Reason: "users of beta get a release candidate, whose file says release",
			},
			Rule{
				Name: "update-settings-candidate", Path: settings, Side: "both", Channels: "beta",
				Replace: [2]string{"ACCEPTED_MAR_CHANNEL_IDS=firefox-mozilla-release", "ACCEPTED_MAR_CHANNEL_IDS=firefox-mozilla-beta,firefox-mozilla-release"},
				Reason:  "users of beta get a release candidate, which accepts releases only",
			},
			Rule{Name: "telemetry", Path: dir + "update_telemetry.json", KeepExtra: true, Reason: "the updater writes it"},
		)
	}
	for _, framework := range []string{"Contents/MacOS/updater.app/Contents/Frameworks/UpdateSettings.framework", "Contents/Frameworks/ChannelPrefs.framework"} {
		binary := strings.TrimSuffix(path.Base(framework), ".framework")
		for _, file := range []string{"Resources/Info.plist", "_CodeSignature/CodeResources", binary} {
			rules = append(rules, Rule{
				Name: "channel-framework", Path: framework + "/" + file, Ignore: true,
				Reason: "it carries the channel, is signed in each build, and no update touches it",
			})
		}
	}
	return rules
}

// frameworks are the directories that must be there after an update of an application for macOS.
var frameworks = []string{"Contents/MacOS/updater.app/Contents/Frameworks/UpdateSettings.framework", "Contents/Frameworks/ChannelPrefs.framework"}

// applies says whether a rule is about a file of a test.
func (r *Rule) applies(name, channel string, now time.Time) bool {
	if !r.Expires.IsZero() && !now.Before(r.Expires) {
		return false
	}
	if ok, err := path.Match(r.Path, name); err != nil || !ok {
		return false
	}
	if r.Channels == "" {
		return true
	}
	for _, front := range strings.Split(r.Channels, ",") {
		if strings.HasPrefix(channel, front) {
			return true
		}
	}
	return false
}

// explain finds the rules that make a difference expected, for a file of the updated tree and the one of TO. The content
// is asked for only where a rule needs it.
func explain(rules []Rule, name, kind, channel string, now time.Time, contents func() (updated, to []byte, err error)) (used []string, err error) {
	var transforms []*Rule
	for i := range rules {
		r := &rules[i]
		if !r.applies(name, channel, now) {
			continue
		}
		switch {
		case kind == "extra" && r.KeepExtra, kind == "content" && r.Ignore:
			return []string{r.Name}, nil
		case kind == "content" && (r.Drop != "" || r.Replace != [2]string{}):
			transforms = append(transforms, r)
		}
	}
	if len(transforms) == 0 {
		return nil, nil
	}
	updated, to, err := contents()
	if err != nil {
		return nil, err
	}
	for _, r := range transforms {
		a, b := updated, to
		if r.Side != "to" {
			a = r.transform(a)
		}
		if r.Side != "updated" {
			b = r.transform(b)
		}
		if bytes.Equal(a, updated) && bytes.Equal(b, to) {
			continue
		}
		used = append(used, r.Name)
		if updated, to = a, b; bytes.Equal(a, b) {
			return used, nil
		}
	}
	return nil, nil
}

func (r *Rule) transform(text []byte) []byte {
	if r.Drop == "" {
		return bytes.ReplaceAll(text, []byte(r.Replace[0]), []byte(r.Replace[1]))
	}
	var out []byte
	for _, line := range bytes.SplitAfter(text, []byte("\n")) {
		if !bytes.HasPrefix(line, []byte(r.Drop)) {
			out = append(out, line...)
		}
	}
	return out
}
