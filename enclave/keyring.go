// SPDX-License-Identifier: Apache-2.0

package enclave

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"sync"
	"time"
)

// A recipientKey is a private key and its public half as the documents carry
// it. It is not changed after it is made.
type recipientKey struct {
	private *rsa.PrivateKey
	spki    []byte // DER SubjectPublicKeyInfo
}

// generateKey makes an RSA-2048 key: AWS names no larger one, and the larger
// ones take a second.
func generateKey() (*recipientKey, error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		return nil, err
	}
	return &recipientKey{private: private, spki: spki}, nil
}

// A keyring hands out the current key and exchanges it in time. At most one
// key is being made at any time.
type keyring struct {
	maxAge   time.Duration
	maxUses  int
	now      func() time.Time
	generate func() (*recipientKey, error)

	mu      sync.Mutex
	current *recipientKey // nil before the first
	born    time.Time     // of current
	uses    int           // of current
	making  *making       // nil when none is being made
}

// A making is the making of one key. err may be read once done is closed.
type making struct {
	done chan struct{}
	err  error
}

func newKeyring(maxAge time.Duration, maxUses int, now func() time.Time, generate func() (*recipientKey, error)) *keyring {
	return &keyring{maxAge: maxAge, maxUses: maxUses, now: now, generate: generate}
}

// start begins to make the first key.
func (k *keyring) start() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.makeLocked()
}

// take returns the current key for one call, or waits for a new one if it is
// used up. It fails if the new one cannot be made or ctx ends first.
func (k *keyring) take(ctx context.Context) (*recipientKey, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		key, m := k.tryTake()
		if key != nil {
			return key, nil
		}
		select {
		case <-m.done:
			if m.err != nil {
				return nil, m.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// tryTake returns the current key, or the making of the next if there is none
// that may be used. It has the next one made early enough that calls seldom
// need to wait.
func (k *keyring) tryTake() (*recipientKey, *making) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current == nil {
		return nil, k.makeLocked()
	}
	age := k.now().Sub(k.born)
	if k.uses >= k.maxUses || age >= k.maxAge {
		k.current = nil
		return nil, k.makeLocked()
	}
	k.uses++
	if k.uses >= k.maxUses-k.maxUses/10 || age >= k.maxAge-k.maxAge/10 {
		k.makeLocked()
	}
	return k.current, nil
}

// makeLocked has a key made, unless one is being made already. The new one
// takes the current one's place as soon as it is there; if it cannot be made,
// the current one stays as long as it may, and the next call tries again.
func (k *keyring) makeLocked() *making {
	if k.making != nil {
		return k.making
	}
	m := &making{done: make(chan struct{})}
	k.making = m
	go func() {
		key, err := k.generate()
		k.mu.Lock()
		defer k.mu.Unlock()
		k.making = nil
		if err != nil {
			m.err = err
		} else {
			k.current, k.born, k.uses = key, k.now(), 0
		}
		close(m.done)
	}()
	return m
}
