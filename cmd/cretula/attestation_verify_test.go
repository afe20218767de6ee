// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/pcr"
)

// A documentFolder has a document of an emulator, doc, also as lenient, and its
// root, root.pem.
type documentFolder struct {
	dir   string
	root  *x509.Certificate
	key   crypto.Signer
	chain []*x509.Certificate
	now   time.Time
}

func newDocumentFolder(t *testing.T) *documentFolder {
	t.Helper()
	d := &documentFolder{dir: t.TempDir(), now: time.Now()}
	authority, err := issuer.New(issuer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d.root = authority.Root()
	secret, err := authority.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	for block, rest := pem.Decode(secret); block != nil; block, rest = pem.Decode(rest) {
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			d.key = key.(crypto.Signer)
		} else if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
			d.key = key
		}
	}
	var set pcr.Set
	set.Put(0, pcr.Sum([]byte{0}))
	set.Put(1, pcr.Sum([]byte{1}))
	set.Put(2, pcr.Sum([]byte{2}))
	document, err := authority.Issue(issuer.Content{ModuleID: "i-0123456789abcdef0-enc0199aabbccddeeff", PCRs: set, Nonce: []byte("nonce")})
	if err != nil {
		t.Fatal(err)
	}
	d.write(t, "doc", document)
	d.write(t, "tagged", append([]byte{0xd2}, document...))
	d.write(t, "wide", append([]byte{0x98, 4}, document[1:]...))
	d.write(t, "root.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.root.Raw}))
	u, err := attestation.Parse(document)
	if err != nil {
		t.Fatal(err)
	}
	for _, der := range u.UnverifiedCertificates() {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		d.chain = append(d.chain, cert)
	}
	return d
}

func (d *documentFolder) write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// verify runs the command on a file of the folder.
func (d *documentFolder) verify(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errors bytes.Buffer
	env := &cli.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errors, Getenv: func(string) string { return "" }, Now: func() time.Time { return d.now }}
	args = append([]string{"attestation", "verify", "--any-image", "--root", filepath.Join(d.dir, "root.pem")}, args...)
	for i, arg := range args {
		if rest, found := strings.CutPrefix(arg, "%"); found {
			args[i] = filepath.Join(d.dir, rest)
		}
	}
	status = run(args, env)
	return status, out.String(), errors.String()
}

func (d *documentFolder) list(t *testing.T, serials ...*big.Int) []byte {
	t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: d.now.Add(-time.Hour), NextUpdate: d.now.Add(time.Hour)}
	for _, serial := range serials {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: d.now})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, d.root, d.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestVerifyRevocation(t *testing.T) {
	d := newDocumentFolder(t)
	d.write(t, "good.crl", d.list(t, big.NewInt(1)))
	d.write(t, "revoked.pem", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: d.list(t, d.chain[1].SerialNumber)}))
	for _, c := range []struct {
		args   []string
		status int
		wanted string
	}{
		{[]string{"%doc", "--crl", "%good.crl"}, 0, "crl       1 of 4 certificates below the root checked, none revoked\n"},
		{[]string{"%doc", "--crl", "%good.crl", "--json"}, 0, `"revocation_checked": 1,`},
		{[]string{"%doc", "--json"}, 0, `"revocation_checked": 0,`},
		{[]string{"%doc", "--crl", "%good.crl", "--crl", "%revoked.pem"}, 4, "chain.revoked  the region certificate was revoked by its issuer"},
		{[]string{"%doc", "--crl", "%revoked.pem", "--json"}, 4, `"revocation": "revoked"`},
		{[]string{"%doc", "--crl", "%root.pem"}, 3, ""},
		{[]string{"%doc", "--crl", "%absent"}, 1, ""},
	} {
		status, out, errors := d.verify(t, c.args...)
		if status != c.status || !strings.Contains(out, c.wanted) || (errors == "") != (c.wanted != "") {
			t.Errorf("%v: status %d, want %d with %q\n%s%s", c.args, status, c.status, c.wanted, out, errors)
		}
	}
}

func TestVerifyLevels(t *testing.T) {
	d := newDocumentFolder(t)
	for _, c := range []struct {
		args   []string
		status int
		wanted string
	}{
		{[]string{"%wide"}, 3, "doc.cbor.minimal  a number is written in 1 bytes where fewer would do, at byte 0  malformed\n"},
		{[]string{"%wide", "--level", "lenient"}, 0, "level     lenient\n"},
		{[]string{"%wide", "--level", "lenient"}, 0, "note      a number is written in 1 bytes where fewer would do, at byte 0 (doc.cbor.minimal)\n"},
		{[]string{"%wide", "--level", "lenient", "--json"}, 0, `"level": "lenient"`},
		{[]string{"%tagged"}, 0, "note      the COSE array has tag 18, at byte 0 (info.tag)\n"},
		{[]string{"%tagged", "--json"}, 0, `"rule": "info.tag"`},
		{[]string{"%doc", "--max-field", "4"}, 3, "doc.nonce  nonce has 5 bytes, not 0 to 4, at byte "},
		{[]string{"%doc", "--max-field", "5", "--p384", "std"}, 0, "verified"},
		{[]string{"%doc", "--p384", "fastest", "--json"}, 0, `"information": []`},
		{[]string{"%doc", "--p384", "slow"}, 2, ""},
		{[]string{"%doc", "--level", "none"}, 2, ""},
		{[]string{"%doc", "--max-field", "0"}, 2, ""},
		{[]string{"%doc", "--max-field", "4097"}, 2, ""},
	} {
		status, out, errors := d.verify(t, c.args...)
		if status != c.status || !strings.Contains(out, c.wanted) || (errors == "") != (c.wanted != "") {
			t.Errorf("%v: status %d, want %d with %q\n%s%s", c.args, status, c.status, c.wanted, out, errors)
		}
		if strings.HasPrefix(out, "{") && !json.Valid([]byte(out)) {
			t.Errorf("%v: %s", c.args, out)
		}
	}
}
