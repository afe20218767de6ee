// SPDX-License-Identifier: Apache-2.0

package bolt

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"

	"github.com/cretula/cretula/kms/keystore"
)

// The meta pages of bbolt's file. Numbers are in the machine's byte order.
const (
	pageHeader = 16 // id 8, flags 2, count 2, overflow 4
	metaSize   = 64 // behind a page header; the last 8 bytes are FNV-1a of the rest
	metaMagic  = 0xED0CDAED

	freelistFlag = 0x10
	// manyFree as the count says that the number of free pages follows.
	manyFree = 0xFFFF
	idSize   = 8

	minPageSize, maxPageSize = 1 << 10, 1 << 24
)

// A fileMeta is a valid meta page.
type fileMeta struct {
	pageSize             int64
	root, freelist, last uint64 // pages; last is one behind the last one
	transaction          uint64
}

func readMeta(f io.ReaderAt, at int64) (fileMeta, bool) {
	var b [pageHeader + metaSize]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return fileMeta{}, false
	}
	meta := b[pageHeader:]
	sum := fnv.New64a()
	sum.Write(meta[:metaSize-8])
	order := binary.NativeEndian
	if order.Uint32(meta) != metaMagic || order.Uint64(meta[metaSize-8:]) != sum.Sum64() {
		return fileMeta{}, false
	}
	return fileMeta{
		pageSize: int64(order.Uint32(meta[8:])), root: order.Uint64(meta[16:]),
		freelist: order.Uint64(meta[32:]), last: order.Uint64(meta[40:]), transaction: order.Uint64(meta[48:]),
	}, true
}

// currentMeta returns the meta page that bbolt will use: the first two pages
// are meta pages, of which one may be torn and the newer one counts.
func currentMeta(f io.ReaderAt, size int64) (fileMeta, bool) {
	first, ok := readMeta(f, 0)
	if ok {
		if second, ok := readMeta(f, first.pageSize); ok && second.transaction > first.transaction {
			return second, true
		}
		return first, true
	}
	for at := int64(minPageSize); at <= maxPageSize && at < size; at *= 2 {
		if second, ok := readMeta(f, at); ok {
			return second, second.pageSize == at
		}
	}
	return fileMeta{}, false
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", keystore.ErrDamaged, fmt.Sprintf(format, args...))
}

// checkLayout checks a whole file before bbolt sees it.
func checkLayout(f io.ReaderAt, size int64) error {
	m, ok := currentMeta(f, size)
	if !ok {
		return damaged("no meta page is whole")
	}
	if m.pageSize < minPageSize || m.pageSize > maxPageSize || m.pageSize&(m.pageSize-1) != 0 {
		return damaged("pages of %d bytes", m.pageSize)
	}
	if m.last > uint64(size/m.pageSize) {
		return damaged("it is cut off, %d bytes of %d pages are left", size, m.last)
	}
	if m.last < 3 || m.root >= m.last || m.freelist >= m.last {
		return damaged("the meta page refers to pages that are not there")
	}
	return checkTree(f, m)
}
