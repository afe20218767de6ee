// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/cretula/cretula/kms/keystore"
)

// An entry lists one row. Its slices are parts of the shard that it is in.
type entry struct {
	table, id []byte
	version   uint64
	mac       []byte
}

// A shard is a part of the roster, in strictly ascending order of table and id.
// It is kept in memory as it stands in its row, content and all: for each entry
// the table's length (1 byte) and name, the id's length (2 bytes) and text, the
// version (8 bytes), the MAC. Numbers are big-endian. Two objects without
// pointers, however many rows there are, cost the garbage collector nothing.
//
// A shard does not change once it is part of a state.
type shard struct {
	content []byte
	starts  []uint32 // of the entries in content
}

func (s shard) len() int { return len(s.starts) }

// at returns entry i.
func (s shard) at(i int) entry {
	e, _ := cutEntry(s.content[s.starts[i]:])
	return e
}

// cutEntry reads the entry that b begins with, and says how long it is; 0 if b
// is cut off.
func cutEntry(b []byte) (e entry, size int) {
	if len(b) < 1 {
		return entry{}, 0
	}
	id := 1 + int(b[0]) + 2
	if len(b) < id {
		return entry{}, 0
	}
	version := id + int(binary.BigEndian.Uint16(b[id-2:]))
	if len(b) < version+8+macSize {
		return entry{}, 0
	}
	end := version + 8 + macSize
	return entry{
		table: b[1 : id-2], id: b[id:version], version: binary.BigEndian.Uint64(b[version:]), mac: b[version+8 : end : end],
	}, end
}

// compare orders entries by table, then id.
func (e entry) compare(table, id string) int {
	return cmp.Or(compareBytes(e.table, table), compareBytes(e.id, id))
}

// compareBytes copies neither, which a conversion outside of a comparison would.
func compareBytes(b []byte, s string) int {
	switch {
	case string(b) < s:
		return -1
	case string(b) == s:
		return 0
	}
	return 1
}

// find returns where the row is or would be.
func (s shard) find(table, id string) (int, bool) {
	return sort.Find(len(s.starts), func(i int) int { return -s.at(i).compare(table, id) })
}

func (s shard) get(table, id string) (entry, bool) {
	i, ok := s.find(table, id)
	if !ok {
		return entry{}, false
	}
	return s.at(i), true
}

// clone returns a copy that may be changed, with room for a few entries more.
func (s shard) clone() shard {
	return shard{
		content: append(make([]byte, 0, len(s.content)+512), s.content...),
		starts:  append(make([]uint32, 0, len(s.starts)+4), s.starts...),
	}
}

// put lists the row in place of the entry of the same name, if there is one.
func (s *shard) put(table, id string, version uint64, mac []byte) {
	i, exists := s.find(table, id)
	if exists {
		e := s.at(i)
		copy(e.mac, mac)
		binary.BigEndian.PutUint64(s.content[int(s.starts[i])+1+len(e.table)+2+len(e.id):], version)
		return
	}
	at := len(s.content)
	if i < len(s.starts) {
		at = int(s.starts[i])
	}
	encoded := appendEntry(nil, table, id, version, mac)
	s.content = slices.Insert(s.content, at, encoded...)
	s.starts = slices.Insert(s.starts, i, uint32(at))
	for j := i + 1; j < len(s.starts); j++ {
		s.starts[j] += uint32(len(encoded))
	}
}

// remove takes entry i out.
func (s *shard) remove(i int) {
	at := int(s.starts[i])
	_, size := cutEntry(s.content[at:])
	s.content = slices.Delete(s.content, at, at+size)
	s.starts = slices.Delete(s.starts, i, i+1)
	for j := i; j < len(s.starts); j++ {
		s.starts[j] -= uint32(size)
	}
}

func appendEntry(out []byte, table, id string, version uint64, mac []byte) []byte {
	out = append(out, byte(len(table)))
	out = append(out, table...)
	out = binary.BigEndian.AppendUint16(out, uint16(len(id)))
	out = append(out, id...)
	out = binary.BigEndian.AppendUint64(out, version)
	return append(out, mac...)
}

var errShard = errors.New("ledger: roster shard cannot be decoded")

// decodeShard accepts exactly what put writes. It keeps content.
func decodeShard(content []byte) (shard, error) {
	if len(content) > keystore.MaxContent {
		return shard{}, fmt.Errorf("%w: %d bytes, at most %d", errShard, len(content), keystore.MaxContent)
	}
	s := shard{content: content}
	var last entry
	for at := 0; at < len(content); {
		e, size := cutEntry(content[at:])
		n := len(s.starts)
		switch {
		case size == 0 || e.version > keystore.MaxVersion || keystore.CheckName(string(e.table), string(e.id)) != nil:
			return shard{}, fmt.Errorf("%w: entry %d is cut off or has an impossible name", errShard, n)
		case n > 0 && last.compare(string(e.table), string(e.id)) >= 0:
			return shard{}, fmt.Errorf("%w: entry %d is out of order", errShard, n)
		}
		s.starts = append(s.starts, uint32(at))
		last = e
		at += size
	}
	return s, nil
}
