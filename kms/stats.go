// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/cretula/cretula/kms/ledger"
)

// Stats are figures of a service, for metrics.
type Stats struct {
	// Caches has what is remembered, by name: "policies", "certificates" and "rows".
	Caches map[string]CacheStats
	// PairsReady is how many RSA key pairs are ready, by key spec.
	PairsReady map[string]int
	// StoreConfirmedAge is how long ago what is remembered of the store was last
	// compared with it.
	StoreConfirmedAge time.Duration
}

// CacheStats are how much a cache holds and what was found in it so far.
type CacheStats struct {
	Entries      int
	Hits, Misses uint64
}

// Stats returns the figures of now.
func (s *Server) Stats() Stats {
	out := Stats{Caches: map[string]CacheStats{
		"policies":     s.policies.stats(),
		"certificates": CacheStats(s.verifier.CacheStats()),
		"rows":         CacheStats(s.ledger.CacheStats()),
	}, StoreConfirmedAge: s.ledger.ConfirmedAge()}
	s.pairs.mu.Lock()
	defer s.pairs.mu.Unlock()
	if s.pairs.pool != nil {
		out.PairsReady = s.pairs.pool.Ready()
	}
	return out
}

func (p *policyCache) stats() CacheStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return CacheStats{len(p.parsed), p.hits.Load(), p.misses.Load()}
}

// Ready tells whether the service could answer now, and if not which parts are why:
// the store, which was compared with what is remembered within the last second or is
// now; "store rolled back" where it has lost changes, see [ledger.Ledger.RolledBack];
// the root key, which must wrap and unwrap; and the audit log, where it can
// tell whether it takes records. The error is for the operator.
func (s *Server) Ready(ctx context.Context) (parts []string, err error) {
	var errs []error
	for _, p := range []struct {
		name  string
		check func() error
	}{
		{"store", func() error { return s.ledger.ViewRecent(ctx, func(*ledger.Tx) error { return nil }) }},
		{"store rolled back", s.ledger.RolledBack},
		{"root key", s.checkRootKey},
		{"audit log", s.checkAudit},
	} {
		if err := p.check(); err != nil {
			parts, errs = append(parts, p.name), append(errs, fmt.Errorf("%s: %w", p.name, err))
		}
	}
	return parts, errors.Join(errs...)
}

func (s *Server) checkRootKey() error {
	var probe [16]byte
	rand.Read(probe[:])
	aad := []byte("kms/ready")
	wrapped, err := s.rootKey.Wrap(probe[:], aad)
	if err != nil {
		return err
	}
	back, err := s.rootKey.Unwrap(wrapped, aad)
	if err == nil && string(back) != string(probe[:]) {
		err = errors.New("what was wrapped is not what is unwrapped")
	}
	return err
}

func (s *Server) checkAudit() error {
	if log, ok := s.audit.(interface{ Ready() error }); ok {
		return log.Ready()
	}
	return nil
}
