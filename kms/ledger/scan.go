// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/cretula/cretula/kms/keystore"
)

// A Row is one row that Scan found.
type Row struct {
	ID      string
	Content []byte
	Version uint64
	// Err is a [TamperedError] if the row cannot be believed; Content and
	// Version are zero then.
	Err error
}

// Scan calls yield for each row of the table whose id begins with prefix, in
// ascending byte order of the ids, until yield returns false. Rows that were
// tampered with, added or removed are among them, each with its Err. If a part
// of the roster is wrong, rows that are there and would be listed by it have an
// Err; of those that are gone nobody knows, so Scan returns a [TamperedError]
// for that part after the last row.
//
// The first Scan of a table reads the whole roster; those that follow cost what
// they find, whatever else the store has.
func (t *Tx) Scan(table, prefix string, yield func(Row) bool) error {
	return t.scan(table, prefix, false, func(row keystore.Row, _ *cachedRow, err error) bool {
		if err != nil {
			return yield(Row{ID: row.ID, Err: err})
		}
		if t.memory || t.keepScans {
			row.Content = bytes.Clone(row.Content) // that one is shared
		}
		return yield(Row{ID: row.ID, Content: row.Content, Version: row.Version})
	})
}

// ScanFault returns the first error of [Tx.Scan], of a row or of the scan itself, for who
// wants to know no more.
func (t *Tx) ScanFault(table, prefix string) error {
	if t.memory { // which has no scan with a fault
		_, err := t.rememberedScan(table, prefix)
		return err
	}
	return t.scanFault(table, prefix)
}

func (t *Tx) scanFault(table, prefix string) (fault error) {
	err := t.Scan(table, prefix, func(row Row) bool {
		fault = row.Err
		return fault == nil
	})
	return cmp.Or(fault, err)
}

// ScanCached is [Tx.Scan] with what [GetCached] does for each of the rows. err is
// that of decode, or says that the row cannot be believed; value and version are
// zero then. It is for prefixes that are read often and have few rows.
func ScanCached[T any](t *Tx, table, prefix string, decode func(content []byte) (T, error),
	yield func(id string, value T, version uint64, err error) bool) error {
	return t.scan(table, prefix, true, func(row keystore.Row, c *cachedRow, err error) bool {
		var value T
		if err == nil {
			value, err = valueOf(c, decode)
		}
		if err != nil {
			return yield(row.ID, value, 0, err)
		}
		return yield(row.ID, value, row.Version, nil)
	})
}

// scan gives each row of the store's with its entry in the cache, or with an error.
// keep lets rows come into the cache.
func (t *Tx) scan(table, prefix string, keep bool, give func(keystore.Row, *cachedRow, error) bool) error {
	if err := checkName(table, "x"); err != nil {
		return err
	}
	if t.memory {
		rows, err := t.rememberedScan(table, prefix)
		for _, c := range rows {
			if !give(c.row, c, nil) {
				break
			}
		}
		return err
	}
	// The shards come first: within the store's Scan nothing else is read.
	x, bad, err := t.index(table)
	if err != nil {
		return err
	}
	s := scan{tx: t, table: table, expected: x.seek(prefix), bad: bad, keep: keep, yield: give}
	err = t.raw.Scan(table, prefix, s.row)
	if err = cmp.Or(err, s.err); err != nil || s.stopped {
		return err
	}
	for s.missingBefore("") {
	}
	if s.err != nil || s.stopped {
		return s.err
	}
	if t.keepScans && !s.faulty && len(bad) == 0 && len(s.found) <= maxScanRows {
		t.ledger.scans.put(rowName{table, prefix}, recentScan{rows: s.found, index: x, at: t.at})
	}
	return firstError(bad)
}

// A scan compares the rows of the store with those that the roster lists.
type scan struct {
	tx       *Tx
	table    string
	expected cursor
	bad      map[int]error // shards that cannot be believed
	keep     bool
	yield    func(keystore.Row, *cachedRow, error) bool
	stopped  bool
	err      error
	// found are the first rows that are kept for others; faulty says that
	// something is wrong with one.
	found  []*cachedRow
	faulty bool
}

func (s *scan) give(row keystore.Row, c *cachedRow, err error) bool {
	s.faulty = s.faulty || err != nil
	if s.tx.keepScans && err == nil && len(s.found) <= maxScanRows {
		s.found = append(s.found, c)
	}
	s.stopped = !s.yield(row, c, err)
	return !s.stopped
}

// missingBefore gives the next expected row, as one that was removed, if it comes
// before id or id is empty. It returns false if there is none, or at the end.
func (s *scan) missingBefore(id string) bool {
	l, ok := s.expected.peek()
	if !ok || id != "" && string(l.id) >= id {
		return false
	}
	s.expected.next()
	e, _, err := s.entry(l)
	if err != nil {
		s.err = err
		return false
	}
	row := keystore.Row{Table: s.table, ID: string(l.id)}
	return s.give(row, nil, tampered(s.table, row.ID, Removed, fmt.Sprintf("version %d", e.version)))
}

func (s *scan) entry(l listing) (entry, bool, error) {
	shard, err := s.tx.shard(int(l.shard))
	if err != nil {
		return entry{}, false, err
	}
	e, ok := shard.get(s.table, string(l.id))
	return e, ok, nil
}

// row takes one row of the store.
func (s *scan) row(row keystore.Row) bool {
	for s.missingBefore(row.ID) {
	}
	if s.stopped || s.err != nil {
		return false
	}
	var want entry
	l, listed := s.expected.peek()
	if listed = listed && string(l.id) == row.ID; listed {
		s.expected.next()
		if want, listed, s.err = s.entry(l); s.err != nil {
			return false
		}
	}
	c, err := s.checked(row, want, l.shard, listed)
	return s.give(row, c, err)
}

// checked returns the row as one that is verified, or what is wrong with it.
func (s *scan) checked(row keystore.Row, want entry, shard uint8, listed bool) (*cachedRow, error) {
	if !listed && len(s.bad) > 0 {
		if err := s.bad[s.tx.ledger.keys.shardOf(row.Table, row.ID)]; err != nil {
			return nil, rosterError(row.Table, row.ID, err)
		}
	}
	cache := &s.tx.ledger.cache
	if c := cache.get(rowName{row.Table, row.ID}); c != nil && listed && c.is(want) && c.holds(row) {
		return c, nil
	}
	if err := s.tx.check(row, want, listed); err != nil {
		return nil, err
	}
	c := &cachedRow{row: row, shard: int(shard)}
	if s.keep {
		cache.put(c)
	}
	return c, nil
}

// index returns the ids of the table that the roster lists as this transaction
// sees it, and the shards that could not be believed, whose ids are missing.
func (t *Tx) index(table string) (x *index, bad map[int]error, err error) {
	if x = t.state.indexOf(table); x == nil {
		if x, bad, err = t.newIndex(table); err != nil {
			return nil, nil, err
		}
		if len(bad) == 0 {
			t.state.keepIndex(table, x)
		}
	}
	return x.with(table, t.touched, t.lists), bad, nil
}

// lists tells whether the roster lists a row that this transaction has touched.
func (t *Tx) lists(row touch) bool {
	_, ok := t.changed[row.shard].find(row.table, row.id)
	return ok
}

// newIndex makes the index of the table for the state that the transaction began
// with.
func (t *Tx) newIndex(table string) (x *index, bad map[int]error, err error) {
	var all []listing
	for i := range shards {
		s, err := t.stored(i)
		if err != nil {
			if _, ok := errors.AsType[*TamperedError](err); !ok {
				return nil, nil, err
			}
			if bad == nil {
				bad = make(map[int]error)
			}
			bad[i] = err
			continue
		}
		first, _ := s.find(table, "")
		for j := first; j < s.len(); j++ {
			e := s.at(j)
			if string(e.table) != table {
				break
			}
			all = append(all, listing{e.id, uint8(i)})
		}
	}
	slices.SortFunc(all, func(a, b listing) int { return bytes.Compare(a.id, b.id) })
	return newIndex(all), bad, nil
}

func firstError(bad map[int]error) error {
	for i := range shards {
		if err := bad[i]; err != nil {
			return err
		}
	}
	return nil
}
