package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/internal/stream"
	"github.com/senbonzakura/senbonzakura/mar"
)

func (a *app) signCommands() []*cobra.Command {
	return []*cobra.Command{a.verifyCommand(), a.signCommand(), a.stripCommand(), a.signatureCommand(), a.digestCommand()}
}

func (a *app) verifyCommand() *cobra.Command {
	var keys, allow []string
	var anyKey, updater bool
	cmd := &cobra.Command{
		Use:   "verify FILE --key KEY…",
		Short: "Verify the signatures of a MAR file with the keys given",
		Long: `verify asks whether a MAR file is signed by the keys given. The rule is that of Mozilla's own tool: as
many signatures as keys, each verified with the key at its place. With --any one signature that one of the keys
verifies is enough; with --updater the rule is the updater's: exactly one signature, of SHA-384, by one of the keys.

A key is a DER certificate, a PEM certificate or public key, or the name of a built-in key of Mozilla.
The exit code is 1 where the answer is no.`,
		Example: `  marctl verify update.mar --key release-primary
  marctl verify update.mar --updater --key release-primary --key release-secondary
  marctl verify update.mar --key mycert.der`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(keys) == 0 {
				return usagef("no key given: --key FILE, or --key with one of %v", mar.BuiltinKeys())
			}
			if anyKey && updater {
				return usagef("--any and --updater exclude each other")
			}
			all := manyKeys(keys)
			if len(all) > len(keys) && !anyKey && !updater {
				return usagef("--key :mozilla-NAME stands for several keys: add --any or --updater")
			}
			keys = all
			public, err := publicKeys(keys)
			if err != nil {
				return err
			}
			r, err := openMAR(args[0], readerOptions(allow))
			if err != nil {
				return err
			}
			defer r.Close()
			matched, err := verify(cmd.Context(), r.Reader, public, anyKey, updater)
			if err != nil && !errors.Is(err, mar.ErrSignature) {
				return named(args[0], err)
			}
			result := verifyResult{File: args[0], Verified: err == nil, Keys: keys}
			if err != nil {
				result.Reason = err.Error()
			} else if matched >= 0 {
				result.Keys = keys[matched : matched+1]
			}
			printed := a.print(result, func(w *printer) {
				if result.Verified {
					w.printf("%s: %s with %v\n", args[0], w.good("verified"), result.Keys)
				} else {
					w.printf("%s: %s: %s\n", args[0], w.bad("NOT verified"), result.Reason)
				}
			})
			if printed != nil {
				return printed
			}
			if !result.Verified {
				return errAnswerNo
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVarP(&keys, "key", "k", nil, "key to verify with; repeat it in the order of the signatures")
	cmd.Flags().BoolVar(&anyKey, "any", false, "one signature by any of the keys is enough")
	cmd.Flags().BoolVar(&updater, "updater", false, "verify as an installed updater would")
	allowFlag(cmd, &allow)
	takes(cmd, reads)
	keyFlag(cmd, "key")
	return cmd
}

// verifyResult is what verify prints as JSON.
type verifyResult struct {
	File     string   `json:"file"`
	Verified bool     `json:"verified"`
	Keys     []string `json:"keys"` // those that verified it, or all that were tried
	Reason   string   `json:"reason,omitempty"`
}

// verify returns which key verified where only one had to, else -1.
func verify(ctx context.Context, r *mar.Reader, keys []crypto.PublicKey, anyKey, updater bool) (int, error) {
	switch {
	case anyKey:
		match, err := r.VerifyAny(ctx, keys...)
		return match.Key, err
	case updater:
		return r.VerifyUpdater(ctx, keys...)
	}
	return -1, r.Verify(ctx, keys...)
}

func (a *app) signCommand() *cobra.Command {
	var pemFiles []string
	var sha1 bool
	var viaPlugin signFlags
	cmd := &cobra.Command{
		Use:   "sign FILE OUT",
		Short: "Write a signed copy of a MAR file",
		Long: `sign writes a copy of an unsigned MAR file with one signature per key, in the order given. Each signature
is verified before anything is written. Installed updaters accept exactly one signature, of RSA-4096 with SHA-384.

Keys are RSA private keys in PEM files (PKCS#8 or PKCS#1), or held by a signing plugin, which only sees a digest.`,
		Example: `  marctl sign update.mar signed.mar --pem release.pem
  marctl sign update.mar signed.mar --plugin ./signer-pem --sha256 $(sha256sum signer-pem | cut -c1-64) --key release --plugin-arg release=$PWD/release.pem`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if (len(pemFiles) > 0) == viaPlugin.plugin.given() {
				return usagef("give keys with --pem FILE, or a plugin with --plugin PROGRAM --sha256 HEX --key ID")
			}
			if !viaPlugin.plugin.given() {
				err = refuseFlags(cmd, "goes with --plugin", "key", "keys", "public-key", "policy", "journal", "sha256",
					"plugin-arg", "plugin-env", "plugin-secret", "plugin-timeout")
			} else {
				err = refuseFlags(cmd, "goes with --pem: a plugin's key has its own algorithm", "sha1")
			}
			if err != nil {
				return err
			}
			alg := mar.RSAPKCS1SHA384
			if sha1 {
				alg = mar.RSAPKCS1SHA1
			}
			r, err := openMAR(args[0], nil)
			if err != nil {
				return err
			}
			defer r.Close()
			signers, err := pemSigners(pemFiles, alg)
			if err != nil {
				return err
			}
			if viaPlugin.plugin.given() {
				var closePlugin func() error
				if signers, closePlugin, err = viaPlugin.signers(cmd.Context(), a, r.Reader); err != nil {
					return err
				}
				defer func() { err = errors.Join(err, closePlugin()) }()
			}
			a.warnOfKeys(signers)
			return a.edit(cmd.Context(), args[0], args[1], func(w io.Writer) (int64, error) {
				return r.WriteSigned(cmd.Context(), w, signers...)
			})
		},
	}
	cmd.Flags().StringArrayVar(&pemFiles, "pem", nil, "RSA private key in a PEM file")
	viaPlugin.add(cmd)
	takes(cmd, reads, writes)
	flagTakes(cmd, reads, "pem")
	cmd.Flags().BoolVar(&sha1, "sha1", false, "sign with SHA-1, which only updaters older than 56 accept")
	return cmd
}

// warnOfKeys says that installed updaters take no signature that is made with a shorter key.
func (a *app) warnOfKeys(signers []mar.Signer) {
	for _, s := range signers {
		if info := s.Info(); info.Algorithm == mar.RSAPKCS1SHA384 && info.SignatureSize != 512 && !a.quiet {
			p := a.printerTo(a.stderr)
			p.printf("marctl: %s the key has %d bits: installed updaters take SHA-384 with RSA-4096 alone\n", p.warning("warning:"), 8*info.SignatureSize)
		}
	}
}

// pemSigners makes a signer of each key file.
func pemSigners(files []string, alg mar.Algorithm) ([]mar.Signer, error) {
	signers := make([]mar.Signer, len(files))
	for i, name := range files {
		key, err := privateKey(name)
		if err != nil {
			return nil, err
		}
		if signers[i], err = mar.CryptoSigner(key, alg); err != nil {
			return nil, named(name, err)
		}
	}
	return signers, nil
}

// privateKey reads an RSA private key from a PEM file.
func privateKey(name string) (*rsa.PrivateKey, error) {
	data, err := readSmall(name, 1<<16)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s: not a PEM file", name)
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		what := "holds no RSA private key"
		if strings.Contains(block.Type, "ENCRYPTED") || block.Headers["DEK-Info"] != "" {
			what = "is encrypted: decrypt it, or sign with a plugin such as signer-pem, which takes a passphrase"
		}
		return nil, fmt.Errorf("%s: the PEM block %q %s", name, block.Type, what)
	}
	private, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: the key is %T, MAR files are signed with RSA", name, key)
	}
	return private, nil
}

func (a *app) stripCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "strip FILE OUT",
		Short:   "Write a copy without signatures: the file as it was before signing, byte for byte",
		Example: "  marctl strip signed.mar unsigned.mar",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := openMAR(args[0], nil)
			if err != nil {
				return err
			}
			defer r.Close()
			return a.edit(cmd.Context(), args[0], args[1], r.Strip().WriteTo)
		},
	}
	takes(cmd, reads, writes)
	return cmd
}

func (a *app) signatureCommand() *cobra.Command {
	var addKeys []string
	cmd := &cobra.Command{
		Use:   "signature",
		Short: "Take single signatures out of a MAR file, or put them in",
		Example: `  marctl signature extract signed.mar 0 sig.b64
  marctl signature import reserved.mar 0 sig.b64 signed.mar
  marctl signature add update.mar sig.bin signed.mar`,
	}
	extract := &cobra.Command{
		Use:     "extract FILE INDEX OUT",
		Short:   "Write signature number INDEX (from 0) as base64, in lines as NSS writes them",
		Example: "  marctl signature extract signed.mar 0 sig.b64",
		Args:    cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			index, err := signatureIndex(args[1])
			if err != nil {
				return err
			}
			r, err := openMAR(args[0], nil)
			if err != nil {
				return err
			}
			defer r.Close()
			text, err := r.ExtractSignature(index)
			if err != nil {
				return named(args[0], err)
			}
			return a.edit(cmd.Context(), args[0], args[2], func(w io.Writer) (int64, error) {
				n, err := w.Write(text)
				return int64(n), err
			})
		},
	}
	imported := &cobra.Command{
		Use:   "import FILE INDEX SIGNATURE OUT",
		Short: "Write a copy in which signature number INDEX (from 0) is the one in a base64 file",
		Long: `import replaces a signature by one that was made elsewhere. It must have the length of the one it
replaces, since the length is part of what is signed.`,
		Example: "  marctl signature import reserved.mar 0 sig.b64 signed.mar",
		Args:    cobra.ExactArgs(4),
		RunE: func(cmd *cobra.Command, args []string) error {
			index, err := signatureIndex(args[1])
			if err != nil {
				return err
			}
			text, err := readSmall(args[2], 1<<16)
			if err != nil {
				return err
			}
			r, err := openMAR(args[0], nil)
			if err != nil {
				return err
			}
			defer r.Close()
			edited, err := r.ImportSignature(index, text)
			if err != nil {
				return named(args[0], err)
			}
			return a.edit(cmd.Context(), args[0], args[3], edited.WriteTo)
		},
	}
	var sha1 bool
	add := &cobra.Command{
		Use:   "add FILE SIGNATURE OUT",
		Short: "Write a copy of an unsigned file with a signature that was made elsewhere of its digest",
		Long: `add puts a signature, as bytes or as base64, into an unsigned MAR file: one that was made of what
"marctl digest" prints. With --key it is verified before anything is written.`,
		Example: "  marctl signature add update.mar sig.bin signed.mar",
		Args:    cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.addSignature(cmd.Context(), args[0], args[1], args[2], sha1, addKeys)
		},
	}
	add.Flags().BoolVar(&sha1, "sha1", false, "the signature is one of SHA-1")
	add.Flags().StringArrayVarP(&addKeys, "key", "k", nil, "key that must verify the signature, or another one given (repeatable)")
	keyFlag(add, "key")
	takes(add, reads, reads, writes)
	cmd.AddCommand(add)
	takes(extract, reads, text, writes)
	takes(imported, reads, text, reads, writes)
	cmd.AddCommand(extract, imported)
	return cmd
}

// addSignature puts a signature into an unsigned file.
func (a *app) addSignature(ctx context.Context, in, signature, out string, sha1 bool, keyNames []string) error {
	keys, err := publicKeys(keyNames)
	if err != nil {
		return err
	}
	sig, err := readSmall(signature, 1<<16)
	if err != nil {
		return err
	}
	if text, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(sig)), "")); err == nil {
		sig = text
	}
	info := mar.SignerInfo{Algorithm: mar.RSAPKCS1SHA384, SignatureSize: len(sig)}
	if sha1 {
		info.Algorithm = mar.RSAPKCS1SHA1
	}
	r, err := openMAR(in, nil)
	if err != nil {
		return err
	}
	defer r.Close()
	reserved, err := makeRoom(ctx, r.Reader, info)
	if err != nil {
		return named(in, err)
	}
	defer reserved.close()
	edited, err := reserved.ImportSignature(0, []byte(base64.StdEncoding.EncodeToString(sig)))
	if err != nil {
		return named(signature, err)
	}
	return a.edit(ctx, in, out, func(w io.Writer) (int64, error) {
		var whole bytes.Buffer
		n, err := edited.WriteTo(&whole)
		if err != nil {
			return n, err
		}
		if len(keys) > 0 {
			signed, err := mar.NewReader(bytes.NewReader(whole.Bytes()), n, nil)
			if err != nil {
				return 0, err
			}
			if _, err := signed.VerifyAny(ctx, keys...); err != nil {
				return 0, err
			}
		}
		return whole.WriteTo(w)
	})
}

func signatureIndex(s string) (int, error) {
	index, err := strconv.Atoi(s)
	if err != nil || index < 0 || index >= mar.MaxSignatures {
		return 0, usagef("signature %q: want a number from 0 to %d", s, mar.MaxSignatures-1)
	}
	return index, nil
}

func (a *app) digestCommand() *cobra.Command {
	var sha1, asn1, asBase64 bool
	var reserve, bits string
	cmd := &cobra.Command{
		Use:   "digest FILE",
		Short: "Print the digest that signatures of a MAR file are made of",
		Long: `digest prints, in hexadecimal, the hash of the bytes that signatures cover. Since the place of the
signatures is covered too, a file without any is hashed as if it had one; --reserve writes that file, with zeros
where the signature belongs, for "signature import".`,
		Example: `  marctl digest signed.mar
  marctl digest unsigned.mar --reserve reserved.mar`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			info := mar.SignerInfo{Algorithm: mar.RSAPKCS1SHA384, SignatureSize: 512}
			if sha1 {
				info = mar.SignerInfo{Algorithm: mar.RSAPKCS1SHA1, SignatureSize: 256}
			}
			if bits != "" {
				n, err := strconv.Atoi(bits)
				if err != nil {
					return usageError{err}
				}
				info.SignatureSize = n / 8
			}
			r, err := openMAR(args[0], nil)
			if err != nil {
				return err
			}
			defer r.Close()
			var digest []byte
			if len(r.Signatures()) > 0 {
				if reserve != "" {
					return named(args[0], fmt.Errorf("%w: --reserve wants an unsigned file, see marctl strip", mar.ErrSigned))
				}
				digest, err = r.Digest(ctx, info.Algorithm)
			} else {
				digest, err = a.reserve(ctx, r.Reader, reserve, info)
			}
			if err != nil {
				return named(args[0], err)
			}
			if asn1 {
				digest = append(slices.Clone(digestInfo[info.Algorithm]), digest...)
			}
			text := hex.EncodeToString(digest)
			if asBase64 {
				text = base64.StdEncoding.EncodeToString(digest)
			}
			return a.print(digestResult{args[0], info.Algorithm.String(), text}, func(w *printer) { w.println(text) })
		},
	}
	cmd.Flags().BoolVar(&sha1, "sha1", false, "the digest for SHA-1 signatures")
	choice(cmd, &bits, "bits", "", "length of the key that will sign an unsigned file (default: 4096, with --sha1 2048)", "2048", "3072", "4096")
	cmd.Flags().BoolVar(&asn1, "asn1", false, "as a DigestInfo of ASN.1, which some signers take")
	cmd.Flags().BoolVar(&asBase64, "base64", false, "in base64 instead of hexadecimal")
	cmd.Flags().StringVar(&reserve, "reserve", "", "write the file with room for one signature here")
	takes(cmd, reads)
	flagTakes(cmd, writes, "reserve")
	return cmd
}

// digestResult is what digest prints as JSON.
type digestResult struct {
	File      string `json:"file"`
	Algorithm string `json:"algorithm"`
	Digest    string `json:"digest"` // in hexadecimal, with --base64 in base64
}

// digestInfo is what stands before a digest in a DigestInfo of ASN.1 (RFC 8017, section 9.2, note 1).
var digestInfo = map[mar.Algorithm][]byte{
	mar.RSAPKCS1SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	mar.RSAPKCS1SHA1:   {0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14},
}

// reserve returns the digest of an unsigned archive with room for one signature, and writes it where out says. The digest
// is taken of the very file that the signature will be put into.
func (a *app) reserve(ctx context.Context, r *mar.Reader, out string, info mar.SignerInfo) ([]byte, error) {
	room, err := makeRoom(ctx, r, info)
	if err != nil {
		return nil, err
	}
	defer room.close()
	digest, err := room.Digest(ctx, info.Algorithm)
	if err != nil || out == "" {
		return digest, err
	}
	return digest, a.writeFile(ctx, out, func(w io.Writer) error {
		_, err := io.Copy(w, io.NewSectionReader(room.file, 0, room.Size()))
		return err
	})
}

// A room is an archive with room for a signature, in a temporary file.
type room struct {
	*mar.Reader
	file *os.File
}

func makeRoom(ctx context.Context, r *mar.Reader, info mar.SignerInfo) (*room, error) {
	edited, err := r.Reserve(info)
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp("", "marctl-*.mar")
	if err != nil {
		return nil, err
	}
	made := &room{file: f}
	n, err := edited.WriteTo(stream.NewWriter(ctx, f))
	if err == nil {
		made.Reader, err = mar.NewReader(f, n, nil)
	}
	if err != nil {
		made.close()
		return nil, err
	}
	return made, nil
}

func (r *room) close() {
	r.file.Close()
	os.Remove(r.file.Name())
}
