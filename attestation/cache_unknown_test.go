// SPDX-License-Identifier: Apache-2.0

package attestation_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/cretula/cretula/attestation"
)

// TestVerifyLimited: what would have to be checked is told, for a document that is
// checked at all, and a refusal ends it before anything is remembered.
func TestVerifyLimited(t *testing.T) {
	document, root := forge{}.make(t)
	v := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}})
	refusal := errors.New("no more")
	want := func(name string, document []byte, n int) {
		t.Helper()
		before, asked := v.CacheStats().Entries, 0
		d := attestation.Document{ModuleID: "untouched"}
		err := v.VerifyLimited(&d, document, forgeExpectation(), func(n int) error {
			asked += n // once
			return refusal
		})
		if asked != n || (n > 0) != (err == refusal) {
			t.Errorf("%s: %d unknown, want %d; %v", name, asked, n, err)
		}
		if (err == nil) == (d.ModuleID == "untouched") {
			t.Errorf("%s: %v, and the result is of %q", name, err, d.ModuleID)
		}
		if after := v.CacheStats().Entries; after != before {
			t.Errorf("%s: %d certificates remembered, then %d", name, before, after)
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
	if err := v.VerifyLimited(new(attestation.Document), otherLeaf, forgeExpectation(), func(int) error { return nil }); err == nil {
		t.Error("a leaf that is not signed is good because it may be checked")
	}
	before := v.CacheStats()
	if _, err := v.Verify(document, forgeExpectation()); err != nil {
		t.Fatal(err)
	}
	if s := v.CacheStats(); s.Entries != 4 || s.Hits != before.Hits+4 || s.Misses != before.Misses || s.Misses == 0 {
		t.Errorf("%+v", s)
	}
}
