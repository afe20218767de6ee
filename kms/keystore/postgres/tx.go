// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"strconv"
	"time"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/jackc/pgx/v5"
)

const (
	getSQL = `select version, content, mac from cretula.rows where tbl = $1 and id = $2`
	// A digest in place of the content: it is read where it lies, and neither
	// comes nor goes over the network.
	holdsSQL = `select exists (select from cretula.rows where tbl = $1 and id = $2 and version = $3 and mac = $4
		and octet_length(content) = $5 and sha256(content) = $6)`
	putSQL = `insert into cretula.rows (tbl, id, version, content, mac) values ($1, $2, $3, $4, $5)
		on conflict (tbl, id) do update set version = excluded.version, content = excluded.content, mac = excluded.mac`
	lingerSQL = `select set_config('idle_in_transaction_session_timeout', $1, true)`
	deleteSQL = `delete from cretula.rows where tbl = $1 and id = $2`
	// A part of a scan: up to $4 rows, and no more than $5 bytes but for the
	// last row. count says how many rows the bytes were not counted of.
	scanSQL = `select version, content, mac, id, count from (
			select *, count(*) over (), sum(octet_length(content)) over (order by id) - octet_length(content) as before from (
				select id, version, content, mac from cretula.rows where tbl = $1 and id >= $2 and id < $3 order by id limit $4
			) part
		) counted where before < $5 order by id`
	// One look into the index for each table, whatever it holds.
	tablesSQL = `with recursive names as (
			(select tbl from cretula.rows order by tbl limit 1)
			union all
			select (select r.tbl from cretula.rows r where r.tbl > names.tbl order by r.tbl limit 1) from names where names.tbl is not null
		) select tbl from names where tbl is not null`
)

// Bounds of the parts of a scan, and of what waits to be sent.
const (
	scanRows   = 256
	scanBytes  = 4 << 20
	maxPending = 1 << 20 // bytes
)

// tx implements [keystore.Tx].
type tx struct {
	ctx      context.Context
	store    *Store
	conn     *pgx.Conn
	writable bool
	// busy is set while Scan calls its function, done when the transaction
	// has ended.
	busy, done bool
	// pending are the rows of Put that are still to be sent: with the next
	// statement that needs an answer, or with the commit.
	pending     *pgx.Batch
	pendingSize int
	wrote       bool
	// err is the first error of the database. After it the server takes no
	// statement of the transaction any more.
	err error
}

func (t *tx) end() { t.done = true }

// usable reports why no operation is possible.
func (t *tx) usable(write bool) error {
	switch {
	case t.done || t.busy:
		return keystore.ErrTxDone
	case write && !t.writable:
		return keystore.ErrReadOnly
	case t.err != nil:
		return t.err
	}
	return t.ctx.Err()
}

// send sends the statements and waits for the answers.
func (t *tx) send(batch *pgx.Batch) error {
	ctx, cancel := context.WithTimeout(t.ctx, t.store.limits.answer())
	defer cancel()
	err := t.conn.SendBatch(ctx, batch).Close()
	t.err = t.store.translate(t.ctx, err)
	return t.err
}

// query sends what is pending and one statement, in one round trip. scan is called
// for each row of the answer.
func (t *tx) query(scan func(pgx.Rows) error, sql string, args ...any) error {
	batch := t.take()
	batch.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	return t.send(batch)
}

// Get implements [keystore.Tx].
func (t *tx) Get(table, id string) (keystore.Row, error) {
	if err := keystore.CheckName(table, id); err != nil {
		return keystore.Row{}, err
	}
	if err := t.usable(false); err != nil {
		return keystore.Row{}, err
	}
	row, found := keystore.Row{Table: table, ID: id}, false
	err := t.query(func(rows pgx.Rows) error {
		found = true
		return scanRow(rows, &row)
	}, getSQL, table, []byte(id))
	switch {
	case err != nil:
		return keystore.Row{}, err
	case !found:
		return keystore.Row{}, keystore.ErrNotFound
	}
	return row, nil
}

// scanRow reads version, content and MAC into row, and what follows into more.
func scanRow(rows pgx.Rows, row *keystore.Row, more ...any) error {
	var version int64
	if err := rows.Scan(append([]any{&version, &row.Content, &row.MAC}, more...)...); err != nil {
		return err
	}
	row.Version = uint64(version)
	if version < 0 || len(row.Content) > keystore.MaxContent || len(row.MAC) > keystore.MaxMAC {
		return fmt.Errorf("%w: a row of table %q is over the limits", keystore.ErrDamaged, row.Table)
	}
	return nil
}

// Holds implements [keystore.Tx].
func (t *tx) Holds(row keystore.Row) (same bool, err error) {
	if err := keystore.CheckName(row.Table, row.ID); err != nil {
		return false, err
	}
	if err := t.usable(false); err != nil || row.Check() != nil {
		return false, err
	}
	digest := sha256.Sum256(row.Content)
	err = t.query(func(rows pgx.Rows) error { return rows.Scan(&same) }, holdsSQL,
		row.Table, []byte(row.ID), int64(row.Version), notNull(row.MAC), int32(len(row.Content)), digest[:])
	return same, err
}

// notNull returns b, which SQL would take for NULL if it were nil.
func notNull(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Put implements [keystore.Tx].
func (t *tx) Put(row keystore.Row) error {
	if err := row.Check(); err != nil {
		return err
	}
	if err := t.usable(true); err != nil {
		return err
	}
	// The slices are the caller's and may change before they are sent.
	return t.later(len(row.ID)+len(row.Content), putSQL, row.Table, []byte(row.ID), int64(row.Version),
		notNull(bytes.Clone(row.Content)), notNull(bytes.Clone(row.MAC)))
}

// later has a statement that writes wait for others.
func (t *tx) later(size int, sql string, args ...any) error {
	if t.pending == nil {
		t.pending = new(pgx.Batch)
	}
	t.pending.Queue(sql, args...)
	t.wrote = true
	t.pendingSize += size
	if t.pendingSize > maxPending {
		return t.send(t.take())
	}
	return nil
}

// Remove implements [keystore.Remover].
func (t *tx) Remove(table, id string) error {
	if err := keystore.CheckName(table, id); err != nil {
		return err
	}
	if err := t.usable(true); err != nil {
		return err
	}
	return t.later(len(id), deleteSQL, table, []byte(id))
}

// Delete implements [keystore.Tx].
func (t *tx) Delete(table, id string) error {
	if err := keystore.CheckName(table, id); err != nil {
		return err
	}
	if err := t.usable(true); err != nil {
		return err
	}
	found := false
	err := t.query(func(pgx.Rows) error { found = true; return nil }, deleteSQL+" returning true", table, []byte(id))
	switch {
	case err != nil:
		return err
	case !found:
		return keystore.ErrNotFound
	}
	t.wrote = true
	return nil
}

// Scan implements [keystore.Tx]. It reads in parts, each of which is in memory
// before the function gets its rows: however long that takes, no statement runs.
func (t *tx) Scan(table, prefix string, yield func(keystore.Row) bool) error {
	if err := keystore.CheckTable(table); err != nil {
		return err
	}
	from, to := []byte(prefix), after(prefix)
	for {
		if err := t.usable(false); err != nil {
			return err
		}
		var part []keystore.Row
		var count int64
		err := t.query(func(rows pgx.Rows) error {
			row := keystore.Row{Table: table}
			var id []byte
			if err := scanRow(rows, &row, &id, &count); err != nil {
				return err
			}
			row.ID = string(id)
			part = append(part, row)
			return nil
		}, scanSQL, table, from, to, scanRows, scanBytes)
		if err != nil {
			return err
		}
		for _, row := range part {
			if !t.yield(yield, row) {
				return nil
			}
		}
		if len(part) < scanRows && int64(len(part)) == count {
			return nil
		}
		// The next id in byte order begins with the last one and a zero byte.
		from = append([]byte(part[len(part)-1].ID), 0)
	}
}

// after returns what comes after all ids that begin with prefix. No id begins
// with, or has, the byte 0xff, which UTF-8 does not know.
func after(prefix string) []byte {
	end := []byte(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] != 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return []byte{0xff}
}

func (t *tx) yield(f func(keystore.Row) bool, row keystore.Row) bool {
	t.busy = true
	defer func() { t.busy = false }()
	return f(row)
}

// Tables implements [keystore.Tx].
func (t *tx) Tables() ([]string, error) {
	if err := t.usable(false); err != nil {
		return nil, err
	}
	var tables []string
	err := t.query(func(rows pgx.Rows) error {
		var table string
		if err := rows.Scan(&table); err != nil {
			return err
		}
		tables = append(tables, table)
		return nil
	}, tablesSQL)
	if err != nil {
		return nil, err
	}
	return tables, nil
}

// Linger implements [keystore.Lingerer]. A machine that is gone is noticed as soon as
// ever: that does not depend on it.
func (t *tx) Linger(d time.Duration) error {
	if err := t.usable(false); err != nil {
		return err
	}
	limit := strconv.FormatInt(max(1, d.Milliseconds()), 10) // 0 would be no limit
	return t.query(func(pgx.Rows) error { return nil }, lingerSQL, limit)
}
