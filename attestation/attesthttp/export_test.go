// SPDX-License-Identifier: Apache-2.0

package attesthttp

import (
	"net/http"

	"github.com/cretula/cretula/internal/httpsig"
)

func KeyIDForTest(spki, challenge []byte) string { return keyID(keySession(spki, challenge)) }
func ContentDigestForTest(body []byte) string    { return httpsig.ContentDigest(body) }

func RemoteHostForTest(r *http.Request) string { return remoteHost(r) }

// Slots is the number of places taken, Hosts that of hosts that are counted.
func (g *Guard) Slots() int {
	g.sessions.mu.Lock()
	defer g.sessions.mu.Unlock()
	return len(g.sessions.m)
}

func (g *Guard) Hosts() int {
	g.sessions.mu.Lock()
	defer g.sessions.mu.Unlock()
	return len(g.sessions.hosts) + len(g.signatures.hosts) + len(g.documents.hosts)
}
