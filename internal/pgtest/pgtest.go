// SPDX-License-Identifier: Apache-2.0

//go:build linux

package pgtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
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

	"github.com/jackc/pgx/v5"

	"github.com/cretula/cretula/internal/need"
)

var ctx = context.Background()

// Main runs the tests of a package, ends the server that they shared, and returns
// the code to exit with.
func Main(m *testing.M) int {
	code := m.Run()
	if s := cluster.shared; s != nil {
		s.Stop()
		os.RemoveAll(s.dir)
	}
	os.RemoveAll(cluster.template)
	return code
}

// Program returns the path of one of PostgreSQL's programs, which Debian does not
// put into PATH.
func Program(t testing.TB, name string) string {
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
	shared   *Server
}

// A Server is a PostgreSQL server of the tests. Its users are let in without a
// password, but for guarded; tlsonly needs TLS.
type Server struct {
	Data string // its data folder
	Port int    // on 127.0.0.1

	dir string
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

// Run runs a program as the user of the server and returns what it wrote.
func Run(t testing.TB, name string, args ...string) string {
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
		initdb := Program(t, "initdb")
		cluster.template = newFolder(t)
		data := filepath.Join(cluster.template, "data")
		Run(t, initdb, "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
		if err := os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte(hba), 0o600); err != nil {
			t.Fatal(err)
		}
		WriteCertificates(t, data)
	}
	return cluster.template
}

// Shared returns the server that tests share. They must leave it as it is.
func Shared(t testing.TB) *Server {
	t.Helper()
	cluster.Lock()
	defer cluster.Unlock()
	if cluster.shared == nil {
		s := copyServer(t)
		s.sweep = []string{s.dir, cluster.template}
		s.Start(t)
		cluster.shared = s
	}
	return cluster.shared
}

// New starts a server of the test's own.
func New(t testing.TB) *Server {
	t.Helper()
	cluster.Lock()
	defer cluster.Unlock()
	s := copyServer(t)
	t.Cleanup(func() {
		s.Stop()
		os.RemoveAll(s.dir)
	})
	s.Start(t)
	return s
}

// Standby starts a server that follows this one.
func (s *Server) Standby(t testing.TB) *Server {
	t.Helper()
	standby := &Server{dir: newFolder(t)}
	standby.Data = filepath.Join(standby.dir, "data")
	standby.choosePort(t)
	t.Cleanup(func() {
		standby.Stop()
		os.RemoveAll(standby.dir)
	})
	Run(t, Program(t, "pg_basebackup"), "-D", standby.Data, "-R", "-X", "stream", "-c", "fast", "-d", s.URL("postgres"))
	standby.Start(t)
	return standby
}

func copyServer(t testing.TB) *Server {
	t.Helper()
	from := template(t)
	s := &Server{dir: newFolder(t)}
	s.Data = filepath.Join(s.dir, "data")
	Run(t, "cp", "-a", filepath.Join(from, "data"), s.Data)
	s.choosePort(t)
	return s
}

func (s *Server) choosePort(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Port = l.Addr().(*net.TCPAddr).Port
	l.Close()
}

// Start starts the server again after [Server.Stop] or [Server.Kill].
func (s *Server) Start(t testing.TB) {
	t.Helper()
	// After a kill the server refuses until the last of its processes is gone.
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); s.Stop() {
		s.launch(t)
		for begun := time.Now(); s.alive() || time.Since(begun) < time.Second; time.Sleep(20 * time.Millisecond) {
			if conn, err := pgx.Connect(ctx, s.URL("postgres")); err == nil {
				conn.Close(ctx)
				return
			}
		}
	}
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	t.Fatalf("the server does not start:\n%s", log)
}

func (s *Server) launch(t testing.TB) {
	t.Helper()
	const script = `sweep=$1; shift; "$@" & read line; kill -INT $!; wait $!; rm -rf $sweep`
	s.cmd = command(t, "/bin/sh", "-c", script, "sh", strings.Join(s.sweep, " "), Program(t, "postgres"), "-D", s.Data, "-k", s.dir,
		"-p", strconv.Itoa(s.Port), "-c", "listen_addresses=127.0.0.1", "-c", "ssl=on",
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
func (s *Server) alive() bool {
	pid, err := s.postmaster()
	return err == nil && syscall.Kill(pid, 0) == nil
}

// Stop ends the server as its administrator would.
func (s *Server) Stop() {
	if s.cmd != nil {
		s.stdin.Close()
		s.cmd.Wait()
		s.cmd = nil
	}
}

// Kill ends all processes of the server at once, without a warning.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	postmaster, err := s.postmaster()
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range append([]int{postmaster}, childrenOf(postmaster)...) {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	s.Stop()
}

// postmaster returns the id of the server's first process.
func (s *Server) postmaster() (int, error) {
	text, err := os.ReadFile(filepath.Join(s.Data, "postmaster.pid"))
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

// URL returns the connection string of a database for its administrator.
func (s *Server) URL(database string) string { return URLAt(s.Port, database) }

// URLAt is [Server.URL] on another port, that of a proxy.
func URLAt(port int, database string) string {
	return fmt.Sprintf("postgres://tester@127.0.0.1:%d/%s?sslmode=disable", port, database)
}

// Exec runs SQL as the administrator of the database.
func (s *Server) Exec(t testing.TB, database, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(ctx, s.URL(database))
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

// Database makes an empty database and returns its name. Its order of texts is
// that of a language, which must not be that of ids.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	databases.Lock()
	defer databases.Unlock()
	databases.count++
	name := fmt.Sprintf("d%d", databases.count)
	s.Exec(t, "postgres", "create database "+name+" template template0 locale_provider icu icu_locale 'en-US'")
	return name
}

// KillChild ends one process of the server, if that is one of its own.
func (s *Server) KillChild(t testing.TB, pid int) {
	t.Helper()
	postmaster, err := s.postmaster()
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(childrenOf(postmaster), pid) {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

// Files of the test servers' certificate, in the data folder.
const CertificateFile, keyFile = "server.crt", "server.key"

// WriteCertificates makes a key and a certificate of 127.0.0.1 and writes them to a
// folder, for the user of the server.
func WriteCertificates(t testing.TB, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	shape := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, shape, shape, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		CertificateFile: {Type: "CERTIFICATE", Bytes: certificate}, keyFile: {Type: "PRIVATE KEY", Bytes: private},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if credential := serverUser(t); credential != nil {
			if err := os.Chown(path, int(credential.Uid), int(credential.Gid)); err != nil {
				t.Fatal(err)
			}
		}
	}
}
