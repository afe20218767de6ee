// SPDX-License-Identifier: Apache-2.0

//go:build linux

package postgres

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/pgtest"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/jackc/pgx/v5/pgconn"
)

const secret = "hunter2-S3cret"

func TestConnectionStrings(t *testing.T) {
	for _, test := range []struct{ url, want string }{
		{"postgres://u:" + secret + "@127.0.0.1/d", "must not have a password"},
		{"postgres://u@127.0.0.1/d?password=" + secret, "must not have a password"},
		{"postgres://u@127.0.0.1/d?pass%77ord=" + secret, "must not have a password"},
		{"postgres://u@127.0.0.1/d?sslpassword=" + secret, "must not have a password"},
		{"host=127.0.0.1 password=" + secret, "must not have a password"},
		{"host=127.0.0.1 password='" + secret + " x'", "must not have a password"},
		{"host=127.0.0.1 password = " + secret + " x", ""},
		{"postgres://u:" + secret + ":x@127.0.0.1:abc/d", ""},
		{"postgres://u:" + secret + "%zz@127.0.0.1/d", ""},
		{"postgres://u:a/" + secret + "@127.0.0.1/d", ""},
		{"postgres://u:a?" + secret + "=x@127.0.0.1/d", ""},
		{secret, ""},
		{"host=127.0.0.1 " + secret + "=x", "a parameter is none of"},
		{"host=127.0.0.1 port=" + secret, "invalid port"},
		{"host=127.0.0.1 target_session_attrs=" + secret, "unknown target_session_attrs value"},
		{"host=127.0.0.1 options='-c synchronous_commit=off'", "a parameter is none of"},
		{"host=127.0.0.1 synchronous_commit=off", "a parameter is none of"},
		{"host=127.0.0.1 search_path=" + secret, "a parameter is none of"},
		{"host=127.0.0.1 default_query_exec_mode=simple_protocol", "a parameter is none of"},
		{"host=127.0.0.1 sslmode=verify-full sslrootcert=/nonexistent/root.pem", "/nonexistent/root.pem"},
		{"postgres://u@db.example.com/d", "name an sslmode"},
		{"postgres://u@db.example.com/d?sslmode=prefer", "name an sslmode"},
		{"postgres://u@db.example.com/d?sslmode=allow", "name an sslmode"},
		{"postgres://u@127.0.0.1,db.example.com/d", "name an sslmode"},
		{"postgres://u@127.0.0.1/d?pool_max_conns=0", "pool_max_conns"},
		{"postgres://u@127.0.0.1/d?pool_max_conns=" + secret, "pool_max_conns"},
	} {
		s, err := Open(ctx, test.url, Options{})
		if !errors.Is(err, ErrConnectionString) || s != nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Open(%q): %v, want %q", test.url, err, test.want)
		}
		if err != nil && strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), secret) {
			t.Errorf("Open(%q): the error has the secret: %v", test.url, err)
		}
	}
	for _, url := range []string{
		"postgres://u@db.example.com/d?sslmode=verify-full", "postgres://u@db.example.com/d?sslmode=disable",
		"postgres://u@127.0.0.1/d", "postgres://u@[::1]/d", "postgres://u@localhost/d", "host=/run/postgresql dbname=d",
	} {
		if _, err := parse(url, defaultLimits); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	config, err := parse("host=127.0.0.1 sslmode=disable", defaultLimits)
	if err != nil || config.MaxConns != maxConnections {
		t.Errorf("%v, %v", config, err)
	}
	config, err = parse("host=127.0.0.1 sslmode=disable pool_max_conns=3", defaultLimits)
	if err != nil || config.MaxConns != 3 {
		t.Errorf("%v, %v", config, err)
	}
}

// The password comes from a file or the environment, and goes nowhere else.
func TestPassword(t *testing.T) {
	server := pgtest.New(t)
	name := server.Database(t)
	server.Exec(t, name, "set password_encryption = 'scram-sha-256'")
	server.Exec(t, name, "create role guarded login password '"+secret+"'")
	server.Exec(t, name, "create schema cretula authorization guarded")
	url := strings.Replace(server.URL(name), "tester@", "guarded@", 1)
	file := filepath.Join(t.TempDir(), "pgpass")
	if err := os.WriteFile(file, []byte("127.0.0.1:*:*:guarded:"+secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(ctx, url, Options{}); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("Create without a password: %v", err)
	}
	t.Setenv("PGPASSFILE", file)
	put(t, create(t, url), keystore.Row{Table: "t", ID: "a"})
	t.Setenv("PGPASSFILE", "")
	t.Setenv("PGPASSWORD", secret)
	reopen(t, url)

	wrong := "wrong-" + secret
	t.Setenv("PGPASSWORD", wrong)
	_, err := Open(ctx, url, Options{})
	if !errors.Is(err, keystore.ErrUnavailable) || !strings.Contains(err.Error(), "password authentication failed") {
		t.Errorf("Open with a wrong password: %v", err)
	}
	noSecret(t, err, wrong)
	// A server could say it back.
	s := &Store{password: wrong}
	noSecret(t, s.failure(keystore.ErrUnavailable, "ERROR: no "+wrong), wrong)
	// A host that is not there.
	t.Setenv("PGCONNECT_TIMEOUT", "1")
	_, err = Open(ctx, strings.Replace(url, "127.0.0.1", "127.0.0.2", 1), Options{})
	if !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("Open of no host: %v", err)
	}
	noSecret(t, err, wrong)
}

func noSecret(t *testing.T, err error, secret string) {
	t.Helper()
	if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), secret) {
		t.Errorf("the error has the password: %v", err)
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		t.Errorf("the error has the driver's configuration in it: %v", err)
	}
}

func TestTLS(t *testing.T) {
	server := pgtest.New(t)
	name := server.Database(t)
	server.Exec(t, name, "create role tlsonly login superuser")
	url := strings.Replace(server.URL(name), "tester@", "tlsonly@", 1)
	if _, err := Create(ctx, url, Options{}); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("Create without TLS: %v", err)
	}
	verified := strings.Replace(url, "sslmode=disable", "sslmode=verify-full&sslrootcert=", 1)
	s := create(t, verified+filepath.Join(server.Data, pgtest.CertificateFile))
	var encrypted bool
	err := s.pool.QueryRow(ctx, "select ssl from pg_stat_ssl where pid = pg_backend_pid()").Scan(&encrypted)
	if err != nil || !encrypted {
		t.Errorf("encrypted: %t, %v", encrypted, err)
	}
	other := t.TempDir()
	pgtest.WriteCertificates(t, other)
	if _, err := Open(ctx, verified+filepath.Join(other, pgtest.CertificateFile), Options{}); !errors.Is(err, keystore.ErrUnavailable) ||
		!strings.Contains(err.Error(), "certificate") {
		t.Errorf("Open with another root: %v", err)
	}
	named := strings.Replace(verified, "127.0.0.1", "localhost", 1)
	if _, err := Open(ctx, named+filepath.Join(server.Data, pgtest.CertificateFile), Options{}); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("Open of a name that is not in the certificate: %v", err)
	}
}

// Sessions commit synchronously whatever the defaults are.
func TestSessionSettings(t *testing.T) {
	server := pgtest.New(t)
	name := server.Database(t)
	url := server.URL(name)
	create(t, url)
	setting := func(what string) (value string) {
		t.Helper()
		s := reopen(t, url)
		if err := s.pool.QueryRow(ctx, "select current_setting($1)", what).Scan(&value); err != nil {
			t.Error(err)
		}
		return value
	}
	t.Setenv("PGOPTIONS", "-c synchronous_commit=off -c statement_timeout=0")
	for _, test := range []struct{ sql, want string }{
		{"select 1", "on"},
		{"alter database " + name + " set synchronous_commit = off", "on"},
		{"alter role tester set synchronous_commit = local", "on"},
		{"alter role tester set synchronous_commit = remote_write", "on"},
		{"alter role tester set synchronous_commit = remote_apply", "remote_apply"},
	} {
		server.Exec(t, name, test.sql)
		if got := setting("synchronous_commit"); got != test.want {
			t.Errorf("after %q: synchronous_commit = %s, want %s", test.sql, got, test.want)
		}
	}
	server.Exec(t, name, "alter role tester set statement_timeout = 0")
	for what, want := range map[string]string{
		"statement_timeout": "10s", "lock_timeout": "10s", "idle_in_transaction_session_timeout": "20s", "search_path": "pg_catalog",
		"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "2", "tcp_user_timeout": "20000",
	} {
		if got := setting(what); got != want {
			t.Errorf("%s = %s, want %s", what, got, want)
		}
	}
}

func TestUnsafeServer(t *testing.T) {
	server := pgtest.New(t)
	name := server.Database(t)
	url := server.URL(name)
	s := create(t, url)
	put(t, s, keystore.Row{Table: "t", ID: "a"})
	server.Exec(t, name, "alter system set fsync = off")
	server.Exec(t, name, "select pg_reload_conf()")
	none := func(keystore.Tx) error { t.Error("called on an unsafe server"); return nil }
	waitFor(t, "fsync is off", func() bool {
		_, err := Open(ctx, url, Options{})
		return errors.Is(err, ErrUnsafeServer)
	})
	// Connections that were made before notice too.
	if err := s.Update(ctx, none); !errors.Is(err, ErrUnsafeServer) {
		t.Errorf("Update: %v", err)
	}
	if err := s.View(ctx, none); !errors.Is(err, ErrUnsafeServer) {
		t.Errorf("View: %v", err)
	}
	if _, err := Create(ctx, server.URL(server.Database(t)), Options{}); !errors.Is(err, ErrUnsafeServer) {
		t.Errorf("Create: %v", err)
	}
	allowed, err := Open(ctx, url, Options{AllowUnsafeFsyncOff: true})
	put(t, mustStore(t, allowed, err), keystore.Row{Table: "t", ID: "b"})
}

func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so after a minute: %s", what)
		}
	}
}

// A server whose clock is wrong does not work with the store, neither from the
// start nor once it goes wrong, and does again when it is right.
func TestClock(t *testing.T) {
	server := pgtest.Shared(t)
	url := server.URL(server.Database(t))
	create(t, url)
	var ahead atomic.Int64
	options := Options{Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }}
	s, err := Open(ctx, url, options)
	mustStore(t, s, err)
	for _, step := range []struct {
		ahead time.Duration
		good  bool
	}{
		{0, true}, {10 * time.Minute, false}, {30 * time.Second, true}, {-30 * time.Second, true},
		{-10 * time.Minute, false}, {2 * time.Minute, false}, {-2 * time.Minute, false}, {1000 * time.Hour, false}, {0, true},
	} {
		ahead.Store(int64(step.ahead))
		ran := false
		view := s.View(ctx, func(keystore.Tx) error { ran = true; return nil })
		update := s.Update(ctx, func(tx keystore.Tx) error {
			ran = true
			return tx.Put(keystore.Row{Table: "t", ID: "a", Version: 1})
		})
		for _, err := range []error{view, update} {
			if step.good != (err == nil) || !step.good && (!errors.Is(err, ErrClock) || !errors.Is(err, keystore.ErrUnavailable) || ran) {
				t.Errorf("%v ahead: %v", step.ahead, err)
			}
		}
	}
}
