// SPDX-License-Identifier: Apache-2.0

// Package keyspec is the cryptography of every key spec of AWS KMS but SM2: it
// makes, checks and uses key material and knows no keys, no store, no requests.
//
// Key material is raw bytes for SYMMETRIC_DEFAULT and HMAC keys and PKCS #8 in
// DER for key pairs; public keys are SubjectPublicKeyInfo in DER, as GetPublicKey
// returns them. Errors are [*kmsapi.Error] in AWS's words and hold nothing of a
// key or a message. Sources: the AWS KMS Developer Guide (Key spec reference;
// Requirements for imported key material) and the API reference.
package keyspec

import (
	"crypto/sha256"
	"crypto/sha512"
	"io"
	"slices"

	"filippo.io/mldsa"

	"github.com/cretula/cretula/kms/kmsapi"
)

// The values of KeyUsage.
const (
	encryptDecrypt    = "ENCRYPT_DECRYPT"
	signVerify        = "SIGN_VERIFY"
	generateVerifyMac = "GENERATE_VERIFY_MAC"
	keyAgreement      = "KEY_AGREEMENT"
)

// A Spec is a key spec: a type of key material and what can be done with it. All
// methods are safe for concurrent use. A method that a spec has no algorithm for
// answers InvalidKeyUsageException.
type Spec struct {
	// Name is the value of KeySpec, such as "RSA_2048".
	Name string
	// Usages are the values of KeyUsage that a key of this spec can have, of
	// which it has one.
	Usages []string

	material   material
	algorithms map[string][]string // by usage, in the order of DescribeKey
}

// material makes and checks the secrets of a spec.
type material interface {
	generate(random io.Reader) ([]byte, error)
	// check reports why a secret that was not made by generate is none of the
	// spec. The error is a cause, not an answer.
	check(secret []byte) error
}

// A pairType is a material that is a key pair.
type pairType interface {
	material
	publicKey(secret []byte) ([]byte, error)
}

// A signingType is a pair that signs. The message type and the algorithm have
// been found to belong together, a digest to have the length of the algorithm.
type signingType interface {
	pairType
	sign(random io.Reader, secret []byte, m message) ([]byte, error)
	verify(secret []byte, m message, signature []byte) (bool, error)
}

var specs = map[string]*Spec{}

func init() {
	for _, s := range []*Spec{
		{Name: "SYMMETRIC_DEFAULT", material: rawKeys(32), algorithms: map[string][]string{
			encryptDecrypt: {"SYMMETRIC_DEFAULT"}}},
		rsaSpec("RSA_2048", 2048), rsaSpec("RSA_3072", 3072), rsaSpec("RSA_4096", 4096),
		nistSpec("ECC_NIST_P256", p256, "ECDSA_SHA_256"),
		nistSpec("ECC_NIST_P384", p384, "ECDSA_SHA_384"),
		nistSpec("ECC_NIST_P521", p521, "ECDSA_SHA_512"),
		{Name: "ECC_SECG_P256K1", material: koblitzKeys{}, algorithms: map[string][]string{
			signVerify: {"ECDSA_SHA_256"}}},
		{Name: "ECC_NIST_EDWARDS25519", material: edwardsKeys{}, algorithms: map[string][]string{
			signVerify: {"ED25519_SHA_512", "ED25519_PH_SHA_512"}}},
		latticeSpec("ML_DSA_44", latticeKeys{oidMLDSA44, mldsa.MLDSA44()}),
		latticeSpec("ML_DSA_65", latticeKeys{oidMLDSA65, mldsa.MLDSA65()}),
		latticeSpec("ML_DSA_87", latticeKeys{oidMLDSA87, mldsa.MLDSA87()}),
		macSpec("HMAC_224", sha256.Size224, "HMAC_SHA_224"),
		macSpec("HMAC_256", sha256.Size, "HMAC_SHA_256"),
		macSpec("HMAC_384", sha512.Size384, "HMAC_SHA_384"),
		macSpec("HMAC_512", sha512.Size, "HMAC_SHA_512"),
	} {
		for _, usage := range []string{encryptDecrypt, signVerify, generateVerifyMac, keyAgreement} {
			if s.algorithms[usage] != nil {
				s.Usages = append(s.Usages, usage)
			}
		}
		specs[s.Name] = s
	}
}

func rsaSpec(name string, bits int) *Spec {
	return &Spec{Name: name, material: rsaKeys(bits), algorithms: map[string][]string{
		encryptDecrypt: {"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"},
		signVerify: {
			"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512",
			"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512",
		},
	}}
}

func nistSpec(name string, c nistKeys, algorithm string) *Spec {
	return &Spec{Name: name, material: c, algorithms: map[string][]string{
		signVerify: {algorithm}, keyAgreement: {"ECDH"},
	}}
}

func latticeSpec(name string, keys latticeKeys) *Spec {
	return &Spec{Name: name, material: keys, algorithms: map[string][]string{signVerify: {"ML_DSA_SHAKE_256"}}}
}

func macSpec(name string, size int, algorithm string) *Spec {
	return &Spec{Name: name, material: rawKeys(size), algorithms: map[string][]string{generateVerifyMac: {algorithm}}}
}

// Lookup returns the spec of that name, nil if there is none or it is SM2.
func Lookup(name string) *Spec { return specs[name] }

// Asymmetric reports whether the material is a key pair.
func (s *Spec) Asymmetric() bool {
	_, ok := s.material.(pairType)
	return ok
}

// DefaultUsage returns the KeyUsage that CreateKey takes where the request has
// none: ENCRYPT_DECRYPT for SYMMETRIC_DEFAULT, "" for all others, which need one.
func (s *Spec) DefaultUsage() string {
	if s.Name == "SYMMETRIC_DEFAULT" {
		return encryptDecrypt
	}
	return ""
}

// Allows reports whether a key of the spec can have this usage.
func (s *Spec) Allows(usage string) bool { return slices.Contains(s.Usages, usage) }

// EncryptionAlgorithms returns the member of that name that DescribeKey and
// GetPublicKey show for a key of this usage, nil if they show none. The caller
// owns the slice, as that of the three methods below.
func (s *Spec) EncryptionAlgorithms(usage string) []string { return s.shown(usage, encryptDecrypt) }

// SigningAlgorithms is to SIGN_VERIFY what EncryptionAlgorithms is to
// ENCRYPT_DECRYPT.
func (s *Spec) SigningAlgorithms(usage string) []string { return s.shown(usage, signVerify) }

// MacAlgorithms is the same for GENERATE_VERIFY_MAC.
func (s *Spec) MacAlgorithms(usage string) []string { return s.shown(usage, generateVerifyMac) }

// KeyAgreementAlgorithms is the same for KEY_AGREEMENT.
func (s *Spec) KeyAgreementAlgorithms(usage string) []string { return s.shown(usage, keyAgreement) }

func (s *Spec) shown(usage, member string) []string {
	if usage != member {
		return nil
	}
	return slices.Clone(s.algorithms[usage])
}

// Generate makes key material from random. The packages rsa and ecdsa of the
// standard library take their randomness from the operating system, whatever
// random is.
func (s *Spec) Generate(random io.Reader) ([]byte, error) {
	secret, err := s.material.generate(random)
	if err != nil {
		return nil, kmsapi.Internal(err)
	}
	return secret, nil
}

// PublicKey returns the SubjectPublicKeyInfo of a key pair.
func (s *Spec) PublicKey(secret []byte) ([]byte, error) {
	t, ok := s.material.(pairType)
	if !ok {
		return nil, errNoPair(s)
	}
	spki, err := t.publicKey(secret)
	if err != nil {
		return nil, kmsapi.Internal(err)
	}
	return spki, nil
}

// compatible refuses an algorithm that the spec does not have for the usage.
func (s *Spec) compatible(usage, algorithm string) error {
	if !slices.Contains(s.algorithms[usage], algorithm) {
		return kmsapi.Errorf(kmsapi.InvalidKeyUsage, "Algorithm %s is incompatible with key spec %s.", algorithm, s.Name)
	}
	return nil
}

func errNoPair(s *Spec) error {
	return kmsapi.Errorf(kmsapi.UnsupportedOperation, "Key spec %s has no public key.", s.Name)
}
