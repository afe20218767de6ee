// SPDX-License-Identifier: Apache-2.0

package nsm

import (
	"bytes"
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cretula/cretula/reason"
)

// fakeDriver does with an argument what drivers/misc/nsm.c does: it reads the
// request and writes the response by their addresses.
func fakeDriver(t *testing.T, answer func(request []byte) (response []byte, errno unix.Errno)) *kernelDevice {
	t.Helper()
	fd, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return &kernelDevice{busy: newTurnstile(), fd: fd, ioctl: func(_ int, arg *ioctlArgument) unix.Errno {
		if arg.requestLen > MaxRequest {
			return unix.EMSGSIZE
		}
		request := make([]byte, arg.requestLen)
		if len(request) > 0 {
			transfer(t, unix.ProcessVMReadv, request, arg.requestAddr)
		}
		response, errno := answer(request)
		if errno != 0 {
			return errno
		}
		copied := response[:min(uint64(len(response)), arg.responseLen)]
		if len(copied) > 0 {
			transfer(t, unix.ProcessVMWritev, copied, arg.responseAddr)
		}
		arg.responseLen = uint64(len(response))
		return 0
	}}
}

type transferFunc func(pid int, local []unix.Iovec, remote []unix.RemoteIovec, flags uint) (int, error)

func transfer(t *testing.T, call transferFunc, local []byte, remote uint64) {
	t.Helper()
	iov := unix.Iovec{Base: &local[0]}
	iov.SetLen(len(local))
	n, err := call(os.Getpid(), []unix.Iovec{iov}, []unix.RemoteIovec{{Base: uintptr(remote), Len: len(local)}}, 0)
	if err != nil || n != len(local) {
		t.Errorf("%d bytes of %d: %v", n, len(local), err)
	}
}

// TestIoctlLayout: the number is _IOWR(0x0A, 0, struct nsm_raw) by the rules of
// asm-generic/ioctl.h, and the structure has 32 bytes.
func TestIoctlLayout(t *testing.T) {
	size := unsafe.Sizeof(ioctlArgument{})
	if size != 32 || unsafe.Offsetof(ioctlArgument{}.responseAddr) != 16 {
		t.Errorf("the structure has %d bytes", size)
	}
	if want := uint32(3<<30 | size<<16 | 0x0A<<8); want != ioctlCommand {
		t.Errorf("the command is %#x, want %#x", uint64(ioctlCommand), want)
	}
}

func TestKernelDevice(t *testing.T) {
	var seen []byte
	dev := fakeDriver(t, func(request []byte) ([]byte, unix.Errno) {
		seen = bytes.Clone(request)
		response, _ := echo(context.Background(), request)
		return response, 0
	})
	request := Request{Command: DescribePCR, Index: 5}.Encode()
	response, err := dev.Send(t.Context(), request)
	want := Response{Command: DescribePCR, PCR: PCRState{Value: [48]byte{5}}}.Encode()
	if err != nil || !bytes.Equal(response, want) || !bytes.Equal(seen, request) {
		t.Errorf("sent %x, got %x, %v", seen, response, err)
	}
	if response, err := dev.Send(t.Context(), nil); err != nil || len(seen) != 0 || !bytes.Equal(response, Response{Error: InvalidOperation}.Encode()) {
		t.Errorf("empty request: %x, %v", response, err)
	}
	if _, err := dev.Send(t.Context(), make([]byte, MaxRequest)); err != nil || len(seen) != MaxRequest {
		t.Errorf("longest request: %d bytes arrived, %v", len(seen), err)
	}
	var users sync.WaitGroup
	for i := range 8 {
		users.Go(func() {
			state, err := Client{dev}.DescribePCR(context.Background(), 8)
			if err != nil || state.Value[0] != 8 {
				t.Errorf("user %d: %v, %v", i, state, err)
			}
		})
	}
	users.Wait()
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
	if _, err := dev.Send(t.Context(), request); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := dev.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
}

func TestKernelDeviceFailures(t *testing.T) {
	tooLarge := Response{Error: InputTooLarge}.Encode()
	dev := fakeDriver(t, func([]byte) ([]byte, unix.Errno) { return nil, 0 })
	defer dev.Close()
	if got, err := dev.Send(t.Context(), make([]byte, MaxRequest+1)); err != nil || !bytes.Equal(got, tooLarge) {
		t.Errorf("4097 bytes: %x, %v", got, err)
	}
	for _, errno := range []unix.Errno{unix.EFAULT, unix.EIO, unix.ENODATA, unix.ETIMEDOUT, unix.EINVAL} {
		dev := fakeDriver(t, func([]byte) ([]byte, unix.Errno) { return nil, errno })
		if got, err := dev.Send(t.Context(), []byte{0}); got != nil || !errors.Is(err, InternalError) || !errors.Is(err, errno) {
			t.Errorf("%v: %x, %v", errno, got, err)
		}
		dev.Close()
	}
	dev = fakeDriver(t, func([]byte) ([]byte, unix.Errno) { return nil, unix.EMSGSIZE })
	defer dev.Close()
	if got, err := dev.Send(t.Context(), []byte{0}); err != nil || !bytes.Equal(got, tooLarge) {
		t.Errorf("EMSGSIZE: %x, %v", got, err)
	}
	dev = fakeDriver(t, func([]byte) ([]byte, unix.Errno) { return make([]byte, MaxResponse+1), 0 })
	defer dev.Close()
	_, err := dev.Send(t.Context(), []byte{0})
	checkRefusal(t, err, "nsm.response.size", Success)
	dev = fakeDriver(t, func([]byte) ([]byte, unix.Errno) { return make([]byte, MaxResponse), 0 })
	defer dev.Close()
	if got, err := dev.Send(t.Context(), []byte{0}); err != nil || len(got) != MaxResponse {
		t.Errorf("longest response: %d bytes, %v", len(got), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := dev.Send(ctx, []byte{0}); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}

// TestRealIoctl makes the real call on a file that is no NSM.
func TestRealIoctl(t *testing.T) {
	dev := fakeDriver(t, nil)
	dev.ioctl = nsmIoctl
	defer dev.Close()
	if _, err := dev.Send(t.Context(), Request{Command: GetRandom}.Encode()); !errors.Is(err, InternalError) || !errors.Is(err, unix.ENOTTY) {
		t.Errorf("got %v", err)
	}
}

func TestOpenWithoutDevice(t *testing.T) {
	if _, err := os.Stat(DevicePath); err == nil {
		t.Skip("this machine has " + DevicePath)
	}
	dev, err := Open()
	if r, ok := reason.Of(err); dev != nil || !ok || r != reason.Unsupported {
		t.Errorf("got %v, %v", dev, err)
	}
}
