// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cretula/cretula/kms/keystore"
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
	// in is the input shape, common what it has in common with others.
	in     any
	common kmsapi.Common
	// body is the JSON text that in was read from.
	body []byte
	// recipient is the verified Recipient, nil if the request has none.
	recipient *recipient
	// proven is what the event's additional data is in, which the call gives back; nil
	// if there is none.
	proven *recipient
	// attested is the key whose tag asked for the recipient; else nil.
	attested *key
	// alias is the alias by which the request named its key, or "".
	alias string
	// foreign is the ARN of the key or alias of another account that the request
	// named last, or "".
	foreign string
	// resolved are the keys that this turn has resolved.
	resolved []*key
	// used are the rows of the keys whose use was allowed.
	used []string
	// counted says that a refusal is no event of its own: see strangers.
	counted bool
	// recorded says that the event is durable already: see change.
	recorded bool

	// memory is what decisions are made in; copies of the call share it.
	memory *decisionMemory
	// What nearly each call needs one of: event, and what is in it, is of these.
	own struct {
		event    Event
		session  SessionContext
		issuer   SessionIssuer
		resource [1]EventResource
		used     [1]string
		resolved [1]*key

		resolving resolving
		key       key
		taken     bool // the key
	}
}

// calls has the memory of calls that were answered.
var calls = sync.Pool{New: func() any { return &call{memory: new(decisionMemory)} }}

// recycle gives back the memory of a call. Nothing may refer to it any more: neither
// answers nor the audit log do.
func (c *call) recycle() {
	memory := c.memory
	memory.reset()
	c.proven.recycle()
	*c = call{}
	c.memory = memory
	calls.Put(c)
}

// newKey returns memory for a key.
func (c *call) newKey() *key {
	if c.own.taken {
		return new(key)
	}
	c.own.taken = true
	return &c.own.key
}

// errChanged: between the decision and the change something that the decision
// rests on was changed, perhaps to take the caller's right away. The new state
// must decide.
var errChanged = errors.New("kms: what was decided by has changed meanwhile")

// run is what every operation goes through. Its result is returned only when the
// audit event is durable. The error is always a [*kmsapi.Error].
func (s *Server) run(ctx context.Context, caller *Caller, op *kmsapi.Operation, in any, body []byte) (any, error) {
	c, err := s.begin(ctx, caller, op)
	if err != nil {
		return nil, err
	}
	defer c.recordPanic()
	c.in, c.common, c.body = in, kmsapi.CommonOf(in), body
	if c.common.HasEncryptionContext && c.common.EncryptionContext == nil {
		c.common.EncryptionContext = noContext // an empty one is sent by leaving it out
	}
	c.event.RequestParameters = kmsapi.Parameters(in)
	var out any
	if err = c.validate(); err == nil {
		err = c.checkGrantTokens()
	}
	if err == nil {
		out, err = c.operate()
	}
	err = c.finish(err)
	c.recycle()
	if err != nil {
		return nil, err
	}
	return out, nil
}

// noContext is an encryption context without a pair. It is shared: nobody writes to one.
var noContext = map[string]string{}

// operate runs the operation until what it was decided by stays as it is. Each
// turn after the first means that another request has made its change.
func (c *call) operate() (out any, err error) {
	for {
		out, err = handlers[c.op.Name](c)
		if !errors.Is(err, errChanged) || c.ctx.Err() != nil {
			return out, err
		}
		c.event.Resources, c.event.Decision, c.event.OtherDecisions, c.alias, c.used, c.resolved = nil, nil, nil, "", nil, nil
		if c.op.Extension { // whose document is judged by the key
			c.recipient, c.attested = nil, nil
		}
	}
}

// maxContextBytes bounds an encryption context, names and values together.
const maxContextBytes = 8192

// validate checks what the shape alone says, and the sizes of all that policies will
// match patterns against: before they do, for that costs the product of both.
func (c *call) validate() error {
	if err := kmsapi.Validate(c.in); err != nil {
		return err
	}
	contexts := []map[string]string{c.common.EncryptionContext}
	switch in := c.in.(type) {
	case *kmsapi.ReEncryptInput:
		contexts = append(contexts, in.SourceEncryptionContext, in.DestinationEncryptionContext)
	case *kmsapi.CreateGrantInput:
		if in.Constraints != nil {
			contexts = append(contexts, in.Constraints.EncryptionContextEquals, in.Constraints.EncryptionContextSubset)
		}
	}
	for _, context := range contexts {
		if err := checkContextSize(context); err != nil {
			return err
		}
	}
	return nil
}

func checkContextSize(context map[string]string) error {
	total := 0
	for name, value := range context {
		total += len(name) + len(value)
	}
	if total > maxContextBytes {
		return kmsapi.Errorf(kmsapi.Validation, "The encryption context is larger than %d bytes.", maxContextBytes)
	}
	return nil
}

func (s *Server) begin(ctx context.Context, caller *Caller, op *kmsapi.Operation) (*call, error) {
	id, err := s.newDecisionID()
	if err != nil {
		return nil, kmsapi.Internal(err)
	}
	now := s.now()
	s.noteAccessKey(caller.AccessKeyID, now)
	c := calls.Get().(*call)
	c.ctx, c.server, c.caller, c.op, c.now = ctx, s, caller, op, now
	c.event = &c.own.event
	c.beginEvent(id)
	return c, nil
}

// identityTypes are the values of aws:PrincipalType.
var identityTypes = map[PrincipalType]string{User: "User", Role: "AssumedRole"}

// recordPanic makes an event of a panic, which goes on.
func (c *call) recordPanic() {
	if p := recover(); p != nil {
		// The value is left out: it may quote what the request held.
		c.finish(kmsapi.Internal(fmt.Errorf("kms: a panic with a value of type %T", p)))
		panic(p)
	}
}

// change is [Server.change] with the event of the call, which finish corrects. Who
// was removed since the request was authenticated changes nothing any more.
func (c *call) change(fn func(*ledger.Tx) error) (err error) {
	c.event.respondKey()
	c.recorded, err = c.server.change(c.ctx, c.event, func(tx *ledger.Tx) error {
		if err := c.stillThere(tx); err != nil {
			return err
		}
		return fn(tx)
	})
	return err
}

// finish writes the audit event and returns the error that the client gets: err,
// or an internal error if the event could not be made durable.
func (c *call) finish(err error) error {
	var answer *kmsapi.Error
	switch {
	case err != nil:
		answer = c.hideForeign(c.classify(err))
		answer.DecisionID = c.event.DecisionID
		c.event.ErrorCode, c.event.ResponseElements = string(answer.Code), nil
		c.event.ErrorMessage = clip(answer.Message)
		if c.event.Outcome == Allowed {
			c.event.Outcome = Failed
		}
		if answer.Err != nil {
			c.event.Cause = clip(answer.Err.Error())
		}
	case c.recorded:
		c.noteUse()
		return nil
	}
	// The answer waits for the disk even if the client has gone: what happened
	// must be on record.
	if auditErr := c.server.record(context.Background(), c.event); auditErr != nil {
		failure := kmsapi.Internal(auditErr)
		failure.DecisionID = c.event.DecisionID
		return failure
	}
	if answer != nil {
		return answer
	}
	c.noteUse()
	return nil
}

// classify makes the client's error of any error.
func (c *call) classify(err error) *kmsapi.Error {
	if e, ok := errors.AsType[*kmsapi.Error](err); ok {
		copied := *e
		return &copied
	}
	return Fault(err)
}

// Fault returns the exception for an error that is no fault of the client's:
// DependencyTimeoutException where the store cannot be reached or took too long, which
// is worth another try; else KMSInternalException.
func Fault(err error) *kmsapi.Error {
	if errors.Is(err, keystore.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		return &kmsapi.Error{Code: kmsapi.DependencyTimeout, Message: "The system timed out while trying to fulfill the request.", Err: err}
	}
	return kmsapi.Internal(err)
}

// parameter notes what the input shape does not show by itself.
func (c *call) parameter(name string, value any) {
	if c.event.RequestParameters == nil {
		c.event.RequestParameters = map[string]any{}
	}
	c.event.RequestParameters[name] = value
}

// dryRun ends a request that asks only whether it would succeed.
func (c *call) dryRun() error {
	if c.common.DryRun != nil && *c.common.DryRun {
		return kmsapi.Errorf(kmsapi.DryRunOperation, "The request would have succeeded, but the DryRun option is set.")
	}
	return nil
}

// IsTampered tells whether an error says that a row of the store is not what this
// service wrote. Its message names the row.
func IsTampered(err error) bool {
	_, ok := errors.AsType[*ledger.TamperedError](err)
	return ok
}

// IsStoreTampered tells whether an error says so of the list of all rows: then it is
// about no one key or principal.
func IsStoreTampered(err error) bool {
	t, ok := errors.AsType[*ledger.TamperedError](err)
	return ok && ledger.IsRoster(t.Table)
}
