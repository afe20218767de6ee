// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"crypto/hmac"
	"errors"
	"fmt"
	"slices"
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
	changed map[int]shard
}

// A Row is one row that Scan found.
type Row struct {
	ID      string
	Content []byte
	Version uint64
	// Err is a [TamperedError] if the row cannot be believed; Content and
	// Version are zero then.
	Err error
}

func checkName(table, id string) error {
	if strings.HasPrefix(table, "_") {
		return fmt.Errorf("%w: table %q is the ledger's own", keystore.ErrInvalidRow, table)
	}
	return keystore.CheckName(table, id)
}

// shard returns a part of the roster as this transaction sees it.
func (t *Tx) shard(index int) (shard, error) {
	if s, ok := t.changed[index]; ok {
		return s, nil
	}
	return t.state.shard(t.ledger.keys, t.raw, index)
}

// listed returns the roster's entry of the row.
func (t *Tx) listed(table, id string) (e entry, ok bool, err error) {
	s, err := t.shard(t.ledger.keys.shardOf(table, id))
	if err != nil {
		return entry{}, false, rosterError(table, id, err)
	}
	e, ok = s.get(table, id)
	return e, ok, nil
}

// rosterError says of a row what is wrong with the shard that would list it.
func rosterError(table, id string, err error) error {
	if t, ok := errors.AsType[*TamperedError](err); ok {
		return tampered(table, id, RosterChanged, t.Error())
	}
	return err
}

// Get returns content and version of a row. The error matches
// [keystore.ErrNotFound] if it was never written or was deleted, or is a
// [TamperedError].
func (t *Tx) Get(table, id string) (content []byte, version uint64, err error) {
	if err := checkName(table, id); err != nil {
		return nil, 0, err
	}
	row, err := t.raw.Get(table, id)
	absent := errors.Is(err, keystore.ErrNotFound)
	if err != nil && !absent {
		return nil, 0, err
	}
	want, listed, err := t.listed(table, id)
	switch {
	case err != nil:
		return nil, 0, err
	case absent && listed:
		return nil, 0, tampered(table, id, Removed, fmt.Sprintf("version %d", want.version))
	case absent:
		return nil, 0, keystore.ErrNotFound
	}
	if err := t.check(row, want, listed); err != nil {
		return nil, 0, err
	}
	return row.Content, row.Version, nil
}

// check compares a row of the store with its entry in the roster.
func (t *Tx) check(row keystore.Row, want entry, listed bool) error {
	if !listed {
		return tampered(row.Table, row.ID, Added, "")
	}
	valid := validMAC(t.ledger.keys.row, row)
	switch {
	case valid && hmac.Equal(row.MAC, want.mac[:]):
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
	wanted := mac(row.MAC)
	for i := range shards {
		s, err := t.shard(i)
		if err != nil {
			continue
		}
		for _, e := range s {
			if e.mac != wanted || e.table == row.Table && e.id == row.ID {
				continue
			}
			original := row
			original.Table, original.ID = e.table, e.id
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
	i, exists := s.find(table, id)
	version = 1
	if exists {
		version = s[i].version + 1
	}
	row := keystore.Row{Table: table, ID: id, Version: version, Content: bytes.Clone(content)}
	row.MAC = rowMAC(t.ledger.keys.row, row)
	if err := t.raw.Put(row); err != nil {
		return 0, err
	}
	e := entry{table: table, id: id, version: version, mac: mac(row.MAC)}
	if exists {
		s[i] = e
	} else {
		s = slices.Insert(s, i, e)
	}
	t.changed[index] = s
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
	err = t.raw.Delete(table, id)
	if errors.Is(err, keystore.ErrNotFound) && listed {
		err = nil
	}
	if err != nil {
		return err
	}
	if listed {
		t.changed[index] = slices.Delete(s, i, i+1)
	}
	return nil
}

// writableShard returns a copy of the shard that lists the row, the
// transaction's own.
func (t *Tx) writableShard(table, id string) (int, shard, error) {
	if !t.writable {
		return 0, nil, keystore.ErrReadOnly
	}
	index := t.ledger.keys.shardOf(table, id)
	s, err := t.shard(index)
	if err != nil {
		return 0, nil, rosterError(table, id, err)
	}
	if t.changed == nil {
		t.changed = make(map[int]shard)
	}
	if _, ok := t.changed[index]; !ok {
		s = slices.Clone(s)
		t.changed[index] = s
	}
	return index, s, nil
}

// writeRoster writes the shards that changed and the root row, and returns the
// state they make; nil if nothing changed.
func (t *Tx) writeRoster() (*state, error) {
	if len(t.changed) == 0 {
		return nil, nil
	}
	next, rows := t.state.next(t.ledger.keys, t.changed)
	for _, row := range rows {
		if err := t.raw.Put(row); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// Scan calls yield for each row of the table whose id begins with prefix, in
// ascending byte order of the ids, until yield returns false. Rows that were
// tampered with, added or removed are among them, each with its Err. If a part
// of the roster is wrong, rows that are there and would be listed by it have an
// Err; of those that are gone nobody knows, so Scan returns a [TamperedError]
// for that part after the last row.
func (t *Tx) Scan(table, prefix string, yield func(Row) bool) error {
	if err := checkName(table, "x"); err != nil {
		return err
	}
	// The shards come first: within the store's Scan nothing else is read.
	expected, bad, err := t.expected(table, prefix)
	if err != nil {
		return err
	}
	stopped := false
	give := func(r Row) bool {
		stopped = !yield(r)
		return !stopped
	}
	giveMissing := func(e entry) bool {
		return give(Row{ID: e.id, Err: tampered(table, e.id, Removed, fmt.Sprintf("version %d", e.version))})
	}
	err = t.raw.Scan(table, prefix, func(row keystore.Row) bool {
		for len(expected) > 0 && expected[0].id < row.ID {
			if !giveMissing(expected[0]) {
				return false
			}
			expected = expected[1:]
		}
		var want entry
		listed := len(expected) > 0 && expected[0].id == row.ID
		if listed {
			want, expected = expected[0], expected[1:]
		}
		return give(t.checked(row, want, listed, bad))
	})
	if err != nil || stopped {
		return err
	}
	for _, e := range expected {
		if !giveMissing(e) {
			return nil
		}
	}
	return firstError(bad)
}

// checked returns what Scan says about one row of the store.
func (t *Tx) checked(row keystore.Row, want entry, listed bool, bad map[int]error) Row {
	if !listed {
		if err := bad[t.ledger.keys.shardOf(row.Table, row.ID)]; err != nil {
			return Row{ID: row.ID, Err: rosterError(row.Table, row.ID, err)}
		}
	}
	if err := t.check(row, want, listed); err != nil {
		return Row{ID: row.ID, Err: err}
	}
	return Row{ID: row.ID, Content: row.Content, Version: row.Version}
}

// expected returns the entries of the table in ascending order of the ids, and
// the shards that could not be believed.
func (t *Tx) expected(table, prefix string) (entries []entry, bad map[int]error, err error) {
	bad = make(map[int]error)
	for i := range shards {
		s, err := t.shard(i)
		if err != nil {
			if _, ok := errors.AsType[*TamperedError](err); !ok {
				return nil, nil, err
			}
			bad[i] = err
			continue
		}
		first, _ := s.find(table, prefix)
		for _, e := range s[first:] {
			if e.table != table || !strings.HasPrefix(e.id, prefix) {
				break
			}
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.id, b.id) })
	return entries, bad, nil
}

func firstError(bad map[int]error) error {
	for i := range shards {
		if err := bad[i]; err != nil {
			return err
		}
	}
	return nil
}
