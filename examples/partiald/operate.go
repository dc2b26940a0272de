package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
	"github.com/senbonzakura/senbonzakura/examples/internal/database"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/config"
)

func (a *app) tokenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "token",
		Short: "Make a token for the API, and what the configuration keeps of it",
		Long: `token makes a new token and its hash. Give the token to the caller, who sends it as "Authorization: Bearer TOKEN";
it is not kept anywhere. The hash goes into the configuration, as hash of one of [[auth.tokens]].`,
		Example: "  partiald token",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			token := "pd_" + strings.ToLower(rand.Text()) // 128 bits
			_, err := fmt.Fprintf(a.stdout, "token = %q\nhash  = %q\n", token, config.HashToken(token))
			return err
		},
	}
}

func (a *app) healthCommand() *cobra.Command {
	var deep bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "healthcheck [URL]",
		Short: "Ask a running partiald whether it is well (exit code 0) or not (1)",
		Long: `healthcheck asks the server that the configuration describes, or the one at URL. By default it asks whether the
server takes requests (/__lbheartbeat__); with --deep also whether everything that it needs answers (/__heartbeat__).`,
		Example: `  partiald healthcheck
  partiald healthcheck --deep https://updates.example.com`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var address string
			if len(args) == 1 {
				address = strings.TrimSuffix(args[0], "/")
				if u, err := url.Parse(address); err != nil || u.Host == "" {
					return cli.UsageError{Err: fmt.Errorf("%q is not an address such as \"http://127.0.0.1:8080\"", args[0])}
				}
			} else {
				c, err := a.read() // the running server has looked at the rest
				if err != nil {
					return err
				}
				if err := c.Unreadable(); err != nil {
					return err
				}
				if address = local(c); address == "" {
					return c.At("server.listen", fmt.Errorf("%q is not HOST:PORT", c.Server.Listen))
				}
			}
			path := "/__lbheartbeat__"
			if deep {
				path = "/__heartbeat__"
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			body, err := ask(ctx, address+path, len(args) == 0)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.stdout, body)
			return err
		},
	}
	cmd.Flags().BoolVar(&deep, "deep", false, "also ask whether queue, ledger, cache and plugins answer")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Second, "longest time for an answer")
	return cmd
}

// local is how the configured server can be reached on this machine.
func local(c *config.Config) string {
	scheme := "http"
	if c.Server.TLSCertificate != "" {
		scheme = "https"
	}
	return near(scheme, c.Server.Listen)
}

// near is how one reaches what listens, from the same machine.
func near(scheme, listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// ask returns what a heartbeat says. own says that it is the server of this machine, whose certificate has another name
// than the address.
func ask(ctx context.Context, address string, own bool) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	if own {
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} //nolint:gosec // own server on this machine; nothing secret is sent
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return "", err
	}
	body := strings.TrimSpace(string(data))
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s: %s", address, res.Status, body)
	}
	return body, nil
}

func (a *app) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup DIR",
		Short: "Copy what must not be lost into a directory, also while the service runs",
		Long: `backup copies the ledger and the journal of signatures of the configured server into a new directory. The service
may be running: what it had answered when backup was called is in the copy. The queue need not be copied, because the
ledger knows what was not finished, and caches and stores hold what can be made again.

To restore: stop the service, put ledger.db and signing.journal back (and remove ledger.db-wal and ledger.db-shm and the
queue directory), and start it. A ledger in PostgreSQL is copied with pg_dump.`,
		Example: "  partiald backup --config /etc/partiald/partiald.toml /backup/partiald-$(date +%F)",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("give one directory to copy into, which is made")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.read() // whoever makes copies may lack what the service needs beside
			if err != nil {
				return err
			}
			if err := c.Fill(); err != nil {
				return err
			}
			return a.backup(cmd.Context(), c, args[0])
		},
	}
}

func (a *app) backup(ctx context.Context, c *config.Config, dir string) (err error) {
	dsn, err := c.PostgresDSN()
	if err != nil {
		return c.At(c.PostgresKey(), err)
	}
	if err := os.Mkdir(dir, 0o700); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already: copies go into a directory of their own", dir)
	} else if err != nil {
		return err
	}
	defer func() {
		if err != nil { // half a copy is none
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if dsn == "" {
		target := filepath.Join(dir, "ledger.db")
		if err := database.CopySQLite(ctx, c.Ledger.SQLite, target); err != nil {
			return fmt.Errorf("ledger %s: %w", c.Ledger.SQLite, err)
		}
		say(a.stdout, "%s\n", target)
	} else {
		say(a.stderr, "partiald: the ledger is in PostgreSQL: copy it with pg_dump\n")
	}
	if c.Signing.Journal == "" {
		return nil
	}
	target := filepath.Join(dir, "signing.journal")
	if err := copyFile(c.Signing.Journal, target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	} else if err == nil {
		say(a.stdout, "%s\n", target)
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}
