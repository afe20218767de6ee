// SPDX-License-Identifier: Apache-2.0

//go:build unix

package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/keystore/keystoretest"
	"go.etcd.io/bbolt"
)

var ctx = context.Background()

// holdVariable makes the test binary open the store it names and hold it.
const holdVariable = "CRETULA_TEST_HOLD_STORE"

func TestMain(m *testing.M) {
	if path := os.Getenv(holdVariable); path != "" {
		if _, err := Open(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println("open")
		time.Sleep(time.Minute)
	}
	os.Exit(m.Run())
}

func TestSuite(t *testing.T) {
	paths := make(map[string]string)
	keystoretest.Run(t, func(t *testing.T) (keystore.Store, error) {
		if path := paths[t.Name()]; path != "" {
			return Open(path)
		}
		path := filepath.Join(t.TempDir(), "store", "cretula.db")
		paths[t.Name()] = path
		return Create(path)
	})
}

// filled returns the path of a closed store with rows in it.
func filled(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store", "cretula.db")
	s, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		err = s.Update(ctx, func(tx keystore.Tx) error {
			for i := range 300 {
				row := keystore.Row{
					Table: "t", ID: fmt.Sprintf("%04d", i), Version: 1,
					Content: bytes.Repeat([]byte{byte(i)}, 20+i), MAC: make([]byte, 32),
				}
				if err := tx.Put(row); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCreate(t *testing.T) {
	path := filled(t)
	if _, err := Create(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create over a store: %v, want ErrExist", err)
	}
	for name, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): fs.ModeDir | 0o700} {
		info, err := os.Stat(name)
		if err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v, want %v (%v)", name, info.Mode(), want, err)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("%d files beside the store: %v, %v", len(entries), entries, err)
	}
	if _, err := Open(filepath.Join(filepath.Dir(path), "other.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of no file: %v, want ErrNotExist", err)
	}
}

func TestPermissions(t *testing.T) {
	path := filled(t)
	refused := func(what string) {
		t.Helper()
		if s, err := Open(path); !errors.Is(err, durable.ErrNotPrivate) || s != nil {
			t.Errorf("%s: %v, %v, want ErrNotPrivate", what, s, err)
		}
	}
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o620, 0o601} {
		os.Chmod(path, mode)
		refused(fmt.Sprintf("file %04o", mode))
	}
	os.Chmod(path, 0o600)
	os.Chmod(filepath.Dir(path), 0o755)
	refused("folder 0755")
	if _, err := Create(filepath.Join(filepath.Dir(path), "new.db")); !errors.Is(err, durable.ErrNotPrivate) {
		t.Errorf("Create in a folder 0755: %v", err)
	}
	os.Chmod(filepath.Dir(path), 0o700)
	moved := path + ".moved"
	if err := errors.Join(os.Rename(path, moved), os.Symlink(moved, path)); err != nil {
		t.Fatal(err)
	}
	refused("symbolic link")
	os.Remove(path)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	refused("FIFO")
}

func TestInUse(t *testing.T) {
	path := filled(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holdVariable+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if _, err := out.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	_, err = Open(path)
	if !errors.Is(err, keystore.ErrInUse) || !strings.Contains(err.Error(), "store is in use by another process") {
		t.Errorf("Open of a store in use: %v", err)
	}
}

// edit changes the closed file through bbolt.
func edit(t *testing.T, path string, fn func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(fn); err != nil {
		t.Fatal(err)
	}
}

// refusedUntouched opens the file, which must fail with want, and checks that
// no byte of it was changed.
func refusedUntouched(t *testing.T, path string, want error) {
	t.Helper()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(path)
	if !errors.Is(err, want) || s != nil {
		t.Errorf("Open: %v, %v, want %v", s, err, want)
	}
	if s != nil {
		s.Close()
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("a refused file was changed (%v)", err)
	}
}

// Who waits for a file that is replaced meanwhile must not be left with the old one,
// whose rows nobody else sees.
func TestReplacedWhileWaiting(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	path, other := filepath.Join(dir, "db"), filepath.Join(dir, "other")
	for _, p := range []string{path, other} {
		s, err := Create(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f, err := durable.OpenPrivate(path, os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	if err := durable.Lock(f); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		time.Sleep(LockTimeout / 4)
		err := os.Rename(other, path)
		f.Close()
		done <- err
	}()
	db, err := openDB(path)
	if !errors.Is(err, keystore.ErrInUse) {
		t.Errorf("opened the file that was replaced: %v", err)
	}
	if db != nil {
		db.Close()
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestFormat(t *testing.T) {
	for _, test := range []struct {
		format string
		want   error
	}{
		{"2", keystore.ErrNewerVersion},
		{"4000000000", keystore.ErrNewerVersion},
		{"0", keystore.ErrDamaged},
		{"", keystore.ErrDamaged},
		{"-1", keystore.ErrDamaged},
		{"one", keystore.ErrDamaged},
	} {
		t.Run(test.format, func(t *testing.T) {
			path := filled(t)
			edit(t, path, func(tx *bbolt.Tx) error {
				return tx.Bucket(formatBucket).Put(formatKey, []byte(test.format))
			})
			refusedUntouched(t, path, test.want)
		})
	}
	t.Run("foreign", func(t *testing.T) {
		path := filled(t)
		edit(t, path, func(tx *bbolt.Tx) error { return tx.DeleteBucket(formatBucket) })
		refusedUntouched(t, path, keystore.ErrDamaged)
	})
	t.Run("short row", func(t *testing.T) {
		path := filled(t)
		edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("t:t")).Put([]byte("x"), []byte{1}) })
		refusedUntouched(t, path, keystore.ErrDamaged)
	})
}

func TestDamage(t *testing.T) {
	original, err := os.ReadFile(filled(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(content []byte) string {
		path := filepath.Join(dir, "damaged.db")
		os.Remove(path)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	refusedUntouched(t, write(nil), keystore.ErrDamaged)
	refusedUntouched(t, write(make([]byte, len(original))), keystore.ErrDamaged)
	refusedUntouched(t, write([]byte("no database")), keystore.ErrDamaged)
	refusedUntouched(t, write(bytes.Repeat([]byte{0xff}, 1<<16)), keystore.ErrDamaged)
	used := usedSize(t, original, write)
	original = original[:used] // behind it the file is empty
	for _, size := range []int{1, 4095, 4096, 8192, 10000, 16384, 20000, used - 4096, used - 1} {
		refusedUntouched(t, write(original[:size]), keystore.ErrDamaged)
	}

	// Any page but the two meta pages, of which one is enough, replaced by
	// zeros or noise is refused or, if it was free, of no matter. Nothing
	// panics.
	refused := 0
	for page := 2 * 4096; page < used; page += 4096 {
		for _, fill := range []byte{0, 0xff, 0x5a} {
			content := bytes.Clone(original)
			for i := range 4096 {
				content[page+i] = fill
			}
			if openAndUse(t, write(content)) {
				refused++
			}
		}
	}
	if refused < 20 {
		t.Errorf("only %d damaged files were refused", refused)
	}
}

// usedSize returns how much of the file bbolt has pages in.
func usedSize(t *testing.T, content []byte, write func([]byte) string) int {
	t.Helper()
	s, err := Open(write(content))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	size := 0
	if err := s.db.View(func(tx *bbolt.Tx) error { size = int(tx.Size()); return nil }); err != nil {
		t.Fatal(err)
	}
	return size
}

// openAndUse reports whether the file was refused; if not it is read and
// written.
func openAndUse(t *testing.T, path string) bool {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		if !errors.Is(err, keystore.ErrDamaged) {
			t.Errorf("a damaged file: %v, want ErrDamaged", err)
		}
		return true
	}
	defer s.Close()
	err = s.Update(ctx, func(tx keystore.Tx) error {
		if err := tx.Scan("t", "", func(keystore.Row) bool { return true }); err != nil {
			return err
		}
		return tx.Put(keystore.Row{Table: "t", ID: "new"})
	})
	if err != nil && !errors.Is(err, keystore.ErrDamaged) {
		t.Errorf("use of a damaged file: %v", err)
	}
	return false
}

func TestRandomDamage(t *testing.T) {
	original, err := os.ReadFile(filled(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "damaged.db")
	original = original[:usedSize(t, original, func(content []byte) string {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	})]
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	refused := 0
	for range 500 {
		content := bytes.Clone(original)
		for range 1 + r.IntN(8) {
			// Mostly the headers of pages, which is where bbolt steers by.
			at := r.IntN(len(content)/4096)*4096 + r.IntN(64)
			content[at] ^= byte(1 + r.IntN(255))
		}
		os.Remove(path)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if openAndUse(t, path) {
			refused++
		}
	}
	t.Logf("%d of 500 were refused", refused)
	if refused < 100 {
		t.Errorf("only %d of 500 damaged files were refused", refused)
	}
}

// TestTruncatedWhileOpen cuts the file off under the memory map: a fault, not
// an error of any call.
func TestTruncatedWhileOpen(t *testing.T) {
	path := filled(t)
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 8192); err != nil {
		t.Fatal(err)
	}
	err = s.View(ctx, func(tx keystore.Tx) error {
		_, err := tx.Get("t", "0150")
		return err
	})
	if !errors.Is(err, keystore.ErrDamaged) {
		t.Errorf("Get from a file that was cut off: %v, want ErrDamaged", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// TestFullDisk limits the size of files: what cannot be written is refused,
// and the store goes on once there is room.
func TestFullDisk(t *testing.T) {
	path := filled(t)
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	big := func() error {
		return s.Update(ctx, func(tx keystore.Tx) error {
			return tx.Put(keystore.Row{Table: "t", ID: "big", Content: make([]byte, 20<<20)})
		})
	}
	restore := limitFileSize(t, 1<<20)
	if err := big(); err == nil || errors.Is(err, keystore.ErrFailed) {
		t.Errorf("Update on a full disk: %v", err)
	}
	err = s.View(ctx, func(tx keystore.Tx) error {
		if _, err := tx.Get("t", "0001"); err != nil {
			t.Error(err)
		}
		if _, err := tx.Get("t", "big"); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("what could not be written is there: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	restore()
	if err := big(); err != nil {
		t.Errorf("Update after there was room again: %v", err)
	}
}

// FuzzLayout checks what is read before bbolt: any content is accepted or
// refused without a panic, and a file that is cut off is refused.
func FuzzLayout(f *testing.F) {
	path := filepath.Join(f.TempDir(), "d", "store.db")
	s, err := Create(path)
	if err != nil {
		f.Fatal(err)
	}
	put := func(tx keystore.Tx) error {
		return tx.Put(keystore.Row{Table: "t", ID: "a", Content: make([]byte, 100)})
	}
	if err := errors.Join(s.Update(ctx, put), s.Update(ctx, put), s.Close()); err != nil {
		f.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil || checkLayout(bytes.NewReader(content), int64(len(content))) != nil {
		f.Fatalf("an empty store is refused (%v)", err)
	}
	content = content[:6*4096]
	if checkLayout(bytes.NewReader(content), int64(len(content))) != nil {
		f.Fatal("the used part of an empty store is refused")
	}
	f.Add(content)
	f.Add(append(make([]byte, 4096), content[4096:]...))
	f.Add(content[:5000])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		if checkLayout(bytes.NewReader(content), int64(len(content))) != nil {
			return
		}
		m, _ := currentMeta(bytes.NewReader(content), int64(len(content)))
		if end := int64(m.last) * m.pageSize; end > int64(len(content)) || end <= 0 {
			t.Errorf("%d bytes are needed, %d are there", end, len(content))
		}
		// What was accepted bbolt can use.
		os.Remove(path)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		openAndUse(t, path)
	})
}

// Buckets without rows go with the transaction that empties them, not before: a row
// can still be put there.
func TestEmptiedTables(t *testing.T) {
	path := filled(t)
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const rows = 3000
	names := func(i int) string { return fmt.Sprintf("%04d", i) }
	err = s.Update(t.Context(), func(tx keystore.Tx) error {
		for _, table := range []string{"gone", "again"} {
			for i := range rows {
				if err := tx.Put(keystore.Row{Table: table, ID: names(i)}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Update(t.Context(), func(tx keystore.Tx) error {
		for _, table := range []string{"gone", "again"} {
			for i := range rows {
				if err := tx.Delete(table, names(i)); err != nil {
					return err
				}
			}
			if err := tx.Delete(table, names(0)); !errors.Is(err, keystore.ErrNotFound) {
				t.Errorf("once more: %v", err)
			}
		}
		if tables, err := tx.Tables(); err != nil || slices.Contains(tables, "gone") || slices.Contains(tables, "again") {
			t.Errorf("tables before the end: %q, %v", tables, err)
		}
		return tx.Put(keystore.Row{Table: "again", ID: "x"})
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.View(t.Context(), func(tx keystore.Tx) error {
		tables, err := tx.Tables()
		if err != nil || slices.Contains(tables, "gone") || !slices.Contains(tables, "again") {
			t.Errorf("tables: %q, %v", tables, err)
		}
		_, err = tx.Get("again", "x")
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, path, func(tx *bbolt.Tx) error {
		if tx.Bucket(bucketOf("gone")) != nil {
			t.Error("a bucket without rows is left")
		}
		return nil
	})
}

// BenchmarkDelete deletes all rows of a large table in one transaction, as it is
// done with a key that has many grants.
func BenchmarkDelete(b *testing.B) {
	s, err := Create(filepath.Join(b.TempDir(), "d", "b.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	each := func(fn func(tx keystore.Tx, id string) error) {
		b.Helper()
		err := s.Update(b.Context(), func(tx keystore.Tx) error {
			for i := range 20000 {
				if err := fn(tx, fmt.Sprintf("%0128d", i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		each(func(tx keystore.Tx, id string) error { return tx.Put(keystore.Row{Table: "t", ID: id}) })
		each(func(tx keystore.Tx, id string) error { return tx.Delete("t", id) })
	}
}

func BenchmarkUpdate(b *testing.B) {
	s, err := Create(filepath.Join(b.TempDir(), "d", "b.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	row := keystore.Row{Table: "t", ID: "a", Content: make([]byte, 300), MAC: make([]byte, 32)}
	for b.Loop() {
		if err := s.Update(ctx, func(tx keystore.Tx) error { return tx.Put(row) }); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzDecodeRow(f *testing.F) {
	f.Add([]byte{})
	f.Add(encodeRow(keystore.Row{Version: 3, Content: []byte("c"), MAC: []byte("m")}))
	f.Add(encodeRow(keystore.Row{MAC: make([]byte, keystore.MaxMAC)}))
	f.Fuzz(func(t *testing.T, value []byte) {
		row, err := decodeRow("t", "i", value)
		if err != nil {
			if !equalZero(row) {
				t.Errorf("a row with the error: %v", row)
			}
			return
		}
		if again := encodeRow(row); !bytes.Equal(again, value) {
			t.Errorf("encoded again: %x, was %x", again, value)
		}
	})
}

func equalZero(r keystore.Row) bool {
	return r.Table == "" && r.ID == "" && r.Version == 0 && r.Content == nil && r.MAC == nil
}

// limitFileSize makes writes beyond size fail as they do on a full disk.
func limitFileSize(t *testing.T, size uint64) (restore func()) {
	t.Helper()
	// Without a handler the signal would end the process.
	ignored := make(chan os.Signal, 1)
	signal.Notify(ignored, syscall.SIGXFSZ)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	limit := before
	limit.Cur = size
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	restored := false
	restore = func() {
		if !restored {
			restored = true
			syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before)
			signal.Stop(ignored)
		}
	}
	t.Cleanup(restore)
	return restore
}
