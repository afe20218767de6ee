// SPDX-License-Identifier: Apache-2.0

package policy

import "fmt"

// Tail returns the end of AWS's message for a denial, such as "because no
// resource-based policy allows the kms:Decrypt action"; "" for a decision that
// allows. Source: IAM User Guide, "Access denied error messages".
func (d *Decision) Tail() string {
	kind := ""
	switch d.Cause {
	case CauseKeyDeny:
		return "with an explicit deny in a resource-based policy"
	case CauseIdentityDeny:
		return "with an explicit deny in an identity-based policy"
	case CauseNoKeyAllow, CauseCrossAccount, CauseInvalid:
		kind = "resource"
	case CauseNoIdentityAllow:
		kind = "identity"
	default:
		return ""
	}
	return fmt.Sprintf("because no %s-based policy allows the %s action", kind, d.Trace.Action)
}

// Message returns AWS's whole message for a denial, "" for a decision that
// allows. It tells the caller no more than AWS does.
func (d *Decision) Message() string {
	tail := d.Tail()
	if tail == "" {
		return ""
	}
	return fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s %s",
		d.Trace.Principal.ARN, d.Trace.Action, d.Trace.Resource, tail)
}
