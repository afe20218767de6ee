// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cretula/cretula/policy"
)

// findings returns the likely causes, those first that hide the others.
func findings(d *policy.Decision) []Finding {
	e := gather(d)
	var all []Finding
	for _, look := range []func(*policy.Decision, *evidence) (Finding, bool){
		invalid, crossAccount, random, notPrincipal, boundaryLimit, sessionLimit, unknownKey, neverAttested, debug, noRecipient,
		otherKind, form, contradiction, otherBuild, otherRegister, excluded, unwanted, absentRegister, ambiguous, clock, otherCondition,
		nearGrant, delegation, inert, replaced, unnamed, notDelegated,
	} {
		f, ok := look(d, e)
		if !ok {
			continue
		}
		all = append(all, f)
		if f.ID == "debug-document" || f.ID == "no-recipient" || f.ID == "action-never-attested" {
			break
		}
	}
	return all
}

func invalid(d *policy.Decision, _ *evidence) (Finding, bool) {
	return Finding{
		"invalid-policy", "A stored policy is damaged or of another kind.", "put the policy anew.",
	}, d.Cause == policy.CauseInvalid
}

func crossAccount(d *policy.Decision, _ *evidence) (Finding, bool) {
	return Finding{
		"cross-account-action", fmt.Sprintf("The caller is of another account than the key, and %s is for the key's own account only.", d.Trace.Action),
		"call it as a principal of the key's account.",
	}, d.Cause == policy.CauseCrossAccount
}

func random(d *policy.Decision, _ *evidence) (Finding, bool) {
	return Finding{
		"random-has-no-key", "kms:GenerateRandom is on no key, so a key policy that names it has no effect: identity policies alone decide.",
		"allow kms:GenerateRandom in an identity policy of the caller.",
	}, strings.EqualFold(d.Trace.Action, "kms:GenerateRandom") && d.Cause == policy.CauseNoIdentityAllow && !identityNames(d)
}

// identityNames tells whether a statement of an identity policy would allow the
// action but for something else in it.
func identityNames(d *policy.Decision) bool {
	for s := range statements(d, "identity") {
		if s.Effect == policy.Allow && !slices.Contains(s.Failed, policy.ElementAction) {
			return true
		}
	}
	return false
}

func unknownKey(_ *policy.Decision, e *evidence) (Finding, bool) {
	if len(e.unknown) == 0 {
		return Finding{}, false
	}
	return Finding{
		"unknown-attestation-key", fmt.Sprintf("The policy asks for %s. There is no such condition key, so it is absent in every request.", shortList(e.unknown)),
		"write kms:RecipientAttestation:ImageSha384, :PCR0 to :PCR31 or :NitroTPMPCR0 to :NitroTPMPCR23.",
	}, true
}

func neverAttested(d *policy.Decision, e *evidence) (Finding, bool) {
	return Finding{
		"action-never-attested", fmt.Sprintf("%s takes no attestation document, so a condition on one never holds for it.", d.Trace.Action),
		"move the action to a statement without attestation conditions, or do without it.",
	}, len(e.registers) > 0 && !d.Trace.TakesRecipient && e.document == "none"
}

func ambiguous(_ *policy.Decision, e *evidence) (Finding, bool) {
	for _, c := range e.conditions {
		if c.Ambiguous {
			return Finding{
				"several-values", fmt.Sprintf("A request can have several values for %s, and %s compares one.", Short(c.Key), c.Operator),
				"use ForAllValues: or ForAnyValue: in the policy, or do not send keys that differ in case only.",
			}, true
		}
	}
	return Finding{}, false
}

func otherCondition(_ *policy.Decision, e *evidence) (Finding, bool) {
	if len(e.other) == 0 {
		return Finding{}, false
	}
	c := e.other[0]
	return Finding{
		"condition", fmt.Sprintf("%s under %s: %s, %s.", Short(c.Key), c.Operator, wantedText(c), gotText(c)),
		"make the request as the condition wants it, or change the condition.",
	}, true
}

func inert(d *policy.Decision, _ *evidence) (Finding, bool) {
	for s := range statements(d) {
		if s.Inert && s.Effect == policy.Allow && !d.Allowed {
			return Finding{
				"inert-statement", fmt.Sprintf("Statement %s has no Action or no Resource and therefore never an effect.", statementName(s.Sid, s.Index)),
				"add what is missing to it.",
			}, true
		}
	}
	return Finding{}, false
}

// replacedStatement returns an Allow that was for the caller's predecessor.
func replacedStatement(d *policy.Decision) *policy.StatementTrace {
	for s := range statements(d, "key", "trust") {
		if s.Replaced && s.Effect == policy.Allow && len(s.Failed) == 1 {
			return s
		}
	}
	return nil
}

func replaced(d *policy.Decision, _ *evidence) (Finding, bool) {
	s := replacedStatement(d)
	if s == nil || !unallowed(d) && d.Cause != policy.CauseNoIdentityAllow {
		return Finding{}, false
	}
	return Finding{
		"replaced-principal", fmt.Sprintf("Statement %s names a principal that was removed. The caller was made later under the same name, which gives it none of the other's rights.", statementName(s.Sid, s.Index)),
		"put " + attached(d) + " again, if it is to name the caller.",
	}, true
}

// unallowed tells whether the policy of the key or role is what allows nothing.
func unallowed(d *policy.Decision) bool {
	return d.Cause == policy.CauseNoKeyAllow || d.Cause == policy.CauseNoTrustAllow && d.Trace.Principal.Type != policy.CallerRoot
}

// unnamed says which of principal and action no statement has.
func unnamed(d *policy.Decision, e *evidence) (Finding, bool) {
	if len(e.conditions) > 0 || nearestGrant(d) != nil || !unallowed(d) && (d.Cause != policy.CauseNoIdentityAllow || delegated(d)) {
		return Finding{}, false
	}
	if strings.EqualFold(d.Trace.Action, "kms:GenerateRandom") && !identityNames(d) || grantsAccount(d) || replacedStatement(d) != nil {
		return Finding{}, false
	}
	caller := false
	for s := range statements(d, "key", "trust") {
		caller = caller || s.Effect == policy.Allow && !slices.Contains(s.Failed, policy.ElementPrincipal)
	}
	what := fmt.Sprintf("No statement that allows anything names %s.", d.Trace.Principal.ARN)
	switch {
	case d.Cause == policy.CauseNoIdentityAllow:
		what = fmt.Sprintf("No identity policy of the caller allows %s on this resource.", d.Trace.Action)
	case caller:
		what = fmt.Sprintf("Statements name the caller, none of them with %s on this resource.", d.Trace.Action)
	}
	return Finding{"not-named", what, fmt.Sprintf("add %s for this caller to a statement, if it is meant to have it.", d.Trace.Action)}, true
}

func join(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
