// SPDX-License-Identifier: Apache-2.0

//go:build linux

package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/cretula/cretula/internal/pgtest"
	"github.com/cretula/cretula/kms/keystore"
)

// Variables that make the test binary a server of its own: what it does and where.
const (
	childRole = "CRETULA_TEST_POSTGRES_ROLE"
	childURL  = "CRETULA_TEST_POSTGRES_URL"
)

// oneMore is the list of steps of a later program.
var oneMore = append(migrations[:len(migrations):len(migrations)], `create table cretula.later (); alter table cretula.rows add column later text;`)

const childRounds = 10

// runChild creates or opens the store, or brings it up to date, says which, and
// writes.
func runChild(role, url string) error {
	steps := migrations
	if role == "later" {
		steps = oneMore
	}
	word := "created"
	s, err := open(ctx, url, Options{}, defaultLimits, steps, role == "create")
	if errors.Is(err, fs.ErrExist) {
		word = "opened"
		s, err = Open(ctx, url, Options{})
	}
	if err != nil {
		return err
	}
	for range childRounds {
		err := s.Update(ctx, func(tx keystore.Tx) error {
			row, err := tx.Get("t", "n")
			if errors.Is(err, keystore.ErrNotFound) {
				row, err = keystore.Row{Table: "t", ID: "n"}, nil
			}
			if err != nil {
				return err
			}
			row.Version++
			return tx.Put(row)
		})
		if err != nil {
			return err
		}
	}
	fmt.Println(word)
	return s.Close()
}

// children runs the test binary eight times at once and returns what they say.
func children(t *testing.T, role, url string) string {
	t.Helper()
	var mu sync.Mutex
	var said strings.Builder
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childRole+"="+role, childURL+"="+url+"&pool_max_conns=2")
			out, err := cmd.CombinedOutput()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
			said.Write(out)
		})
	}
	wg.Wait()
	return said.String()
}

func TestEightProcesses(t *testing.T) {
	server := pgtest.Shared(t)
	url := server.URL(server.Database(t))
	said := children(t, "create", url)
	if strings.Count(said, "created\n") != 1 || strings.Count(said, "opened\n") != 7 {
		t.Errorf("eight processes that create a store say %q", said)
	}
	if row, err := get(t, reopen(t, url), "t", "n"); err != nil || row.Version != 8*childRounds {
		t.Errorf("version %d, %v, want %d", row.Version, err, 8*childRounds)
	}
	// The later program's step can be taken only once.
	children(t, "later", url)
	if _, err := Open(ctx, url, Options{}); !errors.Is(err, keystore.ErrNewerVersion) {
		t.Errorf("Open after the step of a later program: %v", err)
	}
	s, err := open(ctx, url, Options{}, defaultLimits, oneMore, false)
	if row, err := get(t, mustStore(t, s, err), "t", "n"); err != nil || row.Version != 16*childRounds {
		t.Errorf("version %d, %v, want %d", row.Version, err, 16*childRounds)
	}
}

// dump returns all that is in the database.
func dump(t *testing.T, server *pgtest.Server, database string) string {
	t.Helper()
	var out strings.Builder
	for line := range strings.Lines(pgtest.Run(t, pgtest.Program(t, "pg_dump"), server.URL(database))) {
		// These have a random word in each dump.
		if !strings.HasPrefix(line, `\restrict`) && !strings.HasPrefix(line, `\unrestrict`) {
			out.WriteString(line)
		}
	}
	return out.String()
}

func TestCreateAndOpen(t *testing.T) {
	server := pgtest.Shared(t)
	name := server.Database(t)
	url := server.URL(name)
	empty := dump(t, server, name)
	if s, err := Open(ctx, url, Options{}); !errors.Is(err, fs.ErrNotExist) || s != nil {
		t.Errorf("Open of an empty database: %v", err)
	}
	if dump(t, server, name) != empty {
		t.Error("Open changed the empty database")
	}
	put(t, create(t, url), keystore.Row{Table: "t", ID: "a", Version: 1})
	made := dump(t, server, name)
	if s, err := Create(ctx, url, Options{}); !errors.Is(err, fs.ErrExist) || s != nil {
		t.Errorf("Create over a store: %v", err)
	}
	for range 3 {
		if row, err := get(t, reopen(t, url), "t", "a"); err != nil || row.Version != 1 {
			t.Errorf("version %d, %v", row.Version, err)
		}
	}
	if dump(t, server, name) != made {
		t.Error("Create or Open changed the store")
	}
	if _, err := Open(ctx, server.URL("nosuchdatabase"), Options{}); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("Open of no database: %v", err)
	}
}

// A role that may not make schemas can use one that is its own.
func TestSchemaOfAnAdministrator(t *testing.T) {
	server := pgtest.New(t)
	name := server.Database(t)
	server.Exec(t, name, "create role plain login")
	url := strings.Replace(server.URL(name), "tester@", "plain@", 1)
	if _, err := Create(ctx, url, Options{}); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("Create without the right: %v", err)
	}
	server.Exec(t, name, "create schema cretula authorization plain")
	put(t, create(t, url), keystore.Row{Table: "t", ID: "a"})
	server.Exec(t, name, "create role stranger login")
	stranger := strings.Replace(server.URL(name), "tester@", "stranger@", 1)
	if s, err := Open(ctx, stranger, Options{}); err == nil {
		s.Close()
		t.Error("a role without any right can open the store")
	}
}

func TestNewerVersion(t *testing.T) {
	server := pgtest.Shared(t)
	name := server.Database(t)
	url := server.URL(name)
	s := create(t, url)
	server.Exec(t, name, "update cretula.store set version = 99")
	before := dump(t, server, name)
	none := func(keystore.Tx) error { t.Error("called on a store of a newer version"); return nil }
	_, openErr := Open(ctx, url, Options{})
	_, createErr := Create(ctx, url, Options{})
	for i, err := range []error{openErr, createErr, s.View(ctx, none), s.Update(ctx, none)} {
		if !errors.Is(err, keystore.ErrNewerVersion) || !strings.Contains(err.Error(), "99") {
			t.Errorf("error %d: %v, want ErrNewerVersion", i, err)
		}
	}
	if dump(t, server, name) != before {
		t.Error("a store of a newer version was changed")
	}
}

func TestDamagedSchema(t *testing.T) {
	server := pgtest.Shared(t)
	for _, sql := range []string{
		"update cretula.store set version = 0", "update cretula.store set version = -1", "delete from cretula.store",
		"alter table cretula.rows rename to gone", "alter table cretula.rows drop column mac",
	} {
		name := server.Database(t)
		s := create(t, server.URL(name))
		server.Exec(t, name, sql)
		err := s.View(ctx, func(tx keystore.Tx) error { _, err := tx.Get("t", "a"); return err })
		if !errors.Is(err, keystore.ErrDamaged) {
			t.Errorf("%s: View: %v, want ErrDamaged", sql, err)
		}
		if strings.Contains(sql, "store") {
			if _, err := Open(ctx, server.URL(name), Options{}); !errors.Is(err, keystore.ErrDamaged) {
				t.Errorf("%s: Open: %v, want ErrDamaged", sql, err)
			}
		}
	}
	// Rows that no constraint holds back any more.
	name := server.Database(t)
	s := create(t, server.URL(name))
	server.Exec(t, name, "alter table cretula.rows drop constraint rows_version_check")
	server.Exec(t, name, "insert into cretula.rows values ('t', 'a', -1, '', ''), ('u', 'a', 1, '', decode(repeat('00', 65), 'hex'))")
	for _, table := range []string{"t", "u"} {
		err := s.View(ctx, func(tx keystore.Tx) error {
			if _, err := tx.Get(table, "a"); !errors.Is(err, keystore.ErrDamaged) {
				t.Errorf("Get: %v", err)
			}
			return tx.Scan(table, "", func(keystore.Row) bool { t.Error("Scan gave the row"); return true })
		})
		if !errors.Is(err, keystore.ErrDamaged) {
			t.Errorf("Scan: %v", err)
		}
	}
	// A function that passes over such an error commits nothing.
	err := s.Update(ctx, func(tx keystore.Tx) error {
		err := tx.Put(keystore.Row{Table: "v", ID: "a"})
		tx.Get("t", "a")
		return err
	})
	if !errors.Is(err, keystore.ErrDamaged) {
		t.Errorf("Update: %v, want ErrDamaged", err)
	}
	if _, err := get(t, s, "v", "a"); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("Get: %v, want ErrNotFound", err)
	}
}

func TestStepsAreAllOrNothing(t *testing.T) {
	server := pgtest.Shared(t)
	name := server.Database(t)
	url := server.URL(name)
	broken := append(oneMore[:len(oneMore):len(oneMore)], "create table cretula.third (); select 1/0")
	empty := dump(t, server, name)
	if _, err := open(ctx, url, Options{}, defaultLimits, broken, true); err == nil || dump(t, server, name) != empty {
		t.Errorf("steps of which one fails left something behind (%v)", err)
	}
	put(t, create(t, url), keystore.Row{Table: "t", ID: "a", Version: 5})
	before := dump(t, server, name)
	if _, err := open(ctx, url, Options{}, defaultLimits, broken, false); err == nil || dump(t, server, name) != before {
		t.Errorf("steps of which one fails changed the store (%v)", err)
	}
	s, err := open(ctx, url, Options{}, defaultLimits, oneMore, false)
	if row, err := get(t, mustStore(t, s, err), "t", "a"); err != nil || row.Version != 5 {
		t.Errorf("after the step: version %d, %v", row.Version, err)
	}
}
