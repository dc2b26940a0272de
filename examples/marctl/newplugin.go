package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// newPluginFiles are the plugins that marctl plugin new writes: programs that are built and tested here.
//
//go:embed newplugin/*/main.go newplugin/*/main_test.go newplugin/*/README.md
var newPluginFiles embed.FS

// newPluginName is what such a plugin is called there.
var newPluginName = map[string]string{"signing": "signer-hello", "storage": "storage-hello"}

// library is the module of which plugins import packages.
const library = "github.com/senbonzakura/senbonzakura"

type newPluginAnswer struct {
	Kind      string   `json:"kind"`
	Directory string   `json:"directory"`
	Module    string   `json:"module"`
	Files     []string `json:"files"`
}

func (a *app) pluginNew() *cobra.Command {
	var module, checkout string
	cmd := &cobra.Command{
		Use:   "new signing|storage DIR",
		Short: "Write a plugin to begin with, in Go",
		Long: `new writes a plugin into a directory, which is made: a program that builds, passes marctl plugin check and its own test,
and says where your keys or your store go. Its README.md has the commands.`,
		Example: `  marctl plugin new signing signer-mine
  marctl plugin new storage storage-mine --module example.org/storage-mine`,
		Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			answer, err := writeNewPlugin(args[0], args[1], module, checkout)
			if err != nil {
				return err
			}
			return a.print(answer, func(w *printer) {
				w.printf("wrote %s: %s\n", answer.Directory, strings.Join(answer.Files, ", "))
				w.printf("next: cd %s && go mod tidy && go test ./... && go build, then as README.md says\n", answer.Directory)
			})
		},
	}
	cmd.Flags().StringVar(&module, "module", "", "path of the new module (default: example.com/ and the directory's name)")
	cmd.Flags().StringVar(&checkout, "library", "", "directory with the source of "+library+" to build with (default: its newest release)")
	takes(cmd, text, changes)
	directories := cmd.ValidArgsFunction
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return []string{"signing", "storage"}, cobra.ShellCompDirectiveNoFileComp
		}
		return directories(cmd, args, begun)
	}
	flagTakes(cmd, text, "module")
	flagTakes(cmd, finds, "library")
	return cmd
}

// goodName is what a plugin's directory may be called: its name is also that of the program, and of the plugin on the wire.
var goodName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// goodModule is a path that the go command takes, but for corner cases, which it names itself.
var goodModule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~/-]*$`)

func writeNewPlugin(kind, dir, module, checkout string) (*newPluginAnswer, error) {
	placeholder, ok := newPluginName[kind]
	if !ok {
		return nil, usagef("invalid argument %q: want signing or storage", kind)
	}
	full, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if module == "" {
		module = "example.com/" + filepath.Base(full)
	}
	name := path.Base(module) // of the program that go build makes
	if !goodModule.MatchString(module) || !goodName.MatchString(name) {
		return nil, usagef("%q is not the path of a module: its name has letters, digits, dots, dashes and underscores", module)
	}
	files := map[string]string{"go.mod": "module " + module + "\n\ngo 1.26.0\n"}
	if checkout != "" {
		if err := builtFrom(checkout, module, files); err != nil {
			return nil, err
		}
	}
	switch list, err := os.ReadDir(dir); {
	case err == nil && len(list) > 0:
		return nil, usagef("%s: the directory is not empty", dir)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	answer := &newPluginAnswer{Kind: kind, Directory: dir, Module: module}
	for _, file := range []string{"README.md", "main.go", "main_test.go"} {
		text, err := newPluginFiles.ReadFile("newplugin/" + kind + "/" + file)
		if err != nil {
			return nil, err
		}
		files[file] = strings.ReplaceAll(string(text), placeholder, name)
	}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		if err := writeNew(filepath.Join(dir, file), files[file]); err != nil {
			return nil, err
		}
		answer.Files = append(answer.Files, file)
	}
	return answer, nil
}

// builtFrom makes files of a module that is built with a checkout of the library, and with the very modules that it names, so
// that it builds as it is; go mod tidy takes away what it does not need.
func builtFrom(checkout, module string, files map[string]string) error {
	checkout, err := filepath.Abs(checkout)
	if err != nil {
		return err
	}
	gomod, err := os.ReadFile(filepath.Join(checkout, "go.mod"))
	rest, ours := strings.CutPrefix(string(gomod), "module "+library+"\n")
	if err != nil || !ours {
		return usagef("--library %s: this is not the source of %s", checkout, library)
	}
	gosum, err := os.ReadFile(filepath.Join(checkout, "go.sum"))
	if err != nil {
		return err
	}
	files["go.mod"] = fmt.Sprintf("module %s\n%s\nrequire %s v0.0.0\n\nreplace %[3]s => %q\n", module, rest, library, checkout)
	files["go.sum"] = string(gosum)
	return nil
}

// writeNew writes a file that must not be there.
func writeNew(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
