// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"runtime"
	"testing"
	"time"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/cms"
	"github.com/cretula/cretula/kms"
)

// pairSpecs are the specs of data key pairs; crypto/x509 reads all of them but
// secp256k1, which OpenSSL reads.
var pairSpecs = []types.DataKeyPairSpec{"RSA_2048", "RSA_3072", "RSA_4096", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521",
	"ECC_SECG_P256K1", "ECC_NIST_EDWARDS25519"}

// usePair signs with a private key and verifies with the public one.
func usePair(t *testing.T, private, public []byte) {
	t.Helper()
	key, err := x509.ParsePKCS8PrivateKey(private)
	fatal(t, err)
	other, err := x509.ParsePKIXPublicKey(public)
	fatal(t, err)
	digest := sha256.Sum256([]byte("message"))
	valid := false
	switch key := key.(type) {
	case *rsa.PrivateKey:
		signature, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], nil)
		fatal(t, err)
		valid = rsa.VerifyPSS(other.(*rsa.PublicKey), crypto.SHA256, digest[:], signature, nil) == nil
	case *ecdsa.PrivateKey:
		signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
		fatal(t, err)
		valid = ecdsa.VerifyASN1(other.(*ecdsa.PublicKey), digest[:], signature)
	case ed25519.PrivateKey:
		valid = ed25519.Verify(other.(ed25519.PublicKey), []byte("message"), ed25519.Sign(key, []byte("message")))
	}
	if !valid {
		t.Errorf("the halves of a pair of %T do not belong together", key)
	}
}

func TestDataKeyPairs(t *testing.T) {
	s := newService(t)
	ctx, c, key := t.Context(), s.adminClient(), s.key("")
	context := map[string]string{"tenant": "a"}
	for _, spec := range pairSpecs {
		t.Run(string(spec), func(t *testing.T) {
			var publics [][]byte
			for range 2 {
				pair, err := c.GenerateDataKeyPair(ctx, &awskms.GenerateDataKeyPairInput{KeyId: &key, KeyPairSpec: spec, EncryptionContext: context})
				fatal(t, err)
				if *pair.KeyId != key || pair.KeyPairSpec != spec || len(*pair.KeyMaterialId) != 64 || pair.CiphertextForRecipient != nil {
					t.Errorf("%+v", pair)
				}
				opened, err := c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: pair.PrivateKeyCiphertextBlob, EncryptionContext: context})
				fatal(t, err)
				if !bytes.Equal(opened.Plaintext, pair.PrivateKeyPlaintext) {
					t.Error("the sealed private key is not the plain one")
				}
				if _, err := c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: pair.PrivateKeyCiphertextBlob}); err == nil {
					t.Error("opened without its context")
				}
				checkPair(t, spec, pair.PrivateKeyPlaintext, pair.PublicKey)
				publics = append(publics, pair.PublicKey)
			}
			sealed, err := c.GenerateDataKeyPairWithoutPlaintext(ctx, &awskms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: &key, KeyPairSpec: spec, EncryptionContext: context})
			fatal(t, err)
			if *sealed.KeyId != key || sealed.KeyPairSpec != spec || len(*sealed.KeyMaterialId) != 64 {
				t.Errorf("%+v", sealed)
			}
			opened, err := c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: sealed.PrivateKeyCiphertextBlob, EncryptionContext: context})
			fatal(t, err)
			checkPair(t, spec, opened.Plaintext, sealed.PublicKey)
			if bytes.Equal(publics[0], publics[1]) || bytes.Equal(publics[1], sealed.PublicKey) {
				t.Error("a pair was given twice")
			}
		})
	}
	for _, spec := range []types.DataKeyPairSpec{"SM2", "ML_KEM_768"} {
		_, err := c.GenerateDataKeyPair(ctx, &awskms.GenerateDataKeyPairInput{KeyId: &key, KeyPairSpec: spec})
		refusal(t, string(spec), err, "UnsupportedOperationException", "This key service does not have key pairs of spec "+string(spec)+".")
	}
	_, err := c.GenerateDataKeyPair(ctx, &awskms.GenerateDataKeyPairInput{KeyId: &key, KeyPairSpec: "HMAC_256"})
	wantCode(t, err, "ValidationException")
}

func checkPair(t *testing.T, spec types.DataKeyPairSpec, private, public []byte) {
	t.Helper()
	if spec != "ECC_SECG_P256K1" {
		usePair(t, private, public)
		return
	}
	o := newOpenSSL(t)
	o.file("message", []byte("message"))
	o.must("dgst", "-sha256", "-keyform", "DER", "-sign", o.file("private", private), "-out", "signature", "message")
	o.must("dgst", "-sha256", "-keyform", "DER", "-verify", o.file("public", public), "-signature", "signature", "message")
}

func TestDataKeysWithoutPlaintext(t *testing.T) {
	s := newService(t)
	ctx, c, key := t.Context(), s.adminClient(), s.key("")
	for size, in := range map[int]*awskms.GenerateDataKeyWithoutPlaintextInput{
		16: {KeySpec: "AES_128"}, 32: {KeySpec: "AES_256"}, 1: {NumberOfBytes: ptr(int32(1))}, 1024: {NumberOfBytes: ptr(int32(1024))},
	} {
		in.KeyId, in.EncryptionContext = &key, map[string]string{"a": "b"}
		out, err := c.GenerateDataKeyWithoutPlaintext(ctx, in)
		fatal(t, err)
		opened, err := c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: out.CiphertextBlob, EncryptionContext: in.EncryptionContext})
		if err != nil || len(opened.Plaintext) != size || *out.KeyId != key || *out.KeyMaterialId != *opened.KeyMaterialId {
			t.Errorf("%d bytes: %+v, %v", size, out, err)
		}
	}
	for _, in := range []*awskms.GenerateDataKeyWithoutPlaintextInput{{}, {KeySpec: "AES_128", NumberOfBytes: ptr(int32(16))}, {NumberOfBytes: ptr(int32(0))}, {NumberOfBytes: ptr(int32(1025))}} {
		in.KeyId = &key
		_, err := c.GenerateDataKeyWithoutPlaintext(ctx, in)
		wantCode(t, err, "ValidationException")
	}
}

func ptr[T any](v T) *T { return &v }

// attestedUse is a key policy by which only the enclave with image 1 gets answers.
const attestedUse = `{"Version":"2012-10-17","Statement":[
	{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/admin"},"Action":["kms:DescribeKey","kms:PutKeyPolicy","kms:GetPublicKey","kms:Encrypt"],"Resource":"*"},
	{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:role/enclave"},"Action":["kms:GenerateDataKeyPair","kms:DeriveSharedSecret","kms:Decrypt"],"Resource":"*",
	 "Condition":{"StringEqualsIgnoreCase":{"kms:RecipientAttestation:ImageSha384":"%IMAGE%"}}}]}`

// The answers that AWS seals to a document: private keys, shared secrets and what
// RSA keys decrypt. None comes in plain beside its envelope.
func TestAttestedForms(t *testing.T) {
	s := newService(t)
	role := s.principal(kms.Role, "enclave")
	set := registers(1)
	image, _ := set.Get(0)
	policy := string(bytes.ReplaceAll([]byte(attestedUse), []byte("%IMAGE%"), []byte(image.String())))
	withPolicy := func(in *awskms.CreateKeyInput) { in.Policy = &policy }
	ctx, admin, c := t.Context(), s.adminClient(), s.client(role, region)

	symmetric, agreement := s.make("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", withPolicy), s.make("ECC_NIST_P384", "KEY_AGREEMENT", withPolicy)
	pkcs := s.make("RSA_2048", "ENCRYPT_DECRYPT", withPolicy)
	peer, err := ecdh.P384().GenerateKey(rand.Reader)
	fatal(t, err)
	public, err := admin.GetPublicKey(ctx, &awskms.GetPublicKeyInput{KeyId: &agreement})
	fatal(t, err)
	sealed, err := admin.Encrypt(ctx, &awskms.EncryptInput{KeyId: &pkcs, Plaintext: []byte("the secret"), EncryptionAlgorithm: "RSAES_OAEP_SHA_1"})
	fatal(t, err)

	// Each request returns what it got in plain, the envelope and a check of what is in it.
	requests := map[string]func(*types.RecipientInfo) (plain, envelope []byte, check func([]byte), err error){
		"GenerateDataKeyPair": func(r *types.RecipientInfo) ([]byte, []byte, func([]byte), error) {
			out, err := c.GenerateDataKeyPair(ctx, &awskms.GenerateDataKeyPairInput{KeyId: &symmetric, KeyPairSpec: "RSA_4096", Recipient: r})
			if err != nil {
				return nil, nil, nil, err
			}
			if len(*out.KeyMaterialId) != 64 || len(out.PrivateKeyCiphertextBlob) < 2000 || *out.KeyId != symmetric {
				t.Errorf("%+v", out)
			}
			return out.PrivateKeyPlaintext, out.CiphertextForRecipient, func(content []byte) { usePair(t, content, out.PublicKey) }, nil
		},
		"DeriveSharedSecret": func(r *types.RecipientInfo) ([]byte, []byte, func([]byte), error) {
			out, err := c.DeriveSharedSecret(ctx, &awskms.DeriveSharedSecretInput{KeyId: &agreement, PublicKey: spki(t, peer.PublicKey()), KeyAgreementAlgorithm: "ECDH", Recipient: r})
			if err != nil {
				return nil, nil, nil, err
			}
			if *out.KeyId != agreement || out.KeyOrigin != "AWS_KMS" || out.KeyAgreementAlgorithm != "ECDH" {
				t.Errorf("%+v", out)
			}
			return out.SharedSecret, out.CiphertextForRecipient, func(content []byte) {
				service, err := x509.ParsePKIXPublicKey(public.PublicKey)
				fatal(t, err)
				point, err := service.(*ecdsa.PublicKey).ECDH()
				fatal(t, err)
				want, err := peer.ECDH(point)
				if err != nil || !bytes.Equal(content, want) {
					t.Errorf("another secret: %v", err)
				}
			}, nil
		},
		"Decrypt": func(r *types.RecipientInfo) ([]byte, []byte, func([]byte), error) {
			out, err := c.Decrypt(ctx, &awskms.DecryptInput{KeyId: &pkcs, CiphertextBlob: sealed.CiphertextBlob, EncryptionAlgorithm: "RSAES_OAEP_SHA_1", Recipient: r})
			if err != nil {
				return nil, nil, nil, err
			}
			if *out.KeyId != pkcs || out.EncryptionAlgorithm != "RSAES_OAEP_SHA_1" || out.KeyMaterialId != nil {
				t.Errorf("%+v", out)
			}
			return out.Plaintext, out.CiphertextForRecipient, func(content []byte) {
				if string(content) != "the secret" {
					t.Errorf("%d other bytes", len(content))
				}
			}, nil
		},
	}
	for name, request := range requests {
		plain, envelope, check, err := request(recipient(document(t)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(plain) != 0 {
			t.Errorf("%s: plaintext beside the envelope", name)
		}
		content, err := cms.Open(recipientKey(), envelope)
		fatal(t, err)
		check(content)
		_, _, _, err = request(recipient(document(t, func(c *issuer.Content) { c.PCRs = registers(9) })))
		wantCode(t, err, "AccessDeniedException")
		_, _, _, err = request(nil)
		wantCode(t, err, "AccessDeniedException")
		_, _, _, err = request(recipient([]byte("no document")))
		wantCode(t, err, "ValidationException")
		_, _, _, err = request(recipient(document(t, func(c *issuer.Content) { c.PublicKey = nil })))
		wantCode(t, err, "ValidationException")
	}
}

// A closed service makes no RSA pairs any more and leaves no goroutine behind.
func TestCloseEndsThePool(t *testing.T) {
	s := newService(t)
	key := s.key("")
	pair := func(spec types.DataKeyPairSpec) error {
		_, err := s.adminClient().GenerateDataKeyPair(t.Context(), &awskms.GenerateDataKeyPairInput{KeyId: &key, KeyPairSpec: spec})
		return err
	}
	fatal(t, pair("RSA_2048"))
	s.kms.Close()
	s.kms.Close()
	// The goroutine has told that it ends; its last step may be still to come.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		stacks := make([]byte, 1<<20)
		if !bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("keyspec.(*Pool).fill")) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the pool is still at work")
		}
	}
	wantCode(t, pair("RSA_2048"), "KMSInternalException")
	fatal(t, pair("ECC_NIST_P256"))
}
