// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/cretula/cretula/kms/keyspec"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
)

// maxValidity is how far ahead imported material may expire.
const maxValidity = 365 * 24 * time.Hour

// importKeyMaterial gives a key material that was made elsewhere: its first, the
// same again, or new one to which the key can be rotated.
func (c *call) importKeyMaterial(k *key, in *kmsapi.ImportKeyMaterialInput) (*kmsapi.ImportKeyMaterialOutput, error) {
	expires, err := c.validTo(in)
	if err != nil {
		return nil, err
	}
	if err := checkImportType(k, in); err != nil {
		return nil, err
	}
	secret, err := c.openImport(k, in.ImportToken, in.EncryptedKeyMaterial)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	spec := keyspec.Lookup(k.Spec)
	if err := spec.Check(secret); err != nil {
		return nil, err
	}
	id, err := c.server.importedID(&k.keyRecord, spec, secret)
	if err != nil {
		return nil, err
	}
	if k.symmetric() {
		c.parameter("keyMaterialId", id)
	}
	if err := checkPlace(k, in, id); err != nil {
		return nil, err
	}
	err = c.changeKey(k, func(tx *ledger.Tx, record *keyRecord) error {
		if err := c.server.checkRelated(tx, record, id); err != nil {
			return err
		}
		if err := place(tx, record, id, expires, in.KeyMaterialDescription); err != nil {
			return err
		}
		return c.server.putMaterial(tx, record, materialVersion{id, secret})
	})
	if err != nil {
		return nil, err
	}
	return &kmsapi.ImportKeyMaterialOutput{KeyId: k.ARN(), KeyMaterialId: k.shown(id)}, nil
}

// validTo returns when the material is to expire, zero: never.
func (c *call) validTo(in *kmsapi.ImportKeyMaterialInput) (time.Time, error) {
	expires := valueOr(in.ExpirationModel, kmsapi.KeyMaterialExpires) == kmsapi.KeyMaterialExpires
	switch {
	case expires && in.ValidTo == nil:
		return time.Time{}, kmsapi.Errorf(kmsapi.Validation, "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES")
	case !expires && in.ValidTo != nil:
		return time.Time{}, kmsapi.Errorf(kmsapi.Validation, "A validTo date must not be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE")
	case !expires:
		return time.Time{}, nil
	}
	at := time.Time(*in.ValidTo).UTC().Truncate(time.Millisecond)
	if !at.After(c.now) || at.After(c.now.Add(maxValidity)) {
		return time.Time{}, kmsapi.Errorf(kmsapi.Validation, "The validTo date must be in the future, and at most 365 days from now.")
	}
	return at, nil
}

// checkImportType refuses members that are for keys of several materials only, or
// that contradict each other (API reference, ImportKeyMaterial).
func checkImportType(k *key, in *kmsapi.ImportKeyMaterialInput) error {
	if !k.symmetric() && (in.ImportType != nil || in.KeyMaterialDescription != nil || in.KeyMaterialId != nil) {
		return kmsapi.Errorf(kmsapi.UnsupportedOperation, "ImportType, KeyMaterialDescription and KeyMaterialId are for symmetric encryption keys only; %s has key spec %s.",
			k.ARN(), k.Spec)
	}
	if in.KeyMaterialId != nil && valueOr(in.ImportType, "") == kmsapi.ImportNewKeyMaterial {
		return kmsapi.Errorf(kmsapi.Validation, "KeyMaterialId cannot be specified if the ImportType is NEW_KEY_MATERIAL")
	}
	return nil
}

// labelMaterialID is what the key is derived by under which ids are computed.
const labelMaterialID = "kms/imported-material-id"

// importedID returns the id of imported material: a keyed digest of it and of the
// id of the key, so that the same material has the same id whenever it comes, and
// nobody learns from it what the material is or which keys share it. Two encodings
// of one key pair are the same material.
func (s *Server) importedID(k *keyRecord, spec *keyspec.Spec, secret []byte) (string, error) {
	derived, err := s.rootKey.Derive(labelMaterialID)
	if err != nil {
		return "", err
	}
	defer clear(derived)
	if spec.Asymmetric() {
		if secret, err = spec.PublicKey(secret); err != nil {
			return "", err
		}
	}
	h := hmac.New(sha256.New, derived)
	h.Write([]byte(k.Account + "/" + k.ID + "\x00"))
	h.Write(secret)
	return hex.EncodeToString(h.Sum(nil)), nil
}

// checkPlace tells whether material with that id may come to the key.
func checkPlace(k *key, in *kmsapi.ImportKeyMaterialInput, id string) error {
	kind := kmsapi.ImportExistingKeyMaterial
	first := len(k.Versions) == 0
	if first {
		kind = kmsapi.ImportNewKeyMaterial
	}
	known, pending := k.version(id), k.pending()
	isNew := valueOr(in.ImportType, kind) == kmsapi.ImportNewKeyMaterial
	switch {
	case in.KeyMaterialId != nil && !hmac.Equal([]byte(*in.KeyMaterialId), []byte(id)):
		return kmsapi.Errorf(kmsapi.IncorrectKeyMaterial, "The key material is not the one that KeyMaterialId names.")
	case !isNew && known == nil:
		return kmsapi.Errorf(kmsapi.IncorrectKeyMaterial, "The key material is not one that was imported into the key %s before.", k.ARN())
	case isNew && known != nil:
		return kmsapi.Errorf(kmsapi.IncorrectKeyMaterial, "The key material was imported into the key %s before. It is not new.", k.ARN())
	case isNew && pending != nil:
		return kmsapi.Errorf(kmsapi.KMSInvalidState, "New key material (id: %s) cannot be imported into KMS key %s, because another key material (id: %s) is pending rotation.",
			id, k.ARN(), pending.ID)
	case isNew && !first && k.multiRegion():
		return unsupported("rotation of multi-region keys with imported key material")
	}
	return nil
}

// checkRelated refuses first material of a multi-region key that is not the same
// as that of the related keys: what one encrypts, the others decrypt.
func (s *Server) checkRelated(tx *ledger.Tx, record *keyRecord, id string) error {
	if record.regions == nil {
		return nil
	}
	for _, region := range append([]string{record.regions.Primary}, record.regions.Replicas...) {
		if region == record.Region {
			continue
		}
		related := new(key)
		if err := s.readRecord(tx, record.name().in(region), related); err != nil {
			return err
		}
		if related.Material != "" && !hmac.Equal([]byte(related.Material), []byte(id)) {
			return kmsapi.Errorf(kmsapi.IncorrectKeyMaterial, "The key material is not that of the related key %s.", related.ARN())
		}
	}
	return nil
}

// place notes imported material in the record of its key.
func place(tx *ledger.Tx, record *keyRecord, id string, expires time.Time, description *string) error {
	if record.version(id) == nil {
		if err := dropPending(tx, record); err != nil {
			return err
		}
		record.Versions = append(record.Versions, version{ID: id, Pending: record.Material != ""})
		if record.Material == "" {
			record.Material = id
		}
	}
	v := record.version(id)
	if err := record.setExpiry(tx, v, expires); err != nil {
		return err
	}
	v.Missing, v.Description = false, valueOr(description, v.Description)
	record.settle()
	return nil
}

// dropPending forgets material that is pending rotation and has expired: it was
// never bound to the key.
func dropPending(tx *ledger.Tx, record *keyRecord) error {
	i := slices.IndexFunc(record.Versions, func(v version) bool { return v.Pending })
	if i < 0 {
		return nil
	}
	return forget(tx, record, &record.Versions[i])
}

// setExpiry has imported material expire at a time, zero: never.
func (k *keyRecord) setExpiry(tx *ledger.Tx, v *version, at time.Time) error {
	before := v.Expires
	v.Expires = at
	shared := slices.ContainsFunc(k.Versions, func(other version) bool { return other.Expires.Equal(before) })
	if !before.IsZero() && !shared {
		if err := deleteDue(tx, before, dueExpiry, k.rowID()); err != nil {
			return err
		}
	}
	if at.IsZero() {
		return nil
	}
	return putDue(tx, at, dueExpiry, k.rowID())
}

// forget deletes imported material. One that is pending rotation was not yet bound
// to the key and leaves it; the key waits for any other to come again.
func forget(tx *ledger.Tx, record *keyRecord, v *version) error {
	if err := tx.Delete(tableMaterial, record.rowID()+"/"+v.ID); err != nil && !errors.Is(err, keystore.ErrNotFound) {
		return err
	}
	if err := record.setExpiry(tx, v, time.Time{}); err != nil {
		return err
	}
	v.Missing = true
	if v.Pending {
		id := v.ID
		record.Versions = slices.DeleteFunc(record.Versions, func(v version) bool { return v.ID == id })
	}
	record.settle()
	return nil
}

// deleteImportedKeyMaterial deletes imported material: the current one, or that
// which the request names. Where there is none it has no effect (developer guide,
// "Key states").
func (c *call) deleteImportedKeyMaterial(k *key, in *kmsapi.DeleteImportedKeyMaterialInput) (*kmsapi.DeleteImportedKeyMaterialOutput, error) {
	if in.KeyMaterialId != nil && !k.symmetric() {
		return nil, kmsapi.Errorf(kmsapi.UnsupportedOperation, "KeyMaterialId is for symmetric encryption keys only; %s has key spec %s.", k.ARN(), k.Spec)
	}
	id := valueOr(in.KeyMaterialId, k.Material)
	if in.KeyMaterialId != nil && k.version(id) == nil {
		return nil, kmsapi.Errorf(kmsapi.NotFound, "Key material '%s' of the key %s does not exist", id, k.ARN())
	}
	out := &kmsapi.DeleteImportedKeyMaterialOutput{KeyId: k.ARN(), KeyMaterialId: k.shown(id)}
	if k.symmetric() && id != "" {
		c.parameter("keyMaterialId", id)
	}
	return out, c.changeKey(k, func(tx *ledger.Tx, record *keyRecord) error {
		v := record.version(id)
		if v == nil {
			return nil
		}
		return forget(tx, record, v)
	})
}
