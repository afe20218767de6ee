// SPDX-License-Identifier: Apache-2.0

package keyspec

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	_ "crypto/sha1" // the hashes of hashOf
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cretula/cretula/kms/kmsapi"
)

// maxMessage is the longest Message of Sign, Verify, GenerateMac and VerifyMac,
// in bytes.
const maxMessage = 4096

// A message is what is signed, in the form that the algorithm asks for.
type message struct {
	algorithm string
	// hash is that of the algorithm, 0 for one that has its own.
	hash crypto.Hash
	// digest says that data is the digest already, or the μ of FIPS 204.
	digest bool
	data   []byte
}

// sum returns the digest that is signed.
func (m message) sum() []byte {
	if m.digest {
		return m.data
	}
	h := m.hash.New()
	h.Write(m.data)
	return h.Sum(nil)
}

// prepare checks what Sign and Verify are given beside the key.
func (s *Spec) prepare(algorithm, messageType string, data []byte) (message, error) {
	m := message{algorithm: algorithm, data: data}
	if err := s.compatible(kmsapi.SignVerify, algorithm); err != nil {
		return m, err
	}
	if messageType == "" {
		messageType = kmsapi.MessageRaw
	}
	takes, digestSize := []string{kmsapi.MessageRaw, kmsapi.MessageDigest}, 0
	switch algorithm {
	case kmsapi.ED25519SHA512:
		takes = []string{kmsapi.MessageRaw}
	case kmsapi.ED25519PHSHA512:
		takes, m.hash = []string{kmsapi.MessageDigest}, crypto.SHA512
	case kmsapi.MLDSASHAKE256:
		takes, digestSize = []string{kmsapi.MessageRaw, kmsapi.MessageExternalMu}, muSize
	default:
		m.hash = hashOf(algorithm)
	}
	if m.hash != 0 {
		digestSize = m.hash.Size()
	}
	return m, m.typed(takes, messageType, digestSize)
}

// typed finds out whether a message is of a type that the algorithm takes.
func (m *message) typed(takes []string, messageType string, digestSize int) error {
	m.digest = messageType != kmsapi.MessageRaw
	switch {
	case !slices.Contains(takes, messageType):
		// AWS documents which types go together, but no text.
		return kmsapi.Errorf(kmsapi.Validation, "Algorithm %s requires MessageType %s.", m.algorithm, strings.Join(takes, " or "))
	case m.digest && len(m.data) != digestSize:
		return kmsapi.Errorf(kmsapi.Validation, "Digest is invalid length for algorithm %s.", m.algorithm)
	}
	return checkLength(m.data)
}

func checkLength(message []byte) error {
	if len(message) > maxMessage {
		return kmsapi.Errorf(kmsapi.Validation, "1 validation error detected: Value at 'message' failed to satisfy constraint: "+
			"Member must have length less than or equal to %d", maxMessage)
	}
	return nil
}

// hashOf returns the hash that the name of an algorithm ends in.
func hashOf(algorithm string) crypto.Hash {
	switch {
	case strings.HasSuffix(algorithm, "SHA_1"):
		return crypto.SHA1
	case strings.HasSuffix(algorithm, "SHA_224"):
		return crypto.SHA224
	case strings.HasSuffix(algorithm, "SHA_256"):
		return crypto.SHA256
	case strings.HasSuffix(algorithm, "SHA_384"):
		return crypto.SHA384
	case strings.HasSuffix(algorithm, "SHA_512"):
		return crypto.SHA512
	}
	return 0
}

// Sign signs a message of at most 4096 bytes, a digest or, as EXTERNAL_MU, the
// 64-byte message representative μ of FIPS 204 §6.2; an empty messageType is RAW.
// ECDSA signatures are Ecdsa-Sig-Value in DER (RFC 3279 §2.2.3). AWS's secp256k1
// signatures have a high s half of the time, which Ethereum and Bitcoin refuse;
// those made here always have the low one (BIP 62, EIP-2). secp256k1 takes its nonce
// from key and digest (RFC 6979), ML-DSA is hedged.
func (s *Spec) Sign(random io.Reader, secret []byte, algorithm, messageType string, message []byte) ([]byte, error) {
	m, err := s.prepare(algorithm, messageType, message)
	if err != nil {
		return nil, err
	}
	signature, err := s.material.(pairType).sign(random, secret, m)
	if err != nil {
		return nil, kmsapi.Internal(err)
	}
	return signature, nil
}

// Verify returns nil if the signature is the key's for the message, and
// KMSInvalidSignatureException without a message if it is not. An ECDSA signature
// must be DER; a high s is accepted.
func (s *Spec) Verify(secret []byte, algorithm, messageType string, message, signature []byte) error {
	m, err := s.prepare(algorithm, messageType, message)
	if err != nil {
		return err
	}
	valid, err := s.material.(pairType).verify(secret, m, signature)
	switch {
	case err != nil:
		return kmsapi.Internal(err)
	case !valid:
		return &kmsapi.Error{Code: kmsapi.KMSInvalidSignature}
	}
	return nil
}

// Mac returns the HMAC (FIPS 198-1) of a message of at most 4096 bytes.
func (s *Spec) Mac(secret []byte, algorithm string, message []byte) ([]byte, error) {
	if err := s.compatible(kmsapi.GenerateVerifyMAC, algorithm); err != nil {
		return nil, err
	}
	if err := checkLength(message); err != nil {
		return nil, err
	}
	h := hmac.New(hashOf(algorithm).New, secret)
	h.Write(message)
	return h.Sum(nil), nil
}

// VerifyMac returns nil if mac is the HMAC of the message, and
// KMSInvalidMacException without a message if it is not. A truncated one is not.
func (s *Spec) VerifyMac(secret []byte, algorithm string, message, mac []byte) error {
	want, err := s.Mac(secret, algorithm, message)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(want, mac) != 1 {
		return &kmsapi.Error{Code: kmsapi.KMSInvalidMac}
	}
	return nil
}

// Encrypt encrypts with RSAES-OAEP, of which hash and MGF1 hash are those of the
// algorithm and the label is empty. What is too long for the key is refused with
// ValidationException.
func (s *Spec) Encrypt(random io.Reader, secret []byte, algorithm string, plaintext []byte) ([]byte, error) {
	keys, err := s.oaep(algorithm)
	if err != nil {
		return nil, err
	}
	hash := hashOf(algorithm)
	if limit := int(keys)/8 - 2*hash.Size() - 2; len(plaintext) > limit {
		return nil, kmsapi.Errorf(kmsapi.Validation, "Algorithm %s and key spec %s cannot encrypt data larger than %d bytes.", algorithm, s.Name, limit)
	}
	ciphertext, err := keys.encrypt(random, secret, hash, plaintext)
	if err != nil {
		return nil, kmsapi.Internal(err)
	}
	return ciphertext, nil
}

// Decrypt is the opposite of Encrypt. Whatever is wrong with the ciphertext, the
// answer is the same InvalidCiphertextException.
func (s *Spec) Decrypt(secret []byte, algorithm string, ciphertext []byte) ([]byte, error) {
	keys, err := s.oaep(algorithm)
	if err != nil {
		return nil, err
	}
	key, err := keys.private(secret)
	if err != nil {
		return nil, kmsapi.Internal(err)
	}
	return decryptOAEP(key, hashOf(algorithm), ciphertext)
}

// oaep returns the keys of an algorithm that encrypts. SYMMETRIC_DEFAULT is no
// such: its ciphertexts are more than a cipher's output.
func (s *Spec) oaep(algorithm string) (rsaKeys, error) {
	keys, ok := s.material.(rsaKeys)
	if !ok {
		return 0, s.incompatible(algorithm)
	}
	return keys, s.compatible(kmsapi.EncryptDecrypt, algorithm)
}

// Derive returns the x coordinate of the ECDH point (SP 800-56A, 5.7.1.2; the
// cofactor of these curves is 1), as long as the curve's field. The peer's key
// must be a SubjectPublicKeyInfo in DER with an uncompressed point on the same
// named curve; anything else is ValidationException without a message.
func (s *Spec) Derive(secret, peerSPKI []byte) ([]byte, error) {
	keys, ok := s.material.(nistKeys)
	if !ok {
		return nil, s.incompatible(kmsapi.ECDH)
	}
	peer, err := keys.peer(peerSPKI)
	if err != nil {
		return nil, &kmsapi.Error{Code: kmsapi.Validation, Err: err}
	}
	shared, err := keys.derive(secret, peer)
	if err != nil {
		return nil, kmsapi.Internal(err)
	}
	return shared, nil
}

// Check tells whether imported key material is of this spec; if not, the error is
// IncorrectKeyMaterialException. Keys must be as long as the spec says, pairs be
// PKCS #8 (RFC 5208, RFC 5958) in DER with a named curve, an RSA modulus of two
// primes or, for ML-DSA, the seed (RFC 9881 §6), and the parts of a key must
// belong together: a public key beside the private one is compared. Pairs are
// tried out once. AWS takes BER as well.
func (s *Spec) Check(secret []byte) error {
	err := s.material.check(secret)
	if err == nil {
		err = s.try(secret)
	}
	if err != nil {
		return &kmsapi.Error{Code: kmsapi.IncorrectKeyMaterial, Err: err,
			Message: fmt.Sprintf("The key material is not valid for key spec %s.", s.Name)}
	}
	return nil
}

// try uses a key pair once, the pairwise consistency test of FIPS 140-3.
func (s *Spec) try(secret []byte) error {
	t, ok := s.material.(pairType)
	if !ok {
		return nil
	}
	m := message{algorithm: s.algorithms[kmsapi.SignVerify][0], data: bytes.Repeat([]byte{0x55}, 32)}
	m.hash = hashOf(m.algorithm)
	signature, err := t.sign(rand.Reader, secret, m)
	if err != nil {
		return err
	}
	if valid, err := t.verify(secret, m, signature); err != nil || !valid {
		return errors.New("private and public key do not belong together")
	}
	return nil
}
