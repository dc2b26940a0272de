package main

import (
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/conformance"
	"github.com/senbonzakura/senbonzakura/plugins/signing"
	"github.com/senbonzakura/senbonzakura/plugins/signing/signingtest"
	"github.com/senbonzakura/senbonzakura/plugins/storage"
	"github.com/senbonzakura/senbonzakura/plugins/storage/storagetest"
)

// pluginFlags say which plugin to run and how.
type pluginFlags struct {
	path, sha256 string
	args, env    []string
	secrets      []string
	attach       string
	timeout      time.Duration
}

func (f *pluginFlags) add(cmd *cobra.Command, pathFlag string) {
	flags := cmd.Flags()
	flags.StringVar(&f.path, pathFlag, "", "the plugin's program")
	flags.StringVar(&f.sha256, "sha256", "", "SHA-256 that the plugin's program must have, in hexadecimal")
	flags.StringArrayVar(&f.args, "plugin-arg", nil, "argument for the plugin (repeatable; other users can see it)")
	flags.StringArrayVar(&f.env, "plugin-env", nil, "NAME=value, or NAME to pass on, for the plugin's environment, which is empty otherwise (repeatable)")
	freeText(cmd, "sha256", "plugin-arg", "plugin-env")
	flags.StringArrayVar(&f.secrets, "plugin-secret", nil, "NAME=FILE: the plugin reads the file's content from the descriptor whose number NAME holds (repeatable)")
	flags.StringVar(&f.attach, "plugin-attach", "", "use a plugin that its author runs in debug mode: the file that it has written")
	flagTakes(cmd, reads, "plugin-attach")
	flagTakes(cmd, streams, pathFlag) // a program: no standard input
	flagTakes(cmd, reads, "plugin-secret")
	flags.DurationVar(&f.timeout, "plugin-timeout", 30*time.Second, "longest time for one call")
}

// given says whether a plugin was named.
func (f *pluginFlags) given() bool { return f.path != "" || f.attach != "" }

// config checks the flags. Without the right SHA-256 nothing is run.
func (f *pluginFlags) config() (plugins.Config, error) {
	if f.attach != "" {
		if f.path != "" || f.sha256 != "" || len(f.args)+len(f.env)+len(f.secrets) > 0 {
			return plugins.Config{}, usagef("--plugin-attach goes without a program, its --sha256, arguments, environment and secrets: it runs already")
		}
		return plugins.Config{Attach: f.attach}, nil
	}
	if f.sha256 == "" {
		sum, err := plugins.Sum(f.path)
		if err != nil {
			return plugins.Config{}, err
		}
		return plugins.Config{}, usagef("--sha256 is missing: if you trust %s as it is now, it is %s", f.path, sum)
	}
	if sum, err := hex.DecodeString(f.sha256); err != nil || len(sum) != sha256.Size {
		return plugins.Config{}, usagef("--sha256 %q: want 64 hexadecimal digits", f.sha256)
	}
	cfg := plugins.Config{Path: f.path, SHA256: f.sha256, Args: f.args, CallTimeout: f.timeout}
	for _, e := range f.env {
		name, _, given := strings.Cut(e, "=")
		if !given {
			value, ok := os.LookupEnv(name)
			if !ok {
				return cfg, usagef("--plugin-env %s: not set here", name)
			}
			e += "=" + value
		}
		cfg.Env = append(cfg.Env, e)
	}
	for _, s := range f.secrets {
		name, file, ok := strings.Cut(s, "=")
		if !ok {
			return cfg, usagef("--plugin-secret %s: want NAME=FILE", s)
		}
		cfg.Secrets = append(cfg.Secrets, plugins.Secret{Env: name, Value: func() ([]byte, error) { return readSmall(file, 16<<10) }})
	}
	return cfg, nil
}

// signFlags are what signing with a plugin takes beside the plugin itself.
type signFlags struct {
	plugin          pluginFlags
	key, public     string
	keys            string
	policy, journal string
}

func (f *signFlags) add(cmd *cobra.Command) {
	f.plugin.add(cmd, "plugin")
	flags := cmd.Flags()
	flags.StringVarP(&f.key, "key", "k", "", "ID of the plugin's key to sign with")
	freeText(cmd, "key")
	flags.StringVar(&f.keys, "keys", "", "TOML file with keys of the plugin that take over from each other, instead of --key")
	flags.StringVar(&f.public, "public-key", "", "key that signatures must verify with: a file or a built-in name (default: what the plugin names)")
	flags.StringVar(&f.policy, "policy", "", "JSON file that says which key may sign which MAR channel")
	flags.StringVar(&f.journal, "journal", "", "file to which a line is appended for every signature asked for")
	flagTakes(cmd, reads, "keys", "policy")
	flagTakes(cmd, appends, "journal")
	keyFlag(cmd, "public-key")
}

// signers starts the plugin and returns the signer of the key, after the policy was asked. close ends the plugin.
func (f *signFlags) signers(ctx context.Context, a *app, archive *mar.Reader) (signers []mar.Signer, closeAll func() error, err error) {
	switch {
	case f.key == "" && f.keys == "":
		return nil, nil, usagef("--key is missing: marctl plugin info lists the plugin's keys")
	case f.keys != "" && (f.key != "" || f.public != ""):
		return nil, nil, usagef("--keys goes without --key and --public-key: the file says both")
	}
	cfg, err := f.plugin.config()
	if err != nil {
		return nil, nil, err
	}
	client, err := signing.Start(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	undo := client.Close
	defer func() {
		if err != nil {
			signers, closeAll, err = nil, nil, errors.Join(err, undo())
		}
	}()
	place, err := f.place(ctx, a, client)
	if err != nil {
		return nil, nil, err
	}
	if f.policy == "" && f.journal == "" && f.keys == "" {
		signer, err := client.Signer(ctx, f.key, place[0].PublicKey)
		return []mar.Signer{signer}, client.Close, err
	}
	policy := signing.Policy{}
	for _, ref := range place {
		policy.Rules = append(policy.Rules, signing.Rule{Key: cmp.Or(ref.Name, ref.ID), Channels: []string{"*"}, NoProduct: true})
	}
	if f.policy != "" {
		data, err := readSmall(f.policy, 1<<20)
		if err != nil {
			return nil, nil, err
		}
		if policy, err = signing.ParsePolicy(data); err != nil {
			return nil, nil, named(f.policy, err)
		}
	}
	opts := &signing.AuthorityOptions{}
	if f.journal != "" {
		journal, err := signing.OpenJournal(f.journal)
		if err != nil {
			return nil, nil, err
		}
		opts.Journal = journal
		undo = func() error { return errors.Join(client.Close(), journal.Close()) }
	}
	authority, err := signing.NewAuthority(ctx, []signing.Place{place}, policy, opts)
	if err != nil {
		return nil, nil, err
	}
	var product *mar.Product
	if p, ok := archive.Product(); ok {
		product = &p
	}
	signers, err = authority.Signers(ctx, product)
	return signers, undo, err
}

// keysFile is what --keys takes.
type keysFile struct {
	Keys []struct {
		Name      string `toml:"name"`
		ID        string `toml:"id"`
		PublicKey string `toml:"public_key"`
		NotBefore string `toml:"not_before"`
		NotAfter  string `toml:"not_after"`
	} `toml:"key"`
}

// place returns the keys of which one signs: that of --key, or those of --keys.
func (f *signFlags) place(ctx context.Context, a *app, client *signing.Client) (signing.Place, error) {
	if f.keys == "" {
		public, err := f.publicKey(ctx, a, client)
		return signing.Place{{Client: client, ID: f.key, PublicKey: public}}, err
	}
	var file keysFile
	if err := readTOML(f.keys, &file); err != nil {
		return nil, err
	}
	var place signing.Place
	for i, k := range file.Keys {
		ref := signing.KeyRef{Name: k.Name, Client: client, ID: k.ID}
		var errs [3]error
		if k.PublicKey == "" {
			errs[0] = errors.New("public_key is missing: what signatures must verify with is not taken from the plugin")
		} else {
			ref.PublicKey, errs[0] = publicKey(k.PublicKey)
		}
		ref.NotBefore, errs[1] = signing.ParseTime(k.NotBefore)
		ref.NotAfter, errs[2] = signing.ParseTime(k.NotAfter)
		if err := errors.Join(errs[:]...); err != nil {
			return nil, named(f.keys, fmt.Errorf("key %d: %w", i+1, err))
		}
		place = append(place, ref)
	}
	if len(place) == 0 {
		return nil, named(f.keys, errors.New("lists no [[key]]"))
	}
	return place, nil
}

// publicKey returns the configured key, or the one that the plugin names, and says so then.
func (f *signFlags) publicKey(ctx context.Context, a *app, client *signing.Client) (crypto.PublicKey, error) {
	if f.public != "" {
		return publicKey(f.public)
	}
	keys, err := client.Keys(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if k.ID == f.key {
			fingerprint, err := mar.Fingerprint(k.PublicKey)
			if err != nil {
				return nil, err
			}
			if !a.quiet {
				a.printerTo(a.stderr).printf("marctl: no --public-key: taking the plugin's word for %s (SHA-256 %s)\n", k.ID, fingerprint)
			}
			return k.PublicKey, nil
		}
	}
	return nil, fmt.Errorf("the plugin has no key %q (see marctl plugin info)", f.key)
}

func (a *app) pluginCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plugin",
		Short: "Look into a signing or storage plugin, check that it keeps to the protocol, or begin one",
		Example: `  marctl plugin new signing signer-new
  marctl plugin info ./signer-pem --sha256 $(sha256sum signer-pem | cut -c1-64) --plugin-arg release=$PWD/release.pem`,
	}
	cmd.AddCommand(a.pluginInfo(), a.pluginCheck(), a.pluginNew())
	return cmd
}

type pluginKey struct {
	ID          string   `json:"id"`
	Algorithm   string   `json:"algorithm"`
	Size        int      `json:"signature_size"`
	Fingerprint string   `json:"fingerprint"`
	NotBefore   string   `json:"not_before,omitempty"`
	NotAfter    string   `json:"not_after,omitempty"`
	Channels    []string `json:"channels,omitempty"`
}

type pluginAnswer struct {
	Kind         string      `json:"kind"`
	Name         string      `json:"name"`
	Version      string      `json:"version"`
	Capabilities []string    `json:"capabilities,omitempty"`
	Keys         []pluginKey `json:"keys,omitempty"`
}

func (a *app) pluginInfo() *cobra.Command {
	var f pluginFlags
	cmd := &cobra.Command{
		Use:   "info PROGRAM",
		Short: "Start a plugin and print what it says about itself",
		Long: `info starts a plugin, or attaches to one that runs, and prints what it says about itself.

A plugin runs in a directory of its own: give it absolute paths.`,
		Example: `  marctl plugin info ./signer-pem --sha256 $(sha256sum signer-pem | cut -c1-64) --plugin-arg release=$PWD/release.pem
  marctl plugin info ./storage-dir --sha256 $(sha256sum storage-dir | cut -c1-64) --plugin-arg $PWD/objects`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 1:
				f.path = args[0]
			case f.attach == "":
				return usagef("PROGRAM is missing, or --plugin-attach FILE")
			}
			cfg, err := f.config()
			if err != nil {
				return err
			}
			answer, err := askPlugin(cmd.Context(), cfg)
			if err != nil {
				return named(cmp.Or(f.path, f.attach), err)
			}
			return a.print(answer, func(w *printer) {
				w.printf("%s plugin %s %s\n", answer.Kind, answer.Name, answer.Version)
				if len(answer.Capabilities) > 0 {
					w.printf("capabilities: %s\n", strings.Join(answer.Capabilities, ", "))
				}
				if len(answer.Keys) == 0 {
					return
				}
				w.table(func(row func(...any)) {
					row("KEY", "ALGORITHM", "BYTES", "VALID", "CHANNELS", "SHA-256 OF THE PUBLIC KEY")
					for _, k := range answer.Keys {
						valid := "always"
						if k.NotBefore != "" || k.NotAfter != "" {
							valid = k.NotBefore + "…" + k.NotAfter
						}
						row(k.ID, k.Algorithm, k.Size, valid, dash(strings.Join(k.Channels, ",")), k.Fingerprint)
					}
				})
			})
		},
	}
	takes(cmd, other)
	f.add(cmd, "path")
	must(cmd.Flags().MarkHidden("path"))
	return cmd
}

// askPlugin starts a plugin as a signing and, if it is none, as a storage plugin.
func askPlugin(ctx context.Context, cfg plugins.Config) (*pluginAnswer, error) {
	signer, signErr := signing.Start(ctx, cfg)
	if signErr != nil {
		store, err := storage.Start(ctx, cfg)
		if err != nil {
			if err.Error() == signErr.Error() { // which has nothing to do with its kind
				return nil, err
			}
			return nil, fmt.Errorf("neither a signing plugin (%w) nor a storage plugin (%w)", signErr, err)
		}
		info, err := store.Info(ctx)
		if err = errors.Join(err, store.Close()); err != nil {
			return nil, err
		}
		return &pluginAnswer{Kind: "storage", Name: info.Name, Version: info.Version, Capabilities: info.Capabilities}, nil
	}
	info, err := signer.Info(ctx)
	if err != nil {
		return nil, errors.Join(err, signer.Close())
	}
	keys, err := signer.Keys(ctx)
	if err = errors.Join(err, signer.Close()); err != nil {
		return nil, err
	}
	answer := &pluginAnswer{Kind: "signing", Name: info.Name, Version: info.Version, Capabilities: info.Capabilities}
	for _, k := range keys {
		fingerprint, err := mar.Fingerprint(k.PublicKey)
		if err != nil {
			return nil, err
		}
		answer.Keys = append(answer.Keys, pluginKey{
			k.ID, k.AlgorithmName(), k.SignatureSize, fingerprint, date(k.NotBefore), date(k.NotAfter), k.Channels,
		})
	}
	return answer, nil
}

func date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func (a *app) pluginCheck() *cobra.Command {
	var f pluginFlags
	var key, public string
	cmd := &cobra.Command{
		Use:       "check signing|storage --path PROGRAM --sha256 HEX",
		ValidArgs: []string{"signing", "storage"},
		Short:     "Try every rule of the plugin protocol on a program",
		Long: `check runs the conformance kit on a plugin in any language. Its report names each rule, the section of
plugins/PROTOCOL.md that has it, and what was seen where it is broken; the exit code is 1 then. A storage plugin is
written to: objects with a prefix of their own, which are deleted at the end.

A plugin runs in a directory of its own: give it absolute paths. One that does not answer a call within --plugin-timeout ends
the check; raise it for keys or stores that are slow.

To see what it does in a debugger, start the plugin yourself with the environment variable SENBONZAKURA_DEBUG=FILE, and
check it with --plugin-attach FILE: it has all the time then.`,
		Example: `  marctl plugin check signing --path ./signer-pem --sha256 $(sha256sum signer-pem | cut -c1-64) --key release --plugin-arg release=$PWD/release.pem
  marctl plugin check storage --path ./storage-dir --sha256 $(sha256sum storage-dir | cut -c1-64) --plugin-arg $PWD/objects`,
		Args: cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !f.given() {
				return usagef("--path is missing, or --plugin-attach")
			}
			cfg, err := f.config()
			if err != nil {
				return err
			}
			var report *conformance.Report
			if args[0] == "signing" {
				opts := &signingtest.Options{Key: key}
				if public != "" {
					if opts.PublicKey, err = publicKey(public); err != nil {
						return err
					}
				}
				report = signingtest.CheckBinary(cmd.Context(), cfg, opts)
			} else {
				report = storagetest.CheckBinary(cmd.Context(), cfg, nil)
			}
			err = a.print(report, func(w *printer) {
				if w.err == nil {
					w.err = report.WriteText(w.w)
				}
			})
			if err == nil && report.Err() != nil {
				return errAnswerNo
			}
			return err
		},
	}
	f.add(cmd, "path")
	timeout := cmd.Flags().Lookup("plugin-timeout")
	timeout.DefValue = "10s"
	must(timeout.Value.Set(timeout.DefValue))
	cmd.Flags().StringVarP(&key, "key", "k", "", "only this key of a signing plugin")
	freeText(cmd, "key")
	cmd.Flags().StringVar(&public, "public-key", "", "what that key's signatures must verify with: a file or a built-in name")
	keyFlag(cmd, "public-key")
	return cmd
}
