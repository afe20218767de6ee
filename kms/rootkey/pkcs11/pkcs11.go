// SPDX-License-Identifier: Apache-2.0

// Package pkcs11 seals a root key with an AES-256 key in an HSM that is reached
// over PKCS#11 (version 2.40).
//
// The key in the token is sensitive and was never extractable: it seals and
// opens there, and cannot be copied from it. The file therefore opens only with
// that token, or one that the HSM's maker has given the same key, and with its
// PIN. It protects the file, its backups and the machine's disk; whoever has
// the PIN and reaches the HSM opens it. The secret is in the memory of this
// process while it is sealed or opened, and the HSM's library may keep copies,
// of the PIN too, that nobody overwrites.
//
// What is sealed has these bytes:
//
//	offset  length
//	0       1       version, 1
//	1       12      initialization vector
//	13      48      AES-256-GCM (CKM_AES_GCM) of the secret, with its tag of 16
//	                bytes and the additional data "cretula/rootkey/1/pkcs11"
//
// The package calls C and is only built with the tag pkcs11. Without it, [New]
// returns [ErrNotBuilt].
package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/cretula/cretula/kms/rootkey"
)

var (
	// ErrNotBuilt: this program was built without the tag pkcs11, or without C.
	ErrNotBuilt = fmt.Errorf("%w: pkcs11: not built into this program (build tag pkcs11)", rootkey.ErrUnavailable)
	// ErrModule: the library of the HSM cannot be loaded or started.
	ErrModule = fmt.Errorf("%w: pkcs11: the library of the HSM does not work", rootkey.ErrUnavailable)
	// ErrNoToken: there is no such token, or more than one.
	ErrNoToken = fmt.Errorf("%w: pkcs11: no such token", rootkey.ErrUnavailable)
	// ErrPIN: the token does not take the PIN.
	ErrPIN = fmt.Errorf("%w: pkcs11: wrong PIN", rootkey.ErrUnavailable)
	// ErrPINLocked: the token takes no PIN any more until its security officer
	// sets a new one.
	ErrPINLocked = fmt.Errorf("%w: pkcs11: the PIN is locked", rootkey.ErrUnavailable)
	// ErrNoKey: the token has no AES key of this label, or more than one.
	ErrNoKey = fmt.Errorf("%w: pkcs11: no such key in the token", rootkey.ErrUnavailable)
	// ErrKeyExists: CreateKey found a key of this label.
	ErrKeyExists = errors.New("pkcs11: the token has a key of this label")
	// ErrWeakKey: the key is not one that has always been in the token.
	ErrWeakKey = fmt.Errorf("%w: pkcs11: the key can be or could once be read", rootkey.ErrUnavailable)
	// ErrNoGCM: the token does not have CKM_AES_GCM. There is no other way.
	ErrNoGCM = fmt.Errorf("%w: pkcs11: the token has no AES-GCM", rootkey.ErrUnavailable)
	// ErrClosed: the holder was closed.
	ErrClosed = errors.New("pkcs11: holder is closed")
)

// A Config says which key seals.
type Config struct {
	// Module is the absolute path of the HSM's library. It runs in this
	// process and can do whatever it can.
	Module string
	// TokenLabel and TokenSerial find the token; one may be empty.
	TokenLabel, TokenSerial string
	// KeyLabel is the CKA_LABEL of the key.
	KeyLabel string
	// PIN is that of the normal user. It belongs to the holder, which
	// overwrites it in [Holder.Close], or at once if New fails.
	PIN []byte
}

// A Holder seals with one key of a token. It implements [rootkey.Holder]. Each
// operation logs in and out; in one process one runs at a time. A call into the
// HSM's library cannot be interrupted: a context counts before it.
type Holder struct {
	config Config // PIN nil when closed
}

var _ rootkey.Holder = (*Holder)(nil)

// turn holds a token while a library is used: a login is one for the whole
// process (PKCS#11 §2.6.8).
var turn = make(chan struct{}, 1)

const maxLabel = 255 // bytes of labels and of the PIN

// New returns a holder. The HSM is asked for nothing yet. The error matches
// [ErrNotBuilt] or says what is wrong with c.
func New(c Config) (*Holder, error) {
	err := check(c)
	if err != nil {
		clear(c.PIN)
		return nil, err
	}
	return &Holder{config: c}, nil
}

func check(c Config) error {
	switch {
	case !built:
		return ErrNotBuilt
	case !filepath.IsAbs(c.Module):
		return fmt.Errorf("pkcs11: the library must be an absolute path, not %q", c.Module)
	case c.TokenLabel == "" && c.TokenSerial == "":
		return errors.New("pkcs11: the token's label or serial number is missing")
	case c.KeyLabel == "" || len(c.KeyLabel) > maxLabel:
		return fmt.Errorf("pkcs11: the key's label must have 1 to %d bytes", maxLabel)
	case len(c.PIN) == 0 || len(c.PIN) > maxLabel:
		return fmt.Errorf("pkcs11: the PIN must have 1 to %d bytes", maxLabel)
	}
	return nil
}

// begin waits for the turn; the function that it returns ends it.
func (h *Holder) begin(ctx context.Context) (end func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if h.config.PIN == nil {
		<-turn
		return nil, ErrClosed
	}
	return func() { <-turn }, nil
}

// Close overwrites the PIN. What uses the holder after that fails with
// [ErrClosed].
func (h *Holder) Close() error {
	turn <- struct{}{}
	defer func() { <-turn }()
	clear(h.config.PIN)
	h.config.PIN = nil
	return nil
}

// String keeps the PIN out of logs.
func (h *Holder) String() string { return "PKCS#11 holder" }

// GoString keeps the PIN out of logs.
func (h *Holder) GoString() string { return h.String() }

// Format keeps the PIN out of logs, whatever the verb.
func (h *Holder) Format(f fmt.State, _ rune) { fmt.Fprint(f, h.String()) }

// Kind implements [rootkey.Holder]: "pkcs11".
func (h *Holder) Kind() string { return "pkcs11" }

// CreateKey makes the key in the token: AES-256, sensitive, not extractable,
// not modifiable, to encrypt and decrypt. The error matches [ErrKeyExists] if
// there is an AES key of the label.
func (h *Holder) CreateKey(ctx context.Context) error {
	end, err := h.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	return h.createKey()
}

// Seal implements [rootkey.Holder]. Its errors are those of Open but
// [rootkey.ErrNotOpened].
func (h *Holder) Seal(ctx context.Context, secret []byte) ([]byte, error) {
	if len(secret) != rootkey.SecretSize {
		return nil, fmt.Errorf("pkcs11: secret of %d bytes, want %d", len(secret), rootkey.SecretSize)
	}
	end, err := h.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	return h.seal(secret)
}

// Open implements [rootkey.Holder]. The error can also match [ErrModule],
// [ErrNoToken], [ErrPIN], [ErrPINLocked], [ErrNoKey], [ErrWeakKey] or [ErrNoGCM].
func (h *Holder) Open(ctx context.Context, sealed []byte) ([]byte, error) {
	iv, ciphertext, err := decode(sealed)
	if err != nil {
		return nil, err
	}
	end, err := h.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	return h.open(iv, ciphertext)
}

const (
	version = 1
	ivSize  = 12
	tagSize = 16
)

func encode(iv, ciphertext []byte) ([]byte, error) {
	if len(iv) != ivSize || len(ciphertext) != rootkey.SecretSize+tagSize {
		return nil, fmt.Errorf("pkcs11: the token made a vector of %d bytes and a ciphertext of %d", len(iv), len(ciphertext))
	}
	return append(append([]byte{version}, iv...), ciphertext...), nil
}

func decode(sealed []byte) (iv, ciphertext []byte, err error) {
	if len(sealed) != 1+ivSize+rootkey.SecretSize+tagSize || sealed[0] != version {
		return nil, nil, fmt.Errorf("%w: not sealed by a PKCS#11 token in version %d", rootkey.ErrNotOpened, version)
	}
	return sealed[1 : 1+ivSize], sealed[1+ivSize:], nil
}
