// SPDX-License-Identifier: Apache-2.0

package policy

import "fmt"

// policyTypes has AWS's name for the type of policy that a cause speaks of.
// Source: IAM User Guide, "Access denied error messages".
var policyTypes = map[Cause]string{
	CauseNoKeyAllow:      "resource-based policy",
	CauseCrossAccount:    "resource-based policy",
	CauseInvalid:         "resource-based policy",
	CauseNoIdentityAllow: "identity-based policy",
	CauseNoBoundaryAllow: "permissions boundary",
	CauseNoSessionAllow:  "session policy",
	CauseNoTrustAllow:    "role trust policy",
}

// Tail returns the end of AWS's message for a denial, such as "because no
// resource-based policy allows the kms:Decrypt action"; "" for a decision that
// allows. Source: IAM User Guide, "Access denied error messages".
func (d *Decision) Tail() string {
	const deny = "with an explicit deny in "
	switch d.Cause {
	case CauseKeyDeny:
		return deny + "a resource-based policy"
	case CauseTrustDeny:
		return deny + "the role trust policy"
	case CauseIdentityDeny:
		return deny + "an identity-based policy"
	case CauseBoundaryDeny:
		return deny + "a permissions boundary"
	case CauseSessionDeny:
		return deny + "a session policy"
	}
	if kind, denies := policyTypes[d.Cause]; denies {
		return fmt.Sprintf("because no %s allows the %s action", kind, d.Trace.Action)
	}
	return ""
}

// Message returns AWS's whole message for a denial, "" for a decision that
// allows. It tells the caller no more than AWS does, and a web identity nothing.
func (d *Decision) Message() string {
	tail := d.Tail()
	if tail == "" {
		return ""
	}
	if d.Trace.Principal.Type == CallerWebIdentity {
		return "Not authorized to perform " + d.Trace.Action
	}
	return fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s %s",
		d.Trace.Principal.ARN, d.Trace.Action, d.Trace.Resource, tail)
}
