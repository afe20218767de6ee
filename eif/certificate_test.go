// SPDX-License-Identifier: Apache-2.0

package eif

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

func TestLintManifest(t *testing.T) {
	var m struct {
		ValidityClock time.Time `json:"validity_clock"`
		Certificates  []struct {
			File         string
			Certificates int
			Curve        string
			NotBefore    time.Time `json:"not_before"`
			NotAfter     time.Time `json:"not_after"`
			PCR8         pcr.Digest
		}
	}
	loadJSON(t, "manifest.json", &m)
	if len(m.Certificates) < 5 {
		t.Fatalf("%d certificates", len(m.Certificates))
	}
	for _, c := range m.Certificates {
		l, err := LintCertificate(sharedFile(t, c.File), m.ValidityClock)
		if err != nil {
			t.Fatalf("%s: %v", c.File, err)
		}
		if l.Curve != c.Curve || l.InFile != c.Certificates || l.PCR8 != c.PCR8 ||
			!l.Certificate.NotBefore.Equal(c.NotBefore) || !l.Certificate.NotAfter.Equal(c.NotAfter) {
			t.Errorf("%s: %+v", c.File, l)
		}
		expired := m.ValidityClock.After(c.NotAfter)
		if (l.Err() != nil) != expired || (l.DaysLeft < 0) != expired {
			t.Errorf("%s: %v, %d days left", c.File, l.Err(), l.DaysLeft)
		}
		if want := strings.Contains(c.File, "chain"); l.SelfSigned == want || (l.InFile > 1) != want {
			t.Errorf("%s: self-signed %v, %d in file", c.File, l.SelfSigned, l.InFile)
		}
	}
}

// certificateFor makes a certificate for a public key.
func certificateFor(t testing.TB, public any, signedBy any, change func(*x509.Certificate)) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: "x"},
		NotBefore: signatureClock.AddDate(-1, 0, 0), NotAfter: signatureClock.AddDate(0, 0, 100),
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, signedBy)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestLintCertificate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := certificateFor(t, &key.PublicKey, key, nil)
	end := signatureClock.AddDate(0, 0, 100)
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}})
	for _, c := range []struct {
		name  string
		file  []byte
		at    time.Time
		days  int
		rules []string
		notes []string
	}{
		{"good", good, signatureClock, 100, nil, []string{"self-signed"}},
		{"text before", append([]byte("Subject: x\n"), good...), signatureClock, 100, nil, []string{"text before", "self-signed"}},
		{"blank lines before", append([]byte("\n\n"), good...), signatureClock, 100, nil, []string{"self-signed"}},
		{"chain", slices.Concat(good, good), signatureClock, 100, nil, []string{"2 certificates", "self-signed"}},
		{"30 days left", good, end.AddDate(0, 0, -30), 30, nil, []string{"self-signed"}},
		{"29 days left", good, end.AddDate(0, 0, -30).Add(time.Second), 29, nil, []string{"expires in 29 days", "self-signed"}},
		{"last second", good, end, 0, nil, []string{"expires in 0 days", "self-signed"}},
		{"a moment too late", good, end.Add(1), -1, []string{"eif.signature.validity"}, []string{"self-signed"}},
		{"too early", good, signatureClock.AddDate(-2, 0, 0), 830, []string{"eif.signature.validity"}, []string{"self-signed"}},
		{"CA", certificateFor(t, &key.PublicKey, key, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), signatureClock, 100, nil,
			[]string{"self-signed", "CA:TRUE"}},
		{"P-224", certificateFor(t, &p224.PublicKey, p224, nil), signatureClock, 100, []string{"eif.signature.key"}, []string{"self-signed"}},
		{"RSA", certificateFor(t, &rsaKey.PublicKey, rsaKey, nil), signatureClock, 100, []string{"eif.signature.key"}, []string{"self-signed"}},
		{"signed by RSA", certificateFor(t, &key.PublicKey, rsaKey, nil), signatureClock, 100, nil, nil},
		{"all of it", slices.Concat(private, certificateFor(t, &rsaKey.PublicKey, key, nil)), end.Add(1), -1,
			[]string{"eif.certificate.private-key", "eif.signature.validity", "eif.signature.key"}, nil},
		{"another block first", slices.Concat(pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{1}}), good), signatureClock, 100,
			[]string{"eif.certificate.first"}, []string{"self-signed"}},
	} {
		l, err := LintCertificate(c.file, c.at)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var rules []string
		for _, p := range l.Problems {
			rules = append(rules, p.Rule)
		}
		if !slices.Equal(rules, c.rules) || l.DaysLeft != c.days || (l.Err() != nil) != (c.rules != nil) {
			t.Errorf("%s: %v, %d days left, want %v, %d", c.name, rules, l.DaysLeft, c.rules, c.days)
		}
		if len(l.Notes) != len(c.notes) {
			t.Errorf("%s: notes %q, want %q", c.name, l.Notes, c.notes)
			continue
		}
		for i, n := range c.notes {
			if !strings.Contains(l.Notes[i], n) {
				t.Errorf("%s: note %q, want %q", c.name, l.Notes[i], n)
			}
		}
	}
	for name, file := range map[string][]byte{
		"nothing": nil, "text": []byte("x"), "DER": decoded(good), "a key": private,
		"a certificate of a byte": bytes.Replace(good, decodedText(good), []byte("MA==\n"), 1),
	} {
		l, err := LintCertificate(file, signatureClock)
		if l != nil {
			t.Errorf("%s: %+v", name, l)
		}
		wantRule(t, name, err, reason.Malformed, "eif.certificate.form")
	}
}

// decodedText is the text between the lines of a PEM block.
func decodedText(file []byte) []byte {
	_, rest, _ := bytes.Cut(file, []byte("-----\n"))
	text, _, _ := bytes.Cut(rest, []byte("-----END"))
	return text
}
