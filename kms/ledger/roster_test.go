// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cretula/cretula/kms/keystore"
)

// A listed is an entry as a test writes it down.
type listed struct {
	table, id string
	version   uint64
	mac       mac
}

// encodeShard writes entries as they come.
func encodeShard(entries ...listed) (content []byte) {
	for _, e := range entries {
		content = appendEntry(content, e.table, e.id, e.version, e.mac[:])
	}
	return content
}

func (s shard) all() (all []listed) {
	for i := range s.len() {
		e := s.at(i)
		all = append(all, listed{string(e.table), string(e.id), e.version, mac(e.mac)})
	}
	return all
}

func testShard() []listed {
	return []listed{
		{table: "a", id: "1", version: 1, mac: mac{1}},
		{table: "a", id: "2", version: 1 << 40, mac: mac{2}},
		{table: "alias", id: "alias/ü", version: 3},
		{table: "b", id: strings.Repeat("x", keystore.MaxID), version: keystore.MaxVersion},
	}
}

func TestShard(t *testing.T) {
	s := testShard()
	encoded := encodeShard(s...)
	got, err := decodeShard(encoded)
	if err != nil || !slices.Equal(got.all(), s) {
		t.Errorf("decodeShard = %v, %v", got, err)
	}
	boundaries := map[int]bool{0: true}
	for i := range s {
		boundaries[len(encodeShard(s[:i+1]...))] = true
	}
	for n := range encoded {
		if got, err := decodeShard(encoded[:n]); (err == nil) != boundaries[n] || err != nil && got.content != nil {
			t.Errorf("the first %d bytes: %v, %v", n, got, err)
		}
	}
	for name, bad := range map[string][]listed{
		"twice":    {s[0], s[0]},
		"order":    {s[1], s[0]},
		"tables":   {s[3], s[0]},
		"no table": {{id: "a"}},
		"no id":    {{table: "a"}},
		"table":    {{table: "A", id: "a"}},
		"version":  {{table: "a", id: "a", version: keystore.MaxVersion + 1}},
		"text":     {{table: "a", id: "\xff"}},
	} {
		if got, err := decodeShard(encodeShard(bad...)); !errors.Is(err, errShard) || got.content != nil {
			t.Errorf("%s: %v, %v, want an error", name, got, err)
		}
	}
}

// TestShardChanges compares a shard under random writes with a sorted map.
func TestShardChanges(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	model := map[string]listed{}
	var s shard
	for step := range 3000 {
		e := listed{table: "t" + strconv.Itoa(r.IntN(3)), id: strings.Repeat("x", r.IntN(4)) + strconv.Itoa(r.IntN(60)), version: r.Uint64() >> 1}
		e.mac[0], e.mac[macSize-1] = byte(step), byte(r.Uint32())
		name := e.table + "\x00" + e.id
		before := s
		copied := s.clone()
		if i, ok := s.find(e.table, e.id); ok && r.IntN(2) == 0 {
			copied.remove(i)
			delete(model, name)
		} else {
			copied.put(e.table, e.id, e.version, e.mac[:])
			model[name] = e
		}
		if !bytes.Equal(before.content, s.content) {
			t.Fatal("a copy shares what it changes")
		}
		s = copied
		var want []listed
		for _, name := range slices.Sorted(maps.Keys(model)) {
			want = append(want, model[name])
		}
		if got := s.all(); !slices.Equal(got, want) {
			t.Fatalf("step %d: %v, want %v", step, got, want)
		}
		if decoded, err := decodeShard(s.content); err != nil || !slices.Equal(decoded.starts, s.starts) {
			t.Fatalf("step %d: decoded %v, %v", step, decoded.starts, err)
		}
		_, found := s.get(e.table, e.id)
		if _, want := model[name]; found != want {
			t.Fatalf("step %d: get found %t", step, found)
		}
	}
}

func FuzzDecodeShard(f *testing.F) {
	f.Add(encodeShard(testShard()...))
	f.Add(encodeShard(testShard()[:1]...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		s, err := decodeShard(content)
		if err != nil {
			if s.content != nil {
				t.Error("a shard with the error")
			}
			return
		}
		// Built entry by entry it is the same.
		var again shard
		for _, e := range s.all() {
			again.put(e.table, e.id, e.version, e.mac[:])
		}
		if !bytes.Equal(again.content, content) || !slices.Equal(again.starts, s.starts) {
			t.Errorf("encoded again: %x, was %x", again.content, content)
		}
	})
}

// FuzzRows gives the ledger rows with any content and checks that none but
// what it wrote is believed.
func FuzzRows(f *testing.F) {
	x := newFixture(f)
	x.put("key", "a", "b")
	original := []keystore.Row{x.rawGet("key", "a"), x.shardRow("key", "a"), x.rawGet(rosterTable, rootID)}
	for i, row := range original {
		f.Add(i, row.Version, row.Content, row.MAC)
		f.Add(i, row.Version+1, row.Content, row.MAC)
	}
	f.Fuzz(func(t *testing.T, which int, version uint64, content, mac []byte) {
		x := &fixture{t: t, store: x.store, root: x.root, Ledger: x.Ledger}
		row := original[uint(which)%uint(len(original))]
		same := row.Version == version && bytes.Equal(row.Content, content) && bytes.Equal(row.MAC, mac)
		row.Version, row.Content, row.MAC = version, content, mac
		if row.Check() != nil {
			return
		}
		x.rawPut(row)
		defer x.rawPut(original...)
		l, err := Open(ctx, x.store, x.root)
		if err == nil {
			err = l.View(ctx, func(tx *Tx) error {
				got, version, err := tx.Get("key", "a")
				if err != nil && (got != nil || version != 0) {
					t.Error("content with the error")
				}
				return err
			})
		}
		if (err == nil) != same {
			t.Errorf("same: %t, error: %v", same, err)
		}
	})
}

func BenchmarkPut(b *testing.B) {
	sizes := []int{1000}
	if os.Getenv("CRETULA_LONG") == "1" {
		sizes = append(sizes, 100_000)
	}
	for _, rows := range sizes {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			f := benchFixture(b, rows)
			content := make([]byte, 300)
			for i := 0; b.Loop(); i++ {
				err := f.Update(ctx, func(tx *Tx) error {
					_, err := tx.Put("key", fmt.Sprintf("key/%08d", i*7919%rows), content)
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkGet(b *testing.B) {
	f := benchFixture(b, 1000)
	for i := 0; b.Loop(); i++ {
		if _, _, err := f.get("key", fmt.Sprintf("key/%08d", i*7919%1000)); err != nil {
			b.Fatal(err)
		}
	}
}

func benchFixture(b *testing.B, rows int) *fixture {
	b.Helper()
	f := newFixture(b)
	content := make([]byte, 300)
	for start := 0; start < rows; start += 10_000 {
		err := f.Update(ctx, func(tx *Tx) error {
			for i := start; i < min(rows, start+10_000); i++ {
				if _, err := tx.Put("key", fmt.Sprintf("key/%08d", i), content); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return f
}
