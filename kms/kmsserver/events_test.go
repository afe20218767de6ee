// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/kms"
)

// The record of a request has what CloudTrail's has (AWS KMS Developer Guide,
// "Logging AWS KMS API calls with AWS CloudTrail"; AWS CloudTrail User Guide,
// "CloudTrail record contents" and "CloudTrail userIdentity element").
func TestEventOfUserAndRole(t *testing.T) {
	s := newService(t)
	keyARN := s.key("")
	user, userInfo := s.add(kms.Principal{Type: kms.User, Name: "batch/alice", Policies: []string{kms.AdminPolicy}})
	role, roleInfo := s.add(kms.Principal{Type: kms.Role, Name: "batch/worker", Policies: []string{kms.AdminPolicy}})
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := map[any]bool{}
	for _, c := range []struct {
		caller   kms.Credentials
		identity map[string]any
	}{
		{user, map[string]any{"type": "IAMUser", "principalId": userInfo.ID, "arn": "arn:aws:iam::000000000000:user/batch/alice", "accountId": account,
			"accessKeyId": user.AccessKeyID, "userName": "alice"}},
		{role, map[string]any{"type": "AssumedRole", "principalId": roleInfo.ID + ":cretula", "arn": "arn:aws:sts::000000000000:assumed-role/worker/cretula", "accountId": account,
			"accessKeyId": role.AccessKeyID, "sessionContext": map[string]any{
				"sessionIssuer": map[string]any{"type": "Role", "principalId": roleInfo.ID, "arn": "arn:aws:iam::000000000000:role/batch/worker", "accountId": account, "userName": "worker"},
				"attributes":    map[string]any{"mfaAuthenticated": "false"}}}},
	} {
		if err := s.mayDescribe(c.caller, keyARN); err != nil {
			t.Fatal(err)
		}
		event := s.lastEvent(t, "DescribeKey")
		if fmt.Sprint(event["userIdentity"]) != fmt.Sprint(c.identity) {
			t.Errorf("\n got %v\nwant %v", event["userIdentity"], c.identity)
		}
		for name, want := range map[string]any{
			"eventVersion": "1.11", "eventType": "AwsApiCall", "eventSource": "kms.amazonaws.com", "readOnly": true, "managementEvent": true,
			"eventCategory": "Management", "recipientAccountId": account, "awsRegion": region, "responseElements": nil,
		} {
			if event[name] != want {
				t.Errorf("%s: %v, want %v", name, event[name], want)
			}
		}
		if id := event["eventID"]; !uuid.MatchString(fmt.Sprint(id)) || seen[id] {
			t.Errorf("eventID %v", id)
		}
		seen[event["eventID"]] = true
	}
	own := s.lastEvent(t, "AddPrincipal")
	if own["eventType"] != "AwsServiceEvent" || own["readOnly"] != false || own["eventSource"] != "cretula" || seen[own["eventID"]] {
		t.Errorf("%v", own)
	}
}

// What a change has led to is on record; what was refused led to nothing.
func TestResponseElements(t *testing.T) {
	s := newService(t)
	admin := s.adminClient()
	key := s.key("")
	id := key[strings.LastIndexByte(key, '/')+1:]
	grantee := aws.String("arn:aws:iam::000000000000:user/admin")
	for _, c := range []struct {
		name string
		call func() error
		want map[string]any
	}{
		{"DisableKey", func() error { return failure(admin.DisableKey(t.Context(), &awskms.DisableKeyInput{KeyId: &id})) }, map[string]any{"keyId": key}},
		{"EnableKey", func() error { return failure(admin.EnableKey(t.Context(), &awskms.EnableKeyInput{KeyId: &id})) }, map[string]any{"keyId": key}},
		{"CreateAlias", func() error {
			return failure(admin.CreateAlias(t.Context(), &awskms.CreateAliasInput{AliasName: aws.String("alias/a"), TargetKeyId: &id}))
		}, map[string]any{"keyId": key}},
		{"PutKeyPolicy", func() error {
			return failure(admin.PutKeyPolicy(t.Context(), &awskms.PutKeyPolicyInput{KeyId: &id, Policy: aws.String(adminPolicy)}))
		}, map[string]any{"keyId": key}},
		{"TagResource", func() error {
			return failure(admin.TagResource(t.Context(), &awskms.TagResourceInput{KeyId: &id, Tags: []types.Tag{{TagKey: aws.String("a"), TagValue: aws.String("b")}}}))
		}, map[string]any{"keyId": key}},
		{"ScheduleKeyDeletion", func() error {
			return failure(admin.ScheduleKeyDeletion(t.Context(), &awskms.ScheduleKeyDeletionInput{KeyId: &id, PendingWindowInDays: aws.Int32(7)}))
		}, map[string]any{"keyId": key, "keyState": "PendingDeletion", "pendingWindowInDays": 7.0, "deletionDate": "*"}},
		{"CancelKeyDeletion", func() error {
			return failure(admin.CancelKeyDeletion(t.Context(), &awskms.CancelKeyDeletionInput{KeyId: &id}))
		}, map[string]any{"keyId": key}},
	} {
		if err := c.call(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		event := s.lastEvent(t, c.name)
		got, _ := event["responseElements"].(map[string]any)
		if c.want["deletionDate"] != nil && got["deletionDate"] != nil {
			got["deletionDate"] = "*"
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) || event["readOnly"] != false {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	created, _ := s.lastEvent(t, "CreateKey")["responseElements"].(map[string]any)
	metadata, _ := created["keyMetadata"].(map[string]any)
	if created["keyId"] != key || metadata["arn"] != key || metadata["keyId"] != id || metadata["keyState"] != "Enabled" || metadata["AWSAccountId"] != account || metadata["keyManager"] != "CUSTOMER" {
		t.Errorf("CreateKey: %v", created)
	}
	// The key is disabled now: refused in the operation, by its state, by a dry run.
	_, err := admin.CreateGrant(t.Context(), &awskms.CreateGrantInput{KeyId: &id, GranteePrincipal: grantee, Operations: []types.GrantOperation{"Decrypt"}})
	wantCode(t, err, "DisabledException")
	if _, err := admin.EnableKey(t.Context(), &awskms.EnableKeyInput{KeyId: &id}); err != nil {
		t.Fatal(err)
	}
	_, err = admin.CreateGrant(t.Context(), &awskms.CreateGrantInput{KeyId: &id, GranteePrincipal: grantee, Operations: []types.GrantOperation{"Decrypt"}, DryRun: aws.Bool(true)})
	wantCode(t, err, "DryRunOperationException")
	if event := s.lastEvent(t, "CreateGrant"); event["responseElements"] != nil || event["errorCode"] != "DryRunOperationException" {
		t.Errorf("a dry run: %v", event)
	}
	grant, err := admin.CreateGrant(t.Context(), &awskms.CreateGrantInput{KeyId: &id, GranteePrincipal: grantee, Operations: []types.GrantOperation{"Decrypt"}})
	if err != nil {
		t.Fatal(err)
	}
	event := s.lastEvent(t, "CreateGrant")
	if got := event["responseElements"]; fmt.Sprint(got) != fmt.Sprint(map[string]any{"keyId": key, "grantId": *grant.GrantId}) {
		t.Errorf("CreateGrant: %v", got)
	}
	if text, _ := json.Marshal(event); strings.Contains(string(text), *grant.GrantToken) {
		t.Error("the grant token is on record")
	}
	// Reads have no response on record.
	if _, err := admin.Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &id, Plaintext: []byte("plain")}); err != nil {
		t.Fatal(err)
	}
	if event := s.lastEvent(t, "Encrypt"); event["responseElements"] != nil || event["readOnly"] != true {
		t.Errorf("Encrypt: %v", event)
	}
}
