// SPDX-License-Identifier: Apache-2.0

// Package keyspec is the cryptography of the key specs of AWS KMS, all but SM2 and
// ML-KEM: it makes, checks and uses key material and knows no keys, no store, no
// requests.
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

// A pairType is a material that is a key pair. What it signs has been checked by
// prepare; the errors of verify are those of the secret.
type pairType interface {
	material
	publicKey(secret []byte) ([]byte, error)
	sign(random io.Reader, secret []byte, m message) ([]byte, error)
	verify(secret []byte, m message, signature []byte) (bool, error)
}

var specs = map[string]*Spec{}

func init() {
	for _, s := range []*Spec{
		{Name: kmsapi.SymmetricDefault, material: rawKeys(32), algorithms: map[string][]string{
			kmsapi.EncryptDecrypt: {kmsapi.SymmetricDefault}}},
		rsaSpec(kmsapi.SpecRSA2048, 2048), rsaSpec(kmsapi.SpecRSA3072, 3072), rsaSpec(kmsapi.SpecRSA4096, 4096),
		nistSpec(kmsapi.SpecECCNISTP256, p256, kmsapi.ECDSASHA256),
		nistSpec(kmsapi.SpecECCNISTP384, p384, kmsapi.ECDSASHA384),
		nistSpec(kmsapi.SpecECCNISTP521, p521, kmsapi.ECDSASHA512),
		{Name: kmsapi.SpecECCSECGP256K1, material: koblitzKeys{}, algorithms: map[string][]string{
			kmsapi.SignVerify: {kmsapi.ECDSASHA256}}},
		{Name: kmsapi.SpecECCNISTEdwards25519, material: edwardsKeys{}, algorithms: map[string][]string{
			kmsapi.SignVerify: {kmsapi.ED25519SHA512, kmsapi.ED25519PHSHA512}}},
		latticeSpec(kmsapi.SpecMLDSA44, latticeKeys{oidMLDSA44, mldsa.MLDSA44()}),
		latticeSpec(kmsapi.SpecMLDSA65, latticeKeys{oidMLDSA65, mldsa.MLDSA65()}),
		latticeSpec(kmsapi.SpecMLDSA87, latticeKeys{oidMLDSA87, mldsa.MLDSA87()}),
		macSpec(kmsapi.SpecHMAC224, sha256.Size224, kmsapi.HMACSHA224),
		macSpec(kmsapi.SpecHMAC256, sha256.Size, kmsapi.HMACSHA256),
		macSpec(kmsapi.SpecHMAC384, sha512.Size384, kmsapi.HMACSHA384),
		macSpec(kmsapi.SpecHMAC512, sha512.Size, kmsapi.HMACSHA512),
	} {
		for _, usage := range []string{kmsapi.EncryptDecrypt, kmsapi.SignVerify, kmsapi.GenerateVerifyMAC, kmsapi.KeyAgreement} {
			if s.algorithms[usage] != nil {
				s.Usages = append(s.Usages, usage)
			}
		}
		specs[s.Name] = s
	}
}

func rsaSpec(name string, bits int) *Spec {
	return &Spec{Name: name, material: rsaKeys(bits), algorithms: map[string][]string{
		kmsapi.EncryptDecrypt: {kmsapi.RSAESOAEPSHA1, kmsapi.RSAESOAEPSHA256},
		kmsapi.SignVerify: {
			kmsapi.RSASSAPKCS1V15SHA256, kmsapi.RSASSAPKCS1V15SHA384, kmsapi.RSASSAPKCS1V15SHA512,
			kmsapi.RSASSAPSSSHA256, kmsapi.RSASSAPSSSHA384, kmsapi.RSASSAPSSSHA512,
		},
	}}
}

func nistSpec(name string, c nistKeys, algorithm string) *Spec {
	return &Spec{Name: name, material: c, algorithms: map[string][]string{
		kmsapi.SignVerify: {algorithm}, kmsapi.KeyAgreement: {kmsapi.ECDH},
	}}
}

func latticeSpec(name string, keys latticeKeys) *Spec {
	return &Spec{Name: name, material: keys, algorithms: map[string][]string{kmsapi.SignVerify: {kmsapi.MLDSASHAKE256}}}
}

func macSpec(name string, size int, algorithm string) *Spec {
	return &Spec{Name: name, material: rawKeys(size), algorithms: map[string][]string{kmsapi.GenerateVerifyMAC: {algorithm}}}
}

// Lookup returns the spec of that name, nil if it is none of this package's.
func Lookup(name string) *Spec { return specs[name] }

// Asymmetric reports whether the material is a key pair.
func (s *Spec) Asymmetric() bool {
	_, ok := s.material.(pairType)
	return ok
}

// DefaultUsage returns the KeyUsage that CreateKey takes where the request has
// none: ENCRYPT_DECRYPT for SYMMETRIC_DEFAULT, "" for all others, which need one.
func (s *Spec) DefaultUsage() string {
	if s.Name == kmsapi.SymmetricDefault {
		return kmsapi.EncryptDecrypt
	}
	return ""
}

// Allows reports whether a key of the spec can have this usage.
func (s *Spec) Allows(usage string) bool { return slices.Contains(s.Usages, usage) }

// EncryptionAlgorithms returns the member of that name that DescribeKey and
// GetPublicKey show for a key of this usage, nil if they show none. The caller
// owns the slice, as that of the three methods below.
func (s *Spec) EncryptionAlgorithms(usage string) []string {
	return s.shown(usage, kmsapi.EncryptDecrypt)
}

// Encrypts tells whether algorithm is one of EncryptionAlgorithms.
func (s *Spec) Encrypts(usage, algorithm string) bool {
	return usage == kmsapi.EncryptDecrypt && slices.Contains(s.algorithms[usage], algorithm)
}

// SigningAlgorithms is to SIGN_VERIFY what EncryptionAlgorithms is to
// ENCRYPT_DECRYPT.
func (s *Spec) SigningAlgorithms(usage string) []string { return s.shown(usage, kmsapi.SignVerify) }

// MacAlgorithms is the same for GENERATE_VERIFY_MAC.
func (s *Spec) MacAlgorithms(usage string) []string { return s.shown(usage, kmsapi.GenerateVerifyMAC) }

// KeyAgreementAlgorithms is the same for KEY_AGREEMENT.
func (s *Spec) KeyAgreementAlgorithms(usage string) []string {
	return s.shown(usage, kmsapi.KeyAgreement)
}

func (s *Spec) shown(usage, member string) []string {
	if usage != member {
		return nil
	}
	return slices.Clone(s.algorithms[usage])
}

// Generate makes key material from random, except for RSA and NIST curves: there,
// as for their signatures and for RSA encryption, the standard library takes its
// randomness from the operating system, whatever random is.
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
		return nil, kmsapi.Errorf(kmsapi.UnsupportedOperation, "Key spec %s has no public key.", s.Name)
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
		return s.incompatible(algorithm)
	}
	return nil
}

func (s *Spec) incompatible(algorithm string) error {
	return kmsapi.Errorf(kmsapi.InvalidKeyUsage, "Algorithm %s is incompatible with key spec %s.", algorithm, s.Name)
}
