// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
)

// CreateKey makes a symmetric key in the caller's account and region.
func (s *Server) CreateKey(ctx context.Context, caller *Caller, in *kmsapi.CreateKeyInput) (*kmsapi.CreateKeyOutput, error) {
	return run(ctx, s, caller, "CreateKey", in, (*call).createKey)
}

func (c *call) createKey(in *kmsapi.CreateKeyInput) (*kmsapi.CreateKeyOutput, error) {
	spec, err := keySpec(in)
	if err != nil {
		return nil, err
	}
	bypass := in.BypassPolicyLockoutSafetyCheck != nil && *in.BypassPolicyLockoutSafetyCheck
	c.parameter("keySpec", spec)
	c.parameter("keyUsage", valueOr(in.KeyUsage, kmsapi.EncryptDecrypt))
	c.parameter("origin", valueOr(in.Origin, kmsapi.OriginAWSKMS))
	c.parameter("bypassPolicyLockoutSafetyCheck", bypass)
	if in.Policy != nil {
		c.parameter("policy", clip(*in.Policy))
	}
	if err := notBuilt(in, spec); err != nil {
		return nil, err
	}
	if err := c.decide(nil, usage{create: in, bypass: &bypass}); err != nil {
		return nil, err
	}
	policy := defaultPolicy(c.caller.Principal.Account)
	if in.Policy != nil {
		policy = *in.Policy
	}
	k, err := c.server.newKey(c.caller, valueOr(in.Description, ""), policy, c.now)
	if err != nil {
		return nil, err
	}
	if err := c.checkPolicy(k, policy, bypass); err != nil {
		return nil, err
	}
	c.noteKey(keyName{k.Account, k.Region, k.ID})
	if err := c.storeKey(k); err != nil {
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

// notBuilt refuses honestly what AWS KMS can make and this service cannot.
func notBuilt(in *kmsapi.CreateKeyInput, spec string) error {
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

// unsupported is the answer to what AWS KMS has and this service has not.
func unsupported(what string) *kmsapi.Error {
	return kmsapi.Errorf(kmsapi.UnsupportedOperation, "This key service does not have %s yet.", what)
}

// DescribeKey tells about a key.
func (s *Server) DescribeKey(ctx context.Context, caller *Caller, in *kmsapi.DescribeKeyInput) (*kmsapi.DescribeKeyOutput, error) {
	return run(ctx, s, caller, "DescribeKey", in, func(c *call, in *kmsapi.DescribeKeyInput) (*kmsapi.DescribeKeyOutput, error) {
		c.parameter("keyId", clip(*in.KeyId))
		if err := noGrantTokens(in.GrantTokens); err != nil {
			return nil, err
		}
		k, err := c.resolve(*in.KeyId)
		if err != nil {
			return nil, err
		}
		if err := c.decide(k, usage{}); err != nil {
			return nil, err
		}
		return &kmsapi.DescribeKeyOutput{KeyMetadata: k.metadata()}, nil
	})
}

// GetKeyPolicy returns the policy of a key as it was given.
func (s *Server) GetKeyPolicy(ctx context.Context, caller *Caller, in *kmsapi.GetKeyPolicyInput) (*kmsapi.GetKeyPolicyOutput, error) {
	return run(ctx, s, caller, "GetKeyPolicy", in, func(c *call, in *kmsapi.GetKeyPolicyInput) (*kmsapi.GetKeyPolicyOutput, error) {
		c.parameter("keyId", clip(*in.KeyId))
		k, err := c.resolve(*in.KeyId)
		if err != nil {
			return nil, err
		}
		if err := c.decide(k, usage{}); err != nil {
			return nil, err
		}
		if valueOr(in.PolicyName, kmsapi.DefaultPolicy) != kmsapi.DefaultPolicy {
			return nil, kmsapi.Errorf(kmsapi.NotFound, "No such policy exists")
		}
		return &kmsapi.GetKeyPolicyOutput{Policy: k.policy, PolicyName: kmsapi.DefaultPolicy}, nil
	})
}

// PutKeyPolicy replaces the policy of a key.
func (s *Server) PutKeyPolicy(ctx context.Context, caller *Caller, in *kmsapi.PutKeyPolicyInput) (*kmsapi.PutKeyPolicyOutput, error) {
	return run(ctx, s, caller, "PutKeyPolicy", in, func(c *call, in *kmsapi.PutKeyPolicyInput) (*kmsapi.PutKeyPolicyOutput, error) {
		for {
			out, err := c.putKeyPolicy(in)
			if !errors.Is(err, errPolicyChanged) {
				return out, err
			}
			c.event.Resources = nil
		}
	})
}

// errPolicyChanged: between the decision and the change the policy that decided
// was replaced, perhaps to take the caller's right away. The new one must decide.
var errPolicyChanged = errors.New("kms: the key policy has changed meanwhile")

func (c *call) putKeyPolicy(in *kmsapi.PutKeyPolicyInput) (*kmsapi.PutKeyPolicyOutput, error) {
	bypass := in.BypassPolicyLockoutSafetyCheck != nil && *in.BypassPolicyLockoutSafetyCheck
	c.parameter("keyId", clip(*in.KeyId))
	c.parameter("policy", clip(*in.Policy))
	c.parameter("bypassPolicyLockoutSafetyCheck", bypass)
	if valueOr(in.PolicyName, kmsapi.DefaultPolicy) != kmsapi.DefaultPolicy {
		return nil, kmsapi.Errorf(kmsapi.Validation, "The only valid policy name is %s.", kmsapi.DefaultPolicy)
	}
	k, err := c.resolve(*in.KeyId)
	if err != nil {
		return nil, err
	}
	if err := c.decide(k, usage{bypass: &bypass}); err != nil {
		return nil, err
	}
	if err := c.checkPolicy(k, *in.Policy, bypass); err != nil {
		return nil, err
	}
	err = c.change(func(tx *ledger.Tx) error {
		current, _, err := tx.Get(tablePolicy, k.rowID())
		if err != nil {
			return err
		}
		if string(current) != k.policy {
			return errPolicyChanged
		}
		_, err = tx.Put(tablePolicy, k.rowID(), []byte(*in.Policy))
		return err
	})
	if err != nil {
		return nil, err
	}
	return &kmsapi.PutKeyPolicyOutput{}, nil
}

// defaultListLimit is how many keys ListKeys returns if it is not told.
const defaultListLimit = 100

// ListKeys lists the keys of the caller's account and region, page by page.
func (s *Server) ListKeys(ctx context.Context, caller *Caller, in *kmsapi.ListKeysInput) (*kmsapi.ListKeysOutput, error) {
	return run(ctx, s, caller, "ListKeys", in, (*call).listKeys)
}

func (c *call) listKeys(in *kmsapi.ListKeysInput) (*kmsapi.ListKeysOutput, error) {
	limit := int(valueOr(in.Limit, defaultListLimit))
	after, err := readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	if err := c.decide(nil, usage{}); err != nil {
		return nil, err
	}
	out := &kmsapi.ListKeysOutput{Keys: []kmsapi.KeyListEntry{}}
	account, region := c.caller.Principal.Account, c.caller.Region
	prefix := account + "/" + region + "/"
	var rowErr error
	err = c.server.ledger.View(c.ctx, func(tx *ledger.Tx) error {
		return tx.Scan(tableKey, prefix, func(row ledger.Row) bool {
			id := strings.TrimPrefix(row.ID, prefix)
			switch {
			case id <= after:
				return true
			case row.Err != nil && !IsTampered(row.Err):
				rowErr = row.Err
				return false
			case row.Err != nil:
				// The key is refused wherever it is used; the others are listed.
				c.event.Cause = clip(row.Err.Error())
				return true
			case len(out.Keys) == limit:
				out.Truncated = true
				out.NextMarker = writeMarker(out.Keys[limit-1].KeyId)
				return false
			}
			out.Keys = append(out.Keys, kmsapi.KeyListEntry{KeyId: id, KeyArn: keyARN(region, account, id)})
			return true
		})
	})
	if err := errors.Join(rowErr, err); err != nil {
		return nil, err
	}
	return out, nil
}

// A marker is the last key id of a page in base64.
func writeMarker(id string) string { return base64.RawURLEncoding.EncodeToString([]byte(id)) }

func readMarker(marker *string) (string, error) {
	if marker == nil {
		return "", nil
	}
	id, err := base64.RawURLEncoding.Strict().DecodeString(*marker)
	if err != nil || !isKeyID(string(id)) {
		return "", kmsapi.Errorf(kmsapi.InvalidMarker, "Invalid marker.")
	}
	return string(id), nil
}

func valueOr[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
