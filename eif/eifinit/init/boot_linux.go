// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"syscall"

	"github.com/cretula/cretula/eif/eifinit/process"
)

// Where the parent instance waits for an enclave to be up, and what is said.
// (nitro-cli listens there; AWS's init does the same.)
const (
	parentCID     = 3
	heartbeatPort = 9000
	heartbeatByte = 0xb7
)

// loadDriver loads a kernel module, if there is one, and removes the file.
// Kernels from 6.8 have the NSM's driver built in.
func loadDriver(name string) error {
	fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err == syscall.ENOENT {
		return nil
	}
	if err != nil {
		return step("open "+name, err)
	}
	err = finitModule(fd)
	syscall.Close(fd)
	if err != nil {
		return step("load "+name+", which must be made for this very kernel", err)
	}
	return step("remove "+name, syscall.Unlink(name))
}

// readProcess reads what is to be started, and removes the file.
//
// That is done before the heartbeat, not after it like AWS's init: an enclave
// that cannot start its program must not say that it is up. nitro-cli then fails
// with E36.
func readProcess() (process.Process, error) {
	const name = "/" + process.FileName
	data, err := readFile(name, process.MaxSize)
	if err == syscall.ENOENT {
		return process.Process{}, errors.New(name + " is missing: the kernel has not unpacked the whole application ramdisk. " +
			"The enclave's memory may be too small for the image: nitro-cli asks for four times the size of its file (E26, E36)")
	}
	if err != nil {
		return process.Process{}, step("read "+name, err)
	}
	p, err := process.Parse(data)
	if err != nil {
		return process.Process{}, errors.New("read " + name + ": " + err.Error())
	}
	return p, step("remove "+name, syscall.Unlink(name))
}

// readFile reads a file of at most limit bytes; of a longer one it returns one
// byte more.
func readFile(name string, limit int) ([]byte, error) {
	fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	var data []byte
	buffer := make([]byte, 64<<10)
	for len(data) <= limit {
		n, err := syscall.Read(fd, buffer[:min(len(buffer), limit+1-len(data))])
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		data = append(data, buffer[:n]...)
	}
	return data, nil
}

// heartbeat tells the parent instance that the enclave is up.
func heartbeat() error {
	fd, err := syscall.Socket(afVsock, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return step("heartbeat: make a vsock socket", err)
	}
	defer syscall.Close(fd)
	if err := retry(func() error { return connectVsock(fd, parentCID, heartbeatPort) }); err != nil {
		return step("heartbeat: connect to CID 3 port 9000", err)
	}
	b := []byte{heartbeatByte}
	if err := retry(func() error { _, err := syscall.Write(fd, b); return err }); err != nil {
		return step("heartbeat: write", err)
	}
	b[0] = 0
	var n int
	if err := retry(func() error { n, err = syscall.Read(fd, b); return err }); err != nil {
		return step("heartbeat: read", err)
	}
	if n != 1 || b[0] != heartbeatByte {
		return errors.New("heartbeat: the parent instance answered something else than 0xb7")
	}
	return nil
}

// retry calls f until no signal interrupts it.
func retry(f func() error) error {
	for {
		if err := f(); err != syscall.EINTR {
			return err
		}
	}
}
