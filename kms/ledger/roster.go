// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/rootkey"
)

const (
	macSize = sha256.Size
	shards  = 256
)

type mac = [macSize]byte

// keys are derived from the root key for one store: a row of another store
// under the same root key is no row of this one.
type keys struct {
	row   []byte
	shard []byte
	// meta does not depend on the store, whose name it protects.
	meta []byte
}

func deriveKeys(root rootkey.Key, storeID string) (keys, error) {
	row, err := root.Derive("ledger/1/row/" + storeID)
	if err != nil {
		return keys{}, err
	}
	shard, err := root.Derive("ledger/1/shard/" + storeID)
	if err != nil {
		return keys{}, err
	}
	meta, err := deriveMetaKey(root)
	return keys{row: row, shard: shard, meta: meta}, err
}

func deriveMetaKey(root rootkey.Key) ([]byte, error) { return root.Derive("ledger/1/meta") }

// rowMAC returns the MAC of the row. Every part is preceded by its length, so
// no two rows have the same input.
func rowMAC(key []byte, r keystore.Row) []byte {
	h := hmac.New(sha256.New, key)
	head := make([]byte, 0, 64+len(r.Table)+len(r.ID))
	head = append(head, "cretula row 1\x00"...)
	head = binary.BigEndian.AppendUint16(head, uint16(len(r.Table)))
	head = append(head, r.Table...)
	head = binary.BigEndian.AppendUint16(head, uint16(len(r.ID)))
	head = append(head, r.ID...)
	head = binary.BigEndian.AppendUint64(head, r.Version)
	head = binary.BigEndian.AppendUint64(head, uint64(len(r.Content)))
	h.Write(head)
	h.Write(r.Content)
	return h.Sum(nil)
}

func validMAC(key []byte, r keystore.Row) bool { return hmac.Equal(r.MAC, rowMAC(key, r)) }

// shardOf returns the shard that lists the row. The hash is keyed, so that who
// chooses ids cannot choose shards.
func (k keys) shardOf(table, id string) int {
	h := hmac.New(sha256.New, k.shard)
	h.Write([]byte(table))
	h.Write([]byte{0}) // no table has a zero byte in its name
	h.Write([]byte(id))
	return int(h.Sum(nil)[0])
}

func shardID(index int) string { return fmt.Sprintf("shard-%02x", index) }

// An entry lists one row.
type entry struct {
	table, id string
	version   uint64
	mac       mac
}

func (e entry) compare(table, id string) int {
	return cmp.Or(cmp.Compare(e.table, table), cmp.Compare(e.id, id))
}

// A shard is a part of the roster, in strictly ascending order of table and
// id. It does not change once it is part of a state.
type shard []entry

func (s shard) find(table, id string) (int, bool) {
	return slices.BinarySearchFunc(s, entry{table: table, id: id}, func(e, want entry) int {
		return e.compare(want.table, want.id)
	})
}

func (s shard) get(table, id string) (entry, bool) {
	i, ok := s.find(table, id)
	if !ok {
		return entry{}, false
	}
	return s[i], true
}

// encode returns the shard's content: for each entry the table's length (1
// byte) and name, the id's length (2 bytes) and text, the version (8 bytes),
// the MAC. Numbers are big-endian.
func (s shard) encode() []byte {
	size := 0
	for _, e := range s {
		size += 1 + len(e.table) + 2 + len(e.id) + 8 + macSize
	}
	out := make([]byte, 0, size)
	for _, e := range s {
		out = append(out, byte(len(e.table)))
		out = append(out, e.table...)
		out = binary.BigEndian.AppendUint16(out, uint16(len(e.id)))
		out = append(out, e.id...)
		out = binary.BigEndian.AppendUint64(out, e.version)
		out = append(out, e.mac[:]...)
	}
	return out
}

var errShard = errors.New("ledger: roster shard cannot be decoded")

// decodeShard accepts exactly what encode writes.
func decodeShard(content []byte) (shard, error) {
	var s shard
	for len(content) > 0 {
		var e entry
		var ok bool
		if e, content, ok = decodeEntry(content); !ok {
			return nil, fmt.Errorf("%w: entry %d is cut off or has an impossible name", errShard, len(s))
		}
		if n := len(s); n > 0 && s[n-1].compare(e.table, e.id) >= 0 {
			return nil, fmt.Errorf("%w: entry %d is out of order", errShard, n)
		}
		s = append(s, e)
	}
	return s, nil
}

func decodeEntry(b []byte) (e entry, rest []byte, ok bool) {
	n := int(b[0])
	if len(b) < 1+n+2 {
		return entry{}, nil, false
	}
	e.table, b = string(b[1:1+n]), b[1+n:]
	n = int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n+8+macSize {
		return entry{}, nil, false
	}
	e.id, b = string(b[2:2+n]), b[2+n:]
	e.version = binary.BigEndian.Uint64(b)
	e.mac = mac(b[8:])
	if keystore.CheckName(e.table, e.id) != nil || e.version > keystore.MaxVersion {
		return entry{}, nil, false
	}
	return e, b[8+macSize:], true
}

// A state is one generation of the roster. Only its loaded shards are filled
// in later, each with what its MAC stands for.
type state struct {
	generation uint64
	rootMAC    mac
	// macs are those of the shard rows; zero where there is no such row.
	macs   [shards]mac
	loaded [shards]atomic.Pointer[shard]
}

// rootRow returns the root row of the next generation of the state and makes
// the state be that.
func (st *state) rootRow(k keys) keystore.Row {
	st.generation++
	content := make([]byte, 0, shards*macSize)
	for _, m := range st.macs {
		content = append(content, m[:]...)
	}
	row := keystore.Row{Table: rosterTable, ID: rootID, Version: st.generation, Content: content}
	row.MAC = rowMAC(k.row, row)
	st.rootMAC = mac(row.MAC)
	return row
}

// isRow reports whether row is the very root row that st was made of.
func (st *state) isRow(row keystore.Row) bool {
	if row.Version != st.generation || !hmac.Equal(row.MAC, st.rootMAC[:]) ||
		len(row.Content) != shards*macSize {
		return false
	}
	for i := range st.macs {
		if !bytes.Equal(row.Content[i*macSize:(i+1)*macSize], st.macs[i][:]) {
			return false
		}
	}
	return true
}

// parseRoot verifies the root row. It takes over from known, if that is given,
// the shards that are still current.
func parseRoot(k keys, row keystore.Row, known *state) (*state, error) {
	if !validMAC(k.row, row) {
		return nil, tampered(rosterTable, rootID, Changed, "its MAC is not of this root key")
	}
	if len(row.Content) != shards*macSize {
		return nil, fmt.Errorf("ledger: root of the roster has %d bytes, want %d", len(row.Content), shards*macSize)
	}
	if known != nil && row.Version <= known.generation {
		return nil, tampered(rosterTable, rootID, RolledBack,
			fmt.Sprintf("it is of generation %d, generation %d was seen", row.Version, known.generation))
	}
	st := &state{generation: row.Version, rootMAC: mac(row.MAC)}
	for i := range st.macs {
		st.macs[i] = mac(row.Content[i*macSize:])
		if known != nil && known.macs[i] == st.macs[i] {
			st.loaded[i].Store(known.loaded[i].Load())
		}
	}
	return st, nil
}

// shard returns shard index of the state, from memory or verified from the
// store. The error is a TamperedError that names the shard's row.
func (st *state) shard(k keys, raw keystore.Tx, index int) (shard, error) {
	if s := st.loaded[index].Load(); s != nil {
		return *s, nil
	}
	s, err := st.readShard(k, raw, index)
	if err != nil {
		return nil, err
	}
	st.loaded[index].Store(&s)
	return s, nil
}

func (st *state) readShard(k keys, raw keystore.Tx, index int) (shard, error) {
	want := st.macs[index]
	row, err := raw.Get(rosterTable, shardID(index))
	absent := errors.Is(err, keystore.ErrNotFound)
	switch {
	case err != nil && !absent:
		return nil, err
	case absent && want == mac{}:
		return nil, nil
	case absent:
		return nil, tampered(rosterTable, shardID(index), Removed, "")
	case !validMAC(k.row, row):
		return nil, tampered(rosterTable, shardID(index), Changed, "its MAC is not of this root key")
	case want == mac{}:
		return nil, tampered(rosterTable, shardID(index), Added, "")
	case !hmac.Equal(row.MAC, want[:]):
		return nil, tampered(rosterTable, shardID(index), RolledBack,
			fmt.Sprintf("it is of generation %d, the root row has another", row.Version))
	}
	return decodeShard(row.Content)
}

// next returns a copy of the state with the given shards replaced, and the
// rows to be written for it, root row last.
func (st *state) next(k keys, changed map[int]shard) (*state, []keystore.Row) {
	n := &state{generation: st.generation, macs: st.macs}
	for i := range n.loaded {
		n.loaded[i].Store(st.loaded[i].Load())
	}
	rows := make([]keystore.Row, 0, len(changed)+1)
	for i, s := range changed {
		row := keystore.Row{
			Table: rosterTable, ID: shardID(i), Version: st.generation + 1, Content: s.encode(),
		}
		row.MAC = rowMAC(k.row, row)
		n.macs[i] = mac(row.MAC)
		n.loaded[i].Store(&s)
		rows = append(rows, row)
	}
	return n, append(rows, n.rootRow(k))
}
