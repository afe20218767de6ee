// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"errors"
	"slices"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/policy"
)

// isGrantID tells whether s has the form of a grant's id.
func isGrantID(s string) bool { return len(s) == 2*grantIDSize && isHex(s) }

func errGrantID() *kmsapi.Error { return kmsapi.Errorf(kmsapi.InvalidGrantId, "Invalid grant ID.") }

// findGrant reads a grant of the key. That it is there is part of what a change
// rests on.
func (c *call) findGrant(k *key, id string) (*grantRecord, error) {
	if !isGrantID(id) {
		return nil, errGrantID()
	}
	var content []byte
	err := c.server.ledger.View(c.ctx, func(tx *ledger.Tx) (err error) {
		content, err = k.get(tx, tableGrant, grantRowID(k.rowID(), id))
		return err
	})
	if errors.Is(err, keystore.ErrNotFound) {
		return nil, kmsapi.Errorf(kmsapi.NotFound, "Grant '%s' does not exist on key '%s'", id, k.ARN())
	}
	if err != nil {
		return nil, err
	}
	return parseGrant(content)
}

// revokeGrant takes a grant away. Policies say who may.
func (c *call) revokeGrant(k *key, in *kmsapi.RevokeGrantInput) (*kmsapi.RevokeGrantOutput, error) {
	g, err := c.findGrant(k, *in.GrantId)
	if err != nil {
		return nil, err
	}
	if err := c.dryRun(); err != nil {
		return nil, err
	}
	return new(kmsapi.RevokeGrantOutput), c.deleteGrant(k, g)
}

// retireGrant gives a grant back. The grant says who may.
func (c *call) retireGrant(in *kmsapi.RetireGrantInput) (*kmsapi.RetireGrantOutput, error) {
	k, g, err := c.retiredGrant(in)
	if err != nil {
		return nil, err
	}
	c.parameter("grantId", g.ID)
	if err := c.decideRetire(k, g); err != nil {
		return nil, err
	}
	if err := c.usable(k); err != nil {
		return nil, err
	}
	if err := c.dryRun(); err != nil {
		return nil, err
	}
	return new(kmsapi.RetireGrantOutput), c.deleteGrant(k, g)
}

// retiredGrant finds the grant that a token names, or a key and an id.
func (c *call) retiredGrant(in *kmsapi.RetireGrantInput) (*key, *grantRecord, error) {
	byID := in.KeyId != nil && in.GrantId != nil
	if in.GrantToken != nil && (in.KeyId != nil || in.GrantId != nil) || in.GrantToken == nil && !byID {
		return nil, nil, kmsapi.Errorf(kmsapi.Validation, "You must specify either a grant token, or both a key ID and a grant ID.")
	}
	if byID {
		k, err := c.resolve(*in.KeyId)
		if err != nil {
			return nil, nil, err
		}
		g, err := c.findGrant(k, *in.GrantId)
		return k, g, err
	}
	name, id, err := c.server.openGrantToken(*in.GrantToken)
	if err != nil {
		return nil, nil, err
	}
	if name.region != c.caller.Region {
		return nil, nil, errGrantToken()
	}
	k, err := c.resolve(keyARN(name.region, name.account, name.id))
	var g *grantRecord
	if err == nil {
		g, err = c.findGrant(k, id)
	}
	if e, ok := errors.AsType[*kmsapi.Error](err); ok && e.Code == kmsapi.NotFound {
		return nil, nil, errGrantToken()
	}
	return k, g, err
}

// retirePolicy stands in for a key's own policy, of which RetireGrant only regards
// what it denies. It says nothing.
const retirePolicy = `{"Version":"2012-10-17","Statement":{"Sid":"KeyPoliciesDoNotAllowRetireGrant",
	"Effect":"Deny","Principal":"*","NotAction":"kms:*","Resource":"*"}}`

// decideRetire decides about RetireGrant, which works otherwise than all else: the
// grant names who may, and that an identity policy of the account that made the
// grant, of the account of the key or of the account that is to retire it may
// delegate it. A key policy does not, but a Deny of any policy counts. Source: AWS
// KMS Developer Guide, "Retiring and revoking grants".
func (c *call) decideRetire(k *key, g *grantRecord) error {
	in, err := c.request(k)
	if err != nil {
		return err
	}
	if constraints := g.constraints(); constraints != nil {
		constraintConditions(in.Request.Context, constraints)
	}
	in.Grants = g.retireRights(k.Account, c.caller.Principal.ID)
	denials := []policy.Cause{policy.CauseKeyDeny, policy.CauseIdentityDeny, policy.CauseBoundaryDeny, policy.CauseSessionDeny}
	if d := policy.Evaluate(in); slices.Contains(denials, d.Cause) {
		return c.judge(in)
	}
	if in.KeyPolicy, err = c.server.policies.parse(retirePolicy, policy.KindKey); err != nil {
		return err
	}
	return c.judge(in)
}

// retireRights are the rights to retire the grant, as grants, that a caller with a
// unique id can have. No constraint applies to them (API reference, CreateGrant,
// Constraints).
func (g *grantRecord) retireRights(keyAccount, callerID string) []policy.Grant {
	var names []string
	if g.RetiringID == "" || g.RetiringID == callerID {
		names = append(names, g.retiring())
	}
	if slices.Contains(g.Operations, "RetireGrant") && (g.GranteeID == "" || g.GranteeID == callerID) {
		names = append(names, g.grantee())
	}
	names = append(names, rootARN(g.IssuingAccount), rootARN(keyAccount))
	var rights []policy.Grant
	for i, name := range names {
		if name != "" && !slices.Contains(names[:i], name) {
			rights = append(rights, policy.Grant{ID: g.ID, Name: g.Name, Grantee: name, Operations: []string{"RetireGrant"}})
		}
	}
	return rights
}
