// SPDX-License-Identifier: Apache-2.0

package enclave

import (
	"context"
	"encoding/base64"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/cretula/cretula/nsm"
)

func encodeBase64(data []byte) []byte {
	return []byte(base64.StdEncoding.EncodeToString(data))
}

// A clock that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// countingKeys makes keys that are only numbers, and waits for gate, if there
// is one, before each.
type countingKeys struct {
	mu   sync.Mutex
	made int
	gate chan error
}

func (c *countingKeys) generate() (*recipientKey, error) {
	if c.gate != nil {
		if err := <-c.gate; err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made++
	return &recipientKey{spki: []byte{byte(c.made)}}, nil
}

func takeNumber(t *testing.T, k *keyring) int {
	t.Helper()
	key, err := k.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return int(key.spki[0])
}

// settle waits until no key is being made.
func settle(k *keyring) {
	k.mu.Lock()
	m := k.making
	k.mu.Unlock()
	if m != nil {
		<-m.done
	}
}

func TestExchangeByUses(t *testing.T) {
	source := &countingKeys{}
	k := newKeyring(time.Hour, 20, time.Now, source.generate)
	var got []int
	for range 60 {
		got = append(got, takeNumber(t, k))
		settle(k)
	}
	// The next one is made with the 18th use and serves from then on.
	for i, n := range got {
		if want := i/18 + 1; n != want {
			t.Fatalf("use %d has key %d, want %d (%v)", i+1, n, want, got)
		}
	}
}

func TestHardLimit(t *testing.T) {
	source := &countingKeys{gate: make(chan error, 1)}
	k := newKeyring(time.Hour, 20, time.Now, source.generate)
	source.gate <- nil
	for range 20 {
		if n := takeNumber(t, k); n != 1 {
			t.Fatalf("key %d", n)
		}
	}
	// The second one is not there yet, and the first is used up.
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if key, err := k.take(short); !errors.Is(err, context.DeadlineExceeded) || key != nil {
		t.Fatalf("the 21st use: %v, %v", key, err)
	}
	source.gate <- nil
	if n := takeNumber(t, k); n != 2 {
		t.Errorf("key %d, want 2", n)
	}
}

func TestExchangeByAge(t *testing.T) {
	c := &clock{now: time.Unix(1_800_000_000, 0)}
	source := &countingKeys{}
	k := newKeyring(10*time.Minute, 1000, c.Now, source.generate)
	for _, step := range []struct {
		advance time.Duration
		want    int
	}{
		{0, 1}, {8 * time.Minute, 1}, {time.Minute, 1}, {0, 2}, // nine tenths: this call still, the next not
		{8 * time.Minute, 2}, {2 * time.Minute, 3}, // at MaxAge: not even this one
		{100 * time.Hour, 4},
	} {
		c.advance(step.advance)
		if n := takeNumber(t, k); n != step.want {
			t.Fatalf("after %v: key %d, want %d", step.advance, n, step.want)
		}
		settle(k)
	}
}

// TestOneAtATime: however many wait, one key is made.
func TestOneAtATime(t *testing.T) {
	source := &countingKeys{gate: make(chan error)}
	k := newKeyring(time.Hour, 1000, time.Now, source.generate)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if key, err := k.take(t.Context()); err != nil || key.spki[0] != 1 {
				t.Errorf("%v, %v", key, err)
			}
		})
	}
	source.gate <- nil
	wg.Wait()
	if source.made != 1 {
		t.Errorf("%d keys were made", source.made)
	}
}

func TestOneUseEach(t *testing.T) {
	source := &countingKeys{}
	k := newKeyring(time.Hour, 1, time.Now, source.generate)
	var mu sync.Mutex
	uses := map[byte]int{}
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			key, err := k.take(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			uses[key.spki[0]]++
		})
	}
	wg.Wait()
	if len(uses) != 100 {
		t.Errorf("%d keys for 100 calls", len(uses))
	}
}

func TestGenerationFails(t *testing.T) {
	broken := errors.New("no randomness")
	source := &countingKeys{gate: make(chan error, 3)}
	k := newKeyring(time.Hour, 10, time.Now, source.generate)
	source.gate <- broken
	if key, err := k.take(t.Context()); !errors.Is(err, broken) || key != nil {
		t.Fatalf("%v, %v", key, err)
	}
	// The next call tries again.
	source.gate <- nil
	for range 9 {
		takeNumber(t, k)
	}
	// The ninth had the next one made, in vain: the key it has still serves.
	source.gate <- broken
	settle(k)
	source.gate <- nil
	if n := takeNumber(t, k); n != 1 {
		t.Errorf("key %d, want 1", n)
	}
	settle(k)
	if n := takeNumber(t, k); n != 2 {
		t.Errorf("key %d, want 2", n)
	}
}

// TestKeyFails: the failure comes out of a call with its step.
func TestKeyFails(t *testing.T) {
	broken := errors.New("no randomness")
	fake := newFakeKMS(t)
	device := &fakeDevice{}
	attestor := newAttestor(t, Options{Device: device})
	attestor.keys = newKeyring(time.Hour, 1, time.Now, func() (*recipientKey, error) { return nil, broken })
	_, _, err := operations[0].call(t.Context(), fake.client(attestor), keyARN)
	wantStep(t, err, "Decrypt", StepKey, "no randomness")
	if !errors.Is(err, broken) || device.count() != 0 || len(fake.seen()) != 0 {
		t.Errorf("%v: %d documents, %d requests", err, device.count(), len(fake.seen()))
	}
}

func TestGenerateKey(t *testing.T) {
	a, err := generateKey()
	if err != nil {
		t.Fatal(err)
	}
	b, err := generateKey()
	if err != nil {
		t.Fatal(err)
	}
	if a.private.N.BitLen() != 2048 || a.private.E != 65537 || a.private.Equal(b.private) {
		t.Error("not a fresh RSA-2048 key")
	}
	// The length of an RSA-2048 SubjectPublicKeyInfo, well below the 1024
	// bytes that a document may carry.
	if len(a.spki) != 294 {
		t.Errorf("%d bytes of public key", len(a.spki))
	}
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"nothing":       {},
		"no device":     {MaxAge: time.Hour, MaxUses: 1},
		"negative age":  {Device: &fakeDevice{}, MaxAge: -1},
		"short age":     {Device: &fakeDevice{}, MaxAge: time.Minute - 1},
		"negative uses": {Device: &fakeDevice{}, MaxUses: -1},
	} {
		if a, err := New(o); err == nil || a != nil {
			t.Errorf("%s: %v, %v", name, a, err)
		}
	}
	a := newAttestor(t, Options{Device: &fakeDevice{}})
	if a.keys.maxAge != time.Hour || a.keys.maxUses != 10_000 {
		t.Errorf("defaults %v, %d", a.keys.maxAge, a.keys.maxUses)
	}
	var device nsm.Device = &fakeDevice{}
	if a = newAttestor(t, Options{Device: device, MaxAge: time.Minute, MaxUses: 7}); a.keys.maxAge != time.Minute || a.keys.maxUses != 7 {
		t.Errorf("given %v, %d", a.keys.maxAge, a.keys.maxUses)
	}
}

func TestStepString(t *testing.T) {
	for s := StepKey; s <= StepEnvelope; s++ {
		if s.String() == "invalid step" {
			t.Errorf("step %d has no name", s)
		}
	}
	if got := Step(0).String(); got != "invalid step" {
		t.Errorf("step 0 is %q", got)
	}
	err := &Error{Operation: "Decrypt", Step: StepDocument, Err: nsm.InternalError}
	if want := "enclave: Decrypt: attestation document: InternalError"; err.Error() != want || !errors.Is(err, nsm.InternalError) {
		t.Errorf("%v, want %s", err, want)
	}
}
