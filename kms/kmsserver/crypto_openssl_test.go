// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha512"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/kms/ledger"
)

// An openssl runs the program in a folder of its own.
type openssl struct {
	t       testing.TB
	program string
	dir     string
}

func newOpenSSL(t testing.TB) openssl {
	t.Helper()
	return openssl{t, need.Program(t, "openssl"), t.TempDir()}
}

func (o openssl) run(args ...string) ([]byte, error) {
	command := exec.Command(o.program, args...)
	command.Dir = o.dir
	return command.CombinedOutput()
}

func (o openssl) must(args ...string) {
	o.t.Helper()
	if out, err := o.run(args...); err != nil {
		o.t.Fatalf("openssl %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// file writes a file and returns its name for a later run.
func (o openssl) file(name string, data []byte) string {
	o.t.Helper()
	fatal(o.t, os.WriteFile(filepath.Join(o.dir, name), data, 0o600))
	return name
}

func (o openssl) read(name string) []byte {
	o.t.Helper()
	data, err := os.ReadFile(filepath.Join(o.dir, name))
	fatal(o.t, err)
	return data
}

// verifyArgs are the arguments of "openssl pkeyutl -verify -rawin" for a signing
// algorithm. OpenSSL 3.0 has neither Ed25519ph nor ML-DSA, which package keyspec
// holds against the vectors of their standards.
func verifyArgs(algorithm string) []string {
	hash := strings.ToLower(strings.ReplaceAll(algorithm[strings.LastIndex(algorithm, "SHA_"):], "_", ""))
	switch {
	case algorithm == "ED25519_SHA_512":
		return []string{"-rawin"}
	case strings.HasPrefix(algorithm, "RSASSA_PSS"):
		return []string{"-rawin", "-digest", hash, "-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:digest", "-pkeyopt", "rsa_mgf1_md:" + hash}
	case strings.HasPrefix(algorithm, "RSASSA_PKCS1"):
		return []string{"-rawin", "-digest", hash, "-pkeyopt", "rsa_padding_mode:pkcs1"}
	}
	return []string{"-rawin", "-digest", hash}
}

// OpenSSL accepts what the service signs, and nothing else.
func TestOpenSSLVerifiesSignatures(t *testing.T) {
	o := newOpenSSL(t)
	s := newService(t)
	ctx, c := t.Context(), s.adminClient()
	o.file("message", []byte("the message"))
	o.file("other", []byte("another message"))
	for _, kind := range keyKinds {
		if kind.usage != "SIGN_VERIFY" || strings.HasPrefix(string(kind.spec), "ML_DSA") {
			continue
		}
		key := s.make(kind.spec, kind.usage)
		public, err := c.GetPublicKey(ctx, &awskms.GetPublicKeyInput{KeyId: &key})
		fatal(t, err)
		o.file("public", public.PublicKey)
		for _, algorithm := range kind.algorithms {
			if algorithm == "ED25519_PH_SHA_512" {
				continue
			}
			signed, err := c.Sign(ctx, &awskms.SignInput{KeyId: &key, Message: []byte("the message"), SigningAlgorithm: types.SigningAlgorithmSpec(algorithm)})
			fatal(t, err)
			o.file("signature", signed.Signature)
			args := append([]string{"pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "public", "-sigfile", "signature"}, verifyArgs(algorithm)...)
			o.must(append(args, "-in", "message")...)
			if out, err := o.run(append(args, "-in", "other")...); err == nil {
				t.Errorf("%s: OpenSSL takes it for another message: %s", algorithm, out)
			}
		}
	}
}

// A digest of OpenSSL's is signed as the message itself is.
func TestOpenSSLVerifiesDigestSignatures(t *testing.T) {
	o := newOpenSSL(t)
	s := newService(t)
	key := s.make("ECC_NIST_P521", "SIGN_VERIFY")
	public, err := s.adminClient().GetPublicKey(t.Context(), &awskms.GetPublicKeyInput{KeyId: &key})
	fatal(t, err)
	digest := sha512.Sum512([]byte("the message"))
	signed, err := s.adminClient().Sign(t.Context(), &awskms.SignInput{KeyId: &key, Message: digest[:], MessageType: "DIGEST", SigningAlgorithm: "ECDSA_SHA_512"})
	fatal(t, err)
	o.must("dgst", "-sha512", "-keyform", "DER", "-verify", o.file("public", public.PublicKey), "-signature", o.file("signature", signed.Signature),
		o.file("message", []byte("the message")))
}

// The service opens what OpenSSL encrypts with its public key.
func TestOpenSSLEncrypts(t *testing.T) {
	o := newOpenSSL(t)
	s := newService(t)
	o.file("message", []byte("the message"))
	for _, spec := range []types.KeySpec{"RSA_2048", "RSA_3072"} {
		key := s.make(spec, "ENCRYPT_DECRYPT")
		public, err := s.adminClient().GetPublicKey(t.Context(), &awskms.GetPublicKeyInput{KeyId: &key})
		fatal(t, err)
		o.file("public", public.PublicKey)
		for algorithm, hash := range map[types.EncryptionAlgorithmSpec]string{"RSAES_OAEP_SHA_1": "sha1", "RSAES_OAEP_SHA_256": "sha256"} {
			o.must("pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", "public", "-in", "message", "-out", "sealed",
				"-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:"+hash, "-pkeyopt", "rsa_mgf1_md:"+hash)
			opened, err := s.adminClient().Decrypt(t.Context(), &awskms.DecryptInput{KeyId: &key, CiphertextBlob: o.read("sealed"), EncryptionAlgorithm: algorithm})
			if err != nil || !bytes.Equal(opened.Plaintext, []byte("the message")) {
				t.Errorf("%s, %s: %v", spec, algorithm, err)
			}
		}
	}
}

// OpenSSL and the service agree on a secret.
func TestOpenSSLDerives(t *testing.T) {
	o := newOpenSSL(t)
	s := newService(t)
	for spec, curve := range map[types.KeySpec]string{"ECC_NIST_P256": "P-256", "ECC_NIST_P384": "P-384", "ECC_NIST_P521": "P-521"} {
		key := s.make(spec, "KEY_AGREEMENT")
		public, err := s.adminClient().GetPublicKey(t.Context(), &awskms.GetPublicKeyInput{KeyId: &key})
		fatal(t, err)
		o.must("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:"+curve, "-outform", "DER", "-out", "private")
		o.must("pkey", "-inform", "DER", "-in", "private", "-pubout", "-outform", "DER", "-out", "public")
		o.must("pkeyutl", "-derive", "-keyform", "DER", "-inkey", "private", "-peerform", "DER", "-peerkey", o.file("peer", public.PublicKey), "-out", "secret")
		derived, err := s.adminClient().DeriveSharedSecret(t.Context(), &awskms.DeriveSharedSecretInput{KeyId: &key, PublicKey: o.read("public"), KeyAgreementAlgorithm: "ECDH"})
		if err != nil || !bytes.Equal(derived.SharedSecret, o.read("secret")) {
			t.Errorf("%s: %v", spec, err)
		}
		// A key of another curve, an explicit one, a private one and none are refused alike.
		for name, args := range map[string][]string{
			"other curve": {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"},
			"explicit":    {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:" + curve, "-pkeyopt", "ec_param_enc:explicit"},
			"Ed25519":     {"-algorithm", "ED25519"},
		} {
			o.must(append([]string{"genpkey", "-outform", "DER", "-out", "private"}, args...)...)
			o.must("pkey", "-inform", "DER", "-in", "private", "-pubout", "-outform", "DER", "-out", "public")
			_, err := s.adminClient().DeriveSharedSecret(t.Context(), &awskms.DeriveSharedSecretInput{KeyId: &key, PublicKey: o.read("public"), KeyAgreementAlgorithm: "ECDH"})
			refusal(t, name, err, "ValidationException", "")
		}
		garbage := make([]byte, 91)
		rand.Read(garbage)
		_, err = s.adminClient().DeriveSharedSecret(t.Context(), &awskms.DeriveSharedSecretInput{KeyId: &key, PublicKey: garbage, KeyAgreementAlgorithm: "ECDH"})
		refusal(t, "garbage", err, "ValidationException", "")
	}
}

// material returns the key material of a key as the store has it, unwrapped.
func (s *service) material(key string) (secret []byte) {
	s.t.Helper()
	id := key[strings.LastIndexByte(key, '/')+1:]
	prefix := account + "/" + region + "/" + id + "/"
	err := s.files.Ledger.View(s.t.Context(), func(tx *ledger.Tx) error {
		return tx.Scan("key-material", prefix, func(row ledger.Row) bool {
			if secret != nil {
				s.t.Errorf("%s has more than one material", key)
			}
			fatal(s.t, row.Err)
			var err error
			secret, err = s.files.RootKey.Unwrap(row.Content, []byte("cretula.kms.material\x00"+key+"\x00"+strings.TrimPrefix(row.ID, prefix)))
			fatal(s.t, err)
			return true
		})
	})
	fatal(s.t, err)
	if len(secret) == 0 {
		s.t.Fatalf("%s has no material", key)
	}
	return secret
}

// The service accepts what OpenSSL signs with the same private key, and nothing
// else.
func TestServiceVerifiesOpenSSLSignatures(t *testing.T) {
	o := newOpenSSL(t)
	s := newService(t)
	o.file("message", []byte("the message"))
	for _, kind := range keyKinds {
		if kind.usage != "SIGN_VERIFY" || strings.HasPrefix(string(kind.spec), "ML_DSA") || kind.spec == "RSA_4096" {
			continue
		}
		key := s.make(kind.spec, kind.usage)
		o.file("private", s.material(key))
		for _, algorithm := range kind.algorithms {
			if algorithm == "ED25519_PH_SHA_512" {
				continue
			}
			args := append([]string{"pkeyutl", "-sign", "-keyform", "DER", "-inkey", "private", "-in", "message", "-out", "signature"}, verifyArgs(algorithm)...)
			o.must(args...)
			verify := func(message string) error {
				_, err := s.adminClient().Verify(t.Context(), &awskms.VerifyInput{KeyId: &key, Message: []byte(message), Signature: o.read("signature"),
					SigningAlgorithm: types.SigningAlgorithmSpec(algorithm)})
				return err
			}
			if err := verify("the message"); err != nil {
				t.Errorf("%s, %s: %v", kind.spec, algorithm, err)
			}
			refusal(t, algorithm, verify("another message"), "KMSInvalidSignatureException", "")
		}
	}
}

// OpenSSL makes the same MACs.
func TestOpenSSLMacs(t *testing.T) {
	o := newOpenSSL(t)
	s := newService(t)
	for _, kind := range keyKinds {
		if kind.usage != "GENERATE_VERIFY_MAC" {
			continue
		}
		key, algorithm := s.make(kind.spec, kind.usage), types.MacAlgorithmSpec(kind.algorithms[0])
		message := bytes.Repeat([]byte("message "), 512)
		o.must("mac", "-digest", strings.ReplaceAll(strings.TrimPrefix(string(algorithm), "HMAC_"), "_", ""), "-macopt", "hexkey:"+hex.EncodeToString(s.material(key)),
			"-binary", "-in", o.file("message", message), "-out", "mac", "HMAC")
		made, err := s.adminClient().GenerateMac(t.Context(), &awskms.GenerateMacInput{KeyId: &key, Message: message, MacAlgorithm: algorithm})
		if err != nil || !bytes.Equal(made.Mac, o.read("mac")) {
			t.Errorf("%s: another MAC, %v", kind.spec, err)
		}
		if _, err := s.adminClient().VerifyMac(t.Context(), &awskms.VerifyMacInput{KeyId: &key, Message: message, MacAlgorithm: algorithm, Mac: o.read("mac")}); err != nil {
			t.Errorf("%s: %v", kind.spec, err)
		}
	}
}
