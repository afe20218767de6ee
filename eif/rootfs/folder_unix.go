// SPDX-License-Identifier: Apache-2.0

//go:build unix

package rootfs

import (
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// openFlags make opening not wait for a writer, should a file have become a pipe.
const openFlags = syscall.O_RDONLY | syscall.O_NONBLOCK

func statOf(info fs.FileInfo) stat {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return stat{mode: uint32(info.Mode().Perm())}
	}
	dev := uint64(s.Rdev)
	return stat{
		uid: s.Uid, gid: s.Gid, major: unix.Major(dev), minor: unix.Minor(dev),
		inode: inode{uint64(s.Dev), uint64(s.Ino)}, links: uint64(s.Nlink), mode: uint32(s.Mode) & 0o7777,
	}
}
