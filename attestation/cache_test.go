// SPDX-License-Identifier: Apache-2.0

package attestation_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/cretula/cretula/attestation"
)

func TestCacheRemembersGenuineOnly(t *testing.T) {
	good, root := forge{}.make(t)
	v := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}})
	chain := func(ders [][]byte) forge {
		return forge{chain: func([][]byte) [][]byte { return ders }}
	}
	u, err := attestation.Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	ders := u.UnverifiedCertificates()
	badLeaf := bytes.Clone(ders[4])
	badLeaf[len(badLeaf)-1] ^= 1
	badCOSE := bytes.Clone(good)
	badCOSE[len(badCOSE)-1] ^= 1
	untrusted, _ := chain([][]byte{ders[0], ders[1], ders[2], ders[3], badLeaf}).make(t)
	foreign, _ := forge{certificate: editCertificate(0, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(5) })}.make(t)
	expired := forgeExpectation()
	expired.Time = forgeTime.Add(4 * time.Hour)
	for name, c := range map[string]struct {
		document []byte
		e        attestation.Expectation
	}{
		"bad leaf": {untrusted, forgeExpectation()}, "bad COSE": {badCOSE, forgeExpectation()}, "foreign root": {foreign, forgeExpectation()},
		"expired": {good, expired}, "cut": {good[:len(good)-1], forgeExpectation()},
	} {
		if _, err := v.Verify(c.document, c.e); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if n := v.Cached(); n != 0 {
			t.Errorf("%s: %d certificates remembered", name, n)
		}
	}
	// A genuine document that is only not the expected one is genuine.
	stale := forgeExpectation()
	stale.Nonce = []byte("other")
	if _, err := v.Verify(good, stale); err == nil || v.Cached() != 4 {
		t.Errorf("%d certificates remembered, %v", v.Cached(), err)
	}
	// What is remembered makes nothing else good.
	for name, document := range map[string][]byte{"bad leaf": untrusted, "bad COSE": badCOSE, "foreign root": foreign} {
		if _, err := v.Verify(document, forgeExpectation()); err == nil {
			t.Errorf("%s: accepted when warm", name)
		}
		if n := v.Cached(); n != 4 {
			t.Errorf("%s: %d certificates remembered", name, n)
		}
	}
}

// TestWarmResults: a warm verifier gives the same results as a cold one.
func TestWarmResults(t *testing.T) {
	for _, c := range append(chainCases, expectCases...) {
		document, root := c.f.make(t)
		cold, err := attestation.NewVerifier(attestation.VerifierOptions{Roots: []*x509.Certificate{root}})
		if err != nil {
			continue
		}
		e := forgeExpectation()
		if c.e != nil {
			c.e(&e)
		}
		first, second := cold.Report(document, e), cold.Report(document, e)
		if len(first.Problems) != len(second.Problems) || len(first.Problems) == 0 {
			t.Errorf("%s: first %v, then %v", c.name, first.Problems, second.Problems)
		}
	}
}

// TestCachedIsCheckedAgain: time, path length, usage and revocation are no matter
// of the cache.
func TestCachedIsCheckedAgain(t *testing.T) {
	document, root := forge{certificate: mayList}.make(t)
	v := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}})
	if _, err := v.Verify(document, forgeExpectation()); err != nil || v.Cached() != 4 {
		t.Fatalf("%d remembered, %v", v.Cached(), err)
	}
	later := forgeExpectation()
	later.Time, later.AllowAnyAge = forgeTime.Add(3*time.Hour+time.Second), true
	_, err := v.Verify(document, later)
	wantRules(t, "expired while remembered", err, "chain.validity")
	later.Time = forgeTime.Add(141 * time.Hour)
	_, err = v.Verify(document, later)
	wantRules(t, "zone expired while remembered", err, "chain.validity")
	if _, err := v.Verify(document, forgeExpectation()); err != nil {
		t.Errorf("good again: %v", err)
	}

	// The remembered zone, taken for an instance: five certificates, one CA too
	// many below the region. And the instance as a leaf.
	u, err := attestation.Parse(document)
	if err != nil {
		t.Fatal(err)
	}
	d := u.UnverifiedCertificates()
	for name, c := range map[string]struct {
		ders  [][]byte
		rules []string
	}{
		"one CA more":  {[][]byte{d[0], d[1], d[2], d[3], d[3], d[4]}, []string{"chain.ca.path-length", "chain.length", "chain.name", "chain.key-id"}},
		"no region":    {[][]byte{d[0], d[2], d[3], d[4]}, []string{"chain.length", "chain.name", "chain.key-id"}},
		"CA as a leaf": {[][]byte{d[0], d[1], d[2], d[3]}, []string{"chain.length", "chain.leaf.constraints", "chain.leaf.key-usage"}},
	} {
		other, _ := forge{certificate: mayList, chain: func([][]byte) [][]byte { return c.ders }}.make(t)
		_, err := v.Verify(other, forgeExpectation())
		wantRules(t, name, err, c.rules...)
	}

	// Revoked while remembered: lists are given with the verifier, so another
	// one is asked that has the list from the start, warm by a document of
	// another leaf.
	list := listing{issuer: 2, serials: []int64{1003}}.make(t, document)
	with := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}, Revocation: []*x509.RevocationList{list}})
	before := forgeExpectation()
	for range 2 {
		_, err = with.Verify(document, before)
		wantRules(t, "revoked", err, "chain.revoked")
	}
	if with.Cached() != 0 {
		t.Error("certificates of a revoked chain are remembered")
	}
}

// TestRevokedWhileCached: a list that expires and one that is not yet valid decide
// anew each time.
func TestRevokedWhileCached(t *testing.T) {
	document, root := forge{certificate: mayList}.make(t)
	list := listing{issuer: 2}.make(t, document)
	v := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}, Revocation: []*x509.RevocationList{list}})
	e := forgeExpectation()
	e.AllowAnyAge = true
	if _, err := v.Verify(document, e); err != nil || v.Cached() != 4 {
		t.Fatalf("%d remembered, %v", v.Cached(), err)
	}
	e.Time = forgeTime.Add(time.Hour + time.Minute)
	_, err := v.Verify(document, e)
	wantRules(t, "the list expired while all is remembered", err, "chain.crl")
	// One more verifier of the same cache contents, with the instance revoked.
	v.Revoke(t, listing{issuer: 2, serials: []int64{1003}}.make(t, document))
	_, err = v.Verify(document, forgeExpectation())
	wantRules(t, "revoked while remembered", err, "chain.revoked")
}

func TestCacheKey(t *testing.T) {
	// The twin of a certificate's signature is another certificate.
	document, root := forge{}.make(t)
	v := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}})
	for i := range 3 {
		if _, err := v.Verify(document, forgeExpectation()); err != nil || v.Cached() != 4 {
			t.Fatalf("%d: %d remembered, %v", i, v.Cached(), err)
		}
	}
	// The same certificates under another key of the same name.
	u, err := attestation.Parse(document)
	if err != nil {
		t.Fatal(err)
	}
	d := u.UnverifiedCertificates()
	stray := forge{key: func(i int) crypto.Signer {
		if i == 1 {
			return strayKey()
		}
		return nil
	}}
	other, _ := stray.make(t)
	o, err := attestation.Parse(other)
	if err != nil {
		t.Fatal(err)
	}
	mixed, _ := forge{chain: func([][]byte) [][]byte {
		return [][]byte{d[0], o.UnverifiedCertificates()[1], d[2], d[3], d[4]}
	}}.make(t)
	_, err = v.Verify(mixed, forgeExpectation())
	wantRules(t, "a remembered certificate under another key", err, "chain.key-id", "chain.signature")
}

func TestCacheIsBounded(t *testing.T) {
	document, root := forge{}.make(t)
	v := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}})
	for round := range 6 {
		if _, err := v.Verify(document, forgeExpectation()); err != nil {
			t.Fatal(err)
		}
		v.FloodCache(attestation.CacheGeneration-100, round*10000)
		if n := v.Cached(); n > 2*attestation.CacheGeneration {
			t.Fatalf("%d certificates remembered", n)
		}
		// What is used at least once in a generation stays.
		v.FloodCache(1, 500000)
	}
	if _, err := v.Verify(document, forgeExpectation()); err != nil {
		t.Error(err)
	}
}

func TestConcurrentCache(t *testing.T) {
	var documents [][]byte
	var root *x509.Certificate
	for range 4 {
		document, made := forge{certificate: editCertificate(0, func(c *x509.Certificate) {})}.make(t)
		if root == nil {
			root = made
		}
		documents = append(documents, document)
	}
	v := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}})
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for i := range 12 {
				_, err := v.Verify(documents[(i+worker)%4], forgeExpectation())
				if ours := (i+worker)%4 == 0; ours != (err == nil) {
					t.Errorf("document %d: %v", (i+worker)%4, err)
				}
				v.FloodCache(300, i*1000+worker*100000)
			}
		})
	}
	group.Wait()
}

func TestVerifyBatch(t *testing.T) {
	document, v := issued(t)
	documents := [][]byte{document, document[:100], document, nil, append(document[:len(document):len(document)], 0), document}
	results := v.VerifyBatch(documents, forgeExpectation())
	if len(results) != len(documents) {
		t.Fatalf("%d results", len(results))
	}
	for i, r := range results {
		_, err := v.Verify(documents[i], forgeExpectation())
		if (r.Err == nil) != (err == nil) || (r.Document == nil) != (err != nil) || err != nil && r.Err.Error() != err.Error() {
			t.Errorf("%d: %v, one by one %v", i, r.Err, err)
		}
	}
	if results := v.VerifyBatch(nil, forgeExpectation()); len(results) != 0 {
		t.Error("results of nothing")
	}
}
