// SPDX-License-Identifier: Apache-2.0

package attestation_test

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/cretula/cretula/attestation"
)

// TestResultsStay: results are what they were when their document is overwritten and
// others were verified, in memory that is used again.
func TestResultsStay(t *testing.T) {
	document, v := issued(t)
	refused := bytes.Clone(document)
	refused[len(refused)-1] ^= 1
	lenient := forgeExpectation()
	lenient.AllowLenient, lenient.Nonce = true, []byte("other")
	all := func(document []byte) string {
		d, err := v.Verify(document, forgeExpectation())
		if err != nil {
			t.Error(err)
			return ""
		}
		_, other := v.Verify(document, lenient)
		verdict := v.Report(document, lenient)
		_, bad := v.Verify(refused, forgeExpectation())
		u, err := attestation.Parse(document)
		if err != nil {
			t.Error(err)
			return ""
		}
		text := func() string {
			chain := ""
			for _, cert := range d.Chain {
				chain += fmt.Sprintf("%x ", cert.Raw)
			}
			return fmt.Sprintf("%q %q %v %q %q %q %s %v %s %s %v %v %v %v %x", d.ModuleID, d.Digest, d.PCRs, d.PublicKey, d.UserData, d.Nonce,
				chain, d.Information, other, bad, *verdict.PCRs, *verdict.ModuleID, verdict.Problems, verdict.Timestamp, u.UnverifiedCertificates())
		}
		before := text()
		clear(document)
		for range 3 {
			v.Report(refused, lenient)
			v.Report(refused[:200], forgeExpectation())
			v.Report(nil, forgeExpectation())
		}
		if after := text(); after != before {
			t.Errorf("the results were\n%s\nand are\n%s", before, after)
		}
		return before
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 3 {
				all(bytes.Clone(document))
			}
		})
	}
	group.Wait()
	if first := all(bytes.Clone(document)); first != all(bytes.Clone(document)) {
		t.Error("the same document has two results")
	}
}

// TestNothingIsLeftOver: what was found of one document says nothing of the next.
func TestNothingIsLeftOver(t *testing.T) {
	good, v := issued(t)
	foreign, _ := forge{}.make(t)
	late := forgeExpectation()
	late.Time = forgeTime.Add(4 * time.Hour)
	for range 3 {
		for _, c := range []struct {
			document []byte
			e        attestation.Expectation
		}{{foreign, forgeExpectation()}, {good, late}, {good[:len(good)/2], forgeExpectation()}, {nil, forgeExpectation()}, {append(bytes.Clone(good), 0), forgeExpectation()}} {
			first := v.Report(c.document, c.e)
			if _, err := v.Verify(good, forgeExpectation()); err != nil {
				t.Fatal(err)
			}
			if again := v.Report(c.document, c.e); again.Verified() || !reflect.DeepEqual(again, first) {
				t.Errorf("first %+v, then %+v", first, again)
			}
		}
	}
}

// TestCacheCompares: a certificate is not taken for another one that has the same
// hash.
func TestCacheCompares(t *testing.T) {
	document, root := forge{}.make(t)
	v := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}})
	if _, err := v.Verify(document, forgeExpectation()); err != nil {
		t.Fatal(err)
	}
	u, err := attestation.Parse(document)
	if err != nil {
		t.Fatal(err)
	}
	d := u.UnverifiedCertificates()
	for i := 1; i < len(d); i++ {
		leaf := bytes.Clone(d[i])
		leaf[len(leaf)-1] ^= 1
		ders := [][]byte{d[0], d[1], d[2], d[3], d[4]}
		ders[i] = leaf
		bad, _ := forge{chain: func([][]byte) [][]byte { return ders }}.make(t)
		v.MistakeCached(leaf, d[i])
		_, err := v.Verify(bad, forgeExpectation())
		wantRules(t, fmt.Sprintf("certificate %d", i), err, "chain.signature")
		if got, err := v.Verify(document, forgeExpectation()); err != nil || !bytes.Equal(got.Chain[i].Raw, d[i]) {
			t.Errorf("certificate %d: %v", i, err)
		}
		// The other way round: the good one is asked for and another is found.
		v.MistakeCached(d[i], d[i%4+1])
		if got, err := v.Verify(document, forgeExpectation()); err != nil || !bytes.Equal(got.Chain[i].Raw, d[i]) {
			t.Errorf("certificate %d behind another one: %v", i, err)
		}
	}
}
