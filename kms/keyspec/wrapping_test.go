// SPDX-License-Identifier: Apache-2.0

package keyspec

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/kms/kmsapi"
)

var wrappingAlgorithms = []string{"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "RSA_AES_KEY_WRAP_SHA_1", "RSA_AES_KEY_WRAP_SHA_256"}

// wrapRaw wraps blocks whose first eight bytes are the initial value, right or
// wrong (RFC 3394 §2.2.1, RFC 5649 §4.1).
func wrapRaw(t testing.TB, key, plain []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	buf := slices.Clone(plain)
	n := len(buf)/8 - 1
	if n == 1 {
		block.Encrypt(buf, buf)
		return buf
	}
	var b [16]byte
	for j := range 6 {
		for i := 1; i <= n; i++ {
			copy(b[:], buf[:8])
			copy(b[8:], buf[8*i:])
			block.Encrypt(b[:], b[:])
			binary.BigEndian.PutUint64(buf, binary.BigEndian.Uint64(b[:])^uint64(n*j+i))
			copy(buf[8*i:], b[8:])
		}
	}
	return buf
}

// initialValue is that of RFC 5649 §3 for a length.
func initialValue(length int) []byte {
	return binary.BigEndian.AppendUint32([]byte{0xa6, 0x59, 0x59, 0xa6}, uint32(length))
}

func wrapPadded(t testing.TB, key, secret []byte) []byte {
	plain := append(initialValue(len(secret)), secret...)
	for len(plain)%8 != 0 {
		plain = append(plain, 0)
	}
	return wrapRaw(t, key, plain)
}

func TestKeyWrapRFC5649(t *testing.T) {
	key := unhex(t, "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8")
	for plain, wrapped := range map[string]string{ // RFC 5649 §6
		"c37b7e6492584340bed12207808941155068f738": "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a",
		"466f7250617369": "afbeb0f07dfbf5419200f2ccb50bb24f",
	} {
		got, err := unwrapPadded(key, unhex(t, wrapped))
		if err != nil || hex.EncodeToString(got) != plain {
			t.Errorf("%s: %x, %v", plain, got, err)
		}
		if got := wrapPadded(t, key, unhex(t, plain)); hex.EncodeToString(got) != wrapped {
			t.Errorf("the tests' wrapping of %s: %x", plain, got)
		}
		for i := range unhex(t, wrapped) {
			changed := unhex(t, wrapped)
			changed[i] ^= 1
			if got, err := unwrapPadded(key, changed); err == nil || got != nil {
				t.Errorf("byte %d changed: %x, %v", i, got, err)
			}
		}
	}
}

// Everything that the integrity check looks at, wrapped under the right key.
func TestKeyWrapRefuses(t *testing.T) {
	key := make([]byte, 32)
	for what, plain := range map[string][]byte{
		"RFC 3394":               slices.Concat(bytes.Repeat([]byte{0xa6}, 8), make([]byte, 32)),
		"other constant":         slices.Concat([]byte{0xa6, 0x59, 0x59, 0xa7, 0, 0, 0, 32}, make([]byte, 32)),
		"length 0":               slices.Concat(initialValue(0), make([]byte, 8)),
		"length too long":        slices.Concat(initialValue(33), make([]byte, 32)),
		"length too short":       slices.Concat(initialValue(24), make([]byte, 32)),
		"length of 32 bits":      slices.Concat(initialValue(-1), make([]byte, 32)),
		"length of 31 bits":      slices.Concat(initialValue(1<<31), make([]byte, 32)),
		"padding":                slices.Concat(initialValue(31), make([]byte, 31), []byte{1}),
		"padding in the middle":  slices.Concat(initialValue(25), make([]byte, 28), []byte{1, 0, 0, 0}),
		"padding of one block":   slices.Concat(initialValue(7), make([]byte, 7), []byte{1}),
		"too long for one block": slices.Concat(initialValue(9), make([]byte, 8)),
	} {
		if got, err := unwrapPadded(key, wrapRaw(t, key, plain)); err == nil || got != nil {
			t.Errorf("%s: %x, %v", what, got, err)
		}
	}
	for _, n := range []int{0, 1, 7, 8, 9, 15, 17, 23, 25, 31, 33, 4095} {
		if got, err := unwrapPadded(key, make([]byte, n)); err == nil || got != nil {
			t.Errorf("%d bytes: %x, %v", n, got, err)
		}
	}
	for _, n := range []int{0, 15, 31, 33} {
		if _, err := unwrapPadded(make([]byte, n), make([]byte, 16)); err == nil {
			t.Errorf("a key of %d bytes accepted", n)
		}
	}
	for n := 1; n <= 64; n++ {
		secret := bytes.Repeat([]byte{byte(n)}, n)
		if got, err := unwrapPadded(key, wrapPadded(t, key, secret)); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%d bytes: %x, %v", n, got, err)
		}
	}
}

// wrap does what a client of ImportKeyMaterial does.
func wrap(t testing.TB, spki []byte, algorithm string, secret []byte) []byte {
	t.Helper()
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		t.Fatal(err)
	}
	hash := crypto.SHA256
	if strings.HasSuffix(algorithm, "_1") {
		hash = crypto.SHA1
	}
	inner := secret
	if strings.HasPrefix(algorithm, "RSA_AES") {
		inner = make([]byte, 32)
		rand.Read(inner)
	}
	out, err := rsa.EncryptOAEP(hash.New(), rand.Reader, public.(*rsa.PublicKey), inner, nil)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(algorithm, "RSA_AES") {
		out = append(out, wrapPadded(t, inner, secret)...)
	}
	return out
}

// wrappingKey returns the tests' key of a spec: new ones take long.
func wrappingKey(t testing.TB, spec string) (*WrappingKey, []byte) {
	t.Helper()
	w, err := ParseWrappingKey(secretOf(t, spec))
	if err != nil {
		t.Fatal(err)
	}
	spki, err := Lookup(spec).PublicKey(secretOf(t, spec))
	if err != nil {
		t.Fatal(err)
	}
	return w, spki
}

// What CheckWrapping allows, fits and comes out as it went in; what is refused for
// its length would not fit.
func TestUnwrapEverySpec(t *testing.T) {
	for _, wrapping := range []string{"RSA_2048", "RSA_3072", "RSA_4096"} {
		w, spki := wrappingKey(t, wrapping)
		for _, name := range names {
			for _, algorithm := range wrappingAlgorithms {
				s := Lookup(name)
				direct := strings.HasPrefix(algorithm, "RSAES")
				isRSA := strings.HasPrefix(name, "RSA")
				allowed := direct && !isRSA && !(name == "ECC_NIST_P521" && wrapping == "RSA_2048") || !direct && s.Asymmetric()
				err := s.CheckWrapping(algorithm, wrapping)
				if (err == nil) != allowed {
					t.Errorf("%s by %s under %s: %v", name, algorithm, wrapping, err)
				}
				if err != nil {
					wantError(t, name, err, kmsapi.UnsupportedOperation, "*")
					continue
				}
				secret := secretOf(t, name)
				got, err := w.Unwrap(algorithm, wrap(t, spki, algorithm, secret))
				if err != nil || !bytes.Equal(got, secret) {
					t.Errorf("%s by %s under %s: %v", name, algorithm, wrapping, err)
				}
			}
		}
	}
	for _, c := range [][2]string{
		{"RSAES_PKCS1_V1_5", "RSA_2048"}, {"SM2PKE", "SM2"}, {"SM2PKE", "RSA_2048"}, {"RSAES_OAEP_SHA_256", "SM2"}, {"RSAES_OAEP_SHA_256", "ECC_NIST_P256"},
		{"RSAES_OAEP_SHA_256", ""}, {"", "RSA_2048"}, {"RSA_AES_KEY_WRAP_SHA_512", "RSA_4096"}, {"RSAES_OAEP_SHA_512", "RSA_4096"}, {"RSAES_OAEP_SHA_256", "SYMMETRIC_DEFAULT"},
	} {
		for _, name := range names {
			wantError(t, name+" "+c[0]+" "+c[1], Lookup(name).CheckWrapping(c[0], c[1]), kmsapi.UnsupportedOperation, "*")
		}
	}
}

func TestParseWrappingKeyRefuses(t *testing.T) {
	for what, der := range map[string][]byte{"nil": nil, "P-256": secretOf(t, "ECC_NIST_P256"), "cut": secretOf(t, "RSA_2048")[:1000]} {
		w, err := ParseWrappingKey(der)
		wantError(t, what, err, kmsapi.KMSInternal, "*")
		if w != nil {
			t.Errorf("%s: a key beside an error", what)
		}
	}
}

// All that can be wrong has one answer.
func TestUnwrapRefuses(t *testing.T) {
	w, spki := wrappingKey(t, "RSA_2048")
	stranger, err := Lookup("RSA_2048").Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := Lookup("RSA_2048").PublicKey(stranger)
	if err != nil {
		t.Fatal(err)
	}
	secret := make([]byte, 32)
	for _, algorithm := range wrappingAlgorithms {
		good := wrap(t, spki, algorithm, secret)
		refuse := func(what string, encrypted []byte) {
			t.Helper()
			got, err := w.Unwrap(algorithm, encrypted)
			wantError(t, algorithm+" "+what, err, kmsapi.InvalidCiphertext, "")
			if got != nil {
				t.Errorf("%s %s: material beside an error", algorithm, what)
			}
		}
		for _, i := range []int{0, 100, 255, len(good) - 1} {
			changed := slices.Clone(good)
			changed[i] ^= 1
			refuse("changed", changed)
		}
		refuse("nil", nil)
		refuse("cut", good[:len(good)-1])
		refuse("cut by eight", good[:len(good)-8])
		refuse("half", good[:128])
		refuse("longer", append(slices.Clone(good), 0))
		refuse("longer by eight", append(slices.Clone(good), make([]byte, 8)...))
		refuse("zeros", make([]byte, len(good)))
		refuse("other key", wrap(t, other, algorithm, secret))
		for _, otherAlgorithm := range wrappingAlgorithms {
			if otherAlgorithm != algorithm {
				refuse(otherAlgorithm, wrap(t, spki, otherAlgorithm, secret))
			}
		}
	}
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 1, 16, 24, 31, 33, 64} { // keys that are no AES-256 keys
		key := make([]byte, size)
		sealed, err := rsa.EncryptOAEP(crypto.SHA256.New(), rand.Reader, public.(*rsa.PublicKey), key, nil)
		if err != nil {
			t.Fatal(err)
		}
		wrapped := make([]byte, 40)
		if size == 16 || size == 24 {
			wrapped = wrapPadded(t, key, secret)
		}
		_, err = w.Unwrap("RSA_AES_KEY_WRAP_SHA_256", append(sealed, wrapped...))
		wantError(t, "key size", err, kmsapi.InvalidCiphertext, "")
	}
	for _, algorithm := range []string{"RSAES_PKCS1_V1_5", "SM2PKE", "", "RSA_AES_KEY_WRAP_SHA_512"} {
		_, err := w.Unwrap(algorithm, make([]byte, 256))
		wantError(t, algorithm, err, kmsapi.UnsupportedOperation, "Wrapping algorithm "+algorithm+" is not supported.")
	}
}

// As the Developer Guide's example does it: openssl rand, enc and pkeyutl.
func TestOpenSSLWraps(t *testing.T) {
	o := newOpenSSL(t)
	for _, name := range []string{"RSA_4096", "ECC_NIST_P521", "ECC_NIST_P256"} {
		w, spki := wrappingKey(t, "RSA_3072")
		o.file("wrapping.der", spki)
		o.must("pkey", "-pubin", "-inform", "DER", "-in", "wrapping.der", "-out", "wrapping.pem")
		secret := secretOf(t, name)
		o.file("made.der", secret)
		o.must("rand", "-out", "aes.key", "32")
		o.must("enc", "-id-aes256-wrap-pad", "-K", hex.EncodeToString(o.read("aes.key")), "-iv", "A65959A6", "-in", "made.der", "-out", "wrapped.bin")
		for algorithm, digest := range map[string]string{"RSA_AES_KEY_WRAP_SHA_1": "sha1", "RSA_AES_KEY_WRAP_SHA_256": "sha256"} {
			oaep := []string{"pkeyutl", "-encrypt", "-pubin", "-inkey", "wrapping.pem", "-out", "sealed.bin", "-pkeyopt", "rsa_padding_mode:oaep",
				"-pkeyopt", "rsa_oaep_md:" + digest, "-pkeyopt", "rsa_mgf1_md:" + digest}
			o.must(append(oaep, "-in", "aes.key")...)
			got, err := w.Unwrap(algorithm, append(o.read("sealed.bin"), o.read("wrapped.bin")...))
			if err != nil || !bytes.Equal(got, secret) {
				t.Errorf("%s %s: %v", name, algorithm, err)
			}
			if name == "RSA_4096" {
				continue
			}
			o.must(append(oaep, "-in", "made.der")...)
			if got, err := w.Unwrap("RSAES_OAEP_"+algorithm[len("RSA_AES_KEY_WRAP_"):], o.read("sealed.bin")); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("%s directly: %v", name, err)
			}
		}
		if err := Lookup(name).Check(secret); err != nil {
			t.Error(err)
		}
	}
}

// The key material that AWS took in the recorded imports is taken here, and has
// the public key that AWS showed.
func TestRecordedImports(t *testing.T) {
	data, err := os.ReadFile(need.SharedData(t, "kms", "recorded-cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases []struct {
			Name  string
			Steps []struct {
				Op     string
				Input  struct{ KeySpec, KeyMaterial, WrappingAlgorithm, WrappingKeySpec string }
				Expect json.RawMessage
			}
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	imported, compared := 0, 0
	for _, c := range file.Cases {
		s, secret := Lookup("SYMMETRIC_DEFAULT"), []byte(nil)
		for _, step := range c.Steps {
			switch step.Op {
			case "CreateKey":
				if step.Input.KeySpec != "" {
					s = Lookup(step.Input.KeySpec)
				}
			case "GetParametersForImport":
				if bytes.Contains(step.Expect, []byte("output")) {
					if err := s.CheckWrapping(step.Input.WrappingAlgorithm, step.Input.WrappingKeySpec); err != nil {
						t.Errorf("%s: %v", c.Name, err)
					}
				}
			case "Local.WrapKeyMaterial":
				if secret, err = base64.StdEncoding.DecodeString(step.Input.KeyMaterial); err != nil {
					t.Fatal(err)
				}
				imported++
				if err := s.Check(secret); err != nil {
					t.Errorf("%s: %s: %v", c.Name, s.Name, err)
				}
			case "GetPublicKey":
				var expect struct {
					Output struct{ PublicKey string }
				}
				if secret == nil || json.Unmarshal(step.Expect, &expect) != nil {
					continue
				}
				compared++
				spki, err := s.PublicKey(secret)
				if got := base64.StdEncoding.EncodeToString(spki); err != nil || got != expect.Output.PublicKey {
					t.Errorf("%s: public key %s, AWS showed %s, %v", c.Name, got, expect.Output.PublicKey, err)
				}
			}
		}
	}
	if imported < 10 || compared < 4 {
		t.Errorf("%d imports, %d public keys found", imported, compared)
	}
}
