// SPDX-License-Identifier: Apache-2.0

package cms

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"math/rand/v2"
	"testing"
)

// someKeys has a key of every size with every kind of exponent that there can be.
func someKeys(t testing.TB) (keys []*rsa.PublicKey) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	for _, bits := range []int{2048, 3072, 4096} {
		for _, e := range []int{65537, 65539, 1<<23 - 1, 1<<23 + 1, 1<<24 - 1, 1<<24 + 1, 1<<31 - 1} {
			n := make([]byte, bits/8)
			for i := range n {
				n[i] = byte(r.Int())
			}
			n[0] |= 0x80
			n[len(n)-1] |= 1
			key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: e}
			if err := checkKey(key); err != nil {
				t.Fatal(err)
			}
			keys = append(keys, key)
		}
	}
	return keys
}

// standard is what ParseRecipient is, by crypto/x509.
func standard(spki []byte) *Recipient {
	parsed, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil
	}
	key, _ := parsed.(*rsa.PublicKey)
	r, err := NewRecipient(key)
	if err != nil {
		return nil
	}
	if canonical, err := x509.MarshalPKIXPublicKey(key); err != nil || !bytes.Equal(canonical, spki) {
		return nil
	}
	return r
}

// sameRecipient checks ParseRecipient against crypto/x509 and tells whether it takes
// the key.
func sameRecipient(t testing.TB, spki []byte) bool {
	t.Helper()
	got, want := ParseRecipient(spki), standard(spki)
	if (got == nil) != (want == nil) || got != nil && (!got.key.Equal(&want.key) || got.identifier != want.identifier) {
		t.Fatalf("%x is %v, by crypto/x509 %v", spki, got, want)
	}
	return got != nil
}

// marshalKey writes what crypto/x509 writes.
func TestMarshalKey(t *testing.T) {
	for _, key := range someKeys(t) {
		want, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		if got := marshalKey(key); !bytes.Equal(got, want) {
			t.Errorf("%d bits, exponent %d: %x, want %x", key.N.BitLen(), key.E, got, want)
		}
	}
}

// ParseRecipient takes the keys that crypto/x509 reads and that Seal takes, in the
// encoding that crypto/x509 writes, and nothing else.
func TestParseRecipient(t *testing.T) {
	for _, key := range someKeys(t) {
		spki := marshalKey(key)
		r := ParseRecipient(spki)
		if r == nil || !r.key.Equal(key) || !sameRecipient(t, spki) {
			t.Fatalf("%d bits, exponent %d: %v", key.N.BitLen(), key.E, r)
		}
		identifier, err := KeyIdentifier(key)
		if err != nil || !bytes.Equal(r.identifier[:], identifier) {
			t.Errorf("identifier %x, want %x, %v", r.identifier, identifier, err)
		}
		taken := 0
		for i := range spki {
			if i >= keyHead+8 && i < len(spki)-16 {
				continue
			}
			for _, b := range []byte{0, 1, 2, 3, 0x7f, 0x80, 0x81, 0x83, 0xff, spki[i] + 1, spki[i] - 1, spki[i] ^ 0x80} {
				changed := bytes.Clone(spki)
				changed[i] = b
				if sameRecipient(t, changed) && b != spki[i] {
					taken++
				}
			}
			sameRecipient(t, spki[:i])
			sameRecipient(t, spki[i:])
			sameRecipient(t, append(append(bytes.Clone(spki[:i]), 0), spki[i:]...))
			sameRecipient(t, append(bytes.Clone(spki[:i]), spki[i+1:]...))
		}
		if taken == 0 {
			t.Error("no other key is taken")
		}
		clear(spki)
		if !r.key.Equal(key) {
			t.Error("the key refers to the encoding")
		}
	}
	for name, spki := range otherKeys(t) {
		if sameRecipient(t, spki) {
			t.Errorf("%s is taken", name)
		}
	}
}

// otherKeys are encodings of keys that are not taken.
func otherKeys(t testing.TB) map[string][]byte {
	t.Helper()
	key := someKeys(t)[0]
	marshal := func(key any) []byte {
		spki, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return spki
	}
	beyond := int64(1)<<31 + 1
	number := func(bits uint) *big.Int { return new(big.Int).SetBit(big.NewInt(1), int(bits)-1, 1) }
	curve, err := ecdsa.GenerateKey(elliptic.P384(), cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"nothing":             nil,
		"a key on P-384":      marshal(&curve.PublicKey),
		"exponent 3":          marshal(&rsa.PublicKey{N: key.N, E: 3}),
		"exponent 65535":      marshal(&rsa.PublicKey{N: key.N, E: 65535}),
		"exponent 65538":      marshal(&rsa.PublicKey{N: key.N, E: 65538}),
		"exponent 2^31+1":     marshal(&rsa.PublicKey{N: key.N, E: int(beyond)}),
		"2047 bits":           marshal(&rsa.PublicKey{N: number(2047), E: 65537}),
		"2049 bits":           marshal(&rsa.PublicKey{N: number(2049), E: 65537}),
		"2056 bits":           marshal(&rsa.PublicKey{N: number(2056), E: 65537}),
		"1024 bits":           marshal(&rsa.PublicKey{N: number(1024), E: 65537}),
		"8192 bits":           marshal(&rsa.PublicKey{N: number(8192), E: 65537}),
		"an even modulus":     marshal(&rsa.PublicKey{N: new(big.Int).Lsh(number(2047), 1), E: 65537}),
		"PKCS #1":             x509.MarshalPKCS1PublicKey(key),
		"something behind it": append(marshal(key), 0),
	}
}

// FuzzParseRecipient compares ParseRecipient with crypto/x509.
func FuzzParseRecipient(f *testing.F) {
	for _, key := range someKeys(f) {
		if spki := marshalKey(key); !sameRecipient(f, spki) {
			f.Fatal("a seed is not taken")
		} else {
			f.Add(spki)
		}
	}
	for _, spki := range otherKeys(f) {
		f.Add(spki)
	}
	f.Fuzz(func(t *testing.T, spki []byte) { sameRecipient(t, spki) })
}

func BenchmarkParseRecipient(b *testing.B) {
	spki := marshalKey(someKeys(b)[0])
	b.ReportAllocs()
	for b.Loop() {
		if ParseRecipient(spki) == nil {
			b.Fatal("refused")
		}
	}
}
