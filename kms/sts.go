// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"errors"
	"time"

	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
)

// Codes of STS that the key service has not. Source: AWS STS API Reference, the
// errors of each operation and "Common Error Types".
const (
	STSAccessDenied      kmsapi.Code = "AccessDenied"
	STSMalformedPolicy   kmsapi.Code = "MalformedPolicyDocument"
	STSPackedTooLarge    kmsapi.Code = "PackedPolicyTooLarge"
	STSInvalidParameter  kmsapi.Code = "InvalidParameterValue"
	STSInvalidIdentity   kmsapi.Code = "InvalidIdentityToken"
	STSRejectedClaim     kmsapi.Code = "IDPRejectedClaim"
	STSIDPCommunication  kmsapi.Code = "IDPCommunicationError"
	STSExpiredIdentity   kmsapi.Code = "ExpiredTokenException"
	STSUnsupported       kmsapi.Code = "UnsupportedOperation"
	STSValidation        kmsapi.Code = "ValidationError"
	STSServiceFailure    kmsapi.Code = "InternalFailure"
	STSServiceNotPresent kmsapi.Code = "ServiceUnavailable"
)

// Durations of sessions in seconds. Source: AWS STS API Reference.
const (
	defaultRoleSession = 3600
	maxChainedSession  = 3600
	defaultUserSession = 43200
	longestSession     = 129600 * time.Second // of GetSessionToken
)

// runSTS is what every operation of STS goes through: its result is returned only
// when the audit event is durable. The error is always a [*kmsapi.Error].
func runSTS[O any](ctx context.Context, s *Server, caller *Caller, op *kmsapi.Operation, in any, fn func(*call) (*O, error)) (*O, error) {
	c, err := s.begin(ctx, caller, op)
	if err != nil {
		return nil, err
	}
	defer c.recordPanic()
	c.in = in
	if caller.Principal.ID == "" { // whom a token will name, or not
		c.event.UserIdentity = UserIdentity{Type: "WebIdentityUser"}
	}
	// CloudTrail says of all of them that they change nothing.
	c.event.EventSource, c.event.ReadOnly = sourceSTS, true
	c.event.RequestParameters = kmsapi.Parameters(in)
	var out *O
	if err = kmsapi.Validate(in); err == nil {
		for out, err = fn(c); errors.Is(err, errChanged) && ctx.Err() == nil; out, err = fn(c) {
			c.event.Resources, c.event.Decision, c.event.OtherDecisions = nil, nil, nil
		}
	}
	if err != nil && c.counted {
		refused := c.classify(stsError(err))
		s.noteAnonymous(ctx, caller, op.Name, refused)
		return nil, refused
	}
	if err := c.finish(stsError(err)); err != nil {
		return nil, err
	}
	return out, nil
}

// RefuseSTS records a request for an operation of STS whose parameters cannot be read,
// and returns the error for the client. One that nobody has signed is counted: see
// [Server.NoteUnauthenticated].
func (s *Server) RefuseSTS(ctx context.Context, caller *Caller, operation string, refusal *kmsapi.Error) error {
	if caller.Principal.ID == "" {
		s.noteAnonymous(ctx, caller, operation, refusal)
		return refusal
	}
	op := &kmsapi.Operation{Name: operation}
	_, err := runSTS(ctx, s, caller, op, new(GetCallerIdentityInput), func(*call) (*struct{}, error) { return nil, refusal })
	return err
}

// noteAnonymous counts a refused request for an operation that needs no signature: see
// [Server.NoteUnauthenticated].
func (s *Server) noteAnonymous(ctx context.Context, caller *Caller, operation string, refusal *kmsapi.Error) {
	r := Unauthenticated{
		Code: refusal.Code, SourceIP: caller.SourceIP, Operation: operation, RequestID: caller.RequestID, UserAgent: caller.UserAgent,
	}
	if refusal.Err != nil {
		r.Cause = refusal.Err.Error()
	}
	s.NoteUnauthenticated(ctx, r)
}

// stsError gives an error of the key service the name that it has in STS.
func stsError(err error) error {
	e, ok := errors.AsType[*kmsapi.Error](err)
	if !ok {
		return err
	}
	copied := *e
	switch e.Code {
	case kmsapi.AccessDenied:
		copied.Code = STSAccessDenied
	case kmsapi.Validation:
		copied.Code = STSValidation
	case kmsapi.MalformedPolicyDocument:
		copied.Code = STSMalformedPolicy
	}
	return &copied
}

var (
	opGetCallerIdentity = &kmsapi.Operation{Name: "GetCallerIdentity"}
	opGetSessionToken   = &kmsapi.Operation{Name: "GetSessionToken"}
	opAssumeRole        = &kmsapi.Operation{Name: "AssumeRole"}
	opWebIdentity       = &kmsapi.Operation{Name: "AssumeRoleWithWebIdentity"}
)

// GetCallerIdentity tells who the caller is. No policy decides about it: a caller
// can always know. Source: AWS STS API Reference, "GetCallerIdentity".
func (s *Server) GetCallerIdentity(ctx context.Context, caller *Caller, in *GetCallerIdentityInput) (*CallerIdentity, error) {
	return runSTS(ctx, s, caller, opGetCallerIdentity, in, func(c *call) (*CallerIdentity, error) {
		p := &caller.Principal
		return &CallerIdentity{Arn: p.ARN(), UserID: p.UserID(), Account: p.Account}, nil
	})
}

// GetSessionToken returns temporary credentials of a user, which can do what the
// user can. Only an access key of a user can ask for them. No policy decides about
// it. Source: AWS STS API Reference, "GetSessionToken".
func (s *Server) GetSessionToken(ctx context.Context, caller *Caller, in *GetSessionTokenInput) (*TemporaryCredentials, error) {
	return runSTS(ctx, s, caller, opGetSessionToken, in, func(c *call) (*TemporaryCredentials, error) {
		if caller.Session != nil || caller.Principal.Type != User {
			return nil, kmsapi.Errorf(STSAccessDenied, "Cannot call GetSessionToken with session credentials")
		}
		if in.SerialNumber != nil || in.TokenCode != nil {
			return nil, errNoMFA()
		}
		session := &sealedSession{Session: Session{Links: c.links()}}
		return c.issue(nil, session, valueOr(in.DurationSeconds, defaultUserSession))
	})
}

// errNoMFA: nobody has a device.
func errNoMFA() error {
	return kmsapi.Errorf(STSAccessDenied, "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code.")
}

// asDecided tells by errChanged whether the store has the caller, and the role if there
// is one, in another state than that which was decided by. A session outlives what let
// it be: an access key that was taken away a moment ago must not buy one.
func (c *call) asDecided(role *assumedRole) error {
	return c.server.ledger.View(c.ctx, func(tx *ledger.Tx) error {
		if err := c.asResolved(tx); err != nil || role == nil {
			return err
		}
		return unchangedRows(tx, role.rows)
	})
}

// issue makes the credentials of a session of some seconds that begins now. role is
// whose it is; nil: the caller's.
func (c *call) issue(role *assumedRole, session *sealedSession, seconds int32) (*TemporaryCredentials, error) {
	session.Issued = c.now.UTC()
	session.Expires = session.Issued.Add(time.Duration(seconds) * time.Second).Truncate(time.Second)
	key, err := c.server.newestTokenKey(c.ctx)
	if err != nil {
		return nil, err
	}
	defer clear(key.secret)
	if err := c.asDecided(role); err != nil {
		return nil, err
	}
	credentials, err := c.server.newCredentials(sessionKeyPrefix)
	if err != nil {
		return nil, err
	}
	session.AccessKeyID, session.Secret = credentials.AccessKeyID, credentials.SecretAccessKey
	token, err := c.server.sealSession(key, session)
	if err != nil {
		return nil, err
	}
	c.event.respond("credentials", map[string]string{
		"accessKeyId": credentials.AccessKeyID, "expiration": session.Expires.Format(time.RFC3339),
	})
	return &TemporaryCredentials{credentials.AccessKeyID, credentials.SecretAccessKey, token, session.Expires}, nil
}
