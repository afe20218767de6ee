// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
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

// A state is one generation of the roster. Only its loaded shards are filled
// in later, each with what its MAC stands for.
type state struct {
	generation uint64
	// root is the root row that the state was made of or for.
	root keystore.Row
	// macs are those of the shard rows; zero where there is no such row.
	macs   [shards]mac
	loaded [shards]atomic.Pointer[shard]
	// after are the generations in which shards were last seen with another MAC:
	// what they are now was written later, unless the store lost changes.
	after [shards]uint64
	// confirmed is when the store was last seen to have this generation.
	confirmed confirmation

	mu sync.Mutex
	// indexes are those that were asked for, by table. Where there is one all
	// shards are loaded.
	indexes map[string]*index
}

// indexOf returns the index of a table; nil if it is yet to be made.
func (st *state) indexOf(table string) *index {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.indexes[table]
}

func (st *state) keepIndex(table string, x *index) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.indexes == nil {
		st.indexes = make(map[string]*index)
	}
	st.indexes[table] = x
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
	st.root = row
	return row
}

// parseRoot verifies the root row. It takes over from known, if that is given,
// the shards that are still current.
func parseRoot(k keys, row keystore.Row, known *state) (*state, error) {
	if !validMAC(k.row, row) {
		return nil, tampered(rosterTable, rootID, Changed, "its MAC is not of this root key")
	}
	if err := moved(row); err != nil {
		return nil, err
	}
	if len(row.Content) != shards*macSize {
		return nil, fmt.Errorf("ledger: root of the roster has %d bytes, want %d", len(row.Content), shards*macSize)
	}
	if known != nil && row.Version <= known.generation {
		return nil, tampered(rosterTable, rootID, RolledBack,
			fmt.Sprintf("it is of generation %d, generation %d was seen; nothing is believed until the store is opened anew", row.Version, known.generation))
	}
	st := &state{generation: row.Version, root: row}
	for i := range st.macs {
		st.macs[i] = mac(row.Content[i*macSize:])
		switch {
		case known == nil || known.root.MAC == nil:
		case known.macs[i] == st.macs[i]:
			st.loaded[i].Store(known.loaded[i].Load())
			st.after[i] = known.after[i]
		default:
			st.after[i] = known.generation
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
		return shard{}, err
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
		return shard{}, err
	case absent && want == mac{} && st.after[index] == 0:
		return shard{}, nil
	case absent && want == mac{}:
		return shard{}, st.diverged(index, 0)
	case absent:
		return shard{}, tampered(rosterTable, shardID(index), Removed, "")
	case !validMAC(k.row, row):
		return shard{}, tampered(rosterTable, shardID(index), Changed, "its MAC is not of this root key")
	case want == mac{}:
		return shard{}, tampered(rosterTable, shardID(index), Added, "")
	case !hmac.Equal(row.MAC, want[:]):
		return shard{}, tampered(rosterTable, shardID(index), RolledBack,
			fmt.Sprintf("it is of generation %d, the root row has another", row.Version))
	case row.Version <= st.after[index] && st.after[index] > 0:
		return shard{}, st.diverged(index, row.Version)
	}
	return decodeShard(row.Content)
}

// diverged says that a generation is newer than one that was seen, and does not
// follow from it.
func (st *state) diverged(index int, version uint64) error {
	return tampered(rosterTable, rootID, RolledBack,
		fmt.Sprintf("%s is of generation %d, and in generation %d it was another; nothing is believed until the store is opened anew",
			shardID(index), version, st.after[index]))
}

// next returns a copy of the state with the given shards replaced, in which the
// touched rows are, and the rows to be written for it, root row last.
func (st *state) next(k keys, changed map[int]*shard, touched []touch) (*state, []keystore.Row) {
	n := &state{generation: st.generation, macs: st.macs, after: st.after}
	for i := range n.loaded {
		n.loaded[i].Store(st.loaded[i].Load())
	}
	rows := make([]keystore.Row, 0, len(changed)+1)
	for i, s := range changed {
		row := keystore.Row{
			Table: rosterTable, ID: shardID(i), Version: st.generation + 1, Content: s.content,
		}
		row.MAC = rowMAC(k.row, row)
		n.macs[i] = mac(row.MAC)
		n.loaded[i].Store(s)
		rows = append(rows, row)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	for table, x := range st.indexes {
		n.keepIndex(table, x.with(table, touched, func(t touch) bool {
			_, ok := changed[t.shard].find(t.table, t.id)
			return ok
		}))
	}
	return n, append(rows, n.rootRow(k))
}
