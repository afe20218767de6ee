// SPDX-License-Identifier: Apache-2.0

package keyspec

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha3"
	"crypto/x509"
	"math/big"
	"slices"
	"sync"
	"testing"

	"github.com/cretula/cretula/kms/kmsapi"
)

// fixed returns a key that is the same in all processes of a fuzz run: the seeds of
// one are tried in others.
func fixed(t testing.TB, name string) []byte {
	t.Helper()
	stream := sha3.NewSHAKE128()
	stream.Write([]byte(name))
	if name == "RSA_2048" {
		return fixedRSA(t)
	}
	if k, ok := Lookup(name).material.(nistKeys); ok {
		private, err := k.ecdh.NewPrivateKey(append(make([]byte, (k.curve.Params().BitSize+7)/8-1), 7))
		if err != nil {
			t.Fatal(err)
		}
		secret, err := marshalEC(k.oid, private.Bytes(), private.PublicKey().Bytes())
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	secret, err := Lookup(name).Generate(stream)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

var fixedRSA = func() func(t testing.TB) []byte {
	made := sync.OnceValues(func() ([]byte, error) {
		key := &rsa.PrivateKey{PublicKey: rsa.PublicKey{E: 65537}}
		one, e := big.NewInt(1), big.NewInt(65537)
		stream := sha3.NewSHAKE128()
		for len(key.Primes) < 2 {
			b := make([]byte, 128)
			stream.Read(b)
			b[0] |= 0xc0
			b[127] |= 1
			p := new(big.Int).SetBytes(b)
			if p.ProbablyPrime(1) && new(big.Int).GCD(nil, nil, e, new(big.Int).Sub(p, one)).Cmp(one) == 0 {
				key.Primes = append(key.Primes, p)
			}
		}
		p, q := key.Primes[0], key.Primes[1]
		key.N = new(big.Int).Mul(p, q)
		key.D = new(big.Int).ModInverse(e, new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)))
		return x509.MarshalPKCS8PrivateKey(key)
	})
	return func(t testing.TB) []byte {
		secret, err := made()
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
}()

// fuzzed are the specs with fixed keys; the longer RSA keys have the code of the
// shortest.
var fuzzed = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == "RSA_3072" || name == "RSA_4096" })

// FuzzCheck: no panic, no error but the one, and what is accepted as key material
// of a spec can be used: its public key is found and it signs what it verifies.
func FuzzCheck(f *testing.F) {
	for i, name := range fuzzed {
		if err := Lookup(name).Check(fixed(f, name)); err != nil {
			f.Fatal(err)
		}
		f.Add(byte(i), fixed(f, name))
	}
	id := oidTLV(f, oidEC, oidP256)
	f.Add(byte(slices.Index(fuzzed, "ECC_NIST_P256")), pkcs8(0, id, derTLV(0x30, append([]byte{2, 1, 1}, derTLV(4, bytes.Repeat([]byte{1}, 32))...)), nil))
	f.Add(byte(slices.Index(fuzzed, "ECC_NIST_EDWARDS25519")), pkcs8(1, oidTLV(f, oidEd25519), derTLV(4, make([]byte, 32)), derTLV(0x81, make([]byte, 33))))
	f.Fuzz(func(t *testing.T, which byte, secret []byte) {
		s := Lookup(fuzzed[int(which)%len(fuzzed)])
		kept := bytes.Clone(secret)
		err := s.Check(secret)
		if !bytes.Equal(secret, kept) {
			t.Fatal("the material was changed")
		}
		if s.Asymmetric() { // unchecked material is refused too, or at least survived
			_, _ = s.PublicKey(secret)
			_ = s.Verify(secret, s.SigningAlgorithms("SIGN_VERIFY")[0], "RAW", []byte("m"), make([]byte, 64))
		}
		if err != nil {
			wantError(t, s.Name, err, kmsapi.IncorrectKeyMaterial, "The key material is not valid for key spec "+s.Name+".")
			return
		}
		if !s.Asymmetric() {
			return
		}
		if _, err := s.PublicKey(secret); err != nil {
			t.Fatal(err)
		}
		algorithm := s.SigningAlgorithms("SIGN_VERIFY")[0]
		signature, err := s.Sign(rand.Reader, secret, algorithm, "RAW", []byte("m"))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Verify(secret, algorithm, "RAW", []byte("m"), signature); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzVerify: no panic, no error but the two of Verify, and nothing is valid for a
// message that was not signed.
func FuzzVerify(f *testing.F) {
	signing := []struct{ spec, algorithm, messageType string }{
		{"RSA_2048", "RSASSA_PSS_SHA_256", "RAW"}, {"RSA_2048", "RSASSA_PKCS1_V1_5_SHA_512", "RAW"},
		{"ECC_NIST_P256", "ECDSA_SHA_256", "RAW"}, {"ECC_NIST_P384", "ECDSA_SHA_384", "RAW"}, {"ECC_NIST_P521", "ECDSA_SHA_512", "RAW"},
		{"ECC_SECG_P256K1", "ECDSA_SHA_256", "RAW"}, {"ECC_NIST_EDWARDS25519", "ED25519_SHA_512", "RAW"},
		{"ECC_NIST_EDWARDS25519", "ED25519_PH_SHA_512", "DIGEST"}, {"ML_DSA_44", "ML_DSA_SHAKE_256", "RAW"},
		{"ML_DSA_44", "ML_DSA_SHAKE_256", "EXTERNAL_MU"}, {"ML_DSA_65", "ML_DSA_SHAKE_256", "EXTERNAL_MU"}, {"ML_DSA_87", "ML_DSA_SHAKE_256", "EXTERNAL_MU"},
	}
	message := make([]byte, 64)
	for i, c := range signing {
		signature, err := Lookup(c.spec).Sign(rand.Reader, fixed(f, c.spec), c.algorithm, c.messageType, message)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(i), message, signature)
		f.Add(byte(i), []byte("other"), signature)
		if err := Lookup(c.spec).Verify(fixed(f, c.spec), c.algorithm, c.messageType, message, signature); err != nil {
			f.Fatal(err)
		}
		signature = bytes.Clone(signature)
		signature[len(signature)-1] ^= 0xff
		f.Add(byte(i), message, signature)
	}
	f.Fuzz(func(t *testing.T, which byte, data, signature []byte) {
		c := signing[int(which)%len(signing)]
		s, secret := Lookup(c.spec), fixed(t, c.spec)
		err := s.Verify(secret, c.algorithm, c.messageType, data, signature)
		if err == nil {
			if !bytes.Equal(data, message) {
				t.Fatalf("%s: a signature of %x", c.algorithm, data)
			}
			return
		}
		if e := err.(*kmsapi.Error); e.Code == kmsapi.KMSInternal {
			t.Fatal(err)
		}
	})
}

// FuzzDerive: no panic; a peer is refused with the one error or gives a secret
// that is as long as the field, and its encoding is the only one of its point.
func FuzzDerive(f *testing.F) {
	curves := []string{"ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521"}
	for i := range curves {
		for _, name := range []string{"ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_SECG_P256K1", "RSA_2048"} {
			spki, err := Lookup(name).PublicKey(fixed(f, name))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(byte(i), spki)
		}
	}
	f.Fuzz(func(t *testing.T, which byte, spki []byte) {
		name := curves[int(which)%len(curves)]
		s := Lookup(name)
		shared, err := s.Derive(fixed(t, name), spki)
		if err != nil {
			wantError(t, name, err, kmsapi.Validation, "")
			return
		}
		keys := s.material.(nistKeys)
		if want := (keys.curve.Params().BitSize + 7) / 8; len(shared) != want {
			t.Fatalf("%d bytes, want %d", len(shared), want)
		}
		peer, err := keys.peer(spki)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := marshalSPKI(peer.Bytes(), oidEC, keys.oid); err != nil || !bytes.Equal(again, spki) {
			t.Fatalf("%x has the other encoding %x, %v", spki, again, err)
		}
	})
}

// FuzzUnwrap: no panic, one error, and material never longer than what came in.
func FuzzUnwrap(f *testing.F) {
	w, err := ParseWrappingKey(fixed(f, "RSA_2048"))
	if err != nil {
		f.Fatal(err)
	}
	spki, err := Lookup("RSA_2048").PublicKey(fixed(f, "RSA_2048"))
	if err != nil {
		f.Fatal(err)
	}
	for i, algorithm := range wrappingAlgorithms {
		encrypted := wrap(f, spki, algorithm, make([]byte, 32))
		f.Add(byte(i), encrypted)
		f.Add(byte(i), encrypted[:len(encrypted)-8])
	}
	f.Fuzz(func(t *testing.T, which byte, encrypted []byte) {
		algorithm := wrappingAlgorithms[int(which)%len(wrappingAlgorithms)]
		secret, err := w.Unwrap(algorithm, encrypted)
		if err != nil {
			wantError(t, algorithm, err, kmsapi.InvalidCiphertext, "")
		}
		if err != nil && secret != nil || len(secret) > len(encrypted) {
			t.Fatalf("%d bytes, %v", len(secret), err)
		}
	})
}

// FuzzUnwrapPadded reaches what lies behind the RSA layer: what is accepted is what
// was wrapped.
func FuzzUnwrapPadded(f *testing.F) {
	key := make([]byte, 32)
	for _, n := range []int{1, 7, 8, 9, 32, 48, 1200} {
		f.Add(append(initialValue(n), make([]byte, (n+7)/8*8)...))
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		if len(plain) < 16 || len(plain)%8 != 0 {
			_, _ = unwrapPadded(key, plain)
			return
		}
		wrapped := wrapRaw(t, key, plain)
		secret, err := unwrapPadded(key, wrapped)
		if err != nil {
			if secret != nil {
				t.Fatal("material beside an error")
			}
			return
		}
		if again := wrapPadded(t, key, secret); !bytes.Equal(again, wrapped) {
			t.Fatalf("%x wraps as %x too", secret, again)
		}
	})
}
