// SPDX-License-Identifier: Apache-2.0

package kmsapi

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestValidate(t *testing.T) {
	const one = "ValidationException: 1 validation error detected: "
	for name, c := range map[string]struct {
		in   any
		want string
	}{
		"good": {&EncryptInput{KeyId: new("x"), Plaintext: []byte{1}}, ""},
		"number too high": {&GenerateRandomInput{NumberOfBytes: new(int32(1025))},
			one + "Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have value less than or equal to 1024"},
		"number too low": {&GenerateRandomInput{NumberOfBytes: new(int32(0))},
			one + "Value '0' at 'numberOfBytes' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		"missing": {&DescribeKeyInput{},
			one + "Value null at 'keyId' failed to satisfy constraint: Member must not be null"},
		"empty": {&DescribeKeyInput{KeyId: new("")},
			one + "Value '' at 'keyId' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		"blob is hidden": {&EncryptInput{KeyId: new("x"), Plaintext: make([]byte, 4097)},
			one + "Value at 'plaintext' failed to satisfy constraint: Member must have length less than or equal to 4096"},
		"two": {&EncryptInput{Plaintext: []byte{}},
			"ValidationException: 2 validation errors detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null; " +
				"Value at 'plaintext' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		"tag": {&CreateKeyInput{Tags: []Tag{{TagKey: new(strings.Repeat("a", 129)), TagValue: new("")}}},
			one + "Value '" + strings.Repeat("a", 129) + "' at 'tags.1.member.tagKey' failed to satisfy constraint: Member must have length less than or equal to 128"},
		"enumeration": {&GenerateDataKeyInput{KeyId: new("x"), KeySpec: new("AES_512")},
			one + "Value 'AES_512' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [AES_256, AES_128]"},
		"nested": {&DecryptInput{Recipient: &RecipientInfo{KeyEncryptionAlgorithm: new("RSA")}},
			one + "Value 'RSA' at 'recipient.keyEncryptionAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [RSAES_OAEP_SHA_256]"},
		"document too long": {&DecryptInput{Recipient: &RecipientInfo{AttestationDocument: make([]byte, 262145)}},
			one + "Value at 'recipient.attestationDocument' failed to satisfy constraint: Member must have length less than or equal to 262144"},
		"list too long": {&DescribeKeyInput{KeyId: new("x"), GrantTokens: []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "0", "a"}},
			one + "Value '[1, 2, 3, 4, 5, 6, 7, 8, 9, 0, a]' at 'grantTokens' failed to satisfy constraint: Member must have length less than or equal to 10"},
		"entry of a list": {&DescribeKeyInput{KeyId: new("x"), GrantTokens: []string{""}},
			one + "Value '[]' at 'grantTokens' failed to satisfy constraint: Member must satisfy constraint: " +
				"[Member must have length less than or equal to 8192, Member must have length greater than or equal to 1]"},
		"characters, not bytes": {&CreateKeyInput{Description: new(strings.Repeat("é", 8192))}, ""},
	} {
		got := ""
		if err := Validate(c.in); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}

// Every shape of the table is walked once, so that a bad tag cannot hide.
func TestTags(t *testing.T) {
	seen := map[string]bool{}
	for _, op := range Operations() {
		if seen[op.Name] || Lookup(op.Name) != op {
			t.Errorf("%s: not found, or twice in the table", op.Name)
		}
		seen[op.Name] = true
		if op.Summary == "" {
			t.Errorf("%s: no summary", op.Name)
		}
		_ = Validate(reflect.New(op.Input).Interface())
	}
	if len(seen) != 56 {
		t.Errorf("%d operations, AWS KMS has 56", len(seen))
	}
	for _, name := range []string{"Decrypt", "DeriveSharedSecret", "GenerateDataKey", "GenerateDataKeyPair", "GenerateRandom"} {
		if !Lookup(name).TakesRecipient() {
			t.Errorf("%s takes a Recipient", name)
		}
	}
	if Lookup("decrypt") != nil || Lookup("") != nil {
		t.Error("names are not matched exactly")
	}
	if !Lookup("PutKeyPolicy").NoOutput() || Lookup("Decrypt").NoOutput() {
		t.Error("NoOutput")
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		err    *Error
		status int
		body   string
	}{
		{Errorf(NotFound, "Key '%s' does not exist", "x"), 400, `{"__type":"NotFoundException","message":"Key 'x' does not exist"}`},
		{Errorf(AccessDenied, "no"), 400, `{"__type":"AccessDeniedException","Message":"no"}`},
		{&Error{Code: InvalidCiphertext}, 400, `{"__type":"InvalidCiphertextException"}`},
		{&Error{Code: KeyUnavailable}, 500, `{"__type":"KeyUnavailableException"}`},
		{&Error{Code: RequestEntityTooLarge}, 413, `{"__type":"RequestEntityTooLargeException"}`},
	} {
		if got := string(c.err.Body()); got != c.body {
			t.Errorf("got %s, want %s", got, c.body)
		}
		if got := c.err.HTTPStatus(); got != c.status {
			t.Errorf("%v: status %d, want %d", c.err, got, c.status)
		}
	}
	internal := Internal(Errorf(NotFound, "the secret detail"))
	if internal.HTTPStatus() != 500 || strings.Contains(string(internal.Body()), "secret") {
		t.Errorf("an internal error shows its cause: %s", internal.Body())
	}
}

func TestTimestamp(t *testing.T) {
	at := time.UnixMilli(1762790400007)
	written, err := json.Marshal(Timestamp(at))
	if err != nil || string(written) != "1762790400.007" {
		t.Fatalf("got %s, %v", written, err)
	}
	var back Timestamp
	if err := json.Unmarshal(written, &back); err != nil || !time.Time(back).Equal(at) {
		t.Errorf("got %v, %v", time.Time(back), err)
	}
	for _, bad := range []string{`"x"`, `-1`, `1e300`} {
		if err := json.Unmarshal([]byte(bad), &back); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
	if _, err := json.Marshal(Timestamp(time.Unix(-1, 0))); err == nil {
		t.Error("before 1970: no error")
	}
}
