// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/cretula/cretula/internal/oidc"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/policy"
)

// A WebIdentityVerifier verifies the tokens of OIDC providers; [*oidc.Verifier] is
// one. Its errors are [*oidc.Error].
type WebIdentityVerifier interface {
	Verify(ctx context.Context, token string) (*oidc.Claims, error)
}

// AssumeRoleWithWebIdentity returns credentials of a session of a role for a token of
// an OIDC provider that is configured, if the trust policy of the role allows it.
// Nobody signs the request: of caller only what it says of the request counts. One
// without a token that is good comes from nobody, and is noted as such: see
// [Server.NoteUnauthenticated]. So is one that comes to nothing where there were
// maxStrangers of its provider in the same minute. Source: AWS STS API Reference,
// "AssumeRoleWithWebIdentity".
func (s *Server) AssumeRoleWithWebIdentity(ctx context.Context, caller *Caller, in *AssumeRoleWithWebIdentityInput) (*AssumedRole, error) {
	from := *caller
	from.Principal, from.AccessKeyID, from.Session, from.rows = Principal{}, "", nil, nil
	claims, err := s.verifyWebIdentity(ctx, in)
	if err == nil {
		return runSTS(ctx, s, &from, opWebIdentity, in, func(c *call) (*AssumedRole, error) {
			out, err := c.webIdentity(in, claims)
			c.counted = err != nil && !errors.Is(err, errChanged) && !s.strangers.record(claims.Provider, c.now)
			return out, err
		})
	}
	refused, ok := errors.AsType[*kmsapi.Error](stsError(err))
	if !ok {
		return nil, Fault(err)
	}
	s.noteAnonymous(ctx, caller, opWebIdentity.Name, refused)
	return nil, refused
}

// maxStrangers is how many requests with good tokens of one provider that come to
// nothing are events of their own, in a minute. Of a public provider everybody can have
// tokens, which must not suffice to fill the disk or to drive old records out of the log.
const maxStrangers = 60

// strangers has, by provider, how many there were in a minute: no more entries than
// providers are configured.
type strangers struct {
	mu     sync.Mutex
	counts map[string]strangerCount
}

type strangerCount struct {
	minute int64
	n      int
}

// record counts a request and tells whether it is an event of its own.
func (s *strangers) record(provider string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, minute := s.counts[provider], now.Unix()/60
	if c.minute != minute {
		c = strangerCount{minute: minute}
	}
	c.n++
	if s.counts == nil {
		s.counts = map[string]strangerCount{}
	}
	s.counts[provider] = c
	return c.n <= maxStrangers
}

// verifyWebIdentity returns what the token of a request says.
func (s *Server) verifyWebIdentity(ctx context.Context, in *AssumeRoleWithWebIdentityInput) (*oidc.Claims, error) {
	if err := kmsapi.Validate(in); err != nil {
		return nil, err
	}
	switch {
	case len(in.PolicyArns) > 0:
		return nil, unsupportedSTS("managed policies: PolicyArns")
	case in.ProviderId != nil:
		return nil, unsupportedSTS("providers of OAuth 2.0 access tokens: ProviderId")
	case s.webIdentities == nil:
		return nil, kmsapi.Errorf(STSInvalidIdentity, "No OpenIDConnect provider found in your account for the issuer of the token.")
	}
	claims, err := s.webIdentities.Verify(ctx, *in.WebIdentityToken)
	if refused, ok := errors.AsType[*oidc.Error](err); ok {
		return nil, &kmsapi.Error{Code: kmsapi.Code(refused.Code), Message: refused.Message, Err: refused.Err}
	}
	return claims, err
}

func (c *call) webIdentity(in *AssumeRoleWithWebIdentityInput, claims *oidc.Claims) (*AssumedRole, error) {
	role, err := c.findRole(*in.RoleArn)
	if err != nil {
		return nil, err
	}
	provider := "arn:aws:iam::" + role.account + ":oidc-provider/" + claims.Provider
	audience := strings.Join(claims.Values["aud"], ",")
	c.event.RecipientAccountID = role.account
	c.event.UserIdentity.PrincipalID = clip(provider + ":" + audience + ":" + claims.Subject)
	c.event.UserIdentity.UserName, c.event.UserIdentity.IdentityProvider = clip(claims.Subject), provider
	session, err := c.webSession(in, claims, provider)
	if err != nil {
		return nil, err
	}
	seconds := valueOr(in.DurationSeconds, defaultRoleSession)
	context := c.assumeConditions(role, session, seconds)
	context.set("aws:federatedprovider", provider)
	for name, values := range claims.Values {
		context.Context[strings.ToLower(claims.Provider)+":"+name] = values
	}
	by := policy.Principal{Type: policy.CallerWebIdentity, ARN: provider}
	if err := c.decideSession("sts:AssumeRoleWithWebIdentity", role, session, context.Context, by); err != nil {
		return nil, err
	}
	session.Links = []sessionLink{role.link(c.now)}
	out, err := c.assume(role, session, seconds)
	if err != nil {
		return nil, err
	}
	out.Subject, out.Provider, out.Audience = claims.Subject, provider, audience
	return out, nil
}

// webSession is the session that is asked for, with what the provider gives it.
func (c *call) webSession(in *AssumeRoleWithWebIdentityInput, claims *oidc.Claims, provider string) (*sealedSession, error) {
	session := &sealedSession{Session: Session{
		Name: *in.RoleSessionName, Tags: map[string]string{}, SourceIdentity: claims.SourceIdentity, FederatedProvider: provider,
	}}
	tags := make([]STSTag, 0, len(claims.Tags))
	for key, value := range claims.Tags {
		tags = append(tags, STSTag{&key, &value})
	}
	// The rules for a request are those for a token.
	err := kmsapi.Validate(&AssumeRoleInput{
		RoleArn: in.RoleArn, RoleSessionName: in.RoleSessionName, Tags: tags, TransitiveTagKeys: claims.TransitiveTagKeys,
		SourceIdentity: present(claims.SourceIdentity),
	})
	if err == nil {
		err = session.putTags(tags, claims.TransitiveTagKeys)
	}
	if err != nil {
		refused := kmsapi.Errorf(STSInvalidIdentity, "The tags or the source identity in the token break the rules for those of a session.")
		refused.Err = err
		return nil, refused
	}
	if len(claims.Tags) > 0 {
		c.parameter("principalTags", claims.Tags)
		c.parameter("transitiveTagKeys", claims.TransitiveTagKeys)
	}
	return session, c.putPolicy(session, in.Policy)
}

// present is nil for the empty text.
func present(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
