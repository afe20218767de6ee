// SPDX-License-Identifier: Apache-2.0

//go:build linux

package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cretula/cretula/internal/rootkeys"
	"github.com/cretula/cretula/reason"
)

func TestStoreNames(t *testing.T) {
	root := rootkeys.Spec{Kind: rootkeys.KindFile, File: "/nowhere/root.key"}
	open := filepath.Join(t.TempDir(), "pgpass")
	if err := os.WriteFile(open, []byte("*:*:*:*:hunter2hunter2"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, store := range []string{
		"postgres://user:hunter2hunter2@127.0.0.1/db", "postgresql://user:hunter2hunter2@127.0.0.1/db?sslmode=disable",
		"postgres://127.0.0.1/db?user=x&password=hunter2hunter2", "postgres://127.0.0.1/db?sslpassword=hunter2hunter2",
		"postgres://user:hunter2hunter2@[::1/db", "postgres://user:hunter2hunter2%zz@h/db", "postgers://user:hunter2hunter2@h/db",
		"postgres://u@127.0.0.1/db?passfile=" + open,
	} {
		c := Config{Dir: t.TempDir(), Store: store, RootKey: root}
		_, err := c.Open(t.Context())
		if r, ok := reason.Of(err); !ok || r != reason.Malformed {
			t.Errorf("%s: %v, want malformed", store, err)
		}
		if shown := fmt.Sprint(err, c.StoreName()); strings.Contains(err.Error(), "hunter2") || c.database() && strings.Contains(shown, "hunter2") {
			t.Errorf("%s: the password is shown: %s", store, shown)
		}
	}
	c := Config{Dir: t.TempDir(), Store: "relative.db", RootKey: root}
	_, err := c.Open(t.Context())
	wantRefusal(t, "relative", err, reason.Malformed, "store.name")
}

func TestRequireOutside(t *testing.T) {
	c := newConfig(t, "")
	mustClose(t, mustCreate(t, c))
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(c.Dir, link); err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(t.TempDir(), "store")
	for what, change := range map[string]func(*Config){
		"in the folder":           func(c *Config) { c.RootKey.File = filepath.Join(c.Dir, "root.key") },
		"below it":                func(c *Config) { c.RootKey.File = filepath.Join(c.Dir, "a", "b", "root.key") },
		"through a link":          func(c *Config) { c.RootKey.File = filepath.Join(link, "root.key") },
		"epoch file":              func(c *Config) { c.RootKey.EpochFile = filepath.Join(c.Dir, "epoch") },
		"in the store's folder":   func(c *Config) { c.Store, c.RootKey.File = elsewhere+"/s.db", elsewhere+"/root.key" },
		"in the audit log's":      func(c *Config) { c.AuditDir, c.RootKey.File = elsewhere, elsewhere+"/root.key" },
		"no root key named":       func(c *Config) { c.RootKey = rootkeys.Spec{} },
		"with dots in the middle": func(c *Config) { c.RootKey.File = c.Dir + "/../" + filepath.Base(c.Dir) + "/root.key" },
	} {
		changed := c
		change(&changed)
		_, err := changed.Open(t.Context())
		wantRefusal(t, what, err, reason.Mismatch, "rootkey.outside")
		_, err = changed.Create(t.Context(), meta)
		wantRefusal(t, what+", create", err, reason.Mismatch, "rootkey.outside")
		if changed.RootKey.File != "" && changed.RootKey.File != c.RootKey.File && exists(changed.RootKey.File) {
			t.Errorf("%s: a root key was made", what)
		}
	}
	// A root key that is named is never made.
	missing := c
	missing.Dir = filepath.Join(t.TempDir(), "new")
	missing.RootKey.File = filepath.Join(t.TempDir(), "root", "root.key")
	_, err := missing.Create(t.Context(), meta)
	if !errors.Is(err, rootkeys.ErrNoFile) || exists(missing.RootKey.File) || exists(filepath.Join(missing.Dir, StoreFile)) {
		t.Errorf("no root key: %v", err)
	}
	if _, err := os.Stat(c.RootKey.File); errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
