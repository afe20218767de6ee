// SPDX-License-Identifier: Apache-2.0

package bolt

import (
	"bytes"
	"encoding/binary"
	"io"
)

// Pages of bbolt's B+ trees. Behind the header stands an array of elements,
// each of which says how far behind its own beginning its key is.
const (
	branchFlag = 0x01
	leafFlag   = 0x02

	elementSize = 16 // branch: distance 4, key 4, page 8; leaf: flags 4, distance 4, key 4, value 4
	bucketFlag  = 0x01
	// A bucket's value: the page of its root, or 0 and behind the header the
	// one page it consists of; and a sequence number.
	bucketHeader = 16
)

// A treeCheck goes over all that can be reached from a meta page, by reading
// the file: bbolt maps it, follows what it says, and would take the process
// down where that leads to nothing. It accepts only the shape of this
// package's files: buckets, and in them keys with values. Later formats keep to
// that shape, so that this program can tell that they are newer.
type treeCheck struct {
	file io.ReaderAt
	meta fileMeta
	// used marks the pages that are free or have been reached.
	used []bool
	// bucket is the name of the one that is walked, nil above all of them.
	bucket []byte
}

func checkTree(f io.ReaderAt, m fileMeta) error {
	c := &treeCheck{file: f, meta: m, used: make([]bool, m.last)}
	c.used[0], c.used[1] = true, true
	if err := c.freelist(); err != nil {
		return err
	}
	return c.page(m.root, nil, nil)
}

// read returns the page and those that continue it.
func (c *treeCheck) read(id uint64) ([]byte, error) {
	var header [pageHeader]byte
	at := int64(id) * c.meta.pageSize
	if _, err := c.file.ReadAt(header[:], at); err != nil {
		return nil, err
	}
	order := binary.NativeEndian
	more := uint64(order.Uint32(header[12:]))
	if order.Uint64(header[:]) != id || more >= c.meta.last-id {
		return nil, damaged("page %d says it is page %d and %d more", id, order.Uint64(header[:]), more)
	}
	for i := id; i <= id+more; i++ {
		if c.used[i] {
			return nil, damaged("page %d is used twice", i)
		}
		c.used[i] = true
	}
	page := make([]byte, int64(more+1)*c.meta.pageSize)
	_, err := c.file.ReadAt(page, at)
	return page, err
}

// freelist reads the list of free pages.
func (c *treeCheck) freelist() error {
	page, err := c.read(c.meta.freelist)
	if err != nil {
		return err
	}
	order := binary.NativeEndian
	count, ids := uint64(order.Uint16(page[10:])), page[pageHeader:]
	if count == manyFree {
		count, ids = order.Uint64(ids), ids[idSize:]
	}
	if order.Uint16(page[8:]) != freelistFlag || count > uint64(len(ids)/idSize) {
		return damaged("the list of free pages is none")
	}
	before := uint64(1)
	for ; count > 0; count, ids = count-1, ids[idSize:] {
		id := order.Uint64(ids)
		if id <= before || id >= c.meta.last || c.used[id] {
			return damaged("page %d is listed as free", id)
		}
		c.used[id] = true
		before = id
	}
	return nil
}

// page walks the tree from the page id. Its keys must be min or above and, if
// max is given, below that.
func (c *treeCheck) page(id uint64, min, max []byte) error {
	if id >= c.meta.last {
		return damaged("page %d is behind the end", id)
	}
	page, err := c.read(id)
	if err != nil {
		return err
	}
	flags := binary.NativeEndian.Uint16(page[8:])
	switch flags {
	case branchFlag:
		return c.branch(id, page, min, max)
	case leafFlag:
		return c.leaf(id, page, min, max)
	}
	return damaged("page %d is of kind %#x", id, flags)
}

// element returns element i of a page, and what stands behind its beginning.
func element(page []byte, i int) (e []byte, ok bool) {
	at := pageHeader + i*elementSize
	if at+elementSize > len(page) {
		return nil, false
	}
	return page[at:], true
}

// cut returns size bytes of e, distance from its beginning.
func cut(e []byte, distance, size uint64) ([]byte, bool) {
	if distance+size > uint64(len(e)) {
		return nil, false
	}
	return e[distance : distance+size], true
}

func (c *treeCheck) branch(id uint64, page, min, max []byte) error {
	order := binary.NativeEndian
	count := int(order.Uint16(page[10:]))
	if count == 0 {
		return damaged("page %d leads nowhere", id)
	}
	var keys [][]byte
	var pages []uint64
	for i := range count {
		e, ok := element(page, i)
		if !ok {
			return damaged("page %d has more elements than room", id)
		}
		key, ok := cut(e, uint64(order.Uint32(e)), uint64(order.Uint32(e[4:])))
		if !ok || !inOrder(keys, key, min, max) {
			return damaged("key %d of page %d is out of place", i, id)
		}
		keys, pages = append(keys, key), append(pages, order.Uint64(e[8:]))
	}
	for i, below := range pages {
		end := max
		if i+1 < len(keys) {
			end = keys[i+1]
		}
		if err := c.page(below, keys[i], end); err != nil {
			return err
		}
	}
	return nil
}

func inOrder(before [][]byte, key, min, max []byte) bool {
	if n := len(before); n > 0 && bytes.Compare(before[n-1], key) >= 0 {
		return false
	}
	return bytes.Compare(key, min) >= 0 && (max == nil || bytes.Compare(key, max) < 0)
}

func (c *treeCheck) leaf(id uint64, page, min, max []byte) error {
	order := binary.NativeEndian
	var before [][]byte
	for i := range int(order.Uint16(page[10:])) {
		e, ok := element(page, i)
		if !ok {
			return damaged("page %d has more elements than room", id)
		}
		distance, keySize, valueSize := uint64(order.Uint32(e[4:])), uint64(order.Uint32(e[8:])), uint64(order.Uint32(e[12:]))
		key, ok := cut(e, distance, keySize)
		value, ok2 := cut(e, distance+keySize, valueSize)
		if !ok || !ok2 || keySize == 0 || !inOrder(before, key, min, max) {
			return damaged("key %d of page %d is out of place", i, id)
		}
		before = append(before[:0], key)
		if err := c.item(id, order.Uint32(e), key, value); err != nil {
			return err
		}
	}
	return nil
}

// item checks one key with its value.
func (c *treeCheck) item(id uint64, flags uint32, key, value []byte) error {
	isBucket := flags == bucketFlag
	if flags > bucketFlag || isBucket != (c.bucket == nil) {
		return damaged("page %d has a value of kind %#x", id, flags)
	}
	if isBucket {
		return c.walkBucket(id, key, value)
	}
	return nil
}

func (c *treeCheck) walkBucket(id uint64, name, value []byte) error {
	order := binary.NativeEndian
	if len(value) < bucketHeader {
		return damaged("bucket %q of page %d is cut off", name, id)
	}
	c.bucket = name
	defer func() { c.bucket = nil }()
	if root := order.Uint64(value); root != 0 {
		return c.page(root, nil, nil)
	}
	page := value[bucketHeader:]
	if len(page) < pageHeader || order.Uint16(page[8:]) != leafFlag {
		return damaged("bucket %q of page %d is cut off", name, id)
	}
	return c.leaf(id, page, nil, nil)
}
