// SPDX-License-Identifier: Apache-2.0

package pcr

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"testing"
	"time"
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
