// SPDX-License-Identifier: Apache-2.0

//go:build linux

package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/cretula/cretula/internal/pgtest"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/keystore/keystoretest"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/kms/rootkey"
)

func TestSuite(t *testing.T) {
	server := pgtest.Shared(t)
	urls := make(map[string]string)
	keystoretest.Run(t, func(t *testing.T) (keystore.Store, error) {
		if url := urls[t.Name()]; url != "" {
			return Open(ctx, url, Options{})
		}
		url := server.URL(server.Database(t))
		urls[t.Name()] = url
		return Create(ctx, url, Options{})
	})
}

// two returns two stores over one database, as two servers have.
func two(t *testing.T) (a, b *Store, database string) {
	t.Helper()
	server := pgtest.Shared(t)
	database = server.Database(t)
	return create(t, server.URL(database)), reopen(t, server.URL(database)), database
}

func TestTwoStoresLoseNoUpdate(t *testing.T) {
	a, b, _ := two(t)
	put(t, a, keystore.Row{Table: "t", ID: "n"})
	const workers, rounds = 4, 25
	var wg sync.WaitGroup
	for _, s := range []*Store{a, b} {
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
	}
	wg.Wait()
	for _, s := range []*Store{a, b} {
		if row, err := get(t, s, "t", "n"); err != nil || row.Version != 2*workers*rounds {
			t.Errorf("version %d, %v, want %d", row.Version, err, 2*workers*rounds)
		}
	}
}

// Each Update moves an amount from one row to another; at no time is there more
// or less than at the start.
func TestTwoStoresSeeSnapshots(t *testing.T) {
	a, b, _ := two(t)
	const rows, total = 10, 1000
	name := func(i int) string { return fmt.Sprint("r", i) }
	for i := range rows {
		put(t, a, keystore.Row{Table: "t", ID: name(i), Version: total / rows})
	}
	move := func(tx keystore.Tx) error {
		from, err := tx.Get("t", name(rand.IntN(rows)))
		if err != nil {
			return err
		}
		amount := rand.Uint64N(from.Version + 1)
		from.Version -= amount
		if err := tx.Put(from); err != nil {
			return err
		}
		to, err := tx.Get("t", name(rand.IntN(rows)))
		if err != nil {
			return err
		}
		to.Version += amount
		return tx.Put(to)
	}
	stop := make(chan bool)
	var writers, readers sync.WaitGroup
	for _, s := range []*Store{a, b} {
		writers.Go(func() {
			for range 60 {
				if err := s.Update(ctx, move); err != nil {
					t.Error(err)
				}
			}
		})
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				scanned, read := uint64(0), uint64(0)
				err := s.View(ctx, func(tx keystore.Tx) error {
					if err := tx.Scan("t", "", func(row keystore.Row) bool { scanned += row.Version; return true }); err != nil {
						return err
					}
					for i := range rows {
						row, err := tx.Get("t", name(i))
						if err != nil {
							return err
						}
						read += row.Version
					}
					return nil
				})
				if err != nil || scanned != total || read != total {
					t.Errorf("a View saw %d and %d, %v, want %d", scanned, read, err, total)
					return
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
}

// An Update that waits for one of another server sees what that one wrote, though
// it began before.
func TestUpdateSeesTheOneBefore(t *testing.T) {
	a, b, _ := two(t)
	put(t, a, keystore.Row{Table: "t", ID: "n", Version: 1})
	inside, leave := make(chan bool), make(chan bool)
	goOn := sync.OnceFunc(func() { close(leave) })
	defer goOn()
	done := make(chan error, 2)
	go func() {
		done <- a.Update(ctx, func(tx keystore.Tx) error {
			close(inside)
			<-leave
			return tx.Put(keystore.Row{Table: "t", ID: "n", Version: 2})
		})
	}()
	<-inside
	go func() {
		done <- b.Update(ctx, func(tx keystore.Tx) error {
			if row, err := tx.Get("t", "n"); err != nil || row.Version != 2 {
				return fmt.Errorf("version %d, %v", row.Version, err)
			}
			return nil
		})
	}()
	waitFor(t, "b waits for the lock", func() bool {
		var waiting bool
		err := b.pool.QueryRow(ctx, `select exists (select from pg_locks where not granted and relation = 'cretula.store'::regclass)`).Scan(&waiting)
		return err == nil && waiting
	})
	goOn()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestLedgerOverTwoStores(t *testing.T) {
	a, b, database := two(t)
	root, err := rootkey.CreateFile(filepath.Join(t.TempDir(), "keys", "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	first, err := ledger.Create(ctx, a, root, ledger.Meta{Emulated: true, Account: "000000000000"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Create(ctx, b, root, ledger.Meta{}); !errors.Is(err, ledger.ErrExists) {
		t.Errorf("second Create: %v", err)
	}
	second, err := ledger.Open(ctx, b, root)
	if err != nil {
		t.Fatal(err)
	}
	// Each writes a row of its own and reads what the other wrote last.
	ledgers := []*ledger.Ledger{first, second}
	const rounds = 30
	var wg sync.WaitGroup
	for i, l := range ledgers {
		wg.Go(func() {
			for n := range rounds {
				err := l.Update(ctx, func(tx *ledger.Tx) error {
					if _, err := tx.Put("key", fmt.Sprintf("%d-%d", i, n), []byte("content")); err != nil {
						return err
					}
					_, err := tx.Put("counter", "n", fmt.Append(nil, n))
					return err
				})
				if err != nil {
					t.Error(err)
				}
				// What has been written is seen by every server from now on.
				err = ledgers[1-i].View(ctx, func(tx *ledger.Tx) error {
					_, _, err := tx.Get("key", fmt.Sprintf("%d-%d", i, n))
					return err
				})
				if err != nil {
					t.Errorf("the other ledger does not see a row: %v", err)
				}
			}
		})
	}
	wg.Wait()
	for _, l := range ledgers {
		if _, findings, err := l.Verify(ctx); err != nil || len(findings) != 0 {
			t.Errorf("Verify: %v, %v", findings, err)
		}
		var version uint64
		err := l.View(ctx, func(tx *ledger.Tx) (err error) {
			_, version, err = tx.Get("counter", "n")
			return err
		})
		if err != nil || version != 2*rounds {
			t.Errorf("counter at version %d, %v, want %d", version, err, 2*rounds)
		}
	}
	// Who can write the database but has not the key is found out by both.
	pgtest.Shared(t).Exec(t, database, `update cretula.rows set content = 'contenT' where tbl = 'key' and id = '0-0'`)
	for i, l := range ledgers {
		err := l.View(ctx, func(tx *ledger.Tx) error { _, _, err := tx.Get("key", "0-0"); return err })
		if e, ok := errors.AsType[*ledger.TamperedError](err); !ok || e.ID != "0-0" {
			t.Errorf("ledger %d: %v, want a TamperedError", i, err)
		}
	}
}

func TestHostileIDs(t *testing.T) {
	a, b, _ := two(t)
	ids := []string{
		`'; drop table cretula.rows; --`, `' or '1'='1`, `"; delete from cretula.rows; --`, `\'; select 1 --`, `$1`, `$$`, `$a$`, `%`, `_`,
		`\x00`, `\\x41`, `\`, `'`, `"`, `;`, `--`, `/*`, `*/`, "`", `E'\047'`, `U&'\0027'`, `{}`, `(1,2)`, "\n", "\r\n", "\t", " ", "\x01", "\x7f",
		"\u0080", "\u00e9", "e\u0301", "ı", "İ", "ß", "ss", "\ufeff", "\ufffd", "\uffff", "\U0010ffff", "\u202e", "日本語", "null", "NULL", "\\N",
		strings.Repeat("'", keystore.MaxID), strings.Repeat("\U0010ffff", keystore.MaxID/4),
	}
	r := rand.New(rand.NewPCG(1, 2))
	for len(ids) < 300 {
		id := make([]byte, 1+r.IntN(40))
		for i := range id {
			id[i] = byte(1 + r.IntN(255))
		}
		if s := strings.ToValidUTF8(string(id), "'\\"); len(s) <= keystore.MaxID && !slices.Contains(ids, s) {
			ids = append(ids, s)
		}
	}
	rows := make([]keystore.Row, len(ids))
	for i, id := range ids {
		rows[i] = keystore.Row{Table: "t", ID: id, Version: uint64(i), Content: []byte(id), MAC: []byte(id[:min(len(id), keystore.MaxMAC)])}
	}
	put(t, a, rows...)
	for _, row := range rows {
		if got, err := get(t, b, "t", row.ID); err != nil || got.Version != row.Version || !bytes.Equal(got.Content, row.Content) {
			t.Errorf("Get(%q) = %v, %v", row.ID, got, err)
		}
	}
	prefixes := []string{"", "\xff", "\xfe\xff", "\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf", "'", "%", "\\", "\xef\xbf\xbd", "\xef\xbf", "a\xff\xff"}
	for range 30 {
		id := ids[r.IntN(len(ids))]
		prefixes = append(prefixes, id[:r.IntN(len(id)+1)])
	}
	slices.Sort(ids)
	for _, prefix := range prefixes {
		var got, want []string
		for _, id := range ids {
			if strings.HasPrefix(id, prefix) {
				want = append(want, id)
			}
		}
		err := b.View(ctx, func(tx keystore.Tx) error {
			return tx.Scan("t", prefix, func(row keystore.Row) bool { got = append(got, row.ID); return true })
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("Scan(%q) = %q, %v, want %q", prefix, got, err, want)
		}
	}
	err := b.Update(ctx, func(tx keystore.Tx) error {
		for i, id := range ids {
			if i%2 == 0 {
				if err := tx.Delete("t", id); err != nil {
					return fmt.Errorf("Delete(%q): %w", id, err)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		if _, err := get(t, a, "t", id); errors.Is(err, keystore.ErrNotFound) != (i%2 == 0) {
			t.Errorf("Get(%q) after the Delete of every second: %v", id, err)
		}
	}
}

func FuzzID(f *testing.F) {
	for _, id := range []string{"a", "'", `\`, "\xff", "a\x00", "$1", "\U0010ffff"} {
		f.Add(id, id)
	}
	server := pgtest.Shared(f)
	s := create(f, server.URL(server.Database(f)))
	f.Fuzz(func(t *testing.T, id, prefix string) {
		row := keystore.Row{Table: "t", ID: id, Version: 1, Content: []byte(prefix)}
		undo := errors.New("undo")
		err := s.Update(ctx, func(tx keystore.Tx) error {
			err := tx.Put(row)
			valid := id != "" && len(id) <= keystore.MaxID && utf8.ValidString(id) && !strings.Contains(id, "\x00")
			if valid != (err == nil) {
				t.Errorf("Put(%q): %v", id, err)
			}
			if err != nil {
				return undo
			}
			if same, err := tx.Holds(row); err != nil || !same {
				t.Errorf("Holds(%q) = %t, %v", id, same, err)
			}
			found := 0
			err = tx.Scan("t", prefix, func(got keystore.Row) bool {
				found++
				if got.ID != id {
					t.Errorf("Scan gave %q, not %q", got.ID, id)
				}
				return true
			})
			if err != nil || found == 1 != strings.HasPrefix(id, prefix) {
				t.Errorf("Scan(%q) with %q there: %d rows, %v", prefix, id, found, err)
			}
			return undo
		})
		if !errors.Is(err, undo) {
			t.Errorf("Update: %v", err)
		}
	})
}

// Scans of more rows and bytes than a part has.
func TestScanParts(t *testing.T) {
	a, _, _ := two(t)
	const count = 2*scanRows + 10
	var want []string
	err := a.Update(ctx, func(tx keystore.Tx) error {
		for i := range count {
			row := keystore.Row{Table: "many", ID: fmt.Sprintf("%04d", i), Version: 1}
			want = append(want, row.ID)
			if err := tx.Put(row); err != nil {
				return err
			}
		}
		for i := range 7 {
			content := bytes.Repeat([]byte{byte(i)}, scanBytes/3+i)
			if err := tx.Put(keystore.Row{Table: "large", ID: fmt.Sprint(i), Content: content}); err != nil {
				return err
			}
		}
		// Just as many rows as a part has.
		for i := range scanRows {
			if err := tx.Put(keystore.Row{Table: "just", ID: fmt.Sprintf("%04d", i)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = a.View(ctx, func(tx keystore.Tx) error {
		for _, limit := range []int{1, scanRows - 1, scanRows, scanRows + 1, count, count + 1} {
			var got []string
			err := tx.Scan("many", "", func(row keystore.Row) bool {
				got = append(got, row.ID)
				return len(got) < limit
			})
			if err != nil || !slices.Equal(got, want[:min(limit, count)]) {
				t.Errorf("limit %d: %d rows, %v", limit, len(got), err)
			}
		}
		n := 0
		err := tx.Scan("large", "", func(row keystore.Row) bool {
			if len(row.Content) != scanBytes/3+n || row.ID != fmt.Sprint(n) || row.Content[0] != byte(n) {
				t.Errorf("row %d is %q with %d bytes", n, row.ID, len(row.Content))
			}
			n++
			return true
		})
		if err != nil || n != 7 {
			t.Errorf("%d large rows, %v", n, err)
		}
		n = 0
		if err := tx.Scan("just", "", func(keystore.Row) bool { n++; return true }); err != nil || n != scanRows {
			t.Errorf("%d rows, %v, want %d", n, err, scanRows)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestLargestRows(t *testing.T) {
	a, b, _ := two(t)
	row := keystore.Row{
		Table: strings.Repeat("t", keystore.MaxTable), ID: strings.Repeat("\u00e9", keystore.MaxID/2), Version: keystore.MaxVersion,
		Content: make([]byte, keystore.MaxContent), MAC: bytes.Repeat([]byte{0xff}, keystore.MaxMAC),
	}
	random := rand.NewChaCha8([32]byte{1})
	random.Read(row.Content)
	put(t, a, row)
	got, err := get(t, b, row.Table, row.ID)
	if err != nil || got.Version != row.Version || !bytes.Equal(got.Content, row.Content) || !bytes.Equal(got.MAC, row.MAC) {
		t.Fatalf("the row came back with %d bytes of content, %v", len(got.Content), err)
	}
	err = b.View(ctx, func(tx keystore.Tx) error {
		if same, err := tx.Holds(row); err != nil || !same {
			t.Errorf("Holds = %t, %v", same, err)
		}
		row.Content[len(row.Content)-1] ^= 1
		if same, err := tx.Holds(row); err != nil || same {
			t.Errorf("Holds of another content = %t, %v", same, err)
		}
		over := row
		over.Content = make([]byte, keystore.MaxContent+1)
		if same, err := tx.Holds(over); err != nil || same {
			t.Errorf("Holds of a row over the limit = %t, %v", same, err)
		}
		return tx.Scan(row.Table, "", func(found keystore.Row) bool {
			if !bytes.Equal(found.Content, got.Content) {
				t.Error("Scan gave another content")
			}
			return true
		})
	})
	if err != nil {
		t.Error(err)
	}
}

// What Put was given may change afterwards.
func TestPutCopies(t *testing.T) {
	a, b, _ := two(t)
	row := keystore.Row{Table: "t", ID: "a", Content: []byte("content"), MAC: []byte("mac")}
	err := a.Update(ctx, func(tx keystore.Tx) error {
		err := tx.Put(row)
		row.Content[0], row.MAC[0] = 'X', 'X'
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := get(t, b, "t", "a"); err != nil || string(got.Content) != "content" || string(got.MAC) != "mac" {
		t.Errorf("got %q %q, %v", got.Content, got.MAC, err)
	}
}
