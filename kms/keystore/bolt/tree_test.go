// SPDX-License-Identifier: Apache-2.0

//go:build unix

package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"testing"

	"github.com/cretula/cretula/kms/keystore"
)

// whole returns the used part of a good file and its meta page's values.
func whole(t *testing.T) ([]byte, fileMeta) {
	t.Helper()
	content, err := os.ReadFile(filled(t))
	if err != nil {
		t.Fatal(err)
	}
	m, ok := currentMeta(bytes.NewReader(content), int64(len(content)))
	if !ok {
		t.Fatal("no meta page in a good file")
	}
	content = content[:int64(m.last)*m.pageSize]
	if err := checkLayout(bytes.NewReader(content), int64(len(content))); err != nil {
		t.Fatal(err)
	}
	return content, m
}

// freePages returns which pages are free or the list of these.
func freePages(t *testing.T, content []byte, m fileMeta) []bool {
	t.Helper()
	c := &treeCheck{file: bytes.NewReader(content), meta: m, used: make([]bool, m.last)}
	if err := c.freelist(); err != nil {
		t.Fatal(err)
	}
	return c.used
}

func wantDamaged(t *testing.T, what string, content []byte) {
	t.Helper()
	if err := checkLayout(bytes.NewReader(content), int64(len(content))); !errors.Is(err, keystore.ErrDamaged) {
		t.Errorf("%s: %v, want ErrDamaged", what, err)
	}
}

func TestPageHeaders(t *testing.T) {
	content, m := whole(t)
	free := freePages(t, content, m)
	order := binary.NativeEndian
	checked := 0
	for id := uint64(2); id < m.last; {
		at := int64(id) * m.pageSize
		page := content[at : at+m.pageSize]
		if free[id] {
			id++
			continue
		}
		saved := bytes.Clone(page)
		for what, change := range map[string]func(){
			"id":                 func() { order.PutUint64(page, id+1) },
			"kind 0":             func() { order.PutUint16(page[8:], 0) },
			"kind meta":          func() { order.PutUint16(page[8:], 4) },
			"kind list of free":  func() { order.PutUint16(page[8:], freelistFlag) },
			"most elements":      func() { order.PutUint16(page[10:], 0xFFFF) },
			"longest":            func() { order.PutUint32(page[12:], 0xFFFFFFFF) },
			"as far as possible": func() { order.PutUint32(page[12:], uint32(m.last-id)) },
			"first key far":      func() { order.PutUint32(page[pageHeader+4:], 0xFFFFFFF0) },
		} {
			change()
			wantDamaged(t, fmt.Sprintf("page %d, %s", id, what), content)
			copy(page, saved)
			checked++
		}
		id += 1 + uint64(order.Uint32(saved[12:]))
	}
	if checked < 100 {
		t.Errorf("only %d changes were tried", checked)
	}
}

func TestFreelist(t *testing.T) {
	content, m := whole(t)
	order := binary.NativeEndian
	page := content[int64(m.freelist)*m.pageSize:][:m.pageSize]
	saved := bytes.Clone(page)
	count := order.Uint16(page[10:])
	if count < 2 {
		t.Fatalf("%d free pages are too few for the test", count)
	}
	first := page[pageHeader:]
	for what, change := range map[string]func(){
		"a page in use": func() { order.PutUint64(first, m.root) },
		"itself":        func() { order.PutUint64(first, m.freelist) },
		"a meta page":   func() { order.PutUint64(first, 1) },
		"twice":         func() { copy(first[idSize:], first[:idSize]) },
		"behind":        func() { order.PutUint64(first[(count-1)*idSize:], m.last) },
		"many":          func() { order.PutUint16(page[10:], 600) },
		"too many":      func() { order.PutUint16(page[10:], manyFree); order.PutUint64(first, 1<<62) },
		"not a list":    func() { order.PutUint16(page[8:], leafFlag) },
	} {
		change()
		wantDamaged(t, what, content)
		copy(page, saved)
	}
}

// TestMeta changes the newer meta page and gives it a right checksum.
func TestMeta(t *testing.T) {
	original, m := whole(t)
	order := binary.NativeEndian
	at := int64(0)
	if second, ok := readMeta(bytes.NewReader(original), m.pageSize); ok && second.transaction == m.transaction {
		at = m.pageSize
	}
	for what, change := range map[string]func(meta []byte){
		"page size 0":    func(b []byte) { order.PutUint32(b[8:], 0) },
		"page size odd":  func(b []byte) { order.PutUint32(b[8:], 4097) },
		"page size huge": func(b []byte) { order.PutUint32(b[8:], 1<<31) },
		"root behind":    func(b []byte) { order.PutUint64(b[16:], m.last) },
		"root is meta":   func(b []byte) { order.PutUint64(b[16:], 1) },
		"root is list":   func(b []byte) { order.PutUint64(b[16:], m.freelist) },
		"list behind":    func(b []byte) { order.PutUint64(b[32:], 1<<63) },
		"no list":        func(b []byte) { order.PutUint64(b[32:], ^uint64(0)) },
		"list is root":   func(b []byte) { order.PutUint64(b[32:], m.root) },
		"more pages":     func(b []byte) { order.PutUint64(b[40:], m.last+1) },
		"all pages":      func(b []byte) { order.PutUint64(b[40:], ^uint64(0)) },
		"no pages":       func(b []byte) { order.PutUint64(b[40:], 0) },
		"fewer pages":    func(b []byte) { order.PutUint64(b[40:], 3) },
	} {
		content := bytes.Clone(original)
		meta := content[at+pageHeader:][:metaSize]
		change(meta)
		sum := fnv.New64a()
		sum.Write(meta[:metaSize-8])
		order.PutUint64(meta[metaSize-8:], sum.Sum64())
		wantDamaged(t, what, content)
	}
	// A torn newer page leaves the older one, with an older tree.
	content := bytes.Clone(original)
	content[at+pageHeader+20] ^= 1
	got, ok := currentMeta(bytes.NewReader(content), int64(len(content)))
	if !ok || got.transaction != m.transaction-1 {
		t.Errorf("with a torn meta page: transaction %d, %t, want %d", got.transaction, ok, m.transaction-1)
	}
}
