// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"crypto/x509"
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
	cert := new(x509.Certificate)
	for i := from; i < from+n; i++ {
		v.cache.put(cacheKey{0: byte(i), 1: byte(i >> 8), 2: byte(i >> 16), 31: 1}, cert)
	}
}

// CheckRoles runs what is checked of certificates without signatures and time,
// and returns the rules that they break.
func CheckRoles(ders [][]byte) (broken []string, chain []*x509.Certificate) {
	c := &check{v: &Verifier{}, u: &Unverified{moduleID: "i-0-enc0", kind: KindEnclave}, ders: ders}
	c.parseChain(nil)
	checkChain(&c.f, c.u, c.chain)
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
