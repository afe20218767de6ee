// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"sync"
)

func mac(key, data []byte) [sha256.Size]byte {
	h := hmac.New(sha256.New, key)
	h.Write(data)
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return sum
}

// deriveKey returns the signing key of one day, region and service.
func deriveKey(secret []byte, date, region, service string) [sha256.Size]byte {
	key := mac(append([]byte("AWS4"), secret...), []byte(date))
	for _, part := range []string{region, service, terminator} {
		key = mac(key[:], []byte(part))
	}
	return key
}

type keyID struct{ accessKeyID, date, region string }

// A cachedKey belongs to the version of the secret that it was derived from, so
// that a key whose secret changed is derived anew.
type cachedKey struct {
	version any
	key     [sha256.Size]byte
}

// maxKeys bounds the cache: so many access keys, times regions, of one day.
const maxKeys = 4096

// A keyCache holds derived keys that have verified a request. Only the owner of a
// secret can therefore add to it. When full it is emptied: the keys of past days
// leave that way.
type keyCache struct {
	mu   sync.Mutex
	keys map[keyID]cachedKey
}

func (c *keyCache) get(id keyID, version any) ([sha256.Size]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.keys[id]
	if !ok || version == nil || k.version != version {
		return [sha256.Size]byte{}, false
	}
	return k.key, true
}

func (c *keyCache) put(id keyID, version any, key [sha256.Size]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys == nil || len(c.keys) >= maxKeys {
		c.keys = map[keyID]cachedKey{}
	}
	c.keys[id] = cachedKey{version: version, key: key}
}
