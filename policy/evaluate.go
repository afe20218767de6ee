// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strings"
)

// Values are the values of one condition key of a request.
type Values []string

// A Context has the condition keys of a request. A key that is not in it is
// absent, which is not the same as present without a value. Keys match without
// regard to case; where two differ in case only, their values count as those of
// one key. Keys in lower case save a copy of the map.
type Context map[string]Values

// Add gives a key these values beside those it has. Two keys that differ in case
// only thus keep both their values, which no condition on one value accepts.
func (c Context) Add(key string, values ...string) {
	key = strings.ToLower(key)
	c[key] = append(c[key], values...)
}

// A Request is what is to be decided.
type Request struct {
	Principal Principal
	// Action is the action with its vendor, such as "kms:Decrypt".
	Action string
	// Resource is the ARN of the key, or of what else the action is on; "*" where
	// an action has no resource.
	Resource string
	// ResourceAccount is the account that owns the resource, of twelve digits.
	ResourceAccount string
	Context         Context
}

// A Named policy is an identity policy with the name it goes by in a trace.
type Named struct {
	Name   string
	Policy *Policy
}

// An Input is all that a decision depends on. Its zero value denies.
type Input struct {
	Request Request
	// KeyPolicy is the policy of the key that the action is on.
	KeyPolicy *Policy
	// NoKey says that the action is on no key, so that identity policies alone
	// decide. It counts only where KeyPolicy is nil.
	NoKey bool
	// Identity are the policies of the caller, that is of its user or role.
	Identity []Named
}

// environment is what conditions and variables look at: keys in lower case.
type environment struct {
	context Context
}

// tally is what the statements of one kind of policy add up to.
type tally struct {
	denies, direct, delegates []StatementRef
}

// Evaluate decides. A matching Deny of any policy comes first. On a key of the
// caller's own account a key policy that names the caller is enough, one that
// names the caller's account needs an identity policy that allows, and identity
// policies alone never are; the account's root user and services have no identity
// policies and need none. On another account's key both must allow, and only the
// operations that AWS lets act across accounts are possible.
//
// Source: AWS KMS Developer Guide, "Determining access to AWS KMS keys" and
// "Allowing users in other accounts to use a KMS key"; IAM User Guide, "Policy
// evaluation logic".
func Evaluate(in Input) Decision {
	req := &in.Request
	d := Decision{Trace: Trace{Principal: req.Principal, Action: req.Action, Resource: req.Resource, Policies: []PolicyTrace{}}}
	for _, s := range []*string{&d.Trace.Principal.ARN, &d.Trace.Principal.RoleARN, &d.Trace.Action, &d.Trace.Resource} {
		d.Trace.clip(s)
	}
	if !in.valid() {
		d.Cause = CauseInvalid
		return d
	}
	e := evaluation{
		request: req, action: strings.ToLower(req.Action),
		env:   environment{context: fold(req.Context)},
		trace: &d.Trace, budget: traceBudget,
	}
	var key, identity tally
	if in.KeyPolicy != nil {
		e.policy(in.KeyPolicy, "", &key)
	}
	for _, n := range in.Identity {
		e.policy(n.Policy, n.Name, &identity)
	}
	d.decide(&in, &key, &identity)
	d.By = d.By[:min(len(d.By), maxRefs)]
	return d
}

func (in *Input) valid() bool {
	if p := in.KeyPolicy; p != nil && (!p.parsed || p.Kind != KindKey) {
		return false
	}
	return !slices.ContainsFunc(in.Identity, func(n Named) bool {
		return n.Policy == nil || !n.Policy.parsed || n.Policy.Kind != KindIdentity
	})
}

func (d *Decision) decide(in *Input, key, identity *tally) {
	deny := func(cause Cause, by []StatementRef) { d.Cause, d.By = cause, by }
	allow := func(cause Cause, by ...[]StatementRef) { d.Allowed, d.Cause, d.By = true, cause, slices.Concat(by...) }
	req := &in.Request
	own := req.Principal.AccountID != "" && req.Principal.AccountID == req.ResourceAccount
	switch {
	case len(key.denies) > 0:
		deny(CauseKeyDeny, key.denies)
	case len(identity.denies) > 0:
		deny(CauseIdentityDeny, identity.denies)
	case in.KeyPolicy == nil && in.NoKey:
		if len(identity.direct) == 0 && req.Principal.Type != CallerRoot {
			deny(CauseNoIdentityAllow, nil)
		} else {
			allow(CauseIdentity, identity.direct)
		}
	case len(key.direct) == 0 && len(key.delegates) == 0:
		deny(CauseNoKeyAllow, nil)
	case len(key.direct) > 0 && (own || req.Principal.Type == CallerService):
		allow(CauseKeyPolicy, key.direct)
	case !own && !crossAccount[strings.ToLower(req.Action)]:
		deny(CauseCrossAccount, nil)
	case !own && req.Principal.Type == CallerRoot:
		allow(CauseBoth, key.direct, key.delegates)
	case len(identity.direct) == 0:
		deny(CauseNoIdentityAllow, nil)
	case own:
		allow(CauseDelegated, key.delegates, identity.direct)
	default:
		allow(CauseBoth, key.direct, key.delegates, identity.direct)
	}
}

// crossAccount has the actions that AWS KMS allows on another account's key, in
// lower case. Source: AWS KMS Developer Guide, "AWS KMS permissions", column
// "Cross-account use".
var crossAccount = func() map[string]bool {
	m := map[string]bool{}
	for _, name := range strings.Fields(`Encrypt Decrypt ReEncryptFrom ReEncryptTo GenerateDataKey
		GenerateDataKeyWithoutPlaintext GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext
		Sign Verify GenerateMac VerifyMac DeriveSharedSecret DescribeKey GetPublicKey
		GetKeyRotationStatus CreateGrant ListGrants RetireGrant RevokeGrant`) {
		m["kms:"+strings.ToLower(name)] = true
	}
	return m
}()

// fold returns the context with keys in lower case.
func fold(c Context) Context {
	lower := true
	for key := range c {
		lower = lower && key == strings.ToLower(key)
	}
	if lower {
		return c
	}
	keys := make([]string, 0, len(c))
	for key := range c {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	folded := make(Context, len(c))
	for _, key := range keys {
		k := strings.ToLower(key)
		folded[k] = slices.Concat(folded[k], c[key])
	}
	return folded
}
