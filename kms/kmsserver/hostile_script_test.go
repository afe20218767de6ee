// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsapi"
)

// The other account and region that requests are made about.
const (
	foreignAccount = "999999999999"
	secondRegion   = "eu-central-1"
)

// A stage has the keys that one run of the script works with, and what its calls
// leave for later ones.
type stage struct {
	*service
	run        int
	role       kms.Credentials
	c, roleC   *awskms.Client
	symmetric  string
	signing    string
	macs       string
	agreement  string
	external   string
	multi      string
	doomed     string
	attested   string // which the role may use out of image one only
	attestSign string // which the administrator may use out of image one only
	secret     []byte // what is in sealed
	sealed     []byte
	material   []byte // what is imported

	ciphertext []byte
	signature  []byte
	mac        []byte
	grant      *awskms.CreateGrantOutput
	parameters *awskms.GetParametersForImportOutput
	imported   string
	document   []byte
}

// newStage makes the keys of one run. The requests by which it does so hold what
// must show up nowhere; they are not among the recorded ones.
func newStage(s *service, role kms.Credentials, run int) *stage {
	s.t.Helper()
	g := &stage{
		service: s, run: run, role: role, c: s.sharing(s.admin), roleC: s.sharing(role),
		secret: make([]byte, 32), material: make([]byte, 32), document: document(s.t),
	}
	rand.Read(g.secret)
	rand.Read(g.material)
	g.symmetric = g.key(&awskms.CreateKeyInput{})
	g.signing = g.key(&awskms.CreateKeyInput{KeySpec: "ECC_NIST_P256", KeyUsage: "SIGN_VERIFY"})
	g.macs = g.key(&awskms.CreateKeyInput{KeySpec: "HMAC_256", KeyUsage: "GENERATE_VERIFY_MAC"})
	g.agreement = g.key(&awskms.CreateKeyInput{KeySpec: "ECC_NIST_P256", KeyUsage: "KEY_AGREEMENT"})
	g.external = g.key(&awskms.CreateKeyInput{Origin: "EXTERNAL"})
	g.multi = g.key(&awskms.CreateKeyInput{MultiRegion: aws.Bool(true)})
	g.doomed = g.key(&awskms.CreateKeyInput{})
	g.attested = g.key(&awskms.CreateKeyInput{Policy: aws.String(attested("arn:aws:iam::"+account+":role/data-processing", registers(1)))})
	sealed, err := g.c.Encrypt(s.t.Context(), &awskms.EncryptInput{KeyId: &g.attested, Plaintext: g.secret})
	fatal(s.t, err)
	g.sealed = sealed.CiphertextBlob
	g.attestSign = g.key(&awskms.CreateKeyInput{
		KeySpec: "ECC_NIST_P256", KeyUsage: "SIGN_VERIFY",
		Policy: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + account +
			`:user/admin"},"Action":"kms:*","Resource":"*"},{"Effect":"Deny","Principal":"*","Action":"kms:Sign","Resource":"*","Condition":{` +
			strings.Replace(imageOne, "StringEquals", "StringNotEquals", 1) + `}}]}`),
		Tags: []types.Tag{{TagKey: aws.String(kms.AttestedTag), TagValue: aws.String(kms.AttestedValue)}},
	})
	return g
}

// sharing returns a client that shares its connections with others, so that what
// clients keep is no part of what a test measures.
func (s *service) sharing(c kms.Credentials) *awskms.Client {
	return awskms.New(awskms.Options{
		Region: region, BaseEndpoint: &s.url, Retryer: aws.NopRetryer{}, HTTPClient: http.DefaultClient,
		Credentials: credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, ""),
	})
}

// key makes a key and returns its ARN.
func (g *stage) key(in *awskms.CreateKeyInput) string {
	g.t.Helper()
	out, err := g.c.CreateKey(g.t.Context(), in)
	fatal(g.t, err)
	return *out.KeyMetadata.Arn
}

// A scripted call is a valid request to one operation, and those to others that
// it needs.
type scripted struct {
	operation string
	call      func(*stage) error
}

// absent are the operations that the service answers with what it does not have.
var absent = []string{"Encapsulate", "Decapsulate", "CreateCustomKeyStore", "ConnectCustomKeyStore", "UpdateCustomKeyStore", "DisconnectCustomKeyStore", "DeleteCustomKeyStore"}

// play makes every call, and wants it to succeed if the service has the operation.
func (g *stage) play() {
	g.t.Helper()
	for _, step := range script {
		err := step.call(g)
		if slices.Contains(absent, step.operation) {
			wantCode(g.t, err, "UnsupportedOperationException")
		} else if err != nil {
			g.t.Fatalf("%s, a valid request: %v", step.operation, err)
		}
	}
}

// Every operation of the table has a valid request.
func TestScriptIsComplete(t *testing.T) {
	in := map[string]int{}
	for _, step := range script {
		in[step.operation]++
		if kmsapi.Lookup(step.operation) == nil {
			t.Errorf("%s is no operation", step.operation)
		}
	}
	for _, op := range kmsapi.Operations() {
		if in[op.Name] == 0 {
			t.Errorf("%s has no valid request in the script", op.Name)
		}
	}
}

// errorOf returns the error of a call whose answer nobody needs.
func errorOf[T any](_ T, err error) error { return err }

func (g *stage) alias(name string) *string {
	return aws.String(fmt.Sprintf("alias/%s-%d", name, g.run))
}

var scriptContext = map[string]string{"tenant": "a", "purpose": "orders"}

// script calls every operation. What one call leaves behind is in the stage.
var script = []scripted{
	{"CreateKey", func(g *stage) error {
		return errorOf(g.c.CreateKey(background, &awskms.CreateKeyInput{Description: aws.String("orders"), KeySpec: "SYMMETRIC_DEFAULT", KeyUsage: "ENCRYPT_DECRYPT",
			Origin: "AWS_KMS", MultiRegion: aws.Bool(false), Policy: aws.String(adminPolicy), BypassPolicyLockoutSafetyCheck: true,
			Tags: []types.Tag{{TagKey: aws.String("team"), TagValue: aws.String("a")}, {TagKey: aws.String("cost"), TagValue: aws.String("")}}}))
	}},
	{"DescribeKey", func(g *stage) error {
		return errorOf(g.c.DescribeKey(background, &awskms.DescribeKeyInput{KeyId: &g.symmetric}))
	}},
	{"CreateAlias", func(g *stage) error {
		return errorOf(g.c.CreateAlias(background, &awskms.CreateAliasInput{AliasName: g.alias("orders"), TargetKeyId: &g.symmetric}))
	}},
	{"UpdateAlias", func(g *stage) error {
		return errorOf(g.c.UpdateAlias(background, &awskms.UpdateAliasInput{AliasName: g.alias("orders"), TargetKeyId: &g.doomed}))
	}},
	{"ListAliases", func(g *stage) error {
		return errorOf(g.c.ListAliases(background, &awskms.ListAliasesInput{KeyId: &g.doomed, Limit: aws.Int32(10)}))
	}},
	{"DeleteAlias", func(g *stage) error {
		if _, err := g.c.CreateAlias(background, &awskms.CreateAliasInput{AliasName: g.alias("gone"), TargetKeyId: &g.symmetric}); err != nil {
			return err
		}
		return errorOf(g.c.DeleteAlias(background, &awskms.DeleteAliasInput{AliasName: g.alias("gone")}))
	}},
	{"CreateGrant", func(g *stage) (err error) {
		g.grant, err = g.c.CreateGrant(background, &awskms.CreateGrantInput{KeyId: &g.symmetric, Name: aws.String("for/orders"),
			GranteePrincipal: aws.String("arn:aws:iam::" + account + ":role/data-processing"), RetiringPrincipal: aws.String(userARN(kms.AdminName)),
			Operations:  []types.GrantOperation{"Decrypt", "Encrypt", "GenerateDataKey", "CreateGrant", "RetireGrant", "DescribeKey"},
			Constraints: &types.GrantConstraints{EncryptionContextSubset: map[string]string{"tenant": "a"}}})
		return err
	}},
	{"ListGrants", func(g *stage) error {
		return errorOf(g.c.ListGrants(background, &awskms.ListGrantsInput{KeyId: &g.symmetric, GrantId: g.grant.GrantId, Limit: aws.Int32(50)}))
	}},
	{"ListRetirableGrants", func(g *stage) error {
		return errorOf(g.c.ListRetirableGrants(background, &awskms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(userARN(kms.AdminName)), Limit: aws.Int32(1)}))
	}},
	{"RetireGrant", func(g *stage) error {
		grant, err := g.c.CreateGrant(background, &awskms.CreateGrantInput{KeyId: &g.macs, GranteePrincipal: aws.String(userARN(kms.AdminName)),
			Operations: []types.GrantOperation{"GenerateMac", "RetireGrant"}})
		if err != nil {
			return err
		}
		return errorOf(g.c.RetireGrant(background, &awskms.RetireGrantInput{GrantToken: grant.GrantToken}))
	}},
	{"RevokeGrant", func(g *stage) error {
		grant, err := g.c.CreateGrant(background, &awskms.CreateGrantInput{KeyId: &g.signing, GranteePrincipal: aws.String(userARN(kms.AdminName)),
			Operations: []types.GrantOperation{"Sign", "GetPublicKey"}})
		if err != nil {
			return err
		}
		return errorOf(g.c.RevokeGrant(background, &awskms.RevokeGrantInput{KeyId: &g.signing, GrantId: grant.GrantId}))
	}},
	{"Encrypt", func(g *stage) error {
		out, err := g.c.Encrypt(background, &awskms.EncryptInput{KeyId: &g.symmetric, Plaintext: []byte("no secret"), EncryptionContext: scriptContext,
			EncryptionAlgorithm: "SYMMETRIC_DEFAULT", GrantTokens: []string{*g.grant.GrantToken}, DryRun: aws.Bool(false)})
		if err != nil {
			return err
		}
		g.ciphertext = out.CiphertextBlob
		return nil
	}},
	{"Decrypt", func(g *stage) error {
		if _, err := g.c.Decrypt(background, &awskms.DecryptInput{KeyId: &g.symmetric, CiphertextBlob: g.ciphertext, EncryptionContext: scriptContext}); err != nil {
			return err
		}
		return errorOf(g.roleC.Decrypt(background, &awskms.DecryptInput{CiphertextBlob: g.sealed, Recipient: recipient(g.document)}))
	}},
	{"ReEncrypt", func(g *stage) error {
		return errorOf(g.c.ReEncrypt(background, &awskms.ReEncryptInput{SourceKeyId: &g.symmetric, DestinationKeyId: &g.doomed, CiphertextBlob: g.ciphertext,
			SourceEncryptionContext: scriptContext, DestinationEncryptionContext: map[string]string{"tenant": "b"}}))
	}},
	{"GenerateDataKey", func(g *stage) error {
		if _, err := g.c.GenerateDataKey(background, &awskms.GenerateDataKeyInput{KeyId: &g.symmetric, KeySpec: "AES_256", EncryptionContext: scriptContext}); err != nil {
			return err
		}
		return errorOf(g.roleC.GenerateDataKey(background, &awskms.GenerateDataKeyInput{KeyId: &g.attested, NumberOfBytes: aws.Int32(48), Recipient: recipient(g.document)}))
	}},
	{"GenerateDataKeyWithoutPlaintext", func(g *stage) error {
		return errorOf(g.c.GenerateDataKeyWithoutPlaintext(background, &awskms.GenerateDataKeyWithoutPlaintextInput{KeyId: &g.symmetric, NumberOfBytes: aws.Int32(64)}))
	}},
	{"GenerateDataKeyPair", func(g *stage) error {
		return errorOf(g.c.GenerateDataKeyPair(background, &awskms.GenerateDataKeyPairInput{KeyId: &g.symmetric, KeyPairSpec: "ECC_NIST_P256", Recipient: recipient(g.document)}))
	}},
	{"GenerateDataKeyPairWithoutPlaintext", func(g *stage) error {
		return errorOf(g.c.GenerateDataKeyPairWithoutPlaintext(background, &awskms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: &g.symmetric, KeyPairSpec: "ECC_NIST_P256"}))
	}},
	{"GenerateRandom", func(g *stage) error {
		return errorOf(g.roleC.GenerateRandom(background, &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(32), Recipient: recipient(g.document)}))
	}},
	{"Sign", func(g *stage) error {
		out, err := g.c.Sign(background, &awskms.SignInput{KeyId: &g.signing, Message: []byte("x"), MessageType: "RAW", SigningAlgorithm: "ECDSA_SHA_256"})
		if err != nil {
			return err
		}
		g.signature = out.Signature
		body := `{"KeyId":"` + g.attestSign + `","Message":"AQID","SigningAlgorithm":"ECDSA_SHA_256"}`
		if status, text, _ := g.send(raw{target: "TrentService.Sign", body: attestedBody(g.t.(*testing.T), "Sign", g.attestSign, body)}); status != 200 {
			return fmt.Errorf("attested: %d %s", status, text)
		}
		return nil
	}},
	{"Verify", func(g *stage) error {
		return errorOf(g.c.Verify(background, &awskms.VerifyInput{KeyId: &g.signing, Message: []byte("x"), Signature: g.signature, SigningAlgorithm: "ECDSA_SHA_256"}))
	}},
	{"GenerateMac", func(g *stage) error {
		out, err := g.c.GenerateMac(background, &awskms.GenerateMacInput{KeyId: &g.macs, Message: []byte("x"), MacAlgorithm: "HMAC_SHA_256"})
		if err != nil {
			return err
		}
		g.mac = out.Mac
		return nil
	}},
	{"VerifyMac", func(g *stage) error {
		return errorOf(g.c.VerifyMac(background, &awskms.VerifyMacInput{KeyId: &g.macs, Message: []byte("x"), Mac: g.mac, MacAlgorithm: "HMAC_SHA_256"}))
	}},
	{"DeriveSharedSecret", func(g *stage) error {
		peer, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			return err
		}
		return errorOf(g.c.DeriveSharedSecret(background, &awskms.DeriveSharedSecretInput{KeyId: &g.agreement, PublicKey: spki(g.t, peer.PublicKey()),
			KeyAgreementAlgorithm: "ECDH", Recipient: recipient(g.document)}))
	}},
	{"Encapsulate", func(g *stage) error {
		return errorOf(g.c.Encapsulate(background, &awskms.EncapsulateInput{KeyId: &g.agreement, EncapsulationAlgorithm: "ML_KEM"}))
	}},
	{"Decapsulate", func(g *stage) error {
		return errorOf(g.c.Decapsulate(background, &awskms.DecapsulateInput{KeyId: &g.agreement, EncapsulationAlgorithm: "ML_KEM", SharedSecretCiphertextBlob: make([]byte, 1088)}))
	}},
	{"GetPublicKey", func(g *stage) error {
		return errorOf(g.c.GetPublicKey(background, &awskms.GetPublicKeyInput{KeyId: &g.signing}))
	}},
	{"GetKeyLastUsage", func(g *stage) error {
		return errorOf(g.c.GetKeyLastUsage(background, &awskms.GetKeyLastUsageInput{KeyId: &g.symmetric}))
	}},
	{"ListKeys", func(g *stage) error {
		out, err := g.c.ListKeys(background, &awskms.ListKeysInput{Limit: aws.Int32(2)})
		if err != nil {
			return err
		}
		return errorOf(g.c.ListKeys(background, &awskms.ListKeysInput{Limit: aws.Int32(2), Marker: out.NextMarker}))
	}},
	{"GetKeyPolicy", func(g *stage) error {
		return errorOf(g.c.GetKeyPolicy(background, &awskms.GetKeyPolicyInput{KeyId: &g.attested, PolicyName: aws.String("default")}))
	}},
	{"ListKeyPolicies", func(g *stage) error {
		return errorOf(g.c.ListKeyPolicies(background, &awskms.ListKeyPoliciesInput{KeyId: &g.doomed, Limit: aws.Int32(1)}))
	}},
	{"PutKeyPolicy", func(g *stage) error {
		return errorOf(g.c.PutKeyPolicy(background, &awskms.PutKeyPolicyInput{KeyId: &g.doomed, PolicyName: aws.String("default"), BypassPolicyLockoutSafetyCheck: true,
			Policy: aws.String(attested("arn:aws:iam::"+account+":role/data-processing", registers(2)))}))
	}},
	{"TagResource", func(g *stage) error {
		return errorOf(g.c.TagResource(background, &awskms.TagResourceInput{KeyId: &g.symmetric, Tags: []types.Tag{
			{TagKey: aws.String("team"), TagValue: aws.String("a")}, {TagKey: aws.String("owner"), TagValue: aws.String("ä ö")}}}))
	}},
	{"ListResourceTags", func(g *stage) error {
		return errorOf(g.c.ListResourceTags(background, &awskms.ListResourceTagsInput{KeyId: &g.symmetric, Limit: aws.Int32(1)}))
	}},
	{"UntagResource", func(g *stage) error {
		return errorOf(g.c.UntagResource(background, &awskms.UntagResourceInput{KeyId: &g.symmetric, TagKeys: []string{"owner", "none"}}))
	}},
	{"UpdateKeyDescription", func(g *stage) error {
		return errorOf(g.c.UpdateKeyDescription(background, &awskms.UpdateKeyDescriptionInput{KeyId: &g.symmetric, Description: aws.String("orders of Ümläut & <b>")}))
	}},
	{"EnableKeyRotation", func(g *stage) error {
		return errorOf(g.c.EnableKeyRotation(background, &awskms.EnableKeyRotationInput{KeyId: &g.symmetric, RotationPeriodInDays: aws.Int32(100)}))
	}},
	{"GetKeyRotationStatus", func(g *stage) error {
		return errorOf(g.c.GetKeyRotationStatus(background, &awskms.GetKeyRotationStatusInput{KeyId: &g.symmetric}))
	}},
	{"RotateKeyOnDemand", func(g *stage) error {
		return errorOf(g.c.RotateKeyOnDemand(background, &awskms.RotateKeyOnDemandInput{KeyId: &g.symmetric}))
	}},
	{"ListKeyRotations", func(g *stage) error {
		return errorOf(g.c.ListKeyRotations(background, &awskms.ListKeyRotationsInput{KeyId: &g.symmetric, IncludeKeyMaterial: "ALL_KEY_MATERIAL", Limit: aws.Int32(1)}))
	}},
	{"DisableKeyRotation", func(g *stage) error {
		return errorOf(g.c.DisableKeyRotation(background, &awskms.DisableKeyRotationInput{KeyId: &g.symmetric}))
	}},
	{"GetParametersForImport", func(g *stage) (err error) {
		g.parameters, err = g.c.GetParametersForImport(background, &awskms.GetParametersForImportInput{KeyId: &g.external,
			WrappingAlgorithm: "RSAES_OAEP_SHA_256", WrappingKeySpec: "RSA_2048"})
		return err
	}},
	{"ImportKeyMaterial", func(g *stage) error {
		public, err := x509.ParsePKIXPublicKey(g.parameters.PublicKey)
		if err != nil {
			return err
		}
		wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), g.material, nil)
		if err != nil {
			return err
		}
		out, err := g.c.ImportKeyMaterial(background, &awskms.ImportKeyMaterialInput{KeyId: &g.external, ImportToken: g.parameters.ImportToken,
			EncryptedKeyMaterial: wrapped, ExpirationModel: "KEY_MATERIAL_EXPIRES", ValidTo: aws.Time(time.Now().Add(24 * time.Hour))})
		if err != nil {
			return err
		}
		g.imported = *out.KeyMaterialId
		return nil
	}},
	{"DeleteImportedKeyMaterial", func(g *stage) error {
		return errorOf(g.c.DeleteImportedKeyMaterial(background, &awskms.DeleteImportedKeyMaterialInput{KeyId: &g.external,
			KeyMaterialId: &g.imported}))
	}},
	{"ReplicateKey", func(g *stage) error {
		return errorOf(g.c.ReplicateKey(background, &awskms.ReplicateKeyInput{KeyId: &g.multi, ReplicaRegion: aws.String(secondRegion), Description: aws.String("copy"),
			Tags: []types.Tag{{TagKey: aws.String("team"), TagValue: aws.String("a")}}}))
	}},
	{"UpdatePrimaryRegion", func(g *stage) error {
		return errorOf(g.c.UpdatePrimaryRegion(background, &awskms.UpdatePrimaryRegionInput{KeyId: &g.multi, PrimaryRegion: aws.String(secondRegion)}))
	}},
	{"DisableKey", func(g *stage) error {
		return errorOf(g.c.DisableKey(background, &awskms.DisableKeyInput{KeyId: &g.multi}))
	}},
	{"EnableKey", func(g *stage) error {
		return errorOf(g.c.EnableKey(background, &awskms.EnableKeyInput{KeyId: &g.multi}))
	}},
	{"ScheduleKeyDeletion", func(g *stage) error {
		return errorOf(g.c.ScheduleKeyDeletion(background, &awskms.ScheduleKeyDeletionInput{KeyId: &g.agreement, PendingWindowInDays: aws.Int32(7)}))
	}},
	{"CancelKeyDeletion", func(g *stage) error {
		if _, err := g.c.CancelKeyDeletion(background, &awskms.CancelKeyDeletionInput{KeyId: &g.agreement}); err != nil {
			return err
		}
		return errorOf(g.c.EnableKey(background, &awskms.EnableKeyInput{KeyId: &g.agreement}))
	}},
	{"DescribeCustomKeyStores", func(g *stage) error {
		return errorOf(g.c.DescribeCustomKeyStores(background, &awskms.DescribeCustomKeyStoresInput{Limit: aws.Int32(1)}))
	}},
	{"CreateCustomKeyStore", func(g *stage) error {
		return errorOf(g.c.CreateCustomKeyStore(background, &awskms.CreateCustomKeyStoreInput{CustomKeyStoreName: aws.String("store"), CustomKeyStoreType: "EXTERNAL_KEY_STORE",
			XksProxyUriEndpoint: aws.String("https://example.org"), XksProxyUriPath: aws.String("/kms/xks/v1"), XksProxyConnectivity: "PUBLIC_ENDPOINT",
			XksProxyAuthenticationCredential: &types.XksProxyAuthenticationCredentialType{AccessKeyId: aws.String(strings.Repeat("A", 20)), RawSecretAccessKey: aws.String(strings.Repeat("s", 43))}}))
	}},
	{"ConnectCustomKeyStore", func(g *stage) error {
		return errorOf(g.c.ConnectCustomKeyStore(background, &awskms.ConnectCustomKeyStoreInput{CustomKeyStoreId: aws.String("cks-1234567890abcdef0")}))
	}},
	{"UpdateCustomKeyStore", func(g *stage) error {
		return errorOf(g.c.UpdateCustomKeyStore(background, &awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: aws.String("cks-1234567890abcdef0"), NewCustomKeyStoreName: aws.String("other")}))
	}},
	{"DisconnectCustomKeyStore", func(g *stage) error {
		return errorOf(g.c.DisconnectCustomKeyStore(background, &awskms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: aws.String("cks-1234567890abcdef0")}))
	}},
	{"DeleteCustomKeyStore", func(g *stage) error {
		return errorOf(g.c.DeleteCustomKeyStore(background, &awskms.DeleteCustomKeyStoreInput{CustomKeyStoreId: aws.String("cks-1234567890abcdef0")}))
	}},
}
