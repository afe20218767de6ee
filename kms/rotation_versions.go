// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"crypto/subtle"
	"fmt"
	"slices"
	"time"

	"github.com/cretula/cretula/kms/kmsapi"
)

// A versions is what a key record says of material that came one after another.
type versions struct {
	// Versions are all materials of the key in the order in which they came. It is
	// empty as long as there is only the first one of a key that was not imported:
	// see history.
	Versions []version `json:"versions,omitempty"`
	// Rotation is set while the key rotates by itself.
	Rotation *rotation `json:"rotation,omitempty"`
	// Suspended says of a key that is pending import that it was disabled: having
	// its material back does not enable it.
	Suspended bool `json:"suspended,omitempty"`
}

// A version is what the record of a key says of one of its materials.
type version struct {
	ID string `json:"id"`
	// Rotated is when it became the current one and Rotation how, AUTOMATIC or
	// ON_DEMAND; both are zero for the first and for one that is pending.
	Rotated  time.Time `json:"rotated,omitzero"`
	Rotation string    `json:"rotation,omitempty"`
	// Pending: imported to be rotated to, and not yet bound to the key.
	Pending bool `json:"pending,omitempty"`

	// Missing: imported once, but deleted or expired since.
	Missing bool `json:"missing,omitempty"`
	// Expires is when imported material expires, zero: never.
	Expires     time.Time `json:"expires,omitzero"`
	Description string    `json:"description,omitempty"`
}

func (v versions) clone() versions {
	v.Versions = slices.Clone(v.Versions)
	if v.Rotation != nil {
		copied := *v.Rotation
		v.Rotation = &copied
	}
	return v
}

// history returns a copy of all versions.
func (k *keyRecord) history() []version {
	if len(k.Versions) == 0 && k.Material != "" {
		return []version{{ID: k.Material}}
	}
	return slices.Clone(k.Versions)
}

// version returns the version with an id, nil if Versions has none.
func (k *keyRecord) version(id string) *version {
	for i := range k.Versions {
		if subtle.ConstantTimeCompare([]byte(k.Versions[i].ID), []byte(id)) == 1 {
			return &k.Versions[i]
		}
	}
	return nil
}

// pending returns the version that is there to be rotated to, nil if there is none.
func (k *keyRecord) pending() *version {
	for i := range k.Versions {
		if v := &k.Versions[i]; v.Pending && !v.Missing {
			return v
		}
	}
	return nil
}

// missing tells whether material is not there at present.
func (k *keyRecord) missing(id string) bool {
	v := k.version(id)
	return v != nil && v.Missing
}

// lapse makes a record that was read what it is at a time: material that has
// expired is missing from that moment, whether or not it was deleted already.
func (k *keyRecord) lapse(now time.Time) {
	for i := range k.Versions {
		if k.Versions[i].expired(now) {
			k.Versions[i].Missing = true
		}
	}
	k.settle()
}

func (v *version) expired(now time.Time) bool { return !v.Expires.IsZero() && !v.Expires.After(now) }

// settle gives a key of imported material the state that follows from what it has
// of it: it is pending import until everything that is bound to it is there
// (developer guide, "Delete imported key material"). Then it is enabled or, if it
// was disabled before, disabled.
func (k *keyRecord) settle() {
	if k.Origin != kmsapi.OriginExternal || k.Deletion != nil {
		return
	}
	lacks := k.Material == "" || slices.ContainsFunc(k.Versions, func(v version) bool { return v.Missing && !v.Pending })
	switch {
	case lacks && k.State != kmsapi.StatePendingImport:
		k.Suspended = k.State == kmsapi.StateDisabled
		k.State = kmsapi.StatePendingImport
	case lacks || k.State != kmsapi.StatePendingImport:
	case k.Suspended:
		k.State, k.Suspended = kmsapi.StateDisabled, false
	default:
		k.State = kmsapi.StateEnabled
	}
}

// expiration is what DescribeKey shows of imported material: nothing while some of
// it is missing. Where materials expire at several times, the first of them is
// shown: from then on the key cannot be used.
func (k *keyRecord) expiration() (model string, validTo *kmsapi.Timestamp) {
	if k.Origin != kmsapi.OriginExternal {
		return "", nil
	}
	var first time.Time
	for _, v := range k.Versions {
		switch {
		case v.Pending:
		case v.Missing:
			return "", nil
		case !v.Expires.IsZero() && (first.IsZero() || v.Expires.Before(first)):
			first = v.Expires
		}
	}
	switch {
	case k.Material == "":
		return "", nil
	case first.IsZero():
		return kmsapi.KeyMaterialDoesNotExpire, nil
	}
	return kmsapi.KeyMaterialExpires, timestamp(first.UnixMilli())
}

// rotationEntry is a version as ListKeyRotations shows it.
func (k *keyRecord) rotationEntry(v version) kmsapi.RotationsListEntry {
	e := kmsapi.RotationsListEntry{KeyId: k.ARN(), KeyMaterialId: v.ID, KeyMaterialState: kmsapi.MaterialNonCurrent, RotationType: v.Rotation}
	switch {
	case v.Pending:
		e.KeyMaterialState = kmsapi.MaterialPendingRotation
	case v.ID == k.Material:
		e.KeyMaterialState = kmsapi.MaterialCurrent
	}
	if !v.Rotated.IsZero() {
		e.RotationDate = timestamp(v.Rotated.UnixMilli())
	}
	if k.Origin != kmsapi.OriginExternal {
		return e
	}
	e.KeyMaterialDescription, e.ImportState = v.Description, kmsapi.PendingImport
	if v.Missing {
		return e
	}
	e.ImportState, e.ExpirationModel = kmsapi.Imported, kmsapi.KeyMaterialDoesNotExpire
	if !v.Expires.IsZero() {
		e.ExpirationModel, e.ValidTo = kmsapi.KeyMaterialExpires, timestamp(v.Expires.UnixMilli())
	}
	return e
}

// ordinal is the place of a version in a list, as a marker names it.
func ordinal(i int) string { return fmt.Sprintf("%06d", i) }
