// SPDX-License-Identifier: Apache-2.0

package keyspec

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/kms/kmsapi"
)

// An openssl runs the program in a folder of its own.
type openssl struct {
	t       *testing.T
	program string
	dir     string
}

func newOpenSSL(t *testing.T) openssl {
	return openssl{t, need.Program(t, "openssl"), t.TempDir()}
}

// run returns the standard output.
func (o openssl) run(args ...string) ([]byte, error) {
	command := exec.Command(o.program, args...)
	command.Dir = o.dir
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil && !strings.Contains(stderr.String()+string(out), "ailure") {
		o.t.Logf("openssl %s: %v: %s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return out, err
}

func (o openssl) must(args ...string) []byte {
	o.t.Helper()
	out, err := o.run(args...)
	if err != nil {
		o.t.Fatalf("openssl %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// file writes a file that a later run reads.
func (o openssl) file(name string, data []byte) string {
	o.t.Helper()
	if err := os.WriteFile(filepath.Join(o.dir, name), data, 0o600); err != nil {
		o.t.Fatal(err)
	}
	return name
}

func (o openssl) read(name string) []byte {
	o.t.Helper()
	data, err := os.ReadFile(filepath.Join(o.dir, name))
	if err != nil {
		o.t.Fatal(err)
	}
	return data
}

// genpkey are the arguments that make a key of a spec; OpenSSL 3.0 has no ML-DSA.
var genpkey = map[string][]string{
	"RSA_2048":              {"RSA", "-pkeyopt", "rsa_keygen_bits:2048"},
	"RSA_3072":              {"RSA", "-pkeyopt", "rsa_keygen_bits:3072"},
	"RSA_4096":              {"RSA", "-pkeyopt", "rsa_keygen_bits:4096"},
	"ECC_NIST_P256":         {"EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
	"ECC_NIST_P384":         {"EC", "-pkeyopt", "ec_paramgen_curve:P-384"},
	"ECC_NIST_P521":         {"EC", "-pkeyopt", "ec_paramgen_curve:P-521"},
	"ECC_SECG_P256K1":       {"EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"},
	"ECC_NIST_EDWARDS25519": {"ED25519"},
}

func (o openssl) generate(spec string) []byte {
	o.t.Helper()
	o.must(append([]string{"genpkey", "-out", "made.pem", "-algorithm"}, genpkey[spec]...)...)
	o.must("pkcs8", "-topk8", "-nocrypt", "-in", "made.pem", "-outform", "DER", "-out", "made.der")
	return o.read("made.der")
}

// pkeyutl returns the arguments that sign or verify with an algorithm, for a
// digest in message.bin; nil where OpenSSL 3.0 has no such.
func pkeyutl(algorithm string) []string {
	digest := "sha" + algorithm[len(algorithm)-3:]
	switch {
	case strings.HasPrefix(algorithm, "RSASSA_PSS"):
		return []string{"-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:digest", "-pkeyopt", "digest:" + digest}
	case strings.HasPrefix(algorithm, "RSASSA_PKCS1"):
		return []string{"-pkeyopt", "rsa_padding_mode:pkcs1", "-pkeyopt", "digest:" + digest}
	case strings.HasPrefix(algorithm, "ECDSA"):
		return []string{}
	case algorithm == "ED25519_SHA_512":
		return []string{"-rawin"}
	}
	return nil
}

func TestOpenSSLReadsKeys(t *testing.T) {
	o := newOpenSSL(t)
	for name := range genpkey {
		s, secret := Lookup(name), secretOf(t, name)
		spki, err := s.PublicKey(secret)
		if err != nil {
			t.Fatal(err)
		}
		o.file("key.der", secret)
		got := o.must("pkey", "-inform", "DER", "-in", "key.der", "-pubout", "-outform", "DER")
		if !bytes.Equal(got, spki) {
			t.Errorf("%s: public key\n%x, openssl has\n%x", name, spki, got)
		}
		if name != "ECC_NIST_EDWARDS25519" { // OpenSSL has no check for it
			o.must("pkey", "-inform", "DER", "-in", "key.der", "-check", "-noout")
		}
		o.must("pkcs8", "-topk8", "-nocrypt", "-inform", "DER", "-in", "key.der", "-outform", "DER", "-out", "again.der")
		if !bytes.Equal(o.read("again.der"), secret) {
			t.Errorf("%s: openssl writes the key in another form", name)
		}
	}
}

func TestOpenSSLKeysAreAccepted(t *testing.T) {
	o := newOpenSSL(t)
	for name := range genpkey {
		s, secret := Lookup(name), o.generate(name)
		if err := s.Check(secret); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		spki, err := s.PublicKey(secret)
		if err != nil {
			t.Fatal(err)
		}
		if want := o.must("pkey", "-in", "made.pem", "-pubout", "-outform", "DER"); !bytes.Equal(spki, want) {
			t.Errorf("%s: public key %x, openssl has %x", name, spki, want)
		}
		for _, other := range names {
			if other != name && Lookup(other).Asymmetric() { // 48 bytes of PKCS #8 are an HMAC key as well
				wantError(t, name+" as "+other, Lookup(other).Check(secret), kmsapi.IncorrectKeyMaterial, "The key material is not valid for key spec "+other+".")
			}
		}
	}
}

func TestOpenSSLRefusedKeys(t *testing.T) {
	o := newOpenSSL(t)
	for what, c := range map[string]struct {
		spec string
		args []string
	}{
		"short RSA":           {"RSA_2048", []string{"RSA", "-pkeyopt", "rsa_keygen_bits:2047"}},
		"small RSA":           {"RSA_2048", []string{"RSA", "-pkeyopt", "rsa_keygen_bits:1024"}},
		"three primes":        {"RSA_2048", []string{"RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_keygen_primes:3"}},
		"e is 3":              {"RSA_2048", []string{"RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_keygen_pubexp:3"}},
		"e has 40 bits":       {"RSA_2048", []string{"RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_keygen_pubexp:1099511627777"}},
		"PSS key":             {"RSA_2048", []string{"RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"}},
		"explicit parameters": {"ECC_NIST_P256", []string{"EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"}},
		"brainpool":           {"ECC_NIST_P256", []string{"EC", "-pkeyopt", "ec_paramgen_curve:brainpoolP256r1"}},
		"secp256k1":           {"ECC_NIST_P256", []string{"EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"}},
		"X25519":              {"ECC_NIST_EDWARDS25519", []string{"X25519"}},
		"Ed448":               {"ECC_NIST_EDWARDS25519", []string{"ED448"}},
	} {
		if _, err := o.run(append([]string{"genpkey", "-out", "bad.pem", "-algorithm"}, c.args...)...); err != nil {
			t.Logf("%s: openssl does not make it", what)
			continue
		}
		o.must("pkcs8", "-topk8", "-nocrypt", "-in", "bad.pem", "-outform", "DER", "-out", "bad.der")
		wantError(t, what, Lookup(c.spec).Check(o.read("bad.der")), kmsapi.IncorrectKeyMaterial, "*")
	}
	// The right key in other forms: with traditional encoding, as PEM, encrypted.
	o.generate("ECC_NIST_P256")
	wantError(t, "PEM", Lookup("ECC_NIST_P256").Check(o.read("made.pem")), kmsapi.IncorrectKeyMaterial, "*")
	o.must("ec", "-in", "made.pem", "-outform", "DER", "-out", "ec.der")
	wantError(t, "ECPrivateKey", Lookup("ECC_NIST_P256").Check(o.read("ec.der")), kmsapi.IncorrectKeyMaterial, "*")
	o.must("pkcs8", "-topk8", "-in", "made.pem", "-outform", "DER", "-out", "sealed.der", "-passout", "pass:x")
	o.must("ec", "-in", "made.pem", "-conv_form", "compressed", "-out", "compressed.pem")
	o.must("pkcs8", "-topk8", "-nocrypt", "-in", "compressed.pem", "-outform", "DER", "-out", "compressed.der")
	if len(o.read("compressed.der")) >= len(o.read("made.der")) {
		t.Error("openssl made no compressed point")
	}
	wantError(t, "compressed", Lookup("ECC_NIST_P256").Check(o.read("compressed.der")), kmsapi.IncorrectKeyMaterial, "*")
	wantError(t, "encrypted", Lookup("ECC_NIST_P256").Check(o.read("sealed.der")), kmsapi.IncorrectKeyMaterial, "*")
	o.must("pkey", "-in", "made.pem", "-pubout", "-outform", "DER", "-out", "public.der")
	wantError(t, "public", Lookup("ECC_NIST_P256").Check(o.read("public.der")), kmsapi.IncorrectKeyMaterial, "*")
	o.generate("RSA_2048")
	o.must("rsa", "-in", "made.pem", "-traditional", "-outform", "DER", "-out", "rsa.der")
	wantError(t, "RSAPrivateKey", Lookup("RSA_2048").Check(o.read("rsa.der")), kmsapi.IncorrectKeyMaterial, "*")
}

// Digests are signed on either side and verified on the other.
func TestOpenSSLSignatures(t *testing.T) {
	o := newOpenSSL(t)
	tried := 0
	eachSigning(t, func(s *Spec, secret []byte, algorithm, messageType string, message []byte) {
		if genpkey[s.Name] == nil || pkeyutl(algorithm) == nil || messageType == "RAW" && algorithm != "ED25519_SHA_512" {
			return
		}
		tried++
		what := s.Name + " " + algorithm
		spki, err := s.PublicKey(secret)
		if err != nil {
			t.Fatal(err)
		}
		o.file("public.der", spki)
		o.file("message.bin", message)
		o.file("key.der", secret)
		signature, err := s.Sign(rand.Reader, secret, algorithm, messageType, message)
		if err != nil {
			t.Fatal(err)
		}
		verify := append([]string{"pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "public.der", "-in", "message.bin", "-sigfile", "signature.bin"}, pkeyutl(algorithm)...)
		o.file("signature.bin", signature)
		o.must(verify...)
		signature[len(signature)-1] ^= 1
		o.file("signature.bin", signature)
		if _, err := o.run(verify...); err == nil {
			t.Errorf("%s: openssl accepts a wrong signature", what)
		}
		o.must(append([]string{"pkeyutl", "-sign", "-keyform", "DER", "-inkey", "key.der", "-in", "message.bin", "-out", "theirs.bin"}, pkeyutl(algorithm)...)...)
		theirs := o.read("theirs.bin")
		if err := s.Verify(secret, algorithm, messageType, message, theirs); err != nil {
			t.Errorf("%s: openssl's signature: %v", what, err)
		}
		message[0] ^= 1
		wantError(t, what, s.Verify(secret, algorithm, messageType, message, theirs), kmsapi.KMSInvalidSignature, "")
	})
	if tried != 3*6+4+1 {
		t.Errorf("%d algorithms tried", tried)
	}
}

// A salt of another length is no AWS signature.
func TestOpenSSLSaltLength(t *testing.T) {
	o := newOpenSSL(t)
	s, secret := Lookup("RSA_2048"), secretOf(t, "RSA_2048")
	o.file("key.der", secret)
	message := make([]byte, 32)
	o.file("message.bin", message)
	for _, salt := range []string{"0", "20", "max"} {
		o.must("pkeyutl", "-sign", "-keyform", "DER", "-inkey", "key.der", "-in", "message.bin", "-out", "theirs.bin",
			"-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:"+salt, "-pkeyopt", "digest:sha256")
		wantError(t, salt, s.Verify(secret, "RSASSA_PSS_SHA_256", "DIGEST", message, o.read("theirs.bin")), kmsapi.KMSInvalidSignature, "")
	}
}

func TestOpenSSLEncryption(t *testing.T) {
	o := newOpenSSL(t)
	for _, name := range []string{"RSA_2048", "RSA_3072", "RSA_4096"} {
		for algorithm, digest := range map[string]string{"RSAES_OAEP_SHA_1": "sha1", "RSAES_OAEP_SHA_256": "sha256"} {
			s, secret := Lookup(name), secretOf(t, name)
			oaep := []string{"-keyform", "DER", "-inkey", "key.der", "-in", "in.bin", "-out", "out.bin",
				"-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:" + digest, "-pkeyopt", "rsa_mgf1_md:" + digest}
			o.file("key.der", secret)
			ours, err := s.Encrypt(rand.Reader, secret, algorithm, []byte("plaintext"))
			if err != nil {
				t.Fatal(err)
			}
			o.file("in.bin", ours)
			o.must(append([]string{"pkeyutl", "-decrypt"}, oaep...)...)
			if got := o.read("out.bin"); string(got) != "plaintext" {
				t.Errorf("%s %s: openssl has %q", name, algorithm, got)
			}
			o.file("in.bin", []byte("theirs"))
			o.must(append([]string{"pkeyutl", "-encrypt"}, oaep...)...)
			if got, err := s.Decrypt(secret, algorithm, o.read("out.bin")); err != nil || string(got) != "theirs" {
				t.Errorf("%s %s: %q, %v", name, algorithm, got, err)
			}
			// MGF1 with the other hash, and a label, are other ciphertexts.
			for _, option := range []string{"rsa_mgf1_md:sha512", "rsa_oaep_label:00"} {
				o.must(append(append([]string{"pkeyutl", "-encrypt"}, oaep...), "-pkeyopt", option)...)
				_, err := s.Decrypt(secret, algorithm, o.read("out.bin"))
				wantError(t, option, err, kmsapi.InvalidCiphertext, "")
			}
		}
	}
}

func TestOpenSSLMac(t *testing.T) {
	o := newOpenSSL(t)
	for _, bits := range []string{"224", "256", "384", "512"} {
		s, secret := Lookup("HMAC_"+bits), secretOf(t, "HMAC_"+bits)
		message := make([]byte, 4096)
		rand.Read(message)
		want := o.must("dgst", "-sha"+bits, "-mac", "HMAC", "-macopt", "hexkey:"+hex.EncodeToString(secret), "-binary", o.file("message.bin", message))
		got, err := s.Mac(secret, "HMAC_SHA_"+bits, message)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %x, openssl %x, %v", bits, got, want, err)
		}
		if err := s.VerifyMac(secret, "HMAC_SHA_"+bits, message, want); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenSSLDerive(t *testing.T) {
	o := newOpenSSL(t)
	for name, size := range map[string]int{"ECC_NIST_P256": 32, "ECC_NIST_P384": 48, "ECC_NIST_P521": 66} {
		s, secret := Lookup(name), secretOf(t, name)
		o.file("ours.der", secret)
		spki, err := s.PublicKey(secret)
		if err != nil {
			t.Fatal(err)
		}
		o.file("ours.pub", spki)
		o.file("theirs.der", o.generate(name))
		o.must("pkey", "-in", "made.pem", "-pubout", "-outform", "DER", "-out", "theirs.pub")
		got, err := s.Derive(secret, o.read("theirs.pub"))
		if err != nil {
			t.Fatal(err)
		}
		o.must("pkeyutl", "-derive", "-keyform", "DER", "-inkey", "theirs.der", "-peerform", "DER", "-peerkey", "ours.pub", "-out", "secret.bin")
		if want := o.read("secret.bin"); !bytes.Equal(got, want) || len(got) != size {
			t.Errorf("%s: %x, openssl has %x", name, got, want)
		}
		// The same key in forms that are none of a named curve and a whole point.
		for _, form := range [][]string{{"-conv_form", "compressed"}, {"-conv_form", "hybrid"}, {"-param_enc", "explicit"}} {
			o.must(append([]string{"ec", "-in", "made.pem", "-pubout", "-outform", "DER", "-out", "other.pub"}, form...)...)
			_, err := s.Derive(secret, o.read("other.pub"))
			wantError(t, name+" "+form[1], err, kmsapi.Validation, "")
		}
	}
}
