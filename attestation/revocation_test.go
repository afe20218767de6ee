// SPDX-License-Identifier: Apache-2.0

package attestation_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/cretula/cretula/attestation"
)

// mayList lets the three upper CAs sign revocation lists, as AWS's may.
func mayList(i int, c *x509.Certificate) {
	if i < 3 {
		c.KeyUsage |= x509.KeyUsageCRLSign
	}
}

// A listing makes a revocation list of certificate issuer of a forged chain,
// signed by key, over the serials given.
type listing struct {
	issuer  int
	serials []int64
	// edit changes the template, key replaces the signer if it is not 0.
	edit func(*x509.RevocationList)
	key  int
}

func (l listing) make(t testing.TB, document []byte) *x509.RevocationList {
	t.Helper()
	u, err := attestation.ParseLenient(document)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := x509.ParseCertificate(u.UnverifiedCertificates()[l.issuer])
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: forgeTime.Add(-time.Hour), NextUpdate: forgeTime.Add(time.Hour)}
	for _, serial := range l.serials {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: big.NewInt(serial), RevocationTime: forgeTime.Add(-time.Hour), ReasonCode: 1})
	}
	if l.edit != nil {
		l.edit(template)
	}
	key := forgeKeys()[l.issuer]
	if l.key != 0 {
		key = forgeKeys()[l.key]
		issuer.PublicKey = &key.PublicKey
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, issuer, key)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func (l listing) lists(t testing.TB, document []byte) []*x509.RevocationList {
	return []*x509.RevocationList{l.make(t, document)}
}

func revocationCase(name string, l listing, rules string) ruleCase {
	return ruleCase{name: name, f: forge{certificate: mayList}, rules: rules, lists: l.lists}
}

func criticalEntry(c *x509.RevocationList) {
	c.RevokedCertificateEntries = []x509.RevocationListEntry{{
		SerialNumber: big.NewInt(77), RevocationTime: forgeTime,
		ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}},
	}}
}

var revocationCases = []ruleCase{
	revocationCase("region revoked", listing{issuer: 0, serials: []int64{7, 1001}}, "chain.revoked"),
	revocationCase("zone revoked", listing{issuer: 1, serials: []int64{1002}}, "chain.revoked"),
	revocationCase("instance revoked", listing{issuer: 2, serials: []int64{1003}}, "chain.revoked"),
	revocationCase("revoked by an expired list", listing{issuer: 1, serials: []int64{1002}, edit: func(l *x509.RevocationList) { l.NextUpdate = forgeTime.Add(-time.Minute) }}, "chain.revoked"),
	revocationCase("expired list", listing{issuer: 1, edit: func(l *x509.RevocationList) { l.NextUpdate = forgeTime.Add(-time.Minute) }}, "chain.crl"),
	revocationCase("list of tomorrow", listing{issuer: 1, edit: func(l *x509.RevocationList) {
		l.ThisUpdate, l.NextUpdate = forgeTime.Add(time.Hour), forgeTime.Add(2*time.Hour)
	}}, "chain.crl"),
	revocationCase("list of a stranger", listing{issuer: 1, serials: []int64{1002}, key: 5}, "chain.crl"),
	revocationCase("list of another CA in this one's name", listing{issuer: 1, key: 2}, "chain.crl"),
	revocationCase("list with a critical extension", listing{issuer: 1, edit: func(l *x509.RevocationList) {
		l.ExtraExtensions = []pkix.Extension{{Id: []int{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0}}}
	}}, "chain.crl"),
	revocationCase("entry with a critical extension", listing{issuer: 1, edit: criticalEntry}, "chain.crl"),
	revocationCase("list signed with SHA-256", listing{issuer: 1, edit: func(l *x509.RevocationList) { l.SignatureAlgorithm = x509.ECDSAWithSHA256 }}, "chain.crl"),
	{name: "issuer may not sign lists", f: forge{}, rules: "chain.crl", lists: func(t testing.TB, document []byte) []*x509.RevocationList {
		// The same names and keys, but with the usage.
		other, _ := forge{certificate: mayList}.make(t)
		return listing{issuer: 1}.lists(t, other)
	}},
}

func TestRevocation(t *testing.T) {
	document, root := forge{certificate: mayList}.make(t)
	for name, c := range map[string]struct {
		lists   []listing
		checked int
	}{
		"none":                       {nil, 0},
		"all":                        {[]listing{{issuer: 0}, {issuer: 1}, {issuer: 2}}, 3},
		"one":                        {[]listing{{issuer: 1, serials: []int64{1, 1000, 1001, 1003, 1004}}}, 1},
		"an expired one and another": {[]listing{{issuer: 0, edit: func(l *x509.RevocationList) { l.NextUpdate = forgeTime.Add(-1) }}, {issuer: 0}}, 1},
	} {
		o := attestation.VerifierOptions{Roots: []*x509.Certificate{root}}
		for _, l := range c.lists {
			o.Revocation = append(o.Revocation, l.make(t, document))
		}
		v := newVerifier(t, o)
		for range 2 { // cold and warm
			d, err := v.Verify(document, forgeExpectation())
			if err != nil || d.RevocationChecked != c.checked {
				t.Errorf("%s: %+v, %v", name, d, err)
			}
			verdict := v.Report(document, forgeExpectation())
			good := 0
			for i, cert := range verdict.Chain {
				if cert.Revocation == "good" {
					good++
				} else if cert.Revocation != "unchecked" || i == 0 && cert.Revocation != "unchecked" {
					t.Errorf("%s: certificate %d is %q", name, i, cert.Revocation)
				}
			}
			if good != c.checked || verdict.RevocationChecked != c.checked {
				t.Errorf("%s: %d good, %d checked, want %d", name, good, verdict.RevocationChecked, c.checked)
			}
		}
	}
	if _, err := attestation.NewVerifier(attestation.VerifierOptions{Revocation: []*x509.RevocationList{nil}}); err == nil {
		t.Error("a nil list is taken")
	}
}

func TestParseCRLs(t *testing.T) {
	document, _ := forge{certificate: mayList}.make(t)
	one, two := listing{issuer: 0}.make(t, document), listing{issuer: 1}.make(t, document)
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	for name, c := range map[string]struct {
		file string
		n    int
	}{
		"DER":             {string(one.Raw), 1},
		"PEM":             {block("X509 CRL", one.Raw), 1},
		"two":             {"text\n" + block("X509 CRL", one.Raw) + block("CERTIFICATE", []byte{1}) + block("X509 CRL", two.Raw), 2},
		"empty":           {"", -1},
		"text":            {"no list", -1},
		"cut":             {string(one.Raw[:50]), -1},
		"more":            {string(one.Raw) + "x", -1},
		"no list":         {block("CERTIFICATE", one.Raw), -1},
		"broken PEM":      {block("X509 CRL", one.Raw[1:]), -1},
		"good and broken": {block("X509 CRL", one.Raw) + block("X509 CRL", nil), -1},
	} {
		lists, err := attestation.ParseCRLs([]byte(c.file))
		if c.n < 0 {
			if lists != nil {
				t.Errorf("%s: read", name)
			}
			wantRules(t, name, err, "chain.crl.form")
		} else if err != nil || len(lists) != c.n {
			t.Errorf("%s: %d lists, %v", name, len(lists), err)
		}
	}
}

func FuzzParseCRLs(f *testing.F) {
	document, _ := forge{certificate: mayList}.make(f)
	list := listing{issuer: 1, serials: []int64{1, 2}}.make(f, document)
	f.Add(list.Raw)
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list.Raw}))
	u, err := attestation.Parse(document)
	if err != nil {
		f.Fatal(err)
	}
	root, err := x509.ParseCertificate(u.UnverifiedCertificates()[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		lists, err := attestation.ParseCRLs(data)
		if (lists == nil) == (err == nil) {
			t.Fatalf("%v with %v", lists, err)
		}
		// A list that the fuzzer made is signed by no one.
		if d, err := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}, Revocation: lists}).Verify(document, forgeExpectation()); err == nil && d.RevocationChecked > len(lists) {
			t.Fatal(fmt.Sprint(d))
		}
	})
}
