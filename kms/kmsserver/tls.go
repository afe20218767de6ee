// SPDX-License-Identifier: Apache-2.0

package kmsserver

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cretula/cretula/reason"
)

// maxPEM bounds a certificate or key file.
const maxPEM = 1 << 20

// A Certificate is the certificate and key of a TLS server in two PEM files, which
// can be read again while it serves. It is safe for concurrent use.
type Certificate struct {
	certFile, keyFile string

	mu        sync.Mutex // held while the files are read
	cert, key []byte     // what the files had when they were last read
	refused   error      // why that is not served; nil: it is
	current   atomic.Pointer[tls.Certificate]
}

// LoadCertificate reads both files. The key must be the certificate's and in a file
// that others cannot read and the group cannot write; else the error has a reason,
// rule kms.tls.pair or kms.tls.key-mode.
func LoadCertificate(certFile, keyFile string) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile}
	if _, err := c.Reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// Reload reads the files again and reports whether there is something new in them
// that connections get from now on. After an error the pair from before is served
// on.
func (c *Certificate) Reload() (changed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cert, err := readPEM(c.certFile, false)
	if err != nil {
		return false, err
	}
	key, err := readPEM(c.keyFile, true)
	if err != nil {
		return false, err
	}
	if bytes.Equal(cert, c.cert) && bytes.Equal(key, c.key) {
		return false, c.refused
	}
	clear(c.key)
	c.cert, c.key, c.refused = cert, key, nil
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		c.refused = reason.New(reason.Mismatch, "kms.tls.pair", "%s and %s are no certificate and its key: %w", c.certFile, c.keyFile, err)
		return false, c.refused
	}
	c.current.Store(&pair)
	return true, nil
}

// readPEM reads a file, a private one if it has a key.
func readPEM(path string, private bool) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if open := info.Mode().Perm() & 0o027; private && open != 0 && runtime.GOOS != "windows" {
		return nil, reason.New(reason.Untrusted, "kms.tls.key-mode",
			"%s has mode %04o: others must not reach it, nor the group write to it (chmod 0600, or 0640)", path, info.Mode().Perm())
	}
	data, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err == nil && len(data) > maxPEM {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxPEM)
	}
	return data, err
}

// reloadEvery is how often the files are looked at.
const reloadEvery = 5 * time.Second

// Run reads the files again every few seconds and at each value of now, until ctx
// ends. What comes of it goes to the log.
func (c *Certificate) Run(ctx context.Context, now <-chan os.Signal, logger *slog.Logger) {
	ticker := time.NewTicker(reloadEvery)
	defer ticker.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-now:
			last = ""
		case <-ticker.C:
		}
		changed, err := c.Reload()
		if err != nil {
			if err.Error() != last {
				logger.ErrorContext(ctx, "the new certificate is refused, the one before is served on", "cause", err.Error())
			}
			last = err.Error()
			continue
		}
		last = ""
		if changed {
			logger.InfoContext(ctx, "new certificate", "file", c.certFile, "valid until", c.NotAfter())
		}
	}
}

// NotAfter is when the leaf that is served expires.
func (c *Certificate) NotAfter() time.Time { return c.current.Load().Leaf.NotAfter }

// Config is that of a server: TLS 1.3, or 1.2 with forward secrecy and AEAD
// (RFC 9325 §4.2). AWS's SDKs speak HTTP/1.1 to AWS KMS.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.current.Load(), nil
		},
	}
}

// ListenTLS opens a TLS listener on HOST:PORT, any address of this machine. 0.0.0.0 are
// those of IPv4, which package net would take for those of IPv6 too.
func ListenTLS(ctx context.Context, address string, certificate *Certificate) (net.Listener, error) {
	network := "tcp"
	if at, err := netip.ParseAddrPort(address); err == nil && at.Addr().Is4() {
		network = "tcp4"
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return tls.NewListener(listener, certificate.Config()), nil
}
