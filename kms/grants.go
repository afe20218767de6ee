// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/policy"
)

// Limits of grants (AWS KMS Developer Guide, "Resource quotas" and "Using grant
// constraints").
const (
	maxGrants          = 50000 // of one key
	maxConstraintPairs = 8     // of an encryption context in a constraint
	maxConstraintValue = 384   // characters of a value in it
)

// commonGrantOperations are those that a grant on any key can allow.
var commonGrantOperations = []string{"CreateGrant", "DescribeKey", "RetireGrant"}

// grantOperations returns the operations that a grant on the key can allow: those
// that the key supports (AWS KMS Developer Guide, "Grants in AWS KMS", under Grant
// operations).
func grantOperations(k *keyRecord) []string {
	if k.Spec == kmsapi.SymmetricDefault {
		return append(strings.Fields(`Decrypt Encrypt GenerateDataKey GenerateDataKeyWithoutPlaintext
			GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext ReEncryptFrom ReEncryptTo`), commonGrantOperations...)
	}
	all := slices.Clone(commonGrantOperations)
	switch k.Usage {
	case kmsapi.GenerateVerifyMAC:
		return append(all, "GenerateMac", "VerifyMac")
	case kmsapi.EncryptDecrypt:
		all = append(all, "Decrypt", "Encrypt", "ReEncryptFrom", "ReEncryptTo")
	case kmsapi.SignVerify:
		all = append(all, "Sign", "Verify")
	case kmsapi.KeyAgreement:
		all = append(all, "DeriveSharedSecret")
	case kmsapi.EncapsulateDecapsulate:
		all = append(all, "Encapsulate", "Decapsulate")
	}
	return append(all, "GetPublicKey")
}

// createGrant lets another principal use a key. A request that was answered before,
// and has a name, gets the same grant again with another token.
func (c *call) createGrant(k *key, in *kmsapi.CreateGrantInput) (*kmsapi.CreateGrantOutput, error) {
	g, err := c.newGrant(k, in)
	if err != nil {
		return nil, err
	}
	if g.Name != "" {
		same, err := c.namedGrant(k, g)
		if err != nil {
			return nil, err
		}
		if same != "" {
			g.ID = same
			return c.grantAnswer(k, g, nil)
		}
	}
	if k.Grants >= maxGrants {
		return nil, kmsapi.Errorf(kmsapi.LimitExceeded, "The key %s has %d grants already.", k.ARN(), maxGrants)
	}
	return c.grantAnswer(k, g, func(tx *ledger.Tx, record *keyRecord) error {
		record.Grants++
		return putGrant(tx, k.rowID(), g)
	})
}

// grantAnswer makes the change, if there is one to make, and the answer. The event
// has the id of the grant as CloudTrail's has it, and never the token.
func (c *call) grantAnswer(k *key, g *grantRecord, change func(*ledger.Tx, *keyRecord) error) (*kmsapi.CreateGrantOutput, error) {
	if err := c.dryRun(); err != nil {
		return nil, err
	}
	token, err := c.server.newGrantToken(k.rowID(), g.ID)
	if err != nil {
		return nil, err
	}
	c.event.respond("grantId", g.ID)
	if change != nil {
		err = c.changeKey(k, change)
	}
	if err != nil {
		return nil, err
	}
	return &kmsapi.CreateGrantOutput{GrantToken: token, GrantId: g.ID}, nil
}

// newGrant makes the grant that a request describes, after AWS's checks.
func (c *call) newGrant(k *key, in *kmsapi.CreateGrantInput) (*grantRecord, error) {
	if err := checkGrantees(in); err != nil {
		return nil, err
	}
	operations, err := checkGrantOperations(&k.keyRecord, in.Operations)
	if err != nil {
		return nil, err
	}
	if err := checkGrantConstraints(&k.keyRecord, in.Constraints); err != nil {
		return nil, err
	}
	id, err := randomHex(c.server.random, "", grantIDSize)
	if err != nil {
		return nil, err
	}
	g := &grantRecord{
		ID: id, Name: valueOr(in.Name, ""), Created: c.now.UnixMilli(), IssuingAccount: c.caller.Principal.Account,
		Grantee: valueOr(in.GranteePrincipal, ""), GranteeService: valueOr(in.GranteeServicePrincipal, ""),
		Retiring: valueOr(in.RetiringPrincipal, ""), RetiringService: valueOr(in.RetiringServicePrincipal, ""),
		Operations: operations,
	}
	if in.Constraints != nil {
		g.Equals, g.Subset = in.Constraints.EncryptionContextEquals, in.Constraints.EncryptionContextSubset
		g.SourceArn = valueOr(in.Constraints.SourceArn, "")
	}
	return g, c.bindGrantPrincipals(g)
}

// checkGrantees checks who is named (API reference, CreateGrant: GranteePrincipal,
// GranteeServicePrincipal, RetiringServicePrincipal).
func checkGrantees(in *kmsapi.CreateGrantInput) error {
	service := in.GranteeServicePrincipal != nil
	switch {
	case (in.GranteePrincipal != nil) == service:
		return kmsapi.Errorf(kmsapi.Validation, "You must specify either GranteePrincipal or GranteeServicePrincipal, but not both.")
	case in.RetiringPrincipal != nil && in.RetiringServicePrincipal != nil:
		return kmsapi.Errorf(kmsapi.Validation, "You can specify either RetiringPrincipal or RetiringServicePrincipal, but not both.")
	case service && (in.Constraints == nil || in.Constraints.SourceArn == nil):
		return kmsapi.Errorf(kmsapi.Validation, "When you specify a GranteeServicePrincipal, you must also specify a SourceArn grant constraint.")
	case service && in.RetiringPrincipal == nil && in.RetiringServicePrincipal == nil:
		return kmsapi.Errorf(kmsapi.Validation, "When you specify a GranteeServicePrincipal, you must also specify either a RetiringPrincipal or a RetiringServicePrincipal.")
	}
	return nil
}

// checkGrantOperations returns the operations, each once.
func checkGrantOperations(k *keyRecord, operations []string) ([]string, error) {
	var once, unfit []string
	possible := grantOperations(k)
	for _, o := range operations {
		if slices.Contains(once, o) {
			continue
		}
		once = append(once, o)
		if !slices.Contains(possible, o) {
			unfit = append(unfit, o)
		}
	}
	switch {
	case len(once) == 0:
		return nil, kmsapi.Errorf(kmsapi.Validation, "Grants must contain at least one operation.")
	case len(once) == 1 && once[0] == "CreateGrant":
		return nil, kmsapi.Errorf(kmsapi.Validation, "Grants must not contain only the CreateGrant operation.")
	case len(unfit) > 0:
		return nil, kmsapi.Errorf(kmsapi.Validation, "%s key usage is %s and key spec is %s, which do not support the grant operations [%s].",
			k.ARN(), k.Usage, k.Spec, strings.Join(unfit, ", "))
	}
	return once, nil
}

// checkGrantConstraints checks constraints on the encryption context, which only
// operations with symmetric encryption keys have.
func checkGrantConstraints(k *keyRecord, constraints *kmsapi.GrantConstraints) error {
	if constraints == nil {
		return nil
	}
	equals, subset := constraints.EncryptionContextEquals, constraints.EncryptionContextSubset
	switch {
	case equals == nil && subset == nil:
		return nil
	case equals != nil && subset != nil:
		return kmsapi.Errorf(kmsapi.Validation, "You can specify either EncryptionContextEquals or EncryptionContextSubset, but not both.")
	case k.Spec != kmsapi.SymmetricDefault:
		return kmsapi.Errorf(kmsapi.Validation, "Encryption context grant constraints are not supported for key spec %s.", k.Spec)
	}
	for _, context := range []map[string]string{equals, subset} {
		if len(context) > maxConstraintPairs {
			return kmsapi.Errorf(kmsapi.Validation, "A grant constraint can include at most %d encryption context pairs.", maxConstraintPairs)
		}
		for _, value := range context {
			if len([]rune(value)) > maxConstraintValue {
				return kmsapi.Errorf(kmsapi.Validation, "An encryption context value in a grant constraint cannot exceed %d characters.", maxConstraintValue)
			}
		}
	}
	return nil
}

// bindGrantPrincipals notes the unique ids of the principals of a grant, and refuses
// those that cannot be. Users and roles must exist as far as is known, like those of
// a key policy.
func (c *call) bindGrantPrincipals(g *grantRecord) error {
	for _, p := range []struct{ arn, id *string }{{&g.Grantee, &g.GranteeID}, {&g.Retiring, &g.RetiringID}} {
		if *p.arn == "" {
			continue
		}
		ref, ok := parseGrantPrincipal(*p.arn)
		if !ok {
			return invalidPrincipal(*p.arn)
		}
		err := c.server.ledger.View(c.ctx, func(tx *ledger.Tx) (err error) {
			*p.id, err = c.server.uniqueID(tx, ref)
			return err
		})
		if errors.Is(err, errPrincipalRef) {
			return invalidPrincipal(*p.arn)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func invalidPrincipal(arn string) error {
	return kmsapi.Errorf(kmsapi.InvalidArn, "ARN does not refer to a valid principal: %s", arn)
}

// parseGrantPrincipal reads the ARN of an account's root, a user, a role, a session
// or a federated user. A grant names neither everyone nor a bare account, and the
// principals of this service are in the partition "aws".
func parseGrantPrincipal(arn string) (policy.PrincipalRef, bool) {
	ref, ok := policy.ParsePrincipal(arn)
	return ref, ok && strings.HasPrefix(arn, "arn:aws:")
}

// heldGrants returns the grants of the key as the decision needs them. For
// CreateGrant those that do not cover what is to be given must not match: who may
// create grants by a grant can give no more than that grant allows (AWS KMS
// Developer Guide, "Granting CreateGrant permission"). A trace shows them as failed
// by their constraint.
func (c *call) heldGrants(k *key) []policy.Grant {
	in, ok := c.in.(*kmsapi.CreateGrantInput)
	if !ok {
		return k.grants
	}
	held := slices.Clone(k.grants)
	for i := range held {
		g := &held[i]
		if covers(g, in) {
			g.EncryptionContextEquals, g.EncryptionContextSubset = nil, nil
		} else if g.EncryptionContextEquals == nil && g.EncryptionContextSubset == nil {
			// CreateGrant has no encryption context, so that no constraint on one fits.
			g.EncryptionContextSubset = map[string]string{}
		}
	}
	return held
}

// covers tells whether a grant that in describes would allow no more than g: no
// other operations, and under constraints that are at least as strict.
func covers(g *policy.Grant, in *kmsapi.CreateGrantInput) bool {
	for _, o := range in.Operations {
		if !slices.Contains(g.Operations, o) {
			return false
		}
	}
	var child kmsapi.GrantConstraints
	if in.Constraints != nil {
		child = *in.Constraints
	}
	equals, subset := child.EncryptionContextEquals, child.EncryptionContextSubset
	switch {
	case g.SourceArn != "" && valueOr(child.SourceArn, "") != g.SourceArn:
		return false
	case g.EncryptionContextEquals != nil && (equals == nil || !maps.Equal(equals, g.EncryptionContextEquals)):
		return false
	case g.EncryptionContextSubset != nil && !(equals != nil && includes(equals, g.EncryptionContextSubset)) &&
		!(subset != nil && includes(subset, g.EncryptionContextSubset)):
		return false
	}
	return true
}

// includes tells whether all has every pair of some.
func includes(all, some map[string]string) bool {
	for name, value := range some {
		if got, ok := all[name]; !ok || got != value {
			return false
		}
	}
	return true
}

// grantConditions adds the keys that describe the grant of a request beyond plain
// members: the constraints, whose pairs are those of kms:EncryptionContext for this
// operation. kms:GrantIsForAWSResource is false, since no service of AWS calls.
// Source: AWS KMS Developer Guide, "AWS KMS condition keys".
func grantConditions(m policy.Context, in any) {
	switch in := in.(type) {
	case *kmsapi.CreateGrantInput:
		m["kms:grantisforawsresource"] = policy.Values{"false"}
		if in.Constraints != nil {
			constraintConditions(m, in.Constraints)
		}
	case *kmsapi.ListGrantsInput, *kmsapi.RevokeGrantInput:
		m["kms:grantisforawsresource"] = policy.Values{"false"}
	}
}

// An empty map is no constraint type: a policy that demands one would else let grants
// through whose constraint every request meets. Source: IAM Access Analyzer API
// Reference, "KmsGrantConstraints".
func constraintConditions(m policy.Context, constraints *kmsapi.GrantConstraints) {
	if len(constraints.EncryptionContextEquals) > 0 {
		m.Add("kms:grantconstrainttype", "EncryptionContextEquals")
		contextConditions(m, constraints.EncryptionContextEquals)
	}
	if len(constraints.EncryptionContextSubset) > 0 {
		m.Add("kms:grantconstrainttype", "EncryptionContextSubset")
		contextConditions(m, constraints.EncryptionContextSubset)
	}
	if constraints.SourceArn != nil {
		m["kms:grantconstraintsourcearn"] = policy.Values{*constraints.SourceArn}
	}
}
