// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cretula/cretula/kms/keystore"
)

// scanned returns "id=content" of the rows, in the order of Scan.
func scanned(t *testing.T, tx *Tx, table, prefix string) (rows []string) {
	t.Helper()
	err := tx.Scan(table, prefix, func(row Row) bool {
		if row.Err != nil {
			t.Errorf("row %q: %v", row.ID, row.Err)
		}
		rows = append(rows, row.ID+"="+string(row.Content))
		return true
	})
	if err != nil {
		t.Error(err)
	}
	return rows
}

// TestScanModel compares Scan, within transactions that write and after them,
// with a map. The ids make chunks split and vanish.
func TestScanModel(t *testing.T) {
	f := newFixture(t)
	r := rand.New(rand.NewPCG(3, 4))
	model := map[string]string{}
	abort := errors.New("abort")
	check := func(tx *Tx, model map[string]string, prefix string) {
		t.Helper()
		var want []string
		for _, id := range slices.Sorted(maps.Keys(model)) {
			if strings.HasPrefix(id, prefix) {
				want = append(want, id+"="+model[id])
			}
		}
		if got := scanned(t, tx, "t", prefix); !slices.Equal(got, want) {
			t.Fatalf("Scan of %q: %d rows, want %d", prefix, len(got), len(want))
		}
	}
	prefixes := []string{"", "0", "5", "50", "9/", "501/7", "zz", "\x01"}
	for step := range 60 {
		next := maps.Clone(model)
		err := f.Update(ctx, func(tx *Tx) error {
			writes := r.IntN(5)
			if step%10 == 0 {
				writes = 1500
			}
			for range writes {
				id := fmt.Sprintf("%d/%d", r.IntN(1000), r.IntN(10))
				switch _, there := next[id]; {
				case there && step%20 > 10:
					if err := tx.Delete("t", id); err != nil {
						return err
					}
					delete(next, id)
				default:
					next[id] = fmt.Sprint(step)
					if _, err := tx.Put("t", id, []byte(next[id])); err != nil {
						return err
					}
				}
				// The same id in another table is another row.
				if _, err := tx.Put("u", id, nil); err != nil {
					return err
				}
			}
			check(tx, next, prefixes[r.IntN(len(prefixes))])
			if r.IntN(4) == 0 {
				return abort
			}
			return nil
		})
		if err == nil {
			model = next
		} else if !errors.Is(err, abort) {
			t.Fatal(err)
		}
		if step%15 == 14 {
			f.reopen()
		}
		err = f.View(ctx, func(tx *Tx) error {
			for _, prefix := range prefixes {
				check(tx, model, prefix)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	x := f.state.Load().indexOf("t")
	if x == nil || len(x.chunks) < 3 {
		t.Fatalf("the index has no chunks to speak of: %v", x)
	}
	total := 0
	for _, c := range x.chunks {
		if len(c.ends) == 0 || len(c.ends) > maxChunk {
			t.Errorf("a chunk of %d", len(c.ends))
		}
		total += len(c.ends)
	}
	if total != len(model) {
		t.Errorf("%d ids in the index, %d rows", total, len(model))
	}
	f.wantFindings()
}

// With the index in memory, rows that are removed, added and changed by hand are
// found as they are without it, also where a prefix or a stop ends the Scan.
func TestScanTamperedIndexed(t *testing.T) {
	for _, indexed := range []bool{false, true} {
		f := newFixture(t)
		f.put("t", "a1", "a2", "b1", "b2", "b3", "c1")
		if indexed {
			if err := f.View(ctx, func(tx *Tx) error { scanned(t, tx, "t", "b"); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		changed := f.rawGet("t", "b2")
		changed.Content[0] ^= 1
		added := f.rawGet("t", "b1")
		added.ID = "b11"
		f.rawPut(changed, added)
		f.raw(func(tx keystore.Tx) error {
			return errors.Join(tx.Delete("t", "a1"), tx.Delete("t", "b1"), tx.Delete("t", "b3"), tx.Delete("t", "c1"))
		})
		if !indexed {
			f.reopen()
		}
		for prefix, want := range map[string]string{
			"":   "a1 removed, a2 , b1 removed, b11 added, b2 changed, b3 removed, c1 removed",
			"a":  "a1 removed, a2 ",
			"b":  "b1 removed, b11 added, b2 changed, b3 removed",
			"b3": "b3 removed",
			"c":  "c1 removed",
			"d":  "",
		} {
			var got []string
			err := f.View(ctx, func(tx *Tx) error {
				return tx.Scan("t", prefix, func(row Row) bool {
					what := What("")
					if e, ok := errors.AsType[*TamperedError](row.Err); ok {
						what = e.What
					}
					got = append(got, row.ID+" "+string(what))
					return true
				})
			})
			if text := strings.Join(got, ", "); err != nil || text != want {
				t.Errorf("indexed %t, %q: %s, %v, want %s", indexed, prefix, text, err, want)
			}
			for stop := range got {
				calls := 0
				err := f.View(ctx, func(tx *Tx) error {
					return tx.Scan("t", prefix, func(Row) bool { calls++; return calls <= stop })
				})
				if err != nil || calls != stop+1 {
					t.Errorf("%q stopped after %d: %d calls, %v", prefix, stop+1, calls, err)
				}
			}
		}
	}
}

// ScanCached decodes a row once, and notices what is done to it as Scan does.
func TestScanCached(t *testing.T) {
	f, d := newFixture(t), &decoding{}
	f.put("t", "a1", "b1", "b2", "b3", "c1")
	f.put("t", "b2")
	list := func(want string, calls int64) {
		t.Helper()
		var got []string
		err := f.View(ctx, func(tx *Tx) error {
			return ScanCached(tx, "t", "b", d.decode, func(id string, value *decoded, version uint64, err error) bool {
				e, isTampered := errors.AsType[*TamperedError](err)
				switch {
				case isTampered:
					got = append(got, id+" "+string(e.What))
				case err != nil:
					got = append(got, id+" "+err.Error())
				default:
					got = append(got, fmt.Sprintf("%s %s %d", id, value.text, version))
				}
				if err != nil && (value != nil || version != 0) {
					t.Errorf("%s: a value with the error", id)
				}
				return true
			})
		})
		if text := strings.Join(got, ", "); err != nil || text != want || d.calls.Load() != calls {
			t.Errorf("%s, %v, decoded %d times; want %s, %d", text, err, d.calls.Load(), want, calls)
		}
	}
	whole := "b1 content of b1 1, b2 content of b2 2, b3 content of b3 1"
	list(whole, 3)
	list(whole, 3)
	// What Scan gives is the caller's.
	err := f.View(ctx, func(tx *Tx) error {
		return tx.Scan("t", "b", func(row Row) bool { clear(row.Content); return true })
	})
	if err != nil {
		t.Fatal(err)
	}
	list(whole, 3)
	b1, b2 := f.rawGet("t", "b1"), f.rawGet("t", "b2")
	changed := f.rawGet("t", "b2")
	changed.Content[3] ^= 1
	f.rawPut(changed)
	f.raw(func(tx keystore.Tx) error { return tx.Delete("t", "b1") })
	list("b1 removed, b2 changed, b3 content of b3 1", 3)
	f.rawPut(b1, b2)
	list(whole, 3)
	err = f.Update(ctx, func(tx *Tx) error {
		_, err := tx.Put("t", "b3", []byte("bad"))
		return errors.Join(err, tx.Delete("t", "b1"))
	})
	if err != nil {
		t.Fatal(err)
	}
	list("b2 content of b2 2, b3 bad content", 4)
	list("b2 content of b2 2, b3 bad content", 5)
	if _, _, err := f.cached(d, "t", "b2"); err != nil || d.calls.Load() != 5 {
		t.Errorf("GetCached of a row that ScanCached had: %v, decoded %d times", err, d.calls.Load())
	}
}

// BenchmarkScan lists three rows of many.
func BenchmarkScan(b *testing.B) {
	sizes := []int{1000}
	if os.Getenv("CRETULA_LONG") == "1" {
		sizes = append(sizes, 300_000)
	}
	for _, rows := range sizes {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			f := benchFixture(b, rows)
			f.put("key", "key/00000500/a", "key/00000500/b", "key/00000500/c")
			for b.Loop() {
				found := 0
				err := f.View(ctx, func(tx *Tx) error {
					return tx.Scan("key", "key/00000500/", func(Row) bool { found++; return true })
				})
				if err != nil || found != 3 {
					b.Fatal(found, err)
				}
			}
		})
	}
}
