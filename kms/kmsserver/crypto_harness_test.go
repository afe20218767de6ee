// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

func init() {
	localOperations["Local.Ecdh"] = func(in map[string]any) (map[string]any, error) {
		var der [2][]byte
		for i, member := range []string{"PrivateKey", "PublicKey"} {
			var err error
			if der[i], err = base64.StdEncoding.DecodeString(fmt.Sprint(in[member])); err != nil {
				return nil, err
			}
		}
		private, err := x509.ParsePKCS8PrivateKey(der[0])
		if err != nil {
			return nil, err
		}
		public, err := x509.ParsePKIXPublicKey(der[1])
		if err != nil {
			return nil, err
		}
		type converts[T any] interface{ ECDH() (T, error) }
		own, err := private.(converts[*ecdh.PrivateKey]).ECDH()
		if err != nil {
			return nil, err
		}
		peer, err := public.(converts[*ecdh.PublicKey]).ECDH()
		if err != nil {
			return nil, err
		}
		shared, err := own.ECDH(peer)
		return map[string]any{"SharedSecret": base64.StdEncoding.EncodeToString(shared)}, err
	}
}

// make makes a key and returns its ARN.
func (s *service) make(spec types.KeySpec, usage types.KeyUsageType, change ...func(*awskms.CreateKeyInput)) string {
	s.t.Helper()
	in := &awskms.CreateKeyInput{KeySpec: spec, KeyUsage: usage}
	for _, c := range change {
		c(in)
	}
	out, err := s.adminClient().CreateKey(s.t.Context(), in)
	if err != nil {
		s.t.Fatalf("%s, %s: %v", spec, usage, err)
	}
	return *out.KeyMetadata.Arn
}

// A request is one to an operation on a key, complete but for the key and DryRun.
type request func(c *awskms.Client, key string, dry bool) error

// A use is an operation that uses a key's material.
type use struct {
	name  string
	spec  types.KeySpec
	usage types.KeyUsageType
	// prepare makes a valid request to the operation, once for one key.
	prepare func(t testing.TB, c *awskms.Client, key string) request
}

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// always is a use that needs no preparation.
func always(r request) func(testing.TB, *awskms.Client, string) request {
	return func(testing.TB, *awskms.Client, string) request { return r }
}

var background = context.Background()

// uses are all operations that use a key's material, each with a valid request.
var uses = []use{
	{"Encrypt", "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", always(func(c *awskms.Client, key string, dry bool) error {
		_, err := c.Encrypt(background, &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("x"), DryRun: &dry})
		return err
	})},
	{"Decrypt", "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", func(t testing.TB, c *awskms.Client, key string) request {
		sealed, err := c.Encrypt(background, &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("x")})
		fatal(t, err)
		return func(c *awskms.Client, key string, dry bool) error {
			_, err := c.Decrypt(background, &awskms.DecryptInput{KeyId: &key, CiphertextBlob: sealed.CiphertextBlob, DryRun: &dry})
			return err
		}
	}},
	{"ReEncrypt", "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", func(t testing.TB, c *awskms.Client, key string) request {
		sealed, err := c.Encrypt(background, &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("x")})
		fatal(t, err)
		return func(c *awskms.Client, key string, dry bool) error {
			_, err := c.ReEncrypt(background, &awskms.ReEncryptInput{SourceKeyId: &key, DestinationKeyId: &key, CiphertextBlob: sealed.CiphertextBlob, DryRun: &dry})
			return err
		}
	}},
	{"GenerateDataKey", "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", always(func(c *awskms.Client, key string, dry bool) error {
		_, err := c.GenerateDataKey(background, &awskms.GenerateDataKeyInput{KeyId: &key, NumberOfBytes: aws.Int32(7), DryRun: &dry})
		return err
	})},
	{"GenerateDataKeyWithoutPlaintext", "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", always(func(c *awskms.Client, key string, dry bool) error {
		_, err := c.GenerateDataKeyWithoutPlaintext(background, &awskms.GenerateDataKeyWithoutPlaintextInput{KeyId: &key, KeySpec: "AES_256", DryRun: &dry})
		return err
	})},
	{"GenerateDataKeyPair", "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", always(func(c *awskms.Client, key string, dry bool) error {
		_, err := c.GenerateDataKeyPair(background, &awskms.GenerateDataKeyPairInput{KeyId: &key, KeyPairSpec: "ECC_NIST_P256", DryRun: &dry})
		return err
	})},
	{"GenerateDataKeyPairWithoutPlaintext", "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", always(func(c *awskms.Client, key string, dry bool) error {
		_, err := c.GenerateDataKeyPairWithoutPlaintext(background, &awskms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: &key, KeyPairSpec: "ECC_NIST_P256", DryRun: &dry})
		return err
	})},
	{"Sign", "ECC_NIST_P256", "SIGN_VERIFY", always(func(c *awskms.Client, key string, dry bool) error {
		_, err := c.Sign(background, &awskms.SignInput{KeyId: &key, Message: []byte("x"), SigningAlgorithm: "ECDSA_SHA_256", DryRun: &dry})
		return err
	})},
	{"Verify", "ECC_NIST_P256", "SIGN_VERIFY", func(t testing.TB, c *awskms.Client, key string) request {
		signed, err := c.Sign(background, &awskms.SignInput{KeyId: &key, Message: []byte("x"), SigningAlgorithm: "ECDSA_SHA_256"})
		fatal(t, err)
		return func(c *awskms.Client, key string, dry bool) error {
			_, err := c.Verify(background, &awskms.VerifyInput{KeyId: &key, Message: []byte("x"), Signature: signed.Signature, SigningAlgorithm: "ECDSA_SHA_256", DryRun: &dry})
			return err
		}
	}},
	{"GenerateMac", "HMAC_256", "GENERATE_VERIFY_MAC", always(func(c *awskms.Client, key string, dry bool) error {
		_, err := c.GenerateMac(background, &awskms.GenerateMacInput{KeyId: &key, Message: []byte("x"), MacAlgorithm: "HMAC_SHA_256", DryRun: &dry})
		return err
	})},
	{"VerifyMac", "HMAC_256", "GENERATE_VERIFY_MAC", func(t testing.TB, c *awskms.Client, key string) request {
		made, err := c.GenerateMac(background, &awskms.GenerateMacInput{KeyId: &key, Message: []byte("x"), MacAlgorithm: "HMAC_SHA_256"})
		fatal(t, err)
		return func(c *awskms.Client, key string, dry bool) error {
			_, err := c.VerifyMac(background, &awskms.VerifyMacInput{KeyId: &key, Message: []byte("x"), Mac: made.Mac, MacAlgorithm: "HMAC_SHA_256", DryRun: &dry})
			return err
		}
	}},
	{"DeriveSharedSecret", "ECC_NIST_P256", "KEY_AGREEMENT", func(t testing.TB, _ *awskms.Client, _ string) request {
		peer, err := ecdh.P256().GenerateKey(rand.Reader)
		fatal(t, err)
		public := spki(t, peer.PublicKey())
		return func(c *awskms.Client, key string, dry bool) error {
			_, err := c.DeriveSharedSecret(background, &awskms.DeriveSharedSecretInput{KeyId: &key, PublicKey: public, KeyAgreementAlgorithm: "ECDH", DryRun: &dry})
			return err
		}
	}},
	{"GetPublicKey", "ECC_NIST_P256", "", always(func(c *awskms.Client, key string, _ bool) error {
		_, err := c.GetPublicKey(background, &awskms.GetPublicKeyInput{KeyId: &key})
		return err
	})},
}
