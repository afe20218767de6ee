// SPDX-License-Identifier: Apache-2.0

//go:build linux

package datadir

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/pgtest"
	"github.com/cretula/cretula/internal/rootkeys"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/reason"
)

// hashes returns the hash of every file below the folders, and the names of these.
func hashes(t *testing.T, folders ...string) string {
	t.Helper()
	var all strings.Builder
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			fmt.Fprintf(&all, "%s %x\n", path, sha256.Sum256(content))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

// refuses starts the service, which must be refused with a reason and a hint, and
// nothing may be written.
func refuses(t *testing.T, what string, c Config, want reason.Reason, rule string) {
	t.Helper()
	folders := []string{c.Dir, filepath.Dir(c.RootKey.File)}
	before := hashes(t, folders...)
	for _, open := range []func() (*Dir, error){
		func() (*Dir, error) { return c.Open(t.Context()) },
		func() (*Dir, error) { return c.Create(t.Context(), meta) },
	} {
		d, err := open()
		if err == nil {
			d.Close()
			t.Errorf("%s: it was opened", what)
			continue
		}
		wantRefusal(t, what, err, want, rule)
		var shown bytes.Buffer
		code := (&cli.Env{Stderr: &shown}).Report(err)
		if code != want.ExitCode() || !strings.Contains(shown.String(), "\nhint: ") {
			t.Errorf("%s: exit status %d:\n%s", what, code, shown.String())
		}
	}
	if after := hashes(t, folders...); after != before {
		t.Errorf("%s: files were changed:\n%s\nbefore:\n%s", what, after, before)
	}
}

// closed makes a service with something in it.
func closed(t *testing.T, c Config) *filled {
	t.Helper()
	d := mustCreate(t, c)
	f := fill(t, server(t, d))
	mustClose(t, d)
	return f
}

func TestDamagedFile(t *testing.T) {
	c := newConfig(t, "")
	f := closed(t, c)
	path := filepath.Join(c.Dir, StoreFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	// The last page that is in use, not one that the file has in reserve.
	last := len(whole) - page
	for bytes.Count(whole[last:last+page], []byte{0}) == page {
		last -= page
	}
	torn := bytes.Clone(whole)
	clear(torn[last+page/2 : last+page])
	for what, content := range map[string][]byte{
		"half of the last page": torn[:last+page/2],
		"the last page missing": torn[:last],
		"half of the pages":     whole[:last/2],
		"nothing":               nil,
		"zeros":                 make([]byte, len(whole)),
		"a text":                []byte("this is no store"),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		refuses(t, what, c, reason.Malformed, "store.damaged")
	}
	// The second half of a page never came to the disk, and the file is as long as it
	// should be.
	epoch, err := os.ReadFile(c.RootKey.EpochPath())
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for at := last; at > page; at -= page {
		if half := whole[at+page/2 : at+page]; bytes.Count(half, []byte{0}) == len(half) {
			continue
		}
		torn = bytes.Clone(whole)
		clear(torn[at+page/2 : at+page])
		if err := errors.Join(os.WriteFile(path, torn, 0o600), os.WriteFile(c.RootKey.EpochPath(), epoch, 0o600)); err != nil {
			t.Fatal(err)
		}
		before := hashes(t, c.Dir)
		if d, err := c.Open(t.Context()); err == nil {
			// Only a page that is not in use can be torn and everything be there.
			report, err := server(t, d).CheckStore(t.Context())
			if err != nil || len(report.Findings) == 0 && (report.Keys != 1 || report.Unwrapped != 2 || report.Policies != 2) {
				t.Errorf("page %d: what is missing was not noticed (%v)", at/page, err)
			}
			d.Close()
			continue
		} else if refused++; !errors.Is(err, keystore.ErrDamaged) && !kms.IsTampered(err) {
			t.Errorf("page %d: %v", at/page, err)
		}
		if after := hashes(t, c.Dir); after != before {
			t.Errorf("page %d: files were changed", at/page)
		}
	}
	if refused == 0 {
		t.Error("no page was in use")
	}
	if err := os.WriteFile(c.RootKey.EpochPath(), epoch, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	f.works(t, c)
}

func TestNewerVersion(t *testing.T) {
	t.Run("bolt", func(t *testing.T) {
		c := newConfig(t, "")
		closed(t, c)
		db, err := bbolt.Open(filepath.Join(c.Dir, StoreFile), 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("cretula")).Put([]byte("format"), []byte("99")) })
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		refuses(t, "format 99", c, reason.Unsupported, "store.newer")
	})
	t.Run("postgres", func(t *testing.T) {
		s := pgtest.Shared(t)
		name := s.Database(t)
		c := newConfig(t, s.URL(name))
		closed(t, c)
		s.Exec(t, name, "update cretula.store set version = 99")
		refuses(t, "schema 99", c, reason.Unsupported, "store.newer")
		s.Exec(t, name, "delete from cretula.store")
		refuses(t, "no version", c, reason.Malformed, "store.damaged")
	})
}

func TestWrongRootKey(t *testing.T) {
	eachStore(t, func(t *testing.T, c Config) {
		f := closed(t, c)
		before := fingerprint(t, c)
		other := newConfig(t, "")
		wrong := c
		wrong.RootKey = other.RootKey
		refuses(t, "another root key", wrong, reason.Mismatch, "store.rootkey")
		gone := c
		gone.RootKey.File = filepath.Join(filepath.Dir(other.RootKey.File), "gone.key")
		refuses(t, "no root key", gone, reason.Unsupported, "rootkey.missing")
		for what, spec := range map[string]rootkeys.Spec{
			"rootkey.pkcs11":     {Kind: rootkeys.KindPKCS11, Module: "/nowhere/libhsm.so", Token: "t", Label: "l", PINFile: secretFile(t, "123456")},
			"rootkey.credential": {Kind: rootkeys.KindSystemd, Credential: "root"},
			"rootkey.secret":     {Kind: rootkeys.KindPassphrase, PassphraseFile: "/nowhere/passphrase"},
		} {
			// A file that such a holder is said to have sealed, which is not there now.
			held := c
			held.RootKey = spec
			held.RootKey.File = heldFile(t, spec.Kind)
			refuses(t, what, held, reason.Unsupported, what)
		}
		if fingerprint(t, c) != before {
			t.Error("the store was changed")
		}
		f.works(t, c)
	})
}

func secretFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// heldFile writes a file in the form of one that a holder has sealed.
func heldFile(t *testing.T, kind string) string {
	t.Helper()
	if kind == rootkeys.KindSystemd {
		kind = rootkeys.KindPassphrase
	}
	path := filepath.Join(t.TempDir(), "root", "root.key")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	sealed := base64.StdEncoding.EncodeToString(append([]byte{1}, make([]byte, 60)...))
	text := "cretula held root key 1\nid: 0123456789abcdef\nkind: " + kind + "\nsealed: " + sealed + "\ncheck: " + strings.Repeat("A", 43) + "=\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestFullDisk starts on a disk that has no room left, and on one that is full
// while it runs: what was there stays, and works when there is room again.
func TestFullDisk(t *testing.T) {
	c := newConfig(t, "")
	if err := os.Mkdir(c.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", c.Dir, "tmpfs", 0, "size=16m,mode=0700"); err != nil {
		t.Skipf("SKIPPED, a file system of its own cannot be mounted: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(c.Dir, syscall.MNT_DETACH) })
	f := closed(t, c)
	fillUp := filepath.Join(c.Dir, "fill")
	full := func() {
		t.Helper()
		big, err := os.Create(fillUp)
		if err != nil {
			t.Fatal(err)
		}
		defer big.Close()
		for size := 1 << 20; size > 0; {
			if _, err := big.Write(make([]byte, size)); err != nil {
				size /= 2
			}
		}
	}
	// Some go where the files have room already.
	changes := func(d *Dir, name string) {
		t.Helper()
		failed := false
		for i := 0; i < 100 && !failed; i++ {
			_, err := server(t, d).AddPrincipal(t.Context(), kms.Principal{Type: kms.User, Name: fmt.Sprint(name, i)})
			failed = err != nil
		}
		if !failed {
			t.Error("changes were made on a full disk")
		}
	}
	full()
	before, root := fingerprint(t, c), hashes(t, filepath.Dir(c.RootKey.File))
	d, err := c.Open(t.Context())
	if err != nil {
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("start: %v, want no space left", err)
		}
		if fingerprint(t, c) != before || hashes(t, filepath.Dir(c.RootKey.File)) != root {
			t.Error("store or root key were changed")
		}
	} else {
		changes(d, "early")
		d.Close()
	}
	if err := os.Remove(fillUp); err != nil {
		t.Fatal(err)
	}
	f.works(t, c)

	if d, err = c.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	full()
	changes(d, "late")
	d.Close()
	if err := os.Remove(fillUp); err != nil {
		t.Fatal(err)
	}
	f.works(t, c)

	// The root key's own disk: a new service is not half made.
	n := newConfig(t, "")
	n.Dir = filepath.Join(c.Dir, "new")
	full()
	if d, err := n.Create(t.Context(), meta); err == nil {
		d.Close()
		t.Error("a store was made on a full disk")
	} else if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("create: %v, want no space left", err)
	}
	if err := os.Remove(fillUp); err != nil {
		t.Fatal(err)
	}
	mustClose(t, mustCreate(t, n))
}
