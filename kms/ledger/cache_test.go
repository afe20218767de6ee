// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cretula/cretula/kms/keystore"
)

// A decoding counts how often it is asked for.
type decoding struct{ calls atomic.Int64 }

type decoded struct{ text string }

func (d *decoding) decode(content []byte) (*decoded, error) {
	d.calls.Add(1)
	if bytes.HasPrefix(content, []byte("bad")) {
		return nil, errors.New("bad content")
	}
	return &decoded{string(content)}, nil
}

func (f *fixture) cached(d *decoding, table, id string) (value *decoded, version uint64, err error) {
	f.t.Helper()
	viewErr := f.View(ctx, func(tx *Tx) error {
		value, version, err = GetCached(tx, table, id, d.decode)
		return nil
	})
	return value, version, errors.Join(err, viewErr)
}

// wantCached reads the row and checks what is made of it, and how often that was
// done so far.
func (f *fixture) wantCached(d *decoding, id, text string, version uint64, calls int64) {
	f.t.Helper()
	value, got, err := f.cached(d, "policy", id)
	if err != nil || value.text != text || got != version {
		f.t.Errorf("GetCached(%q) = %v, %d, %v, want %q, %d", id, value, got, err, text, version)
	}
	if n := d.calls.Load(); n != calls {
		f.t.Errorf("%s: decoded %d times, want %d", id, n, calls)
	}
}

func (f *fixture) putContent(id, content string) {
	f.t.Helper()
	err := f.Update(ctx, func(tx *Tx) error {
		_, err := tx.Put("policy", id, []byte(content))
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

func TestGetCached(t *testing.T) {
	f, d := newFixture(t), &decoding{}
	if value, version, err := f.cached(d, "policy", "k1"); !errors.Is(err, keystore.ErrNotFound) || value != nil || version != 0 {
		t.Errorf("no row: %v, %d, %v", value, version, err)
	}
	f.putContent("k1", "one")
	f.wantCached(d, "k1", "one", 1, 1)
	f.wantCached(d, "k1", "one", 1, 1)
	f.putContent("other", "x") // another state, perhaps another shard
	f.wantCached(d, "k1", "one", 1, 1)
	f.putContent("k1", "two")
	f.wantCached(d, "k1", "two", 2, 2)
	f.putContent("k1", "two") // the same content is another row
	f.wantCached(d, "k1", "two", 3, 3)
	// What Get returns is the caller's.
	content, _, err := f.get("policy", "k1")
	if err != nil || string(content) != "two" {
		t.Fatal(content, err)
	}
	content[0] = 'X'
	if content, _, err := f.get("policy", "k1"); err != nil || string(content) != "two" {
		t.Errorf("changed through what Get returned: %q, %v", content, err)
	}
	// Another type is made anew, and each is right whoever came last.
	length := func(content []byte) (int, error) { return len(content), nil }
	err = f.View(ctx, func(tx *Tx) error {
		if n, version, err := GetCached(tx, "policy", "k1", length); n != 3 || version != 3 || err != nil {
			t.Errorf("as a number: %d, %d, %v", n, version, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	f.wantCached(d, "k1", "two", 3, 4)
	// An error is not kept.
	f.putContent("k1", "bad")
	for range 2 {
		if value, version, err := f.cached(d, "policy", "k1"); err == nil || value != nil || version != 0 {
			t.Errorf("bad content: %v, %d, %v", value, version, err)
		}
	}
	if n := d.calls.Load(); n != 6 {
		t.Errorf("decoded %d times, want 6", n)
	}
	f.putContent("k1", "three")
	f.wantCached(d, "k1", "three", 5, 7)
	if err := f.Update(ctx, func(tx *Tx) error { return tx.Delete("policy", "k1") }); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.cached(d, "policy", "k1"); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
	f.putContent("k1", "four")
	f.wantCached(d, "k1", "four", 1, 8)
}

// What a transaction sees of its own writes is forgotten with them.
func TestGetCachedInUpdate(t *testing.T) {
	f, d := newFixture(t), &decoding{}
	f.putContent("k1", "one")
	f.wantCached(d, "k1", "one", 1, 1)
	abort := errors.New("abort")
	err := f.Update(ctx, func(tx *Tx) error {
		if _, err := tx.Put("policy", "k1", []byte("never")); err != nil {
			return err
		}
		if value, version, err := GetCached(tx, "policy", "k1", d.decode); err != nil || value.text != "never" || version != 2 {
			t.Errorf("within: %v, %d, %v", value, version, err)
		}
		return abort
	})
	if !errors.Is(err, abort) {
		t.Fatal(err)
	}
	f.wantCached(d, "k1", "one", 1, 3)
	// Another row of the same version.
	f.putContent("k1", "two")
	f.wantCached(d, "k1", "two", 2, 4)
	err = f.Update(ctx, func(tx *Tx) error {
		if err := tx.Delete("policy", "k1"); err != nil {
			return err
		}
		if _, _, err := GetCached(tx, "policy", "k1", d.decode); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("deleted within: %v", err)
		}
		return abort
	})
	if !errors.Is(err, abort) {
		t.Fatal(err)
	}
	f.wantCached(d, "k1", "two", 2, 4)
}

// TestCachedRowTampered changes rows that the cache has, while the ledger is
// open. Each must be noticed by the next read, and the row put back be believed.
func TestCachedRowTampered(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(f *fixture, old keystore.Row)
		what   What
	}{
		{"content", func(f *fixture, _ keystore.Row) {
			row := f.rawGet("policy", "k1")
			row.Content[0] ^= 1
			f.rawPut(row)
		}, Changed},
		{"content longer", func(f *fixture, _ keystore.Row) {
			row := f.rawGet("policy", "k1")
			row.Content = append(row.Content, ' ')
			f.rawPut(row)
		}, Changed},
		{"version", func(f *fixture, _ keystore.Row) {
			row := f.rawGet("policy", "k1")
			row.Version++
			f.rawPut(row)
		}, Changed},
		{"MAC", func(f *fixture, _ keystore.Row) {
			row := f.rawGet("policy", "k1")
			row.MAC[0] ^= 1
			f.rawPut(row)
		}, Changed},
		{"another row", func(f *fixture, _ keystore.Row) {
			row := f.rawGet("policy", "k2")
			row.ID = "k1"
			f.rawPut(row)
		}, Moved},
		{"rolled back", func(f *fixture, old keystore.Row) { f.rawPut(old) }, RolledBack},
		{"removed", func(f *fixture, _ keystore.Row) {
			f.raw(func(tx keystore.Tx) error { return tx.Delete("policy", "k1") })
		}, Removed},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, d := newFixture(t), &decoding{}
			f.putContent("k1", "first")
			f.putContent("k2", "another")
			f.wantCached(d, "k1", "first", 1, 1)
			f.wantCached(d, "k2", "another", 1, 2)
			old := f.rawGet("policy", "k1")
			f.putContent("k1", "second")
			f.wantCached(d, "k1", "second", 2, 3)
			current := f.rawGet("policy", "k1")
			test.change(f, old)
			for range 2 {
				value, version, err := f.cached(d, "policy", "k1")
				wantTampered(t, err, "policy", "k1", test.what)
				if value != nil || version != 0 {
					t.Errorf("GetCached gave %v, %d with its error", value, version)
				}
				_, _, err = f.get("policy", "k1")
				wantTampered(t, err, "policy", "k1", test.what)
			}
			f.wantFindings("policy/k1 " + string(test.what))
			f.wantCached(d, "k2", "another", 1, 3)
			f.rawPut(current)
			f.wantCached(d, "k1", "second", 2, 3)
			f.wantFindings()
		})
	}
}

// The roster under a cached row: with no root row, an older one or another one no
// row is believed.
func TestCachedRosterTampered(t *testing.T) {
	f, d := newFixture(t), &decoding{}
	f.putContent("k1", "one")
	oldRoot, oldShard, oldRow := f.rawGet(rosterTable, rootID), f.shardRow("policy", "k1"), f.rawGet("policy", "k1")
	f.putContent("k1", "two")
	f.wantCached(d, "k1", "two", 2, 1)
	root, shard, row := f.rawGet(rosterTable, rootID), f.shardRow("policy", "k1"), f.rawGet("policy", "k1")
	f.raw(func(tx keystore.Tx) error { return tx.Delete(rosterTable, rootID) })
	_, _, err := f.cached(d, "policy", "k1")
	wantTampered(t, err, rosterTable, rootID, Removed)
	changed := root
	changed.Content = bytes.Clone(root.Content)
	changed.Content[17] ^= 1
	f.rawPut(changed)
	_, _, err = f.cached(d, "policy", "k1")
	wantTampered(t, err, rosterTable, rootID, Changed)
	f.rawPut(root, shard, row)
	f.wantCached(d, "k1", "two", 2, 1)
	// Another process writes: its row is found and the old one not given.
	other := &fixture{t: t, store: f.store, root: f.root}
	other.reopen()
	other.putContent("k1", "three")
	f.wantCached(d, "k1", "three", 3, 2)
	f.rawPut(oldRoot, oldShard, oldRow) // the whole store put back while it is open
	_, _, err = f.cached(d, "policy", "k1")
	wantTampered(t, err, rosterTable, rootID, RolledBack)
}

func TestCacheIsBounded(t *testing.T) {
	f, d := newFixture(t), &decoding{}
	big := strings.Repeat("x", 200<<10)
	const rows = 100 // 40 MiB by weight
	for i := range rows {
		f.putContent(fmt.Sprintf("k%d", i), big)
	}
	f.putContent("huge", strings.Repeat("x", MaxContent))
	f.wantCached(d, "huge", strings.Repeat("x", MaxContent), 1, 1)
	f.wantCached(d, "huge", strings.Repeat("x", MaxContent), 1, 2) // not kept
	for i := range rows {
		f.wantCached(d, fmt.Sprintf("k%d", i), big, 1, int64(i+3))
		f.wantCached(d, "k0", big, 1, int64(i+3)) // what is used stays
	}
	weight := 0
	for _, generation := range []map[rowName]*cachedRow{f.cache.young, f.cache.old} {
		for _, r := range generation {
			weight += r.weight()
		}
	}
	if weight > maxCache || weight < maxCache/4 {
		t.Errorf("the cache weighs %d, at most %d", weight, maxCache)
	}
	young := 0
	for _, r := range f.cache.young {
		young += r.weight()
	}
	if young != f.cache.weight {
		t.Errorf("the young rows weigh %d, counted were %d", young, f.cache.weight)
	}
}

// Readers see, while a row is written and tampered with in turn, nothing but what
// was written or the error.
func TestGetCachedConcurrent(t *testing.T) {
	f, d := newFixture(t), &decoding{}
	f.putContent("k1", "content 0")
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			last := uint64(0)
			for {
				select {
				case <-stop:
					return
				default:
				}
				var value *decoded
				var version uint64
				err := f.View(ctx, func(tx *Tx) (err error) {
					value, version, err = GetCached(tx, "policy", "k1", d.decode)
					return err
				})
				_, isTampered := errors.AsType[*TamperedError](err)
				switch {
				case isTampered:
				case err != nil:
					t.Error(err)
					return
				case version < last || value.text != fmt.Sprintf("content %d", version-1):
					t.Errorf("version %d after %d: %q", version, last, value.text)
					return
				default:
					last = version
				}
			}
		})
	}
	for i := range 40 {
		row := f.rawGet("policy", "k1")
		row.Content[0] ^= 1
		f.rawPut(row)
		f.putContent("k1", fmt.Sprintf("content %d", i+1))
	}
	close(stop)
	wg.Wait()
}
