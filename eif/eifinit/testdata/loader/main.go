// SPDX-License-Identifier: Apache-2.0

// Command loader runs before init in a test's virtual machine: it loads the
// modules in /modules, which Nitro's kernels have built in, and becomes /init. With the argument "close" it first closes what the
// kernel has opened.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	// Which of them needs which others differs from kernel to kernel.
	left, _ := filepath.Glob("/modules/*.ko")
	for n := 0; len(left) != n; {
		n = len(left)
		left = slices.DeleteFunc(left, func(name string) bool { return load(name) == nil })
	}
	if len(left) > 0 {
		fmt.Println("loader: not loaded:", left)
	}
	if len(os.Args) > 1 && os.Args[1] == "close" {
		for fd := range 3 {
			syscall.Close(fd)
		}
	}
	fmt.Println("loader: init:", syscall.Exec("/init", []string{"/init"}, nil))
}

func load(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}
