// SPDX-License-Identifier: Apache-2.0

package kmsapi

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

// GenerateDataKeyOutput is the output of GenerateDataKey. With a Recipient, CiphertextForRecipient
// takes the place of Plaintext and KeyMaterialId.
type GenerateDataKeyOutput struct {
	CiphertextBlob         []byte
	Plaintext              []byte `json:",omitempty"`
	KeyId                  string
	CiphertextForRecipient []byte `json:",omitempty"`
	KeyMaterialId          string `json:",omitempty"`
}

// GenerateDataKeyWithoutPlaintextInput is the input of GenerateDataKeyWithoutPlaintext.
type GenerateDataKeyWithoutPlaintextInput struct {
	KeyId             *string           `json:",omitempty" kms:"required,len=1..2048"`
	EncryptionContext map[string]string `json:",omitempty"`
	KeySpec           *string           `json:",omitempty" kms:"enum=DataKeySpec"`
	NumberOfBytes     *int32            `json:",omitempty" kms:"range=1..1024"`
	GrantTokens       []string          `json:",omitempty" kms:"len=0..10,items=1..8192"`
	DryRun            *bool             `json:",omitempty"`
}

// GenerateDataKeyWithoutPlaintextOutput is the output of GenerateDataKeyWithoutPlaintext.
type GenerateDataKeyWithoutPlaintextOutput struct {
	CiphertextBlob []byte
	KeyId          string
	KeyMaterialId  string `json:",omitempty"`
}

// GenerateDataKeyPairInput is the input of GenerateDataKeyPair.
type GenerateDataKeyPairInput struct {
	EncryptionContext map[string]string `json:",omitempty"`
	KeyId             *string           `json:",omitempty" kms:"required,len=1..2048"`
	KeyPairSpec       *string           `json:",omitempty" kms:"required,enum=DataKeyPairSpec"`
	GrantTokens       []string          `json:",omitempty" kms:"len=0..10,items=1..8192"`
	Recipient         *RecipientInfo    `json:",omitempty"`
	DryRun            *bool             `json:",omitempty"`
}

// GenerateDataKeyPairOutput is the output of GenerateDataKeyPair. With a Recipient,
// CiphertextForRecipient takes the place of PrivateKeyPlaintext.
type GenerateDataKeyPairOutput struct {
	PrivateKeyCiphertextBlob []byte
	PrivateKeyPlaintext      []byte `json:",omitempty"`
	PublicKey                []byte
	KeyId                    string
	KeyPairSpec              string
	CiphertextForRecipient   []byte `json:",omitempty"`
	KeyMaterialId            string `json:",omitempty"`
}

// GenerateDataKeyPairWithoutPlaintextInput is the input of GenerateDataKeyPairWithoutPlaintext.
type GenerateDataKeyPairWithoutPlaintextInput struct {
	EncryptionContext map[string]string `json:",omitempty"`
	KeyId             *string           `json:",omitempty" kms:"required,len=1..2048"`
	KeyPairSpec       *string           `json:",omitempty" kms:"required,enum=DataKeyPairSpec"`
	GrantTokens       []string          `json:",omitempty" kms:"len=0..10,items=1..8192"`
	DryRun            *bool             `json:",omitempty"`
}

// GenerateDataKeyPairWithoutPlaintextOutput is the output of GenerateDataKeyPairWithoutPlaintext.
type GenerateDataKeyPairWithoutPlaintextOutput struct {
	PrivateKeyCiphertextBlob []byte
	PublicKey                []byte
	KeyId                    string
	KeyPairSpec              string
	KeyMaterialId            string `json:",omitempty"`
}
