// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/kms/kmsapi"
)

// stateRows say of each operation on a key what becomes of it in the states
// Enabled, Disabled, PendingDeletion, PendingReplicaDeletion and PendingImport, in
// this order: "." it works, "d" DisabledException, "s" KMSInvalidStateException,
// "u" UnsupportedOperationException, "-" not asked. The first four columns are
// those of keys whose material is of KMS. Source: AWS KMS Developer Guide, "Key
// states of AWS KMS keys", the table with its footnotes, and the API reference.
var stateRows = []struct {
	operation, kind, body, want string
	// works is the code that only a key which can be used leads to; empty: success.
	works string
}{
	{"Encrypt", "symmetric", `{"KeyId":"KEY","Plaintext":"AA=="}`, ".dsss", ""},
	{"Decrypt", "symmetric", `{"KeyId":"KEY","DryRun":true,"DryRunModifiers":["IGNORE_CIPHERTEXT"]}`, ".dsss", "DryRunOperationException"},
	{"ReEncrypt", "symmetric", `{"SourceKeyId":"KEY","DestinationKeyId":"KEY","DryRun":true,"DryRunModifiers":["IGNORE_CIPHERTEXT"]}`, ".dsss", "DryRunOperationException"},
	{"ReEncrypt", "symmetric", `{"SourceKeyId":"OTHER","DestinationKeyId":"KEY","DryRun":true,"DryRunModifiers":["IGNORE_CIPHERTEXT"]}`, ".dsss", "DryRunOperationException"},
	{"ReEncrypt", "symmetric", `{"SourceKeyId":"KEY","DestinationKeyId":"OTHER","DryRun":true,"DryRunModifiers":["IGNORE_CIPHERTEXT"]}`, ".dsss", "DryRunOperationException"},
	{"GenerateDataKey", "symmetric", `{"KeyId":"KEY","NumberOfBytes":8}`, ".dsss", ""},
	{"GenerateDataKeyWithoutPlaintext", "symmetric", `{"KeyId":"KEY","KeySpec":"AES_128"}`, ".dsss", ""},
	{"GenerateDataKeyPair", "symmetric", `{"KeyId":"KEY","KeyPairSpec":"ECC_NIST_P256"}`, ".dsss", ""},
	{"GenerateDataKeyPairWithoutPlaintext", "symmetric", `{"KeyId":"KEY","KeyPairSpec":"ECC_NIST_P256"}`, ".dsss", ""},
	{"Sign", "signing", `{"KeyId":"KEY","Message":"AA==","SigningAlgorithm":"ECDSA_SHA_256"}`, ".dsss", ""},
	{"Verify", "signing", `{"KeyId":"KEY","Message":"AA==","Signature":"AA==","SigningAlgorithm":"ECDSA_SHA_256"}`, ".dsss", "KMSInvalidSignatureException"},
	{"GenerateMac", "mac", `{"KeyId":"KEY","Message":"AA==","MacAlgorithm":"HMAC_SHA_256"}`, ".dsss", ""},
	{"VerifyMac", "mac", `{"KeyId":"KEY","Message":"AA==","Mac":"AA==","MacAlgorithm":"HMAC_SHA_256"}`, ".dsss", "KMSInvalidMacException"},
	{"DeriveSharedSecret", "agreement", `{"KeyId":"KEY","KeyAgreementAlgorithm":"ECDH","PublicKey":"PUBLIC"}`, ".dsss", ""},
	{"GetPublicKey", "signing", `{"KeyId":"KEY"}`, ".dsss", ""},
	{"CreateGrant", "symmetric", `{"KeyId":"KEY","GranteePrincipal":"arn:aws:iam::000000000000:user/admin","Operations":["Decrypt"]}`, ".dsss", ""},
	{"ListGrants", "symmetric", `{"KeyId":"KEY"}`, ".....", ""},
	{"RetireGrant", "granted", `{"KeyId":"KEY","GrantId":"GRANT"}`, ".....", ""},
	{"RevokeGrant", "granted", `{"KeyId":"KEY","GrantId":"GRANT"}`, ".....", ""},
	{"DescribeKey", "symmetric", `{"KeyId":"KEY"}`, ".....", ""},
	{"GetKeyLastUsage", "symmetric", `{"KeyId":"KEY"}`, ".....", ""},
	{"GetKeyPolicy", "symmetric", `{"KeyId":"KEY"}`, ".....", ""},
	{"PutKeyPolicy", "symmetric", `{"KeyId":"KEY","Policy":` + quoteJSON(adminPolicy) + `}`, ".....", ""},
	{"ListKeyPolicies", "symmetric", `{"KeyId":"KEY"}`, ".....", ""},
	{"ListResourceTags", "symmetric", `{"KeyId":"KEY"}`, ".....", ""},
	{"ListAliases", "symmetric", `{"KeyId":"KEY"}`, ".....", ""},
	{"CreateAlias", "symmetric", `{"AliasName":"alias/new-NAME","TargetKeyId":"KEY"}`, "..ss.", ""},
	{"UpdateAlias", "symmetric", `{"AliasName":"alias/of-other","TargetKeyId":"KEY"}`, "..ss.", ""},
	{"UpdateAlias", "aliased", `{"AliasName":"alias/NAME","TargetKeyId":"OTHER"}`, ".....", ""},
	{"DeleteAlias", "aliased", `{"AliasName":"alias/NAME"}`, ".....", ""},
	{"EnableKey", "symmetric", `{"KeyId":"KEY"}`, "..sss", ""},
	{"DisableKey", "symmetric", `{"KeyId":"KEY"}`, "..sss", ""},
	{"ScheduleKeyDeletion", "symmetric", `{"KeyId":"KEY"}`, "..ss.", ""},
	{"CancelKeyDeletion", "symmetric", `{"KeyId":"KEY"}`, "ss..s", ""},
	{"UpdateKeyDescription", "symmetric", `{"KeyId":"KEY","Description":"x"}`, "..ss.", ""},
	{"TagResource", "symmetric", `{"KeyId":"KEY","Tags":[{"TagKey":"a","TagValue":""}]}`, "..ss.", ""},
	{"UntagResource", "symmetric", `{"KeyId":"KEY","TagKeys":["a"]}`, "..ss.", ""},
	{"EnableKeyRotation", "symmetric", `{"KeyId":"KEY"}`, ".dssu", ""},
	{"DisableKeyRotation", "symmetric", `{"KeyId":"KEY"}`, ".dssu", ""},
	{"GetKeyRotationStatus", "symmetric", `{"KeyId":"KEY"}`, "....u", ""},
	{"RotateKeyOnDemand", "symmetric", `{"KeyId":"KEY"}`, ".dsss", ""},
	{"ListKeyRotations", "symmetric", `{"KeyId":"KEY"}`, ".....", ""},
	{"GetParametersForImport", "symmetric", `{"KeyId":"KEY","WrappingAlgorithm":"RSAES_OAEP_SHA_256","WrappingKeySpec":"RSA_2048"}`, "uuuu.", ""},
	{"ImportKeyMaterial", "symmetric", `{"KeyId":"KEY","ImportToken":"AA==","EncryptedKeyMaterial":"AA==","ExpirationModel":"KEY_MATERIAL_DOES_NOT_EXPIRE"}`,
		"uuuu.", "InvalidImportTokenException"},
	{"DeleteImportedKeyMaterial", "symmetric", `{"KeyId":"KEY"}`, "uuuu.", ""},
	{"ReplicateKey", "regional", `{"KeyId":"KEY","ReplicaRegion":"eu-west-1"}`, ".dsss", ""},
	{"UpdatePrimaryRegion", "regional", `{"KeyId":"KEY","PrimaryRegion":"eu-central-1"}`, ".dsss", ""},

	// Keys whose material was imported.
	{"EnableKeyRotation", "imported", `{"KeyId":"KEY"}`, "uuu-u", ""},
	{"DisableKeyRotation", "imported", `{"KeyId":"KEY"}`, "uuu-u", ""},
	{"GetKeyRotationStatus", "imported", `{"KeyId":"KEY"}`, "uuu-u", ""},
	{"RotateKeyOnDemand", "imported", `{"KeyId":"KEY"}`, "sds-s", ""}, // there is no material to rotate to
	{"GetParametersForImport", "imported", `{"KeyId":"KEY","WrappingAlgorithm":"RSAES_OAEP_SHA_256","WrappingKeySpec":"RSA_2048"}`, "..s-.", ""},
	{"ImportKeyMaterial", "imported", `{"KeyId":"KEY","ImportToken":"AA==","EncryptedKeyMaterial":"AA==","ExpirationModel":"KEY_MATERIAL_DOES_NOT_EXPIRE"}`,
		"..s-.", "InvalidImportTokenException"},
	{"DeleteImportedKeyMaterial", "imported", `{"KeyId":"KEY"}`, "...-.", ""},
}

var matrixStates = []types.KeyState{"Enabled", "Disabled", "PendingDeletion", "PendingReplicaDeletion", "PendingImport"}

// stateKey makes a key of a kind in a state, and what the rows name beside it.
func (s *service) stateKey(kind string, state types.KeyState, name string) (key, grant string) {
	t, c, ctx := s.t, s.adminClient(), s.t.Context()
	in := &awskms.CreateKeyInput{MultiRegion: aws.Bool(kind == "regional" || state == "PendingReplicaDeletion")}
	switch kind {
	case "signing":
		in.KeySpec, in.KeyUsage = "ECC_NIST_P256", "SIGN_VERIFY"
	case "agreement":
		in.KeySpec, in.KeyUsage = "ECC_NIST_P256", "KEY_AGREEMENT"
	case "mac":
		in.KeySpec, in.KeyUsage = "HMAC_256", "GENERATE_VERIFY_MAC"
	}
	if state == "PendingImport" || kind == "imported" {
		in.Origin = "EXTERNAL"
	}
	out, err := c.CreateKey(ctx, in)
	fatal(t, err)
	key = *out.KeyMetadata.Arn
	if in.Origin == "EXTERNAL" && (state != "PendingImport" || kind == "granted") {
		_, err = s.importInto(key, make([]byte, 32))
		fatal(t, err)
	}
	switch kind {
	case "granted":
		out, err := c.CreateGrant(ctx, &awskms.CreateGrantInput{KeyId: &key, Operations: []types.GrantOperation{"Encrypt"},
			GranteePrincipal: aws.String("arn:aws:iam::000000000000:user/admin"), RetiringPrincipal: aws.String("arn:aws:iam::000000000000:user/admin")})
		fatal(t, err)
		grant = *out.GrantId
	case "aliased":
		_, err := c.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: aws.String("alias/" + name), TargetKeyId: &key})
		fatal(t, err)
	}
	if kind == "regional" && state == "Enabled" || state == "PendingReplicaDeletion" {
		_, err = c.ReplicateKey(ctx, &awskms.ReplicateKeyInput{KeyId: &key, ReplicaRegion: aws.String("eu-central-1")})
		fatal(t, err)
	}
	switch state {
	case "Disabled":
		_, err = c.DisableKey(ctx, &awskms.DisableKeyInput{KeyId: &key})
	case "PendingDeletion", "PendingReplicaDeletion":
		_, err = c.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: &key})
	case "PendingImport":
		_, err = c.DeleteImportedKeyMaterial(ctx, &awskms.DeleteImportedKeyMaterialInput{KeyId: &key})
	}
	fatal(t, err)
	if got := stateOf(t.(*testing.T), c, key); got != state {
		t.Fatalf("a key of kind %s is %s, not %s", kind, got, state)
	}
	return key, grant
}

// TestKeyStates holds every operation on a key in every state against AWS's table.
func TestKeyStates(t *testing.T) {
	s := newService(t)
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	fatal(t, err)
	codes := map[byte]string{'d': "DisabledException", 's': "KMSInvalidStateException", 'u': "UnsupportedOperationException"}
	asked := map[string]bool{}
	for i, row := range stateRows {
		asked[row.operation] = true
		other := s.key("")
		for j, state := range matrixStates {
			if row.want[j] == '-' {
				continue
			}
			name := fmt.Sprintf("state-%d-%d", i, j)
			key, grant := s.stateKey(row.kind, state, name)
			if strings.Contains(row.body, "alias/of-other") {
				_, err := s.adminClient().CreateAlias(t.Context(), &awskms.CreateAliasInput{AliasName: aws.String("alias/of-" + name), TargetKeyId: &other})
				fatal(t, err)
			}
			body := strings.NewReplacer("KEY_MATERIAL", "KEY_MATERIAL", "KEY", key, "OTHER", other, "GRANT", grant, "NAME", name, "of-other", "of-"+name,
				"PUBLIC", base64Of(spki(t, peer.PublicKey()))).Replace(row.body)
			want := codes[row.want[j]]
			if row.want[j] == '.' {
				want = row.works
			}
			status, answer, _ := s.send(raw{target: "TrentService." + row.operation, body: body})
			var got struct {
				Type string `json:"__type"`
			}
			if status != 200 {
				fatal(t, json.Unmarshal([]byte(answer), &got))
			}
			if got.Type != want {
				t.Errorf("%s, %s key, %s: got %q, want %q: %s", row.operation, row.kind, state, got.Type, want, answer)
			}
		}
	}
	for _, op := range kmsapi.Operations() {
		if _, has := op.Input.FieldByName("KeyId"); (has || op.Resource != kmsapi.ResourceNone) && !asked[op.Name] && op.Usage != kmsapi.EncapsulateDecapsulate {
			t.Errorf("%s has no row", op.Name)
		}
	}
}

// Imported material can be deleted at any time. That does not change the state of
// a key that is pending deletion (API reference, DeleteImportedKeyMaterial).
func TestMaterialPendingDeletion(t *testing.T) {
	s := newService(t)
	client, secret := s.adminClient(), make([]byte, 32)
	key, _ := s.stateKey("imported", "PendingDeletion", "")
	fatal(t, s.deleteMaterial(key, ""))
	s.wantState(key, "PendingDeletion")
	_, err := client.CancelKeyDeletion(t.Context(), &awskms.CancelKeyDeletionInput{KeyId: &key})
	fatal(t, err)
	s.wantState(key, "PendingImport")
	_, err = s.importInto(key, secret)
	fatal(t, err)
	s.wantState(key, "Disabled")
}

// A page of aliases has at most 100 entries, whatever is asked for (API reference,
// ListAliases).
func TestSmallPages(t *testing.T) {
	s := newService(t)
	ctx, c := t.Context(), s.adminClient()
	var key string
	for i := range 101 {
		if i%50 == 0 {
			key = s.key("")
		}
		_, err := c.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: aws.String(fmt.Sprintf("alias/%03d", i)), TargetKeyId: &key})
		fatal(t, err)
	}
	page, err := c.ListAliases(ctx, &awskms.ListAliasesInput{Limit: aws.Int32(1000)})
	if err != nil || len(page.Aliases) != 100 || !page.Truncated {
		t.Fatalf("%v, %v", page, err)
	}
	// The marker holds though what it stands for goes.
	_, err = c.DeleteAlias(ctx, &awskms.DeleteAliasInput{AliasName: page.Aliases[99].AliasName})
	fatal(t, err)
	page, err = c.ListAliases(ctx, &awskms.ListAliasesInput{Limit: aws.Int32(1000), Marker: page.NextMarker})
	if err != nil || len(page.Aliases) != 1 || *page.Aliases[0].AliasName != "alias/100" || page.Truncated || page.NextMarker != nil {
		t.Errorf("%v, %v", page, err)
	}
}
