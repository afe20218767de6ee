// SPDX-License-Identifier: Apache-2.0

package nsm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cretula/cretula/reason"
)

// network is Go's name for AF_UNIX, SOCK_SEQPACKET.
const network = "unixpacket"

// maxSocketPath is the longest path of sockaddr_un, see unix(7).
const maxSocketPath = 107

// socketDevice is the near end of a connection.
type socketDevice struct {
	busy turnstile
	conn *net.UnixConn
	// owed counts the responses to requests whose callers did not wait for them.
	owed int
}

// Dial connects to the socket of a module. The listening process must belong to
// the same user or to root.
func Dial(socketPath string) (Device, error) {
	addr, err := socketAddr(socketPath)
	if err != nil {
		return nil, err
	}
	conn, err := net.DialUnix(network, nil, addr)
	if err != nil {
		return nil, fmt.Errorf("nsm: %w", err)
	}
	if err := checkPeer(conn); err != nil {
		conn.Close()
		return nil, fmt.Errorf("nsm: %s: %w", socketPath, err)
	}
	return &socketDevice{busy: newTurnstile(), conn: conn}, nil
}

// FromFile makes a device of a connected SOCK_SEQPACKET Unix socket, such as one
// end of a [Pair] that this process inherited. The descriptor is duplicated: f
// remains the caller's to close. The peer's user is not checked: who passed the
// descriptor on vouches for it.
func FromFile(f *os.File) (Device, error) {
	conn, err := packetConn(f)
	if err != nil {
		return nil, fmt.Errorf("nsm: inherited descriptor: %w", err)
	}
	return &socketDevice{busy: newTurnstile(), conn: conn}, nil
}

// Pair returns the two ends of a new connection: conn for [ServeConn], and a file
// to be inherited by the process that opens it with [FromFile]. Both close on
// exec unless passed on.
func Pair() (file *os.File, conn *net.UnixConn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	near := os.NewFile(uintptr(fds[0]), "nsm")
	file = os.NewFile(uintptr(fds[1]), "nsm")
	defer near.Close()
	conn, err = packetConn(near)
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, conn, nil
}

// packetConn duplicates a connected SOCK_SEQPACKET Unix socket.
func packetConn(f *os.File) (*net.UnixConn, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var domain, kind int
	var domainErr, kindErr error
	err = raw.Control(func(fd uintptr) {
		domain, domainErr = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		kind, kindErr = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE)
	})
	if err := errors.Join(err, domainErr, kindErr); err != nil {
		return nil, err
	}
	if domain != unix.AF_UNIX || kind != unix.SOCK_SEQPACKET {
		return nil, errors.New("not a Unix socket of type SOCK_SEQPACKET")
	}
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// socketAddr refuses the names that are no files ('@' is the abstract name
// space, which has no permissions) and those the kernel has no room for.
func socketAddr(path string) (*net.UnixAddr, error) {
	if path == "" || strings.HasPrefix(path, "@") || strings.ContainsRune(path, 0) {
		return nil, fmt.Errorf("nsm: %q is no path of a socket", path)
	}
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("nsm: the socket path %q has %d bytes, of at most %d", path, len(path), maxSocketPath)
	}
	return &net.UnixAddr{Name: path, Net: network}, nil
}

// Send implements [Device]. When ctx ends before the response is there, the
// device stays usable: the late response is passed over later.
func (d *socketDevice) Send(ctx context.Context, request []byte) ([]byte, error) {
	if err := d.busy.enter(ctx); err != nil {
		return nil, err
	}
	defer d.busy.leave()
	if len(request) > MaxRequest {
		return Response{Error: InputTooLarge}.Encode(), nil
	}
	stop := interruptOn(ctx, d.conn)
	response, err := d.exchange(request)
	stop()
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return response, err
}

func (d *socketDevice) exchange(request []byte) ([]byte, error) {
	if _, _, err := d.conn.WriteMsgUnix(request, nil, nil); err != nil {
		return nil, fmt.Errorf("nsm: %w", err)
	}
	d.owed++
	buffer := make([]byte, MaxResponse)
	for {
		n, _, flags, _, err := d.conn.ReadMsgUnix(buffer, nil)
		if errors.Is(err, io.EOF) {
			// Also what an empty packet, which is no response, reads like.
			d.conn.Close()
			return nil, fmt.Errorf("nsm: the module closed the connection: %w", io.ErrUnexpectedEOF)
		}
		if err != nil {
			return nil, fmt.Errorf("nsm: %w", err)
		}
		if d.owed--; d.owed > 0 {
			continue
		}
		if flags&unix.MSG_TRUNC != 0 {
			return nil, reason.New(reason.Malformed, "nsm.response.size",
				"NSM response: more than %d bytes", MaxResponse)
		}
		return buffer[:n], nil
	}
}

// Close implements [Device]. It does not wait for a Send that is under way: that
// one fails.
func (d *socketDevice) Close() error { return d.conn.Close() }

// interruptOn lets reads and writes of conn fail once ctx has ended. The
// returned function undoes that; it must be called.
func interruptOn(ctx context.Context, conn *net.UnixConn) (stop func()) {
	interrupted := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		conn.SetDeadline(time.Unix(1, 0))
		close(interrupted)
	})
	return func() {
		if !cancel() {
			<-interrupted
			conn.SetDeadline(time.Time{})
		}
	}
}

// checkPeer refuses a connection whose other end is neither this user's nor
// root's.
func checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var peerErr error
	err = raw.Control(func(fd uintptr) {
		peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, peerErr); err != nil {
		return err
	}
	if !mayTalk(peer.Uid, os.Geteuid()) {
		return fmt.Errorf("the other end belongs to user %d, not to %d or root", peer.Uid, os.Geteuid())
	}
	return nil
}

func mayTalk(peer uint32, self int) bool { return peer == 0 || int(peer) == self }
