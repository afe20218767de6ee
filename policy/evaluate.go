// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// Values are the values of one condition key of a request.
type Values []string

// A Context has the condition keys of a request. A key that is not in it is
// absent, which is not the same as present without a value. Keys match without
// regard to case; where two differ in case only, their values count as those of
// one key.
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
	// Folded says that all keys of Context are as strings.ToLower returns them, which
	// then is not looked for: a condition would not find one that is not.
	Folded bool
	// EncryptionContext is the encryption context of the request in its own case,
	// which the constraints of grants regard; nil for an operation that has none. An
	// operation that has one and was sent without has an empty map.
	EncryptionContext map[string]string
	// TakesRecipient says that the operation takes an attestation document in this
	// request. It decides nothing; an explanation needs it.
	TakesRecipient bool
	// Document says which document the request carries: "none", "enclave",
	// "enclave-debug" for one in debug mode, or "nitrotpm"; empty if that is not known.
	// It decides nothing; an explanation needs it.
	Document string
}

// A Named policy is a policy of KindIdentity with the name it goes by in a trace.
type Named struct {
	Name   string
	Policy *Policy
}

// An Input is all that a decision depends on. Its zero value denies.
type Input struct {
	Request Request
	// KeyPolicy is the policy of the key that the action is on.
	KeyPolicy *Policy
	// TrustPolicy is the trust policy of the role that the action is on, such as
	// sts:AssumeRole. There is either it or a KeyPolicy.
	TrustPolicy *Policy
	// UniqueIDs has, by the ARNs of users, roles and sessions that KeyPolicy or
	// TrustPolicy names, the unique ids that these users and roles had when the
	// policy was put. Such an
	// ARN names a caller with that id only, so that whoever is made anew under the
	// name of a principal that was removed gets nothing that was its own. Of ARNs
	// that are not in it nothing is known, and they name whoever has them. Source: IAM
	// User Guide, "AWS JSON policy elements: Principal", under IAM user principals.
	UniqueIDs map[string]string
	// NoKey says that the action is on no key, so that identity policies alone
	// decide, within boundary and session policies. It counts only where KeyPolicy
	// and TrustPolicy are nil.
	NoKey bool
	// Identity are the policies of the caller, that is of its user or role.
	Identity []Named
	// Boundary is the permissions boundary of the caller's user or role; nil: none.
	Boundary *Named
	// Session are the session policies of the caller's session; nil: none. They
	// allow what one of them allows.
	Session []Named
	// Grants are the active grants of the key. Without a KeyPolicy they count for
	// nothing.
	Grants []Grant
}

// environment is what conditions and variables look at: keys in lower case.
type environment struct {
	context Context
	// loose makes a wildcard of a variable without a value.
	loose bool
}

// tally is what the statements of one kind of policy add up to. What a policy
// allows that names no principal is direct.
type tally struct {
	denies, direct, limited, delegates []StatementRef
}

// allows tells whether a statement allows, if only together with others.
func (t *tally) allows() bool { return len(t.direct)+len(t.limited)+len(t.delegates) > 0 }

// Evaluate decides. A matching Deny of any policy comes first. After that, on a
// key of the caller's own account:
//
//   - A key policy that names the user, the session or everyone is enough.
//   - One that names the role of the session, or the user behind a federated user,
//     is enough where boundary and session policies allow too. The same holds for
//     the account's root user, which the account's principal names.
//   - One that names the caller's account needs an identity policy that allows as
//     well, within boundary and session policies.
//   - A grant allows what the same principal in a key policy would allow.
//   - Identity policies alone never do.
//
// On another account's key, key policy and identity policy must both allow,
// within boundary and session policies, and only the operations that AWS lets act
// across accounts are possible; a grant suffices for both. Services need no
// identity policies. A federated user without a session policy has no permissions
// but those that name the session or everyone.
//
// A trust policy counts on its role as a key policy on its key, with these
// differences: every action is possible across accounts; a web identity is named by
// its provider only, in an Allow never by everyone, and nothing but the trust policy
// decides about it; the root user of an account cannot assume a role.
//
// Source: AWS KMS Developer Guide, "Determining access to AWS KMS keys",
// "Allowing users in other accounts to use a KMS key" and "Grants in AWS KMS"; IAM
// User Guide, "How AWS enforcement code logic evaluates requests", "AWS JSON
// policy elements: Principal" and "Permissions boundaries for IAM entities"; AWS
// STS API Reference, "GetFederationToken" and "AssumeRole".
func Evaluate(in Input) Decision {
	e := evaluations.Get().(*evaluation)
	e.evaluate(&in)
	d := e.decision
	e.memory = memory{} // which is the decision's
	e.reset()
	evaluations.Put(e)
	return d
}

// evaluations has the memory of those that are done.
var evaluations = sync.Pool{New: func() any { return new(evaluation) }}

// An Evaluator makes decisions, one after the other in the same memory, for who makes
// many. Its zero value is ready. It may not be copied, and is used by one goroutine.
type Evaluator struct{ evaluation evaluation }

// Evaluate decides as [Evaluate] does. The decision, with all that is in it, is good
// until the next call of Evaluate or Reset.
func (e *Evaluator) Evaluate(in *Input) *Decision {
	if e.evaluation.trace != nil {
		e.Reset()
	}
	e.evaluation.evaluate(in)
	return &e.evaluation.decision
}

// Reset forgets the last decision. Of its memory it keeps what ordinary policies need.
func (e *Evaluator) Reset() { e.evaluation.reset() }

func (e *evaluation) reset() {
	e.course = course{}
	e.verdicts.empty()
	e.memory.empty()
}

func (e *evaluation) evaluate(in *Input) {
	e.request, e.trace = in.Request, &e.decision.Trace
	req, d, v := &e.request, &e.decision, &e.verdicts
	d.Trace = Trace{
		Principal: req.Principal, Action: req.Action, Resource: req.Resource,
		TakesRecipient: req.TakesRecipient, Document: req.Document, Policies: atLeast(e.memory.policies, 2+len(in.Identity)+len(in.Session)),
	}
	p := &d.Trace.Principal
	for _, s := range []*string{&p.ARN, &p.RoleARN, &p.UserARN, &p.UniqueID, &d.Trace.Action, &d.Trace.Resource, &d.Trace.Document} {
		d.Trace.clip(s)
	}
	if !in.valid() {
		d.Cause = CauseInvalid
		return
	}
	e.action, e.bounded, e.ids = strings.ToLower(req.Action), in.Boundary != nil, in.UniqueIDs
	e.env, e.budget = environment{context: req.Context}, traceBudget
	if !req.Folded {
		e.env.context = fold(req.Context)
	}
	if in.KeyPolicy != nil {
		e.policy(in.KeyPolicy, kindKey, "", &v.key)
	}
	if in.TrustPolicy != nil {
		e.policy(in.TrustPolicy, kindTrust, "", &v.key)
	}
	for _, n := range in.Identity {
		e.policy(n.Policy, kindIdentity, n.Name, &v.identity)
	}
	if in.Boundary != nil {
		e.policy(in.Boundary.Policy, kindBoundary, in.Boundary.Name, &v.boundary)
	}
	for _, n := range in.Session {
		e.policy(n.Policy, kindSession, n.Name, &v.session)
	}
	if in.KeyPolicy != nil {
		v.grants = e.grants(in.Grants)
	}
	d.By = e.memory.by
	d.decide(in, v)
	if len(d.By) == 0 {
		d.By = nil
	}
	e.memory.policies, e.memory.by = d.Trace.Policies, d.By
	if cause, differs := trustCauses[d.Cause]; differs && in.TrustPolicy != nil {
		d.Cause = cause
	}
	d.By = d.By[:min(len(d.By), maxRefs)]
}

// Conditional tells whether the decision, with its trace, can depend on the Context of
// the request: whether a policy has a condition or a variable, or a grant a constraint
// that is a condition key. If not, whoever makes the Input need not make a Context.
func (in *Input) Conditional() bool {
	regards := func(p *Policy) bool { return p != nil && len(p.keys) > 0 }
	named := func(n Named) bool { return regards(n.Policy) }
	return regards(in.KeyPolicy) || regards(in.TrustPolicy) || slices.ContainsFunc(in.Identity, named) ||
		in.Boundary != nil && named(*in.Boundary) || slices.ContainsFunc(in.Session, named) ||
		slices.ContainsFunc(in.Grants, func(g Grant) bool { return g.SourceArn != "" })
}

// ConditionKeys appends the condition keys on which the decision, with its trace, can
// depend, as strings.ToLower returns them; some may be there twice. Whoever makes the
// Input need put no other into its Context.
func (in *Input) ConditionKeys(keys []string) []string {
	add := func(p *Policy) {
		if p != nil {
			keys = append(keys, p.keys...)
		}
	}
	add(in.KeyPolicy)
	add(in.TrustPolicy)
	for i := range in.Identity {
		add(in.Identity[i].Policy)
	}
	if in.Boundary != nil {
		add(in.Boundary.Policy)
	}
	for i := range in.Session {
		add(in.Session[i].Policy)
	}
	if slices.ContainsFunc(in.Grants, func(g Grant) bool { return g.SourceArn != "" }) {
		keys = append(keys, sourceARN)
	}
	return keys
}

func (in *Input) valid() bool {
	if p := in.KeyPolicy; p != nil && (!p.parsed || p.Kind != KindKey) {
		return false
	}
	if p := in.TrustPolicy; p != nil && (!p.parsed || p.Kind != KindTrust || in.KeyPolicy != nil) {
		return false
	}
	bad := func(n Named) bool { return n.Policy == nil || !n.Policy.parsed || n.Policy.Kind != KindIdentity }
	return !slices.ContainsFunc(in.Identity, bad) && !slices.ContainsFunc(in.Session, bad) &&
		(in.Boundary == nil || !bad(*in.Boundary))
}

// CrossAccount tells whether AWS KMS allows the action, such as "kms:Decrypt", on
// another account's key.
func CrossAccount(action string) bool { return crossAccount[strings.ToLower(action)] }

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

// plain tells whether s is of ASCII without capitals, as nearly all keys are.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c-'A' < 26 || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// fold returns the context with keys in lower case.
func fold(c Context) Context {
	lower := true
	for key := range c {
		lower = lower && (plain(key) || key == strings.ToLower(key))
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
