// SPDX-License-Identifier: Apache-2.0

package kmsapi

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// The shapes below are those of the service model of 2014-11-01. Members keep
// AWS's spelling; nil is an absent member. The tag states the constraints that
// [Validate] checks: required, len=MIN..MAX (characters of a string, bytes of a
// blob, entries of a list), range=MIN..MAX of a number, items=MIN..MAX (the
// length of each entry of a list), enum=NAME of the table in enums.go.

// A Timestamp is a time on the wire: a JSON number of seconds since 1970 with
// milliseconds.
type Timestamp time.Time

// MarshalJSON implements [encoding/json.Marshaler].
func (t Timestamp) MarshalJSON() ([]byte, error) {
	ms := time.Time(t).UnixMilli()
	if ms < 0 {
		return nil, fmt.Errorf("kmsapi: a time before 1970")
	}
	return fmt.Appendf(nil, "%d.%03d", ms/1000, ms%1000), nil
}

// UnmarshalJSON implements [encoding/json.Unmarshaler].
func (t *Timestamp) UnmarshalJSON(data []byte) error {
	seconds, err := strconv.ParseFloat(string(data), 64)
	if err != nil || seconds < 0 || seconds > math.MaxUint32*64 {
		return fmt.Errorf("kmsapi: %q is no time", data)
	}
	*t = Timestamp(time.UnixMilli(int64(math.Round(seconds * 1000))))
	return nil
}

// RecipientInfo is the proof of an enclave that the answer may be sealed to.
type RecipientInfo struct {
	KeyEncryptionAlgorithm *string `json:",omitempty" kms:"enum=KeyEncryptionMechanism"`
	AttestationDocument    []byte  `json:",omitempty" kms:"len=1..262144"`
}

// Tag is one tag of a key.
type Tag struct {
	TagKey   *string `json:",omitempty" kms:"required,len=1..128"`
	TagValue *string `json:",omitempty" kms:"required,len=0..256"`
}

// KeyMetadata describes a key.
type KeyMetadata struct {
	AWSAccountId          string
	KeyId                 string
	Arn                   string
	CreationDate          Timestamp
	Enabled               bool
	Description           string
	KeyUsage              string
	KeyState              string
	Origin                string
	KeyManager            string
	CustomerMasterKeySpec string
	KeySpec               string
	EncryptionAlgorithms  []string `json:",omitempty"`
	MultiRegion           bool
	CurrentKeyMaterialId  string `json:",omitempty"`
}

// CreateKeyInput is the input of CreateKey.
type CreateKeyInput struct {
	Policy                         *string `json:",omitempty" kms:"len=1..131072"`
	Description                    *string `json:",omitempty" kms:"len=0..8192"`
	KeyUsage                       *string `json:",omitempty" kms:"enum=KeyUsageType"`
	CustomerMasterKeySpec          *string `json:",omitempty" kms:"enum=CustomerMasterKeySpec"`
	KeySpec                        *string `json:",omitempty" kms:"enum=KeySpec"`
	Origin                         *string `json:",omitempty" kms:"enum=OriginType"`
	CustomKeyStoreId               *string `json:",omitempty" kms:"len=1..64"`
	BypassPolicyLockoutSafetyCheck *bool   `json:",omitempty"`
	Tags                           []Tag   `json:",omitempty"`
	MultiRegion                    *bool   `json:",omitempty"`
	XksKeyId                       *string `json:",omitempty" kms:"len=1..128"`
}

// CreateKeyOutput is the output of CreateKey.
type CreateKeyOutput struct{ KeyMetadata KeyMetadata }

// DescribeKeyInput is the input of DescribeKey.
type DescribeKeyInput struct {
	KeyId       *string  `json:",omitempty" kms:"required,len=1..2048"`
	GrantTokens []string `json:",omitempty" kms:"len=0..10,items=1..8192"`
}

// DescribeKeyOutput is the output of DescribeKey.
type DescribeKeyOutput struct{ KeyMetadata KeyMetadata }

// ListKeysInput is the input of ListKeys.
type ListKeysInput struct {
	Limit  *int32  `json:",omitempty" kms:"range=1..1000"`
	Marker *string `json:",omitempty" kms:"len=1..1024"`
}

// KeyListEntry is one key in the output of ListKeys.
type KeyListEntry struct{ KeyArn, KeyId string }

// ListKeysOutput is the output of ListKeys.
type ListKeysOutput struct {
	Keys       []KeyListEntry
	NextMarker string `json:",omitempty"`
	Truncated  bool
}

// GetKeyPolicyInput is the input of GetKeyPolicy.
type GetKeyPolicyInput struct {
	KeyId      *string `json:",omitempty" kms:"required,len=1..2048"`
	PolicyName *string `json:",omitempty" kms:"len=1..128"`
}

// GetKeyPolicyOutput is the output of GetKeyPolicy.
type GetKeyPolicyOutput struct{ Policy, PolicyName string }

// PutKeyPolicyInput is the input of PutKeyPolicy.
type PutKeyPolicyInput struct {
	KeyId                          *string `json:",omitempty" kms:"required,len=1..2048"`
	PolicyName                     *string `json:",omitempty" kms:"len=1..128"`
	Policy                         *string `json:",omitempty" kms:"required,len=1..131072"`
	BypassPolicyLockoutSafetyCheck *bool   `json:",omitempty"`
}

// PutKeyPolicyOutput is the output of PutKeyPolicy, which has no members: the
// body of the answer is empty.
type PutKeyPolicyOutput struct{}

// EncryptInput is the input of Encrypt.
type EncryptInput struct {
	KeyId               *string           `json:",omitempty" kms:"required,len=1..2048"`
	Plaintext           []byte            `json:",omitempty" kms:"required,len=1..4096"`
	EncryptionContext   map[string]string `json:",omitempty"`
	GrantTokens         []string          `json:",omitempty" kms:"len=0..10,items=1..8192"`
	EncryptionAlgorithm *string           `json:",omitempty" kms:"enum=EncryptionAlgorithmSpec"`
	DryRun              *bool             `json:",omitempty"`
}

// EncryptOutput is the output of Encrypt.
type EncryptOutput struct {
	CiphertextBlob      []byte
	KeyId               string
	EncryptionAlgorithm string
}

// DecryptInput is the input of Decrypt.
type DecryptInput struct {
	CiphertextBlob      []byte            `json:",omitempty" kms:"len=1..6144"`
	EncryptionContext   map[string]string `json:",omitempty"`
	GrantTokens         []string          `json:",omitempty" kms:"len=0..10,items=1..8192"`
	KeyId               *string           `json:",omitempty" kms:"len=1..2048"`
	EncryptionAlgorithm *string           `json:",omitempty" kms:"enum=EncryptionAlgorithmSpec"`
	Recipient           *RecipientInfo    `json:",omitempty"`
	DryRun              *bool             `json:",omitempty"`
	DryRunModifiers     []string          `json:",omitempty" kms:"len=1..1,values=DryRunModifierType"`
}

// DecryptOutput is the output of Decrypt. With a Recipient, CiphertextForRecipient
// takes the place of Plaintext and KeyMaterialId.
type DecryptOutput struct {
	KeyId                  string
	Plaintext              []byte `json:",omitempty"`
	EncryptionAlgorithm    string
	CiphertextForRecipient []byte `json:",omitempty"`
	KeyMaterialId          string `json:",omitempty"`
}

// GenerateDataKeyInput is the input of GenerateDataKey.
type GenerateDataKeyInput struct {
	KeyId             *string           `json:",omitempty" kms:"required,len=1..2048"`
	EncryptionContext map[string]string `json:",omitempty"`
	NumberOfBytes     *int32            `json:",omitempty" kms:"range=1..1024"`
	KeySpec           *string           `json:",omitempty" kms:"enum=DataKeySpec"`
	GrantTokens       []string          `json:",omitempty" kms:"len=0..10,items=1..8192"`
	Recipient         *RecipientInfo    `json:",omitempty"`
	DryRun            *bool             `json:",omitempty"`
}

// GenerateDataKeyOutput is the output of GenerateDataKey. With a Recipient,
// CiphertextForRecipient takes the place of Plaintext and KeyMaterialId.
type GenerateDataKeyOutput struct {
	CiphertextBlob         []byte
	Plaintext              []byte `json:",omitempty"`
	KeyId                  string
	CiphertextForRecipient []byte `json:",omitempty"`
	KeyMaterialId          string `json:",omitempty"`
}

// GenerateRandomInput is the input of GenerateRandom.
type GenerateRandomInput struct {
	NumberOfBytes    *int32         `json:",omitempty" kms:"range=1..1024"`
	CustomKeyStoreId *string        `json:",omitempty" kms:"len=1..64"`
	Recipient        *RecipientInfo `json:",omitempty"`
}

// GenerateRandomOutput is the output of GenerateRandom. With a Recipient,
// CiphertextForRecipient takes the place of Plaintext.
type GenerateRandomOutput struct {
	Plaintext              []byte `json:",omitempty"`
	CiphertextForRecipient []byte `json:",omitempty"`
}
