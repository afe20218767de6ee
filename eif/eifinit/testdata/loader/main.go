// SPDX-License-Identifier: Apache-2.0

// Command loader runs before init in a test's virtual machine: it loads the
// modules in /modules, in the order of their names, which Nitro's kernels have
// built in, and becomes /init. With the argument "close" it first closes what the
// kernel has opened.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	modules, _ := filepath.Glob("/modules/*.ko")
	for _, name := range modules {
		if err := load(name); err != nil {
			fmt.Println("loader:", name, err)
		}
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
