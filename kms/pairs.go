// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"io"
	"sync"

	"github.com/cretula/cretula/kms/keyspec"
)

// pairs makes key pairs. Its pool begins to work when the first pair is asked for:
// a process that only writes policies makes no RSA keys.
type pairs struct {
	mu   sync.Mutex
	pool *keyspec.Pool
}

func (p *pairs) pair(ctx context.Context, random io.Reader, spec string) (keyspec.Pair, error) {
	p.mu.Lock()
	if p.pool == nil {
		p.pool = keyspec.NewPool(random)
	}
	pool := p.pool
	p.mu.Unlock()
	return pool.Pair(ctx, spec)
}

// Close zeroes the key pairs that nobody has asked for yet and waits for the one
// that is being made. It is called once no request is under way any more; what
// Config named stays open.
func (s *Server) Close() {
	s.pairs.mu.Lock()
	defer s.pairs.mu.Unlock()
	if s.pairs.pool != nil {
		s.pairs.pool.Close()
	}
}

// newSecret makes key material.
func (s *Server) newSecret(ctx context.Context, spec *keyspec.Spec) ([]byte, error) {
	if !spec.Asymmetric() {
		return spec.Generate(s.random)
	}
	pair, err := s.pairs.pair(ctx, s.random, spec.Name)
	return pair.Private, err
}
