// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/cms"
	"github.com/cretula/cretula/kms"
)

// Two regions beside that of the constant region.
const (
	second = "eu-west-1"
	third  = "ap-southeast-2"
)

func multiRegion(in *awskms.CreateKeyInput) { in.MultiRegion = aws.Bool(true) }

func regionalARN(inRegion, id string) string {
	return "arn:aws:kms:" + inRegion + ":" + account + ":key/" + id
}

// multiKey makes a multi-region key with replicas and returns its id.
func (s *service) multiKey(replicas ...string) string {
	s.t.Helper()
	return s.replicated(s.make(types.KeySpecSymmetricDefault, "", multiRegion), replicas...)
}

// replicated makes replicas of a primary key and returns its id.
func (s *service) replicated(arn string, replicas ...string) string {
	s.t.Helper()
	for _, r := range replicas {
		fatal(s.t, s.replicate(s.admin, arn, r))
	}
	return arn[strings.LastIndexByte(arn, '/')+1:]
}

// replicate makes a replica of a key, which is in the region of the constant.
func (s *service) replicate(as kms.Credentials, key, to string, change ...func(*awskms.ReplicateKeyInput)) error {
	in := &awskms.ReplicateKeyInput{KeyId: &key, ReplicaRegion: &to}
	for _, c := range change {
		c(in)
	}
	_, err := s.client(as, region).ReplicateKey(s.t.Context(), in)
	return err
}

func (s *service) describe(inRegion, id string) *types.KeyMetadata {
	s.t.Helper()
	out, err := s.client(s.admin, inRegion).DescribeKey(s.t.Context(), &awskms.DescribeKeyInput{KeyId: &id})
	fatal(s.t, err)
	return out.KeyMetadata
}

// wantRegions checks what the key of each region shows of the others; the first is
// that of the primary key.
func (s *service) wantRegions(id, primary string, replicas ...string) {
	s.t.Helper()
	slices.Sort(replicas)
	for _, r := range append([]string{primary}, replicas...) {
		m := s.describe(r, id)
		kind := types.MultiRegionKeyTypeReplica
		if r == primary {
			kind = types.MultiRegionKeyTypePrimary
		}
		c := m.MultiRegionConfiguration
		var shown []string
		for _, k := range c.ReplicaKeys {
			shown = append(shown, *k.Region)
			if *k.Arn != regionalARN(*k.Region, id) {
				s.t.Errorf("%s: replica %s", r, *k.Arn)
			}
		}
		if !*m.MultiRegion || *m.KeyId != id || *m.Arn != regionalARN(r, id) || c.MultiRegionKeyType != kind || *c.PrimaryKey.Region != primary ||
			*c.PrimaryKey.Arn != regionalARN(primary, id) || !slices.Equal(shown, replicas) {
			s.t.Errorf("%s: %+v, replicas %v", r, c, shown)
		}
	}
}

// What is encrypted in one region is decrypted in every other in which the key is.
func TestReplicasShareMaterial(t *testing.T) {
	s := newService(t)
	ctx := t.Context()
	id := s.multiKey(second, third)
	s.wantRegions(id, region, second, third)
	regions := []string{region, second, third}
	context := map[string]string{"tenant": "a"}
	material := *s.describe(region, id).CurrentKeyMaterialId
	for _, from := range regions {
		sealed, err := s.client(s.admin, from).Encrypt(ctx, &awskms.EncryptInput{KeyId: &id, Plaintext: []byte(from), EncryptionContext: context})
		fatal(t, err)
		pair, err := s.client(s.admin, from).GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{KeyId: &id, KeySpec: types.DataKeySpecAes256})
		fatal(t, err)
		for _, to := range regions {
			client := s.client(s.admin, to)
			for _, keyID := range []*string{nil, &id, aws.String(regionalARN(to, id))} {
				opened, err := client.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: context, KeyId: keyID})
				fatal(t, err)
				if string(opened.Plaintext) != from || *opened.KeyId != regionalARN(to, id) || *opened.KeyMaterialId != material {
					t.Errorf("%s to %s: %+v", from, to, opened)
				}
			}
			opened, err := client.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: pair.CiphertextBlob})
			fatal(t, err)
			if !bytes.Equal(opened.Plaintext, pair.Plaintext) {
				t.Errorf("%s to %s: another data key", from, to)
			}
			_, err = client.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
			wantCode(t, err, "InvalidCiphertextException")
			_, err = client.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: context, KeyId: aws.String(regionalARN(from, id))})
			if from != to {
				refusal(t, "the key of another region", err, "NotFoundException", "Invalid arn "+from)
			}
		}
		elsewhere := s.client(s.admin, "us-west-2")
		_, err = elsewhere.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: context})
		refusal(t, "no key there", err, "AccessDeniedException", "The ciphertext refers to a customer master key that does not exist, "+
			"does not exist in this region, or you are not allowed to access.")
		_, err = elsewhere.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: context, KeyId: &id})
		refusal(t, "no key there", err, "NotFoundException", "Key '"+regionalARN("us-west-2", id)+"' does not exist")
	}
	// Another multi-region key, and one of one region, open none of it.
	sealed := s.encrypt(regionalARN(region, id), "", nil)
	for _, other := range []string{s.multiKey(second), s.key("")} {
		_, err := s.adminClient().Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: sealed, KeyId: &other})
		wantCode(t, err, "IncorrectKeyException")
	}
}

// Every spec and usage can be in several regions.
func TestReplicasOfEverySpec(t *testing.T) {
	s := newService(t)
	ctx, here, there := t.Context(), s.adminClient(), s.client(s.admin, second)
	message := []byte("message")
	for spec, algorithm := range map[types.KeySpec]types.SigningAlgorithmSpec{
		types.KeySpecRsa2048: types.SigningAlgorithmSpecRsassaPssSha256, types.KeySpecEccNistP384: types.SigningAlgorithmSpecEcdsaSha384,
		types.KeySpecEccSecgP256k1: types.SigningAlgorithmSpecEcdsaSha256, types.KeySpecEccNistEdwards25519: types.SigningAlgorithmSpecEd25519Sha512,
		types.KeySpecMlDsa44: types.SigningAlgorithmSpecMlDsaShake256,
	} {
		id := s.replicated(s.make(spec, types.KeyUsageTypeSignVerify, multiRegion), second)
		signed, err := here.Sign(ctx, &awskms.SignInput{KeyId: &id, Message: message, SigningAlgorithm: algorithm})
		fatal(t, err)
		_, err = there.Verify(ctx, &awskms.VerifyInput{KeyId: &id, Message: message, Signature: signed.Signature, SigningAlgorithm: algorithm})
		if err != nil {
			t.Errorf("%s: %v", spec, err)
		}
		a, err := here.GetPublicKey(ctx, &awskms.GetPublicKeyInput{KeyId: &id})
		fatal(t, err)
		b, err := there.GetPublicKey(ctx, &awskms.GetPublicKeyInput{KeyId: &id})
		fatal(t, err)
		if !bytes.Equal(a.PublicKey, b.PublicKey) || *b.KeyId != regionalARN(second, id) {
			t.Errorf("%s: another public key in another region", spec)
		}
	}
	id := s.replicated(s.make(types.KeySpecHmac384, types.KeyUsageTypeGenerateVerifyMac, multiRegion), second)
	mac, err := there.GenerateMac(ctx, &awskms.GenerateMacInput{KeyId: &id, Message: message, MacAlgorithm: types.MacAlgorithmSpecHmacSha384})
	fatal(t, err)
	_, err = here.VerifyMac(ctx, &awskms.VerifyMacInput{KeyId: &id, Message: message, Mac: mac.Mac, MacAlgorithm: types.MacAlgorithmSpecHmacSha384})
	fatal(t, err)

	id = s.replicated(s.make(types.KeySpecRsa2048, types.KeyUsageTypeEncryptDecrypt, multiRegion), second)
	oaep := types.EncryptionAlgorithmSpecRsaesOaepSha256
	sealed, err := here.Encrypt(ctx, &awskms.EncryptInput{KeyId: &id, Plaintext: message, EncryptionAlgorithm: oaep})
	fatal(t, err)
	opened, err := there.Decrypt(ctx, &awskms.DecryptInput{KeyId: &id, CiphertextBlob: sealed.CiphertextBlob, EncryptionAlgorithm: oaep})
	fatal(t, err)
	if !bytes.Equal(opened.Plaintext, message) {
		t.Error("RSA: another plaintext")
	}

	id = s.replicated(s.make(types.KeySpecEccNistP256, types.KeyUsageTypeKeyAgreement, multiRegion), second)
	peer := s.make(types.KeySpecEccNistP256, types.KeyUsageTypeKeyAgreement)
	public, err := here.GetPublicKey(ctx, &awskms.GetPublicKeyInput{KeyId: &peer})
	fatal(t, err)
	var secrets [2][]byte
	for i, client := range []*awskms.Client{here, there} {
		out, err := client.DeriveSharedSecret(ctx, &awskms.DeriveSharedSecretInput{KeyId: &id, PublicKey: public.PublicKey,
			KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh})
		fatal(t, err)
		secrets[i] = out.SharedSecret
	}
	if len(secrets[0]) == 0 || !bytes.Equal(secrets[0], secrets[1]) {
		t.Error("another shared secret")
	}
	_, err = here.CreateKey(ctx, &awskms.CreateKeyInput{MultiRegion: aws.Bool(true), Origin: types.OriginTypeAwsCloudhsm, CustomKeyStoreId: aws.String("cks-1")})
	wantCode(t, err, "UnsupportedOperationException")
}

// Policy, tags, aliases, grants, description and state are each key's own.
func TestReplicasAreIndependent(t *testing.T) {
	s := newService(t)
	ctx, here, there := t.Context(), s.adminClient(), s.client(s.admin, second)
	tag := func(value string) []types.Tag { return []types.Tag{{TagKey: aws.String("where"), TagValue: &value}} }
	created, err := here.CreateKey(ctx, &awskms.CreateKeyInput{MultiRegion: aws.Bool(true), Description: aws.String("one"), Tags: tag("here")})
	fatal(t, err)
	id := created.KeyMetadata.KeyId
	_, err = here.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: aws.String("alias/one"), TargetKeyId: id})
	fatal(t, err)
	policy := strings.Replace(adminPolicy, "user/admin", "root", 1)
	out, err := here.ReplicateKey(ctx, &awskms.ReplicateKeyInput{KeyId: id, ReplicaRegion: aws.String(second), Policy: &policy,
		Description: aws.String("two"), Tags: tag("there")})
	fatal(t, err)
	if m := out.ReplicaKeyMetadata; *out.ReplicaPolicy != policy || len(out.ReplicaTags) != 1 || *out.ReplicaTags[0].TagValue != "there" ||
		*m.Description != "two" || m.KeyState != types.KeyStateEnabled || !m.Enabled || *m.Arn != regionalARN(second, *id) {
		t.Errorf("%+v", out)
	}
	plain, err := here.ReplicateKey(ctx, &awskms.ReplicateKeyInput{KeyId: id, ReplicaRegion: aws.String(third)})
	fatal(t, err)
	if plain.ReplicaTags == nil || len(plain.ReplicaTags) != 0 || *plain.ReplicaKeyMetadata.Description != "" || !strings.Contains(*plain.ReplicaPolicy, "key-default-1") {
		t.Errorf("%+v", plain)
	}
	tags, err := there.ListResourceTags(ctx, &awskms.ListResourceTagsInput{KeyId: id})
	fatal(t, err)
	if len(tags.Tags) != 1 || *tags.Tags[0].TagValue != "there" {
		t.Errorf("tags %v", tags.Tags)
	}
	_, err = there.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: aws.String("alias/one")})
	wantCode(t, err, "NotFoundException")
	_, err = there.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: aws.String("alias/one"), TargetKeyId: id})
	fatal(t, err)
	if m := s.describe(second, "alias/one"); *m.Arn != regionalARN(second, *id) {
		t.Errorf("the alias there is of %s", *m.Arn)
	}

	reader := s.principal(kms.User, "reader")
	granted, err := there.CreateGrant(ctx, &awskms.CreateGrantInput{KeyId: id, GranteePrincipal: aws.String("arn:aws:iam::" + account + ":user/reader"),
		Operations: []types.GrantOperation{types.GrantOperationDescribeKey}})
	fatal(t, err)
	_, err = s.client(reader, second).DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: id, GrantTokens: []string{*granted.GrantToken}})
	fatal(t, err)
	_, err = s.client(reader, region).DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: id})
	wantCode(t, err, "AccessDeniedException")

	_, err = there.PutKeyPolicy(ctx, &awskms.PutKeyPolicyInput{KeyId: id, Policy: aws.String(adminPolicy)})
	fatal(t, err)
	if got := policyOf(t, s, *id); !strings.Contains(got, "key-default-1") {
		t.Errorf("the policy here is %s", got)
	}
	_, err = there.DisableKey(ctx, &awskms.DisableKeyInput{KeyId: id})
	fatal(t, err)
	_, err = there.Encrypt(ctx, &awskms.EncryptInput{KeyId: id, Plaintext: []byte("x")})
	refusal(t, "disabled there", err, "DisabledException", regionalARN(second, *id)+" is disabled.")
	for _, client := range []*awskms.Client{here, s.client(s.admin, third)} {
		_, err = client.Encrypt(ctx, &awskms.EncryptInput{KeyId: id, Plaintext: []byte("x")})
		fatal(t, err)
	}
	_, err = there.UpdateKeyDescription(ctx, &awskms.UpdateKeyDescriptionInput{KeyId: id, Description: aws.String("three")})
	fatal(t, err)
	if m := s.describe(region, *id); *m.Description != "one" || m.KeyState != types.KeyStateEnabled {
		t.Errorf("%+v", m)
	}
}

// A document lets its enclave decrypt in the other region, by the policy there.
func TestAttestedDecryptInOtherRegion(t *testing.T) {
	s, role, _, _ := attestedService(t)
	roleARN := fmt.Sprintf("arn:aws:iam::%s:role/data-processing", account)
	id := s.multiKey()
	fatal(t, s.replicate(s.admin, id, second, func(in *awskms.ReplicateKeyInput) { in.Policy = aws.String(attested(roleARN, registers(1))) }))
	sealed := s.encrypt(id, "", nil)
	client := s.client(role, second)
	out, err := client.Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed, Recipient: recipient(document(t))})
	fatal(t, err)
	if content, err := cms.Open(recipientKey(), out.CiphertextForRecipient); err != nil || len(content) == 0 || out.Plaintext != nil {
		t.Errorf("%d bytes, %v", len(content), err)
	}
	_, err = client.Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed})
	wantCode(t, err, "AccessDeniedException")
	_, err = s.client(role, region).Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed, Recipient: recipient(document(t))})
	wantCode(t, err, "AccessDeniedException")
}
