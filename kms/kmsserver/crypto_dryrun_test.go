// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsapi"
)

// grantUses are the operations on grants, which take DryRun and use no key.
var grantUses = []use{
	{"CreateGrant", "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", always(func(c *awskms.Client, key string, dry bool) error {
		_, err := c.CreateGrant(background, &awskms.CreateGrantInput{KeyId: &key, GranteePrincipal: aws.String("arn:aws:iam::000000000000:user/admin"),
			Operations: []types.GrantOperation{"Decrypt"}, DryRun: &dry})
		return err
	})},
	{"RevokeGrant", "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", func(t testing.TB, c *awskms.Client, key string) request {
		grant := newGrant(t, c, key)
		return func(c *awskms.Client, key string, dry bool) error {
			_, err := c.RevokeGrant(background, &awskms.RevokeGrantInput{KeyId: &key, GrantId: grant.GrantId, DryRun: &dry})
			return err
		}
	}},
	{"RetireGrant", "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", func(t testing.TB, c *awskms.Client, key string) request {
		grant := newGrant(t, c, key)
		return func(c *awskms.Client, _ string, dry bool) error {
			_, err := c.RetireGrant(background, &awskms.RetireGrantInput{GrantToken: grant.GrantToken, DryRun: &dry})
			return err
		}
	}},
}

func newGrant(t testing.TB, c *awskms.Client, key string) *awskms.CreateGrantOutput {
	admin := aws.String("arn:aws:iam::000000000000:user/admin")
	out, err := c.CreateGrant(background, &awskms.CreateGrantInput{KeyId: &key, GranteePrincipal: admin, RetiringPrincipal: admin, Operations: []types.GrantOperation{"Decrypt"}})
	fatal(t, err)
	return out
}

// A valid request to any operation that takes DryRun is answered with
// DryRunOperationException if it is set, is denied to who may not make it, and
// changes nothing in the store. The same request then succeeds.
func TestDryRun(t *testing.T) {
	s := newService(t)
	admin := s.adminClient()
	nobody := s.client(s.principal(kms.User, "nobody"), region)
	calls := map[string]use{}
	for _, u := range append(grantUses, uses...) {
		calls[u.name] = u
	}
	takes := 0
	for _, op := range kmsapi.Operations() {
		if _, ok := op.Input.FieldByName("DryRun"); !ok {
			continue
		}
		takes++
		if op.Usage == kmsapi.EncapsulateDecapsulate {
			continue // no spec of this service has it
		}
		u, ok := calls[op.Name]
		if !ok {
			t.Errorf("%s is not tried", op.Name)
			continue
		}
		key := s.keyFor(u)
		call := u.prepare(t, admin, key)
		before := readFile(t, filepath.Join(s.dir, datadir.StoreFile))
		if before == "" {
			t.Fatal("no store to compare")
		}
		for range 2 {
			refusal(t, op.Name, call(admin, key, true), "DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
		}
		wantCode(t, call(nobody, key, true), "AccessDeniedException")
		if readFile(t, filepath.Join(s.dir, datadir.StoreFile)) != before {
			t.Errorf("%s: a dry run changed the store", op.Name)
		}
		if err := call(admin, key, false); err != nil {
			t.Errorf("%s: %v", op.Name, err)
		}
	}
	if takes < 16 {
		t.Errorf("%d operations take DryRun", takes)
	}
}

// With IGNORE_CIPHERTEXT only what is decided without a ciphertext counts, and no
// ciphertext need be there.
func TestIgnoreCiphertext(t *testing.T) {
	s := newService(t)
	ctx, c := t.Context(), s.adminClient()
	key, rsa, mac := s.key(""), s.make("RSA_2048", "ENCRYPT_DECRYPT"), s.make("HMAC_256", "GENERATE_VERIFY_MAC")
	sealed := s.encrypt(key, "", nil)
	nobody := s.client(s.principal(kms.User, "nobody"), region)
	reader := s.client(s.principal(kms.User, "reader", allowAll(`["kms:Decrypt","kms:ReEncryptFrom"]`)), region)
	decrypt := func(c *awskms.Client, change func(*awskms.DecryptInput)) error {
		in := &awskms.DecryptInput{KeyId: &key, DryRun: aws.Bool(true), DryRunModifiers: ignoreCiphertext}
		change(in)
		_, err := c.Decrypt(ctx, in)
		return err
	}
	reEncrypt := func(c *awskms.Client, change func(*awskms.ReEncryptInput)) error {
		in := &awskms.ReEncryptInput{SourceKeyId: &key, DestinationKeyId: &rsa, DestinationEncryptionAlgorithm: "RSAES_OAEP_SHA_1", DryRun: aws.Bool(true), DryRunModifiers: ignoreCiphertext}
		change(in)
		_, err := c.ReEncrypt(ctx, in)
		return err
	}
	for name, e := range map[string]struct {
		err  error
		code string
	}{
		"none":      {decrypt(c, func(*awskms.DecryptInput) {}), "DryRunOperationException"},
		"none, RSA": {decrypt(c, func(in *awskms.DecryptInput) { in.KeyId, in.EncryptionAlgorithm = &rsa, "RSAES_OAEP_SHA_256" }), "DryRunOperationException"},
		"wrong":     {decrypt(c, func(in *awskms.DecryptInput) { in.CiphertextBlob = []byte("hello") }), "DryRunOperationException"},
		"another key's": {decrypt(c, func(in *awskms.DecryptInput) {
			in.KeyId, in.EncryptionAlgorithm, in.CiphertextBlob = &rsa, "RSAES_OAEP_SHA_1", sealed
		}), "DryRunOperationException"},
		"no key":                {decrypt(c, func(in *awskms.DecryptInput) { in.KeyId, in.CiphertextBlob = nil, sealed }), "ValidationException"},
		"no dry run":            {decrypt(c, func(in *awskms.DecryptInput) { in.DryRun, in.CiphertextBlob = nil, sealed }), "ValidationException"},
		"dry run false":         {decrypt(c, func(in *awskms.DecryptInput) { in.DryRun, in.CiphertextBlob = aws.Bool(false), sealed }), "ValidationException"},
		"unknown modifier":      {decrypt(c, func(in *awskms.DecryptInput) { in.DryRunModifiers = []types.DryRunModifierType{"ALL"} }), "ValidationException"},
		"not allowed":           {decrypt(nobody, func(*awskms.DecryptInput) {}), "AccessDeniedException"},
		"another usage":         {decrypt(c, func(in *awskms.DecryptInput) { in.KeyId = &mac }), "InvalidKeyUsageException"},
		"another algorithm":     {decrypt(c, func(in *awskms.DecryptInput) { in.KeyId = &rsa }), "InvalidKeyUsageException"},
		"ReEncrypt":             {reEncrypt(c, func(*awskms.ReEncryptInput) {}), "DryRunOperationException"},
		"ReEncrypt, no source":  {reEncrypt(c, func(in *awskms.ReEncryptInput) { in.SourceKeyId, in.CiphertextBlob = nil, sealed }), "ValidationException"},
		"ReEncrypt, no dry run": {reEncrypt(c, func(in *awskms.ReEncryptInput) { in.DryRun, in.CiphertextBlob = nil, sealed }), "ValidationException"},
		"ReEncrypt from only":   {reEncrypt(reader, func(*awskms.ReEncryptInput) {}), "AccessDeniedException"},
		"ReEncrypt to a MAC":    {reEncrypt(c, func(in *awskms.ReEncryptInput) { in.DestinationKeyId = &mac }), "InvalidKeyUsageException"},
		"allowed to read":       {decrypt(reader, func(*awskms.DecryptInput) {}), "DryRunOperationException"},
	} {
		if e.err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		if code, message, _, _ := refused(t, e.err); code != e.code {
			t.Errorf("%s: %s %s, want %s", name, code, message, e.code)
		}
	}
}
