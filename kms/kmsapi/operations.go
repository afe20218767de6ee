// SPDX-License-Identifier: Apache-2.0

// Package kmsapi is the wire form of AWS KMS (JSON 1.1, model of 2014-11-01):
// the table of its operations, the shapes of all of them, a strict decoder, the
// model's constraints in AWS's words, and the exceptions with the spelling and
// status that AWS sends. It knows nothing of keys or of HTTP.
package kmsapi

import (
	"reflect"
	"strings"
)

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
	// ResourceCiphertext: the key that a ciphertext names, which KeyId or
	// SourceKeyId, if given, must agree with.
	ResourceCiphertext
	// ResourceAlias: an alias and the key or keys it refers to.
	ResourceAlias
	// ResourceGrant: a grant, which a token or KeyId and GrantId name, and its key.
	ResourceGrant
)

// String returns a word for documentation.
func (r Resource) String() string {
	return [...]string{"-", "key", "key of the ciphertext", "alias and key", "grant and key"}[r]
}

// States is a set of key states.
type States uint8

// The states that operations refuse. PendingReplicaDeletion counts as
// PendingDeletion.
const (
	RefuseDisabled States = 1 << iota
	RefusePendingDeletion
	RefusePendingImport
	RefuseUnavailable
)

var stateBits = map[string]States{
	StateDisabled: RefuseDisabled, StatePendingDeletion: RefusePendingDeletion,
	StatePendingReplicaDeletion: RefusePendingDeletion, StatePendingImport: RefusePendingImport, StateUnavailable: RefuseUnavailable,
}

// Has tells whether a KeyState, such as "PendingImport", is in the set.
func (s States) Has(keyState string) bool { return s&stateBits[keyState] != 0 }

// String returns the names of the states.
func (s States) String() string {
	var names []string
	for _, state := range []string{StateDisabled, StatePendingDeletion, StatePendingImport, StateUnavailable} {
		if s.Has(state) {
			names = append(names, state)
		}
	}
	return strings.Join(names, ", ")
}

// A Condition is a condition key whose value is a member of the request.
type Condition struct {
	// Key is as AWS writes it, such as "kms:MessageType".
	Key string
	// Member has the value. After a "|" stands a member that is used where the
	// first is absent. Empty: the value is always Default.
	Member string
	// Default is the value where the member is absent; empty: the key is absent too.
	Default string
}

// An Operation is one row of the table that drives dispatch, validation,
// authorisation and documentation.
type Operation struct {
	// Name is the operation and, after "kms:", the action that policies name.
	Name string
	// Summary says in half a sentence what it does.
	Summary  string
	Resource Resource
	// Usage is the KeyUsage that the key must have; empty if any will do.
	Usage string
	// Origin is the only origin of key material that the operation is for; empty: it
	// is for all. It is looked at before the state of the key.
	Origin string
	// Refuses has the states of the key in which the operation fails. For
	// UpdateAlias it is that of the new key. CancelKeyDeletion, which works in one
	// state only, has a rule of its own.
	Refuses States
	// Conditions are the condition keys that come straight from members. Those of
	// the key, of an encryption context, of tags and of a Recipient are not among
	// them.
	Conditions []Condition
	// Extension says that the member Recipient is not AWS's: it is looked at only
	// for keys whose policy asks for it.
	Extension bool
	// Input and Output are the shapes.
	Input, Output reflect.Type

	action         string
	takesRecipient bool
	bound          []boundCondition
}

// Action returns the name that policies use, such as "kms:Decrypt".
func (o *Operation) Action() string {
	if o.action == "" { // not one of the table
		return "kms:" + o.Name
	}
	return o.action
}

// NoOutput tells whether the output has no members, so that the body of a
// successful answer is empty.
func (o *Operation) NoOutput() bool { return o.Output.NumField() == 0 }

// TakesRecipient tells whether AWS's operation takes an attestation document and
// seals its answer.
func (o *Operation) TakesRecipient() bool { return o.takesRecipient }

// Lookup returns the row of an operation, nil if AWS KMS has no such operation.
func Lookup(name string) *Operation { return byName[name] }

// LookupInput returns the row whose input is of type t, a struct or a pointer to
// it; nil if there is none.
func LookupInput(t reflect.Type) *Operation {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return byInput[t]
}

// Operations returns all rows, ordered by name. The rows must not be changed.
func Operations() []*Operation {
	all := make([]*Operation, len(table))
	for i := range table {
		all[i] = &table[i]
	}
	return all
}

var (
	byName  = make(map[string]*Operation, len(table))
	byInput = make(map[reflect.Type]*Operation, len(table))
)

func init() {
	for i := range table {
		o := &table[i]
		byName[o.Name], byInput[o.Input] = o, o
		o.action = "kms:" + o.Name
		_, has := o.Input.FieldByName("Recipient")
		o.takesRecipient = has && !o.Extension
		for _, c := range o.Conditions {
			o.bound = append(o.bound, bind(o.Input, c))
		}
	}
}
