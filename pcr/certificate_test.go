// SPDX-License-Identifier: Apache-2.0

package pcr

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/need"
)

func selfSigned(t *testing.T, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestFirstCertificateCounts(t *testing.T) {
	first, second := selfSigned(t, "first"), selfSigned(t, "second")
	file := append([]byte("some text\n"), pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{1}})...)
	file = append(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: first})...)
	file = append(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: second})...)
	got, err := CertificatePEM(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := Measured(Sum(first)); got != want {
		t.Errorf("PCR8 = %v, want %v", got, want)
	}
}

func TestRefusedCertificates(t *testing.T) {
	if _, err := CertificatePEM([]byte("no certificate")); err == nil {
		t.Error("text was measured")
	}
	broken := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 0}})
	if d, err := CertificatePEM(broken); err == nil || !d.IsZero() {
		t.Errorf("a broken certificate was measured: %v", d)
	}
	if _, err := Certificate(append(selfSigned(t, "x"), 0)); err == nil {
		t.Error("a certificate with a byte behind it was measured")
	}
}

// TestAmbiguousCertificateFiles: where OpenSSL, with which AWS's tools look for the
// certificate, finds another one than the first block that begins in a line of its
// own, no certificate is told.
func TestAmbiguousCertificateFiles(t *testing.T) {
	openssl := need.Program(t, "openssl")
	block := func(kind, name string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: selfSigned(t, name)}))
	}
	other, certificate := block("CERTIFICATE", "other"), block("CERTIFICATE", "first")
	damaged := strings.Replace(other, "\n", "\n!", 1)
	parameters := block("EC PARAMETERS", "x")
	for _, c := range []struct {
		name, file string
		accepted   bool
	}{
		{"alone", certificate, true},
		{"another behind", certificate + other, true},
		{"text before", "some text\n" + certificate + other, true},
		{"lines of DOS", strings.ReplaceAll(certificate+other, "\n", "\r\n"), true},
		{"another block before", parameters + certificate, true},
		{"text behind, within a line", certificate + "see " + other, true},
		{"byte order mark", "\ufeff" + other + certificate, false},
		{"byte order mark alone", "\ufeff" + certificate, false},
		{"after 254 bytes of a line", strings.Repeat("x", 254) + other + certificate, false},
		{"after 508 bytes of a line", strings.Repeat("x", 508) + other + certificate, false},
		{"within a line", "see " + other + certificate, false},
		{"after a carriage return", "text\r" + other + certificate, false},
		{"after a blank", " " + other + certificate, false},
		{"X509 CERTIFICATE", block("X509 CERTIFICATE", "other") + certificate, false},
		{"TRUSTED CERTIFICATE", block("TRUSTED CERTIFICATE", "other") + certificate, false},
		{"a NUL in the type", strings.Replace(other, "CERTIFICATE", "CERTIFICATE\x00", 1) + certificate, false},
		{"damaged", damaged + certificate, false},
		{"damaged block of another kind", strings.Replace(parameters, "\n", "\n!", 1) + certificate, false},
		{"inside another block", strings.Replace(parameters, "\n", "\n"+other, 1) + certificate, false},
		{"no end", "-----BEGIN CERTIFICATE-----\n" + certificate, false},
		{"headers", strings.Replace(other, "\n", "\nProc-Type: 4,CLEAR\n\n", 1) + certificate, false},
		{"nothing", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cert, err := SigningCertificate([]byte(c.file))
			if (err == nil) != c.accepted {
				t.Fatalf("%v, want accepted %v", err, c.accepted)
			}
			if d, err := CertificatePEM([]byte(c.file)); (err == nil) != c.accepted || d.IsZero() == c.accepted {
				t.Errorf("CertificatePEM: %v, %v", d, err)
			}
			if err != nil {
				return
			}
			cmd := exec.Command(openssl, "x509", "-outform", "DER")
			cmd.Stdin = strings.NewReader(c.file)
			if der, err := cmd.Output(); err != nil || !bytes.Equal(der, cert.Raw) {
				t.Errorf("OpenSSL takes another certificate than %s: %v", cert.Subject, err)
			}
		})
	}
}

func TestCertificatesOfSigningFiles(t *testing.T) {
	const dir = "../../shared/testdata/eif/"
	data, err := os.ReadFile(dir + "manifest.json")
	if err != nil {
		t.Skip("shared test data not present")
	}
	var manifest struct {
		Certificates []struct{ File, PCR8 string }
	}
	if err := json.Unmarshal(data, &manifest); err != nil {
		t.Fatal(err)
	}
	if len(manifest.Certificates) == 0 {
		t.Fatal("no certificates in the manifest")
	}
	for _, c := range manifest.Certificates {
		file, err := os.ReadFile(dir + c.File)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := CertificatePEM(file); err != nil || got.String() != c.PCR8 {
			t.Errorf("%s: PCR8 = %v, %v; want %s", c.File, got, err, c.PCR8)
		}
	}
}
