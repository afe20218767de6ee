// SPDX-License-Identifier: Apache-2.0

// Command init is the first program of a normalised enclave image. The kernel
// starts it as /init of the bootstrap ramdisk; it makes the machine usable,
// tells the parent instance that the enclave is up, starts the image's program
// and restarts the machine when that ends, which ends the enclave.
//
// docs/formats/eif.md describes what it does in which order. It is linked from
// next to nothing and never calls C, so that anyone can build the same bytes: see
// package eifinit, which has them.
package main

import (
	"syscall"
	"time"
)

func main() {
	// Anywhere else, what follows would restart the machine of whoever tried.
	if syscall.Getpid() != 1 {
		say("this is the first program of an enclave image; it does nothing elsewhere")
		syscall.Exit(1)
	}
	ignoreSignals()
	end, err := run()
	if err != nil {
		end = err.Error()
	}
	restart(end)
}

// run boots, starts the program and returns a sentence about its end.
func run() (string, error) {
	if err := bootstrap(); err != nil {
		return "", err
	}
	p, err := readProcess()
	if err != nil {
		return "", err
	}
	if err := heartbeat(); err != nil {
		return "", err
	}
	if err := changeRoot(); err != nil {
		return "", err
	}
	if err := mountAll(); err != nil {
		return "", err
	}
	prepare()
	pid, err := start(&p)
	if err != nil {
		return "", err
	}
	status, err := reap(pid)
	if err != nil {
		return "", err
	}
	return describe(status), nil
}

// bootstrap makes /dev, takes the console and loads the NSM's driver.
func bootstrap() error {
	if err := mountDev(); err != nil {
		return err
	}
	openConsole()
	return loadDriver("/nsm.ko")
}

// openConsole makes the console standard input, output and error. Without one
// there is nobody to tell, and the enclave works all the same.
func openConsole() {
	fd, err := syscall.Open("/dev/console", syscall.O_RDWR, 0)
	if err != nil {
		return
	}
	for i := range 3 {
		if fd != i {
			_ = syscall.Dup3(fd, i, 0)
		}
	}
	if fd > 2 {
		syscall.Close(fd)
	}
}

// ignoreSignals makes sure that no program of the enclave ends the machine by a
// signal to its first process: the Go runtime has handlers for these that would
// end it. Signals without a handler the kernel keeps from the first process by
// itself; those that the runtime needs, and faults, are left alone. The program
// started does not inherit this: Go gives a new process the default action of
// each signal that it has a handler for.
func ignoreSignals() {
	for _, s := range []syscall.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTRAP, syscall.SIGABRT, syscall.SIGUSR1, syscall.SIGUSR2,
		syscall.SIGPIPE, syscall.SIGALRM, syscall.SIGTERM, syscall.SIGSTKFLT, syscall.SIGXCPU, syscall.SIGXFSZ,
		syscall.SIGVTALRM, syscall.SIGPROF, syscall.SIGWINCH, syscall.SIGIO, syscall.SIGPWR, syscall.SIGSYS,
	} {
		ignoreSignal(s)
	}
}

// restart says a last word and ends the enclave.
func restart(end string) {
	// It must be out before the machine is gone, but a console that takes nothing
	// (the program can stop it: TCXONC of ioctl_tty(2)) must not keep it.
	drained := make(chan struct{})
	go func() {
		say(end)
		drainConsole()
		close(drained)
	}()
	select {
	case <-drained:
	case <-time.After(2 * time.Second):
	}
	err := syscall.Reboot(syscall.LINUX_REBOOT_CMD_RESTART)
	say(step("restart the machine", err).Error())
	syscall.Exit(1) // the kernel panics, and with panic=30 restarts
}
