// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/jackc/pgx/v5"
)

// migrations are the steps from the empty schema to the newest layout. The
// version of a layout is the number of steps that led to it. A step is never
// changed, only followed by another.
//
// Contents are hardly compressible, and one is compared and rewritten with every
// change; EXTERNAL keeps the server from trying to compress them.
var migrations = []string{`
create table cretula.store (
	version integer not null
);
insert into cretula.store values (0);
create table cretula.rows (
	tbl     text collate "C" not null,
	id      bytea not null,
	version bigint not null check (version >= 0),
	content bytea not null,
	mac     bytea not null,
	primary key (tbl, id)
);
alter table cretula.rows alter column content set storage external;
create table cretula.commits (
	server bytea primary key,
	number bigint not null,
	at     timestamptz not null
);
`}

// migrationLock is the key of the advisory lock that one migration at a time has:
// "cretula" in ASCII.
const migrationLock = 0x63726574756c61

func newerVersion(version, known int32) error {
	return fmt.Errorf("%w: schema version %d, this one knows %d", keystore.ErrNewerVersion, version, known)
}

// migrate makes the schema or brings it up to date, all of it in one transaction.
// Nothing is written if it is up to date.
func (s *Store) migrate(ctx context.Context, steps []string, create bool) error {
	bounded, cancel := context.WithTimeout(ctx, s.limits.begin)
	defer cancel()
	conn, err := s.pool.Acquire(bounded)
	if err != nil {
		return s.translateConnect(ctx, err)
	}
	defer conn.Release()
	if !create {
		version, err := readVersion(ctx, conn.Conn())
		if err != nil {
			return s.translate(ctx, err)
		}
		if err := checkVersion(version, steps, create); err != nil || int(version) == len(steps) {
			return err
		}
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
			return err
		}
		version, err := readVersion(ctx, tx.Conn())
		if err != nil {
			return err
		}
		if err := checkVersion(version, steps, create); err != nil {
			return err
		}
		return apply(ctx, tx, version, steps)
	})
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.translate(ctx, err)
}

// checkVersion judges the version that was found, 0 for none.
func checkVersion(version int32, steps []string, create bool) error {
	switch {
	case version < 0:
		return fmt.Errorf("%w: schema version %d", keystore.ErrDamaged, version)
	case int(version) > len(steps):
		return newerVersion(version, int32(len(steps)))
	case create && version > 0:
		return fmt.Errorf("postgres: the database has a store: %w", fs.ErrExist)
	case !create && version == 0:
		return fmt.Errorf("postgres: the database has no store: %w", fs.ErrNotExist)
	}
	return nil
}

// readVersion returns the version of the schema, 0 if it was never made.
func readVersion(ctx context.Context, conn *pgx.Conn) (int32, error) {
	var exists bool
	if err := conn.QueryRow(ctx, "select to_regclass('cretula.store') is not null").Scan(&exists); err != nil || !exists {
		return 0, err
	}
	var version int32
	err := conn.QueryRow(ctx, "select version from cretula.store").Scan(&version)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, fmt.Errorf("%w: table cretula.store is empty", keystore.ErrDamaged)
	case err == nil && version == 0:
		return 0, fmt.Errorf("%w: schema version 0", keystore.ErrDamaged)
	}
	return version, err
}

func apply(ctx context.Context, tx pgx.Tx, version int32, steps []string) error {
	if version > 0 {
		// No Update while the tables change.
		if _, err := tx.Exec(ctx, "lock table cretula.store in exclusive mode"); err != nil {
			return err
		}
	} else if err := createSchema(ctx, tx); err != nil {
		return err
	}
	for _, step := range steps[version:] {
		if _, err := tx.Exec(ctx, step); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, "update cretula.store set version = $1", int32(len(steps)))
	return err
}

// createSchema makes the schema unless an administrator has: the right to make
// one is asked for even where IF NOT EXISTS finds it.
func createSchema(ctx context.Context, tx pgx.Tx) error {
	var exists bool
	if err := tx.QueryRow(ctx, "select to_regnamespace('cretula') is not null").Scan(&exists); err != nil || exists {
		return err
	}
	_, err := tx.Exec(ctx, "create schema cretula")
	return err
}
