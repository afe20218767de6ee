// SPDX-License-Identifier: Apache-2.0

package vectors_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"testing"

	"github.com/veraison/go-cose"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/vectors"
)

// TestGoodOnesElsewhere: go-cose and crypto/x509 accept every document that must
// be accepted, so that no verdict rests on this project's code alone.
func TestGoodOnesElsewhere(t *testing.T) {
	for _, v := range vectors.All() {
		if v.Expect != vectors.Verified {
			continue
		}
		if err := elsewhere(&v); err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
	}
}

// TestBadSignaturesElsewhere: go-cose or crypto/x509 refuse what is refused for
// its COSE signature, but for a range that they leave to the signature check.
func TestBadSignaturesElsewhere(t *testing.T) {
	count := 0
	for _, v := range vectors.All() {
		if len(v.Rules) != 1 || v.Rules[0] != "cose.signature" && v.Rules[0] != "cose.signature.range" && v.Rules[0] != "chain.signature" {
			continue
		}
		count++
		if err := elsewhere(&v); err == nil {
			t.Errorf("%s: accepted", v.Name)
		}
	}
	if count < 20 {
		t.Errorf("%d vectors with wrong signatures", count)
	}
}

// elsewhere verifies chain and signature of a document with other people's code;
// only the fields are taken out by ours.
func elsewhere(v *vectors.Vector) error {
	document, err := v.ReadDocument()
	if err != nil {
		return err
	}
	pemFile, err := v.ReadRoot()
	if err != nil {
		return err
	}
	u, err := attestation.ParseLenient(document)
	if err != nil {
		return err
	}
	options := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: v.Clock,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	if v.Expectation.DocumentTime {
		options.CurrentTime = u.UnverifiedTimestamp()
	}
	options.Roots.AppendCertsFromPEM(pemFile)
	ders := u.UnverifiedCertificates()
	for _, der := range ders[:len(ders)-1] {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		options.Intermediates.AddCert(cert)
	}
	leaf, err := x509.ParseCertificate(ders[len(ders)-1])
	if err != nil {
		return err
	}
	if _, err := leaf.Verify(options); err != nil {
		return err
	}
	verifier, err := cose.NewVerifier(cose.AlgorithmES384, leaf.PublicKey.(*ecdsa.PublicKey))
	if err != nil {
		return err
	}
	var message cose.UntaggedSign1Message
	if err := message.UnmarshalCBOR(bytes.TrimPrefix(document, []byte{0xd2})); err != nil {
		return err
	}
	return message.Verify(nil, verifier)
}
