// SPDX-License-Identifier: Apache-2.0

package main

import (
	"syscall"
	"unsafe"
)

// What package syscall does not have. The numbers are here and not taken from
// golang.org/x/sys, so that a new version of that changes no measurement.
const (
	afVsock   = 40     // AF_VSOCK
	tcsbrk    = 0x5409 // TCSBRK
	sigIgnore = 1      // SIG_IGN
	// sigsetSize is the size of the kernel's sigset_t.
	sigsetSize = 8
)

func ignoreSignal(s syscall.Signal) {
	// struct sigaction of the kernel: handler, flags, restorer, mask.
	action := [4]uint64{sigIgnore}
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&action)), 0, sigsetSize, 0, 0)
}

// drainConsole waits until everything written has been sent: tcdrain(3).
func drainConsole() {
	_, _, _ = syscall.Syscall(syscall.SYS_IOCTL, 2, tcsbrk, 1)
}

func finitModule(fd int) error {
	parameters := [1]byte{}
	_, _, errno := syscall.Syscall(sysFinitModule, uintptr(fd), uintptr(unsafe.Pointer(&parameters)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// sockaddrVM is struct sockaddr_vm of vsock(7).
type sockaddrVM struct {
	family, _ uint16
	port, cid uint32
	_         [4]byte
}

func connectVsock(fd int, cid, port uint32) error {
	address := sockaddrVM{family: afVsock, port: port, cid: cid}
	_, _, errno := syscall.Syscall(syscall.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&address)), unsafe.Sizeof(address))
	if errno != 0 {
		return errno
	}
	return nil
}

// interfaceRequest is struct ifreq of netdevice(7), as it is for flags.
type interfaceRequest struct {
	name  [16]byte
	flags uint16
	_     [22]byte
}

func setInterfaceFlags(socket int, name string, flags uint16) error {
	request := interfaceRequest{flags: flags}
	copy(request.name[:len(request.name)-1], name)
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(socket), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return errno
	}
	return nil
}
