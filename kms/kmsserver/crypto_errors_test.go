// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/kms"
)

// keyFor makes a key that a use is possible with.
func (s *service) keyFor(u use) string {
	usage := u.usage
	if usage == "" {
		usage = types.KeyUsageTypeSignVerify
	}
	return s.make(u.spec, usage)
}

// otherUsages has, by usage, a key that has another one.
var otherUsages = map[types.KeyUsageType]struct {
	spec  types.KeySpec
	usage types.KeyUsageType
}{
	"ENCRYPT_DECRYPT": {"HMAC_256", "GENERATE_VERIFY_MAC"}, "SIGN_VERIFY": {"ECC_NIST_P256", "KEY_AGREEMENT"},
	"GENERATE_VERIFY_MAC": {"SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"}, "KEY_AGREEMENT": {"ECC_NIST_P256", "SIGN_VERIFY"},
	"": {"HMAC_384", "GENERATE_VERIFY_MAC"},
}

// Every operation that uses a key refuses in the same way what it cannot use, and
// whom it must not serve.
func TestUsesRefuse(t *testing.T) {
	s := newService(t)
	ctx, admin := t.Context(), s.adminClient()
	nobody := s.client(s.principal(kms.User, "nobody"), region)
	foreigner, err := s.kms.AddPrincipal(ctx, kms.Principal{Type: kms.User, Name: "admin", Account: "111111111111", Policies: []string{kms.AdminPolicy}})
	fatal(t, err)
	for _, u := range uses {
		t.Run(u.name, func(t *testing.T) {
			key := s.keyFor(u)
			call := u.prepare(t, admin, key)
			fatal(t, call(admin, key, false))

			wantCode(t, call(admin, "arn:aws:kms:us-east-1:000000000000:key/12345678-1234-1234-1234-123456789012", false), "NotFoundException")
			wantCode(t, call(admin, "alias/none", false), "NotFoundException")
			wantCode(t, call(nobody, key, false), "AccessDeniedException")
			wantCode(t, call(s.client(foreigner, region), key, false), "AccessDeniedException")

			other := otherUsages[u.usage]
			wrong := s.make(other.spec, other.usage)
			err := call(admin, wrong, false)
			switch u.name {
			case "Decrypt", "ReEncrypt": // as recorded for ReEncrypt: another key comes first
				wantCode(t, err, "IncorrectKeyException")
			case "GetPublicKey":
				wantCode(t, err, "UnsupportedOperationException")
			default:
				wantCode(t, err, "InvalidKeyUsageException")
				if _, message, _, _ := refused(t, err); message != wrong+" key usage is "+string(other.usage)+" which is not valid for "+u.name+"." {
					t.Errorf("message %q", message)
				}
			}

			s.audit.set(errors.New("the disk is gone"))
			err = call(admin, key, false)
			s.audit.set(nil)
			wantCode(t, err, "KMSInternalException")

			_, err = admin.DisableKey(ctx, &awskms.DisableKeyInput{KeyId: &key})
			fatal(t, err)
			for _, dry := range []bool{false, u.name != "GetPublicKey"} {
				wantCode(t, call(admin, key, dry), "DisabledException")
			}
			_, err = admin.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: &key})
			fatal(t, err)
			wantCode(t, call(admin, key, false), "KMSInvalidStateException")
		})
	}
}

// A key without material refuses, in whatever operation.
func TestUsesOfPendingImport(t *testing.T) {
	s := newService(t)
	ctx, admin := t.Context(), s.adminClient()
	for _, u := range uses {
		usage := u.usage
		if usage == "" {
			usage = types.KeyUsageTypeSignVerify
		}
		key := s.make(u.spec, usage, func(in *awskms.CreateKeyInput) { in.Origin = types.OriginTypeExternal })
		var err error
		switch u.name {
		case "Decrypt": // there is no ciphertext of the key yet
			_, err = admin.Decrypt(ctx, &awskms.DecryptInput{KeyId: &key, DryRun: aws.Bool(true), DryRunModifiers: ignoreCiphertext})
		case "ReEncrypt":
			_, err = admin.ReEncrypt(ctx, &awskms.ReEncryptInput{SourceKeyId: &key, DestinationKeyId: &key, DryRun: aws.Bool(true), DryRunModifiers: ignoreCiphertext})
		default:
			call := u.prepare(t, admin, s.keyFor(u))
			err = call(admin, key, false)
		}
		wantCode(t, err, "KMSInvalidStateException")
		if _, message, _, _ := refused(t, err); message != key+" is pending import." {
			t.Errorf("%s: message %q", u.name, message)
		}
	}
}

var ignoreCiphertext = []types.DryRunModifierType{types.DryRunModifierTypeIgnoreCiphertext}

// refusal checks code and text of an error.
func refusal(t testing.TB, what string, err error, code, message string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", what)
		return
	}
	gotCode, got, status, _ := refused(t, err)
	if got == "UnknownError" { // the client's word for no message
		got = ""
	}
	if gotCode != code || got != message || status != 400 {
		t.Errorf("%s: %d %s %q, want %s %q", what, status, gotCode, got, code, message)
	}
}

const contextRefused = "EncryptionContext is not supported when encrypting/decrypting with asymmetric CMKs."

func TestRSAEncryptionRefusals(t *testing.T) {
	s := newService(t)
	ctx, c := t.Context(), s.adminClient()
	key, symmetric := s.make("RSA_2048", "ENCRYPT_DECRYPT"), s.key("")
	other := s.make("RSA_2048", "ENCRYPT_DECRYPT")
	sealed, err := c.Encrypt(ctx, &awskms.EncryptInput{KeyId: &key, Plaintext: make([]byte, 190), EncryptionAlgorithm: "RSAES_OAEP_SHA_256"})
	fatal(t, err)
	if len(sealed.CiphertextBlob) != 256 {
		t.Errorf("%d bytes of ciphertext", len(sealed.CiphertextBlob))
	}
	encrypt := func(change func(*awskms.EncryptInput)) error {
		in := &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("x"), EncryptionAlgorithm: "RSAES_OAEP_SHA_256"}
		change(in)
		_, err := c.Encrypt(ctx, in)
		return err
	}
	for what, e := range map[string]struct {
		change        func(*awskms.EncryptInput)
		code, message string
	}{
		"no algorithm": {func(in *awskms.EncryptInput) { in.EncryptionAlgorithm = "" }, "InvalidKeyUsageException",
			"Algorithm SYMMETRIC_DEFAULT is incompatible with key spec RSA_2048."},
		"SM2PKE": {func(in *awskms.EncryptInput) { in.EncryptionAlgorithm = "SM2PKE" }, "InvalidKeyUsageException",
			"Algorithm SM2PKE is incompatible with key spec RSA_2048."},
		"symmetric key": {func(in *awskms.EncryptInput) { in.KeyId = &symmetric }, "InvalidKeyUsageException",
			"Algorithm RSAES_OAEP_SHA_256 is incompatible with key spec SYMMETRIC_DEFAULT."},
		"context": {func(in *awskms.EncryptInput) { in.EncryptionContext = map[string]string{"a": "b"} }, "ValidationException", contextRefused},
		"too long": {func(in *awskms.EncryptInput) { in.Plaintext = make([]byte, 191) }, "ValidationException",
			"Algorithm RSAES_OAEP_SHA_256 and key spec RSA_2048 cannot encrypt data larger than 190 bytes."},
		"too long, dry": {func(in *awskms.EncryptInput) { in.Plaintext, in.DryRun = make([]byte, 191), aws.Bool(true) }, "ValidationException",
			"Algorithm RSAES_OAEP_SHA_256 and key spec RSA_2048 cannot encrypt data larger than 190 bytes."},
	} {
		refusal(t, "Encrypt, "+what, encrypt(e.change), e.code, e.message)
	}
	decrypt := func(change func(*awskms.DecryptInput)) error {
		in := &awskms.DecryptInput{KeyId: &key, CiphertextBlob: sealed.CiphertextBlob, EncryptionAlgorithm: "RSAES_OAEP_SHA_256"}
		change(in)
		_, err := c.Decrypt(ctx, in)
		return err
	}
	fatal(t, decrypt(func(*awskms.DecryptInput) {}))
	for what, e := range map[string]struct {
		change        func(*awskms.DecryptInput)
		code, message string
	}{
		"no key": {func(in *awskms.DecryptInput) { in.KeyId = nil }, "ValidationException", "KeyId must not be null"},
		// AWS takes a symmetric ciphertext apart before it looks at the key.
		"no algorithm":        {func(in *awskms.DecryptInput) { in.EncryptionAlgorithm = "" }, "InvalidCiphertextException", ""},
		"no key or algorithm": {func(in *awskms.DecryptInput) { in.KeyId, in.EncryptionAlgorithm = nil, "" }, "InvalidCiphertextException", ""},
		"other algorithm":     {func(in *awskms.DecryptInput) { in.EncryptionAlgorithm = "RSAES_OAEP_SHA_1" }, "InvalidCiphertextException", ""},
		"other key":           {func(in *awskms.DecryptInput) { in.KeyId = &other }, "InvalidCiphertextException", ""},
		"cut":                 {func(in *awskms.DecryptInput) { in.CiphertextBlob = in.CiphertextBlob[:255] }, "InvalidCiphertextException", ""},
		"nothing": {func(in *awskms.DecryptInput) { in.CiphertextBlob = nil }, "ValidationException",
			"1 validation error detected: Value null at 'ciphertextBlob' failed to satisfy constraint: Member must not be null"},
		"context": {func(in *awskms.DecryptInput) { in.EncryptionContext = map[string]string{"a": "b"} }, "ValidationException", contextRefused},
		"symmetric key": {func(in *awskms.DecryptInput) { in.KeyId = &symmetric }, "InvalidKeyUsageException",
			"Algorithm RSAES_OAEP_SHA_256 is incompatible with key spec SYMMETRIC_DEFAULT."},
	} {
		refusal(t, "Decrypt, "+what, decrypt(e.change), e.code, e.message)
	}
	for _, u := range uses {
		if strings.HasPrefix(u.name, "GenerateDataKey") {
			refusal(t, u.name, u.prepare(t, c, key)(c, key, false), "InvalidKeyUsageException", key+" key spec is RSA_2048 which is not valid for "+u.name+".")
		}
	}
}

func TestSignatureAndMacRefusals(t *testing.T) {
	s := newService(t)
	ctx, c := t.Context(), s.adminClient()
	p256, edwards, mac := s.make("ECC_NIST_P256", "SIGN_VERIFY"), s.make("ECC_NIST_EDWARDS25519", "SIGN_VERIFY"), s.make("HMAC_256", "GENERATE_VERIFY_MAC")
	sign := func(key string, algorithm types.SigningAlgorithmSpec, messageType types.MessageType, size int) error {
		_, err := c.Sign(ctx, &awskms.SignInput{KeyId: &key, Message: make([]byte, size), MessageType: messageType, SigningAlgorithm: algorithm})
		return err
	}
	refusal(t, "other curve's algorithm", sign(p256, "ECDSA_SHA_384", "RAW", 1), "InvalidKeyUsageException", "Algorithm ECDSA_SHA_384 is incompatible with key spec ECC_NIST_P256.")
	refusal(t, "RSA algorithm", sign(p256, "RSASSA_PSS_SHA_256", "RAW", 1), "InvalidKeyUsageException", "Algorithm RSASSA_PSS_SHA_256 is incompatible with key spec ECC_NIST_P256.")
	refusal(t, "digest", sign(p256, "ECDSA_SHA_256", "DIGEST", 31), "ValidationException", "Digest is invalid length for algorithm ECDSA_SHA_256.")
	wantCode(t, sign(p256, "ECDSA_SHA_256", "RAW", 4097), "ValidationException")
	wantCode(t, sign(p256, "ECDSA_SHA_256", "RAW", 0), "ValidationException")
	wantCode(t, sign(p256, "ECDSA_SHA_256", "EXTERNAL_MU", 64), "ValidationException")
	wantCode(t, sign(edwards, "ED25519_SHA_512", "DIGEST", 64), "ValidationException")
	wantCode(t, sign(edwards, "ED25519_PH_SHA_512", "RAW", 64), "ValidationException")
	fatal(t, sign(p256, "ECDSA_SHA_256", "", 4096))

	signed, err := c.Sign(ctx, &awskms.SignInput{KeyId: &p256, Message: []byte("x"), SigningAlgorithm: "ECDSA_SHA_256"})
	fatal(t, err)
	verify := func(message string, signature []byte, dry bool) error {
		_, err := c.Verify(ctx, &awskms.VerifyInput{KeyId: &p256, Message: []byte(message), Signature: signature, SigningAlgorithm: "ECDSA_SHA_256", DryRun: &dry})
		return err
	}
	fatal(t, verify("x", signed.Signature, false))
	for what, err := range map[string]error{
		"other message": verify("y", signed.Signature, false), "other message, dry": verify("y", signed.Signature, true),
		"cut": verify("x", signed.Signature[:len(signed.Signature)-1], false), "no DER": verify("x", make([]byte, 64), false),
		"more": verify("x", append([]byte(nil), append(signed.Signature, 0)...), false),
	} {
		refusal(t, what, err, "KMSInvalidSignatureException", "")
	}

	made, err := c.GenerateMac(ctx, &awskms.GenerateMacInput{KeyId: &mac, Message: []byte("x"), MacAlgorithm: "HMAC_SHA_256"})
	fatal(t, err)
	check := func(message string, mac2 []byte, dry bool) error {
		_, err := c.VerifyMac(ctx, &awskms.VerifyMacInput{KeyId: &mac, Message: []byte(message), Mac: mac2, MacAlgorithm: "HMAC_SHA_256", DryRun: &dry})
		return err
	}
	fatal(t, check("x", made.Mac, false))
	for what, err := range map[string]error{
		"other message": check("y", made.Mac, false), "other message, dry": check("y", made.Mac, true),
		"cut": check("x", made.Mac[:31], false), "zeros": check("x", make([]byte, 32), false),
	} {
		refusal(t, "MAC, "+what, err, "KMSInvalidMacException", "")
	}
	_, err = c.GenerateMac(ctx, &awskms.GenerateMacInput{KeyId: &mac, Message: []byte("x"), MacAlgorithm: "HMAC_SHA_512"})
	refusal(t, "other hash", err, "InvalidKeyUsageException", "Algorithm HMAC_SHA_512 is incompatible with key spec HMAC_256.")
}

// A grant token that is none is refused by every operation that uses a key.
func TestUsesRefuseGrantTokens(t *testing.T) {
	s := newService(t)
	blob := `"` + base64Of([]byte("x")) + `"`
	bodies := map[string]string{
		"Encrypt": `"Plaintext":` + blob, "Decrypt": `"CiphertextBlob":` + blob, "ReEncrypt": `"DestinationKeyId":"x","CiphertextBlob":` + blob,
		"GenerateDataKey": `"NumberOfBytes":1`, "GenerateDataKeyWithoutPlaintext": `"NumberOfBytes":1`,
		"GenerateDataKeyPair": `"KeyPairSpec":"RSA_2048"`, "GenerateDataKeyPairWithoutPlaintext": `"KeyPairSpec":"RSA_2048"`,
		"Sign": `"SigningAlgorithm":"ECDSA_SHA_256","Message":` + blob, "Verify": `"SigningAlgorithm":"ECDSA_SHA_256","Message":` + blob + `,"Signature":` + blob,
		"GenerateMac": `"MacAlgorithm":"HMAC_SHA_256","Message":` + blob, "VerifyMac": `"MacAlgorithm":"HMAC_SHA_256","Message":` + blob + `,"Mac":` + blob,
		"DeriveSharedSecret": `"KeyAgreementAlgorithm":"ECDH","PublicKey":` + blob, "GetPublicKey": `"DryRun":false`,
	}
	for _, u := range uses {
		body, key := bodies[u.name], s.keyFor(u)
		if body == "" {
			t.Errorf("%s is not tried", u.name)
			continue
		}
		for _, token := range []string{"x", base64Of(make([]byte, 64))} {
			status, answer, _ := s.send(raw{target: "TrentService." + u.name, body: `{"KeyId":"` + key + `","GrantTokens":["` + token + `"],` + body + `}`})
			if status != 400 || !strings.Contains(answer, `"__type":"InvalidGrantTokenException"`) {
				t.Errorf("%s: %d %s", u.name, status, answer)
			}
		}
	}
}
