// SPDX-License-Identifier: Apache-2.0

package datadir

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/cretula/cretula/kms"
)

// TestRestoreEndsSessions: a session that was ended after the backup was made is not
// brought back by it, nor is any other.
func TestRestoreEndsSessions(t *testing.T) {
	c := newConfig(t, "")
	d := mustCreate(t, c)
	s := server(t, d)
	user, err := s.AddPrincipal(t.Context(), kms.Principal{Type: kms.User, Name: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	session := func(s *kms.Server) *kms.TemporaryCredentials {
		t.Helper()
		found, err := s.FindAccessKey(t.Context(), user.AccessKeyID)
		if err != nil {
			t.Fatal(err)
		}
		out, err := s.GetSessionToken(t.Context(), &found.Caller, &kms.GetSessionTokenInput{})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	old := session(s)
	file := mustBackup(t, s)
	if _, err := s.FindSession(t.Context(), old.AccessKeyID, old.SessionToken); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if _, err := s.ChangePrincipal(t.Context(), "alice", "", kms.PrincipalChange{RevokedBefore: &now}); err != nil {
		t.Fatal(err)
	}
	mustClose(t, d)
	if _, err := c.Restore(t.Context(), bytes.NewReader(file), true); err != nil {
		t.Fatal(err)
	}
	d, err = c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, d)
	s = server(t, d)
	if _, err := s.FindSession(t.Context(), old.AccessKeyID, old.SessionToken); !errors.Is(err, kms.ErrAccessKey) {
		t.Errorf("the session that was revoked: %v", err)
	}
	again := session(s)
	if _, err := s.FindSession(t.Context(), again.AccessKeyID, again.SessionToken); err != nil {
		t.Errorf("a new session: %v", err)
	}
}
