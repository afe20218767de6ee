// SPDX-License-Identifier: Apache-2.0

// Package sigv4 verifies AWS Signature Version 4 in the Authorization header of
// a request, or in its query. It refuses what AWS refuses and, beyond that, a
// signature that says anything twice or stands in both places, an unsigned x-amz-*
// header and a body whose hash is not signed. A signature in the query is good for 15
// minutes at most, whatever it says. Chunked payloads and SigV4a are refused.
//
// Source: AWS General Reference / IAM User Guide, "Signature Version 4 signing
// process"; "Troubleshooting Signature Version 4".
package sigv4

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// A Code is the name of an AWS exception.
type Code string

// The codes of refusals. All are answered with HTTP status 400 by AWS KMS.
const (
	MissingAuthenticationToken Code = "MissingAuthenticationTokenException"
	IncompleteSignature        Code = "IncompleteSignatureException"
	UnrecognizedClient         Code = "UnrecognizedClientException"
	InvalidSignature           Code = "InvalidSignatureException"
	ExpiredToken               Code = "ExpiredTokenException"
)

// An Error is a refusal, with AWS's text. It may be shown to the client: it holds
// nothing that the client did not send, and neither secret nor signature.
type Error struct {
	Code    Code
	Message string
}

// Error returns code and message.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

func refuse(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Errors that a Lookup answers with.
var (
	// ErrUnknown: there is no such access key, or the session token is not its.
	ErrUnknown = errors.New("sigv4: unknown access key")
	// ErrExpired: the session of this access key has ended.
	ErrExpired = errors.New("sigv4: expired session")
)

// DefaultSkew is how far a request's date may be from now in AWS KMS.
const DefaultSkew = 5 * time.Minute

// A Secret is the secret of an access key. It is read only where no signing key that
// was derived from it is known yet.
type Secret struct {
	// Version tells this secret from every other one that the access key has or
	// had: signing keys are used again where it is equal. It must be comparable.
	// nil is equal to none.
	Version any
	// Read returns the secret.
	Read func() ([]byte, error)
}

// Options configure a [Verifier]. P is what a caller is to the service.
type Options[P any] struct {
	// Service is the name that a credential must be scoped to, such as "kms".
	Service string
	// Lookup returns the secret of an access key and whom it belongs to. The token
	// is the request's X-Amz-Security-Token, of the header or the query, empty if it has none; it was signed
	// if the request is accepted, but is not verified yet: a Lookup that knows no
	// sessions must answer a token with ErrUnknown. Errors other than ErrUnknown
	// and ErrExpired, and those of reading the secret, come back from Verify as they
	// are.
	Lookup func(ctx context.Context, accessKeyID, token string) (secret Secret, owner P, err error)
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Skew is the allowed distance of dates; 0 is DefaultSkew.
	Skew time.Duration
}

// A Verifier verifies requests. It is safe for concurrent use.
type Verifier[P any] struct {
	options Options[P]
	keys    keyCache
}

// New returns a Verifier. Service and Lookup must be set.
func New[P any](o Options[P]) (*Verifier[P], error) {
	if o.Service == "" || o.Lookup == nil || o.Skew < 0 {
		return nil, errors.New("sigv4: a verifier needs a service, a lookup and no negative skew")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Skew == 0 {
		o.Skew = DefaultSkew
	}
	return &Verifier[P]{options: o}, nil
}

// A Result is what a verified request says of itself.
type Result[P any] struct {
	// Owner is what Lookup returned.
	Owner       P
	AccessKeyID string
	// Region is that of the credential scope.
	Region string
	// Time is the date of the request.
	Time time.Time
	// SignedHeaders are in lower case and sorted.
	SignedHeaders []string
}

// Verify verifies a request, as an HTTP server of this process received it, whose
// whole body was read. It does not read r.Body; ctx is for Lookup. A refusal is an
// [*Error]; another error is a failure of Lookup. The result is nil then.
func (v *Verifier[P]) Verify(ctx context.Context, r *http.Request, body []byte) (*Result[P], error) {
	q, refusal := v.read(r, body)
	if refusal != nil {
		return nil, refusal
	}
	auth := q.authorization
	secret, owner, err := v.options.Lookup(ctx, auth.accessKeyID, q.token)
	switch {
	case errors.Is(err, ErrUnknown):
		return nil, refuse(UnrecognizedClient, "The security token included in the request is invalid.")
	case errors.Is(err, ErrExpired):
		return nil, refuse(ExpiredToken, "The security token included in the request is expired")
	case err != nil:
		return nil, err
	}
	id := keyID{accessKeyID: auth.accessKeyID, date: auth.date, region: auth.region}
	key, cached := v.keys.get(id, secret.Version)
	if !cached {
		text, err := secret.Read()
		if err != nil {
			return nil, err
		}
		key = deriveKey(text, auth.date, auth.region, v.options.Service)
	}
	want := mac(key[:], q.stringToSign())
	if !hmac.Equal(want[:], auth.signature[:]) {
		return nil, refuse(InvalidSignature, "The request signature we calculated does not match the signature you provided. "+
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	if !cached {
		v.keys.put(id, secret.Version, key)
	}
	return &Result[P]{
		Owner: owner, AccessKeyID: auth.accessKeyID, Region: auth.region,
		Time: q.time, SignedHeaders: auth.signedHeaders,
	}, nil
}

// read checks everything about a request that does not need the secret.
func (v *Verifier[P]) read(r *http.Request, body []byte) (*request, *Error) {
	q := &request{inQuery: presigned(r), life: v.options.Skew}
	if q.inQuery {
		if refusal := q.readQuery(r, v.options.Service); refusal != nil {
			return nil, refusal
		}
	} else if refusal := q.readHeader(r.Header, v.options.Service); refusal != nil {
		return nil, refusal
	}
	if refusal := q.checkTime(v.options.Now(), v.options.Skew); refusal != nil {
		return nil, refusal
	}
	if refusal := q.checkSigned(r.Header); refusal != nil {
		return nil, refusal
	}
	if refusal := q.canonicalize(r, body); refusal != nil {
		return nil, refusal
	}
	return q, nil
}

// readHeader reads the signature in the headers of a request.
func (q *request) readHeader(h http.Header, service string) *Error {
	auth, refusal := readAuthorization(h, service)
	if refusal != nil {
		return refusal
	}
	q.authorization, q.token = auth, h.Get(tokenHeader)
	return q.readDate(h)
}

// A request is what the signature is calculated over.
type request struct {
	authorization
	// token is the session token, which is signed with the rest.
	token string
	// inQuery says that the signature stands in the query.
	inQuery bool
	time    time.Time
	// life is how long the signature is good from its time on.
	life      time.Duration
	canonical [sha256.Size]byte
}

const basicFormat = "20060102T150405Z"

func (q *request) stringToSign() []byte {
	b := make([]byte, 0, 192)
	b = append(b, algorithm...)
	b = append(b, '\n')
	b = q.time.AppendFormat(b, basicFormat)
	b = append(b, '\n')
	b = append(b, q.scope...)
	b = append(b, '\n')
	return hex.AppendEncode(b, q.canonical[:])
}

// checkTime refuses a signature that is too old, or not of this time yet.
func (q *request) checkTime(now time.Time, skew time.Duration) *Error {
	at := q.time
	now = now.UTC().Truncate(time.Second)
	if oldest := now.Add(-q.life); at.Before(oldest) {
		return refuse(InvalidSignature, "Signature expired: %s is now earlier than %s (%s - %d min.)",
			at.Format(basicFormat), oldest.Format(basicFormat), now.Format(basicFormat), int(q.life/time.Minute))
	}
	if newest := now.Add(skew); at.After(newest) {
		return refuse(InvalidSignature, "Signature not yet current: %s is still later than %s (%s + %d min.)",
			at.Format(basicFormat), newest.Format(basicFormat), now.Format(basicFormat), int(skew/time.Minute))
	}
	return nil
}
