// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsapi"
)

// A program can call the service without HTTP: what is answered and what is on
// record are the same.
func TestDo(t *testing.T) {
	s := newService(t)
	ctx, key := t.Context(), s.key("")
	owner, _, err := s.kms.AccessKey(ctx, s.admin.AccessKeyID)
	wantNil(t, err)
	caller := &kms.Caller{Principal: owner, AccessKeyID: s.admin.AccessKeyID, Region: region}
	sealed, err := kms.Do[kmsapi.EncryptOutput](ctx, s.kms, caller, &kmsapi.EncryptInput{KeyId: &key, Plaintext: []byte("x")})
	wantNil(t, err)
	opened, err := kms.Do[kmsapi.DecryptOutput](ctx, s.kms, caller, &kmsapi.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	wantNil(t, err)
	if string(opened.Plaintext) != "x" || len(s.events("Decrypt")) != 1 {
		t.Errorf("%q, %d events", opened.Plaintext, len(s.events("Decrypt")))
	}
	stranger := *caller
	stranger.Principal.Policies = nil
	out, err := kms.Do[kmsapi.DecryptOutput](ctx, s.kms, &stranger, &kmsapi.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	if out != nil {
		t.Error("an answer beside an error")
	}
	wantOwnCode(t, err, kmsapi.AccessDenied)
	_, err = kms.Do[kmsapi.DecryptOutput](ctx, s.kms, caller, &kmsapi.DecryptInput{})
	wantOwnCode(t, err, kmsapi.Validation)
	_, err = kms.Do[kmsapi.EncryptOutput](ctx, s.kms, caller, &kmsapi.DecryptInput{}) // of two operations
	wantOwnCode(t, err, kmsapi.KMSInternal)
	_, err = kms.Do[struct{}](ctx, s.kms, caller, new(struct{}))
	wantOwnCode(t, err, kmsapi.KMSInternal)

	// The body that an attested request is bound to is the input as JSON.
	alice := s.principal(kms.User, "alice")
	caller.Principal, _, err = s.kms.AccessKey(ctx, alice.AccessKeyID)
	wantNil(t, err)
	caller.AccessKeyID = alice.AccessKeyID
	key = attestedKey(t, s, types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac)
	in := &kmsapi.GenerateMacInput{KeyId: &key, Message: []byte("x"), MacAlgorithm: aws.String("HMAC_SHA_256")}
	_, err = kms.Do[kmsapi.GenerateMacOutput](ctx, s.kms, caller, in)
	wantOwnCode(t, err, kmsapi.AccessDenied)
	body, err := json.Marshal(in)
	wantNil(t, err)
	sum := sha256.Sum256(body)
	digest := sha512.Sum384([]byte("GenerateMac" + key + string(sum[:])))
	in.Recipient = &kmsapi.RecipientInfo{AttestationDocument: document(t, func(c *issuer.Content) { c.UserData = digest[:] })}
	mac, err := kms.Do[kmsapi.GenerateMacOutput](ctx, s.kms, caller, in)
	wantNil(t, err)
	if len(mac.Mac) != 32 {
		t.Errorf("%x", mac.Mac)
	}
}

func wantOwnCode(t *testing.T, err error, code kmsapi.Code) {
	t.Helper()
	if e, ok := err.(*kmsapi.Error); !ok || e.Code != code {
		t.Errorf("got %v, want %s", err, code)
	}
}
