// SPDX-License-Identifier: Apache-2.0

// Package bolt is the embedded [keystore.Store]: one bbolt file, mode 0600 in
// a folder 0700, owned by one process at a time.
//
// The file holds a bucket "cretula" with the key "format" → the decimal format
// version, and for each table t a bucket "t:"+t that maps an id to a row:
// version (8 bytes, big-endian), length of the MAC (1 byte), MAC, content.
package bolt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/kms/keystore"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Format is the version of the file's layout that this package reads and
// writes.
const Format = 1

// LockTimeout is how long [Open] waits for another process to let go of the
// file.
const LockTimeout = time.Second

var (
	formatBucket = []byte("cretula")
	formatKey    = []byte("format")
)

// A Store is an open file. It implements [keystore.Store].
type Store struct {
	db *bbolt.DB
	// writer is held by the one Update that runs; unlike bbolt's own lock it
	// can be waited for with a context.
	writer chan struct{}
	failed atomic.Pointer[error]
}

var _ keystore.Store = (*Store)(nil)

// Create makes the file at path, and its folder if that is missing, with an
// empty store in it, and opens it. The error matches [fs.ErrExist] if the file
// is there. After a crash there is either no file or an empty store, and
// perhaps a hidden temporary file beside it.
func Create(path string) (*Store, error) {
	dir := filepath.Dir(path)
	if err := durable.MkdirAll(dir); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(path); err == nil {
		return nil, &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, err
	}
	temporary := f.Name()
	defer os.Remove(temporary)
	if err := f.Close(); err != nil {
		return nil, err
	}
	if err := initialise(temporary); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := durable.Publish(temporary, path); err != nil {
		return nil, err
	}
	return Open(path)
}

// initialise writes an empty store into the empty file at path.
func initialise(path string) error {
	db, err := bbolt.Open(path, durable.FileMode, options())
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucket(formatBucket)
		if err != nil {
			return err
		}
		return bucket.Put(formatKey, []byte(strconv.Itoa(Format)))
	})
	return errors.Join(err, db.Close())
}

// mapSize is how much address space is reserved for the file. Within it a
// write never waits for readers; beyond it one that lets the file grow may.
const mapSize = 256 << 20

func options() *bbolt.Options {
	reserve := mapSize
	if runtime.GOOS == "windows" {
		reserve = 0 // there the file itself would be made that large
	}
	return &bbolt.Options{
		InitialMmapSize: reserve,
		Timeout:         LockTimeout,
		FreelistType:    bbolt.FreelistMapType,
		NoStatistics:    true,
		OpenFile: func(path string, flag int, _ os.FileMode) (*os.File, error) {
			// Without O_CREATE: Create alone makes files.
			return durable.OpenPrivate(path, flag&^os.O_CREATE)
		},
	}
}

// Open opens the store in the file at path. It must have been made by
// [Create]: the error matches [fs.ErrNotExist] if there is none,
// [durable.ErrNotPrivate] if file or folder are open to others,
// [keystore.ErrInUse], [keystore.ErrNewerVersion] or [keystore.ErrDamaged].
// Nothing is written. Every page is walked, so that damage is found now rather
// than at some later write.
func Open(path string) (*Store, error) {
	if err := durable.CheckPrivate(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := checkFile(path); err != nil {
		return nil, err
	}
	db, err := openDB(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s := &Store{db: db, writer: make(chan struct{}, 1)}
	if err := s.check(); err != nil {
		// A damaged file may not even be closed without a fault.
		return nil, fmt.Errorf("%s: %w", path, errors.Join(err, guard(db.Close)))
	}
	return s, nil
}

func openDB(path string) (db *bbolt.DB, err error) {
	var opened *os.File
	o := options()
	open := o.OpenFile
	o.OpenFile = func(path string, flag int, mode os.FileMode) (f *os.File, err error) {
		opened, err = open(path, flag, mode)
		return opened, err
	}
	err = guard(func() (err error) {
		db, err = bbolt.Open(path, durable.FileMode, o)
		return err
	})
	if err != nil {
		return nil, translateOpen(err)
	}
	if err := isAt(opened, path); err != nil {
		return nil, errors.Join(err, guard(db.Close))
	}
	return db, nil
}

// isAt refuses a file that another has taken the place of while its lock was waited
// for: who replaces a store has its lock until that is done.
func isAt(f *os.File, path string) error {
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	there, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !os.SameFile(mine, there) {
		return keystore.ErrInUse
	}
	return nil
}

// checkFile refuses what bbolt would turn into a new, empty database, and what
// it would follow to where there is nothing.
func checkFile(path string) error {
	f, err := durable.OpenPrivate(path, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	// bbolt's own lock, so that no page is read half written. It ends with
	// this function; bbolt takes it again.
	if err := waitForLock(f); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := checkLayout(f, info.Size()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func waitForLock(f *os.File) error {
	const pause = 20 * time.Millisecond
	for waited := time.Duration(0); ; waited += pause {
		err := durable.Lock(f)
		if !errors.Is(err, durable.ErrLocked) {
			return err
		}
		if waited >= LockTimeout {
			return keystore.ErrInUse
		}
		time.Sleep(pause)
	}
}

// check reads the format version.
func (s *Store) check() error {
	tx, err := s.begin(false)
	if err != nil {
		return err
	}
	defer guard(tx.Rollback)
	return guard(func() error {
		if err := checkFormat(tx); err != nil {
			return err
		}
		return checkRows(tx)
	})
}

func checkRows(tx *bbolt.Tx) error {
	return tx.ForEach(func(name []byte, bucket *bbolt.Bucket) error {
		if _, ok := tableOf(name); !ok {
			return nil
		}
		return bucket.ForEach(func(id, value []byte) error {
			_, err := decodeRow("", string(id), value)
			return err
		})
	})
}

func checkFormat(tx *bbolt.Tx) error {
	bucket := tx.Bucket(formatBucket)
	if bucket == nil {
		return fmt.Errorf("%w: it is not a store of this program", keystore.ErrDamaged)
	}
	text := string(bucket.Get(formatKey))
	version, err := strconv.ParseUint(text, 10, 32)
	switch {
	case err != nil:
		return fmt.Errorf("%w: format version %q", keystore.ErrDamaged, text)
	case version > Format:
		return fmt.Errorf("%w: format %d, this one knows %d", keystore.ErrNewerVersion, version, Format)
	case version != Format:
		return fmt.Errorf("%w: format version %d", keystore.ErrDamaged, version)
	}
	return nil
}

// guard turns a panic of bbolt, and a fault in the memory that maps the file,
// into an error: both mean that the file is not as bbolt left it.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", keystore.ErrDamaged, r)
		}
	}()
	return f()
}

// translate gives bbolt's errors their names in package keystore.
func translate(err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return keystore.ErrInUse
	case errors.Is(err, berrors.ErrDatabaseNotOpen):
		return keystore.ErrClosed
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum),
		errors.Is(err, berrors.ErrVersionMismatch), errors.Is(err, berrors.ErrInvalidMapping):
		return fmt.Errorf("%w: %w", keystore.ErrDamaged, err)
	}
	return err
}

// translateOpen is translate for the opening, where all that is not the
// system's refusal is bbolt's judgement of the content.
func translateOpen(err error) error {
	err = translate(err)
	_, system := errors.AsType[syscall.Errno](err)
	switch {
	case system, errors.Is(err, keystore.ErrInUse), errors.Is(err, keystore.ErrDamaged),
		errors.Is(err, durable.ErrNotPrivate):
		return err
	}
	return fmt.Errorf("%w: %w", keystore.ErrDamaged, err)
}

func (s *Store) begin(writable bool) (tx *bbolt.Tx, err error) {
	err = guard(func() error {
		tx, err = s.db.Begin(writable)
		return err
	})
	return tx, translate(err)
}

// View implements [keystore.Store].
func (s *Store) View(ctx context.Context, fn func(keystore.Tx) error) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	btx, err := s.begin(false)
	if err != nil {
		return err
	}
	defer guard(btx.Rollback)
	t := &tx{ctx: ctx, tx: btx}
	defer t.end()
	return fn(t)
}

// Update implements [keystore.Store].
func (s *Store) Update(ctx context.Context, fn func(keystore.Tx) error) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	select {
	case s.writer <- struct{}{}:
		defer func() { <-s.writer }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.usable(ctx); err != nil {
		return err
	}
	btx, err := s.begin(true)
	if err != nil {
		return err
	}
	// After a commit this does nothing.
	defer guard(btx.Rollback)
	if err := s.run(ctx, btx, fn); err != nil {
		return err
	}
	return s.commit(btx)
}

func (s *Store) run(ctx context.Context, btx *bbolt.Tx, fn func(keystore.Tx) error) error {
	t := &tx{ctx: ctx, tx: btx, writable: true}
	defer t.end()
	if err := fn(t); err != nil {
		return err
	}
	return t.deleteEmpty()
}

// commit makes the transaction durable. bbolt writes all pages, syncs, writes
// the meta page and syncs again. An error before the meta page leaves the
// store as it was; one after it leaves open what is on the disk, so nothing
// may be read or written any more.
func (s *Store) commit(btx *bbolt.Tx) error {
	id := btx.ID()
	err := guard(btx.Commit)
	if err == nil {
		return nil
	}
	if errors.Is(err, keystore.ErrDamaged) || s.wrote(id) {
		err = fmt.Errorf("%w: %w", keystore.ErrFailed, err)
		s.failed.Store(&err)
	}
	return err
}

// wrote reports whether the meta page of the transaction id can be seen.
func (s *Store) wrote(id int) bool {
	tx, err := s.begin(false)
	if err != nil {
		return true
	}
	defer guard(tx.Rollback)
	return tx.ID() >= id
}

// usable reports why no transaction may begin.
func (s *Store) usable(ctx context.Context) error {
	if err := s.failed.Load(); err != nil {
		return *err
	}
	return ctx.Err()
}

// Close implements [keystore.Store].
func (s *Store) Close() error {
	return translate(guard(s.db.Close))
}
