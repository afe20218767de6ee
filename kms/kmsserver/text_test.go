// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/pcr"
)

// What people read: who, what, why, wanted and got.
func TestEventText(t *testing.T) {
	s, role, keyARN, sealed := attestedService(t)
	c := s.client(role, region)
	decrypt := recipients(s, c, keyARN, sealed)["Decrypt"]
	keyID := keyARN[strings.LastIndexByte(keyARN, '/')+1:]
	debug := document(t, func(c *issuer.Content) {
		for i := range pcr.Index(3) {
			c.PCRs.Put(i, pcr.Digest{})
		}
	})
	for name, test := range map[string]struct {
		recipient *types.RecipientInfo
		want      []string
	}{
		"another image": {recipient(document(t, func(c *issuer.Content) { c.PCRs = registers(9) })), []string{
			"^DENIED  kms:Decrypt on key " + keyID + " by (role data-processing|arn\\S+), 20", `"NoKeyWithoutThisImage"`, "ImageSha384", "01010101…01", "09090909…09"}},
		"debug mode":   {recipient(debug), []string{"^DENIED ", `"NoKeyWithoutThisImage"`, "00000000…00", "--debug-mode"}},
		"no recipient": {nil, []string{"^DENIED ", `"NoKeyWithoutThisImage"`, "(?i)the request carried no attestation document"}},
		"foreign root": {badRecipients(t)["foreign root"], []string{
			"^REJECTED  kms:Decrypt on key " + keyID + " by arn:aws:sts::000000000000:assumed-role/data-processing/cretula, 20",
			"before any policy was asked", `chain\.root +untrusted: `, "ValidationException"}},
	} {
		_, _, _, err := decrypt(test.recipient)
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		_, _, _, decision := refused(t, err)
		event, err := s.kms.Explain(t.Context(), decision)
		if err != nil {
			t.Fatal(err)
		}
		text := event.Text()
		t.Logf("%s\n%s", name, text)
		for _, want := range append(test.want, "EMULATED") {
			if !regexp.MustCompile(want).MatchString(text) {
				t.Errorf("%s: no %q in\n%s", name, want, text)
			}
		}
	}
	_, err := c.DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: aws.String("\x1b[2J\nALLOWED\u202e")})
	_, _, _, hostile := refused(t, err)
	if event, err := s.kms.Explain(t.Context(), hostile); err != nil || !strings.Contains(event.Text(), `Invalid keyId '\x1b[2J\nALLOWED\u202e'`) {
		t.Errorf("a request writes to the terminal: %v %q", err, event.Text())
	}
	_, err = c.DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: aws.String("nonsense")})
	_, _, _, decision := refused(t, err)
	event, err := s.kms.Explain(t.Context(), decision)
	if err != nil {
		t.Fatal(err)
	}
	if text := event.Text(); !strings.HasPrefix(text, "FAILED  kms:DescribeKey by ") || !strings.Contains(text, "because of NotFoundException: Invalid keyId 'nonsense'") {
		t.Error(text)
	}
}
