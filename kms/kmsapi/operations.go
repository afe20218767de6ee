// SPDX-License-Identifier: Apache-2.0

// Package kmsapi is the wire form of AWS KMS (JSON 1.1, model of 2014-11-01):
// the table of its operations, the shapes of those this service has, a strict
// decoder, the model's constraints in AWS's words, and the exceptions with the
// spelling and status that AWS sends. It knows nothing of keys or of HTTP.
package kmsapi

import "reflect"

// TargetPrefix stands before the operation in the header X-Amz-Target.
const TargetPrefix = "TrentService."

// ContentType is that of every request and answer.
const ContentType = "application/x-amz-json-1.1"

// A Resource says what an operation is authorised on.
type Resource uint8

const (
	// ResourceNone: identity policies alone decide, there is no key.
	ResourceNone Resource = iota
	// ResourceKey: the key that the member KeyId names.
	ResourceKey
	// ResourceCiphertext: the key that a ciphertext names, which KeyId, if
	// given, must agree with.
	ResourceCiphertext
	// ResourceAlias: an alias and the key or keys it refers to.
	ResourceAlias
)

// An Operation is one row of the table that drives dispatch, validation,
// authorisation and documentation.
type Operation struct {
	// Name is the operation and, after "kms:", the action that policies name.
	Name string
	// Summary says in half a sentence what it does.
	Summary  string
	Resource Resource
	// Recipient says that it takes an attestation document and seals its answer.
	Recipient bool
	// CrossAccount says that principals of other accounts can be allowed to.
	CrossAccount bool
	// Usage is the KeyUsage that the key must have; empty if any will do.
	Usage string
	// AnyState says that it works on keys that are not enabled.
	AnyState bool
	// ReadOnly says that it changes nothing in the store.
	ReadOnly bool
	// Input and Output are the shapes, nil for an operation that AWS has and
	// this service has not.
	Input, Output reflect.Type
}

// Action returns the name that policies use, such as "kms:Decrypt".
func (o *Operation) Action() string { return "kms:" + o.Name }

// Built tells whether the service has the operation.
func (o *Operation) Built() bool { return o.Input != nil }

// NoOutput tells whether the output has no members, so that the body of a
// successful answer is empty.
func (o *Operation) NoOutput() bool { return o.Output != nil && o.Output.NumField() == 0 }

// Lookup returns the row of an operation, nil if AWS KMS has no such operation.
func Lookup(name string) *Operation { return byName[name] }

// Operations returns all rows, ordered by name. The rows must not be changed.
func Operations() []*Operation {
	all := make([]*Operation, len(table))
	for i := range table {
		all[i] = &table[i]
	}
	return all
}

var byName = func() map[string]*Operation {
	m := make(map[string]*Operation, len(table))
	for i := range table {
		m[table[i].Name] = &table[i]
	}
	return m
}()

func shapeType[T any]() reflect.Type { return reflect.TypeFor[T]() }

// table has every operation of the model.
var table = []Operation{
	{Name: "CancelKeyDeletion", Summary: "takes back a scheduled deletion", Resource: ResourceKey, AnyState: true},
	{Name: "ConnectCustomKeyStore", Summary: "connects a custom key store"},
	{Name: "CreateAlias", Summary: "gives a key another name", Resource: ResourceAlias, AnyState: true},
	{Name: "CreateCustomKeyStore", Summary: "makes a custom key store"},
	{Name: "CreateGrant", Summary: "lets another principal use a key", Resource: ResourceKey, CrossAccount: true},
	{Name: "CreateKey", Summary: "makes a key", Input: shapeType[CreateKeyInput](), Output: shapeType[CreateKeyOutput]()},
	{Name: "Decrypt", Summary: "opens a ciphertext", Resource: ResourceCiphertext, Recipient: true, CrossAccount: true,
		Usage: EncryptDecrypt, ReadOnly: true, Input: shapeType[DecryptInput](), Output: shapeType[DecryptOutput]()},
	{Name: "DeleteAlias", Summary: "takes a name away", Resource: ResourceAlias, AnyState: true},
	{Name: "DeleteCustomKeyStore", Summary: "deletes a custom key store"},
	{Name: "DeleteImportedKeyMaterial", Summary: "deletes imported material", Resource: ResourceKey, AnyState: true},
	{Name: "DeriveSharedSecret", Summary: "agrees on a secret with a public key", Resource: ResourceKey, Recipient: true,
		CrossAccount: true, Usage: "KEY_AGREEMENT", ReadOnly: true},
	{Name: "DescribeCustomKeyStores", Summary: "lists custom key stores", ReadOnly: true},
	{Name: "DescribeKey", Summary: "tells about a key", Resource: ResourceKey, CrossAccount: true, AnyState: true,
		ReadOnly: true, Input: shapeType[DescribeKeyInput](), Output: shapeType[DescribeKeyOutput]()},
	{Name: "DisableKey", Summary: "stops the use of a key", Resource: ResourceKey, AnyState: true},
	{Name: "DisableKeyRotation", Summary: "ends automatic rotation", Resource: ResourceKey},
	{Name: "DisconnectCustomKeyStore", Summary: "disconnects a custom key store"},
	{Name: "EnableKey", Summary: "allows the use of a key again", Resource: ResourceKey, AnyState: true},
	{Name: "EnableKeyRotation", Summary: "begins automatic rotation", Resource: ResourceKey},
	{Name: "Encrypt", Summary: "seals up to 4096 bytes", Resource: ResourceKey, CrossAccount: true, Usage: EncryptDecrypt,
		ReadOnly: true, Input: shapeType[EncryptInput](), Output: shapeType[EncryptOutput]()},
	{Name: "GenerateDataKey", Summary: "makes a data key, plain and sealed", Resource: ResourceKey, Recipient: true,
		CrossAccount: true, Usage: EncryptDecrypt, ReadOnly: true,
		Input: shapeType[GenerateDataKeyInput](), Output: shapeType[GenerateDataKeyOutput]()},
	{Name: "GenerateDataKeyPair", Summary: "makes a key pair, plain and sealed", Resource: ResourceKey, Recipient: true,
		CrossAccount: true, Usage: EncryptDecrypt, ReadOnly: true},
	{Name: "GenerateDataKeyPairWithoutPlaintext", Summary: "makes a key pair, sealed only", Resource: ResourceKey,
		CrossAccount: true, Usage: EncryptDecrypt, ReadOnly: true},
	{Name: "GenerateDataKeyWithoutPlaintext", Summary: "makes a data key, sealed only", Resource: ResourceKey,
		CrossAccount: true, Usage: EncryptDecrypt, ReadOnly: true},
	{Name: "GenerateMac", Summary: "makes an HMAC", Resource: ResourceKey, CrossAccount: true, Usage: "GENERATE_VERIFY_MAC", ReadOnly: true},
	{Name: "GenerateRandom", Summary: "makes random bytes", Recipient: true, ReadOnly: true,
		Input: shapeType[GenerateRandomInput](), Output: shapeType[GenerateRandomOutput]()},
	{Name: "GetKeyLastUsage", Summary: "tells when a key was used last", Resource: ResourceKey, AnyState: true, ReadOnly: true},
	{Name: "GetKeyPolicy", Summary: "returns a key's policy", Resource: ResourceKey, AnyState: true, ReadOnly: true,
		Input: shapeType[GetKeyPolicyInput](), Output: shapeType[GetKeyPolicyOutput]()},
	{Name: "GetKeyRotationStatus", Summary: "tells how a key rotates", Resource: ResourceKey, CrossAccount: true, AnyState: true, ReadOnly: true},
	{Name: "GetParametersForImport", Summary: "prepares an import of material", Resource: ResourceKey, AnyState: true},
	{Name: "GetPublicKey", Summary: "returns the public half of a key pair", Resource: ResourceKey, CrossAccount: true, ReadOnly: true},
	{Name: "ImportKeyMaterial", Summary: "imports material", Resource: ResourceKey, AnyState: true},
	{Name: "ListAliases", Summary: "lists names of keys", ReadOnly: true},
	{Name: "ListGrants", Summary: "lists the grants of a key", Resource: ResourceKey, CrossAccount: true, AnyState: true, ReadOnly: true},
	{Name: "ListKeyPolicies", Summary: "lists the names of a key's policies", Resource: ResourceKey, AnyState: true, ReadOnly: true},
	{Name: "ListKeyRotations", Summary: "lists the rotations of a key", Resource: ResourceKey, AnyState: true, ReadOnly: true},
	{Name: "ListKeys", Summary: "lists the keys of account and region", ReadOnly: true,
		Input: shapeType[ListKeysInput](), Output: shapeType[ListKeysOutput]()},
	{Name: "ListResourceTags", Summary: "lists the tags of a key", Resource: ResourceKey, AnyState: true, ReadOnly: true},
	{Name: "ListRetirableGrants", Summary: "lists the grants a principal may retire", ReadOnly: true},
	{Name: "PutKeyPolicy", Summary: "replaces a key's policy", Resource: ResourceKey, AnyState: true,
		Input: shapeType[PutKeyPolicyInput](), Output: shapeType[PutKeyPolicyOutput]()},
	{Name: "ReEncrypt", Summary: "seals a ciphertext anew under another key", Resource: ResourceCiphertext, CrossAccount: true,
		Usage: EncryptDecrypt, ReadOnly: true},
	{Name: "ReplicateKey", Summary: "copies a multi-region key to a region", Resource: ResourceKey},
	{Name: "RetireGrant", Summary: "gives a grant back", Resource: ResourceKey, CrossAccount: true, AnyState: true},
	{Name: "RevokeGrant", Summary: "takes a grant away", Resource: ResourceKey, CrossAccount: true, AnyState: true},
	{Name: "RotateKeyOnDemand", Summary: "gives a key new material", Resource: ResourceKey},
	{Name: "ScheduleKeyDeletion", Summary: "deletes a key after a waiting time", Resource: ResourceKey, AnyState: true},
	{Name: "Sign", Summary: "signs", Resource: ResourceKey, CrossAccount: true, Usage: "SIGN_VERIFY", ReadOnly: true},
	{Name: "TagResource", Summary: "tags a key", Resource: ResourceKey, AnyState: true},
	{Name: "UntagResource", Summary: "takes tags away", Resource: ResourceKey, AnyState: true},
	{Name: "UpdateAlias", Summary: "points a name to another key", Resource: ResourceAlias, AnyState: true},
	{Name: "UpdateCustomKeyStore", Summary: "changes a custom key store"},
	{Name: "UpdateKeyDescription", Summary: "changes a key's description", Resource: ResourceKey, AnyState: true},
	{Name: "UpdatePrimaryRegion", Summary: "makes a replica the primary key", Resource: ResourceKey},
	{Name: "Verify", Summary: "verifies a signature", Resource: ResourceKey, CrossAccount: true, Usage: "SIGN_VERIFY", ReadOnly: true},
	{Name: "VerifyMac", Summary: "verifies an HMAC", Resource: ResourceKey, CrossAccount: true, Usage: "GENERATE_VERIFY_MAC", ReadOnly: true},
}
