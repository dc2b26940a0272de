package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/aus/verify"
	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/toolchain"
)

// The whole way with the program itself: two completes are added, the server makes the partial between them by itself, and
// update verify, with the tests that a plan of these builds gives, says that clients get both and end up as the new build.
func TestVerified(t *testing.T) {
	t.Parallel()
	shared := testkit.Shared(t, "testdata", "client-checks")
	completes, history := t.TempDir(), []toolchain.Build{}
	add := []string{"add"}
	for _, name := range []string{"from.mar", "to.mar"} {
		r, err := mar.OpenFile(filepath.Join(shared, name), nil)
		if err != nil {
			t.Fatal(err)
		}
		var unsigned bytes.Buffer // the server has no key for its partials here
		if _, err := r.Archive().WriteTo(&unsigned); err != nil {
			t.Fatal(err)
		}
		build, err := toolchain.ReadBuild(r.Reader)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		build.Platform, build.Locale = "Linux_x86_64-gcc3", "en-US"
		history = append(history, build)
		if err := os.WriteFile(filepath.Join(completes, build.Version+".mar"), unsigned.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		add = append(add, filepath.Join(completes, build.Version+".mar"))
	}
	p := startProcess(t, t.TempDir())
	defer p.kill(t)
	var out strings.Builder
	if code := run(append(add, "--server", p.url, "--channel", "release-localtest", "--target", "Linux_x86_64-gcc3", "--locale", "en-US"), &out, &out); code != 0 {
		t.Fatalf("add: %d %s", code, out.String())
	}
	lines, left, err := verify.Plan(toolchain.DefaultSet().Plan(history), verify.PlanOptions{
		Channel: "release-localtest", AUSServer: p.url, FTPServerFrom: completes, FTPServerTo: completes, From: "%version%.mar", To: "%version%.mar",
	})
	if err != nil || len(lines) != 1 || len(left) > 0 {
		t.Fatalf("%v: %+v %q", err, lines, left)
	}
	// Who asks gets the complete at once, and the partial when it is made.
	from := &history[0]
	request := fmt.Sprintf("%s/update/3/%s/%s/%s/Linux_x86_64-gcc3/en-US/release-localtest/default/default/default/update.xml?force=1", p.url, from.Product, from.Version, from.BuildID)
	deadline := time.After(2 * time.Minute)
	for {
		more := p.log.wait()
		res, err := http.Get(request)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err == nil && bytes.Contains(text, []byte(`type="partial"`)) {
			break
		}
		select {
		case <-more:
		case <-deadline:
			t.Fatalf("no partial is made: %v %s: %s", err, text, p.log)
		}
	}
	client, err := fetch.New(&fetch.Options{Insecure: true, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	options := &verify.RunOptions{Fetch: client, AllowHTTP: true}
	report, err := verify.Run(t.Context(), lines, options)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range report.Tests {
		if test.Result != verify.Pass || !slices.Contains(test.Proved, "tree") {
			t.Errorf("%v: %s %+v, proved %q", test.Identity, test.Result, test.Reasons, test.Proved)
		}
	}
	if totals := report.Totals(); totals.Tests != 2 {
		t.Errorf("%+v", totals)
	}
	lines[0].Channel = "nightly" // which is offered nothing
	if report, err = verify.Run(t.Context(), lines, options); err != nil || report.Totals().Fail != 2 || report.Tests[0].Reasons[0].Code != verify.NoUpdateOffered {
		t.Errorf("another channel: %v %+v", err, report)
	}
}
