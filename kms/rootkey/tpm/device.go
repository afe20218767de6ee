// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// A conn is an open TPM. It implements transport.TPM.
type conn struct {
	io.ReadWriteCloser
	ctx    context.Context
	stop   func() bool
	queued bool // commands are queued, and reads do not wait for the answer
}

// checkAddress accepts an absolute path or a TCP address of this machine: the
// protocol of an emulator has no protection of its own.
func checkAddress(device string) error {
	if filepath.IsAbs(device) {
		return nil
	}
	if address, err := netip.ParseAddrPort(device); err == nil && address.Addr().IsLoopback() {
		return nil
	}
	return fmt.Errorf("tpm: %q must be an absolute path, or an IP address and port of the loopback interface", device)
}

// connect opens the device. What ctx ends ends the connection.
func connect(ctx context.Context, device string) (*conn, error) {
	c := &conn{ctx: ctx}
	network := "tcp"
	if filepath.IsAbs(device) {
		info, err := os.Stat(device)
		if err != nil {
			return nil, err
		}
		switch {
		case info.Mode()&fs.ModeSocket != 0:
			network = "unix"
		case info.Mode()&fs.ModeCharDevice == 0:
			return nil, fmt.Errorf("%s is neither a device nor a socket", device)
		default:
			f, err := os.OpenFile(device, os.O_RDWR, 0)
			if err != nil {
				return nil, err
			}
			// What has deadlines was opened without blocking.
			c.ReadWriteCloser, c.queued = f, f.SetDeadline(time.Time{}) == nil
			c.stop = context.AfterFunc(ctx, func() { f.SetDeadline(time.Now()) })
			return c, nil
		}
	}
	s, err := (&net.Dialer{}).DialContext(ctx, network, device)
	if err != nil {
		return nil, err
	}
	c.ReadWriteCloser = s
	c.stop = context.AfterFunc(ctx, func() { s.SetDeadline(time.Now()) })
	return c, nil
}

func (c *conn) Close() error {
	c.stop()
	return c.ReadWriteCloser.Close()
}

const (
	headerSize  = 10   // tag, length, code
	maxResponse = 4096 // TPM2_MAX_RESPONSE_SIZE of Linux
	tries       = 10
	// longest is TPM2_DURATION_LONG_LONG of Linux, after which it gives up a command.
	longest = 5 * time.Minute
)

// Send sends a command and returns the response. It sends again what the TPM
// did not begin (Part 2 §6.6.3, warnings).
func (c *conn) Send(command []byte) ([]byte, error) {
	for try := 1; ; try++ {
		response, err := c.exchange(command)
		if err != nil {
			return nil, err
		}
		switch tpm2.TPMRC(binary.BigEndian.Uint32(response[6:])) {
		case tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCNVRate:
		default:
			return response, nil
		}
		if try == tries {
			return response, nil
		}
		select {
		case <-time.After(time.Millisecond << try):
		case <-c.ctx.Done():
			return nil, c.ctx.Err()
		}
	}
}

func (c *conn) exchange(command []byte) ([]byte, error) {
	if _, err := c.Write(command); err != nil {
		return nil, err
	}
	// A device gives a response in one read, a socket in as many as it likes.
	buf := make([]byte, maxResponse)
	end := time.Now().Add(longest)
	for n, size := 0, headerSize; ; {
		got, err := c.Read(buf[n:])
		n += got
		if n >= headerSize {
			size = int(binary.BigEndian.Uint32(buf[2:]))
			if size < headerSize || size > maxResponse || n > size {
				return nil, fmt.Errorf("a response of %d bytes says it has %d", n, size)
			}
		}
		if n == size && n >= headerSize {
			return buf[:n], nil
		}
		// Linux queues the command of a device that does not block, and reads are
		// empty until the TPM has answered (tpm_common_read of its driver).
		if c.queued && n == 0 && errors.Is(err, io.EOF) && time.Now().Before(end) {
			select {
			case <-time.After(time.Millisecond):
				continue
			case <-c.ctx.Done():
				return nil, c.ctx.Err()
			}
		}
		if err == nil && got == 0 {
			err = io.ErrNoProgress
		}
		if err != nil {
			return nil, fmt.Errorf("reading a response: %w", err)
		}
	}
}
