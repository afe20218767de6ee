// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// onProcessors has start start a process that stays on the first n of the
// processors that this one may use (sched_setaffinity(2)).
func onProcessors(n int, start func() error) (err error) {
	// A process begins where the thread was that started it.
	runtime.LockOSThread()
	var all, few unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	for i := 0; few.Count() < min(n, all.Count()); i++ {
		if all.IsSet(i) {
			few.Set(i)
		}
	}
	if err := unix.SchedSetaffinity(0, &few); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() {
		if restored := unix.SchedSetaffinity(0, &all); restored != nil {
			err = errors.Join(err, restored) // the thread ends with the goroutine
			return
		}
		runtime.UnlockOSThread()
	}()
	return start()
}

// peakMemory returns the most bytes that this process had resident. What
// getrusage(2) counts is no less than what the process had that started it.
func peakMemory() (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(status) {
		var kB int64
		if _, err := fmt.Sscanf(string(line), "VmHWM: %d kB", &kB); err == nil {
			return kB << 10, nil
		}
	}
	return 0, nil
}
