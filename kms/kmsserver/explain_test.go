// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/kms"
)

// A request on two keys was decided on twice: both are told, the one that denied
// first.
func TestTextOfTwoDecisions(t *testing.T) {
	s := newService(t)
	source, destination := s.key(""), s.key("")
	sealed := s.sealSecret(source)
	reEncrypt := func(c kms.Credentials) error {
		_, err := s.client(c, region).ReEncrypt(t.Context(), &awskms.ReEncryptInput{CiphertextBlob: sealed, DestinationKeyId: &destination})
		return err
	}
	half := s.principal(kms.User, "half", allowAll(`"kms:ReEncryptFrom"`))
	err := reEncrypt(half)
	wantCode(t, err, "AccessDeniedException")
	_, _, _, decision := refused(t, err)
	event, err := s.kms.Explain(t.Context(), decision)
	if err != nil {
		t.Fatal(err)
	}
	text := event.Text()
	id := func(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }
	denied := strings.Index(text, "DENIED  kms:ReEncryptTo on key "+id(destination))
	allowed := strings.Index(text, "ALLOWED  kms:ReEncryptFrom on key "+id(source))
	if denied != 0 || allowed < denied || !strings.Contains(text, "The same request was decided on before that:") {
		t.Error(text)
	}
	if err := reEncrypt(s.admin); err != nil {
		t.Fatal(err)
	}
	events := s.events("ReEncrypt")
	var line struct{ Event kms.Event }
	if err := json.Unmarshal([]byte(events[len(events)-1]), &line); err != nil {
		t.Fatal(err)
	}
	if text := line.Event.Text(); strings.Count(text, "ALLOWED  ") != 2 || !strings.Contains(text, "kms:ReEncryptTo") || !strings.Contains(text, "kms:ReEncryptFrom") {
		t.Error(text)
	}
}

// Denials by a rule of this service's own say which, and what to do.
func TestTextOfRules(t *testing.T) {
	s := newService(t)
	made, err := s.adminClient().CreateKey(t.Context(), &awskms.CreateKeyInput{KeySpec: "HMAC_256", KeyUsage: "GENERATE_VERIFY_MAC",
		Tags: []types.Tag{{TagKey: aws.String(kms.AttestedTag), TagValue: aws.String(kms.AttestedValue)}}})
	if err != nil {
		t.Fatal(err)
	}
	key := *made.KeyMetadata.Arn
	text := func(status int, answer, decision string) string {
		t.Helper()
		if status != 400 || !strings.Contains(answer, "AccessDenied") {
			t.Fatalf("%d %s", status, answer)
		}
		event, err := s.kms.Explain(t.Context(), decision)
		if err != nil {
			t.Fatal(err)
		}
		return event.Text()
	}
	sent := fmt.Sprintf(`{"KeyId":%q,"Message":"AQID","MacAlgorithm":"HMAC_SHA_256"}`, key)
	send := func(body string) (int, string, string) {
		status, answer, header := s.send(raw{target: "TrentService.GenerateMac", body: body})
		return status, answer, header.Get("X-Cretula-Decision")
	}
	good := attestedBody(t, "GenerateMac", key, sent)
	if status, answer, _ := send(good); status != 200 {
		t.Fatalf("%d %s", status, answer)
	}
	for name, c := range map[string]struct{ body, rule, todo string }{
		"required":  {sent, "kms.recipient.required", "send Recipient with a document that was made for this request"},
		"user data": {attestedBody(t, "Sign", key, sent), "kms.recipient.user-data", "ask for the document last"},
		"used":      {good, "kms.recipient.used", "ask for a new document for each try"},
	} {
		got := text(send(c.body))
		if !strings.HasPrefix(got, "DENIED  kms:GenerateMac on key ") || !strings.Contains(got, "("+c.rule+")") || !strings.Contains(got, "\nlikely: ") || !strings.Contains(got, "\nto do:  "+c.todo) {
			t.Errorf("%s:\n%s", name, got)
		}
	}
	if _, err := s.adminClient().UntagResource(t.Context(), &awskms.UntagResourceInput{KeyId: &key, TagKeys: []string{kms.AttestedTag}}); err != nil {
		t.Fatal(err)
	}
	if got := text(send(sent)); !strings.Contains(got, "(kms.recipient.tag)") || !strings.Contains(got, "put the tag on the key again") {
		t.Error(got)
	}
}

// The alias of a request is in the headline.
func TestTextOfAlias(t *testing.T) {
	s := newService(t)
	key := s.key("")
	if _, err := s.adminClient().CreateAlias(t.Context(), &awskms.CreateAliasInput{AliasName: aws.String("alias/orders"), TargetKeyId: &key}); err != nil {
		t.Fatal(err)
	}
	nobody := s.principal(kms.User, "nobody")
	_, err := s.client(nobody, region).DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: aws.String("alias/orders")})
	_, _, _, decision := refused(t, err)
	event, err := s.kms.Explain(t.Context(), decision)
	if err != nil || !strings.Contains(event.Text(), "(alias/orders) by user nobody") {
		t.Errorf("%v %s", err, event.Text())
	}
	if _, err := s.kms.Explain(t.Context(), "d-0"); !errors.Is(err, kms.ErrNoDecision) {
		t.Error(err)
	}
}
