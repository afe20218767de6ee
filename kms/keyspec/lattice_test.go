// SPDX-License-Identifier: Apache-2.0

package keyspec

import (
	"bytes"
	"crypto/rand"
	"crypto/sha3"
	"slices"
	"testing"

	"filippo.io/mldsa"
	mldsax509 "filippo.io/mldsa/x509"
	"github.com/cloudflare/circl/sign"
	"github.com/cloudflare/circl/sign/mldsa/mldsa44"
	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
	"github.com/cloudflare/circl/sign/mldsa/mldsa87"

	"github.com/cretula/cretula/kms/kmsapi"
)

// messageRepresentative computes μ (FIPS 204 §6.2) as a client of EXTERNAL_MU.
func messageRepresentative(public []byte, context string, message []byte) []byte {
	tr := sha3.SumSHAKE256(public, 64)
	h := sha3.NewSHAKE256()
	h.Write(tr)
	h.Write([]byte{0, byte(len(context))})
	h.Write([]byte(context))
	h.Write(message)
	mu := make([]byte, 64)
	h.Read(mu)
	return mu
}

var circls = map[string]sign.Scheme{"ML_DSA_44": mldsa44.Scheme(), "ML_DSA_65": mldsa65.Scheme(), "ML_DSA_87": mldsa87.Scheme()}

// What is signed here, circl verifies, and the other way round; both have the same
// key from the same seed.
func TestCirclAndWe(t *testing.T) {
	for name, scheme := range circls {
		s, secret := Lookup(name), secretOf(t, name)
		keys := s.material.(latticeKeys)
		private, _, err := keys.private(secret)
		if err != nil {
			t.Fatal(err)
		}
		theirPublic, theirPrivate := scheme.DeriveKey(private.Bytes())
		raw, err := theirPublic.MarshalBinary()
		if err != nil || !bytes.Equal(raw, private.PublicKey().Bytes()) {
			t.Fatalf("%s: another public key, %v", name, err)
		}
		message := []byte("message")
		mu := messageRepresentative(raw, "", message)
		theirs := scheme.Sign(theirPrivate, message, nil)
		withContext := scheme.Sign(theirPrivate, message, &sign.SignatureOpts{Context: "c"})
		for messageType, data := range map[string][]byte{"RAW": message, "EXTERNAL_MU": mu} {
			ours, err := s.Sign(rand.Reader, secret, "ML_DSA_SHAKE_256", messageType, data)
			if err != nil {
				t.Fatal(err)
			}
			if !scheme.Verify(theirPublic, message, ours, nil) {
				t.Errorf("%s %s: circl refuses our signature", name, messageType)
			}
			if scheme.Verify(theirPublic, message, ours, &sign.SignatureOpts{Context: "c"}) || scheme.Verify(theirPublic, mu, ours, nil) {
				t.Errorf("%s %s: a signature of something else", name, messageType)
			}
			if err := s.Verify(secret, "ML_DSA_SHAKE_256", messageType, data, theirs); err != nil {
				t.Errorf("%s %s: circl's signature: %v", name, messageType, err)
			}
			wantError(t, "context", s.Verify(secret, "ML_DSA_SHAKE_256", messageType, data, withContext), kmsapi.KMSInvalidSignature, "")
		}
		// μ taken for a message is another message.
		wantError(t, "μ as RAW", s.Verify(secret, "ML_DSA_SHAKE_256", "RAW", mu, theirs), kmsapi.KMSInvalidSignature, "")
	}
}

// The encodings are those of the library, which has them from RFC 9881.
func TestLatticeEncodings(t *testing.T) {
	for name := range circls {
		s, secret := Lookup(name), secretOf(t, name)
		parsed, err := mldsax509.ParsePKCS8PrivateKey(secret)
		if err != nil {
			t.Fatal(err)
		}
		again, err := mldsax509.MarshalPKCS8PrivateKey(parsed)
		if err != nil || !bytes.Equal(again, secret) {
			t.Errorf("%s: %x, the library has %x, %v", name, secret, again, err)
		}
		spki, err := s.PublicKey(secret)
		if err != nil {
			t.Fatal(err)
		}
		want, err := mldsax509.MarshalPKIXPublicKey(parsed.(*mldsa.PrivateKey).PublicKey())
		if err != nil || !bytes.Equal(spki, want) {
			t.Errorf("%s: another SubjectPublicKeyInfo, %v", name, err)
		}
	}
}

// Every byte of a signature counts, by μ as by message, and both ways of
// verification agree on each change.
func TestMuAndMessageAgree(t *testing.T) {
	for name := range circls {
		secret := secretOf(t, name)
		keys := Lookup(name).material.(latticeKeys)
		private, _, err := keys.private(secret)
		if err != nil {
			t.Fatal(err)
		}
		public, message := private.PublicKey().Bytes(), []byte("message")
		mu := messageRepresentative(public, "", message)
		signature, err := private.SignDeterministic(message, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !verifyMu(public, mu, signature) {
			t.Fatalf("%s: a valid signature refused", name)
		}
		p := parameterSets[len(public)]
		zEnd := len(signature) - p.omega - p.k
		positions := []int{0, p.challenge - 1, p.challenge, p.challenge + 7, zEnd - 1}
		for i := zEnd; i < len(signature); i++ {
			positions = append(positions, i)
		}
		for _, i := range positions {
			for _, value := range []byte{0, 1, 0x80, 0xff, signature[i] + 1, signature[i] - 1} {
				if value == signature[i] {
					continue
				}
				changed := slices.Clone(signature)
				changed[i] = value
				byMessage := mldsa.Verify(private.PublicKey(), message, changed, nil) == nil
				if byMu := verifyMu(public, mu, changed); byMu || byMessage {
					t.Errorf("%s: byte %d set to %d: by μ %v, by message %v", name, i, value, byMu, byMessage)
				}
			}
		}
		for what, c := range map[string][3][]byte{
			"short μ": {public, mu[:63], signature}, "long μ": {public, append(slices.Clone(mu), 0), signature},
			"short key": {public[1:], mu, signature}, "no key": {nil, mu, signature},
			"cut": {public, mu, signature[:len(signature)-1]}, "none": {public, mu, nil},
		} {
			if verifyMu(c[0], c[1], c[2]) {
				t.Errorf("%s: %s accepted", name, what)
			}
		}
	}
}

func TestLatticePrivateKeyForms(t *testing.T) {
	for name := range circls {
		s, secret := Lookup(name), secretOf(t, name)
		keys := s.material.(latticeKeys)
		scheme := circls[name]
		_, theirPrivate := scheme.DeriveKey(make([]byte, 32))
		expanded, err := theirPrivate.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		for what, key := range map[string][]byte{
			"expanded":       derTLV(0x04, expanded),
			"both":           derTLV(0x30, append(derTLV(0x04, make([]byte, 32)), derTLV(0x04, expanded)...)),
			"short seed":     derTLV(0x80, make([]byte, 31)),
			"long seed":      derTLV(0x80, make([]byte, 33)),
			"raw seed":       make([]byte, 32),
			"constructed":    derTLV(0xa0, derTLV(0x04, make([]byte, 32))),
			"trailing bytes": append(derTLV(0x80, make([]byte, 32)), 0),
			"nothing":        {},
		} {
			wantError(t, name+" "+what, s.Check(pkcs8(0, oidTLV(t, keys.oid), key, nil)), kmsapi.IncorrectKeyMaterial, "*")
		}
		public, err := s.PublicKey(secret)
		if err != nil {
			t.Fatal(err)
		}
		raw := public[len(public)-keys.parameters.PublicKeySize():]
		private, _, err := keys.private(secret)
		if err != nil {
			t.Fatal(err)
		}
		beside := derTLV(0x81, append([]byte{0}, raw...))
		if err := s.Check(pkcs8(1, oidTLV(t, keys.oid), derTLV(0x80, private.Bytes()), beside)); err != nil {
			t.Errorf("%s with its public key: %v", name, err)
		}
		wantError(t, name+" with another public key", s.Check(pkcs8(1, oidTLV(t, keys.oid), derTLV(0x80, make([]byte, 32)), beside)), kmsapi.IncorrectKeyMaterial, "*")
		if err := s.Check(pkcs8(0, oidTLV(t, keys.oid), derTLV(0x80, make([]byte, 32)), nil)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		wantError(t, name+" with parameters", s.Check(pkcs8(0, append(oidTLV(t, keys.oid), 5, 0), derTLV(0x80, make([]byte, 32)), nil)), kmsapi.IncorrectKeyMaterial, "*")
		for _, other := range names {
			if other != name && Lookup(other).Asymmetric() {
				wantError(t, name+" as "+other, Lookup(other).Check(secret), kmsapi.IncorrectKeyMaterial, "*")
			}
		}
	}
}
