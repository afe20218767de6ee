// SPDX-License-Identifier: Apache-2.0

package attesthttp

import (
	"crypto"
	"errors"
	"sync"
	"time"
)

// errFull is the error of a session, or of a nonce, that there is no room for.
var errFull = errors.New("attesthttp: no room for another session or nonce")

// A sessionKey is the hash of what the session is bound to.
type sessionKey [32]byte

type session struct {
	Attested
	key crypto.PublicKey // for BindKey
}

// A slot is the place of a session in the table.
type slot struct {
	// session is nil while the first one is about to begin.
	session *session
	// pending are the sessions of the key that are about to begin.
	pending int
	// host is the one that the slot counts for: that of the key's first session.
	host string
}

// sessions are bounded: a session that has not ended gives way to no other. Each
// reserve that succeeds is followed by one begin or cancel.
type sessions struct {
	limit, perHost int

	mu    sync.Mutex
	m     map[sessionKey]*slot
	hosts map[string]int
	// sweep is when ended sessions are looked for again, so that a full table is
	// not walked for every request.
	sweep time.Time
}

func newSessions(limit, perHost int) *sessions {
	return &sessions{limit: limit, perHost: perHost, m: map[sessionKey]*slot{}, hosts: map[string]int{}}
}

func (s *sessions) get(key sessionKey, now time.Time) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.m[key]
	if at == nil || at.session == nil {
		return nil
	}
	if !now.Before(at.session.Until) {
		s.clear(key, at)
		return nil
	}
	return at.session
}

// reserve keeps a slot for a session of a key, the one that it has already if
// there is one.
func (s *sessions) reserve(key sessionKey, host string, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.m[key]
	if at == nil {
		if !s.room(host, now) {
			return errFull
		}
		at = &slot{host: host}
		s.m[key] = at
		s.hosts[host]++
	}
	at.pending++
	return nil
}

// begin puts a session into the slot that was reserved, in place of an earlier
// one of the same key.
func (s *sessions) begin(key sessionKey, new *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.m[key]
	at.pending--
	at.session = new
}

// cancel gives up what was reserved.
func (s *sessions) cancel(key sessionKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.m[key]
	at.pending--
	if at.session == nil {
		s.clear(key, at)
	}
}

// end ends the session of a key, if there is one.
func (s *sessions) end(key sessionKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := s.m[key]; at != nil {
		s.clear(key, at)
	}
}

// clear ends a session and frees its slot, unless another is about to begin.
func (s *sessions) clear(key sessionKey, at *slot) {
	at.session = nil
	if at.pending > 0 {
		return
	}
	delete(s.m, key)
	if s.hosts[at.host]--; s.hosts[at.host] == 0 {
		delete(s.hosts, at.host)
	}
}

// room tells whether there is room for another session of a host.
func (s *sessions) room(host string, now time.Time) bool {
	free := func() bool { return len(s.m) < s.limit && s.hosts[host] < s.perHost }
	if free() {
		return true
	}
	if now.Before(s.sweep) {
		return false
	}
	s.sweep = now.Add(time.Second)
	for key, at := range s.m {
		if at.session != nil && !now.Before(at.session.Until) {
			s.clear(key, at)
		}
	}
	return free()
}
