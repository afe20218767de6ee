// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go/aws/awserr"
	kmsv1 "github.com/aws/aws-sdk-go/service/kms"
	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"github.com/hashicorp/go-kms-wrapping/wrappers/awskms/v2"
	"google.golang.org/protobuf/proto"
)

// wrapperConfig is the stanza `seal "awskms"` of Vault and OpenBao.
func (s *server) wrapperConfig(as accessKey, key string) map[string]string {
	return map[string]string{
		"kms_key_id": key, "region": s.region(), "endpoint": s.endpoint(), "access_key": as.id, "secret_key": as.secret,
	}
}

// newWrapper returns the wrapper that Vault and OpenBao unseal with. It calls
// DescribeKey once.
func (s *server) newWrapper(t *testing.T, as accessKey, key string) *awskms.Wrapper {
	t.Helper()
	w := awskms.NewWrapper()
	if _, err := w.SetConfig(t.Context(), wrapping.WithConfigMap(s.wrapperConfig(as, key))); err != nil {
		t.Fatal(err)
	}
	return w
}

// wantV1 checks what version 1 of AWS's SDK for Go makes of an error answer.
func wantV1(t *testing.T, what string, err error, code, text string) {
	t.Helper()
	var failure awserr.RequestFailure
	switch {
	case err == nil:
		t.Errorf("%s succeeded, want %s", what, code)
	case !errors.As(err, &failure):
		t.Errorf("%s: %v, want %s", what, err, code)
	case failure.Code() != code || failure.StatusCode() != 400 || !strings.Contains(failure.Message(), text):
		t.Errorf("%s: status %d, %s: %q; want 400, %s: ...%s...", what, failure.StatusCode(), failure.Code(), failure.Message(), code, text)
	case len(failure.RequestID()) != 36:
		t.Errorf("%s: request id %q", what, failure.RequestID())
	}
}

// What a seal does: wrap, store as protobuf, start anew, unwrap.
func TestWrapperRoundTrip(t *testing.T) {
	s := start(t)
	id, arn := s.createKey(t)
	secret := []byte("the root key of a vault")
	w := s.newWrapper(t, s.admin(), id)
	if name, err := w.KeyId(t.Context()); err != nil || name != id {
		t.Errorf("key id %q, %v; want what DescribeKey says: %s", name, err, id)
	}
	sealed, err := w.Encrypt(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	// AWS answers Encrypt with the ARN whatever names the key.
	if name, _ := w.KeyId(t.Context()); name != arn || sealed.KeyInfo.KeyId != arn {
		t.Errorf("key id %s, in the blob %s; want %s", name, sealed.KeyInfo.KeyId, arn)
	}
	stored, err := proto.Marshal(sealed)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(stored, secret) {
		t.Error("the blob has the secret in it")
	}
	var loaded wrapping.BlobInfo
	if err := proto.Unmarshal(stored, &loaded); err != nil {
		t.Fatal(err)
	}
	opened, err := s.newWrapper(t, s.admin(), arn).Decrypt(t.Context(), &loaded)
	if err != nil || !bytes.Equal(opened, secret) {
		t.Errorf("decrypted %q, %v", opened, err)
	}
}

// The environment goes before the configuration, as operators of Vault know it.
func TestWrapperEnvironment(t *testing.T) {
	s := start(t)
	_, arn := s.createKey(t)
	s.exportEnv(t, s.admin())
	t.Setenv("AWS_KMS_ENDPOINT", s.endpoint())
	t.Setenv(awskms.EnvVaultAwsKmsSealKeyId, arn)
	w := awskms.NewWrapper()
	config, err := w.SetConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"region": s.region(), "key_id": arn, "endpoint": s.endpoint()}
	if !maps.Equal(config.Metadata, want) {
		t.Errorf("configuration %v, want %v", config.Metadata, want)
	}
	sealed, err := w.Encrypt(t.Context(), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := w.Decrypt(t.Context(), sealed); err != nil || string(opened) != "x" {
		t.Errorf("decrypted %q, %v", opened, err)
	}
}

// Rotation of a seal is another key: what the old one wrapped still opens, for
// Decrypt takes the key from the ciphertext, and the key id tells the two apart.
func TestWrapperOtherKey(t *testing.T) {
	s := start(t)
	_, oldKey := s.createKey(t)
	_, newKey := s.createKey(t)
	before, after := s.newWrapper(t, s.admin(), oldKey), s.newWrapper(t, s.admin(), newKey)
	old, err := before.Encrypt(t.Context(), []byte("old"))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := after.Decrypt(t.Context(), old)
	if err != nil || string(opened) != "old" {
		t.Fatalf("the new wrapper read %q, %v", opened, err)
	}
	rewrapped, err := after.Encrypt(t.Context(), opened)
	if err != nil {
		t.Fatal(err)
	}
	if old.KeyInfo.KeyId != oldKey || rewrapped.KeyInfo.KeyId != newKey {
		t.Errorf("key ids %s, then %s", old.KeyInfo.KeyId, rewrapped.KeyInfo.KeyId)
	}
	// One key's wrapped data key does not open what the other's has encrypted.
	mixed := &wrapping.BlobInfo{Ciphertext: old.Ciphertext, Iv: old.Iv, KeyInfo: rewrapped.KeyInfo}
	if opened, err := after.Decrypt(t.Context(), mixed); err == nil {
		t.Errorf("a mixed blob opened to %q", opened)
	}
}

// Version 1 of the SDK reads the code of an error from __type alone, and turns it
// into a type of its own.
func TestWrapperErrors(t *testing.T) {
	s := start(t)
	id, arn := s.createKey(t)
	w := s.newWrapper(t, s.admin(), id)
	absentARN := strings.Replace(arn, id, absentKey, 1)

	_, err := awskms.NewWrapper().SetConfig(t.Context(), wrapping.WithConfigMap(s.wrapperConfig(s.admin(), absentKey)))
	wantV1(t, "SetConfig with an absent key", err, kmsv1.ErrCodeNotFoundException, "Key '"+absentARN+"' does not exist")
	var notFound *kmsv1.NotFoundException
	if !errors.As(err, &notFound) {
		t.Errorf("%T is no NotFoundException", err)
	}

	sealed, err := w.Encrypt(t.Context(), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	wrapped := sealed.KeyInfo.WrappedKey
	for i := range wrapped {
		sealed.KeyInfo.WrappedKey = bytes.Clone(wrapped)
		sealed.KeyInfo.WrappedKey[i] ^= 1
		if opened, err := w.Decrypt(t.Context(), sealed); err == nil {
			t.Errorf("opened with byte %d altered: %q", i, opened)
		}
	}
	sealed.KeyInfo.WrappedKey = bytes.Clone(wrapped)
	sealed.KeyInfo.WrappedKey[len(wrapped)-1] ^= 1
	_, err = w.Decrypt(t.Context(), sealed)
	wantV1(t, "Decrypt of an altered ciphertext", err, kmsv1.ErrCodeInvalidCiphertextException, "")
	sealed.KeyInfo.WrappedKey = []byte("not a ciphertext")
	_, err = w.Decrypt(t.Context(), sealed)
	wantV1(t, "Decrypt of something else", err, kmsv1.ErrCodeInvalidCiphertextException, "")

	// The wrapper encrypts only data keys; its client takes more.
	_, err = w.Client().Encrypt(&kmsv1.EncryptInput{KeyId: &arn, Plaintext: make([]byte, 4097)})
	wantV1(t, "Encrypt of 4097 bytes", err, "ValidationException", "at 'plaintext' failed to satisfy constraint: Member must have length less than or equal to 4096")
	elsewhere := strings.Replace(arn, s.region(), "eu-west-1", 1)
	_, err = w.Client().DescribeKey(&kmsv1.DescribeKeyInput{KeyId: &elsewhere})
	wantV1(t, "DescribeKey of another region's key", err, kmsv1.ErrCodeNotFoundException, "Invalid arn eu-west-1")
}

// Who is not allowed is told so, and who is not known is told so.
func TestWrapperDenied(t *testing.T) {
	s := start(t)
	_, arn := s.createKey(t)
	describer := s.addUser(t, "describer", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:DescribeKey","Resource":"*"}}`)
	nobody := s.addUser(t, "nobody", "")

	_, err := awskms.NewWrapper().SetConfig(t.Context(), wrapping.WithConfigMap(s.wrapperConfig(nobody, arn)))
	wantV1(t, "SetConfig as nobody", err, "AccessDeniedException",
		"User: arn:aws:iam::000000000000:user/nobody is not authorized to perform: kms:DescribeKey on resource: "+arn)

	sealed, err := s.newWrapper(t, s.admin(), arn).Encrypt(t.Context(), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	w := s.newWrapper(t, describer, arn)
	_, err = w.Encrypt(t.Context(), []byte("x"))
	wantV1(t, "Encrypt as describer", err, "AccessDeniedException",
		"User: arn:aws:iam::000000000000:user/describer is not authorized to perform: kms:Encrypt on resource: "+arn)
	_, err = w.Decrypt(t.Context(), sealed)
	wantV1(t, "Decrypt as describer", err, "AccessDeniedException", "")

	forger := accessKey{s.admin().id, "not" + s.admin().secret[3:]}
	_, err = awskms.NewWrapper().SetConfig(t.Context(), wrapping.WithConfigMap(s.wrapperConfig(forger, arn)))
	wantV1(t, "SetConfig with a wrong secret", err, "InvalidSignatureException",
		"The request signature we calculated does not match the signature you provided.")
	stranger := accessKey{"AKIAAAAAAAAAAAAAAAAA", s.admin().secret}
	_, err = awskms.NewWrapper().SetConfig(t.Context(), wrapping.WithConfigMap(s.wrapperConfig(stranger, arn)))
	wantV1(t, "SetConfig with an unknown access key", err, "UnrecognizedClientException",
		"The security token included in the request is invalid")
}

// A disabled key seals and opens nothing; enabled again, what it wrapped opens.
func TestWrapperDisabledKey(t *testing.T) {
	s := start(t)
	_, arn := s.createKey(t)
	w := s.newWrapper(t, s.admin(), arn)
	sealed, err := w.Encrypt(t.Context(), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Client().DisableKey(&kmsv1.DisableKeyInput{KeyId: &arn}); err != nil {
		t.Fatal(err)
	}
	_, err = w.Encrypt(t.Context(), []byte("x"))
	wantV1(t, "Encrypt", err, kmsv1.ErrCodeDisabledException, arn+" is disabled.")
	_, err = w.Decrypt(t.Context(), sealed)
	wantV1(t, "Decrypt", err, kmsv1.ErrCodeDisabledException, arn+" is disabled.")
	s.newWrapper(t, s.admin(), arn) // DescribeKey is for keys of every state
	if _, err := w.Client().EnableKey(&kmsv1.EnableKeyInput{KeyId: &arn}); err != nil {
		t.Fatal(err)
	}
	if opened, err := w.Decrypt(t.Context(), sealed); err != nil || string(opened) != "x" {
		t.Errorf("decrypted %q, %v", opened, err)
	}
}

// An operator who names the key by an alias rotates by pointing it elsewhere: the
// key id that the wrapper reports changes with the next Encrypt.
func TestWrapperAlias(t *testing.T) {
	s := start(t)
	first, firstARN := s.createKey(t)
	second, secondARN := s.createKey(t)
	alias := "alias/vault/unseal"
	_, err := awskms.NewWrapper().SetConfig(t.Context(), wrapping.WithConfigMap(s.wrapperConfig(s.admin(), alias)))
	wantV1(t, "SetConfig before the alias is there", err, kmsv1.ErrCodeNotFoundException, "Alias arn:aws:kms:us-east-1:000000000000:alias/vault/unseal is not found.")
	client := s.newWrapper(t, s.admin(), first).Client()
	if _, err := client.CreateAlias(&kmsv1.CreateAliasInput{AliasName: &alias, TargetKeyId: &first}); err != nil {
		t.Fatal(err)
	}
	w := s.newWrapper(t, s.admin(), alias)
	old, err := w.Encrypt(t.Context(), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.UpdateAlias(&kmsv1.UpdateAliasInput{AliasName: &alias, TargetKeyId: &second}); err != nil {
		t.Fatal(err)
	}
	rotated, err := w.Encrypt(t.Context(), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if now, _ := w.KeyId(t.Context()); old.KeyInfo.KeyId != firstARN || rotated.KeyInfo.KeyId != secondARN || now != secondARN {
		t.Errorf("key ids %s, %s, now %s", old.KeyInfo.KeyId, rotated.KeyInfo.KeyId, now)
	}
	for _, sealed := range []*wrapping.BlobInfo{old, rotated} {
		if opened, err := w.Decrypt(t.Context(), sealed); err != nil || string(opened) != "x" {
			t.Errorf("decrypted %q, %v", opened, err)
		}
	}
}
