// SPDX-License-Identifier: Apache-2.0

package nsm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cretula/cretula/reason"
)

// ioctlCommand is NSM_IOCTL_RAW, _IOWR(0x0A, 0x0, struct nsm_raw).
const ioctlCommand = 0xC0200A00

// ioctlArgument is struct nsm_raw of include/uapi/linux/nsm.h: two addresses and
// two lengths, 64 bits each on every architecture.
type ioctlArgument struct {
	requestAddr, requestLen   uint64
	responseAddr, responseLen uint64
}

// kernelDevice is /dev/nsm. The driver takes one request at a time.
type kernelDevice struct {
	busy  turnstile
	fd    int
	ioctl func(fd int, arg *ioctlArgument) unix.Errno
}

// Open opens [DevicePath]. Where there is no such device, the error is a
// [*reason.Error] of class unsupported. Send waits for its turn no longer than
// ctx, but a request that the driver has is not interrupted: the driver itself
// gives up after 120 s.
func Open() (Device, error) {
	fd, err := unix.Open(DevicePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	err = os.NewSyscallError("open", err)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		return nil, reason.New(reason.Unsupported, "nsm.device", "there is no %s on this machine: %w", DevicePath, err)
	}
	if err != nil {
		return nil, fmt.Errorf("nsm: %s: %w", DevicePath, err)
	}
	return &kernelDevice{busy: newTurnstile(), fd: fd, ioctl: nsmIoctl}, nil
}

func nsmIoctl(fd int, arg *ioctlArgument) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ioctlCommand, uintptr(unsafe.Pointer(arg)))
	return errno
}

// Send implements [Device]. As in AWS's own driver crate, EMSGSIZE means that
// the request is too long; every other failure is InternalError, which the error
// wraps beside the errno.
func (d *kernelDevice) Send(ctx context.Context, request []byte) ([]byte, error) {
	if err := d.busy.enter(ctx); err != nil {
		return nil, err
	}
	defer d.busy.leave()
	if d.fd < 0 {
		return nil, os.ErrClosed
	}
	if len(request) > MaxRequest {
		return Response{Error: InputTooLarge}.Encode(), nil
	}
	response := make([]byte, MaxResponse)
	arg := ioctlArgument{requestLen: uint64(len(request)), responseLen: MaxResponse}
	var pin runtime.Pinner
	defer pin.Unpin()
	if len(request) > 0 {
		arg.requestAddr = address(&pin, request)
	}
	arg.responseAddr = address(&pin, response)
	switch errno := d.ioctl(d.fd, &arg); {
	case errno == unix.EMSGSIZE:
		return Response{Error: InputTooLarge}.Encode(), nil
	case errno != 0:
		return nil, fmt.Errorf("nsm: %s: %w: %w", DevicePath, InternalError, errno)
	case arg.responseLen > MaxResponse:
		return nil, reason.New(reason.Malformed, "nsm.response.size",
			"NSM response: %d bytes, of at most %d", arg.responseLen, MaxResponse)
	}
	return response[:arg.responseLen], nil
}

// address returns where b is, having made sure that it stays there.
func address(pin *runtime.Pinner, b []byte) uint64 {
	pin.Pin(&b[0])
	return uint64(uintptr(unsafe.Pointer(&b[0])))
}

// Close implements [Device].
func (d *kernelDevice) Close() error {
	if err := d.busy.enter(context.Background()); err != nil {
		return err
	}
	defer d.busy.leave()
	if d.fd < 0 {
		return os.ErrClosed
	}
	err := unix.Close(d.fd)
	d.fd = -1
	return os.NewSyscallError("close", err)
}

// A turnstile lets one caller in at a time; waiting ends with the context.
type turnstile chan struct{}

func newTurnstile() turnstile { return make(turnstile, 1) }

func (t turnstile) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turnstile) leave() { <-t }
