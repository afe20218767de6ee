// SPDX-License-Identifier: Apache-2.0

package eif

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"math/big"
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
	digest    func([]byte) []byte
}

func sum256(b []byte) []byte { s := sha256.Sum256(b); return s[:] }
func sum384(b []byte) []byte { s := sha512.Sum384(b); return s[:] }
func sum512(b []byte) []byte { s := sha512.Sum512(b); return s[:] }

// The protected headers are compared as bytes: a map with the algorithm alone
// (RFC 9053 §2.1: -7, -35, -36).
var algorithms = []algorithm{
	{"ES256", "\xa1\x01\x26", elliptic.P256(), sum256},
	{"ES384", "\xa1\x01\x38\x22", elliptic.P384(), sum384},
	{"ES512", "\xa1\x01\x38\x23", elliptic.P521(), sum512},
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
	for block, rest := pem.Decode(s.CertificateFile); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return reason.New(reason.Malformed, "eif.signature.certificate", "offset %d: signing certificate: %w", s.offset, err)
		}
		s.Certificate = cert
		return nil
	}
	return reason.New(reason.Malformed, "eif.signature.certificate", "offset %d: no PEM certificate in the signature section", s.offset)
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
	var found []reason.Problem
	add := func(e *reason.Error) { found = append(found, e.Problems...) }
	if c := s.Certificate; at.Before(c.NotBefore) || at.After(c.NotAfter) {
		add(reason.New(reason.Untrusted, "eif.signature.validity",
			"the signing certificate is valid from %s to %s, not at %s; an enclave with this image would not start",
			c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339), at.UTC().Format(time.RFC3339)))
	}
	unsupported := s.checkValue()
	if unsupported != nil && unsupported.Reason() != reason.Unsupported {
		add(unsupported)
		unsupported = nil
	}
	if e := s.checkRegister(pcr0); e != nil {
		add(e)
	}
	if unsupported != nil {
		add(unsupported)
	}
	if len(found) == 0 {
		return nil
	}
	return &reason.Error{Problems: found}
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
	key, ok := s.Certificate.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve == elliptic.P224() {
		return reason.New(reason.Unsupported, "eif.signature.key",
			"the signing certificate holds a %v key; images are signed with P-256, P-384 or P-521", s.Certificate.PublicKeyAlgorithm)
	}
	alg := s.algorithm()
	if alg == nil || alg.curve != key.Curve {
		return reason.New(reason.BadSignature, "eif.signature.algorithm",
			"the protected header %x does not name the algorithm of a %s key", clip(s.protected, 16), key.Curve.Params().Name)
	}
	half := (key.Curve.Params().BitSize + 7) / 8
	if len(s.value) != 2*half {
		return reason.New(reason.BadSignature, "eif.signature.value", "the signature has %d bytes, one by %s has %d", len(s.value), alg.name, 2*half)
	}
	r, v := new(big.Int).SetBytes(s.value[:half]), new(big.Int).SetBytes(s.value[half:])
	if !ecdsa.Verify(key, alg.digest(toBeSigned(s.protected, s.payload)), r, v) {
		return reason.New(reason.BadSignature, "eif.signature.value", "the signature was not made by the key of the certificate in the file")
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

// appendBytes appends a CBOR byte string of less than 64 KiB.
func appendBytes(out, b []byte) []byte {
	switch n := len(b); {
	case n < 24:
		out = append(out, majorBytes<<5|byte(n))
	case n < 1<<8:
		out = append(out, majorBytes<<5|24, byte(n))
	default:
		out = append(out, majorBytes<<5|25)
		out = binary.BigEndian.AppendUint16(out, uint16(n))
	}
	return append(out, b...)
}
