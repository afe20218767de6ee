// SPDX-License-Identifier: Apache-2.0

package keyspec

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/cretula/cretula/kms/kmsapi"
)

// rsaKeys are RSA keys with a modulus of so many bits.
type rsaKeys int

func (bits rsaKeys) generate(random io.Reader) ([]byte, error) {
	key, err := rsa.GenerateKey(random, int(bits))
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

// rsaPrivateKey returns the RSAPrivateKey (RFC 8017 A.1.2) in PKCS #8.
func rsaPrivateKey(secret []byte) ([]byte, error) {
	info, err := parsePKCS8(secret, oidRSA, null)
	if err == nil && info.public != nil {
		err = errNotPKCS8 // RSAPrivateKey has its public key inside
	}
	return info.key, err
}

// private parses and validates a key, which costs a small part of one use of it.
func (bits rsaKeys) private(secret []byte) (*rsa.PrivateKey, error) {
	der, err := rsaPrivateKey(secret)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS1PrivateKey(der)
	switch {
	case err != nil:
		return nil, err
	case key.N.BitLen() != int(bits):
		return nil, fmt.Errorf("the modulus has %d bits", key.N.BitLen())
	case len(key.Primes) != 2:
		return nil, errors.New("more than two primes")
	}
	return key, nil
}

// public reads the public part only: it stands in the open before the private
// one and needs no validation in material that was checked when it came.
func (bits rsaKeys) public(secret []byte) (*rsa.PublicKey, error) {
	der, err := rsaPrivateKey(secret)
	if err != nil {
		return nil, err
	}
	input, body := cryptobyte.String(der), cryptobyte.String(nil)
	var version int
	key := &rsa.PublicKey{N: new(big.Int)}
	if !input.ReadASN1(&body, tags.SEQUENCE) || !body.ReadASN1Integer(&version) ||
		!body.ReadASN1Integer(key.N) || !body.ReadASN1Integer(&key.E) {
		return nil, errNotPKCS8
	}
	return key, nil
}

func (bits rsaKeys) publicKey(secret []byte) ([]byte, error) {
	key, err := bits.public(secret)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKIXPublicKey(key)
}

// check holds a key against FIPS 186-5 A.1.1: e odd and above 2^16, two primes of
// half the length. crypto/rsa checks that the numbers belong together and that
// the primes are not close, but not that they are primes.
func (bits rsaKeys) check(secret []byte) error {
	key, err := bits.private(secret)
	if err != nil {
		return err
	}
	if key.E < 1<<16 || key.E&1 == 0 {
		return errors.New("the public exponent is not an odd number above 65536")
	}
	for _, prime := range key.Primes {
		if prime.BitLen() != int(bits)/2 || !prime.ProbablyPrime(20) {
			return errors.New("a factor is no prime of half the length")
		}
	}
	return nil
}

func (bits rsaKeys) encrypt(random io.Reader, secret []byte, hash crypto.Hash, plaintext []byte) ([]byte, error) {
	key, err := bits.public(secret)
	if err != nil {
		return nil, err
	}
	return rsa.EncryptOAEP(hash.New(), random, key, plaintext, nil)
}

// decryptOAEP says about a ciphertext that is wrong nothing but that.
func decryptOAEP(key *rsa.PrivateKey, hash crypto.Hash, ciphertext []byte) ([]byte, error) {
	refused := &kmsapi.Error{Code: kmsapi.InvalidCiphertext}
	// crypto/rsa takes shorter ones, as if zeros stood before them.
	if len(ciphertext) != key.Size() {
		return nil, refused
	}
	plaintext, err := rsa.DecryptOAEP(hash.New(), nil, key, ciphertext, nil)
	if err != nil {
		return nil, refused
	}
	return plaintext, nil
}

// pss are the parameters of AWS's RSASSA-PSS: MGF1 with the same hash and a salt
// as long as it.
func pss(m message) *rsa.PSSOptions {
	return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: m.hash}
}

func (m message) isPSS() bool { return strings.HasPrefix(m.algorithm, "RSASSA_PSS_") }

func (bits rsaKeys) sign(random io.Reader, secret []byte, m message) ([]byte, error) {
	key, err := bits.private(secret)
	if err != nil {
		return nil, err
	}
	if m.isPSS() {
		return rsa.SignPSS(random, key, m.hash, m.sum(), pss(m))
	}
	return rsa.SignPKCS1v15(nil, key, m.hash, m.sum())
}

func (bits rsaKeys) verify(secret []byte, m message, signature []byte) (bool, error) {
	key, err := bits.public(secret)
	if err != nil {
		return false, err
	}
	return verifyRSA(key, m, signature), nil
}

func verifyRSA(key *rsa.PublicKey, m message, signature []byte) bool {
	if m.isPSS() {
		return rsa.VerifyPSS(key, m.hash, m.sum(), signature, pss(m)) == nil
	}
	return rsa.VerifyPKCS1v15(key, m.hash, m.sum(), signature) == nil
}
