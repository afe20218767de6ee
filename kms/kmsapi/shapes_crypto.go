// SPDX-License-Identifier: Apache-2.0

package kmsapi

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
	DryRunModifiers     []string          `json:",omitempty" kms:"values=DryRunModifierType"`
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

// ReEncryptInput is the input of ReEncrypt.
type ReEncryptInput struct {
	CiphertextBlob                 []byte            `json:",omitempty" kms:"len=1..6144"`
	SourceEncryptionContext        map[string]string `json:",omitempty"`
	SourceKeyId                    *string           `json:",omitempty" kms:"len=1..2048"`
	DestinationKeyId               *string           `json:",omitempty" kms:"required,len=1..2048"`
	DestinationEncryptionContext   map[string]string `json:",omitempty"`
	SourceEncryptionAlgorithm      *string           `json:",omitempty" kms:"enum=EncryptionAlgorithmSpec"`
	DestinationEncryptionAlgorithm *string           `json:",omitempty" kms:"enum=EncryptionAlgorithmSpec"`
	GrantTokens                    []string          `json:",omitempty" kms:"len=0..10,items=1..8192"`
	DryRun                         *bool             `json:",omitempty"`
	DryRunModifiers                []string          `json:",omitempty" kms:"values=DryRunModifierType"`
}

// ReEncryptOutput is the output of ReEncrypt.
type ReEncryptOutput struct {
	CiphertextBlob                 []byte
	SourceKeyId                    string
	KeyId                          string
	SourceEncryptionAlgorithm      string
	DestinationEncryptionAlgorithm string
	SourceKeyMaterialId            string `json:",omitempty"`
	DestinationKeyMaterialId       string `json:",omitempty"`
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
