// SPDX-License-Identifier: Apache-2.0

// Package postgres is the [keystore.Store] in a PostgreSQL database, for any
// number of servers at once.
//
// One database has one store, in the schema "cretula": table "rows" has the
// rows, "store" the version of this layout, "commits" what each server
// committed last. An id is bytea, so that its order is that of bytes whatever
// the database's encoding and collation are.
//
// Every transaction is REPEATABLE READ. That of an Update first takes the lock
// on the table "store", which no other Update of any server has then; LOCK
// TABLE takes no snapshot, so what the transaction sees is what the one before
// it left ([LOCK]). A View takes its snapshot when it begins. Both read from the
// primary each time: nothing is kept between transactions. A commit notifies all
// that listen, see [Store.Watch].
//
// When a transaction begins the clock of this machine is compared with that of the
// database, so that all servers have one time, or none of the rows: see [ErrClock].
//
// Tested against PostgreSQL 15.
//
// [LOCK]: https://www.postgresql.org/docs/15/sql-lock.html
package postgres

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Options are the choices of who opens a store. The zero value is the safe one.
type Options struct {
	// AllowUnsafeFsyncOff accepts a server that runs with fsync=off: what it
	// says is committed may be lost when its machine fails. For tests.
	AllowUnsafeFsyncOff bool
	// Now is the clock that is compared with the database's, see [ErrClock]; nil:
	// time.Now.
	Now func() time.Time
}

// limits bound every wait for the database.
type limits struct {
	connect   time.Duration // one attempt to connect
	begin     time.Duration // until a transaction has begun, with all waiting for others
	statement time.Duration // one statement, told to the server
	idle      time.Duration // a transaction without a statement, told to the server
	commit    time.Duration // the answer to a commit
	resolve   time.Duration // finding out what became of a commit without answer
}

// A transaction whose server is gone may hold the lock for as long as it may be
// idle; to find out what became of it may take longer than that.
var defaultLimits = limits{
	connect:   5 * time.Second,
	begin:     10 * time.Second,
	statement: 10 * time.Second,
	idle:      20 * time.Second,
	commit:    30 * time.Second,
	resolve:   30 * time.Second,
}

// maxClockDifference is more than the clocks of machines differ that are set by a
// time service, and less than any time that decisions depend on.
const maxClockDifference = time.Minute

// answer is how long the client waits for a statement: longer than the server
// works at it, so that it is the server that says so.
func (l limits) answer() time.Duration { return l.statement + l.statement/2 }

// A Store is an open store. It implements [keystore.Store].
type Store struct {
	pool    *pgxpool.Pool
	limits  limits
	version int32 // of the schema
	options Options
	// password is only looked for in the texts of errors.
	password string

	// writer is held by the one Update of this Store that runs. Those that wait
	// take no connection.
	writer chan struct{}
	// server names this Store in the table of commits, number counts its
	// commits; the writer's.
	server []byte
	number int64

	mu     sync.Mutex
	closed bool
	open   sync.WaitGroup // transactions, and those who watch
	// life ends when Close is called, by die.
	life context.Context
	die  context.CancelFunc
}

// Create makes an empty store in the database and opens it. The error matches
// [fs.ErrExist] if there is one: of several that call Create at once, one
// succeeds. The role needs the right to create the schema "cretula", or one of
// that name that is its own. For url and errors see [Open].
func Create(ctx context.Context, url string, options Options) (*Store, error) {
	return open(ctx, url, options, defaultLimits, migrations, true)
}

// Open opens the store in the database. The error matches [fs.ErrNotExist] if
// [Create] was never called, [keystore.ErrNewerVersion] if a newer program has
// changed the layout, [keystore.ErrUnavailable], [ErrUnsafeServer] or
// [ErrConnectionString]. A store of an older layout is brought up to date; older
// programs that have it open then get [keystore.ErrNewerVersion].
//
// url is a connection string of libpq, either form, with those of its parameters
// that say where and how to connect, and pool_max_conns, the most connections
// that are open at once (16). It must have no password: that comes from the file
// that PGPASSFILE names, from ~/.pgpass or from PGPASSWORD. What it leaves out
// comes from libpq's other variables. If the host is another machine, sslmode
// must be named: its default, prefer, would go on without TLS where an attacker
// says so. Of several hosts the first that is a primary is used.
func Open(ctx context.Context, url string, options Options) (*Store, error) {
	return open(ctx, url, options, defaultLimits, migrations, false)
}

func open(ctx context.Context, url string, options Options, l limits, steps []string, create bool) (*Store, error) {
	config, err := parse(url, l)
	if err != nil {
		return nil, err
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	s := &Store{
		limits: l, version: int32(len(steps)), options: options, password: config.ConnConfig.Password,
		writer: make(chan struct{}, 1), server: make([]byte, 16),
	}
	if _, err := rand.Read(s.server); err != nil {
		return nil, err
	}
	s.life, s.die = context.WithCancel(context.Background())
	config.AfterConnect = s.prepareSession
	// Connections outlive the call that makes them.
	if s.pool, err = pgxpool.NewWithConfig(context.WithoutCancel(ctx), config); err != nil {
		return nil, s.translate(ctx, err)
	}
	if err := s.migrate(ctx, steps, create); err != nil {
		s.die()
		s.pool.Close()
		return nil, err
	}
	return s, nil
}

// prepareSession sets what a new connection must have, whatever the defaults of
// server, database and role are.
func (s *Store) prepareSession(ctx context.Context, conn *pgx.Conn) error {
	const sql = `select current_setting('fsync') = 'on', set_config('synchronous_commit',
		case current_setting('synchronous_commit') when 'remote_apply' then 'remote_apply' else 'on' end, false)`
	var fsync bool
	var synchronous string
	if err := conn.QueryRow(ctx, sql).Scan(&fsync, &synchronous); err != nil {
		return err
	}
	return s.checkFsync(fsync)
}

func (s *Store) checkFsync(on bool) error {
	if !on && !s.options.AllowUnsafeFsyncOff {
		return ErrUnsafeServer
	}
	return nil
}

// enter counts a transaction.
func (s *Store) enter(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return keystore.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.open.Add(1)
	return nil
}

// Close implements [keystore.Store].
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.die()
	s.open.Wait()
	s.pool.Close()
	return nil
}

// View implements [keystore.Store].
func (s *Store) View(ctx context.Context, fn func(keystore.Tx) error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.open.Done()
	conn, err := s.begin(ctx, viewStart)
	if err != nil {
		return err
	}
	defer s.end(conn)
	t := &tx{ctx: ctx, store: s, conn: conn.Conn()}
	defer t.end()
	return fn(t)
}

// Update implements [keystore.Store]. Where the connection is lost while a commit
// is under way, Update finds out on another one what became of it, however long
// ctx has left, for 30 s at most. If the database is not back by then the error
// matches [keystore.ErrFailed] and [keystore.ErrUnavailable]: the change was made
// or it was not. The store can be used all the same; it need not be opened again.
func (s *Store) Update(ctx context.Context, fn func(keystore.Tx) error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.open.Done()
	conn, err := s.beginUpdate(ctx)
	if err != nil {
		return err
	}
	defer func() { <-s.writer }()
	t := &tx{ctx: ctx, store: s, conn: conn.Conn(), writable: true}
	// The connection is given back before another takes its place as the writer.
	if err := s.run(ctx, conn, t, fn); err != nil || !t.wrote {
		return err
	}
	return s.commit(ctx, conn, t)
}

// run calls fn. Unless a commit is to follow it gives the connection back.
func (s *Store) run(ctx context.Context, conn *pgxpool.Conn, t *tx, fn func(keystore.Tx) error) (err error) {
	keep := false
	defer func() {
		if !keep {
			s.end(conn)
		}
	}()
	defer t.end()
	if err := fn(t); err != nil {
		return err
	}
	// A function that passes over an error of the database commits nothing.
	if t.err != nil {
		return t.err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	keep = t.wrote
	return nil
}

// beginUpdate waits for the Updates of this Store and of all others.
func (s *Store) beginUpdate(ctx context.Context) (*pgxpool.Conn, error) {
	waiting, cancel := context.WithTimeout(ctx, s.limits.begin)
	defer cancel()
	select {
	case s.writer <- struct{}{}:
	case <-waiting.Done():
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return nil, &failure{kinds: []error{keystore.ErrUnavailable}, text: "other changes have not ended"}
	}
	conn, err := s.begin(waiting, updateStart)
	if err != nil {
		<-s.writer
		if ctxErr := ctx.Err(); ctxErr == nil && waiting.Err() != nil {
			err = &failure{kinds: []error{keystore.ErrUnavailable}, text: "no transaction could begin in time"}
		}
		return nil, err
	}
	return conn, nil
}

// Statements that begin a transaction. The last of each takes the snapshot, which
// BEGIN and LOCK do not.
var (
	viewStart = []string{"begin isolation level repeatable read read only"}
	// SELECT is not in conflict with this lock; another Update is.
	updateStart = []string{"begin isolation level repeatable read", "lock table cretula.store in exclusive mode"}
)

const headSQL = `select version, current_setting('fsync') = 'on', clock_timestamp() from cretula.store`

// begin takes a connection and begins a transaction on it, in one round trip.
func (s *Store) begin(ctx context.Context, statements []string) (*pgxpool.Conn, error) {
	bounded, cancel := context.WithTimeout(ctx, s.limits.begin)
	defer cancel()
	for again := true; ; again = false {
		conn, err := s.pool.Acquire(bounded)
		if err != nil {
			return nil, s.translateConnect(ctx, err)
		}
		err = s.start(bounded, conn.Conn(), statements)
		if err == nil {
			return conn, nil
		}
		lost := conn.Conn().IsClosed()
		s.end(conn)
		if !lost || !again || bounded.Err() != nil {
			return nil, s.translate(ctx, err)
		}
		// The server was restarted, perhaps: no connection from before is good.
		s.pool.Reset()
	}
}

func (s *Store) start(ctx context.Context, conn *pgx.Conn, statements []string) error {
	var batch pgx.Batch
	for _, sql := range statements {
		batch.Queue(sql)
	}
	var version int32
	var fsync, found bool
	var clock time.Time
	batch.Queue(headSQL).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			if err := rows.Scan(&version, &fsync, &clock); err != nil {
				return err
			}
			found = true
		}
		return rows.Err()
	})
	before := s.options.Now()
	if err := conn.SendBatch(ctx, &batch).Close(); err != nil {
		return err
	}
	after := s.options.Now()
	switch {
	case !found || version < s.version:
		return fmt.Errorf("%w: schema version %d, it was %d", keystore.ErrDamaged, version, s.version)
	case version > s.version:
		return newerVersion(version, s.version)
	case clock.Before(before.Add(-maxClockDifference)) || clock.After(after.Add(maxClockDifference)):
		return fmt.Errorf("%w: here it is %s, there %s", ErrClock, after.UTC().Format(time.RFC3339), clock.UTC().Format(time.RFC3339))
	}
	return s.checkFsync(fsync)
}

// end gives the connection back. What was not committed is undone.
func (s *Store) end(conn *pgxpool.Conn) {
	if raw := conn.Conn(); !raw.IsClosed() && raw.PgConn().TxStatus() != 'I' {
		ctx, cancel := context.WithTimeout(context.Background(), s.limits.answer())
		defer cancel()
		// Where this fails the pool closes the connection, which undoes as well.
		_, _ = raw.Exec(ctx, "rollback")
	}
	conn.Release()
}
