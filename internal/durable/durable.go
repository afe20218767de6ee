// SPDX-License-Identifier: Apache-2.0

// Package durable has the few file operations that survive a power cut and
// keep secrets private: whole files written so that they are there completely
// or not at all, private folders, and checks that a file or folder is readable
// by nobody but its owner.
//
// A file's data is durable after fsync of the file, its name after fsync of
// the folder that holds it; every function that writes does both before it
// returns. On Windows neither a folder can be synced nor do the permission
// bits mean anything; both steps are left out there.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Modes of everything that holds or gives access to secrets.
const (
	FileMode fs.FileMode = 0o600
	DirMode  fs.FileMode = 0o700
)

// ErrNotPrivate is matched by the errors of [CheckPrivate], [OpenPrivate] and
// [MkdirAll] that refuse a file or folder because of its kind, permissions or
// owner.
var ErrNotPrivate = errors.New("durable: not private")

// ErrLocked is matched by the error of [Lock] when another open file holds the
// lock.
var ErrLocked = errors.New("durable: locked by another process")

// WriteFile writes data to the file at path with mode 0600, replacing what was
// there. After a crash the file holds either the old or the new content.
func WriteFile(path string, data []byte) error {
	temporary, err := writeTemporary(path, data)
	if err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		os.Remove(temporary)
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// CreateFile is [WriteFile] for a file that must not exist yet: the error
// matches [fs.ErrExist] if it does, and what is there stays as it is. After a
// crash there is no file or a complete one.
func CreateFile(path string, data []byte) error {
	temporary, err := writeTemporary(path, data)
	if err != nil {
		return err
	}
	defer os.Remove(temporary)
	return Publish(temporary, path)
}

// Publish gives the file at temporary, whose content is durable, its final
// name in the same folder. The error matches [fs.ErrExist] if the name is
// taken. The temporary name is removed.
func Publish(temporary, path string) error {
	// A hard link is the portable rename that never replaces.
	if err := os.Link(temporary, path); err != nil {
		return err
	}
	if err := os.Remove(temporary); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// writeTemporary writes data to a new file beside path and syncs it.
func writeTemporary(path string, data []byte) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return "", err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	// CreateTemp makes files 0600 less the umask; the mode is set exactly.
	if err := f.Chmod(FileMode); err != nil {
		return "", err
	}
	if _, err := f.Write(data); err != nil {
		return "", err
	}
	return f.Name(), f.Sync()
}

// MkdirAll makes the folder at path, and those above it that are missing, with
// mode 0700. A folder that is there already must be private (see
// [CheckPrivate]); those above it are not looked at.
func MkdirAll(path string) error {
	err := CheckPrivate(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	path = filepath.Clean(path)
	parent := filepath.Dir(path)
	if _, err := os.Stat(parent); errors.Is(err, fs.ErrNotExist) && parent != path {
		if err := MkdirAll(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, DirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := SyncDir(parent); err != nil {
		return err
	}
	return CheckPrivate(path)
}

// CheckPrivate reports why the regular file or folder at path is not private:
// a symbolic link or a special file, permissions for group or others, or an
// owner who is not the user of this process. The error matches
// [ErrNotPrivate], or [fs.ErrNotExist] if there is nothing at path.
func CheckPrivate(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	return checkPrivate(path, info)
}

func checkPrivate(path string, info fs.FileInfo) error {
	mode := info.Mode()
	if !mode.IsRegular() && !mode.IsDir() {
		return fmt.Errorf("%w: %s is neither a file nor a folder (%s)", ErrNotPrivate, path, mode.Type())
	}
	return checkOwner(path, info)
}

// OpenPrivate opens the regular file at path with the given flags of
// [os.OpenFile] and mode 0600 and checks what it opened as [CheckPrivate]
// does. A symbolic link is refused. A file that it made is durable in its
// folder only after [SyncDir].
func OpenPrivate(path string, flag int) (*os.File, error) {
	f, err := openNoFollow(path, flag)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = checkPrivate(path, info)
	}
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%w: %s is not a regular file", ErrNotPrivate, path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
