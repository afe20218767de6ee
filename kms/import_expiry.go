// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"errors"
	"slices"

	"github.com/cretula/cretula/kms/ledger"
)

// deleteExpiredMaterial deletes imported material of a key that has expired, each
// with an event of its own. Nothing waits for it: see lapse.
func (s *Server) deleteExpiredMaterial(ctx context.Context, name keyName) error {
	for {
		err := s.deleteOneExpired(ctx, name)
		if errors.Is(err, errNoKey) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// deleteOneExpired returns errNoKey if no material of the key has expired.
func (s *Server) deleteOneExpired(ctx context.Context, name keyName) error {
	event, err := s.serviceEvent("DeleteExpiredKeyMaterial", name)
	if err != nil {
		return err
	}
	now := s.now()
	err = s.changeOwn(ctx, event, func(tx *ledger.Tx) error {
		k := new(key)
		if err := s.readRecord(tx, name, k); err != nil {
			return err
		}
		i := slices.IndexFunc(k.Versions, func(v version) bool { return v.expired(now) })
		if i < 0 {
			return errNoKey
		}
		event.RequestParameters = map[string]any{"keyId": k.ID}
		if k.symmetric() {
			event.RequestParameters["keyMaterialId"] = k.Versions[i].ID
		}
		if err := forget(tx, &k.keyRecord, &k.Versions[i]); err != nil {
			return err
		}
		return putRecord(tx, &k.keyRecord)
	})
	return err
}
