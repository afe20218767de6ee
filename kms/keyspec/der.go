// SPDX-License-Identifier: Apache-2.0

package keyspec

import (
	"encoding/asn1"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// maxPrivateKey bounds what is parsed as PKCS #8, in bytes. The longest that is
// accepted, RSA_4096 with attributes, has about 2400; ImportKeyMaterial takes 6144.
const maxPrivateKey = 8192

var (
	oidRSA         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidEC          = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidP256        = asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	oidP384        = asn1.ObjectIdentifier{1, 3, 132, 0, 34}
	oidP521        = asn1.ObjectIdentifier{1, 3, 132, 0, 35}
	oidSecp256k1   = asn1.ObjectIdentifier{1, 3, 132, 0, 10}
	oidEd25519     = asn1.ObjectIdentifier{1, 3, 101, 112}
	oidMLDSA44     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 17}
	oidMLDSA65     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 18}
	oidMLDSA87     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 19}
	attributesTag  = tags.Tag(0).ContextSpecific().Constructed()
	publicKeyTag   = tags.Tag(1).ContextSpecific()
	ecParameters   = tags.Tag(0).ContextSpecific().Constructed()
	ecPublicKey    = tags.Tag(1).ContextSpecific().Constructed()
	errNotPKCS8    = errors.New("not a PKCS #8 private key in DER")
	errAlgorithm   = errors.New("a key of another algorithm or curve")
	errMismatch    = errors.New("private and public key do not belong together")
	errNotSPKI     = errors.New("not a SubjectPublicKeyInfo in DER")
	errECKey       = errors.New("not an ECPrivateKey in DER")
	errScalarRange = errors.New("the private scalar is not in the range of the curve")
)

// A privateKeyInfo is what PKCS #8 holds: PrivateKeyInfo of RFC 5208 or
// OneAsymmetricKey of RFC 5958. The slices are parts of what was parsed.
type privateKeyInfo struct {
	key cryptobyte.String
	// public is the public key of version 2, nil if there is none.
	public []byte
}

// parsePKCS8 reads a private key of that algorithm, with exactly these
// parameters: an OID of a curve, or what none returns true for.
func parsePKCS8(der []byte, algorithm asn1.ObjectIdentifier, parameters func(*cryptobyte.String) bool) (privateKeyInfo, error) {
	var info privateKeyInfo
	var version int
	if len(der) > maxPrivateKey {
		return info, errNotPKCS8
	}
	input, body, id := cryptobyte.String(der), cryptobyte.String(nil), cryptobyte.String(nil)
	if !input.ReadASN1(&body, tags.SEQUENCE) || !input.Empty() ||
		!body.ReadASN1Integer(&version) || version < 0 || version > 1 ||
		!body.ReadASN1(&id, tags.SEQUENCE) || !body.ReadASN1(&info.key, tags.OCTET_STRING) ||
		!body.SkipOptionalASN1(attributesTag) {
		return info, errNotPKCS8
	}
	var bits cryptobyte.String
	var present bool
	if version == 1 && !body.ReadOptionalASN1(&bits, &present, publicKeyTag) || !body.Empty() {
		return info, errNotPKCS8
	}
	if present {
		if len(bits) < 2 || bits[0] != 0 {
			return info, errNotPKCS8
		}
		info.public = bits[1:]
	}
	return info, parseAlgorithm(id, algorithm, parameters)
}

// parseAlgorithm compares the content of an AlgorithmIdentifier.
func parseAlgorithm(id cryptobyte.String, algorithm asn1.ObjectIdentifier, parameters func(*cryptobyte.String) bool) error {
	var got asn1.ObjectIdentifier
	if !id.ReadASN1ObjectIdentifier(&got) || !got.Equal(algorithm) || !parameters(&id) || !id.Empty() {
		return errAlgorithm
	}
	return nil
}

// absent and null are parameters of an algorithm that has none.
func absent(*cryptobyte.String) bool { return true }

func null(s *cryptobyte.String) bool {
	var content cryptobyte.String
	return s.ReadASN1(&content, tags.NULL) && content.Empty()
}

// curve is the parameter of a key on that named curve.
func curve(oid asn1.ObjectIdentifier) func(*cryptobyte.String) bool {
	return func(s *cryptobyte.String) bool {
		var got asn1.ObjectIdentifier
		return s.ReadASN1ObjectIdentifier(&got) && got.Equal(oid)
	}
}

// An ecKey is a private scalar and the uncompressed point that stood beside it,
// nil if none did.
type ecKey struct {
	scalar, point []byte
}

// parseEC reads PKCS #8 with an ECPrivateKey (RFC 5915) on the named curve, whose
// order has size bytes. Whether scalar and point are on the curve is not checked.
func parseEC(der []byte, oid asn1.ObjectIdentifier, size int) (ecKey, error) {
	info, err := parsePKCS8(der, oidEC, curve(oid))
	if err != nil {
		return ecKey{}, err
	}
	var body, scalar, parameters, wrapped, bits cryptobyte.String
	var version int
	var hasParameters, hasPoint bool
	if !info.key.ReadASN1(&body, tags.SEQUENCE) || !info.key.Empty() ||
		!body.ReadASN1Integer(&version) || version != 1 ||
		!body.ReadASN1(&scalar, tags.OCTET_STRING) || len(scalar) != size ||
		!body.ReadOptionalASN1(&parameters, &hasParameters, ecParameters) ||
		!body.ReadOptionalASN1(&wrapped, &hasPoint, ecPublicKey) || !body.Empty() {
		return ecKey{}, errECKey
	}
	if hasParameters && (!curve(oid)(&parameters) || !parameters.Empty()) {
		return ecKey{}, errAlgorithm
	}
	key := ecKey{scalar: scalar}
	if hasPoint {
		if !wrapped.ReadASN1(&bits, tags.BIT_STRING) || !wrapped.Empty() || len(bits) < 2 || bits[0] != 0 {
			return ecKey{}, errECKey
		}
		key.point = bits[1:]
	}
	if info.public != nil {
		if key.point != nil && string(key.point) != string(info.public) {
			return ecKey{}, errMismatch
		}
		key.point = info.public
	}
	if key.point != nil && key.point[0] != 4 { // SEC 1 §2.3.3: uncompressed
		return ecKey{}, errECKey
	}
	return key, nil
}

// marshalEC writes what parseEC reads, in the form of OpenSSL and crypto/x509:
// the curve outside, the point inside.
func marshalEC(oid asn1.ObjectIdentifier, scalar, point []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		addAlgorithm(b, oidEC, oid)
		b.AddASN1(tags.OCTET_STRING, func(b *cryptobyte.Builder) {
			b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1)
				b.AddASN1OctetString(scalar)
				b.AddASN1(ecPublicKey, func(b *cryptobyte.Builder) { b.AddASN1BitString(point) })
			})
		})
	})
	return b.Bytes()
}

// marshalSPKI writes a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7) whose algorithm
// has these OIDs as identifier and parameter.
func marshalSPKI(key []byte, oids ...asn1.ObjectIdentifier) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		addAlgorithm(b, oids...)
		b.AddASN1BitString(key)
	})
	return b.Bytes()
}

func addAlgorithm(b *cryptobyte.Builder, oids ...asn1.ObjectIdentifier) {
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, oid := range oids {
			b.AddASN1ObjectIdentifier(oid)
		}
	})
}

// parseSPKI reads the public key of that algorithm.
func parseSPKI(der []byte, algorithm asn1.ObjectIdentifier, parameters func(*cryptobyte.String) bool) ([]byte, error) {
	input := cryptobyte.String(der)
	var body, id, bits cryptobyte.String
	if !input.ReadASN1(&body, tags.SEQUENCE) || !input.Empty() || !body.ReadASN1(&id, tags.SEQUENCE) ||
		!body.ReadASN1(&bits, tags.BIT_STRING) || !body.Empty() || len(bits) < 2 || bits[0] != 0 {
		return nil, errNotSPKI
	}
	return bits[1:], parseAlgorithm(id, algorithm, parameters)
}
