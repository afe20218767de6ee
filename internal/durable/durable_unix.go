// SPDX-License-Identifier: Apache-2.0

//go:build unix

package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// SyncDir makes the names in the folder at path durable.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Lock takes the advisory lock of f for this process without waiting. It ends
// when f is closed.
func Lock(f *os.File) error {
	// flock, not fcntl: closing some other descriptor of the file keeps it.
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%w: %s", ErrLocked, f.Name())
	}
	return err
}

func checkOwner(path string, info fs.FileInfo) error {
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return fmt.Errorf("%w: %s has mode %04o, which lets group or others in; it must be %04o",
			ErrNotPrivate, path, perm, perm&^0o077)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%w: %s: owner unknown", ErrNotPrivate, path)
	}
	if uid := os.Geteuid(); int(stat.Uid) != uid {
		return fmt.Errorf("%w: %s belongs to uid %d, this process runs as uid %d",
			ErrNotPrivate, path, stat.Uid, uid)
	}
	return nil
}

func openNoFollow(path string, flag int) (*os.File, error) {
	// O_NONBLOCK: opening a FIFO must not wait for its other end; it means
	// nothing for the regular files that are accepted.
	f, err := os.OpenFile(path, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK, FileMode)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%w: %s is a symbolic link", ErrNotPrivate, path)
	}
	return f, err
}

// keepOwner gives f the owner of the file that it replaces, if that is allowed.
func keepOwner(f *os.File, old fs.FileInfo) {
	if stat, ok := old.Sys().(*syscall.Stat_t); ok {
		_ = f.Chown(int(stat.Uid), int(stat.Gid))
	}
}
