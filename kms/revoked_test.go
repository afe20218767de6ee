// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"errors"
	"testing"
	"time"
)

// sameStore returns another server over the store of s, whose clock differs.
func sameStore(t *testing.T, s *Server, ahead time.Duration) *Server {
	t.Helper()
	other, err := New(Config{Ledger: s.ledger, RootKey: s.rootKey, Audit: noLog{}, Now: func() time.Time { return time.Now().Add(ahead) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	return other
}

// TestRevokedByAnotherClock revokes sessions at one server that another has issued,
// whose clock is not the same.
func TestRevokedByAnotherClock(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"ahead": 55 * time.Second, "behind": -55 * time.Second, "the same": 0} {
		t.Run(name, func(t *testing.T) {
			s, admin := tokenService(t)
			other := sameStore(t, s, ahead)
			access := adminKey(t, s)
			issue := func() *TemporaryCredentials {
				t.Helper()
				found, err := other.FindAccessKey(t.Context(), access)
				if err != nil {
					t.Fatal(err)
				}
				caller := found.Caller
				caller.Region = "us-east-1"
				out, err := other.GetSessionToken(t.Context(), &caller, &GetSessionTokenInput{})
				if err != nil {
					t.Fatal(err)
				}
				return out
			}
			opens := func(c *TemporaryCredentials) error {
				_, err := other.FindSession(t.Context(), c.AccessKeyID, c.SessionToken)
				_, err2 := s.FindSession(t.Context(), c.AccessKeyID, c.SessionToken)
				if (err == nil) != (err2 == nil) {
					t.Errorf("one server says %v, the other %v", err, err2)
				}
				return err
			}
			revoke := func(at time.Time) {
				t.Helper()
				if _, err := s.ChangePrincipal(t.Context(), admin, "", PrincipalChange{RevokedBefore: &at}); err != nil {
					t.Fatal(err)
				}
			}
			stolen := issue()
			revoke(time.Now().Add(-time.Hour)) // which says nothing of it
			if err := opens(stolen); err != nil {
				t.Errorf("issued long after that: %v", err)
			}
			revoke(time.Now())
			if err := opens(stolen); !errors.Is(err, ErrAccessKey) {
				t.Errorf("a session that was revoked: %v", err)
			}
			later := issue()
			if err := opens(later); err != nil {
				t.Errorf("a session that was issued later: %v", err)
			}
			revoke(time.Now())
			if err := opens(later); !errors.Is(err, ErrAccessKey) {
				t.Errorf("revoked again: %v", err)
			}
		})
	}
}

// TestRevokedLinks revokes who assumed a role, at a server whose clock is behind.
func TestRevokedLinks(t *testing.T) {
	s, admin := tokenService(t)
	other := sameStore(t, s, 55*time.Second)
	trust := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/admin"},"Action":"sts:AssumeRole"}}`
	role := Principal{Type: Role, Name: "worker", Account: "000000000000", Policies: []string{}, TrustPolicy: trust}
	if _, err := s.AddPrincipal(t.Context(), role); err != nil {
		t.Fatal(err)
	}
	access, err := other.FindAccessKey(t.Context(), adminKey(t, s))
	if err != nil {
		t.Fatal(err)
	}
	caller := access.Caller
	caller.Region = "us-east-1"
	arn, session := "arn:aws:iam::000000000000:role/worker", "work"
	for _, who := range []string{admin, "worker"} {
		out, err := other.AssumeRole(t.Context(), &caller, &AssumeRoleInput{RoleArn: &arn, RoleSessionName: &session})
		if err != nil {
			t.Fatal(err)
		}
		opens := func() error {
			_, err := s.FindSession(t.Context(), out.Credentials.AccessKeyID, out.Credentials.SessionToken)
			return err
		}
		if err := opens(); err != nil {
			t.Errorf("before %s is revoked: %v", who, err)
		}
		now := time.Now()
		if _, err := s.ChangePrincipal(t.Context(), who, "", PrincipalChange{RevokedBefore: &now}); err != nil {
			t.Fatal(err)
		}
		if err := opens(); !errors.Is(err, ErrAccessKey) {
			t.Errorf("after %s is revoked: %v", who, err)
		}
		// The next turn has the caller as it was authenticated before.
	}
}

func adminKey(t *testing.T, s *Server) string {
	t.Helper()
	credentials, err := s.EnsureAdmin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return credentials.AccessKeyID
}
