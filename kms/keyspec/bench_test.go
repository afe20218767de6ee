// SPDX-License-Identifier: Apache-2.0

package keyspec

import (
	"crypto/rand"
	"testing"
)

// What a request costs beside the private operation is in BenchmarkParse.
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

// What stands before each private operation.
func BenchmarkParse(b *testing.B) {
	for _, name := range names {
		secret := secretOf(b, name)
		var parse func() error
		switch m := Lookup(name).material.(type) {
		case rsaKeys:
			parse = func() error { _, err := m.private(secret); return err }
		case nistKeys:
			parse = func() error {
				key, err := m.parse(secret)
				if err == nil {
					_, err = m.signer(key)
				}
				return err
			}
		case koblitzKeys:
			parse = func() error { _, _, err := m.private(secret); return err }
		case edwardsKeys:
			parse = func() error { _, _, err := m.private(secret); return err }
		case latticeKeys:
			parse = func() error { _, _, err := m.private(secret); return err }
		default:
			continue
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := parse(); err != nil {
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
