// SPDX-License-Identifier: Apache-2.0

package kmsapi

// PutKeyPolicyInput is the input of PutKeyPolicy.
type PutKeyPolicyInput struct {
	KeyId                          *string        `json:",omitempty" kms:"required,len=1..2048"`
	PolicyName                     *string        `json:",omitempty" kms:"len=1..128,pattern=PolicyName"`
	Policy                         *string        `json:",omitempty" kms:"required,len=1..131072,pattern=Policy"`
	BypassPolicyLockoutSafetyCheck *bool          `json:",omitempty"`
	Recipient                      *RecipientInfo `json:",omitempty"` // an extension: see [Operation.Extension]
}

// PutKeyPolicyOutput is the output of PutKeyPolicy, which has no members.
type PutKeyPolicyOutput struct{}

// GetKeyPolicyInput is the input of GetKeyPolicy.
type GetKeyPolicyInput struct {
	KeyId      *string `json:",omitempty" kms:"required,len=1..2048"`
	PolicyName *string `json:",omitempty" kms:"len=1..128,pattern=PolicyName"`
}

// GetKeyPolicyOutput is the output of GetKeyPolicy.
type GetKeyPolicyOutput struct {
	Policy     string
	PolicyName string
}

// ListKeyPoliciesInput is the input of ListKeyPolicies.
type ListKeyPoliciesInput struct {
	KeyId  *string `json:",omitempty" kms:"required,len=1..2048"`
	Limit  *int32  `json:",omitempty" kms:"range=1..1000"`
	Marker *string `json:",omitempty" kms:"len=1..1024,pattern=Marker"`
}

// ListKeyPoliciesOutput is the output of ListKeyPolicies.
type ListKeyPoliciesOutput struct {
	PolicyNames List[string]
	NextMarker  string `json:",omitempty"`
	Truncated   bool
}

// CreateGrantInput is the input of CreateGrant.
type CreateGrantInput struct {
	KeyId                    *string           `json:",omitempty" kms:"required,len=1..2048"`
	GranteePrincipal         *string           `json:",omitempty" kms:"len=1..256,pattern=PrincipalId"`
	RetiringPrincipal        *string           `json:",omitempty" kms:"len=1..256,pattern=PrincipalId"`
	Operations               []string          `json:",omitempty" kms:"required,values=GrantOperation"`
	Constraints              *GrantConstraints `json:",omitempty"`
	GrantTokens              []string          `json:",omitempty" kms:"len=0..10,items=1..8192"`
	Name                     *string           `json:",omitempty" kms:"len=1..256,pattern=GrantName"`
	DryRun                   *bool             `json:",omitempty"`
	GranteeServicePrincipal  *string           `json:",omitempty" kms:"len=1..128,pattern=ServicePrincipal"`
	RetiringServicePrincipal *string           `json:",omitempty" kms:"len=1..128,pattern=ServicePrincipal"`
}

// CreateGrantOutput is the output of CreateGrant.
type CreateGrantOutput struct {
	GrantToken string
	GrantId    string
}

// GrantConstraints bounds what a grant allows.
type GrantConstraints struct {
	EncryptionContextSubset map[string]string `json:",omitempty"`
	EncryptionContextEquals map[string]string `json:",omitempty"`
	SourceArn               *string           `json:",omitempty" kms:"len=20..512,pattern=SourceArn"`
}

// ListGrantsInput is the input of ListGrants.
type ListGrantsInput struct {
	Limit                   *int32  `json:",omitempty" kms:"range=1..1000"`
	Marker                  *string `json:",omitempty" kms:"len=1..1024,pattern=Marker"`
	KeyId                   *string `json:",omitempty" kms:"required,len=1..2048"`
	GrantId                 *string `json:",omitempty" kms:"len=1..128"`
	GranteePrincipal        *string `json:",omitempty" kms:"len=1..256,pattern=PrincipalId"`
	GranteeServicePrincipal *string `json:",omitempty" kms:"len=1..128,pattern=ServicePrincipal"`
}

// ListGrantsOutput is the output of ListGrants.
type ListGrantsOutput struct {
	Grants     List[GrantListEntry]
	NextMarker string `json:",omitempty"`
	Truncated  bool
}

// GrantListEntry is one grant in the outputs of ListGrants and ListRetirableGrants.
type GrantListEntry struct {
	KeyId                    string
	GrantId                  string
	Name                     string `json:",omitempty"`
	CreationDate             Timestamp
	GranteePrincipal         string `json:",omitempty"`
	RetiringPrincipal        string `json:",omitempty"`
	IssuingAccount           string
	Operations               List[string]
	Constraints              *GrantConstraints `json:",omitempty"`
	GranteeServicePrincipal  string            `json:",omitempty"`
	RetiringServicePrincipal string            `json:",omitempty"`
}

// ListRetirableGrantsInput is the input of ListRetirableGrants.
type ListRetirableGrantsInput struct {
	Limit                    *int32  `json:",omitempty" kms:"range=1..1000"`
	Marker                   *string `json:",omitempty" kms:"len=1..1024,pattern=Marker"`
	RetiringPrincipal        *string `json:",omitempty" kms:"len=1..256,pattern=PrincipalId"`
	RetiringServicePrincipal *string `json:",omitempty" kms:"len=1..128,pattern=ServicePrincipal"`
}

// ListRetirableGrantsOutput is the output of ListRetirableGrants.
type ListRetirableGrantsOutput struct {
	Grants     List[GrantListEntry]
	NextMarker string `json:",omitempty"`
	Truncated  bool
}

// RetireGrantInput is the input of RetireGrant.
type RetireGrantInput struct {
	GrantToken *string `json:",omitempty" kms:"len=1..8192"`
	KeyId      *string `json:",omitempty" kms:"len=1..2048"`
	GrantId    *string `json:",omitempty" kms:"len=1..128"`
	DryRun     *bool   `json:",omitempty"`
}

// RetireGrantOutput is the output of RetireGrant, which has no members.
type RetireGrantOutput struct{}

// RevokeGrantInput is the input of RevokeGrant.
type RevokeGrantInput struct {
	KeyId   *string `json:",omitempty" kms:"required,len=1..2048"`
	GrantId *string `json:",omitempty" kms:"required,len=1..128"`
	DryRun  *bool   `json:",omitempty"`
}

// RevokeGrantOutput is the output of RevokeGrant, which has no members.
type RevokeGrantOutput struct{}
