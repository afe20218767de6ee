// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"context"
	"crypto/hmac"
	"errors"
	"strings"

	"github.com/cretula/cretula/kms/keystore"
)

// Verify reads the whole store, nothing of it from memory, and returns how many
// rows it has, those of the ledger itself among them as in [Ledger.Export], and one
// [TamperedError] for each row that is not as the ledger left it; none if all is
// well. The error says why the store could not be read to its end.
func (l *Ledger) Verify(ctx context.Context) (rows int, findings []*TamperedError, err error) {
	known := l.state.Load()
	err = l.store.View(ctx, func(raw keystore.Tx) error {
		v := verification{ledger: l, raw: raw, generation: known.generation}
		err := v.run()
		rows, findings = v.rows, v.findings
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	return rows, findings, nil
}

// CheckRoster reads every part of the roster. The error is a [TamperedError] if a
// part is not as the ledger left it, which else would show only with the rows that
// the part lists.
func (l *Ledger) CheckRoster(ctx context.Context) error {
	return l.View(ctx, func(tx *Tx) error {
		for i := range shards {
			if _, err := tx.shard(i); err != nil {
				return err
			}
		}
		return nil
	})
}

type verification struct {
	ledger     *Ledger
	raw        keystore.Tx
	generation uint64
	rows       int
	findings   []*TamperedError
}

// note keeps err if it is a finding and returns it otherwise.
func (v *verification) note(err error) error {
	if t, ok := errors.AsType[*TamperedError](err); ok {
		v.findings = append(v.findings, t)
		return nil
	}
	return err
}

func (v *verification) run() error {
	if err := v.meta(); err != nil {
		return err
	}
	// Without known shards, so that each is read.
	st, err := v.ledger.current(v.raw, &state{generation: v.generation - 1})
	if err != nil {
		return v.note(err)
	}
	tx := &Tx{ledger: v.ledger, raw: v.raw, state: st}
	if err := v.roster(tx); err != nil {
		return err
	}
	tables, err := v.tables(tx)
	if err != nil {
		return err
	}
	for table := range tables {
		err := tx.Scan(table, "", func(row Row) bool {
			if t, ok := errors.AsType[*TamperedError](row.Err); !ok || t.What != Removed {
				v.rows++
			}
			err := v.note(row.Err)
			return err == nil
		})
		// What Scan returns of a shard, roster has noted.
		if _, ok := errors.AsType[*TamperedError](err); err != nil && !ok {
			return err
		}
	}
	return nil
}

// meta looks at the meta table. That row was verified when the ledger was
// opened; here it must still say the same.
func (v *verification) meta() error {
	found := false
	err := v.raw.Scan(metaTable, "", func(row keystore.Row) bool {
		v.rows++
		if row.ID != metaID {
			v.note(tampered(metaTable, row.ID, Added, ""))
			return true
		}
		found = true
		if !validMAC(v.ledger.keys.meta, row) || !hmac.Equal(row.MAC, v.ledger.metaMAC) {
			v.note(tampered(metaTable, metaID, Changed, "it is not the row that the ledger was opened with"))
		}
		return true
	})
	if err == nil && !found {
		v.note(tampered(metaTable, metaID, Removed, ""))
	}
	return err
}

// roster loads every shard and looks for rows that are no shards.
func (v *verification) roster(tx *Tx) error {
	ids := map[string]bool{rootID: true}
	for i := range shards {
		ids[shardID(i)] = true
		if _, err := tx.shard(i); err != nil {
			if err := v.note(err); err != nil {
				return err
			}
		}
	}
	return v.raw.Scan(rosterTable, "", func(row keystore.Row) bool {
		v.rows++
		if !ids[row.ID] {
			v.note(tampered(rosterTable, row.ID, Added, ""))
		}
		return true
	})
}

// tables returns the callers' tables: those in the store, and those that only
// the roster knows any more. Rows of tables that no ledger has are noted.
func (v *verification) tables(tx *Tx) (map[string]bool, error) {
	stored, err := v.raw.Tables()
	if err != nil {
		return nil, err
	}
	tables := make(map[string]bool)
	for _, table := range stored {
		if !strings.HasPrefix(table, "_") {
			tables[table] = true
			continue
		}
		if table == metaTable || table == rosterTable {
			continue
		}
		err := v.raw.Scan(table, "", func(row keystore.Row) bool {
			v.rows++
			v.note(tampered(table, row.ID, Added, ""))
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	for i := range shards {
		s, err := tx.shard(i)
		if err != nil {
			continue // noted by roster
		}
		for j := range s.len() {
			tables[string(s.at(j).table)] = true
		}
	}
	return tables, nil
}
