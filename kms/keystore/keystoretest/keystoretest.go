// SPDX-License-Identifier: Apache-2.0

// Package keystoretest is the suite that every [keystore.Store] must pass.
package keystoretest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cretula/cretula/kms/keystore"
)

// An Opener opens the store of one test: each call with the same t opens the
// same store again, another t has another, empty one. The suite closes what it
// opens.
type Opener func(t *testing.T) (keystore.Store, error)

// Run runs the suite.
func Run(t *testing.T, open Opener) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(*testing.T, Opener)
	}{
		{"rows", testRows},
		{"holds", testHolds},
		{"large rows", testLargeRows},
		{"names", testNames},
		{"scan", testScan},
		{"tables", testTables},
		{"rollback", testRollback},
		{"panic", testPanic},
		{"read only", testReadOnly},
		{"transaction ends", testTxDone},
		{"reopen", testReopen},
		{"snapshot", testSnapshot},
		{"serialised", testSerialised},
		{"context", testContext},
		{"close", testClose},
		{"model", testModel},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open) })
	}
}

var ctx = context.Background()

func mustOpen(t *testing.T, open Opener) keystore.Store {
	t.Helper()
	s, err := open(t)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func update(t *testing.T, s keystore.Store, fn func(keystore.Tx) error) {
	t.Helper()
	if err := s.Update(ctx, fn); err != nil {
		t.Fatalf("Update: %v", err)
	}
}

func view(t *testing.T, s keystore.Store, fn func(keystore.Tx) error) {
	t.Helper()
	if err := s.View(ctx, fn); err != nil {
		t.Fatalf("View: %v", err)
	}
}

func put(t *testing.T, s keystore.Store, rows ...keystore.Row) {
	t.Helper()
	update(t, s, func(tx keystore.Tx) error {
		for _, row := range rows {
			if err := tx.Put(row); err != nil {
				return err
			}
		}
		return nil
	})
}

func equal(a, b keystore.Row) bool {
	return a.Table == b.Table && a.ID == b.ID && a.Version == b.Version &&
		bytes.Equal(a.Content, b.Content) && bytes.Equal(a.MAC, b.MAC)
}

func wantRow(t *testing.T, s keystore.Store, want keystore.Row) {
	t.Helper()
	view(t, s, func(tx keystore.Tx) error {
		got, err := tx.Get(want.Table, want.ID)
		if err != nil || !equal(got, want) {
			t.Errorf("Get(%q, %q) = %v, %v, want %v", want.Table, want.ID, got, err, want)
		}
		return nil
	})
}

func wantNone(t *testing.T, s keystore.Store, table, id string) {
	t.Helper()
	view(t, s, func(tx keystore.Tx) error {
		if got, err := tx.Get(table, id); !errors.Is(err, keystore.ErrNotFound) || !equal(got, keystore.Row{}) {
			t.Errorf("Get(%q, %q) = %v, %v, want ErrNotFound", table, id, got, err)
		}
		return nil
	})
}

func testRows(t *testing.T, open Opener) {
	s := mustOpen(t, open)
	wantNone(t, s, "key", "a")
	rows := []keystore.Row{
		{Table: "key", ID: "a", Version: 1, Content: []byte("content"), MAC: []byte("mac")},
		{Table: "key", ID: "b", Version: keystore.MaxVersion},
		{Table: "key", ID: "A/ü \"'%_\\\n", Content: []byte{0, 255, '\n'}, MAC: bytes.Repeat([]byte{0}, keystore.MaxMAC)},
		{Table: "_key-2", ID: "a", Version: 7, MAC: []byte{1}},
	}
	put(t, s, rows...)
	for _, row := range rows {
		wantRow(t, s, row)
	}
	replaced := keystore.Row{Table: "key", ID: "a", Version: 2, Content: []byte("c")}
	put(t, s, replaced)
	wantRow(t, s, replaced)
	update(t, s, func(tx keystore.Tx) error {
		if err := tx.Delete("key", "a"); err != nil {
			return err
		}
		if err := tx.Delete("key", "a"); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("second Delete: %v, want ErrNotFound", err)
		}
		if err := tx.Delete("other", "a"); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("Delete in a table that is not there: %v, want ErrNotFound", err)
		}
		if _, err := tx.Get("key", "a"); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("Get within the transaction that deleted: %v", err)
		}
		if err := tx.Put(rows[0]); err != nil {
			return err
		}
		if got, err := tx.Get("key", "a"); err != nil || !equal(got, rows[0]) {
			t.Errorf("Get within the transaction that wrote: %v, %v", got, err)
		}
		// What Get returned is the caller's: changing it changes no store.
		got, _ := tx.Get("key", "a")
		got.Content[0] ^= 1
		got.MAC[0] ^= 1
		return tx.Delete("key", "b")
	})
	wantRow(t, s, rows[0])
	wantNone(t, s, "key", "b")
	wantRow(t, s, rows[3])
}

func testLargeRows(t *testing.T, open Opener) {
	s := mustOpen(t, open)
	row := keystore.Row{Table: "t", ID: strings.Repeat("i", keystore.MaxID), Version: 1, Content: make([]byte, 3<<20)}
	for i := range row.Content {
		row.Content[i] = byte(i * 31 >> 3)
	}
	put(t, s, row)
	wantRow(t, s, row)
	row.Content = row.Content[:100]
	put(t, s, row)
	wantRow(t, s, row)
}

func testNames(t *testing.T, open Opener) {
	s := mustOpen(t, open)
	bad := []keystore.Row{
		{}, {Table: "t"}, {ID: "i"},
		{Table: "T", ID: "i"}, {Table: "t t", ID: "i"}, {Table: "t.t", ID: "i"}, {Table: "ü", ID: "i"},
		{Table: strings.Repeat("t", keystore.MaxTable+1), ID: "i"},
		{Table: "t", ID: strings.Repeat("i", keystore.MaxID+1)},
		{Table: "t", ID: "a\x00b"}, {Table: "t", ID: "a\xff"},
	}
	update(t, s, func(tx keystore.Tx) error {
		for _, row := range bad {
			if err := tx.Put(row); !errors.Is(err, keystore.ErrInvalidRow) {
				t.Errorf("Put(%q, %q): %v, want ErrInvalidRow", row.Table, row.ID, err)
			}
			if _, err := tx.Get(row.Table, row.ID); !errors.Is(err, keystore.ErrInvalidRow) {
				t.Errorf("Get(%q, %q): %v, want ErrInvalidRow", row.Table, row.ID, err)
			}
			if err := tx.Delete(row.Table, row.ID); !errors.Is(err, keystore.ErrInvalidRow) {
				t.Errorf("Delete(%q, %q): %v, want ErrInvalidRow", row.Table, row.ID, err)
			}
		}
		for _, row := range []keystore.Row{
			{Table: "t", ID: "i", Version: keystore.MaxVersion + 1},
			{Table: "t", ID: "i", MAC: make([]byte, keystore.MaxMAC+1)},
			{Table: "t", ID: "i", Content: make([]byte, keystore.MaxContent+1)},
		} {
			if err := tx.Put(row); !errors.Is(err, keystore.ErrInvalidRow) {
				t.Errorf("Put of a row over a limit: %v, want ErrInvalidRow", err)
			}
		}
		if err := tx.Scan("T", "", nil); !errors.Is(err, keystore.ErrInvalidRow) {
			t.Errorf("Scan: %v, want ErrInvalidRow", err)
		}
		return nil
	})
	wantNone(t, s, "t", "i")
}

func scan(t *testing.T, tx keystore.Tx, table, prefix string, limit int) []string {
	t.Helper()
	var ids []string
	err := tx.Scan(table, prefix, func(row keystore.Row) bool {
		if row.Table != table {
			t.Errorf("Scan(%q) gave a row of table %q", table, row.Table)
		}
		ids = append(ids, row.ID)
		return len(ids) != limit
	})
	if err != nil {
		t.Errorf("Scan(%q, %q): %v", table, prefix, err)
	}
	return ids
}

func testScan(t *testing.T, open Opener) {
	s := mustOpen(t, open)
	for _, id := range []string{"b", "a", "ab", "a/1", "a/2", "B", "a%", "a_", "ä", "a\x01"} {
		put(t, s, keystore.Row{Table: "t", ID: id, Version: 1, Content: []byte(id), MAC: []byte(id)})
	}
	put(t, s, keystore.Row{Table: "t2", ID: "x"}, keystore.Row{Table: "s", ID: "y"})
	for _, test := range []struct {
		table, prefix string
		limit         int
		want          string
	}{
		{"t", "", 0, "B a a\x01 a% a/1 a/2 a_ ab b ä"},
		{"t", "a", 0, "a a\x01 a% a/1 a/2 a_ ab"},
		{"t", "a/", 0, "a/1 a/2"},
		{"t", "a%", 0, "a%"},
		{"t", "a_", 0, "a_"},
		{"t", "\xc3", 0, "ä"},
		{"t", "c", 0, ""},
		{"t", "", 1, "B"},
		{"t", "a", 3, "a a\x01 a%"},
		{"none", "", 0, ""},
	} {
		view(t, s, func(tx keystore.Tx) error {
			got := strings.Join(scan(t, tx, test.table, test.prefix, test.limit), " ")
			if got != test.want {
				t.Errorf("Scan(%q, %q) limit %d = %q, want %q", test.table, test.prefix, test.limit, got, test.want)
			}
			return nil
		})
	}
	update(t, s, func(tx keystore.Tx) error {
		if err := tx.Delete("t", "a/1"); err != nil {
			return err
		}
		if err := tx.Put(keystore.Row{Table: "t", ID: "a/0"}); err != nil {
			return err
		}
		if got := scan(t, tx, "t", "a/", 0); !slices.Equal(got, []string{"a/0", "a/2"}) {
			t.Errorf("Scan within the transaction that wrote: %q", got)
		}
		return nil
	})
}

func testTables(t *testing.T, open Opener) {
	s := mustOpen(t, open)
	want := func(want ...string) {
		t.Helper()
		view(t, s, func(tx keystore.Tx) error {
			got, err := tx.Tables()
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("Tables = %q, %v, want %q", got, err, want)
			}
			return nil
		})
	}
	want()
	put(t, s, keystore.Row{Table: "b", ID: "1"}, keystore.Row{Table: "a", ID: "1"}, keystore.Row{Table: "a", ID: "2"})
	want("a", "b")
	update(t, s, func(tx keystore.Tx) error { return tx.Delete("b", "1") })
	want("a")
	update(t, s, func(tx keystore.Tx) error { return tx.Delete("a", "1") })
	want("a")
	update(t, s, func(tx keystore.Tx) error { return tx.Delete("a", "2") })
	want()
}

var errTest = errors.New("a test's error")

func testRollback(t *testing.T, open Opener) {
	s := mustOpen(t, open)
	before := keystore.Row{Table: "t", ID: "a", Version: 1}
	put(t, s, before)
	err := s.Update(ctx, func(tx keystore.Tx) error {
		for _, row := range []keystore.Row{{Table: "t", ID: "a", Version: 2}, {Table: "t", ID: "b"}, {Table: "new", ID: "a"}} {
			if err := tx.Put(row); err != nil {
				t.Error(err)
			}
		}
		return errTest
	})
	if !errors.Is(err, errTest) {
		t.Errorf("Update = %v, want the function's error", err)
	}
	wantRow(t, s, before)
	wantNone(t, s, "t", "b")
	wantNone(t, s, "new", "a")
	if err := s.View(ctx, func(keystore.Tx) error { return errTest }); !errors.Is(err, errTest) {
		t.Errorf("View = %v, want the function's error", err)
	}
}

func testPanic(t *testing.T, open Opener) {
	s := mustOpen(t, open)
	for name, run := range map[string]func(context.Context, func(keystore.Tx) error) error{"Update": s.Update, "View": s.View} {
		func() {
			defer func() {
				if r := recover(); r != errTest {
					t.Errorf("%s: recovered %v, want the function's panic", name, r)
				}
			}()
			run(ctx, func(tx keystore.Tx) error {
				if name == "Update" {
					if err := tx.Put(keystore.Row{Table: "t", ID: "a"}); err != nil {
						t.Error(err)
					}
				}
				panic(errTest)
			})
		}()
	}
	// The store goes on, and nothing was written.
	put(t, s, keystore.Row{Table: "t", ID: "b"})
	wantNone(t, s, "t", "a")
}

func testReadOnly(t *testing.T, open Opener) {
	s := mustOpen(t, open)
	put(t, s, keystore.Row{Table: "t", ID: "a", Version: 1})
	view(t, s, func(tx keystore.Tx) error {
		if err := tx.Put(keystore.Row{Table: "t", ID: "a", Version: 2}); !errors.Is(err, keystore.ErrReadOnly) {
			t.Errorf("Put: %v, want ErrReadOnly", err)
		}
		if err := tx.Delete("t", "a"); !errors.Is(err, keystore.ErrReadOnly) {
			t.Errorf("Delete: %v, want ErrReadOnly", err)
		}
		return nil
	})
	wantRow(t, s, keystore.Row{Table: "t", ID: "a", Version: 1})
}

func testTxDone(t *testing.T, open Opener) {
	s := mustOpen(t, open)
	put(t, s, keystore.Row{Table: "t", ID: "a"})
	wantDone := func(tx keystore.Tx) {
		t.Helper()
		_, getErr := tx.Get("t", "a")
		_, tablesErr := tx.Tables()
		_, holdsErr := tx.Holds(keystore.Row{Table: "t", ID: "a"})
		for i, err := range []error{
			getErr, tablesErr, holdsErr, tx.Put(keystore.Row{Table: "t", ID: "a"}), tx.Delete("t", "a"),
			tx.Scan("t", "", func(keystore.Row) bool { return true }),
		} {
			if !errors.Is(err, keystore.ErrTxDone) {
				t.Errorf("method %d of an unusable transaction: %v, want ErrTxDone", i, err)
			}
		}
	}
	for _, run := range []func(context.Context, func(keystore.Tx) error) error{s.Update, s.View} {
		var kept keystore.Tx
		err := run(ctx, func(tx keystore.Tx) error {
			kept = tx
			err := tx.Scan("t", "", func(keystore.Row) bool { wantDone(tx); return true })
			if err != nil {
				return err
			}
			_, err = tx.Get("t", "a")
			return err
		})
		if err != nil {
			t.Error(err)
		}
		wantDone(kept)
	}
}

func testReopen(t *testing.T, open Opener) {
	row := keystore.Row{Table: "t", ID: "a", Version: 3, Content: []byte("c"), MAC: []byte("m")}
	for range 3 {
		s, err := open(t)
		if err != nil {
			t.Fatal(err)
		}
		if row.Version > 3 {
			before := row
			before.Version--
			wantRow(t, s, before)
		}
		put(t, s, row)
		row.Version++
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func testSnapshot(t *testing.T, open Opener) {
	s := mustOpen(t, open)
	put(t, s, keystore.Row{Table: "t", ID: "a", Version: 1})
	inside, written := make(chan bool), make(chan bool)
	done := make(chan error)
	go func() {
		done <- s.View(ctx, func(tx keystore.Tx) error {
			inside <- true
			<-written
			if row, err := tx.Get("t", "a"); err != nil || row.Version != 1 {
				return fmt.Errorf("a later write is seen: version %d, %v", row.Version, err)
			}
			if got := scan(t, tx, "t", "", 0); len(got) != 1 {
				return fmt.Errorf("a later write is seen: %q", got)
			}
			return nil
		})
	}()
	<-inside
	put(t, s, keystore.Row{Table: "t", ID: "a", Version: 2}, keystore.Row{Table: "t", ID: "b"})
	close(written)
	if err := <-done; err != nil {
		t.Error(err)
	}
	wantRow(t, s, keystore.Row{Table: "t", ID: "a", Version: 2})
}

func testSerialised(t *testing.T, open Opener) {
	s := mustOpen(t, open)
	put(t, s, keystore.Row{Table: "t", ID: "n", Version: 0})
	const workers, rounds = 8, 10
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rounds {
				err := s.Update(ctx, func(tx keystore.Tx) error {
					row, err := tx.Get("t", "n")
					if err != nil {
						return err
					}
					row.Version++
					return tx.Put(row)
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	wantRow(t, s, keystore.Row{Table: "t", ID: "n", Version: workers * rounds})
}

func testContext(t *testing.T, open Opener) {
	s := mustOpen(t, open)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	fail := func(keystore.Tx) error { t.Error("called with a context that had ended"); return nil }
	if err := s.View(ended, fail); !errors.Is(err, context.Canceled) {
		t.Errorf("View: %v", err)
	}
	if err := s.Update(ended, fail); !errors.Is(err, context.Canceled) {
		t.Errorf("Update: %v", err)
	}

	// A context that ends within the function undoes it.
	during, cancel := context.WithCancel(ctx)
	err := s.Update(during, func(tx keystore.Tx) error {
		if err := tx.Put(keystore.Row{Table: "t", ID: "a"}); err != nil {
			t.Error(err)
		}
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Update: %v", err)
	}
	wantNone(t, s, "t", "a")

	// One that ends while another Update runs ends the waiting.
	inside, leave := make(chan bool), make(chan bool)
	done := make(chan error)
	go func() {
		done <- s.Update(ctx, func(keystore.Tx) error { close(inside); <-leave; return nil })
	}()
	<-inside
	waiting, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := s.Update(waiting, fail); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Update behind another: %v", err)
	}
	close(leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func testClose(t *testing.T, open Opener) {
	s := mustOpen(t, open)
	inside, closing := make(chan bool, 2), make(chan bool)
	results := make(chan error, 2)
	use := func(tx keystore.Tx) error {
		inside <- true
		<-closing
		time.Sleep(20 * time.Millisecond)
		_, err := tx.Get("t", "a")
		return err
	}
	put(t, s, keystore.Row{Table: "t", ID: "a"})
	go func() { results <- s.View(ctx, use) }()
	go func() { results <- s.Update(ctx, use) }()
	<-inside
	<-inside
	close(closing)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		select {
		case err := <-results:
			if err != nil {
				t.Errorf("a transaction that was open at Close: %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("Close did not wait for the transactions")
		}
	}
	none := func(keystore.Tx) error { t.Error("called after Close"); return nil }
	if err := s.View(ctx, none); !errors.Is(err, keystore.ErrClosed) {
		t.Errorf("View after Close: %v, want ErrClosed", err)
	}
	if err := s.Update(ctx, none); !errors.Is(err, keystore.ErrClosed) {
		t.Errorf("Update after Close: %v, want ErrClosed", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// testModel compares the store with a map through random transactions.
func testModel(t *testing.T, open Opener) {
	s := mustOpen(t, open)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	model := make(map[string]keystore.Row)
	for range 60 {
		next := make(map[string]keystore.Row, len(model))
		for k, v := range model {
			next[k] = v
		}
		var fail error
		if r.IntN(4) == 0 {
			fail = errTest
		}
		err := s.Update(ctx, func(tx keystore.Tx) error {
			for range r.IntN(20) {
				modelStep(t, tx, r, next)
			}
			return fail
		})
		if !errors.Is(err, fail) {
			t.Fatal(err)
		}
		if fail == nil {
			model = next
		}
		view(t, s, func(tx keystore.Tx) error { return compareModel(tx, model) })
	}
}

func modelStep(t *testing.T, tx keystore.Tx, r *rand.Rand, model map[string]keystore.Row) {
	t.Helper()
	row := keystore.Row{Table: string(rune('a' + r.IntN(3))), ID: fmt.Sprintf("%02d", r.IntN(20))}
	name := row.Table + "/" + row.ID
	_, exists := model[name]
	if r.IntN(3) > 0 {
		row.Version = r.Uint64N(keystore.MaxVersion)
		row.Content = bytes.Repeat([]byte(name), r.IntN(2000))
		row.MAC = []byte(name)
		if err := tx.Put(row); err != nil {
			t.Fatal(err)
		}
		model[name] = row
		return
	}
	err := tx.Delete(row.Table, row.ID)
	if exists && err != nil || !exists && !errors.Is(err, keystore.ErrNotFound) {
		t.Fatalf("Delete of %s, there: %t: %v", name, exists, err)
	}
	delete(model, name)
}

func compareModel(tx keystore.Tx, model map[string]keystore.Row) error {
	tables, err := tx.Tables()
	if err != nil {
		return err
	}
	count := 0
	for _, table := range tables {
		var wrong error
		err := tx.Scan(table, "", func(row keystore.Row) bool {
			count++
			if want := model[table+"/"+row.ID]; !equal(row, want) {
				wrong = fmt.Errorf("row %s/%s differs", table, row.ID)
			}
			return wrong == nil
		})
		if err := errors.Join(err, wrong); err != nil {
			return err
		}
	}
	if count != len(model) {
		return fmt.Errorf("%d rows, want %d", count, len(model))
	}
	for _, want := range model {
		if same, err := tx.Holds(want); err != nil || !same {
			return fmt.Errorf("row %s/%s: held %t, %v", want.Table, want.ID, same, err)
		}
	}
	return nil
}
