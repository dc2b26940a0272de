package main

import (
	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
	"github.com/senbonzakura/senbonzakura/toolchain"
)

// clientFlags say what is known of FROM's updater, and which checks are left out.
type clientFlags struct {
	platform, trust, gecko, version, verifies string
	skip                                      []string
}

func (f *clientFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.platform, "platform", "", "platform of the product: linux, windows, macos or a name that begins like one (default: by its executables)")
	choice(cmd, &f.trust, "trust", "", "what counts where FROM's complete and the rules for its version contradict each other", "complete", "version")
	flags.StringVar(&f.gecko, "gecko", "", "Gecko version of FROM, by which rules go (default: platform.ini's, else the application's)")
	flags.StringVar(&f.version, "client-version", "", "FROM's own version, below which it takes no update (default: that of its product block, else the application's)")
	freeText(cmd, "gecko", "client-version")
	choice(cmd, &f.verifies, "client-verifies", "", "whether FROM's updater verifies signature, channel and version (default: yes where FROM is signed, else not known)", "yes", "no")
	choices(cmd, &f.skip, "skip", "check to leave out", checkNames()...)
	known(cmd, "platform", "linux", "windows", "macos")
}

func checkNames() []string {
	names := make([]string, 0, len(updater.Checks()))
	for _, c := range updater.Checks() {
		names = append(names, string(c))
	}
	return names
}

// parsePlatform reads --platform, in any spelling of the field; "" says nothing.
func parsePlatform(name string) (updater.Platform, error) {
	p, ok := updater.ParsePlatform(name)
	if !ok && name != "" {
		return "", usagef("--platform %q: want linux, windows, macos or a name that begins like one", name)
	}
	return p, nil
}

// options returns what the flags say.
func (f *clientFlags) options() (*toolchain.SelectOptions, error) {
	o := &toolchain.SelectOptions{Client: updater.Claims{Gecko: f.gecko, Version: f.version}}
	var err error
	if o.Client.Platform, err = parsePlatform(f.platform); err != nil {
		return nil, err
	}
	if err := o.Trust.UnmarshalText([]byte(f.trust)); err != nil {
		return nil, usageError{err}
	}
	if f.verifies != "" {
		yes := f.verifies == "yes"
		o.Client.Verifies = &yes
	}
	for _, name := range f.skip {
		o.Skip = append(o.Skip, updater.Check(name))
	}
	return o, nil
}

// clientOf returns FROM's updater, by its complete update, the rules and the flags.
func (f *clientFlags) clientOf(set *toolchain.Set, from, to *mar.Reader) (*updater.Client, []updater.Check, error) {
	opts, err := f.options()
	if err != nil {
		return nil, nil, err
	}
	builds := [2]toolchain.Build{}
	for i, r := range []*mar.Reader{from, to} {
		if builds[i], err = toolchain.ReadBuild(r); err != nil {
			return nil, nil, &partial.InputError{Input: []string{"FROM", "TO"}[i], Err: err}
		}
	}
	client, err := set.Client(builds[0], builds[1], opts)
	return client, opts.Skip, err
}

// verdicts prints what checks come to, but for those that hold: what fails, what may, and what could not be checked.
func (p *printer) verdicts(list updater.Verdicts) {
	for _, v := range list {
		switch {
		case v.Answer == updater.Fails:
			p.printf("%s %s\n", p.bad("REFUSED:"), v)
		case v.Warning:
			p.printf("%s %s\n", p.warning("warning:"), v)
		case v.Answer == updater.NotChecked, v.Answer == updater.Skipped:
			p.printf("%s\n", v)
		}
	}
}

// findings prints what was found.
func (p *printer) findings(list []partial.Finding) {
	for _, f := range list {
		severity := string(f.Severity)
		if f.Severity == partial.Broken {
			severity = p.bad(severity)
		}
		p.printf("%s: %s\n", severity, waysOut.Replace(f.String()))
	}
}
