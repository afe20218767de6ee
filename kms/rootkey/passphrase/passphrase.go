// SPDX-License-Identifier: Apache-2.0

// Package passphrase seals a root key with a passphrase.
//
// The key that seals is made by Argon2id (RFC 9106) with the second of the
// parameter sets that §4 recommends: 3 passes over 64 MiB in 4 lanes, a salt of
// 16 random bytes. Whoever has the file can try passphrases, each at that
// price; nothing counts the tries. A passphrase that is not guessed protects the
// file, its backups and the disk. It does not protect from who sees it typed,
// reads where it is kept, or reads the memory of the service.
//
// What is sealed has these bytes:
//
//	offset  length
//	0       1       version, 1
//	1       4       passes, big-endian, 3 to 16
//	5       4       memory in KiB, big-endian, 65536 to 262144
//	9       1       lanes, 1 to 16
//	10      16      salt
//	26      48      AES-256-GCM of the secret, with its tag of 16 bytes
//
// Argon2id gives 44 bytes: the key and the nonce of AES-256-GCM, which therefore
// serve once. The first 26 bytes are the additional data.
package passphrase

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cretula/cretula/kms/rootkey"
	"golang.org/x/crypto/argon2"
)

// Limits of a passphrase in bytes. The lower one is that of NIST SP 800-63B-4
// §3.1.1.2 for a password that stands alone.
const (
	MinSize = 15
	MaxSize = 1024
)

var (
	// ErrSize: the passphrase is shorter than [MinSize] or longer than [MaxSize].
	ErrSize = fmt.Errorf("passphrase: must have %d to %d bytes", MinSize, MaxSize)
	// ErrClosed: the holder was closed.
	ErrClosed = errors.New("passphrase: holder is closed")
)

const (
	version   = 1
	saltSize  = 16
	keySize   = 32
	nonceSize = 12
	tagSize   = 16

	headerSize = 10 + saltSize
	sealedSize = headerSize + rootkey.SecretSize + tagSize
)

// cost is what Argon2id is asked for.
type cost struct {
	passes, memory uint32 // memory in KiB
	lanes          uint8
}

// A file may ask for no less passes and memory than are written, and for no more
// than a small machine can give.
var (
	price    = cost{passes: 3, memory: 64 << 10, lanes: 4}
	maxPrice = cost{passes: 16, memory: 256 << 10, lanes: 16}
)

// A Holder seals with one passphrase. It implements [rootkey.Holder].
type Holder struct {
	mu         sync.Mutex // also: the memory of Argon2id is taken once
	passphrase []byte     // nil when closed
	price      cost       // of what is sealed, and the least that is opened
}

var _ rootkey.Holder = (*Holder)(nil)

// New returns the holder of a passphrase, whose bytes count as they are: no
// Unicode form is made the same as another. The slice belongs to the holder,
// which overwrites it in [Holder.Close], or at once if New fails with [ErrSize].
func New(passphrase []byte) (*Holder, error) {
	if len(passphrase) < MinSize || len(passphrase) > MaxSize {
		clear(passphrase)
		return nil, ErrSize
	}
	return &Holder{passphrase: passphrase, price: price}, nil
}

// Read reads a passphrase up to the end of r: a file, a descriptor, a terminal.
// One line end (LF or CR LF) at its end is no part of it. The error matches
// [ErrSize] if it is too long; too short is refused by [New].
func Read(r io.Reader) ([]byte, error) {
	// One array from the start: growing it would leave copies behind.
	buf := make([]byte, MaxSize+len("\r\n")+1)
	n, err := io.ReadFull(r, buf)
	if err == nil {
		err = ErrSize
	} else if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	text := buf[:n]
	if n > 0 && text[n-1] == '\n' {
		text = text[:n-1]
		if n > 1 && text[n-2] == '\r' {
			text = text[:n-2]
		}
	}
	if err == nil && len(text) > MaxSize {
		err = ErrSize
	}
	if err != nil {
		clear(buf)
		return nil, err
	}
	return text, nil
}

// Close overwrites the passphrase. What uses the holder after that fails with
// [ErrClosed].
func (h *Holder) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.passphrase)
	h.passphrase = nil
	return nil
}

// String keeps the passphrase out of logs.
func (h *Holder) String() string { return "passphrase holder" }

// GoString keeps the passphrase out of logs.
func (h *Holder) GoString() string { return h.String() }

// Format keeps the passphrase out of logs, whatever the verb.
func (h *Holder) Format(f fmt.State, _ rune) { fmt.Fprint(f, h.String()) }

// Kind implements [rootkey.Holder]: "passphrase".
func (h *Holder) Kind() string { return "passphrase" }

// Seal implements [rootkey.Holder].
func (h *Holder) Seal(ctx context.Context, secret []byte) ([]byte, error) {
	if len(secret) != rootkey.SecretSize {
		return nil, fmt.Errorf("passphrase: secret of %d bytes, want %d", len(secret), rootkey.SecretSize)
	}
	header := make([]byte, headerSize, sealedSize)
	header[0] = version
	binary.BigEndian.PutUint32(header[1:], h.price.passes)
	binary.BigEndian.PutUint32(header[5:], h.price.memory)
	header[9] = h.price.lanes
	if _, err := rand.Read(header[10:]); err != nil {
		return nil, err
	}
	aead, nonce, err := h.aead(ctx, header)
	if err != nil {
		return nil, err
	}
	return aead.Seal(header, nonce, secret, header), nil
}

// Open implements [rootkey.Holder].
func (h *Holder) Open(ctx context.Context, sealed []byte) ([]byte, error) {
	if _, err := decode(sealed, h.price); err != nil {
		return nil, err
	}
	header := sealed[:headerSize]
	aead, nonce, err := h.aead(ctx, header)
	if err != nil {
		return nil, err
	}
	secret, err := aead.Open(nil, nonce, sealed[headerSize:], header)
	if err != nil {
		return nil, fmt.Errorf("%w: not this passphrase", rootkey.ErrNotOpened)
	}
	return secret, nil
}

// decode checks all that can be checked without the passphrase, before any
// memory is taken.
func decode(sealed []byte, least cost) (cost, error) {
	if len(sealed) != sealedSize || sealed[0] != version {
		return cost{}, fmt.Errorf("%w: not sealed by a passphrase of version %d", rootkey.ErrNotOpened, version)
	}
	c := costOf(sealed)
	if c.passes < least.passes || c.passes > maxPrice.passes || c.memory < least.memory ||
		c.memory > maxPrice.memory || c.lanes < 1 || c.lanes > maxPrice.lanes {
		return cost{}, fmt.Errorf("%w: the price of Argon2id, %d passes over %d KiB in %d lanes, is out of bounds",
			rootkey.ErrNotOpened, c.passes, c.memory, c.lanes)
	}
	return c, nil
}

func costOf(header []byte) cost {
	return cost{
		passes: binary.BigEndian.Uint32(header[1:]), memory: binary.BigEndian.Uint32(header[5:]), lanes: header[9],
	}
}

// aead returns the cipher and the nonce of a header.
func (h *Holder) aead(ctx context.Context, header []byte) (cipher.AEAD, []byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.passphrase == nil {
		return nil, nil, ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	c := costOf(header)
	okm := argon2.IDKey(h.passphrase, header[10:headerSize], c.passes, c.memory, c.lanes, keySize+nonceSize)
	defer clear(okm[:keySize])
	block, err := aes.NewCipher(okm[:keySize])
	if err != nil {
		return nil, nil, err
	}
	aead, err := cipher.NewGCM(block)
	return aead, okm[keySize:], err
}
