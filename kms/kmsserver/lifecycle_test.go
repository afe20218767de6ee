// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
)

// A clock is a time that tests move.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) move(d time.Duration)    { c.ahead.Add(int64(d)) }
func (c *clock) into(config *kms.Config) { config.Now = c.now }
func wantNil(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func stateOf(t *testing.T, client *awskms.Client, key string) types.KeyState {
	t.Helper()
	out, err := client.DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: &key})
	wantNil(t, err)
	if out.KeyMetadata.Enabled != (out.KeyMetadata.KeyState == types.KeyStateEnabled) {
		t.Errorf("Enabled %v in state %s", out.KeyMetadata.Enabled, out.KeyMetadata.KeyState)
	}
	return out.KeyMetadata.KeyState
}

func TestStates(t *testing.T) {
	s := newService(t)
	ctx, client, key := t.Context(), s.adminClient(), s.key("")
	encrypt := func() error {
		_, err := client.Encrypt(ctx, &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("x")})
		return err
	}
	for range 2 { // both are idempotent
		_, err := client.DisableKey(ctx, &awskms.DisableKeyInput{KeyId: &key})
		wantNil(t, err)
	}
	wantCode(t, encrypt(), "DisabledException")
	if _, message, _, _ := refused(t, encrypt()); message != key+" is disabled." {
		t.Errorf("message %q", message)
	}
	for range 2 {
		_, err := client.EnableKey(ctx, &awskms.EnableKeyInput{KeyId: &key})
		wantNil(t, err)
	}
	wantNil(t, encrypt())
	_, err := client.UpdateKeyDescription(ctx, &awskms.UpdateKeyDescriptionInput{KeyId: &key, Description: aws.String("other")})
	wantNil(t, err)
	out, err := client.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &key})
	wantNil(t, err)
	if *out.KeyMetadata.Description != "other" {
		t.Errorf("description %q", *out.KeyMetadata.Description)
	}
	_, err = client.CancelKeyDeletion(ctx, &awskms.CancelKeyDeletionInput{KeyId: &key})
	wantCode(t, err, "KMSInvalidStateException")
	if _, message, _, _ := refused(t, err); message != key+" is not pending deletion." {
		t.Errorf("message %q", message)
	}
}

// What is pending deletion does nothing but wait, and comes back disabled.
func TestDeletion(t *testing.T) {
	var c clock
	s := newService(t, c.into)
	ctx, client, key := t.Context(), s.adminClient(), s.key("")
	_, err := client.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: aws.String("alias/gone"), TargetKeyId: &key})
	wantNil(t, err)
	for _, days := range []int32{1, 6, 31, 365} {
		_, err := client.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: &key, PendingWindowInDays: &days})
		wantCode(t, err, "ValidationException")
	}
	out, err := client.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: &key, PendingWindowInDays: aws.Int32(7)})
	wantNil(t, err)
	if days := time.Until(*out.DeletionDate).Hours() / 24; days < 6.99 || days > 7 || out.KeyState != types.KeyStatePendingDeletion || *out.PendingWindowInDays != 7 || *out.KeyId != key {
		t.Errorf("%+v", out)
	}
	for name, call := range map[string]func() error{
		"Encrypt": func() error {
			_, err := client.Encrypt(ctx, &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("x")})
			return err
		},
		"EnableKey":  func() error { _, err := client.EnableKey(ctx, &awskms.EnableKeyInput{KeyId: &key}); return err },
		"DisableKey": func() error { _, err := client.DisableKey(ctx, &awskms.DisableKeyInput{KeyId: &key}); return err },
		"ScheduleKeyDeletion": func() error {
			_, err := client.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: &key})
			return err
		},
		"UpdateKeyDescription": func() error {
			_, err := client.UpdateKeyDescription(ctx, &awskms.UpdateKeyDescriptionInput{KeyId: &key, Description: aws.String("x")})
			return err
		},
		"CreateAlias": func() error {
			_, err := client.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: aws.String("alias/late"), TargetKeyId: &key})
			return err
		},
		"TagResource": func() error {
			_, err := client.TagResource(ctx, &awskms.TagResourceInput{KeyId: &key, Tags: []types.Tag{{TagKey: aws.String("a"), TagValue: aws.String("b")}}})
			return err
		},
		"UntagResource": func() error {
			_, err := client.UntagResource(ctx, &awskms.UntagResourceInput{KeyId: &key, TagKeys: []string{"a"}})
			return err
		},
	} {
		err := call()
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		if code, message, _, _ := refused(t, err); code != "KMSInvalidStateException" || message != key+" is pending deletion." {
			t.Errorf("%s: %s %s", name, code, message)
		}
	}
	_, err = client.CancelKeyDeletion(ctx, &awskms.CancelKeyDeletionInput{KeyId: &key})
	wantNil(t, err)
	if state := stateOf(t, client, key); state != types.KeyStateDisabled {
		t.Errorf("state %s after a deletion was taken back", state)
	}
	c.move(40 * 24 * time.Hour)
	wantNil(t, s.kms.DoDue(ctx))
	if state := stateOf(t, client, key); state != types.KeyStateDisabled {
		t.Errorf("state %s", state)
	}

	_, err = client.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: &key})
	wantNil(t, err)
	c.move(30*24*time.Hour - time.Minute)
	wantNil(t, s.kms.DoDue(ctx))
	if state := stateOf(t, client, key); state != types.KeyStatePendingDeletion {
		t.Errorf("state %s one minute before it is due", state)
	}
	c.move(2 * time.Minute)
	gone := func() {
		t.Helper()
		for _, name := range []string{key, "alias/gone"} {
			_, err := client.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &name})
			wantCode(t, err, "NotFoundException")
		}
	}
	gone() // also before anybody has cleared away
	rows := func() (n int) {
		for _, table := range []string{"key", "key-policy", "key-material", "alias", "due", "key-use"} {
			n += len(slices.Collect(s.rows(table)))
		}
		return n
	}
	if rows() == 0 {
		t.Error("no rows")
	}
	wantNil(t, s.kms.DoDue(ctx))
	gone()
	if n := rows(); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	if events := s.events("DeleteKey"); len(events) != 1 || !strings.Contains(events[0], `"outcome":"allowed"`) {
		t.Errorf("events of the deletion: %v", events)
	}
}

func TestAliases(t *testing.T) {
	s := newService(t)
	ctx, client := t.Context(), s.adminClient()
	a, b := s.key(""), s.key("")
	create := func(name, key string) error {
		_, err := client.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: &name, TargetKeyId: &key})
		return err
	}
	wantNil(t, create("alias/one", a))
	wantNil(t, create("alias/two", a))
	wantNil(t, create("alias/three", b))
	wantCode(t, create("alias/one", b), "AlreadyExistsException")
	wantCode(t, create("alias/aws/x", a), "InvalidAliasNameException")
	wantCode(t, create("one", a), "ValidationException")
	wantCode(t, create("alias/", a), "InvalidAliasNameException")
	wantCode(t, create("alias/a b", a), "ValidationException")
	for _, name := range []string{"alias/one", strings.Replace(a, "key/"+a[strings.LastIndexByte(a, '/')+1:], "alias/one", 1), "alias/none"} {
		refusal(t, name, create("alias/four", name), "ValidationException", "Aliases must refer to keys. Not aliases")
	}
	refusal(t, "colon", create("alias/a:b", a), "ValidationException", "alias/a:b contains invalid characters for an alias")
	wantCode(t, create("alias/four", "00000000-0000-4000-8000-000000000000"), "NotFoundException")

	// An alias is a name wherever a key is used, and counts as what it was called.
	arn := strings.Replace(a, "key/"+a[strings.LastIndexByte(a, '/')+1:], "alias/one", 1)
	for _, name := range []string{"alias/one", arn} {
		out, err := client.Encrypt(ctx, &awskms.EncryptInput{KeyId: &name, Plaintext: []byte("x")})
		wantNil(t, err)
		if *out.KeyId != a {
			t.Errorf("%s is %s", name, *out.KeyId)
		}
	}
	_, err := client.DisableKey(ctx, &awskms.DisableKeyInput{KeyId: aws.String("alias/one")})
	wantCode(t, err, "NotFoundException")

	list := func(in *awskms.ListAliasesInput) (names []string) {
		pages := awskms.NewListAliasesPaginator(client, in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			wantNil(t, err)
			for _, e := range page.Aliases {
				names = append(names, *e.AliasName)
				if !strings.HasSuffix(*e.AliasArn, ":"+*e.AliasName) || e.CreationDate == nil || e.LastUpdatedDate == nil {
					t.Errorf("%+v", e)
				}
			}
		}
		return names
	}
	if got := list(&awskms.ListAliasesInput{Limit: aws.Int32(1)}); !slices.Equal(got, []string{"alias/one", "alias/three", "alias/two"}) {
		t.Error(got)
	}
	if got := list(&awskms.ListAliasesInput{KeyId: &a}); !slices.Equal(got, []string{"alias/one", "alias/two"}) {
		t.Error(got)
	}
	elsewhere, err := s.client(s.admin, "eu-central-1").ListAliases(ctx, &awskms.ListAliasesInput{})
	if err != nil || len(elsewhere.Aliases) != 0 {
		t.Errorf("%v, %v", elsewhere, err)
	}

	update := func(name, key string) error {
		_, err := client.UpdateAlias(ctx, &awskms.UpdateAliasInput{AliasName: &name, TargetKeyId: &key})
		return err
	}
	wantNil(t, update("alias/one", b))
	wantNil(t, update("alias/one", b))
	wantCode(t, update("alias/none", b), "NotFoundException")
	if got := list(&awskms.ListAliasesInput{KeyId: &b}); !slices.Equal(got, []string{"alias/one", "alias/three"}) {
		t.Error(got)
	}
	for range 48 {
		wantNil(t, create(fmt.Sprintf("alias/n%d", time.Now().UnixNano()), b))
	}
	refusal(t, "limit", create("alias/too-many", b), "LimitExceededException", "Aliases per key quota for this account in this region is 50, current usage is 50.")
	wantCode(t, update("alias/two", b), "LimitExceededException")
	wantCode(t, update("alias/two", "alias/three"), "ValidationException")

	remove := func(name string) error {
		_, err := client.DeleteAlias(ctx, &awskms.DeleteAliasInput{AliasName: &name})
		return err
	}
	wantNil(t, remove("alias/one"))
	wantCode(t, remove("alias/one"), "NotFoundException")
	if got := list(&awskms.ListAliasesInput{KeyId: &a}); !slices.Equal(got, []string{"alias/two"}) {
		t.Error(got)
	}
}

// Both the alias and the key must be allowed, and each key of an update.
func TestAliasPolicies(t *testing.T) {
	s := newService(t)
	ctx := t.Context()
	guarded := s.key(`{"Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/admin"},"Action":"kms:*","Resource":"*"}]}`)
	open := s.key("")
	const named = `{"Statement":{"Effect":"Allow","Action":["kms:CreateAlias","kms:UpdateAlias","kms:DeleteAlias"],"Resource":"%s"}}`
	onAlias := s.client(s.principal(kms.User, "aliaser", fmt.Sprintf(named, "arn:aws:kms:*:*:alias/app-*")), region)
	onKeys := s.client(s.principal(kms.User, "keyer", fmt.Sprintf(named, "arn:aws:kms:*:*:key/*")), region)
	both := s.client(s.principal(kms.User, "both", fmt.Sprintf(named, "*")), region)
	create := func(client *awskms.Client, name, key string) error {
		_, err := client.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: &name, TargetKeyId: &key})
		return err
	}
	wantCode(t, create(onAlias, "alias/app-1", open), "AccessDeniedException")
	wantCode(t, create(onKeys, "alias/app-1", open), "AccessDeniedException")
	wantCode(t, create(both, "alias/app-1", guarded), "AccessDeniedException")
	wantNil(t, create(both, "alias/app-1", open))
	_, err := both.UpdateAlias(ctx, &awskms.UpdateAliasInput{AliasName: aws.String("alias/app-1"), TargetKeyId: &guarded})
	wantCode(t, err, "AccessDeniedException")
	_, err = onAlias.DeleteAlias(ctx, &awskms.DeleteAliasInput{AliasName: aws.String("alias/app-1")})
	wantCode(t, err, "AccessDeniedException")
	_, err = both.DeleteAlias(ctx, &awskms.DeleteAliasInput{AliasName: aws.String("alias/app-1")})
	wantNil(t, err)

	// The name that was used is a condition key; so are the names of a key.
	wantNil(t, create(s.adminClient(), "alias/app-2", open))
	for condition, names := range map[string][2]string{
		`"StringEquals":{"kms:RequestAlias":"alias/app-2"}`:              {"alias/app-2", open},
		`"ForAnyValue:StringLike":{"kms:ResourceAliases":"alias/app-*"}`: {open, guarded},
	} {
		name := "c" + fmt.Sprint(len(condition))
		client := s.client(s.principal(kms.User, name, `{"Statement":{"Effect":"Allow","Action":"kms:DescribeKey","Resource":"*","Condition":{`+condition+`}}}`), region)
		_, err := client.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &names[0]})
		wantNil(t, err)
		_, err = client.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &names[1]})
		wantCode(t, err, "AccessDeniedException")
	}
}

func TestTags(t *testing.T) {
	s := newService(t)
	ctx, client, key := t.Context(), s.adminClient(), s.key("")
	put := func(pairs ...string) error {
		in := &awskms.TagResourceInput{KeyId: &key, Tags: []types.Tag{}}
		for i := 0; i < len(pairs); i += 2 {
			in.Tags = append(in.Tags, types.Tag{TagKey: &pairs[i], TagValue: &pairs[i+1]})
		}
		_, err := client.TagResource(ctx, in)
		return err
	}
	wantNil(t, put("b", "1", "a", ""))
	wantNil(t, put("b", "2"))
	for message, err := range map[string]error{
		"Duplicate tag keys":                    put("x", "1", "x", "2"),
		"Tags beginning with aws: are reserved": put("AWS:x", "1"),
	} {
		wantCode(t, err, "TagException")
		if _, got, _, _ := refused(t, err); got != message {
			t.Errorf("%q, want %q", got, message)
		}
	}
	var many []string
	for i := range 49 {
		many = append(many, fmt.Sprint("k", i), "")
	}
	wantCode(t, put(many...), "TagException")
	wantNil(t, put(many[:96]...))
	pages, count := awskms.NewListResourceTagsPaginator(client, &awskms.ListResourceTagsInput{KeyId: &key, Limit: aws.Int32(20)}), 0
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		wantNil(t, err)
		count += len(page.Tags)
	}
	if count != 50 {
		t.Errorf("%d tags", count)
	}
	_, err := client.UntagResource(ctx, &awskms.UntagResourceInput{KeyId: &key, TagKeys: []string{"a", "none"}})
	wantNil(t, err)

	// Tags are conditions: of the key, and of a request that puts or takes them.
	abac := s.client(s.principal(kms.User, "abac", `{"Statement":[
		{"Effect":"Allow","Action":"kms:DescribeKey","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/b":"2"}}},
		{"Effect":"Allow","Action":["kms:TagResource","kms:UntagResource"],"Resource":"*","Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":["b","c"]},"Null":{"aws:TagKeys":"false"}}}]}`), region)
	describe := func() error { _, err := abac.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &key}); return err }
	wantNil(t, describe())
	_, err = abac.TagResource(ctx, &awskms.TagResourceInput{KeyId: &key, Tags: []types.Tag{{TagKey: aws.String("d"), TagValue: aws.String("")}}})
	wantCode(t, err, "AccessDeniedException")
	_, err = abac.UntagResource(ctx, &awskms.UntagResourceInput{KeyId: &key, TagKeys: []string{"k1"}})
	wantCode(t, err, "AccessDeniedException")
	_, err = abac.UntagResource(ctx, &awskms.UntagResourceInput{KeyId: &key, TagKeys: []string{"b"}})
	wantNil(t, err)
	wantCode(t, describe(), "AccessDeniedException")
}

func TestLastUsage(t *testing.T) {
	s := newService(t)
	ctx, client, key := t.Context(), s.adminClient(), s.key("")
	usage := func() *types.KeyLastUsageData {
		t.Helper()
		out, err := client.GetKeyLastUsage(ctx, &awskms.GetKeyLastUsageInput{KeyId: &key})
		wantNil(t, err)
		if !strings.HasSuffix(key, "key/"+*out.KeyId) || out.TrackingStartDate.IsZero() || out.KeyCreationDate.IsZero() {
			t.Errorf("%+v", out)
		}
		return out.KeyLastUsage
	}
	if got := usage(); got == nil || *got != (types.KeyLastUsageData{}) { // an empty object
		t.Errorf("%+v before any use", got)
	}
	sealed, err := client.Encrypt(ctx, &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("x")})
	wantNil(t, err)
	if got := usage(); got.Operation != "Encrypt" || len(aws.ToString(got.CloudTrailEventId)) != 36 || *got.CloudTrailEventId == *got.KmsRequestId {
		t.Errorf("%+v", got)
	}
	// A request that fails is no use, nor is a dry run.
	_, err = client.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{KeyId: &key, KeySpec: "AES_256", DryRun: aws.Bool(true)})
	wantCode(t, err, "DryRunOperationException")
	if got := usage(); got.Operation != "Encrypt" {
		t.Errorf("%+v", got)
	}
	_, err = client.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	wantNil(t, err)
	if got := usage(); got.Operation != "Decrypt" {
		t.Errorf("%+v", got)
	}
}

// What is not there is answered as AWS answers without such a store, to those who
// may ask.
func TestCustomKeyStores(t *testing.T) {
	s := newService(t)
	ctx, client := t.Context(), s.adminClient()
	out, err := client.DescribeCustomKeyStores(ctx, &awskms.DescribeCustomKeyStoresInput{})
	if err != nil || len(out.CustomKeyStores) != 0 || out.Truncated {
		t.Errorf("%v, %v", out, err)
	}
	_, err = client.DescribeCustomKeyStores(ctx, &awskms.DescribeCustomKeyStoresInput{CustomKeyStoreId: aws.String("cks-1")})
	wantCode(t, err, "CustomKeyStoreNotFoundException")
	_, err = client.DescribeCustomKeyStores(ctx, &awskms.DescribeCustomKeyStoresInput{CustomKeyStoreId: aws.String("cks-1"), CustomKeyStoreName: aws.String("x")})
	wantCode(t, err, "ValidationException")
	nobody := s.client(s.principal(kms.User, "nobody"), region)
	_, err = nobody.DescribeCustomKeyStores(ctx, &awskms.DescribeCustomKeyStoresInput{})
	wantCode(t, err, "AccessDeniedException")
	for c, code := range map[*awskms.Client]string{nobody: "AccessDeniedException", client: "CustomKeyStoreNotFoundException"} {
		_, err = c.GenerateRandom(ctx, &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(8), CustomKeyStoreId: aws.String("cks-1")})
		wantCode(t, err, code)
	}
	for _, op := range []string{"Connect", "Create", "Delete", "Disconnect", "Update"} {
		in := `{"CustomKeyStoreId":"cks-1","CustomKeyStoreName":"x"}`
		status, text, _ := s.send(raw{target: kmsapi.TargetPrefix + op + "CustomKeyStore", body: in})
		if status != 400 || !strings.Contains(text, "UnsupportedOperationException") {
			t.Errorf("%s: %d %s", op, status, text)
		}
	}
}

// rows returns the ids of the rows of a table.
func (s *service) rows(table string) iter.Seq[string] {
	return func(yield func(string) bool) {
		err := s.files.Ledger.View(s.t.Context(), func(tx *ledger.Tx) error {
			return tx.Scan(table, "", func(row ledger.Row) bool { return yield(row.ID) })
		})
		if err != nil {
			s.t.Error(err)
		}
	}
}
