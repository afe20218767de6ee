// SPDX-License-Identifier: Apache-2.0

// Package policy reads policies in the language of AWS IAM and decides by them
// whether a request to a key service is allowed.
//
// [Parse] is strict: what AWS would not accept, and what this package does not
// know, is refused with its line and column and never ignored. [Evaluate]
// follows AWS's rules for a KMS key, the one resource whose policy is not joined
// with identity policies by a plain union: a key's own policy must allow the
// caller or delegate to the caller's account, or a grant must allow; permissions
// boundary and session policies limit what they do. The trust policy of a role is
// the other one, and decides who may assume it. Every [Decision] carries a [Trace]
// that says for each statement whether it applied, which element kept it from
// applying, and for each condition key what was wanted and what was there.
//
// Condition keys and their values are strings here; the package knows of no
// attestation. Sources: IAM User Guide, "IAM JSON policy reference" and "Policy
// evaluation logic"; AWS KMS Developer Guide, "Key policies" and "Determining
// access to AWS KMS keys".
package policy

import "strings"

// A Kind says where a policy is attached, which decides what may stand in it.
type Kind uint8

const (
	// KindKey is the resource policy of a KMS key. Each statement has a Principal.
	KindKey Kind = iota + 1
	// KindIdentity is a policy of a user or role, a permissions boundary or a session
	// policy. No statement has a Principal.
	KindIdentity
	// KindTrust is the trust policy of a role. Each statement has a Principal and
	// none a Resource, which is the role.
	KindTrust
)

// String returns "key", "identity" or "trust".
func (k Kind) String() string {
	switch k {
	case KindKey:
		return "key"
	case KindIdentity:
		return "identity"
	case KindTrust:
		return "trust"
	}
	return "invalid"
}

// An Effect is what a statement does when it applies.
type Effect string

// The two effects.
const (
	Allow Effect = "Allow"
	Deny  Effect = "Deny"
)

// The two versions of the language. Only Version2012 has policy variables.
const (
	Version2008 = "2008-10-17"
	Version2012 = "2012-10-17"
)

// A Policy is a parsed policy. It is made by [Parse] only, safe for concurrent
// use, and must not be changed: [Evaluate] refuses a Policy that Parse has not
// made, and works on what Parse has compiled, not on the exported fields.
type Policy struct {
	Kind Kind
	// Version is the version as it was written; empty if it was not, which AWS
	// reads as Version2008.
	Version    string
	ID         string
	Statements []Statement

	parsed bool
	// keys are the condition keys that the statements regard, in Conditions and in
	// variables: folded, in order.
	keys []string
}

// A Statement is one statement of a policy. A nil slice means that the element
// is not there; an element that is there is never empty.
type Statement struct {
	Sid    string
	Effect Effect
	// Principal occurs in key and trust policies, NotPrincipal in a key policy with
	// Deny only.
	Principal, NotPrincipal []PrincipalRef
	Action, NotAction       []string
	Resource, NotResource   []string
	// Condition has one entry for each pair of operator and key. All must match.
	Condition []Condition
	// Line is the line of the document, from 1, on which the statement begins.
	Line int

	actions   []string // lower case
	resources []pattern
	onRole    bool // of a trust policy, whose resource is the role
}

// Inert tells whether the statement can never have an effect because it lacks
// its Action or its Resource, which AWS accepts in key policies.
func (s *Statement) Inert() bool {
	return s.Action == nil && s.NotAction == nil || s.Resource == nil && s.NotResource == nil && !s.onRole
}

// MayName tells whether the statement's Action or NotAction covers the action,
// such as "kms:Decrypt".
func (s *Statement) MayName(action string) bool { return s.matchAction(strings.ToLower(action)) }

// A Condition is one condition key under one operator.
type Condition struct {
	Operator Operator
	// Key is the condition key as it was written. Keys match without regard to
	// case.
	Key string
	// Values are the wanted values, of which one must match (positive operators)
	// or none (negated ones). Numbers and booleans stand here as they were written.
	Values []string

	operator string // Operator, spelled out
	negated  bool
	multi    bool // the key is one of multivalued
	folded   string
	tests    []test
}

// A PrincipalKind is the form of one principal in a policy.
type PrincipalKind uint8

// The forms of principals that can occur in a policy.
const (
	// PrincipalEveryone is "*".
	PrincipalEveryone PrincipalKind = iota + 1
	// PrincipalAccount is an account: twelve digits or the ARN of its root.
	PrincipalAccount
	// PrincipalUser is an IAM user.
	PrincipalUser
	// PrincipalRole is an IAM role; it stands for all of its sessions.
	PrincipalRole
	// PrincipalSession is one session of an assumed role.
	PrincipalSession
	// PrincipalFederated is a federated user of STS.
	PrincipalFederated
	// PrincipalService is an AWS service.
	PrincipalService
	// PrincipalProvider is an OIDC provider; it stands for whoever has a token of it.
	// It occurs in a trust policy only.
	PrincipalProvider
)

// A PrincipalRef is one principal as a policy names it.
type PrincipalRef struct {
	Kind PrincipalKind
	// Value is the text of the policy: "*", an account id, an ARN, the unique id of
	// a user or role, or the name of a service.
	Value string
	// Account is the account of a PrincipalAccount, and of an ARN; empty otherwise.
	Account string
}
