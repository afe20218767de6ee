// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	recordSQL = `insert into cretula.commits (server, number, at) values ($1, $2, now())
		on conflict (server) do update set number = excluded.number, at = excluded.at`
	// Nobody asks for a commit of yesterday.
	forgetSQL  = `delete from cretula.commits where at < now() - interval '1 day'`
	confirmSQL = `update cretula.commits set at = now() where server = $1 and number = $2`
)

// commit sends what is pending and commits, in one round trip, and gives the
// connection back. The number of the commit is a row of the transaction itself:
// it is there if, and only if, all else is.
//
// It does not depend on the caller's context, for an answer that nobody waits for
// would be lost.
func (s *Store) commit(ctx context.Context, conn *pgxpool.Conn, t *tx) error {
	s.number++
	batch := t.take()
	if s.number == 1 {
		batch.Queue(forgetSQL)
	}
	batch.Queue(recordSQL, s.server, s.number)
	batch.Queue(notifySQL)
	var result string
	batch.Queue("commit").Exec(func(tag pgconn.CommandTag) error {
		result = tag.String()
		return nil
	})
	lasting := context.WithoutCancel(ctx)
	bounded, cancel := context.WithTimeout(lasting, s.limits.commit)
	err := conn.SendBatch(bounded, batch).Close()
	cancel()
	s.end(conn)
	if result == "COMMIT" {
		return nil
	}
	if err == nil {
		return s.failure(nil, "the server answered a commit with "+result)
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.SeverityUnlocalized == "ERROR" {
		// Of a statement or of the commit: either way it was undone. That
		// cannot be said of FATAL and PANIC, which end the connection.
		return s.translate(lasting, err)
	}
	return s.resolve(lasting, s.translate(lasting, err))
}

// resolve finds out what became of the last commit, whose answer did not come.
func (s *Store) resolve(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(ctx, s.limits.resolve)
	defer cancel()
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		committed, err := s.committed(ctx)
		if err == nil && committed {
			return nil
		}
		if err == nil {
			return &failure{
				kinds: []error{keystore.ErrUnavailable},
				text:  fmt.Sprintf("the connection was lost before the commit, nothing was changed: %v", cause),
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return &failure{
				kinds: []error{keystore.ErrFailed, keystore.ErrUnavailable},
				text: fmt.Sprintf("the connection was lost during a commit, and the database is not back to tell "+
					"whether the change was made: %v", cause),
			}
		}
	}
}

// committed reports whether the last commit took place. Its transaction held the
// lock of Updates to its end, so it is over when this one has the lock.
//
// That the row can be seen is not enough: where the server waits for a standby,
// the driver has ended that wait when it gave up the connection. So the row is
// written once more, and what that commit has waited for includes what came before
// it.
func (s *Store) committed(ctx context.Context) (bool, error) {
	conn, err := s.begin(ctx, updateStart)
	if err != nil {
		return false, err
	}
	defer s.end(conn)
	tag, err := conn.Exec(ctx, confirmSQL, s.server, s.number)
	if err != nil || tag.RowsAffected() == 0 {
		return false, err
	}
	if tag, err = conn.Exec(ctx, "commit"); err == nil && tag.String() != "COMMIT" {
		err = pgx.ErrTxCommitRollback
	}
	return err == nil, err
}

// take returns what is pending; it is the caller's to send.
func (t *tx) take() *pgx.Batch {
	batch := t.pending
	if batch == nil {
		batch = new(pgx.Batch)
	}
	t.pending, t.pendingSize = nil, 0
	return batch
}
