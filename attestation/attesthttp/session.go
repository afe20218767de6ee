// SPDX-License-Identifier: Apache-2.0

package attesthttp

import (
	"crypto"
	"errors"
	"sync"
	"time"
)

// errFull is the error of a session that there is no room for.
var errFull = errors.New("attesthttp: no room for another session")

// A sessionKey is the hash of what the session is bound to.
type sessionKey [32]byte

type session struct {
	Attested
	key crypto.PublicKey // for BindKey
}

// sessions are bounded: a session that has not ended gives way to no other.
type sessions struct {
	limit int

	mu sync.Mutex
	m  map[sessionKey]*session
	// sweep is when ended sessions are looked for again, so that a full table is
	// not walked for every request.
	sweep time.Time
}

func (s *sessions) get(key sessionKey, now time.Time) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.m[key]
	if found == nil {
		return nil
	}
	if !now.Before(found.Until) {
		delete(s.m, key)
		return nil
	}
	return found
}

// put begins a session, in place of an earlier one of the same key.
func (s *sessions) put(key sessionKey, new *session, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.room(key, now) {
		return errFull
	}
	s.m[key] = new
	return nil
}

// room tells whether there is room for a session.
func (s *sessions) room(key sessionKey, now time.Time) bool {
	if _, there := s.m[key]; there || len(s.m) < s.limit {
		return true
	}
	if now.Before(s.sweep) {
		return false
	}
	s.sweep = now.Add(time.Second)
	for k, old := range s.m {
		if !now.Before(old.Until) {
			delete(s.m, k)
		}
	}
	return len(s.m) < s.limit
}
