// SPDX-License-Identifier: Apache-2.0

//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/pgtest"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/jackc/pgx/v5"
)

// A proxy stands between a store and the server and cuts connections.
type proxy struct {
	listener net.Listener
	target   string

	mu sync.Mutex
	// sent counts the bytes that went up to the server and down from it.
	sent [2]int
	// left is how many may still go before the cut; negative for no cut.
	left [2]int
	// hang leaves the connection open at a cut: nothing comes through any more.
	hang bool
	// cut says that there was one. away refuses connections from then on.
	cut, away bool
	open      []net.Conn
}

const up, down = 0, 1

func newProxy(t *testing.T, port int) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, target: fmt.Sprintf("127.0.0.1:%d", port), left: [2]int{-1, -1}}
	t.Cleanup(func() {
		l.Close()
		p.closeAll()
	})
	go p.serve()
	return p
}

func (p *proxy) url(database string) string {
	return pgtest.URLAt(p.listener.Addr().(*net.TCPAddr).Port, database)
}

func (p *proxy) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		c.Close()
	}
	p.open = nil
}

func (p *proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		refuse := p.cut && p.away
		p.mu.Unlock()
		server, err := net.Dial("tcp", p.target)
		if refuse || err != nil {
			client.Close()
			if err == nil {
				server.Close()
			}
			continue
		}
		p.mu.Lock()
		p.open = append(p.open, client, server)
		p.mu.Unlock()
		go p.copy(up, server, client)
		go p.copy(down, client, server)
	}
}

func (p *proxy) copy(direction int, to, from net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		pass, cut, hang := p.account(direction, n)
		if pass > 0 {
			to.Write(buffer[:pass])
		}
		if cut && hang {
			return
		}
		if cut || err != nil {
			to.Close()
			from.Close()
			return
		}
	}
}

// account says how many of n bytes may pass, and whether the cut comes then.
func (p *proxy) account(direction, n int) (pass int, cut, hang bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left[direction] >= 0 && p.left[direction] < n {
		n = p.left[direction]
		p.left = [2]int{-1, -1}
		p.cut, cut = true, true
	} else if p.left[direction] >= 0 {
		p.left[direction] -= n
	}
	p.sent[direction] += n
	return n, cut, p.hang
}

// arm begins to count; the cut comes after so many bytes in the direction.
func (p *proxy) arm(direction, after int, hang, away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent, p.left, p.cut, p.hang, p.away = [2]int{}, [2]int{-1, -1}, false, hang, away
	p.left[direction] = after
}

func (p *proxy) state() (sent [2]int, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent, p.cut
}

// write is the transaction of the tests below: it reads, writes and commits.
func write(s *Store, version uint64) error {
	return s.Update(ctx, func(tx keystore.Tx) error {
		if _, err := tx.Get("t", "a"); err != nil && !errors.Is(err, keystore.ErrNotFound) {
			return err
		}
		if err := tx.Put(keystore.Row{Table: "t", ID: "a", Version: version}); err != nil {
			return err
		}
		return tx.Put(keystore.Row{Table: "t", ID: "b", Version: version})
	})
}

// isThere reports whether the change is there, and fails if a half of it is.
func isThere(t *testing.T, s *Store, version uint64) bool {
	t.Helper()
	a, errA := get(t, s, "t", "a")
	b, errB := get(t, s, "t", "b")
	if errA != nil || errB != nil || a.Version != b.Version {
		t.Fatalf("half a change: versions %d and %d, %v, %v", a.Version, b.Version, errA, errB)
	}
	return a.Version == version
}

// TestConnectionIsCut cuts the connection at the bytes of an Update. Whatever it
// returns must be the truth.
func TestConnectionIsCut(t *testing.T) {
	server := pgtest.Shared(t)
	name := server.Database(t)
	direct := create(t, server.URL(name))
	proxy := newProxy(t, server.Port)
	s := reopen(t, proxy.url(name))
	version := uint64(0)
	next := func() error { version++; return write(s, version) }
	for range 3 { // the third Update prepares no statement
		proxy.arm(up, -1, false, false)
		if err := next(); err != nil {
			t.Fatal(err)
		}
	}
	total, _ := proxy.state()
	if total[up] < 200 || total[down] < 100 {
		t.Fatalf("an Update sends %v bytes", total)
	}
	step := 9
	if os.Getenv("CRETULA_LONG") == "1" {
		step = 1
	}
	done, undone, saved := 0, 0, 0
	for direction := range total {
		for after := 0; after < total[direction]; after++ {
			fromEnd := total[direction] - after
			if after%step != 0 && fromEnd > 30 {
				continue
			}
			// All statements are prepared on the connection that is cut.
			if err := errors.Join(next(), next()); err != nil {
				t.Fatal(err)
			}
			proxy.arm(direction, after, false, false)
			err := next()
			_, cut := proxy.state()
			there := isThere(t, direct, version)
			switch {
			case err == nil && there:
				done++
				if cut && direction == down && fromEnd <= 18 {
					saved++
				}
			case err != nil && !there && errors.Is(err, keystore.ErrUnavailable) && !errors.Is(err, keystore.ErrFailed):
				undone++
			default:
				t.Errorf("cut %d bytes before the end of direction %d: %v, but the change is there: %t", fromEnd, direction, err, there)
			}
		}
	}
	// The answer to COMMIT and the end of the batch are the last 18 bytes.
	if done == 0 || undone == 0 || saved < 15 {
		t.Errorf("%d done, %d of them by asking again, %d undone", done, saved, undone)
	}
	t.Logf("%v bytes; %d done, %d of them by asking again, %d undone", total, done, saved, undone)
}

// TestServerHangs is the same with a connection on which nothing comes through
// any more, and of which the server knows nothing.
func TestServerHangs(t *testing.T) {
	server := pgtest.Shared(t)
	name := server.Database(t)
	direct := create(t, server.URL(name))
	proxy := newProxy(t, server.Port)
	l := defaultLimits
	l.statement, l.idle, l.commit = 300*time.Millisecond, time.Second, 300*time.Millisecond
	s, err := open(ctx, proxy.url(name), Options{}, l, migrations, false)
	mustStore(t, s, err)
	version := uint64(0)
	next := func() error { version++; return write(s, version) }
	var total, atCommit [2]int
	for range 3 {
		proxy.arm(up, -1, true, false)
		err := s.Update(ctx, func(tx keystore.Tx) error {
			if _, err := tx.Get("t", "a"); err != nil && !errors.Is(err, keystore.ErrNotFound) {
				return err
			}
			row := keystore.Row{Table: "t", ID: "a"}
			other := row
			other.ID = "b"
			atCommit, _ = proxy.state() // what Put gets is sent with the commit
			return errors.Join(tx.Put(row), tx.Put(other))
		})
		if err != nil {
			t.Fatal(err)
		}
		total, _ = proxy.state()
	}
	for _, test := range []struct {
		what             string
		direction, after int
		there            bool
	}{
		{"the answer", down, total[down] - 1, true},
		{"all of the answer", down, total[down] - 18, true},
		{"the end of the commit", up, total[up] - 1, true},
		// The server has nothing to do, and ends the transaction after a while.
		{"the commit", up, atCommit[up], false},
	} {
		if err := errors.Join(next(), next()); err != nil {
			t.Fatal(err)
		}
		proxy.arm(test.direction, test.after, true, false)
		err := next()
		there := isThere(t, direct, version)
		if there != test.there || there != (err == nil) || errors.Is(err, keystore.ErrFailed) {
			t.Errorf("%s hangs: %v, but the change is there: %t", test.what, err, there)
		}
	}
	// A View that gets no answer.
	err = s.View(ctx, func(tx keystore.Tx) error {
		proxy.arm(down, 0, true, false)
		_, err := tx.Get("t", "a")
		return err
	})
	if _, cut := proxy.state(); !cut || !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("Get: %v, want ErrUnavailable", err)
	}
}

// TestOutcomeUnknown cuts during COMMIT and lets nobody connect again.
func TestOutcomeUnknown(t *testing.T) {
	server := pgtest.Shared(t)
	name := server.Database(t)
	direct := create(t, server.URL(name))
	proxy := newProxy(t, server.Port)
	l := defaultLimits
	l.resolve = 300 * time.Millisecond
	s, err := open(ctx, proxy.url(name), Options{}, l, migrations, false)
	mustStore(t, s, err)
	version := uint64(0)
	next := func() error { version++; return write(s, version) }
	var total [2]int
	for range 3 {
		proxy.arm(up, -1, false, false)
		if err := next(); err != nil {
			t.Fatal(err)
		}
		total, _ = proxy.state()
	}
	for _, test := range []struct {
		direction, fromEnd int
		there              bool
	}{{down, 10, true}, {up, 12, false}} {
		if err := errors.Join(next(), next()); err != nil {
			t.Fatal(err)
		}
		proxy.arm(test.direction, total[test.direction]-test.fromEnd, false, true)
		err := next()
		if !errors.Is(err, keystore.ErrFailed) || !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("%+v: %v, want ErrFailed", test, err)
		}
		if there := isThere(t, direct, version); there != test.there {
			t.Errorf("%+v: the change is there: %t", test, there)
		}
		if _, err := get(t, s, "t", "a"); !errors.Is(err, keystore.ErrUnavailable) || errors.Is(err, keystore.ErrFailed) {
			t.Errorf("View while the database is away: %v", err)
		}
		// It comes back, and the store is as good as before.
		proxy.arm(up, -1, false, false)
		if err := next(); err != nil || !isThere(t, direct, version) {
			t.Errorf("Update when the database is back: %v", err)
		}
	}
}

func TestStopAndStart(t *testing.T) {
	server := pgtest.New(t)
	name := server.Database(t)
	s := create(t, server.URL(name))
	put(t, s, keystore.Row{Table: "t", ID: "a", Version: 1})
	for _, end := range []func(){server.Stop, func() { server.Kill(t) }} {
		var open sync.WaitGroup
		for range 4 { // so that there are connections that are lost
			open.Go(func() { get(t, s, "t", "a") })
		}
		open.Wait()
		end()
		none := func(keystore.Tx) error { t.Error("called without a database"); return nil }
		if err := s.View(ctx, none); !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("View: %v, want ErrUnavailable", err)
		}
		if err := s.Update(ctx, none); !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("Update: %v, want ErrUnavailable", err)
		}
		ended, cancel := context.WithTimeout(ctx, time.Nanosecond)
		if err := s.View(ended, none); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("View with a context that has ended: %v", err)
		}
		cancel()
		if _, err := Open(ctx, server.URL(name), Options{}); !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("Open: %v, want ErrUnavailable", err)
		}
		server.Start(t)
		if row, err := get(t, s, "t", "a"); err != nil || row.Version != 1 {
			t.Errorf("View after the start: version %d, %v", row.Version, err)
		}
		put(t, s, keystore.Row{Table: "t", ID: "b"})
		// A restart between two transactions is not noticed.
		server.Stop()
		server.Start(t)
		put(t, s, keystore.Row{Table: "t", ID: "c"})
	}
}

// A server that stops while a transaction is open.
func TestStopWithinTransaction(t *testing.T) {
	server := pgtest.New(t)
	name := server.Database(t)
	s := create(t, server.URL(name))
	put(t, s, keystore.Row{Table: "t", ID: "a", Version: 1})
	for _, swallow := range []bool{false, true} {
		err := s.Update(ctx, func(tx keystore.Tx) error {
			if err := tx.Put(keystore.Row{Table: "t", ID: "a", Version: 2}); err != nil {
				return err
			}
			server.Kill(t)
			server.Start(t)
			_, err := tx.Get("t", "a")
			if !errors.Is(err, keystore.ErrUnavailable) {
				t.Errorf("Get: %v, want ErrUnavailable", err)
			}
			if err := tx.Put(keystore.Row{Table: "t", ID: "b"}); !errors.Is(err, keystore.ErrUnavailable) {
				t.Errorf("Put after a failure: %v, want ErrUnavailable", err)
			}
			if swallow {
				return nil
			}
			return err
		})
		if !errors.Is(err, keystore.ErrUnavailable) || errors.Is(err, keystore.ErrFailed) {
			t.Errorf("Update: %v, want ErrUnavailable", err)
		}
		if row, err := get(t, s, "t", "a"); err != nil || row.Version != 1 {
			t.Errorf("version %d, %v, want 1", row.Version, err)
		}
	}
}

// TestKillDuringCommits kills the server again and again while two stores write.
// What an Update has promised is there, what it has denied is not, and nothing is
// there by half.
func TestKillDuringCommits(t *testing.T) {
	server := pgtest.New(t)
	name := server.Database(t)
	stores := []*Store{create(t, server.URL(name)), reopen(t, server.URL(name))}
	promised, denied := sync.Map{}, sync.Map{}
	var unknown, count atomic.Int64
	stop := make(chan bool)
	var workers sync.WaitGroup
	for w := range 6 {
		workers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				id := fmt.Sprintf("%d-%d", w, n)
				err := stores[w%2].Update(ctx, func(tx keystore.Tx) error {
					a := keystore.Row{Table: "a", ID: id, Version: 1, Content: []byte(strings.Repeat(id, 100))}
					b := a
					b.Table = "b"
					return errors.Join(tx.Put(a), tx.Put(b))
				})
				switch {
				case err == nil:
					promised.Store(id, true)
					count.Add(1)
				case errors.Is(err, keystore.ErrFailed):
					unknown.Add(1)
				case errors.Is(err, keystore.ErrUnavailable):
					denied.Store(id, true)
					time.Sleep(10 * time.Millisecond)
				default:
					t.Errorf("Update: %v", err)
				}
			}
		})
	}
	for range 6 {
		before := count.Load()
		waitFor(t, "the stores write", func() bool { return count.Load() > before+20 })
		time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
		if rand.IntN(2) == 0 {
			server.Kill(t)
			server.Start(t)
			continue
		}
		// One process of the server dies; the server ends all others and starts anew.
		var backend int
		err := stores[0].pool.QueryRow(ctx, "select pg_backend_pid()").Scan(&backend)
		if err == nil {
			server.KillChild(t, backend)
		}
	}
	close(stop)
	workers.Wait()
	checkHalves(t, stores[0], &promised, &denied)
	t.Logf("%d changes, %d unknown", count.Load(), unknown.Load())
}

func checkHalves(t *testing.T, s *Store, promised, denied *sync.Map) {
	t.Helper()
	there := map[string]map[string]bool{"a": {}, "b": {}}
	waitFor(t, "the database is back", func() bool {
		return s.View(ctx, func(tx keystore.Tx) error {
			for table, ids := range there {
				if err := tx.Scan(table, "", func(row keystore.Row) bool { ids[row.ID] = true; return true }); err != nil {
					return err
				}
			}
			return nil
		}) == nil
	})
	for id := range there["a"] {
		if !there["b"][id] {
			t.Errorf("change %s is there by half", id)
		}
		if _, ok := denied.Load(id); ok {
			t.Errorf("change %s is there, though Update returned an error", id)
		}
	}
	if len(there["a"]) != len(there["b"]) {
		t.Errorf("%d rows and %d", len(there["a"]), len(there["b"]))
	}
	promised.Range(func(id, _ any) bool {
		if !there["a"][id.(string)] {
			t.Errorf("change %s is lost, though Update returned nil", id)
		}
		return true
	})
}

func TestStatementTimeout(t *testing.T) {
	server := pgtest.Shared(t)
	name := server.Database(t)
	create(t, server.URL(name))
	l := defaultLimits
	l.statement = 200 * time.Millisecond
	s, err := open(ctx, server.URL(name), Options{}, l, migrations, false)
	mustStore(t, s, err)
	put(t, s, keystore.Row{Table: "t", ID: "a"})
	blocker, err := pgx.Connect(ctx, server.URL(name))
	if err != nil {
		t.Fatal(err)
	}
	defer blocker.Close(ctx)
	for _, lock := range []string{
		"lock table cretula.rows in access exclusive mode", "lock table cretula.store in access exclusive mode",
	} {
		tx, err := blocker.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(ctx, lock); err != nil {
			t.Fatal(err)
		}
		if _, err := get(t, s, "t", "a"); !errors.Is(err, keystore.ErrUnavailable) || !strings.Contains(err.Error(), "57014") {
			t.Errorf("%s: Get: %v, want ErrUnavailable", lock, err)
		}
		if err := write(s, 1); !errors.Is(err, keystore.ErrUnavailable) || errors.Is(err, keystore.ErrFailed) {
			t.Errorf("%s: Update: %v, want ErrUnavailable", lock, err)
		}
		// The caller's own end comes first.
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		err = s.Update(short, func(tx keystore.Tx) error { _, err := tx.Get("t", "a"); return err })
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: Update: %v, want DeadlineExceeded", lock, err)
		}
		if err := tx.Rollback(ctx); err != nil {
			t.Fatal(err)
		}
		if err := write(s, 1); err != nil {
			t.Errorf("Update when the lock is gone: %v", err)
		}
	}
}

// A server that hangs within an Update stops the others for a time, not for ever.
func TestIdleUpdateEnds(t *testing.T) {
	server := pgtest.Shared(t)
	name := server.Database(t)
	other := create(t, server.URL(name))
	l := defaultLimits
	l.idle = 300 * time.Millisecond
	s, err := open(ctx, server.URL(name), Options{}, l, migrations, false)
	mustStore(t, s, err)
	err = s.Update(ctx, func(tx keystore.Tx) error {
		if err := tx.Put(keystore.Row{Table: "t", ID: "a"}); err != nil {
			return err
		}
		// This one waits for the lock that the other holds and does nothing with.
		put(t, other, keystore.Row{Table: "t", ID: "b"})
		return nil
	})
	if !errors.Is(err, keystore.ErrUnavailable) || errors.Is(err, keystore.ErrFailed) {
		t.Errorf("Update: %v, want ErrUnavailable", err)
	}
	if _, err := get(t, other, "t", "a"); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("Get: %v, want ErrNotFound", err)
	}
	put(t, s, keystore.Row{Table: "t", ID: "a"})
}

// A database that takes no changes is not the primary, or is being maintained.
func TestReadOnlyServer(t *testing.T) {
	server := pgtest.Shared(t)
	name := server.Database(t)
	url := server.URL(name)
	create(t, url)
	server.Exec(t, name, "alter database "+name+" set default_transaction_read_only = on")
	if _, err := Open(ctx, url, Options{}); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("Open: %v, want ErrUnavailable", err)
	}
}

// A commit that no standby has confirmed is not promised, though it is on the
// server's own disk.
func TestStandbyIsMissing(t *testing.T) {
	server := pgtest.New(t)
	name := server.Database(t)
	create(t, server.URL(name))
	l := defaultLimits
	l.commit, l.resolve = 300*time.Millisecond, 2*time.Second
	s, err := open(ctx, server.URL(name), Options{}, l, migrations, false)
	mustStore(t, s, err)
	standbys := func(names string) {
		server.Exec(t, name, "alter system set synchronous_standby_names = '"+names+"'")
		server.Exec(t, name, "select pg_reload_conf()")
		waitFor(t, "the setting is made", func() bool {
			var got string
			err := s.pool.QueryRow(ctx, "show synchronous_standby_names").Scan(&got)
			return err == nil && got == names
		})
	}
	standbys("nobody")
	if err := write(s, 1); !errors.Is(err, keystore.ErrFailed) {
		t.Errorf("Update: %v, want ErrFailed", err)
	}
	standbys("")
	if err := write(s, 2); err != nil || !isThere(t, s, 2) {
		t.Errorf("Update without standbys: %v", err)
	}
}

// A standby is behind; it is never read from, and of two hosts the primary is found.
func TestStandbyIsNotUsed(t *testing.T) {
	primary := pgtest.New(t)
	name := primary.Database(t)
	s := create(t, primary.URL(name))
	standby := primary.Standby(t)
	if _, err := Open(ctx, standby.URL(name), Options{}); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("Open of a standby: %v, want ErrUnavailable", err)
	}
	hosts := fmt.Sprintf("@127.0.0.1:%d,127.0.0.1:%d/", standby.Port, primary.Port)
	both := reopen(t, strings.Replace(primary.URL(name), fmt.Sprintf("@127.0.0.1:%d/", primary.Port), hosts, 1))
	put(t, s, keystore.Row{Table: "t", ID: "a", Version: 1})
	if row, err := get(t, both, "t", "a"); err != nil || row.Version != 1 {
		t.Errorf("version %d, %v", row.Version, err)
	}
	// The standby takes over.
	waitFor(t, "the standby has all", func() bool {
		conn, err := pgx.Connect(ctx, standby.URL(name))
		if err != nil {
			return false
		}
		defer conn.Close(ctx)
		var found bool
		err = conn.QueryRow(ctx, "select exists (select from cretula.rows where id = 'a')").Scan(&found)
		return err == nil && found
	})
	primary.Kill(t)
	standby.Exec(t, "postgres", "select pg_promote()")
	waitFor(t, "the new primary is found", func() bool {
		row, err := get(t, both, "t", "a")
		return err == nil && row.Version == 1
	})
	put(t, both, keystore.Row{Table: "t", ID: "a", Version: 2})
}
