// SPDX-License-Identifier: Apache-2.0

//go:build linux

package adminsock

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/reason"
)

func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "a") // short: see path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func start(t *testing.T) (string, *kms.Server) {
	t.Helper()
	dir := folder(t)
	files, err := datadir.Create(t.Context(), dir, ledger.Meta{Emulated: true, Account: "000000000000"})
	if err != nil {
		t.Fatal(err)
	}
	server, err := files.Server(nil, false)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, listener, server, nil) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if _, err := os.Lstat(filepath.Join(dir, Name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left: %v", err)
		}
		files.Close()
	})
	return dir, server
}

func TestProtocol(t *testing.T) {
	dir, server := start(t)
	ctx := t.Context()
	c, err := Dial(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	credentials, err := c.AddPrincipal(ctx, kms.Principal{Type: kms.User, Name: "alice", Policies: []string{kms.AdminPolicy}})
	if err != nil || len(credentials.SecretAccessKey) != 40 {
		t.Fatalf("%+v, %v", credentials, err)
	}
	owner, secret, err := server.AccessKey(ctx, credentials.AccessKeyID)
	if err != nil || secret != credentials.SecretAccessKey || owner.Name != "alice" || owner.Account != "000000000000" {
		t.Errorf("%+v, %v", owner, err)
	}
	all, err := c.ListPrincipals(ctx)
	if err != nil || len(all) != 1 || all[0].ARN != "arn:aws:iam::000000000000:user/alice" || all[0].AccessKeys[0].ID != credentials.AccessKeyID {
		t.Errorf("%+v, %v", all, err)
	}
	for want, err := range map[error]error{
		kms.ErrPrincipalExists: second(c.AddPrincipal(ctx, kms.Principal{Type: kms.User, Name: "alice"})),
		kms.ErrPrincipal:       second(c.AddPrincipal(ctx, kms.Principal{Type: "group", Name: "g"})),
		kms.ErrNoPrincipal:     second(c.RemovePrincipal(ctx, "bob/..?x", "")),
		kms.ErrNoDecision:      second(c.Explain(ctx, "..")),
	} {
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	if _, err := c.AddPrincipal(ctx, kms.Principal{Type: kms.User, Name: ".."}); err != nil {
		t.Error(err)
	}
	if removed, err := c.RemovePrincipal(ctx, "..", ""); err != nil || removed.Name != ".." {
		t.Errorf("%+v, %v", removed, err)
	}
	if removed, err := c.RemovePrincipal(ctx, "alice", ""); err != nil || removed.AccessKeys[0].ID != credentials.AccessKeyID {
		t.Errorf("%+v, %v", removed, err)
	}
	if _, _, err := server.AccessKey(ctx, credentials.AccessKeyID); !errors.Is(err, kms.ErrAccessKey) {
		t.Errorf("a removed principal has its key: %v", err)
	}
}

// What a policy was refused for arrives, with what it is an error of.
func TestReasonsArrive(t *testing.T) {
	dir, server := start(t)
	c, err := Dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	broken := kms.Principal{Type: kms.User, Name: "alice", Policies: []string{`{"Statement":{"Effect":"Perhaps"}}`}}
	_, direct := server.AddPrincipal(t.Context(), broken)
	_, got := c.AddPrincipal(t.Context(), broken)
	want, ok := errors.AsType[*reason.Error](direct)
	if !ok {
		t.Fatalf("no reason: %v", direct)
	}
	refused, ok := errors.AsType[*reason.Error](got)
	if !ok || !reflect.DeepEqual(refused.Problems, want.Problems) || !errors.Is(got, kms.ErrPrincipal) || got.Error() != direct.Error() {
		t.Errorf("got %v, want %v", got, direct)
	}
}

func second[T any](_ T, err error) error { return err }

func TestBadRequests(t *testing.T) {
	dir, _ := start(t)
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", filepath.Join(dir, Name))
	}}}
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/", "", 404}, {"PUT", "/principals", "", 405}, {"POST", "/principals", "", 400}, {"POST", "/principals", "[]", 400},
		{"POST", "/principals", strings.Repeat("x", maxBody+1), 400}, {"DELETE", "/principals?name=x", "", 400}, {"DELETE", "/principals", "", 400}, {"GET", "/decisions?id=x", "", 400}, {"GET", "/decisions", "", 400},
	} {
		r, err := http.NewRequest(c.method, "http://admin"+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		if answer.StatusCode != c.status {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, answer.StatusCode, c.status)
		}
	}
}

// TestPanicIsLogged: what a handler fails of goes to the log, not to stderr.
func TestPanicIsLogged(t *testing.T) {
	dir := folder(t)
	listener, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, listener, nil, slog.New(slog.NewTextHandler(&log, nil))) }()
	c, err := Dial(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ListPrincipals(ctx); err == nil {
		t.Error("no service answered")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "panic serving") {
		t.Errorf("the log has %q", &log)
	}
}

// TestServerIsBounded: no peer can hold an answer, a connection or all of them
// for good.
func TestServerIsBounded(t *testing.T) {
	s := newServer(nil, nil)
	if s.ReadTimeout <= 0 || s.WriteTimeout <= 0 || s.IdleTimeout <= 0 || s.MaxHeaderBytes <= 0 || s.ErrorLog == nil {
		t.Errorf("%+v", s)
	}
	dir := folder(t)
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn)
	ended := make(chan error, 1)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- conn
		}
	}()
	var last net.Conn
	for range maxConns + 2 {
		conn, err := net.Dial("unix", filepath.Join(dir, Name))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	for range maxConns {
		last = <-accepted
		defer last.Close()
	}
	wantNone := func() {
		t.Helper()
		select {
		case <-accepted:
			t.Errorf("more than %d connections", maxConns)
		case <-time.After(50 * time.Millisecond):
		}
	}
	wantNone()
	last.Close()
	last.Close() // gives one place back, not two
	next := <-accepted
	defer next.Close()
	wantNone()
	l.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed while full: %v", err)
	}
}

func TestListen(t *testing.T) {
	dir, _ := start(t)
	info, err := os.Stat(filepath.Join(dir, Name))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := Listen(dir); err == nil || !strings.Contains(err.Error(), "another key service is running") {
		t.Errorf("second listener: %v", err)
	}
	open := folder(t)
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(open); !errors.Is(err, durable.ErrNotPrivate) {
		t.Errorf("folder open to others: %v", err)
	}
	long := filepath.Join(folder(t), strings.Repeat("x", 100))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(long); err == nil || !strings.Contains(err.Error(), "can have 107") {
		t.Errorf("long name: %v", err)
	}
	if _, err := Dial(t.Context(), long); err == nil || errors.Is(err, ErrNoServer) {
		t.Errorf("long name: %v", err)
	}
}

// What a killed process left is replaced.
func TestStaleSocket(t *testing.T) {
	dir := folder(t)
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, Name), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	if _, err := Dial(t.Context(), dir); !errors.Is(err, ErrNoServer) {
		t.Errorf("dial: %v", err)
	}
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := Dial(t.Context(), dir); !errors.Is(err, ErrNoServer) {
		t.Errorf("dial: %v", err)
	}
}

func TestPeerUID(t *testing.T) {
	dir := folder(t)
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go net.Dial("unix", filepath.Join(dir, Name))
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if uid, err := peerUID(conn.(*countedConn).Conn); err != nil || uid != os.Getuid() {
		t.Errorf("%d, %v", uid, err)
	}
	if _, err := peerUID(nil); err == nil {
		t.Error("no error for another connection")
	}
}
