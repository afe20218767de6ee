// SPDX-License-Identifier: Apache-2.0

package datadir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/kms/audit"
	"github.com/cretula/cretula/kms/backup"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/keystore/bolt"
	"github.com/cretula/cretula/kms/keystore/postgres"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/kms/rootkey"
	"github.com/cretula/cretula/reason"
)

// database tells whether the store is a PostgreSQL database.
func (c *Config) database() bool { return isURL(c.Store) }

func isURL(store string) bool {
	return strings.HasPrefix(store, "postgres://") || strings.HasPrefix(store, "postgresql://")
}

// StoreName returns the store as it may be shown: the path, or the URL without a
// user's password and without its parameters.
func (c *Config) StoreName() string {
	if !c.database() {
		return c.Store
	}
	u, err := url.Parse(c.Store)
	if err != nil {
		return "postgres://..." // what cannot be parsed may have a password anywhere
	}
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	if u.User != nil {
		shown.User = url.User(u.User.Username())
	}
	return shown.String()
}

// checkStore refuses what could not be opened, or not safely. No error has any
// part of a password.
func (c *Config) checkStore() error {
	if !c.database() {
		if !filepath.IsAbs(c.Store) {
			return cli.WithHint(reason.New(reason.Malformed, "store.name", "the store %q is neither an absolute path nor a postgres:// URL", c.printable()),
				"name the file by its full path, or the database as postgres://USER@HOST/DATABASE?sslmode=verify-full")
		}
		return nil
	}
	const hint = "put the password into a file in the form of .pgpass, mode 0600, and name that as password_file of the store or by PGPASSFILE"
	u, err := url.Parse(c.Store)
	if err != nil {
		return cli.WithHint(reason.New(reason.Malformed, "store.name", "the URL of the store cannot be parsed"), hint)
	}
	_, password := u.User.Password()
	if password || u.Query().Has("password") || u.Query().Has("sslpassword") {
		return cli.WithHint(reason.New(reason.Malformed, "store.password", "the URL of the store %s has a password in it", c.StoreName()), hint)
	}
	for _, file := range []string{c.PasswordFile, u.Query().Get("passfile"), os.Getenv("PGPASSFILE")} {
		if file == "" {
			continue
		}
		// libpq passes over a file that others can read; that would end in a
		// refusal which says nothing of it.
		if err := durable.CheckPrivate(file); err != nil {
			return cli.WithHint(reason.New(reason.Malformed, "store.password", "the password file of the store: %w", err), "chmod 0600 %s", file)
		}
	}
	return nil
}

// printable is a name that may be a mistyped URL.
func (c *Config) printable() string {
	if i := strings.IndexByte(c.Store, '@'); i >= 0 {
		return "..." + c.Store[i:]
	}
	return c.Store
}

// openStore opens the store, or makes it where that is asked for.
func (c *Config) openStore(ctx context.Context, create bool) (keystore.Store, error) {
	if !c.database() {
		return c.openFile(create)
	}
	s, err := postgres.Open(ctx, c.connection(), c.Postgres)
	if !errors.Is(err, fs.ErrNotExist) {
		return orNil(s, err)
	}
	if !create {
		return nil, fmt.Errorf("%s: %w", c.StoreName(), ErrNone)
	}
	if err := c.checkNew(); err != nil {
		return nil, err
	}
	return c.makeDatabase(ctx)
}

// makeDatabase makes a store in the database, unless another server was faster.
func (c *Config) makeDatabase(ctx context.Context) (keystore.Store, error) {
	s, err := postgres.Create(ctx, c.connection(), c.Postgres)
	if errors.Is(err, fs.ErrExist) {
		s, err = postgres.Open(ctx, c.connection(), c.Postgres)
	}
	return orNil(s, err)
}

// connection is the URL with the password file in it.
func (c *Config) connection() string {
	u, err := url.Parse(c.Store)
	if err != nil || c.PasswordFile == "" {
		return c.Store
	}
	query := u.Query()
	query.Set("passfile", c.PasswordFile)
	u.RawQuery = query.Encode()
	return u.String()
}

// orNil keeps a nil pointer from being a store.
func orNil[S keystore.Store](s S, err error) (keystore.Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (c *Config) openFile(create bool) (keystore.Store, error) {
	if create && !exists(c.Store) {
		if err := c.checkNew(); err != nil {
			return nil, err
		}
		s, err := bolt.Create(c.Store)
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return orNil(bolt.Open(c.Store))
}

func (c *Config) openLedger(ctx context.Context, store keystore.Store, root rootkey.Key, meta *ledger.Meta) (*ledger.Ledger, error) {
	l, err := ledger.Open(ctx, store, root)
	if !errors.Is(err, ledger.ErrEmpty) {
		return l, err
	}
	if meta == nil {
		return nil, fmt.Errorf("%s: %w", c.StoreName(), ErrNone)
	}
	if err := c.checkNew(); err != nil {
		return nil, err
	}
	l, err = ledger.Create(ctx, store, root, *meta)
	if errors.Is(err, ledger.ErrExists) { // another server was faster
		l, err = ledger.Open(ctx, store, root)
	}
	return l, err
}

// checkOutside refuses a root key, or an epoch file, in a folder that is copied
// with the store.
func (c *Config) checkOutside() error {
	folders := []string{c.Dir, c.AuditDir}
	if !c.database() {
		folders = append(folders, filepath.Dir(c.Store))
	}
	for _, file := range []string{c.RootKey.File, c.RootKey.EpochPath()} {
		for _, folder := range folders {
			if isWithin(file, folder) {
				return cli.WithHint(reason.New(reason.Mismatch, "rootkey.outside", "%s lies in the data folder %s: who copies the folder would have both", file, folder),
					"put the root key into a folder of its own, mode 0700, such as /etc/cretula/root, with epoch_file beside it or in /var/lib/cretula-epoch")
			}
		}
	}
	return nil
}

// isWithin tells whether a file is in a folder or below it, wherever links lead.
func isWithin(file, folder string) bool {
	relative, err := filepath.Rel(real(folder), filepath.Join(real(filepath.Dir(file)), filepath.Base(file)))
	return err != nil || relative != ".." && !strings.HasPrefix(relative, ".."+string(filepath.Separator))
}

// real follows links as far as there is something.
func real(path string) string {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		return resolved
	}
	if parent := filepath.Dir(path); parent != path {
		return filepath.Join(real(parent), filepath.Base(path))
	}
	return path
}

// explain gives a refusal its reason and says what to do.
func explain(err error, c *Config) error {
	if _, ok := reason.Of(err); err == nil || ok {
		return err
	}
	if _, ok := errors.AsType[*ledger.MovedError](err); ok {
		return cli.WithHint(reason.New(reason.Mismatch, "store.moved", "%w", err), "name that store; this one is only kept")
	}
	if _, ok := errors.AsType[*ledger.TamperedError](err); ok {
		return cli.WithHint(reason.New(reason.BadSignature, "store.tampered", "%w", err),
			"'cretula kms verify-store' names every row; 'cretula kms restore --replace' puts a backup in place of the store")
	}
	if _, ok := errors.AsType[*audit.DamagedError](err); ok {
		return cli.WithHint(reason.New(reason.BadSignature, "audit.damaged", "%w", err),
			"'cretula kms audit verify' names every record; nothing was changed. A service begins a new log where the folder was moved away")
	}
	for _, known := range []struct {
		err    error
		reason reason.Reason
		rule   string
		hint   string
	}{
		{keystore.ErrNewerVersion, reason.Unsupported, "store.newer", "use the program that wrote it, or a later one; nothing was changed"},
		{keystore.ErrDamaged, reason.Malformed, "store.damaged", "put back a copy of the file, or 'cretula kms restore' a backup; nothing was changed"},
		{backup.ErrRootKey, reason.Mismatch, "backup.rootkey", "name the root key that the store of the backup had"},
		{backup.ErrFormat, reason.Malformed, "backup.format", "name a file that 'cretula kms backup' has written; nothing was changed"},
		{backup.ErrChanged, reason.BadSignature, "backup.changed", "use another copy of the backup; nothing was changed"},
		{ledger.ErrWrongRootKey, reason.Mismatch, "store.rootkey", "name the root key that the store was made with; 'cretula kms root-key info' prints its id"},
		{postgres.ErrClock, reason.Unsupported, "store.clock", "have a time service set the clocks of this machine and of the database's"},
		{postgres.ErrUnsafeServer, reason.Unsupported, "store.fsync", "set fsync = on in postgresql.conf"},
		{postgres.ErrConnectionString, reason.Malformed, "store.name", "write postgres://USER@HOST/DATABASE?sslmode=verify-full"},
		{audit.ErrOtherKey, reason.Mismatch, "audit.other", "name the root key and the store that the log is of"},
		{audit.ErrInUse, 0, "", "stop the key service that runs on this folder, or use its admin socket"},
		{syscall.ENOSPC, 0, "", "make room on the disk; what is in the store and the log stays as it is"},
		{durable.ErrNotPrivate, 0, "", "folders must be 0700 and files 0600, and belong to the user of the service"},
		{keystore.ErrUnavailable, 0, "", "see to it that " + c.StoreName() + " can be reached; nothing was changed"},
	} {
		if errors.Is(err, known.err) {
			if known.reason != 0 {
				err = reason.New(known.reason, known.rule, "%w", err)
			}
			return cli.WithHint(err, "%s", known.hint)
		}
	}
	return err
}
