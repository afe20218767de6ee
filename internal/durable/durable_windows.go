// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// SyncDir does nothing: Windows has no call that syncs a folder.
func SyncDir(string) error { return nil }

// Lock takes the lock of f for this process without waiting. It ends when f is
// closed.
func Lock(f *os.File) error {
	// One byte far behind any content, so that readers are not kept out.
	at := &windows.Overlapped{OffsetHigh: 1 << 30}
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return fmt.Errorf("%w: %s", ErrLocked, f.Name())
	}
	return err
}

// checkOwner accepts everything: access on Windows is decided by ACLs, which
// the permission bits of Go do not show.
func checkOwner(string, fs.FileInfo) error { return nil }

func openNoFollow(path string, flag int) (*os.File, error) {
	return os.OpenFile(path, flag, FileMode)
}

// keepOwner does nothing: the owner of a new file is a matter of its folder.
func keepOwner(*os.File, fs.FileInfo) {}
