// Command quickstart does the whole job on releases that it makes on the spot: it builds two versions of a real
// program with the Go toolchain, packs each as a complete update, makes the partial update between them, signs it,
// applies it to an installation of the old version, and compares the result with the new one.
//
//	go run ./examples/quickstart
//
// It needs nothing but Go, takes about ten seconds, and exits with 1 if anything differs.
package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"text/tabwriter"
	"time"

	"github.com/senbonzakura/senbonzakura/partial/updater"

	"github.com/senbonzakura/senbonzakura/internal/atomicfile"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
)

// program is the name of the program in the releases.
var program = map[bool]string{true: "program.exe", false: "program"}[runtime.GOOS == "windows"]

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// step is one row of the table at the end.
type step struct {
	what, result string
	took         time.Duration
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "quickstart-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	var steps []step
	timed := func(what string, do func() (string, error)) error {
		fmt.Printf("%s…\n", what)
		start := time.Now()
		result, err := do()
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		steps = append(steps, step{what, result, time.Since(start)})
		return nil
	}

	oldTree, newTree := filepath.Join(dir, "1.0"), filepath.Join(dir, "1.1")
	if err := timed("build versions 1.0 and 1.1 of a program", func() (string, error) {
		if err := release(ctx, oldTree, "1.0"); err != nil {
			return "", err
		}
		return treeSize(newTree, release(ctx, newTree, "1.1"))
	}); err != nil {
		return err
	}

	oldMAR, newMAR, partialMAR := oldTree+".complete.mar", newTree+".complete.mar", filepath.Join(dir, "1.0-1.1.partial.mar")
	if err := timed("pack both as complete updates", func() (string, error) {
		if err := pack(ctx, oldTree, oldMAR, "1.0"); err != nil {
			return "", err
		}
		if err := pack(ctx, newTree, newMAR, "1.1"); err != nil {
			return "", err
		}
		return fileSize(newMAR)
	}); err != nil {
		return err
	}

	from, err := mar.OpenFile(oldMAR, nil)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := mar.OpenFile(newMAR, nil)
	if err != nil {
		return err
	}
	defer to.Close()

	// The main job: two complete updates in, the partial update out, proved before it is handed back.
	var update *mar.Archive
	if err := timed("make the partial update and prove it", func() (string, error) {
		archive, report, err := partial.Build(ctx, from.Reader, to.Reader, partial.DefaultRecipe(), nil)
		if err != nil {
			return "", err
		}
		update = archive
		return fmt.Sprintf("%d patched, %d added, %d removed", report.Proof.Patched, report.Proof.Added, report.Proof.Removed), nil
	}); err != nil {
		return err
	}

	key, err := rsa.GenerateKey(rand.Reader, 2048) // release keys have 4096 bits; this one is quicker to make
	if err != nil {
		return err
	}
	signer, err := mar.CryptoSigner(key, mar.RSAPKCS1SHA384)
	if err != nil {
		return err
	}
	if err := timed("sign it", func() (string, error) {
		err := atomicfile.Write(ctx, partialMAR, 0o644, func(w io.Writer) error {
			_, err := update.WriteSigned(ctx, w, signer)
			return err
		})
		if err != nil {
			return "", err
		}
		return fileSize(partialMAR)
	}); err != nil {
		return err
	}

	signed, err := mar.OpenFile(partialMAR, nil)
	if err != nil {
		return err
	}
	defer signed.Close()
	if err := timed("verify the signature", func() (string, error) {
		return "good", signed.Verify(ctx, &key.PublicKey)
	}); err != nil {
		return err
	}
	if err := timed("apply it to the installation of 1.0", func() (string, error) {
		root, err := os.OpenRoot(oldTree)
		if err != nil {
			return "", err
		}
		defer root.Close()
		return "done", updater.Apply(ctx, root, signed.Reader, nil)
	}); err != nil {
		return err
	}
	if err := timed("compare with the installation of 1.1", func() (string, error) {
		return "identical", sameTrees(oldTree, newTree)
	}); err != nil {
		return err
	}
	if err := timed("run the updated program", func() (string, error) {
		said, err := exec.CommandContext(ctx, filepath.Join(oldTree, program), "-version").Output()
		if err == nil && string(said) != "1.1\n" {
			err = fmt.Errorf("it says it is version %q", said)
		}
		return "it is 1.1", err
	}); err != nil {
		return err
	}

	fmt.Println()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, s := range steps {
		if _, err := fmt.Fprintf(w, "%s\t%s\t%.1f s\n", s.what, s.result, s.took.Seconds()); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	complete, smaller := to.Size(), signed.Size()
	fmt.Printf("\ncomplete update %d bytes, partial update %d bytes: %.1f %% of the download\n",
		complete, smaller, 100*float64(smaller)/float64(complete))
	return nil
}

// release makes the tree of one version: a program, a script and some data, with what an update needs to know.
func release(ctx context.Context, dir, version string) error {
	source := dir + ".src"
	handler := `http.FileServer(http.Dir("."))`
	if version != "1.0" {
		handler = `logged(` + handler + `)`
	}
	files := map[string]string{
		"go.mod":     "module program\n\ngo 1.24\n",
		"main.go":    programSource,
		"handler.go": "package main\n\nimport \"net/http\"\n\nfunc handler() http.Handler { return " + handler + " }\n",
	}
	for name, text := range files {
		if err := write(filepath.Join(source, name), text, 0o644); err != nil {
			return err
		}
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags=-s -w -X main.version="+version, "-o", filepath.Join(dir, program), ".")
	build.Dir = source
	build.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, said)
	}
	for name, text := range map[string]string{
		"application.ini":     "[App]\nName=Program\nVersion=" + version + "\n",
		"update-settings.ini": "[Settings]\nACCEPTED_MAR_CHANNEL_IDS=quickstart\n",
		"docs/licence.txt":    "The same in every version.\n",
		"docs/" + version:     "Release notes of " + version + "\n",
	} {
		if err := write(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	return write(filepath.Join(dir, "start.sh"), "#!/bin/sh\nexec ./program # "+version+"\n", 0o755)
}

func write(name, text string, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(text), mode)
}

// pack makes a complete update of a tree.
func pack(ctx context.Context, tree, name, version string) error {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer root.Close()
	archive, _, err := partial.Pack(ctx, root.FS(), partial.PackOptions{
		Arch:    map[string]string{"amd64": "x86_64", "386": "x86"}[runtime.GOARCH],
		Product: &mar.Product{Channel: "quickstart", Version: version},
	})
	if err != nil {
		return err
	}
	return atomicfile.Write(ctx, name, 0o644, func(w io.Writer) error {
		_, err := archive.WriteTo(w)
		return err
	})
}

// sameTrees compares names, bytes and executable bits. The list of what a complete update removes first is made when
// an update is packed, so that only the updated tree has it.
func sameTrees(got, want string) error {
	differs := errors.New("the trees differ")
	seen := map[string]bool{"precomplete": true}
	for _, pair := range [][2]string{{want, got}, {got, want}} {
		err := filepath.WalkDir(pair[0], func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			rel, err := filepath.Rel(pair[0], name)
			if err != nil || seen[rel] {
				return err
			}
			seen[rel] = true
			a, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			b, err := os.ReadFile(filepath.Join(pair[1], rel))
			if err != nil {
				return fmt.Errorf("%w: %w", differs, err)
			}
			if string(a) != string(b) {
				return fmt.Errorf("%w: %s", differs, rel)
			}
			infoA, errA := os.Stat(name)
			infoB, errB := os.Stat(filepath.Join(pair[1], rel))
			if err := errors.Join(errA, errB); err != nil {
				return err
			}
			if mar.Executable(infoA.Mode()) != mar.Executable(infoB.Mode()) {
				return fmt.Errorf("%w: %s: executable bits", differs, rel)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func fileSize(name string) (string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d bytes", info.Size()), nil
}

func treeSize(dir string, err error) (string, error) {
	if err != nil {
		return "", err
	}
	var total int64
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return fmt.Sprintf("%d bytes each", total), err
}

// programSource is a small file server, so that the program is of a real program's size. Version 1.1 begins to log
// requests.
const programSource = `package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
)

var version = "unknown"

func main() {
	show := flag.Bool("version", false, "print the version")
	addr := flag.String("addr", "localhost:8080", "where to listen")
	flag.Parse()
	if *show {
		fmt.Println(version)
		return
	}
	log.Fatal(http.ListenAndServe(*addr, handler()))
}

func logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		log.Printf("%s %s from %s", r.Method, r.URL.Path, r.RemoteAddr)
		next.ServeHTTP(w, r)
	})
}
`
