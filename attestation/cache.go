// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"sync"
)

// cacheGeneration is half of what a cache holds: two generations of 2048
// certificates, each about 5 KB with what was parsed of it.
const cacheGeneration = 2048

// A cacheKey names a certificate under the key that signed it. The certificate is
// whole, since an ECDSA signature can be altered and stay good.
type cacheKey [sha256.Size]byte

func keyUnder(issuer *x509.Certificate, der []byte) (key cacheKey) {
	h := sha256.New()
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(issuer.RawSubjectPublicKeyInfo)))
	h.Write(length[:])
	h.Write(issuer.RawSubjectPublicKeyInfo)
	h.Write(der)
	h.Sum(key[:0])
	return key
}

// A certificateCache remembers certificates whose signatures are good. It knows
// nothing of validity, usage, path length and revocation, which are for each
// verification to check, and it is only given the certificates of documents that
// are genuine: nobody fills it but who has AWS sign certificates.
//
// It has two generations. What is used moves to the young one; when that is full
// it becomes the old one, and what was old is forgotten. So a flood of leaves
// does not displace the CAs that stand above them.
type certificateCache struct {
	mu         sync.Mutex
	young, old map[cacheKey]*x509.Certificate

	hits, misses uint64
}

func (c *certificateCache) get(key cacheKey) *x509.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cert := c.young[key]; cert != nil {
		c.hits++
		return cert
	}
	cert := c.old[key]
	if cert == nil {
		c.misses++
		return nil
	}
	c.hits++
	c.add(key, cert)
	return cert
}

func (c *certificateCache) put(key cacheKey, cert *x509.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(key, cert)
}

func (c *certificateCache) add(key cacheKey, cert *x509.Certificate) {
	if len(c.young) >= cacheGeneration {
		c.old, c.young = c.young, nil
	}
	if c.young == nil {
		c.young = make(map[cacheKey]*x509.Certificate)
	}
	c.young[key] = cert
}

// stats returns how many certificates are remembered, and how many were found and
// not found so far.
func (c *certificateCache) stats() CacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := CacheStats{Hits: c.hits, Misses: c.misses, Entries: len(c.young)}
	for key := range c.old {
		if c.young[key] == nil {
			s.Entries++
		}
	}
	return s
}

// CacheStats are figures of the certificates that a [Verifier] remembers.
type CacheStats struct {
	Entries      int
	Hits, Misses uint64
}

// CacheStats returns the figures of the certificates that are remembered.
func (v *Verifier) CacheStats() CacheStats { return v.cache.stats() }
