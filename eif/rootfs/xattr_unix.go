// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin

package rootfs

import (
	"strings"

	"golang.org/x/sys/unix"
)

// xattrs returns the names of a file's extended attributes.
func xattrs(path string) []string {
	buf := make([]byte, 256)
	n, err := unix.Llistxattr(path, buf)
	if err == unix.ERANGE {
		buf = make([]byte, 64<<10) // XATTR_LIST_MAX of Linux
		n, err = unix.Llistxattr(path, buf)
	}
	if err != nil || n == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
}
