// SPDX-License-Identifier: Apache-2.0

package eif

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	_ "crypto/sha256" // the hash functions of algorithms
	_ "crypto/sha512"
	"crypto/x509"
	"math/big"
	"slices"
	"time"

	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// A Signature is the content of a signature section: a COSE_Sign1 (RFC 9052 §4.2)
// over PCR0 and the certificate that belongs to it. Until [Signature.Verify]
// agreed, it is a claim.
type Signature struct {
	// CertificateFile is the certificate file as it was given to the signer: PEM,
	// maybe with text before it or with a chain after it.
	CertificateFile []byte
	// Certificate is the first in the file: the signer's, and what PCR8 measures.
	Certificate *x509.Certificate
	// RegisterIndex and RegisterValue are what was signed: 0 and PCR0.
	RegisterIndex uint64
	RegisterValue pcr.Digest

	protected []byte
	payload   []byte
	value     []byte
	offset    int64
}

// An algorithm is one of the three that the format knows, each bound to a curve.
type algorithm struct {
	name      string
	protected string
	curve     elliptic.Curve
	hash      crypto.Hash
}

// half is the length of R and of S.
func (a *algorithm) half() int { return (a.curve.Params().BitSize + 7) / 8 }

func (a *algorithm) sum(data []byte) []byte {
	h := a.hash.New()
	h.Write(data)
	return h.Sum(nil)
}

// algorithmOf returns the algorithm that the certificate's key signs with; nil
// if the format does not know one.
func algorithmOf(cert *x509.Certificate) *algorithm {
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil
	}
	for i := range algorithms {
		if algorithms[i].curve == key.Curve {
			return &algorithms[i]
		}
	}
	return nil
}

// The protected headers are compared as bytes: a map with the algorithm alone
// (RFC 9053 §2.1: -7, -35, -36).
var algorithms = []algorithm{
	{"ES256", "\xa1\x01\x26", elliptic.P256(), crypto.SHA256},
	{"ES384", "\xa1\x01\x38\x22", elliptic.P384(), crypto.SHA384},
	{"ES512", "\xa1\x01\x38\x23", elliptic.P521(), crypto.SHA512},
}

// Algorithm returns the COSE name of the signature's algorithm, or "" if the
// format does not know it.
func (s *Signature) Algorithm() string {
	if a := s.algorithm(); a != nil {
		return a.name
	}
	return ""
}

func (s *Signature) algorithm() *algorithm {
	for i := range algorithms {
		if algorithms[i].protected == string(s.protected) {
			return &algorithms[i]
		}
	}
	return nil
}

// parseSignature reads a signature section whose data begin at file offset base.
func parseSignature(data []byte, base int64) (*Signature, error) {
	s := &Signature{offset: base}
	w := walker{data: data, base: base, exact: true}
	if n := w.head(majorArray, "the list of signatures"); w.err == nil && n != 1 {
		// Only the first counts for AWS's tools; one that nobody looks at must
		// not look like a second signer.
		w.fail("%d signatures in the list; one is defined", n)
	}
	w.count(majorMap, 2, "the signature's map")
	w.key("signing_certificate")
	s.CertificateFile = w.octets("signing_certificate")
	w.key("signature")
	envelope := w.octets("signature")
	w.end("the list of signatures")
	if w.err != nil {
		return nil, w.err
	}
	if err := s.parseCOSE(envelope); err != nil {
		return nil, err
	}
	if err := s.parseCertificate(); err != nil {
		return nil, err
	}
	return s, nil
}

// parseCOSE reads a COSE_Sign1, tagged (18) or not: AWS's reader takes both.
func (s *Signature) parseCOSE(envelope []byte) error {
	w := walker{data: envelope, base: s.offset}
	if len(envelope) > 0 && envelope[0]>>5 == majorTag {
		if tag := w.head(majorTag, "the COSE_Sign1's tag"); w.err == nil && tag != 18 {
			w.fail("the COSE_Sign1 has tag %d, not 18", tag)
		}
	}
	w.count(majorArray, 4, "the COSE_Sign1")
	s.protected = w.str(majorBytes, "the protected header")
	w.count(majorMap, 0, "the unprotected header")
	s.payload = w.str(majorBytes, "the payload")
	s.value = w.str(majorBytes, "the signature value")
	w.end("the COSE_Sign1")
	if w.err != nil {
		return w.err
	}
	p := walker{data: s.payload, base: s.offset}
	p.count(majorMap, 2, "the payload")
	p.key("register_index")
	s.RegisterIndex = p.head(majorUint, "register_index")
	p.key("register_value")
	value := p.octets("register_value")
	if p.err == nil && len(value) != pcr.Size {
		p.fail("register_value has %d octets, not %d", len(value), pcr.Size)
	}
	p.end("the payload")
	if p.err != nil {
		return p.err
	}
	s.RegisterValue = pcr.Digest(value)
	return nil
}

func (s *Signature) parseCertificate() error {
	cert, err := pcr.SigningCertificate(s.CertificateFile)
	if err != nil {
		return reason.New(reason.Malformed, "eif.signature.certificate", "offset %d: signing certificate: %w", s.offset, err)
	}
	s.Certificate = cert
	return nil
}

// PCR8 returns the register that the platform fills from the certificate. It
// does not depend on whether the signature is right.
func (s *Signature) PCR8() pcr.Digest {
	return pcr.Measured(pcr.Sum(s.Certificate.Raw))
}

// Verify tells whether the certificate's key signed pcr0 and whether the
// certificate is valid at the given time. It proves nothing about who made the
// certificate: that is what PCR8 is compared for. The error is a
// [*reason.Error] with every problem found: BadSignature, Mismatch for a
// signature over another value, Untrusted outside the validity, Unsupported for
// a kind of key that images are not signed with.
func (s *Signature) Verify(pcr0 pcr.Digest, at time.Time) error {
	found := s.problems(pcr0, at)
	if len(found) == 0 {
		return nil
	}
	return &reason.Error{Problems: found}
}

// problems returns what [Signature.Verify] finds, gravest first.
func (s *Signature) problems(pcr0 pcr.Digest, at time.Time) []reason.Problem {
	var found []reason.Problem
	for _, refusal := range []*reason.Error{
		checkValidity(s.Certificate, at), s.checkValue(), s.checkRegister(pcr0),
	} {
		if refusal != nil {
			found = append(found, refusal.Problems...)
		}
	}
	slices.SortStableFunc(found, func(a, b reason.Problem) int { return int(a.Reason) - int(b.Reason) })
	return found
}

// Matches tells what nitro-cli calls SignatureCheck: the signature is right and
// over pcr0, whatever the date.
func (s *Signature) Matches(pcr0 pcr.Digest) bool {
	return s.checkValue() == nil && s.checkRegister(pcr0) == nil
}

func (s *Signature) checkRegister(pcr0 pcr.Digest) *reason.Error {
	if s.RegisterIndex != 0 {
		return reason.New(reason.Mismatch, "eif.signature.register", "the signature is over register %d, not PCR0", s.RegisterIndex)
	}
	if s.RegisterValue != pcr0 {
		return reason.New(reason.Mismatch, "eif.signature.register",
			"the signature is over PCR0 %s, this image has %s", s.RegisterValue.Short(), pcr0.Short())
	}
	return nil
}

// checkValue verifies the COSE signature (RFC 9052 §4.4, RFC 9053 §2.1).
func (s *Signature) checkValue() *reason.Error {
	if refusal := checkKey(s.Certificate); refusal != nil {
		return refusal
	}
	key, want := s.Certificate.PublicKey.(*ecdsa.PublicKey), algorithmOf(s.Certificate)
	if s.algorithm() != want {
		return reason.New(reason.BadSignature, "eif.signature.algorithm",
			"the protected header %x does not name the algorithm of a %s key", clip(s.protected, 16), key.Curve.Params().Name)
	}
	half := want.half()
	if len(s.value) != 2*half {
		return reason.New(reason.BadSignature, "eif.signature.value", "the signature has %d bytes, one by %s has %d", len(s.value), want.name, 2*half)
	}
	r, v := new(big.Int).SetBytes(s.value[:half]), new(big.Int).SetBytes(s.value[half:])
	if !ecdsa.Verify(key, want.sum(toBeSigned(s.protected, s.payload)), r, v) {
		return reason.New(reason.BadSignature, "eif.signature.value", "the signature was not made by the key of the certificate")
	}
	return nil
}

func clip(b []byte, n int) []byte { return b[:min(len(b), n)] }

// toBeSigned is the Sig_structure ["Signature1", protected, h”, payload].
func toBeSigned(protected, payload []byte) []byte {
	out := append([]byte{0x84, 0x6a}, "Signature1"...)
	out = appendBytes(out, protected)
	out = appendBytes(out, nil)
	return appendBytes(out, payload)
}
