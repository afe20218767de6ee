// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/kms"
)

// conditionKeys are keys of every kind that requests can be about.
type conditionKeys struct {
	symmetric, signing, agreement, mac, external, regional, alias string
}

func (s *service) conditionKeys() (k conditionKeys) {
	s.t.Helper()
	create := func(spec types.KeySpec, usage types.KeyUsageType, change func(*awskms.CreateKeyInput)) string {
		in := &awskms.CreateKeyInput{KeySpec: spec, KeyUsage: usage, Tags: []types.Tag{{TagKey: aws.String("Stage"), TagValue: aws.String("test")}}}
		if change != nil {
			change(in)
		}
		out, err := s.adminClient().CreateKey(s.t.Context(), in)
		if err != nil {
			s.t.Fatal(err)
		}
		return *out.KeyMetadata.Arn
	}
	k.symmetric = create("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", nil)
	k.signing = create("ECC_NIST_P256", "SIGN_VERIFY", nil)
	k.agreement = create("ECC_NIST_P256", "KEY_AGREEMENT", nil)
	k.mac = create("HMAC_256", "GENERATE_VERIFY_MAC", nil)
	k.external = create("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", func(in *awskms.CreateKeyInput) { in.Origin = "EXTERNAL" })
	k.regional = create("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", func(in *awskms.CreateKeyInput) { in.MultiRegion = aws.Bool(true) })
	k.alias = "alias/finance"
	if _, err := s.adminClient().CreateAlias(s.t.Context(), &awskms.CreateAliasInput{AliasName: &k.alias, TargetKeyId: &k.symmetric}); err != nil {
		s.t.Fatal(err)
	}
	return k
}

// failure leaves the answer of an operation out.
func failure[T any](_ T, err error) error { return err }

// conditionCalls are requests that have what the condition keys below are about.
func (k *conditionKeys) calls(sealed []byte) map[string]func(context.Context, *awskms.Client) error {
	validTo := time.Date(2030, 5, 6, 7, 8, 9, 0, time.UTC)
	grantee := aws.String("arn:aws:iam::000000000000:user/admin")
	return map[string]func(context.Context, *awskms.Client) error{
		"DescribeKey": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &k.symmetric}))
		},
		"DescribeKey by alias": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &k.alias}))
		},
		"Encrypt by alias ARN": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.Encrypt(ctx, &awskms.EncryptInput{KeyId: aws.String("arn:aws:kms:us-east-1:000000000000:" + k.alias), Plaintext: []byte("x")}))
		},
		"GenerateDataKeyPairWithoutPlaintext": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.GenerateDataKeyPairWithoutPlaintext(ctx, &awskms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: &k.symmetric, KeyPairSpec: "ECC_NIST_P256"}))
		},
		"DeriveSharedSecret": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.DeriveSharedSecret(ctx, &awskms.DeriveSharedSecretInput{KeyId: &k.agreement, KeyAgreementAlgorithm: "ECDH", PublicKey: []byte("x")}))
		},
		"Sign": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.Sign(ctx, &awskms.SignInput{KeyId: &k.signing, Message: []byte("x"), SigningAlgorithm: "ECDSA_SHA_256"}))
		},
		"GenerateMac": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.GenerateMac(ctx, &awskms.GenerateMacInput{KeyId: &k.mac, Message: []byte("x"), MacAlgorithm: "HMAC_SHA_256"}))
		},
		"ReEncrypt": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.ReEncrypt(ctx, &awskms.ReEncryptInput{CiphertextBlob: sealed, DestinationKeyId: &k.symmetric}))
		},
		"CreateGrant": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.CreateGrant(ctx, &awskms.CreateGrantInput{KeyId: &k.symmetric, GranteePrincipal: grantee, RetiringPrincipal: grantee,
				Operations:  []types.GrantOperation{"Decrypt", "DescribeKey"},
				Constraints: &types.GrantConstraints{EncryptionContextSubset: map[string]string{"Tenant": "a"}}}))
		},
		"CreateGrant to a service": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.CreateGrant(ctx, &awskms.CreateGrantInput{KeyId: &k.mac, GranteeServicePrincipal: aws.String("a.example.com"),
				RetiringServicePrincipal: aws.String("b.example.com"), Operations: []types.GrantOperation{"GenerateMac"},
				Constraints: &types.GrantConstraints{SourceArn: aws.String("arn:aws:s3:us-east-1:000000000000:bucket")}}))
		},
		"ListGrants": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.ListGrants(ctx, &awskms.ListGrantsInput{KeyId: &k.mac}))
		},
		"RevokeGrant": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.RevokeGrant(ctx, &awskms.RevokeGrantInput{KeyId: &k.mac, GrantId: aws.String("x")}))
		},
		"EnableKeyRotation of defaults": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.EnableKeyRotation(ctx, &awskms.EnableKeyRotationInput{KeyId: &k.signing}))
		},
		"ScheduleKeyDeletion of defaults": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: &k.agreement}))
		},
		"UntagResource": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.UntagResource(ctx, &awskms.UntagResourceInput{KeyId: &k.mac, TagKeys: []string{"Team"}}))
		},
		"CreateKey": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.CreateKey(ctx, &awskms.CreateKeyInput{KeySpec: "RSA_2048", KeyUsage: "SIGN_VERIFY", MultiRegion: aws.Bool(true), BypassPolicyLockoutSafetyCheck: true,
				Tags: []types.Tag{{TagKey: aws.String("Stage"), TagValue: aws.String("prod")}}}))
		},
		"CreateKey of defaults": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.CreateKey(ctx, &awskms.CreateKeyInput{}))
		},
		"TagResource": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.TagResource(ctx, &awskms.TagResourceInput{KeyId: &k.mac, Tags: []types.Tag{{TagKey: aws.String("Team"), TagValue: aws.String("red")}}}))
		},
		"PutKeyPolicy": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.PutKeyPolicy(ctx, &awskms.PutKeyPolicyInput{KeyId: &k.mac, Policy: aws.String("{"), BypassPolicyLockoutSafetyCheck: true}))
		},
		"EnableKeyRotation": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.EnableKeyRotation(ctx, &awskms.EnableKeyRotationInput{KeyId: &k.signing, RotationPeriodInDays: aws.Int32(100)}))
		},
		"ScheduleKeyDeletion": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: &k.agreement, PendingWindowInDays: aws.Int32(8)}))
		},
		"GetParametersForImport": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.GetParametersForImport(ctx, &awskms.GetParametersForImportInput{KeyId: &k.symmetric, WrappingAlgorithm: "RSAES_OAEP_SHA_256", WrappingKeySpec: "RSA_2048"}))
		},
		"ImportKeyMaterial": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.ImportKeyMaterial(ctx, &awskms.ImportKeyMaterialInput{KeyId: &k.symmetric, ImportToken: []byte("x"), EncryptedKeyMaterial: []byte("x"), ValidTo: &validTo}))
		},
		"ReplicateKey": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.ReplicateKey(ctx, &awskms.ReplicateKeyInput{KeyId: &k.symmetric, ReplicaRegion: aws.String("eu-west-1"),
				Tags: []types.Tag{{TagKey: aws.String("Stage"), TagValue: aws.String("prod")}}}))
		},
		"UpdatePrimaryRegion": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.UpdatePrimaryRegion(ctx, &awskms.UpdatePrimaryRegionInput{KeyId: &k.symmetric, PrimaryRegion: aws.String("eu-west-1")}))
		},
		"DescribeKey of several regions": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &k.regional}))
		},
		"DescribeKey of imported": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &k.external}))
		},
		"ListKeys": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.ListKeys(ctx, &awskms.ListKeysInput{}))
		},
		"GenerateRandom": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.GenerateRandom(ctx, &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(1)}))
		},
		"DescribeCustomKeyStores": func(ctx context.Context, c *awskms.Client) error {
			return failure(c.DescribeCustomKeyStores(ctx, &awskms.DescribeCustomKeyStoresInput{}))
		},
	}
}

// Each condition key of the Service Authorization Reference that this service can
// know decides: an identity policy on it allows with the right value alone.
func TestConditionKeysOfOperations(t *testing.T) {
	s := newService(t)
	keys := s.conditionKeys()
	sealed := s.sealSecret(keys.symmetric)
	calls := keys.calls(sealed)
	for i, c := range []struct{ call, key, operator, good, bad string }{
		{"DescribeKey", "aws:ResourceTag/stage", "StringEquals", `"test"`, `"prod"`},
		{"DescribeKey", "kms:ResourceAliases", "ForAnyValue:StringEquals", `"alias/finance"`, `"alias/other"`},
		{"DescribeKey", "kms:ResourceAliases", "StringEqualsIfExists", `"alias/finance"`, ""}, // a list, compared as one value: never
		{"DescribeKey", "kms:RequestAlias", "Null", `"true"`, `"false"`},
		{"DescribeKey", "kms:MultiRegionKeyType", "Null", `"true"`, `"false"`},
		{"DescribeKey", "kms:ViaService", "Null", `"true"`, `"false"`},
		{"DescribeKey", "kms:CallerAccount", "StringEquals", `"000000000000"`, `"111111111111"`},
		{"DescribeKey by alias", "kms:RequestAlias", "StringEquals", `"alias/finance"`, `"alias/other"`},
		{"Encrypt by alias ARN", "kms:RequestAlias", "StringEquals", `"alias/finance"`, `"arn:aws:kms:us-east-1:000000000000:alias/finance"`},
		{"Encrypt by alias ARN", "kms:EncryptionContextKeys", "Null", `"true"`, `"false"`},
		{"DescribeKey of several regions", "kms:MultiRegionKeyType", "StringEquals", `"PRIMARY"`, `"REPLICA"`},
		{"DescribeKey of several regions", "kms:MultiRegion", "Bool", `"true"`, `"false"`},
		{"DescribeKey of imported", "kms:KeyOrigin", "StringEquals", `"EXTERNAL"`, `"AWS_KMS"`},
		{"GenerateDataKeyPairWithoutPlaintext", "kms:DataKeyPairSpec", "StringEquals", `"ECC_NIST_P256"`, `"RSA_2048"`},
		{"GenerateDataKeyPairWithoutPlaintext", "kms:EncryptionAlgorithm", "StringEquals", `"SYMMETRIC_DEFAULT"`, `"RSAES_OAEP_SHA_256"`},
		{"DeriveSharedSecret", "kms:KeyAgreementAlgorithm", "StringEquals", `"ECDH"`, `"ECDSA"`},
		{"DeriveSharedSecret", "kms:KeyUsage", "StringEquals", `"KEY_AGREEMENT"`, `"ENCRYPT_DECRYPT"`},
		{"Sign", "kms:MessageType", "StringEquals", `"RAW"`, `"DIGEST"`},
		{"Sign", "kms:SigningAlgorithm", "StringEquals", `"ECDSA_SHA_256"`, `"ECDSA_SHA_384"`},
		{"Sign", "kms:KeySpec", "StringEquals", `"ECC_NIST_P256"`, `"SYMMETRIC_DEFAULT"`},
		{"GenerateMac", "kms:MacAlgorithm", "StringEquals", `"HMAC_SHA_256"`, `"HMAC_SHA_512"`},
		{"ReEncrypt", "kms:ReEncryptOnSameKey", "Bool", `"true"`, `"false"`},
		{"ReEncrypt", "kms:EncryptionAlgorithm", "StringEquals", `"SYMMETRIC_DEFAULT"`, `"RSAES_OAEP_SHA_1"`},
		{"CreateGrant", "kms:GrantConstraintType", "StringEquals", `"EncryptionContextSubset"`, `"EncryptionContextEquals"`},
		{"CreateGrant", "kms:GrantIsForAWSResource", "Bool", `"false"`, `"true"`},
		{"CreateGrant", "kms:GrantOperations", "ForAllValues:StringEquals", `["Decrypt","DescribeKey"]`, `["Decrypt"]`},
		{"CreateGrant", "kms:GranteePrincipal", "StringEquals", `"arn:aws:iam::000000000000:user/admin"`, `"arn:aws:iam::000000000000:user/other"`},
		{"CreateGrant", "kms:RetiringPrincipal", "StringEquals", `"arn:aws:iam::000000000000:user/admin"`, `"arn:aws:iam::000000000000:user/other"`},
		{"CreateGrant", "kms:EncryptionContext:tenant", "StringEquals", `"a"`, `"A"`},
		{"CreateGrant", "kms:EncryptionContextKeys", "ForAnyValue:StringEquals", `"Tenant"`, `"tenant"`},
		{"CreateGrant to a service", "kms:GranteeServicePrincipal", "StringEquals", `"a.example.com"`, `"b.example.com"`},
		{"CreateGrant to a service", "kms:RetiringServicePrincipal", "StringEquals", `"b.example.com"`, `"a.example.com"`},
		{"CreateGrant to a service", "kms:GrantConstraintSourceArn", "StringEquals", `"arn:aws:s3:us-east-1:000000000000:bucket"`, `"arn:aws:s3:us-east-1:000000000000:other"`},
		{"CreateGrant to a service", "kms:GranteePrincipal", "Null", `"true"`, `"false"`},
		{"ListGrants", "kms:GrantIsForAWSResource", "Bool", `"false"`, `"true"`},
		{"RevokeGrant", "kms:GrantIsForAWSResource", "Bool", `"false"`, `"true"`},
		{"RevokeGrant", "aws:ResourceAccount", "StringEquals", `"000000000000"`, `"111111111111"`},
		{"UntagResource", "aws:TagKeys", "ForAllValues:StringEquals", `["Team"]`, `["team"]`},
		{"UntagResource", "aws:RequestTag/Team", "Null", `"true"`, `"false"`},
		{"EnableKeyRotation of defaults", "kms:RotationPeriodInDays", "NumericEquals", `"365"`, `"364"`},
		{"ScheduleKeyDeletion of defaults", "kms:ScheduleKeyDeletionPendingWindowInDays", "NumericEquals", `"30"`, `"7"`},
		{"ReplicateKey", "aws:RequestTag/Stage", "StringEquals", `"prod"`, `"test"`},
		{"ReplicateKey", "aws:TagKeys", "ForAnyValue:StringEquals", `"Stage"`, `"stage"`},
		{"CreateKey", "kms:KeySpec", "StringEquals", `"RSA_2048"`, `"SYMMETRIC_DEFAULT"`},
		{"CreateKey", "kms:KeyUsage", "StringEquals", `"SIGN_VERIFY"`, `"ENCRYPT_DECRYPT"`},
		{"CreateKey", "kms:MultiRegion", "Bool", `"true"`, `"false"`},
		{"CreateKey", "kms:MultiRegionKeyType", "StringEquals", `"PRIMARY"`, `"REPLICA"`},
		{"CreateKey", "kms:BypassPolicyLockoutSafetyCheck", "BoolIfExists", `"true"`, `"false"`},
		{"CreateKey", "aws:RequestTag/Stage", "StringEquals", `"prod"`, `"test"`},
		{"CreateKey", "aws:TagKeys", "ForAnyValue:StringEquals", `"Stage"`, `"stage"`},
		{"CreateKey of defaults", "kms:KeySpec", "StringEqualsIfExists", `"SYMMETRIC_DEFAULT"`, `"RSA_2048"`},
		{"CreateKey of defaults", "kms:KeyUsage", "StringEqualsIfExists", `"ENCRYPT_DECRYPT"`, `"SIGN_VERIFY"`},
		{"CreateKey of defaults", "kms:KeyOrigin", "StringEqualsIfExists", `"AWS_KMS"`, `"EXTERNAL"`},
		{"CreateKey of defaults", "kms:BypassPolicyLockoutSafetyCheck", "BoolIfExists", `"false"`, `"true"`},
		{"CreateKey of defaults", "kms:CallerAccount", "StringEquals", `"000000000000"`, `"111111111111"`},
		{"TagResource", "aws:RequestTag/team", "StringEquals", `"red"`, `"blue"`},
		{"TagResource", "aws:TagKeys", "ForAllValues:StringEquals", `["Team","Other"]`, `["Other"]`},
		{"PutKeyPolicy", "kms:BypassPolicyLockoutSafetyCheck", "Bool", `"true"`, `"false"`},
		{"EnableKeyRotation", "kms:RotationPeriodInDays", "NumericLessThanEquals", `"100"`, `"99"`},
		{"ScheduleKeyDeletion", "kms:ScheduleKeyDeletionPendingWindowInDays", "NumericGreaterThanEquals", `"8"`, `"9"`},
		{"GetParametersForImport", "kms:WrappingAlgorithm", "StringEquals", `"RSAES_OAEP_SHA_256"`, `"RSAES_OAEP_SHA_1"`},
		{"GetParametersForImport", "kms:WrappingKeySpec", "StringEquals", `"RSA_2048"`, `"RSA_4096"`},
		{"ImportKeyMaterial", "kms:ExpirationModel", "StringEquals", `"KEY_MATERIAL_EXPIRES"`, `"KEY_MATERIAL_DOES_NOT_EXPIRE"`},
		{"ImportKeyMaterial", "kms:ValidTo", "DateLessThan", `"2030-05-06T07:08:10Z"`, `"2030-05-06T07:08:09Z"`},
		{"ReplicateKey", "kms:ReplicaRegion", "StringEquals", `"eu-west-1"`, `"us-east-1"`},
		{"UpdatePrimaryRegion", "kms:PrimaryRegion", "StringEquals", `"eu-west-1"`, `"us-east-1"`},
		{"ListKeys", "kms:CallerAccount", "Null", `"true"`, `"false"`},
		{"GenerateRandom", "kms:CallerAccount", "Null", `"true"`, `"false"`},
		{"DescribeCustomKeyStores", "kms:CallerAccount", "StringEquals", `"000000000000"`, `"111111111111"`},
	} {
		for name, value := range map[string]string{"good": c.good, "bad": c.bad} {
			if value == "" {
				continue
			}
			user := s.principal(kms.User, fmt.Sprintf("u%d%s", i, name), fmt.Sprintf(
				`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*","Condition":{"%s":{"%s":%s}}}}`, c.operator, c.key, value))
			err := calls[c.call](t.Context(), s.client(user, region))
			denied := false
			if err != nil {
				code, _, _, _ := refused(t, err)
				denied = code == "AccessDeniedException"
			}
			if want := name == "bad" || c.operator == "StringEqualsIfExists" && c.key == "kms:ResourceAliases"; denied != want {
				t.Errorf("%s, %s, %s: %v", c.call, c.key, name, err)
			}
		}
	}
}

// kms:TrailingDaysWithoutKeyUsage counts whole days since the last use, or else since
// the creation, of a key that is to be disabled or deleted.
func TestTrailingDaysWithoutKeyUsage(t *testing.T) {
	var clock clock
	s := newService(t, clock.into)
	ctx, admin, used, unused := t.Context(), s.adminClient(), s.key(""), s.key("")
	guarded := s.client(s.principal(kms.User, "careful", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"},
		{"Effect":"Deny","Action":["kms:DisableKey","kms:ScheduleKeyDeletion"],"Resource":"*","Condition":{"NumericLessThan":{"kms:TrailingDaysWithoutKeyUsage":"2"}}},
		{"Effect":"Deny","Action":"kms:DescribeKey","Resource":"*","Condition":{"Null":{"kms:TrailingDaysWithoutKeyUsage":"false"}}}]}`), region)
	disable := func(key string) error {
		return failure(guarded.DisableKey(ctx, &awskms.DisableKeyInput{KeyId: &key}))
	}
	clock.move(47 * time.Hour)
	wantCode(t, disable(unused), "AccessDeniedException")
	wantCode(t, failure(guarded.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: &unused})), "AccessDeniedException")
	wantNil(t, failure(admin.Encrypt(ctx, &awskms.EncryptInput{KeyId: &used, Plaintext: []byte("x")})))
	clock.move(2 * time.Hour)
	wantNil(t, disable(unused))
	wantNil(t, failure(guarded.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: &unused})))
	wantCode(t, disable(used), "AccessDeniedException")
	wantNil(t, failure(guarded.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &used})))
	clock.move(46 * time.Hour)
	wantNil(t, disable(used))
}

// The keys of the caller, for a user and for the session of a role.
func TestConditionKeysOfCallers(t *testing.T) {
	s := newService(t)
	keyARN := s.key("")
	_, user := s.add(kms.Principal{Type: kms.User, Name: "probe"})
	_, role := s.add(kms.Principal{Type: kms.Role, Name: "probe"})
	s.remove(user.AccessKeys[0].ID)
	s.remove(role.AccessKeys[0].ID)
	for _, c := range []struct {
		kind                     kms.PrincipalType
		key, operator, good, bad string
	}{
		{kms.User, "aws:PrincipalTag/TEAM", "StringEquals", "red", "blue"},
		{kms.User, "aws:PrincipalTag/none", "Null", "true", "false"},
		{kms.User, "aws:username", "StringEquals", "caller", "team/caller"},
		{kms.User, "aws:PrincipalArn", "ArnEquals", "arn:aws:iam::000000000000:user/team/caller", "arn:aws:iam::000000000000:user/caller"},
		{kms.User, "aws:userid", "StringLike", "AIDA?????????????????", user.ID},
		{kms.User, "aws:PrincipalIsAWSService", "Bool", "false", "true"},
		{kms.User, "aws:ViaAWSService", "Bool", "false", "true"},
		{kms.User, "aws:MultiFactorAuthPresent", "Null", "true", "false"},
		{kms.User, "aws:TokenIssueTime", "Null", "true", "false"},
		{kms.User, "aws:SourceArn", "Null", "true", "false"},
		{kms.User, "aws:SourceAccount", "Null", "true", "false"},
		{kms.Role, "aws:PrincipalTag/team", "StringEquals", "red", "Red"},
		{kms.Role, "aws:username", "Null", "true", "false"},
		{kms.Role, "aws:userid", "StringLike", "AROA?????????????????:cretula", role.ID + ":cretula"},
		{kms.Role, "aws:PrincipalArn", "ArnEquals", "arn:aws:iam::000000000000:role/team/caller", "arn:aws:sts::000000000000:assumed-role/caller/cretula"},
		{kms.Role, "aws:PrincipalType", "StringEquals", "AssumedRole", "User"},
	} {
		for name, value := range map[string]string{"good": c.good, "bad": c.bad} {
			caller, info := s.add(kms.Principal{Type: c.kind, Name: "team/caller", Tags: map[string]string{"Team": "red"}, Policies: []string{fmt.Sprintf(
				`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:DescribeKey","Resource":"*","Condition":{"%s":{"%s":%q}}}}`, c.operator, c.key, value)}})
			if err := s.mayDescribe(caller, keyARN); (err == nil) != (name == "good") {
				t.Errorf("%s, %s, %s: %v", c.kind, c.key, name, err)
			}
			s.remove(info.AccessKeys[0].ID)
		}
	}
}
