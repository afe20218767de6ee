// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"bytes"
	"crypto/x509"
	"hash/maphash"
	"sync"

	"github.com/cretula/cretula/internal/p384"
)

// cacheGeneration is half of what a cache holds: two generations of 2048
// certificates, each about 5 KB with what was parsed of it.
const cacheGeneration = 2048

// A certificate is one whose signature is good under the key of its issuer.
type certificate struct {
	*x509.Certificate
	// under is the SubjectPublicKeyInfo of the issuer.
	under []byte
	// key is the leaf's of a document, nil of others.
	key *p384.Key
}

// is tells whether c is the certificate der under the key of issuer. It is compared
// whole, since an ECDSA signature can be altered and stay good.
func (c *certificate) is(issuer *x509.Certificate, der []byte) bool {
	return bytes.Equal(c.Raw, der) && bytes.Equal(c.under, issuer.RawSubjectPublicKeyInfo)
}

// A certificateCache remembers certificates whose signatures are good. It knows
// nothing of validity, usage, path length and revocation, which are for each
// verification to check, and it is only given the certificates of documents that
// are genuine: nobody fills it but who has AWS sign certificates.
//
// It finds them by a hash of their encoding that nobody can foresee. Of two with the
// same hash it remembers the later.
//
// It has two generations. What is used moves to the young one; when that is full
// it becomes the old one, and what was old is forgotten. So a flood of leaves
// does not displace the CAs that stand above them.
type certificateCache struct {
	seed       maphash.Seed
	mu         sync.Mutex
	young, old map[uint64]*certificate

	hits, misses uint64
}

// get returns the certificate der under the key of issuer, nil if it is not
// remembered.
func (c *certificateCache) get(issuer *x509.Certificate, der []byte) *certificate {
	hash := maphash.Bytes(c.seed, der)
	c.mu.Lock()
	defer c.mu.Unlock()
	if cert := c.young[hash]; cert != nil && cert.is(issuer, der) {
		c.hits++
		return cert
	}
	cert := c.old[hash]
	if cert == nil || !cert.is(issuer, der) {
		c.misses++
		return nil
	}
	c.hits++
	c.add(hash, cert)
	return cert
}

func (c *certificateCache) put(cert *certificate) {
	hash := maphash.Bytes(c.seed, cert.Raw)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(hash, cert)
}

func (c *certificateCache) add(hash uint64, cert *certificate) {
	if len(c.young) >= cacheGeneration {
		c.old, c.young = c.young, nil
	}
	if c.young == nil {
		c.young = make(map[uint64]*certificate)
	}
	c.young[hash] = cert
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
