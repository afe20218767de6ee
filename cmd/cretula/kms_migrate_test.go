// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cretula/cretula/internal/pgtest"
	"github.com/cretula/cretula/kms"
)

// TestKMSMigrate moves a store to PostgreSQL and back, as a person does it.
func TestKMSMigrate(t *testing.T) {
	database := pgtest.New(t)
	url := database.URL(database.Database(t))
	const shown = "postgres://tester@127.0.0.1:"
	dir := t.TempDir()
	config := func(name, store string) string {
		t.Helper()
		text := "data_dir = \"data\"\nemulated = true\naccount = \"000000000000\"\n[root_key]\nkind = \"file\"\nfile = \"root/root.key\"\n[audit]\nserver = \"one\"\n" + store
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	back := filepath.Join(dir, "back", "kms.db")
	inFile, inDatabase := config("file.toml", ""), config("database.toml", fmt.Sprintf("[store]\nurl = %q\n", url))
	inBack := config("back.toml", fmt.Sprintf("[store]\nfile = %q\n", back))
	command := func(want int, text, config string, args ...string) string {
		t.Helper()
		code, stdout, stderr := cretula(nil, append(append([]string{"kms"}, args...), "--config", config)...)
		if code != want || !strings.Contains(stdout+stderr, text) {
			t.Fatalf("%v: %d %s%s, want %d %q", args, code, stdout, stderr, want, text)
		}
		return stdout
	}
	command(0, "", inFile, "init", "--admin", filepath.Join(dir, "admin.env"))
	command(0, "AKIA", inFile, "principal", "add", "alice")
	alice := func(config string) (info kms.PrincipalInfo) {
		t.Helper()
		if err := json.Unmarshal([]byte(command(0, "principal-info", config, "principal", "show", "alice", "--json")), &info); err != nil {
			t.Fatal(err)
		}
		return info
	}
	before := alice(inFile)
	moved := func(text string) (done transferred) {
		t.Helper()
		if err := json.Unmarshal([]byte(text), &done); err != nil || strings.Contains(text, "sslmode") {
			t.Fatalf("%v: %s", err, text)
		}
		return done
	}

	command(2, "--to is missing", inFile, "migrate")
	command(3, "neither an absolute path nor a postgres:// URL", inFile, "migrate", "--to", "elsewhere.db")
	command(3, "has a password in it", inFile, "migrate", "--to", "postgres://tester:secret@127.0.0.1/kms?sslmode=disable")
	alice(inFile) // nothing has marked it
	done := moved(command(0, `"cretula.kms.migrate-result.v1"`, inFile, "migrate", "--to", url, "--json"))
	if !strings.HasPrefix(done.Store, shown) || done.Epoch != 1 || done.Rows == 0 {
		t.Errorf("%+v", done)
	}
	command(7, "has moved to "+shown, inFile, "principal", "list")
	command(7, "has moved to "+shown, inFile, "migrate", "--to", url)
	if after := alice(inDatabase); after.ID != before.ID || len(after.AccessKeys) != 1 || after.AccessKeys[0].ID != before.AccessKeys[0].ID {
		t.Errorf("%+v, was %+v", after, before)
	}
	command(0, "0 findings", inDatabase, "verify-store")
	command(0, "AKIA", inDatabase, "principal", "add", "bob")

	returned := moved(command(0, `"epoch": 2`, inFile, "migrate", "--from", url, "--to", back, "--json"))
	if returned.Store != back || returned.StoreID != done.StoreID || returned.Rows <= done.Rows {
		t.Errorf("%+v, was %+v", returned, done)
	}
	command(7, "has moved to "+back, inDatabase, "principal", "list")
	command(0, "bob", inBack, "principal", "list")
	command(0, "0 findings", inBack, "verify-store")
	if after := alice(inBack); after.ID != before.ID {
		t.Errorf("%+v, was %+v", after, before)
	}
	events := command(0, "MigrateStore", inBack, "audit", "query", "--operation", "MigrateStore")
	if strings.Count(events, "MigrateStore") < 2 || strings.Contains(events, "sslmode") {
		t.Errorf("on record: %s", events)
	}
}
