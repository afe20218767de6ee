// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cretula/cretula/nsm"
)

// Inside is what a program that [Start] started has of the world outside.
type Inside struct {
	// NSM is the enclave's module.
	NSM nsm.Device

	egress *net.UnixConn
}

// Inherited takes over the descriptors that the program was started with. It can
// be called once; a program that was not started by [Start] gets an error.
func Inherited() (*Inside, error) {
	nsmFile, err := inheritedSocket(nsmDescriptor)
	if err != nil {
		return nil, err
	}
	defer nsmFile.Close()
	egressFile, err := inheritedSocket(egressDescriptor)
	if err != nil {
		return nil, err
	}
	defer egressFile.Close()
	conn, err := net.FileConn(egressFile)
	if err != nil {
		return nil, err
	}
	device, err := nsm.FromFile(nsmFile)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &Inside{NSM: device, egress: conn.(*net.UnixConn)}, nil
}

// inheritedSocket wraps a descriptor after making sure that it is what it should
// be: in another program, that number may be anything.
func inheritedSocket(fd int) (*os.File, error) {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return nil, fmt.Errorf("launch: descriptor %d is no socket; was this program started as an enclave?", fd)
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return nil, err
	}
	if domain != unix.AF_UNIX || kind != unix.SOCK_SEQPACKET {
		return nil, fmt.Errorf("launch: descriptor %d is a socket of another kind; was this program started as an enclave?", fd)
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("descriptor %d", fd)), nil
}

// DialContext makes a connection by the name of an egress, which may be refused.
// ctx bounds the making, not the connection.
func (in *Inside) DialContext(ctx context.Context, name string) (net.Conn, error) {
	return dialEgress(ctx, in.egress, name)
}

// Close gives up both.
func (in *Inside) Close() error { return errors.Join(in.NSM.Close(), in.egress.Close()) }
