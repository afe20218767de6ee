// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
)

// A call is one request on its way through the steps: decode, resolve key,
// verify recipient, decide, operate, seal, audit, answer.
type call struct {
	ctx    context.Context
	server *Server
	caller *Caller
	op     *kmsapi.Operation
	now    time.Time
	event  *Event
	// recorded says that the event is durable already: see change.
	recorded bool
}

// run is what every operation goes through. do does the steps from resolving the
// key to sealing; the result of do is returned only when its audit event is
// durable. The error is always a [*kmsapi.Error].
func run[I, O any](ctx context.Context, s *Server, caller *Caller, name string, in *I, do func(*call, *I) (*O, error)) (*O, error) {
	c, err := s.begin(ctx, caller, name)
	if err != nil {
		return nil, err
	}
	defer c.recordPanic()
	var out *O
	if err = kmsapi.Validate(in); err == nil {
		out, err = do(c, in)
	}
	if err := c.finish(err); err != nil {
		return nil, err
	}
	return out, nil
}

func (s *Server) begin(ctx context.Context, caller *Caller, name string) (*call, error) {
	id, err := randomHex(s.random, decisionSize)
	if err != nil {
		return nil, kmsapi.Internal(err)
	}
	now := s.now()
	principal := &caller.Principal
	op, source := kmsapi.Lookup(name), sourceKMS
	if op == nil {
		source = sourceOwn
	}
	return &call{
		ctx: ctx, server: s, caller: caller, op: op, now: now,
		event: &Event{
			Schema: EventSchema, EventTime: now.UTC(), EventName: name, EventSource: source,
			Region: caller.Region, SourceIP: caller.SourceIP, UserAgent: clip(caller.UserAgent),
			UserIdentity: UserIdentity{
				Type: identityTypes[principal.Type], ARN: principal.ARN(), AccountID: principal.Account, AccessKeyID: caller.AccessKeyID,
			},
			RequestID: caller.RequestID, DecisionID: "d-" + id, Emulated: s.emulated, Outcome: Allowed,
			RequestParameters: map[string]any{},
		},
	}, nil
}

// identityTypes are the values of userIdentity.type and of aws:PrincipalType.
var identityTypes = map[PrincipalType]string{User: "User", Role: "AssumedRole"}

// recordPanic makes an event of a panic, which goes on.
func (c *call) recordPanic() {
	if p := recover(); p != nil {
		// The value is left out: it may quote what the request held.
		c.finish(kmsapi.Internal(fmt.Errorf("kms: a panic with a value of type %T", p)))
		panic(p)
	}
}

// change is [Server.change] with the event of the call, which finish corrects.
func (c *call) change(fn func(*ledger.Tx) error) (err error) {
	c.recorded, err = c.server.change(c.ctx, c.event, fn)
	return err
}

// finish writes the audit event and returns the error that the client gets: err,
// or an internal error if the event could not be made durable.
func (c *call) finish(err error) error {
	var answer *kmsapi.Error
	switch {
	case err != nil:
		answer = c.classify(err)
		answer.DecisionID = c.event.DecisionID
		c.event.ErrorCode = string(answer.Code)
		c.event.ErrorMessage = clip(answer.Message)
		if c.event.Outcome == Allowed {
			c.event.Outcome = Failed
		}
		if answer.Err != nil {
			c.event.Cause = clip(answer.Err.Error())
		}
	case c.recorded:
		return nil
	}
	// The answer waits for the disk even if the client has gone: what happened
	// must be on record.
	if auditErr := c.server.record(context.WithoutCancel(c.ctx), c.event); auditErr != nil {
		failure := kmsapi.Internal(auditErr)
		failure.DecisionID = c.event.DecisionID
		return failure
	}
	if answer != nil {
		return answer
	}
	return nil
}

// classify makes the client's error of any error.
func (c *call) classify(err error) *kmsapi.Error {
	if e, ok := errors.AsType[*kmsapi.Error](err); ok {
		copied := *e
		return &copied
	}
	return kmsapi.Internal(err)
}

// parameter notes a member of the request that may be seen.
func (c *call) parameter(name string, value any) { c.event.RequestParameters[name] = value }

// IsTampered tells whether an error says that a row of the store is not what this
// service wrote. Its message names the row.
func IsTampered(err error) bool {
	_, ok := errors.AsType[*ledger.TamperedError](err)
	return ok
}
