// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxName is the longest name of an egress in bytes.
	maxName = 255
	// maxConnections is how many egress connections an enclave has at a time.
	maxConnections = 128
	// dialTimeout bounds the time a Dialer may take.
	dialTimeout = 30 * time.Second

	answerConnected = 0
	answerRefused   = 1
)

// serveEgress answers requests for connections until ctx ends or the program
// closes its socket, and returns when every connection has ended.
func serveEgress(ctx context.Context, conn *net.UnixConn, egress map[string]Dialer) {
	var open sync.WaitGroup
	defer open.Wait()
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	slots := make(chan struct{}, maxConnections)
	for {
		name, stream, err := readRequest(conn)
		if err != nil {
			return
		}
		if stream == nil {
			continue
		}
		select {
		case slots <- struct{}{}:
			open.Go(func() {
				defer func() { <-slots }()
				connect(ctx, name, stream, egress)
			})
		default:
			answerRefusal(stream, fmt.Errorf("%d connections are open already", maxConnections))
		}
	}
}

// readRequest reads one packet. The stream is nil if the packet was no request.
func readRequest(conn *net.UnixConn) (name string, stream net.Conn, err error) {
	buf := make([]byte, maxName+1)
	control := make([]byte, unix.CmsgSpace(4))
	n, controlled, flags, _, err := conn.ReadMsgUnix(buf, control)
	if err != nil {
		return "", nil, err
	}
	files := descriptors(control[:controlled])
	for _, f := range files {
		defer f.Close()
	}
	if n == 0 && len(files) == 0 {
		// The end of a connection looks the same as an empty packet; neither
		// is a request.
		return "", nil, io.EOF
	}
	if n < 1 || n > maxName || len(files) != 1 || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		return "", nil, nil
	}
	stream, err = net.FileConn(files[0])
	if err != nil {
		return "", nil, nil
	}
	return string(buf[:n]), stream, nil
}

// descriptors takes those that came with a packet.
func descriptors(control []byte) []*os.File {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "egress"))
		}
	}
	return files
}

// answerRefusal does not wait: in a stream that is new there is room for the
// answer, and a program that has filled it wants none.
func answerRefusal(stream net.Conn, why error) {
	defer stream.Close()
	answer := append([]byte{answerRefused}, why.Error()...)
	conn, ok := stream.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_, _ = unix.SendmsgN(int(fd), answer, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	})
}

// connect makes one connection and copies both ways until both have ended.
func connect(ctx context.Context, name string, stream net.Conn, egress map[string]Dialer) {
	dial := egress[name]
	if dial == nil {
		answerRefusal(stream, fmt.Errorf("no egress is named %.60q", name))
		return
	}
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	far, err := dial(dialCtx)
	cancel()
	if err != nil {
		answerRefusal(stream, err)
		return
	}
	closeBoth := func() {
		stream.Close()
		far.Close()
	}
	defer closeBoth()
	defer context.AfterFunc(ctx, closeBoth)()
	if _, err := stream.Write([]byte{answerConnected}); err != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { pump(far, stream) })
	both.Go(func() { pump(stream, far) })
	both.Wait()
}

// pump copies until src ends and passes that end on. After an error nothing is
// left to be copied the other way either.
func pump(dst, src net.Conn) {
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		src.Close()
		return
	}
	if half, ok := dst.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		return
	}
	dst.Close()
}

// dialEgress asks for a connection over the other end of what serveEgress serves.
func dialEgress(ctx context.Context, conn *net.UnixConn, name string) (net.Conn, error) {
	if len(name) < 1 || len(name) > maxName {
		return nil, fmt.Errorf("launch: the name of an egress has 1 to %d bytes, not %d", maxName, len(name))
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	near, far := os.NewFile(uintptr(fds[0]), "egress"), os.NewFile(uintptr(fds[1]), "egress")
	defer near.Close()
	defer far.Close()
	stream, err := net.FileConn(near)
	if err != nil {
		return nil, err
	}
	if _, _, err := conn.WriteMsgUnix([]byte(name), unix.UnixRights(fds[1]), nil); err != nil {
		stream.Close()
		return nil, fmt.Errorf("launch: egress %q: %w", name, err)
	}
	// The copy of the far end must go before the answer is read, else a parent
	// that is gone would never be noticed.
	far.Close()
	if err := readAnswer(ctx, stream); err != nil {
		stream.Close()
		return nil, fmt.Errorf("launch: egress %q: %w", name, err)
	}
	return stream, nil
}

func readAnswer(ctx context.Context, stream net.Conn) error {
	stop := context.AfterFunc(ctx, func() { stream.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var answer [1]byte
	_, err := io.ReadFull(stream, answer[:])
	var text []byte
	if err == nil && answer[0] != answerConnected {
		text, err = io.ReadAll(io.LimitReader(stream, 1024))
	}
	switch {
	case !stop() && ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, io.EOF):
		return errors.New("the other side is gone")
	case err != nil:
		return err
	case answer[0] != answerConnected:
		return fmt.Errorf("refused: %s", text)
	}
	return nil
}
