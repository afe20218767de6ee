// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/jackc/pgx/v5"
)

var _ keystore.Watcher = (*Store)(nil)

// The notification of a commit. It is sent by the transaction itself, so that who
// gets it finds what was committed ([NOTIFY]).
//
// [NOTIFY]: https://www.postgresql.org/docs/15/sql-notify.html
const (
	listenSQL = `listen cretula`
	notifySQL = `notify cretula`
)

// Watch implements [keystore.Watcher] on a connection of its own. It ends when the
// Store is closed, too.
func (s *Store) Watch(ctx context.Context, changed func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.open.Done()
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return s.translateConnect(ctx, err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.limits.connect)
		defer cancel()
		conn.Close(closing)
	}()
	if _, err := conn.Exec(ctx, listenSQL); err != nil {
		return s.translate(ctx, err)
	}
	for {
		changed()
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return s.translate(ctx, err)
		}
	}
}
