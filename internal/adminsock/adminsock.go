// SPDX-License-Identifier: Apache-2.0

// Package adminsock is the way into a running key service for the user who runs
// it: HTTP with JSON over a Unix socket in the data folder. The socket is 0600 in
// a folder 0700, and the peer must have the uid of this process or be root, so
// that reaching it is the proof of the right.
//
//	POST   /principals  {"type","name","account","policies","boundary","tags"} → credentials
//	GET    /principals  → {"principals": [...]}
//	DELETE /principals  ?name=&account= → the principal that was removed
//	GET    /decisions   ?id= → the event
//
// Names stand in the query, since ".." is one that IAM allows.
//
// An error is answered with {"code","message"}, one that has reasons also with
// {"problems": [{"rule","reason","message"}]}.
package adminsock

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/cretula/cretula/internal/durable"
)

// Name is the name of the socket in the data folder.
const Name = "admin.sock"

// ErrNoServer: nobody listens on the socket.
var ErrNoServer = errors.New("no key service is running on this folder")

// pathLimit is how long the name of a socket may be: sun_path without its
// terminating zero.
func pathLimit() int {
	if runtime.GOOS == "linux" {
		return 107
	}
	return 103
}

// path returns the name of the socket of a data folder, or an error that says by
// how much the folder's name is too long.
func path(dir string) (string, error) {
	name := filepath.Join(dir, Name)
	if limit := pathLimit(); len(name) > limit {
		return "", fmt.Errorf("the name of the admin socket, %s, has %d bytes; a Unix socket's can have %d: "+
			"use a data folder with a shorter name", name, len(name), limit)
	}
	return name, nil
}

// Listen opens the admin socket of a data folder, which must be private. A socket
// that a dead process left is replaced; one that somebody listens on is not. The
// listener lets in only peers with the uid of this process, and root; closing it
// removes the socket.
func Listen(dir string) (net.Listener, error) {
	if err := supported(); err != nil {
		return nil, err
	}
	if err := durable.CheckPrivate(dir); err != nil {
		return nil, err
	}
	name, err := path(dir)
	if err != nil {
		return nil, err
	}
	if conn, err := net.DialTimeout("unix", name, time.Second); err == nil {
		conn.Close()
		return nil, fmt.Errorf("%s: another key service is running on this folder", name)
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	// Between bind and chmod the folder's mode keeps others out.
	listener, err := net.Listen("unix", name)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(name, 0o600); err != nil {
		listener.Close()
		return nil, err
	}
	return &checkedListener{Listener: listener, open: make(chan struct{}, maxConns), closed: make(chan struct{})}, nil
}

// maxConns is how many connections are served at a time. Further ones wait.
const maxConns = 64

// A checkedListener closes connections of other users at once, and bounds those
// that are open.
type checkedListener struct {
	net.Listener
	// open has an entry for each open connection.
	open      chan struct{}
	closed    chan struct{}
	closeOnce sync.Once
}

func (l *checkedListener) Close() error {
	l.closeOnce.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// A countedConn gives its place back when it is closed.
type countedConn struct {
	net.Conn
	release func()
}

func (c *countedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

func (l *checkedListener) Accept() (net.Conn, error) {
	select {
	case l.open <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			<-l.open
			return nil, err
		}
		if uid, err := peerUID(conn); err == nil && (uid == os.Getuid() || uid == 0) {
			return &countedConn{conn, sync.OnceFunc(func() { <-l.open })}, nil
		}
		conn.Close()
	}
}
