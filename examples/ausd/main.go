// Command ausd is an update server: it answers the clients of Gecko products, serves their updates, and makes the partial
// updates that they lack.
//
//	ausd                                     on this machine alone, page at http://127.0.0.1:8090/
//	ausd add old.complete.mar new.complete.mar
//	ausd replay --strict recorded.json       does the library answer as the server that was recorded?
//	ausd explain --rules rules.json URL      what does this client get, and why?
//
// "ausd help" lists the commands; every command has --help with examples and --json. The exit code is 0 when what was
// asked is done, 1 when the answer is no or something failed, and 2 when ausd was called wrongly.
package main

import "os"

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}
