// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"errors"
	"strings"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/policy"
)

// How many grants a page has.
const (
	maxGrantLimit     = 100
	defaultGrantLimit = 50
)

// listGrants lists the grants of a key: all, one, or those to one grantee.
func (c *call) listGrants(k *key, in *kmsapi.ListGrantsInput) (*kmsapi.ListGrantsOutput, error) {
	if in.GranteePrincipal != nil && in.GranteeServicePrincipal != nil {
		return nil, kmsapi.Errorf(kmsapi.Validation, "You can specify either GranteePrincipal or GranteeServicePrincipal, but not both.")
	}
	if in.GrantId != nil && !isGrantID(*in.GrantId) {
		return nil, errGrantID()
	}
	c.limitTo(maxGrantLimit)
	rows, next, err := c.grantPage(k, in)
	if err != nil {
		return nil, err
	}
	out := &kmsapi.ListGrantsOutput{NextMarker: next, Truncated: next != ""}
	err = c.readListed(rows, func(e kmsapi.GrantListEntry) {
		if (in.GranteePrincipal == nil || e.GranteePrincipal == *in.GranteePrincipal) &&
			(in.GranteeServicePrincipal == nil || e.GranteeServicePrincipal == *in.GranteeServicePrincipal) {
			out.Grants = append(out.Grants, e)
		}
	})
	return out, err
}

// grantPage returns the rows of the grants of one page, of which it looks at no more
// than the filters of the request make necessary.
func (c *call) grantPage(k *key, in *kmsapi.ListGrantsInput) (rows []string, next string, err error) {
	grantee := in.GranteePrincipal
	if grantee == nil {
		grantee = in.GranteeServicePrincipal
	}
	if in.GrantId != nil {
		_, err := c.marker()
		return []string{grantRowID(k.rowID(), *in.GrantId)}, "", err
	}
	if grantee != nil && !isUniqueID(*grantee) {
		next, err = c.scan(tableGrantee, granteeRowID(k.rowID(), *grantee, ""), defaultGrantLimit, func(id string, _ []byte) (bool, error) {
			rows = append(rows, grantRowID(k.rowID(), id))
			return true, nil
		})
		return rows, next, err
	}
	next, err = c.scan(tableGrant, k.rowID()+"/", defaultGrantLimit, func(id string, content []byte) (bool, error) {
		if grantee != nil {
			if g, err := parseGrant(content); err != nil || g.GranteeID != *grantee {
				return false, err
			}
		}
		rows = append(rows, grantRowID(k.rowID(), id))
		return true, nil
	})
	return rows, next, err
}

// isUniqueID tells whether a grantee is named as one is shown that was removed. No
// index leads to those.
func isUniqueID(s string) bool { return strings.HasPrefix(s, "AIDA") || strings.HasPrefix(s, "AROA") }

// readListed reads grants by their rows. One that is gone meanwhile is left out, and
// so is one that was tampered with, which the event names.
func (c *call) readListed(rows []string, add func(kmsapi.GrantListEntry)) error {
	return c.server.ledger.View(c.ctx, func(tx *ledger.Tx) error {
		for _, row := range rows {
			content, _, err := tx.Get(tableGrant, row)
			switch {
			case errors.Is(err, keystore.ErrNotFound):
				continue
			case IsTampered(err):
				c.event.Cause = clip(err.Error())
				continue
			case err != nil:
				return err
			}
			g, err := parseGrant(content)
			if err != nil {
				return err
			}
			part := strings.Split(row, "/")
			e, err := c.server.grantEntry(tx, keyARN(part[1], part[0], part[2]), g)
			if err != nil {
				return err
			}
			add(e)
		}
		return nil
	})
}

// listRetirableGrants lists the grants of the region that a principal of the
// caller's account may retire, on keys of whatever account. The principal is the
// resource of the decision (API reference, ListRetirableGrants).
func (c *call) listRetirableGrants(in *kmsapi.ListRetirableGrantsInput) (*kmsapi.ListRetirableGrantsOutput, error) {
	if (in.RetiringPrincipal == nil) == (in.RetiringServicePrincipal == nil) {
		return nil, kmsapi.Errorf(kmsapi.Validation, "You must specify either RetiringPrincipal or RetiringServicePrincipal, but not both.")
	}
	if err := c.decideRetirable(in); err != nil {
		return nil, err
	}
	c.limitTo(maxGrantLimit)
	prefix := grantHash(*in.RetiringPrincipal) + "/" + c.caller.Region + "/"
	var rows []string
	next, err := c.scan(tableRetiring, prefix, defaultGrantLimit, func(id string, _ []byte) (bool, error) {
		account, rest, _ := strings.Cut(id, "/")
		rows = append(rows, account+"/"+c.caller.Region+"/"+rest)
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	out := &kmsapi.ListRetirableGrantsOutput{NextMarker: next, Truncated: next != ""}
	err = c.readListed(rows, func(e kmsapi.GrantListEntry) {
		// What was for one that was removed is not for whoever has its name now.
		if e.RetiringPrincipal == *in.RetiringPrincipal {
			out.Grants = append(out.Grants, e)
		}
	})
	return out, err
}

// decideRetirable decides about ListRetirableGrants. Principals of other accounts
// and services are none of the caller's business, whatever policies say.
func (c *call) decideRetirable(in *kmsapi.ListRetirableGrantsInput) error {
	if in.RetiringServicePrincipal != nil {
		c.event.Outcome = Denied
		return kmsapi.Errorf(kmsapi.AccessDenied, "User: %s is not authorized to perform: %s on resource: %s because only a service can list what a service may retire",
			c.caller.Principal.ARN(), c.op.Action(), *in.RetiringServicePrincipal)
	}
	ref, ok := parseGrantPrincipal(*in.RetiringPrincipal)
	if !ok {
		return invalidPrincipal(*in.RetiringPrincipal)
	}
	input, err := c.request(nil)
	if err != nil {
		return err
	}
	input.Request.Resource, input.Request.ResourceAccount = *in.RetiringPrincipal, ref.Account
	if ref.Account != c.caller.Principal.Account {
		decision := policy.Decision{Cause: policy.CauseCrossAccount, Trace: policy.Trace{
			Principal: input.Request.Principal, Action: input.Request.Action, Resource: input.Request.Resource, Policies: []policy.PolicyTrace{},
		}}
		c.event.Decision, c.event.Outcome = &decision, Denied
		return kmsapi.Errorf(kmsapi.AccessDenied, "%s", decision.Message())
	}
	return c.judge(input)
}
