// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/cretula/cretula/kms/audit"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/policy"
)

// ExplainInput is the body of a signed request for an explanation.
type ExplainInput struct {
	DecisionId *string `json:",omitempty" kms:"required,len=1..128"`
}

// errExplain is the one answer for a decision that is unknown and one that the
// caller may not see.
func errExplain() *kmsapi.Error {
	return kmsapi.Errorf(kmsapi.AccessDenied, "There is no such decision, or you are not allowed to see it.")
}

// ErrNoDecision: no event has the id.
var ErrNoDecision = errors.New("kms: there is no such decision")

// Explain returns the event of a decision to whoever may do everything here: the
// admin socket and the owner of the files. The error matches [ErrNoDecision].
func (s *Server) Explain(ctx context.Context, id string) (*Event, error) {
	entry, err := s.audit.Find(ctx, id)
	if errors.Is(err, audit.ErrNotFound) {
		return nil, ErrNoDecision
	}
	if err != nil {
		return nil, err
	}
	return ParseEvent(entry)
}

// ParseEvent reads an event of the service from an entry of its audit log.
func ParseEvent(entry audit.Entry) (*Event, error) {
	event := new(Event)
	if err := json.Unmarshal(entry.Event, event); err != nil {
		return nil, fmt.Errorf("kms: record %d of the audit log: %w", entry.Seq, err)
	}
	event.restore()
	return event, nil
}

// explainOperation is the one operation that is not of AWS's service. Policies
// decide about it as about GetKeyPolicy.
var explainOperation = &kmsapi.Operation{
	Name: "ExplainDecision", Input: reflect.TypeFor[ExplainInput](), Output: reflect.TypeFor[Event](),
}

// CallExplain is [Server.Call] for ExplainDecision: the body is an [ExplainInput],
// the answer an [Event].
//
// It goes to a caller who may call GetKeyPolicy on each key that the event is
// about; where it is about none, to one of the same account whose identity
// policies allow GetKeyPolicy on every key. All others get the same
// AccessDeniedException, whether or not the decision exists. Identity policies of
// another account are left out. Being asked is an event of its own.
func (s *Server) CallExplain(ctx context.Context, caller *Caller, body []byte) ([]byte, error) {
	return s.callOperation(ctx, caller, explainOperation, body)
}

func (c *call) explain(in *ExplainInput) (*Event, error) {
	event, err := c.findEvent(*in.DecisionId)
	if errors.Is(err, ErrNoDecision) {
		c.event.Outcome = Denied
		return nil, errExplain()
	}
	if err != nil {
		return nil, err
	}
	if err := c.mayExplain(event); err != nil {
		return nil, err
	}
	if event.UserIdentity.AccountID != c.caller.Principal.Account {
		event.hideIdentityPolicies()
	}
	return event, nil
}

// hideIdentityPolicies takes out of the decision what only the account of the
// request's caller may see.
func (e *Event) hideIdentityPolicies() {
	own := policy.KindKey.String()
	hide := func(d *policy.Decision) {
		d.By = slices.DeleteFunc(d.By, func(s policy.StatementRef) bool { return s.Kind != own })
		d.Trace.Policies = slices.DeleteFunc(d.Trace.Policies, func(p policy.PolicyTrace) bool { return p.Kind != own })
	}
	if e.Decision != nil {
		hide(e.Decision)
	}
	for i := range e.OtherDecisions {
		hide(&e.OtherDecisions[i])
	}
}

// mayExplain decides on every key that the event is about, as its decisions show
// the policies of all of them.
func (c *call) mayExplain(event *Event) error {
	if len(event.Resources) == 0 {
		return c.mayExplainKey(event, nil)
	}
	for _, resource := range event.Resources {
		name, ok := parseARN(resource.ARN)
		if !ok {
			return errExplain()
		}
		k, err := c.server.loadKey(c.ctx, name, &c.caller.Principal)
		if tampered, ok := errors.AsType[*ledger.TamperedError](err); ok {
			// Nobody can be shown to have the right.
			return &kmsapi.Error{Code: kmsapi.AccessDenied, Message: errExplain().Message, Err: tampered}
		}
		if err != nil && !errors.Is(err, errNoKey) {
			return err
		}
		if err == nil {
			c.noteKey(name)
		} else if name.account != c.caller.Principal.Account {
			return errExplain() // whether other accounts have or had a key is not shown
		}
		if err := c.mayExplainKey(event, k); err != nil {
			return err
		}
	}
	return nil
}

// mayExplainKey decides on one key of the event, nil if there is none or none any
// more.
func (c *call) mayExplainKey(event *Event, k *key) error {
	if k == nil && event.UserIdentity.AccountID != c.caller.Principal.Account {
		return errExplain()
	}
	asked := *c
	asked.op, asked.in = kmsapi.Lookup("GetKeyPolicy"), new(kmsapi.GetKeyPolicyInput)
	in, err := asked.request(k)
	if err != nil {
		return err
	}
	if c.judge(in) != nil {
		return errExplain()
	}
	return nil
}

// parseARN reads the ARN of a key as this service writes it.
func parseARN(arn string) (keyName, bool) {
	part := strings.Split(arn, ":")
	if len(part) != 6 {
		return keyName{}, false
	}
	id, ok := strings.CutPrefix(part[5], "key/")
	return keyName{account: part[4], region: part[3], id: id}, ok
}
