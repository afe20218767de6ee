// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
)

// The waiting time before a key is deleted, in days.
const (
	minPendingWindow     = 7
	maxPendingWindow     = 30
	defaultPendingWindow = 30
)

// enableKey allows the use of a key again.
func (c *call) enableKey(k *key, _ *kmsapi.EnableKeyInput) (*kmsapi.EnableKeyOutput, error) {
	return new(kmsapi.EnableKeyOutput), c.setState(k, kmsapi.StateEnabled)
}

// disableKey stops the use of a key.
func (c *call) disableKey(k *key, _ *kmsapi.DisableKeyInput) (*kmsapi.DisableKeyOutput, error) {
	return new(kmsapi.DisableKeyOutput), c.setState(k, kmsapi.StateDisabled)
}

func (c *call) setState(k *key, state string) error {
	return c.changeKey(k, func(tx *ledger.Tx, record *keyRecord) error {
		record.State = state
		if state != kmsapi.StateEnabled {
			return nil
		}
		return record.resumeRotation(tx, c.now)
	})
}

// updateKeyDescription replaces the description of a key.
func (c *call) updateKeyDescription(k *key, in *kmsapi.UpdateKeyDescriptionInput) (*kmsapi.UpdateKeyDescriptionOutput, error) {
	return new(kmsapi.UpdateKeyDescriptionOutput), c.changeKey(k, func(_ *ledger.Tx, record *keyRecord) error {
		record.Description = *in.Description
		return nil
	})
}

// listKeyPolicies lists the names of the policies of a key: each has one.
func (c *call) listKeyPolicies(_ *key, _ *kmsapi.ListKeyPoliciesInput) (*kmsapi.ListKeyPoliciesOutput, error) {
	names, next, err := c.page([]string{kmsapi.DefaultPolicy}, 1)
	if err != nil {
		return nil, err
	}
	return &kmsapi.ListKeyPoliciesOutput{PolicyNames: names, NextMarker: next, Truncated: next != ""}, nil
}

// scheduleKeyDeletion has a key deleted after a waiting time in which it cannot be
// used.
func (c *call) scheduleKeyDeletion(k *key, in *kmsapi.ScheduleKeyDeletionInput) (*kmsapi.ScheduleKeyDeletionOutput, error) {
	days := valueOr(in.PendingWindowInDays, defaultPendingWindow)
	if days < minPendingWindow || days > maxPendingWindow {
		return nil, kmsapi.Errorf(kmsapi.Validation, "PendingWindowInDays must be between %d and %d (inclusive).", minPendingWindow, maxPendingWindow)
	}
	out := &kmsapi.ScheduleKeyDeletionOutput{KeyId: k.ARN(), KeyState: kmsapi.StatePendingDeletion, PendingWindowInDays: days}
	scheduled := newDeletion(c.now, days)
	if k.hasReplicas() { // its time begins when they are deleted
		out.KeyState, scheduled = kmsapi.StatePendingReplicaDeletion, &deletion{Days: days}
	} else {
		out.DeletionDate = timestamp(scheduled.Due.UnixMilli())
	}
	c.event.respond("keyState", out.KeyState)
	c.event.respond("pendingWindowInDays", days)
	if out.DeletionDate != nil {
		c.event.respond("deletionDate", scheduled.Due.UTC().Format(dueForm))
	}
	return out, c.changeKey(k, func(tx *ledger.Tx, record *keyRecord) error {
		record.State, record.Deletion = out.KeyState, scheduled
		if scheduled.waiting() {
			return nil
		}
		return putDue(tx, scheduled.Due, dueDeletion, record.rowID())
	})
}

// cancelKeyDeletion takes back a scheduled deletion. The key is disabled then.
func (c *call) cancelKeyDeletion(k *key, _ *kmsapi.CancelKeyDeletionInput) (*kmsapi.CancelKeyDeletionOutput, error) {
	if k.Deletion == nil {
		return nil, kmsapi.Errorf(kmsapi.KMSInvalidState, "%s is not pending deletion.", k.ARN())
	}
	err := c.changeKey(k, func(tx *ledger.Tx, record *keyRecord) error {
		due := record.Deletion.Due
		record.State, record.Deletion = kmsapi.StateDisabled, nil
		return deleteDue(tx, due, dueDeletion, record.rowID())
	})
	if err != nil {
		return nil, err
	}
	return &kmsapi.CancelKeyDeletionOutput{KeyId: k.ARN()}, nil
}
