// SPDX-License-Identifier: Apache-2.0

package keyspec

import (
	"crypto"
	"crypto/rsa"

	"github.com/cretula/cretula/kms/kmsapi"
)

// A WrappingKey is the RSA key of one GetParametersForImport, under which key
// material comes in.
type WrappingKey struct {
	key *rsa.PrivateKey
}

func wrappingBits(spec string) (rsaKeys, error) {
	if s := Lookup(spec); s != nil {
		if bits, ok := s.material.(rsaKeys); ok {
			return bits, nil
		}
	}
	return 0, kmsapi.Errorf(kmsapi.UnsupportedOperation, "Wrapping key spec %s is not supported.", spec)
}

// ParseWrappingKey reads an RSA key of 2048, 3072 or 4096 bits, as PKCS #8 in DER.
func ParseWrappingKey(pkcs8 []byte) (*WrappingKey, error) {
	for _, bits := range []rsaKeys{2048, 3072, 4096} {
		if key, err := bits.private(pkcs8); err == nil {
			return &WrappingKey{key}, nil
		}
	}
	return nil, kmsapi.Internal(errNotPKCS8)
}

// CheckWrapping tells whether key material of the spec may come in with this
// WrappingAlgorithm under a key of this WrappingKeySpec; if not, the error is
// UnsupportedOperationException. As AWS documents it: RSA keys need
// RSA_AES_KEY_WRAP_SHA_1 or _256, which symmetric and HMAC keys must not use,
// and RSAES_OAEP_SHA_1 and _256 are for all others, except for ECC_NIST_P521
// under RSA_2048, for which it is too long. RSAES_PKCS1_V1_5 is gone since
// October 2023. ML-DSA, of which AWS says nothing, is treated as the curves are.
func (s *Spec) CheckWrapping(algorithm, wrappingKeySpec string) error {
	if _, err := wrappingBits(wrappingKeySpec); err != nil {
		return err
	}
	if _, ok := wrappingHash(algorithm); !ok {
		return errWrapping(algorithm)
	}
	_, isRSA := s.material.(rsaKeys)
	allowed := !isRSA && (s.Name != kmsapi.SpecECCNISTP521 || wrappingKeySpec != kmsapi.SpecRSA2048)
	if isKeyWrap(algorithm) {
		allowed = s.Asymmetric()
	}
	if !allowed {
		return kmsapi.Errorf(kmsapi.UnsupportedOperation, "Wrapping algorithm %s and wrapping key spec %s cannot be used to import key material for key spec %s.",
			algorithm, wrappingKeySpec, s.Name)
	}
	return nil
}

func errWrapping(algorithm string) error {
	return kmsapi.Errorf(kmsapi.UnsupportedOperation, "Wrapping algorithm %s is not supported.", algorithm)
}

func wrappingHash(algorithm string) (crypto.Hash, bool) {
	switch algorithm {
	case kmsapi.RSAESOAEPSHA1, kmsapi.RSAAESKeyWrapSHA1:
		return crypto.SHA1, true
	case kmsapi.RSAESOAEPSHA256, kmsapi.RSAAESKeyWrapSHA256:
		return crypto.SHA256, true
	}
	return 0, false
}

func isKeyWrap(algorithm string) bool {
	return algorithm == kmsapi.RSAAESKeyWrapSHA1 || algorithm == kmsapi.RSAAESKeyWrapSHA256
}

// Unwrap returns the key material. RSAES_OAEP_SHA_n is OAEP with that hash for
// label and MGF1; RSA_AES_KEY_WRAP_SHA_n is a 256-bit AES key in such an OAEP
// ciphertext and behind it the material, wrapped under the AES key with RFC 5649
// (PKCS #11 CKM_RSA_AES_KEY_WRAP). Whatever is wrong with encrypted, the answer is
// the same InvalidCiphertextException.
func (w *WrappingKey) Unwrap(algorithm string, encrypted []byte) ([]byte, error) {
	hash, ok := wrappingHash(algorithm)
	if !ok {
		return nil, errWrapping(algorithm)
	}
	if !isKeyWrap(algorithm) {
		return decryptOAEP(w.key, hash, encrypted)
	}
	refused := &kmsapi.Error{Code: kmsapi.InvalidCiphertext}
	size := w.key.Size()
	if len(encrypted) < size {
		return nil, refused
	}
	key, err := decryptOAEP(w.key, hash, encrypted[:size])
	if err != nil {
		return nil, err
	}
	defer clear(key)
	if len(key) != 32 {
		return nil, refused
	}
	secret, err := unwrapPadded(key, encrypted[size:])
	if err != nil {
		return nil, refused
	}
	return secret, nil
}
