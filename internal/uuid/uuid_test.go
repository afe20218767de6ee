// SPDX-License-Identifier: Apache-2.0

package uuid_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"regexp"
	"testing"

	"github.com/cretula/cretula/internal/uuid"
)

func TestOf(t *testing.T) {
	for in, want := range map[[uuid.Size]byte]string{
		{}: "00000000-0000-4000-8000-000000000000",
		[uuid.Size]byte(bytes.Repeat([]byte{0xff}, uuid.Size)): "ffffffff-ffff-4fff-bfff-ffffffffffff",
		// RFC 9562, appendix A.3
		{0x91, 0x91, 0x08, 0xf7, 0x52, 0xd1, 0x43, 0x20, 0x9b, 0xac, 0xf8, 0x47, 0xdb, 0x41, 0x48, 0xa8}: "919108f7-52d1-4320-9bac-f847db4148a8",
	} {
		if got := uuid.Of(in); got != want {
			t.Errorf("%x: %s, want %s", in, got, want)
		}
	}
}

func TestNew(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := map[string]bool{}
	for range 1000 {
		id, err := uuid.New(rand.Reader)
		if err != nil || !form.MatchString(id) || seen[id] {
			t.Fatalf("%q, %v", id, err)
		}
		seen[id] = true
	}
	if id, err := uuid.New(bytes.NewReader(make([]byte, uuid.Size-1))); id != "" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("of too few bytes: %q, %v", id, err)
	}
}
