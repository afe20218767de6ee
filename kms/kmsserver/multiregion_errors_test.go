// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/keystore"
)

func TestReplicateErrors(t *testing.T) {
	s := newService(t)
	ctx, client := t.Context(), s.adminClient()
	arn := regionalARN(region, s.multiKey(second))
	id, single := arn[len(arn)-36:], s.key("")
	attestedARN := s.make(types.KeySpecSymmetricDefault, "", multiRegion, func(in *awskms.CreateKeyInput) {
		in.Tags = []types.Tag{{TagKey: aws.String(kms.AttestedTag), TagValue: aws.String(kms.AttestedValue)}}
	})
	pending := s.make(types.KeySpecSymmetricDefault, "", multiRegion, func(in *awskms.CreateKeyInput) { in.Origin = types.OriginTypeExternal })
	disabled, deleted := regionalARN(region, s.multiKey()), regionalARN(region, s.multiKey())
	_, err := client.DisableKey(ctx, &awskms.DisableKeyInput{KeyId: &disabled})
	fatal(t, err)
	_, err = client.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: &deleted})
	fatal(t, err)
	_, err = client.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: aws.String("alias/multi"), TargetKeyId: &id})
	fatal(t, err)
	policy := func(text string) func(*awskms.ReplicateKeyInput) {
		return func(in *awskms.ReplicateKeyInput) { in.Policy = &text }
	}
	tags := func(names ...string) func(*awskms.ReplicateKeyInput) {
		return func(in *awskms.ReplicateKeyInput) {
			for _, name := range names {
				in.Tags = append(in.Tags, types.Tag{TagKey: aws.String(name), TagValue: aws.String("x")})
			}
		}
	}
	exists := func(inRegion string) string {
		return "The key " + regionalARN(inRegion, id) + " already exists. There can be one related multi-region key in each region."
	}
	unknown := "mrk-00000000000000000000000000000000"
	for name, c := range map[string]struct {
		key, to, code, message string
		change                 func(*awskms.ReplicateKeyInput)
	}{
		"there already":   {arn, second, "AlreadyExistsException", exists(second), nil},
		"own region":      {arn, region, "AlreadyExistsException", exists(region), nil},
		"no key":          {unknown, third, "NotFoundException", "Key '" + regionalARN(region, unknown) + "' does not exist", nil},
		"other region":    {regionalARN(second, id), third, "NotFoundException", "Invalid arn " + second, nil},
		"alias":           {"alias/multi", third, "NotFoundException", "Invalid keyId 'alias/multi'", nil},
		"of one region":   {single, third, "UnsupportedOperationException", single + " is not a multi-region primary key.", nil},
		"disabled":        {disabled, third, "DisabledException", disabled + " is disabled.", nil},
		"to be deleted":   {deleted, third, "KMSInvalidStateException", deleted + " is pending deletion.", nil},
		"to be imported":  {pending, third, "KMSInvalidStateException", pending + " is pending import.", nil},
		"no region":       {arn, "nowhere", "ValidationException", "", nil},
		"region's case":   {arn, "EU-west-1", "ValidationException", "", nil},
		"long region":     {arn, strings.Repeat("a", 30) + "-b-1", "ValidationException", "", nil},
		"path":            {arn, "eu-west-1/x", "ValidationException", "", nil},
		"policy":          {arn, third, "MalformedPolicyDocumentException", "", policy("{}")},
		"lockout":         {arn, third, "MalformedPolicyDocumentException", "The new key policy will not allow you to update the key policy in the future.", policy(strings.Replace(adminPolicy, `"kms:*"`, `"kms:DescribeKey"`, 1))},
		"principal":       {arn, third, "MalformedPolicyDocumentException", "Policy contains a statement with one or more invalid principals.", policy(strings.Replace(adminPolicy, "user/admin", "user/nobody", 1))},
		"large policy":    {arn, third, "LimitExceededException", "The policy is larger than 32768 bytes.", policy(strings.Replace(adminPolicy, `"Statement":`, `"Id":"`+strings.Repeat("x", 40000)+`","Statement":`, 1))},
		"reserved tag":    {arn, third, "TagException", "Tags beginning with aws: are reserved", tags("aws:x")},
		"tag twice":       {arn, third, "TagException", "Duplicate tag keys", tags("a", "a")},
		"too many tags":   {arn, third, "TagException", "Too many tags", tags(numbered("t", 0, 50)...)},
		"policy not free": {attestedARN, third, "AccessDeniedException", "", nil},
	} {
		change := c.change
		if change == nil {
			change = func(*awskms.ReplicateKeyInput) {}
		}
		err := s.replicate(s.admin, c.key, c.to, change)
		if c.message != "" {
			refusal(t, name, err, c.code, c.message)
			continue
		}
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		wantCode(t, err, c.code)
	}
	err = s.replicate(s.admin, arn, third, policy(strings.Replace(adminPolicy, `"kms:*"`, `"kms:DescribeKey"`, 1)),
		func(in *awskms.ReplicateKeyInput) { in.BypassPolicyLockoutSafetyCheck = true })
	fatal(t, err)
	_, err = s.client(s.admin, second).ReplicateKey(ctx, &awskms.ReplicateKeyInput{KeyId: &id, ReplicaRegion: aws.String("us-west-2")})
	refusal(t, "a replica", err, "UnsupportedOperationException", regionalARN(second, id)+" is not a multi-region primary key.")

	// Another account may be allowed to, and cannot.
	full := regionalARN(region, s.multiKey())
	_, err = client.PutKeyPolicy(ctx, &awskms.PutKeyPolicyInput{KeyId: &full, BypassPolicyLockoutSafetyCheck: true,
		Policy: aws.String(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}}`)})
	fatal(t, err)
	guest, err := s.kms.AddPrincipal(ctx, kms.Principal{Type: kms.User, Name: "guest", Account: "111111111111", Policies: []string{kms.AdminPolicy}})
	fatal(t, err)
	wantCode(t, s.replicate(guest, full, third), "AccessDeniedException")
	_, err = s.client(guest, region).UpdatePrimaryRegion(ctx, &awskms.UpdatePrimaryRegionInput{KeyId: &full, PrimaryRegion: aws.String(third)})
	wantCode(t, err, "AccessDeniedException")
	s.wantRegions(full[len(full)-36:], region)
}

// There are no more replicas than a list of them can sensibly have.
func TestReplicaLimit(t *testing.T) {
	s := newService(t)
	id := s.multiKey()
	var replicas []string
	for i := range 50 {
		replicas = append(replicas, fmt.Sprintf("eu-test-%d", i+1))
		fatal(t, s.replicate(s.admin, id, replicas[i]))
	}
	wantCode(t, s.replicate(s.admin, id, third), "LimitExceededException")
	wantCode(t, s.replicate(s.admin, id, replicas[49]), "AlreadyExistsException")
	s.wantRegions(id, region, replicas...)
}

func TestUpdatePrimaryRegion(t *testing.T) {
	s := newService(t)
	ctx := t.Context()
	id := s.multiKey(second, third)
	update := func(at, key, to string) error {
		_, err := s.client(s.admin, at).UpdatePrimaryRegion(ctx, &awskms.UpdatePrimaryRegionInput{KeyId: &key, PrimaryRegion: &to})
		return err
	}
	single := s.key("")
	unknown := "mrk-00000000000000000000000000000000"
	for name, c := range map[string]struct{ at, key, to, code, message string }{
		"of one region":  {region, single, second, "UnsupportedOperationException", single + " is not a multi-region primary key."},
		"of a replica":   {second, id, third, "UnsupportedOperationException", regionalARN(second, id) + " is not a multi-region primary key."},
		"to itself":      {region, id, region, "UnsupportedOperationException", regionalARN(region, id) + " is not a multi-region replica key."},
		"no replica":     {region, id, "us-west-2", "NotFoundException", "Key '" + regionalARN("us-west-2", id) + "' does not exist"},
		"no key":         {region, unknown, second, "NotFoundException", "Key '" + regionalARN(region, unknown) + "' does not exist"},
		"another region": {region, regionalARN(second, id), third, "NotFoundException", "Invalid arn " + second},
	} {
		refusal(t, name, update(c.at, c.key, c.to), c.code, c.message)
	}
	wantCode(t, update(region, id, "Somewhere"), "ValidationException")

	there := s.client(s.admin, second)
	_, err := there.DisableKey(ctx, &awskms.DisableKeyInput{KeyId: &id})
	fatal(t, err)
	refusal(t, "disabled replica", update(region, id, second), "DisabledException", regionalARN(second, id)+" is disabled.")
	_, err = there.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: &id})
	fatal(t, err)
	refusal(t, "replica to be deleted", update(region, id, second), "KMSInvalidStateException", regionalARN(second, id)+" is pending deletion.")
	_, err = there.CancelKeyDeletion(ctx, &awskms.CancelKeyDeletionInput{KeyId: &id})
	fatal(t, err)
	_, err = there.EnableKey(ctx, &awskms.EnableKeyInput{KeyId: &id})
	fatal(t, err)
	_, err = s.adminClient().DisableKey(ctx, &awskms.DisableKeyInput{KeyId: &id})
	fatal(t, err)
	refusal(t, "disabled primary key", update(region, id, second), "DisabledException", regionalARN(region, id)+" is disabled.")
	_, err = s.adminClient().EnableKey(ctx, &awskms.EnableKeyInput{KeyId: &id})
	fatal(t, err)
	s.wantRegions(id, region, second, third)

	sealed := s.encrypt(id, "", nil)
	fatal(t, update(region, id, second))
	s.wantRegions(id, second, region, third)
	refusal(t, "the former primary key", s.replicate(s.admin, id, "us-west-2"), "UnsupportedOperationException", regionalARN(region, id)+" is not a multi-region primary key.")
	_, err = there.ReplicateKey(ctx, &awskms.ReplicateKeyInput{KeyId: &id, ReplicaRegion: aws.String("us-west-2")})
	fatal(t, err)
	s.wantRegions(id, second, region, third, "us-west-2")
	fatal(t, update(second, id, "us-west-2"))
	fatal(t, update("us-west-2", id, region))
	s.wantRegions(id, region, second, third, "us-west-2")
	for _, r := range []string{region, second, third, "us-west-2"} {
		_, err := s.client(s.admin, r).Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: sealed})
		fatal(t, err)
	}
	if event := s.lastEvent(t, "UpdatePrimaryRegion"); len(event["resources"].([]any)) != 2 {
		t.Errorf("resources %v", event["resources"])
	}
}

// A primary key waits for its replicas: its own waiting time begins when the last
// of them is deleted.
func TestMultiRegionDeletion(t *testing.T) {
	var c clock
	s := newService(t, c.into)
	ctx := t.Context()
	id := s.multiKey(second, third)
	schedule := func(at string, days int32) *awskms.ScheduleKeyDeletionOutput {
		t.Helper()
		out, err := s.client(s.admin, at).ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: &id, PendingWindowInDays: &days})
		fatal(t, err)
		return out
	}
	cancel := func(at string) {
		t.Helper()
		_, err := s.client(s.admin, at).CancelKeyDeletion(ctx, &awskms.CancelKeyDeletionInput{KeyId: &id})
		fatal(t, err)
	}
	wantState := func(at string, want types.KeyState) {
		t.Helper()
		if got := s.describe(at, id).KeyState; got != want {
			t.Errorf("%s: %s, want %s", at, got, want)
		}
	}
	days := func(d time.Duration) {
		t.Helper()
		c.move(d * 24 * time.Hour)
		wantNil(t, s.kms.DoDue(ctx))
	}
	sealed := s.encrypt(id, "", nil)
	if out := schedule(region, 8); out.DeletionDate != nil || out.KeyState != types.KeyStatePendingReplicaDeletion || *out.PendingWindowInDays != 8 || *out.KeyId != regionalARN(region, id) {
		t.Errorf("%+v", out)
	}
	if m := s.describe(region, id); m.DeletionDate != nil || *m.PendingDeletionWindowInDays != 8 || m.Enabled {
		t.Errorf("%+v", m)
	}
	_, err := s.adminClient().Encrypt(ctx, &awskms.EncryptInput{KeyId: &id, Plaintext: []byte("x")})
	refusal(t, "Encrypt", err, "KMSInvalidStateException", regionalARN(region, id)+" is pending replica deletion.")
	wantCode(t, s.replicate(s.admin, id, "us-west-2"), "KMSInvalidStateException")
	_, err = s.adminClient().UpdatePrimaryRegion(ctx, &awskms.UpdatePrimaryRegionInput{KeyId: &id, PrimaryRegion: aws.String(second)})
	wantCode(t, err, "KMSInvalidStateException")
	_, err = s.adminClient().ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: &id})
	wantCode(t, err, "KMSInvalidStateException")
	days(100) // and waits as long as that takes
	wantState(region, types.KeyStatePendingReplicaDeletion)
	cancel(region)
	wantState(region, types.KeyStateDisabled)
	schedule(region, 8)

	// Replicas go alone, and are of use until then.
	_, err = s.client(s.admin, second).Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: sealed})
	fatal(t, err)
	if out := schedule(second, 7); out.DeletionDate == nil || out.KeyState != types.KeyStatePendingDeletion {
		t.Errorf("%+v", out)
	}
	schedule(third, 10)
	cancel(third)
	days(11)
	wantState(region, types.KeyStatePendingReplicaDeletion)
	wantState(third, types.KeyStateDisabled)
	s.wantRegions(id, region, third)
	_, err = s.client(s.admin, second).DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &id})
	wantCode(t, err, "NotFoundException")
	schedule(third, 7)
	days(7)
	wantState(region, types.KeyStatePendingDeletion)
	s.wantRegions(id, region)
	if m := s.describe(region, id); m.DeletionDate == nil || m.PendingDeletionWindowInDays != nil || m.DeletionDate.Before(c.now().Add(8*24*time.Hour-time.Minute)) {
		t.Errorf("%+v", m)
	}
	// Its time can still be ended, and replicas made anew open what the old ones did.
	cancel(region)
	_, err = s.adminClient().EnableKey(ctx, &awskms.EnableKeyInput{KeyId: &id})
	fatal(t, err)
	fatal(t, s.replicate(s.admin, id, second))
	_, err = s.client(s.admin, second).Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: sealed})
	fatal(t, err)
	// A replica whose time is over is gone at once, even if nobody has cleared it away.
	schedule(second, 7)
	wantCode(t, s.replicate(s.admin, id, second), "AlreadyExistsException")
	c.move(7 * 24 * time.Hour)
	fatal(t, s.replicate(s.admin, id, second))
	wantState(second, types.KeyStateEnabled)
	s.wantRegions(id, region, second)

	schedule(second, 7)
	schedule(region, 7)
	days(7)
	days(7)
	for _, table := range []string{"key", "key-policy", "key-material", "key-regions", "due", "alias"} {
		for row := range s.rows(table) {
			t.Errorf("row %s of table %s is left", row, table)
		}
	}
}

// Rows of one region that were tampered with disable the key of that region. The
// row that says where the keys are disables them all.
func TestTamperedRegion(t *testing.T) {
	for table, all := range map[string]bool{"key": false, "key-policy": false, "key-material": false, "key-regions": true} {
		t.Run(table, func(t *testing.T) {
			s := newService(t)
			id := s.multiKey(second, third)
			sealed := s.encrypt(id, "", nil)
			fatal(t, s.files.Close())
			edit(t, s.dir, func(tx keystore.Tx) error {
				var rows []keystore.Row
				err := tx.Scan(table, "", func(r keystore.Row) bool {
					if all || strings.Contains(r.ID, "/"+second+"/") {
						rows = append(rows, r)
					}
					return true
				})
				if err != nil || len(rows) != 1 {
					return fmt.Errorf("%d rows, %w", len(rows), err)
				}
				rows[0].Content[len(rows[0].Content)-2] ^= 1
				return tx.Put(rows[0])
			})
			s = reopen(t, s)
			for _, r := range []string{region, second, third} {
				_, err := s.client(s.admin, r).Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed})
				if all || r == second {
					wantCode(t, err, "KMSInternalException")
				} else if err != nil {
					t.Errorf("%s: %v", r, err)
				}
			}
			if all {
				return
			}
			// No region rotates to what another cannot be given.
			_, err := s.adminClient().RotateKeyOnDemand(t.Context(), &awskms.RotateKeyOnDemandInput{KeyId: &id})
			if (err == nil) != (table == "key-policy") {
				t.Errorf("rotation: %v", err)
			}
			fatal(t, s.replicate(s.admin, id, "us-west-2"))
			wantCode(t, s.replicate(s.admin, id, second), "AlreadyExistsException")
			_, err = s.adminClient().UpdatePrimaryRegion(t.Context(), &awskms.UpdatePrimaryRegionInput{KeyId: &id, PrimaryRegion: aws.String(second)})
			wantCode(t, err, "KMSInternalException")
			_, err = s.adminClient().UpdatePrimaryRegion(t.Context(), &awskms.UpdatePrimaryRegionInput{KeyId: &id, PrimaryRegion: aws.String(third)})
			fatal(t, err)
		})
	}
}
