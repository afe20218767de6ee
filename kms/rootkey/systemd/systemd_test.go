// SPDX-License-Identifier: Apache-2.0

//go:build linux

package systemd

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cretula/cretula/kms/rootkey"
	"github.com/cretula/cretula/kms/rootkey/passphrase"
	"golang.org/x/sys/unix"
)

const text = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

// folder makes a folder of credentials as systemd does.
func folder(t testing.TB, content string) (dir, path string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "cretula.service")
	path = filepath.Join(dir, "root-key")
	err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(path, []byte(content), 0o400), os.Chmod(dir, 0o500))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(dir, 0o700) })
	return dir, path
}

func TestCredential(t *testing.T) {
	secret := []byte("0123456789abcdefghijklmnopqrstuv")
	typed, err := passphrase.New([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := typed.Seal(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{text, text + "\n"} {
		dir, _ := folder(t, content)
		h, err := Credential(dir, "root-key")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := h.Open(t.Context(), sealed); err != nil || string(got) != string(secret) || h.Kind() != "passphrase" {
			t.Errorf("%q: %v", content, err)
		}
	}
	dir, _ := folder(t, strings.ToUpper(text))
	h, err := Credential(dir, "root-key")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := h.Open(t.Context(), sealed); !errors.Is(err, rootkey.ErrNotOpened) || got != nil {
		t.Errorf("another credential: %v", err)
	}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(dir, path string) error
		want   error
	}{
		"others may read":     {func(_, path string) error { return os.Chmod(path, 0o404) }, ErrOpenToOthers},
		"group may read":      {func(_, path string) error { return os.Chmod(path, 0o440) }, ErrOpenToOthers},
		"group may write":     {func(_, path string) error { return os.Chmod(path, 0o420) }, ErrOpenToOthers},
		"folder open":         {func(dir, _ string) error { return os.Chmod(dir, 0o505) }, ErrOpenToOthers},
		"folder for group":    {func(dir, _ string) error { return os.Chmod(dir, 0o570) }, ErrOpenToOthers},
		"missing":             {func(_, path string) error { return os.Remove(path) }, rootkey.ErrUnavailable},
		"no folder":           {func(dir, _ string) error { return os.RemoveAll(dir) }, rootkey.ErrUnavailable},
		"too short":           {func(_, path string) error { return rewrite(path, []byte("short\n")) }, passphrase.ErrSize},
		"empty":               {func(_, path string) error { return rewrite(path, nil) }, passphrase.ErrSize},
		"too long":            {func(_, path string) error { return rewrite(path, make([]byte, 1<<20)) }, passphrase.ErrSize},
		"symbolic link":       {func(_, path string) error { return relink(path) }, rootkey.ErrUnavailable},
		"FIFO":                {func(_, path string) error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o400)) }, rootkey.ErrUnavailable},
		"folder as the file":  {func(_, path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o500)) }, rootkey.ErrUnavailable},
		"file as the folder":  {func(dir, _ string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o400)) }, rootkey.ErrUnavailable},
		"file of another uid": {func(_, path string) error { return chown(t, path) }, ErrOpenToOthers},
		"folder of another":   {func(dir, _ string) error { return chown(t, dir) }, ErrOpenToOthers},
	} {
		dir, path := folder(t, text)
		os.Chmod(dir, 0o700)
		if err := c.change(dir, path); err != nil {
			t.Fatal(err)
		}
		h, err := Credential(dir, "root-key")
		if !errors.Is(err, c.want) || h != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "short") && name != "too short" || err != nil && strings.Contains(err.Error(), text) {
			t.Errorf("%s: the error has the credential: %v", name, err)
		}
		os.Chown(dir, os.Geteuid(), -1)
	}
	dir, _ := folder(t, text)
	for _, name := range []string{"", ".", "..", "a/b", "../root-key", "a:b", "a\x00b", strings.Repeat("a", 256)} {
		if h, err := Credential(dir, name); err == nil || h != nil {
			t.Errorf("name %q was accepted", name)
		}
	}
	for _, relative := range []string{"", ".", "run/credentials"} {
		if h, err := Credential(relative, "root-key"); !errors.Is(err, rootkey.ErrUnavailable) || h != nil {
			t.Errorf("folder %q: %v", relative, err)
		}
	}
}

func rewrite(path string, content []byte) error {
	return errors.Join(os.Remove(path), os.WriteFile(path, content, 0o400))
}

func relink(path string) error {
	return errors.Join(os.Rename(path, path+".x"), os.Symlink(path+".x", path))
}

// chown gives the file to a user who is nobody here; who is not root leaves it
// readable by all instead, which is refused alike.
func chown(t *testing.T, path string) error {
	if os.Geteuid() != 0 {
		t.Log("not root: another owner is not tested")
		return os.Chmod(path, 0o707)
	}
	return os.Chown(path, 12345, -1)
}

type entry struct {
	tag, perm uint16
	id        uint32
}

func encodeACL(entries ...entry) []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

const undefined = 0xffffffff // the id of entries that have none

// TestAccessControlList has the kernel keep the lists that systemd makes for a
// service that does not run as root, and others.
func TestAccessControlList(t *testing.T) {
	uid := uint32(os.Geteuid())
	owner, mask := entry{aclUserObj, 4, undefined}, entry{aclMask, 4, undefined}
	group, other := entry{aclGroupObj, 0, undefined}, entry{aclOther, 0, undefined}
	for name, c := range map[string]struct {
		entries []entry
		want    error
	}{
		"this user":        {[]entry{owner, {aclUser, 4, uid}, group, mask, other}, nil},
		"another user":     {[]entry{owner, {aclUser, 4, uid + 1}, group, mask, other}, ErrOpenToOthers},
		"both":             {[]entry{owner, {aclUser, 4, uid}, {aclUser, 4, uid + 1}, group, mask, other}, ErrOpenToOthers},
		"the group":        {[]entry{owner, {aclUser, 4, uid}, {aclGroupObj, 4, undefined}, mask, other}, ErrOpenToOthers},
		"a named group":    {[]entry{owner, {aclUser, 4, uid}, group, {8, 4, 1}, mask, other}, ErrOpenToOthers},
		"all":              {[]entry{owner, {aclUser, 4, uid}, group, mask, {aclOther, 4, undefined}}, ErrOpenToOthers},
		"write":            {[]entry{owner, {aclUser, 6, uid}, group, {aclMask, 6, undefined}, other}, ErrOpenToOthers},
		"write, not in it": {[]entry{owner, {aclUser, 6, uid}, group, mask, other}, ErrOpenToOthers},
	} {
		dir, path := folder(t, text)
		err := unix.Setxattr(path, "system.posix_acl_access", encodeACL(c.entries...), 0)
		if errors.Is(err, unix.ENOTSUP) {
			t.Skip("SKIPPED: no access control lists in the temporary folder")
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() == 0o400 {
			t.Fatalf("%s: mode %v, %v: the list has no effect", name, info.Mode(), err)
		}
		h, err := Credential(dir, "root-key")
		if !errors.Is(err, c.want) || (h == nil) != (c.want != nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for _, bad := range [][]byte{nil, {}, {2, 0, 0}, {1, 0, 0, 0}, append(encodeACL(owner), 0), {3, 0, 0, 0}, {2, 0, 0, 0},
		encodeACL(owner, entry{aclUser, 4, uid}, mask, other)} {
		if onlyUser(bad, uid) {
			t.Errorf("list %x was accepted", bad)
		}
	}
}

func FuzzOnlyUser(f *testing.F) {
	good := encodeACL(entry{aclUserObj, 4, undefined}, entry{aclUser, 4, 7},
		entry{aclGroupObj, 0, undefined}, entry{aclMask, 4, undefined}, entry{aclOther, 0, undefined})
	if !onlyUser(good, 7) || onlyUser(good, 8) {
		f.Fatal("the seed")
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, acl []byte) {
		if onlyUser(acl, 7) && len(acl) > 4 && onlyUser(append(acl, encodeACL(entry{aclOther, 4, undefined})[4:]...), 7) {
			t.Errorf("%x and all others", acl)
		}
	})
}
