package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"path/filepath"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"

	ausverify "github.com/senbonzakura/senbonzakura/aus/verify"
	"github.com/senbonzakura/senbonzakura/toolchain"
)

// planTests are the flags of plan that say how its updates are to be verified.
type planTests struct {
	file             string
	o                ausverify.PlanOptions
	server           string
	platform, locale string
}

// planTestFlags are the names of those that go with --tests alone.
var planTestFlags = []string{"channel", "aus", "server", "from-server", "to-server", "from", "to", "partials"}

func (p *planTests) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&p.file, "tests", "", "write the configuration of update verify for the newest build here (.json or .toml)")
	flags.StringVar(&p.platform, "platform", "", "platform of builds that name none, for --tests: the build target of their requests")
	flags.StringVar(&p.locale, "locale", "", "locale of builds that name none")
	flags.StringVar(&p.o.Channel, "channel", "", "update channel that requests name")
	flags.StringVar(&p.o.AUSServer, "aus", "", "update server to ask")
	flags.StringVar(&p.server, "server", "", "server of FROM and TO, or a directory")
	flags.StringVar(&p.o.FTPServerFrom, "from-server", "", "server of FROM, where it is another")
	flags.StringVar(&p.o.FTPServerTo, "to-server", "", "server of TO, where it is another")
	flags.StringVar(&p.o.From, "from", "", "path of FROM's installer or complete update (none: only offers and MARs are tested)")
	flags.StringVar(&p.o.To, "to", "", "path of TO's")
	known(cmd, "platform", "Linux_x86_64-gcc3", "Linux_x86-gcc3", "Linux_aarch64-gcc3", "WINNT_x86-msvc", "WINNT_x86_64-msvc", "WINNT_aarch64-msvc-aarch64",
		"Darwin_x86_64-gcc3-u-i386-x86_64", "Darwin_aarch64-gcc3")
	freeText(cmd, "locale", "channel", "aus", "from", "to")
	flagTakes(cmd, other, "server", "from-server", "to-server")
	flags.IntVar(&p.o.Partials, "partials", 0, "for how many of the newest releases there are partials (0: for all that can be made; -1: none)")
}

// fill says of builds what they do not say themselves.
func (p *planTests) fill(history []toolchain.Build) {
	for i := range history {
		b := &history[i]
		b.Platform, b.Locale = cmp.Or(b.Platform, p.platform), cmp.Or(b.Locale, p.locale)
	}
}

// writePlanTests writes the configuration, and says what is not in it.
func (a *app) writePlanTests(ctx context.Context, p *planTests, pairs []toolchain.Pair) error {
	ending := filepath.Ext(p.file)
	if ending != ".json" && ending != ".toml" {
		return usagef("--tests %s: want a name that ends in .json or .toml", p.file)
	}
	p.o.FTPServerFrom, p.o.FTPServerTo = cmp.Or(p.o.FTPServerFrom, p.server), cmp.Or(p.o.FTPServerTo, p.server)
	lines, left, err := ausverify.Plan(pairs, p.o)
	if err != nil {
		return err
	}
	if len(lines) == 0 {
		return usagef("there is no update to test: %d builds that can be compared give none", len(pairs))
	}
	if out := (&printer{w: a.stderr}); !a.quiet {
		for _, said := range left {
			out.printf("marctl: %s\n", said)
		}
	}
	return a.writeFile(ctx, p.file, func(w io.Writer) error {
		if ending == ".json" {
			return ausverify.WritePlan(w, lines)
		}
		var text bytes.Buffer
		if err := ausverify.WritePlan(&text, lines); err != nil {
			return err
		}
		var file struct {
			Test []map[string]any `toml:"test"`
		}
		if err := json.Unmarshal(text.Bytes(), &file.Test); err != nil {
			return err
		}
		return toml.NewEncoder(w).Encode(file)
	})
}
