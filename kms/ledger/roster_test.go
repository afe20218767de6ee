// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cretula/cretula/kms/keystore"
)

func testShard() shard {
	return shard{
		{table: "a", id: "1", version: 1, mac: mac{1}},
		{table: "a", id: "2", version: 1 << 40, mac: mac{2}},
		{table: "alias", id: "alias/ü", version: 3},
		{table: "b", id: strings.Repeat("x", keystore.MaxID), version: keystore.MaxVersion},
	}
}

func TestShard(t *testing.T) {
	s := testShard()
	encoded := s.encode()
	got, err := decodeShard(encoded)
	if err != nil || !slices.Equal(got, s) {
		t.Errorf("decodeShard = %v, %v", got, err)
	}
	boundaries := map[int]bool{0: true}
	for i := range s {
		boundaries[len(s[:i+1].encode())] = true
	}
	for n := range encoded {
		if got, err := decodeShard(encoded[:n]); (err == nil) != boundaries[n] || err != nil && got != nil {
			t.Errorf("the first %d bytes: %v, %v", n, got, err)
		}
	}
	for name, bad := range map[string]shard{
		"twice":    {s[0], s[0]},
		"order":    {s[1], s[0]},
		"tables":   {s[3], s[0]},
		"no table": {{id: "a"}},
		"no id":    {{table: "a"}},
		"table":    {{table: "A", id: "a"}},
		"version":  {{table: "a", id: "a", version: keystore.MaxVersion + 1}},
		"text":     {{table: "a", id: "\xff"}},
	} {
		if got, err := decodeShard(bad.encode()); !errors.Is(err, errShard) || got != nil {
			t.Errorf("%s: %v, %v, want an error", name, got, err)
		}
	}
}

func FuzzDecodeShard(f *testing.F) {
	f.Add(testShard().encode())
	f.Add(testShard()[:1].encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		s, err := decodeShard(content)
		if err != nil {
			if s != nil {
				t.Error("a shard with the error")
			}
			return
		}
		if again := s.encode(); !bytes.Equal(again, content) {
			t.Errorf("encoded again: %x, was %x", again, content)
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
