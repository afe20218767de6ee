// SPDX-License-Identifier: Apache-2.0

package rootkey

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/cretula/cretula/internal/durable"
)

// SecretSize is the length in bytes of the secret that a [Holder] seals.
const SecretSize = keySize

// MaxSealed is the most bytes that a [Holder] may make of a secret.
const MaxSealed = 2048

// KindPlain is the kind of a file that no holder seals: that of [CreateFile].
const KindPlain = "plain"

var (
	// ErrKind: the file is kept by another kind of holder than the one given.
	ErrKind = errors.New("rootkey: kept by another kind of holder")
	// ErrNotOpened: the holder does not open these bytes. It is not the one
	// that sealed them (another passphrase, TPM or HSM key), or they were
	// changed. Where a holder knows more it says so with an error of its own
	// that matches this one too.
	ErrNotOpened = errors.New("rootkey: sealed for another holder, or changed")
	// ErrUnavailable: the holder could not be asked. The file may be as good
	// as ever.
	ErrUnavailable = errors.New("rootkey: holder not available")
	// ErrCheck: the holder opened the secret, but the file around it is not
	// the one that was written for it.
	ErrCheck = errors.New("rootkey: the file was changed")
)

// A Holder keeps the secret of a root key outside this process: it seals it
// into bytes that only the same holder opens. It is safe for concurrent use.
type Holder interface {
	// Kind names the sort of holder: 1 to 32 lower-case letters and digits,
	// not [KindPlain].
	Kind() string
	// Seal seals [SecretSize] bytes into at most [MaxSealed]. It does not
	// change secret nor keep it.
	Seal(ctx context.Context, secret []byte) ([]byte, error)
	// Open returns what was given to Seal, for the caller to overwrite. The
	// error matches [ErrNotOpened] or [ErrUnavailable].
	Open(ctx context.Context, sealed []byte) ([]byte, error)
}

// An Info is what a root key file says about itself. Nothing of it is proven
// before the file is opened.
type Info struct {
	ID   string // as [Key.ID]
	Kind string // of the holder, or [KindPlain]
}

// ReadInfo reads the kind of holder that opens the file at path. Its errors
// are those of [OpenFile].
func ReadInfo(path string) (Info, error) {
	text, err := readFile(path, maxHeld)
	if err != nil {
		return Info{}, err
	}
	defer clear(text)
	if bytes.HasPrefix(text, []byte(fileHeader+"\n")) {
		k, err := decodeFile(text)
		if err != nil {
			return Info{}, fmt.Errorf("%s: %w", path, err)
		}
		return Info{ID: k.ID(), Kind: KindPlain}, nil
	}
	h, err := decodeHeld(text)
	if err != nil {
		return Info{}, fmt.Errorf("%s: %w", path, err)
	}
	return Info{ID: h.id, Kind: h.kind}, nil
}

// CreateHeld is [CreateFile] for a root key that holder seals. The file is
// written only after the holder has opened again what it sealed.
func CreateHeld(ctx context.Context, path string, holder Holder) (Key, error) {
	if err := durable.MkdirAll(filepath.Dir(path)); err != nil {
		return nil, err
	}
	secret := make([]byte, keySize)
	defer clear(secret)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	k, err := newSoftware(secret)
	if err != nil {
		return nil, err
	}
	text, err := seal(ctx, k, holder)
	if err != nil {
		return nil, err
	}
	if err := durable.CreateFile(path, text); err != nil {
		return nil, err
	}
	return k, nil
}

// OpenHeld reads the root key that [CreateHeld], [Rewrap] or [Hold] wrote to
// the file at path and has holder open it. The error matches one of those of
// [OpenFile], or [ErrKind], [ErrNotOpened], [ErrUnavailable], [ErrCheck].
func OpenHeld(ctx context.Context, path string, holder Holder) (Key, error) {
	text, err := readFile(path, maxHeld)
	if err != nil {
		return nil, err
	}
	k, err := open(ctx, text, holder)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// Rewrap has from open the file at path and replaces it by one that to seals.
// The root key stays the same, so a service that has it open goes on. The file
// is replaced only after to has opened again what it sealed; after a crash
// there is the old file or the new one. A copy of the old file that somebody
// has can still be opened by from. The errors are those of [OpenHeld].
func Rewrap(ctx context.Context, path string, from, to Holder) error {
	k, err := OpenHeld(ctx, path, from)
	if err != nil {
		return err
	}
	return replace(ctx, path, k, to)
}

// Hold is [Rewrap] for a file of [CreateFile]. The secret may stay readable in
// blocks of the disk that the old file had; there is no way back to a plain
// file.
func Hold(ctx context.Context, path string, to Holder) error {
	k, err := OpenFile(path)
	if err != nil {
		return err
	}
	return replace(ctx, path, k, to)
}

func replace(ctx context.Context, path string, k Key, to Holder) error {
	software, ok := k.(*software)
	if !ok {
		return fmt.Errorf("rootkey: a %T cannot be sealed", k)
	}
	text, err := seal(ctx, software, to)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, text)
}

// A held root key file is five lines, each ended by a line feed: this one,
// "id: " with the fingerprint, "kind: " with the kind of the holder, "sealed: "
// with what the holder made of the secret and "check: " with the HMAC-SHA256 of
// the four lines before it, both in standard base64. The HMAC's key is derived
// from the secret, so only who has it makes a file that is accepted.
const heldHeader = "cretula held root key 1"

// maxHeld is more than a held root key file can have.
const maxHeld = 4096

// infoCheck derives the key of the check value, see [infoID].
const infoCheck = "cretula/rootkey/1/held"

// A held is the content of a held root key file.
type held struct {
	id, kind      string
	sealed, check []byte
}

// seal returns the file for k, which holder has opened again.
func seal(ctx context.Context, k *software, holder Holder) ([]byte, error) {
	h := held{id: k.ID(), kind: holder.Kind()}
	if !validKind(h.kind) {
		return nil, fmt.Errorf("rootkey: %q cannot be the kind of a holder", h.kind)
	}
	secret := bytes.Clone(k.secret[:])
	defer clear(secret)
	var err error
	if h.sealed, err = holder.Seal(ctx, secret); err != nil {
		return nil, err
	}
	if len(h.sealed) == 0 || len(h.sealed) > MaxSealed {
		return nil, fmt.Errorf("rootkey: the holder made %d bytes, must be 1 to %d", len(h.sealed), MaxSealed)
	}
	if h.check, err = checkValue(k, h); err != nil {
		return nil, err
	}
	text := h.encode()
	if _, err := open(ctx, text, holder); err != nil {
		return nil, fmt.Errorf("rootkey: the holder does not open what it has just sealed: %w", err)
	}
	return text, nil
}

// open has holder open the file of the given content.
func open(ctx context.Context, text []byte, holder Holder) (*software, error) {
	h, err := decodeHeld(text)
	if err != nil {
		return nil, err
	}
	if h.kind != holder.Kind() {
		return nil, fmt.Errorf("%w: %q, not %q", ErrKind, h.kind, holder.Kind())
	}
	secret, err := holder.Open(ctx, h.sealed)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	if len(secret) != SecretSize {
		return nil, fmt.Errorf("%w: %d bytes came out", ErrNotOpened, len(secret))
	}
	k, err := newSoftware(secret)
	if err != nil {
		return nil, err
	}
	check, err := checkValue(k, h)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(check, h.check) || h.id != k.ID() {
		return nil, ErrCheck
	}
	return k, nil
}

func checkValue(k *software, h held) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, k.secret[:], nil, infoCheck, sha256.Size)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	mac := hmac.New(sha256.New, key)
	mac.Write(h.checked())
	return mac.Sum(nil), nil
}

// checked returns the lines that the check value is over.
func (h held) checked() []byte {
	return fmt.Appendf(nil, "%s\nid: %s\nkind: %s\nsealed: %s\n",
		heldHeader, h.id, h.kind, base64.StdEncoding.EncodeToString(h.sealed))
}

func (h held) encode() []byte {
	return fmt.Appendf(h.checked(), "check: %s\n", base64.StdEncoding.EncodeToString(h.check))
}

// decodeHeld accepts exactly what encode writes.
func decodeHeld(text []byte) (held, error) {
	if len(text) > maxHeld {
		return held{}, fmt.Errorf("%w: longer than %d bytes", ErrFile, maxHeld)
	}
	lines := strings.Split(string(text), "\n")
	if lines[0] != heldHeader {
		return held{}, fmt.Errorf("%w: the first line is not %q", ErrFile, heldHeader)
	}
	if len(lines) != 6 {
		return held{}, fmt.Errorf("%w: want five lines", ErrFile)
	}
	h := held{id: strings.TrimPrefix(lines[1], "id: "), kind: strings.TrimPrefix(lines[2], "kind: ")}
	var err, err2 error
	h.sealed, err = base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(lines[3], "sealed: "))
	h.check, err2 = base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(lines[4], "check: "))
	if err != nil || err2 != nil {
		return held{}, fmt.Errorf("%w: not base64", ErrFile)
	}
	if !validID(h.id) || !validKind(h.kind) || len(h.sealed) == 0 || len(h.sealed) > MaxSealed ||
		len(h.check) != sha256.Size || !bytes.Equal(h.encode(), text) {
		return held{}, fmt.Errorf("%w: id, kind, sealed and check are not as they are written", ErrFile)
	}
	return h, nil
}

func validID(id string) bool {
	return len(id) == 2*idSize && strings.Trim(id, "0123456789abcdef") == ""
}

func validKind(kind string) bool {
	return kind != "" && len(kind) <= 32 && kind != KindPlain &&
		strings.Trim(kind, "0123456789abcdefghijklmnopqrstuvwxyz") == ""
}

// readFile reads a private file in a private folder, at most one byte more
// than limit.
func readFile(path string, limit int64) ([]byte, error) {
	if err := durable.CheckPrivate(filepath.Dir(path)); err != nil {
		return nil, err
	}
	f, err := durable.OpenPrivate(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit+1))
}
