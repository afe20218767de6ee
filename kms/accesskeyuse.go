// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/ledger"
)

// tableAccessKeyUse has the day of the last use of each access key. It is not in the
// row of the key: requests depend on that.
const tableAccessKeyUse = "access-key-use"

const dayForm = time.DateOnly

// keyDays has the days of use that are not yet in the store, by access key id.
type keyDays struct {
	mu      sync.Mutex
	pending map[string]string
	written map[string]string
	// today is the day that began at 86400 times its number, as Unix counts seconds.
	today  string
	number int64
}

// day returns the day of a time; the lock is held.
func (d *keyDays) day(at time.Time) string {
	if n := at.Unix() / 86400; d.today == "" || n != d.number {
		d.today, d.number = at.UTC().Format(dayForm), n
	}
	return d.today
}

// noteAccessKey remembers the day on which a long-term access key was used.
func (s *Server) noteAccessKey(id string, now time.Time) {
	if !strings.HasPrefix(id, accessKeyPrefix) {
		return
	}
	d := &s.keyDays
	d.mu.Lock()
	defer d.mu.Unlock()
	day := d.day(now)
	if d.written[id] >= day || d.pending[id] >= day {
		return
	}
	if d.pending == nil {
		d.pending = map[string]string{}
	}
	d.pending[id] = day
}

// writeKeyDays writes the pending days to the store.
func (s *Server) writeKeyDays(ctx context.Context) error {
	d := &s.keyDays
	d.mu.Lock()
	pending := d.pending
	d.pending = nil
	d.mu.Unlock()
	if len(pending) == 0 {
		return nil
	}
	err := s.ledger.Update(ctx, func(tx *ledger.Tx) error {
		for id, day := range pending {
			if _, _, err := tx.Get(tableAccessKey, id); err != nil {
				continue // deleted, or refused wherever it is used
			}
			before, _, err := tx.Get(tableAccessKeyUse, id)
			if err != nil && !errors.Is(err, keystore.ErrNotFound) && !IsTampered(err) {
				return err
			}
			if string(before) >= day {
				continue // another server was first
			}
			if _, err := tx.Put(tableAccessKeyUse, id, []byte(day)); err != nil {
				return err
			}
		}
		return nil
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		if d.pending == nil {
			d.pending = map[string]string{}
		}
		for id, day := range pending {
			d.pending[id] = max(d.pending[id], day)
		}
		return err
	}
	// Of earlier days nothing needs to be known.
	maps.DeleteFunc(d.written, func(id, _ string) bool { return pending[id] != "" })
	if d.written == nil || len(d.written) > maxKeyDays {
		d.written = map[string]string{}
	}
	maps.Copy(d.written, pending)
	return nil
}

// maxKeyDays bounds what is remembered as written.
const maxKeyDays = 1 << 14

// lastUsedDays returns the days of all keys, and those that are still to be written.
func (s *Server) lastUsedDays(tx *ledger.Tx) (map[string]string, error) {
	days := map[string]string{}
	err := tx.Scan(tableAccessKeyUse, "", func(row ledger.Row) bool {
		if row.Err == nil {
			days[row.ID] = string(row.Content)
		}
		return true
	})
	s.keyDays.mu.Lock()
	defer s.keyDays.mu.Unlock()
	for id, day := range s.keyDays.pending {
		days[id] = max(days[id], day)
	}
	return days, err
}
