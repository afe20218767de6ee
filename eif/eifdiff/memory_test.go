// SPDX-License-Identifier: Apache-2.0

package eifdiff

import (
	"bytes"
	"io"
)

// A memory is a file that is not on a disk.
type memory struct {
	data []byte
	pos  int64
}

func (m *memory) Write(p []byte) (int, error) {
	if end := m.pos + int64(len(p)); end > int64(len(m.data)) {
		m.data = append(m.data, make([]byte, end-int64(len(m.data)))...)
	}
	m.pos += int64(copy(m.data[m.pos:], p))
	return len(p), nil
}

func (m *memory) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += m.pos
	case io.SeekEnd:
		offset += int64(len(m.data))
	}
	m.pos = offset
	return offset, nil
}

func (m *memory) reader() (*bytes.Reader, int64) {
	return bytes.NewReader(m.data), int64(len(m.data))
}
