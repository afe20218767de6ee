// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
)

// describeKey tells about a key.
func (c *call) describeKey(k *key, _ *kmsapi.DescribeKeyInput) (*kmsapi.DescribeKeyOutput, error) {
	return &kmsapi.DescribeKeyOutput{KeyMetadata: k.metadata()}, nil
}

// getKeyPolicy returns the policy of a key as it was given.
func (c *call) getKeyPolicy(k *key, in *kmsapi.GetKeyPolicyInput) (*kmsapi.GetKeyPolicyOutput, error) {
	if valueOr(in.PolicyName, kmsapi.DefaultPolicy) != kmsapi.DefaultPolicy {
		return nil, kmsapi.Errorf(kmsapi.NotFound, "No such policy exists")
	}
	text, err := c.shownPolicy(k)
	return &kmsapi.GetKeyPolicyOutput{Policy: text, PolicyName: kmsapi.DefaultPolicy}, err
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
		if err := c.useDocument(tx); err != nil {
			return err
		}
		return putPolicy(tx, k)
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
