// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"strings"
	"testing"
	"time"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/kms/ledger"
)

const all = types.IncludeKeyMaterialAllKeyMaterial

func (s *service) deleteMaterial(key, id string) error {
	in := &awskms.DeleteImportedKeyMaterialInput{KeyId: &key}
	if id != "" {
		in.KeyMaterialId = &id
	}
	_, err := s.adminClient().DeleteImportedKeyMaterial(s.t.Context(), in)
	return err
}

// wantRefusedOpen wants a ciphertext to be refused because of its key's state.
func (s *service) wantRefusedOpen(key string, sealed []byte) {
	s.t.Helper()
	_, err := s.adminClient().Decrypt(s.t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed})
	refusal(s.t, "Decrypt", err, "KMSInvalidStateException", key+" is pending import.")
	_, err = s.adminClient().Encrypt(s.t.Context(), &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("x")})
	refusal(s.t, "Encrypt", err, "KMSInvalidStateException", key+" is pending import.")
}

// rowsOf counts the rows of a key's material.
func (s *service) rowsOf(key string) (n int) {
	s.t.Helper()
	fatal(s.t, s.files.Ledger.View(s.t.Context(), func(tx *ledger.Tx) error {
		return tx.Scan("key-material", account+"/"+region+"/"+key[strings.LastIndexByte(key, '/')+1:]+"/", func(ledger.Row) bool {
			n++
			return true
		})
	}))
	return n
}

// Material is gone the moment it expires, cleared away some time later, and back
// when it is imported again.
func TestExpiry(t *testing.T) {
	var c clock
	s := newService(t, c.into)
	key, secret := s.externalKey("", ""), randomOf(32)
	at := c.now().Add(10 * day).Truncate(time.Millisecond)
	id := s.mustImport(key, secret, until(at))
	if m := s.shown(key); m.ExpirationModel != types.ExpirationModelTypeKeyMaterialExpires || m.ValidTo.Sub(at).Abs() > time.Second {
		t.Errorf("%+v, valid to %v", m, m.ValidTo)
	}
	sealed := s.seal(key, "x")
	c.move(10*day - time.Minute)
	s.due()
	s.wantOpen(sealed, "x")
	c.move(time.Minute + time.Second)
	for range 2 {
		s.wantRefusedOpen(key, sealed)
		s.wantState(key, types.KeyStatePendingImport)
		if m := s.shown(key); *m.CurrentKeyMaterialId != id || m.ExpirationModel != "" || m.ValidTo != nil {
			t.Errorf("%+v", m)
		}
		if r := s.rotations(key, all); len(r) != 1 || r[0].ImportState != types.ImportStatePendingImport || r[0].ExpirationModel != "" || r[0].ValidTo != nil {
			t.Errorf("%+v", r)
		}
		s.due()
	}
	if n := s.rowsOf(key); n != 0 {
		t.Errorf("%d rows of expired material", n)
	}
	events := s.events("DeleteExpiredKeyMaterial")
	if len(events) != 1 || !strings.Contains(events[0], `"keyMaterialId":"`+id+`"`) || !strings.Contains(events[0], key) || !strings.Contains(events[0], `"type":"Service"`) {
		t.Errorf("events:\n%s", strings.Join(events, "\n"))
	}
	_, err := s.importInto(key, randomOf(32), until(c.now().Add(day)))
	wantCode(t, err, "IncorrectKeyMaterialException")
	if again := s.mustImport(key, secret, until(c.now().Add(day))); again != id {
		t.Errorf("id %s, was %s", again, id)
	}
	s.wantState(key, types.KeyStateEnabled)
	s.wantOpen(sealed, "x")
}

// To import material again is to set its expiry anew, before and after it came.
func TestExpiryMoves(t *testing.T) {
	var c clock
	s := newService(t, c.into)
	key, secret := s.externalKey("", ""), randomOf(32)
	s.mustImport(key, secret, until(c.now().Add(2*day)))
	sealed := s.seal(key, "x")
	s.mustImport(key, secret, until(c.now().Add(5*day)))
	c.move(3 * day)
	s.due()
	s.wantOpen(sealed, "x")
	c.move(3 * day) // expired, and not cleared away
	s.mustImport(key, secret)
	s.due()
	s.wantOpen(sealed, "x")
	if m := s.shown(key); m.ExpirationModel != types.ExpirationModelTypeKeyMaterialDoesNotExpire || m.ValidTo != nil {
		t.Errorf("%+v", m)
	}
	s.mustImport(key, secret, until(c.now().Add(day)))
	c.move(2 * day)
	s.due()
	s.wantRefusedOpen(key, sealed)
	c.move(400 * day)
	s.due()
	if n := len(s.events("DeleteExpiredKeyMaterial")); n != 1 {
		t.Errorf("%d events", n)
	}
}

func TestValidTo(t *testing.T) {
	var c clock
	s := newService(t, c.into)
	key, secret := s.externalKey("", ""), randomOf(32)
	for _, at := range []time.Duration{-400 * day, -time.Second, 365*day + time.Minute, 4000 * day} {
		_, err := s.importInto(key, secret, until(c.now().Add(at)))
		wantCode(t, err, "ValidationException")
	}
	_, err := s.importInto(key, secret, func(in *awskms.ImportKeyMaterialInput) {
		at := c.now().Add(day)
		in.ValidTo = &at // with KEY_MATERIAL_DOES_NOT_EXPIRE
	})
	wantCode(t, err, "ValidationException")
	_, err = s.importInto(key, secret, func(in *awskms.ImportKeyMaterialInput) { in.ExpirationModel = "" })
	refusal(t, "no ValidTo", err, "ValidationException", "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES")
	s.wantState(key, types.KeyStatePendingImport)
	s.mustImport(key, secret, until(c.now().Add(365*day-time.Minute)), func(in *awskms.ImportKeyMaterialInput) { in.ExpirationModel = "" })
	s.wantState(key, types.KeyStateEnabled)
}

// A symmetric key has several imported materials, and needs all that it was ever
// rotated to.
func TestImportedVersions(t *testing.T) {
	var c clock
	s := newService(t, c.into)
	key, one, two, three := s.externalKey("", ""), randomOf(32), randomOf(32), randomOf(32)
	describe := func(text string) func(*awskms.ImportKeyMaterialInput) {
		return func(in *awskms.ImportKeyMaterialInput) { in.KeyMaterialDescription = &text }
	}
	first := s.mustImport(key, one, describe("the first"))
	old := s.seal(key, "old")
	_, err := s.importInto(key, two)
	wantCode(t, err, "IncorrectKeyMaterialException") // not new, by default
	_, err = s.importInto(key, one, asNew)
	wantCode(t, err, "IncorrectKeyMaterialException")
	second := s.mustImport(key, two, asNew, until(c.now().Add(20*day)))
	if *s.shown(key).CurrentKeyMaterialId != first || s.wantOpen(s.seal(key, "y"), "y") != first {
		t.Error("the new material is used before the rotation")
	}
	_, err = s.importInto(key, three, asNew)
	wantCode(t, err, "KMSInvalidStateException")
	_, err = s.importInto(key, two, asNew)
	wantCode(t, err, "IncorrectKeyMaterialException")

	fatal(t, s.rotate(key))
	wantCode(t, s.rotate(key), "KMSInvalidStateException")
	recent := s.seal(key, "new")
	if s.wantOpen(old, "old") != first || s.wantOpen(recent, "new") != second {
		t.Error("opened with the wrong material")
	}
	entries := s.rotations(key, all)
	if len(entries) != 2 || *entries[0].KeyMaterialDescription != "the first" || entries[0].KeyMaterialState != types.KeyMaterialStateNonCurrent ||
		entries[0].ExpirationModel != types.ExpirationModelTypeKeyMaterialDoesNotExpire || entries[1].KeyMaterialDescription != nil ||
		entries[1].KeyMaterialState != types.KeyMaterialStateCurrent || entries[1].RotationType != types.RotationTypeOnDemand ||
		entries[1].ExpirationModel != types.ExpirationModelTypeKeyMaterialExpires || entries[1].ValidTo == nil {
		t.Errorf("%+v", entries)
	}
	if m := s.shown(key); m.ExpirationModel != types.ExpirationModelTypeKeyMaterialExpires {
		t.Errorf("%+v", m)
	}

	// The old one alone is missing: the key cannot be used.
	fatal(t, s.deleteMaterial(key, first))
	s.wantRefusedOpen(key, recent)
	named := func(id string) func(*awskms.ImportKeyMaterialInput) {
		return func(in *awskms.ImportKeyMaterialInput) { in.KeyMaterialId = &id }
	}
	_, err = s.importInto(key, one, named(second))
	wantCode(t, err, "IncorrectKeyMaterialException")
	_, err = s.importInto(key, one, named(first), asNew)
	wantCode(t, err, "ValidationException")
	s.mustImport(key, one, named(first))
	s.wantOpen(recent, "new")
	if entries := s.rotations(key, all); *entries[0].KeyMaterialDescription != "the first" {
		t.Error("the description is lost")
	}
	// The current one expires.
	c.move(21 * day)
	s.wantRefusedOpen(key, old)
	s.due()
	s.wantRefusedOpen(key, old)
	wantCode(t, s.rotate(key), "KMSInvalidStateException")
	s.mustImport(key, two)
	s.wantOpen(old, "old")
	s.wantOpen(recent, "new")
}

// Material that is pending rotation can go, by hand or by time, without a trace.
func TestPendingMaterialGoes(t *testing.T) {
	var c clock
	s := newService(t, c.into)
	key, two := s.externalKey("", ""), randomOf(32)
	s.mustImport(key, randomOf(32))
	id := s.mustImport(key, two, asNew)
	if entries := s.rotations(key, all); len(entries) != 2 || entries[1].KeyMaterialState != types.KeyMaterialStatePendingRotation || entries[1].RotationDate != nil {
		t.Errorf("%+v", entries)
	}
	if entries := s.rotations(key, ""); len(entries) != 0 {
		t.Errorf("rotations that were not done: %+v", entries)
	}
	fatal(t, s.deleteMaterial(key, id))
	s.wantState(key, types.KeyStateEnabled)
	wantCode(t, s.rotate(key), "KMSInvalidStateException")
	wantCode(t, s.deleteMaterial(key, id), "NotFoundException")
	_, err := s.importInto(key, two)
	wantCode(t, err, "IncorrectKeyMaterialException")

	s.mustImport(key, two, asNew, until(c.now().Add(day)))
	c.move(2 * day)
	s.wantState(key, types.KeyStateEnabled)
	wantCode(t, s.rotate(key), "KMSInvalidStateException")
	third := s.mustImport(key, randomOf(32), asNew) // takes the place of what has expired
	if entries := s.rotations(key, all); len(entries) != 2 || *entries[1].KeyMaterialId != third {
		t.Errorf("%+v", entries)
	}
	s.due()
	fatal(t, s.rotate(key))
	s.wantOpen(s.seal(key, "x"), "x")
	if n := s.rowsOf(key); n != 2 {
		t.Errorf("%d rows of material, want 2", n)
	}
	s.mustImport(key, two, asNew, until(c.now().Add(day)))
	c.move(2 * day)
	s.due()
	if entries := s.rotations(key, all); len(entries) != 2 || s.rowsOf(key) != 2 {
		t.Errorf("%+v", entries)
	}
}

// A key with one material takes none of the members of the others.
func TestImportTypeIsForSymmetricKeys(t *testing.T) {
	s := newService(t)
	key, secret, id := s.externalKey("HMAC_256", "GENERATE_VERIFY_MAC"), randomOf(32), strings.Repeat("a", 64)
	text := "x"
	for _, change := range []func(*awskms.ImportKeyMaterialInput){
		asNew,
		func(in *awskms.ImportKeyMaterialInput) { in.ImportType = types.ImportTypeExistingKeyMaterial },
		func(in *awskms.ImportKeyMaterialInput) { in.KeyMaterialDescription = &text },
		func(in *awskms.ImportKeyMaterialInput) { in.KeyMaterialId = &id },
	} {
		_, err := s.importInto(key, secret, change)
		wantCode(t, err, "UnsupportedOperationException")
	}
	s.mustImport(key, secret)
	wantCode(t, s.deleteMaterial(key, id), "UnsupportedOperationException")
	symmetric := s.externalKey("", "")
	_, err := s.importInto(symmetric, secret, func(in *awskms.ImportKeyMaterialInput) { in.ImportType = types.ImportTypeExistingKeyMaterial })
	wantCode(t, err, "IncorrectKeyMaterialException")
	_, err = s.importInto(symmetric, secret, func(in *awskms.ImportKeyMaterialInput) { in.KeyMaterialId = &id })
	wantCode(t, err, "IncorrectKeyMaterialException")
	wantCode(t, s.deleteMaterial(symmetric, id), "NotFoundException")
	fatal(t, s.deleteMaterial(symmetric, "")) // nothing there: no effect
	s.wantState(symmetric, types.KeyStatePendingImport)
}

// To have its material again does not enable what was disabled.
func TestImportStates(t *testing.T) {
	var c clock
	s := newService(t, c.into)
	ctx, client := t.Context(), s.adminClient()
	key, secret := s.externalKey("", ""), randomOf(32)
	_, err := client.EnableKey(ctx, &awskms.EnableKeyInput{KeyId: &key})
	wantCode(t, err, "KMSInvalidStateException")
	s.mustImport(key, secret, until(c.now().Add(day)))
	_, err = client.DisableKey(ctx, &awskms.DisableKeyInput{KeyId: &key})
	fatal(t, err)
	s.mustImport(key, secret, until(c.now().Add(2*day)))
	s.wantState(key, types.KeyStateDisabled)
	c.move(3 * day)
	s.wantState(key, types.KeyStatePendingImport)
	text := "a change while it lacks its material"
	_, err = client.UpdateKeyDescription(ctx, &awskms.UpdateKeyDescriptionInput{KeyId: &key, Description: &text})
	fatal(t, err)
	s.due()
	s.mustImport(key, secret)
	s.wantState(key, types.KeyStateDisabled)
	_, err = client.EnableKey(ctx, &awskms.EnableKeyInput{KeyId: &key})
	fatal(t, err)
	for range 2 {
		fatal(t, s.deleteMaterial(key, ""))
		s.wantState(key, types.KeyStatePendingImport)
	}
	s.mustImport(key, secret, until(c.now().Add(day)))
	s.wantState(key, types.KeyStateEnabled)

	_, err = client.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: &key})
	fatal(t, err)
	_, err = client.GetParametersForImport(ctx, &awskms.GetParametersForImportInput{KeyId: &key, WrappingAlgorithm: oaep1, WrappingKeySpec: "RSA_2048"})
	refusal(t, "pending deletion", err, "KMSInvalidStateException", key+" is pending deletion.")
	c.move(2 * day)
	s.due()
	s.wantState(key, types.KeyStatePendingDeletion)
	_, err = client.CancelKeyDeletion(ctx, &awskms.CancelKeyDeletionInput{KeyId: &key})
	fatal(t, err)
	s.wantState(key, types.KeyStatePendingImport) // its material expired meanwhile
	s.mustImport(key, secret)
	s.wantState(key, types.KeyStateDisabled)

	own := s.key("")
	refusal(t, "own key", s.deleteMaterial(own, ""), "UnsupportedOperationException", own+" origin is AWS_KMS which is not valid for this operation.")
}

// With the key go all of its materials.
func TestDeletionOfVersions(t *testing.T) {
	var c clock
	s := newService(t, c.into)
	key := s.key("")
	fatal(t, s.enableRotation(key, 90))
	fatal(t, s.rotate(key))
	_, err := s.adminClient().ScheduleKeyDeletion(t.Context(), &awskms.ScheduleKeyDeletionInput{KeyId: &key})
	fatal(t, err)
	c.move(31 * day)
	s.due()
	if n := s.rowsOf(key); n != 0 {
		t.Errorf("%d rows of material", n)
	}
	c.move(100 * day)
	s.due()
	if events := s.events("RotateKey"); len(events) != 0 {
		t.Errorf("events:\n%s", strings.Join(events, "\n"))
	}
}
