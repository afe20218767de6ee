// SPDX-License-Identifier: Apache-2.0

// Package datadir opens what a key service keeps: a folder with its audit log, its
// store, which is a file in the folder unless it is a file or a PostgreSQL database
// elsewhere, and its root key, which need not be in the folder either. Folders are
// 0700, files 0600.
//
// Every part must fit the others before anything is written. What is refused is
// refused with a reason of package reason and a hint of package cli.
package datadir

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/internal/rootkeys"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/audit"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/keystore/postgres"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/kms/rootkey"
)

// Names of the files. The admin socket beside them is that of package adminsock.
const (
	StoreFile   = "kms.db"
	RootKeyFile = "root.key"
	AuditDir    = "audit"
)

// ErrNone: there is no key service there.
var ErrNone = errors.New("there is no key service in this folder")

// A Config says where the parts of a key service are. Only Dir must be given.
type Config struct {
	// Dir is the folder of the admin socket.
	Dir string
	// Store is the absolute path of the store's file, or the URL of a database,
	// postgres://…, in which there may be no password: see [postgres.Open]. Empty:
	// StoreFile in Dir.
	Store string
	// PasswordFile has the password of a database in the form of .pgpass, mode
	// 0600. Empty: what PGPASSFILE or ~/.pgpass says.
	PasswordFile string
	// AuditDir is the folder of the audit log. Empty: AuditDir in Dir.
	AuditDir string
	// RootKey names the root key. Without a kind it is RootKeyFile in Dir, which
	// Create makes.
	RootKey rootkeys.Spec
	// RequireOutside refuses a root key, or an epoch file, that lies in Dir or in
	// the folder of the store: a copy of these folders must not open anything.
	RequireOutside bool
	// Postgres are the choices for a database.
	Postgres postgres.Options
	// Logger gets what goes wrong while nobody waits for it. Nil: nobody does.
	Logger *slog.Logger
	// Audit are the choices for the audit log; what it is about is filled in.
	Audit audit.Options
	// WrapStore, if it is not nil, returns what is used in place of the open store,
	// to measure it for instance.
	WrapStore func(keystore.Store) keystore.Store
}

// A Dir is an open key service. While it is open no other process can open the
// folder, nor the store if that is a file.
type Dir struct {
	Ledger  *ledger.Ledger
	RootKey rootkey.Key
	Audit   *audit.Log
	store   keystore.Store
	epochs  *epochs
}

// Create is [Config.Create] for a service that has all of its parts in one folder.
func Create(ctx context.Context, path string, meta ledger.Meta) (*Dir, error) {
	return Config{Dir: path}.Create(ctx, meta)
}

// Open is [Config.Open] for a service that has all of its parts in one folder.
func Open(ctx context.Context, path string) (*Dir, error) { return Config{Dir: path}.Open(ctx) }

// Create makes what is missing and opens everything. meta counts only for a new
// store. A store without its root key is refused: a new key would open nothing of
// it. So is an audit log without its store: that there was one must not be
// forgotten. Of several that create a store in one database at once, one does, and
// the others open it. A root key is made only where RootKey is left empty.
func (c Config) Create(ctx context.Context, meta ledger.Meta) (*Dir, error) {
	ownKey := reflect.ValueOf(c.RootKey).IsZero()
	if err := c.complete(); err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(c.Dir); err != nil {
		return nil, explain(err, &c)
	}
	if ownKey && !exists(c.RootKey.File) {
		if !c.database() && exists(c.Store) {
			return nil, fmt.Errorf("%s is there, but its root key %s is not", c.Store, c.RootKey.File)
		}
		// Another process may be making the same folder; open finds out.
		if _, err := rootkeys.Create(ctx, c.RootKey); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return c.open(ctx, &meta)
}

// Open opens an existing service. The error matches [ErrNone] if there is none,
// [keystore.ErrInUse] if another process has it open.
func (c Config) Open(ctx context.Context) (*Dir, error) {
	elsewhere := c.Store != ""
	if err := c.complete(); err != nil {
		return nil, err
	}
	if !c.database() && !exists(c.Store) {
		if elsewhere {
			return nil, fmt.Errorf("%s: %w", c.Store, ErrNone)
		}
		return nil, fmt.Errorf("%s: %w", c.Dir, ErrNone)
	}
	return c.open(ctx, nil)
}

// Check tells what Open would refuse before it opens anything. Of the files only those
// that must be private are looked at.
func (c Config) Check() error { return c.complete() }

// complete fills in what was left out and checks what was given.
func (c *Config) complete() error {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return err
	}
	if c.AuditDir == "" {
		c.AuditDir = filepath.Join(dir, AuditDir)
	}
	if c.Store == "" {
		c.Store = filepath.Join(dir, StoreFile)
	}
	if err := c.checkStore(); err != nil {
		return err
	}
	if reflect.ValueOf(c.RootKey).IsZero() {
		c.RootKey = rootkeys.Spec{Kind: rootkeys.KindFile, File: filepath.Join(dir, RootKeyFile)}
	}
	if err := c.RootKey.Check(); err != nil {
		return err
	}
	if c.RequireOutside {
		return c.checkOutside()
	}
	return nil
}

// open opens everything; a store without a ledger gets one of the given kind.
func (c *Config) open(ctx context.Context, meta *ledger.Meta) (_ *Dir, err error) {
	d := &Dir{}
	defer func() {
		if err != nil {
			d.Close()
			err = explain(err, c)
		}
	}()
	if d.RootKey, err = rootkeys.Open(ctx, c.RootKey); err != nil {
		return nil, err
	}
	if d.store, err = c.openStore(ctx, meta != nil); err != nil {
		return nil, err
	}
	if c.WrapStore != nil {
		d.store = c.WrapStore(d.store)
	}
	if d.Ledger, err = c.openLedger(ctx, d.store, d.RootKey, meta); err != nil {
		return nil, err
	}
	if d.epochs, err = openEpochs(ctx, c, d.Ledger, d.RootKey); err != nil {
		return nil, err
	}
	if d.Audit, err = c.openAudit(ctx, d.RootKey, d.Ledger, kms.AuditHeads(d.Ledger)); err != nil {
		return nil, err
	}
	return d, nil
}

func (c *Config) openAudit(ctx context.Context, root rootkey.Key, l *ledger.Ledger, heads audit.HeadStore) (*audit.Log, error) {
	options := c.Audit
	options.Key, options.StoreID, options.Emulated, options.Heads = root, l.StoreID(), l.Meta().Emulated, heads
	options.RemovalEvent = kms.RemovalEvent(l.Meta())
	options.Failed = func(err error) {
		if c.Logger != nil {
			c.Logger.Error("the audit log could not be kept", "cause", err.Error())
		}
	}
	return audit.Open(ctx, c.AuditDir, options)
}

// checkNew refuses to begin anew where there was a store: the audit log and the
// epoch file are made after the first rows of it.
func (c *Config) checkNew() error {
	for _, left := range []string{c.AuditDir, c.RootKey.EpochPath()} {
		if exists(left) {
			return cli.WithHint(fmt.Errorf("%s is there, but nothing of the store that it is about is in %s", left, c.StoreName()),
				"name that store, or 'cretula kms restore' a backup of it")
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Config returns what [kms.New] needs of the parts.
func (d *Dir) Config() kms.Config {
	return kms.Config{Ledger: d.Ledger, RootKey: d.RootKey, Audit: d.Audit}
}

// Server returns the key service. nil roots are AWS's.
func (d *Dir) Server(roots []*x509.Certificate, allowDebug bool) (*kms.Server, error) {
	config := d.Config()
	config.Roots, config.AllowDebug = roots, allowDebug
	return kms.New(config)
}

// Close closes everything.
func (d *Dir) Close() error {
	var errs []error
	if d.Audit != nil {
		errs = append(errs, d.Audit.Close()) // it writes a row
	}
	if d.epochs != nil {
		errs = append(errs, d.epochs.close())
	}
	if d.store != nil {
		errs = append(errs, d.store.Close())
	}
	return errors.Join(errs...)
}

// FindEvent looks for the event of a decision in the folder of an audit log, which
// may be in use. The error matches [ErrNone] or [kms.ErrNoDecision].
func FindEvent(ctx context.Context, path, decision string) (*kms.Event, error) {
	entry, err := audit.Find(ctx, path, decision)
	if errors.Is(err, audit.ErrNone) {
		return nil, ErrNone
	}
	if errors.Is(err, audit.ErrNotFound) {
		return nil, kms.ErrNoDecision
	}
	if err != nil {
		return nil, err
	}
	return kms.ParseEvent(entry)
}
