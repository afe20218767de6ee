// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/policy"
)

// A keyUse is the content of a row of the table "key-use": the last use of a key
// by an operation that uses its material.
type keyUse struct {
	Operation string    `json:"operation"`
	Time      time.Time `json:"time"`
	Request   string    `json:"request"`
	Event     string    `json:"event,omitempty"`
}

// uses has the uses that are not yet in the store. The audit log has them all:
// what is lost with the process is only how soon GetKeyLastUsage shows them.
type uses struct {
	mu      sync.Mutex
	pending map[string]*keyUse // by row of the key
}

// noteUse remembers the use of the keys of a request that has succeeded.
func (c *call) noteUse() {
	if c.op.Usage == "" || len(c.used) == 0 {
		return
	}
	for _, row := range c.used {
		c.server.uses.note(row, keyUse{c.op.Name, c.now.UTC(), c.event.RequestID, c.event.EventID})
	}
}

// note remembers the use of the key of a row, unless a later one is known.
func (u *uses) note(row string, use keyUse) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.pending == nil {
		u.pending = map[string]*keyUse{}
	}
	known := u.pending[row]
	if known == nil {
		known = new(keyUse)
		u.pending[row] = known
	}
	if !known.Time.After(use.Time) {
		*known = use
	}
}

// writeUses writes the pending uses to the store.
func (s *Server) writeUses(ctx context.Context) error {
	s.uses.mu.Lock()
	pending := s.uses.pending
	s.uses.pending = nil
	s.uses.mu.Unlock()
	if len(pending) == 0 {
		return nil
	}
	err := s.ledger.Update(ctx, func(tx *ledger.Tx) error {
		for row, use := range pending {
			if _, _, err := tx.Get(tableKey, row); err != nil {
				continue // deleted, or refused wherever it is used
			}
			before, _, err := readUse(tx, row)
			if err != nil && !IsTampered(err) {
				return err
			}
			if before.Time.After(use.Time) {
				continue // another server has used it since
			}
			if err := putJSON(tx, tableUse, row, use); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		for row, use := range pending {
			s.uses.note(row, *use)
		}
	}
	return err
}

// usageCondition adds kms:TrailingDaysWithoutKeyUsage for the two operations that have
// it: the whole days since the key was used last or, if it never was, since it was
// made. Source: AWS KMS Developer Guide, "AWS KMS condition keys".
func (c *call) usageCondition(m policy.Context, k *key) error {
	if c.op.Name != "DisableKey" && c.op.Name != "ScheduleKeyDeletion" {
		return nil
	}
	use, known, err := c.server.lastUse(c.ctx, k.rowID())
	if err != nil {
		return err
	}
	since := k.Created
	if known {
		since = use.Time
	}
	days := max(0, c.now.Sub(since)/(24*time.Hour))
	m["kms:trailingdayswithoutkeyusage"] = policy.Values{strconv.FormatInt(int64(days), 10)}
	return nil
}

// getKeyLastUsage tells when a key was used last. KeyId is its id, as in KeyMetadata.
func (c *call) getKeyLastUsage(k *key, _ *kmsapi.GetKeyLastUsageInput) (*kmsapi.GetKeyLastUsageOutput, error) {
	use, known, err := c.server.lastUse(c.ctx, k.rowID())
	if err != nil {
		return nil, err
	}
	out := &kmsapi.GetKeyLastUsageOutput{
		KeyId: k.ID, TrackingStartDate: kmsapi.Timestamp(k.Created), KeyCreationDate: kmsapi.Timestamp(k.Created),
	}
	if known {
		out.KeyLastUsage = kmsapi.KeyLastUsageData{
			Operation: use.Operation, Timestamp: timestamp(use.Time.UnixMilli()), CloudTrailEventId: use.Event, KmsRequestId: use.Request,
		}
	}
	return out, nil
}

// lastUse returns the last use of the key of a row, as far as this server knows.
func (s *Server) lastUse(ctx context.Context, row string) (use keyUse, known bool, err error) {
	err = s.ledger.View(ctx, func(tx *ledger.Tx) error {
		use, known, err = readUse(tx, row)
		return err
	})
	if err != nil {
		return keyUse{}, false, err
	}
	s.uses.mu.Lock()
	defer s.uses.mu.Unlock()
	if pending, ok := s.uses.pending[row]; ok && !use.Time.After(pending.Time) {
		return *pending, true, nil
	}
	return use, known, nil
}

func readUse(tx *ledger.Tx, row string) (use keyUse, known bool, err error) {
	content, _, err := tx.Get(tableUse, row)
	if errors.Is(err, keystore.ErrNotFound) {
		return keyUse{}, false, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &use)
	}
	return use, err == nil, err
}
