// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strings"
)

// A Grant is an active grant of a key, as data. Source: AWS KMS API Reference,
// "CreateGrant" and "GrantConstraints".
type Grant struct {
	// ID is the grant's own id, not empty.
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
	// Grantee is the ARN of a user, a role, a session, a federated user or the root
	// of an account, or the name of a service. A grant to an account delegates to
	// the account's identity policies, as a key policy that names it does.
	Grantee string `json:"grantee"`
	// Operations are names without a vendor, such as "Decrypt" or "ReEncryptFrom".
	Operations []string `json:"operations"`
	// EncryptionContextEquals has every pair of the request's encryption context and
	// EncryptionContextSubset some of them; case counts. Nil: no such constraint.
	EncryptionContextEquals map[string]string `json:"encryption_context_equals,omitzero"`
	EncryptionContextSubset map[string]string `json:"encryption_context_subset,omitzero"`
	// SourceArn is the one value that the condition key aws:SourceArn must have;
	// empty: no such constraint.
	SourceArn string `json:"source_arn,omitempty"`
}

// grantTally has, of the grants that match, the id of the first by each reach.
type grantTally struct {
	direct, limited, delegates string
}

// sourceARN is the condition key of a grant's SourceArn.
const sourceARN = "aws:sourcearn"

// grants matches every grant. Those to the caller are looked at in full; those to
// others are many and only named in the trace.
func (e *evaluation) grants(grants []Grant) grantTally {
	var sum grantTally
	if len(grants) == 0 {
		return sum
	}
	operation, _ := strings.CutPrefix(e.action, "kms:")
	root := ":iam::" + e.request.Principal.AccountID + ":root"
	for i := range grants {
		g := &grants[i]
		how := g.reach(&e.request.Principal, root)
		if how == notNamed && e.budget < appliedShare {
			e.trace.Truncated = true
			continue
		}
		t := GrantTrace{ID: g.ID, Name: g.Name, Delegates: how == byAccount}
		if how == notNamed {
			t.Failed = append(t.Failed, ElementGrantee)
		}
		if !slices.ContainsFunc(g.Operations, func(o string) bool { return strings.EqualFold(o, operation) }) {
			t.Failed = append(t.Failed, ElementOperation)
		}
		if !e.constraints(g, operation) {
			t.Failed = append(t.Failed, ElementConstraint)
		}
		if t.Matched = len(t.Failed) == 0; t.Matched {
			sum.add(how, g.ID)
		}
		e.trace.addGrant(t, how != notNamed, &e.budget)
	}
	return sum
}

func (t *grantTally) add(how reach, id string) {
	first := &t.direct
	switch how {
	case byAccount:
		first = &t.delegates
	case limited:
		first = &t.limited
	}
	if *first == "" {
		*first = id
	}
}

// reach tells how the grant names the caller, by the rules for principals of a key
// policy. root is the end of the ARN of the root of the caller's account.
func (g *Grant) reach(p *Principal, root string) reach {
	switch {
	case g.Grantee == "":
		return notNamed
	case p.Type == CallerService:
		if g.Grantee == p.ARN {
			return directly
		}
		return notNamed
	case p.AccountID != "" && strings.HasPrefix(g.Grantee, "arn:") && strings.HasSuffix(g.Grantee, root):
		if p.Type == CallerRoot {
			return limited
		}
		return byAccount
	case g.Grantee == p.ARN:
		return directly
	case g.Grantee == p.RoleARN, p.Type == CallerFederated && g.Grantee == p.UserARN:
		return limited
	}
	return notNamed
}

// constraints tells whether the request satisfies the constraints of the grant.
// Those on the encryption context do not count for DescribeKey and RetireGrant,
// and no other operation without one satisfies them. Source: AWS KMS Developer
// Guide, "Using grant constraints".
func (e *evaluation) constraints(g *Grant, operation string) bool {
	if g.SourceArn != "" {
		got := e.env.context[sourceARN]
		if len(got) != 1 || got[0] != g.SourceArn {
			return false
		}
	}
	if g.EncryptionContextEquals == nil && g.EncryptionContextSubset == nil || operation == "describekey" || operation == "retiregrant" {
		return true
	}
	sent := e.request.EncryptionContext
	if sent == nil || g.EncryptionContextEquals != nil && len(g.EncryptionContextEquals) != len(sent) {
		return false
	}
	return within(g.EncryptionContextEquals, sent) && within(g.EncryptionContextSubset, sent)
}

// within tells whether b has every pair of a.
func within(a, b map[string]string) bool {
	for key, value := range a {
		if got, ok := b[key]; !ok || got != value {
			return false
		}
	}
	return true
}
