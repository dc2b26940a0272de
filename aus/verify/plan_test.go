package verify

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/senbonzakura/senbonzakura/toolchain"
)

// A plan of builds becomes tests from each older build to the newest, or to the watershed that it must pass.
func TestPlan(t *testing.T) {
	t.Parallel()
	var history []toolchain.Build
	for i, version := range []string{"50.0", "57.0.4", "72.0.2", "140.0", "153.5.1", "153.6.0"} {
		for _, locale := range []string{"hr", "de"} {
			history = append(history, toolchain.Build{Product: "Firefox", Version: version, BuildID: fmt.Sprint(20260101000000 + int64(i)), Platform: "Linux_x86_64-gcc3", Locale: locale})
		}
	}
	set := toolchain.DefaultSet()
	o := PlanOptions{Channel: "release", AUSServer: "https://a", FTPServerFrom: "https://f", FTPServerTo: "https://t", From: "/%version%/%locale%", To: "/%version%/%build_id%/%platform%/%locale%", Partials: 1}
	lines, left, err := Plan(set.Plan(history), o)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range lines {
		got = append(got, fmt.Sprint(l.Release, l.Locales, l.PatchTypes, " ", l.From, " ", l.To, " ", l.ToAppVersion, " ", l.ToBuildID))
	}
	const newest = "/153.6.0/20260101000005/Linux_x86_64-gcc3/%locale% 153.6.0 20260101000005"
	want := []string{
		"153.5.1[de hr] [complete partial] /153.5.1/%locale% " + newest,
		"140.0[de hr] [complete] /140.0/%locale% " + newest,
		"72.0.2[de hr] [complete] /72.0.2/%locale% " + newest,
		"57.0.4[de hr] [complete] /57.0.4/%locale% /72.0.2/20260101000002/Linux_x86_64-gcc3/%locale% 72.0.2 20260101000002",
		"50.0[de hr] [complete] /50.0/%locale% /57.0.4/20260101000001/Linux_x86_64-gcc3/%locale% 57.0.4 20260101000001",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(left) != 4 || !strings.Contains(left[0], "Firefox 57.0.4 Linux_x86_64-gcc3") && !strings.Contains(left[0], "Firefox 50.0 Linux_x86_64-gcc3") {
		t.Errorf("said: %q", left)
	}
	var text bytes.Buffer
	if err := WritePlan(&text, lines); err != nil {
		t.Fatal(err)
	}
	again, err := ReadPlan(&text)
	if err != nil || cmp.Diff(lines, again) != "" {
		t.Errorf("read again: %v %s", err, cmp.Diff(lines, again))
	}
	for name, change := range map[string]func(*PlanOptions, *toolchain.Build){
		"no channel":      func(o *PlanOptions, _ *toolchain.Build) { o.Channel = "" },
		"no TO":           func(o *PlanOptions, _ *toolchain.Build) { o.To = "" },
		"no build ID":     func(_ *PlanOptions, b *toolchain.Build) { b.BuildID = "" },
		"no build target": func(_ *PlanOptions, b *toolchain.Build) { b.Platform = "linux" },
	} {
		o, builds := o, append([]toolchain.Build(nil), history[8:]...)
		for i := range builds {
			change(&o, &builds[i])
		}
		if _, _, err := Plan(set.Plan(builds), o); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The history of Mozilla's tasks names what partials are made from.
func TestReadHistory(t *testing.T) {
	t.Parallel()
	const history = `{"Linux_x86_64-gcc3": {"de": {
		"target.partial-1.mar": {"buildid": "20261019143936", "previousVersion": "153.5.1", "previousBuildNumber": 2, "product": "firefox", "mar_url": "https://h/a b/153.5.1.mar?x=1"},
		"target.partial-2.mar": {"buildid": "20260928101112", "previousVersion": "153.5.0", "product": "firefox", "mar_url": "https://h/153.5.0.mar"}}}}`
	lines, err := ReadHistory(strings.NewReader(history), HistoryOptions{Channel: "c", AUSServer: "https://a", To: "https://t/%platform%/%locale%.mar"})
	if err != nil || len(lines) != 2 {
		t.Fatalf("%v: %+v", err, lines)
	}
	want := Line{
		Number: 1, Release: "153.5.1", Product: "Firefox", Platform: "Linux_x86_64-gcc3", BuildID: "20261019143936", Locales: []string{"de"}, Channel: "c",
		PatchTypes: []string{"complete", "partial"}, From: "/a b/153.5.1.mar?x=1", FTPServerFrom: "https://h", To: "/Linux_x86_64-gcc3/%locale%.mar", FTPServerTo: "https://t", AUSServer: "https://a",
	}
	if diff := cmp.Diff(want, lines[0]); diff != "" {
		t.Error(diff)
	}
	for name, text := range map[string]string{
		"no JSON": "x", "an array": "[]", "no version": strings.Replace(history, `"previousVersion": "153.5.1", `, "", 1), "no address": strings.Replace(history, "https://h/a", "/a", 1),
	} {
		if _, err := ReadHistory(strings.NewReader(text), HistoryOptions{Channel: "c"}); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadHistory(strings.NewReader(history), HistoryOptions{}); !errors.Is(err, ErrConfig) {
		t.Errorf("no channel: %v", err)
	}
}
