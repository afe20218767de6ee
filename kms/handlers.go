// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"cmp"
	"errors"

	"github.com/cretula/cretula/kms/kmsapi"
)

// A handler is the code of one operation: a call with its decoded input goes in,
// the output shape comes out.
type handler func(*call) (any, error)

// onKey is an operation on the one key that KeyId names. Its code runs once the
// key is found, the recipient verified, the decision made and the key's state and
// usage checked.
func onKey[I, O any](do func(*call, *key, *I) (*O, error)) handler {
	return func(c *call) (any, error) {
		k, err := c.admit(*c.common.KeyId)
		if err != nil {
			return nil, err
		}
		return do(c, k, c.in.(*I))
	}
}

// own is an operation that goes its own way: on no key, on two, or on one that
// something else than KeyId names.
func own[I, O any](do func(*call, *I) (*O, error)) handler {
	return func(c *call) (any, error) { return do(c, c.in.(*I)) }
}

// handlers has every operation of the table.
var handlers map[string]handler

func init() { // the operations themselves refer to the table
	handlers = map[string]handler{
		"CancelKeyDeletion":                   onKey((*call).cancelKeyDeletion),
		"ConnectCustomKeyStore":               customKeyStore,
		"CreateAlias":                         own((*call).createAlias),
		"CreateCustomKeyStore":                customKeyStore,
		"CreateGrant":                         onKey((*call).createGrant),
		"CreateKey":                           own((*call).createKey),
		"Decapsulate":                         notBuilt,
		"Decrypt":                             own((*call).decrypt),
		"DeleteAlias":                         own((*call).deleteAlias),
		"DeleteCustomKeyStore":                customKeyStore,
		"DeleteImportedKeyMaterial":           onKey((*call).deleteImportedKeyMaterial),
		"DeriveSharedSecret":                  onKey((*call).deriveSharedSecret),
		"DescribeCustomKeyStores":             own((*call).describeCustomKeyStores),
		"DescribeKey":                         onKey((*call).describeKey),
		"DisableKey":                          onKey((*call).disableKey),
		"DisableKeyRotation":                  onKey((*call).disableKeyRotation),
		"DisconnectCustomKeyStore":            customKeyStore,
		"EnableKey":                           onKey((*call).enableKey),
		"EnableKeyRotation":                   onKey((*call).enableKeyRotation),
		"Encapsulate":                         notBuilt,
		"Encrypt":                             onKey((*call).encrypt),
		"GenerateDataKey":                     onKey((*call).generateDataKey),
		"GenerateDataKeyPair":                 onKey((*call).generateDataKeyPair),
		"GenerateDataKeyPairWithoutPlaintext": onKey((*call).generateDataKeyPairWithoutPlaintext),
		"GenerateDataKeyWithoutPlaintext":     onKey((*call).generateDataKeyWithoutPlaintext),
		"GenerateMac":                         onKey((*call).generateMac),
		"GenerateRandom":                      own((*call).generateRandom),
		"GetKeyLastUsage":                     onKey((*call).getKeyLastUsage),
		"GetKeyPolicy":                        onKey((*call).getKeyPolicy),
		"GetKeyRotationStatus":                onKey((*call).getKeyRotationStatus),
		"GetParametersForImport":              onKey((*call).getParametersForImport),
		"GetPublicKey":                        onKey((*call).getPublicKey),
		"ImportKeyMaterial":                   onKey((*call).importKeyMaterial),
		"ListAliases":                         own((*call).listAliases),
		"ListGrants":                          onKey((*call).listGrants),
		"ListKeyPolicies":                     onKey((*call).listKeyPolicies),
		"ListKeyRotations":                    onKey((*call).listKeyRotations),
		"ListKeys":                            own((*call).listKeys),
		"ListResourceTags":                    onKey((*call).listResourceTags),
		"ListRetirableGrants":                 own((*call).listRetirableGrants),
		"PutKeyPolicy":                        onKey((*call).putKeyPolicy),
		"ReEncrypt":                           own((*call).reEncrypt),
		"ReplicateKey":                        onKey((*call).replicateKey),
		"RetireGrant":                         own((*call).retireGrant),
		"RevokeGrant":                         onKey((*call).revokeGrant),
		"RotateKeyOnDemand":                   onKey((*call).rotateKeyOnDemand),
		"ScheduleKeyDeletion":                 onKey((*call).scheduleKeyDeletion),
		"Sign":                                onKey((*call).sign),
		"TagResource":                         onKey((*call).tagResource),
		"UntagResource":                       onKey((*call).untagResource),
		"UpdateAlias":                         own((*call).updateAlias),
		"UpdateCustomKeyStore":                customKeyStore,
		"UpdateKeyDescription":                onKey((*call).updateKeyDescription),
		"UpdatePrimaryRegion":                 onKey((*call).updatePrimaryRegion),
		"Verify":                              onKey((*call).verify),
		"VerifyMac":                           onKey((*call).verifyMac),
	}
	handlers[explainOperation.Name] = own((*call).explain)
}

// notBuilt answers for an operation that AWS KMS has and this service has not.
func notBuilt(c *call) (any, error) { return nil, unsupported("the operation " + c.op.Name) }

// unsupported is the answer to what AWS KMS has and this service has not.
func unsupported(what string) *kmsapi.Error {
	return kmsapi.Errorf(kmsapi.UnsupportedOperation, "This key service does not have %s.", what)
}

// admit does the steps before the operation itself for the key that a KeyId
// names.
func (c *call) admit(keyID string) (*key, error) {
	k, err := c.resolve(keyID)
	if err != nil {
		if c.foreign != "" && !errors.Is(err, errChanged) { // what is wrong with the Recipient is told all the same
			err = cmp.Or(c.verifyRecipient(nil), err)
		}
		return nil, err
	}
	if err := c.verifyRecipient(k); err != nil {
		return nil, err
	}
	if err := c.decide(k); err != nil {
		return nil, err
	}
	return k, c.usable(k)
}

// refusals are AWS's words about the states in which keys are refused.
var refusals = map[string]struct {
	code kmsapi.Code
	text string
}{
	kmsapi.StateDisabled:               {kmsapi.Disabled, "%s is disabled."},
	kmsapi.StatePendingDeletion:        {kmsapi.KMSInvalidState, "%s is pending deletion."},
	kmsapi.StatePendingReplicaDeletion: {kmsapi.KMSInvalidState, "%s is pending replica deletion."},
	kmsapi.StatePendingImport:          {kmsapi.KMSInvalidState, "%s is pending import."},
	kmsapi.StateUnavailable:            {kmsapi.KMSInvalidState, "%s is unavailable."},
}

// usable checks origin, state and usage of a key for the operation of the call, in
// the order of AWS's key state table.
func (c *call) usable(k *key) error {
	if c.op.Origin != "" && k.Origin != c.op.Origin {
		return errOrigin(k)
	}
	if c.op.Refuses.Has(k.State) {
		r := refusals[k.State]
		return kmsapi.Errorf(r.code, r.text, k.ARN())
	}
	if c.op.Usage != "" && k.Usage != c.op.Usage {
		return kmsapi.Errorf(kmsapi.InvalidKeyUsage, "%s key usage is %s which is not valid for %s.", k.ARN(), k.Usage, c.op.Name)
	}
	if c.used == nil {
		c.used = c.own.used[:0]
	}
	c.used = append(c.used, k.rowID())
	return nil
}
