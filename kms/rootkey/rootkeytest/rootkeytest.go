// SPDX-License-Identifier: Apache-2.0

// Package rootkeytest has the suite that every [rootkey.Holder] passes, and
// starts the TPM and the HSM in software and the KMS of this module that the tests
// of holders run against.
package rootkeytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cretula/cretula/kms/rootkey"
)

// A Case is a sort of holder.
type Case struct {
	Kind string
	// New returns a holder and another of the same kind that must not open
	// what the first has sealed.
	New func(t testing.TB) (holder, other rootkey.Holder)
}

// Run runs the suite.
func Run(t *testing.T, c Case) {
	holder, other := c.New(t)
	t.Run("round trip", func(t *testing.T) { roundTrip(t, c, holder) })
	t.Run("another", func(t *testing.T) { another(t, holder, other) })
	t.Run("changed", func(t *testing.T) { changed(t, holder) })
	t.Run("concurrent", func(t *testing.T) { concurrent(t, holder) })
	t.Run("cancelled", func(t *testing.T) { cancelled(t, holder) })
	t.Run("file", func(t *testing.T) { file(t, holder, other) })
}

// secret is no root key; its bytes are easy to find.
var secret = []byte("0123456789abcdefghijklmnopqrstuv")

func mustSeal(t *testing.T, h rootkey.Holder) []byte {
	t.Helper()
	sealed, err := h.Seal(t.Context(), bytes.Clone(secret))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func mustOpen(t *testing.T, h rootkey.Holder, sealed []byte) {
	t.Helper()
	got, err := h.Open(t.Context(), sealed)
	if err != nil || !bytes.Equal(got, secret) {
		t.Errorf("Open: %d bytes, %v, want the secret", len(got), err)
	}
}

// mustRefuse wants the error of Open that the interface promises.
func mustRefuse(t *testing.T, h rootkey.Holder, what string, sealed []byte) {
	t.Helper()
	got, err := h.Open(t.Context(), sealed)
	if !errors.Is(err, rootkey.ErrNotOpened) || errors.Is(err, rootkey.ErrUnavailable) || got != nil {
		t.Errorf("%s: %d bytes, %v, want ErrNotOpened", what, len(got), err)
	}
	if err != nil && bytes.Contains([]byte(err.Error()), secret) {
		t.Errorf("%s: the error has the secret", what)
	}
}

func roundTrip(t *testing.T, c Case, h rootkey.Holder) {
	if h.Kind() != c.Kind {
		t.Errorf("kind %q, want %q", h.Kind(), c.Kind)
	}
	given := bytes.Clone(secret)
	sealed, err := h.Seal(t.Context(), given)
	if err != nil || len(sealed) == 0 || len(sealed) > rootkey.MaxSealed {
		t.Fatalf("Seal: %d bytes, %v", len(sealed), err)
	}
	if !bytes.Equal(given, secret) {
		t.Error("Seal changed the secret")
	}
	if bytes.Contains(sealed, secret[:8]) {
		t.Error("the secret is in what was sealed")
	}
	before := bytes.Clone(sealed)
	mustOpen(t, h, sealed)
	mustOpen(t, h, sealed)
	if !bytes.Equal(sealed, before) {
		t.Error("Open changed what was sealed")
	}
	if bytes.Equal(mustSeal(t, h), sealed) {
		t.Error("two seals are equal")
	}
	for _, size := range []int{0, 16, rootkey.SecretSize - 1, rootkey.SecretSize + 1, 4096} {
		if sealed, err := h.Seal(t.Context(), make([]byte, size)); err == nil || sealed != nil {
			t.Errorf("a secret of %d bytes: %d bytes, %v", size, len(sealed), err)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if printed := fmt.Sprintf(verb, h); len(printed) > 200 {
			t.Errorf("printed with %s: %s", verb, printed)
		}
	}
}

func another(t *testing.T, h, other rootkey.Holder) {
	sealed, foreign := mustSeal(t, h), mustSeal(t, other)
	mustRefuse(t, other, "by the other", sealed)
	mustRefuse(t, h, "by the first", foreign)
	mustOpen(t, h, sealed)
	mustOpen(t, other, foreign)
}

func changed(t *testing.T, h rootkey.Holder) {
	sealed := mustSeal(t, h)
	for i := range sealed {
		b := bytes.Clone(sealed)
		b[i] ^= 1 << (i % 8)
		mustRefuse(t, h, fmt.Sprintf("byte %d of %d", i, len(sealed)), b)
	}
	for n := 0; n < len(sealed); n += 1 + len(sealed)/40 {
		mustRefuse(t, h, fmt.Sprintf("%d bytes of %d", n, len(sealed)), sealed[:n])
	}
	mustRefuse(t, h, "a byte more", append(bytes.Clone(sealed), 0))
	mustRefuse(t, h, "nothing", nil)
	mustRefuse(t, h, "zeros", make([]byte, len(sealed)))
	mustRefuse(t, h, "much", make([]byte, 1<<20))
	mustOpen(t, h, sealed)
}

func concurrent(t *testing.T, h rootkey.Holder) {
	sealed := mustSeal(t, h)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if i%4 == 3 {
				if _, err := h.Seal(t.Context(), secret); err != nil {
					t.Error(err)
				}
				return
			}
			mustOpen(t, h, sealed)
		})
	}
	wg.Wait()
}

func cancelled(t *testing.T, h rootkey.Holder) {
	sealed := mustSeal(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := h.Seal(ctx, secret); !errors.Is(err, context.Canceled) || got != nil {
		t.Errorf("Seal: %d bytes, %v, want Canceled", len(got), err)
	}
	if got, err := h.Open(ctx, sealed); !errors.Is(err, context.Canceled) || errors.Is(err, rootkey.ErrNotOpened) || got != nil {
		t.Errorf("Open: %d bytes, %v, want Canceled", len(got), err)
	}
	mustOpen(t, h, sealed)
}

func file(t *testing.T, h, other rootkey.Holder) {
	path := filepath.Join(t.TempDir(), "keys", "root.key")
	made, err := rootkey.CreateHeld(t.Context(), path, h)
	if err != nil {
		t.Fatal(err)
	}
	checkFile(t, path, made, h)
	if k, err := rootkey.OpenHeld(t.Context(), path, other); !errors.Is(err, rootkey.ErrNotOpened) || k != nil {
		t.Errorf("OpenHeld by the other: %v, %v, want ErrNotOpened", k, err)
	}
	Rewrap(t, path, made, h, other)
	Rewrap(t, path, made, other, h)
}

// checkFile opens the file and compares the keys by what they do.
func checkFile(t *testing.T, path string, want rootkey.Key, h rootkey.Holder) {
	t.Helper()
	got, err := rootkey.OpenHeld(t.Context(), path, h)
	if err != nil {
		t.Fatal(err)
	}
	a, err := want.Derive("label")
	b, err2 := got.Derive("label")
	if err != nil || err2 != nil || !bytes.Equal(a, b) || got.ID() != want.ID() {
		t.Errorf("the file has another key: %s, want %s (%v, %v)", got.ID(), want.ID(), err, err2)
	}
}

// Rewrap goes from one holder to another, which must not open the same bytes,
// and back is not possible.
func Rewrap(t *testing.T, path string, k rootkey.Key, from, to rootkey.Holder) {
	t.Helper()
	if err := rootkey.Rewrap(t.Context(), path, from, to); err != nil {
		t.Fatal(err)
	}
	checkFile(t, path, k, to)
	got, err := rootkey.OpenHeld(t.Context(), path, from)
	if got != nil || !errors.Is(err, rootkey.ErrNotOpened) && !errors.Is(err, rootkey.ErrKind) {
		t.Errorf("the old holder after Rewrap: %v, %v", got, err)
	}
}
