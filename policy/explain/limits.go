// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cretula/cretula/policy"
)

// notPrincipal finds the one Deny that no list of principals lets anyone out of.
// Source: IAM User Guide, "Permissions boundaries for IAM entities".
func notPrincipal(d *policy.Decision, _ *evidence) (Finding, bool) {
	bounded := slices.ContainsFunc(d.Trace.Policies, func(p policy.PolicyTrace) bool { return p.Kind == "boundary" })
	for s := range statements(d, "key") {
		if bounded && s.NotPrincipal && s.Applied {
			return Finding{
				"not-principal-and-boundary", fmt.Sprintf("Statement %s denies by NotPrincipal, and the caller has a permissions boundary. Such a statement denies whoever has one, named or not.", statementName(s.Sid, s.Index)),
				`write Principal "*" with ArnNotEquals on aws:PrincipalArn in place of NotPrincipal.`,
			}, true
		}
	}
	return Finding{}, false
}

// conditional tells whether a statement of such a policy would allow the request but
// for its conditions, of which other findings tell.
func conditional(d *policy.Decision, kind string) bool {
	for s := range statements(d, kind) {
		if !s.Applied && relevant(d, s) {
			return true
		}
	}
	return false
}

func boundaryLimit(d *policy.Decision, _ *evidence) (Finding, bool) {
	if d.Cause == policy.CauseNoBoundaryAllow && conditional(d, "boundary") {
		return Finding{
			"boundary", fmt.Sprintf("The caller's permissions boundary allows %s on this resource under conditions only, and they do not hold.", d.Trace.Action),
			"make the request as the boundary wants it, or change the boundary.",
		}, true
	}
	return Finding{
		"boundary", fmt.Sprintf("The caller's permissions boundary does not cover %s on this resource. A boundary gives nothing, it limits what others give.", d.Trace.Action),
		fmt.Sprintf("allow %s in the boundary too, if the caller is meant to have it.", d.Trace.Action),
	}, d.Cause == policy.CauseNoBoundaryAllow
}

func sessionLimit(d *policy.Decision, _ *evidence) (Finding, bool) {
	if d.Cause != policy.CauseNoSessionAllow {
		return Finding{}, false
	}
	if !slices.ContainsFunc(d.Trace.Policies, func(p policy.PolicyTrace) bool { return p.Kind == "session" }) {
		return Finding{
			"federated-without-session-policy", "The caller is a federated user whose session was made without a session policy, so that it has no permissions of its user.",
			fmt.Sprintf("pass a policy that allows %s to GetFederationToken, or name the session in the key policy.", d.Trace.Action),
		}, true
	}
	if conditional(d, "session") {
		return Finding{
			"session-policy", fmt.Sprintf("The session was made with a policy that allows %s on this resource under conditions only, and they do not hold.", d.Trace.Action),
			"make the request as that policy wants it, or assume the role with another.",
		}, true
	}
	return Finding{
		"session-policy", fmt.Sprintf("The session was made with a policy that does not cover %s on this resource.", d.Trace.Action),
		fmt.Sprintf("assume the role with a session policy that allows %s, or without one.", d.Trace.Action),
	}, true
}

// isClock tells whether a condition asks for the time of the request.
func isClock(c policy.ConditionTrace) bool {
	key := strings.ToLower(c.Key)
	return c.Present && strings.Contains(c.Operator, "Date") && (key == "aws:currenttime" || key == "aws:epochtime")
}

func clock(_ *policy.Decision, e *evidence) (Finding, bool) {
	if len(e.clock) == 0 {
		return Finding{}, false
	}
	c := e.clock[0]
	f := Finding{
		"expired", fmt.Sprintf("What would allow it has expired: it held until %s, and the request came at %s.", shortList(c.Wanted), shortList(c.Got)),
		"renew the statement, if the caller is still meant to have it.",
	}
	if !strings.Contains(c.Operator, "LessThan") {
		f = Finding{
			"not-the-time", fmt.Sprintf("What would allow it does not hold at this time: %s wants %s, and the request came at %s.", c.Operator, shortList(c.Wanted), shortList(c.Got)),
			"wait, or change the time in the statement.",
		}
	}
	return f, true
}

// nearestGrant returns the first grant to the caller that failed by one thing only.
func nearestGrant(d *policy.Decision) *policy.GrantTrace {
	for i := range d.Trace.Grants {
		if g := &d.Trace.Grants[i]; len(g.Failed) == 1 && g.Failed[0] != policy.ElementGrantee {
			return g
		}
	}
	return nil
}

func grantsAccount(d *policy.Decision) bool {
	return slices.ContainsFunc(d.Trace.Grants, func(g policy.GrantTrace) bool { return g.Matched && g.Delegates })
}

// grantName is a grant's name in quotes with its id, or the id alone. A grant that
// was cut from the trace has no name.
func grantName(d *policy.Decision, id string) string {
	for _, g := range d.Trace.Grants {
		if g.ID == id && g.Name != "" {
			return fmt.Sprintf("grant %q (%s)", g.Name, Short(id))
		}
	}
	return "grant " + Short(id)
}

func nearGrant(d *policy.Decision, _ *evidence) (Finding, bool) {
	g := nearestGrant(d)
	switch {
	case g == nil || len(d.By) > 0:
		return Finding{}, false
	case g.Failed[0] == policy.ElementOperation:
		return Finding{
			"grant-operation", fmt.Sprintf("There is a %s to the caller, but not for this operation.", grantName(d, g.ID)),
			fmt.Sprintf("make a grant that lists %s, if the caller is meant to have it.", operation(d)),
		}, true
	}
	return Finding{
		"grant-constraint", fmt.Sprintf("There is a %s to the caller for this operation, but its constraints do not fit: they ask for other pairs of the encryption context, letter for letter, or for another source.", grantName(d, g.ID)),
		"send the encryption context that the grant asks for, or make a grant with other constraints.",
	}, true
}

func operation(d *policy.Decision) string {
	return d.Trace.Action[strings.LastIndexByte(d.Trace.Action, ':')+1:]
}

func delegation(d *policy.Decision, _ *evidence) (Finding, bool) {
	what, where := "The key policy names", "on this key in an identity policy of the caller, or name the caller in the key policy."
	if !delegated(d) {
		what = "A grant names"
	}
	if attached(d) == "the trust policy" {
		what, where = "The trust policy names", "on this role in an identity policy of the caller, or name the caller in the trust policy."
	}
	return Finding{
		"delegated-only", what + " the account and not the caller, which leaves the decision to identity policies.",
		fmt.Sprintf("allow %s %s", d.Trace.Action, where),
	}, d.Cause == policy.CauseNoIdentityAllow && (delegated(d) || grantsAccount(d))
}

func identityAllows(d *policy.Decision) bool {
	for s := range statements(d, "identity") {
		if s.Effect == policy.Allow && s.Applied {
			return true
		}
	}
	return false
}

// notDelegated finds identity policies that allow in vain.
func notDelegated(d *policy.Decision, _ *evidence) (Finding, bool) {
	alone := "Identity policies alone never open a key."
	if d.Cause == policy.CauseNoTrustAllow {
		alone = "Identity policies alone never assume a role."
	}
	return Finding{
		"not-delegated", "An identity policy allows it, but " + attached(d) + " neither names the caller for this nor leaves it to the account. " + alone,
		"name the caller in " + attached(d) + "; or the account, which leaves it to all of its identity policies.",
	}, unallowed(d) && identityAllows(d)
}

// writeGrants writes a line for each grant that allowed or nearly did.
func writeGrants(b *strings.Builder, d *policy.Decision) {
	const most = 5
	lines, more := 0, 0
	for i := range d.Trace.Grants {
		g := &d.Trace.Grants[i]
		if slices.Contains(g.Failed, policy.ElementGrantee) || d.Allowed && d.Grant != g.ID {
			continue
		}
		if lines++; lines > most {
			more++
			continue
		}
		how := "applies"
		switch {
		case g.Matched && g.Delegates:
			how = "applies to the account, not to the caller"
		case !g.Matched:
			parts := make([]string, len(g.Failed))
			for i, e := range g.Failed {
				parts[i] = string(e)
			}
			how = "does not apply: " + strings.Join(parts, " and ")
		}
		fmt.Fprintf(b, "  %s %s\n", grantName(d, g.ID), how)
	}
	if more > 0 {
		fmt.Fprintf(b, "  %s to the caller\n", count(more, "more grant", "more grants"))
	}
}
