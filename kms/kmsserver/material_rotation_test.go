// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/kms"
)

func (s *service) rotate(key string) error {
	_, err := s.adminClient().RotateKeyOnDemand(s.t.Context(), &awskms.RotateKeyOnDemandInput{KeyId: &key})
	return err
}

func (s *service) enableRotation(key string, days int32) error {
	_, err := s.adminClient().EnableKeyRotation(s.t.Context(), &awskms.EnableKeyRotationInput{KeyId: &key, RotationPeriodInDays: &days})
	return err
}

func (s *service) rotationStatus(key string) *awskms.GetKeyRotationStatusOutput {
	s.t.Helper()
	out, err := s.adminClient().GetKeyRotationStatus(s.t.Context(), &awskms.GetKeyRotationStatusInput{KeyId: &key})
	fatal(s.t, err)
	return out
}

// Each rotation gives a key other material, and what was encrypted under any
// version is opened with it.
func TestRotateKeyOnDemand(t *testing.T) {
	s := newService(t)
	key := s.key("")
	var sealed [][]byte
	var ids []string
	for i := range 6 {
		if i > 0 {
			fatal(t, s.rotate(key))
		}
		ids = append(ids, *s.shown(key).CurrentKeyMaterialId)
		sealed = append(sealed, s.seal(key, fmt.Sprint("text ", i)))
	}
	seen := map[string]bool{}
	for i, blob := range sealed {
		if id := s.wantOpen(blob, fmt.Sprint("text ", i)); id != ids[i] || seen[id] {
			t.Errorf("ciphertext %d was opened with %s, want %s", i, id, ids[i])
		}
		seen[ids[i]] = true
	}
	all := s.rotations(key, types.IncludeKeyMaterialAllKeyMaterial)
	if len(all) != 6 || all[0].RotationType != "" || all[0].RotationDate != nil {
		t.Fatalf("%d materials, %+v", len(all), all)
	}
	for i, entry := range all {
		state := types.KeyMaterialStateNonCurrent
		if i == 5 {
			state = types.KeyMaterialStateCurrent
		}
		if *entry.KeyMaterialId != ids[i] || entry.KeyMaterialState != state || *entry.KeyId != key || entry.ImportState != "" || entry.ExpirationModel != "" {
			t.Errorf("material %d: %+v", i, entry)
		}
		if i > 0 && (entry.RotationType != types.RotationTypeOnDemand || time.Since(*entry.RotationDate).Abs() > time.Minute) {
			t.Errorf("material %d: %+v", i, entry)
		}
	}
	if only := s.rotations(key, ""); len(only) != 5 || *only[0].KeyMaterialId != ids[1] {
		t.Errorf("rotations: %+v", only)
	}
	events := s.events("RotateKeyOnDemand")
	if len(events) != 5 || !strings.Contains(events[4], `"previousKeyMaterialId":"`+ids[4]+`"`) || !strings.Contains(events[4], `"currentKeyMaterialId":"`+ids[5]+`"`) {
		t.Errorf("events:\n%s", strings.Join(events, "\n"))
	}
}

func TestListKeyRotationsPages(t *testing.T) {
	s := newService(t)
	key := s.key("")
	for range 5 {
		fatal(t, s.rotate(key))
	}
	sizes, seen := "", map[string]bool{}
	pages := awskms.NewListKeyRotationsPaginator(s.adminClient(), &awskms.ListKeyRotationsInput{
		KeyId: &key, IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial, Limit: aws.Int32(4)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		fatal(t, err)
		sizes += fmt.Sprint(len(page.Rotations), page.Truncated, " ")
		for _, r := range page.Rotations {
			seen[*r.KeyMaterialId] = true
		}
	}
	if sizes != "4 true 2 false " || len(seen) != 6 {
		t.Errorf("pages %s, %d materials", sizes, len(seen))
	}
	_, err := s.adminClient().ListKeyRotations(t.Context(), &awskms.ListKeyRotationsInput{KeyId: &key, Marker: aws.String("!")})
	wantCode(t, err, "InvalidMarkerException")
	_, err = s.adminClient().ListKeyRotations(t.Context(), &awskms.ListKeyRotationsInput{KeyId: &key, Limit: aws.Int32(1001)})
	wantCode(t, err, "ValidationException")
}

// On-demand rotations are limited for the life of a key; automatic ones are not
// counted.
func TestOnDemandLimit(t *testing.T) {
	var c clock
	s := newService(t, c.into)
	key := s.key("")
	fatal(t, s.enableRotation(key, 90))
	c.move(91 * day)
	s.due()
	for range 25 {
		fatal(t, s.rotate(key))
	}
	wantCode(t, s.rotate(key), "LimitExceededException")
	if n := len(s.rotations(key, types.IncludeKeyMaterialAllKeyMaterial)); n != 27 {
		t.Errorf("%d materials, want 27", n)
	}
}

// A key rotates by itself when it is due: once, however late that is noticed, and
// then a period later.
func TestAutomaticRotation(t *testing.T) {
	var c clock
	s := newService(t, c.into)
	key := s.key("")
	first := *s.shown(key).CurrentKeyMaterialId
	sealed := s.seal(key, "old")
	fatal(t, s.enableRotation(key, 90))
	wantNext := func(in time.Duration) {
		t.Helper()
		status := s.rotationStatus(key)
		if !status.KeyRotationEnabled || *status.RotationPeriodInDays != 90 || *status.KeyId != key || status.OnDemandRotationStartDate != nil ||
			status.NextRotationDate.Sub(c.now().Add(in)).Abs() > time.Minute {
			t.Errorf("status %+v, next %s", status, status.NextRotationDate)
		}
	}
	wantRotations := func(n int) {
		t.Helper()
		s.due()
		s.due()
		if got := s.rotations(key, ""); len(got) != n {
			t.Fatalf("%d rotations, want %d", len(got), n)
		}
	}
	wantNext(90 * day)
	c.move(90*day - time.Minute)
	wantRotations(0)
	refusal(t, "within 20 minutes", s.rotate(key), "ConflictException",
		"An automatic rotation of the key "+key+" is in progress or begins within the next 20 minutes.")
	c.move(2 * time.Minute)
	wantRotations(1)
	wantNext(90 * day)
	fatal(t, s.rotate(key)) // which changes no schedule
	wantNext(90 * day)
	c.move(500 * day)
	wantRotations(3)
	wantNext(90 * day)
	c.move(90 * day)
	wantRotations(4)

	entries := s.rotations(key, types.IncludeKeyMaterialAllKeyMaterial)
	kinds := ""
	for _, e := range entries {
		kinds += string(e.RotationType) + " "
	}
	if kinds != " AUTOMATIC ON_DEMAND AUTOMATIC AUTOMATIC " || *entries[4].KeyMaterialId != *s.shown(key).CurrentKeyMaterialId {
		t.Errorf("rotations %s", kinds)
	}
	if id := s.wantOpen(sealed, "old"); id != first {
		t.Errorf("opened with %s, want %s", id, first)
	}
	events := s.events("RotateKey")
	if len(events) != 3 {
		t.Fatalf("events:\n%s", strings.Join(events, "\n"))
	}
	for _, want := range []string{`"type":"Service"`, `"rotationType":"AUTOMATIC"`, `"previousKeyMaterialId":"` + first + `"`,
		`"currentKeyMaterialId":"` + *entries[1].KeyMaterialId + `"`, `"ARN":"` + key + `"`, `"eventSource":"kms.amazonaws.com"`, `"outcome":"allowed"`} {
		if !strings.Contains(events[0], want) {
			t.Errorf("no %s in %s", want, events[0])
		}
	}
}

func TestRotationSchedule(t *testing.T) {
	var c clock
	s := newService(t, c.into)
	ctx, client, key := t.Context(), s.adminClient(), s.key("")
	for _, days := range []int32{0, 89, 2561} {
		wantCode(t, s.enableRotation(key, days), "ValidationException")
	}
	if status := s.rotationStatus(key); status.KeyRotationEnabled || status.RotationPeriodInDays != nil || status.NextRotationDate != nil {
		t.Errorf("%+v", status)
	}
	_, err := client.EnableKeyRotation(ctx, &awskms.EnableKeyRotationInput{KeyId: &key})
	fatal(t, err)
	if status := s.rotationStatus(key); *status.RotationPeriodInDays != 365 {
		t.Errorf("%+v", status)
	}
	before := *s.rotationStatus(key).NextRotationDate
	c.move(10 * day)
	fatal(t, s.enableRotation(key, 365))
	if next := *s.rotationStatus(key).NextRotationDate; !next.Equal(before) {
		t.Errorf("the same period again moved the next rotation to %s", next)
	}
	fatal(t, s.enableRotation(key, 2560))
	if next := *s.rotationStatus(key).NextRotationDate; next.Sub(c.now()) < 2559*day {
		t.Errorf("next rotation %s", next)
	}
	c.move(366 * day) // the first schedule is over
	s.due()
	for range 2 {
		_, err = client.DisableKeyRotation(ctx, &awskms.DisableKeyRotationInput{KeyId: &key})
		fatal(t, err)
	}
	c.move(2600 * day)
	s.due()
	if n := len(s.rotations(key, "")); n != 0 || s.rotationStatus(key).KeyRotationEnabled {
		t.Errorf("%d rotations", n)
	}
}

// While a key is not enabled it does not rotate; it does when it is enabled again.
func TestRotationResumes(t *testing.T) {
	var c clock
	s := newService(t, c.into)
	ctx, client, key := t.Context(), s.adminClient(), s.key("")
	fatal(t, s.enableRotation(key, 100))
	_, err := client.DisableKey(ctx, &awskms.DisableKeyInput{KeyId: &key})
	fatal(t, err)
	if !s.rotationStatus(key).KeyRotationEnabled {
		t.Error("the status of a disabled key changed")
	}
	c.move(150 * day)
	s.due()
	_, err = client.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: &key})
	fatal(t, err)
	if status := s.rotationStatus(key); status.KeyRotationEnabled || status.NextRotationDate != nil {
		t.Errorf("a key pending deletion: %+v", status)
	}
	s.due()
	_, err = client.CancelKeyDeletion(ctx, &awskms.CancelKeyDeletionInput{KeyId: &key})
	fatal(t, err)
	s.due()
	if n := len(s.rotations(key, "")); n != 0 || !s.rotationStatus(key).KeyRotationEnabled {
		t.Errorf("%d rotations", n)
	}
	_, err = client.EnableKey(ctx, &awskms.EnableKeyInput{KeyId: &key})
	fatal(t, err)
	c.move(time.Minute)
	s.due()
	if n := len(s.rotations(key, "")); n != 1 {
		t.Errorf("%d rotations after the key was enabled again", n)
	}
	// One that was not due keeps its date.
	next := *s.rotationStatus(key).NextRotationDate
	_, err = client.DisableKey(ctx, &awskms.DisableKeyInput{KeyId: &key})
	fatal(t, err)
	_, err = client.EnableKey(ctx, &awskms.EnableKeyInput{KeyId: &key})
	fatal(t, err)
	s.due()
	if n := len(s.rotations(key, "")); n != 1 || !s.rotationStatus(key).NextRotationDate.Equal(next) {
		t.Errorf("%d rotations", n)
	}
}

// rotationOperations are the five, each with a valid request.
var rotationOperations = map[string]func(c *awskms.Client, key string) error{
	"EnableKeyRotation": func(c *awskms.Client, key string) error {
		_, err := c.EnableKeyRotation(background, &awskms.EnableKeyRotationInput{KeyId: &key})
		return err
	},
	"DisableKeyRotation": func(c *awskms.Client, key string) error {
		_, err := c.DisableKeyRotation(background, &awskms.DisableKeyRotationInput{KeyId: &key})
		return err
	},
	"GetKeyRotationStatus": func(c *awskms.Client, key string) error {
		_, err := c.GetKeyRotationStatus(background, &awskms.GetKeyRotationStatusInput{KeyId: &key})
		return err
	},
	"RotateKeyOnDemand": func(c *awskms.Client, key string) error {
		_, err := c.RotateKeyOnDemand(background, &awskms.RotateKeyOnDemandInput{KeyId: &key})
		return err
	},
	"ListKeyRotations": func(c *awskms.Client, key string) error {
		_, err := c.ListKeyRotations(background, &awskms.ListKeyRotationsInput{KeyId: &key})
		return err
	},
}

func TestRotationRefused(t *testing.T) {
	s := newService(t)
	ctx, client := t.Context(), s.adminClient()
	disabled, deleted := s.key(""), s.key("")
	_, err := client.DisableKey(ctx, &awskms.DisableKeyInput{KeyId: &disabled})
	fatal(t, err)
	_, err = client.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: &deleted})
	fatal(t, err)
	pair, mac := s.make("ECC_NIST_P256", "SIGN_VERIFY"), s.make("HMAC_256", "GENERATE_VERIFY_MAC")
	external := s.externalKey("SYMMETRIC_DEFAULT", "")
	locked := s.key(strings.Replace(adminPolicy, `"kms:*"`, `["kms:PutKeyPolicy","kms:DescribeKey"]`, 1))
	other := client.Options()
	other.Region = second
	reads := func(operation string) bool {
		return operation == "GetKeyRotationStatus" || operation == "ListKeyRotations"
	}
	for name, operation := range rotationOperations {
		for key, code := range map[string]string{
			"1234abcd-12ab-34cd-56ef-1234567890ab": "NotFoundException",
			"alias/x":                              "NotFoundException",
			"arn:aws:kms:x":                        "NotFoundException",
			locked:                                 "AccessDeniedException",
			disabled:                               "DisabledException",
			deleted:                                "KMSInvalidStateException",
			pair:                                   "UnsupportedOperationException",
			mac:                                    "UnsupportedOperationException",
			external:                               "UnsupportedOperationException",
		} {
			err := operation(client, key)
			switch {
			case reads(name) && (key == disabled || key == deleted) || name == "ListKeyRotations" && key == external ||
				name == "GetKeyRotationStatus" && (key == pair || key == mac):
				fatal(t, err)
			case key == external && name == "RotateKeyOnDemand":
				refusal(t, name, err, "KMSInvalidStateException", external+" is pending import.")
			default:
				t.Run(name+" "+code, func(t *testing.T) { wantCode(t, err, code) })
			}
		}
		if name != "GetKeyRotationStatus" {
			refusal(t, name, operation(client, pair), "UnsupportedOperationException", "")
		}
	}
	for _, key := range []string{pair, mac} { // "always false": API reference, GetKeyRotationStatus
		out, err := client.GetKeyRotationStatus(ctx, &awskms.GetKeyRotationStatusInput{KeyId: &key})
		fatal(t, err)
		if out.KeyRotationEnabled || *out.KeyId != key || out.RotationPeriodInDays != nil || out.NextRotationDate != nil {
			t.Errorf("%+v", out)
		}
	}
	s.mustImport(external, []byte(strings.Repeat("x", 32)))
	for _, name := range []string{"EnableKeyRotation", "DisableKeyRotation", "GetKeyRotationStatus"} {
		refusal(t, name, rotationOperations[name](client, external), "UnsupportedOperationException",
			external+" origin is EXTERNAL which is not valid for this operation.")
	}
	if n := len(s.rotations(disabled, "")); n != 0 {
		t.Errorf("%d rotations of what was refused", n)
	}
}

// The status alone is told about a key of another account (API reference,
// cross-account use of the five operations).
func TestRotationOfOtherAccount(t *testing.T) {
	s := newService(t)
	key := s.key(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}}`)
	owner, _, err := s.kms.AccessKey(t.Context(), s.admin.AccessKeyID)
	fatal(t, err)
	owner.Account = "111122223333"
	stranger := &kms.Caller{Principal: owner, Region: region}
	for name := range rotationOperations {
		_, err := s.kms.Call(t.Context(), stranger, name, []byte(`{"KeyId":"`+key+`"}`))
		allowed := name == "GetKeyRotationStatus"
		if allowed != (err == nil) || !allowed && !strings.Contains(err.Error(), "AccessDenied") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(s.rotations(key, "")); n != 0 {
		t.Errorf("%d rotations", n)
	}
}

// The period is a condition key, with its default.
func TestRotationPeriodCondition(t *testing.T) {
	s := newService(t)
	key := s.key(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/admin"},"Action":"kms:*","Resource":"*"},
		{"Effect":"Deny","Principal":"*","Action":"kms:EnableKeyRotation","Resource":"*","Condition":{"NumericGreaterThan":{"kms:RotationPeriodInDays":"180"}}}]}`)
	wantCode(t, s.enableRotation(key, 181), "AccessDeniedException")
	wantCode(t, rotationOperations["EnableKeyRotation"](s.adminClient(), key), "AccessDeniedException")
	fatal(t, s.enableRotation(key, 180))
}

// A rotation is whole or has not happened: the store fails, the audit log fails, the
// process ends, and then it happens once.
func TestRotationIsWhole(t *testing.T) {
	var c clock
	failing := &failingStore{Store: newStore(t)}
	s := newService(t, c.into, over(t, failing))
	key := s.key("")
	sealed := s.seal(key, "old")
	fatal(t, s.enableRotation(key, 90))
	c.move(91 * day)
	broken := errors.New("the disk is gone")
	for _, set := range []func(error){func(err error) { failing.fail = err }, s.audit.set} {
		set(broken)
		if err := s.kms.DoDue(t.Context()); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
		set(nil)
		if n := len(s.rotations(key, types.IncludeKeyMaterialAllKeyMaterial)); n != 1 {
			t.Fatalf("%d materials after a rotation that failed", n)
		}
	}
	s.due()
	s.due()
	if n := len(s.rotations(key, "")); n != 1 {
		t.Fatalf("%d rotations, want 1", n)
	}
	for _, set := range []func(error){func(err error) { failing.fail = err }, s.audit.set} {
		set(broken)
		if status, answer, _ := s.send(raw{target: "TrentService.RotateKeyOnDemand", body: `{"KeyId":"` + key + `"}`}); status != 500 {
			t.Errorf("%d %s", status, answer)
		}
		set(nil)
		if n := len(s.rotations(key, "")); n != 1 {
			t.Fatalf("%d rotations after one that failed", n)
		}
	}
	s.wantOpen(sealed, "old")
	s.wantOpen(s.seal(key, "new"), "new")
}

// Replicas rotate with their primary key, whichever that is.
func TestReplicasRotate(t *testing.T) {
	var c clock
	s := newService(t, c.into)
	id := s.multiKey(second)
	here, there := regionalARN(region, id), s.client(s.admin, second)
	for _, name := range []string{"EnableKeyRotation", "DisableKeyRotation", "RotateKeyOnDemand"} {
		wantCode(t, rotationOperations[name](there, id), "UnsupportedOperationException")
	}
	fatal(t, s.enableRotation(here, 90))
	fatal(t, s.rotate(here))
	wantSame := func(rotations int) {
		t.Helper()
		sealed := s.seal(here, "x")
		out, err := there.Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed})
		fatal(t, err)
		listed, err := there.ListKeyRotations(t.Context(), &awskms.ListKeyRotationsInput{KeyId: &id})
		fatal(t, err)
		status, err := there.GetKeyRotationStatus(t.Context(), &awskms.GetKeyRotationStatusInput{KeyId: &id})
		fatal(t, err)
		if len(listed.Rotations) != rotations || len(s.rotations(here, "")) != rotations || *out.KeyMaterialId != *s.describe(second, id).CurrentKeyMaterialId ||
			!status.NextRotationDate.Equal(*s.rotationStatus(here).NextRotationDate) {
			t.Errorf("%d rotations, next %s, opened with %s", len(listed.Rotations), status.NextRotationDate, *out.KeyMaterialId)
		}
	}
	wantSame(1)
	c.move(91 * day)
	s.due()
	wantSame(2)
	_, err := s.adminClient().UpdatePrimaryRegion(t.Context(), &awskms.UpdatePrimaryRegionInput{KeyId: &id, PrimaryRegion: aws.String(second)})
	fatal(t, err)
	c.move(91 * day)
	s.due()
	wantSame(3)
	wantCode(t, s.rotate(here), "UnsupportedOperationException")
}

// Two rotations at once are two, one after the other, and the limit holds for the
// second.
func TestRotationRace(t *testing.T) {
	raced := &racedStore{Store: newStore(t)}
	s := newService(t, over(t, raced))
	key := s.key("")
	for range 23 {
		fatal(t, s.rotate(key))
	}
	raced.before = func() { fatal(t, s.rotate(key)) }
	fatal(t, s.rotate(key))
	events := s.events("RotateKeyOnDemand")
	entries := s.rotations(key, types.IncludeKeyMaterialAllKeyMaterial)
	if len(entries) != 26 || len(events) != 25 ||
		!strings.Contains(events[24], `"previousKeyMaterialId":"`+*entries[24].KeyMaterialId+`"`) {
		t.Errorf("%d materials, %d events", len(entries), len(events))
	}
	other := s.key("")
	for range 24 {
		fatal(t, s.rotate(other))
	}
	raced.before = func() { fatal(t, s.rotate(other)) }
	wantCode(t, s.rotate(other), "LimitExceededException")
	if n := len(s.rotations(other, "")); n != 25 {
		t.Errorf("%d rotations", n)
	}
}
