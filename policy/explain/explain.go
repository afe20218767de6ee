// SPDX-License-Identifier: Apache-2.0

// Package explain tells a policy decision in plain words: what decided, what was
// wanted and what was there, the likely cause and what to do. It works on the
// trace of a decision alone, so that it can explain out of an audit log.
package explain

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cretula/cretula/policy"
)

// An Explanation is what is to be said about a decision. Its JSON has every value
// in full; its texts shorten digests.
type Explanation struct {
	// Verdict is "ALLOWED" or "DENIED".
	Verdict string `json:"verdict"`
	// Because is the deciding rule in half a sentence.
	Because string `json:"because"`
	// Attestation says, for what was allowed, whether an attestation condition was
	// part of it.
	Attestation string `json:"attestation,omitempty"`
	// Findings are likely causes of a denial, the likeliest first. For what was
	// allowed they say what should give pause.
	Findings []Finding `json:"likely,omitempty"`

	decision *policy.Decision
}

// A Finding is a likely cause of a denial, or what should give pause about what was
// allowed.
type Finding struct {
	// ID is stable, such as "debug-document".
	ID string `json:"id"`
	// Likely says what is probably the case, as one or more sentences.
	Likely string `json:"likely"`
	// ToDo says what would change the decision.
	ToDo string `json:"to_do"`
}

// Of explains a decision, which must stay unchanged.
func Of(d *policy.Decision) Explanation {
	e := Explanation{Verdict: "DENIED", decision: d}
	if d.Allowed {
		e.Verdict = "ALLOWED"
	}
	e.Because = because(d)
	if d.Allowed {
		e.Attestation, e.Findings = attestation(d)
	} else {
		e.Findings = findings(d)
	}
	return e
}

func because(d *policy.Decision) string {
	action := d.Trace.Action
	switch d.Cause {
	case policy.CauseKeyPolicy, policy.CauseTrustPolicy:
		return "a statement of " + attached(d) + " allows it"
	case policy.CauseDelegated, policy.CauseTrustDelegated:
		return attached(d) + " leaves it to the account, and an identity policy allows it"
	case policy.CauseIdentity:
		if len(d.By) == 0 {
			return "the account's root user needs no policy for it"
		}
		return "an identity policy allows it"
	case policy.CauseBoth, policy.CauseTrustAndIdentity:
		return attached(d) + " and the caller's own account both allow it"
	case policy.CauseGrant:
		return grantName(d, d.Grant) + " allows it"
	case policy.CauseKeyDeny, policy.CauseTrustDeny, policy.CauseIdentityDeny, policy.CauseBoundaryDeny, policy.CauseSessionDeny:
		if allowed(d) {
			return "a statement of " + denying[d.Cause] + " forbids it, whatever others allow"
		}
		return "no statement allows it, and one of " + denying[d.Cause] + " forbids it"
	case policy.CauseNoKeyAllow:
		if len(d.Trace.Grants) > 0 {
			return "no statement of the key policy allows it, and no grant"
		}
		return "no statement of the key policy allows it"
	case policy.CauseNoTrustAllow:
		if d.Trace.Principal.Type == policy.CallerRoot {
			return "the root user of an account cannot assume a role"
		}
		return "no statement of the trust policy allows it"
	case policy.CauseNoIdentityAllow:
		switch {
		case delegated(d):
			return attached(d) + " leaves it to the account, and no identity policy allows it"
		case grantsAccount(d):
			return "a grant leaves it to the account, and no identity policy allows it"
		}
		return "no identity policy allows it"
	case policy.CauseNoBoundaryAllow:
		return allowing(d) + ", and the caller's permissions boundary does not"
	case policy.CauseNoSessionAllow:
		return allowing(d) + ", and no session policy does"
	case policy.CauseCrossAccount:
		return action + " is not possible on a key of another account"
	case policy.CauseInvalid:
		return "a policy that it depends on cannot be used"
	}
	return "of a rule that this version does not know: " + string(d.Cause)
}

// denying has the policy that a Deny stood in.
var denying = map[policy.Cause]string{
	policy.CauseKeyDeny: "the key policy", policy.CauseTrustDeny: "the trust policy", policy.CauseIdentityDeny: "an identity policy",
	policy.CauseBoundaryDeny: "the caller's permissions boundary", policy.CauseSessionDeny: "a session policy",
}

// attached names the policy of the key or role that the request was on.
func attached(d *policy.Decision) string {
	for i := range d.Trace.Policies {
		if d.Trace.Policies[i].Kind == "trust" {
			return "the trust policy"
		}
	}
	return "the key policy"
}

// allowing says what would have allowed but for boundary and session policies.
func allowing(d *policy.Decision) string {
	for s := range statements(d, "key", "trust") {
		if s.Effect == policy.Allow && s.Applied {
			return attached(d) + " allows it"
		}
	}
	for i := range d.Trace.Grants {
		if d.Trace.Grants[i].Matched {
			return grantName(d, d.Trace.Grants[i].ID) + " allows it"
		}
	}
	return "an identity policy allows it"
}

func allowed(d *policy.Decision) bool {
	for i := range d.Trace.Grants {
		if g := &d.Trace.Grants[i]; g.Matched && !g.Delegates {
			return true
		}
	}
	for s := range statements(d, "key", "trust", "identity") {
		if s.Effect == policy.Allow && s.Applied && !s.Delegates {
			return true
		}
	}
	return false
}

func delegated(d *policy.Decision) bool {
	for s := range statements(d) {
		if s.Delegates && s.Applied {
			return true
		}
	}
	return false
}

// statements iterates over the statements of the trace, those of the key first; of
// policies of these kinds only, if any are given.
func statements(d *policy.Decision, kinds ...string) func(yield func(*policy.StatementTrace) bool) {
	return func(yield func(*policy.StatementTrace) bool) {
		for i := range d.Trace.Policies {
			p := &d.Trace.Policies[i]
			if len(kinds) > 0 && !slices.Contains(kinds, p.Kind) {
				continue
			}
			for j := range p.Statements {
				if !yield(&p.Statements[j]) {
					return
				}
			}
		}
	}
}

// lacking has the kinds of policies whose statements could have made up for what a
// cause says is missing; causes that are not in it have all kinds.
var lacking = map[policy.Cause][]string{
	policy.CauseNoKeyAllow:      {"key"},
	policy.CauseNoTrustAllow:    {"trust"},
	policy.CauseNoIdentityAllow: {"key", "trust", "identity"},
	policy.CauseNoBoundaryAllow: {"boundary"},
	policy.CauseNoSessionAllow:  {"session"},
}

// relevant tells whether a statement is about this request: it applied with an
// effect that matters, or is an Allow kept from applying by its conditions alone.
func relevant(d *policy.Decision, s *policy.StatementTrace) bool {
	switch {
	case s.Applied:
		return true
	case s.Effect == policy.Deny || d.Allowed:
		return false
	}
	return len(s.Failed) == 1 && s.Failed[0] == policy.ElementCondition
}

// statementName is a statement's Sid in quotes, or its number in the policy.
func statementName(sid string, index int) string {
	if sid != "" {
		return fmt.Sprintf("%q", sid)
	}
	return fmt.Sprintf("number %d", index+1)
}

// Short shortens a digest of 24 or more hex digits to the first eight and the
// last two. Other texts are cut after 100 bytes, and quoted if a character of them
// does not print.
func Short(s string) string {
	const shortest, longest = 24, 100
	digits := strings.TrimPrefix(strings.ToLower(s), "0x")
	if len(digits) >= shortest && strings.Trim(digits, "0123456789abcdef") == "" {
		prefix := s[:len(s)-len(digits)]
		digits = s[len(prefix):]
		return prefix + digits[:8] + "…" + digits[len(digits)-2:]
	}
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "…"
	}
	if strings.ContainsFunc(s, unprintable) {
		return strconv.Quote(s)
	}
	return s
}

// shortList shortens each value, and names at most three.
func shortList(values []string) string {
	const most = 3
	parts := make([]string, 0, most+1)
	for i, v := range values {
		if i == most {
			parts = append(parts, fmt.Sprintf("%d more", len(values)-most))
			break
		}
		if v = Short(v); v == "" {
			v = `""`
		}
		parts = append(parts, v)
	}
	return strings.Join(parts, " or ")
}

// unprintable also takes what turns the direction of a text around.
func unprintable(r rune) bool { return !strconv.IsPrint(r) }
