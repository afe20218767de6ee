// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cretula/cretula/kms/keystore"
)

// Kinds of records in the plaintext.
const (
	recordRow = 1
	recordEnd = 2 // with the number of rows, 8 bytes; nothing follows
)

// Put adds a row.
func (w *Writer) Put(row keystore.Row) error {
	if err := row.Check(); err != nil {
		return err
	}
	head := make([]byte, 0, 1+1+len(row.Table)+2+len(row.ID)+8+1+len(row.MAC)+4)
	head = append(head, recordRow, byte(len(row.Table)))
	head = append(head, row.Table...)
	head = binary.BigEndian.AppendUint16(head, uint16(len(row.ID)))
	head = append(head, row.ID...)
	head = binary.BigEndian.AppendUint64(head, row.Version)
	head = append(head, byte(len(row.MAC)))
	head = append(head, row.MAC...)
	head = binary.BigEndian.AppendUint32(head, uint32(len(row.Content)))
	if err := w.write(head); err != nil {
		return err
	}
	w.rows++
	return w.write(row.Content)
}

// Next returns the next row. The error is [io.EOF] behind the last one: then the
// backup is complete, and otherwise matches [ErrChanged] or [ErrFormat].
func (r *Reader) Next() (keystore.Row, error) {
	kind, err := r.number(1)
	if err != nil {
		return keystore.Row{}, err
	}
	switch kind {
	case recordRow:
		return r.row()
	case recordEnd:
		rows, err := r.number(8)
		if err == nil && (rows != r.rows || !r.last || len(r.plain) > 0) {
			err = ErrChanged
		}
		if err == nil {
			err = io.EOF
		}
		return keystore.Row{}, err
	}
	return keystore.Row{}, fmt.Errorf("%w: record of kind %d", ErrFormat, kind)
}

func (r *Reader) row() (row keystore.Row, err error) {
	var table, id []byte
	if table, err = r.sized(1, keystore.MaxTable); err != nil {
		return row, err
	}
	if id, err = r.sized(2, keystore.MaxID); err != nil {
		return row, err
	}
	row.Table, row.ID = string(table), string(id)
	if row.Version, err = r.number(8); err != nil {
		return row, err
	}
	if row.MAC, err = r.sized(1, keystore.MaxMAC); err != nil {
		return row, err
	}
	if row.Content, err = r.sized(4, keystore.MaxContent); err != nil {
		return row, err
	}
	if err := row.Check(); err != nil {
		return row, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	r.rows++
	return row, nil
}

// number reads an integer of some bytes.
func (r *Reader) number(size int) (uint64, error) {
	b, err := r.read(size)
	if err != nil {
		return 0, err
	}
	var wide [8]byte
	copy(wide[8-size:], b)
	return binary.BigEndian.Uint64(wide[:]), nil
}

// sized reads bytes behind their length, itself of some bytes.
func (r *Reader) sized(size int, limit uint64) ([]byte, error) {
	n, err := r.number(size)
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, fmt.Errorf("%w: %d bytes where %d are the most", ErrFormat, n, limit)
	}
	return r.read(int(n))
}

// EachRow gives all rows that are left. Without an error the backup is complete.
func (r *Reader) EachRow(yield func(keystore.Row) error) error {
	for {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = yield(row)
		}
		if err != nil {
			return err
		}
	}
}

// Check reads the rest of the backup and returns how many rows there are in all.
func (r *Reader) Check() (uint64, error) {
	err := r.EachRow(func(keystore.Row) error { return nil })
	return r.rows, err
}
