// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"testing"
	"time"
)

// TestLastUseOfLateServer has two servers that used one key and one access key, of
// which that with the earlier use writes last.
func TestLastUseOfLateServer(t *testing.T) {
	f := newTornFixture(t)
	early, late := f.Server, sameStore(t, f.Server, 0)
	parsed, ok := parseARN(f.keyARN)
	if !ok {
		t.Fatal(f.keyARN)
	}
	name := keyRowID(parsed)
	first := time.Date(2090, 11, 20, 23, 59, 59, 0, time.UTC)
	second := first.Add(time.Second)
	note := func(s *Server, operation string, at time.Time) {
		s.uses.note(name, keyUse{operation, at, operation, operation})
		s.noteAccessKey(f.admin.AccessKeyID, at)
	}
	write := func(s *Server) {
		t.Helper()
		if err := s.writeUses(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.writeKeyDays(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	want := func(when string) {
		t.Helper()
		for which, s := range map[string]*Server{"early": early, "late": late} {
			use, known, err := s.lastUse(t.Context(), name)
			if err != nil || !known || use.Operation != "Decrypt" || !use.Time.Equal(second) {
				t.Errorf("%s, %s: %+v, %t, %v", when, which, use, known, err)
			}
			info, err := s.FindPrincipal(t.Context(), AdminName, "")
			if err != nil || info.AccessKeys[0].LastUsed != "2090-11-21" {
				t.Errorf("%s, %s: %+v, %v", when, which, info.AccessKeys, err)
			}
		}
	}
	note(late, "Encrypt", first)
	note(early, "Decrypt", second)
	write(early)
	want("one is still to be written")
	write(late)
	want("both are written")
	// Of requests of one server the one that began later may be noted first.
	note(late, "Decrypt", second)
	note(late, "Encrypt", first)
	want("noted the other way round")
	write(late)
	want("and written")
	// What is later is written.
	note(late, "Sign", second.AddDate(0, 0, 1))
	write(late)
	use, _, err := early.lastUse(t.Context(), name)
	if info, err2 := early.FindPrincipal(t.Context(), AdminName, ""); err != nil || err2 != nil || use.Operation != "Sign" || info.AccessKeys[0].LastUsed != "2090-11-22" {
		t.Errorf("later: %+v, %+v, %v, %v", use, info.AccessKeys, err, err2)
	}
}
