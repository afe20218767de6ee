// SPDX-License-Identifier: Apache-2.0

package keyspec

import (
	"bytes"
	"crypto/rand"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/cretula/cretula/kms/kmsapi"
)

// names are all specs, in the order of the enumeration of the service model.
var names = []string{
	"RSA_2048", "RSA_3072", "RSA_4096", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_SECG_P256K1",
	"SYMMETRIC_DEFAULT", "HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512", "ML_DSA_44", "ML_DSA_65", "ML_DSA_87",
	"ECC_NIST_EDWARDS25519",
}

// made holds one secret per spec: RSA pairs take long.
var made = sync.OnceValues(func() (map[string][]byte, error) {
	secrets := map[string][]byte{}
	for _, name := range names {
		secret, err := Lookup(name).Generate(rand.Reader)
		if err != nil {
			return nil, err
		}
		secrets[name] = secret
	}
	return secrets, nil
})

// secretOf returns the tests' key of a spec.
func secretOf(t testing.TB, name string) []byte {
	t.Helper()
	secrets, err := made()
	if err != nil {
		t.Fatal(err)
	}
	return secrets[name]
}

// wantError compares an error with a code and, unless it is "*", a message.
func wantError(t testing.TB, what string, err error, code kmsapi.Code, message string) {
	t.Helper()
	e, ok := errors.AsType[*kmsapi.Error](err)
	switch {
	case !ok:
		t.Errorf("%s: got %v, want %s", what, err, code)
	case e.Code != code, message != "*" && e.Message != message:
		t.Errorf("%s: got %s %q, want %s %q", what, e.Code, e.Message, code, message)
	}
}

func incompatible(algorithm, spec string) string {
	return "Algorithm " + algorithm + " is incompatible with key spec " + spec + "."
}

func TestEverySpec(t *testing.T) {
	if len(specs) != len(names) {
		t.Errorf("%d specs, want %d", len(specs), len(names))
	}
	for _, name := range names {
		s := Lookup(name)
		if s == nil || s.Name != name {
			t.Fatalf("no spec %s", name)
		}
		if len(s.Usages) == 0 {
			t.Errorf("%s: no usage", name)
		}
	}
	for _, name := range []string{"", "SM2", "RSA_1024", "rsa_2048", "HMAC_random", "ECC_NIST_P224", "AES_256", "ML_DSA_128"} {
		if Lookup(name) != nil {
			t.Errorf("a spec %q", name)
		}
	}
}

// Without randomness there is no key; RSA and NIST curves have their own.
func TestGenerateWithoutRandomness(t *testing.T) {
	for _, name := range names {
		s := Lookup(name)
		switch s.material.(type) {
		case rsaKeys, nistKeys:
			continue
		}
		secret, err := s.Generate(bytes.NewReader(make([]byte, 15)))
		wantError(t, name, err, kmsapi.KMSInternal, "*")
		if secret != nil {
			t.Errorf("%s: a key beside an error", name)
		}
	}
}

func TestUsages(t *testing.T) {
	all := []string{"ENCRYPT_DECRYPT", "SIGN_VERIFY", "GENERATE_VERIFY_MAC", "KEY_AGREEMENT"}
	for name, want := range map[string][]string{
		"SYMMETRIC_DEFAULT": all[:1], "RSA_2048": all[:2], "RSA_3072": all[:2], "RSA_4096": all[:2],
		"ECC_NIST_P256": {all[1], all[3]}, "ECC_NIST_P384": {all[1], all[3]}, "ECC_NIST_P521": {all[1], all[3]},
		"ECC_SECG_P256K1": all[1:2], "ECC_NIST_EDWARDS25519": all[1:2],
		"ML_DSA_44": all[1:2], "ML_DSA_65": all[1:2], "ML_DSA_87": all[1:2],
		"HMAC_224": all[2:3], "HMAC_256": all[2:3], "HMAC_384": all[2:3], "HMAC_512": all[2:3],
	} {
		s := Lookup(name)
		if !slices.Equal(s.Usages, want) {
			t.Errorf("%s: %v, want %v", name, s.Usages, want)
		}
		for _, usage := range append(all, "", "sign_verify") {
			if s.Allows(usage) != slices.Contains(want, usage) {
				t.Errorf("%s: %s allowed: %v", name, usage, s.Allows(usage))
			}
		}
		wantDefault := ""
		if name == "SYMMETRIC_DEFAULT" {
			wantDefault = "ENCRYPT_DECRYPT"
		}
		if s.DefaultUsage() != wantDefault {
			t.Errorf("%s: default usage %q", name, s.DefaultUsage())
		}
		symmetric := name == "SYMMETRIC_DEFAULT" || name[:4] == "HMAC"
		if s.Asymmetric() == symmetric {
			t.Errorf("%s: asymmetric: %v", name, s.Asymmetric())
		}
	}
}

func TestShownAlgorithms(t *testing.T) {
	rsaSigning := []string{"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512",
		"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512"}
	for _, c := range []struct {
		spec, usage string
		kind        int
		want        []string
	}{
		{"SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", 0, []string{"SYMMETRIC_DEFAULT"}},
		{"RSA_2048", "ENCRYPT_DECRYPT", 0, []string{"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"}},
		{"RSA_4096", "SIGN_VERIFY", 1, rsaSigning},
		{"ECC_NIST_P256", "SIGN_VERIFY", 1, []string{"ECDSA_SHA_256"}},
		{"ECC_NIST_P384", "SIGN_VERIFY", 1, []string{"ECDSA_SHA_384"}},
		{"ECC_NIST_P521", "SIGN_VERIFY", 1, []string{"ECDSA_SHA_512"}},
		{"ECC_SECG_P256K1", "SIGN_VERIFY", 1, []string{"ECDSA_SHA_256"}},
		{"ECC_NIST_EDWARDS25519", "SIGN_VERIFY", 1, []string{"ED25519_SHA_512", "ED25519_PH_SHA_512"}},
		{"ML_DSA_65", "SIGN_VERIFY", 1, []string{"ML_DSA_SHAKE_256"}},
		{"HMAC_224", "GENERATE_VERIFY_MAC", 2, []string{"HMAC_SHA_224"}},
		{"HMAC_512", "GENERATE_VERIFY_MAC", 2, []string{"HMAC_SHA_512"}},
		{"ECC_NIST_P521", "KEY_AGREEMENT", 3, []string{"ECDH"}},
		{"RSA_2048", "KEY_AGREEMENT", 3, nil},
		{"ECC_NIST_P256", "ENCRYPT_DECRYPT", 0, nil},
	} {
		s := Lookup(c.spec)
		for kind, f := range []func(string) []string{s.EncryptionAlgorithms, s.SigningAlgorithms, s.MacAlgorithms, s.KeyAgreementAlgorithms} {
			want := c.want
			if kind != c.kind {
				want = nil
			}
			got := f(c.usage)
			if !slices.Equal(got, want) || (got == nil) != (want == nil) {
				t.Errorf("%s %s, list %d: %v, want %v", c.spec, c.usage, kind, got, want)
			}
			for i := range got {
				got[i] = "changed by the caller"
			}
		}
	}
	if got := Lookup("ECC_NIST_P521").KeyAgreementAlgorithms("KEY_AGREEMENT"); got[0] != "ECDH" {
		t.Error("a caller changed the table")
	}
}

// eachSigning calls f for every algorithm of every spec that signs, with a
// message type and a message of that type.
func eachSigning(t *testing.T, f func(s *Spec, secret []byte, algorithm, messageType string, message []byte)) {
	t.Helper()
	n := 0
	for _, name := range names {
		s := Lookup(name)
		for _, algorithm := range s.SigningAlgorithms("SIGN_VERIFY") {
			for messageType, size := range map[string]int{"RAW": 4096, "DIGEST": hashSize(algorithm), "EXTERNAL_MU": 64} {
				mu, ed, ph := algorithm == "ML_DSA_SHAKE_256", algorithm == "ED25519_SHA_512", algorithm == "ED25519_PH_SHA_512"
				if messageType == "EXTERNAL_MU" && !mu || messageType == "DIGEST" && (mu || ed) || messageType == "RAW" && ph {
					continue
				}
				message := make([]byte, size)
				rand.Read(message)
				f(s, secretOf(t, name), algorithm, messageType, message)
				n++
			}
		}
	}
	if n != 3*6*2+4*2+2+3*2 {
		t.Fatalf("%d combinations", n)
	}
}

func hashSize(algorithm string) int {
	if h := hashOf(algorithm); h != 0 {
		return h.Size()
	}
	return 0
}

func TestSignAndVerify(t *testing.T) {
	eachSigning(t, func(s *Spec, secret []byte, algorithm, messageType string, message []byte) {
		what := s.Name + " " + algorithm + " " + messageType
		signature, err := s.Sign(rand.Reader, secret, algorithm, messageType, message)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if err := s.Verify(secret, algorithm, messageType, message, signature); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		invalid := func(how string, message, signature []byte) {
			t.Helper()
			wantError(t, what+": "+how, s.Verify(secret, algorithm, messageType, message, signature), kmsapi.KMSInvalidSignature, "")
		}
		other := slices.Clone(message)
		other[len(other)-1] ^= 1
		invalid("other message", other, signature)
		for _, i := range []int{0, 1, len(signature) / 2, len(signature) - 1} {
			other := slices.Clone(signature)
			other[i] ^= 4
			invalid("other signature", message, other)
		}
		invalid("cut", message, signature[:len(signature)-1])
		invalid("longer", message, append(slices.Clone(signature), 0))
		invalid("empty", message, []byte{})
		invalid("nil", message, nil)
		invalid("zeros", message, make([]byte, len(signature)))
	})
}

func TestVerifyUnderAnotherKey(t *testing.T) {
	for _, name := range []string{"ECC_NIST_P256", "ECC_SECG_P256K1", "ECC_NIST_EDWARDS25519", "ML_DSA_44"} {
		s := Lookup(name)
		algorithm := s.SigningAlgorithms("SIGN_VERIFY")[0]
		signature, err := s.Sign(rand.Reader, secretOf(t, name), algorithm, "RAW", []byte("m"))
		if err != nil {
			t.Fatal(err)
		}
		other, err := s.Generate(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, name, s.Verify(other, algorithm, "RAW", []byte("m"), signature), kmsapi.KMSInvalidSignature, "")
	}
}

// RAW is the default, RAW and DIGEST are two ways to the same signature, PSS and
// PKCS #1 are not.
func TestMessageTypes(t *testing.T) {
	for name, algorithm := range map[string]string{"RSA_2048": "RSASSA_PSS_SHA_384", "ECC_NIST_P384": "ECDSA_SHA_384", "ECC_SECG_P256K1": "ECDSA_SHA_256"} {
		s, secret := Lookup(name), secretOf(t, name)
		signature, err := s.Sign(rand.Reader, secret, algorithm, "", []byte("message"))
		if err != nil {
			t.Fatal(err)
		}
		h := hashOf(algorithm).New()
		h.Write([]byte("message"))
		if err := s.Verify(secret, algorithm, "DIGEST", h.Sum(nil), signature); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := s.Verify(secret, algorithm, "RAW", []byte("message"), signature); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(h.Sum(nil)) == 48 && name == "RSA_2048" {
			wantError(t, "padding", s.Verify(secret, "RSASSA_PKCS1_V1_5_SHA_384", "RAW", []byte("message"), signature), kmsapi.KMSInvalidSignature, "")
		}
	}
}

func TestSignRefuses(t *testing.T) {
	long, sum := make([]byte, 4097), make([]byte, 32)
	for _, c := range []struct {
		spec, algorithm, messageType string
		message                      []byte
		code                         kmsapi.Code
		text                         string
	}{
		{"RSA_2048", "ECDSA_SHA_256", "RAW", sum, kmsapi.InvalidKeyUsage, incompatible("ECDSA_SHA_256", "RSA_2048")},
		{"RSA_2048", "RSAES_OAEP_SHA_256", "RAW", sum, kmsapi.InvalidKeyUsage, incompatible("RSAES_OAEP_SHA_256", "RSA_2048")},
		{"RSA_2048", "SM2DSA", "RAW", sum, kmsapi.InvalidKeyUsage, incompatible("SM2DSA", "RSA_2048")},
		{"RSA_2048", "", "RAW", sum, kmsapi.InvalidKeyUsage, incompatible("", "RSA_2048")},
		{"ECC_NIST_P256", "ECDSA_SHA_384", "RAW", sum, kmsapi.InvalidKeyUsage, incompatible("ECDSA_SHA_384", "ECC_NIST_P256")},
		{"ECC_NIST_P384", "ECDH", "RAW", sum, kmsapi.InvalidKeyUsage, incompatible("ECDH", "ECC_NIST_P384")},
		{"ECC_NIST_P521", "ECDSA_SHA_256", "RAW", sum, kmsapi.InvalidKeyUsage, incompatible("ECDSA_SHA_256", "ECC_NIST_P521")},
		{"ECC_SECG_P256K1", "ECDSA_SHA_512", "RAW", sum, kmsapi.InvalidKeyUsage, incompatible("ECDSA_SHA_512", "ECC_SECG_P256K1")},
		{"SYMMETRIC_DEFAULT", "SYMMETRIC_DEFAULT", "RAW", sum, kmsapi.InvalidKeyUsage, incompatible("SYMMETRIC_DEFAULT", "SYMMETRIC_DEFAULT")},
		{"HMAC_256", "HMAC_SHA_256", "RAW", sum, kmsapi.InvalidKeyUsage, incompatible("HMAC_SHA_256", "HMAC_256")},
		{"ML_DSA_44", "ED25519_SHA_512", "RAW", sum, kmsapi.InvalidKeyUsage, incompatible("ED25519_SHA_512", "ML_DSA_44")},
		{"RSA_2048", "RSASSA_PSS_SHA_512", "DIGEST", []byte("test message"), kmsapi.Validation, "Digest is invalid length for algorithm RSASSA_PSS_SHA_512."},
		{"RSA_4096", "RSASSA_PKCS1_V1_5_SHA_512", "DIGEST", sum, kmsapi.Validation, "Digest is invalid length for algorithm RSASSA_PKCS1_V1_5_SHA_512."},
		{"ECC_NIST_P384", "ECDSA_SHA_384", "DIGEST", sum, kmsapi.Validation, "Digest is invalid length for algorithm ECDSA_SHA_384."},
		{"ECC_SECG_P256K1", "ECDSA_SHA_256", "DIGEST", nil, kmsapi.Validation, "Digest is invalid length for algorithm ECDSA_SHA_256."},
		{"ECC_NIST_EDWARDS25519", "ED25519_PH_SHA_512", "DIGEST", sum, kmsapi.Validation, "Digest is invalid length for algorithm ED25519_PH_SHA_512."},
		{"ML_DSA_65", "ML_DSA_SHAKE_256", "EXTERNAL_MU", sum, kmsapi.Validation, "Digest is invalid length for algorithm ML_DSA_SHAKE_256."},
		{"ML_DSA_65", "ML_DSA_SHAKE_256", "EXTERNAL_MU", long, kmsapi.Validation, "Digest is invalid length for algorithm ML_DSA_SHAKE_256."},
		{"ECC_NIST_EDWARDS25519", "ED25519_PH_SHA_512", "RAW", sum, kmsapi.Validation, "Algorithm ED25519_PH_SHA_512 requires MessageType DIGEST."},
		{"ECC_NIST_EDWARDS25519", "ED25519_PH_SHA_512", "", sum, kmsapi.Validation, "Algorithm ED25519_PH_SHA_512 requires MessageType DIGEST."},
		{"ECC_NIST_EDWARDS25519", "ED25519_SHA_512", "DIGEST", make([]byte, 64), kmsapi.Validation, "Algorithm ED25519_SHA_512 requires MessageType RAW."},
		{"ML_DSA_87", "ML_DSA_SHAKE_256", "DIGEST", make([]byte, 64), kmsapi.Validation, "Algorithm ML_DSA_SHAKE_256 requires MessageType RAW or EXTERNAL_MU."},
		{"RSA_2048", "RSASSA_PSS_SHA_256", "EXTERNAL_MU", make([]byte, 64), kmsapi.Validation, "Algorithm RSASSA_PSS_SHA_256 requires MessageType RAW or DIGEST."},
		{"RSA_2048", "RSASSA_PSS_SHA_256", "raw", sum, kmsapi.Validation, "Algorithm RSASSA_PSS_SHA_256 requires MessageType RAW or DIGEST."},
		{"RSA_2048", "RSASSA_PSS_SHA_256", "RAW", long, kmsapi.Validation, "*"},
		{"ML_DSA_44", "ML_DSA_SHAKE_256", "RAW", long, kmsapi.Validation, "*"},
		{"ECC_NIST_EDWARDS25519", "ED25519_SHA_512", "RAW", long, kmsapi.Validation, "*"},
	} {
		s := Lookup(c.spec)
		what := c.spec + " " + c.algorithm + " " + c.messageType
		signature, err := s.Sign(rand.Reader, secretOf(t, c.spec), c.algorithm, c.messageType, c.message)
		wantError(t, what, err, c.code, c.text)
		if signature != nil {
			t.Errorf("%s: a signature beside an error", what)
		}
		wantError(t, what, s.Verify(secretOf(t, c.spec), c.algorithm, c.messageType, c.message, []byte{1}), c.code, c.text)
	}
}

func TestEncryptAndDecrypt(t *testing.T) {
	for name, limits := range map[string][2]int{"RSA_2048": {214, 190}, "RSA_3072": {342, 318}, "RSA_4096": {470, 446}} {
		s, secret := Lookup(name), secretOf(t, name)
		for i, algorithm := range []string{"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"} {
			plaintext := make([]byte, limits[i])
			ciphertext, err := s.Encrypt(rand.Reader, secret, algorithm, plaintext)
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.Decrypt(secret, algorithm, ciphertext)
			if err != nil || !slices.Equal(got, plaintext) {
				t.Errorf("%s %s: %v", name, algorithm, err)
			}
			_, err = s.Encrypt(rand.Reader, secret, algorithm, make([]byte, limits[i]+1))
			wantError(t, name, err, kmsapi.Validation, "Algorithm "+algorithm+" and key spec "+name+" cannot encrypt data larger than "+strconv.Itoa(limits[i])+" bytes.")
			refuse := func(how string, ciphertext []byte) {
				t.Helper()
				got, err := s.Decrypt(secret, algorithm, ciphertext)
				wantError(t, name+" "+how, err, kmsapi.InvalidCiphertext, "")
				if got != nil {
					t.Errorf("%s: plaintext beside an error", how)
				}
			}
			changed := slices.Clone(ciphertext)
			changed[100] ^= 1
			refuse("changed", changed)
			refuse("cut", ciphertext[1:])
			refuse("longer", append([]byte{0}, ciphertext...))
			refuse("empty", nil)
			refuse("zeros", make([]byte, len(ciphertext)))
			refuse("above the modulus", slices.Repeat([]byte{0xff}, len(ciphertext)))
			otherHash, err := s.Encrypt(rand.Reader, secret, []string{"RSAES_OAEP_SHA_256", "RSAES_OAEP_SHA_1"}[i], []byte("x"))
			if err != nil {
				t.Fatal(err)
			}
			refuse("other hash", otherHash)
		}
	}
	for spec, algorithm := range map[string]string{
		"RSA_2048": "SYMMETRIC_DEFAULT", "RSA_3072": "RSASSA_PSS_SHA_256", "RSA_4096": "SM2PKE", "SYMMETRIC_DEFAULT": "RSAES_OAEP_SHA_256",
		"ECC_NIST_P256": "RSAES_OAEP_SHA_256", "HMAC_256": "RSAES_OAEP_SHA_1", "ML_DSA_44": "RSAES_OAEP_SHA_1",
	} {
		_, err := Lookup(spec).Encrypt(rand.Reader, secretOf(t, spec), algorithm, []byte("x"))
		wantError(t, spec, err, kmsapi.InvalidKeyUsage, incompatible(algorithm, spec))
		_, err = Lookup(spec).Decrypt(secretOf(t, spec), algorithm, make([]byte, 256))
		wantError(t, spec, err, kmsapi.InvalidKeyUsage, incompatible(algorithm, spec))
	}
	_, err := Lookup("SYMMETRIC_DEFAULT").Encrypt(rand.Reader, make([]byte, 32), "SYMMETRIC_DEFAULT", []byte("x"))
	wantError(t, "symmetric", err, kmsapi.InvalidKeyUsage, "*")
}

func TestMac(t *testing.T) {
	for i, name := range []string{"HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512"} {
		s, secret := Lookup(name), secretOf(t, name)
		algorithm, size := "HMAC_SHA_"+name[5:], []int{28, 32, 48, 64}[i]
		if len(secret) != size {
			t.Errorf("%s: a key of %d bytes", name, len(secret))
		}
		mac, err := s.Mac(secret, algorithm, []byte("message"))
		if err != nil || len(mac) != size {
			t.Fatalf("%s: %d bytes, %v", name, len(mac), err)
		}
		if err := s.VerifyMac(secret, algorithm, []byte("message"), mac); err != nil {
			t.Error(err)
		}
		changed := slices.Clone(mac)
		changed[size-1] ^= 0x80
		for how, bad := range map[string][]byte{"changed": changed, "cut": mac[:size-1], "longer": append(slices.Clone(mac), 0), "nil": nil, "empty": {}, "one byte": mac[:1]} {
			wantError(t, how, s.VerifyMac(secret, algorithm, []byte("message"), bad), kmsapi.KMSInvalidMac, "")
		}
		wantError(t, "message", s.VerifyMac(secret, algorithm, []byte("massage"), mac), kmsapi.KMSInvalidMac, "")
		wantError(t, "key", s.VerifyMac(make([]byte, size), algorithm, []byte("message"), mac), kmsapi.KMSInvalidMac, "")
		_, err = s.Mac(secret, algorithm, make([]byte, 4097))
		wantError(t, "long", err, kmsapi.Validation, "*")
		wantError(t, "long", s.VerifyMac(secret, algorithm, make([]byte, 4097), mac), kmsapi.Validation, "*")
		for _, other := range []string{"HMAC_SHA_1", "HMAC_SHA_" + []string{"256", "384", "512", "224"}[i], "", "ECDSA_SHA_256"} {
			_, err := s.Mac(secret, other, []byte("m"))
			wantError(t, other, err, kmsapi.InvalidKeyUsage, incompatible(other, name))
			wantError(t, other, s.VerifyMac(secret, other, []byte("m"), mac), kmsapi.InvalidKeyUsage, incompatible(other, name))
		}
	}
	_, err := Lookup("SYMMETRIC_DEFAULT").Mac(make([]byte, 32), "HMAC_SHA_256", nil)
	wantError(t, "symmetric", err, kmsapi.InvalidKeyUsage, "*")
}
