// SPDX-License-Identifier: Apache-2.0

package attesthttp

import (
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// remoteHost is who a request is counted for: the address that it comes from, of
// IPv6 the network of 64 bits (RFC 4291 §2.5.4), in which one host may have any
// address.
func remoteHost(r *http.Request) string {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil { // of a listener that is not IP's
		return r.RemoteAddr
	}
	address := from.Addr().Unmap().WithZone("")
	if address.Is6() {
		network, _ := address.Prefix(64) // which every address of IPv6 has
		return network.String()
	}
	return address.String()
}

// A tally counts for each host the nonces that are remembered of it. It is
// bounded as they are, by the times at which they are forgotten.
type tally struct {
	limit int

	mu    sync.Mutex
	hosts map[string]int
	// ends counts by the second at which nonces are forgotten.
	ends map[int64]map[string]int
}

func newTally(limit int) *tally {
	return &tally{limit: limit, hosts: map[string]int{}, ends: map[int64]map[string]int{}}
}

// take counts a nonce that is remembered until that time. It returns false if the
// host has as many as it may.
func (t *tally) take(host string, until, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for end, counts := range t.ends {
		if end <= now.Unix() {
			for host, n := range counts {
				t.drop(host, n)
			}
			delete(t.ends, end)
		}
	}
	if t.hosts[host] >= t.limit {
		return false
	}
	end := second(until)
	if t.ends[end] == nil {
		t.ends[end] = map[string]int{}
	}
	t.ends[end][host]++
	t.hosts[host]++
	return true
}

// giveBack undoes a take of a nonce that is not remembered after all.
func (t *tally) giveBack(host string, until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if counts := t.ends[second(until)]; counts[host] > 0 {
		if counts[host]--; counts[host] == 0 {
			delete(counts, host)
		}
		t.drop(host, 1)
	}
}

func (t *tally) drop(host string, n int) {
	if t.hosts[host] -= n; t.hosts[host] <= 0 {
		delete(t.hosts, host)
	}
}

// second is the first full second that is not before t.
func second(t time.Time) int64 { return t.Add(time.Second - 1).Unix() }
