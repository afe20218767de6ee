// SPDX-License-Identifier: Apache-2.0

package rootkey

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cretula/cretula/internal/durable"
)

// A pad is a holder that keeps nothing secret. It checks nothing, so that what
// is refused over it is refused by this package.
type pad struct {
	kind    string
	mask    byte
	openErr error
}

func (p pad) Kind() string { return p.kind }

func (p pad) Seal(_ context.Context, secret []byte) ([]byte, error) {
	return p.Open(context.Background(), secret)
}

func (p pad) Open(_ context.Context, sealed []byte) ([]byte, error) {
	out := bytes.Clone(sealed)
	for i := range out {
		out[i] ^= p.mask
	}
	return out, p.openErr
}

func createHeld(t testing.TB, holder Holder) (path string, k Key) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "keys", "root.key")
	k, err := CreateHeld(t.Context(), path, holder)
	if err != nil {
		t.Fatal(err)
	}
	return path, k
}

func readAll(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestHeld(t *testing.T) {
	one, two := pad{kind: "one", mask: 1}, pad{kind: "two", mask: 2}
	path, made := createHeld(t, one)
	wrapped, err := made.Wrap([]byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	opens := func(holder Holder) {
		t.Helper()
		k, err := OpenHeld(t.Context(), path, holder)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.Unwrap(wrapped, nil); err != nil || string(got) != "secret" || k.ID() != made.ID() {
			t.Errorf("the key from the file: %q, %v, id %s, want %s", got, err, k.ID(), made.ID())
		}
		if info, err := ReadInfo(path); err != nil || info != (Info{ID: made.ID(), Kind: holder.Kind()}) {
			t.Errorf("info %+v, %v", info, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != durable.FileMode {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
	opens(one)
	if k, err := OpenHeld(t.Context(), path, two); !errors.Is(err, ErrKind) || k != nil {
		t.Errorf("another kind: %v, %v, want ErrKind", k, err)
	}
	if k, err := OpenHeld(t.Context(), path, pad{kind: "one", mask: 3}); !errors.Is(err, ErrCheck) || k != nil {
		t.Errorf("other bytes came out: %v, %v, want ErrCheck", k, err)
	}
	before := readAll(t, path)
	if k, err := CreateHeld(t.Context(), path, one); !errors.Is(err, fs.ErrExist) || k != nil {
		t.Errorf("second CreateHeld: %v, %v, want ErrExist", k, err)
	}
	if err := Rewrap(t.Context(), path, two, one); !errors.Is(err, ErrKind) {
		t.Errorf("Rewrap from another kind: %v, want ErrKind", err)
	}
	if !bytes.Equal(readAll(t, path), before) {
		t.Error("what was refused changed the file")
	}
	if err := Rewrap(t.Context(), path, one, two); err != nil {
		t.Fatal(err)
	}
	opens(two)
	if _, err := OpenFile(path); !errors.Is(err, ErrFile) {
		t.Errorf("OpenFile of a held file: %v, want ErrFile", err)
	}
}

func TestHold(t *testing.T) {
	one := pad{kind: "one", mask: 1}
	path := filepath.Join(t.TempDir(), "keys", "root.key")
	made, err := CreateFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := ReadInfo(path); err != nil || info != (Info{ID: made.ID(), Kind: KindPlain}) {
		t.Errorf("info %+v, %v", info, err)
	}
	if k, err := OpenHeld(t.Context(), path, one); !errors.Is(err, ErrFile) || k != nil {
		t.Errorf("OpenHeld of a plain file: %v, %v, want ErrFile", k, err)
	}
	if err := Hold(t.Context(), path, one); err != nil {
		t.Fatal(err)
	}
	if k, err := OpenHeld(t.Context(), path, one); err != nil || k.ID() != made.ID() {
		t.Errorf("after Hold: %v, %v", k, err)
	}
	if secret := base64.StdEncoding.EncodeToString(made.(*software).secret[:]); bytes.Contains(readAll(t, path), []byte(secret)) {
		t.Error("the secret is in the file")
	}
	if err := Hold(t.Context(), path, one); !errors.Is(err, ErrFile) {
		t.Errorf("Hold of a held file: %v, want ErrFile", err)
	}
}

// TestBadHolder makes sure that no file is written or replaced for a holder
// that would not open it.
func TestBadHolder(t *testing.T) {
	good := pad{kind: "one", mask: 1}
	broken := errors.New("broken")
	for name, bad := range map[string]Holder{
		"does not open":  pad{kind: "two", openErr: broken},
		"no kind":        pad{},
		"plain":          pad{kind: KindPlain},
		"upper case":     pad{kind: "TPM"},
		"line feed":      pad{kind: "a\nb"},
		"long kind":      pad{kind: strings.Repeat("a", 33)},
		"opens another":  blind{},
		"seals nothing":  empty{},
		"seals too much": empty{size: MaxSealed + 1},
	} {
		path := filepath.Join(t.TempDir(), "keys", "root.key")
		if k, err := CreateHeld(t.Context(), path, bad); err == nil || k != nil {
			t.Errorf("%s: CreateHeld: %v, %v", name, k, err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a file was made (%v)", name, err)
		}
		path, _ = createHeld(t, good)
		before := readAll(t, path)
		if err := Rewrap(t.Context(), path, good, bad); err == nil {
			t.Errorf("%s: Rewrap succeeded", name)
		}
		if !bytes.Equal(readAll(t, path), before) {
			t.Errorf("%s: Rewrap changed the file", name)
		}
	}
}

// blind is a holder that opens everything to zeros.
type blind struct{ pad }

func (blind) Kind() string { return "blind" }

func (blind) Open(context.Context, []byte) ([]byte, error) { return make([]byte, SecretSize), nil }

// empty is a holder that seals into zeros.
type empty struct {
	pad
	size int
}

func (empty) Kind() string { return "empty" }

func (e empty) Seal(context.Context, []byte) ([]byte, error) { return make([]byte, e.size), nil }

func TestHeldPermissions(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("permission bits mean nothing on Windows")
	}
	one := pad{kind: "one"}
	path, _ := createHeld(t, one)
	refused := func(what string) {
		t.Helper()
		if k, err := OpenHeld(t.Context(), path, one); !errors.Is(err, durable.ErrNotPrivate) || k != nil {
			t.Errorf("%s: OpenHeld: %v, %v, want ErrNotPrivate", what, k, err)
		}
		if err := Rewrap(t.Context(), path, one, one); !errors.Is(err, durable.ErrNotPrivate) {
			t.Errorf("%s: Rewrap: %v, want ErrNotPrivate", what, err)
		}
		if _, err := ReadInfo(path); !errors.Is(err, durable.ErrNotPrivate) {
			t.Errorf("%s: ReadInfo: %v, want ErrNotPrivate", what, err)
		}
	}
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o660, 0o610} {
		os.Chmod(path, mode)
		refused(mode.String())
	}
	os.Chmod(path, 0o600)
	os.Chmod(filepath.Dir(path), 0o711)
	refused("folder 0711")
}

// TestHeldChanged changes every byte of a file. The holder notices nothing.
func TestHeldChanged(t *testing.T) {
	one := pad{kind: "one", mask: 1}
	path, _ := createHeld(t, one)
	good := readAll(t, path)
	refused := func(what string, text []byte) {
		t.Helper()
		if k, err := open(t.Context(), text, one); k != nil ||
			!errors.Is(err, ErrFile) && !errors.Is(err, ErrKind) && !errors.Is(err, ErrCheck) && !errors.Is(err, ErrNotOpened) {
			t.Errorf("%s: %v, %v", what, k, err)
		}
	}
	for i := range good {
		for bit := range 8 {
			changed := bytes.Clone(good)
			changed[i] ^= 1 << bit
			refused(string(changed), changed)
		}
		refused("cut", good[:i])
	}
	for name, text := range map[string]string{
		"more":            string(good) + "\n",
		"carriage return": strings.ReplaceAll(string(good), "\n", "\r\n"),
		"other version":   strings.Replace(string(good), "key 1", "key 2", 1),
		"space":           strings.Replace(string(good), "id: ", "id:  ", 1),
		"no names":        strings.NewReplacer("id: ", "", "check: ", "").Replace(string(good)),
		"nothing sealed":  heldHeader + "\nid: 0011223344556677\nkind: one\nsealed: \ncheck: " + strings.Repeat("A", 43) + "=\n",
		"huge":            string(good) + strings.Repeat("x", 1<<20),
		"empty":           "",
	} {
		refused(name, []byte(text))
	}
	k, err := open(t.Context(), good, one)
	if err != nil {
		t.Fatal(err)
	}
	// The id and the sealed secret of one key with the check value of another.
	other := testKey(t, 9)
	h, err := decodeHeld(good)
	if err != nil {
		t.Fatal(err)
	}
	h.check, _ = checkValue(other, h)
	refused("check value of another key", h.encode())
	// Who has the secret can still not give the file another id.
	h.id = other.ID()
	h.check, _ = checkValue(k, h)
	refused("id of another key", h.encode())
}

// TestHeldFormat holds what is on disks to what it always was.
func TestHeldFormat(t *testing.T) {
	k := testKey(t, 7)
	h := held{id: k.ID(), kind: "one", sealed: bytes.Repeat([]byte{6}, SecretSize)}
	check, err := checkValue(k, h)
	if err != nil {
		t.Fatal(err)
	}
	key := hkdfByHand(bytes.Repeat([]byte{7}, 32), nil, "cretula/rootkey/1/held", 32)
	above := "cretula held root key 1\nid: " + k.ID() + "\nkind: one\nsealed: BgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgY=\n"
	if want := hmacByHand(key, above); !bytes.Equal(check, want) {
		t.Errorf("check value %x, want %x", check, want)
	}
	text := above + "check: " + base64.StdEncoding.EncodeToString(check) + "\n"
	if got, err := open(t.Context(), []byte(text), pad{kind: "one", mask: 1}); err != nil || got.ID() != k.ID() {
		t.Errorf("open: %v, %v", got, err)
	}
}

func FuzzDecodeHeld(f *testing.F) {
	path, _ := createHeld(f, pad{kind: "one", mask: 1})
	good := readAll(f, path)
	if _, err := decodeHeld(good); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(heldHeader + "\nid: \nkind: \nsealed: \ncheck: \n"))
	f.Add(bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")))
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := decodeHeld(text)
		if err != nil {
			if !errors.Is(err, ErrFile) || h.sealed != nil {
				t.Errorf("%v, %+v", err, h)
			}
			return
		}
		if again := h.encode(); !bytes.Equal(again, text) {
			t.Errorf("encoded again: %q, was %q", again, text)
		}
	})
}
