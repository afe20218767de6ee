// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package nsm

import (
	"context"
	"net"
	"os"
	"runtime"

	"github.com/cretula/cretula/reason"
)

func unsupported(what string) error {
	return reason.New(reason.Unsupported, "nsm.platform", "nsm: no %s on %s", what, runtime.GOOS)
}

// Open is not supported here.
func Open() (Device, error) { return nil, unsupported(DevicePath) }

// Dial is not supported here.
func Dial(socketPath string) (Device, error) { return nil, unsupported("SOCK_SEQPACKET sockets") }

// FromFile is not supported here.
func FromFile(f *os.File) (Device, error) { return nil, unsupported("SOCK_SEQPACKET sockets") }

// Pair is not supported here.
func Pair() (file *os.File, conn *net.UnixConn, err error) {
	return nil, nil, unsupported("SOCK_SEQPACKET sockets")
}

// A Listener offers a device on a socket; there is none here.
type Listener struct{}

// Listen is not supported here.
func Listen(socketPath string) (*Listener, error) { return nil, unsupported("SOCK_SEQPACKET sockets") }

// Serve is not supported here.
func (l *Listener) Serve(ctx context.Context, dev Device) error {
	return unsupported("SOCK_SEQPACKET sockets")
}

// Close does nothing.
func (l *Listener) Close() error { return nil }

// ServeConn is not supported here.
func ServeConn(ctx context.Context, conn *net.UnixConn, dev Device) error {
	return unsupported("SOCK_SEQPACKET sockets")
}
