// SPDX-License-Identifier: Apache-2.0

package challenge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cretula/cretula/reason"
)

var ctx = context.Background()

// A clock that tests set.
type clock struct{ ms atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ms.Store(time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC).UnixMilli())
	return c
}
func (c *clock) now() time.Time      { return time.UnixMilli(c.ms.Load()) }
func (c *clock) add(d time.Duration) { c.ms.Add(d.Milliseconds()) }
func key(b byte) []byte              { return bytes.Repeat([]byte{b}, KeySize) }
func (m *Memory) len() int           { m.mu.Lock(); defer m.mu.Unlock(); return len(m.keys) }
func memory(t testing.TB, c *clock, capacity int) *Memory {
	t.Helper()
	m, err := NewMemory(MemoryOptions{Capacity: capacity, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func replica(t testing.TB, c *clock, used UsedSet) *Challenges {
	t.Helper()
	r, err := New(Options{Key: key(1), Used: used, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func issue(t testing.TB, c *Challenges) []byte {
	t.Helper()
	nonce, err := c.Issue(ctx)
	if err != nil || len(nonce) != Size {
		t.Fatalf("%x, %v", nonce, err)
	}
	return nonce
}

func wantRule(t testing.TB, what string, err error, rule string) {
	t.Helper()
	e, ok := errors.AsType[*reason.Error](err)
	want := reason.Stale
	if rule == RuleForm {
		want = reason.Malformed
	}
	if !ok || e.Rule() != rule || e.Reason() != want {
		t.Errorf("%s: %v, want %s", what, err, rule)
	}
}

func TestOnce(t *testing.T) {
	c := newClock()
	r := replica(t, c, nil)
	nonce, other := issue(t, r), issue(t, r)
	if bytes.Equal(nonce, other) {
		t.Fatal("twice the same")
	}
	for range 2 { // Check uses nothing
		if err := r.Check(ctx, nonce); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Redeem(ctx, nonce); err != nil {
		t.Fatal(err)
	}
	wantRule(t, "redeemed twice", r.Redeem(ctx, nonce), RuleUsed)
	wantRule(t, "checked after use", r.Check(ctx, nonce), RuleUsed)
	if err := r.Redeem(ctx, other); err != nil {
		t.Error(err)
	}
}

func TestExpiry(t *testing.T) {
	c := newClock()
	r := replica(t, c, nil)
	nonce := issue(t, r)
	c.add(DefaultLifetime - time.Millisecond)
	if err := r.Check(ctx, nonce); err != nil {
		t.Error(err)
	}
	c.add(time.Millisecond)
	wantRule(t, "expired", r.Check(ctx, nonce), RuleExpired)
	wantRule(t, "expired", r.Redeem(ctx, nonce), RuleExpired)
}

// TestEveryBitCounts: a challenge is good only as it was issued.
func TestEveryBitCounts(t *testing.T) {
	r := replica(t, newClock(), nil)
	nonce := issue(t, r)
	for bit := range len(nonce) * 8 {
		forged := bytes.Clone(nonce)
		forged[bit/8] ^= 1 << (bit % 8)
		rule := RuleSeal
		if bit < 8 {
			rule = RuleForm
		}
		wantRule(t, fmt.Sprint("bit ", bit), r.Redeem(ctx, forged), rule)
	}
	for n := range nonce {
		wantRule(t, "cut", r.Redeem(ctx, nonce[:n]), RuleForm)
	}
	wantRule(t, "longer", r.Redeem(ctx, append(bytes.Clone(nonce), 0)), RuleForm)
	if err := r.Redeem(ctx, nonce); err != nil {
		t.Error(err)
	}
}

func TestReplicas(t *testing.T) {
	c := newClock()
	shared := memory(t, c, 10)
	a, b := replica(t, c, shared), replica(t, c, shared)
	nonce := issue(t, a)
	if err := b.Redeem(ctx, nonce); err != nil {
		t.Fatalf("issued by the other: %v", err)
	}
	wantRule(t, "used at the other", a.Redeem(ctx, nonce), RuleUsed)
	foreign, err := New(Options{Key: key(2), Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	wantRule(t, "another key", foreign.Check(ctx, issue(t, a)), RuleSeal)
}

// TestFull: no challenge is issued that could not be remembered, and none that
// was used is forgotten before it has expired.
func TestFull(t *testing.T) {
	c := newClock()
	m := memory(t, c, 2)
	r := replica(t, c, m)
	first, second, third := issue(t, r), issue(t, r), issue(t, r)
	for _, nonce := range [][]byte{first, second} {
		if err := r.Redeem(ctx, nonce); err != nil {
			t.Fatal(err)
		}
	}
	if nonce, err := r.Issue(ctx); !errors.Is(err, ErrFull) || nonce != nil {
		t.Errorf("issued when full: %x, %v", nonce, err)
	}
	if err := r.Redeem(ctx, third); !errors.Is(err, ErrFull) {
		t.Errorf("redeemed when full: %v", err)
	}
	wantRule(t, "used, when full", r.Redeem(ctx, first), RuleUsed)
	c.add(DefaultLifetime)
	if _, err := r.Issue(ctx); err != nil {
		t.Errorf("after expiry: %v", err)
	}
	if m.len() != 0 || len(m.ends) != 0 {
		t.Errorf("%d keys after expiry", m.len())
	}
	wantRule(t, "used and expired", r.Redeem(ctx, first), RuleExpired)
}

// TestClockSetBack: what was forgotten does not become new.
func TestClockSetBack(t *testing.T) {
	c := newClock()
	r := replica(t, c, memory(t, c, 2))
	nonce := issue(t, r)
	if err := r.Redeem(ctx, nonce); err != nil {
		t.Fatal(err)
	}
	c.add(DefaultLifetime)
	issue(t, r) // forgets
	c.add(-DefaultLifetime)
	wantRule(t, "forgotten", r.Redeem(ctx, nonce), RuleUsed)
}

func TestConcurrentUse(t *testing.T) {
	c := newClock()
	shared := memory(t, c, 0)
	replicas := []*Challenges{replica(t, c, shared), replica(t, c, shared)}
	for range 50 {
		nonce := issue(t, replicas[0])
		var good atomic.Int32
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() {
				if replicas[i%2].Redeem(ctx, nonce) == nil {
					good.Add(1)
				}
			})
		}
		group.Wait()
		if good.Load() != 1 {
			t.Fatalf("redeemed %d times", good.Load())
		}
	}
}

type broken struct{ UsedSet }

var errBroken = errors.New("broken")

func (broken) Use(context.Context, Key, time.Time) (bool, error) { return true, errBroken }
func (broken) Used(context.Context, Key) (bool, error)           { return false, errBroken }
func (broken) Room(context.Context) error                        { return nil }

func TestBrokenSetRefuses(t *testing.T) {
	r := replica(t, newClock(), broken{})
	nonce := issue(t, r)
	if err := r.Redeem(ctx, nonce); !errors.Is(err, errBroken) {
		t.Errorf("Redeem: %v", err)
	}
	if err := r.Check(ctx, nonce); !errors.Is(err, errBroken) {
		t.Errorf("Check: %v", err)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{}, {Key: key(1)[1:]}, {Key: key(1), Lifetime: -1}, {Key: key(1), Lifetime: MaxLifetime + 1}, {Key: key(1), Lifetime: time.Millisecond}} {
		if c, err := New(o); err == nil || c != nil {
			t.Errorf("%v: taken", o.Lifetime)
		}
	}
	if m, err := NewMemory(MemoryOptions{Capacity: -1}); err == nil || m != nil {
		t.Error("a negative capacity is taken")
	}
	own := key(1)
	c, err := New(Options{Key: own})
	if err != nil {
		t.Fatal(err)
	}
	nonce := issue(t, c)
	clear(own) // the key was copied
	if err := c.Redeem(ctx, nonce); err != nil {
		t.Error(err)
	}
}

func FuzzChallenge(f *testing.F) {
	c := newClock()
	r := replica(f, c, nil)
	good := issue(f, r)
	seeds := [][]byte{good, good[:Size-1], make([]byte, Size), {version}}
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	for _, seed := range seeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, nonce []byte) {
		err := r.Check(ctx, nonce)
		// What is good has the MAC and the clock's time ahead of it; workers of
		// the fuzzer issue different ones under the same key.
		n := Size - sha256.Size
		if err == nil && (len(nonce) != Size || !bytes.Equal(r.mac(nil, nonce[:n]), nonce[n:]) ||
			int64(binary.BigEndian.Uint64(nonce[1:9])) <= c.now().UnixMilli()) {
			t.Fatalf("%x is taken", nonce)
		}
		if _, ok := errors.AsType[*reason.Error](err); err != nil && !ok {
			t.Fatal(err)
		}
	})
}
