// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cretula/cretula/kms/keyspec"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
)

const (
	// defaultRotationPeriod is in days.
	defaultRotationPeriod = 365
	// maxOnDemandRotations bounds the on-demand rotations of one key for ever.
	maxOnDemandRotations = 25
	// rotationDistance is how long before an automatic rotation there is no other
	// one (API reference, RotateKeyOnDemand, ConflictException).
	rotationDistance = 20 * time.Minute
)

// A rotation is how a key rotates by itself.
type rotation struct {
	Days int32     `json:"days"`
	Next time.Time `json:"next"`
}

func newRotation(now time.Time, days int32) *rotation {
	return &rotation{days, now.UTC().Add(time.Duration(days) * 24 * time.Hour).Truncate(time.Millisecond)}
}

// enableKeyRotation has a key rotate by itself from now on. A new period begins
// now; the same period as before changes nothing.
func (c *call) enableKeyRotation(k *key, in *kmsapi.EnableKeyRotationInput) (*kmsapi.EnableKeyRotationOutput, error) {
	if err := checkSymmetric(k); err != nil {
		return nil, err
	}
	if err := checkLeads(k); err != nil {
		return nil, err
	}
	days := valueOr(in.RotationPeriodInDays, defaultRotationPeriod)
	return new(kmsapi.EnableKeyRotationOutput), c.changeKey(k, func(tx *ledger.Tx, record *keyRecord) error {
		if record.Rotation != nil && record.Rotation.Days == days {
			return nil
		}
		if err := record.stopRotation(tx); err != nil {
			return err
		}
		record.Rotation = newRotation(c.now, days)
		if err := putDue(tx, record.Rotation.Next, dueRotation, record.rowID()); err != nil {
			return err
		}
		return c.server.synchronize(tx, record)
	})
}

// disableKeyRotation has a key rotate no more by itself.
func (c *call) disableKeyRotation(k *key, _ *kmsapi.DisableKeyRotationInput) (*kmsapi.DisableKeyRotationOutput, error) {
	if err := checkSymmetric(k); err != nil {
		return nil, err
	}
	if err := checkLeads(k); err != nil {
		return nil, err
	}
	return new(kmsapi.DisableKeyRotationOutput), c.changeKey(k, func(tx *ledger.Tx, record *keyRecord) error {
		if err := record.stopRotation(tx); err != nil {
			return err
		}
		return c.server.synchronize(tx, record)
	})
}

func (k *keyRecord) stopRotation(tx *ledger.Tx) error {
	if k.Rotation == nil {
		return nil
	}
	next := k.Rotation.Next
	k.Rotation = nil
	return deleteDue(tx, next, dueRotation, k.rowID())
}

// getKeyRotationStatus tells how a key rotates by itself. On-demand rotations are
// done at once: none is ever in progress. While a key is pending deletion its
// status is false (API reference, GetKeyRotationStatus).
func (c *call) getKeyRotationStatus(k *key, _ *kmsapi.GetKeyRotationStatusInput) (*kmsapi.GetKeyRotationStatusOutput, error) {
	out := &kmsapi.GetKeyRotationStatusOutput{KeyId: k.ARN()}
	if r := k.Rotation; r != nil && k.Deletion == nil {
		out.KeyRotationEnabled, out.RotationPeriodInDays, out.NextRotationDate = true, &r.Days, timestamp(r.Next.UnixMilli())
	}
	return out, nil
}

// checkSymmetric refuses a key that has one version of its material for ever. AWS
// says no more than the code.
func checkSymmetric(k *key) error {
	if !k.symmetric() {
		return &kmsapi.Error{Code: kmsapi.UnsupportedOperation}
	}
	return nil
}

func errOrigin(k *key) error {
	return kmsapi.Errorf(kmsapi.UnsupportedOperation, "%s origin is %s which is not valid for this operation.", k.ARN(), k.Origin)
}

// checkLeads refuses a replica, which rotates with its primary key (developer
// guide, "Rotating multi-Region keys").
func checkLeads(k *key) error {
	if k.regionType() == kmsapi.MultiRegionReplica {
		return kmsapi.Errorf(kmsapi.UnsupportedOperation, "%s is a multi-region replica key. Its rotation is that of the primary key.", k.ARN())
	}
	return nil
}

// rotateKeyOnDemand gives a key new current material: random, or what was imported
// for that.
func (c *call) rotateKeyOnDemand(k *key, _ *kmsapi.RotateKeyOnDemandInput) (*kmsapi.RotateKeyOnDemandOutput, error) {
	if err := c.checkOnDemand(k); err != nil {
		return nil, err
	}
	next := materialVersion{}
	if pending := k.pending(); pending != nil {
		next.id = pending.ID
	} else {
		var err error
		if next, err = c.server.nextMaterial(c.ctx, &k.keyRecord); err != nil {
			return nil, err
		}
		defer clear(next.secret)
	}
	c.parameter("previousKeyMaterialId", k.Material)
	c.parameter("currentKeyMaterialId", next.id)
	err := c.changeKey(k, func(tx *ledger.Tx, record *keyRecord) error {
		return c.server.rotate(tx, record, next, kmsapi.RotationOnDemand, c.now)
	})
	if err != nil {
		return nil, err
	}
	return &kmsapi.RotateKeyOnDemandOutput{KeyId: k.ARN()}, nil
}

func (c *call) checkOnDemand(k *key) error {
	if err := checkSymmetric(k); err != nil {
		return err
	}
	if err := checkLeads(k); err != nil {
		return err
	}
	done := 0
	for _, v := range k.Versions {
		if v.Rotation == kmsapi.RotationOnDemand {
			done++
		}
	}
	switch {
	case done >= maxOnDemandRotations:
		return kmsapi.Errorf(kmsapi.LimitExceeded, "The key %s was rotated on demand %d times, which is the limit.", k.ARN(), done)
	case k.Rotation != nil && k.Rotation.Next.Before(c.now.Add(rotationDistance)):
		return kmsapi.Errorf(kmsapi.Conflict, "An automatic rotation of the key %s is in progress or begins within the next 20 minutes.", k.ARN())
	case k.Origin == kmsapi.OriginExternal && k.pending() == nil:
		return kmsapi.Errorf(kmsapi.KMSInvalidState, "No available key material pending rotation for the key: %s.", k.ARN())
	}
	return nil
}

// nextMaterial makes the material to which a key rotates.
func (s *Server) nextMaterial(ctx context.Context, k *keyRecord) (materialVersion, error) {
	secret, err := s.newSecret(ctx, keyspec.Lookup(k.Spec))
	if err != nil {
		return materialVersion{}, err
	}
	return s.newMaterial(secret)
}

// rotate makes material the current one and writes it if it is new, in this region
// and those of replicas.
func (s *Server) rotate(tx *ledger.Tx, record *keyRecord, next materialVersion, kind string, now time.Time) error {
	if next.secret != nil {
		record.Versions = append(record.history(), version{ID: next.id})
		if err := s.putMaterial(tx, record, next); err != nil {
			return err
		}
	}
	v := record.version(next.id)
	v.Pending, v.Rotation, v.Rotated = false, kind, now.UTC().Truncate(time.Millisecond)
	record.Material = next.id
	return s.synchronize(tx, record)
}

// resumeRotation has a key that is enabled again rotate: at once where that became
// due while it was not enabled (API reference, GetKeyRotationStatus).
func (k *keyRecord) resumeRotation(tx *ledger.Tx, now time.Time) error {
	if k.Rotation == nil {
		return nil
	}
	next := k.Rotation.Next
	if next.Before(now) {
		next = now
	}
	return putDue(tx, next, dueRotation, k.rowID())
}

// rotateDueKey does an automatic rotation, with those of the replicas. However long
// it has been due, it is one rotation, and the next one is a period later. A key
// that is not enabled does not rotate.
func (s *Server) rotateDueKey(ctx context.Context, name keyName) error {
	event, err := s.serviceEvent("RotateKey", name)
	if err != nil {
		return err
	}
	primary, now := name.region, s.now()
	err = s.changeOwn(ctx, event, func(tx *ledger.Tx) error {
		k := new(key)
		if err := s.readRecord(tx, name, k); err != nil {
			return err
		}
		if k.regionType() == kmsapi.MultiRegionReplica {
			primary = k.regions.Primary
			return errNoKey
		}
		if k.Rotation == nil || k.Rotation.Next.After(now) || k.State != kmsapi.StateEnabled {
			return errNoKey // not due, or done already
		}
		next, err := s.nextMaterial(ctx, &k.keyRecord)
		if err != nil {
			return err
		}
		defer clear(next.secret)
		event.RequestParameters = map[string]any{"keyId": k.ID, "rotationType": kmsapi.RotationAutomatic,
			"previousKeyMaterialId": k.Material, "currentKeyMaterialId": next.id}
		k.Rotation = newRotation(now, k.Rotation.Days)
		if err := putDue(tx, k.Rotation.Next, dueRotation, k.rowID()); err != nil {
			return err
		}
		if err := s.rotate(tx, &k.keyRecord, next, kmsapi.RotationAutomatic, now); err != nil {
			return err
		}
		return putRecord(tx, &k.keyRecord)
	})
	switch {
	case primary != name.region: // which has become the primary key meanwhile
		return s.rotateDueKey(ctx, name.in(primary))
	case errors.Is(err, errNoKey):
		return nil
	}
	return err
}

// defaultRotationLimit is how many entries ListKeyRotations returns if it is not
// told.
const defaultRotationLimit = 100

// listKeyRotations lists the rotations of a key or, if asked, all of its material,
// in the order in which it came.
func (c *call) listKeyRotations(k *key, in *kmsapi.ListKeyRotationsInput) (*kmsapi.ListKeyRotationsOutput, error) {
	if err := checkSymmetric(k); err != nil {
		return nil, err
	}
	all := valueOr(in.IncludeKeyMaterial, kmsapi.RotationsOnly) == kmsapi.AllKeyMaterial
	history := slices.DeleteFunc(k.history(), func(v version) bool { return !all && v.Rotation == "" })
	names := make([]string, len(history))
	for i := range names {
		names[i] = ordinal(i)
	}
	names, next, err := c.page(names, defaultRotationLimit)
	if err != nil {
		return nil, err
	}
	out := &kmsapi.ListKeyRotationsOutput{NextMarker: next, Truncated: next != "", Rotations: kmsapi.List[kmsapi.RotationsListEntry]{}}
	for i, v := range history {
		if slices.Contains(names, ordinal(i)) {
			out.Rotations = append(out.Rotations, k.rotationEntry(v))
		}
	}
	return out, nil
}
