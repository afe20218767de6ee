// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// A primary key rotates for all of its replicas, and whichever key is the primary
// key goes on with it.
func TestMultiRegionRotation(t *testing.T) {
	var c clock
	s := newService(t, c.into)
	ctx, here, there := t.Context(), s.adminClient(), s.client(s.admin, second)
	id := s.multiKey(second)
	var sealed [][]byte
	// check wants one material everywhere, which opens what every other one sealed.
	check := func(regions ...string) string {
		t.Helper()
		current := *s.describe(regions[0], id).CurrentKeyMaterialId
		out, err := s.client(s.admin, regions[0]).Encrypt(ctx, &awskms.EncryptInput{KeyId: &id, Plaintext: []byte("x")})
		fatal(t, err)
		sealed = append(sealed, out.CiphertextBlob)
		for _, r := range regions {
			if got := *s.describe(r, id).CurrentKeyMaterialId; got != current {
				t.Errorf("%s has material %s, not %s", r, got, current)
			}
			for i, blob := range sealed {
				opened, err := s.client(s.admin, r).Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: blob})
				fatal(t, err)
				if i == len(sealed)-1 && *opened.KeyMaterialId != current {
					t.Errorf("%s: sealed under %s", r, *opened.KeyMaterialId)
				}
			}
		}
		return current
	}
	status := func(at string) *awskms.GetKeyRotationStatusOutput {
		t.Helper()
		out, err := s.client(s.admin, at).GetKeyRotationStatus(ctx, &awskms.GetKeyRotationStatusInput{KeyId: &id})
		fatal(t, err)
		return out
	}
	materials := []string{check(region, second)}
	_, err := here.EnableKeyRotation(ctx, &awskms.EnableKeyRotationInput{KeyId: &id, RotationPeriodInDays: aws.Int32(90)})
	fatal(t, err)
	a, b := status(region), status(second)
	if !b.KeyRotationEnabled || *b.RotationPeriodInDays != 90 || !b.NextRotationDate.Equal(*a.NextRotationDate) {
		t.Errorf("%+v, %+v", a, b)
	}
	_, err = there.EnableKeyRotation(ctx, &awskms.EnableKeyRotationInput{KeyId: &id})
	wantCode(t, err, "UnsupportedOperationException")
	_, err = there.DisableKeyRotation(ctx, &awskms.DisableKeyRotationInput{KeyId: &id})
	wantCode(t, err, "UnsupportedOperationException")
	_, err = there.RotateKeyOnDemand(ctx, &awskms.RotateKeyOnDemandInput{KeyId: &id})
	wantCode(t, err, "UnsupportedOperationException")
	_, err = here.RotateKeyOnDemand(ctx, &awskms.RotateKeyOnDemandInput{KeyId: &id})
	fatal(t, err)
	materials = append(materials, check(region, second))
	fatal(t, s.replicate(s.admin, id, third)) // with all versions
	if check(region, second, third) != materials[1] || !status(third).KeyRotationEnabled {
		t.Error("a new replica has other material")
	}

	// The key in the other region leads from now on, and the former one is deleted.
	_, err = here.UpdatePrimaryRegion(ctx, &awskms.UpdatePrimaryRegionInput{KeyId: &id, PrimaryRegion: aws.String(second)})
	fatal(t, err)
	_, err = here.RotateKeyOnDemand(ctx, &awskms.RotateKeyOnDemandInput{KeyId: &id})
	wantCode(t, err, "UnsupportedOperationException")
	_, err = here.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: &id, PendingWindowInDays: aws.Int32(7)})
	fatal(t, err)
	c.move(8 * 24 * time.Hour)
	fatal(t, s.kms.DoDue(ctx))
	s.wantRegions(id, second, third)
	c.move(83 * 24 * time.Hour)
	fatal(t, s.kms.DoDue(ctx))
	materials = append(materials, check(second, third))
	if slices.Sort(materials); len(slices.Compact(materials)) != 3 {
		t.Errorf("materials %v", materials)
	}
	_, err = there.DisableKeyRotation(ctx, &awskms.DisableKeyRotationInput{KeyId: &id})
	fatal(t, err)
	if status(third).KeyRotationEnabled {
		t.Error("the replica goes on rotating")
	}
	var lists [2][]types.RotationsListEntry
	for i, r := range []string{second, third} {
		out, err := s.client(s.admin, r).ListKeyRotations(ctx, &awskms.ListKeyRotationsInput{KeyId: &id})
		fatal(t, err)
		lists[i] = out.Rotations
	}
	if len(lists[0]) != 2 || len(lists[1]) != 2 || *lists[0][1].KeyMaterialId != *lists[1][1].KeyMaterialId {
		t.Errorf("rotations %v, %v", lists[0], lists[1])
	}
}

// Imported material is imported in each region, the same in each.
func TestMultiRegionImport(t *testing.T) {
	s := newService(t)
	ctx := t.Context()
	id := s.replicated(s.make(types.KeySpecSymmetricDefault, "", multiRegion, func(in *awskms.CreateKeyInput) { in.Origin = types.OriginTypeExternal }))
	bring := func(to string, secret byte) error {
		t.Helper()
		client := s.client(s.admin, to)
		params, err := client.GetParametersForImport(ctx, &awskms.GetParametersForImportInput{KeyId: &id,
			WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa2048})
		fatal(t, err)
		public, err := x509.ParsePKIXPublicKey(params.PublicKey)
		fatal(t, err)
		wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), bytes.Repeat([]byte{secret}, 32), nil)
		fatal(t, err)
		_, err = client.ImportKeyMaterial(ctx, &awskms.ImportKeyMaterialInput{KeyId: &id, ImportToken: params.ImportToken,
			EncryptedKeyMaterial: wrapped, ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire})
		return err
	}
	fatal(t, bring(region, 1))
	fatal(t, s.replicate(s.admin, id, second))
	if m := s.describe(second, id); m.KeyState != types.KeyStatePendingImport || m.Origin != types.OriginTypeExternal || m.CurrentKeyMaterialId != nil {
		t.Errorf("%+v", m)
	}
	sealed := s.encrypt(id, "", nil)
	decrypt := func(at string) error {
		_, err := s.client(s.admin, at).Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: sealed})
		return err
	}
	refusal(t, "without material", decrypt(second), "KMSInvalidStateException", regionalARN(second, id)+" is pending import.")
	wantCode(t, bring(second, 2), "IncorrectKeyMaterialException")
	fatal(t, bring(second, 1))
	fatal(t, decrypt(second))
	if a, b := s.describe(region, id), s.describe(second, id); *a.CurrentKeyMaterialId != *b.CurrentKeyMaterialId {
		t.Errorf("materials %s and %s", *a.CurrentKeyMaterialId, *b.CurrentKeyMaterialId)
	}
	_, err := s.adminClient().DeleteImportedKeyMaterial(ctx, &awskms.DeleteImportedKeyMaterialInput{KeyId: &id})
	fatal(t, err)
	wantCode(t, decrypt(region), "KMSInvalidStateException")
	fatal(t, decrypt(second))
	_, err = s.adminClient().UpdatePrimaryRegion(ctx, &awskms.UpdatePrimaryRegionInput{KeyId: &id, PrimaryRegion: aws.String(second)})
	refusal(t, "pending import", err, "KMSInvalidStateException", regionalARN(region, id)+" is pending import.")
	s.wantRegions(id, region, second)
}
