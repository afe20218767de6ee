// SPDX-License-Identifier: Apache-2.0

package policy

import "unicode/utf8"

// A Cause is the rule that a decision came out by.
type Cause string

// The causes. Those that allow are first.
const (
	// CauseKeyPolicy: the key policy allows the caller.
	CauseKeyPolicy Cause = "key-policy"
	// CauseDelegated: the key policy allows the caller's account, and an identity
	// policy the caller.
	CauseDelegated Cause = "delegated"
	// CauseIdentity: an identity policy allows an action that has no key.
	CauseIdentity Cause = "identity-policy"
	// CauseBoth: across accounts, the key policy and an identity policy allow.
	CauseBoth Cause = "key-and-identity-policy"

	// CauseGrant: a grant allows.
	CauseGrant Cause = "grant"

	// CauseKeyDeny: a statement of the key policy denies.
	CauseKeyDeny Cause = "key-policy-deny"
	// CauseIdentityDeny: a statement of an identity policy denies.
	CauseIdentityDeny Cause = "identity-policy-deny"
	// CauseBoundaryDeny: a statement of the permissions boundary denies.
	CauseBoundaryDeny Cause = "boundary-deny"
	// CauseSessionDeny: a statement of a session policy denies.
	CauseSessionDeny Cause = "session-policy-deny"
	// CauseNoKeyAllow: no statement of the key policy allows the caller, nor its
	// account, and no grant does.
	CauseNoKeyAllow Cause = "no-key-policy-allow"
	// CauseNoIdentityAllow: no identity policy allows, where one must.
	CauseNoIdentityAllow Cause = "no-identity-policy-allow"
	// CauseNoBoundaryAllow: the permissions boundary does not allow what other
	// policies do.
	CauseNoBoundaryAllow Cause = "no-boundary-allow"
	// CauseNoSessionAllow: no session policy allows what other policies do.
	CauseNoSessionAllow Cause = "no-session-policy-allow"
	// CauseCrossAccount: the action is not possible on another account's key.
	CauseCrossAccount Cause = "cross-account-action"
	// CauseInvalid: a policy of the input was not made by Parse, or is of the
	// wrong kind.
	CauseInvalid Cause = "invalid-policy"

	// CauseTrustPolicy: the trust policy of the role allows the caller.
	CauseTrustPolicy Cause = "trust-policy"
	// CauseTrustAndIdentity: across accounts, the trust policy and an identity
	// policy allow.
	CauseTrustAndIdentity Cause = "trust-and-identity-policy"
	// CauseTrustDelegated: the trust policy allows the caller's account, and an
	// identity policy the caller.
	CauseTrustDelegated Cause = "trust-delegated"
	// CauseTrustDeny: a statement of the trust policy denies.
	CauseTrustDeny Cause = "trust-policy-deny"
	// CauseNoTrustAllow: no statement of the trust policy allows the caller, nor
	// its account.
	CauseNoTrustAllow Cause = "no-trust-policy-allow"
)

// An Element is a part of a statement, or of a grant, that a request can fail to
// match.
type Element string

// The elements of statements.
const (
	ElementPrincipal Element = "principal"
	ElementAction    Element = "action"
	ElementResource  Element = "resource"
	ElementCondition Element = "condition"
)

// The elements of grants.
const (
	ElementGrantee    Element = "grantee"
	ElementOperation  Element = "operation"
	ElementConstraint Element = "constraint"
)

// The kinds of policy in a trace.
const (
	kindKey      = "key"
	kindTrust    = "trust"
	kindIdentity = "identity"
	kindBoundary = "boundary"
	kindSession  = "session"
)

// A Decision is the answer of [Evaluate]. It and all in it can be written as JSON
// and read back; members are only ever added.
type Decision struct {
	Allowed bool  `json:"allowed"`
	Cause   Cause `json:"cause"`
	// By names the statements that decided, at most sixteen; it is empty where no
	// statement did.
	By []StatementRef `json:"by,omitempty"`
	// Grant is the id of the grant that allowed.
	Grant string `json:"grant,omitempty"`
	Trace Trace  `json:"trace"`
}

// A StatementRef names one statement of one policy.
type StatementRef struct {
	Kind   string `json:"kind"`             // "key", "trust", "identity", "boundary" or "session"
	Policy string `json:"policy,omitempty"` // the name of a policy that is neither the key's nor the role's
	Index  int    `json:"index"`            // from 0
	Sid    string `json:"sid,omitempty"`
}

// A Trace says what every statement made of a request. It holds values of the
// encryption context, which is no secret, and never key material. It is bounded:
// about 64 KiB of text, with 1 KiB for a single value.
type Trace struct {
	Principal Principal `json:"principal"`
	Action    string    `json:"action"`
	Resource  string    `json:"resource"`
	// TakesRecipient says that the operation took an attestation document in this
	// request.
	TakesRecipient bool `json:"takes_recipient,omitempty"`
	// Document is that of the [Request].
	Document string        `json:"document,omitempty"`
	Policies []PolicyTrace `json:"policies"`
	// Grants are the grants of the key.
	Grants []GrantTrace `json:"grants,omitempty"`
	// Truncated says that statements, grants, values or parts of values were left out to
	// keep the bound. The decision took account of them.
	Truncated bool `json:"truncated,omitempty"`
}

// A PolicyTrace has the statements of one policy in their order.
type PolicyTrace struct {
	Kind       string           `json:"kind"` // as in [StatementRef]
	Name       string           `json:"name,omitempty"`
	Statements []StatementTrace `json:"statements"`
}

// A StatementTrace says whether one statement applied and why not.
type StatementTrace struct {
	Index   int    `json:"index"`
	Sid     string `json:"sid,omitempty"`
	Effect  Effect `json:"effect"`
	Applied bool   `json:"applied"`
	// Failed has every element that did not match.
	Failed []Element `json:"failed,omitempty"`
	// Delegates marks a statement of a key or trust policy that names the caller's
	// account and not the caller.
	Delegates bool `json:"delegates,omitempty"`
	// NotPrincipal marks a statement that names whom it leaves out.
	NotPrincipal bool `json:"not_principal,omitempty"`
	// Replaced marks a statement that names the caller's ARN, but from before a
	// principal was removed and the caller made under its name.
	Replaced bool `json:"replaced,omitempty"`
	// Inert marks a statement that can never apply: it has no Action or no
	// Resource.
	Inert bool `json:"inert,omitempty"`
	// Conditions has every condition of the statement, whether or not the other
	// elements matched.
	Conditions []ConditionTrace `json:"conditions,omitempty"`
}

// A GrantTrace says whether one grant matched and why not.
type GrantTrace struct {
	ID      string `json:"id"`
	Name    string `json:"name,omitempty"`
	Matched bool   `json:"matched"`
	// Failed has every element that did not match.
	Failed []Element `json:"failed,omitempty"`
	// Delegates marks a grant to the caller's account and not to the caller.
	Delegates bool `json:"delegates,omitempty"`
}

// A ConditionTrace is one condition key under one operator.
type ConditionTrace struct {
	Operator string `json:"operator"`
	// Negated says that the operator matches where no wanted value does.
	Negated bool   `json:"negated,omitempty"`
	Key     string `json:"key"`
	// Wanted are the policy's values as they were written.
	Wanted []string `json:"wanted"`
	// Present says whether the request had the key; Got are its values then.
	Present bool     `json:"present"`
	Got     []string `json:"got,omitempty"`
	Matched bool     `json:"matched"`
	// Ambiguous says that the request had several values, or the key is one that can
	// have them, and the operator no set prefix, which matches in a Deny and does not
	// in an Allow.
	Ambiguous bool `json:"ambiguous,omitempty"`
}

const (
	maxRefs       = 16
	maxValue      = 1 << 10 // bytes of one text
	maxValues     = 32      // of one condition
	traceBudget   = 64 << 10
	appliedShare  = 16 << 10 // kept for statements that applied
	statementCost = 80       // bytes of JSON around the texts
	conditionCost = 90
	grantCost     = 80
)

// admits tells whether there is room for the statement, and takes it. The statement
// shares its strings with policy and request.
func (t *Trace) admits(s *StatementTrace, budget *int) bool {
	cost := statementCost + t.clip(&s.Sid)
	for i := range s.Conditions {
		c := &s.Conditions[i]
		cost += conditionCost + t.clip(&c.Key) + t.clipList(&c.Wanted) + t.clipList(&c.Got)
	}
	floor := appliedShare
	if s.Applied {
		floor = 0
	}
	if *budget-cost < floor {
		t.Truncated = true
		return false
	}
	*budget -= cost
	return true
}

// addGrant appends the grant unless the trace is full. What is not for the caller
// leaves room for what is.
func (t *Trace) addGrant(g GrantTrace, forCaller bool, budget *int) {
	cost := grantCost + t.clip(&g.ID) + t.clip(&g.Name)
	floor := appliedShare
	if forCaller {
		floor = 0
	}
	if *budget-cost < floor {
		t.Truncated = true
		return
	}
	*budget -= cost
	t.Grants = append(t.Grants, g)
}

func (t *Trace) clip(s *string) int {
	if len(*s) > maxValue {
		cut := maxValue
		for cut > maxValue-utf8.UTFMax && !utf8.RuneStart((*s)[cut]) {
			cut--
		}
		*s = (*s)[:cut]
		t.Truncated = true
	}
	return len(*s)
}

func (t *Trace) clipList(list *[]string) int {
	if len(*list) > maxValues {
		*list = (*list)[:maxValues]
		t.Truncated = true
	}
	cost := 0
	for i, s := range *list {
		cost += 3 + min(len(s), maxValue)
		if len(s) > maxValue {
			copied := append([]string(nil), *list...)
			for j := i; j < len(copied); j++ {
				t.clip(&copied[j])
			}
			*list = copied
		}
	}
	return cost
}
