// SPDX-License-Identifier: Apache-2.0

package datadir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/internal/rootkeys"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/audit"
	"github.com/cretula/cretula/kms/backup"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/keystore/bolt"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/kms/rootkey"
	"github.com/cretula/cretula/reason"
)

// A Transferred says what [Config.Restore] or [Config.Migrate] has brought where.
type Transferred struct {
	StoreID string
	Store   string // as [Config.StoreName]
	Rows    uint64
	// Epoch is the store's from now on: what has a lower one is refused.
	Epoch uint64
	// Marked says that all rows were there already, from an attempt that ended
	// before the source was marked.
	Marked bool
}

// ErrNotEmpty: there is a store where one was to be put.
var ErrNotEmpty = errors.New("there is a store already")

// Restore puts the rows of a backup into the store, which must be empty or not
// exist unless replace is set. The whole backup, and that its rows are what a
// ledger has written, is verified before the store changes; until the last moment
// it stays as it was. The event of it is durable before that. The epoch rises
// above any that was seen, and that of the store that is replaced. All sessions end: the backup does not know which of them
// were revoked since. The error matches those of package backup, or
// [ErrNotEmpty].
func (c Config) Restore(ctx context.Context, file io.ReadSeeker, replace bool) (_ Transferred, err error) {
	if err := c.complete(); err != nil {
		return Transferred{}, err
	}
	defer func() { err = explain(err, &c) }()
	root, err := rootkeys.Open(ctx, c.RootKey)
	if err != nil {
		return Transferred{}, err
	}
	r, err := backup.Open(file, root)
	if err != nil {
		return Transferred{}, err
	}
	rows, err := r.Check()
	if err != nil {
		return Transferred{}, err
	}
	known, err := c.knownEpoch(root, r.Header.StoreID)
	if err != nil {
		return Transferred{}, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return Transferred{}, err
	}
	if r, err = backup.Open(file, root); err != nil {
		return Transferred{}, err
	}
	done := Transferred{StoreID: r.Header.StoreID, Store: c.StoreName(), Rows: rows}
	var replaced func(*ledger.Ledger)
	if replace {
		replaced = func(old *ledger.Ledger) {
			// Of one that was tampered with nothing is believed.
			if e, err := storeEpoch(ctx, old); err == nil && e.store == r.Header.StoreID {
				known.epoch = max(known.epoch, e.epoch)
			}
		}
	}
	err = c.importRows(ctx, root, replaced, r.EachRow, func(l *ledger.Ledger) error {
		if done.Epoch, err = raiseEpoch(ctx, l, known); err != nil {
			return err
		}
		parameters := map[string]any{
			"storeId": done.StoreID, "backupId": r.Header.ID, "backupCreated": r.Header.Created, "rows": rows,
			"epoch": done.Epoch, "replace": replace,
		}
		if err := c.leaveLogs(ctx, l, parameters); err != nil {
			return err
		}
		if err := kms.EndSessions(ctx, l); err != nil {
			return err
		}
		return c.record(ctx, root, l, "RestoreStore", parameters)
	})
	if err != nil {
		return Transferred{}, err
	}
	return done, c.settle(ctx)
}

// leaveLogs has a store that is restored without its audit log go on with a new one:
// the rows that would miss the logs that this server had are deleted, and the event
// of the restore says which those are and how many records they had.
func (c *Config) leaveLogs(ctx context.Context, l *ledger.Ledger, parameters map[string]any) error {
	if exists(c.AuditDir) {
		return nil
	}
	heads, err := kms.AuditHeads(l).Heads(ctx)
	if err != nil {
		return err
	}
	left := map[string]any{}
	for _, text := range heads {
		head, err := audit.ParseHead(text)
		if err != nil {
			return err
		}
		if head.Server != c.Audit.Server {
			continue
		}
		left[head.Chain] = head.Count
		err = l.Update(ctx, func(tx *ledger.Tx) error { return tx.Delete(kms.AuditHeadTable, head.Chain) })
		if err != nil {
			return err
		}
	}
	if len(left) > 0 {
		parameters["auditLogsLeft"] = left
	}
	return nil
}

// Migrate copies the store to another place, a path or a URL where there is no
// store yet, and gives up the one it had: from then on both of them cannot be
// served. Every row is verified on both sides. Where it is interrupted the first
// store is as it was and Migrate can be called again.
func (c Config) Migrate(ctx context.Context, to Config) (_ Transferred, err error) {
	if err := errors.Join(c.complete(), to.complete()); err != nil {
		return Transferred{}, err
	}
	defer func() { err = explain(err, &c) }()
	root, err := rootkeys.Open(ctx, c.RootKey)
	if err != nil {
		return Transferred{}, err
	}
	store, err := c.openStore(ctx, false)
	if err != nil {
		return Transferred{}, err
	}
	defer store.Close()
	from, err := ledger.Open(ctx, store, root)
	if err != nil {
		return Transferred{}, err
	}
	known, err := c.knownEpoch(root, from.StoreID())
	if err != nil {
		return Transferred{}, err
	}
	now, err := storeEpoch(ctx, from)
	if err != nil {
		return Transferred{}, err
	}
	if known.store != "" {
		if err := checkEpoch(now, known, c.RootKey.EpochPath(), c.StoreName()); err != nil {
			return Transferred{}, err
		}
	}
	done := Transferred{StoreID: from.StoreID(), Store: to.StoreName()}
	err = from.Move(ctx, to.StoreName(), func(rows func(func(keystore.Row) error) error) error {
		return to.takeOver(ctx, root, &done, known, rows)
	})
	if err != nil {
		return Transferred{}, err
	}
	return done, to.settle(ctx)
}

// takeOver puts the rows of a store that moves into this one.
func (c *Config) takeOver(ctx context.Context, root rootkey.Key, done *Transferred, known epoch, rows func(func(keystore.Row) error) error) error {
	count := func(put func(keystore.Row) error) error {
		done.Rows = 0
		return rows(func(row keystore.Row) error {
			done.Rows++
			return put(row)
		})
	}
	err := c.importRows(ctx, root, nil, count, func(l *ledger.Ledger) (err error) {
		if done.Epoch, err = raiseEpoch(ctx, l, known); err != nil {
			return err
		}
		return c.record(ctx, root, l, "MigrateStore", map[string]any{
			"storeId": done.StoreID, "to": c.StoreName(), "rows": done.Rows, "epoch": done.Epoch,
		})
	})
	if !errors.Is(err, ErrNotEmpty) {
		return err
	}
	same, compareErr := c.compare(ctx, root, done, count)
	if compareErr != nil || !same {
		return errors.Join(err, compareErr)
	}
	done.Marked = true
	return nil
}

// compare tells whether the store has all the rows, and no others but those that
// follow from another epoch.
func (c *Config) compare(ctx context.Context, root rootkey.Key, done *Transferred, rows func(func(keystore.Row) error) error) (bool, error) {
	store, err := c.openStore(ctx, false)
	if err != nil {
		return false, err
	}
	defer store.Close()
	l, err := ledger.Open(ctx, store, root)
	if err != nil || l.StoreID() != done.StoreID {
		return false, nil
	}
	type name struct{ table, id string }
	// What differs where nobody has used either store since.
	own := func(row keystore.Row) bool {
		return ledger.IsRoster(row.Table) || row.Table == kms.AuditHeadTable || row.Table == epochTable && row.ID == epochRow
	}
	left := map[name]bool{}
	err = l.Export(ctx, func(row keystore.Row) error {
		if !own(row) {
			left[name{row.Table, row.ID}] = true
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	same := true
	err = store.View(ctx, func(tx keystore.Tx) error {
		return rows(func(row keystore.Row) error {
			if own(row) {
				return nil
			}
			delete(left, name{row.Table, row.ID})
			holds, err := tx.Holds(row)
			same = same && holds
			return err
		})
	})
	if err != nil || !same || len(left) > 0 {
		return false, err
	}
	e, epochErr := storeEpoch(ctx, l)
	done.Epoch = e.epoch
	return epochErr == nil, epochErr
}

// importRows puts rows into the store. A file is made anew and takes the place of
// the one that is there, which may be damaged, only when all is done. replace is as
// for [ledger.Import].
func (c *Config) importRows(ctx context.Context, root rootkey.Key, replace func(*ledger.Ledger),
	rows func(func(keystore.Row) error) error, finish func(*ledger.Ledger) error) error {
	if !c.database() {
		return c.importFile(ctx, root, replace, rows, finish)
	}
	store, err := c.makeDatabase(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	err = ledger.Import(ctx, store, root, replace, rows, finish)
	if errors.Is(err, ledger.ErrExists) {
		err = c.notEmpty()
	}
	return err
}

func (c *Config) notEmpty() error {
	return cli.WithHint(fmt.Errorf("%s: %w", c.StoreName(), ErrNotEmpty), "name another place, or with restore say --replace")
}

func (c *Config) importFile(ctx context.Context, root rootkey.Key, replace func(*ledger.Ledger),
	rows func(func(keystore.Row) error) error, finish func(*ledger.Ledger) error) error {
	if err := durable.MkdirAll(filepath.Dir(c.Store)); err != nil {
		return err
	}
	release, err := c.claimFile(ctx, root, replace)
	if err != nil {
		return err
	}
	defer release()
	folder, err := os.MkdirTemp(filepath.Dir(c.Store), ".import.*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	temporary := filepath.Join(folder, filepath.Base(c.Store))
	store, err := bolt.Create(temporary)
	if err != nil {
		return err
	}
	err = errors.Join(ledger.Import(ctx, store, root, nil, rows, finish), store.Close())
	if err != nil {
		return err
	}
	if replace != nil {
		err = os.Rename(temporary, c.Store)
	} else {
		err = os.Link(temporary, c.Store)
	}
	if errors.Is(err, fs.ErrExist) {
		return c.notEmpty()
	}
	if err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(c.Store))
}

// claimFile keeps others from the file that is there until release is called, and
// gives replace the ledger in it, if that can be opened.
func (c *Config) claimFile(ctx context.Context, root rootkey.Key, replace func(*ledger.Ledger)) (release func(), err error) {
	if replace != nil {
		if store, err := bolt.Open(c.Store); err == nil {
			if old, err := ledger.Open(ctx, store, root); err == nil {
				replace(old)
			}
			return func() { store.Close() }, nil
		}
	}
	f, err := durable.OpenPrivate(c.Store, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := durable.Lock(f); err != nil {
		f.Close()
		if errors.Is(err, durable.ErrLocked) {
			err = cli.WithHint(fmt.Errorf("%s: %w", c.Store, keystore.ErrInUse), "stop the key service first")
		}
		return nil, err
	}
	if replace == nil {
		f.Close()
		return nil, c.notEmpty()
	}
	return func() { f.Close() }, nil
}

// record makes an event durable for a store that is about to be there, and in which
// the audit log writes nothing yet.
func (c *Config) record(ctx context.Context, root rootkey.Key, l *ledger.Ledger, name string, parameters map[string]any) error {
	if err := durable.MkdirAll(c.Dir); err != nil {
		return err
	}
	log, err := c.openAudit(ctx, root, l, nil)
	if err != nil {
		return err
	}
	server, err := kms.New(kms.Config{Ledger: l, RootKey: root, Audit: log})
	if err == nil {
		err = server.RecordStoreWork(ctx, name, parameters)
		server.Close()
	}
	return errors.Join(err, log.Close())
}

// knownEpoch is the newest that was seen of a store; zero if none was.
func (c *Config) knownEpoch(root rootkey.Key, store string) (epoch, error) {
	key, err := root.Derive(epochLabel)
	if err != nil {
		return epoch{}, err
	}
	known, found, err := readEpoch(c.RootKey.EpochPath(), key)
	if err == nil && found && known.store != store {
		err = cli.WithHint(reason.New(reason.Mismatch, "epoch.store", "%s is of store %s, this is %s", c.RootKey.EpochPath(), known.store, store),
			"one epoch file serves one store: name another with epoch_file of the root key")
	}
	return known, err
}

// settle opens the store that was made once: that notes its epoch, and the head of
// the audit log in it.
func (c *Config) settle(ctx context.Context) error {
	d, err := c.Open(ctx)
	if err != nil {
		return err
	}
	return d.Close()
}

// VerifyBackup reads a whole backup and returns its header and how many rows it
// has. Its errors are those of package backup.
func (c Config) VerifyBackup(ctx context.Context, file io.Reader) (backup.Header, uint64, error) {
	if err := c.complete(); err != nil {
		return backup.Header{}, 0, err
	}
	root, err := rootkeys.Open(ctx, c.RootKey)
	if err != nil {
		return backup.Header{}, 0, err
	}
	r, err := backup.Open(file, root)
	if err != nil {
		return backup.Header{}, 0, explain(err, &c)
	}
	rows, err := r.Check()
	return r.Header, rows, explain(err, &c)
}

// VerifyAudit verifies the audit log of a server against the root key and the heads
// that its store has; the log may be in use.
func (c Config) VerifyAudit(ctx context.Context, storeID string, heads [][]byte) (*audit.Report, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	root, err := rootkeys.Open(ctx, c.RootKey)
	if err != nil {
		return nil, err
	}
	o := audit.VerifyOptions{Key: root, StoreID: storeID, Server: c.Audit.Server}
	for _, text := range heads {
		head, err := audit.ParseHead(text)
		if err != nil {
			return nil, err
		}
		o.Known = append(o.Known, head)
	}
	return audit.Verify(ctx, c.AuditDir, o)
}
