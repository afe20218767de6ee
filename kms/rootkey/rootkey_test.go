// SPDX-License-Identifier: Apache-2.0

package rootkey

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cretula/cretula/internal/durable"
)

func testKey(t testing.TB, fill byte) *software {
	t.Helper()
	k, err := newSoftware(bytes.Repeat([]byte{fill}, keySize))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestWrap(t *testing.T) {
	k := testKey(t, 1)
	for _, plaintext := range [][]byte{nil, {0}, []byte("secret"), make([]byte, MaxPlaintext)} {
		for _, aad := range [][]byte{nil, []byte("arn:aws:kms:us-east-1:000000000000:key/1")} {
			wrapped, err := k.Wrap(plaintext, aad)
			if err != nil {
				t.Fatal(err)
			}
			got, err := k.Unwrap(wrapped, aad)
			if err != nil || !bytes.Equal(got, plaintext) {
				t.Errorf("Unwrap: %d bytes, %v, want %d", len(got), err, len(plaintext))
			}
			if got, err := k.Unwrap(wrapped, []byte("other")); err != ErrUnwrap || got != nil {
				t.Errorf("Unwrap with other data: %x, %v, want ErrUnwrap", got, err)
			}
			if again, err := k.Wrap(plaintext, aad); err != nil || bytes.Equal(again, wrapped) {
				t.Errorf("two wraps are equal (%v)", err)
			}
		}
	}
	if _, err := k.Wrap(make([]byte, MaxPlaintext+1), nil); err == nil {
		t.Error("Wrap of too much succeeded")
	}
}

func TestUnwrapChanged(t *testing.T) {
	k := testKey(t, 1)
	wrapped, err := k.Wrap([]byte("secret"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range wrapped {
		for bit := range 8 {
			changed := bytes.Clone(wrapped)
			changed[i] ^= 1 << bit
			want := ErrUnwrap
			if i >= 1 && i <= idSize {
				want = ErrOtherKey
			}
			if got, err := k.Unwrap(changed, []byte("aad")); !errors.Is(err, want) || got != nil {
				t.Errorf("bit %d of byte %d: %x, %v, want %v", bit, i, got, err, want)
			}
		}
	}
	for n := range wrapped {
		if _, err := k.Unwrap(wrapped[:n], []byte("aad")); !errors.Is(err, ErrUnwrap) {
			t.Errorf("%d bytes: %v, want ErrUnwrap", n, err)
		}
	}
	if _, err := k.Unwrap(append(wrapped, 0), []byte("aad")); err != ErrUnwrap {
		t.Errorf("a byte more: %v, want ErrUnwrap", err)
	}
	if _, err := k.Unwrap(make([]byte, 1<<20), nil); err != ErrUnwrap {
		t.Errorf("too long: %v, want ErrUnwrap", err)
	}
	if _, err := testKey(t, 2).Unwrap(wrapped, []byte("aad")); !errors.Is(err, ErrOtherKey) {
		t.Errorf("another key: %v, want ErrOtherKey", err)
	}
}

// hkdfByHand is HKDF-SHA256 (RFC 5869 §2) for at most two blocks.
func hkdfByHand(secret, salt []byte, info string, n int) []byte {
	if salt == nil {
		salt = make([]byte, 32)
	}
	mac := func(key []byte, parts ...[]byte) []byte {
		h := hmac.New(sha256.New, key)
		for _, p := range parts {
			h.Write(p)
		}
		return h.Sum(nil)
	}
	prk := mac(salt, secret)
	one := mac(prk, []byte(info), []byte{1})
	return append(one, mac(prk, one, []byte(info), []byte{2})...)[:n]
}

func hmacByHand(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// TestFormat holds what is on disks to what it always was.
func TestFormat(t *testing.T) {
	k := testKey(t, 7)
	secret := bytes.Repeat([]byte{7}, 32)
	if want := hex.EncodeToString(hkdfByHand(secret, nil, "cretula/rootkey/1/id", 8)); k.ID() != want {
		t.Errorf("ID = %s, want %s", k.ID(), want)
	}
	derived, err := k.Derive("label")
	if want := hkdfByHand(secret, nil, "cretula/rootkey/1/derive/label", 32); err != nil || !bytes.Equal(derived, want) {
		t.Errorf("Derive = %x, %v, want %x", derived, err, want)
	}
	wrapped, err := k.Wrap([]byte("p"), nil)
	if err != nil || len(wrapped) != 1+8+32+1+16 || wrapped[0] != 1 || hex.EncodeToString(wrapped[1:9]) != k.ID() {
		t.Errorf("wrapped: %x, %v", wrapped, err)
	}
}

func TestDerive(t *testing.T) {
	k := testKey(t, 1)
	seen := make(map[string]string)
	for _, label := range []string{"a", "b", "ab", "a/", strings.Repeat("x", MaxLabel)} {
		got, err := k.Derive(label)
		if err != nil || len(got) != DerivedSize {
			t.Fatalf("Derive(%q): %x, %v", label, got, err)
		}
		if other, ok := seen[string(got)]; ok {
			t.Errorf("labels %q and %q give the same", label, other)
		}
		seen[string(got)] = label
		again, err := k.Derive(label)
		if err != nil || !bytes.Equal(got, again) {
			t.Errorf("Derive(%q) is not always the same (%v)", label, err)
		}
		other, err := testKey(t, 2).Derive(label)
		if err != nil || bytes.Equal(got, other) {
			t.Errorf("two keys derive the same (%v)", err)
		}
	}
	for _, label := range []string{"", strings.Repeat("x", MaxLabel+1)} {
		if got, err := k.Derive(label); err == nil || got != nil {
			t.Errorf("label of %d bytes: %x, %v", len(label), got, err)
		}
	}
}

func TestNotPrinted(t *testing.T) {
	k := testKey(t, 'k')
	var key Key = k
	encoded, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	printed := string(encoded)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		printed += fmt.Sprintf(verb, key) + fmt.Sprintf(verb, struct{ K Key }{key})
	}
	for _, secret := range []string{"kkkk", "6b6b", "0x6b, 0x6b", "107 107", base64.StdEncoding.EncodeToString(k.secret[:])} {
		if strings.Contains(printed, secret) {
			t.Errorf("the key is printed: %s", printed)
		}
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "root.key")
	if _, err := OpenFile(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenFile of nothing: %v, want ErrNotExist", err)
	}
	made, err := CreateFile(path)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := OpenFile(path)
	if err != nil || opened.ID() != made.ID() {
		t.Fatalf("OpenFile: %v, %v, want %v", opened, err, made)
	}
	wrapped, err := made.Wrap([]byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := opened.Unwrap(wrapped, nil); err != nil || string(got) != "secret" {
		t.Errorf("Unwrap by the key from the file: %q, %v", got, err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if k, err := CreateFile(path); !errors.Is(err, fs.ErrExist) || k != nil {
		t.Errorf("second CreateFile: %v, %v, want ErrExist", k, err)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("second CreateFile changed the file (%v)", err)
	}
	other, err := CreateFile(path + "2")
	if err != nil || other.ID() == made.ID() {
		t.Errorf("two keys have the same id (%v)", err)
	}
}

func TestFilePermissions(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("permission bits mean nothing on Windows")
	}
	path := filepath.Join(t.TempDir(), "keys", "root.key")
	if _, err := CreateFile(path); err != nil {
		t.Fatal(err)
	}
	refused := func(what string) {
		t.Helper()
		if k, err := OpenFile(path); !errors.Is(err, durable.ErrNotPrivate) || k != nil {
			t.Errorf("%s: %v, %v, want ErrNotPrivate", what, k, err)
		}
	}
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o660, 0o610} {
		os.Chmod(path, mode)
		refused(mode.String())
	}
	os.Chmod(path, 0o600)
	os.Chmod(filepath.Dir(path), 0o711)
	refused("folder 0711")
	os.Chmod(filepath.Dir(path), 0o700)
	if os.Geteuid() == 0 {
		os.Chown(path, 12345, -1)
		refused("another owner")
		os.Chown(path, 0, -1)
	}
	if err := errors.Join(os.Rename(path, path+".x"), os.Symlink(path+".x", path)); err != nil {
		t.Fatal(err)
	}
	refused("symbolic link")
}

func TestDecodeFile(t *testing.T) {
	good := string(encodeFile(testKey(t, 1)))
	other := string(encodeFile(testKey(t, 2)))
	if _, err := decodeFile([]byte(good)); err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(good, "\n")
	for name, text := range map[string]string{
		"empty":           "",
		"no end":          strings.TrimSuffix(good, "\n"),
		"more":            good + "\n",
		"carriage return": strings.ReplaceAll(good, "\n", "\r\n"),
		"version 2":       strings.Replace(good, "key 1", "key 2", 1),
		"no id":           lines[0] + lines[2],
		"no key":          lines[0] + lines[1],
		"other id":        lines[0] + strings.SplitAfter(other, "\n")[1] + lines[2],
		"upper case":      lines[0] + strings.ToUpper(lines[1]) + lines[2],
		"short key":       lines[0] + lines[1] + "key: " + base64.StdEncoding.EncodeToString(make([]byte, 31)) + "\n",
		"long key":        lines[0] + lines[1] + "key: " + base64.StdEncoding.EncodeToString(make([]byte, 33)) + "\n",
		"not base64":      lines[0] + lines[1] + "key: " + strings.Repeat("!", 44) + "\n",
		"space":           lines[0] + lines[1] + " " + lines[2],
		"huge":            good + strings.Repeat("x", 1<<20),
	} {
		k, err := decodeFile([]byte(text))
		if !errors.Is(err, ErrFile) || k != nil {
			t.Errorf("%s: %v, %v, want ErrFile", name, k, err)
		}
	}
}

func FuzzDecodeFile(f *testing.F) {
	f.Add(encodeFile(testKey(f, 1)))
	f.Add([]byte(fileHeader + "\nid: \nkey: \n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := decodeFile(text)
		if err != nil {
			if k != nil {
				t.Error("a key with the error")
			}
			return
		}
		if again := encodeFile(k); !bytes.Equal(again, text) {
			t.Errorf("encoded again: %q, was %q", again, text)
		}
	})
}

// The keys of wraps are those of HKDF as crypto/hkdf has it.
func TestScheduleIsHKDF(t *testing.T) {
	for i := range 100 {
		k := testKey(t, byte(i))
		salt := bytes.Repeat([]byte{byte(i * 31)}, saltSize)
		want, err := hkdf.Key(sha256.New, k.secret[:], salt, infoWrap, 64)
		if err != nil {
			t.Fatal(err)
		}
		first, second := k.schedule(salt)
		if !bytes.Equal(first[:], want[:32]) || !bytes.Equal(second[:], want[32:]) {
			t.Fatalf("%x %x, want %x", first, second, want)
		}
	}
}

func FuzzUnwrap(f *testing.F) {
	k := testKey(f, 1)
	wrapped, err := k.Wrap([]byte("secret"), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wrapped)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := k.Unwrap(b, nil); err != nil && got != nil {
			t.Error("a plaintext with the error")
		}
	})
}

func BenchmarkWrap(b *testing.B) {
	k := testKey(b, 1)
	plaintext := make([]byte, 32)
	for b.Loop() {
		if _, err := k.Wrap(plaintext, plaintext); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnwrap(b *testing.B) {
	k := testKey(b, 1)
	plaintext := make([]byte, 32)
	wrapped, err := k.Wrap(plaintext, plaintext)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Unwrap(wrapped, plaintext); err != nil {
			b.Fatal(err)
		}
	}
}

func TestIDOf(t *testing.T) {
	k, err := newSoftware(bytes.Repeat([]byte{7}, SecretSize))
	if err != nil {
		t.Fatal(err)
	}
	if id, err := IDOf(bytes.Repeat([]byte{7}, SecretSize)); err != nil || id != k.ID() {
		t.Errorf("%q, %v, want %q", id, err, k.ID())
	}
	for _, size := range []int{0, SecretSize - 1, SecretSize + 1} {
		if id, err := IDOf(make([]byte, size)); err == nil || id != "" {
			t.Errorf("%d bytes: %q, %v", size, id, err)
		}
	}
}
