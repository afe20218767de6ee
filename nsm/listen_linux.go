// SPDX-License-Identifier: Apache-2.0

package nsm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxConns is how many connections a listener serves at a time; more wait.
const maxConns = 256

// credentialsSpace is the room of one SCM_CREDENTIALS message and nothing else,
// so that descriptors sent along are never installed.
var credentialsSpace = unix.CmsgSpace(unix.SizeofUcred)

// A Listener offers a device on a socket.
type Listener struct {
	socket *net.UnixListener
	path   string
	// file identifies the socket file that Listen made.
	file fs.FileInfo

	closing sync.Once
	closed  error
	// done is closed with the listener.
	done chan struct{}
}

// Listen makes a socket of mode 0600. Its folder must exist, belong to this user
// (or root) and be closed to all others (0700). The file of a socket that nobody
// listens on any more is replaced; one that is in use, and any file that is no
// socket, is refused.
func Listen(socketPath string) (*Listener, error) {
	addr, err := socketAddr(socketPath)
	if err != nil {
		return nil, err
	}
	if err := checkFolder(filepath.Dir(socketPath)); err != nil {
		return nil, err
	}
	folder, err := lockFolder(filepath.Dir(socketPath))
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	if err := removeStale(addr); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// On Linux the file inherits the mode that its socket has when bound.
		var chmodErr error
		err := c.Control(func(fd uintptr) { chmodErr = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(err, chmodErr)
	}}
	socket, err := config.Listen(context.Background(), network, socketPath)
	if err != nil {
		return nil, fmt.Errorf("nsm: %w", err)
	}
	l := &Listener{socket: socket.(*net.UnixListener), path: socketPath, done: make(chan struct{})}
	l.socket.SetUnlinkOnClose(false)
	if l.file, err = os.Lstat(socketPath); err != nil {
		l.socket.Close()
		return nil, fmt.Errorf("nsm: %w", err)
	}
	if l.file.Mode().Perm()&0o077 != 0 {
		l.Close()
		return nil, fmt.Errorf("nsm: %s has mode %04o in spite of all", socketPath, l.file.Mode().Perm())
	}
	return l, nil
}

func checkFolder(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("nsm: folder of the socket: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("nsm: %s is no folder", dir)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("nsm: the folder %s has mode %04o, open to others; want 0700", dir, mode)
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; !mayTalk(owner, os.Geteuid()) {
		return fmt.Errorf("nsm: the folder %s belongs to user %d", dir, owner)
	}
	return nil
}

// lockFolder keeps others that listen from taking a socket for stale between its
// making and its listening, or after they looked at the one before it. The lock
// ends when the file is closed; no one holds it for longer than a moment.
func lockFolder(dir string) (*os.File, error) {
	folder, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("nsm: folder of the socket: %w", err)
	}
	for attempt := 0; ; attempt++ {
		err = unix.Flock(int(folder.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return folder, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || attempt == 200 {
			folder.Close()
			return nil, fmt.Errorf("nsm: lock of the folder %s: %w", dir, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// removeStale makes way for a socket: a socket file that refuses connections is
// left over from a process that ended without removing it.
func removeStale(addr *net.UnixAddr) error {
	info, err := os.Lstat(addr.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("nsm: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("nsm: %s is there and no socket", addr.Name)
	}
	conn, err := net.DialUnix(network, nil, addr)
	switch {
	case err == nil:
		conn.Close()
		return fmt.Errorf("nsm: %s is in use: %w", addr.Name, unix.EADDRINUSE)
	case !errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("nsm: %s is in use: %w", addr.Name, err)
	}
	return os.Remove(addr.Name)
}

// Serve answers every connection out of dev until ctx ends or the listener is
// closed, which are no errors, and returns when the last connection has ended.
// Connections of other users than this one and root are closed at once. dev
// stays the caller's to close.
func (l *Listener) Serve(ctx context.Context, dev Device) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { l.Close() })
	var conns sync.WaitGroup
	defer func() {
		cancel()
		stop()
		l.Close()
		conns.Wait()
	}()
	slots := make(chan struct{}, maxConns)
	for {
		select {
		case slots <- struct{}{}:
		case <-l.done:
			return nil
		}
		conn, err := l.accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("nsm: %w", err)
		}
		conns.Go(func() {
			defer func() { <-slots }()
			if err := checkPeer(conn); err != nil {
				conn.Close()
				return
			}
			// What ends one connection is that client's affair.
			_ = ServeConn(ctx, conn, dev)
		})
	}
}

// accept waits out a shortage of descriptors or memory.
func (l *Listener) accept() (*net.UnixConn, error) {
	for {
		conn, err := l.socket.AcceptUnix()
		switch {
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE),
			errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
			select {
			case <-time.After(50 * time.Millisecond):
			case <-l.done:
			}
		default:
			return conn, err
		}
	}
}

// Close stops listening and removes the socket file, unless another one has
// taken its place. It ends Serve, and with it every connection.
func (l *Listener) Close() error {
	l.closing.Do(func() {
		close(l.done)
		// While the socket is open no other file can have its inode number.
		if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.file) {
			l.closed = os.Remove(l.path)
		}
		l.closed = errors.Join(l.closed, l.socket.Close())
	})
	return l.closed
}

// ServeConn answers one connected SOCK_SEQPACKET Unix socket out of dev until
// the other end closes it or ctx ends, which are no errors. It closes conn, not
// dev. When dev fails to answer, {"Error": "InternalError"} is the answer.
func ServeConn(ctx context.Context, conn *net.UnixConn, dev Device) error {
	defer conn.Close()
	if err := passCredentials(conn); err != nil {
		return fmt.Errorf("nsm: %w", err)
	}
	defer interruptOn(ctx, conn)()
	buffer := make([]byte, MaxRequest)
	control := make([]byte, credentialsSpace)
	for {
		n, controlLen, flags, _, err := conn.ReadMsgUnix(buffer, control)
		if errors.Is(err, io.EOF) && controlLen > 0 {
			err = nil // an empty packet, which reads like the end but has a sender
		}
		if err == nil {
			_, _, err = conn.WriteMsgUnix(answer(ctx, dev, buffer[:n], flags), nil, nil)
		}
		switch {
		case err == nil:
		case ctx.Err() != nil, errors.Is(err, io.EOF), errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
			return nil
		default:
			return fmt.Errorf("nsm: %w", err)
		}
	}
}

// passCredentials makes the kernel tell the sender of every packet. Nothing is
// done with that but to tell an empty packet, which has one, from the end of the
// connection, which has none.
func passCredentials(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var optErr error
	err = raw.Control(func(fd uintptr) {
		optErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	})
	return errors.Join(err, os.NewSyscallError("setsockopt", optErr))
}

func answer(ctx context.Context, dev Device, request []byte, flags int) []byte {
	if flags&unix.MSG_TRUNC != 0 {
		return Response{Error: InputTooLarge}.Encode()
	}
	response, err := dev.Send(ctx, request)
	if err != nil || len(response) == 0 || len(response) > MaxResponse {
		return Response{Error: InternalError}.Encode()
	}
	return response
}
