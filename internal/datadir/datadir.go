// SPDX-License-Identifier: Apache-2.0

// Package datadir is the folder that a key service lives in: which files it has,
// and how they are made and opened together. The folder is 0700, its files 0600.
package datadir

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/audit"
	"github.com/cretula/cretula/kms/keystore/bolt"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/kms/rootkey"
)

// Names of the files. The admin socket beside them is that of package adminsock.
const (
	StoreFile   = "kms.db"
	RootKeyFile = "root.key"
	AuditFile   = "audit.jsonl"
)

// ErrNone: the folder has no key service in it.
var ErrNone = errors.New("there is no key service in this folder")

// A Dir is an open folder, which no other process can open.
type Dir struct {
	Ledger  *ledger.Ledger
	RootKey rootkey.Key
	Audit   *audit.Log
	store   *bolt.Store
}

// Create makes what is missing in the folder and opens it: the root key, the
// store and the audit log. meta counts only for a new store. A store without its
// root key is refused: a new key would open nothing of it. So is an audit log
// without its store: that there was one must not be forgotten.
func Create(ctx context.Context, path string, meta ledger.Meta) (*Dir, error) {
	if err := durable.MkdirAll(path); err != nil {
		return nil, err
	}
	storePath, keyPath := filepath.Join(path, StoreFile), filepath.Join(path, RootKeyFile)
	if !exists(keyPath) {
		if exists(storePath) {
			return nil, fmt.Errorf("%s is there, but its root key %s is not", storePath, keyPath)
		}
		// Another process may be making the same folder; open finds out.
		if _, err := rootkey.CreateFile(keyPath); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	if !exists(storePath) {
		if err := checkNew(path); err != nil {
			return nil, err
		}
		store, err := bolt.Create(storePath)
		if err == nil {
			err = store.Close()
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return open(ctx, path, &meta)
}

// Open opens the folder of an existing service. The error matches [ErrNone] if
// there is none, [keystore.ErrInUse] if another process has it open.
func Open(ctx context.Context, path string) (*Dir, error) {
	if !exists(filepath.Join(path, StoreFile)) {
		return nil, fmt.Errorf("%s: %w", path, ErrNone)
	}
	return open(ctx, path, nil)
}

// open opens everything; a store without a ledger gets one of the given kind.
func open(ctx context.Context, path string, meta *ledger.Meta) (_ *Dir, err error) {
	d := &Dir{}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	if d.RootKey, err = rootkey.OpenFile(filepath.Join(path, RootKeyFile)); err != nil {
		return nil, err
	}
	if d.store, err = bolt.Open(filepath.Join(path, StoreFile)); err != nil {
		return nil, err
	}
	d.Ledger, err = ledger.Open(ctx, d.store, d.RootKey)
	if errors.Is(err, ledger.ErrEmpty) && meta != nil {
		if err = checkNew(path); err != nil {
			return nil, err
		}
		d.Ledger, err = ledger.Create(ctx, d.store, d.RootKey, *meta)
	}
	if err != nil {
		return nil, err
	}
	if d.Audit, err = audit.Open(filepath.Join(path, AuditFile)); err != nil {
		return nil, err
	}
	return d, nil
}

// checkNew refuses to begin anew where there was a store: the audit log is made
// after the first rows of it.
func checkNew(path string) error {
	if auditPath := filepath.Join(path, AuditFile); exists(auditPath) {
		return fmt.Errorf("%s is there, but nothing of the store that it is about is in %s", auditPath, StoreFile)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Server returns the key service over the folder. nil roots are AWS's.
func (d *Dir) Server(roots []*x509.Certificate, allowDebug bool) (*kms.Server, error) {
	return kms.New(kms.Config{Ledger: d.Ledger, RootKey: d.RootKey, Audit: d.Audit, Roots: roots, AllowDebug: allowDebug})
}

// Close closes the files.
func (d *Dir) Close() error {
	var errs []error
	if d.Audit != nil {
		errs = append(errs, d.Audit.Close())
	}
	if d.store != nil {
		errs = append(errs, d.store.Close())
	}
	return errors.Join(errs...)
}

// FindEvent looks for the event of a decision in the audit log of the folder,
// which may be in use. The error matches [ErrNone] or [kms.ErrNoDecision].
func FindEvent(ctx context.Context, path, decision string) (*kms.Event, error) {
	f, err := durable.OpenPrivate(filepath.Join(path, AuditFile), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, ErrNone)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	entry, err := audit.Find(ctx, f, info.Size(), decision)
	if errors.Is(err, audit.ErrNotFound) {
		return nil, kms.ErrNoDecision
	}
	if err != nil {
		return nil, err
	}
	return kms.ParseEvent(entry)
}
