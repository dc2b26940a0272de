package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
)

// app is what all commands share.
type app struct{ cli.Output }

// run executes one command line and returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	a := &app{cli.Output{Stdout: stdout, Stderr: stderr}}
	return a.Run(context.Background(), a.root(), args)
}

func (a *app) root() *cobra.Command {
	var f serveFlags
	root := &cobra.Command{
		Use:   "ausd",
		Short: "Update server for Gecko products",
		Long: `ausd answers the update requests of Firefox, Thunderbird and everything else built on Gecko, by the rules and
releases of Mozilla's Balrog, serves the files, and makes the partial updates that clients lack.

Without a command it serves: without a configuration for this machine alone, with everything in the user's directories.

Exit codes: ` + cli.ExitText + `.`,
		Example: `  ausd                                                                  then open http://127.0.0.1:8090/
  ausd add old.complete.mar new.complete.mar                            offer them to clients
  ausd explain --rules rules.json /update/3/Firefox/90.0/…/update.xml   what does this client get, and why?
  ausd replay --strict recorded.json                                    are these the recorded answers?`,
		Version: cli.ThisBuild().Version,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.serve(&f)
		},
	}
	f.add(root)
	root.PersistentFlags().BoolVar(&a.JSON, "json", false, "print the result as JSON on standard output")
	root.AddCommand(a.addCommand(), a.importCommand(), a.makeCommand(), a.explainCommand(), a.checkCommand(), a.previewCommand(), a.exportCommand(), a.probeCommand(), a.compareCommand(), a.replayCommand(), a.backupCommand(), a.restoreCommand(), a.gcCommand(), a.tokenCommand(), a.keyCommand())
	return root
}
