package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/config"
)

// app is what all commands share.
type app struct {
	environ        []string
	stdout, stderr io.Writer

	configFile   string
	listen, data string
	dev          bool
	chaos        string
}

// run executes one command line and returns the exit code.
func run(args, environ []string, stdout, stderr io.Writer) int {
	a := &app{environ: environ, stdout: stdout, stderr: stderr}
	out := &cli.Output{Stdout: stdout, Stderr: stderr}
	return out.Run(context.Background(), a.root(), args)
}

func (a *app) root() *cobra.Command {
	var check, print bool
	root := &cobra.Command{
		Use:   "partiald",
		Short: "Service that makes partial updates",
		Long: `partiald makes partial updates: it takes requests over HTTP and on its page, fetches the complete updates, makes
the partial one, proves it, signs it where that is configured, and keeps it.

Without a configuration it is a service for this machine alone, with everything in the user's directories.`,
		Example: `  partiald                                         then open http://127.0.0.1:8080/
  partiald --dev                                   completes may come by http and from private networks
  partiald --config partiald.toml --check-config   what is wrong?
  PARTIALD_SERVER_LISTEN=127.0.0.1:9000 partiald   each key is a variable, too`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if check && print {
				return cli.UsageError{Err: errors.New("--check-config and --print-config are two questions: ask one")}
			}
			c, err := a.load()
			switch {
			case err != nil:
				return err
			case print:
				return c.Print(a.stdout)
			case check:
				for _, w := range c.Warnings() {
					say(a.stderr, "partiald: warning: %s\n", w)
				}
				_, err := fmt.Fprintln(a.stdout, "the configuration is good")
				return err
			}
			return a.serve(c)
		},
	}
	flags := root.PersistentFlags()
	flags.StringVarP(&a.configFile, "config", "c", "", "configuration file (default: $PARTIALD_CONFIG, else none)")
	flags.StringVar(&a.listen, "listen", "", "address and port to listen on (server.listen)")
	flags.StringVar(&a.data, "data", "", "directory of everything that must not be lost (data)")
	flags.BoolVar(&a.dev, "dev", false, "for trying out: fetch by http and from private networks, log everything")
	chaosFlag := func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&a.chaos, "chaos", "", "with --dev: inject faults as a profile says, one of light, origin, rough, or a TOML file")
	}
	chaosFlag(root)
	root.Flags().BoolVar(&check, "check-config", false, "say everything that is wrong with the configuration, and end")
	root.Flags().BoolVar(&print, "print-config", false, "print the configuration that holds, secrets masked, and end")
	runCommand := &cobra.Command{
		Use:     "run",
		Short:   "Run the service (what partiald does without a command)",
		Example: "  partiald run --config /etc/partiald/partiald.toml",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			return a.serve(c)
		},
	}
	chaosFlag(runCommand)
	root.AddCommand(runCommand, a.healthCommand(), a.tokenCommand(), a.backupCommand(), a.loadtestCommand(), a.describeCommand(), a.auditCommand(), a.versionCommand())
	return root
}

// load reads the configuration as file, environment and flags say, and looks whether it can be used.
func (a *app) load() (*config.Config, error) {
	c, err := a.read()
	if err != nil {
		return nil, err
	}
	return c, c.Finish()
}

// read reads the configuration as far as it can be read, without looking whether it can be used.
func (a *app) read() (*config.Config, error) {
	file := a.configFile
	if file == "" {
		file = a.variable("PARTIALD_CONFIG")
	}
	c := config.Load(file, a.environ)
	for _, f := range []struct{ key, value, flag string }{
		{"server.listen", a.listen, "--listen"}, {"data", a.data, "--data"},
	} {
		if f.value == "" {
			continue
		}
		if err := c.Set(f.key, f.value, f.flag); err != nil {
			return nil, err
		}
	}
	if a.dev {
		c.Dev()
	}
	return c, nil
}

// variable returns a variable of the environment.
func (a *app) variable(name string) string {
	for _, entry := range a.environ {
		if n, value, _ := strings.Cut(entry, "="); n == name {
			return value
		}
	}
	return ""
}

const source = "https://github.com/senbonzakura/senbonzakura"

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  partiald version",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b := cli.ThisBuild()
			line := "partiald " + b.Version
			if b.Commit != "" {
				line += " (" + b.Commit + ")"
			}
			_, err := fmt.Fprintf(a.stdout, "%s, %s\n", line, b.Go)
			return err
		},
	}
}

// say tells people something. Where nobody listens there is nothing to be done about it.
func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
