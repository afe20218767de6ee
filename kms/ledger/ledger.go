// SPDX-License-Identifier: Apache-2.0

// Package ledger binds the rows of a [keystore.Store] to a root key, so that
// who can write the store but does not hold the key gains nothing by it.
//
// Every row carries an HMAC-SHA256 over its table, id, version and content.
// That alone would not notice a row that is removed or replaced by an older
// one, so a roster lists every row with its version and MAC: 256 shards, chosen
// by a keyed hash of table and id, and above them one root row with the MACs
// of all shards and a generation that rises with each transaction that writes.
// A change therefore rewrites its rows, their shards and the root row, and a
// row is believed if the roster lists just this MAC.
//
// What does not fit is a [TamperedError], which names the row. It fails the
// reads of that row; a shard that does not fit fails those of the rows it
// lists, the root row those of all. The one thing that rows cannot show is a
// store that was put back as a whole, every row of it, while no process had it
// open; while one has, the generation shows that too, and nothing of the store is
// believed any more: see [Ledger.RolledBack].
//
// The store may be one that other processes write too. Each transaction reads the
// root row and compares it with the one it has in memory, so verified shards stay
// in memory only as long as they are current. Rows that are read often are kept
// too, see [GetCached]; each time, the store's bytes are compared with those that
// were verified. [Ledger.ViewRecent] alone does so not each time but once a second:
// what was done to the store by hand, or by another process, it may see a second
// late.
package ledger

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/rootkey"
)

// MaxContent is the largest content of a row, in bytes.
const MaxContent = 1 << 20

// Tables and ids of the ledger's own rows. Tables of callers do not begin with
// an underscore.
const (
	metaTable   = "_meta"
	metaID      = "meta"
	rosterTable = "_roster"
	rootID      = "root"
)

var (
	// ErrEmpty: Open of a store that has no ledger, and no rows, in it.
	ErrEmpty = errors.New("ledger: the store is empty")
	// ErrExists: Create on a store that is not empty.
	ErrExists = errors.New("ledger: the store is not empty")
	// ErrWrongRootKey: the store is bound to another root key.
	ErrWrongRootKey = errors.New("ledger: the store belongs to another root key")
)

// Meta is what is fixed for ever when a store is made.
type Meta struct {
	// Emulated says that the store is for documents of emulators' roots. One
	// that is not is a production store: it refuses every root but AWS's.
	Emulated bool
	// Account is the AWS account number of the store's keys.
	Account string
}

// metaContent is the content of the meta row.
type metaContent struct {
	Schema  string `json:"schema"`
	StoreID string `json:"store_id"`
	RootKey string `json:"root_key"`
	Kind    string `json:"kind"`
	Account string `json:"account"`
}

const (
	metaSchema     = "cretula.ledger.v1"
	kindEmulated   = "emulated"
	kindProduction = "production"
)

// A Ledger is an open store whose rows are bound to a root key. It is safe for
// concurrent use.
type Ledger struct {
	store keystore.Store
	keys  keys
	meta  Meta
	id    string
	// metaMAC is that of the meta row when the ledger was opened.
	metaMAC []byte
	// state is the newest roster that is known to be in the store.
	state atomic.Pointer[state]
	// lost is that the store went back behind what was seen of it. It may go
	// forward again, on another way, so it is never believed again.
	lost  atomic.Pointer[TamperedError]
	cache rowCache
	scans recentScans
	// remembered and missed are counted for CacheStats.
	remembered, missed atomic.Uint64
	// now is the clock, opened what it showed first.
	now    func() time.Time
	opened time.Time
}

// Create binds the empty store to root. The error matches [ErrExists] if the
// store has any row. Closing the store stays the caller's business.
func Create(ctx context.Context, store keystore.Store, root rootkey.Key, meta Meta) (*Ledger, error) {
	content := metaContent{
		Schema: metaSchema, RootKey: root.ID(), Kind: kindProduction, Account: meta.Account,
	}
	if meta.Emulated {
		content.Kind = kindEmulated
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return nil, err
	}
	content.StoreID = hex.EncodeToString(id)
	encoded, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	metaKey, err := deriveMetaKey(root)
	if err != nil {
		return nil, err
	}
	keys, err := deriveKeys(root, content.StoreID)
	if err != nil {
		return nil, err
	}
	rosterRoot := new(state).rootRow(keys)
	err = store.Update(ctx, func(tx keystore.Tx) error {
		tables, err := tx.Tables()
		if err != nil {
			return err
		}
		if len(tables) > 0 {
			return ErrExists
		}
		row := keystore.Row{Table: metaTable, ID: metaID, Version: 1, Content: encoded}
		row.MAC = rowMAC(metaKey, row)
		if err := tx.Put(row); err != nil {
			return err
		}
		return tx.Put(rosterRoot)
	})
	if err != nil {
		return nil, err
	}
	return Open(ctx, store, root)
}

// Open opens the ledger in store. The error matches [ErrEmpty] if Create is
// still to be called, [ErrWrongRootKey], or is a [TamperedError] if the meta
// row or the root row of the roster does not fit.
func Open(ctx context.Context, store keystore.Store, root rootkey.Key) (*Ledger, error) {
	l := &Ledger{store: store, now: clock, opened: clock()}
	err := store.View(ctx, func(tx keystore.Tx) error {
		row, content, err := readMeta(tx, root)
		if err != nil {
			return err
		}
		l.metaMAC = row.MAC
		l.meta = Meta{Emulated: content.Kind == kindEmulated, Account: content.Account}
		l.id = content.StoreID
		if l.keys, err = deriveKeys(root, content.StoreID); err != nil {
			return err
		}
		st, err := l.current(tx, nil)
		if err != nil {
			return err
		}
		l.install(st)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

func readMeta(tx keystore.Tx, root rootkey.Key) (row keystore.Row, content metaContent, err error) {
	row, err = tx.Get(metaTable, metaID)
	if errors.Is(err, keystore.ErrNotFound) {
		tables, err := tx.Tables()
		switch {
		case err != nil:
			return row, content, err
		case len(tables) == 0:
			return row, content, ErrEmpty
		}
		return row, content, tampered(metaTable, metaID, Removed, "")
	}
	if err != nil {
		return row, content, err
	}
	content, err = checkMeta(row, root)
	return row, content, err
}

func checkMeta(row keystore.Row, root rootkey.Key) (metaContent, error) {
	var content metaContent
	// Not yet believed: it only says which of two refusals is the right one.
	jsonErr := json.Unmarshal(row.Content, &content)
	if jsonErr == nil && content.RootKey != root.ID() {
		return metaContent{}, fmt.Errorf("%w: it needs %q, given was %q",
			ErrWrongRootKey, clip(content.RootKey), root.ID())
	}
	key, err := deriveMetaKey(root)
	if err != nil {
		return metaContent{}, err
	}
	if !validMAC(key, row) {
		return metaContent{}, tampered(metaTable, metaID, Changed, "its MAC is not of this root key")
	}
	switch {
	case jsonErr != nil:
		return metaContent{}, fmt.Errorf("ledger: meta row: %w", jsonErr)
	case content.Schema != metaSchema:
		return metaContent{}, fmt.Errorf("%w: ledger schema %q", keystore.ErrNewerVersion, content.Schema)
	case content.Kind != kindEmulated && content.Kind != kindProduction:
		return metaContent{}, fmt.Errorf("ledger: store kind %q", content.Kind)
	}
	return content, nil
}

// clip bounds what an error repeats of unverified text.
func clip(s string) string { return s[:min(len(s), 64)] }

// Meta returns what was fixed when the store was made.
func (l *Ledger) Meta() Meta { return l.meta }

// StoreID returns the random name of the store, 32 lower-case hexadecimal
// digits, which is part of what every row is bound to.
func (l *Ledger) StoreID() string { return l.id }

// View calls fn with a consistent snapshot; see [keystore.Store].
func (l *Ledger) View(ctx context.Context, fn func(*Tx) error) error { return l.view(ctx, false, fn) }

// view is View, which keeps what scans find if that is asked for.
func (l *Ledger) view(ctx context.Context, keepScans bool, fn func(*Tx) error) error {
	// Both before the snapshot is taken, so the snapshot cannot be older.
	at, known := l.instant(), l.state.Load()
	return l.store.View(ctx, func(raw keystore.Tx) error {
		st, err := l.current(raw, known)
		if err != nil {
			return err
		}
		st.confirmed.confirm(at)
		l.install(st)
		return fn(&Tx{ledger: l, raw: raw, state: st, at: at, keepScans: keepScans})
	})
}

// Update calls fn with a transaction that no other overlaps. If fn returns nil
// its writes, all or none of them, are durable when Update returns nil. fn must
// not call View or Update.
func (l *Ledger) Update(ctx context.Context, fn func(*Tx) error) error {
	at, known := l.instant(), l.state.Load()
	var next *state
	err := l.store.Update(ctx, func(raw keystore.Tx) error {
		st, err := l.current(raw, known)
		if err != nil {
			return err
		}
		// Also if fn fails: who decides anew then must not do so by an older state.
		st.confirmed.confirm(at)
		l.install(st)
		tx := &Tx{ledger: l, raw: raw, state: st, writable: true}
		if err := fn(tx); err != nil {
			return err
		}
		if next, err = tx.writeRoster(); next != nil {
			// From here to the commit nobody else writes.
			next.confirmed.confirm(l.instant())
		}
		return err
	})
	if err == nil && next != nil {
		l.install(next)
	}
	return err
}

// install makes st the known state unless a newer one is known.
func (l *Ledger) install(st *state) {
	for {
		known := l.state.Load()
		if known != nil && known.generation >= st.generation {
			return
		}
		if l.state.CompareAndSwap(known, st) {
			return
		}
	}
}

// RolledBack returns what shows that the store lost changes which this Ledger has
// seen in it; nil if nothing does. From then on every transaction fails with it:
// others, who have not seen the changes, may write past them, and after that the
// store only seems newer. Where it is opened anew it is for the caller to know how
// far it must have come.
func (l *Ledger) RolledBack() error {
	if found := l.lost.Load(); found != nil {
		return found
	}
	return nil
}

// keepLost keeps an error that says of the root row that it was rolled back.
func (l *Ledger) keepLost(err error) {
	if err == nil {
		return
	}
	if found, ok := errors.AsType[*TamperedError](err); ok && found.Table == rosterTable && found.ID == rootID && found.What == RolledBack {
		l.lost.CompareAndSwap(nil, found)
	}
}

// current returns the verified roster of the transaction: known itself if it
// still is the newest.
func (l *Ledger) current(raw keystore.Tx, known *state) (*state, error) {
	if err := l.RolledBack(); err != nil {
		return nil, err
	}
	st, err := l.newest(raw, known)
	l.keepLost(err)
	return st, err
}

func (l *Ledger) newest(raw keystore.Tx, known *state) (*state, error) {
	if known != nil && known.root.MAC != nil {
		// Nothing is secret in what is compared: whoever can change the row
		// can read it too.
		same, err := raw.Holds(known.root)
		if err != nil {
			return nil, err
		}
		if same {
			return known, nil
		}
	}
	row, err := raw.Get(rosterTable, rootID)
	if errors.Is(err, keystore.ErrNotFound) {
		return nil, tampered(rosterTable, rootID, Removed, "")
	}
	if err != nil {
		return nil, err
	}
	return parseRoot(l.keys, row, known)
}
