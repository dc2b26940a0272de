package plugins

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CookieVariable names the environment variable that tells a program that it was started as a plugin; its value
// is the kind. It is for people who start a plugin by hand, not for security.
const CookieVariable = "SENBONZAKURA_PLUGIN"

// maxHandshake bounds the handshake line, in bytes. A certificate for a P-521 key takes about 800.
const maxHandshake = 8 << 10

// readHandshake reads the first line of a plugin's standard output and checks every part of it:
//
//	1|<protocol major>|unix|<path of the socket>|grpc|<certificate: base64 without padding, DER>
//
// dir is the only directory in which the socket may be.
func readHandshake(r *bufio.Reader, kind Kind, dir string) (string, error) {
	line, err := r.ReadSlice('\n')
	text := string(line)
	quoted := strconv.Quote(clean(text, 200))
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", fmt.Errorf("%w: the first line of standard output is longer than %d bytes and begins %s", ErrHandshake, maxHandshake, quoted)
	case errors.Is(err, io.EOF) && len(line) == 0:
		return "", fmt.Errorf("%w: the process ended without a word on standard output", ErrHandshake)
	case err != nil && !errors.Is(err, io.EOF):
		return "", fmt.Errorf("%w: read standard output: %w", ErrHandshake, err)
	}
	text = strings.TrimRight(text, "\r\n")
	parts := strings.Split(text, "|")
	if len(parts) < 5 {
		return "", fmt.Errorf("%w: the first line of standard output is %s, not a handshake: a plugin prints nothing before it", ErrHandshake, quoted)
	}
	if parts[0] != "1" {
		return "", fmt.Errorf("%w: core protocol %q, want 1", ErrHandshake, clean(parts[0], 20))
	}
	if v, err := strconv.Atoi(parts[1]); err != nil || !slices.Contains(kind.Versions, v) {
		return "", fmt.Errorf("%w: the plugin speaks %s protocol %q, this host speaks %v", ErrHandshake, kind.Name, clean(parts[1], 20), kind.Versions)
	}
	if parts[4] != "grpc" {
		return "", fmt.Errorf("%w: transport %q, want grpc", ErrHandshake, clean(parts[4], 20))
	}
	if err := checkAddress(parts[2], parts[3], dir); err != nil {
		return "", err
	}
	if len(parts) < 6 || parts[5] == "" {
		return "", fmt.Errorf("%w: no certificate: mutual TLS is required", ErrHandshake)
	}
	der, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err == nil {
		_, err = x509.ParseCertificate(der)
	}
	if err != nil {
		return "", fmt.Errorf("%w: certificate: %w", ErrHandshake, err)
	}
	return text, nil
}

// checkAddress refuses every address but a socket in the plugin's own directory (on Windows: a loopback port),
// so that a plugin cannot make the host connect to something else.
func checkAddress(network, address, dir string) error {
	if runtime.GOOS == "windows" {
		host, _, err := net.SplitHostPort(address)
		if network != "tcp" || err != nil || host != "127.0.0.1" {
			return fmt.Errorf("%w: address %s %q is not a port of 127.0.0.1", ErrHandshake, clean(network, 20), clean(address, 200))
		}
		return nil
	}
	if network != "unix" {
		return fmt.Errorf("%w: network %q, want unix", ErrHandshake, clean(network, 20))
	}
	if filepath.Dir(address) != dir || filepath.Clean(address) != address {
		return fmt.Errorf("%w: socket %q is not in the directory that PLUGIN_UNIX_SOCKET_DIR names", ErrHandshake, clean(address, 200))
	}
	info, err := os.Lstat(address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%w: %q is not a socket", ErrHandshake, clean(address, 200))
	}
	return nil
}

// clientTLS makes the host's certificate for one start and the TLS configuration that uses it. The pool of
// authorities is empty until the plugin's certificate from the handshake is put in.
func clientTLS() (*tls.Config, string, error) {
	cert, err := NewCertificate()
	if err != nil {
		return nil, "", err
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{cert},
		RootCAs:      x509.NewCertPool(),
		ServerName:   "localhost",
		MinVersion:   tls.VersionTLS12,
	}
	return config, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})), nil
}

// NewCertificate makes a key and a certificate for one end of one connection, as PROTOCOL.md section 2.3 asks
// for; it is exported for tools that try what a plugin does with strangers. The key is on P-256, not on P-521
// as go-plugin's own, because gRPC in other languages does not take P-521 everywhere.
func NewCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make certificate: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "localhost"},
		DNSNames:              []string{"localhost"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(20, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
