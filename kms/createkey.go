// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"encoding/hex"
	"io"

	"github.com/cretula/cretula/internal/uuid"
	"github.com/cretula/cretula/kms/keyspec"
	"github.com/cretula/cretula/kms/kmsapi"
)

// createKey makes a key in the caller's account and region.
func (c *call) createKey(in *kmsapi.CreateKeyInput) (*kmsapi.CreateKeyOutput, error) {
	spec, usage, err := newKeySpec(in)
	if err != nil {
		return nil, err
	}
	if err := checkOrigin(in, spec); err != nil {
		return nil, err
	}
	tags, err := checkTags(nil, in.Tags)
	if err != nil {
		return nil, err
	}
	if err := c.decide(nil); err != nil {
		return nil, err
	}
	if in.CustomKeyStoreId != nil {
		return nil, noCustomKeyStore(*in.CustomKeyStoreId)
	}
	id, err := newKeyID(c.server.random, valueOr(in.MultiRegion, false))
	if err != nil {
		return nil, err
	}
	account := c.caller.Principal.Account
	k := &key{
		keyRecord: keyRecord{
			ID: id, Account: account, Region: c.caller.Region, Created: c.now.UTC(), Description: valueOr(in.Description, ""),
			Spec: spec.Name, Usage: usage, Origin: valueOr(in.Origin, kmsapi.OriginAWSKMS), State: kmsapi.StatePendingImport,
			Tags: tags,
		},
		policy: valueOr(in.Policy, defaultPolicy(account)),
	}
	if k.multiRegion() {
		k.regions = &keyRegions{Primary: k.Region}
	}
	if err := c.mayTag(k, in.Tags); err != nil {
		return nil, err
	}
	if err := c.checkPolicy(k, k.policy, valueOr(in.BypassPolicyLockoutSafetyCheck, false)); err != nil {
		return nil, err
	}
	material, err := c.firstMaterial(k, spec)
	if err != nil {
		return nil, err
	}
	c.noteKey(k.name())
	c.event.respond("keyMetadata", eventMetadata(k))
	err = c.storeKey(k, material)
	if material != nil {
		clear(material.secret)
	}
	if err != nil {
		return nil, err
	}
	return &kmsapi.CreateKeyOutput{KeyMetadata: k.metadata()}, nil
}

// newKeySpec returns spec and usage of a new key after AWS's checks of them.
func newKeySpec(in *kmsapi.CreateKeyInput) (spec *keyspec.Spec, usage string, err error) {
	name := kmsapi.SymmetricDefault
	switch {
	case in.KeySpec != nil && in.CustomerMasterKeySpec != nil:
		return nil, "", kmsapi.Errorf(kmsapi.Validation, "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated.")
	case in.KeySpec != nil:
		name = *in.KeySpec
	case in.CustomerMasterKeySpec != nil:
		name = *in.CustomerMasterKeySpec
	}
	if spec = keyspec.Lookup(name); spec == nil {
		return nil, "", unsupported("keys of spec " + name)
	}
	usage = valueOr(in.KeyUsage, spec.DefaultUsage())
	switch {
	case usage == "":
		return nil, "", kmsapi.Errorf(kmsapi.Validation, "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")
	case !spec.Allows(usage):
		return nil, "", kmsapi.Errorf(kmsapi.Validation, "KeyUsage %s is not compatible with KeySpec %s", usage, name)
	}
	return spec, usage, nil
}

// checkOrigin checks what goes with an origin. Only symmetric keys of one region
// can be in a custom key store (API reference, CreateKey, CustomKeyStoreId).
func checkOrigin(in *kmsapi.CreateKeyInput, spec *keyspec.Spec) error {
	origin := valueOr(in.Origin, kmsapi.OriginAWSKMS)
	external := origin == kmsapi.OriginExternalKeyStore
	inStore := external || origin == kmsapi.OriginAWSCloudHSM
	switch {
	case inStore != (in.CustomKeyStoreId != nil):
		return kmsapi.Errorf(kmsapi.Validation, "CustomKeyStoreId is required if Origin is %s or %s, and not valid otherwise.",
			kmsapi.OriginAWSCloudHSM, kmsapi.OriginExternalKeyStore)
	case external != (in.XksKeyId != nil):
		return kmsapi.Errorf(kmsapi.Validation, "XksKeyId is required if Origin is %s, and not valid otherwise.", kmsapi.OriginExternalKeyStore)
	case inStore && spec.Name != kmsapi.SymmetricDefault:
		return kmsapi.Errorf(kmsapi.UnsupportedOperation, "Keys of spec %s cannot be in a custom key store.", spec.Name)
	case inStore && valueOr(in.MultiRegion, false):
		return kmsapi.Errorf(kmsapi.UnsupportedOperation, "Multi-region keys cannot be in a custom key store.")
	}
	return nil
}

// newKeyID makes the id of a key: a UUID or, of a multi-region key, "mrk-" and 32
// hexadecimal digits.
func newKeyID(random io.Reader, multiRegion bool) (string, error) {
	if !multiRegion {
		return uuid.New(random)
	}
	return randomHex(random, "mrk-", hex.DecodedLen(32))
}

// mayTag decides whether the caller may give a new key tags: identity policies
// must allow kms:TagResource on it, as for CreateKey there is no policy to ask
// (API reference, CreateKey, Tags).
func (c *call) mayTag(k *key, tags []kmsapi.Tag) error {
	if len(tags) == 0 {
		return nil
	}
	tagging := *c
	tagging.op, tagging.in = kmsapi.Lookup("TagResource"), &kmsapi.TagResourceInput{Tags: tags}
	in, err := tagging.request(nil)
	if err != nil {
		return err
	}
	in.Request.Resource = k.ARN()
	untagged := k.keyRecord
	untagged.Tags = nil
	resourceConditions(in.Request.Context, &untagged)
	return c.judge(in)
}

// firstMaterial makes the material of a new key and enables it. A key whose
// material is to be imported gets none.
func (c *call) firstMaterial(k *key, spec *keyspec.Spec) (*materialVersion, error) {
	if k.Origin != kmsapi.OriginAWSKMS {
		return nil, nil
	}
	secret, err := c.server.newSecret(c.ctx, spec)
	if err != nil {
		return nil, err
	}
	material, err := c.server.newMaterial(secret)
	if err != nil {
		return nil, err
	}
	k.Material, k.State = material.id, kmsapi.StateEnabled
	return &material, nil
}
