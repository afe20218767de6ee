// SPDX-License-Identifier: Apache-2.0

package keyspec

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"testing"
)

// What a request costs beside the private operation is the difference between
// Sign and SignParsed, Decrypt and DecryptParsed.
func BenchmarkSign(b *testing.B) {
	for _, name := range names {
		s := Lookup(name)
		for _, algorithm := range s.SigningAlgorithms("SIGN_VERIFY")[:min(1, len(s.SigningAlgorithms("SIGN_VERIFY")))] {
			b.Run(name, func(b *testing.B) {
				secret := secretOf(b, name)
				for b.Loop() {
					if _, err := s.Sign(rand.Reader, secret, algorithm, "RAW", []byte("message")); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, name := range names {
		s := Lookup(name)
		for _, algorithm := range s.SigningAlgorithms("SIGN_VERIFY")[:min(1, len(s.SigningAlgorithms("SIGN_VERIFY")))] {
			b.Run(name, func(b *testing.B) {
				secret := secretOf(b, name)
				signature, err := s.Sign(rand.Reader, secret, algorithm, "RAW", []byte("message"))
				if err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					if err := s.Verify(secret, algorithm, "RAW", []byte("message"), signature); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkSignParsed(b *testing.B) {
	digest := sha256.Sum256([]byte("message"))
	for name, bits := range map[string]rsaKeys{"RSA_2048": 2048, "RSA_3072": 3072, "RSA_4096": 4096} {
		b.Run(name, func(b *testing.B) {
			key, err := bits.private(secretOf(b, name))
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecrypt(b *testing.B) {
	for _, name := range []string{"RSA_2048", "RSA_3072", "RSA_4096"} {
		b.Run(name, func(b *testing.B) {
			s, secret := Lookup(name), secretOf(b, name)
			ciphertext, err := s.Encrypt(rand.Reader, secret, "RSAES_OAEP_SHA_256", []byte("message"))
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := s.Decrypt(secret, "RSAES_OAEP_SHA_256", ciphertext); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseRSA(b *testing.B) {
	for name, bits := range map[string]rsaKeys{"RSA_2048": 2048, "RSA_3072": 3072, "RSA_4096": 4096} {
		b.Run(name, func(b *testing.B) {
			secret := secretOf(b, name)
			for b.Loop() {
				if _, err := bits.private(secret); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerifyMu(b *testing.B) {
	s, secret, mu := Lookup("ML_DSA_65"), secretOf(b, "ML_DSA_65"), make([]byte, 64)
	signature, err := s.Sign(rand.Reader, secret, "ML_DSA_SHAKE_256", "EXTERNAL_MU", mu)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := s.Verify(secret, "ML_DSA_SHAKE_256", "EXTERNAL_MU", mu, signature); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSignParsedEC(b *testing.B) {
	for name, k := range map[string]nistKeys{"ECC_NIST_P256": p256, "ECC_NIST_P384": p384, "ECC_NIST_P521": p521} {
		b.Run(name, func(b *testing.B) {
			key, err := k.parse(secretOf(b, name))
			if err != nil {
				b.Fatal(err)
			}
			private, err := k.signer(key)
			if err != nil {
				b.Fatal(err)
			}
			digest := make([]byte, 32)
			for b.Loop() {
				if _, err := ecdsa.SignASN1(rand.Reader, private, digest); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
