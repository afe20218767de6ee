// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/cretula/cretula/kms"
)

func allowAll(actions string) string {
	return `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":` + actions + `,"Resource":"*"}}`
}

func TestDenialTexts(t *testing.T) {
	s := newService(t)
	delegated := s.key("")
	named := s.key(adminPolicy)
	nobody := s.client(s.principal(kms.User, "nobody"), region)
	all := s.client(s.principal(kms.User, "all", allowAll(`"kms:*"`)), region)
	not := s.client(s.principal(kms.User, "not", allowAll(`"kms:*"`),
		`{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"kms:Describe*","Resource":"*"}}`), region)
	describe := func(c *awskms.Client, id string) func() error {
		return func() error {
			_, err := c.DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: &id})
			return err
		}
	}
	for name, c := range map[string]struct {
		call func() error
		want string
	}{
		"delegated, no identity policy": {describe(nobody, delegated),
			"User: arn:aws:iam::000000000000:user/nobody is not authorized to perform: kms:DescribeKey on resource: " + delegated +
				" because no identity-based policy allows the kms:DescribeKey action"},
		"not named": {describe(all, named),
			"User: arn:aws:iam::000000000000:user/all is not authorized to perform: kms:DescribeKey on resource: " + named +
				" because no resource-based policy allows the kms:DescribeKey action"},
		"identity deny": {describe(not, delegated),
			"User: arn:aws:iam::000000000000:user/not is not authorized to perform: kms:DescribeKey on resource: " + delegated +
				" with an explicit deny in an identity-based policy"},
		"random": {func() error {
			_, err := nobody.GenerateRandom(t.Context(), &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(1)})
			return err
		}, "User: arn:aws:iam::000000000000:user/nobody is not authorized to perform: kms:GenerateRandom on resource: * because no identity-based policy allows the kms:GenerateRandom action"},
		"create": {func() error { _, err := nobody.CreateKey(t.Context(), &awskms.CreateKeyInput{}); return err },
			"User: arn:aws:iam::000000000000:user/nobody is not authorized to perform: kms:CreateKey on resource: * because no identity-based policy allows the kms:CreateKey action"},
		"list": {func() error { _, err := nobody.ListKeys(t.Context(), &awskms.ListKeysInput{}); return err },
			"User: arn:aws:iam::000000000000:user/nobody is not authorized to perform: kms:ListKeys on resource: * because no identity-based policy allows the kms:ListKeys action"},
	} {
		err := c.call()
		if err == nil {
			t.Errorf("%s: allowed", name)
			continue
		}
		if code, message, status, decision := refused(t, err); code != "AccessDeniedException" || message != c.want || status != 400 || decision == "" {
			t.Errorf("%s: %d %s %s", name, status, code, message)
		}
	}
	if err := describe(all, delegated)(); err != nil {
		t.Errorf("delegated and allowed: %v", err)
	}
}

// The key of a ciphertext is not shown to who may not see it.
func TestHiddenCiphertextKeys(t *testing.T) {
	s := newService(t)
	keyARN := s.key("")
	sealed, err := s.adminClient().Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &keyARN, Plaintext: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	other, err := s.kms.AddPrincipal(t.Context(), kms.Principal{Type: kms.User, Name: "admin", Account: "111111111111", Policies: []string{kms.AdminPolicy}})
	if err != nil {
		t.Fatal(err)
	}
	const hidden = "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access."
	for name, c := range map[string]*awskms.Client{"other account": s.client(other, region), "other region": s.client(s.admin, "eu-west-1")} {
		_, err := c.Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
		if code, message, _, _ := refused(t, err); code != "AccessDeniedException" || message != hidden {
			t.Errorf("%s: %s %s", name, code, message)
		}
	}
	nobody := s.client(s.principal(kms.User, "nobody"), region)
	_, err = nobody.Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	if _, message, _, _ := refused(t, err); !strings.HasPrefix(message, "User: ") {
		t.Errorf("same account: %s", message)
	}
	// With a key of another account named, both sides must allow.
	_, err = s.client(other, region).DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: &keyARN})
	wantCode(t, err, "AccessDeniedException")
}

func TestCryptographicErrors(t *testing.T) {
	s := newService(t)
	c := s.adminClient()
	a, b := s.key(""), s.key("")
	sealed, err := c.Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &a, Plaintext: []byte("x"), EncryptionContext: map[string]string{"k": "v"}})
	if err != nil {
		t.Fatal(err)
	}
	decrypt := func(change func(*awskms.DecryptInput)) error {
		in := &awskms.DecryptInput{CiphertextBlob: bytes.Clone(sealed.CiphertextBlob), EncryptionContext: map[string]string{"k": "v"}}
		change(in)
		_, err := c.Decrypt(t.Context(), in)
		return err
	}
	for i := range sealed.CiphertextBlob {
		err := decrypt(func(in *awskms.DecryptInput) { in.CiphertextBlob[i] ^= 0x80; in.KeyId = &a })
		code, _, _, _ := refused(t, err)
		// In the key id, the account or the format it is another key, or none.
		if code != "InvalidCiphertextException" && code != "IncorrectKeyException" {
			t.Errorf("byte %d changed: %s", i, code)
		}
	}
	for name, c := range map[string]struct {
		change func(*awskms.DecryptInput)
		code   string
	}{
		"no context":      {func(in *awskms.DecryptInput) { in.EncryptionContext = nil }, "InvalidCiphertextException"},
		"other value":     {func(in *awskms.DecryptInput) { in.EncryptionContext["k"] = "V" }, "InvalidCiphertextException"},
		"more":            {func(in *awskms.DecryptInput) { in.EncryptionContext[""] = "" }, "InvalidCiphertextException"},
		"moved":           {func(in *awskms.DecryptInput) { in.EncryptionContext = map[string]string{"kv": ""} }, "InvalidCiphertextException"},
		"other key":       {func(in *awskms.DecryptInput) { in.KeyId = &b }, "IncorrectKeyException"},
		"grant token":     {func(in *awskms.DecryptInput) { in.GrantTokens = []string{"x"} }, "InvalidGrantTokenException"},
		"other algorithm": {func(in *awskms.DecryptInput) { in.KeyId, in.EncryptionAlgorithm = &a, "RSAES_OAEP_SHA_256" }, "InvalidKeyUsageException"},
		"dry run":         {func(in *awskms.DecryptInput) { in.DryRun = aws.Bool(true) }, "DryRunOperationException"},
		"cut":             {func(in *awskms.DecryptInput) { in.CiphertextBlob = in.CiphertextBlob[:100] }, "InvalidCiphertextException"},
		"long context":    {func(in *awskms.DecryptInput) { in.EncryptionContext["x"] = strings.Repeat("x", 8192) }, "ValidationException"},
	} {
		err := decrypt(c.change)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		if code, _, _, _ := refused(t, err); code != c.code {
			t.Errorf("%s: got %s, want %s", name, code, c.code)
		}
	}
	_, err = c.GenerateDataKey(t.Context(), &awskms.GenerateDataKeyInput{KeyId: &a})
	wantCode(t, err, "ValidationException")
	_, err = c.GenerateDataKey(t.Context(), &awskms.GenerateDataKeyInput{KeyId: &a, KeySpec: "AES_128", NumberOfBytes: aws.Int32(16)})
	wantCode(t, err, "ValidationException")
	_, err = c.GenerateRandom(t.Context(), &awskms.GenerateRandomInput{})
	if _, message, _, _ := refused(t, err); message != "NumberOfBytes is required." {
		t.Error(message)
	}
}

func TestPutKeyPolicyRefusals(t *testing.T) {
	s := newService(t)
	s.principal(kms.Role, "worker")
	keyARN := s.key("")
	statement := func(principal, action string) string {
		return fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"%s"},"Action":"%s","Resource":"*"},
			{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"kms:PutKeyPolicy","Resource":"*"}]}`, principal, action)
	}
	for name, c := range map[string]struct{ policy, code, message string }{
		"good":            {statement("arn:aws:iam::000000000000:role/worker", "kms:Decrypt"), "", ""},
		"session":         {statement("arn:aws:sts::000000000000:assumed-role/worker/cretula", "kms:Decrypt"), "", ""},
		"foreign account": {statement("arn:aws:iam::111122223333:role/anything", "kms:Decrypt"), "", ""},
		"no JSON":         {"{", "MalformedPolicyDocumentException", ""},
		"unknown operator": {`{"Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"StringEqual":{"a:b":"c"}}}}`,
			"MalformedPolicyDocumentException", ""},
		"unknown role": {statement("arn:aws:iam::000000000000:role/other", "kms:Decrypt"), "MalformedPolicyDocumentException",
			"Policy contains a statement with one or more invalid principals."},
		"no principal": {statement("worker", "kms:Decrypt"), "MalformedPolicyDocumentException", "Policy contains a statement with one or more invalid principals."},
		"lockout": {`{"Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:role/worker"},"Action":"kms:*","Resource":"*"}}`,
			"MalformedPolicyDocumentException", "The new key policy will not allow you to update the key policy in the future."},
		"denied to all": {`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"},{"Effect":"Deny","Principal":"*","Action":"kms:Put*","Resource":"*"}]}`,
			"MalformedPolicyDocumentException", "The new key policy will not allow you to update the key policy in the future."},
		"too long":   {adminPolicy + strings.Repeat(" ", 32768), "LimitExceededException", ""},
		"characters": {strings.Replace(adminPolicy, "2012-10-17\"", "2012-10-17\",\"Id\":\"€\"", 1), "ValidationException", ""},
		"ForAllValues": {`{"Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"ForAllValues:StringEquals":{"kms:EncryptionContext:a":"b"}}}}`,
			"MalformedPolicyDocumentException", "OverlyPermissiveCondition:EncryptionContext:"},
	} {
		policy := c.policy
		_, putErr := s.adminClient().PutKeyPolicy(t.Context(), &awskms.PutKeyPolicyInput{KeyId: &keyARN, Policy: &policy})
		_, createErr := s.adminClient().CreateKey(t.Context(), &awskms.CreateKeyInput{Policy: &policy})
		for _, err := range []error{putErr, createErr} {
			if c.code == "" {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				continue
			}
			if err == nil {
				t.Errorf("%s: no error", name)
				continue
			}
			if code, message, _, _ := refused(t, err); code != c.code || !strings.HasPrefix(message, c.message) {
				t.Errorf("%s: %s %s", name, code, message)
			}
		}
	}
	// AWS's text does not say which principal is invalid, the record does.
	for principal, cause := range map[string]string{
		"arn:aws:iam::000000000000:role/other": "line 1: kms: there is no such user or role: arn:aws:iam::000000000000:role/other",
		"worker":                               `line 1, column 75: Policy contains a statement with one or more invalid principals: "worker"`,
	} {
		policy := statement(principal, "kms:Decrypt")
		_, err := s.adminClient().PutKeyPolicy(t.Context(), &awskms.PutKeyPolicyInput{KeyId: &keyARN, Policy: &policy})
		_, _, _, decision := refused(t, err)
		event, err := s.kms.Explain(t.Context(), decision)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(event.Text(), "\ncause: "+cause) {
			t.Errorf("%s: %s", principal, event.Text())
		}
	}
	lockout := `{"Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:role/worker"},"Action":"kms:*","Resource":"*"}}`
	if _, err := s.adminClient().PutKeyPolicy(t.Context(), &awskms.PutKeyPolicyInput{KeyId: &keyARN, Policy: &lockout, BypassPolicyLockoutSafetyCheck: true}); err != nil {
		t.Errorf("bypass: %v", err)
	}
	_, err := s.adminClient().GetKeyPolicy(t.Context(), &awskms.GetKeyPolicyInput{KeyId: &keyARN})
	wantCode(t, err, "AccessDeniedException")
}

// Each condition key decides once with its value and once with another.
func TestConditionKeys(t *testing.T) {
	s := newService(t)
	keyARN := s.key("")
	for i, c := range []struct{ key, operator, good, bad string }{
		{"kms:CallerAccount", "StringEquals", account, "111111111111"},
		{"kms:EncryptionContext:Tenant", "StringEquals", "a", "b"},
		{"kms:EncryptionContextKeys", "ForAllValues:StringEquals", `["Tenant","zone"]`, `["Tenant"]`},
		{"kms:EncryptionAlgorithm", "StringEquals", "SYMMETRIC_DEFAULT", "RSAES_OAEP_SHA_1"},
		{"kms:KeySpec", "StringEquals", "SYMMETRIC_DEFAULT", "RSA_2048"},
		{"kms:KeyUsage", "StringEquals", "ENCRYPT_DECRYPT", "SIGN_VERIFY"},
		{"kms:KeyOrigin", "StringEquals", "AWS_KMS", "EXTERNAL"},
		{"kms:MultiRegion", "Bool", "false", "true"},
		{"kms:ViaService", "Null", "true", "false"},
		{"kms:RequestAlias", "Null", "true", "false"},
		{"kms:RecipientAttestation:ImageSha384", "Null", "true", "false"},
		{"aws:PrincipalAccount", "StringEquals", account, "1"},
		{"aws:PrincipalType", "StringEquals", "User", "AssumedRole"},
		{"aws:PrincipalArn", "ArnLike", "arn:aws:iam::*:user/u*", "arn:aws:iam::*:role/u*"},
		{"aws:username", "StringLike", "u*", "v*"},
		{"aws:SourceIp", "IpAddress", "127.0.0.0/8", "10.0.0.0/8"},
		{"aws:SecureTransport", "Bool", "false", "true"},
		{"aws:CurrentTime", "DateGreaterThan", "2026-01-01T00:00:00Z", "2999-01-01T00:00:00Z"},
		{"aws:EpochTime", "NumericGreaterThan", "1700000000", "99999999999"},
		{"aws:UserAgent", "StringLike", "*aws-sdk-go-v2*", "curl*"},
		{"aws:RequestedRegion", "StringEquals", region, "eu-west-1"},
		{"aws:ResourceAccount", "StringEquals", account, "1"},
	} {
		for name, value := range map[string]string{"good": c.good, "bad": c.bad} {
			if value[0] != '[' {
				value = quoteJSON(value)
			}
			user := s.principal(kms.User, fmt.Sprintf("u%d%s", i, name), fmt.Sprintf(
				`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*","Condition":{"%s":{"%s":%s}}}}`, c.operator, c.key, value))
			_, err := s.client(user, region).Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &keyARN, Plaintext: []byte("x"),
				EncryptionContext: map[string]string{"Tenant": "a", "zone": "1"}})
			if (err == nil) != (name == "good") {
				t.Errorf("%s, %s: %v", c.key, name, err)
			}
		}
	}
	user := s.principal(kms.User, "creator", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:CreateKey","Resource":"*",
		"Condition":{"Bool":{"kms:BypassPolicyLockoutSafetyCheck":"false"},"StringEquals":{"kms:KeySpec":"SYMMETRIC_DEFAULT","kms:KeyUsage":"ENCRYPT_DECRYPT","kms:KeyOrigin":"AWS_KMS"}}},
		{"Effect":"Allow","Action":"kms:PutKeyPolicy","Resource":"*"}]}`)
	if _, err := s.client(user, region).CreateKey(t.Context(), &awskms.CreateKeyInput{}); err != nil {
		t.Error(err)
	}
	_, err := s.client(user, region).CreateKey(t.Context(), &awskms.CreateKeyInput{BypassPolicyLockoutSafetyCheck: true})
	wantCode(t, err, "AccessDeniedException")
}

// An answer depends on its event: without it there is none.
func TestAuditBeforeAnswer(t *testing.T) {
	s := newService(t)
	keyARN := s.key("")
	sealed, err := s.adminClient().Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &keyARN, Plaintext: []byte("the secret")})
	if err != nil {
		t.Fatal(err)
	}
	s.audit.set(errors.New("the disk is gone"))
	for target, body := range map[string]string{
		"Decrypt":         `{"CiphertextBlob":"` + base64Of(sealed.CiphertextBlob) + `"}`,
		"GenerateRandom":  `{"NumberOfBytes":1}`,
		"GenerateDataKey": `{"KeyId":"` + keyARN + `","NumberOfBytes":1}`,
		"DescribeKey":     `{"KeyId":"x"}`,
	} {
		status, answer, _ := s.send(raw{target: "TrentService." + target, body: body})
		if status != 500 || answer != `{"__type":"KMSInternalException","message":"The request was rejected because an internal exception occurred."}` {
			t.Errorf("%s: %d %s", target, status, answer)
		}
	}
	s.audit.set(nil)
	if _, err := s.adminClient().Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestEvents(t *testing.T) {
	s, role, keyARN, sealed := attestedService(t)
	if _, _, _, err := recipients(s, s.client(role, region), keyARN, sealed)["Decrypt"](recipient(document(t))); err != nil {
		t.Fatal(err)
	}
	var last map[string]any
	lines := strings.Split(strings.TrimSpace(auditText(t, s.dir)), "\n")
	var line struct{ Event map[string]any }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &line); err != nil {
		t.Fatal(err)
	}
	last = line.Event
	for path, want := range map[string]string{
		"eventName": "Decrypt", "awsRegion": region, "sourceIPAddress": "127.0.0.1", "outcome": "allowed", "emulated": "true",
		"userIdentity.arn": "arn:aws:sts::000000000000:assumed-role/data-processing/cretula", "userIdentity.accountId": account,
		"userIdentity.accessKeyId": role.AccessKeyID, "eventSource": "kms.amazonaws.com",
		"additionalEventData.recipient.attestationDocumentEnclaveImageDigest": fill(1).String(),
		"additionalEventData.recipient.attestationDocumentEnclavePCR1":        fill(2).String(),
		"additionalEventData.recipient.attestationDocumentEnclavePCR8":        strings.Repeat("0", 96),
		"additionalEventData.recipient.trust":                                 "custom",
	} {
		var at any = last
		for name := range strings.SplitSeq(path, ".") {
			m, _ := at.(map[string]any)
			at = m[name]
		}
		if fmt.Sprint(at) != want {
			t.Errorf("%s: got %v, want %s", path, at, want)
		}
	}
	if resources := fmt.Sprint(last["resources"]); !strings.Contains(resources, keyARN) {
		t.Errorf("resources: %s", resources)
	}
}

// Who may see a key's policy sees how it decided about principals of another
// account, and not their own policies.
func TestExplainAcrossAccounts(t *testing.T) {
	s := newService(t)
	keyARN := s.key(`{"Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/admin"},"Action":"kms:*","Resource":"*"},
		{"Sid":"Shared","Effect":"Allow","Principal":{"AWS":"111111111111"},"Action":"kms:Encrypt","Resource":"*"}]}`)
	guest, err := s.kms.AddPrincipal(t.Context(), kms.Principal{Type: kms.User, Name: "guest", Account: "111111111111",
		Policies: []string{`{"Statement":{"Sid":"InternalRule","Effect":"Deny","Action":"kms:Encrypt","Resource":"*"}}`}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.client(guest, region).Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &keyARN, Plaintext: []byte("x")})
	_, _, _, decision := refused(t, err)
	status, body, _ := s.send(raw{target: "CretulaService.ExplainDecision", body: `{"DecisionId":"` + decision + `"}`})
	if status != 200 || !strings.Contains(body, `"Shared"`) || !strings.Contains(body, "identity-policy-deny") || strings.Contains(body, "InternalRule") {
		t.Errorf("%d %s", status, body)
	}
	event, err := s.kms.Explain(t.Context(), decision)
	if err != nil || !strings.Contains(event.Text(), "InternalRule") {
		t.Errorf("the operator does not see it: %v", err)
	}
}

func TestExplainPermission(t *testing.T) {
	s, role, keyARN, sealed := attestedService(t)
	_, _, _, err := recipients(s, s.client(role, region), keyARN, sealed)["Decrypt"](nil)
	_, _, _, decision := refused(t, err)
	_, err = s.client(s.principal(kms.User, "poor"), region).GenerateRandom(t.Context(), &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(1)})
	_, _, _, keyless := refused(t, err)
	other, err := s.kms.AddPrincipal(t.Context(), kms.Principal{Type: kms.User, Name: "admin", Account: "111111111111", Policies: []string{kms.AdminPolicy}})
	if err != nil {
		t.Fatal(err)
	}
	const no = `{"__type":"AccessDeniedException","Message":"There is no such decision, or you are not allowed to see it."}`
	for name, c := range map[string]struct {
		who kms.Credentials
		id  string
		ok  bool
	}{
		"may get the policy":          {s.admin, decision, true},
		"may not":                     {role, decision, false},
		"unknown":                     {s.admin, "d-" + strings.Repeat("0", 32), false},
		"another account":             {other, decision, false},
		"no key":                      {s.admin, keyless, true},
		"no key, may not":             {role, keyless, false},
		"no key, another account":     {other, keyless, false},
		"all policies, but not named": {s.principal(kms.User, "reader", allowAll(`"kms:GetKeyPolicy"`)), decision, false},
	} {
		status, body, header := s.send(raw{credentials: c.who, target: "CretulaService.ExplainDecision", body: `{"DecisionId":"` + c.id + `"}`})
		if c.ok && (status != 200 || !strings.Contains(body, c.id)) || !c.ok && (status != 400 || body != no || header.Get("x-cretula-decision") == "") {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	for _, body := range []string{`{}`, `{"DecisionId":""}`, `{"DecisionId":1}`, `x`} {
		status, answer, header := s.send(raw{target: "CretulaService.ExplainDecision", body: body})
		if status != 400 || strings.Contains(answer, "AccessDenied") {
			t.Errorf("%s: %d %s", body, status, answer)
		}
		if event, err := s.kms.Explain(t.Context(), header.Get("x-cretula-decision")); err != nil || event.EventName != "ExplainDecision" || event.EventSource != "cretula" {
			t.Errorf("%s: event %+v, %v", body, event, err)
		}
	}
}
