// SPDX-License-Identifier: Apache-2.0

package kmsapi

import (
	"encoding/json"
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
		"pattern": {&CreateAliasInput{AliasName: new("alias/ä"), TargetKeyId: new("x")},
			one + "Value 'alias/ä' at 'aliasName' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"},
		"length and pattern": {&GetKeyPolicyInput{KeyId: new("x"), PolicyName: new("")},
			"ValidationException: 2 validation errors detected: Value '' at 'policyName' failed to satisfy constraint: Member must have length greater than or equal to 1; " +
				"Value '' at 'policyName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w]+"},
		"escapes as AWS writes them": {&ListKeysInput{Marker: new("\u0100")},
			one + "Value '\u0100' at 'marker' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\u0020-\\u00FF]*"},
		"enumeration in a list": {&DecryptInput{DryRunModifiers: []string{"IGNORE_CIPHERTEXT", "X"}},
			one + "Value '[IGNORE_CIPHERTEXT, X]' at 'dryRunModifiers' failed to satisfy constraint: " +
				"Member must satisfy constraint: [Member must satisfy enum value set: [IGNORE_CIPHERTEXT]]"},
		"tag keys": {&UntagResourceInput{KeyId: new("x"), TagKeys: []string{"a", ""}},
			one + "Value '[a, ]' at 'tagKeys' failed to satisfy constraint: Member must satisfy constraint: " +
				"[Member must have length less than or equal to 128, Member must have length greater than or equal to 1]"},
		"deep": {&CreateGrantInput{KeyId: new("x"), Operations: []string{}, Constraints: &GrantConstraints{SourceArn: new("arn:aws:s3:::a-bucket-name")}},
			one + "Value 'arn:aws:s3:::a-bucket-name' at 'constraints.sourceArn' failed to satisfy constraint: " +
				"Member must satisfy regular expression pattern: ^arn:aws[a-z0-9-]*:[a-z0-9-]+:[a-z0-9-]*:[0-9]{12}:.+$"},
		"sensitive is hidden": {&UpdateCustomKeyStoreInput{CustomKeyStoreId: new("x"), KeyStorePassword: new("secret")},
			one + "Value at 'keyStorePassword' failed to satisfy constraint: Member must have length greater than or equal to 7"},
		"sensitive and missing": {&UpdateCustomKeyStoreInput{CustomKeyStoreId: new("x"), XksProxyAuthenticationCredential: &XksProxyAuthenticationCredential{AccessKeyId: new("AAAAAAAAAAAAAAAAAAA1")}},
			"ValidationException: 2 validation errors detected: Value at 'xksProxyAuthenticationCredential.accessKeyId' failed to satisfy constraint: " +
				"Member must satisfy regular expression pattern: ^[A-Z2-7]+$; " +
				"Value null at 'xksProxyAuthenticationCredential.rawSecretAccessKey' failed to satisfy constraint: Member must not be null"},
		"a time is no structure": {&ImportKeyMaterialInput{KeyId: new("x"), ImportToken: []byte{1}, EncryptedKeyMaterial: []byte{1}, ValidTo: new(Timestamp)}, ""},
		"characters, not bytes":  {&CreateKeyInput{Description: new(strings.Repeat("é", 8192))}, ""},
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
	for _, bad := range []string{`"x"`, `-1`, `1e300`, `null`, `true`, `253402300800`, `1e12`, "1." + strings.Repeat("0", 40)} {
		if err := json.Unmarshal([]byte(bad), &back); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
	if _, err := json.Marshal(Timestamp(time.Unix(-1, 0))); err == nil {
		t.Error("before 1970: no error")
	}
}

func TestPatterns(t *testing.T) {
	cases := map[string]struct{ good, bad []string }{
		"AccountId":                         {[]string{"012345678901"}, []string{"", "01234567890", "0123456789012", "01234567890a"}},
		"Arn":                               {[]string{"arn:aws:iam::012345678901:role/a", "é"}, []string{"", "\x00"}},
		"ExternalId":                        {[]string{"", "a:/b+=,.@-_"}, []string{"a b", "ä", "a\n"}},
		"RoleSessionName":                   {[]string{"a+=,.@-_9"}, []string{"a b", "a/b", "a:b", "ä", "a\n"}},
		"SessionTagKey":                     {[]string{"Ä b_.:/=+-@9"}, []string{"", "a*", "a\n", "a<"}},
		"SessionTagValue":                   {[]string{"", "Ä b_.:/=+-@9"}, []string{"a*", "a\n"}},
		"AliasName":                         {[]string{"alias/a", "a:b_c-d/E9"}, []string{"", "a b", "a.b", "ä", "a\n"}},
		"CloudHsmClusterId":                 {[]string{"cluster-abcdefg2345"}, []string{"cluster-1bcdefg2345", "cluster-abc", "xcluster-abcdefg2345"}},
		"GrantName":                         {[]string{"a"}, []string{"", "a b", "a\n"}},
		"KeyMaterialDescription":            {[]string{"a b.c", "a\nb"}, []string{"", "a;", "ä", "\u00a0"}},
		"KeyMaterialId":                     {[]string{strings.Repeat("0f", 32)}, []string{"", "F", "g", "f\n"}},
		"Marker":                            {[]string{"", "a ÿ"}, []string{"\n", "\u0100", "\x1f"}},
		"Policy":                            {[]string{"{}\t\r\n", "ÿ"}, []string{"", "\x00", "\u0100", "\v"}},
		"PolicyName":                        {[]string{"default", "a_1"}, []string{"", "a-b", "ä", "a\n"}},
		"PrincipalId":                       {[]string{"arn:aws:iam::012345678901:role/a+b=c,d.e@f-g", "012345678901"}, []string{"", "*", "a b", "arn:aws:iam::012345678901:role/*", "ä", "a\n"}},
		"Region":                            {[]string{"us-east-1", "us-gov-west-1"}, []string{"", "us-1", "us-east-", "US-east-1", "a-b-c-d-1", "us-east-1\n"}},
		"ServicePrincipal":                  {[]string{"rds.amazonaws.com"}, []string{"amazonaws.com", "rds..com", "*.amazonaws.com", ""}},
		"SourceArn":                         {[]string{"arn:aws-us-gov:rds:us-east-1:012345678901:db:x"}, []string{"arn:aws:s3:::bucket", "arn:aws:rds:us-east-1:012345678901:", "*"}},
		"XksKeyId":                          {[]string{"a-_.9"}, []string{"", "a/b"}},
		"XksProxyAuthenticationAccessKeyId": {[]string{"A2"}, []string{"", "a", "1"}},
		"XksProxyAuthenticationRawSecretAccessKey": {[]string{"aZ09/+="}, []string{"", "-"}},
		"XksProxyUriEndpoint":                      {[]string{"https://a.example"}, []string{"http://a", "https://", "https://a/b", "https://a:1"}},
		"XksProxyUriPath":                          {[]string{"/kms/xks/v1", "/a/b/kms/xks/v10"}, []string{"/kms/xks/v", "kms/xks/v1", "/kms/xks/v1/", "/kms/xks/v123"}},
		"XksProxyVpcEndpointServiceName": {[]string{"com.amazonaws.vpce.us-east-1.vpce-svc-0a", "eu.amazonaws.vpce.a-b-1.vpce-svc-0"},
			[]string{"com.amazonaws.vpce.us-east-1.vpce-svc-", "net.amazonaws.vpce.us-east-1.vpce-svc-0a"}},
	}
	for name, p := range patterns {
		c := cases[name]
		if len(c.good) == 0 || len(c.bad) == 0 {
			t.Errorf("%s has no cases", name)
		}
		for _, s := range c.good {
			if !p.re.MatchString(s) {
				t.Errorf("%s refuses %q", name, s)
			}
		}
		for _, s := range c.bad {
			if p.re.MatchString(s) {
				t.Errorf("%s accepts %q", name, s)
			}
		}
	}
}
