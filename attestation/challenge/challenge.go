// SPDX-License-Identifier: Apache-2.0

// Package challenge makes nonces for attestation documents that can be used
// once.
//
// A challenge is sealed: it carries its expiry and random bytes under a MAC, so
// that any replica that shares the key can tell its own without having kept
// anything. What must be kept is which ones were used, in a [UsedSet]. The one
// here, [Memory], is that of a single process. Replicas need a set that they
// share, or else a challenge can be used once at each of them; a table with a
// unique key will do.
package challenge

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"

	"github.com/cretula/cretula/reason"
)

const (
	// Size is the length of a challenge in bytes.
	Size = 1 + 8 + randomSize + sha256.Size
	// KeySize is the length of the key that replicas share.
	KeySize = 32
	// DefaultLifetime is how long a challenge can be used.
	DefaultLifetime = 2 * time.Minute
	// MaxLifetime is the longest that a challenge can be made to live.
	MaxLifetime = time.Hour

	version    = 1
	randomSize = 24
	// label keeps these MACs apart from others under the same key.
	label = "cretula challenge v1\x00"
)

// The rules that a challenge can break.
const (
	// RuleForm, malformed: a challenge has 65 bytes, the first of which is 1.
	RuleForm = "challenge.form"
	// RuleSeal, stale: a challenge was sealed with the key.
	RuleSeal = "challenge.seal"
	// RuleExpired, stale: a challenge has not expired.
	RuleExpired = "challenge.expired"
	// RuleUsed, stale: a challenge was not used before.
	RuleUsed = "challenge.used"
)

// ErrFull is the error of a set that cannot take another key, and of issuing
// challenges that it could not take. It passes as keys expire.
var ErrFull = errors.New("challenge: as many were used as can be remembered")

// A Nonces issues nonces and lets each be used once. It is safe for concurrent
// use. [Challenges] is the one of this package.
type Nonces interface {
	// Issue returns a nonce that was never returned before.
	Issue(ctx context.Context) ([]byte, error)
	// Check refuses a nonce that Redeem would refuse, at little cost and
	// without using it. That it does not is no promise.
	Check(ctx context.Context, nonce []byte) error
	// Redeem uses a nonce. Of any number of calls with one nonce, at most one
	// returns nil.
	Redeem(ctx context.Context, nonce []byte) error
}

// A Key names what can be used once: the hash of a challenge or, where documents
// themselves shall be taken once, the PayloadHash of an attestation.Document.
// The hash of a document's bytes is no key: its signature, and so its bytes, can
// be altered by anyone without its becoming invalid.
type Key [sha256.Size]byte

// A UsedSet remembers keys. It is safe for concurrent use, and for replicas that
// share a key the set must be one they share.
type UsedSet interface {
	// Use adds a key, to be remembered until that time at least. It returns
	// false if the key was there, and an error if it cannot be remembered
	// ([ErrFull] if for want of room): it is not used then and must be refused.
	Use(ctx context.Context, key Key, until time.Time) (bool, error)
	// Used tells whether a key is there.
	Used(ctx context.Context, key Key) (bool, error)
	// Room returns nil if there is room for a key, else [ErrFull].
	Room(ctx context.Context) error
}

// Options are what [New] makes Challenges of. Key is required.
type Options struct {
	// Key is a secret of [KeySize] random bytes, the same at every replica. With a
	// Used that does not outlive the process it must be a new one at each start:
	// under the old one, what was used before the start could be used again.
	Key []byte
	// Used remembers used challenges. Nil: a [Memory] of [DefaultCapacity],
	// right for a single process only.
	Used UsedSet
	// Lifetime is how long a challenge can be used, at most [MaxLifetime].
	// Zero: [DefaultLifetime]. Replicas' clocks may differ by much less.
	Lifetime time.Duration
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Challenges are sealed, single-use [Nonces]: a version byte, the expiry in
// milliseconds since 1970 (8 bytes, big endian), 24 random bytes, and their
// HMAC-SHA-256.
type Challenges struct {
	key      []byte
	used     UsedSet
	lifetime time.Duration
	now      func() time.Time
}

// New makes Challenges.
func New(o Options) (*Challenges, error) {
	if len(o.Key) != KeySize {
		return nil, errors.New("challenge: the key must have 32 bytes")
	}
	c := &Challenges{key: append([]byte{}, o.Key...), used: o.Used, lifetime: o.Lifetime, now: o.Now}
	if c.now == nil {
		c.now = time.Now
	}
	if c.used == nil {
		memory, err := NewMemory(MemoryOptions{Now: c.now})
		if err != nil {
			return nil, err
		}
		c.used = memory
	}
	if c.lifetime == 0 {
		c.lifetime = DefaultLifetime
	}
	if c.lifetime < time.Second || c.lifetime > MaxLifetime {
		return nil, errors.New("challenge: the lifetime must be between a second and an hour")
	}
	return c, nil
}

// Issue returns a new challenge. It costs no memory, so that who asks for
// challenges uses none up. When the set of used ones is full, the error is
// [ErrFull].
func (c *Challenges) Issue(ctx context.Context) ([]byte, error) {
	if err := c.used.Room(ctx); err != nil {
		return nil, err
	}
	b := make([]byte, 1, Size)
	b[0] = version
	b = binary.BigEndian.AppendUint64(b, uint64(c.now().Add(c.lifetime).UnixMilli()))
	b = b[:len(b)+randomSize]
	rand.Read(b[len(b)-randomSize:]) // never fails
	return c.mac(b, b), nil
}

// Check refuses a challenge that is not one, forged, expired or used, with a
// [*reason.Error]. Other errors are those of the set.
func (c *Challenges) Check(ctx context.Context, nonce []byte) error {
	if _, err := c.open(nonce); err != nil {
		return err
	}
	used, err := c.used.Used(ctx, KeyOf(nonce))
	if err == nil && used {
		err = refuseUsed()
	}
	return err
}

// Redeem uses a challenge; it refuses what Check refuses. A set that is full
// refuses challenges that are good, with [ErrFull]: none is forgotten for
// another. Callers redeem last, when all else about a request is good, so that
// only whom they accept can fill the set.
func (c *Challenges) Redeem(ctx context.Context, nonce []byte) error {
	expiry, err := c.open(nonce)
	if err != nil {
		return err
	}
	first, err := c.used.Use(ctx, KeyOf(nonce), expiry)
	if err == nil && !first {
		err = refuseUsed()
	}
	return err
}

// KeyOf returns the key under which a used challenge is remembered.
func KeyOf(nonce []byte) Key { return sha256.Sum256(nonce) }

func refuseUsed() error {
	return reason.New(reason.Stale, RuleUsed, "the challenge was used already")
}

// open checks form, seal and expiry of a challenge and returns its expiry.
func (c *Challenges) open(nonce []byte) (time.Time, error) {
	if len(nonce) != Size || nonce[0] != version {
		return time.Time{}, reason.New(reason.Malformed, RuleForm, "no challenge: want %d bytes that begin with %d, not %d bytes", Size, version, len(nonce))
	}
	body, seal := nonce[:Size-sha256.Size], nonce[Size-sha256.Size:]
	if !hmac.Equal(c.mac(nil, body), seal) {
		return time.Time{}, reason.New(reason.Stale, RuleSeal, "the challenge was not made here")
	}
	expiry := time.UnixMilli(int64(binary.BigEndian.Uint64(nonce[1:9])))
	if now := c.now(); !now.Before(expiry) {
		return time.Time{}, reason.New(reason.Stale, RuleExpired, "the challenge expired %v ago", now.Sub(expiry).Round(time.Millisecond))
	}
	return expiry, nil
}

// mac appends the MAC of body to dst.
func (c *Challenges) mac(dst, body []byte) []byte {
	h := hmac.New(sha256.New, c.key)
	h.Write([]byte(label))
	h.Write(body)
	return h.Sum(dst)
}
