// SPDX-License-Identifier: Apache-2.0

package kmsapi

// CreateKeyInput is the input of CreateKey.
type CreateKeyInput struct {
	Policy                         *string `json:",omitempty" kms:"len=1..131072,pattern=Policy"`
	Description                    *string `json:",omitempty" kms:"len=0..8192"`
	KeyUsage                       *string `json:",omitempty" kms:"enum=KeyUsageType"`
	CustomerMasterKeySpec          *string `json:",omitempty" kms:"enum=CustomerMasterKeySpec"`
	KeySpec                        *string `json:",omitempty" kms:"enum=KeySpec"`
	Origin                         *string `json:",omitempty" kms:"enum=OriginType"`
	CustomKeyStoreId               *string `json:",omitempty" kms:"len=1..64"`
	BypassPolicyLockoutSafetyCheck *bool   `json:",omitempty"`
	Tags                           []Tag   `json:",omitempty"`
	MultiRegion                    *bool   `json:",omitempty"`
	XksKeyId                       *string `json:",omitempty" kms:"len=1..128,pattern=XksKeyId"`
}

// CreateKeyOutput is the output of CreateKey.
type CreateKeyOutput struct {
	KeyMetadata KeyMetadata
}

// DescribeKeyInput is the input of DescribeKey.
type DescribeKeyInput struct {
	KeyId       *string  `json:",omitempty" kms:"required,len=1..2048"`
	GrantTokens []string `json:",omitempty" kms:"len=0..10,items=1..8192"`
}

// DescribeKeyOutput is the output of DescribeKey.
type DescribeKeyOutput struct {
	KeyMetadata KeyMetadata
}

// ListKeysInput is the input of ListKeys.
type ListKeysInput struct {
	Limit  *int32  `json:",omitempty" kms:"range=1..1000"`
	Marker *string `json:",omitempty" kms:"len=1..1024,pattern=Marker"`
}

// ListKeysOutput is the output of ListKeys.
type ListKeysOutput struct {
	Keys       List[KeyListEntry]
	NextMarker string `json:",omitempty"`
	Truncated  bool
}

// KeyListEntry is one key in the output of ListKeys.
type KeyListEntry struct {
	KeyId  string
	KeyArn string
}

// EnableKeyInput is the input of EnableKey.
type EnableKeyInput struct {
	KeyId *string `json:",omitempty" kms:"required,len=1..2048"`
}

// EnableKeyOutput is the output of EnableKey, which has no members.
type EnableKeyOutput struct{}

// DisableKeyInput is the input of DisableKey.
type DisableKeyInput struct {
	KeyId *string `json:",omitempty" kms:"required,len=1..2048"`
}

// DisableKeyOutput is the output of DisableKey, which has no members.
type DisableKeyOutput struct{}

// UpdateKeyDescriptionInput is the input of UpdateKeyDescription.
type UpdateKeyDescriptionInput struct {
	KeyId       *string `json:",omitempty" kms:"required,len=1..2048"`
	Description *string `json:",omitempty" kms:"required,len=0..8192"`
}

// UpdateKeyDescriptionOutput is the output of UpdateKeyDescription, which has no members.
type UpdateKeyDescriptionOutput struct{}

// ScheduleKeyDeletionInput is the input of ScheduleKeyDeletion.
type ScheduleKeyDeletionInput struct {
	KeyId               *string `json:",omitempty" kms:"required,len=1..2048"`
	PendingWindowInDays *int32  `json:",omitempty" kms:"range=1..365"`
}

// ScheduleKeyDeletionOutput is the output of ScheduleKeyDeletion.
type ScheduleKeyDeletionOutput struct {
	KeyId               string
	DeletionDate        *Timestamp `json:",omitempty"`
	KeyState            string
	PendingWindowInDays int32
}

// CancelKeyDeletionInput is the input of CancelKeyDeletion.
type CancelKeyDeletionInput struct {
	KeyId *string `json:",omitempty" kms:"required,len=1..2048"`
}

// CancelKeyDeletionOutput is the output of CancelKeyDeletion.
type CancelKeyDeletionOutput struct {
	KeyId string
}

// GetKeyLastUsageInput is the input of GetKeyLastUsage.
type GetKeyLastUsageInput struct {
	KeyId *string `json:",omitempty" kms:"required,len=1..2048"`
}

// GetKeyLastUsageOutput is the output of GetKeyLastUsage. KeyLastUsage is {} for a
// key that was not used.
type GetKeyLastUsageOutput struct {
	KeyId             string
	KeyLastUsage      KeyLastUsageData
	TrackingStartDate Timestamp
	KeyCreationDate   Timestamp
}

// KeyLastUsageData is the last use of a key.
type KeyLastUsageData struct {
	Operation         string     `json:",omitempty"`
	Timestamp         *Timestamp `json:",omitempty"`
	CloudTrailEventId string     `json:",omitempty"`
	KmsRequestId      string     `json:",omitempty"`
}
