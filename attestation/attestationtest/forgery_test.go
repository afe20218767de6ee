// SPDX-License-Identifier: Apache-2.0

package attestationtest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"testing"
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/attestationtest"
	"github.com/cretula/cretula/reason"
)

var now = time.Date(2026, 11, 20, 14, 0, 7, 123e6, time.UTC)

func verify(t *testing.T, f *attestationtest.Forgery) (*attestation.Document, error) {
	t.Helper()
	document, root, err := f.Build()
	if err != nil {
		t.Fatal(err)
	}
	v, err := attestation.NewVerifier(attestation.VerifierOptions{Roots: []*x509.Certificate{root}})
	if err != nil {
		t.Fatal(err)
	}
	return v.Verify(document, attestation.Expectation{AllowAnyImage: true, Time: now})
}

func TestNewIsGood(t *testing.T) {
	for _, indefinite := range []bool{false, true} {
		f := attestationtest.New(now)
		f.IndefiniteMap = indefinite
		d, err := verify(t, f)
		if err != nil {
			t.Fatal(err)
		}
		if d.ModuleID != attestationtest.ModuleID || !d.Timestamp.Equal(now) || d.PCRs.Len() != 16 || d.Debug || !d.Emulated || string(d.Nonce) != "nonce" {
			t.Errorf("%+v", d)
		}
	}
}

func TestDeterministic(t *testing.T) {
	first, _, err := attestationtest.New(now).Build()
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := attestationtest.New(now).Build()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("the same parts give different bytes")
	}
	a, b := attestationtest.Key("a").Public().(*ecdsa.PublicKey), attestationtest.Key("b").Public()
	if a.Equal(b) || !a.Equal(attestationtest.Key("a").Public()) {
		t.Error("a name and its key are not one to one")
	}
}

func TestChangesAreSeen(t *testing.T) {
	for rule, change := range map[string]func(*attestationtest.Forgery){
		"doc.nonce":            func(f *attestationtest.Forgery) { f.SetField("nonce", make([]byte, 4097)) },
		"doc.digest":           func(f *attestationtest.Forgery) { f.RemoveField("digest") },
		"doc.cbor.duplicate":   func(f *attestationtest.Forgery) { f.AddEncoded("nonce", attestationtest.Encode(nil)) },
		"doc.trailing":         func(f *attestationtest.Forgery) { f.EditDocument = func(d []byte) []byte { return append(d, 0) } },
		"doc.cabundle":         func(f *attestationtest.Forgery) { f.EditChain = func(d [][]byte) [][]byte { return d[4:] } },
		"cose.alg":             func(f *attestationtest.Forgery) { f.Protected = []byte{0xa1, 0x01, 0x26} },
		"cose.signature":       func(f *attestationtest.Forgery) { f.Signer = attestationtest.Key("stranger") },
		"cose.unprotected":     func(f *attestationtest.Forgery) { f.EditParts = func(p *[4][]byte) { p[1] = []byte{0xf6} } },
		"doc.payload":          func(f *attestationtest.Forgery) { f.EditPayload = func([]byte) []byte { return []byte{0} } },
		"chain.signature":      func(f *attestationtest.Forgery) { f.Certificates[2].Signer = attestationtest.Key("stranger") },
		"chain.name":           func(f *attestationtest.Forgery) { f.Certificates[2].Issuer = attestationtest.Name() },
		"chain.validity":       func(f *attestationtest.Forgery) { f.Certificates[1].NotAfter = now.Add(-time.Minute) },
		"chain.leaf.key-usage": func(f *attestationtest.Forgery) { f.Certificates[4].RemoveExtension(attestationtest.KeyUsage) },
		"chain.ca.key-usage": func(f *attestationtest.Forgery) {
			f.Certificates[3].SetExtension(attestationtest.NewKeyUsage(true, x509.KeyUsageCRLSign))
		},
		"chain.key": func(f *attestationtest.Forgery) {
			f.Certificates[4].Key = attestationtest.KeyOn(elliptic.P521(), "leaf")
		},
	} {
		f := attestationtest.New(now)
		change(f)
		_, err := verify(t, f)
		refusal, ok := err.(*reason.Error)
		if !ok {
			t.Errorf("%s: %v", rule, err)
			continue
		}
		found := false
		for _, p := range refusal.Problems {
			found = found || p.Rule == rule
		}
		if !found {
			t.Errorf("%s: refused for %v", rule, err)
		}
	}
}
