// SPDX-License-Identifier: Apache-2.0

package keyspec

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/cretula/cretula/kms/kmsapi"
)

// A maker counts what a pool has made, without the work of making it: its secrets
// are copies of the tests' key of the spec.
type maker struct {
	mu                     sync.Mutex
	foreground, background map[string]int
	running, most          int
	secrets                [][]byte
	err                    error
	wait                   chan struct{}
}

func (m *maker) generate(s *Spec, foreground bool) ([]byte, error) {
	m.mu.Lock()
	counts := m.background
	if foreground {
		counts = m.foreground
	} else {
		m.running++
		m.most = max(m.most, m.running)
	}
	counts[s.Name]++
	wait, err := m.wait, m.err
	m.mu.Unlock()
	if wait != nil && !foreground {
		<-wait
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !foreground {
		m.running--
	}
	if err != nil {
		return nil, err
	}
	secrets, err := made()
	if err != nil {
		return nil, err
	}
	secret := slices.Clone(secrets[s.Name])
	m.secrets = append(m.secrets, secret)
	return secret, nil
}

func newMaker() *maker {
	return &maker{foreground: map[string]int{}, background: map[string]int{}}
}

func (m *maker) pool() *Pool {
	p := &Pool{random: rand.Reader, generate: m.generate}
	p.start()
	return p
}

func (m *maker) want(t *testing.T, spec string, foreground, background int) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.foreground[spec] != foreground || m.background[spec] != background {
		t.Errorf("%s: %d made in the foreground, %d in the background, want %d, %d", spec, m.foreground[spec], m.background[spec], foreground, background)
	}
}

func take(t *testing.T, p *Pool, spec string) Pair {
	t.Helper()
	pair, err := p.Pair(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// A filled pool hands out RSA_2048 without making one in the foreground, rests
// until it is below the low mark, and fills up to the high one.
func TestPoolFilled(t *testing.T) {
	secretOf(t, "RSA_2048")
	synctest.Test(t, func(t *testing.T) {
		m := newMaker()
		p := m.pool()
		defer p.Close()
		synctest.Wait()
		m.want(t, "RSA_2048", 0, 4)
		m.want(t, "RSA_3072", 0, 0)
		m.want(t, "RSA_4096", 0, 0)
		for range 2 {
			take(t, p, "RSA_2048")
			synctest.Wait()
		}
		m.want(t, "RSA_2048", 0, 4) // two left
		take(t, p, "RSA_2048")
		synctest.Wait()
		m.want(t, "RSA_2048", 0, 7) // one was left
		for range 20 {
			take(t, p, "RSA_2048")
			synctest.Wait()
		}
		m.want(t, "RSA_2048", 0, 4+3*7)
		if m.most != 1 {
			t.Errorf("%d goroutines made pairs", m.most)
		}
	})
}

func TestPoolOthersOnDemand(t *testing.T) {
	secretOf(t, "RSA_2048")
	synctest.Test(t, func(t *testing.T) {
		m := newMaker()
		p := m.pool()
		defer p.Close()
		take(t, p, "RSA_4096")
		synctest.Wait()
		m.want(t, "RSA_4096", 1, 2)
		m.want(t, "RSA_3072", 0, 0)
		take(t, p, "RSA_4096")
		take(t, p, "RSA_4096")
		synctest.Wait()
		m.want(t, "RSA_4096", 1, 4)
		for _, spec := range []string{"ECC_NIST_P256", "ECC_SECG_P256K1", "ECC_NIST_EDWARDS25519", "ML_DSA_44"} {
			take(t, p, spec)
			take(t, p, spec)
			synctest.Wait()
			m.want(t, spec, 2, 0)
		}
		if m.most != 1 {
			t.Errorf("%d goroutines made pairs", m.most)
		}
	})
}

// An empty pool does not wait for the background.
func TestPoolEmpty(t *testing.T) {
	secretOf(t, "RSA_2048")
	synctest.Test(t, func(t *testing.T) {
		m := newMaker()
		m.wait = make(chan struct{})
		p := m.pool()
		defer p.Close()
		for range 5 {
			take(t, p, "RSA_2048")
			take(t, p, "RSA_3072")
		}
		synctest.Wait()
		m.want(t, "RSA_2048", 5, 1)
		m.want(t, "RSA_3072", 5, 0)
		close(m.wait)
		synctest.Wait()
		m.want(t, "RSA_2048", 5, 4)
		m.want(t, "RSA_3072", 5, 2)
	})
}

func TestPoolNeverTwice(t *testing.T) {
	secretOf(t, "RSA_2048")
	synctest.Test(t, func(t *testing.T) {
		m := newMaker()
		p := m.pool()
		defer p.Close()
		var mu sync.Mutex
		seen := map[*byte]bool{}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 50 {
					pair, err := p.Pair(t.Context(), "RSA_2048")
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					if seen[&pair.Private[0]] {
						t.Error("a pair was handed out twice")
					}
					seen[&pair.Private[0]] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, pair := range p.stocks["RSA_2048"].pairs {
			if seen[&pair.Private[0]] {
				t.Error("a pair that was handed out is still there")
			}
		}
	})
}

func TestPoolClose(t *testing.T) {
	secretOf(t, "RSA_2048")
	synctest.Test(t, func(t *testing.T) {
		m := newMaker()
		p := m.pool()
		synctest.Wait()
		kept := take(t, p, "RSA_2048")
		m.wait = make(chan struct{})
		take(t, p, "RSA_2048")
		take(t, p, "RSA_2048")
		synctest.Wait() // a fifth is being made
		p.Close()
		p.Close()
		close(m.wait)
		synctest.Wait()
		m.want(t, "RSA_2048", 0, 5)
		zeroed := 0
		for _, secret := range m.secrets {
			if bytes.Equal(secret, make([]byte, len(secret))) {
				zeroed++
			}
		}
		if zeroed != 2 { // the one left and the one that came too late
			t.Errorf("%d pairs zeroed, want 2", zeroed)
		}
		if bytes.Equal(kept.Private, make([]byte, len(kept.Private))) {
			t.Error("a pair that was handed out is zeroed")
		}
		_, err := p.Pair(t.Context(), "RSA_2048")
		wantError(t, "closed", err, kmsapi.KMSInternal, "*")
		_, err = p.Pair(t.Context(), "RSA_4096")
		wantError(t, "closed", err, kmsapi.KMSInternal, "*")
		synctest.Wait()
		m.want(t, "RSA_4096", 0, 0)
	})
}

func TestPoolErrors(t *testing.T) {
	secretOf(t, "RSA_2048")
	synctest.Test(t, func(t *testing.T) {
		m := newMaker()
		m.err = errors.New("no entropy")
		p := m.pool()
		defer p.Close()
		synctest.Wait()
		m.want(t, "RSA_2048", 0, 1) // it does not go on trying
		_, err := p.Pair(t.Context(), "RSA_2048")
		if !errors.Is(err, m.err) {
			t.Errorf("got %v", err)
		}
		for _, spec := range []string{"SYMMETRIC_DEFAULT", "HMAC_256", "SM2", "RSA_1024", ""} {
			_, err := p.Pair(t.Context(), spec)
			wantError(t, spec, err, kmsapi.Validation, "*")
		}
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.Pair(cancelled, "ECC_NIST_P256"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// With real keys: both halves belong together and are of the spec.
func TestPoolPairs(t *testing.T) {
	p := NewPool(rand.Reader)
	defer p.Close()
	for _, name := range names {
		s := Lookup(name)
		if !s.Asymmetric() || name == "RSA_3072" || name == "RSA_4096" { // they take long
			continue
		}
		pair := take(t, p, name)
		if err := s.Check(pair.Private); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if spki, err := s.PublicKey(pair.Private); err != nil || !bytes.Equal(spki, pair.Public) {
			t.Errorf("%s: another public key, %v", name, err)
		}
		if again := take(t, p, name); bytes.Equal(again.Private, pair.Private) {
			t.Errorf("%s: the same pair again", name)
		}
	}
}
