// SPDX-License-Identifier: Apache-2.0

package rootkey

import (
	"crypto/cipher"
	"sync"
)

// maxCiphers bounds each of the two generations of ciphers; one takes about a
// kilobyte.
const maxCiphers = 1024

// ciphers remembers those of salts that have opened something lately: what is used
// again and again is a few rows, and making a cipher takes several times as long as
// opening 32 bytes with it. They are no secrets beyond the root key, from which they
// are made and without which they are not in memory; what was opened is not kept.
type ciphers struct {
	mu         sync.Mutex
	young, old map[[saltSize]byte]saltCipher
}

// A saltCipher is the cipher of one salt, with its nonce.
type saltCipher struct {
	aead  cipher.AEAD
	nonce [nonceSize]byte
}

func (c *ciphers) get(salt [saltSize]byte) (saltCipher, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found, ok := c.young[salt]; ok {
		return found, true
	}
	found, ok := c.old[salt]
	if ok {
		c.add(salt, found)
	}
	return found, ok
}

func (c *ciphers) put(salt [saltSize]byte, made saltCipher) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(salt, made)
}

// add makes the young generation the old one when it is full.
func (c *ciphers) add(salt [saltSize]byte, made saltCipher) {
	if c.young == nil || len(c.young) >= maxCiphers {
		c.old, c.young = c.young, make(map[[saltSize]byte]saltCipher)
	}
	c.young[salt] = made
}
