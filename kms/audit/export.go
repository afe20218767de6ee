// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cretula/cretula/internal/durable"
)

// Export copies the log in a folder, which may be in use, to a new folder: all whole
// lines there are, and the heads of them. [Verify] takes the copy. The error matches
// [fs.ErrExist] where to is there, and [ErrNone].
func Export(ctx context.Context, to, dir string) (err error) {
	if _, err := readChain(dir); err != nil {
		return err
	}
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("%s: %w", to, fs.ErrExist))
	}
	// Heads first: what they count is in the segments that are copied later. If
	// retention takes a segment meanwhile there is no copy.
	files := []string{chainFile, headsFile}
	segments, err := listSegments(dir)
	if err != nil {
		return err
	}
	for _, s := range segments {
		files = append(files, s.name())
	}
	if err := durable.MkdirAll(to); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(to)
		}
	}()
	for _, name := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := copyLines(filepath.Join(to, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return durable.SyncDir(to)
}

// copyLines copies a file up to its last line feed.
func copyLines(to, from string) (err error) {
	in, err := durable.OpenPrivate(from, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, durable.FileMode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	size, err := io.Copy(out, in)
	if err != nil {
		return err
	}
	end := make([]byte, min(size, maxLine))
	if _, err := out.ReadAt(end, size-int64(len(end))); err != nil && err != io.EOF {
		return err
	}
	whole := size - int64(len(end)) + int64(bytes.LastIndexByte(end, '\n')+1)
	return errors.Join(out.Truncate(whole), out.Sync())
}
