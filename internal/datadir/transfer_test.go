// SPDX-License-Identifier: Apache-2.0

//go:build linux

package datadir

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cretula/cretula/internal/pgtest"
	"github.com/cretula/cretula/internal/rootkeys"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/audit"
	"github.com/cretula/cretula/kms/backup"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/reason"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// eachStore runs a test on both stores. The Config has a root key outside of its
// folder, which is there.
func eachStore(t *testing.T, test func(t *testing.T, c Config)) {
	t.Run("bolt", func(t *testing.T) { test(t, newConfig(t, "")) })
	t.Run("postgres", func(t *testing.T) { test(t, newConfig(t, database(t))) })
}

func database(t *testing.T) string {
	server := pgtest.Shared(t)
	return server.URL(server.Database(t))
}

func newConfig(t *testing.T, store string) Config {
	t.Helper()
	dir := t.TempDir()
	c := Config{
		Dir: filepath.Join(dir, "data"), Store: store, RequireOutside: true,
		RootKey: rootkeys.Spec{Kind: rootkeys.KindFile, File: filepath.Join(dir, "root", "root.key")},
	}
	if _, err := rootkeys.Create(t.Context(), c.RootKey); err != nil {
		t.Fatal(err)
	}
	return c
}

// A filled service has a key, its material, and what a principal has.
type filled struct {
	admin  kms.Credentials
	caller *kms.Caller
	key    string
}

func mustCreate(t *testing.T, c Config) *Dir {
	t.Helper()
	d, err := c.Create(t.Context(), meta)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func mustClose(t *testing.T, d *Dir) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func server(t *testing.T, d *Dir) *kms.Server {
	t.Helper()
	s, err := d.Server(nil, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func fill(t *testing.T, s *kms.Server) *filled {
	t.Helper()
	f := new(filled)
	var err error
	if f.admin, err = s.EnsureAdmin(t.Context()); err != nil {
		t.Fatal(err)
	}
	access, err := s.FindAccessKey(t.Context(), f.admin.AccessKeyID)
	if err != nil {
		t.Fatal(err)
	}
	caller := access.Caller
	caller.Region = "us-east-1"
	f.caller = &caller
	f.key = f.createKey(t, s, "a description that is easy to find")
	return f
}

func (f *filled) createKey(t *testing.T, s *kms.Server, description string) string {
	t.Helper()
	out, err := kms.Do[kmsapi.CreateKeyOutput](t.Context(), s, f.caller, &kmsapi.CreateKeyInput{Description: &description})
	if err != nil {
		t.Fatal(err)
	}
	return out.KeyMetadata.KeyId
}

// works uses the key and the access key.
func (f *filled) works(t *testing.T, c Config) {
	t.Helper()
	d, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s := server(t, d)
	_, err = kms.Do[kmsapi.EncryptOutput](t.Context(), s, f.caller, &kmsapi.EncryptInput{KeyId: &f.key, Plaintext: []byte("plain")})
	if err != nil {
		t.Error(err)
	}
	access, err := s.FindAccessKey(t.Context(), f.admin.AccessKeyID)
	if err != nil {
		t.Fatal(err)
	}
	if secret, err := access.Secret(); err != nil || string(secret) != f.admin.SecretAccessKey {
		t.Errorf("the secret of the access key: %v", err)
	}
	report, err := s.CheckStore(t.Context())
	if err != nil || len(report.Findings) > 0 || report.Unwrapped < 2 || report.Policies < 2 {
		t.Errorf("report %+v, %v", report, err)
	}
}

func mustBackup(t *testing.T, s *kms.Server) []byte {
	t.Helper()
	var file bytes.Buffer
	if _, err := s.Backup(t.Context(), &file); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// wantRefusal opens and must be refused for a reason.
func wantRefusal(t *testing.T, what string, err error, want reason.Reason, rule string) {
	t.Helper()
	r, ok := errors.AsType[*reason.Error](err)
	if !ok || r.Reason() != want || r.Rule() != rule {
		t.Errorf("%s: %v, want %v (%s)", what, err, want, rule)
	}
}

func TestBackupAndRestore(t *testing.T) {
	eachStore(t, func(t *testing.T, c Config) {
		d := mustCreate(t, c)
		f := fill(t, server(t, d))
		mustClose(t, d) // with a head of the audit log
		d, err := c.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s := server(t, d)
		file := mustBackup(t, s)
		later := f.createKey(t, s, "made after the backup")
		for _, secret := range []string{f.admin.SecretAccessKey, f.admin.AccessKeyID, f.key, "easy to find", "admin"} {
			if bytes.Contains(file, []byte(secret)) {
				t.Errorf("the backup shows %q", secret)
			}
		}
		mustClose(t, d)

		_, err = c.Restore(t.Context(), bytes.NewReader(file), false)
		if !errors.Is(err, ErrNotEmpty) {
			t.Errorf("into a store that is there: %v", err)
		}
		done, err := c.Restore(t.Context(), bytes.NewReader(file), true)
		if err != nil {
			t.Fatal(err)
		}
		if done.Epoch != 1 || done.Rows == 0 || strings.Contains(done.Store, "?") {
			t.Errorf("restored %+v", done)
		}
		f.works(t, c)
		d, err = c.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s = server(t, d)
		if _, err := kms.Do[kmsapi.DescribeKeyOutput](t.Context(), s, f.caller, &kmsapi.DescribeKeyInput{KeyId: &later}); err == nil {
			t.Error("a key that was made after the backup is there")
		}
		wantEvents(t, c, "BackupStore", "RestoreStore")
		mustClose(t, d)

		// Elsewhere, with the same root key and its epoch file.
		other := c
		other.Dir, other.Store = filepath.Join(t.TempDir(), "other"), ""
		if c.database() {
			other.Store = database(t)
		}
		if done, err = other.Restore(t.Context(), bytes.NewReader(file), false); err != nil || done.Epoch != 2 {
			t.Fatalf("elsewhere: %+v, %v", done, err)
		}
		f.works(t, other)
		verifiesAudit(t, other)
		// The first one is behind from now on.
		_, err = c.Open(t.Context())
		wantRefusal(t, "the store of before", err, reason.Stale, "store.rolled-back")
	})
}

// verifiesAudit compares the audit log with the heads in the store.
func verifiesAudit(t *testing.T, c Config) {
	t.Helper()
	d, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	report, err := server(t, d).CheckStore(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	log, err := c.VerifyAudit(t.Context(), report.StoreID, report.AuditHeads)
	if err != nil || len(log.Findings) > 0 || log.Records == 0 {
		t.Errorf("audit log: %+v, %v", log, err)
	}
}

// TestRestoreDamaged puts a backup in place of a file that cannot be read any more.
func TestRestoreDamaged(t *testing.T) {
	c := newConfig(t, "")
	d := mustCreate(t, c)
	s := server(t, d)
	f := fill(t, s)
	file := mustBackup(t, s)
	if _, err := c.Restore(t.Context(), bytes.NewReader(file), true); !errors.Is(err, keystore.ErrInUse) {
		t.Errorf("while it is open: %v", err)
	}
	mustClose(t, d)
	path := filepath.Join(c.Dir, StoreFile)
	if err := os.WriteFile(path, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Restore(t.Context(), bytes.NewReader(file), false); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("without replace: %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "damaged" {
		t.Errorf("the file was changed (%v)", err)
	}
	if _, err := c.Restore(t.Context(), bytes.NewReader(file), true); err != nil {
		t.Fatal(err)
	}
	f.works(t, c)
	verifiesAudit(t, c)
	if left, err := filepath.Glob(filepath.Join(c.Dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	// And where the file is gone.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Restore(t.Context(), bytes.NewReader(file), false); err != nil {
		t.Fatal(err)
	}
	f.works(t, c)
}

// wantEvents looks for events by their names.
func wantEvents(t *testing.T, c Config, names ...string) {
	t.Helper()
	if err := c.complete(); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	err := audit.Backward(t.Context(), c.AuditDir, func(e audit.Entry, err error) bool {
		if event, parseErr := kms.ParseEvent(e); err == nil && parseErr == nil {
			found[event.EventName] = true
		}
		return true
	})
	if err != nil {
		t.Error(err)
	}
	for _, name := range names {
		if !found[name] {
			t.Errorf("no event %s", name)
		}
	}
}

// TestRestoreRefused restores what is no backup of this root key, or not a whole
// one: the store stays byte for byte what it is.
func TestRestoreRefused(t *testing.T) {
	eachStore(t, func(t *testing.T, c Config) {
		d := mustCreate(t, c)
		s := server(t, d)
		f := fill(t, s)
		file := mustBackup(t, s)
		mustClose(t, d)
		before := fingerprint(t, c)
		stranger := newConfig(t, "")
		d = mustCreate(t, stranger)
		foreign := mustBackup(t, server(t, d))
		mustClose(t, d)
		flip := func(at int) []byte {
			b := bytes.Clone(file)
			b[at] ^= 1
			return b
		}
		for _, x := range []struct {
			what string
			file []byte
			want error
		}{
			{"nothing", nil, backup.ErrFormat},
			{"a text", []byte("hello, this is not a backup at all"), backup.ErrFormat},
			{"cut off", file[:len(file)-1], backup.ErrChanged},
			{"half", file[:len(file)/2], backup.ErrChanged},
			{"more", append(bytes.Clone(file), 0), backup.ErrChanged},
			{"twice", append(bytes.Clone(file), file...), backup.ErrChanged},
			{"first byte", flip(0), backup.ErrFormat},
			{"in the rows", flip(len(file) / 2), backup.ErrChanged},
			{"last byte", flip(len(file) - 1), backup.ErrChanged},
			{"another store id", bytes.Replace(file, []byte(`"account":"000000000000"`), []byte(`"account":"000000000001"`), 1), backup.ErrChanged},
			{"another root key", foreign, backup.ErrRootKey},
		} {
			for _, replace := range []bool{false, true} {
				if _, err := c.Restore(t.Context(), bytes.NewReader(x.file), replace); !errors.Is(err, x.want) {
					t.Errorf("%s (replace: %v): %v, want %v", x.what, replace, err, x.want)
				}
			}
		}
		if after := fingerprint(t, c); after != before {
			t.Error("the store was changed")
		}
		f.works(t, c)
	})
}

// fingerprint is a hash of all that the store holds: of a file, every byte.
func fingerprint(t *testing.T, c Config) string {
	t.Helper()
	if err := c.complete(); err != nil {
		t.Fatal(err)
	}
	if !c.database() {
		content, err := os.ReadFile(c.Store)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%x", sha256.Sum256(content))
	}
	store, err := c.openStore(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	sum := sha256.New()
	err = store.View(t.Context(), func(tx keystore.Tx) error {
		tables, err := tx.Tables()
		for _, table := range tables {
			err = errors.Join(err, tx.Scan(table, "", func(row keystore.Row) bool {
				fmt.Fprintf(sum, "%q %q %d %x %x\n", row.Table, row.ID, row.Version, row.MAC, row.Content)
				return true
			}))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// TestTamperedBackup backs up a store in which a row was changed by hand: there is
// no backup of it.
func TestTamperedBackup(t *testing.T) {
	eachStore(t, func(t *testing.T, c Config) {
		d := mustCreate(t, c)
		f := fill(t, server(t, d))
		tamper(t, d.store, "key-policy")
		var file bytes.Buffer
		_, err := server(t, d).Backup(t.Context(), &file)
		if !kms.IsTampered(err) || !strings.Contains(err.Error(), f.key) {
			t.Errorf("backup: %v, want a tampered row of key %s", err, f.key)
		}
		if _, err := backup.Open(bytes.NewReader(file.Bytes()), d.RootKey); err == nil {
			t.Error("what was written is a backup")
		}
		report, err := server(t, d).CheckStore(t.Context())
		if err != nil || len(report.Findings) != 1 || !strings.Contains(report.Findings[0].ID, f.key) {
			t.Errorf("report %+v, %v", report, err)
		}
		mustClose(t, d)
		to := newConfig(t, "")
		to.RootKey = c.RootKey
		if _, err := c.Migrate(t.Context(), to); !kms.IsTampered(err) {
			t.Errorf("migrate: %v", err)
		}
		if err := to.complete(); err != nil || exists(to.Store) {
			t.Errorf("migrate has made %s (%v)", to.Store, err)
		}
	})
}

func tamper(t *testing.T, store keystore.Store, table string) {
	t.Helper()
	err := store.Update(t.Context(), func(tx keystore.Tx) error {
		var first keystore.Row
		err := tx.Scan(table, "", func(row keystore.Row) bool {
			first = row
			return false
		})
		if err != nil {
			return err
		}
		first.Content = append(first.Content, ' ')
		return tx.Put(first)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestMigrate(t *testing.T) {
	url := database(t)
	file := newConfig(t, "")
	d := mustCreate(t, file)
	f := fill(t, server(t, d))
	id := d.Ledger.StoreID()
	mustClose(t, d)
	pg := file
	pg.Store = url
	done, err := file.Migrate(t.Context(), pg)
	if err != nil || done.StoreID != id || done.Epoch != 1 || done.Rows == 0 || done.Marked {
		t.Fatalf("to PostgreSQL: %+v, %v", done, err)
	}
	f.works(t, pg)
	_, err = file.Open(t.Context())
	wantRefusal(t, "the file that was left", err, reason.Mismatch, "store.moved")
	if strings.Contains(err.Error(), "sslmode") {
		t.Errorf("%v shows more than the place", err)
	}
	_, err = file.Migrate(t.Context(), pg)
	wantRefusal(t, "again", err, reason.Mismatch, "store.moved")

	// A server that has the database open stops at once.
	other := pg
	other.Dir = filepath.Join(t.TempDir(), "other")
	if d, err = other.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s := server(t, d)
	back := file
	back.Store = filepath.Join(t.TempDir(), "store", "back.db")
	if done, err = pg.Migrate(t.Context(), back); err != nil || done.Epoch != 2 {
		t.Fatalf("back to a file: %+v, %v", done, err)
	}
	if _, err := s.AddPrincipal(t.Context(), kms.Principal{Type: kms.User, Name: "late"}); err == nil || !strings.Contains(err.Error(), "moved to "+back.Store) {
		t.Errorf("a change in the database that was left: %v", err)
	}
	_, err = pg.Open(t.Context())
	wantRefusal(t, "the database that was left", err, reason.Mismatch, "store.moved")
	f.works(t, back)
	wantEvents(t, back, "MigrateStore")
}

// TestMigrateInterrupted ends between the two commits, and goes on.
func TestMigrateInterrupted(t *testing.T) {
	c := newConfig(t, "")
	d := mustCreate(t, c)
	f := fill(t, server(t, d))
	mustClose(t, d)
	to := c
	to.Store = filepath.Join(t.TempDir(), "store", "new.db")
	interrupted(t, c, to)
	f.works(t, c) // the source is as it was
	before, err := os.ReadFile(filepath.Join(c.Dir, StoreFile))
	if err != nil {
		t.Fatal(err)
	}
	done, err := c.Migrate(t.Context(), to)
	if err != nil || !done.Marked || done.Epoch != 1 {
		t.Fatalf("again: %+v, %v", done, err)
	}
	_, err = c.Open(t.Context())
	wantRefusal(t, "the source", err, reason.Mismatch, "store.moved")
	f.works(t, to)

	// A store that has gone on since is not taken for the copy.
	if err := os.WriteFile(filepath.Join(c.Dir, StoreFile), before, 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err = to.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.createKey(t, server(t, d), "later")
	mustClose(t, d)
	if err := os.Remove(c.RootKey.EpochPath()); err != nil {
		t.Fatal(err)
	}
	if _, err = c.Migrate(t.Context(), to); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("to a store that has gone on: %v", err)
	}
	f.works(t, c) // nothing has marked it
}

// interrupted is Migrate that ends between the two commits.
func interrupted(t *testing.T, c, to Config) {
	t.Helper()
	if err := errors.Join(c.complete(), to.complete()); err != nil {
		t.Fatal(err)
	}
	root, err := rootkeys.Open(t.Context(), c.RootKey)
	if err != nil {
		t.Fatal(err)
	}
	store, err := c.openStore(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	from, err := ledger.Open(t.Context(), store, root)
	if err != nil {
		t.Fatal(err)
	}
	killed := errors.New("killed")
	err = from.Move(t.Context(), to.StoreName(), func(rows func(func(keystore.Row) error) error) error {
		if err := to.takeOver(t.Context(), root, &Transferred{StoreID: from.StoreID()}, epoch{}, rows); err != nil {
			return err
		}
		return killed
	})
	if err != killed {
		t.Fatal(err)
	}
}

// TestRolledBack puts an old copy of the whole store in place of the new one.
func TestRolledBack(t *testing.T) {
	eachStore(t, func(t *testing.T, c Config) {
		d := mustCreate(t, c)
		f := fill(t, server(t, d))
		mustClose(t, d)
		restoreOld := copyStore(t, c)
		d, err := c.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		f.createKey(t, server(t, d), "newer")
		oldEpoch, err := os.ReadFile(c.RootKey.EpochPath())
		if err != nil {
			t.Fatal(err)
		}
		mustClose(t, d)
		f.works(t, c)
		// A file that is behind is brought up to date.
		if err := os.WriteFile(c.RootKey.EpochPath(), oldEpoch, 0o600); err != nil {
			t.Fatal(err)
		}
		f.works(t, c)
		if now, err := os.ReadFile(c.RootKey.EpochPath()); err != nil || bytes.Equal(now, oldEpoch) {
			t.Errorf("the epoch file was left behind (%v)", err)
		}
		restoreOld()
		before := fingerprint(t, c)
		_, err = c.Open(t.Context())
		wantRefusal(t, "an old copy", err, reason.Stale, "store.rolled-back")
		_, err = c.Create(t.Context(), meta)
		wantRefusal(t, "an old copy, by up", err, reason.Stale, "store.rolled-back")
		if fingerprint(t, c) != before {
			t.Error("the store was changed")
		}

		// So is an empty store, and one of another service.
		other := c
		other.Dir, other.Store = filepath.Join(t.TempDir(), "other"), ""
		if c.database() {
			other.Store = database(t)
		}
		if d, err := other.Create(t.Context(), meta); err == nil {
			d.Close()
			t.Error("a new store beside an epoch file of another")
		}
		epochFile := c.RootKey.EpochPath()
		text, err := os.ReadFile(epochFile)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(epochFile); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode of the epoch file: %v, %v", info.Mode(), err)
		}
		if err := os.WriteFile(epochFile, bytes.Replace(text, []byte("epoch: 0"), []byte("epoch: 1"), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = c.Open(t.Context())
		wantRefusal(t, "an epoch file that was edited", err, reason.BadSignature, "epoch.file")

		// What is said of an older store that is wanted leads there.
		if err := os.WriteFile(epochFile, text, 0o600); err != nil {
			t.Fatal(err)
		}
		old := c
		old.RootKey.EpochFile = filepath.Join(t.TempDir(), "epochs", "old")
		if d, err = old.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		file := mustBackup(t, server(t, d))
		mustClose(t, d)
		if _, err := c.Restore(t.Context(), bytes.NewReader(file), true); err != nil {
			t.Fatal(err)
		}
		if d, err = c.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustClose(t, d)
	})
}

// copyStore keeps the store as it is and returns what puts it back: the file, or
// what pg_dump has written.
func copyStore(t *testing.T, c Config) (putBack func()) {
	t.Helper()
	if err := c.complete(); err != nil {
		t.Fatal(err)
	}
	if !c.database() {
		old, err := os.ReadFile(c.Store)
		if err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := os.WriteFile(c.Store, old, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	dump := pgtest.Run(t, pgtest.Program(t, "pg_dump"), "--clean", "--if-exists", "--schema=cretula", "--dbname="+c.Store)
	return func() {
		psql := exec.CommandContext(context.Background(), pgtest.Program(t, "psql"), "-q", "-v", "ON_ERROR_STOP=1", c.Store)
		psql.Stdin = strings.NewReader(dump)
		if out, err := psql.CombinedOutput(); err != nil {
			t.Fatalf("psql: %v\n%s", err, out)
		}
	}
}

// TestCreateAtOnce has several servers find an empty database.
func TestCreateAtOnce(t *testing.T) {
	c := newConfig(t, database(t))
	const servers = 6
	ids := make(chan string, servers)
	for i := range servers {
		go func() {
			own := c
			own.Dir = filepath.Join(filepath.Dir(c.Dir), fmt.Sprint(i))
			// Each has its own copy of the root key's folder.
			own.RootKey.EpochFile = filepath.Join(filepath.Dir(c.Dir), fmt.Sprint("epoch", i), "epoch")
			d, err := own.Create(t.Context(), meta)
			if err != nil {
				t.Error(err)
				ids <- ""
				return
			}
			ids <- d.Ledger.StoreID()
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}()
	}
	first := <-ids
	for range servers - 1 {
		if id := <-ids; id != first || id == "" {
			t.Errorf("store %q, another has %q", id, first)
		}
	}
}
