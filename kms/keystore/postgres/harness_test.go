// SPDX-License-Identifier: Apache-2.0

//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/jackc/pgx/v5"
)

var ctx = context.Background()

func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		if err := runChild(role, os.Getenv(childURL)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if s := cluster.shared; s != nil {
		s.stop()
		os.RemoveAll(s.dir)
	}
	os.RemoveAll(cluster.template)
	os.Exit(code)
}

// program returns the path of one of PostgreSQL's programs, which Debian does not
// put into PATH.
func program(t testing.TB, name string) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	slices.SortFunc(found, func(a, b string) int { return version(a) - version(b) })
	if len(found) > 0 {
		name = found[len(found)-1]
	}
	return need.Program(t, name)
}

func version(path string) int {
	n, _ := strconv.Atoi(strings.Split(path, "/")[4])
	return n
}

// A cluster is a data folder that initdb has made once, to be copied for each
// server, and the server that most tests share.
var cluster struct {
	sync.Mutex
	template string
	shared   *server
}

type server struct {
	dir, data string
	port      int
	// stdin is that of a shell which stops the server when it is closed: also if
	// the tests end in some other way than planned.
	stdin io.Closer
	cmd   *exec.Cmd
	// sweep are the folders that the shell removes in the end. A worker of a fuzz
	// target is killed and cannot.
	sweep []string
}

// serverUser is who the server runs as: it refuses to be root.
func serverUser(t testing.TB) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	t.Fatal("no user that the server could run as")
	return nil
}

// command runs a program as the user of the server.
func command(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if credential := serverUser(t); credential != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	}
	return cmd
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := command(t, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// Users of the test servers: all but guarded are let in without a password.
const hba = `
hostssl all         tlsonly 127.0.0.1/32 trust
host    all         tlsonly 127.0.0.1/32 reject
host    all         guarded 127.0.0.1/32 scram-sha-256
local   all         all                  trust
host    all         all     127.0.0.1/32 trust
host    replication all     127.0.0.1/32 trust
`

// newFolder makes a folder of the server's user, with a path that is short enough
// for a socket.
func newFolder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cretula-pg-")
	if err != nil {
		t.Fatal(err)
	}
	if credential := serverUser(t); credential != nil {
		if err := os.Chown(dir, int(credential.Uid), int(credential.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func template(t testing.TB) string {
	t.Helper()
	if cluster.template == "" {
		initdb := program(t, "initdb")
		cluster.template = newFolder(t)
		data := filepath.Join(cluster.template, "data")
		run(t, initdb, "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
		if err := os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte(hba), 0o600); err != nil {
			t.Fatal(err)
		}
		writeCertificates(t, data)
	}
	return cluster.template
}

// sharedServer returns the server that tests share. They must leave it as it is.
func sharedServer(t testing.TB) *server {
	t.Helper()
	cluster.Lock()
	defer cluster.Unlock()
	if cluster.shared == nil {
		s := copyServer(t)
		s.sweep = []string{s.dir, cluster.template}
		s.start(t)
		cluster.shared = s
	}
	return cluster.shared
}

// newServer starts a server of the test's own.
func newServer(t testing.TB) *server {
	t.Helper()
	cluster.Lock()
	defer cluster.Unlock()
	s := copyServer(t)
	t.Cleanup(func() {
		s.stop()
		os.RemoveAll(s.dir)
	})
	s.start(t)
	return s
}

func copyServer(t testing.TB) *server {
	t.Helper()
	from := template(t)
	s := &server{dir: newFolder(t)}
	s.data = filepath.Join(s.dir, "data")
	run(t, "cp", "-a", filepath.Join(from, "data"), s.data)
	s.choosePort(t)
	return s
}

func (s *server) choosePort(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	l.Close()
}

func (s *server) start(t testing.TB) {
	t.Helper()
	// After a kill the server refuses until the last of its processes is gone.
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); s.stop() {
		s.launch(t)
		for begun := time.Now(); s.alive() || time.Since(begun) < time.Second; time.Sleep(20 * time.Millisecond) {
			if conn, err := pgx.Connect(ctx, s.url("postgres")); err == nil {
				conn.Close(ctx)
				return
			}
		}
	}
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	t.Fatalf("the server does not start:\n%s", log)
}

func (s *server) launch(t testing.TB) {
	t.Helper()
	const script = `sweep=$1; shift; "$@" & read line; kill -INT $!; wait $!; rm -rf $sweep`
	s.cmd = command(t, "/bin/sh", "-c", script, "sh", strings.Join(s.sweep, " "), program(t, "postgres"), "-D", s.data, "-k", s.dir,
		"-p", strconv.Itoa(s.port), "-c", "listen_addresses=127.0.0.1", "-c", "ssl=on",
		"-c", "shared_buffers=32MB", "-c", "max_connections=60")
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// alive reports whether the server runs or starts.
func (s *server) alive() bool {
	pid, err := s.postmaster()
	return err == nil && syscall.Kill(pid, 0) == nil
}

// stop ends the server as its administrator would.
func (s *server) stop() {
	if s.cmd != nil {
		s.stdin.Close()
		s.cmd.Wait()
		s.cmd = nil
	}
}

// kill ends all processes of the server at once, without a warning.
func (s *server) kill(t testing.TB) {
	t.Helper()
	postmaster, err := s.postmaster()
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range append([]int{postmaster}, childrenOf(postmaster)...) {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	s.stop()
}

// postmaster returns the id of the server's first process.
func (s *server) postmaster() (int, error) {
	text, err := os.ReadFile(filepath.Join(s.data, "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err == nil && pid <= 1 {
		err = fmt.Errorf("postmaster.pid begins with %q", first)
	}
	return pid, err
}

func childrenOf(parent int) (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		// pid (name) state parent ...
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

func (s *server) url(database string) string { return urlAt(s.port, database) }

func urlAt(port int, database string) string {
	return fmt.Sprintf("postgres://tester@127.0.0.1:%d/%s?sslmode=disable", port, database)
}

// exec runs SQL as the administrator of the database.
func (s *server) exec(t testing.TB, database, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(ctx, s.url(database))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

var databases struct {
	sync.Mutex
	count int
}

// database makes an empty database and returns its name. Its order of texts is
// that of a language, which must not be that of ids.
func (s *server) database(t testing.TB) string {
	t.Helper()
	databases.Lock()
	defer databases.Unlock()
	databases.count++
	name := fmt.Sprintf("d%d", databases.count)
	s.exec(t, "postgres", "create database "+name+" template template0 locale_provider icu icu_locale 'en-US'")
	return name
}

func mustStore(t testing.TB, s *Store, err error) *Store {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func create(t testing.TB, url string) *Store {
	t.Helper()
	s, err := Create(ctx, url, Options{})
	return mustStore(t, s, err)
}

func reopen(t testing.TB, url string) *Store {
	t.Helper()
	s, err := Open(ctx, url, Options{})
	return mustStore(t, s, err)
}

func put(t testing.TB, s keystore.Store, rows ...keystore.Row) {
	t.Helper()
	err := s.Update(ctx, func(tx keystore.Tx) error {
		for _, row := range rows {
			if err := tx.Put(row); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, s keystore.Store, table, id string) (row keystore.Row, err error) {
	t.Helper()
	viewErr := s.View(ctx, func(tx keystore.Tx) error {
		row, err = tx.Get(table, id)
		return nil
	})
	return row, errors.Join(err, viewErr)
}

// killChild ends one process of the server, if that is one of its own.
func killChild(t testing.TB, s *server, pid int) {
	t.Helper()
	postmaster, err := s.postmaster()
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(childrenOf(postmaster), pid) {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}
