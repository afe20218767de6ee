// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/kms"
)

func (s *service) encrypt(key string, algorithm types.EncryptionAlgorithmSpec, context map[string]string) []byte {
	s.t.Helper()
	out, err := s.adminClient().Encrypt(s.t.Context(), &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("the secret"),
		EncryptionAlgorithm: algorithm, EncryptionContext: context})
	fatal(s.t, err)
	return out.CiphertextBlob
}

// Each kind of key can be on each side.
func TestReEncryptSides(t *testing.T) {
	s := newService(t)
	ctx, c := t.Context(), s.adminClient()
	type side struct {
		key       string
		algorithm types.EncryptionAlgorithmSpec
		context   map[string]string
	}
	sides := map[string]side{
		"symmetric":               {s.key(""), "", nil},
		"symmetric, with context": {s.key(""), "SYMMETRIC_DEFAULT", map[string]string{"tenant": "a"}},
		"RSA, SHA-1":              {s.make("RSA_2048", "ENCRYPT_DECRYPT"), "RSAES_OAEP_SHA_1", nil},
		"RSA, SHA-256":            {s.make("RSA_3072", "ENCRYPT_DECRYPT"), "RSAES_OAEP_SHA_256", nil},
	}
	for fromName, from := range sides {
		sealed := s.encrypt(from.key, from.algorithm, from.context)
		for toName, to := range sides {
			t.Run(fromName+" to "+toName, func(t *testing.T) {
				in := &awskms.ReEncryptInput{CiphertextBlob: sealed, SourceKeyId: &from.key, SourceEncryptionAlgorithm: from.algorithm, SourceEncryptionContext: from.context,
					DestinationKeyId: &to.key, DestinationEncryptionAlgorithm: to.algorithm, DestinationEncryptionContext: to.context}
				out, err := c.ReEncrypt(ctx, in)
				fatal(t, err)
				or := func(a types.EncryptionAlgorithmSpec) types.EncryptionAlgorithmSpec {
					if a == "" {
						return "SYMMETRIC_DEFAULT"
					}
					return a
				}
				if *out.SourceKeyId != from.key || *out.KeyId != to.key || out.SourceEncryptionAlgorithm != or(from.algorithm) || out.DestinationEncryptionAlgorithm != or(to.algorithm) ||
					(out.SourceKeyMaterialId != nil) != (or(from.algorithm) == "SYMMETRIC_DEFAULT") || (out.DestinationKeyMaterialId != nil) != (or(to.algorithm) == "SYMMETRIC_DEFAULT") {
					t.Errorf("%+v", out)
				}
				opened, err := c.Decrypt(ctx, &awskms.DecryptInput{KeyId: &to.key, CiphertextBlob: out.CiphertextBlob, EncryptionAlgorithm: to.algorithm, EncryptionContext: to.context})
				if err != nil || !bytes.Equal(opened.Plaintext, []byte("the secret")) {
					t.Errorf("Decrypt: %v", err)
				}
				// Without SourceKeyId only where the ciphertext names its key.
				in.SourceKeyId = nil
				_, err = c.ReEncrypt(ctx, in)
				if or(from.algorithm) == "SYMMETRIC_DEFAULT" {
					fatal(t, err)
				} else {
					refusal(t, "no SourceKeyId", err, "ValidationException", "SourceKeyId must not be null")
				}
			})
		}
	}
}

func TestReEncryptRefusals(t *testing.T) {
	s := newService(t)
	ctx, c := t.Context(), s.adminClient()
	from, to, rsa, mac := s.key(""), s.key(""), s.make("RSA_2048", "ENCRYPT_DECRYPT"), s.make("HMAC_224", "GENERATE_VERIFY_MAC")
	disabled := s.key("")
	sealed := s.encrypt(from, "", map[string]string{"a": "b"})
	lost := s.encrypt(disabled, "", nil)
	_, err := c.DisableKey(ctx, &awskms.DisableKeyInput{KeyId: &disabled})
	fatal(t, err)
	long, err := c.Encrypt(ctx, &awskms.EncryptInput{KeyId: &from, Plaintext: make([]byte, 191)})
	fatal(t, err)
	none := "arn:aws:kms:us-east-1:000000000000:key/12345678-1234-1234-1234-123456789012"
	for name, e := range map[string]struct {
		change        func(*awskms.ReEncryptInput)
		code, message string
	}{
		"no ciphertext": {func(in *awskms.ReEncryptInput) { in.CiphertextBlob = nil }, "ValidationException",
			"1 validation error detected: Value null at 'ciphertextBlob' failed to satisfy constraint: Member must not be null"},
		"no ciphertext of ours": {func(in *awskms.ReEncryptInput) { in.CiphertextBlob = []byte("hello") }, "InvalidCiphertextException", ""},
		"other context":         {func(in *awskms.ReEncryptInput) { in.SourceEncryptionContext = nil }, "InvalidCiphertextException", ""},
		"unknown source": {func(in *awskms.ReEncryptInput) { in.SourceKeyId = &none }, "NotFoundException",
			"Key '" + none + "' does not exist"},
		"unknown destination": {func(in *awskms.ReEncryptInput) { in.DestinationKeyId = &none }, "NotFoundException",
			"Key '" + none + "' does not exist"},
		"other source": {func(in *awskms.ReEncryptInput) { in.SourceKeyId = &to }, "IncorrectKeyException",
			"The key ID in the request does not identify a CMK that can perform this operation."},
		"source of another usage": {func(in *awskms.ReEncryptInput) { in.SourceKeyId = &mac }, "IncorrectKeyException",
			"The key ID in the request does not identify a CMK that can perform this operation."},
		"destination of another usage": {func(in *awskms.ReEncryptInput) { in.DestinationKeyId = &mac }, "InvalidKeyUsageException",
			mac + " key usage is GENERATE_VERIFY_MAC which is not valid for ReEncrypt."},
		"disabled source": {func(in *awskms.ReEncryptInput) { in.CiphertextBlob, in.SourceEncryptionContext = lost, nil }, "DisabledException",
			disabled + " is disabled."},
		"disabled destination": {func(in *awskms.ReEncryptInput) { in.DestinationKeyId = &disabled }, "DisabledException", disabled + " is disabled."},
		"algorithm of the destination": {func(in *awskms.ReEncryptInput) { in.DestinationKeyId = &rsa }, "InvalidKeyUsageException",
			"Algorithm SYMMETRIC_DEFAULT is incompatible with key spec RSA_2048."},
		"algorithm of the source": {func(in *awskms.ReEncryptInput) {
			in.SourceKeyId, in.SourceEncryptionAlgorithm = &from, "RSAES_OAEP_SHA_1"
		}, "InvalidKeyUsageException",
			"Algorithm RSAES_OAEP_SHA_1 is incompatible with key spec SYMMETRIC_DEFAULT."},
		"context for RSA": {func(in *awskms.ReEncryptInput) {
			in.DestinationKeyId, in.DestinationEncryptionAlgorithm = &rsa, "RSAES_OAEP_SHA_1"
			in.DestinationEncryptionContext = map[string]string{"a": "b"}
		}, "ValidationException", contextRefused},
		"too long for RSA": {func(in *awskms.ReEncryptInput) {
			in.CiphertextBlob, in.SourceEncryptionContext = long.CiphertextBlob, nil
			in.DestinationKeyId, in.DestinationEncryptionAlgorithm = &rsa, "RSAES_OAEP_SHA_256"
		}, "ValidationException", "Algorithm RSAES_OAEP_SHA_256 and key spec RSA_2048 cannot encrypt data larger than 190 bytes."},
		"long context": {func(in *awskms.ReEncryptInput) {
			in.DestinationEncryptionContext = map[string]string{"a": string(make([]byte, 8192))}
		}, "ValidationException", "The encryption context is larger than 8192 bytes."},
		"modifier without dry run": {func(in *awskms.ReEncryptInput) { in.DryRunModifiers = ignoreCiphertext }, "ValidationException",
			"DryRunModifiers is valid only if DryRun is true."},
	} {
		in := &awskms.ReEncryptInput{CiphertextBlob: sealed, SourceEncryptionContext: map[string]string{"a": "b"}, DestinationKeyId: &to}
		e.change(in)
		_, err := c.ReEncrypt(ctx, in)
		refusal(t, name, err, e.code, e.message)
	}
}

// Two decisions are made, each with the conditions of its own side. One refusal is
// enough, and the event shows both.
func TestReEncryptDecisions(t *testing.T) {
	s := newService(t)
	ctx, c := t.Context(), s.adminClient()
	from, to := s.key(""), s.make("RSA_2048", "ENCRYPT_DECRYPT")
	for name, key := range map[string]string{"alias/from": from, "alias/to": to} {
		_, err := c.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: &name, TargetKeyId: &key})
		fatal(t, err)
	}
	sealed := s.encrypt(from, "", map[string]string{"side": "from"})
	statement := func(action, condition string) string {
		if condition != "" {
			condition = `,"Condition":` + condition
		}
		return `{"Effect":"Allow","Action":"kms:` + action + `","Resource":"*"` + condition + `}`
	}
	both := func(fromCondition, toCondition string) []string {
		return []string{statement("ReEncryptFrom", fromCondition), statement("ReEncryptTo", toCondition)}
	}
	equals := func(key, value string) string { return `{"StringEquals":{"` + key + `":"` + value + `"}}` }
	for i, e := range []struct {
		statements []string
		// denied is the action that must be denied, "" if none.
		denied string
	}{
		{both("", ""), ""},
		{[]string{statement("ReEncrypt*", "")}, ""},
		{[]string{statement("ReEncrypt", "")}, "ReEncryptFrom"},
		{[]string{statement("Decrypt", ""), statement("Encrypt", "")}, "ReEncryptFrom"},
		{both("", "")[:1], "ReEncryptTo"},
		{both("", "")[1:], "ReEncryptFrom"},
		{both(equals("kms:EncryptionContext:side", "from"), `{"Null":{"kms:EncryptionContextKeys":"true"}}`), ""},
		{both(equals("kms:EncryptionContext:side", "to"), ""), "ReEncryptFrom"},
		{both("", equals("kms:EncryptionContext:side", "from")), "ReEncryptTo"},
		{both(equals("kms:EncryptionAlgorithm", "SYMMETRIC_DEFAULT"), equals("kms:EncryptionAlgorithm", "RSAES_OAEP_SHA_256")), ""},
		{both(equals("kms:EncryptionAlgorithm", "RSAES_OAEP_SHA_256"), ""), "ReEncryptFrom"},
		{both("", equals("kms:EncryptionAlgorithm", "SYMMETRIC_DEFAULT")), "ReEncryptTo"},
		{both(equals("kms:KeySpec", "SYMMETRIC_DEFAULT"), equals("kms:KeySpec", "RSA_2048")), ""},
		{both(equals("kms:RequestAlias", "alias/from"), equals("kms:RequestAlias", "alias/to")), ""},
		{both(equals("kms:RequestAlias", "alias/to"), ""), "ReEncryptFrom"},
		{both("", equals("kms:RequestAlias", "alias/from")), "ReEncryptTo"},
		{both(`{"Bool":{"kms:ReEncryptOnSameKey":"false"}}`, `{"Bool":{"kms:ReEncryptOnSameKey":"false"}}`), ""},
		{both(`{"Bool":{"kms:ReEncryptOnSameKey":"true"}}`, ""), "ReEncryptFrom"},
		{both("", `{"Bool":{"kms:ReEncryptOnSameKey":"true"}}`), "ReEncryptTo"},
		{both("", `{"Null":{"kms:CallerAccount":"true"}}`), "ReEncryptTo"},
	} {
		policy, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": rawStatements(e.statements)})
		fatal(t, err)
		user := s.principal(kms.User, fmt.Sprintf("user%d", i), string(policy))
		_, err = s.client(user, region).ReEncrypt(ctx, &awskms.ReEncryptInput{
			CiphertextBlob: sealed, SourceKeyId: aws.String("alias/from"), SourceEncryptionContext: map[string]string{"side": "from"},
			DestinationKeyId: aws.String("alias/to"), DestinationEncryptionAlgorithm: "RSAES_OAEP_SHA_256",
		})
		checkHalves(t, s, fmt.Sprintf("case %d", i), err, from, to, e.denied)
	}
}

func rawStatements(texts []string) (all []json.RawMessage) {
	for _, text := range texts {
		all = append(all, json.RawMessage(text))
	}
	return all
}

func checkHalves(t *testing.T, s *service, name string, err error, from, to, denied string) {
	t.Helper()
	var event struct {
		Resources            []struct{ ARN string }
		PolicyDecision       struct{ Allowed bool }
		OtherPolicyDecisions []struct{ Allowed bool }
		Outcome, EventName   string
		RequestParameters    map[string]any
	}
	lines := s.events("ReEncrypt")
	fatal(t, json.Unmarshal([]byte(lines[len(lines)-1]), &struct{ Event any }{&event}))
	if len(event.Resources) != 2 || event.Resources[0].ARN != from || event.Resources[1].ARN != to {
		t.Errorf("%s: resources %v", name, event.Resources)
	}
	if others := len(event.OtherPolicyDecisions); denied != "ReEncryptFrom" && (others != 1 || !event.OtherPolicyDecisions[0].Allowed) || denied == "ReEncryptFrom" && others != 0 {
		t.Errorf("%s: %d other decisions", name, others)
	}
	if event.PolicyDecision.Allowed != (denied == "") {
		t.Errorf("%s: the last decision allowed: %v", name, event.PolicyDecision.Allowed)
	}
	if denied == "" {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return
	}
	resource := from
	if denied == "ReEncryptTo" {
		resource = to
	}
	wantCode(t, err, "AccessDeniedException")
	if err != nil {
		_, message, _, _ := refused(t, err)
		if want := fmt.Sprintf("is not authorized to perform: kms:%s on resource: %s ", denied, resource); !bytes.Contains([]byte(message), []byte(want)) {
			t.Errorf("%s: message %q", name, message)
		}
	}
}

// On one key with itself kms:ReEncryptOnSameKey is true on both sides.
func TestReEncryptOnSameKey(t *testing.T) {
	s := newService(t)
	key := s.key("")
	sealed := s.encrypt(key, "", nil)
	for _, same := range []string{"true", "false"} {
		user := s.principal(kms.User, same, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:ReEncrypt*","Resource":"*",
			"Condition":{"Bool":{"kms:ReEncryptOnSameKey":"`+same+`"}}}}`)
		_, err := s.client(user, region).ReEncrypt(t.Context(), &awskms.ReEncryptInput{CiphertextBlob: sealed, DestinationKeyId: &key,
			DestinationEncryptionContext: map[string]string{"new": "context"}})
		if (err == nil) != (same == "true") {
			t.Errorf("%s: %v", same, err)
		}
	}
}

// The key of a ciphertext stays hidden from other accounts, and each half can be in
// another one.
func TestReEncryptAcrossAccounts(t *testing.T) {
	s := newService(t)
	ctx := t.Context()
	foreigner, err := s.kms.AddPrincipal(ctx, kms.Principal{Type: kms.User, Name: "admin", Account: "111111111111", Policies: []string{kms.AdminPolicy}})
	fatal(t, err)
	c := s.client(foreigner, region)
	own, err := c.CreateKey(ctx, &awskms.CreateKeyInput{})
	fatal(t, err)
	closed := s.key("")
	sealed := s.encrypt(closed, "", nil)
	_, err = c.ReEncrypt(ctx, &awskms.ReEncryptInput{CiphertextBlob: sealed, DestinationKeyId: own.KeyMetadata.KeyId})
	refusal(t, "hidden", err, "AccessDeniedException",
		"The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.")
	open := s.key(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"kms:*","Resource":"*"},
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:root"},"Action":"kms:ReEncryptFrom","Resource":"*"}]}`)
	sealed = s.encrypt(open, "", nil)
	out, err := c.ReEncrypt(ctx, &awskms.ReEncryptInput{CiphertextBlob: sealed, DestinationKeyId: own.KeyMetadata.KeyId})
	fatal(t, err)
	if *out.SourceKeyId != open || *out.KeyId != *own.KeyMetadata.Arn {
		t.Errorf("%+v", out)
	}
	// An id alone names the key of the ciphertext too, in whatever account it is, and
	// tells no more of it.
	id := func(arn string) *string { return aws.String(arn[strings.LastIndexByte(arn, '/')+1:]) }
	_, err = c.ReEncrypt(ctx, &awskms.ReEncryptInput{CiphertextBlob: sealed, SourceKeyId: id(open), DestinationKeyId: own.KeyMetadata.KeyId})
	fatal(t, err)
	_, err = c.ReEncrypt(ctx, &awskms.ReEncryptInput{CiphertextBlob: sealed, SourceKeyId: id(closed), DestinationKeyId: own.KeyMetadata.KeyId})
	wantCode(t, err, "NotFoundException")
	_, err = c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: s.encrypt(closed, "", nil), KeyId: id(closed)})
	refusal(t, "hidden, with its id", err, "AccessDeniedException",
		"The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.")
	// The other way is not allowed.
	back, err := c.Encrypt(ctx, &awskms.EncryptInput{KeyId: own.KeyMetadata.KeyId, Plaintext: []byte("x")})
	fatal(t, err)
	_, err = c.ReEncrypt(ctx, &awskms.ReEncryptInput{CiphertextBlob: back.CiphertextBlob, DestinationKeyId: &open})
	wantCode(t, err, "AccessDeniedException")
}

// Grants count on each side for itself, with the encryption context of that side.
func TestReEncryptByGrants(t *testing.T) {
	s := newService(t)
	ctx, admin := t.Context(), s.adminClient()
	grantee := "arn:aws:iam::000000000000:user/grantee"
	c := s.client(s.principal(kms.User, "grantee"), region)
	from, to := s.key(""), s.key("")
	sealed := s.encrypt(from, "", map[string]string{"side": "from"})
	reEncrypt := func(context map[string]string) error {
		_, err := c.ReEncrypt(ctx, &awskms.ReEncryptInput{CiphertextBlob: sealed, SourceEncryptionContext: map[string]string{"side": "from"},
			DestinationKeyId: &to, DestinationEncryptionContext: context})
		return err
	}
	grant := func(key string, operation types.GrantOperation, side string) {
		_, err := admin.CreateGrant(ctx, &awskms.CreateGrantInput{KeyId: &key, GranteePrincipal: &grantee, Operations: []types.GrantOperation{operation},
			Constraints: &types.GrantConstraints{EncryptionContextSubset: map[string]string{"side": side}}})
		fatal(t, err)
	}
	grant(to, "ReEncryptTo", "to")
	wantCode(t, reEncrypt(map[string]string{"side": "to"}), "AccessDeniedException")
	grant(from, "ReEncryptFrom", "to")
	wantCode(t, reEncrypt(map[string]string{"side": "to"}), "AccessDeniedException")
	grant(from, "ReEncryptFrom", "from")
	fatal(t, reEncrypt(map[string]string{"side": "to"}))
	for _, context := range []map[string]string{nil, {}, {"side": "from"}, {"Side": "to"}} {
		wantCode(t, reEncrypt(context), "AccessDeniedException")
	}
}

// The decisions show the policies of both keys: who may read one of them only does
// not get them told.
func TestReEncryptExplained(t *testing.T) {
	s := newService(t)
	from, to := s.key(""), s.key("")
	_, err := s.client(s.principal(kms.User, "nobody", allowAll(`"kms:ReEncryptFrom"`)), region).ReEncrypt(t.Context(), &awskms.ReEncryptInput{
		CiphertextBlob: s.encrypt(from, "", nil), DestinationKeyId: &to})
	_, _, _, decision := refused(t, err)
	for name, e := range map[string]struct {
		resources string
		told      bool
	}{"both": {`["` + from + `","` + to + `"]`, true}, "from": {`"` + from + `"`, false}, "to": {`"` + to + `"`, false}} {
		reader := s.principal(kms.User, name, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:GetKeyPolicy","Resource":`+e.resources+`}}`)
		status, answer, _ := s.send(raw{credentials: reader, target: "CretulaService.ExplainDecision", body: `{"DecisionId":"` + decision + `"}`})
		if (status == 200) != e.told {
			t.Errorf("%s: %d %s", name, status, answer)
		}
		if told := bytes.Contains([]byte(answer), []byte("kms:ReEncryptTo")) && bytes.Contains([]byte(answer), []byte("kms:ReEncryptFrom")); told != e.told {
			t.Errorf("%s: told %v: %s", name, told, answer)
		}
	}
}
