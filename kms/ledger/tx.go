// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"crypto/hmac"
	"errors"
	"fmt"
	"strings"

	"github.com/cretula/cretula/kms/keystore"
)

// A Tx is one transaction. Like that of the store it is used by one goroutine,
// until its function returns, and not from within the function given to Scan.
type Tx struct {
	ledger   *Ledger
	raw      keystore.Tx
	state    *state
	writable bool
	// changed holds the shards that this transaction has written.
	changed map[int]*shard
	// touched are the rows that this transaction has written or deleted.
	touched []touch

	// at is an instant before the transaction began. If memory is set there is no
	// transaction of the store: all must come from memory, and at is when the oldest
	// of what was read was confirmed, the roster included; missed says that something
	// was not there, hits how many rows were.
	at             instant
	memory, missed bool
	hits           uint64
	// keepScans says that what scans find is kept for such a Tx.
	keepScans bool
}

func checkName(table, id string) error {
	if strings.HasPrefix(table, "_") {
		return fmt.Errorf("%w: table %q is the ledger's own", keystore.ErrInvalidRow, table)
	}
	return keystore.CheckName(table, id)
}

// shard returns a part of the roster as this transaction sees it.
func (t *Tx) shard(index int) (shard, error) {
	if s := t.changed[index]; s != nil {
		return *s, nil
	}
	return t.stored(index)
}

// stored returns a part of the roster as the transaction began with it.
func (t *Tx) stored(index int) (shard, error) {
	s, err := t.state.shard(t.ledger.keys, t.raw, index)
	t.ledger.keepLost(err)
	return s, err
}

// rosterError says of a row what is wrong with the shard that would list it.
func rosterError(table, id string, err error) error {
	if t, ok := errors.AsType[*TamperedError](err); ok {
		return tampered(table, id, RosterChanged, t.Error())
	}
	return err
}

// Get returns content and version of a row; the content is the caller's. The error
// matches [keystore.ErrNotFound] if it was never written or was deleted, or is a
// [TamperedError].
func (t *Tx) Get(table, id string) (content []byte, version uint64, err error) {
	c, err := t.verified(table, id)
	if err != nil {
		return nil, 0, err
	}
	return bytes.Clone(c.row.Content), c.row.Version, nil
}

// Version is [Tx.Get] for the version of a row alone.
func (t *Tx) Version(table, id string) (uint64, error) {
	c, err := t.verified(table, id)
	if err != nil {
		return 0, err
	}
	return c.row.Version, nil
}

// read returns a row of the store, verified, and the shard that lists it.
func (t *Tx) read(table, id string) (keystore.Row, int, error) {
	row, err := t.raw.Get(table, id)
	absent := errors.Is(err, keystore.ErrNotFound)
	if err != nil && !absent {
		return keystore.Row{}, 0, err
	}
	index := t.ledger.keys.shardOf(table, id)
	s, err := t.shard(index)
	if err != nil {
		return keystore.Row{}, 0, rosterError(table, id, err)
	}
	want, listed := s.get(table, id)
	switch {
	case absent && listed:
		return keystore.Row{}, 0, tampered(table, id, Removed, fmt.Sprintf("version %d", want.version))
	case absent:
		return keystore.Row{}, 0, keystore.ErrNotFound
	}
	return row, index, t.check(row, want, listed)
}

// check compares a row of the store with its entry in the roster.
func (t *Tx) check(row keystore.Row, want entry, listed bool) error {
	if !listed {
		return tampered(row.Table, row.ID, Added, "")
	}
	valid := validMAC(t.ledger.keys.row, row)
	switch {
	case valid && hmac.Equal(row.MAC, want.mac):
		return nil
	case valid:
		return tampered(row.Table, row.ID, RolledBack,
			fmt.Sprintf("version %d, the roster lists version %d", row.Version, want.version))
	}
	if from, ok := t.owner(row); ok {
		return tampered(row.Table, row.ID, Moved, fmt.Sprintf("it is row %q of table %q", from.id, from.table))
	}
	return tampered(row.Table, row.ID, Changed, "its MAC does not fit")
}

// owner looks for another row that the given one was copied from. It is asked
// only about rows that are known to be wrong.
func (t *Tx) owner(row keystore.Row) (entry, bool) {
	if len(row.MAC) != macSize {
		return entry{}, false
	}
	for i := range shards {
		s, err := t.shard(i)
		if err != nil {
			continue
		}
		for j := range s.len() {
			e := s.at(j)
			if !bytes.Equal(e.mac, row.MAC) || e.compare(row.Table, row.ID) == 0 {
				continue
			}
			original := row
			original.Table, original.ID = string(e.table), string(e.id)
			if validMAC(t.ledger.keys.row, original) {
				return e, true
			}
		}
	}
	return entry{}, false
}

// Put writes a row and returns its version: 1 for a new row, one more than
// before for one that is replaced. What it replaces need not be readable: a
// row that was tampered with is set right by writing it anew, unless the
// roster itself is wrong.
func (t *Tx) Put(table, id string, content []byte) (version uint64, err error) {
	if err := checkName(table, id); err != nil {
		return 0, err
	}
	if len(content) > MaxContent {
		return 0, fmt.Errorf("%w: %d bytes of content, at most %d", keystore.ErrInvalidRow, len(content), MaxContent)
	}
	index, s, err := t.writableShard(table, id)
	if err != nil {
		return 0, err
	}
	version = 1
	if e, exists := s.get(table, id); exists {
		version = e.version + 1
	}
	row := keystore.Row{Table: table, ID: id, Version: version, Content: bytes.Clone(content)}
	row.MAC = rowMAC(t.ledger.keys.row, row)
	if err := t.raw.Put(row); err != nil {
		return 0, err
	}
	s.put(table, id, version, row.MAC)
	t.touched = append(t.touched, touch{table, id, index})
	return version, nil
}

// Delete removes a row, also one that was tampered with or added. The error
// matches [keystore.ErrNotFound] if there is none. A row that is written again
// later begins at version 1.
func (t *Tx) Delete(table, id string) error {
	if err := checkName(table, id); err != nil {
		return err
	}
	index, s, err := t.writableShard(table, id)
	if err != nil {
		return err
	}
	i, listed := s.find(table, id)
	if listed {
		err = remove(t.raw, table, id)
	} else {
		err = t.raw.Delete(table, id)
	}
	if err != nil {
		return err
	}
	if listed {
		s.remove(i)
		t.touched = append(t.touched, touch{table, id, index})
	}
	return nil
}

// remove deletes a row of the store, if it is there.
func remove(raw keystore.Tx, table, id string) error {
	if r, ok := raw.(keystore.Remover); ok {
		return r.Remove(table, id)
	}
	if err := raw.Delete(table, id); !errors.Is(err, keystore.ErrNotFound) {
		return err
	}
	return nil
}

// writableShard returns a copy of the shard that lists the row, the
// transaction's own.
func (t *Tx) writableShard(table, id string) (int, *shard, error) {
	if !t.writable {
		return 0, nil, keystore.ErrReadOnly
	}
	index := t.ledger.keys.shardOf(table, id)
	if s := t.changed[index]; s != nil {
		return index, s, nil
	}
	s, err := t.shard(index)
	if err != nil {
		return 0, nil, rosterError(table, id, err)
	}
	if t.changed == nil {
		t.changed = make(map[int]*shard)
	}
	own := s.clone()
	t.changed[index] = &own
	return index, &own, nil
}

// writeRoster writes the shards that changed and the root row, and returns the
// state they make; nil if nothing changed.
func (t *Tx) writeRoster() (*state, error) {
	if len(t.changed) == 0 {
		return nil, nil
	}
	next, rows := t.state.next(t.ledger.keys, t.changed, t.touched)
	for _, row := range rows {
		if err := t.raw.Put(row); err != nil {
			return nil, err
		}
	}
	return next, nil
}
