// SPDX-License-Identifier: Apache-2.0

package enclave

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"testing"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/nsm/softnsm"
	"github.com/cretula/cretula/pcr"
)

// TestRealDocuments: with a module that issues documents, each call's is
// verified as a key service does, and its answer is sealed to the key therein.
func TestRealDocuments(t *testing.T) {
	authority, err := issuer.New(issuer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var want pcr.Set
	for i := range pcr.Index(3) {
		want.Put(i, pcr.Digest{byte(i) + 1})
	}
	module, err := softnsm.New(softnsm.Config{Authority: authority, PCRs: want})
	if err != nil {
		t.Fatal(err)
	}
	defer module.Close()
	verifier, err := attestation.NewVerifier(attestation.VerifierOptions{Roots: []*x509.Certificate{authority.Root()}})
	if err != nil {
		t.Fatal(err)
	}
	fake := newFakeKMS(t)
	fake.publicKey = func(document []byte) (*rsa.PublicKey, error) {
		verified, err := verifier.Verify(document, attestation.Expectation{PCRs: want})
		if err != nil {
			return nil, err
		}
		key, err := x509.ParsePKIXPublicKey(verified.PublicKey)
		if err != nil {
			return nil, err
		}
		return key.(*rsa.PublicKey), nil
	}
	client := fake.client(newAttestor(t, Options{Device: module}))
	for _, op := range operations {
		result, _, err := op.call(t.Context(), client, keyARN)
		if err != nil || !bytes.Equal(result, secretOf(op.name)) {
			t.Errorf("%s: %q, %v", op.name, result, err)
		}
	}
	if n := len(fake.seen()); n != len(operations) {
		t.Errorf("%d requests", n)
	}
}
