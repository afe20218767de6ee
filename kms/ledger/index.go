// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"slices"
	"sort"
	"strings"
)

// An index has the ids of one table that the roster lists, in ascending order,
// so that a Scan need not look into every shard. It is made of verified shards
// only, belongs to one state, and does not change: the next state has its own,
// which shares the chunks that no write touched.
type index struct{ chunks []*chunk }

// maxChunk is the most ids of a chunk.
const maxChunk = 512

// A chunk is a run of ids. Like a shard it has no pointers for the garbage
// collector to follow.
type chunk struct {
	text   []byte // the ids, one behind the other
	ends   []uint32
	shards []uint8
}

// A listing is one id and the shard that lists it.
type listing struct {
	id    []byte
	shard uint8
}

func (c *chunk) at(i int) listing {
	start := uint32(0)
	if i > 0 {
		start = c.ends[i-1]
	}
	return listing{c.text[start:c.ends[i]], c.shards[i]}
}

// newIndex makes an index of listings in ascending order.
func newIndex(all []listing) *index { return &index{appendChunks(nil, all)} }

// appendChunks cuts listings into chunks of equal length.
func appendChunks(chunks []*chunk, all []listing) []*chunk {
	for parts := (len(all) + maxChunk - 1) / maxChunk; parts > 0; parts-- {
		n := (len(all) + parts - 1) / parts
		size := 0
		for _, l := range all[:n] {
			size += len(l.id)
		}
		c := &chunk{text: make([]byte, 0, size), ends: make([]uint32, 0, n), shards: make([]uint8, 0, n)}
		for _, l := range all[:n] {
			c.text = append(c.text, l.id...)
			c.ends = append(c.ends, uint32(len(c.text)))
			c.shards = append(c.shards, l.shard)
		}
		chunks = append(chunks, c)
		all = all[n:]
	}
	return chunks
}

// A touch is a row that was written or deleted.
type touch struct {
	table, id string
	shard     int
}

// with returns the index after writes: of each touched row of the table, listed
// tells whether it is there now.
func (x *index) with(table string, touched []touch, listed func(touch) bool) *index {
	mine := make([]touch, 0, len(touched))
	for _, t := range touched {
		if t.table == table {
			mine = append(mine, t)
		}
	}
	if len(mine) == 0 {
		return x
	}
	slices.SortFunc(mine, func(a, b touch) int { return strings.Compare(a.id, b.id) })
	mine = slices.CompactFunc(mine, func(a, b touch) bool { return a.id == b.id })
	out := &index{make([]*chunk, 0, len(x.chunks)+1)}
	for i, c := range x.chunks {
		n := len(mine)
		if i+1 < len(x.chunks) {
			next := x.chunks[i+1].at(0).id
			n = sort.Search(len(mine), func(j int) bool { return mine[j].id >= string(next) })
		}
		if n == 0 {
			out.chunks = append(out.chunks, c)
			continue
		}
		out.chunks = appendChunks(out.chunks, merge(c, mine[:n], listed))
		mine = mine[n:]
	}
	if len(x.chunks) == 0 {
		out.chunks = appendChunks(nil, merge(&chunk{}, mine, listed))
	}
	return out
}

// merge returns the listings of a chunk after the writes, which are in ascending
// order.
func merge(c *chunk, touched []touch, listed func(touch) bool) []listing {
	out := make([]listing, 0, len(c.ends)+len(touched))
	i := 0
	for _, t := range touched {
		for i < len(c.ends) && string(c.at(i).id) < t.id {
			out = append(out, c.at(i))
			i++
		}
		if i < len(c.ends) && string(c.at(i).id) == t.id {
			i++
		}
		if listed(t) {
			out = append(out, listing{[]byte(t.id), uint8(t.shard)})
		}
	}
	for ; i < len(c.ends); i++ {
		out = append(out, c.at(i))
	}
	return out
}

// A cursor stands before an id of an index.
type cursor struct {
	index    *index
	chunk, i int
	prefix   []byte
}

// seek returns a cursor before the first id that begins with prefix.
func (x *index) seek(prefix string) cursor {
	c := sort.Search(len(x.chunks), func(i int) bool { return string(x.chunks[i].at(0).id) > prefix })
	if c > 0 {
		c--
	}
	cur := cursor{index: x, chunk: c, prefix: []byte(prefix)}
	if c < len(x.chunks) {
		chunk := x.chunks[c]
		cur.i = sort.Search(len(chunk.ends), func(i int) bool { return string(chunk.at(i).id) >= prefix })
	}
	cur.settle()
	return cur
}

// settle goes on to the next chunk at the end of one.
func (c *cursor) settle() {
	if c.chunk < len(c.index.chunks) && c.i == len(c.index.chunks[c.chunk].ends) {
		c.chunk, c.i = c.chunk+1, 0
	}
}

// peek returns the id that the cursor stands before, if that has the prefix.
func (c *cursor) peek() (listing, bool) {
	if c.chunk == len(c.index.chunks) {
		return listing{}, false
	}
	l := c.index.chunks[c.chunk].at(c.i)
	return l, bytes.HasPrefix(l.id, c.prefix)
}

// next passes the id that peek has returned.
func (c *cursor) next() {
	c.i++
	c.settle()
}
