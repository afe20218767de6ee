// SPDX-License-Identifier: Apache-2.0

// Package kms is the key service without HTTP: principals, keys, decisions and
// the audit record of each. Every operation is one function over the shapes of
// package kmsapi, and each request flows one way: resolve the key, verify the
// recipient, decide, operate, seal, audit, answer.
//
// The service judges documents, policies judge images: a Recipient must be
// genuine and recent, and its registers become condition keys. A key is used
// only if the audit event of that use is durable; denials are events too.
package kms

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/kms/rootkey"
)

// decisionSize is the length of a decision's random id in bytes: who cannot
// guess an id learns nothing by asking.
const decisionSize = 16

func (s *Server) newDecisionID() (string, error) { return randomHex(s.random, "d-", decisionSize) }

// Config is what a service works with. Ledger, RootKey and Audit must be given;
// closing them stays the caller's business.
type Config struct {
	// Ledger has the rows. Its meta row says whether the store is emulated.
	Ledger *ledger.Ledger
	// RootKey wraps key material and the secrets of access keys.
	RootKey rootkey.Key
	// Audit gets an event of every request before its answer.
	Audit AuditLog
	// Roots are the roots that documents must chain to; nil: AWS's. Given ones
	// replace AWS's. A production store refuses all but AWS's.
	Roots []*x509.Certificate
	// AllowDebug lets policies allow documents of enclaves in debug mode. Without
	// it such a request is denied even where a policy would allow it.
	AllowDebug bool
	// AllowCertificates is asked before n signatures of certificates are checked for
	// a caller, whose document's chain was not seen before; where it refuses, the
	// request is throttled. nil: never refused.
	AllowCertificates func(caller *Caller, n int) bool
	// WebIdentity verifies the tokens of AssumeRoleWithWebIdentity; nil: none is taken.
	WebIdentity WebIdentityVerifier
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Random is the source of keys and ids; nil: crypto/rand.
	Random io.Reader
}

// A Server is the key service. It is safe for concurrent use. It should be closed.
type Server struct {
	ledger     *ledger.Ledger
	rootKey    rootkey.Key
	audit      AuditLog
	verifier   *attestation.Verifier
	allowDebug bool
	emulated   bool
	account    string
	now        func() time.Time
	random     io.Reader
	policies   policyCache
	uses       uses
	keyDays    keyDays
	// webIdentities is nil if no provider is configured.
	webIdentities WebIdentityVerifier
	pairs         pairs
	explaining    chan struct{} // see findEvent

	unauthenticated unauthenticated
	strangers       strangers

	allowCertificates func(*Caller, int) bool
}

// ErrProductionRoot: roots other than AWS's were given to a production store.
var ErrProductionRoot = errors.New("kms: this is a production store: it trusts the roots of AWS only, whatever is given")

// New returns the service over an open store. The error matches
// [ErrProductionRoot] where a root is given that is not AWS's and the store is
// not emulated.
func New(c Config) (*Server, error) {
	if c.Ledger == nil || c.RootKey == nil || c.Audit == nil {
		return nil, errors.New("kms: Config needs Ledger, RootKey and Audit")
	}
	meta := c.Ledger.Meta()
	if !isAccount(meta.Account) {
		return nil, errors.New("kms: the account of the store is not twelve digits")
	}
	if !meta.Emulated && !awsRoots(c.Roots) {
		return nil, ErrProductionRoot
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	verifier, err := attestation.NewVerifier(attestation.VerifierOptions{Roots: c.Roots, Now: c.Now})
	if err != nil {
		return nil, err
	}
	return &Server{
		ledger: c.Ledger, rootKey: c.RootKey, audit: c.Audit, verifier: verifier, allowDebug: c.AllowDebug,
		webIdentities: c.WebIdentity,
		emulated:      meta.Emulated, account: meta.Account, now: c.Now, random: c.Random,
		explaining: make(chan struct{}, 1), allowCertificates: c.AllowCertificates,
	}, nil
}

// awsRoots tells whether all roots are AWS's own.
func awsRoots(roots []*x509.Certificate) bool {
	for _, root := range roots {
		if root == nil || !root.Equal(attestation.RootG1()) && !root.Equal(attestation.RootGovCloud()) {
			return false
		}
	}
	return true
}

// Account returns the account that the store was made for.
func (s *Server) Account() string { return s.account }

// Emulated tells whether the store is one for documents of emulators' roots.
func (s *Server) Emulated() bool { return s.emulated }

// Do runs one operation for an authenticated caller: the one whose input shape
// is I, with O its output shape. The error is a [*kmsapi.Error].
func Do[O, I any](ctx context.Context, s *Server, caller *Caller, in *I) (*O, error) {
	op := kmsapi.LookupInput(reflect.TypeFor[I]())
	if op == nil || op.Output != reflect.TypeFor[O]() {
		return nil, kmsapi.Internal(fmt.Errorf("kms: no operation takes %T", in))
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, kmsapi.Internal(err)
	}
	out, err := s.run(ctx, caller, op, in, body)
	if err != nil {
		return nil, err
	}
	return out.(*O), nil
}

// Call decodes the body of a request, runs the operation and returns the body of
// the answer. Everything that happens is an event, an undecodable body too. The
// error is a [*kmsapi.Error].
func (s *Server) Call(ctx context.Context, caller *Caller, operation string, body []byte) ([]byte, error) {
	op := kmsapi.Lookup(operation)
	if op == nil {
		return nil, &kmsapi.Error{Code: kmsapi.UnknownOperation}
	}
	return s.callOperation(ctx, caller, op, body)
}

func (s *Server) callOperation(ctx context.Context, caller *Caller, op *kmsapi.Operation, body []byte) ([]byte, error) {
	in := reflect.New(op.Input).Interface()
	if err := kmsapi.Decode(body, in); err != nil {
		c, beginErr := s.begin(ctx, caller, op)
		if beginErr != nil {
			return nil, beginErr
		}
		return nil, c.finish(err)
	}
	out, err := s.run(ctx, caller, op, in, body)
	if err != nil || op.NoOutput() {
		return nil, err
	}
	var encoded []byte
	if fast, ok := out.(*kmsapi.DecryptOutput); ok {
		encoded, err = fast.AppendJSON(nil)
	} else {
		encoded, err = json.Marshal(out)
	}
	if err != nil {
		return nil, kmsapi.Internal(err)
	}
	return encoded, nil
}
