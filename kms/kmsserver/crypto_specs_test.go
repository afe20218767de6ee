// SPDX-License-Identifier: Apache-2.0

//lint:file-ignore SA1019 the deprecated member is answered too

package kmsserver_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/kms"
)

// A keyKind is a spec with a usage and what DescribeKey must show of it, after the
// key spec reference of AWS's developer guide.
type keyKind struct {
	spec       types.KeySpec
	usage      types.KeyUsageType
	algorithms []string
}

var (
	rsaSigning = []string{"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512",
		"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512"}
	rsaEncryption = []string{"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"}
)

var keyKinds = []keyKind{
	{"SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", []string{"SYMMETRIC_DEFAULT"}},
	{"RSA_2048", "ENCRYPT_DECRYPT", rsaEncryption}, {"RSA_2048", "SIGN_VERIFY", rsaSigning},
	{"RSA_3072", "ENCRYPT_DECRYPT", rsaEncryption}, {"RSA_3072", "SIGN_VERIFY", rsaSigning},
	{"RSA_4096", "ENCRYPT_DECRYPT", rsaEncryption}, {"RSA_4096", "SIGN_VERIFY", rsaSigning},
	{"ECC_NIST_P256", "SIGN_VERIFY", []string{"ECDSA_SHA_256"}}, {"ECC_NIST_P256", "KEY_AGREEMENT", []string{"ECDH"}},
	{"ECC_NIST_P384", "SIGN_VERIFY", []string{"ECDSA_SHA_384"}}, {"ECC_NIST_P384", "KEY_AGREEMENT", []string{"ECDH"}},
	{"ECC_NIST_P521", "SIGN_VERIFY", []string{"ECDSA_SHA_512"}}, {"ECC_NIST_P521", "KEY_AGREEMENT", []string{"ECDH"}},
	{"ECC_SECG_P256K1", "SIGN_VERIFY", []string{"ECDSA_SHA_256"}},
	{"ECC_NIST_EDWARDS25519", "SIGN_VERIFY", []string{"ED25519_SHA_512", "ED25519_PH_SHA_512"}},
	{"HMAC_224", "GENERATE_VERIFY_MAC", []string{"HMAC_SHA_224"}}, {"HMAC_256", "GENERATE_VERIFY_MAC", []string{"HMAC_SHA_256"}},
	{"HMAC_384", "GENERATE_VERIFY_MAC", []string{"HMAC_SHA_384"}}, {"HMAC_512", "GENERATE_VERIFY_MAC", []string{"HMAC_SHA_512"}},
	{"ML_DSA_44", "SIGN_VERIFY", []string{"ML_DSA_SHAKE_256"}}, {"ML_DSA_65", "SIGN_VERIFY", []string{"ML_DSA_SHAKE_256"}},
	{"ML_DSA_87", "SIGN_VERIFY", []string{"ML_DSA_SHAKE_256"}},
}

func names[T ~string](list []T) []string {
	out := []string{}
	for _, v := range list {
		out = append(out, string(v))
	}
	return out
}

// shownAlgorithms are the algorithms that metadata shows, by usage.
func shownAlgorithms(m *types.KeyMetadata) map[types.KeyUsageType][]string {
	return map[types.KeyUsageType][]string{
		"ENCRYPT_DECRYPT": names(m.EncryptionAlgorithms), "SIGN_VERIFY": names(m.SigningAlgorithms),
		"GENERATE_VERIFY_MAC": names(m.MacAlgorithms), "KEY_AGREEMENT": names(m.KeyAgreementAlgorithms),
	}
}

// Keys of every spec are made with every usage, shown and used with each of their
// algorithms, and refuse another use.
func TestEverySpec(t *testing.T) {
	s := newService(t)
	calls := map[string]request{}
	for _, u := range uses {
		calls[u.name] = u.prepare(t, s.adminClient(), s.keyFor(u))
	}
	for _, kind := range keyKinds {
		t.Run(fmt.Sprintf("%s/%s", kind.spec, kind.usage), func(t *testing.T) {
			key := s.make(kind.spec, kind.usage)
			s.checkShown(t, kind, key)
			for _, algorithm := range kind.algorithms {
				s.useKey(t, kind, key, algorithm)
			}
			s.misuseKey(t, kind, key, calls)
		})
	}
}

func (s *service) checkShown(t *testing.T, kind keyKind, key string) {
	c := s.adminClient()
	described, err := c.DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: &key})
	fatal(t, err)
	m := described.KeyMetadata
	symmetric := kind.spec == "SYMMETRIC_DEFAULT"
	if m.KeySpec != kind.spec || string(m.CustomerMasterKeySpec) != string(kind.spec) || m.KeyUsage != kind.usage ||
		m.KeyState != "Enabled" || !m.Enabled || (m.CurrentKeyMaterialId != nil) != symmetric {
		t.Errorf("metadata %+v", m)
	}
	for usage, shown := range shownAlgorithms(m) {
		var want []string
		if usage == kind.usage {
			want = kind.algorithms
		}
		if !slices.Equal(shown, want) {
			t.Errorf("algorithms for %s: %v, want %v", usage, shown, want)
		}
	}
	public, err := c.GetPublicKey(t.Context(), &awskms.GetPublicKeyInput{KeyId: &key})
	if symmetric || kind.usage == "GENERATE_VERIFY_MAC" {
		wantCode(t, err, "UnsupportedOperationException")
		return
	}
	fatal(t, err)
	if *public.KeyId != key || public.KeySpec != kind.spec || public.KeyUsage != kind.usage || len(public.PublicKey) < 40 ||
		!slices.Equal(slices.Concat(names(public.EncryptionAlgorithms), names(public.SigningAlgorithms), names(public.KeyAgreementAlgorithms)), kind.algorithms) {
		t.Errorf("GetPublicKey %+v", public)
	}
}

// useKey does with a key what its usage is for, there and back.
func (s *service) useKey(t *testing.T, kind keyKind, key, algorithm string) {
	ctx, c := t.Context(), s.adminClient()
	message := []byte("what is to be protected")
	switch kind.usage {
	case "ENCRYPT_DECRYPT":
		sealed, err := c.Encrypt(ctx, &awskms.EncryptInput{KeyId: &key, Plaintext: message, EncryptionAlgorithm: types.EncryptionAlgorithmSpec(algorithm)})
		fatal(t, err)
		opened, err := c.Decrypt(ctx, &awskms.DecryptInput{KeyId: &key, CiphertextBlob: sealed.CiphertextBlob, EncryptionAlgorithm: types.EncryptionAlgorithmSpec(algorithm)})
		fatal(t, err)
		if !bytes.Equal(opened.Plaintext, message) || *opened.KeyId != key || *sealed.KeyId != key || string(opened.EncryptionAlgorithm) != algorithm ||
			string(sealed.EncryptionAlgorithm) != algorithm || (opened.KeyMaterialId != nil) != (algorithm == "SYMMETRIC_DEFAULT") {
			t.Errorf("%s: %+v", algorithm, opened)
		}
	case "SIGN_VERIFY":
		var messageType types.MessageType
		if algorithm == "ED25519_PH_SHA_512" {
			message, messageType = make([]byte, 64), "DIGEST"
		}
		signed, err := c.Sign(ctx, &awskms.SignInput{KeyId: &key, Message: message, MessageType: messageType, SigningAlgorithm: types.SigningAlgorithmSpec(algorithm)})
		fatal(t, err)
		verify := func(message, signature []byte) (*awskms.VerifyOutput, error) {
			return c.Verify(ctx, &awskms.VerifyInput{KeyId: &key, Message: message, MessageType: messageType, Signature: signature, SigningAlgorithm: types.SigningAlgorithmSpec(algorithm)})
		}
		verified, err := verify(message, signed.Signature)
		fatal(t, err)
		if !verified.SignatureValid || *verified.KeyId != key || *signed.KeyId != key || string(signed.SigningAlgorithm) != algorithm || string(verified.SigningAlgorithm) != algorithm {
			t.Errorf("%s: %+v", algorithm, verified)
		}
		message[0] ^= 1
		_, err = verify(message, signed.Signature)
		wantCode(t, err, "KMSInvalidSignatureException")
	case "GENERATE_VERIFY_MAC":
		made, err := c.GenerateMac(ctx, &awskms.GenerateMacInput{KeyId: &key, Message: message, MacAlgorithm: types.MacAlgorithmSpec(algorithm)})
		fatal(t, err)
		verified, err := c.VerifyMac(ctx, &awskms.VerifyMacInput{KeyId: &key, Message: message, Mac: made.Mac, MacAlgorithm: types.MacAlgorithmSpec(algorithm)})
		fatal(t, err)
		if !verified.MacValid || *verified.KeyId != key || *made.KeyId != key || string(made.MacAlgorithm) != algorithm {
			t.Errorf("%s: %+v", algorithm, verified)
		}
	case "KEY_AGREEMENT":
		s.agree(t, kind, key)
	default:
		t.Fatalf("usage %s", kind.usage)
	}
}

// agree derives a secret with a second key of the spec, from both sides.
func (s *service) agree(t *testing.T, kind keyKind, key string) {
	ctx, c := t.Context(), s.adminClient()
	peer := s.make(kind.spec, kind.usage)
	var secrets [2][]byte
	for i, pair := range [][2]string{{key, peer}, {peer, key}} {
		public, err := c.GetPublicKey(ctx, &awskms.GetPublicKeyInput{KeyId: &pair[1]})
		fatal(t, err)
		derived, err := c.DeriveSharedSecret(ctx, &awskms.DeriveSharedSecretInput{KeyId: &pair[0], PublicKey: public.PublicKey, KeyAgreementAlgorithm: "ECDH"})
		fatal(t, err)
		if *derived.KeyId != pair[0] || derived.KeyOrigin != "AWS_KMS" || derived.KeyAgreementAlgorithm != "ECDH" || derived.CiphertextForRecipient != nil {
			t.Errorf("%+v", derived)
		}
		secrets[i] = derived.SharedSecret
	}
	if len(secrets[0]) < 32 || !bytes.Equal(secrets[0], secrets[1]) {
		t.Errorf("secrets of %d and %d bytes differ", len(secrets[0]), len(secrets[1]))
	}
}

// misuseKey tries every operation that needs another usage.
func (s *service) misuseKey(t *testing.T, kind keyKind, key string, calls map[string]request) {
	for _, u := range uses {
		if u.usage == kind.usage || u.usage == "" {
			continue
		}
		want := "InvalidKeyUsageException"
		if u.name == "Decrypt" || u.name == "ReEncrypt" {
			want = "IncorrectKeyException"
		}
		err := calls[u.name](s.adminClient(), key, false)
		if err == nil {
			t.Errorf("%s: allowed", u.name)
		} else if code, _, _, _ := refused(t, err); code != want {
			t.Errorf("%s: %s, want %s", u.name, code, want)
		}
	}
}

func TestCreateKeyRefusals(t *testing.T) {
	s := newService(t)
	tag := func(key, value string) types.Tag {
		return types.Tag{TagKey: aws.String(key), TagValue: aws.String(value)}
	}
	var many []types.Tag
	for i := range 51 {
		many = append(many, tag(fmt.Sprintf("key%d", i), ""))
	}
	const needsStore = "CustomKeyStoreId is required if Origin is AWS_CLOUDHSM or EXTERNAL_KEY_STORE, and not valid otherwise."
	const needsXks = "XksKeyId is required if Origin is EXTERNAL_KEY_STORE, and not valid otherwise."
	for name, c := range map[string]struct {
		in            awskms.CreateKeyInput
		code, message string
	}{
		"SM2":             {awskms.CreateKeyInput{KeySpec: "SM2", KeyUsage: "SIGN_VERIFY"}, "UnsupportedOperationException", "This key service does not have keys of spec SM2."},
		"no usage":        {awskms.CreateKeyInput{KeySpec: "RSA_2048"}, "ValidationException", "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys."},
		"two specs":       {awskms.CreateKeyInput{KeySpec: "RSA_2048", CustomerMasterKeySpec: "RSA_3072", KeyUsage: "SIGN_VERIFY"}, "ValidationException", "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated."},
		"one spec twice":  {awskms.CreateKeyInput{KeySpec: "RSA_2048", CustomerMasterKeySpec: "RSA_2048", KeyUsage: "SIGN_VERIFY"}, "ValidationException", "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated."},
		"symmetric signs": {awskms.CreateKeyInput{KeyUsage: "SIGN_VERIFY"}, "ValidationException", "KeyUsage SIGN_VERIFY is not compatible with KeySpec SYMMETRIC_DEFAULT"},
		"k1 agrees":       {awskms.CreateKeyInput{KeySpec: "ECC_SECG_P256K1", KeyUsage: "KEY_AGREEMENT"}, "ValidationException", "KeyUsage KEY_AGREEMENT is not compatible with KeySpec ECC_SECG_P256K1"},
		"duplicate tags":  {awskms.CreateKeyInput{Tags: []types.Tag{tag("a", "b"), tag("a", "b")}}, "TagException", "Duplicate tag keys"},
		"reserved tag":    {awskms.CreateKeyInput{Tags: []types.Tag{tag("aws:a", "b")}}, "TagException", "Tags beginning with aws: are reserved"},
		"51 tags":         {awskms.CreateKeyInput{Tags: many}, "TagException", "Too many tags"},
		"HSM":             {awskms.CreateKeyInput{Origin: "AWS_CLOUDHSM"}, "ValidationException", needsStore},
		"external store":  {awskms.CreateKeyInput{Origin: "EXTERNAL_KEY_STORE", XksKeyId: aws.String("x")}, "ValidationException", needsStore},
		"store, no HSM":   {awskms.CreateKeyInput{CustomKeyStoreId: aws.String("cks-1")}, "ValidationException", needsStore},
		"no XKS key":      {awskms.CreateKeyInput{Origin: "EXTERNAL_KEY_STORE", CustomKeyStoreId: aws.String("cks-1")}, "ValidationException", needsXks},
		"XKS key":         {awskms.CreateKeyInput{XksKeyId: aws.String("x")}, "ValidationException", needsXks},
		"RSA in a store": {awskms.CreateKeyInput{Origin: "AWS_CLOUDHSM", CustomKeyStoreId: aws.String("cks-1"), KeySpec: "RSA_2048", KeyUsage: "SIGN_VERIFY"},
			"UnsupportedOperationException", "Keys of spec RSA_2048 cannot be in a custom key store."},
		"multi-region in a store": {awskms.CreateKeyInput{Origin: "AWS_CLOUDHSM", CustomKeyStoreId: aws.String("cks-1"), MultiRegion: aws.Bool(true)},
			"UnsupportedOperationException", "Multi-region keys cannot be in a custom key store."},
		"unknown store": {awskms.CreateKeyInput{Origin: "AWS_CLOUDHSM", CustomKeyStoreId: aws.String("cks-1")},
			"CustomKeyStoreNotFoundException", "Custom key store 'cks-1' does not exist."},
	} {
		_, err := s.adminClient().CreateKey(t.Context(), &c.in)
		refusal(t, name, err, c.code, c.message)
	}
	listed, err := s.adminClient().ListKeys(t.Context(), &awskms.ListKeysInput{})
	if err != nil || len(listed.Keys) != 0 {
		t.Errorf("%d keys were made, %v", len(listed.Keys), err)
	}
}

// KeySpec has a deprecated name too.
func TestCustomerMasterKeySpec(t *testing.T) {
	s := newService(t)
	out, err := s.adminClient().CreateKey(t.Context(), &awskms.CreateKeyInput{CustomerMasterKeySpec: "HMAC_256", KeyUsage: "GENERATE_VERIFY_MAC"})
	if err != nil || out.KeyMetadata.KeySpec != "HMAC_256" {
		t.Errorf("%v, %v", out, err)
	}
}

// Tags of a new key need kms:TagResource beside kms:CreateKey, and are there for
// conditions on both.
func TestCreateKeyWithTags(t *testing.T) {
	s := newService(t)
	in := &awskms.CreateKeyInput{Tags: []types.Tag{{TagKey: aws.String("team"), TagValue: aws.String("red")}}}
	const create = `{"Effect":"Allow","Action":["kms:CreateKey","kms:PutKeyPolicy"],"Resource":"*"}`
	tagging := func(team string) string {
		return `,{"Effect":"Allow","Action":"kms:TagResource","Resource":"arn:aws:kms:us-east-1:000000000000:key/*",
			"Condition":{"StringEquals":{"aws:RequestTag/team":"` + team + `"},"ForAllValues:StringEquals":{"aws:TagKeys":["team"]}}}`
	}
	for name, c := range map[string]struct {
		more    string
		allowed bool
	}{"none": {"", false}, "red": {tagging("red"), true}, "blue": {tagging("blue"), false}} {
		user := s.principal(kms.User, name, `{"Version":"2012-10-17","Statement":[`+create+c.more+`]}`)
		out, err := s.client(user, region).CreateKey(t.Context(), in)
		if !c.allowed {
			wantCode(t, err, "AccessDeniedException")
			continue
		}
		fatal(t, err)
		tags, err := s.adminClient().ListResourceTags(t.Context(), &awskms.ListResourceTagsInput{KeyId: out.KeyMetadata.KeyId})
		if err != nil || len(tags.Tags) != 1 || *tags.Tags[0].TagValue != "red" {
			t.Errorf("%v, %v", tags, err)
		}
		if event := s.lastEvent(t, "CreateKey"); event["otherPolicyDecisions"] == nil {
			t.Error("the event has one decision")
		}
		if _, err := s.client(user, region).CreateKey(t.Context(), &awskms.CreateKeyInput{}); err != nil {
			t.Errorf("without tags: %v", err)
		}
	}
}
