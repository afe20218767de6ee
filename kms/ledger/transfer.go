// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/rootkey"
)

// Generation returns the newest generation of the roster that was seen: it rises
// with each transaction that writes.
func (l *Ledger) Generation() uint64 { return l.state.Load().generation }

// A MovedError says that the store was given up for another one.
type MovedError struct {
	// To is the other one, as [Ledger.Move] was told.
	To string
}

// Error says where the store went.
func (e *MovedError) Error() string { return "this store has moved to " + e.To }

// maxMoved bounds To of a [MovedError] in bytes.
const maxMoved = 1024

// Export gives every row of the store, its own ones too, in ascending order of
// table and id, all of one snapshot. Before the first one the whole snapshot is
// verified; the error is a [TamperedError] for each row that is not as the ledger
// left it, joined. yield must not use the ledger.
func (l *Ledger) Export(ctx context.Context, yield func(keystore.Row) error) error {
	known := l.state.Load()
	return l.store.View(ctx, func(raw keystore.Tx) error {
		if err := l.verifyAll(raw, known); err != nil {
			return err
		}
		return eachRow(raw, yield)
	})
}

// verifyAll is [Ledger.Verify] within a transaction, its findings one error.
func (l *Ledger) verifyAll(raw keystore.Tx, known *state) error {
	v := verification{ledger: l, raw: raw, generation: known.generation}
	if err := v.run(); err != nil {
		return err
	}
	errs := make([]error, len(v.findings))
	for i, finding := range v.findings {
		errs[i] = finding
	}
	return errors.Join(errs...)
}

// IsRoster tells whether a table of the rows that Export gives is that of the
// roster, which differs where any other row does.
func IsRoster(table string) bool { return table == rosterTable }

func eachRow(raw keystore.Tx, yield func(keystore.Row) error) error {
	tables, err := raw.Tables()
	if err != nil {
		return err
	}
	for _, table := range tables {
		var failed error
		err := raw.Scan(table, "", func(row keystore.Row) bool {
			failed = yield(row)
			return failed == nil
		})
		if err := errors.Join(failed, err); err != nil {
			return err
		}
	}
	return nil
}

// Import puts rows that [Ledger.Export] gave into a store, in one transaction,
// and verifies them there; all must fit root. The error matches [ErrExists] if the
// store has rows, unless replace is given: then they make room, and before they do
// replace gets their ledger, if that can be opened. Before the transaction ends finish
// gets the new one. Each works until the function returns; where anything fails the
// store stays as it was.
func Import(ctx context.Context, store keystore.Store, root rootkey.Key, replace func(*Ledger),
	rows func(put func(keystore.Row) error) error, finish func(*Ledger) error) error {
	return store.Update(ctx, func(raw keystore.Tx) error {
		tables, err := raw.Tables()
		if err != nil {
			return err
		}
		if len(tables) > 0 && replace == nil {
			return ErrExists
		}
		if len(tables) > 0 {
			if old, err := Open(ctx, &within{tx: raw}, root); err == nil {
				replace(old)
			}
		}
		if err := deleteAll(raw, tables); err != nil {
			return err
		}
		if err := rows(raw.Put); err != nil {
			return err
		}
		within := &within{tx: raw}
		l, err := Open(ctx, within, root)
		if err != nil {
			return err
		}
		if err := l.verifyAll(raw, l.state.Load()); err != nil {
			return err
		}
		return errors.Join(finish(l), within.failed)
	})
}

func deleteAll(raw keystore.Tx, tables []string) error {
	for _, table := range tables {
		var ids []string
		err := raw.Scan(table, "", func(row keystore.Row) bool {
			ids = append(ids, row.ID)
			return true
		})
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := remove(raw, table, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// within is a store that is one transaction of another.
type within struct {
	tx keystore.Tx
	// failed is why an Update failed, whose writes then cannot be taken back
	// alone.
	failed error
}

// View implements [keystore.Store].
func (w *within) View(_ context.Context, fn func(keystore.Tx) error) error { return fn(w.tx) }

// Update implements [keystore.Store].
func (w *within) Update(_ context.Context, fn func(keystore.Tx) error) error {
	err := fn(w.tx)
	w.failed = errors.Join(w.failed, err)
	return err
}

// Close implements [keystore.Store].
func (w *within) Close() error { return nil }

// maxCopy is how long the store waits for a copy of it to be verified and committed.
const maxCopy = time.Hour

// Move gives the store up for another one. copy gets all rows, verified, as
// [Ledger.Export] gives them, and must make them durable in their new place. From
// the return of Move on every transaction of this store, of whichever process,
// fails with a [MovedError]; until then nobody else can write to it. If copy fails
// nothing is changed.
func (l *Ledger) Move(ctx context.Context, to string, copy func(rows func(yield func(keystore.Row) error) error) error) error {
	if to == "" || len(to) > maxMoved {
		return fmt.Errorf("ledger: a place of %d bytes, must be 1 to %d", len(to), maxMoved)
	}
	known := l.state.Load()
	return l.store.Update(ctx, func(raw keystore.Tx) error {
		if tx, ok := raw.(keystore.Lingerer); ok {
			if err := tx.Linger(maxCopy); err != nil {
				return err
			}
		}
		st, err := l.current(raw, known)
		if err != nil {
			return err
		}
		if err := l.verifyAll(raw, st); err != nil {
			return err
		}
		if err := copy(func(yield func(keystore.Row) error) error { return eachRow(raw, yield) }); err != nil {
			return err
		}
		// The root row has to do with every transaction, and with nothing else.
		row := st.root
		row.Version++
		row.Content = append(append([]byte{}, row.Content...), to...)
		row.MAC = rowMAC(l.keys.row, row)
		return raw.Put(row)
	})
}

// moved reads what Move has left in a root row that was verified.
func moved(row keystore.Row) error {
	if n := len(row.Content) - shards*macSize; n > 0 && n <= maxMoved {
		return &MovedError{To: string(row.Content[shards*macSize:])}
	}
	return nil
}
