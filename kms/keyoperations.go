// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
)

// createKey makes a key in the caller's account and region.
func (c *call) createKey(in *kmsapi.CreateKeyInput) (*kmsapi.CreateKeyOutput, error) {
	spec, err := keySpec(in)
	if err != nil {
		return nil, err
	}
	if err := notMade(in, spec); err != nil {
		return nil, err
	}
	if err := c.decide(nil); err != nil {
		return nil, err
	}
	id, err := newUUID(c.server.random)
	if err != nil {
		return nil, err
	}
	account := c.caller.Principal.Account
	k := &key{
		keyRecord: keyRecord{
			ID: id, Account: account, Region: c.caller.Region, Created: c.now.UTC(), Description: valueOr(in.Description, ""),
			Spec: spec, Usage: valueOr(in.KeyUsage, kmsapi.EncryptDecrypt), Origin: valueOr(in.Origin, kmsapi.OriginAWSKMS),
			State: kmsapi.StateEnabled,
		},
		policy: valueOr(in.Policy, defaultPolicy(account)),
	}
	if err := c.checkPolicy(k, k.policy, valueOr(in.BypassPolicyLockoutSafetyCheck, false)); err != nil {
		return nil, err
	}
	secret, err := c.server.randomBytes(materialSize)
	if err != nil {
		return nil, err
	}
	material, err := c.server.newMaterial(secret)
	if err != nil {
		return nil, err
	}
	k.Material = material.id
	c.noteKey(k.name())
	if err := c.storeKey(k, &material); err != nil {
		return nil, err
	}
	return &kmsapi.CreateKeyOutput{KeyMetadata: k.metadata()}, nil
}

// keySpec returns the spec of a new key after AWS's checks of spec and usage.
func keySpec(in *kmsapi.CreateKeyInput) (string, error) {
	spec := kmsapi.SymmetricDefault
	switch {
	case in.KeySpec != nil && in.CustomerMasterKeySpec != nil && *in.KeySpec != *in.CustomerMasterKeySpec:
		return "", kmsapi.Errorf(kmsapi.Validation, "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated.")
	case in.KeySpec != nil:
		spec = *in.KeySpec
	case in.CustomerMasterKeySpec != nil:
		spec = *in.CustomerMasterKeySpec
	}
	switch {
	case spec != kmsapi.SymmetricDefault && in.KeyUsage == nil:
		return "", kmsapi.Errorf(kmsapi.Validation, "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")
	case spec == kmsapi.SymmetricDefault && in.KeyUsage != nil && *in.KeyUsage != kmsapi.EncryptDecrypt:
		return "", kmsapi.Errorf(kmsapi.Validation, "KeyUsage %s is not compatible with KeySpec %s", *in.KeyUsage, spec)
	}
	return spec, nil
}

// notMade refuses honestly what AWS KMS can make and this service cannot.
func notMade(in *kmsapi.CreateKeyInput, spec string) error {
	what := ""
	switch {
	case spec != kmsapi.SymmetricDefault:
		what = "keys of spec " + spec
	case in.Origin != nil && *in.Origin != kmsapi.OriginAWSKMS:
		what = "keys of origin " + *in.Origin
	case in.CustomKeyStoreId != nil || in.XksKeyId != nil:
		what = "custom key stores"
	case in.MultiRegion != nil && *in.MultiRegion:
		what = "multi-region keys"
	case len(in.Tags) > 0:
		what = "tags"
	default:
		return nil
	}
	return unsupported(what)
}

// describeKey tells about a key.
func (c *call) describeKey(k *key, _ *kmsapi.DescribeKeyInput) (*kmsapi.DescribeKeyOutput, error) {
	return &kmsapi.DescribeKeyOutput{KeyMetadata: k.metadata()}, nil
}

// getKeyPolicy returns the policy of a key as it was given.
func (c *call) getKeyPolicy(k *key, in *kmsapi.GetKeyPolicyInput) (*kmsapi.GetKeyPolicyOutput, error) {
	if valueOr(in.PolicyName, kmsapi.DefaultPolicy) != kmsapi.DefaultPolicy {
		return nil, kmsapi.Errorf(kmsapi.NotFound, "No such policy exists")
	}
	return &kmsapi.GetKeyPolicyOutput{Policy: k.policy, PolicyName: kmsapi.DefaultPolicy}, nil
}

// putKeyPolicy replaces the policy of a key.
func (c *call) putKeyPolicy(k *key, in *kmsapi.PutKeyPolicyInput) (*kmsapi.PutKeyPolicyOutput, error) {
	if valueOr(in.PolicyName, kmsapi.DefaultPolicy) != kmsapi.DefaultPolicy {
		return nil, kmsapi.Errorf(kmsapi.Validation, "The only valid policy name is %s.", kmsapi.DefaultPolicy)
	}
	if err := c.checkPolicy(k, *in.Policy, valueOr(in.BypassPolicyLockoutSafetyCheck, false)); err != nil {
		return nil, err
	}
	err := c.change(func(tx *ledger.Tx) error {
		if err := unchanged(tx, k); err != nil {
			return err
		}
		_, err := tx.Put(tablePolicy, k.rowID(), []byte(*in.Policy))
		return err
	})
	if err != nil {
		return nil, err
	}
	return &kmsapi.PutKeyPolicyOutput{}, nil
}

// defaultKeyLimit is how many keys ListKeys returns if it is not told.
const defaultKeyLimit = 100

// listKeys lists the keys of the caller's account and region, page by page.
func (c *call) listKeys(in *kmsapi.ListKeysInput) (*kmsapi.ListKeysOutput, error) {
	if err := c.decide(nil); err != nil {
		return nil, err
	}
	out := &kmsapi.ListKeysOutput{Keys: []kmsapi.KeyListEntry{}}
	account, region := c.caller.Principal.Account, c.caller.Region
	next, err := c.scan(tableKey, account+"/"+region+"/", defaultKeyLimit, func(id string, _ []byte) (bool, error) {
		out.Keys = append(out.Keys, kmsapi.KeyListEntry{KeyId: id, KeyArn: keyARN(region, account, id)})
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	out.NextMarker, out.Truncated = next, next != ""
	return out, nil
}

func valueOr[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
