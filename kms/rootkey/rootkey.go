// SPDX-License-Identifier: Apache-2.0

// Package rootkey has the key above all others of a key service: it wraps the
// key material in the store and is the source of the keys that bind the
// store's rows. [Key] is what the service needs of it.
//
// The key is 256 random bits in the memory of the service. What differs is how
// they are kept while it does not run:
//
//   - [CreateFile] and [OpenFile]: in a file, as they are. Who reads the file,
//     a backup or the disk has the key.
//   - [CreateHeld] and [OpenHeld]: in a file that a [Holder] has sealed, which
//     is needed to open it: a passphrase (package passphrase, also for systemd
//     credentials), the TPM of the machine (package tpm), an HSM (package
//     pkcs11), a key in AWS KMS (package awskms). [Rewrap] goes from one
//     holder to another, [Hold] from a plain file to a holder, while the
//     service runs.
//
// No holder protects the key from who reads the memory of the service, or from
// root on a machine where the service can start without anybody's help. Who can
// write the file can put a root key of his own into it only if he can use the
// holder too, and the store of the service is then not accepted.
package rootkey

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/cretula/cretula/internal/hmac256"
)

// Limits of the arguments of a [Key].
const (
	MaxPlaintext = 1 << 16 // bytes that Wrap takes
	MaxLabel     = 255     // bytes of a label of Derive
)

// DerivedSize is the length in bytes of what [Key.Derive] returns.
const DerivedSize = 32

var (
	// ErrOtherKey: the wrapped bytes name another root key.
	ErrOtherKey = errors.New("rootkey: wrapped by another root key")
	// ErrUnwrap: the wrapped bytes or their additional data are not what Wrap
	// made. It does not say which.
	ErrUnwrap = errors.New("rootkey: wrapped bytes were changed or belong elsewhere")
)

// A Key is a root key. It is safe for concurrent use.
type Key interface {
	// Wrap encrypts plaintext, at most [MaxPlaintext] bytes, and binds it to
	// aad, which Unwrap must be given again. The same plaintext gives another
	// result each time.
	Wrap(plaintext, aad []byte) ([]byte, error)
	// Unwrap returns the plaintext. The error matches [ErrOtherKey] or
	// [ErrUnwrap].
	Unwrap(wrapped, aad []byte) ([]byte, error)
	// Derive returns [DerivedSize] bytes that only the holder of the root key
	// can compute, always the same for one label of 1 to [MaxLabel] bytes and
	// unrelated to those of any other.
	Derive(label string) ([]byte, error)
	// ID returns the fingerprint of the key, 16 lower-case hexadecimal
	// digits. It is no secret.
	ID() string
}

const (
	keySize  = 32
	idSize   = 8
	saltSize = 32

	// wrapVersion begins what Wrap returns. Behind it stand the key's id, the
	// salt, and AES-256-GCM's ciphertext with its tag of 16 bytes.
	wrapVersion = 1
	wrapHeader  = 1 + idSize + saltSize
	nonceSize   = 12
	tagSize     = 16
)

// Labels of HKDF (RFC 5869), one for each use, so that no output serves two.
const (
	infoID     = "cretula/rootkey/1/id"
	infoDerive = "cretula/rootkey/1/derive/"
	infoWrap   = "cretula/rootkey/1/wrap"
)

// software is a [Key] whose bytes are in memory.
type software struct {
	secret  [keySize]byte
	id      [idSize]byte
	ciphers ciphers
}

var _ Key = (*software)(nil)

func newSoftware(secret []byte) (*software, error) {
	if len(secret) != keySize {
		return nil, fmt.Errorf("rootkey: key of %d bytes, want %d", len(secret), keySize)
	}
	k := new(software)
	copy(k.secret[:], secret)
	id, err := hkdf.Key(sha256.New, secret, nil, infoID, idSize)
	if err != nil {
		return nil, err
	}
	copy(k.id[:], id)
	return k, nil
}

// IDOf returns the [Key.ID] of the root key with this secret of [SecretSize]
// bytes, for a [Holder] that binds to it what it seals.
func IDOf(secret []byte) (string, error) {
	k, err := newSoftware(secret)
	if err != nil {
		return "", err
	}
	defer clear(k.secret[:])
	return k.ID(), nil
}

// ID implements [Key].
func (k *software) ID() string { return hex.EncodeToString(k.id[:]) }

// String keeps the secret out of logs.
func (k *software) String() string { return "root key " + k.ID() }

// GoString keeps the secret out of logs.
func (k *software) GoString() string { return k.String() }

// Format keeps the secret out of logs, whatever the verb.
func (k *software) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.String()) }

// Derive implements [Key].
func (k *software) Derive(label string) ([]byte, error) {
	if label == "" || len(label) > MaxLabel {
		return nil, fmt.Errorf("rootkey: label of %d bytes, must be 1 to %d", len(label), MaxLabel)
	}
	return hkdf.Key(sha256.New, k.secret[:], nil, infoDerive+label, DerivedSize)
}

// aead returns the cipher of one salt and its nonce. Each call of Wrap has a
// key and a nonce of its own, drawn from 256 random bits, so the number of
// wraps under one root key has no practical bound (that of AES-GCM with random
// nonces is 2^32, NIST SP 800-38D §8.3).
func (k *software) aead(salt []byte) (saltCipher, error) {
	key, nonce := k.schedule(salt)
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return saltCipher{}, err
	}
	aead, err := cipher.NewGCM(block)
	return saltCipher{aead, [nonceSize]byte(nonce[:])}, err
}

// schedule is HKDF (RFC 5869) with the salt and infoWrap: the first two blocks of
// its output. It is what crypto/hkdf returns, in a fraction of the time, which
// each use of a key has to wait for.
func (k *software) schedule(salt []byte) (first, second [hmac256.Size]byte) {
	prk := hmac256.Sum(salt, k.secret[:])
	first = hmac256.Sum(prk[:], []byte(infoWrap), []byte{1})
	second = hmac256.Sum(prk[:], first[:], []byte(infoWrap), []byte{2})
	return first, second
}

// Wrap implements [Key].
func (k *software) Wrap(plaintext, aad []byte) ([]byte, error) {
	if len(plaintext) > MaxPlaintext {
		return nil, fmt.Errorf("rootkey: %d bytes to wrap, at most %d", len(plaintext), MaxPlaintext)
	}
	out := make([]byte, wrapHeader, wrapHeader+len(plaintext)+tagSize)
	out[0] = wrapVersion
	copy(out[1:], k.id[:])
	salt := out[1+idSize:]
	if _, err := rand.Read(salt); err != nil {
		return nil, err
	}
	c, err := k.aead(salt)
	if err != nil {
		return nil, err
	}
	return c.aead.Seal(out, c.nonce[:], plaintext, aad), nil
}

// Unwrap implements [Key].
func (k *software) Unwrap(wrapped, aad []byte) ([]byte, error) {
	if len(wrapped) < wrapHeader+tagSize || len(wrapped) > wrapHeader+MaxPlaintext+tagSize ||
		wrapped[0] != wrapVersion {
		return nil, ErrUnwrap
	}
	if [idSize]byte(wrapped[1:]) != k.id {
		return nil, fmt.Errorf("%w: %x, this one is %x", ErrOtherKey, wrapped[1:1+idSize], k.id)
	}
	salt := [saltSize]byte(wrapped[1+idSize:])
	c, known := k.ciphers.get(salt)
	if !known {
		var err error
		if c, err = k.aead(salt[:]); err != nil {
			return nil, err
		}
	}
	plaintext, err := c.aead.Open(nil, c.nonce[:], wrapped[wrapHeader:], aad)
	if err != nil {
		return nil, ErrUnwrap
	}
	if !known {
		k.ciphers.put(salt, c)
	}
	return plaintext, nil
}
