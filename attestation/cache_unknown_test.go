// SPDX-License-Identifier: Apache-2.0

package attestation_test

import (
	"bytes"
	"crypto/x509"
	"testing"

	"github.com/cretula/cretula/attestation"
)

// TestUnknownCertificates: what Verify would have to check is foretold, for a
// document that it would check at all, and asking changes nothing.
func TestUnknownCertificates(t *testing.T) {
	document, root := forge{}.make(t)
	v := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}})
	want := func(name string, document []byte, n int) {
		t.Helper()
		before := v.CacheStats()
		if got := v.UnknownCertificates(document); got != n {
			t.Errorf("%s: %d unknown, want %d", name, got, n)
		}
		if after := v.CacheStats(); after != before {
			t.Errorf("%s: asking has changed %+v to %+v", name, before, after)
		}
	}
	foreign, _ := forge{certificate: editCertificate(0, func(*x509.Certificate) {})}.make(t)
	u, err := attestation.Parse(document)
	if err != nil {
		t.Fatal(err)
	}
	d := u.UnverifiedCertificates()
	leaf := bytes.Clone(d[4])
	leaf[len(leaf)-1] ^= 1
	otherLeaf, _ := forge{chain: func([][]byte) [][]byte { return [][]byte{d[0], d[1], d[2], d[3], leaf} }}.make(t)
	short, _ := forge{chain: func([][]byte) [][]byte { return d[1:] }}.make(t)

	want("new", document, 4)
	want("nothing", nil, 0)
	want("cut", document[:len(document)-1], 0)
	want("short chain", short, 0)
	want("other root", foreign, 0)
	if _, err := v.Verify(document, forgeExpectation()); err != nil {
		t.Fatal(err)
	}
	want("known", document, 0)
	want("other leaf", otherLeaf, 1)
	if s := v.CacheStats(); s.Entries != 4 || s.Misses == 0 || s.Hits != 0 {
		t.Errorf("%+v", s)
	}
	if _, err := v.Verify(document, forgeExpectation()); err != nil {
		t.Fatal(err)
	}
	if s := v.CacheStats(); s.Hits != 4 {
		t.Errorf("%+v", s)
	}
}
