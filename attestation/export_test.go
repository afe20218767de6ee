// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"crypto/x509"
	"hash/maphash"
	"testing"
)

// BoundedAllocation is boundedAllocation.
func BoundedAllocation(t testing.TB, size int, f func()) { boundedAllocation(t, size, f) }

// CacheGeneration is half of what a cache holds.
const CacheGeneration = cacheGeneration

// Cached counts what a verifier remembers.
func (v *Verifier) Cached() int {
	v.cache.mu.Lock()
	defer v.cache.mu.Unlock()
	n := len(v.cache.young)
	for key := range v.cache.old {
		if v.cache.young[key] == nil {
			n++
		}
	}
	return n
}

// FloodCache puts n certificates that nobody will ask for into the cache.
func (v *Verifier) FloodCache(n, from int) {
	for i := from; i < from+n; i++ {
		der := []byte{byte(i), byte(i >> 8), byte(i >> 16)}
		v.cache.put(&certificate{Certificate: &x509.Certificate{Raw: der}})
	}
}

// MistakeCached has the certificate found that is remembered where asked is looked
// for, as if both had the same hash.
func (v *Verifier) MistakeCached(asked, remembered []byte) {
	v.cache.mu.Lock()
	defer v.cache.mu.Unlock()
	cert := v.cache.young[maphash.Bytes(v.cache.seed, remembered)]
	if cert == nil {
		panic("it is not remembered")
	}
	v.cache.young[maphash.Bytes(v.cache.seed, asked)] = cert
}

// CheckRoles runs what is checked of certificates without signatures and time,
// and returns the rules that they break.
func CheckRoles(ders [][]byte) (broken []string, chain []*x509.Certificate) {
	c := &check{v: &Verifier{}, u: Unverified{moduleID: "i-0-enc0", kind: KindEnclave}, ders: ders}
	c.parseChain(nil)
	checkChain(&c.f, &c.u, c.chain)
	c.noteChain()
	for _, p := range c.f.list {
		broken = append(broken, p.Rule)
	}
	return broken, c.chain
}

// Revoke gives a verifier another revocation list, instead of those it has.
func (v *Verifier) Revoke(t interface{ Fatal(...any) }, list *x509.RevocationList) {
	r, err := newRevocationList(list)
	if err != nil {
		t.Fatal(err)
	}
	v.crls = []*revocationList{r}
}
