// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import "syscall"

// processCPU returns the processor time of this process so far, in nanoseconds:
// that of its own code and of the system's for it (getrusage, POSIX.1-2017).
func processCPU() (int64, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, err
	}
	return u.Utime.Nano() + u.Stime.Nano(), nil
}
