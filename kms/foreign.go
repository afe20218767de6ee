// SPDX-License-Identifier: Apache-2.0

package kms

import "github.com/cretula/cretula/kms/kmsapi"

// hideForeign gives the one answer that AWS has for a key or alias of another
// account which is not there or not allowed, so that nobody learns from it what
// another account has. It names what was asked for, never the key behind an alias.
// The record keeps the reason. A caller whom a policy allowed may know all.
func (c *call) hideForeign(answer *kmsapi.Error) *kmsapi.Error {
	allowed := c.event.Decision != nil && c.event.Decision.Allowed
	hidden := answer.Code == kmsapi.NotFound || answer.Code == kmsapi.AccessDenied ||
		answer.Code == kmsapi.Validation && c.op.Extension && c.event.Outcome == Rejected
	if c.foreign == "" || allowed || !hidden {
		return answer
	}
	same := kmsapi.Errorf(kmsapi.AccessDenied, "User: %s is not authorized to perform: %s on resource: %s because the resource does not exist in this Region, "+
		"no resource-based policies allow access, or a resource-based policy explicitly denies access",
		c.caller.Principal.ARN(), c.op.Action(), c.foreign)
	same.Err = answer
	return same
}

// arn returns the ARN of what a name asks for.
func (n keyName) arn() string {
	if n.alias != "" {
		return n.aliasARN()
	}
	return keyARN(n.region, n.account, n.id)
}
