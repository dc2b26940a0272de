package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"

	ausverify "github.com/senbonzakura/senbonzakura/aus/verify"
	"github.com/senbonzakura/senbonzakura/fetch"
)

// verifyRunFlags are the flags of verify-updates that say how it is run.
type verifyRunFlags struct {
	aus, fromServer, toServer, request string
	channel, to                        string
	toolchain                          sourceFlags
	keys, hosts, rules                 []string
	allowHTTP, allowPrivate            bool
	watershed, work, again, chunk      string
	updater                            string
	updaterAll                         bool
	updaterTimeout                     time.Duration
	jobs                               int
}

// runFlagNames are the flags that go with a configuration only.
var runFlagNames = []string{
	"aus", "from-server", "to-server", "request", "key", "host", "rules", "allow-http", "allow-private", "watershed", "work", "again", "chunk",
	"updater", "updater-all", "updater-timeout", "jobs", "channel", "to", "toolchain",
}

func (f *verifyRunFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.aus, "aus", "", "update server to ask instead of the configuration's")
	flags.StringVar(&f.fromServer, "from-server", "", "server or directory of FROM's installers instead of the configuration's")
	flags.StringVar(&f.toServer, "to-server", "", "server or directory of TO's installers instead of the configuration's")
	flags.StringVar(&f.request, "request", "", "form of update requests, in the words of app.update.url (default: "+ausverify.DefaultRequest+")")
	flags.StringArrayVarP(&f.keys, "key", "k", nil, "key that FROM's updaters have built in: a file, or a name as in marctl verify (repeatable: one of them must have signed)")
	flags.StringArrayVar(&f.hosts, "host", nil, "host on which MARs may be (repeatable; default: any)")
	flags.StringArrayVar(&f.rules, "rules", nil, "TOML file with differences that are expected, beside those built in (repeatable)")
	flags.StringArrayVar(&f.toolchain.rules, "toolchain", nil, "TOML file with the rules about a product's updaters, as --rules of plan (repeatable)")
	flags.StringVar(&f.channel, "channel", "", "update channel, for a release history")
	flags.StringVar(&f.to, "to", "", "address of TO for a release history, with %platform% and %locale% (default: the complete update that is offered)")
	flags.BoolVar(&f.allowHTTP, "allow-http", false, "take MARs by http too")
	flags.BoolVar(&f.allowPrivate, "allow-private", false, "fetch from private addresses and this machine too")
	flags.StringVar(&f.watershed, "watershed", "", "leave out releases older than this version")
	flags.StringVar(&f.work, "work", "", "directory that keeps downloads and results, so that the same call goes on where it stopped")
	choice(cmd, &f.again, "again", "", "with --work, run these tests again", ausverify.AgainFailed, ausverify.AgainAll)
	flags.StringVar(&f.chunk, "chunk", "", "only this part of the tests, cut as the scripts cut them: 3/16")
	freeText(cmd, "aus", "host", "request", "channel", "to", "watershed", "chunk")
	flagTakes(cmd, other, "from-server", "to-server")
	flags.StringVar(&f.updater, "updater", "", "real updater to run beside, on a sample and on every failure")
	flags.BoolVar(&f.updaterAll, "updater-all", false, "run it in every full test")
	flags.DurationVar(&f.updaterTimeout, "updater-timeout", 5*time.Minute, "how long it may take")
	flags.IntVar(&f.jobs, "jobs", 0, "how many update requests to follow at once (0: two per processor)")
	flagTakes(cmd, reads, "rules", "toolchain")
	flagTakes(cmd, streams, "updater")
	flagTakes(cmd, changes, "work")
	keyFlag(cmd, "key")
}

// runUpdates runs the tests of a configuration.
func (a *app) runUpdates(ctx context.Context, f *verifyRunFlags, name string) (*ausverify.Report, error) {
	if f.again != "" && f.work == "" {
		return nil, usagef("--again goes with --work")
	}
	if f.updater == "" && f.updaterAll {
		return nil, usagef("--updater-all goes with --updater")
	}
	lines, warnings, err := readPlan(name, f)
	if err != nil {
		return nil, named(name, err)
	}
	if f.chunk != "" {
		var i, n int
		if k, err := fmt.Sscanf(f.chunk, "%d/%d", &i, &n); err != nil || k != 2 || i < 1 || i > n {
			return nil, usagef("--chunk %q: want a part and how many there are, as in 3/16", f.chunk)
		}
		lines = ausverify.Chunk(lines, n, i)
	}
	o := &ausverify.RunOptions{
		AUSServer: f.aus, FromServer: f.fromServer, ToServer: f.toServer, Request: f.request, Hosts: f.hosts, AllowHTTP: f.allowHTTP,
		Watershed: f.watershed, Work: f.work, Again: f.again, Workers: f.jobs,
	}
	if o.Toolchains, err = f.toolchain.toolchain(); err != nil {
		return nil, err
	}
	if o.Keys, err = publicKeys(f.keys); err != nil {
		return nil, err
	}
	for _, rules := range f.rules {
		list, err := readVerifyRules(rules)
		if err != nil {
			return nil, named(rules, err)
		}
		o.Rules = append(o.Rules, list...)
	}
	if f.updater != "" {
		if _, err := os.Stat(f.updater); err != nil {
			return nil, err
		}
		o.Updater = &ausverify.RealUpdater{Path: f.updater, All: f.updaterAll, Timeout: f.updaterTimeout}
	}
	fetching := &fetch.Options{Insecure: f.allowHTTP, MaxSize: 1 << 30}
	if f.work != "" {
		fetching.Dir = filepath.Join(f.work, "mars")
		if err := os.MkdirAll(fetching.Dir, 0o755); err != nil {
			return nil, err
		}
	}
	if f.allowPrivate {
		fetching.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	}
	client, err := fetch.New(fetching)
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }() // which ends idle connections
	o.Fetch = client
	p := a.progressEvery("tests", time.Minute) // a run takes hours, and its log is read
	p.counts = true
	o.Progress = func(e ausverify.Progress) {
		detail := fmt.Sprintf("%d failed  %s %s %s", e.Failed, e.Test.Locale, e.Test.PatchType, e.Test.Release)
		p.detailed("tests", detail, int64(e.Done), int64(e.Total))
	}
	report, err := ausverify.Run(ctx, lines, o)
	p.end()
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		report.Notes = append(report.Notes, name+": "+w)
	}
	return report, nil
}

// readPlan reads a configuration: Mozilla's own, JSON or TOML with the same keys, or a release history.
func readPlan(name string, flags *verifyRunFlags) ([]ausverify.Line, []string, error) {
	switch filepath.Ext(name) {
	case ".json":
		f, err := os.Open(name)
		if err != nil {
			return nil, nil, err
		}
		defer f.Close()
		in := bufio.NewReader(f)
		var lines []ausverify.Line
		if historyBegins(in) {
			lines, err = ausverify.ReadHistory(in, ausverify.HistoryOptions{Channel: flags.channel, AUSServer: flags.aus, To: flags.to})
		} else {
			lines, err = ausverify.ReadPlan(in)
		}
		return lines, nil, err
	case ".toml":
		var file struct {
			Test []map[string]any `toml:"test"`
		}
		if err := readTOML(name, &file); err != nil {
			return nil, nil, err
		}
		text, err := json.Marshal(file.Test)
		if err != nil {
			return nil, nil, err
		}
		lines, err := ausverify.ReadPlan(bytes.NewReader(text))
		return lines, nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	return ausverify.ReadConfig(f)
}

// historyBegins says whether JSON is an object, as a release history is; a plan is an array.
func historyBegins(in *bufio.Reader) bool {
	front, _ := in.Peek(in.Size()) // what cannot be read, who reads next says
	return bytes.HasPrefix(bytes.TrimSpace(front), []byte("{"))
}

// readVerifyRules reads expected differences.
func readVerifyRules(name string) ([]ausverify.Rule, error) {
	var file struct {
		Rule []struct {
			Name      string         `toml:"name"`
			Reason    string         `toml:"reason"`
			Path      string         `toml:"path"`
			Channels  []string       `toml:"channels"`
			Ignore    bool           `toml:"ignore"`
			KeepExtra bool           `toml:"keep_extra"`
			Drop      string         `toml:"drop"`
			Replace   []string       `toml:"replace"`
			Side      string         `toml:"side"`
			Expires   toml.LocalDate `toml:"expires"`
		} `toml:"rule"`
	}
	if err := readTOML(name, &file); err != nil {
		return nil, err
	}
	var list []ausverify.Rule
	for _, r := range file.Rule {
		rule := ausverify.Rule{
			Name: r.Name, Reason: r.Reason, Path: r.Path, Channels: strings.Join(r.Channels, ","), Ignore: r.Ignore, KeepExtra: r.KeepExtra,
			Drop: r.Drop, Side: r.Side,
		}
		switch len(r.Replace) {
		case 0:
		case 2:
			rule.Replace = [2]string(r.Replace)
		default:
			return nil, fmt.Errorf("rule %q: replace: want a text and what stands for it", r.Name)
		}
		if r.Expires != (toml.LocalDate{}) {
			rule.Expires = r.Expires.AsTime(time.UTC)
		}
		list = append(list, rule)
	}
	return list, nil
}
