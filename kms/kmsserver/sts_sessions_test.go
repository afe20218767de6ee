// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	awssts "github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/ledger"
)

// What ends sessions ends them at once, on the side of the key service and of STS.
func TestSessionsEnd(t *testing.T) {
	yes := true
	change := func(name string, c kms.PrincipalChange) func(*service) error {
		return func(s *service) error { _, err := s.kms.ChangePrincipal(s.t.Context(), name, "", c); return err }
	}
	revoke := func(name string) func(*service) error {
		return func(s *service) error {
			now := time.Now()
			return change(name, kms.PrincipalChange{RevokedBefore: &now})(s)
		}
	}
	for name, end := range map[string]func(*service) error{
		"role removed":      func(s *service) error { _, err := s.kms.RemovePrincipal(s.t.Context(), "worker", ""); return err },
		"assumer removed":   func(s *service) error { _, err := s.kms.RemovePrincipal(s.t.Context(), "alice", ""); return err },
		"role disabled":     change("worker", kms.PrincipalChange{Disabled: &yes}),
		"assumer disabled":  change("alice", kms.PrincipalChange{Disabled: &yes}),
		"role revoked":      revoke("worker"),
		"assumer revoked":   revoke("alice"),
		"token key retired": func(s *service) error { return s.kms.RotateTokenKey(s.t.Context(), true) },
		"role made anew": func(s *service) error {
			s.remove("worker")
			s.role("batch/worker", trusting(alicesARN), mayUse)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, alice := assumable(t)
			key := s.key("")
			session := s.mustAssume(provider(alice, ""))
			if err := describe(s, session, key); err != nil {
				t.Fatal(err)
			}
			wantNil(t, end(s))
			wantCode(t, describe(s, session, key), "UnrecognizedClientException")
			_, err := s.sts(session).GetCallerIdentity(t.Context(), &awssts.GetCallerIdentityInput{})
			if code, message, status, _ := refused(t, err); code != "InvalidClientTokenId" || status != 403 || message != "The security token included in the request is invalid." {
				t.Errorf("%d %s %s", status, code, message)
			}
			// Later sessions are good where there can be any.
			if strings.HasSuffix(name, "revoked") || strings.HasSuffix(name, "retired") || name == "role made anew" {
				if err := describe(s, s.mustAssume(provider(alice, "")), key); err != nil {
					t.Errorf("a later session: %v", err)
				}
			}
		})
	}
}

// A revocation ends what was issued before it also where the server that issued it was
// ahead of the one that revokes, and nothing that was issued after it where that one was
// behind.
func TestRevocationsAndClocks(t *testing.T) {
	for name, whose := range map[string]string{"role": "worker", "assumer": "alice"} {
		t.Run(name, func(t *testing.T) {
			var c clock
			s, alice := assumable(t, func(config *kms.Config) { config.Now = c.now })
			key := s.key("")
			c.ahead.Store(int64(110 * time.Second))
			session := s.mustAssume(provider(alice, ""))
			own, err := s.sts(provider(alice, "")).GetSessionToken(t.Context(), &awssts.GetSessionTokenInput{})
			wantNil(t, err)
			chained := s.mustAssume(ofSession(own.Credentials))
			c.ahead.Store(0)
			now := time.Now()
			_, err = s.kms.ChangePrincipal(t.Context(), whose, "", kms.PrincipalChange{RevokedBefore: &now})
			wantNil(t, err)
			wantCode(t, describe(s, session, key), "UnrecognizedClientException")
			wantCode(t, describe(s, chained, key), "UnrecognizedClientException")
			c.ahead.Store(int64(-110 * time.Second))
			later := s.mustAssume(provider(alice, ""))
			wantNil(t, describe(s, later, key))
			// Another change of the principal is no revocation.
			_, err = s.kms.ChangePrincipal(t.Context(), whose, "", kms.PrincipalChange{Tags: &map[string]string{"a": "b"}})
			wantNil(t, err)
			wantNil(t, describe(s, later, key))
			wantCode(t, describe(s, session, key), "UnrecognizedClientException")
			c.ahead.Store(0)
			now = time.Now()
			_, err = s.kms.ChangePrincipal(t.Context(), whose, "", kms.PrincipalChange{RevokedBefore: &now})
			wantNil(t, err)
			wantCode(t, describe(s, later, key), "UnrecognizedClientException")
		})
	}
}

// A policy that is taken away counts for the sessions that there are.
func TestSessionsSeeTheRoleAsItIs(t *testing.T) {
	s, alice := assumable(t)
	key := s.key("")
	session := s.mustAssume(provider(alice, ""))
	none := []string{}
	_, err := s.kms.ChangePrincipal(t.Context(), "worker", "", kms.PrincipalChange{Policies: &none})
	wantNil(t, err)
	wantCode(t, describe(s, session, key), "AccessDeniedException")
}

func TestAccessKeysEnd(t *testing.T) {
	for name, end := range map[string]func(*service, kms.Credentials) error{
		"inactive": func(s *service, c kms.Credentials) error {
			_, err := s.kms.SetAccessKeyActive(s.t.Context(), c.AccessKeyID, false)
			return err
		},
		"deleted": func(s *service, c kms.Credentials) error {
			_, err := s.kms.DeleteAccessKey(s.t.Context(), c.AccessKeyID)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t)
			key := s.key("")
			stolen := s.principal(kms.User, "alice", kms.AdminPolicy)
			other, err := s.kms.CreateAccessKey(t.Context(), "alice", "")
			wantNil(t, err)
			if _, err := s.kms.CreateAccessKey(t.Context(), "alice", ""); !errors.Is(err, kms.ErrPrincipal) {
				t.Errorf("a third key: %v", err)
			}
			for _, c := range []kms.Credentials{stolen, other} {
				wantNil(t, describe(s, provider(c, ""), key))
			}
			wantNil(t, end(s, stolen))
			wantCode(t, describe(s, provider(stolen, ""), key), "UnrecognizedClientException")
			_, err = s.sts(provider(stolen, "")).GetCallerIdentity(t.Context(), &awssts.GetCallerIdentityInput{})
			wantCode(t, err, "InvalidClientTokenId")
			wantNil(t, describe(s, provider(other, ""), key))
			if name == "inactive" {
				_, err := s.kms.SetAccessKeyActive(t.Context(), stolen.AccessKeyID, true)
				wantNil(t, err)
				wantNil(t, describe(s, provider(stolen, ""), key))
			} else if _, err := s.kms.DeleteAccessKey(t.Context(), stolen.AccessKeyID); !errors.Is(err, kms.ErrAccessKey) {
				t.Errorf("deleted twice: %v", err)
			}
		})
	}
}

// A token opens nothing but what it was made for.
func TestTokens(t *testing.T) {
	s, alice := assumable(t)
	key := s.key("")
	value, err := s.mustAssume(provider(alice, "")).Retrieve(t.Context())
	wantNil(t, err)
	other, err := s.mustAssume(provider(alice, "")).Retrieve(t.Context())
	wantNil(t, err)
	elsewhere, bob := assumable(t)
	foreign, err := elsewhere.mustAssume(provider(bob, "")).Retrieve(t.Context())
	wantNil(t, err)
	with := func(change func(*aws.Credentials)) aws.CredentialsProvider {
		c := value
		change(&c)
		return credentials.StaticCredentialsProvider{Value: c}
	}
	flip := func(at int) aws.CredentialsProvider {
		return with(func(c *aws.Credentials) {
			b := []byte(c.SessionToken)
			if b[at] == 'A' {
				b[at] = 'B'
			} else {
				b[at] = 'A'
			}
			c.SessionToken = string(b)
		})
	}
	cases := map[string]struct {
		p    aws.CredentialsProvider
		code string
	}{
		"another session's token":      {with(func(c *aws.Credentials) { c.SessionToken = other.SessionToken }), "UnrecognizedClientException"},
		"another session's access key": {with(func(c *aws.Credentials) { c.AccessKeyID = other.AccessKeyID }), "UnrecognizedClientException"},
		"with a user's access key":     {with(func(c *aws.Credentials) { c.AccessKeyID, c.SecretAccessKey = alice.AccessKeyID, alice.SecretAccessKey }), "UnrecognizedClientException"},
		"no token":                     {with(func(c *aws.Credentials) { c.SessionToken = "" }), "UnrecognizedClientException"},
		"no base64":                    {with(func(c *aws.Credentials) { c.SessionToken = "!" }), "UnrecognizedClientException"},
		"too long":                     {with(func(c *aws.Credentials) { c.SessionToken = strings.Repeat("A", 20<<10) }), "UnrecognizedClientException"},
		"cut":                          {with(func(c *aws.Credentials) { c.SessionToken = c.SessionToken[:len(c.SessionToken)-4] }), "UnrecognizedClientException"},
		"longer":                       {with(func(c *aws.Credentials) { c.SessionToken += "AAAA" }), "UnrecognizedClientException"},
		"of another store":             {credentials.StaticCredentialsProvider{Value: foreign}, "UnrecognizedClientException"},
		"another secret":               {with(func(c *aws.Credentials) { c.SecretAccessKey = other.SecretAccessKey }), "InvalidSignatureException"},
	}
	for at := 0; at < len(value.SessionToken)-3; at += 97 {
		cases[fmt.Sprintf("character %d", at)] = struct {
			p    aws.CredentialsProvider
			code string
		}{flip(at), "UnrecognizedClientException"}
	}
	if len(cases) < 15 {
		t.Fatal("too few")
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { wantCode(t, describe(s, c.p, key), c.code) })
	}
	if err := describe(s, with(func(*aws.Credentials) {}), key); err != nil {
		t.Error(err)
	}
}

// With the clock of the service set forward: sessions expire, and a client whose
// clock is ten minutes off is refused.
func TestSessionExpires(t *testing.T) {
	var c clock
	s, alice := assumable(t, func(config *kms.Config) { config.Now = c.now })
	key := s.key("")
	session := s.mustAssume(provider(alice, ""))
	c.ahead.Store(int64(59 * time.Minute))
	wantNil(t, describe(s, session, key)) // the signature is dated by the clock of the handler
	c.ahead.Store(int64(time.Hour + time.Second))
	err := describe(s, session, key)
	if code, message, status, _ := refused(t, err); code != "ExpiredTokenException" || status != 400 || message != "The security token included in the request is expired" {
		t.Errorf("%d %s %s", status, code, message)
	}
	_, err = s.sts(session).GetCallerIdentity(t.Context(), &awssts.GetCallerIdentityInput{})
	if code, _, status, _ := refused(t, err); code != "ExpiredToken" || status != 403 {
		t.Errorf("%d %s", status, code)
	}
}

// Token keys rotate by themselves; sessions of the old one live on as long as they
// are meant to.
func TestTokenKeysRotate(t *testing.T) {
	var c clock
	var rows *ledger.Ledger
	s, alice := assumable(t, func(config *kms.Config) { config.Now, rows = c.now, config.Ledger })
	count := func() int {
		keys, err := s.kms.ListTokenKeys(t.Context())
		wantNil(t, err)
		return len(keys)
	}
	wantNil(t, s.kms.DoDue(t.Context()))
	if count() != 0 {
		t.Error("a service without sessions has token keys")
	}
	_, err := s.kms.ChangePrincipal(t.Context(), "worker", "", kms.PrincipalChange{MaxSession: aws.Int(43200)})
	wantNil(t, err)
	key := s.key("")
	c.ahead.Store(int64(-time.Hour)) // so that the session outlives the rotation
	session := s.mustAssume(provider(alice, ""), func(in *awssts.AssumeRoleInput) { in.DurationSeconds = aws.Int32(43200) })
	for range 2 {
		wantNil(t, s.kms.DoDue(t.Context()))
	}
	if count() != 1 {
		t.Errorf("%d token keys", count())
	}
	wantNil(t, s.kms.RotateTokenKey(t.Context(), false))
	if count() != 2 {
		t.Errorf("%d token keys after a rotation", count())
	}
	wantNil(t, describe(s, session, key))
	c.ahead.Store(int64(24 * time.Hour))
	wantNil(t, s.kms.DoDue(t.Context()))
	if count() != 3 {
		t.Errorf("%d token keys after a day", count())
	}
	c.ahead.Store(int64(24*time.Hour + 38*time.Hour))
	wantNil(t, s.kms.DoDue(t.Context()))
	if count() != 2 { // the one of the day before, which is young, and a new one
		t.Errorf("%d token keys after the longest session", count())
	}
	if events := s.events("RotateTokenKey"); len(events) < 4 {
		t.Errorf("%d rotations on record", len(events))
	}
	// A row of the table moved in the place of another is noticed.
	var ids []string
	wantNil(t, rows.View(t.Context(), func(tx *ledger.Tx) error {
		return tx.Scan("token-key", "", func(r ledger.Row) bool { ids = append(ids, r.ID); return true })
	}))
	if !slices.IsSorted(ids) {
		t.Errorf("ids %v", ids)
	}
}

// A change that was decided on before the caller was disabled does not happen.
func TestChangesByTheDisabled(t *testing.T) {
	s, alice := assumable(t)
	session := s.mustAssume(provider(alice, ""))
	if _, err := s.kmsOf(session).CreateKey(t.Context(), &awskms.CreateKeyInput{}); err != nil {
		t.Fatal(err)
	}
	value, err := session.Retrieve(t.Context())
	wantNil(t, err)
	found, err := s.kms.FindSession(t.Context(), value.AccessKeyID, value.SessionToken)
	wantNil(t, err)
	caller := found.Caller
	caller.Region = region
	yes, none := true, []string{}
	_, err = s.kms.ChangePrincipal(t.Context(), "alice", "", kms.PrincipalChange{Tags: &map[string]string{"a": "b"}})
	wantNil(t, err)
	if _, err := s.kms.Call(t.Context(), &caller, "CreateKey", []byte("{}")); err != nil {
		t.Errorf("of a change that takes nothing away: %v", err)
	}
	_, err = s.kms.ChangePrincipal(t.Context(), "worker", "", kms.PrincipalChange{Policies: &none})
	wantNil(t, err)
	_, err = s.kms.Call(t.Context(), &caller, "CreateKey", []byte("{}"))
	wantOwnCode(t, err, "AccessDeniedException")
	_, err = s.kms.ChangePrincipal(t.Context(), "alice", "", kms.PrincipalChange{Disabled: &yes})
	wantNil(t, err)
	_, err = s.kms.Call(t.Context(), &caller, "CreateKey", []byte("{}"))
	wantOwnCode(t, err, "UnrecognizedClientException")
}
