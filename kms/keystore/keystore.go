// SPDX-License-Identifier: Apache-2.0

// Package keystore is the seam between the key service and the database that
// keeps its rows. A [Store] is dumb: it keeps what it is given, knows no
// meaning of a table and checks no MAC; package ledger does. Package bolt is
// the embedded store, package keystoretest the one suite that every store must
// pass.
package keystore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of a row. [Row.Check] enforces them.
const (
	MaxTable   = 64      // bytes of a table's name
	MaxID      = 1024    // bytes of an id
	MaxContent = 1 << 26 // bytes of a content
	MaxMAC     = 64      // bytes of a MAC
	// MaxVersion is the highest version: that of a signed 64-bit column.
	MaxVersion = math.MaxInt64
)

// Errors of stores. They are matched with [errors.Is].
var (
	// ErrNotFound: the row is not there.
	ErrNotFound = errors.New("keystore: no such row")
	// ErrInUse: another process owns the store.
	ErrInUse = errors.New("store is in use by another process")
	// ErrNewerVersion: a later version of this program wrote the store.
	// Nothing was changed.
	ErrNewerVersion = errors.New("store was written by a newer version of this program")
	// ErrDamaged: the store cannot be read. Nothing was changed.
	ErrDamaged = errors.New("store is damaged")
	// ErrFailed: an earlier write failed in such a way that what the store
	// holds is unknown until it has been opened again.
	ErrFailed = errors.New("store failed and must be opened again")
	// ErrUnavailable: the database that keeps the store cannot be reached, or
	// does not answer in time. Nothing was changed, unless the error matches
	// ErrFailed too. The store works again when the database does.
	ErrUnavailable = errors.New("store cannot be reached")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("keystore: store is closed")
	// ErrReadOnly: Put or Delete within View.
	ErrReadOnly = errors.New("keystore: write in a read-only transaction")
	// ErrTxDone: a transaction used after its function returned, or used from
	// within the function given to its Scan.
	ErrTxDone = errors.New("keystore: transaction is not usable here")
	// ErrInvalidRow: a row or a name that breaks a limit.
	ErrInvalidRow = errors.New("keystore: invalid row")
)

// A Row is what a store keeps. Table and ID name it. A store returns an empty
// Content or MAC as nil or as empty, as it likes.
type Row struct {
	Table   string
	ID      string
	Version uint64
	Content []byte
	MAC     []byte
}

// Check reports whether the row is within the limits: Table is 1 to
// [MaxTable] bytes of a-z, 0-9, '-' and '_'; ID is 1 to [MaxID] bytes of
// UTF-8 without NUL; the other members as the constants say. The error
// matches [ErrInvalidRow].
func (r Row) Check() error {
	if err := CheckName(r.Table, r.ID); err != nil {
		return err
	}
	switch {
	case r.Version > MaxVersion:
		return fmt.Errorf("%w: version %d", ErrInvalidRow, r.Version)
	case len(r.Content) > MaxContent:
		return fmt.Errorf("%w: %d bytes of content, at most %d", ErrInvalidRow, len(r.Content), MaxContent)
	case len(r.MAC) > MaxMAC:
		return fmt.Errorf("%w: %d bytes of MAC, at most %d", ErrInvalidRow, len(r.MAC), MaxMAC)
	}
	return nil
}

// CheckName reports whether table and id are names that a row may have.
func CheckName(table, id string) error {
	if err := CheckTable(table); err != nil {
		return err
	}
	if id == "" || len(id) > MaxID {
		return fmt.Errorf("%w: id of %d bytes, must be 1 to %d", ErrInvalidRow, len(id), MaxID)
	}
	if strings.IndexByte(id, 0) >= 0 || !utf8.ValidString(id) {
		return fmt.Errorf("%w: id %q is not UTF-8 without NUL", ErrInvalidRow, id)
	}
	return nil
}

// CheckTable reports whether table is a name that a table may have.
func CheckTable(table string) error {
	if table == "" || len(table) > MaxTable {
		return fmt.Errorf("%w: table name of %d bytes, must be 1 to %d", ErrInvalidRow, len(table), MaxTable)
	}
	for _, c := range []byte(table) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return fmt.Errorf("%w: table name %q", ErrInvalidRow, table)
		}
	}
	return nil
}

// A Tx is one transaction. It is used by one goroutine, until the function
// that got it returns, and not from within the function given to Scan: there
// and later every method returns [ErrTxDone].
type Tx interface {
	// Get returns the row, or an error that matches [ErrNotFound]. Its slices
	// are the caller's.
	Get(table, id string) (Row, error)
	// Holds reports whether the store has just this row, whether Get would
	// return one that is equal to it in every member. It copies nothing, for
	// a row that is known and read again and again.
	Holds(Row) (bool, error)
	// Put adds the row or replaces the one of the same table and id.
	Put(Row) error
	// Delete removes the row; [ErrNotFound] if it is not there.
	Delete(table, id string) error
	// Scan calls yield for each row of the table whose id begins with prefix,
	// in ascending byte order of the ids, until yield returns false. It sees
	// the writes of its own transaction. A table without rows is empty, not
	// an error.
	Scan(table, prefix string, yield func(Row) bool) error
	// Tables returns the names of the tables that have rows, in ascending
	// order.
	Tables() ([]string, error)
}

// A Store keeps rows. It is safe for concurrent use.
type Store interface {
	// View calls fn with a consistent snapshot: it sees every Update that
	// returned before View was called and no part of one that ended later.
	View(ctx context.Context, fn func(Tx) error) error
	// Update calls fn with a transaction that no other Update overlaps. If fn
	// returns nil and ctx has not ended, all of its writes are durable when
	// Update returns nil. If Update returns an error none of its writes is
	// visible to later transactions, unless the error or those of the later
	// transactions match [ErrFailed].
	//
	// fn must not call View or Update of the same store.
	Update(ctx context.Context, fn func(Tx) error) error
	// Close waits for open transactions and ends the store. Later calls of
	// View and Update return [ErrClosed]; a second Close returns nil.
	Close() error
}

// A Watcher is a Store that other processes write too, and that can tell of it.
type Watcher interface {
	Store
	// Watch calls changed, from one goroutine, once it listens and then soon after
	// each Update of any process that wrote, until ctx ends or its connection is
	// lost, and returns why. Calls may be lost or made for nothing: who must be
	// sure looks for himself.
	Watch(ctx context.Context, changed func()) error
}

// A Lingerer is a Tx of a Store that ends transactions in which nothing happens for
// too long.
type Lingerer interface {
	Tx
	// Linger lets this one transaction do nothing for as long as d at a time, for who
	// waits for something else meanwhile. Others wait for as long where it writes.
	Linger(d time.Duration) error
}

// A Remover is a Tx of a Store that is asked over a network.
type Remover interface {
	Tx
	// Remove is Delete for who does not ask whether the row is there, of many rows:
	// nobody waits for the answer to each.
	Remove(table, id string) error
}
