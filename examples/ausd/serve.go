package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/replicate"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/server"
	"github.com/senbonzakura/senbonzakura/examples/internal/chain"
	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
	"github.com/senbonzakura/senbonzakura/examples/internal/database"
)

// How long things may take.
const (
	stopTime    = 10 * time.Second
	purgeTime   = time.Minute
	oneInstance = "ausd.lock"
)

// serveFlags are the flags of the server.
type serveFlags struct{ config, listen, url, data string }

func (f *serveFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&f.config, "config", "c", "", "configuration file (default: $AUSD_CONFIG, else none)")
	flags.StringVar(&f.listen, "listen", "", "address and port to listen on (default 127.0.0.1:8090)")
	flags.StringVar(&f.url, "url", "", "scheme and host under which clients reach the server")
	flags.StringVar(&f.data, "data", "", "directory of everything that must not be lost")
}

func (f *serveFlags) load() (*config, error) {
	if f.config == "" {
		f.config = os.Getenv("AUSD_CONFIG")
	}
	c := loadConfig(f.config, os.Environ())
	for _, o := range []struct{ key, value string }{{"listen", f.listen}, {"url", f.url}, {"data", f.data}} {
		if o.value == "" {
			continue
		}
		if err := c.read.Set(o.key, o.value, "--"+o.key); err != nil {
			return c, cli.UsageError{Err: err}
		}
	}
	return c, nil
}

// options reads the configuration, and returns what the server is told by it.
func (f *serveFlags) options(log io.Writer) (*config, server.Options, error) {
	c, err := f.load()
	if err != nil {
		return c, server.Options{}, err
	}
	o, err := c.options(log)
	return c, o, err
}

// openData opens the server of a data directory, from which others are kept until it is closed, and what it signs with.
func openData(ctx context.Context, c *config, opts server.Options) (s *server.Server, closed func() error, err error) {
	lock, err := lockData(opts.Dir)
	if err != nil {
		return nil, nil, err
	}
	signed, err := c.openSigning(ctx, &opts)
	if err != nil {
		return nil, nil, errors.Join(err, lock.Unlock())
	}
	if s, err = server.Open(ctx, opts); err != nil {
		return nil, nil, errors.Join(err, signed(), lock.Unlock())
	}
	return s, func() error { return errors.Join(s.Close(), signed(), lock.Unlock()) }, nil
}

// serve runs the server until it is told to stop.
func (a *app) serve(f *serveFlags) error {
	c, err := f.load()
	if err != nil {
		return err
	}
	configured := c.URL
	if _, err := c.options(a.Stderr); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return err
	}
	defer listener.Close() //nolint:errcheck // the server has closed it, or nothing was served
	if _, port, _ := net.SplitHostPort(c.Listen); port == "0" {
		c.Listen = listener.Addr().String()
		c.URL = configured
	}
	opts, err := c.options(a.Stderr)
	if err != nil {
		return err
	}
	opts.Purge = purge(c.Purge, c.PurgeURL, opts.Log)
	s, closed, err := openData(ctx, c, opts)
	if err != nil {
		return err
	}
	web := chain.NewServer(s.Handler(), opts.Log)
	cli.NewPrinter(a.Stdout).Printf("ausd answers at %s (page: %s/)\n", opts.URL, opts.URL)
	failed := make(chan error, 1)
	go func() { failed <- web.Serve(listener) }()
	select {
	case err = <-failed:
	case <-ctx.Done():
		stop() // the second signal ends at once
		timeout, cancel := context.WithTimeout(context.Background(), stopTime)
		err = web.Shutdown(timeout)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			err = web.Close()
		}
	}
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, closed())
}

// purge tells who keeps answers of each publication: a command, with the snapshot's number in AUSD_SNAPSHOT, and an address. nil is nobody.
func purge(command []string, address string, log *slog.Logger) func(context.Context, book.Snapshot) {
	if len(command) == 0 && address == "" {
		return nil
	}
	return func(ctx context.Context, head book.Snapshot) {
		ctx, cancel := context.WithTimeout(ctx, purgeTime)
		defer cancel()
		if address != "" {
			if err := tell(ctx, address, head); err != nil {
				log.Error("purge", "error", err)
			}
		}
		if len(command) == 0 {
			return
		}
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Env = append(os.Environ(), "AUSD_SNAPSHOT="+strconv.FormatInt(head.Seq, 10), "AUSD_HASH="+head.Hash)
		cmd.WaitDelay = time.Second
		if said, err := cmd.CombinedOutput(); err != nil {
			log.Error("purge", "error", err, "said", string(said[:min(len(said), 1000)]))
		}
	}
}

// tell posts what was published to an address, up to three times.
func tell(ctx context.Context, address string, head book.Snapshot) error {
	text, err := json.Marshal(head)
	if err != nil {
		return err
	}
	const tries = 3
	_, err = backoff.Retry(ctx, func() (struct{}, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(text))
		if err != nil {
			return struct{}{}, backoff.Permanent(err)
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // the address may be a secret
		}
		if err != nil {
			return struct{}{}, err
		}
		defer res.Body.Close()
		if res.StatusCode >= 300 {
			err = fmt.Errorf("it answers %s", res.Status)
		}
		return struct{}{}, err
	}, backoff.WithMaxTries(tries))
	return err
}

// What backup, key and token did.
type (
	backupResult struct {
		File string `json:"file"` // the copy
	}
	keyResult struct {
		PublicKey string `json:"public_key"` // as replicas' configuration has it
		URL       string `json:"url"`        // of the server
	}
	tokenResult struct {
		Name   string `json:"name"`
		Token  string `json:"token"`  // for who needs it; it stands nowhere else
		SHA256 string `json:"sha256"` // of it, for the configuration
	}
)

func (a *app) backupCommand() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the book of the server into a new file, while it runs",
		Long: `backup writes a copy of the database: everything that was ever published, drafts and history. The files under
"files" in the data directory belong to it; they never change and can be copied before or after. "ausd restore" puts the copy
back. A book in PostgreSQL is copied by pg_dump.`,
		Example: "  ausd backup /backup/ausd.db && rsync -a ~/.local/state/ausd/files /backup/",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, opts, err := f.options(a.Stderr)
			if err != nil {
				return err
			}
			if opts.Postgres != "" {
				return cli.Usagef("the book is in PostgreSQL, which pg_dump copies")
			}
			if _, err := os.Stat(args[0]); err == nil {
				return cli.Usagef("%s is there already", args[0])
			}
			if err := database.CopySQLite(cmd.Context(), filepath.Join(opts.Dir, "ausd.db"), args[0]); err != nil {
				return err
			}
			return a.Print(backupResult{args[0]}, func(w *cli.Printer) { w.Printf("%s written\n", args[0]) })
		},
	}
	f.add(cmd)
	return cmd
}

// restored is what ausd restore prints: what was published last, by the backup, and how many files it lacks.
type restored struct {
	Snapshot int64  `json:"snapshot"`
	Hash     string `json:"hash"`
	Missing  int    `json:"missing_files"`
}

func (a *app) restoreCommand() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a backup into a data directory that has no book",
		Long: `restore puts a file that "ausd backup" wrote into the data directory, after looking whether what it says was published last is
whole. A book that is there already is left alone. Files that the backup names and that are not under "files" in the data directory are
counted: copy them there, too. A book in PostgreSQL is restored by pg_restore or psql.`,
		Example: "  ausd restore --data /var/lib/ausd /backup/ausd.db",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			_, opts, err := f.options(a.Stderr)
			if err != nil {
				return err
			}
			if opts.Postgres != "" {
				return cli.Usagef("the book is in PostgreSQL, which pg_restore fills")
			}
			lock, err := lockData(opts.Dir)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, lock.Unlock()) }()
			done, err := restore(cmd.Context(), args[0], opts.Dir)
			if err != nil {
				return err
			}
			return a.Print(done, func(w *cli.Printer) {
				w.Printf("restored up to snapshot %d\n", done.Snapshot)
				if done.Missing > 0 {
					w.Printf("%d files are missing below %s\n", done.Missing, filepath.Join(opts.Dir, "files"))
				}
			})
		},
	}
	f.add(cmd)
	return cmd
}

// restore puts a backup into a data directory, whole or not at all.
func restore(ctx context.Context, file, dir string) (done restored, err error) {
	to := filepath.Join(dir, "ausd.db")
	if _, err := os.Stat(to); err == nil {
		return done, cli.Usagef("%s is there already: nothing is put over it", to)
	}
	if _, err := os.Stat(file); err != nil {
		return done, err
	}
	half, err := os.MkdirTemp(dir, ".restore-*")
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(half)) }()
	part := filepath.Join(half, "ausd.db")
	if err := database.CopySQLite(ctx, file, part); err != nil {
		return done, err
	}
	b, err := book.Open(ctx, part, nil)
	if err != nil {
		return done, err
	}
	done, err = whole(ctx, b, dir)
	if err = errors.Join(err, b.Close()); err != nil {
		return done, fmt.Errorf("%s: %w", file, err)
	}
	return done, os.Rename(part, to)
}

// whole says whether what a book published last is what its hash says, and how many of its files are not in a data directory.
func whole(ctx context.Context, b *book.Book, dir string) (restored, error) {
	head, err := b.Head(ctx)
	if err != nil {
		return restored{}, err
	}
	done := restored{Snapshot: head.Seq, Hash: head.Hash}
	st, err := b.State(ctx, head.Seq, nil)
	if err != nil {
		return done, err
	}
	if got := st.Hash(); head.Seq > 0 && got != head.Hash {
		return done, fmt.Errorf("snapshot %d is damaged: its hash is %s, want %s", head.Seq, got, head.Hash)
	}
	files, err := b.Files(ctx)
	if err != nil {
		return done, err
	}
	for _, f := range files {
		if _, err := os.Stat(filepath.Join(dir, "files", strings.ToLower(f.SHA512)+".mar")); err != nil {
			done.Missing++
		}
	}
	return done, nil
}

func (a *app) keyCommand() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Print the public key that replicas know this server by",
		Long: `key prints the public key of the server whose data directory this is, which is made where there is none yet, as lines for
the configuration of a replica. The private key is in the data directory, in replication.key.`,
		Example: "  ausd key --data /var/lib/ausd >> replica.toml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, opts, err := f.options(a.Stderr)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
				return err
			}
			key, err := server.Key(cmd.Context(), opts.Dir)
			if err != nil {
				return err
			}
			text := replicate.KeyText(key.Public().(ed25519.PublicKey))
			return a.Print(keyResult{text, opts.URL.String()}, func(w *cli.Printer) {
				w.Printf("url = %q\n\n[replica]\nurl = %q\npublic_key = %q\ntoken_file = \"replica.token\"  # one with the role replicate\n", opts.URL, opts.URL, text)
			})
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) tokenCommand() *cobra.Command {
	roles := []string{string(server.RoleEdit)}
	cmd := &cobra.Command{
		Use:   "token NAME",
		Short: "Make a token and the lines for the configuration",
		Example: `  ausd token release-automation >> ausd.toml
  ausd token --role replicate replica-1 >> ausd.toml`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			for _, r := range roles {
				if !slices.Contains(server.Roles(), server.Role(r)) {
					return cli.Usagef("--role %q: want some of %v", r, server.Roles())
				}
			}
			list := strings.ReplaceAll(fmt.Sprintf("%q", roles), `" "`, `", "`)
			token := rand.Text()
			sum := sha256.Sum256([]byte(token))
			return a.Print(tokenResult{args[0], token, hex.EncodeToString(sum[:])}, func(w *cli.Printer) {
				w.Printf("# The token is %s: give it to who needs it, it stands nowhere else.\n[[tokens]]\nname = %q\nsha256 = %q\nroles = %s\n", token, args[0], hex.EncodeToString(sum[:]), list)
			})
		},
	}
	cmd.Flags().StringSliceVar(&roles, "role", roles, "what the token may do, several times or with commas")
	return cmd
}
