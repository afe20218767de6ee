// SPDX-License-Identifier: Apache-2.0

// Package memfile is a file in memory, for tests that write images.
package memfile

import (
	"bytes"
	"io"
)

// A File is an [io.WriteSeeker]. The zero value is empty.
type File struct {
	Data []byte
	Pos  int
}

// Write writes at Pos, over what is there.
func (f *File) Write(p []byte) (int, error) {
	if need := f.Pos + len(p); need > len(f.Data) {
		f.Data = append(f.Data, make([]byte, need-len(f.Data))...)
	}
	f.Pos += copy(f.Data[f.Pos:], p)
	return len(p), nil
}

// Seek sets Pos.
func (f *File) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += int64(f.Pos)
	case io.SeekEnd:
		offset += int64(len(f.Data))
	}
	f.Pos = int(offset)
	return offset, nil
}

// Reader returns what reads the file from its beginning, and its size.
func (f *File) Reader() (*bytes.Reader, int64) { return bytes.NewReader(f.Data), int64(len(f.Data)) }
