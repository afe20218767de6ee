// SPDX-License-Identifier: Apache-2.0

package kms

import "time"

// Inputs of the operations of STS, with the members and constraints of AWS's API
// model. Those of which this service has nothing are there to be refused.

// GetCallerIdentityInput is the input of GetCallerIdentity.
type GetCallerIdentityInput struct{}

// AssumeRoleInput is the input of AssumeRole.
type AssumeRoleInput struct {
	RoleArn           *string            `kms:"required,len=20..2048,pattern=Arn"`
	RoleSessionName   *string            `kms:"required,len=2..64,pattern=RoleSessionName"`
	PolicyArns        []STSPolicyArn     `kms:"len=0..10"`
	Policy            *string            `kms:"len=1..2048,pattern=Policy"`
	DurationSeconds   *int32             `kms:"range=900..43200"`
	Tags              []STSTag           `kms:"len=0..50"`
	TransitiveTagKeys []string           `kms:"len=0..50,items=1..128,pattern=SessionTagKey"`
	ExternalId        *string            `kms:"len=2..1224,pattern=ExternalId"`
	SerialNumber      *string            `kms:"len=9..256"`
	TokenCode         *string            `kms:"len=6..6,sensitive"`
	SourceIdentity    *string            `kms:"len=2..64,pattern=RoleSessionName"`
	ProvidedContexts  []STSProvidedValue `kms:"len=0..5"`
}

// AssumeRoleWithWebIdentityInput is the input of AssumeRoleWithWebIdentity.
type AssumeRoleWithWebIdentityInput struct {
	RoleArn          *string        `kms:"required,len=20..2048,pattern=Arn"`
	RoleSessionName  *string        `kms:"required,len=2..64,pattern=RoleSessionName"`
	WebIdentityToken *string        `kms:"required,len=4..20000,sensitive"`
	ProviderId       *string        `kms:"len=4..2048"`
	PolicyArns       []STSPolicyArn `kms:"len=0..10"`
	Policy           *string        `kms:"len=1..2048,pattern=Policy"`
	DurationSeconds  *int32         `kms:"range=900..43200"`
}

// GetSessionTokenInput is the input of GetSessionToken.
type GetSessionTokenInput struct {
	DurationSeconds *int32  `kms:"range=900..129600"`
	SerialNumber    *string `kms:"len=9..256"`
	TokenCode       *string `kms:"len=6..6,sensitive"`
}

// STSTag is a tag of a session.
type STSTag struct {
	Key   *string `kms:"required,len=1..128,pattern=SessionTagKey"`
	Value *string `kms:"required,len=0..256,pattern=SessionTagValue"`
}

// STSPolicyArn is the ARN of a managed policy.
type STSPolicyArn struct {
	Arn *string
}

// STSProvidedValue is a context from a provider of such.
type STSProvidedValue struct {
	ProviderArn      *string
	ContextAssertion *string `kms:"sensitive"`
}

// CallerIdentity is the output of GetCallerIdentity.
type CallerIdentity struct {
	Arn     string
	UserID  string
	Account string
}

// TemporaryCredentials are an access key that works with its session token only,
// until its expiration.
type TemporaryCredentials struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string
	Expiration      time.Time
}

// AssumedRole is the output of AssumeRole, and of AssumeRoleWithWebIdentity, of which
// the members behind SourceIdentity are.
type AssumedRole struct {
	Credentials TemporaryCredentials
	// AssumedRoleID is the unique id of the role with the name of the session, Arn the
	// ARN of the session.
	AssumedRoleID, Arn string
	// PackedPolicySize is how much of the room for session policies and tags is used,
	// in percent; nil if there are none.
	PackedPolicySize *int
	SourceIdentity   string

	Subject, Provider, Audience string
}
