// SPDX-License-Identifier: Apache-2.0

//go:build unix

package kmsserver_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cretula/cretula/kms/kmsserver"
	"github.com/cretula/cretula/reason"
)

// A pair is a self-signed certificate for 127.0.0.1 and its key, in PEM.
type pair struct {
	cert, key []byte
	parsed    *x509.Certificate
}

func newPair(t testing.TB, serial int64) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "kms"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Duration(serial) * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return pair{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), parsed}
}

// write puts a pair in place as an installer does: each file whole, one after the
// other.
func (p pair) write(t testing.TB, certFile, keyFile string) {
	t.Helper()
	for name, data := range map[string][]byte{certFile: p.cert, keyFile: p.key} {
		if data == nil {
			continue
		}
		if err := os.WriteFile(name+".new", data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(name+".new", name); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCertificateRefusals(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	a, b := newPair(t, 1), newPair(t, 2)
	load := func() error { _, err := kmsserver.LoadCertificate(cert, key); return err }
	if err := load(); !os.IsNotExist(err) {
		t.Errorf("no files: %v", err)
	}
	pair{cert: a.cert, key: b.key}.write(t, cert, key)
	if r, _ := reason.Of(load()); r != reason.Mismatch {
		t.Errorf("another key: %v", load())
	}
	pair{cert: a.key, key: a.cert}.write(t, cert, key)
	if load() == nil {
		t.Error("exchanged")
	}
	pair{cert: bytes.Repeat([]byte{'x'}, 2<<20), key: a.key}.write(t, cert, key)
	if load() == nil {
		t.Error("too large")
	}
	a.write(t, cert, key)
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o640: true, 0o440: true, 0o644: false, 0o604: false, 0o660: false, 0o602: false, 0o620: false} {
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		err := load()
		if (err == nil) != ok {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(key, 0o600); err != nil {
		t.Skip(err)
	}
	writer, err := os.OpenFile(key, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	if load() == nil {
		t.Error("a pipe")
	}
}

// newCertificate loads a pair from files of its own.
func newCertificate(t *testing.T, p pair) (certificate *kmsserver.Certificate, certFile, keyFile string) {
	t.Helper()
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	p.write(t, certFile, keyFile)
	certificate, err := kmsserver.LoadCertificate(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, certFile, keyFile
}

func poolOf(pairs []pair) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, p := range pairs {
		pool.AddCert(p.parsed)
	}
	return pool
}

func tlsClient(roots *x509.CertPool, keep bool) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: !keep, ForceAttemptHTTP2: true}}
}

// TestTLSReload: a new certificate is served without a request being lost, and one
// that does not fit its key is refused and the one before kept.
func TestTLSReload(t *testing.T) {
	pairs := []pair{newPair(t, 1), newPair(t, 2), newPair(t, 3)}
	certificate, certFile, keyFile := newCertificate(t, pairs[0])
	ctx, cancel := context.WithCancel(t.Context())
	listener, err := kmsserver.ListenTLS(ctx, "127.0.0.1:0", certificate)
	if err != nil {
		t.Fatal(err)
	}
	log := &lockedBuffer{}
	hup := make(chan os.Signal, 1)
	var serving sync.WaitGroup
	serving.Go(func() { certificate.Run(ctx, hup, slog.New(slog.NewTextHandler(log, nil))) })
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || r.ProtoMajor != 1 {
			t.Errorf("%v, TLS %v", r.Proto, r.TLS)
		}
		io.Copy(w, r.Body)
	})
	serving.Go(func() {
		if err := kmsserver.Serve(ctx, listener, handler, nil); err != nil {
			t.Error(err)
		}
	})
	roots := poolOf(pairs)
	url := "https://" + listener.Addr().String()
	get := func(client *http.Client) (serial int64, err error) {
		answer, err := client.Post(url, "text/plain", bytes.NewReader(make([]byte, 1000)))
		if err != nil {
			return 0, err
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err == nil && len(body) != 1000 {
			t.Errorf("%d bytes", len(body))
		}
		return answer.TLS.PeerCertificates[0].SerialNumber.Int64(), err
	}
	var load sync.WaitGroup
	var stop atomic.Bool
	var requests atomic.Int64
	for i := range 4 {
		load.Go(func() {
			client := tlsClient(roots, i%2 == 0)
			defer client.CloseIdleConnections()
			for !stop.Load() {
				if _, err := get(client); err != nil {
					t.Errorf("a request is lost: %v", err)
					return
				}
				requests.Add(1)
			}
		})
	}
	waitFor := func(what string, serial int64) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; {
			got, err := get(tlsClient(roots, false))
			if err != nil {
				t.Fatal(err)
			}
			if got == serial {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: certificate %d, want %d", what, got, serial)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	pairs[1].write(t, certFile, keyFile)
	hup <- syscall.SIGHUP
	waitFor("after SIGHUP", 2)
	pair{cert: pairs[2].cert, key: pairs[0].key}.write(t, certFile, keyFile)
	hup <- syscall.SIGHUP
	for before := requests.Load(); requests.Load() < before+20; {
		time.Sleep(time.Millisecond)
	}
	waitFor("after a wrong pair", 2)
	const refusal = "the new certificate is refused"
	hup <- syscall.SIGHUP // whoever asks again is told again
	for deadline := time.Now().Add(20 * time.Second); strings.Count(log.String(), refusal) < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("a second signal: the log has %s", log)
		}
	}
	pairs[2].write(t, certFile, keyFile)
	waitFor("without a signal", 3)
	if got := certificate.NotAfter(); !got.Equal(pairs[2].parsed.NotAfter) {
		t.Errorf("valid until %v", got)
	}
	stop.Store(true)
	load.Wait()
	cancel()
	serving.Wait()
	if strings.Count(log.String(), refusal) != 2 || bytes.Contains([]byte(log.String()), []byte("PRIVATE")) {
		t.Errorf("the log has %s", log)
	}
}

// TestListenTLSFamily: an address of IPv4 opens nothing to IPv6, where other rules of a
// firewall may hold.
func TestListenTLSFamily(t *testing.T) {
	certificate, _, _ := newCertificate(t, newPair(t, 1))
	listener, err := kmsserver.ListenTLS(t.Context(), "0.0.0.0:0", certificate)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if at := listener.Addr().(*net.TCPAddr); at.AddrPort().Addr().Unmap() != netip.IPv4Unspecified() {
		t.Errorf("it listens on %v", at)
	}
}

// TestTLSVersions: old versions and suites without forward secrecy find no server.
func TestTLSVersions(t *testing.T) {
	certificate, _, _ := newCertificate(t, newPair(t, 1))
	ctx, cancel := context.WithCancel(t.Context())
	listener, err := kmsserver.ListenTLS(ctx, "0.0.0.0:0", certificate) // any address
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- kmsserver.Serve(ctx, listener, http.NotFoundHandler(), nil) }()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	for name, c := range map[string]struct {
		config *tls.Config
		ok     bool
	}{
		"TLS 1.3":          {&tls.Config{MinVersion: tls.VersionTLS13}, true},
		"TLS 1.2":          {&tls.Config{MaxVersion: tls.VersionTLS12}, true},
		"TLS 1.1":          {&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
		"TLS 1.2 with RSA": {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}, false},
		"TLS 1.2 with CBC": {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}, false},
	} {
		c.config.InsecureSkipVerify = true // the certificate is not what this is about
		conn, err := tls.Dial("tcp", "127.0.0.1:"+port, c.config)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if conn != nil {
			conn.Close()
		}
	}
	if answer, err := http.Get("http://127.0.0.1:" + port); err == nil {
		if answer.StatusCode != http.StatusBadRequest {
			t.Errorf("plain HTTP: %s", answer.Status)
		}
		answer.Body.Close()
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
