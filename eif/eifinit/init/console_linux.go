// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strconv"
	"syscall"
)

// say writes one line to the console.
func say(line string) {
	_, _ = syscall.Write(2, []byte("cretula init: "+line+"\n"))
}

// step is the error of a step that a system call refused: what was to be done,
// why not, and the kernel's number for it. It is nil if err is.
func step(what string, err error) error {
	if err == nil {
		return nil
	}
	text := what + ": " + err.Error()
	if errno, ok := err.(syscall.Errno); ok {
		text += " (errno " + strconv.Itoa(int(errno)) + ")"
	}
	return errors.New(text)
}

// describe says how the program ended.
func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return "the program was killed by signal " + strconv.Itoa(int(status.Signal())) + " (" + status.Signal().String() + "); restarting"
	}
	return "the program ended with status " + strconv.Itoa(status.ExitStatus()) + "; restarting"
}
