// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// Replace has write fill a new file and then gives it the name path, replacing
// what was there: after an error, a crash or a power cut there is what was there
// before, or the whole new file. A new file has mode perm less the umask; one that
// is replaced keeps its permissions and, where this process may give files away,
// its owner. A symbolic link at path is followed, and what it leads to is replaced.
// What is there and is no regular file is refused.
//
// The new file is made in the same folder, under a hidden name that ends in
// ".tmp", and is removed after an error and when write panics; only a process that
// is killed leaves it behind. write must not close it, and must close what else it
// has open of the file that is replaced: Windows does not rename over an open one.
func Replace(path string, perm fs.FileMode, write func(*os.File) error) (err error) {
	path, keep, err := target(path)
	if err != nil {
		return err
	}
	if keep != nil {
		perm = FileMode // until it has the owner and permissions of the one before
	}
	f, err := createBeside(path, perm)
	if err != nil {
		return err
	}
	renamed := false
	defer func() {
		if !renamed {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if keep != nil {
		keepOwner(f, keep)
		if err := f.Chmod(keep.Mode().Perm()); err != nil {
			return err
		}
	}
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	renamed = true
	return SyncDir(filepath.Dir(path))
}

// target follows links from path and says what file is there; nil for none.
func target(path string) (string, fs.FileInfo, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(path); err == nil {
			return "", nil, &fs.PathError{Op: "replace", Path: path, Err: errors.New("a symbolic link that leads nowhere")}
		}
		return path, nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	info, err := os.Stat(resolved)
	if err != nil {
		return "", nil, err
	}
	if !info.Mode().IsRegular() {
		return "", nil, &fs.PathError{Op: "replace", Path: path, Err: errors.New("not a regular file")}
	}
	return resolved, info, nil
}

// createBeside makes a new file in the folder of path. Unlike [os.CreateTemp] it
// lets the umask have its say.
func createBeside(path string, perm fs.FileMode) (*os.File, error) {
	dir, base := filepath.Split(path)
	base = base[:min(len(base), 200)] // names end at 255 bytes
	for try := 0; ; try++ {
		name := filepath.Join(dir, fmt.Sprintf(".%s.%08x.tmp", base, rand.Uint32()))
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
		if !errors.Is(err, fs.ErrExist) || try == 100 {
			return f, err
		}
	}
}
