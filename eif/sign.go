// SPDX-License-Identifier: Apache-2.0

package eif

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// SigningPayload returns the payload of the COSE_Sign1 over an image: the CBOR
// map {"register_index": 0, "register_value": [PCR0's octets]}.
func SigningPayload(pcr0 pcr.Digest) []byte {
	out := appendText([]byte{majorMap<<5 | 2}, "register_index")
	out = append(out, 0)
	out = appendText(out, "register_value")
	return appendOctets(out, pcr0[:])
}

// A SigningRequest is what the key of a certificate has to sign so that the
// result is the signature of an image with a certain PCR0.
type SigningRequest struct {
	// Certificate is the first of the certificate file: the signer's.
	Certificate *x509.Certificate
	// Algorithm is the COSE name: "ES256", "ES384" or "ES512", as the
	// certificate's curve has it.
	Algorithm string
	// Digest is the hash function of that algorithm.
	Digest crypto.Hash
	// ToBeSigned is the Sig_structure (RFC 9052 §4.4), not hashed.
	ToBeSigned []byte
	// PCR0 is that of the image.
	PCR0 pcr.Digest

	file      []byte
	protected []byte
	payload   []byte
}

// ToBeSigned returns what the key of the first certificate in the file has to
// sign for an image with this PCR0. The file becomes part of the image as it is,
// and is refused with a [*reason.Error] if it does not fit that: see
// [LintCertificate], whose problems these are, but for the validity, which is
// the caller's to judge.
func ToBeSigned(certificateFile []byte, pcr0 pcr.Digest) (*SigningRequest, error) {
	cert, err := checkCertificateFile(certificateFile)
	if err != nil {
		return nil, err
	}
	alg := algorithmOf(cert)
	r := &SigningRequest{
		Certificate: cert, Algorithm: alg.name, Digest: alg.hash, PCR0: pcr0,
		file: bytes.Clone(certificateFile), protected: []byte(alg.protected), payload: SigningPayload(pcr0),
	}
	r.ToBeSigned = toBeSigned(r.protected, r.payload)
	// Room for the section is known before a key is asked to sign.
	if n := len(r.section(make([]byte, 2*alg.half()))); n > MaxSignature {
		return nil, reason.New(reason.Malformed, "eif.signature.size",
			"with this certificate file of %d bytes the signature section would have about %d bytes; the limit is %d",
			len(certificateFile), n, MaxSignature)
	}
	return r, nil
}

// Sum returns the digest of ToBeSigned, for a signer that takes one.
func (r *SigningRequest) Sum() []byte {
	h := r.Digest.New()
	h.Write(r.ToBeSigned)
	return h.Sum(nil)
}

// Attach makes the signature section out of a signature over ToBeSigned: R‖S,
// each of the curve's length, as COSE has it (RFC 9053 §2.1), or the ASN.1 DER
// that OpenSSL, KMS and [crypto.Signer] make. A signature that does not verify
// under the certificate is refused as BadSignature.
func (r *SigningRequest) Attach(signature []byte) (section []byte, err error) {
	half := algorithmOf(r.Certificate).half()
	var values [][]byte
	if len(signature) == 2*half {
		values = append(values, signature)
	}
	if value := rawSignature(signature, half); value != nil {
		values = append(values, value)
	}
	if len(values) == 0 {
		return nil, reason.New(reason.BadSignature, "eif.signature.value",
			"%d bytes are no %s signature: it has %d bytes, or is ASN.1 DER of two integers", len(signature), r.Algorithm, 2*half)
	}
	for _, value := range values {
		section = r.section(value)
		// What is written must be what a reader takes, so it is read again.
		s, parseErr := parseSignature(section, 0)
		if parseErr != nil {
			return nil, parseErr
		}
		refusal := s.checkValue()
		if refusal == nil {
			refusal = s.checkRegister(r.PCR0)
		}
		if refusal == nil {
			return section, nil
		}
		err = refusal
	}
	return nil, err
}

// section encodes the list with the one signature.
func (r *SigningRequest) section(value []byte) []byte {
	envelope := appendBytes([]byte{majorArray<<5 | 4}, r.protected)
	envelope = append(envelope, majorMap<<5)
	envelope = appendBytes(appendBytes(envelope, r.payload), value)

	out := appendText([]byte{majorArray<<5 | 1, majorMap<<5 | 2}, "signing_certificate")
	out = appendOctets(out, r.file)
	out = appendText(out, "signature")
	return appendOctets(out, envelope)
}

// rawSignature turns the ASN.1 of a signature (RFC 3279 §2.2.3) into R‖S; nil if
// it is not exactly that.
func rawSignature(der []byte, half int) []byte {
	var v struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &v); err != nil || len(rest) > 0 {
		return nil
	}
	if v.R.Sign() <= 0 || v.S.Sign() <= 0 || v.R.BitLen() > 8*half || v.S.BitLen() > 8*half {
		return nil
	}
	if again, err := asn1.Marshal(v); err != nil || !bytes.Equal(again, der) {
		return nil // a second form of the same numbers
	}
	out := make([]byte, 2*half)
	v.R.FillBytes(out[:half])
	v.S.FillBytes(out[half:])
	return out
}

// SignSection makes the signature section of an image with this PCR0. The
// signer's public key must be that of the first certificate in the file
// (Mismatch otherwise); it is asked for one signature over a digest. Of keys in
// memory, those of crypto/ecdsa sign deterministically (RFC 6979) where rand is
// nil, so that the same image, key and certificate give the same bytes. Errors
// of the signer are returned as they are, others are those of [ToBeSigned] and
// [SigningRequest.Attach].
func SignSection(ctx context.Context, certificateFile []byte, pcr0 pcr.Digest, signer crypto.Signer, rand io.Reader) (section []byte, err error) {
	if signer == nil {
		return nil, errors.New("eif: no signer")
	}
	r, err := ToBeSigned(certificateFile, pcr0)
	if err != nil {
		return nil, err
	}
	if err := CheckSigner(r.Certificate, signer); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	signature, err := signer.Sign(rand, r.Sum(), r.Digest)
	if err != nil {
		return nil, err
	}
	return r.Attach(signature)
}

// CheckSigner tells, before an image is read, whether the certificate holds the
// signer's public key. The error is that of [SignSection].
func CheckSigner(cert *x509.Certificate, signer crypto.Signer) error {
	if key, ok := signer.Public().(*ecdsa.PublicKey); ok && key.Equal(cert.PublicKey) {
		return nil
	}
	return reason.New(reason.Mismatch, "eif.sign.key",
		"the certificate holds another public key than the one that is to sign (%s)", describeKey(signer.Public()))
}

// describeKey names the kind of a public key.
func describeKey(key crypto.PublicKey) string {
	if k, ok := key.(*ecdsa.PublicKey); ok {
		return k.Curve.Params().Name
	}
	return fmt.Sprintf("%T", key)
}

// appendHead appends the head of a CBOR item in its shortest form. The argument
// is below 2^32.
func appendHead(out []byte, major byte, n int) []byte {
	switch {
	case n < 24:
		return append(out, major<<5|byte(n))
	case n < 1<<8:
		return append(out, major<<5|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(out, major<<5|25), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(out, major<<5|26), uint32(n))
}

func appendText(out []byte, s string) []byte {
	return append(appendHead(out, majorText, len(s)), s...)
}

func appendBytes(out, b []byte) []byte {
	return append(appendHead(out, majorBytes, len(b)), b...)
}

// appendOctets appends bytes the way AWS's builder writes them: as an array of
// integers.
func appendOctets(out, b []byte) []byte {
	out = appendHead(out, majorArray, len(b))
	for _, v := range b {
		out = appendHead(out, majorUint, int(v))
	}
	return out
}
