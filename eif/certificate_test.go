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
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/need"
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
		{"29 days left", good, end.AddDate(0, 0, -30).Add(time.Second), 29, nil, []string{"expires at 20", "self-signed"}},
		{"last second", good, end, 0, nil, []string{"expires at 20", "self-signed"}},
		{"a moment too late", good, end.Add(1), -1, []string{"eif.signature.validity"}, []string{"self-signed"}},
		{"for ever", certificateFor(t, &key.PublicKey, key, func(c *x509.Certificate) {
			c.NotAfter = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
		}), time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), 2921939, []string{"eif.signature.validity"}, []string{"self-signed"}},
		{"long ago", good, time.Date(9999, 12, 31, 23, 59, 59, 1, time.UTC), -2911978, []string{"eif.signature.validity"}, []string{"self-signed"}},
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

// TestOpenSSLCertificate: of every file that is accepted, OpenSSL reads the same
// certificate, by which AWS's tools compute PCR8.
func TestOpenSSLCertificate(t *testing.T) {
	openssl := need.Program(t, "openssl")
	one, two := newSigner(t, elliptic.P384()).pem, newSigner(t, elliptic.P256()).pem
	other := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 1, 1}})
	edit := func(old, by string) []byte { return bytes.ReplaceAll(one, []byte(old), []byte(by)) }
	oneLine := append([]byte("-----BEGIN CERTIFICATE-----\n"), bytes.ReplaceAll(decodedText(one), []byte("\n"), nil)...)
	cut := bytes.LastIndex(one, []byte("-----END"))
	accepted := 0
	for name, file := range map[string][]byte{
		"plain": one, "chain": slices.Concat(one, two), "text before": append([]byte("Certificate:\n    Data:\n"), one...),
		"text behind": append(slices.Clone(one), "more\n"...), "blank lines": append([]byte("\n\n"), one...), "CR LF": edit("\n", "\r\n"),
		"no last newline": one[:len(one)-1], "one long line": append(oneLine, "\n-----END CERTIFICATE-----\n"...),
		"blanks at line ends": edit("\n", "  \n"), "indented": edit("\n", "\n "), "tabs": edit("\n", "\t\n"),
		"blank line inside": bytes.Replace(one, []byte("-----\n"), []byte("-----\n\n"), 1), "byte order mark": append([]byte("\xef\xbb\xbf"), one...),
		"X509": edit("CERTIFICATE", "X509 CERTIFICATE"), "TRUSTED": edit("CERTIFICATE", "TRUSTED CERTIFICATE"),
		"X509 first":        slices.Concat(bytes.ReplaceAll(two, []byte("CERTIFICATE"), []byte("X509 CERTIFICATE")), one),
		"X509 second":       slices.Concat(one, bytes.ReplaceAll(two, []byte("CERTIFICATE"), []byte("X509 CERTIFICATE"))),
		"other block first": slices.Concat(other, one), "damaged first": slices.Concat(bytes.Replace(two, []byte("\nM"), []byte("\n!"), 1), one),
		"no end first": slices.Concat(two[:cut/2], one), "no end": one[:cut], "wrong end": bytes.Replace(one, []byte("END CERT"), []byte("END KERT"), 1),
		"begin in a line": append([]byte("x "), slices.Concat(two, one)...), "header": bytes.Replace(one, []byte("-----\n"), []byte("-----\nA: b\n\n"), 1),
		"DER and more": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: append(decoded(one), 0)}), "comment": append([]byte("-----\n# -----BEGIN\n"), one...),
		"CR only": edit("\n", "\r"), "NUL before": append([]byte("\x00\n"), one...), "base64 padding": edit("=", ""),
	} {
		r, err := ToBeSigned(file, pcr.Digest{})
		if err != nil {
			continue
		}
		accepted++
		cmd := exec.Command(openssl, "x509", "-outform", "DER")
		cmd.Stdin = bytes.NewReader(file)
		if der, err := cmd.Output(); err != nil || !bytes.Equal(der, r.Certificate.Raw) {
			t.Errorf("%s: OpenSSL reads another certificate: %v", name, err)
		}
	}
	if accepted < 8 {
		t.Errorf("only %d files are accepted", accepted)
	}
}

// TestHugeCertificateKey: looking at a certificate takes no minutes, whatever key is
// in it.
func TestHugeCertificateKey(t *testing.T) {
	modulus := new(big.Int).Lsh(big.NewInt(1), 3_000_000)
	huge := &rsa.PublicKey{N: modulus.Add(modulus, big.NewInt(1)), E: 1<<31 - 1}
	c := &x509.Certificate{PublicKey: huge, SignatureAlgorithm: x509.SHA256WithRSA, Signature: make([]byte, huge.Size())}
	if selfSigned(c) {
		t.Error("signed by a key that made no signature")
	}
}
