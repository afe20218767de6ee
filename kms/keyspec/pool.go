// SPDX-License-Identifier: Apache-2.0

package keyspec

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/cretula/cretula/kms/kmsapi"
)

// A Pair is a key pair as GenerateDataKeyPair returns it.
type Pair struct {
	// Private is PKCS #8, Public a SubjectPublicKeyInfo, both in DER. The caller
	// owns them; nobody else has seen Private.
	Private, Public []byte
}

// A stock is the pairs of one spec. A refill begins when fewer than low are left
// and ends when there are high.
type stock struct {
	pairs     []Pair
	low, high int
}

// A Pool makes key pairs and keeps some RSA pairs ready, which take from 0.1 s
// (RSA_2048) to seconds (RSA_4096) to make. One goroutine makes them, and it ends
// when there is nothing to do: a pool works at its construction, for four pairs
// of RSA_2048, and after a pair was taken, never at rest. Pairs of RSA_3072 and
// RSA_4096 are made ahead, two of each, only once one was asked for. No pair is
// handed out twice.
type Pool struct {
	random io.Reader
	// generate makes the secret of a pair; foreground says that a request waits.
	generate func(s *Spec, foreground bool) ([]byte, error)

	mu      sync.Mutex
	stocks  map[string]*stock
	filling bool
	closed  bool
}

var errClosed = errors.New("keyspec: the pool is closed")

// NewPool makes a pool and begins to fill it. It must be closed.
func NewPool(random io.Reader) *Pool {
	p := &Pool{random: random, generate: func(s *Spec, _ bool) ([]byte, error) { return s.Generate(random) }}
	p.start()
	return p
}

func (p *Pool) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stocks = map[string]*stock{kmsapi.SpecRSA2048: {low: 2, high: 4}}
	p.refill()
}

// refill starts the goroutine if a stock is below its low mark. The lock is held.
func (p *Pool) refill() {
	for _, s := range p.stocks {
		if len(s.pairs) < s.low && !p.filling && !p.closed {
			p.filling = true
			go p.fill()
		}
	}
}

// next returns the spec of the stock that is furthest below its high mark, or nil
// if all are there. The lock is held.
func (p *Pool) next() *Spec {
	var spec *Spec
	missing := 0
	for name, s := range p.stocks {
		if n := s.high - len(s.pairs); n > missing {
			spec, missing = Lookup(name), n
		}
	}
	return spec
}

func (p *Pool) fill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() { p.filling = false }()
	for spec := p.next(); spec != nil && !p.closed; spec = p.next() {
		p.mu.Unlock()
		pair, err := p.pair(spec, false)
		p.mu.Lock()
		switch {
		case err != nil: // the next request will meet it and report it
			return
		case p.closed:
			clear(pair.Private)
			return
		}
		s := p.stocks[spec.Name]
		s.pairs = append(s.pairs, pair)
	}
}

func (p *Pool) pair(s *Spec, foreground bool) (Pair, error) {
	private, err := p.generate(s, foreground)
	if err != nil {
		return Pair{}, err
	}
	public, err := s.PublicKey(private)
	if err != nil {
		clear(private)
		return Pair{}, err
	}
	return Pair{Private: private, Public: public}, nil
}

// Pair returns a new pair of an asymmetric spec: of RSA one that is ready, if
// there is one; if not, and of all others, one that is made at once, which ctx does
// not interrupt. Of a spec that is no pair there is none: ValidationException.
func (p *Pool) Pair(ctx context.Context, spec string) (Pair, error) {
	s := Lookup(spec)
	if s == nil || !s.Asymmetric() {
		return Pair{}, kmsapi.Errorf(kmsapi.Validation, "Key spec %s is not valid for a data key pair.", spec)
	}
	if err := ctx.Err(); err != nil {
		return Pair{}, err
	}
	if _, isRSA := s.material.(rsaKeys); isRSA {
		if pair, ok, err := p.take(spec); ok || err != nil {
			return pair, err
		}
	}
	return p.pair(s, true)
}

// take returns an RSA pair that is ready, if there is one, and has others made.
func (p *Pool) take(spec string) (pair Pair, ok bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return Pair{}, false, kmsapi.Internal(errClosed)
	}
	s := p.stocks[spec]
	if s == nil {
		s = &stock{low: 1, high: 2}
		p.stocks[spec] = s
	}
	if n := len(s.pairs); n > 0 {
		pair, ok = s.pairs[n-1], true
		s.pairs[n-1] = Pair{}
		s.pairs = s.pairs[:n-1]
	}
	p.refill()
	return pair, ok, nil
}

// Ready returns how many pairs wait, by spec.
func (p *Pool) Ready() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	ready := make(map[string]int, len(p.stocks))
	for name, s := range p.stocks {
		ready[name] = len(s.pairs)
	}
	return ready
}

// Close zeroes the pairs that are left, and one that is being made when it is
// done. Afterwards RSA pairs are refused.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, s := range p.stocks {
		for _, pair := range s.pairs {
			clear(pair.Private)
		}
		s.pairs = nil
	}
}
