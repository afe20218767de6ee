// SPDX-License-Identifier: Apache-2.0

package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/cretula/cretula/kms/keystore"
	"go.etcd.io/bbolt"
)

// tablePrefix begins the name of each bucket that is a table.
const tablePrefix = "t:"

func bucketOf(table string) []byte { return []byte(tablePrefix + table) }

func tableOf(bucket []byte) (string, bool) {
	return strings.CutPrefix(string(bucket), tablePrefix)
}

// rowHeader is the length of the version and of the MAC's length.
const rowHeader = 9

func encodeRow(r keystore.Row) []byte {
	value := make([]byte, 0, rowHeader+len(r.MAC)+len(r.Content))
	value = binary.BigEndian.AppendUint64(value, r.Version)
	value = append(value, byte(len(r.MAC)))
	value = append(value, r.MAC...)
	return append(value, r.Content...)
}

func checkRow(id string, value []byte) error {
	if len(value) < rowHeader || len(value)-rowHeader < int(value[8]) {
		return fmt.Errorf("%w: row %q is cut off", keystore.ErrDamaged, id)
	}
	return nil
}

// decodeRow reads a row; its slices are copies.
func decodeRow(table, id string, value []byte) (keystore.Row, error) {
	if err := checkRow(id, value); err != nil {
		return keystore.Row{}, err
	}
	value = bytes.Clone(value)
	macEnd := rowHeader + int(value[8])
	return keystore.Row{
		Table:   table,
		ID:      id,
		Version: binary.BigEndian.Uint64(value),
		MAC:     value[rowHeader:macEnd:macEnd],
		Content: value[macEnd:],
	}, nil
}

// tx implements [keystore.Tx].
type tx struct {
	ctx      context.Context
	tx       *bbolt.Tx
	writable bool
	// busy is set while Scan calls its function, done when the transaction
	// has ended.
	busy, done bool
	// table and bucket are those of the last read: to find a bucket costs as
	// much as to find a row in it. A write ends that.
	table  string
	bucket *bbolt.Bucket
	// emptied are the tables that rows were deleted from.
	emptied map[string]bool
}

func (t *tx) end() { t.done = true }

// do runs one operation on the open transaction.
func (t *tx) do(write bool, f func() error) error {
	switch {
	case t.done || t.busy:
		return keystore.ErrTxDone
	case write && !t.writable:
		return keystore.ErrReadOnly
	}
	if err := t.ctx.Err(); err != nil {
		return err
	}
	if write {
		t.table, t.bucket = "", nil
	}
	return guard(f)
}

// value returns the encoded row, a part of the file; nil if it is not there.
func (t *tx) value(table, id string) []byte {
	if t.table != table {
		t.table, t.bucket = table, t.tx.Bucket(bucketOf(table))
	}
	if t.bucket == nil {
		return nil
	}
	return t.bucket.Get([]byte(id))
}

// Get implements [keystore.Tx].
func (t *tx) Get(table, id string) (row keystore.Row, err error) {
	if err := keystore.CheckName(table, id); err != nil {
		return keystore.Row{}, err
	}
	err = t.do(false, func() error {
		value := t.value(table, id)
		if value == nil {
			return keystore.ErrNotFound
		}
		row, err = decodeRow(table, id, value)
		return err
	})
	return row, err
}

// Holds implements [keystore.Tx].
func (t *tx) Holds(row keystore.Row) (same bool, err error) {
	if err := keystore.CheckName(row.Table, row.ID); err != nil {
		return false, err
	}
	err = t.do(false, func() error {
		value := t.value(row.Table, row.ID)
		if value == nil {
			return nil
		}
		if err := checkRow(row.ID, value); err != nil {
			return err
		}
		macEnd := rowHeader + int(value[8])
		same = binary.BigEndian.Uint64(value) == row.Version &&
			bytes.Equal(value[rowHeader:macEnd], row.MAC) && bytes.Equal(value[macEnd:], row.Content)
		return nil
	})
	return same, err
}

// Put implements [keystore.Tx].
func (t *tx) Put(row keystore.Row) error {
	if err := row.Check(); err != nil {
		return err
	}
	return t.do(true, func() error {
		bucket, err := t.tx.CreateBucketIfNotExists(bucketOf(row.Table))
		if err != nil {
			return err
		}
		return bucket.Put([]byte(row.ID), encodeRow(row))
	})
}

// Delete implements [keystore.Tx].
func (t *tx) Delete(table, id string) error {
	if err := keystore.CheckName(table, id); err != nil {
		return err
	}
	return t.do(true, func() error {
		bucket := t.tx.Bucket(bucketOf(table))
		if bucket == nil || bucket.Get([]byte(id)) == nil {
			return keystore.ErrNotFound
		}
		if t.emptied == nil {
			t.emptied = make(map[string]bool)
		}
		t.emptied[table] = true
		return bucket.Delete([]byte(id))
	})
}

// deleteEmpty deletes the buckets that have no row any more. To look is for the end
// of the transaction: until then the pages stay whose rows were deleted, and a
// cursor goes through all of them.
func (t *tx) deleteEmpty() error {
	return t.do(true, func() error {
		for table := range t.emptied {
			bucket := t.tx.Bucket(bucketOf(table))
			if first, _ := bucket.Cursor().First(); first != nil {
				continue
			}
			if err := t.tx.DeleteBucket(bucketOf(table)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Scan implements [keystore.Tx].
func (t *tx) Scan(table, prefix string, yield func(keystore.Row) bool) error {
	if err := keystore.CheckTable(table); err != nil {
		return err
	}
	var cursor *bbolt.Cursor
	var row keystore.Row
	seek := []byte(prefix)
	// Each step is guarded by itself, so that a panic of yield stays one.
	step := func() error {
		if cursor == nil {
			bucket := t.tx.Bucket(bucketOf(table))
			if bucket == nil {
				return keystore.ErrNotFound
			}
			cursor = bucket.Cursor()
		}
		id, value := cursor.Seek(seek)
		if id == nil || !strings.HasPrefix(string(id), prefix) {
			return keystore.ErrNotFound
		}
		// The next id in byte order begins with this one and a zero byte.
		seek = append(append(seek[:0], id...), 0)
		var err error
		row, err = decodeRow(table, string(id), value)
		return err
	}
	for {
		switch err := t.do(false, step); {
		case errors.Is(err, keystore.ErrNotFound):
			return nil
		case err != nil:
			return err
		}
		if !t.yield(yield, row) {
			return nil
		}
	}
}

func (t *tx) yield(f func(keystore.Row) bool, row keystore.Row) bool {
	t.busy = true
	defer func() { t.busy = false }()
	return f(row)
}

// Tables implements [keystore.Tx].
func (t *tx) Tables() (tables []string, err error) {
	err = t.do(false, func() error {
		return t.tx.ForEach(func(name []byte, bucket *bbolt.Bucket) error {
			table, ok := tableOf(name)
			if !ok {
				return nil
			}
			if first, _ := bucket.Cursor().First(); first != nil {
				tables = append(tables, table)
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return tables, nil
}
