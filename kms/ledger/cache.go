// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"sync"
	"sync/atomic"

	"github.com/cretula/cretula/kms/keystore"
)

// Bounds of the cache, by what its rows are taken to weigh: their content twice,
// since what is made of it is about as large, and something for each.
const (
	maxCache    = 32 << 20 // bytes
	maxCacheRow = 1 << 20  // bytes; a heavier row is not kept
	rowWeight   = 512      // bytes
)

type rowName struct{ table, id string }

// A cachedRow is a row whose MAC was found right. That alone says nothing about
// the present: it is used only while the roster lists this MAC and the store holds
// these bytes.
type cachedRow struct {
	row   keystore.Row
	shard int
	// confirmed is when the store was last seen to hold the row.
	confirmed confirmation
	// listed is the MAC of a shard that lists the row, which stands for all that is in
	// the shard.
	listed atomic.Pointer[mac]
	// value is what GetCached has made of the content.
	value atomic.Pointer[any]
}

func (c *cachedRow) weight() int {
	return rowWeight + 2*(len(c.row.Content)+len(c.row.ID)+len(c.row.Table))
}

// is reports whether the roster's entry is that of the row.
func (c *cachedRow) is(want entry) bool {
	return want.version == c.row.Version && bytes.Equal(want.mac, c.row.MAC)
}

// holds reports whether the store's row is, byte for byte, the one that was
// verified.
func (c *cachedRow) holds(row keystore.Row) bool {
	return row.Version == c.row.Version && bytes.Equal(row.MAC, c.row.MAC) && bytes.Equal(row.Content, c.row.Content)
}

// A rowCache keeps rows that are read again and again. It has two generations: a
// row that is used comes into the young one; when that is full it becomes the old
// one, and what was in the old one is forgotten.
type rowCache struct {
	mu         sync.Mutex
	young, old map[rowName]*cachedRow
	weight     int // of the young ones
}

func (c *rowCache) get(name rowName) *cachedRow {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.young[name]; r != nil {
		return r
	}
	r := c.old[name]
	if r != nil {
		c.add(name, r)
	}
	return r
}

func (c *rowCache) put(r *cachedRow) {
	if r.weight() > maxCacheRow {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(rowName{r.row.Table, r.row.ID}, r)
}

func (c *rowCache) add(name rowName, r *cachedRow) {
	if c.young == nil || c.weight+r.weight() > maxCache/2 {
		c.old, c.young, c.weight = c.young, make(map[rowName]*cachedRow), 0
	}
	if replaced := c.young[name]; replaced != nil {
		c.weight -= replaced.weight()
	}
	c.young[name] = r
	c.weight += r.weight()
}

// verified returns a row that is as the ledger left it: one that was verified
// before, if the roster lists the same MAC and the store holds the same bytes, or
// else one that is verified now.
func (t *Tx) verified(table, id string) (*cachedRow, error) {
	if t.memory {
		return t.remembered(table, id)
	}
	if err := checkName(table, id); err != nil {
		return nil, err
	}
	c := t.ledger.cache.get(rowName{table, id})
	if c != nil {
		s, err := t.shard(c.shard)
		if err != nil {
			return nil, rosterError(table, id, err)
		}
		want, listed := s.get(table, id)
		if listed && c.is(want) {
			if same, err := t.raw.Holds(c.row); same || err != nil {
				t.confirm(c, same)
				return c, err
			}
		}
	}
	row, shard, err := t.read(table, id)
	if err != nil {
		return nil, err
	}
	c = &cachedRow{row: row, shard: shard}
	t.confirm(c, true)
	t.ledger.cache.put(c)
	return c, nil
}

// confirm notes that the store has the row, unless that may be so in this
// transaction only.
func (t *Tx) confirm(c *cachedRow, held bool) {
	if held && !t.writable {
		c.confirmed.confirm(t.at)
	}
}

// GetCached is [Tx.Get] for rows that are read often. It returns what decode has
// made of the row's content, now or at an earlier call. A value of an earlier call
// is returned only if the row is still, byte for byte, the one it was made of:
// each call reads the row from the store and its entry from the roster and
// compares both with what was verified, so that a row that was changed, rolled
// back or removed by hand is noticed as Get would notice it; within
// [Ledger.ViewRecent] that is so once a second.
//
// The value is shared by all who call: nobody may change it, or content. decode
// must depend on content alone, and be the same for all calls with the same table
// and T. Its error is returned as it is, and nothing is kept then. Values are
// forgotten in time; together with the contents of their rows they take some 32
// MiB, provided that a value is not much larger than its content. A value that
// must not stay in memory, such as a key, must not be part of T.
func GetCached[T any](t *Tx, table, id string, decode func(content []byte) (T, error)) (value T, version uint64, err error) {
	c, err := t.verified(table, id)
	if err != nil {
		return value, 0, err
	}
	if value, err = valueOf(c, decode); err != nil {
		return value, 0, err
	}
	return value, c.row.Version, nil
}

// valueOf returns what decode makes, or has made, of the row's content; zero with
// an error.
func valueOf[T any](c *cachedRow, decode func(content []byte) (T, error)) (T, error) {
	if kept := c.value.Load(); kept != nil {
		if value, ok := (*kept).(T); ok {
			return value, nil
		}
	}
	value, err := decode(c.row.Content)
	if err != nil {
		var none T
		return none, err
	}
	kept := any(value)
	c.value.Store(&kept)
	return value, nil
}
