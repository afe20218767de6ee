// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"errors"
	"slices"

	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/policy"
)

// maxReplicas bounds the replicas of one key: any name of the right form is a
// region here. AWS has fewer regions.
const maxReplicas = 50

// Rules by which the operations on multi-region keys deny what policies allow.
const (
	ruleOtherAccount      = "kms.multi-region.account"
	ruleReplicateAttested = "kms.multi-region.attested"
)

// inRegion returns the call as it would be in another region.
func (c *call) inRegion(region string) *call {
	there, caller := *c, *c.caller
	caller.Region = region
	there.caller = &caller
	return &there
}

// checkPrimary refuses what is not a primary key, and one of another account, on
// which these operations never work (API reference, cross-account use).
func (c *call) checkPrimary(k *key) error {
	switch {
	case k.Account != c.caller.Principal.Account:
		return c.refuse(ruleOtherAccount, "the key "+k.ARN()+" is one of another account")
	case k.regionType() != kmsapi.MultiRegionPrimary:
		return kmsapi.Errorf(kmsapi.UnsupportedOperation, "%s is not a multi-region primary key.", k.ARN())
	}
	return nil
}

// replicateKey makes a related key in another region. Allowed must be
// kms:ReplicateKey on the primary key and, by identity policies, in the other
// region kms:CreateKey and, with tags, kms:TagResource (API reference,
// ReplicateKey, required permissions).
func (c *call) replicateKey(k *key, in *kmsapi.ReplicateKeyInput) (*kmsapi.ReplicateKeyOutput, error) {
	if err := c.checkPrimary(k); err != nil {
		return nil, err
	}
	if k.Attested {
		// A replica has a policy of its own, and that of such a key is changed with
		// an attestation document only.
		return nil, c.refuse(ruleReplicateAttested, "the key has, or had, the tag "+AttestedTag+", and is replicated before it gets the tag only")
	}
	replica, err := c.newReplica(k, in)
	if err != nil {
		return nil, err
	}
	there := c.inRegion(replica.Region)
	if err := there.mayCreateReplica(replica, in); err != nil {
		return nil, err
	}
	if err := there.mayTag(replica, in.Tags); err != nil {
		return nil, err
	}
	if err := c.checkVacant(k, replica.name()); err != nil {
		return nil, err
	}
	if err := there.checkPolicy(replica, replica.policy, valueOr(in.BypassPolicyLockoutSafetyCheck, false)); err != nil {
		return nil, err
	}
	c.noteKey(replica.name())
	err = c.change(func(tx *ledger.Tx) error {
		if err := unchanged(tx, k); err != nil {
			return err
		}
		if err := putKey(tx, replica); err != nil {
			return err
		}
		return c.server.copyMaterial(tx, &k.keyRecord, &replica.keyRecord)
	})
	if err != nil {
		return nil, err
	}
	return &kmsapi.ReplicateKeyOutput{ReplicaKeyMetadata: replica.metadata(), ReplicaPolicy: replica.policy, ReplicaTags: wireTags(replica.Tags)}, nil
}

// newReplica is the replica as it will be. It can be used at once; imported
// material has to be imported in its region too.
func (c *call) newReplica(k *key, in *kmsapi.ReplicateKeyInput) (*key, error) {
	tags, err := checkTags(nil, in.Tags)
	if err != nil {
		return nil, err
	}
	replica := &key{
		keyRecord: keyRecord{
			ID: k.ID, Account: k.Account, Region: *in.ReplicaRegion, Created: c.now.UTC(), Description: valueOr(in.Description, ""),
			State: kmsapi.StatePendingImport, Tags: tags, regions: k.regions.with(*in.ReplicaRegion),
		},
		policy: valueOr(in.Policy, defaultPolicy(k.Account)),
	}
	share(&k.keyRecord, &replica.keyRecord)
	if replica.Material != "" {
		replica.State = kmsapi.StateEnabled
	}
	return replica, nil
}

// mayCreateReplica decides about kms:CreateKey in the region of a new replica.
func (c *call) mayCreateReplica(replica *key, in *kmsapi.ReplicateKeyInput) error {
	multiRegion := true
	creating := *c
	creating.op, creating.common = kmsapi.Lookup("CreateKey"), kmsapi.Common{}
	creating.in = &kmsapi.CreateKeyInput{
		KeySpec: &replica.Spec, KeyUsage: &replica.Usage, Origin: &replica.Origin, MultiRegion: &multiRegion,
		BypassPolicyLockoutSafetyCheck: in.BypassPolicyLockoutSafetyCheck, Tags: in.Tags,
	}
	request, err := creating.request(nil)
	if err != nil {
		return err
	}
	request.Request.Context["kms:multiregionkeytype"] = policy.Values{kmsapi.MultiRegionReplica}
	return c.judge(request)
}

// checkVacant refuses a region in which there is a related key. One whose waiting
// time is over is there no more.
func (c *call) checkVacant(k *key, name keyName) error {
	if name.region != k.Region && !slices.Contains(k.regions.Replicas, name.region) {
		if len(k.regions.Replicas) >= maxReplicas {
			return kmsapi.Errorf(kmsapi.LimitExceeded, "The key %s has %d replica keys already.", k.ARN(), maxReplicas)
		}
		return nil
	}
	_, err := c.server.loadKey(c.ctx, name, &c.caller.Principal)
	if err == nil || IsTampered(err) {
		return kmsapi.Errorf(kmsapi.AlreadyExists, "The key %s already exists. There can be one related multi-region key in each region.",
			keyARN(name.region, name.account, name.id))
	}
	if !errors.Is(err, errNoKey) {
		return err
	}
	if err := c.server.deleteDueKey(c.ctx, name); err != nil {
		return err
	}
	return errChanged
}

// updatePrimaryRegion makes a replica the primary key and the primary key a replica.
// Both must be enabled, and the operation allowed on both (API reference,
// UpdatePrimaryRegion, required permissions).
func (c *call) updatePrimaryRegion(k *key, in *kmsapi.UpdatePrimaryRegionInput) (*kmsapi.UpdatePrimaryRegionOutput, error) {
	if err := c.checkPrimary(k); err != nil {
		return nil, err
	}
	region := *in.PrimaryRegion
	if region == k.Region {
		return nil, kmsapi.Errorf(kmsapi.UnsupportedOperation, "%s is not a multi-region replica key.", k.ARN())
	}
	there := c.inRegion(region)
	replica, err := there.resolve(keyARN(region, k.Account, k.ID))
	if err != nil {
		return nil, err
	}
	if err := there.decide(replica); err != nil {
		return nil, err
	}
	if err := there.usable(replica); err != nil {
		return nil, err
	}
	return new(kmsapi.UpdatePrimaryRegionOutput), c.change(func(tx *ledger.Tx) error {
		for _, read := range []*key{k, replica} {
			if err := unchanged(tx, read); err != nil {
				return err
			}
		}
		exchanged := replica.keyRecord
		exchanged.regions = k.regions.without(region).with(k.Region)
		exchanged.regions.Primary = region
		if err := putRegions(tx, &exchanged); err != nil || k.Rotation == nil {
			return err
		}
		// The rotation of all of them is from now on looked for where it is led.
		if err := deleteDue(tx, k.Rotation.Next, dueRotation, k.rowID()); err != nil {
			return err
		}
		return putDue(tx, k.Rotation.Next, dueRotation, replica.rowID())
	})
}

// wireTags are tags as answers have them.
func wireTags(tags []keyTag) []kmsapi.Tag {
	out := make([]kmsapi.Tag, len(tags))
	for i := range tags {
		out[i] = kmsapi.Tag{TagKey: &tags[i].Key, TagValue: &tags[i].Value}
	}
	return out
}
